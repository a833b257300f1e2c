//! The README's two commands: make a report, and check everything.

use std::ffi::OsString;
use std::time::Instant;

use anyhow::Result;

use crate::process::{cargo, loud};
use crate::setup::setup;

/// Sets up, then runs `lfmark run` with its defaults and `args`.
///
/// # Errors
/// Set-up, the build or the run failed.
pub(crate) fn report(args: &[OsString]) -> Result<()> {
    setup(None, None)?;
    loud(cargo(&["run", "--release", "--package", "lfmark", "--", "run"]).args(args))
}

/// Sets up, then checks formatting, lints and every test, stopping at the first failure.
///
/// # Errors
/// A check failed, with the command to run it again.
pub(crate) fn test() -> Result<()> {
    setup(None, None)?;
    for check in [
        "fmt --all --check",
        "clippy --workspace --all-targets -- -D warnings",
        "test --workspace",
    ] {
        println!("cargo {check}");
        let start = Instant::now();
        loud(&mut cargo(&check.split(' ').collect::<Vec<_>>()))?;
        println!("cargo {check}: {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}
