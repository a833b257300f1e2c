//! The run record: the only format in which lfmark stores what it measured.
//!
//! A record is one file, `record.jsonl`, in the run folder: one [`Event`] a line, appended and
//! flushed while the run goes on. The first line is always [`Event::Start`]; a run that ended
//! in order has [`Event::End`] as its last one. A record without it was cut off, and is
//! reported as incomplete.
//!
//! Rules of the format:
//!
//! - raw samples are integers with the unit in the name (`_ns`, `_bytes`, `_tokens`); the loss
//!   is the one plain float, and is null where it was not finite;
//! - nothing that can be derived is stored: rates, means and windows are computed when read;
//! - what could not be read is null, never zero;
//! - within one major version fields are only added, and always as optional ones.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checks::Checks;
use crate::rules::Rules;

/// The schema this build writes, and the newest it reads.
pub const SCHEMA: Schema = Schema { major: 1, minor: 4 };

/// Version of the record format.
///
/// A reader accepts its own major version with a minor version no newer than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Schema {
    pub major: u32,
    pub minor: u32,
}

/// One line of the record.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Start(Box<Start>),
    Phase(Phase),
    Iteration(Iteration),
    Generation(Generation),
    Effect(Effect),
    MachineState(MachineState),
    Sensors(Sensors),
    Counters(Counters),
    End(End),
}

/// What was run, on what, by which build.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Start {
    pub schema: Schema,
    /// Name of the run folder.
    pub run_id: String,
    /// Wall-clock time at process start, milliseconds since the Unix epoch, UTC.
    pub started_unix_ms: u64,
    pub lfmark: Build,
    pub mlx: Mlx,
    pub machine: Machine,
    pub config: Config,
    pub model: Model,
    pub data: Data,
    /// Where `footprint_bytes` is read from (`phys_footprint`, `rss`).
    pub footprint_source: Option<String>,
    /// The thresholds this run was judged by; null in records before schema 1.1.
    pub rules: Option<Rules>,
    /// The run's place among those that were started together; null for a run by itself.
    pub member: Option<Member>,
    /// The program that did the work in lfmark's place; null where that was lfmark.
    pub engine: Option<Engine>,
    /// By the wall clock, from just before the process was started until the instant from which
    /// the times of this record count; null for a run by itself, which nobody can say it of, and
    /// in records before schema 1.2.
    pub launch_ns: Option<u64>,
    /// Where [`Sensors`] come from; null where nothing could be sampled.
    pub sampling: Option<Sampling>,
    /// How the run waited for the machine; null where it was not asked to.
    pub settled: Option<Settled>,
}

/// Name of this program.
pub const LFMARK: &str = "lfmark";

impl Start {
    /// The program that did the work, with its version.
    pub fn program(&self) -> (&str, &str) {
        match &self.engine {
            None => (LFMARK, &self.lfmark.version),
            Some(engine) => (&engine.name, &engine.version),
        }
    }

    /// Metal's wired limit, as `config.wired` says it. Before it was a choice, lfmark and mlx-lm
    /// wired the recommended working set of every Metal device, and nothing had one elsewhere.
    pub fn wired(&self) -> &str {
        match &self.config.wired {
            Some(wired) => wired,
            None => wired_unsaid(&self.mlx.backend),
        }
    }
}

/// What was wired on this back end before it was a choice.
pub(crate) fn wired_unsaid(backend: &str) -> &'static str {
    match backend {
        "metal" => "recommended",
        _ => "off",
    }
}

/// Sensors that are read at an interval, by a thread of its own.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Sampling {
    /// Between two samples, by what the first reading cost: they lie further apart where one costs
    /// more.
    pub interval_ns: u64,
    /// What that reading cost; null in records before schema 1.4.
    pub reading_ns: Option<u64>,
    /// What the power of each rail is read from (`NVML`, `powercap`, `macmon`).
    pub rails: BTreeMap<String, String>,
}

/// A wait for the machine before the run.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Settled {
    pub waited_ns: u64,
    /// Conditions that were still not met when the wait was given up, one sentence each.
    pub unmet: Vec<String>,
    /// What could not be read during the wait, and so was no condition.
    pub unread: Vec<String>,
    /// The program that kept the machine awake; null where none did.
    pub awake_by: Option<String>,
}

