//! Prompts with the checks of what is generated for them, as a user writes them: JSON.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::checks::Checks;

/// One prompt of a file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    pub prompt: String,
    #[serde(default, deserialize_with = "checks")]
    pub checks: Checks,
}

impl Prompt {
    /// A prompt whose text is not judged.
    pub fn unchecked(prompt: String) -> Self {
        Self {
            prompt,
            checks: Checks::default(),
        }
    }
}

/// Reads the text of a file of prompts.
///
/// # Errors
///
/// What is no such file, names a check that there is none of, or has one that could never pass or
/// never fail.
pub fn parse(json: &str) -> serde_json::Result<Vec<Prompt>> {
    serde_json::from_str(json)
}

/// Reads checks and refuses names that none has, which a record keeps for newer versions.
fn checks<'de, D: Deserializer<'de>>(input: D) -> Result<Checks, D::Error> {
    use serde::de::Error as _;
    let given = Value::deserialize(input)?;
    let checks: Checks = serde_json::from_value(given.clone()).map_err(D::Error::custom)?;
    let known = serde_json::to_value(&checks).map_err(D::Error::custom)?;
    for (given, known) in [
        (Some(&given), Some(&known)),
        (given.get("agreement"), known.get("agreement")),
    ] {
        let (given, known) = (
            given.and_then(Value::as_object),
            known.and_then(Value::as_object),
        );
        let names = given.into_iter().flat_map(|it| it.keys());
        let unknown = names
            .into_iter()
            .find(|name| !known.is_some_and(|it| it.contains_key(*name)));
        if let Some(name) = unknown {
            let known: Vec<_> = known.into_iter().flat_map(|it| it.keys()).collect();
            let text = format!("there is no check `{name}`; there are {known:?}");
            return Err(D::Error::custom(text));
        }
    }
    checks.validate().map_err(D::Error::custom)?;
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_is_refused_with_its_line() {
        let check = |json: &str, expected: &str| {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("[\n{\"prompt\": 1}]", "line 2");
        check("[{\"text\": \"a\"}]", "unknown field `text`");
        check(
            "[{\"prompt\": \"a\", \"checks\": {\"must_say\": []}}]",
            "there is no check `must_say`; there are [\"must_mention\"",
        );
        check(
            "[{\"prompt\": \"a\", \"checks\": {\"agreement\": {\"score\": \"rouge_l\", \
             \"at_least\": 0.1, \"reference\": \"b\", \"most\": 1}}}]",
            "there is no check `most`",
        );
        check(
            "[{\"prompt\": \"a\", \"checks\": {\"must_mention\": [\"\"]}}]",
            "without a word",
        );
        let plain = parse("[{\"prompt\": \"a\"}]").unwrap();
        assert_eq!(plain, [Prompt::unchecked("a".to_owned())]);
    }
}
