//! JSONL training data to padded batches, by mlx-lm's rules.
//!
//! A file holds one JSON object a line, all in one of mlx-lm's formats: `prompt` and
//! `completion`, `messages`, or `text` (looked for in this order in the first line). Batches are
//! made of neighbours in the [`Order`], and their own order is shuffled anew for every pass over
//! the data. The shuffle is seeded; it is not NumPy's, so its order differs from mlx-lm's.

use std::{collections::BTreeSet, fs, ops::RangeInclusive, path::Path};

use mlx_rs::Array;
use serde_json::Value;

use crate::{
    Error, Result, mlx,
    random::Generator,
    tokenizer::{Message, Tokenizer},
    weights::sha256_hex,
};

/// Rows are padded to one more than a multiple of this.
pub const PAD_TO: usize = 32;

/// One tokenized sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub tokens: Vec<u32>,
    /// Tokens of the prompt, which do not enter the loss when prompts are masked; otherwise 0.
    pub offset: usize,
    /// Fields of the record.
    pub fields: usize,
    /// Line in the file, from 1.
    pub line: usize,
}

/// Which samples are neighbours, and so share a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// What the command `mlx_lm.lora` does in 0.32.2: it means to sort by length, and sorts by
    /// the number of fields of a record, so that equal records stay in the order of the file.
    #[default]
    MlxLm,
    /// By number of tokens, which needs the least padding.
    Length,
}

/// How the lines of a file are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Completions,
    Chat,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Completions => "completions",
            Self::Chat => "chat",
        }
    }
}

/// A tokenized data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// How errors name it: the file's path, or `embedded`.
    pub name: String,
    pub sha256: String,
    pub format: Format,
    pub samples: Vec<Sample>,
}

impl Dataset {
    /// Reads a JSONL file, or `train.jsonl` of a folder.
    ///
    /// # Errors
    ///
    /// An unreadable or empty file, a broken line (named by its number), or a sample that holds
    /// no token.
    pub fn read(path: &Path, tokenizer: &Tokenizer, mask_prompt: bool) -> Result<Self> {
        let file = match path.is_dir() {
            true => path.join("train.jsonl"),
            false => path.to_owned(),
        };
        let text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
        let name = file.display().to_string();
        Self::parse(&name, &text, tokenizer, mask_prompt)
    }

    /// Tokenizes the text of a JSONL file; `name` stands for it in errors.
    ///
    /// # Errors
    ///
    /// As [`Dataset::read`].
    pub fn parse(name: &str, text: &str, tokenizer: &Tokenizer, mask_prompt: bool) -> Result<Self> {
        let mut format = None;
        let mut samples = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.trim().is_empty() {
                continue;
            }
            let fail = |problem: String| Error::data(name, Some(number), problem);
            let value: Value = serde_json::from_str(line).map_err(|e| {
                // The text ends with a line and a column, of which the line is always 1.
                let text = e.to_string();
                let reason = text.split(" at line ").next().unwrap_or(&text);
                fail(format!(
                    "not valid JSON: {reason} at column {}; every line must hold one object",
                    e.column()
                ))
            })?;
            let format = match format {
                Some(format) => format,
                None => *format.insert(detect(&value).ok_or_else(|| {
                    fail("needs `prompt` and `completion`, or `messages`, or `text`".into())
                })?),
            };
            if format == Format::Text && mask_prompt {
                return Err(fail(
                    "plain text has no prompt to mask; drop --mask-prompt".into(),
                ));
            }
            let (tokens, offset) =
                tokenize(&value, format, tokenizer, mask_prompt).map_err(fail)?;
            if tokens.is_empty() {
                return Err(fail("holds no token".into()));
            }
            samples.push(Sample {
                tokens,
                offset,
                fields: value.as_object().map_or(0, |fields| fields.len()),
                line: number,
            });
        }
        let Some(format) = format else {
            return Err(Error::data(
                name,
                None,
                "holds no samples; give one JSON object a line",
            ));
        };
        Ok(Self {
            name: name.to_owned(),
            sha256: sha256_hex(text.as_bytes()),
            format,
            samples,
        })
    }

    /// Counts the samples that batches of at most `max_seq_length` tokens will cut, as mlx-lm does.
    ///
    /// # Errors
    ///
    /// With `truncate` off, a longer sample is an error that names its line.
    pub fn check_length(&self, max_seq_length: usize, truncate: bool) -> Result<usize> {
        let too_long = |sample: &&Sample| sample.tokens.len() > max_seq_length;
        match self.samples.iter().find(too_long) {
            Some(sample) if !truncate => Err(Error::data(
                &self.name,
                Some(sample.line),
                format!(
                    "the sample has {} tokens, more than the maximum of {max_seq_length}; \
                     raise --max-seq-length, split the sample, or cut it with --truncate",
                    sample.tokens.len()
                ),
            )),
            _ => Ok(self.samples.iter().filter(too_long).count()),
        }
    }
}

