//! Everything that is derived from a record, as JSON for other programs.
//!
//! `schema/report.schema.json` describes the file and is made from the types.

use metrics::audit::{self, Audit};
use metrics::record::{Schema, Start};
use metrics::roofline::{self, Roofline};
use metrics::store::Record;
use metrics::summary::Summary;
use schemars::JsonSchema;
use serde::Serialize;

/// Name of the file.
pub const JSON: &str = "report.json";

/// The schema this build writes.
pub const JSON_SCHEMA: Schema = Schema { major: 1, minor: 2 };

/// Everything that lfmark derives from one run. What was not measured is null.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(title = "Report of lfmark")]
pub struct Document<'a> {
    /// Version of this document's schema; within a major version fields are only added.
    pub schema: Schema,
    /// What was run, on what, by which build: the first line of the record.
    pub start: &'a Start,
    /// What had to be said of the record when it was read.
    pub notices: &'a [String],
    /// Figures and verdicts, with the thresholds behind them.
    pub summary: &'a Summary,
    pub roofline: Roofline,
    pub audit: Audit,
}

impl<'a> Document<'a> {
    /// Of a record and its summary.
    pub fn new(record: &'a Record, summary: &'a Summary) -> Self {
        Self {
            schema: JSON_SCHEMA,
            start: &record.start,
            notices: &record.notices,
            summary,
            roofline: roofline::roofline(record, summary),
            audit: audit::record(record, summary),
        }
    }
}

/// The document of a run as text.
///
/// # Errors
///
/// None that a record can cause.
pub fn render_json(record: &Record, summary: &Summary) -> Result<String, serde_json::Error> {
    pretty(&Document::new(record, summary))
}

/// A summary with the version of its schema before its fields, as text.
pub(crate) fn versioned<T: Serialize>(
    schema: Schema,
    summary: &T,
) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        schema: Schema,
        #[serde(flatten)]
        summary: &'a T,
    }
    pretty(&Versioned { schema, summary })
}

fn pretty(document: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    Ok(text)
}
