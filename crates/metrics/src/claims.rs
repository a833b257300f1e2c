//! A document of claims: figures and sentences that somebody wrote down, without samples.
//!
//! FORMAT.md describes the file. A figure is written as it was printed (`15.5`, `213K`, `8-12`),
//! from which both its value and its resolution follow, so the two cannot contradict each other.
//! Every number of a text has to be one of its figures, so that none escapes the audit.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::interval::Interval;
use crate::record::{Schema, WindowSpec};

/// The schema this build reads.
pub const SCHEMA: Schema = Schema { major: 1, minor: 1 };

/// Largest file that is read. The longest report anybody writes by hand is far below.
pub const LARGEST_FILE: u64 = 4 << 20;

/// A whole document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    pub claims_schema: Schema,
    pub title: String,
    /// Name of the document that was transcribed; never a path.
    pub source: String,
    /// Words with digits in them that are no figures (`LFM2-1.2B`).
    #[serde(default)]
    pub names: Vec<String>,
    #[serde(default)]
    pub context: Context,
    pub sections: Vec<Section>,
}

/// What the audit needs to know and the document does not say in figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Context {
    /// As the machine names it (`Apple M3 Max`).
    pub chip: Option<String>,
    pub gpu_cores: Option<u32>,
    pub memory_gib: Option<u64>,
    /// Type of the weights: `f32`, `bf16` or `f16`.
    pub dtype: Option<String>,
    pub model: Option<Shape>,
    /// Adapted modules within a layer, where the document says which.
    pub targets: Option<Vec<String>>,
    /// Where all this was taken from, one sentence each.
    pub sources: Vec<String>,
}

/// The shape of the model, as far as checks need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub parameters: u64,
    pub layers: u32,
    pub hidden_size: u32,
    pub vocab_size: u32,
    /// Every linear module that an adapter can be attached to.
    pub modules: Vec<Module>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Within a layer (`self_attn.q_proj`).
    pub name: String,
    pub inputs: u32,
    pub outputs: u32,
    /// The layers that have it, counted from 0.
    pub layers: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    pub title: String,
    /// Of the heading, from 2 to 6.
    pub level: u8,
    pub blocks: Vec<Block>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// A paragraph.
    Text(Text),
    /// An item of a list.
    Item(Text),
    Table(Table),
}

/// Words as they were written, with the figures and the claims in them.
///
/// Without either they are a label, such as the name of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    pub text: String,
    /// In the order in which they stand in the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub columns: Vec<String>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<Text>>,
}

/// A number that the document states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    pub quantity: Quantity,
    /// As it stands in the text: digits with separators and a point, an exponent, `K`, `M` or `B`;
    /// or two of them as a range (`8-12`).
    pub printed: String,
    #[serde(default)]
    pub unit: Unit,
    /// The figure after ±, in the same unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// Whether the document says that the value lies below the figure.
    #[serde(default, skip_serializing_if = "is_false")]
    pub below: bool,
    /// What it is a figure of; the whole run where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Scope>,
    /// Whether the document says that it was computed from other figures of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub derived: bool,
}

/// What a figure is a figure of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A range of iterations, as it is written (`100-300`).
    Window(String),
    /// A prompt, counted from 1.
    Prompt(u32),
    /// Something else than the run, by name.
    Other(String),
}

/// What a figure measures, counts or sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    Iterations,
    IterationRange,
    TrainingTime,
    IterationRate,
    TokensPerIteration,
    TokenRate,
    /// Of training; of a generation where the figure is of a prompt.
    PeakMemory,
    /// That the machine has.
    Memory,
    /// Of the peak in the memory of the machine.
    MemoryShare,
    Parameters,
    TrainableParameters,
    TrainableShare,
    Rank,
    Alpha,
    Dropout,
    /// Number of last layers that were considered for adapters.
    AdaptedLayers,
    BatchSize,
    LearningRate,
    Samples,
    PromptTokens,
    PromptRate,
    GenerationRate,
    /// Of the iteration rate: what follows ± over the rate.
    RelativeSpread,
    /// Of the machine's memory.
    Bandwidth,
    /// How often the peak goes into what something else needs.
    MemoryRatio,
    /// How much larger a model could be.
    ModelRatio,
    /// A part of the time of a whole run, named by `of`.
    TimePart,
    WallTime,
    /// Of training or validation.
    Loss,
    /// Tokens that have entered the loss since the start.
    TrainedTokens,
    GeneratedTokens,
}

