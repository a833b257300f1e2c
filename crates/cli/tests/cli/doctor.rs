//! `lfmark doctor`, and waiting for a machine.

use crate::support::Folder;

#[test]
fn doctor_examines_the_machine_in_text_and_in_json() {
    let folder = Folder::new();
    let text = folder.ok("doctor --device cpu").stdout;
    for heading in [
        "Machine",
        "State",
        "What would make the numbers better, in this order",
        "What fits, estimated",
        "What cannot be read here, and so is in no record",
    ] {
        let found = text.lines().any(|line| line == heading);
        assert!(found, "no `{heading}` in:\n{text}");
    }
    assert!(text.contains("reports/h200-lfm2-1.2b-2"), "{text}");

    let json = folder
        .lfmark("doctor --device cpu --dtype bf16 --json")
        .json();
    let memory = json["machine"]["memory_bytes"].as_u64().unwrap();
    let fits = &json["fits"];
    assert_eq!(fits["capacity_bytes"], memory);
    assert_eq!(fits["models"][3]["name"], "lfm2-1.2b");
    assert_eq!(fits["models"][3]["weight_bytes"], 2_340_681_216_u64);
    // What a debug build is told first.
    if cfg!(debug_assertions) {
        let finding = json["advice"][0]["finding"].as_str().unwrap();
        assert!(finding.contains("debug build"), "{finding}");
    }
}

#[test]
fn doctor_estimates_by_a_run_of_this_machine() {
    let folder = Folder::new();
    folder.ok("run -o out --device cpu --iterations 3 --max-tokens 1 --no-generation");
    let by_run = folder.ok("doctor --device cpu --run out").stdout;
    assert!(by_run.contains("the memory of the given run"), "{by_run}");
    let missing = folder.lfmark("doctor --run nothing");
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("nothing"), "{missing:?}");
}

#[test]
fn a_run_that_waited_says_how_long_and_why() {
    let folder = Folder::new();
    folder.ok(
        "run -o out --iterations 3 --no-generation --settle --allow-low-power \
               --cool-down-limit 0",
    );
    let record = metrics::store::read(&folder.path("out")).unwrap();
    let settled = record.start.settled.unwrap();
    assert!(settled.waited_ns > 0, "{settled:?}");
    let report = folder.read("out/report.md");
    assert!(report.contains("Before the run lfmark waited"), "{report}");
}
