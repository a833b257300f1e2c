//! The audit of a document of claims: its figures against each other, against what is published of
//! its chip, and its sentences against what was measured.

use std::collections::BTreeMap;

use super::checks::{self, Formula, Relation, Tolerance, Unit};
use super::measured::{bytes_per_parameter, memory_floor, prompt_length};
use super::{Audit, Check, JudgedClaim, Outcome, Side};
use crate::chips::{self, Peaks};
use crate::claims::{Claim, Claims, Figure, Quantity as Q, Scope, Shape, Subject, Text};
use crate::interval::Interval;
use crate::roofline::Costs;
use crate::window;

/// Audits a document.
pub fn claims(claims: &Claims) -> Audit {
    let stated = Stated {
        claims,
        figures: claims.figures().collect(),
    };
    let mut checks = Vec::new();
    checks.extend(stated.agreements());
    checks.extend(stated.rates());
    checks.extend(stated.parameters());
    checks.extend(stated.memory());
    checks.extend(stated.spreads());
    checks.extend(stated.windows());
    checks.extend(stated.generation());
    checks.extend(stated.hardware());
    checks.extend(stated.ratios());
    checks.extend(stated.budget());
    let judged = claims.texts().flat_map(|text| {
        let stated = &stated;
        text.claims
            .iter()
            .map(move |claim| stated.judge(text, claim))
    });
    Audit {
        claims: judged.collect(),
        checks,
    }
}

/// What a document states.
struct Stated<'a> {
    claims: &'a Claims,
    /// In the order of the document.
    figures: Vec<&'a Figure>,
}

