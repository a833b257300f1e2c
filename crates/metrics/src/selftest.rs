//! Faults that are planted, and the verdicts that have to follow.
//!
//! Every plant is a synthetic run, or a set of them, of a size at which its verdict is no matter
//! of luck. It takes the way of a real one: measured, recorded, stored, read back, summarized and
//! judged.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use crate::compare::Runs;
use crate::comparison::{MetricComparison, Verdict};
use crate::engine::{self, EngineError, Truth};
use crate::figures::MetricKind;
use crate::gate::{self, Judgement, Limits};
use crate::leak::{self, Growth};
use crate::parallel;
use crate::random::Generator;
use crate::record::{Event, Machine, Member, Start};
use crate::rules::Rules;
use crate::sets::{self, Set, SetError};
use crate::steadiness::Steadiness;
use crate::store::{self, Record};
use crate::summary::summarize;
use crate::synthetic::{Fault, Series};

const SEED: u64 = 20_261_122;

const MIB: f64 = 1_048_576.0;

/// A fault, or none, and what has to be said of it.
#[derive(Clone, Debug)]
pub struct Plant {
    /// Short enough for a folder's name.
    pub name: &'static str,
    /// In words.
    pub planted: &'static str,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Run(Box<RunPlant>),
    Sets(Box<SetsPlant>),
    Gate(Box<GatePlant>),
}

/// A run, and the words that are right for its times, its memory and its machine.
#[derive(Clone, Debug)]
struct RunPlant {
    truth: Truth,
    times: &'static [&'static str],
    memory: &'static [&'static str],
    machine: &'static [&'static str],
    virtual_machine: bool,
}

/// Two arms of runs, and the words that are right for the candidate.
#[derive(Clone, Debug)]
struct SetsPlant {
    baseline: Truth,
    candidate: Truth,
    /// Runs in each arm.
    runs: u32,
    /// Longest sequence that the candidate was told to train on: part of what it has to do.
    candidate_length: u32,
    right: &'static [&'static str],
}

