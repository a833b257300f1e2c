//! How a machine's values went from commit to commit, and where their level changed.
//!
//! The runs of one machine and program at the same work are a series, those of one commit a point
//! of it: the geometric mean, with its interval where there are several processes. A level that
//! changed is looked for among the points, of which one that was measured in a bad hour moves
//! nothing. Runs that [`crate::compare`] would not rank are in no series.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde::Serialize;

use crate::compare::{
    self, CompareError, Estimate, Origin, Runs, alone, distinct_names, estimate, work_differences,
};
use crate::comparison::{self, Better, Circumstances, Design, Interval, Metric};
use crate::fields::{Difference, Fields, differing, listed, value_of};
use crate::figures::MetricKind;
use crate::key::VARIABLES;
use crate::random::Generator;
use crate::record::Start;
use crate::rules::ComparisonRules;
use crate::run::Run;
use crate::stats::level::{level_shift, level_shift_p, without_strays};
use crate::study::{self, values};
use crate::{stats, steadiness};

/// The fewest commits on a level: what two of them have in common may be chance.
pub const FEWEST_COMMITS: usize = 3;

/// Of the random orders that the points are held against.
const SEED: u64 = 1;

/// The commits of a repository, parents before children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commits {
    commits: Vec<Commit>,
    places: HashMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Commit {
    unix_s: u64,
    parents: Vec<usize>,
}

impl Commits {
    /// Reads what `git rev-list --timestamp --parents --reverse --date-order` prints.
    ///
    /// # Errors
    ///
    /// For a line that is none of it, as a fragment of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let unix_s = words.next().and_then(|word| word.parse().ok());
            let (Some(unix_s), Some(id)) = (unix_s, words.next()) else {
                return Err(format!("`{line}` is no commit with its time"));
            };
            // Of a shallow clone some parents are not there.
            let parents = words.filter_map(|id| all.places.get(id).copied()).collect();
            all.places.insert(id.to_owned(), all.commits.len());
            all.commits.push(Commit { unix_s, parents });
        }
        Ok(all)
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// A commit and all before it on its lines.
    fn ancestry(&self, place: usize) -> Vec<bool> {
        let mut found = vec![false; place + 1];
        found[place] = true;
        for at in (0..=place).rev() {
            if found[at] {
                for &parent in &self.commits[at].parents {
                    found[parent] = true;
                }
            }
        }
        found
    }

    /// How many commits `to` has that `from` has not, itself among them, as git counts `from..to`;
    /// `None` where `from` is on another line, so that this is no range of commits after it.
    fn between(&self, from: &str, to: &str) -> Option<usize> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        let (earlier, later) = (self.ancestry(from), self.ancestry(to));
        if !later.get(from).is_some_and(|has| *has) {
            return None;
        }
        let counted = |it: &(usize, &bool)| *it.1 && !earlier.get(it.0).is_some_and(|has| *has);
        Some(later.iter().enumerate().filter(counted).count())
    }
}

/// Everything a page shows, derived by [`summarize`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Whether commits are in the order of a repository; else in that of their first runs.
    pub by_repository: bool,
    pub series: Vec<Series>,
    /// Runs that are in no series, by why.
    pub apart: BTreeMap<String, Vec<String>>,
    /// Fields of the key in which the runs of a series differ and were allowed to.
    pub allowed: Vec<Difference>,
    pub rules: ComparisonRules,
    pub notices: Vec<String>,
}

/// Runs of one program on one machine at the same work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    pub name: String,
    /// What is equal of all its runs: of the machine, and of the work but for what was allowed to
    /// differ.
    pub machine: BTreeMap<String, String>,
    pub key: BTreeMap<String, String>,
    /// The start of the first run that was read, without the lengths of its samples.
    #[serde(skip)]
    pub start: Start,
    /// In their order.
    pub commits: Vec<Measured>,
    /// One for each metric that a commit has.
    pub trends: Vec<Trend>,
    pub warnings: Vec<String>,
}

/// A commit that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    pub id: String,
    /// Of the commit, by the repository, seconds since the Unix epoch.
    pub committed_unix_s: Option<u64>,
    /// When the first of its runs began, in milliseconds.
    pub started_unix_ms: u64,
    pub runs: Vec<String>,
}

/// One metric of a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trend {
    pub metric: MetricKind,
    /// One a commit; `None` where a run of it lacks the value.
    pub points: Vec<Option<Estimate>>,
    /// One more than there are changes.
    pub levels: Vec<Level>,
    pub changes: Vec<Change>,
}

