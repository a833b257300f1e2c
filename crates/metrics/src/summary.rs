//! Everything a report shows of one run, derived from the raw samples of its record.
//!
//! Rates are work over time: a total divided by the time it took, never a mean of rates. What
//! was not measured is `None`, never 0.

use schemars::JsonSchema;
use serde::Serialize;

use crate::checks::Checks;
use crate::comparison;
use crate::energy::{self, Energy};
use crate::headroom::Headroom;
use crate::leak::{self, Growth};
use crate::quality::{self, Quality, Why};
use crate::record::{
    self, Counters, End, Finish, Generation, Iteration, PhaseKind, SampleLoss, Status, TextBefore,
    WindowSpec,
};
use crate::rules::{LeakRules, Rules};
use crate::stats::{self, Distribution};
use crate::steadiness::{self, Level, Steadiness};
use crate::store::Record;
pub use crate::training::{StepStages, Tokens, Training, Window};
use crate::validity::{self, Mark};
use crate::window;

/// One run, summarized by [`summarize`].
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Summary {
    pub status: RunStatus,
    /// For a run that was interrupted or failed: why, as it was recorded.
    pub reason: Option<String>,
    /// All iterations together; `None` where none was recorded.
    pub training: Option<Training>,
    /// Of all step times; `None` where no iteration was recorded.
    pub steadiness: Option<Steadiness>,
    /// The windows that hold at least one recorded iteration, in the configured order.
    pub windows: Vec<Window>,
    /// Index of the first steady window, which the others are compared with: the first one that
    /// begins after the iterations taken for warm-up. `None` for a run that is not steady, whose
    /// windows have no common level, and where every window holds warm-up.
    pub first_steady: Option<usize>,
    /// One for every prompt, in the order they ran.
    pub generations: Vec<GenerationSummary>,
    /// What training changed; `None` where it was not read.
    pub effect: Option<Effect>,
    pub memory: Memory,
    pub budget: Budget,
    /// From just before the process was started to the end of its tenth step; `None` for a run by
    /// itself, whose record does not say when it was started, and for fewer steps.
    pub time_to_step_10_ns: Option<u64>,
    /// `None` where nothing was sampled.
    pub energy: Option<Energy>,
    /// `None` where the processor's counters were not read.
    pub counted: Option<Counted>,
    /// What a comparison has to know of the machine; empty where nothing that was read says so.
    pub marks: Vec<Mark>,
    pub validity: validity::Verdict,
    /// The thresholds of every verdict above.
    pub rules: Rules,
    pub rules_source: RulesSource,
}

/// Where the thresholds of a summary came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RulesSource {
    /// The run was recorded with them.
    Recorded,
    /// The record has none, so they are this build's defaults.
    Defaults,
    /// Given to [`summarize_with`].
    Given,
}

/// How the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Complete,
    /// Stopped by the user.
    Interrupted,
    /// Stopped by an error.
    Failed,
    /// The record has no last line: the process was killed, or still runs.
    CutOff,
}

impl RunStatus {
    /// What the last line of a record says, or that there is none.
    pub fn of(end: Option<&End>) -> Self {
        match end.map(|end| end.status) {
            None => Self::CutOff,
            Some(Status::Complete) => Self::Complete,
            Some(Status::Interrupted) => Self::Interrupted,
            Some(Status::Failed) => Self::Failed,
        }
    }
}

/// What the processor counted of the process: its own work and all that lies between iterations.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Counted {
    pub training: Option<PerIteration>,
    /// One for every window of the summary.
    pub windows: Vec<Option<PerIteration>>,
}

/// Mean counts of an iteration; `None` where one was not read, or did not rise.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct PerIteration {
    pub instructions: Option<f64>,
    pub cycles: Option<f64>,
    pub energy_joules: Option<f64>,
}

impl Counted {
    fn of(record: &Record, windows: &[Window]) -> Option<Self> {
        let done = record.iterations.len() as u32;
        let between = |first: u32, last: u32| {
            PerIteration::between(&record.counters, first.saturating_sub(1), last)
        };
        let windows = windows.iter().map(|it| between(it.first, it.last));
        let counted = Self {
            training: between(1, done),
            windows: windows.collect(),
        };
        let any = counted.training.is_some() || counted.windows.iter().any(Option::is_some);
        any.then_some(counted)
    }
}

impl PerIteration {
    /// From the reading after so many iterations to that after so many.
    fn between(counters: &[Counters], after: u32, until: u32) -> Option<Self> {
        let at = |done: u32| counters.iter().find(|it| it.iterations == done);
        let (first, last) = (at(after)?, at(until)?);
        let iterations = until.checked_sub(after).filter(|&count| count > 0)?;
        let risen = |count: fn(&Counters) -> Option<u64>| {
            let risen = count(last)?.checked_sub(count(first)?)?;
            (risen > 0).then(|| risen as f64 / f64::from(iterations))
        };
        let counted = Self {
            instructions: risen(|it| it.instructions),
            cycles: risen(|it| it.cycles),
            energy_joules: risen(|it| it.energy_nj).map(|nj| nj * 1e-9),
        };
        let all = [counted.instructions, counted.cycles, counted.energy_joules];
        all.iter().any(Option::is_some).then_some(counted)
    }
}

