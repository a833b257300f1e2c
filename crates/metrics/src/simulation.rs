//! How often the detectors of one run are right: series of known truth, judged as a run is.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::random::Generator;
use crate::rules::Rules;
use crate::synthetic::{self, Fault, Series, Tails};
use crate::{leak, parallel, steadiness};

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
    /// Whose interval decides whether memory grows.
    pub method: leak::Method,
    /// What is planted and how much of it, and what else sets the cell apart, in words.
    pub planted: String,
    /// Step times, or active memory.
    pub truth: Series,
    /// Cache and footprint of the same run, where the verdict is on the whole run.
    pub beside: Option<Box<[Series; 2]>>,
    pub right: Vec<Verdict>,
}

/// A final verdict, of either detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Verdict {
    Steadiness(steadiness::Verdict),
    Leak(leak::Verdict),
}

impl Cell {
    /// Whether no series has a fault, so that every wrong verdict is a false alarm.
    pub fn nothing_planted(&self) -> bool {
        let beside = self.beside.iter().flat_map(|series| series.iter());
        let mut all = std::iter::once(&self.truth).chain(beside);
        all.all(|truth| truth.fault == Fault::None)
    }
}

/// How often each verdict was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub runs: u32,
    /// Runs whose final verdict was right.
    pub right: u32,
    pub verdicts: BTreeMap<Verdict, u32>,
}

/// Simulates a cell `runs` times. The outcome depends on the cell, the seed and the rules, and on
/// nothing else, whatever the number of processors.
pub fn simulate(cell: &Cell, runs: u32, seed: u64, rules: &Rules) -> Outcome {
    let mut outcome = Outcome {
        runs,
        right: 0,
        verdicts: BTreeMap::new(),
    };
    for verdict in parallel::map(runs, |run| judge(cell, seed, run, rules)) {
        outcome.right += u32::from(cell.right.contains(&verdict));
        *outcome.verdicts.entry(verdict).or_default() += 1;
    }
    outcome
}

fn judge(cell: &Cell, seed: u64, run: u32, rules: &Rules) -> Verdict {
    let mut random = Generator::stream(seed, u64::from(run));
    let mut draw = |truth: &Series| synthetic::series(truth, &mut random);
    match cell.detector {
        Detector::Steadiness => {
            let times = draw(&cell.truth);
            Verdict::Steadiness(steadiness::judge(&times, &rules.steadiness).verdict)
        }
        Detector::Leak => {
            let mut growth = |truth: &Series| {
                let readings: Vec<(u32, u64)> = (1..).zip(draw(truth)).collect();
                leak::judge_by(&readings, &rules.leak, cell.method)
            };
            let active = growth(&cell.truth);
            let beside = cell
                .beside
                .as_ref()
                .map(|series| series.each_ref().map(growth));
            let [cache, footprint] = match &beside {
                Some([cache, footprint]) => [Some(cache), Some(footprint)],
                None => [None, None],
            };
            Verdict::Leak(leak::verdict(&active, cache, footprint))
        }
    }
}

const STEP_NS: f64 = 20e6;
const MIB: f64 = 1_048_576.0;
const ACTIVE: f64 = 2.5 * 1024.0 * MIB;
const CACHE: f64 = 1024.0 * MIB;
const FOOTPRINT: f64 = 4096.0 * MIB;

/// Standard deviation of the noise, unless a cell says otherwise.
const NOISE: f64 = 0.01;

/// The table's cells: no fault and every fault, over lengths, noises and autocorrelations.
pub fn grid() -> Vec<Cell> {
    let mut cells = Vec::new();
    for rho in [0.0, 0.3, 0.6] {
        for count in [100, 500, 2000] {
            cells.extend(times(count, rho));
        }
        for count in [100, 200, 500, 2000] {
            cells.extend(memory(count, rho));
        }
    }
    cells
}

