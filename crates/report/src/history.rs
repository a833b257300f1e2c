//! The page of a history: machines' values from commit to commit, and where their level changed.

use metrics::figures::MetricKind;
use metrics::history::{Change, FEWEST_COMMITS, Meanwhile, Series, Summary, Trend};
use metrics::record::Schema;
use serde::Serialize;

use crate::charts;
use crate::compare::{capital, plain_cell};
use crate::markdown::{escape, shorten, visible};
use crate::set::{self, change, interval, name, percent, table_of, value};
use crate::units::{self, NOT_MEASURED};
use crate::{File, REPORT, Rendered, ReportError, json, view};

const TEMPLATE: &str = include_str!("../templates/history.md.tera");

/// Names of the page, and of the files with every derived value and with one row a commit and
/// metric.
pub const HISTORY_PAGE: &str = "index.html";
pub const HISTORY_JSON: &str = "history.json";
pub const HISTORY_CSV: &str = "history.csv";

/// The schema of `history.json` that this build writes.
pub const HISTORY_SCHEMA: Schema = Schema { major: 1, minor: 1 };

/// Series that a chart shows at most.
const MOST_DRAWN: usize = 12;

/// Characters of a commit that tell it from the others of a repository.
const SHORT: usize = 10;

/// The chart of each metric.
const CHARTS: [(MetricKind, &str); 8] = [
    (MetricKind::StepTime, "step-time-history.svg"),
    (MetricKind::StepP95, "step-p95-history.svg"),
    (MetricKind::IterationWall, "iteration-wall-history.svg"),
    (MetricKind::FirstToken, "first-token-history.svg"),
    (MetricKind::TokenTime, "token-time-history.svg"),
    (MetricKind::PeakMemory, "peak-memory-history.svg"),
    (MetricKind::Footprint, "footprint-history.svg"),
    (MetricKind::TimeToStep10, "time-to-step-10-history.svg"),
];

/// Every name that a file of a history can have.
pub fn history_file_names() -> impl Iterator<Item = &'static str> {
    let others = [HISTORY_PAGE, REPORT, HISTORY_JSON, HISTORY_CSV];
    CHARTS.into_iter().map(|it| it.1).chain(others)
}

/// Renders a history as Markdown and charts.
///
/// # Errors
///
/// See [`ReportError`].
pub fn render_history(summary: &Summary) -> Result<Rendered, ReportError> {
    let mut drawn = Vec::new();
    for (metric, name) in CHARTS {
        let plots: Vec<charts::Trend> = series_with(summary, metric)
            .take(MOST_DRAWN)
            .map(|(series, trend)| plot(series, trend))
            .collect();
        if plots.is_empty() {
            continue;
        }
        let svg = charts::trends(&alt(metric), &plots);
        drawn.push(File::chart(name, svg)?);
    }
    Rendered::of(TEMPLATE, &View::new(summary, &drawn), drawn)
}

/// The history for other programs.
///
/// # Errors
///
/// None that a record can cause.
pub fn render_history_json(summary: &Summary) -> Result<String, serde_json::Error> {
    json::versioned(HISTORY_SCHEMA, summary)
}

/// One row for each commit and metric of every series (RFC 4180); what was not measured is an empty
/// cell.
///
/// # Errors
///
/// None that a record can cause.
pub fn render_history_csv(summary: &Summary) -> Result<String, csv::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        series: String,
        commit: &'a str,
        committed_unix_s: Option<u64>,
        started_unix_ms: u64,
        metric: &'static str,
        unit: &'static str,
        runs: Option<usize>,
        geometric_mean: Option<f64>,
        interval_low: Option<f64>,
        interval_high: Option<f64>,
        level: Option<f64>,
    }
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    for series in &summary.series {
        for trend in &series.trends {
            for (at, (commit, point)) in series.commits.iter().zip(&trend.points).enumerate() {
                let mut levels = trend.levels.iter();
                let level = levels.find(|level| (level.first..=level.last).contains(&at));
                writer.serialize(Row {
                    series: plain_cell(&series.name),
                    commit: &plain_cell(&commit.id),
                    committed_unix_s: commit.committed_unix_s,
                    started_unix_ms: commit.started_unix_ms,
                    metric: trend.metric.name(),
                    unit: unit(trend.metric),
                    runs: point.map(|point| point.runs),
                    geometric_mean: point.map(|point| point.geometric_mean),
                    interval_low: point.and_then(|point| point.interval).map(|it| it.0),
                    interval_high: point.and_then(|point| point.interval).map(|it| it.1),
                    level: level.map(|level| level.commits.geometric_mean),
                })?;
            }
        }
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8(bytes).map_err(std::io::Error::other)?)
}

