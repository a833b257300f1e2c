//! `lfmark run --repeats`, `lfmark noise`, and the reports of what they leave.

use std::{collections::BTreeMap, fs};

use metrics::{
    noise::{FILE_NAME, Noise},
    record::{Member, Status},
    sets,
    store::{self, Record},
};

use crate::support::{ENDLESS, Folder, check_failed, interrupt};

/// Few and small steps. The machine is looked at, and not waited for.
const QUICK: &str = "-o out --cool-down-limit 0 --iterations 3 --no-generation \
                     --max-seq-length 8 --truncate";

/// In the record of a run that has measured a few iterations.
const FIFTH: &str = "\"iteration\":5,";

fn two_arms() -> Folder {
    let folder = Folder::with("a.toml", "seed = 1\n");
    folder.write("b.toml", "seed = 1\nclear-cache = true\n");
    folder
}

/// Names of the folders of runs in the set's folder.
fn runs(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path("out")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| folder.exists(&format!("out/{name}/record.jsonl")))
        .collect();
    names.sort();
    names
}

fn record(folder: &Folder, run: &str) -> Record {
    store::read(&folder.path("out").join(run)).unwrap()
}

fn member(folder: &Folder, run: &str) -> Member {
    record(folder, run).start.member.unwrap()
}

/// The report of a set and its charts.
fn report_files(folder: &Folder) -> BTreeMap<String, String> {
    let names = ["report.md", "changes.svg", "processes.svg"];
    let files = names
        .iter()
        .filter(|name| folder.exists(&format!("out/{name}")));
    files
        .map(|name| ((*name).to_owned(), folder.read(&format!("out/{name}"))))
        .collect()
}

#[test]
fn two_arms_take_turns_in_fresh_processes_and_are_compared() {
    let folder = two_arms();
    let arguments = format!("run --repeats 2 --arm a.toml --arm b.toml {QUICK}");
    let finished = folder.ok(&arguments);
    assert_eq!(runs(&folder), ["01-a", "02-b", "03-b", "04-a"]);
    for (run, arm, number, repeat) in [
        ("01-a", "a", 1, 1),
        ("02-b", "b", 2, 1),
        ("03-b", "b", 3, 2),
        ("04-a", "a", 4, 2),
    ] {
        let member = member(&folder, run);
        assert_eq!(
            (member.set.as_str(), member.arm.as_str()),
            ("out", arm),
            "{run}"
        );
        assert_eq!((member.number, member.repeat), (number, repeat), "{run}");
        assert!(member.waited_ns > 0, "{member:?}");
        let record = record(&folder, run);
        assert_eq!(record.start.run_id, run);
        assert_eq!(record.start.config.clear_cache, arm == "b");
        assert_eq!(record.start.config.seed, 1, "an arm goes before a flag");
        assert_eq!(record.end.unwrap().status, Status::Complete);
        assert!(folder.exists(&format!("out/{run}/report.md")), "{run}");
    }
    assert!(
        finished.stderr.contains("run 3 of 4, arm b"),
        "{finished:?}"
    );
    assert!(finished.stdout.contains("b against a: "), "{finished:?}");
    assert!(finished.stdout.contains("out/report.md"), "{finished:?}");
    let files = report_files(&folder);
    assert_eq!(files.len(), 3);
    let report = &files["report.md"];
    for needle in [
        "**b against a: ",
        "| clear\\_cache | false | true |",
        "[03-b](03-b/report.md)",
        "| step time | 2 + 2 |",
        "No noise floor",
        "comparison.practical",
    ] {
        assert!(report.contains(needle), "no `{needle}` in:\n{report}");
    }
}

#[test]
fn a_report_of_a_set_built_anew_has_the_same_bytes() {
    let folder = two_arms();
    let arguments = format!("run --repeats 2 --arm a.toml --arm b.toml {QUICK} --json");
    let json = folder.lfmark(&arguments).json();
    assert_eq!(json["summary"]["comparisons"][0]["candidate"], "b");
    let written = report_files(&folder);
    for name in written.keys() {
        fs::remove_file(folder.path("out").join(name)).unwrap();
    }
    assert_eq!(folder.lfmark("report out --json").json(), json);
    assert_eq!(report_files(&folder), written);

    folder.write("rules.toml", "[comparison]\npractical = 0.5\n");
    folder.ok("report out --rules rules.toml");
    let report = folder.read("out/report.md");
    assert!(report.contains("The thresholds were given"), "{report}");
    assert!(report.contains("0.5 (default 0.02)"), "{report}");
}

