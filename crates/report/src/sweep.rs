//! The report of a sweep: how time, rate and memory grow with the work.

use metrics::leak;
use metrics::roofline::LARGEST_SHARE;
use metrics::rules::Group;
use metrics::scaling::{
    Basis, CONFIDENCE, Coefficient, ConstancyVerdict, DEPARTURE, Deviation, GrowthVerdict,
    Linearity, SIGNIFICANCE, Scaling,
};
use metrics::stats::Estimate;
use metrics::sweep::{
    self, Axis, AxisSummary, Fit, Measure, PointSummary, ProgramComparison, ProgramSummary, Sweep,
};
use serde::Serialize;

use crate::charts::{self, ChartError, Dot, Plot, Series};
use crate::markdown::{Align, escape, table};
use crate::set::{self, percent};
use crate::units::{self, NOT_MEASURED};
use crate::{File, REPORT, Rendered, ReportError};

const TEMPLATE: &str = include_str!("../templates/sweep.md.tera");

/// What a cell says where a figure cannot be computed from so few runs.
const NONE: &str = "none";

/// What a cell says of a device that no peak is known of.
const NOT_KNOWN: &str = "not known";

/// Points of a drawn curve.
const CURVE: usize = 64;

/// Every name that a file of a sweep's report can have.
pub fn sweep_file_names() -> impl Iterator<Item = &'static str> {
    std::iter::once(REPORT).chain(Axis::ALL.into_iter().map(chart_name))
}

fn chart_name(axis: Axis) -> &'static str {
    match axis {
        Axis::BatchSize => "batch-size.svg",
        Axis::SequenceLength => "sequence-length.svg",
        Axis::LoraRank => "lora-rank.svg",
        Axis::LoraLayers => "lora-layers.svg",
        Axis::Iterations => "iterations.svg",
        Axis::Threads => "threads.svg",
        Axis::PromptLength => "prompt-length.svg",
        Axis::GenerationLength => "generation-length.svg",
        Axis::Context => "context.svg",
    }
}

/// Renders a sweep as Markdown and charts.
///
/// # Errors
///
/// See [`ReportError`].
pub fn render_sweep(sweep: &Sweep) -> Result<Rendered, ReportError> {
    let summary = sweep::summarize(sweep);
    let mut charts = Vec::new();
    for axis in &summary.axes {
        let name = chart_name(axis.axis);
        let Some(svg) = chart(axis) else { continue };
        charts.push(File::chart(name, svg)?);
    }
    let has = |name: &str| charts.iter().any(|chart| chart.name == name);
    let axes = summary.axes.iter().map(|axis| {
        let name = chart_name(axis.axis);
        AxisView::new(axis, has(name).then_some(name))
    });
    let start = sweep.runs.first().map(|run| &run.process.run.start);
    let processes: Vec<_> = sweep.runs.iter().map(|run| &run.process).collect();
    let view = View {
        model: start.map_or(String::new(), |start| escape(&start.model.name)),
        subject: set::Subject::of(&processes),
        axes: axes.collect(),
        programs: sweep
            .plan
            .programs
            .iter()
            .map(|it| escape(&it.name))
            .collect(),
        generated_data: sweep.plan.generated_data,
        repeats: sweep.plan.repeats,
        seed: sweep.plan.seed,
        planned: units::count(summary.planned as u64),
        complete: units::count(summary.complete as u64),
        missing: summary.planned - summary.complete,
        processes: set::processes(&summary.processes),
        unread: summary.unread.iter().map(|what| escape(what)).collect(),
        warnings: summary.warnings.iter().map(|text| escape(text)).collect(),
        notices: summary.notices.iter().map(|text| escape(text)).collect(),
        limits: set::Limits::of(&processes),
        confidence: percent(CONFIDENCE),
        departure: percent(DEPARTURE),
        significance: percent(SIGNIFICANCE),
        margin: start.map_or(String::new(), |start| {
            percent(start.rules.unwrap_or_default().comparison.practical)
        }),
        words: crate::view::rules::words(&[Group::Leak]),
        leaks: summary.axes.iter().any(|axis| axis.axis.trains()),
    };
    Rendered::of(TEMPLATE, &view, charts)
}

