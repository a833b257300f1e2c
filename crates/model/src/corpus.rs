//! Text for pretraining: works from files, as conversations, as one sequence of tokens.
//!
//! A folder holds `corpus.json` and one gzip file a work, with a paragraph a line and an empty line
//! between chapters. Neighbouring paragraphs become the turns of conversations in the chat format,
//! so that a model trained on them answers a message with what could come next.

use std::{fs, io::Read, path::Path};

use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::{
    Error, Result,
    tokenizer::{Message, Tokenizer},
    weights::sha256_hex,
};

/// Longest turn, in characters; a longer paragraph becomes several turns.
const TURN: usize = 320;

/// Turns of a conversation, unless its chapter ends before.
const TURNS: usize = 4;

/// Works in the order of their list.
pub struct Corpus {
    works: Vec<Work>,
}

/// One work.
pub struct Work {
    pub title: String,
    /// Of the text, not of its file.
    pub sha256: String,
    pub text: String,
}

#[derive(Deserialize)]
struct List {
    works: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    file: String,
    title: String,
    sha256: String,
}

impl Corpus {
    /// Reads a folder.
    ///
    /// # Errors
    ///
    /// A missing or invalid file, a text that is not the listed one, and fewer than two works.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("corpus.json");
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let list: List = serde_json::from_str(&text)
            .map_err(|e| Error::data(&name, None, format!("not a valid list of works: {e}")))?;
        if list.works.len() < 2 {
            let problem = "lists fewer than two works, and one is held out";
            return Err(Error::data(&name, None, problem));
        }
        let works = list.works.into_iter().map(|work| work.read(dir));
        Ok(Self {
            works: works.collect::<Result<_>>()?,
        })
    }

    /// The shortest work, of which nothing is trained on; the first of several.
    pub fn held_out(&self) -> &Work {
        let shortest = self.works.iter().min_by_key(|work| work.text.len());
        shortest.expect("reading refuses an empty list")
    }

    /// All other works.
    pub fn training(&self) -> impl Iterator<Item = &Work> {
        let held_out = self.held_out();
        self.works
            .iter()
            .filter(move |work| !std::ptr::eq(*work, held_out))
    }
}

impl Listed {
    fn read(self, dir: &Path) -> Result<Work> {
        let path = dir.join(&self.file);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let mut text = String::new();
        GzDecoder::new(bytes.as_slice())
            .read_to_string(&mut text)
            .map_err(Error::io("unpack", &path))?;
        let sha256 = sha256_hex(text.as_bytes());
        if sha256 != self.sha256 {
            return Err(Error::data(
                &path.display().to_string(),
                None,
                "is not the text that corpus.json lists: their SHA-256 differ",
            ));
        }
        Ok(Work {
            title: self.title,
            sha256,
            text,
        })
    }
}

impl Work {
    /// The text as conversations: turns by `user` and `assistant` alternate.
    pub fn conversations(&self) -> Vec<Vec<Message>> {
        let mut all = Vec::new();
        for chapter in self.text.split("\n\n") {
            let turns: Vec<&str> = chapter.lines().flat_map(turns).collect();
            for turns in turns.chunks(TURNS) {
                let roles = ["user", "assistant"].into_iter().cycle();
                let messages = roles.zip(turns);
                all.push(
                    messages
                        .map(|(role, turn)| Message::new(role, turn))
                        .collect(),
                );
            }
        }
        all
    }

    /// Tokens of all conversations, one after another, through the chat template.
    ///
    /// # Errors
    ///
    /// Those of the tokenizer.
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        for messages in self.conversations() {
            tokens.extend(tokenizer.encode_chat(&messages, None, false)?);
        }
        Ok(tokens)
    }
}

