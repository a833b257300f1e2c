//! `lfmark pretrain`: a tokenizer and a small model from text, and the checks of both.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use metrics::{
    clock::SystemClock,
    copying::longest_shared_run,
    footprint::FootprintReader,
    record::{Build, GenerationConfig},
    trigram::Trigram,
};
use model::{
    Dtype,
    config::Shape,
    corpus::{Corpus, Work},
    generate::{Forward, Sampling},
    load::{self, EMBEDDED_CONFIG, Loaded, Place},
    mlx::{DeviceKind, Session},
    pretrain::{Pretrainer, Settings, Windows, loss_of_text},
    tokenizer::Tokenizer,
    train::Optimizer,
    vocabulary,
    weights::{self, sha256_hex},
};
use report::units;
use serde::{Deserialize, Serialize};

use crate::{
    args::{Output, PretrainArgs},
    environment,
    exit::Failure,
    generation::{Generator, Prompt},
    output, prompts,
};

/// The record of a pretraining, within the model folder.
const RECORD: &str = "pretraining.json";

const WEIGHTS: &str = "model.safetensors";

/// Weights are stored, and judged, in this type.
const STORED: Dtype = Dtype::Bfloat16;

/// Windows of the held-out text that are evaluated together.
const ROWS: usize = 32;

/// Shortest run of tokens that counts as copied.
const COPIED: usize = 20;

/// Largest size of the files of a model, in bytes.
const LARGEST: u64 = 10_000_000;

/// Sampled texts of every prompt, beside the greedy one.
const SAMPLES: u64 = 4;

/// How they are sampled, each with a seed of its own.
const SAMPLED: Sampling = Sampling {
    temperature: 0.8,
    top_p: 0.95,
    seed: 0,
};

/// Most tokens of a text.
const TOKENS: u32 = 100;

static STOP: AtomicBool = AtomicBool::new(false);

fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// What was trained, on what, and how well.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    lfmark: Build,
    mlx: String,
    backend: String,
    device: Option<String>,
    settings: Chosen,
    parameters: u64,
    vocabulary: u32,
    training: Vec<Text>,
    held_out: Text,
    /// In the order of time.
    evaluations: Vec<Evaluation>,
    /// Whether all steps were done.
    finished: bool,
    wall_seconds: f64,
    /// SHA-256 of the weights: those of the evaluation with the lowest held-out loss.
    weights_sha256: String,
    /// Null where the pretraining did not finish.
    check: Option<Check>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Chosen {
    steps: u32,
    batch_size: u32,
    context: u32,
    learning_rate: f64,
    last_rate: f64,
    warm_up: u32,
    beta1: f64,
    beta2: f64,
    weight_decay: f64,
    clip: f64,
    dropout: f64,
    dtype: String,
    seed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    title: String,
    sha256: String,
    tokens: u64,
}

/// Losses in nats per token.
#[derive(Debug, Serialize, Deserialize)]
struct Evaluation {
    step: u32,
    /// Mean of the steps since the evaluation before, with dropout.
    training_loss: f64,
    held_out_loss: f64,
    /// Since the first step.
    seconds: f64,
}

/// What a pretrained model has to be.
#[derive(Debug, Serialize, Deserialize)]
struct Check {
    /// Nats per token of the held-out text, each token but the first two predicted once.
    held_out_loss: f64,
    /// Of an interpolated Kneser-Ney trigram model of the training text, over the same tokens.
    trigram_loss: f64,
    /// Of all files of the model.
    bytes: u64,
    texts: Vec<Generated>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Generated {
    prompt: String,
    temperature: f64,
    top_p: f64,
    seed: u64,
    tokens: u32,
    /// Tokens of the longest run that is also in the training text.
    longest_shared_run: u32,
    text: String,
}

impl Check {
    /// Every requirement that is not met, as a sentence.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.held_out_loss >= self.trigram_loss {
            problems.push(format!(
                "the held-out loss of {:.4} is not below the trigram model's {:.4}; train longer",
                self.held_out_loss, self.trigram_loss
            ));
        }
        if self.bytes > LARGEST {
            problems.push(format!(
                "the files have {}, more than {}; make the model smaller",
                units::bytes(self.bytes),
                units::bytes(LARGEST)
            ));
        }
        let copied = |it: &&Generated| it.longest_shared_run as usize >= COPIED;
        if let Some(text) = self.texts.iter().find(copied) {
            problems.push(format!(
                "{} tokens in a row of what is generated for {:?} are in the training text, and \
                 {COPIED} are too many",
                text.longest_shared_run, text.prompt
            ));
        }
        problems
    }

    fn show(&self) -> String {
        let longest = self.texts.iter().map(|it| it.longest_shared_run).max();
        format!(
            "held-out loss  {:.4} nats per token\n\
             trigram loss   {:.4} nats per token\n\
             longest copy   {} tokens in {} texts\n\
             size           {}",
            self.held_out_loss,
            self.trigram_loss,
            longest.unwrap_or(0),
            self.texts.len(),
            units::bytes(self.bytes)
        )
    }
}

