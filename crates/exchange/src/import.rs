//! What other programs printed, as documents of claims that `lfmark audit` reads.
//!
//! A document holds what stood in the source, in the digits that stood there. What the source does
//! not hold is named in a section of its own, and what was computed again is marked as derived.
//! Sources are foreign text: a parser takes what it knows and leaves out the rest, and the size of
//! its input bounds its memory.

use std::collections::BTreeSet;

use metrics::claims::{
    Block, Claims, Context, Figure, LARGEST_FILE, Quantity, SCHEMA, Scope, Section, Table, Text,
    Unit,
};
use serde_json::Value;
use thiserror::Error;

mod criterion;
mod llama_bench;
mod mlx_lm;
mod training;

/// Largest source that is read, in bytes. Parsed JSON takes up to a hundred times its text.
pub const LARGEST_SOURCE: u64 = 4 << 20;

/// Most rows of a table.
const MOST_ROWS: usize = 2000;

/// Most different names with digits: a reader looks for each of them in every text.
const MOST_NAMES: usize = 1000;

/// Most characters of a foreign name.
const LONGEST_NAME: usize = 120;

/// A program's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The log of `mlx_lm.lora` in either of its forms, or what its callback was given.
    MlxLmTraining,
    /// `mlx_lm.benchmark`.
    MlxLmBenchmark,
    /// `mlx_lm.generate`, or the line that `mlx_lm.chat` ends a turn with.
    MlxLmGenerate,
    /// `llama-bench` as JSON, JSON lines, CSV, SQL or Markdown.
    LlamaBench,
    /// Criterion's `estimates.json`, or what it prints.
    Criterion,
}

impl Source {
    /// The program, as it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::MlxLmTraining => "mlx_lm.lora",
            Self::MlxLmBenchmark => "mlx_lm.benchmark",
            Self::MlxLmGenerate => "mlx_lm.generate",
            Self::LlamaBench => "llama-bench",
            Self::Criterion => "Criterion",
        }
    }
}

/// A source, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    pub source: Source,
    pub claims: Claims,
    /// What the source does not hold or holds in another sense, one sentence each. They are in the
    /// document too.
    pub notes: Vec<String>,
}

impl Imported {
    /// The document as the text of a file.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.claims).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// Why a source could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ImportError {
    #[error(
        "nothing here is of a program that is known: the log of mlx_lm.lora or what its callback \
         was given, the output of mlx_lm.benchmark or mlx_lm.generate, of llama-bench (json, \
         jsonl, csv, sql or md), or of Criterion (estimates.json or its text)"
    )]
    Unknown,
    #[error("it is output of {program}, and holds no figures: {why}")]
    Empty {
        program: &'static str,
        why: &'static str,
    },
    #[error(
        "iteration {next} follows iteration {last}: the file holds more than one training; import \
         each from a file of its own"
    )]
    SeveralTrainings { last: u64, next: u64 },
    #[error(
        "it has more than {MOST_ROWS} rows of figures or {MOST_NAMES} different names; import it in \
         parts"
    )]
    TooLong,
}