/// Pairs of a baseline and a candidate that [`gate::judge`] is given, and how many of them have to
/// have which verdict.
#[derive(Clone, Debug)]
struct GatePlant {
    baseline: Truth,
    candidate: Candidate,
    /// Runs in each arm.
    runs: u32,
    pairs: u32,
    right: Vec<(&'static str, RangeInclusive<u32>)>,
    /// The same of the candidate without its fault, where [`Candidate::Slower`] has one.
    right_without: Vec<(&'static str, RangeInclusive<u32>)>,
}

#[derive(Clone, Debug)]
enum Candidate {
    Known(Box<Truth>),
    /// The baseline with slower steps: by this many times the smallest change that the gate says
    /// it could have seen between the baseline and a candidate like it.
    Slower(f64),
}

/// What became of a plant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub planted: &'static str,
    /// One entry a verdict: on times, memory and machine of a run, or on a comparison; of many
    /// comparisons, how many have it.
    pub expected: Vec<String>,
    pub got: Vec<String>,
    pub pass: bool,
    /// What the verdict rests on.
    pub figures: Vec<String>,
    /// What was judged, read back from its folder, for whoever renders it.
    #[serde(skip)]
    pub judged: Judged,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Judged {
    Run(Box<Record>),
    Set(Box<Set>),
    /// Too many to be kept.
    Pairs,
}

/// Why a plant could not be judged.
#[derive(Debug, Error)]
pub enum SelftestError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Set(#[from] SetError),
    #[error("a record that was just made cannot be read: {0}")]
    Record(store::ParseError),
}

impl Plant {
    /// Runs and judges the plant, with its records in a new folder of its name in `dir`.
    ///
    /// # Errors
    ///
    /// A record cannot be written, or not be read back.
    pub fn check(&self, rules: &Rules, dir: &Path) -> Result<Finding, SelftestError> {
        let dir = dir.join(self.name);
        match &self.what {
            What::Run(plant) => self.check_run(plant, rules, &dir),
            What::Sets(plant) => self.check_sets(plant, rules, &dir),
            What::Gate(plant) => self.check_gate(plant, rules),
        }
    }

    fn check_run(
        &self,
        plant: &RunPlant,
        rules: &Rules,
        dir: &Path,
    ) -> Result<Finding, SelftestError> {
        let start = Start {
            rules: Some(*rules),
            ..engine::start(self.name, plant.truth.iterations)
        };
        let start = Start {
            machine: Machine {
                virtual_machine: Some(plant.virtual_machine),
                ..start.machine
            },
            ..start
        };
        let record = engine::record(&plant.truth, &start, SEED, dir)?;
        let summary = summarize(&record);
        let times = summary
            .steadiness
            .map_or(NO_VERDICT, |it| it.verdict.word());
        let memory = summary
            .memory
            .growth
            .map_or(NO_VERDICT, |it| it.verdict.word());
        let machine = summary.validity.word();
        let mut figures: Vec<String> = summary.steadiness.iter().map(of_times).collect();
        if let Some(growth) = &summary.memory.growth {
            figures.push(of_memory("active", &growth.active));
            figures.push(of_memory("cache", &growth.cache));
            figures.extend(growth.footprint.iter().map(|it| of_memory("footprint", it)));
        }
        Ok(Finding {
            name: self.name,
            planted: self.planted,
            expected: vec![any(plant.times), any(plant.memory), any(plant.machine)],
            got: [times, memory, machine].map(str::to_owned).into(),
            pass: plant.times.contains(&times)
                && plant.memory.contains(&memory)
                && plant.machine.contains(&machine),
            figures,
            judged: Judged::Run(Box::new(record)),
        })
    }

    fn check_sets(
        &self,
        plant: &SetsPlant,
        rules: &Rules,
        dir: &Path,
    ) -> Result<Finding, SelftestError> {
        let set = plant.measure(self.name, rules, SEED, dir)?;
        let summary = sets::summarize(&set, None);
        let compared = summary.comparisons.first().map(|arms| &arms.comparison);
        let got = compared.map_or(NO_VERDICT, |it| it.verdict.word());
        let metrics = compared.map_or(&[][..], |it| &it.metrics);
        Ok(Finding {
            name: self.name,
            planted: self.planted,
            expected: vec![any(plant.right)],
            got: vec![got.to_owned()],
            pass: plant.right.contains(&got),
            figures: metrics.iter().map(of_metric).collect(),
            judged: Judged::Set(Box::new(set)),
        })
    }

    fn check_gate(&self, plant: &GatePlant, rules: &Rules) -> Result<Finding, SelftestError> {
        let judged = parallel::map(plant.pairs, |pair| plant.judge(pair, rules));
        let judged = judged.into_iter().collect::<Result<Vec<_>, _>>()?;
        let pairs = plant.pairs;
        let mut pass = true;
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        let with = plant.right.iter().map(|right| ("", right));
        let without = plant.right_without.iter();
        for (which, (word, right)) in with.chain(without.map(|right| ("without it ", right))) {
            let of = |it: &&Verdicts| match which {
                "" => it.word == *word,
                _ => it.without == Some(*word),
            };
            let count = judged.iter().filter(of).count() as u32;
            pass &= right.contains(&count);
            let (from, to) = (right.start(), right.end());
            expected.push(format!("{which}{word} in {from} to {to} of {pairs}"));
            got.push(format!("{which}{word} in {count} of {pairs}"));
        }
        let mut words: BTreeMap<&str, u32> = BTreeMap::new();
        for it in &judged {
            *words.entry(it.word).or_default() += 1;
        }
        let mut figures: Vec<String> = words
            .iter()
            .map(|(word, count)| format!("{word}: {count} of {pairs}"))
            .collect();
        let confirmed = judged.iter().filter(|it| it.confirmed).count();
        let red = words.get(Verdict::Regressed.word()).copied().unwrap_or(0);
        figures.push(format!("confirmed by fresh runs: {confirmed} of {red}"));
        figures.extend(judged[0].metrics.iter().map(of_metric));
        Ok(Finding {
            name: self.name,
            planted: self.planted,
            expected,
            got,
            pass,
            figures,
            judged: Judged::Pairs,
        })
    }
}

/// What the gate said of one pair.
struct Verdicts {
    word: &'static str,
    /// Of the candidate without its fault.
    without: Option<&'static str>,
    confirmed: bool,
    metrics: Vec<MetricComparison>,
}

impl GatePlant {
    /// Of the pair of this number.
    fn judge(&self, pair: u32, rules: &Rules) -> Result<Verdicts, SelftestError> {
        let mut seeds = Generator::new(SEED + u64::from(pair));
        let mut arm = |name: &str, truth: &Truth| self.arm(name, truth, rules, &mut seeds);
        let judge = |baseline: &Runs, candidate: &Runs| -> Judgement {
            let limits = Limits::default();
            gate::judge(baseline, candidate, &limits, None, rules)
        };
        let baseline = arm("baseline", &self.baseline)?;
        let mut without = None;
        let truth = match &self.candidate {
            Candidate::Known(truth) => **truth,
            Candidate::Slower(times) => {
                let like = judge(&baseline, &arm("like", &self.baseline)?);
                without = Some(like.verdict.word());
                let mut metrics = like.metrics.iter();
                let step = metrics.find(|it| it.name == MetricKind::StepTime.name());
                let detectable = step.and_then(|step| step.minimum_detectable).unwrap_or(0.0);
                let mut slower = self.baseline;
                slower.step.level *= 1.0 + times * detectable;
                slower
            }
        };
        let first = judge(&baseline, &arm("candidate", &truth)?);
        let (word, metrics) = (first.verdict.word(), first.metrics.clone());
        let mut confirmed = false;
        if first.verdict == Verdict::Regressed {
            let fresh = judge(&baseline, &arm("fresh", &truth)?);
            confirmed = first
                .confirmed_by(fresh, rules.comparison.error_rate)
                .verdict
                == Verdict::Regressed;
        }
        Ok(Verdicts {
            word,
            without,
            confirmed,
            metrics,
        })
    }

    /// Runs an arm, and reads its records.
    fn arm(
        &self,
        name: &str,
        truth: &Truth,
        rules: &Rules,
        seeds: &mut Generator,
    ) -> Result<Runs, SelftestError> {
        let mut runs = Runs::default();
        for run in 1..=self.runs {
            let name = format!("{name}/{run}");
            let start = Start {
                rules: Some(*rules),
                ..engine::start(&name, truth.iterations)
            };
            let mut text = line(&Event::Start(Box::new(start)));
            engine::run(truth, seeds.next_u64(), &mut |event| {
                text += &line(event);
                Ok(())
            })
            .map_err(EngineError::from)?;
            runs.add(
                "runs",
                &name,
                &store::parse(&text).map_err(SelftestError::Record)?,
            );
        }
        Ok(runs)
    }
}

/// As a record has it.
fn line(event: &Event) -> String {
    // The types of the record always are JSON.
    serde_json::to_string(event).unwrap_or_default() + "\n"
}

impl SetsPlant {
    /// Runs both arms in turn, with their records in the new folder `dir`, and reads them back.
    fn measure(
        &self,
        name: &str,
        rules: &Rules,
        seed: u64,
        dir: &Path,
    ) -> Result<Set, SelftestError> {
        let mut seeds = Generator::new(seed);
        let mut number = 0;
        for repeat in 1..=self.runs {
            // ABBA: what changes steadily over time meets both arms alike.
            let order = match repeat % 2 {
                1 => ["baseline", "candidate"],
                _ => ["candidate", "baseline"],
            };
            for arm in order {
                number += 1;
                let truth = match arm {
                    "baseline" => &self.baseline,
                    _ => &self.candidate,
                };
                let folder = format!("{number:02}-{arm}");
                let mut start = Start {
                    rules: Some(*rules),
                    member: Some(Member {
                        set: name.to_owned(),
                        arm: arm.to_owned(),
                        number,
                        repeat,
                        waited_ns: 0,
                        unmet: Vec::new(),
                        unread: Vec::new(),
                        empty_caches: None,
                    }),
                    ..engine::start(&folder, truth.iterations)
                };
                if arm == "candidate" {
                    start.config.max_seq_length = self.candidate_length;
                }
                engine::record(truth, &start, seeds.next_u64(), &dir.join(&folder))?;
            }
        }
        Ok(sets::read(dir)?)
    }
}

const NO_VERDICT: &str = "no verdict";

/// Every plant, nothing planted included.
pub fn plants() -> Vec<Plant> {
    let mut plants = of_one_run();
    plants.extend(of_machines());
    plants.extend(of_two_arms());
    plants.extend(of_gates());
    plants
}

/// The gate, with every metric, as it judges by default.
fn of_gates() -> Vec<Plant> {
    const PAIRS: u32 = 100;
    let gate = |name, planted, plant| Plant {
        name,
        planted,
        what: What::Gate(Box::new(plant)),
    };
    // Processes that differ by 3 %: far more than the steps of one differ in their mean.
    let mut noisy = Truth::steady(16);
    noisy.step.process_spread = 0.03;
    let mut quiet = noisy;
    quiet.step.process_spread = 0.002;
    let mut slower = quiet;
    slower.step.level *= 1.1;
    let still = Truth::steady(200);
    let mut leaking = still;
    leaking.active.fault = leak(0.5);
    let plant = GatePlant {
        baseline: quiet,
        candidate: Candidate::Known(Box::new(quiet)),
        runs: 10,
        pairs: 20,
        right: Vec::new(),
        right_without: Vec::new(),
    };
    vec![
        gate(
            "gate-slower",
            "for the gate: 1.5 times the minimum detectable change slower",
            GatePlant {
                baseline: noisy,
                candidate: Candidate::Slower(1.5),
                pairs: PAIRS,
                right: vec![("regressed", 90..=PAIRS)],
                // Green has to be shown, and ten such runs cannot show that nothing of 2 % changed.
                right_without: vec![("regressed", 0..=5), ("equivalent", 0..=5)],
                ..plant.clone()
            },
        ),
        gate(
            "gate-same-quiet",
            "for the gate: nothing, at a process CV of 0.2 %",
            GatePlant {
                right: vec![("regressed", 0..=1), ("equivalent", 18..=20)],
                ..plant.clone()
            },
        ),
        gate(
            "gate-one-run",
            "for the gate: 10 % slower, one run an arm",
            GatePlant {
                candidate: Candidate::Known(Box::new(slower)),
                runs: 1,
                pairs: 10,
                right: vec![("inconclusive", 10..=10)],
                ..plant.clone()
            },
        ),
        gate(
            "gate-leak",
            "for the gate: active memory grows by 0.5 MiB an iteration",
            GatePlant {
                baseline: still,
                candidate: Candidate::Known(Box::new(leaking)),
                runs: 3,
                pairs: 5,
                right: vec![("regressed", 5..=5)],
                ..plant
            },
        ),
    ]
}

fn of_one_run() -> Vec<Plant> {
    const STEADY: &[&str] = &["steady"];
    const FLAT: &[&str] = &["flat"];
    let times = |name, planted, iterations, fault, right: &'static [&'static str]| {
        let mut truth = Truth::steady(iterations);
        truth.step.rho = 0.3;
        truth.step.fault = fault;
        let short = right == ["too short to tell"];
        run(
            name,
            planted,
            truth,
            right,
            if short { &["cannot tell"] } else { FLAT },
        )
    };
    let memory = |name, planted, plant: fn(&mut Truth), right: &'static [&'static str]| {
        let mut truth = Truth::steady(200);
        truth.active.noise = 0.01;
        plant(&mut truth);
        run(name, planted, truth, STEADY, right)
    };
    vec![
        times("nothing", "nothing", 500, Fault::None, STEADY),
        times(
            "outliers",
            "one step in 50 takes 5 times as long",
            500,
            Fault::Outliers {
                one_in: 50,
                factor: 5.0,
            },
            STEADY,
        ),
        times(
            "short-warm-up",
            "a warm-up that ends after some 30 of 500 steps",
            500,
            Fault::WarmUp {
                excess: 0.5,
                decay: 8.0,
            },
            STEADY,
        ),
        times(
            "long-warm-up",
            "a warm-up that lasts through the run",
            500,
            Fault::WarmUp {
                excess: 0.5,
                decay: 170.0,
            },
            &["warming up"],
        ),
        times(
            "drift",
            "5 % slower along a line",
            500,
            Fault::Drift { change: 0.05 },
            &["slowing down"],
        ),
        times(
            "step",
            "5 % slower from one step to the next",
            500,
            Fault::Step {
                change: 0.05,
                at: 0.6,
            },
            &["shifted"],
        ),
        times(
            "throttling",
            "10 % slower from the middle on, up and down",
            500,
            Fault::Throttling {
                change: 0.1,
                at: 0.5,
                period: 40,
            },
            &["slowing down", "shifted", "no steady state"],
        ),
        times(
            "bimodal",
            "two levels 40 % apart that take turns",
            500,
            Fault::Bimodal {
                gap: 0.4,
                stay: 10.0,
            },
            &["no steady state"],
        ),
        times(
            "too-short",
            "nothing, in 10 steps",
            10,
            Fault::None,
            &["too short to tell"],
        ),
        memory("flat", "nothing, with memory noise of 1 %", |_| {}, FLAT),
        memory(
            "leak",
            "active memory grows by 0.5 MiB an iteration",
            |truth| truth.active.fault = leak(0.5),
            &["leak"],
        ),
        memory(
            "staircase",
            "active memory grows by 150 MiB three times",
            |truth| {
                truth.active.fault = Fault::Staircase {
                    step: 150.0 * MIB,
                    steps: 3,
                };
            },
            &["staircase"],
        ),
        memory(
            "cache-growth",
            "MLX's cache grows by 0.5 MiB an iteration",
            |truth| truth.cache.fault = leak(0.5),
            &["cache growth"],
        ),
        memory(
            "footprint-leak",
            "the process grows by 0.5 MiB an iteration, and MLX does not",
            |truth| truth.footprint.fault = leak(0.5),
            &["leak"],
        ),
        memory(
            "memory-ramp",
            "active memory fills up over the first 20 of 200 iterations",
            |truth| {
                truth.active.fault = Fault::Ramp {
                    deficit: 0.3,
                    until: 0.1,
                };
            },
            FLAT,
        ),
    ]
}

