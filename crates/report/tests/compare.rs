//! Reports of comparisons, from records of a synthetic engine.

use metrics::compare::{self, Runs, Summary};
use metrics::engine::{self, Truth};
use metrics::record::Event;
use metrics::rules::Rules;
use metrics::store;
use report::{COMPARISON_CSV, REPORT, compare as words, compare_file_names, render_compare};

/// Runs of machines that are slower by these factors, one of them virtual.
fn summary(machines: &[(&str, f64, bool)], runs: u64) -> Summary {
    let mut all = Runs::default();
    for (index, (name, factor, virtual_machine)) in machines.iter().enumerate() {
        let mut truth = Truth::steady(40);
        truth.step.level *= factor;
        truth.step.process_spread = 0.002;
        for repeat in 0..runs {
            let mut start = engine::start(&format!("{index}-{repeat}"), truth.iterations);
            start.machine.chip = Some((*name).to_owned());
            start.machine.virtual_machine = Some(*virtual_machine);
            start.machine.gpu_cores = Some(10);
            start.config.device = "gpu".to_owned();
            if index > 0 {
                start.config.dtype = "bf16".to_owned();
            }
            let mut text = serde_json::to_string(&Event::Start(Box::new(start))).unwrap() + "\n";
            engine::run(&truth, 100 * index as u64 + repeat, &mut |event| {
                text += &(serde_json::to_string(event).unwrap() + "\n");
                Ok(())
            })
            .unwrap();
            all.add(
                name,
                &format!("{name}/{repeat}"),
                &store::parse(&text).unwrap(),
            );
        }
    }
    let allow = ["dtype".to_owned()];
    compare::compare(&all, &allow, &Rules::default()).unwrap()
}

#[test]
fn machines_are_columns_and_only_a_decided_best_is_bold() {
    let machines = [
        ("Apple M4", 1.2, false),
        ("=cmd|<b>", 1.0, false),
        ("Guest", 0.5, true),
    ];
    let summary = summary(&machines, 4);
    let rendered = render_compare(&summary).unwrap();
    let report = rendered.get(REPORT).unwrap();
    for needle in [
        "# Comparison of 2 columns",
        "| Quantity | Apple M4 | =cmd&#124;&lt;b&gt; |",
        "## Metrics (of runs that differ: dtype (f32 in Apple M4, bf16 in =cmd&#124;&lt;b&gt;))",
        "## Against Apple M4 (of runs that differ: dtype (",
        "## Rates (of runs that differ: dtype (",
        "### In relation to the machine (of runs that differ: dtype (",
        "## Charts (of runs that differ: dtype (",
        "| Step time | 24.",
        " | **2",
        "faster: -1",
        "| Guest | 4 | it ran in a virtual machine, whose hardware other guests may share; not alike \
         either\\: dtype (f32 in Apple M4/0, bf16 in Guest/0) | ",
        "agree in weights",
        "none is known to differ.",
        "(columns.svg)",
        "(step-rates.svg)",
    ] {
        assert!(report.contains(needle), "no `{needle}` in:\n{report}");
    }
    // They need the same memory.
    let memory = report
        .lines()
        .find(|line| line.starts_with("| Peak memory"));
    assert!(!memory.unwrap().contains("**"), "{report}");
    assert!(!report.contains("<b>"), "{report}");
    // Nothing was sampled, and nothing generated.
    for absent in ["Power is the mean", "Generation counts"] {
        assert!(!report.contains(absent), "{absent} in:\n{report}");
    }
    let rates = rendered.get("step-rates.svg").unwrap();
    assert!(rates.contains("; dtype may differ"), "{rates}");
    for file in &rendered.files {
        assert!(compare_file_names().any(|name| name == file.name));
    }
    assert_eq!(render_compare(&summary).unwrap(), rendered);
}