impl<'a> Stated<'a> {
    /// Every figure of a quantity, of whatever it is a figure.
    fn all(&self, quantity: Q) -> impl Iterator<Item = &'a Figure> {
        let figures = self.figures.iter().copied();
        figures.filter(move |figure| figure.quantity == quantity)
    }

    /// The most finely printed figure of a quantity.
    fn figure(&self, quantity: Q, of: Option<&Scope>) -> Option<&'a Figure> {
        let of_it = self
            .all(quantity)
            .filter(|it| it.of.as_ref() == of && !it.below);
        of_it.min_by(|a, b| a.resolution().total_cmp(&b.resolution()))
    }

    /// The values of a quantity of the whole run.
    fn value(&self, quantity: Q) -> Option<Interval> {
        self.figure(quantity, None).map(Figure::value)
    }

    /// The first figure of every window, and of which.
    fn of_windows(&self, quantity: Q) -> Vec<&'a Figure> {
        let mut found: Vec<&Figure> = Vec::new();
        for figure in self.all(quantity).filter(|it| it.window().is_some()) {
            if found.iter().all(|earlier| earlier.of != figure.of) {
                found.push(figure);
            }
        }
        found
    }

    /// The first figure of every prompt, by number.
    fn of_prompts(&self, quantity: Q) -> BTreeMap<u32, &'a Figure> {
        let mut found = BTreeMap::new();
        for figure in self.all(quantity) {
            if let Some(Scope::Prompt(number)) = figure.of {
                found.entry(number).or_insert(figure);
            }
        }
        found
    }

    /// Figures of one thing that are printed differently have to be one value.
    fn agreements(&self) -> Vec<Check> {
        let mut groups: BTreeMap<(Q, &Option<Scope>), Vec<&Figure>> = BTreeMap::new();
        for figure in &self.figures {
            let several = matches!(figure.quantity, Q::IterationRange | Q::TimePart);
            let group = groups.entry((figure.quantity, &figure.of)).or_default();
            let known = |it: &&Figure| it.printed == figure.printed && it.unit == figure.unit;
            if !several && !figure.below && !group.iter().any(known) {
                group.push(figure);
            }
        }
        let several = groups.into_iter().filter(|(_, figures)| figures.len() > 1);
        several
            .map(|((quantity, of), figures)| agreement(quantity, of.as_ref(), &figures))
            .collect()
    }

    fn rates(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let (rate, time) = (self.value(Q::IterationRate), self.value(Q::TrainingTime));
        if let Some(rate) = rate {
            let iterations = self.value(Q::Iterations);
            checks.push(
                checks::RATE_OVER_TIME.check(
                    "rate-over-time",
                    iterations
                        .zip(time)
                        .map(|(iterations, time)| iterations / time),
                    Some(rate),
                    Tolerance::Printed,
                ),
            );
        }
        if let Some(tokens) = self.figure(Q::TokenRate, None) {
            let per_iteration = self.value(Q::TokensPerIteration);
            checks.push(checks::TOKEN_RATE.check(
                "token-rate",
                rate.zip(per_iteration).map(|(rate, tokens)| rate * tokens),
                Some(tokens.value()),
                Tolerance::Printed,
            ));
            checks.extend(rate.map(|rate| same_measurement(rate, tokens)));
        }
        checks
    }

    fn parameters(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let trainable = self.figure(Q::TrainableParameters, None);
        checks.extend(trainable.map(|figure| self.trainable(figure)));
        if let Some(share) = self.value(Q::TrainableShare) {
            let parts = self
                .value(Q::TrainableParameters)
                .zip(self.parameter_count());
            checks.push(checks::TRAINABLE_SHARE.check(
                "trainable-share",
                parts.map(|(trainable, all)| trainable / all),
                Some(share),
                Tolerance::Printed,
            ));
        }
        checks
    }

    /// Of the base model: as stated, or as its shape has them.
    fn parameter_count(&self) -> Option<Interval> {
        let shape = self.claims.context.model.as_ref();
        self.value(Q::Parameters)
            .or(shape.map(|shape| Interval::exact(shape.parameters as f64)))
    }

    /// Rank, layers and modules against the stated number.
    fn trainable(&self, figure: &Figure) -> Check {
        let formula = &checks::TRAINABLE_PARAMETERS;
        let (stated, id) = (figure.value(), "trainable-parameters");
        let context = &self.claims.context;
        let rank = self.value(Q::Rank);
        let layers = self.value(Q::AdaptedLayers);
        let known = context.model.as_ref().zip(rank.zip(layers));
        let Some((shape, (rank, layers))) = known else {
            return formula.check(id, None, Some(stated), Tolerance::Printed);
        };
        let choices = Choices::new(shape, layers.low, context.targets.as_deref());
        let at_rank = |rank: f64, sizes: &Choice| Interval::exact(rank * sizes.per_rank);
        let fits = |rank: f64, choice: &&Choice| at_rank(rank, choice).meets(stated);
        if let Some(choice) = choices.0.iter().find(|choice| fits(rank.low, choice)) {
            let left = Some(at_rank(rank.low, choice));
            return formula.check(id, left, Some(stated), Tolerance::Printed);
        }
        // The rank that gives the stated number on the fewest modules, if one does.
        let other = choices.0.iter().find_map(|choice| {
            let mut ranks = (0..=8).rev().map(|power| f64::from(1 << power));
            ranks
                .find(|&rank| fits(rank, &choice))
                .map(|rank| (rank, choice))
        });
        let distance = |choice: &&Choice| (at_rank(rank.low, choice).low - stated.low).abs();
        let nearest = choices
            .0
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        let shown = other.map(|(_, choice)| choice).or(nearest);
        let left = shown.map(|choice| at_rank(rank.low, choice));
        let mut check = formula.check(id, left, Some(stated), Tolerance::Printed);
        if let (Some((fitting, choice)), Some(left)) = (other, &check.left) {
            let modules = choice.modules.join(" and ");
            let (stated, rank, there) = (figure.shown(), rank.low, &left.text);
            let fits = Unit::Count.write(at_rank(fitting, choice));
            check.sentence = match context.targets {
                Some(_) => format!(
                    "Rank {rank} on {modules} gives {there}, not {stated}; rank {fitting} gives \
                     {fits}."
                ),
                None => format!(
                    "No choice of modules gives {stated} with rank {rank}: on {modules} it gives \
                     {there}, and rank {fitting} gives {fits}."
                ),
            };
        }
        check
    }

    fn memory(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let weights = self.weight_bytes();
        if let Some(peak) = self.value(Q::PeakMemory) {
            let trainable = self.value(Q::TrainableParameters);
            let floor = weights
                .zip(trainable)
                .map(|(weights, trainable)| weights + memory_floor(0.0, 1.0) * trainable);
            checks.push(checks::MEMORY_FLOOR.check(
                "memory-floor",
                floor,
                Some(peak),
                Tolerance::Printed,
            ));
            if let Some(share) = self.value(Q::MemoryShare) {
                checks.push(checks::MEMORY_SHARE.check(
                    "memory-share",
                    self.value(Q::Memory).map(|memory| peak / memory),
                    Some(share),
                    Tolerance::Printed,
                ));
            }
        }
        let prompts = self.of_prompts(Q::PeakMemory);
        checks.extend(prompts.iter().map(|(number, peak)| {
            let id = format!("generation-floor:prompt-{number}");
            checks::GENERATION_FLOOR.check(id, weights, Some(peak.value()), Tolerance::Printed)
        }));
        if prompts.len() > 1 {
            checks.push(falling_peaks(&prompts));
        }
        checks
    }

    fn weight_bytes(&self) -> Option<Interval> {
        let context = &self.claims.context;
        let bytes = bytes_per_parameter(context.dtype.as_deref()?)?;
        let shape = context.model.as_ref();
        let parameters = shape.map(|shape| Interval::exact(shape.parameters as f64));
        Some(
            parameters
                .or_else(|| self.value(Q::Parameters))?
                .times(bytes),
        )
    }

    fn spreads(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut ids: Vec<String> = Vec::new();
        for figure in &self.figures {
            let Some(spread) = figure.spread() else {
                continue;
            };
            let id = scoped("spread-resolution", figure);
            if ids.contains(&id) {
                continue;
            }
            let finest = Interval::exact(figure.resolution());
            let formula = Formula {
                unit: unit(figure.quantity),
                ..checks::SPREAD_RESOLUTION
            };
            let mut check =
                formula.check(id.clone(), Some(finest), Some(spread), Tolerance::Printed);
            check.sentence = check.sentence.replace("is known to", "is known to ±");
            checks.push(check);
            ids.push(id);
            let share = self.all(Q::RelativeSpread).find(|it| it.of == figure.of);
            if let Some(share) = share {
                let formula = match share.below {
                    true => &checks::SPREAD_BOUND,
                    false => &checks::SPREAD_SHARE,
                };
                // A bound is what it says.
                let bound = Interval::exact((share.value().low + share.value().high) / 2.0);
                let stated = if share.below { bound } else { share.value() };
                let of_value = spread / figure.value();
                let id = scoped("spread-share", figure);
                checks.push(formula.check(id, Some(of_value), Some(stated), Tolerance::Printed));
            }
        }
        checks
    }

    fn windows(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let iterations = self.value(Q::Iterations);
        let total = iterations.map_or(0.0, |iterations| iterations.low);
        let rates = self.of_windows(Q::IterationRate);
        if !rates.is_empty() {
            let time = covering(&rates, total).map(|counts| {
                let times = rates.iter().zip(counts);
                times
                    .map(|(rate, count)| Interval::exact(count) / rate.value())
                    .fold(Interval::exact(0.0), |sum, time| sum + time)
            });
            if let Some(whole) = self.value(Q::TrainingTime) {
                let formula = &checks::WINDOWS_TIME;
                checks.push(formula.check("windows-time", time, Some(whole), Tolerance::Printed));
            }
            if let Some(whole) = self.value(Q::IterationRate) {
                let rate = time
                    .zip(iterations)
                    .map(|(time, iterations)| iterations / time);
                let formula = &checks::WINDOWS_RATE;
                checks.push(formula.check("windows-rate", rate, Some(whole), Tolerance::Printed));
            }
        }
        let peaks = self.of_windows(Q::PeakMemory);
        if let Some(whole) = self.value(Q::PeakMemory).filter(|_| !peaks.is_empty()) {
            let largest = peaks.iter().map(|it| it.value()).reduce(|a, b| Interval {
                low: a.low.max(b.low),
                high: a.high.max(b.high),
            });
            let largest = largest.filter(|_| covering(&peaks, total).is_some());
            let formula = &checks::WINDOWS_PEAK;
            checks.push(formula.check("windows-peak", largest, Some(whole), Tolerance::Printed));
        }
        checks
    }

    fn generation(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let rates = self.of_prompts(Q::PromptRate);
        if !rates.is_empty() {
            let lengths = self.of_prompts(Q::PromptTokens);
            let known = rates.keys().all(|number| lengths.contains_key(number));
            let shortest = lengths
                .values()
                .map(|it| it.value().low)
                .min_by(f64::total_cmp);
            checks.push(prompt_length(shortest.filter(|_| known)));
        }
        let rates = self.of_prompts(Q::GenerationRate);
        if !rates.is_empty() {
            let spread = rates.values().all(|rate| rate.spread.is_some());
            checks.push(Check {
                id: "generation-spread".to_owned(),
                formula: "every generation rate has a spread",
                left: None,
                right: None,
                tolerance: "none".to_owned(),
                outcome: match spread {
                    true => Outcome::Pass,
                    false => Outcome::CannotTell,
                },
                sentence: match spread {
                    true => "Every generation rate is stated with its spread.",
                    false => {
                        "The generation rates have no spread: whether two of them differ by more \
                         than chance cannot be told."
                    }
                }
                .to_owned(),
            });
        }
        let bandwidth = self.peaks().and_then(|peaks| peaks.bandwidth);
        let weights = self.weight_bytes();
        checks.extend(rates.iter().map(|(number, rate)| {
            checks::DECODE_BANDWIDTH.check(
                format!("roofline:generation-prompt-{number}"),
                weights.map(|weights| rate.value() * weights),
                bandwidth.map(|figure| Interval::exact(figure.value)),
                Tolerance::Specified,
            )
        }));
        checks
    }

    /// What is published of the chip.
    fn peaks(&self) -> Option<Peaks> {
        let context = &self.claims.context;
        chips::find(&chips::Device {
            name: context.chip.as_deref()?,
            gpu_cores: context.gpu_cores,
            memory_bytes: context.memory_gib.and_then(|gib| gib.checked_mul(1 << 30)),
        })
    }

    fn hardware(&self) -> Vec<Check> {
        let peaks = self.peaks();
        let mut checks = Vec::new();
        if let Some(stated) = self.figure(Q::Bandwidth, None) {
            let specified = peaks.as_ref().and_then(|peaks| peaks.bandwidth);
            let mut check = BANDWIDTH.check(
                "bandwidth",
                specified.map(|figure| Interval::exact(figure.value)),
                Some(stated.value()),
                Tolerance::Printed,
            );
            if let (Some(peaks), Some(figure)) = (&peaks, specified) {
                check.sentence = format!(
                    "{} Row and source: {}, {}.",
                    check.sentence, peaks.row, figure.source
                );
            }
            checks.push(check);
        }
        if let Some(tokens) = self.value(Q::TokenRate) {
            let dtype = self.claims.context.dtype.as_deref();
            let flops = peaks
                .zip(dtype)
                .and_then(|(peaks, dtype)| peaks.flops(dtype));
            let cost = self
                .costs()
                .map(|costs| tokens.times(costs.trained_token()));
            checks.push(checks::ARITHMETIC.check(
                "roofline:training",
                cost,
                flops.map(|figure| Interval::exact(figure.value)),
                Tolerance::Specified,
            ));
        }
        checks
    }

    fn costs(&self) -> Option<Costs> {
        let shape = self.claims.context.model.as_ref()?;
        let adapted = self.value(Q::AdaptedLayers)?.low;
        let layers = f64::from(shape.layers);
        // Of the layers that have a module to adapt, the lowest.
        let candidates = Choices::modules(shape, self.claims.context.targets.as_deref());
        let lowest = candidates
            .flat_map(|module| &module.layers)
            .map(|&layer| f64::from(layer))
            .filter(|layer| layer + adapted >= layers)
            .min_by(f64::total_cmp)?;
        Some(Costs {
            parameters: shape.parameters as f64,
            head_parameters: f64::from(shape.vocab_size) * f64::from(shape.hidden_size),
            layers,
            first_adapted: lowest,
            trainable: self.value(Q::TrainableParameters).map_or(0.0, |it| it.low),
            weight_bytes: self.weight_bytes().map_or(0.0, |it| it.low),
        })
    }

    /// Every stated ratio, by number where there are several.
    fn ratios(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let peak = self.value(Q::PeakMemory);
        let elsewhere = |figure: &&Figure| matches!(figure.of, Some(Scope::Other(_)));
        let other = self.all(Q::PeakMemory).find(elsewhere);
        let both = other.map(Figure::value).zip(peak);
        for (number, ratio) in (1..).zip(self.all(Q::MemoryRatio)) {
            let id = format!("memory-ratio:{number}");
            let stated = ratio.rounded();
            let quotient = both.map(|(other, peak)| other / peak);
            let mut check = MEMORY_RATIO.check(id, quotient, Some(stated), Tolerance::Printed);
            // A range of peaks gives a range of ratios, all of which the stated one has to hold.
            if let Some((other, peak)) = both.filter(|_| other.is_some_and(Figure::is_range)) {
                let sure = Interval {
                    low: other.low / peak.low,
                    high: other.high / peak.high,
                };
                let holds = stated.low <= sure.low && sure.high <= stated.high;
                let (outcome, words) = match holds {
                    true => (Outcome::Pass, MEMORY_RATIO.pass),
                    false => (Outcome::Fail, MEMORY_RATIO.fail),
                };
                check.outcome = outcome;
                check.sentence = words
                    .replace("{left}", &Unit::Times.write(sure))
                    .replace("{right}", &ratio.shown());
            }
            checks.push(check);
        }
        let numbered = (1..).zip(self.all(Q::ModelRatio));
        checks.extend(numbered.map(|(number, ratio)| self.larger_model(number, ratio)));
        checks
    }

    /// Whether a model so many times as large fits, by its weights alone.
    fn larger_model(&self, number: usize, ratio: &Figure) -> Check {
        let needed = self.weight_bytes().map(|weights| weights * ratio.value());
        let mut check = LARGER_MODEL.check(
            format!("larger-model:{number}"),
            needed,
            self.value(Q::Memory),
            Tolerance::Printed,
        );
        if check.outcome == Outcome::Pass {
            check.outcome = Outcome::Unsupported;
        }
        check
    }

    fn budget(&self) -> Vec<Check> {
        let parts: Vec<_> = self.all(Q::TimePart).map(Figure::value).collect();
        if parts.is_empty() {
            return Vec::new();
        }
        let sum = parts
            .into_iter()
            .fold(Interval::exact(0.0), |sum, part| sum + part);
        let wall = self.value(Q::WallTime);
        vec![checks::BUDGET.check("time-budget", Some(sum), wall, Tolerance::Printed)]
    }

    fn judge(&self, text: &Text, claim: &Claim) -> JudgedClaim {
        let (outcome, sentence) = match (claim.subject, claim.of) {
            (Subject::NoChange, Some(quantity)) => self.no_change(quantity),
            (Subject::NoSpread, Some(quantity)) => self.no_spread(quantity),
            (subject, _) => without_samples(subject),
        };
        JudgedClaim {
            id: format!("claim:{}", claim.id),
            quote: claim.quote.clone().unwrap_or_else(|| text.text.clone()),
            subject: claim.subject,
            outcome,
            sentence,
        }
    }

    fn no_change(&self, quantity: Q) -> (Outcome, String) {
        let figures = self.of_windows(quantity);
        let name = quantity.words();
        let (Some(first), Some(changed)) = (
            figures.first(),
            figures
                .iter()
                .find(|it| !it.value().meets(figures[0].value())),
        ) else {
            let sentence = match figures.len() {
                0 | 1 => format!("The {name} is not stated for several parts of the run."),
                _ => format!(
                    "The {name} is printed alike for every part of the run, which leaves open a \
                     change below its last digit; the samples would tell."
                ),
            };
            return (Outcome::CannotTell, sentence);
        };
        let sentence = format!(
            "The {name} is stated to change, from {} to {}.",
            first.shown(),
            changed.shown()
        );
        (Outcome::Fail, sentence)
    }

    fn no_spread(&self, quantity: Q) -> (Outcome, String) {
        let name = quantity.words();
        let varying = self
            .all(quantity)
            .find(|it| it.spread().is_some_and(|it| it.low > 0.0));
        match varying {
            Some(figure) => {
                let sentence = format!("The {name} is stated to vary: {}.", figure.shown());
                (Outcome::Fail, sentence)
            }
            None => {
                let sentence =
                    format!("No spread of the {name} is stated; the samples would tell.");
                (Outcome::CannotTell, sentence)
            }
        }
    }
}

