//! Installs native MLX under `native/<backend>/` and points Cargo at it.
//!
//! ```text
//! native/tools/              cmake, ninja and libclang, from PyPI
//! native/<backend>/python/   MLX's wheel (and OpenBLAS's), unpacked
//!                 /lib/      libmlxc, built from mlx-sys's own sources; liblfmark_native (Linux)
//!                 /bindings/ bindings.rs
//!                 /setup.json what was installed, and what that cost
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

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::native_config;
use crate::platform::Platform;
use crate::prerequisites::{self, Compilers};
use crate::process::{cargo, command, quiet, root, step};

/// The MLX release that mlx-sys is written against; set-up checks that the two agree.
pub(crate) const MLX: &str = "0.32.2";
const OPENBLAS: &str = "scipy-openblas32==0.3.34.481.3";
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

const COMPAT_HEADER: &str = include_str!("../native/mlxc_compat.h");
const LINUX_LIBRARY: &str = include_str!("../native/linux.c");
const CHECK_PROGRAM: &str = include_str!("../native/check.c");

/// What `.cargo/mlx.toml` says when mlx-sys is to build MLX from source.
const SOURCE_CONFIG: &str =
    "# Written by `cargo xtask setup --backend source`: mlx-sys builds MLX itself.\n";

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

    fn wheels(self) -> Vec<String> {
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
    // pip chooses the wheel by it.
    let system = match platform.linux {
        true => String::new(),
        false => quiet(&mut command("sw_vers", ["-productVersion"]))?,
    };
    let recipe = recipe(backend, blas, &mlx_sys, major(&system));

    let current = installed.filter(|installed| installed["recipe"] == recipe.as_str());
    let up_to_date = current.is_some();
    let installed = match current {
        Some(installed) => installed,
        None => install(&root, &native, backend, blas, &platform, &recipe)?,
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
fn recipe(backend: Backend, blas: Blas, mlx_sys: &str, system: &str) -> String {
    // Not stable across Rust releases; a new one then merely sets up again.
    let mut hasher = DefaultHasher::new();
    (backend.name(), format!("{blas:?}"), mlx_sys, system).hash(&mut hasher);
    (
        include_str!("setup.rs"),
        COMPAT_HEADER,
        LINUX_LIBRARY,
        CHECK_PROGRAM,
    )
        .hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The first number of a version.
fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default().trim()
}

/// The version of a package in the text of a `Cargo.lock`.
pub(crate) fn locked_version(lock_file: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock_file.lines().skip_while(|line| *line != name);
    let version = lines.nth(1)?.strip_prefix("version = \"")?;
    Some(version.strip_suffix('"')?.to_owned())
}

fn install(
    root: &Path,
    native: &Path,
    backend: Backend,
    blas: Blas,
    platform: &Platform,
    recipe: &str,
) -> Result<Value> {
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
        "mlx-sys pins MLX {}, this set-up installs {MLX}: change MLX in crates/xtask/src/setup.rs",
        pinned_mlx(&pinned).unwrap_or("nothing")
    );
    let tools = install_tools(root, platform)?;

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
        pip_install(&partial.join("python"), &backend.wheels())
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

/// Installs the build tools, unless these versions are there.
fn install_tools(root: &Path, platform: &Platform) -> Result<PathBuf> {
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
        pip_install(&partial, &wheels)?;
        fs::write(partial.join("versions.txt"), &versions)?;
        remove(&tools)?;
        Ok(fs::rename(&partial, &tools)?)
    })?;
    Ok(tools)
}

