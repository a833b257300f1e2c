//! Every choice of a run: as a flag, in a TOML file, and resolved.
//!
//! A flag goes before the file, and the file before the default. What leaves this module needs
//! nothing but the device and the model to be complete.

use std::{collections::BTreeMap, fs, path::Path, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use metrics::{
    record::{GenerationConfig, WindowSpec},
    rules::{Group, Rules},
    window,
};
use model::{
    Dtype,
    data::Order,
    generate::Sampling,
    load::EMBEDDED,
    lora::LoraConfig,
    mlx::{self, DeviceKind, Wired},
    quantization::Scheme,
    train::Optimizer,
};
use serde::{Deserialize, Serialize};

use crate::{
    exit::Failure,
    prompts::{self, Prompt},
};

/// Which model, and where it runs.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ModelOptions {
    /// `embedded`, a preset (see `lfmark models`), the id of a model on the hub, or a folder with
    /// config.json, safetensors and tokenizer.json [default: embedded].
    #[arg(long, value_name = "NAME|ID|DIR")]
    pub(crate) model: Option<String>,
    /// Branch, tag or commit of a model on the hub [default: main].
    #[arg(long)]
    pub(crate) revision: Option<String>,
    /// Quantize matrices to so many bits while loading, as mlx_lm.convert does [default: not].
    #[arg(long, value_name = "BITS")]
    pub(crate) q_bits: Option<u32>,
    /// Values that share a scale where --q-bits quantizes: 32, 64 or 128 [default: 64].
    #[arg(long, value_name = "N")]
    pub(crate) q_group_size: Option<u32>,
    /// Type of weights and activations [default: f32 on the CPU, bf16 on a GPU].
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<DtypeName>,
    /// Where to run [default: a GPU where MLX has one].
    #[arg(long)]
    pub(crate) device: Option<DeviceName>,
}

