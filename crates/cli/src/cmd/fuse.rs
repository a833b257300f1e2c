//! `lfmark fuse`: a model with adapters added into its weights, as a folder.

use std::fs;

use anyhow::Context;
use model::{export, load, mlx::Session};
use serde_json::json;

use crate::{
    args::{FuseArgs, Output},
    cmd::generate::adapters_of,
    exit::Failure,
    loading, output,
};

pub(crate) fn run(args: &FuseArgs, output: Output) -> Result<(), Failure> {
    let dir = &args.output;
    let taken = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => dir.exists(),
    };
    if taken {
        return Err(Failure::Usage(format!(
            "{} is there already and not an empty folder; choose another --output or remove it",
            dir.display()
        )));
    }
    let quantize = args.model.scheme()?;
    let (_session, _) = Session::start(args.model.device())?;
    let place = loading::find(&args.model, output.quiet, || false)?;
    let dtype = match args.model.dtype {
        Some(dtype) => dtype.mlx(),
        None => place.stored_dtype()?,
    };
    let how = load::Options {
        dtype,
        seed: args.seed,
        quantize,
    };
    let adapters = adapters_of(&args.adapters)?;
    export::write_fused(&place, how, &adapters, args.dequantize, dir)?;
    let dir = fs::canonicalize(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    output::print(&match output.json {
        true => json!({ "model": dir.display().to_string() }).to_string(),
        false => output::shown(&format!("model       {}", args.output.display())),
    })
}
