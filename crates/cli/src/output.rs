//! What the program prints, and the reports it writes.

use std::{fs, io, io::Write, path::Path};

use anyhow::Context;
use metrics::{store::Record, summary::summarize};
use report::{Rendered, units};
use serde_json::{Value, json};

use crate::exit::Failure;

/// Prints a line on stdout. A reader that has gone away is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(anyhow::Error::from(error)
            .context("cannot write to stdout")
            .into()),
        _ => Ok(()),
    }
}

/// Prints a message on stderr, unless it is to be quiet. A message that nobody can read is no
/// reason to stop.
pub(crate) fn message(quiet: bool, text: &str) {
    if !quiet {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Renders a record and writes its files, in place of those of an earlier report.
pub(crate) fn write_report(record: &Record, dir: &Path) -> anyhow::Result<()> {
    let rendered = report::render(record)?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for name in report::file_names() {
        // A chart that this record has no data for must not be left from another one.
        if rendered.get(name).is_none() {
            let stale = dir.join(name);
            if stale.is_file() {
                fs::remove_file(&stale)
                    .with_context(|| format!("cannot remove {}", stale.display()))?;
            }
        }
    }
    write_files(&rendered, dir)
}

fn write_files(rendered: &Rendered, dir: &Path) -> anyhow::Result<()> {
    for file in &rendered.files {
        let path = dir.join(file.name);
        fs::write(&path, &file.text).with_context(|| {
            format!(
                "cannot write {}; the record is safe, and `lfmark report` writes the report anew",
                path.display()
            )
        })?;
    }
    Ok(())
}

/// The result of a run for machines: where it is, and everything derived from it.
pub(crate) fn run_json(record: &Record, dir: &Path) -> Value {
    json!({
        "run": dir.display().to_string(),
        "report": dir.join(report::REPORT).display().to_string(),
        "summary": summarize(record),
    })
}

/// The result of a run in a few lines.
pub(crate) fn run_text(record: &Record, dir: &Path) -> String {
    let summary = summarize(record);
    let mut lines = Vec::new();
    if let Some(training) = &summary.training {
        let rate =
            |rate: Option<f64>| rate.map_or("not measured".into(), |r| units::significant(r, 4));
        lines.push(format!(
            "training    {} iterations, {} it/s by step time, {} tokens/s, peak {}",
            units::count(u64::from(training.iterations)),
            rate(training.iterations_per_step_second),
            rate(training.real_tokens.per_step_second),
            units::bytes(training.peak_bytes)
        ));
    }
    for generation in &summary.generations {
        let rate = generation.tokens_per_second;
        lines.push(format!(
            "generation  {} tokens, {} tokens/s, first token after {}",
            generation.generated_tokens,
            rate.map_or("not measured".into(), |r| units::significant(r, 4)),
            generation
                .first_token_ns
                .map_or("not measured".into(), units::duration)
        ));
    }
    lines.push(format!(
        "report      {}",
        dir.join(report::REPORT).display()
    ));
    lines.join("\n")
}