/// What the template fills in; every string is Markdown.
#[derive(Serialize)]
struct View {
    model: String,
    subject: Option<set::Subject>,
    axes: Vec<AxisView>,
    programs: Vec<String>,
    generated_data: bool,
    repeats: u32,
    seed: u64,
    planned: String,
    complete: String,
    missing: usize,
    processes: String,
    unread: Vec<String>,
    warnings: Vec<String>,
    notices: Vec<String>,
    limits: set::Limits,
    confidence: String,
    departure: String,
    significance: String,
    margin: String,
    words: String,
    leaks: bool,
}

/// One axis.
#[derive(Serialize)]
struct AxisView {
    title: &'static str,
    chart: Option<&'static str>,
    trains: bool,
    threads: bool,
    shares_process: bool,
    programs: Vec<ProgramView>,
    comparisons: Option<String>,
    different_work: Option<String>,
}

#[derive(Serialize)]
struct ProgramView {
    name: String,
    points: String,
    models: Option<String>,
    sentences: Vec<String>,
}

impl AxisView {
    fn new(axis: &AxisSummary, chart: Option<&'static str>) -> Self {
        let compared: Vec<_> = axis
            .comparisons
            .iter()
            .filter(|it| it.different_work.is_none())
            .collect();
        Self {
            title: title(axis.axis),
            chart,
            trains: axis.axis.trains(),
            threads: axis.axis == Axis::Threads,
            shares_process: axis.axis.shares_process(),
            programs: axis
                .programs
                .iter()
                .map(|program| ProgramView {
                    name: escape(&program.program),
                    points: match axis.axis.trains() {
                        true => training_points(axis.axis, &program.points),
                        false => generation_points(axis.axis, &program.points),
                    },
                    models: models(axis.axis, &program.fits),
                    sentences: sentences(axis.axis, program),
                })
                .collect(),
            comparisons: (!compared.is_empty()).then(|| comparisons(&compared)),
            different_work: axis
                .comparisons
                .iter()
                .find_map(|it| it.different_work.as_deref())
                .map(escape),
        }
    }
}

fn title(axis: Axis) -> &'static str {
    match axis {
        Axis::BatchSize => "Batch size",
        Axis::SequenceLength => "Sequence length",
        Axis::LoraRank => "LoRA rank",
        Axis::LoraLayers => "Adapted layers",
        Axis::Iterations => "Iterations",
        Axis::Threads => "Threads",
        Axis::PromptLength => "Prompt length",
        Axis::GenerationLength => "Generation length",
        Axis::Context => "Context",
    }
}

/// A unit of what a measure is fitted against.
fn unit(axis: Axis, measure: Measure) -> &'static str {
    match (axis, measure) {
        (Axis::BatchSize | Axis::SequenceLength, _) => "token",
        (Axis::LoraRank, _) => "rank",
        (Axis::LoraLayers, _) => "layer",
        (Axis::Iterations, _) => "iteration",
        (Axis::Threads, _) => "thread",
        (_, Measure::FirstToken) => "prompt token",
        _ => "position",
    }
}

fn a_unit(axis: Axis, measure: Measure) -> String {
    let unit = unit(axis, measure);
    let article = if unit.starts_with('i') { "an" } else { "a" };
    format!("{article} {unit}")
}

fn measure_name(measure: Measure) -> &'static str {
    match measure {
        Measure::Step => "step time",
        Measure::Token => "time per token",
        Measure::FirstToken => "time to first token",
        Measure::Memory => "peak memory",
    }
}

fn training_points(axis: Axis, points: &[PointSummary]) -> String {
    let rows: Vec<_> = points
        .iter()
        .map(|point| {
            let time = point.time;
            [
                units::count(point.value.into()),
                runs(point),
                or_not_measured(point.step_tokens, work),
                or_not_measured(time, |time| units::duration(time.geometric_mean as u64)),
                time.and_then(|time| time.interval)
                    .map_or(NONE.to_owned(), between_times),
                or_not_measured(time, |time| {
                    units::significant(1e9 / time.geometric_mean, 4)
                }),
                or_not_measured(point.tokens_per_second, |rate| units::significant(rate, 4)),
                or_not_measured(point.peak_bytes, |bytes| units::bytes(bytes as u64)),
                specified(point.specified_share),
                leaks(&point.leaks),
            ]
        })
        .collect();
    table(
        [
            (title(axis), Align::Right),
            ("Runs", Align::Right),
            ("Tokens of a step", Align::Right),
            ("Step", Align::Right),
            ("Interval", Align::Right),
            ("it/s", Align::Right),
            ("Real tokens/s", Align::Right),
            ("Peak memory", Align::Right),
            ("Share of the specified arithmetic", Align::Right),
            ("Memory over the run", Align::Left),
        ],
        &rows,
    )
}