fn unit(metric: MetricKind) -> &'static str {
    if metric.is_memory() { "bytes" } else { "ns" }
}

/// Every change of every series, one a line, for a terminal.
pub fn history_lines(summary: &Summary) -> Vec<String> {
    let lines = all_changes(summary).map(|(series, trend, change)| {
        format!(
            "{}: {} {} {} in {}{}",
            visible(&series.name, false),
            name(trend.metric),
            change.verdict.word(),
            set::change(change.change),
            short_range(series, change),
            match meanwhile(change) {
                Some(texts) => format!(", where this changed too: {}", visible(&texts, false)),
                None => String::new(),
            },
        )
    });
    lines.collect()
}

fn all_changes(summary: &Summary) -> impl Iterator<Item = (&Series, &Trend, &Change)> {
    let trends = summary
        .series
        .iter()
        .flat_map(|series| series.trends.iter().map(move |trend| (series, trend)));
    trends.flat_map(|(series, trend)| trend.changes.iter().map(move |it| (series, trend, it)))
}

fn series_with(summary: &Summary, metric: MetricKind) -> impl Iterator<Item = (&Series, &Trend)> {
    summary.series.iter().filter_map(move |series| {
        let mut trends = series.trends.iter();
        Some((series, trends.find(|trend| trend.metric == metric)?))
    })
}

/// A commit by what tells it from others.
fn short(id: &str) -> String {
    shorter(id, SHORT)
}

fn shorter(id: &str, characters: usize) -> String {
    visible(&id.chars().take(characters).collect::<String>(), false)
}

fn short_range(series: &Series, change: &Change) -> String {
    let ends = [change.after, change.up_to].map(|at| short(&series.commits[at].id));
    ends.join("..")
}

