//! The build steps of a set-up: the library that Linux needs, libmlxc, and its bindings.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Blas;
use super::wheels::{OPENBLAS, pip_install};
use crate::platform::{MACOS_TARGET, Platform};
use crate::prerequisites::Compilers;
use crate::process::{command, quiet, step};

pub(super) const COMPAT_HEADER: &str = include_str!("../../native/mlxc_compat.h");
pub(super) const LINUX_LIBRARY: &str = include_str!("../../native/linux.c");

/// The places and programs that the build steps share.
pub(super) struct Build<'a> {
    pub(super) partial: &'a Path,
    pub(super) tools: &'a Path,
    pub(super) mlx_c: &'a Path,
    pub(super) platform: &'a Platform,
    pub(super) compilers: Compilers,
}

impl Build<'_> {
    /// Builds liblfmark_native.so with the first BLAS of `choice` that works; returns its name.
    pub(super) fn linux_library(&self, choice: Blas) -> Result<Option<String>> {
        let python = self.partial.join("python");
        if matches!(choice, Blas::Auto | Blas::Pypi) {
            let got = step(&format!("install {OPENBLAS}"), || {
                pip_install(&python, &[OPENBLAS.to_owned()], None)?;
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
    pub(super) fn mlx_c(&self) -> Result<()> {
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
        } else {
            // The oldest system that mlx-c's C++ is for; conda's variable names an older one.
            configure.arg(define("CMAKE_OSX_DEPLOYMENT_TARGET", MACOS_TARGET));
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
    pub(super) fn bindings(&self) -> Result<()> {
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
        bindings.env("LIBCLANG_PATH", self.libclang_folder()?);
        quiet(&mut bindings).map(drop)
    }

    /// Where libclang is: set-up's own, or that of Apple's tools, whose headers it reads. One that
    /// the environment names may be another compiler's.
    fn libclang_folder(&self) -> Result<PathBuf> {
        if self.platform.linux {
            return Ok(self.tools.join("clang/native"));
        }
        let developer = PathBuf::from(quiet(&mut command("xcode-select", ["-p"]))?.trim());
        let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
        libclang(&developer, named)
    }
}

/// The folder of libclang in Apple's developer folder, or else the one that LIBCLANG_PATH names.
fn libclang(developer: &Path, named: Option<PathBuf>) -> Result<PathBuf> {
    // Xcode keeps it in its toolchain, the Command Line Tools directly.
    let places = ["Toolchains/XcodeDefault.xctoolchain/usr/lib", "usr/lib"];
    let of_apple = places.map(|place| developer.join(place));
    let mut of_apple = of_apple.into_iter();
    of_apple
        .find(|folder| folder.join("libclang.dylib").is_file())
        .or(named)
        .with_context(|| {
            format!(
                "there is no libclang.dylib in {}: `xcode-select --install`, then \
                 `sudo xcode-select --switch /Library/Developer/CommandLineTools`",
                developer.display()
            )
        })
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn apples_own_libclang_goes_before_one_that_a_variable_names() {
        let developer = std::env::temp_dir().join(format!("lfmark-clang-{}", std::process::id()));
        let named = || Some(PathBuf::from("/other"));
        let error = libclang(&developer, None).unwrap_err().to_string();
        assert!(error.contains("xcode-select --install"), "{error}");
        assert_eq!(libclang(&developer, named()).unwrap(), Path::new("/other"));
        let own = developer.join("usr/lib");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("libclang.dylib"), "").unwrap();
        assert_eq!(libclang(&developer, named()).unwrap(), own);
        fs::remove_dir_all(developer).unwrap();
    }
}