fn generation_points(axis: Axis, points: &[PointSummary]) -> String {
    let rows: Vec<_> = points
        .iter()
        .map(|point| {
            let time = point.time;
            [
                units::count(point.value.into()),
                runs(point),
                or_not_measured(point.work, work),
                or_not_measured(time, |time| units::duration(time.geometric_mean as u64)),
                time.and_then(|time| time.interval)
                    .map_or(NONE.to_owned(), between_times),
                or_not_measured(point.tokens_per_second, |rate| units::significant(rate, 4)),
                or_not_measured(point.first_token, |time| {
                    units::duration(time.geometric_mean as u64)
                }),
                or_not_measured(point.peak_bytes, |bytes| units::bytes(bytes as u64)),
                specified(point.specified_share),
                or_not_measured(point.measured_share, in_percent),
            ]
        })
        .collect();
    table(
        [
            (
                match axis {
                    Axis::Context => title(Axis::PromptLength),
                    axis => title(axis),
                },
                Align::Right,
            ),
            ("Runs", Align::Right),
            ("Mean context", Align::Right),
            ("Time per token", Align::Right),
            ("Interval", Align::Right),
            ("Generated tokens/s", Align::Right),
            ("First token", Align::Right),
            ("Peak memory", Align::Right),
            ("Share of the specified bandwidth", Align::Right),
            ("Share of the measured bandwidth", Align::Right),
        ],
        &rows,
    )
}

fn or_not_measured<T>(value: Option<T>, write: impl FnOnce(T) -> String) -> String {
    value.map_or(NOT_MEASURED.to_owned(), write)
}

fn runs(point: &PointSummary) -> String {
    match point.complete == point.planned {
        true => point.complete.to_string(),
        false => format!("**{} of {}**", point.complete, point.planned),
    }
}

fn between_times((low, high): (f64, f64)) -> String {
    format!(
        "{} to {}",
        units::duration(low as u64),
        units::duration(high as u64)
    )
}

/// A share of what is specified, which cannot be much more than all of it.
fn specified(share: Option<f64>) -> String {
    match share {
        None => NOT_KNOWN.to_owned(),
        Some(share) if share > LARGEST_SHARE => {
            format!("**error: {}, which cannot be**", in_percent(share))
        }
        Some(share) => in_percent(share),
    }
}

fn in_percent(share: f64) -> String {
    format!("{} %", units::significant(100.0 * share, 3))
}

fn leaks(leaks: &[leak::Verdict]) -> String {
    match leaks {
        [] => NOT_MEASURED.to_owned(),
        leaks => {
            let words: Vec<_> = leaks.iter().map(|leak| leak.word()).collect();
            words.join(", ")
        }
    }
}

/// The cost model of every measure; `None` where none is fitted on this axis.
fn models(axis: Axis, fits: &[Fit]) -> Option<String> {
    let rows: Vec<_> = fits
        .iter()
        .map(|fit| {
            let of = |coefficient: fn(&metrics::scaling::Line) -> Coefficient| {
                let line = fit.scaling.model().map(coefficient);
                line.map_or(NONE.to_owned(), |it| quantity(fit.measure, it.estimate()))
            };
            let range = fit.scaling.model().map(|line| line.range);
            [
                measure_name(fit.measure).to_owned(),
                of(|line| line.fixed),
                a_unit(axis, fit.measure),
                of(|line| line.slope),
                range.map_or(NONE.to_owned(), |(low, high)| {
                    format!("{} to {}", work(low), work(high))
                }),
                fit.scaling
                    .model()
                    .and_then(|line| line.half_work())
                    .map_or(NONE.to_owned(), |half| units::significant(half, 3)),
                verdict(axis, fit),
            ]
        })
        .collect();
    (!rows.is_empty()).then(|| {
        table(
            [
                ("Quantity", Align::Left),
                ("Fixed", Align::Right),
                ("Unit of work", Align::Left),
                ("Cost of a unit", Align::Right),
                ("Fitted over", Align::Right),
                ("Half is fixed at", Align::Right),
                ("Points", Align::Left),
            ],
            &rows,
        )
    })
}

