//! `lfmark gate`: a verdict on runs that were recorded, or on what criterion measured, with an exit
//! code that a script can act on.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use metrics::{
    clock::SystemClock,
    compare::Runs,
    comparison::{Design, MetricComparison, Verdict},
    gate::{self, Again, Benchmark, Judgement, Limits, NoiseSource, Reason},
    noise::Noise,
    record::Build,
    rules::Rules,
    store,
};
use model::load::EMBEDDED;
use report::{set as words, units};
use walkdir::WalkDir;

use super::{
    bless, noise,
    repeats::{self, Arm, SetPlan},
    run as single,
};
use crate::{
    args::{GateArgs, Output},
    exit::Failure,
    options::Options,
    output, records,
};

pub(crate) fn run(args: &GateArgs, output: Output, clock: SystemClock) -> Result<(), Failure> {
    let mut rules = Rules::default();
    if let Some(thresholds) = &args.rules {
        rules = thresholds.over(rules).map_err(Failure::Usage)?;
    }
    let by_criterion = !args.criterion.is_empty();
    let judgement = match by_criterion {
        true => {
            let (runs, notices) = criterion(&args.criterion)?;
            Judgement {
                notices,
                ..gate::judge_benchmarks(&runs, &rules.comparison)
            }
        }
        false => of_records(args, &rules, output, clock)?,
    };
    for judged in std::iter::once(&judgement).chain(judgement.fresh.as_deref()) {
        for notice in &judged.notices {
            output::message(output.quiet, &format!("note: {notice}"));
        }
        for warning in &judged.warnings {
            output::message(output.quiet, &format!("warning: {warning}"));
        }
    }
    output::print(&match output.json {
        true => serde_json::to_string(&judgement)?,
        false => output::shown(&to_text(&judgement)),
    })?;
    if let Some(fresh) = &judgement.fresh {
        let error_rate = rules.comparison.error_rate;
        let again = gate::again(&judgement.metrics, &fresh.metrics, error_rate);
        if let Verdict::Inconclusive { .. } = judgement.verdict {
            return Err(unconfirmed(
                &again,
                &judgement.reasons,
                &fresh.verdict,
                "measure more runs of each",
            ));
        }
        confirmed(&again, output);
    }
    let candidates = judgement.candidate_runs as u32;
    let more_runs = |more: u32| match by_criterion {
        true => format!(
            "--criterion with {} folders of as many runs of either, as one run of criterion is one \
             process",
            candidates.saturating_add(more)
        ),
        false if more == 1 => "one more run of each".to_owned(),
        false => format!("{more} more runs of each"),
    };
    decide(
        &judgement.verdict,
        &judgement.metrics,
        &judgement.reasons,
        &Advice {
            nothing_shared: match by_criterion {
                true => {
                    "no benchmark is in every folder; give --criterion with folders of the same \
                     benchmarks"
                }
                false => {
                    "nothing that is judged was measured by complete runs of both; see which were \
                     left out and measure those again, or judge metrics that every run has"
                }
            },
            more: &more_runs,
            void: "measure again, and leave out the disturbed runs",
            not_comparable: "judge runs of the same work on one machine",
        },
    )
}

/// Runs that a message names.
const MOST_NAMED: usize = 5;