/// Generation for one prompt.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct GenerationSummary {
    pub prompt: String,
    pub prompt_tokens: u32,
    /// Tokens generated, a stop token included.
    pub generated_tokens: u32,
    pub finish: Finish,
    /// From the call to the first token; `None` where there was none.
    pub first_token_ns: Option<u64>,
    /// Prompt tokens over the time to the first token.
    pub prompt_tokens_per_second: Option<f64>,
    /// Tokens after the first over the time they took; `None` for fewer than two tokens.
    pub tokens_per_second: Option<f64>,
    /// Times from token to token in nanoseconds.
    pub token: Option<Distribution>,
    /// The same times, with intervals that respect autocorrelation.
    pub token_level: Option<Level>,
    /// What came of the checks of the prompt.
    pub quality: Quality,
    pub wall_ns: u64,
    /// Highest MLX memory.
    pub peak_bytes: u64,
    pub footprint_bytes: Option<u64>,
}

impl GenerationSummary {
    /// Derives the summary of one prompt, whose text is not judged and whose times are judged by
    /// the default rules.
    pub fn of(generation: &Generation) -> Self {
        let first_token_ns =
            (!generation.token_ids.is_empty()).then_some(generation.first_token_ns);
        // The first token's time is that of the prompt, so it counts in neither the tokens nor the
        // time of the generation rate.
        let later_tokens = generation.token_ns.len() as u64;
        let later_ns = total(generation.token_ns.iter().copied());
        Self {
            prompt: generation.prompt.clone(),
            prompt_tokens: generation.prompt_tokens,
            generated_tokens: generation.token_ids.len() as u32,
            finish: generation.finish,
            first_token_ns,
            prompt_tokens_per_second: first_token_ns
                .and_then(|ns| rate(u64::from(generation.prompt_tokens), ns)),
            tokens_per_second: rate(later_tokens, later_ns),
            token: stats::describe(&generation.token_ns),
            token_level: token_level(generation, &Rules::default()),
            quality: Quality::NotJudged(Why::NoChecks),
            wall_ns: generation.wall_ns,
            peak_bytes: generation.highest_bytes(),
            footprint_bytes: generation.footprint_bytes,
        }
    }
}

/// Loss of samples and quality of texts, without the adapters and with them.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Effect {
    /// `None` where no sample has two finite losses.
    pub loss: Option<LossChange>,
    /// What came of the checks of each prompt before training, in the prompts' order.
    pub quality_before: Vec<Quality>,
}

/// Mean losses of samples, each of which counts once, in nats per token.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct LossChange {
    pub samples: u32,
    /// Samples that are left out, since a loss was not finite.
    pub left_out: u32,
    pub before: f64,
    pub after: f64,
    /// Mean of the samples' differences, after less before.
    pub change: f64,
    /// Of the change, by Student's t over the samples; `None` of fewer than two.
    pub interval: Option<(f64, f64)>,
}

impl LossChange {
    fn of(samples: &[SampleLoss], confidence: f64) -> Option<Self> {
        let finite = samples.iter().filter_map(|it| it.before.zip(it.after));
        let (before, after): (Vec<f64>, Vec<f64>) = finite
            .map(|(before, after)| (f64::from(before), f64::from(after)))
            .unzip();
        let pairs = before.iter().zip(&after);
        let differences: Vec<f64> = pairs.map(|(before, after)| after - before).collect();
        Some(Self {
            samples: before.len() as u32,
            left_out: (samples.len() - before.len()) as u32,
            before: stats::mean(&before)?,
            after: stats::mean(&after)?,
            change: stats::mean(&differences)?,
            interval: comparison::paired_interval(&differences, confidence),
        })
    }
}

/// Memory over the iterations of the run.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Memory {
    /// MLX active memory after the first and after the last iteration.
    pub active_first_bytes: Option<u64>,
    pub active_last_bytes: Option<u64>,
    /// Largest MLX cache after an iteration.
    pub cache_max_bytes: Option<u64>,
    /// Where the footprint is read from (`phys_footprint`, `rss`).
    pub footprint_source: Option<String>,
    /// Process footprint in bytes.
    pub footprint: Option<Readings>,
    /// Swap in use on the whole machine, in bytes.
    pub swap: Option<Readings>,
    /// `None` where no iteration was recorded.
    pub growth: Option<MemoryGrowth>,
    /// `None` where too little is known for an estimate.
    pub headroom: Option<Headroom>,
}

/// How memory grew over the iterations, by series.
///
/// The peak is not among them: between two resets it can only rise, so it tells nothing that the
/// memory in use does not.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct MemoryGrowth {
    /// Of the run: [`leak::verdict`] of active memory, cache and footprint. Swap is the whole
    /// machine's and decides nothing.
    pub verdict: leak::Verdict,
    pub active: Growth,
    /// Where it grew evenly, the verdict is cache growth and not a leak.
    pub cache: Growth,
    /// `None` where it was never read.
    pub footprint: Option<Growth>,
    pub swap: Option<Growth>,
}

/// Readings that were taken on some iterations only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Readings {
    pub count: usize,
    pub first: u64,
    pub max: u64,
    pub last: u64,
}

/// Where the time went.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Budget {
    /// Process start to the end of the run.
    pub wall_ns: u64,
    /// False for a record without its last line: the wall time then ends with the latest event
    /// that was recorded.
    pub wall_known: bool,
    /// One of each [`Part`], in its order.
    pub parts: Vec<Share>,
    /// Wall time that no part explains. Negative only where parts of the record overlap.
    pub rest_ns: i64,
    /// As a fraction of the wall time.
    pub rest_share: Option<f64>,
}