/// Commits between which the level did not change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Level {
    /// Places in the series' commits, counted from 0.
    pub first: usize,
    pub last: usize,
    /// Of the commits that have a value; `runs` counts them.
    pub commits: Estimate,
}

/// A change from one level to the next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Places in the series' commits: the last one that is on the old level with 95 % confidence,
    /// and the first one on the new.
    pub after: usize,
    pub up_to: usize,
    /// `old..new` of these two.
    pub range: String,
    /// How many commits that range has in the repository; `None` without one, and where the old
    /// commit is on another line than the new.
    pub commits: Option<usize>,
    /// The likeliest commit of those that were measured, as a place.
    pub likeliest: usize,
    pub verdict: Direction,
    /// Ratio of the geometric means of the levels less 1.
    pub change: f64,
    /// By Welch's t, with the commits as units.
    pub interval: Option<Interval>,
    /// Of the test that found it.
    pub p: f64,
    /// What else changed among the runs of these commits.
    pub meanwhile: Vec<Meanwhile>,
}

/// A setting, or a part of the system, that is not the same throughout a range of commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Meanwhile {
    pub field: String,
    /// Each once, in the order of commits; `None` where there is no such field.
    pub values: Vec<Option<String>>,
}

impl Meanwhile {
    /// As in "os_version (26.1, then 26.2)".
    pub fn text(&self) -> String {
        let values = listed(&self.values);
        format!("{} ({})", self.field, values.join(", then "))
    }
}

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Regressed,
    Improved,
    /// By less than matters.
    ChangedButSmall,
}

impl Direction {
    /// As [`crate::rules::WORDS`] has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Regressed => "regressed",
            Self::Improved => "improved",
            Self::ChangedButSmall => "changed but small",
        }
    }
}

/// Puts runs into series, and looks for changes. `allow` names fields of the key, or beginnings of
/// their paths, in which the runs of a series may differ. Without `commits` the order is that of
/// the first runs.
///
/// # Errors
///
/// For an allowance that names no field.
pub fn summarize(
    runs: &Runs,
    allow: &[String],
    commits: Option<&Commits>,
    rules: &ComparisonRules,
) -> Result<Summary, CompareError> {
    let all: Vec<(usize, &Run)> = runs.placed().collect();
    let every: Vec<&Run> = all.iter().map(|(_, run)| *run).collect();
    compare::check_allowed(&every, allow)?;
    let mut apart: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut places: HashMap<(usize, Fields), usize> = HashMap::new();
    let mut found: Vec<Collected> = Vec::new();
    for (column, run) in all {
        let commit = match sorted_out(run, commits) {
            Ok(commit) => commit,
            Err(why) => {
                apart.entry(why).or_default().push(run.name.clone());
                continue;
            }
        };
        let kept =
            |field: &&(String, String)| !allow.iter().any(|it| compare::stands_for(it, &field.0));
        let fields = run.key.work.iter().chain(run.key.how.iter());
        let key: Fields = fields.filter(kept).cloned().collect();
        let place = *places.entry((column, key)).or_insert_with_key(|it| {
            found.push(Collected {
                origin: &runs.columns()[column],
                key: it.1.clone(),
                commits: HashMap::new(),
            });
            found.len() - 1
        });
        let series = &mut found[place];
        series.commits.entry(commit).or_default().push(run);
    }
    let keys: Vec<(&str, &Fields)> = found.iter().map(|it| ("", &it.key)).collect();
    let fields = differing(&keys);
    let names = series_names(&found, &fields);
    let mut allowed: Vec<Difference> = Vec::new();
    let mut series = Vec::new();
    for (one, name) in found.iter().zip(names) {
        let mut runs: Vec<&Run> = one.commits.values().flatten().copied().collect();
        runs.sort_by(|a, b| (a.started_unix_ms, &a.name).cmp(&(b.started_unix_ms, &b.name)));
        for difference in work_differences(&runs) {
            if !allowed.iter().any(|it| it.field == difference.field) {
                allowed.push(difference);
            }
        }
        series.push(one.series(name, commits, rules));
    }
    Ok(Summary {
        by_repository: commits.is_some(),
        series,
        apart,
        allowed,
        rules: *rules,
        notices: runs.notices().to_vec(),
    })
}

