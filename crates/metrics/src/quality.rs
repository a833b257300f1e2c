//! Whether a generated text passes the checks of its prompt: text in, results out.
//!
//! Texts are compared by their words, which end where Unicode says that words end (UAX 29), in
//! lower case and without punctuation. Nothing is stemmed. What a check cannot see, such as
//! whether a sentence is true, is not judged.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;
use unicode_segmentation::UnicodeSegmentation;

use crate::checks::{Checks, Score};
use crate::record::{Finish, Generation, Weights};

/// Words of the runs that [`repetition`] counts.
const RUN: usize = 4;

impl Checks {
    /// Refuses checks that could never pass or never fail.
    ///
    /// # Errors
    ///
    /// See [`ChecksError`].
    pub fn validate(&self) -> Result<(), ChecksError> {
        for term in self.must_mention.iter().chain(&self.must_not_mention) {
            if term.split('|').any(|text| words(text).is_empty()) {
                return Err(ChecksError::NoWord { term: term.clone() });
            }
        }
        let agreement = self.agreement.as_ref();
        let shares = [
            ("most_repetition", self.most_repetition),
            ("at_least", agreement.map(|it| it.at_least)),
        ];
        for (name, value) in shares {
            if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                return Err(ChecksError::NotAShare { name, value });
            }
        }
        match agreement.is_some_and(|it| words(&it.reference).is_empty()) {
            true => Err(ChecksError::NoReference),
            false => Ok(()),
        }
    }
}

impl Score {
    /// Of a text against a reference.
    pub fn of(self, text: &str, reference: &str) -> f64 {
        let (text, reference) = (words(text), words(reference));
        match self {
            Self::RougeL => rouge_l(&text, &reference),
            Self::TokenF1 => token_f1(&text, &reference),
        }
    }
}

/// What came of the checks of one generated text.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    NotJudged(Why),
    /// One result a check, in the order of [`Checks`].
    Judged(Vec<Outcome>),
}

/// Why a text was not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Such a model says nothing.
    RandomWeights,
    /// The text was stopped before its end.
    Interrupted,
    NoChecks,
}

impl Why {
    pub fn words(self) -> &'static str {
        match self {
            Self::RandomWeights => "random weights",
            Self::Interrupted => "interrupted",
            Self::NoChecks => "no checks",
        }
    }
}

/// One check and its result.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
#[schemars(rename = "QualityOutcome")]
pub struct Outcome {
    pub check: Check,
    /// What the text has: occurrences, a share, words or a score.
    pub measured: f64,
    /// What it may have at most or has to have at least.
    pub limit: f64,
    pub passed: bool,
}

/// What is checked.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "QualityCheck")]
pub enum Check {
    MustMention(String),
    MustNotMention(String),
    MostRepetition,
    FewestWords,
    Agreement(Score),
}

impl Check {
    /// Whether the limit is a largest value, as opposed to a smallest one.
    pub fn is_upper(&self) -> bool {
        matches!(self, Self::MustNotMention(_) | Self::MostRepetition)
    }
}

/// Judges what was generated for a prompt with these checks.
pub fn judge(generation: &Generation, checks: Option<&Checks>, weights: &Weights) -> Quality {
    judge_text(&generation.text, generation.finish, checks, weights)
}

/// The same of a text by itself.
pub(crate) fn judge_text(
    text: &str,
    finish: Finish,
    checks: Option<&Checks>,
    weights: &Weights,
) -> Quality {
    if matches!(weights, Weights::Random { .. }) {
        return Quality::NotJudged(Why::RandomWeights);
    }
    if finish == Finish::Interrupted {
        return Quality::NotJudged(Why::Interrupted);
    }
    match checks.filter(|checks| **checks != Checks::default()) {
        Some(checks) => Quality::Judged(outcomes(text, checks)),
        None => Quality::NotJudged(Why::NoChecks),
    }
}

