//! One run: everything that is derived from its record to compare it, once.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use crate::comparison;
use crate::energy::Slice;
use crate::figures::MetricKind;
use crate::figures::{self, Figure};
use crate::key::Key;
use crate::leak;
use crate::record::{Iteration, Member, Start};
use crate::stats;
use crate::store::Record;
use crate::summary::{self, PerIteration, RunStatus, Summary};
use crate::validity::{Conditions, Mark};

use serde::Serialize;

/// Windows a run gives to the bootstrap, at most.
const MOST_WINDOWS: usize = 20;

/// What is derived from one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Of its folder.
    pub name: String,
    /// The same for a copy of it.
    pub identity: u64,
    /// What it was started with, but for the lengths of its samples. A collection of many runs
    /// shares that of the first one like it.
    pub start: Rc<Start>,
    pub started_unix_ms: u64,
    /// Its place among the runs that it was started with.
    pub member: Option<Member>,
    pub key: Key,
    pub status: RunStatus,
    /// For a run that was interrupted or failed: why, as it was recorded.
    pub reason: Option<String>,
    pub conditions: Conditions,
    /// What happened to the machine, or is true of it.
    pub marks: Vec<Mark>,
    /// The metrics that were measured.
    pub metrics: BTreeMap<MetricKind, comparison::Run>,
    /// The figures that were measured.
    pub figures: BTreeMap<Figure, f64>,
    /// Mean power by rail, of training and of generation.
    pub watts: BTreeMap<String, Watts>,
    /// What the processor counted of an iteration.
    pub counts: BTreeMap<Count, f64>,
    /// What the memory did over the iterations.
    pub growth: Option<leak::Verdict>,
    /// Tokens of every prompt, and tokens generated for it.
    pub texts: Vec<(u32, usize)>,
}

/// What the processor counted of a process, per iteration. It is shown and decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    Instructions,
    Cycles,
    /// Joules that macOS billed to the process.
    ProcessEnergy,
}

impl Count {
    pub const ALL: [Self; 3] = [Self::Instructions, Self::Cycles, Self::ProcessEnergy];

    fn of(self, counted: &PerIteration) -> Option<f64> {
        match self {
            Self::Instructions => counted.instructions,
            Self::Cycles => counted.cycles,
            Self::ProcessEnergy => counted.energy_joules,
        }
    }
}

/// Mean power of one rail in watts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Watts {
    pub training: Option<f64>,
    pub generation: Option<f64>,
}

impl Run {
    /// Of a record. `name` is that of its folder.
    pub fn of(name: &str, record: &Record) -> Self {
        Self::with(name, record, &summary::summarize(record))
    }

    /// As [`Run::of`], from the summary of the record too.
    pub(crate) fn with(name: &str, record: &Record, summary: &Summary) -> Self {
        let mut start = record.start.clone();
        start.data.sample_tokens = Vec::new();
        let warm_up = summary.steadiness.map_or(0, |judged| judged.cropped);
        Self {
            name: name.to_owned(),
            identity: identity(record),
            started_unix_ms: start.started_unix_ms,
            member: start.member.clone(),
            start: Rc::new(start),
            key: Key::of(record),
            status: summary.status,
            reason: summary.reason.clone(),
            conditions: Conditions::of(record),
            marks: summary.marks.clone(),
            metrics: metrics(record, warm_up),
            figures: figures::figures(record, warm_up),
            watts: watts(summary),
            counts: counts(summary),
            growth: summary.memory.growth.map(|growth| growth.verdict),
            texts: record
                .generations
                .iter()
                .map(|it| (it.prompt_tokens, it.token_ids.len()))
                .collect(),
        }
    }

    /// Whether it ended in order.
    pub fn is_complete(&self) -> bool {
        self.status == RunStatus::Complete
    }

    /// A metric, where it was measured.
    pub fn value(&self, metric: MetricKind) -> Option<f64> {
        self.metrics.get(&metric).map(|run| run.value)
    }

    /// Every metric that was measured.
    pub fn values(&self) -> BTreeMap<MetricKind, f64> {
        let metrics = self.metrics.iter();
        metrics.map(|(metric, run)| (*metric, run.value)).collect()
    }
}

