//! `cargo xtask regress`: a revision and the working tree built alike, and `lfmark regress` of both.
//!
//! ```text
//! target/regress/source/             the revision, as a work tree of git
//!               /build/              what Cargo makes of it
//!               /lfmark-<commit>     its program
//!               /lfmark-candidate    the working tree's
//! ```
//!
//! Both programs are copied out of the folder in which Cargo replaces them, so that a build during
//! the measurement does not change what is measured. The two trees have a folder for builds each:
//! Cargo takes packages of the same name and place within their workspaces for the same, and would
//! give the program of the one for that of the other.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{cargo, command, quiet, root, show, step, target_folder};
use crate::setup::setup;

/// Where set-up says how native MLX is linked; not under version control.
const NATIVE_CONFIG: &str = ".cargo/mlx.toml";

/// Compares the working tree with `revision`, and gives the exit code of `lfmark regress`.
///
/// # Errors
/// Set-up or a build failed, or there is no such revision.
pub(crate) fn regress(revision: &str, args: &[OsString]) -> Result<ExitCode> {
    setup(None, None)?;
    let target = target_folder()?;
    let folder = target.join("regress");
    let commit = commit(revision)?;
    let source = folder.join("source");
    let baseline = folder.join(format!("lfmark-{commit}"));
    let candidate = folder.join("lfmark-candidate");
    step(&format!("build {revision} ({commit})"), || {
        check_out(&commit, &source)?;
        build(&source, &folder.join("build"), &baseline)
    })?;
    step("build the working tree", || {
        build(&root(), &target, &candidate)
    })?;
    let mut measure = command(&candidate, ["regress", "--baseline"]);
    measure.arg(&baseline).args(args).current_dir(root());
    println!("{}", show(&measure));
    let status = measure
        .status()
        .with_context(|| format!("cannot start {}", candidate.display()))?;
    // Without a code it was ended by a signal.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The commit of a revision, abbreviated.
fn commit(revision: &str) -> Result<String> {
    let of = format!("{revision}^{{commit}}");
    let commit = quiet(&mut git(&["rev-parse", "--verify", "--short=12", &of]))
        .with_context(|| format!("{revision} is no revision here; name one with --against"))?;
    Ok(commit.trim().to_owned())
}

/// Checks a commit out, with the native MLX of this tree.
///
/// A folder that is there already is switched to it, which leaves alone what does not differ, so
/// that Cargo builds anew only what does.
fn check_out(commit: &str, folder: &Path) -> Result<()> {
    if folder.join(".git").exists() {
        let mut switch = git(&["checkout", "--force", "--detach", commit]);
        quiet(switch.current_dir(folder))?;
    } else {
        // Forgets one that went with the target folder.
        quiet(&mut git(&["worktree", "prune"]))?;
        quiet(
            git(&["worktree", "add", "--force", "--detach"])
                .arg(folder)
                .arg(commit),
        )?;
    }
    let config = root().join(NATIVE_CONFIG);
    fs::copy(&config, folder.join(NATIVE_CONFIG))
        .with_context(|| format!("cannot copy {} to {}", config.display(), folder.display()))?;
    Ok(())
}

/// Builds the program of a source tree, and copies it.
fn build(source: &Path, target: &Path, to: &Path) -> Result<()> {
    let mut build = cargo(&["build", "--release", "--package", "lfmark"]);
    build
        .args(["--message-format", "json-render-diagnostics"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(source);
    let messages = quiet(&mut build)?;
    let built = executable(&messages).context("cargo names no program that it built")?;
    // A program that runs cannot be written to, but it can be replaced.
    let partial = to.with_extension("partial");
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(&built, &partial)
        .and_then(|_| fs::rename(&partial, to))
        .with_context(|| format!("cannot copy {} to {}", built, to.display()))
}

/// The program among the messages of a build.
pub(crate) fn executable(messages: &str) -> Option<String> {
    let messages = messages.lines().rev();
    let mut messages = messages.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.find_map(|message| message["executable"].as_str().map(str::to_owned))
}

fn git(args: &[&str]) -> Command {
    let mut git = command("git", args);
    git.current_dir(root());
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_last_one_that_cargo_names() {
        let messages = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/t/release/lfmark"}
not JSON
{"reason":"build-finished","success":true}
"#;
        assert_eq!(executable(messages).as_deref(), Some("/t/release/lfmark"));
        assert_eq!(executable("{}"), None);
    }

    #[test]
    fn a_revision_that_is_not_there_is_named_with_the_way_out() {
        let error = format!("{:#}", commit("no-such-revision").unwrap_err());
        assert!(
            error.starts_with("no-such-revision is no revision here; name one with --against"),
            "{error}"
        );
    }

    #[test]
    fn the_planted_delay_fits_the_step() {
        quiet(&mut git(&[
            "apply",
            "--check",
            "benches/planted-delay.patch",
        ]))
        .unwrap();
    }
}
