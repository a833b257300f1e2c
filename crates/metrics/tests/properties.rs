//! Properties that hold for all samples: of the statistics, and of the detectors that rest on them.
//!
//! Samples are integers below 2^20, so that moving them by an integer and multiplying them by a
//! power of two is exact in an `f64`, and the order of what is compared never depends on rounding.

use metrics::leak;
use metrics::rules::Rules;
use metrics::stats::dependence::inflation;
use metrics::stats::rank::{mann_whitney, pettitt, ranks, superiority};
use metrics::stats::trend::{bootstrap_reach, mann_kendall, theil_sen};
use metrics::stats::{describe, mean, median, quantile, standard_deviation};
use metrics::steadiness::{self, judge, window};
use proptest::collection::vec;
use proptest::prelude::*;

/// Samples with ties (few distinct values) and mostly without, from none to 60.
fn samples() -> impl Strategy<Value = Vec<f64>> {
    let of = |most: u32| vec((0..most).prop_map(f64::from), 0..60);
    prop_oneof![of(4), of(1 << 20)]
}

fn times() -> impl Strategy<Value = Vec<u64>> {
    let noise = vec(1_000_u64..1_100, 0..150);
    (noise, -3_i64..4, any::<bool>()).prop_map(|(noise, slope, stepped)| {
        let of = |(index, x): (usize, u64)| {
            let index = index as i64;
            let change = if stepped {
                slope * 40 * (index / 60)
            } else {
                slope * index
            };
            (x as i64 + change).max(1) as u64
        };
        noise.into_iter().enumerate().map(of).collect()
    })
}

fn points(samples: &[f64]) -> Vec<(f64, f64)> {
    (0..).map(f64::from).zip(samples.iter().copied()).collect()
}

fn map(samples: &[f64], f: impl Fn(f64) -> f64) -> Vec<f64> {
    samples.iter().map(|&x| f(x)).collect()
}

fn reversed<T: Clone>(samples: &[T]) -> Vec<T> {
    samples.iter().rev().cloned().collect()
}

