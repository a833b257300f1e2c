//! The figures of runs for programs that follow them over time, and their samples for tables.
//!
//! Trackers get one value a series and metric: that of the run, or the geometric mean of the
//! complete runs of an arm with its 95 % interval, all of the same work and machine. Of every metric
//! less is better, as `customSmallerIsBetter` of github-action-benchmark has it.

use std::rc::Rc;

use metrics::comparison::{Spread, spread};
use metrics::fields::{self, Difference, Fields};
use metrics::figures::MetricKind;
use metrics::key::Key;
use metrics::record::{Iteration, Start};
use metrics::rules::ComparisonRules;
use metrics::run::Run;
use metrics::store::Record;
use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::device;

/// Runs of one series of which no mean can be taken.
#[derive(Debug, Error, PartialEq)]
#[error(
    "the runs of {series} are not alike: {}; convert the runs of each work and machine by themselves",
    fields.iter().map(Difference::text).collect::<Vec<_>>().join("; ")
)]
pub struct Unlike {
    pub series: String,
    pub fields: Vec<Difference>,
}

/// Name of the series of a run for a tracker. What ran on shared hardware is a series of its own.
fn tracked(run: &Run, names_machine: bool) -> String {
    let on = match names_machine {
        true => format!(" on {}", machine(&run.start)),
        false => String::new(),
    };
    let mark = match virtual_machine(run) {
        true => " (virtual machine)",
        false => "",
    };
    format!("{}{on}{mark}", series(run))
}

fn virtual_machine(run: &Run) -> bool {
    run.start.machine.virtual_machine == Some(true)
}

/// Its place in its series, counted from 1; 1 for a run by itself.
fn repeat(run: &Run) -> u32 {
    run.member.as_ref().map_or(1, |member| member.repeat)
}

/// As in "Apple M4 Max, Mac16,5, 40 GPU cores, 64 GiB".
fn machine(start: &Start) -> String {
    let machine = &start.machine;
    let gib = |bytes: u64| format!("{:.0} GiB", bytes as f64 / (1u64 << 30) as f64);
    let parts = [
        Some(device(start).unwrap_or("unknown machine").to_owned()),
        machine.model_id.clone(),
        machine.gpu_cores.map(|cores| format!("{cores} GPU cores")),
        machine.memory_bytes.map(gib),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The arm of a run of a set; of a run by itself program, model, type and device.
fn series(run: &Run) -> String {
    if let Some(member) = &run.member {
        return member.arm.clone();
    }
    let (program, _) = run.start.program();
    let (model, config) = (&run.start.model.name, &run.start.config);
    format!("{program} {model} {} {}", config.dtype, config.device)
}

/// One metric of one series.
struct Point {
    series: String,
    metric: MetricKind,
    spread: Spread,
}

/// The complete runs, by series in the order in which these first appear. Where a series has runs
/// of several machines, or `names_machine` says so, each machine is a series with its name.
fn points(runs: &[Run], names_machine: bool) -> Result<Vec<Point>, Unlike> {
    let complete: Vec<&Run> = runs.iter().filter(|run| run.is_complete()).collect();
    let mut points = Vec::new();
    for (_, runs) in grouped(&complete, |run| tracked(run, false)) {
        let several = runs
            .iter()
            .any(|run| run.key.machine != runs[0].key.machine);
        for (series, runs) in grouped(&runs, |run| tracked(run, names_machine || several)) {
            let differing = |part: fn(&Key) -> &Rc<Fields>| {
                let all: Vec<(&str, &Fields)> = runs
                    .iter()
                    .map(|run| (run.name.as_str(), &**part(&run.key)))
                    .collect();
                fields::differing(&all)
            };
            let mut unlike = differing(|key| &key.work);
            unlike.extend(differing(|key| &key.how));
            unlike.extend(differing(|key| &key.machine));
            // Builds of a program may differ, and programs not.
            let builds = differing(|key| &key.build);
            unlike.extend(builds.into_iter().filter(|it| it.field == "program"));
            if !unlike.is_empty() {
                return Err(Unlike {
                    series,
                    fields: unlike,
                });
            }
            points.extend(MetricKind::ALL.into_iter().filter_map(|metric| {
                let values = runs.iter().map(|run| run.value(metric));
                // What some runs lack is of other runs than the rest, and is left out.
                let values: Vec<f64> = values.collect::<Option<_>>()?;
                Some(Point {
                    series: series.clone(),
                    metric,
                    spread: spread(&values, &ComparisonRules::default())?,
                })
            }));
        }
    }
    Ok(points)
}

/// The runs by a name, in the order in which the names first appear.
fn grouped<'a>(runs: &[&'a Run], name: impl Fn(&Run) -> String) -> Vec<(String, Vec<&'a Run>)> {
    let mut groups: Vec<(String, Vec<&Run>)> = Vec::new();
    for &run in runs {
        let name = name(run);
        match groups.iter_mut().find(|group| group.0 == name) {
            Some((_, group)) => group.push(run),
            None => groups.push((name, vec![run])),
        }
    }
    groups
}

