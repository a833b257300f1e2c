//! Sweeps of records that are made up.

use std::rc::Rc;

use super::*;
use crate::record::{End, Event, Generation, Member, Status};
use crate::scaling::{ConstancyVerdict, GrowthVerdict, Linearity};
use crate::testing::{self, assert_near};

fn plan(axis: Axis, values: &[u32], programs: &[&str], repeats: u32) -> Plan {
    let program = |name: &&str| Program {
        name: (*name).to_owned(),
        file: None,
        environment: Default::default(),
    };
    Plan {
        version: VERSION,
        seed: 7,
        repeats,
        cool_down_limit_s: 0,
        generated_data: true,
        context_rounds: CONTEXT_ROUNDS,
        programs: programs.iter().map(program).collect(),
        points: values.iter().map(|&value| Point { axis, value }).collect(),
    }
}

/// What a made-up run does at a point, by program.
type Truth = fn(program: usize, value: f64) -> f64;

/// The record of a run: iterations of `truth` nanoseconds, or tokens of as many.
fn record(plan: &Plan, run: PlannedRun, number: u32, truth: Truth) -> Record {
    let point = plan.points[run.point];
    // The repeats lie 1 % apart.
    let scatter = 1.0 + 0.01 * f64::from(run.repeat);
    let ns = |value: f64| (truth(run.program, value) * scatter) as u64;
    let mut start = testing::start();
    start.member = Some(Member {
        set: "sweep".to_owned(),
        arm: plan.arm(run),
        number,
        repeat: run.repeat,
        waited_ns: 1,
        unmet: Vec::new(),
        unread: vec!["temperature".to_owned()],
        empty_caches: None,
    });
    start.config.iterations = 6;
    let mut events = Vec::new();
    if point.axis == Axis::BatchSize {
        start.config.batch_size = point.value;
        for number in 1..=30 {
            let mut iteration = testing::iteration(number);
            iteration.start_ns = u64::from(number) * 1_000_000_000;
            iteration.rows = point.value;
            iteration.real_tokens = 128 * point.value;
            iteration.padded_tokens = 128 * point.value;
            iteration.step_ns = ns(128.0 * f64::from(point.value));
            iteration.peak_bytes = 1_000_000 + 1000 * u64::from(point.value);
            events.push(Event::Iteration(iteration));
        }
    }
    if point.axis == Axis::Iterations {
        for number in 1..=point.value {
            let mut iteration = testing::iteration(number);
            iteration.peak_bytes = truth(run.program, f64::from(point.value)) as u64;
            events.push(Event::Iteration(iteration));
        }
    }
    if point.axis == Axis::PromptLength {
        let times: Vec<u64> = (1..=20)
            .map(|after| ns(f64::from(point.value + after)))
            .collect();
        events.push(Event::Generation(Generation {
            prompt_tokens: point.value,
            peak_bytes: 1_000_000,
            ..testing::generation(50_000, &times)
        }));
    }
    if point.axis == Axis::Context {
        // The first round is slow, and left out.
        for round in 1..=3 {
            for value in plan.values(Axis::Context) {
                let slow = if round == 1 { 1_000_000 } else { 0 };
                let times: Vec<u64> = (1..=20)
                    .map(|after| slow + ns(f64::from(value + after)))
                    .collect();
                events.push(Event::Generation(Generation {
                    prompt_tokens: value,
                    peak_bytes: 1_000_000 + u64::from(value),
                    ..testing::generation(50_000 + slow, &times)
                }));
            }
        }
    }
    events.insert(0, Event::Start(Box::new(start)));
    events.push(Event::End(End {
        status: Status::Complete,
        reason: None,
        wall_ns: 1_000_000_000_000,
    }));
    store::parse(&testing::text(&events)).unwrap()
}

fn sweep(plan: Plan, truth: Truth) -> Sweep {
    let runs = plan.runs();
    let records: Vec<_> = (1..)
        .zip(runs)
        .map(|(number, run)| {
            let folder = format!("{number:02}-{}", plan.arm(run));
            (folder, Ok(record(&plan, run, number, truth)))
        })
        .collect();
    Sweep::new(plan, records)
}

