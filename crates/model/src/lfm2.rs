//! The whole of LFM2 on one page, in the checkpoint's own words.
//!
//! The arithmetic is that of mlx-lm 0.32.2 (`mlx_lm/models/lfm2.py`), operation by operation, on
//! plain arrays. Shapes: `B` rows, `L` positions, `D` hidden size, `H` heads of `d`.

mod pieces;

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
    config::{LayerKind, LinearSpec, Shape},
    lora::{self, Adapters, Pass},
    mlx,
    quantization::Matrix,
    tensors::Tensors,
};

pub(crate) use pieces::Pieces;

/// A model whose weights are fixed; adapters are given to each call.
pub struct Lfm2 {
    shape: Shape,
    dtype: Dtype,
    /// Also the output projection, which is tied to it.
    embed_tokens: Matrix,
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
    /// `q_proj`, `k_proj` and `v_proj`.
    qkv: Linear,
    out_proj: Linear,
    q_layernorm: Array,
    k_layernorm: Array,
    /// Lengths are padded to a multiple of this where gradients pass through.
    gradient_multiple: i32,
    /// Whether MLX has a kernel for the attention of one position here.
    fused: bool,
}

struct ShortConv {
    in_proj: Linear,
    out_proj: Linear,
    /// `[D, kernel, 1]`.
    conv: Array,
    conv_bias: Option<Array>,
}

struct FeedForward {
    w1_w3: Linear,
    w2: Linear,
}

/// Linear modules of one input.
struct Linear {
    /// Place of the first among all linear modules of the model; adapters are found by it.
    slot: usize,
    /// Neighbours that are packed alike lie in one matrix where that is faster: one product does
    /// for all of them.
    joints: Vec<Joint>,
}

/// How the tensors of a model become its matrices.
#[derive(Clone, Copy)]
struct Layout {
    /// Gradients reach the tensors.
    traced: bool,
    /// Neighbours are joined.
    joined: bool,
}

struct Joint {
    /// Where the outputs of each module end.
    ends: Vec<i32>,
    /// `[outputs of all, inputs]`.
    matrix: Matrix,
    bias: Option<Array>,
}

impl Lfm2 {
    /// Builds the model from the tensors of [`Shape::tensors`], all of one float type but for
    /// the words of packed matrices.
    ///
    /// # Errors
    ///
    /// A tensor that is missing, which the loaders have already ruled out.
    pub fn new(shape: Shape, tensors: Tensors) -> Result<Self> {
        Self::build(shape, tensors, Layout::new(false))
    }

    /// The same inside a function that MLX transforms, whose gradients reach the tensors.
    pub(crate) fn traced(shape: Shape, tensors: Tensors) -> Result<Self> {
        Self::build(shape, tensors, Layout::new(true))
    }

    fn build(shape: Shape, mut tensors: Tensors, layout: Layout) -> Result<Self> {
        let tensors = &mut tensors;
        let embed_tokens = Matrix::remove(tensors, "model.embed_tokens", shape.hidden_size)?;
        let gradient_multiple = mlx::attention_gradient_multiple(embed_tokens.dtype());
        let fused = mlx::fuses_attention();
        let mut slot = 0;
        let mut layers = Vec::with_capacity(shape.layers.len());
        for (index, &kind) in shape.layers.iter().enumerate() {
            let layer = format!("model.layers.{index}");
            // In the order of `Shape::linears`, by which `lora` counts the same slots.
            let specs = shape.linears(kind);
            let mut rest = specs.as_slice();
            let mut linears = Vec::new();
            for modules in joined(kind) {
                let (here, after) = rest.split_at(modules);
                linears.push(Linear::new(slot, here, &layer, tensors, layout)?);
                slot += modules;
                rest = after;
            }
            let mut take = |part: &str| take(tensors, &format!("{layer}.{part}"));
            let mut linears = linears.into_iter();
            let mut next = || linears.next().expect("one linear for every field");
            let mixer = match kind {
                LayerKind::Attention => Mixer::Attention(Attention {
                    qkv: next(),
                    out_proj: next(),
                    q_layernorm: take("self_attn.q_layernorm.weight")?,
                    k_layernorm: take("self_attn.k_layernorm.weight")?,
                    gradient_multiple,
                    fused,
                }),
                LayerKind::ShortConv => Mixer::Conv(ShortConv {
                    in_proj: next(),
                    out_proj: next(),
                    conv: take("conv.conv.weight")?,
                    conv_bias: shape
                        .conv_bias
                        .then(|| take("conv.conv.bias"))
                        .transpose()?,
                }),
            };
            layers.push(Layer {
                operator_norm: take("operator_norm.weight")?,
                mixer,
                ffn_norm: take("ffn_norm.weight")?,
                feed_forward: FeedForward {
                    w1_w3: next(),
                    w2: next(),
                },
            });
        }
        Ok(Self {
            dtype: embed_tokens.dtype(),
            embed_tokens,
            embedding_norm: take(tensors, "model.embedding_norm.weight")?,
            layers,
            shape,
        })
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Type of the weights, or of their scales, and of every activation.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The base weights under their checkpoint names, `[outputs, inputs]`, packed where they are.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn tensors(&self) -> Result<Tensors> {
        let embedding = self
            .embed_tokens
            .rows("model.embed_tokens", 0..self.shape.vocab_size)?;
        let mut tensors: Tensors = embedding.into_iter().collect();
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
            let mut specs = specs.iter();
            for joint in layer.linears().into_iter().flat_map(|it| &it.joints) {
                let mut start = 0;
                for (&end, spec) in joint.ends.iter().zip(specs.by_ref()) {
                    for (name, array) in joint.matrix.rows(spec.module, start..end)? {
                        put(&name, &array);
                    }
                    if let Some(bias) = &joint.bias {
                        put(
                            &format!("{}.bias", spec.module),
                            &bias.try_index(start..end)?,
                        );
                    }
                    start = end;
                }
            }
        }
        Ok(tensors)
    }

