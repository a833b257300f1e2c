//! Runs that differ in the amount of one kind of work, point by point: what was planned, what was
//! measured, and how the one grows with the other.
//!
//! A sweep's folder holds its [`Plan`] and the records of its runs, one process each. The plan says
//! which point a run belongs to; every figure is derived from the records.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::comparison::{self, Spread};
use crate::fields;
use crate::figures::MetricKind;
use crate::leak;
use crate::random::Generator;
use crate::record::Generation;
use crate::roofline::{self, Roofline, Share, Work};
use crate::rules::Rules;
use crate::scaling::{self, Constancy, GrowthComparison, Scaling};
use crate::sets::{self, Process, ProcessSummary};
use crate::stats;
use crate::store::{self, ReadError, Record};
use crate::study;
use crate::summary::{Summary as RunSummary, summarize as summarize_run};

/// Name of the plan in a sweep's folder.
pub const FILE_NAME: &str = "sweep.json";

/// Version of the plan's format, the only one that is read.
pub const VERSION: u32 = 1;

/// Times between tokens from which a rate of generation is taken, as in the roofline: part of the
/// first time lies before it.
pub const FEWEST_TOKEN_TIMES: usize = 16;

/// Times that a process goes through the lengths of the axis `context` where nothing else was
/// asked for. Even, as any other number of them: half of them go upward and half downward, so that
/// a steady drift of the machine adds as much to short prompts as to long ones.
pub const CONTEXT_ROUNDS: u32 = 4;

/// Of the times between tokens at one context. On a shared machine tokens take half as long again
/// for some tenths of a second, and which length that falls on says nothing of the length: such
/// times lie above the first quartile unless they are three quarters of all.
pub const CONTEXT_QUANTILE: f64 = 0.25;

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    BatchSize,
    SequenceLength,
    LoraRank,
    LoraLayers,
    Iterations,
    Threads,
    PromptLength,
    GenerationLength,
    /// Prompts of different lengths in one process, so that what differs between processes does
    /// not hide how the time per token grows.
    Context,
}

impl Axis {
    pub const ALL: [Self; 9] = [
        Self::BatchSize,
        Self::SequenceLength,
        Self::LoraRank,
        Self::LoraLayers,
        Self::Iterations,
        Self::Threads,
        Self::PromptLength,
        Self::GenerationLength,
        Self::Context,
    ];

    /// As it stands on the command line and in folders' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::BatchSize => "batch-size",
            Self::SequenceLength => "sequence-length",
            Self::LoraRank => "lora-rank",
            Self::LoraLayers => "lora-layers",
            Self::Iterations => "iterations",
            Self::Threads => "threads",
            Self::PromptLength => "prompt-length",
            Self::GenerationLength => "generation-length",
            Self::Context => "context",
        }
    }

    /// The axis of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|axis| axis.name() == name)
    }

    /// Whether its points measure training; the others measure generation.
    pub fn trains(self) -> bool {
        !matches!(
            self,
            Self::PromptLength | Self::GenerationLength | Self::Context
        )
    }

    /// Whether all its points are measured in each process, rather than one.
    pub fn shares_process(self) -> bool {
        self == Self::Context
    }

    /// What is fitted against the work.
    fn measures(self) -> &'static [Measure] {
        match self {
            // More threads are no more work.
            Self::Threads => &[],
            Self::Iterations => &[Measure::Memory],
            Self::PromptLength => &[Measure::Token, Measure::FirstToken, Measure::Memory],
            Self::GenerationLength => &[Measure::Token, Measure::Memory],
            Self::Context => &[Measure::Token],
            _ => &[Measure::Step, Measure::Memory],
        }
    }
}

/// A quantity that is fitted against the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Mean step after the warm-up in nanoseconds: against the padded tokens of a step where the
    /// axis varies these, or against the axis' value.
    Step,
    /// Mean time between tokens in nanoseconds, against the mean number of positions that the
    /// step behind each attends to. On [`Axis::Context`] it is not the
    /// mean but the first quartile ([`CONTEXT_QUANTILE`]).
    Token,
    /// Time to the first token in nanoseconds, against the prompt's tokens.
    FirstToken,
    /// Highest MLX memory of the measured part in bytes: against the work of [`Measure::Step`],
    /// or against the positions at the end of generation.
    Memory,
}

