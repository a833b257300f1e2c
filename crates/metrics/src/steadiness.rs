//! Whether a run reached a steady state, and what its level was there.
//!
//! The samples are times: larger is slower. A run of more than 500 samples is reduced to at most
//! 500 medians of equally many neighbours, which keeps the tests' quadratic cost bounded and
//! loses no trend or shift that lasts; the last, incomplete group is left out. All tests use the
//! effective number of samples, see [`inflation`].

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::rules::SteadinessRules;
use crate::stats::dependence::inflation;
use crate::stats::rank::{pettitt, superiority};
use crate::stats::trend::{mann_kendall, theil_sen};
use crate::stats::{self, quantile_of_sorted};

/// The most values a series is reduced to.
pub const MOST_VALUES: usize = 500;

/// What a run did after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "StepTimeVerdict")]
pub enum Verdict {
    Steady,
    /// Still getting faster.
    WarmingUp,
    SlowingDown,
    /// Went from one level to another.
    Shifted,
    /// Varies too much, or wanders, so that it has no level.
    NoSteadyState,
    TooShort,
}

impl Verdict {
    /// As [`crate::rules::WORDS`] has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::WarmingUp => "warming up",
            Self::SlowingDown => "slowing down",
            Self::Shifted => "shifted",
            Self::NoSteadyState => "no steady state",
            Self::TooShort => "too short to tell",
        }
    }
}

/// A number and the interval that holds it with the confidence of the rules.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Estimate {
    pub value: f64,
    /// `None` where the samples are worth too few independent ones.
    pub interval: Option<(f64, f64)>,
}

/// How a run, or a stretch of one, was distributed. In the unit of its samples.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Level {
    pub count: usize,
    /// Independent samples that the autocorrelated ones are worth.
    pub effective: f64,
    pub median: Estimate,
    pub mean: Estimate,
    pub p05: f64,
    pub p95: f64,
    pub p99: f64,
    /// Standard deviation over mean.
    pub cv: Option<f64>,
    /// 1.4826 times the median absolute deviation, over the median.
    pub robust_cv: Option<f64>,
}

impl Level {
    /// Width of the middle 90 %, in standard deviations of a normal distribution: in the unit of
    /// the samples.
    pub fn spread(&self) -> f64 {
        (self.p95 - self.p05) / NORMAL_90
    }
}

/// Change along a straight line.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Trend {
    /// Theil-Sen slope, in the samples' unit per sample.
    pub slope: Estimate,
    /// Of Mann-Kendall's test.
    pub p: f64,
    /// The slope over the whole stretch, as a share of the median.
    pub change: f64,
}

/// Change from one level to another.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Shift {
    /// Index, among all samples, of the first one of the new level.
    pub at: usize,
    /// Of Pettitt's test.
    pub p: f64,
    /// Medians after less before, as a share of the one before.
    pub change: f64,
    /// Probability that a sample after lies beyond one before, in the change's direction.
    pub separation: f64,
}

/// What [`judge`] found.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Steadiness {
    pub verdict: Verdict,
    /// Samples at the beginning that were taken for warm-up; all else is about the rest.
    pub cropped: usize,
    /// Samples that became one value for the tests.
    pub samples_per_value: usize,
    /// `None` for no samples.
    pub level: Option<Level>,
    /// `None` for a run that is too short.
    pub trend: Option<Trend>,
    /// The likeliest place of a shift, be it one or not; `None` for a run that is too short.
    pub shift: Option<Shift>,
}

