//! `lfmark run`: fine-tune, generate, measure, report.

use std::{
    env, fs, io,
    num::NonZero,
    path::{Path, PathBuf},
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use metrics::{
    bandwidth,
    clock::{Clock, SystemClock},
    counters::{self, CounterReader},
    footprint::FootprintReader,
    measure::{self, Outcome},
    record::{
        self, Copies, Effect, End, Event, Finish, Member, Phase, PhaseKind, SampleLoss, Settled,
        Start, Status, TextBefore,
    },
    store::{self, StoreError, Writer},
    summary::summarize,
};
use model::{
    data::{BatchOptions, Batches, Dataset, Order, PAD_TO},
    generate::Forward,
    load::{self, EMBEDDED, EMBEDDED_DATA, Loaded, Source},
    lora::Adapters,
    mlx::{DeviceKind, Memory, Session},
    train::{self, Optimizer, StepOptions, Trainer},
};
use report::units;

use crate::{
    args::{Output, Presentation, RunArgs},
    cmd::repeats,
    environment,
    exit::Failure,
    generation::{Generator, Prompt},
    loading,
    options::Plan,
    output,
    progress::Progress,
    settle,
    telemetry::Telemetry,
    whole,
    workload::Training,
};

/// Folder of run folders, where none is named.
pub(crate) const REPORTS: &str = "reports";

/// Adapters within the run folder.
pub(crate) const ADAPTERS: &str = "adapters";

/// Samples whose losses without and with adapters are read, the first ones of the data: enough for
/// an interval, and few enough to take little of the time of a run.
const COMPARED_SAMPLES: usize = 64;

static STOP: AtomicBool = AtomicBool::new(false);

fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

pub(crate) fn run(args: RunArgs, output: Output, mut clock: SystemClock) -> Result<(), Failure> {
    if args.set.is_set() {
        return repeats::run(args, output, clock);
    }
    args.set.check_alone()?;
    let plan = args.options.with_file(args.config.as_deref())?.resolve()?;
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).context("cannot handle Ctrl-C")?;
    let member = args.set.member.clone();
    if member.is_some() {
        stop_when_stdin_ends();
    }
    let started_unix_ms = started_unix_ms(&mut clock);
    // Waited for before MLX starts, so that nothing of this process is in the machine's way.
    let mut pauses = Vec::new();
    let mut settled = None;
    let mut awake = None;
    if args.set.settle {
        let start_ns = clock.now_ns();
        let limit = args.set.cool_down_limit();
        let allowed = args.set.allow_low_power;
        let (waited, held) = settle::settle(allowed, limit, stopped, clock, output)?;
        pauses.push(Phase {
            phase: PhaseKind::Idle,
            start_ns,
            wall_ns: clock.now_ns() - start_ns,
        });
        settled = Some(waited);
        awake = Some(held);
    }
    // Before MLX starts its threads, which then count too.
    let counters = CounterReader::new();
    let origin = Origin {
        counters,
        started_unix_ms,
        launch_ns: launch_ns(&mut clock),
        member,
        settled,
        pauses,
    };
    // The first thing to start and the last to end: its end waits for pending work.
    let (mut session, device) = Session::start(plan.model.device())?;
    session.wire(plan.wired)?;
    let dir = args
        .output
        .unwrap_or_else(|| default_run_folder(&plan, device, &origin));
    let created = !dir.exists();
    store::prepare(&dir)?;
    let _claim = whole::claim(&dir)?;

    let progress = Progress::new(plan.iterations, output.quiet);
    let measured =
        Run::prepare(&plan, device, &dir, origin, clock, progress, output).and_then(|mut run| {
            let ending = run
                .measure(&dir)
                .unwrap_or_else(|e| Ending::Failed(format!("{e:#}")));
            run.end(&ending).map(|()| ending)
        });
    let ending = match measured {
        Ok(ending) => ending,
        Err(error) => {
            // Only an empty folder goes: whatever was recorded stays, with the report of it.
            if created {
                let _ = fs::remove_dir(&dir);
            }
            // A record that was there by then is of another run.
            let of_another = matches!(error.downcast_ref(), Some(StoreError::Exists { .. }));
            if of_another || store::read(&dir).is_err() {
                return Err(error.into());
            }
            Ending::Failed(format!("{error:#}"))
        }
    };
    drop(awake);
    let reported = report(&dir, &args.presentation, output);
    match (ending, reported) {
        (Ending::Complete, reported) => reported,
        (ending, Ok(())) => Err(Failure::Incomplete(ending.sentence().to_owned())),
        (ending, Err(Failure::Error(error))) => {
            Err(Failure::Error(error.context(ending.sentence().to_owned())))
        }
        (_, failure) => failure,
    }
}

