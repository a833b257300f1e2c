//! Memory: MLX's own counts and the footprint of the process.

use metrics::leak::{Growth, mib_per_thousand};
use metrics::record::Iteration;
use metrics::rules::{Group, rule_of};
use metrics::store::Record;
use metrics::summary::{Readings, Summary};
use serde::Serialize;

use super::fields::{field, fields};
use super::headroom::{HeadroomView, headroom};
use super::windows::{counted, members, window_row, windows};
use super::{Shown, facts, percent};
use crate::charts::{self, ChartError, Peak, Reading};
use crate::markdown::{Align, escape, table};
use crate::units::{self, ByteUnit, NOT_MEASURED};

#[derive(Debug, Serialize)]
pub(super) struct MemoryView {
    /// By window; absent where no iteration was measured.
    by_window: Option<String>,
    table: String,
    /// Absent where no iteration was measured.
    growth: Option<GrowthView>,
    headroom: Option<HeadroomView>,
}

/// The word for the run's memory, with the figures that it rests on.
#[derive(Debug, Serialize)]
struct GrowthView {
    verdict: &'static str,
    rule: &'static str,
    verdicts: String,
    slopes: String,
    confidence: String,
    power: String,
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
    let table = facts([
        (
            "Base weights",
            units::bytes(start.model.weight_bytes),
            field("start.model.weight_bytes"),
        ),
        (
            "MLX active memory after the first and the last iteration",
            first_and_last,
            field("iteration.active_bytes"),
        ),
        (
            "Largest MLX cache after an iteration",
            bytes(memory.cache_max_bytes),
            field("iteration.cache_bytes"),
        ),
        (
            "Largest MLX peak, training and generation",
            bytes(peak),
            fields(&["iteration.peak_bytes", "generation.peak_bytes"]),
        ),
        (
            "That peak as a share of the device's memory",
            of(peak, start.mlx.device_memory_bytes),
            field("start.mlx.device_memory_bytes"),
        ),
        (
            "That peak as a share of the machine's memory",
            of(peak, start.machine.memory_bytes),
            field("start.machine.memory_bytes"),
        ),
        (
            "Source of the process footprint",
            memory.footprint_source.as_deref().shown(escape),
            field("start.footprint_source"),
        ),
        (
            "Process footprint while training",
            readings(memory.footprint),
            field("iteration.footprint_bytes"),
        ),
        (
            "Largest footprint as a share of the machine's memory",
            of(
                memory.footprint.map(|readings| readings.max),
                start.machine.memory_bytes,
            ),
            field("iteration.footprint_bytes"),
        ),
        (
            "Swap in use on the machine while training",
            readings(memory.swap),
            field("iteration.swap_bytes"),
        ),
    ]);
    let by_window = (!record.iterations.is_empty()).then(|| memory_by_window(record, summary));
    MemoryView {
        by_window,
        table,
        growth: growth(record, summary),
        headroom: headroom(record, summary),
    }
}

fn growth(record: &Record, summary: &Summary) -> Option<GrowthView> {
    let growth = summary.memory.growth?;
    let readings =
        |bytes: fn(&Iteration) -> Option<u64>| record.iterations.iter().filter_map(bytes).count();
    let series = [
        ("MLX active", Some(growth.active), record.iterations.len()),
        ("MLX cache", Some(growth.cache), record.iterations.len()),
        (
            "Process footprint",
            growth.footprint,
            readings(|it| it.footprint_bytes),
        ),
        (
            "Swap of the machine",
            growth.swap,
            readings(|it| it.swap_bytes),
        ),
    ];
    let slope = |growth: &Growth, scale: fn(f64) -> f64| {
        growth.slope.shown(|slope| {
            let interval = growth.interval.map(|(low, high)| (scale(low), scale(high)));
            units::signed_with_interval(scale(slope), interval)
        })
    };
    let visible = |growth: &Growth, scale: fn(f64) -> f64| {
        growth
            .smallest_visible
            .shown(|bytes| units::significant(scale(bytes), 3))
    };
    let verdicts = series.map(|(name, growth, _)| {
        [
            name.to_owned(),
            growth.shown(|growth| growth.verdict.word().to_owned()),
            growth.shown(|growth| slope(&growth, mib_per_thousand)),
            growth.shown(|growth| visible(&growth, mib_per_thousand)),
        ]
    });
    let slopes = series.map(|(name, growth, readings)| {
        [
            name.to_owned(),
            units::count(readings as u64),
            growth.shown(|growth| units::count(growth.cropped as u64)),
            growth.shown(|growth| slope(&growth, |bytes| bytes)),
            growth.shown(|growth| match growth.sen_interval {
                Some((low, high)) => {
                    let [low, high] = [low, high].map(|bound| units::signed(bound, 3));
                    format!("{low} to {high}")
                }
                None => NOT_MEASURED.to_owned(),
            }),
            growth.shown(|growth| visible(&growth, |bytes| bytes)),
        ]
    });
    let word = growth.verdict.word();
    Some(GrowthView {
        verdict: word,
        rule: rule_of(Group::Leak, word).unwrap_or_default(),
        verdicts: table(
            [
                ("Series", Align::Left),
                ("Verdict", Align::Left),
                ("MiB per 1,000 iterations", Align::Right),
                ("Smallest visible", Align::Right),
            ],
            &verdicts,
        ),
        slopes: table(
            [
                ("Series", Align::Left),
                ("Readings", Align::Right),
                ("For warm-up", Align::Right),
                ("Bytes per iteration", Align::Right),
                ("Sen's interval", Align::Right),
                ("Smallest visible", Align::Right),
            ],
            &slopes,
        ),
        confidence: percent(summary.rules.leak.confidence),
        power: percent(summary.rules.leak.power),
    })
}

fn memory_by_window(record: &Record, summary: &Summary) -> String {
    let values = record.iterations.iter().flat_map(|it| {
        [
            it.highest_bytes(),
            it.cache_bytes,
            it.footprint_bytes.unwrap_or(0),
        ]
    });
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
pub(super) fn chart(record: &Record, summary: &Summary) -> Option<Result<String, ChartError>> {
    let iterations = record.iterations.iter();
    let readings: Vec<_> = iterations
        .clone()
        .map(|it| Reading {
            iteration: it.iteration,
            active: it.active_bytes,
            cache: it.cache_bytes,
        })
        .collect();
    let windows = summary.windows.iter();
    let peaks: Vec<_> = windows
        .map(|window| Peak {
            first: window.first,
            last: window.last,
            bytes: window.training.peak_bytes,
        })
        .collect();
    let footprint: Vec<_> = iterations
        .filter_map(|it| Some((it.iteration, it.footprint_bytes?)))
        .collect();
    (!readings.is_empty()).then(|| charts::memory(&readings, &peaks, &footprint))
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
