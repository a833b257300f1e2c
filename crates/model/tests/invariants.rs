//! Equalities that must hold whatever the weights are.

mod common;

use std::rc::Rc;

use common::{
    ALL, BF16, CPU, F32, ORACLES, Oracle, cpu, difference, difference_of, for_each,
    for_each_setting,
};
use mlx_rs::ops::indexing::TryIndexOp;
use model::{
    Array,
    cache::Cache,
    data::{Batch, BatchOptions, Batches, Dataset, Format, Order, Sample},
    generate::{Decoder, Forward, Sampling},
    lfm2::{Lfm2, sequence_logits},
    lora::{Adapters, LoraConfig},
    train::{self, Optimizer, StepOptions, Trainer},
};

fn fresh(model: &Lfm2, dropout: f64) -> Adapters {
    let config = LoraConfig {
        rank: 4,
        scale: 2.0,
        dropout,
        layers: None,
        targets: vec!["all".into()],
    };
    Adapters::new(model.shape(), config, 11).unwrap()
}

fn floats(array: &Array) -> Vec<f32> {
    array.to_vec_cast::<f32>().unwrap()
}

/// A batch of one row of `length` tokens.
fn batch(length: usize) -> Batch {
    let tokens = (0..length).map(|i| 3 + (i as u32 * 7) % 60).collect();
    let sample = Sample {
        tokens,
        offset: 5,
        fields: 1,
        line: 1,
    };
    let data = Dataset {
        name: "test".into(),
        sha256: String::new(),
        format: Format::Text,
        samples: vec![sample],
    };
    let options = BatchOptions {
        order: Order::MlxLm,
        size: 1,
        max_seq_length: 512,
        seed: 0,
    };
    Batches::new(&data, 64, options).unwrap().next_batch()
}

/// Logits `[L, vocab]` from cached calls with the prompt cut at the given places.
fn logits_in_pieces(model: &Lfm2, ids: &[u32], cuts: &[usize]) -> Array {
    let mut cache = Cache::new(model.shape());
    let mut parts = Vec::new();
    let mut start = 0;
    for &end in cuts.iter().chain([&ids.len()]) {
        parts.push(sequence_logits(model, None, &ids[start..end], Some(&mut cache)).unwrap());
        start = end;
    }
    assert_eq!(cache.len(), ids.len());
    mlx_rs::ops::concatenate(&parts, 0).unwrap()
}

#[test]
fn prefill_in_one_shot_in_chunks_and_token_by_token_agree() {
    for_each(&ALL, |name, oracle| {
        let model = oracle.model();
        // Longer than one growth step of the cache.
        let ids: Vec<u32> = (0..300).map(|i| (i * 13 + 5) % 64).collect();
        let whole = sequence_logits(&model, None, &ids, None).unwrap();
        let every: Vec<usize> = (1..ids.len()).collect();
        for cuts in [&[][..], &[1, 2, 40, 256, 257], &every] {
            let pieces = logits_in_pieces(&model, &ids, cuts);
            let what = format!("{name} in {} pieces", cuts.len() + 1);
            oracle.setting.close(&what, &pieces, &whole, 1e-5);
        }
    });
}

#[test]
fn decoding_past_every_size_of_the_cache_continues_the_prompt() {
    for_each_setting(&ALL, |setting| {
        let model = Oracle::open(ORACLES[0], setting).model();
        let ids: Vec<u32> = (0..2060).map(|i| (i * 13 + i / 64 + 5) % 64).collect();
        let whole = sequence_logits(&model, None, &ids, None).unwrap();
        // Token by token over 1,024 positions and the spare ones behind them, where the cache stops
        // being a short one; over its first growth as a long one; and over 2,048.
        for (begin, end) in [(1020, 1040), (1275, 1290), (2040, 2060)] {
            let every: Vec<usize> = (begin..end).collect();
            let pieces = logits_in_pieces(&model, &ids[..end], &every);
            let expected = whole.try_index(..end as i32).unwrap();
            setting.close(&format!("decoding up to {end}"), &pieces, &expected, 1e-5);
        }
    });
}

