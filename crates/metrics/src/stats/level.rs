//! One change of level among few samples, some of which may be strays.

use super::median;
use crate::random::Generator;

/// Neighbours on either side that a sample is held against.
const NEIGHBOURS: usize = 3;

/// Standard deviations from the median of its neighbourhood beyond which a sample is a stray.
const STRAY: f64 = 5.0;

/// The first sample of the new level, where the level changed once.
///
/// Of all splits that leave `side` samples or more on each side, the one whose means explain most
/// of the squares, after strays were taken out. `None` for fewer than two sides, for samples that
/// are equal but for strays, and where one is not finite.
pub fn level_shift(samples: &[f64], side: usize) -> Option<usize> {
    farthest(&without_strays(samples)?, side).map(|it| it.0)
}

/// How often a change of level as clear as the samples' is seen where there is none: the share of
/// random orders of the samples with a split that explains at least as much, as in [`level_shift`].
///
/// Orders are drawn until 20 of them do, 1,999 at most (Besag and Clifford 1991,
/// doi:10.1093/biomet/78.2.301). Exact where one order is as likely as any other, however the
/// samples are distributed, but for strays: these are taken out of the order in which they came,
/// and stay out. `None` as for [`level_shift`].
pub fn level_shift_p(samples: &[f64], side: usize, random: &mut Generator) -> Option<f64> {
    const ENOUGH: u32 = 20;
    const ORDERS: u32 = 1_999;
    let mut samples = without_strays(samples)?;
    let (_, found) = farthest(&samples, side)?;
    let mut as_far = 0;
    for order in 1..=ORDERS {
        for last in (1..samples.len()).rev() {
            samples.swap(last, random.below(last + 1));
        }
        let explained = farthest(&samples, side).map_or(0.0, |it| it.1);
        as_far += u32::from(explained >= found - 1e-9);
        if as_far == ENOUGH {
            return Some(f64::from(ENOUGH) / f64::from(order));
        }
    }
    Some(f64::from(as_far + 1) / f64::from(ORDERS + 1))
}

/// The split that explains most, with at least `side` samples on each side, and the share of the
/// squares that it explains.
fn farthest(samples: &[f64], side: usize) -> Option<(usize, f64)> {
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let total: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    // What rounding leaves of equal samples is no spread.
    if total <= n * (1e-12 * mean).powi(2) {
        return None;
    }
    let side = side.max(1);
    let last = samples.len().checked_sub(side)?;
    let mut sum = samples.iter().take(side - 1).map(|x| x - mean).sum::<f64>();
    let mut best: Option<(usize, f64)> = None;
    for at in side..=last {
        sum += samples[at - 1] - mean;
        let before = at as f64;
        let explained = sum * sum * n / (before * (n - before)) / total;
        if best.is_none_or(|best| explained > best.1) {
            best = Some((at, explained));
        }
    }
    best
}

/// Samples, with the median of its neighbourhood in the place of each one that lies farther from it
/// than five standard deviations (the identifier of Hampel in moving windows: Davies and Gather
/// 1993, doi:10.1080/01621459.1993.10476339). The deviation is that of neighbours' differences, by
/// their median, so that a change of level hardly adds to it. `None` where a sample is not finite.
pub(crate) fn without_strays(samples: &[f64]) -> Option<Vec<f64>> {
    /// Standard deviation of a sample in medians of absolute differences of two.
    const OF_DIFFERENCES: f64 = 1.482_602_218_505_602 * std::f64::consts::FRAC_1_SQRT_2;
    if samples.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let differences = samples.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    let typical = median(&differences.collect::<Vec<_>>())?;
    let most = STRAY * OF_DIFFERENCES * typical;
    let cleaned = |(at, &x): (usize, &f64)| {
        let from = at.saturating_sub(NEIGHBOURS);
        let to = (at + NEIGHBOURS + 1).min(samples.len());
        let mut near = [0.0; 2 * NEIGHBOURS + 1];
        let near = &mut near[..to - from];
        near.copy_from_slice(&samples[from..to]);
        near.sort_unstable_by(f64::total_cmp);
        // Of an even number the middle is all that lies between two.
        let middle = (near[(near.len() - 1) / 2], near[near.len() / 2]);
        let nearest = x.clamp(middle.0, middle.1);
        if (x - nearest).abs() > most {
            nearest
        } else {
            x
        }
    };
    Some(samples.iter().enumerate().map(cleaned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_level_is_located_near_an_end_too_and_strays_are_overlooked() {
        let check = |samples: &[f64], expected| {
            assert_eq!(level_shift(samples, 3), expected, "{samples:?}");
        };
        check(&[3., 2., 6., 1., 5., 7., 4., 19., 18., 20.], Some(7));
        check(&[1., 1., 1., 1., 1., 2., 2., 2.], Some(5));
        check(&[3., 2., 900., 1., 5., 7., 4., 19., 18., 20.], Some(7));
        check(&[1., 1., 1., 9., 1., 1., 1., 1., 2., 2., 2.], Some(8));
        check(&[1., 1., 1., 1., 9., 1., 1., 1., 1.], None);
        check(&[1.0; 9], None);
        check(&[0.1; 9], None);
        check(&[1.0, 2.0, 3.0, 4.0, 5.0], None);
        check(&[1.0, f64::NAN, 2.0, 3.0, 4.0, 5.0], None);
        check(&[], None);
    }

    #[test]
    fn strays_are_those_far_from_their_neighbours() {
        let samples = [1.0, 60.0, 2.0, 1.0, 2.0, 1.0, 31.0, 30.0, 31.0, 30.0];
        let mut expected = samples;
        expected[1] = 2.0;
        assert_eq!(without_strays(&samples).unwrap(), expected);
    }

    #[test]
    fn orders_at_least_as_clear_are_counted() {
        let p =
            |samples: &[f64], seed| level_shift_p(samples, 3, &mut Generator::new(seed)).unwrap();
        // As clear are the orders with the lowest three in front or at the end: 2 of the 84 choices
        // of their places. The mean of 40 estimates is 20 / 19 of that, and its standard error 3.5 %.
        let apart = [1., 2., 3., 7., 8., 9., 10., 11., 12.];
        let mean = (0..40).map(|seed| p(&apart, seed)).sum::<f64>() / 40.0;
        let exact = 2.0 / 84.0;
        assert!((0.9..1.2).contains(&(mean / exact)), "{mean} {exact}");
        assert!(p(&[3., 9., 1., 7., 5., 2., 8., 4., 6., 10.], 1) > 0.2);
        assert_eq!(level_shift_p(&[1.0; 9], 3, &mut Generator::new(1)), None);
    }
}
