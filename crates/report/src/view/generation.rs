//! Generation by prompt, what came of the checks, and the texts.

use metrics::quality::{Check, Outcome, Quality};
use metrics::record::Finish;
use metrics::store::Record;
use metrics::summary::{GenerationSummary, Summary};
use serde::Serialize;

use super::{Shown, percent, rate_text};
use crate::charts::{self, Bar, ChartError};
use crate::markdown::{self, Align, escape, table};
use crate::units::{self, ByteUnit};

/// Characters of a prompt that a table cell and a chart label show.
const PROMPT_CHARACTERS: usize = 56;
/// Characters of a term that a check looks for.
const TERM_CHARACTERS: usize = 60;
/// Prompts that the chart draws; the table has them all.
const CHART_PROMPTS: usize = 12;

#[derive(Debug, Serialize)]
pub(super) struct GenerationView {
    table: String,
    times: String,
    /// Every check with its result; absent where no text was judged.
    checks: Option<String>,
    texts: Vec<GeneratedText>,
    confidence: String,
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
    if generations.is_empty() {
        return None;
    }
    let texts = record.generations.iter();
    Some(GenerationView {
        table: rates(generations),
        times: times(generations),
        checks: checks(generations),
        texts: texts
            .map(|generation| GeneratedText {
                prompt: markdown::code_block(&generation.prompt),
                text: markdown::code_block(&generation.text),
            })
            .collect(),
        confidence: percent(summary.rules.steadiness.confidence),
        not_drawn: generations
            .len()
            .checked_sub(CHART_PROMPTS)
            .filter(|&rest| rest > 0),
    })
}

fn rates(generations: &[GenerationSummary]) -> String {
    let peaks = generations.iter().map(|generation| generation.peak_bytes);
    let unit = ByteUnit::for_largest(peaks.max().unwrap_or(0));
    let rows: Vec<_> = numbered(generations)
        .map(|(number, generation)| {
            [
                number,
                prompt_cell(&generation.prompt),
                generation.first_token_ns.shown(units::duration),
                rate_text(generation.prompt_tokens_per_second),
                generation
                    .tokens_per_second
                    .shown(|rate| units::with_interval(rate, rate_interval(generation))),
                unit.write(generation.peak_bytes),
                quality_cell(&generation.quality),
            ]
        })
        .collect();
    table(
        [
            ("No.", Align::Right),
            ("Prompt", Align::Left),
            ("Time to first token", Align::Right),
            ("Prompt tokens/s", Align::Right),
            ("Generation tokens/s", Align::Right),
            (&format!("Peak memory ({})", unit.name), Align::Right),
            ("Quality", Align::Left),
        ],
        &rows,
    )
}

/// The interval of the generation rate: the rate is one over the mean time of a token, so that
/// its bounds are one over those of that mean.
fn rate_interval(generation: &GenerationSummary) -> Option<(f64, f64)> {
    let (low, high) = generation.token_level?.mean.interval?;
    (low > 0.0).then(|| (1e9 / high, 1e9 / low))
}

fn times(generations: &[GenerationSummary]) -> String {
    let rows: Vec<_> = numbered(generations)
        .map(|(number, generation)| {
            let level = generation.token_level;
            let milliseconds = |ns: Option<f64>| ns.shown(units::milliseconds);
            [
                number,
                units::count(generation.prompt_tokens.into()),
                units::count(generation.generated_tokens.into()),
                milliseconds(level.map(|level| level.median.value)),
                milliseconds(level.map(|level| level.p95)),
                milliseconds(level.map(|level| level.p99)),
                level.shown(|level| units::significant(level.effective.floor(), 1)),
                match generation.finish {
                    Finish::Stop => "stop token",
                    Finish::Length => "token limit",
                    Finish::Interrupted => "interrupted",
                }
                .to_owned(),
            ]
        })
        .collect();
    table(
        [
            ("No.", Align::Right),
            ("Prompt tokens", Align::Right),
            ("Generated tokens", Align::Right),
            ("Token time, median (ms)", Align::Right),
            ("p95 (ms)", Align::Right),
            ("p99 (ms)", Align::Right),
            ("Worth", Align::Right),
            ("Finished by", Align::Left),
        ],
        &rows,
    )
}

