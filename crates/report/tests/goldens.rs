//! Every value that is derived from the committed records, against its hash in
//! `fixtures/goldens.txt`: moving code must not change one of them.
//!
//! `LFMARK_BLESS=goldens cargo test -p report --test goldens` writes the hashes anew. The values
//! themselves go to `target/goldens/`, one file a name, to be compared with those of another
//! commit: run this test in a worktree of it, then `diff -r` the two folders.
//!
//! Words are left out, so that a sentence can be said better: they have one hash, `words`. The table
//! of `lfmark --json selftest --simulations 20` takes too long for a test; it is the same for the
//! same seed, so compare what two builds print.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use exchange::export;
use liblzma::read::XzDecoder;
use metrics::compare::{self, CompareError, Runs};
use metrics::comparison::NoiseFloor;
use metrics::gate::{self, Limits};
use metrics::headroom::Headroom;
use metrics::noise::Noise;
use metrics::rules::{ComparisonRules, Rules};
use metrics::run::Run;
use metrics::sets::{self, Process, Set};
use metrics::store::{self, Record};
use metrics::summary::summarize;
use metrics::{audit, history, roofline, selftest, sweep};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Fields that hold sentences.
const WORDS: [&str; 11] = [
    "error",
    "figures",
    "formula",
    "notices",
    "reason",
    "sentence",
    "text",
    "tolerance",
    "unread",
    "warnings",
    "why",
];

/// The record's own first line, which is not derived.
const NOT_DERIVED: &str = "start";

/// Where the records lie that other tests read too.
const RECORDS: &str = "fixtures/records";

/// Runs by their names, as a comparison names them.
type Named = Vec<(String, Record)>;

/// Values by the names of their hashes.
type Values = BTreeMap<String, Value>;

#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "the last digits of a logarithm are those of the platform's library"
)]
fn nothing_that_is_derived_changed() {
    let reports = Reports::new();
    let mut found = Values::new();
    let of_one = parallel(&reports.names, |name| one(&reports, name));
    found.extend(of_one.into_iter().flatten());
    found.extend(across(&reports));
    check("goldens.txt", &found);
}

#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "the last digits of a logarithm are those of the platform's library"
)]
fn no_planted_fault_is_judged_otherwise() {
    let folder = TempDir::new().unwrap();
    let findings = parallel(&selftest::plants(), |plant| {
        let finding = plant.check(&Rules::default(), folder.path()).unwrap();
        (format!("plant/{}", finding.name), value(&finding))
    });
    check("goldens-plants.txt", &findings.into_iter().collect());
}

/// The folders of runs in `reports/`, and where their records are.
struct Reports {
    names: Vec<String>,
    unpacked: TempDir,
}

impl Reports {
    fn new() -> Self {
        let unpacked = TempDir::new().unwrap();
        let mut names = Vec::new();
        for entry in fs::read_dir(repository("reports")).unwrap() {
            let folder = entry.unwrap().path();
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            if let Ok(file) = fs::File::open(folder.join("records.tar.xz")) {
                let mut archive = tar::Archive::new(XzDecoder::new(file));
                archive.unpack(unpacked.path().join(&name)).unwrap();
            } else if !repository(RECORDS).join(&name).exists() {
                continue;
            }
            names.push(name);
        }
        names.sort();
        assert!(names.len() > 10, "{names:?}");
        Self { names, unpacked }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let unpacked = self.unpacked.path().join(name);
        match unpacked.exists() {
            true => unpacked,
            false => repository(RECORDS).join(name),
        }
    }

    /// The runs of a folder, in order: of a run itself, one.
    fn runs(&self, name: &str) -> Named {
        let folder = self.folder(name);
        if folder.join(store::FILE_NAME).exists() {
            return vec![(name.to_owned(), store::read(&folder).unwrap())];
        }
        let mut runs = Vec::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.join(store::FILE_NAME).exists() {
                let within = path.file_name().unwrap().to_str().unwrap();
                runs.push((format!("{name}/{within}"), store::read(&path).unwrap()));
            }
        }
        runs.sort_by(|a, b| a.0.cmp(&b.0));
        runs
    }
}

