//! Runs of several machines, builds or days, in columns.
//!
//! [`crate::study`] says which runs can be compared. The unit of inference is the process, as in
//! [`crate::sets`], and the decision is that of [`crate::comparison`]. Of a run only what is compared
//! is kept, so that thousands of them fit.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use serde::Serialize;
use thiserror::Error;

use crate::comparison::{self, Better, Circumstances, Comparison, Design, Metric, spread};
use crate::fields::{self, Difference, Fields, value_of};
use crate::figures::Figure;
use crate::figures::MetricKind;
use crate::key::Key;
use crate::record::Start;
use crate::rules::{ComparisonRules, Rules};
use crate::run::{Count, Run};
use crate::store::Record;
use crate::study::{
    self, Held, Pairing, TEXTS_DIFFER, alike_texts, differences, held, not_ranked, said, values,
};
use crate::{bandwidth, roofline};

/// Runs to compare, as they were read.
#[derive(Debug, Default)]
pub struct Runs {
    runs: Vec<Run>,
    /// The column of each.
    of_column: Vec<usize>,
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
    arm: Option<String>,
    /// Of its first run, without the lengths of its samples.
    pub(crate) start: Rc<Start>,
    /// Of its first run.
    pub(crate) key: Key,
    bandwidth: Option<Bandwidth>,
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

impl Rate {
    /// Of a run, where it was measured.
    fn of(self, run: &Run) -> Option<f64> {
        let figure = |figure: Figure| run.figures.get(&figure).copied();
        match self {
            Self::Iterations => figure(Figure::IterationRate),
            Self::TrainedTokens => figure(Figure::TokenRate),
            Self::GeneratedTokens => run.value(MetricKind::TokenTime).map(|ns| 1e9 / ns),
        }
    }
}

/// Why runs are not compared.
#[derive(Debug, Error, PartialEq)]
pub enum CompareError {
    #[error(
        "these runs are not alike: {}; compare runs of the same work, or give --allow with each \
         field that may differ",
        fields::texts(fields)
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
        let mut run = Run::of(name, record);
        if !self.seen.insert(run.identity) {
            self.notices
                .push(format!("{name} is left out: it is a copy of another run"));
            return;
        }
        for part in run.key.parts_mut() {
            *part = interned(&mut self.fields, Rc::clone(part));
        }
        let column = self.column(argument, &run, record);
        let origin = &mut self.columns[column];
        // Thousands of runs have to fit.
        run.start = Rc::clone(&origin.start);
        if study::not_ranked(&run).is_none() {
            origin.steps.add(record);
        }
        self.runs.push(run);
        self.of_column.push(column);
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
        let commits = self.runs.iter().map(commit);
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

    /// The runs with the column of each.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (usize, &Run)> {
        self.of_column.iter().copied().zip(&self.runs)
    }

    /// The complete runs of a column.
    fn complete_of(&self, column: usize) -> Vec<&Run> {
        self.placed()
            .filter(|(at, run)| *at == column && run.is_complete())
            .map(|(_, run)| run)
            .collect()
    }

    /// The complete runs; the others become notices.
    pub(crate) fn complete(&self, notices: &mut Vec<String>) -> Vec<&Run> {
        let (complete, others): (Vec<&Run>, Vec<&Run>) =
            self.runs.iter().partition(|run| run.is_complete());
        let others = others.iter();
        notices.extend(others.map(|run| format!("{} is left out: it did not complete", run.name)));
        complete
    }

