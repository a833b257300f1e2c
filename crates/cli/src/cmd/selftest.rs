//! `lfmark selftest`: whether planted faults are found, and how often.

use std::{fs, path::Path};

use anyhow::Context;
use metrics::{
    power::{self, Table},
    rules::Rules,
    selftest::{self, Finding, Judged},
};
use report::Rendered;
use serde_json::json;

use crate::{
    args::{Output, Presentation, SelftestArgs},
    exit::Failure,
    output, progress,
};

/// Every count of the table, beside its report.
const COUNTS: &str = "detectors.json";

pub(crate) fn run(args: &SelftestArgs, output: Output) -> Result<(), Failure> {
    let dir = args.output.as_deref();
    match args.simulations {
        None => plants(dir, output),
        Some(simulations) => table(simulations, dir, output),
    }
}

/// Plants every fault once.
fn plants(kept: Option<&Path>, output: Output) -> Result<(), Failure> {
    let temporary = tempfile::tempdir().context("cannot create a temporary folder")?;
    let dir = kept.unwrap_or(temporary.path());
    let rules = Rules::default();
    let mut findings = Vec::new();
    for plant in selftest::plants() {
        let mut finding = plant.check(&rules, dir)?;
        let rendered = match &finding.judged {
            Judged::Run(record) => report::render(record)?,
            Judged::Set(set) => report::render_set(set, None)?,
            Judged::Pairs => {
                findings.push(finding);
                continue;
            }
        };
        check_report(&mut finding, &rendered);
        if kept.is_some() {
            output::write_set(&rendered, &Presentation::default(), &dir.join(finding.name))?;
        }
        findings.push(finding);
    }
    let failed: Vec<_> = findings.iter().filter(|finding| !finding.pass).collect();
    output::print(&match output.json {
        true => json!({
            "plants": findings,
            "passed": findings.len() - failed.len(),
            "failed": failed.len(),
        })
        .to_string(),
        false => lines(&findings),
    })?;
    if failed.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = failed.iter().map(|finding| finding.name).collect();
    Err(Failure::Incomplete(format!(
        "{} of {} plants have another verdict than the right one: {}; this build's verdicts \
         cannot be relied on",
        failed.len(),
        findings.len(),
        names.join(", ")
    )))
}

/// The report has to say what was found.
fn check_report(finding: &mut Finding, rendered: &Rendered) {
    let text = rendered.get(report::REPORT).unwrap_or_default();
    for word in &finding.got {
        // Not the word by itself, which the rules of a report have too.
        let said = match finding.judged {
            Judged::Run(_) => format!("**{word}**"),
            Judged::Set(_) | Judged::Pairs => format!(": {word}.**"),
        };
        if !text.contains(&said) {
            finding.pass = false;
            let silent = format!("the report does not say \"{word}\"");
            finding.figures.push(silent);
        }
    }
}

/// A table, with the figures of what failed below it.
fn lines(findings: &[Finding]) -> String {
    let rows: Vec<[String; 4]> = findings
        .iter()
        .map(|finding| {
            [
                finding.planted.to_owned(),
                finding.expected.join(", "),
                finding.got.join(", "),
                if finding.pass { "ok" } else { "FAILED" }.to_owned(),
            ]
        })
        .collect();
    let head = ["planted", "expected", "got", ""].map(str::to_owned);
    let all = || std::iter::once(&head).chain(&rows);
    let width = |column: usize| {
        all()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut lines: Vec<String> = all()
        .map(|[planted, expected, got, pass]| {
            format!(
                "{planted:0$}  {expected:1$}  {got:2$}  {pass}",
                widths[0], widths[1], widths[2]
            )
        })
        .map(|line| line.trim_end().to_owned())
        .collect();
    for finding in findings.iter().filter(|finding| !finding.pass) {
        lines.push(format!("\n{}:", finding.name));
        lines.extend(finding.figures.iter().map(|figure| format!("  {figure}")));
    }
    lines.join("\n")
}

/// Draws every cell again and again, and writes the table of how often its verdict is right.
fn table(simulations: u32, dir: Option<&Path>, output: Output) -> Result<(), Failure> {
    if let Some(dir) = dir {
        // Known before the simulations have cost any time.
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let cells = power::cells();
    let total = cells
        .iter()
        .map(|cell| u64::from(cell.simulations(simulations)));
    let bar = progress::counted(total.sum(), output.quiet);
    let rules = Rules::default();
    let rows = cells.iter().map(|cell| {
        let count = cell.simulations(simulations);
        let row = cell.simulate(count, power::SEED, &rules);
        bar.inc(u64::from(count));
        row
    });
    let table = Table {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: power::SEED,
        simulations,
        rules,
        rows: rows.collect(),
    };
    bar.finish_and_clear();

    let rendered = report::render_power(&table)?;
    if let Some(dir) = dir {
        let counts = serde_json::to_string_pretty(&table)? + "\n";
        let files = rendered.files.iter().map(|file| (file.name, &file.text));
        for (name, text) in files.chain([(COUNTS, &counts)]) {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    let path = dir.map(|dir| dir.join(report::REPORT));
    output::print(&match (output.json, path) {
        (true, _) => serde_json::to_string(&table)?,
        (false, Some(path)) => output::shown(&format!(
            "seed    {}\nreport  {}",
            power::SEED,
            path.display()
        )),
        (false, None) => rendered.get(report::REPORT).unwrap_or_default().to_owned(),
    })?;
    let failing: Vec<_> = (1..)
        .zip(&table.rows)
        .filter(|(_, row)| row.fails())
        .map(|(number, row): (u32, _)| {
            format!(
                "cell {number} ({}, {}, rho {}): {} of {}",
                row.planted,
                row.size,
                row.rho,
                row.simulations - row.right,
                row.simulations
            )
        })
        .collect();
    if failing.is_empty() {
        return Ok(());
    }
    Err(Failure::Incomplete(format!(
        "too many false alarms with nothing planted: {}",
        failing.join("; ")
    )))
}
