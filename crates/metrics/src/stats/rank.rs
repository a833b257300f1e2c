//! Ranks, and tests that need nothing but ranks.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::Estimate;

/// Largest number of samples a side for which every arrangement is counted.
const EXACT_SIDE: usize = 20;

/// Ranks from 1, ties sharing their mean rank. `None` for no samples and where one is not finite.
pub fn ranks(samples: &[f64]) -> Option<Vec<f64>> {
    if samples.is_empty() || samples.iter().any(|x| !x.is_finite()) {
        return None;
    }
    // Sorting pairs keeps the values in cache, which sorting indices would not.
    let mut order: Vec<(f64, usize)> = samples.iter().copied().zip(0..).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = vec![0.0; samples.len()];
    let mut begin = 0;
    for tied in order.chunk_by(|a, b| a.0 == b.0) {
        let shared = begin as f64 + (tied.len() + 1) as f64 / 2.0;
        for &(_, index) in tied {
            ranks[index] = shared;
        }
        begin += tied.len();
    }
    Some(ranks)
}

/// Whether one set of samples tends to larger values than another, by ranks alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MannWhitney {
    /// Pairs in which the first set's sample is larger; a tie counts one half.
    pub u: f64,
    /// Two-sided.
    pub p: f64,
    /// Counted over all arrangements of the ranks, ties included, rather than by the normal
    /// approximation with corrections for ties and continuity.
    pub exact: bool,
    /// See [`superiority`].
    pub superiority: f64,
}

/// Mann-Whitney test (1947, doi:10.1214/aoms/1177730491), two-sided. Exact for at most 20 samples
/// a side. `None` where a side is empty or holds what is not finite.
pub fn mann_whitney(first: &[f64], second: &[f64]) -> Option<MannWhitney> {
    let Ranked { ranks, u, pairs } = ranked(first, second)?;
    let exact = first.len().max(second.len()) <= EXACT_SIDE;
    let p = if exact {
        exact_p(&ranks, first.len())
    } else {
        let n = ranks.len() as f64;
        let ties = tie_sum(&ranks, |t| t * t * t - t);
        let variance = pairs / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
        let distance = ((u - pairs / 2.0).abs() - 0.5).max(0.0);
        if variance > 0.0 {
            two_sided(distance / variance.sqrt())
        } else {
            1.0
        }
    };
    Some(MannWhitney {
        u,
        p,
        exact,
        superiority: u / pairs,
    })
}

/// Probability that a sample of the first set is larger than one of the second, a tie counting
/// one half (Vargha and Delaney 2000, doi:10.3102/10769986025002101). `None` as for
/// [`mann_whitney`].
pub fn superiority(first: &[f64], second: &[f64]) -> Option<f64> {
    ranked(first, second).map(|ranked| ranked.u / ranked.pairs)
}

struct Ranked {
    /// Of the first set's samples, then of the second's.
    ranks: Vec<f64>,
    u: f64,
    pairs: f64,
}

fn ranked(first: &[f64], second: &[f64]) -> Option<Ranked> {
    if first.is_empty() || second.is_empty() {
        return None;
    }
    let ranks = ranks(&[first, second].concat())?;
    let n = first.len() as f64;
    Some(Ranked {
        u: ranks[..first.len()].iter().sum::<f64>() - n * (n + 1.0) / 2.0,
        pairs: n * second.len() as f64,
        ranks,
    })
}

/// The shift of Hodges and Lehmann (1963, doi:10.1214/aoms/1177704172): the median of all
/// differences between a sample of the first set and one of the second, with the interval that
/// [`mann_whitney`] gives it (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods,
/// 3rd edition 2014, section 4.3). A few samples far from the others move it little. Exact for at
/// most 20 samples a side, as long as none are equal. `None` as for [`mann_whitney`], and where
/// there are too few samples for such an interval: four a side are enough for 95 %.
pub fn shift(first: &[f64], second: &[f64], confidence: f64) -> Option<Estimate> {
    let pairs = ranked(first, second)?.pairs;
    let mut differences: Vec<f64> = first
        .iter()
        .flat_map(|a| second.iter().map(move |b| a - b))
        .collect();
    differences.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    // Values of the statistic at each end that the test contradicts. The interval goes from the
    // difference of this number to that which has as many from it to the end.
    let outside = match first.len().max(second.len()) <= EXACT_SIDE {
        true => {
            let doubled: Vec<usize> = (1..=first.len() + second.len()).map(|it| 2 * it).collect();
            let ways = choices(&doubled, first.len());
            let total: f64 = ways.iter().sum();
            let mut below = 0.0;
            let such = ways.iter().filter(|ways| **ways > 0.0).take_while(|ways| {
                below += **ways;
                below <= tail * total
            });
            such.count()
        }
        false => {
            let n = (first.len() + second.len()) as f64;
            let distance =
                Normal::standard().inverse_cdf(1.0 - tail) * (pairs * (n + 1.0) / 12.0).sqrt();
            // With the test's correction for continuity.
            (pairs / 2.0 + 0.5 - distance).max(0.0) as usize
        }
    };
    let last = differences.len() - 1;
    Some(Estimate {
        value: super::median(&differences)?,
        interval: (
            *differences.get(outside.checked_sub(1)?)?,
            *differences.get(last - (outside - 1))?,
        ),
    })
}