/// Another program, at work that `lfmark export` wrote.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Engine {
    pub name: String,
    pub version: String,
    /// What `active_bytes`, `cache_bytes` and `peak_bytes` are read from.
    pub memory_source: String,
    /// SHA-256 of the exported batches, whose token ids it was given.
    pub batches_sha256: String,
}

/// The place of a run among several that were started together, one process after another.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Member {
    /// Name of the folder that holds all of them.
    pub set: String,
    /// What this run is one of several runs of.
    pub arm: String,
    /// Place in the order of time, counted from 1.
    pub number: u32,
    /// Place within the arm, counted from 1. Runs of different arms with the same one were
    /// neighbours in time.
    pub repeat: u32,
    /// How long the process waited for the machine before it was started.
    pub waited_ns: u64,
    /// Conditions that were still not met when that wait was given up, one sentence each.
    pub unmet: Vec<String>,
    /// What could not be read during the wait, and so was no condition.
    #[serde(default)]
    pub unread: Vec<String>,
    /// Environment variables that named an empty folder each, made for this process, to keep
    /// compiled kernels in; null where the caches were left as they were.
    #[serde(default)]
    pub empty_caches: Option<Vec<String>>,
}

/// The build of lfmark that ran.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Build {
    pub version: String,
    /// Git commit of the source; null when it was built outside a checkout.
    pub commit: Option<String>,
    /// Whether tracked files differed from that commit.
    pub dirty: Option<bool>,
    /// `release` or `debug`.
    pub profile: String,
    pub rustc: Option<String>,
    /// Measured cost of the native set-up this build stands on.
    pub native_setup: Option<NativeSetup>,
}

/// What `cargo xtask setup` measured when it installed native MLX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NativeSetup {
    pub wall_ms: u64,
    pub installed_bytes: u64,
}

/// The MLX library that did the work.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Mlx {
    pub version: String,
    /// `cpu`, `metal` or `cuda`.
    pub backend: String,
    /// As MLX names its default device.
    pub device_name: Option<String>,
    /// As MLX names its architecture (`applegpu_g16s`, `sm_90`).
    pub architecture: Option<String>,
    /// Memory MLX says the device has.
    pub device_memory_bytes: Option<u64>,
    /// Metal's recommended working set.
    pub working_set_bytes: Option<u64>,
    /// SHA-256 of the loaded `libmlx`.
    pub library_sha256: Option<String>,
    /// Which BLAS serves the CPU back end, where that is known.
    pub blas: Option<String>,
    /// The environment variables `MLX_*` that were in force, by name.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Metal's kernels beside the library; null on other back ends.
    pub metallib: Option<Metallib>,
}

/// A library of compiled Metal kernels.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Metallib {
    pub bytes: u64,
    /// Oldest macOS that it is built for, from its header (`26.2`).
    pub built_for: Option<String>,
    /// Whether it has kernels for the neural accelerators of newer GPUs.
    pub neural_accelerators: bool,
}

/// The machine, in fields that do not change while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Machine {
    pub os: String,
    pub os_version: Option<String>,
    /// macOS: the build of that version (`25F84`).
    pub os_build: Option<String>,
    pub kernel: Option<String>,
    pub arch: String,
    /// CPU brand string; on Apple silicon this is the chip's name.
    pub cpu: Option<String>,
    pub physical_cores: Option<u32>,
    pub logical_cores: Option<u32>,
    pub memory_bytes: Option<u64>,
    /// Apple's chip name (`Apple M4 Max`).
    pub chip: Option<String>,
    /// Apple's model identifier (`Mac16,1`).
    pub model_id: Option<String>,
    pub gpu: Option<String>,
    pub gpu_cores: Option<u32>,
    pub virtual_machine: Option<bool>,
    /// Kinds of CPU cores, the fastest first; null where there is one kind or none was read.
    pub cpu_tiers: Option<Vec<CpuTier>>,
    /// macOS: the limit of GPU memory that was set by hand; null where the system decides.
    pub gpu_wired_limit_bytes: Option<u64>,
    /// NVIDIA: version of the driver, the limit of power in force, and the highest clock.
    pub gpu_driver: Option<String>,
    pub gpu_power_limit_uw: Option<u64>,
    pub gpu_max_clock_hz: Option<u64>,
    /// Linux: limits of the control group; null where none were read.
    pub cgroup: Option<Cgroup>,
}