fn checks(generations: &[GenerationSummary]) -> Option<String> {
    let rows: Vec<_> = numbered(generations)
        .filter_map(|(number, generation)| match &generation.quality {
            Quality::Judged(outcomes) => Some((number, outcomes)),
            Quality::NotJudged(_) => None,
        })
        .flat_map(|(number, outcomes)| {
            outcomes.iter().map(move |outcome| {
                let bound = match outcome.check.is_upper() {
                    true => "at most",
                    false => "at least",
                };
                [
                    number.clone(),
                    check(&outcome.check),
                    format!("{bound} {}", amount(outcome, outcome.limit)),
                    amount(outcome, outcome.measured),
                    match outcome.passed {
                        true => "passes".to_owned(),
                        false => "**fails**".to_owned(),
                    },
                ]
            })
        })
        .collect();
    (!rows.is_empty()).then(|| {
        table(
            [
                ("No.", Align::Right),
                ("Check", Align::Left),
                ("Has to be", Align::Right),
                ("Is", Align::Right),
                ("Result", Align::Left),
            ],
            &rows,
        )
    })
}

/// What passed, and what did not by name: `3 of 4; fails: must mention "data"`.
pub(super) fn quality_cell(quality: &Quality) -> String {
    let outcomes = match quality {
        Quality::NotJudged(why) => return format!("not judged: {}", why.words()),
        Quality::Judged(outcomes) => outcomes,
    };
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.passed)
        .map(|outcome| check(&outcome.check))
        .collect();
    let passed = outcomes.len() - failed.len();
    let count = format!("{passed} of {}", outcomes.len());
    match failed.is_empty() {
        true => count,
        false => format!("{count}; fails: {}", failed.join(", ")),
    }
}

fn check(check: &Check) -> String {
    let term = |term: &str| escape(&markdown::shorten(term, TERM_CHARACTERS));
    match check {
        Check::MustMention(words) => format!("must mention \"{}\"", term(words)),
        Check::MustNotMention(words) => format!("must not mention \"{}\"", term(words)),
        Check::MostRepetition => "repetition".to_owned(),
        Check::FewestWords => "number of words".to_owned(),
        Check::Agreement(score) => format!("{} against the reference", score.name()),
    }
}

fn amount(outcome: &Outcome, value: f64) -> String {
    match outcome.check {
        Check::MustMention(_) | Check::MustNotMention(_) | Check::FewestWords => {
            units::fixed(value, 0)
        }
        Check::MostRepetition => units::share(value, 1.0),
        Check::Agreement(_) => units::fixed(value, 3),
    }
}

fn numbered(
    generations: &[GenerationSummary],
) -> impl Iterator<Item = (String, &GenerationSummary)> {
    let numbers = (1..=generations.len()).map(|number| number.to_string());
    numbers.zip(generations)
}

pub(super) fn prompt_cell(prompt: &str) -> String {
    format!(
        "\"{}\"",
        escape(&markdown::shorten(prompt, PROMPT_CHARACTERS))
    )
}

/// The chart of the first prompts; `None` where nothing was generated.
pub(super) fn chart(summary: &Summary) -> Option<Result<String, ChartError>> {
    type Interval = fn(&GenerationSummary) -> Option<(f64, f64)>;
    let bars = |rate: fn(&GenerationSummary) -> Option<f64>, interval: Interval| -> Vec<Bar> {
        let numbered = summary.generations.iter().zip(1..).take(CHART_PROMPTS);
        numbered
            .map(|(generation, number)| {
                let prompt = markdown::visible(&generation.prompt, false);
                let prompt = markdown::shorten(&prompt, PROMPT_CHARACTERS);
                Bar {
                    label: format!("{number}. {prompt}"),
                    value: rate(generation).unwrap_or(0.0),
                    interval: interval(generation),
                    text: rate_text(rate(generation)),
                }
            })
            .collect()
    };
    let prompt_rates = bars(|generation| generation.prompt_tokens_per_second, |_| None);
    let rates = bars(|generation| generation.tokens_per_second, rate_interval);
    (!rates.is_empty()).then(|| charts::generation(&prompt_rates, &rates))
}
