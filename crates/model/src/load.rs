//! From a model's name to a model: presets, the embedded default, folders, and the hub.

use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use mlx_rs::{Array, Dtype};

use crate::{
    Error, Result,
    config::{Shape, eos_token_ids},
    hub,
    lfm2::Lfm2,
    mlx::Memory,
    quantization::{self, Packed, Scheme},
    random,
    tensors::Tensors,
    tokenizer::Tokenizer,
    weights::{self, Request, sha256_hex},
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
#[derive(Debug)]
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

/// A model that was found, and is not read yet.
#[derive(Clone, Debug)]
pub struct Place {
    /// How a record names it: a preset, a folder's name, or an id of the hub.
    pub name: String,
    /// Commit of the hub's files.
    pub revision: Option<String>,
    files: Files,
}

#[derive(Clone, Debug)]
enum Files {
    Embedded,
    /// The shape alone.
    Preset(&'static Preset),
    Folder(PathBuf),
}

impl Place {
    /// Finds a model by its name: `embedded`, a preset, a folder, or an id of the hub, whose files
    /// are fetched into its cache where they are not there yet. `revision` is a branch, tag or
    /// commit on the hub.
    ///
    /// # Errors
    ///
    /// An unknown name, and everything that can go wrong between here and the hub.
    pub fn find(name: &str, revision: Option<&str>, watch: &mut hub::Watch) -> Result<Self> {
        if let Some(local) = Self::local(name)? {
            return match revision {
                None => Ok(local),
                Some(_) => Err(Error::Invalid(format!(
                    "`{name}` is here and has no revisions, which only models of the hub have; \
                     drop --revision"
                ))),
            };
        }
        if !hub::is_id(name) {
            let presets: Vec<_> = PRESETS.iter().map(|p| p.name).collect();
            return Err(Error::Invalid(format!(
                "`{name}` is neither a folder, nor one of `{EMBEDDED}`, {}, nor the id of a model \
                 on the hub (such as LiquidAI/LFM2-1.2B)",
                presets.join(", ")
            )));
        }
        let snapshot = hub::snapshot(&hub::Settings::from_env()?, name, revision, watch)?;
        Ok(Self {
            name: name.to_owned(),
            revision: Some(snapshot.commit),
            files: Files::Folder(snapshot.folder),
        })
    }

    /// Finds what needs no network; `None` where there is nothing of this name.
    ///
    /// # Errors
    ///
    /// A folder that holds no model.
    pub fn local(name: &str) -> Result<Option<Self>> {
        let place = |name: &str, files| Self {
            name: name.to_owned(),
            revision: None,
            files,
        };
        if name == EMBEDDED {
            return Ok(Some(Self::embedded()));
        }
        if let Some(preset) = PRESETS.iter().find(|p| p.name == name) {
            return Ok(Some(place(name, Files::Preset(preset))));
        }
        let dir = Path::new(name);
        if !dir.exists() {
            return Ok(None);
        }
        if !dir.join("config.json").is_file() {
            return Err(Error::Invalid(format!(
                "{name} is not a folder with a config.json; give the folder of a model"
            )));
        }
        let canonical = fs::canonicalize(dir).map_err(Error::io("open", dir))?;
        let folder = canonical.file_name().unwrap_or(canonical.as_os_str());
        Ok(Some(place(
            &folder.to_string_lossy(),
            Files::Folder(dir.to_owned()),
        )))
    }

    /// The model that is shipped inside the program.
    pub fn embedded() -> Self {
        Self {
            name: EMBEDDED.to_owned(),
            revision: None,
            files: Files::Embedded,
        }
    }

    /// Its folder, where it has one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.files {
            Files::Folder(dir) => Some(dir),
            _ => None,
        }
    }

    /// The model's shape, as its `config.json` has it.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or holds no LFM2.
    pub fn shape(&self) -> Result<Shape> {
        match &self.files {
            Files::Embedded => embedded_shape(),
            Files::Preset(preset) => preset_shape(preset),
            Files::Folder(dir) => folder_shape(dir).map(|(shape, _)| shape),
        }
    }

    /// Bytes of config, tokenizer and weights where they are stored.
    ///
    /// # Errors
    ///
    /// A preset, which has no weights, and a folder that lacks one of the files.
    pub fn stored_bytes(&self) -> Result<u64> {
        let dir = match &self.files {
            Files::Embedded => {
                let texts = [
                    EMBEDDED_CONFIG,
                    EMBEDDED_TOKENIZER,
                    EMBEDDED_TOKENIZER_CONFIG,
                ];
                let bytes = texts.iter().map(|text| text.len()).sum::<usize>();
                return Ok((bytes + EMBEDDED_WEIGHTS.len()) as u64);
            }
            Files::Preset(preset) => {
                let problem = format!("`{}` has random weights, and no files", preset.name);
                return Err(Error::Invalid(problem));
            }
            Files::Folder(dir) => dir,
        };
        let names = ["config.json", "tokenizer.json", "tokenizer_config.json"];
        let files = names.iter().map(|name| dir.join(name));
        files
            .chain(weights::shard_paths(dir)?)
            .map(|path| Ok(fs::metadata(&path).map_err(Error::io("read", &path))?.len()))
            .sum()
    }

    /// The type its weights are stored in: that of most of them.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn stored_dtype(&self) -> Result<Dtype> {
        match &self.files {
            Files::Folder(dir) => weights::stored_dtype(dir),
            _ => Ok(Dtype::Float32),
        }
    }
}

