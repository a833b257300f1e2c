//! What the processor counted of the process.

use std::iter;

use metrics::summary::{Counted, PerIteration, Summary};

use super::fields::field;
use crate::set::table_of;
use crate::units::{self, NOT_MEASURED};

type Count = (&'static str, &'static str, fn(&PerIteration) -> Option<f64>);

const COUNTS: [Count; 3] = [
    ("Instructions", "counters.instructions", |it| {
        it.instructions
    }),
    ("Cycles", "counters.cycles", |it| it.cycles),
    ("Energy of the process (J)", "counters.energy_nj", |it| {
        it.energy_joules
    }),
];

/// An iteration's counts, in training and in every window; a column where anything was counted.
pub(super) fn table(summary: &Summary, counted: &Counted) -> String {
    let windows = summary.windows.iter().zip(&counted.windows);
    let parts: Vec<(String, &Option<PerIteration>)> =
        iter::once(("Training".to_owned(), &counted.training))
            .chain(windows.map(|(window, counts)| (format!("Iterations {}", window.label), counts)))
            .collect();
    let has = |(.., of): &Count| {
        parts
            .iter()
            .any(|(_, it)| it.as_ref().and_then(of).is_some())
    };
    let counts: Vec<Count> = COUNTS.into_iter().filter(has).collect();
    let head = counts
        .iter()
        .map(|(name, path, _)| format!("{name} ({})", field(path)));
    let head: Vec<String> = iter::once("Part".to_owned()).chain(head).collect();
    let rows = parts.iter().map(|(part, it)| {
        let cells = counts.iter().map(|(.., of)| {
            let count = it.as_ref().and_then(of);
            count.map_or(NOT_MEASURED.to_owned(), |count| {
                units::significant(count, 5)
            })
        });
        iter::once(part.clone()).chain(cells).collect()
    });
    table_of(&head, &rows.collect::<Vec<_>>())
}
