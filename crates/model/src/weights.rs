//! Strict safetensors reading, and writing.
//!
//! A checkpoint must hold exactly the tensors that the shape implies: missing, unexpected and
//! misshapen ones are an error that lists them all. In a lazy framework a skipped weight is not
//! a crash but a plausible wrong result.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{BufReader, Read},
    path::{Component, Path, PathBuf},
};

use half::{bf16, f16};
use mlx_rs::{Array, Dtype};
use safetensors::{
    Dtype as FileDtype,
    tensor::{Metadata, TensorView},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    Error, Result,
    quantization::{self, Quantization, Scheme},
    tensors::{Role, TensorSpec, Tensors},
};

/// Largest header the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// What a checkpoint has to hold, and what is made of it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its tensors, as if none were packed.
    pub specs: &'a [TensorSpec],
    /// How its matrices are packed.
    pub quantization: Option<&'a Quantization>,
    /// Type of every float in memory.
    pub dtype: Dtype,
    /// How to pack its matrices now.
    pub quantize: Option<Scheme>,
}

impl<'a> Request<'a> {
    /// Plain floats that stay so.
    pub fn plain(specs: &'a [TensorSpec], dtype: Dtype) -> Self {
        Self {
            specs,
            quantization: None,
            dtype,
            quantize: None,
        }
    }
}

/// Loads a model folder.
///
/// Reads `model.safetensors.index.json` where there is one, and all `model*.safetensors`
/// otherwise. The second value is the SHA-256 of the files in order.
///
/// # Errors
///
/// No weights, a truncated or hostile file, a tensor of a type other than f32, bf16 or f16 (or u32
/// where it is packed), and the list of missing, unexpected and misshapen tensors.
pub fn load_folder(dir: &Path, request: &Request) -> Result<(Tensors, String)> {
    load(open_files(dir)?, request)
}

/// The float type that most of a model folder's plain values, or its scales, are stored in.
///
/// # Errors
///
/// As [`load_folder`], without a look at the values.
pub fn stored_dtype(dir: &Path) -> Result<Dtype> {
    let mut found = [Dtype::Float16, Dtype::Bfloat16, Dtype::Float32].map(|dtype| (dtype, 0));
    for (name, length, file) in open_files(dir)? {
        for info in open(name, length, file)?.metadata.tensors().into_values() {
            let place = match info.dtype {
                FileDtype::F16 => 0,
                FileDtype::BF16 => 1,
                FileDtype::F32 => 2,
                _ => continue,
            };
            found[place].1 += info.data_offsets.1 - info.data_offsets.0;
        }
    }
    let most = found.into_iter().max_by_key(|&(_, bytes)| bytes);
    Ok(most.expect("there are three types").0)
}

/// Loads from one safetensors file in memory; `name` stands for it in errors.
///
/// # Errors
///
/// As [`load_folder`].
pub fn load_bytes(name: &str, bytes: &[u8], request: &Request) -> Result<(Tensors, String)> {
    load(vec![(name.to_owned(), bytes.len() as u64, bytes)], request)
}

/// Loads one safetensors file of plain floats, as `dtype`.
///
/// # Errors
///
/// As [`load_folder`].
pub fn load_file(path: &Path, specs: &[TensorSpec], dtype: Dtype) -> Result<Tensors> {
    let file = vec![open_file(path)?];
    Ok(load(file, &Request::plain(specs, dtype))?.0)
}

fn open_files(dir: &Path) -> Result<Vec<(String, u64, File)>> {
    shard_paths(dir)?
        .iter()
        .map(|path| open_file(path))
        .collect()
}

fn open_file(path: &Path) -> Result<(String, u64, File)> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    Ok((path.display().to_string(), length, file))
}

/// Writes tensors to one safetensors file, by way of a temporary file beside it, so that an
/// interrupted or failed write never leaves half a file under the final name.
///
/// # Errors
///
/// An array that is neither f32, bf16, f16 nor u32, or a file that cannot be written.
pub fn save_file(path: &Path, tensors: &Tensors) -> Result<()> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, array) in tensors {
        let (dtype, bytes) = to_bytes(array)?;
        let shape = array
            .shape()
            .iter()
            .map(|&d| d as usize)
            .collect::<Vec<_>>();
        views.push((name.clone(), dtype, shape, bytes));
    }
    let views = views.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (name.clone(), view.expect("bytes were made for this shape"))
    });
    let bytes = safetensors::serialize(views, None)
        .map_err(|e| Error::weights(&file_name(path), format!("cannot be encoded: {e}")))?;
    write_replacing(path, &bytes)
}