/// CPU cores of one kind.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct CpuTier {
    /// As the system names it (`Performance`); null where it does not.
    pub name: Option<String>,
    pub physical_cores: u32,
}

/// What a control group leaves of the machine; a limit is null where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Cgroup {
    pub memory_bytes: Option<u64>,
    /// CPU time in thousandths of a CPU.
    pub cpu_milli: Option<u64>,
}

/// Every choice of the run, resolved: no default is left to the reader.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Config {
    pub iterations: u32,
    pub batch_size: u32,
    pub max_seq_length: u32,
    /// Rows are padded to one more than a multiple of this.
    pub pad_to: u32,
    pub mask_prompt: bool,
    /// Which samples share a batch: `mlx_lm` (as its command batches them) or `length`.
    pub batch_order: String,
    pub seed: u64,
    /// `f32`, `bf16` or `f16`.
    pub dtype: String,
    /// `cpu` or `gpu`.
    pub device: String,
    pub optimizer: Optimizer,
    pub lora: Lora,
    /// Whether the whole training step was compiled by MLX.
    pub compile: bool,
    /// Whether compiling made kernels of element-wise operations; null in records before 1.2.
    #[serde(default)]
    pub fused_kernels: Option<bool>,
    /// Whether MLX's buffer cache was cleared after every step.
    pub clear_cache: bool,
    /// Memory that Metal was told to keep resident: `off`, `recommended` (its working set) or a
    /// number of bytes; null in records before 1.4, see [`Start::wired`].
    #[serde(default)]
    pub wired: Option<String>,
    pub windows: Vec<WindowSpec>,
    pub generation: GenerationConfig,
}

#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Optimizer {
    /// `adam` or `adamw`.
    pub name: String,
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Decoupled weight decay; 0 for Adam.
    pub weight_decay: f64,
    pub bias_correction: bool,
}

#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Lora {
    pub rank: u32,
    /// Factor on the low-rank update: alpha / rank.
    pub scale: f64,
    pub dropout: f64,
    /// Number of last layers that were considered for adapters.
    pub layers: u32,
    /// Module paths within a layer (`self_attn.q_proj`).
    pub targets: Vec<String>,
}

/// A range of iterations that is reported together, as the user wrote it.
///
/// The iterations of a window are `first..=last`, less those that an earlier window holds
/// already: in `1-100, 100-300` iteration 100 counts once, in the first window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct WindowSpec {
    pub first: u32,
    pub last: u32,
}

#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct GenerationConfig {
    pub prompts: Vec<String>,
    pub max_tokens: u32,
    /// 0 means greedy decoding.
    pub temperature: f64,
    pub top_p: f64,
    pub ignore_eos: bool,
    /// Whether the tokenizer's chat template was put around the prompts.
    pub chat_template: bool,
    /// What the text of each prompt has to be like, in the prompts' order; null in records before
    /// schema 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<Checks>>,
}

/// The model, as built.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Model {
    /// Preset, folder name or id on the hub; never a path.
    pub name: String,
    /// Commit of the hub that the files are of; null for files from elsewhere.
    pub revision: Option<String>,
    pub weights: Weights,
    /// How matrices are packed; null where all are plain floats.
    pub quantization: Option<Quantization>,
    pub layers: u32,
    pub attention_layers: u32,
    pub hidden_size: u32,
    pub ffn_size: u32,
    pub vocab_size: u32,
    /// Parameters of the base model.
    pub parameters: u64,
    /// Bytes of the base weights in memory.
    pub weight_bytes: u64,
    /// Trainable parameters, counted from the adapters that were built.
    pub trainable_parameters: u64,
    /// Adapted modules with their shapes, from which the count above can be derived.
    pub adapters: Vec<AdapterShape>,
    /// SHA-256 of `config.json`.
    pub config_sha256: Option<String>,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer_sha256: Option<String>,
}

/// One adapted linear module.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct AdapterShape {
    pub name: String,
    pub inputs: u32,
    pub outputs: u32,
}

/// Matrices in MLX's affine format.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Quantization {
    /// Whether they were packed while loading, and not in the files.
    pub on_load: bool,
    /// By how they are packed; matrices that are in none of these are plain floats.
    pub packed: Vec<Packed>,
}

/// Matrices that are packed in one way.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Packed {
    pub bits: u32,
    /// Values that share a scale and a bias.
    pub group_size: u32,
    pub matrices: u32,
    /// Values of all of them.
    pub parameters: u64,
}

