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
mod first_mac;
mod fixtures;
mod fuzz;
mod lint;
mod mac_link;
mod mac_wheels;
mod native_config;
mod peers;
mod platform;
mod prerequisites;
mod process;
mod regress;
mod setup;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::first_mac::FirstMacArgs;
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
    /// Set up, build a revision and the working tree, run both in turn, and fail where the working
    /// tree is slower or takes more memory.
    Regress {
        /// Git revision to compare with; both are built for the native MLX of this set-up.
        #[arg(long, value_name = "REV", default_value = "main")]
        against: String,
        /// Passed on to `lfmark regress`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Type-check and lint the whole workspace for Apple silicon, from Linux.
    CheckMac {
        /// Build and link every program too.
        #[arg(long)]
        link: bool,
        /// Check instead that MLX's wheel for every macOS has what mlx-c needs; after a change of MLX.
        #[arg(long, conflicts_with_all = ["link", "require"])]
        wheels: bool,
        /// Fail, rather than say so, where no toolchain for that target can be had.
        #[arg(long)]
        require: bool,
    },
    /// Collect in one file all that can be known of lfmark on this Mac, whatever fails.
    FirstMac(FirstMacArgs),
    /// Check the workflows, the actions and the shell scripts, with linters from PyPI.
    LintWorkflows,
    /// Try every parser with inputs that are made to break it, under libFuzzer.
    Fuzz {
        /// Inputs for each target.
        #[arg(long, value_name = "N", default_value_t = 20_000)]
        executions: u64,
        /// Only these.
        targets: Vec<String>,
    },
    /// Regenerate the golden fixtures with pinned Python.
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
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Setup { backend, blas } => setup::setup(backend, blas).map(drop),
        Verb::Report { args } => verify::report(&args),
        Verb::Test => verify::test(),
        // Its exit code is its verdict.
        Verb::Regress { against, args } => return regress::regress(&against, &args),
        Verb::FirstMac(args) => first_mac::first_mac(&args),
        Verb::CheckMac { wheels: true, .. } => mac_wheels::check(),
        Verb::CheckMac { link, require, .. } => check_mac::check_mac(link, require),
        Verb::LintWorkflows => lint::lint_workflows(),
        Verb::Fuzz {
            executions,
            targets,
        } => fuzz::fuzz(executions, &targets),
        Verb::Fixtures => fixtures::fixtures(),
        Verb::Peers { peer } => peers::peers(peer),
        Verb::Bindings {
            mlx_c,
            output,
            clang_args,
        } => bindings::write(&mlx_c, &output, &clang_args),
    }
    .map(|()| ExitCode::SUCCESS)
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

    fn check_regress(typed: &[&str], revision: &str, expected: &[&str]) {
        let words = ["xtask", "regress"].iter().chain(typed);
        match Args::try_parse_from(words).unwrap().verb {
            Verb::Regress { against, args } => {
                assert_eq!((against.as_str(), &args[..]), (revision, &os(expected)[..]));
            }
            _ => panic!("not understood as regress"),
        }
    }

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn regress_takes_its_revision_and_passes_the_rest_on() {
        check_regress(&[], "main", &[]);
        check_regress(&["--against", "HEAD~1"], "HEAD~1", &[]);
        let rest = ["--repeats", "12", "--json"];
        check_regress(&rest, "main", &rest);
        check_regress(
            &["--against", "v1", "--repeats", "12", "--json"],
            "v1",
            &rest,
        );
    }

    #[test]
    fn report_passes_its_arguments_on_with_and_without_a_separator() {
        check_report(&[], &[]);
        check_report(&["--iterations", "20"], &["--iterations", "20"]);
        check_report(&["--", "--iterations", "20"], &["--iterations", "20"]);
    }
}
