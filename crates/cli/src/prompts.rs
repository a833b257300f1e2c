//! Prompts with the checks of what is generated for them, as JSON.

use std::{fs, path::Path};

use anyhow::Context;
pub(crate) use metrics::prompts::Prompt;
use metrics::prompts::parse;

use crate::exit::Failure;

/// The prompts of a run that names none.
const DEFAULT: &str = include_str!("../../../fixtures/prompts.json");

/// Those of a run of the embedded model.
const EMBEDDED: &str = include_str!("../../../fixtures/prompts-embedded.json");

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
    fn prompts_for_comparisons_have_the_lengths_of_their_name() {
        let prompts = parse(include_str!("../../../fixtures/prompts-16-512.json")).unwrap();
        let tokenizer = model::load::embedded_tokenizer().unwrap();
        let length = |prompt: &Prompt| tokenizer.encode_prompt(&prompt.prompt).unwrap().len();
        let lengths: Vec<usize> = prompts.iter().map(length).collect();
        assert_eq!(lengths, [16, 512]);
    }

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
}
