//! Statistics of samples.
//!
//! Every function returns `None` where the statistic does not exist: for no samples, for too
//! few of them, and where a sample is not finite. Those of this module do not depend on the
//! samples' order; the others say what they take it for.

pub mod dependence;
pub mod level;
pub mod rank;
pub mod trend;

use schemars::JsonSchema;
use serde::Serialize;

/// A value and between what it lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    pub interval: (f64, f64),
}

impl Estimate {
    /// In another unit; `by` is above 0.
    pub fn scaled(self, by: f64) -> Self {
        let (low, high) = self.interval;
        Self {
            value: self.value * by,
            interval: (low * by, high * by),
        }
    }
}

/// How one quantity was distributed, in the unit of its samples.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Distribution {
    pub count: usize,
    pub mean: f64,
    /// Sample standard deviation; `None` for a single sample.
    pub sd: Option<f64>,
    pub median: f64,
    /// 95th percentile, see [`quantile`].
    pub p95: f64,
    pub min: f64,
    pub max: f64,
}

/// Describes integer samples, such as nanoseconds.
///
/// Integers above 2^53 (104 days in nanoseconds) are rounded to the nearest `f64`.
pub fn describe(samples: &[u64]) -> Option<Distribution> {
    let sorted = sorted(&samples.iter().map(|&x| x as f64).collect::<Vec<_>>())?;
    Some(Distribution {
        count: sorted.len(),
        mean: mean(&sorted)?,
        sd: standard_deviation(&sorted),
        median: quantile_of_sorted(&sorted, 0.5),
        p95: quantile_of_sorted(&sorted, 0.95),
        min: sorted[0],
        max: sorted[sorted.len() - 1],
    })
}

/// Arithmetic mean.
pub fn mean(samples: &[f64]) -> Option<f64> {
    let samples = sorted(samples)?;
    Some(samples.iter().sum::<f64>() / samples.len() as f64)
}

/// Sample standard deviation, with n - 1 in the denominator; `None` for fewer than two samples.
pub fn standard_deviation(samples: &[f64]) -> Option<f64> {
    let samples = sorted(samples)?;
    if samples.len() < 2 {
        return None;
    }
    // Two passes: the one-pass formula cancels for step times that hardly vary.
    let mean = mean(&samples)?;
    let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    Some((squares / (samples.len() - 1) as f64).sqrt())
}

/// Median: the middle sample, or the mean of the two middle ones.
pub fn median(samples: &[f64]) -> Option<f64> {
    quantile(samples, 0.5)
}

/// Quantile by linear interpolation between order statistics at position `(n - 1) p`.
///
/// This is definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages",
/// The American Statistician 50 (1996), and the default of NumPy and R. `None` for `p` outside
/// 0 to 1.
pub fn quantile(samples: &[f64], p: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&p) {
        return None;
    }
    Some(quantile_of_sorted(&sorted(samples)?, p))
}

/// Smallest sample.
pub fn min(samples: &[f64]) -> Option<f64> {
    sorted(samples)?.first().copied()
}

/// Largest sample.
pub fn max(samples: &[f64]) -> Option<f64> {
    sorted(samples)?.last().copied()
}

pub(crate) fn quantile_of_sorted(sorted: &[f64], p: f64) -> f64 {
    let position = (sorted.len() - 1) as f64 * p;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}