/// Writes a whole file under a temporary name and then renames it.
pub(crate) fn write_replacing(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| {
        // The error that matters is the first one; a leftover is only untidy.
        let _ = fs::remove_file(&partial);
        Error::io("write", path)(source)
    })
}

/// Lower-case hexadecimal SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |n| n.to_string_lossy().into_owned(),
    )
}

/// The safetensors files of a model folder, in order.
pub(crate) fn shard_paths(dir: &Path) -> Result<Vec<PathBuf>> {
    let index = dir.join("model.safetensors.index.json");
    if index.is_file() {
        let text = fs::read_to_string(&index).map_err(Error::io("read", &index))?;
        let shards = indexed(&text, &index.display().to_string())?;
        return Ok(shards.into_iter().map(|s| dir.join(s)).collect());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let path = entry.map_err(Error::io("read", dir))?.path();
        let name = file_name(&path);
        if name.starts_with("model") && name.ends_with(".safetensors") {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Error::weights(
            &dir.display().to_string(),
            "no model*.safetensors in this folder; download the weights, \
             or use a preset for random weights at the same shape",
        ));
    }
    found.sort();
    Ok(found)
}

/// Names of the files in an index's text, in order; `file` stands for it in errors.
///
/// # Errors
///
/// A text that is no index, names nothing, or names what is not a file of the same folder.
pub fn indexed(text: &str, file: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let parsed: Index = serde_json::from_str(text)
        .map_err(|e| Error::weights(file, format!("not a valid index: {e}")))?;
    let mut shards: Vec<_> = parsed.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    let plain = |name: &String| {
        let parts: Vec<_> = Path::new(name).components().collect();
        matches!(parts[..], [Component::Normal(part)] if part == name.as_str())
    };
    if let Some(bad) = shards.iter().find(|name| !plain(name)) {
        let problem = format!("names `{bad}`, which is not a file of the same folder");
        return Err(Error::weights(file, problem));
    }
    match shards.is_empty() {
        true => Err(Error::weights(file, "names no file")),
        false => Ok(shards),
    }
}

/// One file whose header has been read and checked; `data` stands at its first tensor.
struct Opened<R> {
    name: String,
    metadata: Metadata,
    data: Hashing<R>,
}

fn load<R: Read>(files: Vec<(String, u64, R)>, request: &Request) -> Result<(Tensors, String)> {
    let mut opened = Vec::new();
    for (name, length, reader) in files {
        opened.push(open(name, length, reader)?);
    }
    let specs = match request.quantization {
        Some(quantization) => {
            let has = |name: &str| opened.iter().any(|file| file.metadata.info(name).is_some());
            quantization.stored(request.specs, has)
        }
        None => request.specs.to_vec(),
    };
    check_names(&opened, &specs)?;

    let specs: BTreeMap<&str, &TensorSpec> = specs.iter().map(|s| (s.name.as_str(), s)).collect();
    let mut tensors = Tensors::new();
    let mut hashes = Vec::new();
    for mut file in opened {
        for name in file.metadata.offset_keys() {
            let info = file
                .metadata
                .info(&name)
                .expect("offset_keys lists known names");
            let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
            file.data
                .read_exact(&mut bytes)
                .map_err(Error::io("read", &file.name))?;
            let spec = specs[name.as_str()];
            let stored = from_bytes(info.dtype, &spec.shape, &bytes);
            let array = match spec.role {
                Role::Packed => stored,
                _ => stored.as_dtype(request.dtype)?,
            };
            quantization::store(&mut tensors, spec, array, request.quantize)?;
        }
        hashes.push(file.data.hash.finalize());
    }
    let sha256 = match hashes.as_slice() {
        [single] => hex(single.as_slice()),
        many => sha256_hex(
            &many
                .iter()
                .flat_map(|h| h.as_slice())
                .copied()
                .collect::<Vec<_>>(),
        ),
    };
    Ok((tensors, sha256))
}

