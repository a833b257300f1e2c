//! Gives the program the run path of native MLX, and the facts of its build that a record names.

use std::path::Path;
use std::process::Command;

#[path = "../model/build.rs"]
mod run_path;

fn main() {
    run_path::main();

    // Empty outside a checkout. Dirty is about tracked files only, whatever package they are in.
    let commit = git(&["rev-parse", "HEAD"]);
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]);
    let dirty = changes
        .filter(|_| commit.is_some())
        .map(|changes| (!changes.is_empty()).to_string());
    // HEAD's log changes with every commit, on whatever branch.
    let watched = ["HEAD", "logs/HEAD", "index"]
        .iter()
        .filter_map(|file| git(&["rev-parse", "--git-path", file]))
        .chain(["..", "../../Cargo.toml", "../../Cargo.lock"].map(String::from));
    for path in watched.filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    println!(
        "cargo::rustc-env=LFMARK_COMMIT={}",
        commit.unwrap_or_default()
    );
    println!(
        "cargo::rustc-env=LFMARK_DIRTY={}",
        dirty.unwrap_or_default()
    );

    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = output(Command::new(rustc).arg("-V"));
    println!(
        "cargo::rustc-env=LFMARK_RUSTC={}",
        version.unwrap_or_default()
    );
}

fn git(args: &[&str]) -> Option<String> {
    // Without the option, `status` may rewrite the index, which would be a change the next time.
    output(Command::new("git").arg("--no-optional-locks").args(args))
}

/// What a command printed, if it could be run and succeeded.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
