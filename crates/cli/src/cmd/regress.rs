//! `lfmark regress`: two builds of lfmark at the same work, in turn, in fresh processes, and a
//! verdict on the later one that a script can act on.

use std::time::Duration;

use anyhow::Context;
use metrics::{
    comparison::{MetricComparison, Verdict},
    measure::SystemClock,
    sets::ArmComparison,
};
use model::load::EMBEDDED;
use report::{set as words, units};

use super::{
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
    };
    let given = args.noise.as_deref().map(noise::read).transpose()?;
    let summary = repeats::run_set(plan, given, &args.presentation, output, clock)?;
    let compared = summary.as_ref().and_then(|it| it.comparisons.first());
    judge(
        compared.context("neither program has left a record")?,
        args.repeats,
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

/// Success, or a failure with the exit code of the verdict: what was found, how certain it is, and
/// what to do.
fn judge(compared: &ArmComparison, repeats: u32) -> Result<(), Failure> {
    let verdict = &compared.comparison.verdict;
    let metrics = &compared.comparison.metrics;
    match verdict {
        _ if compared.different_programs => Err(Failure::NotComparable(
            "these are different programs, and not two builds of lfmark; `lfmark versus` measures \
             such"
                .to_owned(),
        )),
        Verdict::Improved | Verdict::Equivalent | Verdict::ChangedButSmall => Ok(()),
        Verdict::Regressed => Err(Failure::Regressed(format!(
            "regressed: {}; find out what costs this and change it, or keep it and say why where it \
             is made",
            list(metrics, |it| it.verdict == Verdict::Regressed)
        ))),
        Verdict::Inconclusive { .. } if metrics.is_empty() => Err(Failure::Inconclusive(
            "inconclusive: no metric was measured by complete runs of both programs".to_owned(),
        )),
        Verdict::Inconclusive { more_runs } => Err(Failure::Inconclusive(format!(
            "inconclusive: {}; {}",
            list(metrics, |it| matches!(
                it.verdict,
                Verdict::Inconclusive { .. }
            )),
            match more_runs {
                Some(more) => format!(
                    "--repeats {} would decide, were estimates and spreads to stay as they are",
                    repeats.saturating_add(*more)
                ),
                None => "more than 1,000 further processes of each would be needed to decide; \
                         measure on a quieter machine"
                    .to_owned(),
            }
        ))),
        Verdict::Void { why } => Err(Failure::Void(format!(
            "void: {why}; let the machine come to rest, and run this again"
        ))),
        Verdict::NotComparable { why } => Err(Failure::NotComparable(format!(
            "not the same work: {why}; compare builds that do the same, or settings with `lfmark \
             run --repeats --arm`"
        ))),
    }
}

/// The metrics that are meant, with change and interval.
fn list(metrics: &[MetricComparison], meant: impl Fn(&MetricComparison) -> bool) -> String {
    let texts = metrics.iter().filter(|it| meant(it)).map(|it| {
        let name = words::named(&it.name);
        let change = words::change(it.change);
        match it.adjusted {
            None => format!("{name} {change}"),
            Some(interval) => format!(
                "{name} {change} ({} at {} % confidence)",
                words::interval(Some(interval)),
                units::significant(100.0 * interval.level, 3)
            ),
        }
    });
    texts.collect::<Vec<_>>().join(", ")
}