/// Reads the record back and writes the report from it, so that `lfmark report` gives the same.
fn report(dir: &Path, presentation: &Presentation, output: Output) -> Result<(), Failure> {
    let record = store::read(dir)?;
    let summary = summarize(&record);
    output::write_report(&record, &summary, presentation, dir)?;
    output::print(&match output.json {
        true => output::run_json(&summary, dir).to_string(),
        false => output::run_text(&summary, presentation, dir),
    })
}

/// How the measured part ended.
enum Ending {
    Complete,
    Interrupted(String),
    Failed(String),
}

impl Ending {
    fn sentence(&self) -> &str {
        match self {
            Self::Complete => "complete",
            Self::Interrupted(reason) | Self::Failed(reason) => reason,
        }
    }
}

/// A run that has its model and data, and whose record has begun.
struct Run<'a> {
    plan: &'a Plan,
    config: record::Config,
    loaded: Rc<Loaded>,
    training: Option<Training>,
    /// The data, where it is to be seen what training changes.
    compared: Option<Dataset>,
    writer: Writer,
    footprint: FootprintReader,
    counters: CounterReader,
    telemetry: Telemetry,
    clock: SystemClock,
    progress: Progress,
    quiet: bool,
}

impl<'a> Run<'a> {
    /// Loads everything and writes the first line of the record.
    fn prepare(
        plan: &'a Plan,
        device: DeviceKind,
        dir: &Path,
        origin: Origin,
        mut clock: SystemClock,
        progress: Progress,
        output: Output,
    ) -> anyhow::Result<Self> {
        let Origin {
            counters,
            started_unix_ms,
            launch_ns,
            member,
            settled,
            mut pauses,
        } = origin;
        let mlx = environment::mlx()?;
        let mut telemetry = Telemetry::start(&mlx, environment::gpu_uuid()?, clock);
        // Before anything is on the device.
        progress.phase("measuring the idle machine");
        pauses.extend(telemetry.idle(plan.idle(member.is_some()), stopped));
        let fetch_ns = clock.now_ns();
        let place = loading::find(&plan.model, output.quiet, stopped)?;
        if place.revision.is_some() {
            pauses.push(Phase {
                phase: PhaseKind::Fetch,
                start_ns: fetch_ns,
                wall_ns: clock.now_ns() - fetch_ns,
            });
        }
        progress.phase("loading the model");
        let footprint = FootprintReader::new();
        let how = loading::how(&plan.model, plan.quantize, device, plan.seed);
        let loaded = Rc::new(load::load(&place, how)?);
        let lora = plan.lora.for_layers(loaded.model.shape().layers.len());
        let adapters = Adapters::new(loaded.model.shape(), lora, plan.seed)?;
        let model = environment::model(&loaded, &adapters);
        let compile = plan.compiles();
        if plan.fuses_kernels(device) {
            model::mlx::fuse_kernels();
        }
        let config = config(plan, &adapters, device, compile);
        let options = StepOptions {
            compile,
            clear_cache: plan.clear_cache,
        };
        let trainer = Trainer::new(
            loaded.model.clone(),
            adapters,
            plan.optimizer,
            plan.seed,
            options,
        )?;
        let machine = environment::machine(telemetry.reader(), &mlx);
        let setup_ns = clock.now_ns();

        let (dataset, truncated) = read_data(plan, &loaded)?;
        let max = plan.max_seq_length as usize;
        let options = BatchOptions {
            order: plan.order,
            size: plan.batch_size as usize,
            max_seq_length: max,
            seed: plan.seed,
        };
        let batches = Batches::new(&dataset, loaded.model.shape().vocab_size, options)?;
        let data_ns = clock.now_ns() - setup_ns;
        if truncated > 0 {
            let text = format!("note: {truncated} samples are cut to {max} tokens");
            progress.note(output.quiet, &text);
        }

        let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy();
        let start = Start {
            schema: record::SCHEMA,
            run_id: name.into_owned(),
            started_unix_ms,
            lfmark: environment::build(),
            mlx,
            machine,
            config: config.clone(),
            model,
            data: data(plan, &dataset, truncated),
            footprint_source: footprint.source().map(str::to_owned),
            rules: Some(plan.rules),
            member: member.clone(),
            engine: None,
            launch_ns,
            sampling: telemetry.sampling().cloned(),
            settled,
        };
        let mut writer = Writer::create(dir, &start)?;
        let data_phase = Phase {
            phase: PhaseKind::Data,
            start_ns: setup_ns,
            wall_ns: data_ns,
        };
        for phase in around(&pauses, setup_ns).into_iter().chain([data_phase]) {
            writer.append(&Event::Phase(phase))?;
        }
        telemetry.drain(&mut writer)?;
        if let Some(failure) = telemetry.failure() {
            progress.note(output.quiet, &failure);
        }
        // Of a set's runs only the times count, and random weights say nothing.
        let random = matches!(loaded.source, Source::Random { .. });
        let compared = plan.compares_effect && !random && member.is_none();
        Ok(Self {
            plan,
            config,
            compared: compared.then_some(dataset),
            loaded,
            training: Some(Training { trainer, batches }),
            writer,
            footprint,
            counters,
            telemetry,
            clock,
            progress,
            quiet: output.quiet,
        })
    }

