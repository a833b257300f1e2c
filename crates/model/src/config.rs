//! `config.json` to the resolved shape of the model.
//!
//! The rules are those of mlx-lm 0.32.2 (`mlx_lm/models/lfm2.py`): every spelling it reads is
//! read here, and where two spellings contradict each other, that is an error instead of a choice.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Error, Result,
    quantization::Quantization,
    tensors::{Role, TensorSpec},
};

/// Resolved shape of an LFM2 model: everything that decides its tensors and arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub vocab_size: i32,
    pub hidden_size: i32,
    pub heads: i32,
    pub kv_heads: i32,
    pub head_dim: i32,
    /// Width of the SwiGLU, after the adjustment rule.
    pub ffn_size: i32,
    /// Kernel length of the short convolution (`conv_L_cache`), at least 2.
    pub kernel: i32,
    pub conv_bias: bool,
    pub norm_eps: f32,
    pub rope_theta: f32,
    pub layers: Vec<LayerKind>,
    /// Tokens that end generation.
    pub eos_token_ids: Vec<u32>,
    /// How the checkpoint's matrices are packed; `None` for plain floats.
    pub quantization: Option<Quantization>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    Attention,
    ShortConv,
}

/// One linear module of a layer, which an adapter can wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    /// Path within the layer, as in the checkpoint.
    pub module: &'static str,
    pub inputs: i32,
    pub outputs: i32,
    pub bias: bool,
}

impl Shape {
    /// Reads `config.json`. `file` names it in errors.
    ///
    /// # Errors
    ///
    /// Lists every missing field, or names the fields that contradict each other.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_str(text)
            .map_err(|e| Error::config(file, format!("not a valid model config: {e}")))?;
        raw.resolve()
            .map_err(|problem| Error::config(file, problem))
    }

    /// Every tensor of the checkpoint as plain floats, in a fixed order.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let tensor = |name: String, shape: &[i32], role| TensorSpec {
            name,
            shape: shape.to_vec(),
            role,
        };
        let mut all = vec![tensor(
            "model.embed_tokens.weight".into(),
            &[self.vocab_size, self.hidden_size],
            Role::Matrix,
        )];
        for (index, &kind) in self.layers.iter().enumerate() {
            let layer = format!("model.layers.{index}");
            for norm in ["operator_norm", "ffn_norm"] {
                let name = format!("{layer}.{norm}.weight");
                all.push(tensor(name, &[self.hidden_size], Role::Norm));
            }
            match kind {
                LayerKind::Attention => {
                    for norm in ["q_layernorm", "k_layernorm"] {
                        let name = format!("{layer}.self_attn.{norm}.weight");
                        all.push(tensor(name, &[self.head_dim], Role::Norm));
                    }
                }
                LayerKind::ShortConv => {
                    let shape = [self.hidden_size, self.kernel, 1];
                    let name = format!("{layer}.conv.conv.weight");
                    all.push(tensor(name, &shape, Role::ConvKernel));
                    if self.conv_bias {
                        let name = format!("{layer}.conv.conv.bias");
                        all.push(tensor(name, &[self.hidden_size], Role::Bias));
                    }
                }
            }
            for linear in self.linears(kind) {
                let name = format!("{layer}.{}", linear.module);
                let shape = [linear.outputs, linear.inputs];
                all.push(tensor(format!("{name}.weight"), &shape, Role::Matrix));
                if linear.bias {
                    all.push(tensor(format!("{name}.bias"), &shape[..1], Role::Bias));
                }
            }
        }
        let name = "model.embedding_norm.weight".into();
        all.push(tensor(name, &[self.hidden_size], Role::Norm));
        all
    }

    /// The linear modules of a layer of this kind, in the checkpoint's order.
    pub fn linears(&self, kind: LayerKind) -> Vec<LinearSpec> {
        let linear = |module, inputs, outputs, bias| LinearSpec {
            module,
            inputs,
            outputs,
            bias,
        };
        let hidden = self.hidden_size;
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut all = match kind {
            LayerKind::Attention => vec![
                linear("self_attn.q_proj", hidden, queries, false),
                linear("self_attn.k_proj", hidden, keys, false),
                linear("self_attn.v_proj", hidden, keys, false),
                linear("self_attn.out_proj", queries, hidden, false),
            ],
            LayerKind::ShortConv => vec![
                linear("conv.in_proj", hidden, 3 * hidden, self.conv_bias),
                linear("conv.out_proj", hidden, hidden, self.conv_bias),
            ],
        };
        all.extend([
            linear("feed_forward.w1", hidden, self.ffn_size, false),
            linear("feed_forward.w3", hidden, self.ffn_size, false),
            linear("feed_forward.w2", self.ffn_size, hidden, false),
        ]);
        all
    }

    /// Number of parameters; the tied embedding counts once.
    pub fn parameters(&self) -> u64 {
        self.tensors()
            .iter()
            .map(|t| t.shape.iter().map(|&d| d as u64).product::<u64>())
            .sum()
    }

    pub fn attention_layers(&self) -> usize {
        let is_attention = |kind: &&LayerKind| **kind == LayerKind::Attention;
        self.layers.iter().filter(is_attention).count()
    }
}

