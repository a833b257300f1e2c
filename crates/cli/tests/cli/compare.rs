//! `lfmark compare`, `gate` and `bless`, on records of known truth.

use std::fs;

use metrics::{
    engine::{self, Truth},
    record::Start,
};

use crate::support::{Folder, check_failed};

/// Puts runs of a machine that is slower by this factor into a folder.
fn runs(folder: &Folder, name: &str, factor: f64, seed: u64, of_run: fn(&mut Start)) {
    let mut truth = Truth::steady(30);
    truth.step.process_spread = 0.002;
    truth.step.level *= factor;
    for run in 0..6 {
        let mut start = engine::start(&format!("{name}-{run}"), truth.iterations);
        of_run(&mut start);
        let dir = folder.path(name).join(format!("{run}"));
        engine::record(&truth, &start, seed + run, &dir).unwrap();
    }
}

#[test]
fn folders_and_patterns_become_columns() {
    let folder = Folder::with("note.txt", "");
    runs(&folder, "mac-a", 1.0, 1, |start| {
        start.machine.chip = Some("Apple M4".to_owned())
    });
    runs(&folder, "mac-b", 1.3, 100, |start| {
        start.machine.chip = Some("Apple M1".to_owned())
    });
    let compared = folder.ok("compare mac-a mac-b/* -o out --format html,json,csv");
    for needle in ["step time\n  mac-a ", "best", "slower +"] {
        assert!(compared.stdout.contains(needle), "{}", compared.stdout);
    }
    let report = folder.read("out/report.md");
    assert!(
        report.contains("| Quantity | mac-a | mac-b/\\* |"),
        "{report}"
    );
    for name in [
        "report.html",
        "comparison.json",
        "comparison.csv",
        "columns.svg",
        "step-rates.svg",
    ] {
        assert!(folder.path("out").join(name).is_file(), "{name}");
    }
    // One argument has a column for every machine.
    let together = folder.ok("compare . -o out2");
    assert!(
        together.stdout.contains("\n  Apple M1 "),
        "{}",
        together.stdout
    );
}

#[test]
fn runs_of_different_work_are_refused_until_the_field_is_allowed() {
    let folder = Folder::with("note.txt", "");
    runs(&folder, "a", 1.0, 1, |_| {});
    runs(&folder, "b", 1.0, 100, |start| {
        start.config.dtype = "bf16".to_owned()
    });
    let refused = folder.lfmark("compare a b -o out");
    check_failed(
        "refused",
        &refused,
        6,
        &["dtype (f32 in a/0, bf16 in b/0)", "--allow"],
    );
    folder.ok("compare a b -o out --allow dtype");
    assert!(
        folder
            .read("out/report.md")
            .contains("## Metrics (of runs that differ: dtype")
    );
    // What is only shown apart refuses nothing.
    runs(&folder, "c", 1.5, 200, |start| {
        start.machine.chip = Some("Apple M4".to_owned())
    });
    runs(&folder, "guest", 1.0, 300, |start| {
        start.machine.virtual_machine = Some(true);
        start.config.dtype = "bf16".to_owned();
    });
    let compared = folder.ok("compare a c guest -o out2");
    let apart = "not compared: 6 of guest (it ran in a virtual machine, whose hardware other guests \
                 may share; not alike either: dtype (f32 in a/0, bf16 in guest/0))";
    assert!(compared.stdout.contains(apart), "{}", compared.stdout);
    check_failed(
        "unknown",
        &folder.lfmark("compare a b --allow speed"),
        2,
        &["no such field"],
    );
    check_failed(
        "empty",
        &folder.lfmark("compare note* a"),
        2,
        &["note: note.txt is left out", "fewer than two"],
    );
}

#[test]
fn the_gate_ends_with_its_verdict_and_a_blessed_baseline_counts() {
    let folder = Folder::with("limits.toml", "[step_time]\npractical = 0.05\n");
    runs(&folder, "a", 1.0, 1, |_| {});
    runs(&folder, "b", 1.2, 100, |_| {});
    runs(&folder, "c", 1.2, 200, |_| {});
    let gate = "gate --limits limits.toml --baseline";
    let slower = folder.lfmark(&format!("{gate} a --candidate b"));
    check_failed(
        "slower",
        &slower,
        3,
        &["regressed: step time +", "% confidence", "find out"],
    );
    let few = folder.lfmark(&format!("{gate} a/0 --candidate b/0"));
    check_failed(
        "few",
        &few,
        4,
        &[
            "inconclusive: step time",
            "to begin, a test needs 4 more runs of each",
        ],
    );
    assert!(!few.stderr.contains("spreads"), "{}", few.stderr);

    folder.ok("bless --candidate a --baseline base --reason first");
    let slower = folder.lfmark(&format!("{gate} base --candidate b"));
    check_failed("slower", &slower, 3, &["regressed"]);
    folder.ok("bless --candidate b --baseline base --reason learns-more");
    folder.ok(&format!("{gate} base --candidate c"));
    let kept = folder.read("base/baseline.json");
    assert!(
        kept.contains("first") && kept.contains("learns-more"),
        "{kept}"
    );
    assert!(folder.path("base/001/0001/record.jsonl").is_file());

    fs::write(folder.path("limits.toml"), "[step_time]\nhard = 5\n").unwrap();
    let wrong = folder.lfmark(&format!("{gate} a --candidate b"));
    check_failed("limits", &wrong, 2, &["limits.toml", "limits of memory"]);
}