fn only_axis(sweep: &Sweep) -> AxisSummary {
    let mut summary = summarize(sweep);
    assert_eq!(summary.notices, [] as [String; 0]);
    assert_eq!(summary.axes.len(), 1);
    summary.axes.remove(0)
}

#[test]
fn every_point_is_measured_as_often_as_planned_in_shuffled_order() {
    let plan = plan(Axis::BatchSize, &[1, 2, 4, 8, 16], &["a", "b"], 3);
    let runs = plan.runs();
    assert_eq!(runs.len(), 30);
    assert_eq!(plan.runs(), runs);
    for program in 0..2 {
        for point in 0..5 {
            for repeat in 1..=3 {
                let run = PlannedRun {
                    program,
                    point,
                    repeat,
                };
                assert_eq!(runs.iter().filter(|it| **it == run).count(), 1, "{run:?}");
            }
        }
    }
    let points = |repeat: usize| -> Vec<usize> {
        let of = runs[10 * (repeat - 1)..].iter().step_by(2).take(5);
        of.map(|run| run.point).collect()
    };
    assert!(!points(1).is_sorted() && points(1) != points(2), "{runs:?}");
    // The programs are neighbours, and each goes first as often as it can.
    let firsts = runs.chunks(2).filter(|pair| pair[0].program == 0).count();
    assert!((7..=8).contains(&firsts), "{firsts}");
    for pair in runs.chunks(2) {
        assert_eq!(pair[0].point, pair[1].point);
    }
    assert_eq!(
        plan.arm(runs[0]),
        format!(
            "{}-{}",
            plan.points[runs[0].point].name(),
            plan.programs[runs[0].program].name
        )
    );
}

#[test]
fn the_cost_of_a_step_is_split_into_what_is_fixed_and_what_a_token_costs() {
    let plan = plan(Axis::BatchSize, &[1, 2, 4, 8], &["lfmark"], 2);
    let axis = only_axis(&sweep(plan, |_, tokens| 5e6 + 1000.0 * tokens));
    let [step, memory] = &axis.programs[0].fits[..] else {
        panic!("{axis:?}");
    };
    assert_eq!(
        (step.measure, memory.measure),
        (Measure::Step, Measure::Memory)
    );
    // The repeats are 1 % and 2 % above.
    let line = step.scaling.model().unwrap();
    assert_near(line.fixed.value, 1.015 * 5e6, 1e-6, "fixed");
    assert_near(line.slope.value, 1015.0, 1e-5, "a token");
    assert!(line.slope.interval.0 < 1000.0 * 1.015 && line.slope.interval.1 > 1015.0);
    let line = memory.scaling.model().unwrap();
    assert_near(line.slope.value, 1000.0 / 128.0, 1e-9, "memory of a token");
    let point = &axis.programs[0].points[3];
    assert_eq!((point.value, point.complete, point.planned), (8, 2, 2));
    assert_eq!(point.work, Some(1024.0));
    let time = point.time.unwrap().geometric_mean;
    assert_near(
        point.tokens_per_second.unwrap(),
        1024.0 * 1e9 / time,
        1e-12,
        "rate",
    );
    assert_eq!(point.peak_bytes, Some(1_008_000.0));
    assert_eq!(point.specified_share, None);
}

#[test]
fn time_of_a_token_is_held_against_the_positions_it_attends_to() {
    let plan = plan(
        Axis::PromptLength,
        &[128, 512, 1024, 2048],
        &["lfmark", "peer"],
        2,
    );
    let sweep = sweep(plan, |program, context| match program {
        0 => 100_000.0 + 10.0 * context,
        _ => 400_000.0 + 40.0 * context,
    });
    let axis = only_axis(&sweep);
    let token = &axis.programs[0].fits[0];
    assert_eq!(token.measure, Measure::Token);
    // The 20 times follow 1 to 20 tokens after the prompt.
    assert_eq!(axis.programs[0].points[0].work, Some(138.5));
    let Scaling::Fitted { all, linearity, .. } = &token.scaling else {
        panic!("{token:?}");
    };
    assert_eq!(*linearity, Linearity::Line);
    assert_near(all.slope.value, 10.15, 1e-4, "a position");
    let compared = &axis.comparisons[0];
    assert_eq!(
        (compared.candidate.as_str(), compared.reference.as_str()),
        ("lfmark", "peer")
    );
    assert_eq!(compared.compared.unwrap().verdict, GrowthVerdict::NoFaster);
}

