//! LoRA adapters: attached from outside the model, in mlx-lm's names and file format.
//!
//! An adapted module computes `y = W x + scale * B (A x)` (Hu et al. 2021, arXiv:2106.09685),
//! with `A` `[inputs, rank]` and `B` `[rank, outputs]` in f32 whatever the base's type is, as
//! mlx-lm keeps them. `B` starts at zero, so a fresh adapter changes nothing.

use std::{fs, path::Path};

use mlx_rs::{Array, Dtype, error::Result as MlxResult, ops, ops::indexing::TryIndexOp, random};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    config::{LayerKind, Shape},
    quantization::{self, Matrix},
    random as host_random,
    tensors::{Role, TensorSpec, Tensors},
    weights,
};

/// What to adapt, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    pub rank: u32,
    /// Factor on the low-rank update; alpha / rank in other frameworks' terms.
    pub scale: f64,
    /// Probability of dropping an input of `A` while training, in `[0, 1)`.
    pub dropout: f64,
    /// How many of the last layers are adapted; `None` means all.
    pub layers: Option<u32>,
    /// Module names within a layer: a path (`self_attn.q_proj`) or its last part (`q_proj`).
    /// `all` stands for every linear module.
    pub targets: Vec<String>,
}

impl LoraConfig {
    /// Parses the text of `adapter_config.json`; `file` stands for it in errors.
    ///
    /// # Errors
    ///
    /// A text that is none, and another kind of fine-tuning than LoRA.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let parsed: AdapterConfig = serde_json::from_str(text)
            .map_err(|e| Error::config(file, format!("not a valid adapter config: {e}")))?;
        if parsed.fine_tune_type != "lora" {
            let problem = format!(
                "fine_tune_type is `{}`, and only `lora` is supported",
                parsed.fine_tune_type
            );
            return Err(Error::config(file, problem));
        }
        Ok(Self {
            rank: parsed.lora_parameters.rank,
            scale: parsed.lora_parameters.scale,
            dropout: parsed.lora_parameters.dropout,
            layers: u32::try_from(parsed.num_layers).ok().filter(|&n| n > 0),
            // mlx-lm adapts every linear module where no keys are given.
            targets: parsed
                .lora_parameters
                .keys
                .unwrap_or_else(|| vec!["all".into()]),
        })
    }
}

/// One adapted module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSpec {
    /// `model.layers.N.` and the module's path.
    pub name: String,
    pub inputs: i32,
    pub outputs: i32,
    /// Place among all linear modules of the model.
    slot: usize,
}

/// Adapters with their parameters.
#[derive(Clone)]
pub struct Adapters {
    config: LoraConfig,
    /// Paths within a layer, as resolved from the targets.
    modules: Vec<String>,
    specs: Vec<AdapterSpec>,
    /// Adapter of every linear module of the model, by slot.
    by_slot: Vec<Option<usize>>,
    /// `A` and `B` of every adapter in turn, f32.
    params: Vec<Array>,
}

impl Adapters {
    /// Fresh adapters: `A` uniform within `1 / sqrt(inputs)` from the seed, `B` zero.
    ///
    /// # Errors
    ///
    /// An unknown target, more layers than the model has, a rank of zero, a dropout outside
    /// `[0, 1)`, or a choice that adapts nothing.
    pub fn new(shape: &Shape, config: LoraConfig, seed: u64) -> Result<Self> {
        let (modules, specs, by_slot) = resolve(shape, &config)?;
        let rank = config.rank as i32;
        let mut params = Vec::with_capacity(2 * specs.len());
        for spec in &specs {
            let bound = (1.0 / f64::from(spec.inputs).sqrt()) as f32;
            let len = (spec.inputs * rank) as usize;
            let a = host_random::uniform(seed, &format!("{}.lora_a", spec.name), bound, len);
            params.push(Array::from_slice(&a, &[spec.inputs, rank]));
            let zeros = vec![0.0_f32; (rank * spec.outputs) as usize];
            params.push(Array::from_slice(&zeros, &[rank, spec.outputs]));
        }
        Ok(Self {
            config,
            modules,
            specs,
            by_slot,
            params,
        })
    }