/// The commit of a run that can be in a series, or why it can be in none.
fn sorted_out(run: &Run, commits: Option<&Commits>) -> Result<Rc<str>, String> {
    if let Some(why) = study::not_ranked(run) {
        return Err(why);
    }
    let commit = compare::commit(run)?;
    match commits {
        Some(commits) if commits.place(commit).is_none() => {
            Err("its commit is not in the repository".to_owned())
        }
        _ => Ok(commit.into()),
    }
}

/// The runs of one series.
struct Collected<'a> {
    origin: &'a Origin,
    key: Fields,
    commits: HashMap<Rc<str>, Vec<&'a Run>>,
}

fn series_names(found: &[Collected], fields: &[Difference]) -> Vec<String> {
    /// A longer value tells a reader nothing.
    const LONGEST_VALUE: usize = 24;
    type Part<'a> = Box<dyn Fn(&Collected) -> String + 'a>;
    let mut parts: Vec<Part> = vec![
        Box::new(|it| compare::machine_name(it.origin)),
        Box::new(|it| compare::memory_size(it.origin)),
        Box::new(|it| it.origin.start.config.device.clone()),
        Box::new(|it| it.origin.start.model.name.clone()),
        Box::new(|it| compare::arm_name(it.origin)),
        Box::new(|it| it.origin.start.program().0.to_owned()),
    ];
    for difference in fields {
        parts.push(Box::new(|it| {
            let mut values = it.key.iter().filter(|field| field.0 == difference.field);
            let value = values.next().map_or("", |field| field.1.as_str());
            match value.chars().count() > LONGEST_VALUE {
                true => String::new(),
                false => format!("{} {value}", difference.field),
            }
        }));
    }
    let parts: Vec<&dyn Fn(&Collected) -> String> = parts.iter().map(|it| it.as_ref()).collect();
    distinct_names(found, &parts, |it| compare::machine_name(it.origin))
}

impl Collected<'_> {
    fn series(&self, name: String, commits: Option<&Commits>, rules: &ComparisonRules) -> Series {
        let mut measured: Vec<(Measured, &[&Run])> = Vec::new();
        for (id, runs) in &self.commits {
            let mut names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
            names.sort();
            let place = commits.and_then(|commits| Some((commits, commits.place(id)?)));
            let started = runs.iter().map(|run| run.started_unix_ms).min();
            let commit = Measured {
                id: id.to_string(),
                committed_unix_s: place.map(|(commits, at)| commits.commits[at].unix_s),
                started_unix_ms: started.unwrap_or_default(),
                runs: names,
            };
            measured.push((commit, runs));
        }
        measured.sort_by_cached_key(|(commit, _)| {
            let place = commits.and_then(|commits| commits.place(&commit.id));
            (place, commit.started_unix_ms, commit.id.clone())
        });
        let runs = || measured.iter().flat_map(|it| it.1.iter().copied());
        let texts_differ = !study::alike_texts(runs());
        let point = |metric: MetricKind, runs: &[&Run]| {
            estimate(&values(runs, |run| run.value(metric))?, rules)
        };
        let points = |metric: MetricKind| -> Vec<Option<Estimate>> {
            measured.iter().map(|it| point(metric, it.1)).collect()
        };
        let shown = MetricKind::ALL.into_iter();
        let shown = shown.filter(|metric| !(texts_differ && *metric == MetricKind::TokenTime));
        let all = shown.map(|metric| (metric, points(metric)));
        let all: Vec<_> = all.filter(|it| it.1.iter().any(Option::is_some)).collect();
        // The error rate is shared between the metrics.
        let level = rules.error_rate / all.len().max(1) as f64;
        let ids: Vec<&str> = measured.iter().map(|it| it.0.id.as_str()).collect();
        let trends = all.into_iter().map(|(metric, points)| {
            let (levels, mut changes) = changes(&points, &ids, commits, level, rules);
            for change in &mut changes {
                let within = &measured[change.after..=change.up_to];
                let runs: Vec<&Run> = within.iter().flat_map(|it| it.1.iter().copied()).collect();
                change.meanwhile = meanwhile(&runs);
            }
            Trend {
                metric,
                points,
                levels,
                changes,
            }
        });
        let trends = trends.collect();
        Series {
            name,
            machine: self.origin.key.machine.iter().cloned().collect(),
            key: self.key.iter().cloned().collect(),
            start: Start::clone(&self.origin.start),
            commits: measured.into_iter().map(|it| it.0).collect(),
            trends,
            warnings: texts_differ
                .then(|| study::TEXTS_DIFFER.to_owned())
                .into_iter()
                .collect(),
        }
    }
}