/// How a model is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Type of the weights, or of their scales, and of every activation.
    pub dtype: Dtype,
    /// Of random weights.
    pub seed: u64,
    /// How to pack its matrices.
    pub quantize: Option<Scheme>,
}

/// A model ready to run.
pub struct Loaded {
    /// As in [`Place`].
    pub name: String,
    /// As in [`Place`].
    pub revision: Option<String>,
    pub model: Rc<Lfm2>,
    pub tokenizer: Tokenizer,
    pub source: Source,
    pub config_sha256: String,
    pub weight_bytes: u64,
    /// How its matrices are packed; empty where none is.
    pub packed: Vec<Packed>,
    /// Whether they were packed here, and not in the files.
    pub quantized_here: bool,
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

/// Loads a model: the embedded default, a preset with random weights, or a folder with
/// `config.json`, safetensors and `tokenizer.json`.
///
/// Presets use the embedded tokenizer, whose ids all lie within their vocabulary.
///
/// # Errors
///
/// Anything wrong with the files, and a model to be quantized that is so already, or cannot be.
pub fn load(place: &Place, options: Options) -> Result<Loaded> {
    let parts = parts(place, options)?;
    let loaded = Loaded {
        weight_bytes: parts.tensors.values().map(|t| t.nbytes() as u64).sum(),
        packed: quantization::packed(&parts.shape.tensors(), &parts.tensors),
        quantized_here: options.quantize.is_some(),
        eos_ids: parts.eos_ids(),
        name: place.name.clone(),
        revision: place.revision.clone(),
        config_sha256: sha256_hex(parts.config.as_bytes()),
        model: Rc::new(Lfm2::new(parts.shape, parts.tensors)?),
        tokenizer: parts.tokenizer,
        source: parts.source,
    };
    // What loading used on the way belongs to no measurement.
    Memory::clear_cache()?;
    Memory::reset_peak()?;
    Ok(loaded)
}

/// What a model is put together from.
pub(crate) struct Parts {
    /// Text of `config.json`.
    pub(crate) config: String,
    pub(crate) shape: Shape,
    pub(crate) tensors: Tensors,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) source: Source,
}

