//! Checkpoints as transformers and mlx-lm save them, against the values that those compute from
//! them (`fixtures/make_transformers.py`, `fixtures/make_quantized.py`).

mod common;

use std::{fs, path::Path, rc::Rc};

use common::{ALL, BF16, CPU, F32, Oracle, Setting, cpu, fixtures, for_each_setting};
use model::{
    Dtype, Result, export,
    generate::{Decoder, Forward, Sampling},
    lfm2::{Lfm2, sequence_logits},
    load::{self, Loaded, Options, Place},
    lora::Adapters,
    mlx,
    quantization::{BITS, GROUP_SIZES, Packed, Scheme},
    tensors::Tensors,
    tokenizer::Message,
    train::{self, Optimizer, StepOptions, Trainer},
};
use serde_json::{Value, json};

const QUANTIZED: [&str; 3] = ["mlx-4bit", "mlx-8bit", "mlx-mixed"];

const PLAIN: Options = Options {
    dtype: Dtype::Float32,
    seed: 0,
    quantize: None,
};

fn checkpoint(name: &str) -> Oracle {
    checkpoint_in(CPU, name)
}

fn checkpoint_in(setting: Setting, name: &str) -> Oracle {
    Oracle::at(fixtures().join("checkpoints").join(name), setting)
}

fn load_in(oracle: &Oracle) -> Loaded {
    let dtype = oracle.setting.dtype;
    try_load(&oracle.dir, Options { dtype, ..PLAIN }).unwrap()
}

fn try_load(dir: &Path, options: Options) -> Result<Loaded> {
    load::load(&place(dir), options)
}

fn place(dir: &Path) -> Place {
    let found = Place::local(dir.to_str().unwrap()).unwrap();
    found.expect("the folder is there")
}

fn greedy(model: &Rc<Lfm2>, oracle: &Oracle) -> Vec<u32> {
    let prompt = oracle.ids("prompt");
    let forward = Forward::new(Rc::clone(model), None, true);
    let (mut decoder, first) = Decoder::start(&forward, &prompt, Sampling::GREEDY).unwrap();
    let mut tokens = vec![first];
    tokens.extend((1..oracle.ids("greedy").len()).map(|_| decoder.next_token().unwrap()));
    tokens
}

#[test]
fn shards_of_transformers_give_its_prompt_logits_and_tokens() {
    for_each_setting(&ALL, |setting| {
        let oracle = checkpoint_in(setting, "transformers");
        let loaded = load_in(&oracle);
        let chat = [Message::new("user", "What is a shard?")];
        let prompt = loaded.tokenizer.encode_chat(&chat, None, true).unwrap();
        assert_eq!(prompt, oracle.ids("prompt"));
        let logits = sequence_logits(&loaded.model, None, &prompt, None).unwrap();
        setting.close("logits of shards", &logits, &oracle.golden["logits"], 1e-4);
        if setting.is_f32() {
            let tokens = greedy(&loaded.model, &oracle);
            assert_eq!(tokens, oracle.ids("greedy"), "{setting}");
        }
        assert_eq!(loaded.eos_ids, [4]);
        assert!(loaded.packed.is_empty());
        assert_eq!(place(&oracle.dir).stored_dtype().unwrap(), Dtype::Bfloat16);
    });
}

#[test]
fn a_shard_that_is_missing_or_named_twice_is_refused() {
    let _session = cpu();
    let dir = tempfile::tempdir().unwrap();
    let from = checkpoint("transformers").dir;
    let copy = |but: &str| {
        for entry in fs::read_dir(&from).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let _ = fs::remove_file(dir.path().join(name));
            if name != but {
                fs::copy(&path, dir.path().join(name)).unwrap();
            }
        }
    };
    let check = |expected: &str| {
        let error = try_load(dir.path(), PLAIN).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    };
    copy("model-00002-of-00003.safetensors");
    check("model-00002-of-00003.safetensors");
    copy("");
    let index = dir.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace("model-00003", "model-00001")).unwrap();
    check("missing: model.embedding_norm.weight");
    fs::remove_file(&index).unwrap();
    try_load(dir.path(), PLAIN).unwrap();
    fs::copy(
        dir.path().join("model-00003-of-00003.safetensors"),
        dir.path().join("model-00004.safetensors"),
    )
    .unwrap();
    check("twice: model.embedding_norm.weight");
}