    fn measure(&mut self, dir: &Path) -> anyhow::Result<Ending> {
        self.state(None)?;
        let mut training = self.training.take().context("a run is measured once")?;
        self.progress.phase("compiling");
        self.phase(PhaseKind::Compile, || {
            for batch in training.batches.one_of_each_shape() {
                if stopped() {
                    break;
                }
                training.trainer.warm_up(&batch)?;
            }
            Ok(())
        })?;

        let trained = self.train(&mut training);
        let adapters = training.trainer.adapters();
        drop(training);
        let advice = match self.config.dtype.as_str() {
            "f32" => "try a lower --learning-rate",
            _ => "try a lower --learning-rate or --dtype f32",
        };
        let ending = match trained {
            Ok(Outcome::Completed) => Ending::Complete,
            Ok(Outcome::Interrupted { after }) => {
                let total = self.plan.iterations;
                Ending::Interrupted(format!("interrupted after {after} of {total} iterations"))
            }
            Ok(Outcome::NonFiniteLoss { iteration }) => Ending::Failed(format!(
                "the loss of iteration {iteration} is not a finite number; {advice}"
            )),
            Err(error) => Ending::Failed(format!("{error:#}")),
        };
        self.save(&adapters, ending, advice, dir)
            .and_then(|ending| match ending {
                Ending::Complete => self.generate(Rc::new(adapters)),
                ending => Ok(ending),
            })
    }

    /// Saves the adapters, also those of a run that ended early.
    fn save(
        &mut self,
        adapters: &Adapters,
        ending: Ending,
        advice: &str,
        dir: &Path,
    ) -> anyhow::Result<Ending> {
        let saved = adapters
            .is_finite()
            .map_err(anyhow::Error::from)
            .and_then(|finite| {
                if finite {
                    self.phase(PhaseKind::Save, || Ok(adapters.save(&dir.join(ADAPTERS))?))?;
                }
                Ok(finite)
            });
        match (ending, saved) {
            // The first failure is the one to report.
            (Ending::Failed(reason), _) => Ok(Ending::Failed(reason)),
            (ending, Ok(true)) => Ok(ending),
            (_, Ok(false)) => Ok(Ending::Failed(format!(
                "the last iteration left adapters that are not finite numbers, which are not \
                 saved; {advice}"
            ))),
            (_, Err(error)) => Err(error),
        }
    }

    fn train(&mut self, training: &mut Training) -> anyhow::Result<Outcome> {
        self.progress.training();
        let plan = measure::Plan {
            iterations: self.plan.iterations,
            windows: self.plan.windows.clone(),
        };
        let (writer, progress) = (&mut self.writer, &mut self.progress);
        let telemetry = &mut self.telemetry;
        let (counters, mut clock) = (&mut self.counters, self.clock);
        let mut count = |iterations: u32| {
            let read = counters::is_read_after(&plan.windows, plan.iterations, iterations);
            read.then(|| counters.read(&mut clock, iterations))
                .flatten()
        };
        if let Some(counted) = count(0) {
            writer.append(&Event::Counters(counted))?;
        }
        let mut on_iteration = |iteration: &record::Iteration| {
            let number = iteration.iteration;
            let counted = count(number);
            writer.append(&Event::Iteration(*iteration))?;
            if let Some(counted) = counted {
                writer.append(&Event::Counters(counted))?;
            }
            telemetry.drain(writer)?;
            telemetry.state_of_window(writer, &plan.windows, number, plan.iterations)?;
            progress.iteration(iteration);
            Ok(())
        };
        let outcome = measure::run(
            training,
            &plan,
            &mut self.clock,
            &mut self.footprint,
            &stopped,
            &mut on_iteration,
        );
        outcome.map_err(|e| e.error.context(format!("iteration {}", e.iteration)))
    }