/// Stands for what was measured, so that a copy has the same.
fn identity(record: &Record) -> u64 {
    let start = &record.start;
    let times: Vec<u64> = record.iterations.iter().map(|it| it.step_ns).collect();
    let mut hasher = DefaultHasher::new();
    (&start.run_id, start.started_unix_ms, &times).hash(&mut hasher);
    for generation in &record.generations {
        generation.token_ns.hash(&mut hasher);
    }
    hasher.finish()
}

fn counts(summary: &Summary) -> BTreeMap<Count, f64> {
    let counted = summary.counted.as_ref().and_then(|it| it.training.as_ref());
    let all = Count::ALL.into_iter();
    all.filter_map(|count| Some((count, count.of(counted?)?)))
        .collect()
}

fn watts(summary: &Summary) -> BTreeMap<String, Watts> {
    let rails = summary.energy.iter().flat_map(|energy| &energy.rails);
    let of = |slice: &Option<Slice>| slice.as_ref().map(|it| it.watts).filter(|it| *it > 0.0);
    let rails = rails.map(|rail| {
        let watts = Watts {
            training: of(&rail.training),
            generation: of(&rail.generation),
        };
        (rail.name.clone(), watts)
    });
    rails.collect()
}
/// The metrics of a record. What was not measured, or is 0, is missing. The first `warm_up`
/// iterations are in no time after the warm-up.
fn metrics(record: &Record, warm_up: usize) -> BTreeMap<MetricKind, comparison::Run> {
    let steps: Vec<u64> = record.iterations.iter().map(|it| it.step_ns).collect();
    let steady = record.iterations.get(warm_up..).unwrap_or_default();
    let mean_step = |block: &[Iteration]| {
        let total: f64 = block.iter().map(|it| it.step_ns as f64).sum();
        total / block.len() as f64
    };
    let p95 = stats::describe(&steps[warm_up.min(steps.len())..]).map(|steps| steps.p95);
    let generations = &record.generations;
    let firsts = generations.iter().filter(|g| !g.token_ids.is_empty());
    let firsts: Vec<f64> = firsts.map(|g| g.first_token_ns as f64).collect();
    let tokens = generations.iter().flat_map(|g| &g.token_ns);
    let tokens: Vec<f64> = tokens.map(|&ns| ns as f64).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    // Copying memory takes some of its own, more than a small model.
    let states = record.states.iter().filter(|state| state.copies.is_none());
    let footprints = (record.iterations.iter().map(|it| it.footprint_bytes))
        .chain(generations.iter().map(|g| g.footprint_bytes))
        .chain(states.map(|state| state.footprint_bytes))
        .flatten();
    let alone = comparison::Run::alone;
    let all = [
        (MetricKind::StepTime, Some(over_time(steady, mean_step))),
        (MetricKind::StepP95, p95.map(alone)),
        (MetricKind::IterationWall, Some(over_time(steady, wall))),
        (MetricKind::FirstToken, Some(alone(mean(&firsts)))),
        (MetricKind::TokenTime, Some(alone(mean(&tokens)))),
        (
            MetricKind::PeakMemory,
            figures::peak_bytes(&record.iterations, generations).map(|bytes| alone(bytes as f64)),
        ),
        (
            MetricKind::Footprint,
            footprints.max().map(|bytes| alone(bytes as f64)),
        ),
        (
            MetricKind::TimeToStep10,
            summary::time_to_step_10_ns(record).map(|ns| alone(ns as f64)),
        ),
    ];
    let positive = |value: &f64| value.is_finite() && *value > 0.0;
    all.into_iter()
        .filter_map(|(metric, run)| Some((metric, run?)))
        .filter(|(_, run)| positive(&run.value) && run.windows.iter().all(positive))
        .collect()
}

/// A value over all these iterations, and over equal blocks of them; those left over at the end
/// are in no block.
fn over_time(iterations: &[Iteration], value: impl Fn(&[Iteration]) -> f64) -> comparison::Run {
    let width = iterations.len().div_ceil(MOST_WINDOWS).max(1);
    comparison::Run {
        value: value(iterations),
        windows: iterations.chunks_exact(width).map(&value).collect(),
    }
}

/// Wall time per iteration in nanoseconds.
fn wall(iterations: &[Iteration]) -> f64 {
    let (Some(first), Some(last)) = (iterations.first(), iterations.last()) else {
        return f64::NAN;
    };
    let end = last.start_ns as f64 + last.data_ns as f64 + last.step_ns as f64;
    (end - first.start_ns as f64) / iterations.len() as f64
}
