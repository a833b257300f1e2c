//! Both ways with mlx-lm: adapters, fused and quantized models, and data folders. Needs what
//! `cargo xtask peers mlx-lm` installs.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use metrics::{
    record::{Iteration, Model},
    store::{self, Record},
};
use serde_json::Value;

use crate::{
    peers::skip,
    support::{Folder, ONE_THREAD, repository},
};

const PROMPT: &str = "What is machine learning?";

/// Another answer than the embedded model has learned, so that adapters are seen to matter.
const SAMPLE: &str = r#"{"prompt": "What is machine learning?", "completion": "The model means that a test passes, and the compiler shows where it fails."}"#;

/// mlx-lm's own commands, on the CPU: there both compute alike.
const COMMAND: &str = "import sys, mlx.core as mx; mx.set_default_device(mx.cpu); \
                       sys.argv[0] = 'mlx_lm'; from mlx_lm.cli import main; main()";

/// Rows of a data folder as mlx-lm tokenizes them, with the length of what is masked.
const TOKENIZE: &str = "
import json, sys, types
from pathlib import Path
from mlx_lm.tokenizer_utils import load
from mlx_lm.tuner.datasets import load_local_dataset
model, data, mask = sys.argv[1:]
config = types.SimpleNamespace(mask_prompt=mask == 'true')
train, _, _ = load_local_dataset(Path(data), load(Path(model)), config)
print(json.dumps([train.process(train[i]) for i in range(len(train))]))
";

/// A folder with the embedded model in `model`, and the Python of the peer.
struct Pair {
    folder: Folder,
    python: PathBuf,
}

impl Pair {
    fn new(test: &str) -> Option<Self> {
        let python = repository("native/peers/mlx-lm/bin/python");
        // The starter is the last thing that is installed.
        if !repository("native/peers/mlx-lm/peer").is_file() {
            skip(test, "`cargo xtask peers mlx-lm` installs mlx-lm");
            return None;
        }
        let folder = Folder::new();
        fs::create_dir(folder.path("data")).unwrap();
        for name in ["data/train.jsonl", "data/valid.jsonl"] {
            folder.write(name, SAMPLE);
        }
        folder.ok("export -o model --iterations 1 --no-generation --device cpu --dtype f32");
        Some(Self { folder, python })
    }