/// Judges recorded runs, and where it is asked for and they regressed, fresh ones of the candidate.
fn of_records(
    args: &GateArgs,
    rules: &Rules,
    output: Output,
    clock: SystemClock,
) -> Result<Judgement, Failure> {
    let limits = args.limits.as_deref().map(limits).transpose()?;
    let limits = limits.unwrap_or_default();
    let baseline = records::read(&bless::current(&args.baseline)?)?;
    let candidates = bless::current(&args.candidate)?;
    let candidate = records::read(&candidates)?;
    let both = baseline.in_both(&candidate);
    if !both.is_empty() {
        let shown = both.iter().take(MOST_NAMED);
        let mut names: Vec<String> = shown
            .map(|(before, after)| format!("{after} is {before}"))
            .collect();
        if both.len() > MOST_NAMED {
            names.push("and so on".to_owned());
        }
        return Err(Failure::Usage(format!(
            "{} of the candidate's {} runs are the baseline's ({}); check both paths, and give \
             --candidate runs that were measured anew",
            both.len(),
            candidate.len(),
            names.join(", ")
        )));
    }
    let settings = match args.confirm {
        // Known before anything is judged that may need them.
        true => Some(settings(args, &candidates)?),
        false => None,
    };
    let floor = floor(args, &baseline, &limits, output)?.map(|noise| noise.floor());
    let judge = |runs: &Runs| gate::judge(&baseline, runs, &limits, floor.as_ref(), rules);
    let judgement = judge(&candidate);
    match settings {
        Some(settings) if judgement.verdict == Verdict::Regressed => {
            let repeats = judgement.candidate_runs as u32;
            let text =
                format!("regressed: {repeats} fresh runs of the candidate have to show it too");
            output::message(output.quiet, &text);
            let fresh = fresh(args, settings, &candidate, repeats, output, clock)?;
            Ok(judgement.confirmed_by(judge(&fresh), rules.comparison.error_rate))
        }
        _ => Ok(judgement),
    }
}

/// The noise floor that is given, or else that of this machine and work, where the limits leave any
/// metric without one.
fn floor(
    args: &GateArgs,
    baseline: &Runs,
    limits: &Limits,
    output: Output,
) -> Result<Option<Noise>, Failure> {
    let Some(key) = baseline.key() else {
        return Ok(None);
    };
    if let Some(file) = &args.noise {
        let noise = noise::read(file)?;
        noise
            .check(key)
            .map_err(|error| Failure::Usage(format!("--noise: {error}")))?;
        return Ok(Some(noise));
    }
    let mut own = limits.metrics.values().map(|limit| limit.noise.is_some());
    match !limits.metrics.is_empty() && own.all(|own| own) {
        true => Ok(None),
        false => Ok(noise::stored(key, output)),
    }
}

/// The settings with which the candidate's work can be run again: those that are given, or that lie
/// in the folder of its set.
fn settings(args: &GateArgs, candidates: &[String]) -> Result<Options, Failure> {
    let file = match &args.config {
        Some(file) => file.clone(),
        None => {
            let first = records::folders(candidates)?.into_iter().next();
            let first = first.context("there is no run of the candidate")?;
            let member = store::read(&first)?.start.member;
            let dir = if first.is_dir() {
                first.parent()
            } else {
                first.ancestors().nth(2)
            };
            let file = member
                .zip(dir)
                .map(|(it, dir)| repeats::settings_file(&it.arm, dir));
            file.filter(|file| file.is_file()).ok_or_else(|| {
                Failure::Usage(
                    "--confirm: the settings of the candidate are not beside its runs; give them \
                     with --config"
                        .to_owned(),
                )
            })?
        }
    };
    Options::default().with_file(Some(&file))
}

/// As many runs of the candidate's work by this program, which has to be the build that did it.
fn fresh(
    args: &GateArgs,
    settings: Options,
    candidate: &Runs,
    repeats: u32,
    output: Output,
    mut clock: SystemClock,
) -> Result<Runs, Failure> {
    let dir = match &args.output {
        Some(dir) => dir.clone(),
        None => {
            let model = settings.model.as_deref().unwrap_or(EMBEDDED);
            single::default_folder(model, "fresh", single::started_unix_ms(&mut clock))
        }
    };
    let plan = SetPlan {
        arms: vec![Arm::only(settings)?],
        repeats,
        cool_down_limit: Duration::from_secs(args.cool_down_limit.into()),
        cold: false,
        versus: None,
        dir: &dir,
        resume: false,
    };
    let ended = repeats::measure(plan, output, clock, &mut |first| {
        let Build {
            version,
            commit,
            dirty,
            ..
        } = first.start.lfmark.clone();
        match candidate.builds().contains(&(version, commit, dirty)) {
            true => Ok(()),
            false => Err(Failure::Usage(
                "--confirm: this is another build of lfmark than the one that the candidate was \
                 measured with; run `gate` with that one"
                    .to_owned(),
            )),
        }
    })?;
    ended.result()?;
    records::read(&[dir.to_string_lossy().into_owned()])
}

