//! A record and its summary as rows and sentences for people.
//!
//! Every string of a [`View`] is Markdown: numbers went through [`units`], and whatever came from
//! outside went through [`markdown`](crate::markdown). The template decides what is said and in
//! which order.

use metrics::record::{Model, Packed, Start, Weights};
use metrics::store::Record;
use metrics::summary::{RunStatus, Summary};
use serde::Serialize;

use crate::charts::{self, ChartError};
use crate::markdown::{Align, escape, table};
use crate::units::{self, NOT_MEASURED};
use crate::{File, ReportError};

pub(crate) mod audit;
mod budget;
mod comparison;
mod conclusion;
mod configuration;
mod consistency;
mod counters;
mod effect;
mod energy;
mod fields;
mod generation;
mod headroom;
mod latency;
mod limits;
mod memory;
pub(crate) mod roofline;
pub(crate) mod rules;
mod system;
mod training;
mod validity;
mod windows;

/// Says that a fact, other than a measurement, is not in the record.
const NOT_RECORDED: &str = "not recorded";

/// Every chart in the order of the report, with the template's name for its presence.
pub(crate) const CHARTS: [(&str, &str); 7] = [
    ("step-time.svg", "step_time_chart"),
    ("loss.svg", "loss_chart"),
    ("generation.svg", "generation_chart"),
    ("memory.svg", "memory_chart"),
    ("latency.svg", "latency_chart"),
    ("power.svg", "power_chart"),
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
    /// What the processor counted, where anything was.
    counters: Option<String>,
    stability: Option<training::Stability>,
    levels: Option<consistency::Levels>,
    consistency: Option<consistency::Consistency>,
    marks: consistency::Marks,
    generation: Option<generation::GenerationView>,
    effect: Option<effect::EffectView>,
    memory: memory::MemoryView,
    system: String,
    machine_state: String,
    validity: validity::Validity,
    settled: Option<system::SettledView>,
    energy: Option<energy::EnergyView>,
    budget: budget::BudgetView,
    roofline: String,
    comparison: comparison::Comparison,
    validation: String,
    conclusion: conclusion::Conclusion,
    /// Whether the charts over iterations draw the extremes of groups instead of every one.
    thinned: bool,
    limits: limits::Limits,
    rules: rules::RulesView,
    fields: String,
}

impl View {
    pub(crate) fn new(record: &Record, summary: &Summary) -> Self {
        let start = &record.start;
        let roofline = metrics::roofline::roofline(record, summary);
        let audit = metrics::audit::record(record, summary);
        Self {
            model: escape(&start.model.name),
            device: device(start),
            status: status(summary),
            notices: record.notices.iter().map(|notice| escape(notice)).collect(),
            weights: weights(&start.model),
            overview: overview(record, summary),
            configuration: configuration::configuration(record, summary),
            adapters: configuration::adapters(record),
            training: summary
                .training
                .as_ref()
                .map(|training| training::training_view(record, summary, training)),
            counters: summary
                .counted
                .as_ref()
                .map(|counted| counters::table(summary, counted)),
            stability: training::stability(record, summary),
            levels: consistency::levels(record, summary),
            consistency: consistency::consistency(summary),
            marks: consistency::marks(record, summary),
            generation: generation::generation(record, summary),
            effect: effect::effect(record, summary),
            memory: memory::memory(record, summary),
            system: system::system(record),
            machine_state: system::machine_state(&record.states),
            validity: validity::validity(summary),
            settled: system::settled(record),
            energy: energy::energy(record, summary),
            budget: budget::budget(record, summary),
            roofline: roofline::roofline_section(&roofline),
            comparison: comparison::comparison(record, summary),
            validation: audit::audit_section(&audit),
            conclusion: conclusion::conclusion(summary, &roofline, &audit),
            thinned: record.iterations.len() > charts::POINT_LIMIT,
            limits: limits::limits(record, summary),
            rules: rules::rules(record, summary),
            fields: fields::appendix(),
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
    program: String,
    /// Where that is not lfmark.
    engine: Option<EngineView>,
    uses_mlx: bool,
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
        training::step_time_chart(record, summary, consistency::marks(record, summary)),
        training::loss_chart(record),
        generation::chart(summary),
        memory::chart(record, summary),
        latency::chart(record),
        energy::chart(record),
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

fn weights(model: &Model) -> WeightsView {
    let (random, mut source) = match &model.weights {
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
    if let Some(revision) = &model.revision {
        source += &format!(", commit {} on the hub", escape(revision));
    }
    if let Some(quantization) = &model.quantization {
        source += "; quantized ";
        source += match quantization.on_load {
            true => "while loading",
            false => "in the files",
        };
        for (place, packed) in quantization.packed.iter().enumerate() {
            let Packed {
                bits,
                group_size,
                matrices,
                ..
            } = packed;
            source += if place == 0 { ": " } else { "; " };
            let noun = if *matrices == 1 { "matrix" } else { "matrices" };
            source += &format!("{matrices} {noun} to {bits} bits in groups of {group_size}");
        }
    }
    WeightsView { random, source }
}

/// The device the work ran on, by the most telling name in the record.
pub(crate) fn device(start: &Start) -> String {
    let (mlx, machine) = (&start.mlx, &start.machine);
    let on_cpu = start.config.device == "cpu";
    let names = if on_cpu {
        [&machine.chip, &machine.cpu, &mlx.device_name]
    } else {
        [&machine.chip, &mlx.device_name, &machine.gpu]
    };
    let name = names.into_iter().flatten().next().unwrap_or(&machine.arch);
    format!("{} ({})", escape(name), escape(&start.config.device))
}

/// The program that did the work, with its version.
pub(crate) fn program(start: &Start) -> String {
    let (name, version) = start.program();
    format!("{} {}", escape(name), escape(version))
}

/// Whether the work was done through MLX; the record of another program may say that it was not.
pub(crate) fn uses_mlx(start: &Start) -> bool {
    start.engine.is_none() || start.mlx.version != "not used"
}

/// What counted the memory that is called MLX's.
pub(crate) fn memory_counter(start: &Start) -> &str {
    let engine = start.engine.as_ref();
    engine.map_or("mlx", |engine| &engine.memory_source)
}

/// A program in the place of lfmark.
#[derive(Debug, Serialize)]
struct EngineView {
    program: String,
    /// What counted its memory, where that was not MLX.
    counter: Option<String>,
}

impl EngineView {
    fn of(start: &Start) -> Option<Self> {
        start.engine.as_ref().map(|_| Self {
            program: program(start),
            counter: match memory_counter(start) {
                "mlx" => None,
                other => Some(escape(other)),
            },
        })
    }
}

fn overview(record: &Record, summary: &Summary) -> Overview {
    let start = &record.start;
    Overview {
        parameters: units::count(start.model.parameters),
        dtype: escape(&start.config.dtype),
        trainable: units::count(start.model.trainable_parameters),
        program: program(start),
        engine: EngineView::of(start),
        uses_mlx: uses_mlx(start),
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

/// A table of facts, each with the fields that it is from.
fn facts<const N: usize>(rows: [(&str, String, String); N]) -> String {
    table(
        [
            ("Item", Align::Left),
            ("Value", Align::Left),
            ("Field", Align::Left),
        ],
        &rows.map(|(name, value, fields)| [name.to_owned(), value, fields]),
    )
}

/// A threshold that is a share, as it was set.
fn percent(share: f64) -> String {
    // Rounded, since 100 times a decimal is not always one.
    format!("{} %", units::setting((share * 1e8).round() / 1e6))
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
