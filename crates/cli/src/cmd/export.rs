//! `lfmark export`: a run's work as files, for programs that do the same.

use std::{fs, path::Path};

use anyhow::Context;
use metrics::{machine::Reader, record, rules::Rules};
use model::{
    data::{BatchOptions, Batches},
    export,
    load::{self, EMBEDDED_DATA},
    lora::Adapters,
    mlx::Session,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    args::{ExportArgs, Output},
    cmd::run,
    environment,
    exit::Failure,
    generation::{Prompt, tokenize},
    loading,
    options::Options,
    output,
};

/// Says everything about the work that is not in a file of its own.
const WORK: &str = "work.json";

/// Settings for `lfmark run`, and for every other program, to do this work.
const SETTINGS: &str = "run.toml";

const BATCHES: &str = "batches.jsonl";

/// What another program needs beside the model folder's own files. The first four are what
/// lfmark's record of a run on this folder and this machine holds.
#[derive(Serialize)]
struct Work {
    machine: record::Machine,
    config: record::Config,
    model: record::Model,
    data: record::Data,
    prompts: Vec<TokenizedPrompt>,
    /// Tokens that end generation.
    eos_ids: Vec<u32>,
    rules: Rules,
    batches_sha256: String,
}

#[derive(Serialize)]
struct TokenizedPrompt {
    text: String,
    ids: Vec<u32>,
}

pub(crate) fn run(args: ExportArgs, output: Output) -> Result<(), Failure> {
    let file = args.config.as_deref().map(Options::read).transpose()?;
    let options = args.options.or(file.unwrap_or_default());
    let dir = &args.output;
    if dir.join(WORK).exists() {
        return Err(Failure::Usage(format!(
            "{} holds exported work already; choose another --output or remove it",
            dir.display()
        )));
    }
    write(options, dir, output.quiet)?;
    output::print(&match output.json {
        true => json!({ "export": dir.display().to_string() }).to_string(),
        false => output::shown(&format!("settings    {}", dir.join(SETTINGS).display())),
    })
}

/// Writes the model and the data as files, then reads them as a run would and writes the rest.
pub(crate) fn write(options: Options, dir: &Path, quiet: bool) -> Result<(), Failure> {
    let plan = options.clone().resolve()?;
    let (_session, device) = Session::start(plan.model.device())?;
    let dtype = plan.model.dtype(device);
    let place = loading::find(&plan.model, quiet, || false)?;
    let how = loading::how(&plan.model, plan.quantize, device, plan.seed);
    export::write_model(&place, how, dir)?;
    let path = dir.join("train.jsonl");
    match &plan.data {
        Some(data) => {
            let from = match data.is_dir() {
                true => data.join("train.jsonl"),
                false => data.clone(),
            };
            fs::copy(&from, &path).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        None => fs::write(&path, EMBEDDED_DATA)
            .with_context(|| format!("cannot write {}", path.display()))?,
    }

    let dir = &fs::canonicalize(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    // What the embedded model has of its own, which under another name would be others'.
    let prompts = match (&options.prompts, &options.prompt_file) {
        (None, None) if options.is_embedded() && !plan.generation.prompts.is_empty() => {
            Some(plan.generation.prompts.clone())
        }
        _ => options.prompts.clone(),
    };
    let options = Options {
        model: Some(dir.display().to_string()),
        data: Some(dir.join("train.jsonl")),
        dtype: Some(dtype),
        learning_rate: Some(plan.optimizer.learning_rate),
        prompts,
        // Done, and in the folder.
        revision: None,
        q_bits: None,
        q_group_size: None,
        ..options
    };
    let plan = options.clone().resolve()?;
    let place = loading::find(&plan.model, quiet, || false)?;
    let how = loading::how(&plan.model, plan.quantize, device, plan.seed);
    let loaded = load::load(&place, how)?;
    let lora = plan.lora.for_layers(loaded.model.shape().layers.len());
    let adapters = Adapters::new(loaded.model.shape(), lora, plan.seed)?;
    adapters.save(&dir.join(run::ADAPTERS))?;
    let (dataset, truncated) = run::read_data(&plan, &loaded)?;
    let batch_options = BatchOptions {
        order: plan.order,
        size: plan.batch_size as usize,
        max_seq_length: plan.max_seq_length as usize,
        seed: plan.seed,
    };
    let vocabulary = loaded.model.shape().vocab_size;
    let mut batches = Batches::new(&dataset, vocabulary, batch_options)?;
    let batches_sha256 = export::write_batches(&mut batches, plan.iterations, &dir.join(BATCHES))?;

    let prompts = plan.generation.prompts.iter().map(|text| {
        let ids = tokenize(&loaded, &plan.generation, &Prompt::Text(text))?;
        let text = text.clone();
        Ok(TokenizedPrompt { text, ids })
    });
    let reader = Reader::for_gpu(environment::gpu_uuid()?.as_deref());
    let work = Work {
        machine: environment::machine(&reader, &environment::mlx()?),
        config: run::config(&plan, &adapters, device, plan.compiles()),
        model: environment::model(&loaded, &adapters),
        data: run::data(&plan, &dataset, truncated),
        prompts: prompts.collect::<anyhow::Result<_>>()?,
        eos_ids: loaded.eos_ids.clone(),
        rules: plan.rules,
        batches_sha256,
    };
    let text = toml::to_string(&options).context("cannot write the settings as TOML")?;
    write_text(&dir.join(SETTINGS), &text)?;
    let text = serde_json::to_string_pretty(&work).context("cannot write the work as JSON")?;
    // The last one: where it is, the folder is complete.
    Ok(write_text(&dir.join(WORK), &(text + "\n"))?)
}

fn write_text(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
