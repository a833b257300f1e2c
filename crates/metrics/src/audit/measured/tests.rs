//! Records that pass, and what makes each check fail.

use std::path::Path;
use std::sync::LazyLock;

use super::*;
use crate::engine::{self, Truth};
use crate::record::{AdapterShape, Packed, Quantization};
use crate::summary::summarize;
use crate::{store, window};

/// A run of LFM2-1.2B's shape on one NVIDIA H200.
fn committed() -> Record {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/records/h200-lfm2-1.2b");
    store::read(&path).unwrap()
}

/// Its first fifty iterations: five passes over the data.
fn short() -> Record {
    static RECORD: LazyLock<Record> = LazyLock::new(|| {
        let mut record = committed();
        record.iterations.truncate(50);
        record.start.config.iterations = 50;
        record.start.config.windows = window::parse("1-10,10-30,30-50").unwrap();
        record
    });
    RECORD.clone()
}

fn failed(audit: &Audit) -> Vec<&str> {
    let failed = audit
        .outcomes()
        .filter(|(_, outcome)| *outcome == Outcome::Fail);
    failed.map(|(id, _)| id).collect()
}

/// Changes the short record, or its summary, and compares what fails with what is due.
fn check(change: impl FnOnce(&mut Record), wrong: impl FnOnce(&mut Summary), expected: &[&str]) {
    let mut raw = short();
    change(&mut raw);
    let mut summary = summarize(&raw);
    wrong(&mut summary);
    assert_eq!(failed(&record(&raw, &summary)), expected);
}

fn change(change: impl FnOnce(&mut Record), expected: &[&str]) {
    check(change, |_| (), expected);
}

fn misstate(wrong: impl FnOnce(&mut Summary), expected: &[&str]) {
    check(|_| (), wrong, expected);
}

fn training(summary: &mut Summary) -> &mut Training {
    summary.training.as_mut().unwrap()
}

#[test]
fn the_committed_run_passes_all_but_what_short_prompts_leave_open() {
    let raw = committed();
    let audit = record(&raw, &summarize(&raw));
    let others: Vec<_> = audit
        .outcomes()
        .filter(|(_, it)| *it != Outcome::Pass)
        .collect();
    assert_eq!(others, [("prompt-length", Outcome::CannotTell)]);
    let of = |id| audit.checks.iter().find(|check| check.id == id).unwrap();
    assert_eq!(
        of("roofline:generation-prompt-1").sentence,
        "Reading the weights once a token takes 830.4 GB/s of 4,800 GB/s, 17.3 %."
    );
    assert_eq!(
        of("memory-floor").left.as_ref().unwrap().text,
        "2,347,496,960 B"
    );
    assert_eq!(of("token-rate").left, of("token-rate").right);
}

#[test]
fn every_record_of_the_pipeline_passes() {
    for (seed, iterations) in (1..).zip([1, 2, 7, 19, 20, 100, 333]) {
        let folder = tempfile::tempdir().unwrap();
        let mut start = engine::start("synthetic", iterations);
        start.model.adapters = vec![AdapterShape {
            name: "model.layers.1.self_attn.q_proj".to_owned(),
            inputs: 64,
            outputs: 64,
        }];
        let truth = Truth::steady(iterations);
        let mut raw = engine::record(&truth, &start, seed, folder.path()).unwrap();
        let audit = record(&raw, &summarize(&raw));
        assert_eq!(failed(&audit), [""; 0], "{iterations} iterations");
        assert!(audit.count(Outcome::Pass) > 12);
        // As well where it was cut off.
        raw.iterations.truncate(iterations as usize / 2);
        raw.end = None;
        assert_eq!(failed(&record(&raw, &summarize(&raw))), [""; 0]);
    }
}

