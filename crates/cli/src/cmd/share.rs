//! `lfmark share`: a record that can be published, beside those of other machines.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context, anyhow, bail};
use exchange::share::{Privacy, share};
use metrics::{store, summary::summarize};
use model::load::{EMBEDDED, PRESETS};
use serde_json::json;

use super::import;
use crate::{
    args::{Output, Presentation, ShareArgs},
    exit::Failure,
    output,
};

/// Folder of the records of all machines.
pub(crate) const MACHINES: &str = "reports/machines";

/// No record of a run is larger than this: a million iterations have 400 MB.
const LARGEST_RECORD: u64 = 512 << 20;

pub(crate) fn run(args: &ShareArgs, output: Output) -> Result<(), Failure> {
    let text = read(&args.run)?;
    let mut names = identity();
    names.extend(args.names.iter().cloned());
    let mut public: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    public.push(EMBEDDED);
    let privacy = Privacy {
        names: &names,
        public_models: &public,
    };
    let shared = share(&text, &privacy).with_context(|| args.run.display().to_string())?;
    let place = args.output.join(&shared.name);
    write(&shared.text, &args.output, &place)?;
    output::print(&match output.json {
        true => {
            json!({ "shared": place.display().to_string(), "removed": shared.removed }).to_string()
        }
        false => {
            let removed = shared.removed.iter();
            let mut lines = vec![format!("shared      {}", place.display())];
            lines.extend(removed.map(|(field, count)| match count {
                1 => format!("removed     {field}"),
                _ => format!("removed     {field} ({count})"),
            }));
            lines.push(format!(
                "next        read {}, then: git add {}",
                place.join(report::REPORT).display(),
                place.display()
            ));
            lines.join("\n")
        }
    })
}

fn read(run: &Path) -> anyhow::Result<String> {
    let file = match run.is_dir() {
        true => run.join(store::FILE_NAME),
        false => run.to_owned(),
    };
    let cannot = || {
        format!(
            "cannot read {}; name a run folder, or its record",
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

/// Writes record and report under another name, which becomes `place` once they are whole.
fn write(text: &str, machines: &Path, place: &Path) -> Result<(), Failure> {
    if fs::symlink_metadata(place).is_ok() {
        return Err(anyhow!(
            "{} exists already and is not overwritten; the same work was shared from this machine",
            place.display()
        )
        .into());
    }
    fs::create_dir_all(machines)
        .with_context(|| format!("cannot create {}", machines.display()))?;
    let folder = tempfile::Builder::new()
        .prefix(".share-")
        .tempdir_in(machines)
        .with_context(|| format!("cannot write to {}", machines.display()))?;
    let record = folder.path().join(store::FILE_NAME);
    fs::write(&record, text).with_context(|| format!("cannot write {}", record.display()))?;
    let record = store::read(folder.path())?;
    let summary = summarize(&record);
    output::write_report(&record, &summary, &Presentation::default(), folder.path())?;
    import::make_readable(folder.path(), 0o755)?;
    // Where another process was faster, the folder is there and not empty, which a rename refuses.
    fs::rename(folder.path(), place)
        .with_context(|| format!("cannot create {}", place.display()))?;
    // It is no longer where it was made.
    let _ = folder.keep();
    Ok(())
}

/// Names of the user, the home folder and the host, as far as they are known.
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
    names.retain(|name| !name.is_empty());
    names
}
