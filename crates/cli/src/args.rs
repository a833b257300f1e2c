//! The command line.

use std::{fs, path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use metrics::{
    clock::SystemClock, gate::REGRESS_PAIRS, record::Member, sets::Versus, sweep::CONTEXT_ROUNDS,
};
use model::mlx::DeviceKind;
use report::Template;
use serde::de::DeserializeOwned;

use crate::{
    cmd,
    cmd::sweep::AxisValues,
    exit::{Failure, TABLE},
    options::{DeviceName, DtypeName, ModelOptions, Options, Thresholds},
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
    /// Measure how far identical runs lie apart on this machine, and store it for comparisons.
    #[command(allow_negative_numbers = true)]
    Noise(Box<NoiseArgs>),
    /// Write a run's model, adapters and batches as files, so that other programs can do the same
    /// work.
    #[command(allow_negative_numbers = true)]
    Export(Box<ExportArgs>),
    /// Measure lfmark and other programs at the same work, in turn, in fresh processes.
    #[command(allow_negative_numbers = true)]
    Versus(Box<VersusArgs>),
    /// Measure two builds of lfmark in turn, in fresh processes, and fail where the later one is
    /// worse.
    #[command(allow_negative_numbers = true)]
    Regress(Box<RegressArgs>),
    /// Compare runs of several machines, builds or days, in columns.
    Compare(Box<CompareArgs>),
    /// Judge runs of a candidate against those of a baseline, for a script to act on.
    Gate(Box<GateArgs>),
    /// Accept runs as a new baseline for `gate`, with a reason that is kept.
    Bless(Box<BlessArgs>),
    /// Show how values went from commit to commit on each machine, and which commits changed them.
    History(Box<HistoryArgs>),
    /// Measure how cost grows with the work: batch size, lengths, rank, layers, threads.
    #[command(allow_negative_numbers = true)]
    Sweep(Box<SweepArgs>),
    /// Write the report of a run folder, a set of runs or a sweep anew from the records.
    Report(Box<ReportArgs>),
    /// Check whether the figures of a run, or of a document of claims, can be true together.
    Audit(AuditArgs),
    /// Read what other programs printed: mlx-lm, llama-bench, Criterion.
    Import(ImportArgs),
    /// Write the figures of runs for github-action-benchmark or Bencher, as CSV or as JSON lines.
    Convert(ConvertArgs),
    /// Put a record without prompts, texts and names beside those of other machines.
    Share(ShareArgs),
    /// Generate text, and show how fast.
    #[command(allow_negative_numbers = true)]
    Generate(GenerateArgs),
    /// Write a model with adapters added into its weights, as a folder; in the type of its files
    /// where --dtype names no other.
    Fuse(FuseArgs),
    /// Train a tokenizer and a small model from text, as the embedded model was made.
    #[command(allow_negative_numbers = true)]
    Pretrain(PretrainArgs),
    /// Plant faults in synthetic runs, and see whether each is found and nothing else.
    #[command(allow_negative_numbers = true)]
    Selftest(SelftestArgs),
    /// Show this machine, what would make its numbers better, and what it can fit.
    Doctor(DoctorArgs),
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
    pub(crate) set: SetArgs,
    #[command(flatten)]
    pub(crate) presentation: Presentation,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// How a report is written.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct Presentation {
    /// Formats to write beside the Markdown report, which is always written.
    #[arg(
        long = "format",
        value_name = "LIST",
        value_delimiter = ',',
        help_heading = "Report"
    )]
    pub(crate) formats: Vec<Format>,
    /// Tera template for the Markdown report, in place of lfmark's own (FORMAT.md).
    #[arg(long, value_name = "FILE", help_heading = "Report", value_parser = template)]
    pub(crate) template: Option<Template>,
}

impl Presentation {
    pub(crate) fn has(&self, format: Format) -> bool {
        self.formats.contains(&format)
    }

    /// Whether it suits a set of runs, whose figures and samples are those of its runs.
    pub(crate) fn check_set(&self) -> Result<(), Failure> {
        let problem = match self
            .formats
            .iter()
            .find(|it| matches!(it, Format::Json | Format::Csv))
        {
            Some(Format::Json) => "--format json is of a single run; --json prints a set's figures",
            Some(_) => "--format csv is of a single run; give it with each run of the set",
            None if self.template.is_some() => "--template is for the report of a single run",
            None => return Ok(()),
        };
        Err(Failure::Usage(problem.to_owned()))
    }
}

