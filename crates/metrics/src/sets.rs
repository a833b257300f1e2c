//! Runs that were started together, one process after another: one arm, or several to compare.
//!
//! The unit of inference is the process: each contributes one value of each metric. Nothing about
//! a set is stored but the records of its runs (and the noise floor it was judged with), so it is
//! read back from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::comparison::{
    self, Better, Circumstances, Comparison, Design, Metric, MetricComparison, MetricNoise,
    NoiseFloor, Run, Spread, Verdict,
};
use crate::noise::{Noise, differing, flat};
use crate::performance::{self, ArmFigure, Figure, Ratio};
use crate::record::{
    AdapterShape, GenerationConfig, Iteration, Machine, MachineState, Member, Quantization, Schema,
    Start, Weights,
};
use crate::rules::Rules;
use crate::steadiness;
use crate::store::{self, ReadError, Record};
use crate::summary::{self, RunStatus};
use crate::validity::{self, Mark};

/// Windows a process gives to the bootstrap, at most.
const MOST_WINDOWS: usize = 20;

/// What is compared between processes: one value of each a process, and less of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// Mean step after the warm-up, in nanoseconds.
    StepTime,
    /// 95th percentile of the steps after the warm-up, in nanoseconds.
    StepP95,
    /// Wall time from the first step after the warm-up to the last one's end, over their number,
    /// in nanoseconds.
    IterationWall,
    /// Mean over the prompts, in nanoseconds.
    FirstToken,
    /// Total time between tokens over their number, all prompts together, in nanoseconds.
    TokenTime,
    /// Highest MLX memory of training and generation, in bytes.
    PeakMemory,
    /// Largest process footprint that was read, in bytes, but for what the probe of the memory's
    /// bandwidth leaves.
    Footprint,
    /// From just before the process was started to the end of its tenth step, in nanoseconds.
    #[serde(rename = "time_to_step_10")]
    TimeToStep10,
}

impl MetricKind {
    pub const ALL: [Self; 8] = [
        Self::StepTime,
        Self::StepP95,
        Self::IterationWall,
        Self::FirstToken,
        Self::TokenTime,
        Self::PeakMemory,
        Self::Footprint,
        Self::TimeToStep10,
    ];

    /// As it stands in JSON and in a noise floor.
    pub fn name(self) -> &'static str {
        match self {
            Self::StepTime => "step_time",
            Self::StepP95 => "step_p95",
            Self::IterationWall => "iteration_wall",
            Self::FirstToken => "first_token",
            Self::TokenTime => "token_time",
            Self::PeakMemory => "peak_memory",
            Self::Footprint => "footprint",
            Self::TimeToStep10 => "time_to_step_10",
        }
    }

    /// Whether it counts bytes; the others are times.
    pub fn is_memory(self) -> bool {
        matches!(self, Self::PeakMemory | Self::Footprint)
    }

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

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

/// What a set needs of the record of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Name of the run folder.
    pub folder: String,
    pub member: Member,
    pub status: RunStatus,
    pub reason: Option<String>,
    pub start: Start,
    pub states: Vec<MachineState>,
    /// The metrics that were measured.
    pub measured: BTreeMap<MetricKind, Run>,
    /// The figures that were measured.
    pub figures: BTreeMap<Figure, f64>,
    pub work: Work,
    /// Stands for the token counts of every iteration.
    iterations_hash: u64,
    /// Tokens of every prompt and tokens generated for it.
    prompts: Vec<(u32, usize)>,
    /// What happened to the machine, or is true of it.
    pub marks: Vec<Mark>,
}