    /// A copy of the model with the adapters added into its weights, packed as they were.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn fuse(&self, adapters: &Adapters) -> Result<Self> {
        let mut tensors = self.tensors()?;
        lora::fuse(&mut tensors, adapters)?;
        Self::new(self.shape.clone(), tensors)
    }

    /// Output projection: `[.., D]` to `[.., vocab]`.
    pub(crate) fn project(&self, hidden: &Array) -> MlxResult<Array> {
        self.embed_tokens.product(hidden, None)
    }

    /// Final normalised states `[B, L, D]` of tokens `[B, L]` (int32, all below the vocabulary size).
    /// With a cache, the tokens continue what it has seen.
    pub(crate) fn hidden(
        &self,
        tokens: &Array,
        lora: Option<&Pass>,
        cache: Option<&mut Cache>,
    ) -> MlxResult<Array> {
        self.hidden_through(tokens, lora, cache, &mut Ok)
    }

    /// The same with the embeddings, and whatever a layer adds to them, passed through `change`:
    /// where dropout goes while the weights themselves are trained.
    pub(crate) fn hidden_through(
        &self,
        tokens: &Array,
        lora: Option<&Pass>,
        cache: Option<&mut Cache>,
        change: &mut dyn FnMut(Array) -> MlxResult<Array>,
    ) -> MlxResult<Array> {
        let mut h = change(self.embed_tokens.gather(tokens)?)?;
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
            let x = self.norm(&h, &layer.operator_norm)?;
            let state = state.as_deref_mut();
            let mixed = match &layer.mixer {
                Mixer::Attention(attention) => {
                    let kv = state.map(LayerCache::kv);
                    attention.forward(&self.shape, &x, lora, kv, offset)
                }
                Mixer::Conv(conv) => {
                    conv.forward(&self.shape, &x, lora, state.map(LayerCache::conv))
                }
            }?;
            h = h.add(change(mixed)?)?;
            let x = self.norm(&h, &layer.ffn_norm)?;
            h = h.add(change(layer.feed_forward.forward(&x, lora)?)?)?;
        }
        self.norm(&h, &self.embedding_norm)
    }

    fn norm(&self, x: &Array, weight: &Array) -> MlxResult<Array> {
        fast::rms_norm(x, Some(weight), self.shape.norm_eps)
    }
}

/// How many neighbours in [`Shape::linears`] share an input, and so one matrix.
fn joined(kind: LayerKind) -> [usize; 4] {
    match kind {
        LayerKind::Attention => [3, 1, 2, 1],
        LayerKind::ShortConv => [1, 1, 2, 1],
    }
}

impl Layout {
    fn new(traced: bool) -> Self {
        let joined = mlx::joins_matrices();
        Self { traced, joined }
    }
}

