//! Training a model from random weights: every parameter, on windows of one sequence of tokens.
//!
//! The optimizer is that of [`crate::train`], with the gradient clipped to a norm and a learning rate
//! that rises in a line and falls along half a cosine (Loshchilov and Hutter 2017,
//! arXiv:1608.03983). Dropout (Srivastava et al. 2014) falls on the embeddings and on what every
//! operator and feed-forward layer adds to them. Parameters and moments are f32 whatever the products
//! are computed in.

use mlx_rs::{
    Array, Dtype,
    error::{Exception, Result as MlxResult},
    ops,
    ops::indexing::TryIndexOp,
    random,
    transforms::{compile::compile, value_and_grad_with_argnums},
};

use crate::{
    Error, Result,
    config::Shape,
    lfm2::Lfm2,
    lora::flatten,
    mlx,
    random::{self as host_random, Generator},
    tensors::Tensors,
    train::{self, Optimizer, StepFn},
};

/// How the weights are trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Its learning rate is the highest.
    pub optimizer: Optimizer,
    pub steps: u32,
    /// Steps over which the learning rate rises from 0.
    pub warm_up: u32,
    /// What the learning rate falls to, as a share of the highest.
    pub last_rate: f64,
    /// Largest norm of a gradient; a larger one is scaled down.
    pub clip: f64,
    /// Probability of dropping an activation, in `[0, 1)`.
    pub dropout: f64,
    /// Type of products and activations.
    pub dtype: Dtype,
    /// Let MLX compile the step.
    pub compile: bool,
    /// Of the first weights and of dropout.
    pub seed: u64,
}

impl Settings {
    /// The learning rate of a step, from 1.
    pub fn rate(&self, step: u32) -> f64 {
        let highest = self.optimizer.learning_rate;
        if step < self.warm_up {
            return highest * f64::from(step) / f64::from(self.warm_up);
        }
        let falling = self.steps.saturating_sub(self.warm_up).max(1);
        let done = (f64::from(step - self.warm_up) / f64::from(falling)).min(1.0);
        let cosine = (1.0 + (std::f64::consts::PI * done).cos()) / 2.0;
        highest * (self.last_rate + (1.0 - self.last_rate) * cosine)
    }
}

/// A model whose weights are being trained.
pub struct Pretrainer {
    layout: Layout,
    settings: Settings,
    /// All parameters one after another, their first and second moments, and the key of the step.
    state: Vec<Array>,
    step: StepFn,
    steps: u32,
}

/// Names and shapes of the parameters, in the order of [`Shape::tensors`].
#[derive(Clone)]
struct Layout {
    shape: Shape,
    names: Vec<String>,
    shapes: Vec<Vec<i32>>,
}

impl Layout {
    fn new(shape: &Shape) -> Self {
        let specs = shape.tensors();
        Self {
            shape: shape.clone(),
            names: specs.iter().map(|spec| spec.name.clone()).collect(),
            shapes: specs.into_iter().map(|spec| spec.shape).collect(),
        }
    }

    /// Views of the parameters.
    fn parts(&self, flat: &Array) -> MlxResult<Vec<Array>> {
        let mut start = 0;
        let part = |shape: &Vec<i32>| {
            let end = start + shape.iter().product::<i32>();
            let view = flat.try_index(start..end)?.reshape(shape);
            start = end;
            view
        };
        self.shapes.iter().map(part).collect()
    }

    fn tensors(&self, parts: &[Array], dtype: Dtype) -> MlxResult<Tensors> {
        let named = self.names.iter().zip(parts);
        named
            .map(|(name, part)| Ok((name.clone(), part.as_dtype(dtype)?)))
            .collect()
    }
}