/// What follows for a claim that only samples, or another measurement, could support.
fn without_samples(subject: Subject) -> (Outcome, String) {
    let (outcome, sentence) = match subject {
        Subject::Steadiness => (
            Outcome::CannotTell,
            "Whether a level was held shows in the samples, and the document has none.",
        ),
        Subject::NoChange | Subject::NoSpread => {
            (Outcome::CannotTell, "It is not said what did not change.")
        }
        Subject::Leak => (
            Outcome::Unsupported,
            "Only peaks are stated. A peak is the highest value so far, so it cannot show whether \
             memory in use grows; its readings over the iterations would.",
        ),
        Subject::Comparison => (
            Outcome::Unsupported,
            "Nothing but this run was measured; a comparison needs records of both sides.",
        ),
        Subject::Quality => (
            Outcome::Unsupported,
            "No text is given and no check of it; a fixed set of checks on the text would show it.",
        ),
        Subject::Power => (
            Outcome::Unsupported,
            "No energy was measured; joules for a token or an iteration would show it.",
        ),
        Subject::Setup => (
            Outcome::Unsupported,
            "No set-up was measured; its seconds and installed bytes would show it.",
        ),
        Subject::Mechanism => (
            Outcome::Unsupported,
            "A cause is named and nothing was measured that depends on it.",
        ),
        Subject::Efficiency => (
            Outcome::Unsupported,
            "No rule says from which figure on this word applies.",
        ),
        Subject::Capability => (
            Outcome::Unsupported,
            "It was not done in this run, so nothing measured shows that it can be.",
        ),
        Subject::Judgement => (
            Outcome::Unsupported,
            "It recommends, and no figure of the document decides it.",
        ),
    };
    (outcome, sentence.to_owned())
}