#[test]
fn programs_that_did_different_work_are_not_compared() {
    let plan = plan(
        Axis::PromptLength,
        &[128, 512, 1024],
        &["lfmark", "peer"],
        1,
    );
    let mut sweep = sweep(plan, |_, context| 1e5 + context);
    let other = sweep.runs.iter_mut().find(|run| run.planned.program == 1);
    let work = Rc::make_mut(&mut other.unwrap().process.run.key.work);
    let dtype = work.iter_mut().find(|(field, _)| field == "dtype").unwrap();
    dtype.1 = "bf16".to_owned();
    let axis = only_axis(&sweep);
    for compared in &axis.comparisons {
        assert_eq!(compared.compared, None);
        let why = compared.different_work.as_deref().unwrap();
        assert!(why.starts_with("dtype (f32 in "), "{why}");
    }
}

#[test]
fn memory_that_grows_with_the_iterations_is_found() {
    let check = |truth: Truth, expected: ConstancyVerdict| {
        let plan = plan(Axis::Iterations, &[20, 40, 80], &["lfmark"], 2);
        let axis = only_axis(&sweep(plan, truth));
        let judged = axis.programs[0].constancy.unwrap();
        assert_eq!(judged.verdict, expected, "{judged:?}");
    };
    check(|_, _| 1e9, ConstancyVerdict::Constant);
    check(
        |_, iterations| 1e9 + 1e5 * iterations,
        ConstancyVerdict::Grows,
    );
}

#[test]
fn an_interrupted_sweep_knows_what_is_missing() {
    let plan = plan(Axis::BatchSize, &[1, 2, 4], &["lfmark"], 1);
    let truth: Truth = |_, tokens| 5e6 + tokens;
    let runs = plan.runs();
    let mut cut_off = record(&plan, runs[1], 2, truth);
    cut_off.end = None;
    let records = [
        ("01".to_owned(), Ok(record(&plan, runs[0], 1, truth))),
        ("02".to_owned(), Ok(cut_off)),
    ];
    let sweep = Sweep::new(plan, records);
    assert_eq!(sweep.missing(), runs[1..]);
    let summary = summarize(&sweep);
    assert_eq!((summary.planned, summary.complete), (3, 1));
    assert_eq!(summary.processes.len(), 2);
    assert_eq!(summary.unread, ["temperature"]);
    let fits = &summary.axes[0].programs[0].fits;
    assert_eq!(fits[0].scaling, Scaling::TooFew { points: 1 });
}

#[test]
fn a_run_that_is_not_what_was_planned_is_left_out() {
    let plan = plan(Axis::BatchSize, &[1, 2, 4], &["lfmark"], 1);
    let truth: Truth = |_, tokens| 5e6 + tokens;
    let run = plan.runs()[0];
    let mut other = record(&plan, run, 1, truth);
    other.start.config.batch_size = 64;
    let mut foreign = record(&plan, run, 2, truth);
    foreign.start.member.as_mut().unwrap().arm = "batch-size-3".to_owned();
    let mut alone = record(&plan, run, 3, truth);
    alone.start.member = None;
    let records = [("a", other), ("b", foreign), ("c", alone)];
    let records = records.map(|(name, record)| (name.to_owned(), Ok(record)));
    let sweep = Sweep::new(plan, records);
    assert!(sweep.runs.is_empty());
    let notices = sweep.notices.join("\n");
    for part in [
        "a is left out: it was planned with batch-size",
        "and recorded with 64",
        "b is left out: the plan has no such run",
        "c is left out: it is no run of a sweep",
    ] {
        assert!(notices.contains(part), "no `{part}` in {notices}");
    }
}

#[test]
fn a_plan_survives_its_file_and_another_version_is_refused() {
    let plan = plan(Axis::Threads, &[1, 2], &["lfmark"], 2);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    assert!(!is_sweep(dir.path()));
    fs::write(&path, serde_json::to_string(&plan).unwrap()).unwrap();
    assert!(is_sweep(dir.path()));
    assert_eq!(read_plan(dir.path()).unwrap(), plan);
    fs::write(&path, "{\"version\": 2, \"new\": 1}").unwrap();
    let error = read_plan(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("has version 2, and this lfmark reads 1"),
        "{error}"
    );
}