impl Pretrainer {
    /// Random weights, as presets have them.
    ///
    /// # Errors
    ///
    /// A dropout outside `[0, 1)`, and those of MLX.
    pub fn new(shape: &Shape, settings: Settings) -> Result<Self> {
        if !(0.0..1.0).contains(&settings.dropout) {
            return Err(Error::Invalid(format!(
                "dropout is {}; it must be from 0 to below 1",
                settings.dropout
            )));
        }
        let layout = Layout::new(shape);
        let first = shape.tensors().into_iter().map(|spec| {
            let len = spec.shape.iter().map(|&d| d as usize).product();
            let values = host_random::base(settings.seed, &spec.name, spec.role, len);
            Array::from_slice(&values, &[len as i32])
        });
        let params = flatten(&first.collect::<Vec<_>>())?;
        let zeros = || ops::zeros_like(&params);
        let state = vec![
            params.clone(),
            zeros()?,
            zeros()?,
            random::key(settings.seed)?,
        ];
        mlx::fence(&state)?;
        let inner = layout.clone();
        let step = move |inputs: &[Array]| step(&inner, &settings, inputs);
        let step: StepFn = match settings.compile {
            true => Box::new(compile(step, false)),
            false => Box::new(step),
        };
        Ok(Self {
            layout,
            settings,
            state,
            step,
            steps: 0,
        })
    }

    /// One step on windows of tokens, int32 `[rows, length + 1]`; returns the mean loss of all
    /// positions, with dropout, after the device has finished.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn step(&mut self, windows: &Array) -> Result<f32> {
        self.steps += 1;
        let rate = Array::from_f32(self.settings.rate(self.steps) as f32);
        let mut inputs = self.state.clone();
        inputs.extend([rate, windows.clone()]);
        let mut outputs = (self.step)(&inputs)?;
        drop(inputs);
        mlx::fence(&outputs)?;
        let loss = outputs.pop().expect("a step returns its loss last");
        self.state = outputs;
        loss.try_item_exact::<f32>()
            .map_err(|e| Error::Mlx(e.to_string()))
    }

    /// The weights as trained so far, in a type.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn tensors(&self, dtype: Dtype) -> Result<Tensors> {
        let tensors = self
            .layout
            .tensors(&self.layout.parts(&self.state[0])?, dtype)?;
        mlx::fence(tensors.values())?;
        Ok(tensors)
    }

    /// The model as trained so far, as it computes when its weights are stored in `stored`.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn model(&self, stored: Dtype) -> Result<Lfm2> {
        let rounded = self.tensors(stored)?.into_iter();
        let widened = rounded.map(|(name, array)| Ok((name, array.as_dtype(self.settings.dtype)?)));
        Lfm2::new(self.layout.shape.clone(), widened.collect::<Result<_>>()?)
    }
}

/// From `[params, first moments, second moments, key, rate, windows]` to the successors of the first
/// four, then the loss.
fn step(layout: &Layout, settings: &Settings, inputs: &[Array]) -> MlxResult<Vec<Array>> {
    let [params, first, second, key, rate, windows] = inputs else {
        return Err(Exception::custom(
            "a step takes parameters, two moments, a key, a rate and windows",
        ));
    };
    let (next_key, key) = random::split(key, 2)?;
    let parts = layout.parts(params)?;
    let argnums: Vec<i32> = (0..parts.len() as i32).collect();
    let loss_of = |parts: &[Array]| -> MlxResult<Vec<Array>> {
        Ok(vec![loss(layout, settings, parts, windows, &key)?])
    };
    let (mut values, gradients) = value_and_grad_with_argnums(loss_of, argnums.as_slice())(&parts)?;
    let loss = values.pop().expect("the loss is the one value");
    let gradient = clipped(&flatten(&gradients)?, settings.clip)?;
    let (params, first, second) =
        settings
            .optimizer
            .update_at(rate, params, &gradient, (first, second))?;
    Ok(vec![params, first, second, next_key, loss])
}

