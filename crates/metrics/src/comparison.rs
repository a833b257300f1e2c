//! The decision between two sets of runs.
//!
//! The unit of inference is the process: each contributes one value of each metric, and its
//! windows serve the bootstrap only, because windows of one process are not independent.
//! Everything is computed on the natural logarithm of the values, so that a change is a ratio,
//! the unit does not matter, and exchanging the arms turns every interval around.
//!
//! What decides is the t interval ([`MetricComparison::adjusted`]) and the equivalence test;
//! the bootstrap, the rank test and the effect sizes are shown beside it.

mod bootstrap;
mod estimate;
pub mod simulation;
mod spread;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::rules::ComparisonRules;
pub use crate::stats::rank::MannWhitney;
use crate::stats::rank::mann_whitney;
use estimate::{Estimate, Moments};
pub use spread::{Spread, spread};

/// Confidence of the intervals that are shown unadjusted.
const SHOWN_LEVEL: f64 = 0.95;

/// Runs an arm that a metric with one run in an arm is asked to reach: the fewest with which
/// a rank test can fall below 1 %.
const FEWEST_RUNS: u32 = 5;

/// Runs an arm from which arms without any spread are believed to have none, rather than to
/// have shown one of several states by chance.
const FEWEST_WITHOUT_SPREAD: usize = 3;

/// More additional runs than these are not worth naming.
const MOST_MORE_RUNS: u32 = 1_000;

/// Ratios computed from decimal figures meet a limit only up to rounding.
const ROUNDING: f64 = 1e-12;

/// The interval of the mean of differences of pairs, by Student's t; `None` of fewer than two.
pub(crate) fn paired_interval(differences: &[f64], level: f64) -> Option<(f64, f64)> {
    (differences.len() >= 2)
        .then(|| Estimate::paired(Moments::of(differences)))?
        .map(|estimate| estimate.interval(level))
}

/// Compares the arms in every metric.
///
/// `noise` is the machine's noise floor, where one was measured. Runs of different work get no
/// numbers; runs in a changed state of the machine get numbers and no verdict.
pub fn compare(
    metrics: &[Metric],
    design: Design,
    circumstances: &Circumstances,
    noise: Option<&NoiseFloor>,
    rules: &ComparisonRules,
) -> Result<Comparison, ComparisonError> {
    if metrics.is_empty() {
        return Err(ComparisonError::NoMetrics);
    }
    for metric in metrics {
        metric.validate(design)?;
    }
    if let Some(why) = &circumstances.different_work {
        let verdict = Verdict::NotComparable { why: why.clone() };
        return Ok(Comparison {
            verdict,
            metrics: Vec::new(),
        });
    }
    let tested: Vec<Tested> = metrics
        .iter()
        .map(|metric| Tested::new(metric, design, noise, rules))
        .collect();
    let ps: Vec<f64> = tested.iter().map(Tested::p).collect();
    let mut metrics: Vec<MetricComparison> = tested
        .iter()
        .zip(holm(&ps, rules.error_rate))
        .map(|(tested, holm)| tested.judge(holm, rules))
        .collect();
    if let Some(why) = &circumstances.machine_changed {
        for metric in &mut metrics {
            metric.verdict = Verdict::Void { why: why.clone() };
        }
    }
    Ok(Comparison {
        verdict: overall(&metrics),
        metrics,
    })
}

/// One metric of the runs of both arms.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: String,
    pub better: Better,
    /// The smallest change that matters in this metric; `None` for that of the rules.
    pub practical: Option<f64>,
    pub baseline: Vec<Run>,
    pub candidate: Vec<Run>,
}

/// What one process contributes to a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Greater than 0, in any unit.
    pub value: f64,
    /// The value in each window, in the order of time; empty where there are none, and then
    /// there is no bootstrap interval.
    pub windows: Vec<f64>,
}

impl Run {
    /// A value without windows.
    pub fn alone(value: f64) -> Self {
        Self {
            value,
            windows: Vec::new(),
        }
    }
}

/// The direction in which a metric improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Lower,
    Higher,
}

/// How the runs of the arms were ordered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Design {
    Independent,
    /// In neighbouring pairs, as in ABBA: run number i of one arm was next to number i of the
    /// other.
    Interleaved,
}

/// What makes numbers of the two arms worthless, found by whoever knows the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Why the machine was not in one state throughout.
    pub machine_changed: Option<String>,
    /// Why the arms did not do the same work.
    pub different_work: Option<String>,
}

