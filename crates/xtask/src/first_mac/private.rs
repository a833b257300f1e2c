//! Takes names of user and host, folders and serial numbers out of texts.

use std::path::Path;

use serde_json::Value;

use self::telling::is_telling;
use crate::process::{command, quiet};

#[path = "../../../exchange/src/telling.rs"]
#[expect(unreachable_pub, reason = "a crate that others use has this file too")]
mod telling;

const REMOVED: &str = "removed";

/// What is looked for and what takes its place, the longest first.
pub(super) struct Private(Vec<(String, String)>);

impl Private {
    /// All that is private here, and folders with their names.
    pub(super) fn of_this_machine(folders: &[(&Path, &str)]) -> Self {
        let programs: [&[&str]; 5] = [
            &["id", "-un"],
            // The user's name in full, which only macOS prints.
            &["id", "-F"],
            &["hostname"],
            &["scutil", "--get", "ComputerName"],
            &["scutil", "--get", "LocalHostName"],
        ];
        let names = programs
            .iter()
            .filter_map(|it| quiet(&mut command(it[0], &it[1..])).ok());
        let mut names: Vec<String> = names.collect();
        let home = std::env::home_dir().unwrap_or_default();
        let user = home.file_name().unwrap_or_default();
        names.push(user.to_string_lossy().into_owned());
        let temporary = std::env::temp_dir();
        let mut folders = folders.to_vec();
        folders.extend([(home.as_path(), "~"), (temporary.as_path(), "TEMPORARY")]);
        Self::new(&names, &folders)
    }

    pub(super) fn new(names: &[String], folders: &[(&Path, &str)]) -> Self {
        let mut found: Vec<(String, String)> = Vec::new();
        for name in names {
            let name = name.trim();
            // With its domain, and the name alone.
            let host = name.split('.').next().unwrap_or(name);
            found.extend([name, host].map(|it| (it.to_owned(), REMOVED.to_owned())));
        }
        found.retain(|(name, _)| is_telling(name));
        for (folder, name) in folders {
            // On macOS some are links to others.
            let real = folder.canonicalize().unwrap_or_default();
            for path in [folder.to_path_buf(), real] {
                let path = path.to_string_lossy().trim_end_matches('/').to_owned();
                if path.len() > 1 {
                    found.push((path, (*name).to_owned()));
                }
            }
        }
        found.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self(found)
    }

    /// Cleans every string but the names of fields, which are of programs.
    pub(super) fn clean(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.text(&text).into(),
            Value::Array(values) => values.into_iter().map(|it| self.clean(it)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| (name, self.clean(value)))
                .collect(),
            other => other,
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.split_inclusive('\n').map(line).collect::<String>();
        for (found, place) in &self.0 {
            text = replaced(&text, found, place);
        }
        text
    }
}

/// A line without the serial number that it has.
fn line(line: &str) -> String {
    let plain = line.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let separator = line.rfind(": ").or_else(|| line.rfind("= "));
    if let (true, Some(at)) = (plain.contains("serialnumber"), separator) {
        let end = &line[line.trim_end().trim_end_matches(',').len()..];
        return format!("{} \"{REMOVED}\"{end}", &line[..=at]);
    }
    line.to_owned()
}

/// A text with something else in every place where `found` stands as a word, in whatever case.
fn replaced(text: &str, found: &str, place: &str) -> String {
    let (lower, wanted) = (text.to_ascii_lowercase(), found.to_ascii_lowercase());
    let edge = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let starts_as_word = edge(wanted.chars().next());
    let mut result = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in lower.match_indices(&wanted) {
        let end = at + wanted.len();
        let inside = starts_as_word && edge(lower[..at].chars().next_back());
        if !inside && !edge(lower[end..].chars().next()) {
            result += &text[from..at];
            result += place;
            from = end;
        }
    }
    result + &text[from..]
}
