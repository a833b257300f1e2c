//! A synthetic engine: a workload of known truth that is measured as a real one is.
//!
//! Its times pass on a clock that nothing else moves, so that a run takes as long as drawing it.
//! Everything behind the workload is what runs in production: the measured loop, the ration of
//! the footprint, the record and its reader. The record names machine and device "synthetic",
//! so that nobody takes it for a measurement.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use thiserror::Error;

use crate::clock::Clock;
use crate::footprint::FootprintReader;
use crate::measure::{self, Memory, Plan, Stages, StepOutput, Workload};
use crate::random::Generator;
use crate::record::{
    Build, Config, Data, End, Event, GenerationConfig, Lora, Machine, MachineState, Mlx, Model,
    Optimizer, Phase, PhaseKind, SCHEMA, Start, Status, Weights,
};
use crate::rules::Rules;
use crate::store::{self, ReadError, Record, StoreError, Writer};
use crate::synthetic::{self, Series};
use crate::window;

/// What machine, device and model of a synthetic record are called.
pub const NAME: &str = "synthetic";

const MIB: f64 = 1_048_576.0;

/// Between the end of a step and the beginning of the next iteration.
const BETWEEN_NS: u64 = 50_000;

const SETUP_NS: u64 = 1_000_000_000;

/// What one process does. The `count` of a series is that of the iterations, whatever it says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    pub iterations: u32,
    /// Nanoseconds of the step and of building its batch.
    pub step: Series,
    pub data: Series,
    /// Bytes in use after a step, and of freed buffers that are kept.
    pub active: Series,
    pub cache: Series,
    /// Bytes that a step uses on top of those in use after it: what makes the peak.
    pub working: Series,
    /// Bytes of the process.
    pub footprint: Series,
    /// Of the machine before and after, as macOS numbers it: 0 is nominal.
    pub thermal_state: [u32; 2],
}

impl Truth {
    /// Steps of 20 ms with noise of 1 %, 2.5 GiB in use with noise of 0.1 %, and nothing wrong.
    pub fn steady(iterations: u32) -> Self {
        let series = |level, noise| Series::steady(iterations as usize, level, noise);
        Self {
            iterations,
            step: series(20e6, 0.01),
            data: series(100e3, 0.05),
            active: series(2560.0 * MIB, 0.001),
            cache: series(256.0 * MIB, 0.001),
            working: series(512.0 * MIB, 0.001),
            footprint: series(3584.0 * MIB, 0.001),
            thermal_state: [0, 0],
        }
    }
}

/// Why a synthetic run has no record.
#[derive(Debug, Error)]
pub enum EngineError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Runs `truth` with its record in the folder `dir`, and reads it back. The same seed gives the
/// same record.
///
/// # Errors
///
/// The record cannot be written, or not be read back.
pub fn record(truth: &Truth, start: &Start, seed: u64, dir: &Path) -> Result<Record, EngineError> {
    let mut writer = Writer::create(dir, start)?;
    run(truth, seed, &mut |event| writer.append(event))?;
    Ok(store::read(dir)?)
}

/// Runs `truth`, and hands on every event of its record after the start.
///
/// # Errors
///
/// Those of `on_event`.
pub fn run(
    truth: &Truth,
    seed: u64,
    on_event: &mut dyn FnMut(&Event) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut engine = Engine::new(truth, seed);
    let mut clock = engine.time.clone();
    let held = Rc::clone(&engine.held);
    let mut footprint = FootprintReader::from_fns(Some(NAME), move || Some(held.get()), || Some(0));
    let plan = Plan {
        iterations: truth.iterations,
        windows: window::default_windows(truth.iterations),
    };

    on_event(&state(truth.thermal_state[0], &mut clock, &mut footprint))?;
    clock.pass(SETUP_NS);
    on_event(&Event::Phase(Phase {
        phase: PhaseKind::Setup,
        start_ns: 0,
        wall_ns: SETUP_NS,
    }))?;
    measure::run(
        &mut engine,
        &plan,
        &mut clock,
        &mut footprint,
        &|| false,
        &mut |iteration| on_event(&Event::Iteration(*iteration)),
    )
    .map_err(|error| error.error)?;
    on_event(&state(truth.thermal_state[1], &mut clock, &mut footprint))?;
    on_event(&Event::End(End {
        status: Status::Complete,
        reason: None,
        wall_ns: clock.now_ns(),
    }))
}

