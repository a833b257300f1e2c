//! `cargo xtask`: set-up of native MLX, and every command a contributor needs.
//!
//! Depends on no other crate of the workspace, because it runs before they can be built.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "saying what it does is its job"
)]

mod bindings;
mod check_mac;
mod fixtures;
mod native_config;
mod peers;
mod platform;
mod prerequisites;
mod process;
mod setup;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::peers::Peer;
use crate::setup::{Backend, Blas};

/// Set-up of native MLX, and every command a contributor needs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install native MLX under `native/` and point Cargo at it.
    Setup {
        /// Which MLX: cpu or cuda on Linux, metal or source on macOS; the one in force if any.
        #[arg(long)]
        backend: Option<Backend>,
        /// Where the CPU gets its matrix product (Linux); auto unless another was chosen before.
        #[arg(long)]
        blas: Option<Blas>,
    },
    /// Set up, then run the default benchmark: a run folder under `reports/`.
    Report {
        /// Passed on to `lfmark run`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, then check formatting, lints and every test.
    Test,
    /// Type-check the whole workspace for Apple silicon, from Linux.
    CheckMac {
        /// Fail, rather than say so, where no toolchain for that target can be had.
        #[arg(long)]
        require: bool,
    },
    /// Regenerate the golden fixtures and the embedded model with pinned Python.
    Fixtures,
    /// Install other programs that `lfmark versus` measures: pinned Python, under `native/peers/`.
    Peers {
        /// Only this one.
        peer: Option<Peer>,
    },
    /// Write `bindings.rs`; set-up calls this with libclang's place in the environment.
    #[command(hide = true)]
    Bindings {
        mlx_c: PathBuf,
        output: PathBuf,
        #[arg(last = true)]
        clang_args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup { backend, blas } => setup::setup(backend, blas).map(drop),
        Verb::Report { args } => verify::report(&args),
        Verb::Test => verify::test(),
        Verb::CheckMac { require } => check_mac::check_mac(require),
        Verb::Fixtures => fixtures::fixtures(),
        Verb::Peers { peer } => peers::peers(peer),
        Verb::Bindings {
            mlx_c,
            output,
            clang_args,
        } => bindings::write(&mlx_c, &output, &clang_args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_report(typed: &[&str], expected: &[&str]) {
        let words = ["xtask", "report"].iter().chain(typed);
        match Args::try_parse_from(words).unwrap().verb {
            Verb::Report { args } => assert_eq!(args, expected),
            _ => panic!("not understood as report"),
        }
    }

    #[test]
    fn report_passes_its_arguments_on_with_and_without_a_separator() {
        check_report(&[], &[]);
        check_report(&["--iterations", "20"], &["--iterations", "20"]);
        check_report(&["--", "--iterations", "20"], &["--iterations", "20"]);
    }
}