    /// Loads a folder with `adapter_config.json` and `adapters.safetensors`, as mlx-lm or
    /// [`Adapters::save`] wrote it.
    ///
    /// # Errors
    ///
    /// A missing or unreadable file, another kind of fine-tuning than LoRA, or tensors that do
    /// not fit the model.
    pub fn load(shape: &Shape, dir: &Path) -> Result<Self> {
        let path = dir.join("adapter_config.json");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let file = path.display().to_string();
        let config = LoraConfig::from_json(&text, &file)?;
        let (modules, specs, by_slot) =
            resolve(shape, &config).map_err(|e| Error::config(&file, e.to_string()))?;
        let path = dir.join("adapters.safetensors");
        // Nothing of the config's rank is made before the file is known to hold it.
        let tensor_specs = tensor_specs(&specs, config.rank);
        let mut tensors = weights::load_file(&path, &tensor_specs, Dtype::Float32)?;
        let params = tensor_specs
            .iter()
            .map(|spec| tensors.remove(&spec.name).expect("the loader is strict"))
            .collect();
        Ok(Self {
            config,
            modules,
            specs,
            by_slot,
            params,
        })
    }

    /// Writes `adapter_config.json` and `adapters.safetensors`, creating the folder.
    ///
    /// # Errors
    ///
    /// A folder or file that cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let config = AdapterConfig {
            fine_tune_type: "lora".into(),
            num_layers: self.config.layers.map_or(-1, i64::from),
            lora_parameters: LoraParameters {
                rank: self.config.rank,
                scale: self.config.scale,
                dropout: self.config.dropout,
                keys: Some(self.modules.clone()),
            },
        };
        let text = serde_json::to_string_pretty(&config).expect("plain data serialises") + "\n";
        weights::write_replacing(&dir.join("adapter_config.json"), text.as_bytes())?;
        weights::save_file(&dir.join("adapters.safetensors"), &self.tensors())
    }

    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Adapted module paths within a layer.
    pub fn modules(&self) -> &[String] {
        &self.modules
    }

    pub fn specs(&self) -> &[AdapterSpec] {
        &self.specs
    }

    /// `A` and `B` of every adapter in turn.
    pub fn params(&self) -> &[Array] {
        &self.params
    }

    /// Whether every parameter is a finite number.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn is_finite(&self) -> Result<bool> {
        for param in &self.params {
            let finite = param.is_finite()?.all(None)?;
            if !finite
                .try_item_exact::<bool>()
                .map_err(|e| Error::Mlx(e.to_string()))?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All parameters one after another, `[trainable parameters]`.
    pub(crate) fn flat(&self) -> MlxResult<Array> {
        flatten(&self.params)
    }

    /// Views of the parameters in what [`Adapters::flat`] returns.
    pub(crate) fn parts(&self, flat: &Array) -> MlxResult<Vec<Array>> {
        let mut start = 0;
        let mut part = |param: &Array| {
            let end = start + param.size() as i32;
            let view = flat.try_index(start..end)?.reshape(param.shape());
            start = end;
            view
        };
        self.params.iter().map(&mut part).collect()
    }

    /// Replaces the parameters by others of the same shapes.
    pub(crate) fn set_params(&mut self, params: Vec<Array>) {
        debug_assert_eq!(params.len(), self.params.len());
        self.params = params;
    }

    /// Sets the dropout of further training.
    ///
    /// # Errors
    ///
    /// A probability outside `[0, 1)`.
    pub fn set_dropout(&mut self, dropout: f64) -> Result<()> {
        check_dropout(dropout)?;
        self.config.dropout = dropout;
        Ok(())
    }

    /// Trainable parameters, counted from the arrays.
    pub fn trainable_parameters(&self) -> u64 {
        self.params.iter().map(|p| p.size() as u64).sum()
    }

    /// Parameters under mlx-lm's names.
    pub fn tensors(&self) -> Tensors {
        let names = self.tensor_specs().into_iter().map(|spec| spec.name);
        names.zip(self.params.iter().cloned()).collect()
    }

    /// The pass that applies these adapters without dropout.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn inference(&self) -> Result<Pass<'_>> {
        Ok(self.pass(&self.params, None)?)
    }

    /// A pass over given parameters; with a key, inputs are dropped as while training.
    pub(crate) fn pass<'a>(
        &'a self,
        params: &'a [Array],
        key: Option<&Array>,
    ) -> MlxResult<Pass<'a>> {
        let dropout = match key {
            Some(key) if self.config.dropout > 0.0 => Some(self.keys(key)?),
            _ => None,
        };
        Ok(Pass {
            adapters: self,
            params,
            scale: Array::from_f32(self.config.scale as f32),
            dropout,
        })
    }

    /// A key for every adapter. They differ in their second word only: Threefry, which makes the
    /// numbers, is a cipher, and gives independent ones for whatever keys that differ.
    fn keys(&self, key: &Array) -> MlxResult<Vec<Array>> {
        let count = self.specs.len() as u32;
        let words = (0..count).flat_map(|index| [0, index.wrapping_mul(KEY_STEP)]);
        let words = Array::from_slice(&words.collect::<Vec<_>>(), &[count as i32, 2]);
        let keys = key.add(words)?;
        let row = |index| keys.try_index(index..index + 1)?.reshape(&[2]);
        (0..count as i32).map(row).collect()
    }

    /// `scale * (B^T A^T)` `[outputs, inputs]` of every adapter, as mlx-lm fuses it.
    pub(crate) fn deltas(&self) -> Result<Vec<(&AdapterSpec, Array)>> {
        let scale = Array::from_f32(self.config.scale as f32);
        let delta = |(spec, pair): (_, &[Array])| {
            let [a, b] = pair else {
                unreachable!("parameters come in pairs")
            };
            let delta = b.transpose()?.multiply(&scale)?.matmul(a.transpose()?)?;
            Ok((spec, delta))
        };
        self.specs
            .iter()
            .zip(self.params.chunks(2))
            .map(delta)
            .collect()
    }

    fn tensor_specs(&self) -> Vec<TensorSpec> {
        tensor_specs(&self.specs, self.config.rank)
    }
}

