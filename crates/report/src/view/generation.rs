//! Generation by prompt, and the texts.

use metrics::record::Finish;
use metrics::store::Record;
use metrics::summary::{GenerationSummary, Summary};
use serde::Serialize;

use super::{Shown, rate_text};
use crate::charts::{self, Bar, ChartError};
use crate::markdown::{self, Align, escape, table};
use crate::units::{self, ByteUnit};

/// Characters of a prompt that a table cell and a chart label show.
const PROMPT_CHARACTERS: usize = 56;
/// Prompts that the chart draws; the table has them all.
const CHART_PROMPTS: usize = 12;

#[derive(Debug, Serialize)]
pub(super) struct GenerationView {
    table: String,
    texts: Vec<GeneratedText>,
    /// Prompts the chart has no room for, where there are any.
    not_drawn: Option<usize>,
}

#[derive(Debug, Serialize)]
struct GeneratedText {
    prompt: String,
    text: String,
}

/// `None` where nothing was generated.
pub(super) fn generation(record: &Record, summary: &Summary) -> Option<GenerationView> {
    let generations = &summary.generations;
    let largest = generations
        .iter()
        .map(|generation| generation.peak_bytes)
        .max()?;
    let unit = ByteUnit::for_largest(largest);
    let rows: Vec<_> = generations
        .iter()
        .enumerate()
        .map(|(index, generation)| {
            [
                (index + 1).to_string(),
                prompt_cell(&generation.prompt),
                units::count(generation.prompt_tokens.into()),
                generation.first_token_ns.shown(units::duration),
                rate_text(generation.prompt_tokens_per_second),
                units::count(generation.generated_tokens.into()),
                rate_text(generation.tokens_per_second),
                unit.write(generation.peak_bytes),
                match generation.finish {
                    Finish::Stop => "stop token",
                    Finish::Length => "token limit",
                    Finish::Interrupted => "interrupted",
                }
                .to_owned(),
            ]
        })
        .collect();
    let peak_head = format!("Peak memory ({})", unit.name);
    Some(GenerationView {
        table: table(
            [
                ("No.", Align::Right),
                ("Prompt", Align::Left),
                ("Prompt tokens", Align::Right),
                ("Time to first token", Align::Right),
                ("Prompt tokens/s", Align::Right),
                ("Generated tokens", Align::Right),
                ("Generation tokens/s", Align::Right),
                (&peak_head, Align::Right),
                ("Finished by", Align::Left),
            ],
            &rows,
        ),
        texts: record
            .generations
            .iter()
            .map(|generation| GeneratedText {
                prompt: markdown::code_block(&generation.prompt),
                text: markdown::code_block(&generation.text),
            })
            .collect(),
        not_drawn: generations
            .len()
            .checked_sub(CHART_PROMPTS)
            .filter(|&rest| rest > 0),
    })
}

fn prompt_cell(prompt: &str) -> String {
    format!(
        "\"{}\"",
        escape(&markdown::shorten(prompt, PROMPT_CHARACTERS))
    )
}

/// The chart of the first prompts; `None` where nothing was generated.
pub(super) fn chart(summary: &Summary) -> Option<Result<String, ChartError>> {
    let bars = |rate: fn(&GenerationSummary) -> Option<f64>| -> Vec<Bar> {
        let numbered = summary.generations.iter().zip(1..).take(CHART_PROMPTS);
        numbered
            .map(|(generation, number)| {
                let prompt = markdown::visible(&generation.prompt, false);
                let prompt = markdown::shorten(&prompt, PROMPT_CHARACTERS);
                Bar {
                    label: format!("{number}. {prompt}"),
                    value: rate(generation).unwrap_or(0.0),
                    text: rate_text(rate(generation)),
                }
            })
            .collect()
    };
    let prompt_rates = bars(|generation| generation.prompt_tokens_per_second);
    let rates = bars(|generation| generation.tokens_per_second);
    (!rates.is_empty()).then(|| charts::generation(&prompt_rates, &rates))
}
