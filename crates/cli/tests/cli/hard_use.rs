//! Two at once, names that are none, records edited by hand, links in circles, and folders that
//! take nothing.

use std::{fs, process::Child};

use metrics::{
    engine::{self, Truth},
    record::Start,
};

use crate::support::{ENDLESS, Finished, Folder, check_failed, interrupt};

fn record(folder: &Folder, name: &str, seed: u64, change: impl Fn(&mut Start)) {
    let truth = Truth::steady(12);
    let mut start = engine::start(name, truth.iterations);
    start.started_unix_ms = seed;
    change(&mut start);
    engine::record(&truth, &start, seed, &folder.path(name)).unwrap();
}

fn ended(child: Child) -> Finished {
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_second_run_into_one_folder_is_refused_and_harms_nothing() {
    let folder = Folder::new();
    let first = folder.end_early(ENDLESS, "\"iteration\":3,", |child| {
        let needles = ["out/record.jsonl exists already"];
        folder.check_error("run -o out --iterations 1 --no-generation", 1, &needles);
        assert!(!folder.exists("out/report.md"), "the second one reported");
        interrupt(child);
    });
    check_failed("the first", &first, 1, &[]);
    assert!(folder.record().end.is_some());
}

#[test]
fn runs_that_start_together_in_one_folder_leave_one_whole_record() {
    let folder = Folder::new();
    let run = "run -o out --iterations 3 --max-seq-length 8 --truncate --no-generation";
    let all: Vec<Child> = (0..3)
        .map(|_| folder.command(run).spawn().unwrap())
        .collect();
    let all: Vec<Finished> = all.into_iter().map(ended).collect();
    let fine = all.iter().filter(|it| it.code == Some(0)).count();
    assert_eq!(fine, 1, "{all:?}");
    for other in all.iter().filter(|it| it.code != Some(0)) {
        check_failed(run, other, 1, &["choose another output folder"]);
    }
    assert_eq!(folder.record().iterations.len(), 3);
    assert!(!folder.read("out/report.md").contains("incomplete"));
}

#[test]
fn of_baselines_accepted_at_once_none_is_lost() {
    let folder = Folder::new();
    record(&folder, "a", 1, |_| {});
    let bless = |number: u32| {
        let arguments = format!("bless --candidate a --baseline base --reason number-{number}");
        folder.command(&arguments).spawn().unwrap()
    };
    let all: Vec<Child> = (0..8).map(bless).collect();
    for child in all {
        let finished = ended(child);
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
    let baseline: serde_json::Value =
        serde_json::from_str(&folder.read("base/baseline.json")).unwrap();
    let accepted = baseline["accepted"].as_array().unwrap();
    let mut reasons: Vec<_> = accepted.iter().map(|it| it["reason"].as_str()).collect();
    reasons.sort();
    let expected: Vec<String> = (0..8).map(|number| format!("number-{number}")).collect();
    assert_eq!(
        reasons,
        expected
            .iter()
            .map(|it| Some(it.as_str()))
            .collect::<Vec<_>>()
    );
    for it in accepted {
        let place = format!("base/{}/0001/record.jsonl", it["folder"].as_str().unwrap());
        assert_eq!(folder.read(&place), folder.read("a/record.jsonl"));
    }
}

#[test]
fn histories_written_at_once_are_one_page() {
    let folder = Folder::new();
    record(&folder, "runs/a", 1, |start| {
        start.lfmark.commit = Some("a".repeat(40))
    });
    folder.ok("history runs -o expected");
    let all: Vec<Child> = (0..4)
        .map(|_| folder.command("history runs -o page").spawn().unwrap())
        .collect();
    for child in all {
        let finished = ended(child);
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
    for name in ["index.html", "history.json", "step-time-history.svg"] {
        assert_eq!(
            folder.read(&format!("page/{name}")),
            folder.read(&format!("expected/{name}")),
            "{name}"
        );
    }
}

/// Of folders and of what records say.
const NAME: &str = "a b\n<script>alert(1)</script>|**c**\u{1b}[31m";

#[test]
fn names_with_spaces_line_feeds_and_markup_stay_text() {
    let folder = Folder::new();
    let odd = |start: &mut Start| {
        start.machine.chip = Some(NAME.to_owned());
        start.lfmark.commit = Some(NAME.to_owned());
        start.model.name = NAME.to_owned();
    };
    for (seed, place) in [(1, "plain"), (2, "<b>x"), (3, "y z\n|")] {
        let name = format!("{NAME}/{place}/r").replace("</script>", "<script>");
        record(&folder, &name, seed, odd);
        fs::create_dir_all(folder.path(&format!("{name}-broken"))).unwrap();
        folder.write(&format!("{name}-broken/record.jsonl"), "{");
    }
    record(&folder, "other", 4, |start| {
        start.model.name = NAME.to_owned();
        start.machine.chip = Some("\u{202e}=cmd".to_owned());
    });
    for arguments in [
        "compare . -o compared --format html,csv,json",
        "history . -o page",
        "share other -o shared",
        "share . -o shared",
        "convert other --to csv -o rows.csv",
    ] {
        let finished = folder.lfmark(arguments);
        let printed = format!("{}{}", finished.stdout, finished.stderr);
        assert!(!printed.contains(['\u{1b}', '\u{202e}']), "{printed}");
        let shares_broken = arguments.starts_with("share .");
        assert_eq!(
            finished.code,
            Some(i32::from(shares_broken)),
            "{finished:?}"
        );
    }
    for page in ["compared/report.html", "page/index.html"] {
        assert!(!folder.read(page).contains("<script"), "{page}");
    }
    for report in ["compared/report.md", "page/report.md"] {
        let text = folder.read(report);
        assert!(
            !text.contains("<script") && !text.contains("**c**"),
            "{text}"
        );
    }
    for rows in ["compared/comparison.csv", "page/history.csv", "rows.csv"] {
        assert!(!folder.read(rows).contains(",=cmd"), "{rows}");
    }
}

#[test]
fn a_record_edited_by_hand_is_named_with_its_line_and_left_out() {
    let folder = Folder::new();
    for seed in 0..3 {
        record(&folder, &format!("runs/{seed}"), seed, |start| {
            start.lfmark.commit = Some("a".repeat(40))
        });
    }
    let text = folder.read("runs/1/record.jsonl");
    folder.write(
        "runs/1/record.jsonl",
        text.replace("\"iteration\":4,", "\"iteration\":5,"),
    );
    folder.write(
        "runs/2/record.jsonl",
        text.replace("\"step_ns\":", "\"step_ns\":-"),
    );
    let finished = folder.ok("history runs -o page");
    for needle in [
        "note: runs/1 is left out: line 7 does not fit the lines before it",
        "note: runs/2 is left out: line 4 is broken",
    ] {
        assert!(finished.stderr.contains(needle), "{needle}: {finished:?}");
    }
    assert!(folder.read("page/report.md").contains("runs/1 is left out"));
    folder.check_error(
        "bless --candidate runs --baseline base --reason x",
        1,
        &["runs/1/record.jsonl: line 7"],
    );
    assert!(!folder.exists("base/baseline.json"));
}

#[cfg(unix)]
#[test]
fn links_in_circles_are_not_followed() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    record(&folder, "runs/a", 1, |start| {
        start.lfmark.commit = Some("a".repeat(40))
    });
    symlink("..", folder.path("runs/a/up")).unwrap();
    symlink("self", folder.path("self")).unwrap();
    fs::create_dir(folder.path("runs/b")).unwrap();
    symlink("record.jsonl", folder.path("runs/b/record.jsonl")).unwrap();
    let finished = folder.ok("history runs -o page");
    assert!(
        finished.stdout.contains("1 run of 1 commit\n"),
        "{finished:?}"
    );
    assert!(
        finished.stderr.contains("runs/b is left out: "),
        "{finished:?}"
    );
    folder.check_error("history self", 1, &["cannot read self", "symbolic links"]);
    folder.check_error("history runs -q -o self", 1, &["cannot create self"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_nothing_is_a_clear_error_and_the_former_files_stay() {
    use std::process::Command;
    let folder = Folder::new();
    record(&folder, "runs/a", 1, |start| {
        start.lfmark.commit = Some("a".repeat(40))
    });
    folder.ok("history runs -o page");
    folder.ok("bless --candidate runs --baseline base --reason first");
    record(&folder, "runs/b", 2, |start| {
        start.lfmark.commit = Some("b".repeat(40))
    });
    let page = folder.read("page/index.html");
    let baseline = folder.read("base/baseline.json");
    // Read-only for root too.
    for arguments in [
        "history runs -o /proc/page",
        "share runs -o /proc/machines",
        "bless --candidate runs --baseline /proc/base --reason x",
        "compare runs runs/a -o /proc/compared",
    ] {
        folder.check_error(arguments, 1, &["cannot create /proc/"]);
    }
    // A disk that is full, as a limit on the size of files: 512 or 1,024 bytes.
    let limited = |arguments: &str| -> Finished {
        let lfmark = env!("CARGO_BIN_EXE_lfmark");
        let script = format!("trap '' XFSZ; ulimit -f 1; exec '{lfmark}' {arguments}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(folder.path(""));
        shell.output().unwrap().into()
    };
    for arguments in [
        "history runs -o page",
        "share runs -o shared",
        "bless --candidate runs --baseline base --reason second",
    ] {
        check_failed(
            arguments,
            &limited(arguments),
            1,
            &["cannot ", "File too large"],
        );
    }
    assert_eq!(folder.read("page/index.html"), page);
    assert_eq!(folder.read("base/baseline.json"), baseline);
    assert_eq!(fs::read_dir(folder.path("shared")).unwrap().count(), 0);
    folder.ok("bless --candidate runs --baseline base --reason third");
    folder.ok("history runs -o page");
}