/// The first line of a synthetic record, judged by the default rules.
pub fn start(run_id: &str, iterations: u32) -> Start {
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    Start {
        schema: SCHEMA,
        run_id: run_id.to_owned(),
        started_unix_ms: 0,
        lfmark: Build {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: None,
            dirty: None,
            profile: profile.to_owned(),
            rustc: None,
            native_setup: None,
        },
        mlx: Mlx {
            version: "none".to_owned(),
            backend: NAME.to_owned(),
            device_name: Some(NAME.to_owned()),
            architecture: None,
            device_memory_bytes: None,
            working_set_bytes: None,
            library_sha256: None,
            blas: None,
            variables: BTreeMap::new(),
            metallib: None,
        },
        machine: Machine {
            os: NAME.to_owned(),
            arch: NAME.to_owned(),
            ..Machine::default()
        },
        config: Config {
            iterations,
            batch_size: 1,
            max_seq_length: 2048,
            pad_to: 32,
            mask_prompt: false,
            batch_order: "mlx_lm".to_owned(),
            seed: 0,
            dtype: "f32".to_owned(),
            device: NAME.to_owned(),
            optimizer: Optimizer {
                name: "adam".to_owned(),
                learning_rate: 2e-5,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.0,
                bias_correction: false,
            },
            lora: Lora {
                rank: 16,
                scale: 2.0,
                dropout: 0.05,
                layers: 8,
                targets: vec!["self_attn.q_proj".to_owned()],
            },
            compile: true,
            fused_kernels: None,
            clear_cache: false,
            wired: Some("off".to_owned()),
            windows: window::default_windows(iterations),
            generation: GenerationConfig {
                prompts: Vec::new(),
                max_tokens: 0,
                temperature: 0.0,
                top_p: 1.0,
                ignore_eos: false,
                chat_template: false,
                checks: None,
            },
        },
        model: Model {
            name: NAME.to_owned(),
            revision: None,
            quantization: None,
            weights: Weights::Random { seed: 0 },
            layers: 2,
            attention_layers: 1,
            hidden_size: 64,
            ffn_size: 128,
            vocab_size: 512,
            parameters: 100_000,
            weight_bytes: 400_000,
            trainable_parameters: 2_048,
            adapters: Vec::new(),
            config_sha256: None,
            tokenizer_sha256: None,
        },
        data: Data {
            name: NAME.to_owned(),
            sha256: "none".to_owned(),
            format: "text".to_owned(),
            sample_tokens: vec![REAL_TOKENS],
            truncated_samples: 0,
        },
        footprint_source: Some(NAME.to_owned()),
        rules: Some(Rules::default()),
        member: None,
        engine: None,
        launch_ns: None,
        sampling: None,
        settled: None,
    }
}

const REAL_TOKENS: u32 = 70;

fn state(thermal: u32, clock: &mut Time, footprint: &mut FootprintReader) -> Event {
    let reading = footprint.read();
    Event::MachineState(MachineState {
        at_ns: clock.now_ns(),
        thermal_state: Some(thermal),
        footprint_bytes: reading.footprint_bytes,
        swap_used_bytes: reading.swap_bytes,
        ..MachineState::default()
    })
}

/// Time that passes only when told to; clones share it.
#[derive(Clone, Debug, Default)]
struct Time(Rc<Cell<u64>>);

impl Time {
    fn pass(&self, ns: u64) {
        self.0.set(self.0.get().saturating_add(ns));
    }
}

impl Clock for Time {
    fn now_ns(&mut self) -> u64 {
        self.0.get()
    }
}

/// The series of one process, and the iteration it is at.
struct Engine {
    time: Time,
    step: Vec<u64>,
    data: Vec<u64>,
    active: Vec<u64>,
    cache: Vec<u64>,
    working: Vec<u64>,
    footprint: Vec<u64>,
    /// Steps that were done.
    done: usize,
    peak: u64,
    /// Bytes that the process holds, for the reader of its footprint.
    held: Rc<Cell<u64>>,
}

