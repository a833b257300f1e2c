//! `lfmark history`: values from commit to commit, as a page of plain files.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use metrics::{
    compare::Runs,
    history::{self, Summary},
    record::Schema,
    rules::Rules,
    store,
};
use report::{HISTORY_CSV, HISTORY_JSON, HISTORY_PAGE, HISTORY_SCHEMA, units};
use serde::Deserialize;
use serde_json::json;

use crate::{
    args::{HistoryArgs, Output},
    exit::Failure,
    git, output, records, whole,
};

pub(crate) fn run(args: &HistoryArgs, output: Output) -> Result<(), Failure> {
    let at_hand = args.branch.is_some().then_some(Path::new("."));
    let repository = args.repository.as_deref().or(at_hand);
    let mut runs = Runs::across_builds();
    records::read_into(&mut runs, &args.runs, |_| "")?;
    if let (Some(branch), Some(repository)) = (&args.branch, repository) {
        git::records(repository, branch, |folder, text| {
            let record = text.and_then(|text| store::parse(&text).map_err(|it| it.to_string()));
            match record {
                Ok(record) => runs.add("", folder, &record),
                Err(problem) => runs.notice(format!("{folder} is left out: {problem}")),
            }
        })?;
    }
    for notice in runs.notices() {
        output::message(output.quiet, &format!("note: {notice}"));
    }
    if runs.is_empty() {
        return Err(Failure::Usage(
            "no record could be read; name a folder of runs, or a --branch that has some"
                .to_owned(),
        ));
    }
    let commits = repository.map(|it| git::commits(it, runs.commits().into_iter()));
    let commits = commits.transpose()?;
    let mut rules = Rules::default();
    if let Some(thresholds) = &args.rules {
        rules = thresholds.over(rules).map_err(Failure::Usage)?;
    }
    let summary = history::summarize(&runs, &args.allow, commits.as_ref(), &rules.comparison)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    write(&summary, &args.output)?;
    let page = args.output.join(HISTORY_PAGE).display().to_string();
    output::print(&match output.json {
        true => json!({ "page": page, "history": summary }).to_string(),
        false => output::shown(&to_text(&summary, &page)),
    })
}

fn to_text(summary: &Summary, page: &str) -> String {
    let mut lines = Vec::new();
    for series in &summary.series {
        let runs: usize = series.commits.iter().map(|it| it.runs.len()).sum();
        lines.push(format!(
            "series   {}: {} of {}",
            report::visible(&series.name, false),
            units::counted(runs as u64, "run"),
            units::counted(series.commits.len() as u64, "commit")
        ));
    }
    let changes = report::history_lines(summary);
    lines.extend(changes.iter().map(|line| format!("change   {line}")));
    for (why, runs) in &summary.apart {
        let why = report::visible(why, false);
        let runs = units::counted(runs.len() as u64, "run");
        lines.push(format!("apart    {runs}: {why}"));
    }
    lines.push(format!("page     {page}"));
    lines.join("\n")
}

/// Writes the page in place of an earlier one. Every file is whole at any moment, and the page
/// itself, which has the charts in it, is replaced last.
fn write(summary: &Summary, dir: &Path) -> anyhow::Result<()> {
    let rendered = report::render_history(summary)?;
    let json = report::render_history_json(summary).context("cannot write JSON")?;
    let csv = report::render_history_csv(summary).context("cannot write CSV")?;
    let page = report::render_html(&rendered);
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let _lock = whole::lock(dir)?;
    let replaces = is_page(dir);
    ensure!(
        replaces || fs::symlink_metadata(dir.join(HISTORY_PAGE)).is_err(),
        "{} is no page of lfmark and is not overwritten; choose another --output",
        dir.join(HISTORY_PAGE).display()
    );
    whole::clear_parts(dir)?;
    let files = rendered.files.iter().map(|it| (it.name, it.text.as_str()));
    let others = [
        (HISTORY_CSV, csv),
        (HISTORY_JSON, json),
        (HISTORY_PAGE, page),
    ];
    let others = others.iter().map(|(name, text)| (*name, text.as_str()));
    let mut written = Vec::new();
    for (name, text) in files.chain(others) {
        whole::replace(&dir.join(name), text.as_bytes())?;
        written.push(name);
    }
    // What this page does not have must not be left from another one.
    let stale = report::history_file_names().filter(|name| replaces && !written.contains(name));
    for path in stale.map(|name| dir.join(name)).filter(|it| it.is_file()) {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Whether this command wrote a page into a folder.
fn is_page(dir: &Path) -> bool {
    #[derive(Deserialize)]
    struct Header {
        schema: Schema,
        #[serde(rename = "by_repository")]
        _by_repository: bool,
    }
    let text = fs::read_to_string(dir.join(HISTORY_JSON)).unwrap_or_default();
    let header: Result<Header, _> = serde_json::from_str(&text);
    header.is_ok_and(|header| header.schema.major == HISTORY_SCHEMA.major)
}