fn of_machines() -> Vec<Plant> {
    let machine = |name, planted, thermal_state, virtual_machine, right| Plant {
        name,
        planted,
        what: What::Run(Box::new(RunPlant {
            truth: Truth {
                thermal_state,
                ..Truth::steady(200)
            },
            times: &["steady"],
            memory: &["flat"],
            machine: right,
            virtual_machine,
        })),
    };
    vec![
        machine(
            "thermal-rise",
            "the thermal state rises, and the step times stay",
            [0, 2],
            false,
            &["disturbed"],
        ),
        machine(
            "virtual-machine",
            "the machine is virtual",
            [0, 0],
            true,
            &["shared hardware"],
        ),
    ]
}

fn leak(mib: f64) -> Fault {
    Fault::Leak {
        per_sample: mib * MIB,
    }
}

fn run(
    name: &'static str,
    planted: &'static str,
    truth: Truth,
    times: &'static [&'static str],
    memory: &'static [&'static str],
) -> Plant {
    Plant {
        name,
        planted,
        what: What::Run(Box::new(RunPlant {
            truth,
            times,
            memory,
            machine: &["unmarked"],
            virtual_machine: false,
        })),
    }
}

fn of_two_arms() -> Vec<Plant> {
    let mut truth = Truth::steady(60);
    truth.step.process_spread = 0.01;
    truth.data.process_spread = 0.01;
    let slower = |change: f64| Truth {
        step: Series {
            level: truth.step.level * (1.0 + change),
            ..truth.step
        },
        data: Series {
            level: truth.data.level * (1.0 + change),
            ..truth.data
        },
        ..truth
    };
    let arms = |name, planted, candidate, right| Plant {
        name,
        planted,
        what: What::Sets(Box::new(SetsPlant {
            baseline: truth,
            candidate,
            runs: 8,
            candidate_length: SEQUENCE,
            right,
        })),
    };
    let with = |mut plant: Plant, change: fn(&mut SetsPlant)| {
        if let What::Sets(sets) = &mut plant.what {
            change(sets);
        }
        plant
    };
    vec![
        arms(
            "same",
            "nothing, at a process CV of 1 %",
            truth,
            &["equivalent", "changed but small", "inconclusive"],
        ),
        with(
            arms(
                "same-quiet",
                "nothing, at a process CV of 0.2 %",
                truth,
                &["equivalent"],
            ),
            |sets| {
                for truth in [&mut sets.baseline, &mut sets.candidate] {
                    truth.step.process_spread = 0.002;
                    truth.data.process_spread = 0.002;
                }
            },
        ),
        arms(
            "slower",
            "3 % slower at a process CV of 1 %",
            slower(0.03),
            &["regressed"],
        ),
        arms(
            "faster",
            "3 % faster at a process CV of 1 %",
            slower(-0.03),
            &["improved"],
        ),
        arms(
            "more-memory",
            "5 % more active memory",
            Truth {
                active: Series {
                    level: truth.active.level * 1.05,
                    ..truth.active
                },
                ..truth
            },
            &["regressed"],
        ),
        with(
            arms(
                "one-run",
                "10 % slower, one run an arm",
                slower(0.1),
                &["inconclusive"],
            ),
            |sets| sets.runs = 1,
        ),
        arms(
            "hotter",
            "3 % slower while the machine gets hot",
            Truth {
                thermal_state: [0, 2],
                ..slower(0.03)
            },
            &["void"],
        ),
        with(
            arms(
                "other-work",
                "3 % slower on longer sequences",
                slower(0.03),
                &["not comparable"],
            ),
            |sets| sets.candidate_length = 2 * SEQUENCE,
        ),
    ]
}

