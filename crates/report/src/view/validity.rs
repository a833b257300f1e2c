//! Whether the machine was in one state, and its own.

use metrics::rules::{Group, rule_of};
use metrics::summary::Summary;
use metrics::validity::{Mark, Verdict};
use serde::Serialize;

use crate::markdown::escape;

#[derive(Debug, Serialize)]
pub(super) struct Validity {
    verdict: &'static str,
    rule: &'static str,
    /// What stands first in the report; absent for a run without a mark.
    first: Option<String>,
}

pub(super) fn validity(summary: &Summary) -> Validity {
    let word = summary.validity.word();
    let sentences: Vec<_> = summary.marks.iter().map(Mark::sentence).collect();
    let sentences = escape(&sentences.join("; "));
    Validity {
        verdict: word,
        rule: rule_of(Group::Validity, word).unwrap_or_default(),
        first: match summary.validity {
            Verdict::Unmarked => None,
            Verdict::SharedHardware => Some(format!(
                "This run is marked as {word}: {sentences}. It can be compared with runs of its \
                 set, and judged by `lfmark gate` with those of an equal machine."
            )),
            Verdict::Disturbed => Some(format!(
                "This run is marked as {word}: {sentences}. A comparison with it is void."
            )),
        },
    }
}