impl Engine {
    fn new(truth: &Truth, seed: u64) -> Self {
        // Each series has its own stream, so that a fault in one leaves the others as they are.
        let draw = |series: Series, stream: u64| {
            let series = Series {
                count: truth.iterations as usize,
                ..series
            };
            synthetic::series(&series, &mut Generator::stream(seed, stream))
        };
        let footprint = draw(truth.footprint, 6);
        Self {
            time: Time::default(),
            step: draw(truth.step, 1),
            data: draw(truth.data, 2),
            active: draw(truth.active, 3),
            cache: draw(truth.cache, 4),
            working: draw(truth.working, 5),
            held: Rc::new(Cell::new(footprint.first().copied().unwrap_or(0))),
            footprint,
            done: 0,
            peak: 0,
        }
    }
}

impl Workload for Engine {
    type Batch = ();
    type Error = StoreError;

    fn next_batch(&mut self) -> Result<(), StoreError> {
        self.time.pass(self.data[self.done]);
        Ok(())
    }

    fn step(&mut self, _: &(), _: &mut Stages<'_>) -> Result<StepOutput, StoreError> {
        let now = self.done;
        self.done += 1;
        self.time.pass(self.step[now]);
        self.peak = self
            .peak
            .max(self.active[now].saturating_add(self.working[now]));
        self.held.set(self.footprint[now]);
        Ok(StepOutput {
            rows: 1,
            real_tokens: REAL_TOKENS,
            padded_tokens: 96,
            loss_tokens: REAL_TOKENS,
            loss: 5.0 / (self.done as f32).sqrt(),
        })
    }

    fn memory(&self) -> Result<Memory, StoreError> {
        self.time.pass(BETWEEN_NS);
        let now = self.done - 1;
        Ok(Memory {
            active_bytes: self.active[now],
            cache_bytes: self.cache[now],
            peak_bytes: self.peak,
        })
    }

    fn reset_peak(&mut self) -> Result<(), StoreError> {
        self.peak = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(iterations: u32, between: f64) -> Truth {
        let mut truth = Truth::steady(iterations);
        truth.step.process_spread = between;
        truth
    }

    fn recorded(truth: &Truth, seed: u64) -> Record {
        let dir = tempfile::tempdir().unwrap();
        let start = start("a", truth.iterations);
        record(truth, &start, seed, &dir.path().join("a")).unwrap()
    }

    #[test]
    fn the_record_holds_exactly_what_was_drawn() {
        let truth = spread(40, 0.1);
        let record = recorded(&truth, 3);
        let drawn = Engine::new(&truth, 3);
        let column = |of: fn(&crate::record::Iteration) -> u64| -> Vec<u64> {
            record.iterations.iter().map(of).collect()
        };
        assert_eq!(column(|it| it.step_ns), drawn.step);
        assert_eq!(column(|it| it.data_ns), drawn.data);
        assert_eq!(column(|it| it.active_bytes), drawn.active);
        assert_eq!(column(|it| it.cache_bytes), drawn.cache);
        assert_eq!(
            column(|it| it.footprint_bytes.unwrap_or(0)),
            drawn.footprint
        );
        // The windows are 1-8, 8-24 and 24-40, and a peak lasts as long as its window.
        let highest = |from: usize, to: usize| {
            (from..to)
                .map(|at| drawn.active[at] + drawn.working[at])
                .max()
                .unwrap()
        };
        for (from, to) in [(0, 8), (8, 24), (24, 40)] {
            assert_eq!(record.iterations[to - 1].peak_bytes, highest(from, to));
        }
        assert_eq!(record.end.unwrap().status, Status::Complete);
    }

    #[test]
    fn a_seed_fixes_the_record_and_processes_spread_as_stated() {
        let truth = spread(20, 0.5);
        assert_eq!(recorded(&truth, 1), recorded(&truth, 1));
        let level = |seed| recorded(&truth, seed).iterations[0].step_ns as f64;
        let logs: Vec<f64> = (0..100).map(|seed| (level(seed) / 20e6).ln()).collect();
        let spread = crate::stats::standard_deviation(&logs).unwrap();
        // Four standard errors.
        assert!((spread - 0.5).abs() < 0.142, "{spread}");
    }

    #[test]
    fn nobody_takes_it_for_a_measurement() {
        let record = recorded(&Truth::steady(1), 0);
        assert_eq!(record.notices.len(), 1, "{:?}", record.notices);
        assert!(record.notices[0].contains("`synthetic`"));
        let start = record.start;
        for name in [
            &start.machine.os,
            &start.machine.arch,
            &start.mlx.backend,
            &start.config.device,
            &start.model.name,
            &start.data.name,
        ] {
            assert_eq!(name, "synthetic");
        }
    }
}