/// Unpacks wheels into a folder of their own; the user's Python is left as it is. The wheels are
/// what pip is to be told of them.
pub(crate) fn pip_install(folder: &Path, wheels: &[String]) -> Result<()> {
    let mut pip = command("python3", ["-m", "pip", "install", "--no-deps", "--target"]);
    pip.arg(folder)
        .args([
            "--only-binary",
            ":all:",
            "--no-compile",
            "--no-warn-script-location",
            // The wheels' libraries are wanted, not their Python: the Command Line Tools of macOS
            // bring a Python that is older than mlx-metal asks for.
            "--ignore-requires-python",
        ])
        .args(["--disable-pip-version-check", "--no-input", "--quiet"])
        .args(wheels)
        // Settings for installing into an environment, which this does not do.
        .env("PIP_USER", "0")
        .env("PIP_REQUIRE_VIRTUALENV", "0")
        // macOS tells a Python that was built for an older one that it is 16, and pip then takes
        // the wheel for macOS 15.
        .env("SYSTEM_VERSION_COMPAT", "0")
        .env("PIP_BREAK_SYSTEM_PACKAGES", "1");
    quiet(&mut pip).context("cannot install from PyPI (is there network access?)")?;
    Ok(())
}

/// The places and programs that the build steps share.
struct Build<'a> {
    partial: &'a Path,
    tools: &'a Path,
    mlx_c: &'a Path,
    platform: &'a Platform,
    compilers: Compilers,
}

