//! What the program prints, and the reports it writes.

use std::{collections::BTreeSet, fs, io, io::Write, path::Path};

use anyhow::Context;
use metrics::{store::Record, summary::Summary};
use report::{File, Rendered, ReportError, units};
use serde_json::{Value, json};

use crate::{
    args::{Format, Presentation},
    exit::Failure,
    png,
};

/// Text for a terminal: names of files and what is in them may be anything, and do nothing to it.
pub(crate) fn shown(text: &str) -> String {
    report::visible(text, true)
}

/// Prints a line on stdout; text that holds names is [`shown`] before, JSON and converted figures are
/// printed as they are. A reader that has gone away is no error.
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
        let _ = writeln!(io::stderr(), "{}", shown(text));
    }
}

/// Renders a record and writes its files, in place of those of an earlier report.
pub(crate) fn write_report(
    record: &Record,
    summary: &Summary,
    presentation: &Presentation,
    dir: &Path,
) -> Result<(), Failure> {
    let rendered = match &presentation.template {
        None => report::render_summary(record, summary).map_err(anyhow::Error::from)?,
        Some(template) => match report::render_template(record, summary, template) {
            Err(ReportError::Own(error)) => return Err(Failure::Usage(error.to_string())),
            rendered => rendered.map_err(anyhow::Error::from)?,
        },
    };
    let mut others = Vec::new();
    let mut add = |name, text: Option<String>| {
        others.extend(text.map(|text| File { name, text }));
    };
    if presentation.has(Format::Json) {
        let json = report::render_json(record, summary).context("cannot write JSON")?;
        add(report::JSON, Some(json));
    }
    if presentation.has(Format::Csv) {
        let samples = report::render_samples(record).context("cannot write CSV")?;
        add(report::SAMPLES, samples);
        let tokens = report::render_tokens(record).context("cannot write CSV")?;
        add(report::TOKENS, tokens);
    }
    Ok(write(&rendered, others, presentation, dir)?)
}

/// Writes the report of a set of runs or a sweep, in place of an earlier one.
pub(crate) fn write_set(
    rendered: &Rendered,
    presentation: &Presentation,
    dir: &Path,
) -> anyhow::Result<()> {
    write(rendered, Vec::new(), presentation, dir)
}

/// Writes a rendered report as Markdown and what else was asked for, and removes what an earlier
/// report left.
pub(crate) fn write(
    rendered: &Rendered,
    others: Vec<File>,
    presentation: &Presentation,
    dir: &Path,
) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // Beside no earlier report, files of such names are somebody's own.
    let replaces = dir.join(report::REPORT).is_file();
    let mut written: BTreeSet<String> = BTreeSet::new();
    let mut put = |name: String, bytes: &[u8]| {
        let path = dir.join(&name);
        written.insert(name);
        fs::write(&path, bytes).with_context(|| {
            format!(
                "cannot write {}; the record is safe, and `lfmark report` writes the report anew",
                path.display()
            )
        })
    };
    for file in rendered.files.iter().chain(&others) {
        put(file.name.to_owned(), file.text.as_bytes())?;
    }
    if presentation.has(Format::Html) {
        put(
            report::HTML.to_owned(),
            report::render_html(rendered).as_bytes(),
        )?;
    }
    if presentation.has(Format::Png) {
        let fonts = png::fonts()?;
        for chart in &rendered.files[1..] {
            let png = png::encode(&chart.text, &fonts);
            let png = png.with_context(|| format!("cannot draw {} as PNG", chart.name))?;
            put(png_name(chart.name), &png)?;
        }
    }
    // What this report does not have must not be left from another one.
    let stale = every_name().filter(|name| replaces && !written.contains(name));
    for path in stale
        .map(|name| dir.join(name))
        .filter(|path| path.is_file())
    {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Every name that a file of a report can have.
fn every_name() -> impl Iterator<Item = String> {
    let rendered = report::file_names()
        .chain(report::set_file_names())
        .chain(report::sweep_file_names())
        .chain(report::compare_file_names());
    let charts = rendered
        .filter(|name| name.ends_with(".svg"))
        .collect::<Vec<_>>();
    let pngs = charts.iter().map(|name| png_name(name)).collect::<Vec<_>>();
    let others = [
        report::HTML,
        report::JSON,
        report::SAMPLES,
        report::TOKENS,
        report::COMPARISON_JSON,
        report::COMPARISON_CSV,
    ];
    charts
        .into_iter()
        .chain(others)
        .map(str::to_owned)
        .chain(pngs)
}

fn png_name(chart: &str) -> String {
    format!("{}.png", chart.trim_end_matches(".svg"))
}

/// The result of a run for machines: where it is, and everything derived from it.
pub(crate) fn run_json(summary: &Summary, dir: &Path) -> Value {
    json!({
        "run": dir.display().to_string(),
        "report": dir.join(report::REPORT).display().to_string(),
        "summary": summary,
    })
}

/// The result of a run in a few lines.
pub(crate) fn run_text(summary: &Summary, presentation: &Presentation, dir: &Path) -> String {
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
    if let Some(loss) = summary.effect.as_ref().and_then(|effect| effect.loss) {
        let interval = loss
            .interval
            .map(|(low, high)| format!(" [{}, {}]", units::fixed(low, 4), units::fixed(high, 4)));
        lines.push(format!(
            "loss        {} before training, {} after, change {}{}",
            units::fixed(loss.before, 4),
            units::fixed(loss.after, 4),
            units::fixed(loss.change, 4),
            interval.unwrap_or_default()
        ));
    }
    if let (Some(judged), Some(growth)) = (&summary.steadiness, &summary.memory.growth) {
        lines.push(format!(
            "verdicts    step times: {}, memory: {}",
            judged.verdict.word(),
            growth.verdict.word()
        ));
    }
    let html = presentation.has(Format::Html).then_some(report::HTML);
    for name in [report::REPORT].into_iter().chain(html) {
        lines.push(format!("report      {}", dir.join(name).display()));
    }
    shown(&lines.join("\n"))
}
