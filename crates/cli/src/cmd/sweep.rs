//! `lfmark sweep`: the cost of work, point by point, in fresh processes.
//!
//! Every point is an ordinary `lfmark run`, or the same work by another program. The folder's plan
//! says which points there are, so a sweep that was stopped can be resumed, and its report made
//! from what there is.

use std::{
    collections::BTreeMap,
    env, fs,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context;
use metrics::{
    clock::SystemClock,
    random::Generator,
    scaling::{FEWEST_COMPARED, FEWEST_POINTS},
    store,
    sweep::{self, Axis, FEWEST_TOKEN_TIMES, Plan, PlannedRun, Point, Program, Summary, VERSION},
};
use model::{
    load::{self, EMBEDDED},
    lora,
    tokenizer::Tokenizer,
};
use report::{sweep as words, units};
use serde_json::{Value, json};

use super::{
    repeats::{self, Arm, Ending, Job, Jobs},
    run as single, versus,
};
use crate::{
    args::{Output, Presentation, SweepArgs},
    exit::Failure,
    loading,
    options::{DeviceName, Options},
    output, whole,
};

/// Generated training data, and exported work, within the sweep's folder.
const DATA: &str = "data.jsonl";
const WORK: &str = "work";

/// What a point has that does not say otherwise.
const ITERATIONS: u32 = 60;
const SEQUENCE_LENGTH: u32 = 128;
const PROMPT_LENGTH: u32 = 128;
const GENERATION_LENGTH: u32 = 64;

/// Sets the number of OpenBLAS's threads.
const THREADS: &str = "OPENBLAS_NUM_THREADS";

/// Fewest samples of generated data.
const FEWEST_SAMPLES: u32 = 8;
/// Tokens of the longest text that is made for a point: eight times the 128,000 positions of LFM2.
const LONGEST_TEXT: u32 = 1 << 20;
/// Words of all samples that are made, some 100 MB.
const MOST_WORDS: u64 = 1 << 24;

/// Words of generated data and prompts. Each is one token or more.
const WORDS: [&str; 24] = [
    "the", "model", "to", "of", "and", "a", "data", "in", "is", "for", "it", "with", "that", "you",
    "on", "one", "from", "at", "more", "time", "are", "or", "step", "then",
];

/// An axis with its values, as on the command line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AxisValues {
    axis: Axis,
    values: Vec<u32>,
}

/// Reads `NAME=V,V,...`.
pub(crate) fn axis(text: &str) -> Result<AxisValues, String> {
    let names = || Axis::ALL.map(Axis::name).join(", ");
    let (name, list) = text.split_once('=').ok_or_else(|| {
        format!(
            "give NAME=LIST, such as batch-size=1,2,4; the names are {}",
            names()
        )
    })?;
    let axis = Axis::named(name)
        .ok_or_else(|| format!("`{name}` cannot be varied; there are {}", names()))?;
    let mut values = Vec::new();
    for part in list.split(',') {
        let value: u32 = part
            .trim()
            .parse()
            .ok()
            .filter(|value| *value > 0)
            .ok_or_else(|| format!("`{part}` is no whole number above 0"))?;
        if values.contains(&value) {
            return Err(format!("{value} stands twice"));
        }
        values.push(value);
    }
    Ok(AxisValues { axis, values })
}

