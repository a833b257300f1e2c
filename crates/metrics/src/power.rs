//! How often verdicts are right: the table of false alarms and power.
//!
//! A cell is a truth that is drawn again and again, and judged as a run or a set of runs is. Where
//! nothing is planted, every wrong final verdict is a false alarm; where something is, the share
//! of right ones is the power.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

use crate::comparison::simulation::Scenario;
use crate::comparison::{self, Design};
use crate::leak;
use crate::rules::Rules;
use crate::simulation::{self, Detector};
use crate::synthetic::Fault;

/// The seed of the table. The thresholds were chosen with [`TUNING_SEED`], so that the table does
/// not judge them by the draws that they were made for.
pub const SEED: u64 = 20_261_122;

/// The seed that the thresholds were chosen with.
pub const TUNING_SEED: u64 = 20_260_701;

/// The most false alarms, as a share of simulations.
pub const FALSE_ALARMS: f64 = 0.05;

/// The least power in the cells that have a target.
pub const POWER: f64 = 0.95;

/// Confidence with which a cell must have too many false alarms for the table to fail. With 5 %
/// in every one of a hundred cells, one table in ten would fail by chance.
pub const FAILURE_CONFIDENCE: f64 = 0.999;

/// A rate of false alarms needs more simulations than a power: it is the smaller of the two.
const MORE_WHERE_NOTHING_IS_PLANTED: u32 = 10;

/// The figures of all cells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Of lfmark.
    pub version: String,
    pub seed: u64,
    /// Of a cell where something is planted.
    pub simulations: u32,
    pub rules: Rules,
    pub rows: Vec<Row>,
}

/// One cell of the table, not yet simulated.
#[derive(Clone, Debug)]
pub enum Cell {
    Run(Box<simulation::Cell>),
    Comparison(Scenario),
}

/// Who gave the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    Steadiness,
    Leak,
    Comparison,
}

/// Figures of one cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub judge: Judge,
    /// What is planted, in words.
    pub planted: String,
    /// Whether that is nothing, so that a wrong verdict is a false alarm.
    pub nothing: bool,
    /// Whether the verdicts are those of a report. Other rows show what another method would
    /// have said, and have no target.
    pub decides: bool,
    /// Whether the power is to be [`POWER`] or more, where the verdicts decide.
    pub has_power_target: bool,
    /// Iterations of a run, or runs in each arm of a comparison.
    pub size: usize,
    /// Relative standard deviation: of iterations, or of the runs of an arm.
    pub noise: f64,
    /// Autocorrelation of iterations, or of the windows of a run.
    pub rho: f64,
    /// Standard deviation between processes over that within one.
    pub spread: f64,
    pub simulations: u32,
    /// Simulations whose final verdict was right. Of a comparison with nothing planted these are
    /// those without a wrong verdict on any metric.
    pub right: u32,
    /// Comparisons that found the change in every metric that has it.
    pub all_found: Option<u32>,
    /// Final verdicts that were given, in words, and how often.
    pub verdicts: Vec<(String, u32)>,
}

/// Every cell, in the order of the table: by judge.
pub fn cells() -> Vec<Cell> {
    let mut runs = simulation::grid();
    runs.sort_by_key(|cell| cell.detector != Detector::Steadiness);
    let runs = runs.into_iter().map(|cell| Cell::Run(Box::new(cell)));
    let comparisons = comparison::simulation::grid().into_iter();
    runs.chain(comparisons.map(Cell::Comparison)).collect()
}

impl Cell {
    /// How often the cell is simulated in a table of `planted` simulations a cell: ten times as
    /// often where nothing is planted.
    pub fn simulations(&self, planted: u32) -> u32 {
        let nothing = match self {
            Self::Run(cell) => cell.nothing_planted(),
            Self::Comparison(scenario) => scenario.shifted == 0,
        };
        match nothing {
            true => planted.saturating_mul(MORE_WHERE_NOTHING_IS_PLANTED),
            false => planted,
        }
    }

    /// Simulates the cell. The figures depend on the cell, the number, the seed and the rules, and
    /// on nothing else.
    pub fn simulate(&self, simulations: u32, seed: u64, rules: &Rules) -> Row {
        match self {
            Self::Run(cell) => of_run(cell, simulations, seed, rules),
            Self::Comparison(scenario) => of_comparison(scenario, simulations, seed, rules),
        }
    }
}

