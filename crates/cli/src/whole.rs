//! Files that are whole at any moment, whoever else writes and wherever a process is killed.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, bail};

/// Waits until no other process holds this folder, and holds it until the lock is dropped or the
/// process ends, however it does. A file system without locks is no reason to stop.
pub(crate) fn lock(dir: &Path) -> anyhow::Result<Option<File>> {
    let folder = open(dir)?;
    Ok(folder.lock().is_ok().then_some(folder))
}

/// As [`lock`], but where another process holds the folder it is an error at once: what that one
/// does may take hours.
pub(crate) fn claim(dir: &Path) -> anyhow::Result<Option<File>> {
    let folder = open(dir)?;
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => bail!(
            "another process is writing to {}; choose another output folder",
            dir.display()
        ),
        locked => Ok(locked.is_ok().then_some(folder)),
    }
}

/// A folder can be locked itself, which leaves no file behind.
fn open(dir: &Path) -> anyhow::Result<File> {
    File::open(dir).with_context(|| format!("cannot open {}", dir.display()))
}

/// Puts a file in the place of the one that is there, which stays until the new one is whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let cannot = || format!("cannot write {}", path.display());
    let file = tempfile::Builder::new().prefix(PART).tempfile_in(dir);
    let mut file = file.map_err(unnamed).with_context(cannot)?;
    file.write_all(bytes).with_context(cannot)?;
    make_readable(file.path(), 0o644)?;
    file.persist(path).map(drop).with_context(cannot)
}

/// An error without the name of the temporary file, which nobody knows.
pub(crate) fn unnamed(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((cause, _)) => io::Error::new(error.kind(), cause),
        None => error,
    }
}

/// Begins the names of files that are not whole yet.
const PART: &str = ".lfmark-part-";

/// Removes what killed processes left in a folder that is locked.
pub(crate) fn clear_parts(dir: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PART) {
            // One that stays is only litter.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// What was made under a temporary name is for its owner alone, and a result is not.
#[cfg(unix)]
pub(crate) fn make_readable(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot change {}", path.display()))
}

#[cfg(not(unix))]
pub(crate) fn make_readable(_path: &Path, _mode: u32) -> anyhow::Result<()> {
    Ok(())
}
