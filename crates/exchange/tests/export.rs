//! Figures for programs that follow them over time, and records that can be published.

use std::collections::BTreeSet;

use exchange::export;
use exchange::share::{Privacy, REMOVED, is_telling, share};
use metrics::figures::MetricKind;
use metrics::record::{Event, Member, Start};
use metrics::run::Run;
use metrics::store::{self, Record};
use metrics::summary::RunStatus;
use proptest::prelude::*;
use serde_json::{Value, json};

const RECORD: &str = include_str!("../../../fixtures/records/h200-lfm2-1.2b-2/record.jsonl");

/// The committed record as the given run of a set.
fn member(record: &Record, repeat: u32) -> Record {
    let mut record = record.clone();
    record.start.member = Some(Member {
        set: "set".into(),
        arm: "=arm, \"one\"".into(),
        number: repeat,
        repeat,
        waited_ns: 0,
        unmet: Vec::new(),
        unread: Vec::new(),
        empty_caches: None,
    });
    for iteration in &mut record.iterations {
        // Each run is slower than the one before by a hundredth.
        iteration.step_ns += iteration.step_ns * u64::from(repeat) / 100;
    }
    record
}

fn runs() -> Vec<Run> {
    let record = store::parse(RECORD).unwrap();
    let of = |repeat| Run::of(&format!("run-{repeat}"), &member(&record, repeat));
    let mut runs: Vec<Run> = (1..=3).map(of).collect();
    runs[2].status = RunStatus::CutOff;
    runs
}

fn mean(runs: &[Run], metric: MetricKind) -> f64 {
    (runs[0].values()[&metric] * runs[1].values()[&metric]).sqrt()
}

#[test]
fn a_tracker_gets_the_mean_of_complete_runs_with_its_interval() {
    let runs = runs();
    let expected = mean(&runs, MetricKind::StepTime);
    let text = export::github_action(&runs, false).unwrap();
    let benchmarks: Vec<Value> = serde_json::from_str(&text).unwrap();
    let step = &benchmarks[0];
    assert_eq!(step["name"], "=arm, \"one\" (virtual machine) / step_time");
    assert_eq!(
        (&step["unit"], &step["extra"]),
        (&json!("ns"), &json!("geometric mean of 2 runs"))
    );
    assert!((step["value"].as_f64().unwrap() / expected - 1.0).abs() < 1e-9);
    assert!(step["range"].as_str().unwrap().contains(" to "));

    let bmf: Value = serde_json::from_str(&export::bmf(&runs, false).unwrap()).unwrap();
    let step = &bmf["=arm, \"one\" (virtual machine)"]["step_time_ns"];
    let value = |name: &str| step[name].as_f64().unwrap();
    assert!(value("lower_value") < expected && expected < value("upper_value"));
    assert!(
        bmf["=arm, \"one\" (virtual machine)"]["peak_memory_bytes"]["value"]
            .as_f64()
            .unwrap()
            > 1e9
    );
}

#[test]
fn a_run_by_itself_has_no_interval() {
    let record = store::parse(RECORD).unwrap();
    let text = export::bmf(&[Run::of("run", &record)], false).unwrap();
    let bmf: Value = serde_json::from_str(&text).unwrap();
    let (series, metrics) = bmf.as_object().unwrap().iter().next().unwrap();
    assert_eq!(series, "lfmark lfm2-1.2b bf16 gpu (virtual machine)");
    let step = metrics["step_time_ns"].as_object().unwrap();
    assert_eq!(step.keys().collect::<Vec<_>>(), ["value"]);
}

/// The committed run on another machine, as it is called there.
fn on(name: &str, change: impl Fn(&mut Start)) -> Run {
    let mut record = store::parse(RECORD).unwrap();
    record.start.machine.virtual_machine = Some(false);
    change(&mut record.start);
    Run::of(name, &record)
}

fn mac(model_id: &str) -> impl Fn(&mut Start) {
    move |start| {
        let machine = &mut start.machine;
        machine.chip = Some("Apple M4 Max".into());
        machine.model_id = Some(model_id.into());
        machine.gpu_cores = Some(40);
        machine.memory_bytes = Some(64 << 30);
    }
}

