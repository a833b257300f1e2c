//! `lfmark import`, `convert` and `share`: to and from other programs and other machines.

use std::fs;

use metrics::{sets, store};
use serde_json::Value;

use crate::support::{Finished, Folder, check_failed, repository};

const LOG: &str = include_str!("../../../../fixtures/exchange/mlx-lm-0.26-lora-a100.txt");
const TABLE: &str = include_str!("../../../../fixtures/exchange/llama-bench.md");
const ESTIMATES: &str = include_str!("../../../../fixtures/exchange/criterion-estimates.json");

#[test]
fn an_imported_log_is_a_document_that_the_audit_reads() {
    let folder = Folder::with("lora.log", LOG);
    folder.write("bench.md", TABLE);
    let finished = folder.ok("import lora.log bench.md -o imported");
    assert!(
        finished
            .stdout
            .contains("imported/lora.log.claims.json (41 figures of mlx_lm.lora)"),
        "{finished:?}"
    );
    assert!(
        finished
            .stderr
            .contains("note: lora.log: The peak is the highest"),
        "{finished:?}"
    );
    let audited = folder.ok("audit imported/lora.log.claims.json").stdout;
    for part in ["| **11-20** | 2.101 |", "building the batches, validation"] {
        assert!(audited.contains(part), "{part}: {audited}");
    }
    folder.ok("audit imported/bench.md.claims.json");
    folder.check_error(
        "import lora.log -o imported",
        1,
        &["imported/lora.log.claims.json exists already and is not overwritten"],
    );
    let json = folder.lfmark("import lora.log --json").json();
    assert_eq!(json["documents"][0]["program"], "mlx_lm.lora");
}

#[test]
fn estimates_of_two_benchmarks_have_two_documents() {
    let folder = Folder::new();
    for benchmark in ["first", "second"] {
        let dir = format!("criterion/{benchmark}/new");
        fs::create_dir_all(folder.path(&dir)).unwrap();
        folder.write(&format!("{dir}/estimates.json"), ESTIMATES);
    }
    folder.ok("import criterion/first/new/estimates.json criterion/second/new/estimates.json");
    assert!(folder.exists("first-estimates.json.claims.json"));
    assert!(folder.exists("second-estimates.json.claims.json"));
}

#[test]
fn what_is_no_output_of_a_program_is_refused() {
    let folder = Folder::with("bytes", [0xff, 0x00, 0x1b, 0x5b]);
    folder.check_error("import bytes", 1, &["bytes: nothing here is of a program"]);
    folder.check_error("import /dev/zero", 1, &["not a regular file"]);
    folder.check_error(
        "import missing",
        1,
        &["cannot read missing: No such file or directory (os error 2); check that the path is right"],
    );
    folder.check_error(
        "gate --criterion missing",
        1,
        &["cannot read missing: ", "; check that the path is right"],
    );
    fs::File::create(folder.path("huge"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    folder.check_error("import huge", 1, &["huge: it has more than 4194304 bytes"]);
}

#[test]
fn of_several_files_all_are_imported_or_none() {
    let folder = Folder::with("bytes", "nothing");
    for dir in ["a", "b"] {
        fs::create_dir(folder.path(dir)).unwrap();
        folder.write(&format!("{dir}/lb.md"), TABLE);
    }
    folder.write("lora.log", LOG);
    folder.check_error(
        "import a/lb.md b/lb.md -o out",
        2,
        &[
            "a/lb.md and b/lb.md would both become out/lb.md.claims.json",
            "--output",
        ],
    );
    folder.check_error(
        "import lora.log bytes -o out",
        1,
        &["bytes: nothing here is of a program", "nothing is written"],
    );
    assert!(!folder.exists("out"));
    folder.ok("import b/lb.md -o out");
    folder.check_error("import lora.log a/lb.md -o out", 1, &["exists already"]);
    assert!(!folder.exists("out/lora.log.claims.json"));
}

#[test]
fn a_name_does_nothing_to_a_terminal() {
    let folder = with_run();
    let name = "a\u{1b}[31mb";
    folder.write(name, LOG);
    // Equal ones would be one measurement.
    let slower = ESTIMATES.replacen("\"point_estimate\":", "\"point_estimate\":1", 1);
    for (dir, estimates) in [("base", ESTIMATES), ("new", &slower)] {
        let dir = format!("criterion/{name}/{dir}");
        fs::create_dir_all(folder.path(&dir)).unwrap();
        folder.write(&format!("{dir}/estimates.json"), estimates);
    }
    let check = |arguments: &[&str]| {
        let mut command = folder.command(arguments[0]);
        let finished: Finished = command.args(&arguments[1..]).output().unwrap().into();
        let shown = &finished.stdout;
        assert!(
            shown.contains("\\u{1b}[31mb") && !shown.contains('\u{1b}'),
            "{arguments:?}: {finished:?}"
        );
    };
    check(&["import", name]);
    check(&["share", "run", "-o", "share-\u{1b}[31mb"]);
    check(&[
        "bless",
        "--candidate",
        "run",
        "--baseline",
        "bless-\u{1b}[31mb",
        "--reason",
        "because",
    ]);
    check(&["history", "run", "-o", "history-\u{1b}[31mb"]);
    check(&["convert", "run", "--to", "csv", "-o", "csv-\u{1b}[31mb"]);
    check(&["report", "run", "-o", "report-\u{1b}[31mb"]);
    check(&["gate", "--criterion", "criterion"]);
}

/// A folder with a committed run as `run`.
fn with_run() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("run")).unwrap();
    let record = repository("fixtures/records/h200-lfm2-1.2b-2/record.jsonl");
    fs::copy(record, folder.path("run/record.jsonl")).unwrap();
    folder
}

