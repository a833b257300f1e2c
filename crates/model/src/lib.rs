//! LFM2 with LoRA on MLX: load, train, generate.
//!
//! The only crate that knows `mlx-rs`. It offers steps, not runs: nothing here prints, reads a
//! clock, or loops over a training run, so that the step that is measured is the step that is
//! used.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | `config.json` to the resolved [`config::Shape`], and the tensors it implies |
//! | [`lfm2`] | the whole architecture on one page |
//! | [`cache`] | key/value cache and convolution state |
//! | [`weights`] | strict safetensors reading and writing |
//! | [`quantization`] | matrices in MLX's packed format |
//! | [`random`] | seeded weights, bit-identical on every platform |
//! | [`lora`] | adapters: attach, save, load, fuse |
//! | [`tokenizer`], [`data`] | text to token ids, JSONL to padded batches |
//! | [`train`] | one optimizer step |
//! | [`corpus`], [`vocabulary`], [`pretrain`] | text, tokenizer and steps of training a model from random weights |
//! | [`generate`] | prefill and decode |
//! | [`load`] | presets, the embedded default, and model folders |
//! | [`hub`] | a model's files on the hub, and its cache |
//! | [`export`] | model and batches as files, for another program to do the same work |
//! | [`mlx`] | what mlx-rs does not wrap; the only `unsafe` of this crate |

pub mod cache;
pub mod config;
pub mod corpus;
pub mod data;
mod error;
pub mod export;
pub mod generate;
pub mod hub;
pub mod lfm2;
pub mod load;
pub mod lora;
pub mod mlx;
pub mod pretrain;
pub mod quantization;
pub mod random;
pub mod tensors;
pub mod tokenizer;
pub mod train;
pub mod vocabulary;
pub mod weights;

pub use error::Error;
pub use mlx_rs::{Array, Dtype};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// For the whole process, MLX and its libraries included: a step makes and drops thousands of
/// small objects, many of them on another thread than the one that made them, where glibc's
/// allocator takes a quarter of the host's time.
// A fuzz target counts with an allocator of its own.
#[cfg(all(target_os = "linux", not(fuzzing)))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