/// The parts of the model that [`load`] would load.
pub(crate) fn parts(place: &Place, options: Options) -> Result<Parts> {
    let parts = match &place.files {
        Files::Embedded => embedded(options),
        Files::Preset(preset) => random(preset, options),
        Files::Folder(dir) => folder(dir, options),
    }?;
    if let Some(Scheme { group_size, .. }) = options.quantize
        && quantization::packed(&parts.shape.tensors(), &parts.tensors).is_empty()
    {
        return Err(Error::Invalid(format!(
            "no matrix of {} has rows of whole groups of {group_size}; choose a smaller group size",
            place.name
        )));
    }
    Ok(parts)
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
pub fn tokenizer(place: &Place) -> Result<Tokenizer> {
    match place.folder() {
        None => embedded_tokenizer(),
        Some(dir) => Tokenizer::read(dir),
    }
}

fn embedded_shape() -> Result<Shape> {
    Shape::from_json(EMBEDDED_CONFIG, "embedded config.json")
}

fn preset_shape(preset: &Preset) -> Result<Shape> {
    Shape::from_json(preset.config, preset.name)
}

/// With the text it is read from.
fn folder_shape(dir: &Path) -> Result<(Shape, String)> {
    let path = dir.join("config.json");
    let config = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let shape = Shape::from_json(&config, &path.display().to_string())?;
    Ok((shape, config))
}

fn embedded(options: Options) -> Result<Parts> {
    let shape = embedded_shape()?;
    let specs = shape.tensors();
    let request = Request {
        quantize: options.quantize,
        ..Request::plain(&specs, options.dtype)
    };
    let (tensors, sha256) =
        weights::load_bytes("embedded model.safetensors", EMBEDDED_WEIGHTS, &request)?;
    Ok(Parts {
        config: EMBEDDED_CONFIG.to_owned(),
        shape,
        tensors,
        tokenizer: embedded_tokenizer()?,
        source: Source::Embedded { sha256 },
    })
}

fn random(preset: &Preset, options: Options) -> Result<Parts> {
    let shape = preset_shape(preset)?;
    let mut tensors = Tensors::new();
    for spec in shape.tensors() {
        let len = spec.shape.iter().map(|&d| d as usize).product();
        let values = random::base(options.seed, &spec.name, spec.role, len);
        let array = to_dtype(&values, &spec.shape, options.dtype)?;
        quantization::store(&mut tensors, &spec, array, options.quantize)?;
    }
    Ok(Parts {
        config: preset.config.to_owned(),
        shape,
        tensors,
        tokenizer: embedded_tokenizer()?,
        source: Source::Random { seed: options.seed },
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

pub(crate) const QUANTIZED_ALREADY: &str =
    "the model is quantized already; drop --q-bits, or give the unquantized model";

fn folder(dir: &Path, options: Options) -> Result<Parts> {
    let (mut shape, config) = folder_shape(dir)?;
    if shape.quantization.is_some() && options.quantize.is_some() {
        return Err(Error::config(
            &dir.join("config.json").display().to_string(),
            QUANTIZED_ALREADY,
        ));
    }
    if let Some(ids) = generation_eos_ids(dir)? {
        shape.eos_token_ids = ids;
    }
    let tokenizer = Tokenizer::read(dir)?;
    let request = Request {
        specs: &shape.tensors(),
        quantization: shape.quantization.as_ref(),
        dtype: options.dtype,
        quantize: options.quantize,
    };
    let (tensors, sha256) = weights::load_folder(dir, &request)?;
    Ok(Parts {
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
    generation_eos_ids_of(&text, &file)
}

/// End tokens in the text of `generation_config.json`; `file` stands for it in errors.
///
/// # Errors
///
/// What is no JSON, and a field that holds no ids.
pub fn generation_eos_ids_of(text: &str, file: &str) -> Result<Option<Vec<u32>>> {
    let config: serde_json::Value = serde_json::from_str(text)
        .map_err(|e| Error::config(file, format!("not valid JSON: {e}")))?;
    // mlx-lm takes the field only where it says something: not where it is null, 0 or empty.
    let ids = config
        .get("eos_token_id")
        .filter(|ids| {
            !ids.is_null() && *ids != 0 && ids.as_array().is_none_or(|ids| !ids.is_empty())
        })
        .map(|ids| eos_token_ids(Some(ids)))
        .transpose();
    ids.map_err(|problem| Error::config(file, problem))
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
