//! The report of runs that were started together: one arm, or several compared.

mod performance;

use std::iter;

use metrics::comparison::{Design, Interval, Method, MetricComparison, Verdict};
use metrics::figures::MetricKind;
use metrics::noise::{ARM_SIZES, Noise};
use metrics::record::Start;
use metrics::rules::{ComparisonRules, Group};
use metrics::sets::{
    self, Arm, ArmComparison, LeftOut, Process, ProcessSummary, SameWork, Set, Summary,
};
use metrics::summary::RunStatus;
use serde::Serialize;

use crate::charts::{self, ChartError, Line, Strip};
use crate::markdown::{Align, escape, shorten, table};
use crate::units::{self, NOT_MEASURED};
use crate::{File, REPORT, Rendered, ReportError, view};

pub use performance::{figure, ratio, ratio_interval};

const TEMPLATE: &str = include_str!("../templates/set.md.tera");

const CHANGES: &str = "changes.svg";
const PROCESSES: &str = "processes.svg";

/// What a cell says where a figure cannot be computed from so few runs.
const NONE: &str = "none";

/// A change beyond this is only said to be beyond it.
const LARGEST_CHANGE: f64 = 10.0;

/// Every name that a file of a set's report can have.
pub fn set_file_names() -> impl Iterator<Item = &'static str> {
    [REPORT, CHANGES, PROCESSES].into_iter()
}

/// Renders a set of runs as Markdown and charts, with the noise floor that lies beside them.
///
/// # Errors
///
/// See [`ReportError`].
pub fn render_set(set: &Set, noise: Option<&Noise>) -> Result<Rendered, ReportError> {
    let summary = sets::summarize(set, noise);
    let rules = set.rules;
    let drawn = [
        (CHANGES, changes_chart(&summary, &rules.comparison)),
        (PROCESSES, processes_chart(&summary)),
    ];
    let mut charts = Vec::new();
    for (name, svg) in drawn {
        let Some(svg) = svg else { continue };
        charts.push(File::chart(name, svg)?);
    }
    let has = |name: &str| charts.iter().any(|chart| chart.name == name);
    let all: Vec<&Process> = set.processes.iter().collect();
    let view = View {
        title: title(set, &summary),
        subject: Subject::of(&all),
        comparisons: summary
            .comparisons
            .iter()
            .map(|compared| comparison(compared, &rules.comparison))
            .collect(),
        side_by_side: performance::side_by_side(set, &summary),
        ratios: performance::ratios(&summary),
        unmeasured: summary
            .versus
            .unmeasured
            .iter()
            .map(|arm| format!("{} ({})", escape(&arm.arm), escape(&arm.why)))
            .collect(),
        same_work: summary.versus.same_work.as_ref().map(same_work),
        empty_caches: empty_caches(&all),
        baseline: summary.arms.first().map(|arm| escape(&arm.name)),
        settings: settings(&summary),
        arms: summary.arms.iter().map(arm).collect(),
        floor: noise.map(|noise| floor(noise, &summary)),
        processes: processes(&summary.processes),
        pairs_to_decide: rules.comparison.pairs_to_decide,
        practical: percent(rules.comparison.practical),
        error_rate: percent(rules.comparison.error_rate),
        power: percent(rules.comparison.power),
        equivalence: percent(1.0 - 2.0 * rules.comparison.error_rate),
        unread: summary.unread.iter().map(|what| escape(what)).collect(),
        unmet: summary
            .processes
            .iter()
            .any(|process| !process.member.unmet.is_empty()),
        warnings: summary.warnings.iter().map(|text| escape(text)).collect(),
        notices: summary.notices.iter().map(|text| escape(text)).collect(),
        words: view::rules::words(&[Group::Comparison, Group::Validity]),
        thresholds: view::rules::thresholds(&rules, &[Group::Comparison, Group::Validity]),
        other_rules: {
            let first = set.processes.first();
            first
                .and_then(|first| first.run.start.rules)
                .unwrap_or_default()
                != rules
        },
        changes_chart: has(CHANGES),
        processes_chart: has(PROCESSES),
        limits: Limits::of(&all),
    };
    Rendered::of(TEMPLATE, &view, charts)
}