fn detect(value: &Value) -> Option<Format> {
    let has = |key| value.get(key).is_some();
    if has("prompt") && has("completion") {
        Some(Format::Completions)
    } else if has("messages") {
        Some(Format::Chat)
    } else if has("text") {
        Some(Format::Text)
    } else {
        None
    }
}

fn tokenize(
    value: &Value,
    format: Format,
    tokenizer: &Tokenizer,
    mask_prompt: bool,
) -> Result<(Vec<u32>, usize), String> {
    let string = |key: &str| match value.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("`{key}` is not a string")),
        None => Err(format!(
            "`{key}` is missing, and the file's first line has it"
        )),
    };
    let tools = value.get("tools");
    let chat = |messages: &[Message], generation_prompt| {
        tokenizer
            .encode_chat(messages, tools, generation_prompt)
            .map_err(|e| e.to_string())
    };
    let messages: Vec<Message> = match format {
        Format::Text => {
            let mut tokens = tokenizer
                .encode(&string("text")?)
                .map_err(|e| e.to_string())?;
            let eos = tokenizer
                .eos_id()
                .ok_or("the tokenizer names no end-of-text token")?;
            if tokens.last() != Some(&eos) {
                tokens.push(eos);
            }
            return Ok((tokens, 0));
        }
        Format::Completions => vec![
            Message::new("user", &string("prompt")?),
            Message::new("assistant", &string("completion")?),
        ],
        Format::Chat => {
            let list = value
                .get("messages")
                .ok_or("`messages` is missing, and the file's first line has it")?;
            let list: Vec<Message> =
                serde_json::from_value(list.clone()).map_err(|e| format!("`messages`: {e}"))?;
            if list.is_empty() {
                return Err("`messages` is empty".into());
            }
            list
        }
    };
    let tokens = chat(&messages, false)?;
    let offset = match (mask_prompt, messages.split_last()) {
        (true, Some((_, []))) => {
            return Err(
                "has one message, so there is no prompt to mask; drop --mask-prompt".into(),
            );
        }
        (true, Some((last, before))) => chat(before, last.role() == Some("assistant"))?.len(),
        _ => 0,
    };
    Ok((tokens, offset))
}

/// One padded batch.
#[derive(Clone)]
pub struct Batch {
    /// Token ids, int32 `[rows, width]`, padded with 0.
    pub tokens: Array,
    /// First and last position that enters the loss, int32 `[rows, 2]`.
    pub bounds: Array,
    /// Positions that get logits, from 1, int32 `[n]`: a range that holds all that enter the loss in
    /// any row.
    pub scored: Array,
    pub counts: Counts,
}

/// Numbers of scored positions are multiples of this, unless the row ends.
const SCORED_MULTIPLE: i32 = 16;

impl Batch {
    /// `tokens` `[rows, width]`, at least two wide, and `bounds` `[rows, 2]`, row after row.
    pub fn new(tokens: &[i32], bounds: &[i32], counts: Counts) -> Self {
        let rows = bounds.len() / 2;
        let width = tokens.len() / rows;
        let scored: Vec<i32> = positions_with_logits(bounds, width).collect();
        Self {
            tokens: Array::from_slice(tokens, &[rows as i32, width as i32]),
            bounds: Array::from_slice(bounds, &[rows as i32, 2]),
            scored: Array::from_slice(&scored, &[scored.len() as i32]),
            counts,
        }
    }

    /// What a step takes of it: tokens, bounds and scored positions.
    pub(crate) fn arrays(&self) -> [Array; 3] {
        [&self.tokens, &self.bounds, &self.scored].map(Array::clone)
    }
}

/// The positions of a batch that get logits: all of them where leaving out the others saves nothing.
fn positions_with_logits(bounds: &[i32], width: usize) -> RangeInclusive<i32> {
    let last = width as i32 - 1;
    let scored = scored(bounds, last);
    let left_out = last as usize - scored.clone().count();
    match bounds.len() / 2 * left_out < mlx::fewest_left_out() {
        true => 1..=last,
        false => scored,
    }
}

