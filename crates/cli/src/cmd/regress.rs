//! `lfmark regress`: two builds of lfmark at the same work, in turn, in fresh processes, and a
//! verdict on the later one that a script can act on. A regression is one only where a fresh set of
//! both shows it too.

use std::{path::Path, time::Duration};

use anyhow::Context;
use metrics::{
    clock::SystemClock,
    comparison::{Comparison, Verdict},
    gate as judge,
    sets::Summary,
};
use model::load::EMBEDDED;

use super::{
    gate::{self, Advice},
    noise,
    repeats::{self, Arm, Ending, Measured, SetPlan},
    run as single,
};
use crate::{
    args::{Output, RegressArgs},
    exit::Failure,
    options::Options,
    output,
};

/// Folder of the set that has to confirm a regression, within that of the first one.
const FRESH: &str = "fresh";

/// Iterations of a process. Fewer than of `run`, because the process is the unit of inference: the
/// same time gives more of them.
const ITERATIONS: u32 = 50;

/// Tokens for each prompt, for the same reason.
const MAX_TOKENS: u32 = 50;

pub(crate) fn run(
    args: RegressArgs,
    output: Output,
    mut clock: SystemClock,
) -> Result<(), Failure> {
    args.presentation.check_set()?;
    let settings = args
        .options
        .with_file(args.config.as_deref())?
        .or(defaults());
    let error_rate = settings.clone().resolve()?.rules.comparison.error_rate;
    let dir = match args.output {
        Some(dir) => dir,
        None => {
            let model = settings.model.as_deref().unwrap_or(EMBEDDED);
            single::default_folder(model, "regress", single::started_unix_ms(&mut clock))
        }
    };
    let given = args.noise.as_deref().map(noise::read).transpose()?;
    let measure_pairs = |dir: &Path, pairs: u32, resume: bool| -> Result<Measured, Failure> {
        let plan = SetPlan {
            arms: vec![
                Arm::new("baseline", Some(args.baseline.clone()), settings.clone())?,
                Arm::new("candidate", args.candidate.clone(), settings.clone())?,
            ],
            repeats: pairs,
            cool_down_limit: Duration::from_secs(args.cool_down_limit.into()),
            cold: false,
            versus: None,
            dir,
            resume,
        };
        let measured = repeats::run_set(plan, given.clone(), &args.presentation, output, clock)?;
        Ok(measured.context("neither program has left a record")?)
    };
    // As many pairs as were asked for that other guests of the hardware left alone, or twice as
    // many in all. How many more are measured depends on that alone, and not on what they show.
    let measure = |dir: &Path| -> Result<Measured, Failure> {
        let mut pairs = args.repeats;
        let mut measured = measure_pairs(dir, pairs, false)?;
        loop {
            let compared = measured.summary.comparisons.first();
            let stolen = compared.map_or(0, |it| it.stolen.len()) as u32;
            let wanted = args.repeats.saturating_add(stolen);
            let wanted = wanted.min(args.repeats.saturating_mul(2));
            if wanted <= pairs || !matches!(measured.ending, Ending::Complete) {
                return Ok(measured);
            }
            let more = wanted - pairs;
            let text = format!(
                "other guests of the hardware took CPU time from {stolen} of {pairs} pairs: \
                 measuring {more} more"
            );
            output::message(output.quiet, &text);
            pairs = wanted;
            measured = measure_pairs(dir, pairs, true)?;
        }
    };
    let first = measure(&dir)?;
    if !output.json {
        first.print(output)?;
    }
    let regressed = matches!(&first.ending, Ending::Complete)
        && comparison(&first.summary)?.verdict == Verdict::Regressed;
    let fresh = match regressed {
        true => {
            let processes = args.repeats;
            let text =
                format!("regressed: {processes} fresh processes of each have to show it too");
            output::message(output.quiet, &text);
            Some(measure(&dir.join(FRESH))?)
        }
        false => None,
    };
    match &fresh {
        Some(fresh) if output.json => {
            let mut both = first.json();
            both[FRESH] = fresh.json();
            output::print(&both.to_string())?;
        }
        Some(fresh) => fresh.print(output)?,
        None if output.json => first.print(output)?,
        None => {}
    }
    first.ending.result()?;
    let compared = comparison(&first.summary)?;
    let repeats = args.repeats;
    if let Some(fresh) = fresh {
        fresh.ending.result()?;
        let fresh = comparison(&fresh.summary)?;
        let again = judge::again(&compared.metrics, &fresh.metrics, error_rate);
        if !again.iter().any(|it| it.confirms) {
            let more = format!("give --repeats {}", repeats.saturating_mul(2));
            return Err(gate::unconfirmed(&again, &[], &fresh.verdict, &more));
        }
        gate::confirmed(&again, output);
    }
    gate::decide(
        &compared.verdict,
        &compared.metrics,
        &[],
        &Advice {
            nothing_shared: "no metric was measured by complete runs of both programs; see in their \
                             reports why, and run this again",
            more: &|more| format!("--repeats {}", repeats.saturating_add(more)),
            void: "let the machine come to rest, and run this again",
            not_comparable: "compare builds that do the same, or settings with `lfmark run \
                             --repeats --arm`",
        },
    )
}

/// The comparison of the two programs.
fn comparison(summary: &Summary) -> Result<&Comparison, Failure> {
    let compared = summary.comparisons.first();
    let compared = compared.context("neither program has left a record")?;
    match compared.different_programs {
        true => Err(Failure::NotComparable(
            "these are different programs, and not two builds of lfmark; `lfmark versus` measures \
             such"
                .to_owned(),
        )),
        false => Ok(&compared.comparison),
    }
}

/// In place of the defaults of `run`.
fn defaults() -> Options {
    Options {
        iterations: Some(ITERATIONS),
        max_tokens: Some(MAX_TOKENS),
        ignore_eos: Some(true),
        ..Options::default()
    }
}
