use serde::Deserialize;

use super::estimate::{Estimate, quantile};
use super::simulation::{Scenario, simulate};
use super::*;
use crate::random::Generator;

#[derive(Deserialize)]
struct Fixture {
    limit: f64,
    quantiles: Vec<Quantile>,
    tails: Vec<Tail>,
    detectable: Vec<Detectable>,
    comparisons: Vec<Expected>,
}

#[derive(Deserialize)]
struct Quantile {
    freedom: f64,
    p: f64,
    quantile: f64,
}

#[derive(Deserialize)]
struct Tail {
    freedom: f64,
    t: f64,
    tail: f64,
}

#[derive(Deserialize)]
struct Detectable {
    freedom: f64,
    errors: f64,
}

#[derive(Deserialize)]
struct Expected {
    name: String,
    baseline: Vec<f64>,
    candidate: Vec<f64>,
    log_ratio: f64,
    freedom: f64,
    p: f64,
    interval_95: (f64, f64),
    interval_90: (f64, f64),
    equivalence_p: f64,
    u: f64,
    rank_p: f64,
    hedges_g: f64,
    paired_p: Option<f64>,
    paired_95: Option<(f64, f64)>,
}

fn fixture() -> Fixture {
    let text = include_str!("../../../../fixtures/statistics/between.json");
    serde_json::from_str(text).expect("the fixture is what its script writes")
}

fn assert_near(actual: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (actual - expected).abs() <= tolerance * expected.abs().max(1e-3),
        "{what}: {actual} instead of {expected}"
    );
}

fn unit(freedom: f64, log_ratio: f64) -> Estimate {
    Estimate {
        log_ratio,
        error: 1.0,
        freedom,
    }
}

fn runs(values: &[f64]) -> Vec<Run> {
    let run = |&value| Run {
        value,
        windows: Vec::new(),
    };
    values.iter().map(run).collect()
}

fn metric(name: &str, baseline: &[f64], candidate: &[f64]) -> Metric {
    Metric {
        name: name.to_owned(),
        better: Better::Lower,
        practical: None,
        baseline: runs(baseline),
        candidate: runs(candidate),
    }
}

fn compare_default(metrics: &[Metric], design: Design) -> Result<Comparison, ComparisonError> {
    let circumstances = Circumstances::default();
    compare(
        metrics,
        design,
        &circumstances,
        None,
        &ComparisonRules::default(),
    )
}

fn one(baseline: &[f64], candidate: &[f64]) -> MetricComparison {
    let metrics = [metric("step", baseline, candidate)];
    let mut comparison = compare_default(&metrics, Design::Independent).unwrap();
    assert_eq!(comparison.verdict, comparison.metrics[0].verdict);
    comparison.metrics.remove(0)
}

/// The verdict of a single metric, lower being better.
fn check(baseline: &[f64], candidate: &[f64], expected: Verdict) {
    let actual = one(baseline, candidate).verdict;
    assert_eq!(actual, expected, "{baseline:?} {candidate:?}");
}

fn inconclusive(more_runs: u32) -> Verdict {
    Verdict::Inconclusive {
        more_runs: Some(more_runs),
    }
}

const STEADY: [f64; 6] = [100.0, 100.2, 99.9, 100.1, 99.8, 100.0];

fn times(values: &[f64], factor: f64) -> Vec<f64> {
    values.iter().map(|value| value * factor).collect()
}

#[test]
fn the_t_distribution_is_scipys() {
    for case in fixture().quantiles {
        // Inverting the incomplete beta function loses digits at many degrees of freedom.
        let actual = quantile(case.p, case.freedom);
        assert_near(
            actual,
            case.quantile,
            1e-8,
            &format!("{} {}", case.p, case.freedom),
        );
    }
    for case in fixture().tails {
        // p() is two-sided.
        let actual = unit(case.freedom, case.t).p() / 2.0;
        assert!(
            (actual - case.tail).abs() <= 1e-9 * case.tail,
            "{} {}: {actual} instead of {}",
            case.t,
            case.freedom,
            case.tail
        );
    }
}

#[test]
fn the_smallest_detectable_change_is_that_of_the_noncentral_t() {
    for case in fixture().detectable {
        let tolerance = if case.freedom < 4.0 { 0.055 } else { 0.015 };
        let actual = unit(case.freedom, 0.0).minimum_detectable(0.05, 0.8);
        assert_near(
            actual,
            case.errors,
            tolerance,
            &format!("freedom {}", case.freedom),
        );
    }
}