/// What a sweep is made of. Its runs are in [`Plan::runs`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub version: u32,
    /// Of the order.
    pub seed: u64,
    /// Processes of every program at every point.
    pub repeats: u32,
    /// Longest wait for the machine before each process.
    pub cool_down_limit_s: u64,
    /// Whether training data were generated for the sweep.
    pub generated_data: bool,
    /// Times that a process of the axis `context` goes through its lengths after the one that warms
    /// up.
    #[serde(default = "context_rounds")]
    pub context_rounds: u32,
    /// The first one is compared with the others.
    pub programs: Vec<Program>,
    pub points: Vec<Point>,
}

fn context_rounds() -> u32 {
    CONTEXT_ROUNDS
}

/// A program that is measured at every point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub name: String,
    /// Its file; null for the lfmark that runs the sweep.
    pub file: Option<PathBuf>,
    /// Environment variables that are set for it.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// One value of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    pub axis: Axis,
    pub value: u32,
}

impl Point {
    /// Part of folders' names; points that share a process have one.
    pub fn name(self) -> String {
        match self.axis.shares_process() {
            true => self.axis.name().to_owned(),
            false => format!("{}-{}", self.axis.name(), self.value),
        }
    }
}

/// One process: indices into the plan's programs and points, and its repeat from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRun {
    pub program: usize,
    pub point: usize,
    pub repeat: u32,
}

impl Plan {
    /// What the runs of a program at a point are called in their records.
    pub fn arm(&self, run: PlannedRun) -> String {
        let point = self.points[run.point].name();
        match &self.programs[..] {
            [_] => point,
            programs => format!("{point}-{}", programs[run.program].name),
        }
    }

    /// The points that processes are started for, by index: of those that share a process, the
    /// first.
    pub fn started(&self) -> Vec<usize> {
        let mut started: Vec<usize> = (0..self.points.len())
            .map(|point| self.started_for(point))
            .collect();
        started.sort_unstable();
        started.dedup();
        started
    }

    /// The point whose processes measure this one.
    fn started_for(&self, point: usize) -> usize {
        let axis = self.points[point].axis;
        let mut points = self.points.iter();
        let first = points.position(|other| other.axis == axis);
        first.filter(|_| axis.shares_process()).unwrap_or(point)
    }

    /// Values of an axis, in their order.
    pub fn values(&self, axis: Axis) -> Vec<u32> {
        let points = self.points.iter().filter(|point| point.axis == axis);
        points.map(|point| point.value).collect()
    }

    /// Every process in its order: for each repeat all points, shuffled anew so that a drift of
    /// the machine does not look like scaling; at each point all programs, forward and backward
    /// in turn.
    pub fn runs(&self) -> Vec<PlannedRun> {
        let mut runs = Vec::new();
        for repeat in 1..=self.repeats {
            let mut order = self.started();
            shuffle(&mut order, self.seed, repeat);
            for (place, point) in order.into_iter().enumerate() {
                let count = self.programs.len();
                let backward = (place + repeat as usize).is_multiple_of(2);
                runs.extend((0..count).map(|index| PlannedRun {
                    program: if backward { count - 1 - index } else { index },
                    point,
                    repeat,
                }));
            }
        }
        runs
    }
}

/// Fisher and Yates' shuffle (Durstenfeld 1964, doi:10.1145/364520.364540).
fn shuffle(order: &mut [usize], seed: u64, repeat: u32) {
    let mut generator = Generator::stream(seed, repeat.into());
    for last in (1..order.len()).rev() {
        order.swap(last, generator.below(last + 1));
    }
}