fn agreement(quantity: Q, of: Option<&Scope>, figures: &[&Figure]) -> Check {
    let pairs = figures.iter().enumerate().flat_map(|(index, first)| {
        figures[index + 1..]
            .iter()
            .map(move |second| (*first, *second))
    });
    let apart = |(first, second): &(&Figure, &Figure)| !first.rounded().meets(second.rounded());
    let conflict = pairs.clone().find(apart);
    let (first, second) = conflict.unwrap_or((figures[0], figures[1]));
    let formula = Formula {
        unit: unit(quantity),
        ..AGREEMENT
    };
    let name = format!("agreement:{}", quantity.words().replace(' ', "-"));
    let id = of.map_or(name.clone(), |of| format!("{name}:{}", scope_name(of)));
    let mut check = formula.check(
        id,
        Some(first.rounded()),
        Some(second.rounded()),
        Tolerance::Printed,
    );
    if check.outcome == Outcome::Fail {
        check.sentence = format!(
            "The {} is stated as {} and as {}, which cannot both hold.",
            quantity.words(),
            first.shown(),
            second.shown()
        );
    }
    check
}

/// A token rate beside an iteration rate is no second measurement.
fn same_measurement(rate: Interval, tokens: &Figure) -> Check {
    let per_iteration = tokens.value() / rate;
    Check {
        id: "same-measurement".to_owned(),
        formula: "token rate / iteration rate = tokens per iteration, which the data decides",
        left: Some(Side::new(per_iteration, Unit::Tokens)),
        right: None,
        tolerance: Tolerance::Printed.text(),
        outcome: match tokens.derived {
            true => Outcome::Pass,
            false => Outcome::Unsupported,
        },
        sentence: match tokens.derived {
            true => "The token rate is said to be derived from the iteration rate.".to_owned(),
            false => format!(
                "The token rate is the iteration rate times {}: the same measurement in other \
                 units, and no second one that could support the first.",
                Unit::Tokens.write(per_iteration)
            ),
        },
    }
}