pub(crate) fn run(args: &PretrainArgs, output: Output, clock: SystemClock) -> Result<(), Failure> {
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).context("cannot handle Ctrl-C")?;
    let corpus = Corpus::read(&args.corpus)?;
    let (_session, device) = Session::start(args.device())?;
    let check = match (&args.check, &args.output) {
        (Some(name), _) => check(name, args.context, &corpus, clock)?,
        (None, Some(dir)) => train(args, dir, &corpus, device, output, clock)?,
        (None, None) => return Err(Failure::Usage("give --output or --check".into())),
    };
    output::print(&match output.json {
        true => serde_json::to_string(&check).context("cannot write JSON")?,
        false => check.show(),
    })?;
    match check.problems().as_slice() {
        [] => Ok(()),
        problems => Err(anyhow::anyhow!("{}", problems.join("; ")).into()),
    }
}

fn train(
    args: &PretrainArgs,
    dir: &Path,
    corpus: &Corpus,
    device: DeviceKind,
    output: Output,
    clock: SystemClock,
) -> Result<Check, Failure> {
    if dir.join(WEIGHTS).exists() {
        return Err(Failure::Usage(format!(
            "{} holds a model already; choose another --output or remove it",
            dir.display()
        )));
    }
    let config = match &args.model_config {
        Some(path) => {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
        }
        None => EMBEDDED_CONFIG.to_owned(),
    };
    let shape = Shape::from_json(&config, "config.json")?;
    let settings = settings(args, device)?;

    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    output::message(output.quiet, "training the tokenizer");
    let tokenizer = write_tokenizer(corpus, &shape, &config, dir)?;
    let tokens = |work: &Work| work.tokens(&tokenizer);
    let works: Vec<(&Work, Vec<u32>)> = corpus
        .training()
        .map(|work| Ok((work, tokens(work)?)))
        .collect::<model::Result<_>>()?;
    let held_out = tokens(corpus.held_out())?;
    let all: Vec<u32> = works
        .iter()
        .flat_map(|(_, tokens)| tokens.clone())
        .collect();
    output::message(
        output.quiet,
        &format!(
            "{} parameters; {} tokens to train on, {} held out",
            units::count(shape.parameters()),
            units::count(all.len() as u64),
            units::count(held_out.len() as u64)
        ),
    );

    let mlx = environment::mlx()?;
    let text = |work: &Work, tokens: &[u32]| Text {
        title: work.title.clone(),
        sha256: work.sha256.clone(),
        tokens: tokens.len() as u64,
    };
    let mut record = Record {
        lfmark: environment::build(),
        mlx: mlx.version,
        backend: mlx.backend,
        device: mlx.device_name,
        settings: chosen(args, &settings),
        parameters: shape.parameters(),
        vocabulary: shape.vocab_size as u32,
        training: works.iter().map(|(work, it)| text(work, it)).collect(),
        held_out: text(corpus.held_out(), &held_out),
        evaluations: Vec::new(),
        finished: false,
        wall_seconds: 0.0,
        weights_sha256: String::new(),
        check: None,
    };
    let windows = Windows::new(&all, args.context as usize, args.seed)?;
    let trainer = Pretrainer::new(&shape, settings)?;
    steps(args, trainer, windows, &held_out, dir, &mut record, output)?;
    if !record.finished {
        let done = record.evaluations.last().map_or(0, |it| it.step);
        return Err(Failure::Incomplete(format!(
            "interrupted; the best weights up to step {done} are in {}",
            dir.display()
        )));
    }
    let name = dir
        .to_str()
        .context("the folder's name is not valid UTF-8")?;
    let check = check(name, args.context, corpus, clock)?;
    record.check = Some(check);
    write_record(&record, dir)?;
    Ok(record.check.expect("it was put there above"))
}

