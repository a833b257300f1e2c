//! The model against values made by pinned Python mlx-lm (`fixtures/make_oracle.py`).

mod common;

use std::rc::Rc;

use common::{ALL, BF16, CPU, F32, Oracle, cpu, fixtures, for_each, for_each_setting};
use model::{
    Array,
    data::{BatchOptions, Batches, Dataset, Format, Order, Sample},
    generate::{Decoder, Forward, Sampling},
    lfm2::{Lfm2, sequence_logits},
    lora::Adapters,
    train::{self, Optimizer, StepOptions, Trainer},
};
use serde_json::Value;

/// Logits `[rows, L, vocab]` of all but the last column of the golden batch, row by row.
fn batch_logits(model: &Lfm2, adapters: Option<&Adapters>, oracle: &Oracle) -> Array {
    let tokens = oracle.ids("tokens");
    let width = oracle.golden["tokens"].dim(1) as usize;
    let rows: Vec<Array> = tokens
        .chunks_exact(width)
        .map(|row| sequence_logits(model, adapters, &row[..width - 1], None).unwrap())
        .collect();
    mlx_rs::ops::stack(&rows, 0).unwrap()
}

#[test]
fn logits_agree() {
    for_each(&ALL, |name, oracle| {
        let model = oracle.model();
        let adapters = oracle.adapters();
        let check = |what: &str, actual: Array| {
            let expected = &oracle.golden[what];
            let what = format!("{what} of {name}");
            oracle.setting.close(&what, &actual, expected, 1e-4);
        };
        check("logits", batch_logits(&model, None, oracle));
        check("logits_lora", batch_logits(&model, Some(&adapters), oracle));
        check(
            "logits_fused",
            batch_logits(&model.fuse(&adapters).unwrap(), None, oracle),
        );
    });
}

#[test]
fn sixteen_bit_checkpoints_load_with_their_own_values() {
    for_each_setting(&ALL, |setting| {
        let oracle = Oracle::open("block-spelling", setting);
        for (file, golden) in [
            ("weights-bf16.safetensors", "logits_bf16_weights"),
            ("weights-f16.safetensors", "logits_f16_weights"),
        ] {
            let logits = batch_logits(&oracle.model_from(file), None, &oracle);
            setting.close(golden, &logits, &oracle.golden[golden], 1e-4);
        }
    });
}

#[test]
fn loss_and_every_gradient_agree() {
    for_each(&ALL, |name, oracle| {
        let (model, adapters, batch) = (oracle.model(), oracle.adapters(), oracle.batch());
        let loss = train::evaluate(&model, &adapters, &batch).unwrap();
        let expected = oracle.golden["loss"].item_exact::<f32>();
        let what = format!("loss of {name}");
        oracle
            .setting
            .close_losses(&what, &[loss], &[expected], 1e-5);

        let gradients = train::gradients(&model, &adapters, &batch).unwrap();
        let names = adapter_tensor_names(&adapters);
        let what = format!("gradients of {name}");
        oracle.close_tensors(&what, "grad.", &names, &gradients);
    });
}

/// Names of the parameters in the order in which the adapters hold them.
fn adapter_tensor_names(adapters: &Adapters) -> Vec<String> {
    let pair = |spec: &model::lora::AdapterSpec| {
        [
            format!("{}.lora_a", spec.name),
            format!("{}.lora_b", spec.name),
        ]
    };
    adapters.specs().iter().flat_map(pair).collect()
}

/// Ten steps on the golden batch: losses before each step, and the adapters after them.
fn ten_steps(oracle: &Oracle, optimizer: Optimizer, compile: bool) -> (Vec<f32>, Adapters) {
    let options = StepOptions {
        compile,
        clear_cache: false,
    };
    let model = Rc::new(oracle.model());
    let mut trainer = Trainer::new(model, oracle.adapters(), optimizer, 0, options).unwrap();
    let batch = oracle.batch();
    let losses = (0..10).map(|_| trainer.step(&batch).unwrap()).collect();
    (losses, trainer.adapters())
}

#[test]
fn ten_steps_of_adam_and_adamw_agree_compiled_or_not() {
    for_each(&ALL, |name, oracle| {
        for (prefix, optimizer, compile) in [
            ("adam", Optimizer::adam(1e-3), false),
            ("adam", Optimizer::adam(1e-3), true),
            ("adamw", Optimizer::adamw(1e-3, 0.01), false),
            ("adamw", Optimizer::adamw(1e-3, 0.01), true),
        ] {
            let (losses, adapters) = ten_steps(oracle, optimizer, compile);
            let expected = oracle.golden[&format!("{prefix}_losses")]
                .to_vec_cast::<f32>()
                .unwrap();
            let compiled = if compile { "compiled " } else { "" };
            let what = |part| format!("{part} of ten {compiled}steps of {prefix} of {name}");
            let setting = oracle.setting;
            setting.close_losses(&what("losses"), &losses, &expected, 1e-4);
            // Adam divides a gradient by its own size, so that one that is rounding moves an adapter
            // as far as any other: 16 bits show in the losses alone.
            if setting.is_f32() {
                let names = adapter_tensor_names(&adapters);
                let prefix = format!("{prefix}_final.");
                oracle.close_tensors(&what("adapters"), &prefix, &names, adapters.params());
            }
        }
    });
}

/// As many greedy tokens as are golden.
fn greedy(
    model: &Rc<Lfm2>,
    adapters: Option<&Rc<Adapters>>,
    oracle: &Oracle,
    compile: bool,
) -> Vec<u32> {
    let forward = Forward::new(Rc::clone(model), adapters.cloned(), compile);
    let prompt = oracle.ids("prompt");
    let (mut decoder, first) = Decoder::start(&forward, &prompt, Sampling::GREEDY).unwrap();
    let rest = (1..64).map(|_| decoder.next_token().unwrap());
    std::iter::once(first).chain(rest).collect()
}