/// A format of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// report.md, and its charts as SVG.
    Markdown,
    /// report.html, one page with everything in it.
    Html,
    /// report.json, every derived value; of a comparison, comparison.json.
    Json,
    /// samples.csv and tokens.csv, the raw samples; of a comparison, comparison.csv.
    Csv,
    /// The charts as PNG too.
    Png,
}

fn template(path: &str) -> Result<Template, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read it: {error}"))?;
    Template::parse(path, &text).map_err(|error| error.to_string())
}

/// Several runs instead of one.
#[derive(ClapArgs)]
pub(crate) struct SetArgs {
    /// Start this many fresh processes of every arm, one after another, and report them together.
    #[arg(long, value_name = "N", help_heading = "Repeats", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeats: Option<u32>,
    /// TOML file of the settings in which an arm differs, and of `program` where it is another
    /// build of lfmark; give it several times to compare with the first one.
    #[arg(
        long = "arm",
        value_name = "FILE",
        help_heading = "Repeats",
        requires = "repeats"
    )]
    pub(crate) arms: Vec<PathBuf>,
    /// Go on with a set that was stopped, given the same command and its folder: only processes that
    /// have not completed are started.
    #[arg(
        long,
        help_heading = "Repeats",
        requires = "repeats",
        requires = "output"
    )]
    pub(crate) resume: bool,
    /// Noise floor to judge the arms with [default: the stored one of this machine and work].
    #[arg(long, value_name = "FILE", help_heading = "Repeats", requires = "arms")]
    pub(crate) noise: Option<PathBuf>,
    /// Longest wait for the machine before each process, or with --settle [default: 300].
    #[arg(long, value_name = "SECONDS", help_heading = "Machine")]
    cool_down_limit: Option<u32>,
    /// Give every process empty folders for the kernels that MLX, CUDA and PyTorch compile, so that
    /// each compiles all of them anew. Metal's are in a cache of the system, which stays.
    #[arg(
        long,
        help_heading = "Repeats",
        requires = "repeats",
        conflicts_with = "noise"
    )]
    pub(crate) cold: bool,
    /// What `lfmark versus` found before, for the report.
    #[arg(long, hide = true, value_name = "JSON", value_parser = from_json::<Versus>, requires = "arms")]
    pub(crate) versus: Option<Versus>,
    /// Wait until the machine is cool and other programs leave it alone, keep it awake, and refuse
    /// one that runs on battery or saves power.
    #[arg(long, help_heading = "Machine")]
    pub(crate) settle: bool,
    /// With --settle, measure a machine that runs on battery or saves power.
    #[arg(long, help_heading = "Machine", requires = "settle")]
    pub(crate) allow_low_power: bool,
    /// The run's place among several, for the record; given by the process that starts them.
    #[arg(long, hide = true, value_name = "JSON", value_parser = from_json::<Member>, conflicts_with = "repeats")]
    pub(crate) member: Option<Member>,
}

fn from_json<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// Longest wait for the machine, in seconds, where none is given.
const COOL_DOWN_LIMIT: u32 = 300;

impl SetArgs {
    /// Whether fresh processes are to be started, rather than this one be measured.
    pub(crate) fn is_set(&self) -> bool {
        self.repeats.is_some_and(|repeats| repeats > 1) || !self.arms.is_empty() || self.cold
    }

    /// # Errors
    ///
    /// For a limit of waiting where nothing is waited for.
    pub(crate) fn check_alone(&self) -> Result<(), Failure> {
        match self.cool_down_limit.is_some() && !self.settle && self.repeats.is_none() {
            true => Err(Failure::Usage(
                "--cool-down-limit is how long to wait for the machine, and a single run does not \
                 wait; add --settle, or --repeats for several runs"
                    .to_owned(),
            )),
            false => Ok(()),
        }
    }

    pub(crate) fn cool_down_limit(&self) -> Duration {
        Duration::from_secs(self.cool_down_limit.unwrap_or(COOL_DOWN_LIMIT).into())
    }
}

#[derive(ClapArgs)]
pub(crate) struct NoiseArgs {
    /// TOML file with any of the settings below; flags go before it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder to create for the runs [default: reports/<time>-<model>-noise].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Identical processes to measure, one after another.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) repeats: u32,
    /// Longest wait for the machine before each process.
    #[arg(long, value_name = "SECONDS", default_value_t = COOL_DOWN_LIMIT)]
    pub(crate) cool_down_limit: u32,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(ClapArgs)]