#[test]
fn every_axis_has_its_name() {
    for axis in Axis::ALL {
        assert_eq!(Axis::named(axis.name()), Some(axis));
        let json = serde_json::to_value(axis).unwrap();
        assert_eq!(json, axis.name());
    }
}

#[test]
fn points_of_one_process_are_started_once() {
    let mut plan = plan(Axis::Context, &[128, 512, 2048], &["a", "b"], 2);
    plan.points.push(Point {
        axis: Axis::PromptLength,
        value: 64,
    });
    assert_eq!(plan.started(), [0, 3]);
    assert_eq!(plan.runs().len(), 8);
    let mut arms: Vec<String> = plan.runs().iter().map(|run| plan.arm(*run)).collect();
    arms.sort();
    arms.dedup();
    assert_eq!(
        arms,
        [
            "context-a",
            "context-b",
            "prompt-length-64-a",
            "prompt-length-64-b"
        ]
    );
}

#[test]
fn what_differs_between_processes_does_not_hide_how_the_time_grows_within_them() {
    // The repeats lie 1 % apart, which would be 30 us; the growth over the range is 80 us.
    let plan = plan(Axis::Context, &[128, 2048, 8192], &["a", "b"], 6);
    let axis = only_axis(&sweep(plan, |program, context| match program {
        0 => 2e6 + 10.0 * context,
        _ => 3e6 + 10.0 * context,
    }));
    let program = &axis.programs[0];
    assert_eq!(program.points.len(), 3);
    for (point, value) in program.points.iter().zip([128.0, 2048.0, 8192.0]) {
        assert_eq!((point.planned, point.complete), (6, 6));
        assert_near(point.work.unwrap(), value + 10.5, 1e-9, "work");
        // Of the rounds that count, on average over the repeats.
        let expected = (2e6 + 10.0 * (value + 10.5)) * 1.035;
        let time = point.time.unwrap().geometric_mean;
        assert!((time / expected - 1.0).abs() < 1e-3, "{time} {expected}");
        assert_eq!(point.first_token.unwrap().geometric_mean.round(), 50_000.0);
        assert_eq!(point.peak_bytes, Some(1_000_000.0 + value));
    }
    let line = program.fits[0].scaling.line().unwrap();
    assert!((line.slope.value - 10.35).abs() < 0.01, "{line:?}");
    assert!(line.slope.error < 0.2, "{line:?}");
    let compared = axis.comparisons[0].compared.unwrap();
    assert_eq!(compared.verdict, GrowthVerdict::NoFaster);
}

#[test]
fn a_program_that_grows_faster_within_its_processes_does() {
    for lengths in [[128, 2048, 8192], [8192, 128, 2048]] {
        let plan = plan(Axis::Context, &lengths, &["a", "b"], 6);
        let axis = only_axis(&sweep(plan, |program, context| match program {
            0 => 2e6 + 40.0 * context,
            _ => 3e6 + 10.0 * context,
        }));
        let compared = axis.comparisons[0].compared.unwrap();
        assert_eq!(compared.verdict, GrowthVerdict::Faster, "{lengths:?}");
        let line = axis.programs[0].fits[0].scaling.line().unwrap();
        assert!(line.range.0 < line.range.1, "{line:?}");
    }
}

#[test]
fn a_run_with_another_context_than_planned_is_left_out() {
    let planned = plan(Axis::Context, &[128, 512, 2048], &["a"], 2);
    let other = plan(Axis::Context, &[128, 512, 4096], &["a"], 2);
    let truth: Truth = |_, context| 1e6 + context;
    let run = other.runs()[0];
    let record = record(&other, run, 1, truth);
    let sweep = Sweep::new(planned, [("01-context".to_owned(), Ok(record))]);
    assert!(
        sweep.notices[0].contains("planned with context 128, 512, 2048 and recorded with 4096"),
        "{:?}",
        sweep.notices
    );
}
