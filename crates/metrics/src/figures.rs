//! Figures that programs are compared by, as a reader expects them: rates, the time until training
//! moves, and memory, for every arm of a set with their intervals, and as ratios between arms.
//!
//! The same runs and the same statistics as in [`crate::comparison`]. What decides there is
//! adjusted for the number of metrics; an interval here is that of its one figure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::comparison::{
    self, Better, Circumstances, Design, Method, Metric, Run, Verdict, spread,
};
use crate::energy;
use crate::record::{Generation, Iteration};
use crate::rules::ComparisonRules;
use crate::stats;
use crate::store::Record;
use crate::summary;

/// What is compared between processes: one value of each a process, and less of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// Mean step after the warm-up, in nanoseconds.
    StepTime,
    /// 95th percentile of the steps after the warm-up, in nanoseconds.
    StepP95,
    /// Wall time from the first step after the warm-up to the last one's end, over their number,
    /// in nanoseconds.
    IterationWall,
    /// Mean over the prompts, in nanoseconds.
    FirstToken,
    /// Total time between tokens over their number, all prompts together, in nanoseconds.
    TokenTime,
    /// Highest MLX memory of training and generation, in bytes.
    PeakMemory,
    /// Largest process footprint that was read, in bytes, but for what the probe of the memory's
    /// bandwidth leaves.
    Footprint,
    /// From just before the process was started to the end of its tenth step, in nanoseconds.
    #[serde(rename = "time_to_step_10")]
    TimeToStep10,
}

impl MetricKind {
    pub const ALL: [Self; 8] = [
        Self::StepTime,
        Self::StepP95,
        Self::IterationWall,
        Self::FirstToken,
        Self::TokenTime,
        Self::PeakMemory,
        Self::Footprint,
        Self::TimeToStep10,
    ];

    /// As it stands in JSON and in a noise floor.
    pub fn name(self) -> &'static str {
        match self {
            Self::StepTime => "step_time",
            Self::StepP95 => "step_p95",
            Self::IterationWall => "iteration_wall",
            Self::FirstToken => "first_token",
            Self::TokenTime => "token_time",
            Self::PeakMemory => "peak_memory",
            Self::Footprint => "footprint",
            Self::TimeToStep10 => "time_to_step_10",
        }
    }

    /// Whether it counts bytes; the others are times.
    pub fn is_memory(self) -> bool {
        matches!(self, Self::PeakMemory | Self::Footprint)
    }

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

/// One of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Figure {
    /// Iterations per second of step time, after the warm-up.
    IterationRate,
    /// Tokens of the samples themselves per second of step time, after the warm-up.
    TokenRate,
    /// Of a step, in nanoseconds, after the warm-up: until its graph is built, from then until all
    /// its work is handed to the device, and from then until the device has finished.
    GraphTime,
    DispatchTime,
    WaitTime,
    /// Tokens after the first one per second, for one prompt. Texts of different lengths are
    /// different work, so that their rates are figures of their own.
    DecodeRate {
        /// Counted from 1.
        prompt: u32,
        prompt_tokens: u32,
        generated_tokens: u32,
    },
    /// From just before the process was started to the end of its tenth step, in nanoseconds.
    TimeToStep10,
    /// Highest memory of training and generation, in bytes.
    PeakMemory,
    /// Of the GPU, in joules per 1,000 tokens of the samples themselves.
    TrainingEnergy,
}

impl Figure {
    fn better(self) -> Better {
        match self {
            Self::IterationRate | Self::TokenRate | Self::DecodeRate { .. } => Better::Higher,
            Self::GraphTime
            | Self::DispatchTime
            | Self::WaitTime
            | Self::TimeToStep10
            | Self::PeakMemory
            | Self::TrainingEnergy => Better::Lower,
        }
    }

    /// Whether a ratio is that of the other arm to the baseline. It is for times: a ratio above 1
    /// then says how many times as fast the baseline is, as one of rates does.
    pub fn inverted(self) -> bool {
        matches!(
            self,
            Self::GraphTime | Self::DispatchTime | Self::WaitTime | Self::TimeToStep10
        )
    }
}

/// The figures of one process. What was not measured, or is 0, is missing.
///
/// `warm_up` iterations at the beginning are in no rate.
pub(crate) fn figures(record: &Record, warm_up: usize) -> BTreeMap<Figure, f64> {
    let steady = record.iterations.get(warm_up..).unwrap_or_default();
    let seconds = |ns: f64| ns / 1e9;
    let steps = seconds(steady.iter().map(|it| it.step_ns as f64).sum());
    let tokens: f64 = steady.iter().map(|it| f64::from(it.real_tokens)).sum();
    let mut figures = BTreeMap::from([
        (Figure::IterationRate, steady.len() as f64 / steps),
        (Figure::TokenRate, tokens / steps),
    ]);
    if let Some(stages) = summary::stages(steady) {
        let each = |ns: u64| ns as f64 / steady.len() as f64;
        figures.insert(Figure::GraphTime, each(stages.graph_ns));
        figures.insert(Figure::DispatchTime, each(stages.dispatch_ns));
        figures.insert(Figure::WaitTime, each(stages.wait_ns));
    }
    for (prompt, generation) in (1..).zip(&record.generations) {
        let figure = Figure::DecodeRate {
            prompt,
            prompt_tokens: generation.prompt_tokens,
            generated_tokens: generation.token_ids.len() as u32,
        };
        let times = &generation.token_ns;
        let total = seconds(times.iter().map(|&ns| ns as f64).sum());
        figures.insert(figure, times.len() as f64 / total);
    }
    if let Some(ns) = summary::time_to_step_10_ns(record) {
        figures.insert(Figure::TimeToStep10, ns as f64);
    }
    if let Some(bytes) = peak_bytes(&record.iterations, &record.generations) {
        figures.insert(Figure::PeakMemory, bytes as f64);
    }
    if let Some(joules) = energy::gpu_training_joules(record) {
        figures.insert(Figure::TrainingEnergy, joules);
    }
    figures.retain(|_, value| value.is_finite() && *value > 0.0);
    figures
}

