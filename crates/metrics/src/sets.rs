//! Runs that were started together, one process after another: one arm, or several to compare.
//!
//! The unit of inference is the process: each contributes one value of each metric. Nothing about
//! a set is stored but the records of its runs (and the noise floor it was judged with), so it is
//! read back from them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::comparison::{
    self, Comparison, Design, MetricComparison, MetricNoise, NoiseFloor, Spread, Verdict,
};
use crate::fields::{Fields, flat};
use crate::figures::{self, ArmFigure, Figure, MetricKind, Ratio};
use crate::key;
use crate::noise::{self, Noise, NoiseError, Owner, StoredNoise};
use crate::record::{Member, Schema, Start};
use crate::rules::Rules;
use crate::run::Run;
use crate::store::{self, ReadError, Record};
use crate::study::{self, Pairing};
use crate::summary::RunStatus;

/// The runs of a set, in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    pub name: String,
    /// In the order they first ran; the first one is the baseline.
    pub arms: Vec<String>,
    pub processes: Vec<Process>,
    /// What was found before it was measured.
    pub versus: Versus,
    /// The rules to judge by: those that the first run was recorded with, unless set otherwise.
    pub rules: Rules,
    /// What had to be left out when reading, one sentence each.
    pub notices: Vec<String>,
}

/// An arm that was asked for and could not be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmeasured {
    pub arm: String,
    /// A fragment of a sentence.
    pub why: String,
}

/// That arms do the same work, as their losses showed before they were measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SameWork {
    pub iterations: u32,
    /// The largest difference that is none, relative.
    pub tolerance: f64,
    /// The arm that the others were compared with.
    pub baseline: String,
    pub arms: Vec<Agreement>,
}

/// How far the losses of an arm are from those of the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    pub arm: String,
    /// The largest over the iterations, relative.
    pub loss_difference: f64,
}

/// Name of the file of what `lfmark versus` found before it measured a set, in the set's folder.
pub const VERSUS: &str = "versus.json";

/// The schema of that file.
const VERSUS_SCHEMA: Schema = Schema { major: 1, minor: 0 };

/// The content of that file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    pub unmeasured: Vec<Unmeasured>,
    pub same_work: Option<SameWork>,
}

#[derive(Serialize, Deserialize)]
struct VersusFile {
    schema: Schema,
    #[serde(flatten)]
    versus: Versus,
}

impl Versus {
    /// As the text of its file.
    pub fn text(&self) -> String {
        let file = VersusFile {
            schema: VERSUS_SCHEMA,
            versus: self.clone(),
        };
        let mut text = serde_json::to_string_pretty(&file).unwrap_or_default();
        text.push('\n');
        text
    }

    /// From the text of its file.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, as a fragment of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: VersusFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Schema { major, minor } = file.schema;
        if major != VERSUS_SCHEMA.major || minor > VERSUS_SCHEMA.minor {
            return Err(format!(
                "this build does not read its schema {major}.{minor}"
            ));
        }
        Ok(file.versus)
    }

    /// That of a set's folder, and what had to be left out.
    fn read(dir: &Path) -> (Self, Option<String>) {
        let read = match fs::read_to_string(dir.join(VERSUS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return (Self::default(), None);
            }
            Err(error) => Err(error.to_string()),
            Ok(text) => Self::parse(&text),
        };
        match read {
            Ok(versus) => (versus, None),
            Err(problem) => (
                Self::default(),
                Some(format!("{VERSUS} is left out: {problem}")),
            ),
        }
    }
}

/// One run of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    pub member: Member,
    pub run: Run,
}

impl Process {
    /// `None` for a run by itself. `folder` is the name of its folder.
    pub fn of(folder: &str, record: &Record) -> Option<Self> {
        let run = record
            .start
            .member
            .is_some()
            .then(|| Run::of(folder, record))?;
        Self::from_run(run)
    }

    /// The same of a run that is derived already.
    pub(crate) fn from_run(run: Run) -> Option<Self> {
        let member = run.member.clone()?;
        Some(Self { member, run })
    }
}

