//! The device, its memory, and the end of all pending work.

mod raw;

mod wired;

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use mlx_rs::{Device, DeviceType, Dtype, error::Result as MlxResult, memory};

pub use self::wired::Wired;

use crate::{Error, Result};

/// Waits until all work of the default device's stream of this thread has finished.
///
/// A process that ends while MLX works in the background can crash or hang, so every path out of
/// the program passes here; see [`Session`].
pub fn synchronize() {
    raw::synchronize();
}

/// Held by `main` for as long as MLX is in use; its end waits for pending work, also when the
/// stack unwinds.
#[must_use = "the wait happens when this is dropped"]
pub struct Session {
    /// Metal's wired limit before this session changed it.
    wired_limit: Option<usize>,
}

impl Session {
    /// Selects the device: `gpu` where MLX has one, `cpu` otherwise, or as asked.
    ///
    /// # Errors
    ///
    /// A GPU was asked for, and this build of MLX has none.
    pub fn start(device: Option<DeviceKind>) -> Result<(Self, DeviceKind)> {
        // Before the first call: MLX reads it once. Metal's back end reads it too, and has values of
        // its own for every kind of chip.
        if !cfg!(target_os = "macos") {
            raw::set_variable_if_unset(OPS_PER_BUFFER.0, OPS_PER_BUFFER.1);
        }
        // A fallible mlx-rs call installs its error handler; without it a raw call would end the
        // process on error.
        memory::active_memory()?;
        let gpu = gpu_available();
        let chosen = match (device, gpu) {
            (Some(DeviceKind::Gpu), false) => {
                return Err(Error::Device(
                    "this build of MLX has no GPU back end; use --device cpu, or set up the CUDA \
                     or Metal variant with `cargo xtask setup --backend cuda` (or metal)"
                        .into(),
                ));
            }
            (Some(kind), _) => kind,
            (None, true) => DeviceKind::Gpu,
            (None, false) => DeviceKind::Cpu,
        };
        Device::set_default(&match chosen {
            DeviceKind::Cpu => Device::cpu(),
            DeviceKind::Gpu => Device::gpu(),
        });
        raw::set_kernel_fusion(fuses_kernels(chosen));
        Ok((Self { wired_limit: None }, chosen))
    }

