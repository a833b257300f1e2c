use super::*;
use crate::engine::{self, Truth};
use crate::record::{Event, Member, Metallib, Start};
use crate::store;
use crate::synthetic::Fault;

/// Processes that differ by 3 %: far more than the steps of one differ in their mean.
fn steady() -> Truth {
    let mut truth = Truth::steady(16);
    truth.step.process_spread = 0.03;
    truth
}

fn arm(name: &str, truth: &Truth, seed: u64, count: u64, change: &dyn Fn(&mut Start)) -> Runs {
    let mut runs = Runs::default();
    add(&mut runs, name, truth, seed, count, change);
    runs
}

fn add(
    runs: &mut Runs,
    name: &str,
    truth: &Truth,
    seed: u64,
    count: u64,
    change: &dyn Fn(&mut Start),
) {
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
}

fn judged(baseline: &Runs, candidate: &Runs, limits: &Limits) -> Judgement {
    judge(baseline, candidate, limits, None, &Rules::default())
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
    assert_eq!(found.reasons.len(), 1);
    assert_eq!(found.reasons[0].text, expected);
    // One that was there before is no regression.
    let before = arm("c", &leaking, 300, 4, &|_| {});
    assert!(judged(&before, &b, &step_time()).reasons.is_empty());
}

#[test]
fn the_noise_of_the_limits_goes_before_the_floor_and_both_are_told() {
    let [a, b] = pair(0, &steady(), 3);
    let own = |runs| MetricNoise { runs, sd: 0.05 };
    let floor = NoiseFloor {
        metrics: ["step_time", "footprint"]
            .map(|metric| (metric.to_owned(), own(10)))
            .into(),
    };
    let mut limits = step_time();
    for metric in ["footprint", "iteration_wall"] {
        limits.metrics.insert(metric.to_owned(), Limit::default());
    }
    let of_limits = limits.metrics.get_mut("footprint").unwrap();
    of_limits.noise = Some(own(3));
    let rules = Rules::default();
    let found = judge(&a, &b, &limits, Some(&floor), &rules);
    let check = |metric: &str, source: NoiseSource, runs: Option<usize>| {
        assert_eq!(found.noise[metric], source, "{metric}");
        let judged = found.metrics.iter().find(|it| it.name == metric).unwrap();
        let expected = runs.map_or(0.0, |runs| own(runs).difference_99(3, 3));
        assert_eq!(
            judged.threshold,
            expected.max(rules.comparison.practical),
            "{metric}"
        );
    };
    check("step_time", NoiseSource::Floor, Some(10));
    check("footprint", NoiseSource::Limits, Some(3));
    check("iteration_wall", NoiseSource::None, None);
}

#[test]
fn runs_that_were_started_in_turn_are_judged_as_pairs() {
    // Runs of a set in which every second one is of the other arm.
    let member = |start: &mut Start, set: &str, arm: &str, number: u32| {
        start.started_unix_ms = 1_000 * u64::from(number);
        start.member = Some(Member {
            set: set.to_owned(),
            arm: arm.to_owned(),
            number,
            repeat: number.div_ceil(2),
            waited_ns: 0,
            unmet: Vec::new(),
            unread: Vec::new(),
            empty_caches: None,
        });
    };
    type Change<'a> = &'a dyn Fn(&mut Start, u32);
    let runs = |first: u32, change: Change| {
        // What lies further apart than the candidate lies from its baseline.
        let mut runs = Runs::default();
        for at in 0..12 {
            let mut truth = Truth::steady(16);
            truth.step.level *= 1.0 + 0.1 * f64::from(at);
            if first == 2 {
                truth.step.level *= 1.03;
            }
            let number = 2 * at + first;
            add(&mut runs, "run", &truth, number.into(), 1, &|start| {
                change(start, number);
            });
        }
        runs
    };
    let check = |baseline: Change, candidate: Change, design: Design, verdict: &str| {
        let found = judged(&runs(1, baseline), &runs(2, candidate), &step_time());
        assert_eq!(found.design, design);
        assert_eq!(found.verdict.word(), verdict);
    };
    let of_set = |start: &mut Start, number| member(start, "set", "a", number);
    let other_arm = |start: &mut Start, number| member(start, "set", "b", number);
    check(&of_set, &other_arm, Design::Interleaved, "regressed");
    // Alone, in one arm, in other sets, and in sets of one name after another.
    check(&|_, _| {}, &other_arm, Design::Independent, "inconclusive");
    check(&of_set, &of_set, Design::Independent, "inconclusive");
    let other_set = |start: &mut Start, number| member(start, "other", "b", number);
    check(&of_set, &other_set, Design::Independent, "inconclusive");
    let later = |start: &mut Start, number| {
        member(start, "set", "b", number);
        start.started_unix_ms += 1_000_000;
    };
    check(&of_set, &later, Design::Independent, "inconclusive");
}

