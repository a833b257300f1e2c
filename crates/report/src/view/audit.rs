//! The checks of an audit, and what came of them.

use metrics::audit::{Audit, Check, Outcome, Side};

use crate::markdown::{Align, escape, table};

/// How many checks and claims came out how, in one sentence.
pub(crate) fn counts(audit: &Audit) -> String {
    let of = |outcome: Outcome| format!("{} {}", audit.count(outcome), outcome.words());
    let total = audit.outcomes().count();
    let claims = match audit.claims.len() {
        0 => String::new(),
        1 => " and 1 claim".to_owned(),
        claims => format!(" and {claims} claims"),
    };
    let checks = total - audit.claims.len();
    let parts = Outcome::ALL.map(of).join(", ");
    format!("{checks} checks{claims}: {parts}.")
}

/// One row a check: formula, both sides, tolerance, outcome, and what it means.
pub(crate) fn checks(audit: &Audit) -> String {
    let side = |side: &Option<Side>| side.as_ref().map_or("-".to_owned(), |it| escape(&it.text));
    let row = |check: &Check| {
        [
            escape(&check.id),
            escape(check.formula),
            side(&check.left),
            side(&check.right),
            escape(&check.tolerance),
            outcome(check.outcome),
            escape(&check.sentence),
        ]
    };
    let rows: Vec<_> = audit.checks.iter().map(row).collect();
    table(
        [
            ("Check", Align::Left),
            ("Formula", Align::Left),
            ("Left side", Align::Right),
            ("Right side", Align::Right),
            ("Tolerance", Align::Left),
            ("Outcome", Align::Left),
            ("What it means", Align::Left),
        ],
        &rows,
    )
}

/// What does not simply pass stands out.
pub(crate) fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Pass => outcome.words().to_owned(),
        _ => format!("**{}**", outcome.words()),
    }
}

/// The audit of a record as a section without its heading.
pub(crate) fn audit_section(audit: &Audit) -> String {
    format!(
        "{}\n\n{}\n\nA side that is printed as a range stands for every value in it. A check that \
         cannot tell lacks what is named in its row.",
        counts(audit),
        checks(audit)
    )
}