/// What the template fills in; every string is Markdown.
#[derive(Serialize)]
struct View {
    title: String,
    subject: Option<Subject>,
    comparisons: Vec<ComparisonView>,
    side_by_side: Option<String>,
    ratios: Option<String>,
    unmeasured: Vec<String>,
    same_work: Option<String>,
    /// Names of the variables, where every process had empty caches.
    empty_caches: Vec<String>,
    baseline: Option<String>,
    settings: Option<String>,
    arms: Vec<ArmView>,
    floor: Option<FloorView>,
    processes: String,
    pairs_to_decide: usize,
    practical: String,
    error_rate: String,
    power: String,
    equivalence: String,
    unread: Vec<String>,
    unmet: bool,
    warnings: Vec<String>,
    notices: Vec<String>,
    words: String,
    thresholds: String,
    /// Whether these are not the thresholds that the first run was recorded with.
    other_rules: bool,
    changes_chart: bool,
    processes_chart: bool,
    limits: Limits,
}

/// What was measured on what, by the first run.
#[derive(Serialize)]
pub(crate) struct Subject {
    model: String,
    device: String,
    dtype: String,
    /// Those of all arms, with their versions and libraries.
    programs: String,
    iterations: String,
    batch_size: u32,
    started: String,
    processes: usize,
    complete: usize,
}

impl Subject {
    pub(crate) fn of(processes: &[&Process]) -> Option<Self> {
        let start = &processes.first()?.run.start;
        let complete = |process: &&&Process| process.run.status == RunStatus::Complete;
        Some(Self {
            model: escape(&start.model.name),
            device: view::device(start),
            dtype: escape(&start.config.dtype),
            programs: performance::programs(processes),
            iterations: units::count(start.config.iterations.into()),
            batch_size: start.config.batch_size,
            started: units::utc(start.started_unix_ms),
            processes: processes.len(),
            complete: processes.iter().filter(complete).count(),
        })
    }
}

/// What showed that the arms do the same.
fn same_work(it: &SameWork) -> String {
    let arms: Vec<String> = it
        .arms
        .iter()
        .map(|of| format!("{} by at most {:.1e}", escape(&of.arm), of.loss_difference))
        .collect();
    format!(
        "Before they were timed all arms trained the same batches for {} iterations without dropout, \
         and their losses differed from those of {}, relative: {} (tolerance {:.1e})",
        it.iterations,
        escape(&it.baseline),
        arms.join(", "),
        it.tolerance
    )
}

/// What named empty folders to every process.
fn empty_caches(processes: &[&Process]) -> Vec<String> {
    let mut of_all = processes.iter();
    let caches = |process: &&Process| process.member.empty_caches.clone();
    let Some(first) = of_all.next().and_then(caches) else {
        return Vec::new();
    };
    match of_all.all(|process| caches(process).as_ref() == Some(&first)) {
        true => first.iter().map(|name| escape(name)).collect(),
        false => Vec::new(),
    }
}

/// Facts of the records that bound what they can show.
#[derive(Serialize)]
pub(crate) struct Limits {
    debug_build: bool,
    dirty: bool,
    virtual_machine: bool,
    random_weights: bool,
    /// Whether caches were to be empty where the system keeps one that cannot be given.
    metal_cache: bool,
    /// Whether peak memory was counted by different counters.
    different_counters: bool,
}