#[test]
fn comparisons_are_scipys() {
    let fixture = fixture();
    assert_eq!(fixture.limit, ComparisonRules::default().practical);
    for case in fixture.comparisons {
        let near = |actual, expected| assert_near(actual, expected, 1e-9, &case.name);
        let paired = case.paired_p.is_some();
        let design = match paired {
            true => Design::Interleaved,
            false => Design::Independent,
        };
        let metrics = [metric(&case.name, &case.baseline, &case.candidate)];
        let actual = compare_default(&metrics, Design::Independent)
            .unwrap()
            .metrics
            .remove(0);
        near(actual.log_ratio, case.log_ratio);
        near(actual.p, case.p);
        let welch = actual.welch.unwrap();
        near(welch.low, case.interval_95.0);
        near(welch.high, case.interval_95.1);
        assert_eq!(
            actual.adjusted, actual.welch,
            "a single metric needs no adjustment"
        );
        let equivalence = actual.equivalence.unwrap();
        near(equivalence.interval.low, case.interval_90.0);
        near(equivalence.interval.high, case.interval_90.1);
        near(equivalence.p, case.equivalence_p);
        near(actual.mann_whitney.u, case.u);
        near(actual.mann_whitney.p, case.rank_p);
        let exact = case.baseline.len().max(case.candidate.len()) <= 20;
        assert_eq!(actual.mann_whitney.exact, exact);
        near(actual.hedges_g.unwrap(), case.hedges_g);
        near(welch_freedom(&case), case.freedom);

        let rules = ComparisonRules {
            pairs_to_decide: 2,
            ..Default::default()
        };
        let circumstances = Circumstances::default();
        let actual = compare(&metrics, design, &circumstances, None, &rules).unwrap();
        let actual = &actual.metrics[0];
        assert_eq!(actual.decided_by == Method::Paired, paired);
        assert_eq!(actual.paired.is_some(), paired);
        if let (Some(interval), Some(p), Some((low, high))) =
            (actual.paired, case.paired_p, case.paired_95)
        {
            near(actual.p, p);
            near(interval.low, low);
            near(interval.high, high);
        }
    }
}

fn welch_freedom(case: &Expected) -> f64 {
    let moments =
        |values: &[f64]| Moments::of(&values.iter().map(|value| value.ln()).collect::<Vec<_>>());
    let estimate = Estimate::welch(moments(&case.baseline), moments(&case.candidate));
    estimate.unwrap().freedom
}

#[test]
fn holm_takes_p_values_in_order_up_to_the_first_that_fails() {
    // By hand: 4 * 0.005, 3 * 0.01, then 2 * 0.03 fails and 0.04 may not be less.
    let results = holm(&[0.01, 0.04, 0.03, 0.005], 0.05);
    let expected = [(true, 0.03), (false, 0.06), (false, 0.06), (true, 0.02)];
    for (actual, (rejected, p)) in results.iter().zip(expected) {
        assert_eq!(actual.rejected, rejected);
        assert_near(actual.p, p, 1e-12, "adjusted p");
    }
    let levels: Vec<f64> = results.iter().map(|holm| 1.0 - holm.level).collect();
    for (level, left) in levels.iter().zip([3.0, 2.0, 2.0, 4.0]) {
        assert_near(*level, 0.05 / left, 1e-9, "level");
    }
}

#[test]
fn adjusted_intervals_exclude_no_change_exactly_where_holm_rejects() {
    let mut random = Generator::new(5);
    for _ in 0..300 {
        let metrics: Vec<Metric> = (0..5)
            .map(|index| {
                let mut draw =
                    |level: f64| -> Vec<f64> { (0..4).map(|_| level + random.normal()).collect() };
                let candidate = draw(100.0 + 0.8 * f64::from(index));
                metric(&index.to_string(), &draw(100.0), &candidate)
            })
            .collect();
        for metric in compare_default(&metrics, Design::Independent)
            .unwrap()
            .metrics
        {
            let interval = metric.adjusted.unwrap();
            let excluded = interval.low > 0.0 || interval.high < 0.0;
            assert_eq!(excluded, metric.p_adjusted < 0.05, "{metric:?}");
        }
    }
}

#[test]
fn verdicts_need_an_interval_and_a_size() {
    check(&STEADY, &times(&STEADY, 1.05), Verdict::Regressed);
    check(&STEADY, &times(&STEADY, 1.0 / 1.05), Verdict::Improved);
    check(&STEADY, &times(&STEADY, 1.01), Verdict::ChangedButSmall);
    check(&STEADY, &STEADY, Verdict::Equivalent);
    let mut faster = metric("rate", &STEADY, &times(&STEADY, 1.05));
    faster.better = Better::Higher;
    let comparison = compare_default(&[faster], Design::Independent).unwrap();
    assert_eq!(comparison.verdict, Verdict::Improved);
}