/// Adds the adapters into the weights they adapt. A packed weight is unpacked, changed and packed
/// again in its own way, as mlx-lm fuses it.
///
/// # Errors
///
/// Those of MLX.
pub(crate) fn fuse(tensors: &mut Tensors, adapters: &Adapters) -> Result<()> {
    for (spec, delta) in adapters.deltas()? {
        let matrix = Matrix::remove(tensors, &spec.name, spec.inputs)?;
        let weight = matrix.dense()?;
        let fused = weight.add(delta.as_dtype(weight.dtype())?)?;
        quantization::insert(tensors, &spec.name, fused, matrix.scheme())?;
    }
    Ok(())
}

/// Adapters as one forward pass uses them.
pub struct Pass<'a> {
    adapters: &'a Adapters,
    params: &'a [Array],
    scale: Array,
    /// One key per adapter.
    dropout: Option<Vec<Array>>,
}

impl Pass<'_> {
    /// Whether gradients pass through the module of `slot` while these adapters are trained:
    /// they do from the first adapter on.
    pub(crate) fn differentiates(&self, slot: usize) -> bool {
        slot >= self.adapters.specs[0].slot
    }

    /// Adds the adapter of `slot` to `y`, the module's own output for `x`.
    pub(crate) fn apply(&self, slot: usize, x: &Array, y: Array) -> MlxResult<Array> {
        let Some(index) = self.adapters.by_slot[slot] else {
            return Ok(y);
        };
        let (a, b) = (&self.params[2 * index], &self.params[2 * index + 1]);
        let z = match &self.dropout {
            Some(keys) => self.drop(x, &keys[index])?.matmul(a)?,
            None => x.matmul(a)?,
        };
        let update = z.matmul(b)?.multiply(&self.scale)?;
        y.add(update.as_dtype(x.dtype())?)
    }

    /// Inverted dropout, rescaled in the type of `x` and returned in f32.
    fn drop(&self, x: &Array, key: &Array) -> MlxResult<Array> {
        let keep = 1.0 - self.adapters.config.dropout;
        // Rescaled before it is dropped, so that modules of one input share this in a compiled step.
        let rescale = Array::from_f32((1.0 / keep) as f32).as_dtype(x.dtype())?;
        let rescaled = x.multiply(rescale)?.as_dtype(Dtype::Float32)?;
        let kept = random::bernoulli(&Array::from_f32(keep as f32), x.shape(), key)?;
        ops::select(kept, rescaled, Array::from_f32(0.0))
    }
}

