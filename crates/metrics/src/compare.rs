//! Runs that were not started together: those of several machines, builds or days, in columns.
//!
//! Like is compared with like: runs have one [`Key`], or differ only in fields that were allowed
//! to. The unit of inference is the process, as in [`crate::sets`], and the decision is that of
//! [`crate::comparison`], on unpaired runs. Of a run only what is compared is kept, so that
//! thousands of them fit.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use serde::Serialize;
use thiserror::Error;

use crate::comparison::{self, Better, Circumstances, Comparison, Design, Metric, spread};
use crate::leak;
use crate::noise::{self, flat};
use crate::performance::{self, Figure};
use crate::record::{Member, Start};
use crate::rules::ComparisonRules;
use crate::sets::{self, MetricKind, Work};
use crate::store::Record;
use crate::summary::{self, RunStatus};
use crate::{bandwidth, roofline, validity};

/// Runs to compare, as they were read.
#[derive(Debug, Default)]
pub struct Runs {
    runs: Vec<Run>,
    /// Of the first run of every column.
    columns: Vec<Origin>,
    /// What tells every column from the others, and which it is.
    identities: HashMap<Identity, usize>,
    /// Whether builds of a program are one column.
    across_builds: bool,
    /// Those of all keys and machines, each once.
    fields: HashSet<Rc<Fields>>,
    seen: HashSet<u64>,
    notices: Vec<String>,
}

/// Fields with their paths, in order.
pub type Fields = Vec<(String, String)>;

/// What has to be equal of runs for their numbers to be compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Key {
    #[serde(flatten)]
    pub work: Work,
    pub lora_targets: Vec<String>,
    pub lora_rank: u32,
    /// Stands for the token counts of every iteration.
    pub iteration_tokens: String,
    pub compile: bool,
    pub clear_cache: bool,
    /// Metal's wired limit.
    pub wired: String,
    pub mlx_version: String,
    /// `release` or `debug`.
    pub profile: String,
}

impl Key {
    pub fn of(record: &Record) -> Self {
        let Start {
            config,
            mlx,
            lfmark,
            ..
        } = &record.start;
        Self {
            work: Work::of(record),
            lora_targets: config.lora.targets.clone(),
            lora_rank: config.lora.rank,
            iteration_tokens: format!("{:016x}", sets::iterations_hash(record)),
            compile: config.compile,
            clear_cache: config.clear_cache,
            wired: record.start.wired().to_owned(),
            mlx_version: mlx.version.clone(),
            profile: lfmark.profile.clone(),
        }
    }
}

/// What tells a column from the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    argument: String,
    machine: Rc<Fields>,
    arm: Option<String>,
    program: String,
    /// Version, commit, and whether it had changes; `None` where builds are one column.
    build: Option<(String, Option<String>, Option<bool>)>,
}

/// What is kept of a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Origin {
    argument: String,
    pub(crate) machine: Rc<Fields>,
    arm: Option<String>,
    /// Of its first run, without the lengths of its samples.
    pub(crate) start: Start,
    bandwidth: Option<Bandwidth>,
    /// Of the noise floor that its first run needs.
    noise_key: noise::Key,
    steps: Steps,
}

/// The step times of the runs of a column that are ranked, at every iteration that all have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Steps {
    runs: usize,
    total_ns: Vec<f64>,
}

impl Steps {
    fn add(&mut self, record: &Record) {
        let times = record.iterations.iter().map(|it| it.step_ns as f64);
        match self.runs {
            0 => self.total_ns = times.collect(),
            _ => {
                self.total_ns.truncate(record.iterations.len());
                self.total_ns
                    .iter_mut()
                    .zip(times)
                    .for_each(|(total, ns)| *total += ns);
            }
        }
        self.runs += 1;
    }

    /// Iterations, and the harmonic mean of the runs' rates at each.
    fn rates(&self) -> Vec<(u32, f64)> {
        let rates = self.total_ns.iter().map(|ns| self.runs as f64 * 1e9 / ns);
        (1..).zip(rates).filter(|it| it.1.is_finite()).collect()
    }
}

/// What is kept of one run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) column: usize,
    /// The same for a copy of it.
    identity: u64,
    pub(crate) key: Rc<Fields>,
    /// What was recorded of settings that are not in the key.
    pub(crate) settings: Rc<Fields>,
    /// Of the system and library, what an update changes.
    pub(crate) system: Rc<Fields>,
    /// Of the build, where it had no changes; else why it stands for none.
    pub(crate) commit: Result<Rc<str>, &'static str>,
    pub(crate) started_unix_ms: u64,
    pub(crate) status: RunStatus,
    pub(crate) marks: Vec<validity::Mark>,
    pub(crate) values: BTreeMap<MetricKind, f64>,
    pub(crate) rates: BTreeMap<Rate, f64>,
    /// Per iteration.
    counts: BTreeMap<Count, f64>,
    pub(crate) growth: Option<leak::Verdict>,
    /// Its place in its set, where it was started in one.
    pub(crate) member: Option<Member>,
    /// Power source and energy mode, as first read.
    pub(crate) power: [Option<String>; 2],
    /// Mean power while the rate was measured, by rail.
    watts: Vec<(Rate, String, f64)>,
    /// Lengths of the prompts and of what was generated for them, in tokens.
    texts: Vec<(u32, usize)>,
}

/// A rate that is shown beside the metrics, and normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// Iterations per second of step time, after the warm-up.
    Iterations,
    /// Tokens of the samples themselves per second of step time, after the warm-up.
    TrainedTokens,
    /// Tokens after the first one per second, all prompts together.
    GeneratedTokens,
}

