//! `lfmark run` and `lfmark report`.

use std::{collections::BTreeMap, fs};

use metrics::record::{Config, Finish, Status, Weights};

use crate::support::{ENDLESS, Folder, SHORT, check_failed, interrupt};

/// In the record of a run that has measured a few iterations.
const FIFTH: &str = "\"iteration\":5,";

/// Files of the report, all that is beside the record and the adapters.
fn report_files(folder: &Folder) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder.path("out")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "record.jsonl" && name != "adapters" {
            let text = folder.read(&format!("out/{name}"));
            files.insert(name, text);
        }
    }
    files
}

#[test]
fn a_run_leaves_its_record_report_charts_and_adapters() {
    let folder = Folder::new();
    let finished = folder.ok(SHORT);
    assert!(finished.stdout.contains("out/report.md"), "{finished:?}");

    let record = folder.record();
    assert_eq!(record.iterations.len(), 3);
    assert_eq!(record.generations.len(), 3);
    assert!(record.generations.iter().all(|g| g.token_ids.len() <= 4));
    assert_eq!(record.end.unwrap().status, Status::Complete);
    for name in ["adapters.safetensors", "adapter_config.json"] {
        assert!(folder.exists(&format!("out/adapters/{name}")), "{name}");
    }
    let files = report_files(&folder);
    let charts = files.keys().filter(|name| name.ends_with(".svg")).count();
    assert!(charts >= 3, "{:?}", files.keys());
    for chart in files.keys().filter(|name| name.ends_with(".svg")) {
        assert!(files["report.md"].contains(chart.as_str()), "{chart}");
    }
    assert!(!files["report.md"].contains("incomplete"));
}

#[test]
fn a_report_built_anew_has_the_same_bytes() {
    let folder = Folder::new();
    folder.ok(SHORT);
    let written = report_files(&folder);
    for name in written.keys() {
        fs::remove_file(folder.path("out").join(name)).unwrap();
    }
    let finished = folder.ok("report out");
    assert!(finished.stdout.contains("out/report.md"), "{finished:?}");
    assert_eq!(report_files(&folder), written);

    folder.ok("report out/record.jsonl --output elsewhere");
    for (name, text) in written {
        assert_eq!(folder.read(&format!("elsewhere/{name}")), text, "{name}");
    }
}

#[test]
fn a_record_cut_anywhere_is_reported_as_incomplete() {
    let folder = Folder::new();
    folder.ok(SHORT);
    let whole = fs::read(folder.path("out/record.jsonl")).unwrap();
    let first_line = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let cuts = (first_line..whole.len() - 1).step_by(331);
    let cuts = cuts.chain([first_line - 1, first_line, whole.len() - 2]);
    for cut in cuts {
        folder.write("out/record.jsonl", &whole[..cut]);
        folder.ok("report out");
        let report = folder.read("out/report.md");
        assert!(report.contains("This run is incomplete"), "{cut}: {report}");
    }
    for cut in [0, 1, first_line / 2] {
        folder.write("out/record.jsonl", &whole[..cut]);
        folder.check_error("report out", 1, &["out/record.jsonl", "run again"]);
    }
}

#[test]
fn a_killed_run_can_be_reported() {
    let folder = Folder::new();
    let killed = folder.end_early(ENDLESS, FIFTH, |child| child.kill().unwrap());
    assert_eq!(killed.code, None, "ended by a signal: {killed:?}");
    assert!(!folder.exists("out/report.md"));

    folder.ok("report out");
    assert!(
        folder
            .read("out/report.md")
            .contains("This run is incomplete (cut off)")
    );
    let record = folder.record();
    assert!(record.end.is_none());
    assert!(!record.iterations.is_empty());
}

#[test]
fn ctrl_c_ends_with_a_report_of_what_was_measured() {
    let folder = Folder::new();
    let finished = folder.end_early(ENDLESS, FIFTH, interrupt);
    let record = folder.record();
    let end = record.end.unwrap();
    let reason = format!(
        "interrupted after {} of 1000000 iterations",
        record.iterations.len()
    );
    assert_eq!(
        (end.status, end.reason),
        (Status::Interrupted, Some(reason.clone()))
    );
    check_failed(ENDLESS, &finished, 1, &[&reason]);
    assert!(finished.stdout.contains("out/report.md"), "{finished:?}");
    assert!(
        folder
            .read("out/report.md")
            .contains("This run is incomplete (interrupted)")
    );
    assert!(folder.exists("out/adapters/adapters.safetensors"));
}