    /// The model as it generates, compiled as the step was.
    fn forward(&self, adapters: Option<Rc<Adapters>>) -> Forward {
        Forward::new(self.loaded.model.clone(), adapters, self.config.compile)
    }

    fn generate(&mut self, adapters: Rc<Adapters>) -> anyhow::Result<Ending> {
        if self.config.generation.prompts.is_empty() {
            return self.compare(&adapters);
        }
        self.progress.phase("generating");
        // Buffers of training are no use here, and would be counted as cache.
        Memory::clear_cache()?;
        let loaded = self.loaded.clone();
        let mut generator = Generator {
            loaded: &loaded,
            forward: self.forward(Some(adapters.clone())),
            config: self.config.generation.clone(),
            sampling: self.plan.sampling(),
            clock: self.clock,
            stop: stopped,
        };
        let texts = generator.config.prompts.clone();
        let prompts: Vec<_> = texts.iter().map(|text| Prompt::Text(text)).collect();
        self.phase(PhaseKind::WarmUp, || generator.warm_up(&prompts))?;
        self.progress.still();
        let total = prompts.len();
        for (index, prompt) in prompts.iter().enumerate() {
            if stopped() {
                return Ok(Ending::Interrupted(format!(
                    "interrupted after {index} of {total} prompts"
                )));
            }
            let generation = generator.generate(prompt, &mut self.footprint)?;
            let finish = generation.finish;
            self.writer.append(&Event::Generation(generation))?;
            self.telemetry.drain(&mut self.writer)?;
            if finish == Finish::Interrupted {
                let number = index + 1;
                return Ok(Ending::Interrupted(format!(
                    "interrupted in prompt {number} of {total}"
                )));
            }
        }
        self.compare(&adapters)
    }

    /// Reads losses and texts without the adapters, beside which those with them are seen.
    fn compare(&mut self, adapters: &Adapters) -> anyhow::Result<Ending> {
        let Some(dataset) = self.compared.take() else {
            return Ok(Ending::Complete);
        };
        let interrupted = || {
            let reason = "interrupted while losses and texts without adapters were read";
            Ok(Ending::Interrupted(reason.to_owned()))
        };
        self.progress
            .phase("comparing with the model before training");
        let start_ns = self.clock.now_ns();
        let model = &self.loaded.model;
        // Fresh adapters change nothing, whatever their seed.
        let fresh = Adapters::new(model.shape(), adapters.config().clone(), self.plan.seed)?;
        let options = BatchOptions {
            order: self.plan.order,
            size: 1,
            max_seq_length: self.plan.max_seq_length as usize,
            seed: self.plan.seed,
        };
        let batches = Batches::new(&dataset, model.shape().vocab_size, options)?;
        let mut samples = Vec::new();
        for batch in batches.each().take(COMPARED_SAMPLES) {
            if stopped() {
                return interrupted();
            }
            let loss = |adapters: &Adapters| -> anyhow::Result<Option<f32>> {
                let loss = train::evaluate(model, adapters, &batch)?;
                Ok(Some(loss).filter(|loss| loss.is_finite()))
            };
            samples.push(SampleLoss {
                loss_tokens: batch.counts.loss_tokens,
                before: loss(&fresh)?,
                after: loss(adapters)?,
            });
        }
        let loaded = self.loaded.clone();
        let mut generator = Generator {
            loaded: &loaded,
            forward: self.forward(None),
            config: self.config.generation.clone(),
            sampling: self.plan.sampling(),
            clock: self.clock,
            stop: stopped,
        };
        let mut texts_before = Vec::new();
        for prompt in &self.config.generation.prompts {
            let text = generator.generate(&Prompt::Text(prompt), &mut self.footprint)?;
            if text.finish == Finish::Interrupted {
                return interrupted();
            }
            texts_before.push(TextBefore {
                token_ids: text.token_ids,
                text: text.text,
                finish: text.finish,
            });
        }
        self.writer.append(&Event::Effect(Effect {
            start_ns,
            wall_ns: self.clock.now_ns() - start_ns,
            samples,
            texts_before,
        }))?;
        Ok(Ending::Complete)
    }

