//! `cargo xtask check-mac --link`: every program of the workspace as a Mach-O file, without Apple's SDK.
//!
//! ```text
//! target/mac/zig/   Zig, from PyPI: it compiles what dependencies have in C and assembly
//!           /sdk/   stubs of the libraries that are linked, and the linker and C compiler as scripts
//! target/aarch64-apple-darwin/debug/   what is built
//! ```
//!
//! A stub is a text that names the symbols of a library. Those of the system are made from the reviewed
//! list, that of libmlxc from the bindings, so that the linker refuses whatever no Mac would have.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::check_mac::{TARGET, folder};
use crate::lint::install;
use crate::platform::MACOS_TARGET;
use crate::process::{cargo, command, quiet, show, target_folder};
use crate::setup::remove;

const LIST: &str = "crates/xtask/native/mac-symbols.txt";
const SYMBOLS: &str = include_str!("../native/mac-symbols.txt");
const ZIG: &str = "crates/xtask/native/zig.txt";
const LIBSYSTEM: &str = "/usr/lib/libSystem.B.dylib";
/// Other names of libSystem, by which the linker looks for it.
const ALSO_LIBSYSTEM: [&str; 2] = ["usr/lib/libc.tbd", "usr/lib/libm.tbd"];
const SCRIPTS: [(&str, &str); 3] = [
    ("ar", include_str!("../native/mac-ar.sh")),
    ("cc", include_str!("../native/mac-cc.sh")),
    ("ld", include_str!("../native/mac-ld.sh")),
];

/// Lints, builds and links with these arguments of Cargo.
///
/// # Errors
/// Zig could not be installed, a lint or the build failed, or a symbol is in no library: it is named.
pub(crate) fn build(arguments: &[String], bindings: &Path) -> Result<()> {
    let folder = folder()?;
    let zig = zig(&folder)?;
    let libraries = libraries(SYMBOLS)?;
    vouch(&libraries, &zig)?;
    let sdk = folder.join("sdk");
    let bindings = bindings.join("bindings.rs");
    let bindings = fs::read_to_string(&bindings)
        .with_context(|| format!("cannot read {}", bindings.display()))?;
    write(&sdk, &files(&libraries, &functions(&bindings)))?;

    // Clippy compiles as rustc does, so that one build is linted and linked; unoptimised, which does
    // not matter here.
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = quiet(&mut command(rustc, ["--print", "sysroot"]))?;
    let clippy = Path::new(sysroot.trim()).join("bin/clippy-driver");
    let target = TARGET.replace('-', "_");
    let mut cargo = cargo(&["build", "--keep-going"]);
    cargo
        .args(arguments)
        .arg("--config")
        .arg(format!(
            "target.{TARGET}.mlx.rustc-link-search=[{:?}]",
            format!("native={}", sdk.join("usr/lib").display())
        ))
        .env("RUSTC_WORKSPACE_WRAPPER", clippy)
        .env("RUSTFLAGS", "-Dwarnings -Clinker-flavor=ld64.lld")
        .env(
            format!("CARGO_TARGET_{}_LINKER", target.to_uppercase()),
            sdk.join("ld"),
        )
        .env(format!("CC_{target}"), sdk.join("cc"))
        .env(format!("AR_{target}"), sdk.join("ar"))
        .env("ZIG_GLOBAL_CACHE_DIR", folder.join("zig-cache"))
        .env("ZIG_LOCAL_CACHE_DIR", folder.join("zig-cache"))
        .env("SDKROOT", &sdk)
        .env("MACOSX_DEPLOYMENT_TARGET", MACOS_TARGET);
    run(&mut cargo)
}

/// Zig's folder, where it was installed now or before.
pub(crate) fn zig(folder: &Path) -> Result<PathBuf> {
    let zig = folder.join("zig");
    install(ZIG, &zig)?;
    Ok(zig.join("ziglang"))
}

/// The libraries of the list by their install names, and the symbols of each.
fn libraries(list: &str) -> Result<Vec<(&str, Vec<&str>)>> {
    let mut libraries: Vec<(&str, Vec<&str>)> = Vec::new();
    let lines = list.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match libraries.last_mut() {
            _ if line.starts_with('/') => libraries.push((line, Vec::new())),
            Some((_, symbols)) => symbols.push(line),
            None => bail!("{LIST}: {line} stands before any library"),
        }
    }
    Ok(libraries)
}

