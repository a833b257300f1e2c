//! Monotone trend.

use statrs::distribution::{ContinuousCDF, Normal};

use super::rank::{tie_sum, two_sided};

/// Mann-Kendall statistic of samples in the order of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannKendall {
    /// Pairs that rise less pairs that fall.
    pub s: f64,
    /// Variance of `s` for independent samples, corrected for ties.
    pub variance: f64,
}

impl MannKendall {
    /// Two-sided p by the normal approximation with correction for continuity, the variance
    /// being `inflation` times that of independent samples.
    pub fn p(&self, inflation: f64) -> f64 {
        if self.s == 0.0 || self.variance <= 0.0 {
            return 1.0;
        }
        two_sided((self.s.abs() - 1.0) / (self.variance * inflation).sqrt())
    }
}

/// Mann-Kendall statistic (Mann 1945, doi:10.2307/1907187; Kendall 1975). `None` for fewer than
/// two samples, and where one is not finite. Takes time quadratic in their number.
pub fn mann_kendall(samples: &[f64]) -> Option<MannKendall> {
    if samples.len() < 2 || samples.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let mut s = 0_i64;
    for (i, earlier) in samples.iter().enumerate() {
        for later in &samples[i + 1..] {
            s += i64::from(later > earlier) - i64::from(later < earlier);
        }
    }
    let term = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let variance = (term(samples.len() as f64) - tie_sum(samples, term)) / 18.0;
    Some(MannKendall {
        s: s as f64,
        variance,
    })
}

/// A line through samples, robust against up to 29 % of outliers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Per unit of the positions.
    pub slope: f64,
    /// At position 0: the median of what the slope leaves.
    pub intercept: f64,
}

/// Slopes of all pairs of samples.
#[derive(Clone, Debug)]
pub struct TheilSen {
    pub line: Line,
    slopes: Vec<f64>,
}

/// Theil-Sen line (Sen 1968, doi:10.1080/01621459.1968.10480934) through (position, value)
/// pairs. `None` where no two positions differ and where a number is not finite. Takes time
/// quadratic in their number.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<TheilSen> {
    if points.iter().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
        return None;
    }
    let mut slopes = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
    for (i, a) in points.iter().enumerate() {
        for b in &points[i + 1..] {
            if a.0 != b.0 {
                slopes.push((b.1 - a.1) / (b.0 - a.0));
            }
        }
    }
    let slope = median_unsorted(&mut slopes)?;
    let mut rests: Vec<f64> = points.iter().map(|(x, y)| y - slope * x).collect();
    let intercept = median_unsorted(&mut rests)?;
    Some(TheilSen {
        line: Line { slope, intercept },
        slopes,
    })
}

impl TheilSen {
    /// Interval of the slope that holds it with probability `confidence`: Sen's order statistics
    /// at `(N -+ z sqrt(variance)) / 2` of the N slopes, the variance being that of Mann-Kendall's
    /// S with its inflation.
    pub fn interval(&mut self, confidence: f64, variance: f64) -> (f64, f64) {
        let z = Normal::standard().inverse_cdf(0.5 + confidence / 2.0);
        let n = self.slopes.len();
        let reach = z * variance.sqrt();
        let low = ((n as f64 - reach) / 2.0).round_ties_even().max(0.0) as usize;
        let high = ((n as f64 + reach) / 2.0).round_ties_even() as usize;
        let mut at = |index: usize| *self.slopes.select_nth_unstable_by(index, f64::total_cmp).1;
        (at(low.saturating_sub(1).min(n - 1)), at(high.min(n - 1)))
    }
}

/// Median in linear time; reorders the samples.
fn median_unsorted(samples: &mut [f64]) -> Option<f64> {
    let n = samples.len();
    if n == 0 {
        return None;
    }
    let (below, &mut upper, _) = samples.select_nth_unstable_by(n / 2, f64::total_cmp);
    if n % 2 == 1 {
        return Some(upper);
    }
    let lower = below.iter().copied().max_by(f64::total_cmp)?;
    Some(lower / 2.0 + upper / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, fixture};

    fn points(samples: &[f64]) -> Vec<(f64, f64)> {
        (0..samples.len())
            .map(|i| i as f64)
            .zip(samples.iter().copied())
            .collect()
    }

    #[test]
    fn trends_agree_with_scipy() {
        for series in &fixture().series {
            let kendall = mann_kendall(&series.samples).unwrap();
            assert_eq!(kendall.s, series.s, "{}", series.name);
            assert_near(kendall.variance, series.variance, 1e-9, &series.name);
            assert_near(kendall.p(1.0), series.p, 1e-9, &series.name);
            let mut sen = theil_sen(&points(&series.samples)).unwrap();
            assert_near(sen.line.slope, series.slope, 1e-9, &series.name);
            let (low, high) = sen.interval(0.95, kendall.variance);
            assert_near(low, series.low, 1e-9, &series.name);
            assert_near(high, series.high, 1e-9, &series.name);
        }
    }

    #[test]
    fn the_slope_follows_scale_and_ignores_shift() {
        for series in &fixture().series {
            let slope = theil_sen(&points(&series.samples)).unwrap().line.slope;
            let moved: Vec<f64> = series.samples.iter().map(|x| 50.0 - 3.0 * x).collect();
            let actual = theil_sen(&points(&moved)).unwrap().line.slope;
            assert_near(actual, -3.0 * slope, 1e-9, &series.name);
            let reversed: Vec<f64> = series.samples.iter().rev().copied().collect();
            let actual = mann_kendall(&reversed).unwrap().s;
            assert_eq!(actual, -series.s, "{}", series.name);
        }
    }

    #[test]
    fn what_does_not_exist_is_none() {
        assert_eq!(mann_kendall(&[]), None);
        assert_eq!(mann_kendall(&[1.0]), None);
        assert_eq!(mann_kendall(&[1.0, f64::NAN]), None);
        assert!(theil_sen(&[]).is_none());
        assert!(theil_sen(&[(1.0, 2.0), (1.0, 3.0)]).is_none());
        assert!(theil_sen(&[(1.0, 2.0), (2.0, f64::NAN)]).is_none());
    }
}
