use super::*;
use crate::engine::{self, Truth};
use crate::record::{Event, Start};
use crate::store;
use crate::synthetic::Fault;

const RUNS: u64 = 10;

/// Processes that differ by 3 %: far more than the steps of one differ in their mean.
fn steady() -> Truth {
    let mut truth = Truth::steady(16);
    truth.step.process_spread = 0.03;
    truth
}

fn arm(name: &str, truth: &Truth, seed: u64, count: u64, change: &dyn Fn(&mut Start)) -> Runs {
    let mut runs = Runs::default();
    for at in 0..count {
        let name = format!("{name}/{at}");
        let mut start = engine::start(&name, truth.iterations);
        change(&mut start);
        let mut text = serde_json::to_string(&Event::Start(Box::new(start))).unwrap() + "\n";
        engine::run(truth, seed + at, &mut |event| {
            text += &(serde_json::to_string(event).unwrap() + "\n");
            Ok(())
        })
        .unwrap();
        runs.add("arm", &name, &store::parse(&text).unwrap());
    }
    runs
}

fn judged(baseline: &Runs, candidate: &Runs, limits: &Limits) -> Judgement {
    judge(
        baseline,
        candidate,
        limits,
        None,
        &ComparisonRules::default(),
    )
}

/// Judges only the step time.
fn step_time() -> Limits {
    limits("step_time", Limit::default())
}

fn limits(metric: &str, limit: Limit) -> Limits {
    Limits {
        metrics: [(metric.to_owned(), limit)].into(),
    }
}

fn pair(pair: u64, candidate: &Truth, count: u64) -> [Runs; 2] {
    let seed = 10_000 * (pair + 1);
    [
        arm("a", &steady(), seed, count, &|_| {}),
        arm("b", candidate, seed + 5_000, count, &|_| {}),
    ]
}

#[test]
fn of_100_pairs_a_slowdown_beyond_the_detectable_is_red_and_nothing_rarely() {
    let (mut false_alarms, mut found, mut green) = (0, 0, 0);
    for number in 0..100 {
        let [baseline, same] = pair(number, &steady(), RUNS);
        // The whole gate, with every metric.
        let nothing = judged(&baseline, &same, &Limits::default());
        false_alarms += u32::from(nothing.verdict == Verdict::Regressed);
        green += u32::from(nothing.verdict == Verdict::Equivalent);
        let printed = |it: &&MetricComparison| it.name == "step_time";
        let detectable = nothing
            .metrics
            .iter()
            .find(printed)
            .unwrap()
            .minimum_detectable;
        let mut slower = steady();
        slower.step.level *= 1.0 + 1.5 * detectable.unwrap();
        let [_, slower] = pair(number, &slower, RUNS);
        let verdict = judged(&baseline, &slower, &Limits::default()).verdict;
        found += u32::from(verdict == Verdict::Regressed);
    }
    assert!(false_alarms <= 5, "{false_alarms} false alarms");
    assert!(found >= 90, "{found} found");
    // Ten such runs cannot show that nothing of 2 % changed: no change is not yet green.
    assert!(green <= 5, "{green} green");
}

#[test]
fn green_needs_equivalence_to_be_shown() {
    let mut quiet = steady();
    quiet.step.process_spread = 0.002;
    let arms =
        |count| [1, 2].map(|seed| arm(&format!("arm{seed}"), &quiet, 3_000 * seed, count, &|_| {}));
    let [a, b] = arms(6);
    assert_eq!(judged(&a, &b, &step_time()).verdict, Verdict::Equivalent);
    let [a, b] = arms(1);
    let verdict = judged(&a, &b, &step_time()).verdict;
    assert_eq!(verdict, Verdict::Inconclusive { more_runs: Some(4) });
    // What is within one limit is not within a stricter one.
    let [a, b] = arms(6);
    let strict = Limit {
        practical: Some(0.0005),
        ..Limit::default()
    };
    let verdict = judged(&a, &b, &limits("step_time", strict)).verdict;
    assert!(
        matches!(verdict, Verdict::Inconclusive { .. }),
        "{verdict:?}"
    );
}

#[test]
fn a_noise_floor_of_the_limits_raises_the_threshold() {
    let mut quiet = steady();
    quiet.step.process_spread = 0.002;
    let mut slower = quiet;
    slower.step.level *= 1.04;
    let a = arm("a", &quiet, 1, 6, &|_| {});
    let b = arm("b", &slower, 100, 6, &|_| {});
    assert_eq!(judged(&a, &b, &step_time()).verdict, Verdict::Regressed);
    let noise = Limit {
        noise: Some(MetricNoise { runs: 10, sd: 0.05 }),
        ..Limit::default()
    };
    let verdict = judged(&a, &b, &limits("step_time", noise)).verdict;
    assert!(
        matches!(verdict, Verdict::Inconclusive { .. }),
        "{verdict:?}"
    );
}