/// A counter of the highest memory so far does not fall unless it is reset.
fn falling_peaks(prompts: &BTreeMap<u32, &Figure>) -> Check {
    let peaks: Vec<_> = prompts.values().collect();
    let fall = peaks
        .windows(2)
        .find(|pair| pair[0].value().exceeds(pair[1].value()));
    let side = |figure: &Figure| Side::new(figure.value(), Unit::Bytes);
    let (outcome, sentence) = match fall {
        None => (
            Outcome::Pass,
            "The peaks do not fall from one prompt to the next.".to_owned(),
        ),
        Some(pair) => (
            Outcome::CannotTell,
            format!(
                "The peak falls from {} to {}, which a counter of the highest memory so far does \
                 only when it is reset; no reset is stated.",
                pair[0].shown(),
                pair[1].shown()
            ),
        ),
    };
    Check {
        id: "generation-peak-order".to_owned(),
        formula: "peak of a generation <= peak of the next",
        left: fall.map(|pair| side(pair[0])),
        right: fall.map(|pair| side(pair[1])),
        tolerance: Tolerance::Printed.text(),
        outcome,
        sentence,
    }
}

/// How many iterations count in each window, where together they are the whole run.
fn covering(figures: &[&Figure], total: f64) -> Option<Vec<f64>> {
    let windows: Vec<_> = figures
        .iter()
        .map(|it| it.window())
        .collect::<Option<_>>()?;
    window::validate(&windows, total as u32).ok()?;
    let counts: Vec<f64> = (0..windows.len())
        .map(|index| window::members(&windows, index))
        .map(|members| (f64::from(*members.end()) - f64::from(*members.start()) + 1.0).max(0.0))
        .collect();
    (counts.iter().sum::<f64>() == total).then_some(counts)
}