fn loss(
    layout: &Layout,
    settings: &Settings,
    parts: &[Array],
    windows: &Array,
    key: &Array,
) -> MlxResult<Array> {
    let tensors = layout.tensors(parts, settings.dtype)?;
    let model = Lfm2::traced(layout.shape.clone(), tensors)
        .map_err(|e| Exception::custom(e.to_string()))?;
    let mut key = key.clone();
    let mut drop = |x: Array| dropped(x, settings.dropout, &mut key);
    entropy(&model, windows, &mut drop)?.mean(None)
}

/// Cross-entropy of every position of windows, f32 `[rows, length]`.
fn entropy(
    model: &Lfm2,
    windows: &Array,
    change: &mut dyn FnMut(Array) -> MlxResult<Array>,
) -> MlxResult<Array> {
    let length = windows.dim(1) - 1;
    let inputs = windows.try_index((.., ..length))?;
    let targets = windows.try_index((.., 1..))?;
    let logits = model.project(&model.hidden_through(&inputs, None, None, change)?)?;
    train::cross_entropy(&logits.as_dtype(Dtype::Float32)?, &targets)
}

/// Inverted dropout; takes a key from `key`.
fn dropped(x: Array, probability: f64, key: &mut Array) -> MlxResult<Array> {
    if probability == 0.0 {
        return Ok(x);
    }
    let (rest, now) = random::split(&*key, 2)?;
    *key = rest;
    let keep = 1.0 - probability;
    let kept = random::bernoulli(&Array::from_f32(keep as f32), x.shape(), &now)?;
    let rescaled = x.multiply(Array::from_f32((1.0 / keep) as f32).as_dtype(x.dtype())?)?;
    let zero = Array::from_f32(0.0).as_dtype(x.dtype())?;
    ops::select(kept, rescaled, zero)
}

/// The gradient, scaled down where its norm is larger than `most` (Pascanu et al. 2013,
/// arXiv:1211.5063).
fn clipped(gradient: &Array, most: f64) -> MlxResult<Array> {
    let norm = gradient.square()?.sum(None)?.sqrt()?;
    let most = Array::from_f32(most as f32);
    gradient.multiply(most.divide(ops::maximum(norm, &most)?)?)
}

/// Windows of a sequence of tokens, in seeded order, without end.
///
/// A pass over the sequence cuts it into windows that follow one another from a random first token,
/// so that no two passes see the same windows.
pub struct Windows {
    tokens: Vec<i32>,
    length: usize,
    generator: Generator,
    /// Where the windows that are left of this pass begin.
    pending: Vec<usize>,
}

impl Windows {
    /// Windows of `length` inputs, each of which predicts the token after it.
    ///
    /// # Errors
    ///
    /// A sequence that is shorter than two windows.
    pub fn new(tokens: &[u32], length: usize, seed: u64) -> Result<Self> {
        if length == 0 || tokens.len() <= 2 * length {
            return Err(Error::Invalid(format!(
                "a text of {} tokens does not suit windows of {length}; give more text, or a \
                 context of 1 to {} tokens",
                tokens.len(),
                tokens.len().saturating_sub(1) / 2
            )));
        }
        Ok(Self {
            tokens: tokens.iter().map(|&id| id as i32).collect(),
            length,
            generator: Generator::new(seed),
            pending: Vec::new(),
        })
    }

    /// The next windows, int32 `[rows, length + 1]`.
    pub fn next(&mut self, rows: usize) -> Array {
        let mut values = Vec::with_capacity(rows * (self.length + 1));
        for _ in 0..rows {
            if self.pending.is_empty() {
                let first = self.generator.below(self.length as u64) as usize;
                let last = self.tokens.len() - self.length;
                self.pending = (first..last).step_by(self.length).collect();
                self.generator.shuffle(&mut self.pending);
            }
            let start = self.pending.pop().expect("a pass has at least one window");
            values.extend_from_slice(&self.tokens[start..=start + self.length]);
        }
        Array::from_slice(&values, &[rows as i32, self.length as i32 + 1])
    }
}

