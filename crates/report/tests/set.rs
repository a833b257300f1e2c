//! Reports of sets of runs, from records of a synthetic engine.

use metrics::comparison::MetricNoise;
use metrics::engine::{self, Truth};
use metrics::noise::Noise;
use metrics::record::{Engine, Event, Member, Start};
use metrics::sets::{Agreement, Process, SameWork, Set, Unmeasured};
use metrics::store::{self, Record};
use report::{REPORT, Rendered, render_set};

/// A set of interleaved runs, the last arm slower by this factor.
fn set(arms: &[&str], repeats: u32, factor: f64) -> Set {
    let mut processes = Vec::new();
    for repeat in 1..=repeats {
        for (index, arm) in arms.iter().enumerate() {
            let number = processes.len() as u32 + 1;
            let mut truth = Truth::steady(60);
            if index + 1 == arms.len() {
                truth.step.level *= factor;
            }
            let folder = format!("{number:02}-{arm}");
            processes.push(process(&folder, &truth, arm, number, repeat));
        }
    }
    Set::new(processes, Vec::new()).unwrap()
}

fn process(folder: &str, truth: &Truth, arm: &str, number: u32, repeat: u32) -> Process {
    let mut start = engine::start(folder, truth.iterations);
    start.member = Some(Member {
        set: "set".to_owned(),
        arm: arm.to_owned(),
        number,
        repeat,
        waited_ns: 1_500_000_000,
        unmet: Vec::new(),
        unread: vec!["temperature".to_owned()],
        empty_caches: None,
    });
    Process::of(folder, &record(start, truth, number.into())).unwrap()
}

fn record(start: Start, truth: &Truth, seed: u64) -> Record {
    let mut text = String::new();
    let mut add = |event: &Event| {
        text.push_str(&serde_json::to_string(event).unwrap());
        text.push('\n');
        Ok(())
    };
    add(&Event::Start(Box::new(start))).unwrap();
    engine::run(truth, seed, &mut add).unwrap();
    store::parse(&text).unwrap()
}

fn text(rendered: &Rendered) -> &str {
    rendered.get(REPORT).unwrap()
}

#[test]
fn the_verdict_comes_first_and_the_table_says_why() {
    let set = set(&["a", "b"], 5, 1.05);
    let rendered = render_set(&set, None).unwrap();
    let report = text(&rendered);
    let second = report.lines().filter(|line| !line.is_empty()).nth(1);
    let second = second.unwrap();
    assert!(
        second.starts_with("**b against a: regressed.** step time +"),
        "{second}"
    );
    for needle in [
        "| step time | 5 + 5 | +",
        "| peak memory | 5 + 5 | ",
        "time to first token (01-a has no value of it)",
        "No noise floor of this machine",
        "What could not be read here, and so was no condition: temperature.",
        "| 4 | [04-b](04-b/report.md) | b | 2 | complete | 1.500 |",
    ] {
        assert!(report.contains(needle), "no `{needle}` in:\n{report}");
    }
    assert_eq!(render_set(&set, None).unwrap(), rendered);
}

#[test]
fn of_one_run_an_arm_no_spread_is_assumed() {
    let rendered = render_set(&set(&["a", "b"], 1, 1.05), None).unwrap();
    let report = text(&rendered);
    let expected =
        "To begin, a test needs 4 more runs in each arm: nothing is known of the spread yet.";
    assert!(report.contains(expected), "{report}");
    assert!(!report.contains("would decide"), "{report}");
}

/// Turns an arm into one of another program.
fn replace_program(set: &mut Set, arm: &str, name: &str) {
    for process in &mut set.processes {
        if process.member.arm == arm {
            std::rc::Rc::make_mut(&mut process.run.start).engine = Some(Engine {
                name: name.to_owned(),
                version: "2.0".to_owned(),
                memory_source: "its own counter".to_owned(),
                batches_sha256: "00".to_owned(),
            });
        }
    }
}

fn same_work(baseline: &str, arm: &str) -> SameWork {
    SameWork {
        iterations: 20,
        tolerance: 1e-3,
        baseline: baseline.to_owned(),
        arms: vec![Agreement {
            arm: arm.to_owned(),
            loss_difference: 2e-7,
        }],
    }
}

#[test]
fn other_programs_stand_side_by_side_with_those_that_were_not_measured() {
    let mut set = set(&["a", "b"], 5, 1.05);
    let without = render_set(&set, None).unwrap();
    assert!(!text(&without).contains("## Side by side"));
    replace_program(&mut set, "b", "other");
    set.versus.unmeasured = vec![Unmeasured {
        arm: "c".to_owned(),
        why: "there is no c".to_owned(),
    }];
    set.versus.same_work = Some(same_work("a", "b"));
    for process in &mut set.processes {
        process.member.empty_caches = Some(vec!["TMPDIR".to_owned()]);
    }
    let rendered = render_set(&set, None).unwrap();
    let report = text(&rendered);
    check_tables(report);
    for needle in [
        "**b against a: different programs.** Metric by metric: slower (step time +",
        "**Not measured: c (there is no c).**",
        "losses differed from those of a, relative: b by at most 2.0e-7 (tolerance 1.0e-3).",
        "other 2.0 with MLX none (synthetic)",
        "Every process had empty folders for compiled kernels (TMPDIR).",
        "| Aspect | a | b | c |",
        "| other 2.0 | not measured |",
        "| Process start to end of step 10 | not measured | not measured | not measured |",
        "| Peak memory is counted by | mlx | its own counter | not measured |",
        "| Training (it/s) | a / b | 5 + 5 | 1.0",
        "| yes |",
        "is called \"slower\"",
        "their peaks are counted by different counters",
    ] {
        assert!(report.contains(needle), "no `{needle}` in:\n{report}");
    }
    for absent in ["regressed.**", "| regressed | "] {
        let verdicts = report.split("## Appendix").next().unwrap();
        assert!(!verdicts.contains(absent), "`{absent}` in:\n{report}");
    }
}