/// Every setting of `lfmark run`. Flags and TOML keys have the same names.
// The first six stand here once more because serde cannot both flatten and refuse unknown keys.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Options {
    /// `embedded`, a preset (see `lfmark models`), the id of a model on the hub, or a folder with
    /// config.json, safetensors and tokenizer.json [default: embedded].
    #[arg(long, value_name = "NAME|ID|DIR")]
    pub(crate) model: Option<String>,
    /// Branch, tag or commit of a model on the hub [default: main].
    #[arg(long)]
    pub(crate) revision: Option<String>,
    /// Quantize matrices to so many bits while loading, as mlx_lm.convert does [default: not].
    #[arg(long, value_name = "BITS")]
    pub(crate) q_bits: Option<u32>,
    /// Values that share a scale where --q-bits quantizes: 32, 64 or 128 [default: 64].
    #[arg(long, value_name = "N")]
    pub(crate) q_group_size: Option<u32>,
    /// Type of weights and activations [default: f32 on the CPU, bf16 on a GPU].
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<DtypeName>,
    /// Where to run [default: a GPU where MLX has one].
    #[arg(long)]
    pub(crate) device: Option<DeviceName>,

    /// JSONL file, or a folder with train.jsonl [default: the embedded ten samples].
    #[arg(long, value_name = "PATH", help_heading = "Training")]
    pub(crate) data: Option<PathBuf>,
    /// Training iterations [default: 500].
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(crate) iterations: Option<u32>,
    /// Samples per iteration [default: 1].
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(crate) batch_size: Option<u32>,
    /// Longest sample, in tokens [default: 2048].
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(crate) max_seq_length: Option<u32>,
    /// Cut longer samples, as mlx-lm does, instead of refusing them [default: false].
    #[arg(long, help_heading = "Training", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) truncate: Option<bool>,
    /// Leave prompts out of the loss [default: false].
    #[arg(long, help_heading = "Training", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) mask_prompt: Option<bool>,
    /// Batch samples of similar length, instead of the order mlx-lm batches them in
    /// [default: false].
    #[arg(long, help_heading = "Training", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) sort_by_length: Option<bool>,
    /// Seed of the order, adapters, dropout, sampling and random weights [default: 0].
    #[arg(long, help_heading = "Training")]
    pub(crate) seed: Option<u64>,
    /// Iterations that are reported together [default: 1-100,100-300,300-500, scaled].
    #[arg(long, value_name = "LIST", help_heading = "Training")]
    pub(crate) windows: Option<String>,
    /// Whether MLX compiles the whole step, and the steps of generation [default: on].
    #[arg(long, help_heading = "Training")]
    pub(crate) compile: Option<Compile>,
    /// Give MLX's buffer cache back after every step, as mlx-lm does [default: false].
    #[arg(long, help_heading = "Training", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) clear_cache: Option<bool>,
    /// Memory that Metal keeps resident: off, recommended (its working set, as mlx-lm does) or a
    /// number of bytes; with much memory wired, macOS has been seen to panic [default: off].
    #[arg(long, value_name = "off|recommended|BYTES", help_heading = "Training")]
    pub(crate) wired: Option<Wired>,

    /// Measure the idle machine for so many seconds before the run, where its power can be read, 0
    /// for not [default: 5, and 0 in a process of a set].
    #[arg(long, value_name = "N", help_heading = "Energy")]
    pub(crate) idle_seconds: Option<u32>,

    /// adam or adamw [default: adam].
    #[arg(long, help_heading = "Optimizer")]
    pub(crate) optimizer: Option<OptimizerName>,
    /// Learning rate [default: 2e-5; 1e-3 for the embedded model].
    #[arg(long, value_name = "RATE", help_heading = "Optimizer")]
    pub(crate) learning_rate: Option<f64>,
    /// Decay of the first moment [default: 0.9].
    #[arg(long, help_heading = "Optimizer")]
    pub(crate) beta1: Option<f64>,
    /// Decay of the second moment [default: 0.999].
    #[arg(long, help_heading = "Optimizer")]
    pub(crate) beta2: Option<f64>,
    /// Added to the denominator [default: 1e-8].
    #[arg(long, help_heading = "Optimizer")]
    pub(crate) eps: Option<f64>,
    /// Weight decay of AdamW [default: 0.01].
    #[arg(long, help_heading = "Optimizer")]
    pub(crate) weight_decay: Option<f64>,

    /// Rank of the adapters [default: 16].
    #[arg(long, value_name = "N", help_heading = "LoRA")]
    pub(crate) lora_rank: Option<u32>,
    /// Scale times rank [default: 2 x rank].
    #[arg(long, value_name = "ALPHA", help_heading = "LoRA")]
    pub(crate) lora_alpha: Option<f64>,
    /// Factor on the update, as mlx-lm calls it; instead of alpha.
    #[arg(
        long,
        value_name = "SCALE",
        help_heading = "LoRA",
        conflicts_with = "lora_alpha"
    )]
    pub(crate) lora_scale: Option<f64>,
    /// Dropout before the adapters [default: 0.05].
    #[arg(long, value_name = "P", help_heading = "LoRA")]
    pub(crate) lora_dropout: Option<f64>,
    /// Last layers to adapt, 0 for all [default: 8, or all where there are fewer].
    #[arg(long, value_name = "N", help_heading = "LoRA")]
    pub(crate) lora_layers: Option<u32>,
    /// Modules to adapt, or `all` [default: q_proj,v_proj].
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        help_heading = "LoRA"
    )]
    pub(crate) lora_targets: Option<Vec<String>>,

    /// Prompt to generate for after training; give it several times for several prompts
    /// [default: three, others for the embedded model].
    #[arg(long = "prompt", value_name = "TEXT", help_heading = "Generation")]
    #[serde(rename = "prompt")]
    pub(crate) prompts: Option<Vec<String>>,
    /// JSON file of prompts with checks of what is generated for them (FORMAT.md).
    #[arg(
        long = "prompts",
        value_name = "FILE",
        help_heading = "Generation",
        conflicts_with = "prompts"
    )]
    #[serde(rename = "prompts")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Generate nothing after training [default: false].
    #[arg(long, help_heading = "Generation", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_generation: Option<bool>,
    /// Do not read after training what the losses and texts were before it [default: false].
    #[arg(long, help_heading = "Generation", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_effect: Option<bool>,
    /// Most tokens per prompt [default: 100].
    #[arg(long, value_name = "N", help_heading = "Generation")]
    pub(crate) max_tokens: Option<u32>,
    /// 0 chooses the likeliest token [default: 0].
    #[arg(long, value_name = "T", help_heading = "Generation")]
    pub(crate) temperature: Option<f64>,
    /// Keep the likeliest tokens up to this probability [default: 1].
    #[arg(long, value_name = "P", help_heading = "Generation")]
    pub(crate) top_p: Option<f64>,
    /// Go on after the token that ends a text [default: false].
    #[arg(long, help_heading = "Generation", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) ignore_eos: Option<bool>,
    /// Give prompts to the model as they are [default: false].
    #[arg(long, help_heading = "Generation", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_chat_template: Option<bool>,

    /// TOML file of thresholds to judge the run by, and to record with it
    /// [default: see METHODOLOGY.md].
    #[arg(long, value_name = "FILE", value_parser = Thresholds::read, help_heading = "Verdicts")]
    pub(crate) rules: Option<Thresholds>,
}

