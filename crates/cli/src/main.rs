//! The `lfmark` program: wires the model to the measured loop, and records to reports.

mod args;
mod cmd;
mod environment;
mod exit;
mod generation;
mod git;
mod loading;
mod options;
mod output;
mod png;
mod progress;
mod prompts;
mod records;
mod settle;
mod telemetry;
mod whole;
mod workload;

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use metrics::clock::SystemClock;

fn main() -> ExitCode {
    let clock = SystemClock::new(Instant::now());
    exit::code(args::Args::parse().run(clock))
}
