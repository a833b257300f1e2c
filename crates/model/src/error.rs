//! What can go wrong while loading, training or generating.

use std::path::PathBuf;

/// An error of the model crate. Messages say what, where, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        // Not `source`: the message holds it already.
        error: std::io::Error,
    },
    #[error("{file}: {problem}")]
    Config { file: String, problem: String },
    #[error("{file}: {problem}")]
    Weights { file: String, problem: String },
    #[error("{file}: {problem}")]
    Tokenizer { file: String, problem: String },
    /// `line` counts from 1; `None` where the whole file is meant.
    #[error("{file}{}: {problem}", line.map_or(String::new(), |n| format!(":{n}")))]
    Data {
        file: String,
        line: Option<usize>,
        problem: String,
    },
    #[error("{id} on the hub: {problem}")]
    Hub { id: String, problem: String },
    #[error("{0}")]
    Lora(String),
    #[error("{0}")]
    Device(String),
    #[error("{0}")]
    Invalid(String),
    #[error("MLX: {0}")]
    Mlx(String),
}

impl Error {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io {
            action,
            path,
            error,
        }
    }

    pub(crate) fn config(file: &str, problem: impl Into<String>) -> Self {
        Self::Config {
            file: file.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn weights(file: &str, problem: impl Into<String>) -> Self {
        Self::Weights {
            file: file.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn tokenizer(file: &str, problem: impl Into<String>) -> Self {
        Self::Tokenizer {
            file: file.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn data(file: &str, line: Option<usize>, problem: impl Into<String>) -> Self {
        Self::Data {
            file: file.to_owned(),
            line,
            problem: problem.into(),
        }
    }
}

// The exception's location is a path of the machine that built MLX, so only its text is kept.
impl From<mlx_rs::error::Exception> for Error {
    fn from(exception: mlx_rs::error::Exception) -> Self {
        Self::Mlx(exception.what().to_owned())
    }
}