/// Why there is no sweep. The messages hold their causes, which are no sources.
#[derive(Debug, Error)]
pub enum SweepError {
    #[error("cannot read {path}: {error}; name the folder that `lfmark sweep` wrote")]
    File { path: PathBuf, error: io::Error },
    #[error("{path} is no plan of a sweep: {error}")]
    Plan {
        path: PathBuf,
        error: serde_json::Error,
    },
    #[error(
        "{path} has version {version}, and this lfmark reads {VERSION}; use the one that wrote it"
    )]
    Version { path: PathBuf, version: u32 },
}

/// A plan, and the runs there are of it in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    pub plan: Plan,
    pub runs: Vec<Run>,
    /// What had to be left out when reading, one sentence each.
    pub notices: Vec<String>,
}

/// One process of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub planned: PlannedRun,
    pub process: Process,
    sample: Sample,
}

impl Run {
    pub fn is_complete(&self) -> bool {
        self.process.run.is_complete()
    }
}

/// What a sweep needs of one record.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sample {
    step_ns: Option<f64>,
    /// Of a step, on average.
    padded_tokens: Option<f64>,
    real_tokens: Option<f64>,
    training_peak: Option<f64>,
    leak: Option<leak::Verdict>,
    first_token_ns: Option<f64>,
    prompt_tokens: Option<f64>,
    token_ns: Option<f64>,
    /// Positions that the steps behind the times between tokens attended to, on average.
    context: Option<f64>,
    /// Positions at the end.
    positions: Option<f64>,
    generation_peak: Option<f64>,
    training_use: Option<Use>,
    decode_use: Option<Use>,
    /// By the prompt's tokens.
    contexts: BTreeMap<u32, ContextSample>,
}

/// What the generations after prompts of one length have, but for the first of them: it compiles
/// kernels and fills caches.
#[derive(Clone, Debug, Default, PartialEq)]
struct ContextSample {
    /// Mean.
    first_token_ns: Option<f64>,
    /// Median of all their times between tokens.
    token_ns: Option<f64>,
    /// As of a [`Sample`].
    context: Option<f64>,
    peak: Option<f64>,
    specified: Option<f64>,
    measured: Option<f64>,
}

/// Shares of what the device has.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Use {
    specified: Option<f64>,
    measured: Option<f64>,
}

impl Use {
    fn of(found: &roofline::Use) -> Self {
        Self {
            specified: found.specified.as_ref().map(|it| match it.share {
                Share::Of(share) | Share::Impossible(share) => share,
            }),
            measured: found.measured_share,
        }
    }
}

/// One time between tokens.
struct TokenTime {
    ns: f64,
    /// Positions that the step behind it attended to.
    context: f64,
}

fn times(generation: &Generation) -> impl Iterator<Item = TokenTime> {
    (1..)
        .zip(&generation.token_ns)
        .map(|(after, ns)| TokenTime {
            ns: *ns as f64,
            // The step for the next token attends to the prompt and all tokens before it.
            context: f64::from(generation.prompt_tokens) + f64::from(after),
        })
}

/// By the prompt's tokens.
fn contexts(record: &Record, roofline: &Roofline) -> BTreeMap<u32, ContextSample> {
    let numbered: Vec<(usize, &Generation)> = (1..).zip(&record.generations).collect();
    let lengths: BTreeSet<u32> = numbered.iter().map(|(_, it)| it.prompt_tokens).collect();
    let of_length = |length| {
        let same = numbered.iter().filter(|(_, it)| it.prompt_tokens == length);
        let counted: Vec<(usize, &Generation)> = same.skip(1).copied().collect();
        let mean = |of: &dyn Fn(usize, &Generation) -> Option<f64>| {
            let values: Vec<f64> = counted.iter().filter_map(|(n, it)| of(*n, it)).collect();
            stats::mean(&values)
        };
        let used = |number| {
            let decode = |it: &&roofline::Use| it.work == Work::Decode(number);
            roofline.uses.iter().find(decode).map(Use::of)
        };
        let times: Vec<TokenTime> = counted.iter().flat_map(|(_, it)| times(it)).collect();
        let enough = times.len() >= FEWEST_TOKEN_TIMES;
        let values = |of: fn(&TokenTime) -> f64| -> Vec<f64> {
            times.iter().filter(|_| enough).map(of).collect()
        };
        ContextSample {
            first_token_ns: mean(&|_, it| Some(it.first_token_ns as f64)),
            token_ns: stats::quantile(&values(|it| it.ns), CONTEXT_QUANTILE),
            context: stats::mean(&values(|it| it.context)),
            peak: counted
                .iter()
                .map(|(_, it)| it.highest_bytes() as f64)
                .reduce(f64::max),
            specified: mean(&|number, _| used(number)?.specified),
            measured: mean(&|number, _| used(number)?.measured),
        }
    };
    lengths
        .into_iter()
        .map(|length| (length, of_length(length)))
        .collect()
}

