//! The audit of a record: what a report shows of it, computed again from the samples by another
//! route, and facts of it that have to fit each other.

use super::checks::{self, Formula, Relation, Tolerance, Unit};
use super::{Audit, Check, Outcome, Side};
use crate::interval::Interval;
use crate::record::{Iteration, Status};
use crate::roofline::{self, Resource, Use, Work};
use crate::store::Record;
use crate::summary::{Summary, Training};

/// Prompts with fewer tokens than this are read in little more than the fixed time of a call.
pub(super) const SHORT_PROMPT: u32 = 128;

/// Audits a record and the summary of it.
pub fn record(record: &Record, summary: &Summary) -> Audit {
    let mut checks = model(record);
    if let Some(training) = &summary.training {
        checks.extend(rates(record, training));
        checks.extend(tokens(record, training));
        checks.extend(spreads(record, summary, training));
        checks.extend(windows(summary, training));
        checks.extend(memory(record, summary, training));
    }
    checks.extend(generations(record, summary));
    checks.extend(roofline(record, summary));
    checks.extend(budget(record, summary));
    checks.extend(as_configured(record));
    Audit {
        checks,
        claims: Vec::new(),
    }
}

/// What the record says of the model and its adapters.
fn model(record: &Record) -> Vec<Check> {
    let (model, config) = (&record.start.model, &record.start.config);
    let rank = f64::from(config.lora.rank);
    let derived: f64 = model
        .adapters
        .iter()
        .map(|adapter| rank * (f64::from(adapter.inputs) + f64::from(adapter.outputs)))
        .sum();
    let elsewhere = model.adapters.iter().filter(|adapter| {
        let last = roofline::layer(&adapter.name).is_some_and(|layer| {
            layer < model.layers && layer >= model.layers.saturating_sub(config.lora.layers)
        });
        let target = config.lora.targets.iter().any(|target| {
            let module = adapter.name.strip_suffix(target.as_str());
            module.is_some_and(|path| path.ends_with('.'))
        });
        !(last && target)
    });
    let weight_bytes = bytes_per_parameter(&config.dtype).map(|bytes| {
        let packed = model.quantization.iter().flat_map(|it| &it.packed);
        let saved = packed.map(|it| {
            // A scale and a bias for every group.
            let each = f64::from(it.bits) / 8.0 + 2.0 * bytes / f64::from(it.group_size);
            it.parameters as f64 * (bytes - each)
        });
        Interval::exact(bytes * model.parameters as f64 - saved.sum::<f64>())
    });
    vec![
        checks::TRAINABLE_PARAMETERS.check(
            "trainable-parameters",
            Some(Interval::exact(derived)),
            count(model.trainable_parameters),
            Tolerance::Exact,
        ),
        ADAPTED_MODULES.check(
            "adapted-modules",
            Some(Interval::exact(elsewhere.count() as f64)),
            Some(Interval::exact(0.0)),
            Tolerance::Exact,
        ),
        WEIGHT_BYTES.check(
            "weight-bytes",
            weight_bytes,
            count(model.weight_bytes),
            Tolerance::Exact,
        ),
    ]
}

fn rates(record: &Record, training: &Training) -> Vec<Check> {
    // What lies in the iterations and between them, instead of from the first to the last moment.
    let within: u64 = sum(record.iterations.iter().map(|it| it.end_ns() - it.start_ns));
    let between = record.iterations.windows(2).map(|pair| match pair {
        [earlier, later] => later.start_ns.saturating_sub(earlier.end_ns()),
        _ => 0,
    });
    let wall = within.saturating_add(sum(between));
    let over =
        |ns: f64| (ns > 0.0).then(|| Interval::exact(record.iterations.len() as f64 * 1e9 / ns));
    vec![
        checks::RATE_OVER_TIME.check(
            "rate-by-wall-time",
            over(wall as f64),
            training.iterations_per_wall_second.map(Interval::exact),
            Tolerance::COMPUTED,
        ),
        checks::RATE_OVER_TIME.check(
            "rate-by-step-time",
            over(training.step.mean * record.iterations.len() as f64),
            training.iterations_per_step_second.map(Interval::exact),
            Tolerance::COMPUTED,
        ),
        STEPS_IN_WALL.check(
            "steps-in-wall-time",
            seconds(training.step_ns),
            seconds(training.wall_ns),
            Tolerance::Exact,
        ),
    ]
}