/// A range of the positions, from 1 to the last, with all that enter the loss: a quarter of them, two,
/// three or all, rounded up. A step is compiled anew for every length.
fn scored(bounds: &[i32], last: i32) -> RangeInclusive<i32> {
    let within = |row: &[i32]| (row[0].max(1), row[1].min(last));
    let rows = || {
        let rows = bounds.chunks_exact(2).map(within);
        rows.filter(|(from, to)| from <= to)
    };
    let from = rows().map(|(from, _)| from).min().unwrap_or(1);
    let to = rows().map(|(_, to)| to).max().unwrap_or(from);
    let round_up = |n: i32, multiple: i32| (n + multiple - 1) / multiple * multiple;
    let count = (1..=4)
        .map(|quarters| round_up(round_up(last * quarters, 4) / 4, SCORED_MULTIPLE).min(last))
        .find(|&count| count > to - from)
        .expect("four quarters hold every position");
    let from = from.min(last + 1 - count);
    from..=from + count - 1
}

/// Tokens of a batch, counted three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub rows: u32,
    /// Of the samples themselves, as fed to the model.
    pub real_tokens: u32,
    /// All input positions, padding included: rows times one less than the width.
    pub padded_tokens: u32,
    /// Positions that enter the loss. With mlx-lm's bounds that includes the one after a
    /// sample's last token, which predicts padding, unless the row is full.
    pub loss_tokens: u32,
}

/// How samples are put into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    pub order: Order,
    /// Rows of a batch.
    pub size: usize,
    /// Bound of the padded width; longer samples are cut.
    pub max_seq_length: usize,
    pub seed: u64,
}

/// Endless batches in seeded order.
pub struct Batches {
    rows: Vec<Row>,
    /// Samples of every batch, as indices into `rows`.
    batches: Vec<Vec<usize>>,
    max_seq_length: usize,
    generator: Generator,
    /// Batches still to come in this pass over the data, last first.
    pending: Vec<usize>,
}

struct Row {
    tokens: Vec<i32>,
    offset: usize,
}

impl Row {
    /// Positions that enter the loss in a batch of this width.
    fn loss_tokens(&self, width: usize) -> usize {
        let positions = self.tokens.len().min(width - 1);
        (positions + 1).saturating_sub(self.offset.max(1))
    }
}

impl Batches {
    /// # Errors
    ///
    /// Fewer samples than a batch has rows, or a size of zero.
    pub fn new(data: &Dataset, vocab_size: i32, options: BatchOptions) -> Result<Self> {
        let BatchOptions {
            order,
            size: batch_size,
            max_seq_length,
            seed,
        } = options;
        check_vocabulary(data, vocab_size)?;
        if batch_size == 0 || data.samples.len() < batch_size {
            return Err(Error::data(
                &data.name,
                None,
                format!(
                    "a batch size of {batch_size} does not suit the number of samples, {}; \
                     give --batch-size 1 up to that number",
                    data.samples.len()
                ),
            ));
        }
        if max_seq_length < 2 {
            return Err(Error::Invalid(format!(
                "the maximum sequence length is {max_seq_length}; a step needs at least 2 tokens"
            )));
        }
        let row = |sample: &Sample| Row {
            tokens: sample.tokens.iter().map(|&id| id as i32).collect(),
            offset: sample.offset,
        };
        let rows: Vec<Row> = data.samples.iter().map(row).collect();
        let mut sorted: Vec<usize> = (0..rows.len()).collect();
        sorted.sort_by_key(|&index| match order {
            Order::MlxLm => data.samples[index].fields,
            Order::Length => data.samples[index].tokens.len(),
        });
        let batches = Self {
            batches: sorted
                .chunks_exact(batch_size)
                .map(<[usize]>::to_vec)
                .collect(),
            rows,
            max_seq_length,
            generator: Generator::new(seed),
            pending: Vec::new(),
        };
        batches.check_loss_tokens(data)?;
        Ok(batches)
    }

    /// A batch without a position in the loss would divide by zero.
    fn check_loss_tokens(&self, data: &Dataset) -> Result<()> {
        for (index, batch) in self.batches.iter().enumerate() {
            let width = self.width(index);
            if batch
                .iter()
                .all(|&row| self.rows[row].loss_tokens(width) == 0)
            {
                return Err(Error::data(
                    &data.name,
                    batch.first().map(|&row| data.samples[row].line),
                    "nothing of the sample enters the loss: its prompt is masked and fills all of \
                     --max-seq-length; raise that, shorten the prompt, or drop --mask-prompt",
                ));
            }
        }
        Ok(())
    }

    /// The next batch; never ends.
    pub fn next_batch(&mut self) -> Batch {
        if self.pending.is_empty() {
            self.pending = (0..self.batches.len()).collect();
            self.generator.shuffle(&mut self.pending);
        }
        let index = self.pending.pop().expect("there is at least one batch");
        self.build(index)
    }