/// Reads what a program printed. `name` is the name of the file, for the document's title.
///
/// # Errors
///
/// For a text of no program that is known, one without figures, and one with too many.
pub fn import(name: &str, text: &str) -> Result<Imported, ImportError> {
    let text = plain(text);
    let json = json(&text);
    let cut = json.as_ref().is_some_and(|(_, cut)| *cut);
    let (source, mut page) = if let Some((values, _)) = json {
        if llama_bench::is_row(&values[0]) {
            (Source::LlamaBench, llama_bench::of_json(&values)?)
        } else if training::is_report(&values[0]) {
            (Source::MlxLmTraining, training::of_reports(&values)?)
        } else if criterion::is_estimates(&values[0]) {
            (Source::Criterion, criterion::of_estimates(&values[0])?)
        } else {
            return Err(ImportError::Unknown);
        }
    } else if let Some(page) = training::of_log(&text)? {
        (Source::MlxLmTraining, page)
    } else if let Some(page) = mlx_lm::of_benchmark(&text)? {
        (Source::MlxLmBenchmark, page)
    } else if let Some(page) = mlx_lm::of_generate(&text)? {
        (Source::MlxLmGenerate, page)
    } else if let Some(page) = llama_bench::of_sql(&text)? {
        (Source::LlamaBench, page)
    } else if let Some(page) = llama_bench::of_csv(&text)? {
        (Source::LlamaBench, page)
    } else if let Some(page) = llama_bench::of_markdown(&text)? {
        (Source::LlamaBench, page)
    } else if let Some(page) = criterion::of_text(&text)? {
        (Source::Criterion, page)
    } else {
        return Err(ImportError::Unknown);
    };
    if cut {
        page.note("A line is no JSON, as where the file was cut off: it and what follows it are left out.");
    }
    let notes: Vec<String> = page.notes.iter().map(|&note| note.to_owned()).collect();
    page.append_notes();
    let claims = Claims {
        claims_schema: SCHEMA,
        title: format!("Output of {}", source.name()),
        source: clean(name),
        names: page.names_longest_first(),
        context: Context {
            sources: vec![format!("read from what {} printed", source.name())],
            ..Context::default()
        },
        sections: page.sections,
    };
    let imported = Imported {
        source,
        claims,
        notes,
    };
    let names = imported.claims.names.len();
    match names > MOST_NAMES || imported.text().len() as u64 > LARGEST_FILE {
        true => Err(ImportError::TooLong),
        false => Ok(imported),
    }
}

/// The text without a byte order mark and without the escape sequences that colour a terminal.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = match after.strip_prefix('[') {
            Some(sequence) => sequence
                .split_once(|c: char| ('@'..='~').contains(&c))
                .map_or("", |(_, rest)| rest),
            None => after,
        };
    }
    plain.push_str(rest);
    plain
}

/// The lines of a terminal: a progress bar returns to the beginning of its line.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '\r']).map(str::trim)
}

/// The objects of a text that is one object, a list of them, or one of them a line, and whether
/// there are lines that are left out; `None` for another text.
fn json(text: &str) -> Option<(Vec<Value>, bool)> {
    let text = text.trim();
    if !text.starts_with(['{', '[']) {
        return None;
    }
    // llama-bench prints a float that is no number as C does.
    let text = ["nan", "-nan", "inf", "-inf"]
        .iter()
        .fold(text.to_owned(), |text, word| {
            text.replace(&format!("\": {word}"), "\": null")
        });
    let text = text.as_str();
    let (values, cut) = match serde_json::from_str(text) {
        Ok(Value::Array(values)) => (values, false),
        Ok(value) => (vec![value], false),
        Err(_) => {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let values = lines.clone().map(|line| serde_json::from_str(line).ok());
            // A last line that is cut off is left out, as in a record.
            let values: Vec<Value> = values.map_while(|value| value).collect();
            let cut = values.len() < lines.count();
            (values, cut)
        }
    };
    let objects = !values.is_empty() && values.iter().all(Value::is_object);
    objects.then_some((values, cut))
}

/// A foreign name: one line of bounded length, without a path before it.
fn clean(name: &str) -> String {
    let name: String = name
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST_NAME)
        .collect();
    let name = name.trim();
    let rooted = ["/", "~", ".", "\\"]
        .iter()
        .any(|root| name.starts_with(root));
    match name.contains(['/', '\\']) && (rooted || name.contains(":\\")) {
        true => {
            let parts = name.rsplit(['/', '\\']);
            parts
                .into_iter()
                .find(|part| !part.is_empty())
                .unwrap_or_default()
                .to_owned()
        }
        false => name.to_owned(),
    }
}

