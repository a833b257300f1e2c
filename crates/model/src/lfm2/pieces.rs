//! One token through the model, in pieces that MLX compiles.
//!
//! A compiled function keeps its shapes, and what an attention looks back on grows with every
//! token. So a piece ends where an attention begins, and the next one goes on after it.

use std::{iter, ops::Range, rc::Rc};

use mlx_rs::{
    Array, error::Result as MlxResult, ops::indexing::TryIndexOp, transforms::compile::compile,
};

use super::{Attention, Layer, Lfm2, Mixer, Offset, ShortConv};
use crate::{
    cache::{Cache, ConvState},
    lora::{Adapters, Pass},
    train::StepFn,
};

pub(crate) struct Pieces {
    model: Rc<Lfm2>,
    pieces: Vec<(Span, StepFn)>,
}

/// What of the model lies within a piece.
#[derive(Clone, Copy)]
struct Span {
    /// The layer that it begins in, after its attention; the embedding of the token otherwise.
    from: Option<usize>,
    /// The layer that it ends in, before its attention; the logits otherwise.
    to: Option<usize>,
}

impl Pieces {
    /// `adapters` stay as they are.
    pub(crate) fn new(model: Rc<Lfm2>, adapters: Option<Rc<Adapters>>) -> Self {
        let attentions = (model.layers.iter().enumerate())
            .filter(|(_, layer)| matches!(layer.mixer, Mixer::Attention(_)));
        let bounds: Vec<_> = attentions.map(|(index, _)| Some(index)).collect();
        let from = iter::once(None).chain(bounds.iter().copied());
        let to = bounds.iter().copied().chain([None]);
        let pieces = from.zip(to).map(|(from, to)| {
            let span = Span { from, to };
            let (model, adapters) = (Rc::clone(&model), adapters.clone());
            let run = move |inputs: &[Array]| model.piece(span, adapters.as_deref(), inputs);
            (span, Box::new(compile(run, false)) as StepFn)
        });
        let pieces = pieces.collect();
        Self { model, pieces }
    }

    /// Logits `[1, vocab]` after a token `[1]`, which continues what the cache has seen: a prompt
    /// at least.
    pub(crate) fn logits(&mut self, token: &Array, cache: &mut Cache) -> MlxResult<Array> {
        let offset = cache.offset;
        cache.offset += 1;
        let position = Array::from_int(offset);
        let mut inputs = vec![token.clone()];
        for (span, run) in &mut self.pieces {
            let convolutions = span.convolutions(&self.model);
            inputs.push(position.clone());
            for layer in &mut cache.layers[convolutions.clone()] {
                inputs.extend(layer.conv().state.take());
            }
            let mut outputs = run(&inputs)?;
            // What it has read may then be written over.
            inputs.clear();
            let states = outputs.split_off(outputs.len() - convolutions.len());
            for (layer, state) in cache.layers[convolutions].iter_mut().zip(states) {
                layer.conv().state = Some(state);
            }
            let Some(index) = span.to else {
                return Ok(outputs.remove(0));
            };
            let states = outputs.split_off(1);
            let states = states.try_into().expect("queries, keys and values");
            let attention = self.model.layers[index].attention();
            let kv = cache.layers[index].kv();
            outputs.push(attention.attend(&self.model.shape, states, Some(kv), offset)?);
            inputs = outputs;
        }
        unreachable!("the last piece ends in logits")
    }
}

impl Span {
    /// The layers that lie within it as a whole.
    fn convolutions(self, model: &Lfm2) -> Range<usize> {
        let first = self.from.map_or(0, |layer| layer + 1);
        first..self.to.unwrap_or(model.layers.len())
    }
}

impl Lfm2 {
    /// From `[token, position]`, or `[states, attended, position]`, and the convolutions' memories to
    /// `[states, queries, keys, values]`, or `[logits]`, and those memories' successors.
    fn piece(
        &self,
        span: Span,
        adapters: Option<&Adapters>,
        inputs: &[Array],
    ) -> MlxResult<Vec<Array>> {
        let pass = adapters.map(|it| it.pass(it.params(), None)).transpose()?;
        let lora = pass.as_ref();
        let (mut h, rest) = match (span.from, inputs) {
            (None, [token, rest @ ..]) => {
                let h = self.embed_tokens.gather(&token.reshape(&[1, 1])?)?;
                (h, rest)
            }
            (Some(index), [h, attended, rest @ ..]) => {
                let layer = &self.layers[index];
                let h = h.add(layer.attention().finish(attended, lora)?)?;
                (self.feed_forward(layer, h, lora)?, rest)
            }
            _ => unreachable!("a piece gets what the one before has made"),
        };
        let [position, memories @ ..] = rest else {
            unreachable!("a piece gets its position");
        };
        let layers = &self.layers[span.convolutions(self)];
        let mut successors = Vec::with_capacity(layers.len());
        for (layer, memory) in layers.iter().zip(memories) {
            let x = self.norm(&h, &layer.operator_norm)?;
            let mut state = ConvState::new(&self.shape, Some(memory.clone()));
            let conv = layer.conv();
            h = h.add(conv.forward(&self.shape, &x, lora, Some(&mut state))?)?;
            h = self.feed_forward(layer, h, lora)?;
            successors.extend(state.state);
        }
        let mut outputs = match span.to {
            Some(index) => {
                let layer = &self.layers[index];
                let x = self.norm(&h, &layer.operator_norm)?;
                let offset = Offset::Traced(position);
                let states = layer.attention().states(&self.shape, &x, lora, offset)?;
                iter::once(h).chain(states).collect()
            }
            None => {
                let h = self.norm(&h, &self.embedding_norm)?;
                vec![self.project(&h.try_index((.., 0, ..))?)?]
            }
        };
        outputs.extend(successors);
        Ok(outputs)
    }

    fn feed_forward(&self, layer: &Layer, h: Array, lora: Option<&Pass>) -> MlxResult<Array> {
        let x = self.norm(&h, &layer.ffn_norm)?;
        h.add(layer.feed_forward.forward(&x, lora)?)
    }
}

impl Layer {
    fn attention(&self) -> &Attention {
        match &self.mixer {
            Mixer::Attention(attention) => attention,
            Mixer::Conv(_) => unreachable!("pieces meet at attentions"),
        }
    }

    fn conv(&self) -> &ShortConv {
        match &self.mixer {
            Mixer::Conv(conv) => conv,
            Mixer::Attention(_) => unreachable!("pieces meet at attentions"),
        }
    }
}
