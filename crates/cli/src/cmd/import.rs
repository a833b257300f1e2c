//! `lfmark import`: what other programs printed, as documents of claims.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use exchange::import::{self, LARGEST_SOURCE};
use serde_json::{Value, json};

use crate::{
    args::{ImportArgs, Output},
    exit::Failure,
    output, whole,
};

/// Ends the name of a document, after that of its source.
const SUFFIX: &str = ".claims.json";

pub(crate) fn run(args: &ImportArgs, output: Output) -> Result<(), Failure> {
    let mut places = HashMap::new();
    for file in &args.files {
        let place = place(&args.output, file);
        if let Some(other) = places.insert(place.clone(), file) {
            return Err(Failure::Usage(format!(
                "{} and {} would both become {}; import one at a time, each with an --output of its \
                 own",
                other.display(),
                file.display(),
                place.display()
            )));
        }
    }
    // All are read before the first is written.
    let mut documents = Vec::new();
    for file in &args.files {
        let imported = read(file).and_then(|text| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            import::import(&name, &text).with_context(|| file.display().to_string())
        });
        let imported = imported.map_err(|error| match args.files.len() {
            1 => error,
            _ => anyhow!(
                "{error:#}; nothing is written, of the other files neither: leave this one out, or \
                 mend it"
            ),
        })?;
        for note in &imported.notes {
            output::message(output.quiet, &format!("note: {}: {note}", file.display()));
        }
        documents.push((place(&args.output, file), imported));
    }
    fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot create {}", args.output.display()))?;
    for (path, _) in &documents {
        free(path)?;
    }
    for (path, imported) in &documents {
        create(path, |file| Ok(file.write_all(imported.text().as_bytes())?))?;
    }
    if output.json {
        let documents = documents.iter().map(|(path, imported)| {
            json!({
                "document": path.display().to_string(),
                "program": imported.source.name(),
                "figures": imported.claims.figures().count(),
                "notes": imported.notes,
            })
        });
        let documents: Vec<Value> = documents.collect();
        return output::print(&json!({ "documents": documents }).to_string());
    }
    let lines = documents.iter().map(|(path, imported)| {
        let figures = imported.claims.figures().count();
        let program = imported.source.name();
        format!(
            "imported    {} ({figures} figures of {program})",
            path.display()
        )
    });
    output::print(&output::shown(&lines.collect::<Vec<_>>().join("\n")))
}

/// A regular file of bounded size. What is no UTF-8 in it is replaced: no figure is among that.
fn read(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let found = fs::metadata(path).with_context(cannot)?;
    if !found.is_file() {
        bail!(
            "{}: it is not a regular file; name what a program printed",
            cannot()
        );
    }
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(cannot)?;
    file.take(LARGEST_SOURCE + 1)
        .read_to_end(&mut bytes)
        .with_context(cannot)?;
    if bytes.len() as u64 > LARGEST_SOURCE {
        bail!(
            "{}: it has more than {LARGEST_SOURCE} bytes; import it in parts",
            cannot()
        );
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `estimates.json` of Criterion lies in a folder of its benchmark, whose name tells it from others.
fn place(folder: &Path, file: &Path) -> PathBuf {
    let name = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let benchmark = file.parent().and_then(Path::parent).map(name);
    let stem = match (name(file).as_str(), benchmark) {
        ("estimates.json", Some(benchmark)) if !benchmark.is_empty() => {
            format!("{benchmark}-estimates.json")
        }
        (own, _) => own.to_owned(),
    };
    folder.join(stem + SUFFIX)
}

/// An error where something has this name already.
fn free(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(exists(path)),
        Err(_) => Ok(()),
    }
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow!(
        "{} exists already and is not overwritten; choose another --output or move it away",
        path.display()
    )
}

/// Writes a file that must not exist, whole or not at all.
pub(crate) fn create(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    free(path)?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let cannot = || format!("cannot write {}", path.display());
    let mut file = tempfile::Builder::new()
        .prefix(".lfmark-")
        .tempfile_in(folder)
        .map_err(whole::unnamed)
        .with_context(cannot)?;
    write(&mut file)?;
    whole::make_readable(file.path(), 0o644)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(problem) if problem.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(exists(path).into())
        }
        Err(problem) => Err(anyhow::Error::from(problem.error).context(cannot()).into()),
    }
}