fn series(runs: &[Run], names_machine: bool) -> Vec<String> {
    let text = export::bmf(runs, names_machine).unwrap();
    let bmf: Value = serde_json::from_str(&text).unwrap();
    bmf.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn each_machine_has_series_of_its_own() {
    let (one, two) = (on("one", mac("Mac16,5")), on("two", mac("Mac16,9")));
    let plain = "lfmark lfm2-1.2b bf16 gpu".to_owned();
    let first = format!("{plain} on Apple M4 Max, Mac16,5, 40 GPU cores, 64 GiB");
    let second = format!("{plain} on Apple M4 Max, Mac16,9, 40 GPU cores, 64 GiB");
    let alone = [one.clone(), one.clone()];
    assert_eq!(series(&alone, false), [plain.as_str()]);
    let several = [one.clone(), two, one.clone()];
    assert_eq!(series(&several, false), [first.as_str(), &second]);
    let text = export::github_action(&several, false).unwrap();
    assert!(text.contains("mean of 2 runs") && !text.contains("of 3 runs"));
    // The name that a machine has beside others it can have without them.
    assert_eq!(series(&alone, true), [first]);
    // What other guests may have slowed down is no figure of the machine, and no other name's.
    let guest = on("guest", |start| start.machine.virtual_machine = Some(true));
    let bare = on("bare", |_| {});
    let expected = [plain.clone(), format!("{plain} (virtual machine)")];
    assert_eq!(series(&[bare, guest], false), expected);
}

#[test]
fn runs_of_different_work_have_no_mean() {
    let refused = |runs: &[Run], needles: [&str; 3]| {
        let text = export::github_action(runs, false).unwrap_err().to_string();
        assert!(export::bmf(runs, true).is_err());
        for needle in needles {
            assert!(text.contains(needle), "{needle}: {text}");
        }
    };
    let of = |name, length| on(name, move |start| start.config.max_seq_length = length);
    let mut runs = [of("a", 512), of("b", 2048)];
    refused(
        &runs,
        [
            "lfmark lfm2-1.2b bf16 gpu",
            "max_seq_length (512 in a, 2048 in b)",
            "by themselves",
        ],
    );
    // Only what has a mean has to be alike.
    runs[1].status = RunStatus::CutOff;
    assert_eq!(series(&runs, false).len(), 1);
    // Machines that no name tells apart.
    let limited = |name, watts: u64| {
        on(name, move |start| {
            start.machine.gpu_power_limit_uw = Some(watts * 1_000_000);
        })
    };
    refused(
        &[limited("a", 500), limited("b", 700)],
        [
            "on NVIDIA H200, 126 GiB",
            "gpu_power_limit_uw",
            "700000000 in b",
        ],
    );
    // Other programs at the work of an arm.
    let by = |name, program: &str| {
        let mut record = member(&store::parse(RECORD).unwrap(), 1);
        let engine = json!({"name": program, "version": "1", "memory_source": "none",
            "batches_sha256": "0"});
        record.start.engine = serde_json::from_value(engine).unwrap();
        Run::of(name, &record)
    };
    refused(
        &[by("a", "x"), by("b", "y")],
        ["=arm", "program (x in a, y in b)", "by themselves"],
    );
}

#[test]
fn a_table_has_every_run_and_no_formula() {
    let text = export::csv(&runs()).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(reader.headers().unwrap().len(), 9);
    let step: Vec<&csv::StringRecord> = rows.iter().filter(|row| &row[4] == "step_time").collect();
    assert_eq!(step.len(), 3);
    assert_eq!(
        (&step[2][0], &step[2][1], &step[2][3]),
        ("run-3", "'=arm, \"one\"", "false")
    );
    assert_eq!((&step[2][7], &step[2][8]), ("NVIDIA H200, 126 GiB", "true"));
    assert!(step[0][6].parse::<f64>().unwrap() < step[1][6].parse::<f64>().unwrap());
}

#[test]
fn json_lines_have_one_flat_schema() {
    let record = store::parse(RECORD).unwrap();
    let text = export::json_lines(&Run::of("run", &record), &record).unwrap();
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), record.iterations.len());
    let columns =
        |row: &Value| -> Vec<String> { row.as_object().unwrap().keys().cloned().collect() };
    assert!(rows.iter().all(|row| columns(row) == columns(&rows[0])));
    assert!(rows.iter().all(|row| {
        row.as_object()
            .unwrap()
            .values()
            .all(|it| !it.is_object() && !it.is_array())
    }));
    assert_eq!(rows[1]["step_ns"], record.iterations[1].step_ns);
    assert_eq!(rows[0]["chip"], Value::Null);
}

