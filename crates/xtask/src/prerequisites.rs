//! What must be on the machine before set-up, and the exact fix for each thing missing.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::{command, quiet};
use crate::setup::log;

/// The oldest Python that MLX's wheels accept.
const PYTHON: (u32, u32) = (3, 8);
/// The Pythons that all packages have wheels for which the peers and the fixtures pin.
const PINNED: [(u32, u32); 2] = [(3, 11), (3, 14)];
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
    /// What the variables `CC` and `CXX` name, which is taken or nothing is.
    pub(crate) named: [Option<OsString>; 2],
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

/// Whether python3 is one that what needs pinned packages can be installed with.
///
/// # Errors
/// It is another, or there is none: with the way to one.
pub(crate) fn pinned_python(verb: &str, linux: bool) -> Result<()> {
    let printed = quiet(&mut command("python3", ["--version"])).unwrap_or_default();
    match wrong_python(first_version(&printed), verb, linux) {
        Some(message) => bail!(message),
        None => Ok(()),
    }
}

fn wrong_python(found: Option<(u32, u32)>, verb: &str, linux: bool) -> Option<String> {
    let [oldest, newest] = PINNED;
    if found.is_some_and(|found| (oldest..=newest).contains(&found)) {
        return None;
    }
    let fix = match linux {
        true => format!(
            "put one first on PATH (Debian 12 and Ubuntu 24.04 have one: `apt-get install python3 \
             python3-venv`), then `{verb}` again"
        ),
        false => format!(
            "`brew install python@3.13`, then `PATH=\"$(brew --prefix python@3.13)/libexec/bin:$PATH\" \
             {verb}`; without Homebrew, one from https://www.python.org/downloads/macos/"
        ),
    };
    Some(format!(
        "`{verb}` needs python3 from {} to {}, found {}: {fix}",
        dotted(oldest),
        dotted(newest),
        found.map_or("none".to_owned(), dotted)
    ))
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
        "Apple's own is /usr/bin/python3: `PATH=\"/usr/bin:$PATH\" cargo xtask setup`",
    );
    match found.python {
        None => missing.push(format!("python3 {}: {python}", at_least(PYTHON))),
        Some(version) if version < PYTHON => missing.push(format!(
            "python3 {} first on PATH, found {}: {python}",
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
            "Apple's own is in /usr/bin (`PATH=\"/usr/bin:$PATH\" cargo xtask setup`), or that of a \
             Homebrew in /opt/homebrew/bin",
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
    missing.extend(missing_compilers(found, &compilers));
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

/// The compilers that are missing, where the fix is to install `compilers`.
fn missing_compilers(found: &Found, compilers: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let [cc, cxx] = &found.named;
    let fix = |variable: &str, named: &Option<OsString>| match named {
        Some(named) => format!(
            "{variable}={} does not compile it: `unset {variable}`, or {compilers}",
            named.to_string_lossy()
        ),
        None => compilers.to_owned(),
    };
    if found.cc.is_none() {
        missing.push(format!(
            "a C compiler (cc, gcc, clang or $CC): {}",
            fix("CC", cc)
        ));
    }
    if found.cxx.is_none() {
        missing.push(format!(
            "a C++20 compiler (c++, g++ 11 or newer, clang++ 14 or newer, or $CXX): {}",
            fix("CXX", cxx)
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
        named: [named("CC"), named("CXX")],
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

/// What a variable names.
fn named(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// The first compiler, the user's choice before the usual names, that compiles `source`.
fn compiler(variable: &str, names: &[&str], standard: &str, source: &str) -> Option<OsString> {
    let candidates = match named(variable) {
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
    let ended = check
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(source.as_bytes())?;
            }
            child.wait_with_output()
        });
    log::ran(&check, &ended);
    Ok(ended?.status.success())
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
            named: [None, None],
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
                "/usr/bin/python3",
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
                "python3 3.8 or newer first on PATH, found 3.7",
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
    fn a_compiler_that_a_variable_names_is_named() {
        let found = Found {
            cxx: None,
            named: [None, Some("conda-c++".into())],
            ..complete()
        };
        check(
            &found,
            false,
            &["CXX=conda-c++ does not compile it: `unset CXX`"],
        );
    }

    #[test]
    fn pinned_packages_need_a_python_that_they_have_wheels_for() {
        let wrong = |found, linux| wrong_python(found, "cargo xtask peers", linux);
        for right in [(3, 11), (3, 14)] {
            assert_eq!(wrong(Some(right), false), None);
        }
        for (found, linux, expected) in [
            (Some((3, 9)), false, "found 3.9: `brew install python@3.13`"),
            (Some((3, 15)), false, "from 3.11 to 3.14, found 3.15"),
            (None, true, "found none: put one first on PATH"),
        ] {
            let message = wrong(found, linux).unwrap();
            assert!(message.contains(expected), "{message}");
        }
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
