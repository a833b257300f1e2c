//! Reports of sweeps, from records of a synthetic engine.
//!
//! `LFMARK_BLESS=1 cargo test -p report` writes the snapshot anew.

use std::rc::Rc;

use std::{fs, path::Path};

use metrics::engine::{self, Truth};
use metrics::record::{AdapterShape, Event, Finish, Generation, Member};
use metrics::store::{self, Record};
use metrics::sweep::{Axis, Plan, PlannedRun, Point, Program, Sweep, VERSION};
use report::{REPORT, Rendered, render_sweep};

const EVIL: &str = "<script>|![x](y)**bold**\u{202e}\n";

fn plan(points: &[(Axis, &[u32])], programs: &[&str], repeats: u32) -> Plan {
    let program = |name: &&str| Program {
        name: (*name).to_owned(),
        file: None,
        environment: Default::default(),
    };
    let points = points.iter().flat_map(|&(axis, values)| {
        let values = values.iter();
        values.map(move |&value| Point { axis, value })
    });
    Plan {
        version: VERSION,
        seed: 7,
        repeats,
        cool_down_limit_s: 0,
        generated_data: true,
        context_rounds: 4,
        programs: programs.iter().map(program).collect(),
        points: points.collect(),
    }
}

/// A run on a GPU of the chip table. A step costs 5 ms and 20 µs a token, beyond a batch of 8 twice
/// as much; a generated token 2 ms and 1 µs a position, of the second program 3 µs.
fn record(plan: &Plan, run: PlannedRun, number: u32) -> Record {
    let point = plan.points[run.point];
    let value = f64::from(point.value);
    let iterations = if point.axis == Axis::Iterations {
        point.value
    } else {
        40
    };
    let mut truth = Truth::steady(iterations);
    let tokens = match point.axis {
        Axis::BatchSize => 128 * point.value,
        _ => 128,
    };
    let extra = if point.axis == Axis::BatchSize {
        (value - 8.0).max(0.0)
    } else {
        0.0
    };
    truth.step.level = 5e6 + 20e3 * (f64::from(tokens) + 128.0 * extra);
    truth.working.level *= 1.0 + value / 100.0;
    let mut start = engine::start("run", iterations);
    start.member = Some(Member {
        set: "sweep".to_owned(),
        arm: plan.arm(run),
        number,
        repeat: run.repeat,
        waited_ns: 1_500_000_000,
        unmet: Vec::new(),
        unread: vec!["temperature".to_owned()],
        empty_caches: None,
    });
    start.config.device = "gpu".to_owned();
    start.config.dtype = "bf16".to_owned();
    start.lfmark.profile = "release".to_owned();
    start.mlx.device_name = Some("NVIDIA H200".to_owned());
    start.model.parameters = 1_170_340_608;
    start.model.weight_bytes = 2_340_681_216;
    start.model.adapters = vec![AdapterShape {
        name: "model.layers.1.self_attn.q_proj".to_owned(),
        inputs: 64,
        outputs: 64,
    }];
    if point.axis == Axis::BatchSize {
        start.config.batch_size = point.value;
    }
    let mut text = String::new();
    let mut add = |event: &Event| {
        text.push_str(&serde_json::to_string(event).unwrap());
        text.push('\n');
        Ok(())
    };
    add(&Event::Start(Box::new(start))).unwrap();
    engine::run(&truth, number.into(), &mut add).unwrap();
    let mut record = store::parse(&text).unwrap();
    for it in &mut record.iterations {
        it.rows = tokens / 128;
        (it.real_tokens, it.padded_tokens) = (tokens, tokens);
    }
    if !point.axis.trains() {
        let per_position = if run.program == 0 { 1e3 } else { 3e3 };
        let scatter = 1.0 + 0.002 * f64::from(run.repeat);
        let token_ns = (1..=20).map(|after| {
            let context = value + f64::from(after);
            ((2e6 + per_position * context) * scatter) as u64
        });
        record.generations.push(Generation {
            start_ns: 0,
            prompt: "the model".to_owned(),
            prompt_tokens: point.value,
            first_token_ns: (4e6 + 8e3 * value) as u64,
            token_ns: token_ns.collect(),
            token_ids: (0..=20).collect(),
            text: String::new(),
            finish: Finish::Length,
            wall_ns: 1,
            active_bytes: 2_400_000_000,
            cache_bytes: 0,
            peak_bytes: 2_400_000_000 + 4096 * u64::from(point.value),
            footprint_bytes: None,
        });
    }
    record
}

