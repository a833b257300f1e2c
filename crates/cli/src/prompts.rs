//! Prompts with the checks of what is generated for them, as JSON.

use std::{fs, path::Path};

use anyhow::Context;
use metrics::quality::Checks;
use serde::Deserialize;
use serde_json::Value;

use crate::exit::Failure;

/// The prompts of a run that names none.
const DEFAULT: &str = include_str!("../../../fixtures/prompts.json");

/// Those of a run of the embedded model.
const EMBEDDED: &str = include_str!("../../../fixtures/prompts-embedded.json");

/// One prompt of a file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prompt {
    pub(crate) prompt: String,
    #[serde(default, deserialize_with = "checks")]
    pub(crate) checks: Checks,
}

impl Prompt {
    /// A prompt whose text is not judged.
    pub(crate) fn unchecked(prompt: String) -> Self {
        Self {
            prompt,
            checks: Checks::default(),
        }
    }
}

/// The default prompts.
pub(crate) fn default() -> Vec<Prompt> {
    parse(DEFAULT).expect("a test reads the prompts that are compiled in")
}

/// The default prompts of the embedded model.
pub(crate) fn embedded() -> Vec<Prompt> {
    parse(EMBEDDED).expect("a test reads the prompts that are compiled in")
}

/// Reads a file of prompts.
pub(crate) fn read(path: &Path) -> Result<Vec<Prompt>, Failure> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

fn parse(json: &str) -> serde_json::Result<Vec<Prompt>> {
    serde_json::from_str(json)
}

/// Reads checks and refuses names that none has, which a record keeps for newer versions.
fn checks<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Checks, D::Error> {
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
    use metrics::quality::outcomes;

    use super::*;

    /// An answer to each of the default prompts.
    const ANSWERS: [&str; 3] = [
        "Artificial intelligence, or AI, is a branch of computer science. It builds machines and \
         software that can do tasks which usually need human thought, for example recognizing \
         images, understanding language, learning from experience and making decisions.",
        "Machine learning is a way for computers to learn from data. You show the computer many \
         examples, and it finds patterns in them. Then it uses these patterns to make predictions \
         about new things, without a person writing every rule.",
        "Neural networks are made of layers of neurons. Each neuron takes inputs, multiplies them \
         by weights, adds them and passes the result on to the next layer. In training, the \
         weights are adjusted so that the output of the network comes closer to the right answer.",
    ];

    #[test]
    fn an_answer_passes_the_checks_of_its_prompt_and_not_those_of_another() {
        let prompts = default();
        assert_eq!(prompts.len(), ANSWERS.len());
        for (index, prompt) in prompts.iter().enumerate() {
            for (number, answer) in ANSWERS.iter().enumerate() {
                let outcomes = outcomes(answer, &prompt.checks);
                let passed = outcomes.iter().all(|it| it.passed);
                assert_eq!(passed, index == number, "{answer}: {outcomes:#?}");
            }
        }
    }

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