/// Mean loss in nats of every token but the first two, each predicted once: from what its window
/// holds before it, in windows of `length` inputs, `rows` at a time. The tokens are those that a
/// trigram model can predict.
///
/// # Errors
///
/// Fewer than three tokens, a token outside the vocabulary, and those of MLX.
pub fn loss_of_text(model: &Lfm2, tokens: &[u32], length: usize, rows: usize) -> Result<f64> {
    if tokens.len() < 3 {
        return Err(Error::Invalid(
            "fewer than three tokens have no loss".into(),
        ));
    }
    // Also where the text is shorter than a window; checks the ids.
    let all = crate::lfm2::token_array(model.shape(), tokens)?;
    let count = tokens.len() as i32 - 1;
    let length = length as i32;
    let whole = count / length;
    let mut sum = 0.0;
    let mut add = |windows: &Array, skip: i32| -> Result<()> {
        let losses = entropy(model, windows, &mut Ok)?;
        let losses = losses.try_index((.., skip..))?.sum(None)?;
        mlx::fence([&losses])?;
        sum += f64::from(
            losses
                .try_item_exact::<f32>()
                .map_err(|e| Error::Mlx(e.to_string()))?,
        );
        Ok(())
    };
    // The first window by itself, since its first prediction does not count.
    let window = |from: i32, to: i32| all.try_index((.., from..=to));
    add(&window(0, length.min(count))?, 1)?;
    let mut at = 1;
    while at < whole {
        let here = (whole - at).min(rows.max(1) as i32);
        let inputs = window(at * length, (at + here) * length)?;
        let batch: Vec<Array> = (0..here)
            .map(|row| inputs.try_index((.., row * length..=(row + 1) * length)))
            .collect::<MlxResult<_>>()?;
        add(&ops::concatenate(&batch, 0)?, 0)?;
        at += here;
    }
    if whole > 0 && count % length > 0 {
        add(&window(whole * length, count)?, 0)?;
    }
    Ok(sum / f64::from(count - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lfm2::sequence_logits,
        load::EMBEDDED_CONFIG,
        mlx::{DeviceKind, Session},
    };

    const SETTINGS: Settings = Settings {
        optimizer: Optimizer {
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: Some(0.1),
        },
        steps: 12,
        warm_up: 2,
        last_rate: 0.1,
        clip: 1.0,
        dropout: 0.1,
        dtype: Dtype::Float32,
        compile: false,
        seed: 3,
    };

    fn shape() -> Shape {
        let mut small: serde_json::Value = serde_json::from_str(EMBEDDED_CONFIG).unwrap();
        for (key, value) in [
            ("vocab_size", 16),
            ("num_hidden_layers", 3),
            ("hidden_size", 32),
            ("block_dim", 32),
            ("conv_dim", 32),
            ("conv_dim_out", 32),
            ("block_ff_dim", 96),
        ] {
            small[key] = value.into();
        }
        small["full_attn_idxs"] = vec![1].into();
        Shape::from_json(&small.to_string(), "small").unwrap()
    }

    /// Losses of some steps on a text that repeats.
    fn losses(settings: Settings) -> (Vec<f32>, Pretrainer) {
        let tokens: Vec<u32> = (0..400).map(|i| 8 + i % 5).collect();
        let mut windows = Windows::new(&tokens, 20, 1).unwrap();
        let mut trainer = Pretrainer::new(&shape(), settings).unwrap();
        let steps = 0..settings.steps;
        let losses = steps.map(|_| trainer.step(&windows.next(4)).unwrap());
        (losses.collect(), trainer)
    }

    #[test]
    fn the_rate_rises_in_a_line_and_falls_along_half_a_cosine() {
        let check = |step, expected: f64| {
            let found = SETTINGS.rate(step);
            assert!((found - expected).abs() < 1e-15, "step {step}: {found}");
        };
        check(1, 0.005);
        check(2, 0.01);
        check(7, 0.0055);
        check(12, 0.001);
        check(99, 0.001);
    }

    #[test]
    fn training_starts_from_chance_and_learns_and_is_repeatable() {
        let (_session, _) = Session::start(Some(DeviceKind::Cpu)).unwrap();
        let (first, trainer) = losses(SETTINGS);
        assert!((first[0] - 16_f32.ln()).abs() < 0.1, "{first:?}");
        assert!(first[11] < 1.5, "{first:?}");
        assert_eq!(first, losses(SETTINGS).0);
        let compiled = Settings {
            compile: true,
            ..SETTINGS
        };
        for (eager, compiled) in first.iter().zip(losses(compiled).0) {
            assert!((eager - compiled).abs() < 1e-3, "{eager} {compiled}");
        }
        let other = Settings {
            seed: 4,
            ..SETTINGS
        };
        assert_ne!(first, losses(other).0);
        assert_eq!(
            trainer.tensors(Dtype::Bfloat16).unwrap().len(),
            shape().tensors().len()
        );
    }

    #[test]
    fn a_gradient_is_scaled_to_the_norm_only_where_it_is_larger() {
        let (_session, _) = Session::start(Some(DeviceKind::Cpu)).unwrap();
        let check = |most, expected: [f32; 2]| {
            let clipped = clipped(&Array::from_slice(&[3.0_f32, 4.0], &[2]), most).unwrap();
            assert_eq!(clipped.to_vec_cast::<f32>().unwrap(), expected);
        };
        check(5.0, [3.0, 4.0]);
        check(10.0, [3.0, 4.0]);
        check(2.5, [1.5, 2.0]);
    }

    #[test]
    fn the_loss_of_a_text_counts_every_token_after_the_second_once() {
        let (_session, _) = Session::start(Some(DeviceKind::Cpu)).unwrap();
        let model = losses(SETTINGS).1.model(Dtype::Float32).unwrap();
        let tokens: Vec<u32> = (0..47_u32).map(|i| (i * i) % 13).collect();
        // Of one window: the logits of the whole sequence.
        let logits = sequence_logits(&model, None, &tokens[..46], None).unwrap();
        let targets: Vec<i32> = tokens[1..].iter().map(|&id| id as i32).collect();
        let losses = train::cross_entropy(&logits, &Array::from_slice(&targets, &[46])).unwrap();
        let losses = losses.to_vec_cast::<f32>().unwrap();
        let expected = losses[1..].iter().sum::<f32>() / 45.0;
        let check = |length, rows, tolerance: f64| {
            let found = loss_of_text(&model, &tokens, length, rows).unwrap();
            assert!(
                (found - f64::from(expected)).abs() < tolerance,
                "{found} {expected}"
            );
        };
        check(46, 1, 1e-4);
        check(100, 8, 1e-4);
        // Short windows see less, and every token is still counted: the mean stays near.
        let short = |rows| loss_of_text(&model, &tokens, 10, rows).unwrap();
        assert!((short(1) - short(3)).abs() < 1e-5);
        assert!((short(1) - f64::from(expected)).abs() < 1.0);
        assert!(loss_of_text(&model, &tokens[..2], 10, 1).is_err());
    }

    #[test]
    fn windows_cover_a_text_anew_in_every_pass() {
        let tokens: Vec<u32> = (0..100).collect();
        let mut windows = Windows::new(&tokens, 10, 5).unwrap();
        let first = windows.next(9).to_vec_cast::<i32>().unwrap();
        let mut starts: Vec<i32> = first.chunks(11).map(|row| row[0]).collect();
        assert!(
            first
                .chunks(11)
                .all(|row| row.windows(2).all(|it| it[1] == it[0] + 1))
        );
        starts.sort_unstable();
        assert!(
            starts.windows(2).all(|it| it[1] - it[0] == 10),
            "{starts:?}"
        );
        assert!(Windows::new(&tokens, 50, 5).is_err());
    }
}