/// Twice the smaller tail of the rank sum among all choices of `count` of the ranks; the first
/// `count` were observed. At most 40 ranks: the numbers of choices stay below 2^53, so that
/// floating point counts them exactly.
fn exact_p(ranks: &[f64], count: usize) -> f64 {
    // Doubled, the mean ranks of ties are integers too.
    let ranks: Vec<usize> = ranks.iter().map(|rank| (2.0 * rank) as usize).collect();
    let sum: usize = ranks[..count].iter().sum();
    let ways = choices(&ranks, count);
    let total: f64 = ways.iter().sum();
    let below: f64 = ways[..=sum].iter().sum();
    let above: f64 = ways[sum..].iter().sum();
    (2.0 * below.min(above) / total).min(1.0)
}

/// Ways to choose `count` of the ranks, by their sum.
fn choices(ranks: &[usize], count: usize) -> Vec<f64> {
    let most: usize = ranks.iter().sum();
    // choices[k][s]: ways to choose k of the ranks seen so far with sum s.
    let mut choices = vec![vec![0.0; most + 1]; count + 1];
    choices[0][0] = 1.0;
    for &rank in ranks {
        for chosen in (1..=count).rev() {
            let (fewer, more) = choices.split_at_mut(chosen);
            for (ways, before) in more[0][rank..].iter_mut().zip(&fewer[chosen - 1]) {
                *ways += before;
            }
        }
    }
    choices.swap_remove(count)
}

/// The most likely place of one change of level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// The first sample of the new level.
    pub index: usize,
    /// Pettitt's K, the largest |U|.
    pub k: f64,
}

impl Split {
    /// Pettitt's approximate two-sided p for `n` samples of which `n / inflation` are worth
    /// counting: `2 exp(-6 K^2 / (n^3 + n^2))`, with K^2 divided by the inflation of its variance.
    pub fn p(&self, n: usize, inflation: f64) -> f64 {
        let n = n as f64;
        (2.0 * (-6.0 * self.k * self.k / ((n.powi(3) + n * n) * inflation)).exp()).min(1.0)
    }
}

/// Pettitt's statistic (1979, doi:10.2307/2346729), looked for where at least `side` samples are
/// left on each side. `None` for fewer than two sides, and where a sample is not finite.
pub fn pettitt(samples: &[f64], side: usize) -> Option<Split> {
    let side = side.max(1);
    let ranks = ranks(samples)?;
    let n = ranks.len();
    let mut sum = 0.0;
    let mut best: Option<Split> = None;
    for (index, rank) in (1..n).zip(&ranks) {
        sum += rank;
        let k = (2.0 * sum - index as f64 * (n as f64 + 1.0)).abs();
        if index >= side && n - index >= side && best.is_none_or(|best| k > best.k) {
            best = Some(Split { index, k });
        }
    }
    best
}

/// Two-sided p of a standard normal deviate.
pub(crate) fn two_sided(z: f64) -> f64 {
    2.0 * Normal::standard().sf(z.abs())
}

