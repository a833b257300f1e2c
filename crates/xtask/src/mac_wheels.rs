//! `cargo xtask check-mac --wheels`: whether MLX's wheel for every macOS has what mlx-c needs.
//!
//! mlx-c is compiled for Apple silicon, as set-up does it on a Mac, and the symbols that it needs are
//! looked for in the wheel's libmlx. The bindings' functions have to be in mlx-c. A test holds that
//! this was done for the MLX that is pinned.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSymbol};

use crate::check_mac::folder;
use crate::mac_link::{functions, zig};
use crate::process::{command, quiet, root, step};
use crate::setup::wheels::{MLX, pip_install};
use crate::setup::{self, locked_version, mlx_sys_folder, remove};

/// What was found; committed.
const RESULT: &str = "crates/xtask/native/mac-wheels.txt";
/// The systems that MLX has wheels for.
const SYSTEMS: [&str; 3] = ["14", "15", "26"];

/// Compares, and writes the result.
///
/// # Errors
/// Something could not be installed or compiled, or a symbol is missing: it is named.
pub(crate) fn check() -> Result<()> {
    let host = setup::host()?;
    ensure!(
        host.linux,
        "this is a check from Linux; on a Mac `cargo xtask setup` shows it"
    );
    let native = setup::setup(None, None)?.context("on Linux set-up installs native MLX")?;
    let bindings = fs::read_to_string(native.join("bindings/bindings.rs"))?;
    let functions = functions(&bindings);
    let mlx_c = mlx_sys_folder(&host)?.join("src/mlx-c");
    let lock_file = fs::read_to_string(root().join("Cargo.lock"))?;
    let mlx_sys = locked_version(&lock_file, "mlx-sys").context("Cargo.lock has no mlx-sys")?;
    let folder = folder()?;
    let zig = zig(&folder)?;

    let wheel = folder.join("wheel");
    let mut result = heading(&mlx_sys);
    for system in SYSTEMS {
        remove(&wheel)?;
        let platform = format!("macosx_{system}_0_arm64");
        step(&format!("install MLX {MLX} for macOS {system}"), || {
            let package = format!("mlx-metal=={MLX}");
            pip_install(&wheel, &[package], Some(&platform))
        })?;
        let object = wheel.join("mlxc.o");
        step("compile mlx-c", || {
            compile(&zig, &mlx_c, &wheel.join("mlx/include"), &object)
        })?;
        let mlxc = Symbols::of(&object)?;
        let mlx = Symbols::of(&wheel.join("mlx/lib/libmlx.dylib"))?;
        let declared = functions.iter().map(|name| format!("_{name}")).collect();
        let count = lacking("mlx-c", &declared, &mlxc)?;
        result += &format!("macOS {system}: mlx-c has all {count} functions of the bindings, ");
        // The rest is of the C++ library, which comes with the system.
        let needed = mlxc.undefined.iter().filter(|name| name.contains("3mlx"));
        let count = lacking("libmlx.dylib", &needed.cloned().collect(), &mlx)?;
        result += &format!("libmlx.dylib all {count} symbols that mlx-c needs of it\n");
    }
    remove(&wheel)?;
    print!("{result}");
    fs::write(root().join(RESULT), result).with_context(|| format!("cannot write {RESULT}"))
}

/// The first lines of the result: what was compared.
fn heading(mlx_sys: &str) -> String {
    format!(
        "# What `cargo xtask check-mac --wheels` found.\nMLX {MLX}, mlx-c of mlx-sys {mlx_sys}\n"
    )
}

/// Compiles all of mlx-c to one object file.
fn compile(zig: &Path, mlx_c: &Path, headers: &Path, object: &Path) -> Result<()> {
    let mut sources: Vec<_> = fs::read_dir(mlx_c.join("mlx/c"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|ending| ending == "cpp"));
    sources.sort();
    let all: String = sources
        .iter()
        .map(|path| format!("#include {path:?}\n"))
        .collect();
    let source = object.with_extension("cpp");
    fs::write(&source, all)?;
    let mut compile = command(zig.join("zig"), ["c++", "-std=c++20", "-c"]);
    compile
        .args(["-target", "aarch64-macos.14.0", "-fno-sanitize=undefined"])
        // Zig's C++ library loses these macros of C's.
        .arg("-DNAN=__builtin_nanf(\"\")")
        .arg("-DINFINITY=__builtin_inff()")
        .arg("-DHUGE_VAL=__builtin_huge_val()")
        .arg("-I")
        .arg(mlx_c)
        .arg("-I")
        .arg(headers)
        .arg(&source)
        .arg("-o")
        .arg(object);
    quiet(&mut compile).map(drop)
}

/// The symbols of an object file or a library.
struct Symbols {
    defined: BTreeSet<String>,
    undefined: BTreeSet<String>,
}

impl Symbols {
    fn of(path: &Path) -> Result<Self> {
        let unreadable = || format!("cannot read {}", path.display());
        let bytes = fs::read(path).with_context(unreadable)?;
        let file = object::File::parse(&*bytes).with_context(unreadable)?;
        let named = |undefined| {
            file.symbols()
                .filter(|symbol| symbol.is_undefined() == undefined)
                .filter(ObjectSymbol::is_global)
                .filter_map(|symbol| symbol.name().ok().map(String::from))
                .collect()
        };
        Ok(Self {
            defined: named(false),
            undefined: named(true),
        })
    }
}

/// The number of symbols wanted, which all have to be there.
fn lacking(library: &str, wanted: &BTreeSet<String>, found: &Symbols) -> Result<usize> {
    let missing: Vec<&str> = wanted
        .difference(&found.defined)
        .map(String::as_str)
        .collect();
    ensure!(!wanted.is_empty(), "nothing is wanted of {library}");
    ensure!(
        missing.is_empty(),
        "{library} has no {}",
        missing.join(", ")
    );
    Ok(wanted.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheels_were_checked_for_the_pinned_mlx() {
        let lock_file = fs::read_to_string(root().join("Cargo.lock")).unwrap();
        let mlx_sys = locked_version(&lock_file, "mlx-sys").unwrap();
        let result = fs::read_to_string(root().join(RESULT)).unwrap();
        let fix = "run `cargo xtask check-mac --wheels` and commit what it writes";
        let systems = result.strip_prefix(&heading(&mlx_sys)).expect(fix);
        let lines: Vec<&str> = systems.lines().collect();
        assert_eq!(lines.len(), SYSTEMS.len(), "{fix}");
        for (line, system) in lines.iter().zip(SYSTEMS) {
            assert!(line.starts_with(&format!("macOS {system}: ")), "{fix}");
        }
    }

    #[test]
    fn a_missing_symbol_is_named() {
        let set = |names: &[&str]| names.iter().copied().map(String::from).collect();
        let found = Symbols {
            defined: set(&["_a", "_b"]),
            undefined: set(&["_c"]),
        };
        assert_eq!(lacking("libmlx", &set(&["_a"]), &found).unwrap(), 1);
        let error = lacking("libmlx", &set(&["_a", "_c"]), &found).unwrap_err();
        assert_eq!(error.to_string(), "libmlx has no _c");
    }
}
