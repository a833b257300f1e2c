//! The whole of LFM2 on one page, in the checkpoint's own words.
//!
//! The arithmetic is that of mlx-lm 0.32.2 (`mlx_lm/models/lfm2.py`), operation by operation, on
//! plain arrays. Shapes: `B` rows, `L` positions, `D` hidden size, `H` heads of `d`.

use mlx_rs::{
    Array, Dtype,
    error::Result as MlxResult,
    fast::{self, ScaledDotProductAttentionMask},
    ops,
    ops::indexing::TryIndexOp,
};

use crate::{
    Error, Result,
    cache::{Cache, ConvState, KvCache, LayerCache},
    config::{LayerKind, Shape},
    lora::{Adapters, Pass},
    weights::Tensors,
};

/// A model whose weights are fixed; adapters are given to each call.
pub struct Lfm2 {
    shape: Shape,
    dtype: Dtype,
    embed_tokens: Array,
    /// The same weights transposed: the output projection is tied to the embedding.
    lm_head: Array,
    layers: Vec<Layer>,
    embedding_norm: Array,
}

struct Layer {
    operator_norm: Array,
    mixer: Mixer,
    ffn_norm: Array,
    feed_forward: FeedForward,
}

enum Mixer {
    Attention(Attention),
    Conv(ShortConv),
}

struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    q_layernorm: Array,
    k_layernorm: Array,
}

struct ShortConv {
    in_proj: Linear,
    out_proj: Linear,
    /// `[D, kernel, 1]`.
    conv: Array,
    conv_bias: Option<Array>,
}

struct FeedForward {
    w1: Linear,
    w3: Linear,
    w2: Linear,
}

struct Linear {
    /// Place among all linear modules of the model; adapters are found by it.
    slot: usize,
    /// `[inputs, outputs]`: transposed once here instead of at every call.
    weight: Array,
    bias: Option<Array>,
}

impl Lfm2 {
    /// Builds the model from the tensors of [`Shape::tensors`], all of one float type.
    ///
    /// # Errors
    ///
    /// A tensor that is missing, which the loaders have already ruled out.
    pub fn new(shape: Shape, mut tensors: Tensors) -> Result<Self> {
        let mut take = |name: &str| {
            let missing = || Error::Invalid(format!("tensor {name} is missing"));
            tensors.remove(name).ok_or_else(missing)
        };
        let mut slot = 0;
        let mut layers = Vec::with_capacity(shape.layers.len());
        for (index, &kind) in shape.layers.iter().enumerate() {
            let layer = format!("model.layers.{index}");
            // In the order of `Shape::linears`, by which `lora` counts the same slots.
            let mut linears = Vec::new();
            for spec in shape.linears(kind) {
                let name = format!("{layer}.{}", spec.module);
                linears.push(Linear {
                    slot,
                    weight: take(&format!("{name}.weight"))?.transpose()?,
                    bias: spec
                        .bias
                        .then(|| take(&format!("{name}.bias")))
                        .transpose()?,
                });
                slot += 1;
            }
            let mut linears = linears.into_iter();
            let mut next = || linears.next().expect("one linear for every field");
            let mixer = match kind {
                LayerKind::Attention => Mixer::Attention(Attention {
                    q_proj: next(),
                    k_proj: next(),
                    v_proj: next(),
                    out_proj: next(),
                    q_layernorm: take(&format!("{layer}.self_attn.q_layernorm.weight"))?,
                    k_layernorm: take(&format!("{layer}.self_attn.k_layernorm.weight"))?,
                }),
                LayerKind::ShortConv => Mixer::Conv(ShortConv {
                    in_proj: next(),
                    out_proj: next(),
                    conv: take(&format!("{layer}.conv.conv.weight"))?,
                    conv_bias: shape
                        .conv_bias
                        .then(|| take(&format!("{layer}.conv.conv.bias")))
                        .transpose()?,
                }),
            };
            layers.push(Layer {
                operator_norm: take(&format!("{layer}.operator_norm.weight"))?,
                mixer,
                ffn_norm: take(&format!("{layer}.ffn_norm.weight"))?,
                feed_forward: FeedForward {
                    w1: next(),
                    w3: next(),
                    w2: next(),
                },
            });
        }
        let embed_tokens = take("model.embed_tokens.weight")?;
        Ok(Self {
            dtype: embed_tokens.dtype(),
            lm_head: embed_tokens.transpose()?,
            embed_tokens,
            embedding_norm: take("model.embedding_norm.weight")?,
            layers,
            shape,
        })
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Type of the weights and of every activation.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The base weights under their checkpoint names, `[outputs, inputs]`.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn tensors(&self) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        tensors.insert(
            "model.embed_tokens.weight".into(),
            self.embed_tokens.clone(),
        );
        tensors.insert(
            "model.embedding_norm.weight".into(),
            self.embedding_norm.clone(),
        );
        for (index, layer) in self.layers.iter().enumerate() {
            let prefix = format!("model.layers.{index}");
            let mut put = |name: &str, array: &Array| {
                tensors.insert(format!("{prefix}.{name}"), array.clone());
            };
            put("operator_norm.weight", &layer.operator_norm);
            put("ffn_norm.weight", &layer.ffn_norm);
            match &layer.mixer {
                Mixer::Attention(attention) => {
                    put("self_attn.q_layernorm.weight", &attention.q_layernorm);
                    put("self_attn.k_layernorm.weight", &attention.k_layernorm);
                }
                Mixer::Conv(conv) => {
                    put("conv.conv.weight", &conv.conv);
                    if let Some(bias) = &conv.conv_bias {
                        put("conv.conv.bias", bias);
                    }
                }
            }
            let specs = self.shape.linears(self.shape.layers[index]);
            for (spec, linear) in specs.iter().zip(layer.linears()) {
                put(
                    &format!("{}.weight", spec.module),
                    &linear.weight.transpose()?,
                );
                if let Some(bias) = &linear.bias {
                    put(&format!("{}.bias", spec.module), bias);
                }
            }
        }
        Ok(tensors)
    }

