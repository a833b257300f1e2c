//! The log of `mlx_lm.lora`, as it was printed up to 0.31 and from 0.32 on, and what its callback
//! `on_train_loss_report` was given, one JSON object a line.

use metrics::claims::{Quantity as Q, Scope, Unit};
use serde_json::Value;

use std::mem;

use super::{Cell, ImportError, Page, bounded, lines, other};

const PROGRAM: &str = "mlx_lm.lora";

/// What was reported of the iterations since the report before, as it was printed.
#[derive(Default)]
struct Report {
    iteration: u64,
    loss: Option<String>,
    learning_rate: Option<String>,
    iteration_rate: Option<String>,
    token_rate: Option<String>,
    trained_tokens: Option<String>,
    peak: Option<String>,
    /// Whether a line before it could not be read, so that it is not known where its window begins.
    after_gap: bool,
}

impl Report {
    fn fields(&self) -> usize {
        let fields = [
            &self.learning_rate,
            &self.iteration_rate,
            &self.token_rate,
            &self.trained_tokens,
            &self.peak,
        ];
        fields.into_iter().flatten().count()
    }
}

/// What was reported of a validation.
struct Validation {
    /// Words that say when it was.
    when: String,
    loss: String,
    seconds: Option<String>,
}

#[derive(Default)]
struct Log {
    /// Whether the beginning of the training is there, so that the first report begins at 1.
    begins: bool,
    /// Whether a line of an iteration could not be read, and one since the last report.
    unread: bool,
    gap: bool,
    settings: Vec<(&'static str, Cell)>,
    reports: Vec<Report>,
    validations: Vec<Validation>,
}

/// A log; `None` for a text without a line of one.
pub(super) fn of_log(text: &str) -> Result<Option<Page>, ImportError> {
    let mut log = Log::default();
    let mut known = false;
    for line in lines(text) {
        known |= log.line(line).is_some();
    }
    let last = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    if !last.is_empty() {
        log.cut(last);
    }
    match known {
        true => log.page().map(Some),
        false => Ok(None),
    }
}

/// Whether a JSON object is what the callback is given.
pub(super) fn is_report(value: &Value) -> bool {
    value.get("iteration").is_some()
        && (value.get("train_loss").is_some() || value.get("val_loss").is_some())
}

/// What the callback was given.
pub(super) fn of_reports(values: &[Value]) -> Result<Page, ImportError> {
    let mut log = Log::default();
    for value in values {
        let printed = |name: &str| match value.get(name) {
            // As a float that was rounded to nothing but its type.
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::String(text)) => Some(text.clone()),
            _ => None,
        };
        let iteration = value.get("iteration").and_then(Value::as_u64);
        let Some(iteration) = iteration else {
            if value.get("train_loss").is_some() || value.get("val_loss").is_some() {
                log.lose();
            }
            continue;
        };
        if value.get("train_loss").is_some() {
            log.report(Report {
                iteration,
                loss: printed("train_loss"),
                learning_rate: printed("learning_rate"),
                iteration_rate: printed("iterations_per_second"),
                token_rate: printed("tokens_per_second"),
                trained_tokens: printed("trained_tokens"),
                peak: printed("peak_memory"),
                after_gap: false,
            });
        } else if let Some(loss) = printed("val_loss") {
            log.validations.push(Validation {
                // The callback counts from the step before.
                when: format!("at iteration {}", iteration.saturating_add(1)),
                loss,
                seconds: printed("val_time"),
            });
        }
    }
    log.page()
}

impl Log {
    fn report(&mut self, report: Report) {
        let after_gap = mem::take(&mut self.gap);
        self.reports.push(Report {
            after_gap,
            ..report
        });
    }

    /// A line of an iteration could not be read.
    fn lose(&mut self) {
        self.unread = true;
        self.gap = true;
    }

    /// The last line has no end: a report that has less than the one before it was cut off, and its
    /// last figure may have been too.
    fn cut(&mut self, line: &str) {
        if "Iter ".starts_with(line) {
            self.lose();
        }
        if let [.., before, last] = &self.reports[..]
            && last.fields() < before.fields()
        {
            self.reports.pop();
            self.lose();
        }
    }