impl Quantity {
    /// The name in the file, with spaces.
    pub fn words(self) -> String {
        let name = serde_json::to_value(self).ok();
        let name = name.as_ref().and_then(|name| name.as_str());
        name.unwrap_or_default().replace('_', " ")
    }

    fn dimension(self) -> Dimension {
        use Quantity as Q;
        match self {
            Q::Iterations
            | Q::IterationRange
            | Q::Parameters
            | Q::TrainableParameters
            | Q::Rank
            | Q::AdaptedLayers
            | Q::BatchSize
            | Q::Samples => Dimension::Count,
            Q::TokensPerIteration | Q::PromptTokens | Q::TrainedTokens | Q::GeneratedTokens => {
                Dimension::Tokens
            }
            Q::Alpha | Q::Dropout | Q::LearningRate | Q::Loss => Dimension::Number,
            Q::TrainingTime | Q::TimePart | Q::WallTime => Dimension::Time,
            Q::IterationRate => Dimension::IterationRate,
            Q::TokenRate | Q::PromptRate | Q::GenerationRate => Dimension::TokenRate,
            Q::PeakMemory | Q::Memory => Dimension::Bytes,
            Q::MemoryShare | Q::TrainableShare | Q::RelativeSpread => Dimension::Share,
            Q::Bandwidth => Dimension::Bandwidth,
            Q::MemoryRatio | Q::ModelRatio => Dimension::Ratio,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dimension {
    Count,
    Number,
    Tokens,
    Time,
    IterationRate,
    TokenRate,
    Bytes,
    Bandwidth,
    Share,
    Ratio,
}

/// Unit of a figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    #[default]
    #[serde(rename = "")]
    None,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "min")]
    Minutes,
    #[serde(rename = "it/s")]
    IterationsPerSecond,
    #[serde(rename = "tokens")]
    Tokens,
    #[serde(rename = "tokens/s")]
    TokensPerSecond,
    #[serde(rename = "GB")]
    Gigabytes,
    #[serde(rename = "GB/s")]
    GigabytesPerSecond,
    #[serde(rename = "%")]
    Percent,
    #[serde(rename = "x")]
    Times,
}

impl Unit {
    /// What it measures, and how many of the plain unit it is: seconds, bytes, shares of 1.
    fn meaning(self) -> (&'static [Dimension], f64) {
        use Dimension as D;
        match self {
            Self::None => (&[D::Count, D::Number, D::Ratio, D::Tokens], 1.0),
            Self::Seconds => (&[D::Time], 1.0),
            Self::Minutes => (&[D::Time], 60.0),
            Self::IterationsPerSecond => (&[D::IterationRate], 1.0),
            Self::Tokens => (&[D::Tokens], 1.0),
            Self::TokensPerSecond => (&[D::TokenRate], 1.0),
            Self::Gigabytes => (&[D::Bytes], 1e9),
            Self::GigabytesPerSecond => (&[D::Bandwidth], 1e9),
            Self::Percent => (&[D::Share], 0.01),
            Self::Times => (&[D::Ratio], 1.0),
        }
    }

    /// As it is written after a figure.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "s",
            Self::Minutes => "min",
            Self::IterationsPerSecond => "it/s",
            Self::Tokens => "tokens",
            Self::TokensPerSecond => "tokens/s",
            Self::Gigabytes => "GB",
            Self::GigabytesPerSecond => "GB/s",
            Self::Percent => "%",
            Self::Times => "x",
        }
    }
}

impl Figure {
    /// The values it can have been before it was printed, in the plain unit. The ends of a range
    /// are limits that somebody set, and exact.
    ///
    /// # Panics
    ///
    /// For a figure of a document that was not read by [`parse`].
    pub fn value(&self) -> Interval {
        self.number().interval(false).times(self.unit.meaning().1)
    }

    /// As [`Figure::value`], with each end of a range as far as its rounding goes: what a
    /// computed result is compared with.
    ///
    /// # Panics
    ///
    /// As [`Figure::value`].
    pub fn rounded(&self) -> Interval {
        self.number().interval(true).times(self.unit.meaning().1)
    }