    /// A copy of the model with the adapters added into its weights.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn fuse(&self, adapters: &Adapters) -> Result<Self> {
        let mut tensors = self.tensors()?;
        for (spec, delta) in adapters.deltas()? {
            let name = format!("{}.weight", spec.name);
            let weight = &tensors[&name];
            let fused = weight.add(delta.as_dtype(weight.dtype())?)?;
            fused.eval()?;
            tensors.insert(name, fused);
        }
        Self::new(self.shape.clone(), tensors)
    }

    /// Logits `[B, L, vocab]` for tokens `[B, L]` (int32, all below the vocabulary size).
    pub(crate) fn logits(
        &self,
        tokens: &Array,
        lora: Option<&Pass>,
        cache: Option<&mut Cache>,
    ) -> MlxResult<Array> {
        self.project(&self.hidden(tokens, lora, cache)?)
    }

    /// Output projection: `[.., D]` to `[.., vocab]`.
    pub(crate) fn project(&self, hidden: &Array) -> MlxResult<Array> {
        hidden.matmul(&self.lm_head)
    }

    /// Final normalised states `[B, L, D]`. With a cache, the tokens continue what it has seen.
    pub(crate) fn hidden(
        &self,
        tokens: &Array,
        lora: Option<&Pass>,
        cache: Option<&mut Cache>,
    ) -> MlxResult<Array> {
        let mut h = self.embed_tokens.take_axis(tokens, 0)?;
        let (mut states, offset) = match cache {
            Some(cache) => {
                let offset = cache.offset;
                cache.offset += tokens.dim(1);
                (
                    cache.layers.iter_mut().map(Some).collect::<Vec<_>>(),
                    offset,
                )
            }
            None => (self.layers.iter().map(|_| None).collect(), 0),
        };
        for (layer, state) in self.layers.iter().zip(&mut states) {
            let x = fast::rms_norm(&h, Some(&layer.operator_norm), self.shape.norm_eps)?;
            let mixed = match (&layer.mixer, state.as_deref_mut()) {
                (Mixer::Attention(attention), Some(LayerCache::Kv(kv))) => {
                    attention.forward(&self.shape, &x, lora, Some(kv), offset)
                }
                (Mixer::Attention(attention), _) => {
                    attention.forward(&self.shape, &x, lora, None, 0)
                }
                (Mixer::Conv(conv), Some(LayerCache::Conv(state))) => {
                    conv.forward(&self.shape, &x, lora, Some(state))
                }
                (Mixer::Conv(conv), _) => conv.forward(&self.shape, &x, lora, None),
            }?;
            h = h.add(mixed)?;
            let x = fast::rms_norm(&h, Some(&layer.ffn_norm), self.shape.norm_eps)?;
            h = h.add(layer.feed_forward.forward(&x, lora)?)?;
        }
        fast::rms_norm(&h, Some(&self.embedding_norm), self.shape.norm_eps)
    }
}

impl Layer {
    /// In the order of [`Shape::linears`].
    fn linears(&self) -> Vec<&Linear> {
        let FeedForward { w1, w3, w2 } = &self.feed_forward;
        match &self.mixer {
            Mixer::Attention(a) => vec![&a.q_proj, &a.k_proj, &a.v_proj, &a.out_proj, w1, w3, w2],
            Mixer::Conv(c) => vec![&c.in_proj, &c.out_proj, w1, w3, w2],
        }
    }
}