#[test]
fn ctrl_c_in_a_prompt_keeps_the_tokens_until_then() {
    let folder = Folder::new();
    let arguments = "run -o out --iterations 1 --prompt a --max-tokens 100000 --ignore-eos";
    let finished = folder.end_early(arguments, "warm_up", interrupt);
    let record = folder.record();
    assert_eq!(record.generations[0].finish, Finish::Interrupted);
    assert_eq!(record.end.unwrap().status, Status::Interrupted);
    check_failed(arguments, &finished, 1, &["interrupted in prompt 1 of 1"]);
    assert!(folder.exists("out/report.md"));
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_run_and_keeps_its_record() {
    let folder = Folder::new();
    let arguments = "run -o out --iterations 50 --learning-rate 3e38";
    let finished = folder.lfmark(arguments);
    let record = folder.record();
    let last = record.iterations.last().unwrap();
    assert_eq!(last.loss, None);
    assert!(last.iteration < 50, "{last:?}");
    let reason = format!("the loss of iteration {} is not a finite", last.iteration);
    check_failed(arguments, &finished, 1, &[&reason, "--learning-rate"]);
    let end = record.end.unwrap();
    assert_eq!(end.status, Status::Failed);
    assert!(end.reason.unwrap().starts_with(&reason));
    assert!(folder.read("out/report.md").contains(&reason));
}

#[test]
fn adapters_that_the_last_iteration_ruined_are_not_saved() {
    let folder = Folder::new();
    let arguments = "run -o out --iterations 1 --learning-rate 3e38";
    folder.check_error(
        arguments,
        1,
        &["adapters that are not finite", "--learning-rate"],
    );
    let record = folder.record();
    assert_eq!(record.end.unwrap().status, Status::Failed);
    assert!(record.generations.is_empty());
    assert!(!folder.exists("out/adapters"));
}

#[test]
fn json_is_one_object_and_quiet_is_silent() {
    let folder = Folder::new();
    let json = folder.lfmark(&format!("{SHORT} --json")).json();
    assert_eq!(json["run"], "out");
    assert_eq!(json["report"], "out/report.md");
    assert_eq!(json["summary"]["training"]["iterations"], 3);
    assert_eq!(folder.lfmark("report out --json").json(), json);

    // Cut samples are worth a note, but not here.
    let quiet =
        folder.ok("run -q -o quiet --iterations 1 --no-generation --max-seq-length 8 --truncate");
    assert_eq!(quiet.stderr, "");
    assert!(quiet.stdout.contains("quiet/report.md"));
}

#[test]
fn settings_come_from_flags_then_from_the_file() {
    let folder = Folder::with(
        "run.toml",
        "iterations = 9\nbatch-size = 2\nseed = 5\nlearning-rate = 1e-3\noptimizer = \"adamw\"\n\
         weight-decay = 0.5\nlora-rank = 4\nlora-layers = 2\nlora-targets = [\"w1\"]\n\
         windows = \"1-2\"\nprompt = [\"Hello\"]\nmax-tokens = 2\nmask-prompt = true\n",
    );
    let targets = "--lora-targets q_proj,v_proj";
    folder.ok(&format!(
        "run -o out --config run.toml --iterations 2 --seed 6 {targets}"
    ));
    let record = folder.record();
    let Config {
        optimizer,
        lora,
        generation,
        ..
    } = &record.start.config;
    let config = &record.start.config;
    assert_eq!(
        (config.iterations, config.batch_size, config.seed),
        (2, 2, 6)
    );
    assert_eq!(
        (optimizer.name.as_str(), optimizer.learning_rate),
        ("adamw", 1e-3)
    );
    assert_eq!(optimizer.weight_decay, 0.5);
    assert_eq!((lora.rank, lora.layers, lora.scale), (4, 2, 2.0));
    assert_eq!(lora.targets, ["self_attn.q_proj", "self_attn.v_proj"]);
    assert_eq!(generation.prompts, ["Hello"]);
    assert!(config.mask_prompt);
    assert!(record.iterations.iter().all(|it| it.rows == 2));
    assert_eq!(record.generations.len(), 1);
}

#[test]
fn a_file_of_prompts_brings_the_checks_of_their_texts() {
    let folder = Folder::with(
        "prompts.json",
        r#"[{"prompt": "Hello", "checks": {"fewest_words": 1, "must_mention": ["zebra"]}},
            {"prompt": "Why?"}]"#,
    );
    let run = "run -o out --iterations 1 --max-tokens 8 --prompts prompts.json --json";
    let summary = &folder.lfmark(run).json()["summary"];
    let quality = |index: usize| &summary["generations"][index]["quality"];
    assert_eq!(quality(0)["judged"][0]["check"]["must_mention"], "zebra");
    assert_eq!(quality(0)["judged"][0]["passed"], false);
    assert_eq!(quality(1)["not_judged"], "no_checks");
    let report = folder.read("out/report.md");
    assert!(report.contains("fails: must mention \"zebra\""), "{report}");

    folder.write(
        "prompts.json",
        r#"[{"prompt": "Hello", "checks": {"must_say": []}}]"#,
    );
    folder.check_error(
        "run -o refused --prompts prompts.json",
        2,
        &["prompts.json: there is no check `must_say`"],
    );
    assert!(!folder.exists("refused"));
}