/// A paragraph in pieces of at most [`TURN`] characters, cut where a sentence ends, or else a clause
/// or a word. A word that is longer stays whole.
fn turns(paragraph: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = paragraph.trim();
    while rest.chars().count() > TURN {
        let spaces: Vec<usize> = rest.match_indices(' ').map(|(at, _)| at).collect();
        let within = |at: &&usize| rest[..**at].chars().count() <= TURN;
        let last = |ends: fn(&str) -> bool| {
            let mut spaces = spaces.iter().rev().filter(within);
            spaces.find(|at| ends(&rest[..**at])).copied()
        };
        let cut = last(ends_sentence).or_else(|| last(|text| text.ends_with([';', ':', ','])));
        let cut = cut.or_else(|| last(|_| true)).or(spaces.first().copied());
        let Some(cut) = cut else { break };
        pieces.push(&rest[..cut]);
        rest = rest[cut..].trim_start();
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

fn ends_sentence(text: &str) -> bool {
    const TITLES: [&str; 5] = ["Mr.", "Mrs.", "Dr.", "St.", "Capt."];
    let text = text.trim_end_matches(['"', '\'', ')']);
    text.ends_with(['.', '!', '?']) && !TITLES.iter().any(|title| text.ends_with(title))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paragraphs_are_cut_where_sentences_end() {
        let check = |text: &str, expected: &[&str]| assert_eq!(turns(text), expected);
        let first = format!(
            "{} met Mr. Knightley.",
            "Emma walked on. ".repeat(15).trim_end()
        );
        let second = "\"So it is,\" said she.";
        check(
            &format!("{first} {second} {}", "x".repeat(60)),
            &[&format!("{first} {second}"), &"x".repeat(60)],
        );
        check(" short ", &["short"]);
        check("", &[]);
        let word = "y".repeat(400);
        check(&format!("{word} end"), &[&word, "end"]);
        let clauses = format!(
            "{}, {}",
            "a ".repeat(140).trim_end(),
            "b ".repeat(60).trim_end()
        );
        let pieces = turns(&clauses);
        assert!(pieces[0].ends_with("a,"), "{pieces:?}");
        assert_eq!(pieces.join(" "), clauses);
    }

    #[test]
    fn conversations_alternate_and_end_with_their_chapter() {
        let work = Work {
            title: "t".into(),
            sha256: String::new(),
            text: "one\ntwo\nthree\n\nfour\nfive\nsix\nseven\neight\n".into(),
        };
        let found = work.conversations();
        let turn = |role: &str, text: &str| Message::new(role, text);
        assert_eq!(
            found,
            [
                vec![
                    turn("user", "one"),
                    turn("assistant", "two"),
                    turn("user", "three")
                ],
                vec![
                    turn("user", "four"),
                    turn("assistant", "five"),
                    turn("user", "six"),
                    turn("assistant", "seven"),
                ],
                vec![turn("user", "eight")],
            ]
        );
    }

    #[test]
    fn the_committed_text_is_the_listed_one_and_its_shortest_work_is_held_out() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/corpus");
        let corpus = Corpus::read(&dir).unwrap();
        assert_eq!(corpus.held_out().title, "Northanger Abbey");
        assert_eq!(corpus.training().count(), 6);
        assert!(
            corpus
                .training()
                .all(|work| work.title != "Northanger Abbey")
        );
        assert!(corpus.works.iter().all(|work| work.text.is_ascii()));
    }

    #[test]
    fn a_text_that_is_not_the_listed_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let check = |list: &str, expected: &str| {
            fs::write(dir.path().join("corpus.json"), list).unwrap();
            let error = Corpus::read(dir.path()).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let work = r#"{"file": "a.txt.gz", "title": "a", "sha256": "00"}"#;
        check(&format!(r#"{{"works": [{work}]}}"#), "fewer than two works");
        let two = format!(r#"{{"works": [{work}, {work}]}}"#);
        check(&two, "a.txt.gz");
        fs::write(dir.path().join("a.txt.gz"), "plain").unwrap();
        check(&two, "cannot unpack");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        std::io::Write::write_all(&mut packed, b"text").unwrap();
        fs::write(dir.path().join("a.txt.gz"), packed.finish().unwrap()).unwrap();
        check(&two, "their SHA-256 differ");
    }
}
