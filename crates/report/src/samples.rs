//! The samples of a record as tables for other programs (RFC 4180).
//!
//! The columns are fields of the record, by their names; what was not measured is an empty cell.
//! No cell holds text from outside, so none can be taken for a formula.

use metrics::store::Record;
use serde::Serialize;

/// Name of the file with one row an iteration.
pub const SAMPLES: &str = "samples.csv";

/// Name of the file with one row a generated token.
pub const TOKENS: &str = "tokens.csv";

/// One generated token.
#[derive(Serialize)]
struct Token {
    /// Number of the prompt, counted from 1.
    prompt: usize,
    /// Counted from 1.
    token: usize,
    token_id: u32,
    /// From the one before, or from the call to the first one.
    time_ns: Option<u64>,
}

/// Every iteration; `None` where none was measured.
///
/// # Errors
///
/// None that a record can cause.
pub fn render_samples(record: &Record) -> Result<Option<String>, csv::Error> {
    table(&record.iterations)
}

/// Every generated token; `None` where there is none.
///
/// # Errors
///
/// None that a record can cause.
pub fn render_tokens(record: &Record) -> Result<Option<String>, csv::Error> {
    let generations = (1..).zip(&record.generations);
    let tokens = generations.flat_map(|(prompt, generation)| {
        let times = std::iter::once(&generation.first_token_ns).chain(&generation.token_ns);
        let times = times.copied().map(Some).chain(std::iter::repeat(None));
        let tokens = (1..).zip(generation.token_ids.iter().zip(times));
        tokens.map(move |(token, (&token_id, time_ns))| Token {
            prompt,
            token,
            token_id,
            time_ns,
        })
    });
    table(tokens)
}

/// One row an item below a row of its fields' names.
fn table<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Result<Option<String>, csv::Error> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    let text = String::from_utf8(bytes).map_err(std::io::Error::other)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}