#[test]
fn one_run_an_arm_is_inconclusive() {
    check(&[100.0], &[200.0], inconclusive(4));
    check(&STEADY, &[200.0], inconclusive(4));
    let single = one(&[100.0], &[200.0]);
    assert_eq!((single.p, single.minimum_detectable), (1.0, None));
    assert_eq!(
        (single.welch, single.equivalence, single.hedges_g),
        (None, None, None)
    );
    assert_near(single.change, 1.0, 1e-12, "change");
}

#[test]
fn no_spread_is_believed_from_three_runs_on() {
    check(&[7.0; 2], &[8.0; 2], inconclusive(1));
    check(&[7.0; 3], &[8.0; 3], Verdict::Regressed);
    check(&[7.0; 3], &[7.0; 3], Verdict::Equivalent);
    check(&[100.0; 3], &[102.0; 3], Verdict::Regressed);
    check(&[100.0; 3], &[101.9; 3], Verdict::ChangedButSmall);
    assert_eq!(one(&[7.0; 3], &[8.0; 3]).hedges_g, None);
    assert_eq!(one(&[7.0; 3], &[8.0; 3]).minimum_detectable, Some(0.0));
}

#[test]
fn the_noise_floor_raises_the_threshold() {
    let noisy: Vec<f64> = [95.0, 105.0, 98.0, 102.0, 100.0, 91.0, 108.0, 99.0].into();
    let noise = MetricNoise::of(&noisy).unwrap();
    let floor = NoiseFloor {
        metrics: [("step".to_owned(), noise)].into(),
    };
    let metrics = [metric("step", &STEADY, &times(&STEADY, 1.05))];
    let judge = |floor| {
        let circumstances = Circumstances::default();
        let rules = ComparisonRules::default();
        let compared = compare(&metrics, Design::Independent, &circumstances, floor, &rules);
        compared.unwrap().metrics.remove(0)
    };
    let (without, with) = (judge(None), judge(Some(&floor)));
    assert_eq!(without.verdict, Verdict::Regressed);
    assert_near(without.threshold, 0.02, 1e-12, "threshold");
    assert_near(
        with.threshold,
        noise.difference_99(6, 6),
        1e-12,
        "threshold",
    );
    let Verdict::Inconclusive {
        more_runs: Some(more),
    } = with.verdict
    else {
        panic!("{:?}", with.verdict);
    };
    // With so many more runs, and no fewer, the floor is below the change.
    let runs = 6 + more as usize;
    assert!(noise.difference_99(runs, runs) <= with.change);
    assert!(noise.difference_99(runs - 1, runs - 1) > with.change);
}

#[test]
fn the_noise_floor_holds_99_of_100_identical_comparisons() {
    let mut random = Generator::new(8);
    let mut draw =
        |count: usize| -> Vec<f64> { (0..count).map(|_| (0.03 * random.normal()).exp()).collect() };
    let (mut beyond, total) = (0, 4_000);
    for _ in 0..total {
        let noise = MetricNoise::of(&draw(10)).unwrap();
        let change = one(&draw(5), &draw(5)).log_ratio.abs().exp_m1();
        beyond += u32::from(change > noise.difference_99(5, 5));
    }
    // 40 expected, with a standard deviation of 6.3.
    assert!((20..=60).contains(&beyond), "{beyond} of {total}");
    assert_eq!(MetricNoise::of(&[1.0]), None);
    assert_eq!(MetricNoise::of(&[1.0, f64::NAN]), None);
    assert_eq!(MetricNoise::of(&[1.0, 0.0]), None);
}

#[test]
fn circumstances_overrule_numbers() {
    let metrics = [metric("step", &STEADY, &times(&STEADY, 1.05))];
    let judge = |circumstances: Circumstances| {
        let rules = ComparisonRules::default();
        compare(&metrics, Design::Independent, &circumstances, None, &rules).unwrap()
    };
    let why = || "on battery".to_owned();
    let void = judge(Circumstances {
        machine_changed: Some(why()),
        different_work: None,
    });
    assert_eq!(void.verdict, Verdict::Void { why: why() });
    assert_eq!(void.metrics[0].verdict, void.verdict);
    let different = judge(Circumstances {
        machine_changed: Some(why()),
        different_work: Some("rank 8 and 16".to_owned()),
    });
    assert!(matches!(different.verdict, Verdict::NotComparable { .. }));
    assert_eq!(different.metrics, []);
}