fn work(value: f64) -> String {
    let decimals = if value.fract() == 0.0 { 0 } else { 1 };
    units::fixed(value, decimals)
}

/// A coefficient with its interval and the unit that suits its size.
fn quantity(measure: Measure, it: Estimate) -> String {
    let scales: &[(f64, &str)] = match measure {
        Measure::Memory => &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes")],
        _ => &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")],
    };
    let size = it.value.abs();
    let (scale, unit) = *scales
        .iter()
        .find(|(scale, _)| size >= *scale)
        .unwrap_or(&scales[scales.len() - 1]);
    let (low, high) = it.interval;
    let text = units::with_interval(it.value / scale, Some((low / scale, high / scale)));
    match text.split_once(' ') {
        Some((value, interval)) => format!("{value} {unit} {interval}"),
        None => format!("{text} {unit}"),
    }
}

/// What the points say of a line.
fn verdict(axis: Axis, fit: &Fit) -> String {
    let unit = unit(axis, fit.measure);
    let by = |it: &Deviation| match it.share.is_finite() {
        true => format!(
            "{} {} it",
            percent(it.share.abs()),
            if it.share > 0.0 { "above" } else { "below" }
        ),
        false => "where it is not above 0".to_owned(),
    };
    let at = |it: &Deviation| format!("{} {unit}s", work(it.x));
    match &fit.scaling {
        Scaling::TooFew { points } => {
            format!(
                "not fitted: a line needs 3 different amounts of work, and {points} were measured"
            )
        }
        Scaling::TooFewProcesses { processes } => format!(
            "not fitted: an interval needs 2 processes, and {processes} measured every length"
        ),
        Scaling::Fitted { linearity, .. } => match linearity {
            Linearity::Line => "no departure from the line".to_owned(),
            Linearity::Departs { at: it, before } => format!(
                "no departure up to {} {unit}s; **departs from the line at {}**, {}",
                work(before.range.1),
                at(it),
                by(it)
            ),
            Linearity::NoLine(it) => format!(
                "**no line**: of the one through all points, the point at {} is {}",
                at(it),
                by(it)
            ),
            Linearity::CannotTell(it) => format!(
                "cannot tell: the point at {} is {}, which with one process a point may be scatter",
                at(it),
                by(it)
            ),
        },
    }
}

/// A cost model in one line of plain text.
pub fn fit_in_words(axis: Axis, fit: &Fit) -> String {
    let name = measure_name(fit.measure);
    let verdict = verdict(axis, fit).replace("**", "");
    match fit.scaling.model() {
        None => format!("{name}: {verdict}"),
        Some(line) => format!(
            "{name}: {} + {} {}; {verdict}",
            quantity(fit.measure, line.fixed.estimate()),
            quantity(fit.measure, line.slope.estimate()),
            a_unit(axis, fit.measure),
        ),
    }
}

/// What the points and the cost models come to.
fn sentences(axis: Axis, program: &ProgramSummary) -> Vec<String> {
    let mut sentences = vec![roofline(axis, &program.points)];
    for fit in &program.fits {
        if matches!(axis, Axis::BatchSize | Axis::SequenceLength) && fit.measure == Measure::Step {
            sentences.extend(limit(fit, &program.points));
        }
    }
    if let Some(constancy) = &program.constancy {
        let grown = quantity(Measure::Memory, constancy.growth.estimate());
        let smallest = units::bytes(constancy.smallest as u64);
        sentences.push(match constancy.verdict {
            ConstancyVerdict::Constant => format!(
                "Peak memory does not grow with the number of iterations: over the range it grows \
                 by {grown}, and less than {smallest} counts as none."
            ),
            ConstancyVerdict::Grows => format!(
                "**Peak memory grows with the number of iterations**: over the range by {grown}, \
                 and less than {smallest} would count as none."
            ),
            ConstancyVerdict::CannotTell => format!(
                "Whether peak memory grows with the number of iterations cannot be told: over the \
                 range it grows by {grown}, and less than {smallest} counts as none."
            ),
        });
    }
    sentences
}