/// Judges the times of a run, in the order they were measured.
///
/// The warm-up is cropped first. Of a trend and a shift that are both found, the
/// one that leaves the smaller deviations stands. A run that began with a warm-up and
/// still gets faster after the crop is warming up, whatever the shape.
pub fn judge(samples: &[u64], rules: &SteadinessRules) -> Steadiness {
    let samples: Vec<f64> = samples.iter().map(|&x| x as f64).collect();
    let (values, width) = reduce(&samples);
    let skipped = warm_up(&values);
    let values = &values[skipped..];
    let cropped = skipped * width;
    let mut judged = Steadiness {
        verdict: Verdict::TooShort,
        cropped,
        samples_per_value: width,
        level: level(&samples[cropped..], rules.confidence),
        trend: None,
        shift: None,
    };
    let Some(level) = judged.level else {
        return judged;
    };
    if values.len() < rules.fewest_samples.max(2 * rules.fewest_each_side).max(3) {
        return judged;
    }
    let Some(changes) = changes(values, rules) else {
        return judged;
    };
    let Changes {
        trend,
        shift,
        line_is_closer,
    } = changes;
    let drifts = trend.p < rules.significance && trend.change.abs() >= rules.smallest_change;
    let shifts = shift.p < rules.significance
        && shift.change.abs() >= rules.smallest_change
        && shift.separation >= rules.separation;
    judged.verdict = if drifts && (line_is_closer || !shifts) {
        if trend.change < 0.0 {
            Verdict::WarmingUp
        } else {
            Verdict::SlowingDown
        }
    } else if shifts {
        if skipped > 0 && shift.change < 0.0 {
            Verdict::WarmingUp
        } else {
            Verdict::Shifted
        }
    } else if has_level(&level, rules) {
        Verdict::Steady
    } else if skipped > 0 && trend.change <= -rules.smallest_change {
        Verdict::WarmingUp
    } else {
        Verdict::NoSteadyState
    };
    let per_sample = |slope: f64| slope / width as f64;
    judged.trend = Some(Trend {
        slope: Estimate {
            value: per_sample(trend.slope.value),
            interval: trend
                .slope
                .interval
                .map(|(low, high)| (per_sample(low), per_sample(high))),
        },
        ..trend
    });
    judged.shift = Some(Shift {
        at: cropped + shift.at * width,
        ..shift
    });
    judged
}

fn has_level(level: &Level, rules: &SteadinessRules) -> bool {
    // Not the robust CV, which overlooks a second level that holds for a third of the run.
    level.spread() <= rules.largest_spread * level.median.value
        && level.median.interval.is_some_and(|(low, high)| {
            (high - low) / 2.0 <= rules.level_precision * level.median.value
        })
}

/// Change of one stretch's median against another's, as a share of the latter.
pub fn change(level: &Level, first_steady: &Level) -> Option<f64> {
    let base = first_steady.median.value;
    (base > 0.0).then(|| level.median.value / base - 1.0)
}

/// Describes one stretch of samples in the order they were measured; `None` for none.
pub fn window(samples: &[u64], range: Range<usize>, rules: &SteadinessRules) -> Option<Level> {
    let samples: Vec<f64> = samples.get(range)?.iter().map(|&x| x as f64).collect();
    level(&samples, rules.confidence)
}

/// Intervals are those of `count / inflation` independent samples: Student's for the mean, and
/// order statistics at `1/2 -+ t / (2 sqrt(n))` for the median.
fn level(samples: &[f64], confidence: f64) -> Option<Level> {
    let count = samples.len();
    let effective = inflation(samples).map_or(1.0, |inflation| count as f64 / inflation);
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    if sorted.is_empty() || !sorted[0].is_finite() || !sorted[count - 1].is_finite() {
        return None;
    }
    let at = |p: f64| quantile_of_sorted(&sorted, p);
    let (median, mean) = (at(0.5), sorted.iter().sum::<f64>() / count as f64);
    let squares: f64 = sorted.iter().map(|x| (x - mean).powi(2)).sum();
    let sd = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
    let mut deviations: Vec<f64> = sorted.iter().map(|x| (x - median).abs()).collect();
    deviations.sort_unstable_by(f64::total_cmp);
    let mad = quantile_of_sorted(&deviations, 0.5);
    let t = StudentsT::new(0.0, 1.0, effective - 1.0)
        .ok()
        .map(|t| t.inverse_cdf(0.5 + confidence / 2.0));
    let reach = t
        .map(|t| t / (2.0 * effective.sqrt()))
        .filter(|&reach| reach < 0.5);
    Some(Level {
        count,
        effective,
        median: Estimate {
            value: median,
            interval: reach.map(|reach| (at(0.5 - reach), at(0.5 + reach))),
        },
        mean: Estimate {
            value: mean,
            interval: t.zip(sd).filter(|_| reach.is_some()).map(|(t, sd)| {
                let half = t * sd / effective.sqrt();
                (mean - half, mean + half)
            }),
        },
        p05: at(0.05),
        p95: at(0.95),
        p99: at(0.99),
        cv: sd.filter(|_| mean > 0.0).map(|sd| sd / mean),
        robust_cv: (count > 1 && median > 0.0).then(|| ROBUST_SD * mad / median),
    })
}