/// Sets of modules that adapters can be on, the smallest first.
struct Choices(Vec<Choice>);

struct Choice {
    modules: Vec<String>,
    /// Trainable parameters for every unit of rank.
    per_rank: f64,
}

impl Choices {
    /// The stated modules, or every set of modules where none are stated, in the last `layers`.
    fn new(shape: &Shape, layers: f64, targets: Option<&[String]>) -> Self {
        let first = f64::from(shape.layers) - layers;
        let sizes: Vec<(&str, f64)> = Self::modules(shape, targets)
            .map(|module| {
                let adapted = module.layers.iter().filter(|&&it| f64::from(it) >= first);
                let each = f64::from(module.inputs) + f64::from(module.outputs);
                (module.name.as_str(), adapted.count() as f64 * each)
            })
            .filter(|(_, size)| *size > 0.0)
            .collect();
        let every = (1_u32 << sizes.len()) - 1;
        let sets = match targets {
            Some(_) => every..=every,
            None => 1..=every,
        };
        let mut choices: Vec<Choice> = sets
            .map(|set| {
                let chosen = (0..).zip(&sizes).filter(|(index, _)| set >> index & 1 == 1);
                let chosen: Vec<_> = chosen.map(|(_, module)| *module).collect();
                Choice {
                    modules: chosen.iter().map(|(name, _)| (*name).to_owned()).collect(),
                    per_rank: chosen.iter().map(|(_, size)| size).sum(),
                }
            })
            .collect();
        choices.sort_by_key(|choice| choice.modules.len());
        Self(choices)
    }

