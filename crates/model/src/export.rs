//! Models and batches as files: for another program to do the same work, and with adapters fused.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    Error, Result,
    data::Batches,
    load::{self, EMBEDDED_TOKENIZER, EMBEDDED_TOKENIZER_CONFIG, Options, Parts, Place},
    lora::{self, Adapters},
    quantization,
    tensors::Role,
    weights::{self, sha256_hex, write_replacing},
};

/// Files of a tokenizer, as a model folder may hold them.
const TOKENIZER_FILES: [&str; 4] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// Writes a model as a folder that [`load::load`], mlx-lm and, where it is not quantized,
/// transformers read: `config.json`, `generation_config.json` with the tokens that end generation,
/// the tokenizer's files, and `model.safetensors`, with convolution kernels in PyTorch's layout.
///
/// # Errors
///
/// Those of [`load::load`], and files that cannot be written.
pub fn write_model(place: &Place, options: Options, dir: &Path) -> Result<()> {
    write(place, load::parts(place, options)?, dir)
}

/// Writes a model in the same way with the adapters of a folder added into its weights. What is
/// packed stays so unless `dequantize`; `options.quantize` packs the sums.
///
/// # Errors
///
/// Those of [`write_model`], and adapters that do not fit the model.
pub fn write_fused(
    place: &Place,
    options: Options,
    adapters: &Path,
    dequantize: bool,
    dir: &Path,
) -> Result<()> {
    let plain = Options {
        quantize: None,
        ..options
    };
    let mut parts = load::parts(place, plain)?;
    if parts.shape.quantization.is_some() && options.quantize.is_some() {
        return Err(Error::Invalid(load::QUANTIZED_ALREADY.into()));
    }
    let adapters = Adapters::load(&parts.shape, adapters)?;
    // Before the adapters are added, which then lose nothing to packing.
    if dequantize {
        quantization::unpack(&mut parts.tensors, &parts.shape.tensors())?;
    }
    lora::fuse(&mut parts.tensors, &adapters)?;
    if let Some(scheme) = options.quantize {
        quantization::pack(&mut parts.tensors, &parts.shape.tensors(), scheme)?;
    }
    write(place, parts, dir)
}

fn write(place: &Place, mut parts: Parts, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let specs = parts.shape.tensors();
    let quantization = quantization::to_config(&specs, &parts.tensors);
    let config = match quantization.is_some() == parts.shape.quantization.is_some() {
        true => parts.config.clone(),
        false => with_quantization(&parts.config, quantization),
    };
    write_replacing(&dir.join("config.json"), config.as_bytes())?;
    let eos = BTreeMap::from([("eos_token_id", parts.eos_ids())]);
    let eos = serde_json::to_string(&eos).expect("plain data serialises") + "\n";
    write_replacing(&dir.join("generation_config.json"), eos.as_bytes())?;
    for (file, text) in tokenizer_files(place)? {
        write_replacing(&dir.join(file), &text)?;
    }
    for spec in specs {
        if spec.role == Role::ConvKernel
            && let (Some(kernel), &[channels, length, one]) =
                (parts.tensors.get_mut(&spec.name), spec.shape.as_slice())
        {
            *kernel = kernel.reshape(&[channels, one, length])?;
        }
    }
    weights::save_file(&dir.join("model.safetensors"), &parts.tensors)
}

/// A `config.json` that says how the matrices are packed, under both names that mlx-lm writes.
fn with_quantization(config: &str, quantization: Option<Value>) -> String {
    let mut fields: Map<String, Value> =
        serde_json::from_str(config).expect("the config was parsed before");
    for key in ["quantization", "quantization_config"] {
        match &quantization {
            Some(value) => fields.insert(key.into(), value.clone()),
            None => fields.remove(key),
        };
    }
    serde_json::to_string_pretty(&fields).expect("plain data serialises") + "\n"
}

fn tokenizer_files(place: &Place) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let Some(dir) = place.folder() else {
        let texts = [EMBEDDED_TOKENIZER, EMBEDDED_TOKENIZER_CONFIG];
        let files = TOKENIZER_FILES.into_iter().zip(texts);
        return Ok(files
            .map(|(file, text)| (file, text.as_bytes().to_vec()))
            .collect());
    };
    let paths = TOKENIZER_FILES.map(|file| (file, dir.join(file)));
    let present = paths.into_iter().filter(|(_, path)| path.is_file());
    present
        .map(|(file, path)| Ok((file, fs::read(&path).map_err(Error::io("read", &path))?)))
        .collect()
}

/// One batch as a line of JSON; the fields are those of [`crate::data::Batch`].
#[derive(Serialize)]
struct Line<'a> {
    /// Padded rows.
    tokens: Vec<&'a [i32]>,
    /// First and last position that enters the loss, row by row.
    bounds: Vec<&'a [i32]>,
    real_tokens: u32,
    padded_tokens: u32,
    loss_tokens: u32,
}

/// Writes the next `count` batches to a JSONL file, in order, and gives the file's SHA-256.
///
/// # Errors
///
/// A file that cannot be written.
pub fn write_batches(batches: &mut Batches, count: u32, path: &Path) -> Result<String> {
    let mut text = String::new();
    for _ in 0..count {
        let batch = batches.next_batch();
        let width = batch.tokens.dim(1) as usize;
        let line = Line {
            tokens: batch.tokens.as_slice::<i32>().chunks(width).collect(),
            bounds: batch.bounds.as_slice::<i32>().chunks(2).collect(),
            real_tokens: batch.counts.real_tokens,
            padded_tokens: batch.counts.padded_tokens,
            loss_tokens: batch.counts.loss_tokens,
        };
        text += &serde_json::to_string(&line).expect("plain data serialises");
        text.push('\n');
    }
    write_replacing(path, text.as_bytes())?;
    Ok(sha256_hex(text.as_bytes()))
}
