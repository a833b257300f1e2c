//! The runs of one arm by themselves.

use serde::Serialize;

use super::estimate::{Estimate, Moments};
use super::{FEWEST_WITHOUT_SPREAD, SHOWN_LEVEL, is_measured};
use crate::rules::ComparisonRules;

/// How the runs of one arm lie around their geometric mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub runs: usize,
    /// In the unit of the values.
    pub geometric_mean: f64,
    /// Standard deviation between processes, of logarithms; `None` for one run.
    pub sd: Option<f64>,
    /// 95 % t interval of the geometric mean, in the unit of the values; `None` for one run, and
    /// for two without any spread.
    pub interval: Option<(f64, f64)>,
    /// The smallest change that two arms of as many runs with this spread could see in a single
    /// metric, at the error rate and power of the rules; `None` as for the interval.
    pub minimum_detectable: Option<f64>,
}

/// From one value a process; `None` for no value, and for values that are not positive and
/// finite.
pub fn spread(values: &[f64], rules: &ComparisonRules) -> Option<Spread> {
    if values.is_empty() || !values.iter().copied().all(is_measured) {
        return None;
    }
    let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    let moments = Moments::of(&logs);
    let believed =
        |estimate: &Estimate| estimate.error > 0.0 || logs.len() >= FEWEST_WITHOUT_SPREAD;
    // A mean is estimated as a mean of differences is.
    let mean = Estimate::paired(moments).filter(believed);
    let difference = Estimate::welch(moments, moments).filter(believed);
    Some(Spread {
        runs: logs.len(),
        geometric_mean: moments.mean.exp(),
        sd: (logs.len() > 1).then(|| moments.variance.sqrt()),
        interval: mean.map(|mean| {
            let (low, high) = mean.interval(SHOWN_LEVEL);
            (low.exp(), high.exp())
        }),
        minimum_detectable: difference.map(|difference| {
            difference
                .minimum_detectable(rules.error_rate, rules.power)
                .exp_m1()
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    fn of(values: &[f64]) -> Option<Spread> {
        spread(values, &ComparisonRules::default())
    }

    #[test]
    fn a_spread_is_that_of_the_logarithms() {
        let e = std::f64::consts::E;
        let spread = of(&[1.0, e, e * e]).unwrap();
        assert_eq!(spread.runs, 3);
        assert_near(spread.geometric_mean, e, 1e-12, "geometric mean");
        assert_near(spread.sd.unwrap(), 1.0, 1e-12, "sd");
        // t(0.975, 2) = 4.302653, over the square root of 3.
        let (low, high) = spread.interval.unwrap();
        assert_near(low, (1.0 - 2.484_138_f64).exp(), 1e-6, "low");
        assert_near(high, (1.0 + 2.484_138_f64).exp(), 1e-6, "high");
        // (t(0.975, 4) + t(0.8, 4)) sqrt(2 / 3) = (2.776445 + 0.940965) 0.816497.
        let expected = 3.035_253_f64.exp_m1();
        assert_near(spread.minimum_detectable.unwrap(), expected, 1e-5, "mde");
    }

    #[test]
    fn few_runs_say_as_little_as_they_can() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1.0, 0.0]), None);
        assert_eq!(of(&[1.0, f64::NAN]), None);
        let one = of(&[3.0]).unwrap();
        assert_eq!(
            (one.sd, one.interval, one.minimum_detectable),
            (None, None, None)
        );
        let same = of(&[3.0, 3.0]).unwrap();
        assert_eq!((same.sd, same.interval), (Some(0.0), None));
        let constant = of(&[3.0, 3.0, 3.0]).unwrap();
        assert_near(constant.interval.unwrap().1, 3.0, 1e-12, "constant");
        assert_eq!(constant.minimum_detectable, Some(0.0));
    }
}