    /// The values that the figure after ± can have been, in the plain unit.
    ///
    /// # Panics
    ///
    /// As [`Figure::value`].
    pub fn spread(&self) -> Option<Interval> {
        let spread = Number::parse(self.spread.as_deref()?, false).expect("parsing checks it");
        Some(spread.interval(false).times(self.unit.meaning().1))
    }

    /// Half a unit of the last printed digit, in the plain unit.
    ///
    /// # Panics
    ///
    /// As [`Figure::value`].
    pub fn resolution(&self) -> f64 {
        self.number().low.1 * self.unit.meaning().1
    }

    /// Whether it is two limits instead of one value.
    ///
    /// # Panics
    ///
    /// As [`Figure::value`].
    pub fn is_range(&self) -> bool {
        self.number().high.is_some()
    }

    /// The figure as it was printed, with ± and unit.
    pub fn shown(&self) -> String {
        let spread = self.spread.as_ref().map(|spread| format!(" ± {spread}"));
        let symbol = match self.unit.symbol() {
            "" => String::new(),
            tight @ ("%" | "x") => tight.to_owned(),
            symbol => format!(" {symbol}"),
        };
        let below = if self.below { "< " } else { "" };
        format!(
            "{below}{}{}{symbol}",
            self.printed,
            spread.unwrap_or_default()
        )
    }

    /// Whether a document can hold it: a number of its quantity, in one of its units.
    pub fn is_sound(&self) -> bool {
        check_figure(self, "").is_ok()
    }

    /// The iterations of its window.
    pub fn window(&self) -> Option<WindowSpec> {
        match &self.of {
            Some(Scope::Window(window)) => window_spec(window),
            _ => None,
        }
    }

    fn number(&self) -> Number {
        let counts = self.quantity.dimension() == Dimension::Count;
        Number::parse(&self.printed, counts).expect("parsing checks it")
    }
}

/// A sentence or a part of one that asserts something beyond its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Lower-case letters, digits and hyphens; one of its kind in the document.
    pub id: String,
    pub subject: Subject,
    /// The words that claim it; the whole text where they are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// For a claim about change or spread: of what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Quantity>,
}

/// What a claim asserts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A level was held.
    Steadiness,
    /// A quantity (`of`) did not change during the run.
    NoChange,
    /// A quantity (`of`) did not vary at all.
    NoSpread,
    /// No memory leaks.
    Leak,
    /// One thing is better than another, or what the other thing is like.
    Comparison,
    /// Generated text is good.
    Quality,
    /// Energy.
    Power,
    /// How hard it is to install.
    Setup,
    /// Why something is so.
    Mechanism,
    /// A quantity is good, without saying from where on.
    Efficiency,
    /// Something can be done that was not done.
    Capability,
    /// A recommendation.
    Judgement,
}

impl Subject {
    /// The name in the file, with spaces.
    pub fn words(self) -> &'static str {
        match self {
            Self::Steadiness => "steadiness",
            Self::NoChange => "no change",
            Self::NoSpread => "no spread",
            Self::Leak => "leak",
            Self::Comparison => "comparison",
            Self::Quality => "quality",
            Self::Power => "power",
            Self::Setup => "setup",
            Self::Mechanism => "mechanism",
            Self::Efficiency => "efficiency",
            Self::Capability => "capability",
            Self::Judgement => "judgement",
        }
    }
}

impl Claims {
    /// Every text of the document in its order, table cells included.
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        self.sections
            .iter()
            .flat_map(|section| &section.blocks)
            .flat_map(Block::texts)
    }

    /// Every figure in the order of the document.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.texts().flat_map(|text| &text.figures)
    }
}

impl Block {
    fn texts(&self) -> Vec<&Text> {
        match self {
            Self::Text(text) | Self::Item(text) => vec![text],
            Self::Table(table) => table.rows.iter().flatten().collect(),
        }
    }
}

