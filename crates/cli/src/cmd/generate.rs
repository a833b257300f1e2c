//! `lfmark generate`: text from a model, and how fast.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::Context;
use metrics::{
    clock::SystemClock,
    footprint::FootprintReader,
    record::{Finish, Generation, GenerationConfig},
    summary::GenerationSummary,
};
use model::{
    generate::{Forward, Sampling},
    load,
    lora::Adapters,
    mlx::Session,
};
use report::units;
use serde_json::json;

use crate::{
    args::{GenerateArgs, Output},
    cmd::run::ADAPTERS,
    exit::Failure,
    generation::{Generator, Prompt},
    loading, output,
};

pub(crate) fn run(args: &GenerateArgs, output: Output, clock: SystemClock) -> Result<(), Failure> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        seed: args.seed,
    };
    sampling
        .check()
        .map_err(|e| Failure::Usage(e.to_string()))?;
    if args.max_tokens == 0 {
        return Err(Failure::Usage(
            "--max-tokens is 0; it must be at least 1".into(),
        ));
    }

    let scheme = args.model.scheme()?;
    let (_session, device) = Session::start(args.model.device())?;
    let place = loading::find(&args.model, output.quiet, || false)?;
    let how = loading::how(&args.model, scheme, device, args.seed);
    let loaded = load::load(&place, how)?;
    let adapters = |dir: &Path| -> anyhow::Result<_> {
        let adapters = Adapters::load(loaded.model.shape(), &adapters_of(dir)?)?;
        Ok(Rc::new(adapters))
    };
    let adapters = args.adapters.as_deref().map(adapters).transpose()?;
    let mut generator = Generator {
        forward: Forward::new(loaded.model.clone(), adapters, true),
        loaded: &loaded,
        config: GenerationConfig {
            prompts: Vec::new(),
            max_tokens: args.max_tokens,
            temperature: args.temperature,
            top_p: args.top_p,
            ignore_eos: args.ignore_eos,
            chat_template: !args.no_chat_template,
            checks: None,
        },
        sampling,
        clock,
        stop: || false,
    };
    let prompt = match (&args.prompt, &args.prompt_ids) {
        (Some(text), _) => Prompt::Text(text),
        (None, Some(ids)) => Prompt::Ids(ids),
        (None, None) => return Err(Failure::Usage("give --prompt or --prompt-ids".into())),
    };
    generator.warm_up(std::slice::from_ref(&prompt))?;
    let generation = generator.generate(&prompt, &mut FootprintReader::new())?;
    let summary = GenerationSummary::of(&generation);
    if output.json {
        return output::print(&as_json(&generation, &summary).to_string());
    }
    let rate = |rate: Option<f64>| rate.map_or("not measured".into(), |r| units::significant(r, 4));
    output::message(
        output.quiet,
        &format!(
            "prompt {} tokens, {} tokens/s; generated {} tokens, {} tokens/s; peak {}",
            summary.prompt_tokens,
            rate(summary.prompt_tokens_per_second),
            summary.generated_tokens,
            rate(summary.tokens_per_second),
            units::bytes(summary.peak_bytes)
        ),
    );
    output::print(&generation.text)
}

/// A run folder stands for the adapters inside it.
///
/// # Errors
///
/// There is no such folder.
pub(crate) fn adapters_of(dir: &Path) -> anyhow::Result<PathBuf> {
    let places = [dir.join(ADAPTERS), dir.to_owned()];
    places.into_iter().find(|it| it.is_dir()).with_context(|| {
        format!(
            "cannot read {}/adapter_config.json: {0} is no folder; name a run folder, or a folder \
             of adapters",
            dir.display()
        )
    })
}

fn as_json(generation: &Generation, summary: &GenerationSummary) -> serde_json::Value {
    json!({
        "token_ids": generation.token_ids,
        "text": generation.text,
        "finish": match generation.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Interrupted => "interrupted",
        },
        "prompt_tokens": generation.prompt_tokens,
        "generated_tokens": summary.generated_tokens,
        "first_token_ns": generation.first_token_ns,
        "prompt_tokens_per_second": summary.prompt_tokens_per_second,
        "tokens_per_second": summary.tokens_per_second,
        "peak_bytes": summary.peak_bytes,
    })
}