impl Rate {
    pub const ALL: [Self; 3] = [Self::Iterations, Self::TrainedTokens, Self::GeneratedTokens];
}

/// What the processor counted of a process, per iteration. It is shown and decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    Instructions,
    Cycles,
    /// Joules that macOS billed to the process.
    ProcessEnergy,
}

impl Count {
    pub const ALL: [Self; 3] = [Self::Instructions, Self::Cycles, Self::ProcessEnergy];

    fn of(self, counted: &summary::PerIteration) -> Option<f64> {
        match self {
            Self::Instructions => counted.instructions,
            Self::Cycles => counted.cycles,
            Self::ProcessEnergy => counted.energy_joules,
        }
    }
}

/// What a rate is divided by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "unit", rename_all = "snake_case")]
pub enum Per {
    /// GB/s of the memory.
    Bandwidth,
    GpuCore,
    /// Mean power of this rail while the rate was measured.
    Watt {
        rail: String,
    },
}

/// How fast the memory of a column's device is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bandwidth {
    pub bytes_per_second: f64,
    /// Where the figure is published; `None` where the first run measured it.
    pub source: Option<&'static str>,
}

/// Why runs are not compared.
#[derive(Debug, Error, PartialEq)]
pub enum CompareError {
    #[error(
        "these runs are not alike: {}; compare runs of the same work, or give --allow with each \
         field that may differ",
        fields.iter().map(Difference::text).collect::<Vec<_>>().join("; ")
    )]
    Mismatch { fields: Vec<Difference> },
    #[error("--allow {field}: runs have no such field; the fields are {known}")]
    UnknownField { field: String, known: String },
    #[error(
        "there are fewer than two columns to compare: {}; name runs of another machine, build or day",
        .0
    )]
    TooFew(String),
}

/// A field of the key in which runs differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub field: String,
    /// One of the first run, and the first other one; `None` where there is no such field.
    pub values: [Option<String>; 2],
    /// The runs that have them.
    pub runs: [String; 2],
}

/// A value longer than this is not shown in a message.
const LONGEST_VALUE: usize = 60;

/// A value of a field, as a message shows it.
fn shown(value: Option<&str>) -> &str {
    match value {
        None => "none",
        Some(long) if long.len() > LONGEST_VALUE => "another value",
        Some(value) => value,
    }
}

impl Difference {
    /// As in "dtype (f32 in a, bf16 in b)".
    pub fn text(&self) -> String {
        let of = |at: usize| {
            let value = shown(self.values[at].as_deref());
            format!("{value} in {}", self.runs[at])
        };
        format!("{} ({}, {})", self.field, of(0), of(1))
    }
}

impl Runs {
    /// None yet, and all builds of a program on one machine will be one column.
    pub fn across_builds() -> Self {
        Self {
            across_builds: true,
            ..Self::default()
        }
    }

    /// Adds a run. `argument` is what its column is called after, `name` the run itself.
    ///
    /// A copy of a run that is there already is left out, since it is no further measurement.
    pub fn add(&mut self, argument: &str, name: &str, record: &Record) {
        let start = &record.start;
        let times: Vec<u64> = record.iterations.iter().map(|it| it.step_ns).collect();
        let mut hasher = DefaultHasher::new();
        (&start.run_id, start.started_unix_ms, &times).hash(&mut hasher);
        for generation in &record.generations {
            generation.token_ns.hash(&mut hasher);
        }
        let identity = hasher.finish();
        if !self.seen.insert(identity) {
            self.notices
                .push(format!("{name} is left out: it is a copy of another run"));
            return;
        }
        let (values, cropped) = sets::measured(record);
        let values: BTreeMap<_, _> = values
            .into_iter()
            .map(|(kind, run)| (kind, run.value))
            .collect();
        let figures = performance::figures(record, cropped);
        let rates = [
            (
                Rate::Iterations,
                figures.get(&Figure::IterationRate).copied(),
            ),
            (
                Rate::TrainedTokens,
                figures.get(&Figure::TokenRate).copied(),
            ),
            (
                Rate::GeneratedTokens,
                values.get(&MetricKind::TokenTime).map(|ns| 1e9 / ns),
            ),
        ];
        let summary = summary::summarize(record);
        let rails = summary.energy.iter().flat_map(|energy| &energy.rails);
        let watts = rails.flat_map(|rail| {
            let of = |rate, slice: &Option<crate::energy::Slice>| {
                let watts = slice.as_ref()?.watts;
                (watts > 0.0).then(|| (rate, rail.name.clone(), watts))
            };
            let training =
                [Rate::Iterations, Rate::TrainedTokens].map(|rate| of(rate, &rail.training));
            training
                .into_iter()
                .chain([of(Rate::GeneratedTokens, &rail.generation)])
                .flatten()
        });
        let states = &record.states;
        let machine = interned(&mut self.fields, machine_fields(start));
        let run = Run {
            name: name.to_owned(),
            column: self.column(argument, machine, record),
            identity,
            key: interned(&mut self.fields, flat(&Key::of(record))),
            settings: interned(&mut self.fields, settings(start)),
            system: interned(&mut self.fields, system(start)),
            commit: commit(start),
            started_unix_ms: start.started_unix_ms,
            status: summary.status,
            marks: summary.marks.clone(),
            values,
            rates: rates
                .into_iter()
                .filter_map(|(rate, value)| Some((rate, value?)))
                .collect(),
            counts: Count::ALL
                .into_iter()
                .filter_map(|count| {
                    let counted = summary.counted.as_ref()?.training.as_ref()?;
                    Some((count, count.of(counted)?))
                })
                .collect(),
            growth: summary.memory.growth.map(|growth| growth.verdict),
            member: start.member.clone(),
            power: [
                states.iter().find_map(|state| state.power_source.clone()),
                states.iter().find_map(validity::energy_mode),
            ],
            watts: watts.collect(),
            texts: record
                .generations
                .iter()
                .map(|it| (it.prompt_tokens, it.token_ids.len()))
                .collect(),
        };
        if not_ranked(&run).is_none() {
            self.columns[run.column].steps.add(record);
        }
        self.runs.push(run);
    }