/// What [`compare`] found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Of all metrics together: regressed where any is; else inconclusive where any is; else
    /// improved, changed but small, or equivalent, the first that any metric is. "Equivalent"
    /// thus needs every metric to pass its test, and needs no adjustment for their number
    /// (Berger 1982, doi:10.1080/00401706.1982.10487790).
    pub verdict: Verdict,
    /// In the order given; empty where the arms are not comparable.
    pub metrics: Vec<MetricComparison>,
}

/// One metric of a [`Comparison`]. Changes are ratios of candidate to baseline less 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricComparison {
    pub name: String,
    pub better: Better,
    pub baseline_runs: usize,
    pub candidate_runs: usize,
    /// Difference of the arms' means of logarithms: the logarithm of the ratio of geometric
    /// means.
    pub log_ratio: f64,
    /// The same as a change.
    pub change: f64,
    /// t interval of unpaired runs; `None` for a single run in an arm, and where neither arm
    /// has any spread over fewer than three runs.
    pub welch: Option<Interval>,
    /// t interval of the differences of pairs, for interleaved runs.
    pub paired: Option<Interval>,
    /// Which of the two decided.
    pub decided_by: Method,
    /// The deciding interval at the confidence that Holm's procedure allows this metric: it
    /// excludes no change exactly where the procedure finds one.
    pub adjusted: Option<Interval>,
    /// Two-sided p-value of the deciding interval; 1 where there is none.
    pub p: f64,
    /// Adjusted for the number of metrics by Holm's procedure.
    pub p_adjusted: f64,
    /// Hierarchical bootstrap over processes and windows.
    pub bootstrap: Option<Interval>,
    pub mann_whitney: MannWhitney,
    /// Difference over pooled standard deviation, both of logarithms, corrected for small
    /// samples; `None` without spread.
    pub hedges_g: Option<f64>,
    pub equivalence: Option<Equivalence>,
    /// The smallest change that these runs could have seen, two-sided at 5 % with a power of
    /// 80 % by default; `None` where no change of any size could have been seen.
    pub minimum_detectable: Option<f64>,
    /// The smallest change that is called a regression or an improvement: the larger of the
    /// practical limit and the machine's noise floor.
    pub threshold: f64,
    pub verdict: Verdict,
}

/// An interval of a change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
    /// Confidence, such as 0.95.
    pub level: f64,
}

/// Two one-sided tests against the practical limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Equivalence {
    /// At 90 % confidence by default: the arms are equivalent where it lies within the limit.
    pub interval: Interval,
    /// The larger of the two p-values.
    pub p: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Welch,
    Paired,
}

/// What may be said of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// The adjusted interval excludes no change, and the point estimate is at least the
    /// threshold, for the worse.
    Regressed,
    /// The same for the better.
    Improved,
    /// The interval of the equivalence test lies within the practical limit.
    Equivalent,
    /// As equivalent, and the adjusted interval excludes no change.
    ChangedButSmall,
    Inconclusive {
        /// Additional runs in each arm that would decide, were estimate and spread to stay as
        /// they are; `None` for more than 1,000.
        more_runs: Option<u32>,
    },
    /// The machine's state changed.
    Void { why: String },
    /// The arms did different work.
    NotComparable { why: String },
}

impl Verdict {
    /// As [`crate::rules::WORDS`] has it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Regressed => "regressed",
            Self::Improved => "improved",
            Self::Equivalent => "equivalent",
            Self::ChangedButSmall => "changed but small",
            Self::Inconclusive { .. } => "inconclusive",
            Self::Void { .. } => "void",
            Self::NotComparable { .. } => "not comparable",
        }
    }
}

/// How far a machine's identical runs lie apart, by metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoiseFloor {
    pub metrics: BTreeMap<String, MetricNoise>,
}

/// Noise of one metric, from runs of the same work in one state of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricNoise {
    pub runs: usize,
    /// Standard deviation between processes, of logarithms.
    pub sd: f64,
}

impl MetricNoise {
    /// From one value a process; `None` for fewer than two, and for values that are not
    /// positive and finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.len() < 2 || !values.iter().copied().all(is_measured) {
            return None;
        }
        let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
        Some(Self {
            runs: values.len(),
            sd: Moments::of(&logs).variance.sqrt(),
        })
    }

    /// The change that 99 % of comparisons of identical arms of these sizes stay within.
    ///
    /// The difference of two means over its standard error, with the standard deviation known
    /// from n other runs, follows Student's t distribution with n - 1 degrees of freedom, so
    /// this is an exact prediction bound for normal logarithms, and a wider one the fewer runs
    /// the floor was measured with.
    pub fn difference_99(&self, baseline_runs: usize, candidate_runs: usize) -> f64 {
        self.log_difference(baseline_runs, candidate_runs).exp_m1()
    }

    fn log_difference(&self, baseline_runs: usize, candidate_runs: usize) -> f64 {
        let inverse = 1.0 / baseline_runs as f64 + 1.0 / candidate_runs as f64;
        let freedom = (self.runs.max(2) - 1) as f64;
        estimate::quantile(0.995, freedom) * self.sd * inverse.sqrt()
    }
}

