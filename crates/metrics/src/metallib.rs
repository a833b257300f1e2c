//! Metal's compiled kernels beside the MLX library, and whether a GPU's neural accelerators are
//! used.
//!
//! MLX runs on them where the GPU has them, the system is macOS 26.2 or newer, and the kernels
//! were built for such a system (`is_nax_available` in `mlx/backend/metal/device.cpp` of MLX
//! 0.32.2). Built for an older one, the library works and leaves them idle. Built for such a
//! system, it does not ask which one it runs on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use memchr::memmem;
use schemars::JsonSchema;
use serde::Serialize;

use crate::record::{Machine, Metallib, Mlx};

/// Name of the file.
pub const FILE_NAME: &str = "mlx.metallib";

/// What names every kernel for neural accelerators in MLX's library.
const KERNEL: &[u8] = b"_nax_";

/// What every library begins with.
const MAGIC: &[u8] = b"MTLB";

/// The oldest macOS on which MLX uses them.
const OLDEST_SYSTEM: (u32, u32) = (26, 2);

/// Length of the beginning that is read of a library's header.
const HEADER: u64 = 40;

/// Reads of a library of kernels its header and the list of its functions, which has all names: 3
/// of 140 to 180 MB.
///
/// # Errors
///
/// The file cannot be read.
pub fn read(path: &Path) -> io::Result<Metallib> {
    scan(&mut File::open(path)?)
}

/// As [`read`], from wherever the bytes come. What is no library has no kernels.
///
/// # Errors
///
/// They cannot be read.
pub fn scan(file: &mut (impl Read + Seek)) -> io::Result<Metallib> {
    let bytes = file.seek(SeekFrom::End(0))?;
    let header = part(file, 0, HEADER)?;
    let functions = match list(&header) {
        Some((at, size)) => part(file, at, size)?,
        None => Vec::new(),
    };
    Ok(Metallib {
        bytes,
        built_for: system(&header).map(|(major, minor)| format!("{major}.{minor}")),
        neural_accelerators: memmem::find(&functions, KERNEL).is_some(),
    })
}

/// So many bytes from a place on, or as many as there are.
fn part(file: &mut (impl Read + Seek), at: u64, size: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the list of functions begins, at byte 24, and its size, at byte 32.
fn list(header: &[u8]) -> Option<(u64, u64)> {
    let number = |at: usize| Some(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?));
    // What is no library may have any number there, also one that no file can be sought to.
    let (at, size) = (number(24)?, number(32)?);
    (header.starts_with(MAGIC) && i64::try_from(at).is_ok()).then_some((at, size))
}

/// The macOS that a library was built for: after `MTLB`, at byte 11 the system (0x81 is macOS),
/// and behind it the two numbers of its version in 16 bits each.
fn system(header: &[u8]) -> Option<(u32, u32)> {
    const MACOS: u8 = 0x81;
    let number = |at: usize| {
        Some(u32::from(u16::from_le_bytes(
            header.get(at..at + 2)?.try_into().ok()?,
        )))
    };
    (header.starts_with(MAGIC) && header.get(11) == Some(&MACOS))
        .then(|| Some((number(12)?, number(14)?)))
        .flatten()
}

/// Whether MLX runs on a GPU's neural accelerators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NeuralAccelerators {
    /// The GPU has none, or is none of Apple's.
    None,
    /// They are used.
    Used,
    /// The GPU has them; the system is older than macOS 26.2. What a library does there that was
    /// built for a newer one is not known.
    OldSystem,
    /// The GPU and the system have them; the library has no kernels for them.
    NoKernels,
    /// Too little was read to tell.
    Unknown,
}

/// Judges by the GPU's architecture, the system and the library, as MLX does.
pub fn neural_accelerators(mlx: &Mlx, machine: &Machine) -> NeuralAccelerators {
    if mlx.backend != "metal" {
        return NeuralAccelerators::None;
    }
    let Some(architecture) = mlx.architecture.as_deref() else {
        return NeuralAccelerators::Unknown;
    };
    if !has_neural_accelerators(architecture) {
        return NeuralAccelerators::None;
    }
    match (
        machine.os_version.as_deref().and_then(version),
        &mlx.metallib,
    ) {
        (Some(system), _) if system < OLDEST_SYSTEM => NeuralAccelerators::OldSystem,
        (Some(_), Some(library)) if library.neural_accelerators => NeuralAccelerators::Used,
        (Some(_), Some(_)) => NeuralAccelerators::NoKernels,
        _ => NeuralAccelerators::Unknown,
    }
}

