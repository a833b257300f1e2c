//! What was measured, in sentences that hold figures and verdicts and nothing else.

use metrics::audit::{Audit, Outcome};
use metrics::quality::Quality;
use metrics::roofline::{Resource, Roofline, Share, Use, Work};
use metrics::summary::{GenerationSummary, Summary};
use serde::Serialize;

use super::Shown;
use crate::units;

#[derive(Debug, Serialize)]
pub(super) struct Conclusion {
    /// Rates over all prompts; absent where nothing was generated.
    generation: Option<Generation>,
    /// Shares of what the device is specified for; one sentence each.
    uses: Vec<String>,
    checks: usize,
    passed: usize,
    failed: usize,
    undecided: usize,
}

#[derive(Debug, Serialize)]
struct Generation {
    rate: String,
    first_token: String,
    /// Checks of quality that passed, of how many; absent where no text was judged.
    quality: Option<(usize, usize)>,
}

pub(super) fn conclusion(summary: &Summary, roofline: &Roofline, audit: &Audit) -> Conclusion {
    let uses = [
        (
            "Training",
            Resource::Arithmetic,
            is_training as fn(&Use) -> bool,
        ),
        ("Generation", Resource::Bandwidth, is_decode),
    ];
    Conclusion {
        generation: generation(&summary.generations),
        uses: uses
            .into_iter()
            .filter_map(|(work, resource, is)| used(roofline, work, resource, is))
            .collect(),
        checks: audit.checks.len(),
        passed: audit.count(Outcome::Pass),
        failed: audit.count(Outcome::Fail),
        undecided: audit.count(Outcome::CannotTell) + audit.count(Outcome::Unsupported),
    }
}

fn is_training(used: &Use) -> bool {
    used.work == Work::Training
}

fn is_decode(used: &Use) -> bool {
    matches!(used.work, Work::Decode(_))
}

fn generation(generations: &[GenerationSummary]) -> Option<Generation> {
    if generations.is_empty() {
        return None;
    }
    let results: Vec<bool> = generations
        .iter()
        .filter_map(|generation| match &generation.quality {
            Quality::Judged(outcomes) => Some(outcomes),
            Quality::NotJudged(_) => None,
        })
        .flatten()
        .map(|outcome| outcome.passed)
        .collect();
    let passed = results.iter().filter(|passed| **passed).count();
    let rates = generations.iter().filter_map(|it| it.tokens_per_second);
    let firsts = generations.iter().filter_map(|it| it.first_token_ns);
    Some(Generation {
        rate: range(rates, |rate| units::significant(rate, 4)),
        first_token: range(firsts.map(|ns| ns as f64), |ns| units::duration(ns as u64)),
        quality: (!results.is_empty()).then_some((passed, results.len())),
    })
}

/// The smallest and the largest of some values.
fn range(values: impl Iterator<Item = f64> + Clone, write: impl Fn(f64) -> String) -> String {
    let smallest = values.clone().reduce(f64::min);
    let largest = values.reduce(f64::max);
    smallest.zip(largest).shown(|(smallest, largest)| {
        let (smallest, largest) = (write(smallest), write(largest));
        match smallest == largest {
            true => smallest,
            false => format!("{smallest} to {largest}"),
        }
    })
}

fn used(
    roofline: &Roofline,
    work: &str,
    resource: Resource,
    is: impl Fn(&Use) -> bool,
) -> Option<String> {
    let shares = roofline
        .uses
        .iter()
        .filter(|used| used.resource == resource && is(used))
        .filter_map(|used| match used.specified?.share {
            Share::Of(share) => Some(share),
            // The roofline says which row is suspect.
            Share::Impossible(_) => None,
        });
    let count = shares.clone().count();
    let largest = shares.reduce(f64::max)?;
    // Of several prompts, the most that one of them used.
    let up_to = if count > 1 { "up to " } else { "" };
    let name = match resource {
        Resource::Bandwidth => "memory bandwidth",
        Resource::Arithmetic => "arithmetic",
    };
    Some(format!(
        "{work} used {up_to}{} of the specified {name}.",
        units::share(largest, 1.0)
    ))
}