impl Layer {
    /// In the order of [`Shape::linears`].
    fn linears(&self) -> Vec<&Linear> {
        let FeedForward { w1_w3, w2 } = &self.feed_forward;
        match &self.mixer {
            Mixer::Attention(a) => vec![&a.qkv, &a.out_proj, w1_w3, w2],
            Mixer::Conv(c) => vec![&c.in_proj, &c.out_proj, w1_w3, w2],
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
        let asked = x.dim(1);
        let multiple = match lora {
            Some(pass) if pass.differentiates(self.qkv.slot) => self.gradient_multiple,
            _ => 1,
        };
        // Positions after the last change nothing before them: attention is causal.
        let padding = (multiple - asked % multiple) % multiple;
        let padded;
        let x = match (padding, &cache) {
            (1.., None) => {
                padded = ops::pad(x, &[(0, 0), (0, padding), (0, 0)][..], None, None)?;
                &padded
            }
            _ => x,
        };
        let states = self.states(shape, x, lora, Offset::Known(offset))?;
        let mut output = self.attend(shape, states, cache, offset)?;
        if padding > 0 {
            output = output.try_index((.., .., ..asked, ..))?;
        }
        self.finish(&output, lora)
    }

    /// Normalised, rotated queries `[B, heads, L, d]` and keys, and values, `[B, kv_heads, L, d]`, of `x`
    /// `[B, L, D]`.
    fn states(
        &self,
        shape: &Shape,
        x: &Array,
        lora: Option<&Pass>,
        offset: Offset,
    ) -> MlxResult<[Array; 3]> {
        let (rows, length, d) = (x.dim(0), x.dim(1), shape.head_dim);
        let heads = |projected: Array, count: i32| projected.reshape(&[rows, length, count, d]);
        let rope = |states: Array| {
            let states = states.transpose_axes(&[0, 2, 1, 3])?;
            let theta = shape.rope_theta;
            match offset {
                Offset::Known(offset) => fast::rope(&states, d, false, theta, 1.0, offset, None),
                Offset::Traced(offset) => {
                    fast::rope_dynamic(&states, d, false, theta, 1.0, offset, None)
                }
            }
        };
        let [queries, keys, values] = self.qkv.split(x, lora)?;
        let queries = heads(queries, shape.heads)?;
        let queries = rope(fast::rms_norm(
            &queries,
            Some(&self.q_layernorm),
            shape.norm_eps,
        )?)?;
        let keys = heads(keys, shape.kv_heads)?;
        let keys = rope(fast::rms_norm(
            &keys,
            Some(&self.k_layernorm),
            shape.norm_eps,
        )?)?;
        let values = heads(values, shape.kv_heads)?;
        Ok([queries, keys, values.transpose_axes(&[0, 2, 1, 3])?])
    }

    /// Attention of queries to keys and values, and to those in the cache: `[B, heads, L, d]`.
    fn attend(
        &self,
        shape: &Shape,
        [queries, keys, values]: [Array; 3],
        cache: Option<&mut KvCache>,
        offset: i32,
    ) -> MlxResult<Array> {
        let length = queries.dim(2);
        let (keys, values) = match cache {
            Some(cache) => cache.update(keys, values, offset)?,
            None => (keys, values),
        };
        // One position sees everything before it, so only longer inputs need the mask.
        let mask = (length > 1).then_some(ScaledDotProductAttentionMask::Causal);
        // The scale as mlx-lm rounds it: computed in f64.
        let scale = f64::from(shape.head_dim).powf(-0.5) as f32;
        match length == 1 && !self.fused {
            true => attend_once(&queries, &keys, &values, scale),
            false => fast::scaled_dot_product_attention(queries, keys, values, scale, mask, None),
        }
    }

    /// From `[B, heads, L, d]` to `[B, L, D]`.
    fn finish(&self, attended: &Array, lora: Option<&Pass>) -> MlxResult<Array> {
        let (rows, length) = (attended.dim(0), attended.dim(2));
        let output = attended.transpose_axes(&[0, 2, 1, 3])?;
        self.out_proj
            .forward(&output.reshape(&[rows, length, -1])?, lora)
    }
}

/// Where a sequence goes on.
#[derive(Clone, Copy)]
enum Offset<'a> {
    Known(i32),
    /// An input of a compiled function, an int32 scalar.
    Traced(&'a Array),
}

/// Attention of one position, queries `[B, heads, 1, d]` to keys and values `[B, kv_heads, n, d]`, in
/// MLX's general operations.
///
/// MLX's own chain, which stands in where it has no kernel, multiplies queries by transposed keys:
/// two or four rows by a matrix of which BLAS then packs the whole. The other way round the keys are
/// read as they lie.
fn attend_once(queries: &Array, keys: &Array, values: &Array, scale: f32) -> MlxResult<Array> {
    let &[rows, kv_heads, _, d] = keys.shape() else {
        unreachable!("keys have four axes");
    };
    let scaled = queries.multiply(Array::from_f32(scale).as_dtype(queries.dtype())?)?;
    let columns = scaled.reshape(&[rows, kv_heads, -1, d])?.swap_axes(2, 3)?;
    let scores = keys.matmul(columns)?.swap_axes(2, 3)?;
    let weights = ops::softmax_axis(scores, -1, true)?;
    weights.matmul(values)?.reshape(queries.shape())
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
        let [gate, up] = self.w1_w3.split(x, lora)?;
        // Not nn::silu: it compiles a function anew at every call.
        let gate = gate.multiply(ops::sigmoid(&gate)?)?;
        self.w2.forward(&gate.multiply(up)?, lora)
    }
}