pub(crate) fn run(args: SweepArgs, output: Output, mut clock: SystemClock) -> Result<(), Failure> {
    args.presentation.check_set()?;
    let dir = match args.resume {
        Some(dir) => dir,
        None => {
            let options = args.options.with_file(args.config.as_deref())?;
            let dir = match args.output {
                Some(dir) => dir,
                None => {
                    let model = options.model.as_deref().unwrap_or(EMBEDDED);
                    single::default_folder(model, "sweep", single::started_unix_ms(&mut clock))
                }
            };
            let plan = Plan {
                version: VERSION,
                seed: args.order_seed,
                repeats: args.repeats,
                cool_down_limit_s: args.cool_down_limit.into(),
                generated_data: options.data.is_none(),
                context_rounds: args.context_rounds,
                programs: Vec::new(),
                points: points(args.axes)?,
            };
            prepare(plan, options, &args.arms, &dir, output)?;
            dir
        }
    };
    // That nothing is there to resume is said below.
    let claim = dir.is_dir().then(|| whole::claim(&dir));
    let _claim = claim.transpose()?;
    let ending = measure(&dir, output, clock)?;
    report(&dir, &dir, &args.presentation, output)?;
    ending.result()
}

/// Makes the report of the sweep in `dir` from its records, and writes it to `to`.
pub(crate) fn report(
    dir: &Path,
    to: &Path,
    presentation: &Presentation,
    output: Output,
) -> Result<(), Failure> {
    presentation.check_set()?;
    let sweep = sweep::read(dir)?;
    let summary = sweep::summarize(&sweep);
    output::write_set(&report::render_sweep(&sweep)?, presentation, to)?;
    for notice in &summary.notices {
        output::message(output.quiet, &format!("note: {notice}"));
    }
    output::print(&match output.json {
        true => to_json(&summary, to).to_string(),
        false => output::shown(&to_text(&summary, to)),
    })
}

fn points(axes: Vec<AxisValues>) -> Result<Vec<Point>, Failure> {
    let mut points: Vec<Point> = Vec::new();
    for AxisValues { axis, values } in axes {
        if points.iter().any(|point| point.axis == axis) {
            return Err(Failure::Usage(format!(
                "--axis {} stands twice; give all its values at once",
                axis.name()
            )));
        }
        points.extend(values.into_iter().map(|value| Point { axis, value }));
    }
    Ok(points)
}