    fn modules<'s>(
        shape: &'s Shape,
        targets: Option<&'s [String]>,
    ) -> impl Iterator<Item = &'s crate::claims::Module> {
        shape
            .modules
            .iter()
            .filter(move |module| targets.is_none_or(|targets| targets.contains(&module.name)))
    }
}

fn scoped(name: &str, figure: &Figure) -> String {
    match &figure.of {
        None => name.to_owned(),
        Some(of) => format!("{name}:{}", scope_name(of)),
    }
}

fn scope_name(of: &Scope) -> String {
    match of {
        Scope::Window(window) => window.clone(),
        Scope::Prompt(number) => format!("prompt-{number}"),
        Scope::Other(name) => name.to_lowercase().replace(' ', "-"),
    }
}

fn unit(quantity: Q) -> Unit {
    match quantity {
        Q::TrainingTime | Q::TimePart | Q::WallTime => Unit::Seconds,
        Q::IterationRate => Unit::IterationsPerSecond,
        Q::TokenRate | Q::PromptRate | Q::GenerationRate => Unit::TokensPerSecond,
        Q::TokensPerIteration | Q::PromptTokens => Unit::Tokens,
        Q::PeakMemory | Q::Memory => Unit::Bytes,
        Q::Bandwidth => Unit::BytesPerSecond,
        Q::MemoryShare | Q::TrainableShare | Q::RelativeSpread => Unit::Share,
        Q::MemoryRatio | Q::ModelRatio => Unit::Times,
        _ => Unit::Count,
    }
}

