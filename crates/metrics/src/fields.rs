//! Values as flat lists of fields, and where such lists differ.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

/// Fields with their paths, in order.
pub type Fields = Vec<(String, String)>;

/// The fields of a value with their paths, in its order. A list is one field.
pub fn flat<T: Serialize>(value: &T) -> Fields {
    fn walk(path: &str, value: &Value, fields: &mut Fields) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    let mut path = path.to_owned();
                    let dot = if path.is_empty() { "" } else { "." };
                    let _ = write!(path, "{dot}{key}");
                    walk(&path, value, fields);
                }
            }
            Value::String(text) => fields.push((path.to_owned(), text.clone())),
            other => fields.push((path.to_owned(), other.to_string())),
        }
    }
    let mut fields = Vec::new();
    // What records hold always is JSON.
    let value = serde_json::to_value(value).unwrap_or_default();
    walk("", &value, &mut fields);
    fields
}

/// The value of a field.
pub(crate) fn value_of<'a>(fields: &'a [(String, String)], field: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(path, _)| path == field);
    found.map(|(_, value)| value.as_str())
}

/// A field in which runs differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub field: String,
    /// One of the first run, and the first other one; `None` where there is no such field.
    pub values: [Option<String>; 2],
    /// The runs that have them.
    pub runs: [String; 2],
}

impl Difference {
    /// As in "dtype (f32 in a, bf16 in b)".
    pub fn text(&self) -> String {
        let of = |at: usize| {
            let value = shown(self.values[at].as_deref());
            format!("{value} in {}", self.runs[at])
        };
        format!("{} ({}, {})", self.field, of(0), of(1))
    }
}

/// The texts of all these differences.
pub(crate) fn texts(differences: &[Difference]) -> String {
    let texts: Vec<String> = differences.iter().map(Difference::text).collect();
    texts.join("; ")
}

/// The fields in which any list differs from the first one. Each list comes with the name of its
/// run.
pub fn differing(all: &[(&str, &Fields)]) -> Vec<Difference> {
    let Some(((first, reference), others)) = all.split_first() else {
        return Vec::new();
    };
    let mut found: Vec<Difference> = Vec::new();
    let mut seen: Vec<&Fields> = vec![reference];
    for &(name, fields) in others {
        if seen.contains(&fields) {
            continue;
        }
        seen.push(fields);
        for (field, _) in reference.iter().chain(fields) {
            let values = [reference, fields].map(|of| value_of(of, field).map(str::to_owned));
            if values[0] != values[1] && !found.iter().any(|known| known.field == *field) {
                found.push(Difference {
                    field: field.clone(),
                    values,
                    runs: [(*first).to_owned(), name.to_owned()],
                });
            }
        }
    }
    found
}

/// A value longer than this is not shown in a message.
const LONGEST_VALUE: usize = 60;

/// A value of a field, as a message shows it.
pub(crate) fn shown(value: Option<&str>) -> &str {
    match value {
        None => "none",
        Some(long) if long.len() > LONGEST_VALUE => "another value",
        Some(value) => value,
    }
}

/// Values as a message shows them, the first ones of many.
pub(crate) fn listed(values: &[Option<String>]) -> Vec<String> {
    const MOST: usize = 4;
    let shown = values.iter().take(MOST).map(|it| shown(it.as_deref()));
    let mut texts: Vec<String> = shown.map(str::to_owned).collect();
    if values.len() > MOST {
        texts.push(format!("{} others", values.len() - MOST));
    }
    texts
}