/// Everything that is derived from one committed folder.
fn one(reports: &Reports, name: &str) -> Values {
    let folder = reports.folder(name);
    let runs = reports.runs(name);
    let mut values = Values::new();
    for (run, record) in &runs {
        values.insert(format!("run/{run}"), of_run(record));
    }
    values.insert(format!("export/{name}"), exported(&runs));
    let add = |values: &mut Values, kind: &str, found| {
        values.insert(format!("{kind}/{name}"), found);
    };
    add(&mut values, "compare", compared(&[(name, &runs)], &[]));
    let own = altered(&runs, own_hardware);
    let compared_own = compared(&[(name, &own)], &[]);
    add(&mut values, "compare-own-hardware", compared_own);
    add(&mut values, "history", in_time(&runs));
    if sweep::is_sweep(&folder) {
        let summary = sweep::summarize(&sweep::read(&folder).unwrap());
        add(&mut values, "sweep", value(&summary));
    } else if sets::is_set(&folder) {
        add(&mut values, "set", set(&sets::read(&folder).unwrap()));
        judged(&mut values, name, &runs);
        judged(&mut values, &format!("own-hardware/{name}"), &own);
    }
    values
}

fn of_run(record: &Record) -> Value {
    let summary = summarize(record);
    json!({
        "notices": record.notices,
        "summary": value(&summary),
        "roofline": value(&roofline::roofline(record, &summary)),
        "audit": value(&audit::record(record, &summary)),
        "headroom": value(&Headroom::of(record)),
    })
}

fn exported(runs: &Named) -> Value {
    let all: Vec<_> = runs
        .iter()
        .map(|(name, record)| Run::of(name, record))
        .collect();
    json!({
        "bmf": outcome(export::bmf(&all, false)),
        "github_action": outcome(export::github_action(&all, true)),
        "csv": export::csv(&all).unwrap(),
    })
}

/// A set, judged as it is and by the noise of each of its arms.
fn set(set: &Set) -> Value {
    let by_noise = set.arms.iter().map(|arm| {
        let noise = noise(set, arm);
        let judged = noise
            .as_ref()
            .ok()
            .map(|noise| sets::summarize(set, Some(noise)));
        json!({ "noise": outcome(noise), "summary": judged.map(|it| value(&it)) })
    });
    json!({ "summary": value(&sets::summarize(set, None)), "by_noise": by_noise.collect::<Vec<_>>() })
}

fn noise(set: &Set, arm: &str) -> Result<Noise, String> {
    let processes = set.processes.iter().filter(|it| it.member.arm == arm);
    let only = Set::new(processes.cloned().collect(), Vec::new()).unwrap();
    Noise::of(&only).map_err(|error| error.to_string())
}

/// The first arm of a set against each other one, without and with limits and a noise floor.
fn judged(values: &mut Values, name: &str, runs: &Named) {
    let arms = arms(runs);
    let Some(baseline) = arms.first() else { return };
    let of = |arm: &str| -> Named {
        let runs = runs.iter().filter(|(_, record)| arm_of(record) == arm);
        runs.cloned().collect()
    };
    let before = of(baseline);
    let floor = floor(&before);
    for arm in arms.iter().skip(1) {
        let after = of(arm);
        let found = gated(&before, &after, &Limits::default(), None);
        values.insert(format!("gate/{name}/{arm}"), found);
        let found = gated(&before, &after, &limits(), floor.as_ref());
        values.insert(format!("gate-limits/{name}/{arm}"), found);
    }
}

fn floor(runs: &Named) -> Option<NoiseFloor> {
    let processes = runs
        .iter()
        .filter_map(|(name, record)| Process::of(name, record));
    let set = Set::new(processes.collect(), Vec::new()).unwrap();
    Noise::of(&set).ok().map(|noise| noise.floor())
}

fn limits() -> Limits {
    let limits = json!({
        "step_time": { "practical": 0.05 },
        "token_time": {},
        "first_token": { "noise": { "runs": 5, "sd": 0.03, "difference_99": 0.1 } },
        "peak_memory": { "soft": 100_000_000, "hard": 2_700_000_000_u64 },
    });
    serde_json::from_value(limits).unwrap()
}

