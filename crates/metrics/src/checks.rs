//! What the text of a prompt has to be like, as a record has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the text of one prompt has to be like. What is not given is not checked.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default)]
pub struct Checks {
    /// Terms that have to occur, as [`crate::quality::occurrences`] reads them.
    pub must_mention: Vec<String>,
    /// Terms that must not.
    pub must_not_mention: Vec<String>,
    /// Largest [`crate::quality::repetition`].
    pub most_repetition: Option<f64>,
    /// Smallest number of words.
    pub fewest_words: Option<u32>,
    pub agreement: Option<Agreement>,
}

/// How far a text has to agree with a reference.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Agreement {
    pub score: Score,
    pub at_least: f64,
    pub reference: String,
}

/// A measure of agreement, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// [`crate::quality::rouge_l`].
    RougeL,
    /// [`crate::quality::token_f1`].
    TokenF1,
}

impl Score {
    pub fn name(self) -> &'static str {
        match self {
            Self::RougeL => "ROUGE-L",
            Self::TokenF1 => "token F1",
        }
    }
}