/// Shares of what the device has, at their extremes: of what is specified, or else of the bandwidth
/// that was measured.
fn roofline(axis: Axis, points: &[PointSummary]) -> String {
    let resource = match axis.trains() {
        true => "arithmetic",
        false => "bandwidth",
    };
    let extremes = |share: fn(&PointSummary) -> Option<f64>, known: &str| {
        let shares = points
            .iter()
            .filter_map(|point| Some((point.value, share(point)?)));
        let (most_at, most) = shares.clone().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let (least_at, least) = shares.min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(format!(
            "Roofline: the share of the {known} {resource} is highest at {} ({}) and lowest at \
             {} ({}).",
            units::count(most_at.into()),
            in_percent(most),
            units::count(least_at.into()),
            in_percent(least)
        ))
    };
    extremes(|point| point.specified_share, "specified")
        .or_else(|| extremes(|point| point.measured_share, "measured"))
        .unwrap_or_else(|| {
            format!(
                "Roofline: no peak {resource} of this device is known, so no share of it is shown."
            )
        })
}

/// The rate that more tokens a step approach, and where the fixed cost leaves the roofline.
fn limit(fit: &Fit, points: &[PointSummary]) -> Option<String> {
    let line = fit.scaling.model()?;
    let half = line.half_work()?;
    let rate = 1e9 / line.slope.value;
    // A share is a number of tokens over their time, so that it grows as the rate does.
    let share = points.iter().find_map(|point| {
        let now = 1e9 * point.work? / point.time?.geometric_mean;
        Some(point.specified_share? * rate / now)
    });
    let share = share.map_or(String::new(), |share| {
        format!(
            ", which is {} of the specified arithmetic",
            in_percent(share)
        )
    });
    Some(format!(
        "By the line, more tokens a step approach {} tokens/s{share}; with fewer than {} tokens a \
         step, the fixed cost takes more than half of it.",
        units::significant(rate, 4),
        units::significant(half, 3)
    ))
}

fn comparisons(comparisons: &[&ProgramComparison]) -> String {
    let rows: Vec<_> = comparisons
        .iter()
        .map(|it| {
            let [difference, share, basis, verdict] = match it.compared {
                None => [NONE, NONE, NONE, "not compared"].map(str::to_owned),
                Some(compared) => {
                    let share = compared.share;
                    [
                        quantity(it.measure, compared.difference),
                        format!(
                            "{} ({} to {})",
                            units::signed_share(share.value),
                            units::signed_share(share.interval.0),
                            units::signed_share(share.interval.1)
                        ),
                        match compared.basis {
                            Basis::Lines => "lines",
                            Basis::Ends => "ends",
                        }
                        .to_owned(),
                        match compared.verdict {
                            GrowthVerdict::NoFaster => "grows no faster",
                            GrowthVerdict::Faster => "**grows faster**",
                            GrowthVerdict::Undecided => "undecided",
                        }
                        .to_owned(),
                    ]
                }
            };
            let name = measure_name(it.measure).to_owned();
            let (candidate, reference) = (escape(&it.candidate), escape(&it.reference));
            [
                name, candidate, reference, difference, share, basis, verdict,
            ]
        })
        .collect();
    table(
        [
            ("Quantity", Align::Left),
            ("Program", Align::Left),
            ("Against", Align::Left),
            ("Difference of the growth", Align::Right),
            ("As a share", Align::Right),
            ("By", Align::Left),
            ("Verdict", Align::Left),
        ],
        &rows,
    )
}