#[test]
fn one_arm_shows_its_spread_and_one_repeat_is_a_plain_run() {
    let folder = Folder::new();
    folder.ok(&format!("run --repeats 2 {QUICK}"));
    assert_eq!(runs(&folder), ["01-run", "02-run"]);
    let report = folder.read("out/report.md");
    assert!(report.contains("# Report of repeated runs"), "{report}");
    assert!(!report.contains("changes.svg"), "{report}");
    assert!(folder.exists("out/processes.svg"));

    let plain = Folder::new();
    plain.ok(&format!("run --repeats 1 {QUICK}"));
    assert_eq!(plain.record().start.member, None);
}

#[test]
fn a_set_that_was_stopped_is_gone_on_with() {
    let folder = two_arms();
    let arguments = format!("run --repeats 2 --arm a.toml --arm b.toml {QUICK}");
    folder.ok(&arguments);
    // As if it had been killed within the third process.
    fs::remove_dir_all(folder.path("out/04-a")).unwrap();
    let begun = folder.read("out/03-b/record.jsonl");
    let first = begun.lines().next().unwrap();
    folder.write("out/03-b/record.jsonl", format!("{first}\n"));
    let kept = folder.read("out/01-a/record.jsonl");

    let refused = |arguments: &str, needle: &str| {
        let finished = folder.lfmark(arguments);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains(needle), "{finished:?}");
    };
    refused(
        &format!("{arguments} --resume").replace("-o out", "-o none"),
        "there is no folder none",
    );
    refused(&format!("{arguments} --resume --cold"), "--cold");
    refused(
        &format!("{arguments} --resume --batch-size 2"),
        "arm a differ",
    );
    refused(
        &format!("run --repeats 2 --arm a.toml {QUICK} --resume"),
        "an arm b",
    );
    folder.ok(&format!("{arguments} --resume"));
    assert_eq!(runs(&folder), ["01-a", "02-b", "03-b", "04-b", "05-a"]);
    assert_eq!(member(&folder, "04-b").repeat, 2);
    assert_eq!(member(&folder, "05-a").repeat, 2);
    assert_eq!(folder.read("out/01-a/record.jsonl"), kept);
    let report = folder.read("out/report.md");
    assert!(report.contains("| step time | 2 + 2 |"), "{report}");

    // There is nothing left to do.
    folder.ok(&format!("{arguments} --resume"));
    assert_eq!(runs(&folder).len(), 5);
}

#[test]
fn a_failing_process_ends_the_set_and_what_was_measured_is_reported() {
    let folder = two_arms();
    folder.write("b.toml", "learning-rate = 3e38\niterations = 50\n");
    let arguments = format!("run --repeats 2 --arm a.toml --arm b.toml {QUICK}");
    let finished = folder.lfmark(&arguments);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let last = finished.stderr.lines().last().unwrap();
    for needle in ["error: run 2 of 4 (arm b)", "out/02-b"] {
        assert!(last.contains(needle), "{finished:?}");
    }
    assert_eq!(runs(&folder), ["01-a", "02-b"]);
    let report = folder.read("out/report.md");
    assert!(
        report.contains("**failed, left out**: the loss of"),
        "{report}"
    );
    assert!(report.contains("b against a: inconclusive"), "{report}");
}

#[test]
fn a_set_without_any_record_leaves_no_report() {
    let folder = Folder::new();
    let finished = folder.lfmark(&format!("run --repeats 2 {QUICK} --model nowhere"));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.stderr.contains("run 1 of 2 (arm run)"),
        "{finished:?}"
    );
    assert!(!folder.exists("out/report.md"));
}

