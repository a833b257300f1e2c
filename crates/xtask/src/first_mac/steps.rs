//! The steps, in a table, and the few that are more than a command.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::child::{self, Ended, Started, end_of};
use super::texts;
use crate::process::{command, show};
use crate::setup::log::VARIABLES;

/// Where everything is, and what is asked for.
pub(super) struct At {
    pub(super) root: PathBuf,
    /// Of the programs that Cargo builds.
    pub(super) folder: PathBuf,
    pub(super) cargo: PathBuf,
    pub(super) xtask: PathBuf,
    pub(super) profile: String,
    /// A folder for what steps write.
    pub(super) scratch: PathBuf,
    /// Where programs are looked for, if not where they are always.
    pub(super) path: Option<OsString>,
    pub(super) mac: bool,
    pub(super) quick: bool,
}

/// One line of progress, and one entry of the file: `entry`, or `group/entry`; with the seconds
/// after which it is ended.
pub(super) type Step = (&'static str, When, u64, How);

/// Elsewhere its entry is null.
pub(super) enum When {
    Always,
    OnMac,
    /// It takes minutes, and is left out where these are too many.
    InFull,
}

/// Words of a command are set apart by spaces; `{folder}` and the like stand for paths.
pub(super) enum How {
    /// What a command prints, as it is.
    Text(&'static str),
    /// What a command prints is JSON.
    Json(&'static str),
    /// A command of `cargo test`.
    Tests(&'static str),
    /// The variables that change what is built or loaded.
    Environment,
    /// The smoke preset on a device, in a type, compiled or not.
    Smoke(&'static str, &'static str, &'static str),
    /// A command so many times.
    Repeated(u32, &'static str),
    /// As `Json`, while another command runs.
    UnderLoad(&'static str, &'static str),
}

use How::{Environment, Json, Repeated, Smoke, Tests, Text, UnderLoad};
use When::{Always, InFull, OnMac};

#[rustfmt::skip]
pub(super) const STEPS: &[Step] = &[
    ("versions/commit", Always, 60, Text("git describe --always --dirty --abbrev=40")),
    ("versions/system", Always, 60, Text("uname -mrs")),
    ("versions/cc", Always, 60, Text("cc --version")),
    ("versions/c++", Always, 60, Text("c++ --version")),
    ("versions/rustc", Always, 60, Text("rustc -vV")),
    ("versions/cargo", Always, 60, Text("{cargo} -V")),
    ("versions/python", Always, 60, Text("python3 -m platform")),
    ("versions/pip", Always, 60, Text("python3 -m pip --version")),
    ("versions/developer_folder", OnMac, 60, Text("xcode-select -p")),
    ("versions/tools", OnMac, 60, Text("pkgutil --pkg-info=com.apple.pkg.CLTools_Executables")),
    ("versions/sdk", OnMac, 60, Text("xcrun --show-sdk-version")),
    ("versions/sdk_folder", OnMac, 60, Text("xcrun --show-sdk-path")),
    ("environment", Always, 60, Environment),
    // What crates/metrics/src/mac.rs parses, as its programs print it.
    ("raw/sysctl", OnMac, 60, Text(
        "sysctl hw machdep iogpu vm.swapusage vm.loadavg kern.osrelease kern.hv_vmm_present",
    )),
    ("raw/sw_vers", OnMac, 60, Text("sw_vers")),
    ("raw/ioreg", OnMac, 60, Text("ioreg -rc AGXAccelerator -d1")),
    ("raw/system_profiler", OnMac, 60, Text("system_profiler SPDisplaysDataType -json")),
    ("raw/pmset_batt", OnMac, 60, Text("pmset -g batt")),
    ("raw/pmset_custom", OnMac, 60, Text("pmset -g custom")),
    ("raw/pmset_therm", OnMac, 60, Text("pmset -g therm")),
    // What `metrics` takes from that, and its sensors. It needs no MLX, and so comes before it.
    ("machine/build", Always, 1_800, Text(
        "{cargo} build --profile={profile} --package metrics --example machine",
    )),
    ("machine/idle", Always, 120, Json("{folder}/examples/machine 3")),
    ("setup/run", Always, 1_800, Text("{xtask} setup")),
    ("setup/files", Always, 60, Text(
        "find native .cargo -maxdepth 4 ( -name WHEEL -o -name setup.json -o -name setup.log \
         -o -name mlx.toml ) -print -exec cat {} ;",
    )),
    ("build", Always, 3_600, Text("{cargo} build --profile={profile} --package lfmark")),
    // The last library is in the newest wheel only.
    ("libraries/load_commands", OnMac, 60, Text(
        "otool -L -l {folder}/lfmark {native}/lib/libmlxc.dylib {wheel}/libmlx.dylib \
         {wheel}/libjaccl.dylib",
    )),
    ("libraries/signatures", OnMac, 60, Text(
        "codesign --verify --verbose=2 {folder}/lfmark {native}/lib/libmlxc.dylib \
         {wheel}/libmlx.dylib {wheel}/libjaccl.dylib",
    )),
    ("libraries/signed_by", OnMac, 60, Text(
        "codesign --display --verbose=4 {folder}/lfmark {native}/lib/libmlxc.dylib \
         {wheel}/libmlx.dylib {wheel}/libjaccl.dylib",
    )),
    ("libraries/sizes", OnMac, 60, Text("ls -ln {native}/lib {wheel}")),
    ("libraries/metallib_header", OnMac, 60, Text("xxd -l 96 {wheel}/mlx.metallib")),
    ("doctor", Always, 120, Json("{folder}/lfmark doctor --json")),
    ("smoke/cpu_f32", Always, 300, Smoke("cpu", "f32", "off")),
    ("smoke/cpu_f32_compiled", Always, 300, Smoke("cpu", "f32", "on")),
    ("smoke/gpu_f32", Always, 300, Smoke("gpu", "f32", "off")),
    ("smoke/gpu_f32_compiled", Always, 300, Smoke("gpu", "f32", "on")),
    ("smoke/gpu_bf16", Always, 300, Smoke("gpu", "bf16", "off")),
    ("smoke/gpu_bf16_compiled", Always, 300, Smoke("gpu", "bf16", "on")),
    ("exits", Always, 60, Repeated(
        20, "{folder}/lfmark generate --prompt Hello --max-tokens 4",
    )),
    ("machine/under_load", InFull, 180, UnderLoad(
        "{folder}/examples/machine 60",
        "{folder}/lfmark run --model lfm2-350m --iterations 1000000 --idle-seconds 0 --quiet \
         --output {scratch}/load",
    )),
    ("oracle", InFull, 1_800, Tests(
        "{cargo} test --package model --test oracle --test invariants --no-fail-fast -- \
         --show-output",
    )),
    ("tests", InFull, 5_400, Tests("{cargo} test --workspace --no-fail-fast")),
];

/// What smoke runs are compared with.
const REFERENCE: &str = "/smoke/cpu_f32/losses";

impl How {
    /// # Errors
    /// There is nothing to keep of it.
    pub(super) fn perform(&self, at: &At, found: &Value, limit: Duration) -> Result<Value> {
        match *self {
            Text(words) => Ok(at.run(words, limit, false)?.entry()),
            Json(words) => at.json(words, limit),
            Tests(words) => {
                let ended = at.run(words, limit, true)?;
                let mut entry = ended.entry();
                entry["failures"] = texts::failures(&ended.stdout).into();
                Ok(entry)
            }
            Environment => Ok(environment()),
            Smoke(device, dtype, compile) => {
                let losses = found.pointer(REFERENCE);
                at.smoke([device, dtype, compile], losses, limit)
            }
            Repeated(times, words) => at.repeated(times, words, limit),
            UnderLoad(words, load) => at.under_load(words, load, limit),
        }
    }
}

impl At {
    fn run(&self, words: &str, limit: Duration, merged: bool) -> Result<Ended> {
        child::run(&mut self.command(words), limit, merged)
    }

    fn command(&self, words: &str) -> Command {
        let mut words = words.split(' ').map(|word| self.word(word));
        let mut command = command(words.next().unwrap_or_default(), words);
        command.current_dir(&self.root);
        // Which a test sets.
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
    }

    fn word(&self, word: &str) -> String {
        let places: [(&str, &Path); 6] = [
            ("{cargo}", &self.cargo),
            ("{xtask}", &self.xtask),
            ("{folder}", &self.folder),
            ("{scratch}", &self.scratch),
            ("{native}", Path::new("native/metal")),
            ("{wheel}", Path::new("native/metal/python/mlx/lib")),
        ];
        let word = word.replace("{profile}", &self.profile);
        let put = |word: String, (name, path): &(&str, &Path)| {
            word.replace(name, &path.to_string_lossy())
        };
        places.iter().fold(word, put)
    }

    fn json(&self, words: &str, limit: Duration) -> Result<Value> {
        let ended = self.run(words, limit, false)?;
        let mut entry = ended.entry();
        if let Ok(parsed) = serde_json::from_str(&ended.stdout) {
            entry["stdout"] = parsed;
        }
        Ok(entry)
    }

    /// The smoke preset without dropout, so that losses can be compared.
    fn smoke(
        &self,
        [device, dtype, compile]: [&str; 3],
        reference: Option<&Value>,
        limit: Duration,
    ) -> Result<Value> {
        let run = format!("{device}-{dtype}-{compile}");
        let words = format!(
            "{{folder}}/lfmark run --config configs/smoke.toml --lora-dropout 0 --device {device} \
             --dtype {dtype} --compile {compile} --output {{scratch}}/{run}"
        );
        let mut entry = self.run(&words, limit, false)?.entry();
        let Ok(record) = fs::read_to_string(self.scratch.join(run).join("record.jsonl")) else {
            return Ok(entry);
        };
        let record = texts::record(&record);
        // What other kernels may make of a loss, as `lfmark versus` has it.
        let tolerance = if dtype == "f32" { 1e-3 } else { 1.6e-2 };
        let difference =
            reference.and_then(|losses| texts::largest_difference(losses, &record["losses"]));
        entry["largest_relative_difference"] = json!(difference);
        entry["tolerance"] = json!(tolerance);
        entry["agrees"] = json!(difference.map(|it| it <= tolerance));
        for name in ["losses", "active_bytes", "tokens", "record"] {
            entry[name] = record[name].clone();
        }
        Ok(entry)
    }

    /// Exit codes and times, and all that is known where it failed.
    fn repeated(&self, times: u32, words: &str, limit: Duration) -> Result<Value> {
        let mut runs = Vec::new();
        for _ in 0..times {
            let ended = self.run(words, limit, false)?;
            runs.push(match ended.status.success() {
                true => json!({"exit": 0, "seconds": ended.seconds}),
                false => ended.entry(),
            });
            if ended.cut.is_some() {
                break;
            }
        }
        let failed = runs.iter().filter(|run| run["exit"] != 0).count();
        let command = show(&self.command(words));
        Ok(json!({"command": command, "failed": failed, "runs": runs}))
    }

    fn under_load(&self, words: &str, load: &str, limit: Duration) -> Result<Value> {
        let printed = self.scratch.join("load.log");
        let log = fs::File::create(&printed)?;
        let mut command = self.command(load);
        let mut load = Started::new(command.stdout(log.try_clone()?).stderr(log))?;
        let mut entry = self.json(words, limit)?;
        // Where it had ended of itself, there was no load.
        entry["load_ended"] = json!(load.ended());
        drop(load);
        entry["load_printed"] = end_of(&fs::read_to_string(printed)?).into();
        Ok(entry)
    }
}

/// Beginnings of the variables that change what is found and loaded; those that change what is
/// built are in the log of a set-up too.
const LOADED: [&str; 5] = ["PATH", "DYLD_", "MLX_", "MTL_", "METAL_"];

fn environment() -> Value {
    let text = |it: OsString| it.to_string_lossy().into_owned();
    std::env::vars_os()
        .map(|(name, value)| (text(name), text(value).into()))
        .filter(|(name, _)| {
            LOADED
                .iter()
                .chain(&VARIABLES)
                .any(|begin| name.starts_with(begin))
        })
        .collect::<Map<_, _>>()
        .into()
}
