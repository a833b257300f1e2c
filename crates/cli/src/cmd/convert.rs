//! `lfmark convert`: the figures of runs in formats of other programs.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use exchange::export::{self, Run};
use metrics::{sets, store};
use serde_json::json;

use super::import;
use crate::{
    args::{ConvertArgs, Exchange, Output},
    exit::Failure,
    output,
};

pub(crate) fn run(args: &ConvertArgs, output: Output) -> Result<(), Failure> {
    let mut runs = Vec::new();
    let mut samples = String::new();
    for path in folders(&args.runs)? {
        let record = store::read(&path)?;
        for notice in &record.notices {
            output::message(output.quiet, &format!("note: {}: {notice}", path.display()));
        }
        let run = Run::of(&name(&path, &record.start.run_id), &record);
        if !run.complete && args.to != Exchange::Jsonl {
            let text = match args.to {
                Exchange::Csv => "the run did not complete, and is marked so",
                _ => "the run did not complete, and is left out",
            };
            output::message(output.quiet, &format!("note: {}: {text}", path.display()));
        }
        if args.to == Exchange::Jsonl {
            samples += &export::json_lines(&run, &record).map_err(anyhow::Error::from)?;
        }
        runs.push(run);
    }
    if runs.iter().all(|run| !run.complete)
        && matches!(args.to, Exchange::GithubAction | Exchange::Bmf)
    {
        return Err(anyhow!("no run is complete, so that there is no figure to follow").into());
    }
    let text = match args.to {
        Exchange::GithubAction => export::github_action(&runs),
        Exchange::Bmf => export::bmf(&runs),
        Exchange::Csv => export::csv(&runs).map_err(anyhow::Error::from)?,
        Exchange::Jsonl => samples,
    };
    if let Some(path) = &args.output {
        import::create(path, text.as_bytes())?;
        let path = path.display().to_string();
        return output::print(&match output.json {
            true => json!({ "converted": path }).to_string(),
            false => format!("converted   {path}"),
        });
    }
    output::print(&match output.json {
        true => json!({ "text": text }).to_string(),
        false => text.trim_end_matches(['\r', '\n']).to_owned(),
    })
}

/// Every run folder: a set stands for its runs, in the order of time.
fn folders(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut folders = Vec::new();
    for path in paths {
        if path.is_dir() && sets::is_set(path) {
            let set = sets::read(path).map_err(anyhow::Error::from)?;
            folders.extend(set.processes.iter().map(|run| path.join(&run.folder)));
        } else {
            folders.push(path.clone());
        }
    }
    Ok(folders)
}

/// Name of the run's folder; that of the record where the path ends in none.
fn name(path: &Path, recorded: &str) -> String {
    let folder = match path.is_dir() {
        true => Some(path),
        false => path.parent(),
    };
    let name = folder.and_then(Path::file_name);
    name.map_or_else(
        || recorded.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
