//! The README's two commands: make a report, and check everything.

use std::ffi::OsString;
use std::mem;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::process::{cargo, echoed, loud};
use crate::setup::setup;

/// Sets up, then runs `lfmark run` with its defaults and `args`.
///
/// # Errors
/// Set-up, the build or the run failed.
pub(crate) fn report(args: &[OsString]) -> Result<()> {
    setup(None, None)?;
    loud(cargo(&["run", "--release", "--package", "lfmark", "--", "run"]).args(args))
}

/// What must hold, as arguments of Cargo.
const CHECKS: [&str; 3] = [
    "fmt --all --check",
    "clippy --workspace --all-targets -- -D warnings",
    "test --workspace --no-fail-fast",
];

/// Sets up, then checks formatting, lints and every test, all to their end.
///
/// # Errors
/// Checks failed, with the commands to run again what failed.
pub(crate) fn test() -> Result<()> {
    setup(None, None)?;
    every(|check| {
        println!("cargo {check}");
        let start = Instant::now();
        let mut command = cargo(&check.split(' ').collect::<Vec<_>>());
        let failed = if check.starts_with("test ") {
            let mut failures = Failures::default();
            let ended = echoed(command, |line| failures.read(line))?;
            (!ended.success()).then_some(failures)
        } else {
            loud(&mut command).err().map(|_| Failures::default())
        };
        println!("cargo {check}: {:.1} s", start.elapsed().as_secs_f64());
        Ok(failed.map_or_else(Vec::new, |failures| failures.commands(check)))
    })
}

/// Runs every check, each of which gives the commands to run again what failed.
fn every(mut run: impl FnMut(&str) -> Result<Vec<String>>) -> Result<()> {
    let (mut checks, mut commands) = (Vec::new(), Vec::new());
    for check in CHECKS {
        let failed = run(check)?;
        if !failed.is_empty() {
            checks.push(check.split(' ').next().unwrap_or(check));
            commands.extend(failed);
        }
    }
    ensure!(
        checks.is_empty(),
        "failed: {}; to run again what failed:\n  {}",
        checks.join(", "),
        commands.join("\n  ")
    );
    Ok(())
}

/// What failed, by the output of `cargo test`.
#[derive(Default)]
struct Failures {
    /// Of the program that is running.
    tests: Vec<String>,
    /// How Cargo names a test program, and its tests that failed.
    programs: Vec<(String, Vec<String>)>,
}

impl Failures {
    fn read(&mut self, line: &str) {
        let between = |begin, end| line.strip_prefix(begin)?.strip_suffix(end);
        if let Some(test) = between("test ", " ... FAILED") {
            self.tests.push(test.to_owned());
        } else if let Some(program) = between("error: test failed, to rerun pass `", "`") {
            let tests = mem::take(&mut self.tests);
            self.programs.push((program.to_owned(), tests));
        }
    }

    /// A command for every program; the whole check where no program says that it failed.
    fn commands(self, check: &str) -> Vec<String> {
        if self.programs.is_empty() {
            return vec![format!("cargo {check}")];
        }
        let command = |(program, tests): (String, Vec<String>)| match tests.is_empty() {
            true => format!("cargo test {program}"),
            false => format!("cargo test {program} -- --exact {}", tests.join(" ")),
        };
        self.programs.into_iter().map(command).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Cargo and the test programs print it.
    const OUTPUT: &str = "     Running tests/cli/main.rs (target/debug/deps/cli-9ac1d0dc37ad5df8)

running 3 tests
test hub::quantized ... FAILED
test hub::fused ... ok
test sweep::every_point ... FAILED

failures:

---- hub::quantized stdout ----
test of the text of a test ... and then FAILED

test result: FAILED. 1 passed; 2 failed; 0 ignored

error: test failed, to rerun pass `-p lfmark --test cli`
     Running unittests src/lib.rs (target/debug/deps/metrics-1)
test stats::mean ... ok
     Running tests/oracle.rs (target/debug/deps/oracle-1)
error: test failed, to rerun pass `-p model --test oracle`

Caused by:
  process didn't exit successfully (signal: 11, SIGSEGV: invalid memory reference)
error: 2 targets failed:
    `-p lfmark --test cli`
    `-p model --test oracle`
";

    fn commands(output: &str) -> Vec<String> {
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.read(line));
        failures.commands(CHECKS[2])
    }

    #[test]
    fn failed_programs_and_tests_are_read_from_the_output() {
        assert_eq!(
            commands(OUTPUT),
            [
                "cargo test -p lfmark --test cli -- --exact hub::quantized sweep::every_point",
                "cargo test -p model --test oracle",
            ]
        );
        // What does not compile.
        assert_eq!(
            commands("error: could not compile `model`\n"),
            ["cargo test --workspace --no-fail-fast"]
        );
    }

    #[test]
    fn a_failed_check_does_not_end_the_others_and_all_are_named_last() {
        let mut seen = Vec::new();
        let error = every(|check| {
            seen.push(check.to_owned());
            Ok(match check.starts_with("clippy") {
                true => Vec::new(),
                false => vec![format!("again {check}")],
            })
        });
        assert_eq!(seen, CHECKS);
        assert_eq!(
            error.unwrap_err().to_string(),
            "failed: fmt, test; to run again what failed:\n  again fmt --all --check\n  \
             again test --workspace --no-fail-fast"
        );
        every(|_| Ok(Vec::new())).unwrap();
    }
}
