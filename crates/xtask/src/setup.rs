//! Installs native MLX under `native/<backend>/` and points Cargo at it.
//!
//! ```text
//! native/tools/              cmake, ninja and libclang, from PyPI
//! native/<backend>/python/   MLX's wheel (and OpenBLAS's), unpacked
//!                 /lib/      libmlxc, built from mlx-sys's own sources; liblfmark_native (Linux)
//!                 /bindings/ bindings.rs
//!                 /setup.json what was installed, and what that cost
//! native/setup.log           what the last set-up saw and ran, also where it failed
//! .cargo/mlx.toml            the links override that makes Cargo use it
//! ```
//!
//! A folder is filled under another name and renamed when complete, so that an
//! interrupted set-up is never taken for a finished one. Libraries find each other
//! by paths relative to themselves; a program needs `native/<backend>/lib` only.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use self::build::{Build, COMPAT_HEADER, LINUX_LIBRARY};
use self::log::Log;
use self::wheels::MLX;
use crate::native_config;
use crate::platform::{Platform, rpath};
use crate::prerequisites;
use crate::process::{cargo, command, quiet, root, step};

mod build;
pub(crate) mod log;
pub(crate) mod wheels;

const CHECK_PROGRAM: &str = include_str!("../native/check.c");

/// What `.cargo/mlx.toml` says when mlx-sys is to build MLX from source.
const SOURCE_CONFIG: &str = "\
# Written by `cargo xtask setup --backend source`: mlx-sys builds MLX itself.
[env]
CMAKE_aarch64_apple_darwin = { value = \"cmake\", relative = false }
";

/// Which MLX is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// Linux, MLX's CPU wheel.
    Cpu,
    /// Linux with an NVIDIA driver, MLX's CUDA 13 wheel.
    Cuda,
    /// macOS on Apple silicon, MLX's Metal wheel.
    Metal,
    /// macOS: no wheel; mlx-sys builds MLX from source (needs full Xcode).
    Source,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Source => "source",
        }
    }
}

/// Where the CPU's matrix product comes from on Linux; macOS has Accelerate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Blas {
    /// The first of pypi and system that can be had.
    Auto,
    /// OpenBLAS from PyPI; needs no root.
    Pypi,
    /// The system's OpenBLAS.
    System,
    /// The reference BLAS in MLX's wheel: tens of times slower.
    None,
}

/// Sets native MLX up, or says that it is, and returns its folder (none for a source build).
///
/// Without a choice, keeps what is in force.
///
/// # Errors
/// A missing prerequisite, or a failed step with what it printed.
pub(crate) fn setup(backend: Option<Backend>, blas: Option<Blas>) -> Result<Option<PathBuf>> {
    let root = root();
    let platform = host()?;
    let config = root.join(".cargo/mlx.toml");
    let in_force = fs::read_to_string(&config).unwrap_or_default();
    let backend = choose(backend, &in_force, &platform, &root)?;
    if backend == Backend::Source {
        fs::write(&config, SOURCE_CONFIG)
            .with_context(|| format!("cannot write {}", config.display()))?;
        println!("mlx-sys builds MLX from source: the next build needs Xcode, cmake and minutes");
        return Ok(None);
    }

    let native = root.join("native").join(backend.name());
    fs::create_dir_all(root.join("native"))?;
    // Held to the end: a second set-up waits for the first, then finds it done.
    let lock = File::create(root.join("native/.lock"))?;
    lock.lock().context("cannot lock native/.lock")?;

    let installed = read_installed(&native, &platform);
    let blas = match (blas, &installed) {
        (Some(blas), _) => blas,
        (None, Some(Value::Object(installed))) => installed
            .get("blas_choice")
            .and_then(Value::as_str)
            .and_then(|name| Blas::from_str(name, true).ok())
            .unwrap_or(Blas::Auto),
        (None, _) => Blas::Auto,
    };
    let lock_file =
        fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let mlx_sys = locked_version(&lock_file, "mlx-sys").context("Cargo.lock has no mlx-sys")?;
    let wheel = match backend {
        Backend::Metal => Some(wheels::for_this_mac()?),
        _ => None,
    };
    let recipe = recipe(backend, blas, &mlx_sys, wheel);

    let current = installed.filter(|installed| installed["recipe"] == recipe.as_str());
    let up_to_date = current.is_some();
    let installed = match current {
        Some(installed) => installed,
        None => {
            let wanted = Wanted {
                backend,
                blas,
                wheel,
                recipe: &recipe,
            };
            let _log = Log::begin(&root, platform.linux)?;
            install(&root, &native, &wanted, &platform).map_err(|error| {
                log::note(&format!("\nfailed: {error:#}"));
                anyhow!("{error:#}\nwhat set-up saw and ran is in {}", log::PLACE)
            })?
        }
    };
    let text = native_config::text(&platform, &native);
    if text != in_force {
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        println!("  wrote .cargo/mlx.toml");
    }
    println!(
        "native MLX {MLX} ({}) {} native/{}",
        backend.name(),
        if up_to_date {
            "is up to date in"
        } else {
            "installed in"
        },
        backend.name()
    );
    if platform.linux && backend == Backend::Cpu && installed["blas"].is_null() {
        println!(
            "WARNING: no fast BLAS: f32 matrix products run tens of times slower than they could.\n\
             WARNING: `cargo xtask setup --blas auto` with network access gets OpenBLAS from PyPI; \
             or install libopenblas0 (Debian, Ubuntu) or openblas (Fedora), then run \
             `cargo xtask setup --blas system`."
        );
    }
    Ok(Some(native))
}