/// The samples in ascending order, so that sums too are independent of the order they came in.
fn sorted(samples: &[f64]) -> Option<Vec<f64>> {
    if samples.is_empty() || samples.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Statistic = fn(&[f64]) -> Option<f64>;

    /// Mean, sample standard deviation, median and 95th percentile.
    fn check(samples: &[u64], expected: Option<(f64, Option<f64>, f64, f64)>) {
        let actual = describe(samples);
        match (actual, expected) {
            (Some(actual), Some((mean, sd, median, p95))) => {
                assert_eq!(actual.count, samples.len());
                assert_close(actual.mean, mean);
                assert_eq!(actual.sd.is_some(), sd.is_some(), "{samples:?}");
                assert_close(actual.sd.unwrap_or(0.0), sd.unwrap_or(0.0));
                assert_close(actual.median, median);
                assert_close(actual.p95, p95);
                assert_eq!(actual.min, *samples.iter().min().unwrap() as f64);
                assert_eq!(actual.max, *samples.iter().max().unwrap() as f64);
            }
            (actual, expected) => assert!(
                actual.is_none() && expected.is_none(),
                "{samples:?}: {actual:?} instead of {expected:?}"
            ),
        }
    }

    fn assert_close(actual: f64, expected: f64) {
        assert!(
            (actual - expected).abs() <= 1e-12 * expected.abs().max(1.0),
            "{actual} instead of {expected}"
        );
    }

    #[test]
    fn known_answers() {
        check(&[], None);
        check(&[7], Some((7.0, None, 7.0, 7.0)));
        check(&[1, 2], Some((1.5, Some(0.5_f64.sqrt()), 1.5, 1.95)));
        check(&[3, 1, 2], Some((2.0, Some(1.0), 2.0, 2.9)));
        check(
            &[4, 1, 3, 2],
            Some((2.5, Some((5.0_f64 / 3.0).sqrt()), 2.5, 3.85)),
        );
        check(
            &[2, 4, 4, 4, 5, 5, 7, 9],
            Some((5.0, Some((32.0_f64 / 7.0).sqrt()), 4.5, 8.3)),
        );
    }

    #[test]
    fn ties_have_no_spread() {
        check(&[5, 5, 5, 5], Some((5.0, Some(0.0), 5.0, 5.0)));
    }

    #[test]
    fn quantiles_interpolate_between_order_statistics() {
        let samples = [10.0, 40.0, 20.0, 30.0];
        for (p, expected) in [
            (0.0, 10.0),
            (0.25, 17.5),
            (1.0 / 3.0, 20.0),
            (0.5, 25.0),
            (0.75, 32.5),
            (1.0, 40.0),
        ] {
            assert_close(quantile(&samples, p).unwrap(), expected);
        }
    }

    #[test]
    fn what_does_not_exist_is_none() {
        let functions: [Statistic; 5] = [mean, standard_deviation, median, min, max];
        for function in functions {
            assert_eq!(function(&[]), None);
            assert_eq!(function(&[1.0, f64::NAN]), None);
            assert_eq!(function(&[1.0, f64::INFINITY]), None);
        }
        assert_eq!(standard_deviation(&[1.0]), None);
        assert_eq!(quantile(&[1.0], 1.5), None);
        assert_eq!(quantile(&[1.0], -0.1), None);
        assert_eq!(quantile(&[1.0], f64::NAN), None);
    }

    #[test]
    fn statistics_follow_shift_and_scale() {
        for samples in sample_sets() {
            let shifted: Vec<f64> = samples.iter().map(|x| x + 1000.0).collect();
            let scaled: Vec<f64> = samples.iter().map(|x| x * 3.0).collect();
            let locations: [Statistic; 5] = [mean, median, min, max, |x| quantile(x, 0.95)];
            for location in locations {
                let base = location(&samples).unwrap();
                assert_close(location(&shifted).unwrap(), base + 1000.0);
                assert_close(location(&scaled).unwrap(), base * 3.0);
            }
            let sd = standard_deviation(&samples).unwrap();
            assert_close(standard_deviation(&shifted).unwrap(), sd);
            assert_close(standard_deviation(&scaled).unwrap(), sd * 3.0);
        }
    }

    #[test]
    fn statistics_do_not_depend_on_order() {
        for samples in sample_sets() {
            let mut reversed: Vec<u64> = samples.iter().map(|&x| x as u64).collect();
            let forward = describe(&reversed);
            reversed.reverse();
            assert_eq!(describe(&reversed), forward);
            reversed.sort_unstable();
            assert_eq!(describe(&reversed), forward);
        }
    }

    #[test]
    fn quantiles_ascend_and_stay_between_the_extremes() {
        for samples in sample_sets() {
            let (low, high) = (min(&samples).unwrap(), max(&samples).unwrap());
            let quantiles: Vec<f64> = (0..=20)
                .map(|k| quantile(&samples, f64::from(k) / 20.0).unwrap())
                .collect();
            assert!(quantiles.is_sorted());
            assert_eq!((quantiles[0], quantiles[20]), (low, high));
        }
    }

    /// Sets of 2 to 40 integers below 1000, from a fixed linear congruential generator.
    fn sample_sets() -> impl Iterator<Item = Vec<f64>> {
        let mut state = 1_u64;
        (2..=40).map(move |count| {
            (0..count)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    ((state >> 33) % 1000) as f64
                })
                .collect()
        })
    }
}
