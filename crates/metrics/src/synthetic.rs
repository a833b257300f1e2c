//! Series of known truth, for measuring what the detectors miss and what they imagine.

use crate::random::Generator;

/// What a series is made of. Spreads and effects are shares of the level unless they say
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Series {
    pub count: usize,
    /// In the unit of the samples, such as nanoseconds or bytes.
    pub level: f64,
    /// Standard deviation of the level from one process to another: of the logarithm of the
    /// factor that each series draws for itself.
    pub process_spread: f64,
    /// Standard deviation of the noise.
    pub noise: f64,
    pub tails: Tails,
    /// Correlation of the noise from one sample to the next: a first-order autoregression whose
    /// standard deviation is `noise` whatever the correlation.
    pub rho: f64,
    pub fault: Fault,
}

impl Series {
    /// A level under independent normal noise, with nothing planted: what other series are
    /// written down as a change of.
    pub fn steady(count: usize, level: f64, noise: f64) -> Self {
        Self {
            count,
            level,
            process_spread: 0.0,
            noise,
            tails: Tails::Normal,
            rho: 0.0,
            fault: Fault::None,
        }
    }
}

/// How often the noise is far from its middle. Both have the same standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tails {
    Normal,
    /// Student's t with 3 degrees of freedom, of which one in 72 is beyond three standard
    /// deviations, against one in 370.
    Heavy,
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
    /// A first sample `excess` above the level, or below it where negative, which decays by a
    /// factor e every `decay` samples.
    WarmUp {
        excess: f64,
        decay: f64,
    },
    /// A first sample `deficit` below the level, which is reached along a straight line at share
    /// `until` of the series.
    Ramp {
        deficit: f64,
        until: f64,
    },
    /// From the sample at share `at` of the series on, `change` more on average, in a saw from
    /// half to one and a half times of it every `period` samples: a chip that heats up, throttles
    /// and heats up again.
    Throttling {
        change: f64,
        at: f64,
        period: usize,
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
    let mut noise = truth.tails.draw(random);
    let mut high = random.below(2) == 1;
    let level = truth.level * (truth.process_spread * random.normal()).exp();
    (0..truth.count)
        .map(|index| {
            if index > 0 {
                noise = truth.rho * noise + innovation * truth.tails.draw(random);
            }
            let clean = level * (1.0 + truth.noise * noise);
            let place = index as f64 / truth.count.saturating_sub(1).max(1) as f64;
            let value = match truth.fault {
                Fault::None => clean,
                Fault::Drift { change } => clean + level * change * place,
                Fault::Step { change, at } => {
                    let after = index as f64 >= at * truth.count as f64;
                    clean + if after { level * change } else { 0.0 }
                }
                Fault::WarmUp { excess, decay } => {
                    clean + level * excess * (-(index as f64) / decay).exp()
                }
                Fault::Ramp { deficit, until } => {
                    let done = (index as f64 / (until * truth.count as f64)).min(1.0);
                    clean - level * deficit * (1.0 - done)
                }
                Fault::Throttling { change, at, period } => {
                    let begin = (at * truth.count as f64).ceil() as usize;
                    let saw = index.checked_sub(begin).map_or(0.0, |since| {
                        0.5 + (since % period) as f64 / period.saturating_sub(1).max(1) as f64
                    });
                    clean + level * change * saw
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
                    clean + if high { level * gap } else { 0.0 }
                }
            };
            value.round().max(0.0) as u64
        })
        .collect()
}

impl Tails {
    /// Mean 0, standard deviation 1.
    fn draw(self, random: &mut Generator) -> f64 {
        match self {
            Self::Normal => random.normal(),
            // t = Z / sqrt((A^2 + B^2 + C^2) / 3) of four normal deviates, whose variance is 3.
            Self::Heavy => {
                let squares: f64 = (0..3).map(|_| random.normal().powi(2)).sum();
                random.normal() / squares.sqrt()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;

    fn of(fault: Fault, noise: f64, rho: f64, count: usize) -> Vec<f64> {
        drawn(&Series {
            rho,
            fault,
            ..Series::steady(count, 1e6, noise)
        })
    }

    fn drawn(truth: &Series) -> Vec<f64> {
        let samples = series(truth, &mut Generator::new(1));
        samples.into_iter().map(|x| x as f64).collect()
    }

    #[test]
    fn heavy_tails_have_the_stated_deviation_and_share() {
        let n = 200_000;
        let samples = drawn(&Series {
            tails: Tails::Heavy,
            ..Series::steady(n, 1e9, 0.01)
        });
        let beyond = |deviations: f64| {
            let far = samples
                .iter()
                .filter(|&x| (x / 1e9 - 1.0).abs() > 0.01 * deviations);
            far.count() as f64 / n as f64
        };
        // Of t with 3 degrees: P(|t| > sqrt(3) x) for x = 1 and 3; four standard errors each.
        assert!((beyond(1.0) - 0.181_69).abs() < 0.0035, "{}", beyond(1.0));
        assert!((beyond(3.0) - 0.013_85).abs() < 0.0011, "{}", beyond(3.0));
    }

    #[test]
    fn every_process_has_its_own_level() {
        let logs: Vec<f64> = (0..5_000)
            .map(|process| {
                let truth = Series {
                    process_spread: 0.05,
                    ..Series::steady(2, 1e9, 0.0)
                };
                let samples = series(&truth, &mut Generator::stream(1, process));
                assert_eq!(samples[0], samples[1]);
                (samples[0] as f64 / 1e9).ln()
            })
            .collect();
        let sd = stats::standard_deviation(&logs).unwrap();
        // Four standard errors.
        assert!((sd - 0.05).abs() < 0.002, "{sd}");
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
            Fault::Ramp {
                deficit: 0.5,
                until: 0.4,
            },
            &[0.5e6, 0.75e6, 1e6, 1e6, 1e6],
        );
        check(
            Fault::Throttling {
                change: 0.1,
                at: 0.3,
                period: 2,
            },
            &[1e6, 1e6, 1.05e6, 1.15e6, 1.05e6],
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
