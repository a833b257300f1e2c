//! How often the decision is right, by simulation of runs of known truth.

use serde::Serialize;

use super::{
    Better, Circumstances, Comparison, Design, Metric, MetricNoise, NoiseFloor, Run, Verdict,
    compare,
};
use crate::parallel;
use crate::random::Generator;
use crate::rules::ComparisonRules;

/// The truth that runs are drawn from. All spreads are relative to the level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scenario {
    /// Runs in each arm.
    pub runs: usize,
    /// Metrics compared, independent of each other, which is the worst case for false alarms.
    pub metrics: usize,
    /// How many of them have the effect.
    pub shifted: usize,
    /// True change for the worse of the shifted metrics, as a ratio less 1.
    pub effect: f64,
    /// Standard deviation between processes.
    pub process_sd: f64,
    /// Values in each process, and their standard deviation within it.
    pub windows: usize,
    pub window_sd: f64,
    /// Autocorrelation of neighbouring windows, AR(1).
    pub autocorrelation: f64,
    pub design: Design,
    /// Runs that the machine's noise floor was measured with, anew in each simulation; 0 for
    /// no floor.
    pub floor_runs: usize,
}

/// How often each thing happened, out of `simulations` comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    pub simulations: u32,
    /// Comparisons with at least one metric whose verdict the truth contradicts: regressed
    /// where the truth is not worse, improved where it is not better, changed but small where
    /// there is no change or one of at least the practical limit, equivalent where there is
    /// one of at least the practical limit.
    pub false_alarms: u32,
    /// Comparisons in which every shifted metric was found regressed.
    pub found: u32,
    /// Final verdicts of the comparisons.
    pub overall: Verdicts,
    /// Verdicts of the metrics that have the effect.
    pub shifted: Verdicts,
    /// Verdicts of the others.
    pub unshifted: Verdicts,
}

/// Counts by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Verdicts {
    pub regressed: u32,
    pub improved: u32,
    pub equivalent: u32,
    pub changed_but_small: u32,
    pub inconclusive: u32,
}

/// Draws and compares `simulations` times. The rates depend on the scenario, the seed and the
/// rules, and on nothing else, whatever the number of processors.
///
/// # Panics
///
/// If the scenario has no metrics, runs or windows.
pub fn simulate(
    scenario: &Scenario,
    rules: &ComparisonRules,
    simulations: u32,
    seed: u64,
) -> Rates {
    let mut rates = Rates {
        simulations,
        ..Rates::default()
    };
    let comparisons = parallel::map(simulations, |index| {
        let mut random = Generator::stream(seed, u64::from(index));
        scenario.draw_comparison(rules, &mut random)
    });
    for comparison in comparisons {
        rates.overall.count(&comparison.verdict);
        let (shifted, unshifted) = comparison.metrics.split_at(scenario.shifted);
        let truths = [
            (shifted, scenario.effect, &mut rates.shifted),
            (unshifted, 0.0, &mut rates.unshifted),
        ];
        let mut wrong = false;
        for (metrics, effect, verdicts) in truths {
            for metric in metrics {
                wrong |= contradicts(&metric.verdict, effect, rules.practical);
                verdicts.count(&metric.verdict);
            }
        }
        rates.false_alarms += u32::from(wrong);
        let found = shifted
            .iter()
            .all(|metric| metric.verdict == Verdict::Regressed);
        rates.found += u32::from(found && !shifted.is_empty());
    }
    rates
}

/// The table's cells: identical runs over numbers of runs, autocorrelations and spreads between
/// processes, and true changes over their sizes and numbers of runs.
pub fn grid() -> Vec<Scenario> {
    /// Standard deviation of windows within a run.
    const WINDOW_SD: f64 = 0.01;
    /// Spread of a user's runs in the cells with a true change.
    const RUN_CV: f64 = 0.01;
    let still = Scenario {
        runs: 8,
        metrics: 7,
        shifted: 0,
        effect: 0.0,
        process_sd: 0.0,
        windows: 20,
        window_sd: WINDOW_SD,
        autocorrelation: 0.0,
        design: Design::Independent,
        floor_runs: 0,
    };
    let mut grid = Vec::new();
    for runs in [5, 8] {
        for autocorrelation in [0.0, 0.3, 0.6] {
            for spread in [0.0, 0.25, 0.5, 1.0] {
                grid.push(Scenario {
                    runs,
                    autocorrelation,
                    process_sd: spread * WINDOW_SD,
                    ..still
                });
            }
        }
    }
    let noisy = |runs, design, floor_runs| {
        let scenario = Scenario {
            runs,
            design,
            floor_runs,
            autocorrelation: 0.3,
            ..still
        };
        scenario.with_run_cv(RUN_CV).expect("windows spread less")
    };
    let plain = Design::Independent;
    for (runs, design) in [
        (2, plain),
        (3, plain),
        (16, plain),
        (16, Design::Interleaved),
    ] {
        grid.push(noisy(runs, design, 0));
    }
    for (effect, shifted) in [(0.01, 7), (0.02, 7), (0.03, 1), (0.03, 7), (0.05, 1)] {
        for runs in [5, 8, 10] {
            grid.push(Scenario {
                effect,
                shifted,
                ..noisy(runs, plain, 0)
            });
        }
    }
    for (runs, design, floor_runs) in [
        (8, plain, 10),
        (8, plain, 20),
        (8, Design::Interleaved, 0),
        (10, Design::Interleaved, 0),
        (12, Design::Interleaved, 0),
    ] {
        grid.push(Scenario {
            effect: 0.03,
            shifted: 1,
            ..noisy(runs, design, floor_runs)
        });
    }
    grid
}

