//! How often the detectors of one run are right: series of known truth, judged as a run is.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::thread;

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

use crate::random::Generator;
use crate::rules::Rules;
use crate::synthetic::{self, Fault, Series};
use crate::{leak, steadiness};

/// Who judges the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    Steadiness,
    Leak,
}

/// One cell of the table: a truth, and the verdicts on it that are right.
#[derive(Clone, Debug)]
pub struct Cell {
    pub detector: Detector,
    pub truth: Series,
    pub right: Vec<Verdict>,
}

/// A final verdict, of either detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Verdict {
    Steadiness(steadiness::Verdict),
    Leak(leak::Verdict),
}

/// How often each verdict was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub runs: u32,
    /// Runs whose final verdict was right.
    pub right: u32,
    pub verdicts: BTreeMap<Verdict, u32>,
}

impl Outcome {
    /// Share of right verdicts: the power where a fault was planted.
    pub fn power(&self) -> f64 {
        f64::from(self.right) / f64::from(self.runs.max(1))
    }

    /// Share of wrong verdicts: the false alarms where no fault was planted.
    pub fn wrong(&self) -> f64 {
        1.0 - self.power()
    }

    /// What the rate of wrong verdicts is at least, with the given confidence (Clopper and
    /// Pearson 1934, doi:10.1093/biomet/26.4.404).
    pub fn wrong_at_least(&self, confidence: f64) -> f64 {
        let wrong = f64::from(self.runs - self.right);
        Beta::new(wrong, f64::from(self.right) + 1.0)
            .map_or(0.0, |beta| beta.inverse_cdf(1.0 - confidence))
    }
}

