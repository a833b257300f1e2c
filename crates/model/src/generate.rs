//! Prefill and decode, one token at a time.

use std::{cell::RefCell, mem, rc::Rc};

use mlx_rs::{
    Array, Dtype,
    error::Result as MlxResult,
    ops,
    ops::indexing::{self, TryIndexOp},
    random,
    transforms::async_eval,
};

use crate::{
    Error, Result,
    cache::Cache,
    lfm2::{Lfm2, Pieces, token_array},
    lora::Adapters,
    mlx,
};

/// Prompts longer than this are prefilled in pieces of mlx-lm's size, to bound the memory of one
/// forward pass. Unlike mlx-lm, the last piece holds the last token, which saves a step.
const PREFILL_STEP: usize = 2048;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 means greedy.
    pub temperature: f64,
    /// Smallest set of tokens whose probability reaches this is kept; 1 keeps all
    /// (Holtzman et al. 2020, arXiv:1904.09751).
    pub top_p: f64,
    pub seed: u64,
}

impl Sampling {
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        seed: 0,
    };

    /// # Errors
    ///
    /// A negative temperature, or a `top_p` outside `(0, 1]`.
    pub fn check(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let problem = format!(
                "the temperature is {}; it must be 0 or more",
                self.temperature
            );
            return Err(Error::Invalid(problem));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let problem = format!("top-p is {}; it must be above 0 and at most 1", self.top_p);
            return Err(Error::Invalid(problem));
        }
        Ok(())
    }
}

/// A model with the adapters that it generates with.
pub struct Forward {
    model: Rc<Lfm2>,
    adapters: Option<Rc<Adapters>>,
    pieces: Option<RefCell<Pieces>>,
}

impl Forward {
    /// With `compile`, MLX compiles what a token passes through between attentions, once for all
    /// generations; what is computed stays the same.
    pub fn new(model: Rc<Lfm2>, adapters: Option<Rc<Adapters>>, compile: bool) -> Self {
        let pieces = || RefCell::new(Pieces::new(Rc::clone(&model), adapters.clone()));
        Self {
            pieces: compile.then(pieces),
            model,
            adapters,
        }
    }

    /// Runs a prompt. Logits `[1, vocab]` after its last token, and the cache.
    fn prompt(&self, prompt: &[u32]) -> Result<(Array, Cache)> {
        let model = &self.model;
        let pass = self.adapters.as_deref().map(Adapters::inference);
        let pass = pass.transpose()?;
        let mut cache = Cache::new(model.shape());
        let Some((tail, pieces)) = split_prompt(prompt) else {
            return Err(Error::Invalid("the prompt holds no token".into()));
        };
        for piece in pieces {
            let tokens = token_array(model.shape(), piece)?;
            model.hidden(&tokens, pass.as_ref(), Some(&mut cache))?;
            mlx::fence(cache.arrays())?;
        }
        let tokens = token_array(model.shape(), tail)?;
        let hidden = model.hidden(&tokens, pass.as_ref(), Some(&mut cache))?;
        // Only the last position predicts a new token.
        let last = hidden.try_index((.., tail.len() as i32 - 1, ..))?;
        Ok((model.project(&last)?, cache))
    }

    /// Logits `[1, vocab]` after a token `[1]` that continues what the cache has seen.
    fn token(&self, token: &Array, cache: &mut Cache) -> Result<Array> {
        if let Some(pieces) = &self.pieces {
            return Ok(pieces.borrow_mut().logits(token, cache)?);
        }
        let pass = self.adapters.as_deref().map(Adapters::inference);
        let token = token.reshape(&[1, 1])?;
        let hidden = (self.model).hidden(&token, pass.transpose()?.as_ref(), Some(cache))?;
        Ok(self.model.project(&hidden.try_index((.., 0, ..))?)?)
    }
}

/// A generation in progress.
///
/// The step after the next is queued before a token is handed out, so that the device does not
/// wait for the host. Dropping the decoder waits for what is still queued: a process that ends
/// with MLX work pending can crash or hang.
pub struct Decoder<'a> {
    forward: &'a Forward,
    cache: Cache,
    sampling: Sampling,
    key: Array,
    /// The next token to hand out, int32 `[1]`, queued.
    next: Array,
}

impl<'a> Decoder<'a> {
    /// Runs the prompt and returns the decoder with its first token.
    ///
    /// # Errors
    ///
    /// An empty prompt, a token outside the vocabulary, or bad sampling choices.
    pub fn start(forward: &'a Forward, prompt: &[u32], sampling: Sampling) -> Result<(Self, u32)> {
        sampling.check()?;
        let (last, cache) = forward.prompt(prompt)?;
        let mut key = random::key(sampling.seed)?;
        let first = choose(&last, sampling, &mut key)?;
        async_eval([&first])?;
        let mut decoder = Self {
            forward,
            cache,
            sampling,
            key,
            next: first.clone(),
        };
        decoder.advance()?;
        let token = read(&first)?;
        Ok((decoder, token))
    }