/// Checks that the real libSystem has what the list says of it.
fn vouch(libraries: &[(&str, Vec<&str>)], zig: &Path) -> Result<()> {
    let path = zig.join("lib/libc/darwin/libSystem.tbd");
    let real =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let real: BTreeSet<&str> = real
        .split(|c: char| c.is_whitespace() || "[],'".contains(c))
        .collect();
    let listed = libraries.iter().filter(|(name, _)| *name == LIBSYSTEM);
    let unknown: Vec<&str> = listed
        .flat_map(|(_, symbols)| symbols)
        .copied()
        .filter(|symbol| !real.contains(symbol))
        .collect();
    ensure!(
        unknown.is_empty(),
        "{LIST}: macOS's libSystem has no {}",
        unknown.join(", ")
    );
    Ok(())
}

/// The functions of mlx-c in its Rust bindings.
pub(crate) fn functions(bindings: &str) -> Vec<&str> {
    bindings
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("pub fn ")?.split_once('(')?.0))
        // The rest is the system's, of the headers that mlx-c includes.
        .filter(|name| name.trim_start_matches('_').starts_with("mlx_"))
        .collect()
}

/// Every file of the folder that stands in for an SDK.
fn files(libraries: &[(&str, Vec<&str>)], functions: &[&str]) -> Vec<(PathBuf, String)> {
    let mlxc: Vec<String> = functions.iter().map(|name| format!("_{name}")).collect();
    let mlxc: Vec<&str> = mlxc.iter().map(String::as_str).collect();
    let mut files: Vec<(PathBuf, String)> = SCRIPTS
        .iter()
        .map(|(name, text)| (PathBuf::from(name), (*text).to_owned()))
        .collect();
    for (name, symbols) in libraries {
        if *name == LIBSYSTEM {
            files.extend(ALSO_LIBSYSTEM.map(|place| (place.into(), stub(name, symbols))));
        }
        files.push((place(name), stub(name, symbols)));
    }
    let name = "@rpath/libmlxc.dylib";
    files.push((place(name), stub(name, &mlxc)));
    files
}

/// Where the linker looks for the stub of a library, in an SDK.
fn place(library: &str) -> PathBuf {
    let last = library.rsplit('/').next().unwrap_or(library);
    match library.split_once("/Versions/") {
        Some((framework, _)) => {
            Path::new(framework.trim_start_matches('/')).join(format!("{last}.tbd"))
        }
        None => {
            let name = last.split('.').next().unwrap_or(last);
            PathBuf::from(format!("usr/lib/{name}.tbd"))
        }
    }
}

/// A library as a text: its name and its symbols.
fn stub(library: &str, symbols: &[&str]) -> String {
    let symbols: Vec<String> = symbols.iter().map(|symbol| format!("'{symbol}'")).collect();
    format!(
        "--- !tapi-tbd\n\
         tbd-version: 4\n\
         targets: [ arm64-macos ]\n\
         install-name: '{library}'\n\
         exports:\n\
         \x20 - targets: [ arm64-macos ]\n\
         \x20   symbols: [ {} ]\n\
         ...\n",
        symbols.join(", ")
    )
}