#[test]
fn the_adapters_have_to_give_the_counted_parameters() {
    change(
        |it| it.start.model.trainable_parameters += 1,
        &["trainable-parameters"],
    );
    change(
        |it| it.start.config.lora.rank = 8,
        &["trainable-parameters"],
    );
    let elsewhere = |name: &'static str| {
        move |it: &mut Record| it.start.model.adapters[0].name = name.to_owned()
    };
    change(
        elsewhere("model.layers.7.self_attn.q_proj"),
        &["adapted-modules"],
    );
    change(
        elsewhere("model.layers.16.self_attn.q_proj"),
        &["adapted-modules"],
    );
    change(
        elsewhere("model.layers.8.self_attn.k_proj"),
        &["adapted-modules"],
    );
    change(
        elsewhere("model.layers.8.xself_attn.q_proj"),
        &["adapted-modules"],
    );
}

#[test]
fn weights_take_what_their_type_needs() {
    change(|it| it.start.model.weight_bytes -= 2, &["weight-bytes"]);
    // Of 64,000 values in 16 bits are left: 4 bits each, and a scale and a bias for every 64.
    let quantized = |saved: u64| {
        move |it: &mut Record| {
            it.start.model.weight_bytes -= saved;
            it.start.model.quantization = Some(Quantization {
                on_load: true,
                packed: vec![Packed {
                    bits: 4,
                    group_size: 64,
                    matrices: 2,
                    parameters: 64_000,
                }],
            });
        }
    };
    change(quantized(128_000 - 32_000 - 4 * 1_000), &[]);
    change(quantized(128_000 - 32_000), &["weight-bytes"]);
    change(|it| it.start.config.dtype = "f16".to_owned(), &[]);
    change(
        |it| it.start.config.dtype = "f32".to_owned(),
        &["weight-bytes"],
    );
    change(|it| it.start.config.dtype = "q4".to_owned(), &[]);
}

#[test]
fn rates_have_to_follow_from_the_samples() {
    let more = |rate: &mut Option<f64>| *rate = rate.map(|rate| rate * 1.0001);
    misstate(
        |it| more(&mut training(it).iterations_per_wall_second),
        &["rate-by-wall-time"],
    );
    misstate(
        |it| more(&mut training(it).iterations_per_step_second),
        &["rate-by-step-time", "token-rate", "windows-rate"],
    );
    misstate(
        |it| more(&mut training(it).real_tokens.per_step_second),
        &["token-rate"],
    );
    misstate(|it| training(it).wall_ns = 1, &["steps-in-wall-time"]);
    misstate(
        |it| more(&mut it.generations[0].tokens_per_second),
        &["generation-rate:prompt-1"],
    );
}

#[test]
fn tokens_follow_from_the_data_as_far_as_it_decides_them() {
    // A part of a pass leaves a range, which the mean of 70.1 tokens lies in.
    change(
        |it| it.iterations.truncate(33),
        &["iterations-as-configured"],
    );
    let other = |tokens: u32| {
        move |it: &mut Record| {
            it.start.config.iterations = 49;
            it.iterations.truncate(49);
            it.start.data.sample_tokens = vec![tokens; 10];
        }
    };
    let windows = |it: &mut Record| it.start.config.windows.clear();
    let with = |tokens: u32| {
        move |it: &mut Record| {
            other(tokens)(it);
            windows(it);
        }
    };
    change(with(90), &["token-rate"]);
    change(with(60), &["token-rate"]);
    change(
        |it| it.iterations[3].real_tokens = 97,
        &["token-rate", "token-counts"],
    );
    change(|it| it.iterations[3].loss_tokens = 96, &["token-counts"]);
}

#[test]
fn the_spread_follows_from_the_samples() {
    let wider = |training: &mut Training| training.step.sd = training.step.sd.map(|sd| sd * 2.0);
    misstate(|it| wider(training(it)), &["spread-share"]);
    misstate(
        |it| wider(&mut it.windows[1].training),
        &["spread-share:10-30"],
    );
}