/// Whether a folder is that of a sweep.
pub fn is_sweep(dir: &Path) -> bool {
    dir.join(FILE_NAME).is_file()
}

/// Reads the plan in a folder.
///
/// # Errors
///
/// See [`SweepError`].
pub fn read_plan(dir: &Path) -> Result<Plan, SweepError> {
    let path = dir.join(FILE_NAME);
    let text = fs::read_to_string(&path).map_err(|error| SweepError::File {
        path: path.clone(),
        error,
    })?;
    parse_plan(&text, &path)
}

/// Parses the text of a plan; `path` is where errors say it is.
///
/// # Errors
///
/// See [`SweepError`].
pub fn parse_plan(text: &str, path: &Path) -> Result<Plan, SweepError> {
    let no_plan = |error| SweepError::Plan {
        path: path.to_owned(),
        error,
    };
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_str(text).map_err(no_plan)?;
    if version != VERSION {
        return Err(SweepError::Version {
            path: path.to_owned(),
            version,
        });
    }
    serde_json::from_str(text).map_err(no_plan)
}

/// Reads a sweep from its folder. A run that cannot be read, or is of no planned point, becomes a
/// notice.
///
/// # Errors
///
/// See [`SweepError`].
pub fn read(dir: &Path) -> Result<Sweep, SweepError> {
    let plan = read_plan(dir)?;
    let folders = sets::run_folders(dir).map_err(|error| SweepError::File {
        path: dir.to_owned(),
        error,
    })?;
    // One at a time: a record can be large.
    let records = folders.into_iter().map(|name| {
        let record = store::read(&dir.join(&name));
        (name, record)
    });
    Ok(Sweep::new(plan, records))
}

impl Sweep {
    /// From the records with the names of their folders.
    pub fn new(
        plan: Plan,
        records: impl IntoIterator<Item = (String, Result<Record, ReadError>)>,
    ) -> Self {
        let planned = plan.runs();
        let mut runs: Vec<Run> = Vec::new();
        let mut notices = Vec::new();
        for (folder, record) in records {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    notices.push(sets::left_out(&folder, &error));
                    continue;
                }
            };
            let summary = summarize_run(&record);
            let run = crate::run::Run::with(&folder, &record, &summary);
            let Some(process) = Process::from_run(run) else {
                notices.push(format!("{folder} is left out: it is no run of a sweep"));
                continue;
            };
            let member = &process.member;
            let is_its =
                |run: &&PlannedRun| run.repeat == member.repeat && plan.arm(**run) == member.arm;
            let Some(&run) = planned.iter().find(is_its) else {
                notices.push(format!("{folder} is left out: the plan has no such run"));
                continue;
            };
            let axis = plan.points[run.point].axis;
            let values = match axis.shares_process() {
                true => plan.values(axis),
                false => vec![plan.points[run.point].value],
            };
            if process.run.is_complete()
                && let Some(other) = differs(axis, &values, &record)
            {
                let values: Vec<String> = values.iter().map(u32::to_string).collect();
                notices.push(format!(
                    "{folder} is left out: it was planned with {} {} and recorded with {other}",
                    axis.name(),
                    values.join(", ")
                ));
                continue;
            }
            runs.push(Run {
                planned: run,
                sample: Sample::of(&process, &record, &summary),
                process,
            });
        }
        runs.sort_by_key(|run| run.process.member.number);
        Self {
            plan,
            runs,
            notices,
        }
    }

    /// The planned runs that have no complete one, in their order.
    pub fn missing(&self) -> Vec<PlannedRun> {
        let complete = |planned: &PlannedRun| {
            let mut runs = self.runs.iter();
            runs.any(|run| run.planned == *planned && run.is_complete())
        };
        let mut missing = self.plan.runs();
        missing.retain(|planned| !complete(planned));
        missing
    }

    /// Complete runs of a program at a point.
    fn at(&self, program: usize, point: usize) -> Vec<&Run> {
        let point = self.plan.started_for(point);
        let runs = self.runs.iter();
        let here = |run: &&Run| run.planned.program == program && run.planned.point == point;
        runs.filter(here).filter(|run| run.is_complete()).collect()
    }

    fn rules(&self) -> Rules {
        let first = self.runs.first();
        first
            .and_then(|run| run.process.run.start.rules)
            .unwrap_or_default()
    }
}

