//! Records in, strings out: the report of a run as Markdown with charts in SVG, as one HTML page,
//! as JSON and as CSV.
//!
//! The crate does no I/O and measures nothing, so a report can be rebuilt from its record at any
//! time: the same record gives the same bytes.
//!
//! | module | holds |
//! |---|---|
//! | `view` | a record and its summary as rows and sentences for people |
//! | `claims` | a document of claims beside its audit |
//! | `power` | the table of false alarms and power |
//! | `set` | runs that were started together, and their comparison |
//! | `compare` | runs that were not started together, machine by machine |
//! | `history` | values from commit to commit, and where their level changed |
//! | `sweep` | how time, rate and memory grow with the work |
//! | `charts` | plain numbers to SVG |
//! | `markdown` | tables and blocks that keep foreign text as text |
//! | `template` | the template of the Markdown, lfmark's own or a user's |
//! | `html` | a report as one page |
//! | `json` | everything that is derived, for other programs |
//! | `samples` | the samples as CSV |
//! | [`units`] | numbers with their units |
//!
//! The order of the report and its prose are in `templates/report.md.tera`.

use metrics::audit::Audit;
use metrics::roofline::Roofline;
use metrics::store::Record;
use metrics::summary::{Summary, summarize};
use serde::Serialize;
use tera::{Context, Tera};
use thiserror::Error;

use crate::charts::ChartError;

mod charts;
mod claims;
pub mod compare;
mod history;
mod html;
mod json;
mod markdown;
mod power;
mod samples;
pub mod set;
pub mod sweep;
mod template;
pub mod units;
mod view;

pub use claims::render_claims;
pub use compare::{COMPARISON_CSV, COMPARISON_JSON, compare_file_names, render_compare};
pub use history::{
    HISTORY_CSV, HISTORY_JSON, HISTORY_PAGE, HISTORY_SCHEMA, history_file_names, history_lines,
    render_history, render_history_csv, render_history_json,
};
pub use html::{HTML, render_html};
pub use json::{Document, JSON, JSON_SCHEMA, render_json};
pub use power::render_power;
pub use samples::{SAMPLES, TOKENS, render_samples, render_tokens};
pub use set::{render_set, set_file_names};
pub use sweep::{render_sweep, sweep_file_names};
pub use template::{Template, TemplateError};

const TEMPLATE: &str = include_str!("../templates/report.md.tera");

/// Name of the Markdown file, the first of [`Rendered::files`].
pub const REPORT: &str = "report.md";

/// Every name that a file of a report can have.
pub fn file_names() -> impl Iterator<Item = &'static str> {
    std::iter::once(REPORT).chain(view::CHARTS.into_iter().map(|(name, _)| name))
}

/// Text from outside for a terminal: what would move the cursor, colour or reorder it is written as
/// escapes.
pub fn visible(text: &str, keep_line_feeds: bool) -> String {
    markdown::visible(text, keep_line_feeds)
}

/// The files of a report, for the run folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The Markdown first, then the charts in the order it shows them. A chart without data is
    /// left out.
    pub files: Vec<File>,
}

impl Rendered {
    /// A report from its template, with its charts. Nothing is escaped here, which would be for
    /// HTML: every foreign string of the view was.
    fn of(template: &str, view: &impl Serialize, charts: Vec<File>) -> Result<Self, ReportError> {
        let context = Context::from_serialize(view)?;
        let text = Tera::one_off(template, &context, false)?;
        let mut files = vec![File { name: REPORT, text }];
        files.extend(charts);
        Ok(Self { files })
    }

    /// The text of one file.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|file| file.name == name)
            .map(|file| file.text.as_str())
    }
}

/// One file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub name: &'static str,
    pub text: String,
}

impl File {
    /// A chart that was drawn, or why it could not be.
    fn chart(name: &'static str, svg: Result<String, ChartError>) -> Result<Self, ReportError> {
        let text = svg.map_err(|error| ReportError::Chart {
            name,
            source: Box::new(error),
        })?;
        Ok(Self { name, text })
    }
}

/// Why a report could not be rendered. A record that was read is always enough for a report, so
/// each of these but [`ReportError::Own`] is a fault of this crate.
#[derive(Debug, Error)]
pub enum ReportError {
    #[error("cannot fill the report template")]
    Template(#[from] tera::Error),
    #[error(transparent)]
    Own(#[from] TemplateError),
    #[error("cannot draw {name}")]
    Chart {
        name: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Renders a record as Markdown and charts, judged by the thresholds it was recorded with.
///
/// # Errors
///
/// See [`ReportError`].
pub fn render(record: &Record) -> Result<Rendered, ReportError> {
    render_summary(record, &summarize(record))
}

/// As [`render`], from the record's summary, which may rest on other thresholds; the report says
/// which.
///
/// # Errors
///
/// See [`ReportError`].
pub fn render_summary(record: &Record, summary: &Summary) -> Result<Rendered, ReportError> {
    render_template(
        record,
        summary,
        &Template::parse("report.md.tera", TEMPLATE)?,
    )
}

/// As [`render_summary`], with another template for the Markdown.
///
/// # Errors
///
/// See [`ReportError`]; [`ReportError::Own`] where the template cannot be filled.
pub fn render_template(
    record: &Record,
    summary: &Summary,
    template: &Template,
) -> Result<Rendered, ReportError> {
    let charts = view::charts(record, summary)?;
    let text = template.fill(&context(record, summary, &charts)?)?;
    let mut files = vec![File { name: REPORT, text }];
    files.extend(charts);
    Ok(Rendered { files })
}

/// What a template can name.
fn context(record: &Record, summary: &Summary, charts: &[File]) -> Result<Context, tera::Error> {
    let mut context = Context::from_serialize(view::View::new(record, summary))?;
    for (name, key) in view::CHARTS {
        context.insert(key, &charts.iter().any(|chart| chart.name == name));
    }
    Ok(context)
}

/// The audit of a record as Markdown: what was used of the device, and every check.
pub fn render_audit(record: &Record, roofline: &Roofline, audit: &Audit) -> String {
    format!(
        "# Audit of {}\n\n## Roofline\n\n{}\n\n## Validation\n\n{}\n",
        markdown::escape(&record.start.run_id),
        view::roofline::roofline_section(roofline),
        view::audit::audit_section(audit),
    )
}
