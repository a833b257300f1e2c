//! `cargo xtask fuzz`: the targets of `crates/fuzz` under libFuzzer, with limits of memory and time.
//!
//! ```text
//! target/fuzz/<target>/corpus/   inputs that reached new code; kept for the next time
//!                     /crash-…   an input that broke a rule, as libFuzzer names it
//! ```
//!
//! Native MLX has to be set up. The compiler is the ordinary one: coverage comes from a pass of LLVM that stable Rust has, and
//! libFuzzer is compiled with the system's C++ compiler.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, command, quiet, root, show, step, target_folder};
use crate::regress::executable;

/// Memory that an input may take, in MB as libFuzzer counts them.
const MOST_MB: u32 = 512;

/// Seconds that an input may take.
const MOST_SECONDS: u32 = 10;

/// Of libFuzzer's random numbers, so that a run can be repeated.
const SEED: u32 = 20_261_123;

/// What one target came to.
#[derive(Debug, PartialEq)]
struct Row {
    target: String,
    executions: u64,
    seconds: u64,
    peak_mb: u64,
}

/// Runs these targets, or all, this often each, and prints what that came to as a table.
///
/// # Errors
/// The build failed, there is no such target, or an input broke a rule: then with the
/// command that runs it again.
pub(crate) fn fuzz(executions: u64, targets: &[String]) -> Result<()> {
    let program = step("build the fuzz targets", build)?;
    let known = quiet(&mut command(&program, [""; 0]))?;
    let known: Vec<(&str, &str)> = known.lines().filter_map(|it| it.split_once(' ')).collect();
    if let Some(unknown) = targets
        .iter()
        .find(|it| known.iter().all(|(name, _)| name != it))
    {
        let known: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        bail!(
            "there is no target {unknown}; there are {}",
            known.join(", ")
        );
    }
    let folder = target_folder()?.join("fuzz");
    let mut rows = Vec::new();
    for (name, longest) in known {
        if !targets.is_empty() && !targets.iter().any(|it| it == name) {
            continue;
        }
        let row = step(&format!("{name}, {executions} times"), || {
            run(&program, name, longest, executions, &folder.join(name))
        })?;
        rows.push(row);
    }
    println!(
        "\n| Target | Executions | Seconds | Peak memory in MB |\n| --- | ---: | ---: | ---: |"
    );
    for row in rows {
        println!(
            "| {} | {} | {} | {} |",
            row.target, row.executions, row.seconds, row.peak_mb
        );
    }
    Ok(())
}

/// Builds the program with the targets, with coverage.
fn build() -> Result<String> {
    let mut build = cargo(&["build", "--release", "--package", "fuzz"]);
    build
        .args(["--features", "libfuzzer"])
        .args(["--message-format", "json-render-diagnostics"])
        .env(
            "RUSTC_WORKSPACE_WRAPPER",
            root().join("crates/fuzz/rustc-wrapper"),
        );
    let messages = quiet(&mut build)?;
    executable(&messages).context("cargo names no program that it built")
}

fn run(program: &str, target: &str, longest: &str, executions: u64, folder: &Path) -> Result<Row> {
    let corpus = folder.join("corpus");
    fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    let start = |args: &[String]| {
        let mut fuzz = command(program, args);
        fuzz.env("LFMARK_FUZZ_TARGET", target);
        fuzz
    };
    quiet(start(&[]).env("LFMARK_FUZZ_SEEDS", &corpus))?;
    let mut fuzz = start(&[
        format!("-runs={executions}"),
        format!("-seed={SEED}"),
        format!("-max_len={longest}"),
        format!("-rss_limit_mb={MOST_MB}"),
        format!("-timeout={MOST_SECONDS}"),
        format!("-artifact_prefix={}/", folder.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    fuzz.arg(&corpus);
    let begin = Instant::now();
    let output = fuzz
        .output()
        .with_context(|| format!("cannot start `{}`", show(&fuzz)))?;
    let printed = String::from_utf8_lossy(&output.stderr);
    // Where an input broke a rule, libFuzzer says which and where it wrote it.
    if !output.status.success() {
        let lines: Vec<&str> = printed.lines().collect();
        let told = lines.iter().filter(|line| {
            ["panicked", "ERROR:", "Test unit written", "SUMMARY"]
                .iter()
                .any(|it| line.contains(it))
        });
        let told: Vec<&str> = told.copied().collect();
        bail!(
            "{target} failed ({}):\n{}\nto run an input again: LFMARK_FUZZ_TARGET={target} {program} FILE",
            output.status,
            if told.is_empty() {
                printed.into_owned()
            } else {
                told.join("\n")
            }
        );
    }
    let figure = |name: &str| {
        let line = printed
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok());
        value.with_context(|| format!("libFuzzer does not say {name}"))
    };
    Ok(Row {
        target: target.to_owned(),
        executions: figure("stat::number_of_executed_units")?,
        seconds: begin.elapsed().as_secs(),
        peak_mb: figure("stat::peak_rss_mb")?,
    })
}