impl Scenario {
    /// Relative standard deviation of a process's value: what a user sees as the spread
    /// between runs.
    pub fn run_cv(&self) -> f64 {
        (self.process_sd.powi(2) + self.window_mean_variance()).sqrt()
    }

    /// This scenario with the spread between processes that gives [`Scenario::run_cv`]; `None`
    /// where the windows alone spread more.
    pub fn with_run_cv(self, cv: f64) -> Option<Self> {
        let variance = cv.powi(2) - self.window_mean_variance();
        (variance >= 0.0).then(|| Self {
            process_sd: variance.sqrt(),
            ..self
        })
    }

    /// Variance of the mean of a process's windows: of n stationary AR(1) values,
    /// s^2 / n (1 + 2 sum over k of (1 - k / n) r^k).
    fn window_mean_variance(&self) -> f64 {
        let n = self.windows as f64;
        let sum: f64 = (1..self.windows)
            .map(|lag| (1.0 - lag as f64 / n) * self.autocorrelation.powi(lag as i32))
            .sum();
        self.window_sd.powi(2) / n * (1.0 + 2.0 * sum)
    }

    fn draw_comparison(&self, rules: &ComparisonRules, random: &mut Generator) -> Comparison {
        let mut noise = NoiseFloor::default();
        let metrics: Vec<Metric> = (0..self.metrics)
            .map(|index| {
                let name = index.to_string();
                if self.floor_runs > 0 {
                    let values: Vec<f64> = (0..self.floor_runs)
                        .map(|_| self.draw_run(random).value)
                        .collect();
                    noise
                        .metrics
                        .extend(MetricNoise::of(&values).map(|measured| (name.clone(), measured)));
                }
                let effect = if index < self.shifted {
                    self.effect
                } else {
                    0.0
                };
                let mut arm = |level| -> Vec<Run> {
                    let value = |_| Run {
                        value: level * self.draw_run(random).value,
                        // The bootstrap decides nothing.
                        windows: Vec::new(),
                    };
                    (0..self.runs).map(value).collect()
                };
                Metric {
                    name,
                    better: Better::Lower,
                    practical: None,
                    baseline: arm(1.0),
                    candidate: arm(1.0 + effect),
                }
            })
            .collect();
        let circumstances = Circumstances::default();
        compare(&metrics, self.design, &circumstances, Some(&noise), rules)
            .expect("simulated values are positive")
    }

    /// One process: the mean of its windows, and the windows.
    pub(super) fn draw_run(&self, random: &mut Generator) -> Run {
        let windows = self.draw_windows(random);
        Run {
            value: windows.iter().sum::<f64>() / windows.len() as f64,
            windows,
        }
    }

    /// One process's windows around 1: its own level times stationary AR(1) noise.
    fn draw_windows(&self, random: &mut Generator) -> Vec<f64> {
        let level = (self.process_sd * random.normal()).exp();
        let innovation = (1.0 - self.autocorrelation.powi(2)).sqrt();
        let mut state = random.normal();
        (0..self.windows)
            .map(|_| {
                let value = level * (self.window_sd * state).exp();
                state = self.autocorrelation * state + innovation * random.normal();
                value
            })
            .collect()
    }
}

impl Verdicts {
    fn count(&mut self, verdict: &Verdict) {
        *match verdict {
            Verdict::Regressed => &mut self.regressed,
            Verdict::Improved => &mut self.improved,
            Verdict::Equivalent => &mut self.equivalent,
            Verdict::ChangedButSmall => &mut self.changed_but_small,
            Verdict::Inconclusive { .. } => &mut self.inconclusive,
            Verdict::Void { .. } | Verdict::NotComparable { .. } => {
                unreachable!("simulated runs are comparable")
            }
        } += 1;
    }
}

/// Whether a verdict is wrong, given the true change for the worse.
fn contradicts(verdict: &Verdict, effect: f64, practical: f64) -> bool {
    // The practical limit is a ratio either way.
    let large = effect.ln_1p().abs() >= practical.ln_1p();
    match verdict {
        Verdict::Regressed => effect <= 0.0,
        Verdict::Improved => effect >= 0.0,
        Verdict::ChangedButSmall => effect == 0.0 || large,
        Verdict::Equivalent => large,
        Verdict::Inconclusive { .. } | Verdict::Void { .. } | Verdict::NotComparable { .. } => {
            false
        }
    }
}