/// Reads the document at `path`, which has to be a regular file.
///
/// # Errors
///
/// A file that cannot be read or is too large, and those of [`parse`].
pub fn read(path: &Path) -> Result<Claims, ReadError> {
    let problem = |error| ReadError::File {
        path: path.to_owned(),
        error,
    };
    let found = fs::metadata(path).map_err(problem)?;
    if !found.is_file() {
        return Err(problem(io::Error::other("not a regular file")));
    }
    if found.len() > LARGEST_FILE {
        return Err(problem(io::Error::other(format!(
            "it has {} bytes, and a document of claims has at most {LARGEST_FILE}",
            found.len()
        ))));
    }
    let text = fs::read_to_string(path).map_err(problem)?;
    parse(&text).map_err(|error| ReadError::Claims {
        path: path.to_owned(),
        error,
    })
}

/// Why a document could not be read. The messages hold their causes, which are no sources.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("cannot read {path}: {error}; name a file with claims, a run folder or its record")]
    File { path: PathBuf, error: io::Error },
    #[error("{path}: {error}")]
    Claims { path: PathBuf, error: ClaimsError },
}

/// What is wrong with the text of a document.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ClaimsError {
    #[error(
        "this is no document of claims: {reason}; FORMAT.md describes its fields, and \
         `claims_schema` is the first"
    )]
    Header { reason: String },
    #[error(
        "the document has schema {}.{}, and this build reads schema {} up to {}.{}; use a version \
         of lfmark that reads it",
        found.major, found.minor, SCHEMA.major, SCHEMA.major, SCHEMA.minor
    )]
    Schema { found: Schema },
    #[error("{at}: {reason}")]
    Field { at: String, reason: String },
}

