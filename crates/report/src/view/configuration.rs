//! What was run: every choice, the data, and where the trainable parameters come from.

use std::collections::BTreeMap;

use metrics::checks::Checks;
use metrics::record::{AdapterShape, Data, WindowSpec};
use metrics::store::Record;
use metrics::summary::Summary;
use serde::Serialize;

use super::fields::{field, fields};
use super::{NOT_RECORDED, facts, program, status, weights};
use crate::markdown::{Align, escape, table};
use crate::units::{self, NOT_MEASURED};

#[derive(Debug, Serialize)]
pub(super) struct Adapters {
    table: String,
    rank: u32,
    derived: String,
    counted: String,
    equal: bool,
}

/// Every choice of the run, and what it was built from.
pub(super) fn configuration(record: &Record, summary: &Summary) -> String {
    let start = &record.start;
    let (config, model, build) = (&start.config, &start.model, &start.lfmark);
    let (lora, optimizer, generation) = (&config.lora, &config.optimizer, &config.generation);
    let hash = |hash: &Option<String>| hash.as_deref().map_or(NOT_RECORDED.to_owned(), escape);
    let yes_no = |flag| if flag { "yes" } else { "no" };
    let commit = match (&build.commit, build.dirty) {
        (None, _) => NOT_RECORDED.to_owned(),
        (Some(commit), Some(false)) => escape(commit),
        (Some(commit), Some(true)) => format!("{}, with uncommitted changes", escape(commit)),
        (Some(commit), None) => {
            format!(
                "{}, not known whether with uncommitted changes",
                escape(commit)
            )
        }
    };
    let sampling = if generation.temperature == 0.0 {
        "greedy".to_owned()
    } else {
        format!(
            "temperature {}, top-p {}",
            units::setting(generation.temperature),
            units::setting(generation.top_p)
        )
    };
    let windows: Vec<_> = config.windows.iter().map(WindowSpec::to_string).collect();
    let checks = generation.checks.iter().flatten();
    let checked = checks
        .filter(|checks| **checks != Checks::default())
        .count();
    facts([
        ("Run", escape(&start.run_id), field("start.run_id")),
        (
            "Started",
            units::utc(start.started_unix_ms),
            field("start.started_unix_ms"),
        ),
        (
            "Status",
            status(summary).ended.to_owned(),
            field("end.status"),
        ),
        (
            "Model",
            format!(
                "{}, {} parameters",
                escape(&model.name),
                units::count(model.parameters)
            ),
            fields(&["start.model.name", "start.model.parameters"]),
        ),
        (
            "Architecture",
            format!(
                "{} layers ({} attention, {} short convolution), hidden size {}, FFN size {}, vocabulary {}",
                model.layers,
                model.attention_layers,
                model.layers.saturating_sub(model.attention_layers),
                units::count(model.hidden_size.into()),
                units::count(model.ffn_size.into()),
                units::count(model.vocab_size.into()),
            ),
            field("start.model.layers"),
        ),
        (
            "Base weights",
            weights(model).source,
            fields(&[
                "start.model.weights",
                "start.model.revision",
                "start.model.quantization",
            ]),
        ),
        (
            "Base weights in memory",
            units::bytes(model.weight_bytes),
            field("start.model.weight_bytes"),
        ),
        (
            "Platform",
            platform(record),
            fields(&[
                "start.machine.chip",
                "start.machine.cpu",
                "start.machine.memory_bytes",
            ]),
        ),
        (
            "Framework",
            format!(
                "MLX {}, {} back end",
                escape(&start.mlx.version),
                escape(&start.mlx.backend)
            ),
            fields(&["start.mlx.version", "start.mlx.backend"]),
        ),
        (
            "LoRA",
            format!(
                "rank {}, scale {} (alpha {} / rank {}), dropout {}",
                lora.rank,
                units::setting(lora.scale),
                // The record holds the quotient; the product of two short decimals is rounded
                // back to one.
                units::setting((lora.scale * f64::from(lora.rank) * 1e9).round() / 1e9),
                lora.rank,
                units::setting(lora.dropout),
            ),
            field("start.config.lora"),
        ),
        (
            "LoRA modules",
            format!(
                "{} in the last {} layers ({} adapted modules)",
                list(lora.targets.iter().map(|target| escape(target))),
                lora.layers,
                model.adapters.len(),
            ),
            field("start.config.lora"),
        ),
        (
            "Trainable parameters",
            format!(
                "{} ({} of the base model)",
                units::count(model.trainable_parameters),
                units::share(model.trainable_parameters as f64, model.parameters as f64),
            ),
            field("start.model.trainable_parameters"),
        ),
        (
            "Optimizer",
            format!(
                "{}, learning rate {}, beta {} and {}, epsilon {}, weight decay {}, bias correction: {}",
                escape(&optimizer.name),
                units::setting(optimizer.learning_rate),
                units::setting(optimizer.beta1),
                units::setting(optimizer.beta2),
                units::setting(optimizer.eps),
                units::setting(optimizer.weight_decay),
                yes_no(optimizer.bias_correction),
            ),
            field("start.config.optimizer"),
        ),
        (
            "Iterations",
            units::count(config.iterations.into()),
            field("start.config.iterations"),
        ),
        (
            "Batch size",
            units::count(config.batch_size.into()),
            field("start.config.batch_size"),
        ),
        (
            "Batch order",
            match config.batch_order.as_str() {
                "mlx_lm" => "as mlx-lm's command batches".to_owned(),
                "length" => "samples of similar length together".to_owned(),
                other => escape(other),
            },
            field("start.config.batch_order"),
        ),
        (
            "Rows",
            format!(
                "at most {} tokens, padded to one more than a multiple of {}, prompt masked: {}",
                units::count(config.max_seq_length.into()),
                units::count(config.pad_to.into()),
                yes_no(config.mask_prompt),
            ),
            fields(&[
                "start.config.max_seq_length",
                "start.config.pad_to",
                "start.config.mask_prompt",
            ]),
        ),
        (
            "Training data",
            data(&start.data),
            fields(&[
                "start.data.name",
                "start.data.format",
                "start.data.sample_tokens",
                "start.data.truncated_samples",
            ]),
        ),
        (
            "Training data SHA-256",
            escape(&start.data.sha256),
            field("start.data.sha256"),
        ),
        ("Seed", config.seed.to_string(), field("start.config.seed")),
        (
            "Number type",
            escape(&config.dtype),
            field("start.config.dtype"),
        ),
        (
            "Device",
            escape(&config.device),
            field("start.config.device"),
        ),
        (
            "Compilation",
            match (config.compile, config.fused_kernels) {
                (true, Some(true)) => "whole training step, kernels fused",
                (true, _) => "whole training step",
                (false, _) => "off",
            }
            .to_owned(),
            fields(&["start.config.compile", "start.config.fused_kernels"]),
        ),
        (
            "MLX buffer cache",
            if config.clear_cache {
                "cleared after every step"
            } else {
                "kept between steps"
            }
            .to_owned(),
            field("start.config.clear_cache"),
        ),
        (
            "Memory wired for Metal",
            wired(start.wired()),
            field("start.config.wired"),
        ),
        (
            "Windows",
            if windows.is_empty() {
                "none".to_owned()
            } else {
                windows.join(", ")
            },
            field("start.config.windows"),
        ),
        (
            "Generation",
            format!(
                "{} prompts, {} with checks, at most {} tokens each, {sampling}, stop tokens ignored: \
                 {}, chat template: {}",
                generation.prompts.len(),
                checked,
                units::count(generation.max_tokens.into()),
                yes_no(generation.ignore_eos),
                yes_no(generation.chat_template),
            ),
            field("start.config.generation"),
        ),
        (
            "Program",
            format!("{}, {} build", program(start), escape(&build.profile)),
            fields(&["start.lfmark.version", "start.lfmark.profile"]),
        ),
        (
            "Commit",
            commit,
            fields(&["start.lfmark.commit", "start.lfmark.dirty"]),
        ),
        (
            "Compiler",
            build
                .rustc
                .as_deref()
                .map_or(NOT_RECORDED.to_owned(), escape),
            field("start.lfmark.rustc"),
        ),
        (
            "MLX library SHA-256",
            hash(&start.mlx.library_sha256),
            field("start.mlx.library_sha256"),
        ),
        (
            "config.json SHA-256",
            hash(&model.config_sha256),
            field("start.model.config_sha256"),
        ),
        (
            "tokenizer.json SHA-256",
            hash(&model.tokenizer_sha256),
            field("start.model.tokenizer_sha256"),
        ),
    ])
}

