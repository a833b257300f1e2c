//! From a model's name to a model: presets, the embedded default, and folders.

use std::{fs, path::Path, rc::Rc};

use mlx_rs::{Array, Dtype};

use crate::{
    Error, Result,
    config::{Shape, eos_token_ids},
    lfm2::Lfm2,
    mlx::Memory,
    random,
    tokenizer::Tokenizer,
    weights::{self, Tensors, sha256_hex},
};

/// Name of the model that is shipped inside the program.
pub const EMBEDDED: &str = "embedded";

/// Training data that is shipped inside the program: ten samples.
pub const EMBEDDED_DATA: &str = include_str!("../embedded/train.jsonl");

/// Its `config.json`.
pub const EMBEDDED_CONFIG: &str = include_str!("../embedded/config.json");
pub(crate) const EMBEDDED_TOKENIZER: &str = include_str!("../embedded/tokenizer.json");
pub(crate) const EMBEDDED_TOKENIZER_CONFIG: &str =
    include_str!("../embedded/tokenizer_config.json");
const EMBEDDED_WEIGHTS: &[u8] = include_bytes!("../embedded/model.safetensors");

/// The shape of a published model, to be run with random weights.
pub struct Preset {
    pub name: &'static str,
    /// Text of its `config.json`.
    pub config: &'static str,
}

/// The published LFM2 sizes.
///
/// Sizes from the models' cards and configs (huggingface.co/LiquidAI/LFM2-350M, -700M, -1.2B and
/// -2.6B); the test of known parameter counts holds them to the cards.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "lfm2-350m",
        config: include_str!("../presets/lfm2-350m.json"),
    },
    Preset {
        name: "lfm2-700m",
        config: include_str!("../presets/lfm2-700m.json"),
    },
    Preset {
        name: "lfm2-1.2b",
        config: include_str!("../presets/lfm2-1.2b.json"),
    },
    Preset {
        name: "lfm2-2.6b",
        config: include_str!("../presets/lfm2-2.6b.json"),
    },
];

/// A model ready to run.
pub struct Loaded {
    /// Preset or folder name.
    pub name: String,
    pub model: Rc<Lfm2>,
    pub tokenizer: Tokenizer,
    pub source: Source,
    pub config_sha256: String,
    pub weight_bytes: u64,
    /// Tokens that end generation.
    pub eos_ids: Vec<u32>,
}

/// Where the weights came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Embedded { sha256: String },
    Files { sha256: String },
    Random { seed: u64 },
}

/// Loads the embedded default, a preset (random weights from `seed`), or a folder with
/// `config.json`, safetensors and `tokenizer.json`.
///
/// Presets use the embedded tokenizer, whose ids all lie within their vocabulary.
///
/// # Errors
///
/// An unknown name, or anything wrong with the folder's files.
pub fn load(name: &str, dtype: Dtype, seed: u64) -> Result<Loaded> {
    let loaded = assemble(parts(name, dtype, seed)?)?;
    // What loading used on the way belongs to no measurement.
    Memory::clear_cache()?;
    Memory::reset_peak()?;
    Ok(loaded)
}

/// What a model is put together from.
pub(crate) struct Parts {
    pub(crate) name: String,
    /// Text of `config.json`.
    pub(crate) config: String,
    pub(crate) shape: Shape,
    pub(crate) tensors: Tensors,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) source: Source,
}

/// The parts of the model that [`load`] would load.
pub(crate) fn parts(name: &str, dtype: Dtype, seed: u64) -> Result<Parts> {
    if name == EMBEDDED {
        embedded(dtype)
    } else if let Some(preset) = PRESETS.iter().find(|p| p.name == name) {
        random(preset, dtype, seed)
    } else {
        folder(Path::new(name), dtype)
    }
}

/// The embedded tokenizer.
///
/// # Errors
///
/// None in a sound build.
pub fn embedded_tokenizer() -> Result<Tokenizer> {
    let dir = Path::new(EMBEDDED);
    Tokenizer::parse(
        dir,
        EMBEDDED_TOKENIZER,
        Some(EMBEDDED_TOKENIZER_CONFIG),
        None,
    )
}

/// The tokenizer of the model that [`load`] would load.
///
/// # Errors
///
/// As for [`load`], of the tokenizer's files alone.
pub fn tokenizer(name: &str) -> Result<Tokenizer> {
    let shipped = name == EMBEDDED || PRESETS.iter().any(|preset| preset.name == name);
    match shipped {
        true => embedded_tokenizer(),
        false => Tokenizer::read(Path::new(name)),
    }
}

