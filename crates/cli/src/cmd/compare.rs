//! `lfmark compare`: runs that were not started together, machines in columns.

use anyhow::Context;
use metrics::{
    clock::SystemClock,
    compare::{self, CompareError, Summary},
};
use report::{compare as words, set, units};
use serde_json::json;

use super::run as single;
use crate::{
    args::{CompareArgs, Format, Output},
    exit::Failure,
    output, records,
};

pub(crate) fn run(
    args: &CompareArgs,
    output: Output,
    mut clock: SystemClock,
) -> Result<(), Failure> {
    if args.presentation.template.is_some() {
        return Err(Failure::Usage(
            "--template is for the report of a single run".to_owned(),
        ));
    }
    let runs = records::read(&args.runs)?;
    // Before there can be too little left to compare.
    for notice in runs.notices() {
        output::message(output.quiet, &format!("note: {notice}"));
    }
    let mut rules = metrics::rules::Rules::default();
    if let Some(thresholds) = &args.rules {
        rules = thresholds.over(rules).map_err(Failure::Usage)?;
    }
    let compared = compare::compare(&runs, &args.allow, &rules);
    let summary = compared.map_err(|error| match &error {
        CompareError::Mismatch { .. } => Failure::NotComparable(error.to_string()),
        CompareError::UnknownField { .. } | CompareError::TooFew(_) => {
            Failure::Usage(error.to_string())
        }
    })?;
    let dir = match &args.output {
        Some(dir) => dir.clone(),
        None => single::default_folder("runs", "compare", single::started_unix_ms(&mut clock)),
    };
    let rendered = report::render_compare(&summary)?;
    let mut others = Vec::new();
    if args.presentation.has(Format::Json) {
        let text = words::render_json(&summary).context("cannot write JSON")?;
        others.push(report::File {
            name: report::COMPARISON_JSON,
            text,
        });
    }
    if args.presentation.has(Format::Csv) {
        let text = words::render_csv(&summary).context("cannot write CSV")?;
        others.push(report::File {
            name: report::COMPARISON_CSV,
            text,
        });
    }
    output::write(&rendered, others, &args.presentation, &dir)?;
    for warning in &summary.warnings {
        output::message(output.quiet, &format!("warning: {warning}"));
    }
    let report = dir.join(report::REPORT).display().to_string();
    output::print(&match output.json {
        true => json!({ "report": report, "comparison": summary }).to_string(),
        false => output::shown(&format!("{}\nreport  {report}", to_text(&summary))),
    })
}

/// Every metric of every column, and what it is against the first.
fn to_text(summary: &Summary) -> String {
    let mut lines = Vec::new();
    for difference in &summary.allowed {
        let text = report::visible(&difference.text(), false);
        lines.push(format!("allowed to differ: {text}"));
    }
    for row in &summary.metrics {
        lines.push(set::name(row.what).to_owned());
        for (index, (column, cell)) in summary.columns.iter().zip(&row.cells).enumerate() {
            let against = column.against_first.as_ref();
            let against = against.and_then(|it| {
                let mut metrics = it.metrics.iter();
                metrics.find(|metric| metric.name == row.what.name())
            });
            let judged =
                against.map(|it| format!("{} {}", words::word(it), set::change(it.change)));
            lines.push(format!(
                "  {:<40} {:>5} {:>12}  {}{}",
                report::visible(&column.name, false),
                units::count(column.runs.len() as u64),
                cell.map_or(units::NOT_MEASURED.to_owned(), |cell| {
                    set::value(row.what, cell.geometric_mean)
                }),
                judged.unwrap_or_default(),
                if row.best == Some(index) {
                    "  best"
                } else {
                    ""
                },
            ));
        }
    }
    lines.extend(summary.apart.iter().map(|it| {
        format!(
            "not compared: {} of {} ({})",
            units::count(it.runs.len() as u64),
            report::visible(&it.column, false),
            report::visible(&words::why(it), false)
        )
    }));
    lines.join("\n")
}