#[test]
fn a_seed_repeats_a_run() {
    // On a GPU two runs may differ by rounding.
    let losses = |seed| {
        let folder = Folder::new();
        folder.ok(&format!(
            "run -o out --iterations 3 --no-generation --seed {seed} --device cpu"
        ));
        let record = folder.record();
        record
            .iterations
            .iter()
            .map(|it| it.loss)
            .collect::<Vec<_>>()
    };
    let first = losses(1);
    assert_eq!(first, losses(1));
    assert_ne!(first, losses(2));
}

#[test]
fn a_model_folder_runs_as_the_embedded_model_does() {
    let folder = Folder::with_model();
    // The embedded model has defaults of its own.
    let run = format!("{SHORT} --learning-rate 1e-3 --prompt Hello --device cpu");
    folder.ok(&format!("{run} --model model"));
    let files = folder.record();
    fs::rename(folder.path("out"), folder.path("files")).unwrap();
    folder.ok(&run);
    let embedded = folder.record();

    assert_eq!(files.start.model.name, "model");
    let Weights::Files { sha256 } = files.start.model.weights.clone() else {
        panic!("not from files");
    };
    assert_eq!(embedded.start.model.weights, Weights::Embedded { sha256 });
    let losses = |record: &metrics::store::Record| {
        record
            .iterations
            .iter()
            .map(|it| it.loss)
            .collect::<Vec<_>>()
    };
    assert_eq!(losses(&files), losses(&embedded));
    assert_eq!(
        files.generations[0].token_ids,
        embedded.generations[0].token_ids
    );
}

#[test]
fn every_data_format_trains() {
    let check = |line: &str, format: &str, flags: &str| {
        let folder = Folder::with("train.jsonl", format!("{line}\n\n{line}\n"));
        folder.ok(&format!("{SHORT} --no-generation --data . {flags}"));
        let record = folder.record();
        assert_eq!(record.start.data.format, format);
        assert_eq!(record.start.data.sample_tokens.len(), 2);
        // A shared report shows no path.
        let name = &record.start.data.name;
        assert!(!name.contains('/') && name != ".", "{name}");
    };
    let chat = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;
    check(r#"{"text":"one two three"}"#, "text", "");
    check(
        r#"{"prompt":"a","completion":"b"}"#,
        "completions",
        "--mask-prompt",
    );
    check(chat, "chat", "--mask-prompt");
    check(chat, "chat", "--batch-size 2 --sort-by-length");
}

#[test]
fn truncated_samples_are_counted() {
    let folder = Folder::with(
        "data.jsonl",
        "{\"text\":\"a\"}\n{\"text\":\"a b c d e f g h\"}\n",
    );
    let finished = folder.ok(&format!(
        "{SHORT} --data data.jsonl --max-seq-length 8 --truncate"
    ));
    assert!(finished.stderr.contains("note: 1 sample"), "{finished:?}");
    assert_eq!(folder.record().start.data.truncated_samples, 1);
    assert!(folder.read("out/report.md").contains(", 1 truncated"));
}