/// What is compared across the folders, and records that were altered so that more is found.
fn across(reports: &Reports) -> Values {
    let pairs = [
        ("h200-lfm2-1.2b", "h200-lfm2-1.2b-2"),
        ("h200-lfm2-1.2b-2", "h200-vs-mlx-lm-best"),
        ("h200-vs-mlx-lm", "h200-vs-mlx-lm-best"),
        ("h200-vs-mlx-lm", "h200-vs-pytorch"),
        ("cpu-vs-mlx-lm", "cpu-vs-mlx-lm-as-installed"),
        ("cpu-vs-mlx-lm", "cpu-350m-vs-mlx-lm"),
        ("cpu-vs-mlx-lm", "cpu-without"),
    ];
    let allow = [
        "iterations",
        "clear_cache",
        "compile",
        "iteration_tokens",
        "generation",
    ];
    let allow: Vec<String> = allow.map(str::to_owned).to_vec();
    let there = |name: &str| reports.names.iter().any(|it| it == name);
    let pairs: Vec<_> = pairs
        .into_iter()
        .filter(|(first, second)| there(first) && there(second))
        .collect();
    let of_pairs = parallel(&pairs, |(first, second)| {
        let [before, after] = [first, second].map(|name| reports.runs(name));
        let own = [&before, &after].map(|runs| altered(runs, own_hardware));
        let both = [(*first, &own[0]), (*second, &own[1])];
        Values::from([
            (format!("compare/{first}+{second}"), compared(&both, &[])),
            (
                format!("compare-allowed/{first}+{second}"),
                compared(&both, &allow),
            ),
            (
                format!("gate/{first}+{second}"),
                gated(&before, &after, &Limits::default(), None),
            ),
        ])
    });
    let mut values: Values = of_pairs.into_iter().flatten().collect();
    let back_ends = ["cpu-", "h200-"];
    values.extend(back_ends.map(|back_end| {
        let names = reports
            .names
            .iter()
            .filter(|name| name.starts_with(back_end));
        let all: Named = names.flat_map(|name| reports.runs(name)).collect();
        (format!("history/{back_end}all"), in_time(&all))
    }));
    for name in ["cpu-vs-mlx-lm", "cpu-vs-mlx-lm-cold", "h200-vs-mlx-lm-best"] {
        values.extend(changed(name, &altered(&reports.runs(name), own_hardware)));
    }
    values
}

/// Records altered in what a machine does between runs, and in their commits.
fn changed(name: &str, runs: &Named) -> Values {
    type Alter = fn(&mut Record);
    let alterations: [(&str, Alter); 4] = [
        ("hot", |record| {
            let later = number(record) > 2;
            for state in &mut record.states {
                state.thermal_state = Some(if later { 2 } else { 0 });
            }
        }),
        ("mode", |record| {
            let later = number(record) > 4;
            for state in &mut record.states {
                state.power_mode = None;
                state.low_power_mode = Some(later);
            }
        }),
        ("battery", |record| {
            let later = number(record) > 4;
            for state in &mut record.states {
                let source = if later { "battery" } else { "ac" };
                state.power_source = Some(source.to_owned());
            }
        }),
        ("commits", |record| {
            let commit = number(record).div_ceil(4);
            record.start.lfmark.commit = Some(format!("{commit:040x}"));
            record.start.engine = None;
            if commit > 3 {
                for iteration in &mut record.iterations {
                    iteration.step_ns += iteration.step_ns / 5;
                }
            }
        }),
    ];
    let mut values = Values::new();
    for (what, alter) in alterations {
        let runs = altered(runs, alter);
        let name = format!("{what}/{name}");
        let processes = runs
            .iter()
            .filter_map(|(name, record)| Process::of(name, record));
        let together = Set::new(processes.collect(), Vec::new()).unwrap();
        values.insert(format!("set/{name}"), set(&together));
        values.insert(format!("compare/{name}"), compared(&[(&name, &runs)], &[]));
        values.insert(format!("history/{name}"), in_time(&runs));
        judged(&mut values, &name, &runs);
    }
    values
}

fn altered(runs: &Named, alter: impl Fn(&mut Record)) -> Named {
    let mut runs = runs.clone();
    runs.iter_mut().for_each(|(_, record)| alter(record));
    runs
}

/// All committed runs were in virtual machines, which a comparison does not rank.
fn own_hardware(record: &mut Record) {
    record.start.machine.virtual_machine = Some(false);
}

fn number(record: &Record) -> u32 {
    record.start.member.as_ref().map_or(0, |it| it.number)
}