/// Thresholds by table and name, as in a TOML file: `[leak]` with `most-levels = 4`. Others stay
/// as they are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Thresholds(BTreeMap<String, BTreeMap<String, f64>>);

impl Thresholds {
    /// Reads a TOML file of thresholds, and checks them.
    pub(crate) fn read(path: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|e| format!("cannot read it: {e}"))?;
        let thresholds: Self = toml::from_str(&text).map_err(|e| e.to_string())?;
        thresholds.over(Rules::default())?;
        Ok(thresholds)
    }

    /// The rules with these thresholds in place of their own.
    pub(crate) fn over(&self, mut rules: Rules) -> Result<Rules, String> {
        for (table, thresholds) in &self.0 {
            let group = Group::ALL.into_iter().find(|group| group.name() == table);
            let group = group.ok_or_else(|| {
                let known = Group::ALL.map(Group::name).join(", ");
                format!("`{table}` is no table of thresholds; there are {known}")
            })?;
            for (name, value) in thresholds {
                rules.set(group, name, *value).map_err(|e| e.to_string())?;
            }
        }
        Ok(rules)
    }

    /// These thresholds, and the other's where these have none.
    fn or(self, other: Self) -> Self {
        let mut merged = other;
        for (table, thresholds) in self.0 {
            merged.0.entry(table).or_default().extend(thresholds);
        }
        merged
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DtypeName {
    F32,
    Bf16,
    F16,
}

impl DtypeName {
    pub(crate) fn mlx(self) -> Dtype {
        match self {
            Self::F32 => Dtype::Float32,
            Self::Bf16 => Dtype::Bfloat16,
            Self::F16 => Dtype::Float16,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeviceName {
    Cpu,
    Gpu,
}

impl DeviceName {
    pub(crate) fn kind(self) -> DeviceKind {
        match self {
            Self::Cpu => DeviceKind::Cpu,
            Self::Gpu => DeviceKind::Gpu,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compile {
    /// The graph of a step is built once for every batch shape, and that of a token once, but for
    /// its attentions.
    On,
    /// Besides, chains of element-wise operations become kernels. On Metal `on` does that too. On
    /// CUDA it takes about a minute, once for every machine; on the CPU it needs a C++ compiler.
    Fused,
    Off,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OptimizerName {
    Adam,
    Adamw,
}

impl ModelOptions {
    pub(crate) fn name(&self) -> &str {
        self.model.as_deref().unwrap_or(EMBEDDED)
    }

    /// How to quantize while loading.
    pub(crate) fn scheme(&self) -> Result<Option<Scheme>, Failure> {
        let scheme = match (self.q_bits, self.q_group_size) {
            (None, None) => return Ok(None),
            (None, Some(_)) => Err("q-group-size belongs to q-bits; give both".into()),
            (Some(bits), size) => {
                let size = size.unwrap_or(DEFAULT_GROUP_SIZE);
                Scheme::new(bits.into(), size.into())
                    .map_err(|problem| format!("q-bits, q-group-size: {problem}"))
            }
        };
        scheme.map(Some).map_err(Failure::Usage)
    }

    pub(crate) fn device(&self) -> Option<DeviceKind> {
        self.device.map(DeviceName::kind)
    }

    /// The type asked for, or the one that suits the device: 16-bit matrix products are very
    /// slow on MLX's CPU back end.
    pub(crate) fn dtype(&self, device: DeviceKind) -> DtypeName {
        self.dtype.unwrap_or(match device {
            DeviceKind::Cpu if self.plays_gpu() => DtypeName::Bf16,
            DeviceKind::Cpu => DtypeName::F32,
            DeviceKind::Gpu => DtypeName::Bf16,
        })
    }

    /// Whether the default device's type is to be a GPU's, for tests on machines without one. No
    /// release build has this.
    fn plays_gpu(&self) -> bool {
        cfg!(debug_assertions)
            && self.device.is_none()
            && std::env::var_os("LFMARK_TEST_DTYPE").is_some_and(|name| name == "bf16")
    }
}

/// That of mlx_lm.convert.
const DEFAULT_GROUP_SIZE: u32 = 64;

/// A run's choices, as far as they depend on neither the device nor the model.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) model: ModelOptions,
    pub(crate) quantize: Option<Scheme>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) iterations: u32,
    pub(crate) batch_size: u32,
    pub(crate) max_seq_length: u32,
    pub(crate) truncate: bool,
    pub(crate) mask_prompt: bool,
    pub(crate) order: Order,
    pub(crate) seed: u64,
    pub(crate) windows: Vec<WindowSpec>,
    pub(crate) compile: Compile,
    pub(crate) clear_cache: bool,
    pub(crate) wired: Wired,
    /// Whether losses and texts without adapters are read too.
    pub(crate) compares_effect: bool,
    /// How long the idle machine is measured before the run, where that is said.
    idle: Option<Duration>,
    pub(crate) optimizer: Optimizer,
    pub(crate) lora: LoraPlan,
    pub(crate) generation: GenerationConfig,
    pub(crate) rules: Rules,
}

/// How long the idle machine is measured, where nothing is said.
const IDLE_SECONDS: u32 = 5;

#[derive(Clone, Debug)]
pub(crate) struct LoraPlan {
    rank: u32,
    scale: f64,
    dropout: f64,
    /// `None` for the default, `Some(0)` for all.
    layers: Option<u32>,
    targets: Vec<String>,
}

/// Learning rate of the embedded model, whose 1.5 million parameters hardly move at the rate that
/// suits a billion.
const EMBEDDED_RATE: f64 = 1e-3;

/// Layers that are adapted by default, where the model has as many.
const DEFAULT_LORA_LAYERS: u32 = 8;

impl LoraPlan {
    /// The configuration for a model of this many layers.
    pub(crate) fn for_layers(&self, total: usize) -> LoraConfig {
        let total = total as u32;
        let layers = match self.layers {
            None => DEFAULT_LORA_LAYERS.min(total),
            Some(0) => total,
            Some(count) => count,
        };
        LoraConfig {
            rank: self.rank,
            scale: self.scale,
            dropout: self.dropout,
            layers: Some(layers),
            targets: self.targets.clone(),
        }
    }
}

impl Plan {
    /// Whether MLX compiles the whole step.
    pub(crate) fn compiles(&self) -> bool {
        self.compile != Compile::Off
    }

    /// Whether a compiled step makes kernels of its own.
    pub(crate) fn fuses_kernels(&self, device: DeviceKind) -> bool {
        let fuses = self.compile == Compile::Fused || mlx::fuses_kernels(device);
        self.compiles() && fuses
    }

    /// How long the idle machine is measured before the run. A process of a set has others around
    /// it, and its time to step 10 would hold the wait.
    pub(crate) fn idle(&self, in_a_set: bool) -> Duration {
        let default = Duration::from_secs(if in_a_set { 0 } else { IDLE_SECONDS }.into());
        self.idle.unwrap_or(default)
    }

    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.generation.temperature,
            top_p: self.generation.top_p,
            seed: self.seed,
        }
    }
}

impl Options {
    /// Reads a TOML file of settings.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).map_err(|e| {
            let problem = e.to_string();
            Failure::Usage(format!("{}: {}", path.display(), problem.trim_end()))
        })
    }

    /// These settings, and those of a file where these have none.
    pub(crate) fn with_file(self, file: Option<&Path>) -> Result<Self, Failure> {
        let file = file.map(Self::read).transpose()?;
        Ok(self.or(file.unwrap_or_default()))
    }

    /// These settings, and the other's where these have none.
    pub(crate) fn or(self, other: Self) -> Self {
        // Destructured, so that a new setting cannot be forgotten here.
        let Self {
            model,
            revision,
            q_bits,
            q_group_size,
            dtype,
            device,
            data,
            iterations,
            batch_size,
            max_seq_length,
            truncate,
            mask_prompt,
            sort_by_length,
            seed,
            windows,
            compile,
            clear_cache,
            wired,
            idle_seconds,
            optimizer,
            learning_rate,
            beta1,
            beta2,
            eps,
            weight_decay,
            lora_rank,
            lora_alpha,
            lora_scale,
            lora_dropout,
            lora_layers,
            lora_targets,
            prompts,
            prompt_file,
            no_generation,
            no_effect,
            max_tokens,
            temperature,
            top_p,
            ignore_eos,
            no_chat_template,
            rules,
        } = self;
        // Alpha and scale are two names of one setting.
        let (lora_alpha, lora_scale) = match (lora_alpha, lora_scale) {
            (None, None) => (other.lora_alpha, other.lora_scale),
            given => given,
        };
        // And so are prompts and a file of them.
        let (prompts, prompt_file) = match (prompts, prompt_file) {
            (None, None) => (other.prompts, other.prompt_file),
            given => given,
        };
        Self {
            model: model.or(other.model),
            revision: revision.or(other.revision),
            q_bits: q_bits.or(other.q_bits),
            q_group_size: q_group_size.or(other.q_group_size),
            dtype: dtype.or(other.dtype),
            device: device.or(other.device),
            data: data.or(other.data),
            iterations: iterations.or(other.iterations),
            batch_size: batch_size.or(other.batch_size),
            max_seq_length: max_seq_length.or(other.max_seq_length),
            truncate: truncate.or(other.truncate),
            mask_prompt: mask_prompt.or(other.mask_prompt),
            sort_by_length: sort_by_length.or(other.sort_by_length),
            seed: seed.or(other.seed),
            windows: windows.or(other.windows),
            compile: compile.or(other.compile),
            clear_cache: clear_cache.or(other.clear_cache),
            wired: wired.or(other.wired),
            idle_seconds: idle_seconds.or(other.idle_seconds),
            optimizer: optimizer.or(other.optimizer),
            learning_rate: learning_rate.or(other.learning_rate),
            beta1: beta1.or(other.beta1),
            beta2: beta2.or(other.beta2),
            eps: eps.or(other.eps),
            weight_decay: weight_decay.or(other.weight_decay),
            lora_rank: lora_rank.or(other.lora_rank),
            lora_alpha,
            lora_scale,
            lora_dropout: lora_dropout.or(other.lora_dropout),
            lora_layers: lora_layers.or(other.lora_layers),
            lora_targets: lora_targets.or(other.lora_targets),
            prompts,
            prompt_file,
            no_generation: no_generation.or(other.no_generation),
            no_effect: no_effect.or(other.no_effect),
            max_tokens: max_tokens.or(other.max_tokens),
            temperature: temperature.or(other.temperature),
            top_p: top_p.or(other.top_p),
            ignore_eos: ignore_eos.or(other.ignore_eos),
            no_chat_template: no_chat_template.or(other.no_chat_template),
            rules: match (rules, other.rules) {
                (Some(these), Some(others)) => Some(these.or(others)),
                (these, others) => these.or(others),
            },
        }
    }

    /// Whether the model is the embedded one.
    pub(crate) fn is_embedded(&self) -> bool {
        self.model.as_deref().is_none_or(|model| model == EMBEDDED)
    }

    /// Fills in the defaults and checks every value that can be checked without a model.
    pub(crate) fn resolve(self) -> Result<Plan, Failure> {
        let usage = |problem: String| Failure::Usage(problem);
        let iterations = at_least_one("iterations", self.iterations.unwrap_or(500))?;
        let windows = match &self.windows {
            Some(text) => window::parse(text).map_err(|e| usage(format!("--windows: {e}")))?,
            None => window::default_windows(iterations),
        };
        window::validate(&windows, iterations).map_err(|e| usage(format!("--windows: {e}")))?;
        let rank = at_least_one("lora-rank", self.lora_rank.unwrap_or(16))?;
        let scale = match (self.lora_scale, self.lora_alpha) {
            (Some(_), Some(_)) => {
                return Err(usage("give lora-alpha or lora-scale, not both".into()));
            }
            (Some(scale), None) => scale,
            (None, alpha) => alpha.unwrap_or(2.0 * f64::from(rank)) / f64::from(rank),
        };
        // Small, it learns at a higher rate, and has its own prompts.
        let embedded = self.is_embedded();
        let prompts = match (&self.prompts, &self.prompt_file) {
            (Some(_), Some(_)) => return Err(usage("give prompt or prompts, not both".into())),
            _ if self.no_generation == Some(true) => Vec::new(),
            (Some(texts), None) => texts.iter().cloned().map(Prompt::unchecked).collect(),
            (None, Some(path)) => prompts::read(path)?,
            (None, None) if embedded => prompts::embedded(),
            (None, None) => prompts::default(),
        };
        let (prompts, checks): (_, Vec<_>) =
            prompts.into_iter().map(|it| (it.prompt, it.checks)).unzip();
        let generation = GenerationConfig {
            prompts,
            checks: Some(checks),
            max_tokens: at_least_one("max-tokens", self.max_tokens.unwrap_or(100))?,
            temperature: self.temperature.unwrap_or(0.0),
            top_p: self.top_p.unwrap_or(1.0),
            ignore_eos: self.ignore_eos.unwrap_or(false),
            chat_template: !self.no_chat_template.unwrap_or(false),
        };
        let model = ModelOptions {
            model: self.model.clone(),
            revision: self.revision.clone(),
            q_bits: self.q_bits,
            q_group_size: self.q_group_size,
            dtype: self.dtype,
            device: self.device,
        };
        let plan = Plan {
            iterations,
            windows,
            batch_size: at_least_one("batch-size", self.batch_size.unwrap_or(1))?,
            max_seq_length: self.max_seq_length.unwrap_or(2048),
            truncate: self.truncate.unwrap_or(false),
            mask_prompt: self.mask_prompt.unwrap_or(false),
            order: match self.sort_by_length {
                Some(true) => Order::Length,
                _ => Order::MlxLm,
            },
            seed: self.seed.unwrap_or(0),
            compile: self.compile.unwrap_or(Compile::On),
            clear_cache: self.clear_cache.unwrap_or(false),
            wired: self.wired.unwrap_or_default(),
            compares_effect: !self.no_effect.unwrap_or(false),
            idle: self
                .idle_seconds
                .map(|seconds| Duration::from_secs(seconds.into())),
            optimizer: self.optimizer()?,
            lora: LoraPlan {
                rank,
                scale,
                dropout: self.lora_dropout.unwrap_or(0.05),
                layers: self.lora_layers,
                targets: self
                    .lora_targets
                    .clone()
                    .unwrap_or_else(|| vec!["q_proj".into(), "v_proj".into()]),
            },
            generation,
            rules: self
                .rules
                .unwrap_or_default()
                .over(Rules::default())
                .map_err(|e| usage(format!("rules: {e}")))?,
            data: self.data,
            quantize: model.scheme()?,
            model,
        };
        if !(plan.lora.scale as f32).is_finite() {
            return Err(usage(format!(
                "the LoRA scale is {}; it must be finite in f32",
                plan.lora.scale
            )));
        }
        if !(0.0..1.0).contains(&plan.lora.dropout) {
            return Err(usage(format!(
                "lora-dropout is {}; it must be from 0 to below 1",
                plan.lora.dropout
            )));
        }
        if plan.max_seq_length < 2 {
            return Err(usage("max-seq-length must be at least 2".into()));
        }
        plan.sampling().check().map_err(|e| usage(e.to_string()))?;
        Ok(plan)
    }

    fn optimizer(&self) -> Result<Optimizer, Failure> {
        let embedded = self.model.as_deref().is_none_or(|model| model == EMBEDDED);
        let default = Optimizer::adam(match embedded {
            true => EMBEDDED_RATE,
            false => 2e-5,
        });
        let within =
            |name: &str, value: Option<f64>, default: f64, ok: fn(f64) -> bool, range: &str| {
                let value = value.unwrap_or(default);
                match ok(value) {
                    true => Ok(value),
                    false => Err(Failure::Usage(format!(
                        "{name} is {value}; it must be {range}"
                    ))),
                }
            };
        let fraction = |value| (0.0..1.0).contains(&value);
        // MLX computes with them in f32.
        let not_negative = |value: f64| value >= 0.0 && (value as f32).is_finite();
        let adamw = self.optimizer == Some(OptimizerName::Adamw);
        if !adamw && self.weight_decay.is_some() {
            return Err(Failure::Usage(
                "weight-decay belongs to adamw; add --optimizer adamw".into(),
            ));
        }
        let decay = within(
            "weight-decay",
            self.weight_decay,
            0.01,
            not_negative,
            "0 or more",
        )?;
        Ok(Optimizer {
            learning_rate: within(
                "learning-rate",
                self.learning_rate,
                default.learning_rate,
                not_negative,
                "0 or more",
            )?,
            beta1: within(
                "beta1",
                self.beta1,
                default.beta1,
                fraction,
                "from 0 to below 1",
            )?,
            beta2: within(
                "beta2",
                self.beta2,
                default.beta2,
                fraction,
                "from 0 to below 1",
            )?,
            eps: within("eps", self.eps, default.eps, not_negative, "0 or more")?,
            weight_decay: adamw.then_some(decay),
        })
    }
}

fn at_least_one(name: &str, value: u32) -> Result<u32, Failure> {
    match value {
        0 => Err(Failure::Usage(format!(
            "{name} is 0; it must be at least 1"
        ))),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(toml: &str) -> Result<Plan, String> {
        let options: Options = toml::from_str(toml).map_err(|e| e.to_string())?;
        options.resolve().map_err(|failure| match failure {
            Failure::Usage(problem) => problem,
            other => panic!("not a usage error: {other:?}"),
        })
    }

    #[test]
    fn defaults_are_the_performance_documents() {
        let plan = resolve("model = \"lfm2-1.2b\"").unwrap();
        assert_eq!((plan.iterations, plan.batch_size, plan.seed), (500, 1, 0));
        assert_eq!(window::format(&plan.windows), "1-100,100-300,300-500");
        assert_eq!(plan.optimizer, Optimizer::adam(2e-5));
        let lora = plan.lora.for_layers(16);
        assert_eq!(
            (lora.rank, lora.scale, lora.dropout, lora.layers),
            (16, 2.0, 0.05, Some(8))
        );
        assert_eq!(plan.lora.for_layers(5).layers, Some(5));
        assert_eq!(
            plan.generation.prompts,
            [
                "What is artificial intelligence?",
                "Explain machine learning in simple terms.",
                "How do neural networks work?",
            ]
        );
    }

    #[test]
    fn the_embedded_model_has_a_rate_and_prompts_of_its_own() {
        let plan = resolve("").unwrap();
        assert_eq!(plan.optimizer, Optimizer::adam(EMBEDDED_RATE));
        let prompts = prompts::embedded().into_iter().map(|it| it.prompt);
        assert!(plan.generation.prompts.iter().cloned().eq(prompts));
        let given = resolve("learning-rate = 0.5").unwrap();
        assert_eq!(given.optimizer, Optimizer::adam(0.5));
    }

    #[test]
    fn a_flag_goes_before_the_file() {
        let file: Options = toml::from_str("iterations = 7\nlora-alpha = 8\nseed = 3").unwrap();
        let flags = Options {
            iterations: Some(9),
            lora_scale: Some(5.0),
            ..Options::default()
        };
        let plan = flags.or(file).resolve().unwrap();
        assert_eq!((plan.iterations, plan.seed), (9, 3));
        assert_eq!(plan.lora.for_layers(16).scale, 5.0);
        let file: Options = toml::from_str("prompts = \"not-there.json\"").unwrap();
        let flags = Options {
            prompts: Some(vec!["Why?".to_owned()]),
            ..Options::default()
        };
        let plan = flags.or(file).resolve().unwrap();
        assert_eq!(plan.generation.prompts, ["Why?"]);
    }

    #[test]
    fn nothing_is_wired_unless_it_is_asked_for() {
        assert_eq!(resolve("").unwrap().wired, Wired::Off);
        for (toml, wired) in [
            ("wired = \"recommended\"", Wired::Recommended),
            ("wired = 4096", Wired::Bytes(4096)),
            ("wired = \"4096\"", Wired::Bytes(4096)),
        ] {
            assert_eq!(resolve(toml).unwrap().wired, wired, "{toml}");
            // As `lfmark export` and sets hand settings on.
            let options: Options = toml::from_str(toml).unwrap();
            let again = resolve(&toml::to_string(&options).unwrap()).unwrap();
            assert_eq!(again.wired, wired, "{toml}");
        }
    }

    #[test]
    fn thresholds_are_set_one_by_one() {
        let toml = "[rules.leak]\nmost-levels = 4\npower = 0.9\n[rules.steadiness]\nseparation = 1";
        let file: Options = toml::from_str(toml).unwrap();
        let flags = Options {
            rules: Some(toml::from_str("[leak]\npower = 0.95").unwrap()),
            ..Options::default()
        };
        let mut expected = Rules::default();
        expected.leak.most_levels = 4;
        expected.leak.power = 0.95;
        expected.steadiness.separation = 1.0;
        assert_eq!(flags.or(file).resolve().unwrap().rules, expected);
        assert_eq!(resolve("").unwrap().rules, Rules::default());
    }

    #[test]
    fn a_bad_setting_is_named_with_what_would_do() {
        let check = |toml: &str, expected: &str| {
            let error = resolve(toml).unwrap_err();
            assert!(
                error.contains(expected),
                "`{error}` does not contain `{expected}`"
            );
        };
        check("iterations = 0", "iterations is 0; it must be at least 1");
        check("iterations = 50\nwindows = \"1-100\"", "--windows: ");
        check("batch-size = 0", "batch-size is 0");
        check("lora-rank = 0", "lora-rank is 0");
        check("lora-alpha = 1\nlora-scale = 1", "not both");
        check("prompt = [\"a\"]\nprompts = \"b\"", "not both");
        check("lora-alpha = nan", "the LoRA scale is NaN");
        check("learning-rate = 1e39", "learning-rate is 1");
        check("lora-dropout = 1", "lora-dropout is 1; it must be from 0");
        check(
            "learning-rate = -1",
            "learning-rate is -1; it must be 0 or more",
        );
        check("beta1 = 1", "beta1 is 1; it must be from 0 to below 1");
        check("weight-decay = 0.1", "add --optimizer adamw");
        check("temperature = -1", "the temperature is -1");
        check("top-p = 0", "top-p is 0");
        check("max-seq-length = 1", "at least 2");
        check("wired = \"on\"", "`on` is not off, recommended or a number");
        check("wired = 0", "`0` is not off, recommended or a number");
        check(
            "q-bits = 7",
            "the number of bits is 7, and MLX has 2, 3, 4, 5, 6, 8",
        );
        check(
            "q-bits = 4\nq-group-size = 48",
            "the group size is 48, and MLX has 32, 64, 128",
        );
        check("q-group-size = 32", "q-group-size belongs to q-bits");
        check("learning-rte = 1", "unknown field `learning-rte`");
        check("optimizer = \"sgd\"", "unknown variant `sgd`");
        check(
            "[rules.leak]\npower = 1",
            "rules: leak.power is 1; it must be from 0.5 to below 1",
        );
        check(
            "[rules.leak]\nmost_levels = 4",
            "rules: leak.most_levels is no threshold; leak has fewest-readings",
        );
        check(
            "[rules.leaks]\npower = 0.9",
            "rules: `leaks` is no table of thresholds; there are steadiness, leak, comparison",
        );
        check("[rules.leak]\npower = \"high\"", "expected f64");
    }
}