/// Why there is no set. The messages hold their causes, which are no sources.
#[derive(Debug, Error)]
pub enum SetError {
    #[error("cannot read {path}: {error}; name a run folder, or the folder of a set of runs")]
    Folder { path: PathBuf, error: io::Error },
    #[error(
        "no run of a set is in {path}; name a run folder, or a folder that `lfmark run --repeats` \
         or `lfmark noise` wrote"
    )]
    Empty { path: PathBuf },
    #[error(
        "{first} and {second} are of different sets ({first_set} and {second_set}); keep the runs \
         of each set in a folder of their own"
    )]
    Mixed {
        first: String,
        first_set: String,
        second: String,
        second_set: String,
    },
    #[error("{first} and {second} are both run {number} of their set; remove the copy")]
    Duplicate {
        first: String,
        second: String,
        number: u32,
    },
}

/// Whether a folder holds runs of a set rather than a run.
pub fn is_set(dir: &Path) -> bool {
    !dir.join(store::FILE_NAME).exists()
        && run_folders(dir).is_ok_and(|folders| !folders.is_empty())
}

/// Reads the runs in a folder. One that cannot be read, or is of no set, becomes a notice.
///
/// # Errors
///
/// See [`SetError`].
pub fn read(dir: &Path) -> Result<Set, SetError> {
    let folders = run_folders(dir).map_err(|error| SetError::Folder {
        path: dir.to_owned(),
        error,
    })?;
    let mut processes = Vec::new();
    let mut notices = Vec::new();
    for name in folders {
        match store::read(&dir.join(&name)) {
            Ok(record) => match Process::of(&name, &record) {
                Some(process) => processes.push(process),
                None => notices.push(format!(
                    "{name} is left out: it was not started as one of several runs"
                )),
            },
            Err(error) => notices.push(left_out(&name, &error)),
        }
    }
    if processes.is_empty() {
        return Err(SetError::Empty {
            path: dir.to_owned(),
        });
    }
    let (versus, notice) = Versus::read(dir);
    notices.extend(notice);
    Ok(Set {
        versus,
        ..Set::new(processes, notices)?
    })
}

/// What is said of a folder whose record cannot be read.
pub(crate) fn left_out(folder: &str, error: &ReadError) -> String {
    let problem = match error {
        // Without the path, which a report does not show.
        ReadError::File { error, .. } => error.to_string(),
        ReadError::Record { error, .. } => error.to_string(),
    };
    format!("{folder} is left out: {problem}")
}

/// Names of the folders in `dir` that hold a record, in order.
pub(crate) fn run_folders(dir: &Path) -> io::Result<Vec<String>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().join(store::FILE_NAME).exists() {
            folders.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    folders.sort();
    Ok(folders)
}

impl Set {
    /// Of at least one process.
    ///
    /// # Errors
    ///
    /// For runs of different sets, and for two with one number.
    pub fn new(mut processes: Vec<Process>, notices: Vec<String>) -> Result<Self, SetError> {
        processes.sort_by_key(|process| process.member.number);
        for pair in processes.windows(2) {
            let [first, second] = pair else { continue };
            let folders = || (first.run.name.clone(), second.run.name.clone());
            if first.member.set != second.member.set {
                let (first_folder, second_folder) = folders();
                return Err(SetError::Mixed {
                    first: first_folder,
                    first_set: first.member.set.clone(),
                    second: second_folder,
                    second_set: second.member.set.clone(),
                });
            }
            if first.member.number == second.member.number {
                let (first_folder, second_folder) = folders();
                return Err(SetError::Duplicate {
                    first: first_folder,
                    second: second_folder,
                    number: first.member.number,
                });
            }
        }
        let mut arms: Vec<String> = Vec::new();
        for process in &processes {
            if !arms.contains(&process.member.arm) {
                arms.push(process.member.arm.clone());
            }
        }
        let first = processes.first();
        Ok(Self {
            name: first
                .map(|first| first.member.set.clone())
                .unwrap_or_default(),
            rules: first
                .and_then(|first| first.run.start.rules)
                .unwrap_or_default(),
            arms,
            processes,
            versus: Versus::default(),
            notices,
        })
    }

    /// The runs that ended in order, in the order of time.
    pub fn complete(&self) -> Vec<&Run> {
        let runs = self.processes.iter().map(|process| &process.run);
        runs.filter(|run| run.is_complete()).collect()
    }

    /// The complete runs of an arm, in the order of its repeats.
    fn of_arm(&self, arm: &str) -> Vec<&Run> {
        let mut processes: Vec<_> = self
            .processes
            .iter()
            .filter(|it| it.member.arm == arm && it.run.is_complete())
            .collect();
        processes.sort_by_key(|process| process.member.repeat);
        processes.iter().map(|process| &process.run).collect()
    }