    /// Adds what has to be said of reading.
    pub fn notice(&mut self, notice: String) {
        self.notices.push(notice);
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// The commits that runs measure.
    pub fn commits(&self) -> BTreeSet<&str> {
        let commits = self.runs.iter().map(|run| run.commit.as_deref());
        commits.filter_map(Result::ok).collect()
    }

    /// The names of the runs, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.runs.iter().map(|run| run.name.as_str())
    }

    /// The names, here and there, of the runs that these have in common.
    pub fn in_both<'a>(&'a self, others: &'a Self) -> Vec<(&'a str, &'a str)> {
        let here: HashMap<u64, &str> = self
            .runs
            .iter()
            .map(|run| (run.identity, run.name.as_str()))
            .collect();
        let there = others.runs.iter();
        there
            .filter_map(|run| Some((*here.get(&run.identity)?, run.name.as_str())))
            .collect()
    }

    pub(crate) fn all(&self) -> &[Run] {
        &self.runs
    }

    /// The key of the noise floor that the first run needs.
    pub fn noise_key(&self) -> Option<&noise::Key> {
        self.columns.first().map(|column| &column.noise_key)
    }

    /// The builds of lfmark that did the work, each with its version, commit, and whether that was
    /// changed.
    pub fn builds(&self) -> BTreeSet<(String, Option<String>, Option<bool>)> {
        let builds = self.columns.iter().map(|column| {
            let build = &column.start.lfmark;
            (build.version.clone(), build.commit.clone(), build.dirty)
        });
        builds.collect()
    }

    /// What had to be said of reading.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The stable fields of a run's machine, and of the device in it.
    pub(crate) fn machine(&self, run: &Run) -> &Fields {
        &self.columns[run.column].machine
    }

    pub(crate) fn columns(&self) -> &[Origin] {
        &self.columns
    }

    fn column(&mut self, argument: &str, machine: Rc<Fields>, record: &Record) -> usize {
        let start = &record.start;
        let (program, version) = start.program();
        let lfmark = &start.lfmark;
        let identity = Identity {
            argument: argument.to_owned(),
            machine: Rc::clone(&machine),
            arm: start.member.as_ref().map(|member| member.arm.clone()),
            program: program.to_owned(),
            build: (!self.across_builds)
                .then(|| (version.to_owned(), lfmark.commit.clone(), lfmark.dirty)),
        };
        let next = self.columns.len();
        let column = *self.identities.entry(identity).or_insert(next);
        if column == next {
            let mut kept = start.clone();
            kept.data.sample_tokens = Vec::new();
            self.columns.push(Origin {
                argument: argument.to_owned(),
                machine,
                arm: start.member.as_ref().map(|member| member.arm.clone()),
                noise_key: noise::Key::new(&kept, Work::of(record)),
                start: kept,
                bandwidth: bandwidth_of(record),
                steps: Steps::default(),
            });
        }
        column
    }
}

/// The one of these that is equal, or this one as another.
fn interned(known: &mut HashSet<Rc<Fields>>, fields: Fields) -> Rc<Fields> {
    if let Some(same) = known.get(&fields) {
        return Rc::clone(same);
    }
    let fields = Rc::new(fields);
    known.insert(Rc::clone(&fields));
    fields
}

/// The commit that a run measures, or why it measures none.
fn commit(start: &Start) -> Result<Rc<str>, &'static str> {
    let build = &start.lfmark;
    match (&build.commit, build.dirty) {
        _ if start.engine.is_some() => Err("another program did its work, of no commit"),
        (_, Some(true)) => Err("it was built with changes that were not committed"),
        (Some(commit), _) => Ok(commit.as_str().into()),
        (None, _) => Err("its build names no commit"),
    }
}

/// What is the same of a machine, and of the device that is used, from run to run.
pub fn machine_fields(start: &Start) -> Fields {
    let mut fields = flat(&start.machine.stable());
    for (name, value) in [
        ("device", Some(&start.config.device)),
        ("backend", Some(&start.mlx.backend)),
        ("device_name", start.mlx.device_name.as_ref()),
    ] {
        let value = value.cloned().unwrap_or_default();
        fields.push((name.to_owned(), value));
    }
    fields
}

/// Settings with which runs of one key can differ, where they are known.
fn settings(start: &Start) -> Fields {
    let Start { config, mlx, .. } = start;
    let known = |name: &str, value: Option<String>| Some((name.to_owned(), value?));
    let some = |has: bool| if has { "some" } else { "none" }.to_owned();
    let lib = mlx.metallib.as_ref();
    let named = [
        known(
            "Metal's kernels",
            lib.map(|lib| {
                let built_for = lib.built_for.as_deref().unwrap_or("an unknown system");
                format!("{} bytes built for {built_for}", lib.bytes)
            }),
        ),
        known(
            "kernels for neural accelerators",
            lib.map(|lib| some(lib.neural_accelerators)),
        ),
        known(
            "kernels that compiling made",
            config.fused_kernels.map(some),
        ),
        known(
            "the sources of the process footprint",
            start.footprint_source.clone(),
        ),
        known("batch_order", Some(config.batch_order.clone())),
        known("seed", Some(config.seed.to_string())),
        known("lora.scale", Some(config.lora.scale.to_string())),
        known("lora.layers", Some(config.lora.layers.to_string())),
        known("mlx.blas", mlx.blas.clone()),
    ];
    let under = |name: &'static str, fields: Fields| {
        let path = move |(path, value)| (format!("{name}.{path}"), value);
        fields.into_iter().map(path)
    };
    let mut all: Fields = named.into_iter().flatten().collect();
    all.extend(under("optimizer", flat(&config.optimizer)).filter(|it| it.0 != "optimizer.name"));
    // A process of a set has empty folders of its own.
    let own = start
        .member
        .as_ref()
        .and_then(|it| it.empty_caches.as_ref());
    let mut variables = mlx.variables.clone();
    variables.retain(|name, _| !own.is_some_and(|own| own.contains(name)));
    all.extend(under(VARIABLES, flat(&variables)));
    all
}