/// Width of the SwiGLU as mlx-lm computes it.
///
/// With `auto_adjust`, two thirds of `ff_dim`, times the multiplier, rounded up to a multiple.
fn ffn_size(ff_dim: u64, auto_adjust: Option<(u64, Option<f64>)>) -> u64 {
    let Some((multiple_of, multiplier)) = auto_adjust else {
        return ff_dim;
    };
    let two_thirds = 2 * ff_dim / 3;
    let scaled = multiplier.map_or(two_thirds, |m| (m * two_thirds as f64) as u64);
    multiple_of * scaled.div_ceil(multiple_of)
}

/// The config as spelled on disk. Unknown fields are ignored, as mlx-lm ignores them.
#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    vocab_size: Option<u64>,
    hidden_size: Option<u64>,
    num_hidden_layers: Option<u64>,
    num_attention_heads: Option<u64>,
    num_key_value_heads: Option<u64>,
    norm_eps: Option<f64>,
    #[serde(rename = "conv_L_cache")]
    conv_l_cache: Option<u64>,
    conv_bias: Option<bool>,
    block_dim: Option<u64>,
    block_ff_dim: Option<u64>,
    intermediate_size: Option<u64>,
    block_multiple_of: Option<u64>,
    block_ffn_dim_multiplier: Option<f64>,
    block_auto_adjust_ff_dim: Option<bool>,
    full_attn_idxs: Option<Vec<u64>>,
    layer_types: Option<Vec<String>>,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    tie_embedding: Option<bool>,
    tie_word_embeddings: Option<bool>,
    eos_token_id: Option<Value>,
    quantization: Option<Value>,
    quantization_config: Option<Value>,
}

#[derive(Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

/// No published model comes near these; beyond them lies integer overflow.
const MAX_SIZE: u64 = 1 << 24;
const MAX_LAYERS: u64 = 1 << 12;

