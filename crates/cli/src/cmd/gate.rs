//! `lfmark gate`: a verdict on runs that were recorded, or on what criterion measured, with an exit
//! code that a script can act on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use metrics::{
    comparison::{MetricComparison, Verdict},
    gate::{self, Benchmark, Judgement, Limits},
    rules::Rules,
};
use report::{set as words, units};
use walkdir::WalkDir;

use super::{bless, noise};
use crate::{
    args::{GateArgs, Output},
    exit::Failure,
    output, records,
};

pub(crate) fn run(args: &GateArgs, output: Output) -> Result<(), Failure> {
    let mut rules = Rules::default();
    if let Some(thresholds) = &args.rules {
        rules = thresholds.over(rules).map_err(Failure::Usage)?;
    }
    let by_criterion = !args.criterion.is_empty();
    let judgement = match by_criterion {
        true => {
            let runs: Result<Vec<_>, Failure> =
                args.criterion.iter().map(|dir| benchmarks(dir)).collect();
            gate::judge_benchmarks(&runs?, &rules.comparison)
        }
        false => {
            let limits = args.limits.as_deref().map(limits).transpose()?;
            let noise = args.noise.as_deref().map(noise::read).transpose()?;
            let baseline = records::read(&bless::current(&args.baseline)?)?;
            let candidate = records::read(&bless::current(&args.candidate)?)?;
            gate::judge(
                &baseline,
                &candidate,
                &limits.unwrap_or_default(),
                noise.map(|noise| noise.floor()).as_ref(),
                &rules.comparison,
            )
        }
    };
    for notice in &judgement.notices {
        output::message(output.quiet, &format!("note: {notice}"));
    }
    for warning in &judgement.warnings {
        output::message(output.quiet, &format!("warning: {warning}"));
    }
    output::print(&match output.json {
        true => serde_json::to_string(&judgement)?,
        false => to_text(&judgement),
    })?;
    let candidates = judgement.candidate_runs as u32;
    let more_runs = |more: u32| match by_criterion {
        true => format!(
            "one run of criterion is one process, so give --criterion with {} folders of as many \
             runs of either, which would decide",
            candidates.saturating_add(more)
        ),
        false => format!("{more} more runs of each would decide"),
    };
    decide(
        &judgement.verdict,
        &judgement.metrics,
        &judgement.reasons,
        &Advice {
            nothing_shared: "nothing that is judged was measured by complete runs of both",
            more: &more_runs,
            void: "let the machine come to rest, and measure anew",
            not_comparable: "judge runs of the same work on one machine",
        },
    )
}

/// What a message says that depends on what was judged.
pub(crate) struct Advice<'a> {
    pub(crate) nothing_shared: &'a str,
    /// How to come by this many more runs of each.
    pub(crate) more: &'a dyn Fn(u32) -> String,
    pub(crate) void: &'a str,
    pub(crate) not_comparable: &'a str,
}

/// Success, or a failure with the exit code of the verdict: what was found, how certain it is, and
/// what to do. `reasons` are for the worse beside the metrics.
pub(crate) fn decide(
    verdict: &Verdict,
    metrics: &[MetricComparison],
    reasons: &[String],
    advice: &Advice,
) -> Result<(), Failure> {
    match verdict {
        Verdict::Improved | Verdict::Equivalent | Verdict::ChangedButSmall => Ok(()),
        Verdict::Regressed => {
            let mut found = list(metrics, |it| it.verdict == Verdict::Regressed);
            found.extend(reasons.iter().cloned());
            Err(Failure::Regressed(format!(
                "regressed: {}; find out what costs this and change it, or keep it and say why \
                 where it is made",
                found.join(", ")
            )))
        }
        Verdict::Inconclusive { .. } if metrics.is_empty() => Err(Failure::Inconclusive(format!(
            "inconclusive: {}",
            advice.nothing_shared
        ))),
        Verdict::Inconclusive { more_runs } => Err(Failure::Inconclusive(format!(
            "inconclusive: {}; {}",
            list(metrics, |it| matches!(
                it.verdict,
                Verdict::Inconclusive { .. }
            ))
            .join(", "),
            match more_runs {
                Some(more) => format!(
                    "{}, were estimates and spreads to stay as they are",
                    (advice.more)(*more)
                ),
                None => "more than 1,000 further processes of each would be needed to decide; \
                         measure on a quieter machine"
                    .to_owned(),
            }
        ))),
        Verdict::Void { why } => Err(Failure::Void(format!("void: {why}; {}", advice.void))),
        Verdict::NotComparable { why } => Err(Failure::NotComparable(format!(
            "not the same work: {why}; {}",
            advice.not_comparable
        ))),
    }
}

/// The metrics that are meant, with change and interval.
fn list(metrics: &[MetricComparison], meant: impl Fn(&MetricComparison) -> bool) -> Vec<String> {
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
    texts.collect()
}

fn to_text(judgement: &Judgement) -> String {
    let head = format!(
        "{} runs against {}: {}",
        units::count(judgement.candidate_runs as u64),
        units::count(judgement.baseline_runs as u64),
        judgement.verdict.word()
    );
    let metrics = judgement.metrics.iter().map(|metric| {
        let detectable = metric.minimum_detectable;
        format!(
            "  {:<24} {:>10}  {:>22}  threshold {:>8}  minimum detectable {:>8}  {}",
            words::named(&metric.name),
            words::change(metric.change),
            words::interval(metric.adjusted),
            words::percent(metric.threshold),
            detectable.map_or("none".to_owned(), words::percent),
            metric.verdict.word()
        )
    });
    let reasons = judgement
        .reasons
        .iter()
        .map(|it| format!("  {}", report::visible(it, false)));
    let lines = std::iter::once(head).chain(metrics).chain(reasons);
    lines.collect::<Vec<_>>().join("\n")
}

fn limits(path: &Path) -> Result<Limits, Failure> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let usage =
        |problem: String| Failure::Usage(format!("{}: {}", path.display(), problem.trim_end()));
    let limits: Limits = toml::from_str(&text).map_err(|error| usage(error.to_string()))?;
    limits.check().map_err(|error| usage(error.to_string()))?;
    Ok(limits)
}

/// Criterion's folders of one benchmark, with the measurement before and the one after.
const BASE: &str = "base";
const NEW: &str = "new";
const ESTIMATES: &str = "estimates.json";

/// The benchmarks below a folder that criterion wrote, in order.
fn benchmarks(dir: &Path) -> Result<Vec<Benchmark>, Failure> {
    let mut found = Vec::new();
    for entry in WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        let folder = entry.path();
        let files = [BASE, NEW].map(|arm| folder.join(arm).join(ESTIMATES));
        if !entry.file_type().is_dir() || !files.iter().all(|file| file.is_file()) {
            continue;
        }
        let mean = |file: &PathBuf| -> Result<f64, Failure> {
            let cannot = || format!("cannot read {}", file.display());
            let text = fs::read_to_string(file).with_context(cannot)?;
            let mean = gate::criterion_mean(&text).map_err(anyhow::Error::msg);
            Ok(mean.with_context(cannot)?)
        };
        let name = folder.strip_prefix(dir).unwrap_or(folder);
        found.push(Benchmark {
            name: name.to_string_lossy().into_owned(),
            baseline: mean(&files[0])?,
            candidate: mean(&files[1])?,
        });
    }
    if found.is_empty() {
        return Err(Failure::Usage(format!(
            "no benchmark in {} has both {BASE} and {NEW}; name the folder that criterion writes \
             (target/criterion) after it ran twice",
            dir.display()
        )));
    }
    Ok(found)
}