    /// Every batch once, in the order of the data.
    pub fn each(&self) -> impl Iterator<Item = Batch> {
        (0..self.batches.len()).map(|index| self.build(index))
    }

    /// One batch of every shape that a step will meet, in the order of the data: they differ in their
    /// width, and in how many positions get logits.
    pub fn one_of_each_shape(&self) -> Vec<Batch> {
        let mut shapes = BTreeSet::new();
        let new = (0..self.batches.len()).filter(|&index| {
            let width = self.width(index);
            let scored = positions_with_logits(&self.bounds(index, width), width);
            shapes.insert((width, scored.count()))
        });
        new.map(|index| self.build(index)).collect()
    }

    fn width(&self, index: usize) -> usize {
        let longest = self.batches[index]
            .iter()
            .map(|&row| self.rows[row].tokens.len())
            .max();
        let padded = 1 + longest.unwrap_or(0).div_ceil(PAD_TO) * PAD_TO;
        padded.min(self.max_seq_length)
    }

    /// First and last position in the loss of every row of a batch of this width.
    fn bounds(&self, index: usize, width: usize) -> Vec<i32> {
        let rows = self.batches[index].iter().map(|&row| &self.rows[row]);
        rows.flat_map(|row| [row.offset as i32, row.tokens.len().min(width) as i32])
            .collect()
    }

    fn build(&self, index: usize) -> Batch {
        let batch = &self.batches[index];
        let width = self.width(index);
        let mut tokens = vec![0_i32; batch.len() * width];
        let mut counts = Counts {
            rows: batch.len() as u32,
            real_tokens: 0,
            padded_tokens: (batch.len() * (width - 1)) as u32,
            loss_tokens: 0,
        };
        for (slots, &row) in tokens.chunks_exact_mut(width).zip(batch) {
            let row = &self.rows[row];
            let length = row.tokens.len().min(width);
            slots[..length].copy_from_slice(&row.tokens[..length]);
            counts.real_tokens += length.min(width - 1) as u32;
            counts.loss_tokens += row.loss_tokens(width) as u32;
        }
        Batch::new(&tokens, &self.bounds(index, width), counts)
    }
}

/// MLX reads out of bounds without a check, so no token id gets past this one.
fn check_vocabulary(data: &Dataset, vocab_size: i32) -> Result<()> {
    for sample in &data.samples {
        if let Some(id) = sample.tokens.iter().find(|id| **id >= vocab_size as u32) {
            return Err(Error::data(
                &data.name,
                Some(sample.line),
                format!(
                    "token id {id} is outside the model's vocabulary of {vocab_size}; \
                     the tokenizer does not belong to this model"
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn scored_positions_hold_all_that_count() {
        for (bounds, last, expected) in [
            // A range goes on behind the last one, or begins before the first where the row ends.
            (&[0, 70][..], 96, 1..=80),
            (&[0, 96], 96, 1..=96),
            (&[40, 70], 96, 40..=71),
            (&[60, 96], 96, 49..=96),
            (&[90, 97], 96, 65..=96),
            (&[5, 5], 96, 5..=36),
            (&[0, 3], 7, 1..=7),
            (&[0, 97], 128, 1..=128),
            // Of several rows, those with a position in the loss count.
            (&[40, 44, 30, 33, 90, 80], 96, 30..=61),
        ] {
            assert_eq!(scored(bounds, last), expected, "{bounds:?} of {last}");
        }
        let mut generator = Generator::new(0);
        let mut draw = |end: i32| {
            let mut all: Vec<i32> = (0..end).collect();
            generator.shuffle(&mut all);
            all[0]
        };
        let mut counts = BTreeMap::<i32, BTreeSet<i32>>::new();
        for _ in 0..20_000 {
            let last = 1 + draw(130);
            let bounds: Vec<i32> = (0..2 * (1 + draw(3))).map(|_| draw(last + 3)).collect();
            let found = scored(&bounds, last);
            let count = found.clone().count() as i32;
            assert!(1 <= *found.start() && *found.end() <= last);
            assert!(count % SCORED_MULTIPLE == 0 || count == last);
            counts.entry(last).or_default().insert(count);
            for row in bounds.chunks_exact(2) {
                let inside = (1..=last).filter(|p| (row[0]..=row[1]).contains(p));
                inside.for_each(|p| assert!(found.contains(&p), "{p} of {bounds:?}, {last}"));
            }
        }
        // Each is a compilation.
        assert_eq!(counts.values().map(BTreeSet::len).max(), Some(4));
    }
}