fn meanwhile(change: &Change) -> Option<String> {
    let texts: Vec<String> = change.meanwhile.iter().map(Meanwhile::text).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn alt(metric: MetricKind) -> String {
    format!("{} by commit", capital(name(metric)))
}

fn plot(series: &Series, trend: &Trend) -> charts::Trend {
    let measured = trend.points.iter().flatten().map(|it| it.geometric_mean);
    let largest = measured.fold(0.0, f64::max);
    let (scale, y_name) = match trend.metric.is_memory() {
        true if largest >= 1e9 => (1e9, "GB"),
        true => (1e6, "MB"),
        false => charts::time_unit(largest as u64),
    };
    let points = trend.points.iter().enumerate().filter_map(|(at, point)| {
        let point = point.as_ref()?;
        let interval = point.interval.map(|it| (it.0 / scale, it.1 / scale));
        Some(charts::Dot {
            x: at as f64,
            y: point.geometric_mean / scale,
            interval,
        })
    });
    let levels = trend.levels.iter();
    charts::Trend {
        heading: format!("{}: {}", capital(name(trend.metric)), series.name),
        y_name: y_name.to_owned(),
        commits: series.commits.iter().map(|it| shorter(&it.id, 7)).collect(),
        points: points.collect(),
        levels: levels
            .map(|it| (it.first, it.last, it.commits.geometric_mean / scale))
            .collect(),
        changes: trend
            .changes
            .iter()
            .map(|it| (it.after, it.up_to))
            .collect(),
    }
}

/// What the template fills in; every string is Markdown.
#[derive(Serialize)]
struct View {
    commits: usize,
    series_count: usize,
    by_repository: bool,
    notices: Vec<String>,
    allowed: Vec<String>,
    changes: Option<String>,
    series: String,
    warnings: Vec<String>,
    levels: String,
    charts: Vec<Chart>,
    not_drawn: usize,
    most_drawn: usize,
    apart: Option<String>,
    differing_counts: bool,
    fewest: usize,
    practical: String,
    error_rate: String,
}

#[derive(Serialize)]
struct Chart {
    name: &'static str,
    alt: String,
}

impl View {
    fn new(summary: &Summary, drawn: &[File]) -> Self {
        let mut commits: Vec<&str> = summary
            .series
            .iter()
            .flat_map(|series| series.commits.iter().map(|it| it.id.as_str()))
            .collect();
        commits.sort_unstable();
        commits.dedup();
        let counts = |series: &Series| {
            let mut runs = series.commits.iter().map(|it| it.runs.len());
            let first = runs.next();
            !runs.all(|count| Some(count) == first)
        };
        let warnings = summary.series.iter().flat_map(|series| {
            let of = |warning: &String| format!("{}: {}", escape(&series.name), escape(warning));
            series.warnings.iter().map(of)
        });
        let charts = CHARTS.into_iter().filter(|(_, name)| {
            let mut drawn = drawn.iter();
            drawn.any(|file| file.name == *name)
        });
        Self {
            commits: commits.len(),
            series_count: summary.series.len(),
            by_repository: summary.by_repository,
            notices: summary.notices.iter().map(|it| escape(it)).collect(),
            allowed: summary
                .allowed
                .iter()
                .map(|it| escape(&it.text()))
                .collect(),
            changes: changes(summary),
            series: about(&summary.series),
            warnings: warnings.collect(),
            levels: levels(summary),
            charts: charts
                .map(|(metric, name)| Chart {
                    name,
                    alt: alt(metric),
                })
                .collect(),
            not_drawn: summary.series.len().saturating_sub(MOST_DRAWN),
            most_drawn: MOST_DRAWN,
            apart: apart(summary),
            differing_counts: summary.series.iter().any(counts),
            fewest: FEWEST_COMMITS,
            practical: percent(summary.rules.practical),
            error_rate: percent(summary.rules.error_rate),
        }
    }
}

fn strings<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn changes(summary: &Summary) -> Option<String> {
    let rows = all_changes(summary).map(|(series, trend, it)| {
        let commits = it.commits.map_or("not known".to_owned(), |commits| {
            units::count(commits as u64)
        });
        vec![
            escape(&series.name),
            capital(name(trend.metric)),
            it.verdict.word().to_owned(),
            format!("{} ({})", change(it.change), interval(it.interval)),
            escape(&short_range(series, it)),
            commits,
            meanwhile(it).map_or("nothing known".to_owned(), |texts| escape(&texts)),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let head = strings([
        "Series",
        "Metric",
        "Word",
        "Change",
        "Range",
        "Commits in it",
        "Changed there too",
    ]);
    (!rows.is_empty()).then(|| table_of(&head, &rows))
}

/// What each series is.
fn about(series: &[Series]) -> String {
    let rows = series.iter().map(|it| {
        let start = &it.start;
        let runs: usize = it.commits.iter().map(|commit| commit.runs.len()).sum();
        let end = |commit: Option<&metrics::history::Measured>| {
            commit.map_or(String::new(), |commit| escape(&short(&commit.id)))
        };
        vec![
            escape(&it.name),
            view::device(start),
            start
                .machine
                .memory_bytes
                .map_or(NOT_MEASURED.to_owned(), units::bytes),
            escape(&format!("{} ({})", start.mlx.version, start.mlx.backend)),
            escape(&format!("{}, {}", start.model.name, start.config.dtype)),
            units::count(it.commits.len() as u64),
            units::count(runs as u64),
            end(it.commits.first()),
            end(it.commits.last()),
        ]
    });
    let head = strings([
        "Series", "Device", "Memory", "MLX", "Model", "Commits", "Runs", "First", "Last",
    ]);
    table_of(&head, &rows.collect::<Vec<_>>())
}

/// The level that each metric has now, and that it had at first.
fn levels(summary: &Summary) -> String {
    let mut rows = Vec::new();
    for series in &summary.series {
        for trend in &series.trends {
            let (Some(first), Some(last)) = (trend.levels.first(), trend.levels.last()) else {
                continue;
            };
            let write = |x: f64| value(trend.metric, x);
            let now = last.commits;
            let around = set::or_none(now.interval, |(low, high)| {
                format!("{} to {}", write(low), write(high))
            });
            rows.push(vec![
                escape(&series.name),
                capital(name(trend.metric)),
                format!("{} ({around})", write(now.geometric_mean)),
                units::count(now.runs as u64),
                match trend.levels.len() {
                    1 => "the same".to_owned(),
                    _ => change(now.geometric_mean / first.commits.geometric_mean - 1.0),
                },
            ]);
        }
    }
    let head = strings([
        "Series",
        "Metric",
        "Level",
        "Commits on it",
        "Against the first level",
    ]);
    table_of(&head, &rows)
}

fn apart(summary: &Summary) -> Option<String> {
    /// More names than these are counted.
    const NAMED: usize = 5;
    let rows = summary.apart.iter().map(|(why, runs)| {
        let mut names: Vec<String> = runs
            .iter()
            .take(NAMED)
            .map(|it| escape(&shorten(it, 60)))
            .collect();
        if runs.len() > NAMED {
            names.push(format!(
                "and {} others",
                units::count((runs.len() - NAMED) as u64)
            ));
        }
        vec![
            escape(why),
            units::count(runs.len() as u64),
            names.join(", "),
        ]
    });
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then(|| table_of(&strings(["Why", "Runs", "Names"]), &rows))
}
