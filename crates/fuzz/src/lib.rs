//! Fuzz targets: every text and file that lfmark parses and that something else may have written.
//!
//! A target takes any bytes. It must neither panic nor hang nor allocate without a bound, and where
//! something was accepted, what is made of it has to hold. `cargo xtask fuzz` runs them under
//! libFuzzer, guided by coverage; the tests here run their seeds alone.
//!
//! Not among them are the settings of a run and its arms, and `baseline.json`: they are read inside
//! of the program, by types that are derived for TOML and JSON.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use exchange::{
    import,
    share::{self, Privacy},
};
use metrics::{
    audit, claims,
    compare::{self, Runs},
    comparison::MetricNoise,
    gate,
    key::Key,
    linux, mac, metallib,
    noise::{self, Noise, Owner, StoredNoise},
    prompts, quality,
    rules::{ComparisonRules, Rules},
    sets::{Process, Set, Versus},
    store::{self, Record},
    summary::summarize,
    sweep, window,
};
use model::{
    Dtype,
    config::Shape,
    data::Dataset,
    hub, load,
    lora::{self, LoraConfig},
    tensors::TensorSpec,
    tokenizer::{Message, Tokenizer},
    weights::{self, Request},
};

/// One parser, with what it reads.
pub struct Target {
    pub name: &'static str,
    /// Longest input that is tried, in bytes.
    pub longest: usize,
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    ///
    /// # Errors
    ///
    /// A fixture cannot be read.
    pub seeds: fn() -> io::Result<Vec<Vec<u8>>>,
}

const KIB: usize = 1 << 10;

/// All of them, in the order in which they are run.
pub const TARGETS: &[Target] = &[
    target("record", 16 * KIB, record, records),
    target("report", 16 * KIB, report, records),
    target("share", 16 * KIB, share, records),
    target("claims", 16 * KIB, claims, || {
        files("fixtures", &["m3-max.corrected.json"])
    }),
    target("import", 4 * KIB, import, || folder("fixtures/exchange")),
    target("criterion", 2 * KIB, criterion, || {
        files("fixtures/exchange", &["criterion-estimates.json"])
    }),
    target("noise", 8 * KIB, noise, noise_floors),
    target("sweep-plan", 2 * KIB, sweep_plan, || texts(&[PLAN])),
    target("versus", KIB, versus, || texts(&[VERSUS])),
    target("limits", KIB, limits, || texts(&[LIMITS])),
    target("windows", 256, windows, || {
        texts(&["1-100,100-300,300-500", "1-1"])
    }),
    target("prompts", 4 * KIB, prompts, || {
        let mut seeds = texts(&[PROMPTS])?;
        seeds.extend(files("fixtures", &["prompts.json"])?);
        Ok(seeds)
    }),
    target("machine", 2 * KIB, machine, || {
        let mut seeds = folder("fixtures/machines")?;
        seeds.push(b"cpu  1 2 3 4 5 6 7 8 9 10\n".to_vec());
        seeds.push(b"max 100000\n150000 100000\n".to_vec());
        Ok(seeds)
    }),
    target("metallib", KIB, metallib, || {
        let mut library = b"MTLB\x01\x00\x02\x00\x00\x00\x00\x81\x1a\x00\x02\x00".to_vec();
        library.resize(40, 0);
        library[24] = 40;
        library[32] = 5;
        library.extend(b"_nax_");
        Ok(vec![library])
    }),
    target("template", 2 * KIB, template, || texts(&[TEMPLATE])),
    target("config", 2 * KIB, config, || {
        let mut seeds = folder("crates/model/presets")?;
        for place in [
            "oracle/layer-types",
            "oracle/conv-bias",
            "checkpoints/mlx-mixed",
        ] {
            seeds.extend(files(&format!("fixtures/{place}"), &["config.json"])?);
        }
        Ok(seeds)
    }),
    target("adapter-config", KIB, adapter_config, || {
        files(
            "fixtures/checkpoints/mlx-4bit/adapters",
            &["adapter_config.json"],
        )
    }),
    target("generation-config", KIB, generation_config, || {
        files("fixtures/checkpoints/mlx-4bit", &["generation_config.json"])
    }),
    target("weights-index", 4 * KIB, weights_index, || {
        files(
            "fixtures/checkpoints/mlx-8bit",
            &["model.safetensors.index.json"],
        )
    }),
    target("safetensors", 4 * KIB, safetensors, || {
        Ok(vec![tensors_file(), tensors_file()[..100].to_vec()])
    }),
    target("tokenizer", 8 * KIB, tokenizer, || {
        files("fixtures/checkpoints/mlx-4bit", &["tokenizer.json"])
    }),
    target("tokenizer-config", 2 * KIB, tokenizer_config, || {
        let mut seeds = files("fixtures/checkpoints/mlx-4bit", &["tokenizer_config.json"])?;
        seeds.extend(files("crates/model/embedded", &["tokenizer_config.json"])?);
        Ok(seeds)
    }),
    target("chat-template", 2 * KIB, chat_template, || {
        files("fixtures/checkpoints/mlx-4bit", &["chat_template.jinja"])
    }),
    target("data", 2 * KIB, data, || texts(&[DATA])),
    target("hub", 2 * KIB, hub_listing, || texts(&[LISTING])),
];