/// A document in the making.
#[derive(Default)]
struct Page {
    sections: Vec<Section>,
    names: BTreeSet<String>,
    notes: Vec<&'static str>,
}

impl Page {
    /// Adds a section that is one table; without rows it is left out.
    fn table(&mut self, title: &str, columns: &[&str], rows: Vec<Vec<Cell>>) {
        if rows.is_empty() {
            return;
        }
        let rows = rows
            .into_iter()
            .map(|cells| cells.into_iter().map(|cell| self.cell(cell)).collect())
            .collect();
        self.sections.push(Section {
            title: title.to_owned(),
            level: 2,
            blocks: vec![Block::Table(Table {
                columns: columns.iter().map(|&column| column.to_owned()).collect(),
                rows,
            })],
        });
    }

    fn note(&mut self, note: &'static str) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn append_notes(&mut self) {
        let items = self.notes.iter().map(|&note| {
            Block::Item(Text {
                text: note.to_owned(),
                figures: Vec::new(),
                claims: Vec::new(),
            })
        });
        let blocks: Vec<Block> = items.collect();
        if !blocks.is_empty() {
            self.sections.push(Section {
                title: "What the source does not say".to_owned(),
                level: 2,
                blocks,
            });
        }
    }

    fn cell(&mut self, cell: Cell) -> Text {
        let (text, figure) = match cell {
            Cell::Name(name) => (clean(&name), None),
            Cell::Figure(figure) if figure.is_sound() => {
                let spread = figure.spread.iter();
                let spread: String = spread.map(|spread| format!(" ± {spread}")).collect();
                (format!("{}{spread}", figure.printed), Some(*figure))
            }
            // What is no number to reckon with (`nan`, -0.1, 0.000) stays as a word.
            Cell::Figure(figure) => (clean(&figure.printed), None),
        };
        if figure.is_none() && text.contains(|c: char| c.is_ascii_digit()) {
            self.names.insert(text.clone());
        }
        Text {
            text,
            figures: figure.into_iter().collect(),
            claims: Vec::new(),
        }
    }

    /// So that no name takes a part out of a longer one.
    fn names_longest_first(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.iter().cloned().collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        names
    }
}

/// A cell of a table.
enum Cell {
    Name(String),
    Figure(Box<Figure>),
}

impl Cell {
    fn name(name: impl Into<String>) -> Self {
        Self::Name(name.into())
    }

    /// What was not printed.
    fn absent() -> Self {
        Self::name("not in the source")
    }

    /// A number as it was printed.
    fn figure(
        quantity: Quantity,
        unit: Unit,
        printed: impl Into<String>,
        of: Option<Scope>,
    ) -> Self {
        Self::Figure(Box::new(Figure {
            quantity,
            printed: printed.into(),
            unit,
            spread: None,
            below: false,
            of,
            derived: false,
        }))
    }

    /// As [`Cell::figure`]; `None` is absent.
    fn maybe(quantity: Quantity, unit: Unit, printed: Option<&str>, of: Option<Scope>) -> Self {
        match printed {
            Some(printed) => Self::figure(quantity, unit, printed, of),
            None => Self::absent(),
        }
    }

    /// With the figure after ±.
    fn with_spread(mut self, spread: Option<String>) -> Self {
        if let Self::Figure(figure) = &mut self {
            figure.spread = spread;
        }
        self
    }

    /// Computed here from what was printed.
    fn derived(mut self) -> Self {
        if let Self::Figure(figure) = &mut self {
            figure.derived = true;
        }
        self
    }
}

/// Something that is no part of the run as a whole.
fn other(name: impl Into<String>) -> Option<Scope> {
    Some(Scope::Other(clean(&name.into())))
}

/// Refuses more rows than a document holds.
fn bounded<T>(rows: &[T]) -> Result<(), ImportError> {
    match rows.len() > MOST_ROWS {
        true => Err(ImportError::TooLong),
        false => Ok(()),
    }
}