#[test]
fn a_run_is_converted_for_other_programs() {
    let folder = with_run();
    let text = folder.ok("convert run --to bmf").stdout;
    let bmf: Value = serde_json::from_str(&text).unwrap();
    assert!(
        bmf["lfmark lfm2-1.2b bf16 gpu (virtual machine)"]["step_time_ns"]["value"].is_f64(),
        "{text}"
    );
    // Two runs of the same work are one series.
    let text = folder
        .ok("convert run run/record.jsonl --to github-action")
        .stdout;
    assert!(text.contains("geometric mean of 2 runs"), "{text}");
    let text = folder.ok("convert run --to bmf --name-machine").stdout;
    let named = "lfmark lfm2-1.2b bf16 gpu on NVIDIA H200, 126 GiB (virtual machine)";
    assert!(text.contains(named), "{text}");
    // Of different work they are no series.
    fs::create_dir_all(folder.path("other/run")).unwrap();
    let record = folder.read("run/record.jsonl");
    let longer = record.replace("\"max_seq_length\":", "\"max_seq_length\":1");
    folder.write("other/run/record.jsonl", longer);
    folder.check_error(
        "convert run other/run --to github-action",
        2,
        &["max_seq_length (", "by themselves"],
    );
    // Each row tells its run from one of the same name.
    let rows = folder.ok("convert run other/run --to csv").stdout;
    assert!(rows.contains("\nother/run,lfmark"), "{rows}");
    folder.ok("convert run --to jsonl -o samples.jsonl");
    let lines = folder.read("samples.jsonl").lines().count();
    assert_eq!(
        lines,
        store::read(&folder.path("run")).unwrap().iterations.len()
    );
    folder.check_error(
        "convert run --to csv -o samples.jsonl",
        1,
        &["samples.jsonl exists already and is not overwritten"],
    );
    folder.check_error(
        "convert run --to csv -o nowhere/samples.csv",
        1,
        &["cannot write nowhere/samples.csv: No such file or directory (os error 2); check"],
    );
    folder.check_error(
        "convert run --to csv --json",
        2,
        &["--json is with --output"],
    );
}

#[test]
fn a_run_that_did_not_complete_is_not_followed() {
    let folder = with_run();
    let text = folder.read("run/record.jsonl");
    let (cut, _) = text.trim_end().rsplit_once('\n').unwrap();
    folder.write("run/record.jsonl", format!("{cut}\n"));
    folder.check_error("convert run --to bmf", 1, &["no run is complete"]);
    let rows = folder.ok("convert run --to csv").stdout;
    assert!(rows.contains(",false,step_time,ns,"), "{rows}");
}