/// Why runs could not be compared at all.
#[derive(Debug, Error, PartialEq)]
pub enum ComparisonError {
    #[error("there is no metric to compare; give at least one that both arms measured")]
    NoMetrics,
    #[error("{metric} has no run in the {arm}; leave it out, or measure it there too")]
    NoRuns { metric: String, arm: &'static str },
    #[error(
        "{metric} of run {run} in the {arm} is {value}; ratios need finite values above 0, so \
         leave the run or the metric out"
    )]
    NotPositive {
        metric: String,
        arm: &'static str,
        /// Counted from 1.
        run: usize,
        value: f64,
    },
    #[error(
        "{metric} has {baseline} runs in the baseline and {candidate} in the candidate; \
         interleaved arms have equally many, so leave out whole pairs or compare them as \
         independent"
    )]
    Unpaired {
        metric: String,
        baseline: usize,
        candidate: usize,
    },
}

impl Metric {
    fn validate(&self, design: Design) -> Result<(), ComparisonError> {
        for (arm, runs) in [("baseline", &self.baseline), ("candidate", &self.candidate)] {
            if runs.is_empty() {
                return Err(ComparisonError::NoRuns {
                    metric: self.name.clone(),
                    arm,
                });
            }
            for (index, run) in runs.iter().enumerate() {
                let mut values = std::iter::once(&run.value).chain(&run.windows);
                if let Some(&value) = values.find(|value| !is_measured(**value)) {
                    return Err(ComparisonError::NotPositive {
                        metric: self.name.clone(),
                        arm,
                        run: index + 1,
                        value,
                    });
                }
            }
        }
        let (baseline, candidate) = (self.baseline.len(), self.candidate.len());
        if design == Design::Interleaved && baseline != candidate {
            return Err(ComparisonError::Unpaired {
                metric: self.name.clone(),
                baseline,
                candidate,
            });
        }
        Ok(())
    }
}

impl Better {
    /// Whether a log ratio is one for the worse.
    fn is_worse(self, log_ratio: f64) -> bool {
        match self {
            Self::Lower => log_ratio > 0.0,
            Self::Higher => log_ratio < 0.0,
        }
    }
}

impl MetricComparison {
    /// One-sided p-value of a change for the worse.
    pub fn p_worse(&self) -> f64 {
        match self.better.is_worse(self.log_ratio) {
            true => self.p / 2.0,
            false => 1.0 - self.p / 2.0,
        }
    }

    /// Whether the change reaches the threshold, in either direction.
    pub fn is_large(&self) -> bool {
        self.log_ratio.abs() >= self.threshold.ln_1p() - ROUNDING
    }

    /// Whether the machine was in one state, so that the figures may be judged.
    pub fn has_verdict(&self) -> bool {
        !matches!(
            self.verdict,
            Verdict::Void { .. } | Verdict::NotComparable { .. }
        )
    }

    /// Whether an arm has a single run, which shows nothing of the spread.
    pub fn has_single_run(&self) -> bool {
        self.baseline_runs.min(self.candidate_runs) == 1
    }
}

impl Interval {
    fn of_logs((low, high): (f64, f64), level: f64) -> Self {
        Self {
            low: low.exp_m1(),
            high: high.exp_m1(),
            level,
        }
    }
}

/// A metric before it is known what Holm's procedure allows it.
struct Tested<'a> {
    metric: &'a Metric,
    baseline: Moments,
    candidate: Moments,
    welch: Option<Estimate>,
    paired: Option<Estimate>,
    decided_by: Method,
    noise: Option<MetricNoise>,
    practical: f64,
}