/// Of these settings one that is not recorded was not set.
pub(crate) const VARIABLES: &str = "mlx.variables";

/// What an update of the system or of the library changes, where it is known.
fn system(start: &Start) -> Fields {
    let Start { machine, mlx, .. } = start;
    let library = mlx.library_sha256.as_deref();
    let all = [
        ("os_version", machine.os_version.as_deref()),
        ("os_build", machine.os_build.as_deref()),
        ("kernel", machine.kernel.as_deref()),
        ("gpu_driver", machine.gpu_driver.as_deref()),
        (
            "mlx.library_sha256",
            library.map(|hash| hash.get(..12).unwrap_or(hash)),
        ),
    ];
    let known = all
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    known
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What is published of a GPU; of a CPU, what the processors copied.
fn bandwidth_of(record: &Record) -> Option<Bandwidth> {
    let published = roofline::peaks(record).and_then(|peaks| peaks.bandwidth);
    if let Some(figure) = published {
        return Some(Bandwidth {
            bytes_per_second: figure.value,
            source: Some(figure.source),
        });
    }
    let mut copies = record
        .states
        .iter()
        .filter_map(|state| state.copies.as_ref());
    let measured = copies
        .next_back()
        .filter(|_| record.start.config.device == "cpu");
    measured
        .and_then(bandwidth::fastest)
        .map(|bytes_per_second| Bandwidth {
            bytes_per_second,
            source: None,
        })
}

/// Everything a report shows of a comparison, derived by [`compare`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Those that are compared, the first with the others.
    pub columns: Vec<Column>,
    /// Runs that are shown and not compared.
    pub apart: Vec<Apart>,
    /// Fields in which the runs differ and were allowed to.
    pub allowed: Vec<Allowed>,
    /// One for each metric that any column has.
    pub metrics: Vec<Row<MetricKind>>,
    pub rates: Vec<Row<Rate>>,
    pub normalised: Vec<Row<Normalised>>,
    pub counts: Vec<Row<Count>>,
    pub rules: ComparisonRules,
    pub warnings: Vec<String>,
    pub notices: Vec<String>,
}

/// A field of the key in which compared runs differ and were allowed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Allowed {
    #[serde(flatten)]
    pub difference: Difference,
    pub columns: Vec<Held>,
}

impl Allowed {
    /// As in "dtype (f32 in a and c, bf16 in b)".
    pub fn text(&self) -> String {
        format!("{} ({})", self.difference.field, said(&self.columns))
    }
}

/// What the runs of a column have in a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    pub column: String,
    /// Each once; `None` where there is no such field.
    pub values: Vec<Option<String>>,
}

/// Runs of one program on one machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    pub name: String,
    /// Names of the runs.
    pub runs: Vec<String>,
    /// The start of the first one, without the lengths of its samples.
    pub start: Start,
    pub bandwidth: Option<Bandwidth>,
    /// Against the first column; `None` for that one.
    pub against_first: Option<Comparison>,
    /// Iterations, and the mean rate of the runs at each, in iterations per second of step time.
    pub step_rates: Vec<(u32, f64)>,
}

/// What is shown in one row of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row<T> {
    pub what: T,
    /// One a column; `None` where a run of it lacks the value.
    pub cells: Vec<Option<Estimate>>,
    /// The column that is shown to be better than each other one, as [`compare`] decides it.
    pub best: Option<usize>,
}

/// A rate in relation to the machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Normalised {
    pub rate: Rate,
    pub per: Per,
}

/// Of the runs of one column.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub runs: usize,
    pub geometric_mean: f64,
    /// 95 % t interval of the geometric mean; `None` for one run.
    pub interval: Option<(f64, f64)>,
}

/// Runs that are not compared, for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Apart {
    pub column: String,
    pub why: String,
    /// Fields of the key in which the complete ones differ from those that are compared.
    pub differs: Vec<Difference>,
    pub runs: Vec<String>,
    pub metrics: BTreeMap<MetricKind, Estimate>,
}

