//! Whether a candidate may take the place of a baseline: the decision of [`crate::comparison`],
//! limits of one's own, and leaks.
//!
//! Green needs every judged metric to be shown equivalent, or changed for the better or by less
//! than matters. What cannot be told is neither green nor red.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::compare::Runs;
use crate::comparison::{
    self, Better, Circumstances, Design, Metric, MetricComparison, MetricNoise, NoiseFloor, Verdict,
};
use crate::figures::MetricKind;
use crate::leak;
use crate::noise::LARGEST_SD;
use crate::rules::{ComparisonRules, Rules};
use crate::run::Run;
use crate::study::{self, Pairing};

/// What is judged, and how strictly, by the metrics' names. Without any, every metric is judged by
/// the rules.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Limits {
    pub metrics: BTreeMap<String, Limit>,
}

/// Limits of one metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    /// The smallest change that matters, as a ratio less 1; `None` for that of the rules.
    pub practical: Option<f64>,
    /// Bytes that a run of the candidate should not need more than, and must not: memory only.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
    /// How far identical runs lie apart.
    pub noise: Option<MetricNoise>,
}

/// Why limits cannot be used.
#[derive(Debug, Error, PartialEq)]
pub enum LimitsError {
    #[error("`{name}` is no metric; there are {known}")]
    Unknown { name: String, known: String },
    #[error("{metric}: {problem}")]
    Value { metric: String, problem: String },
}

impl Limits {
    /// Whether every limit can be one.
    ///
    /// # Errors
    ///
    /// See [`LimitsError`].
    pub fn check(&self) -> Result<(), LimitsError> {
        for (name, limit) in &self.metrics {
            let Some(metric) = MetricKind::named(name) else {
                return Err(LimitsError::Unknown {
                    name: name.clone(),
                    known: MetricKind::ALL.map(MetricKind::name).join(", "),
                });
            };
            let positive = |value: f64| value > 0.0 && value <= 10.0;
            let problem = match limit {
                Limit {
                    practical: Some(value),
                    ..
                } if !positive(*value) => {
                    format!(
                        "practical is {value}; give a share above 0 and up to 10, as 0.02 for 2 %"
                    )
                }
                Limit { soft, hard, .. } if (soft.or(*hard)).is_some() && !metric.is_memory() => {
                    "soft and hard are limits of memory in bytes; a time has practical".to_owned()
                }
                Limit {
                    soft: Some(soft),
                    hard: Some(hard),
                    ..
                } if soft > hard => {
                    format!("soft is {soft}, above hard, which is {hard}")
                }
                Limit {
                    noise: Some(noise), ..
                } if noise.runs < 2 || !(0.0..=LARGEST_SD).contains(&noise.sd) => {
                    format!(
                        "noise needs at least 2 runs and an sd of logarithms from 0 to {LARGEST_SD}"
                    )
                }
                _ => continue,
            };
            return Err(LimitsError::Value {
                metric: name.clone(),
                problem,
            });
        }
        Ok(())
    }
}

/// What was found, derived by [`judge`] or [`judge_benchmarks`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Of everything: regressed also where memory leaks or a hard limit is exceeded.
    pub verdict: Verdict,
    pub baseline_runs: usize,
    pub candidate_runs: usize,
    /// In pairs where the runs of both arms were started in turn, as one set.
    pub design: Design,
    /// Those that are judged.
    pub metrics: Vec<MetricComparison>,
    /// Where the noise of each of them comes from.
    pub noise: BTreeMap<String, NoiseSource>,
    /// What else is for the worse.
    pub reasons: Vec<Reason>,
    pub warnings: Vec<String>,
    pub notices: Vec<String>,
    /// Of fresh runs of the candidate, where they had to confirm the verdict.
    pub fresh: Option<Box<Judgement>>,
}

/// Where it is known from how far identical runs lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseSource {
    Limits,
    /// The noise floor of the machine.
    Floor,
    None,
}

/// Something that is for the worse whatever the metrics show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    pub kind: ReasonKind,
    /// A sentence.
    pub text: String,
}

/// What a [`Reason`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    Leak,
    /// The hard limit of this metric.
    HardLimit(String),
}

impl Judgement {
    /// This verdict, once fresh runs of the candidate have been judged against the baseline too: it
    /// stays regressed only where something is for the worse in both, and is inconclusive otherwise.
    #[must_use]
    pub fn confirmed_by(mut self, fresh: Self, error_rate: f64) -> Self {
        let reason_again = |reason: &Reason| fresh.reasons.iter().any(|it| it.kind == reason.kind);
        let again = again(&self.metrics, &fresh.metrics, error_rate);
        if !again.iter().any(|it| it.confirms) && !self.reasons.iter().any(reason_again) {
            self.verdict = Verdict::Inconclusive { more_runs: None };
        }
        self.fresh = Some(Box::new(fresh));
        self
    }
}