impl<'a> Tested<'a> {
    fn new(
        metric: &'a Metric,
        design: Design,
        noise: Option<&NoiseFloor>,
        rules: &ComparisonRules,
    ) -> Self {
        let logs = |runs: &[Run]| -> Vec<f64> { runs.iter().map(|run| run.value.ln()).collect() };
        let (first, second) = (logs(&metric.baseline), logs(&metric.candidate));
        let (baseline, candidate) = (Moments::of(&first), Moments::of(&second));
        let fewest = first.len().min(second.len());
        let believed =
            |estimate: &Estimate| estimate.error > 0.0 || fewest >= FEWEST_WITHOUT_SPREAD;
        let paired = match design {
            Design::Independent => None,
            Design::Interleaved => {
                let differences: Vec<f64> = first.iter().zip(&second).map(|(a, b)| b - a).collect();
                Estimate::paired(Moments::of(&differences)).filter(believed)
            }
        };
        Self {
            metric,
            baseline,
            candidate,
            welch: Estimate::welch(baseline, candidate).filter(believed),
            decided_by: match paired {
                Some(_) if fewest >= rules.pairs_to_decide => Method::Paired,
                _ => Method::Welch,
            },
            paired,
            noise: noise.and_then(|floor| floor.metrics.get(&metric.name).copied()),
            practical: metric.practical.unwrap_or(rules.practical).ln_1p(),
        }
    }

    fn deciding(&self) -> Option<Estimate> {
        match self.decided_by {
            Method::Welch => self.welch,
            Method::Paired => self.paired,
        }
    }

    fn p(&self) -> f64 {
        self.deciding().map_or(1.0, |estimate| estimate.p())
    }

    /// The threshold with `more` runs in each arm, as a logarithm.
    fn threshold(&self, more: usize) -> f64 {
        self.noise.map_or(self.practical, |noise| {
            let counts = [self.baseline, self.candidate].map(|arm| arm.count + more);
            self.practical
                .max(noise.log_difference(counts[0], counts[1]))
        })
    }

    fn judge(&self, holm: Holm, rules: &ComparisonRules) -> MetricComparison {
        let deciding = self.deciding();
        let log_ratio = self.candidate.mean - self.baseline.mean;
        let shown = |estimate: Option<Estimate>, level: f64| {
            estimate.map(|estimate| Interval::of_logs(estimate.interval(level), level))
        };
        let tost_level = 1.0 - 2.0 * rules.error_rate;
        let Metric {
            name,
            better,
            baseline,
            candidate,
            ..
        } = self.metric;
        let values = |runs: &[Run]| -> Vec<f64> { runs.iter().map(|run| run.value).collect() };
        MetricComparison {
            name: name.clone(),
            better: *better,
            baseline_runs: self.baseline.count,
            candidate_runs: self.candidate.count,
            log_ratio,
            change: log_ratio.exp_m1(),
            welch: shown(self.welch, SHOWN_LEVEL),
            paired: shown(self.paired, SHOWN_LEVEL),
            decided_by: self.decided_by,
            adjusted: shown(deciding, holm.level),
            p: self.p(),
            p_adjusted: holm.p,
            bootstrap: bootstrap::interval(
                baseline,
                candidate,
                self.decided_by == Method::Paired,
                SHOWN_LEVEL,
            )
            .map(|bounds| Interval::of_logs(bounds, SHOWN_LEVEL)),
            mann_whitney: mann_whitney(&values(candidate), &values(baseline))
                .expect("arms hold finite values"),
            hedges_g: deciding.and_then(|_| estimate::hedges_g(self.baseline, self.candidate)),
            equivalence: deciding.map(|estimate| Equivalence {
                interval: Interval::of_logs(estimate.interval(tost_level), tost_level),
                p: estimate.equivalence_p(self.practical),
            }),
            minimum_detectable: deciding.map(|estimate| {
                estimate
                    .minimum_detectable(rules.error_rate, rules.power)
                    .exp_m1()
            }),
            threshold: self.threshold(0).exp_m1(),
            verdict: self.verdict(holm, rules),
        }
    }

    fn verdict(&self, holm: Holm, rules: &ComparisonRules) -> Verdict {
        let Some(estimate) = self.deciding() else {
            return Verdict::Inconclusive {
                more_runs: Some(self.runs_to_begin()),
            };
        };
        let large = estimate.log_ratio.abs() >= self.threshold(0) - ROUNDING;
        let small = estimate.equivalence_p(self.practical) < rules.error_rate;
        match (holm.rejected, large, small) {
            (true, true, _) if self.metric.better.is_worse(estimate.log_ratio) => {
                Verdict::Regressed
            }
            (true, true, _) => Verdict::Improved,
            (true, false, true) => Verdict::ChangedButSmall,
            (false, _, true) => Verdict::Equivalent,
            (true, false, false) | (false, _, false) => Verdict::Inconclusive {
                more_runs: self.more_runs(1.0 - holm.level, rules),
            },
        }
    }

