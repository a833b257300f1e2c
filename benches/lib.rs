//! What the benchmarks share: the embedded model, ready to step, and a synthetic record.

use std::fmt::Write as _;

use metrics::store::{self, Record};
use model::{
    Result,
    data::{BatchOptions, Batches, Dataset, Order},
    load::{self, EMBEDDED, EMBEDDED_DATA, Loaded},
    lora::{Adapters, LoraConfig},
    mlx::{DeviceKind, Session},
    train::{Optimizer, StepOptions, Trainer},
};

/// Starts MLX and loads the embedded model in the type that suits the device.
///
/// # Errors
///
/// Those of MLX.
pub fn embedded() -> Result<(Session, Loaded)> {
    let (session, device) = Session::start(None)?;
    let dtype = match device {
        DeviceKind::Cpu => model::Dtype::Float32,
        DeviceKind::Gpu => model::Dtype::Bfloat16,
    };
    Ok((session, load::load(EMBEDDED, dtype, 0)?))
}

/// The trainer and batches of `lfmark run` with its defaults.
///
/// # Errors
///
/// Those of MLX.
pub fn training(loaded: &Loaded, compile: bool) -> Result<(Trainer, Batches)> {
    let lora = LoraConfig {
        rank: 16,
        scale: 2.0,
        dropout: 0.05,
        layers: Some(8),
        targets: vec!["q_proj".into(), "v_proj".into()],
    };
    let adapters = Adapters::new(loaded.model.shape(), lora, 0)?;
    let options = StepOptions {
        compile,
        clear_cache: false,
    };
    let optimizer = Optimizer::adam(2e-5);
    let trainer = Trainer::new(loaded.model.clone(), adapters, optimizer, 0, options)?;
    let data = Dataset::parse(EMBEDDED, EMBEDDED_DATA, &loaded.tokenizer, false)?;
    let options = BatchOptions {
        order: Order::MlxLm,
        size: 1,
        max_seq_length: 2048,
        seed: 0,
    };
    let batches = Batches::new(&data, loaded.model.shape().vocab_size, options)?;
    Ok((trainer, batches))
}

/// A record of this many iterations, as text: the first line of a real run, and steps of about
/// 20 ms that differ from each other without any randomness.
pub fn record_text(iterations: u32) -> String {
    let mut text = include_str!("start.jsonl").trim_end().to_owned();
    let mut start_ns = 1_000_000_000_u64;
    for iteration in 1..=iterations {
        // A multiplicative hash spreads the steps between 19 and 21 ms.
        let step_ns = 19_000_000 + u64::from(iteration.wrapping_mul(2_654_435_761)) % 2_000_000;
        let _ = write!(
            text,
            "\n{{\"event\":\"iteration\",\"iteration\":{iteration},\"start_ns\":{start_ns},\
             \"data_ns\":20000,\"step_ns\":{step_ns},\"rows\":1,\"real_tokens\":70,\
             \"padded_tokens\":96,\"loss_tokens\":70,\"loss\":5.5,\"active_bytes\":6000000,\
             \"cache_bytes\":8000000,\"peak_bytes\":14000000,\"footprint_bytes\":48000000,\
             \"swap_bytes\":0}}"
        );
        start_ns += step_ns + 50_000;
    }
    text.push('\n');
    text
}

/// The same, read back.
///
/// # Panics
///
/// If the committed first line is not of the current schema.
pub fn record(iterations: u32) -> Record {
    store::parse(&record_text(iterations)).expect("the committed first line is of this schema")
}