#[test]
fn a_regression_stays_one_only_where_fresh_runs_show_it_too() {
    let mut quiet = steady();
    quiet.step.process_spread = 0.002;
    let mut slower = quiet;
    slower.step.level *= 1.1;
    let baseline = arm("a", &quiet, 1, 5, &|_| {});
    let of =
        |truth: &Truth, seed| judged(&baseline, &arm("b", truth, seed, 5, &|_| {}), &step_time());
    let check = |fresh: Judgement, expected: &str| {
        let found = of(&slower, 100).confirmed_by(fresh, 0.05);
        assert_eq!(found.verdict.word(), expected);
        assert!(found.fresh.is_some());
    };
    check(of(&slower, 200), "regressed");
    check(of(&quiet, 300), "inconclusive");
    let hot = Truth {
        thermal_state: [0, 2],
        ..slower
    };
    check(of(&hot, 400), "inconclusive");
    // A leak is confirmed by a leak.
    let still = Truth::steady(200);
    let mut leaking = still;
    leaking.active.fault = Fault::Leak {
        per_sample: 524_288.0,
    };
    let before = arm("a", &still, 1, 3, &|_| {});
    let of =
        |truth: &Truth, seed| judged(&before, &arm("b", truth, seed, 3, &|_| {}), &step_time());
    let confirmed = of(&leaking, 100).confirmed_by(of(&leaking, 200), 0.05);
    assert_eq!(confirmed.verdict, Verdict::Regressed);
    let gone = of(&leaking, 100).confirmed_by(of(&still, 200), 0.05);
    assert_eq!(gone.verdict.word(), "inconclusive");
}

#[test]
fn fresh_runs_are_tested_on_one_side_in_the_metrics_that_regressed() {
    let mut slower = steady();
    slower.step.level *= 1.1;
    let [a, b] = [
        arm("a", &steady(), 1, 5, &|_| {}),
        arm("b", &slower, 2, 5, &|_| {}),
    ];
    let of_step = |found: Judgement| found.metrics.into_iter().find(|it| it.name == "step_time");
    let red = MetricComparison {
        verdict: Verdict::Regressed,
        ..of_step(judged(&a, &b, &step_time())).unwrap()
    };
    let check = |change: f64, p: f64, found: usize, expected: bool| {
        let first: Vec<MetricComparison> = (0..found)
            .map(|number| MetricComparison {
                name: format!("metric {number}"),
                ..red.clone()
            })
            .collect();
        let fresh = [MetricComparison {
            name: "metric 0".into(),
            log_ratio: change.ln_1p(),
            change,
            p,
            verdict: Verdict::Inconclusive { more_runs: None },
            ..red.clone()
        }];
        let again = again(&first, &fresh, 0.05);
        assert_eq!(again.len(), found);
        assert_eq!(again[0].confirms, expected, "{change} {p} {found}");
        assert!(
            again[1..]
                .iter()
                .all(|it| it.fresh.is_none() && !it.confirms)
        );
    };
    check(0.07, 0.09, 1, true);
    check(0.07, 0.11, 1, false);
    check(0.07, 0.09, 2, false);
    check(0.07, 0.04, 2, true);
    // For the better, and smaller than what matters.
    check(-0.07, 0.001, 1, false);
    check(0.01, 0.001, 1, false);
    // A metric that did not regress in the first runs counts for nothing.
    let fresh = [red.clone()];
    let mut first = fresh.clone();
    first[0].verdict = Verdict::Equivalent;
    assert!(again(&first, &fresh, 0.05).is_empty());
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
    let on = |version: &'static str| {
        move |start: &mut Start| start.machine.os_version = Some(version.to_owned())
    };
    let a = arm("a", &steady(), 1, 2, &on("15.3"));
    let b = arm("b", &steady(), 100, 2, &on("27.1"));
    let found = judged(&a, &b, &step_time());
    assert!(
        !matches!(found.verdict, Verdict::NotComparable { .. }),
        "{:?}",
        found.verdict
    );
    let named = "the version of the system differs: 15.3 in the baseline, 27.1 in the candidate";
    assert_eq!(found.warnings, [named]);
}

#[test]
fn kernels_that_differ_in_any_run_of_either_arm_are_a_warning() {
    let with = |neural_accelerators| {
        move |start: &mut Start| {
            start.config.fused_kernels = Some(true);
            start.mlx.metallib = Some(Metallib {
                bytes: 1,
                built_for: Some("26.2".to_owned()),
                neural_accelerators,
            });
        }
    };
    let a = arm("a", &steady(), 1, 2, &with(false));
    let mut b = arm("b", &steady(), 100, 2, &with(false));
    assert!(judged(&a, &b, &step_time()).warnings.is_empty());
    add(&mut b, "c", &steady(), 200, 1, &with(true));
    let expected = "mlx.metallib.neural_accelerators differs: false in the baseline, \
                    false and true in the candidate";
    assert_eq!(judged(&a, &b, &step_time()).warnings, [expected]);
    add(&mut b, "d", &steady(), 300, 1, &|start| {
        with(true)(start);
        start.config.fused_kernels = Some(false);
    });
    let expected = "fused_kernels differs: true in the baseline, true and false \
                    in the candidate";
    assert_eq!(judged(&a, &b, &step_time()).warnings[1..], [expected]);
}

#[test]
fn a_run_under_another_name_is_still_that_run() {
    let a = arm("a", &steady(), 1, 2, &|_| {});
    let mut b = arm("b", &steady(), 100, 1, &|_| {});
    assert!(a.in_both(&b).is_empty());
    add(&mut b, "copy", &steady(), 2, 1, &|start| {
        start.run_id = engine::start("a/1", 16).run_id;
    });
    assert_eq!(a.in_both(&b), [("a/1", "copy/0")]);
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