#[test]
fn a_shared_run_has_its_report_and_is_not_overwritten() {
    let folder = with_run();
    let before = folder.read("run/record.jsonl");
    let json = folder.lfmark("share run --json").json();
    let place = json["shared"].as_str().unwrap();
    assert!(
        place.starts_with("reports/machines/nvidia-h200-lfm2-1-2b-"),
        "{json}"
    );
    assert!(json["removed"]["generation.text"].as_u64().unwrap() > 0);
    let shared = store::read(&folder.path(place)).unwrap();
    let original = store::read(&folder.path("run")).unwrap();
    assert_eq!(shared.iterations, original.iterations);
    let report = folder.read(&format!("{place}/report.md"));
    for generation in &original.generations {
        assert!(!report.contains(&generation.prompt) && !report.contains(&generation.text));
    }
    folder.check_error("share run", 1, &["exists already and is not overwritten"]);
    let folders = fs::read_dir(folder.path("reports/machines"))
        .unwrap()
        .count();
    assert_eq!(folders, 1, "something is left over");
    assert_eq!(folder.read("run/record.jsonl"), before);
    let named = folder.ok("share run -o elsewhere --remove NVIDIA").stdout;
    assert!(named.contains("removed     start.machine.gpu"), "{named}");
    assert!(!named.to_lowercase().contains("nvidia"), "{named}");
    // However short a name is that was asked for.
    let short = folder.ok("share run -o short --remove 2b").stdout;
    assert!(short.contains("removed     start.model.name"), "{short}");
    folder.check_error("share run --remove=", 2, &["--remove is empty"]);
}

#[test]
fn a_set_is_shared_as_one_folder_with_its_report() {
    let folder = Folder::new();
    let set = repository("fixtures/records/cpu-vs-mlx-lm-cold");
    let mut count = 0;
    for entry in fs::read_dir(&set).unwrap() {
        let entry = entry.unwrap();
        let record = entry.path().join(store::FILE_NAME);
        if record.is_file() {
            count += 1;
            let to = folder.path("my secret set").join(entry.file_name());
            fs::create_dir_all(&to).unwrap();
            fs::copy(record, to.join(store::FILE_NAME)).unwrap();
        }
    }
    assert!(count > 2);
    let share = |arguments: &[&str]| -> Finished {
        let mut command = folder.command("share");
        command.args(arguments).output().unwrap().into()
    };
    let json = share(&["my secret set", "--json"]).json();
    let place = json["shared"].as_str().unwrap();
    assert!(place.contains(&format!("-{count}-runs-")), "{json}");
    let before = sets::read(&set).unwrap();
    let after = sets::read(&folder.path(place)).unwrap();
    assert_eq!(after.notices, [""; 0]);
    let arms = |set: &sets::Set| -> Vec<_> {
        let arm = |it: &sets::Process| set.arms.iter().position(|arm| *arm == it.member.arm);
        set.processes.iter().map(arm).collect()
    };
    assert_eq!(arms(&after), arms(&before));
    let expected: Vec<String> = (1..=after.arms.len())
        .map(|at| format!("arm-{at}"))
        .collect();
    assert_eq!((after.name.as_str(), &after.arms), ("set-1", &expected));
    let values = |set: &sets::Set| -> Vec<_> {
        set.processes
            .iter()
            .map(|it| it.run.metrics.clone())
            .collect()
    };
    assert_eq!(values(&after), values(&before));
    let report = folder.read(&format!("{place}/report.md"));
    assert!(report.contains("arm-2"), "{report}");
    let again = share(&["my secret set"]);
    check_failed(
        "again",
        &again,
        1,
        &["exists already and is not overwritten"],
    );
    let folders = fs::read_dir(folder.path("reports/machines")).unwrap();
    assert_eq!(folders.count(), 1, "something is left over");
}

#[test]
fn runs_that_are_no_set_are_shared_together_with_a_report_each() {
    let folder = with_run();
    fs::create_dir_all(folder.path("two/b")).unwrap();
    fs::rename(folder.path("run"), folder.path("two/a")).unwrap();
    let other = repository("fixtures/records/h200-lfm2-1.2b/record.jsonl");
    fs::copy(other, folder.path("two/b/record.jsonl")).unwrap();
    folder.ok("share two -o shared");
    let shared = fs::read_dir(folder.path("shared")).unwrap().next().unwrap();
    let place = format!("shared/{}", shared.unwrap().file_name().to_string_lossy());
    for run in ["01", "02"] {
        assert!(folder.exists(&format!("{place}/{run}/report.md")), "{run}");
        let record = store::read(&folder.path(&format!("{place}/{run}"))).unwrap();
        assert_eq!(record.start.run_id, run);
    }
    // One that cannot be read leaves nothing.
    folder.write("two/b/record.jsonl", "{}\n");
    folder.check_error("share two -o none", 1, &["two/b: line 1 is not the start"]);
    assert_eq!(fs::read_dir(folder.path("none")).unwrap().count(), 0);
}