pub(crate) struct ExportArgs {
    /// TOML file with any of the settings below; flags go before it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder to write.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(ClapArgs)]
pub(crate) struct VersusArgs {
    /// TOML file with any of the settings below; flags go before it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder to create [default: reports/<time>-<model>-versus].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// What to measure: names of files in peers/, the first to compare with.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "lfmark,mlx-lm,torch-eager,torch-compiled"
    )]
    pub(crate) arms: Vec<String>,
    /// Fresh processes of every arm.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeats: u32,
    /// Longest wait for the machine before each process [default: 300].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) cool_down_limit: Option<u32>,
    /// Give every timed process empty folders for the kernels that MLX, CUDA and PyTorch compile,
    /// so that each compiles all of them anew. Metal's are in a cache of the system, which stays.
    #[arg(long)]
    pub(crate) cold: bool,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// Every point trains or generates, with work of its size; other settings are those of `lfmark run`.
#[derive(ClapArgs)]
#[command(
    after_help = "Without --data, training data are generated: rows of exactly --max-seq-length \
                        less 1 tokens (128). A point trains for --iterations (60), or generates \
                        --max-tokens (64) after a prompt of 128 tokens; the axis replaces one of \
                        these. Defaults differ from `lfmark run` in nothing else."
)]
pub(crate) struct SweepArgs {
    /// What to vary, and its values: batch-size, sequence-length, lora-rank, lora-layers,
    /// iterations, threads, prompt-length, generation-length, or context, which has prompts of all
    /// its lengths in every process; give it several times for several, one after the other.
    #[arg(
        long = "axis",
        value_name = "NAME=LIST",
        value_parser = cmd::sweep::axis,
        required_unless_present = "resume"
    )]
    pub(crate) axes: Vec<AxisValues>,
    /// Fresh processes of every program at every point.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeats: u32,
    /// Times that a process of the axis `context` goes through its lengths, upward and downward in
    /// turn, after the first time, which warms up.
    #[arg(long, value_name = "N", default_value_t = CONTEXT_ROUNDS, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) context_rounds: u32,
    /// Program to measure, by a file as those in peers/; give it several times to compare the first
    /// one with the others [default: this lfmark].
    #[arg(long = "arm", value_name = "FILE")]
    pub(crate) arms: Vec<PathBuf>,
    /// Measure what a sweep that was stopped has not measured yet.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["axes", "repeats", "context_rounds", "arms", "order_seed", "cool_down_limit", "config", "output", "Options"]
    )]
    pub(crate) resume: Option<PathBuf>,
    /// Seed of the order in which the points are measured.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) order_seed: u64,
    /// Longest wait for the machine before each process.
    #[arg(long, value_name = "SECONDS", default_value_t = COOL_DOWN_LIMIT)]
    pub(crate) cool_down_limit: u32,
    /// TOML file with any of the settings below; flags go before it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder to create [default: reports/<time>-<model>-sweep].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) presentation: Presentation,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(ClapArgs)]
#[command(
    after_help = "Ends with 0 where the candidate is equivalent, improved, or changed but small, and \
                  with 3 to 6 otherwise (see `lfmark --help`). Unless set otherwise, a process does \
                  50 iterations and generates 50 tokens a prompt, also after the end of a text, so that \
                  both builds generate as many."
)]
pub(crate) struct RegressArgs {
    /// Program to compare with: another build of lfmark.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) baseline: PathBuf,
    /// Program to judge [default: this one].
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) candidate: Option<PathBuf>,
    /// Fresh processes of each.
    #[arg(long, value_name = "N", default_value_t = REGRESS_PAIRS, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) repeats: u32,
    /// Noise floor to judge with [default: the stored one of this machine and work].
    #[arg(long, value_name = "FILE")]
    pub(crate) noise: Option<PathBuf>,
    /// Longest wait for the machine before each process.
    #[arg(long, value_name = "SECONDS", default_value_t = COOL_DOWN_LIMIT)]
    pub(crate) cool_down_limit: u32,
    /// TOML file with any of the settings below; flags go before it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder to create [default: reports/<time>-<model>-regress].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) presentation: Presentation,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(ClapArgs)]