impl Raw {
    fn resolve(self) -> Result<Shape, String> {
        match self.model_type.as_deref() {
            Some("lfm2") => {}
            Some(other) => {
                return Err(format!(
                    "model_type is `{other}`, and only `lfm2` is supported"
                ));
            }
            None => return Err("model_type is missing; an LFM2 config says `lfm2`".into()),
        }
        self.check_missing()?;
        if self.tie_embedding == Some(false) || self.tie_word_embeddings == Some(false) {
            return Err("tied embeddings are switched off, and LFM2 is defined with them".into());
        }

        let size = |field: &str, value: Option<u64>| match value {
            Some(n) if (1..=MAX_SIZE).contains(&n) => Ok(n),
            Some(n) => Err(format!(
                "{field} is {n}; it must be between 1 and {MAX_SIZE}"
            )),
            None => Err(format!("{field} is missing")),
        };
        let vocab_size = size("vocab_size", self.vocab_size)?;
        let hidden_size = size("hidden_size", self.hidden_size)?;
        let heads = size("num_attention_heads", self.num_attention_heads)?;
        let kv_heads = size(
            "num_key_value_heads",
            self.num_key_value_heads.or(Some(heads)),
        )?;
        if hidden_size % heads != 0 {
            return Err(format!(
                "hidden_size {hidden_size} is not divisible by num_attention_heads {heads}"
            ));
        }
        if heads % kv_heads != 0 {
            return Err(format!(
                "num_attention_heads {heads} is not divisible by num_key_value_heads {kv_heads}"
            ));
        }
        let head_dim = hidden_size / heads;
        if head_dim % 2 != 0 {
            return Err(format!(
                "the head dimension {head_dim} (hidden_size / num_attention_heads) is odd, \
                 and rotary embedding needs an even one"
            ));
        }
        if let Some(block_dim) = self.block_dim
            && block_dim != hidden_size
        {
            return Err(format!(
                "block_dim {block_dim} contradicts hidden_size {hidden_size}"
            ));
        }
        let kernel = size("conv_L_cache", self.conv_l_cache)?;
        if kernel < 2 {
            return Err("conv_L_cache is 1; the short convolution needs at least 2".into());
        }
        let positive = |field: &str, value: f64| {
            // As MLX will have it: a value can be positive in 64 bits and 0 or infinite in 32.
            match value as f32 {
                narrow if narrow.is_finite() && narrow > 0.0 => Ok(narrow),
                _ => Err(format!(
                    "{field} is {value}; it must be positive and within f32"
                )),
            }
        };

        Ok(Shape {
            vocab_size: vocab_size as i32,
            hidden_size: hidden_size as i32,
            heads: heads as i32,
            kv_heads: kv_heads as i32,
            head_dim: head_dim as i32,
            ffn_size: self.ffn_size()? as i32,
            kernel: kernel as i32,
            conv_bias: self.conv_bias == Some(true),
            norm_eps: positive("norm_eps", self.norm_eps.unwrap_or_default())?,
            rope_theta: positive("rope_theta", self.rope_theta()?)?,
            layers: self.layers()?,
            eos_token_ids: eos_token_ids(self.eos_token_id.as_ref())?,
            quantization: Quantization::from_config(
                self.quantization.as_ref(),
                self.quantization_config.as_ref(),
            )?,
        })
    }