fn sweep(plan: Plan) -> Sweep {
    let records: Vec<_> = (1..)
        .zip(plan.runs())
        .map(|(number, run)| {
            let folder = format!("{number:02}-{}", plan.arm(run));
            (folder, Ok(record(&plan, run, number)))
        })
        .collect();
    Sweep::new(plan, records)
}

fn typical() -> Sweep {
    let axes: [(Axis, &[u32]); 3] = [
        (Axis::BatchSize, &[1, 2, 4, 8, 16]),
        (Axis::Iterations, &[20, 40, 80]),
        (Axis::PromptLength, &[128, 512, 2048, 8192]),
    ];
    sweep(plan(&axes, &["lfmark", "peer"], 2))
}

fn text(rendered: &Rendered) -> &str {
    rendered.get(REPORT).unwrap()
}

fn check(sweep: &Sweep, needles: &[&str]) {
    let rendered = render_sweep(sweep).unwrap();
    let report = text(&rendered);
    for needle in needles {
        assert!(report.contains(needle), "no `{needle}` in:\n{report}");
    }
}

#[test]
fn the_report_of_a_sweep_is_as_it_was() {
    let rendered = render_sweep(&typical()).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/sweep");
    for file in &rendered.files {
        let path = folder.join(file.name);
        if std::env::var_os("LFMARK_BLESS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &file.text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        assert!(file.text == expected, "{} has changed", file.name);
    }
    assert_eq!(render_sweep(&typical()).unwrap(), rendered);
}

#[test]
fn the_cost_model_says_where_it_ends() {
    check(
        &typical(),
        &[
            "**48 of 48 planned runs are complete.**",
            "**departs from the line at 2,048 tokens**",
            "Roofline: the share of the specified arithmetic is highest at",
            "By the line, more tokens a step approach",
            "| time per token | lfmark | peer |",
            "| grows no faster |",
            "Peak memory",
            "[01-",
        ],
    );
}

#[test]
fn too_few_points_have_no_model_and_what_is_missing_is_said() {
    let mut short = sweep(plan(&[(Axis::BatchSize, &[1, 2, 4])], &["lfmark"], 1));
    short.runs.pop();
    check(
        &short,
        &[
            "**2 of 3 planned runs are complete.** The others are missing",
            "not fitted: a line needs 3 different amounts of work, and 2 were measured",
            "**0 of 1**",
            "Every point is one process, so that nothing here tells how far processes scatter",
        ],
    );
    let none = sweep(plan(&[(Axis::Threads, &[1, 2])], &["lfmark"], 1));
    check(&none, &["## Threads", "![Threads: "]);
    let empty = Sweep::new(plan(&[(Axis::Threads, &[1])], &["lfmark"], 1), []);
    check(&empty, &["**0 of 1 planned runs are complete.**"]);
}

#[test]
fn hostile_names_stay_text() {
    let mut sweep = sweep(plan(
        &[(Axis::PromptLength, &[8, 16, 32])],
        &["lfmark", "peer"],
        1,
    ));
    sweep.notices = vec![EVIL.to_owned()];
    sweep.plan.programs[1].name = EVIL.to_owned();
    for run in &mut sweep.runs {
        let start = Rc::make_mut(&mut run.process.run.start);
        start.model.name = EVIL.to_owned();
        start.mlx.version = EVIL.to_owned();
        run.process.run.name.push_str(EVIL);
        run.process.member.unread = vec![EVIL.to_owned()];
    }
    let work = Rc::make_mut(&mut sweep.runs[0].process.run.key.work);
    work.iter_mut().find(|it| it.0 == "dtype").unwrap().1 = EVIL.to_owned();
    let rendered = render_sweep(&sweep).unwrap();
    for markup in ["![x](y)", "**bold**"] {
        assert!(!text(&rendered).contains(markup), "{markup} is live");
    }
    for file in &rendered.files {
        for live in ["<script", "\u{202e}"] {
            assert!(!file.text.contains(live), "{live} in {}", file.name);
        }
    }
}
