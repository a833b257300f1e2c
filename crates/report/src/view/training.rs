//! Training as a whole and by iteration range.

use metrics::record::WindowSpec;
use metrics::stats;
use metrics::store::Record;
use metrics::summary::{Summary, Tokens, Training, Window};
use serde::Serialize;

use super::consistency::Marks;
use super::fields::field;
use super::windows::{counted, members, window_row, windows};
use super::{Shown, rate_text};
use crate::charts::{self, ChartError, Span};
use crate::markdown::{Align, table};
use crate::units::{self, ByteUnit};

#[derive(Debug, Serialize)]
pub(super) struct TrainingView {
    table: String,
    step_rate: String,
    wall_rate: String,
    wall: String,
    peak: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Stability {
    table: String,
    loss_table: String,
    /// Iterations that no window holds, where there are any.
    outside: Option<String>,
}

/// All iterations together, every figure with what it rests on.
pub(super) fn training_view(
    record: &Record,
    summary: &Summary,
    training: &Training,
) -> TrainingView {
    let start = &record.start;
    let per_second = |rate: Option<f64>, what: &str| {
        rate.shown(|rate| format!("{} {what}", units::significant(rate, 4)))
    };
    let step_rate = per_second(training.iterations_per_step_second, "it/s");
    let wall_rate = per_second(training.iterations_per_wall_second, "it/s");
    let wall = units::duration(training.wall_ns);
    let milliseconds = |ns| format!("{} ms", units::milliseconds(ns));
    let tokens = |tokens: Tokens| {
        (
            per_second(tokens.per_step_second, "tokens/s"),
            units::count(tokens.total),
        )
    };
    let over_steps =
        |tokens: &str, path: &str| format!("{tokens} of {} over the step time", field(path));
    let steps = field("iteration.step_ns");
    let (real, real_basis) = tokens(training.real_tokens);
    let (padded, padded_basis) = tokens(training.padded_tokens);
    let (loss, loss_basis) = tokens(training.loss_tokens);
    let rows: Vec<[String; 3]> = [
        (
            "Total wall time of training",
            wall.clone(),
            format!(
                "begin of the first iteration to the end of the last: {}, {steps}",
                field("iteration.start_ns")
            ),
        ),
        (
            "Wall time of the whole run",
            units::duration(summary.budget.wall_ns),
            match summary.budget.wall_known {
                true => format!("begin to end of the process: {}", field("end.wall_ns")),
                false => "begin of the process to its last recorded event".to_owned(),
            },
        ),
        (
            "Process start to end of step 10",
            summary.time_to_step_10_ns.shown(units::duration),
            format!(
                "time before the first statement, and until then: {}, {}, {steps}",
                field("start.launch_ns"),
                field("iteration.start_ns")
            ),
        ),
        (
            "Iterations",
            units::count(training.iterations.into()),
            format!(
                "measured, of {} in {}",
                units::count(start.config.iterations.into()),
                field("start.config.iterations")
            ),
        ),
        (
            "Training speed by step time",
            step_rate.clone(),
            format!(
                "iterations over {} of {steps}",
                units::duration(training.step_ns)
            ),
        ),
        (
            "Training speed by wall time",
            wall_rate.clone(),
            format!("iterations over {wall} of wall time"),
        ),
        (
            "Step time, mean ± standard deviation",
            format!(
                "{} ms",
                units::mean_and_sd_ms(training.step.mean, training.step.sd)
            ),
            format!("of single iterations: {steps}"),
        ),
        (
            "Step time, median",
            milliseconds(training.step.median),
            format!("50th percentile of {steps}"),
        ),
        (
            "Step time, p95",
            milliseconds(training.step.p95),
            format!("95th percentile of {steps}"),
        ),
        (
            "Step time, smallest and largest",
            format!(
                "{} and {}",
                milliseconds(training.step.min),
                milliseconds(training.step.max)
            ),
            format!("single iterations: {steps}"),
        ),
        (
            "Real tokens",
            real,
            over_steps(&real_basis, "iteration.real_tokens"),
        ),
        (
            "Padded tokens",
            padded,
            over_steps(&padded_basis, "iteration.padded_tokens"),
        ),
        (
            "Loss tokens",
            loss,
            over_steps(&loss_basis, "iteration.loss_tokens"),
        ),
        (
            "Peak memory",
            units::bytes(training.peak_bytes),
            format!(
                "largest MLX peak of any window: {}",
                field("iteration.peak_bytes")
            ),
        ),
        (
            "Trainable parameters",
            format!(
                "{} of {}",
                units::count(start.model.trainable_parameters),
                units::count(start.model.parameters)
            ),
            format!(
                "{}: {} over {}",
                units::share(
                    start.model.trainable_parameters as f64,
                    start.model.parameters as f64,
                ),
                field("start.model.trainable_parameters"),
                field("start.model.parameters")
            ),
        ),
    ]
    .into_iter()
    .map(|(metric, value, basis)| [metric.to_owned(), value, basis])
    .collect();
    TrainingView {
        table: table(
            [
                ("Metric", Align::Left),
                ("Value", Align::Right),
                ("Basis", Align::Left),
            ],
            &rows,
        ),
        step_rate,
        wall_rate,
        wall,
        peak: units::bytes(training.peak_bytes),
    }
}

/// By range; `None` where no iteration was measured.
pub(super) fn stability(record: &Record, summary: &Summary) -> Option<Stability> {
    if record.iterations.is_empty() {
        return None;
    }
    let peaks = summary
        .windows
        .iter()
        .map(|window| window.training.peak_bytes);
    let unit = ByteUnit::for_largest(peaks.max().unwrap_or(0));
    let rows: Vec<_> = windows(record, summary)
        .into_iter()
        .map(|(spec, window)| {
            window_row(spec, window, |window| {
                let training = &window.training;
                [
                    format!("**{spec}**"),
                    counted(window),
                    rate_text(training.iterations_per_step_second),
                    units::mean_and_sd_ms(training.step.mean, training.step.sd),
                    training
                        .step
                        .sd
                        .shown(|sd| units::share(sd, training.step.mean)),
                    rate_text(training.real_tokens.per_step_second),
                    unit.write(training.peak_bytes),
                ]
            })
        })
        .collect();
    let peak_head = format!("Peak memory ({})", unit.name);
    let loss_rows: Vec<_> = windows(record, summary)
        .into_iter()
        .map(|(spec, window)| window_row(spec, window, |window| loss_row(spec, window, record)))
        .collect();
    let inside: u64 = summary
        .windows
        .iter()
        .map(|w| u64::from(w.training.iterations))
        .sum();
    let outside = (record.iterations.len() as u64).saturating_sub(inside);
    Some(Stability {
        table: table(
            [
                ("Iteration range", Align::Left),
                ("Counted", Align::Right),
                ("Speed (it/s)", Align::Right),
                ("Step mean ± sd (ms)", Align::Right),
                ("sd / mean", Align::Right),
                ("Real tokens/s", Align::Right),
                (&peak_head, Align::Right),
            ],
            &rows,
        ),
        loss_table: table(
            [
                ("Iteration range", Align::Left),
                ("Counted", Align::Right),
                ("First loss", Align::Right),
                ("Mean loss", Align::Right),
                ("Last loss", Align::Right),
                ("Not finite", Align::Right),
            ],
            &loss_rows,
        ),
        outside: (outside > 0).then(|| units::count(outside)),
    })
}

fn loss_row(spec: WindowSpec, window: &Window, record: &Record) -> [String; 6] {
    let loss = |loss: Option<f64>| loss.shown(|l| units::fixed(l, 4));
    let losses: Vec<f64> = members(record, window)
        .iter()
        .filter_map(|it| it.loss.map(f64::from))
        .collect();
    let training = &window.training;
    [
        format!("**{spec}**"),
        counted(window),
        loss(training.first_loss.map(f64::from)),
        loss(stats::mean(&losses)),
        loss(training.last_loss.map(f64::from)),
        units::count((training.iterations as u64).saturating_sub(losses.len() as u64)),
    ]
}

/// The step-time chart; `None` where no iteration was measured.
pub(super) fn step_time_chart(
    record: &Record,
    summary: &Summary,
    marks: Marks,
) -> Option<Result<String, ChartError>> {
    let iterations = record.iterations.iter();
    let samples: Vec<_> = iterations.map(|it| (it.iteration, it.step_ns)).collect();
    let windows = summary.windows.iter();
    let spans: Vec<_> = windows
        .map(|window| Span {
            first: window.first,
            last: window.last,
            median_ns: window.training.step.median,
        })
        .collect();
    (!samples.is_empty()).then(|| charts::step_time(&samples, &spans, marks.warm_up, marks.shift))
}

/// The loss chart; `None` where no loss was finite.
pub(super) fn loss_chart(record: &Record) -> Option<Result<String, ChartError>> {
    let iterations = record.iterations.iter();
    let losses: Vec<_> = iterations
        .filter_map(|it| Some((it.iteration, it.loss?)))
        .collect();
    (!losses.is_empty()).then(|| charts::loss(&losses))
}
