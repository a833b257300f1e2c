//! `lfmark sweep`, and the reports of what it leaves.

use std::fs;

use metrics::{
    record::Status,
    store::{self, Record},
};
use serde_json::Value;

use crate::support::{Folder, interrupt};

/// Few and small steps. The machine is looked at, and not waited for.
const QUICK: &str = "-o out --cool-down-limit 0 --iterations 3 --max-seq-length 9 --max-tokens 17";

/// Folders of runs in the sweep's folder, in the order of time.
fn runs(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path("out")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| folder.exists(&format!("out/{name}/record.jsonl")))
        .collect();
    names.sort();
    names
}

/// The complete record of a point.
fn at(folder: &Folder, point: &str) -> Record {
    let runs = runs(folder);
    let records = runs.iter().filter(|name| name[3..] == *point);
    let records = records.map(|name| store::read(&folder.path("out").join(name)).unwrap());
    let complete = |record: &Record| {
        let status = record.end.as_ref().map(|end| end.status);
        status == Some(Status::Complete)
    };
    records.into_iter().find(complete).unwrap()
}

#[test]
fn every_point_has_exactly_its_work() {
    let folder = Folder::new();
    let json = folder
        .ok(&format!(
            "sweep {QUICK} --axis batch-size=1,12 --axis lora-rank=2 --axis lora-layers=2 \
             --axis prompt-length=40 --axis generation-length=18 --json"
        ))
        .json();
    assert_eq!(json["summary"]["complete"], 6);
    let iteration = |point: &str| at(&folder, point).iterations[0];
    for (point, rows) in [("batch-size-1", 1), ("batch-size-12", 12)] {
        let first = iteration(point);
        assert_eq!(
            (first.rows, first.padded_tokens),
            (rows, 8 * rows),
            "{point}"
        );
        assert_eq!(first.real_tokens, first.padded_tokens, "{point}");
        assert!(at(&folder, point).generations.is_empty());
    }
    assert_eq!(at(&folder, "lora-rank-2").start.config.lora.rank, 2);
    assert_eq!(at(&folder, "lora-layers-2").start.config.lora.layers, 2);
    let generation = |point: &str| at(&folder, point).generations.remove(0);
    let long = generation("prompt-length-40");
    assert_eq!((long.prompt_tokens, long.token_ids.len()), (40, 17));
    assert_eq!(generation("generation-length-18").token_ids.len(), 18);

    let report = folder.read("out/report.md");
    for needle in [
        "**6 of 6 planned runs are complete.**",
        "not fitted: a line needs 3 different amounts of work, and 2 were measured",
        "](batch-size.svg)",
    ] {
        assert!(report.contains(needle), "no `{needle}` in:\n{report}");
    }
    fs::remove_file(folder.path("out/report.md")).unwrap();
    folder.ok("report out");
    assert_eq!(folder.read("out/report.md"), report);
}

/// OpenBLAS is what can be told a number of threads.
#[cfg(target_os = "linux")]
#[test]
fn the_number_of_threads_is_an_axis_on_linux() {
    let folder = Folder::new();
    folder.ok(&format!("sweep {QUICK} --device cpu --axis threads=1"));
    assert_eq!(at(&folder, "threads-1").iterations[0].rows, 1);
    assert!(folder.read("out/report.md").contains("](threads.svg)"));
}

#[test]
fn an_interrupted_sweep_is_reported_and_resumed() {
    let folder = Folder::new();
    // The order is that of the seed, so the first run's folder is known once there is a plan.
    let arguments = "sweep -o out --cool-down-limit 0 --axis sequence-length=4,8,16 --iterations \
                     1000000 --order-seed 5";
    folder.ok(
        "sweep -o out --cool-down-limit 0 --axis sequence-length=4,8,16 --iterations 2 \
               --order-seed 5",
    );
    let first = runs(&folder).remove(0);
    fs::remove_dir_all(folder.path("out")).unwrap();
    let record = format!("out/{first}/record.jsonl");
    let finished = folder.end_when(&record, arguments, "\"iteration\":5,", interrupt);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.stderr.contains("interrupted after 0 of 3 runs"),
        "{finished:?}"
    );
    assert!(
        folder
            .read("out/report.md")
            .contains("**0 of 3 planned runs are complete.**")
    );
    assert_eq!(runs(&folder), std::slice::from_ref(&first));

    for arm in fs::read_dir(folder.path("out/arms")).unwrap() {
        let path = arm.unwrap().path();
        let settings = fs::read_to_string(&path).unwrap();
        fs::write(&path, settings.replace("1000000", "3")).unwrap();
    }
    let finished = folder.ok("sweep --resume out --json");
    assert_eq!(finished.json()["summary"]["complete"], 3);
    let runs = runs(&folder);
    assert_eq!(runs.len(), 4, "{runs:?}");
    assert!(
        runs[1].starts_with("02-") && runs[1][3..] == first[3..],
        "{runs:?}"
    );
    let again = folder.ok("sweep --resume out");
    assert!(
        again.stderr.contains("every run of the plan is complete"),
        "{again:?}"
    );
}