/// The system this program was started on, as its Rust names it.
pub(crate) fn host() -> Result<Platform> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = quiet(&mut command(rustc, ["-vV"]))?;
    let triple = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    Platform::of(triple)
}

/// The backend asked for, or the one in force, or the system's default.
fn choose(
    asked: Option<Backend>,
    in_force: &str,
    platform: &Platform,
    root: &Path,
) -> Result<Backend> {
    let available: &[Backend] = if platform.linux {
        &[Backend::Cpu, Backend::Cuda]
    } else {
        &[Backend::Metal, Backend::Source]
    };
    match asked {
        Some(asked) if available.contains(&asked) => Ok(asked),
        Some(asked) => bail!(
            "no {} backend on {}; there are: {}",
            asked.name(),
            platform.triple,
            available
                .iter()
                .map(|b| b.name())
                .collect::<Vec<_>>()
                .join(", ")
        ),
        None => Ok(available
            .iter()
            .copied()
            .find(|backend| match backend {
                Backend::Source => in_force == SOURCE_CONFIG,
                _ => {
                    let native = root.join("native").join(backend.name());
                    in_force == native_config::text(platform, &native)
                }
            })
            .unwrap_or(available[0])),
    }
}

/// `setup.json` of a complete installation.
fn read_installed(native: &Path, platform: &Platform) -> Option<Value> {
    let complete = native.join("bindings/bindings.rs").is_file()
        && platform.link_libraries().iter().all(|name| {
            native
                .join(format!("lib/lib{name}.{}", platform.library))
                .is_file()
        });
    let text = fs::read_to_string(native.join("setup.json")).ok()?;
    serde_json::from_str(&text).ok().filter(|_| complete)
}

/// A fingerprint of everything an installation is made from: versions and steps are this file.
fn recipe(backend: Backend, blas: Blas, mlx_sys: &str, wheel: Option<&str>) -> String {
    // Not stable across Rust releases; a new one then merely sets up again.
    let mut hasher = DefaultHasher::new();
    (backend.name(), format!("{blas:?}"), mlx_sys, wheel).hash(&mut hasher);
    (
        include_str!("setup.rs"),
        include_str!("setup/build.rs"),
        include_str!("setup/wheels.rs"),
        COMPAT_HEADER,
        LINUX_LIBRARY,
        CHECK_PROGRAM,
    )
        .hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The version of a package in the text of a `Cargo.lock`.
pub(crate) fn locked_version(lock_file: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock_file.lines().skip_while(|line| *line != name);
    let version = lines.nth(1)?.strip_prefix("version = \"")?;
    Some(version.strip_suffix('"')?.to_owned())
}

/// What is to be installed.
struct Wanted<'a> {
    backend: Backend,
    blas: Blas,
    /// The platform of MLX's wheel, where pip is not to choose it.
    wheel: Option<&'static str>,
    recipe: &'a str,
}