/// Checks everything that can be checked, and writes the plan and what its points need.
fn prepare(
    mut plan: Plan,
    options: Options,
    arms: &[PathBuf],
    dir: &Path,
    output: Output,
) -> Result<(), Failure> {
    check(&plan, &options, arms.len())?;
    // For their errors, before anything is written.
    let programs = repeats::arms(arms, &options)?;
    plan.programs = match programs.is_empty() {
        true => vec![Program {
            name: "lfmark".to_owned(),
            file: None,
            environment: BTreeMap::new(),
        }],
        false => programs.iter().map(program).collect::<Result<_, _>>()?,
    };
    let model = options.clone().resolve()?.model;
    let place = loading::find(&model, output.quiet, || false)?;
    let tokenizer = load::tokenizer(&place)?;
    let here = env::current_dir().context("cannot tell the current folder")?;
    let data = here.join(dir).join(DATA);
    let started = plan.started();
    let settings: Vec<Options> = started
        .iter()
        .map(|&point| at_point(&options, &plan, point, &data, &tokenizer))
        .collect::<Result<_, _>>()?;
    let shape = place.shape()?;
    for (&index, settings) in started.iter().zip(&settings) {
        let lora = settings.clone().resolve()?.lora;
        lora::adapter_tensors(&shape, &lora.for_layers(shape.layers.len())).map_err(|problem| {
            Failure::Usage(format!("{}: {problem}", plan.points[index].name()))
        })?;
    }
    let most = |of: fn(&Options) -> Option<u32>| settings.iter().filter_map(of).max();
    let samples = most(|it| it.batch_size).unwrap_or(1).max(FEWEST_SAMPLES);
    let words = most(|it| it.max_seq_length).unwrap_or(SEQUENCE_LENGTH);
    if plan.generated_data && u64::from(samples) * u64::from(words) > MOST_WORDS {
        return Err(Failure::Usage(format!(
            "{samples} rows of {words} tokens are more text than a sweep makes; give smaller \
             batches or shorter rows, up to {MOST_WORDS} tokens a batch"
        )));
    }

    repeats::prepare(dir)?;
    let _claim = whole::claim(dir)?;
    // Another one may have been faster.
    repeats::prepare(dir)?;
    if plan.generated_data {
        let text = generated(samples, words, options.seed.unwrap_or(0));
        fs::write(&data, text).with_context(|| format!("cannot write {}", data.display()))?;
    }
    let mut first_work: Option<PathBuf> = None;
    for (index, settings) in started.into_iter().zip(settings) {
        let point = plan.points[index];
        // Another program takes its work from files.
        let settings = match arms.is_empty() {
            true => settings,
            false => {
                let name = point.name();
                output::message(output.quiet, &format!("exporting the work of {name}"));
                let model = options.model.as_deref().unwrap_or(EMBEDDED);
                let model = Path::new(model).file_name().unwrap_or_default();
                let exported = versus::export(&settings, &dir.join(WORK).join(name), model)?;
                share_weights(first_work.get_or_insert(exported.clone()), &exported)?;
                Options::read(&exported)?
            }
        };
        for program in 0..plan.programs.len() {
            let run = PlannedRun {
                program,
                point: index,
                repeat: 1,
            };
            let settings = match arms.get(program) {
                Some(file) => Arm::read(file, &settings)?.settings,
                None => settings.clone(),
            };
            repeats::write_settings(&plan.arm(run), &settings, dir)?;
        }
    }
    // Last, so that a folder with a plan has all that its points need.
    let path = dir.join(sweep::FILE_NAME);
    let text = serde_json::to_string_pretty(&plan)?;
    fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

fn program(arm: &Arm) -> anyhow::Result<Program> {
    let this = repeats::this_program()?;
    Ok(Program {
        name: arm.name.clone(),
        // As it was given: a plan may be published, and names no folder of this machine by itself.
        file: (arm.program != this).then(|| arm.program.clone()),
        environment: arm.environment.clone(),
    })
}

/// The weights are the same at every point, so that one file can do.
fn share_weights(first: &Path, other: &Path) -> anyhow::Result<()> {
    let file = |settings: &Path| settings.with_file_name("model.safetensors");
    let linked = other.with_file_name("model.linked");
    // Where a link cannot be made, there are two files.
    if first != other && fs::hard_link(file(first), &linked).is_ok() {
        fs::rename(&linked, file(other)).context("cannot replace a copy of the weights")?;
    }
    Ok(())
}

/// Refuses settings that the sweep makes itself, and points that cannot be measured here.
fn check(plan: &Plan, options: &Options, arms: usize) -> Result<(), Failure> {
    let varied = |axis: Axis| plan.points.iter().any(|point| point.axis == axis);
    // A value that other points have is theirs to keep.
    let all_vary = |axis: Axis| plan.points.iter().all(|point| point.axis == axis);
    let set_by_points = [
        ("batch-size", options.batch_size.is_some(), Axis::BatchSize),
        (
            "max-seq-length",
            options.max_seq_length.is_some(),
            Axis::SequenceLength,
        ),
        ("data", options.data.is_some(), Axis::SequenceLength),
        ("lora-rank", options.lora_rank.is_some(), Axis::LoraRank),
        (
            "lora-layers",
            options.lora_layers.is_some(),
            Axis::LoraLayers,
        ),
        ("iterations", options.iterations.is_some(), Axis::Iterations),
        (
            "max-tokens",
            options.max_tokens.is_some(),
            Axis::GenerationLength,
        ),
    ];
    let set_always = [
        ("prompt", options.prompts.is_some()),
        ("prompts", options.prompt_file.is_some()),
        ("no-generation", options.no_generation.is_some()),
        ("ignore-eos", options.ignore_eos.is_some()),
        ("no-chat-template", options.no_chat_template.is_some()),
        ("windows", options.windows.is_some()),
        (
            "truncate",
            options.truncate.is_some() && options.data.is_none(),
        ),
    ];
    let of_points = set_by_points
        .into_iter()
        .filter(|(name, given, axis)| {
            // Rows of another length than planned would belong to no point.
            *given && (all_vary(*axis) || *name == "data" && varied(*axis))
        })
        .map(|(name, ..)| name);
    let always = set_always.into_iter().filter(|(_, given)| *given);
    if let Some(name) = of_points.chain(always.map(|(name, _)| name)).next() {
        return Err(Failure::Usage(format!(
            "the sweep sets `{name}` at every point itself; leave it out"
        )));
    }
    let short = |tokens: u32| (tokens as usize) <= FEWEST_TOKEN_TIMES;
    let generated = plan.points.iter().find_map(|point| match point.axis {
        Axis::GenerationLength => Some(point.value).filter(|value| short(*value)),
        Axis::PromptLength | Axis::Context => options.max_tokens.filter(|value| short(*value)),
        _ => None,
    });
    if let Some(tokens) = generated {
        return Err(Failure::Usage(format!(
            "{tokens} generated tokens are too few for a rate; give {} or more",
            FEWEST_TOKEN_TIMES + 1
        )));
    }
    let texts = [Axis::SequenceLength, Axis::PromptLength, Axis::Context];
    let longest = plan.points.iter().filter(|it| texts.contains(&it.axis));
    if let Some(Point { axis, value }) = longest.max_by_key(|it| it.value)
        && *value > LONGEST_TEXT
    {
        return Err(Failure::Usage(format!(
            "`{}` of {value} is longer than the texts that a sweep makes; give up to {LONGEST_TEXT}",
            axis.name()
        )));
    }
    let contexts = plan.values(Axis::Context);
    let fewest = if arms > 1 { FEWEST_COMPARED } else { 2 };
    let repeats = plan.repeats;
    if (1..FEWEST_POINTS).contains(&contexts.len()) || !contexts.is_empty() && repeats < fewest {
        return Err(Failure::Usage(format!(
            "the axis `context` fits a line in every process, and its interval is of processes; \
             give it {FEWEST_POINTS} lengths or more, and --repeats {fewest} or more"
        )));
    }
    if !plan.context_rounds.is_multiple_of(2) {
        return Err(Failure::Usage(format!(
            "--context-rounds is {}, and half of the rounds go upward and half downward; give an \
             even number",
            plan.context_rounds
        )));
    }
    let threads = plan.points.iter().filter(|it| it.axis == Axis::Threads);
    let Some(most) = threads.map(|it| it.value).max() else {
        return Ok(());
    };
    if !cfg!(target_os = "linux") || options.device == Some(DeviceName::Gpu) {
        return Err(Failure::Usage(format!(
            "the number of threads can be set for OpenBLAS alone ({THREADS}), which serves MLX's \
             CPU back end on Linux; leave the axis `threads` out"
        )));
    }
    let here = thread::available_parallelism().map_or(1, NonZero::get);
    if most as usize > here {
        return Err(Failure::Usage(format!(
            "{most} threads are more than the {here} processors here, and would wait for each \
             other; give up to {here}"
        )));
    }
    Ok(())
}

/// The settings of the processes that are started for a point: training or generation alone, with
/// work of exactly its size.
fn at_point(
    base: &Options,
    plan: &Plan,
    point: usize,
    data: &Path,
    tokenizer: &Tokenizer,
) -> Result<Options, Failure> {
    let mut options = base.clone();
    if options.data.is_none() {
        options.data = Some(data.to_owned());
        // Every sample is longer, so that all rows are cut to the same length: one token more
        // than is fed, since the last one is only predicted.
        options.truncate = Some(true);
        options.max_seq_length.get_or_insert(SEQUENCE_LENGTH + 1);
    }
    let Point { axis, value } = plan.points[point];
    if axis.trains() {
        options.no_generation = Some(true);
        options.iterations.get_or_insert(ITERATIONS);
    } else {
        options.iterations = Some(1);
        options.ignore_eos = Some(true);
        options.no_chat_template = Some(true);
        let lengths = match axis {
            Axis::Context => rounds(plan.values(axis), plan.context_rounds),
            Axis::PromptLength => vec![value],
            _ => vec![PROMPT_LENGTH],
        };
        let prompts = lengths.into_iter().map(|it| prompt(tokenizer, it as usize));
        options.prompts = Some(prompts.collect::<Result<_, _>>()?);
        options.max_tokens.get_or_insert(GENERATION_LENGTH);
    }
    match axis {
        Axis::BatchSize => options.batch_size = Some(value),
        Axis::SequenceLength => options.max_seq_length = Some(value.saturating_add(1)),
        Axis::LoraRank => options.lora_rank = Some(value),
        Axis::LoraLayers => options.lora_layers = Some(value),
        Axis::Iterations => options.iterations = Some(value),
        Axis::GenerationLength => options.max_tokens = Some(value),
        // In the environment, and in the prompts.
        Axis::Threads | Axis::PromptLength | Axis::Context => {}
    }
    Ok(options)
}

/// The lengths once to warm up, and then so many times, up and down in turn.
fn rounds(mut lengths: Vec<u32>, counted: u32) -> Vec<u32> {
    lengths.sort_unstable();
    let mut all = Vec::new();
    for _ in 0..=counted {
        all.extend(&lengths);
        lengths.reverse();
    }
    all
}

/// Samples of so many words, as JSONL. A word is a token or more.
fn generated(samples: u32, words: u32, seed: u64) -> String {
    let mut text = String::new();
    for sample in 0..samples {
        let mut generator = Generator::stream(seed, sample.into());
        let words = (0..words).map(|_| WORDS[generator.below(WORDS.len())]);
        let words: Vec<&str> = words.collect();
        text.push_str(&json!({ "text": words.join(" ") }).to_string());
        text.push('\n');
    }
    text
}

/// A text of exactly so many tokens, special ones included.
fn prompt(tokenizer: &Tokenizer, tokens: usize) -> Result<String, Failure> {
    let count = |text: &str| -> Result<usize, Failure> { Ok(tokenizer.encode_prompt(text)?.len()) };
    let first = WORDS[0];
    let begin = count(first)?;
    let mut single = Vec::new();
    for word in WORDS {
        if count(&format!("{first} {word}"))? == begin + 1 {
            single.push(word);
        }
    }
    let cannot = || {
        Failure::Usage(format!(
            "no prompt of exactly {tokens} tokens could be made with this model's tokenizer; try \
             {begin} or more"
        ))
    };
    let more = tokens.checked_sub(begin).ok_or_else(cannot)?;
    let words = single.iter().copied().cycle().take(more);
    let text: Vec<&str> = std::iter::once(first).chain(words).collect();
    let text = text.join(" ");
    match count(&text)? == tokens {
        true => Ok(text),
        false => Err(cannot()),
    }
}

/// Runs what the plan in `dir` has and its records lack.
fn measure(dir: &Path, output: Output, clock: SystemClock) -> Result<Ending, Failure> {
    let sweep = sweep::read(dir)?;
    let plan = &sweep.plan;
    let this = repeats::this_program()?;
    let missing = sweep.missing();
    let jobs = missing.iter().map(|&run| {
        let arm = plan.arm(run);
        let point = plan.points[run.point];
        let Program {
            file, environment, ..
        } = &plan.programs[run.program];
        let mut variables = environment.clone();
        if point.axis == Axis::Threads {
            variables.insert(THREADS.to_owned(), point.value.to_string());
        }
        let program = match file {
            None => this.clone(),
            Some(file) => repeats::checked(file.clone()).map_err(|problem| {
                let dir = dir.display();
                Failure::Usage(format!(
                    "{dir}: {problem} here; go on where the sweep was begun"
                ))
            })?,
        };
        Ok(Job {
            config: repeats::settings_file(&arm, dir),
            program,
            variables,
            repeat: run.repeat,
            arm,
        })
    });
    let jobs = jobs.collect::<Result<Vec<Job>, Failure>>()?;
    if jobs.is_empty() {
        output::message(output.quiet, "every run of the plan is complete");
        return Ok(Ending::Complete);
    }
    let jobs = Jobs {
        dir,
        jobs,
        first_number: next_number(dir)?,
        cool_down_limit: Duration::from_secs(plan.cool_down_limit_s),
        cold: false,
        // One that needs too much memory says nothing of the others.
        keep_going: true,
    };
    repeats::start(
        jobs,
        output,
        clock,
        &mut |job, folder| match job.variables.contains_key(THREADS) {
            true => check_threads(folder),
            false => Ok(()),
        },
    )
}

/// Whether the number of threads was OpenBLAS's to obey.
fn check_threads(folder: &Path) -> Result<(), Failure> {
    let start = store::read(folder)?.start;
    let blas = start.mlx.blas.as_deref().unwrap_or("no known BLAS");
    match start.config.device == "cpu" && blas.starts_with("OpenBLAS") {
        true => Ok(()),
        false => Err(Failure::Usage(format!(
            "{} ran on the {} with {blas}, which {THREADS} says nothing to; leave the axis \
             `threads` out",
            folder.display(),
            start.config.device
        ))),
    }
}

/// After the highest number that a folder's name begins with: a run that did not complete keeps its
/// folder.
fn next_number(dir: &Path) -> anyhow::Result<u32> {
    let cannot = || format!("cannot read {}", dir.display());
    let mut highest = 0;
    for entry in fs::read_dir(dir).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name();
        let name = name.to_string_lossy();
        let number = name.split('-').next().and_then(|it| it.parse::<u32>().ok());
        highest = highest.max(number.unwrap_or(0));
    }
    Ok(highest + 1)
}