/// A metric that regressed, and what fresh runs show of it.
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    pub first: &'a MetricComparison,
    pub fresh: Option<&'a MetricComparison>,
    /// One-sided p-value of the fresh runs' change for the worse, below which they confirm it.
    pub limit: f64,
    pub confirms: bool,
}

/// Fresh processes of each build that `lfmark regress` runs, and runs again to confirm, by default.
pub const REGRESS_PAIRS: u32 = 40;

/// The metrics that regressed, each with what fresh runs show of it.
///
/// The first runs said which metrics to look at and in which direction, so the test of the fresh
/// ones is one-sided, and its family is those metrics alone (at `error_rate` over their number, by
/// Bonferroni: one of them confirms). The change has to reach the threshold here too.
pub fn again<'a>(
    first: &'a [MetricComparison],
    fresh: &'a [MetricComparison],
    error_rate: f64,
) -> Vec<Again<'a>> {
    let regressed = first.iter().filter(|it| it.verdict == Verdict::Regressed);
    let limit = error_rate / regressed.clone().count() as f64;
    regressed
        .map(|first| {
            let fresh = fresh.iter().find(|it| it.name == first.name);
            Again {
                first,
                fresh,
                limit,
                confirms: fresh
                    .is_some_and(|it| it.has_verdict() && it.is_large() && it.p_worse() < limit),
            }
        })
        .collect()
}

/// Judges the complete runs of a candidate against those of a baseline. A noise floor of the
/// machine goes behind the limits' own.
pub fn judge(
    baseline: &Runs,
    candidate: &Runs,
    limits: &Limits,
    floor: Option<&NoiseFloor>,
    rules: &Rules,
) -> Judgement {
    let mut notices = [baseline.notices(), candidate.notices()].concat();
    let arms = [baseline, candidate].map(|runs| runs.complete(&mut notices));
    let pairing = Pairing::new(arms, rules, &study::nothing);
    let arms = &pairing.arms;
    let names = ["the baseline", "the candidate"];
    let mut warnings = study::warnings(&[&arms[0], &arms[1]], &names);
    let shared = |run: &&&Run| study::shared_hardware(run).is_some();
    warnings.extend(
        arms.iter()
            .flatten()
            .find(shared)
            .map(|run| study::on_shared_hardware(run)),
    );
    if !study::alike_texts(arms.iter().flatten().copied()) {
        warnings.push(study::TEXTS_DIFFER.to_owned());
    }
    let mut metrics = pairing.metrics();
    for name in limits.metrics.keys() {
        if !metrics.iter().any(|metric| metric.name == *name) {
            warnings.push(format!("{name} is not judged: some run has no value of it"));
        }
    }
    let mut noise = floor.cloned().unwrap_or_default();
    let mut sources = BTreeMap::new();
    if !limits.metrics.is_empty() {
        metrics.retain(|metric| limits.metrics.contains_key(&metric.name));
    }
    for metric in &mut metrics {
        let limit = limits
            .metrics
            .get(&metric.name)
            .copied()
            .unwrap_or_default();
        metric.practical = limit.practical;
        let source = match (limit.noise, noise.metrics.contains_key(&metric.name)) {
            (Some(own), _) => {
                noise.metrics.insert(metric.name.clone(), own);
                NoiseSource::Limits
            }
            (None, true) => NoiseSource::Floor,
            (None, false) => NoiseSource::None,
        };
        sources.insert(metric.name.clone(), source);
    }
    let judged = judge_metrics(
        &metrics,
        pairing.design,
        &pairing.circumstances,
        &noise,
        &rules.comparison,
    );
    let mut judgement = Judgement {
        baseline_runs: arms[0].len(),
        candidate_runs: arms[1].len(),
        noise: sources,
        warnings,
        notices,
        ..judged
    };
    if let Verdict::NotComparable { .. } | Verdict::Void { .. } = judgement.verdict {
        return judgement;
    }
    judgement.reasons.extend(leaks(arms));
    for (name, limit) in &limits.metrics {
        let Some(metric) = MetricKind::named(name) else {
            continue;
        };
        let values = arms[1]
            .iter()
            .filter_map(|run| Some((run, run.value(metric)?)));
        let Some((run, most)) = values.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            continue;
        };
        let above = |limit: Option<u64>| limit.filter(|limit| most > *limit as f64);
        let sentence = |kind, limit| {
            format!(
                "{name} of {} is {most} bytes, above the {kind} limit of {limit}",
                run.name
            )
        };
        match (above(limit.hard), above(limit.soft)) {
            (Some(hard), _) => judgement.reasons.push(Reason {
                kind: ReasonKind::HardLimit(name.clone()),
                text: sentence("hard", hard),
            }),
            (None, Some(soft)) => judgement.warnings.push(sentence("soft", soft)),
            (None, None) => {}
        }
    }
    if !judgement.reasons.is_empty() {
        judgement.verdict = Verdict::Regressed;
    }
    judgement
}