/// Highest memory that MLX, or what stands in its place, counted.
pub(crate) fn peak_bytes(iterations: &[Iteration], generations: &[Generation]) -> Option<u64> {
    let training = iterations.iter().map(|it| it.highest_bytes());
    let generation = generations.iter();
    let generation = generation.map(|g| g.highest_bytes());
    training.chain(generation).max()
}

/// One figure of one arm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ArmFigure {
    pub figure: Figure,
    /// One value each.
    pub runs: usize,
    pub geometric_mean: f64,
    pub median: f64,
    /// 95 % t interval of the geometric mean; `None` for one run.
    pub interval: Option<(f64, f64)>,
}

/// The figures that all of these processes have.
pub(crate) fn of_arm(
    processes: &[&BTreeMap<Figure, f64>],
    rules: &ComparisonRules,
) -> Vec<ArmFigure> {
    let Some(first) = processes.first() else {
        return Vec::new();
    };
    let of = |&figure: &Figure| {
        let values = values(processes, figure)?;
        let spread = spread(&values, rules)?;
        Some(ArmFigure {
            figure,
            runs: spread.runs,
            geometric_mean: spread.geometric_mean,
            median: stats::median(&values)?,
            interval: spread.interval,
        })
    };
    first.keys().filter_map(of).collect()
}

/// One figure of the baseline in relation to another arm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    pub figure: Figure,
    /// Whether it is that of the other arm to the baseline, rather than the reverse.
    pub inverted: bool,
    pub baseline_runs: usize,
    pub other_runs: usize,
    /// Of the geometric means.
    pub ratio: f64,
    pub of_medians: f64,
    /// 95 % interval of the first; `None` for one run in an arm.
    pub interval: Option<(f64, f64)>,
    pub method: Method,
    /// Whether the interval lies to one side of 1; `None` without an interval, and where the
    /// machine changed between the runs.
    pub excludes_one: Option<bool>,
}

/// The ratios of the figures that all of these processes have; none for runs of different work.
pub(crate) fn ratios(
    baseline: &[&BTreeMap<Figure, f64>],
    other: &[&BTreeMap<Figure, f64>],
    design: Design,
    circumstances: &Circumstances,
    rules: &ComparisonRules,
) -> Vec<Ratio> {
    let Some(first) = baseline.first() else {
        return Vec::new();
    };
    let of = |&figure: &Figure| {
        let arms = [values(baseline, figure)?, values(other, figure)?];
        let runs = |values: &[f64]| values.iter().copied().map(Run::alone).collect();
        let metric = Metric {
            name: String::new(),
            better: figure.better(),
            practical: None,
            baseline: runs(&arms[0]),
            candidate: runs(&arms[1]),
        };
        let compared = comparison::compare(&[metric], design, circumstances, None, rules).ok()?;
        let found = compared.metrics.first()?;
        let inverted = figure.inverted();
        // A comparison is that of the other arm to the baseline.
        let turned = |ratio: f64| if inverted { ratio } else { 1.0 / ratio };
        let interval = match found.decided_by {
            Method::Paired => found.paired,
            Method::Welch => found.welch,
        };
        let interval = interval.map(|interval| {
            let ends = [interval.low, interval.high].map(|end| turned(1.0 + end));
            (ends[0].min(ends[1]), ends[0].max(ends[1]))
        });
        let void = matches!(compared.verdict, Verdict::Void { .. });
        Some(Ratio {
            figure,
            inverted,
            baseline_runs: found.baseline_runs,
            other_runs: found.candidate_runs,
            ratio: turned(1.0 + found.change),
            of_medians: turned(stats::median(&arms[1])? / stats::median(&arms[0])?),
            interval,
            method: found.decided_by,
            excludes_one: interval
                .filter(|_| !void)
                .map(|(low, high)| low > 1.0 || high < 1.0),
        })
    };
    first.keys().filter_map(of).collect()
}

/// One value a process; `None` where one lacks it, and for no process.
fn values(processes: &[&BTreeMap<Figure, f64>], figure: Figure) -> Option<Vec<f64>> {
    let values = processes
        .iter()
        .map(|figures| figures.get(&figure).copied());
    let values: Option<Vec<f64>> = values.collect();
    values.filter(|values| !values.is_empty())
}