    fn check_missing(&self) -> Result<(), String> {
        let adjusts = self.block_auto_adjust_ff_dim == Some(true);
        let required = [
            ("vocab_size", self.vocab_size.is_some()),
            ("hidden_size", self.hidden_size.is_some()),
            ("num_hidden_layers", self.num_hidden_layers.is_some()),
            ("num_attention_heads", self.num_attention_heads.is_some()),
            ("norm_eps", self.norm_eps.is_some()),
            ("conv_L_cache", self.conv_l_cache.is_some()),
            ("conv_bias", self.conv_bias.is_some()),
            (
                "block_auto_adjust_ff_dim",
                self.block_auto_adjust_ff_dim.is_some(),
            ),
            (
                "block_multiple_of",
                self.block_multiple_of.is_some() || !adjusts,
            ),
            (
                "block_ff_dim or intermediate_size",
                self.block_ff_dim.is_some() || self.intermediate_size.is_some(),
            ),
            (
                "full_attn_idxs or layer_types",
                self.full_attn_idxs.is_some() || self.layer_types.is_some(),
            ),
        ];
        let missing: Vec<_> = required
            .iter()
            .filter(|(_, there)| !there)
            .map(|(name, _)| *name)
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("missing fields: {}", missing.join(", ")))
        }
    }

    fn ffn_size(&self) -> Result<u64, String> {
        let ff_dim = self
            .block_ff_dim
            .or(self.intermediate_size)
            .unwrap_or_default();
        let multiplier = self.block_ffn_dim_multiplier;
        if multiplier.is_some_and(|m| !m.is_finite() || m <= 0.0 || m > 64.0) {
            return Err(format!(
                "block_ffn_dim_multiplier is {}; it must be positive and at most 64",
                multiplier.unwrap_or_default()
            ));
        }
        if ff_dim == 0 || ff_dim > MAX_SIZE {
            return Err(format!(
                "the feed-forward width is {ff_dim}; it must be between 1 and {MAX_SIZE}"
            ));
        }
        let auto_adjust = match (self.block_auto_adjust_ff_dim, self.block_multiple_of) {
            (Some(true), Some(n)) if (1..=MAX_SIZE).contains(&n) => Some((n, multiplier)),
            (Some(true), _) => return Err("block_multiple_of must be at least 1".into()),
            _ => None,
        };
        let width = ffn_size(ff_dim, auto_adjust);
        if !(1..=MAX_SIZE).contains(&width) {
            return Err(format!(
                "the adjusted feed-forward width is {width}, beyond {MAX_SIZE}"
            ));
        }
        // Some published copies give the adjusted width as intermediate_size, beside block_ff_dim.
        match self.intermediate_size {
            Some(other) if other != ff_dim && other != width => Err(format!(
                "block_ff_dim {ff_dim} contradicts intermediate_size {other}; remove one of them"
            )),
            _ => Ok(width),
        }
    }

    fn rope_theta(&self) -> Result<f64, String> {
        let nested = self.rope_parameters.as_ref();
        if let Some(kind) = nested.and_then(|p| p.rope_type.as_deref())
            && kind != "default"
        {
            return Err(format!(
                "rope_parameters.rope_type is `{kind}`, and only `default` is supported"
            ));
        }
        match (self.rope_theta, nested.and_then(|p| p.rope_theta)) {
            (Some(a), Some(b)) if a != b => Err(format!(
                "rope_theta {a} contradicts rope_parameters.rope_theta {b}; remove one of them"
            )),
            // mlx-lm's default where neither is given.
            (a, b) => Ok(a.or(b).unwrap_or(1e6)),
        }
    }

    fn layers(&self) -> Result<Vec<LayerKind>, String> {
        let count = self.num_hidden_layers.unwrap_or_default();
        if !(1..=MAX_LAYERS).contains(&count) {
            return Err(format!(
                "num_hidden_layers is {count}; it must be between 1 and {MAX_LAYERS}"
            ));
        }
        let from_types = self.layer_types.as_ref().map(|types| {
            if types.len() as u64 != count {
                return Err(format!(
                    "layer_types names {} layers, and num_hidden_layers is {count}",
                    types.len()
                ));
            }
            types
                .iter()
                .map(|name| match name.as_str() {
                    "full_attention" => Ok(LayerKind::Attention),
                    "conv" => Ok(LayerKind::ShortConv),
                    other => Err(format!(
                        "layer_types holds `{other}`; known are `full_attention` and `conv`"
                    )),
                })
                .collect::<Result<Vec<_>, _>>()
        });
        let from_indices = self.full_attn_idxs.as_ref().map(|indices| {
            let set: BTreeSet<u64> = indices.iter().copied().collect();
            if let Some(&last) = set.last()
                && last >= count
            {
                return Err(format!(
                    "full_attn_idxs holds {last}, and the last of {count} layers is {}",
                    count - 1
                ));
            }
            let kind = |i| match set.contains(&i) {
                true => LayerKind::Attention,
                false => LayerKind::ShortConv,
            };
            Ok((0..count).map(kind).collect())
        });
        match (from_indices.transpose()?, from_types.transpose()?) {
            (Some(a), Some(b)) if a != b => {
                Err("full_attn_idxs contradicts layer_types; remove one of them".into())
            }
            (a, b) => Ok(a.or(b).unwrap_or_default()),
        }
    }
}

