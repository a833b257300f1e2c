//! What is shown of training over a range of iterations.

use schemars::JsonSchema;
use serde::Serialize;

use crate::record::WindowSpec;
use crate::stats::Distribution;
use crate::steadiness::Level;

/// Training over a range of iterations.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Training {
    /// Iterations that were measured.
    pub iterations: u32,
    /// Sum of the steps.
    pub step_ns: u64,
    /// Sum of the data parts.
    pub data_ns: u64,
    /// From the first iteration's start to the last one's end, with all that lies between.
    pub wall_ns: u64,
    /// Iterations per second of step time.
    pub iterations_per_step_second: Option<f64>,
    /// Iterations per second of wall time.
    pub iterations_per_wall_second: Option<f64>,
    /// Tokens of the samples themselves.
    pub real_tokens: Tokens,
    /// Tokens of the padded batches as fed to the model.
    pub padded_tokens: Tokens,
    /// Positions that entered the loss.
    pub loss_tokens: Tokens,
    /// Step times in nanoseconds.
    pub step: Distribution,
    /// The steps taken apart; `None` where the record does not tell it of every one.
    pub stages: Option<StepStages>,
    /// Highest MLX memory.
    pub peak_bytes: u64,
    /// `None` where it was not finite.
    pub first_loss: Option<f32>,
    pub last_loss: Option<f32>,
}

/// What steps consist of: sums over iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct StepStages {
    /// Until the graph was built.
    pub graph_ns: u64,
    /// From then until all work was handed to the device.
    pub dispatch_ns: u64,
    /// From then until the device had finished.
    pub wait_ns: u64,
}

/// A number of tokens and how fast they were worked through.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Tokens {
    pub total: u64,
    pub per_step_second: Option<f64>,
}

/// Training within one window.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Window {
    /// As the user wrote it (`100-300`).
    pub label: String,
    pub spec: WindowSpec,
    /// First and last iteration that were counted; in `1-100, 100-300` the second begins at 101.
    pub first: u32,
    pub last: u32,
    pub training: Training,
    /// Step times in nanoseconds, with intervals that respect autocorrelation.
    pub level: Option<Level>,
    /// Of the median against that of [`crate::summary::Summary::first_steady`], as a share of the latter.
    pub change: Option<f64>,
}