#[test]
fn a_point_that_fails_does_not_end_the_sweep() {
    let folder = Folder::new();
    folder.write("data.jsonl", "{\"text\": \"one two\"}\n".repeat(8));
    let finished = folder.lfmark(&format!(
        "sweep {QUICK} --data data.jsonl --axis batch-size=2,99,4"
    ));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let expected = "1 of 3 runs did not complete: batch-size-99";
    assert!(finished.stderr.contains(expected), "{finished:?}");
    assert!(
        folder
            .read("out/report.md")
            .contains("**2 of 3 planned runs are complete.**")
    );
}

#[test]
fn programs_take_the_same_exported_work() {
    let folder = Folder::with("plain.toml", "");
    folder.write("cleared.toml", "clear-cache = true");
    let finished = folder.ok(&format!(
        "sweep {QUICK} --axis prompt-length=8,16,24 --arm plain.toml --arm cleared.toml --json"
    ));
    let axis: Value = finished.json()["summary"]["axes"][0].clone();
    let compared = &axis["comparisons"][0];
    assert_eq!(compared["different_work"], Value::Null, "{axis}");
    assert!(compared["compared"]["share"]["value"].is_number(), "{axis}");
    for program in ["plain", "cleared"] {
        let record = at(&folder, &format!("prompt-length-16-{program}"));
        assert_eq!(record.start.config.clear_cache, program == "cleared");
        assert_eq!(record.generations[0].prompt_tokens, 16);
    }
}

#[test]
fn what_cannot_be_swept_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    let check = |arguments: &str, problem: &str| {
        folder.check_nothing_run(&format!("sweep -o out {arguments}"), 2, &[problem]);
    };
    check("", "--axis");
    check("--axis heat=1", "`heat` cannot be varied");
    check("--axis lora-rank=1 --axis lora-rank=2", "stands twice");
    check(
        "--axis lora-rank=1 --lora-rank 4",
        "the sweep sets `lora-rank`",
    );
    check("--axis threads=1 --device gpu", "for OpenBLAS alone");
    check("--axis generation-length=4", "give 17 or more");
    for axis in ["prompt-length=8", "sequence-length=8", "context=8,16"] {
        check(
            &format!("--axis {axis},4000000000 --repeats 2"),
            "of 4000000000 is longer than the texts that a sweep makes",
        );
    }
    check(
        "--axis batch-size=1,4000000",
        "4000000 rows of 129 tokens are more text",
    );
    check(
        "--axis lora-rank=1 --temperature=-1",
        "the temperature is -1",
    );
    // The last layer of the embedded model is a convolution.
    check("--axis lora-layers=2,1", "lora-layers-1: ");
    check(
        "--axis lora-layers=2,100",
        "lora-layers-100: 100 LoRA layers were asked for",
    );
    check("--resume out --axis lora-rank=1", "cannot be used with");
    check("--resume out --seed 1", "cannot be used with");
    folder.check_error("sweep --resume out", 1, &["sweep.json"]);
}

#[test]
fn a_plan_names_a_program_as_its_arm_does() {
    let folder = Folder::new();
    fs::create_dir(folder.path("tools")).unwrap();
    let lfmark = env!("CARGO_BIN_EXE_lfmark");
    std::os::unix::fs::symlink(lfmark, folder.path("tools/other")).unwrap();
    folder.write("plain.toml", "");
    folder.write("other.toml", "program = \"tools/other\"\n");
    let arms = "--arm plain.toml --arm other.toml";
    folder.ok(&format!("sweep {QUICK} --axis lora-rank=2 {arms}"));
    let plan: Value = serde_json::from_str(&folder.read("out/sweep.json")).unwrap();
    assert_eq!(plan["programs"][0]["file"], Value::Null);
    assert_eq!(plan["programs"][1]["file"], "tools/other");

    let runs = runs(&folder);
    let run = runs.iter().find(|name| name.ends_with("-other")).unwrap();
    fs::remove_dir_all(folder.path("out").join(run)).unwrap();
    fs::rename(folder.path("tools"), folder.path("gone")).unwrap();
    folder.check_error(
        "sweep --resume out",
        2,
        &["out: `program` is tools/other, and there is no such file here"],
    );
    fs::rename(folder.path("gone"), folder.path("tools")).unwrap();
    folder.ok("sweep --resume out");
    at(&folder, "lora-rank-2-other");
}

#[test]
fn every_process_of_a_context_axis_has_prompts_of_all_lengths() {
    let folder = Folder::new();
    let json = folder
        .ok(&format!(
            "sweep {QUICK} --axis context=40,8,20 --repeats 2 --json"
        ))
        .json();
    assert_eq!(json["summary"]["planned"], 2);
    assert_eq!(json["summary"]["complete"], 2);
    let points = json["summary"]["axes"][0]["programs"][0]["points"].as_array();
    assert_eq!(points.unwrap().len(), 3);
    let lengths: Vec<u32> = at(&folder, "context")
        .generations
        .iter()
        .map(|generation| generation.prompt_tokens)
        .collect();
    assert_eq!(
        lengths,
        [8, 20, 40, 40, 20, 8, 8, 20, 40, 40, 20, 8, 8, 20, 40]
    );
    let report = folder.read("out/report.md");
    for needle in ["**2 of 2 planned runs are complete.**", "](context.svg)"] {
        assert!(report.contains(needle), "no `{needle}` in:\n{report}");
    }
}
