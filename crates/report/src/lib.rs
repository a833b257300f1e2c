//! Records in, strings out: the Markdown report of a run, and its charts as SVG.
//!
//! The crate does no I/O and measures nothing, so a report can be rebuilt from its record at any
//! time: the same record gives the same bytes.
//!
//! | module | holds |
//! |---|---|
//! | `view` | a record and its summary as rows and sentences for people |
//! | `charts` | plain numbers to SVG |
//! | `markdown` | tables and blocks that keep foreign text as text |
//! | [`units`] | numbers with their units |
//!
//! The order of the report and its prose are in `templates/report.md.tera`.

use metrics::store::Record;
use metrics::summary::summarize;
use tera::{Context, Tera};
use thiserror::Error;

mod charts;
mod markdown;
pub mod units;
mod view;

const TEMPLATE: &str = include_str!("../templates/report.md.tera");

/// Name of the Markdown file, the first of [`Rendered::files`].
pub const REPORT: &str = "report.md";

/// Every name that a file of a report can have.
pub fn file_names() -> impl Iterator<Item = &'static str> {
    std::iter::once(REPORT).chain(view::CHARTS.into_iter().map(|(name, _)| name))
}

/// The files of a report, for the run folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The Markdown first, then the charts in the order it shows them. A chart without data is
    /// left out.
    pub files: Vec<File>,
}

impl Rendered {
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

/// Why a report could not be rendered. A record that was read is always enough for a report, so
/// each of these is a fault of this crate.
#[derive(Debug, Error)]
pub enum ReportError {
    #[error("cannot fill the report template")]
    Template(#[from] tera::Error),
    #[error("cannot draw {name}")]
    Chart {
        name: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Renders a record as Markdown and charts.
///
/// # Errors
///
/// See [`ReportError`].
pub fn render(record: &Record) -> Result<Rendered, ReportError> {
    let summary = summarize(record);
    let charts = view::charts(record, &summary)?;
    let view = view::View::new(record, &summary);
    let mut context = Context::from_serialize(&view)?;
    for (name, key) in view::CHARTS {
        context.insert(key, &charts.iter().any(|chart| chart.name == name));
    }
    // Without automatic escaping, which is for HTML: the view escapes every foreign string.
    let text = Tera::one_off(TEMPLATE, &context, false)?;
    let mut files = vec![File { name: REPORT, text }];
    files.extend(charts);
    Ok(Rendered { files })
}