#[test]
fn an_injected_leak_is_red() {
    let mut steady = Truth::steady(200);
    steady.step.process_spread = 0.002;
    let mut leaking = steady;
    leaking.active.fault = Fault::Leak {
        per_sample: 524_288.0,
    };
    let a = arm("a", &steady, 1, 4, &|_| {});
    let b = arm("b", &leaking, 100, 4, &|_| {});
    let found = judged(&a, &b, &step_time());
    assert_eq!(found.verdict, Verdict::Regressed);
    let expected = "memory leaks in 4 of 4 runs of the candidate, and in 0 of 4 of the baseline";
    assert_eq!(found.reasons, [expected]);
    // One that was there before is no regression.
    let before = arm("c", &leaking, 300, 4, &|_| {});
    assert!(judged(&before, &b, &step_time()).reasons.is_empty());
}

#[test]
fn memory_above_the_hard_limit_is_red_and_above_the_soft_one_a_warning() {
    let [a, b] = pair(0, &steady(), 3);
    let check = |soft, hard, reasons: usize, warnings: usize| {
        let limit = Limit {
            soft: Some(soft),
            hard: Some(hard),
            ..Limit::default()
        };
        let found = judged(&a, &b, &limits("peak_memory", limit));
        assert_eq!(found.reasons.len(), reasons, "{:?}", found.reasons);
        assert_eq!(found.warnings.len(), warnings, "{:?}", found.warnings);
        assert_eq!(found.verdict == Verdict::Regressed, reasons > 0);
    };
    // They need some 3.2 GB.
    check(1_000_000_000, 2_000_000_000, 1, 0);
    check(1_000_000_000, 9_000_000_000, 0, 1);
    check(8_000_000_000, 9_000_000_000, 0, 0);
}

#[test]
fn another_machine_or_work_is_not_comparable_and_a_hot_run_is_void() {
    let check = |truth: Truth, change: &dyn Fn(&mut Start), expected: &str| {
        let a = arm("a", &steady(), 1, 2, &|_| {});
        let b = arm("b", &truth, 100, 2, change);
        let verdict = judged(&a, &b, &step_time()).verdict;
        let (Verdict::NotComparable { why } | Verdict::Void { why }) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(why, expected);
    };
    check(
        steady(),
        &|start| start.machine.chip = Some("b".to_owned()),
        "chip (null in a/0, b in b/0)",
    );
    check(
        steady(),
        &|start| start.config.compile = false,
        "compile (true in a/0, false in b/0)",
    );
    let mut hot = steady();
    hot.thermal_state = [0, 2];
    check(hot, &|_| {}, "the thermal state rose from 0 to 2 in b/0");
    // What an update of the system changes is no other machine.
    let a = arm("a", &steady(), 1, 2, &|_| {});
    let b = arm("b", &steady(), 100, 2, &|start| {
        start.machine.os_version = Some("27.1".to_owned());
    });
    let verdict = judged(&a, &b, &step_time()).verdict;
    assert!(
        !matches!(verdict, Verdict::NotComparable { .. }),
        "{verdict:?}"
    );
}

#[test]
fn limits_that_cannot_be_ones_are_refused() {
    let check = |metric: &str, limit: Limit, expected: &str| {
        let problem = limits(metric, limit).check().unwrap_err().to_string();
        assert!(problem.contains(expected), "{problem}");
    };
    let default = Limit::default();
    check(
        "speed",
        default,
        "`speed` is no metric; there are step_time",
    );
    let practical = |value| Limit {
        practical: Some(value),
        ..default
    };
    check("step_time", practical(0.0), "practical is 0");
    check("step_time", practical(f64::NAN), "practical is NaN");
    check(
        "step_time",
        Limit {
            hard: Some(1),
            ..default
        },
        "limits of memory",
    );
    let turned = Limit {
        soft: Some(2),
        hard: Some(1),
        ..default
    };
    check("peak_memory", turned, "soft is 2, above hard");
    let noise = Limit {
        noise: Some(MetricNoise { runs: 1, sd: 0.1 }),
        ..default
    };
    check("footprint", noise, "at least 2 runs");
    assert_eq!(step_time().check(), Ok(()));
}

#[test]
fn one_run_of_criterion_an_arm_is_inconclusive_whatever_it_shows() {
    let run = |candidate: f64| {
        vec![Benchmark {
            name: "step".to_owned(),
            baseline: 100.0,
            candidate,
        }]
    };
    let judged = |candidates: &[f64]| {
        let runs: Vec<_> = candidates.iter().map(|&it| run(it)).collect();
        judge_benchmarks(&runs, &ComparisonRules::default()).verdict
    };
    assert_eq!(
        judged(&[300.0]),
        Verdict::Inconclusive { more_runs: Some(4) }
    );
    assert_eq!(
        judged(&[110.0, 111.0, 112.0, 110.0, 111.0]),
        Verdict::Regressed
    );
    assert_eq!(
        judged(&[100.1, 100.2, 99.9, 100.0, 100.1]),
        Verdict::Equivalent
    );
}

#[test]
fn the_mean_of_criterions_estimates_is_read() {
    let text = r#"{"mean":{"confidence_interval":{"confidence_level":0.95,"lower_bound":1.0,
        "upper_bound":3.0},"point_estimate":2.5,"standard_error":0.1},"slope":null}"#;
    assert_eq!(criterion_mean(text), Ok(2.5));
    assert!(criterion_mean("{}").is_err());
    assert_eq!(
        criterion_mean(r#"{"mean":{"point_estimate":0.0}}"#),
        Err("its mean is 0".to_owned())
    );
}
