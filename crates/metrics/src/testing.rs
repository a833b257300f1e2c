//! Small values for the tests of this crate.

use crate::record::{
    Build, Config, Data, Event, Finish, Generation, GenerationConfig, Iteration, Lora, Machine,
    Mlx, Model, Optimizer, SCHEMA, Start, Weights,
};
use crate::rules::Rules;
use crate::window;

pub(crate) fn start() -> Start {
    Start {
        schema: SCHEMA,
        run_id: "2026-11-22-tiny".to_owned(),
        started_unix_ms: 1_795_000_000_123,
        lfmark: Build {
            version: "0.1.0".to_owned(),
            commit: None,
            dirty: None,
            profile: "debug".to_owned(),
            rustc: None,
            native_setup: None,
        },
        mlx: Mlx {
            version: "0.32.2".to_owned(),
            backend: "cpu".to_owned(),
            device_name: None,
            architecture: None,
            device_memory_bytes: None,
            working_set_bytes: None,
            library_sha256: None,
            blas: None,
        },
        machine: Machine::default(),
        config: Config {
            iterations: 6,
            batch_size: 1,
            max_seq_length: 2048,
            pad_to: 32,
            mask_prompt: false,
            batch_order: "mlx_lm".into(),
            seed: u64::MAX,
            dtype: "f32".to_owned(),
            device: "cpu".to_owned(),
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
            clear_cache: false,
            windows: window::parse("1-2,2-4,5-6").unwrap(),
            generation: GenerationConfig {
                prompts: vec!["Why?".to_owned()],
                max_tokens: 4,
                temperature: 0.0,
                top_p: 1.0,
                ignore_eos: false,
                chat_template: false,
            },
        },
        model: Model {
            name: "tiny".to_owned(),
            weights: Weights::Random { seed: 7 },
            layers: 2,
            attention_layers: 1,
            hidden_size: 64,
            ffn_size: 128,
            vocab_size: 512,
            parameters: 100_000,
            weight_bytes: 400_000,
            trainable_parameters: 2048,
            adapters: Vec::new(),
            config_sha256: None,
            tokenizer_sha256: None,
        },
        data: Data {
            name: "embedded".to_owned(),
            sha256: "00".to_owned(),
            format: "text".to_owned(),
            sample_tokens: vec![62, 78],
            truncated_samples: 0,
        },
        footprint_source: Some("rss".to_owned()),
        rules: Some(Rules::default()),
        member: None,
    }
}

/// Iteration `n` of a run that takes 100 ns for data, `1000 + 100 n` ns for the step and 50 ns
/// more until the next one begins.
pub(crate) fn iteration(n: u32) -> Iteration {
    let n64 = u64::from(n);
    let earlier: u64 = (1..n64).map(|k| 1150 + 100 * k).sum();
    Iteration {
        iteration: n,
        start_ns: 10_000 + earlier,
        data_ns: 100,
        step_ns: 1000 + 100 * n64,
        rows: 1,
        real_tokens: 70,
        padded_tokens: 97,
        loss_tokens: 69,
        loss: Some(5.0 - n as f32 / 4.0),
        active_bytes: 500 + n64,
        cache_bytes: 40 + n64 % 3,
        peak_bytes: 1000 * n64,
        footprint_bytes: None,
        swap_bytes: None,
    }
}

pub(crate) fn generation(first_token_ns: u64, token_ns: &[u64]) -> Generation {
    Generation {
        start_ns: 30_000,
        prompt: "Why? \u{e9}".to_owned(),
        prompt_tokens: 5,
        first_token_ns,
        token_ns: token_ns.to_vec(),
        token_ids: (0..=token_ns.len() as u32).collect(),
        text: "Because.".to_owned(),
        finish: Finish::Length,
        wall_ns: 2000,
        active_bytes: 600,
        cache_bytes: 0,
        peak_bytes: 900,
        footprint_bytes: Some(7000),
    }
}

/// The events as the text of a record.
pub(crate) fn text(events: &[Event]) -> String {
    let lines = events.iter().map(|event| {
        let line = serde_json::to_string(event).unwrap();
        line + "\n"
    });
    lines.collect()
}

/// Reference values of `fixtures/make_statistics_within.py`.
#[derive(serde::Deserialize)]
pub(crate) struct Fixture {
    pub(crate) series: Vec<FixtureSeries>,
    pub(crate) pairs: Vec<FixturePair>,
}

#[derive(serde::Deserialize)]
pub(crate) struct FixtureSeries {
    pub(crate) name: String,
    pub(crate) samples: Vec<f64>,
    pub(crate) ranks: Vec<f64>,
    pub(crate) s: f64,
    pub(crate) variance: f64,
    pub(crate) p: f64,
    pub(crate) slope: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// The 5th, 50th, 95th and 99th.
    pub(crate) percentiles: Vec<f64>,
}

#[derive(serde::Deserialize)]
pub(crate) struct FixturePair {
    pub(crate) name: String,
    pub(crate) first: Vec<f64>,
    pub(crate) second: Vec<f64>,
    pub(crate) u: f64,
    pub(crate) p: f64,
}

pub(crate) fn fixture() -> Fixture {
    let text = include_str!("../../../fixtures/statistics/within.json");
    serde_json::from_str(text).expect("the fixture is what its script writes")
}

pub(crate) fn assert_near(actual: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (actual - expected).abs() <= tolerance * expected.abs().max(1.0),
        "{what}: {actual} instead of {expected}"
    );
}