/// Where the base weights came from.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Weights {
    /// Shipped inside the program.
    Embedded { sha256: String },
    /// Read from safetensors files.
    Files { sha256: String },
    /// Made on the host from a seed; the text such a model generates means nothing.
    Random { seed: u64 },
}

/// The training data, as tokenized.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Data {
    /// File or folder name, or `embedded`; never a path.
    pub name: String,
    pub sha256: String,
    /// `text`, `completions` or `chat`.
    pub format: String,
    /// Tokens of every sample, in file order, before truncation.
    pub sample_tokens: Vec<u32>,
    /// Samples that were cut to `max_seq_length`.
    pub truncated_samples: u32,
}

/// A stretch of the run that is neither an iteration nor a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Phase {
    pub phase: PhaseKind,
    /// Since process start.
    pub start_ns: u64,
    pub wall_ns: u64,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PhaseKind {
    /// Asking the hub for the model, and fetching what the cache lacked of it.
    Fetch,
    /// Reading the machine, config, tokenizer and weights; attaching adapters; on a CPU also
    /// copying memory at the end, to know how fast that is.
    Setup,
    /// Reading and tokenizing the data set.
    Data,
    /// One discarded step for every batch shape, so that no iteration compiles.
    Compile,
    /// A few discarded tokens for every length of prompt, for the same reason.
    WarmUp,
    /// Writing the adapters.
    Save,
    /// Waiting for the machine, and measuring what it draws before the run.
    Idle,
}

/// One training iteration.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Iteration {
    /// Counted from 1.
    pub iteration: u32,
    /// Since process start, at the beginning of the data part.
    pub start_ns: u64,
    /// Building the batch.
    pub data_ns: u64,
    /// The step, from the call until the device has finished.
    pub step_ns: u64,
    /// Of the step, from its begin: until its graph was built, and from then until all its work
    /// was handed to the device. Null where that was not told apart.
    pub graph_ns: Option<u64>,
    pub dispatch_ns: Option<u64>,
    pub rows: u32,
    /// Tokens of the samples themselves.
    pub real_tokens: u32,
    /// Tokens of the padded batch as fed to the model.
    pub padded_tokens: u32,
    /// Positions that entered the loss.
    pub loss_tokens: u32,
    /// Null where it was not finite.
    pub loss: Option<f32>,
    /// MLX memory after the step. The peak is the highest since the window began.
    pub active_bytes: u64,
    pub cache_bytes: u64,
    pub peak_bytes: u64,
    /// Process footprint; null on iterations where it was not read.
    pub footprint_bytes: Option<u64>,
    pub swap_bytes: Option<u64>,
}

impl Iteration {
    /// When the step had finished, since process start; the largest integer for times that add
    /// up to more.
    pub fn end_ns(&self) -> u64 {
        let begun = self.start_ns.saturating_add(self.data_ns);
        begun.saturating_add(self.step_ns)
    }

    /// Highest memory of MLX up to here. MLX sets the peak to 0 when it is reset, so that until the
    /// next allocation it lies below the memory in use.
    pub fn highest_bytes(&self) -> u64 {
        self.peak_bytes.max(self.active_bytes)
    }
}

impl Generation {
    /// Highest memory of MLX up to here. MLX sets the peak to 0 when it is reset, so that until the
    /// next allocation it lies below the memory in use.
    pub fn highest_bytes(&self) -> u64 {
        self.peak_bytes.max(self.active_bytes)
    }
}

/// One prompt and what was generated for it.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Generation {
    /// Since process start.
    pub start_ns: u64,
    pub prompt: String,
    pub prompt_tokens: u32,
    /// From the call until the first token was known on the host.
    pub first_token_ns: u64,
    /// From each token to the next; one fewer than `token_ids`.
    pub token_ns: Vec<u64>,
    /// Generated tokens, a stop token included.
    pub token_ids: Vec<u32>,
    pub text: String,
    pub finish: Finish,
    /// Tokenizing, generating and decoding the text.
    pub wall_ns: u64,
    pub active_bytes: u64,
    pub cache_bytes: u64,
    /// Highest since this prompt began.
    pub peak_bytes: u64,
    pub footprint_bytes: Option<u64>,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    Stop,
    Length,
    Interrupted,
}

