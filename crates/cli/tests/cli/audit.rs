//! `lfmark audit` on a run and on documents of claims.

use crate::support::{Folder, SHORT};

const DOCUMENT: &str = include_str!("../../../../fixtures/m3-max.json");
const CORRECTED: &str = include_str!("../../../../fixtures/m3-max.corrected.json");

#[test]
fn a_run_passes_its_own_audit() {
    let folder = Folder::new();
    folder.ok(SHORT);
    let text = folder.ok("audit out").stdout;
    assert!(
        text.contains("## Roofline") && text.contains("## Validation"),
        "{text}"
    );
    assert!(text.contains(", 0 fail, 0 unsupported,"), "{text}");
    assert_eq!(folder.ok("audit out/record.jsonl").stdout, text);
    let json = folder.lfmark("audit out --json").json();
    let checks = json["audit"]["checks"].as_array().unwrap();
    assert!(checks.len() > 20, "{json}");
    let decided = ["pass", "cannot_tell"];
    assert!(
        checks
            .iter()
            .all(|it| decided.contains(&it["outcome"].as_str().unwrap())),
        "{json}"
    );
}

#[test]
fn a_document_that_contradicts_itself_ends_with_1() {
    let folder = Folder::with("claims.json", DOCUMENT);
    let audited = folder.lfmark("audit claims.json");
    assert_eq!(audited.code, Some(1), "{audited:?}");
    for id in [
        "rate-over-time",
        "trainable-parameters",
        "bandwidth",
        "claim:zero-variance",
    ] {
        assert!(audited.stderr.contains(id), "{audited:?}");
    }
    assert!(
        audited.stdout.contains("| 15.5 iterations/second |"),
        "{audited:?}"
    );
    let audited = folder.lfmark("audit claims.json --json");
    assert_eq!(audited.code, Some(1));
    let json: serde_json::Value = serde_json::from_str(&audited.stdout).unwrap();
    assert_eq!(json["audit"]["checks"][0]["id"], "agreement:training-time");
    assert_eq!(json["audit"]["claims"][0]["outcome"], "cannot_tell");
}

#[test]
fn its_corrected_copy_passes() {
    let folder = Folder::with("claims.json", CORRECTED);
    assert!(
        folder
            .ok("audit claims.json")
            .stdout
            .contains(", 0 fail, 0 unsupported,")
    );
}

#[test]
fn a_file_that_is_neither_is_an_error_that_says_where() {
    let check = |text: &str, expected: &str| {
        let folder = Folder::with("it.json", text);
        let refused = folder.lfmark("audit it.json");
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (Some(1), ""),
            "{refused:?}"
        );
        assert!(refused.stderr.contains(expected), "{refused:?}");
    };
    check("", "this is no document of claims");
    check(
        "{\"event\":\"start\"}\n",
        "line 1 is not the start of a record",
    );
    let mistyped = DOCUMENT.replacen("\"unit\": \"min\"", "\"unit\": \"hours\"", 1);
    check(
        &mistyped,
        "sections[3].blocks[0].table.rows[0][1].figures[1].unit: unknown variant `hours`",
    );
    let folder = Folder::new();
    let missing = folder.lfmark("audit nowhere");
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("cannot read nowhere"),
        "{missing:?}"
    );
}
