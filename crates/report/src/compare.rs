//! The report of runs that were not started together: machines in columns, metrics in rows.

use std::iter;

use metrics::compare::{Allowed, Apart, Column, Estimate, Normalised, Per, Rate, Row, Summary};
use metrics::comparison::{MetricComparison, Verdict};
use metrics::fields::Difference;
use metrics::figures::MetricKind;
use metrics::record::Schema;
use metrics::rules::{Group, Rules};
use metrics::run::Count;
use serde::Serialize;

use crate::charts::{self, Bar, BarGroup, ChartError, Curve, MOST_COLUMNS};
use crate::markdown::{escape, shorten};
use crate::set::{self, change, interval, name, percent, table_of, value};
use crate::units::{self, NOT_MEASURED};
use crate::{File, REPORT, Rendered, ReportError, json, view};

const TEMPLATE: &str = include_str!("../templates/compare.md.tera");

/// Names of the files with every derived value, and with one row a column and metric.
pub const COMPARISON_JSON: &str = "comparison.json";
pub const COMPARISON_CSV: &str = "comparison.csv";

/// The schema of `comparison.json` that this build writes.
const SCHEMA: Schema = Schema { major: 1, minor: 2 };

const COLUMNS: &str = "columns.svg";
const STEP_RATES: &str = "step-rates.svg";

/// Every name that a file of a comparison's report can have.
pub fn compare_file_names() -> impl Iterator<Item = &'static str> {
    [REPORT, COLUMNS, STEP_RATES, COMPARISON_JSON, COMPARISON_CSV].into_iter()
}

/// Renders a comparison as Markdown and charts.
///
/// # Errors
///
/// See [`ReportError`].
pub fn render_compare(summary: &Summary) -> Result<Rendered, ReportError> {
    let mut charts = Vec::new();
    for (name, svg) in [
        (COLUMNS, columns_chart(summary)),
        (STEP_RATES, step_rates_chart(summary)),
    ] {
        let Some(svg) = svg else { continue };
        charts.push(File::chart(name, svg)?);
    }
    let view = View::new(summary, &charts);
    Rendered::of(TEMPLATE, &view, charts)
}

/// The comparison for other programs.
///
/// # Errors
///
/// None that a record can cause.
pub fn render_json(summary: &Summary) -> Result<String, serde_json::Error> {
    json::versioned(SCHEMA, summary)
}

/// One row for each column in each row of the report's tables (RFC 4180); what was not measured
/// is an empty cell.
///
/// # Errors
///
/// None that a record can cause.
pub fn render_csv(summary: &Summary) -> Result<String, csv::Error> {
    #[derive(Serialize)]
    struct Cell<'a> {
        quantity: String,
        unit: &'static str,
        column: String,
        runs: Option<usize>,
        geometric_mean: Option<f64>,
        interval_low: Option<f64>,
        interval_high: Option<f64>,
        best: bool,
        change: Option<f64>,
        change_low: Option<f64>,
        change_high: Option<f64>,
        verdict: Option<&'a str>,
        allowed_to_differ: &'a str,
    }
    let allowed: Vec<String> = summary.allowed.iter().map(Allowed::text).collect();
    let allowed = plain_cell(&allowed.join("; "));
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    let mut write =
        |quantity: &str, unit, metric: Option<MetricKind>, cells: &[Option<Estimate>], best| {
            for (index, (column, cell)) in summary.columns.iter().zip(cells).enumerate() {
                let found = metric.and_then(|kind| found(column, kind));
                writer.serialize(Cell {
                    quantity: quantity.to_owned(),
                    unit,
                    column: plain_cell(&column.name),
                    runs: cell.map(|cell| cell.runs),
                    geometric_mean: cell.map(|cell| cell.geometric_mean),
                    interval_low: cell.and_then(|cell| cell.interval).map(|it| it.0),
                    interval_high: cell.and_then(|cell| cell.interval).map(|it| it.1),
                    best: best == Some(index),
                    change: found.map(|it| it.change),
                    change_low: found.and_then(|it| it.adjusted).map(|it| it.low),
                    change_high: found.and_then(|it| it.adjusted).map(|it| it.high),
                    verdict: found.map(word),
                    allowed_to_differ: &allowed,
                })?;
            }
            Ok::<(), csv::Error>(())
        };
    for row in &summary.metrics {
        let unit = if row.what.is_memory() { "bytes" } else { "ns" };
        write(row.what.name(), unit, Some(row.what), &row.cells, row.best)?;
    }
    for row in &summary.rates {
        write(rate(row.what), "per second", None, &row.cells, row.best)?;
    }
    for row in &summary.normalised {
        let text = format!("{} per {}", rate(row.what.rate), per(&row.what.per));
        let unit = match row.what.per {
            Per::Bandwidth => "per second per GB/s",
            Per::GpuCore => "per second per core",
            Per::Watt { .. } => "per second per W",
        };
        write(&plain_cell(&text), unit, None, &row.cells, row.best)?;
    }
    for row in &summary.counts {
        let (name, unit) = count(row.what);
        write(name, unit, None, &row.cells, None)?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8(bytes).map_err(std::io::Error::other)?)
}