const SEQUENCE: u32 = 2048;

fn any(words: &[&str]) -> String {
    words.join(" or ")
}

fn of_times(judged: &Steadiness) -> String {
    let mut text = format!("times: {} cropped", judged.cropped);
    if let Some(level) = &judged.level {
        text += &format!(
            ", median {:.3} ms, p5 {:.3}, p95 {:.3}",
            level.median.value / 1e6,
            level.p05 / 1e6,
            level.p95 / 1e6
        );
    }
    if let Some(trend) = &judged.trend {
        text += &format!(", trend {:+.2} % (p {:.2e})", 100.0 * trend.change, trend.p);
    }
    if let Some(shift) = &judged.shift {
        text += &format!(
            ", shift {:+.2} % at {} (p {:.2e}, separation {:.2})",
            100.0 * shift.change,
            shift.at + 1,
            shift.p,
            shift.separation
        );
    }
    text
}

fn of_memory(name: &str, growth: &Growth) -> String {
    let mut text = format!(
        "{name}: {}, {} cropped",
        growth.verdict.word(),
        growth.cropped
    );
    if let (Some(slope), Some((low, high))) = (growth.slope, growth.interval) {
        text += &format!(
            ", {:.1} MiB per 1,000 iterations ({:.1} to {:.1})",
            leak::mib_per_thousand(slope),
            leak::mib_per_thousand(low),
            leak::mib_per_thousand(high)
        );
    }
    if let Some(bytes) = growth.staircase_bytes {
        text += &format!(", {:.1} MiB in steps", bytes / MIB);
    }
    text
}

