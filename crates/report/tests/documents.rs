//! Every command that a committed document shows can be pasted into zsh, the shell of a Mac, as well
//! as into bash.
//!
//! In a terminal zsh has no comments: `#` and the words behind it become arguments. It stops at a
//! pattern that matches nothing, and expands `!` and a leading `=`.

use std::fs;
use std::path::Path;
use std::process::Command;

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

#[test]
fn every_command_can_be_pasted_into_zsh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listed = Command::new("git")
        .args(["ls-files", "-z", "*.md"])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let (mut commands, mut found) = (0, Vec::new());
    for file in listed.split_terminator('\0') {
        for line in commands_of(&fs::read_to_string(root.join(file)).unwrap()) {
            commands += 1;
            found.extend(problem(&line).map(|problem| format!("{file}: {problem}: {line}")));
        }
    }
    assert!(commands > 30, "only {commands} commands were found");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The lines of blocks of shell commands, those that go on joined.
fn commands_of(document: &str) -> Vec<String> {
    let (mut inside, mut text) = (false, String::new());
    for event in Parser::new(document) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                inside = ["sh", "bash", "zsh", "shell", "console"].contains(&&*language);
            }
            Event::End(TagEnd::CodeBlock) => inside = false,
            Event::Text(code) if inside => text.push_str(&code),
            _ => {}
        }
    }
    let joined = text.replace("\\\n", "");
    joined.lines().map(str::to_owned).collect()
}

/// What keeps a line from being typed.
fn problem(line: &str) -> Option<&'static str> {
    let (mut quote, mut before) = (None, ' ');
    for character in line.chars() {
        let begins = before.is_whitespace();
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some('\''), _) => {}
            (_, '!') => return Some("`!` recalls an earlier command"),
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '#') if begins => return Some("a comment"),
            (None, '*' | '?' | '[') => return Some("a pattern without quotes"),
            (None, '<') => return Some("a placeholder in angle brackets redirects"),
            (None, '=') if begins => return Some("a word that begins with `=`"),
            _ => {}
        }
        before = character;
    }
    let program = line.split_whitespace().next();
    match (quote, program) {
        (Some(_), _) => Some("a quote that is not closed"),
        (_, Some("lfmark")) => Some("`lfmark` is not on PATH"),
        (_, Some("$")) => Some("a prompt"),
        _ => None,
    }
}

#[test]
fn what_zsh_takes_in_another_way_is_found() {
    for (line, expected) in [
        ("cargo bench", None),
        ("cargo run -- models # all", Some("a comment")),
        ("# all", Some("a comment")),
        ("cargo run -- --name a#b --reason 'no #1'", None),
        ("cp pretrained/* models", Some("a pattern without quotes")),
        (
            "run --set targets=[\"a\"]",
            Some("a pattern without quotes"),
        ),
        ("gate --candidate 'reports/new-*' --note \"why?\"", None),
        (
            "report reports/<run>",
            Some("a placeholder in angle brackets redirects"),
        ),
        ("echo \"done!\"", Some("`!` recalls an earlier command")),
        ("echo 'done!'", None),
        ("echo =ls", Some("a word that begins with `=`")),
        ("run --axis batch-size=1,2 > table.txt", None),
        ("echo it's", Some("a quote that is not closed")),
        ("lfmark doctor", Some("`lfmark` is not on PATH")),
        ("$ cargo bench", Some("a prompt")),
    ] {
        assert_eq!(problem(line), expected, "{line}");
    }
    let document = "```sh\na \\\n  b # c\n```\n```toml\n# d\n```\n- list\n  ```bash\n  e\n  ```\n";
    assert_eq!(commands_of(document), ["a   b # c", "e"]);
}