fn to_json(summary: &Summary, dir: &Path) -> Value {
    json!({
        "sweep": dir.display().to_string(),
        "report": dir.join(report::REPORT).display().to_string(),
        "summary": summary,
    })
}

/// The cost model of every axis in a few lines.
fn to_text(summary: &Summary, dir: &Path) -> String {
    let mut lines = vec![format!(
        "{} of {} runs complete",
        units::count(summary.complete as u64),
        units::count(summary.planned as u64)
    )];
    for axis in &summary.axes {
        for program in &axis.programs {
            for fit in &program.fits {
                lines.push(format!(
                    "{:<18} {:<12} {}",
                    axis.axis.name(),
                    program.program,
                    words::fit_in_words(axis.axis, fit)
                ));
            }
        }
    }
    lines.push(format!("report  {}", dir.join(report::REPORT).display()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use metrics::sweep::CONTEXT_ROUNDS;

    use super::*;

    fn parsed(text: &str) -> Result<Vec<u32>, String> {
        axis(text).map(|axis| axis.values)
    }

    #[test]
    fn an_axis_is_a_name_and_its_values() {
        assert_eq!(
            axis("lora-rank=4,16"),
            Ok(AxisValues {
                axis: Axis::LoraRank,
                values: vec![4, 16],
            })
        );
        let check = |text: &str, expected: &str| {
            let problem = parsed(text).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        };
        check("batch-size", "give NAME=LIST");
        check("heat=1", "`heat` cannot be varied; there are batch-size, ");
        check("threads=1,x", "`x` is no whole number above 0");
        check("threads=0", "`0` is no whole number above 0");
        check("threads=", "`` is no whole number above 0");
        check("threads=2,2", "2 stands twice");
    }

    #[test]
    fn a_process_goes_up_and_down_through_its_contexts() {
        assert_eq!(
            rounds(vec![8, 2, 4], 4),
            [2, 4, 8, 8, 4, 2, 2, 4, 8, 8, 4, 2, 2, 4, 8]
        );
    }

    #[test]
    fn generated_data_are_the_same_for_the_same_seed() {
        let text = generated(3, 40, 1);
        assert_eq!(generated(3, 40, 1), text);
        assert_ne!(generated(3, 40, 2), text);
        let samples: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(samples.len(), 3);
        for sample in &samples {
            let words = sample["text"].as_str().unwrap().split(' ').count();
            assert_eq!(words, 40);
        }
        assert_ne!(samples[0], samples[1]);
    }

    #[test]
    fn a_prompt_has_exactly_as_many_tokens_as_asked_for() {
        let tokenizer = load::embedded_tokenizer().unwrap();
        for tokens in [2, 16, 128, 1000] {
            let text = prompt(&tokenizer, tokens).unwrap();
            assert_eq!(tokenizer.encode_prompt(&text).unwrap().len(), tokens);
        }
        // One stands before the first word.
        assert!(matches!(prompt(&tokenizer, 1), Err(Failure::Usage(_))));
    }

    #[test]
    fn contexts_that_cannot_be_judged_are_refused() {
        let mut plan = plan("context=2,4,8");
        plan.repeats = 2;
        let problem = |plan: &Plan| super::check(plan, &Options::default(), 1).err();
        assert!(problem(&plan).is_none());
        // Two programs are compared by the ranks of their processes.
        let two = |plan: &Plan| super::check(plan, &Options::default(), 2).err();
        assert!(
            matches!(two(&plan), Some(Failure::Usage(problem)) if problem.contains("--repeats 4"))
        );
        plan.repeats = 4;
        assert!(two(&plan).is_none());
        plan.context_rounds = 3;
        match problem(&plan) {
            Some(Failure::Usage(problem)) => {
                assert!(problem.contains("an even number"), "{problem}")
            }
            other => panic!("{other:?}"),
        }
    }

    fn plan(axis_values: &str) -> Plan {
        Plan {
            version: VERSION,
            seed: 0,
            repeats: 1,
            cool_down_limit_s: 0,
            generated_data: true,
            context_rounds: CONTEXT_ROUNDS,
            programs: Vec::new(),
            points: points(vec![axis(axis_values).unwrap()]).unwrap(),
        }
    }

    #[test]
    fn settings_that_the_points_make_are_refused() {
        let check = |toml: &str, axis_values: &str, expected: &str| {
            let options: Options = toml::from_str(toml).unwrap();
            let plan = Plan {
                generated_data: options.data.is_none(),
                ..plan(axis_values)
            };
            let problem = match super::check(&plan, &options, 1) {
                Ok(()) => String::new(),
                Err(Failure::Usage(problem)) => problem,
                Err(other) => panic!("{other:?}"),
            };
            assert!(problem.contains(expected), "{problem}");
            assert_eq!(problem.is_empty(), expected.is_empty(), "{problem}");
        };
        check(
            "batch-size = 2",
            "batch-size=1,2",
            "the sweep sets `batch-size`",
        );
        check("batch-size = 2", "lora-rank=1,2", "");
        check(
            "data = \"x\"",
            "sequence-length=64",
            "the sweep sets `data`",
        );
        check("data = \"x\"\ntruncate = true", "batch-size=1", "");
        check(
            "truncate = true",
            "batch-size=1",
            "the sweep sets `truncate`",
        );
        check(
            "prompt = [\"x\"]",
            "prompt-length=8",
            "the sweep sets `prompt`",
        );
        check("max-tokens = 16", "prompt-length=8", "give 17 or more");
        check("", "generation-length=32,16", "give 17 or more");
        check("device = \"gpu\"", "threads=1", "for OpenBLAS alone");
        check("", "threads=1,100000", "are more than the");
    }
}