fn close(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn readings(bytes: &[u64]) -> Vec<(u32, u64)> {
    (1..).zip(bytes.iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn locations_follow_shift_and_scale_and_spreads_only_scale(x in samples()) {
        for location in [mean, median, |x: &[f64]| quantile(x, 0.95)] {
            prop_assert!(close(location(&map(&x, |x| 4.0 * x + 7.0)), location(&x).map(|m| 4.0 * m + 7.0)));
        }
        let moved = standard_deviation(&map(&x, |x| 4.0 * x + 7.0));
        prop_assert!(close(moved, standard_deviation(&x).map(|sd| 4.0 * sd)));
    }

    #[test]
    fn locations_and_spreads_do_not_depend_on_order(x in samples(), by in 0_usize..60) {
        let mut turned = x.clone();
        turned.rotate_left(by.min(x.len()));
        for statistic in [mean, median, standard_deviation, |x: &[f64]| quantile(x, 0.05)] {
            prop_assert_eq!(statistic(&turned), statistic(&x));
        }
    }

    #[test]
    fn rank_tests_see_order_of_size_alone(a in samples(), b in samples()) {
        let test = mann_whitney(&a, &b);
        let rising = |x: f64| (x / 1e5).exp() * 2.0 + 1.0;
        prop_assert_eq!(mann_whitney(&map(&a, rising), &map(&b, rising)), test);
        prop_assert_eq!(mann_whitney(&reversed(&a), &reversed(&b)), test);
        prop_assert_eq!(ranks(&map(&a, rising)), ranks(&a));
    }

    #[test]
    fn a_rank_test_is_symmetric_and_bounded(a in samples(), b in samples()) {
        let (there, back) = (mann_whitney(&a, &b), mann_whitney(&b, &a));
        prop_assert_eq!(there.is_some(), !a.is_empty() && !b.is_empty());
        if let (Some(there), Some(back)) = (there, back) {
            prop_assert!(close(Some(there.p), Some(back.p)) && (0.0..=1.0).contains(&there.p));
            prop_assert_eq!(there.u + back.u, (a.len() * b.len()) as f64);
            prop_assert_eq!(superiority(&a, &b), Some(there.superiority));
            prop_assert_eq!(there.exact, a.len().max(b.len()) <= 20);
        }
    }

    #[test]
    fn ranks_share_ties_and_add_up(x in samples()) {
        if let Some(ranks) = ranks(&x) {
            let n = x.len() as f64;
            prop_assert_eq!(ranks.iter().sum::<f64>(), n * (n + 1.0) / 2.0);
            for (a, b) in x.iter().zip(&ranks) {
                for (c, d) in x.iter().zip(&ranks) {
                    prop_assert_eq!(a.total_cmp(c), b.total_cmp(d));
                }
            }
        }
    }

    #[test]
    fn a_trend_turns_with_time_and_with_sign(x in samples()) {
        let s = |x: &[f64]| mann_kendall(x).map(|test| test.s);
        prop_assert_eq!(s(&reversed(&x)), s(&x).map(|s| -s));
        prop_assert_eq!(s(&map(&x, |x| -x)), s(&x).map(|s| -s));
        prop_assert_eq!(s(&map(&x, |x| 8.0 * x + 3.0)), s(&x));
        let slope = |x: &[f64]| theil_sen(&points(x)).map(|sen| sen.line.slope);
        prop_assert!(close(slope(&map(&x, |x| 8.0 * x + 3.0)), slope(&x).map(|slope| 8.0 * slope)));
        prop_assert!(close(slope(&reversed(&x)), slope(&x).map(|slope| -slope)));
    }

    #[test]
    fn the_interval_of_a_slope_holds_it_and_grows_with_its_reach(x in samples(), reach in 0.0..400.0) {
        if let Some(mut sen) = theil_sen(&points(&x)) {
            let (low, high) = sen.within(reach);
            let (lower, higher) = sen.within(2.0 * reach + 10.0);
            prop_assert!(lower <= low && low <= sen.line.slope);
            prop_assert!(sen.line.slope <= high && high <= higher);
        }
    }

    #[test]
    fn the_bootstrap_reaches_further_with_confidence_and_ignores_scale(x in samples(), f in 1.0..10.0) {
        let reach = |x: &[f64], confidence| bootstrap_reach(x, f, confidence, 100.0);
        let of = reach(&x, 0.9);
        prop_assert_eq!(of.is_some(), x.len() >= 3);
        prop_assert!(of.is_none_or(|of| of.is_finite() && of >= 0.0));
        prop_assert!(of <= reach(&x, 0.99));
        prop_assert_eq!(reach(&map(&x, |x| 2.0 * x - 5.0), 0.9), of);
    }

    #[test]
    fn autocorrelation_ignores_shift_and_scale_and_direction(x in samples()) {
        let factor = inflation(&x);
        prop_assert_eq!(factor.is_some(), x.len() >= 3);
        prop_assert_eq!(inflation(&map(&x, |x| 2.0 * x + 9.0)), factor);
        prop_assert!(close(inflation(&reversed(&x)), factor));
        prop_assert!(factor.is_none_or(|f| f >= 1.0 && f <= x.len() as f64));
    }

    #[test]
    fn a_split_ignores_scale_and_leaves_both_sides_long_enough(x in samples(), side in 1_usize..20) {
        let split = pettitt(&x, side);
        prop_assert_eq!(pettitt(&map(&x, |x| 2.0 * x + 1.0), side), split);
        prop_assert_eq!(split.is_some(), x.len() >= 2 * side);
        if let Some(split) = split {
            prop_assert!(split.index >= side && x.len() - split.index >= side);
            prop_assert!((0.0..=1.0).contains(&split.p(x.len(), 1.0)));
        }
    }

    #[test]
    fn what_is_not_finite_is_refused(x in samples(), at in 0_usize..60, which in 0_usize..3) {
        let mut x = x;
        x.insert(at.min(x.len()), [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][which]);
        for statistic in [mean, median, standard_deviation, inflation] {
            prop_assert_eq!(statistic(&x), None);
        }
        prop_assert_eq!(ranks(&x), None);
        prop_assert_eq!(mann_whitney(&x, &[1.0]), None);
        prop_assert_eq!(mann_whitney(&[1.0], &x), None);
        prop_assert_eq!(mann_kendall(&x), None);
        prop_assert!(theil_sen(&points(&x)).is_none());
        prop_assert_eq!(pettitt(&x, 1), None);
        prop_assert_eq!(bootstrap_reach(&x, 1.0, 0.9, 1.0), None);
    }

    #[test]
    fn the_unit_of_time_changes_no_verdict(x in times()) {
        let rules = Rules::default().steadiness;
        let (small, large) = (judge(&x, &rules), judge(&map_u64(&x, |x| 1024 * x), &rules));
        prop_assert_eq!((large.verdict, large.cropped), (small.verdict, small.cropped));
        prop_assert_eq!(large.shift.map(|s| (s.at, s.p)), small.shift.map(|s| (s.at, s.p)));
        prop_assert!(close(
            large.trend.map(|trend| trend.slope.value),
            small.trend.map(|trend| 1024.0 * trend.slope.value)
        ));
    }

    #[test]
    fn few_and_equal_times_give_no_change(level in 1_u64..1 << 40, count in 0_usize..200) {
        let rules = Rules::default().steadiness;
        let judged = judge(&vec![level; count], &rules);
        let expected = if count < rules.fewest_samples {
            steadiness::Verdict::TooShort
        } else {
            steadiness::Verdict::Steady
        };
        prop_assert_eq!((judged.verdict, judged.cropped), (expected, 0));
        prop_assert_eq!(judged.level.map(|level| level.median.value), (count > 0).then_some(level as f64));
    }

    #[test]
    fn a_window_is_described_as_its_samples_alone(x in times(), from in 0_usize..150, to in 0_usize..150) {
        let rules = Rules::default().steadiness;
        let range = from..to;
        let expected = x.get(range.clone()).and_then(|part| window(part, 0..part.len(), &rules));
        prop_assert_eq!(window(&x, range.clone(), &rules), expected);
        let of = x.get(range).and_then(describe);
        prop_assert!(close(expected.map(|level| level.mean.value), of.map(|of| of.mean)));
        prop_assert_eq!(expected.map(|level| level.p95), of.map(|of| of.p95));
    }

    #[test]
    fn a_leak_found_is_found_at_any_offset_of_iterations(x in times(), by in 1_u32..1000) {
        let rules = Rules::default().leak;
        let bytes = map_u64(&x, |x| x << 24);
        let growth = leak::judge(&readings(&bytes), &rules);
        let later: Vec<(u32, u64)> = readings(&bytes).into_iter().map(|(i, x)| (i + by, x)).collect();
        let moved = leak::judge(&later, &rules);
        prop_assert_eq!((moved.verdict, moved.cropped), (growth.verdict, growth.cropped));
        prop_assert!(close(moved.slope, growth.slope));
    }

    #[test]
    fn growth_turned_round_in_time_is_no_leak(x in times()) {
        let rules = Rules::default().leak;
        let bytes = map_u64(&x, |x| x << 24);
        let grows = |growth: &leak::Growth| {
            matches!(growth.verdict, leak::Verdict::Leak | leak::Verdict::Staircase)
        };
        let there = leak::judge(&readings(&bytes), &rules);
        let back = leak::judge(&readings(&reversed(&bytes)), &rules);
        prop_assert!(!(grows(&there) && grows(&back)));
    }

    #[test]
    fn equal_and_few_readings_are_no_leak(bytes in 1_u64..1 << 50, count in 0_usize..100) {
        let rules = Rules::default().leak;
        let growth = leak::judge(&readings(&vec![bytes; count]), &rules);
        let enough = count >= rules.fewest_readings;
        let expected = if enough { leak::Verdict::Flat } else { leak::Verdict::CannotTell };
        prop_assert_eq!(growth.verdict, expected);
        prop_assert_eq!(growth.interval, enough.then_some((0.0, 0.0)));
        prop_assert_eq!(growth.sen_interval, enough.then_some((0.0, 0.0)));
    }
}

fn map_u64(samples: &[u64], f: impl Fn(u64) -> u64) -> Vec<u64> {
    samples.iter().map(|&x| f(x)).collect()
}