/// The committed record with a line changed by `change`, which gets every line as JSON.
fn changed(change: impl Fn(&mut Value)) -> String {
    let lines = RECORD.lines().map(|line| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        change(&mut value);
        value.to_string() + "\n"
    });
    lines.collect()
}

#[test]
fn nothing_private_is_left_in_a_shared_record() {
    let mut text = changed(|value| match value["event"].as_str().unwrap() {
        "start" => {
            value["model"]["name"] = "secret-model".into();
            value["data"]["name"] = "secret-data".into();
            value["unknown"] = "secret-field".into();
            value["mlx"]["variables"] =
                json!({"MLX_METAL_PATH": "/secret/path", "MLX_MAX_OPS_PER_BUFFER": "20"});
            value["machine"]["kernel"] = "6.8.0-Maria".into();
            value["mlx"]["device_name"] = "see /secret/device".into();
            value["config"]["generation"]["prompts"][0] = "secret prompt".into();
            value["config"]["generation"]["checks"] = json!([{"must_mention": ["secret"]}]);
            value["member"] = json!({"set": "secret-set", "arm": "secret-arm", "number": 1, "repeat": 1,
                "waited_ns": 0, "unmet": [], "unread": []});
        }
        "generation" => value["text"] = "secret text".into(),
        "end" => value["reason"] = "cannot read /secret".into(),
        _ => {}
    });
    let effect = json!({"event": "effect", "start_ns": 1, "wall_ns": 1, "samples": [],
        "texts_before": [{"token_ids": [5], "text": "secret text", "finish": "stop"}]});
    let end = text.trim_end().rfind('\n').unwrap() + 1;
    text.insert_str(end, &format!("{effect}\n"));
    // A name that is a word of the format must not break the record.
    let names = ["maria".to_owned(), "iteration".to_owned()];
    let privacy = Privacy {
        names: &names,
        public_models: &["lfm2-1.2b"],
    };
    let shared = share(&text, &privacy).unwrap();
    assert!(!shared.text.contains("secret") && !shared.text.to_lowercase().contains("maria"));
    let fields: BTreeSet<&str> = shared.removed.keys().map(String::as_str).collect();
    for field in [
        "start.run_id",
        "start.model.name",
        "start.data.name",
        "start.machine.kernel",
        "start.mlx.device_name",
        "start.mlx.variables",
        "start.member.arm",
        "start.config.generation.checks",
        "generation.text",
        "generation.token_ids",
        "effect.texts_before",
        "end.reason",
    ] {
        assert!(fields.contains(field), "{field}: {fields:?}");
    }
    let record = store::parse(&shared.text).unwrap();
    assert_eq!(record.effect.unwrap().texts_before[0].token_ids, [0]);
    assert_eq!(record.start.mlx.variables["MLX_MAX_OPS_PER_BUFFER"], "20");
    assert!(
        record
            .generations
            .iter()
            .all(|it| it.text == REMOVED && it.token_ids.iter().all(|&id| id == 0))
    );
}

