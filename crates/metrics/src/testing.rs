//! Small values for the tests of this crate.

use crate::engine;
use crate::record::{Event, Finish, Generation, Iteration, Start, Weights};
use crate::window;

/// The synthetic start with names as a real one has them.
pub(crate) fn start() -> Start {
    let mut start = engine::start("2026-11-22-tiny", 6);
    start.started_unix_ms = 1_795_000_000_123;
    start.lfmark.profile = "debug".to_owned();
    start.mlx.version = "0.32.2".to_owned();
    start.mlx.backend = "cpu".to_owned();
    start.mlx.device_name = None;
    start.machine = Default::default();
    start.config.seed = u64::MAX;
    start.config.device = "cpu".to_owned();
    start.config.windows = window::parse("1-2,2-4,5-6").unwrap();
    start.config.generation.prompts = vec!["Why?".to_owned()];
    start.config.generation.max_tokens = 4;
    start.model.name = "tiny".to_owned();
    start.model.weights = Weights::Random { seed: 7 };
    start.data.name = "embedded".to_owned();
    start.data.sha256 = "00".to_owned();
    start.data.sample_tokens = vec![62, 78];
    start.footprint_source = Some("rss".to_owned());
    start
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
        graph_ns: None,
        dispatch_ns: None,
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

/// Reference values of `fixtures/make_statistics.py`.
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
    pub(crate) exact: bool,
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
