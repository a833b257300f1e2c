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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use crate::synthetic::{Fault, Series, series};

    #[test]
    fn the_factor_of_an_autoregression_is_found() {
        for rho in [0.0, 0.3, 0.6, 0.9] {
            let truth = Series {
                count: 20_000,
                level: 1e6,
                noise: 0.01,
                rho,
                fault: Fault::None,
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
            count: 20_000,
            level: 1e6,
            noise: 0.01,
            rho,
            fault: Fault::None,
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
    fn what_does_not_exist_is_none() {
        for samples in [&[][..], &[1.0], &[1.0, 2.0], &[1.0, 2.0, f64::NAN]] {
            assert_eq!(inflation(samples), None);
        }
    }
}
