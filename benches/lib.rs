//! What the benchmarks share: the embedded model, ready to step, and synthetic records.

use metrics::engine::{self, Truth};
use metrics::record::{Event, Start};
use metrics::store::Record;
use model::{
    Result,
    data::{BatchOptions, Batches, Dataset, Order},
    load::{self, EMBEDDED, EMBEDDED_DATA, Loaded, Place},
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
    let options = load::Options {
        dtype,
        seed: 0,
        quantize: None,
    };
    Ok((session, load::load(&Place::embedded(), options)?))
}

/// The production step and its batches, with the defaults of `lfmark run`.
pub struct Training {
    pub trainer: Trainer,
    pub batches: Batches,
    /// Steps of one pass over the data, and the real tokens they train on.
    pub steps: u64,
    pub tokens: u64,
}

impl Training {
    /// # Errors
    ///
    /// Those of MLX.
    pub fn new(loaded: &Loaded, compile: bool) -> Result<Self> {
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
        let optimizer = Optimizer::adam(1e-3);
        let trainer = Trainer::new(loaded.model.clone(), adapters, optimizer, 0, options)?;
        let data = Dataset::parse(EMBEDDED, EMBEDDED_DATA, &loaded.tokenizer, false)?;
        let options = BatchOptions {
            order: Order::MlxLm,
            size: 1,
            max_seq_length: 2048,
            seed: 0,
        };
        let mut batches = Batches::new(&data, loaded.model.shape().vocab_size, options)?;
        let steps = data.samples.len() as u64;
        let tokens = (0..steps).map(|_| u64::from(batches.next_batch().counts.real_tokens));
        Ok(Self {
            trainer,
            tokens: tokens.sum(),
            batches,
            steps,
        })
    }
}

/// A synthetic record of this many iterations, as text: steps of 20 ms with noise of 1 %.
///
/// # Panics
///
/// If an event cannot be written as JSON, which every event can.
pub fn record_text(iterations: u32) -> String {
    let mut text = String::new();
    let mut append = |event: &Event| {
        text += &serde_json::to_string(event).expect("an event is JSON");
        text.push('\n');
    };
    append(&Event::Start(Box::new(start(iterations))));
    each_event(iterations, &mut append);
    text
}

/// The same record without the way through its text, which for a million iterations takes more
/// memory than the record.
pub fn record(iterations: u32) -> Record {
    let mut record = Record {
        effect: None,
        start: start(iterations),
        phases: Vec::new(),
        iterations: Vec::with_capacity(iterations as usize),
        generations: Vec::new(),
        states: Vec::new(),
        sensors: Vec::new(),
        counters: Vec::new(),
        end: None,
        notices: Vec::new(),
    };
    each_event(iterations, &mut |event| match event {
        Event::Phase(phase) => record.phases.push(*phase),
        Event::Iteration(iteration) => record.iterations.push(*iteration),
        Event::MachineState(state) => record.states.push(state.clone()),
        Event::End(end) => record.end = Some(end.clone()),
        Event::Start(_)
        | Event::Generation(_)
        | Event::Sensors(_)
        | Event::Counters(_)
        | Event::Effect(_) => {}
    });
    record
}

/// The first line of these records, which name their device as synthetic.
pub fn start(iterations: u32) -> Start {
    engine::start("bench", iterations)
}

fn each_event(iterations: u32, on_event: &mut dyn FnMut(&Event)) {
    let run = engine::run(&Truth::steady(iterations), 1, &mut |event| {
        on_event(event);
        Ok(())
    });
    run.expect("nothing is written");
}
