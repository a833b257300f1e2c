//! `lfmark regress`: a verdict and its exit code. The programs that it compares hand out records of
//! known truth, so that no verdict depends on the machine.

use std::{fs, os::unix::fs::PermissionsExt};

use metrics::{
    engine::{self, Truth},
    record::{Member, Start},
};

use crate::support::{Folder, check_failed};

/// Two more than [`REGRESS`] asks for.
const REPEATS: u32 = 7;

const REGRESS: &str = "regress --baseline ./program --candidate ./program --repeats 5 \
                       --cool-down-limit 0 -o out";

/// Stands for a build of lfmark: `run --config FILE --output DIR --member JSON`.
const PROGRAM: &str = "#!/bin/sh\nset=\"$(basename \"$(dirname \"$5\")\")\"\nmkdir \"$5\" && \
                       cp \"records/$set/$(basename \"$5\")/record.jsonl\" \"$5\"\n";

/// A folder with that program, and the records that it hands out: the same to the fresh set that
/// has to confirm a regression.
fn folder(candidate: &Truth, of_candidate: fn(&mut Start)) -> Folder {
    let folder = Folder::with("program", PROGRAM);
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path("program"), executable).unwrap();
    records(&folder, "out", candidate, of_candidate);
    records(&folder, "fresh", candidate, of_candidate);
    folder
}

fn records(folder: &Folder, set: &str, candidate: &Truth, of_candidate: fn(&mut Start)) {
    let mut number = 0;
    for repeat in 1..=REPEATS {
        let mut order = ["baseline", "candidate"];
        if repeat % 2 == 0 {
            order.reverse();
        }
        for arm in order {
            number += 1;
            let name = format!("{number:02}-{arm}");
            let mut start = engine::start(&name, 30);
            start.member = Some(Member {
                set: set.to_owned(),
                arm: arm.to_owned(),
                number,
                repeat,
                waited_ns: 0,
                unmet: Vec::new(),
                unread: Vec::new(),
                empty_caches: None,
            });
            let mut truth = steady();
            if arm == "candidate" {
                truth = *candidate;
                of_candidate(&mut start);
            }
            let dir = folder.path("records").join(set).join(&name);
            engine::record(&truth, &start, number.into(), &dir).unwrap();
        }
    }
}

/// Processes that differ by 0.2 %.
fn steady() -> Truth {
    let mut truth = Truth::steady(30);
    truth.step.process_spread = 0.002;
    truth
}

fn slower(by: f64) -> Truth {
    let mut truth = steady();
    truth.step.level *= 1.0 + by;
    truth
}

/// What is on stderr has all of `needles`, and the report has the verdict too.
fn check(candidate: Truth, of_candidate: fn(&mut Start), code: i32, word: &str, needles: &[&str]) {
    let folder = folder(&candidate, of_candidate);
    let finished = folder.lfmark(REGRESS);
    check_failed(word, &finished, code, needles);
    for text in [&finished.stdout, &folder.read("out/report.md")] {
        let verdict = format!("candidate against baseline: {word}");
        assert!(text.contains(&verdict), "{text}");
    }
}

#[test]
fn the_exit_code_is_the_verdict() {
    let as_it_is = |_: &mut Start| {};
    check(steady(), as_it_is, 0, "equivalent", &[]);
    check(slower(-0.1), as_it_is, 0, "improved", &[]);
    check(
        slower(0.1),
        as_it_is,
        3,
        "regressed",
        &[
            "confirmed by fresh runs: step time +",
            "error: regressed: step time +",
            " % confidence)",
            "find out what costs this",
        ],
    );
    let mut noisy = slower(0.03);
    noisy.step.process_spread = 0.05;
    check(
        noisy,
        as_it_is,
        4,
        "inconclusive",
        &["error: inconclusive: step time ", "; --repeats "],
    );
    let hot = Truth {
        thermal_state: [0, 2],
        ..slower(0.1)
    };
    check(
        hot,
        as_it_is,
        5,
        "void",
        &["error: void: the thermal state rose"],
    );
    check(
        slower(0.1),
        |start| start.config.max_seq_length = 8,
        6,
        "not comparable",
        &["error: not the same work: ", "max_seq_length"],
    );
}