/// Text from outside as a cell that no spreadsheet takes for a formula.
pub(crate) fn plain_cell(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

/// What the template fills in; every string is Markdown.
#[derive(Serialize)]
struct View {
    count: usize,
    first: String,
    differing: Vec<String>,
    /// The end of the heading of what is of such runs.
    unlike: String,
    warnings: Vec<String>,
    notices: Vec<String>,
    columns: String,
    metrics: String,
    changes: String,
    rates: Option<String>,
    normalised: Option<String>,
    counts: Option<String>,
    sources: Vec<String>,
    /// Whether there are rows of these.
    power: bool,
    memory: bool,
    trained: bool,
    generated: bool,
    /// Whether iterations were allowed to have different tokens.
    tokens_differ: bool,
    apart: Option<String>,
    columns_chart: bool,
    rates_chart: bool,
    /// Columns that charts leave out.
    not_drawn: usize,
    most_drawn: usize,
    single: bool,
    random_weights: bool,
    practical: String,
    error_rate: String,
    words: String,
    thresholds: String,
}

impl View {
    fn new(summary: &Summary, charts: &[File]) -> Self {
        let has = |name: &str| charts.iter().any(|chart| chart.name == name);
        let columns = &summary.columns;
        let rules = Rules {
            comparison: summary.rules,
            ..Rules::default()
        };
        let any = |fact: fn(&Column) -> bool| columns.iter().any(fact);
        let allowed = summary.allowed.iter().map(|it| escape(&it.text()));
        let differing: Vec<String> = allowed.collect();
        let has_per = |per: fn(&Per) -> bool| summary.normalised.iter().any(|it| per(&it.what.per));
        Self {
            count: columns.len(),
            first: columns.first().map_or(String::new(), |it| escape(&it.name)),
            unlike: match differing.is_empty() {
                true => String::new(),
                false => format!(" (of runs that differ: {})", differing.join("; ")),
            },
            differing,
            tokens_differ: summary
                .allowed
                .iter()
                .any(|it| it.difference.field == "iteration_tokens"),
            power: has_per(|per| matches!(per, Per::Watt { .. })),
            memory: summary.metrics.iter().any(|it| it.what.is_memory()),
            trained: summary
                .rates
                .iter()
                .any(|it| it.what != Rate::GeneratedTokens),
            generated: summary
                .rates
                .iter()
                .any(|it| it.what == Rate::GeneratedTokens),
            warnings: summary.warnings.iter().map(|it| escape(it)).collect(),
            notices: summary.notices.iter().map(|it| escape(it)).collect(),
            columns: about(columns),
            metrics: rows(
                summary,
                &summary.metrics,
                |kind| capital(name(*kind)),
                |kind, x| value(*kind, x),
            ),
            changes: changes(summary),
            rates: (!summary.rates.is_empty()).then(|| {
                rows(
                    summary,
                    &summary.rates,
                    |it| capital(rate(*it)),
                    |_, x| units::significant(x, 4),
                )
            }),
            normalised: (!summary.normalised.is_empty()).then(|| {
                let what = |it: &Normalised| {
                    format!("{} per {}", capital(rate(it.rate)), escape(&per(&it.per)))
                };
                rows(summary, &summary.normalised, what, |_, x| {
                    units::significant(x, 4)
                })
            }),
            counts: (!summary.counts.is_empty()).then(|| {
                rows(
                    summary,
                    &summary.counts,
                    |it| {
                        let (name, unit) = count(*it);
                        format!("{} ({unit})", capital(name))
                    },
                    |_, x| units::significant(x, 5),
                )
            }),
            sources: match has_per(|per| *per == Per::Bandwidth) {
                true => columns.iter().filter_map(source).collect(),
                false => Vec::new(),
            },
            apart: apart(summary),
            columns_chart: has(COLUMNS),
            rates_chart: has(STEP_RATES),
            not_drawn: columns.len().saturating_sub(MOST_COLUMNS),
            most_drawn: MOST_COLUMNS,
            single: any(|it| it.runs.len() == 1),
            random_weights: any(|it| {
                matches!(
                    it.start.model.weights,
                    metrics::record::Weights::Random { .. }
                )
            }),
            practical: percent(summary.rules.practical),
            error_rate: percent(summary.rules.error_rate),
            words: view::rules::words(&[Group::Comparison, Group::Validity]),
            thresholds: view::rules::thresholds(&rules, &[Group::Comparison]),
        }
    }
}

/// A rate as a reader calls it.
pub fn rate(rate: Rate) -> &'static str {
    match rate {
        Rate::Iterations => "iterations/s",
        Rate::TrainedTokens => "trained tokens/s",
        Rate::GeneratedTokens => "generated tokens/s",
    }
}