/// Compares the columns. `allow` names fields of the key, or beginnings of their paths, in which
/// runs may differ. Only runs that are ranked have to be alike.
///
/// That any column is wrongly marked best in any metric has at most the error rate of the rules as
/// its probability, as [`best`] says. A rate is marked where the time is that it restates; the
/// normalised rates share an error rate of their own.
///
/// # Errors
///
/// See [`CompareError`].
pub fn compare(
    runs: &Runs,
    allow: &[String],
    rules: &ComparisonRules,
) -> Result<Summary, CompareError> {
    let complete = runs
        .runs
        .iter()
        .filter(|run| run.status == RunStatus::Complete);
    let complete: Vec<&Run> = complete.collect();
    check_allowed(&complete, allow)?;
    let ranked_runs = runs.runs.iter().filter(|run| not_ranked(run).is_none());
    let ranked_runs: Vec<&Run> = ranked_runs.collect();
    let (allowed, refused): (Vec<_>, Vec<_>) = differences(&ranked_runs)
        .into_iter()
        .partition(|it| allow.iter().any(|allowed| names(allowed, &it.field)));
    if !refused.is_empty() {
        return Err(CompareError::Mismatch { fields: refused });
    }
    let reference = ranked_runs.first().or(complete.first()).copied();
    let columns = column_names(&runs.columns);
    let mut of_columns: Vec<Vec<&Run>> = vec![Vec::new(); columns.len()];
    let mut apart: Vec<(usize, String, Vec<&Run>)> = Vec::new();
    for run in &runs.runs {
        match not_ranked(run) {
            None => of_columns[run.column].push(run),
            Some(why) => match apart
                .iter_mut()
                .find(|it| it.0 == run.column && it.1 == why)
            {
                Some((.., others)) => others.push(run),
                None => apart.push((run.column, why, vec![run])),
            },
        }
    }
    let ranked: Vec<usize> = (0..columns.len())
        .filter(|at| !of_columns[*at].is_empty())
        .collect();
    let apart = apart.into_iter().map(|(column, why, runs)| {
        let metrics = MetricKind::ALL.into_iter().filter_map(|metric| {
            Some((
                metric,
                estimate(
                    &values(&runs, |run| run.values.get(&metric).copied())?,
                    rules,
                )?,
            ))
        });
        let complete = runs.iter().filter(|run| run.status == RunStatus::Complete);
        let with_reference: Vec<&Run> = reference.iter().chain(complete).copied().collect();
        Apart {
            column: columns[column].clone(),
            why,
            differs: differences(&with_reference),
            runs: runs.iter().map(|run| run.name.clone()).collect(),
            metrics: metrics.collect(),
        }
    });
    let apart: Vec<Apart> = apart.collect();
    // Of runs that are all apart there is something to show.
    if columns.len() < 2 {
        return Err(CompareError::TooFew(match columns.first() {
            Some(only) => format!("all runs are of {only}"),
            None => "there is no run".to_owned(),
        }));
    }
    let arms: Vec<&[&Run]> = ranked.iter().map(|at| of_columns[*at].as_slice()).collect();
    let origins: Vec<&Origin> = ranked.iter().map(|at| &runs.columns[*at]).collect();
    let texts_differ = !alike_texts(arms.iter().flat_map(|arm| arm.iter().copied()));
    let any = |cells: &[Option<Estimate>]| cells.iter().any(Option::is_some);
    let metric_row = |metric: MetricKind| {
        row(metric, &arms, rules, |run, _| {
            let left_out = metric == MetricKind::TokenTime && texts_differ;
            run.values.get(&metric).copied().filter(|_| !left_out)
        })
    };
    let left_out = |rate: Rate| rate == Rate::GeneratedTokens && texts_differ;
    let rate_row = |rate: Rate| {
        row(rate, &arms, rules, |run, _| {
            run.rates.get(&rate).copied().filter(|_| !left_out(rate))
        })
    };
    let normalised_row = |what: Normalised| {
        row(what.clone(), &arms, rules, |run, column| {
            normalised(run, origins[column], &what).filter(|_| !left_out(what.rate))
        })
    };
    let counts = Count::ALL.into_iter().map(|count| {
        let of = |run: &Run, _| run.counts.get(&count).copied();
        row(count, &arms, rules, of).0
    });
    let counts: Vec<Row<Count>> = counts.filter(|it| any(&it.cells)).collect();
    let mut pers = vec![Per::Bandwidth, Per::GpuCore];
    for (_, rail, _) in arms
        .iter()
        .flat_map(|arm| arm.iter())
        .flat_map(|run| &run.watts)
    {
        let per = Per::Watt { rail: rail.clone() };
        if !pers.contains(&per) {
            pers.push(per);
        }
    }
    let all = Rate::ALL
        .into_iter()
        .filter(|rate| *rate != Rate::Iterations);
    let all = all.flat_map(|rate| {
        pers.iter().map(move |per| Normalised {
            rate,
            per: per.clone(),
        })
    });
    let (mut metrics, times): (Vec<_>, Vec<_>) =
        MetricKind::ALL.map(metric_row).into_iter().unzip();
    let (mut rates, of_rates): (Vec<_>, Vec<_>) = Rate::ALL.map(rate_row).into_iter().unzip();
    let (mut normalised, mut others): (Vec<_>, Vec<_>) = all.map(normalised_row).unzip();
    for (row, best) in metrics.iter_mut().zip(best(&times, Better::Lower, rules)) {
        row.best = best;
    }
    let tokens_differ = allowed.iter().any(|it| it.field == "iteration_tokens");
    for (row, values) in rates.iter_mut().zip(&of_rates) {
        let time = match row.what {
            Rate::TrainedTokens if tokens_differ => {
                others.push(values.clone());
                continue;
            }
            Rate::Iterations | Rate::TrainedTokens => MetricKind::StepTime,
            Rate::GeneratedTokens => MetricKind::TokenTime,
        };
        let time = metrics.iter().find(|it| it.what == time);
        row.best = time
            .and_then(|time| time.best)
            .filter(|best| leader(values, Better::Higher) == Some(*best));
    }
    let tokens = rates.iter_mut().filter(|_| tokens_differ);
    let tokens = tokens
        .filter(|it| it.what == Rate::TrainedTokens)
        .map(|it| &mut it.best);
    let marks = normalised.iter_mut().map(|it| &mut it.best).chain(tokens);
    for (mark, best) in marks.zip(best(&others, Better::Higher, rules)) {
        *mark = best;
    }
    metrics.retain(|it| any(&it.cells));
    rates.retain(|it| any(&it.cells));
    normalised.retain(|it| any(&it.cells));
    let shown = ranked.iter().enumerate().map(|(place, at)| Column {
        name: columns[*at].clone(),
        runs: arms[place].iter().map(|run| run.name.clone()).collect(),
        start: runs.columns[*at].start.clone(),
        bandwidth: runs.columns[*at].bandwidth.clone(),
        against_first: (place > 0)
            .then(|| against(arms[0], arms[place], texts_differ, rules))
            .flatten(),
        step_rates: runs.columns[*at].steps.rates(),
    });
    let names: Vec<&str> = ranked.iter().map(|at| columns[*at].as_str()).collect();
    let allowed = allowed.into_iter().map(|difference| Allowed {
        columns: held(&difference.field, &arms, &names, |run| &run.key),
        difference,
    });
    let mut warnings = warnings(&arms, &names);
    warnings.extend(texts_differ.then(|| TEXTS_DIFFER.to_owned()));
    Ok(Summary {
        allowed: allowed.collect(),
        columns: shown.collect(),
        apart,
        metrics,
        rates,
        normalised,
        counts,
        rules: *rules,
        warnings,
        notices: runs.notices.clone(),
    })
}