/// Odd, so that no two of the first 2^32 multiples agree; large, so that the keys of neighbouring
/// seeds do not meet.
const KEY_STEP: u32 = 0x9e37_79b9;

/// Arrays one after another, `[size of all]`.
pub(crate) fn flatten(arrays: &[Array]) -> MlxResult<Array> {
    let rows = arrays.iter().map(|array| array.reshape(&[-1]));
    ops::concatenate(&rows.collect::<MlxResult<Vec<_>>>()?, 0)
}

fn tensor_specs(specs: &[AdapterSpec], rank: u32) -> Vec<TensorSpec> {
    let pair = |spec: &AdapterSpec| {
        let tensor = |part: &str, shape: [i32; 2]| TensorSpec {
            name: format!("{}.{part}", spec.name),
            shape: shape.to_vec(),
            role: Role::Matrix,
        };
        let rank = rank as i32;
        [
            tensor("lora_a", [spec.inputs, rank]),
            tensor("lora_b", [rank, spec.outputs]),
        ]
    };
    specs.iter().flat_map(pair).collect()
}

/// Largest rank that makes sense for any published size; beyond it lies a typing error.
const MAX_RANK: u32 = 1 << 14;

/// The tensors of `adapters.safetensors` that a model of this shape and this choice have.
///
/// # Errors
///
/// As [`Adapters::new`].
pub fn adapter_tensors(shape: &Shape, config: &LoraConfig) -> Result<Vec<TensorSpec>> {
    let (_, specs, _) = resolve(shape, config)?;
    Ok(tensor_specs(&specs, config.rank))
}

type Resolved = (Vec<String>, Vec<AdapterSpec>, Vec<Option<usize>>);

fn resolve(shape: &Shape, config: &LoraConfig) -> Result<Resolved> {
    let fail = |problem: String| Err(Error::Lora(problem));
    if config.rank == 0 || config.rank > MAX_RANK {
        return fail(format!(
            "the LoRA rank is {}; it must be between 1 and {MAX_RANK}",
            config.rank
        ));
    }
    check_dropout(config.dropout)?;
    if !(config.scale as f32).is_finite() {
        return fail(format!(
            "the LoRA scale is {}; it must be finite in f32",
            config.scale
        ));
    }
    let total = shape.layers.len();
    let count = config.layers.map_or(total, |n| n as usize);
    if count == 0 || count > total {
        return fail(format!(
            "{count} LoRA layers were asked for; the model has {total}, so give 1 to {total}"
        ));
    }

    let known: Vec<&str> = known_modules(shape);
    let matches = |target: &str, module: &str| {
        target == "all" || target == module || module.rsplit('.').next() == Some(target)
    };
    if let Some(unknown) = config
        .targets
        .iter()
        .find(|t| !known.iter().any(|m| matches(t, m)))
    {
        return fail(format!(
            "`{unknown}` is not a linear module of this model; known are {} and `all`",
            known.join(", ")
        ));
    }
    let is_target = |module: &str| config.targets.iter().any(|t| matches(t, module));

    let mut specs = Vec::new();
    let mut by_slot = Vec::new();
    for (index, &kind) in shape.layers.iter().enumerate() {
        for linear in shape.linears(kind) {
            let adapted = index + count >= total && is_target(linear.module);
            by_slot.push(adapted.then_some(specs.len()));
            if adapted {
                specs.push(AdapterSpec {
                    name: format!("model.layers.{index}.{}", linear.module),
                    inputs: linear.inputs,
                    outputs: linear.outputs,
                    slot: by_slot.len() - 1,
                });
            }
        }
    }
    if specs.is_empty() {
        return fail(format!(
            "none of the last {count} layers has a module named {}; adapt more layers or other modules",
            config.targets.join(", ")
        ));
    }
    debug_assert!(
        specs
            .iter()
            .enumerate()
            .all(|(i, s)| by_slot[s.slot] == Some(i))
    );
    let modules = known
        .into_iter()
        .filter(|m| is_target(m))
        .map(str::to_owned)
        .collect();
    Ok((modules, specs, by_slot))
}