#[test]
fn the_report_of_another_programs_run_is_called_its_own() {
    let truth = Truth::steady(30);
    let mut start = engine::start("run", truth.iterations);
    start.engine = Some(Engine {
        name: "other".to_owned(),
        version: "2.0".to_owned(),
        memory_source: "its own counter".to_owned(),
        batches_sha256: "00".to_owned(),
    });
    start.mlx.version = "not used".to_owned();
    let rendered = report::render(&record(start, &truth, 1)).unwrap();
    let report = text(&rendered);
    for needle in [
        "**The work was done by other 2.0, and not by lfmark",
        "counted by another counter: its own counter.**",
        "In this run other 2.0 attached",
        "to train them without MLX (synthetic back end)",
        "| Program | other 2.0, ",
    ] {
        assert!(report.contains(needle), "no `{needle}` in:\n{report}");
    }
}

#[test]
fn a_floor_is_shown_and_one_of_other_work_is_refused_aloud() {
    let arms = set(&["a", "b"], 3, 1.0);
    let floor = Noise::of(&set(&["run"], 5, 1.0)).unwrap();
    let rendered = render_set(&arms, Some(&floor)).unwrap();
    let report = text(&rendered);
    assert!(report.contains("from 5 runs of the same work"), "{report}");
    assert!(report.contains("by this machine's noise floor"), "{report}");

    let mut other = floor.clone();
    other
        .key
        .work
        .insert("iterations".to_owned(), "7".to_owned());
    let rendered = render_set(&arms, Some(&other)).unwrap();
    let report = text(&rendered);
    assert!(report.contains("work.iterations"), "{report}");
    assert!(report.contains("and is not used"), "{report}");

    let mut foreign = floor;
    let stored = foreign.metrics["step_time"].clone();
    foreign.metrics.insert("<script>|".to_owned(), stored);
    let noise = MetricNoise { runs: 2, sd: 1.0 };
    foreign.metrics.get_mut("step_time").unwrap().noise = noise;
    let rendered = render_set(&arms, Some(&foreign)).unwrap();
    check_tables(text(&rendered));
    assert!(!text(&rendered).contains("<script"));
}

#[test]
fn every_chart_of_a_set_is_shown_in_its_report_and_the_reverse() {
    for set in [
        set(&["a", "b", "c"], 3, 1.1),
        set(&["a", "b"], 1, 1.0),
        set(&["run"], 3, 1.0),
        set(&["run"], 1, 1.0),
    ] {
        let rendered = render_set(&set, None).unwrap();
        let charts: Vec<_> = rendered.files[1..].iter().map(|file| file.name).collect();
        let shown: Vec<_> = text(&rendered)
            .lines()
            .filter_map(|line| line.strip_prefix("![")?.strip_suffix(')')?.rsplit_once('('))
            .map(|(_, name)| name)
            .collect();
        assert_eq!(shown, charts);
        check_tables(text(&rendered));
    }
}

#[test]
fn hostile_names_stay_text() {
    let evil = "<script>|![x](y)**bold**\u{202e}\n";
    let mut set = set(&["a", "b"], 2, 1.0);
    for process in &mut set.processes {
        std::rc::Rc::make_mut(&mut process.run.start).model.name = evil.to_owned();
        std::rc::Rc::make_mut(&mut process.run.start).lfmark.version = evil.to_owned();
        process.run.reason = Some(evil.to_owned());
        process.run.name.push_str(evil);
        process.member.unmet = vec![evil.to_owned()];
        process.member.unread = vec![evil.to_owned()];
        if process.member.arm == "b" {
            process.member.arm = evil.to_owned();
            std::rc::Rc::make_mut(&mut process.run.start).mlx.version = evil.to_owned();
        }
    }
    replace_program(&mut set, evil, evil);
    set.versus.unmeasured = vec![Unmeasured {
        arm: evil.to_owned(),
        why: evil.to_owned(),
    }];
    set.versus.same_work = Some(same_work(evil, evil));
    for process in &mut set.processes {
        process.member.empty_caches = Some(vec![evil.to_owned()]);
    }
    set.processes[3].run.status = metrics::summary::RunStatus::Failed;
    set.arms[1] = evil.to_owned();
    set.notices = vec![evil.to_owned()];
    let rendered = render_set(&set, None).unwrap();
    check_tables(text(&rendered));
    for markup in ["![x](y)", "**bold**"] {
        assert!(!text(&rendered).contains(markup), "{markup} is live");
    }
    for file in &rendered.files {
        for live in ["<script", "\u{202e}"] {
            assert!(!file.text.contains(live), "{live} in {}", file.name);
        }
    }
}

/// Every row of a table has as many cells as its head.
fn check_tables(report: &str) {
    let mut columns = None;
    for line in report.lines() {
        let cells = line.starts_with('|').then(|| line.matches('|').count());
        if let (Some(cells), Some(expected)) = (cells, columns) {
            assert_eq!(cells, expected, "{line}");
        }
        columns = cells;
    }
}