    /// Writes the last lines of the record.
    fn end(&mut self, ending: &Ending) -> anyhow::Result<()> {
        self.progress.finish();
        let (status, reason) = match ending {
            Ending::Complete => (Status::Complete, None),
            Ending::Interrupted(reason) => (Status::Interrupted, Some(reason.clone())),
            Ending::Failed(reason) => (Status::Failed, Some(reason.clone())),
        };
        let copied = match ending {
            Ending::Complete if self.config.device == "cpu" => self.copy_memory(),
            _ => Ok(None),
        };
        let recorded = copied.and_then(|copies| self.state(copies)).and_then(|()| {
            if let Some(failure) = self.telemetry.finish(&mut self.writer)? {
                self.progress.note(self.quiet, &failure);
            }
            self.writer.append(&Event::End(End {
                status,
                reason,
                wall_ns: self.clock.now_ns(),
            }))?;
            Ok(())
        });
        match ending {
            // The first failure is the one to report, and may be why this one failed too.
            Ending::Failed(reason) => recorded.map_err(|_| anyhow::anyhow!("{reason}")),
            _ => recorded,
        }
    }

    /// Records the machine's state of this moment.
    fn state(&mut self, copies: Option<Copies>) -> anyhow::Result<()> {
        Ok(self.telemetry.state(&mut self.writer, copies)?)
    }

    /// Measures the memory's bandwidth, after everything else so that it is in nobody's way. The
    /// state before it has the run's own footprint.
    fn copy_memory(&mut self) -> anyhow::Result<Option<Copies>> {
        self.state(None)?;
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let mut clock = self.clock;
        let mut copies = None;
        self.phase(PhaseKind::Setup, || {
            copies = bandwidth::probe(threads, &mut clock);
            Ok(())
        })?;
        Ok(copies)
    }

    /// Does and records a phase.
    fn phase(
        &mut self,
        phase: PhaseKind,
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let start_ns = self.clock.now_ns();
        work()?;
        Ok(self.writer.append(&Event::Phase(Phase {
            phase,
            start_ns,
            wall_ns: self.clock.now_ns() - start_ns,
        }))?)
    }
}

pub(crate) fn read_data(plan: &Plan, loaded: &Loaded) -> anyhow::Result<(Dataset, usize)> {
    let tokenizer = &loaded.tokenizer;
    let dataset = match &plan.data {
        Some(path) => Dataset::read(path, tokenizer, plan.mask_prompt)?,
        None => Dataset::parse(EMBEDDED, EMBEDDED_DATA, tokenizer, plan.mask_prompt)?,
    };
    let truncated = dataset.check_length(plan.max_seq_length as usize, plan.truncate)?;
    Ok((dataset, truncated))
}

/// The data as the record describes it.
pub(crate) fn data(plan: &Plan, dataset: &Dataset, truncated: usize) -> record::Data {
    let lengths = dataset.samples.iter().map(|s| s.tokens.len() as u32);
    record::Data {
        name: data_name(plan.data.as_deref()),
        sha256: dataset.sha256.clone(),
        format: dataset.format.name().to_owned(),
        sample_tokens: lengths.collect(),
        truncated_samples: truncated as u32,
    }
}

