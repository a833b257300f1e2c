//! Series of known truth, for measuring what the detectors miss and what they imagine.

use crate::random::Generator;

/// What a series is made of. Effects are shares of the level unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Series {
    pub count: usize,
    /// In the unit of the samples, such as nanoseconds or bytes.
    pub level: f64,
    /// Standard deviation of the noise.
    pub noise: f64,
    /// Correlation of the noise from one sample to the next: a first-order autoregression whose
    /// standard deviation is `noise` whatever the correlation.
    pub rho: f64,
    pub fault: Fault,
}

/// What is planted in a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// A straight line that adds `change` from the first sample to the last.
    Drift {
        change: f64,
    },
    /// `change` from the sample at share `at` of the series on.
    Step {
        change: f64,
        at: f64,
    },
    /// A first sample `excess` above the level, decaying by a factor e every `decay` samples.
    WarmUp {
        excess: f64,
        decay: f64,
    },
    /// Growth in units of the level's, every sample.
    Leak {
        per_sample: f64,
    },
    /// Growth by `step`, in units of the level's, at `steps` evenly spaced places.
    Staircase {
        step: f64,
        steps: usize,
    },
    /// One of `one_in` samples is `factor` times as large.
    Outliers {
        one_in: usize,
        factor: f64,
    },
    /// Two levels, `gap` apart, that last `stay` samples on average.
    Bimodal {
        gap: f64,
        stay: f64,
    },
}

/// The samples, rounded to integers as a record's are.
pub fn series(truth: &Series, random: &mut Generator) -> Vec<u64> {
    let innovation = (1.0 - truth.rho * truth.rho).sqrt();
    let mut noise = random.normal();
    let mut high = random.below(2) == 1;
    (0..truth.count)
        .map(|index| {
            if index > 0 {
                noise = truth.rho * noise + innovation * random.normal();
            }
            let clean = truth.level * (1.0 + truth.noise * noise);
            let place = index as f64 / truth.count.saturating_sub(1).max(1) as f64;
            let value = match truth.fault {
                Fault::None => clean,
                Fault::Drift { change } => clean + truth.level * change * place,
                Fault::Step { change, at } => {
                    let after = index as f64 >= at * truth.count as f64;
                    clean + if after { truth.level * change } else { 0.0 }
                }
                Fault::WarmUp { excess, decay } => {
                    clean + truth.level * excess * (-(index as f64) / decay).exp()
                }
                Fault::Leak { per_sample } => clean + per_sample * index as f64,
                Fault::Staircase { step, steps } => {
                    clean + step * (index * (steps + 1) / truth.count) as f64
                }
                Fault::Outliers { one_in, factor } => {
                    clean
                        * if random.below(one_in) == 0 {
                            factor
                        } else {
                            1.0
                        }
                }
                Fault::Bimodal { gap, stay } => {
                    high ^= random.uniform() < 1.0 / stay;
                    clean + if high { truth.level * gap } else { 0.0 }
                }
            };
            value.round().max(0.0) as u64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;

    fn of(fault: Fault, noise: f64, rho: f64, count: usize) -> Vec<f64> {
        let truth = Series {
            count,
            level: 1e6,
            noise,
            rho,
            fault,
        };
        let samples = series(&truth, &mut Generator::new(1));
        samples.into_iter().map(|x| x as f64).collect()
    }

    #[test]
    fn noise_has_the_stated_deviation_and_correlation() {
        for rho in [0.0, 0.3, 0.6] {
            let samples = of(Fault::None, 0.01, rho, 50_000);
            let mean = stats::mean(&samples).unwrap();
            let sd = stats::standard_deviation(&samples).unwrap();
            assert!((sd / 1e4 - 1.0).abs() < 0.03, "{sd}");
            let products = samples.windows(2).map(|w| (w[0] - mean) * (w[1] - mean));
            let actual = products.sum::<f64>() / 50_000.0 / (sd * sd);
            assert!((actual - rho).abs() < 0.02, "{actual} instead of {rho}");
        }
    }

    #[test]
    fn faults_without_noise_are_as_stated() {
        let check = |fault, expected: &[f64]| assert_eq!(of(fault, 0.0, 0.0, 5), expected);
        check(Fault::None, &[1e6; 5]);
        check(
            Fault::Drift { change: 0.04 },
            &[1e6, 1.01e6, 1.02e6, 1.03e6, 1.04e6],
        );
        check(
            Fault::Step {
                change: 0.5,
                at: 0.6,
            },
            &[1e6, 1e6, 1e6, 1.5e6, 1.5e6],
        );
        check(
            Fault::Leak { per_sample: 7.0 },
            &[1e6, 1_000_007.0, 1_000_014.0, 1_000_021.0, 1_000_028.0],
        );
        check(
            Fault::Staircase {
                step: 8.0,
                steps: 1,
            },
            &[1e6, 1e6, 1e6, 1_000_008.0, 1_000_008.0],
        );
        check(
            Fault::WarmUp {
                excess: 1.0,
                decay: 1.0 / std::f64::consts::LN_2,
            },
            &[2e6, 1.5e6, 1.25e6, 1.125e6, 1.0625e6],
        );
        check(
            Fault::Outliers {
                one_in: 1,
                factor: 2.0,
            },
            &[2e6; 5],
        );
    }

    #[test]
    fn two_levels_last_as_long_as_stated() {
        let samples = of(
            Fault::Bimodal {
                gap: 0.5,
                stay: 20.0,
            },
            0.0,
            0.0,
            100_000,
        );
        let changes = samples.windows(2).filter(|w| w[0] != w[1]).count();
        assert!((4_700..5_300).contains(&changes), "{changes}");
    }
}
