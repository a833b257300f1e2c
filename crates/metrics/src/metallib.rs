//! Metal's compiled kernels beside the MLX library, and whether a GPU's neural accelerators are
//! used.
//!
//! MLX runs on them where the GPU has them, the system is macOS 26.2 or newer, and the kernels
//! were built for such a system (`is_nax_available` in `mlx/backend/metal/device.cpp` of MLX
//! 0.32.2). Built for an older one, the library works and leaves them idle. Built for such a
//! system, it does not ask which one it runs on.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use memchr::memmem;
use schemars::JsonSchema;
use serde::Serialize;

use crate::record::{Machine, Metallib, Mlx};

/// Name of the file.
pub const FILE_NAME: &str = "mlx.metallib";

/// What names every kernel for neural accelerators in MLX's library.
const KERNEL: &[u8] = b"_nax_";

/// The oldest macOS on which MLX uses them.
const OLDEST_SYSTEM: (u32, u32) = (26, 2);

/// Reads a library of kernels. Takes as long as reading the file, which has 140 to 180 MB.
///
/// # Errors
///
/// The file cannot be read.
pub fn read(path: &Path) -> io::Result<Metallib> {
    scan(&mut File::open(path)?)
}

/// As [`read`], from wherever the bytes come.
///
/// # Errors
///
/// They cannot be read.
pub fn scan(file: &mut impl Read) -> io::Result<Metallib> {
    const BLOCK: usize = 1 << 20;
    // What may be the beginning of a name stays in front of the next block.
    let keep = KERNEL.len() - 1;
    let mut buffer = vec![0; keep + BLOCK];
    let (mut bytes, mut built_for, mut found) = (0_u64, None, false);
    loop {
        let read = fill(file, &mut buffer[keep..])?;
        if read == 0 {
            break;
        }
        let block = &buffer[keep..keep + read];
        if bytes == 0 {
            built_for = system(block);
        }
        let begin = if bytes == 0 { keep } else { 0 };
        found = found || memmem::find(&buffer[begin..keep + read], KERNEL).is_some();
        bytes += read as u64;
        buffer.copy_within(read..read + keep, 0);
    }
    Ok(Metallib {
        bytes,
        built_for: built_for.map(|(major, minor)| format!("{major}.{minor}")),
        neural_accelerators: found,
    })
}

fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
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
    (header.starts_with(b"MTLB") && header.get(11) == Some(&MACOS))
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

    fn library(header: &[u8], kernels: &[u8]) -> Metallib {
        scan(&mut [header, kernels].concat().as_slice()).unwrap()
    }

    #[test]
    fn the_header_says_which_system_it_was_built_for() {
        let check = |header: &[u8], expected: Option<&str>| {
            assert_eq!(library(header, b"").built_for.as_deref(), expected);
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
    fn kernels_are_found_wherever_a_block_ends() {
        let name = b"affine_qmm_n_nax_float_gs_128";
        assert!(library(&FOR_26, name).neural_accelerators);
        assert!(!library(&FOR_14, b"affine_qmm_n_float_NAX_nax").neural_accelerators);
        for before in (1 << 20) - 40..(1 << 20) {
            let kernels = [&vec![0; before][..], name].concat();
            let read = library(&[], &kernels);
            assert!(read.neural_accelerators, "{before}");
            assert_eq!(read.bytes, kernels.len() as u64);
        }
    }

    #[test]
    fn they_are_used_where_gpu_system_and_library_have_them() {
        use NeuralAccelerators::{NoKernels, None as Without, OldSystem, Unknown, Used};
        let check = |architecture: &str, system: &str, kernels: Option<&[u8]>, expected| {
            let mut start = testing::start();
            start.mlx.backend = "metal".to_owned();
            start.mlx.architecture = Some(architecture.to_owned());
            start.machine.os_version = Some(system.to_owned());
            start.mlx.metallib = kernels.map(|kernels| library(&FOR_26, kernels));
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