    /// Takes a line; `None` where it is none of a log's.
    fn line(&mut self, line: &str) -> Option<()> {
        if let Some(rest) = line.strip_prefix("Iter ") {
            let read = self.iteration(rest);
            let saved = rest.contains(": Saved ");
            if read.is_none() && !saved && rest.starts_with(|c: char| c.is_ascii_digit()) {
                self.lose();
            }
            return read;
        }
        if let Some((_, count)) = line.split_once("Starting training..., iters: ") {
            self.begins = true;
            self.set("iterations", Q::Iterations, Unit::None, count);
            return Some(());
        }
        if let Some(rest) = line.strip_prefix("Trainable parameters: ") {
            return self.parameters(rest);
        }
        if let Some(rest) = line.strip_prefix("Test loss ") {
            let (loss, _) = rest.split_once(", ")?;
            self.validations.push(Validation {
                when: "test".to_owned(),
                loss: loss.to_owned(),
                seconds: None,
            });
            return Some(());
        }
        if line.starts_with('│') {
            self.header(line.trim_matches('│').trim());
            return None;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["iter", "train_loss", "tok/s", "tokens"] => self.begins = true,
            [iteration, loss, "▼" | "▲", rate, tokens] => {
                let (Ok(iteration), Some(tokens)) = (iteration.parse(), tokens.strip_suffix('k'))
                else {
                    self.lose();
                    return None;
                };
                self.report(Report {
                    iteration,
                    loss: Some(loss.to_owned()),
                    token_rate: Some(rate.to_owned()),
                    trained_tokens: Some(format!("{tokens}K")),
                    ..Report::default()
                });
            }
            [_, _, "▼" | "▲", ..] => {
                self.lose();
                return None;
            }
            [iteration, "val", loss, seconds] => self.validations.push(Validation {
                when: format!("at iteration {}", iteration.parse::<u64>().ok()?),
                loss: loss.to_owned(),
                seconds: Some(seconds.strip_suffix('s')?.to_owned()),
            }),
            _ => return None,
        }
        Some(())
    }

    /// `10: Train loss 2.662, Learning Rate 1.000e-05, It/sec 0.490, ...`, `10: Val loss ...`.
    fn iteration(&mut self, rest: &str) -> Option<()> {
        let (iteration, rest) = rest.split_once(": ")?;
        let iteration: u64 = iteration.parse().ok()?;
        if let Some(rest) = rest.strip_prefix("Val loss ") {
            let (loss, seconds) = rest.split_once(", Val took ")?;
            self.validations.push(Validation {
                when: format!("at iteration {iteration}"),
                loss: loss.to_owned(),
                seconds: seconds.strip_suffix('s').map(str::to_owned),
            });
            return Some(());
        }
        let mut report = Report {
            iteration,
            ..Report::default()
        };
        let mut fields = rest.strip_prefix("Train loss ")?.split(", ");
        report.loss = fields.next().map(str::to_owned);
        for field in fields {
            let field = field.trim_end_matches('.');
            let after = |name: &str| field.strip_prefix(name).map(str::to_owned);
            if let Some(value) = after("Learning Rate ") {
                report.learning_rate = Some(value);
            } else if let Some(value) = after("It/sec ") {
                report.iteration_rate = Some(value);
            } else if let Some(value) = after("Tokens/sec ") {
                report.token_rate = Some(value);
            } else if let Some(value) = after("Trained Tokens ") {
                report.trained_tokens = Some(value);
            } else if let Some(value) = after("Peak mem ") {
                report.peak = value.strip_suffix(" GB").map(str::to_owned);
            }
        }
        self.report(report);
        Some(())
    }

    /// `0.041% (1.311M/3212.750M)`.
    fn parameters(&mut self, rest: &str) -> Option<()> {
        let (share, rest) = rest.split_once("% (")?;
        let (trainable, all) = rest.strip_suffix(')')?.split_once('/')?;
        self.set("trainable, %", Q::TrainableShare, Unit::Percent, share);
        self.set(
            "trainable parameters",
            Q::TrainableParameters,
            Unit::None,
            trainable,
        );
        self.set("parameters", Q::Parameters, Unit::None, all);
        Some(())
    }

    /// A row of the panel that 0.32 begins with.
    fn header(&mut self, row: &str) {
        let Some((key, value)) = row.split_once("  ") else {
            return;
        };
        let parts: Vec<&str> = value.split('·').map(str::trim).collect();
        match (key.trim(), &parts[..]) {
            ("model", _) => self.settings.push(("model", Cell::name(value.trim()))),
            ("batch", _) => {}
            ("type", parts) => {
                for part in parts {
                    if let Some(rank) = part.strip_prefix("rank ") {
                        self.set("rank", Q::Rank, Unit::None, rank);
                    } else if let Some(layers) = part.strip_suffix(" layers") {
                        self.set("adapted layers", Q::AdaptedLayers, Unit::None, layers);
                    }
                }
            }
            ("optimizer", [_, rate]) => {
                if let Some(rate) = rate.strip_prefix("lr ") {
                    self.set("learning rate", Q::LearningRate, Unit::None, rate);
                }
            }
            ("batch · iters", [batch, iterations]) => {
                self.set("batch size", Q::BatchSize, Unit::None, batch);
                self.set("iterations", Q::Iterations, Unit::None, iterations);
            }
            _ => {}
        }
    }

    fn set(&mut self, name: &'static str, quantity: Q, unit: Unit, printed: &str) {
        if self.settings.iter().all(|(known, _)| *known != name) {
            let cell = Cell::figure(quantity, unit, printed.trim(), None);
            self.settings.push((name, cell));
        }
    }