fn embedded(dtype: Dtype) -> Result<Parts> {
    let shape = Shape::from_json(EMBEDDED_CONFIG, "embedded config.json")?;
    let specs = shape.tensors();
    let (tensors, sha256) = weights::load_bytes(
        "embedded model.safetensors",
        EMBEDDED_WEIGHTS,
        &specs,
        dtype,
    )?;
    Ok(Parts {
        name: EMBEDDED.to_owned(),
        config: EMBEDDED_CONFIG.to_owned(),
        shape,
        tensors,
        tokenizer: embedded_tokenizer()?,
        source: Source::Embedded { sha256 },
    })
}

fn random(preset: &Preset, dtype: Dtype, seed: u64) -> Result<Parts> {
    let shape = Shape::from_json(preset.config, preset.name)?;
    let mut tensors = Tensors::new();
    for spec in shape.tensors() {
        let len = spec.shape.iter().map(|&d| d as usize).product();
        let values = random::base(seed, &spec.name, spec.role, len);
        let array = to_dtype(&values, &spec.shape, dtype)?;
        tensors.insert(spec.name, array);
    }
    Ok(Parts {
        name: preset.name.to_owned(),
        config: preset.config.to_owned(),
        shape,
        tensors,
        tokenizer: embedded_tokenizer()?,
        source: Source::Random { seed },
    })
}

/// Rounds on the host, so that the bits do not depend on the device.
fn to_dtype(values: &[f32], shape: &[i32], dtype: Dtype) -> Result<Array> {
    Ok(match dtype {
        Dtype::Float32 => Array::from_slice(values, shape),
        Dtype::Bfloat16 => {
            let rounded: Vec<_> = values.iter().map(|&v| half::bf16::from_f32(v)).collect();
            Array::from_slice(&rounded, shape)
        }
        Dtype::Float16 => {
            let rounded: Vec<_> = values.iter().map(|&v| half::f16::from_f32(v)).collect();
            Array::from_slice(&rounded, shape)
        }
        other => {
            return Err(Error::Invalid(format!(
                "{other:?} is not a type for weights"
            )));
        }
    })
}

fn folder(dir: &Path, dtype: Dtype) -> Result<Parts> {
    let path = dir.join("config.json");
    if !path.is_file() {
        let presets: Vec<_> = PRESETS.iter().map(|p| p.name).collect();
        return Err(Error::Invalid(format!(
            "{} is neither a folder with a config.json nor one of `{EMBEDDED}`, {}",
            dir.display(),
            presets.join(", ")
        )));
    }
    let config = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let mut shape = Shape::from_json(&config, &path.display().to_string())?;
    if let Some(ids) = generation_eos_ids(dir)? {
        shape.eos_token_ids = ids;
    }
    let tokenizer = Tokenizer::read(dir)?;
    let (tensors, sha256) = weights::load_folder(dir, &shape.tensors(), dtype)?;
    let canonical = fs::canonicalize(dir).map_err(Error::io("open", dir))?;
    let name = canonical
        .file_name()
        .unwrap_or(canonical.as_os_str())
        .to_string_lossy();
    Ok(Parts {
        name: name.into_owned(),
        config,
        shape,
        tensors,
        tokenizer,
        source: Source::Files { sha256 },
    })
}

/// End tokens of `generation_config.json`, which go before those of `config.json`, as in mlx-lm.
fn generation_eos_ids(dir: &Path) -> Result<Option<Vec<u32>>> {
    let path = dir.join("generation_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let file = path.display().to_string();
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let config: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| Error::config(&file, format!("not valid JSON: {e}")))?;
    // mlx-lm takes the field only where it says something: not where it is null, 0 or empty.
    let ids = config
        .get("eos_token_id")
        .filter(|ids| {
            !ids.is_null() && *ids != 0 && ids.as_array().is_none_or(|ids| !ids.is_empty())
        })
        .map(|ids| eos_token_ids(Some(ids)))
        .transpose();
    ids.map_err(|problem| Error::config(&file, problem))
}

fn assemble(parts: Parts) -> Result<Loaded> {
    Ok(Loaded {
        weight_bytes: parts.tensors.values().map(|t| t.nbytes() as u64).sum(),
        eos_ids: parts.eos_ids(),
        name: parts.name,
        model: Rc::new(Lfm2::new(parts.shape, parts.tensors)?),
        tokenizer: parts.tokenizer,
        source: parts.source,
        config_sha256: sha256_hex(parts.config.as_bytes()),
    })
}

impl Parts {
    /// Tokens that end generation: the tokenizer's own counts beside the config's, which presets
    /// do not share.
    pub(crate) fn eos_ids(&self) -> Vec<u32> {
        let mut ids = match self.source {
            Source::Random { .. } => Vec::new(),
            _ => self.shape.eos_token_ids.clone(),
        };
        ids.extend(self.tokenizer.eos_id());
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