/// Runs a check in these settings, but on no GPU of CUDA: MLX 0.32.2's kernel for 4 bits and groups
/// of 64 is wrong there for matrices with 64 inputs, which these small models have.
fn for_each_packed_setting(settings: &[Setting], check: impl Fn(Setting)) {
    for_each_setting(settings, |setting| {
        if mlx::info().unwrap().backend != "cuda" {
            check(setting);
        }
    });
}

/// Runs a check on every quantized model, in every setting.
fn for_each_quantized(check: impl Fn(&str, &Oracle)) {
    for_each_packed_setting(&ALL, |setting| {
        for name in QUANTIZED {
            check(name, &checkpoint_in(setting, name));
        }
    });
}

#[test]
fn quantized_models_compute_what_they_do_in_mlx_lm() {
    for_each_quantized(|name, oracle| {
        let model = load_in(oracle).model;
        let adapters = oracle.adapters();
        let prompt = oracle.ids("prompt");
        let check = |what: &str, model: &Lfm2, adapters: Option<&Adapters>| {
            let logits = sequence_logits(model, adapters, &prompt, None).unwrap();
            let expected = &oracle.golden[what];
            let what = format!("{what} of {name}");
            oracle.setting.close(&what, &logits, expected, 1e-4);
        };
        check("logits", &model, None);
        check("logits_lora", &model, Some(&adapters));
        check("logits_fused", &model.fuse(&adapters).unwrap(), None);
        if oracle.setting.is_f32() {
            let tokens = greedy(&model, oracle);
            assert_eq!(tokens, oracle.ids("greedy"), "{}, {name}", oracle.setting);
        }
    });
}

#[test]
fn adapters_are_trained_over_quantized_weights_as_in_mlx_lm() {
    for_each_quantized(|name, oracle| {
        let setting = oracle.setting;
        let model = load_in(oracle).model;
        let (adapters, batch) = (oracle.adapters(), oracle.batch());
        let loss = train::evaluate(&model, &adapters, &batch).unwrap();
        let expected = oracle.golden["loss"].item_exact::<f32>();
        setting.close_losses(&format!("loss of {name}"), &[loss], &[expected], 1e-5);

        let gradients = train::gradients(&model, &adapters, &batch).unwrap();
        let specs = adapters.specs().iter();
        let names: Vec<String> = specs
            .flat_map(|spec| ["lora_a", "lora_b"].map(|part| format!("{}.{part}", spec.name)))
            .collect();
        let what = format!("gradients of {name}");
        oracle.close_tensors(&what, "grad.", &names, &gradients);

        let before = model.tensors().unwrap();
        let options = StepOptions::default();
        let adam = Optimizer::adam(1e-3);
        let mut trainer = Trainer::new(model.clone(), adapters, adam, 0, options).unwrap();
        let losses: Vec<f32> = (0..10).map(|_| trainer.step(&batch).unwrap()).collect();
        let expected = oracle.golden["adam_losses"].to_vec_cast::<f32>().unwrap();
        let what = format!("losses of ten steps of {name}");
        setting.close_losses(&what, &losses, &expected, 1e-4);
        assert_same(&before, &model.tensors().unwrap());
    });
}

/// The same names, types and bits.
fn assert_same(a: &Tensors, b: &Tensors) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, array) in a {
        let other = &b[name];
        assert_eq!(array.dtype(), other.dtype(), "{name}");
        assert!(array.eq_values(other).unwrap(), "{name}");
    }
}

