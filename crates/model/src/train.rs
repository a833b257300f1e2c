//! One optimizer step: masked cross-entropy, gradients of the adapters, Adam or AdamW.
//!
//! The arithmetic is that of mlx-lm's trainer and of MLX's optimizers. A step is a pure function
//! from parameters, moments and a key to their successors, so that it can be compiled whole, and
//! so that running it once and dropping the result warms it up without training.

use std::rc::Rc;

use mlx_rs::{
    Array, Dtype,
    error::{Exception, Result as MlxResult},
    ops,
    ops::indexing::TryIndexOp,
    random,
    transforms::{async_eval, compile::compile, value_and_grad_with_argnums},
};

use crate::{
    Error, Result,
    data::Batch,
    lfm2::Lfm2,
    lora::{self, Adapters},
    mlx,
};

/// Optimizer and its constants. No bias correction, as is MLX's default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Decoupled decay of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101); `None` for Adam
    /// (Kingma and Ba 2015, arXiv:1412.6980).
    pub weight_decay: Option<f64>,
}

impl Optimizer {
    /// Adam with MLX's default constants.
    pub fn adam(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: None,
        }
    }

    /// AdamW with MLX's default constants.
    pub fn adamw(learning_rate: f64, weight_decay: f64) -> Self {
        Self {
            weight_decay: Some(weight_decay),
            ..Self::adam(learning_rate)
        }
    }
}

pub(crate) type StepFn = Box<dyn FnMut(&[Array]) -> MlxResult<Vec<Array>>>;

/// Trains adapters on a model whose own weights stay as they are.
pub struct Trainer {
    adapters: Adapters,
    /// All parameters one after another, their first and second moments, and the key of the step.
    state: Vec<Array>,
    step: StepFn,
    clear_cache: bool,
}

/// Choices of how a step runs; none changes what it computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepOptions {
    /// Let MLX compile the whole step. It compiles anew for every batch shape.
    pub compile: bool,
    /// Give MLX's buffer cache back after every step, as mlx-lm does.
    pub clear_cache: bool,
}

/// What a step has come to. After these it waits for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its graph has been built, and nothing computed.
    Built,
    /// All its work has been handed to the device, which does most of it meanwhile where it is
    /// slower than the host: MLX lets only a few operations of a CPU wait, and ten of the parts
    /// in which it sends work to a GPU.
    Dispatched,
}

impl Trainer {
    /// # Errors
    ///
    /// Those of MLX.
    pub fn new(
        model: Rc<Lfm2>,
        adapters: Adapters,
        optimizer: Optimizer,
        seed: u64,
        options: StepOptions,
    ) -> Result<Self> {
        let params = adapters.flat()?;
        let moments = [ops::zeros_like(&params)?, ops::zeros_like(&params)?];
        let [first, second] = moments;
        let state = vec![params, first, second, random::key(seed)?];
        mlx::fence(&state)?;

        let template = adapters.clone();
        let step = move |inputs: &[Array]| step(&model, &template, optimizer, inputs);
        let step: StepFn = match options.compile {
            true => Box::new(compile(step, false)),
            false => Box::new(step),
        };
        Ok(Self {
            adapters,
            state,
            step,
            clear_cache: options.clear_cache,
        })
    }

    /// One step; returns the loss (mean over the batch's loss tokens) after the device has
    /// finished.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn step(&mut self, batch: &Batch) -> Result<f32> {
        self.step_in_stages(batch, &mut |_| ())
    }

    /// The same; `reached` hears of every stage that has ended, but for the last.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn step_in_stages(&mut self, batch: &Batch, reached: &mut dyn FnMut(Stage)) -> Result<f32> {
        let (state, loss) = self.run(batch, reached)?;
        self.state = state;
        if self.clear_cache {
            mlx::Memory::clear_cache()?;
        }
        Ok(loss)
    }

    /// Runs one step and forgets its result: kernels and graphs are compiled, nothing is trained.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn warm_up(&mut self, batch: &Batch) -> Result<()> {
        self.run(batch, &mut |_| ()).map(drop)
    }

    /// The adapters as trained so far.
    pub fn adapters(&self) -> Adapters {
        let mut adapters = self.adapters.clone();
        let params = adapters.parts(&self.state[0]);
        adapters.set_params(params.expect("the state holds every parameter"));
        adapters
    }

    fn run(&mut self, batch: &Batch, reached: &mut dyn FnMut(Stage)) -> Result<(Vec<Array>, f32)> {
        let mut inputs = self.state.clone();
        inputs.extend(batch.arrays());
        let mut outputs = (self.step)(&inputs)?;
        drop(inputs);
        reached(Stage::Built);
        async_eval(&outputs)?;
        reached(Stage::Dispatched);
        mlx::fence(&outputs)?;
        let loss = outputs.pop().expect("a step returns its loss last");
        Ok((
            outputs,
            loss.try_item_exact::<f32>()
                .map_err(|e| Error::Mlx(e.to_string()))?,
        ))
    }
}

/// From `[params, first moments, second moments, key, tokens, bounds, scored]` to the successors of
/// all but the last three, then the loss.
fn step(
    model: &Lfm2,
    adapters: &Adapters,
    optimizer: Optimizer,
    inputs: &[Array],
) -> MlxResult<Vec<Array>> {
    let [params, first, second, key, batch @ ..] = inputs else {
        return Err(Exception::custom(
            "a step takes parameters, two moments, a key and a batch",
        ));
    };
    let parts = adapters.parts(params)?;
    let (loss, gradients) = loss_and_gradients(model, adapters, &parts, batch, Some(key))?;
    // The optimizer works on all parameters at once: as many kernels as for one of them.
    let gradient = lora::flatten(&gradients)?;
    let (params, first, second) = optimizer.update(params, &gradient, (first, second))?;
    // The first word of the key counts the steps; `lora` varies the second.
    let next_key = key.add(Array::from_slice(&[1_u32, 0], &[2]))?;
    Ok(vec![params, first, second, next_key, loss])
}

