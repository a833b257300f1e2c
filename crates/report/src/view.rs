//! A record and its summary as rows and sentences for people.
//!
//! Every string of a [`View`] is Markdown: numbers went through [`units`], and whatever came from
//! outside went through [`markdown`](crate::markdown). The template decides what is said and in
//! which order.

use metrics::record::Weights;
use metrics::store::Record;
use metrics::summary::{RunStatus, Summary};
use serde::Serialize;

use crate::charts::{self, ChartError};
use crate::markdown::{Align, escape, table};
use crate::units::{self, NOT_MEASURED};
use crate::{File, ReportError};

mod budget;
mod configuration;
mod generation;
mod limits;
mod memory;
mod system;
mod training;
mod windows;

/// Says that a fact, other than a measurement, is not in the record.
const NOT_RECORDED: &str = "not recorded";

/// Every chart in the order of the report, with the template's name for its presence.
pub(crate) const CHARTS: [(&str, &str); 5] = [
    ("step-time.svg", "step_time_chart"),
    ("loss.svg", "loss_chart"),
    ("generation.svg", "generation_chart"),
    ("memory.svg", "memory_chart"),
    ("time-budget.svg", "time_budget_chart"),
];

/// What the template fills in.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    model: String,
    device: String,
    status: Status,
    notices: Vec<String>,
    weights: WeightsView,
    overview: Overview,
    configuration: String,
    adapters: configuration::Adapters,
    training: Option<training::TrainingView>,
    stability: Option<training::Stability>,
    generation: Option<generation::GenerationView>,
    memory: memory::MemoryView,
    system: String,
    machine_state: String,
    budget: budget::BudgetView,
    /// Whether the charts over iterations draw the extremes of groups instead of every one.
    thinned: bool,
    limits: limits::Limits,
}

impl View {
    pub(crate) fn new(record: &Record, summary: &Summary) -> Self {
        let start = &record.start;
        Self {
            model: escape(&start.model.name),
            device: device(record),
            status: status(summary),
            notices: record.notices.iter().map(|notice| escape(notice)).collect(),
            weights: weights(&start.model.weights),
            overview: overview(record, summary),
            configuration: configuration::configuration(record, summary),
            adapters: configuration::adapters(record),
            training: summary
                .training
                .as_ref()
                .map(|training| training::training_view(record, summary, training)),
            stability: training::stability(record, summary),
            generation: generation::generation(record, summary),
            memory: memory::memory(record, summary),
            system: system::system(record),
            machine_state: system::machine_state(&record.states),
            budget: budget::budget(&summary.budget),
            thinned: record.iterations.len() > charts::POINT_LIMIT,
            limits: limits::limits(record, summary),
        }
    }
}

#[derive(Debug, Serialize)]
struct Status {
    complete: bool,
    /// How the run ended, in a word or two.
    ended: &'static str,
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct WeightsView {
    random: bool,
    /// Where the weights came from.
    source: String,
}

#[derive(Debug, Serialize)]
struct Overview {
    parameters: String,
    dtype: String,
    trainable: String,
    lfmark: String,
    mlx: String,
    backend: String,
    iterations: String,
    configured_iterations: String,
    batch_size: u32,
    prompts: usize,
}

/// Draws the charts this run has data for, in the order of [`CHARTS`].
pub(crate) fn charts(record: &Record, summary: &Summary) -> Result<Vec<File>, ReportError> {
    let charts: [Option<Result<String, ChartError>>; CHARTS.len()] = [
        training::step_time_chart(record, summary),
        training::loss_chart(record),
        generation::chart(summary),
        memory::chart(record),
        Some(budget::chart(&summary.budget)),
    ];
    let named = CHARTS.into_iter().zip(charts);
    named
        .filter_map(|((name, _), svg)| Some((name, svg?)))
        .map(|(name, svg)| match svg {
            Ok(text) => Ok(File { name, text }),
            Err(error) => Err(ReportError::Chart {
                name,
                source: Box::new(error),
            }),
        })
        .collect()
}

fn status(summary: &Summary) -> Status {
    Status {
        complete: summary.status == RunStatus::Complete,
        ended: match summary.status {
            RunStatus::Complete => "complete",
            RunStatus::Interrupted => "interrupted",
            RunStatus::Failed => "failed",
            RunStatus::CutOff => "cut off",
        },
        // The template ends the sentence.
        reason: summary
            .reason
            .as_deref()
            .map(|reason| escape(reason.trim_end_matches('.'))),
    }
}

fn weights(weights: &Weights) -> WeightsView {
    let (random, source) = match weights {
        Weights::Embedded { sha256 } => (
            false,
            format!("embedded in lfmark, SHA-256 {}", escape(sha256)),
        ),
        Weights::Files { sha256 } => (
            false,
            format!("safetensors files, SHA-256 {}", escape(sha256)),
        ),
        Weights::Random { seed } => (true, format!("**random**, made from seed {seed}")),
    };
    WeightsView { random, source }
}

/// The device the work ran on, by the most telling name in the record.
fn device(record: &Record) -> String {
    let (mlx, machine) = (&record.start.mlx, &record.start.machine);
    let on_cpu = record.start.config.device == "cpu";
    let names = if on_cpu {
        [&machine.chip, &machine.cpu, &mlx.device_name]
    } else {
        [&machine.chip, &mlx.device_name, &machine.gpu]
    };
    let name = names.into_iter().flatten().next().unwrap_or(&machine.arch);
    format!("{} ({})", escape(name), escape(&record.start.config.device))
}

fn overview(record: &Record, summary: &Summary) -> Overview {
    let start = &record.start;
    Overview {
        parameters: units::count(start.model.parameters),
        dtype: escape(&start.config.dtype),
        trainable: units::count(start.model.trainable_parameters),
        lfmark: escape(&start.lfmark.version),
        mlx: escape(&start.mlx.version),
        backend: escape(&start.mlx.backend),
        iterations: units::count(record.iterations.len() as u64),
        configured_iterations: units::count(start.config.iterations.into()),
        batch_size: start.config.batch_size,
        prompts: summary.generations.len(),
    }
}

fn rate_text(rate: Option<f64>) -> String {
    rate.shown(|rate| units::significant(rate, 4))
}

/// A table of settings and their values.
fn pairs<const N: usize>(rows: [(&str, String); N]) -> String {
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, value)| [name.to_owned(), value])
        .collect();
    table([("Item", Align::Left), ("Value", Align::Left)], &rows)
}

/// Writes what may not have been measured.
trait Shown<T> {
    /// The value as `write` writes it, or the words that say there is none.
    fn shown(self, write: impl FnOnce(T) -> String) -> String;
}

impl<T> Shown<T> for Option<T> {
    fn shown(self, write: impl FnOnce(T) -> String) -> String {
        self.map_or(NOT_MEASURED.to_owned(), write)
    }
}
