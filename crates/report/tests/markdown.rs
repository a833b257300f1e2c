//! Every Markdown snapshot against the rules that keep a document readable on GitHub.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};

/// Every file below the snapshots that ends in `.md`.
fn snapshots() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "md" => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

#[test]
fn every_snapshot_keeps_the_rules() {
    let snapshots = snapshots();
    assert!(snapshots.len() >= 10, "{snapshots:?}");
    let mut found = Vec::new();
    for path in snapshots {
        for problem in lint(&fs::read_to_string(&path).unwrap()) {
            found.push(format!("{}: {problem}", path.display()));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What breaks a rule, each with its line.
fn lint(text: &str) -> Vec<String> {
    let mut problems = layout(text);
    problems.extend(structure(text));
    problems
}

/// What a line is, as far as its beginning tells.
#[derive(Clone, Copy, PartialEq)]
enum Line {
    Blank,
    Heading,
    Row,
    Item,
    /// Of a block of code.
    Code,
    Text,
}

/// Rules about lines.
fn layout(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut before = Line::Blank;
    let mut fence = None;
    let mut columns = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let mut problem = |what: &str| problems.push(format!("line {number}: {what}: {line}"));
        let ticks = line.len() - line.trim_start_matches('`').len();
        let kind = match fence {
            Some(open) => {
                if ticks >= open && ticks == line.len() {
                    fence = None;
                }
                Line::Code
            }
            None if ticks >= 3 => {
                fence = Some(ticks);
                if ticks == line.len() {
                    problem("a block of code without a language");
                }
                if before != Line::Blank {
                    problem("no blank line before a block of code");
                }
                before = Line::Code;
                Line::Code
            }
            None if line.is_empty() => Line::Blank,
            None if line.starts_with('#') => Line::Heading,
            None if line.starts_with('|') => Line::Row,
            None if line.starts_with("- ") => Line::Item,
            None => Line::Text,
        };
        if kind != Line::Code {
            if line.ends_with([' ', '\t']) {
                problem("blanks at the end of the line");
            }
            if line.starts_with(' ') || line.contains('\t') {
                problem("an indented line, or a tab");
            }
            if (kind, before) == (Line::Blank, Line::Blank) && number > 1 {
                problem("a second blank line");
            }
        }
        let alone = [Line::Heading, Line::Row, Line::Item, Line::Code];
        let apart = kind != before || kind == Line::Heading;
        if apart
            && ![kind, before].contains(&Line::Blank)
            && [kind, before].iter().any(|it| alone.contains(it))
        {
            problem("no blank line between two blocks");
        }
        if kind == Line::Row {
            // An escaped bar is written as an entity.
            let cells = line.matches('|').count();
            if before == Line::Row && cells != columns {
                problem("another number of cells than the row above");
            }
            if !line.ends_with('|') {
                problem("a row without its last bar");
            }
            columns = cells;
        }
        before = kind;
    }
    if !text.ends_with('\n') || text.ends_with("\n\n") {
        problems.push("the file does not end with one line feed".to_owned());
    }
    problems
}

/// Rules about what a renderer makes of the text.
fn structure(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut level = 0;
    let mut headings = HashSet::new();
    let mut heading = None;
    let mut links = Vec::new();
    let mut items = 0;
    let mut written = text.lines().filter(|line| line.starts_with("- ")).count();
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_MATH;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        let number = text[..range.start].lines().count().max(1);
        let mut problem = |what: &str| {
            let source: String = text[range.clone()].chars().take(80).collect();
            problems.push(format!("near line {number}: {what}: {source}"));
        };
        match event {
            Event::Start(Tag::Heading { level: this, .. }) => {
                let this = this as usize;
                if this > level + 1 || (this == 1) != (level == 0) {
                    problem("a heading that is not one level below another");
                }
                level = this;
                heading = Some(String::new());
            }
            Event::End(TagEnd::Heading(_)) => {
                let words = heading.take().unwrap_or_default().to_lowercase();
                let kept = words.replace(|it: char| !it.is_alphanumeric() && it != ' ', "");
                let anchor = kept.replace(' ', "-");
                if !headings.insert(anchor) {
                    problem("a heading that stands twice");
                }
            }
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
            }
            Event::Html(_) | Event::InlineHtml(_) => problem("HTML"),
            Event::InlineMath(_) | Event::DisplayMath(_) => problem("mathematics"),
            Event::FootnoteReference(_) => problem("a footnote"),
            Event::HardBreak | Event::Rule | Event::TaskListMarker(_) => {
                problem("no part of a report")
            }
            Event::Start(tag) => match tag {
                Tag::List(Some(_)) => problem("a numbered list"),
                Tag::Item => items += 1,
                Tag::BlockQuote(_) | Tag::Strikethrough => problem("a quotation or strike-through"),
                Tag::CodeBlock(pulldown_cmark::CodeBlockKind::Indented) => problem("indented code"),
                Tag::CodeBlock(_) => {
                    let code = &text[range.clone()];
                    written -= code.lines().filter(|line| line.starts_with("- ")).count();
                }
                Tag::Link { dest_url, .. } if dest_url.starts_with('#') => {
                    links.push(dest_url.into_string());
                }
                // The reports of a sweep's runs lie below its own.
                Tag::Link { dest_url, .. }
                    if dest_url.ends_with("/report.md") && dest_url.matches('/').count() == 1 => {}
                Tag::Link { .. } => problem("a link out of the report"),
                Tag::Image {
                    link_type,
                    dest_url,
                    ..
                } => {
                    if link_type != LinkType::Inline
                        || !dest_url.ends_with(".svg")
                        || dest_url.contains(['/', ':'])
                    {
                        problem("an image that is no chart");
                    }
                    if text[range.clone()].starts_with("![]") {
                        problem("an image without a description");
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
    if items != written {
        problems.push(format!("{items} list items, of which {written} are meant"));
    }
    for link in links {
        if !headings.contains(&link[1..]) {
            problems.push(format!("no heading for the link {link}"));
        }
    }
    problems
}

#[test]
fn every_rule_finds_what_breaks_it() {
    let check = |text: &str, expected: &str| {
        let found = lint(text).join("\n");
        assert!(found.contains(expected), "{text:?}: {found:?}");
    };
    let good = "# A\n\nb [c](#d).\n\n## D\n\n| a |\n| --- |\n| 1 |\n\n- e\n- f\n\n```text\n<b> \n\n\n- x\n```\n\n![g](h.svg)\n";
    assert_eq!(lint(good), [""; 0]);
    check("# A\n\n### B\n", "a heading that is not one level below");
    check("## A\n", "a heading that is not one level below");
    check("# A\n\n# B\n", "a heading that is not one level below");
    check("# A\n\n## B\n\n## B\n", "stands twice");
    check("# A\nb\n", "no blank line between");
    check("# A\n\nb\n| a |\n| --- |\n", "no blank line between");
    check("# A\n\n| a |\n| --- |\n| b |\nc\n", "no blank line between");
    check("# A\n\nb\n- c\n", "no blank line between");
    check("# A\n\nb\n```text\n```\n", "no blank line before");
    check("# A\n\n```text\n```\nb\n", "no blank line between");
    check("# A\n\n```\n```\n", "without a language");
    check("# A\n\nb \n", "blanks at the end");
    check("# A\n\n\nb\n", "a second blank line");
    check("# A\n\n b\n", "an indented line");
    check(
        "# A\n\n| a |\n| --- |\n| b | c |\n",
        "another number of cells",
    );
    check("# A\n\n| a |\n| --- |\n| b\n", "another number of cells");
    check("# A", "does not end with one line feed");
    check("# A\n\nb <i>c</i>\n", "HTML");
    check("# A\n\n$b$\n", "mathematics");
    check("# A\n\n1. b\n", "a numbered list");
    check("# A\n\n* b\n", "1 list items, of which 0 are meant");
    check("# A\n\n> b\n", "a quotation");
    check("# A\n\n~~b~~\n", "strike-through");
    check("# A\n\n    b\n", "indented code");
    check("# A\n\n---\n", "no part of a report");
    check("# A\n\n[b](https://c)\n", "a link out");
    check("# A\n\n<https://c>\n", "a link out");
    check("# A\n\n[b](#c)\n", "no heading for the link #c");
    check("# A\n\n![b](https://c/d.svg)\n", "no chart");
    check("# A\n\n![](d.svg)\n", "without a description");
}
