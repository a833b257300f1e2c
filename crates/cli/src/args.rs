//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use metrics::measure::SystemClock;

use crate::{
    cmd,
    exit::{Failure, TABLE},
    options::{ModelOptions, Options},
};

/// Fine-tune and run LFM2 with LoRA on MLX, and report what was measured.
#[derive(Parser)]
#[command(name = "lfmark", version, after_help = TABLE)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: Output,
}

/// What goes where: results on stdout, progress and messages on stderr.
#[derive(Clone, Copy, ClapArgs)]
pub(crate) struct Output {
    /// Print no progress and no messages, only errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Print one JSON object on stdout instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Fine-tune, generate, measure, and write a run folder with its report.
    #[command(allow_negative_numbers = true)]
    Run(Box<RunArgs>),
    /// Write the report of a run folder anew from its record.
    Report(ReportArgs),
    /// Generate text, and show how fast.
    #[command(allow_negative_numbers = true)]
    Generate(GenerateArgs),
    /// List the models that need no download.
    Models,
}

#[derive(ClapArgs)]
pub(crate) struct RunArgs {
    /// TOML file with any of the settings below; flags go before it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Run folder to create [default: reports/<time>-<model>-<device>].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(ClapArgs)]
pub(crate) struct ReportArgs {
    /// Run folder, or its record.jsonl.
    pub(crate) run: PathBuf,
    /// Folder to write the report to [default: the run folder].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(ClapArgs)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    /// Run folder, or a folder with adapters as `lfmark run` or mlx-lm wrote it.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapters: Option<PathBuf>,
    /// Text to continue; goes through the model's chat template where it has one.
    #[arg(
        long,
        conflicts_with = "prompt_ids",
        required_unless_present = "prompt_ids"
    )]
    pub(crate) prompt: Option<String>,
    /// Token ids to continue, as they are.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub(crate) prompt_ids: Option<Vec<u32>>,
    /// Most tokens to generate.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) max_tokens: u32,
    /// 0 chooses the likeliest token.
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub(crate) temperature: f64,
    /// Keep the likeliest tokens up to this probability.
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub(crate) top_p: f64,
    /// Go on after the token that ends a text.
    #[arg(long)]
    pub(crate) ignore_eos: bool,
    /// Give the prompt to the model as it is.
    #[arg(long)]
    pub(crate) no_chat_template: bool,
    /// Seed of the sampling, and of random weights.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

impl Args {
    pub(crate) fn run(self, clock: SystemClock) -> Result<(), Failure> {
        match self.command {
            Command::Run(args) => cmd::run::run(*args, self.output, clock),
            Command::Report(args) => cmd::report::run(&args, self.output),
            Command::Generate(args) => cmd::generate::run(&args, self.output, clock),
            Command::Models => cmd::models::run(self.output),
        }
    }
}
