//! Known documents, hostile ones, and the numbers they print.

use super::*;

/// A document of one paragraph.
fn document(names: &str, text: &str) -> String {
    format!(
        r#"{{"claims_schema": {{"major": 1, "minor": 0}}, "title": "T", "source": "s.md",
            "names": [{names}],
            "sections": [{{"title": "S", "level": 2, "blocks": [{{"text": {text}}}]}}]}}"#
    )
}

fn check(text: &str, expected: Result<(), (&str, &str)>) {
    let at = "sections[0].blocks[0].text";
    let expected = expected.map_err(|(field, reason)| ClaimsError::Field {
        at: format!("{at}{field}"),
        reason: reason.to_owned(),
    });
    assert_eq!(parse(&document("", text)).map(|_| ()), expected, "{text}");
}

#[test]
fn a_printed_figure_is_every_value_that_prints_so() {
    let rate = |printed: &str| {
        (
            printed.to_owned(),
            Unit::IterationsPerSecond,
            Quantity::IterationRate,
        )
    };
    let count = |printed: &str| {
        (
            printed.to_owned(),
            Unit::None,
            Quantity::TrainableParameters,
        )
    };
    for ((printed, unit, quantity), low, high) in [
        (rate("15.5"), 15.45, 15.55),
        (rate("1,085"), 1084.5, 1085.5),
        (rate("2e-05"), 1.5e-5, 2.5e-5),
        (rate("8-12"), 8.0, 12.0),
        (count("213K"), 212_500.0, 213_500.0),
        (count("1.17B"), 1.165e9, 1.175e9),
        (count("425,984"), 425_984.0, 425_984.0),
    ] {
        let figure = Figure {
            quantity,
            printed,
            unit,
            spread: None,
            below: false,
            of: None,
            derived: false,
        };
        let value = figure.value();
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b;
        assert!(
            near(value.low, low) && near(value.high, high),
            "{figure:?} {value:?}"
        );
    }
}

#[test]
fn units_are_made_plain() {
    let figure = |quantity: Quantity, printed: &str, unit: Unit| Figure {
        quantity,
        printed: printed.to_owned(),
        unit,
        spread: Some("0.1".to_owned()),
        below: true,
        of: None,
        derived: false,
    };
    let minutes = figure(Quantity::TrainingTime, "1.0", Unit::Minutes);
    assert_eq!(minutes.value(), Interval::around(60.0, 3.0));
    assert_eq!(minutes.spread().unwrap().low, 3.0);
    assert_eq!(minutes.shown(), "< 1.0 ± 0.1 min");
    let share = figure(Quantity::MemoryShare, "7", Unit::Percent);
    assert!((share.value().low - 0.065).abs() < 1e-12);
    assert_eq!(share.resolution(), 0.005);
    assert_eq!(share.shown(), "< 7 ± 0.1%");
    let range = figure(Quantity::MemoryRatio, "3-4", Unit::Times);
    assert_eq!(
        range.rounded(),
        Interval {
            low: 2.5,
            high: 4.5
        }
    );
}

#[test]
fn what_is_no_printed_number_is_an_error() {
    for printed in [
        "", "fast", "-5", "1.", ".5", "1,0", "1,0000", ",100", "1e", "1e999", "5k", "4-3", "1-2-3",
        "1 000", "٣", "inf", "NaN", "0x10", "1_0", "+1",
    ] {
        assert!(Number::parse(printed, false).is_err(), "{printed}");
    }
}