#[command(
    after_help = "Each argument gives a column for every machine, build and arm among its runs, so \
                  that runs of one column belong in one argument: a folder of them, or a pattern \
                  in quotes. Ends with 6 where the runs did not do the same work in the same way."
)]
pub(crate) struct CompareArgs {
    /// Run folders, folders of runs (also of sets), or patterns of either.
    #[arg(required = true)]
    pub(crate) runs: Vec<String>,
    /// Field in which the runs may differ, as the refusal names it; give it several times for
    /// several. The tables say so in their headings.
    #[arg(long, value_name = "FIELD")]
    pub(crate) allow: Vec<String>,
    /// TOML file of thresholds to judge by, in place of the defaults.
    #[arg(long, value_name = "FILE", value_parser = Thresholds::read)]
    pub(crate) rules: Option<Thresholds>,
    /// Folder to write the report to [default: reports/<time>-runs-compare].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) presentation: Presentation,
}

#[derive(ClapArgs)]
#[command(
    after_help = "Ends with 0 where the candidate is equivalent, improved, or changed but small, and \
                  with 3 to 6 otherwise (see `lfmark --help`). The limits file has a table for each \
                  metric that is judged (all, without one): practical = 0.05; for memory also soft \
                  and hard, in bytes; noise = { runs = 10, sd = 0.004 }, of identical runs."
)]
pub(crate) struct GateArgs {
    /// Run folders, folders of runs, patterns of either, or a folder that `lfmark bless` wrote.
    #[arg(long, value_name = "RUNS", required_unless_present = "criterion")]
    pub(crate) baseline: Vec<String>,
    /// Runs to judge, named alike.
    #[arg(long, value_name = "RUNS", required_unless_present = "criterion")]
    pub(crate) candidate: Vec<String>,
    /// Instead, folder that criterion wrote, with `base` and `new` of every benchmark: one run of
    /// each. Give several of them, of as many runs of either, for a verdict.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["baseline", "candidate", "limits", "noise"]
    )]
    pub(crate) criterion: Vec<PathBuf>,
    /// TOML file of the metrics to judge with their limits.
    #[arg(long, value_name = "FILE")]
    pub(crate) limits: Option<PathBuf>,
    /// Noise floor to judge with, where the limits have no noise [default: the stored one of this
    /// machine and work].
    #[arg(long, value_name = "FILE")]
    pub(crate) noise: Option<PathBuf>,
    /// Where the candidate regressed, run its work again as often, with this build of lfmark, and
    /// end with 3 only where these fresh runs show it too.
    #[arg(long, conflicts_with = "criterion")]
    pub(crate) confirm: bool,
    /// TOML file of the settings of that work [default: those in the folder of the candidate's set].
    #[arg(long, value_name = "FILE", requires = "confirm")]
    pub(crate) config: Option<PathBuf>,
    /// Folder to create for the fresh runs [default: reports/<time>-<model>-fresh].
    #[arg(long, short, value_name = "DIR", requires = "confirm")]
    pub(crate) output: Option<PathBuf>,
    /// Longest wait for the machine before each fresh run.
    #[arg(long, value_name = "SECONDS", requires = "confirm", default_value_t = COOL_DOWN_LIMIT)]
    pub(crate) cool_down_limit: u32,
    /// TOML file of thresholds to judge by, in place of the defaults.
    #[arg(long, value_name = "FILE", value_parser = Thresholds::read)]
    pub(crate) rules: Option<Thresholds>,
}

#[derive(ClapArgs)]
pub(crate) struct BlessArgs {
    /// Runs to accept: run folders, folders of runs, or patterns of either. Their records are
    /// copied.
    #[arg(long, value_name = "RUNS", required = true)]
    pub(crate) candidate: Vec<String>,
    /// Folder of the baseline: a new one, or one that this command wrote, in which the earlier
    /// records and reasons stay.
    #[arg(long, value_name = "DIR")]
    pub(crate) baseline: PathBuf,
    /// Why what these runs measure is accepted.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(ClapArgs)]
#[command(
    after_help = "The page is index.html with its charts, history.json and history.csv, and needs no \
                  server. The same runs give the same bytes, and an update that is killed leaves the \
                  former index.html whole. Runs of commits that the repository does not have, of builds \
                  with uncommitted changes, on virtual machines, and void ones are listed apart."
)]
pub(crate) struct HistoryArgs {
    /// Run folders, folders of runs (also of sets), or patterns of either.
    #[arg(required_unless_present = "branch")]
    pub(crate) runs: Vec<String>,
    /// Branch or other revision whose files named record.jsonl are read, without a checkout.
    #[arg(long, value_name = "REV")]
    pub(crate) branch: Option<String>,
    /// Repository of the commits, which gives their order, and of --branch [default: with
    /// --branch the one at hand, else none, and commits are in the order of their first runs].
    #[arg(long, value_name = "DIR")]
    pub(crate) repository: Option<PathBuf>,
    /// Field in which the runs of a series may differ, such as mlx_version; give it several times
    /// for several. The page says so.
    #[arg(long, value_name = "FIELD")]
    pub(crate) allow: Vec<String>,
    /// TOML file of thresholds to judge by, in place of the defaults.
    #[arg(long, value_name = "FILE", value_parser = Thresholds::read)]
    pub(crate) rules: Option<Thresholds>,
    /// Folder of the page, a new one or one that this command wrote.
    #[arg(long, short, value_name = "DIR", default_value = "reports/history")]
    pub(crate) output: PathBuf,
}

