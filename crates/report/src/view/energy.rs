//! The energy of the run, and power and temperature beside its rate.

use metrics::energy::{FEWEST_SAMPLES, Joules, LEAST_COVERED, Part, Power, Slice, TooShort};
use metrics::store::Record;
use metrics::summary::Summary;
use serde::Serialize;

use super::{Shown, percent};
use crate::charts::{self, ChartError, Track, TrackLine};
use crate::markdown::{Align, escape, table};
use crate::units;

#[derive(Debug, Serialize)]
pub(super) struct EnergyView {
    /// Power and energy of every part of the run.
    parts: String,
    /// Energy of a unit of work.
    per_unit: String,
    interval: String,
    /// What a reading cost.
    reading: Option<String>,
    /// Parts that were too short, with what would do.
    too_short: Vec<String>,
    fewest: usize,
    covered: String,
    /// Whether the idle power of any rail was measured.
    idle: bool,
}

/// `None` where nothing was sampled.
pub(super) fn energy(record: &Record, summary: &Summary) -> Option<EnergyView> {
    let energy = summary.energy.as_ref()?;
    let mut parts = Vec::new();
    let mut per_unit = Vec::new();
    for rail in &energy.rails {
        let name = escape(&rail.name);
        let windows = summary.windows.iter().zip(&rail.windows);
        let slices = [("Training".to_owned(), rail.training)]
            .into_iter()
            .chain(windows.map(|(window, slice)| (format!("Iterations {}", window.label), *slice)))
            .chain([("Generation, all prompts".to_owned(), rail.generation)]);
        for (part, slice) in slices {
            parts.push(part_row(
                &name,
                &escape(&rail.source),
                &part,
                slice.as_ref(),
            ));
            let units = [
                ("iteration", slice.and_then(|it| it.per_iteration)),
                (
                    "1,000 real tokens",
                    slice.and_then(|it| it.per_thousand_tokens),
                ),
                (
                    "generated token",
                    slice.and_then(|it| it.per_generated_token),
                ),
            ];
            for (unit, joules) in units {
                let Some(Joules { whole, above_idle }) = joules else {
                    continue;
                };
                per_unit.push([
                    name.clone(),
                    part.clone(),
                    unit.to_owned(),
                    units::significant(whole, 4),
                    above_idle.shown(|joules| units::significant(joules, 4)),
                ]);
            }
        }
        parts.push([
            name,
            escape(&rail.source),
            "Idle, before the run".to_owned(),
            String::new(),
            String::new(),
            rail.idle_watts.shown(|watts| units::significant(watts, 4)),
            String::new(),
            String::new(),
        ]);
    }
    let parts = table(
        [
            ("Rail", Align::Left),
            ("Source", Align::Left),
            ("Part", Align::Left),
            ("Samples", Align::Right),
            ("Covered", Align::Right),
            ("Mean power (W)", Align::Right),
            ("Energy (J)", Align::Right),
            ("Above idle (J)", Align::Right),
        ],
        &parts,
    );
    let per_unit = match per_unit.is_empty() {
        true => "Not measured: no part of the run has enough samples.".to_owned(),
        false => table(
            [
                ("Rail", Align::Left),
                ("Part", Align::Left),
                ("Unit", Align::Left),
                ("Joules", Align::Right),
                ("Above idle", Align::Right),
            ],
            &per_unit,
        ),
    };
    Some(EnergyView {
        parts,
        per_unit,
        interval: units::duration(energy.interval_ns),
        reading: record
            .start
            .sampling
            .as_ref()
            .and_then(|it| Some(units::duration(it.reading_ns?))),
        too_short: energy.too_short.iter().map(run_longer).collect(),
        fewest: FEWEST_SAMPLES,
        covered: percent(LEAST_COVERED),
        idle: energy.rails.iter().any(|rail| rail.idle_watts.is_some()),
    })
}

fn run_longer(it: &TooShort) -> String {
    let (part, unit, setting) = match it.part {
        Part::Training => ("Training", "iterations", "`--iterations`"),
        Part::Generation => ("Generation", "tokens", "`--max-tokens`"),
    };
    format!(
        "{part} took {}, too short for {FEWEST_SAMPLES} samples: **run longer**. {} would do, or \
         some {} {unit} ({setting}).",
        units::duration(it.wall_ns),
        units::duration(it.needed_ns),
        units::count(it.needed)
    )
}

fn part_row(rail: &str, source: &str, part: &str, slice: Option<&Slice>) -> [String; 8] {
    [
        rail.to_owned(),
        source.to_owned(),
        part.to_owned(),
        slice.shown(|it| units::count(it.samples as u64)),
        slice.shown(|it| units::share(it.covered, 1.0)),
        slice.shown(|it| units::significant(it.watts, 4)),
        slice.shown(|it| units::significant(it.energy.whole, 4)),
        slice
            .and_then(|it| it.energy.above_idle)
            .shown(|joules| units::significant(joules, 4)),
    ]
}

/// Rate, power and temperature over time; `None` where neither power nor temperature was read.
pub(super) fn chart(record: &Record) -> Option<Result<String, ChartError>> {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let rate = record.iterations.iter().filter(|it| it.step_ns > 0);
    let rate = rate.map(|it| (seconds(it.end_ns()), 1e9 / it.step_ns as f64));
    let rails = record.start.sampling.iter().flat_map(|it| it.rails.keys());
    let power = rails.map(|rail| (rail.clone(), Power::of(record, rail).points()));
    let sensors = || record.sensors.iter();
    let gpu = sensors().filter_map(|it| Some((it.at_ns, it.gpu_temperature_mc?)));
    let cpu = sensors().filter_map(|it| Some((it.at_ns, it.cpu_temperature_mc?)));
    let celsius = |(at_ns, mc): (u64, i64)| (seconds(at_ns), mc as f64 / 1e3);
    let power = track("Power", "power (W)", power.collect());
    let temperature = track(
        "Temperature",
        "temperature (°C)",
        vec![
            ("GPU".to_owned(), gpu.map(celsius).collect()),
            ("CPU".to_owned(), cpu.map(celsius).collect()),
        ],
    );
    if power.is_none() && temperature.is_none() {
        return None;
    }
    let rate = vec![("an iteration, by step time".to_owned(), rate.collect())];
    let tracks: Vec<_> = [track("Rate", "rate (it/s)", rate), power, temperature]
        .into_iter()
        .flatten()
        .collect();
    Some(charts::power(&tracks))
}

/// The lines that have a point; `None` where none has.
fn track(
    heading: &'static str,
    axis: &'static str,
    lines: Vec<(String, Vec<(f64, f64)>)>,
) -> Option<Track> {
    let lines: Vec<_> = lines
        .into_iter()
        .filter(|(_, points)| !points.is_empty())
        .map(|(name, points)| TrackLine { name, points })
        .collect();
    (!lines.is_empty()).then_some(Track {
        heading,
        axis,
        lines,
    })
}