fn wired(limit: &str) -> String {
    match limit {
        "off" => "none".to_owned(),
        "recommended" => "the recommended working set".to_owned(),
        bytes => match bytes.parse() {
            Ok(bytes) => format!("up to {}", units::bytes(bytes)),
            Err(_) => escape(bytes),
        },
    }
}

fn platform(record: &Record) -> String {
    let machine = &record.start.machine;
    let name = machine
        .chip
        .as_ref()
        .or(machine.cpu.as_ref())
        .unwrap_or(&machine.arch);
    let memory = machine
        .memory_bytes
        .map_or(format!("memory {NOT_MEASURED}"), |bytes| {
            format!("{} memory", units::bytes(bytes))
        });
    let version = machine
        .os_version
        .as_deref()
        .map_or(String::new(), |v| format!(" {}", escape(v)));
    format!(
        "{}, {memory}, {}{version}",
        escape(name),
        escape(&machine.os)
    )
}

fn data(data: &Data) -> String {
    let tokens = &data.sample_tokens;
    let total: u64 = tokens.iter().map(|&count| u64::from(count)).sum();
    let lengths = match (tokens.iter().min(), tokens.iter().max()) {
        (Some(shortest), Some(longest)) => format!(
            "{} samples of {} to {} tokens (mean {}, {} in all), {} truncated",
            units::count(tokens.len() as u64),
            units::count((*shortest).into()),
            units::count((*longest).into()),
            units::fixed(total as f64 / tokens.len() as f64, 1),
            units::count(total),
            units::count(data.truncated_samples.into()),
        ),
        _ => "no samples".to_owned(),
    };
    format!(
        "{}, format {}, {lengths}",
        escape(&data.name),
        escape(&data.format)
    )
}

