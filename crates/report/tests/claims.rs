//! Documents of claims beside their audit, whole.
//!
//! `LFMARK_BLESS=1 cargo test -p report` writes the snapshots anew.

use std::fs;
use std::path::PathBuf;

use metrics::{audit, claims, roofline, store, summary::summarize};
use report::{render_audit, render_claims};

const DOCUMENT: &str = include_str!("../../../fixtures/m3-max.json");
const CORRECTED: &str = include_str!("../../../fixtures/m3-max.corrected.json");

fn rendered(text: &str) -> String {
    let claims = claims::parse(text).unwrap();
    render_claims(&claims, &audit::claims(&claims))
}

#[test]
fn the_transcribed_document_and_its_corrected_copy() {
    snapshot("document.md", &rendered(DOCUMENT));
    snapshot("corrected.md", &rendered(CORRECTED));
}

#[test]
fn the_committed_run() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/records/h200-lfm2-1.2b");
    let record = store::read(&path).unwrap();
    let summary = summarize(&record);
    let roofline = roofline::roofline(&record, &summary);
    let audit = audit::record(&record, &summary);
    snapshot("h200.md", &render_audit(&record, &roofline, &audit));
}

/// Every numeric cell of the tables of the document, row by row, as it is printed there.
#[test]
fn every_numeric_cell_is_reproduced_as_printed() {
    let rows = [
        &["34.8 seconds (0.58 minutes)", "500 iterations"][..],
        &["15.5 iterations/second"],
        &["1,085 tokens/second"],
        &["2.558 GB", "Only 7% of available memory"],
        &["213K out of 1.17B (0.018%)"],
        &["**1-100**", "15.5 ± 0.02", "2.557"],
        &["**100-300**", "15.5 ± 0.01", "2.558"],
        &["**300-500**", "15.5 ± 0.02", "2.558"],
        &["135.8 tokens/sec", "114.9 tokens/sec", "2.568 GB"],
        &["191.3 tokens/sec", "115.3 tokens/sec", "2.368 GB"],
        &["152.3 tokens/sec", "115.4 tokens/sec", "2.585 GB"],
        &["2.6 GB", "8-12 GB typical", "3-4x more efficient"],
        &["Rock solid 15.5 it/sec"],
    ];
    let text = rendered(DOCUMENT);
    let (document, _) = text.split_once("## Checks").unwrap();
    let numeric: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim))
        .map(|cells| {
            cells
                .filter(|cell| cell.contains(|c: char| c.is_ascii_digit()))
                .filter(|cell| !cell.starts_with('"'))
                .collect::<Vec<_>>()
        })
        .filter(|cells| !cells.is_empty())
        .collect();
    assert_eq!(numeric, rows);
}

#[test]
fn a_cell_of_words_is_a_quotation_with_its_outcome() {
    let text = rendered(DOCUMENT);
    let (document, _) = text.split_once("## Checks").unwrap();
    for words in [
        "Extremely stable",
        "✅ Accurate",
        "Zero overhead",
        "Much simpler",
        "Significantly better",
        "Production-ready",
        "zero variance",
    ] {
        let line = document.lines().find(|line| line.contains(words)).unwrap();
        let (_, after) = line.split_once(words).unwrap();
        let (before, _) = line.split_once(words).unwrap();
        assert!(before.matches('"').count() % 2 == 1, "{line}");
        let (_, after) = after.split_once("\": ").unwrap();
        let outcome = ["**fail**", "**unsupported**", "**cannot tell**"];
        assert!(outcome.iter().any(|word| after.starts_with(word)), "{line}");
    }
}

/// A document of one text in every place that shows one.
fn hostile(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    let claimed = format!(r#"{{"text": {text}, "claims": [{{"id": "ID", "subject": "leak"}}]}}"#);
    let claim = |id: &str| claimed.replace("ID", id);
    format!(
        r#"{{"claims_schema": {{"major": 1, "minor": 0}}, "title": {text}, "source": {text},
            "names": [{text}], "context": {{"chip": {text}, "sources": [{text}]}},
            "sections": [{{"title": {text}, "level": 6, "blocks": [
                {{"text": {{"text": {text}}}}}, {{"item": {{"text": {text}}}}},
                {{"text": {}}}, {{"item": {}}},
                {{"table": {{"columns": [{text}, {text}],
                    "rows": [[{{"text": {text}}}, {}]]}}}}]}}]}}"#,
        claim("a"),
        claim("b"),
        claim("c")
    )
}

#[test]
fn foreign_text_stays_text() {
    for text in [
        "<script>alert(1)</script>",
        "![x](y) [z](javascript:1)",
        "a | b\n| c |\n\n# d",
        "# heading",
        "- item",
        "+ item",
        "1. item",
        "12) item",
        "===",
        "```\nx",
        "    code",
        "> quoted",
        "$x$ **b** ~~c~~ www.d.e",
        "\u{202e}\u{1b}[31m\0",
    ] {
        let shown = rendered(&hostile(text));
        assert!(
            !shown.contains("<script") && !shown.contains("![x]"),
            "{shown}"
        );
        assert!(
            !shown.contains("**b**") && !shown.contains("www.d"),
            "{shown}"
        );
        assert!(!shown.contains(['\u{202e}', '\u{1b}', '\0']), "{shown}");
        let mut columns = None;
        for line in shown.lines() {
            let blocks = [
                "# heading",
                "- item",
                "- - item",
                "- + item",
                "- # heading",
                "+ item",
                "1. item",
                "- 1. item",
                "12) item",
                "- 12) item",
                "===",
                "```",
                "    code",
                "> ",
            ];
            assert!(
                !blocks.iter().any(|block| line.starts_with(block)),
                "{line}"
            );
            let cells = line.starts_with('|').then(|| line.matches('|').count());
            if let (Some(cells), Some(expected)) = (cells, columns) {
                assert_eq!(cells, expected, "{line}");
            }
            columns = cells;
        }
    }
}

#[track_caller]
fn snapshot(name: &str, text: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/audit");
    let path = folder.join(name);
    if std::env::var_os("LFMARK_BLESS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{} differs; `LFMARK_BLESS=1 cargo test -p report` writes it anew:\n{text}",
        path.display()
    );
}
