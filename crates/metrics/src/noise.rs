//! A machine's noise floor as it is stored: how far identical runs lie apart, and of which
//! machine, which build and which work that was measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::comparison::{MetricNoise, NoiseFloor, spread};
use crate::record::{Machine, Schema, Start, wired_unsaid};
use crate::sets::{Process, Set, Work};

/// The schema this build writes, and the newest it reads.
pub const SCHEMA: Schema = Schema { major: 1, minor: 1 };

/// Name of the file in the folder of a set.
pub const FILE_NAME: &str = "noise.json";

/// Runs an arm that the file gives the 99 % difference for.
pub const ARM_SIZES: [u32; 4] = [3, 5, 8, 10];

/// A standard deviation of logarithms above this was not measured: every other pair of identical runs
/// would differ by a factor of 10,000. Smaller ones are, however useless: a few short runs on a
/// machine that others use.
pub(crate) const LARGEST_SD: f64 = 10.0;

/// The content of `noise.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    pub schema: Schema,
    /// Wall-clock time at the start of the first run, milliseconds since the Unix epoch, UTC.
    pub measured_unix_ms: u64,
    /// Name of the folder of the runs, and theirs.
    pub set: String,
    pub runs: Vec<String>,
    pub key: Key,
    pub metrics: BTreeMap<String, StoredNoise>,
}

/// What a noise floor belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// Without what an update of the system changes: `os_version`, `os_build`, `kernel` and
    /// `gpu_driver` are null.
    pub machine: Machine,
    pub mlx_version: String,
    pub backend: String,
    /// `release` or `debug`.
    pub profile: String,
    pub device: String,
    pub compile: bool,
    pub clear_cache: bool,
    /// Metal's wired limit; null in files before 1.1, and read as what was wired then.
    #[serde(default)]
    pub wired: Option<String>,
    pub work: Work,
}

/// Noise of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredNoise {
    #[serde(flatten)]
    pub noise: MetricNoise,
    /// In nanoseconds or bytes, as the metric's name says.
    pub geometric_mean: f64,
    /// By runs an arm, the change that 99 % of comparisons of identical arms stay within. For
    /// readers of the file: it follows from the noise, and is not read back.
    #[serde(skip_deserializing)]
    pub difference_99: BTreeMap<u32, f64>,
}

/// Why a noise floor cannot be used.
#[derive(Debug, Error, PartialEq)]
pub enum NoiseError {
    #[error("it is not a noise floor of lfmark: {0}; measure one with `lfmark noise`")]
    Format(String),
    #[error(
        "it was written with schema {}.{}, and this build reads schema {} up to {}.{}; use a \
         version of lfmark that reads it, or measure anew with `lfmark noise`",
        found.major, found.minor, SCHEMA.major, SCHEMA.major, SCHEMA.minor
    )]
    Schema { found: Schema },
    #[error("its {metric} has {problem}; restore the file, or measure anew with `lfmark noise`")]
    Value { metric: String, problem: String },
    #[error(
        "the noise floor is of another machine, build or work ({differences}); measure one with \
         `lfmark noise` and the settings of these runs"
    )]
    Mismatch { differences: String },
    #[error("a noise floor needs at least two complete runs, and there are {complete}")]
    TooFew { complete: usize },
    #[error("these runs cannot give a noise floor: {why}")]
    Unfit { why: String },
}

impl Noise {
    /// From the runs of a set of one arm, in one state of the machine.
    ///
    /// # Errors
    ///
    /// For fewer than two complete runs, runs that differ in their work or how it was done, and a
    /// machine whose state changed.
    pub fn of(set: &Set) -> Result<Self, NoiseError> {
        let processes: Vec<&Process> = set.complete().collect();
        let [first, _, ..] = processes[..] else {
            return Err(NoiseError::TooFew {
                complete: processes.len(),
            });
        };
        let circumstances = set.circumstances(&processes);
        let unfit = circumstances
            .different_work
            .or(circumstances.machine_changed);
        if let Some(why) = unfit {
            return Err(NoiseError::Unfit { why });
        }
        let (metrics, _) = set.values(&processes);
        let rules = set.rules.comparison;
        let metrics = metrics.into_iter().filter_map(|(metric, values)| {
            let noise = MetricNoise::of(&values)?;
            let stored = StoredNoise {
                noise,
                geometric_mean: spread(&values, &rules)?.geometric_mean,
                difference_99: ARM_SIZES
                    .map(|runs| (runs, noise.difference_99(runs as usize, runs as usize)))
                    .into(),
            };
            Some((metric.name().to_owned(), stored))
        });
        Ok(Self {
            schema: SCHEMA,
            measured_unix_ms: first.start.started_unix_ms,
            set: set.name.clone(),
            runs: processes.iter().map(|run| run.folder.clone()).collect(),
            key: Key::of(first),
            metrics: metrics.collect(),
        })
    }