fn times(count: usize, rho: f64) -> Vec<Cell> {
    use steadiness::Verdict::{NoSteadyState, Shifted, SlowingDown, Steady, WarmingUp};
    let base = Series {
        rho,
        ..Series::steady(count, STEP_NS, NOISE)
    };
    let cell = |planted: &str, truth: Series, right: &[steadiness::Verdict]| Cell {
        detector: Detector::Steadiness,
        method: leak::Method::Bootstrap,
        planted: planted.to_owned(),
        truth,
        beside: None,
        right: right.iter().map(|&v| Verdict::Steadiness(v)).collect(),
    };
    let with = |fault| Series { fault, ..base };
    let heavy = |fault| Series {
        tails: Tails::Heavy,
        fault,
        ..base
    };
    let early = Fault::WarmUp {
        excess: 0.5,
        decay: 5.0,
    };
    let late = Fault::WarmUp {
        excess: 0.5,
        decay: count as f64 / 3.0,
    };
    let outliers = Fault::Outliers {
        one_in: 100,
        factor: 5.0,
    };
    let step = |change, at| Fault::Step { change, at };
    let drift = |change| Fault::Drift { change };
    let throttling = |change| Fault::Throttling {
        change,
        at: 0.5,
        period: count / 12,
    };
    let bimodal = Fault::Bimodal {
        gap: 0.2,
        stay: count as f64 / 20.0,
    };
    // A process is faster or slower than others as a whole; the samples of one vary as `NOISE`.
    let of_many = Series {
        process_spread: NOISE,
        ..base
    };
    let noisy = Series {
        noise: 0.03,
        ..base
    };
    let slower = [SlowingDown, Shifted];
    let unsteady = [NoSteadyState, Shifted, SlowingDown];
    vec![
        cell("nothing", base, &[Steady]),
        cell("nothing", noisy, &[Steady]),
        cell("nothing, processes differ", of_many, &[Steady]),
        cell("nothing, heavy tails", heavy(Fault::None), &[Steady]),
        cell(
            "outliers, 1 in 100 of five times",
            with(outliers),
            &[Steady],
        ),
        cell("early warm-up, from +50 %", with(early), &[Steady]),
        cell("warm-up that lasts, from +50 %", with(late), &[WarmingUp]),
        cell("drift, +3 %", with(drift(0.03)), &slower),
        cell("drift, +5 %", with(drift(0.05)), &[SlowingDown]),
        cell(
            "step, +3 % in the middle",
            with(step(0.03, 0.5)),
            &[Shifted],
        ),
        cell("step, +5 % at 70 %", with(step(0.05, 0.7)), &[Shifted]),
        cell("drift, +3 %, heavy tails", heavy(drift(0.03)), &slower),
        cell(
            "step, +3 % in the middle, heavy tails",
            heavy(step(0.03, 0.5)),
            &[Shifted],
        ),
        cell(
            "throttling, +5 % from the middle",
            with(throttling(0.05)),
            &unsteady,
        ),
        cell(
            "throttling, +10 % from the middle",
            with(throttling(0.1)),
            &unsteady,
        ),
        cell(
            "two levels, 20 % apart",
            with(bimodal),
            &[NoSteadyState, Shifted, SlowingDown, WarmingUp],
        ),
    ]
}

