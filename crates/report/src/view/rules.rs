//! The rule table: the words a report may judge with, and the thresholds behind them.

use metrics::rules::{Group, Rules, TERMS, Threshold, WORDS};
use metrics::store::Record;
use metrics::summary::{RulesSource, Summary};
use serde::Serialize;

use crate::markdown::{Align, table};
use crate::units;

/// The rules of what one run can be judged by.
#[derive(Debug, Serialize)]
pub(super) struct RulesView {
    /// Where the thresholds came from, as a sentence.
    source: String,
    words: String,
    terms: String,
    thresholds: String,
}

/// The groups of rules that judge a single run.
const WITHIN_A_RUN: [Group; 3] = [Group::Steadiness, Group::Leak, Group::Validity];

/// The table, with the thresholds that this report used.
pub(super) fn rules(record: &Record, summary: &Summary) -> RulesView {
    RulesView {
        source: source(record.start.rules.as_ref(), summary),
        words: words(&WITHIN_A_RUN),
        terms: terms(),
        thresholds: thresholds(&summary.rules, &WITHIN_A_RUN),
    }
}

fn source(recorded: Option<&Rules>, summary: &Summary) -> String {
    match (summary.rules_source, recorded) {
        (RulesSource::Recorded, _) => "The thresholds are those recorded with the run.".to_owned(),
        (RulesSource::Defaults, _) => {
            "The record has no thresholds; these are the defaults of the lfmark that wrote this \
             report."
                .to_owned()
        }
        (RulesSource::Given, None) => {
            "The record has no thresholds; these were given when this report was written."
                .to_owned()
        }
        (RulesSource::Given, Some(recorded)) => {
            let differing: Vec<String> = recorded
                .thresholds()
                .iter()
                .zip(summary.rules.thresholds())
                .filter(|(recorded, given)| recorded.value != given.value)
                .map(|(recorded, _)| {
                    format!(
                        "`{}` {}",
                        full_name(recorded),
                        units::setting(recorded.value)
                    )
                })
                .collect();
            match differing.as_slice() {
                [] => "The thresholds were given when this report was written, and are those \
                       recorded with the run."
                    .to_owned(),
                _ => format!(
                    "**The thresholds were given when this report was written, and are not those \
                     recorded with the run: {}.**",
                    differing.join(", ")
                ),
            }
        }
    }
}

/// Every word of these groups, with its rule.
pub(crate) fn words(groups: &[Group]) -> String {
    let rows: Vec<_> = WORDS
        .iter()
        .filter(|word| groups.contains(&word.group))
        .map(|word| {
            [
                word.group.name().to_owned(),
                word.word.to_owned(),
                word.rule.to_owned(),
            ]
        })
        .collect();
    table(
        [
            ("Group", Align::Left),
            ("Word", Align::Left),
            ("When", Align::Left),
        ],
        &rows,
    )
}

fn terms() -> String {
    let rows: Vec<_> = TERMS
        .iter()
        .map(|(term, meaning)| [(*term).to_owned(), (*meaning).to_owned()])
        .collect();
    table([("Term", Align::Left), ("Meaning", Align::Left)], &rows)
}

/// Every threshold of these groups, with the default where it has another value.
pub(crate) fn thresholds(rules: &Rules, groups: &[Group]) -> String {
    let rows: Vec<_> = rules
        .thresholds()
        .iter()
        .zip(Rules::default().thresholds())
        .filter(|(threshold, _)| groups.contains(&threshold.group))
        .map(|(threshold, default)| {
            let value = units::setting(threshold.value);
            [
                format!("`{}`", full_name(threshold)),
                match threshold.value == default.value {
                    true => value,
                    false => format!("{value} (default {})", units::setting(default.value)),
                },
                threshold.meaning.to_owned(),
            ]
        })
        .collect();
    table(
        [
            ("Threshold", Align::Left),
            ("Value", Align::Right),
            ("Meaning", Align::Left),
        ],
        &rows,
    )
}

fn full_name(threshold: &Threshold) -> String {
    format!("{}.{}", threshold.group.name(), threshold.name)
}
