//! What set-up installs from PyPI: every pinned version, and which of MLX's wheels a Mac gets.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Backend, remove};
use crate::platform::Platform;
use crate::process::{command, quiet, step};

/// The MLX release that mlx-sys is written against; set-up checks that the two agree.
pub(crate) const MLX: &str = "0.32.2";
pub(super) const OPENBLAS: &str = "scipy-openblas32==0.3.34.481.3";
const BUILD_TOOLS: &[&str] = &["cmake==4.4.4", "ninja==1.13.2"];
/// macOS has its own libclang, which alone is sure to read its headers.
const LIBCLANG: &str = "libclang==18.1.1";
/// What MLX's CUDA wheel depends on, so that it finds every library but the driver's.
const CUDA_LIBRARIES: &[&str] = &[
    "nvidia-cublas==13.10.0.20",
    "nvidia-cuda-nvrtc==13.5.37",
    "nvidia-cuda-runtime==13.5.37",
    "nvidia-cudnn-cu13==9.28.1.4",
    "nvidia-cufft==12.5.0.14",
    "nvidia-nccl-cu13==2.32.3",
    "nvidia-nvjitlink==13.5.37",
];

impl Backend {
    /// MLX's wheel, with what it depends on.
    pub(super) fn wheels(self) -> Vec<String> {
        let mlx = |package: &str| format!("{package}=={MLX}");
        match self {
            Self::Cpu => vec![mlx("mlx-cpu")],
            Self::Cuda => std::iter::once(mlx("mlx-cuda-13"))
                .chain(CUDA_LIBRARIES.iter().map(ToString::to_string))
                .collect(),
            Self::Metal => vec![mlx("mlx-metal")],
            Self::Source => Vec::new(),
        }
    }
}

/// Which of MLX's wheels is for this Mac.
///
/// # Errors
/// The version of macOS cannot be read, or there is no wheel for it.
pub(crate) fn for_this_mac() -> Result<&'static str> {
    for_macos(quiet(&mut command("sw_vers", ["-productVersion"]))?.trim())
}

/// The platform of MLX's wheel for a version of macOS, as pip names it.
///
/// pip itself would go by the major version, and it is told 16 in place of 26 where Python was
/// built for an older macOS. The wheel that is named for 26.0 is built for 26.2: its kernels need
/// that system.
fn for_macos(version: &str) -> Result<&'static str> {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), minor) = (numbers.next(), numbers.next()) else {
        bail!("`sw_vers -productVersion` printed {version:?}, which is no version of macOS");
    };
    match (major, minor.and_then(Result::ok).unwrap_or(0)) {
        (26, 2..) | (27.., _) => Ok("macosx_26_0_arm64"),
        (15.., _) => Ok("macosx_15_0_arm64"),
        (14, _) => Ok("macosx_14_0_arm64"),
        _ => bail!(
            "MLX's wheels are for macOS 14 or newer, and this is {version}: update macOS, or run \
             `cargo xtask setup --backend source`"
        ),
    }
}

/// Installs the build tools, unless these versions are there.
pub(super) fn install_tools(root: &Path, platform: &Platform) -> Result<PathBuf> {
    let tools = root.join("native/tools");
    let mut wheels: Vec<String> = BUILD_TOOLS.iter().map(ToString::to_string).collect();
    if platform.linux {
        wheels.push(LIBCLANG.to_owned());
    }
    let versions = wheels.join("\n");
    if fs::read_to_string(tools.join("versions.txt")).is_ok_and(|found| found == versions) {
        return Ok(tools);
    }
    step(&format!("install {}", wheels.join(", ")), || {
        let partial = tools.with_extension("partial");
        remove(&partial)?;
        pip_install(&partial, &wheels, None)?;
        fs::write(partial.join("versions.txt"), &versions)?;
        remove(&tools)?;
        Ok(fs::rename(&partial, &tools)?)
    })?;
    Ok(tools)
}

/// Unpacks wheels into a folder of their own; the user's Python is left as it is. The wheels are
/// what pip is to be told of them, and the platform is that of another system than pip's own.
pub(crate) fn pip_install(folder: &Path, wheels: &[String], platform: Option<&str>) -> Result<()> {
    let mut pip = pip("python3", "install", platform);
    pip.arg("--target")
        .arg(folder)
        .args([
            "--no-compile",
            "--no-warn-script-location",
            // The wheels' libraries are wanted, not their Python: the Command Line Tools of macOS
            // bring a Python that is older than mlx-metal asks for.
            "--ignore-requires-python",
        ])
        .args(wheels)
        // Settings for installing into an environment, which this does not do.
        .env("PIP_USER", "0")
        .env("PIP_REQUIRE_VIRTUALENV", "0")
        .env("PIP_BREAK_SYSTEM_PACKAGES", "1");
    quiet(&mut pip).context("cannot install from PyPI (is there network access?)")?;
    Ok(())
}

/// A command of pip for wheels alone, without what they depend on.
pub(crate) fn pip(python: impl AsRef<OsStr>, verb: &str, platform: Option<&str>) -> Command {
    let mut pip = command(
        python,
        ["-m", "pip", verb, "--no-deps", "--only-binary", ":all:"],
    );
    pip.args(["--disable-pip-version-check", "--no-input", "--quiet"])
        .args(platform.into_iter().flat_map(|name| ["--platform", name]));
    pip
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_wheel_is_pinned() {
        for backend in Backend::value_variants() {
            for wheel in backend.wheels() {
                assert!(wheel.contains("=="), "{wheel}");
            }
        }
    }

    #[test]
    fn a_mac_gets_the_newest_wheel_that_its_system_has_the_kernels_for() {
        for (version, expected) in [
            ("14.0", "macosx_14_0_arm64"),
            ("14.8.2", "macosx_14_0_arm64"),
            ("15.0", "macosx_15_0_arm64"),
            ("15.7.1", "macosx_15_0_arm64"),
            ("26.0", "macosx_15_0_arm64"),
            ("26", "macosx_15_0_arm64"),
            ("26.1.1", "macosx_15_0_arm64"),
            ("26.2", "macosx_26_0_arm64"),
            ("26.10", "macosx_26_0_arm64"),
            ("27", "macosx_26_0_arm64"),
            ("27.0.1", "macosx_26_0_arm64"),
            // What macOS 26 calls itself to programs for older ones.
            ("16.0", "macosx_15_0_arm64"),
        ] {
            assert_eq!(for_macos(version).unwrap(), expected, "{version}");
        }
    }

    #[test]
    fn a_system_without_a_wheel_is_told_so() {
        for (version, expected) in [
            (
                "13.7.8",
                "macOS 14 or newer, and this is 13.7.8: update macOS",
            ),
            ("", "printed \"\", which is no version"),
        ] {
            let error = for_macos(version).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    #[ignore = "downloads 110 MB from PyPI"]
    fn every_wheel_for_a_mac_is_got_on_any_system() {
        for version in ["14.0", "26.1", "26.2"] {
            let platform = for_macos(version).unwrap();
            let folder = std::env::temp_dir().join(format!("lfmark-{platform}"));
            pip_install(&folder, &Backend::Metal.wheels(), Some(platform)).unwrap();
            let wheel = folder.join(format!("mlx_metal-{MLX}.dist-info/WHEEL"));
            let wheel = fs::read_to_string(wheel).unwrap();
            assert!(wheel.contains(platform), "{wheel}");
            assert!(folder.join("mlx/lib/libmlx.dylib").is_file());
            remove(&folder).unwrap();
        }
    }
}
