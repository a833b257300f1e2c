//! What must be on the machine before set-up, and the exact fix for each thing missing.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::{command, quiet};

/// The oldest Python that MLX's wheels accept.
const PYTHON: (u32, u32) = (3, 8);
/// The oldest pip that knows the wheels' platform tag (`manylinux_2_35`).
const PIP: (u32, u32) = (20, 3);
/// The oldest pip that takes the build tools' wheels, for both kinds of Mac from macOS 10.9 on, on
/// Apple silicon.
const PIP_MAC: (u32, u32) = (21, 1);
/// The oldest glibc that MLX's wheels run on.
const GLIBC: (u32, u32) = (2, 35);
/// The oldest macOS that MLX's wheels run on.
const MACOS: (u32, u32) = (14, 0);

/// What a machine was found to have. Cargo itself enforces the Rust version.
#[derive(Clone, Default)]
pub(crate) struct Found {
    pub(crate) python: Option<(u32, u32)>,
    pub(crate) pip: Option<(u32, u32)>,
    /// What that Python was built for, where it is not the machine: pip takes wheels for it.
    pub(crate) foreign_python: Option<String>,
    /// A C compiler, which Rust's linker step needs as well.
    pub(crate) cc: Option<OsString>,
    /// A C++ compiler that accepts C++20.
    pub(crate) cxx: Option<OsString>,
    /// glibc on Linux, macOS itself there.
    pub(crate) system: Option<(u32, u32)>,
    /// The Command Line Tools (macOS only).
    pub(crate) developer_tools: bool,
}

/// The compilers set-up is to use.
pub(crate) struct Compilers {
    pub(crate) cc: OsString,
    pub(crate) cxx: OsString,
}

/// Looks for everything at once.
///
/// # Errors
/// Something is missing: all of it is listed, each with its fix.
pub(crate) fn check(linux: bool) -> Result<Compilers> {
    let found = probe(linux);
    let missing = missing(&found, linux);
    match (found.cc, found.cxx) {
        (Some(cc), Some(cxx)) if missing.is_empty() => Ok(Compilers { cc, cxx }),
        _ => bail!(
            "set-up needs what is missing here:\n- {}",
            missing.join("\n- ")
        ),
    }
}

/// One message for each thing missing: what, and the fix.
fn missing(found: &Found, linux: bool) -> Vec<String> {
    let mut missing = Vec::new();
    let install = |debian: &str, fedora: &str, mac: &str| {
        if linux {
            format!(
                "`apt-get install {debian}` (Debian, Ubuntu) or `dnf install {fedora}` (Fedora)"
            )
        } else {
            mac.to_owned()
        }
    };
    if !linux && !found.developer_tools {
        missing.push("Apple's Command Line Tools: `xcode-select --install`".to_owned());
    }
    let pip = if linux { PIP } else { PIP_MAC };
    let python = install(
        "python3 python3-pip",
        "python3 python3-pip",
        "`brew install python`",
    );
    match found.python {
        None => missing.push(format!("python3 {}: {python}", at_least(PYTHON))),
        Some(version) if version < PYTHON => missing.push(format!(
            "python3 {}, found {}: install a newer one and put it first on PATH: {python}",
            at_least(PYTHON),
            dotted(version)
        )),
        Some(_) => match found.pip {
            None => missing.push(format!(
                "pip for that python3: `python3 -m ensurepip --user`, or {python}"
            )),
            Some(version) if version < pip => missing.push(format!(
                "pip {}, found {}: `python3 -m pip install --user --upgrade pip`",
                at_least(pip),
                dotted(version)
            )),
            Some(_) => {}
        },
    }
    if let Some(foreign) = &found.foreign_python {
        // A Homebrew for Intel would install another one for Intel.
        let native = install(
            "python3 python3-pip",
            "python3 python3-pip",
            "Apple's own in /usr/bin, or that of a Homebrew in /opt/homebrew",
        );
        missing.push(format!(
            "a python3 for this machine, found one for {foreign}: put a native one first on PATH: \
             {native}"
        ));
    }
    let compilers = install(
        "gcc g++",
        "gcc gcc-c++",
        "`xcode-select --install`, or, where Xcode waits for its licence to be accepted, \
         `sudo xcodebuild -license accept`",
    );
    if found.cc.is_none() {
        missing.push(format!("a C compiler (cc, gcc, clang or $CC): {compilers}"));
    }
    if found.cxx.is_none() {
        missing.push(format!(
            "a C++20 compiler (c++, g++ 11 or newer, clang++ 14 or newer, or $CXX): {compilers}"
        ));
    }
    let (system, least, fix) = if linux {
        (
            "glibc",
            GLIBC,
            "a newer system, such as Debian 12 or Ubuntu 22.04",
        )
    } else {
        (
            "macOS",
            MACOS,
            "update it, or `cargo xtask setup --backend source`",
        )
    };
    if let Some(version) = found.system.filter(|version| *version < least) {
        missing.push(format!(
            "{system} {}, found {}: {fix}",
            at_least(least),
            dotted(version)
        ));
    }
    missing
}