/// The value of the axis that a complete record has, where that is another than planned. The
/// number of threads is in no record.
fn differs(axis: Axis, values: &[u32], record: &Record) -> Option<String> {
    let config = &record.start.config;
    let generations = record.generations.iter();
    let recorded: Vec<u64> = match axis {
        Axis::BatchSize => vec![config.batch_size.into()],
        Axis::SequenceLength => record
            .iterations
            .iter()
            .map(|it| u64::from(it.padded_tokens / it.rows.max(1)))
            .collect(),
        Axis::LoraRank => vec![config.lora.rank.into()],
        Axis::LoraLayers => vec![config.lora.layers.into()],
        Axis::Iterations => vec![record.iterations.len() as u64],
        Axis::Threads => Vec::new(),
        Axis::PromptLength | Axis::Context => {
            generations.map(|it| it.prompt_tokens.into()).collect()
        }
        Axis::GenerationLength => generations.map(|it| it.token_ids.len() as u64).collect(),
    };
    let other = recorded
        .into_iter()
        .find(|it| !values.iter().any(|value| u64::from(*value) == *it));
    other.map(|other| other.to_string())
}

impl Sample {
    fn of(process: &Process, record: &Record, summary: &RunSummary) -> Self {
        let training = summary.training.as_ref();
        let per_step = |total: u64| {
            let steps = record.iterations.len();
            (steps > 0).then(|| total as f64 / steps as f64)
        };
        let roofline = roofline::roofline(record, summary);
        let used = |wanted: fn(Work) -> bool| {
            let found = roofline.uses.iter().find(|it| wanted(it.work))?;
            Some(Use::of(found))
        };
        let metric = |metric| process.run.value(metric);
        let token_times: Vec<TokenTime> = record.generations.iter().flat_map(times).collect();
        let enough = token_times.len() >= FEWEST_TOKEN_TIMES;
        let mean_time = |of: fn(&TokenTime) -> f64| {
            let values: Vec<f64> = token_times.iter().map(of).collect();
            stats::mean(&values).filter(|_| enough)
        };
        let generations = record.generations.iter();
        let most =
            |of: fn(&Generation) -> u64| generations.clone().map(of).max().map(|it| it as f64);
        Self {
            step_ns: metric(MetricKind::StepTime),
            padded_tokens: training.and_then(|it| per_step(it.padded_tokens.total)),
            real_tokens: training.and_then(|it| per_step(it.real_tokens.total)),
            training_peak: training.map(|it| it.peak_bytes as f64),
            leak: summary.memory.growth.map(|growth| growth.verdict),
            first_token_ns: metric(MetricKind::FirstToken),
            prompt_tokens: most(|it| it.prompt_tokens.into()),
            token_ns: mean_time(|it| it.ns),
            context: mean_time(|it| it.context),
            positions: most(|it| u64::from(it.prompt_tokens) + it.token_ids.len() as u64),
            generation_peak: most(|it| it.highest_bytes()),
            training_use: used(|work| work == Work::Training),
            decode_use: used(|work| matches!(work, Work::Decode(_))),
            contexts: contexts(record, &roofline),
        }
    }