/// Writes the files, where they are not there as they should be.
fn write(sdk: &Path, files: &[(PathBuf, String)]) -> Result<()> {
    if files
        .iter()
        .all(|(place, text)| fs::read_to_string(sdk.join(place)).is_ok_and(|found| found == *text))
    {
        return Ok(());
    }
    // Before the new stubs are there, since Cargo does not see that a program was linked with others.
    remove_programs()?;
    remove(sdk)?;
    for (place, text) in files {
        let path = sdk.join(place);
        fs::create_dir_all(path.parent().unwrap_or(sdk))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        if text.starts_with("#!") {
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// Removes every program that was linked for the target: alone of Cargo's files they have no ending.
fn remove_programs() -> Result<()> {
    let folder = target_folder()?.join(TARGET).join("debug/deps");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_none() && entry.file_type()?.is_file() {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Runs Cargo and passes its messages on.
fn run(cargo: &mut Command) -> Result<()> {
    let mut child = cargo
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", show(cargo)))?;
    let mut unknown = BTreeSet::new();
    for line in BufReader::new(child.stderr.take().context("no pipe")?).lines() {
        let line = line.context("cannot read what Cargo prints")?;
        eprintln!("{line}");
        unknown.extend(undefined(&line).map(String::from));
    }
    let status = child.wait()?;
    ensure!(
        unknown.is_empty(),
        "no library has {}: where macOS {MACOS_TARGET} has it, it is a line to add to {LIST}",
        Vec::from_iter(unknown).join(", ")
    );
    ensure!(
        status.success(),
        "failed ({status}); to run it again: {}",
        show(cargo)
    );
    Ok(())
}

/// The symbol that a line of the linker's message says is nowhere.
fn undefined(line: &str) -> Option<&str> {
    line.split_once("error: undefined symbol: ")
        .map(|(_, symbol)| symbol.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_names_the_library_and_its_symbols() {
        let expected = "\
--- !tapi-tbd
tbd-version: 4
targets: [ arm64-macos ]
install-name: '/usr/lib/libobjc.A.dylib'
exports:
  - targets: [ arm64-macos ]
    symbols: [ '_objc_msgSend', '_open$NOCANCEL' ]
...
";
        let symbols = ["_objc_msgSend", "_open$NOCANCEL"];
        assert_eq!(stub("/usr/lib/libobjc.A.dylib", &symbols), expected);
    }

    #[test]
    fn a_stub_stands_where_the_linker_looks() {
        for (library, expected) in [
            ("/usr/lib/libSystem.B.dylib", "usr/lib/libSystem.tbd"),
            ("/usr/lib/libIOReport.dylib", "usr/lib/libIOReport.tbd"),
            ("@rpath/libmlxc.dylib", "usr/lib/libmlxc.tbd"),
            (
                "/System/Library/Frameworks/IOKit.framework/Versions/A/IOKit",
                "System/Library/Frameworks/IOKit.framework/IOKit.tbd",
            ),
        ] {
            assert_eq!(place(library), Path::new(expected));
        }
    }

    #[test]
    fn symbols_belong_to_the_library_above_them() {
        let list = "# why\n/usr/lib/libA.dylib\n    _a\n    _b\n\n/usr/lib/libB.dylib\n";
        let expected = [
            ("/usr/lib/libA.dylib", vec!["_a", "_b"]),
            ("/usr/lib/libB.dylib", vec![]),
        ];
        assert_eq!(libraries(list).unwrap(), expected);
        let error = libraries("_a\n").unwrap_err().to_string();
        assert!(error.contains("_a stands before any library"), "{error}");
    }

    #[test]
    fn the_list_is_in_order_and_names_nothing_twice() {
        let mut seen = BTreeSet::new();
        for (library, symbols) in libraries(SYMBOLS).unwrap() {
            assert!(symbols.is_sorted(), "{library}");
            for symbol in symbols {
                assert!(seen.insert(symbol), "{symbol} is there twice");
            }
        }
    }

    #[test]
    fn the_functions_of_mlx_c_are_told_from_the_systems() {
        let bindings = "unsafe extern \"C\" {\n    pub fn mlx_abs(\n    pub fn _mlx_error(a: i32);\n\
                        \x20   pub fn atof(a: i32) -> f64;\n";
        assert_eq!(functions(bindings), ["mlx_abs", "_mlx_error"]);
    }

    #[test]
    fn the_linkers_message_names_the_symbol() {
        let message = "\
error: linking with `/src/target/mac/sdk/ld` failed: exit status: 1
  = note: rust-lld: error: undefined symbol: _logf
          >>> referenced by model.o:(symbol f32::ln+0xc)
          >>> did you mean: _log2
          rust-lld: error: undefined symbol: _readv
";
        let found: Vec<&str> = message.lines().filter_map(undefined).collect();
        assert_eq!(found, ["_logf", "_readv"]);
    }
}