fn tokens(record: &Record, training: &Training) -> Vec<Check> {
    let rate = training.iterations_per_step_second.map(Interval::exact);
    let product = rate
        .zip(tokens_per_iteration(record))
        .map(|(rate, tokens)| rate * tokens);
    let disordered = record
        .iterations
        .iter()
        .filter(|it| it.loss_tokens > it.real_tokens || it.real_tokens > it.padded_tokens);
    vec![
        checks::TOKEN_RATE.check(
            "token-rate",
            product,
            training.real_tokens.per_step_second.map(Interval::exact),
            Tolerance::COMPUTED,
        ),
        TOKEN_ORDER.check(
            "token-counts",
            Some(Interval::exact(disordered.count() as f64)),
            Some(Interval::exact(0.0)),
            Tolerance::Exact,
        ),
        Check {
            id: "same-measurement".to_owned(),
            formula: "token rate = iteration rate x tokens per iteration, by definition",
            left: None,
            right: None,
            tolerance: "none".to_owned(),
            outcome: Outcome::Pass,
            sentence: "The token rates divide by the same step times as the iteration rate. They \
                       are that measurement in other units, and no second one."
                .to_owned(),
        },
    ]
}

/// Tokens of the samples that an iteration has, from the data alone.
///
/// After whole passes over samples that fill their batches it is one number; otherwise it lies
/// between that of the shortest and of the longest sample.
fn tokens_per_iteration(record: &Record) -> Option<Interval> {
    let (config, samples) = (&record.start.config, &record.start.data.sample_tokens);
    // The model is fed all but the last column.
    let longest_row = config.max_seq_length.saturating_sub(1);
    let fed: Vec<u64> = samples
        .iter()
        .map(|&len| len.min(longest_row).into())
        .collect();
    let batch = u64::from(config.batch_size);
    let (rows, all) = (batch * record.iterations.len() as u64, fed.len() as u64);
    if batch > 0 && all > 0 && all % batch == 0 && rows % all == 0 {
        let mean = sum(fed.iter().copied()) as f64 / all as f64;
        return Some(Interval::exact(mean * batch as f64));
    }
    Some(Interval {
        low: (*fed.iter().min()? * batch) as f64,
        high: (*fed.iter().max()? * batch) as f64,
    })
}

fn spreads(record: &Record, summary: &Summary, training: &Training) -> Vec<Check> {
    let check = |id: String, iterations: &[Iteration], training: &Training| {
        let stated = training
            .step
            .sd
            .map(|sd| Interval::exact(sd / training.step.mean));
        checks::SPREAD_SHARE.check(
            id,
            running_spread(iterations).map(Interval::exact),
            stated,
            Tolerance::COMPUTED,
        )
    };
    let whole = check("spread-share".to_owned(), &record.iterations, training);
    let windows = summary.windows.iter().map(|window| {
        let begin = record
            .iterations
            .partition_point(|it| it.iteration < window.first);
        let end = record
            .iterations
            .partition_point(|it| it.iteration <= window.last);
        let id = format!("spread-share:{}", window.label);
        check(id, &record.iterations[begin..end], &window.training)
    });
    std::iter::once(whole).chain(windows).collect()
}

/// Standard deviation over mean of the step times in one pass (Welford 1962).
fn running_spread(iterations: &[Iteration]) -> Option<f64> {
    let (mut mean, mut squares) = (0.0, 0.0);
    for (count, iteration) in (1..).zip(iterations) {
        let step = iteration.step_ns as f64;
        let delta = step - mean;
        mean += delta / f64::from(count);
        squares += delta * (step - mean);
    }
    let freedom = iterations.len().checked_sub(1).filter(|&n| n > 0)?;
    Some((squares / freedom as f64).sqrt() / mean)
}