impl Optimizer {
    /// The parameters' successors and those of their moments, all f32.
    fn update(
        &self,
        param: &Array,
        gradient: &Array,
        moments: (&Array, &Array),
    ) -> MlxResult<(Array, Array, Array)> {
        let learning_rate = Array::from_f32(self.learning_rate as f32);
        self.update_at(&learning_rate, param, gradient, moments)
    }

    /// The same at another learning rate, an f32 scalar.
    pub(crate) fn update_at(
        &self,
        learning_rate: &Array,
        param: &Array,
        gradient: &Array,
        (first, second): (&Array, &Array),
    ) -> MlxResult<(Array, Array, Array)> {
        // Constants are rounded once from f64, as Python's are; 1 - beta in f32 would differ.
        let scalar = |value: f64| Array::from_f32(value as f32);
        let param = match self.weight_decay {
            Some(decay) => {
                let kept = scalar(1.0).subtract(learning_rate.multiply(scalar(decay))?)?;
                param.multiply(kept)?
            }
            None => param.clone(),
        };
        let first = (first.multiply(scalar(self.beta1))?)
            .add(gradient.multiply(scalar(1.0 - self.beta1))?)?;
        let second = (second.multiply(scalar(self.beta2))?)
            .add(gradient.square()?.multiply(scalar(1.0 - self.beta2))?)?;
        let step =
            (first.multiply(learning_rate)?).divide(second.sqrt()?.add(scalar(self.eps))?)?;
        Ok((param.subtract(step)?, first, second))
    }
}

/// Mean cross-entropy over the positions within the bounds, f32.
///
/// `batch` is its tokens `[rows, width]`, bounds `[rows, 2]` and scored positions `[n]`. Tokens are both
/// inputs (all but the last) and targets (all but the first); position `p`, from 1, counts where
/// `bounds[row][0] <= p <= bounds[row][1]`. Only scored positions get logits: the others do not count.
fn loss(
    model: &Lfm2,
    adapters: &Adapters,
    params: &[Array],
    batch: &[Array],
    dropout_key: Option<&Array>,
) -> MlxResult<Array> {
    let [tokens, bounds, scored] = batch else {
        return Err(Exception::custom(
            "a batch is tokens, bounds and scored positions",
        ));
    };
    let last = tokens.dim(1) - 1;
    let inputs = tokens.try_index((.., ..last))?;
    let pass = adapters.pass(params, dropout_key)?;
    let mut hidden = model.hidden(&inputs, Some(&pass), None)?;
    if scored.dim(0) < last {
        hidden = hidden.take_axis(scored.subtract(Array::from_int(1))?, 1)?;
    }
    let logits = model.project(&hidden)?;
    let targets = tokens.take_axis(scored, 1)?;

    let from = scored.ge(bounds.try_index((.., ..1))?)?;
    let mask = from.logical_and(scored.le(bounds.try_index((.., 1..))?)?)?;

    let entropy = cross_entropy(&logits, &targets)?;
    let masked = entropy.multiply(mask.as_dtype(entropy.dtype())?)?;
    let total = masked.as_dtype(Dtype::Float32)?.sum(None)?;
    total.divide(mask.sum(None)?)
}

/// Cross-entropy of every position, `[rows, L]`, of logits `[rows, L, vocab]` in their type.
pub(crate) fn cross_entropy(logits: &Array, targets: &Array) -> MlxResult<Array> {
    let scores = logits
        .take_along_axis(targets.expand_dims(-1)?, -1)?
        .squeeze_axes(&[-1])?;
    logits.logsumexp_axis(-1, None)?.subtract(scores)
}

/// The loss over a batch's tokens and bounds, and its gradient for every adapter parameter.
fn loss_and_gradients(
    model: &Lfm2,
    adapters: &Adapters,
    params: &[Array],
    batch: &[Array],
    dropout_key: Option<&Array>,
) -> MlxResult<(Array, Vec<Array>)> {
    let argnums: Vec<i32> = (0..params.len() as i32).collect();
    let loss_of = |params: &[Array]| -> MlxResult<Vec<Array>> {
        let loss = loss(model, adapters, params, batch, dropout_key)?;
        Ok(vec![loss])
    };
    let (mut values, gradients) = value_and_grad_with_argnums(loss_of, argnums.as_slice())(params)?;
    let loss = values.pop().expect("the loss is the one value");
    Ok((loss, gradients))
}

/// Loss of a batch without dropout, and without training.
///
/// # Errors
///
/// Those of MLX.
pub fn evaluate(model: &Lfm2, adapters: &Adapters, batch: &Batch) -> Result<f32> {
    let loss = loss(model, adapters, adapters.params(), &batch.arrays(), None)?;
    loss.eval()?;
    loss.try_item_exact::<f32>()
        .map_err(|e| Error::Mlx(e.to_string()))
}

/// Gradients of the loss with respect to every adapter parameter, without dropout: what the
/// optimizer of a step receives.
///
/// # Errors
///
/// Those of MLX.
pub fn gradients(model: &Lfm2, adapters: &Adapters, batch: &Batch) -> Result<Vec<Array>> {
    let params = adapters.params();
    let (_, gradients) = loss_and_gradients(model, adapters, params, &batch.arrays(), None)?;
    mlx::fence(&gradients)?;
    Ok(gradients)
}