fn judge_metrics(
    metrics: &[Metric],
    design: Design,
    circumstances: &Circumstances,
    noise: &NoiseFloor,
    rules: &ComparisonRules,
) -> Judgement {
    let compared = comparison::compare(metrics, design, circumstances, Some(noise), rules);
    // What is left is arms that share no metric.
    let (verdict, metrics) = match (compared, &circumstances.different_work) {
        (Ok(compared), _) => (compared.verdict, compared.metrics),
        (Err(_), Some(why)) => (Verdict::NotComparable { why: why.clone() }, Vec::new()),
        (Err(_), None) => (Verdict::Inconclusive { more_runs: None }, Vec::new()),
    };
    Judgement {
        verdict,
        baseline_runs: 0,
        candidate_runs: 0,
        design,
        metrics,
        noise: BTreeMap::new(),
        reasons: Vec::new(),
        warnings: Vec::new(),
        notices: Vec::new(),
        fresh: None,
    }
}

/// A leak of the candidate: in more than half of its runs, and not in so many of the baseline. One
/// run in some may be called a leak by chance.
fn leaks(arms: &[Vec<&Run>; 2]) -> Option<Reason> {
    let leaking = |runs: &[&Run]| {
        let leaks = |run: &&&Run| run.growth == Some(leak::Verdict::Leak);
        runs.iter().filter(leaks).count()
    };
    let [before, after] = [leaking(&arms[0]), leaking(&arms[1])];
    let most = |count: usize, runs: &[&Run]| 2 * count > runs.len();
    (most(after, &arms[1]) && !most(before, &arms[0])).then(|| Reason {
        kind: ReasonKind::Leak,
        text: format!(
            "memory leaks in {after} of {} runs of the candidate, and in {before} of {} of the baseline",
            arms[1].len(),
            arms[0].len()
        ),
    })
}

/// What criterion measured of one benchmark in one run of it before, and in one after.
#[derive(Clone, Debug, PartialEq)]
pub struct Benchmark {
    pub name: String,
    /// Mean time of an iteration in nanoseconds.
    pub baseline: f64,
    pub candidate: f64,
}

/// The mean in the text of criterion's `estimates.json`, in nanoseconds.
///
/// # Errors
///
/// What is wrong with the text, as a fragment of a sentence.
pub fn criterion_mean(text: &str) -> Result<f64, String> {
    #[derive(Deserialize)]
    struct Estimates {
        mean: Estimate,
    }
    #[derive(Deserialize)]
    struct Estimate {
        point_estimate: f64,
    }
    let estimates: Estimates = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mean = estimates.mean.point_estimate;
    match mean.is_finite() && mean > 0.0 {
        true => Ok(mean),
        false => Err(format!("its mean is {mean}")),
    }
}

/// Judges benchmarks, each element of `runs` being one run of criterion before and one after.
///
/// A run of criterion is one process: its many samples are of that process, and its own interval
/// says nothing of another one. So one run an arm is inconclusive, whatever it shows.
pub fn judge_benchmarks(runs: &[Vec<Benchmark>], rules: &ComparisonRules) -> Judgement {
    let mut metrics: Vec<Metric> = Vec::new();
    let mut warnings = Vec::new();
    for benchmark in runs.first().into_iter().flatten() {
        let of = |run: &Vec<Benchmark>| run.iter().find(|it| it.name == benchmark.name).cloned();
        let Some(all) = runs.iter().map(of).collect::<Option<Vec<_>>>() else {
            warnings.push(format!(
                "{} is not judged: some run lacks it",
                benchmark.name
            ));
            continue;
        };
        let values = |value: fn(&Benchmark) -> f64| {
            let alone = |it| comparison::Run::alone(value(it));
            all.iter().map(alone).collect()
        };
        metrics.push(Metric {
            name: benchmark.name.clone(),
            better: Better::Lower,
            practical: None,
            baseline: values(|it| it.baseline),
            candidate: values(|it| it.candidate),
        });
    }
    let circumstances = Circumstances::default();
    let judged = judge_metrics(
        &metrics,
        Design::Interleaved,
        &circumstances,
        &NoiseFloor::default(),
        rules,
    );
    Judgement {
        baseline_runs: runs.len(),
        candidate_runs: runs.len(),
        warnings,
        ..judged
    }
}

#[cfg(test)]
mod tests;
