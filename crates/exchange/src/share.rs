//! A record without what is its owner's alone, so that it can be published.
//!
//! Prompts become their hashes, so that runs of the same prompts are still seen to be the same
//! work; whoever guesses a prompt can see that the guess is right. Generated texts and their token
//! ids, which any tokenizer turns back into text, are removed; so are names that a user chose. What
//! is not known to this build is not written. Hashes of files and the lengths of samples stay: runs
//! are compared by them.

use std::{collections::BTreeMap, mem};

use metrics::record::{Event, Start};
use metrics::store::{self, ParseError};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::device;
pub use crate::telling::is_telling;

/// In the place of what was removed.
pub const REMOVED: &str = "removed";

/// Publishers of models on the hub whose ids tell nothing of the user.
const PUBLISHERS: [&str; 2] = ["LiquidAI/", "mlx-community/"];

/// Characters of the hash in a name.
const HASH: usize = 12;

/// A record that can be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Name of its folder: machine, model, and a hash of all that the work and the machine are.
    pub name: String,
    /// The lines of the record.
    pub text: String,
    /// What was removed, by field, and how often.
    pub removed: BTreeMap<String, u32>,
}

/// What is private beyond the rules of the format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Privacy<'a> {
    /// Names of the user, the host and the home folder, and others that are to go: a field that
    /// holds one as a word is removed, however short it is.
    pub names: &'a [String],
    /// Names of models that everybody has, such as presets.
    pub public_models: &'a [&'a str],
}

impl Privacy<'_> {
    /// Whether a text is a path or holds a private name.
    fn hides(&self, text: &str) -> bool {
        is_path(text) || self.names.iter().any(|name| holds(text, name))
    }
}

/// Takes out of the text of a record what is its owner's alone.
///
/// # Errors
///
/// For a text that is no record.
pub fn share(text: &str, privacy: &Privacy) -> Result<Shared, ParseError> {
    cleaned(text, privacy, None)
}

/// As [`share`], of one of several runs that are published together, which is called `run_id`.
/// Their sets and arms stay apart, as `set-1` or `arm-2`, in the order in which `names` comes to
/// know them.
///
/// # Errors
///
/// For a text that is no record.
pub fn share_one_of(
    text: &str,
    run_id: &str,
    privacy: &Privacy,
    names: &mut Names,
) -> Result<Shared, ParseError> {
    cleaned(text, privacy, Some((run_id, names)))
}

/// What sets and arms were called, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Names {
    sets: Vec<String>,
    arms: Vec<String>,
}

/// A number in the place of a name.
fn numbered(known: &mut Vec<String>, kind: &str, name: &str) -> String {
    let place = known.iter().position(|it| it == name);
    let place = place.unwrap_or_else(|| {
        known.push(name.to_owned());
        known.len() - 1
    });
    format!("{kind}-{}", place + 1)
}

fn cleaned(
    text: &str,
    privacy: &Privacy,
    several: Option<(&str, &mut Names)>,
) -> Result<Shared, ParseError> {
    // What is published can be read.
    let record = store::parse(text)?;
    let mut removed = BTreeMap::new();
    let mut start = record.start;
    let member = start.member.clone();
    clean_start(&mut start, privacy, &mut removed);
    let first = Event::Start(Box::new(start));
    let mut first = swept(&first, privacy, &mut removed);
    // The name is made of what is published, and of nothing that was removed.
    let mut name = String::new();
    if let Ok(Event::Start(start)) = Event::deserialize(&first) {
        name = folder_name(&start, privacy);
    }
    first["run_id"] = name.clone().into();
    if let Some((run_id, names)) = several {
        first["run_id"] = run_id.into();
        if let Some(member) = member {
            first["member"]["set"] = numbered(&mut names.sets, "set", &member.set).into();
            first["member"]["arm"] = numbered(&mut names.arms, "arm", &member.arm).into();
        }
    }
    let mut lines = format!("{first}\n");
    for event in text.lines().skip(1).map_while(parse) {
        let event = clean_event(event, &mut removed);
        lines += &swept(&event, privacy, &mut removed).to_string();
        lines.push('\n');
    }
    Ok(Shared {
        name,
        text: lines,
        removed,
    })
}

/// `None` for a last line that was cut off: the others were read before.
fn parse(line: &str) -> Option<Event> {
    serde_json::from_str(line).ok()
}