    /// The first process of an arm, complete or not.
    fn first_of(&self, arm: &str) -> Option<&Run> {
        let mut processes = self.processes.iter();
        let first = processes.find(|process| process.member.arm == arm)?;
        Some(&first.run)
    }

    fn compare(
        &self,
        baseline: &str,
        candidate: &str,
        floor: Option<&NoiseFloor>,
    ) -> ArmComparison {
        let rules = self.rules.comparison;
        let arms = [baseline, candidate].map(|arm| self.of_arm(arm));
        let pairing = Pairing::new(arms, &self.rules, &study::nothing);
        let both = pairing.arms.concat();
        let (_, mut left_out) = values(&both);
        let compared = comparison::compare(
            &pairing.metrics(),
            pairing.design,
            &pairing.circumstances,
            floor,
            &rules,
        );
        // The values are positive and as many as the design needs, so what is left is an arm
        // without any complete run, or without any metric.
        let compared = compared.unwrap_or_else(|error| {
            let known: Vec<MetricKind> = left_out.iter().map(|left| left.metric).collect();
            let missing = MetricKind::ALL.into_iter().filter(|m| !known.contains(m));
            left_out.extend(missing.map(|metric| LeftOut {
                metric,
                why: error.to_string(),
            }));
            Comparison {
                verdict: Verdict::Inconclusive { more_runs: None },
                metrics: Vec::new(),
            }
        });
        let [first, second] = &pairing.arms;
        let name = |arm: &[&Run]| arm.first().map(|run| run.start.program().0.to_owned());
        ArmComparison {
            baseline: baseline.to_owned(),
            candidate: candidate.to_owned(),
            different_programs: match (name(first), name(second)) {
                (Some(first), Some(second)) => first != second,
                _ => false,
            },
            ratios: figures::ratios(
                &figures(first),
                &figures(second),
                pairing.design,
                &pairing.circumstances,
                &rules,
            ),
            design: pairing.design,
            comparison: compared,
            stolen: pairing.stolen.into_iter().collect(),
            stolen_left_out: pairing.stolen_left_out,
            left_out,
        }
    }
}

impl Noise {
    /// From the runs of a set of one arm, in one state of the machine.
    ///
    /// # Errors
    ///
    /// For fewer than two complete runs, runs that differ in their work or how it was done, and a
    /// machine whose state changed.
    pub fn of(set: &Set) -> Result<Self, NoiseError> {
        let runs = set.complete();
        let [first, _, ..] = runs[..] else {
            return Err(NoiseError::TooFew {
                complete: runs.len(),
            });
        };
        let circumstances = study::circumstances(&[&runs], true, &study::nothing);
        let unfit = circumstances
            .different_work
            .or(circumstances.machine_changed);
        if let Some(why) = unfit {
            return Err(NoiseError::Unfit { why });
        }
        let (metrics, _) = values(&runs);
        let rules = set.rules.comparison;
        let metrics = metrics.into_iter().filter_map(|(metric, values)| {
            let noise = MetricNoise::of(&values)?;
            let stored = StoredNoise {
                noise,
                geometric_mean: comparison::spread(&values, &rules)?.geometric_mean,
                difference_99: noise::ARM_SIZES
                    .map(|runs| (runs, noise.difference_99(runs as usize, runs as usize)))
                    .into(),
            };
            Some((metric.name().to_owned(), stored))
        });
        Ok(Self {
            schema: noise::SCHEMA,
            measured_unix_ms: first.started_unix_ms,
            set: set.name.clone(),
            runs: runs.iter().map(|run| run.name.clone()).collect(),
            key: Owner::of(&first.key),
            metrics: metrics.collect(),
        })
    }
}

fn figures<'a>(runs: &[&'a Run]) -> Vec<&'a BTreeMap<Figure, f64>> {
    runs.iter().map(|run| &run.figures).collect()
}