/// Holds a text against every check that is given.
pub fn outcomes(text: &str, checks: &Checks) -> Vec<Outcome> {
    let found = words(text);
    let outcome = |check: Check, measured: f64, limit: f64| Outcome {
        passed: match check.is_upper() {
            true => measured <= limit,
            false => measured >= limit,
        },
        check,
        measured,
        limit,
    };
    let count = |term: &String| occurrences(&found, term) as f64;
    let mentions = checks
        .must_mention
        .iter()
        .map(|term| outcome(Check::MustMention(term.clone()), count(term), 1.0));
    let absences = checks
        .must_not_mention
        .iter()
        .map(|term| outcome(Check::MustNotMention(term.clone()), count(term), 0.0));
    let repetition = checks
        .most_repetition
        .map(|most| outcome(Check::MostRepetition, repetition(&found), most));
    let length = checks
        .fewest_words
        .map(|fewest| outcome(Check::FewestWords, found.len() as f64, fewest.into()));
    let agreement = checks.agreement.as_ref().map(|agreement| {
        let score = agreement.score.of(text, &agreement.reference);
        outcome(Check::Agreement(agreement.score), score, agreement.at_least)
    });
    mentions
        .chain(absences)
        .chain(repetition)
        .chain(length)
        .chain(agreement)
        .collect()
}

/// Words of a text in lower case.
pub fn words(text: &str) -> Vec<String> {
    text.unicode_words().map(str::to_lowercase).collect()
}

/// How often a term occurs among words, as whole words in its order.
///
/// A term may name alternatives with `|` between them, and an alternative that ends in `*` allows
/// any end of its last word: `neural net*|perceptron`. One without a word never occurs.
pub fn occurrences(found: &[String], term: &str) -> usize {
    let alternatives: Vec<_> = term
        .split('|')
        .map(|text| (words(text), text.trim_end().ends_with('*')))
        .collect();
    (0..found.len())
        .filter(|&at| {
            alternatives
                .iter()
                .any(|(words, open)| begins_with(&found[at..], words, *open))
        })
        .count()
}

fn begins_with(found: &[String], words: &[String], open: bool) -> bool {
    let Some((last, first)) = words.split_last() else {
        return false;
    };
    found.starts_with(first)
        && found.get(first.len()).is_some_and(|word| match open {
            true => word.starts_with(last.as_str()),
            false => word == last,
        })
}

/// Share of the runs of four words that occurred before, `(runs - distinct runs) / runs`; 0 for
/// fewer words.
///
/// This is seq-rep-4 of Welleck et al. 2020 (arXiv:1908.04319), section 4.2, over words instead of
/// tokens.
pub fn repetition(words: &[String]) -> f64 {
    let runs = words.windows(RUN);
    let (count, distinct) = (runs.len(), runs.collect::<BTreeSet<_>>().len());
    match count {
        0 => 0.0,
        _ => (count - distinct) as f64 / count as f64,
    }
}

/// ROUGE-L: the F1 of the longest common subsequence, `2 P R / (P + R)` with its length over that
/// of the text (P) and over that of the reference (R). 0 where they share no word.
///
/// Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3, with β = 1.
pub fn rouge_l(text: &[String], reference: &[String]) -> f64 {
    // Lengths for every beginning of the reference, over ever longer beginnings of the text.
    let mut lengths = vec![0_usize; reference.len() + 1];
    for word in text {
        let mut before = 0;
        for (index, other) in reference.iter().enumerate() {
            let above = lengths[index + 1];
            lengths[index + 1] = match word == other {
                true => before + 1,
                false => above.max(lengths[index]),
            };
            before = above;
        }
    }
    f1(lengths[reference.len()], text.len(), reference.len())
}

/// F1 of the words that a text and a reference share, each as often as both have it.
///
/// Rajpurkar et al. 2016 (arXiv:1606.05250), section 6.1; articles stay in.
pub fn token_f1(text: &[String], reference: &[String]) -> f64 {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for word in reference {
        *left.entry(word).or_default() += 1;
    }
    let shared = text.iter().filter(|word| {
        left.get_mut(word.as_str()).is_some_and(|count| {
            let some = *count > 0;
            *count -= usize::from(some);
            some
        })
    });
    f1(shared.count(), text.len(), reference.len())
}

fn f1(shared: usize, text: usize, reference: usize) -> f64 {
    match shared {
        0 => 0.0,
        // The same as 2 P R / (P + R).
        _ => 2.0 * shared as f64 / (text + reference) as f64,
    }
}

