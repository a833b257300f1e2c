//! The scripts of `.github/actions`, as the workflows run them: over the artifacts of several
//! machines, and with `gh` played by a program of the tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use liblzma::read::XzDecoder;
use metrics::{
    engine::{self as synthetic, Truth},
    record::{CpuTier, Engine, Event, Machine, MachineState, Metallib},
    store::{self, Writer},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Finished, Folder, repository};

/// Runs of the machine that was measured, and its published bandwidth.
const MEASURED: [&str; 10] = [
    "01-lfmark-fused",
    "04-lfmark-fused",
    "05-lfmark-fused",
    "08-lfmark-fused",
    "09-lfmark-fused",
    "12-lfmark-fused",
    "13-lfmark-fused",
    "16-lfmark-fused",
    "17-lfmark-fused",
    "20-lfmark-fused",
];
const MEASURED_GB_S: f64 = 4800.0;

/// A machine of `fixtures/ci/machines.json`.
#[derive(Clone, Deserialize)]
struct Simulated {
    artifact: String,
    chip: String,
    architecture: String,
    cpu_tiers: Vec<(String, u32)>,
    gpu_cores: Option<u32>,
    memory_gib: u64,
    bandwidth_gb_s: f64,
    virtual_machine: bool,
}

fn machines() -> Vec<Simulated> {
    let text = fs::read_to_string(repository("fixtures/ci/machines.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn measured(run: &str) -> PathBuf {
    static UNPACKED: LazyLock<PathBuf> = LazyLock::new(|| {
        let file = repository("reports/h200-vs-mlx-lm-best/records.tar.xz");
        let records = XzDecoder::new(fs::File::open(file).unwrap());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("h200-vs-mlx-lm-best");
        tar::Archive::new(records).unpack(&folder).unwrap();
        folder
    });
    UNPACKED.join(run)
}

/// Writes the artifact of a machine that was not measured.
fn simulate(folder: &Folder, machine: &Simulated) {
    let factor = MEASURED_GB_S / machine.bandwidth_gb_s;
    let longer = |ns: u64| (ns as f64 * factor) as u64;
    for run in MEASURED {
        let record = store::read(&measured(run)).unwrap();
        let mut start = record.start;
        start.run_id = format!("simulated-{run}");
        start.engine = Some(Engine {
            name: "simulated".to_owned(),
            version: "1".to_owned(),
            memory_source: "simulated".to_owned(),
            batches_sha256: "none".to_owned(),
        });
        start.member = None;
        start.sampling = None;
        start.mlx.backend = "metal".to_owned();
        start.mlx.device_name = Some(machine.chip.clone());
        start.mlx.architecture = Some(machine.architecture.clone());
        start.mlx.library_sha256 = None;
        start.mlx.variables.clear();
        start.mlx.metallib = Some(Metallib {
            bytes: 182_000_000,
            built_for: Some("26.2".to_owned()),
            neural_accelerators: true,
        });
        let cores = machine.cpu_tiers.iter().map(|(_, cores)| cores).sum();
        start.machine = Machine {
            os: "macos".to_owned(),
            arch: "aarch64".to_owned(),
            cpu: Some(machine.chip.clone()),
            physical_cores: Some(cores),
            logical_cores: Some(cores),
            memory_bytes: Some(machine.memory_gib << 30),
            chip: Some(machine.chip.clone()),
            gpu_cores: machine.gpu_cores,
            virtual_machine: Some(machine.virtual_machine),
            cpu_tiers: Some(
                machine
                    .cpu_tiers
                    .iter()
                    .map(|(name, cores)| CpuTier {
                        name: Some(name.clone()),
                        physical_cores: *cores,
                    })
                    .collect(),
            ),
            ..Machine::default()
        };
        let dir = folder.path("artifacts").join(&machine.artifact).join("run");
        let mut writer = Writer::create(&dir.join(run), &start).unwrap();
        let mut append = |event: Event| writer.append(&event).unwrap();
        for mut phase in record.phases {
            phase.start_ns = longer(phase.start_ns);
            phase.wall_ns = longer(phase.wall_ns);
            append(Event::Phase(phase));
        }
        for mut iteration in record.iterations {
            iteration.start_ns = longer(iteration.start_ns);
            iteration.data_ns = longer(iteration.data_ns);
            iteration.step_ns = longer(iteration.step_ns);
            append(Event::Iteration(iteration));
        }
        for mut generation in record.generations {
            generation.start_ns = longer(generation.start_ns);
            generation.first_token_ns = longer(generation.first_token_ns);
            generation.wall_ns = longer(generation.wall_ns);
            generation
                .token_ns
                .iter_mut()
                .for_each(|ns| *ns = longer(*ns));
            append(Event::Generation(generation));
        }
        let mut end = record.end.unwrap();
        end.wall_ns = longer(end.wall_ns);
        append(Event::MachineState(MachineState {
            at_ns: end.wall_ns,
            thermal_state: Some(0),
            power_source: Some("ac".to_owned()),
            ..MachineState::default()
        }));
        append(Event::End(end));
    }
}

/// The artifacts of the first simulated machines.
fn simulated(count: usize) -> Folder {
    let folder = Folder::new();
    for machine in machines().iter().take(count) {
        simulate(&folder, machine);
    }
    folder
}

/// The artifacts of all simulated machines, and of the one that was measured.
fn matrix() -> Folder {
    let folder = simulated(usize::MAX);
    for run in MEASURED {
        let to = folder.path("artifacts/bench-h200/run").join(run);
        fs::create_dir_all(&to).unwrap();
        fs::copy(measured(run).join("record.jsonl"), to.join("record.jsonl")).unwrap();
    }
    folder
}

fn file(folder: &Folder, path: &str, text: &str) {
    let path = folder.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn action(path: &str) -> PathBuf {
    repository(".github/actions").join(path)
}

/// The script of lfmark-compare over the folder's artifacts.
fn compare(folder: &Folder, variables: &[(&str, &str)]) -> Finished {
    let done = Command::new(action("lfmark-compare/compare"))
        .args(["artifacts", "out"])
        .current_dir(folder.path(""))
        .env("LFMARK", env!("CARGO_BIN_EXE_lfmark"))
        .env("GITHUB_STEP_SUMMARY", "step-summary.md")
        .envs(variables.iter().copied())
        .output();
    done.unwrap().into()
}

fn check_contains(text: &str, needles: &[&str]) {
    for needle in needles {
        assert!(text.contains(needle), "no `{needle}` in:\n{text}");
    }
}

#[test]
fn machines_become_columns_and_virtual_ones_are_shown_apart() {
    let folder = matrix();
    let done = compare(&folder, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let summary = folder.read("out/summary.md");
    check_contains(
        &summary,
        &[
            "# Comparison of 3 columns",
            "| Quantity | bench-m1-max | bench-m3-pro | bench-m4-max |",
            "simulated 1",
            "## Not compared",
            "*(the chart `columns.svg` is in the artifact)*",
        ],
    );
    let (compared, apart) = summary.split_once("## Not compared").unwrap();
    for name in ["bench-macos-15-vm", "bench-h200"] {
        assert!(!compared.contains(name), "{name} is compared:\n{compared}");
        check_contains(apart, &[name]);
    }
    check_contains(apart, &["it ran in a virtual machine"]);
    // The one with the most bandwidth is the fastest, and shown to be.
    let steps = summary
        .lines()
        .find(|line| line.starts_with("| Step time"))
        .unwrap();
    let cells: Vec<&str> = steps.split('|').map(str::trim).collect();
    assert!(
        cells[4].starts_with("**") && !cells[2].starts_with("**"),
        "{steps}"
    );
    assert!(
        !summary.contains("!["),
        "a picture that cannot be shown:\n{summary}"
    );
    assert_eq!(summary, folder.read("step-summary.md"));
    // And as a comment.
    let github = github("o/r");
    let done = comment(&github, &folder.read("out/comment.md"), "abc");
    assert_eq!(done.code, Some(0), "{done:?}");
    let posted = &own(&github)[0];
    assert!(
        posted.ends_with(&summary.replace('@', "@\u{200b}")),
        "{posted}"
    );
    for name in ["report.html", "comparison.json", "comparison.csv"] {
        assert!(folder.path("out/comparison").join(name).is_file(), "{name}");
    }
}

#[test]
fn what_is_missing_or_damaged_is_named_and_names_are_no_markup() {
    let folder = matrix();
    let mut marked = machines()[1].clone();
    marked.artifact = "bench-`x` [a](b) <img src=x> *c*".to_owned();
    // Or its runs would be copies of the other machine's.
    marked.bandwidth_gb_s = 160.0;
    marked.chip = "Apple <b>M9</b> | **Max**".to_owned();
    simulate(&folder, &marked);
    file(
        &folder,
        "artifacts/bench-torn/run/record.jsonl",
        "{\"event\":\"start\",\"sch",
    );
    file(
        &folder,
        "artifacts/bench-failed/run/notes.txt",
        "nothing was measured",
    );
    let torn = folder.path("artifacts/bench-m1-max/run/01-lfmark-fused/record.jsonl");
    fs::write(torn, "\0\0\0").unwrap();
    let expected = "bench-m1-max\nbench-m2-ultra\nbench-<script> `@all`\n";
    let done = compare(&folder, &[("EXPECTED", expected)]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let summary = folder.read("out/summary.md");
    check_contains(
        &summary,
        &[
            "no results:**\n\n    bench-failed (without a run)\n    bench-m2-ultra (no artifact)\n    \
             bench-<script> `@all` (no artifact)\n\n",
            "bench-torn/run is left out",
            "bench-m1-max/run/01-lfmark-fused is left out",
            "# Comparison of 4 columns",
        ],
    );
    for line in summary.lines().filter(|line| !line.starts_with("    ")) {
        for markup in ["<script", "<img", "<b>", "[a](b)", "**Max**"] {
            let unescaped = line
                .replace("\\<", "")
                .replace("\\[", "")
                .replace("\\*", "");
            assert!(!unescaped.contains(markup), "{markup} in: {line}");
        }
    }
}

#[test]
fn texts_keep_within_what_github_takes_and_say_what_was_cut() {
    let folder = simulated(2);
    // Damaged records with names as long as macOS allows, enough for more than a summary takes.
    let long = vec!["long-".repeat(48); 3].join("/");
    for number in 0..1600 {
        let path = format!("artifacts/bench-m1-max/{long}/{number}/record.jsonl");
        file(&folder, &path, "torn");
    }
    let done = compare(&folder, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let report = folder.read("out/report.md");
    assert!(report.len() > 1 << 20, "{}", report.len());
    for (name, limit) in [("summary", 1 << 20), ("comment", 1 << 16)] {
        let text = folder.read(&format!("out/{name}.md"));
        assert!(text.len() <= limit, "{name}: {}", text.len());
        assert!(
            text.len() > limit - 2048,
            "{name}: {} is too little",
            text.len()
        );
        let (note, rest) = text.split_once("\n\n").unwrap();
        check_contains(
            note,
            &["**Cut", &report.len().to_string(), "artifact `comparison`"],
        );
        assert!(
            report.starts_with(rest),
            "{name} is not the beginning of the report"
        );
        assert!(rest.ends_with('\n'), "{name} ends within a line");
    }
}

#[test]
fn with_fewer_than_two_machines_there_is_nothing_to_compare() {
    let folder = Folder::new();
    let done = compare(&folder, &[("EXPECTED", "bench-m1-max")]);
    assert_eq!(done.code, Some(0), "{done:?}");
    check_contains(
        &folder.read("out/summary.md"),
        &["    bench-m1-max (no artifact)", "No machine has results"],
    );
    simulate(&folder, &machines()[0]);
    let done = compare(&folder, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    check_contains(
        &folder.read("out/summary.md"),
        &["fewer than two machines to compare", "    error: "],
    );
}

#[test]
fn machines_that_did_other_work_are_refused_with_the_field() {
    let folder = simulated(2);
    let path = "artifacts/bench-m3-pro/run/01-lfmark-fused/record.jsonl";
    let text = folder
        .read(path)
        .replacen("\"dtype\":\"bf16\"", "\"dtype\":\"f16\"", 1);
    folder.write(path, text);
    let done = compare(&folder, &[]);
    assert_eq!(done.code, Some(6), "{done:?}");
    check_contains(
        &folder.read("out/comment.md"),
        &[
            "**The machines were not compared**",
            "    error: ",
            "dtype (bf16 in",
            "f16 in",
        ],
    );
}

/// A `gh` that keeps pull requests and comments in `github.json`, and every request in
/// `requests.txt`.
const GH: &str = r#"#!/usr/bin/env python3
import json, re, sys
arguments = sys.argv[1:]
assert arguments[:2] == ["api", "--method"], arguments
method, path = arguments[2], arguments[3]
with open("requests.txt", "a") as requests:
    print(method, path, file=requests)
with open("github.json") as file:
    state = json.load(file)
if state.get("broken"):
    sys.exit("gh: Bad credentials (HTTP 401)")
fields = None
if arguments[4:] == ["--input", "-"]:
    fields = json.load(sys.stdin)
comments = state["comments"]
def page(items):
    number = int(re.search(r"[?&]page=(\d+)", path).group(1))
    size = int(re.search(r"per_page=(\d+)", path).group(1))
    return items[(number - 1) * size : number * size]
if method == "GET" and re.match(r"repos/o/r/pulls\?state=open&", path):
    answer = page(state["pulls"])
elif method == "GET" and re.match(r"repos/o/r/issues/7/comments\?", path):
    answer = page(comments)
elif method == "POST" and path == "repos/o/r/issues/7/comments":
    answer = {"id": 1000 + len(comments), "user": {"login": "github-actions[bot]"}, **fields}
    comments.append(answer)
elif method == "PATCH" and re.match(r"repos/o/r/issues/comments/\d+$", path):
    wanted = int(path.rsplit("/", 1)[1])
    answer = next(comment for comment in comments if comment["id"] == wanted)
    answer.update(fields)
else:
    sys.exit(f"gh: Not Found (HTTP 404): {method} {path}")
with open("github.json", "w") as file:
    json.dump(state, file)
print(json.dumps(answer))
"#;

/// What GitHub has: 130 comments of somebody, one of them with the marker, on a pull request.
fn github(from: &str) -> Folder {
    let mut comments: Vec<Value> = (0..130)
        .map(|id| json!({ "id": id, "user": { "login": "someone" }, "body": "a remark" }))
        .collect();
    comments[3]["body"] = json!("<!-- lfmark: comparison of machines --> mine");
    let pull = |number: u32, commit: &str, name: &str| json!({ "number": number, "head": { "sha": commit, "repo": { "full_name": name } } });
    let pulls = [pull(6, "other", "o/r"), pull(7, "abc", from)];
    let state = json!({ "pulls": pulls, "comments": comments });
    let folder = Folder::with("github.json", state.to_string());
    file(&folder, "bin/gh", GH);
    executable(&folder.path("bin/gh"));
    folder
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn comment(folder: &Folder, text: &str, commit: &str) -> Finished {
    folder.write("comment.md", text);
    let path = std::env::var("PATH").unwrap();
    let done = Command::new("python3")
        .arg(action("lfmark-comment/comment.py"))
        .args(["comment.md", "--repository", "o/r", "--commit", commit])
        .args(["--run", "https://host/run"])
        .current_dir(folder.path(""))
        .env("PATH", format!("{}:{path}", folder.path("bin").display()))
        .output();
    done.unwrap().into()
}

/// The comments of the one that the workflow acts as.
fn own(folder: &Folder) -> Vec<String> {
    let state: Value = serde_json::from_str(&folder.read("github.json")).unwrap();
    let comments = state["comments"].as_array().unwrap().iter();
    let own = comments.filter(|it| it["user"]["login"] == "github-actions[bot]");
    own.map(|it| it["body"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn one_comment_is_posted_and_edited_from_then_on() {
    let folder = github("o/r");
    let done = comment(&folder, "first", "abc");
    assert_eq!((done.code, own(&folder).len()), (Some(0), 1), "{done:?}");
    let done = comment(&folder, "second", "abc");
    assert_eq!(done.stdout, "edited the comment on pull request 7\n");
    let texts = own(&folder);
    assert_eq!(
        texts,
        [
            "<!-- lfmark: comparison of machines -->\nlfmark measured commit abc. The charts and all of \
             it are artifacts of [the run](https://host/run).\n\nsecond"
        ]
    );
    // That of somebody who wrote the marker stays as it was.
    check_contains(&folder.read("github.json"), &["--> mine"]);
    let requests = folder.read("requests.txt");
    let written: Vec<&str> = requests
        .lines()
        .filter(|it| !it.starts_with("GET"))
        .collect();
    assert_eq!(
        written,
        [
            "POST repos/o/r/issues/7/comments",
            "PATCH repos/o/r/issues/comments/1130"
        ]
    );
}

#[test]
fn a_comment_calls_nobody_keeps_its_limit_and_says_where_it_comes_from() {
    let folder = github("stranger/r");
    let text = format!("@everyone \0\n{}", "ü|\n".repeat(60_000));
    let done = comment(&folder, &text, "abc");
    assert_eq!(done.code, Some(0), "{done:?}");
    let text = &own(&folder)[0];
    assert!(text.chars().count() <= 65_536, "{}", text.chars().count());
    check_contains(
        text,
        &[
            "The code of a fork wrote what follows",
            "**Cut to what",
            "@\u{200b}everyone",
        ],
    );
    assert!(
        !text.contains("@everyone") && text.ends_with("ü|"),
        "{}",
        &text[..300]
    );
}

#[test]
fn without_a_pull_request_of_that_commit_nothing_is_posted() {
    let folder = github("o/r");
    let done = comment(&folder, "late", "overtaken");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(own(&folder), Vec::<String>::new());
    folder.write("github.json", "{\"broken\": true}");
    let done = comment(&folder, "text", "abc");
    assert_eq!(done.code, Some(1), "{done:?}");
    check_contains(
        &done.stderr,
        &["error: GET repos/o/r/pulls", "Bad credentials (HTTP 401)"],
    );
}

/// A program that measures nothing: it puts runs of known truth in place, and is lfmark otherwise.
const MEASURES_NOTHING: &str = r#"#!/usr/bin/env bash
set -eu
if [ "$1" != run ]; then exec "$REAL" "$@"; fi
printf '%s\n' "$@" > arguments.txt
echo '::error::a command within a text'
[ ! -e broken ] || exit 1
mkdir -p "$3"
cp -R "$RUNS"/. "$3"
"#;

/// Puts runs of a machine that is slower by this factor into a folder.
fn runs(folder: &Folder, name: &str, factor: f64, count: u64, seed: u64) {
    let mut truth = Truth::steady(30);
    truth.step.process_spread = 0.002;
    truth.step.level *= factor;
    for run in 0..count {
        let start = synthetic::start(&format!("{name}-{run}"), truth.iterations);
        let dir = folder.path(name).join(format!("{run}"));
        synthetic::record(&truth, &start, seed + run, &dir).unwrap();
    }
}

/// The script of lfmark-bench where measuring gives the runs in a folder.
fn bench(folder: &Folder, runs: &str, variables: &[(&str, &str)]) -> (Finished, String) {
    file(folder, "program", MEASURES_NOTHING);
    executable(&folder.path("program"));
    let _ = fs::remove_file(folder.path("outputs"));
    let mut command = Command::new(action("lfmark-bench/bench"));
    command
        .current_dir(folder.path(""))
        .env("LFMARK", folder.path("program"))
        .env("REAL", env!("CARGO_BIN_EXE_lfmark"))
        .env("RUNS", runs)
        .env("GITHUB_OUTPUT", "outputs")
        .env("GITHUB_STEP_SUMMARY", "summary.md")
        .env("OUTPUT", format!("results {runs}"))
        .env("FAIL_ON", "regressed not-comparable");
    for name in [
        "MODEL",
        "CONFIG",
        "REPEATS",
        "ARGUMENTS",
        "BASELINE",
        "LIMITS",
    ] {
        command.env(name, "");
    }
    let finished = command.envs(variables.iter().copied()).output().unwrap();
    let outputs = fs::read_to_string(folder.path("outputs")).unwrap_or_default();
    (finished.into(), outputs)
}

fn check_bench(folder: &Folder, runs: &str, variables: &[(&str, &str)], code: i32, verdict: &str) {
    let (done, outputs) = bench(folder, runs, variables);
    assert_eq!(done.code, Some(code), "{runs}: {done:?}");
    assert_eq!(
        outputs,
        format!(
            "records=results {runs}/run\nreport=results {runs}/run/report.md\nverdict={verdict}\n"
        )
    );
}

#[test]
fn the_bench_action_fails_for_the_verdicts_it_was_told_to() {
    let folder = Folder::new();
    runs(&folder, "base", 1.0, 6, 1);
    runs(&folder, "same", 1.0, 6, 100);
    runs(&folder, "slow", 1.2, 6, 200);
    runs(&folder, "few", 1.0, 1, 300);
    let judged = |more: &[(&'static str, &'static str)]| [&[("BASELINE", "base")], more].concat();
    check_bench(&folder, "same", &[], 0, "none");
    check_bench(&folder, "same", &judged(&[]), 0, "passed");
    check_bench(&folder, "slow", &judged(&[]), 3, "regressed");
    check_bench(&folder, "slow", &judged(&[("FAIL_ON", "")]), 0, "regressed");
    check_bench(&folder, "few", &judged(&[]), 0, "inconclusive");
    let asked = judged(&[("FAIL_ON", "regressed inconclusive")]);
    check_bench(&folder, "few", &asked, 4, "inconclusive");
    let summary = folder.read("summary.md");
    check_contains(
        &summary,
        &[
            "## Against the baseline: regressed\n\n    ",
            "## Against the baseline: inconclusive",
        ],
    );

    let (done, _) = bench(&folder, "few", &judged(&[]));
    check_contains(
        &done.stdout,
        &["::warning title=lfmark::against the baseline: inconclusive"],
    );
    // What the program printed lies between a command that ends commands and one that allows them.
    let (before, after) = done.stdout.split_once("::error::a command").unwrap();
    let token = before.trim().strip_prefix("::stop-commands::").unwrap();
    assert!(
        token.len() == 32 && after.contains(&format!("\n::{token}::\n")),
        "{done:?}"
    );
}

#[test]
fn the_bench_action_passes_its_inputs_on_and_an_error_is_an_error() {
    let folder = Folder::new();
    runs(&folder, "base", 1.0, 1, 1);
    let inputs = [
        ("MODEL", "a model; $(false)"),
        ("CONFIG", "c.toml"),
        ("REPEATS", "3"),
        ("ARGUMENTS", "--settle\n\n--prompt\ntwo words *\n"),
    ];
    check_bench(&folder, "base", &inputs, 0, "none");
    let expected = "run\n--output\nresults base/run\n--format\nhtml\n--config\nc.toml\n--model\n\
                    a model; $(false)\n--repeats\n3\n--settle\n--prompt\ntwo words *\n";
    assert_eq!(folder.read("arguments.txt"), expected);

    let (done, _) = bench(&folder, "base", &[("FAIL_ON", "slower")]);
    assert_eq!(done.code, Some(2), "{done:?}");
    check_contains(&done.stderr, &["no verdict is called slower"]);
    let (done, _) = bench(&folder, "base", &[("BASELINE", "nowhere")]);
    assert_eq!(done.code, Some(1), "{done:?}");
    folder.write("broken", "");
    let (done, outputs) = bench(&folder, "base", &[("BASELINE", "base")]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        outputs.contains("records=") && !outputs.contains("verdict="),
        "{outputs}"
    );
}
