//! Every exit code of the program.

use std::process::ExitCode;

/// Shown by `lfmark --help`. Codes 3 to 6 belong to comparisons, and are listed so that no other
/// meaning is ever given to them.
pub(crate) const TABLE: &str = "\
Exit codes:
  0  ok
  1  error, or a run that did not complete (its record and report are kept)
  2  usage: a flag, a setting or a combination of them cannot be used
  3  regressed
  4  inconclusive
  5  void
  6  not comparable";

/// Why the program did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A flag or setting cannot be used.
    Usage(String),
    /// Anything that went wrong on the way.
    Error(anyhow::Error),
    /// The run ended early, and has been reported; the sentence says why.
    Incomplete(String),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Prints a failure and gives its exit code.
#[expect(clippy::print_stderr, reason = "errors are for stderr")]
pub(crate) fn code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Error(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
        Err(Failure::Incomplete(reason)) => {
            eprintln!("error: {reason}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(problem)) => {
            eprintln!("error: {problem}\n\nFor more information, try '--help'.");
            ExitCode::from(2)
        }
    }
}