    fn page(self) -> Result<Page, ImportError> {
        if self.reports.is_empty() && self.validations.is_empty() {
            return Err(ImportError::Empty {
                program: PROGRAM,
                why: "no loss was reported",
            });
        }
        bounded(&self.reports)?;
        bounded(&self.validations)?;
        let mut page = Page::default();
        if self.unread {
            page.note(
                "A line of an iteration could not be read, as where the log was cut off, and is left \
                 out.",
            );
        }
        let settings = self.settings.into_iter();
        let settings = settings.map(|(name, cell)| vec![Cell::name(name), cell]);
        page.table("Settings", &["Setting", "Value"], settings.collect());
        reports(&mut page, &self.reports, self.begins)?;
        let validations = self.validations.into_iter().map(|it| {
            let of = other(format!("validation {}", it.when));
            vec![
                Cell::name(it.when),
                Cell::figure(Q::Loss, Unit::None, it.loss, of.clone()),
                Cell::maybe(Q::WallTime, Unit::Seconds, it.seconds.as_deref(), of),
            ]
        });
        let columns = ["Validation", "Loss", "Time, s"];
        page.table("Validation", &columns, validations.collect());
        Ok(page)
    }
}

fn reports(page: &mut Page, reports: &[Report], begins: bool) -> Result<(), ImportError> {
    let mut last: Option<u64> = None;
    for report in reports {
        if let Some(last) = last.filter(|&last| report.iteration <= last) {
            let next = report.iteration;
            return Err(ImportError::SeveralTrainings { last, next });
        }
        last = Some(report.iteration);
    }
    // Reports come every so many iterations, and once more at the end.
    let interval = match reports {
        [first, second, ..] if !second.after_gap => Some(second.iteration - first.iteration),
        _ => None,
    };
    let mut rows = Vec::new();
    let mut before = match (reports.first(), interval) {
        _ if begins => Some(0),
        (Some(first), Some(interval)) => Some(first.iteration.saturating_sub(interval)),
        _ => None,
    };
    let has = |field: fn(&Report) -> bool| reports.iter().any(field);
    let mut shortened = false;
    for (index, report) in reports.iter().enumerate() {
        if report.after_gap {
            before = None;
        }
        let range = before.map(|before| format!("{}-{}", before + 1, report.iteration));
        let window = match &range {
            Some(range) => Some(Scope::Window(range.clone())),
            None => other(format!("report at iteration {}", report.iteration)),
        };
        let figure = |quantity, unit, printed: &Option<String>| {
            Cell::maybe(quantity, unit, printed.as_deref(), window.clone())
        };
        let length = before.map(|before| report.iteration - before);
        let short = interval
            .zip(length)
            .filter(|(interval, length)| index + 1 == reports.len() && length < interval);
        let rate = report
            .iteration_rate
            .as_deref()
            .and_then(|it| it.parse::<f64>().ok());
        // It divides the interval, and not the iterations since the last report, by their time.
        let rate = match short.zip(rate) {
            Some(((interval, length), rate)) => {
                shortened = true;
                let rate = format!("{:.3}", rate * length as f64 / interval as f64);
                figure(Q::IterationRate, Unit::IterationsPerSecond, &Some(rate)).derived()
            }
            None => figure(
                Q::IterationRate,
                Unit::IterationsPerSecond,
                &report.iteration_rate,
            ),
        };
        rows.push(vec![
            match range {
                Some(range) => Cell::figure(Q::IterationRange, Unit::None, range, None),
                None => Cell::name(format!("up to {}", report.iteration)),
            },
            figure(Q::Loss, Unit::None, &report.loss),
            figure(Q::LearningRate, Unit::None, &report.learning_rate),
            rate,
            figure(Q::TokenRate, Unit::TokensPerSecond, &report.token_rate),
            figure(Q::TrainedTokens, Unit::None, &report.trained_tokens),
            figure(Q::PeakMemory, Unit::Gigabytes, &report.peak),
        ]);
        before = Some(report.iteration);
    }
    let columns = [
        "Iterations",
        "Loss",
        "Learning rate",
        "it/s",
        "tokens/s",
        "Trained tokens",
        "Peak, GB",
    ];
    page.table("Training", &columns, rows);
    if !has(|it| it.learning_rate.is_some()) {
        page.note("The learning rate of the windows is not in the source.");
    }
    match has(|it| it.iteration_rate.is_some()) {
        false => page.note("The iteration rate is not in the source."),
        true => page.note(
            "The iteration rate leaves out building the batches, validation and saving: the run \
             took longer.",
        ),
    }
    if shortened {
        page.note(
            "The last window is shorter than the others, for which mlx-lm prints too high an \
             iteration rate; the one here was computed again from what was printed.",
        );
    }
    match has(|it| it.peak.is_some()) {
        false => page.note("The peak of the memory is not in the source."),
        true => page.note(
            "The peak is the highest since the process was started, and leaves out MLX's cache: \
             it cannot show that memory did not grow.",
        ),
    }
    if !has(|it| it.trained_tokens.is_some()) {
        page.note("The number of trained tokens is not in the source.");
    }
    page.note(
        "Tokens are those that enter the loss; the numbers of fed and of padded tokens are not in \
         the source.",
    );
    page.note("The first window holds what is compiled on the way.");
    page.note(
        "The machine, the time of single steps and the programs' versions are not in the source.",
    );
    Ok(())
}