impl Linear {
    /// Takes `modules`, which are neighbours in `layer`, out of tensors.
    fn new(
        slot: usize,
        modules: &[LinearSpec],
        layer: &str,
        tensors: &mut Tensors,
        layout: Layout,
    ) -> Result<Self> {
        let mut joints: Vec<(Vec<&LinearSpec>, Vec<Matrix>)> = Vec::new();
        for spec in modules {
            let module = format!("{layer}.{}", spec.module);
            let matrix = Matrix::remove(tensors, &module, spec.inputs)?;
            match joints.last_mut() {
                Some((specs, matrices))
                    if layout.joined && matrices[0].scheme() == matrix.scheme() =>
                {
                    specs.push(spec);
                    matrices.push(matrix);
                }
                _ => joints.push((vec![spec], vec![matrix])),
            }
        }
        let mut joint = |(specs, matrices): (Vec<&LinearSpec>, _)| {
            let ends = specs.iter().scan(0, |end, spec| {
                *end += spec.outputs;
                Some(*end)
            });
            let ends = ends.collect();
            let mut bias =
                |spec: &LinearSpec| take(tensors, &format!("{layer}.{}.bias", spec.module));
            // Only modules with an input of their own have biases.
            let bias = specs[0].bias.then(|| bias(specs[0])).transpose()?;
            let matrix = Matrix::join(matrices, layout.traced)?;
            Ok(Joint { ends, matrix, bias })
        };
        Ok(Self {
            slot,
            joints: joints.into_iter().map(&mut joint).collect::<Result<_>>()?,
        })
    }

    /// `[.., inputs]` to `[.., outputs]` of the only module, with its adapter where there is one.
    fn forward(&self, x: &Array, lora: Option<&Pass>) -> MlxResult<Array> {
        let [output] = self.split(x, lora)?;
        Ok(output)
    }

    /// `[.., inputs]` to `[.., outputs]` of every module, each with its adapter.
    fn split<const N: usize>(&self, x: &Array, lora: Option<&Pass>) -> MlxResult<[Array; N]> {
        let mut outputs = Vec::with_capacity(N);
        for Joint { ends, matrix, bias } in &self.joints {
            let product = matrix.product(x, bias.as_ref())?;
            match ends.as_slice() {
                [_] => outputs.push(product),
                [inner @ .., _] => outputs.extend(ops::split_at_indices(product, inner, -1)?),
                [] => {}
            }
        }
        let adapted = outputs.into_iter().enumerate();
        let adapted = adapted.map(|(module, y)| self.adapted(module, x, y, lora));
        let all = adapted.collect::<MlxResult<Vec<_>>>()?;
        Ok(all.try_into().expect("as many parts as modules"))
    }

    fn adapted(&self, module: usize, x: &Array, y: Array, lora: Option<&Pass>) -> MlxResult<Array> {
        match lora {
            Some(pass) => pass.apply(self.slot + module, x, y),
            None => Ok(y),
        }
    }
}

