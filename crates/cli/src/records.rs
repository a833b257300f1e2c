//! The runs that a command is given: run folders, folders of runs, and patterns of either.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use metrics::{compare::Runs, store};
use walkdir::WalkDir;

use crate::exit::Failure;

/// Reads the runs of all arguments, each of which names columns of its own.
///
/// A record that is named and cannot be read is an error; one that was found in a folder is left
/// out, and the comparison says so.
pub(crate) fn read(arguments: &[String]) -> Result<Runs, Failure> {
    let mut runs = Runs::default();
    read_into(&mut runs, arguments, |label| label)?;
    Ok(runs)
}

/// As [`read`], with columns called after what `column` makes of an argument's label. Of a record
/// only what is compared stays in memory.
pub(crate) fn read_into(
    runs: &mut Runs,
    arguments: &[String],
    column: impl Fn(&str) -> &str,
) -> Result<(), Failure> {
    let mut labels = HashSet::new();
    let mut places = HashSet::new();
    for argument in arguments {
        let mut label = label(argument);
        let mut number = 1;
        while !labels.insert(label.clone()) {
            number += 1;
            label = format!("{} ({number})", self::label(argument));
        }
        for root in roots(argument)? {
            for (folder, within) in within(&root)? {
                // The same folder by two ways.
                let place = fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone());
                if !places.insert((label.clone(), place)) {
                    continue;
                }
                let name = match (root.to_string_lossy() == *argument, within.as_str()) {
                    (true, "") => label.clone(),
                    (true, within) => format!("{label}/{within}"),
                    (false, "") => file_name(&root),
                    (false, within) => format!("{}/{within}", file_name(&root)),
                };
                match store::read(&folder) {
                    Ok(record) => runs.add(column(&label), &name, &record),
                    Err(error) if within.is_empty() && root.to_string_lossy() == *argument => {
                        return Err(error.into());
                    }
                    Err(store::ReadError::File { error, .. }) => {
                        runs.notice(format!("{name} is left out: {error}"));
                    }
                    Err(store::ReadError::Record { error, .. }) => {
                        runs.notice(format!("{name} is left out: {error}"));
                    }
                }
            }
        }
    }
    Ok(())
}

/// The folders of the runs, or their records, of all arguments.
pub(crate) fn folders(arguments: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let mut folders = Vec::new();
    for argument in arguments {
        for root in roots(argument)? {
            folders.extend(within(&root)?.into_iter().map(|(folder, _)| folder));
        }
    }
    Ok(folders)
}

/// What the columns of an argument are called after: its last part, or the pattern.
fn label(argument: &str) -> String {
    let path = Path::new(argument);
    match is_pattern(argument) && path.is_relative() {
        true => argument.to_owned(),
        false => file_name(path),
    }
}

fn file_name(path: &Path) -> String {
    // Of a record its folder; of `.` or `..` what it stands for.
    let path = match path.ends_with(store::FILE_NAME) {
        true => path.parent().unwrap_or(path),
        false => path,
    };
    let resolved = match path.file_name() {
        Some(_) => path.to_owned(),
        None => fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
    };
    let name = resolved.file_name().unwrap_or(resolved.as_os_str());
    name.to_string_lossy().into_owned()
}

fn is_pattern(argument: &str) -> bool {
    argument.contains(['*', '?', '[']) && !Path::new(argument).exists()
}

/// The paths that an argument stands for.
fn roots(argument: &str) -> Result<Vec<PathBuf>, Failure> {
    if !is_pattern(argument) {
        return Ok(vec![PathBuf::from(argument)]);
    }
    let paths = glob::glob(argument)
        .map_err(|error| Failure::Usage(format!("{argument} is no pattern: {error}")))?;
    let roots: Result<Vec<_>, _> = paths.collect();
    let roots = roots.with_context(|| format!("cannot look for {argument}"))?;
    if roots.is_empty() {
        return Err(Failure::Usage(format!("nothing is called {argument}")));
    }
    Ok(roots)
}

/// The run folders at or below a path, with the ways to them, in order. Links below it are not
/// followed, so that none leads in a circle.
fn within(root: &Path) -> Result<Vec<(PathBuf, String)>, Failure> {
    if root.is_file() || root.join(store::FILE_NAME).exists() {
        return Ok(vec![(root.to_owned(), String::new())]);
    }
    let mut found = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(root).display().to_string();
            // Its own message has the path and the cause once more.
            let cause = error
                .into_io_error()
                .map_or(anyhow!("a circle of links"), Into::into);
            cause.context(format!("cannot read {path}"))
        })?;
        if entry.file_name() == store::FILE_NAME
            && let Some(folder) = entry.path().parent()
        {
            let within = folder.strip_prefix(root).unwrap_or(folder);
            found.push((folder.to_owned(), within.to_string_lossy().into_owned()));
        }
    }
    if found.is_empty() {
        return Err(Failure::Usage(format!(
            "no run is in {}; name a run folder, a folder of runs, or a pattern in quotes",
            root.display()
        )));
    }
    Ok(found)
}