/// The fields in which these runs differ, of settings, system, and what of the key was allowed to.
fn meanwhile(runs: &[&Run]) -> Vec<Meanwhile> {
    let mut found: Vec<Meanwhile> = Vec::new();
    let of_run = |run: &&'_ Run| {
        let key = &run.key;
        [&key.settings, &key.system, &key.work, &key.how].map(Rc::clone)
    };
    let mut all: Vec<[Rc<Fields>; 4]> = runs.iter().map(of_run).collect();
    all.dedup();
    for fields in all.iter().flatten() {
        for (field, _) in fields.iter() {
            if found.iter().any(|it| it.field == *field) {
                continue;
            }
            let mut values: Vec<Option<String>> = Vec::new();
            for of_run in &all {
                let mut parts = of_run.iter();
                let value = parts.find_map(|part| value_of(part, field));
                let value = value.map(str::to_owned);
                // What an older record does not say is no change.
                let known = value.is_some() || field.starts_with(VARIABLES);
                if known && !values.contains(&value) {
                    values.push(value);
                }
            }
            found.push(Meanwhile {
                field: field.clone(),
                values,
            });
        }
    }
    found.retain(|it| it.values.len() > 1);
    found
}

/// The levels of a metric, and the changes between them, at this probability of finding one where
/// there is none.
fn changes(
    points: &[Option<Estimate>],
    ids: &[&str],
    commits: Option<&Commits>,
    level: f64,
    rules: &ComparisonRules,
) -> (Vec<Level>, Vec<Change>) {
    let present = points.iter().enumerate();
    let present = present.filter_map(|(at, point)| Some((at, point.as_ref()?.geometric_mean)));
    let (places, means): (Vec<usize>, Vec<f64>) = present.unzip();
    let splits = splits(&means, level);
    let bounds = |number: usize| {
        let begin = number.checked_sub(1).map_or(0, |before| splits[before].at);
        let end = splits.get(number).map_or(means.len(), |split| split.at);
        begin..end
    };
    let levels = (0..=splits.len()).filter_map(|number| {
        let range = bounds(number);
        Some(Level {
            first: *places.get(range.start)?,
            last: *places.get(range.end.checked_sub(1)?)?,
            commits: estimate(&of_level(&means[range]), rules)?,
        })
    });
    let changes = splits.iter().enumerate().map(|(number, split)| {
        let (before, after) = (&means[bounds(number)], &means[bounds(number + 1)]);
        let metric = Metric {
            name: String::new(),
            better: Better::Lower,
            practical: None,
            baseline: alone(&of_level(before)),
            candidate: alone(&of_level(after)),
        };
        let circumstances = Circumstances::default();
        let judged =
            comparison::compare(&[metric], Design::Independent, &circumstances, None, rules).ok();
        let judged = judged.and_then(|judged| judged.metrics.into_iter().next());
        let change = judged.as_ref().map_or(0.0, |judged| judged.change);
        let (after, up_to) = (places[split.within.0 - 1], places[split.within.1]);
        let (old, new) = (ids[after], ids[up_to]);
        Change {
            after,
            up_to,
            range: format!("{old}..{new}"),
            commits: commits.and_then(|commits| commits.between(old, new)),
            likeliest: places[split.at],
            verdict: match change {
                _ if change.ln_1p().abs() < rules.practical.ln_1p() => Direction::ChangedButSmall,
                worse if worse > 0.0 => Direction::Regressed,
                _ => Direction::Improved,
            },
            change,
            interval: judged.and_then(|judged| judged.adjusted),
            p: split.p,
            meanwhile: Vec::new(),
        }
    });
    (levels.collect(), changes.collect())
}

/// The values of a level, with that of their neighbours in the place of strays.
fn of_level(means: &[f64]) -> Vec<f64> {
    let logs: Vec<f64> = means.iter().map(|mean| mean.ln()).collect();
    match without_strays(&logs) {
        Some(cleaned) => cleaned.iter().map(|log| log.exp()).collect(),
        None => means.to_vec(),
    }
}

/// Where the level of values changed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Split {
    /// The first value of the new level.
    at: usize,
    /// The first and the last place that it may be, at 95 %.
    within: (usize, usize),
    p: f64,
}

