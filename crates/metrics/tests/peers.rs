//! The records that other programs write: `peers/record.py`, which needs no package, against this
//! crate's reader and its rules.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use metrics::record::{Engine, Start, Status, WindowSpec};
use metrics::{engine, machine, store, window};

/// When the peers here are told that they were started, in nanoseconds since the Unix epoch.
const LAUNCHED: u64 = 1_000_000_000;

/// Runs a script with `record` imported and `given` read from stdin, and gives what it printed.
fn python(script: &str, arguments: &[&Path], given: &serde_json::Value) -> String {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../peers");
    let head = "import record, json, sys\nfrom pathlib import Path\ngiven = json.load(sys.stdin)\n";
    let mut child = Command::new("python3")
        .args(["-B", "-c"])
        .arg(format!("{head}{script}"))
        .args(arguments)
        .env("PYTHONPATH", peers)
        .env("LFMARK_LAUNCHED_UNIX_NS", LAUNCHED.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(given.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a peer gives of the first line.
fn start() -> Start {
    let mut start = engine::start("ignored", 2);
    start.config.device = "cpu".into();
    start.engine = Some(Engine {
        name: "other".into(),
        version: "1.2".into(),
        memory_source: "other".into(),
        batches_sha256: "ab".into(),
    });
    start
}

#[test]
fn a_record_of_a_peer_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let run: PathBuf = folder.path().join("run");
    let mut given = serde_json::to_value(start()).unwrap();
    for own in [
        "schema",
        "run_id",
        "started_unix_ms",
        "launch_ns",
        "footprint_source",
    ] {
        given.as_object_mut().unwrap().remove(own);
    }
    let script = r#"
log = record.Record(Path(sys.argv[1]), given)
with log.phase("setup"):
    pass
log.machine_state()
counts = {"rows": 1, "real_tokens": 70, "padded_tokens": 96, "loss_tokens": 69}
for number, loss in enumerate([5.5, float("nan")], start=1):
    times = {"start_ns": record.now_ns(), "data_ns": 7, "step_ns": 11}
    log.iteration(number, times, counts, loss, record.memory(1, 2, 3))
log.generation({"start_ns": record.now_ns(), "prompt": "p\n", "prompt_tokens": 3,
    "first_token_ns": 5, "token_ns": [6], "token_ids": [1, 2], "text": "é", "finish": "stop",
    "wall_ns": 20}, record.memory(4, 5, 6))
log.end("complete")
"#;
    python(script, &[&run], &given);
    let record = store::read(&run).unwrap();
    assert_eq!(record.notices, Vec::<String>::new());
    let written = record.start.clone();
    assert_eq!(written.run_id, "run");
    let started_ms = (LAUNCHED + written.launch_ns.unwrap()) / 1_000_000;
    assert_eq!(started_ms, written.started_unix_ms);
    assert_eq!(written.engine, start().engine);
    assert_eq!(
        (written.config, written.model),
        (start().config, start().model)
    );
    let steps: Vec<_> = record
        .iterations
        .iter()
        .map(|it| (it.step_ns, it.loss))
        .collect();
    assert_eq!(steps, [(11, Some(5.5)), (11, None)]);
    // The first reading is always taken.
    assert_eq!(
        record.iterations[0].footprint_bytes.is_some(),
        cfg!(target_os = "linux")
    );
    let generation = &record.generations[0];
    assert_eq!((generation.text.as_str(), generation.peak_bytes), ("é", 6));
    assert_eq!((record.phases.len(), record.states.len()), (1, 2));
    for state in &record.states {
        let stolen = state.cpu_steal_ms.is_some();
        assert_eq!(
            (stolen, state.cpu_total_ms.is_some()),
            (cfg!(target_os = "linux"), stolen)
        );
    }
    assert_eq!(record.end.unwrap().status, Status::Complete);
}

#[test]
fn a_peer_resets_the_peak_where_lfmark_does() {
    let check = |text: &str| {
        let windows: Vec<WindowSpec> = window::parse(text).unwrap();
        let script = "print([n for n in range(1, 13) if record.begins_window(given, n)])";
        let printed = python(script, &[], &serde_json::to_value(&windows).unwrap());
        let expected: Vec<u32> = (1..13)
            .filter(|&iteration| window::begins_window(&windows, iteration))
            .collect();
        let found: Vec<u32> = serde_json::from_str(&printed).unwrap();
        assert_eq!(found, expected, "{text}");
    };
    check("1-12");
    check("1-4,4-8,8-12");
    check("2-3,5-5,9-12");
}

#[test]
fn a_peer_knows_the_machine_that_lfmark_describes() {
    let script = "print(record.machine_differs(given))";
    let mut here = serde_json::to_value(machine::Reader::for_gpu(None).machine()).unwrap();
    assert_eq!(python(script, &[], &here).trim(), "None");
    here["kernel"] = "another".into();
    assert_eq!(python(script, &[], &here).trim(), "kernel");
}