/// Whether an allowance stands for a field: the field itself, or all below it.
pub(crate) fn names(allowed: &str, field: &str) -> bool {
    field
        .strip_prefix(allowed)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

pub(crate) fn check_allowed(runs: &[&Run], allow: &[String]) -> Result<(), CompareError> {
    let mut known: Vec<&str> = Vec::new();
    for (field, _) in runs.iter().flat_map(|run| run.key.iter()) {
        if !known.contains(&field.as_str()) {
            known.push(field);
        }
    }
    match allow
        .iter()
        .find(|allowed| !known.iter().any(|field| names(allowed, field)))
    {
        Some(field) if !known.is_empty() => Err(CompareError::UnknownField {
            field: field.clone(),
            known: known.join(", "),
        }),
        _ => Ok(()),
    }
}

/// The fields of the key in which any run differs from the first one.
pub(crate) fn differences(runs: &[&Run]) -> Vec<Difference> {
    let keys = runs.iter().map(|run| (run.name.as_str(), &*run.key));
    differing(&keys.collect::<Vec<_>>())
}

/// The same of any fields, each with the name of its run.
pub fn differing(all: &[(&str, &Fields)]) -> Vec<Difference> {
    let Some(((first, reference), others)) = all.split_first() else {
        return Vec::new();
    };
    let mut found: Vec<Difference> = Vec::new();
    let mut seen: Vec<&Fields> = vec![reference];
    for &(name, fields) in others {
        if seen.contains(&fields) {
            continue;
        }
        seen.push(fields);
        let value = |of: &Fields, field: &str| {
            of.iter()
                .find(|(path, _)| path == field)
                .map(|(_, value)| value.clone())
        };
        for (field, _) in reference.iter().chain(fields) {
            let values = [value(reference, field), value(fields, field)];
            if values[0] != values[1] && !found.iter().any(|known| known.field == *field) {
                found.push(Difference {
                    field: field.clone(),
                    values,
                    runs: [(*first).to_owned(), name.to_owned()],
                });
            }
        }
    }
    found
}

/// Why a run is shown apart.
pub(crate) fn not_ranked(run: &Run) -> Option<String> {
    let with = |verdict| run.marks.iter().find(|mark| mark.verdict() == verdict);
    match run.status {
        RunStatus::Complete => with(validity::Verdict::Disturbed)
            .map(|mark| format!("void: {}", mark.sentence()))
            .or_else(|| with(validity::Verdict::SharedHardware).map(validity::Mark::sentence)),
        _ => Some("it did not complete".to_owned()),
    }
}

/// One value a run; `None` where one lacks it, and for no run.
pub(crate) fn values(runs: &[&Run], value: impl Fn(&Run) -> Option<f64>) -> Option<Vec<f64>> {
    let values: Option<Vec<f64>> = runs.iter().map(|run| value(run)).collect();
    values.filter(|values| !values.is_empty())
}

pub(crate) fn estimate(values: &[f64], rules: &ComparisonRules) -> Option<Estimate> {
    let spread = spread(values, rules)?;
    Some(Estimate {
        runs: spread.runs,
        geometric_mean: spread.geometric_mean,
        interval: spread.interval,
    })
}

/// The values of the runs of each column; `None` where one lacks it.
type Values = Vec<Option<Vec<f64>>>;

/// A row without its best, and what that is decided by.
fn row<T>(
    what: T,
    arms: &[&[&Run]],
    rules: &ComparisonRules,
    value: impl Fn(&Run, usize) -> Option<f64>,
) -> (Row<T>, Values) {
    let of = |(column, runs): (usize, &&[&Run])| values(runs, |run| value(run, column));
    let columns: Values = arms.iter().enumerate().map(of).collect();
    let cells = columns
        .iter()
        .map(|values| estimate(values.as_ref()?, rules));
    let row = Row {
        what,
        cells: cells.collect(),
        best: None,
    };
    (row, columns)
}

/// In each row the column that is shown to be better than each other one, so that any of them is
/// wrong with at most the error rate.
///
/// A column is the best by the largest one-sided p-value of its comparisons with the others, and
/// that of the row is the leader's times the number of columns, since each could have led. Holm's
/// procedure takes those of all rows that two columns have, as it takes the metrics for the
/// verdicts, so that of two columns the same metrics are decided. `None` where a column has no
/// value: it might be the best.
fn best(rows: &[Values], better: Better, rules: &ComparisonRules) -> Vec<Option<usize>> {
    let shared = |row: &&Values| row.iter().flatten().count() > 1;
    let led: Vec<Option<Led>> = rows
        .iter()
        .filter(shared)
        .map(|row| led(row, better, rules))
        .collect();
    let p = |led: &Option<Led>| led.as_ref().map_or(1.0, |led| led.p);
    let ps: Vec<f64> = led.iter().map(p).collect();
    let rejected = comparison::rejected(&ps, rules.error_rate);
    let mut decided = led.into_iter().zip(rejected).map(|(led, sure)| {
        let led = led.filter(|led| sure && led.large)?;
        Some(led.column)
    });
    let of_row = |row: &Values| match shared(&row) {
        true => decided.next().flatten(),
        false => None,
    };
    rows.iter().map(of_row).collect()
}

/// The column with the best mean, where all have one.
fn leader(columns: &Values, better: Better) -> Option<usize> {
    let columns: Option<Vec<&Vec<f64>>> = columns.iter().map(Option::as_ref).collect();
    let columns = columns?;
    let level =
        |values: &[f64]| values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64;
    let sign = match better {
        Better::Lower => 1.0,
        Better::Higher => -1.0,
    };
    let score = |at: &usize| sign * level(columns[*at]);
    (0..columns.len()).min_by(|a, b| score(a).total_cmp(&score(b)))
}

/// The leader of a row.
struct Led {
    column: usize,
    /// Of its being no better than some other column, for any that might lead.
    p: f64,
    /// Whether it is better than each by as much as matters.
    large: bool,
}

fn led(columns: &Values, better: Better, rules: &ComparisonRules) -> Option<Led> {
    let column = leader(columns, better)?;
    let mut led = Led {
        column,
        p: 0.0,
        large: true,
    };
    for other in (0..columns.len()).filter(|at| *at != column) {
        let metric = Metric {
            name: String::new(),
            better,
            practical: None,
            baseline: alone(columns[other].as_ref()?),
            candidate: alone(columns[column].as_ref()?),
        };
        let found = comparison::compare(
            &[metric],
            Design::Independent,
            &Circumstances::default(),
            None,
            rules,
        );
        let found = found.ok()?.metrics.into_iter().next()?;
        // The leader's mean is the better one.
        led.p = led.p.max(found.p / 2.0);
        led.large &= found.is_large();
    }
    led.p = (led.p * columns.len() as f64).min(1.0);
    Some(led)
}

pub(crate) fn alone(values: &[f64]) -> Vec<comparison::Run> {
    let run = |&value| comparison::Run {
        value,
        windows: Vec::new(),
    };
    values.iter().map(run).collect()
}

/// Why no time per token is compared: it depends on how many there are.
pub(crate) const TEXTS_DIFFER: &str =
    "the runs generated different numbers of tokens, so that their times per token are left out";

/// Whether all of these runs generated as many tokens after as many.
pub(crate) fn alike_texts<'a>(runs: impl IntoIterator<Item = &'a Run>) -> bool {
    let mut texts = runs.into_iter().map(|run| &run.texts);
    let first = texts.next();
    texts.all(|other| Some(other) == first)
}