/// Why checks cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ChecksError {
    #[error(
        "`{term}` has an alternative without a word; write words, with `|` between alternatives"
    )]
    NoWord { term: String },
    #[error("{name} is {value}; it must be from 0 to 1")]
    NotAShare { name: &'static str, value: f64 },
    #[error("the reference of `agreement` has no word")]
    NoReference,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// A text, what it is checked for, and whether it passes.
    fn check(text: &str, checks: &str, expected: &[bool]) {
        let checks: Checks = serde_json::from_str(checks).unwrap();
        let passed: Vec<bool> = outcomes(text, &checks).iter().map(|it| it.passed).collect();
        assert_eq!(passed, expected, "{text:?} {checks:?}");
    }

    #[test]
    fn terms_are_found_as_whole_words_in_any_case() {
        let terms = r#"{"must_mention": ["data", "neural network", "learn*", "cat|model"]}"#;
        check(
            "Data trains a NEURAL  network; learning models.",
            terms,
            &[true, true, true, false],
        );
        check(
            "Databases. Network, neural. Learn a model",
            terms,
            &[false, false, true, true],
        );
        check("", terms, &[false; 4]);
        check(
            "sorry, I can't",
            r#"{"must_not_mention": ["can't", "data"]}"#,
            &[false, true],
        );
        check("人工知能", r#"{"must_mention": ["知能"]}"#, &[true]);
        assert_eq!(occurrences(&words("a b a b a"), "a b|b"), 4);
        assert_eq!(occurrences(&words("a b"), "*"), 0);
    }

    #[test]
    fn limits_themselves_pass() {
        // Of the 5 runs of four words, "a b c d" occurs twice.
        let text = "a b c d a b c d";
        assert_eq!(repetition(&words(text)), 0.2);
        check(text, r#"{"most_repetition": 0.2}"#, &[true]);
        check(text, r#"{"most_repetition": 0.19}"#, &[false]);
        check("a b c", r#"{"most_repetition": 0}"#, &[true]);
        check("a b c", r#"{"fewest_words": 3}"#, &[true]);
        check("a, b", r#"{"fewest_words": 3}"#, &[false]);
    }

    #[test]
    fn scores_have_their_known_values() {
        // Lin's own example: 3 of 4 words in order against 2 of 4.
        let reference = "police killed the gunman";
        let close = |actual: f64, expected: f64| {
            assert!((actual - expected).abs() < 1e-12, "{actual} {expected}");
        };
        close(Score::RougeL.of("police kill the gunman", reference), 0.75);
        close(Score::RougeL.of("the gunman kill police", reference), 0.5);
        close(Score::TokenF1.of("the gunman kill police", reference), 0.75);
        // 2 shared of 3 and of 4.
        close(Score::TokenF1.of("the the gunman", reference), 4.0 / 7.0);
        for score in [Score::RougeL, Score::TokenF1] {
            close(score.of("Police killed the gunman.", reference), 1.0);
            close(score.of("", reference), 0.0);
            close(score.of("", ""), 0.0);
        }
    }

    #[test]
    fn random_weights_and_interrupted_texts_are_not_judged() {
        let mut generation = testing::generation(100, &[10, 10]);
        let checks = Checks {
            fewest_words: Some(1),
            ..Checks::default()
        };
        let (random, embedded) = (
            Weights::Random { seed: 0 },
            Weights::Embedded {
                sha256: String::new(),
            },
        );
        let not = Quality::NotJudged;
        let none = Checks::default();
        assert_eq!(
            judge(&generation, Some(&checks), &random),
            not(Why::RandomWeights)
        );
        assert_eq!(judge(&generation, None, &embedded), not(Why::NoChecks));
        assert_eq!(
            judge(&generation, Some(&none), &embedded),
            not(Why::NoChecks)
        );
        let judged = judge(&generation, Some(&checks), &embedded);
        assert!(matches!(judged, Quality::Judged(outcomes) if outcomes.len() == 1));
        generation.finish = Finish::Interrupted;
        assert_eq!(
            judge(&generation, Some(&checks), &embedded),
            not(Why::Interrupted)
        );
    }

    #[test]
    fn checks_that_cannot_pass_or_fail_are_refused() {
        let error = |json: &str| {
            let checks: Checks = serde_json::from_str(json).unwrap();
            checks.validate().map_err(|error| error.to_string())
        };
        assert_eq!(error("{}"), Ok(()));
        for (json, expected) in [
            (
                r#"{"must_mention": ["a||b"]}"#,
                "`a||b` has an alternative without a word",
            ),
            (
                r#"{"must_not_mention": ["*"]}"#,
                "`*` has an alternative without a word",
            ),
            (
                r#"{"most_repetition": 1.5}"#,
                "most_repetition is 1.5; it must be from 0 to 1",
            ),
            (
                r#"{"agreement": {"score": "rouge_l", "at_least": -1, "reference": "a"}}"#,
                "at_least is -1",
            ),
            (
                r#"{"agreement": {"score": "token_f1", "at_least": 0.2, "reference": "?"}}"#,
                "has no word",
            ),
        ] {
            let error = error(json).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