const fn target(
    name: &'static str,
    longest: usize,
    run: fn(&[u8]),
    seeds: fn() -> io::Result<Vec<Vec<u8>>>,
) -> Target {
    Target {
        name,
        longest,
        run,
        seeds,
    }
}

const FILE: &str = "a file";

fn text(data: &[u8]) -> &str {
    // The parsers take text, so that what comes before the first fault of encoding is tried.
    match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// A record, and everything that is derived of one.
fn record(data: &[u8]) {
    let Ok(record) = store::parse(text(data)) else {
        return;
    };
    let summary = summarize(&record);
    audit::record(&record, &summary);
    let mut runs = Runs::default();
    runs.add("a", "a", &record);
    let others = Runs::default();
    let limits = gate::Limits::default();
    gate::judge(&runs, &others, &limits, None, &Rules::default());
    let _ = compare::compare(&runs, &[], &Rules::default());
    if let Some(process) = Process::of("a", &record) {
        Noise::of(&Set::new(vec![process], Vec::new()).expect("one process is a set")).ok();
    }
}

/// Whatever was accepted as a record has a report in every format.
fn report(data: &[u8]) {
    let Ok(record) = store::parse(text(data)) else {
        return;
    };
    let summary = summarize(&record);
    let rendered = report::render_summary(&record, &summary).expect("a record has a report");
    report::render_html(&rendered);
    report::render_json(&record, &summary).expect("a summary is JSON");
    report::render_samples(&record).expect("samples are CSV");
    report::render_tokens(&record).expect("tokens are CSV");
}

/// What is shared is a record.
fn share(data: &[u8]) {
    let names = ["somebody".to_owned()];
    let privacy = Privacy {
        names: &names,
        public_models: &["lfm2-350m"],
    };
    if let Ok(shared) = share::share(text(data), &privacy) {
        store::parse(&shared.text).expect("what was shared can be read");
    }
}

fn claims(data: &[u8]) {
    if let Ok(claims) = claims::parse(text(data)) {
        report::render_claims(&claims, &audit::claims(&claims));
    }
}

/// What was imported is a document of claims that can be read.
fn import(data: &[u8]) {
    if let Ok(imported) = import::import("a.txt", text(data)) {
        let claims = claims::parse(&imported.text()).expect("an import can be read");
        audit::claims(&claims);
    }
}

fn criterion(data: &[u8]) {
    if let Ok(mean) = gate::criterion_mean(text(data)) {
        assert!(mean.is_finite() && mean > 0.0);
        let run = vec![gate::Benchmark {
            name: "a".to_owned(),
            baseline: mean,
            candidate: 2.0 * mean,
        }];
        gate::judge_benchmarks(&[run], &ComparisonRules::default());
    }
}

fn noise(data: &[u8]) {
    if let Ok(noise) = Noise::parse(text(data)) {
        assert_eq!(Noise::parse(&noise.text()).as_ref(), Ok(&noise));
        for noise in noise.floor().metrics.values() {
            noise.difference_99(5, 5);
        }
    }
}

fn sweep_plan(data: &[u8]) {
    let _ = sweep::parse_plan(text(data), Path::new(FILE));
}

fn versus(data: &[u8]) {
    if let Ok(versus) = Versus::parse(text(data)) {
        // Numbers may lose their last digit on the way.
        let again = Versus::parse(&versus.text()).map(|it| it.unmeasured);
        assert_eq!(again, Ok(versus.unmeasured));
    }
}

/// Limits of the gate, and thresholds of the rules, which are TOML both.
fn limits(data: &[u8]) {
    let text = text(data);
    if let Ok(limits) = toml::from_str::<gate::Limits>(text) {
        let _ = limits.check();
    }
    if let Ok(rules) = toml::from_str::<Rules>(text) {
        let _ = rules.validate();
    }
}

fn windows(data: &[u8]) {
    if let Ok(windows) = window::parse(text(data))
        && window::validate(&windows, 500).is_ok()
    {
        assert_eq!(window::parse(&window::format(&windows)), Ok(windows));
    }
}

/// Prompts with their checks, and a text to judge by them: that of the file itself.
fn prompts(data: &[u8]) {
    let text = text(data);
    for prompt in prompts::parse(text).unwrap_or_default() {
        quality::outcomes(text, &prompt.checks);
    }
}

/// What the systems' own programs print, and Linux's files.
fn machine(data: &[u8]) {
    let text = text(data);
    mac::sysctl(text);
    mac::ioreg_gpu_cores(text);
    mac::system_profiler_gpu_cores(text);
    if let Some(source) = mac::power_source(text) {
        mac::power_mode(text, source);
    }
    mac::power_mode(text, "ac");
    if let Ok(metrics) = serde_json::from_str(text) {
        mac::macmon(&metrics);
    }
    linux::cpu_times(text);
    linux::cpu_max(text);
}

fn metallib(data: &[u8]) {
    let read = metallib::scan(&mut io::Cursor::new(data)).expect("memory can be read");
    assert_eq!(read.bytes, data.len() as u64);
}

fn template(data: &[u8]) {
    let _ = report::Template::parse("a.tera", text(data));
}

/// A model's config; what it implies is listed, but not made.
fn config(data: &[u8]) {
    if let Ok(shape) = Shape::from_json(text(data), FILE) {
        assert!(shape.parameters() > 0);
    }
}

fn adapter_config(data: &[u8]) {
    static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
        let config = include_str!("../../model/presets/lfm2-350m.json");
        Shape::from_json(config, FILE).expect("the preset is a config")
    });
    if let Ok(config) = LoraConfig::from_json(text(data), FILE) {
        let _ = lora::adapter_tensors(&SHAPE, &config);
    }
}

