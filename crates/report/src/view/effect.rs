//! What training changed: the loss of samples, and texts without the adapters.

use metrics::store::Record;
use metrics::summary::{LossChange, Summary};
use serde::Serialize;

use super::generation::{prompt_cell, quality_cell};
use super::{Shown, percent};
use crate::markdown::{self, Align, table};
use crate::units;

#[derive(Debug, Serialize)]
pub(super) struct EffectView {
    /// Absent where no sample has two finite losses.
    loss: Option<String>,
    /// The change of the loss, as a sentence of the conclusion.
    change: Option<String>,
    confidence: String,
    /// Checks by prompt, before and after.
    quality: String,
    texts: Vec<String>,
}

/// `None` where it was not read.
pub(super) fn effect(record: &Record, summary: &Summary) -> Option<EffectView> {
    let (raw, effect) = (record.effect.as_ref()?, summary.effect.as_ref()?);
    let confidence = percent(summary.rules.steadiness.confidence);
    let texts = raw.texts_before.iter();
    Some(EffectView {
        loss: effect.loss.as_ref().map(loss),
        change: effect.loss.as_ref().map(|it| change(it, &confidence)),
        quality: quality(record, summary),
        texts: texts.map(|it| markdown::code_block(&it.text)).collect(),
        confidence,
    })
}

fn loss(change: &LossChange) -> String {
    table(
        [
            ("Samples", Align::Right),
            ("Left out, not finite", Align::Right),
            ("Mean loss before", Align::Right),
            ("Mean loss after", Align::Right),
            ("Change", Align::Right),
        ],
        &[[
            units::count(change.samples.into()),
            units::count(change.left_out.into()),
            units::fixed(change.before, 4),
            units::fixed(change.after, 4),
            with_interval(change),
        ]],
    )
}

/// `-0.8120 [-0.9000, -0.7240]`; an interval of one sample is not measured.
fn with_interval(change: &LossChange) -> String {
    let interval = change
        .interval
        .shown(|(low, high)| format!("[{}, {}]", units::fixed(low, 4), units::fixed(high, 4)));
    format!("{} {interval}", units::fixed(change.change, 4))
}

fn change(change: &LossChange, confidence: &str) -> String {
    format!(
        "Loss of {} trained samples: {} before training, {} after; change {}, {confidence} interval.",
        units::count(change.samples.into()),
        units::fixed(change.before, 4),
        units::fixed(change.after, 4),
        with_interval(change)
    )
}

fn quality(record: &Record, summary: &Summary) -> String {
    let before = summary.effect.iter().flat_map(|it| &it.quality_before);
    let rows: Vec<_> = (1..)
        .zip(&record.start.config.generation.prompts)
        .zip(before)
        .map(|((number, prompt), before): ((usize, &String), _)| {
            let after = summary.generations.get(number - 1);
            [
                number.to_string(),
                prompt_cell(prompt),
                quality_cell(before),
                after.shown(|it| quality_cell(&it.quality)),
            ]
        })
        .collect();
    table(
        [
            ("No.", Align::Right),
            ("Prompt", Align::Left),
            ("Quality before", Align::Left),
            ("Quality after", Align::Left),
        ],
        &rows,
    )
}
