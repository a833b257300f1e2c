//! Thresholds: set for a run and recorded with it, and set anew for its report.

use metrics::rules::Rules;

use crate::support::{Folder, SHORT};

#[test]
fn thresholds_of_a_run_are_recorded_with_it() {
    let folder = Folder::with(
        "lfmark.toml",
        "[rules.leak]\nmost-levels = 4\npower = 0.9\n",
    );
    folder.write("rules.toml", "[leak]\npower = 0.95\n");
    folder.ok(&format!(
        "{SHORT} --no-generation --config lfmark.toml --rules rules.toml"
    ));
    let mut expected = Rules::default();
    expected.leak.most_levels = 4;
    expected.leak.power = 0.95;
    assert_eq!(folder.record().start.rules, Some(expected));
    let report = folder.read("out/report.md");
    assert!(report.contains("The thresholds are those recorded with the run."));
    assert!(
        report.contains("| `leak.power` | 0.95 (default 0.8) |"),
        "{report}"
    );

    folder.write("anew.toml", "[leak]\npower = 0.5\n");
    folder.ok("report out --rules anew.toml");
    let report = folder.read("out/report.md");
    assert!(report.contains("not those recorded with the run: `leak.power` 0.95.**"));
    assert!(
        report.contains("| `leak.most-levels` | 4 (default 8) |"),
        "{report}"
    );
}

#[test]
fn thresholds_that_cannot_be_used_are_usage_errors() {
    let folder = Folder::new();
    let check = |text: &str, needles: &[&str]| {
        folder.write("rules.toml", text);
        let arguments = format!("{SHORT} --rules rules.toml");
        folder.check_nothing_run(
            &arguments,
            2,
            &[&["rules.toml", "--rules"], needles].concat(),
        );
        folder.check_error("report out --rules rules.toml", 2, needles);
    };
    check(
        "[steadiness]\nseparation = 0.3\n",
        &["steadiness.separation is 0.3; it must be from 0.5 to 1"],
    );
    check(
        "[steadiness]\nfewest-samples = 2.5\n",
        &["steadiness.fewest-samples is 2.5; it must be a whole number from 3"],
    );
    check(
        "[leak]\nfewest_readings = 30\n",
        &["leak.fewest_readings is no threshold; leak has fewest-readings"],
    );
    check("[rules.leak]\npower = 0.9\n", &["line 1", "expected f64"]);
    check("[leek]\n", &["`leek` is no table of thresholds"]);
    check("[leak\n", &["line 1"]);
    folder.check_error(
        "report out --rules nope.toml",
        2,
        &["nope.toml", "cannot read it"],
    );
    folder.check_nothing_run(
        "run -o out --rules nope.toml",
        2,
        &["nope.toml", "cannot read it"],
    );
    folder.write("config.toml", "[rules.leak]\npower = 1\n");
    folder.check_nothing_run(
        "run -o out --config config.toml",
        2,
        &["leak.power is 1; it must be from 0.5 to below 1"],
    );
}