fn probe(linux: bool) -> Found {
    let version = |program: &str, args: &[&str]| {
        quiet(&mut command(program, args))
            .ok()
            .and_then(|text| first_version(&text))
    };
    let machine = ["-c", "import platform; print(platform.machine())"];
    let machine = quiet(&mut command("python3", machine)).ok();
    Found {
        python: version("python3", &["--version"]),
        pip: version("python3", &["-m", "pip", "--version"]),
        foreign_python: machine.and_then(|machine| foreign(&machine, std::env::consts::ARCH)),
        cc: compiler(
            "CC",
            &["cc", "gcc", "clang"],
            "c11",
            "int main(void) { return 0; }\n",
        ),
        cxx: compiler(
            "CXX",
            &["c++", "g++", "clang++"],
            "c++20",
            "#include <concepts>\n#include <version>\n\
             template <std::integral T> T twice(T x) { return x + x; }\n\
             int main() { return twice(0); }\n",
        ),
        system: if linux {
            version("getconf", &["GNU_LIBC_VERSION"])
        } else {
            version("sw_vers", &["-productVersion"])
        },
        developer_tools: linux || quiet(&mut command("xcode-select", ["-p"])).is_ok(),
    }
}

/// Python's name of its machine, where it is another than the one that Rust calls `arch`.
fn foreign(machine: &str, arch: &str) -> Option<String> {
    let machine = machine.trim();
    // What Apple calls it.
    let name = if machine == "arm64" {
        "aarch64"
    } else {
        machine
    };
    (name != arch && !machine.is_empty()).then(|| machine.to_owned())
}

/// The first compiler, the user's choice before the usual names, that compiles `source`.
fn compiler(variable: &str, names: &[&str], standard: &str, source: &str) -> Option<OsString> {
    let chosen = std::env::var_os(variable).filter(|value| !value.is_empty());
    let candidates = match chosen {
        Some(chosen) => vec![chosen],
        None => names.iter().map(OsString::from).collect(),
    };
    let language = if standard.starts_with("c++") {
        "c++"
    } else {
        "c"
    };
    candidates.into_iter().find(|candidate| {
        let standard = format!("-std={standard}");
        let check = command(candidate, [&standard, "-x", language, "-fsyntax-only", "-"]);
        compiles(check, source).unwrap_or(false)
    })
}

fn compiles(mut check: Command, source: &str) -> std::io::Result<bool> {
    let mut child = check
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(source.as_bytes())?;
    }
    Ok(child.wait()?.success())
}

/// The first `major.minor` in a line such as `pip 23.2.1 from ...`.
pub(crate) fn first_version(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .find_map(|word| {
            let mut numbers = word.split('.');
            Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
        })
}