/// What a run had to do, however it did it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    pub weights: Weights,
    pub quantization: Option<Quantization>,
    pub config_sha256: Option<String>,
    pub tokenizer_sha256: Option<String>,
    pub parameters: u64,
    pub trainable_parameters: u64,
    pub adapters: Vec<AdapterShape>,
    pub data_sha256: String,
    pub dtype: String,
    pub iterations: u32,
    pub batch_size: u32,
    pub max_seq_length: u32,
    pub pad_to: u32,
    pub mask_prompt: bool,
    pub optimizer: String,
    pub dropout: f64,
    pub generation: GenerationConfig,
    /// Totals over the iterations.
    pub rows: u64,
    pub real_tokens: u64,
    pub padded_tokens: u64,
    pub loss_tokens: u64,
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
            let folders = || (first.folder.clone(), second.folder.clone());
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
                .and_then(|first| first.start.rules)
                .unwrap_or_default(),
            arms,
            processes,
            versus: Versus::default(),
            notices,
        })
    }

    /// The processes that ended in order.
    pub fn complete(&self) -> impl Iterator<Item = &Process> {
        let processes = self.processes.iter();
        processes.filter(|process| process.status == RunStatus::Complete)
    }

    /// The complete processes of an arm, in the order of its repeats.
    fn of_arm(&self, arm: &str) -> Vec<&Process> {
        let mut processes: Vec<_> = self
            .complete()
            .filter(|process| process.member.arm == arm)
            .collect();
        processes.sort_by_key(|process| process.member.repeat);
        processes
    }

    /// The metrics that all of these processes have, with one value each, and those left out.
    pub(crate) fn values(
        &self,
        processes: &[&Process],
    ) -> (Vec<(MetricKind, Vec<f64>)>, Vec<LeftOut>) {
        let mut values = Vec::new();
        let mut left_out = Vec::new();
        let first = processes.first();
        for metric in MetricKind::ALL {
            let of = |process: &&Process| process.measured.get(&metric).map(|run| run.value);
            let generated =
                |process: &&Process| first.map(|p| &p.prompts) == Some(&process.prompts);
            let why = match processes.iter().find(|process| of(process).is_none()) {
                _ if processes.is_empty() => "there is no complete run".to_owned(),
                Some(without) => format!("{} has no value of it", without.folder),
                None if metric == MetricKind::TokenTime && !processes.iter().all(generated) => {
                    "the runs generated different numbers of tokens".to_owned()
                }
                None => {
                    values.push((metric, processes.iter().filter_map(of).collect()));
                    continue;
                }
            };
            left_out.push(LeftOut { metric, why });
        }
        (values, left_out)
    }

    /// What makes these processes incomparable, or their numbers worthless.
    pub(crate) fn circumstances(&self, processes: &[&Process]) -> Circumstances {
        Circumstances {
            machine_changed: machine_changed(processes),
            different_work: different_work(processes),
        }
    }

    fn compare<'a>(
        &'a self,
        baseline: &str,
        candidate: &str,
        floor: Option<&NoiseFloor>,
    ) -> ArmComparison {
        let mut arms = [self.of_arm(baseline), self.of_arm(candidate)];
        let stolen = stolen(&arms, self.rules.validity.steal_share);
        let left = |arm: &Vec<&Process>| {
            let left = arm.iter().filter(|it| !stolen.contains(&it.member.repeat));
            left.count() >= self.rules.comparison.pairs_to_decide
        };
        let stolen_left_out = !stolen.is_empty() && arms.iter().all(left);
        if stolen_left_out {
            for arm in &mut arms {
                arm.retain(|it| !stolen.contains(&it.member.repeat));
            }
        }
        let both: Vec<&Process> = arms.iter().flatten().copied().collect();
        let repeats = |arm: &[&Process]| -> Vec<u32> {
            arm.iter().map(|process| process.member.repeat).collect()
        };
        // Without its neighbour a run is one of no pair.
        let design = match repeats(&arms[0]) == repeats(&arms[1]) {
            true => Design::Interleaved,
            false => Design::Independent,
        };
        let (values, mut left_out) = self.values(&both);
        let runs = |arm: &[&Process], metric: MetricKind| -> Vec<Run> {
            arm.iter()
                .filter_map(|process| process.measured.get(&metric).cloned())
                .collect()
        };
        let metrics: Vec<Metric> = values
            .iter()
            .map(|&(metric, _)| Metric {
                name: metric.name().to_owned(),
                better: Better::Lower,
                practical: None,
                baseline: runs(&arms[0], metric),
                candidate: runs(&arms[1], metric),
            })
            .collect();
        let circumstances = self.circumstances(&both);
        let rules = self.rules.comparison;
        let compared = comparison::compare(&metrics, design, &circumstances, floor, &rules);
        // The values are positive and as many as the design needs, so what is left is an arm
        // without any complete run, or without any metric.
        let compared = compared.unwrap_or_else(|error| {
            let known = |left: &LeftOut| left.metric;
            let known: Vec<MetricKind> = left_out.iter().map(known).collect();
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
        let figures = |arm: &[&'a Process]| -> Vec<&'a BTreeMap<Figure, f64>> {
            arm.iter().map(|process| &process.figures).collect()
        };
        let name = |arm: &[&'a Process]| arm.first().map(|process| process.start.program().0);
        ArmComparison {
            baseline: baseline.to_owned(),
            candidate: candidate.to_owned(),
            different_programs: match (name(&arms[0]), name(&arms[1])) {
                (Some(first), Some(second)) => first != second,
                _ => false,
            },
            ratios: performance::ratios(
                &figures(&arms[0]),
                &figures(&arms[1]),
                design,
                &circumstances,
                &rules,
            ),
            design,
            comparison: compared,
            stolen: stolen.into_iter().collect(),
            stolen_left_out,
            left_out,
        }
    }
}

/// Repeats in which other guests of the hardware had more than this share of the CPU time while a
/// process of either arm ran. None where a process does not say: leaving out the slow runs of one
/// arm alone would be no fair comparison.
fn stolen(arms: &[Vec<&Process>; 2], most: f64) -> BTreeSet<u32> {
    let shares = arms.iter().flatten().map(|process| {
        let share = validity::stolen(&process.states)?;
        Some((process.member.repeat, share))
    });
    let shares: Option<Vec<(u32, f64)>> = shares.collect();
    let too_much = shares.unwrap_or_default().into_iter();
    too_much
        .filter(|(_, share)| *share > most)
        .map(|(repeat, _)| repeat)
        .collect()
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

impl Process {
    /// `None` for a run by itself. `folder` is the name of its folder.
    pub fn of(folder: &str, record: &Record) -> Option<Self> {
        let member = record.start.member.clone()?;
        let prompts = record.generations.iter();
        let (measured, cropped) = measured(record);
        Some(Self {
            folder: folder.to_owned(),
            member,
            status: RunStatus::of(record.end.as_ref()),
            reason: record.end.as_ref().and_then(|end| end.reason.clone()),
            start: record.start.clone(),
            states: record.states.clone(),
            measured,
            figures: performance::figures(record, cropped),
            work: Work::of(record),
            iterations_hash: iterations_hash(record),
            prompts: prompts
                .map(|generation| (generation.prompt_tokens, generation.token_ids.len()))
                .collect(),
            marks: validity::marks(record, &record.start.rules.unwrap_or_default().validity),
        })
    }

    /// Every setting, and the build and library that it ran with, by path.
    fn settings(&self) -> Vec<(String, String)> {
        let Start {
            config,
            lfmark,
            mlx,
            model,
            data,
            ..
        } = &self.start;
        let build = crate::record::Build {
            native_setup: None,
            ..lfmark.clone()
        };
        let names = BTreeMap::from([("data", &data.name), ("model", &model.name)]);
        let mut settings = flat(&names);
        settings.extend(flat(&crate::record::Config {
            wired: Some(self.start.wired().to_owned()),
            ..config.clone()
        }));
        let under = |name: &str, fields: Vec<(String, String)>| -> Vec<(String, String)> {
            fields
                .into_iter()
                .map(|(path, value)| (format!("{name}.{path}"), value))
                .collect()
        };
        settings.extend(under("lfmark", flat(&build)));
        settings.extend(under("mlx", flat(mlx)));
        // Every process has empty folders of its own.
        let own = self.member.empty_caches.iter().flatten();
        let own: Vec<_> = own.map(|name| format!("mlx.variables.{name}")).collect();
        settings.retain(|(path, _)| !own.contains(path));
        settings
    }
}

impl Work {
    pub(crate) fn of(record: &Record) -> Self {
        let Start {
            config,
            model,
            data,
            ..
        } = &record.start;
        let total = |count: fn(&Iteration) -> u32| -> u64 {
            let counts = record.iterations.iter().map(|it| u64::from(count(it)));
            counts.sum()
        };
        Self {
            weights: model.weights.clone(),
            quantization: model.quantization.clone(),
            config_sha256: model.config_sha256.clone(),
            tokenizer_sha256: model.tokenizer_sha256.clone(),
            parameters: model.parameters,
            trainable_parameters: model.trainable_parameters,
            adapters: model.adapters.clone(),
            data_sha256: data.sha256.clone(),
            dtype: config.dtype.clone(),
            iterations: config.iterations,
            batch_size: config.batch_size,
            max_seq_length: config.max_seq_length,
            pad_to: config.pad_to,
            mask_prompt: config.mask_prompt,
            optimizer: config.optimizer.name.clone(),
            dropout: config.lora.dropout,
            generation: GenerationConfig {
                // They judge the work and are no part of it.
                checks: None,
                ..config.generation.clone()
            },
            rows: total(|it| it.rows),
            real_tokens: total(|it| it.real_tokens),
            padded_tokens: total(|it| it.padded_tokens),
            loss_tokens: total(|it| it.loss_tokens),
        }
    }
}

/// Stands for the token counts of every iteration.
pub(crate) fn iterations_hash(record: &Record) -> u64 {
    let mut hasher = DefaultHasher::new();
    for it in &record.iterations {
        (it.rows, it.real_tokens, it.padded_tokens, it.loss_tokens).hash(&mut hasher);
    }
    hasher.finish()
}

/// The metrics of one record. What was not measured, or is 0, is missing.
pub fn values(record: &Record) -> BTreeMap<MetricKind, f64> {
    let (measured, _) = measured(record);
    let values = measured.into_iter();
    values.map(|(metric, run)| (metric, run.value)).collect()
}

/// The metrics of one record, and the iterations taken for warm-up. What was not measured, or is 0,
/// is missing.
pub(crate) fn measured(record: &Record) -> (BTreeMap<MetricKind, Run>, usize) {
    let steps: Vec<u64> = record.iterations.iter().map(|it| it.step_ns).collect();
    let rules = record.start.rules.unwrap_or_default();
    let cropped = steadiness::judge(&steps, &rules.steadiness).cropped;
    let steady = record.iterations.get(cropped..).unwrap_or_default();
    let mean_step = |block: &[Iteration]| {
        let total: f64 = block.iter().map(|it| it.step_ns as f64).sum();
        total / block.len() as f64
    };
    let p95 = crate::stats::describe(&steps[cropped.min(steps.len())..]).map(|steps| steps.p95);
    let generations = &record.generations;
    let firsts = generations.iter().filter(|g| !g.token_ids.is_empty());
    let firsts: Vec<f64> = firsts.map(|g| g.first_token_ns as f64).collect();
    let tokens = generations.iter().flat_map(|g| &g.token_ns);
    let tokens: Vec<f64> = tokens.map(|&ns| ns as f64).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    // Copying memory takes some of its own, more than a small model.
    let states = record.states.iter().filter(|state| state.copies.is_none());
    let footprints = (record.iterations.iter().map(|it| it.footprint_bytes))
        .chain(generations.iter().map(|g| g.footprint_bytes))
        .chain(states.map(|state| state.footprint_bytes))
        .flatten();
    let alone = |value: f64| Run {
        value,
        windows: Vec::new(),
    };
    let all = [
        (MetricKind::StepTime, Some(over_time(steady, mean_step))),
        (MetricKind::StepP95, p95.map(alone)),
        (MetricKind::IterationWall, Some(over_time(steady, wall))),
        (MetricKind::FirstToken, Some(alone(mean(&firsts)))),
        (MetricKind::TokenTime, Some(alone(mean(&tokens)))),
        (
            MetricKind::PeakMemory,
            performance::peak_bytes(&record.iterations, generations)
                .map(|bytes| alone(bytes as f64)),
        ),
        (
            MetricKind::Footprint,
            footprints.max().map(|bytes| alone(bytes as f64)),
        ),
        (
            MetricKind::TimeToStep10,
            summary::time_to_step_10_ns(record).map(|ns| alone(ns as f64)),
        ),
    ];
    let positive = |value: &f64| value.is_finite() && *value > 0.0;
    let measured = all
        .into_iter()
        .filter_map(|(metric, run)| Some((metric, run?)))
        .filter(|(_, run)| positive(&run.value) && run.windows.iter().all(positive));
    (measured.collect(), cropped)
}

/// A value over all these iterations, and over equal blocks of them; those left over at the end
/// are in no block.
fn over_time(iterations: &[Iteration], value: impl Fn(&[Iteration]) -> f64) -> Run {
    let width = iterations.len().div_ceil(MOST_WINDOWS).max(1);
    Run {
        value: value(iterations),
        windows: iterations.chunks_exact(width).map(&value).collect(),
    }
}

/// Wall time per iteration in nanoseconds.
fn wall(iterations: &[Iteration]) -> f64 {
    let (Some(first), Some(last)) = (iterations.first(), iterations.last()) else {
        return f64::NAN;
    };
    let end = last.start_ns as f64 + last.data_ns as f64 + last.step_ns as f64;
    (end - first.start_ns as f64) / iterations.len() as f64
}

/// Why runs did not do the same work, or those of one arm not in the same way.
fn different_work(processes: &[&Process]) -> Option<String> {
    let first = processes.first()?;
    for process in &processes[1..] {
        let mut fields = differing(&first.work, &process.work);
        if fields.is_empty() && first.iterations_hash != process.iterations_hash {
            fields.push("tokens of single iterations".to_owned());
        }
        if !fields.is_empty() {
            return Some(format!(
                "{} and {} differ in {}",
                first.folder,
                process.folder,
                fields.join(", ")
            ));
        }
        let same_arm = |other: &&&Process| other.member.arm == process.member.arm;
        let sibling = processes.iter().find(same_arm)?;
        let fields = differing_settings(sibling, process);
        if !fields.is_empty() {
            return Some(format!(
                "{} and {} are of one arm and differ in {}",
                sibling.folder,
                process.folder,
                fields.join(", ")
            ));
        }
    }
    None
}

fn differing_settings(first: &Process, second: &Process) -> Vec<String> {
    let of = |process: &Process| -> BTreeMap<String, String> {
        process.settings().into_iter().collect()
    };
    differing(&of(first), &of(second))
}

/// Why the machine was not in one state throughout.
pub(crate) fn machine_changed(processes: &[&Process]) -> Option<String> {
    let mut in_time = processes.to_vec();
    in_time.sort_by_key(|process| process.member.number);
    let first = in_time.first()?;
    let states = || {
        let of = |process: &&Process| {
            let folder = process.folder.clone();
            let states = process.states.clone().into_iter();
            states.map(move |state| (folder.clone(), state))
        };
        in_time.iter().flat_map(of)
    };
    for process in &in_time[1..] {
        // Arms may run on different devices, and then name different GPUs.
        let fields = differing(&identity(first, process), &identity(process, first));
        if !fields.is_empty() {
            return Some(format!(
                "{} and {} ran on different machines ({})",
                first.folder,
                process.folder,
                fields.join(", ")
            ));
        }
    }
    let mut thermal = states().filter_map(|(run, state)| Some((run, state.thermal_state?)));
    if let Some((_, cool)) = thermal.next()
        && let Some((run, hot)) = thermal.find(|(_, state)| *state > cool)
    {
        return Some(format!(
            "the thermal state rose from {cool} to {hot} in {run}"
        ));
    }
    let source = states().filter_map(|(run, state)| Some((run, state.power_source?)));
    let number = |state: &MachineState| state.power_mode.map(|mode| mode.to_string());
    let mode = states().filter_map(|(run, state)| Some((run, number(&state)?)));
    let changed = changed("power source", source).or_else(|| changed("power mode", mode));
    changed.or_else(|| {
        in_time.iter().find_map(|process| {
            let disturbs = |mark: &&Mark| mark.verdict() == validity::Verdict::Disturbed;
            let mark = process.marks.iter().find(disturbs)?;
            Some(format!("{} in {}", mark.sentence(), process.folder))
        })
    })
}

/// What tells the machine of a process from that of another.
fn identity(process: &Process, other: &Process) -> Machine {
    let (own, other) = (process.start.machine.clone(), &other.start.machine);
    Machine {
        gpu: None,
        gpu_cores: None,
        // Builds that write an earlier schema do not read these.
        os_build: own.os_build.filter(|_| other.os_build.is_some()),
        cpu_tiers: own.cpu_tiers.filter(|_| other.cpu_tiers.is_some()),
        gpu_wired_limit_bytes: own
            .gpu_wired_limit_bytes
            .filter(|_| other.gpu_wired_limit_bytes.is_some()),
        gpu_driver: own.gpu_driver.filter(|_| other.gpu_driver.is_some()),
        gpu_power_limit_uw: own
            .gpu_power_limit_uw
            .filter(|_| other.gpu_power_limit_uw.is_some()),
        gpu_max_clock_hz: own
            .gpu_max_clock_hz
            .filter(|_| other.gpu_max_clock_hz.is_some()),
        cgroup: own.cgroup.filter(|_| other.cgroup.is_some()),
        ..own
    }
}

/// Says where a series of values left its first one.
fn changed(what: &str, mut values: impl Iterator<Item = (String, String)>) -> Option<String> {
    let (_, first) = values.next()?;
    let (run, other) = values.find(|(_, value)| *value != first)?;
    Some(format!(
        "the {what} changed from {first} to {other} in {run}"
    ))
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
        let measured = process.measured.iter();
        Self {
            run: process.folder.clone(),
            member: process.member.clone(),
            status: process.status,
            reason: process.reason.clone(),
            values: measured.map(|(metric, run)| (*metric, run.value)).collect(),
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
        let processes = set.of_arm(name);
        let (values, left_out) = set.values(&processes);
        let metrics = values.into_iter().filter_map(|(metric, values)| {
            Some(ArmMetric {
                metric,
                spread: comparison::spread(&values, &rules)?,
                noise: MetricNoise::of(&values),
                values,
            })
        });
        let figures: Vec<_> = processes.iter().map(|process| &process.figures).collect();
        let first = set
            .processes
            .iter()
            .find(|process| process.member.arm == *name);
        Arm {
            name: name.clone(),
            program: first.map(|first| {
                let (name, version) = first.start.program();
                Program {
                    name: name.to_owned(),
                    version: version.to_owned(),
                }
            }),
            runs: processes.len(),
            metrics: metrics.collect(),
            figures: performance::of_arm(&figures, &rules),
            left_out,
        }
    });
    let mut notices = set.notices.clone();
    let usable = noise.filter(|noise| {
        let baseline = set.arms.first().map(|arm| set.of_arm(arm));
        let first = baseline.as_ref().and_then(|processes| processes.first());
        let checked = first.map_or(Ok(()), |first| noise.check(first));
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
        let circumstances = set.circumstances(&set.of_arm(arm));
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
    let firsts = set.arms.iter().map(|arm| {
        let first = set
            .processes
            .iter()
            .find(|process| process.member.arm == *arm);
        first.map(Process::settings)
    });
    let arms: Vec<_> = firsts.collect();
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
mod tests;