fn open<R: Read>(name: String, length: u64, reader: R) -> Result<Opened<R>> {
    let problem = |text: String| {
        let text = format!("{text}; the file is damaged or truncated: download or copy it again");
        Error::weights(&name, text)
    };
    let mut data = Hashing {
        inner: BufReader::with_capacity(1 << 20, reader),
        hash: Sha256::new(),
    };
    let mut prefix = [0; 8];
    if length < 8 {
        return Err(problem(format!(
            "only {length} bytes, not a safetensors file"
        )));
    }
    data.read_exact(&mut prefix)
        .map_err(Error::io("read", &name))?;
    let header_length = u64::from_le_bytes(prefix);
    if header_length > MAX_HEADER_BYTES || header_length > length - 8 {
        return Err(problem(format!(
            "the header claims {header_length} bytes, and {} follow",
            length - 8
        )));
    }
    let mut header = vec![0; header_length as usize];
    data.read_exact(&mut header)
        .map_err(Error::io("read", &name))?;
    // Deserialising checks that shapes match their extents and that extents are contiguous.
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|e| problem(format!("invalid header: {e}")))?;
    let expected = metadata.data_len() as u64;
    let actual = length - 8 - header_length;
    if expected != actual {
        return Err(problem(format!(
            "the header describes {expected} bytes of data, and there are {actual}"
        )));
    }
    Ok(Opened {
        name,
        metadata,
        data,
    })
}

fn check_names<R>(files: &[Opened<R>], specs: &[TensorSpec]) -> Result<()> {
    let mut expected: BTreeMap<&str, &TensorSpec> =
        specs.iter().map(|s| (s.name.as_str(), s)).collect();
    let mut problems = Vec::new();
    for file in files {
        for name in file.metadata.offset_keys() {
            let info = file
                .metadata
                .info(&name)
                .expect("offset_keys lists known names");
            let Some(spec) = expected.remove(name.as_str()) else {
                let twice = specs.iter().any(|s| s.name == name);
                problems.push(match twice {
                    true => format!("twice: {name}"),
                    false => format!("unexpected: {name} {:?}", info.shape),
                });
                continue;
            };
            if !fits(spec, &info.shape) {
                problems.push(format!(
                    "misshapen: {name} is {:?}, expected {:?}",
                    info.shape, spec.shape
                ));
            }
            let float = matches!(
                info.dtype,
                FileDtype::F32 | FileDtype::BF16 | FileDtype::F16
            );
            let (right, expected) = match spec.role {
                Role::Packed => (info.dtype == FileDtype::U32, "U32"),
                _ => (float, "F32, BF16 or F16"),
            };
            if !right {
                problems.push(format!(
                    "type: {name} is {:?}, expected {expected}",
                    info.dtype
                ));
            }
        }
    }
    problems.extend(expected.keys().map(|name| format!("missing: {name}")));
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort();
    let count = problems.len();
    let mut text = format!(
        "{count} tensor{} not as config.json implies:",
        if count == 1 { " is" } else { "s are" }
    );
    for problem in &problems {
        let _ = write!(text, "\n  {problem}");
    }
    let names: Vec<_> = files.iter().map(|f| f.name.as_str()).collect();
    Err(Error::weights(&names.join(", "), text))
}

/// Whether a stored shape is the expected one; PyTorch's convolution kernels are
/// `[channels, 1, kernel]`, the same bytes in the same order as MLX's `[channels, kernel, 1]`.
fn fits(spec: &TensorSpec, stored: &[usize]) -> bool {
    let expected: Vec<usize> = spec.shape.iter().map(|&d| d as usize).collect();
    let pytorch = spec.role == Role::ConvKernel
        && matches!((stored, expected.as_slice()), (&[c, 1, k], &[d, l, 1]) if (c, k) == (d, l));
    stored == expected || pytorch
}

fn from_bytes(dtype: FileDtype, shape: &[i32], bytes: &[u8]) -> Array {
    let pairs = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    let quads = || bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    match dtype {
        FileDtype::BF16 => {
            Array::from_slice(&pairs().map(bf16::from_le_bytes).collect::<Vec<_>>(), shape)
        }
        FileDtype::F16 => {
            Array::from_slice(&pairs().map(f16::from_le_bytes).collect::<Vec<_>>(), shape)
        }
        FileDtype::F32 => {
            Array::from_slice(&quads().map(f32::from_le_bytes).collect::<Vec<_>>(), shape)
        }
        FileDtype::U32 => {
            Array::from_slice(&quads().map(u32::from_le_bytes).collect::<Vec<_>>(), shape)
        }
        other => unreachable!("{other:?} was refused when names were checked"),
    }
}

fn to_bytes(array: &Array) -> Result<(FileDtype, Vec<u8>)> {
    // A transposed view has no slice of its own.
    let array = array.contiguous()?;
    array.eval()?;
    Ok(match array.dtype() {
        Dtype::Float32 => {
            let bytes = array.as_slice::<f32>().iter().flat_map(|v| v.to_le_bytes());
            (FileDtype::F32, bytes.collect())
        }
        Dtype::Bfloat16 => {
            let bytes = array
                .as_slice::<bf16>()
                .iter()
                .flat_map(|v| v.to_le_bytes());
            (FileDtype::BF16, bytes.collect())
        }
        Dtype::Float16 => {
            let bytes = array.as_slice::<f16>().iter().flat_map(|v| v.to_le_bytes());
            (FileDtype::F16, bytes.collect())
        }
        Dtype::Uint32 => {
            let bytes = array.as_slice::<u32>().iter().flat_map(|v| v.to_le_bytes());
            (FileDtype::U32, bytes.collect())
        }
        other => {
            return Err(Error::Invalid(format!(
                "cannot save an array of type {other:?}"
            )));
        }
    })
}