/// The metrics that all of these runs have, with one value each, and those left out.
pub(crate) fn values(runs: &[&Run]) -> (Vec<(MetricKind, Vec<f64>)>, Vec<LeftOut>) {
    let mut values = Vec::new();
    let mut left_out = Vec::new();
    let alike_texts = study::alike_texts(runs.iter().copied());
    for metric in MetricKind::ALL {
        let of = |run: &&Run| run.value(metric);
        let why = match runs.iter().find(|run| of(run).is_none()) {
            _ if runs.is_empty() => "there is no complete run".to_owned(),
            Some(without) => format!("{} has no value of it", without.name),
            None if metric == MetricKind::TokenTime && !alike_texts => {
                "the runs generated different numbers of tokens".to_owned()
            }
            None => {
                values.push((metric, runs.iter().filter_map(of).collect()));
                continue;
            }
        };
        left_out.push(LeftOut { metric, why });
    }
    (values, left_out)
}

impl ArmComparison {
    /// The word for one metric's verdict: as [`crate::rules::WORDS`] has it, but that no program
    /// is another one for the worse or the better.
    pub fn word(&self, metric: &MetricComparison) -> &'static str {
        let kind = MetricKind::named(&metric.name);
        let memory = kind.is_some_and(MetricKind::is_memory);
        match &metric.verdict {
            Verdict::Regressed if self.different_programs && memory => "more",
            Verdict::Regressed if self.different_programs => "slower",
            Verdict::Improved if self.different_programs && memory => "less",
            Verdict::Improved if self.different_programs => "faster",
            verdict => verdict.word(),
        }
    }
}

/// Every setting of a run, and the build and library that it ran with, by path.
fn settings(run: &Run) -> Fields {
    let Start {
        config,
        lfmark,
        mlx,
        model,
        data,
        ..
    } = &*run.start;
    let build = crate::record::Build {
        native_setup: None,
        ..lfmark.clone()
    };
    let names = BTreeMap::from([("data", &data.name), ("model", &model.name)]);
    let under = |name: &'static str, fields: Fields| {
        let path = move |(path, value)| (format!("{name}.{path}"), value);
        fields.into_iter().map(path)
    };
    let mut settings = flat(&names);
    settings.extend(flat(&crate::record::Config {
        wired: Some(run.start.wired().to_owned()),
        ..config.clone()
    }));
    settings.extend(under("lfmark", flat(&build)));
    settings.extend(under("mlx", flat(mlx)));
    let own = key::own_folders(&run.start);
    settings.retain(|(path, _)| !own.contains(path));
    settings
}

/// Everything a report shows of a set, derived by [`summarize`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub set: String,
    /// In the order of the set: the first one is the baseline.
    pub arms: Vec<Arm>,
    /// What `lfmark versus` found before it measured.
    pub versus: Versus,
    /// Settings in which the arms differ, with one value an arm.
    pub settings: Vec<Setting>,
    /// Each further arm against the first one.
    pub comparisons: Vec<ArmComparison>,
    /// In the order of time.
    pub processes: Vec<ProcessSummary>,
    /// What could not be read, and so was no condition, in at least one wait.
    pub unread: Vec<String>,
    /// Whether the comparisons used a noise floor of this machine and this work.
    pub has_floor: bool,
    /// Why the machine was not in one state throughout, or runs of one arm did different things.
    pub warnings: Vec<String>,
    pub notices: Vec<String>,
}

/// The complete runs of one arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arm {
    pub name: String,
    /// What did the work in its first run.
    pub program: Option<Program>,
    pub runs: usize,
    pub metrics: Vec<ArmMetric>,
    /// What programs are compared by.
    pub figures: Vec<ArmFigure>,
    pub left_out: Vec<LeftOut>,
}

/// A program with its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    pub name: String,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmMetric {
    pub metric: MetricKind,
    /// One a process, in the order of the repeats.
    pub values: Vec<f64>,
    pub spread: Spread,
    /// From two values on.
    pub noise: Option<MetricNoise>,
}

/// A metric that is not shown, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    pub metric: MetricKind,
    pub why: String,
}

/// A setting in which arms differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub name: String,
    /// One an arm; `None` for an arm without a run.
    pub values: Vec<Option<String>>,
}

/// One arm against the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmComparison {
    pub baseline: String,
    pub candidate: String,
    /// Whether one is not another state of the other: then a difference is none for the better or
    /// the worse, but one between programs.
    pub different_programs: bool,
    pub design: Design,
    pub comparison: Comparison,
    /// Of the baseline to the candidate.
    pub ratios: Vec<Ratio>,
    /// Repeats in which other guests of the hardware had more of the CPU time than `steal-share`
    /// allows, where every process says how much they had.
    pub stolen: Vec<u32>,
    /// Whether these are left out: as many others are left as decide by pairs.
    pub stolen_left_out: bool,
    pub left_out: Vec<LeftOut>,
}

