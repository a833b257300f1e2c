//! Monotone trend.

use statrs::distribution::{ContinuousCDF, Normal};

use super::dependence::{block_length, kept_by_blocks};
use super::rank::{ranks, tie_sum, two_sided};
use crate::random::Generator;

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
    /// Interval of the slope that holds it with probability `confidence`: that of a normal S with
    /// this variance, which is [`MannKendall::variance`] times its inflation.
    pub fn interval(&mut self, confidence: f64, variance: f64) -> (f64, f64) {
        let z = Normal::standard().inverse_cdf(0.5 + confidence / 2.0);
        self.within(z * variance.sqrt())
    }

    /// The slopes which, taken off the samples, leave Mann-Kendall's S within `reach` of 0: Sen's
    /// order statistics at `(N -+ reach) / 2` of the N slopes.
    pub fn within(&mut self, reach: f64) -> (f64, f64) {
        let n = self.slopes.len();
        let low = ((n as f64 - reach) / 2.0).round_ties_even().max(0.0) as usize;
        let high = ((n as f64 + reach) / 2.0).round_ties_even() as usize;
        let mut at = |index: usize| *self.slopes.select_nth_unstable_by(index, f64::total_cmp).1;
        (at(low.saturating_sub(1).min(n - 1)), at(high.min(n - 1)))
    }
}

/// How far Mann-Kendall's S strays from 0 at most, with probability `confidence`, where nothing
/// but `rests` is in the samples: their noise, with a line or what else was found taken off.
///
/// The rests are resampled in circular blocks (Politis and Romano 1992, "A circular
/// block-resampling procedure for stationary data") of the [`block_length`] for their `inflation`.
/// S of a resample is approximated by its projection on single samples,
/// `sum((2 k - n - 1)(2 r_k - n - 1) / n)` over the places k and the ranks r_k (Hajek 1968,
/// doi:10.1214/aoms/1177698394). It is scaled so that independent rests in blocks of one would
/// give `variance`, which is [`MannKendall::variance`], and by what blocks lose, see
/// [`kept_by_blocks`]. The seed is fixed. `None` for fewer than three rests, which blocks keep
/// nothing of, and where one is not finite.
pub fn bootstrap_reach(
    rests: &[f64],
    inflation: f64,
    confidence: f64,
    variance: f64,
) -> Option<f64> {
    let ranks = ranks(rests)?;
    let n = ranks.len();
    if n < 3 {
        return None;
    }
    let block = block_length(n, inflation);
    let scores: Vec<f64> = ranks.iter().map(|r| 2.0 * r - n as f64 - 1.0).collect();
    let weight = |place: usize| 2.0 * place as f64 + 1.0 - n as f64;
    let weights: f64 = (0..n).map(|place| weight(place).powi(2)).sum();
    let projected = weights * scores.iter().map(|x| x * x).sum::<f64>() / n as f64;
    if projected <= 0.0 {
        return Some(0.0);
    }
    // Of a block that begins at each rest: its sum, and its sum weighted by the place in it.
    let circle = |start: usize| scores[start..].iter().chain(&scores[..start]);
    let blocks: Vec<(f64, f64)> = (0..n)
        .map(|start| {
            let members = (0..block).zip(circle(start));
            members.fold((0.0, 0.0), |(sum, moment), (place, score)| {
                (sum + score, moment + place as f64 * score)
            })
        })
        .collect();
    let (whole, cut) = (n / block, n % block);
    let mut random = Generator::new(SEED);
    let mut strays: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut s = 0.0;
            for index in 0..whole {
                let (sum, moment) = blocks[random.below(n)];
                s += weight(index * block) * sum + 2.0 * moment;
            }
            if cut > 0 {
                let last = (n - cut..n).zip(circle(random.below(n)));
                s += last
                    .map(|(place, score)| weight(place) * score)
                    .sum::<f64>();
            }
            s.abs()
        })
        .collect();
    let at = ((RESAMPLES as f64 * confidence).ceil() as usize).clamp(1, RESAMPLES) - 1;
    let stray = *strays.select_nth_unstable_by(at, f64::total_cmp).1;
    Some(stray * (variance / projected / kept_by_blocks(n, block, inflation)).sqrt())
}

/// Enough for ten resamples to lie beyond an interval of 99 %.
const RESAMPLES: usize = 1_000;

const SEED: u64 = 1;

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
    use crate::synthetic::{Series, series};
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
    fn a_bootstrap_reaches_as_far_as_the_autocorrelation_carries() {
        for (rho, inflation) in [(0.0_f64, 1.0), (0.6, 4.0)] {
            let reaches = (0..40).map(|run| {
                let truth = Series {
                    rho,
                    ..Series::steady(500, 1e9, 0.01)
                };
                let samples = series(&truth, &mut Generator::stream(3, run));
                let samples: Vec<f64> = samples.into_iter().map(|x| x as f64).collect();
                let variance = mann_kendall(&samples).unwrap().variance;
                let rests = theil_sen(&points(&samples)).unwrap().line;
                let rests: Vec<f64> = points(&samples)
                    .into_iter()
                    .map(|(x, y)| y - rests.slope * x)
                    .collect();
                let reach = bootstrap_reach(&rests, inflation, 0.95, variance).unwrap();
                reach / (1.96 * (variance * inflation).sqrt())
            });
            let mean = reaches.sum::<f64>() / 40.0;
            // Four standard errors of 40 estimates that are off by 10 % each.
            assert!((mean - 1.0).abs() < 0.07, "{rho}: {mean}");
        }
    }

    #[test]
    fn a_bootstrap_repeats_and_knows_no_spread_of_equal_rests() {
        let rests = &fixture().series[4].samples;
        let reach = || bootstrap_reach(rests, 2.0, 0.9, 100.0);
        assert_eq!(reach(), reach());
        assert_eq!(bootstrap_reach(&[2.0; 9], 1.0, 0.9, 0.0), Some(0.0));
        assert_eq!(bootstrap_reach(&[], 1.0, 0.9, 1.0), None);
        assert_eq!(bootstrap_reach(&[1.0, f64::NAN], 1.0, 0.9, 1.0), None);
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