#[derive(ClapArgs)]
pub(crate) struct ReportArgs {
    /// Run folder, its record.jsonl, or the folder of a set of runs or a sweep.
    pub(crate) run: PathBuf,
    /// Folder to write the report to [default: the run folder].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// TOML file of thresholds to judge by, in place of those recorded with the run.
    #[arg(long, value_name = "FILE", value_parser = Thresholds::read)]
    pub(crate) rules: Option<Thresholds>,
    #[command(flatten)]
    pub(crate) presentation: Presentation,
}

#[derive(ClapArgs)]
pub(crate) struct SelftestArgs {
    /// Instead, measure how often verdicts are right, in this many simulations of each fault and
    /// ten times as many where there is none.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) simulations: Option<u32>,
    /// Folder for the records and their reports, or for the table of the simulations.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(ClapArgs)]
#[command(
    after_help = "Ends with 0 where nothing fails, and with 1 where a check or a claim does. \
                        What is unsupported or cannot be told does not fail."
)]
pub(crate) struct AuditArgs {
    /// Run folder, its record.jsonl, or a document of claims (FORMAT.md).
    pub(crate) path: PathBuf,
}

#[derive(ClapArgs)]
#[command(
    after_help = "Reads logs of mlx_lm.lora and what its callback was given, the output of \
                        mlx_lm.benchmark and mlx_lm.generate, of llama-bench (json, jsonl, csv, sql, md), \
                        and Criterion's estimates.json or text. Figures are imported as they were \
                        printed; `lfmark audit` reads the documents."
)]
pub(crate) struct ImportArgs {
    /// What a program printed.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Folder to write the documents to, each named FILE.claims.json.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(crate) output: PathBuf,
}

#[derive(ClapArgs)]
pub(crate) struct ConvertArgs {
    /// Run folder, its record.jsonl, or the folder of a set of runs; several are one series where
    /// program, model, type and device are the same, and have to be of the same work. Those of each
    /// machine are a series.
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Exchange,
    /// Name the machine in every series of github-action and bmf, and not only where a series has
    /// runs of several: for a page that several machines add to.
    #[arg(long)]
    pub(crate) name_machine: bool,
    /// File to write, which must not exist [default: stdout].
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// A format of other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Exchange {
    /// github-action-benchmark's `customSmallerIsBetter`.
    GithubAction,
    /// Bencher Metric Format.
    Bmf,
    /// One row a run and metric.
    Csv,
    /// One flat object an iteration, for Parquet.
    Jsonl,
}