/// Width of the middle 90 % of a normal distribution in standard deviations.
const NORMAL_90: f64 = 3.289_707_253_902_945;

/// Standard deviation of a normal distribution in median absolute deviations.
const ROBUST_SD: f64 = 1.482_602_218_505_602;

/// Medians of groups of equally many neighbours, at most [`MOST_VALUES`], and the group's size.
pub(crate) fn reduce(samples: &[f64]) -> (Vec<f64>, usize) {
    let width = samples.len().div_ceil(MOST_VALUES).max(1);
    let groups = samples.chunks_exact(width);
    (groups.filter_map(stats::median).collect(), width)
}

/// How many values at the beginning are warm-up: slower than what follows.
///
/// The place is where the mean of the rest would be known best (MSER, White 1997,
/// doi:10.1177/003754979706900601), at most one half. Values are clipped at five robust standard
/// deviations around the back half's median for this, so that one stray value is no reason to
/// drop all before it. The place stands if the head's median lies above the rest's by three
/// standard errors under autocorrelation. Leading values above the clip are warm-up whether it
/// stands or not: a place far behind a few compilations has the median of ordinary values.
pub(crate) fn warm_up(values: &[f64]) -> usize {
    let half = values.len() / 2;
    let back = &values[half..];
    let (Some(centre), Some(spread)) = (stats::median(back), robust_sd(back)) else {
        return 0;
    };
    let reach = if spread > 0.0 {
        5.0 * spread
    } else {
        f64::INFINITY
    };
    let beyond = values[..half].iter().take_while(|&&x| x - centre > reach);
    let beyond = beyond.count();
    let clipped = values.iter().map(|x| (x - centre).clamp(-reach, reach));
    let (mut count, mut sum, mut squares) = (0.0_f64, 0.0, 0.0);
    let mut best = (f64::INFINITY, 0);
    for (index, x) in clipped.enumerate().collect::<Vec<_>>().into_iter().rev() {
        count += 1.0;
        sum += x;
        squares += x * x;
        let score = (squares - sum * sum / count).max(0.0) / (count * count);
        if index <= half && score <= best.0 {
            best = (score, index);
        }
    }
    let (head, rest) = values.split_at(best.1);
    let (Some(above), Some(level), Some(spread)) =
        (stats::median(head), stats::median(rest), robust_sd(rest))
    else {
        return beyond;
    };
    let size = head.len() as f64;
    let worth = (size / inflation(rest).unwrap_or(1.0)).max(1.0);
    if above - level > 3.0 * spread / worth.sqrt() {
        head.len().max(beyond)
    } else {
        beyond
    }
}

/// 1.4826 times the median absolute deviation.
pub(crate) fn robust_sd(values: &[f64]) -> Option<f64> {
    let median = stats::median(values)?;
    let deviations: Vec<f64> = values.iter().map(|x| (x - median).abs()).collect();
    Some(ROBUST_SD * stats::median(&deviations)?)
}

/// Trend and shift of reduced values; positions count values.
struct Changes {
    trend: Trend,
    shift: Shift,
    line_is_closer: bool,
}