/// The metrics that all runs of both arms have, as the comparison takes them.
pub(crate) fn shared_metrics(baseline: &[&Run], candidate: &[&Run]) -> Vec<Metric> {
    let alike = alike_texts(baseline.iter().chain(candidate).copied());
    let of = |metric: MetricKind| {
        if metric == MetricKind::TokenTime && !alike {
            return None;
        }
        let of = |runs: &[&Run]| values(runs, |run| run.values.get(&metric).copied());
        Some(Metric {
            name: metric.name().to_owned(),
            better: Better::Lower,
            practical: None,
            baseline: alone(&of(baseline)?),
            candidate: alone(&of(candidate)?),
        })
    };
    MetricKind::ALL.into_iter().filter_map(of).collect()
}

/// `None` where the arms share no metric.
fn against(
    first: &[&Run],
    other: &[&Run],
    texts_differ: bool,
    rules: &ComparisonRules,
) -> Option<Comparison> {
    let mut metrics = shared_metrics(first, other);
    // Texts that differ in a third column leave the row out, and no verdict counts it.
    metrics.retain(|it| !texts_differ || it.name != MetricKind::TokenTime.name());
    let circumstances = Circumstances::default();
    comparison::compare(&metrics, Design::Independent, &circumstances, None, rules).ok()
}

fn normalised(run: &Run, origin: &Origin, what: &Normalised) -> Option<f64> {
    let rate = run.rates.get(&what.rate)?;
    let by = match &what.per {
        Per::Bandwidth => origin.bandwidth.as_ref()?.bytes_per_second / 1e9,
        Per::GpuCore => origin
            .start
            .machine
            .gpu_cores
            .filter(|_| origin.start.config.device == "gpu")?
            .into(),
        Per::Watt { rail } => {
            let mut watts = run.watts.iter();
            watts
                .find(|(of, name, _)| *of == what.rate && name == rail)?
                .2
        }
    };
    (by > 0.0).then(|| rate / by)
}