/// What training changed: losses and texts without the adapters beside those with them.
///
/// All of it is read after training, when adapters can be left away, and nothing of it is timed:
/// the base weights are the same before and after.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Effect {
    /// Since process start.
    pub start_ns: u64,
    pub wall_ns: u64,
    /// The first samples of the training data, each by itself and without dropout.
    pub samples: Vec<SampleLoss>,
    /// What the model says without adapters to each of the prompts, in their order.
    pub texts_before: Vec<TextBefore>,
}

/// Mean loss of one sample over its loss tokens; null where it is not finite.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct SampleLoss {
    pub loss_tokens: u32,
    /// Without adapters.
    pub before: Option<f32>,
    /// With them.
    pub after: Option<f32>,
}

/// A text without adapters, chosen as those with them were.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct TextBefore {
    pub token_ids: Vec<u32>,
    pub text: String,
    pub finish: Finish,
}

/// What may change while the machine runs. Every field is null where it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct MachineState {
    /// Since process start.
    pub at_ns: u64,
    /// macOS: 0 nominal, 1 fair, 2 serious, 3 critical.
    pub thermal_state: Option<u32>,
    /// `ac` or `battery`.
    pub power_source: Option<String>,
    /// The operating system's own number of its energy mode, and its name.
    pub power_mode: Option<u32>,
    pub power_mode_name: Option<String>,
    pub swap_used_bytes: Option<u64>,
    pub footprint_bytes: Option<u64>,
    /// Cumulative energy counters by rail, in microjoules.
    pub energy_uj: Option<BTreeMap<String, u64>>,
    pub gpu_clock_hz: Option<u64>,
    pub gpu_temperature_mc: Option<i64>,
    /// One-minute load average, in thousandths.
    pub load_milli: Option<u64>,
    /// What the processors copied just before; null where that was not tried.
    #[serde(default)]
    pub copies: Option<Copies>,
    /// macOS: whether Low Power Mode is on.
    pub low_power_mode: Option<bool>,
    /// Linux: what decides the CPU's clock, several of them in the order of the alphabet.
    pub cpu_governor: Option<String>,
    /// Linux: time of all CPUs since the machine was started, and what of it other guests of the
    /// same hardware had.
    pub cpu_total_ms: Option<u64>,
    pub cpu_steal_ms: Option<u64>,
    /// Linux: time for which the control group's limit held the process back.
    pub cgroup_throttled_us: Option<u64>,
    pub gpu_memory_clock_hz: Option<u64>,
    /// NVIDIA: why the clock is below its highest, by NVML's names.
    pub gpu_throttle_reasons: Option<Vec<String>>,
}

/// One sample of the sensors. Every field is null where it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Sensors {
    /// Since process start.
    pub at_ns: u64,
    /// Power by rail, in microwatts.
    pub power_uw: Option<BTreeMap<String, u64>>,
    /// Cumulative energy counters by rail, in microjoules.
    pub energy_uj: Option<BTreeMap<String, u64>>,
    pub gpu_clock_hz: Option<u64>,
    pub gpu_temperature_mc: Option<i64>,
    pub cpu_temperature_mc: Option<i64>,
    /// As in [`MachineState`].
    pub thermal_state: Option<u32>,
    pub gpu_throttle_reasons: Option<Vec<String>>,
}

/// What the processor counted of the process, all threads together, up to a moment between two
/// iterations. Only the differences between readings mean anything. Every count is null where it
/// could not be read, and where it was 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Counters {
    /// Since process start.
    pub at_ns: u64,
    /// Iterations that were done by then.
    pub iterations: u32,
    /// On Linux of user space alone.
    pub instructions: Option<u64>,
    pub cycles: Option<u64>,
    /// macOS: what the kernel billed to the process, in nanojoules.
    pub energy_nj: Option<u64>,
}

/// Copies of memory by all processors at once, pass after pass.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Copies {
    pub threads: u32,
    /// Read and written in a pass, all threads together.
    pub pass_bytes: u64,
    pub pass_ns: Vec<u64>,
}

/// The last line of a run that ended in order.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct End {
    pub status: Status,
    /// For a run that did not complete: why, in one sentence.
    pub reason: Option<String>,
    /// Process start to this line.
    pub wall_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Complete,
    /// Stopped by the user.
    Interrupted,
    /// Stopped by an error; what was measured before it stands.
    Failed,
}