#[test]
fn the_comparison_is_as_bad_as_its_worst_metric() {
    let slow = metric("slow", &STEADY, &times(&STEADY, 1.05));
    let fast = metric("fast", &STEADY, &times(&STEADY, 0.9));
    let same = metric("same", &STEADY, &STEADY);
    let single = metric("single", &[1.0], &[1.0]);
    let overall = |metrics: &[&Metric]| {
        let metrics: Vec<Metric> = metrics.iter().copied().cloned().collect();
        compare_default(&metrics, Design::Independent)
            .unwrap()
            .verdict
    };
    assert_eq!(overall(&[&same, &single, &slow, &fast]), Verdict::Regressed);
    assert_eq!(overall(&[&same, &single, &fast]), inconclusive(4));
    assert_eq!(overall(&[&same, &fast]), Verdict::Improved);
    assert_eq!(overall(&[&same, &same]), Verdict::Equivalent);
}

#[test]
fn what_has_no_ratio_is_refused() {
    let refused = |baseline: &[f64], candidate: &[f64], design| {
        compare_default(&[metric("m", baseline, candidate)], design)
            .unwrap_err()
            .to_string()
    };
    for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        let message = refused(&[1.0, 2.0], &[1.0, bad], Design::Independent);
        assert_eq!(
            message,
            format!(
                "m of run 2 in the candidate is {bad}; ratios need finite values above 0, so \
                 leave the run or the metric out"
            )
        );
    }
    assert_eq!(
        refused(&[], &[1.0], Design::Independent),
        "m has no run in the baseline; leave it out, or measure it there too"
    );
    assert!(refused(&[1.0], &[1.0, 2.0], Design::Interleaved).contains("equally many"));
    assert_eq!(
        compare_default(&[], Design::Independent),
        Err(ComparisonError::NoMetrics)
    );
}

#[test]
fn exchanged_arms_turn_everything_around() {
    for (baseline, candidate, _) in samples() {
        let (forward, back) = (one(&baseline, &candidate), one(&candidate, &baseline));
        assert_near(forward.log_ratio, -back.log_ratio, 1e-9, "log ratio");
        let (a, b) = (forward.welch.unwrap(), back.welch.unwrap());
        assert_near((1.0 + a.low) * (1.0 + b.high), 1.0, 1e-9, "interval");
        assert_near(forward.p, back.p, 1e-9, "p");
        assert_near(forward.mann_whitney.p, back.mann_whitney.p, 1e-9, "rank p");
        let superiority = forward.mann_whitney.superiority + back.mann_whitney.superiority;
        assert_near(superiority, 1.0, 1e-9, "superiority");
        let turned = match back.verdict {
            Verdict::Regressed => Verdict::Improved,
            Verdict::Improved => Verdict::Regressed,
            other => other,
        };
        assert_eq!(forward.verdict, turned);
    }
}

#[test]
fn the_unit_and_the_order_of_runs_do_not_matter() {
    for (baseline, candidate, _) in samples() {
        let base = one(&baseline, &candidate);
        let (mut a, mut b) = (times(&baseline, 1024.0), times(&candidate, 1024.0));
        a.reverse();
        b.reverse();
        let other = one(&a, &b);
        assert_near(other.log_ratio, base.log_ratio, 1e-8, "log ratio");
        assert_near(other.p, base.p, 1e-8, "p");
        assert_eq!(other.verdict, base.verdict);
        assert_eq!(other.mann_whitney, base.mann_whitney);
    }
}

#[test]
fn identical_arms_never_differ() {
    for (baseline, ..) in samples() {
        let verdict = one(&baseline, &baseline).verdict;
        assert!(matches!(
            verdict,
            Verdict::Equivalent | Verdict::Inconclusive { .. }
        ));
    }
}

/// Arms of 2 to 9 runs that spread by 1 to 5 %, with changes from -4 to 4 %.
fn samples() -> Vec<(Vec<f64>, Vec<f64>, f64)> {
    let mut random = Generator::new(3);
    (0..120)
        .map(|index| {
            let cv = 0.01 * f64::from(1 + index % 5);
            let change = 0.01 * (f64::from(index % 9) - 4.0);
            let mut draw = |level: f64| -> Vec<f64> {
                let count = 2 + random.below(8);
                (0..count)
                    .map(|_| level * (cv * random.normal()).exp())
                    .collect()
            };
            (draw(50.0), draw(50.0 * (1.0 + change)), change)
        })
        .collect()
}