fn generation_config(data: &[u8]) {
    let _ = load::generation_eos_ids_of(text(data), FILE);
}

/// Every name is that of a file beside the index.
fn weights_index(data: &[u8]) {
    for name in weights::indexed(text(data), FILE).unwrap_or_default() {
        assert_eq!(Path::new(&name).file_name(), Some(name.as_ref()));
    }
}

/// The header of a safetensors file, and tensors of a model that are in it.
fn safetensors(data: &[u8]) {
    let specs = tensor_specs();
    let plain = Request::plain(&specs, Dtype::Float32);
    if let Ok((tensors, _)) = weights::load_bytes(FILE, data, &plain) {
        assert_eq!(tensors.len(), specs.len());
    }
}

fn tokenizer(data: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::parse(Path::new(FILE), text(data), None, None)
        && let Ok(ids) = tokenizer.encode("Hello, world! 3.14\n ü")
    {
        let _ = tokenizer.decode(&ids);
    }
}

/// Small, so that making it takes less than what is tried with it.
const TOKENIZER: &str = r#"{"version":"1.0","added_tokens":[],"model":{"type":"WordLevel",
"vocab":{"a":0,"<|im_end|>":1,"<|endoftext|>":2,"<|startoftext|>":3},"unk_token":"a"}}"#;

