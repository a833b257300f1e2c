//! How much samples that resemble their neighbours are worth.

use super::rank::ranks;

/// Lags beyond this are not looked at; what still correlates there is drift, which the tests of
/// trend and level look for.
const MOST_LAGS: usize = 200;

/// Factor by which autocorrelation inflates the variance of a mean of the samples, at least 1;
/// their effective number is their number over it. `None` for fewer than three samples, and
/// where one is not finite.
///
/// The factor is `1 + 2 sum(rho_k)`, the larger one of two estimates of it from the
/// autocorrelations of the ranks, which outliers hardly move:
///
/// - that of a first-order autoregression, `(1 + rho_1) / (1 - rho_1)`;
/// - Geyer's initial monotone sequence (1992, doi:10.1214/ss/1177011137), for noise that decays
///   in another way, such as a slow wander under independent jitter.
///
/// Autocorrelations of few samples are too small on average, the more so after a line or a level
/// was taken out of them: rho_1 by about `(2 + 5 rho) / n` (Kendall 1954,
/// doi:10.1093/biomet/41.3-4.403, and one more for the line), which is put back. Alternation,
/// which would make the factor less than 1, is not rewarded.
pub fn inflation(samples: &[f64]) -> Option<f64> {
    let ranks = ranks(samples)?;
    let n = ranks.len();
    if n < 3 {
        return None;
    }
    let centre = (n as f64 + 1.0) / 2.0;
    let scores: Vec<f64> = ranks.iter().map(|rank| rank - centre).collect();
    let power: f64 = scores.iter().map(|x| x * x).sum();
    if power == 0.0 {
        return Some(1.0);
    }
    let count = n as f64;
    let correlation = |lag: usize| {
        let pairs = scores.iter().zip(&scores[lag..]);
        pairs.map(|(a, b)| a * b).sum::<f64>() / power
    };
    // A factor above n would leave less than one sample.
    let highest = (count - 1.0) / (count + 1.0);
    let rho = ((correlation(1) + 2.0 / count) / (1.0 - 5.0 / count).max(0.5)).clamp(0.0, highest);
    let first_order = (1.0 + rho) / (1.0 - rho);

    let bias = 2.0 * first_order / count;
    let lags = (n / 4).min(MOST_LAGS);
    let mut sum = -1.0;
    let mut least = f64::INFINITY;
    for lag in (0..lags).step_by(2) {
        let pair =
            correlation(lag) + correlation(lag + 1) + if lag == 0 { bias } else { 2.0 * bias };
        if pair - 2.0 * bias <= 0.0 {
            break;
        }
        least = pair.min(least);
        sum += 2.0 * least;
    }
    Some(first_order.max(sum).clamp(1.0, count))
}

/// Length of the blocks in which `n` samples are resampled, for the [`inflation`] of their mean's
/// variance.
///
/// That of Politis and White (2004, doi:10.1081/ETR-120028836) for the circular bootstrap,
/// `(2 G^2 / D)^(1/3) n^(1/3)`, with the G and D of the first-order autoregression that has this
/// inflation f: `(1.5 ((f^2 - 1) / 2 f)^2 n)^(1/3)`. At least `n^(1/3)`, since an inflation of 1
/// may be found by chance, and at most a quarter of the samples.
pub fn block_length(n: usize, inflation: f64) -> usize {
    let ratio = (inflation * inflation - 1.0) / (2.0 * inflation);
    let length = ((1.5 * ratio * ratio).max(1.0) * n as f64).cbrt();
    (length.ceil() as usize).clamp(1, (n / 4).max(1))
}

/// Share of the variance of a sum of `n` samples that blocks of this length reproduce, after a
/// line was taken out of them.
///
/// Blocks of length l end the autocorrelation where they end: with that of the first-order
/// autoregression of this [`inflation`] f, `f - 2 rho (1 - rho^l) / (l (1 - rho)^2)` of f is left.
/// The line, with its two parameters, took the share `2 l / n` out of the variance of a block's
/// sum.
pub fn kept_by_blocks(n: usize, length: usize, inflation: f64) -> f64 {
    let rho = (inflation - 1.0) / (inflation + 1.0);
    let l = length as f64;
    let lost = 2.0 * rho * (1.0 - rho.powf(l)) / (l * (1.0 - rho).powi(2));
    (1.0 - lost / inflation) * (1.0 - 2.0 * l / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use crate::synthetic::{Series, series};

    #[test]
    fn the_factor_of_an_autoregression_is_found() {
        for rho in [0.0, 0.3, 0.6, 0.9] {
            let truth = Series {
                rho,
                ..Series::steady(20_000, 1e6, 0.01)
            };
            let samples: Vec<f64> = series(&truth, &mut Generator::new(4))
                .into_iter()
                .map(|x| x as f64)
                .collect();
            let (actual, expected) = (inflation(&samples).unwrap(), (1.0 + rho) / (1.0 - rho));
            assert!(
                (actual / expected - 1.0).abs() < 0.15,
                "{actual} instead of {expected}"
            );
        }
    }

    #[test]
    fn a_slow_wander_under_jitter_counts_more_than_its_first_lag_says() {
        let truth = |rho| Series {
            rho,
            ..Series::steady(20_000, 1e6, 0.01)
        };
        let wander = series(&truth(0.95), &mut Generator::new(4));
        let jitter = series(&truth(0.0), &mut Generator::new(5));
        let both: Vec<f64> = wander
            .iter()
            .zip(&jitter)
            .map(|(a, b)| (a + b) as f64)
            .collect();
        // 1 + 2 * 0.475 / (1 - 0.95), against 2.8 by an autoregression of the first lag.
        let actual = inflation(&both).unwrap();
        assert!((15.0..25.0).contains(&actual), "{actual}");
    }

    #[test]
    fn alternation_and_constancy_inflate_nothing() {
        let alternating: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        assert_eq!(inflation(&alternating), Some(1.0));
        assert_eq!(inflation(&[3.0; 50]), Some(1.0));
    }

    #[test]
    fn blocks_are_as_long_as_the_autocorrelation_asks() {
        assert_eq!(block_length(1000, 1.0), 10);
        // rho 0.6: 2 rho / (1 - rho^2) = 1.875, (1.5 * 3.516 * 200)^(1/3) = 10.2.
        assert_eq!(block_length(200, 4.0), 11);
        assert_eq!(block_length(20, 4.0), 5);
        assert_eq!(block_length(3, 1.0), 1);
    }

    #[test]
    fn what_blocks_lose_is_known() {
        assert_eq!(kept_by_blocks(1000, 10, 1.0), 0.98);
        let (mut window, mut rho) = (1.0, 1.0);
        for lag in 1..10 {
            rho *= 0.6;
            window += 2.0 * (1.0 - f64::from(lag) / 10.0) * rho;
        }
        let kept = kept_by_blocks(1000, 10, 4.0);
        assert!((kept - window / 4.0 * 0.98).abs() < 1e-12, "{kept}");
    }

    #[test]
    fn what_does_not_exist_is_none() {
        for samples in [&[][..], &[1.0], &[1.0, 2.0], &[1.0, 2.0, f64::NAN]] {
            assert_eq!(inflation(samples), None);
        }
    }
}