impl Build<'_> {
    /// Builds liblfmark_native.so with the first BLAS of `choice` that works; returns its name.
    fn linux_library(&self, choice: Blas) -> Result<Option<String>> {
        let python = self.partial.join("python");
        if matches!(choice, Blas::Auto | Blas::Pypi) {
            let got = step(&format!("install {OPENBLAS}"), || {
                pip_install(&python, &[OPENBLAS.to_owned()])?;
                let library = python.join("scipy_openblas32/lib/libscipy_openblas.so");
                let rpath = "-Wl,-rpath,$ORIGIN/../python/scipy_openblas32/lib";
                self.compile_linux_library(&["-DFORWARD_SCIPY_OPENBLAS", &text(&library), rpath])
            });
            match got {
                Ok(()) => return Ok(Some(format!("OpenBLAS ({})", OPENBLAS.replace("==", " ")))),
                Err(error) if choice == Blas::Pypi => return Err(error),
                Err(error) => println!("WARNING: no OpenBLAS from PyPI: {error:#}"),
            }
        }
        if matches!(choice, Blas::Auto | Blas::System) {
            let got = step("look for the system's OpenBLAS", || {
                // Without root, ldconfig is often not on PATH.
                let listed = quiet(&mut command("ldconfig", ["-p"]))
                    .or_else(|_| quiet(&mut command("/sbin/ldconfig", ["-p"])))?;
                let library = system_openblas(&listed, std::env::consts::ARCH)
                    .context("`ldconfig -p` lists no libopenblas.so.0")?;
                // Needed by this library, it stands before the wheel's BLAS in the search order.
                self.compile_linux_library(&["-Wl,--no-as-needed", library])?;
                Ok(format!("OpenBLAS {library}"))
            });
            match got {
                Ok(name) => return Ok(Some(name)),
                Err(error) if choice == Blas::System => return Err(error),
                Err(error) => println!("WARNING: no OpenBLAS on the system: {error:#}"),
            }
        }
        step("build liblfmark_native", || self.compile_linux_library(&[]))?;
        Ok(None)
    }

    fn compile_linux_library(&self, blas: &[&str]) -> Result<()> {
        let source = self.partial.join("build/linux.c");
        fs::write(&source, LINUX_LIBRARY)?;
        let mut compile = command(
            &self.compilers.cc,
            ["-std=gnu11", "-O2", "-fPIC", "-shared"],
        );
        compile
            .arg(&source)
            .arg("-Wl,-soname,liblfmark_native.so")
            .arg("-o")
            .arg(self.partial.join("lib/liblfmark_native.so"))
            .args(blas);
        quiet(&mut compile).map(drop)
    }

    /// Builds libmlxc against the wheel's MLX.
    fn mlx_c(&self) -> Result<()> {
        let build = self.partial.join("build/mlx-c");
        let mlx = self.partial.join("python/mlx");
        let origin = self.platform.origin;
        // The CUDA wheel's own package asks for the whole CUDA toolkit, which linking does not need.
        let package = self.partial.join("build/mlx");
        fs::create_dir_all(&package)?;
        fs::write(
            package.join("MLXConfig.cmake"),
            cmake_package(&mlx, self.platform.library),
        )?;
        let mut configure = self.cmake();
        configure
            .arg("-S")
            .arg(self.mlx_c)
            .arg("-B")
            .arg(&build)
            .args([
                "-G",
                "Ninja",
                "-DCMAKE_BUILD_TYPE=Release",
                "-DBUILD_SHARED_LIBS=ON",
            ])
            .args(["-DMLX_C_USE_SYSTEM_MLX=ON", "-DMLX_C_BUILD_EXAMPLES=OFF"])
            // Every source includes all of MLX; several at a time take a third of the time.
            .args(["-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=7"])
            .arg(define(
                "CMAKE_MAKE_PROGRAM",
                &text(&self.tools.join("bin/ninja")),
            ))
            .arg(define(
                "CMAKE_C_COMPILER",
                &self.compilers.cc.to_string_lossy(),
            ))
            .arg(define(
                "CMAKE_CXX_COMPILER",
                &self.compilers.cxx.to_string_lossy(),
            ))
            .arg(define("MLX_DIR", &text(&package)))
            .arg(define(
                "CMAKE_LIBRARY_OUTPUT_DIRECTORY",
                &text(&self.partial.join("lib")),
            ))
            // Relative to libmlxc, so that the folder can be renamed.
            .arg("-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON")
            .arg(define(
                "CMAKE_INSTALL_RPATH",
                &format!("{origin};{origin}/../python/mlx/lib"),
            ));
        if self.platform.linux {
            configure
                // The include folder is for CMake's own compiler check, which includes the header, too.
                .arg(define(
                    "CMAKE_CXX_FLAGS",
                    &format!(
                        "-I\"{}\" -include \"{}\"",
                        mlx.join("include").display(),
                        self.compat_header()?.display()
                    ),
                ))
                // Before libmlx in libmlxc's needs, so that its BLAS is found first.
                .arg(define(
                    "CMAKE_SHARED_LINKER_FLAGS",
                    &format!(
                        "-Wl,--no-as-needed \"{}\" -Wl,--as-needed",
                        self.partial.join("lib/liblfmark_native.so").display()
                    ),
                ));
        }
        quiet(&mut configure)?;
        quiet(self.cmake().arg("--build").arg(&build)).map(drop)
    }

    fn cmake(&self) -> std::process::Command {
        let mut cmake = command("python3", ["-m", "cmake"]);
        cmake.env("PYTHONPATH", self.tools);
        cmake
    }

    fn compat_header(&self) -> Result<PathBuf> {
        let header = self.partial.join("build/mlxc_compat.h");
        fs::write(&header, COMPAT_HEADER)?;
        Ok(header)
    }

    /// Generates `bindings.rs`.
    fn bindings(&self) -> Result<()> {
        let clang_args = if self.platform.linux {
            // PyPI's libclang comes without the compiler's own headers.
            let builtin = quiet(&mut command(
                &self.compilers.cc,
                ["-print-file-name=include"],
            ))?;
            let header = text(&self.compat_header()?);
            vec![
                "-include".to_owned(),
                header,
                "-isystem".to_owned(),
                builtin.trim().to_owned(),
            ]
        } else {
            let sdk = quiet(&mut command("xcrun", ["--show-sdk-path"]))?;
            vec!["-isysroot".to_owned(), sdk.trim().to_owned()]
        };
        // libclang's place is read from the environment, which only a new process can be given.
        let mut bindings = command(std::env::current_exe()?, ["bindings"]);
        bindings
            .arg(self.mlx_c)
            .arg(self.partial.join("bindings/bindings.rs"))
            .arg("--")
            .args(clang_args);
        if std::env::var_os("LIBCLANG_PATH").is_none() {
            bindings.env("LIBCLANG_PATH", self.libclang_folder()?);
        }
        quiet(&mut bindings).map(drop)
    }

    fn libclang_folder(&self) -> Result<PathBuf> {
        if self.platform.linux {
            return Ok(self.tools.join("clang/native"));
        }
        let developer = PathBuf::from(quiet(&mut command("xcode-select", ["-p"]))?.trim());
        // Xcode keeps it in its toolchain, the Command Line Tools directly.
        let toolchain = developer.join("Toolchains/XcodeDefault.xctoolchain/usr/lib");
        Ok(if toolchain.is_dir() {
            toolchain
        } else {
            developer.join("usr/lib")
        })
    }

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
            .arg(format!("-Wl,-rpath,{}", lib.display()));
        quiet(&mut compile)?;
        Ok(quiet(&mut command(&program, [""; 0]))?.trim().to_owned())
    }
}