#[test]
fn sixty_four_greedy_tokens_are_identical() {
    for_each(&F32, |name, oracle| {
        let model = Rc::new(oracle.model());
        let setting = oracle.setting;
        for (golden, adapters) in [
            ("greedy", None),
            ("greedy_lora", Some(Rc::new(oracle.adapters()))),
        ] {
            for compile in [false, true] {
                let tokens = greedy(&model, adapters.as_ref(), oracle, compile);
                let what = format!("{setting}, {name} {golden} {compile}");
                assert_eq!(tokens, oracle.ids(golden), "{what}");
            }
        }
    });
}

#[test]
fn greedy_tokens_in_16_bits_are_the_best_ones_within_the_tolerance() {
    for_each(&BF16, |name, oracle| {
        let model = Rc::new(oracle.model());
        let exact = Oracle::open(name, CPU).model();
        let adapters = Rc::new(oracle.adapters());
        for compile in [false, true] {
            let mut ids = oracle.ids("prompt");
            let begin = ids.len();
            ids.extend(greedy(&model, Some(&adapters), oracle, compile));
            let logits = sequence_logits(&exact, Some(&adapters), &ids, None).unwrap();
            let width = logits.dim(1) as usize;
            let logits = logits.to_vec_cast::<f32>().unwrap();
            let behind = ids[begin..].iter().enumerate().map(|(place, &id)| {
                let row = &logits[(begin + place - 1) * width..][..width];
                let best = row.iter().copied().fold(f32::MIN, f32::max);
                f64::from((best - row[id as usize]) / best)
            });
            let compiled = if compile { "compiled " } else { "" };
            let what = format!("{compiled}greedy tokens of {name}");
            oracle
                .setting
                .within(&what, behind.fold(0.0, f64::max), 0.125);
        }
    });
}

#[test]
fn batches_are_padded_cut_and_grouped_alike() {
    let _session = cpu();
    let text = std::fs::read_to_string(fixtures().join("oracle/batches.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 4);
    for case in &cases {
        let title = case["title"].as_str().unwrap();
        let size = case["batch_size"].as_u64().unwrap() as usize;
        let max = case["max_seq_length"].as_u64().unwrap() as usize;
        let order = match case["cached"].as_bool().unwrap() {
            true => Order::MlxLm,
            false => Order::Length,
        };
        let data = Dataset {
            name: title.into(),
            sha256: String::new(),
            format: Format::Text,
            samples: case["samples"]
                .as_array()
                .unwrap()
                .iter()
                .map(sample)
                .collect(),
        };
        let options = BatchOptions {
            order,
            size,
            max_seq_length: max,
            seed: 1,
        };
        let mut batches = Batches::new(&data, 1 << 16, options).unwrap();

        let expected = case["batches"].as_array().unwrap();
        let mut remaining: Vec<(Vec<i64>, Vec<i64>)> = expected
            .iter()
            .map(|batch| {
                let (offsets, lengths) = (flat(&batch["offsets"]), flat(&batch["lengths"]));
                let bounds = offsets.iter().zip(&lengths).flat_map(|(&o, &l)| [o, l]);
                (flat(&batch["rows"]), bounds.collect())
            })
            .collect();
        // Two passes over the data: each must give every batch once.
        for _pass in 0..2 {
            let all = remaining.clone();
            for _ in 0..expected.len() {
                let batch = batches.next_batch();
                let ids = |array: &Array| -> Vec<i64> { array.to_vec_cast::<i64>().unwrap() };
                let found = (ids(&batch.tokens), ids(&batch.bounds));
                let place = remaining.iter().position(|b| *b == found);
                remaining
                    .remove(place.unwrap_or_else(|| panic!("{title}: {found:?} is not expected")));
                let width = batch.tokens.dim(1);
                assert_eq!(
                    batch.counts.padded_tokens as i32,
                    batch.tokens.dim(0) * (width - 1)
                );
            }
            assert!(remaining.is_empty(), "{title}");
            remaining = all;
        }
    }
}

fn sample(value: &Value) -> Sample {
    Sample {
        tokens: flat(&value["tokens"]).iter().map(|&id| id as u32).collect(),
        offset: value["offset"].as_u64().unwrap() as usize,
        fields: value["fields"].as_u64().unwrap_or(1) as usize,
        line: 1,
    }
}

fn flat(value: &Value) -> Vec<i64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_i64().unwrap()],
    }
}

#[test]
fn loss_tokens_counted_on_the_host_are_those_of_mlx_lm() {
    for_each(&[CPU], |name, oracle| {
        let bounds = oracle.golden["lengths"].to_vec_cast::<i64>().unwrap();
        let data = Dataset {
            name: name.into(),
            sha256: String::new(),
            format: Format::Text,
            samples: bounds
                .chunks_exact(2)
                .map(|b| Sample {
                    tokens: vec![1; b[1] as usize],
                    offset: b[0] as usize,
                    fields: 1,
                    line: 1,
                })
                .collect(),
        };
        let options = BatchOptions {
            order: Order::Length,
            size: 2,
            max_seq_length: 2048,
            seed: 0,
        };
        let mut batches = Batches::new(&data, 96, options).unwrap();
        let counted = batches.next_batch().counts.loss_tokens;
        assert_eq!(counted, oracle.golden["ntoks"].item_cast::<u32>(), "{name}");
    });
}
