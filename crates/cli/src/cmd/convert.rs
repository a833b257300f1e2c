//! `lfmark convert`: the figures of runs in formats of other programs.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use exchange::export;
use metrics::{run::Run, sets, store};
use serde_json::json;

use super::import;
use crate::{
    args::{ConvertArgs, Exchange, Output},
    exit::Failure,
    output,
};

pub(crate) fn run(args: &ConvertArgs, output: Output) -> Result<(), Failure> {
    let Some(path) = &args.output else {
        if output.json {
            let problem = "--json is with --output: without it, stdout holds what was converted";
            return Err(Failure::Usage(problem.to_owned()));
        }
        return convert(args, output, &mut |text| {
            output::print(text.trim_end_matches(['\r', '\n']))
        });
    };
    import::create(path, |file| {
        convert(args, output, &mut |text| {
            let written = file.write_all(text.as_bytes());
            Ok(written.with_context(|| format!("cannot write {}", path.display()))?)
        })
    })?;
    let path = path.display().to_string();
    output::print(&match output.json {
        true => json!({ "converted": path }).to_string(),
        false => output::shown(&format!("converted   {path}")),
    })
}

/// Gives the text to `write`, the samples of one run at a time: all of them can be more than memory
/// holds.
fn convert(
    args: &ConvertArgs,
    output: Output,
    write: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut runs = Vec::new();
    let folders = folders(&args.runs)?;
    let mut counts = HashMap::<_, u32>::new();
    for path in &folders {
        *counts.entry(name(path)).or_default() += 1;
    }
    for path in folders {
        let record = store::read(&path)?;
        for notice in &record.notices {
            output::message(output.quiet, &format!("note: {}: {notice}", path.display()));
        }
        let name = match name(&path) {
            None => record.start.run_id.clone(),
            // Of several folders of one name each goes by its path.
            Some(name) if counts[&Some(name.clone())] > 1 => path.display().to_string(),
            Some(name) => name,
        };
        let run = Run::of(&name, &record);
        if !run.is_complete() {
            let what = match args.to {
                Exchange::Csv | Exchange::Jsonl => "did not complete",
                Exchange::GithubAction | Exchange::Bmf => "did not complete, and is left out",
            };
            let text = format!("note: {}: the run {what}", path.display());
            output::message(output.quiet, &text);
        }
        if args.to == Exchange::Jsonl {
            write(&export::json_lines(&run, &record).context("cannot write JSON")?)?;
        }
        runs.push(run);
    }
    let text = match args.to {
        Exchange::GithubAction => export::github_action(complete(&runs)?, args.name_machine)
            .map_err(|unlike| Failure::Usage(unlike.to_string()))?,
        Exchange::Bmf => export::bmf(complete(&runs)?, args.name_machine)
            .map_err(|unlike| Failure::Usage(unlike.to_string()))?,
        Exchange::Csv => export::csv(&runs).context("cannot write CSV")?,
        Exchange::Jsonl => return Ok(()),
    };
    write(&text)
}

/// The runs, of which at least one has to be complete.
fn complete(runs: &[Run]) -> anyhow::Result<&[Run]> {
    if !runs.iter().any(|run| run.is_complete()) {
        bail!("no run is complete, so that there is no figure to follow");
    }
    Ok(runs)
}

/// Every run folder: a set stands for its runs, in the order of time.
fn folders(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut folders = Vec::new();
    for path in paths {
        if path.is_dir() && sets::is_set(path) {
            let set = sets::read(path)?;
            folders.extend(set.processes.iter().map(|it| path.join(&it.run.name)));
        } else {
            folders.push(path.clone());
        }
    }
    Ok(folders)
}

/// Name of the run's folder; `None` where the path ends in none.
fn name(path: &Path) -> Option<String> {
    let folder = match path.is_dir() {
        true => Some(path),
        false => path.parent(),
    };
    let name = folder.and_then(Path::file_name)?;
    Some(name.to_string_lossy().into_owned())
}
