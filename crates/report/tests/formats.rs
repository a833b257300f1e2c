//! Reports in other formats than Markdown, of real and of planted runs.
//!
//! `LFMARK_BLESS=1 cargo test -p report` writes `schema/report.schema.json` anew.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use metrics::record::{End, Status};
use metrics::store::{self, Record};
use metrics::summary::summarize;
use report::{Document, Template, render_json, render_samples, render_template, render_tokens};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The run that was recorded on an H200.
fn measured() -> Record {
    store::read(&repository("fixtures/records/h200-lfm2-1.2b")).unwrap()
}

/// The measured run as it is, and less of it.
fn records() -> Vec<Record> {
    let whole = measured();
    let mut cut_off = whole.clone();
    cut_off.iterations.truncate(30);
    cut_off.generations.clear();
    cut_off.end = None;
    cut_off.notices = vec!["the last line was cut off".to_owned()];
    let mut empty = cut_off.clone();
    empty.iterations.clear();
    empty.phases.clear();
    empty.states.clear();
    let mut failed = whole.clone();
    failed.start.config.lora.targets = vec!["|<b>".to_owned()];
    failed.iterations.truncate(1);
    failed.iterations[0].loss = None;
    failed.iterations[0].step_ns = 0;
    failed.generations.truncate(1);
    failed.generations[0].token_ids.truncate(1);
    failed.generations[0].token_ns.clear();
    failed.end = Some(End {
        status: Status::Failed,
        reason: Some("the disk is full".to_owned()),
        wall_ns: 0,
    });
    let mut slowing_and_leaking = whole.clone();
    for it in &mut slowing_and_leaking.iterations {
        it.step_ns += u64::from(it.iteration) * 20_000;
        it.active_bytes += u64::from(it.iteration) * 50_000;
    }
    let mut extreme = whole.clone();
    for it in &mut extreme.iterations {
        it.step_ns = u64::MAX;
        it.peak_bytes = u64::MAX;
        it.loss = Some(f32::MAX);
    }
    extreme.generations[0].first_token_ns = 0;
    extreme.generations[1].token_ns.fill(0);
    vec![whole, cut_off, empty, failed, slowing_and_leaking, extreme]
}

fn document(record: &Record) -> Value {
    let text = render_json(record, &summarize(record)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn schema() -> Value {
    let path = repository("schema/report.schema.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn check_valid(name: &str, schema: &Validator, document: &Value) {
    let errors: Vec<_> = schema
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}");
}

#[test]
fn the_published_schema_is_that_of_the_types() {
    let exact = |schema: &mut schemars::Schema| {
        if schema.get("properties").is_some() {
            schema.insert("additionalProperties".to_owned(), false.into());
        }
        if let Some(Value::String(description)) = schema.get_mut("description") {
            // Names of items in Rust's documentation.
            *description = description.replace("[`", "`").replace("`]", "`");
            *description = description.replace("`None`", "null");
        }
    };
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with_transform(RecursiveTransform(exact));
    let schema = settings.into_generator().into_root_schema_for::<Document>();
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let path = repository("schema/report.schema.json");
    if std::env::var_os("LFMARK_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        published,
        text,
        "{} is not that of the types; LFMARK_BLESS=1 cargo test -p report writes it anew",
        path.display()
    );
}

#[test]
fn every_document_is_valid_by_the_published_schema() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    for (number, record) in records().iter().enumerate() {
        check_valid(&number.to_string(), &schema, &document(record));
    }
}

#[test]
fn a_document_with_another_field_one_too_few_or_no_number_is_not_valid() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let whole = document(&measured());
    let check = |place: &str, change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut document = whole.clone();
        let object = document.pointer_mut(place).and_then(Value::as_object_mut);
        change(object.unwrap_or_else(|| panic!("no object at {place:?}")));
        assert!(!schema.is_valid(&document), "{place:?}");
    };
    for place in [
        "",
        "/start",
        "/start/config/lora",
        "/summary",
        "/summary/training/step",
        "/summary/generations/0",
        "/summary/memory/growth/active",
        "/summary/rules/leak",
        "/roofline/uses/0",
        "/audit/checks/0",
        "/audit/checks/0/left",
    ] {
        check(place, &|object| {
            object.insert("unknown".to_owned(), json!(1));
        });
        let fields = whole.pointer(place).unwrap().as_object().unwrap();
        for field in fields.keys() {
            check(place, &|object| {
                object.remove(field);
            });
        }
    }
    check("/summary/training/step", &|object| {
        object["mean"] = Value::Null;
    });
    check("/summary", &|object| object["status"] = json!("done"));
}

#[test]
fn samples_are_one_row_an_iteration_and_one_a_token() {
    let mut record = measured();
    record.iterations.truncate(2);
    record.iterations[1].loss = None;
    record.generations.truncate(2);
    for generation in &mut record.generations {
        generation.first_token_ns = 70;
        generation.token_ns = vec![8];
        generation.token_ids = vec![11, 12];
    }
    let samples = render_samples(&record).unwrap().unwrap();
    let rows: Vec<_> = samples.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 3, "{samples}");
    assert_eq!(
        rows[0],
        "iteration,start_ns,data_ns,step_ns,graph_ns,dispatch_ns,rows,real_tokens,padded_tokens,\
         loss_tokens,loss,active_bytes,cache_bytes,peak_bytes,footprint_bytes,swap_bytes"
    );
    let [first, second] = [0, 1].map(|index| record.iterations[index]);
    let expected = format!(
        "1,{},{},{},,,1,{},{},{},{},",
        first.start_ns,
        first.data_ns,
        first.step_ns,
        first.real_tokens,
        first.padded_tokens,
        first.loss_tokens,
        first.loss.unwrap()
    );
    assert!(rows[1].starts_with(&expected), "{} {expected}", rows[1]);
    let no_loss = format!(",{},,{},", second.loss_tokens, second.active_bytes);
    assert!(rows[2].contains(&no_loss), "{} {no_loss}", rows[2]);

    assert_eq!(
        render_tokens(&record).unwrap().unwrap(),
        "prompt,token,token_id,time_ns\r\n1,1,11,70\r\n1,2,12,8\r\n2,1,11,70\r\n2,2,12,8\r\n"
    );
    record.iterations.clear();
    record.generations.clear();
    assert_eq!(render_samples(&record).unwrap(), None);
    assert_eq!(render_tokens(&record).unwrap(), None);
}

#[test]
fn a_template_of_the_user_s_own_takes_the_place_of_the_report() {
    let record = measured();
    let text = "# {{ model }}\n\n{% if step_time_chart %}![Step time](step-time.svg)\n{% endif %}";
    let template = Template::parse("mine.tera", text).unwrap();
    let rendered = render_template(&record, &summarize(&record), &template).unwrap();
    let expected = "# lfm2-1.2b\n\n![Step time](step-time.svg)\n";
    assert_eq!(rendered.files[0].text, expected);
    assert!(rendered.get("step-time.svg").is_some());
}