/// Hashes what passes through it.
struct Hashing<R> {
    inner: BufReader<R>,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<TensorSpec> {
        let spec = |name: &str, shape: &[i32], role| TensorSpec {
            name: name.into(),
            shape: shape.to_vec(),
            role,
        };
        vec![
            spec("a", &[2, 3], Role::Matrix),
            spec("k", &[2, 3, 1], Role::ConvKernel),
        ]
    }

    /// A safetensors file of zeros.
    fn encoded(tensors: &[(&str, FileDtype, &[usize])]) -> Vec<u8> {
        let zeros = [0_u8; 256];
        let views = tensors.iter().map(|&(name, dtype, shape)| {
            let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (
                name,
                TensorView::new(dtype, shape.to_vec(), &zeros[..length]).unwrap(),
            )
        });
        safetensors::serialize(views, None).unwrap()
    }

    fn load(bytes: &[u8]) -> Result<Tensors> {
        let specs = specs();
        let request = Request::plain(&specs, Dtype::Float32);
        load_bytes("x.safetensors", bytes, &request).map(|(tensors, _)| tensors)
    }

    #[test]
    fn both_kernel_layouts_and_all_float_types_load() {
        for dtype in [FileDtype::F32, FileDtype::BF16, FileDtype::F16] {
            for kernel in [[2, 3, 1], [2, 1, 3]] {
                let loaded =
                    load(&encoded(&[("a", dtype, &[2, 3]), ("k", dtype, &kernel)])).unwrap();
                assert_eq!(loaded["k"].shape(), [2, 3, 1]);
                assert_eq!(loaded["a"].dtype(), Dtype::Float32);
            }
        }
    }

    #[test]
    fn every_wrong_tensor_is_listed() {
        let bytes = encoded(&[("a", FileDtype::I32, &[3, 2]), ("b", FileDtype::F32, &[1])]);
        assert_eq!(
            load(&bytes).unwrap_err().to_string(),
            "x.safetensors: 4 tensors are not as config.json implies:\n  \
             misshapen: a is [3, 2], expected [2, 3]\n  \
             missing: k\n  \
             type: a is I32, expected F32, BF16 or F16\n  \
             unexpected: b [1]"
        );
    }

    #[test]
    fn a_truncated_file_is_refused_at_every_length() {
        let bytes = encoded(&[
            ("a", FileDtype::F32, &[2, 3]),
            ("k", FileDtype::F32, &[2, 3, 1]),
        ]);
        assert!(load(&bytes).is_ok());
        for length in 0..bytes.len() {
            let error = load(&bytes[..length]).unwrap_err().to_string();
            assert!(error.contains("damaged or truncated"), "{length}: {error}");
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        let file = |header: &str, data: usize| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.bytes());
            bytes.resize(bytes.len() + data, 0);
            bytes
        };
        let huge = u64::MAX.to_le_bytes().to_vec();
        for bytes in [
            huge,
            file("not json", 0),
            file(
                r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,99999999]}}"#,
                24,
            ),
            file(
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
                0,
            ),
            file(
                r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[24,0]}}"#,
                24,
            ),
            file(
                r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#,
                25,
            ),
        ] {
            let error = load(&bytes).unwrap_err().to_string();
            assert!(error.contains("damaged or truncated"), "{error}");
        }
    }

    #[test]
    fn what_is_saved_loads_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        let a = Array::from_slice(&[1.0_f32, -2.5, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        let k = Array::from_slice(&[0.5_f32; 6], &[2, 3, 1]);
        let tensors = Tensors::from([("a".into(), a), ("k".into(), k)]);
        save_file(&path, &tensors).unwrap();
        let loaded = load_file(&path, &specs(), Dtype::Float32).unwrap();
        assert_eq!(
            loaded["a"].as_slice::<f32>(),
            tensors["a"].as_slice::<f32>()
        );
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn saving_below_a_regular_file_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let path = dir.path().join("file/adapters.safetensors");
        let error = save_file(&path, &Tensors::new()).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write ") && error.contains("adapters.safetensors"),
            "{error}"
        );
    }
}