fn note(removed: &mut BTreeMap<String, u32>, field: &str) {
    *removed.entry(field.to_owned()).or_default() += 1;
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A hash in the place of a text; one that is there already is left, so that a shared record can be
/// shared again.
fn hide(text: &mut String, field: &str, removed: &mut BTreeMap<String, u32>) {
    if !text.starts_with("sha256:") {
        *text = hash(text);
        note(removed, field);
    }
}

fn remove(text: &mut String, field: &str, removed: &mut BTreeMap<String, u32>) {
    if text != REMOVED {
        *text = REMOVED.to_owned();
        note(removed, field);
    }
}

fn clean_start(start: &mut Start, privacy: &Privacy, removed: &mut BTreeMap<String, u32>) {
    note(removed, "start.run_id");
    start.run_id.clear();
    let model = &mut start.model;
    let known = privacy.public_models.contains(&model.name.as_str())
        || (model.revision.is_some() && PUBLISHERS.iter().any(|it| model.name.starts_with(it)));
    if !known {
        remove(&mut model.name, "start.model.name", removed);
    }
    if start.data.name != "embedded" {
        remove(&mut start.data.name, "start.data.name", removed);
    }
    let generation = &mut start.config.generation;
    for prompt in &mut generation.prompts {
        hide(prompt, "start.config.generation.prompts", removed);
    }
    if generation.checks.take().is_some() {
        note(removed, "start.config.generation.checks");
    }
    if let Some(member) = &mut start.member {
        remove(&mut member.set, "start.member.set", removed);
        remove(&mut member.arm, "start.member.arm", removed);
    }
    for value in start.mlx.variables.values_mut() {
        // A switch or a size; anything else can be a path.
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            remove(value, "start.mlx.variables", removed);
        }
    }
    let variables = mem::take(&mut start.mlx.variables).into_iter();
    let (hidden, kept) = variables.partition::<BTreeMap<_, _>, _>(|(name, _)| privacy.hides(name));
    start.mlx.variables = kept;
    for value in hidden.into_values() {
        let names = (1..).map(|number| format!("{REMOVED}-{number}"));
        let mut free = names.filter(|name| !start.mlx.variables.contains_key(name));
        let name = free.next().unwrap_or_default();
        note(removed, "start.mlx.variables");
        start.mlx.variables.insert(name, value);
    }
}

fn clean_event(mut event: Event, removed: &mut BTreeMap<String, u32>) -> Event {
    match &mut event {
        Event::Generation(generation) => {
            hide(&mut generation.prompt, "generation.prompt", removed);
            remove(&mut generation.text, "generation.text", removed);
            if generation.token_ids.iter().any(|&id| id != 0) {
                generation.token_ids.fill(0);
                note(removed, "generation.token_ids");
            }
        }
        Event::Effect(effect) => {
            for before in &mut effect.texts_before {
                remove(&mut before.text, "effect.texts_before", removed);
                before.token_ids.fill(0);
            }
        }
        Event::End(end) => {
            if let Some(reason) = &mut end.reason {
                remove(reason, "end.reason", removed);
            }
        }
        _ => {}
    }
    event
}

/// An event as JSON, without any string that is private.
fn swept(event: &Event, privacy: &Privacy, removed: &mut BTreeMap<String, u32>) -> Value {
    // The types of the record always are JSON.
    let mut value = serde_json::to_value(event).unwrap_or_default();
    let kind = value["event"].as_str().unwrap_or_default().to_owned();
    sweep(&kind, &mut value, privacy, removed);
    value
}

/// Removes every string that is a path or holds a private name, whatever field it is in.
fn sweep(at: &str, value: &mut Value, privacy: &Privacy, removed: &mut BTreeMap<String, u32>) {
    match value {
        Value::String(text) if privacy.hides(text) => remove(text, at, removed),
        Value::Array(values) => {
            for value in values {
                sweep(at, value, privacy, removed);
            }
        }
        Value::Object(fields) => {
            // What these hold is one of a few words of the format.
            let words = ["event", "phase", "status", "finish", "kind"];
            for (name, value) in fields
                .iter_mut()
                .filter(|it| !words.contains(&it.0.as_str()))
            {
                sweep(&format!("{at}.{name}"), value, privacy, removed);
            }
        }
        _ => {}
    }
}

fn is_path(text: &str) -> bool {
    let rooted = |word: &str| {
        let word = word.trim_start_matches(['(', '"', '\'', '`', '=']);
        word.starts_with("~/") || (word.starts_with('/') && word.len() > 1)
    };
    text.contains(":\\") || text.split_whitespace().any(rooted)
}

/// Whether a name stands in a text as a word, in whatever case.
fn holds(text: &str, name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    text.match_indices(&name).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let after = text[at + found.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        !part(before) && !part(after)
    })
}

/// `<machine>-<model>-<hash>`, of what is published.
fn folder_name(start: &Start, privacy: &Privacy) -> String {
    let machine = &start.machine;
    let device = device(start).unwrap_or("unknown");
    let all = serde_json::json!([
        machine,
        start.config,
        start.model,
        start.data,
        start.mlx,
        start.lfmark.version,
        start.lfmark.commit,
        start.engine,
    ]);
    let all = hash(&all.to_string());
    let hex = all.trim_start_matches("sha256:");
    let model = start.model.name.rsplit('/').next().unwrap_or_default();
    // Words that stand in no field together can become a name here.
    let words = match format!("{}-{}", slug(device), slug(model)) {
        words if privacy.hides(&words) => REMOVED.to_owned(),
        words => words,
    };
    format!("{words}-{}", &hex[..HASH])
}

/// Lower-case letters and digits with single hyphens between them, 40 at most.
fn slug(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric());
    let parts: Vec<String> = parts
        .filter(|part| !part.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let mut slug = parts.join("-");
    slug.truncate(40);
    slug
}
