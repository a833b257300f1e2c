//! What Criterion estimated: its `estimates.json`, or the lines that it prints.

use metrics::claims::{Quantity as Q, Unit};
use serde_json::Value;

use super::{Cell, ImportError, Page, bounded, lines, other};

const PROGRAM: &str = "Criterion";

const COLUMNS: [&str; 4] = ["Figure", "Lower bound, s", "Estimate, s", "Upper bound, s"];

/// Names in `estimates.json`.
const ESTIMATES: [&str; 5] = ["mean", "median", "slope", "std_dev", "median_abs_dev"];

/// Whether a JSON object is the content of `estimates.json`.
pub(super) fn is_estimates(value: &Value) -> bool {
    let estimate = |name| value.get(name).and_then(|it| it.get("point_estimate"));
    estimate("mean").is_some() && estimate("median").is_some()
}

/// The content of `estimates.json`, which holds nanoseconds.
pub(super) fn of_estimates(value: &Value) -> Result<Page, ImportError> {
    let rows = ESTIMATES.iter().filter_map(|&name| {
        let estimate = value.get(name)?;
        let point = estimate.get("point_estimate")?.as_f64()?;
        let interval = estimate.get("confidence_interval");
        let bound = |which| interval.and_then(|it| it.get(which)?.as_f64());
        Some(row(
            name.replace('_', " "),
            bound("lower_bound").map(seconds),
            Some(seconds(point)),
            bound("upper_bound").map(seconds),
        ))
    });
    let rows: Vec<_> = rows.collect();
    finish(rows, "The name of the benchmark is not in the source.")
}

/// Nanoseconds with six digits after the first, as seconds.
fn seconds(ns: f64) -> String {
    format!("{:.6e}", ns / 1e9)
}

/// Lines such as `name  time:   [12.911 ms 14.941 ms 17.134 ms]`; `None` for a text without one.
pub(super) fn of_text(text: &str) -> Result<Option<Page>, ImportError> {
    let mut rows = Vec::new();
    let mut last = "";
    for line in lines(text) {
        let Some((name, rest)) = line.split_once("time:") else {
            last = line;
            continue;
        };
        let inner = rest
            .trim()
            .strip_prefix('[')
            .and_then(|it| it.split_once(']'));
        let Some((inner, _)) = inner else { continue };
        let words: Vec<&str> = inner.split_whitespace().collect();
        let [low, a, point, b, high, c] = words[..] else {
            continue;
        };
        // A long name stands on a line of its own.
        let name = if name.trim().is_empty() {
            last
        } else {
            name.trim()
        };
        let of = |number: &str, unit: &str| Some(format!("{number}e{}", exponent(unit)?));
        rows.push(row(name.to_owned(), of(low, a), of(point, b), of(high, c)));
        bounded(&rows)?;
    }
    match rows.is_empty() {
        true => Ok(None),
        false => finish(
            rows,
            "What an estimate is of, a mean or a slope, is not in the source.",
        )
        .map(Some),
    }
}

/// Of a unit of time, as a power of ten of seconds.
fn exponent(unit: &str) -> Option<i32> {
    match unit {
        "ps" => Some(-12),
        "ns" => Some(-9),
        "µs" | "μs" | "us" => Some(-6),
        "ms" => Some(-3),
        "s" => Some(0),
        _ => None,
    }
}

fn row(
    name: String,
    low: Option<String>,
    point: Option<String>,
    high: Option<String>,
) -> Vec<Cell> {
    let figure = |what: &str, printed: Option<String>| {
        let of = other(format!("{name}, {what}"));
        Cell::maybe(Q::WallTime, Unit::Seconds, printed.as_deref(), of)
    };
    let cells = [
        figure("lower bound", low),
        figure("estimate", point),
        figure("upper bound", high),
    ];
    std::iter::once(Cell::name(name.clone()))
        .chain(cells)
        .collect()
}

fn finish(rows: Vec<Vec<Cell>>, lacks: &'static str) -> Result<Page, ImportError> {
    if rows.is_empty() {
        return Err(ImportError::Empty {
            program: PROGRAM,
            why: "no estimate is in it",
        });
    }
    let mut page = Page::default();
    page.table("Estimates", &COLUMNS, rows);
    page.note(lacks);
    page.note(
        "The intervals treat the samples of one process as independent; how far processes lie \
         apart is not in the source.",
    );
    page.note("The samples, the machine and the build are not in the source.");
    Ok(page)
}
