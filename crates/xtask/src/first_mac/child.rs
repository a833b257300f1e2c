//! Commands that end: in order, by their limit, or by Ctrl-C, with all that they started.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::process::{command, show};

/// Set by Ctrl-C.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What a command did.
pub(super) struct Ended {
    pub(super) shown: String,
    pub(super) status: ExitStatus,
    pub(super) seconds: f64,
    pub(super) stdout: String,
    /// Empty where both went to `stdout`, in the order in which they came.
    pub(super) stderr: String,
    /// Why it was ended from here.
    pub(super) cut: Option<String>,
}

impl Ended {
    /// What is kept of it.
    pub(super) fn entry(&self) -> Value {
        let mut entry = json!({
            "command": self.shown,
            // Its code, or the signal that ended it.
            "exit": self.status.code().map_or_else(|| self.status.to_string().into(), Value::from),
            "seconds": self.seconds,
            "stdout": end_of(&self.stdout),
        });
        if !self.stderr.is_empty() {
            entry["stderr"] = end_of(&self.stderr).into();
        }
        if let Some(cut) = &self.cut {
            entry["error"] = format!("`{}` {cut}", self.shown).into();
        }
        entry
    }
}

/// The end of a text that is too long to be sent.
pub(super) fn end_of(text: &str) -> String {
    const MOST: usize = 200_000;
    let Some(mut from) = text.len().checked_sub(MOST).filter(|&from| from > 0) else {
        return text.to_owned();
    };
    while !text.is_char_boundary(from) {
        from += 1;
    }
    format!("... {from} bytes left out ...\n{}", &text[from..])
}

/// Runs a command to its end, or to its limit. With `merged`, standard error goes with standard
/// output.
///
/// # Errors
/// It could not be started.
pub(super) fn run(work: &mut Command, limit: Duration, merged: bool) -> Result<Ended> {
    let stdout = tempfile::tempfile().context("cannot create a temporary file")?;
    let stderr = (!merged).then(tempfile::tempfile).transpose()?;
    work.stdout(stdout.try_clone()?);
    work.stderr(stderr.as_ref().unwrap_or(&stdout).try_clone()?);
    let begin = Instant::now();
    let mut child = Started::new(work)?;
    let (status, cut) = loop {
        if let Some(status) = child.0.try_wait()? {
            break (status, None);
        }
        if STOP.load(Ordering::Relaxed) {
            break (child.end()?, Some("was interrupted".to_owned()));
        }
        if begin.elapsed() > limit {
            let cut = format!("did not end within {} s", limit.as_secs_f64());
            break (child.end()?, Some(cut));
        }
        thread::sleep(LOOK);
    };
    Ok(Ended {
        shown: show(work),
        status,
        seconds: (begin.elapsed().as_secs_f64() * 1e3).round() / 1e3,
        stdout: all_of(stdout)?,
        stderr: stderr.map_or_else(|| Ok(String::new()), all_of)?,
        cut,
    })
}

fn all_of(mut file: File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A command that has been started, and ends when this is dropped.
pub(super) struct Started(Child);

impl Started {
    /// # Errors
    /// It could not be started.
    pub(super) fn new(work: &mut Command) -> Result<Self> {
        // A group of its own can be ended with whatever the command started.
        let child = work.stdin(Stdio::null()).process_group(0).spawn();
        child
            .map(Self)
            .with_context(|| format!("cannot start `{}`", show(work)))
    }

    /// How it has ended; `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.0.try_wait().ok().flatten();
        status.map(|status| status.to_string())
    }

    fn end(&mut self) -> Result<ExitStatus> {
        let group = format!("kill -9 -{}", self.0.id());
        // Where there is no shell, the command alone is ended.
        let _ = command("/bin/sh", ["-c", &group])
            .stderr(Stdio::null())
            .status();
        let _ = self.0.kill();
        Ok(self.0.wait()?)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // What has been waited for may have given its number to another.
        if let Ok(None) = self.0.try_wait() {
            let _ = self.end();
        }
    }
}