/// Whether a GPU of this architecture (`applegpu_g17s`) has them: from generation 17 on, and from
/// 18 on where the last letter is that of a phone.
fn has_neural_accelerators(architecture: &str) -> bool {
    let digits: String = architecture
        .chars()
        .rev()
        .skip(1)
        .take_while(char::is_ascii_digit)
        .collect();
    let generation: u32 = digits
        .chars()
        .rev()
        .collect::<String>()
        .parse()
        .unwrap_or(0);
    generation >= if architecture.ends_with('p') { 18 } else { 17 }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    let major = numbers.next()?.ok()?;
    Some((major, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// The first bytes of `mlx.metallib` in the wheels of mlx-metal 0.32.2 for macOS 14 and 26.
    const FOR_14: [u8; 16] = *b"MTLB\x01\x80\x02\x00\x07\x00\x00\x81\x0e\x00\x00\x00";
    const FOR_26: [u8; 16] = *b"MTLB\x01\x80\x02\x00\x09\x00\x00\x81\x1a\x00\x02\x00";

    /// A library whose list of functions has these bytes, and whose code has others.
    fn library(header: &[u8], functions: &[u8], code: &[u8]) -> Vec<u8> {
        let mut bytes = header.to_vec();
        bytes.resize(88, 0);
        bytes[24..32].copy_from_slice(&88_u64.to_le_bytes());
        bytes[32..40].copy_from_slice(&(functions.len() as u64).to_le_bytes());
        [&bytes, functions, code].concat()
    }

    fn read(bytes: &[u8]) -> Metallib {
        scan(&mut io::Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn the_header_says_which_system_it_was_built_for() {
        let check = |header: &[u8], expected: Option<&str>| {
            assert_eq!(read(header).built_for.as_deref(), expected);
        };
        check(&FOR_14, Some("14.0"));
        check(&FOR_26, Some("26.2"));
        check(b"MTLB", None);
        check(
            b"\x7fELF\x01\x80\x02\x00\x09\x00\x00\x81\x1a\x00\x02\x00",
            None,
        );
    }

    #[test]
    fn kernels_are_those_in_the_list_of_functions() {
        let name = b"\x41\x00affine_qmm_n_nax_float_gs_128\x00TYPE";
        let other = b"\x41\x00affine_qmm_n_float_NAX_nax\x00TYPE";
        let check = |functions: &[u8], code: &[u8], expected: bool| {
            let bytes = library(&FOR_26, functions, code);
            let found = read(&bytes);
            assert_eq!(found.neural_accelerators, expected);
            assert_eq!(found.bytes, bytes.len() as u64);
        };
        check(name, b"", true);
        check(&[other, &name[..]].concat(), other, true);
        check(other, b"", false);
        check(other, name, false);
    }

    #[test]
    fn no_more_is_read_than_header_and_list() {
        struct Counted(io::Cursor<Vec<u8>>, usize);
        impl Read for Counted {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let read = self.0.read(buffer)?;
                self.1 += read;
                Ok(read)
            }
        }
        impl Seek for Counted {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                self.0.seek(to)
            }
        }
        let bytes = library(&FOR_26, b"gemm_nax_half", &[0; 1 << 16]);
        let mut file = Counted(io::Cursor::new(bytes), 0);
        assert!(scan(&mut file).unwrap().neural_accelerators);
        assert_eq!(file.1, 40 + 13);
    }

    #[test]
    fn what_is_cut_off_or_no_library_has_no_kernels() {
        let whole = library(&FOR_26, b"gemm_nax_half", b"code");
        for end in 0..96 {
            let found = read(&whole[..end]);
            assert_eq!(
                (found.neural_accelerators, found.bytes),
                (false, end as u64)
            );
        }
        let mut far = whole.clone();
        far[24..40].fill(0xff);
        assert!(!read(&far).neural_accelerators);
        let mut long = whole;
        long[32..40].fill(0xff);
        assert!(read(&long).neural_accelerators);
        assert!(!read(&library(b"ELF", b"gemm_nax_half", b"")).neural_accelerators);
    }

    #[test]
    fn they_are_used_where_gpu_system_and_library_have_them() {
        use NeuralAccelerators::{NoKernels, None as Without, OldSystem, Unknown, Used};
        let check = |architecture: &str, system: &str, kernels: Option<&[u8]>, expected| {
            let mut start = testing::start();
            start.mlx.backend = "metal".to_owned();
            start.mlx.architecture = Some(architecture.to_owned());
            start.machine.os_version = Some(system.to_owned());
            start.mlx.metallib = kernels.map(|kernels| read(&library(&FOR_26, kernels, b"")));
            let found = neural_accelerators(&start.mlx, &start.machine);
            assert_eq!(found, expected, "{architecture} {system}");
        };
        let with: Option<&[u8]> = Some(b"gemm_nax_half");
        let without: Option<&[u8]> = Some(b"gemm_half");
        check("applegpu_g17s", "26.2", with, Used);
        check("applegpu_g17g", "27.0.1", with, Used);
        check("applegpu_g17g", "26.4", without, NoKernels);
        check("applegpu_g17g", "26.1", with, OldSystem);
        check("applegpu_g17p", "26.2", with, Without);
        check("applegpu_g18p", "27", with, Used);
        check("applegpu_g16s", "26.2", with, Without);
        check("air64_v27", "26.2", with, Without);
        check("applegpu_g17s", "26.2", None, Unknown);
        check("applegpu_g17s", "?", with, Unknown);
        let cpu = testing::start();
        assert_eq!(neural_accelerators(&cpu.mlx, &cpu.machine), Without);
    }
}