/// One part of the time budget.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
#[schemars(rename = "BudgetShare")]
pub struct Share {
    pub part: Part,
    /// `None` where nothing of the kind was recorded.
    pub ns: Option<u64>,
    /// As a fraction of the wall time.
    pub share: Option<f64>,
}

/// The parts a run's time is divided into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Only of a run that asked the hub for its model.
    Fetch,
    Setup,
    /// Reading the data set, and building the batch of every iteration.
    Data,
    Compile,
    Step,
    Saving,
    WarmUp,
    Generation,
    /// Waiting for the machine, and measuring it when idle.
    Idle,
    /// Reading losses and texts without the adapters; only of a run that did.
    Effect,
}

/// Derives everything a report shows from a record, judging by the thresholds it was recorded
/// with, or by the defaults where it has none.
pub fn summarize(record: &Record) -> Summary {
    match &record.start.rules {
        Some(rules) => derive(record, rules, RulesSource::Recorded),
        None => derive(record, &Rules::default(), RulesSource::Defaults),
    }
}

/// As [`summarize`], judging by these thresholds whatever the record has.
pub fn summarize_with(record: &Record, rules: &Rules) -> Summary {
    derive(record, rules, RulesSource::Given)
}

fn derive(record: &Record, rules: &Rules, rules_source: RulesSource) -> Summary {
    let steps: Vec<u64> = record.iterations.iter().map(|it| it.step_ns).collect();
    let steadiness = (!steps.is_empty()).then(|| steadiness::judge(&steps, &rules.steadiness));
    let mut windows = windows(&record.start.config.windows, &record.iterations, rules);
    let first_steady = steadiness.and_then(|judged| first_steady(&judged, record, &windows));
    if let Some(base) = first_steady.and_then(|index| windows[index].level) {
        for window in &mut windows {
            window.change = window
                .level
                .and_then(|level| steadiness::change(&level, &base));
        }
    }
    let training = training(&record.iterations);
    let marks = validity::marks(record, &rules.validity);
    Summary {
        status: RunStatus::of(record.end.as_ref()),
        reason: record.end.as_ref().and_then(|end| end.reason.clone()),
        energy: energy::energy(record, training.as_ref(), &windows),
        counted: Counted::of(record, &windows),
        validity: validity::verdict(&marks),
        marks,
        training,
        steadiness,
        windows,
        first_steady,
        generations: generations(record, rules),
        effect: record.effect.as_ref().map(|it| effect(it, record, rules)),
        memory: memory(record, &rules.leak),
        budget: budget(record),
        time_to_step_10_ns: time_to_step_10_ns(record),
        rules: *rules,
        rules_source,
    }
}

/// From just before the process was started to the end of its tenth step: what a user waits until
/// a training is seen to move. `None` where the record does not hold both ends.
pub(crate) fn time_to_step_10_ns(record: &Record) -> Option<u64> {
    let tenth = record.iterations.get(9)?;
    Some(record.start.launch_ns?.saturating_add(tenth.end_ns()))
}

fn first_steady(judged: &Steadiness, record: &Record, windows: &[Window]) -> Option<usize> {
    let steady = judged.verdict == steadiness::Verdict::Steady;
    let after_warm_up = record.iterations.get(judged.cropped).filter(|_| steady)?;
    windows
        .iter()
        .position(|window| window.first >= after_warm_up.iteration)
}

fn windows(specs: &[WindowSpec], iterations: &[Iteration], rules: &Rules) -> Vec<Window> {
    specs
        .iter()
        .enumerate()
        .filter_map(|(index, spec)| {
            let members = window::members(specs, index);
            let begin = iterations.partition_point(|it| it.iteration < *members.start());
            let end = iterations.partition_point(|it| it.iteration <= *members.end());
            let counted = iterations.get(begin..end)?;
            let steps: Vec<u64> = counted.iter().map(|it| it.step_ns).collect();
            Some(Window {
                label: spec.to_string(),
                spec: *spec,
                first: counted.first()?.iteration,
                last: counted.last()?.iteration,
                training: training(counted)?,
                level: steadiness::window(&steps, 0..steps.len(), &rules.steadiness),
                change: None,
            })
        })
        .collect()
}

fn training(iterations: &[Iteration]) -> Option<Training> {
    let (first, last) = (iterations.first()?, iterations.last()?);
    let steps: Vec<u64> = iterations.iter().map(|it| it.step_ns).collect();
    let step_ns = total(steps.iter().copied());
    let wall_ns = last.end_ns().saturating_sub(first.start_ns);
    let tokens = |count: fn(&Iteration) -> u32| {
        let total = total(iterations.iter().map(|it| u64::from(count(it))));
        Tokens {
            total,
            per_step_second: rate(total, step_ns),
        }
    };
    Some(Training {
        iterations: iterations.len() as u32,
        step_ns,
        data_ns: total(iterations.iter().map(|it| it.data_ns)),
        wall_ns,
        iterations_per_step_second: rate(iterations.len() as u64, step_ns),
        iterations_per_wall_second: rate(iterations.len() as u64, wall_ns),
        real_tokens: tokens(|it| it.real_tokens),
        padded_tokens: tokens(|it| it.padded_tokens),
        loss_tokens: tokens(|it| it.loss_tokens),
        step: stats::describe(&steps)?,
        stages: stages(iterations),
        peak_bytes: iterations.iter().map(|it| it.highest_bytes()).max()?,
        first_loss: first.loss,
        last_loss: last.loss,
    })
}