#[test]
fn quantizing_while_loading_gives_the_bits_of_mlx_lms_converter() {
    let _session = cpu();
    let options = |bits, group_size| Options {
        dtype: Dtype::Bfloat16,
        quantize: Some(Scheme { bits, group_size }),
        ..PLAIN
    };
    let here = try_load(&checkpoint("transformers").dir, options(4, 64)).unwrap();
    let converted = try_load(
        &checkpoint("mlx-4bit").dir,
        Options {
            quantize: None,
            ..options(4, 64)
        },
    )
    .unwrap();
    assert_same(
        &here.model.tensors().unwrap(),
        &converted.model.tensors().unwrap(),
    );
    assert_eq!(
        (here.quantized_here, converted.quantized_here),
        (true, false)
    );
    assert_eq!(here.packed, converted.packed);
    assert_eq!(here.weight_bytes, converted.weight_bytes);

    let error = try_load(&checkpoint("mlx-4bit").dir, options(8, 64)).err();
    let error = error.unwrap().to_string();
    assert!(
        error.contains("quantized already; drop --q-bits"),
        "{error}"
    );
}

#[test]
fn what_is_packed_is_counted_by_scheme() {
    let _session = cpu();
    let check = |name: &str, expected: &[(i32, i32, u32, u64)]| {
        let packed = try_load(&checkpoint(name).dir, PLAIN).unwrap().packed;
        let expected = expected
            .iter()
            .map(|&(bits, group_size, matrices, parameters)| Packed {
                scheme: Scheme { bits, group_size },
                matrices,
                parameters,
            });
        assert_eq!(packed, expected.collect::<Vec<_>>(), "{name}");
    };
    // Everything but 5 norms of 128 values, 2 of 32, and a kernel of 3 x 128.
    check("mlx-4bit", &[(4, 64, 13, 201_792 - 5 * 128 - 64 - 384)]);
    // q, k, w1 and w3, twice, and in_proj; v; and the embedding.
    let rest = 128 * 128 + 64 * 128 + 4 * 64 * 128 + 384 * 128;
    check(
        "mlx-mixed",
        &[
            (4, 128, 7, rest),
            (6, 32, 1, 288 * 128),
            (8, 64, 1, 64 * 128),
        ],
    );
}

#[test]
fn every_width_and_group_size_computes_with_what_it_unpacks_to() {
    for_each_packed_setting(&F32, |setting| {
        for bits in BITS {
            for group_size in GROUP_SIZES {
                computes_with_what_it_unpacks_to(setting, Scheme { bits, group_size });
            }
        }
    });
}

fn computes_with_what_it_unpacks_to(setting: Setting, scheme: Scheme) {
    let dir = checkpoint("transformers").dir;
    let options = Options {
        quantize: Some(scheme),
        ..PLAIN
    };
    let packed = try_load(&dir, options).unwrap();
    assert!(packed.packed.iter().all(|it| it.scheme == scheme));
    let out = tempfile::tempdir().unwrap();
    export::write_model(&place(&dir), options, out.path()).unwrap();
    let stored = try_load(out.path(), PLAIN).unwrap();
    let logits = |model: &Lfm2| sequence_logits(model, None, &[5, 6, 7, 8], None).unwrap();
    let expected = logits(&packed.model);
    let label = format!("{} bits, groups of {}", scheme.bits, scheme.group_size);
    let what = format!("{label}, stored");
    setting.close(&what, &logits(&stored.model), &expected, 0.0);
    let dense = out.path().join("dense");
    unpacked(out.path(), &dense);
    let dense = try_load(&dense, PLAIN).unwrap();
    assert!(dense.packed.is_empty(), "{label}");
    setting.close(&label, &logits(&dense.model), &expected, 1e-5);
}

