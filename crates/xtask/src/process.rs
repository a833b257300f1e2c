//! Running commands: one line a step, its seconds, and what it printed when it failed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::setup::log;

/// Lines of a failed command's output that are worth showing.
const TAIL: usize = 40;

/// The repository's root folder.
///
/// Read when run, not when built, so that a moved or shared build still finds it.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    match manifest.ancestors().nth(2) {
        Some(root) => root.to_owned(),
        None => manifest,
    }
}

/// The Cargo that started this program, to be run in the repository's root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = command(cargo, args);
    command.current_dir(root());
    command
}

/// The folder of Cargo's builds, wherever it was set.
///
/// # Errors
/// Cargo does not say.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = quiet(&mut cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is no JSON")?;
    let folder = metadata["target_directory"].as_str();
    Ok(folder.context("cargo metadata names no folder")?.into())
}

/// A command and its arguments.
pub(crate) fn command(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Does one step of work, named before and timed after.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    log::note(&format!("\n== {name}"));
    print!("  {name} ... ");
    // Shown at once also where standard output is a file or a pipe.
    std::io::stdout().flush()?;
    let start = Instant::now();
    let result = work();
    match &result {
        Ok(_) => println!("{:.1} s", start.elapsed().as_secs_f64()),
        Err(_) => println!("failed"),
    }
    result
}

/// Runs a command quietly and returns its standard output.
///
/// # Errors
/// It could not be started, or it failed: then with the command and the end of what it printed.
pub(crate) fn quiet(command: &mut Command) -> Result<String> {
    let ended = command.output();
    log::ran(command, &ended);
    let output = ended.with_context(|| format!("cannot start `{}`", show(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let printed = stdout + &String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = printed.lines().collect();
    bail!(
        "`{}` failed ({}):\n{}",
        show(command),
        output.status,
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    )
}

/// Runs a command that prints for itself.
///
/// # Errors
/// It could not be started, or it failed: then with the command to run it again.
pub(crate) fn loud(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", show(command)))?;
    if !status.success() {
        bail!("failed ({status}); to run it again: {}", show(command));
    }
    Ok(())
}

/// Runs a command, shows what it prints on standard output, and hands every line on.
///
/// # Errors
/// It could not be started.
pub(crate) fn echoed(mut command: Command, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
    // One pipe for both of its streams keeps their order.
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{}`", show(&command)))?;
    // It holds the pipe's other end, without which reading ends.
    drop(command);
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        each(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(child.wait()?)
}

/// The command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    // Cargo's full path is of no use to a reader.
    let program = match program.file_name() {
        Some(name) if name == "cargo" => name.to_string_lossy(),
        _ => program.to_string_lossy(),
    };
    command
        .get_envs()
        .filter_map(|(name, value)| {
            let (name, value) = (name.to_string_lossy(), value?.to_string_lossy());
            Some(format!("{name}={value}").into())
        })
        .chain([program])
        .chain(command.get_args().map(OsStr::to_string_lossy))
        .map(|word| {
            if word.contains([' ', '"', '$', '{']) {
                format!("'{word}'")
            } else {
                word.into_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut typed = command("/opt/bin/cargo", ["test", "--", "two words"]);
        let shown = show(typed.env("CC", "true").env_remove("RUSTC"));
        assert_eq!(shown, "CC=true cargo test -- 'two words'");
    }

    #[test]
    fn a_failed_command_names_itself_and_what_it_printed() {
        let error = quiet(&mut command("sh", ["-c", "echo seen; exit 3"])).unwrap_err();
        let message = error.to_string();
        assert_eq!(
            message,
            "`sh -c 'echo seen; exit 3'` failed (exit status: 3):\nseen"
        );
    }

    #[test]
    fn lines_of_both_streams_are_read_in_their_order() {
        let script = "echo one; echo two >&2; printf three; exit 3";
        let mut lines = Vec::new();
        let read = |line: &str| lines.push(line.to_owned());
        let ended = echoed(command("sh", ["-c", script]), read).unwrap();
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(ended.code(), Some(3));
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let error = quiet(&mut command("no-such-program-here", ["x"])).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program-here x`");
    }
}
