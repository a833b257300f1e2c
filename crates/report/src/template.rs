//! The template of the Markdown report: lfmark's own, or a user's.

use std::error::Error as _;
use std::iter;

use tera::{Context, Tera};
use thiserror::Error;

/// A template in the language of Tera. FORMAT.md lists what it can name.
#[derive(Clone, Debug)]
pub struct Template {
    /// For messages: the name of the file.
    name: String,
    text: String,
    tera: Tera,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("template {name}{}: {problem}", at(.lines))]
pub struct TemplateError {
    pub name: String,
    /// Counted from 1: the line of the fault, or each that it can be on. Empty where Tera does not
    /// say what the fault is about.
    pub lines: Vec<usize>,
    pub problem: String,
}

fn at(lines: &[usize]) -> String {
    let lines: Vec<_> = lines.iter().map(usize::to_string).collect();
    match lines.as_slice() {
        [] => String::new(),
        lines => format!(", line {}", lines.join(" or ")),
    }
}

impl Template {
    /// Reads the text of a template; `name` is what messages call it.
    ///
    /// # Errors
    ///
    /// The text is not in Tera's language.
    pub fn parse(name: &str, text: &str) -> Result<Self, TemplateError> {
        let mut tera = Tera::default();
        // Without automatic escaping, which is for HTML: the view escapes every foreign string.
        tera.autoescape_on(Vec::new());
        let template = |tera| Self {
            name: name.to_owned(),
            text: text.to_owned(),
            tera,
        };
        match tera.add_raw_template(name, text) {
            Ok(()) => Ok(template(tera)),
            Err(error) => Err(template(tera).error(&error)),
        }
    }

    /// The template with everything in place.
    ///
    /// # Errors
    ///
    /// It names what is not there, or does with it what cannot be done.
    pub(crate) fn fill(&self, context: &Context) -> Result<String, TemplateError> {
        let filled = self.tera.render(&self.name, context);
        filled.map_err(|error| self.error(&error))
    }

    fn error(&self, error: &tera::Error) -> TemplateError {
        let causes = iter::successors(error.source(), |cause| (*cause).source());
        // The first message only says that it failed.
        let mut messages: Vec<String> = causes.map(ToString::to_string).collect();
        if messages.is_empty() {
            messages.push(error.to_string());
        }
        let parsed = messages.iter().find_map(|message| syntax(message));
        let (lines, problem) = parsed.unwrap_or_else(|| {
            let named = messages.iter().rev().flat_map(|message| quoted(message));
            let lines = named.map(|name| self.lines_with(name));
            let lines = lines.into_iter().find(|lines| !lines.is_empty());
            (lines.unwrap_or_default(), messages.join(": "))
        });
        TemplateError {
            name: self.name.clone(),
            lines,
            problem: problem.replace(&format!(" while rendering '{}'", self.name), ""),
        }
    }

    /// Lines with a tag in which this stands by itself.
    fn lines_with(&self, name: &str) -> Vec<usize> {
        let part = |it: char| it.is_alphanumeric() || matches!(it, '_' | '.');
        let alone = |line: &str| {
            line.match_indices(name).any(|(at, _)| {
                !line[..at].ends_with(part) && !line[at + name.len()..].starts_with(part)
            })
        };
        let lines = (1..).zip(self.text.lines());
        lines
            .filter(|(_, line)| (line.contains("{{") || line.contains("{%")) && alone(line))
            .map(|(number, _)| number)
            .collect()
    }
}

/// Line and problem of a message of Tera's parser, which draws the line below ` --> 3:5` and ends
/// with `= expected ...`.
fn syntax(message: &str) -> Option<(Vec<usize>, String)> {
    let (_, place) = message.split_once("--> ")?;
    let (line, _) = place.split_once(':')?;
    let (_, problem) = place.rsplit_once("= ")?;
    Some((vec![line.parse().ok()?], problem.trim().to_owned()))
}

/// What stands between backticks or single quotes.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    ['`', '\'']
        .into_iter()
        .flat_map(move |quote| message.split(quote).skip(1).step_by(2))
        .map(|name| name.trim_matches(['[', ']']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, TemplateError> {
        let mut context = Context::new();
        context.insert("model", "a<b");
        context.insert("list", &[1, 2]);
        context.insert("training", &std::collections::BTreeMap::from([("wall", 3)]));
        Template::parse("my.tera", text)?.fill(&context)
    }

    #[test]
    fn a_template_is_filled_without_escaping() {
        let text = "{{ model }}:{% for it in list %} {{ it }}{% endfor %}";
        assert_eq!(filled(text).unwrap(), "a<b: 1 2");
        assert_eq!(
            filled("{% if absent %}a{% else %}b{% endif %}").unwrap(),
            "b"
        );
    }

    #[test]
    fn a_fault_is_told_with_its_line() {
        let check = |text: &str, expected: &str| {
            let message = filled(text).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{text}: {message}");
        };
        check("a\n{{ model", "template my.tera, line 2: expected ");
        check(
            "a\n\n{% if model %}\n",
            "template my.tera, line 4: expected ",
        );
        check("{% nothing %}", "template my.tera, line 1: expected ");
        check(
            "a\n{{ model }} {{ nothing }}",
            "template my.tera, line 2: Variable `nothing` not found in context",
        );
        check(
            "{% if training %}\n{{ training.nothing }}{% endif %}",
            "template my.tera, line 2: Variable `training.nothing` not found in context",
        );
        check(
            "{% for it in nothing %}{% endfor %}",
            "template my.tera, line 1: ",
        );
        check("\n{{ model | nothing }}", "template my.tera, line 2: ");
        check("\n{{ model | round }}", "template my.tera, line 2: ");
        check("\n{{ nothing() }}", "template my.tera, line 2: ");
        check(
            "{{ list }}\n{{ list }}\n{{ list.x }} {{ list.x }}",
            "template my.tera, line 3: ",
        );
        check("{% extends \"base\" %}", "template my.tera");
        check("{% include \"base\" %}", "template my.tera, line 1: ");
    }

    #[test]
    fn what_a_template_can_name_is_documented() {
        let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let record =
            metrics::store::read(&repository.join("fixtures/records/h200-lfm2-1.2b")).unwrap();
        let summary = metrics::summary::summarize(&record);
        let context = crate::context(&record, &summary, &[]).unwrap().into_json();
        let mut names: Vec<&str> = context
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();

        let format = std::fs::read_to_string(repository.join("FORMAT.md")).unwrap();
        let (_, section) = format.split_once("# The template of a report\n").unwrap();
        let (section, _) = section.split_once("\n# ").unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.map(|row| row.split('|').nth(1).unwrap());
        let mut documented: Vec<&str> = cells.flat_map(quoted).collect();
        names.sort_unstable();
        documented.sort_unstable();
        assert_eq!(documented, names);
    }
}