/// A count as a reader calls it, and its unit.
pub fn count(count: Count) -> (&'static str, &'static str) {
    match count {
        Count::Instructions => ("instructions", "per iteration"),
        Count::Cycles => ("cycles", "per iteration"),
        Count::ProcessEnergy => ("energy of the process", "J per iteration"),
    }
}

/// What it is divided by.
pub fn per(per: &Per) -> String {
    match per {
        Per::Bandwidth => "GB/s of memory bandwidth".to_owned(),
        Per::GpuCore => "GPU core".to_owned(),
        Per::Watt { rail } => format!("watt of {rail}"),
    }
}

/// The word for the verdict of one metric between columns, none of which is another state of the
/// other: as between different programs.
pub fn word(metric: &MetricComparison) -> &'static str {
    let memory = MetricKind::named(&metric.name).is_some_and(MetricKind::is_memory);
    match (&metric.verdict, memory) {
        (Verdict::Regressed, true) => "more",
        (Verdict::Regressed, false) => "slower",
        (Verdict::Improved, true) => "less",
        (Verdict::Improved, false) => "faster",
        (verdict, _) => verdict.word(),
    }
}

pub(crate) fn capital(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|it| it.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}

fn head(summary: &Summary, first: &str) -> Vec<String> {
    let names = summary.columns.iter().map(|column| escape(&column.name));
    iter::once(first.to_owned()).chain(names).collect()
}

/// What each column is.
fn about(columns: &[Column]) -> String {
    let head: Vec<String> = iter::once("Column".to_owned())
        .chain(columns.iter().map(|column| escape(&column.name)))
        .collect();
    let row = |name: &str, cell: &dyn Fn(&Column) -> Option<String>| -> Vec<String> {
        let cells = columns
            .iter()
            .map(|it| cell(it).unwrap_or(NOT_MEASURED.to_owned()));
        iter::once(name.to_owned()).chain(cells).collect()
    };
    let rows = [
        row("Runs", &|it| Some(it.runs.len().to_string())),
        row("Device", &|it| Some(view::device(&it.start))),
        row("Model of the machine", &|it| {
            it.start.machine.model_id.as_deref().map(escape)
        }),
        row("Memory", &|it| {
            it.start.machine.memory_bytes.map(units::bytes)
        }),
        row("GPU cores", &|it| {
            it.start.machine.gpu_cores.map(|cores| cores.to_string())
        }),
        row("System", &|it| {
            let version = it.start.machine.os_version.as_deref()?;
            Some(escape(&format!("{} {version}", it.start.machine.os)))
        }),
        row("Program", &|it| Some(view::program(&it.start))),
        row("Commit", &|it| {
            let commit = it.start.lfmark.commit.as_deref()?;
            let dirty = if it.start.lfmark.dirty == Some(true) {
                " with changes"
            } else {
                ""
            };
            Some(format!(
                "{}{dirty}",
                escape(commit.get(..12).unwrap_or(commit))
            ))
        }),
        row("MLX", &|it| {
            Some(escape(&format!(
                "{} ({})",
                it.start.mlx.version, it.start.mlx.backend
            )))
        }),
        row("Model", &|it| Some(escape(&it.start.model.name))),
        row("Type", &|it| Some(escape(&it.start.config.dtype))),
        row("First run began", &|it| {
            Some(units::utc(it.start.started_unix_ms))
        }),
    ];
    table_of(&head, &rows)
}

/// One row a quantity, the best in bold.
fn rows<T>(
    summary: &Summary,
    rows: &[Row<T>],
    what: impl Fn(&T) -> String,
    write: impl Fn(&T, f64) -> String,
) -> String {
    let rows = rows.iter().map(|row| {
        let cells = row.cells.iter().enumerate().map(|(column, cell)| {
            let Some(cell) = cell else {
                return NOT_MEASURED.to_owned();
            };
            let mean = write(&row.what, cell.geometric_mean);
            let mean = match row.best == Some(column) {
                true => format!("**{mean}**"),
                false => mean,
            };
            let around = set::or_none(cell.interval, |(low, high)| {
                format!("{} to {}", write(&row.what, low), write(&row.what, high))
            });
            format!("{mean} ({around})")
        });
        iter::once(what(&row.what)).chain(cells).collect::<Vec<_>>()
    });
    table_of(&head(summary, "Quantity"), &rows.collect::<Vec<_>>())
}

/// What was found of a metric in a column against the first.
fn found(column: &Column, kind: MetricKind) -> Option<&MetricComparison> {
    let metrics = &column.against_first.as_ref()?.metrics;
    metrics.iter().find(|metric| metric.name == kind.name())
}