impl Limits {
    pub(crate) fn of(processes: &[&Process]) -> Self {
        let any =
            |fact: fn(&Start) -> bool| processes.iter().any(|process| fact(&process.run.start));
        Self {
            debug_build: any(|start| start.lfmark.profile == "debug"),
            dirty: any(|start| start.lfmark.dirty == Some(true)),
            virtual_machine: any(|start| start.machine.virtual_machine == Some(true)),
            random_weights: any(|start| {
                matches!(start.model.weights, metrics::record::Weights::Random { .. })
            }),
            metal_cache: !empty_caches(processes).is_empty()
                && any(|start| ["metal", "mps"].contains(&start.mlx.backend.as_str())),
            different_counters: {
                let mut counters = processes
                    .iter()
                    .map(|process| view::memory_counter(&process.run.start));
                let first = counters.next();
                counters.any(|counter| Some(counter) != first)
            },
        }
    }
}

fn title(set: &Set, summary: &Summary) -> String {
    let model = set
        .processes
        .first()
        .map_or("", |process| &process.run.start.model.name);
    let names: Vec<String> = summary.arms.iter().map(|arm| escape(&arm.name)).collect();
    match names.split_first() {
        Some((first, others)) if !others.is_empty() => format!(
            "Comparison report: {} against {first} on {}",
            others.join(", "),
            escape(model)
        ),
        _ => format!("Report of repeated runs: {}", escape(model)),
    }
}

/// A metric as a reader calls it.
pub fn name(metric: MetricKind) -> &'static str {
    match metric {
        MetricKind::StepTime => "step time",
        MetricKind::StepP95 => "step p95",
        MetricKind::IterationWall => "wall time per iteration",
        MetricKind::FirstToken => "time to first token",
        MetricKind::TokenTime => "time per token",
        MetricKind::PeakMemory => "peak memory",
        MetricKind::Footprint => "process footprint",
        MetricKind::TimeToStep10 => "time to step 10",
    }
}

/// The same of its name in JSON.
pub fn named(metric: &str) -> &str {
    match MetricKind::named(metric) {
        Some(kind) => name(kind),
        None => metric,
    }
}

/// The verdict of a comparison in a word, or that there is none between different programs, of
/// which only single metrics are judged.
pub fn verdict(compared: &ArmComparison) -> &'static str {
    let verdict = &compared.comparison.verdict;
    match verdict {
        Verdict::Void { .. } | Verdict::NotComparable { .. } => verdict.word(),
        _ if compared.different_programs => "different programs",
        _ => verdict.word(),
    }
}

/// A value of a metric with its unit.
pub fn value(metric: MetricKind, value: f64) -> String {
    let whole = value.round() as u64;
    match metric {
        MetricKind::PeakMemory | MetricKind::Footprint => units::bytes(whole),
        _ => units::duration(whole),
    }
}

/// A change with its sign.
pub fn change(value: f64) -> String {
    if value > LARGEST_CHANGE {
        format!("above +{} %", units::count(100 * LARGEST_CHANGE as u64))
    } else {
        units::signed_share(value)
    }
}

/// A share without a sign, of what is never below 0.
pub fn percent(value: f64) -> String {
    if value > LARGEST_CHANGE {
        format!("above {} %", units::count(100 * LARGEST_CHANGE as u64))
    } else {
        let text = units::significant(100.0 * value, 3);
        match text.contains('.') {
            true => format!("{} %", text.trim_end_matches('0').trim_end_matches('.')),
            false => format!("{text} %"),
        }
    }
}

/// An interval of a change, such as "-0.5 % to +1.2 %".
pub fn interval(interval: Option<Interval>) -> String {
    interval.map_or(NONE.to_owned(), |Interval { low, high, .. }| {
        format!("{} to {}", change(low), change(high))
    })
}

pub(crate) fn or_none<T>(value: Option<T>, write: impl FnOnce(T) -> String) -> String {
    value.map_or(NONE.to_owned(), write)
}