/// The data as the record names it: never by a path, since reports are shared.
fn data_name(path: Option<&Path>) -> String {
    let Some(path) = path else {
        return EMBEDDED.to_owned();
    };
    // Of a path such as `..` only the resolved one has a name.
    let resolved = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().or(resolved.file_name());
    name.unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// The resolved configuration, as the record holds it.
pub(crate) fn config(
    plan: &Plan,
    adapters: &Adapters,
    device: DeviceKind,
    compile: bool,
) -> record::Config {
    let Optimizer {
        learning_rate,
        beta1,
        beta2,
        eps,
        weight_decay,
    } = plan.optimizer;
    let lora = adapters.config();
    record::Config {
        iterations: plan.iterations,
        batch_size: plan.batch_size,
        max_seq_length: plan.max_seq_length,
        pad_to: PAD_TO as u32,
        mask_prompt: plan.mask_prompt,
        batch_order: match plan.order {
            Order::MlxLm => "mlx_lm".to_owned(),
            Order::Length => "length".to_owned(),
        },
        seed: plan.seed,
        dtype: plan.model.dtype(device).name().to_owned(),
        device: match device {
            DeviceKind::Cpu => "cpu".to_owned(),
            DeviceKind::Gpu => "gpu".to_owned(),
        },
        optimizer: record::Optimizer {
            name: if weight_decay.is_some() {
                "adamw"
            } else {
                "adam"
            }
            .to_owned(),
            learning_rate,
            beta1,
            beta2,
            eps,
            weight_decay: weight_decay.unwrap_or(0.0),
            bias_correction: false,
        },
        lora: record::Lora {
            rank: lora.rank,
            scale: lora.scale,
            dropout: lora.dropout,
            layers: lora.layers.unwrap_or_default(),
            targets: adapters.modules().to_vec(),
        },
        compile,
        fused_kernels: Some(plan.fuses_kernels(device)),
        clear_cache: plan.clear_cache,
        wired: Some(plan.wired.to_string()),
        windows: plan.windows.clone(),
        generation: plan.generation.clone(),
    }
}

/// When, and as part of what, a run was started.
struct Origin {
    counters: CounterReader,
    started_unix_ms: u64,
    launch_ns: Option<u64>,
    member: Option<Member>,
    settled: Option<Settled>,
    /// Waits before it, in the order of time.
    pauses: Vec<Phase>,
}

/// The pauses, and as set-up what lies around them up to its end.
fn around(pauses: &[Phase], setup_end_ns: u64) -> Vec<Phase> {
    let setup = |start_ns: u64, end_ns: u64| Phase {
        phase: PhaseKind::Setup,
        start_ns,
        wall_ns: end_ns.saturating_sub(start_ns),
    };
    let mut phases = Vec::new();
    let mut begin = 0;
    for pause in pauses {
        phases.extend([setup(begin, pause.start_ns), *pause]);
        begin = pause.start_ns + pause.wall_ns;
    }
    phases.push(setup(begin, setup_end_ns));
    phases
}

/// Wall-clock time at process start, from where the record's times count.
pub(crate) fn started_unix_ms(clock: &mut SystemClock) -> u64 {
    u64::try_from(since_epoch(clock).as_millis()).unwrap_or(u64::MAX)
}

/// How long ago the process that started this one had said that it would, at the instant from
/// which the record's times count. `None` where none did, and where the wall clock was set back.
fn launch_ns(clock: &mut SystemClock) -> Option<u64> {
    let launched: u64 = env::var(repeats::LAUNCHED).ok()?.parse().ok()?;
    let launch = since_epoch(clock).checked_sub(Duration::from_nanos(launched))?;
    u64::try_from(launch.as_nanos()).ok()
}

/// The wall clock at the instant from which the record's times count.
fn since_epoch(clock: &mut SystemClock) -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // The clock has run since process start.
    now.saturating_sub(Duration::from_nanos(clock.now_ns()))
}

/// Ends the run in order when whoever started it closes the other end of its stdin or dies. The
/// thread sleeps until then.
fn stop_when_stdin_ends() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        STOP.store(true, Ordering::Relaxed);
    });
}

fn default_run_folder(plan: &Plan, device: DeviceKind, origin: &Origin) -> PathBuf {
    let device = match device {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Gpu => "gpu",
    };
    default_folder(plan.model.name(), device, origin.started_unix_ms)
}

/// `reports/<time>-<model>-<kind>`, with a number where that exists already.
pub(crate) fn default_folder(model: &str, kind: &str, started_unix_ms: u64) -> PathBuf {
    let digits = |text: &str| {
        text.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    let utc = digits(&units::utc(started_unix_ms));
    let (day, time) = utc.split_at(8.min(utc.len()));
    let model = Path::new(model)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    let model: String = model.chars().map(plain).collect();
    let name = format!("{day}-{time}-{model}-{kind}");
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    let mut folders = std::iter::once(name.clone())
        .chain(numbered)
        .map(|n| Path::new(REPORTS).join(n));
    folders
        .find(|folder| !folder.exists())
        .unwrap_or_else(|| Path::new(REPORTS).join(name))
}
