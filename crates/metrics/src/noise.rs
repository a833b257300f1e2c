//! A machine's noise floor as it is stored: how far identical runs lie apart, and of which
//! machine, which build and which work that was measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::comparison::{MetricNoise, NoiseFloor};
use crate::fields::{Fields, flat, value_of};
use crate::key::{self, Key};
use crate::record::{Schema, wired_unsaid};

/// The schema this build writes, and the newest it reads.
pub const SCHEMA: Schema = Schema { major: 2, minor: 0 };

/// The oldest major version that this build reads.
const OLDEST: u32 = 1;

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
    pub key: Owner,
    pub metrics: BTreeMap<String, StoredNoise>,
}

/// What a noise floor belongs to: the parts of a run's key, by field.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Owner {
    pub work: BTreeMap<String, String>,
    pub how: BTreeMap<String, String>,
    pub machine: BTreeMap<String, String>,
}

impl Owner {
    /// That of the floor which runs with this key need.
    pub fn of(key: &Key) -> Self {
        let by_field = |fields: &Fields| fields.iter().cloned().collect();
        Self {
            work: by_field(&key.work),
            how: by_field(&key.how),
            machine: by_field(&key.machine),
        }
    }

    /// From JSON of this schema, or of the first, which had the same fields in other places.
    fn from_json(value: &Value) -> Self {
        let mut owner = Self::default();
        for (path, value) in flat(value) {
            let (part, name) = path.split_once('.').unwrap_or(("", &path));
            let (part, name) = match (part, path.as_str()) {
                ("work", _) => (&mut owner.work, name),
                ("how", _) => (&mut owner.how, name),
                // The first schema had them, always null.
                ("machine", _) if key::is_of_system(name) => continue,
                ("machine", _) | ("", "device" | "backend") => (&mut owner.machine, name),
                (_, path) => (&mut owner.how, path),
            };
            part.insert(name.to_owned(), value);
        }
        let backend = owner.machine.get("backend").map_or("", String::as_str);
        let unsaid = wired_unsaid(backend).to_owned();
        owner.how.entry("wired".to_owned()).or_insert(unsaid);
        owner
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::from_json(&value))
    }
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
        "it was written with schema {}.{}, and this build reads schemas up to {}.{}; use a \
         version of lfmark that reads it, or measure anew with `lfmark noise`",
        found.major, found.minor, SCHEMA.major, SCHEMA.minor
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
        let newer = (found.major, found.minor) > (SCHEMA.major, SCHEMA.minor);
        if newer || found.major < OLDEST {
            return Err(NoiseError::Schema { found });
        }
        let noise: Self = serde_json::from_str(text).map_err(format)?;
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

    /// Whether it is the floor of runs with this key.
    ///
    /// # Errors
    ///
    /// Names what differs.
    pub fn check(&self, key: &Key) -> Result<(), NoiseError> {
        let here = flat(&Owner::of(key));
        let differing: Vec<String> = flat(&self.key)
            .into_iter()
            .filter(|(path, value)| {
                let here = value_of(&here, path).map(str::to_owned);
                let values = [here, Some(value.clone())];
                let field = path.strip_prefix("machine.").unwrap_or_default();
                values[0] != values[1] && !key::not_read(field, &values)
            })
            .map(|(path, _)| path)
            .collect();
        match differing.is_empty() {
            true => Ok(()),
            false => Err(NoiseError::Mismatch {
                differences: differing.join(", "),
            }),
        }
    }
}
