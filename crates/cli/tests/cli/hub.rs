//! Models as people have them: of the hub, quantized, and fused.

use std::process::Command;

use crate::support::{Finished, Folder, check_failed, repository};

#[path = "../../../model/tests/common/hub.rs"]
mod stand_in;

use stand_in::{COMMIT, Fault, ID, StandIn};

/// Runs the program with nothing set but these variables of the hub's.
fn run(folder: &Folder, arguments: &str, variables: &[(&str, &str)]) -> Finished {
    let mut command: Command = folder.command(arguments);
    for name in [
        "HF_ENDPOINT",
        "HF_HOME",
        "HF_HUB_CACHE",
        "HF_HUB_DOWNLOAD_TIMEOUT",
        "HF_HUB_OFFLINE",
        "HF_TOKEN",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command.output().unwrap().into()
}

fn checkpoint(name: &str) -> String {
    let path = repository("fixtures/checkpoints").join(name);
    path.canonicalize().unwrap().display().to_string()
}

#[test]
fn a_model_of_the_hub_is_run_and_named_with_its_commit() {
    let hub = StandIn::of(&repository("fixtures/checkpoints/transformers"));
    let folder = Folder::new();
    let at = [
        ("HF_ENDPOINT", hub.endpoint.as_str()),
        ("HF_HOME", "home"),
        ("HF_TOKEN", " secret\n"),
    ];
    let arguments = format!(
        "run -o out --model {ID} --iterations 2 --max-tokens 2 --prompt Hi --max-seq-length 64 \
         --truncate --lora-layers 0 --device cpu"
    );
    let finished = run(&folder, &arguments, &at);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let token = hub.requests()[0].token.clone();
    assert_eq!(token.as_deref(), Some("Bearer secret"));
    let model = folder.record().start.model;
    assert_eq!(
        (model.name.as_str(), model.revision.as_deref()),
        (ID, Some(COMMIT))
    );
    let report = folder.read("out/report.md");
    assert!(
        report.contains(&format!("commit {COMMIT} on the hub")),
        "{report}"
    );
    assert!(report.contains("| Fetching |"), "{report}");
    assert!(folder.exists(&format!(
        "home/hub/models--owner--model/snapshots/{COMMIT}/config.json"
    )));

    // The cache has it now; another name for its place, and no network.
    let generate = format!("generate --model {ID} --prompt Hi --max-tokens 2 --json --quiet");
    let offline = [("HF_HUB_CACHE", "home/hub"), ("HF_HUB_OFFLINE", "1")];
    hub.requests();
    run(&folder, &generate, &offline).json();
    let away = [
        ("HF_HOME", "home"),
        ("HF_ENDPOINT", "http://no-such-host.invalid"),
    ];
    let away = run(&folder, &generate.replace(" --quiet", ""), &away);
    assert!(
        away.stderr.contains("the model is the one in the cache"),
        "{away:?}"
    );
    away.json();
    assert!(hub.requests().is_empty());

    let branch = format!("{generate} --revision other");
    let offline = run(&folder, &branch, &offline);
    check_failed(
        &branch,
        &offline,
        1,
        &["does not hold its revision `other`", "HF_HUB_OFFLINE"],
    );
    hub.fail("revision/other?blobs=true", Fault::Status(404, ""));
    let missing = run(&folder, &branch, &at);
    check_failed(&branch, &missing, 1, &["owner/model on the hub", "`other`"]);
    let garbled = [("HF_HOME", "home"), ("HF_HUB_DOWNLOAD_TIMEOUT", "soon")];
    let garbled = run(&folder, &generate, &garbled);
    check_failed(
        &generate,
        &garbled,
        1,
        &["HF_HUB_DOWNLOAD_TIMEOUT is `soon`"],
    );
}

#[test]
fn a_model_is_quantized_while_it_is_loaded_and_the_record_says_so() {
    let folder = Folder::new();
    folder.ok(
        "run -o out --iterations 2 --max-tokens 2 --prompt Hi --q-bits 4 --q-group-size 32 \
         --dtype f32",
    );
    let record = folder.record();
    let quantization = record.start.model.quantization.unwrap();
    assert!(quantization.on_load);
    let packed = &quantization.packed[0];
    assert_eq!((packed.bits, packed.group_size), (4, 32));
    // 4 bits, and two f32 for every 32 values; the rest is f32.
    let rest = record.start.model.parameters - packed.parameters;
    assert_eq!(
        record.start.model.weight_bytes,
        4 * rest + packed.parameters / 2 + packed.parameters / 4
    );
    let report = folder.read("out/report.md");
    assert!(report.contains("quantized while loading: "), "{report}");
    let audit = folder.ok("audit out").stdout;
    assert!(audit.contains("weight-bytes"), "{audit}");

    folder.check_error("run -o no --q-bits 7", 2, &["the number of bits is 7"]);
    folder.check_error("run -o no --q-group-size 32", 2, &["belongs to q-bits"]);
    let packed = format!("run -o no --q-bits 4 --model {}", checkpoint("mlx-4bit"));
    folder.check_error(
        &packed,
        1,
        &["the model is quantized already; drop --q-bits"],
    );
    folder.check_error("run -o no --revision main", 1, &["drop --revision"]);
    folder.check_error(
        "generate --prompt Hi --model no-such-model",
        1,
        &["`no-such-model` is neither a folder", "LiquidAI/LFM2-1.2B"],
    );
}

#[test]
fn exported_work_on_a_quantized_model_gives_its_losses() {
    let folder = Folder::new();
    // On a GPU two runs may differ by rounding.
    let settings = "--iterations 3 --no-generation --q-bits 8 --device cpu";
    folder.ok(&format!("export -o work/embedded {settings}"));
    let losses = |arguments: &str, out: &str| -> Vec<Option<f32>> {
        folder.ok(&format!("run -o {out} {arguments}"));
        let record = metrics::store::read(&folder.path(out)).unwrap();
        record.iterations.iter().map(|it| it.loss).collect()
    };
    assert_eq!(
        losses("--config work/embedded/run.toml --device cpu", "exported"),
        losses(settings, "out")
    );
}

#[test]
fn a_fused_model_says_what_its_adapters_said() {
    let folder = Folder::new();
    folder.ok("run -o out --iterations 12 --learning-rate 2e-3 --no-generation --device cpu");
    folder.ok("fuse --adapters out -o fused");
    let text = |arguments: &str| {
        let arguments =
            format!("generate --device cpu --json --max-tokens 16 --prompt Hello {arguments}");
        folder.ok(&arguments).json()["token_ids"].clone()
    };
    assert_eq!(text("--model fused"), text("--adapters out"));
    assert_ne!(text("--model fused"), text(""));
    folder.check_error(
        "fuse --adapters out -o fused",
        2,
        &["fused is there already"],
    );
    folder.check_error(
        "fuse --adapters none -o other",
        1,
        &["cannot read none/adapter_config.json"],
    );
    assert!(!folder.exists("other"));
}
