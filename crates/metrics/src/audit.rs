//! Whether figures can be true together.
//!
//! A [`Check`] states a formula, what its two sides come to, how far they may differ, and what
//! follows. The same checks serve a record, whose figures are computed again from its samples by
//! another route ([`record`]), and a document of claims, whose figures are all there is
//! ([`claims`]). METHODOLOGY.md lists them.
//!
//! What a document prints stands for every value that is printed so: 15.5 for 15.45 to 15.55.
//! A check fails only where no value of one side suits any of the other.

use schemars::JsonSchema;
use serde::Serialize;

pub use crate::audit::document::claims;
pub use crate::audit::measured::record;
use crate::claims::Subject;
use crate::interval::Interval;

mod checks;
mod document;
mod measured;

/// What came of all checks.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize)]
pub struct Audit {
    pub checks: Vec<Check>,
    /// The quoted claims of a document; none for a record.
    pub claims: Vec<JudgedClaim>,
}

impl Audit {
    /// How many checks and claims came out so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.outcomes()
            .filter(|(_, found)| *found == outcome)
            .count()
    }

    /// Id and outcome of every check, then of every claim.
    pub fn outcomes(&self) -> impl Iterator<Item = (&str, Outcome)> {
        let checks = self.checks.iter().map(|it| (it.id.as_str(), it.outcome));
        let claims = self.claims.iter().map(|it| (it.id.as_str(), it.outcome));
        checks.chain(claims)
    }
}

/// What follows from a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Both sides can be true.
    Pass,
    /// They cannot.
    Fail,
    /// Nothing that was measured stands behind it.
    Unsupported,
    /// What is known does not decide it.
    CannotTell,
}

impl Outcome {
    pub const ALL: [Self; 4] = [Self::Pass, Self::Fail, Self::Unsupported, Self::CannotTell];

    pub fn words(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unsupported => "unsupported",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Check {
    /// Its name, with what it was made of after a colon where it is made of several.
    pub id: String,
    /// The relation that has to hold, left side first.
    pub formula: &'static str,
    /// `None` where the figures for it are missing.
    pub left: Option<Side>,
    pub right: Option<Side>,
    /// How far the two may differ.
    pub tolerance: String,
    pub outcome: Outcome,
    /// What it means, in one sentence.
    pub sentence: String,
}

/// One side of a formula.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Side {
    /// The values it can have, in the plain unit.
    #[serde(flatten)]
    pub value: Interval,
    /// The same for people.
    pub text: String,
}

/// A quoted claim and what came of it.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct JudgedClaim {
    /// `claim:` and the id in the document.
    pub id: String,
    pub quote: String,
    pub subject: Subject,
    pub outcome: Outcome,
    pub sentence: String,
}