/// Parses the text of a document.
///
/// # Errors
///
/// What is not JSON, has another schema or an unknown field, and what contradicts itself: a figure
/// that its text does not show, a number in a text that is no figure, a unit of another quantity.
/// The error names the field by its path.
pub fn parse(text: &str) -> Result<Claims, ClaimsError> {
    #[derive(Deserialize)]
    struct Header {
        claims_schema: Schema,
    }
    let header: Header = serde_json::from_str(text).map_err(|error| ClaimsError::Header {
        reason: error.to_string(),
    })?;
    let found = header.claims_schema;
    if found.major != SCHEMA.major || found.minor > SCHEMA.minor {
        return Err(ClaimsError::Schema { found });
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let claims: Claims =
        serde_path_to_error::deserialize(&mut json).map_err(|error| ClaimsError::Field {
            at: error.path().to_string(),
            reason: error.inner().to_string(),
        })?;
    json.end().map_err(|error| ClaimsError::Header {
        reason: error.to_string(),
    })?;
    check(&claims)?;
    Ok(claims)
}

/// Checks what the types cannot.
fn check(claims: &Claims) -> Result<(), ClaimsError> {
    let mut ids = BTreeSet::new();
    check_context(&claims.context)?;
    for (index, section) in claims.sections.iter().enumerate() {
        let at = format!("sections[{index}]");
        if !(2..=6).contains(&section.level) {
            return fail(format!("{at}.level"), "a heading has a level from 2 to 6");
        }
        for (index, block) in section.blocks.iter().enumerate() {
            let at = format!("{at}.blocks[{index}]");
            match block {
                Block::Text(text) => check_text(claims, text, &format!("{at}.text"), &mut ids)?,
                Block::Item(text) => check_text(claims, text, &format!("{at}.item"), &mut ids)?,
                Block::Table(table) => {
                    for (row, cells) in table.rows.iter().enumerate() {
                        let at = format!("{at}.table.rows[{row}]");
                        if cells.len() != table.columns.len() {
                            let (has, needs) = (cells.len(), table.columns.len());
                            let reason = format!("the row has {has} cells for {needs} columns");
                            return fail(at, reason);
                        }
                        for (column, cell) in cells.iter().enumerate() {
                            check_text(claims, cell, &format!("{at}[{column}]"), &mut ids)?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn check_context(context: &Context) -> Result<(), ClaimsError> {
    let Some(model) = &context.model else {
        return Ok(());
    };
    for (name, value) in [
        ("parameters", model.parameters),
        ("layers", model.layers.into()),
        ("hidden_size", model.hidden_size.into()),
        ("vocab_size", model.vocab_size.into()),
    ] {
        if value == 0 {
            return fail(format!("context.model.{name}"), "it has to be above 0");
        }
    }
    // Every set of modules is tried where the document names none.
    if model.modules.len() > 16 {
        return fail("context.model.modules", "at most 16 modules are supported");
    }
    for (index, module) in model.modules.iter().enumerate() {
        if let Some(layer) = module.layers.iter().find(|&&layer| layer >= model.layers) {
            let reason = format!("layer {layer} of a model with {} layers", model.layers);
            return fail(format!("context.model.modules[{index}].layers"), reason);
        }
    }
    let known = |target: &&String| !model.modules.iter().any(|module| module.name == **target);
    if let Some(unknown) = context.targets.iter().flatten().find(known) {
        let reason = format!("`{unknown}` is none of the modules of context.model");
        return fail("context.targets", reason);
    }
    Ok(())
}

fn check_text<'a>(
    claims: &Claims,
    text: &'a Text,
    at: &str,
    ids: &mut BTreeSet<&'a str>,
) -> Result<(), ClaimsError> {
    let mut rest = text.text.clone();
    let mut from = 0;
    for (index, figure) in text.figures.iter().enumerate() {
        let at = format!("{at}.figures[{index}]");
        check_figure(figure, &at)?;
        let printed = [
            (Some(&figure.printed), "printed"),
            (figure.spread.as_ref(), "spread"),
        ];
        for (number, field) in printed {
            let Some(number) = number else { continue };
            let Some(position) = find_number(&rest, number, from) else {
                let reason = format!("`{number}` does not stand in the text where it is due");
                return fail(format!("{at}.{field}"), reason);
            };
            // Blanked out, so that what is left of the text can be searched for numbers.
            rest.replace_range(position..position + number.len(), &" ".repeat(number.len()));
            from = position + number.len();
        }
    }
    for name in claims.names.iter().filter(|name| !name.is_empty()) {
        rest = rest.replace(name.as_str(), " ");
    }
    if let Some(number) = stray_number(&rest) {
        let reason = format!(
            "the number that begins with `{number}` is none of its figures; add it to them, or \
             the word it is part of to `names`"
        );
        return fail(format!("{at}.text"), reason);
    }
    for (index, claim) in text.claims.iter().enumerate() {
        let at = format!("{at}.claims[{index}]");
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if claim.id.is_empty() || !claim.id.bytes().all(plain) {
            let reason = "an id has lower-case letters, digits and hyphens";
            return fail(format!("{at}.id"), reason);
        }
        if !ids.insert(&claim.id) {
            return fail(
                format!("{at}.id"),
                format!("`{}` is taken already", claim.id),
            );
        }
        if let Some(quote) = &claim.quote
            && (quote.is_empty() || !text.text.contains(quote.as_str()))
        {
            return fail(
                format!("{at}.quote"),
                "these words do not stand in the text",
            );
        }
        let needs = matches!(claim.subject, Subject::NoChange | Subject::NoSpread);
        if needs != claim.of.is_some() {
            let reason = match needs {
                true => "a claim of no change or no spread says of what",
                false => "only a claim of no change or no spread has this field",
            };
            return fail(format!("{at}.of"), reason);
        }
    }
    Ok(())
}

fn check_figure(figure: &Figure, at: &str) -> Result<(), ClaimsError> {
    let counts = figure.quantity.dimension() == Dimension::Count;
    let parsed = Number::parse(&figure.printed, counts)
        .map_err(|reason| field(format!("{at}.printed"), reason))?;
    if let Some(spread) = &figure.spread {
        let spread =
            Number::parse(spread, false).map_err(|reason| field(format!("{at}.spread"), reason))?;
        if parsed.high.is_some() || spread.high.is_some() {
            return fail(format!("{at}.spread"), "a range has no ±");
        }
    }
    if !figure
        .unit
        .meaning()
        .0
        .contains(&figure.quantity.dimension())
    {
        let reason = format!(
            "`{}` is no unit of {}",
            figure.unit.symbol(),
            figure.quantity.words()
        );
        return fail(format!("{at}.unit"), reason);
    }
    // What is divided by must not be 0, whatever it was rounded from.
    let zero_means_something = figure.below
        || matches!(
            figure.quantity,
            Quantity::Dropout
                | Quantity::LearningRate
                | Quantity::TimePart
                | Quantity::RelativeSpread
                | Quantity::Loss
        );
    if parsed.low.0 == 0.0 && !zero_means_something {
        let reason = format!("{} has to be above 0", figure.quantity.words());
        return fail(format!("{at}.printed"), reason);
    }
    match &figure.of {
        Some(Scope::Window(window)) if window_spec(window).is_none() => {
            let reason = format!("`{window}` is no range of iterations; write it as in 1-100");
            fail(format!("{at}.of.window"), reason)
        }
        Some(Scope::Prompt(0)) => fail(format!("{at}.of.prompt"), "prompts are counted from 1"),
        _ => Ok(()),
    }
}

fn fail<T>(at: impl Into<String>, reason: impl Into<String>) -> Result<T, ClaimsError> {
    Err(field(at, reason))
}

fn field(at: impl Into<String>, reason: impl Into<String>) -> ClaimsError {
    ClaimsError::Field {
        at: at.into(),
        reason: reason.into(),
    }
}

fn window_spec(text: &str) -> Option<WindowSpec> {
    match crate::window::parse(text).ok()?[..] {
        [window] if window.first > 0 && window.first <= window.last => Some(window),
        _ => None,
    }
}

/// A printed number, or a range of two.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Number {
    /// Value, and half a unit of the last digit; 0 for a count in full.
    low: (f64, f64),
    high: Option<(f64, f64)>,
}

impl Number {
    fn parse(text: &str, counts: bool) -> Result<Self, String> {
        let one = |text| parse_number(text, counts);
        if let Some(single) = one(text) {
            return Ok(Self {
                low: single,
                high: None,
            });
        }
        let range = text
            .split_once('-')
            .and_then(|(low, high)| Some((one(low)?, one(high)?)));
        match range {
            Some((low, high)) if low.0 <= high.0 => Ok(Self {
                low,
                high: Some(high),
            }),
            _ => Err(format!(
                "`{text}` is no number as it would be printed: digits, with a point, thousands \
                 separators, an exponent, or K, M or B; or two of them as a range"
            )),
        }
    }

    fn interval(self, rounded: bool) -> Interval {
        let (low, half) = self.low;
        match self.high {
            None => Interval::around(low, half),
            Some((high, of_high)) if rounded => Interval {
                low: (low - half).max(0.0),
                high: high + of_high,
            },
            Some((high, _)) => Interval { low, high },
        }
    }
}

/// Value and half a unit of the last digit of one number. A count in full has no such half.
fn parse_number(text: &str, counts: bool) -> Option<(f64, f64)> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1e3),
        b'M' => (&text[..text.len() - 1], 1e6),
        b'B' => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let (mantissa, exponent) = match digits.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (mantissa, ""),
    };
    let groups: Vec<&str> = whole.split(',').collect();
    let grouped = groups.len() == 1
        || (groups[1..].iter().all(|group| group.len() == 3) && (1..=3).contains(&groups[0].len()));
    let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !grouped || groups[0].is_empty() || !groups.iter().all(|g| plain(g)) || !plain(fraction) {
        return None;
    }
    let value = format!("{}.{fraction}e{exponent}", groups.concat());
    let value = value.replace(".e", "e").parse::<f64>().ok()? * factor;
    let exact = counts && fraction.is_empty() && exponent == 0 && factor == 1.0;
    let half = match exact {
        true => 0.0,
        false => 0.5 * 10_f64.powi(exponent - i32::try_from(fraction.len()).ok()?) * factor,
    };
    (value.is_finite() && half.is_finite()).then_some((value, half))
}

/// Where `number` stands by itself in `text`, at `from` or later.
fn find_number(text: &str, number: &str, from: usize) -> Option<usize> {
    let part_of_number = |c: char| c.is_ascii_digit();
    text.get(from..)?
        .match_indices(number)
        .find_map(|(offset, _)| {
            let position = from + offset;
            let before = text[..position].chars().next_back();
            let after = text[position + number.len()..].chars().next();
            let alone = !before.is_some_and(|c| part_of_number(c) || c == '.')
                && !after.is_some_and(part_of_number);
            alone.then_some(position)
        })
}

/// The first digits in `text` that no letter precedes: `ARM64` and `x86` are names.
fn stray_number(text: &str) -> Option<String> {
    let mut before = ' ';
    for (position, character) in text.char_indices() {
        if character.is_ascii_digit() && !before.is_alphanumeric() {
            let digits = text[position..].chars().take_while(char::is_ascii_digit);
            return Some(digits.collect());
        }
        before = character;
    }
    None
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests;