#[test]
fn arms_are_checked_before_anything_runs() {
    let check = |file: &str, text: &str, flags: &str, needles: &[&str]| {
        let folder = two_arms();
        folder.write(file, text);
        folder.check_nothing_run(&format!("run {flags} {QUICK}"), 2, needles);
    };
    let both = "--repeats 2 --arm a.toml --arm b.toml";
    check("b.toml", "iteration = 3\n", both, &["b.toml", "iteration"]);
    check(
        "b.toml",
        "lora-rank = 0\n",
        both,
        &["b.toml", "lora-rank is 0"],
    );
    check("b.toml", "no toml", both, &["b.toml"]);
    check("b.toml", "program = 3\n", both, &["b.toml", "`program`"]);
    check(
        "b.toml",
        "[environment]\nX = 3\n",
        both,
        &["b.toml", "string"],
    );
    check(
        "b.toml",
        "program = \"./nowhere\"\n",
        both,
        &["b.toml", "nowhere", "no such file"],
    );
    check(
        "x",
        "",
        "--repeats 2 --arm a.toml --arm a.toml",
        &["two arms are called a"],
    );
    check(
        "ä.toml",
        "",
        "--repeats 2 --arm ä.toml",
        &["rename the file"],
    );
    check("x", "", "--arm a.toml", &["--repeats"]);
    check("x", "", "--repeats 0", &["--repeats"]);
    check("x", "", "--repeats 2 --noise x", &["--arm"]);
    check("x", "", "--member {}", &["--member"]);

    let folder = two_arms();
    let missing = format!("run --repeats 2 --arm nowhere.toml {QUICK}");
    folder.check_nothing_run(&missing, 1, &["nowhere.toml"]);
    fs::create_dir(folder.path("out")).unwrap();
    folder.write("out/mine", "");
    folder.check_error(&format!("run {both} {QUICK}"), 1, &["not empty"]);
}

#[test]
fn an_arm_can_be_another_program() {
    let folder = two_arms();
    let build = env!("CARGO_BIN_EXE_lfmark");
    let arm =
        format!("program = \"{build}\"\nseed = 2\n[environment]\nMLX_BFS_MAX_WIDTH = \"19\"\n");
    folder.write("b.toml", arm);
    folder.ok(&format!(
        "run --repeats 1 --arm a.toml --arm b.toml {QUICK}"
    ));
    assert_eq!(runs(&folder), ["01-a", "02-b"]);
    let width = |run: &str| {
        let record = store::read(&folder.path(&format!("out/{run}"))).unwrap();
        record.start.mlx.variables.get("MLX_BFS_MAX_WIDTH").cloned()
    };
    assert_eq!(
        [width("01-a"), width("02-b")],
        [None, Some("19".to_owned())]
    );
    let report = folder.read("out/report.md");
    assert!(report.contains("b against a: inconclusive"), "{report}");

    folder.write("c.toml", "program = \"false\"\n");
    fs::rename(folder.path("out"), folder.path("first")).unwrap();
    let arguments = format!("run --repeats 1 --arm c.toml {QUICK}");
    folder.check_error(&arguments, 1, &["run 1 of 1 (arm c)", "out/01-c"]);
}

#[cfg(unix)]
#[test]
fn a_process_knows_when_it_was_started_and_can_have_empty_caches_of_its_own() {
    use std::os::unix::fs::PermissionsExt;

    let folder = two_arms();
    // Leaves something in the folder, and says what was there before.
    let script =
        "#!/bin/sh\nls -d \"$TMPDIR\" \"$TMPDIR\"/* >> seen\ntouch \"$TMPDIR/left\"\nexec ";
    let build = env!("CARGO_BIN_EXE_lfmark");
    folder.write("starter", format!("{script}'{build}' \"$@\"\n"));
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path("starter"), executable).unwrap();
    folder.write("b.toml", "program = \"./starter\"\n");
    folder.ok(&format!("run --repeats 2 --arm b.toml --cold {QUICK}"));
    let seen = folder.read("seen");
    let mut caches: Vec<&str> = seen.lines().collect();
    assert_eq!(caches.len(), 2, "each of the two was empty: {seen}");
    caches.dedup();
    assert_eq!(caches.len(), 2, "they had one folder: {seen}");
    for cache in caches {
        assert!(!fs::exists(cache).unwrap(), "{cache} was left");
    }
    for run in ["01-b", "02-b"] {
        let start = record(&folder, run).start;
        assert!(start.launch_ns.is_some_and(|ns| ns > 0), "{run}");
        let caches = start.member.unwrap().empty_caches.unwrap();
        assert!(caches.contains(&"TMPDIR".to_owned()), "{caches:?}");
    }
    let report = folder.read("out/report.md");
    assert!(
        report.contains("Every process had empty folders"),
        "{report}"
    );
}

/// Two processes that nothing ends but the test.
fn endless() -> String {
    format!("{ENDLESS} --repeats 2 --cool-down-limit 0")
}

