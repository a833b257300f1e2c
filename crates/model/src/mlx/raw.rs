//! Calls into MLX and the system that have no safe wrapper: the only `unsafe` code of this crate.

#![expect(
    unsafe_code,
    reason = "mlx-rs wraps neither synchronize nor device info nor version nor compile mode, and MLX \
              is told some things by environment variables"
)]

use std::{
    ffi::{CStr, c_char},
    path::PathBuf,
    ptr,
};

use super::DeviceKind;

pub(super) fn synchronize() {
    // SAFETY: takes no pointer. MLX reports failure by its return value, and there is nothing to
    // do about a failed wait at the end of a program.
    unsafe {
        let _ = mlx_sys::mlx_synchronize_default();
    }
}

pub(super) fn set_kernel_fusion(on: bool) {
    let mode = match on {
        true => mlx_sys::mlx_compile_mode__MLX_COMPILE_MODE_ENABLED,
        false => mlx_sys::mlx_compile_mode__MLX_COMPILE_MODE_NO_FUSE,
    };
    // SAFETY: takes no pointer; it sets one variable of MLX, which cannot fail.
    unsafe {
        let _ = mlx_sys::mlx_set_compile_mode(mode);
    }
}

pub(super) fn set_variable_if_unset(name: &str, value: &str) {
    if std::env::var_os(name).is_none() {
        // SAFETY: Rust's own readers take the same lock as this. Of the C libraries, MLX is the
        // one that reads the environment later, and it has not started: this comes before its
        // first call.
        unsafe {
            std::env::set_var(name, value);
        }
    }
}

pub(super) fn gpu_available() -> bool {
    let (mut metal, mut cuda) = (false, false);
    // SAFETY: both write one bool through a valid pointer.
    let failed = unsafe {
        mlx_sys::mlx_metal_is_available(&mut metal) != 0
            || mlx_sys::mlx_cuda_is_available(&mut cuda) != 0
    };
    !failed && (metal || cuda)
}

pub(super) fn version() -> String {
    // SAFETY: the string is created and freed here, and copied in between.
    unsafe {
        let mut text = mlx_sys::mlx_string_new();
        let failed = mlx_sys::mlx_version(&mut text) != 0;
        let version = match failed {
            true => String::new(),
            false => CStr::from_ptr(mlx_sys::mlx_string_data(text))
                .to_string_lossy()
                .into_owned(),
        };
        mlx_sys::mlx_string_free(text);
        version
    }
}

pub(super) struct DeviceInfo(mlx_sys::mlx_device_info);

impl DeviceInfo {
    pub(super) fn read(kind: DeviceKind) -> Self {
        let kind = match kind {
            DeviceKind::Cpu => mlx_sys::mlx_device_type__MLX_CPU,
            DeviceKind::Gpu => mlx_sys::mlx_device_type__MLX_GPU,
        };
        // SAFETY: the device lives until it is freed here; the info is freed by Drop.
        unsafe {
            let mut info = mlx_sys::mlx_device_info_new();
            let device = mlx_sys::mlx_device_new_type(kind, 0);
            // On failure the info stays empty, and every key reads as absent.
            let _ = mlx_sys::mlx_device_info_get(&mut info, device);
            mlx_sys::mlx_device_free(device);
            Self(info)
        }
    }

    /// Whether the key exists, and as the kind asked for.
    fn has(&self, key: &CStr, as_string: bool) -> bool {
        if self.0.ctx.is_null() {
            return false;
        }
        let (mut exists, mut is_string) = (false, false);
        // SAFETY: the info is not empty, the key ends in a zero byte, and both outputs are
        // valid. The type is asked for only where the key exists.
        unsafe {
            mlx_sys::mlx_device_info_has_key(&mut exists, self.0, key.as_ptr()) == 0
                && exists
                && mlx_sys::mlx_device_info_is_string(&mut is_string, self.0, key.as_ptr()) == 0
                && is_string == as_string
        }
    }

    pub(super) fn string(&self, key: &CStr) -> Option<String> {
        if !self.has(key, true) {
            return None;
        }
        let mut value: *const c_char = ptr::null();
        // SAFETY: as in `has`; the value belongs to the info and is copied at once.
        unsafe {
            let failed = mlx_sys::mlx_device_info_get_string(&mut value, self.0, key.as_ptr()) != 0;
            (!failed && !value.is_null())
                .then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
        }
    }

    pub(super) fn size(&self, key: &CStr) -> Option<u64> {
        if !self.has(key, false) {
            return None;
        }
        let mut value = 0;
        // SAFETY: as in `has`.
        let failed =
            unsafe { mlx_sys::mlx_device_info_get_size(&mut value, self.0, key.as_ptr()) != 0 };
        (!failed).then_some(value as u64)
    }
}

impl Drop for DeviceInfo {
    fn drop(&mut self) {
        // SAFETY: created by `read`, freed once.
        unsafe {
            mlx_sys::mlx_device_info_free(self.0);
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) fn library_path() -> Option<PathBuf> {
    super::library_in_maps(&std::fs::read_to_string("/proc/self/maps").ok()?)
}

#[cfg(target_os = "macos")]
#[expect(
    deprecated,
    reason = "libc points to a crate that is not worth its weight for two calls"
)]
pub(super) fn library_path() -> Option<PathBuf> {
    // SAFETY: the count bounds the index; names belong to the loader and stay valid while
    // the library is loaded, which libmlx is for as long as this process lives.
    unsafe {
        (0..libc::_dyld_image_count())
            .map(|index| libc::_dyld_get_image_name(index))
            .filter(|name| !name.is_null())
            .map(|name| CStr::from_ptr(name).to_string_lossy().into_owned())
            .find(|path| path.ends_with("/libmlx.dylib"))
            .map(PathBuf::from)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn library_path() -> Option<PathBuf> {
    None
}