/// One process of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessSummary {
    pub run: String,
    pub member: Member,
    pub status: RunStatus,
    /// For a run that was interrupted or failed: why, as it was recorded.
    pub reason: Option<String>,
    pub values: BTreeMap<MetricKind, f64>,
}

impl ProcessSummary {
    pub(crate) fn of(process: &Process) -> Self {
        let run = &process.run;
        Self {
            run: run.name.clone(),
            member: process.member.clone(),
            status: run.status,
            reason: run.reason.clone(),
            values: run.values(),
        }
    }
}

/// What could not be read in at least one wait, each once.
pub(crate) fn unread<'a>(processes: impl IntoIterator<Item = &'a Process>) -> Vec<String> {
    let mut unread: Vec<String> = Vec::new();
    for what in processes.into_iter().flat_map(|it| &it.member.unread) {
        if !unread.contains(what) {
            unread.push(what.clone());
        }
    }
    unread
}

/// Derives the summary of a set, with the noise floor that lies beside it.
pub fn summarize(set: &Set, noise: Option<&Noise>) -> Summary {
    let rules = set.rules.comparison;
    let arms = set.arms.iter().map(|name| {
        let runs = set.of_arm(name);
        let (values, left_out) = values(&runs);
        let metrics = values.into_iter().filter_map(|(metric, values)| {
            Some(ArmMetric {
                metric,
                spread: comparison::spread(&values, &rules)?,
                noise: MetricNoise::of(&values),
                values,
            })
        });
        let first = set.first_of(name);
        Arm {
            name: name.clone(),
            program: first.map(|first| {
                let (name, version) = first.start.program();
                Program {
                    name: name.to_owned(),
                    version: version.to_owned(),
                }
            }),
            runs: runs.len(),
            metrics: metrics.collect(),
            figures: figures::of_arm(&figures(&runs), &rules),
            left_out,
        }
    });
    let mut notices = set.notices.clone();
    let usable = noise.filter(|noise| {
        let baseline = set.arms.first().map(|arm| set.of_arm(arm));
        let first = baseline.as_ref().and_then(|runs| runs.first());
        let checked = first.map_or(Ok(()), |first| noise.check(&first.key));
        if let Err(error) = &checked {
            notices.push(format!(
                "the noise floor beside the runs is not used: {error}"
            ));
        }
        checked.is_ok()
    });
    let floor = usable.map(Noise::floor);
    let (baseline, others) = match set.arms.split_first() {
        Some((baseline, others)) => (baseline.as_str(), others),
        None => ("", [].as_slice()),
    };
    let warnings = set.arms.iter().filter_map(|arm| {
        let circumstances = study::circumstances(&[&set.of_arm(arm)], true, &study::nothing);
        circumstances
            .different_work
            .or(circumstances.machine_changed)
    });
    let mut warnings: Vec<String> = warnings.collect();
    warnings.dedup();
    Summary {
        set: set.name.clone(),
        arms: arms.collect(),
        versus: set.versus.clone(),
        settings: differing_between_arms(set),
        comparisons: others
            .iter()
            .map(|arm| set.compare(baseline, arm, floor.as_ref()))
            .collect(),
        processes: set.processes.iter().map(ProcessSummary::of).collect(),
        unread: unread(&set.processes),
        has_floor: floor.is_some(),
        warnings,
        notices,
    }
}

/// Settings of the first run of each arm, where they are not all alike.
fn differing_between_arms(set: &Set) -> Vec<Setting> {
    let arms = set.arms.iter();
    let arms: Vec<_> = arms.map(|arm| set.first_of(arm).map(settings)).collect();
    let mut settings: Vec<Setting> = Vec::new();
    for (name, _) in arms.iter().flatten().flatten() {
        let values = arms.iter().map(|arm| {
            let (_, value) = arm.as_ref()?.iter().find(|(path, _)| path == name)?;
            Some(value.clone())
        });
        let values: Vec<_> = values.collect();
        let alike = values.windows(2).all(|pair| pair[0] == pair[1]);
        if !alike && !settings.iter().any(|setting| setting.name == *name) {
            settings.push(Setting {
                name: name.clone(),
                values,
            });
        }
    }
    settings
}

#[cfg(test)]
pub(crate) mod tests;