#[test]
fn the_bootstrap_interval_covers_the_truth_as_often_as_it_says() {
    let scenario = Scenario {
        windows: 12,
        window_sd: 0.02,
        autocorrelation: 0.3,
        process_sd: 0.01,
        ..scenario()
    };
    let mut random = Generator::new(4);
    for paired in [false, true] {
        let (mut covered, total) = (0, 150);
        for _ in 0..total {
            let mut arm =
                || -> Vec<Run> { (0..6).map(|_| scenario.draw_run(&mut random)).collect() };
            let (baseline, candidate) = (arm(), arm());
            let (low, high) = bootstrap::interval(&baseline, &candidate, paired, 0.95).unwrap();
            covered += u32::from(low <= 0.0 && 0.0 <= high);
        }
        // 142 expected of 150, with a standard deviation of 2.7.
        assert!(covered >= 134, "{covered} of {total}, paired: {paired}");
    }
    let constant = |value, windows: Vec<f64>| vec![Run { value, windows }; 3];
    let interval = |windows: Vec<f64>| {
        let candidate = constant(2.0, windows);
        bootstrap::interval(&constant(1.0, vec![1.0; 5]), &candidate, false, 0.95)
    };
    let (low, high) = interval(vec![2.0; 5]).unwrap();
    assert_near(low, 2.0_f64.ln(), 1e-12, "low");
    assert_near(high, 2.0_f64.ln(), 1e-12, "high");
    assert_eq!(interval(Vec::new()), None);
}

#[test]
fn the_smallest_detectable_change_is_found_four_times_in_five() {
    // Known spread, so that the shift is the same in every simulation.
    let mut random = Generator::new(6);
    let spread = Moments {
        count: 8,
        mean: 0.0,
        variance: 1.0,
    };
    let shift = Estimate::welch(spread, spread)
        .unwrap()
        .minimum_detectable(0.05, 0.8);
    let (mut found, total) = (0, 4_000);
    for _ in 0..total {
        let mut draw =
            |mean: f64| Moments::of(&(0..8).map(|_| mean + random.normal()).collect::<Vec<_>>());
        found += u32::from(Estimate::welch(draw(0.0), draw(shift)).unwrap().p() < 0.05);
    }
    // 3,200 expected, with a standard deviation of 25.
    assert!((3_120..=3_280).contains(&found), "{found} of {total}");
}

#[test]
fn the_runs_that_would_decide_are_the_fewest_that_do() {
    let (mut asked, rules) = (0, ComparisonRules::default());
    for (baseline, candidate, _) in samples() {
        let metric = metric("step", &baseline, &candidate);
        let tested = Tested::new(&metric, Design::Independent, None, &rules);
        let holm = holm(&[tested.p()], rules.error_rate)[0];
        if let Verdict::Inconclusive {
            more_runs: Some(more),
        } = tested.verdict(holm, &rules)
        {
            asked += 1;
            let decides = |more| tested.would_decide(more, rules.error_rate, &rules);
            assert!(decides(more as usize));
            assert!(more == 1 || !decides(more as usize - 1));
        }
    }
    assert!(asked > 20, "{asked}");
}

fn scenario() -> Scenario {
    Scenario {
        runs: 8,
        metrics: 7,
        shifted: 0,
        effect: 0.0,
        process_sd: 0.01,
        windows: 1,
        window_sd: 0.0,
        autocorrelation: 0.0,
        design: Design::Independent,
        floor_runs: 0,
    }
}

#[test]
fn identical_runs_rarely_differ() {
    let noise = Scenario {
        runs: 5,
        windows: 20,
        window_sd: 0.02,
        autocorrelation: 0.6,
        process_sd: 0.02,
        ..scenario()
    };
    let rates = simulate(&noise, &ComparisonRules::default(), 400, 1);
    // At most 20 expected, with a standard deviation of 4.4.
    assert!(rates.false_alarms <= 33, "{rates:?}");
    assert_eq!(rates.shifted, Default::default());
}

#[test]
fn a_slowdown_of_three_percent_is_found() {
    let slower = Scenario {
        shifted: 1,
        effect: 0.03,
        ..scenario()
    };
    let rates = simulate(&slower, &ComparisonRules::default(), 400, 2);
    // 384 expected, with a standard deviation of 4.
    assert!(rates.found >= 370, "{rates:?}");
    assert_eq!(rates.found, rates.shifted.regressed);
    assert_eq!(rates.shifted.improved, 0);
}
