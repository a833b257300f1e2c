//! `--format` and `--template`.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
};

use serde_json::Value;

use crate::support::{Folder, SHORT, repository};

/// The committed record in a run folder `run`.
fn with_record() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("run")).unwrap();
    let record = repository("fixtures/records/h200-lfm2-1.2b/record.jsonl");
    fs::copy(record, folder.path("run/record.jsonl")).unwrap();
    folder
}

fn names(folder: &Folder, of: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder.path(of)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn every_format_is_written_beside_the_markdown_and_goes_with_it() {
    let folder = with_record();
    folder.ok("report run");
    let markdown = names(&folder, "run");
    let check = |formats: &str, others: &[&str]| {
        folder.ok(&format!("report run --format {formats}"));
        let mut expected = markdown.clone();
        expected.extend(others.iter().map(|&name| name.to_owned()));
        assert_eq!(names(&folder, "run"), expected, "{formats}");
    };
    check("html", &["report.html"]);
    check("json,csv", &["report.json", "samples.csv", "tokens.csv"]);
    check("markdown", &[]);
    check("markdown,html,json", &["report.html", "report.json"]);
    folder.check_error("report run --format pdf", 2, &["pdf", "html"]);
}

#[test]
fn every_chart_is_a_png_too_on_request() {
    let folder = with_record();
    let finished = folder.lfmark("report run --format png");
    if finished.stderr.contains("no font is installed") {
        // Past the capture of a test's output, so that it is seen.
        let _ = writeln!(io::stderr(), "SKIPPED: charts as PNG: {}", finished.stderr);
        return;
    }
    let files = names(&folder, "run");
    let charts: Vec<_> = files
        .iter()
        .filter_map(|it| it.strip_suffix(".svg"))
        .collect();
    assert!(charts.contains(&"step-time"), "{files:?}");
    for chart in charts {
        let png = fs::read(folder.path(&format!("run/{chart}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n"), "{chart}");
        // The width, twice that of the SVG.
        assert_eq!(png[16..20], 1600u32.to_be_bytes(), "{chart}");
    }
    folder.ok("report run");
    assert!(
        !names(&folder, "run")
            .iter()
            .any(|name| name.ends_with(".png"))
    );
}

#[test]
fn a_run_writes_the_formats_that_a_report_of_it_has_byte_for_byte() {
    let folder = Folder::new();
    let formats = "--format html,json,csv";
    let finished = folder.ok(&format!("{SHORT} {formats}"));
    assert!(finished.stdout.contains("out/report.html"), "{finished:?}");
    let files = [
        "report.md",
        "report.html",
        "report.json",
        "samples.csv",
        "tokens.csv",
    ];
    let written = files.map(|name| folder.read(&format!("out/{name}")));
    for name in files {
        fs::remove_file(folder.path("out").join(name)).unwrap();
    }
    folder.ok(&format!("report out {formats}"));
    for (name, text) in files.into_iter().zip(written) {
        assert_eq!(folder.read(&format!("out/{name}")), text, "{name}");
    }

    let json: Value = serde_json::from_str(&folder.read("out/report.json")).unwrap();
    assert_eq!(json["start"]["run_id"], "out");
    assert_eq!(json["summary"]["training"]["iterations"], 3);
    let schema = fs::read_to_string(repository("schema/report.schema.json")).unwrap();
    let schema = serde_json::from_str(&schema).unwrap();
    let problems = jsonschema::validate(&schema, &json).map_err(|error| error.to_string());
    assert_eq!(problems, Ok(()));

    // A head and a row an iteration; a head and a row a token.
    assert_eq!(folder.read("out/samples.csv").matches("\r\n").count(), 4);
    let record = folder.record();
    let tokens = record.generations.iter().map(|it| it.token_ids.len());
    let rows = folder.read("out/tokens.csv").matches("\r\n").count();
    assert_eq!(rows, 1 + tokens.sum::<usize>());
}

#[test]
fn files_of_somebody_else_are_left_alone() {
    let folder = with_record();
    fs::create_dir(folder.path("mine")).unwrap();
    folder.write("mine/samples.csv", "mine");
    folder.ok("report run --output mine");
    assert_eq!(folder.read("mine/samples.csv"), "mine");
}

#[test]
fn a_template_of_the_user_s_own_makes_every_page() {
    let folder = with_record();
    let text = "# Mine: {{ model }}\n\n{{ training.table }}\n\n![Step time](step-time.svg)\n";
    folder.write("mine.tera", text);
    folder.ok("report run --template mine.tera --format html");
    let report = folder.read("run/report.md");
    assert!(
        report.starts_with("# Mine: lfm2-1.2b\n\n| Metric |"),
        "{report}"
    );
    let html = folder.read("run/report.html");
    assert!(html.contains("<title>Mine: lfm2-1.2b</title>"), "{html}");
    assert_eq!(html.matches("<svg ").count(), 1);
}

#[test]
fn a_broken_template_is_a_usage_error_that_names_its_line() {
    let folder = with_record();
    folder.ok("report run");
    let before = folder.read("run/report.md");
    let check = |text: &str, needles: &[&str]| {
        folder.write("mine.tera", text);
        folder.check_error("report run --template mine.tera", 2, needles);
    };
    check("a\n{{ model", &["mine.tera, line 2: expected"]);
    check(
        "\n\n{{ modell }}",
        &["mine.tera, line 3: Variable `modell` not found"],
    );
    check(
        "{{ training.tabel }}",
        &["line 1: Variable `training.tabel`"],
    );
    folder.check_error(
        "report run --template absent.tera",
        2,
        &["absent.tera", "cannot read it"],
    );
    assert_eq!(folder.read("run/report.md"), before);

    // Before anything is measured.
    folder.write("mine.tera", "{% if %}");
    folder.check_nothing_run(
        &format!("{SHORT} --template mine.tera"),
        2,
        &["mine.tera, line 1"],
    );
}

#[test]
fn a_set_has_a_page_and_no_samples() {
    let folder = Folder::new();
    let arguments = "run -o out --repeats 2 --iterations 2 --no-generation --cool-down-limit 0";
    folder.ok(&format!("{arguments} --format html"));
    assert!(folder.read("out/report.html").contains("<svg "));
    folder.write("mine.tera", "a");
    for (flag, needle) in [
        ("--format html,csv", "--format csv"),
        ("--format json", "--format json"),
        ("--template mine.tera", "--template"),
    ] {
        folder.check_error(&format!("report out {flag}"), 2, &[needle]);
        let again = arguments.replace("-o out", "-o again");
        folder.check_error(&format!("{again} {flag}"), 2, &[needle]);
        assert!(!folder.exists("again"));
    }
}