const AGREEMENT: Formula = Formula {
    formula: "two figures of one quantity are one value",
    relation: Relation::Equal,
    unit: Unit::Count,
    pass: "The figures agree as far as they are printed.",
    fail: "",
    missing: "",
};

const BANDWIDTH: Formula = Formula {
    formula: "specified bandwidth of the chip = stated bandwidth",
    relation: Relation::Equal,
    unit: Unit::BytesPerSecond,
    pass: "The bandwidth is the specified one.",
    fail: "This chip with this memory is specified with {left}, and {right} is stated.",
    missing: "The chip has no specified bandwidth here.",
};

const MEMORY_RATIO: Formula = Formula {
    formula: "peak elsewhere / peak = ratio",
    relation: Relation::Equal,
    unit: Unit::Times,
    pass: "The ratio follows from the two peaks.",
    fail: "The two peaks give {left}, and {right} is stated.",
    missing: "The peak of the other side is not stated.",
};

const LARGER_MODEL: Formula = Formula {
    formula: "weights x factor <= memory",
    relation: Relation::AtMost,
    unit: Unit::Bytes,
    pass: "The weights of such a model would take {left} of {right}, which says nothing of what \
           training it needs; no larger model was run.",
    fail: "The weights of such a model would take {left}, more than the memory of {right}.",
    missing: "The type of the weights, the parameters or the memory are not stated.",
};

#[cfg(test)]
mod tests;