/// A CMake package of the MLX library in `mlx`, a wheel's folder.
fn cmake_package(mlx: &Path, library: &str) -> String {
    let mlx = mlx.display();
    format!(
        "add_library(mlx SHARED IMPORTED)\n\
         set_target_properties(mlx PROPERTIES\n\
         IMPORTED_LOCATION \"{mlx}/lib/libmlx.{library}\"\n\
         INTERFACE_INCLUDE_DIRECTORIES \"{mlx}/include\"\n\
         INTERFACE_COMPILE_FEATURES cxx_std_20)\n"
    )
}

/// The path of a 32-bit-integer OpenBLAS for this architecture in the output of `ldconfig -p`.
fn system_openblas<'a>(listed: &'a str, arch: &str) -> Option<&'a str> {
    let arch = match arch {
        "x86_64" => "x86-64",
        "aarch64" => "AArch64",
        other => other,
    };
    listed.lines().find_map(|line| {
        let (name, path) = line.trim().split_once(" => ")?;
        let right = name.starts_with("libopenblas.so.0 ") && name.contains(arch);
        right.then_some(path)
    })
}

fn define(name: &str, value: &str) -> String {
    format!("-D{name}={value}")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
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

    #[test]
    fn the_system_openblas_has_the_right_integers_and_architecture() {
        let listed = "\
3 libs found in cache `/etc/ld.so.cache'
\tlibopenblas64.so.0 (libc6,x86-64) => /lib/x86_64-linux-gnu/libopenblas64.so.0
\tlibopenblas.so.0 (libc6,AArch64) => /lib/aarch64-linux-gnu/libopenblas.so.0
\tlibopenblas.so.0 (libc6,x86-64) => /lib/x86_64-linux-gnu/libopenblas.so.0
";
        let found = |arch| system_openblas(listed, arch);
        assert_eq!(
            found("x86_64"),
            Some("/lib/x86_64-linux-gnu/libopenblas.so.0")
        );
        assert_eq!(
            found("aarch64"),
            Some("/lib/aarch64-linux-gnu/libopenblas.so.0")
        );
        assert_eq!(found("riscv64"), None);
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
    fn every_wheel_is_pinned() {
        for backend in Backend::value_variants() {
            for wheel in backend.wheels() {
                assert!(wheel.contains("=="), "{wheel}");
            }
        }
    }

    #[test]
    fn another_version_or_choice_is_another_recipe() {
        let first = recipe(Backend::Cpu, Blas::Auto, "0.7.0", "");
        assert_eq!(first, recipe(Backend::Cpu, Blas::Auto, "0.7.0", ""));
        assert_ne!(first, recipe(Backend::Cpu, Blas::None, "0.7.0", ""));
        assert_ne!(first, recipe(Backend::Cpu, Blas::Auto, "0.7.1", ""));
    }

    #[test]
    fn an_update_of_macos_to_another_major_version_is_another_recipe() {
        let on = |version| recipe(Backend::Metal, Blas::Auto, "0.7.0", major(version));
        assert_eq!(on("26.1\n"), on("26.2.1\n"));
        assert_ne!(on("15.6\n"), on("26.2\n"));
    }
}
