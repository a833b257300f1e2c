//! The audit of a document of claims: its figures as they were printed, and its words as quotations
//! beside what came of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use metrics::audit::{Audit, JudgedClaim};
use metrics::claims::{Block, Claims, Table, Text};

use crate::markdown::{Align, escape, table};
use crate::view::audit::{checks, counts, outcome};

/// Renders a document and its audit as Markdown.
///
/// A cell with figures is written as it was printed, and one of words that claim something appears
/// as a quotation with its outcome. So do sentences that claim something.
pub fn render_claims(claims: &Claims, audit: &Audit) -> String {
    let judged = audit.claims.iter().map(|it| (it.id.as_str(), it)).collect();
    let mut text = format!("# Audit of {}\n\n", escape(&claims.title));
    let _ = writeln!(
        text,
        "Transcribed from {}. {}\n",
        escape(&claims.source),
        counts(audit)
    );
    text.push_str("## The document\n");
    for section in &claims.sections {
        // The document's own headings begin at the second level, which is that of this report.
        let level = "#".repeat((usize::from(section.level) + 1).min(6));
        let _ = writeln!(text, "\n{level} {}", escape(&section.title));
        let mut in_list = false;
        for block in &section.blocks {
            let item = matches!(block, Block::Item(_));
            if !(item && in_list) {
                text.push('\n');
            }
            in_list = item;
            match block {
                Block::Text(it) => text.push_str(&line(&sentence(it, &judged))),
                Block::Item(it) => {
                    let _ = write!(text, "- {}", line(&sentence(it, &judged)));
                }
                Block::Table(it) => text.push_str(&stated_table(it, &judged)),
            }
            text.push('\n');
        }
    }
    let _ = write!(text, "\n## Checks\n\n{}\n", checks(audit));
    if !audit.claims.is_empty() {
        let _ = write!(text, "\n## Claims\n\n{}\n", claims_table(audit));
    }
    if !claims.context.sources.is_empty() {
        text.push_str("\n## What the audit took from elsewhere\n\n");
        for source in &claims.context.sources {
            let _ = writeln!(text, "- {}", line(&escape(source)));
        }
    }
    text
}

type Judged<'a> = BTreeMap<&'a str, &'a JudgedClaim>;

/// A sentence: as it is where it claims nothing, and otherwise quoted with the outcome of each claim.
fn sentence(text: &Text, judged: &Judged) -> String {
    match (text.claims.is_empty(), text.figures.is_empty()) {
        (true, _) => escape(&text.text),
        (false, true) => quotations(text, judged),
        (false, false) => {
            format!("\"{}\" ({})", escape(&text.text), quotations(text, judged))
        }
    }
}

/// A cell: a label or figures as they are, and otherwise its claims as quotations.
fn cell(text: &Text, judged: &Judged) -> String {
    match text.claims.is_empty() || !text.figures.is_empty() {
        true => escape(&text.text),
        false => quotations(text, judged),
    }
}

fn quotations(text: &Text, judged: &Judged) -> String {
    let claims = text.claims.iter().filter_map(|claim| {
        let judged = judged.get(format!("claim:{}", claim.id).as_str())?;
        let quote = escape(&judged.quote);
        Some(format!("\"{quote}\": {}", outcome(judged.outcome)))
    });
    claims.collect::<Vec<_>>().join("; ")
}

/// Inline Markdown at the beginning of a line, where it must not become a heading or a list.
fn line(markdown: &str) -> String {
    let text = markdown.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match text.as_bytes().get(digits) {
        Some(b'#' | b'-' | b'+' | b'=') if digits == 0 => format!("\\{text}"),
        Some(b'.' | b')') if digits > 0 => format!("{}\\{}", &text[..digits], &text[digits..]),
        _ => text.to_owned(),
    }
}

fn stated_table(stated: &Table, judged: &Judged) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heads: Vec<_> = stated.columns.iter().map(|head| escape(head)).collect();
    let mut text = row(&heads);
    text.push_str(&row(&vec!["---".to_owned(); heads.len()]));
    for cells in &stated.rows {
        let cells: Vec<_> = cells
            .iter()
            .enumerate()
            .map(|(column, it)| match (column, cell(it, judged)) {
                (0, name) if !name.is_empty() => format!("**{name}**"),
                (_, other) => other,
            })
            .collect();
        text.push_str(&row(&cells));
    }
    text.pop();
    text
}

fn claims_table(audit: &Audit) -> String {
    let row = |claim: &JudgedClaim| {
        [
            escape(&claim.id),
            format!("\"{}\"", escape(&claim.quote)),
            claim.subject.words().to_owned(),
            outcome(claim.outcome),
            escape(&claim.sentence),
        ]
    };
    let rows: Vec<_> = audit.claims.iter().map(row).collect();
    table(
        [
            ("Claim", Align::Left),
            ("Quotation", Align::Left),
            ("It asserts", Align::Left),
            ("Outcome", Align::Left),
            ("Why", Align::Left),
        ],
        &rows,
    )
}
