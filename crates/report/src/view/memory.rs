//! Memory: MLX's own counts and the footprint of the process.

use metrics::record::Iteration;
use metrics::store::Record;
use metrics::summary::{Readings, Summary};
use serde::Serialize;

use super::windows::{counted, members, window_row, windows};
use super::{Shown, pairs};
use crate::charts::{self, ChartError, Series};
use crate::markdown::{Align, escape, table};
use crate::units::{self, ByteUnit, NOT_MEASURED};

#[derive(Debug, Serialize)]
pub(super) struct MemoryView {
    /// By window; absent where no iteration was measured.
    by_window: Option<String>,
    table: String,
}

/// Memory by window and over the whole run.
pub(super) fn memory(record: &Record, summary: &Summary) -> MemoryView {
    let start = &record.start;
    let memory = &summary.memory;
    let bytes = |value: Option<u64>| value.shown(units::bytes);
    let peak = summary
        .training
        .iter()
        .map(|training| training.peak_bytes)
        .chain(
            summary
                .generations
                .iter()
                .map(|generation| generation.peak_bytes),
        )
        .max();
    let of = |part: Option<u64>, whole: Option<u64>| match (part, whole) {
        (Some(part), Some(whole)) => {
            format!(
                "{} of {}",
                units::share(part as f64, whole as f64),
                units::bytes(whole)
            )
        }
        _ => NOT_MEASURED.to_owned(),
    };
    let first_and_last = match (memory.active_first_bytes, memory.active_last_bytes) {
        (Some(first), Some(last)) => {
            format!(
                "{} and {} ({} B)",
                units::bytes(first),
                units::bytes(last),
                change(first, last)
            )
        }
        _ => NOT_MEASURED.to_owned(),
    };
    let table = pairs([
        (
            "MLX active memory after the first and the last iteration",
            first_and_last,
        ),
        (
            "Largest MLX cache after an iteration",
            bytes(memory.cache_max_bytes),
        ),
        ("Largest MLX peak, training and generation", bytes(peak)),
        (
            "That peak as a share of the device's memory",
            of(peak, start.mlx.device_memory_bytes),
        ),
        (
            "That peak as a share of the machine's memory",
            of(peak, start.machine.memory_bytes),
        ),
        (
            "Source of the process footprint",
            memory.footprint_source.as_deref().shown(escape),
        ),
        (
            "Process footprint while training",
            readings(memory.footprint),
        ),
        (
            "Largest footprint as a share of the machine's memory",
            of(
                memory.footprint.map(|readings| readings.max),
                start.machine.memory_bytes,
            ),
        ),
        (
            "Swap in use on the machine while training",
            readings(memory.swap),
        ),
    ]);
    let by_window = (!record.iterations.is_empty()).then(|| memory_by_window(record, summary));
    MemoryView { by_window, table }
}

fn memory_by_window(record: &Record, summary: &Summary) -> String {
    let values = record
        .iterations
        .iter()
        .flat_map(|it| [peak(it), it.cache_bytes, it.footprint_bytes.unwrap_or(0)]);
    let unit = ByteUnit::for_largest(values.max().unwrap_or(0));
    let rows: Vec<_> = windows(record, summary)
        .into_iter()
        .map(|(spec, window)| {
            window_row(spec, window, |window| {
                let members = members(record, window);
                let largest = |bytes: fn(&Iteration) -> Option<u64>| {
                    let largest = members.iter().filter_map(bytes).max();
                    largest.shown(|bytes| unit.write(bytes))
                };
                let footprints: Vec<_> =
                    members.iter().filter_map(|it| it.footprint_bytes).collect();
                let footprint = |bytes: Option<&u64>| bytes.shown(|bytes| unit.write(*bytes));
                [
                    format!("**{spec}**"),
                    counted(window),
                    members.last().shown(|it| unit.write(it.active_bytes)),
                    largest(|it| Some(it.active_bytes)),
                    largest(|it| Some(it.cache_bytes)),
                    unit.write(window.training.peak_bytes),
                    footprint(footprints.first()),
                    footprint(footprints.last()),
                    footprint(footprints.iter().max()),
                    units::count(footprints.len() as u64),
                ]
            })
        })
        .collect();
    let heads = [
        "MLX active, last",
        "MLX active, largest",
        "MLX cache, largest",
        "MLX peak",
        "Footprint, first",
        "Footprint, last",
        "Footprint, largest",
    ]
    .map(|head| format!("{head} ({})", unit.name));
    let head = |index: usize| (heads[index].as_str(), Align::Right);
    table(
        [
            ("Iteration range", Align::Left),
            ("Counted", Align::Right),
            head(0),
            head(1),
            head(2),
            head(3),
            head(4),
            head(5),
            head(6),
            ("Footprint readings", Align::Right),
        ],
        &rows,
    )
}

/// The memory chart; `None` where no iteration was measured.
pub(super) fn chart(record: &Record) -> Option<Result<String, ChartError>> {
    let series = |name: &str, bytes: fn(&Iteration) -> Option<u64>| Series {
        name: name.to_owned(),
        points: record
            .iterations
            .iter()
            .filter_map(|iteration| Some((iteration.iteration, bytes(iteration)?)))
            .collect(),
    };
    let mut all = vec![
        series("MLX active", |it| Some(it.active_bytes)),
        series("MLX cache", |it| Some(it.cache_bytes)),
        series("MLX peak", |it| Some(peak(it))),
        series("footprint", |it| it.footprint_bytes),
    ];
    all.retain(|series| !series.points.is_empty());
    (!all.is_empty()).then(|| charts::memory(&all))
}

/// MLX's peak after an iteration. MLX sets it to 0 at a reset, so it can lie below the memory
/// in use until the next allocation.
fn peak(iteration: &Iteration) -> u64 {
    iteration.peak_bytes.max(iteration.active_bytes)
}

fn change(first: u64, last: u64) -> String {
    let sign = if last < first { "-" } else { "+" };
    format!("{sign}{}", units::count(last.abs_diff(first)))
}

fn readings(readings: Option<Readings>) -> String {
    readings.shown(|readings| {
        format!(
            "first {}, last {}, largest {} ({} readings)",
            units::bytes(readings.first),
            units::bytes(readings.last),
            units::bytes(readings.max),
            units::count(readings.count as u64),
        )
    })
}