#[test]
fn a_regression_that_a_fresh_set_does_not_show_is_inconclusive() {
    let folder = folder(&slower(0.1), |_| {});
    fs::remove_dir_all(folder.path("records/fresh")).unwrap();
    records(&folder, "fresh", &steady(), |_| {});
    let finished = folder.lfmark(REGRESS);
    let needles = [
        "5 fresh processes of each have to show it too",
        "error: inconclusive: regressed, and not in fresh runs too: step time +",
        "confidence), then ",
        " for the worse; below 0.0",
        "; give --repeats 10, on a machine that does nothing else",
    ];
    check_failed("unconfirmed", &finished, 4, &needles);
    let fresh = folder.read("out/fresh/report.md");
    assert!(
        fresh.contains("candidate against baseline: equivalent"),
        "{fresh}"
    );
}

/// Writes into a record how much of 1,000 ms other guests of the hardware had, by the name of its run.
fn steal(folder: &Folder, set: &str, stolen_ms: fn(&str) -> u32) {
    let unread = "\"cpu_total_ms\":null,\"cpu_steal_ms\":null";
    for entry in fs::read_dir(folder.path("records").join(set)).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path().join("record.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        let name = entry.file_name().into_string().unwrap();
        let end = format!(
            "\"cpu_total_ms\":2000,\"cpu_steal_ms\":{}",
            stolen_ms(&name)
        );
        let begin = "\"cpu_total_ms\":1000,\"cpu_steal_ms\":0";
        let text = text.replacen(unread, begin, 1).replace(unread, &end);
        assert!(text.contains(&end), "{text}");
        fs::write(&path, text).unwrap();
    }
}

#[test]
fn pairs_that_lost_time_to_other_guests_are_measured_again() {
    let folder = folder(&steady(), |_| {});
    steal(&folder, "out", |name| match name {
        "03-candidate" | "11-candidate" => 60,
        _ => 10,
    });
    let finished = folder.lfmark(REGRESS);
    let needles = [
        "took CPU time from 1 of 5 pairs: measuring 1 more",
        "took CPU time from 2 of 6 pairs: measuring 1 more",
    ];
    check_failed("again", &finished, 0, &needles);
    assert!(folder.exists("out/14-candidate/record.jsonl"));
    let report = folder.read("out/report.md");
    let sentence = "in repeats 2, 6: they are not left out, since fewer than 10 would be left.";
    assert!(report.contains(sentence), "{report}");
}

#[test]
fn json_is_one_object_whatever_the_exit_code() {
    let folder = folder(&slower(0.1), |_| {});
    let finished = folder.lfmark(&format!("{REGRESS} --json"));
    assert_eq!(finished.code, Some(3), "{finished:?}");
    let json: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    let comparison = &json["summary"]["comparisons"][0]["comparison"];
    assert_eq!(comparison["verdict"]["kind"], "regressed");
    assert_eq!(json["fresh"]["set"], "out/fresh");
}

#[test]
fn programs_are_checked_before_anything_runs_and_one_that_fails_ends_it() {
    let folder = Folder::new();
    let check = |arguments: &str, code, needles: &[&str]| {
        folder.check_nothing_run(&format!("regress -o out {arguments}"), code, needles);
    };
    check("", 2, &["--baseline"]);
    check("--baseline ./nowhere", 2, &["nowhere", "no such file"]);
    check("--baseline false --repeats 1", 2, &["--repeats"]);
    check("--baseline false --lora-rank 0", 2, &["lora-rank is 0"]);
    let failing = "regress --baseline false -o out --cool-down-limit 0";
    folder.check_error(failing, 1, &["run 1 of 80 (arm baseline)"]);
}
