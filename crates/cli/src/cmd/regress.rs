//! `lfmark regress`: two builds of lfmark at the same work, in turn, in fresh processes, and a
//! verdict on the later one that a script can act on.

use std::time::Duration;

use anyhow::Context;
use metrics::measure::SystemClock;
use model::load::EMBEDDED;

use super::{
    gate::{self, Advice},
    noise,
    repeats::{self, Arm, SetPlan},
    run as single,
};
use crate::{
    args::{Output, RegressArgs},
    exit::Failure,
    options::Options,
};

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
    let dir = match args.output {
        Some(dir) => dir,
        None => {
            let model = settings.model.as_deref().unwrap_or(EMBEDDED);
            single::default_folder(model, "regress", single::started_unix_ms(&mut clock))
        }
    };
    let plan = SetPlan {
        arms: vec![
            Arm::new("baseline", Some(args.baseline), settings.clone())?,
            Arm::new("candidate", args.candidate, settings)?,
        ],
        repeats: args.repeats,
        cool_down_limit: Duration::from_secs(args.cool_down_limit.into()),
        cold: false,
        unmeasured: Vec::new(),
        dir: &dir,
        resume: false,
    };
    let given = args.noise.as_deref().map(noise::read).transpose()?;
    let summary = repeats::run_set(plan, given, &args.presentation, output, clock)?;
    let compared = summary.as_ref().and_then(|it| it.comparisons.first());
    let compared = compared.context("neither program has left a record")?;
    if compared.different_programs {
        return Err(Failure::NotComparable(
            "these are different programs, and not two builds of lfmark; `lfmark versus` measures \
             such"
                .to_owned(),
        ));
    }
    let compared = &compared.comparison;
    let repeats = args.repeats;
    gate::decide(
        &compared.verdict,
        &compared.metrics,
        &[],
        &Advice {
            nothing_shared: "no metric was measured by complete runs of both programs",
            more: &|more| format!("--repeats {} would decide", repeats.saturating_add(more)),
            void: "let the machine come to rest, and run this again",
            not_comparable: "compare builds that do the same, or settings with `lfmark run \
                             --repeats --arm`",
        },
    )
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