/// What the steps of these iterations consist of; `None` where one does not tell, or where its
/// parts are longer than it.
pub(crate) fn stages(iterations: &[Iteration]) -> Option<StepStages> {
    let nothing = StepStages {
        graph_ns: 0,
        dispatch_ns: 0,
        wait_ns: 0,
    };
    let parts = |it: &Iteration| {
        let (graph_ns, dispatch_ns) = it.graph_ns.zip(it.dispatch_ns)?;
        let handed = graph_ns.checked_add(dispatch_ns)?;
        Some([graph_ns, dispatch_ns, it.step_ns.checked_sub(handed)?])
    };
    let sum = |sum: StepStages, it: &Iteration| {
        let [graph, dispatch, wait] = parts(it)?;
        Some(StepStages {
            graph_ns: sum.graph_ns.saturating_add(graph),
            dispatch_ns: sum.dispatch_ns.saturating_add(dispatch),
            wait_ns: sum.wait_ns.saturating_add(wait),
        })
    };
    iterations.iter().try_fold(nothing, sum)
}

fn effect(effect: &record::Effect, record: &Record, rules: &Rules) -> Effect {
    let judged = |(index, text): (usize, &TextBefore)| {
        let checks = checks_of(record, index);
        quality::judge_text(&text.text, text.finish, checks, &record.start.model.weights)
    };
    Effect {
        loss: LossChange::of(&effect.samples, rules.steadiness.confidence),
        quality_before: effect.texts_before.iter().enumerate().map(judged).collect(),
    }
}

/// The checks of a prompt by its place.
fn checks_of(record: &Record, index: usize) -> Option<&Checks> {
    record.start.config.generation.checks.as_ref()?.get(index)
}

fn generations(record: &Record, rules: &Rules) -> Vec<GenerationSummary> {
    let config = &record.start.config.generation;
    let judged = |(index, generation): (usize, &Generation)| {
        // Generations stand in the order of the prompts, of which an interrupted run lacks the last.
        let prompt = config.prompts.get(index);
        let checks = checks_of(record, index);
        let checks = checks.filter(|_| prompt == Some(&generation.prompt));
        GenerationSummary {
            token_level: token_level(generation, rules),
            quality: quality::judge(generation, checks, &record.start.model.weights),
            ..GenerationSummary::of(generation)
        }
    };
    record.generations.iter().enumerate().map(judged).collect()
}

fn token_level(generation: &Generation, rules: &Rules) -> Option<Level> {
    let times = &generation.token_ns;
    steadiness::window(times, 0..times.len(), &rules.steadiness)
}

fn memory(record: &Record, rules: &LeakRules) -> Memory {
    let iterations = &record.iterations;
    Memory {
        active_first_bytes: iterations.first().map(|it| it.active_bytes),
        active_last_bytes: iterations.last().map(|it| it.active_bytes),
        cache_max_bytes: iterations.iter().map(|it| it.cache_bytes).max(),
        footprint_source: record.start.footprint_source.clone(),
        footprint: readings(iterations.iter().filter_map(|it| it.footprint_bytes)),
        swap: readings(iterations.iter().filter_map(|it| it.swap_bytes)),
        growth: (!iterations.is_empty()).then(|| growth(iterations, rules)),
        headroom: Headroom::of(record),
    }
}

fn growth(iterations: &[Iteration], rules: &LeakRules) -> MemoryGrowth {
    let readings = |bytes: fn(&Iteration) -> Option<u64>| -> Vec<(u32, u64)> {
        let readings = iterations.iter();
        readings
            .filter_map(|it| Some((it.iteration, bytes(it)?)))
            .collect()
    };
    let judged = |bytes| leak::judge(&readings(bytes), rules);
    let where_read = |bytes| {
        let readings = readings(bytes);
        (!readings.is_empty()).then(|| leak::judge(&readings, rules))
    };
    let active = judged(|it| Some(it.active_bytes));
    let mut cache = judged(|it| Some(it.cache_bytes));
    let footprint = where_read(|it| it.footprint_bytes);
    let verdict = leak::verdict(&active, Some(&cache), footprint.as_ref());
    if cache.verdict == leak::Verdict::Leak {
        cache.verdict = leak::Verdict::CacheGrowth;
    }
    MemoryGrowth {
        verdict,
        active,
        cache,
        footprint,
        swap: where_read(|it| it.swap_bytes),
    }
}

fn readings(values: impl Iterator<Item = u64>) -> Option<Readings> {
    values.fold(None, |readings, value| match readings {
        None => Some(Readings {
            count: 1,
            first: value,
            max: value,
            last: value,
        }),
        Some(so_far) => Some(Readings {
            count: so_far.count + 1,
            max: so_far.max.max(value),
            last: value,
            ..so_far
        }),
    })
}

