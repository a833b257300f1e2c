//! Every exit code of the program.

use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use crate::output;

/// Shown by `lfmark --help`. Codes 3 to 6 belong to commands that pass judgement on a change:
/// `regress` and `gate`, and `versus` and `compare` of what is not the same work. `run --repeats` and `noise` end with 0 when
/// everything was measured, and a noise floor that cannot be used is a usage error.
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
    /// The judged change is for the worse, could not be decided, or was measured on a machine that
    /// was not in one state; the sentence says what was found, and what to do.
    Regressed(String),
    Inconclusive(String),
    Void(String),
    /// What was to be compared did different work; the sentence says where.
    NotComparable(String),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.downcast_ref() {
            // A choice that does not suit the model or the build is known only once these are.
            Some(model::Error::Lora(problem) | model::Error::Device(problem)) => {
                Self::Usage(problem.clone())
            }
            _ => Self::Error(error),
        }
    }
}

/// Prints a failure and gives its exit code.
pub(crate) fn code(result: Result<(), Failure>) -> ExitCode {
    let (code, text) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Error(error)) => (1, with_next_step(causes(&error))),
        Err(Failure::Incomplete(reason)) => (1, reason),
        Err(Failure::Regressed(finding)) => (3, finding),
        Err(Failure::Inconclusive(finding)) => (4, finding),
        Err(Failure::Void(reason)) => (5, reason),
        Err(Failure::NotComparable(reason)) => (6, reason),
        Err(Failure::Usage(problem)) => (
            2,
            format!(
                "{}\n\nFor more information, try '--help'.",
                with_next_step(problem)
            ),
        ),
    };
    // Where even stderr is gone, the code still tells.
    let _ = writeln!(io::stderr(), "error: {}", output::shown(&text));
    ExitCode::from(code)
}

/// An error with its causes, but for those that the one before them tells too.
fn causes(error: &anyhow::Error) -> String {
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.dedup_by(|cause, before| before.contains(cause.as_str()));
    causes.join(": ")
}

/// What to do, behind a message that ends in what the system said of a file.
fn with_next_step(text: String) -> String {
    let code = text
        .strip_suffix(')')
        .and_then(|it| it.rsplit_once("(os error "));
    let code = code.and_then(|(_, code)| code.parse().ok());
    let next = match code.map(|code| io::Error::from_raw_os_error(code).kind()) {
        _ if text.starts_with("cannot start") => None,
        Some(ErrorKind::NotFound) => Some("check that the path is right"),
        Some(ErrorKind::PermissionDenied) => Some("check who may read and write there"),
        Some(ErrorKind::ReadOnlyFilesystem) => Some("choose a place that can be written to"),
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Some("free some space"),
        Some(ErrorKind::AlreadyExists | ErrorKind::IsADirectory | ErrorKind::NotADirectory) => {
            Some("look at what is there, or choose another path")
        }
        _ => None,
    };
    match next {
        Some(next) => format!("{text}; {next}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_said_stands_once_with_what_to_do() {
        let cause = "No such file or directory (os error 2)";
        let error = io::Error::from_raw_os_error(2);
        let error = anyhow::Error::from(error).context(format!("operation on nope: {cause}"));
        let text = with_next_step(causes(&error.context("cannot read nope")));
        let expected =
            format!("cannot read nope: operation on nope: {cause}; check that the path is right");
        assert_eq!(text, expected);
        for text in [
            "cannot read a: no JSON",
            "cannot start git: gone (os error 2)",
        ] {
            assert_eq!(with_next_step(text.to_owned()), text);
        }
    }
}
