//! `lfmark history`: pages of records in folders and on branches.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use metrics::{
    engine::{self, Truth},
    record::Start,
};

use crate::support::{Folder, check_failed};

/// Puts a run of a commit into a folder.
fn record(folder: &Folder, name: &str, commit: &str, level: f64, change: impl Fn(&mut Start)) {
    let mut truth = Truth::steady(12);
    truth.step.process_spread = 0.002;
    truth.step.level *= level;
    let mut start = engine::start(name, truth.iterations);
    start.machine.chip = Some("Apple M4".to_owned());
    start.lfmark.commit = Some(commit.to_owned());
    start.lfmark.dirty = Some(false);
    change(&mut start);
    let seed = name.bytes().fold(commit.len() as u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    engine::record(&truth, &start, seed, &folder.path(name)).unwrap();
}

/// What git prints, in a folder.
fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository `code` with this many commits, the oldest first.
fn repository(folder: &Folder, commits: usize) -> Vec<String> {
    let dir = folder.path("code");
    fs::create_dir(&dir).unwrap();
    git(&dir, &["init", "-q", "-b", "main"]);
    let tree = git(&dir, &["mktree"]);
    let mut ids: Vec<String> = Vec::new();
    for number in 0..commits {
        let message = number.to_string();
        let mut arguments = vec!["commit-tree", &tree, "-m", &message];
        if let Some(parent) = ids.last() {
            arguments.extend(["-p", parent]);
        }
        let id = git(&dir, &arguments);
        ids.push(id);
    }
    git(&dir, &["branch", "-f", "main", &ids[commits - 1]]);
    ids
}

#[test]
fn records_on_a_branch_become_a_page_that_repeats() {
    let folder = Folder::new();
    let ids = repository(&folder, 24);
    for (number, id) in ids.iter().enumerate() {
        let level = if number < 14 { 1.0 } else { 1.2 };
        // By time they stand in reverse.
        record(&folder, &format!("runs/{number}"), id, level, |start| {
            start.started_unix_ms = 100 - number as u64;
            let version = if number < 14 { "26.1" } else { "26.2" };
            start.machine.os_version = Some(version.to_owned());
        });
    }
    record(&folder, "runs/unknown", &"f".repeat(40), 1.0, |_| {});
    record(&folder, "runs/no commit", "--all", 1.0, |_| {});
    record(&folder, "runs/changed", &ids[3], 1.0, |start| {
        start.lfmark.dirty = Some(true)
    });
    fs::create_dir(folder.path("runs/broken")).unwrap();
    folder.write("runs/broken/record.jsonl", "{}\n");
    // The same files on a branch of their own, without a checkout.
    let code = folder.path("code");
    let index = folder.path("index");
    let with_index = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["--git-dir", code.join(".git").to_str().unwrap()])
            .args(["--work-tree", folder.path("").to_str().unwrap()])
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
            .args(arguments)
            .current_dir(folder.path(""))
            .env("GIT_INDEX_FILE", &index)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    with_index(&["add", "-f", "runs"]);
    let tree = with_index(&["write-tree"]);
    let commit = with_index(&["commit-tree", &tree, "-m", "records"]);
    with_index(&["branch", "records", &commit]);
    let listed = git(&code, &["ls-files"]);
    assert_eq!(listed, "", "something is checked out");

    let of_branch = "history --branch records --repository code -o page";
    let printed = folder.ok(of_branch);
    let range = format!("{}..{}", &ids[13][..10], &ids[14][..10]);
    for needle in [
        "series   Apple M4: 24 runs of 24 commits",
        "Apple M4: step time regressed +2",
        &format!("{range}, where this changed too: os_version (26.1, then 26.2)"),
        "apart    2 runs: its commit is not in the repository",
    ] {
        assert!(printed.stdout.contains(needle), "{needle}: {printed:?}");
    }
    assert!(printed.stderr.contains("runs/broken is left out"));
    let names = ["index.html", "history.json", "history.csv", "report.md"];
    let charts = ["step-time-history.svg", "peak-memory-history.svg"];
    let read = || {
        names
            .iter()
            .chain(&charts)
            .map(|it| folder.read(&format!("page/{it}")))
    };
    let first: Vec<String> = read().collect();
    assert!(first[0].contains("<svg") && !first[0].contains("<script"));
    assert!(
        first[3].contains(&format!("| {range} | 1 | os\\_version (26.1, then 26.2) |")),
        "{}",
        first[3]
    );
    folder.ok(of_branch);
    assert_eq!(read().collect::<Vec<_>>(), first);
    // A folder has the same records.
    folder.ok("history runs --repository code -o page2");
    let json = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
    let (branch, dir) = (json(&first[1]), json(&folder.read("page2/history.json")));
    assert_eq!(branch["series"][0]["trends"], dir["series"][0]["trends"]);
    assert_eq!(branch["series"][0]["commits"][0]["id"], ids[0].as_str());
    // Without the repository, in the order of time.
    let by_time = folder.ok("history runs -o page3");
    assert!(by_time.stdout.contains("improved -1"), "{by_time:?}");
}

#[test]
fn what_cannot_be_a_page_is_said() {
    let folder = Folder::with("note.txt", "");
    record(&folder, "run", &"a".repeat(40), 1.0, |_| {});
    folder.check_error("history", 2, &["<RUNS>"]);
    folder.check_error("history nothing", 1, &["cannot read nothing"]);
    folder.check_error(
        "history run --repository .",
        1,
        &["cannot read the commits of ."],
    );
    folder.check_error("history --branch records", 1, &["cannot find records in ."]);
    folder.check_error("history run --allow speed", 2, &["no such field"]);
    fs::create_dir(folder.path("site")).unwrap();
    folder.write("site/index.html", "mine");
    folder.check_error(
        "history run -o site",
        1,
        &["site/index.html is no page of lfmark"],
    );
    assert_eq!(folder.read("site/index.html"), "mine");
    folder.check_error("history run -o note.txt", 1, &["cannot create note.txt"]);
    repository(&folder, 1);
    let finished = folder.lfmark("history run --repository code --branch --help");
    check_failed("an option", &finished, 2, &[]);
}

#[test]
fn a_chart_without_data_is_not_left_from_an_earlier_page() {
    let folder = Folder::new();
    record(&folder, "a", &"a".repeat(40), 1.0, |_| {});
    let printed = folder.ok("history a -o page").stdout;
    assert!(printed.contains(": 1 run of 1 commit\n"), "{printed}");
    assert!(folder.exists("page/step-time-history.svg"));
    folder.write("page/CNAME", "mine");
    record(&folder, "b", &"b".repeat(40), 1.0, |start| {
        start.lfmark.dirty = Some(true)
    });
    folder.ok("history b -o page");
    assert!(!folder.exists("page/step-time-history.svg"));
    assert_eq!(folder.read("page/CNAME"), "mine");
    assert!(folder.read("page/index.html").contains("nothing to show"));
}