/// Reads `eos_token_id`, which is one id or several.
pub(crate) fn eos_token_ids(value: Option<&Value>) -> Result<Vec<u32>, String> {
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| format!("eos_token_id holds {value}, which is not a token id"))
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(single) => Ok(vec![id(single)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::PRESETS;

    fn preset(name: &str) -> Shape {
        let preset = PRESETS.iter().find(|p| p.name == name).unwrap();
        Shape::from_json(preset.config, name).unwrap()
    }

    #[test]
    fn published_sizes_have_their_known_parameters_and_widths() {
        let check = |name, parameters, ffn_size| {
            let shape = preset(name);
            assert_eq!(
                (shape.parameters(), shape.ffn_size),
                (parameters, ffn_size),
                "{name}"
            );
        };
        check("lfm2-350m", 354_483_968, 4_608);
        check("lfm2-700m", 742_489_344, 6_912);
        check("lfm2-1.2b", 1_170_340_608, 8_192);
        check("lfm2-2.6b", 2_569_272_320, 10_752);
    }

    const BASE: &str = r#"{"model_type": "lfm2", "vocab_size": 64, "hidden_size": 32,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "norm_eps": 1e-5, "conv_L_cache": 3, "conv_bias": false, "block_dim": 32,
        "block_ff_dim": 96, "block_multiple_of": 16, "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": true, "full_attn_idxs": [1], "rope_theta": 10000.0}"#;

    /// The base config with fields replaced (or removed, by null).
    fn edited(edits: Value) -> String {
        let mut config: Value = serde_json::from_str(BASE).unwrap();
        for (key, value) in edits.as_object().unwrap() {
            match value {
                Value::Null => config.as_object_mut().unwrap().remove(key),
                _ => config
                    .as_object_mut()
                    .unwrap()
                    .insert(key.clone(), value.clone()),
            };
        }
        config.to_string()
    }

    #[test]
    fn every_spelling_gives_the_same_shape() {
        let base = Shape::from_json(BASE, "config.json").unwrap();
        assert_eq!(base.ffn_size, 64);
        for spelling in [
            serde_json::json!({"block_ff_dim": null, "intermediate_size": 96}),
            serde_json::json!({"intermediate_size": 64}),
            serde_json::json!({"intermediate_size": 96}),
            serde_json::json!({"full_attn_idxs": null,
                               "layer_types": ["conv", "full_attention", "conv"]}),
            serde_json::json!({"rope_theta": null,
                               "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}),
            serde_json::json!({"block_ff_dim": 64, "block_auto_adjust_ff_dim": false}),
        ] {
            assert_eq!(
                Shape::from_json(&edited(spelling), "config.json").unwrap(),
                base
            );
        }
    }

    #[test]
    fn a_bad_config_names_the_field() {
        let check = |edits: Value, expected: &str| {
            let error = Shape::from_json(&edited(edits), "config.json")
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("config.json: "), "{error}");
            assert!(
                error.contains(expected),
                "`{error}` does not contain `{expected}`"
            );
        };
        check(
            serde_json::json!({"vocab_size": null, "norm_eps": null}),
            "missing fields: vocab_size, norm_eps",
        );
        check(
            serde_json::json!({"model_type": "llama"}),
            "model_type is `llama`",
        );
        check(
            serde_json::json!({"intermediate_size": 97}),
            "block_ff_dim 96 contradicts",
        );
        check(
            serde_json::json!({"layer_types": ["conv", "conv", "full_attention"]}),
            "contradicts layer_types",
        );
        check(
            serde_json::json!({"layer_types": ["conv"], "full_attn_idxs": null}),
            "names 1 layers",
        );
        check(
            serde_json::json!({"layer_types": ["conv", "mamba", "conv"], "full_attn_idxs": null}),
            "`mamba`",
        );
        check(
            serde_json::json!({"full_attn_idxs": [3]}),
            "full_attn_idxs holds 3",
        );
        check(
            serde_json::json!({"rope_parameters": {"rope_theta": 5.0}}),
            "contradicts rope_parameters",
        );
        check(
            serde_json::json!({"num_attention_heads": 5}),
            "not divisible by num_attention_heads 5",
        );
        check(
            serde_json::json!({"num_key_value_heads": 3}),
            "not divisible by num_key_value_heads 3",
        );
        check(serde_json::json!({"hidden_size": 0}), "hidden_size is 0");
        check(
            serde_json::json!({"hidden_size": 1u64 << 40}),
            "must be between",
        );
        check(
            serde_json::json!({"block_dim": 64}),
            "block_dim 64 contradicts hidden_size 32",
        );
        check(serde_json::json!({"conv_L_cache": 1}), "at least 2");
        check(serde_json::json!({"norm_eps": -1.0}), "norm_eps is -1");
        check(
            serde_json::json!({"norm_eps": 1e-300}),
            "positive and within f32",
        );
        check(
            serde_json::json!({"rope_theta": 1e300}),
            "positive and within f32",
        );
        check(
            serde_json::json!({"quantization": {"bits": 4}}),
            "group_size is missing",
        );
        check(
            serde_json::json!({"quantization_config": {"quant_method": "gptq"}}),
            "the format `gptq`, and only MLX's own is supported",
        );
        check(
            serde_json::json!({"tie_embedding": false}),
            "tied embeddings",
        );
        check(
            serde_json::json!({"vocab_size": "many"}),
            "not a valid model config",
        );
        check(
            serde_json::json!({"eos_token_id": -2}),
            "eos_token_id holds -2",
        );
    }
}