fn arm_of(record: &Record) -> &str {
    record
        .start
        .member
        .as_ref()
        .map_or("", |it| it.arm.as_str())
}

fn arms(runs: &Named) -> Vec<String> {
    let mut arms: Vec<String> = Vec::new();
    for (_, record) in runs {
        let arm = arm_of(record);
        if !arms.iter().any(|it| it == arm) {
            arms.push(arm.to_owned());
        }
    }
    arms
}

fn gathered(argument: &str, runs: &Named) -> Runs {
    let mut all = Runs::default();
    for (name, record) in runs {
        all.add(argument, name, record);
    }
    all
}

fn compared(arguments: &[(&str, &Named)], allow: &[String]) -> Value {
    let mut all = Runs::default();
    for (argument, runs) in arguments {
        for (name, record) in *runs {
            all.add(argument, name, record);
        }
    }
    match compare::compare(&all, allow, &Rules::default()) {
        Err(CompareError::Mismatch { fields }) => json!({ "mismatch": value(&fields) }),
        other => outcome(other),
    }
}

fn gated(before: &Named, after: &Named, limits: &Limits, floor: Option<&NoiseFloor>) -> Value {
    let [before, after] = [before, after].map(|runs| gathered("", runs));
    let rules = Rules::default();
    value(&gate::judge(&before, &after, limits, floor, &rules))
}

fn in_time(runs: &Named) -> Value {
    let mut all = Runs::across_builds();
    for (name, record) in runs {
        all.add("", name, record);
    }
    outcome(history::summarize(
        &all,
        &[],
        None,
        &ComparisonRules::default(),
    ))
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap()
}

fn outcome<T: Serialize, E: ToString>(result: Result<T, E>) -> Value {
    match result {
        Ok(found) => value(&found),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// In order of the items, on all processors.
fn parallel<T: Sync, R: Send>(items: &[T], of: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                while let Some((at, item)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    items.get(at).map(|item| (at, item))
                } {
                    let result = of(item);
                    found.lock().unwrap().insert(at, result);
                }
            });
        }
    });
    found.into_inner().unwrap().into_values().collect()
}

/// The same with sorted fields, without the record's own; and without sentences unless `words`.
fn sorted(value: &Value, words: bool) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|it| sorted(it, words)).collect(),
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            let fields = fields.into_iter().filter(|(name, _)| *name != NOT_DERIVED);
            let fields = fields.map(|(name, value)| match WORDS.contains(&name.as_str()) {
                true if !words => (name.clone(), without_words(value)),
                _ => (name.clone(), sorted(value, words)),
            });
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

/// How many sentences there are.
fn without_words(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_words).collect(),
        Value::String(_) => "words".into(),
        other => sorted(other, false),
    }
}

fn hash(of: &Value) -> String {
    let digest = Sha256::digest(serde_json::to_vec(of).unwrap());
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Against the hashes in a file of `fixtures/`.
fn check(file: &str, found: &Values) {
    let folder = repository("target/goldens");
    let mut hashes = BTreeMap::new();
    for (name, value) in found {
        hashes.insert(name.clone(), hash(&sorted(value, false)));
        let path = folder.join(format!("{name}.json"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = serde_json::to_string_pretty(&sorted(value, true)).unwrap();
        fs::write(path, text + "\n").unwrap();
    }
    let all: Value = found.values().map(|value| sorted(value, true)).collect();
    hashes.insert("words".to_owned(), hash(&all));

    let path = repository("fixtures").join(file);
    if std::env::var("LFMARK_BLESS").is_ok_and(|it| it == "goldens") {
        let lines = hashes.iter().map(|(name, hash)| format!("{name} {hash}\n"));
        fs::write(&path, lines.collect::<String>()).unwrap();
        return;
    }
    let text = fs::read_to_string(&path).unwrap();
    let expected: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, hash)| (name.to_owned(), hash.to_owned()))
        .collect();
    let names: BTreeSet<_> = hashes.keys().chain(expected.keys()).collect();
    let differ: Vec<_> = names
        .into_iter()
        .filter(|name| hashes.get(*name) != expected.get(*name))
        .collect();
    assert!(
        differ.is_empty(),
        "other values than in {}: {differ:#?}\nthe new ones are in {}; for the old ones run this \
         test in a worktree of the commit before, and `diff -r` the two folders",
        path.display(),
        folder.display()
    );
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}