/// Rate, tokens per second and peak memory against the work; `None` without a point.
fn chart(axis: &AxisSummary) -> Option<Result<String, ChartError>> {
    let measured = |point: &PointSummary| point.time.is_some() || point.peak_bytes.is_some();
    let mut points = axis.programs.iter().flat_map(|it| &it.points);
    if !points.any(measured) {
        return None;
    }
    let trains = axis.axis.trains();
    let peak = axis.programs.iter().flat_map(|it| &it.points);
    let peak = peak.filter_map(|it| it.peak_bytes).fold(0.0, f64::max);
    let memory = units::ByteUnit::for_largest(peak as u64);
    let x_name = x_name(axis.axis);
    let time_measure = if trains {
        Measure::Step
    } else {
        Measure::Token
    };
    let plot =
        |heading: &str, y_name: String, measure: Measure, of: &dyn Fn(f64, f64) -> f64| Plot {
            heading: heading.to_owned(),
            x_name,
            y_name,
            series: axis
                .programs
                .iter()
                .map(|program| series(axis.axis, program, measure, of))
                .collect(),
        };
    // A step's tokens are the work only where these are varied.
    let tokens = |x: f64| match axis.axis {
        Axis::BatchSize | Axis::SequenceLength => Some(x),
        _ => None,
    };
    let mut plots = Vec::new();
    if trains {
        plots.push(plot(
            "Iterations per second",
            "it/s".to_owned(),
            time_measure,
            &|_, ns| 1e9 / ns,
        ));
        match tokens(1.0) {
            Some(_) => plots.push(plot(
                "Tokens per second, padding included",
                "tokens/s".to_owned(),
                time_measure,
                &|x, ns| 1e9 * x / ns,
            )),
            None => plots.push(real_tokens(axis, x_name)),
        }
    } else {
        plots.push(plot(
            "Time per generated token",
            "ms".to_owned(),
            time_measure,
            &|_, ns| ns / 1e6,
        ));
        plots.push(plot(
            "Generated tokens per second",
            "tokens/s".to_owned(),
            time_measure,
            &|_, ns| 1e9 / ns,
        ));
    }
    let scale = memory.bytes as f64;
    plots.push(plot(
        "Peak memory",
        memory.name.to_owned(),
        Measure::Memory,
        &|_, bytes| bytes / scale,
    ));
    let words = format!(
        "{}: rate, tokens per second and peak memory",
        title(axis.axis)
    );
    Some(charts::scaling(&words, &plots))
}

fn x_name(axis: Axis) -> &'static str {
    match axis {
        Axis::BatchSize | Axis::SequenceLength => "tokens of a step",
        Axis::LoraRank => "rank",
        Axis::LoraLayers => "adapted layers",
        Axis::Iterations => "iterations",
        Axis::Threads => "threads",
        Axis::PromptLength | Axis::GenerationLength | Axis::Context => {
            "positions attended to, on average"
        }
    }
}

/// Dots of the points, and the curve of the cost model; `of` turns work and value into what is
/// shown.
fn series(
    axis: Axis,
    program: &ProgramSummary,
    measure: Measure,
    of: &dyn Fn(f64, f64) -> f64,
) -> Series {
    let dots = program.points.iter().filter_map(|point| {
        let x = match axis {
            Axis::Threads => f64::from(point.value),
            _ => point.work?,
        };
        let (value, interval) = match measure {
            Measure::Memory => (point.peak_bytes?, None),
            _ => (point.time?.geometric_mean, point.time?.interval),
        };
        let ends = interval.map(|(low, high)| (of(x, low), of(x, high)));
        Some(Dot {
            x,
            y: of(x, value),
            interval: ends.map(|(a, b)| (a.min(b), a.max(b))),
        })
    });
    // The memory of generation is fitted against the positions at its end, which are not those
    // that are drawn.
    let drawn = axis.trains() || measure != Measure::Memory;
    let fit = program.fits.iter().find(|fit| fit.measure == measure);
    let line = fit.filter(|_| drawn).and_then(|fit| fit.scaling.model());
    let curve = line.map_or(Vec::new(), |line| {
        let (low, high) = line.range;
        let at = |index: usize| {
            let x = low * (high / low).powf(index as f64 / (CURVE - 1) as f64);
            (x, of(x, line.at(x)))
        };
        (0..CURVE).map(at).collect()
    });
    Series {
        name: program.program.clone(),
        dots: dots.collect(),
        curve,
    }
}

/// Where the tokens of a step are the same at every point.
fn real_tokens(axis: &AxisSummary, x_name: &'static str) -> Plot {
    let series = axis.programs.iter().map(|program| Series {
        name: program.program.clone(),
        dots: program
            .points
            .iter()
            .filter_map(|point| {
                Some(Dot {
                    x: point.value.into(),
                    y: point.tokens_per_second?,
                    interval: None,
                })
            })
            .collect(),
        curve: Vec::new(),
    });
    Plot {
        heading: "Real tokens per second".to_owned(),
        x_name,
        y_name: "tokens/s".to_owned(),
        series: series.collect(),
    }
}