/// Writes the model of a folder without packing, by way of adapters that change nothing.
fn unpacked(from: &Path, to: &Path) {
    let shape = try_load(from, PLAIN).unwrap().model.shape().clone();
    let adapters = checkpoint("mlx-4bit").adapters();
    let fresh = Adapters::new(&shape, adapters.config().clone(), 0).unwrap();
    fresh.save(&to.join("adapters")).unwrap();
    export::write_fused(&place(from), PLAIN, &to.join("adapters"), true, to).unwrap();
}

#[test]
fn a_fused_model_is_stored_as_it_was_packed_or_without_packing() {
    let _session = cpu();
    for name in QUANTIZED {
        let oracle = checkpoint(name);
        let check = |dequantize: bool, golden: &str| {
            let out = tempfile::tempdir().unwrap();
            let adapters = oracle.dir.join("adapters");
            export::write_fused(
                &place(&oracle.dir),
                PLAIN,
                &adapters,
                dequantize,
                out.path(),
            )
            .unwrap();
            let fused = try_load(out.path(), PLAIN).unwrap();
            assert_eq!(fused.packed.is_empty(), dequantize, "{name}");
            let logits = sequence_logits(&fused.model, None, &oracle.ids("prompt"), None).unwrap();
            let what = format!("{golden} of {name}, stored");
            CPU.close(&what, &logits, &oracle.golden[golden], 1e-4);
        };
        check(false, "logits_fused");
        check(true, "logits_dequantized");
    }
}

#[test]
fn a_packed_checkpoint_that_is_not_as_its_config_says_is_refused_with_a_list() {
    let _session = cpu();
    let dir = tempfile::tempdir().unwrap();
    let from = checkpoint("mlx-4bit").dir;
    for entry in fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let config: Value =
        serde_json::from_str(&fs::read_to_string(from.join("config.json")).unwrap()).unwrap();
    let check = |change: &dyn Fn(&mut Value), expected: &[&str]| {
        let mut config = config.clone();
        change(&mut config);
        fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let error = try_load(dir.path(), PLAIN).err().unwrap().to_string();
        for part in expected {
            assert!(error.contains(part), "no `{part}` in {error}");
        }
    };
    let q_proj = "model.layers.1.self_attn.q_proj";
    check(
        &|it| it["quantization"]["bits"] = json!(8),
        &[&format!(
            "misshapen: {q_proj}.weight is [128, 16], expected [128, 32]"
        )],
    );
    check(
        &|it| it["quantization"]["group_size"] = json!(32),
        &[&format!(
            "misshapen: {q_proj}.scales is [128, 2], expected [128, 4]"
        )],
    );
    check(
        &|it| it["quantization"][q_proj] = json!(false),
        &[
            &format!("type: {q_proj}.weight is U32, expected F32"),
            &format!("unexpected: {q_proj}.biases"),
        ],
    );
    check(
        &|it| {
            it.as_object_mut().unwrap().remove("quantization");
        },
        &["the format `unknown`, and only MLX's own"],
    );
    check(
        &|it| it["quantization"]["bits"] = json!(7),
        &["quantization: the number of bits is 7, and MLX has 2, 3, 4, 5, 6, 8"],
    );
    check(
        &|it| it["quantization"]["mode"] = json!("mxfp4"),
        &["mode is `mxfp4`, and only `affine`"],
    );
    check(
        &|it| it["quantization"] = json!({"bits": 4}),
        &["group_size is missing"],
    );
    check(
        &|it| it["quantization"][q_proj] = json!({"bits": 4, "group_size": 48}),
        &["quantization of model.layers.1.self_attn.q_proj: the group size is 48"],
    );
}

#[test]
fn sixteen_bit_activations_stay_so_over_packed_weights() {
    for_each_setting(&BF16, |setting| {
        let oracle = checkpoint_in(setting, "mlx-mixed");
        let model = load_in(&oracle).model;
        let logits = sequence_logits(&model, None, &oracle.ids("prompt"), None).unwrap();
        assert_eq!(
            (model.dtype(), logits.dtype()),
            (Dtype::Bfloat16, Dtype::Bfloat16)
        );
    });
}