fn changes(values: &[f64], rules: &SteadinessRules) -> Option<Changes> {
    let n = values.len();
    let points: Vec<(f64, f64)> = (0..n)
        .map(|i| i as f64)
        .zip(values.iter().copied())
        .collect();
    let mut sen = theil_sen(&points)?;
    let split = pettitt(values, rules.fewest_each_side)?;
    let (before, after) = values.split_at(split.index);
    let (low, high) = (stats::median(before)?, stats::median(after)?);
    let from_line: Vec<f64> = points
        .iter()
        .map(|(x, y)| y - sen.line.intercept - sen.line.slope * x)
        .collect();
    let from_step: Vec<f64> = before
        .iter()
        .map(|x| x - low)
        .chain(after.iter().map(|x| x - high))
        .collect();
    let size = |rests: &[f64]| rests.iter().map(|x| x.abs()).sum::<f64>();
    let line_is_closer = size(&from_line) <= size(&from_step);
    // What is left by the better of the two, or a change would pass for autocorrelation.
    let inflation = inflation(if line_is_closer {
        &from_line
    } else {
        &from_step
    })?;

    let kendall = mann_kendall(values)?;
    let median = stats::median(values)?;
    let share = |change: f64, of: f64| if of > 0.0 { change / of } else { 0.0 };
    let above = superiority(after, before)?;
    Some(Changes {
        trend: Trend {
            slope: Estimate {
                value: sen.line.slope,
                interval: Some(sen.interval(rules.confidence, kendall.variance * inflation)),
            },
            p: kendall.p(inflation),
            change: share(sen.line.slope * (n - 1) as f64, median),
        },
        shift: Shift {
            at: split.index,
            p: split.p(n, inflation),
            change: share(high - low, low),
            separation: above.max(1.0 - above),
        },
        line_is_closer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use crate::rules::Rules;
    use crate::synthetic::{Fault, Series, series};
    use crate::testing::fixture;

    const RULES: fn() -> SteadinessRules = || Rules::default().steadiness;

    fn samples(count: usize, noise: f64, fault: Fault) -> Vec<u64> {
        let truth = Series {
            rho: 0.3,
            fault,
            ..Series::steady(count, 1e7, noise)
        };
        series(&truth, &mut Generator::new(11))
    }

    fn check(count: usize, fault: Fault, expected: Verdict) -> Steadiness {
        let judged = judge(&samples(count, 0.01, fault), &RULES());
        assert_eq!(judged.verdict, expected, "{fault:?}: {judged:?}");
        judged
    }

    #[test]
    fn every_fault_has_its_verdict() {
        check(300, Fault::None, Verdict::Steady);
        check(
            300,
            Fault::Outliers {
                one_in: 50,
                factor: 5.0,
            },
            Verdict::Steady,
        );
        check(300, Fault::Drift { change: 0.05 }, Verdict::SlowingDown);
        check(300, Fault::Drift { change: -0.05 }, Verdict::WarmingUp);
        check(
            300,
            Fault::WarmUp {
                excess: 0.5,
                decay: 100.0,
            },
            Verdict::WarmingUp,
        );
        check(
            300,
            Fault::Bimodal {
                gap: 0.4,
                stay: 15.0,
            },
            Verdict::NoSteadyState,
        );
        check(10, Fault::None, Verdict::TooShort);
    }

    #[test]
    fn a_shift_is_located_and_sized() {
        for count in [300, 3000] {
            let shift = check(
                count,
                Fault::Step {
                    change: 0.05,
                    at: 0.6,
                },
                Verdict::Shifted,
            )
            .shift
            .unwrap();
            let place = shift.at as f64 / count as f64;
            assert!(
                (place - 0.6).abs() < 0.02 && (shift.change - 0.05).abs() < 0.005,
                "{shift:?}"
            );
        }
    }

    #[test]
    fn a_drift_is_sized_per_sample() {
        for count in [300, 3000] {
            let trend = check(count, Fault::Drift { change: 0.06 }, Verdict::SlowingDown)
                .trend
                .unwrap();
            let truth = 1e7 * 0.06 / count as f64;
            let (low, high) = trend.slope.interval.unwrap();
            assert!(
                low < truth && truth < high && low > 0.8 * truth,
                "{trend:?}"
            );
        }
    }

    #[test]
    fn warm_up_is_cropped_and_nothing_else_is() {
        let cropped = check(
            300,
            Fault::WarmUp {
                excess: 1.0,
                decay: 5.0,
            },
            Verdict::Steady,
        )
        .cropped;
        assert!((10..60).contains(&cropped), "{cropped}");
        assert_eq!(check(300, Fault::None, Verdict::Steady).cropped, 0);
        // A fast beginning is throttling, not warm-up.
        let throttled = Fault::Step {
            change: 0.2,
            at: 0.3,
        };
        assert_eq!(check(300, throttled, Verdict::Shifted).cropped, 0);
        let mut slow_first = samples(300, 0.01, Fault::None);
        slow_first[0] *= 10;
        assert_eq!(judge(&slow_first, &RULES()).cropped, 1);
        slow_first.swap(0, 100);
        assert_eq!(judge(&slow_first, &RULES()).cropped, 0);
        // Compilations before a run that slows down, whose best known mean is that of its end.
        let mut compiled = samples(150, 0.05, Fault::Drift { change: 0.5 });
        for (step, times) in compiled.iter_mut().zip([100, 30, 3]) {
            *step *= times;
        }
        assert_eq!(judge(&compiled, &RULES()).cropped, 3);
    }

    #[test]
    fn few_equal_and_no_samples_are_judged_without_a_number_made_up() {
        for count in 0..3 {
            let judged = judge(&vec![7; count], &RULES());
            assert_eq!((judged.verdict, judged.trend), (Verdict::TooShort, None));
            assert_eq!(
                judged.level.map(|level| level.count),
                (count > 0).then_some(count)
            );
            assert_eq!(judged.level.and_then(|level| level.mean.interval), None);
        }
        let judged = judge(&[7; 50], &RULES());
        assert_eq!((judged.verdict, judged.cropped), (Verdict::Steady, 0));
        let level = judged.level.unwrap();
        assert_eq!(level.median.interval, Some((7.0, 7.0)));
        assert_eq!((level.cv, level.robust_cv), (Some(0.0), Some(0.0)));
        assert_eq!(judge(&[0; 50], &RULES()).level.unwrap().cv, None);
        assert_eq!(window(&[1, 2], 1..3, &RULES()), None);
        assert_eq!(level_of(&[1.0, f64::NAN]), None);
    }

    fn level_of(samples: &[f64]) -> Option<Level> {
        level(samples, 0.95)
    }

    #[test]
    fn percentiles_agree_with_numpy() {
        for series in &fixture().series {
            let level = level_of(&series.samples).unwrap();
            let actual = [level.p05, level.median.value, level.p95, level.p99];
            for (actual, &expected) in actual.into_iter().zip(&series.percentiles) {
                crate::testing::assert_near(actual, expected, 1e-12, &series.name);
            }
        }
    }

    #[test]
    fn the_unit_changes_no_verdict() {
        for fault in [
            Fault::None,
            Fault::Drift { change: 0.03 },
            Fault::Step {
                change: 0.03,
                at: 0.5,
            },
        ] {
            let times = samples(200, 0.01, fault);
            let scaled: Vec<u64> = times.iter().map(|x| x * 1000).collect();
            let (a, b) = (judge(&times, &RULES()), judge(&scaled, &RULES()));
            assert_eq!((a.verdict, a.cropped), (b.verdict, b.cropped));
        }
    }

    #[test]
    fn intervals_hold_the_level_as_often_as_they_say() {
        for rho in [0.0, 0.6] {
            let (mut mean, mut median) = (0, 0);
            for run in 0..400 {
                let truth = Series {
                    rho,
                    ..Series::steady(200, 1e7, 0.02)
                };
                let samples = series(&truth, &mut Generator::stream(9, run));
                let level = window(&samples, 0..200, &RULES()).unwrap();
                let holds = |estimate: Estimate| {
                    estimate
                        .interval
                        .is_some_and(|(low, high)| low <= 1e7 && 1e7 <= high)
                };
                mean += u32::from(holds(level.mean));
                median += u32::from(holds(level.median));
            }
            // 95 % of 400 less three binomial standard deviations.
            assert!(mean >= 367 && median >= 367, "{rho}: {mean}, {median}");
        }
    }
}