#[test]
fn one_run_a_column_decides_nothing_and_says_so() {
    let summary = summary(&[("a", 1.5, false), ("b", 1.0, false)], 1);
    let rendered = render_compare(&summary).unwrap();
    let report = rendered
        .get(REPORT)
        .unwrap()
        .split("## Appendix")
        .next()
        .unwrap()
        .to_owned();
    assert!(report.contains("inconclusive: -3"), "{report}");
    assert!(!report.contains("| **"), "{report}");
    assert!(
        report.contains("Anything about a column of one run"),
        "{report}"
    );
}

#[test]
fn csv_and_json_have_every_cell_and_no_formula() {
    let summary = summary(&[("a", 1.2, false), ("=cmd", 1.0, false)], 4);
    let csv = words::render_csv(&summary).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let rows_of = summary.metrics.len() + summary.rates.len() + summary.normalised.len();
    assert_eq!(rows.len(), 2 * rows_of, "{COMPARISON_CSV}: {csv}");
    let step: Vec<_> = rows.iter().filter(|row| &row[0] == "step_time").collect();
    assert_eq!(
        (&step[1][2], &step[1][7], &step[1][11]),
        ("'=cmd", "true", "faster")
    );
    let units: Vec<&str> = rows
        .iter()
        .filter(|row| row[0].ends_with(" per GPU core"))
        .map(|row| &row[1])
        .collect();
    assert!(!units.is_empty(), "{csv}");
    assert!(units.iter().all(|unit| *unit == "per second per core"));
    let unlike = "dtype (f32 in a, bf16 in =cmd)";
    assert!(rows.iter().all(|row| &row[12] == unlike), "{csv}");
    let json: serde_json::Value =
        serde_json::from_str(&words::render_json(&summary).unwrap()).unwrap();
    assert_eq!(json["schema"]["major"], 1);
    assert_eq!(json["metrics"][0]["what"], "step_time");
    assert_eq!(json["metrics"][0]["best"], 1);
    let allowed = &json["allowed"][0];
    assert_eq!(allowed["field"], "dtype");
    assert_eq!(allowed["columns"][1]["values"][0], "bf16");
}

#[test]
fn runs_that_are_all_apart_are_shown() {
    let summary = Summary {
        columns: Vec::new(),
        metrics: Vec::new(),
        rates: Vec::new(),
        normalised: Vec::new(),
        ..summary(&[("a", 1.2, true), ("b", 1.0, false)], 1)
    };
    let rendered = render_compare(&summary).unwrap();
    let report = rendered.get(REPORT).unwrap();
    assert!(
        report.contains("**Nothing is compared: of no column"),
        "{report}"
    );
    assert!(report.contains("## Not compared"), "{report}");
    assert!(!report.contains("## Metrics"), "{report}");
}

#[test]
fn virtual_machines_are_compared_with_each_other_and_a_warning() {
    let summary = summary(&[("a", 1.2, true), ("b", 1.0, true)], 1);
    assert_eq!((summary.columns.len(), summary.apart.len()), (2, 0));
    let warning = "a/0 ran on shared hardware, whose other guests may be the difference";
    assert_eq!(summary.warnings, [warning]);
    let rendered = render_compare(&summary).unwrap();
    let report = rendered.get(REPORT).unwrap();
    assert!(report.contains(warning), "{report}");
}

#[test]
fn one_column_is_no_plural_and_settings_that_differ_are_named() {
    let summary = summary(&[("a", 1.2, false), ("b", 1.0, true)], 1);
    let rendered = render_compare(&summary).unwrap();
    let report = rendered.get(REPORT).unwrap();
    assert!(report.starts_with("# Comparison of 1 column\n"), "{report}");
    let warned = Summary {
        warnings: vec!["values of seed differ: 1 in a, 2 in b".to_owned()],
        ..summary
    };
    let rendered = render_compare(&warned).unwrap();
    let report = rendered.get(REPORT).unwrap();
    for needle in [
        "beside the machines is alike: values of seed differ\\: 1 in a, 2 in b.**",
        "what is known to differ of them is named above.",
    ] {
        assert!(report.contains(needle), "no `{needle}` in:\n{report}");
    }
}