/// Sum of `term(t)` over the groups of `t` equal samples.
pub(crate) fn tie_sum(samples: &[f64], term: impl Fn(f64) -> f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
        .chunk_by(|a, b| a == b)
        .map(|tied| term(tied.len() as f64))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, fixture};

    #[test]
    fn ranks_and_tests_agree_with_scipy() {
        let fixture = fixture();
        for series in &fixture.series {
            assert_eq!(
                ranks(&series.samples).unwrap(),
                series.ranks,
                "{}",
                series.name
            );
        }
        for pair in &fixture.pairs {
            let actual = mann_whitney(&pair.first, &pair.second).unwrap();
            assert_eq!(actual.u, pair.u, "{}", pair.name);
            assert_near(actual.p, pair.p, 1e-9, &pair.name);
            assert_eq!(actual.exact, pair.exact, "{}", pair.name);
            assert_eq!(
                superiority(&pair.first, &pair.second),
                Some(actual.superiority)
            );
            let swapped = mann_whitney(&pair.second, &pair.first).unwrap();
            assert_near(swapped.p, pair.p, 1e-9, &pair.name);
            assert_near(
                swapped.superiority,
                1.0 - actual.superiority,
                1e-12,
                &pair.name,
            );
        }
    }

    #[test]
    fn an_interval_of_shifts_holds_those_that_the_test_does_not_contradict() {
        let mut checked = 0;
        for pair in &fixture().pairs {
            let (first, second) = (&pair.first, &pair.second);
            let mut all = [first.as_slice(), second].concat();
            all.sort_unstable_by(f64::total_cmp);
            let tied = all.windows(2).any(|it| it[0] == it[1]);
            let Some(found) = shift(first, second, 0.95).filter(|_| !tied) else {
                continue;
            };
            let p = |by: f64| {
                let moved: Vec<f64> = first.iter().map(|it| it - by).collect();
                mann_whitney(&moved, second).unwrap().p
            };
            let (low, high) = found.interval;
            let little = 1e-9 * (high - low);
            assert!(low <= found.value && found.value <= high, "{}", pair.name);
            assert!(
                p(low + little) > 0.05 && p(high - little) > 0.05,
                "{}",
                pair.name
            );
            assert!(
                p(low - little) <= 0.05 && p(high + little) <= 0.05,
                "{}",
                pair.name
            );
            checked += 1;
        }
        assert!(checked > 2, "{checked}");
    }

    #[test]
    fn a_shift_needs_enough_samples_and_is_moved_little_by_a_few() {
        let first = [5.0, 7.0, 6.0, 8.5];
        let second = [1.0, 2.5, 3.0, 4.0];
        // Of the 70 arrangements one has the smallest rank sum, and one the next: 2 of 70 are more
        // than 2.5 %, so one difference at each end would lie outside.
        let found = shift(&first, &second, 0.95).unwrap();
        assert_eq!(found.interval, (1.0, 7.5));
        assert_eq!(found.value, 4.0);
        assert_eq!(shift(&first[..3], &second[..3], 0.95), None);
        assert_eq!(shift(&[], &second, 0.95), None);
        assert_eq!(shift(&[f64::NAN], &second, 0.95), None);
        let many: Vec<f64> = (0..30).map(f64::from).collect();
        let mut moved: Vec<f64> = many.iter().map(|it| it + 10.0).collect();
        moved[29] = 1e9;
        let found = shift(&moved, &many, 0.95).unwrap();
        assert_eq!(found.value, 10.0);
        assert!(
            found.interval.0 > 4.0 && found.interval.1 < 16.0,
            "{found:?}"
        );
    }

    #[test]
    fn only_the_order_of_values_counts() {
        for pair in &fixture().pairs {
            let map = |x: &[f64]| x.iter().map(|x| 3.0 * x.exp() + 1.0).collect::<Vec<_>>();
            let mapped = mann_whitney(&map(&pair.first), &map(&pair.second));
            assert_eq!(
                mapped,
                mann_whitney(&pair.first, &pair.second),
                "{}",
                pair.name
            );
        }
    }

    #[test]
    fn a_change_of_level_is_located() {
        let samples = [5.0, 4.0, 5.0, 4.0, 9.0, 8.0, 9.0];
        // Ranks 3.5 1.5 3.5 1.5 6.5 5 6.5: U after four is 2 * 10 - 4 * 8.
        assert_eq!(pettitt(&samples, 1), Some(Split { index: 4, k: 12.0 }));
        let p = 2.0 * (-6.0 * 144.0 / (343.0 + 49.0_f64)).exp();
        assert_near(pettitt(&samples, 1).unwrap().p(7, 1.0), p, 1e-12, "p");
        assert_eq!(pettitt(&samples, 4), None);
    }

    #[test]
    fn what_does_not_exist_is_none() {
        assert_eq!(ranks(&[]), None);
        assert_eq!(ranks(&[1.0, f64::NAN]), None);
        assert_eq!(mann_whitney(&[], &[1.0]), None);
        assert_eq!(mann_whitney(&[1.0], &[]), None);
        assert_eq!(mann_whitney(&[1.0], &[f64::INFINITY]), None);
        assert_eq!(pettitt(&[1.0], 1), None);
        assert_eq!(superiority(&[], &[1.0]), None);
        assert_eq!(mann_whitney(&[1.0; 30], &[1.0; 30]).unwrap().p, 1.0);
    }
}