/// What may lie behind a difference between columns besides the machines: settings in which any two
/// of their runs differ.
pub(crate) fn warnings(arms: &[&[&Run]], names: &[&str]) -> Vec<String> {
    let mut fields: Vec<&str> = Vec::new();
    let mut seen: HashSet<*const Fields> = HashSet::new();
    for run in arms.iter().flat_map(|arm| arm.iter()) {
        if seen.insert(Rc::as_ptr(&run.settings)) {
            for (field, _) in run.settings.iter() {
                if !fields.contains(&field.as_str()) {
                    fields.push(field);
                }
            }
        }
    }
    let differing = fields.into_iter().filter_map(|field| {
        let mut held = held(field, arms, names, |run| &run.settings);
        if !field.starts_with(VARIABLES) {
            held.iter_mut()
                .for_each(|it| it.values.retain(Option::is_some));
            held.retain(|it| !it.values.is_empty());
        }
        let first = held.first()?.values.first()?;
        let alike = held
            .iter()
            .all(|it| it.values.iter().all(|value| value == first));
        let what = match field.contains(' ') {
            true => field.to_owned(),
            false => format!("values of {field}"),
        };
        (!alike).then(|| format!("{what} differ: {}", said(&held)))
    });
    differing.collect()
}

/// What the runs of each column have in a field.
fn held<'a>(
    field: &str,
    arms: &[&[&'a Run]],
    names: &[&str],
    fields: impl Fn(&'a Run) -> &'a Rc<Fields>,
) -> Vec<Held> {
    let of = |(arm, name): (&&[&'a Run], &&str)| {
        let mut values: Vec<Option<String>> = Vec::new();
        let mut seen: HashSet<*const Fields> = HashSet::new();
        for fields in arm.iter().map(|run| fields(run)) {
            if seen.insert(Rc::as_ptr(fields)) {
                let value = value_of(fields, field).map(str::to_owned);
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        Held {
            column: (*name).to_owned(),
            values,
        }
    };
    arms.iter().zip(names).map(of).collect()
}

pub(crate) fn value_of<'a>(fields: &'a Fields, field: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(path, _)| path == field);
    found.map(|(_, value)| value.as_str())
}

/// As in "f32 in a and c, bf16 in b".
fn said(held: &[Held]) -> String {
    let mut groups: Vec<(&[Option<String>], Vec<&str>)> = Vec::new();
    for it in held {
        match groups.iter_mut().find(|group| group.0 == it.values) {
            Some((_, columns)) => columns.push(&it.column),
            None => groups.push((&it.values, vec![&it.column])),
        }
    }
    let texts = groups.iter().map(|(values, columns)| {
        let values = listed(values).join(" and ");
        format!("{values} in {}", columns.join(" and "))
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// Values as a message shows them, the first ones of many.
pub(crate) fn listed(values: &[Option<String>]) -> Vec<String> {
    const MOST: usize = 4;
    let shown = values.iter().take(MOST).map(|it| shown(it.as_deref()));
    let mut texts: Vec<String> = shown.map(str::to_owned).collect();
    if values.len() > MOST {
        texts.push(format!("{} others", values.len() - MOST));
    }
    texts
}

/// What a name can say of a column.
type Part<'a, T> = &'a dyn Fn(&T) -> String;

/// A name for every column, of the parts in which the columns differ.
fn column_names(columns: &[Origin]) -> Vec<String> {
    let columns: Vec<&Origin> = columns.iter().collect();
    let commit: Part<&Origin> = &|origin| {
        let commit = origin.start.lfmark.commit.as_deref().unwrap_or_default();
        let dirty = origin.start.lfmark.dirty == Some(true);
        format!(
            "{}{}",
            commit.get(..8).unwrap_or(commit),
            if dirty { "+" } else { "" }
        )
    };
    distinct_names(
        &columns,
        &[
            &|origin| origin.argument.clone(),
            &|origin| machine_name(origin),
            &|origin| memory_size(origin),
            &|origin| arm_name(origin),
            &|origin| {
                let (name, version) = origin.start.program();
                format!("{name} {version}")
            },
            commit,
            &|origin| origin.start.config.device.clone(),
        ],
        |origin| origin.argument.clone(),
    )
}

/// The chip, device or processor.
pub(crate) fn machine_name(origin: &Origin) -> String {
    let machine = &origin.start.machine;
    let device = (origin.start.config.device == "gpu").then_some(&origin.start.mlx.device_name);
    let device = device.and_then(Option::as_ref);
    let named = machine.chip.as_ref().or(device).or(machine.cpu.as_ref());
    named.cloned().unwrap_or_else(|| machine.arch.clone())
}

pub(crate) fn memory_size(origin: &Origin) -> String {
    let bytes = origin.start.machine.memory_bytes;
    bytes.map_or(String::new(), |bytes| format!("{} GiB", bytes >> 30))
}

pub(crate) fn arm_name(origin: &Origin) -> String {
    origin.arm.clone().unwrap_or_default()
}

/// A name for everything, of the parts in which they differ, and a number where none does.
pub(crate) fn distinct_names<T>(
    all: &[T],
    parts: &[Part<T>],
    only: impl Fn(&T) -> String,
) -> Vec<String> {
    let mut names: Vec<String> = vec![String::new(); all.len()];
    let distinct = |names: &[String]| names.iter().collect::<HashSet<_>>().len();
    for part in parts {
        let longer: Vec<String> = names
            .iter()
            .zip(all)
            .map(|(name, one)| format!("{name} {}", part(one)).trim().to_owned())
            .collect();
        // A part that tells no more apart only makes names longer.
        if distinct(&longer) > distinct(&names) {
            names = longer;
        }
    }
    let mut used: BTreeMap<String, u32> = BTreeMap::new();
    for (name, one) in names.iter_mut().zip(all) {
        if name.is_empty() {
            *name = only(one);
        }
        let count = used.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            *name = format!("{name} ({count})");
        }
    }
    names
}

#[cfg(test)]
mod tests;