#[test]
fn runs_of_the_baseline_are_no_candidate() {
    let folder = Folder::with("limits.toml", "[step_time]\npractical = 0.05\n");
    runs(&folder, "a", 1.0, 1, |_| {});
    runs(&folder, "b", 1.0, 100, |_| {});
    let gate = "gate --limits limits.toml --baseline a --candidate";
    folder.ok(&format!("{gate} b"));
    check_failed(
        "same",
        &folder.lfmark(&format!("{gate} a")),
        2,
        &["6 of the candidate's 6 runs", "a/4 is a/4, and so on"],
    );
    copy(&folder, "a/3", "b/copy");
    check_failed(
        "copy",
        &folder.lfmark(&format!("{gate} b")),
        2,
        &["1 of the candidate's 7 runs", "b/copy is a/3"],
    );
    // None of these is whole.
    runs(&folder, "c", 1.0, 200, |_| {});
    for run in 0..6 {
        let path = folder.path(&format!("c/{run}/record.jsonl"));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, &text[..text.len() / 2]).unwrap();
    }
    check_failed(
        "torn",
        &folder.lfmark(&format!("{gate} c")),
        4,
        &["c/0 is left out", "complete runs of both", "measure those"],
    );
}

#[test]
fn runs_that_no_candidate_could_be_like_are_no_baseline() {
    let folder = Folder::with("note.txt", "");
    runs(&folder, "v/a", 1.0, 1, |_| {});
    runs(&folder, "v/b", 1.0, 100, |start| {
        start.machine.chip = Some("Apple M9".to_owned());
        start.mlx.version = "9".to_owned();
    });
    let bless = "bless --baseline base --reason first --candidate";
    let refused = folder.lfmark(&format!("{bless} v/*"));
    check_failed(
        "refused",
        &refused,
        6,
        &["chip (", "mlx_version (", "v/b/0"],
    );
    assert!(!folder.path("base").exists());
    let mut hot = Truth::steady(30);
    hot.thermal_state = [0, 2];
    let start = engine::start("hot", hot.iterations);
    engine::record(&hot, &start, 1, &folder.path("hot")).unwrap();
    let void = folder.lfmark(&format!("{bless} v/a --candidate hot"));
    check_failed("void", &void, 5, &["thermal state rose", "in hot"]);
    copy(&folder, "v/a/0", "v/a/copy");
    let blessed = folder.ok(&format!("{bless} v/a --candidate v/a/1"));
    assert!(blessed.stdout.contains("6 runs"), "{}", blessed.stdout);
    assert!(blessed.stderr.contains("copy of another run"));
    assert!(!folder.path("base/001/0007").exists());
}

/// Copies a run.
fn copy(folder: &Folder, from: &str, to: &str) {
    fs::create_dir_all(folder.path(to)).unwrap();
    let [from, to] = [from, to].map(|run| folder.path(run).join("record.jsonl"));
    fs::copy(from, to).unwrap();
}

/// Puts what criterion measured of one benchmark before and after into a folder.
fn criterion(folder: &Folder, name: &str, means: [f64; 2]) {
    for (arm, mean) in ["base", "new"].into_iter().zip(means) {
        let dir = folder.path(name).join("group/step").join(arm);
        fs::create_dir_all(&dir).unwrap();
        let text = format!("{{\"mean\":{{\"point_estimate\":{mean:?}}}}}");
        fs::write(dir.join("estimates.json"), text).unwrap();
    }
}

#[test]
fn one_run_of_criterion_is_inconclusive() {
    let folder = Folder::with("note.txt", "");
    criterion(&folder, "criterion", [100.0, 300.0]);
    let judged = folder.lfmark("gate --criterion criterion");
    check_failed(
        "criterion",
        &judged,
        4,
        &[
            "group/step +200",
            "one process",
            "needs --criterion with 5 folders",
        ],
    );
    check_failed("none", &folder.lfmark("gate --criterion ."), 4, &[]);
    check_failed("nothing", &folder.lfmark("gate"), 2, &["--baseline"]);
    // The same folder by other ways, a copy, and one that shares its baseline, are no other runs.
    criterion(&folder, "copy", [100.0, 300.0]);
    criterion(&folder, "half", [100.0, 301.0]);
    let mut again = "gate".to_owned();
    for name in [
        "criterion",
        "./criterion/",
        "copy/../criterion",
        "copy",
        "half",
    ] {
        again += &format!(" --criterion {name}");
    }
    let one = "--criterion with 5 folders";
    check_failed(
        "again",
        &folder.lfmark(&again),
        4,
        &["half is left out: half/group", one],
    );
    for run in 0..4 {
        let means = [100.1, 300.1].map(|mean| mean + f64::from(run));
        criterion(&folder, &format!("more-{run}"), means);
        again += &format!(" --criterion more-{run}");
    }
    check_failed("five", &folder.lfmark(&again), 3, &["group/step +"]);
    // As criterion leaves them by default.
    criterion(&folder, "saved", [300.0, 300.0]);
    let saved = folder.lfmark("gate --criterion saved");
    check_failed("saved", &saved, 2, &["one measurement", "--baseline base"]);
    criterion(&folder, "other/deeper", [102.0, 103.0]);
    check_failed(
        "none shared",
        &folder.lfmark("gate --criterion criterion --criterion other"),
        4,
        &["no benchmark is in every folder"],
    );
}
