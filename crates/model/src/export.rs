//! A run's model and batches as files, so that another program can do the very same work.

use std::{collections::BTreeMap, fs, path::Path};

use mlx_rs::Dtype;
use serde::Serialize;

use crate::{
    Error, Result,
    config::Role,
    data::Batches,
    load::{self, EMBEDDED, EMBEDDED_TOKENIZER, EMBEDDED_TOKENIZER_CONFIG, PRESETS},
    weights::{self, sha256_hex, write_replacing},
};

/// Files of a tokenizer, as a model folder may hold them.
const TOKENIZER_FILES: [&str; 4] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// Writes a model as a folder that [`load::load`], mlx-lm and transformers read: `config.json`,
/// `generation_config.json` with the tokens that end generation, the tokenizer's files, and
/// `model.safetensors` in `dtype`, with convolution kernels in PyTorch's layout.
///
/// # Errors
///
/// Those of [`load::load`], and files that cannot be written.
pub fn write_model(name: &str, dtype: Dtype, seed: u64, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let mut parts = load::parts(name, dtype, seed)?;
    write_replacing(&dir.join("config.json"), parts.config.as_bytes())?;
    let eos = BTreeMap::from([("eos_token_id", parts.eos_ids())]);
    let eos = serde_json::to_string(&eos).expect("plain data serialises") + "\n";
    write_replacing(&dir.join("generation_config.json"), eos.as_bytes())?;
    for (file, text) in tokenizer_files(name)? {
        write_replacing(&dir.join(file), &text)?;
    }
    for spec in parts.shape.tensors() {
        if spec.role == Role::ConvKernel
            && let (Some(kernel), &[channels, length, one]) =
                (parts.tensors.get_mut(&spec.name), spec.shape.as_slice())
        {
            *kernel = kernel.reshape(&[channels, one, length])?;
        }
    }
    weights::save_file(&dir.join("model.safetensors"), &parts.tensors)
}

fn tokenizer_files(name: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
    if name == EMBEDDED || PRESETS.iter().any(|preset| preset.name == name) {
        let texts = [EMBEDDED_TOKENIZER, EMBEDDED_TOKENIZER_CONFIG];
        let files = TOKENIZER_FILES.into_iter().zip(texts);
        return Ok(files
            .map(|(file, text)| (file, text.as_bytes().to_vec()))
            .collect());
    }
    let paths = TOKENIZER_FILES.map(|file| (file, Path::new(name).join(file)));
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
