//! A folder to work in, and the program run in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use metrics::store::{self, Record};

/// Few iterations and few tokens: what is tested is not how long it takes.
pub(crate) const SHORT: &str = "run -o out --iterations 3 --max-tokens 4";

/// A run that nothing ends but the test, with steps as small as they get.
pub(crate) const ENDLESS: &str =
    "run -o out --iterations 1000000 --max-seq-length 8 --truncate --no-generation";

/// Tests run side by side. The threads of several OpenBLAS wait for each other by spinning, which
/// makes a step of milliseconds one of seconds where there are more threads than cores.
pub(crate) const ONE_THREAD: [(&str, &str); 1] = [("OPENBLAS_NUM_THREADS", "1")];

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Finished {
    /// The one JSON object on stdout.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        let value: serde_json::Value = serde_json::from_str(&self.stdout).expect("one JSON value");
        assert!(value.is_object(), "{value}");
        value
    }
}

/// A temporary folder; the program is run inside it, so that all paths are short.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new folder with this file in it.
    pub(crate) fn with(name: &str, text: impl AsRef<[u8]>) -> Self {
        let folder = Self::new();
        folder.write(name, text);
        folder
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The record of the run folder `out`.
    pub(crate) fn record(&self) -> Record {
        store::read(&self.path("out")).unwrap()
    }

    /// The program, not yet started, with arguments that hold no spaces.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lfmark"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .envs(ONE_THREAD)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn lfmark(&self, arguments: &str) -> Finished {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs the program, which has to succeed.
    pub(crate) fn ok(&self, arguments: &str) -> Finished {
        let finished = self.lfmark(arguments);
        assert_eq!(finished.code, Some(0), "{arguments}: {finished:?}");
        finished
    }

    /// Runs the program, which has to fail with this code and all of these in its message.
    pub(crate) fn check_error(&self, arguments: &str, code: i32, needles: &[&str]) {
        check_failed(arguments, &self.lfmark(arguments), code, needles);
    }

    /// As [`Folder::check_error`], for a run of which nothing may be left.
    pub(crate) fn check_nothing_run(&self, arguments: &str, code: i32, needles: &[&str]) {
        self.check_error(arguments, code, needles);
        assert!(!self.exists("out"), "{arguments}: left a run folder");
    }

    /// Copies the embedded model's files to the folder `model`.
    pub(crate) fn with_model() -> Self {
        let folder = Self::new();
        fs::create_dir(folder.path("model")).unwrap();
        for name in [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ] {
            let from = repository("crates/model/embedded").join(name);
            fs::copy(from, folder.path("model").join(name)).unwrap();
        }
        folder
    }

    /// Starts the program, waits until its record holds `ready`, hands it to `end`, and gives how
    /// it ended.
    pub(crate) fn end_early(
        &self,
        arguments: &str,
        ready: &str,
        end: impl FnOnce(&mut Child),
    ) -> Finished {
        self.end_when("out/record.jsonl", arguments, ready, end)
    }

    /// The same with another record.
    pub(crate) fn end_when(
        &self,
        record: &str,
        arguments: &str,
        ready: &str,
        end: impl FnOnce(&mut Child),
    ) -> Finished {
        let mut child = self.command(arguments).spawn().unwrap();
        // Only a guard against waiting for ever.
        let give_up = Instant::now() + Duration::from_secs(120);
        let record = self.path(record);
        while !fs::read_to_string(&record).is_ok_and(|text| text.contains(ready)) {
            let ended = child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > give_up {
                let _ = child.kill();
                panic!("{ended:?}: {:?}", child.wait_with_output());
            }
            thread::sleep(Duration::from_millis(10));
        }
        end(&mut child);
        child.wait_with_output().unwrap().into()
    }
}

/// What Ctrl-C in a terminal does.
pub(crate) fn interrupt(child: &mut Child) {
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// A failure tells its user what is wrong, once, and never as a panic.
pub(crate) fn check_failed(what: &str, finished: &Finished, code: i32, needles: &[&str]) {
    assert_eq!(finished.code, Some(code), "{what}: {finished:?}");
    let stderr = &finished.stderr;
    for needle in needles {
        assert!(
            stderr.contains(needle),
            "{what}: no `{needle}` in:\n{stderr}"
        );
    }
    for unwanted in ["panicked", "RUST_BACKTRACE"] {
        assert!(!stderr.contains(unwanted), "{what}: {stderr}");
    }
    for once in ["\nerror: ", "os error", "No such file"] {
        assert!(
            format!("\n{stderr}").matches(once).count() <= 1,
            "{what}: `{once}` stands twice in:\n{stderr}"
        );
    }
}