#[test]
fn the_windows_make_the_whole() {
    misstate(
        |it| it.windows[0].training.step_ns += 1_000_000,
        &["windows-time", "windows-rate"],
    );
    misstate(
        |it| it.windows[2].training.peak_bytes -= 1,
        &["windows-peak"],
    );
    // Windows that leave iterations out say nothing of the whole.
    let raw = short();
    let mut summary = summarize(&raw);
    summary.windows.pop();
    let audit = record(&raw, &summary);
    for id in ["windows-time", "windows-rate", "windows-peak"] {
        assert!(
            audit.outcomes().any(|it| it == (id, Outcome::CannotTell)),
            "{id}"
        );
    }
}

#[test]
fn memory_holds_what_has_to_be_in_it_and_fits_the_device() {
    misstate(
        |it| training(it).peak_bytes = 2_347_496_959,
        &["windows-peak", "memory-floor"],
    );
    change(
        |it| it.iterations[7].active_bytes = 2_345_793_023,
        &["active-floor"],
    );
    misstate(
        |it| it.generations[2].peak_bytes = 2_000_000_000,
        &["generation-floor:prompt-3"],
    );
    let peak = summarize(&short()).training.unwrap().peak_bytes;
    change(
        |it| it.start.mlx.device_memory_bytes = Some(peak - 1),
        &["memory-share"],
    );
    change(|it| it.start.mlx.device_memory_bytes = Some(peak), &[]);
    change(|it| it.start.mlx.device_memory_bytes = None, &[]);
}

#[test]
fn generations_keep_to_their_time_and_their_maximum() {
    change(
        |it| it.generations[0].wall_ns = 288_562_277,
        &["generation-time:prompt-1"],
    );
    change(
        |it| it.start.config.generation.max_tokens = 99,
        &["generated-tokens:prompt-1", "generated-tokens:prompt-3"],
    );
}

#[test]
fn more_than_the_chip_has_fails_and_an_unknown_chip_is_left_open() {
    let faster = |it: &mut Record| {
        it.generations[0]
            .token_ns
            .iter_mut()
            .for_each(|ns| *ns /= 20)
    };
    change(faster, &["roofline:generation-prompt-1"]);
    let unknown = |it: &mut Record| {
        faster(it);
        it.start.mlx.device_name = Some("NVIDIA Z900".to_owned());
        it.start.machine.gpu = None;
    };
    change(unknown, &[]);
}

#[test]
fn the_parts_of_the_time_make_the_whole() {
    misstate(|it| it.budget.rest_ns += 1000, &["time-budget"]);
    change(
        |it| it.end.as_mut().unwrap().wall_ns = 70_000_000_000,
        &["time-parts"],
    );
}

#[test]
fn a_complete_run_did_what_was_configured() {
    change(
        |it| it.start.config.iterations = 51,
        &["iterations-as-configured"],
    );
    change(
        |it| it.start.config.generation.prompts.truncate(2),
        &["prompts-as-configured"],
    );
    let interrupted = |it: &mut Record| {
        it.start.config.iterations = 60;
        it.end.as_mut().unwrap().status = Status::Interrupted;
    };
    change(interrupted, &[]);
    let cut_off = |it: &mut Record| {
        it.start.config.iterations = 49;
        it.end = None;
    };
    change(cut_off, &["iterations-as-configured"]);
}

#[test]
fn long_prompts_have_a_rate_of_reading() {
    for (tokens, expected) in [
        (Some(127.0), Outcome::CannotTell),
        (Some(128.0), Outcome::Pass),
        (None, Outcome::CannotTell),
    ] {
        assert_eq!(prompt_length(tokens).outcome, expected);
    }
}

#[test]
fn nothing_measured_leaves_nothing_failed() {
    let mut raw = short();
    raw.iterations.clear();
    raw.generations.clear();
    raw.phases.clear();
    raw.end = None;
    assert_eq!(failed(&record(&raw, &summarize(&raw))), [""; 0]);
}