#[test]
fn padding_does_not_change_the_loss() {
    for_each(&ALL, |name, oracle| {
        let (model, adapters, batch) = (oracle.model(), oracle.adapters(), batch(40));
        let loss = train::evaluate(&model, &adapters, &batch).unwrap();
        let zeros = Array::from_slice(&[0_i32; 96], &[1, 96]);
        let padded = Batch {
            tokens: mlx_rs::ops::concatenate(&[&batch.tokens, &zeros], 1).unwrap(),
            ..batch.clone()
        };
        let longer = train::evaluate(&model, &adapters, &padded).unwrap();
        let what = format!("padded loss of {name}");
        oracle.setting.close_losses(&what, &[longer], &[loss], 1e-6);
    });
}

#[test]
fn positions_without_logits_change_neither_loss_nor_gradients() {
    for_each(&ALL, |name, oracle| {
        let (model, adapters) = (oracle.model(), oracle.adapters());
        let counts = batch(40).counts;
        let tokens: Vec<i32> = (0..2 * 97).map(|i| 3 + (i * 7) % 60).collect();
        let some = Batch::new(&tokens, &[40, 70, 33, 58], counts);
        let positions: Vec<i32> = (1..97).collect();
        let all = Batch {
            scored: Array::from_slice(&positions, &[96]),
            ..some.clone()
        };
        if oracle.setting == CPU {
            assert_eq!(some.scored.dim(0), 48);
        }
        let losses = [&some, &all].map(|it| train::evaluate(&model, &adapters, it).unwrap());
        let what = format!("loss of some positions of {name}");
        oracle
            .setting
            .close_losses(&what, &losses[..1], &losses[1..], 1e-6);
        let [some, all] = [some, all].map(|it| train::gradients(&model, &adapters, &it).unwrap());
        let what = format!("gradients of some positions of {name}");
        let pairs = some.iter().zip(&all);
        oracle.setting.close_tensors(&what, pairs, 1e-5);
    });
}

#[test]
fn a_fresh_adapter_changes_nothing() {
    for_each(&ALL, |name, oracle| {
        let model = oracle.model();
        let adapters = fresh(&model, 0.0);
        assert!(floats(&adapters.params()[0]).iter().any(|&a| a != 0.0));
        let ids = oracle.ids("prompt");
        let with = sequence_logits(&model, Some(&adapters), &ids, None).unwrap();
        let without = sequence_logits(&model, None, &ids, None).unwrap();
        let what = format!("{name} with fresh adapters");
        oracle.setting.close(&what, &with, &without, 0.0);
    });
}

#[test]
fn fused_equals_unfused() {
    for_each(&ALL, |name, oracle| {
        let (model, adapters) = (oracle.model(), oracle.adapters());
        let ids = oracle.ids("prompt");
        let unfused = sequence_logits(&model, Some(&adapters), &ids, None).unwrap();
        let fused = sequence_logits(&model.fuse(&adapters).unwrap(), None, &ids, None).unwrap();
        let what = format!("{name} fused");
        oracle.setting.close(&what, &fused, &unfused, 1e-4);
        let base = sequence_logits(&model, None, &ids, None).unwrap();
        assert!(
            difference(&unfused, &base) > 1e-3,
            "the adapters do something"
        );
    });
}

#[test]
fn training_leaves_the_base_weights_alone_and_lowers_the_loss() {
    for_each(&ALL, |name, oracle| {
        let what = format!("{}, {name}", oracle.setting);
        let model = Rc::new(oracle.model());
        let before: Vec<_> = model.tensors().unwrap().values().map(floats).collect();
        let adapters = fresh(&model, 0.05);
        let first = adapters.clone();
        let optimizer = Optimizer::adam(1e-2);
        let options = StepOptions::default();
        let mut trainer = Trainer::new(model.clone(), adapters, optimizer, 3, options).unwrap();
        let batch = batch(40);
        let start = trainer.step(&batch).unwrap();
        let end = (0..20)
            .map(|_| trainer.step(&batch).unwrap())
            .last()
            .unwrap();
        assert!(end < start, "{what}: {start} to {end}");
        let after: Vec<_> = model.tensors().unwrap().values().map(floats).collect();
        assert_eq!(before, after, "{what}");
        for (trained, fresh) in trainer.adapters().params().iter().zip(first.params()) {
            assert_ne!(floats(trained), floats(fresh), "{what}");
        }
    });
}