fn of_run(cell: &simulation::Cell, simulations: u32, seed: u64, rules: &Rules) -> Row {
    let outcome = simulation::simulate(cell, simulations, seed, rules);
    let truth = cell.truth;
    Row {
        judge: match cell.detector {
            Detector::Steadiness => Judge::Steadiness,
            Detector::Leak => Judge::Leak,
        },
        planted: cell.planted.clone(),
        nothing: cell.nothing_planted(),
        decides: cell.method == leak::Method::Bootstrap,
        has_power_target: is_the_leak_to_find(cell),
        size: truth.count,
        noise: truth.noise,
        rho: truth.rho,
        spread: truth.process_spread / truth.noise,
        simulations,
        right: outcome.right,
        all_found: None,
        verdicts: outcome
            .verdicts
            .iter()
            .map(|(verdict, &count)| {
                let word = match verdict {
                    simulation::Verdict::Steadiness(verdict) => verdict.word(),
                    simulation::Verdict::Leak(verdict) => verdict.word(),
                };
                (word.to_owned(), count)
            })
            .collect(),
    }
}

/// 0.5 MiB an iteration in 200 iterations, at a level of 2.5 GiB with noise of 1 %.
fn is_the_leak_to_find(cell: &simulation::Cell) -> bool {
    const MIB: f64 = 1_048_576.0;
    let truth = cell.truth;
    truth.fault
        == Fault::Leak {
            per_sample: 0.5 * MIB,
        }
        && (truth.count, truth.level, truth.noise) == (200, 2560.0 * MIB, 0.01)
}

fn of_comparison(scenario: &Scenario, simulations: u32, seed: u64, rules: &Rules) -> Row {
    let rates = comparison::simulation::simulate(scenario, &rules.comparison, simulations, seed);
    let nothing = scenario.shifted == 0;
    let verdicts = rates.overall;
    let small = scenario.effect < rules.comparison.practical;
    let given = [
        ("regressed", verdicts.regressed),
        ("improved", verdicts.improved),
        ("equivalent", verdicts.equivalent),
        ("changed but small", verdicts.changed_but_small),
        ("inconclusive", verdicts.inconclusive),
    ];
    Row {
        judge: Judge::Comparison,
        planted: planted(scenario),
        nothing,
        decides: true,
        has_power_target: scenario.effect == 0.03
            && scenario.runs == 8
            && (scenario.run_cv() - 0.01).abs() < 1e-9,
        size: scenario.runs,
        noise: scenario.run_cv(),
        rho: scenario.autocorrelation,
        spread: scenario.process_sd / scenario.window_sd,
        simulations,
        right: match (nothing, small) {
            (true, _) => simulations - rates.false_alarms,
            (false, true) => verdicts.equivalent + verdicts.changed_but_small,
            (false, false) => verdicts.regressed,
        },
        all_found: (!nothing && !small).then_some(rates.found),
        verdicts: given
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| (word.to_owned(), count))
            .collect(),
    }
}

fn planted(scenario: &Scenario) -> String {
    let mut text = match scenario.shifted {
        0 => format!("nothing in {} metrics", scenario.metrics),
        shifted => format!(
            "{:+} % in {shifted} of {} metrics",
            (100.0 * scenario.effect * 100.0).round() / 100.0,
            scenario.metrics
        ),
    };
    if scenario.design == Design::Interleaved {
        text += ", in pairs";
    }
    if scenario.floor_runs > 0 {
        text += &format!(", noise floor of {} runs", scenario.floor_runs);
    }
    text
}

impl Row {
    /// Share of wrong verdicts where nothing is planted, and of right ones where something is.
    pub fn rate(&self) -> f64 {
        f64::from(self.counted()) / f64::from(self.simulations.max(1))
    }

    /// Interval of [`Row::rate`] with this confidence.
    pub fn interval(&self, confidence: f64) -> (f64, f64) {
        let each_side = 0.5 + confidence / 2.0;
        let (count, of) = (self.counted(), self.simulations);
        (
            at_least(count, of, each_side),
            at_most(count, of, each_side),
        )
    }

    /// What [`Row::rate`] is at least, with this confidence.
    pub fn at_least(&self, confidence: f64) -> f64 {
        at_least(self.counted(), self.simulations, confidence)
    }

    /// Whether the cell surely has more false alarms than are allowed.
    pub fn fails(&self) -> bool {
        self.nothing && self.decides && self.at_least(FAILURE_CONFIDENCE) > FALSE_ALARMS
    }

    /// Whether the cell is on the right side of its target; `None` for one that has none.
    pub fn meets_target(&self) -> Option<bool> {
        match (self.decides, self.nothing, self.has_power_target) {
            (true, true, _) => Some(self.rate() <= FALSE_ALARMS),
            (true, false, true) => Some(self.rate() >= POWER),
            _ => None,
        }
    }

    fn counted(&self) -> u32 {
        match self.nothing {
            true => self.simulations - self.right,
            false => self.right,
        }
    }
}

