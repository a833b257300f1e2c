//! What cannot be used is refused before anything is measured, by name, and leaves no run folder.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{Folder, SHORT, repository};

#[test]
fn settings_that_cannot_be_used_are_usage_errors() {
    let folder = Folder::with("bad.toml", "iterations = 3\nlearning-rte = 1\n");
    let check = |arguments: &str, needles: &[&str]| {
        folder.check_nothing_run(&format!("run -o out {arguments}"), 2, needles);
    };
    check(
        "--config bad.toml",
        &["bad.toml", "line 2", "unknown field `learning-rte`"],
    );
    check(
        "--iterations 0",
        &["iterations is 0; it must be at least 1"],
    );
    check(
        "--iterations 3 --windows 1-2,2-5",
        &[
            "--windows",
            "window 2-5 ends past the last iteration, which is 3",
            "run at least 5",
        ],
    );
    check("--windows 3-1", &["window 3-1 ends before it begins"]);
    check("--windows x", &["`x` is not a window"]);
    check("--batch-size 0", &["batch-size is 0"]);
    check("--lora-rank 0", &["lora-rank is 0"]);
    check("--lora-dropout 1", &["lora-dropout is 1"]);
    check("--lora-alpha 1 --lora-scale 1", &["cannot be used with"]);
    check("--learning-rate NaN", &["learning-rate is NaN"]);
    check("--weight-decay 0.1", &["--optimizer adamw"]);
    check("--max-seq-length 1", &["max-seq-length must be at least 2"]);
    check("--optimizer sgd", &["invalid value 'sgd'"]);
    check("--no-such-flag", &["--no-such-flag"]);
    folder.check_nothing_run(
        "run -o out --config nope.toml",
        1,
        &["cannot read nope.toml: No such file"],
    );
}

#[test]
fn settings_that_do_not_suit_the_model_are_refused() {
    let check = |flags: &str, code: i32, needles: &[&str]| {
        Folder::new().check_nothing_run(&format!("{SHORT} {flags}"), code, needles);
    };
    check(
        "--model nope",
        1,
        &[
            "`nope` is neither a folder, nor one of `embedded`",
            "lfm2-1.2b",
        ],
    );
    check("--lora-layers 9", 2, &["9 LoRA layers", "the model has 8"]);
    check(
        "--lora-targets nope",
        2,
        &["`nope` is not a linear module", "self_attn.q_proj"],
    );
}

