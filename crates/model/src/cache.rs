//! What a layer remembers between calls: keys and values, or the tail of the convolution.

use mlx_rs::{
    Array, Dtype,
    error::Result,
    ops,
    ops::indexing::{TryIndexMutOp, TryIndexOp},
};

use crate::config::{LayerKind, Shape};

/// The key/value cache grows by steps of this many positions, as mlx-lm's does.
const STEP: i32 = 256;

/// MLX's CUDA back end hands caches of whole steps to cuDNN. Its kernel is the faster one for many
/// positions, and its call costs the host more. Up to so many positions a token waits for the host,
/// so that caches are kept from it by [`SPARE`] (measured in reports/breakdown).
const OWN_KERNEL: i32 = 8448;

/// Positions beyond the whole steps.
const SPARE: i32 = 8;

/// State of one sequence batch, layer by layer.
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    /// Positions seen so far.
    pub(crate) offset: i32,
}

pub(crate) enum LayerCache {
    Kv(KvCache),
    Conv(ConvState),
}

impl Cache {
    pub fn new(shape: &Shape) -> Self {
        let layer = |kind: &LayerKind| match kind {
            LayerKind::Attention => LayerCache::Kv(KvCache::default()),
            LayerKind::ShortConv => LayerCache::Conv(ConvState::new(shape, None)),
        };
        Self {
            layers: shape.layers.iter().map(layer).collect(),
            offset: 0,
        }
    }

    /// Positions seen so far.
    pub fn len(&self) -> usize {
        self.offset as usize
    }

    pub fn is_empty(&self) -> bool {
        self.offset == 0
    }

    /// Every array held, for evaluating a prefill without computing logits.
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let mut arrays = Vec::new();
        for layer in &self.layers {
            match layer {
                LayerCache::Kv(kv) => arrays.extend(kv.buffers.iter().flat_map(|(k, v)| [k, v])),
                LayerCache::Conv(conv) => arrays.extend(&conv.state),
            }
        }
        arrays
    }
}

impl LayerCache {
    /// That of an attention.
    pub(crate) fn kv(&mut self) -> &mut KvCache {
        match self {
            Self::Kv(kv) => kv,
            Self::Conv(_) => unreachable!("the cache has the layers of the model"),
        }
    }

    /// That of a convolution.
    pub(crate) fn conv(&mut self) -> &mut ConvState {
        match self {
            Self::Conv(conv) => conv,
            Self::Kv(_) => unreachable!("the cache has the layers of the model"),
        }
    }
}

/// Keys and values `[batch, kv_heads, capacity, head_dim]`, written in place.
#[derive(Default)]
pub(crate) struct KvCache {
    buffers: Option<(Array, Array)>,
}

impl KvCache {
    /// Appends `[batch, kv_heads, n, head_dim]` at `offset` and returns all positions so far.
    pub(crate) fn update(
        &mut self,
        keys: Array,
        values: Array,
        offset: i32,
    ) -> Result<(Array, Array)> {
        let end = offset + keys.dim(2);
        let (mut k, mut v) = match self.buffers.take() {
            Some((k, v)) if end <= k.dim(2) => (k, v),
            Some((k, v)) => (grow(&k, offset, end)?, grow(&v, offset, end)?),
            None => (zeros_like(&keys, end)?, zeros_like(&values, end)?),
        };
        k.try_index_mut((.., .., offset..end, ..), &keys)?;
        v.try_index_mut((.., .., offset..end, ..), &values)?;
        let seen = (
            k.try_index((.., .., ..end, ..))?,
            v.try_index((.., .., ..end, ..))?,
        );
        self.buffers = Some((k, v));
        Ok(seen)
    }
}

fn capacity(end: i32) -> i32 {
    match (end + STEP - 1) / STEP * STEP {
        steps if steps <= OWN_KERNEL => steps + SPARE,
        steps => steps,
    }
}

/// An empty buffer for at least `end` positions, shaped as `like` otherwise.
fn zeros_like(like: &Array, end: i32) -> Result<Array> {
    let mut shape = like.shape().to_vec();
    shape[2] = capacity(end);
    ops::zeros_dtype(&shape, like.dtype())
}

/// The first `used` positions of `buffer` in a larger one.
fn grow(buffer: &Array, used: i32, end: i32) -> Result<Array> {
    let kept = buffer.try_index((.., .., ..used, ..))?;
    let mut shape = buffer.shape().to_vec();
    shape[2] = capacity(end) - used;
    let fresh = ops::zeros_dtype(&shape, buffer.dtype())?;
    ops::concatenate(&[kept, fresh], 2)
}

/// The last `kernel - 1` gated inputs `[batch, kernel - 1, hidden]`.
pub(crate) struct ConvState {
    keep: i32,
    pub(crate) state: Option<Array>,
}

impl ConvState {
    pub(crate) fn new(shape: &Shape, state: Option<Array>) -> Self {
        Self {
            keep: shape.kernel - 1,
            state,
        }
    }

    /// Puts the remembered tail before `x` `[batch, n, hidden]`, and remembers the new tail.
    pub(crate) fn extend(&mut self, x: &Array) -> Result<Array> {
        let state = match self.state.take() {
            Some(state) => state,
            None => empty_tail(x.dim(0), self.keep, x.dim(2), x.dtype())?,
        };
        let extended = ops::concatenate(&[&state, x], 1)?;
        let length = extended.dim(1);
        // A copy: a view would keep the whole extended sequence alive.
        let tail = extended.try_index((.., length - self.keep.., ..))?;
        self.state = Some(tail.contiguous()?);
        Ok(extended)
    }
}

fn empty_tail(batch: i32, keep: i32, hidden: i32, dtype: Dtype) -> Result<Array> {
    ops::zeros_dtype(&[batch, keep, hidden], dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_hold_what_was_asked_for_and_only_long_ones_are_whole_steps() {
        assert_eq!(capacity(1), STEP + SPARE);
        assert_eq!(capacity(STEP + 1), 2 * STEP + SPARE);
        assert_eq!(capacity(OWN_KERNEL), OWN_KERNEL + SPARE);
        assert_eq!(capacity(OWN_KERNEL + 1), OWN_KERNEL + STEP);
    }
}