/// What is said where fresh runs do not show a regression too.
pub(crate) fn unconfirmed(
    again: &[Again<'_>],
    reasons: &[Reason],
    fresh: &Verdict,
    more: &str,
) -> Failure {
    let mut found: Vec<String> = again.iter().map(in_words).collect();
    found.extend(
        reasons
            .iter()
            .map(|reason| format!("{}, then not", reason.text)),
    );
    let why = match fresh {
        Verdict::Void { why } | Verdict::NotComparable { why } => {
            format!(" ({}: {why})", fresh.word())
        }
        _ => String::new(),
    };
    Failure::Inconclusive(format!(
        "inconclusive: regressed, and not in fresh runs too{why}: {}; {more}, on a machine that \
         does nothing else",
        found.join("; ")
    ))
}

/// Says which metrics fresh runs confirmed.
pub(crate) fn confirmed(again: &[Again<'_>], output: Output) {
    let confirming = again.iter().filter(|it| it.confirms);
    let found: Vec<String> = confirming.map(in_words).collect();
    if !found.is_empty() {
        let text = format!("confirmed by fresh runs: {}", found.join("; "));
        output::message(output.quiet, &text);
    }
}

/// A metric that regressed, and what fresh runs showed of it.
fn in_words(again: &Again<'_>) -> String {
    let first = figure(again.first);
    match again.fresh {
        None => format!("{first}, then not measured"),
        Some(fresh) => format!(
            "{first}, then {} (p {} for the worse; below {} confirms)",
            words::change(fresh.change),
            units::p_value(fresh.p_worse()),
            units::significant(again.limit, 2)
        ),
    }
}

/// What a message says that depends on what was judged.
pub(crate) struct Advice<'a> {
    pub(crate) nothing_shared: &'a str,
    /// So many more runs of each, and how to come by them.
    pub(crate) more: &'a dyn Fn(u32) -> String,
    pub(crate) void: &'a str,
    pub(crate) not_comparable: &'a str,
}

/// Success, or a failure with the exit code of the verdict: what was found, how certain it is, and
/// what to do. `reasons` are for the worse beside the metrics.
pub(crate) fn decide(
    verdict: &Verdict,
    metrics: &[MetricComparison],
    reasons: &[Reason],
    advice: &Advice,
) -> Result<(), Failure> {
    match verdict {
        Verdict::Improved | Verdict::Equivalent | Verdict::ChangedButSmall => Ok(()),
        Verdict::Regressed => {
            let mut found = list(metrics, |it| it.verdict == Verdict::Regressed);
            found.extend(reasons.iter().map(|reason| reason.text.clone()));
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
                Some(more) if metrics.iter().any(MetricComparison::has_single_run) => format!(
                    "to begin, a test needs {}: nothing is known of the spread yet",
                    (advice.more)(*more)
                ),
                Some(more) => format!(
                    "{} would decide, were estimates and spreads to stay as they are",
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
    metrics.iter().filter(|it| meant(it)).map(figure).collect()
}

fn figure(metric: &MetricComparison) -> String {
    format!("{} {}", words::named(&metric.name), change(metric))
}

fn change(metric: &MetricComparison) -> String {
    let change = words::change(metric.change);
    match metric.adjusted {
        None => change,
        Some(interval) => format!(
            "{change} ({} at {} % confidence)",
            words::interval(Some(interval)),
            units::significant(100.0 * interval.level, 3)
        ),
    }
}

fn to_text(judgement: &Judgement) -> String {
    let mut lines = vec![format!(
        "{} runs against {}, {}: {}",
        units::count(judgement.candidate_runs as u64),
        units::count(judgement.baseline_runs as u64),
        match judgement.design {
            Design::Independent => "unpaired",
            Design::Interleaved => "in pairs",
        },
        judgement.verdict.word()
    )];
    rows(judgement, &mut lines);
    if let Some(fresh) = &judgement.fresh {
        lines.push(format!("fresh runs: {}", fresh.verdict.word()));
        rows(fresh, &mut lines);
    }
    lines.join("\n")
}

fn rows(judgement: &Judgement, lines: &mut Vec<String>) {
    lines.extend(judgement.metrics.iter().map(|metric| {
        let detectable = metric.minimum_detectable;
        let noise = match judgement.noise.get(&metric.name) {
            Some(NoiseSource::Limits) => "noise of the limits",
            Some(NoiseSource::Floor) => "noise floor",
            Some(NoiseSource::None) | None => "no noise known",
        };
        format!(
            "  {:<24} {:>10}  {:>22}  threshold {:>8} ({noise})  minimum detectable {:>8}  {}",
            words::named(&metric.name),
            words::change(metric.change),
            words::interval(metric.adjusted),
            words::percent(metric.threshold),
            detectable.map_or("none".to_owned(), words::percent),
            metric.verdict.word()
        )
    }));
    let reasons = judgement.reasons.iter();
    lines.extend(reasons.map(|reason| format!("  {}", report::visible(&reason.text, false))));
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

/// How the two come to be.
const BEFORE_AND_AFTER: &str =
    "run `cargo bench` before the change and `cargo bench -- --baseline base` after it";

/// The files of both measurements of a benchmark, with what they hold.
type Files = [(PathBuf, String); 2];

/// The runs of criterion in these folders, and what has to be said of them. A folder that shares a
/// measurement with an earlier one is left out: the same folder by another way, or a copy.
fn criterion(dirs: &[PathBuf]) -> Result<(Vec<Vec<Benchmark>>, Vec<String>), Failure> {
    let mut runs = Vec::new();
    let mut notices = Vec::new();
    let mut measured: HashMap<String, PathBuf> = HashMap::new();
    for dir in dirs {
        let (benchmarks, files): (Vec<_>, Vec<_>) = benchmarks(dir)?.into_iter().unzip();
        let files: Vec<(PathBuf, String)> = files.into_iter().flatten().collect();
        let copy = files
            .iter()
            .find_map(|(file, text)| Some((file, measured.get(text)?)));
        if let Some((file, other)) = copy {
            notices.push(format!(
                "{} is left out: {} is the measurement in {}",
                dir.display(),
                file.display(),
                other.display()
            ));
            continue;
        }
        measured.extend(files.into_iter().map(|(file, text)| (text, file)));
        runs.push(benchmarks);
    }
    Ok((runs, notices))
}

/// The benchmarks below a folder that criterion wrote, in order.
fn benchmarks(dir: &Path) -> Result<Vec<(Benchmark, Files)>, Failure> {
    let mut found = Vec::new();
    for entry in WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        let folder = entry.path();
        let files = [BASE, NEW].map(|arm| folder.join(arm).join(ESTIMATES));
        if !entry.file_type().is_dir() || !files.iter().all(|file| file.is_file()) {
            continue;
        }
        let read = |file: &Path| -> Result<(f64, String), Failure> {
            let cannot = || format!("cannot read {}", file.display());
            let text = fs::read_to_string(file).with_context(cannot)?;
            let mean = gate::criterion_mean(&text).map_err(anyhow::Error::msg);
            Ok((mean.with_context(cannot)?, text))
        };
        let [(baseline, before), (candidate, after)] = [read(&files[0])?, read(&files[1])?];
        if before == after {
            return Err(Failure::Usage(format!(
                "{BASE} and {NEW} in {} are one measurement, as criterion leaves them when it also \
                 saves what it measured; {BEFORE_AND_AFTER}",
                folder.display()
            )));
        }
        let name = folder.strip_prefix(dir).unwrap_or(folder);
        let benchmark = Benchmark {
            name: name.to_string_lossy().into_owned(),
            baseline,
            candidate,
        };
        let [base, new] = files;
        found.push((benchmark, [(base, before), (new, after)]));
    }
    if found.is_empty() {
        return Err(Failure::Usage(format!(
            "no benchmark in {} has both {BASE} and {NEW}; {BEFORE_AND_AFTER}, and name the folder \
             that criterion writes (target/criterion)",
            dir.display()
        )));
    }
    Ok(found)
}