#[test]
fn data_that_cannot_be_used_is_named_with_its_line() {
    let good = r#"{"text":"one two three"}"#;
    let check = |text: &str, flags: &str, needles: &[&str]| {
        let folder = Folder::new();
        fs::create_dir(folder.path("data")).unwrap();
        folder.write("data/train.jsonl", text);
        // As a folder and as a file, with the file named either way.
        for data in ["data", "data/train.jsonl"] {
            let needles = [&["data/train.jsonl"], needles].concat();
            folder.check_nothing_run(&format!("{SHORT} --data {data} {flags}"), 1, &needles);
        }
    };
    let lines = |line: &str| format!("{good}\n{good}\n{line}\n");
    check("", "", &["holds no samples"]);
    check("\n \n", "", &["holds no samples"]);
    check(
        &lines(r#"{"text":"#),
        "",
        &[":3: not valid JSON: EOF", "column 8"],
    );
    check(
        &lines("{} {}"),
        "",
        &[":3: not valid JSON: trailing characters"],
    );
    check(&lines("{}"), "", &[":3: `text` is missing"]);
    check(&lines(r#"{"text":7}"#), "", &[":3: `text` is not a string"]);
    check(
        r#"{"txt":"a"}"#,
        "",
        &[":1: needs `prompt` and `completion`"],
    );
    check("[1]", "", &[":1: needs `prompt` and `completion`"]);
    check(r#"{"messages":[]}"#, "", &[":1: `messages` is empty"]);
    check(r#"{"messages":"a"}"#, "", &[":1: `messages`: invalid type"]);
    check(
        good,
        "--mask-prompt",
        &[":1: plain text has no prompt to mask"],
    );
    check(
        good,
        "--batch-size 2",
        &["batch size of 2", "number of samples, 1"],
    );
    let long = r#"{"text":"one two three four five six seven eight nine ten"}"#;
    check(
        &lines(long),
        "--max-seq-length 14",
        &[
            ":3: the sample has",
            "more than the maximum of 14",
            "--truncate",
        ],
    );

    let folder = Folder::with("binary", b"\xff\xfe\n");
    let check = |data: &str, needles: &[&str]| {
        folder.check_nothing_run(&format!("{SHORT} --data {data}"), 1, needles);
    };
    check("nope.jsonl", &["cannot read nope.jsonl: No such file"]);
    check(".", &["cannot read ./train.jsonl: No such file"]);
    check("binary", &["cannot read binary", "UTF-8"]);
    check("binary/train.jsonl", &["cannot read binary/train.jsonl"]);
}

/// Runs and generates with a copy of the embedded model that `spoil` has changed.
fn check_model(spoil: impl Fn(&Path), needles: &[&str]) {
    let folder = Folder::with_model();
    spoil(&folder.path("model"));
    folder.check_nothing_run(&format!("{SHORT} --model model"), 1, needles);
    folder.check_error("generate --prompt a --model model", 1, needles);
}

fn check_config(field: &str, value: Value, needles: &[&str]) {
    let spoil = |model: &Path| {
        let path = model.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        match value {
            Value::Null => drop(config.as_object_mut().unwrap().remove(field)),
            _ => config[field] = value.clone(),
        }
        fs::write(&path, config.to_string()).unwrap();
    };
    check_model(spoil, needles);
}

#[test]
fn a_config_that_cannot_be_used_is_refused() {
    let file = "model/config.json";
    let missing = Value::Null;
    check_model(
        |model| fs::remove_file(model.join("config.json")).unwrap(),
        &["model is not a folder with a config.json"],
    );
    check_model(
        |model| fs::write(model.join("config.json"), "{").unwrap(),
        &[file, "not a valid model config"],
    );
    check_config(
        "hidden_size",
        missing,
        &[file, "missing fields: hidden_size"],
    );
    check_config("hidden_size", json!("big"), &[file, "expected u64"]);
    check_config(
        "block_dim",
        json!(64),
        &[file, "block_dim 64 contradicts hidden_size 128"],
    );
    check_config(
        "intermediate_size",
        json!(999),
        &[file, "contradicts intermediate_size 999"],
    );
    check_config("num_hidden_layers", json!(4), &[file, "full_attn_idxs"]);
    check_config("layer_types", json!(["conv"]), &[file, "layer_types"]);
    check_config("num_attention_heads", json!(3), &[file, "not divisible"]);
    check_config("vocab_size", json!(0), &[file, "vocab_size is 0"]);
    check_config(
        "model_type",
        json!("llama"),
        &[file, "`llama`", "only `lfm2`"],
    );
    check_config(
        "vocab_size",
        json!(1537),
        &[
            "model/model.safetensors: 1 tensor is not as config.json implies",
            "model.embed_tokens.weight is [1536, 128], expected [1537, 128]",
        ],
    );
}

#[test]
fn weights_that_cannot_be_used_are_refused() {
    let file = "model/model.safetensors";
    let check = |spoil: fn(Vec<u8>) -> Vec<u8>, needles: &[&str]| {
        let spoil = |model: &Path| {
            let path = model.join("model.safetensors");
            fs::write(&path, spoil(fs::read(&path).unwrap())).unwrap();
        };
        check_model(spoil, needles);
    };
    let damaged = [file, "damaged or truncated"];
    check(|_| Vec::new(), &damaged);
    check(|bytes| bytes[..bytes.len() / 2].to_vec(), &damaged);
    check(|bytes| bytes[..100].to_vec(), &damaged);
    check(|bytes| [&bytes[..], b"more"].concat(), &damaged);
    check(
        |bytes| [&u64::MAX.to_le_bytes(), &bytes[8..]].concat(),
        &damaged,
    );
    check(
        |bytes| [&bytes[..8], &vec![b'['; bytes.len() - 8]].concat(),
        &damaged,
    );
    check(
        |bytes| replaced(bytes, "[1536,128]", "[128,1536]"),
        &[
            file,
            "misshapen: model.embed_tokens.weight is [128, 1536], expected [1536, 128]",
        ],
    );
    check(
        |bytes| replaced(bytes, "layers.0.ffn_norm.", "layers.0.fnn_norm."),
        &[
            file,
            "missing: model.layers.0.ffn_norm.weight",
            "unexpected: model.layers.0.fnn_norm.weight [128]",
        ],
    );
    check_model(
        |model| fs::remove_file(model.join("model.safetensors")).unwrap(),
        &["model: no model*.safetensors"],
    );
    check_model(
        |model| fs::write(model.join("model.safetensors.index.json"), "{}").unwrap(),
        &["model/model.safetensors.index.json: not a valid index"],
    );
}

/// Replaces text of a safetensors header by text of the same length.
fn replaced(mut bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no {from} in the header"));
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[test]
fn a_tokenizer_that_cannot_be_used_is_refused() {
    let check = |name: &'static str, text: Option<&'static str>, needles: &[&str]| {
        let spoil = |model: &Path| match text {
            Some(text) => fs::write(model.join(name), text).unwrap(),
            None => fs::remove_file(model.join(name)).unwrap(),
        };
        check_model(spoil, needles);
    };
    check(
        "tokenizer.json",
        None,
        &["cannot read model/tokenizer.json: No such file"],
    );
    check(
        "tokenizer.json",
        Some("{}"),
        &["model/tokenizer.json: not a valid tokenizer"],
    );
    check(
        "tokenizer_config.json",
        Some("{"),
        &["model/tokenizer_config.json: not a valid tokenizer config"],
    );
    check(
        "tokenizer_config.json",
        Some(r#"{"eos_token":"<nope>"}"#),
        &["model/tokenizer_config.json: eos_token `<nope>` is not in tokenizer.json"],
    );
    check(
        "tokenizer_config.json",
        Some(r#"{"chat_template":"{% for %}"}"#),
        &["model/tokenizer_config.json: broken chat template"],
    );
    check(
        "chat_template.jinja",
        Some("{% for %}"),
        &["model/chat_template.jinja: broken chat template"],
    );
    check(
        "chat_template.jinja",
        Some("{{ raise_exception('only three roles') }}"),
        &["chat template", "only three roles"],
    );
}

#[test]
fn a_token_outside_the_vocabulary_is_refused() {
    // The tokenizer has 1,536 tokens, and the model 96.
    let foreign = |model: &Path| {
        for name in ["config.json", "model.safetensors"] {
            let from = repository("fixtures/oracle/block-spelling").join(name);
            fs::copy(from, model.join(name)).unwrap();
        }
    };
    let outside = "outside the model's vocabulary of 96";
    check_model(foreign, &["token id", outside]);

    let folder = Folder::with_model();
    foreign(&folder.path("model"));
    folder.check_nothing_run(
        &format!("{SHORT} --model model"),
        1,
        &["embedded:1: token id", outside],
    );
    folder.check_error(
        "generate --prompt-ids 1,96 --model model",
        1,
        &["token id 96 at position 1", outside],
    );
}

#[test]
fn an_output_folder_that_cannot_be_used_is_refused_and_left_alone() {
    let folder = Folder::with("file", "precious");
    let check = |output: &str, needles: &[&str]| {
        let arguments = format!("run --iterations 1 --no-generation -o {output}");
        folder.check_error(&arguments, 1, needles);
    };
    check(
        "file",
        &[
            "cannot create the run folder file",
            "choose another output folder",
        ],
    );
    check("file/below", &["cannot create the run folder file/below"]);
    assert_eq!(folder.read("file"), "precious");

    fs::create_dir(folder.path("old")).unwrap();
    folder.write("old/record.jsonl", "precious");
    check(
        "old",
        &["old/record.jsonl exists already and is not overwritten"],
    );
    assert_eq!(folder.read("old/record.jsonl"), "precious");
    assert_eq!(fs::read_dir(folder.path("old")).unwrap().count(), 1);

    // A folder that was there stays, also where nothing can be run into it.
    fs::create_dir(folder.path("empty")).unwrap();
    check("empty --data nope", &["cannot read nope"]);
    assert!(folder.exists("empty"));
}

#[test]
fn a_record_that_cannot_be_reported_is_named() {
    let folder = Folder::with("file", "");
    folder.write("text", "{\"event\":\"end\"}\n");
    let check = |arguments: &str, needles: &[&str]| {
        folder.check_error(&format!("report {arguments}"), 1, needles);
    };
    check("nope", &["cannot read nope: No such file", "run folder"]);
    check(".", &["cannot read ./record.jsonl: No such file"]);
    check("file", &["file: the record is empty"]);
    check("text", &["text: line 1 is not the start of a record"]);
}