fn at_least(version: (u32, u32)) -> String {
    format!("{} or newer", dotted(version))
}

fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Found {
        Found {
            python: Some((3, 11)),
            pip: Some((23, 2)),
            foreign_python: None,
            cc: Some("cc".into()),
            cxx: Some("c++".into()),
            system: Some((14, 5)),
            developer_tools: true,
        }
    }

    fn check(found: &Found, linux: bool, expected: &[&str]) {
        let missing = missing(found, linux);
        assert_eq!(missing.len(), expected.len(), "{missing:#?}");
        for (message, part) in missing.iter().zip(expected) {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }

    #[test]
    fn nothing_is_missing_on_a_complete_machine() {
        check(&complete(), false, &[]);
        let system = Some((2, 36));
        check(
            &Found {
                system,
                ..complete()
            },
            true,
            &[],
        );
    }

    #[test]
    fn everything_missing_is_listed_at_once() {
        check(
            &Found::default(),
            true,
            &[
                "apt-get install python3 python3-pip",
                "apt-get install gcc g++",
                "C++20 compiler",
            ],
        );
        check(
            &Found::default(),
            false,
            &[
                "xcode-select --install",
                "brew install python",
                "a C compiler",
                "C++20",
            ],
        );
    }

    #[test]
    fn an_old_version_is_named_with_the_one_needed() {
        let old = Found {
            python: Some((3, 7)),
            system: Some((2, 31)),
            ..complete()
        };
        check(
            &old,
            true,
            &[
                "python3 3.8 or newer, found 3.7",
                "glibc 2.35 or newer, found 2.31",
            ],
        );
    }

    #[test]
    fn a_mac_needs_a_newer_pip_than_linux() {
        let found = Found {
            pip: Some((20, 3)),
            system: None,
            ..complete()
        };
        check(&found, true, &[]);
        check(&found, false, &["pip 21.1 or newer, found 20.3"]);
    }

    #[test]
    fn a_python_for_intel_on_apple_silicon_is_named() {
        let check = |machine: &str, arch: &str, expected: Option<&str>| {
            assert_eq!(foreign(machine, arch).as_deref(), expected, "{machine}");
        };
        check("arm64\n", "aarch64", None);
        check("aarch64\n", "aarch64", None);
        check("x86_64\n", "x86_64", None);
        check("x86_64\n", "aarch64", Some("x86_64"));
        check("", "aarch64", None);
        let found = Found {
            foreign_python: Some("x86_64".to_owned()),
            ..complete()
        };
        let missing = missing(&found, false);
        assert!(missing[0].contains("found one for x86_64"), "{missing:?}");
        assert!(missing[0].contains("/usr/bin"), "{missing:?}");
        assert_eq!(missing.len(), 1);
    }

    #[test]
    fn python_without_pip_is_told_how_to_get_it() {
        let found = Found {
            pip: None,
            system: None,
            ..complete()
        };
        check(&found, true, &["python3 -m ensurepip --user"]);
    }

    #[test]
    fn a_version_is_read_wherever_it_stands() {
        for (text, expected) in [
            ("Python 3.11.7", Some((3, 11))),
            (
                "pip 23.2.1 from /opt/python3/pip (python 3.11)",
                Some((23, 2)),
            ),
            ("glibc 2.36", Some((2, 36))),
            ("14.5", Some((14, 5))),
            ("Python 3", None),
            ("no version", None),
        ] {
            assert_eq!(first_version(text), expected, "{text}");
        }
    }

    #[test]
    fn a_compiler_is_taken_only_if_it_compiles() {
        let valid = "int main(void) { return 0; }\n";
        assert_eq!(compiler("", &["no-such-compiler-here"], "c11", valid), None);
        assert_eq!(compiler("", &["cc"], "c11", valid), Some("cc".into()));
        assert_eq!(compiler("", &["cc"], "c11", "not C\n"), None);
    }
}