fn unit(metric: MetricKind) -> &'static str {
    match metric.is_memory() {
        true => "bytes",
        false => "ns",
    }
}

/// The input of github-action-benchmark's tool `customSmallerIsBetter`. `names_machine` is as for
/// [`bmf`].
///
/// # Errors
///
/// For runs of one series that differ in their work, or in their machines by no more than a detail.
pub fn github_action(runs: &[Run], names_machine: bool) -> Result<String, Unlike> {
    let benchmarks = points(runs, names_machine)?.into_iter().map(|point| {
        let Spread {
            geometric_mean,
            interval,
            runs,
            ..
        } = point.spread;
        let mut benchmark = json!({
            "name": format!("{} / {}", point.series, point.metric.name()),
            "unit": unit(point.metric),
            "value": geometric_mean,
            "extra": match runs {
                1 => "one run".to_owned(),
                runs => format!("geometric mean of {runs} runs"),
            },
        });
        if let Some((low, high)) = interval {
            benchmark["range"] = format!("{low:.6e} to {high:.6e}").into();
        }
        benchmark
    });
    Ok(pretty(&Value::Array(benchmarks.collect())))
}

/// Bencher Metric Format: series, then metric, then value and bounds. The machine stands in the name
/// of a series that several have runs of, and with `names_machine` in every name.
///
/// # Errors
///
/// As for [`github_action`].
pub fn bmf(runs: &[Run], names_machine: bool) -> Result<String, Unlike> {
    let mut benchmarks = Map::new();
    for point in points(runs, names_machine)? {
        let mut metric = json!({ "value": point.spread.geometric_mean });
        if let Some((low, high)) = point.spread.interval {
            metric["lower_value"] = low.into();
            metric["upper_value"] = high.into();
        }
        let name = format!("{}_{}", point.metric.name(), unit(point.metric));
        let series = benchmarks.entry(point.series).or_insert_with(|| json!({}));
        series[name] = metric;
    }
    Ok(pretty(&Value::Object(benchmarks)))
}

fn pretty(value: &Value) -> String {
    // A value of JSON always is text.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// A row of the CSV.
#[derive(Serialize)]
struct Row<'a> {
    run: String,
    series: String,
    repeat: u32,
    complete: bool,
    metric: &'a str,
    unit: &'a str,
    value: f64,
    machine: String,
    virtual_machine: bool,
}

/// One row a run and metric (RFC 4180), those of incomplete runs too. A name that a table would
/// take for a formula has an apostrophe before it.
///
/// # Errors
///
/// None that runs can cause.
pub fn csv(runs: &[Run]) -> Result<String, csv::Error> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    for run in runs {
        for (metric, value) in run.values() {
            writer.serialize(Row {
                run: no_formula(&run.name),
                series: no_formula(&series(run)),
                repeat: repeat(run),
                complete: run.is_complete(),
                metric: metric.name(),
                unit: unit(metric),
                value,
                machine: no_formula(&machine(&run.start)),
                virtual_machine: virtual_machine(run),
            })?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8(bytes).map_err(std::io::Error::other)?)
}

fn no_formula(name: &str) -> String {
    match name.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{name}"),
        false => name.to_owned(),
    }
}

/// A flat row: the same columns with the same types in every line, so that a reader of JSON lines
/// infers one schema and can write it as Parquet.
#[derive(Serialize)]
struct Sample<'a> {
    run: &'a str,
    series: &'a str,
    repeat: u32,
    started_unix_ms: u64,
    program: &'a str,
    program_version: &'a str,
    mlx_version: &'a str,
    backend: &'a str,
    os: &'a str,
    chip: Option<&'a str>,
    gpu: Option<&'a str>,
    gpu_cores: Option<u32>,
    virtual_machine: Option<bool>,
    model: &'a str,
    dtype: &'a str,
    batch_size: u32,
    lora_rank: u32,
    trainable_parameters: u64,
    #[serde(flatten)]
    iteration: &'a Iteration,
}

/// One line an iteration, with the facts of its run in columns; what was not measured is null.
///
/// # Errors
///
/// None that a record can cause.
pub fn json_lines(run: &Run, record: &Record) -> Result<String, serde_json::Error> {
    let start = &record.start;
    let (program, program_version) = start.program();
    let series = series(run);
    let mut lines = String::new();
    for iteration in &record.iterations {
        lines += &serde_json::to_string(&Sample {
            run: &run.name,
            series: &series,
            repeat: repeat(run),
            started_unix_ms: start.started_unix_ms,
            program,
            program_version,
            mlx_version: &start.mlx.version,
            backend: &start.mlx.backend,
            os: &start.machine.os,
            chip: start.machine.chip.as_deref(),
            gpu: start.machine.gpu.as_deref(),
            gpu_cores: start.machine.gpu_cores,
            virtual_machine: start.machine.virtual_machine,
            model: &start.model.name,
            dtype: &start.config.dtype,
            batch_size: start.config.batch_size,
            lora_rank: start.config.lora.rank,
            trainable_parameters: start.model.trainable_parameters,
            iteration,
        })?;
        lines.push('\n');
    }
    Ok(lines)
}