fn tokenizer_config(data: &[u8]) {
    chat(Tokenizer::parse(
        Path::new(FILE),
        TOKENIZER,
        Some(text(data)),
        None,
    ));
}

fn chat_template(data: &[u8]) {
    chat(Tokenizer::parse(
        Path::new(FILE),
        TOKENIZER,
        None,
        Some(text(data).to_owned()),
    ));
}

/// Puts a short chat through a template.
fn chat(tokenizer: model::Result<Tokenizer>) {
    let messages = [("system", "a b"), ("user", "c {{ d }}")];
    let messages = messages.map(|(role, content)| Message::new(role, content));
    if let Ok(tokenizer) = tokenizer {
        let _ = tokenizer.encode_chat(&messages, None, true);
    }
}

fn data(data: &[u8]) {
    static TOKENIZER: LazyLock<Tokenizer> =
        LazyLock::new(|| load::embedded_tokenizer().expect("the embedded tokenizer is one"));
    for mask_prompt in [false, true] {
        let _ = Dataset::parse(FILE, text(data), &TOKENIZER, mask_prompt);
    }
}

fn hub_listing(data: &[u8]) {
    let _ = hub::Listing::parse(data);
}

/// Of a model that is small enough to be an input.
fn tensor_specs() -> Vec<TensorSpec> {
    let config = r#"{"model_type":"lfm2","vocab_size":2,"hidden_size":2,"num_hidden_layers":1,
        "num_attention_heads":1,"norm_eps":1e-5,"conv_L_cache":2,"conv_bias":false,
        "block_auto_adjust_ff_dim":false,"block_ff_dim":2,"full_attn_idxs":[]}"#;
    Shape::from_json(config, FILE)
        .expect("a small config is one")
        .tensors()
}

/// A file with all of them, in f32, of zeros.
fn tensors_file() -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for spec in tensor_specs() {
        let begin = end;
        end += 4 * spec
            .shape
            .iter()
            .map(|&size| size as usize)
            .product::<usize>();
        let tensor = serde_json::json!({
            "dtype": "F32", "shape": spec.shape, "data_offsets": [begin, end]
        });
        header.insert(spec.name, tensor);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.into_bytes());
    file.extend(vec![0; end]);
    file
}

const PLAN: &str = r#"{"version":1,"seed":7,"repeats":2,"cool_down_limit_s":300,
"generated_data":true,"programs":[{"name":"lfmark","file":null,"environment":{"A":"b"}}],
"points":[{"axis":"batch-size","value":4}]}"#;

const VERSUS: &str = r#"{"schema":{"major":1,"minor":0},
"unmeasured":[{"arm":"mlx-lm","why":"it is not installed"}],
"same_work":{"iterations":20,"tolerance":0.001,"baseline":"a","arms":[{"arm":"b","loss_difference":1e-7}]}}"#;

const LIMITS: &str = "[step_time]\npractical = 0.05\n\n[peak_memory]\nsoft = 1\nhard = 2\n\
                      noise = { runs = 10, sd = 0.01 }\n\n[leak]\npower = 0.9\n";

const PROMPTS: &str = r#"[{"prompt":"a"},{"prompt":"b","checks":{
"must_mention":["data|number*","a b"],"must_not_mention":["x"],"most_repetition":0.2,
"fewest_words":3,"agreement":{"score":"rouge_l","at_least":0.5,"reference":"data and numbers"}}}]"#;

const TEMPLATE: &str = "# {{ model }}\n{% for it in list %}{{ loop.index }}: {{ it | upper }}\n\
                        {% endfor %}{% if a and not b %}{{ a + 1 }}{% endif %}";

const DATA: &str = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\
                    \"content\":\"Hello\"}]}\n{\"prompt\":\"a\",\"completion\":\"b\"}\n\
                    {\"text\":\"some text\"}\n";