fn take(tensors: &mut Tensors, name: &str) -> Result<Array> {
    let missing = || Error::Invalid(format!("tensor {name} is missing"));
    tensors.remove(name).ok_or_else(missing)
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
    let hidden = model.hidden(&tokens, pass.as_ref(), cache)?;
    let logits = model.project(&hidden)?.try_index(0)?;
    logits.eval()?;
    Ok(logits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{Batch, Counts},
        load::{self, Place},
        lora::LoraConfig,
        quantization::Scheme,
        train,
    };

    #[test]
    fn attention_of_one_position_is_that_of_mlx() {
        let (_session, _) = mlx::Session::start(Some(mlx::DeviceKind::Cpu)).unwrap();
        let check = |heads: i32, kv_heads: i32, seen: i32, dtype: Dtype, tolerance: f64| {
            let draw = |shape: &[i32], seed: u64| {
                let key = mlx_rs::random::key(seed).unwrap();
                let drawn = mlx_rs::random::normal::<f32>(shape, None, None, &key).unwrap();
                drawn.as_dtype(dtype).unwrap()
            };
            let queries = draw(&[2, heads, 1, 32], 1);
            // A view of a longer buffer, as the cache gives it.
            let view = |seed| {
                let buffer = draw(&[2, kv_heads, seen + 7, 32], seed);
                buffer.try_index((.., .., ..seen, ..)).unwrap()
            };
            let (keys, values) = (view(2), view(3));
            let ours = attend_once(&queries, &keys, &values, 0.3).unwrap();
            let theirs =
                fast::scaled_dot_product_attention(&queries, &keys, &values, 0.3, None, None);
            let theirs = theirs.unwrap();
            assert_eq!(ours.dtype(), theirs.dtype());
            assert_eq!(ours.shape(), theirs.shape());
            let close = ours.all_close(&theirs, tolerance, tolerance, None).unwrap();
            assert!(
                close,
                "{heads} heads on {kv_heads}, {seen} positions, {dtype:?}"
            );
        };
        for seen in [1, 5, 300] {
            check(4, 2, seen, Dtype::Float32, 1e-5);
            check(8, 2, seen, Dtype::Float32, 1e-5);
            check(4, 4, seen, Dtype::Float32, 1e-5);
            check(8, 2, seen, Dtype::Bfloat16, 2e-2);
        }
    }

    #[test]
    fn joined_matrices_hold_the_same_model() {
        let (_session, _) = mlx::Session::start(Some(mlx::DeviceKind::Cpu)).unwrap();
        let scheme = Scheme {
            bits: 4,
            group_size: 64,
        };
        for quantize in [None, Some(scheme)] {
            let options = load::Options {
                dtype: Dtype::Float32,
                seed: 0,
                quantize,
            };
            let model = |joined| {
                let parts = load::parts(&Place::embedded(), options).unwrap();
                let layout = Layout {
                    traced: false,
                    joined,
                };
                Lfm2::build(parts.shape, parts.tensors, layout).unwrap()
            };
            let (joined, apart) = (model(true), model(false));
            let ids: Vec<u32> = (0..9).collect();
            let logits = |model| sequence_logits(model, None, &ids, None).unwrap();
            let (ours, theirs) = (logits(&joined), logits(&apart));
            assert!(ours.all_close(&theirs, 1e-4, 1e-4, None).unwrap());

            let (joined, apart) = (joined.tensors().unwrap(), apart.tensors().unwrap());
            assert!(joined.keys().eq(apart.keys()));
            for (name, tensor) in &joined {
                assert!(tensor.eq_values(&apart[name]).unwrap(), "{name}");
            }
        }
    }

    #[test]
    fn padding_within_attention_changes_neither_loss_nor_gradients() {
        let (_session, _) = mlx::Session::start(Some(mlx::DeviceKind::Cpu)).unwrap();
        let options = load::Options {
            dtype: Dtype::Float32,
            seed: 0,
            quantize: None,
        };
        let parts = || load::parts(&Place::embedded(), options).unwrap();
        let model = |multiple| {
            let mut model = Lfm2::new(parts().shape, parts().tensors).unwrap();
            for layer in &mut model.layers {
                if let Mixer::Attention(attention) = &mut layer.mixer {
                    attention.gradient_multiple = multiple;
                }
            }
            model
        };
        let config = LoraConfig {
            rank: 4,
            scale: 2.0,
            dropout: 0.0,
            layers: None,
            targets: vec!["all".into()],
        };
        let mut adapters = Adapters::new(&parts().shape, config, 0).unwrap();
        // B begins at zero, and nothing would reach A.
        let halves = adapters
            .params()
            .iter()
            .map(|p| p.add(Array::from_f32(0.01)).unwrap());
        adapters.set_params(halves.collect());
        let ids: Vec<i32> = (0..41).collect();
        let counts = Counts {
            rows: 1,
            real_tokens: 41,
            padded_tokens: 40,
            loss_tokens: 40,
        };
        let batch = Batch::new(&ids, &[0, 40], counts);
        let results = |multiple| {
            let model = model(multiple);
            let mut all = train::gradients(&model, &adapters, &batch).unwrap();
            let loss = train::evaluate(&model, &adapters, &batch).unwrap();
            all.push(Array::from_f32(loss));
            all
        };
        for (padded, plain) in results(64).iter().zip(results(1)) {
            assert!(padded.all_close(plain, 1e-4, 1e-7, None).unwrap());
        }
    }
}