fn windows(summary: &Summary, training: &Training) -> Vec<Check> {
    let counted: u32 = summary
        .windows
        .iter()
        .map(|it| it.training.iterations)
        .sum();
    let covered = counted == training.iterations;
    let step_ns = sum(summary.windows.iter().map(|it| it.training.step_ns));
    let peak = summary
        .windows
        .iter()
        .map(|it| it.training.peak_bytes)
        .max();
    let rate = (step_ns > 0).then(|| Interval::exact(f64::from(counted) * 1e9 / step_ns as f64));
    vec![
        checks::WINDOWS_TIME.check(
            "windows-time",
            seconds(step_ns).filter(|_| covered),
            seconds(training.step_ns),
            Tolerance::Exact,
        ),
        checks::WINDOWS_RATE.check(
            "windows-rate",
            rate.filter(|_| covered),
            training.iterations_per_step_second.map(Interval::exact),
            Tolerance::COMPUTED,
        ),
        checks::WINDOWS_PEAK.check(
            "windows-peak",
            peak.filter(|_| covered).and_then(count),
            count(training.peak_bytes),
            Tolerance::Exact,
        ),
    ]
}

fn memory(record: &Record, summary: &Summary, training: &Training) -> Vec<Check> {
    let model = &record.start.model;
    let active = record.iterations.iter().map(|it| it.active_bytes).min();
    let generation_peaks = summary.generations.iter().map(|it| it.peak_bytes);
    let peak = generation_peaks.chain([training.peak_bytes]).max();
    let machine = record.start.machine.memory_bytes;
    let memory = match record.start.config.device.as_str() {
        "cpu" => machine,
        _ => record.start.mlx.device_memory_bytes,
    };
    vec![
        checks::MEMORY_FLOOR.check(
            "memory-floor",
            Some(memory_floor(
                model.weight_bytes as f64,
                model.trainable_parameters as f64,
            )),
            count(training.peak_bytes),
            Tolerance::Exact,
        ),
        ACTIVE_FLOOR.check(
            "active-floor",
            Some(Interval::exact(
                model.weight_bytes as f64 + 12.0 * model.trainable_parameters as f64,
            )),
            active.and_then(count),
            Tolerance::Exact,
        ),
        MEMORY_FITS.check(
            "memory-share",
            peak.and_then(count),
            memory.and_then(count),
            Tolerance::Exact,
        ),
    ]
}

/// What a step holds for certain: weights, and in f32 adapters, gradients and two moments.
pub(super) fn memory_floor(weight_bytes: f64, trainable: f64) -> Interval {
    Interval::exact(weight_bytes + 4.0 * 4.0 * trainable)
}

/// Bytes of one parameter of this type.
pub(super) fn bytes_per_parameter(dtype: &str) -> Option<f64> {
    match dtype {
        "f32" => Some(4.0),
        "bf16" | "f16" => Some(2.0),
        _ => None,
    }
}

fn generations(record: &Record, summary: &Summary) -> Vec<Check> {
    let weights = record.start.model.weight_bytes;
    let most = u64::from(record.start.config.generation.max_tokens);
    let mut checks = Vec::new();
    for ((number, raw), shown) in (1..).zip(&record.generations).zip(&summary.generations) {
        let later = raw.token_ns.len() as f64;
        let mean = shown
            .token
            .as_ref()
            .map(|token| token.mean)
            .filter(|&mean| mean > 0.0);
        if later > 0.0 {
            checks.push(GENERATION_RATE.check(
                format!("generation-rate:prompt-{number}"),
                mean.map(|mean| Interval::exact(1e9 / mean)),
                shown.tokens_per_second.map(Interval::exact),
                Tolerance::COMPUTED,
            ));
        }
        let parts = raw
            .first_token_ns
            .saturating_add(sum(raw.token_ns.iter().copied()));
        checks.extend([
            GENERATION_TIME.check(
                format!("generation-time:prompt-{number}"),
                seconds(parts),
                seconds(raw.wall_ns),
                Tolerance::Exact,
            ),
            GENERATED_TOKENS.check(
                format!("generated-tokens:prompt-{number}"),
                count(raw.token_ids.len() as u64),
                count(most),
                Tolerance::Exact,
            ),
            checks::GENERATION_FLOOR.check(
                format!("generation-floor:prompt-{number}"),
                count(weights),
                count(shown.peak_bytes),
                Tolerance::Exact,
            ),
        ]);
    }
    let shortest = record.generations.iter().map(|it| it.prompt_tokens).min();
    checks.extend(shortest.map(|tokens| prompt_length(Some(f64::from(tokens)))));
    checks
}