fn budget(record: &Record) -> Budget {
    let wall_ns = match &record.end {
        Some(end) => end.wall_ns,
        None => record.latest_ns(),
    };
    let phase = |kind: PhaseKind| {
        let times: Vec<u64> = record
            .phases
            .iter()
            .filter(|phase| phase.phase == kind)
            .map(|phase| phase.wall_ns)
            .collect();
        (!times.is_empty()).then(|| total(times.into_iter()))
    };
    let over_iterations = |time: fn(&Iteration) -> u64| {
        (!record.iterations.is_empty()).then(|| total(record.iterations.iter().map(time)))
    };
    let data = [
        phase(PhaseKind::Data),
        over_iterations(|iteration| iteration.data_ns),
    ];
    let fetch = phase(PhaseKind::Fetch).map(|ns| (Part::Fetch, Some(ns)));
    let measured = [
        (Part::Setup, phase(PhaseKind::Setup)),
        (
            Part::Data,
            data.into_iter().flatten().reduce(u64::saturating_add),
        ),
        (Part::Compile, phase(PhaseKind::Compile)),
        (Part::Step, over_iterations(|iteration| iteration.step_ns)),
        (Part::Saving, phase(PhaseKind::Save)),
        (Part::WarmUp, phase(PhaseKind::WarmUp)),
        (
            Part::Generation,
            (!record.generations.is_empty())
                .then(|| total(record.generations.iter().map(|g| g.wall_ns))),
        ),
        (Part::Idle, phase(PhaseKind::Idle)),
    ];
    let effect = record
        .effect
        .as_ref()
        .map(|it| (Part::Effect, Some(it.wall_ns)));
    let measured: Vec<_> = fetch.into_iter().chain(measured).chain(effect).collect();
    let share = |ns: f64| (wall_ns > 0).then(|| ns / wall_ns as f64);
    let explained = total(measured.iter().filter_map(|(_, ns)| *ns));
    // In 128 bits, since parts that overlap may add up to more than the whole.
    let rest_ns = (i128::from(wall_ns) - i128::from(explained))
        .clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    Budget {
        wall_ns,
        wall_known: record.end.is_some(),
        parts: measured
            .into_iter()
            .map(|(part, ns)| Share {
                part,
                ns,
                share: ns.and_then(|ns| share(ns as f64)),
            })
            .collect(),
        rest_ns,
        rest_share: share(rest_ns as f64),
    }
}

/// Work per second; `None` for no time, and for work of which none was done.
fn rate(work: u64, ns: u64) -> Option<f64> {
    (work > 0 && ns > 0).then(|| work as f64 / (ns as f64 * 1e-9))
}