    /// Lets Metal keep so much memory resident until the session ends.
    ///
    /// # Errors
    ///
    /// A limit was asked for where none has an effect, or one above the recommended working set.
    pub fn wire(&mut self, wired: Wired) -> Result<()> {
        if let Some(bytes) = wired.limit(&info()?)? {
            let before = memory::set_wired_limit(bytes as usize)?;
            self.wired_limit.get_or_insert(before);
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        synchronize();
        if let Some(limit) = self.wired_limit {
            // The process is about to end; there is nothing to do about a failure.
            let _ = memory::set_wired_limit(limit);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Cpu,
    Gpu,
}

/// After how many operations MLX's CUDA back end sends what it has gathered to the device.
///
/// Temporaries are kept until what was sent has run. MLX's own value for large devices is 100,
/// with which a run of LFM2-1.2B peaks some 4 % higher than with 20. With 40 it is half a percent,
/// and a token takes less time than with 20 (both measured in reports/breakdown). A variable that
/// is set stays as it is.
const OPS_PER_BUFFER: (&str, &str) = ("MLX_MAX_OPS_PER_BUFFER", "40");

/// Whether compiling a step makes kernels of its element-wise operations unless it is asked for.
///
/// Metal compiles a kernel in milliseconds. CUDA's takes about 3 s and a step has about 20 of
/// them, which saves one eighth of a step: more steps than a run has; the CPU's needs the system's
/// C++ compiler. There a compiled step is a graph that is built once, of kernels that MLX brings.
pub fn fuses_kernels(device: DeviceKind) -> bool {
    device == DeviceKind::Gpu && cfg!(target_os = "macos")
}

/// From here on, compiling makes kernels of element-wise operations on every device.
pub fn fuse_kernels() {
    raw::set_kernel_fusion(true);
}

/// The environment variables by which MLX was told how to run, by name.
pub fn variables() -> BTreeMap<String, String> {
    let text = |value: OsString| value.to_string_lossy().into_owned();
    std::env::vars_os()
        .map(|(name, value)| (text(name), text(value)))
        .filter(|(name, _)| name.starts_with("MLX_"))
        .collect()
}

/// Attention over lengths that are multiples of this has a fast gradient.
///
/// MLX's CUDA back end has a fused one for 16-bit types and lengths that are multiples of 128, and
/// makes that of others from some twenty small kernels.
pub(crate) fn attention_gradient_multiple(dtype: Dtype) -> i32 {
    let half = matches!(dtype, Dtype::Bfloat16 | Dtype::Float16);
    match half && on_cuda() {
        true => 128,
        false => 1,
    }
}

/// Whether matrices of one input are joined to one.
///
/// For a GPU, where the host has to hand over every operation, the joint product takes 7 % off a
/// step and off a token. On a CPU the step is faster by as much without it, and needs less memory
/// (both measured in reports/breakdown).
pub(crate) fn joins_matrices() -> bool {
    on_gpu()
}

/// How many positions at least have to be left out of a batch's logits.
///
/// Choosing among positions takes a few operations. On a CPU that is nothing beside a logit. On CUDA the
/// host needs 2 % of a step for them (both measured in reports/breakdown), in which an H200 makes the logits
/// of some 100 positions of LFM2-1.2B (estimated from its rate of products).
pub(crate) fn fewest_left_out() -> usize {
    match on_cuda() {
        true => 256,
        false => 1,
    }
}

/// Whether MLX has a kernel for the attention of one position, as it has for GPUs.
pub(crate) fn fuses_attention() -> bool {
    on_gpu()
}

fn on_cuda() -> bool {
    !cfg!(target_os = "macos") && on_gpu()
}

fn on_gpu() -> bool {
    let kind = Device::try_default().and_then(|device| device.get_type());
    matches!(kind, Ok(DeviceType::Gpu))
}

/// What MLX says about itself and its default device; fields it does not give are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    pub version: String,
    /// `cpu`, `metal` or `cuda`.
    pub backend: &'static str,
    pub device_name: Option<String>,
    pub architecture: Option<String>,
    pub memory_bytes: Option<u64>,
    pub working_set_bytes: Option<u64>,
    /// CUDA's name of this one GPU, which NVIDIA's management library has too.
    pub uuid: Option<String>,
}

/// Bytes of MLX's allocator, for the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub active_bytes: u64,
    pub cache_bytes: u64,
    /// Highest since the last reset; a reset sets it to zero, not to the active bytes.
    pub peak_bytes: u64,
}

impl Memory {
    /// # Errors
    ///
    /// Those of MLX.
    pub fn read() -> Result<Self> {
        Ok(Self {
            active_bytes: memory::active_memory()? as u64,
            cache_bytes: memory::cache_memory()? as u64,
            peak_bytes: memory::peak_memory()? as u64,
        })
    }

    /// Starts a new peak.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn reset_peak() -> Result<()> {
        Ok(memory::reset_peak_memory()?)
    }

    /// Gives the buffer cache back to the system.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub fn clear_cache() -> Result<()> {
        Ok(memory::clear_cache()?)
    }
}

/// Reads the version, the back end, and what MLX knows of the default device.
///
/// # Errors
///
/// Those of MLX.
pub fn info() -> Result<Info> {
    let device = Device::try_default()?;
    let kind = match device.get_type()? {
        DeviceType::Cpu => DeviceKind::Cpu,
        DeviceType::Gpu => DeviceKind::Gpu,
    };
    let backend = match kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Gpu if cfg!(target_os = "macos") => "metal",
        DeviceKind::Gpu => "cuda",
    };
    let raw = raw::DeviceInfo::read(kind);
    Ok(Info {
        version: raw::version(),
        backend,
        device_name: raw.string(c"device_name"),
        architecture: raw.string(c"architecture"),
        memory_bytes: raw
            .size(c"memory_size")
            .or_else(|| raw.size(c"total_memory")),
        working_set_bytes: raw.size(c"max_recommended_working_set_size"),
        uuid: raw.string(c"uuid"),
    })
}