/// Whether a prompt rate says how fast long prompts are read.
pub(super) fn prompt_length(shortest: Option<f64>) -> Check {
    let long = shortest.is_some_and(|tokens| tokens >= f64::from(SHORT_PROMPT));
    let side = |value| Side::new(Interval::exact(value), Unit::Tokens);
    Check {
        id: "prompt-length".to_owned(),
        formula: "tokens of the shortest prompt >= 128",
        left: shortest.map(side),
        right: Some(side(SHORT_PROMPT.into())),
        tolerance: "none".to_owned(),
        outcome: match long {
            true => Outcome::Pass,
            false => Outcome::CannotTell,
        },
        sentence: match (long, shortest) {
            (true, _) => "Every prompt is long enough for its rate to be one of reading.",
            (false, Some(_)) => {
                "The time to the first token of a short prompt is mostly the fixed cost of a call, \
                 so its prompt rate says little of how fast prompts are read."
            }
            (false, None) => {
                "The lengths of the prompts are not stated. The time to the first token of a short \
                 prompt is mostly the fixed cost of a call, so its prompt rate says little of how \
                 fast prompts are read."
            }
        }
        .to_owned(),
    }
}

fn roofline(record: &Record, summary: &Summary) -> Vec<Check> {
    let roofline = roofline::roofline(record, summary);
    roofline.uses.iter().map(roofline_check).collect()
}

fn roofline_check(used: &Use) -> Check {
    let id = match used.work {
        Work::Training => "roofline:training".to_owned(),
        Work::Prefill(number) => format!("roofline:reading-prompt-{number}"),
        Work::Decode(number) => format!("roofline:generation-prompt-{number}"),
    };
    let formula = match used.resource {
        Resource::Bandwidth => &checks::DECODE_BANDWIDTH,
        Resource::Arithmetic => &checks::ARITHMETIC,
    };
    let specified = used.specified.map(|it| Interval::exact(it.figure.value));
    formula.check(
        id,
        Some(Interval::exact(used.used)),
        specified,
        Tolerance::Specified,
    )
}

fn budget(record: &Record, summary: &Summary) -> Vec<Check> {
    let budget = &summary.budget;
    let phases = record.phases.iter().map(|it| it.wall_ns);
    let iterations = record
        .iterations
        .iter()
        .map(|it| it.data_ns.saturating_add(it.step_ns));
    let generations = record.generations.iter().map(|it| it.wall_ns);
    let effect = record.effect.iter().map(|it| it.wall_ns);
    let parts = sum(phases.chain(iterations).chain(generations).chain(effect));
    let whole = i128::from(parts) + i128::from(budget.rest_ns);
    vec![
        checks::BUDGET.check(
            "time-budget",
            Some(Interval::exact(whole as f64 / 1e9)),
            seconds(budget.wall_ns),
            Tolerance::Exact,
        ),
        PARTS_IN_WALL.check(
            "time-parts",
            seconds(parts),
            seconds(budget.wall_ns),
            Tolerance::Exact,
        ),
    ]
}

/// Whether a run that says it completed did what it was configured to do.
fn as_configured(record: &Record) -> Vec<Check> {
    let config = &record.start.config;
    let complete = record
        .end
        .as_ref()
        .is_some_and(|end| end.status == Status::Complete);
    let formula = |formula| Formula {
        formula,
        relation: match complete {
            true => Relation::Equal,
            false => Relation::AtMost,
        },
        ..AS_CONFIGURED
    };
    vec![
        formula("measured iterations = configured iterations").check(
            "iterations-as-configured",
            count(record.iterations.len() as u64),
            count(config.iterations.into()),
            Tolerance::Exact,
        ),
        formula("generations = configured prompts").check(
            "prompts-as-configured",
            count(record.generations.len() as u64),
            count(config.generation.prompts.len() as u64),
            Tolerance::Exact,
        ),
    ]
}

fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

fn count(value: u64) -> Option<Interval> {
    Some(Interval::exact(value as f64))
}

fn seconds(ns: u64) -> Option<Interval> {
    Some(Interval::exact(ns as f64 / 1e9))
}

const ADAPTED_MODULES: Formula = Formula {
    formula: "adapters outside the configured layers and modules = 0",
    relation: Relation::Equal,
    unit: Unit::Count,
    pass: "Every adapter is on a configured module of a configured layer.",
    fail: "{left} adapters are on other modules or layers than were configured.",
    missing: "",
};

const WEIGHT_BYTES: Formula = Formula {
    formula: "parameters x bytes of their type, or of their packing = bytes of the weights",
    relation: Relation::Equal,
    unit: Unit::Bytes,
    pass: "The weights take what their number and type need.",
    fail: "The parameters need {left} in their type, and the weights take {right}.",
    missing: "The type of the weights is none that this build knows.",
};

const STEPS_IN_WALL: Formula = Formula {
    formula: "sum of the steps <= wall time of training",
    relation: Relation::AtMost,
    unit: Unit::Seconds,
    pass: "The steps fit into the wall time of training.",
    fail: "The steps take {left}, more than the wall time of {right}.",
    missing: "",
};

const TOKEN_ORDER: Formula = Formula {
    formula: "iterations without loss tokens <= real tokens <= padded tokens = 0",
    relation: Relation::Equal,
    unit: Unit::Count,
    pass: "No iteration has more loss tokens than real ones, or more real ones than padded ones.",
    fail: "{left} iterations have more loss tokens than real ones, or more real ones than padded \
           ones.",
    missing: "",
};

const ACTIVE_FLOOR: Formula = Formula {
    formula: "weights + 4 bytes x trainable parameters x (adapter, two moments) <= active memory",
    relation: Relation::AtMost,
    unit: Unit::Bytes,
    pass: "The memory in use after every step holds the weights, the adapters and the moments.",
    fail: "Weights, adapters and moments need {left}, more than the {right} in use after a step.",
    missing: "",
};

const MEMORY_FITS: Formula = Formula {
    formula: "peak <= memory of the device",
    relation: Relation::AtMost,
    unit: Unit::Bytes,
    pass: "The peak fits the memory of the device.",
    fail: "The peak of {left} is more than the {right} of the device.",
    missing: "The memory of the device was not read.",
};

const GENERATION_RATE: Formula = Formula {
    formula: "1 / mean time from token to token = generation rate",
    relation: Relation::Equal,
    unit: Unit::TokensPerSecond,
    pass: "The generation rate follows from the mean time from token to token.",
    fail: "The mean time from token to token gives {left}, and {right} is stated.",
    missing: "The times from token to token are 0.",
};

const GENERATION_TIME: Formula = Formula {
    formula: "time to the first token + times between tokens <= time of the generation",
    relation: Relation::AtMost,
    unit: Unit::Seconds,
    pass: "The times of the tokens fit into that of the generation.",
    fail: "The times of the tokens add up to {left}, more than the {right} of the generation.",
    missing: "",
};

const GENERATED_TOKENS: Formula = Formula {
    formula: "generated tokens <= the configured maximum",
    relation: Relation::AtMost,
    unit: Unit::Tokens,
    pass: "No more tokens were generated than the configured maximum.",
    fail: "{left} were generated, and the maximum is {right}.",
    missing: "",
};

const PARTS_IN_WALL: Formula = Formula {
    formula: "sum of the parts of the time <= wall time",
    relation: Relation::AtMost,
    unit: Unit::Seconds,
    pass: "The parts of the time do not overlap.",
    fail: "The parts of the time add up to {left}, more than the wall time of {right}: they \
           overlap.",
    missing: "",
};

const AS_CONFIGURED: Formula = Formula {
    formula: "",
    relation: Relation::Equal,
    unit: Unit::Count,
    pass: "What was measured fits what was configured.",
    fail: "{left} were measured, and {right} were configured.",
    missing: "",
};

#[cfg(test)]
mod tests;