/// What the probability of something that happened `count` times is at least (Clopper and
/// Pearson 1934, doi:10.1093/biomet/26.4.404).
fn at_least(count: u32, of: u32, confidence: f64) -> f64 {
    // The distribution exists unless nothing happened.
    Beta::new(f64::from(count), f64::from(of - count) + 1.0)
        .map_or(0.0, |beta| beta.inverse_cdf(1.0 - confidence))
}

fn at_most(count: u32, of: u32, confidence: f64) -> f64 {
    1.0 - at_least(of - count, of, confidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(nothing: bool, right: u32, simulations: u32) -> Row {
        Row {
            judge: Judge::Leak,
            planted: String::new(),
            nothing,
            decides: true,
            has_power_target: !nothing,
            size: 200,
            noise: 0.01,
            rho: 0.0,
            spread: 0.0,
            simulations,
            right,
            all_found: None,
            verdicts: Vec::new(),
        }
    }

    #[test]
    fn bounds_are_the_exact_binomial_ones() {
        // SciPy: binomtest(3, 20).proportion_ci(), and beta.ppf(0.05, 3, 18).
        let three = row(true, 17, 20);
        let (low, high) = three.interval(0.95);
        assert!((low - 0.032_070_94).abs() < 1e-6, "{low}");
        assert!((high - 0.378_926_8).abs() < 1e-6, "{high}");
        assert!((three.at_least(0.95) - 0.042_169_41).abs() < 1e-6);
        // All or nothing: 1 - 0.025^(1 / 20).
        let (low, high) = row(true, 20, 20).interval(0.95);
        assert_eq!(low, 0.0);
        assert!((high - 0.168_433_5).abs() < 1e-6, "{high}");
        let (low, high) = row(false, 20, 20).interval(0.95);
        assert!((low - 0.831_566_5).abs() < 1e-6, "{low}");
        assert_eq!(high, 1.0);
    }

    #[test]
    fn a_cell_fails_only_where_chance_does_not_explain_it() {
        // SciPy: beta.ppf(0.001, 22, 179) = 0.0529, and with 21 and 180: 0.0494.
        assert!(row(true, 178, 200).fails());
        assert!(!row(true, 179, 200).fails());
        assert!(!row(false, 0, 200).fails());
        assert_eq!(row(true, 179, 200).meets_target(), Some(false));
        assert_eq!(row(true, 190, 200).meets_target(), Some(true));
        assert_eq!(row(false, 190, 200).meets_target(), Some(true));
        assert_eq!(row(false, 189, 200).meets_target(), Some(false));
        let shown = Row {
            decides: false,
            ..row(true, 100, 200)
        };
        assert!(!shown.fails());
        assert_eq!(shown.meets_target(), None);
    }

    #[test]
    fn a_row_is_fixed_by_cell_and_seed() {
        let rules = Rules::default();
        let mut seen = [false; 3];
        for cell in cells() {
            let judge = cell.simulate(0, SEED, &rules).judge as usize;
            if !std::mem::replace(&mut seen[judge], true) {
                let row = cell.simulate(12, SEED, &rules);
                assert_eq!(row, cell.simulate(12, SEED, &rules));
                let given: u32 = row.verdicts.iter().map(|(_, count)| count).sum();
                assert_eq!((row.simulations, given), (12, 12));
            }
        }
        assert_eq!(seen, [true; 3]);
    }

    #[test]
    fn the_table_holds_the_cells_that_have_targets() {
        let rows: Vec<Row> = cells()
            .iter()
            .map(|cell| cell.simulate(0, SEED, &Rules::default()))
            .collect();
        let targeted = |judge: Judge| -> Vec<(usize, f64)> {
            rows.iter()
                .filter(|row| row.judge == judge && row.has_power_target && row.decides)
                .map(|row| (row.size, row.rho))
                .collect()
        };
        let leaks = targeted(Judge::Leak);
        assert!(
            leaks.contains(&(200, 0.0)) && leaks.contains(&(200, 0.6)),
            "{leaks:?}"
        );
        assert!(!targeted(Judge::Comparison).is_empty());
        for judge in [Judge::Steadiness, Judge::Leak, Judge::Comparison] {
            for rho in [0.0, 0.3, 0.6] {
                let is = |row: &&Row| row.judge == judge && row.nothing && row.rho == rho;
                assert!(rows.iter().any(|row| is(&row)), "{judge:?} {rho}");
            }
        }
    }

    #[test]
    fn ten_times_as_many_simulations_where_nothing_is_planted() {
        for cell in cells() {
            let nothing = cell.simulate(0, SEED, &Rules::default()).nothing;
            assert_eq!(cell.simulations(7), if nothing { 70 } else { 7 });
        }
    }
}