/// One arm against the first.
#[derive(Serialize)]
struct ComparisonView {
    baseline: String,
    candidate: String,
    word: &'static str,
    sentence: String,
    table: Option<String>,
    details: Option<String>,
    different_programs: bool,
    interleaved: bool,
    /// Whether the differences of pairs decided.
    paired: bool,
    stolen: Option<String>,
    left_out: Vec<String>,
}

fn comparison(compared: &ArmComparison, rules: &ComparisonRules) -> ComparisonView {
    let metrics = &compared.comparison.metrics;
    let some = !metrics.is_empty();
    ComparisonView {
        baseline: escape(&compared.baseline),
        candidate: escape(&compared.candidate),
        word: verdict(compared),
        sentence: sentence(compared, rules),
        table: some.then(|| decisions(compared)),
        details: some.then(|| details(metrics)),
        different_programs: compared.different_programs,
        interleaved: compared.design == Design::Interleaved,
        paired: metrics
            .iter()
            .any(|metric| metric.decided_by == Method::Paired),
        stolen: stolen(compared, rules),
        left_out: compared.left_out.iter().map(left_out).collect(),
    }
}

/// What is said of repeats that lost time to other guests of the hardware; `None` without any.
fn stolen(compared: &ArmComparison, rules: &ComparisonRules) -> Option<String> {
    let repeats: Vec<String> = compared.stolen.iter().map(u32::to_string).collect();
    let (word, have) = match &repeats[..] {
        [] => return None,
        [_] => ("repeat", "it is"),
        _ => ("repeats", "they are"),
    };
    let what_of_them = match compared.stolen_left_out {
        true => "left out of both arms".to_owned(),
        false => format!(
            "not left out, since fewer than {} would be left",
            rules.pairs_to_decide
        ),
    };
    Some(format!(
        "Other guests of the hardware had more of the CPU time than `validity.steal-share` allows \
         in {word} {}: {have} {what_of_them}.",
        repeats.join(", ")
    ))
}

fn sentence(compared: &ArmComparison, rules: &ComparisonRules) -> String {
    let metrics = &compared.comparison.metrics;
    let verdict = &compared.comparison.verdict;
    let such = || {
        let such = metrics.iter().filter(|metric| metric.verdict == *verdict);
        let such: Vec<String> = such
            .map(|metric| format!("{} {}", named(&metric.name), change(metric.change)))
            .collect();
        such.join(", ")
    };
    let practical = percent(rules.practical);
    match verdict {
        Verdict::Void { .. } | Verdict::NotComparable { .. } => {}
        _ if compared.different_programs && !metrics.is_empty() => return by_word(compared),
        _ => {}
    }
    match verdict {
        Verdict::Regressed | Verdict::Improved => format!("{}.", such()),
        Verdict::Equivalent => format!("Every change is shown to lie within {practical}."),
        Verdict::ChangedButSmall => format!(
            "There are changes, and every one is shown to lie within {practical}: {}.",
            such()
        ),
        Verdict::Inconclusive { .. } if metrics.is_empty() => {
            "No metric was measured by complete runs of both arms.".to_owned()
        }
        Verdict::Inconclusive {
            more_runs: Some(runs),
        } if metrics.iter().any(MetricComparison::has_single_run) => format!(
            "To begin, a test needs {} more runs in each arm: nothing is known of the spread yet.",
            units::count((*runs).into())
        ),
        Verdict::Inconclusive { more_runs } => format!(
            "{} would decide, were estimates and spreads to stay as they are.",
            match more_runs {
                Some(1) => "One more run in each arm".to_owned(),
                Some(runs) => format!("{} more runs in each arm", units::count((*runs).into())),
                None => "Only more than 1,000 further runs in each arm".to_owned(),
            }
        ),
        Verdict::Void { why } => format!(
            "The machine was not in one state throughout: {}. The figures below decide nothing.",
            escape(why)
        ),
        Verdict::NotComparable { why } => format!("{}.", escape(why)),
    }
}