/// Trains the tokenizer on the training text and writes it beside the config.
fn write_tokenizer(
    corpus: &Corpus,
    shape: &Shape,
    config: &str,
    dir: &Path,
) -> anyhow::Result<Tokenizer> {
    // Roles as often as the template writes them.
    let turns: Vec<String> = corpus
        .training()
        .flat_map(Work::conversations)
        .flatten()
        .flat_map(|turn| [turn.role(), turn.content()].map(|it| it.unwrap_or_default().to_owned()))
        .collect();
    let turns = turns.iter().map(String::as_str);
    let length = model_length(config)?;
    let files = vocabulary::train(turns, shape.vocab_size as usize, length)?;
    for (name, text) in [
        ("config.json", config),
        ("tokenizer.json", &files.tokenizer),
        ("tokenizer_config.json", &files.config),
    ] {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(files.tokenizer()?)
}

/// What the config says of the longest text.
fn model_length(config: &str) -> anyhow::Result<i32> {
    #[derive(Deserialize)]
    struct Length {
        max_position_embeddings: i32,
    }
    let length: Length = serde_json::from_str(config).context("config.json")?;
    Ok(length.max_position_embeddings)
}

/// Does the steps, and keeps the weights and the record of the lowest held-out loss.
fn steps(
    args: &PretrainArgs,
    mut trainer: Pretrainer,
    mut windows: Windows,
    held_out: &[u32],
    dir: &Path,
    record: &mut Record,
    output: Output,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let bar = bar(args.steps, output.quiet);
    let (mut sum, mut count) = (0.0, 0_u32);
    let mut best = f64::INFINITY;
    for step in 1..=args.steps {
        let loss = trainer.step(&windows.next(args.batch_size as usize))?;
        ensure!(
            loss.is_finite(),
            "the loss of step {step} is not a finite number; try a lower --learning-rate"
        );
        sum += f64::from(loss);
        count += 1;
        bar.inc(1);
        bar.set_message(format!("loss {loss:.3}  best held out {best:.4}"));
        let last = step == args.steps || stopped();
        if !last && step % args.evaluate_every != 0 {
            continue;
        }
        let context = args.context as usize;
        let held_out_loss = loss_of_text(&trainer.model(STORED)?, held_out, context, ROWS)?;
        let evaluation = Evaluation {
            step,
            training_loss: sum / f64::from(count),
            held_out_loss,
            seconds: began.elapsed().as_secs_f64(),
        };
        (sum, count) = (0.0, 0);
        let text = format!(
            "step {step}: training loss {:.4}, held-out loss {held_out_loss:.4}, {:.0} s",
            evaluation.training_loss, evaluation.seconds
        );
        bar.suspend(|| output::message(output.quiet, &text));
        record.evaluations.push(evaluation);
        record.wall_seconds = began.elapsed().as_secs_f64();
        record.finished = step == args.steps;
        if held_out_loss < best {
            best = held_out_loss;
            let path = dir.join(WEIGHTS);
            weights::save_file(&path, &trainer.tensors(STORED)?)?;
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            record.weights_sha256 = sha256_hex(&bytes);
        }
        write_record(record, dir)?;
        if stopped() {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn bar(steps: u32, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(steps.into());
    if quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left");
    bar.with_style(style.expect("the template is fixed"))
}

fn write_record(record: &Record, dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(RECORD);
    let text = serde_json::to_string_pretty(record).context("cannot write JSON")? + "\n";
    let partial = path.with_extension("partial");
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn settings(args: &PretrainArgs, device: DeviceKind) -> Result<Settings, Failure> {
    let usage = |problem: &str| Err(Failure::Usage(problem.to_owned()));
    if !(args.learning_rate > 0.0 && args.learning_rate.is_finite()) {
        return usage("--learning-rate must be above 0");
    }
    if !(args.weight_decay >= 0.0 && args.weight_decay.is_finite()) {
        return usage("--weight-decay must be 0 or more");
    }
    if !(0.0..1.0).contains(&args.dropout) {
        return usage("--dropout must be from 0 to below 1");
    }
    Ok(Settings {
        optimizer: Optimizer {
            beta2: 0.99,
            ..Optimizer::adamw(args.learning_rate, args.weight_decay)
        },
        steps: args.steps,
        warm_up: args.warm_up.min(args.steps),
        last_rate: 0.01,
        clip: 1.0,
        dropout: args.dropout,
        dtype: args.dtype.mlx(),
        compile: device == DeviceKind::Gpu,
        seed: args.seed,
    })
}

fn chosen(args: &PretrainArgs, settings: &Settings) -> Chosen {
    Chosen {
        steps: settings.steps,
        batch_size: args.batch_size,
        context: args.context,
        learning_rate: settings.optimizer.learning_rate,
        last_rate: settings.last_rate,
        warm_up: settings.warm_up,
        beta1: settings.optimizer.beta1,
        beta2: settings.optimizer.beta2,
        weight_decay: args.weight_decay,
        clip: settings.clip,
        dropout: settings.dropout,
        dtype: args.dtype.name().to_owned(),
        seed: settings.seed,
    }
}

/// Checks a pretrained model against the text and a trigram model of it.
fn check(name: &str, context: u32, corpus: &Corpus, clock: SystemClock) -> Result<Check, Failure> {
    let place = Place::local(name)?.with_context(|| format!("there is no model in {name}"))?;
    let options = load::Options {
        dtype: Dtype::Float32,
        seed: 0,
        quantize: None,
    };
    let loaded = load::load(&place, options)?;
    let training = training_tokens(corpus, &loaded.tokenizer)?;
    let held_out = corpus.held_out().tokens(&loaded.tokenizer)?;
    let vocabulary = loaded.model.shape().vocab_size as usize;
    let trigram = Trigram::new(&training, vocabulary);
    Ok(Check {
        held_out_loss: loss_of_text(&loaded.model, &held_out, context as usize, ROWS)?,
        trigram_loss: trigram
            .loss(&held_out)
            .context("the trigram model gives the held-out text no loss")?,
        bytes: place.stored_bytes()?,
        texts: texts(&loaded, &training, clock)?,
    })
}

fn training_tokens(corpus: &Corpus, tokenizer: &Tokenizer) -> model::Result<Vec<u32>> {
    let works = corpus.training().map(|work| work.tokens(tokenizer));
    Ok(works.collect::<model::Result<Vec<_>>>()?.concat())
}

/// Generates for the default model's prompts, greedily and by chance.
fn texts(loaded: &Loaded, training: &[u32], clock: SystemClock) -> anyhow::Result<Vec<Generated>> {
    let mut texts = Vec::new();
    let samples = (1..=SAMPLES).map(|seed| Sampling { seed, ..SAMPLED });
    for sampling in std::iter::once(Sampling::GREEDY).chain(samples) {
        let mut generator = Generator {
            loaded,
            forward: Forward::new(loaded.model.clone(), None, true),
            config: GenerationConfig {
                prompts: Vec::new(),
                max_tokens: TOKENS,
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                ignore_eos: false,
                chat_template: true,
                checks: None,
            },
            sampling,
            clock,
            stop: stopped,
        };
        for prompt in prompts::embedded() {
            let prompt = Prompt::Text(&prompt.prompt);
            let generation = generator.generate(&prompt, &mut FootprintReader::new())?;
            texts.push(Generated {
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                seed: sampling.seed,
                tokens: generation.token_ids.len() as u32,
                longest_shared_run: longest_shared_run(&generation.token_ids, training) as u32,
                prompt: generation.prompt,
                text: generation.text,
            });
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn repository(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(path)
    }

    fn record() -> Record {
        let path = repository("crates/model/embedded").join(RECORD);
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn the_embedded_weights_are_those_of_the_committed_record() {
        let record = record();
        let weights = fs::read(repository("crates/model/embedded").join(WEIGHTS)).unwrap();
        assert_eq!(record.weights_sha256, sha256_hex(&weights));
        let corpus = Corpus::read(&repository("fixtures/corpus")).unwrap();
        let hashes: Vec<_> = corpus.training().map(|it| it.sha256.clone()).collect();
        let recorded: Vec<_> = record.training.iter().map(|it| it.sha256.clone()).collect();
        assert_eq!(recorded, hashes);
        assert_eq!(record.held_out.sha256, corpus.held_out().sha256);
        assert!(record.finished);
        assert_eq!(record.check.unwrap().problems(), Vec::<String>::new());
    }

    #[test]
    fn the_embedded_model_copies_no_run_of_its_text() {
        let (_session, _) = Session::start(Some(DeviceKind::Cpu)).unwrap();
        let options = load::Options {
            dtype: Dtype::Float32,
            seed: 0,
            quantize: None,
        };
        let loaded = load::load(&Place::embedded(), options).unwrap();
        let corpus = Corpus::read(&repository("fixtures/corpus")).unwrap();
        let training = training_tokens(&corpus, &loaded.tokenizer).unwrap();
        for it in texts(&loaded, &training, SystemClock::new(Instant::now())).unwrap() {
            assert!((it.longest_shared_run as usize) < COPIED, "{it:?}");
        }
        // What is copied is found.
        assert_eq!(longest_shared_run(&training[500..540], &training), 40);
    }

    #[test]
    fn what_is_not_met_is_said() {
        let text = |longest_shared_run| Generated {
            prompt: "p".into(),
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
            tokens: 30,
            longest_shared_run,
            text: "t".into(),
        };
        let check = |held_out_loss, bytes, run, expected: &[&str]| {
            let check = Check {
                held_out_loss,
                trigram_loss: 3.0,
                bytes,
                texts: vec![text(3), text(run)],
            };
            let problems = check.problems();
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            for (problem, part) in problems.iter().zip(expected) {
                assert!(problem.contains(part), "{problem}");
            }
        };
        check(2.9, LARGEST, 19, &[]);
        check(3.0, LARGEST, 19, &["not below the trigram model's 3.0000"]);
        check(
            2.9,
            LARGEST + 1,
            20,
            &["make the model smaller", "20 tokens in a row"],
        );
    }
}
