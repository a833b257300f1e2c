//! `lfmark bless`: runs become the baseline of `lfmark gate`, with a reason that is kept.
//!
//! A baseline is a folder of records with a file that lists what was accepted, when and why. What
//! was accepted before stays: the last entry counts.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use metrics::{
    clock::SystemClock,
    compare::Runs,
    record::{Schema, Status},
    store,
};
use serde::{Deserialize, Serialize};

use super::run as single;
use crate::{
    args::{BlessArgs, Output},
    exit::Failure,
    output, records, whole,
};

/// Name of the file in the folder of a baseline.
const FILE_NAME: &str = "baseline.json";

/// The schema this build writes, and the newest it reads.
const SCHEMA: Schema = Schema { major: 1, minor: 0 };

/// The content of `baseline.json`.
#[derive(Serialize, Deserialize)]
struct Baseline {
    schema: Schema,
    /// In the order of time; the last one counts.
    accepted: Vec<Accepted>,
}

/// Runs that were accepted together.
#[derive(Serialize, Deserialize)]
struct Accepted {
    /// Wall-clock time, milliseconds since the Unix epoch, UTC.
    at_unix_ms: u64,
    reason: String,
    /// Folder of their records, beside the file.
    folder: String,
    runs: u32,
}

pub(crate) fn run(args: &BlessArgs, output: Output, mut clock: SystemClock) -> Result<(), Failure> {
    let reason = args.reason.trim();
    if reason.is_empty() {
        return Err(Failure::Usage(
            "--reason is empty; say why these runs are accepted".to_owned(),
        ));
    }
    let folders = accepted(&args.candidate, output)?;
    let dir = &args.baseline;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // Of two at once the second adds to what the first wrote.
    let _lock = whole::lock(dir)?;
    let mut baseline = match read(dir)? {
        Some(baseline) => baseline,
        None => {
            super::repeats::prepare(dir)?;
            Baseline {
                schema: SCHEMA,
                accepted: Vec::new(),
            }
        }
    };
    // A folder that an interrupted one left is no entry, and stays.
    let names = (baseline.accepted.len() + 1..).map(|number| format!("{number:03}"));
    let mut names = names.skip_while(|name| dir.join(name).exists());
    let name = names.next().context("there is no name left")?;
    // Under another name until it is whole.
    let part = dir.join(format!("{name}.part"));
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
    }
    for (place, folder) in (1..).zip(&folders) {
        let to = part.join(format!("{place:04}"));
        let from = match folder.is_dir() {
            true => folder.join(store::FILE_NAME),
            false => folder.clone(),
        };
        fs::create_dir_all(&to)
            .and_then(|()| fs::copy(&from, to.join(store::FILE_NAME)))
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    let whole = dir.join(&name);
    fs::rename(&part, &whole).with_context(|| format!("cannot create {}", whole.display()))?;
    baseline.accepted.push(Accepted {
        at_unix_ms: single::started_unix_ms(&mut clock),
        reason: reason.to_owned(),
        folder: name,
        runs: folders.len() as u32,
    });
    write(dir, &baseline)?;
    output::print(&match output.json {
        true => serde_json::to_string(&baseline)?,
        false => output::shown(&format!(
            "{} runs are the baseline in {}",
            folders.len(),
            dir.display()
        )),
    })
}

/// The folders of the runs, of which one baseline can be made: they are complete and alike, in
/// one state of the machine, and each is there once.
fn accepted(arguments: &[String], output: Output) -> Result<Vec<PathBuf>, Failure> {
    let mut runs = Runs::default();
    let mut folders = Vec::new();
    for folder in records::folders(&current(arguments)?)? {
        let record = store::read(&folder)?;
        let name = folder.display().to_string();
        if record
            .end
            .as_ref()
            .is_none_or(|end| end.status != Status::Complete)
        {
            return Err(Failure::Usage(format!(
                "{name} did not complete, and cannot be part of a baseline"
            )));
        }
        runs.add("candidate", &name, &record);
        if runs.len() > folders.len() {
            folders.push(folder);
        }
    }
    for notice in runs.notices() {
        output::message(output.quiet, &format!("note: {notice}"));
    }
    let found = runs.circumstances();
    match (found.different_work, found.machine_changed) {
        (Some(why), _) => Err(Failure::NotComparable(format!(
            "no candidate could be like all of these runs: {why}; accept runs of the same work on one \
             machine, in a baseline of its own for each"
        ))),
        (None, Some(why)) => Err(Failure::Void(format!(
            "every comparison with these runs would be void: {why}; leave such runs out, or measure \
             again"
        ))),
        (None, None) => Ok(folders),
    }
}

/// The arguments, with the runs that count in place of a baseline's folder.
pub(crate) fn current(arguments: &[String]) -> Result<Vec<String>, Failure> {
    let mut current = Vec::new();
    for argument in arguments {
        let dir = Path::new(argument);
        let accepted = read(dir)?.and_then(|baseline| baseline.accepted.into_iter().next_back());
        current.push(match accepted {
            Some(last) => dir.join(last.folder).to_string_lossy().into_owned(),
            None => argument.clone(),
        });
    }
    Ok(current)
}

/// What is in the folder of a baseline; `None` for a folder that is none.
fn read(dir: &Path) -> anyhow::Result<Option<Baseline>> {
    let path = dir.join(FILE_NAME);
    let cannot = || format!("cannot read {}", path.display());
    let text = match fs::read_to_string(&path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        read => read.with_context(cannot)?,
    };
    let baseline: Baseline = serde_json::from_str(&text).with_context(cannot)?;
    let Schema { major, minor } = baseline.schema;
    if major != SCHEMA.major || minor > SCHEMA.minor {
        anyhow::bail!(
            "{} has schema {major}.{minor}, which this build does not read; use a newer lfmark",
            path.display()
        );
    }
    let plain =
        |it: &Accepted| it.folder.chars().all(|c| c.is_ascii_digit()) && !it.folder.is_empty();
    anyhow::ensure!(
        baseline.accepted.iter().all(plain),
        "{} names a folder that lfmark did not write; restore the file",
        path.display()
    );
    Ok(Some(baseline))
}

/// Writes the file in place of the one that is there, which is whole until then.
fn write(dir: &Path, baseline: &Baseline) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(baseline)?;
    text.push('\n');
    whole::clear_parts(dir)?;
    whole::replace(&dir.join(FILE_NAME), text.as_bytes())
}