/// Every metric under the word for it.
fn by_word(compared: &ArmComparison) -> String {
    let mut words: Vec<(&str, Vec<String>)> = Vec::new();
    for metric in &compared.comparison.metrics {
        let word = compared.word(metric);
        let text = format!("{} {}", named(&metric.name), change(metric.change));
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, such)) => such.push(text),
            None => words.push((word, vec![text])),
        }
    }
    let words = words.iter();
    let parts: Vec<_> = words
        .map(|(word, such)| format!("{word} ({})", such.join(", ")))
        .collect();
    format!("Metric by metric: {}.", parts.join("; "))
}

/// The table that decides.
fn decisions(compared: &ArmComparison) -> String {
    let rows: Vec<_> = compared
        .comparison
        .metrics
        .iter()
        .map(|metric| {
            [
                named(&metric.name).to_owned(),
                format!("{} + {}", metric.baseline_runs, metric.candidate_runs),
                change(metric.change),
                interval(metric.adjusted),
                percent(metric.threshold),
                compared.word(metric).to_owned(),
                or_none(metric.minimum_detectable, percent),
                match &metric.verdict {
                    Verdict::Inconclusive {
                        more_runs: Some(runs),
                    } => units::count((*runs).into()),
                    Verdict::Inconclusive { more_runs: None } => "over 1,000".to_owned(),
                    _ => String::new(),
                },
            ]
        })
        .collect();
    table(
        [
            ("Metric", Align::Left),
            ("Runs", Align::Right),
            ("Change", Align::Right),
            ("Adjusted interval", Align::Right),
            ("Threshold", Align::Right),
            ("Verdict", Align::Left),
            ("Minimum detectable", Align::Right),
            ("More runs", Align::Right),
        ],
        &rows,
    )
}

/// What does not decide.
fn details(metrics: &[MetricComparison]) -> String {
    let rows: Vec<_> = metrics
        .iter()
        .map(|metric| {
            let rank = &metric.mann_whitney;
            [
                named(&metric.name).to_owned(),
                interval(metric.welch),
                interval(metric.paired),
                interval(metric.bootstrap),
                units::p_value(metric.p),
                units::p_value(metric.p_adjusted),
                units::p_value(rank.p),
                units::significant(rank.superiority, 2),
                or_none(metric.hedges_g, |g| units::signed(g, 3)),
                or_none(metric.equivalence, |tost| {
                    format!(
                        "{} (p {})",
                        interval(Some(tost.interval)),
                        units::p_value(tost.p)
                    )
                }),
            ]
        })
        .collect();
    table(
        [
            ("Metric", Align::Left),
            ("Welch", Align::Right),
            ("Paired", Align::Right),
            ("Bootstrap", Align::Right),
            ("p", Align::Right),
            ("p by Holm", Align::Right),
            ("Mann-Whitney p", Align::Right),
            ("Superiority", Align::Right),
            ("Hedges' g", Align::Right),
            ("TOST", Align::Right),
        ],
        &rows,
    )
}

fn left_out(left: &LeftOut) -> String {
    format!("{} ({})", name(left.metric), escape(&left.why))
}

/// The runs of one arm.
#[derive(Serialize)]
struct ArmView {
    name: String,
    runs: usize,
    table: Option<String>,
    left_out: Vec<String>,
}

fn arm(arm: &Arm) -> ArmView {
    let rows: Vec<_> = arm
        .metrics
        .iter()
        .map(|measured| {
            let metric = measured.metric;
            let spread = &measured.spread;
            [
                name(metric).to_owned(),
                spread.runs.to_string(),
                value(metric, spread.geometric_mean),
                or_none(spread.sd, percent),
                or_none(spread.interval, |(low, high)| {
                    format!("{} to {}", value(metric, low), value(metric, high))
                }),
                or_none(spread.minimum_detectable, percent),
            ]
        })
        .collect();
    ArmView {
        name: escape(&arm.name),
        runs: arm.runs,
        table: (!rows.is_empty()).then(|| {
            table(
                [
                    ("Metric", Align::Left),
                    ("Runs", Align::Right),
                    ("Geometric mean", Align::Right),
                    ("CV between processes", Align::Right),
                    ("95 % interval", Align::Right),
                    ("Minimum detectable", Align::Right),
                ],
                &rows,
            )
        }),
        left_out: arm.left_out.iter().map(left_out).collect(),
    }
}