    /// Work and value of a measure, where both are there.
    fn value(&self, measure: Measure, point: Point) -> Option<(f64, f64)> {
        let work = match point.axis {
            Axis::BatchSize | Axis::SequenceLength => self.padded_tokens,
            _ => Some(f64::from(point.value)),
        };
        if point.axis.shares_process() {
            let at = self.contexts.get(&point.value)?;
            return match measure {
                Measure::Token => Some((at.context?, at.token_ns?)),
                Measure::FirstToken => Some((f64::from(point.value), at.first_token_ns?)),
                Measure::Memory => Some((at.context?, at.peak?)),
                Measure::Step => None,
            };
        }
        let (x, y) = match measure {
            Measure::Step => (work, self.step_ns),
            Measure::Token => (self.context, self.token_ns),
            Measure::FirstToken => (self.prompt_tokens, self.first_token_ns),
            Measure::Memory if point.axis.trains() => (work, self.training_peak),
            Measure::Memory => (self.positions, self.generation_peak),
        };
        Some((x?, y?))
    }
}

/// Everything a report shows of a sweep, derived by [`summarize`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// In the order of the plan.
    pub axes: Vec<AxisSummary>,
    /// In the order of time.
    pub processes: Vec<ProcessSummary>,
    pub planned: usize,
    /// Planned runs that were completed.
    pub complete: usize,
    /// What could not be read, and so was no condition, in at least one wait.
    pub unread: Vec<String>,
    /// Why the runs do not differ in their points alone.
    pub warnings: Vec<String>,
    pub notices: Vec<String>,
}

/// One axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AxisSummary {
    pub axis: Axis,
    /// In the order of the plan.
    pub programs: Vec<ProgramSummary>,
    /// The first program against each other one.
    pub comparisons: Vec<ProgramComparison>,
}

/// One program along an axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProgramSummary {
    pub program: String,
    /// By value.
    pub points: Vec<PointSummary>,
    pub fits: Vec<Fit>,
    /// Of the peak memory over the number of iterations.
    pub constancy: Option<Constancy>,
}

/// One program at one point: means over its complete runs. What none of them has is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointSummary {
    pub value: u32,
    pub planned: usize,
    pub complete: usize,
    /// What [`Measure::Step`] or [`Measure::Token`] is fitted against.
    pub work: Option<f64>,
    /// Tokens of a step of training, padding included.
    pub step_tokens: Option<f64>,
    /// Of a step, or between tokens, in nanoseconds.
    pub time: Option<Spread>,
    pub first_token: Option<Spread>,
    /// Real tokens of training, or generated ones.
    pub tokens_per_second: Option<f64>,
    /// Highest of the complete runs, in bytes.
    pub peak_bytes: Option<f64>,
    /// Of what is specified of the device: arithmetic for training, bandwidth for generation.
    pub specified_share: Option<f64>,
    /// Of the measured bandwidth.
    pub measured_share: Option<f64>,
    /// The verdicts of the runs on their memory, each once.
    pub leaks: Vec<leak::Verdict>,
}

/// A measure against the work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    pub measure: Measure,
    pub points: Vec<scaling::Point>,
    pub scaling: Scaling,
}

/// How the first program grows beside another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProgramComparison {
    pub measure: Measure,
    pub candidate: String,
    pub reference: String,
    /// `None` where it cannot be computed, or where they did different work.
    pub compared: Option<GrowthComparison>,
    /// Why they did not do the same work.
    pub different_work: Option<String>,
}