fn of_metric(metric: &MetricComparison) -> String {
    let mut text = format!(
        "{}: {}, {:+.2} %",
        metric.name,
        metric.verdict.word(),
        100.0 * metric.change
    );
    if let Some(interval) = metric.adjusted {
        text += &format!(
            " ({:+.2} to {:+.2})",
            100.0 * interval.low,
            100.0 * interval.high
        );
    }
    text + &format!(", threshold {:.2} %", 100.0 * metric.threshold)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn findings(rules: &Rules, of: impl Fn(&Plant) -> bool) -> Vec<Finding> {
        let dir = tempfile::tempdir().unwrap();
        let check = |plant: &Plant| plant.check(rules, dir.path()).unwrap();
        plants()
            .iter()
            .filter(|plant| of(plant))
            .map(check)
            .collect()
    }

    #[test]
    fn every_plant_has_its_verdict() {
        for finding in findings(&Rules::default(), |_| true) {
            assert!(finding.pass, "{finding:#?}");
            assert!(
                finding.name == "other-work" || !finding.figures.is_empty(),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn every_word_of_the_rules_is_planted() {
        let words: BTreeSet<&str> = plants()
            .iter()
            .flat_map(|plant| match &plant.what {
                What::Run(run) => [run.times, run.memory, run.machine].concat(),
                What::Sets(sets) => sets.right.to_vec(),
                What::Gate(gate) => gate.right.iter().map(|(word, _)| *word).collect(),
            })
            .collect();
        for word in crate::rules::WORDS {
            assert!(words.contains(word.word), "{}", word.word);
        }
    }

    /// Checks these plants, and compares the names of those that did not pass.
    fn check_caught(change: impl FnOnce(&mut Rules), names: &[&str], missed: &[&str]) {
        let mut rules = Rules::default();
        change(&mut rules);
        let failed: Vec<_> = findings(&rules, |plant| names.contains(&plant.name))
            .into_iter()
            .filter(|finding| !finding.pass)
            .map(|finding| finding.name)
            .collect();
        assert_eq!(failed, missed);
    }

    #[test]
    fn a_judge_that_never_finds_growth_is_caught() {
        check_caught(
            |rules| {
                rules.leak.smallest_growth_bytes = f64::MAX;
                rules.leak.blind_share = f64::MAX;
            },
            &[
                "flat",
                "leak",
                "staircase",
                "cache-growth",
                "footprint-leak",
            ],
            &["leak", "staircase", "cache-growth", "footprint-leak"],
        );
    }

    #[test]
    fn a_judge_that_never_finds_a_change_is_caught() {
        check_caught(
            |rules| rules.comparison.practical = 1.0,
            &["same", "slower", "faster", "more-memory", "gate-slower"],
            &["slower", "faster", "more-memory", "gate-slower"],
        );
    }

    /// In how many of 40 trials, with other seeds each, `lfmark regress` finds a regression and
    /// confirms it, with its default number of processes at a process CV of 1 %.
    fn red(slower: f64) -> usize {
        let rules = Rules::default();
        let mut baseline = Truth::steady(30);
        baseline.step.process_spread = 0.01;
        baseline.step.rho = 0.3;
        let mut candidate = baseline;
        candidate.step.level *= 1.0 + slower;
        let plant = SetsPlant {
            baseline,
            candidate,
            runs: gate::REGRESS_PAIRS,
            candidate_length: SEQUENCE,
            right: &[],
        };
        let judged = |seed: u64| {
            let dir = tempfile::tempdir().unwrap();
            let set = plant.measure("trial", &rules, seed, dir.path());
            let mut summary = sets::summarize(&set.unwrap(), None);
            summary.comparisons.remove(0).comparison
        };
        let trials = parallel::map(40, |trial| {
            let first = judged(SEED + u64::from(trial));
            first.verdict == Verdict::Regressed && {
                let fresh = judged(SEED + 1_000 + u64::from(trial));
                let rate = rules.comparison.error_rate;
                let again = gate::again(&first.metrics, &fresh.metrics, rate);
                again.iter().any(|it| it.confirms)
            }
        });
        trials.into_iter().filter(|&red| red).count()
    }

    #[test]
    fn a_step_that_takes_10_percent_longer_is_red_in_each_of_40_trials() {
        assert_eq!(red(0.1), 40);
    }

    #[test]
    fn a_step_that_is_as_before_is_red_in_none_of_40_trials() {
        assert_eq!(red(0.0), 0);
    }
}
