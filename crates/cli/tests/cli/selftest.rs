//! `lfmark selftest`: planted faults, and the table of false alarms and power.

use crate::support::Folder;

#[test]
fn every_planted_fault_is_found_and_nothing_else() {
    let folder = Folder::new();
    let finished = folder.ok("selftest --output out");
    let lines: Vec<_> = finished.stdout.lines().collect();
    assert!(lines[0].starts_with("planted"), "{finished:?}");
    assert!(
        lines[1..].iter().all(|line| line.ends_with("  ok")),
        "{finished:?}"
    );
    let leak = lines.iter().find(|line| line.contains("steady, leak"));
    assert!(leak.is_some(), "{finished:?}");

    // The records are real ones, which say what they are.
    let report = folder.read("out/leak/report.md");
    assert!(
        report.contains("synthetic") && report.contains("**leak**"),
        "{report}"
    );
    folder.ok("report out/leak");
    assert!(folder.exists("out/slower/01-baseline/record.jsonl"));
    let report = folder.read("out/slower/report.md");
    assert!(
        report.contains("candidate against baseline: regressed."),
        "{report}"
    );
    // A record is never overwritten.
    folder.check_error("selftest --output out", 1, &["exists already"]);
}

#[test]
fn findings_are_one_json_object() {
    let json = Folder::new().lfmark("selftest --json").json();
    let plants = json["plants"].as_array().unwrap();
    assert_eq!(json["failed"], 0);
    assert_eq!(json["passed"], plants.len());
    let named = |name: &str| plants.iter().find(|plant| plant["name"] == name).unwrap();
    assert_eq!(
        named("nothing")["got"],
        serde_json::json!(["steady", "flat", "unmarked"])
    );
    assert_eq!(named("slower")["got"], serde_json::json!(["regressed"]));
    assert_eq!(named("one-run")["got"], serde_json::json!(["inconclusive"]));
    assert!(
        named("drift")["figures"][0]
            .as_str()
            .unwrap()
            .contains("trend +")
    );
}

#[test]
fn the_number_of_simulations_is_checked_first() {
    let folder = Folder::new();
    for number in ["0", "many", "-1"] {
        let arguments = format!("selftest --output out --simulations {number}");
        folder.check_nothing_run(&arguments, 2, &["--simulations"]);
    }
}