#[derive(ClapArgs)]
#[command(
    after_help = "Removed are prompts (their hashes stay), generated texts and token ids, names of \
                        runs, sets, data and models that are not public, paths, and every field with \
                        the name of the user or the host. Read the record before it is published."
)]
pub(crate) struct ShareArgs {
    /// Run folder, its record.jsonl, or a folder of several runs, such as a set, which stay together.
    pub(crate) run: PathBuf,
    /// Folder of the records of all machines, in which one is created.
    #[arg(long, short, value_name = "DIR", default_value = cmd::share::MACHINES)]
    pub(crate) output: PathBuf,
    /// Another name to remove, such as that of a project; give it several times for several.
    #[arg(long = "remove", value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

#[derive(ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Estimate what fits by what this run measured, in place of a run on an H200.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<PathBuf>,
    /// Type of weights and activations to estimate for [default: f32 on the CPU, bf16 on a GPU].
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<DtypeName>,
    /// Device to examine [default: a GPU where MLX has one].
    #[arg(long)]
    pub(crate) device: Option<DeviceName>,
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

#[derive(ClapArgs)]
pub(crate) struct FuseArgs {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    /// Run folder, or a folder with adapters as `lfmark run` or mlx-lm wrote it.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapters: PathBuf,
    /// Folder to write.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Store every weight as a plain float, also those that are quantized in the files.
    #[arg(long, conflicts_with = "q_bits")]
    pub(crate) dequantize: bool,
    /// Seed of random weights.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(ClapArgs)]
#[command(
    after_help = "The shortest work of the corpus is held out: the weights kept are those of the \
                  evaluation with the lowest loss on it. The end is a check of them: a held-out loss \
                  below that of a trigram model of the same text, no run of 20 generated tokens that \
                  is in the text, and at most 10 MB of files. Ends with 1 where one is not met."
)]
pub(crate) struct PretrainArgs {
    /// Folder to write the model to.
    #[arg(long, short, value_name = "DIR", required_unless_present = "check")]
    pub(crate) output: Option<PathBuf>,
    /// Instead, check this model: a folder that this command wrote, or `embedded`.
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub(crate) check: Option<String>,
    /// Folder with corpus.json and its texts (fixtures/corpus/README.md).
    #[arg(long, value_name = "DIR", default_value = "fixtures/corpus")]
    pub(crate) corpus: PathBuf,
    /// config.json of the model [default: the embedded model's].
    #[arg(long, value_name = "FILE")]
    pub(crate) model_config: Option<PathBuf>,
    /// Optimizer steps.
    #[arg(long, value_name = "N", default_value_t = 2600, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) steps: u32,
    /// Windows of a step.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_size: u32,
    /// Tokens of a window; on a GPU with bf16 a multiple of 128 is fastest.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) context: u32,
    /// Highest learning rate of AdamW.
    #[arg(long, value_name = "RATE", default_value_t = 4e-3)]
    pub(crate) learning_rate: f64,
    /// Steps over which the learning rate rises.
    #[arg(long, value_name = "N", default_value_t = 80)]
    pub(crate) warm_up: u32,
    /// Decay of all parameters.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) weight_decay: f64,
    /// Probability of dropping an activation.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub(crate) dropout: f64,
    /// Steps between two looks at the held-out loss.
    #[arg(long, value_name = "N", default_value_t = 650, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) evaluate_every: u32,
    /// Seed of the first weights, the order and dropout.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Type of products and activations; weights are trained in f32 and stored in bf16.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub(crate) dtype: DtypeName,
    /// Where to run [default: a GPU where MLX has one].
    #[arg(long)]
    pub(crate) device: Option<DeviceName>,
}

impl PretrainArgs {
    pub(crate) fn device(&self) -> Option<DeviceKind> {
        self.device.map(DeviceName::kind)
    }
}

impl Args {
    pub(crate) fn run(self, clock: SystemClock) -> Result<(), Failure> {
        match self.command {
            Command::Run(args) => cmd::run::run(*args, self.output, clock),
            Command::Noise(args) => cmd::noise::run(*args, self.output, clock),
            Command::Export(args) => cmd::export::run(*args, self.output),
            Command::Versus(args) => cmd::versus::run(*args, self.output, clock),
            Command::Compare(args) => cmd::compare::run(&args, self.output, clock),
            Command::Gate(args) => cmd::gate::run(&args, self.output, clock),
            Command::Bless(args) => cmd::bless::run(&args, self.output, clock),
            Command::History(args) => cmd::history::run(&args, self.output),
            Command::Sweep(args) => cmd::sweep::run(*args, self.output, clock),
            Command::Regress(args) => cmd::regress::run(*args, self.output, clock),
            Command::Report(args) => cmd::report::run(&args, self.output),
            Command::Audit(args) => cmd::audit::run(&args, self.output),
            Command::Import(args) => cmd::import::run(&args, self.output),
            Command::Convert(args) => cmd::convert::run(&args, self.output),
            Command::Share(args) => cmd::share::run(&args, self.output),
            Command::Generate(args) => cmd::generate::run(&args, self.output, clock),
            Command::Fuse(args) => cmd::fuse::run(&args, self.output),
            Command::Pretrain(args) => cmd::pretrain::run(&args, self.output, clock),
            Command::Selftest(args) => cmd::selftest::run(&args, self.output),
            Command::Doctor(args) => cmd::doctor::run(&args, self.output, clock),
            Command::Models => cmd::models::run(self.output),
        }
    }
}