#[test]
fn warming_up_trains_nothing() {
    for_each_setting(&F32, |setting| {
        let model = Rc::new(Oracle::open("block-spelling", setting).model());
        let losses = |warm_ups: usize| -> Vec<f32> {
            let adapters = fresh(&model, 0.1);
            let optimizer = Optimizer::adam(1e-2);
            let options = StepOptions {
                clear_cache: true,
                ..StepOptions::default()
            };
            let mut trainer = Trainer::new(model.clone(), adapters, optimizer, 3, options).unwrap();
            let batch = batch(40);
            (0..warm_ups).for_each(|_| trainer.warm_up(&batch).unwrap());
            (0..4).map(|_| trainer.step(&batch).unwrap()).collect()
        };
        setting.close_losses("losses after warming up", &losses(3), &losses(0), 0.0);
    });
}

#[test]
fn dropout_changes_the_loss_from_step_to_step_and_keeps_its_mean() {
    for_each_setting(&F32, |setting| {
        let oracle = Oracle::open("layer-types", setting);
        let model = Rc::new(oracle.model());
        let batch = batch(40);
        let losses = |dropout: f64| -> Vec<f32> {
            let mut adapters = oracle.adapters();
            adapters.set_dropout(dropout).unwrap();
            // A learning rate of zero isolates the dropout.
            let optimizer = Optimizer::adam(0.0);
            let options = StepOptions::default();
            let mut trainer = Trainer::new(model.clone(), adapters, optimizer, 3, options).unwrap();
            (0..200).map(|_| trainer.step(&batch).unwrap()).collect()
        };
        let fixed = losses(0.0);
        let same = difference_of(&fixed, &[fixed[0]; 200]);
        setting.close_losses("losses without dropout", &fixed, &[fixed[0]; 200], 0.0);
        let dropped = losses(0.2);
        let apart = difference_of(&dropped, &[dropped[0]; 200]);
        assert!(apart > same, "{setting}: {apart} and {same}");
        // Inverted dropout keeps the expectation of the adapters' output, to first order the loss.
        let mean = dropped.iter().sum::<f32>() / dropped.len() as f32;
        setting.close_losses("mean loss with dropout", &[mean], &fixed[..1], 0.02);
    });
}

#[test]
fn adapters_survive_saving_and_loading() {
    for_each(&F32, |name, oracle| {
        let dir = tempfile::tempdir().unwrap();
        let adapters = oracle.adapters();
        adapters.save(&dir.path().join("new/adapters")).unwrap();
        let loaded = Adapters::load(&oracle.shape(), &dir.path().join("new/adapters")).unwrap();
        assert_eq!(loaded.specs(), adapters.specs(), "{name}");
        for (a, b) in loaded.params().iter().zip(adapters.params()) {
            assert_eq!(floats(a), floats(b), "{name}");
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_tokens_and_another_gives_others() {
    for_each_setting(&F32, |setting| {
        let oracle = Oracle::open("layer-types", setting);
        let forward = Forward::new(Rc::new(oracle.model()), None, false);
        let tokens = |seed| -> Vec<u32> {
            let sampling = Sampling {
                temperature: 1.5,
                top_p: 0.95,
                seed,
            };
            let prompt = oracle.ids("prompt");
            let (mut decoder, first) = Decoder::start(&forward, &prompt, sampling).unwrap();
            let rest = (0..30).map(|_| decoder.next_token().unwrap());
            std::iter::once(first).chain(rest).collect()
        };
        assert_eq!(tokens(1), tokens(1), "{setting}");
        assert_ne!(tokens(1), tokens(2), "{setting}");
    });
}

#[test]
fn a_token_outside_the_vocabulary_is_refused() {
    let _session = cpu();
    let model = Rc::new(Oracle::open("block-spelling", CPU).model());
    let forward = Forward::new(model, None, false);
    let error = Decoder::start(&forward, &[1, 96], Sampling::GREEDY)
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "token id 96 at position 1 is outside the model's vocabulary of 96 (ids 0 to 95); \
         use ids, or a tokenizer, that belong to this model"
    );
    let error = Decoder::start(&forward, &[], Sampling::GREEDY)
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "the prompt holds no token");
}

#[test]
fn decoding_in_bf16_keeps_the_type() {
    for_each(&BF16, |name, oracle| {
        let model = oracle.model();
        let mut cache = Cache::new(model.shape());
        let adapters = fresh(&model, 0.0);
        let logits = sequence_logits(&model, Some(&adapters), &[1, 2, 3], Some(&mut cache));
        assert_eq!(logits.unwrap().dtype(), model::Dtype::Bfloat16, "{name}");
    });
}