/// Path of the `libmlx` that this process has loaded, where the system says.
pub fn library_path() -> Option<PathBuf> {
    raw::library_path()
}

/// The BLAS that serves matrix products on the CPU, as far as the loaded libraries tell.
pub fn blas() -> Option<String> {
    if cfg!(target_os = "macos") {
        return Some("Accelerate".into());
    }
    blas_in_maps(&std::fs::read_to_string("/proc/self/maps").ok()?)
}

/// An OpenBLAS goes before the reference BLAS that MLX's wheel brings: it is loaded only where
/// the set-up has put it first.
fn blas_in_maps(maps: &str) -> Option<String> {
    let loaded = |part: &str| {
        let mut names = maps.lines().filter_map(|line| line.rsplit('/').next());
        names
            .find(|name| name.contains(part) && name.contains(".so"))
            .map(str::to_owned)
    };
    match loaded("openblas") {
        Some(file) => Some(format!("OpenBLAS ({file})")),
        None => loaded("libblas")
            .or_else(|| loaded("libcblas"))
            .map(|file| format!("reference BLAS ({file})")),
    }
}

fn gpu_available() -> bool {
    raw::gpu_available()
}

/// Evaluates arrays and waits for them: the fence before a clock is read.
pub(crate) fn fence<'a>(arrays: impl IntoIterator<Item = &'a mlx_rs::Array>) -> MlxResult<()> {
    mlx_rs::transforms::eval(arrays)?;
    // The CUDA back end returns the buffers of finished work in a thread of its own. Without this
    // wait some of a step's are still counted when its memory is read, and the next step begins
    // with them.
    if on_cuda() {
        synchronize();
    }
    Ok(())
}

/// Finds `libmlx` in the text of `/proc/self/maps`.
#[cfg_attr(
    not(any(target_os = "linux", test)),
    expect(dead_code, reason = "only Linux has /proc")
)]
fn library_in_maps(maps: &str) -> Option<PathBuf> {
    maps.lines()
        .filter_map(|line| line.find('/').map(|start| &line[start..]))
        .find(|path| {
            path.rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with("libmlx.so"))
        })
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libmlx_is_found_in_maps() {
        let maps = "55d0-55d1 r--p 00000000 08:01 1 /usr/bin/lfmark\n\
                    7f00-7f01 r--p 00000000 08:01 2 /opt/a b/libmlxc.so\n\
                    7f02-7f03 r-xp 00000000 08:01 3 /opt/a b/libmlx.so\n\
                    7f04-7f05 rw-p 00000000 00:00 0\n";
        assert_eq!(
            library_in_maps(maps),
            Some(PathBuf::from("/opt/a b/libmlx.so"))
        );
        assert_eq!(
            library_in_maps("7f04-7f05 rw-p 00000000 00:00 0 [heap]\n"),
            None
        );
    }

    #[test]
    fn openblas_goes_before_the_reference_blas() {
        let maps = "7f00-7f01 r--p 00000000 08:01 2 /x/libblas-1234.so.3\n\
                    7f02-7f03 r-xp 00000000 08:01 3 /x/libscipy_openblas-5678.so\n";
        assert_eq!(
            blas_in_maps(maps).unwrap(),
            "OpenBLAS (libscipy_openblas-5678.so)"
        );
        let reference = maps.lines().next().unwrap();
        assert_eq!(
            blas_in_maps(reference).unwrap(),
            "reference BLAS (libblas-1234.so.3)"
        );
        assert_eq!(blas_in_maps(""), None);
    }

    #[test]
    fn mlx_describes_itself() {
        let (_session, device) = Session::start(Some(DeviceKind::Cpu)).unwrap();
        assert_eq!(device, DeviceKind::Cpu);
        let info = info().unwrap();
        assert_eq!(info.backend, "cpu");
        assert!(info.version.starts_with("0.32."), "{info:?}");
        let library = library_path().unwrap();
        assert!(library.is_file(), "{library:?}");
        // Metal would read it as well.
        let on_mac = cfg!(target_os = "macos");
        assert_eq!(variables().contains_key(OPS_PER_BUFFER.0), !on_mac);
    }
}