/// Trainable parameters as a sum over the adapters: `rank * inputs + outputs * rank` for each.
pub(super) fn adapters(record: &Record) -> Adapters {
    let model = &record.start.model;
    let rank = record.start.config.lora.rank;
    let parameters = |shape: &AdapterShape| {
        u64::from(rank).saturating_mul(u64::from(shape.inputs) + u64::from(shape.outputs))
    };
    // Modules of the same place and shape in several layers share a row.
    let mut groups: BTreeMap<(String, u32, u32), Vec<&AdapterShape>> = BTreeMap::new();
    for shape in &model.adapters {
        let key = (without_layer(&shape.name), shape.inputs, shape.outputs);
        groups.entry(key).or_default().push(shape);
    }
    let rows: Vec<_> = groups
        .iter()
        .map(|((name, inputs, outputs), shapes)| {
            let each = parameters(shapes[0]);
            [
                escape(name),
                list(
                    shapes
                        .iter()
                        .filter_map(|shape| layer(&shape.name))
                        .map(str::to_owned),
                ),
                units::count(shapes.len() as u64),
                units::count((*inputs).into()),
                units::count((*outputs).into()),
                format!(
                    "{rank} × ({} + {}) = {}",
                    units::count((*inputs).into()),
                    units::count((*outputs).into()),
                    units::count(each)
                ),
                units::count(each.saturating_mul(shapes.len() as u64)),
            ]
        })
        .collect();
    let derived = model
        .adapters
        .iter()
        .map(parameters)
        .fold(0, u64::saturating_add);
    Adapters {
        table: table(
            [
                ("Module", Align::Left),
                ("Layers", Align::Left),
                ("Adapters", Align::Right),
                ("Inputs", Align::Right),
                ("Outputs", Align::Right),
                ("Parameters of one", Align::Right),
                ("Parameters", Align::Right),
            ],
            &rows,
        ),
        rank,
        derived: units::count(derived),
        counted: units::count(model.trainable_parameters),
        equal: derived == model.trainable_parameters,
    }
}

/// The first number in a module's path: 8 in `model.layers.8.self_attn.q_proj`.
fn layer(name: &str) -> Option<&str> {
    name.split('.').find(|part| is_number(part))
}

/// A module's path with every number in it written as `*`: `model.layers.*.self_attn.q_proj`.
fn without_layer(name: &str) -> String {
    let parts = name
        .split('.')
        .map(|part| if is_number(part) { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}