    /// Runs an arm still lacks for any test.
    fn runs_to_begin(&self) -> u32 {
        let fewest = self.baseline.count.min(self.candidate.count) as u32;
        match fewest {
            1 => FEWEST_RUNS - 1,
            _ => FEWEST_WITHOUT_SPREAD as u32 - fewest,
        }
    }

    /// The fewest additional runs in each arm that would decide.
    fn more_runs(&self, error_rate: f64, rules: &ComparisonRules) -> Option<u32> {
        let decides = |more: u32| self.would_decide(more as usize, error_rate, rules);
        if !decides(MOST_MORE_RUNS) {
            return None;
        }
        // What decides with some runs decides with more.
        let (mut too_few, mut enough) = (0, MOST_MORE_RUNS);
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            match decides(middle) {
                true => enough = middle,
                false => too_few = middle,
            }
        }
        Some(enough)
    }

    /// Whether a change as large as the estimate would be found, or a change that is at most
    /// as large be shown to be small, with the stated power and `more` runs in each arm.
    fn would_decide(&self, more: usize, error_rate: f64, rules: &ComparisonRules) -> bool {
        let grown = |arm: Moments| Moments {
            count: arm.count + more,
            ..arm
        };
        let estimate = match (self.decided_by, self.paired) {
            (Method::Paired, Some(now)) => {
                let count = self.baseline.count;
                Estimate::paired(Moments {
                    count: count + more,
                    mean: now.log_ratio,
                    variance: now.error.powi(2) * count as f64,
                })
            }
            _ => Estimate::welch(grown(self.baseline), grown(self.candidate)),
        };
        let Some(estimate) = estimate else {
            return false;
        };
        let size = estimate.log_ratio.abs();
        let reach = |error_rate| estimate.minimum_detectable(error_rate, rules.power);
        let found = size >= self.threshold(more) && size >= reach(error_rate);
        let shown_small = size + reach(2.0 * rules.error_rate) <= self.practical;
        found || shown_small
    }
}

/// What Holm's procedure says of one hypothesis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Holm {
    rejected: bool,
    /// Adjusted p-value.
    p: f64,
    /// Confidence of the interval that excludes no change exactly where it is rejected.
    level: f64,
}

/// Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
/// of Statistics 6. The m p-values are taken in ascending order against the error rate over m,
/// m - 1, ..., up to the first that is too large; all from there on keep its error rate.
fn holm(ps: &[f64], error_rate: f64) -> Vec<Holm> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|&i, &j| ps[i].total_cmp(&ps[j]));
    let none = Holm {
        rejected: false,
        p: 1.0,
        level: 1.0,
    };
    let mut results = vec![none; ps.len()];
    let mut rejected = true;
    let mut p = 0.0_f64;
    let mut allowed = error_rate;
    for (rank, &index) in order.iter().enumerate() {
        let left = (ps.len() - rank) as f64;
        if rejected {
            allowed = error_rate / left;
            rejected = ps[index] < allowed;
        }
        p = p.max((left * ps[index]).min(1.0));
        results[index] = Holm {
            rejected,
            p,
            level: 1.0 - allowed,
        };
    }
    results
}

/// Which hypotheses Holm's procedure rejects.
pub(crate) fn rejected(ps: &[f64], error_rate: f64) -> Vec<bool> {
    holm(ps, error_rate).iter().map(|it| it.rejected).collect()
}

/// See [`Comparison::verdict`].
fn overall(metrics: &[MetricComparison]) -> Verdict {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::NotComparable { .. } => 0,
        Verdict::Void { .. } => 1,
        Verdict::Regressed => 2,
        Verdict::Inconclusive { more_runs: None } => 3,
        Verdict::Inconclusive { .. } => 4,
        Verdict::Improved => 5,
        Verdict::ChangedButSmall => 6,
        Verdict::Equivalent => 7,
    };
    // Of several inconclusive metrics, the one that needs most runs speaks.
    let runs = |verdict: &Verdict| match verdict {
        Verdict::Inconclusive { more_runs } => more_runs.unwrap_or(u32::MAX),
        _ => 0,
    };
    let verdicts = metrics.iter().map(|metric| &metric.verdict);
    verdicts
        .min_by_key(|verdict| (rank(verdict), std::cmp::Reverse(runs(verdict))))
        .cloned()
        .expect("a comparison has at least one metric")
}

fn is_measured(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

#[cfg(test)]
mod tests;