impl Attention {
    /// Grouped-query attention with normalised, rotated queries and keys. `x`: `[B, L, D]`.
    fn forward(
        &self,
        shape: &Shape,
        x: &Array,
        lora: Option<&Pass>,
        cache: Option<&mut KvCache>,
        offset: i32,
    ) -> MlxResult<Array> {
        let (rows, length, d) = (x.dim(0), x.dim(1), shape.head_dim);
        let heads = |projected: Array, count: i32| projected.reshape(&[rows, length, count, d]);
        let rope = |states: Array| {
            let states = states.transpose_axes(&[0, 2, 1, 3])?;
            fast::rope(&states, d, false, shape.rope_theta, 1.0, offset, None)
        };
        let queries = heads(self.q_proj.forward(x, lora)?, shape.heads)?;
        let queries = rope(fast::rms_norm(
            &queries,
            Some(&self.q_layernorm),
            shape.norm_eps,
        )?)?;
        let keys = heads(self.k_proj.forward(x, lora)?, shape.kv_heads)?;
        let keys = rope(fast::rms_norm(
            &keys,
            Some(&self.k_layernorm),
            shape.norm_eps,
        )?)?;
        let values = heads(self.v_proj.forward(x, lora)?, shape.kv_heads)?;
        let values = values.transpose_axes(&[0, 2, 1, 3])?;

        let (keys, values) = match cache {
            Some(cache) => cache.update(keys, values, offset)?,
            None => (keys, values),
        };
        // One position sees everything before it, so only longer inputs need the mask.
        let mask = (length > 1).then_some(ScaledDotProductAttentionMask::Causal);
        // The scale as mlx-lm rounds it: computed in f64.
        let scale = f64::from(d).powf(-0.5) as f32;
        let output = fast::scaled_dot_product_attention(queries, keys, values, scale, mask, None)?;
        let output = output
            .transpose_axes(&[0, 2, 1, 3])?
            .reshape(&[rows, length, -1])?;
        self.out_proj.forward(&output, lora)
    }
}

impl ShortConv {
    /// Gated causal depthwise convolution. `x`: `[B, L, D]`.
    fn forward(
        &self,
        shape: &Shape,
        x: &Array,
        lora: Option<&Pass>,
        state: Option<&mut ConvState>,
    ) -> MlxResult<Array> {
        let projected = self.in_proj.forward(x, lora)?;
        let [b, c, x] = ops::split_equal(&projected, 3, -1)?
            .try_into()
            .expect("split returns as many parts as asked for");
        let gated = b.multiply(x)?;
        let extended = match state {
            Some(state) => state.extend(&gated)?,
            None => ops::pad(
                &gated,
                &[(0, 0), (shape.kernel - 1, 0), (0, 0)][..],
                None,
                None,
            )?,
        };
        let mut convolved = ops::conv1d(&extended, &self.conv, 1, 0, 1, shape.hidden_size)?;
        if let Some(bias) = &self.conv_bias {
            convolved = convolved.add(bias)?;
        }
        self.out_proj.forward(&c.multiply(convolved)?, lora)
    }
}

impl FeedForward {
    /// SwiGLU. `x`: `[B, L, D]`.
    fn forward(&self, x: &Array, lora: Option<&Pass>) -> MlxResult<Array> {
        let gate = self.w1.forward(x, lora)?;
        // Not nn::silu: it compiles a function anew at every call.
        let gate = gate.multiply(ops::sigmoid(&gate)?)?;
        self.w2
            .forward(&gate.multiply(self.w3.forward(x, lora)?)?, lora)
    }
}

impl Linear {
    /// `[.., inputs]` to `[.., outputs]`, with the adapter of this slot where there is one.
    fn forward(&self, x: &Array, lora: Option<&Pass>) -> MlxResult<Array> {
        let y = match &self.bias {
            Some(bias) => ops::addmm(bias, x, &self.weight, None, None)?,
            None => x.matmul(&self.weight)?,
        };
        match lora {
            Some(pass) => pass.apply(self.slot, x, y),
            None => Ok(y),
        }
    }
}

/// Token ids as an int32 array `[1, n]`.
///
/// # Errors
///
/// Names the first id outside the vocabulary: MLX reads out of bounds without a check.
pub fn token_array(shape: &Shape, ids: &[u32]) -> Result<Array> {
    if let Some((position, id)) = ids
        .iter()
        .enumerate()
        .find(|(_, id)| **id >= shape.vocab_size as u32)
    {
        return Err(Error::Invalid(format!(
            "token id {id} at position {position} is outside the model's vocabulary of {} \
             (ids 0 to {}); use ids, or a tokenizer, that belong to this model",
            shape.vocab_size,
            shape.vocab_size - 1
        )));
    }
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    Ok(Array::from_slice(&ids, &[1, ids.len() as i32]))
}

/// Logits `[L, vocab]` of one sequence, in the model's type, for checks against other
/// implementations. With a cache, the ids continue what it has seen.
///
/// # Errors
///
/// No ids, or an id outside the vocabulary.
pub fn sequence_logits(
    model: &Lfm2,
    adapters: Option<&Adapters>,
    ids: &[u32],
    cache: Option<&mut Cache>,
) -> Result<Array> {
    if ids.is_empty() {
        return Err(Error::Invalid("no token ids were given".into()));
    }
    let pass = adapters.map(Adapters::inference).transpose()?;
    let tokens = token_array(model.shape(), ids)?;
    let logits = model.logits(&tokens, pass.as_ref(), cache)?.try_index(0)?;
    logits.eval()?;
    Ok(logits)
}