#[test]
fn ctrl_c_ends_the_process_and_the_set_with_a_report() {
    let folder = Folder::new();
    let arguments = endless();
    let finished = folder.end_when("out/01-run/record.jsonl", &arguments, FIFTH, interrupt);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let last = finished.stderr.lines().last().unwrap();
    assert!(
        last.contains("interrupted after 0 of 2 runs"),
        "{finished:?}"
    );
    assert_eq!(runs(&folder), ["01-run"]);
    let end = record(&folder, "01-run").end.unwrap();
    assert_eq!(end.status, Status::Interrupted);
    let report = folder.read("out/report.md");
    assert!(report.contains("**interrupted, left out**"), "{report}");
}

#[test]
fn a_process_outlives_a_killed_set_only_to_end_in_order() {
    let folder = Folder::new();
    let killed = folder.end_when("out/01-run/record.jsonl", &endless(), FIFTH, |child| {
        child.kill().unwrap();
    });
    // Its stderr is read to the end, which the process of the run holds open until it ends.
    assert_eq!(killed.code, None, "ended by a signal: {killed:?}");
    let end = record(&folder, "01-run").end.unwrap();
    assert_eq!(end.status, Status::Interrupted);
    assert!(!folder.exists("out/report.md"));
    folder.ok("report out");
    let report = folder.read("out/report.md");
    assert!(report.contains("There is no complete run"), "{report}");
}

#[test]
fn a_noise_floor_is_measured_stored_and_used() {
    let folder = two_arms();
    let finished = folder.ok(&format!("noise --repeats 2 --seed 1 {QUICK}"));
    for needle in ["metric", "99 % A/A (2+2)", "step time", "out/report.md"] {
        assert!(finished.stdout.contains(needle), "{finished:?}");
    }
    let text = folder.read(&format!("out/{FILE_NAME}"));
    let noise = Noise::parse(&text).unwrap();
    assert_eq!(noise.runs, ["01-run", "02-run"]);
    assert_eq!(noise.set, "out");
    let again = Noise::of(&sets::read(&folder.path("out")).unwrap()).unwrap();
    assert_eq!(again.text(), text);
    let stored: Vec<_> = fs::read_dir(folder.path("reports/noise"))
        .unwrap()
        .collect();
    let stored = stored[0].as_ref().unwrap().path();
    assert_eq!(fs::read_to_string(&stored).unwrap(), text);
    let report = folder.read("out/report.md");
    assert!(report.contains("from 2 runs of the same work"), "{report}");

    fs::rename(folder.path("out"), folder.path("floor")).unwrap();
    let arms = format!("run --repeats 1 --arm a.toml --arm b.toml {QUICK}");
    let json = folder.lfmark(&format!("{arms} --json")).json();
    assert_eq!(json["summary"]["has_floor"], true, "{json}");
    let report = folder.read("out/report.md");
    assert!(report.contains("by this machine's noise floor"), "{report}");
    // The gate looks it up too.
    let gate = "gate --baseline floor/01-run --candidate floor/02-run";
    let judged = folder.lfmark(gate);
    check_failed("gate", &judged, 4, &["inconclusive"]);
    assert!(judged.stdout.contains("(noise floor)"), "{judged:?}");
    folder.write(
        "other.json",
        text.replacen("\"device\": \"cpu\"", "\"device\": \"gpu\"", 1),
    );
    let other = folder.lfmark(&format!("{gate} --noise other.json"));
    check_failed(
        "other",
        &other,
        2,
        &["--noise: the noise floor is of another", "device"],
    );
    fs::remove_file(stored).unwrap();
    let without = folder.lfmark(gate);
    assert!(without.stdout.contains("(no noise known)"), "{without:?}");
    check_failed(
        "without",
        &without,
        4,
        &["note: no noise floor of this machine"],
    );
    assert_eq!(folder.lfmark("report out --json").json(), json);

    // Without the stored one, and with the same named.
    fs::rename(folder.path("out"), folder.path("first")).unwrap();
    let json = folder
        .lfmark(&format!("{arms} --noise floor/{FILE_NAME} --json"))
        .json();
    assert_eq!(json["summary"]["has_floor"], true, "{json}");
}