const LISTING: &str = r#"{"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[
{"rfilename":"config.json","size":3,"blobId":"abc"},
{"rfilename":"model.safetensors","lfs":{"sha256":"def","size":9}}]}"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn texts(texts: &[&str]) -> io::Result<Vec<Vec<u8>>> {
    Ok(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

fn files(folder: &str, names: &[&str]) -> io::Result<Vec<Vec<u8>>> {
    let folder = root().join(folder);
    names
        .iter()
        .map(|name| fs::read(folder.join(name)))
        .collect()
}

/// Every file of a folder but its description.
fn folder(folder: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root().join(folder))? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|it| it != "md") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(fs::read).collect()
}

const RECORDS: [&str; 3] = [
    "fixtures/records/h200-lfm2-1.2b/record.jsonl",
    "fixtures/records/cpu-vs-mlx-lm-cold/01-lfmark/record.jsonl",
    "fixtures/records/h200-lfm2-1.2b-2/record.jsonl",
];

/// Committed records, each with a few events of every kind; and with enough iterations to be
/// judged.
fn records() -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    for (record, iterations) in [(0, 3), (1, 3), (2, 3), (0, 24)] {
        let text = fs::read_to_string(root().join(RECORDS[record]))?;
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        let mut seed = String::new();
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line)?;
            let kind = event["event"].as_str().unwrap_or_default();
            let seen = kinds.entry(kind.to_owned()).or_default();
            *seen += 1;
            let most = if kind == "iteration" { iterations } else { 2 };
            if *seen <= most {
                seed += line;
                seed.push('\n');
            }
        }
        seeds.push(seed.into_bytes());
    }
    Ok(seeds)
}

/// Of a committed record's machine and work.
fn noise_floors() -> io::Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string(root().join(RECORDS[1]))?;
    let record: Record = store::parse(&text).map_err(io::Error::other)?;
    let metrics = ["step_time", "footprint"].map(|metric| {
        let stored = StoredNoise {
            noise: MetricNoise { runs: 5, sd: 0.01 },
            geometric_mean: 1e6,
            difference_99: BTreeMap::new(),
        };
        (metric.to_owned(), stored)
    });
    let noise = Noise {
        schema: noise::SCHEMA,
        measured_unix_ms: 0,
        set: "a".to_owned(),
        runs: vec!["a".to_owned()],
        key: Owner::of(&Key::of(&record)),
        metrics: metrics.into(),
    };
    Ok(vec![noise.text().into_bytes()])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_target_takes_its_seeds_and_they_fit_it() {
        for target in TARGETS {
            let seeds = (target.seeds)().unwrap();
            assert!(!seeds.is_empty(), "{}", target.name);
            for seed in seeds {
                assert!(
                    seed.len() <= target.longest,
                    "{}: {}",
                    target.name,
                    seed.len()
                );
                (target.run)(&seed);
            }
        }
    }

    #[test]
    fn seeds_are_what_their_parsers_accept() {
        let first = |name: &str| {
            let target = TARGETS.iter().find(|it| it.name == name).unwrap();
            (target.seeds)().unwrap().swap_remove(0)
        };
        assert!(store::parse(text(&first("record"))).is_ok());
        assert!(Noise::parse(text(&first("noise"))).is_ok());
        assert!(sweep::parse_plan(text(&first("sweep-plan")), Path::new(FILE)).is_ok());
        assert!(Versus::parse(text(&first("versus"))).is_ok());
        assert!(prompts::parse(text(&first("prompts"))).is_ok());
        assert!(hub::Listing::parse(&first("hub")).is_ok());
        let specs = tensor_specs();
        let plain = Request::plain(&specs, Dtype::Float32);
        assert!(weights::load_bytes(FILE, &first("safetensors"), &plain).is_ok());
        let config = String::from_utf8(first("tokenizer-config")).unwrap();
        let built = Tokenizer::parse(Path::new(FILE), TOKENIZER, Some(&config), None);
        assert!(built.is_ok(), "{built:?}");
        let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
        assert_eq!(names.len(), TARGETS.len());
    }
}