#[test]
fn every_number_of_a_text_is_one_of_its_figures() {
    let rate =
        r#"{"quantity": "iteration_rate", "printed": "15.5", "unit": "it/s", "spread": "0.05"}"#;
    check(
        &format!(r#"{{"text": "15.5 ± 0.05 it/s", "figures": [{rate}]}}"#),
        Ok(()),
    );
    check(r#"{"text": "Native ARM64, x86 and M3"}"#, Ok(()));
    let stray = |number: &str| {
        format!(
            "the number that begins with `{number}` is none of its figures; add it to them, or \
             the word it is part of to `names`"
        )
    };
    check(r#"{"text": "12.5 of 7"}"#, Err((".text", &stray("12"))));
    check(
        &format!(r#"{{"text": "15.5 ± 0.05, then 3", "figures": [{rate}]}}"#),
        Err((".text", &stray("3"))),
    );
    let absent = |number: &str| format!("`{number}` does not stand in the text where it is due");
    check(
        &format!(r#"{{"text": "115.5 ± 0.05", "figures": [{rate}]}}"#),
        Err((".figures[0].printed", &absent("15.5"))),
    );
    check(
        &format!(r#"{{"text": "0.05 before 15.5", "figures": [{rate}]}}"#),
        Err((".figures[0].spread", &absent("0.05"))),
    );
    check(
        &format!(r#"{{"text": "15.5 ± 0.05", "figures": [{rate}, {rate}]}}"#),
        Err((".figures[1].printed", &absent("15.5"))),
    );
    let named = document(r#""LFM2-1.2B""#, r#"{"text": "LFM2-1.2B"}"#);
    assert!(parse(&named).is_ok());
    assert!(parse(&document("", r#"{"text": "LFM2-1.2B"}"#)).is_err());
}

#[test]
fn a_figure_that_cannot_be_is_an_error_with_its_path() {
    let figure = |fields: &str| format!(r#"{{"text": "0 5 8-9", "figures": [{{{fields}}}]}}"#);
    check(
        &figure(r#""quantity": "training_time", "printed": "5", "unit": "GB""#),
        Err((".figures[0].unit", "`GB` is no unit of training time")),
    );
    check(
        &figure(r#""quantity": "training_time", "printed": "0", "unit": "s""#),
        Err((".figures[0].printed", "training time has to be above 0")),
    );
    check(
        &figure(r#""quantity": "iteration_rate", "printed": "8-9", "unit": "it/s", "spread": "5""#),
        Err((".figures[0].spread", "a range has no ±")),
    );
    check(
        &figure(r#""quantity": "rank", "printed": "5", "of": {"window": "9-2"}"#),
        Err((
            ".figures[0].of.window",
            "`9-2` is no range of iterations; write it as in 1-100",
        )),
    );
    check(
        &figure(r#""quantity": "rank", "printed": "5", "of": {"prompt": 0}"#),
        Err((".figures[0].of.prompt", "prompts are counted from 1")),
    );
}

#[test]
fn a_claim_that_cannot_be_is_an_error_with_its_path() {
    let claim = |fields: &str| format!(r#"{{"text": "No growth", "claims": [{fields}]}}"#);
    check(&claim(r#"{"id": "a", "subject": "leak"}"#), Ok(()));
    check(
        &claim(r#"{"id": "a", "subject": "leak"}, {"id": "a", "subject": "leak"}"#),
        Err((".claims[1].id", "`a` is taken already")),
    );
    check(
        &claim(r#"{"id": "A b", "subject": "leak"}"#),
        Err((
            ".claims[0].id",
            "an id has lower-case letters, digits and hyphens",
        )),
    );
    check(
        &claim(r#"{"id": "a", "subject": "leak", "quote": "no growth"}"#),
        Err((".claims[0].quote", "these words do not stand in the text")),
    );
    check(
        &claim(r#"{"id": "a", "subject": "no_change"}"#),
        Err((
            ".claims[0].of",
            "a claim of no change or no spread says of what",
        )),
    );
    check(
        &claim(r#"{"id": "a", "subject": "leak", "of": "rank"}"#),
        Err((
            ".claims[0].of",
            "only a claim of no change or no spread has this field",
        )),
    );
}

/// The error of a whole document begins so.
fn check_document(text: &str, expected: &str) {
    let error = parse(text).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn other_files_are_refused_and_the_bad_field_is_named() {
    check_document("", "this is no document of claims: EOF");
    check_document("[]", "this is no document of claims: ");
    check_document(
        "{}",
        "this is no document of claims: missing field `claims_schema`",
    );
    check_document(
        r#"{"event":"start"}"#,
        "this is no document of claims: missing field",
    );
    check_document(
        r#"{"claims_schema": {"major": 2, "minor": 0}}"#,
        "the document has schema 2.0, and this build reads schema 1 up to 1.1",
    );
    let good = document("", r#"{"text": "x"}"#);
    assert!(parse(&good).is_ok());
    check_document(
        &good.replace(r#""level": 2"#, r#""level": "two""#),
        "sections[0].level: invalid type: string \"two\", expected u8",
    );
    check_document(
        &good.replace(r#""level": 2"#, r#""level": 1"#),
        "sections[0].level: a heading has a level from 2 to 6",
    );
    check_document(
        &good.replace(r#""text": "x""#, r#""text": "x", "figure": []"#),
        "sections[0].blocks[0].text.figure: unknown field `figure`",
    );
    check_document(
        &good.replace(r#""title": "T""#, r#""titel": "T""#),
        "titel: unknown field `titel`",
    );
    check_document(
        &format!("{good} {{}}"),
        "this is no document of claims: trailing",
    );
    let table = r#"{"table": {"columns": ["a", "b"], "rows": [[{"text": "x"}]]}}"#;
    check_document(
        &good.replace(r#"{"text": {"text": "x"}}"#, table),
        "sections[0].blocks[0].table.rows[0]: the row has 1 cells for 2 columns",
    );
}

#[test]
fn hostile_text_is_read_as_text() {
    let hostile = "<script>|`$x$`\u{202e}\\u0000 ![a](b) \u{1b}[31m";
    let text = serde_json::to_string(hostile).unwrap();
    assert!(
        parse(&document("", &format!(r#"{{"text": {text}}}"#))).is_err(),
        "it has a number"
    );
    let claims = parse(&document(&text, &format!(r#"{{"text": {text}}}"#))).unwrap();
    assert_eq!(claims.texts().next().unwrap().text, hostile);
    // Numbers next to characters of several bytes.
    check(
        r#"{"text": "é5é €5", "figures": [{"quantity": "rank", "printed": "5"}, {"quantity": "rank", "printed": "5"}]}"#,
        Ok(()),
    );
    let deep = "[".repeat(100_000);
    check_document(&deep, "this is no document of claims: ");
}

#[test]
fn the_context_has_to_fit_itself() {
    let with = |context: &str| {
        document("", r#"{"text": "x"}"#).replace(
            r#""sections""#,
            &format!(r#""context": {{{context}}}, "sections""#),
        )
    };
    let model = |fields: &str| {
        format!(
            r#""model": {{"parameters": 9, "layers": 2, "hidden_size": 1, "vocab_size": 1,
                "modules": [{{"name": "q", "inputs": 1, "outputs": 1, "layers": [{fields}]}}]}}"#
        )
    };
    assert!(parse(&with(&model("0, 1"))).is_ok());
    check_document(
        &with(&model("2")),
        "context.model.modules[0].layers: layer 2 of a model with 2 layers",
    );
    check_document(
        &with(&format!(r#"{}, "targets": ["k"]"#, model("0"))),
        "context.targets: `k` is none of the modules of context.model",
    );
    check_document(
        &with(&model("0").replace(r#""parameters": 9"#, r#""parameters": 0"#)),
        "context.model.parameters: it has to be above 0",
    );
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    let path = folder.path().join("claims.json");
    let error = read(&path).unwrap_err().to_string();
    assert!(error.contains("name a file with claims"), "{error}");
    fs::write(&path, b"\xff").unwrap();
    assert!(read(&path).is_err());
    let file = fs::File::create(&path).unwrap();
    file.set_len(LARGEST_FILE + 1).unwrap();
    let error = read(&path).unwrap_err().to_string();
    assert!(error.contains("has at most"), "{error}");
}
