//! `cargo xtask first-mac`: one file with all that can be known of lfmark on a Mac.
//!
//! Whatever fails is an entry with its message. The file is whole after every step, so that it can
//! be sent where the rest could not be done. What only a Mac has is null elsewhere.

mod child;
mod private;
mod steps;
#[cfg(test)]
mod tests;
mod texts;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use self::child::STOP;
use self::private::Private;
use self::steps::{At, STEPS, Step, When};
use crate::process::{root, target_folder};

#[derive(Args)]
pub(crate) struct FirstMacArgs {
    /// File to write.
    #[arg(long, short, value_name = "FILE", default_value = "first-mac.json")]
    output: PathBuf,
    /// Leave out the tests and the minute of load.
    #[arg(long)]
    quick: bool,
    /// Cargo's profile of the program that is looked at.
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,
}

/// Collects everything, and says where it is.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn first_mac(args: &FirstMacArgs) -> Result<()> {
    // A step that is under way is ended, and what there is stays.
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).context("cannot handle Ctrl-C")?;
    let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
    let root = root();
    let folder = match args.profile.as_str() {
        "dev" => "debug",
        other => other,
    };
    let target = target_folder().unwrap_or_else(|_| root.join("target"));
    let private = Private::of_this_machine(&[(&root, "REPOSITORY"), (&target, "TARGET")]);
    let at = At {
        folder: target.join(folder),
        cargo: std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from),
        xtask: std::env::current_exe().unwrap_or_default(),
        profile: args.profile.clone(),
        scratch: scratch.path().to_owned(),
        path: None,
        mac: cfg!(target_os = "macos"),
        quick: args.quick,
        root,
    };
    println!("Ctrl-C ends this and keeps what there is");
    let found = collect(&at, STEPS, &private, &args.output)?;
    let output = &args.output;
    let file = output.canonicalize().unwrap_or_else(|_| output.clone());
    let what = match found["complete"] == true {
        true => "Everything",
        false => "What came before Ctrl-C",
    };
    println!(
        "\n{what} is in {}\nLook through it and attach it to an issue of lfmark. Names of user and \
         host, the home folder and serial numbers are not in it.",
        file.display()
    );
    Ok(())
}

/// Does the steps in order, and writes the file anew after each.
fn collect(at: &At, steps: &[Step], private: &Private, output: &Path) -> Result<Value> {
    let mut found = json!({"first_mac": 1, "complete": false, "quick": at.quick});
    for &(name, ref when, limit, ref how) in steps {
        if STOP.load(Ordering::Relaxed) {
            break;
        }
        let entry = match when {
            When::OnMac if !at.mac => Value::Null,
            When::InFull if at.quick => Value::Null,
            _ => shown(name, || how.perform(at, &found, Duration::from_secs(limit)))?,
        };
        match name.split_once('/') {
            None => found[name] = entry,
            Some((group, name)) => found[group][name] = entry,
        }
        write(&private.clean(found.clone()), output)?;
    }
    found["complete"] = (!STOP.load(Ordering::Relaxed)).into();
    let found = private.clean(found);
    write(&found, output)?;
    Ok(found)
}

/// Does a step with its line of progress; an error becomes its entry.
fn shown(name: &str, work: impl FnOnce() -> Result<Value>) -> Result<Value> {
    print!("  {name} ... ");
    std::io::stdout().flush()?;
    let begin = Instant::now();
    let entry = work().unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
    let exit = &entry["exit"];
    let in_order = entry["error"].is_null() && (exit.is_null() || *exit == 0);
    let end = if in_order { "" } else { ", failed" };
    println!("{:.1} s{end}", begin.elapsed().as_secs_f64());
    Ok(entry)
}

/// Under another name first, so that the file is whole at any moment.
fn write(found: &Value, output: &Path) -> Result<()> {
    let mut partial = output.as_os_str().to_owned();
    partial.push(".partial");
    let text = serde_json::to_string_pretty(found)? + "\n";
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, output))
        .with_context(|| format!("cannot write {}; name another file", output.display()))
}