fn check_dropout(dropout: f64) -> Result<()> {
    match (0.0..1.0).contains(&dropout) {
        true => Ok(()),
        false => Err(Error::Lora(format!(
            "the LoRA dropout is {dropout}; it must be at least 0 and below 1"
        ))),
    }
}

/// Paths of all linear modules that some layer of the model has.
fn known_modules(shape: &Shape) -> Vec<&'static str> {
    let mut known = Vec::new();
    for kind in [LayerKind::Attention, LayerKind::ShortConv] {
        if shape.layers.contains(&kind) {
            known.extend(shape.linears(kind).iter().map(|linear| linear.module));
        }
    }
    known.sort_unstable();
    known.dedup();
    known
}

/// `adapter_config.json`, as far as mlx-lm reads it back.
#[derive(Serialize, Deserialize)]
struct AdapterConfig {
    #[serde(default = "lora")]
    fine_tune_type: String,
    /// Last layers; -1 for all.
    num_layers: i64,
    lora_parameters: LoraParameters,
}

#[derive(Serialize, Deserialize)]
struct LoraParameters {
    rank: u32,
    scale: f64,
    #[serde(default)]
    dropout: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<String>>,
}

fn lora() -> String {
    "lora".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::PRESETS;

    fn shape(name: &str) -> Shape {
        let preset = PRESETS.iter().find(|p| p.name == name).unwrap();
        Shape::from_json(preset.config, name).unwrap()
    }

    fn config(rank: u32, layers: u32, targets: &[&str]) -> LoraConfig {
        LoraConfig {
            rank,
            scale: 2.0,
            dropout: 0.05,
            layers: Some(layers),
            targets: targets.iter().map(|t| (*t).to_owned()).collect(),
        }
    }

    #[test]
    fn trainable_parameters_are_the_known_answers() {
        let check = |name, rank, expected| {
            let config = config(rank, 8, &["q_proj", "v_proj"]);
            let adapters = Adapters::new(&shape(name), config, 0).unwrap();
            assert_eq!(
                adapters.trainable_parameters(),
                expected,
                "{name} rank {rank}"
            );
        };
        check("lfm2-1.2b", 16, 425_984);
        check("lfm2-1.2b", 8, 212_992);
    }

    #[test]
    fn a_bad_choice_says_what_would_do() {
        let shape = shape("lfm2-350m");
        let check = |config: LoraConfig, expected: &str| {
            let error = Adapters::new(&shape, config, 0).err().unwrap().to_string();
            assert!(
                error.contains(expected),
                "`{error}` does not contain `{expected}`"
            );
        };
        check(config(0, 8, &["q_proj"]), "the LoRA rank is 0");
        check(config(8, 17, &["q_proj"]), "give 1 to 16");
        check(config(8, 1, &["q_proj"]), "none of the last 1 layers");
        check(config(8, 8, &["c_attn"]), "`c_attn` is not a linear module");
        check(config(8, 8, &[]), "none of the last 8 layers");
        let dropout = LoraConfig {
            dropout: 1.0,
            ..config(8, 8, &["q_proj"])
        };
        check(dropout, "the LoRA dropout is 1");
    }
}