#[test]
fn the_gate_runs_the_work_again_to_confirm_a_regression() {
    let folder = Folder::new();
    folder.ok(&format!("run --repeats 3 --seed 1 {QUICK}"));
    fs::rename(folder.path("out"), folder.path("runs")).unwrap();
    folder.write("limits.toml", "[peak_memory]\nhard = 1\n");
    let gate = "gate --baseline runs/03-run --cool-down-limit 0 --limits limits.toml --confirm";
    // More memory than the limit allows, every time.
    let red = folder.lfmark(&format!("{gate} --candidate runs/0[12]-run -o again"));
    let needles = [
        "2 fresh runs of the candidate",
        "error: regressed: peak_memory of",
    ];
    check_failed("red", &red, 3, &needles);
    assert!(red.stdout.contains("fresh runs: regressed"), "{red:?}");
    assert!(folder.exists("again/01-run/record.jsonl"));

    // Only in the record that is judged.
    folder.write("limits.toml", "[peak_memory]\nhard = 1000000000000\n");
    let record = folder.read("runs/01-run/record.jsonl");
    let more = record.replace("\"peak_bytes\":", "\"peak_bytes\":900000");
    folder.write("runs/01-run/record.jsonl", &more);
    let once = folder.lfmark(&format!("{gate} --candidate runs/01-run -o once"));
    let needles = [
        "regressed, and not in fresh runs too: peak_memory of",
        ", then not",
    ];
    check_failed("once", &once, 4, &needles);

    // Settings that are not there, and another build.
    let from = "\"version\":\"";
    let other = more.replacen(from, "\"version\":\"0.0.0-", 1);
    fs::create_dir(folder.path("alone")).unwrap();
    folder.write("alone/record.jsonl", other);
    let gate = format!("{gate} --candidate alone");
    check_failed(
        "settings",
        &folder.lfmark(&gate),
        2,
        &["--confirm: the settings", "--config"],
    );
    let build = folder.lfmark(&format!("{gate} --config runs/arms/run.toml -o build"));
    check_failed("build", &build, 2, &["--confirm: this is another build"]);
}

#[test]
fn a_floor_of_another_machine_or_other_work_ends_the_set_at_once() {
    let folder = two_arms();
    folder.ok(&format!("noise --repeats 2 --seed 1 {QUICK}"));
    let text = folder.read(&format!("out/{FILE_NAME}"));
    let check = |from: &str, to: &str, code: i32, needles: &[&str], left: &[&str]| {
        let _ = fs::remove_dir_all(folder.path("out"));
        assert!(text.contains(from), "{from} is not in {text}");
        folder.write("noise.json", text.replacen(from, to, 1));
        let arguments =
            format!("run --repeats 2 --arm a.toml --arm b.toml --noise noise.json {QUICK}");
        check_failed(to, &folder.lfmark(&arguments), code, needles);
        let runs = match folder.exists("out") {
            true => runs(&folder),
            false => Vec::new(),
        };
        assert_eq!(runs, left, "{to}");
    };
    let started = ["01-a"];
    check(
        "\"arch\": \"",
        "\"arch\": \"not ",
        2,
        &["another machine", "machine.arch"],
        &started,
    );
    check(
        "\"iterations\": \"3\"",
        "\"iterations\": \"4\"",
        2,
        &["work.iterations"],
        &started,
    );
    check(
        "\"minor\": 0",
        "\"minor\": 7",
        1,
        &["noise.json", "schema 2.7"],
        &[],
    );
    check(
        "\"runs\": 2",
        "\"runs\": 0",
        1,
        &["noise.json", "0 runs"],
        &[],
    );
    check("{", "[", 1, &["noise.json", "not a noise floor"], &[]);
    let missing = format!("run --repeats 2 --arm a.toml --noise nowhere.json {QUICK}");
    folder.check_nothing_run(&missing, 1, &["nowhere.json"]);
}

#[test]
fn a_set_with_unreadable_or_foreign_runs_says_so() {
    let folder = Folder::new();
    folder.ok(&format!("run --repeats 2 {QUICK}"));
    let whole = folder.read("out/02-run/record.jsonl");
    folder.write("out/02-run/record.jsonl", &whole[..40]);
    folder.ok("report out");
    let report = folder.read("out/report.md");
    assert!(report.contains("02-run is left out"), "{report}");

    folder.write("out/02-run/record.jsonl", &whole);
    fs::create_dir(folder.path("out/copy")).unwrap();
    folder.write("out/copy/record.jsonl", &whole);
    folder.check_error("report out", 1, &["02-run", "copy", "both run 2"]);
    let foreign = whole.replacen("\"set\":\"out\"", "\"set\":\"other\"", 1);
    folder.write("out/copy/record.jsonl", foreign);
    folder.check_error("report out", 1, &["different sets"]);
}