#[test]
fn a_shared_record_keeps_every_sample_and_is_the_same_when_shared_again() {
    let privacy = Privacy {
        names: &[],
        public_models: &["lfm2-1.2b"],
    };
    let shared = share(RECORD, &privacy).unwrap();
    assert!(
        shared.name.starts_with("nvidia-h200-lfm2-1-2b-"),
        "{}",
        shared.name
    );
    let (before, after) = (
        store::parse(RECORD).unwrap(),
        store::parse(&shared.text).unwrap(),
    );
    assert_eq!(before.iterations, after.iterations);
    assert_eq!(before.states, after.states);
    assert_eq!((&before.phases, &before.end), (&after.phases, &after.end));
    for (before, after) in before.generations.iter().zip(&after.generations) {
        assert_eq!(
            (before.first_token_ns, &before.token_ns),
            (after.first_token_ns, &after.token_ns)
        );
        assert_eq!(before.token_ids.len(), after.token_ids.len());
    }
    let kinds = |text: &str| -> Vec<String> {
        let events = text
            .lines()
            .map(|line| serde_json::from_str::<Event>(line).unwrap());
        events
            .map(|event| serde_json::to_value(event).unwrap()["event"].to_string())
            .collect()
    };
    assert_eq!(kinds(RECORD), kinds(&shared.text));
    let again = share(&shared.text, &privacy).unwrap();
    assert_eq!((again.name, again.text), (shared.name, shared.text));
}

#[test]
fn a_removed_name_is_in_no_name_either() {
    let text = changed(|value| {
        if value["event"] == "start" {
            value["model"]["name"] = "LiquidAI/LFM2-acme".into();
            value["model"]["revision"] = "main".into();
            value["mlx"]["variables"] =
                json!({"MLX_SECRET_acme": "1", "MLX_SECRET_ACME": "2", "MLX_AL": "3"});
        }
    });
    let shared_without = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let privacy = Privacy {
            names: &names,
            public_models: &[],
        };
        share(&text, &privacy).unwrap()
    };
    let all = shared_without(&[]);
    assert!(all.name.contains("-lfm2-acme-"), "{}", all.name);
    let shared = shared_without(&["Acme", "al", "root"]);
    for name in ["acme", "_al\""] {
        let text = shared.text.to_lowercase();
        assert!(!text.contains(name), "{name}: {}", shared.name);
    }
    assert!(
        shared.name.starts_with("nvidia-h200-removed-"),
        "{}",
        shared.name
    );
    let start = store::parse(&shared.text).unwrap().start;
    assert_eq!(start.run_id, shared.name);
    let variables: Vec<(&str, &str)> = start
        .mlx
        .variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    // In the order of the names that they had.
    let expected = [("removed-1", "3"), ("removed-2", "2"), ("removed-3", "1")];
    assert_eq!(variables, expected);
    // The hash in the name is of what is published.
    let privacy = Privacy::default();
    let again = share(&shared.text, &privacy).unwrap();
    assert_eq!(
        again.name.rsplit('-').next(),
        shared.name.rsplit('-').next()
    );
    // A name can come about between two fields.
    let between = shared_without(&["h200-lfm2"]);
    assert!(between.name.starts_with("removed-"), "{}", between.name);
    assert!(is_telling("acme") && !is_telling("al") && !is_telling("root"));
    // A new Mac has such a name, and a chip is no secret.
    assert!(!is_telling("MacBook Pro") && is_telling("Anna's MacBook Pro"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// A record that was edited by hand is refused, or what is shared of it can be read.
    #[test]
    fn an_edited_record_is_refused_or_can_be_read_when_shared(
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[ -~é\n]{0,8}|null|-1|1e400"), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let lines: Vec<&str> = RECORD.lines().collect();
        let tail = lines.iter().rev().take(6).rev();
        let mut text: Vec<char> = lines[..12].iter().chain(tail).flat_map(|line| line.chars().chain(['\n'])).collect();
        for (at, edit) in &edits {
            let at = at.index(text.len());
            let end = (at + edit.chars().count()).min(text.len());
            text.splice(at..end, edit.chars());
        }
        text.truncate(cut.index(2 * text.len()));
        let text: String = text.into_iter().collect();
        if let Ok(shared) = share(&text, &Privacy::default()) {
            prop_assert!(store::parse(&shared.text).is_ok(), "{}", shared.text);
        }
    }
}