    /// The next token.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn next_token(&mut self) -> Result<u32> {
        let current = self.advance()?;
        read(&current)
    }

    /// Queues the step that follows the next token, and hands that token out.
    fn advance(&mut self) -> Result<Array> {
        let logits = self.forward.token(&self.next, &mut self.cache)?;
        let following = choose(&logits, self.sampling, &mut self.key)?;
        async_eval([&following])?;
        Ok(mem::replace(&mut self.next, following))
    }
}

impl Drop for Decoder<'_> {
    fn drop(&mut self) {
        mlx::synchronize();
    }
}

/// The last piece of a prompt and those before it; none of an empty prompt.
fn split_prompt(prompt: &[u32]) -> Option<(&[u32], Vec<&[u32]>)> {
    let mut pieces: Vec<&[u32]> = prompt.chunks(PREFILL_STEP).collect();
    Some((pieces.pop()?, pieces))
}

/// Chooses a token from logits `[1, vocab]`; int32 `[1]`.
///
/// Logits are normalised first, in the model's type, as in mlx-lm: in 16 bits that rounds some to
/// ties, of which the first is chosen.
fn choose(logits: &Array, sampling: Sampling, key: &mut Array) -> MlxResult<Array> {
    let logits = logits.subtract(logits.logsumexp_axis(-1, true)?)?;
    if sampling.temperature == 0.0 {
        return indexing::argmax_axis(&logits, -1, false)?.as_dtype(Dtype::Int32);
    }
    let (rest, now) = random::split(&*key, 2)?;
    *key = rest;
    let mut logits = logits.as_dtype(Dtype::Float32)?;
    if sampling.top_p < 1.0 {
        logits = keep_top_p(&logits, sampling.top_p)?;
    }
    let logits = logits.multiply(Array::from_f32((1.0 / sampling.temperature) as f32))?;
    random::categorical(&logits, -1, None, &now)?.as_dtype(Dtype::Int32)
}

/// Sets log-probabilities `[1, vocab]` outside the nucleus to minus infinity.
///
/// A token is outside where those likelier than it already reach `top_p` of the whole mass; the
/// likeliest one never is. Tokens as likely as the last one inside stay too, as in mlx-lm.
fn keep_top_p(logits: &Array, top_p: f64) -> MlxResult<Array> {
    let ascending = ops::sort_axis(logits, -1)?;
    let masses = ascending.exp()?;
    let likelier = masses.cumsum(-1, true, false)?;
    let whole = masses.sum_axis(-1, true)?;
    let enough = whole.multiply(Array::from_f32(top_p as f32))?;
    let outside = likelier.ge(enough)?.sum_axis(-1, true)?;
    let threshold = ascending.take_along_axis(outside, -1)?;
    ops::select(
        logits.lt(threshold)?,
        Array::from_f32(f32::NEG_INFINITY),
        logits,
    )
}

fn read(token: &Array) -> Result<u32> {
    let id = token
        .try_item_exact::<i32>()
        .map_err(|e| Error::Mlx(e.to_string()))?;
    u32::try_from(id).map_err(|_| Error::Mlx(format!("a negative token id {id} was chosen")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_p_keeps_the_smallest_sufficient_set() {
        let logits = Array::from_slice(&[0.1_f32, 0.5, 0.15, 0.25].map(f32::ln), &[1, 4]);
        let check = |top_p, expected: &[bool]| {
            let kept = keep_top_p(&logits, top_p).unwrap();
            kept.eval().unwrap();
            let finite: Vec<bool> = kept
                .as_slice::<f32>()
                .iter()
                .map(|v| v.is_finite())
                .collect();
            assert_eq!(finite, expected, "top-p {top_p}");
        };
        check(0.4, &[false, true, false, false]);
        check(0.6, &[false, true, false, true]);
        check(0.8, &[false, true, true, true]);
        check(0.95, &[true, true, true, true]);
        // The likeliest token stays whatever top-p rounds to.
        check(1e-9, &[false, true, false, false]);
    }

    #[test]
    fn sampling_follows_the_probabilities() {
        let logits = Array::from_slice(&[0.75_f32.ln(), 0.25_f32.ln()], &[1, 2]);
        let sampling = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            seed: 5,
        };
        let mut key = random::key(sampling.seed).unwrap();
        let mut counts = [0, 0];
        for _ in 0..400 {
            let token = read(&choose(&logits, sampling, &mut key).unwrap()).unwrap();
            counts[token as usize] += 1;
        }
        // Six standard deviations around 300.
        assert!((248..=352).contains(&counts[0]), "{counts:?}");
        mlx::synchronize();
    }

    #[test]
    fn prompts_are_split_with_a_tail() {
        assert!(split_prompt(&[]).is_none());
        let long = vec![1; PREFILL_STEP + 1];
        let (tail, pieces) = split_prompt(&long).unwrap();
        assert_eq!((tail.len(), pieces.len()), (1, 1));
        let exact = vec![1; PREFILL_STEP];
        let (tail, pieces) = split_prompt(&exact).unwrap();
        assert_eq!((tail.len(), pieces.len()), (PREFILL_STEP, 0));
    }
}
