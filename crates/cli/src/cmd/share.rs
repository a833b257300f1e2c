//! `lfmark share`: records that can be published, beside those of other machines.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, anyhow, bail};
use exchange::share::{Names, Privacy, is_telling, share, share_one_of};
use metrics::{sets, store, summary::summarize};
use model::load::{EMBEDDED, PRESETS};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    args::{Output, Presentation, ShareArgs},
    exit::Failure,
    output, records, whole,
};

/// Folder of the records of all machines.
pub(crate) const MACHINES: &str = "reports/machines";

/// No record of a run is larger than this: a million iterations have 400 MB.
const LARGEST_RECORD: u64 = 512 << 20;

pub(crate) fn run(args: &ShareArgs, output: Output) -> Result<(), Failure> {
    let asked = args.names.iter().map(|name| name.trim());
    if asked.clone().any(str::is_empty) {
        return Err(Failure::Usage(
            "--remove is empty; give the name to remove".to_owned(),
        ));
    }
    let mut names = identity();
    names.extend(asked.map(str::to_owned));
    let mut public: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    public.push(EMBEDDED);
    let privacy = Privacy {
        names: &names,
        public_models: &public,
    };
    let folders = records::folders(&[args.run.to_string_lossy().into_owned()])?;
    let (place, removed) = match folders.as_slice() {
        [only] => one(only, &args.output, &privacy)?,
        several => all(several, &args.output, &privacy)?,
    };
    output::print(&match output.json {
        true => json!({ "shared": place.display().to_string(), "removed": removed }).to_string(),
        false => {
            let mut lines = vec![format!("shared      {}", place.display())];
            lines.extend(removed.iter().map(|(field, count)| match count {
                1 => format!("removed     {field}"),
                _ => format!("removed     {field} ({count})"),
            }));
            lines.push(format!(
                "next        read {}, then: git add {}",
                match folders.len() {
                    1 => place.join(report::REPORT),
                    _ => place.join("*").join(store::FILE_NAME),
                }
                .display(),
                place.display()
            ));
            output::shown(&lines.join("\n"))
        }
    })
}

/// What was removed, by field, and how often.
type Removed = BTreeMap<String, u32>;

/// Shares one run, and gives the place of its folder.
fn one(run: &Path, machines: &Path, privacy: &Privacy) -> Result<(PathBuf, Removed), Failure> {
    let text = read(run)?;
    let shared = share(&text, privacy).with_context(|| run.display().to_string())?;
    let place = machines.join(&shared.name);
    if fs::symlink_metadata(&place).is_ok() {
        return Err(exists(&place).into());
    }
    let folder = part(machines)?;
    write_record(&shared.text, folder.path())?;
    write_report(folder.path())?;
    Ok((publish(folder, place)?, shared.removed))
}

/// Shares several runs together, each in a folder within theirs.
fn all(
    runs: &[PathBuf],
    machines: &Path,
    privacy: &Privacy,
) -> Result<(PathBuf, Removed), Failure> {
    let folder = part(machines)?;
    let mut names = Names::default();
    let mut first = None;
    let mut removed = Removed::new();
    let mut content = Sha256::new();
    for (number, run) in (1..).zip(runs) {
        let text = read(run)?;
        let id = format!("{number:02}");
        let shared = share_one_of(&text, &id, privacy, &mut names)
            .with_context(|| run.display().to_string())?;
        for (field, count) in shared.removed {
            *removed.entry(field).or_default() += count;
        }
        content.update(&shared.text);
        first.get_or_insert(shared.name);
        let place = folder.path().join(id);
        fs::create_dir(&place).with_context(|| format!("cannot create {}", place.display()))?;
        write_record(&shared.text, &place)?;
    }
    // What belongs together has one report, else each has its own.
    match sets::read(folder.path()) {
        Ok(set) if set.notices.is_empty() => {
            let rendered = report::render_set(&set, None)?;
            output::write_set(&rendered, &Presentation::default(), folder.path())?;
        }
        _ => {
            for number in 1..=runs.len() {
                write_report(&folder.path().join(format!("{number:02}")))?;
            }
        }
    }
    let content: String = content
        .finalize()
        .iter()
        .map(|it| format!("{it:02x}"))
        .collect();
    let first = first.context("there is no run")?;
    let name = format!("{first}-{}-runs-{}", runs.len(), &content[..HASH]);
    Ok((publish(folder, machines.join(name))?, removed))
}

/// Characters of the hash of several runs in the name of their folder.
const HASH: usize = 12;

fn read(run: &Path) -> anyhow::Result<String> {
    let file = match run.is_dir() {
        true => run.join(store::FILE_NAME),
        false => run.to_owned(),
    };
    let cannot = || {
        format!(
            "cannot read {}; name a run folder, its record, or a folder of several runs",
            file.display()
        )
    };
    let found = fs::metadata(&file).with_context(cannot)?;
    if !found.is_file() || found.len() > LARGEST_RECORD {
        bail!("{} is no record of a run", file.display());
    }
    let bytes = fs::read(&file).with_context(cannot)?;
    // Bytes that are no text can only be in a last line that was cut off, or make the record
    // unreadable, which is said.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A folder beside those of the machines, for what is not whole yet.
fn part(machines: &Path) -> anyhow::Result<TempDir> {
    fs::create_dir_all(machines)
        .with_context(|| format!("cannot create {}", machines.display()))?;
    tempfile::Builder::new()
        .prefix(".share-")
        .tempdir_in(machines)
        .map_err(whole::unnamed)
        .with_context(|| format!("cannot write to {}", machines.display()))
}

fn write_record(text: &str, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(store::FILE_NAME);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn write_report(folder: &Path) -> Result<(), Failure> {
    let record = store::read(folder)?;
    let summary = summarize(&record);
    output::write_report(&record, &summary, &Presentation::default(), folder)
}

/// Gives what is whole now its name.
fn publish(folder: TempDir, place: PathBuf) -> anyhow::Result<PathBuf> {
    if fs::symlink_metadata(&place).is_ok() {
        return Err(exists(&place));
    }
    whole::make_readable(folder.path(), 0o755)?;
    // Where another process was faster, the folder is there and not empty, which a rename refuses.
    fs::rename(folder.path(), &place)
        .with_context(|| format!("cannot create {}", place.display()))?;
    // It is no longer where it was made.
    let _ = folder.keep();
    Ok(place)
}

fn exists(place: &Path) -> anyhow::Error {
    anyhow!(
        "{} exists already and is not overwritten; the same work was shared from this machine",
        place.display()
    )
}

/// Names of the user, the home folder and the host, as far as they are known and tell anything.
fn identity() -> Vec<String> {
    let variables = ["USER", "LOGNAME", "HOSTNAME", "HOST", "COMPUTERNAME"];
    let mut names: Vec<String> = variables
        .iter()
        .filter_map(|it| env::var(it).ok())
        .collect();
    if let Some(home) = env::var_os("HOME") {
        let name = Path::new(&home).file_name().unwrap_or_default();
        names.push(name.to_string_lossy().into_owned());
    }
    if let Ok(host) = Command::new("hostname").output() {
        let host = String::from_utf8_lossy(&host.stdout).trim().to_owned();
        // The name alone, and with its domain.
        names.extend(host.split_once('.').map(|(name, _)| name.to_owned()));
        names.push(host);
    }
    names.retain(|name| is_telling(name));
    names
}