fn changes(summary: &Summary) -> String {
    let rows = summary.metrics.iter().map(|row| {
        let cells = summary.columns.iter().skip(1).map(|column| {
            found(column, row.what).map_or(NOT_MEASURED.to_owned(), |it| {
                format!(
                    "{}: {} ({})",
                    word(it),
                    change(it.change),
                    interval(it.adjusted)
                )
            })
        });
        iter::once(capital(name(row.what)))
            .chain(cells)
            .collect::<Vec<_>>()
    });
    let mut head = head(summary, "Metric");
    // The first column is what the others are against.
    head.drain(1..head.len().min(2));
    table_of(&head, &rows.collect::<Vec<_>>())
}

/// Where the bandwidth of a column comes from.
fn source(column: &Column) -> Option<String> {
    let bandwidth = column.bandwidth.as_ref()?;
    let figure = units::significant(bandwidth.bytes_per_second / 1e9, 4);
    let from = match bandwidth.source {
        Some(source) => escape(source),
        None => "copies of memory that its first run measured".to_owned(),
    };
    Some(format!("{}: {figure} GB/s ({from})", escape(&column.name)))
}

/// Why runs are not compared, and in what they could not be anyway.
pub fn why(apart: &Apart) -> String {
    let differs: Vec<String> = apart.differs.iter().map(Difference::text).collect();
    match differs.is_empty() {
        true => apart.why.clone(),
        false => format!("{}; not alike either: {}", apart.why, differs.join("; ")),
    }
}

fn apart(summary: &Summary) -> Option<String> {
    let shown = [
        MetricKind::StepTime,
        MetricKind::TokenTime,
        MetricKind::PeakMemory,
    ];
    let rows = summary.apart.iter().map(|it| {
        let metrics = shown.map(|kind| {
            let found = it.metrics.get(&kind);
            found.map_or(NOT_MEASURED.to_owned(), |cell| {
                value(kind, cell.geometric_mean)
            })
        });
        let about = [
            escape(&it.column),
            it.runs.len().to_string(),
            escape(&why(it)),
        ];
        about.into_iter().chain(metrics).collect::<Vec<_>>()
    });
    let rows: Vec<_> = rows.collect();
    let head = ["Column", "Runs", "Why"].map(str::to_owned).into_iter();
    let head: Vec<String> = head.chain(shown.map(|kind| capital(name(kind)))).collect();
    (!rows.is_empty()).then(|| table_of(&head, &rows))
}

/// Longest name of a column in a chart.
const COLUMN_NAME: usize = 48;

/// The title of a chart, with the fields that were allowed to differ.
fn titled(title: &str, summary: &Summary) -> String {
    let fields = summary
        .allowed
        .iter()
        .map(|it| it.difference.field.as_str());
    let fields: Vec<&str> = fields.collect();
    match fields.is_empty() {
        true => title.to_owned(),
        false => shorten(&format!("{title}; {} may differ", fields.join(", ")), 64),
    }
}

/// Every metric and rate as a group of bars.
fn columns_chart(summary: &Summary) -> Option<Result<String, ChartError>> {
    let group = |heading: String, cells: &[Option<Estimate>], write: &dyn Fn(f64) -> String| {
        let bars = summary.columns.iter().zip(cells).take(MOST_COLUMNS);
        let bar = |(column, cell): (&Column, &Option<Estimate>)| {
            cell.map(|cell| Bar {
                label: shorten(&column.name, COLUMN_NAME),
                value: cell.geometric_mean,
                interval: cell.interval,
                text: write(cell.geometric_mean),
            })
        };
        BarGroup {
            heading,
            bars: bars.map(bar).collect(),
        }
    };
    let metrics = summary
        .metrics
        .iter()
        .map(|row| group(capital(name(row.what)), &row.cells, &|x| value(row.what, x)));
    let rates = summary.rates.iter().map(|row| {
        group(capital(rate(row.what)), &row.cells, &|x| {
            units::significant(x, 4)
        })
    });
    let groups: Vec<BarGroup> = metrics.chain(rates).collect();
    let title = titled("Every quantity by column", summary);
    (!groups.is_empty()).then(|| charts::bar_groups(&title, &groups))
}

fn step_rates_chart(summary: &Summary) -> Option<Result<String, ChartError>> {
    let curves = summary
        .columns
        .iter()
        .take(MOST_COLUMNS)
        .map(|column| Curve {
            name: column.name.clone(),
            points: column.step_rates.clone(),
        });
    let curves: Vec<Curve> = curves.collect();
    let some = curves.iter().any(|curve| !curve.points.is_empty());
    let title = titled("Step rate by iteration", summary);
    some.then(|| charts::overlay(&title, "iterations per second", &curves))
}