fn install(root: &Path, native: &Path, wanted: &Wanted, platform: &Platform) -> Result<Value> {
    let Wanted {
        backend,
        blas,
        wheel,
        recipe,
    } = *wanted;
    let start = Instant::now();
    println!(
        "setting up native MLX {MLX} ({}) in native/{0}",
        backend.name()
    );
    let compilers = step("check prerequisites", || {
        prerequisites::check(platform.linux)
    })?;
    let mlx_sys = step("find mlx-sys", || mlx_sys_folder(platform))?;
    let mlx_c = mlx_sys.join("src/mlx-c");
    let pinned = fs::read_to_string(mlx_c.join("CMakeLists.txt"))
        .with_context(|| format!("cannot read mlx-c's CMakeLists.txt in {}", mlx_c.display()))?;
    ensure!(
        pinned_mlx(&pinned) == Some(MLX),
        "mlx-sys pins MLX {}, this set-up installs {MLX}: change MLX in crates/xtask/src/setup/wheels.rs",
        pinned_mlx(&pinned).unwrap_or("nothing")
    );
    let tools = wheels::install_tools(root, platform)?;

    let partial = native.with_extension("partial");
    remove(&partial)?;
    for folder in ["python", "lib", "bindings", "build"] {
        fs::create_dir_all(partial.join(folder))?;
    }
    let build = Build {
        partial: &partial,
        tools: &tools,
        mlx_c: &mlx_c,
        platform,
        compilers,
    };
    step(&format!("install {}", backend.wheels().join(", ")), || {
        wheels::pip_install(&partial.join("python"), &backend.wheels(), wheel)
    })?;
    let blas_name = if platform.linux {
        build.linux_library(blas)?
    } else {
        Some("Accelerate".to_owned())
    };
    step("build libmlxc", || build.mlx_c())?;
    step("generate bindings", || build.bindings())?;
    let checked = step("check a matrix product", || build.check());
    match checked {
        Ok(rate) => println!("  f32 matrix product: {rate} GFLOP/s"),
        // The wheel loads the driver's library, which a machine that only builds may lack.
        Err(error) if backend == Backend::Cuda => {
            println!("WARNING: MLX's CUDA library does not run on this machine: {error:#}");
        }
        Err(error) => return Err(error.context("native MLX was built but does not run")),
    }
    fs::remove_dir_all(partial.join("build"))?;

    let setup = json!({
        "backend": backend.name(),
        "mlx": MLX,
        "wheel": wheel,
        "blas": blas_name,
        "blas_choice": blas.to_possible_value().map(|value| value.get_name().to_owned()),
        "wall_ms": u64::try_from(start.elapsed().as_millis())?,
        "installed_bytes": bytes_in(&partial)? + bytes_in(&tools)?,
        "recipe": recipe,
    });
    fs::write(partial.join("setup.json"), format!("{setup:#}\n"))?;
    remove(native)?;
    fs::rename(&partial, native)?;
    Ok(setup)
}