    fn python(&self, script: &str, arguments: &str) -> String {
        let output = Command::new(&self.python)
            .args(["-B", "-c", script])
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path(""))
            .envs(ONE_THREAD)
            // Nothing here needs the network.
            .env("HF_HUB_OFFLINE", "1")
            .env("MLX_DISABLE_COMPILE", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn mlx_lm(&self, arguments: &str) -> String {
        self.python(COMMAND, arguments)
    }

    /// The greedy text of both programs, which has to be the same.
    fn text(&self, model: &str, adapters: Option<&str>) -> String {
        let (ours, theirs) = match adapters {
            Some(dir) => (
                format!(" --adapters {dir}"),
                format!(" --adapter-path {dir}"),
            ),
            None => (String::new(), String::new()),
        };
        let arguments = format!(
            "generate --device cpu --dtype f32 --json --max-tokens 12 --model {model}{ours}"
        );
        let mut command = self.folder.command(&arguments);
        let output = command.args(["--prompt", PROMPT]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let generated: Value = serde_json::from_slice(&output.stdout).unwrap();
        let ours = generated["text"].as_str().unwrap().trim().to_owned();
        assert!(!ours.is_empty(), "{generated}");

        let prompt = PROMPT.replace(' ', "_");
        let script = COMMAND.replace(
            "sys.argv[0]",
            "sys.argv[-1] = sys.argv[-1].replace('_', ' '); sys.argv[0]",
        );
        let theirs = self.python(
            &script,
            &format!(
                "generate --model {model}{theirs} --max-tokens 12 --temp 0 --verbose False \
                 --prompt {prompt}"
            ),
        );
        assert_eq!(theirs.trim(), ours, "{arguments}");
        ours
    }

    /// Trains adapters with lfmark, quickly enough to change what is generated.
    fn train(&self, model: &str, out: &str) {
        self.folder.ok(&format!(
            "run -o {out} --model {model} --data data --iterations 16 --learning-rate 3e-3 --lora-targets all \
             --lora-layers 2 --no-generation --device cpu --dtype f32"
        ));
    }
}

#[test]
fn adapters_and_fused_models_of_lfmark_generate_the_same_in_mlx_lm() {
    let Some(pair) = Pair::new("adapters_and_fused_models_of_lfmark") else {
        return;
    };
    let plain = pair.text("model", None);
    pair.train("model", "out");
    let adapted = pair.text("model", Some("out/adapters"));
    assert_ne!(adapted, plain, "the adapters change nothing");
    pair.folder.ok("fuse --model model --adapters out -o fused");
    assert_eq!(pair.text("fused", None), adapted);
}

#[test]
fn adapters_and_fused_models_of_mlx_lm_generate_the_same_in_lfmark() {
    let Some(pair) = Pair::new("adapters_and_fused_models_of_mlx_lm") else {
        return;
    };
    let plain = pair.text("model", None);
    pair.mlx_lm(
        "lora --train --model model --data data --adapter-path theirs --iters 8 --batch-size 1 \
         --num-layers 2 --learning-rate 3e-3 --val-batches 1 --steps-per-eval 100",
    );
    let adapted = pair.text("model", Some("theirs"));
    assert_ne!(adapted, plain, "the adapters change nothing");
    pair.mlx_lm("fuse --model model --adapter-path theirs --save-path fused");
    assert_eq!(pair.text("fused", None), adapted);
}

#[test]
fn a_quantized_model_is_trained_over_fused_and_stored_for_both() {
    let Some(pair) = Pair::new("a_quantized_model_is_trained_over") else {
        return;
    };
    pair.mlx_lm(
        "convert --hf-path model --mlx-path packed -q --q-bits 4 --q-group-size 32 --dtype float32",
    );
    let plain = pair.text("packed", None);
    pair.train("packed", "out");
    let record = pair.folder.record();
    let quantization = record.start.model.quantization.unwrap();
    assert!(!quantization.on_load);
    assert_eq!(
        (
            quantization.packed[0].bits,
            quantization.packed[0].group_size
        ),
        (4, 32)
    );
    let adapted = pair.text("packed", Some("out/adapters"));
    assert_ne!(adapted, plain, "the adapters change nothing");
    pair.folder
        .ok("fuse --model packed --adapters out -o fused");
    pair.text("fused", None);
    pair.folder
        .ok("fuse --model packed --adapters out -o dense --dequantize");
    assert_eq!(pair.text("dense", None), adapted);
}

#[test]
fn data_folders_of_mlx_lm_give_its_tokens() {
    let Some(pair) = Pair::new("data_folders_of_mlx_lm") else {
        return;
    };
    let check = |name: &str, lines: &[&str], mask: bool| {
        let dir = pair.folder.path(name);
        fs::create_dir_all(&dir).unwrap();
        for file in ["train.jsonl", "valid.jsonl", "test.jsonl"] {
            fs::write(dir.join(file), lines.join("\n") + "\n").unwrap();
        }
        let theirs = pair.python(TOKENIZE, &format!("model {name} {mask}"));
        let theirs: Vec<(Vec<i64>, usize)> = serde_json::from_str(&theirs).unwrap();
        let out = format!("{name}-{mask}");
        pair.folder.ok(&format!(
            "export -o {out} --model model --data {name} --iterations {} --mask-prompt={mask} \
             --no-generation --device cpu",
            lines.len()
        ));
        let batches = pair.folder.read(&format!("{out}/batches.jsonl"));
        let row = |line: &str| {
            let batch: Value = serde_json::from_str(line).unwrap();
            let bound = |place: usize| batch["bounds"][0][place].as_u64().unwrap() as usize;
            let tokens = batch["tokens"][0].as_array().unwrap()[..bound(1)].iter();
            (tokens.map(|id| id.as_i64().unwrap()).collect(), bound(0))
        };
        let ours: BTreeSet<(Vec<i64>, usize)> = batches.lines().map(row).collect();
        assert_eq!(ours, theirs.into_iter().collect(), "{name}, masked: {mask}");
        assert_eq!(ours.len(), lines.len());
    };
    let text = [
        r#"{"text": "MLX is a framework for arrays."}"#,
        r#"{"text": "<|startoftext|>Zwölf Bäume – naïve \"quotes\"\n"}"#,
    ];
    check("text", &text, false);
    let completions = [
        r#"{"prompt": "What is a lint?", "completion": "A rule that a program checks."}"#,
        r#"{"prompt": " spaces ", "completion": " are kept "}"#,
    ];
    check("completions", &completions, false);
    check("completions", &completions, true);
    let chat = [
        r#"{"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}"#,
        r#"{"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}, {"role": "assistant", "content": "4"}]}"#,
    ];
    check("chat", &chat, false);
    check("chat", &chat, true);
}

/// A training script as its user would write it, with lfmark's recorder.
const RECORDED: &str = "
import mlx_lm_callback
import types
from pathlib import Path
import mlx.core as mx
import mlx.optimizers
import mlx_lm
from mlx_lm.tuner.datasets import CacheDataset, load_local_dataset
from mlx_lm.tuner.trainer import TrainingArgs, train
from mlx_lm.tuner.utils import linear_to_lora_layers
mx.set_default_device(mx.cpu)
model, tokenizer = mlx_lm.load('model')
model.freeze()
lora = {'rank': 4, 'scale': 2.0, 'dropout': 0.0, 'keys': ['self_attn.q_proj', 'self_attn.v_proj']}
linear_to_lora_layers(model, 2, lora)
rows, _, _ = load_local_dataset(Path('data'), tokenizer, types.SimpleNamespace(mask_prompt=False))
data = CacheDataset(rows)
optimizer = mlx.optimizers.Adam(learning_rate=1e-3)
args = TrainingArgs(batch_size=1, iters=3, steps_per_report=1, adapter_file='theirs.safetensors')
given = {'model': Path('model'), 'data': Path('data/train.jsonl'), 'seed': 0,
         'lora': {**lora, 'layers': 2}}
recorder = mlx_lm_callback.Recorder(Path('theirs'), model, optimizer, data, args, given)
train(model, optimizer, data, args=args, iterate_batches=recorder.batches,
      training_callback=recorder)
recorder.log.end('complete')
";

#[test]
fn a_training_script_of_mlx_lm_writes_a_record_of_the_work_that_lfmark_does() {
    let Some(pair) = Pair::new("a_training_script_of_mlx_lm") else {
        return;
    };
    let peers = repository("peers");
    let path = format!(
        "import sys; sys.path.insert(0, {:?})\n",
        peers.to_str().unwrap()
    );
    pair.python(&format!("{path}{RECORDED}"), "");
    pair.folder.ok(
        "run -o out --model model --data data --iterations 3 --lora-rank 4 --lora-alpha 8 \
         --lora-layers 2 --lora-targets q_proj,v_proj --lora-dropout 0 --batch-size 1 --learning-rate 1e-3 \
         --no-generation --device cpu --dtype f32",
    );
    let theirs = store::read(&pair.folder.path("theirs")).unwrap();
    let ours = pair.folder.record();
    assert_eq!(theirs.notices, Vec::<String>::new());
    let (model, own) = (&theirs.start.model, &ours.start.model);
    let facts = |model: &Model| {
        let sizes = [
            model.layers,
            model.attention_layers,
            model.hidden_size,
            model.ffn_size,
        ];
        let adapters: BTreeSet<_> = model
            .adapters
            .iter()
            .map(|it| (it.name.clone(), it.inputs, it.outputs))
            .collect();
        let counts = [
            model.parameters,
            model.weight_bytes,
            model.trainable_parameters,
        ];
        (
            sizes,
            counts,
            adapters,
            model.weights.clone(),
            model.tokenizer_sha256.clone(),
        )
    };
    assert_eq!(facts(model), facts(own));
    assert_eq!(theirs.start.data.sha256, ours.start.data.sha256);
    assert_eq!(
        theirs.start.data.sample_tokens,
        ours.start.data.sample_tokens
    );
    let counts = |it: &Iteration| (it.rows, it.real_tokens, it.padded_tokens, it.loss_tokens);
    let of = |record: &Record| record.iterations.iter().map(counts).collect::<Vec<_>>();
    assert_eq!(of(&theirs), of(&ours));
    // The first loss is before any step: that of the model, as both compute it.
    let first = |record: &Record| f64::from(record.iterations[0].loss.unwrap());
    assert!((first(&theirs) / first(&ours) - 1.0).abs() < 1e-4);
    assert!(
        theirs
            .iterations
            .iter()
            .all(|it| it.step_ns > 0 && it.peak_bytes > 0)
    );
    pair.folder.ok("report theirs");
}
