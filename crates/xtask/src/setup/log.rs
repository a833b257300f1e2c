//! `native/setup.log`: what a set-up saw and ran, for whoever has to find out why it failed.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;

use anyhow::{Context, Result};

use crate::process::{command, quiet, show};

/// Where the log is, from the repository's root.
pub(super) const PLACE: &str = "native/setup.log";

/// Variables that change what compilers, Python and libclang do.
pub(crate) const VARIABLES: [&str; 15] = [
    "MACOSX_DEPLOYMENT_TARGET",
    "SDKROOT",
    "DEVELOPER_DIR",
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "CPATH",
    "LDFLAGS",
    "LIBCLANG_PATH",
    "BINDGEN_EXTRA_CLANG_ARGS",
    "CONDA_PREFIX",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "RUSTFLAGS",
];

const PYTHON: &str = "import platform, sys; \
    print(sys.executable, sys.version, platform.machine(), platform.platform(), sep='\\n')";
const PLACES: &str =
    "for name in rustc cargo python3 cc c++ clang gcc cmake; do command -v $name; done";
/// Bytes of what a command printed that are worth keeping, from its end.
const TAIL: usize = 32 << 10;

/// The log of the set-up under way. Every command passes here, wherever it is run.
static OPEN: Mutex<Option<File>> = Mutex::new(None);

/// Writes to the log until it is dropped.
pub(super) struct Log;

impl Log {
    /// Replaces the log by one of this system.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn begin(root: &Path, linux: bool) -> Result<Self> {
        let file =
            File::create(root.join(PLACE)).with_context(|| format!("cannot write {PLACE}"))?;
        put(Some(file));
        let log = Self;
        for name in VARIABLES {
            let value = std::env::var_os(name);
            note(&format!(
                "{name}={}",
                value.unwrap_or_default().to_string_lossy()
            ));
        }
        for (program, args) in programs(linux) {
            // What is not there is in the log as such, and is no reason to stop.
            let _ = quiet(&mut command(program, args));
        }
        Ok(log)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        put(None);
    }
}

fn put(file: Option<File>) {
    if let Ok(mut open) = OPEN.lock() {
        *open = file;
    }
}

/// What is asked about a system.
fn programs(linux: bool) -> Vec<(&'static str, &'static [&'static str])> {
    let mut programs: Vec<(_, &[_])> = vec![
        ("date", &["-u"]),
        ("uname", &["-srm"]),
        ("sh", &["-c", PLACES]),
        ("rustc", &["-vV"]),
        ("cc", &["--version"]),
        ("c++", &["--version"]),
        ("python3", &["-c", PYTHON]),
    ];
    programs.extend(match linux {
        true => vec![("cat", &["/etc/os-release"] as &[_])],
        false => vec![
            ("sw_vers", &[] as &[_]),
            ("sysctl", &["-n", "machdep.cpu.brand_string"]),
            ("xcode-select", &["-p"]),
            ("xcrun", &["--show-sdk-path"]),
            ("xcrun", &["--show-sdk-version"]),
            (
                "pkgutil",
                &["--pkg-info", "com.apple.pkg.CLTools_Executables"],
            ),
        ],
    });
    programs
}

/// Adds a line, where a log is open. One that cannot be written does not stop a set-up.
pub(crate) fn note(line: &str) {
    if let Ok(mut open) = OPEN.lock()
        && let Some(file) = open.as_mut()
    {
        let _ = writeln!(file, "{line}");
    }
}

/// Adds a command with how it ended and what it printed.
pub(crate) fn ran(command: &Command, ended: &std::io::Result<Output>) {
    let ended = match ended {
        Err(error) => format!("cannot start: {error}"),
        Ok(output) => format!(
            "{}{}{}",
            tail(&output.stdout),
            tail(&output.stderr),
            output.status
        ),
    };
    note(&format!("\n$ {}\n{ended}", show(command)));
}

fn tail(printed: &[u8]) -> String {
    let left_out = printed.len().saturating_sub(TAIL);
    let text = String::from_utf8_lossy(&printed[left_out..]);
    match left_out {
        0 => text.into_owned(),
        _ => format!("({left_out} bytes left out) {text}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn of_much_output_the_end_is_kept() {
        assert_eq!(tail(b"short\n"), "short\n");
        let long = [vec![b'x'; TAIL], b"error\n".to_vec()].concat();
        let text = tail(&long);
        assert!(text.starts_with("(6 bytes left out) xx"), "{}", &text[..40]);
        assert!(text.ends_with("xxerror\n"));
    }

    #[test]
    fn a_log_has_variables_commands_and_what_they_printed_until_it_is_closed() {
        let root = std::env::temp_dir().join(format!("lfmark-log-{}", std::process::id()));
        fs::create_dir_all(root.join("native")).unwrap();
        let log = Log::begin(&root, true).unwrap();
        let said = ["-c", "echo seen; echo heard >&2; exit 3"];
        assert!(quiet(&mut command("sh", said)).is_err());
        assert!(quiet(&mut command("no-such-program-here", ["x"])).is_err());
        drop(log);
        assert!(quiet(&mut command("sh", ["-c", "echo later"])).is_ok());
        let text = fs::read_to_string(root.join(PLACE)).unwrap();
        fs::remove_dir_all(root).unwrap();
        for expected in [
            "MACOSX_DEPLOYMENT_TARGET=",
            "$ uname -srm\n",
            "exit 3'\nseen\nheard\nexit status: 3\n",
            "$ no-such-program-here x\ncannot start: ",
        ] {
            assert!(text.contains(expected), "{expected:?} in {text}");
        }
        assert!(!text.contains("later"), "{text}");
    }
}