/// Sum that stays at the largest integer for a damaged record, instead of wrapping.
fn total(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use crate::record::{End, MachineState, Phase};
    use crate::store;
    use crate::synthetic::{Fault, Series, series};
    use crate::testing;

    #[test]
    fn counts_are_those_between_the_ends_of_a_window() {
        let counters = |iterations: u32, instructions: u64, cycles: Option<u64>| Counters {
            at_ns: 0,
            iterations,
            instructions: Some(instructions),
            cycles,
            energy_nj: None,
        };
        let mut record = whole_run();
        // Windows are 1-2, 3-4 and 5-6; the reading after 4 lacks the cycles.
        record.counters = vec![
            counters(0, 1_000, Some(7)),
            counters(2, 1_400, Some(27)),
            counters(4, 1_460, None),
            counters(6, 1_460, Some(7)),
        ];
        let counted = summarize(&record).counted.unwrap();
        let of = |it: &Option<PerIteration>| it.map(|it| (it.instructions, it.cycles));
        assert_eq!(
            counted.windows.iter().map(of).collect::<Vec<_>>(),
            [
                Some((Some(200.0), Some(10.0))),
                Some((Some(30.0), None)),
                // What did not rise was not counted.
                None,
            ]
        );
        let whole = counted.training.unwrap();
        testing::assert_near(whole.instructions.unwrap(), 460.0 / 6.0, 1e-12, "training");
        assert_eq!((whole.cycles, whole.energy_joules), (None, None));
        record.counters.truncate(1);
        assert_eq!(summarize(&record).counted, None);
    }

    /// A run of six iterations with all phases and one prompt; ends at 40,000 ns.
    fn whole_run() -> Record {
        let phase = |phase, start_ns, wall_ns| Phase {
            phase,
            start_ns,
            wall_ns,
        };
        Record {
            start: testing::start(),
            phases: vec![
                phase(PhaseKind::Setup, 0, 5000),
                phase(PhaseKind::Data, 5000, 1000),
                phase(PhaseKind::Compile, 6000, 3000),
                phase(PhaseKind::Save, 20_000, 700),
                phase(PhaseKind::WarmUp, 21_000, 800),
                phase(PhaseKind::Save, 22_000, 300),
            ],
            iterations: (1..=6).map(testing::iteration).collect(),
            generations: vec![testing::generation(400, &[100, 110, 90])],
            effect: None,
            states: Vec::new(),
            sensors: Vec::new(),
            counters: Vec::new(),
            end: Some(End {
                status: Status::Complete,
                reason: None,
                wall_ns: 40_000,
            }),
            notices: Vec::new(),
        }
    }

    #[track_caller]
    fn assert_close(actual: Option<f64>, expected: f64) {
        let actual = actual.unwrap();
        assert!(
            (actual / expected - 1.0).abs() < 1e-12,
            "{actual} instead of {expected}"
        );
    }

    #[test]
    fn rates_are_work_over_time() {
        let training = summarize(&whole_run()).training.unwrap();
        // Steps of 1100, 1200, .. 1600 ns; 100 ns of data and a gap of 50 ns for each but the
        // last.
        assert_eq!(training.iterations, 6);
        assert_eq!(training.step_ns, 8100);
        assert_eq!(training.data_ns, 600);
        assert_eq!(training.wall_ns, 8100 + 600 + 5 * 50);
        assert_close(training.iterations_per_step_second, 6e9 / 8100.0);
        assert_close(training.iterations_per_wall_second, 6e9 / 8950.0);
        assert_eq!(training.real_tokens.total, 420);
        assert_close(training.real_tokens.per_step_second, 420e9 / 8100.0);
        assert_eq!(training.padded_tokens.total, 582);
        assert_close(training.padded_tokens.per_step_second, 582e9 / 8100.0);
        assert_eq!(training.loss_tokens.total, 414);
        assert_close(training.loss_tokens.per_step_second, 414e9 / 8100.0);
        assert_eq!(training.step.count, 6);
        assert_eq!(training.step.median, 1350.0);
        assert_eq!(training.step.p95, 1575.0);
        assert_close(training.step.sd, 35_000_f64.sqrt());
        assert_eq!(training.peak_bytes, 6000);
        assert_eq!(training.first_loss, Some(4.75));
        assert_eq!(training.last_loss, Some(3.5));
    }

    #[test]
    fn the_change_of_the_loss_is_that_of_pairs_and_has_their_interval() {
        let effect = |losses: &[(Option<f32>, Option<f32>)]| {
            let mut record = whole_run();
            let sample = |&(before, after): &_| SampleLoss {
                loss_tokens: 60,
                before,
                after,
            };
            let text = TextBefore {
                token_ids: Vec::new(),
                text: "one two".to_owned(),
                finish: Finish::Stop,
            };
            record.effect = Some(record::Effect {
                start_ns: 30_000,
                wall_ns: 2_000,
                samples: losses.iter().map(sample).collect(),
                texts_before: vec![text],
            });
            record.start.model.weights = record::Weights::Embedded {
                sha256: String::new(),
            };
            record.start.config.generation.checks = Some(vec![Checks {
                must_mention: vec!["two".to_owned()],
                ..Checks::default()
            }]);
            let summary = summarize(&record);
            assert_eq!(
                summary.budget.rest_ns,
                40_000 - 8100 - 600 - 10_800 - 2_000 - 2_000
            );
            summary.effect.unwrap()
        };
        let some = |before, after| (Some(before), Some(after));
        let found = effect(&[
            some(4.0, 3.0),
            some(3.0, 2.5),
            (None, Some(1.0)),
            some(5.0, 3.0),
        ]);
        let loss = found.loss.unwrap();
        assert_eq!((loss.samples, loss.left_out), (3, 1));
        assert_close(Some(loss.before), 4.0);
        assert_close(Some(loss.after), 8.5 / 3.0);
        // Differences -1, -0.5 and -2: mean -3.5 / 3, variance 7 / 12; t of 2 degrees at 97.5 %.
        let half = 4.302_652_729_696_142 * (7.0_f64 / 12.0 / 3.0).sqrt();
        let (low, high) = loss.interval.unwrap();
        assert!((low - (-3.5 / 3.0 - half)).abs() < 1e-9, "{low}");
        assert!((high - (-3.5 / 3.0 + half)).abs() < 1e-9, "{high}");
        assert!(matches!(&found.quality_before[..], [Quality::Judged(all)] if all[0].passed));
        assert_eq!(effect(&[some(2.0, 1.0)]).loss.unwrap().interval, None);
        assert_eq!(effect(&[(None, None)]).loss, None);
    }

    /// Label, first and last iteration and step time of every window of a run that ended after
    /// `iterations`.
    fn check_windows(iterations: usize, expected: &[(&str, u32, u32, u64)]) {
        let mut record = whole_run();
        record.iterations.truncate(iterations);
        let summary = summarize(&record);
        let actual: Vec<_> = summary
            .windows
            .iter()
            .map(|w| (w.label.as_str(), w.first, w.last, w.training.step_ns))
            .collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn windows_hold_the_iterations_that_were_measured() {
        check_windows(
            6,
            &[
                ("1-2", 1, 2, 2300),
                ("2-4", 3, 4, 2700),
                ("5-6", 5, 6, 3100),
            ],
        );
        check_windows(3, &[("1-2", 1, 2, 2300), ("2-4", 3, 3, 1300)]);
        check_windows(2, &[("1-2", 1, 2, 2300)]);
        check_windows(0, &[]);
    }

    #[test]
    fn a_peak_below_the_active_memory_is_not_believed() {
        let mut record = whole_run();
        for iteration in &mut record.iterations {
            iteration.peak_bytes = 0;
        }
        record.generations[0].peak_bytes = 0;
        let summary = summarize(&record);
        assert_eq!(summary.training.unwrap().peak_bytes, 506);
        assert_eq!(summary.generations[0].peak_bytes, 600);
    }

    /// A run of windows 1-100, 100-200 and 200-300 with these step times.
    fn timed_run(steps: &[u64]) -> Record {
        let mut record = whole_run();
        record.start.config.windows = window::parse("1-100,100-200,200-300").unwrap();
        record.iterations = (1..)
            .zip(steps)
            .map(|(n, &step_ns)| Iteration {
                step_ns,
                active_bytes: 1 << 30,
                cache_bytes: 1 << 30,
                ..testing::iteration(n)
            })
            .collect();
        record
    }

    fn noisy(fault: Fault) -> Vec<u64> {
        let truth = Series {
            fault,
            ..Series::steady(300, 1e7, 0.01)
        };
        series(&truth, &mut Generator::new(4))
    }

    #[test]
    fn windows_are_compared_with_the_first_one_after_the_warm_up() {
        let check = |steps: &[u64], verdict: steadiness::Verdict, base: Option<usize>| {
            let summary = summarize(&timed_run(steps));
            let judged = summary.steadiness.unwrap();
            assert_eq!(
                (judged.verdict, summary.first_steady),
                (verdict, base),
                "{judged:?}"
            );
            for (index, window) in summary.windows.iter().enumerate() {
                assert_eq!(window.level.unwrap().count, 100);
                assert_eq!(
                    window.level.unwrap().median.value,
                    window.training.step.median
                );
                assert_eq!(window.change.is_some(), base.is_some());
                assert_eq!(window.change == Some(0.0), base == Some(index));
            }
            summary
        };
        let mut steps = noisy(Fault::None);
        check(&steps, steadiness::Verdict::Steady, Some(0));
        for step in &mut steps[..8] {
            *step *= 3;
        }
        let summary = check(&steps, steadiness::Verdict::Steady, Some(1));
        assert!((8..=20).contains(&summary.steadiness.unwrap().cropped));
        let change = summary.windows[2].change.unwrap();
        let medians = [1, 2].map(|index| summary.windows[index].training.step.median);
        assert_eq!(change, medians[1] / medians[0] - 1.0);
        let drift = noisy(Fault::Drift { change: 0.1 });
        check(&drift, steadiness::Verdict::SlowingDown, None);
        assert_eq!(summarize(&timed_run(&[])).steadiness, None);
    }

    #[test]
    fn memory_growth_is_judged_by_series() {
        use leak::Verdict::{CacheGrowth, CannotTell, Flat, Leak};
        let check = |grow: fn(&mut Iteration, u64), expected: [Option<leak::Verdict>; 5]| {
            let mut record = timed_run(&noisy(Fault::None));
            for iteration in &mut record.iterations {
                let grown = u64::from(iteration.iteration) << 20;
                grow(iteration, grown);
            }
            let growth = summarize(&record).memory.growth.unwrap();
            let of = |growth: Option<Growth>| growth.map(|growth| growth.verdict);
            let actual = [
                Some(growth.verdict),
                of(Some(growth.active)),
                of(Some(growth.cache)),
                of(growth.footprint),
                of(growth.swap),
            ];
            assert_eq!(actual, expected);
        };
        let (flat, leak) = (Some(Flat), Some(Leak));
        check(|_, _| (), [flat, flat, flat, None, None]);
        check(
            |it, grown| it.active_bytes += grown,
            [leak, leak, flat, None, None],
        );
        check(
            |it, grown| it.cache_bytes += grown,
            [Some(CacheGrowth), flat, Some(CacheGrowth), None, None],
        );
        check(
            |it, grown| {
                it.footprint_bytes = (it.iteration % 3 == 0).then_some((2 << 30) + grown);
                it.swap_bytes = (it.iteration > 290).then_some(0);
            },
            [leak, flat, flat, leak, Some(CannotTell)],
        );
        // A peak decides nothing.
        check(
            |it, grown| it.peak_bytes = grown,
            [flat, flat, flat, None, None],
        );
        assert_eq!(summarize(&timed_run(&[])).memory.growth, None);
    }

    #[test]
    fn the_thresholds_are_the_recorded_ones_unless_others_are_given() {
        let check = |summary: Summary, fewest: usize, source: RulesSource| {
            assert_eq!(
                (
                    summary.rules.steadiness.fewest_samples,
                    summary.rules_source
                ),
                (fewest, source)
            );
            let verdict = summary.steadiness.unwrap().verdict;
            assert_eq!(verdict == steadiness::Verdict::TooShort, fewest > 300);
        };
        let mut rules = Rules::default();
        let mut record = timed_run(&noisy(Fault::None));
        rules.steadiness.fewest_samples = 301;
        record.start.rules = Some(rules);
        check(summarize(&record), 301, RulesSource::Recorded);
        check(
            summarize_with(&record, &Rules::default()),
            20,
            RulesSource::Given,
        );
        record.start.rules = None;
        check(summarize(&record), 20, RulesSource::Defaults);
        check(summarize_with(&record, &rules), 301, RulesSource::Given);
    }

    /// Prompt tokens per second and generated tokens per second of 5 prompt tokens.
    fn check_generation(
        first_token_ns: u64,
        token_ns: &[u64],
        prompt: f64,
        generated: Option<f64>,
    ) {
        let summary = GenerationSummary::of(&testing::generation(first_token_ns, token_ns));
        assert_eq!(summary.first_token_ns, Some(first_token_ns));
        assert_eq!(summary.generated_tokens as usize, token_ns.len() + 1);
        assert_close(summary.prompt_tokens_per_second, prompt);
        assert_eq!(summary.tokens_per_second.is_some(), generated.is_some());
        assert_eq!(summary.token.is_some(), generated.is_some());
        if let Some(generated) = generated {
            assert_close(summary.tokens_per_second, generated);
        }
    }

    #[test]
    fn the_first_token_counts_for_the_prompt_alone() {
        check_generation(400, &[100, 110, 90], 5e9 / 400.0, Some(3e9 / 300.0));
        check_generation(500, &[100], 1e7, Some(1e7));
        check_generation(500, &[], 1e7, None);
    }

    #[test]
    fn a_generation_without_tokens_has_no_rates() {
        let mut nothing = testing::generation(0, &[]);
        nothing.token_ids.clear();
        let summary = GenerationSummary::of(&nothing);
        assert_eq!(summary.generated_tokens, 0);
        assert_eq!(summary.first_token_ns, None);
        assert_eq!(summary.prompt_tokens_per_second, None);
        assert_eq!(summary.tokens_per_second, None);
    }

    #[test]
    fn memory_is_summarized_from_the_readings_there_are() {
        let mut record = whole_run();
        record.iterations[1].footprint_bytes = Some(7000);
        record.iterations[2].footprint_bytes = Some(9000);
        record.iterations[5].footprint_bytes = Some(8000);
        let memory = summarize(&record).memory;
        assert_eq!(memory.active_first_bytes, Some(501));
        assert_eq!(memory.active_last_bytes, Some(506));
        assert_eq!(memory.cache_max_bytes, Some(42));
        assert_eq!(memory.footprint_source.as_deref(), Some("rss"));
        let footprint = Readings {
            count: 3,
            first: 7000,
            max: 9000,
            last: 8000,
        };
        assert_eq!(memory.footprint, Some(footprint));
        assert_eq!(memory.swap, None);
    }

    #[test]
    fn the_time_budget_adds_up_to_the_wall_time() {
        let budget = summarize(&whole_run()).budget;
        let parts: Vec<_> = budget.parts.iter().map(|p| (p.part, p.ns)).collect();
        assert_eq!(
            parts,
            [
                (Part::Setup, Some(5000)),
                (Part::Data, Some(1600)),
                (Part::Compile, Some(3000)),
                (Part::Step, Some(8100)),
                (Part::Saving, Some(1000)),
                (Part::WarmUp, Some(800)),
                (Part::Generation, Some(2000)),
                (Part::Idle, None),
            ]
        );
        assert_eq!((budget.wall_ns, budget.wall_known), (40_000, true));
        assert_eq!(budget.rest_ns, 18_500);
        let mut fetched = whole_run();
        fetched.phases.push(Phase {
            phase: PhaseKind::Fetch,
            start_ns: 100,
            wall_ns: 500,
        });
        let budget_of_fetched = summarize(&fetched).budget;
        assert_eq!(
            (
                budget_of_fetched.parts[0].part,
                budget_of_fetched.parts[0].ns
            ),
            (Part::Fetch, Some(500))
        );
        assert_eq!(budget_of_fetched.rest_ns, 18_000);
        assert_close(budget.rest_share, 0.4625);
        assert_close(budget.parts[1].share, 0.04);
        let shares: f64 = budget.parts.iter().filter_map(|p| p.share).sum();
        assert_close(Some(shares + budget.rest_share.unwrap()), 1.0);
    }

    #[test]
    fn overlapping_parts_leave_a_negative_rest() {
        let mut record = whole_run();
        record.end.as_mut().unwrap().wall_ns = 20_000;
        let budget = summarize(&record).budget;
        assert_eq!(budget.rest_ns, -1500);
        assert_close(budget.rest_share, -0.075);
    }

    #[test]
    fn a_record_without_its_end_lasts_until_its_latest_event() {
        let mut record = whole_run();
        record.end = None;
        let check = |record: &Record, wall_ns: u64| {
            let summary = summarize(record);
            assert_eq!(summary.status, RunStatus::CutOff);
            assert_eq!(summary.budget.wall_ns, wall_ns);
            assert!(!summary.budget.wall_known);
        };
        check(&record, 32_000);
        record.generations.clear();
        check(&record, 22_300);
        record.phases.truncate(3);
        check(&record, 18_950);
        record.states.push(MachineState {
            at_ns: 19_000,
            ..MachineState::default()
        });
        check(&record, 19_000);
    }

    #[test]
    fn the_status_is_the_recorded_one() {
        for (status, expected) in [
            (Status::Complete, RunStatus::Complete),
            (Status::Interrupted, RunStatus::Interrupted),
            (Status::Failed, RunStatus::Failed),
        ] {
            let mut record = whole_run();
            record.end = Some(End {
                status,
                reason: Some("ctrl-c".to_owned()),
                wall_ns: 1,
            });
            let summary = summarize(&record);
            assert_eq!(summary.status, expected);
            assert_eq!(summary.reason.as_deref(), Some("ctrl-c"));
        }
    }

    #[test]
    fn a_run_that_measured_nothing_has_nothing_to_show() {
        let events = [crate::record::Event::Start(Box::new(testing::start()))];
        let record = store::parse(&testing::text(&events)).unwrap();
        let summary = summarize(&record);
        assert_eq!(summary.training, None);
        assert_eq!(summary.windows, []);
        assert_eq!(summary.generations, []);
        assert_eq!(summary.memory.active_first_bytes, None);
        assert_eq!(summary.memory.cache_max_bytes, None);
        assert_eq!(summary.memory.footprint, None);
        assert_eq!(summary.budget.wall_ns, 0);
        assert!(
            summary
                .budget
                .parts
                .iter()
                .all(|p| p.ns.is_none() && p.share.is_none())
        );
        assert_eq!(summary.budget.rest_share, None);
    }

    #[test]
    fn a_record_with_impossible_numbers_does_not_overflow() {
        let mut record = whole_run();
        record.start.config.windows = vec![
            WindowSpec {
                first: 0,
                last: u32::MAX,
            },
            WindowSpec { first: 9, last: 2 },
        ];
        for iteration in &mut record.iterations {
            iteration.start_ns = u64::MAX;
            iteration.step_ns = u64::MAX;
        }
        let summary = summarize(&record);
        assert_eq!(summary.training.unwrap().step_ns, u64::MAX);
        assert_eq!(summary.windows.len(), 1);
        assert!(summary.budget.rest_ns < 0);
    }
}