/// Derives everything that is shown of a sweep.
pub fn summarize(sweep: &Sweep) -> Summary {
    let rules = sweep.rules();
    let mut axes: Vec<Axis> = Vec::new();
    for point in &sweep.plan.points {
        if !axes.contains(&point.axis) {
            axes.push(point.axis);
        }
    }
    let complete: Vec<&crate::run::Run> = sweep
        .runs
        .iter()
        .filter(|run| run.is_complete())
        .map(|run| &run.process.run)
        .collect();
    let mut warnings = Vec::new();
    warnings.extend(study::several_machines(&complete));
    warnings.extend(study::machine_changed(&complete));
    warnings.extend(changed_program(sweep));
    let missing = sweep.missing().len();
    let planned = sweep.plan.runs().len();
    Summary {
        axes: axes
            .into_iter()
            .map(|axis| of_axis(sweep, axis, &rules))
            .collect(),
        processes: sweep
            .runs
            .iter()
            .map(|run| ProcessSummary::of(&run.process))
            .collect(),
        planned,
        complete: planned - missing,
        unread: sets::unread(sweep.runs.iter().map(|run| &run.process)),
        warnings,
        notices: sweep.notices.clone(),
    }
}

/// Whether runs of one program were of different builds or libraries.
fn changed_program(sweep: &Sweep) -> Option<String> {
    (0..sweep.plan.programs.len()).find_map(|program| {
        let mut runs = sweep.runs.iter();
        let first = runs.find(|run| run.planned.program == program)?;
        let build = |run: &Run| {
            let start = &run.process.run.start;
            (start.lfmark.clone(), start.mlx.clone())
        };
        let other =
            runs.find(|run| run.planned.program == program && build(run) != build(first))?;
        Some(format!(
            "{} and {} ran with different builds or libraries",
            first.process.run.name, other.process.run.name
        ))
    })
}

fn of_axis(sweep: &Sweep, axis: Axis, rules: &Rules) -> AxisSummary {
    let points = (0..).zip(&sweep.plan.points);
    let mut points: Vec<(usize, Point)> = points
        .filter(|(_, point)| point.axis == axis)
        .map(|(index, point)| (index, *point))
        .collect();
    points.sort_by_key(|(_, point)| point.value);
    let programs: Vec<ProgramSummary> = (0..)
        .zip(&sweep.plan.programs)
        .map(|(index, program)| of_program(sweep, index, &program.name, &points, rules))
        .collect();
    let comparisons = match programs.split_first() {
        Some((first, others)) => (1..)
            .zip(others)
            .flat_map(|(index, other)| {
                let different = different_work(sweep, index, &points);
                compared(first, other, different, rules)
            })
            .collect(),
        None => Vec::new(),
    };
    AxisSummary {
        axis,
        programs,
        comparisons,
    }
}

fn of_program(
    sweep: &Sweep,
    program: usize,
    name: &str,
    points: &[(usize, Point)],
    rules: &Rules,
) -> ProgramSummary {
    let axis = points.first().map(|(_, point)| point.axis);
    let measures = axis.map_or(&[][..], Axis::measures);
    let fits: Vec<Fit> = measures
        .iter()
        .map(|&measure| {
            let values: Vec<scaling::Point> = points
                .iter()
                .flat_map(|&(index, point)| {
                    let runs = sweep.at(program, index).into_iter();
                    runs.filter_map(move |run| run.sample.value(measure, point))
                })
                .map(|(x, value)| scaling::Point {
                    x,
                    values: vec![value],
                })
                .collect();
            Fit {
                measure,
                scaling: match axis {
                    Some(axis) if axis.shares_process() => {
                        scaling::fit_within(&within(sweep, program, measure, points))
                    }
                    _ => scaling::fit(&values),
                },
                points: values,
            }
        })
        .collect();
    let constancy = match (axis, &fits[..]) {
        (Some(Axis::Iterations), [memory]) => memory.scaling.line().map(|line| {
            let level = line.at(line.range.0);
            let share = rules.leak.smallest_growth_share * level;
            scaling::constancy(line, share.max(rules.leak.smallest_growth_bytes))
        }),
        _ => None,
    };
    ProgramSummary {
        program: name.to_owned(),
        points: points
            .iter()
            .map(|&(index, point)| of_point(sweep, program, index, point, rules))
            .collect(),
        fits,
        constancy,
    }
}