/// The noise floor beside the runs.
#[derive(Serialize)]
struct FloorView {
    used: bool,
    runs: usize,
    measured: String,
    table: String,
}

fn floor(noise: &Noise, summary: &Summary) -> FloorView {
    let rows: Vec<_> = noise
        .metrics
        .iter()
        .map(|(metric, stored)| {
            let noise = stored.noise;
            let difference = |runs: u32| percent(noise.difference_99(runs as usize, runs as usize));
            let [a, b, c, d] = ARM_SIZES.map(difference);
            let sd = percent(noise.sd);
            [
                escape(named(metric)),
                noise.runs.to_string(),
                sd,
                a,
                b,
                c,
                d,
            ]
        })
        .collect();
    let heads = ARM_SIZES.map(|runs| format!("{runs} runs an arm"));
    let head = |index: usize| (heads[index].as_str(), Align::Right);
    FloorView {
        used: summary.has_floor,
        runs: noise.runs.len(),
        measured: units::utc(noise.measured_unix_ms),
        table: table(
            [
                ("Metric", Align::Left),
                ("Runs", Align::Right),
                ("CV between processes", Align::Right),
                head(0),
                head(1),
                head(2),
                head(3),
            ],
            &rows,
        ),
    }
}

/// Settings in which the arms differ, with one column an arm.
fn settings(summary: &Summary) -> Option<String> {
    if summary.settings.is_empty() {
        return None;
    }
    let names = summary.arms.iter().map(|arm| escape(&arm.name));
    let head: Vec<String> = iter::once("Setting".to_owned()).chain(names).collect();
    let rows = summary.settings.iter().map(|setting| {
        let values = setting.values.iter().map(|value| match value {
            Some(value) => escape(&shorten(value, 60)),
            None => NOT_MEASURED.to_owned(),
        });
        iter::once(escape(&setting.name)).chain(values).collect()
    });
    Some(table_of(&head, &rows.collect::<Vec<Vec<String>>>()))
}