    /// Reads the text of `noise.json`.
    ///
    /// # Errors
    ///
    /// For a text that is no noise floor, a newer schema, and values that cannot be.
    pub fn parse(text: &str) -> Result<Self, NoiseError> {
        #[derive(Deserialize)]
        struct Header {
            schema: Schema,
        }
        let format = |error: serde_json::Error| NoiseError::Format(error.to_string());
        let Header { schema: found } = serde_json::from_str(text).map_err(format)?;
        if found.major != SCHEMA.major || found.minor > SCHEMA.minor {
            return Err(NoiseError::Schema { found });
        }
        let mut noise: Self = serde_json::from_str(text).map_err(format)?;
        let key = &mut noise.key;
        key.wired
            .get_or_insert_with(|| wired_unsaid(&key.backend).to_owned());
        for (metric, stored) in &noise.metrics {
            let MetricNoise { runs, sd } = stored.noise;
            let problem = match (runs, sd) {
                (..2, _) => format!("{runs} runs, fewer than two"),
                (_, 0.0..=LARGEST_SD) => continue,
                _ => format!("a standard deviation of {sd}, not one from 0 to {LARGEST_SD}"),
            };
            return Err(NoiseError::Value {
                metric: metric.clone(),
                problem,
            });
        }
        Ok(noise)
    }

    /// As the text of `noise.json`.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// What the comparison needs of it.
    pub fn floor(&self) -> NoiseFloor {
        let metrics = self.metrics.iter();
        NoiseFloor {
            metrics: metrics
                .map(|(name, stored)| (name.clone(), stored.noise))
                .collect(),
        }
    }

    /// Whether it is the floor of runs like this one.
    ///
    /// # Errors
    ///
    /// Names what differs.
    pub fn check(&self, process: &Process) -> Result<(), NoiseError> {
        self.check_key(&Key::of(process))
    }

    /// Whether it is the floor of runs with this key.
    ///
    /// # Errors
    ///
    /// Names what differs.
    pub fn check_key(&self, key: &Key) -> Result<(), NoiseError> {
        let differing = differing(&self.key, key);
        match differing.is_empty() {
            true => Ok(()),
            false => Err(NoiseError::Mismatch {
                differences: differing.join(", "),
            }),
        }
    }
}

impl Key {
    /// The key of the floor that runs like this one need.
    pub fn of(process: &Process) -> Self {
        Self::new(&process.start, process.work.clone())
    }

    /// The same of a run with this start, whatever started it.
    pub(crate) fn new(start: &Start, work: Work) -> Self {
        let Start {
            machine,
            mlx,
            lfmark,
            config,
            ..
        } = start;
        Self {
            machine: machine.stable(),
            mlx_version: mlx.version.clone(),
            backend: mlx.backend.clone(),
            profile: lfmark.profile.clone(),
            device: config.device.clone(),
            compile: config.compile,
            clear_cache: config.clear_cache,
            wired: Some(start.wired().to_owned()),
            work,
        }
    }
}

/// Names of the fields in which two values of one type differ, as paths.
pub(crate) fn differing<T: Serialize>(first: &T, second: &T) -> Vec<String> {
    let (first, second) = (flat(first), flat(second));
    let paths = first.iter().chain(&second).map(|(path, _)| path);
    let mut differing = Vec::new();
    for path in paths {
        let value = |of: &[(String, String)]| of.iter().find(|(at, _)| at == path).cloned();
        if value(&first) != value(&second) && !differing.contains(path) {
            differing.push(path.clone());
        }
    }
    differing
}

/// The fields of a value with their paths, in its order. Lists are one field.
pub fn flat<T: Serialize>(value: &T) -> Vec<(String, String)> {
    fn walk(path: &str, value: &Value, fields: &mut Vec<(String, String)>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    let mut path = path.to_owned();
                    let dot = if path.is_empty() { "" } else { "." };
                    let _ = write!(path, "{dot}{key}");
                    walk(&path, value, fields);
                }
            }
            Value::String(text) => fields.push((path.to_owned(), text.clone())),
            other => fields.push((path.to_owned(), other.to_string())),
        }
    }
    let mut fields = Vec::new();
    // What records hold always is JSON.
    let value = serde_json::to_value(value).unwrap_or_default();
    walk("", &value, &mut fields);
    fields
}