/// Where Cargo unpacked mlx-sys, whose folder holds mlx-c's sources.
pub(crate) fn mlx_sys_folder(platform: &Platform) -> Result<PathBuf> {
    let metadata = quiet(&mut cargo(&[
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform",
        &platform.triple,
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cannot read cargo metadata")?;
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "mlx-sys")
        .and_then(|package| package["manifest_path"].as_str())
        .and_then(|manifest| Path::new(manifest).parent())
        .map(Path::to_owned)
        .context("mlx-sys is not among the workspace's dependencies")
}

/// The MLX release that mlx-c's `CMakeLists.txt` would fetch.
fn pinned_mlx(cmake: &str) -> Option<&str> {
    cmake.lines().find_map(|line| {
        let tag = line.trim().strip_prefix("GIT_TAG v")?;
        Some(tag.trim_end_matches(')').trim())
    })
}

impl Build<'_> {
    /// Runs the check program against the new libraries; returns the GFLOP/s that it measured.
    fn check(&self) -> Result<String> {
        let source = self.partial.join("build/check.c");
        let program = self.partial.join("build/check");
        let lib = self.partial.join("lib");
        fs::write(&source, CHECK_PROGRAM)?;
        let mut compile = command(&self.compilers.cc, ["-std=gnu11", "-O2"]);
        compile
            .arg(&source)
            .arg("-I")
            .arg(self.mlx_c)
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(&lib)
            .arg("-lmlxc")
            // Where MLX's own needs are missing, the loader names them better than the linker.
            .args(self.platform.linux.then_some("-Wl,--allow-shlib-undefined"))
            .args(rpath(&lib));
        quiet(&mut compile)?;
        Ok(quiet(&mut command(&program, [""; 0]))?.trim().to_owned())
    }
}

/// Removes a folder, if there is one.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The sizes of all files in a folder, links not followed.
fn bytes_in(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        bytes += if kind.is_dir() {
            bytes_in(&entry.path())?
        } else {
            kind.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_version_is_of_the_package_of_that_name() {
        let lock_file = "\
[[package]]
name = \"mlx-sys-extra\"
version = \"9.9.9\"

[[package]]
name = \"mlx-sys\"
version = \"0.7.0\"
";
        assert_eq!(
            locked_version(lock_file, "mlx-sys").as_deref(),
            Some("0.7.0")
        );
        assert_eq!(locked_version(lock_file, "mlx"), None);
    }

    #[test]
    fn the_mlx_that_mlx_c_pins_is_read_from_its_cmake_file() {
        let cmake = "  FetchContent_Declare(\n    mlx\n    GIT_TAG v0.32.2)\n";
        assert_eq!(pinned_mlx(cmake), Some("0.32.2"));
        assert_eq!(pinned_mlx("GIT_TAG main"), None);
    }

    fn check_choice(triple: &str, asked: Option<Backend>, in_force: &str, expected: Backend) {
        let platform = Platform::of(triple).unwrap();
        let chosen = choose(asked, in_force, &platform, Path::new("/lfmark")).unwrap();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn without_a_choice_the_backend_in_force_is_kept() {
        let linux = "x86_64-unknown-linux-gnu";
        let mac = "aarch64-apple-darwin";
        let cuda = native_config::text(
            &Platform::of(linux).unwrap(),
            Path::new("/lfmark/native/cuda"),
        );
        check_choice(linux, None, "", Backend::Cpu);
        check_choice(linux, None, &cuda, Backend::Cuda);
        check_choice(linux, Some(Backend::Cpu), &cuda, Backend::Cpu);
        check_choice(mac, None, "", Backend::Metal);
        check_choice(mac, None, SOURCE_CONFIG, Backend::Source);
    }

    #[test]
    fn a_backend_of_another_system_is_refused_with_those_there_are() {
        let platform = Platform::of("x86_64-unknown-linux-gnu").unwrap();
        let error = choose(Some(Backend::Metal), "", &platform, Path::new("/lfmark"));
        assert_eq!(
            error.unwrap_err().to_string(),
            "no metal backend on x86_64-unknown-linux-gnu; there are: cpu, cuda"
        );
    }

    #[test]
    fn another_version_choice_or_wheel_is_another_recipe() {
        let cpu = |blas, mlx_sys| recipe(Backend::Cpu, blas, mlx_sys, None);
        assert_eq!(cpu(Blas::Auto, "0.7.0"), cpu(Blas::Auto, "0.7.0"));
        assert_ne!(cpu(Blas::Auto, "0.7.0"), cpu(Blas::None, "0.7.0"));
        assert_ne!(cpu(Blas::Auto, "0.7.0"), cpu(Blas::Auto, "0.7.1"));
        let metal = |wheel| recipe(Backend::Metal, Blas::Auto, "0.7.0", Some(wheel));
        assert_ne!(metal("macosx_15_0_arm64"), metal("macosx_26_0_arm64"));
    }
}