/// A table of any number of columns; every row has as many as the head.
pub(crate) fn table_of(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let rule = vec!["---".to_owned(); head.len()];
    let lines = [line(head), line(&rule)];
    let lines = lines.into_iter().chain(rows.iter().map(|row| line(row)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Every process in the order of time.
pub(crate) fn processes(processes: &[ProcessSummary]) -> String {
    let rows: Vec<_> = processes
        .iter()
        .map(|process| {
            let member = &process.member;
            let metric = |metric: MetricKind| {
                let measured = process.values.get(&metric);
                measured.map_or(NOT_MEASURED.to_owned(), |&measured| value(metric, measured))
            };
            let ended = match process.status {
                RunStatus::Complete => "complete".to_owned(),
                status => {
                    let word = match status {
                        RunStatus::Interrupted => "interrupted",
                        RunStatus::Failed => "failed",
                        _ => "cut off",
                    };
                    let why = process
                        .reason
                        .as_deref()
                        .map(|why| format!(": {}", escape(why)));
                    format!("**{word}, left out**{}", why.unwrap_or_default())
                }
            };
            [
                member.number.to_string(),
                link(&process.run),
                escape(&member.arm),
                member.repeat.to_string(),
                ended,
                units::seconds(member.waited_ns),
                member
                    .unmet
                    .iter()
                    .map(|unmet| escape(unmet))
                    .collect::<Vec<_>>()
                    .join("; "),
                metric(MetricKind::StepTime),
                metric(MetricKind::PeakMemory),
            ]
        })
        .collect();
    table(
        [
            ("Number", Align::Right),
            ("Run", Align::Left),
            ("Arm", Align::Left),
            ("Repeat", Align::Right),
            ("Ended", Align::Left),
            ("Waited (s)", Align::Right),
            ("Conditions not met", Align::Left),
            ("Step time", Align::Right),
            ("Peak memory", Align::Right),
        ],
        &rows,
    )
}

/// A link to a run's own report, where the name can stand in one as it is.
fn link(run: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match run.chars().all(plain) {
        true => format!("[{}]({run}/{REPORT})", escape(run)),
        false => escape(run),
    }
}

/// Names of arms in a chart have no more room than this.
const SERIES_NAME: usize = 24;

/// Every metric of every comparison, with its adjusted interval.
fn changes_chart(summary: &Summary, rules: &ComparisonRules) -> Option<Result<String, ChartError>> {
    let of = |kind: MetricKind| {
        // Numbered as the arms are, of which the first is the baseline.
        let comparisons = (1..).zip(&summary.comparisons);
        comparisons.filter_map(move |(series, compared)| {
            let metrics = &compared.comparison.metrics;
            let found = metrics.iter().find(|metric| metric.name == kind.name())?;
            Some((series, found))
        })
    };
    let strips = MetricKind::ALL.into_iter().filter_map(|kind| {
        let lines: Vec<Line> = of(kind)
            .map(|(series, metric)| Line {
                series,
                dots: vec![metric.change],
                whisker: metric
                    .adjusted
                    .map(|adjusted| (adjusted.low, adjusted.high)),
            })
            .collect();
        let (_, first) = of(kind).next()?;
        Some(Strip {
            label: name(kind).to_owned(),
            text: match summary.comparisons.len() {
                1 => {
                    let word = summary.comparisons[0].word(first);
                    format!("{}, {word}", change(first.change))
                }
                _ => String::new(),
            },
            lines,
        })
    });
    let strips: Vec<Strip> = strips.collect();
    let series: Vec<_> = names(summary).skip(1).collect();
    let baseline = summary.arms.first().map_or("", |arm| &arm.name);
    let words = format!("Change against {}", shorten(baseline, SERIES_NAME));
    (!strips.is_empty()).then(|| charts::strips(&words, &series, &strips, Some(rules.practical)))
}

/// Every process of every arm, as a deviation from the first arm's geometric mean.
fn processes_chart(summary: &Summary) -> Option<Result<String, ChartError>> {
    let of = |kind: MetricKind| {
        let arms = summary.arms.iter().enumerate();
        arms.filter_map(move |(series, arm)| {
            let found = arm
                .metrics
                .iter()
                .find(|measured| measured.metric == kind)?;
            Some((series, found))
        })
    };
    let strips = MetricKind::ALL.into_iter().filter_map(|kind| {
        let (_, first) = of(kind).next()?;
        let base = first.spread.geometric_mean;
        let lines: Vec<Line> = of(kind)
            .map(|(series, measured)| Line {
                series,
                dots: measured
                    .values
                    .iter()
                    .map(|value| value / base - 1.0)
                    .collect(),
                whisker: None,
            })
            .collect();
        Some(Strip {
            label: name(kind).to_owned(),
            text: value(kind, base),
            lines,
        })
    });
    let strips: Vec<Strip> = strips.collect();
    let series: Vec<_> = names(summary).collect();
    let words = "Every process, against the first arm's mean";
    (!strips.is_empty()).then(|| charts::strips(words, &series, &strips, None))
}

/// Every arm with its number, from 0.
fn names(summary: &Summary) -> impl Iterator<Item = (usize, String)> {
    let arms = summary.arms.iter().enumerate();
    arms.map(|(number, arm)| (number, shorten(&arm.name, SERIES_NAME)))
}