/// Splits logarithms of values at the clearest change of level, while it is one at this level, and
/// then either side (binary segmentation: Scott and Knott 1974, doi:10.2307/2529204).
fn splits(means: &[f64], level: f64) -> Vec<Split> {
    let logs: Vec<f64> = means.iter().map(|mean| mean.ln()).collect();
    let mut random = Generator::new(SEED);
    let mut found: Vec<(usize, f64)> = Vec::new();
    let mut open = vec![(0, logs.len())];
    while let Some((begin, end)) = open.pop() {
        let values = &logs[begin..end];
        let Some(p) = level_shift_p(values, FEWEST_COMMITS, &mut random) else {
            continue;
        };
        let Some(index) = level_shift(values, FEWEST_COMMITS).filter(|_| p <= level) else {
            continue;
        };
        let at = begin + index;
        found.push((at, p));
        open.extend([(begin, at), (at, end)]);
    }
    found.sort_unstable_by_key(|it| it.0);
    // The first splits were made while later changes disturbed them: each is placed once more
    // between its neighbours.
    for number in 0..found.len() {
        let (begin, end) = neighbours(&found, number, logs.len());
        found[number].0 = begin + placed(&logs[begin..end], found[number].0 - begin).at;
    }
    let split = |number: usize| {
        let (at, p) = found[number];
        let (begin, end) = neighbours(&found, number, logs.len());
        let placed = placed(&logs[begin..end], at - begin);
        let within = [placed.within.0, placed.within.1, at - begin];
        let (first, last) = (within.iter().min(), within.iter().max());
        let place = |of: Option<&usize>| of.map_or(at, |of| begin + of);
        Split {
            at,
            within: (place(first), place(last)),
            p,
        }
    };
    (0..found.len()).map(split).collect()
}

/// Where a change lies that was found near a place.
struct Placed {
    at: usize,
    within: (usize, usize),
}

/// The split with the smallest squares of logarithms around the medians of both sides, and the
/// splits whose squares are not above it by more than 7.35 variances, which hold the change with
/// 95 % (Hansen 2000, doi:10.1111/1468-0262.00124, section 3). A distance counts as eight robust
/// standard deviations at most, so that a stray value speaks for no side.
fn placed(logs: &[f64], near: usize) -> Placed {
    /// `-2 ln(1 - sqrt(0.95))`.
    const LARGEST_RATIO: f64 = 7.352;
    let (before, after) = logs.split_at(near);
    let none = Placed {
        at: near,
        within: (near, near),
    };
    let (Some(low), Some(high)) = (stats::median(before), stats::median(after)) else {
        return none;
    };
    let rests = before.iter().map(|x| x - low);
    let rests: Vec<f64> = rests.chain(after.iter().map(|x| x - high)).collect();
    let farthest = steadiness::robust_sd(&rests).map_or(0.0, |sd| 8.0 * sd);
    let square = |rest: f64| match farthest > 0.0 {
        true => rest.abs().min(farthest).powi(2),
        false => rest * rest,
    };
    let all_after: f64 = logs.iter().map(|x| square(x - high)).sum();
    let squares = logs.iter().scan(all_after, |sum, x| {
        *sum += square(x - low) - square(x - high);
        Some(sum.max(0.0))
    });
    // Of the split behind each value.
    let squares: Vec<(usize, f64)> = (1..logs.len()).zip(squares).collect();
    let last = logs.len().saturating_sub(FEWEST_COMMITS);
    let allowed = squares
        .iter()
        .filter(|it| (FEWEST_COMMITS..=last).contains(&it.0));
    let Some(&(at, least)) = allowed.min_by(|a, b| a.1.total_cmp(&b.1)) else {
        return none;
    };
    let variance = least / (logs.len() - 2) as f64;
    // Sums of logarithms are exact up to rounding only.
    let most = least + LARGEST_RATIO * variance + 1e-12 * all_after;
    let mut within = squares.iter().filter(|it| it.1 <= most).map(|it| it.0);
    let first = within.next().unwrap_or(at);
    Placed {
        at,
        within: (first, within.next_back().unwrap_or(first)),
    }
}

/// The splits before and after one, or the ends.
fn neighbours(found: &[(usize, f64)], number: usize, end: usize) -> (usize, usize) {
    let before = number.checked_sub(1).map_or(0, |before| found[before].0);
    let after = found.get(number + 1).map_or(end, |after| after.0);
    (before, after)
}

#[cfg(test)]
mod tests;