fn memory(count: usize, rho: f64) -> Vec<Cell> {
    use leak::Verdict::{CacheGrowth, Flat, Leak, Staircase};
    let of = |level, fault| Series {
        rho,
        fault,
        ..Series::steady(count, level, NOISE)
    };
    let cell = |planted: &str, fault, right| Cell {
        detector: Detector::Leak,
        method: leak::Method::Bootstrap,
        planted: planted.to_owned(),
        truth: of(ACTIVE, fault),
        beside: None,
        right: vec![Verdict::Leak(right)],
    };
    let run = |planted: &str, cache, footprint, right| Cell {
        beside: Some(Box::new([of(CACHE, cache), of(FOOTPRINT, footprint)])),
        ..cell(planted, Fault::None, right)
    };
    let by_sen = |cell: Cell| Cell {
        method: leak::Method::Sen,
        planted: cell.planted + ", by Sen's interval",
        ..cell
    };
    let heavy = |cell: Cell| Cell {
        truth: Series {
            tails: Tails::Heavy,
            ..cell.truth
        },
        planted: cell.planted + ", heavy tails",
        ..cell
    };
    // The same growth over the run at every length: 0.5 MiB an iteration over 200.
    let leak = Fault::Leak {
        per_sample: 100.0 * MIB / count as f64,
    };
    let stairs = Fault::Staircase {
        step: 150.0 * MIB,
        steps: 3,
    };
    let ramp = Fault::Ramp {
        deficit: 0.3,
        until: 0.1,
    };
    let filling = Fault::WarmUp {
        excess: -0.5,
        decay: 4.0,
    };
    vec![
        cell("nothing", Fault::None, Flat),
        by_sen(cell("nothing", Fault::None, Flat)),
        heavy(cell("nothing", Fault::None, Flat)),
        run("nothing in three series", Fault::None, Fault::None, Flat),
        by_sen(run(
            "nothing in three series",
            Fault::None,
            Fault::None,
            Flat,
        )),
        cell("ramp over the first tenth, from -30 %", ramp, Flat),
        cell("early warm-up, from -50 %", filling, Flat),
        cell("leak, 100 MiB over the run", leak, Leak),
        by_sen(cell("leak, 100 MiB over the run", leak, Leak)),
        heavy(cell("leak, 100 MiB over the run", leak, Leak)),
        cell("staircase, 3 steps of 150 MiB", stairs, Staircase),
        run(
            "cache growth, 100 MiB over the run",
            leak,
            leak,
            CacheGrowth,
        ),
        run(
            "leak outside MLX, 200 MiB over the run",
            Fault::None,
            doubled(leak),
            Leak,
        ),
    ]
}

fn doubled(leak: Fault) -> Fault {
    match leak {
        Fault::Leak { per_sample } => Fault::Leak {
            per_sample: 2.0 * per_sample,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: u32 = 100;

    /// Simulates the cells of this kind and requires that at least as many verdicts are right.
    fn check(least: u32, kind: impl Fn(&Cell) -> bool) {
        let cells: Vec<Cell> = grid().into_iter().filter(kind).collect();
        assert!(!cells.is_empty());
        for cell in cells {
            let outcome = simulate(&cell, RUNS, 1, &Rules::default());
            assert!(outcome.right >= least, "{cell:?}: {outcome:?}");
        }
    }

    #[test]
    fn nothing_planted_raises_no_more_alarms_than_allowed() {
        // 14 of 100 and more are above 5 % with a confidence of 99.9 % (Clopper and Pearson).
        check(RUNS - 13, |cell| {
            cell.nothing_planted() && cell.truth.count == 100
        });
    }

    #[test]
    fn a_planted_leak_of_half_a_mebibyte_is_found() {
        // 95 % less three binomial standard deviations.
        check(89, |cell| {
            matches!(cell.truth.fault, Fault::Leak { .. }) && cell.truth.count == 200
        });
    }

    #[test]
    fn growth_is_told_apart_by_the_series_that_grows() {
        check(89, |cell| {
            let truth = cell.truth;
            let planted = cell.beside.is_some() && !cell.nothing_planted();
            planted && (truth.count, truth.rho) == (200, 0.3)
        });
    }

    #[test]
    fn the_outcome_is_fixed_by_the_seed() {
        let cell = &grid()[1];
        let rules = Rules::default();
        assert_eq!(simulate(cell, 20, 3, &rules), simulate(cell, 20, 3, &rules));
        assert_eq!(simulate(cell, 20, 3, &rules).runs, 20);
    }

    #[test]
    fn cells_differ_in_words_or_circumstances() {
        let cells = grid();
        for (index, cell) in cells.iter().enumerate() {
            let same = |other: &&Cell| {
                let of = |cell: &Cell| (cell.truth.count, cell.truth.noise, cell.truth.rho);
                (cell.detector, &cell.planted, of(cell))
                    == (other.detector, &other.planted, of(other))
            };
            assert_eq!(cells[index..].iter().filter(same).count(), 1, "{cell:?}");
        }
    }
}