    /// The key of the first run.
    pub fn key(&self) -> Option<&Key> {
        self.columns.first().map(|column| &column.key)
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

    /// What would keep any candidate from being judged against these runs.
    pub fn circumstances(&self) -> Circumstances {
        let runs: Vec<&Run> = self.runs.iter().collect();
        study::circumstances(&[&runs], false, &study::nothing)
    }

    pub(crate) fn columns(&self) -> &[Origin] {
        &self.columns
    }

    fn column(&mut self, argument: &str, run: &Run, record: &Record) -> usize {
        let start = &run.start;
        let (program, version) = start.program();
        let lfmark = &start.lfmark;
        let arm = run.member.as_ref().map(|member| member.arm.clone());
        let identity = Identity {
            argument: argument.to_owned(),
            machine: Rc::clone(&run.key.machine),
            arm: arm.clone(),
            program: program.to_owned(),
            build: (!self.across_builds)
                .then(|| (version.to_owned(), lfmark.commit.clone(), lfmark.dirty)),
        };
        let next = self.columns.len();
        let column = *self.identities.entry(identity).or_insert(next);
        if column == next {
            self.columns.push(Origin {
                argument: argument.to_owned(),
                arm,
                start: Rc::clone(start),
                key: run.key.clone(),
                bandwidth: bandwidth_of(record),
                steps: Steps::default(),
            });
        }
        column
    }
}

/// The one of these that is equal, or this one as another.
fn interned(known: &mut HashSet<Rc<Fields>>, fields: Rc<Fields>) -> Rc<Fields> {
    match known.get(&fields) {
        Some(same) => Rc::clone(same),
        None => {
            known.insert(Rc::clone(&fields));
            fields
        }
    }
}

/// The commit that a run measures, or why it measures none.
pub(crate) fn commit(run: &Run) -> Result<&str, &'static str> {
    let of_build = |field| value_of(&run.key.build, field).filter(|value| *value != "null");
    match (of_build("lfmark.commit"), of_build("lfmark.dirty")) {
        _ if run.start.engine.is_some() => Err("another program did its work, of no commit"),
        (_, Some("true")) => Err("it was built with changes that were not committed"),
        (Some(commit), _) => Ok(commit),
        (None, _) => Err("its build names no commit"),
    }
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
pub fn compare(runs: &Runs, allow: &[String], rules: &Rules) -> Result<Summary, CompareError> {
    let complete: Vec<&Run> = runs.runs.iter().filter(|run| run.is_complete()).collect();
    check_allowed(&complete, allow)?;
    let names = column_names(&runs.columns);
    // Of runs that are all apart there is something to show.
    if names.len() < 2 {
        return Err(CompareError::TooFew(match names.first() {
            Some(only) => format!("all runs are of {only}"),
            None => "there is no run".to_owned(),
        }));
    }
    let sorted = Sorted::new(runs);
    // The arms of a set are there to differ in the way they work.
    let arms_of_a_set = study::of_one_set(&sorted.ranked());
    let may_differ = |it: &Difference, how: bool| {
        how && arms_of_a_set || allow.iter().any(|allowed| stands_for(allowed, &it.field))
    };
    let (mut allowed, mut refused) = (Vec::new(), Vec::new());
    for (part, how) in [
        (differences(&sorted.ranked(), |key| &key.work), false),
        (differences(&sorted.ranked(), |key| &key.how), true),
    ] {
        for difference in part {
            match may_differ(&difference, how) {
                true => allowed.push(difference),
                false => refused.push(difference),
            }
        }
    }
    if !refused.is_empty() {
        return Err(CompareError::Mismatch { fields: refused });
    }
    let arms: Vec<&[&Run]> = sorted.columns.iter().map(|it| it.1.as_slice()).collect();
    let origins: Vec<&Origin> = sorted
        .columns
        .iter()
        .map(|it| &runs.columns[it.0])
        .collect();
    let shown: Vec<&str> = sorted
        .columns
        .iter()
        .map(|it| names[it.0].as_str())
        .collect();
    let texts_differ = !alike_texts(sorted.ranked());
    let rows = rows(&arms, &origins, texts_differ, &allowed, &rules.comparison);
    let may_differ = |field: &str| allow.iter().any(|allowed| stands_for(allowed, field));
    let columns = shown.iter().enumerate().map(|(place, name)| Column {
        name: (*name).to_owned(),
        runs: arms[place].iter().map(|run| run.name.clone()).collect(),
        start: Start::clone(&origins[place].start),
        bandwidth: origins[place].bandwidth.clone(),
        against_first: (place > 0)
            .then(|| {
                // A disturbed run is shown apart, and makes the verdict void all the same.
                let complete = [0, place].map(|at| runs.complete_of(sorted.columns[at].0));
                against(complete, texts_differ, &may_differ, rules)
            })
            .flatten(),
        step_rates: origins[place].steps.rates(),
    });
    let columns = columns.collect();
    let allowed = allowed.into_iter().map(|difference| Allowed {
        columns: held_of_work(&difference.field, &arms, &shown),
        difference,
    });
    let mut warnings = study::warnings(&arms, &shown);
    if let Some(run) = sorted
        .ranked()
        .iter()
        .find(|it| study::shared_hardware(it).is_some())
    {
        warnings.push(study::on_shared_hardware(run));
    }
    warnings.extend(texts_differ.then(|| TEXTS_DIFFER.to_owned()));
    Ok(Summary {
        allowed: allowed.collect(),
        columns,
        apart: sorted.apart(&complete, &names, &rules.comparison),
        metrics: rows.0,
        rates: rows.1,
        normalised: rows.2,
        counts: count_rows(&arms, &rules.comparison),
        rules: rules.comparison,
        warnings,
        notices: runs.notices.clone(),
    })
}

/// Runs by column, those that are compared and those that are shown apart.
struct Sorted<'a> {
    columns: Vec<(usize, Vec<&'a Run>)>,
    apart: Vec<(usize, String, Vec<&'a Run>)>,
}

impl<'a> Sorted<'a> {
    fn new(runs: &'a Runs) -> Self {
        let on_own_hardware =
            |run: &Run| not_ranked(run).is_none() && study::shared_hardware(run).is_none();
        // Virtual machines are compared with each other, and never beside hardware.
        let hardware = runs.runs.iter().any(on_own_hardware);
        let mut columns: Vec<(usize, Vec<&Run>)> =
            (0..runs.columns.len()).map(|at| (at, Vec::new())).collect();
        let mut apart: Vec<(usize, String, Vec<&Run>)> = Vec::new();
        for (column, run) in runs.placed() {
            let beside_hardware = || study::shared_hardware(run).filter(|_| hardware);
            let Some(why) = not_ranked(run).or_else(beside_hardware) else {
                columns[column].1.push(run);
                continue;
            };
            match apart.iter_mut().find(|it| it.0 == column && it.1 == why) {
                Some((.., others)) => others.push(run),
                None => apart.push((column, why, vec![run])),
            }
        }
        columns.retain(|(_, runs)| !runs.is_empty());
        Self { columns, apart }
    }

    fn ranked(&self) -> Vec<&'a Run> {
        let runs = self.columns.iter().flat_map(|it| &it.1);
        runs.copied().collect()
    }

    fn apart(&self, complete: &[&Run], names: &[String], rules: &ComparisonRules) -> Vec<Apart> {
        let reference = self.ranked().first().or(complete.first()).copied();
        let apart = self.apart.iter().map(|(column, why, runs)| {
            let metrics = MetricKind::ALL.into_iter().filter_map(|metric| {
                let values = values(runs, |run| run.value(metric))?;
                Some((metric, estimate(&values, rules)?))
            });
            let complete = runs.iter().filter(|run| run.is_complete());
            let with_reference: Vec<&Run> = reference.iter().chain(complete).copied().collect();
            Apart {
                column: names[*column].clone(),
                why: why.clone(),
                differs: work_differences(&with_reference),
                runs: runs.iter().map(|run| run.name.clone()).collect(),
                metrics: metrics.collect(),
            }
        });
        apart.collect()
    }
}

/// The fields of work, and of the way it is done, in which any run differs from the first one.
pub(crate) fn work_differences(runs: &[&Run]) -> Vec<Difference> {
    let mut found = differences(runs, |key| &key.work);
    found.extend(differences(runs, |key| &key.how));
    found
}

fn held_of_work(field: &str, arms: &[&[&Run]], names: &[&str]) -> Vec<Held> {
    let works = arms
        .concat()
        .iter()
        .any(|run| value_of(&run.key.work, field).is_some());
    match works {
        true => held(field, arms, names, |key| &key.work),
        false => held(field, arms, names, |key| &key.how),
    }
}

type Rows = (Vec<Row<MetricKind>>, Vec<Row<Rate>>, Vec<Row<Normalised>>);

fn count_rows(arms: &[&[&Run]], rules: &ComparisonRules) -> Vec<Row<Count>> {
    let rows = Count::ALL.into_iter().map(|count| {
        let of = |run: &Run, _| run.counts.get(&count).copied();
        row(count, arms, rules, of).0
    });
    rows.filter(|it| it.cells.iter().any(Option::is_some))
        .collect()
}

/// The rows of all tables, with the best of each.
fn rows(
    arms: &[&[&Run]],
    origins: &[&Origin],
    texts_differ: bool,
    allowed: &[Difference],
    rules: &ComparisonRules,
) -> Rows {
    let metric_row = |metric: MetricKind| {
        row(metric, arms, rules, |run, _| {
            let left_out = metric == MetricKind::TokenTime && texts_differ;
            run.value(metric).filter(|_| !left_out)
        })
    };
    let left_out = |rate: Rate| rate == Rate::GeneratedTokens && texts_differ;
    let rate_row = |rate: Rate| {
        row(rate, arms, rules, |run, _| {
            rate.of(run).filter(|_| !left_out(rate))
        })
    };
    let normalised_row = |what: Normalised| {
        row(what.clone(), arms, rules, |run, column| {
            normalised(run, origins[column], &what).filter(|_| !left_out(what.rate))
        })
    };
    let mut pers = vec![Per::Bandwidth, Per::GpuCore];
    for rail in arms.concat().iter().flat_map(|run| run.watts.keys()) {
        let per = Per::Watt { rail: rail.clone() };
        if !pers.contains(&per) {
            pers.push(per);
        }
    }
    let all = [Rate::TrainedTokens, Rate::GeneratedTokens].into_iter();
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
    let any = |cells: &[Option<Estimate>]| cells.iter().any(Option::is_some);
    metrics.retain(|it| any(&it.cells));
    rates.retain(|it| any(&it.cells));
    normalised.retain(|it| any(&it.cells));
    (metrics, rates, normalised)
}

/// Whether an allowance stands for a field: the field itself, or all below it.
pub(crate) fn stands_for(allowed: &str, field: &str) -> bool {
    field
        .strip_prefix(allowed)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

pub(crate) fn check_allowed(runs: &[&Run], allow: &[String]) -> Result<(), CompareError> {
    let mut known: Vec<&str> = Vec::new();
    let fields = runs
        .iter()
        .flat_map(|run| run.key.work.iter().chain(run.key.how.iter()));
    for (field, _) in fields {
        if !known.contains(&field.as_str()) {
            known.push(field);
        }
    }
    match allow
        .iter()
        .find(|allowed| !known.iter().any(|field| stands_for(allowed, field)))
    {
        Some(field) if !known.is_empty() => Err(CompareError::UnknownField {
            field: field.clone(),
            known: known.join(", "),
        }),
        _ => Ok(()),
    }
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
    let values = values.iter().copied();
    values.map(comparison::Run::alone).collect()
}

/// `None` where the arms share no metric.
fn against(
    arms: [Vec<&Run>; 2],
    texts_differ: bool,
    may_differ: &dyn Fn(&str) -> bool,
    rules: &Rules,
) -> Option<Comparison> {
    let all = arms.concat();
    // Machines are what is compared, and have states of their own.
    let same_machine = study::one_machine(&all);
    let changed = arms.iter().find_map(|arm| study::machine_changed(arm));
    let pairing = Pairing::new(arms, rules, &|field| {
        may_differ(field) || all.iter().any(|run| run.key.is_of_machine(field))
    });
    let mut metrics = pairing.metrics();
    // Texts that differ in a third column leave the row out, and no verdict counts it.
    metrics.retain(|it| !texts_differ || it.name != MetricKind::TokenTime.name());
    let circumstances = match same_machine {
        true => pairing.circumstances,
        false => Circumstances {
            machine_changed: changed,
            ..pairing.circumstances
        },
    };
    comparison::compare(
        &metrics,
        pairing.design,
        &circumstances,
        None,
        &rules.comparison,
    )
    .ok()
}

fn normalised(run: &Run, origin: &Origin, what: &Normalised) -> Option<f64> {
    let rate = what.rate.of(run)?;
    let by = match &what.per {
        Per::Bandwidth => origin.bandwidth.as_ref()?.bytes_per_second / 1e9,
        Per::GpuCore => origin
            .start
            .machine
            .gpu_cores
            .filter(|_| origin.start.config.device == "gpu")?
            .into(),
        Per::Watt { rail } => {
            let watts = run.watts.get(rail)?;
            match what.rate {
                Rate::GeneratedTokens => watts.generation?,
                _ => watts.training?,
            }
        }
    };
    (by > 0.0).then(|| rate / by)
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