/// Simulates a cell `runs` times. The outcome depends on the cell, the seed and the rules, and on
/// nothing else, whatever the number of processors.
pub fn simulate(cell: &Cell, runs: u32, seed: u64, rules: &Rules) -> Outcome {
    let workers = thread::available_parallelism().map_or(1, NonZero::get) as u32;
    let verdicts: Vec<Verdict> = thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let members = (worker..runs).step_by(workers as usize);
                scope.spawn(move || {
                    members
                        .map(|run| judge(cell, seed, run, rules))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| {
                handle
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let mut outcome = Outcome {
        runs,
        right: 0,
        verdicts: BTreeMap::new(),
    };
    for verdict in verdicts {
        outcome.right += u32::from(cell.right.contains(&verdict));
        *outcome.verdicts.entry(verdict).or_default() += 1;
    }
    outcome
}

fn judge(cell: &Cell, seed: u64, run: u32, rules: &Rules) -> Verdict {
    let mut random = Generator::stream(seed, u64::from(run));
    let samples = synthetic::series(&cell.truth, &mut random);
    match cell.detector {
        Detector::Steadiness => {
            Verdict::Steadiness(steadiness::judge(&samples, &rules.steadiness).verdict)
        }
        Detector::Leak => {
            let readings: Vec<(u32, u64)> = (1..).zip(samples).collect();
            Verdict::Leak(leak::judge(&readings, &rules.leak).verdict)
        }
    }
}

const STEP_NS: f64 = 20e6;
const MEMORY: f64 = 2.5 * 1024.0 * MIB;
const MIB: f64 = 1_048_576.0;

/// The table's cells: no fault and every fault, over lengths, noises and autocorrelations.
pub fn grid() -> Vec<Cell> {
    use leak::Verdict as L;
    use steadiness::Verdict as S;
    let times = |fault, right: &[S], noise, rho, count| Cell {
        detector: Detector::Steadiness,
        truth: Series {
            count,
            level: STEP_NS,
            noise,
            rho,
            fault,
        },
        right: right
            .iter()
            .map(|&verdict| Verdict::Steadiness(verdict))
            .collect(),
    };
    let memory = |fault, right: &[L], rho, count| Cell {
        detector: Detector::Leak,
        truth: Series {
            count,
            level: MEMORY,
            noise: 0.01,
            rho,
            fault,
        },
        right: right
            .iter()
            .map(|&verdict| Verdict::Leak(verdict))
            .collect(),
    };
    let slower = [S::SlowingDown, S::Shifted];
    let mut cells = Vec::new();
    for rho in [0.0, 0.3, 0.6] {
        for count in [100, 500, 2000] {
            for noise in [0.01, 0.03] {
                cells.push(times(Fault::None, &[S::Steady], noise, rho, count));
            }
            let faults: [(Fault, &[S]); 8] = [
                (
                    Fault::Outliers {
                        one_in: 100,
                        factor: 5.0,
                    },
                    &[S::Steady],
                ),
                (
                    Fault::WarmUp {
                        excess: 0.5,
                        decay: 5.0,
                    },
                    &[S::Steady],
                ),
                (
                    Fault::WarmUp {
                        excess: 0.5,
                        decay: count as f64 / 3.0,
                    },
                    &[S::WarmingUp],
                ),
                (Fault::Drift { change: 0.03 }, &slower),
                (Fault::Drift { change: 0.05 }, &[S::SlowingDown]),
                (
                    Fault::Step {
                        change: 0.03,
                        at: 0.5,
                    },
                    &[S::Shifted],
                ),
                (
                    Fault::Step {
                        change: 0.05,
                        at: 0.7,
                    },
                    &[S::Shifted],
                ),
                (
                    Fault::Bimodal {
                        gap: 0.2,
                        stay: count as f64 / 20.0,
                    },
                    &[S::NoSteadyState, S::Shifted, S::SlowingDown, S::WarmingUp],
                ),
            ];
            for (fault, right) in faults {
                cells.push(times(fault, right, 0.01, rho, count));
            }
        }
        for count in [100, 200, 500, 2000] {
            cells.push(memory(Fault::None, &[L::Flat], rho, count));
            // The same growth over the run at every length: 0.5 MiB an iteration over 200.
            let per_sample = 100.0 * MIB / count as f64;
            cells.push(memory(Fault::Leak { per_sample }, &[L::Leak], rho, count));
            let stairs = Fault::Staircase {
                step: 150.0 * MIB,
                steps: 3,
            };
            cells.push(memory(stairs, &[L::Staircase], rho, count));
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_planted_raises_no_more_alarms_than_allowed() {
        for cell in grid() {
            if cell.truth.fault == Fault::None && cell.truth.count <= 200 {
                let outcome = simulate(&cell, 200, 1, &Rules::default());
                assert!(
                    outcome.wrong_at_least(0.999) <= 0.05,
                    "{cell:?}: {outcome:?}"
                );
            }
        }
    }

    #[test]
    fn a_planted_leak_of_half_a_mebibyte_is_found() {
        let leaks =
            |cell: &Cell| matches!(cell.truth.fault, Fault::Leak { .. }) && cell.truth.count == 200;
        for cell in grid().into_iter().filter(leaks) {
            let outcome = simulate(&cell, 200, 2, &Rules::default());
            // 95 % less three binomial standard deviations.
            assert!(outcome.power() >= 0.904, "{cell:?}: {outcome:?}");
        }
    }

    #[test]
    fn the_outcome_is_fixed_by_the_seed() {
        let cell = &grid()[1];
        let rules = Rules::default();
        assert_eq!(simulate(cell, 20, 3, &rules), simulate(cell, 20, 3, &rules));
        assert_eq!(simulate(cell, 20, 3, &rules).runs, 20);
    }

    #[test]
    fn the_binomial_bound_is_the_exact_one() {
        let outcome = |right| Outcome {
            runs: 20,
            right,
            verdicts: BTreeMap::new(),
        };
        // R: binom.test(3, 20, alternative = "greater", conf.level = 0.95).
        assert!((outcome(17).wrong_at_least(0.95) - 0.042_169_41).abs() < 1e-6);
        assert_eq!(outcome(20).wrong_at_least(0.95), 0.0);
    }
}