/// Work and value of a measure at these points, which share their processes, by process.
fn within(
    sweep: &Sweep,
    program: usize,
    measure: Measure,
    points: &[(usize, Point)],
) -> Vec<Vec<(f64, f64)>> {
    let first = points.first();
    let runs = first.map_or(Vec::new(), |&(index, _)| sweep.at(program, index));
    let of_run = |run: &Run| {
        let points = points.iter();
        let values = points.filter_map(|&(_, point)| run.sample.value(measure, point));
        values.collect()
    };
    runs.into_iter().map(of_run).collect()
}

fn of_point(
    sweep: &Sweep,
    program: usize,
    index: usize,
    point: Point,
    rules: &Rules,
) -> PointSummary {
    let runs = sweep.at(program, index);
    let all = |of: &dyn Fn(&Sample) -> Option<f64>| -> Vec<f64> {
        runs.iter().filter_map(|run| of(&run.sample)).collect()
    };
    let mean = |of: &dyn Fn(&Sample) -> Option<f64>| stats::mean(&all(of));
    let spread =
        |of: &dyn Fn(&Sample) -> Option<f64>| comparison::spread(&all(of), &rules.comparison);
    let trains = point.axis.trains();
    let measure = if trains {
        Measure::Step
    } else {
        Measure::Token
    };
    let time = spread(&|sample| sample.value(measure, point).map(|(_, time)| time));
    let tokens = match trains {
        true => mean(&|sample| sample.real_tokens),
        false => Some(1.0),
    };
    let used = |sample: &Sample| match (trains, sample.contexts.get(&point.value)) {
        (true, _) => sample.training_use,
        (false, Some(at)) if point.axis.shares_process() => Some(Use {
            specified: at.specified,
            measured: at.measured,
        }),
        (false, _) => sample.decode_use,
    };
    let mut leaks = Vec::new();
    for leak in runs
        .iter()
        .filter_map(|run| run.sample.leak)
        .filter(|_| trains)
    {
        if !leaks.contains(&leak) {
            leaks.push(leak);
        }
    }
    PointSummary {
        value: point.value,
        planned: sweep.plan.repeats as usize,
        complete: runs.len(),
        work: mean(&|sample| sample.value(measure, point).map(|(work, _)| work)),
        step_tokens: mean(&|sample| sample.padded_tokens.filter(|_| trains)),
        tokens_per_second: time
            .zip(tokens)
            .map(|(time, tokens)| 1e9 * tokens / time.geometric_mean),
        time,
        first_token: match trains {
            true => None,
            false => spread(&|sample| Some(sample.value(Measure::FirstToken, point)?.1)),
        },
        peak_bytes: all(&|sample| Some(sample.value(Measure::Memory, point)?.1))
            .into_iter()
            .reduce(f64::max),
        specified_share: mean(&|sample| used(sample)?.specified),
        measured_share: mean(&|sample| used(sample)?.measured),
        leaks,
    }
}

/// Why the first program and another one did different work at a point.
fn different_work(sweep: &Sweep, program: usize, points: &[(usize, Point)]) -> Option<String> {
    points.iter().find_map(|&(index, _)| {
        let (first, other) = (sweep.at(0, index), sweep.at(program, index));
        let (first, other) = (first.first()?, other.first()?);
        let found = study::differences(&[&first.process.run, &other.process.run], |key| &key.work);
        (!found.is_empty()).then(|| fields::texts(&found))
    })
}

fn compared(
    first: &ProgramSummary,
    other: &ProgramSummary,
    different_work: Option<String>,
    rules: &Rules,
) -> Vec<ProgramComparison> {
    let pairs = first.fits.iter().zip(&other.fits);
    let pairs = pairs.map(|(candidate, reference)| ProgramComparison {
        measure: candidate.measure,
        candidate: first.program.clone(),
        reference: other.program.clone(),
        compared: match &different_work {
            Some(_) => None,
            None => scaling::compare_growth(
                &candidate.scaling,
                &reference.scaling,
                rules.comparison.practical,
            ),
        },
        different_work: different_work.clone(),
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;
