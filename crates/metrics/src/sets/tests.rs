use super::*;
use crate::comparison::Method;
use crate::noise::NoiseError;
use crate::record::{Copies, End, Engine, Iteration, MachineState, Status, Weights};
use crate::testing::{assert_near, generation, iteration, start};

/// A complete run of 40 steps of `step` ns each, give or take, 50 ns apart.
pub(crate) fn record(arm: &str, number: u32, repeat: u32, step: u64) -> Record {
    let mut start = start();
    start.member = Some(Member {
        set: "set".to_owned(),
        arm: arm.to_owned(),
        number,
        repeat,
        waited_ns: 0,
        unmet: Vec::new(),
        unread: vec!["temperature".to_owned()],
        empty_caches: None,
    });
    start.config.iterations = 40;
    start.launch_ns = Some(500);
    let iterations = (1..=40_u32).map(|n| Iteration {
        start_ns: u64::from(n) * (step + 200),
        data_ns: 100,
        step_ns: step + u64::from(n % 3),
        footprint_bytes: Some(10_000 + u64::from(number)),
        ..iteration(n)
    });
    let state = |at_ns: u64| MachineState {
        at_ns,
        swap_used_bytes: Some(0),
        ..MachineState::default()
    };
    Record {
        start,
        phases: Vec::new(),
        iterations: iterations.collect(),
        generations: vec![generation(2_000, &[100, 300]), generation(4_000, &[200])],
        effect: None,
        states: vec![state(1), state(2)],
        sensors: Vec::new(),
        counters: Vec::new(),
        end: Some(End {
            status: Status::Complete,
            reason: None,
            wall_ns: 1_000_000,
        }),
        notices: Vec::new(),
    }
}

/// A set of the arms `a` and `b` in the order A B B A, `b` with steps longer by this factor,
/// after `alter` had its way with every record.
fn two_arms(repeats: u32, factor: f64, alter: impl Fn(u32, &mut Record)) -> Set {
    let mut processes = Vec::new();
    for repeat in 1..=repeats {
        let order = if repeat % 2 == 1 {
            ["a", "b"]
        } else {
            ["b", "a"]
        };
        for arm in order {
            let number = processes.len() as u32 + 1;
            let base = 1_000_000.0 + 1_000.0 * f64::from(number * 7 % 5);
            let step = base * if arm == "b" { factor } else { 1.0 };
            let mut record = record(arm, number, repeat, step as u64);
            alter(number, &mut record);
            processes.push(Process::of(&format!("{number:02}-{arm}"), &record).unwrap());
        }
    }
    Set::new(processes, Vec::new()).unwrap()
}

fn as_is(_: u32, _: &mut Record) {}

#[test]
fn what_an_earlier_build_did_not_read_is_no_other_machine() {
    let set = two_arms(3, 1.0, |number, record| {
        record.start.machine.gpu_power_limit_uw = (number % 2 == 0).then_some(7);
    });
    let verdict = compared(&set, None).comparison.verdict;
    assert!(!matches!(verdict, Verdict::Void { .. }), "{verdict:?}");
    let set = two_arms(3, 1.0, |number, record| {
        record.start.machine.gpu_power_limit_uw = Some(u64::from(number % 2));
    });
    let verdict = compared(&set, None).comparison.verdict;
    assert!(
        matches!(verdict, Verdict::NotComparable { .. }),
        "{verdict:?}"
    );
}

/// The only comparison of a set.
fn compared(set: &Set, noise: Option<&Noise>) -> ArmComparison {
    let mut summary = summarize(set, noise);
    assert_eq!(summary.comparisons.len(), 1);
    summary.comparisons.remove(0)
}

#[test]
fn a_process_gives_one_value_of_each_metric() {
    let record = record("a", 1, 1, 1_000);
    let measured = Process::of("01-a", &record).unwrap().run.metrics;
    let check = |metric: MetricKind, expected: f64, windows: usize| {
        let run = &measured[&metric];
        assert_near(run.value, expected, 1e-12, metric.name());
        assert_eq!(run.windows.len(), windows, "{metric:?}");
    };
    // 13 steps of 1,000, 14 of 1,001 and 13 of 1,002 ns.
    check(MetricKind::StepTime, 1_001.0, 20);
    check(MetricKind::StepP95, 1_002.0, 0);
    // 39 starts 1,200 ns apart, and the last data part and step.
    check(
        MetricKind::IterationWall,
        (39.0 * 1_200.0 + 1_101.0) / 40.0,
        20,
    );
    check(MetricKind::FirstToken, 3_000.0, 0);
    check(MetricKind::TokenTime, 200.0, 0);
    check(MetricKind::PeakMemory, 40_000.0, 0);
    check(MetricKind::Footprint, 10_001.0, 0);
    // 500 ns before the times count, and the tenth start with its data part and step.
    check(MetricKind::TimeToStep10, 500.0 + 12_000.0 + 1_101.0, 0);
    for metric in MetricKind::ALL {
        assert_eq!(MetricKind::named(metric.name()), Some(metric));
        let json = serde_json::to_value(metric).unwrap();
        assert_eq!(json, metric.name());
    }
}

#[test]
fn a_process_gives_one_value_of_each_figure() {
    let mut record = record("a", 1, 1, 1_000);
    let check = |record: &Record, figure: Figure, expected: Option<f64>| {
        let figures = Process::of("01-a", record).unwrap().run.figures;
        match (figures.get(&figure), expected) {
            (Some(&value), Some(expected)) => assert_near(value, expected, 1e-12, "figure"),
            (found, expected) => assert_eq!(found.copied(), expected, "{figure:?}"),
        }
    };
    let decode = |prompt: u32, generated_tokens: u32| Figure::DecodeRate {
        prompt,
        prompt_tokens: 5,
        generated_tokens,
    };
    check(&record, Figure::IterationRate, Some(1e9 / 1_001.0));
    check(&record, Figure::TokenRate, Some(70e9 / 1_001.0));
    check(&record, decode(1, 3), Some(2e9 / 400.0));
    check(&record, decode(2, 2), Some(1e9 / 200.0));
    check(&record, Figure::TimeToStep10, Some(13_601.0));
    check(&record, Figure::PeakMemory, Some(40_000.0));
    record.start.launch_ns = None;
    check(&record, Figure::TimeToStep10, None);
    record.start.launch_ns = Some(500);
    record.iterations.truncate(9);
    check(&record, Figure::TimeToStep10, None);
}

/// A program in the place of lfmark, in the arm `b`.
fn other_program(_: u32, record: &mut Record) {
    if record.start.member.as_ref().unwrap().arm == "b" {
        record.start.engine = Some(Engine {
            name: "other".to_owned(),
            version: "2.0".to_owned(),
            memory_source: "mlx".to_owned(),
            batches_sha256: "00".to_owned(),
        });
    }
}

#[test]
fn ratios_of_rates_and_times_are_above_1_where_the_baseline_is_faster() {
    let compared = compared(&two_arms(4, 1.25, other_program), None);
    let ratio = |figure: Figure| {
        let mut ratios = compared.ratios.iter();
        *ratios.find(|ratio| ratio.figure == figure).unwrap()
    };
    for figure in [
        Figure::IterationRate,
        Figure::TokenRate,
        Figure::TimeToStep10,
    ] {
        let ratio = ratio(figure);
        assert!((ratio.ratio - 1.25).abs() < 0.01, "{ratio:?}");
        assert!((ratio.of_medians - 1.25).abs() < 0.01, "{ratio:?}");
        let (low, high) = ratio.interval.unwrap();
        assert!(
            1.0 < low && low < ratio.ratio && ratio.ratio < high,
            "{ratio:?}"
        );
        assert_eq!(ratio.excludes_one, Some(true));
        assert_eq!((ratio.baseline_runs, ratio.other_runs), (4, 4));
    }
    let memory = ratio(Figure::PeakMemory);
    assert_eq!((memory.ratio, memory.excludes_one), (1.0, Some(false)));
}

#[test]
fn texts_of_different_lengths_have_no_ratio_and_void_runs_no_answer() {
    let longer = two_arms(3, 1.0, |number, record| {
        other_program(number, record);
        if record.start.engine.is_some() {
            record.generations[1] = generation(4_000, &[200, 200]);
        }
        record.states[1].thermal_state = Some(0);
        if number == 4 {
            record.states[1].thermal_state = Some(2);
        }
    });
    let ratios = compared(&longer, None).ratios;
    let prompts: Vec<u32> = ratios
        .iter()
        .filter_map(|ratio| match ratio.figure {
            Figure::DecodeRate { prompt, .. } => Some(prompt),
            _ => None,
        })
        .collect();
    assert_eq!(prompts, [1]);
    assert!(ratios.iter().all(|ratio| ratio.excludes_one.is_none()));
    assert_eq!(
        compared(&two_arms(1, 2.0, as_is), None).ratios[0].interval,
        None
    );
    let other = two_arms(2, 1.0, |number, record| {
        record.start.config.batch_size = number
    });
    assert_eq!(compared(&other, None).ratios, []);
}

#[test]
fn between_different_programs_nothing_is_for_the_worse_or_the_better() {
    let words = |alter: fn(u32, &mut Record), factor: f64| -> Vec<&str> {
        let compared = compared(&two_arms(4, factor, alter), None);
        let metrics = compared.comparison.metrics.iter();
        metrics.map(|metric| compared.word(metric)).collect()
    };
    assert_eq!(words(as_is, 1.2)[0], "regressed");
    assert_eq!(words(other_program, 1.2)[0], "slower");
    assert_eq!(words(other_program, 0.8)[0], "faster");
    let memory = |factor: u64| {
        let set = two_arms(4, 1.0, |number, record| {
            other_program(number, record);
            if record.start.engine.is_some() {
                for it in &mut record.iterations {
                    it.peak_bytes = it.peak_bytes * factor / 10;
                }
            }
        });
        let compared = compared(&set, None);
        let mut metrics = compared.comparison.metrics.iter();
        let peak = metrics.find(|metric| metric.name == "peak_memory");
        compared.word(peak.unwrap())
    };
    assert_eq!((memory(15), memory(5)), ("more", "less"));
}

#[test]
fn what_was_found_before_a_set_survives_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(VERSUS);
    assert_eq!(Versus::read(dir.path()), (Versus::default(), None));
    let versus = Versus {
        unmeasured: vec![Unmeasured {
            arm: "absent".to_owned(),
            why: "there is none".to_owned(),
        }],
        same_work: Some(SameWork {
            iterations: 20,
            tolerance: 1e-3,
            baseline: "a".to_owned(),
            arms: vec![Agreement {
                arm: "b".to_owned(),
                loss_difference: 2e-7,
            }],
        }),
    };
    let text = versus.text();
    fs::write(&path, &text).unwrap();
    assert_eq!(Versus::read(dir.path()), (versus, None));
    for (text, problem) in [
        (text.replace("\"minor\": 0", "\"minor\": 9"), "schema 1.9"),
        ("{}".to_owned(), "missing field"),
    ] {
        fs::write(&path, text).unwrap();
        let (versus, notice) = Versus::read(dir.path());
        assert_eq!(versus, Versus::default());
        assert!(notice.unwrap().contains(problem), "{problem}");
    }
}

#[test]
fn warm_up_is_in_no_metric_of_steps() {
    let mut slow = record("a", 1, 1, 1_000);
    for it in &mut slow.iterations[..6] {
        it.step_ns *= 10;
    }
    let measured = Process::of("01-a", &slow).unwrap().run.metrics;
    assert!(measured[&MetricKind::StepTime].value < 1_003.0);
    assert!(measured[&MetricKind::StepP95].value < 1_003.0);
}

#[test]
fn memory_of_the_bandwidth_probe_is_not_the_runs() {
    let mut record = record("a", 7, 1, 1_000);
    record.states[0].footprint_bytes = Some(20_000);
    record.states[1].footprint_bytes = Some(300_000_000);
    assert_eq!(
        Run::of("a", &record).values()[&MetricKind::Footprint],
        300_000_000.0
    );
    record.states[1].copies = Some(Copies {
        threads: 1,
        pass_bytes: 2,
        pass_ns: vec![1],
    });
    assert_eq!(
        Run::of("a", &record).values()[&MetricKind::Footprint],
        20_000.0
    );
}

#[test]
fn what_was_not_measured_is_missing_and_never_zero() {
    let mut bare = record("a", 1, 1, 0);
    bare.generations.clear();
    bare.iterations.clear();
    bare.states.clear();
    assert_eq!(
        Process::of("01-a", &bare).unwrap().run.metrics,
        BTreeMap::new()
    );
    bare.start.member = None;
    assert_eq!(Process::of("01-a", &bare), None);
}

#[test]
fn a_slower_arm_is_found_and_an_equal_one_is_equivalent() {
    let slower = compared(&two_arms(4, 1.05, as_is), None);
    assert_eq!(slower.comparison.verdict, Verdict::Regressed);
    assert_eq!(slower.design, Design::Interleaved);
    let step = &slower.comparison.metrics[0];
    assert_eq!((step.name.as_str(), step.baseline_runs), ("step_time", 4));
    assert_eq!(step.decided_by, Method::Welch);
    assert!((step.change - 0.05).abs() < 0.005, "{step:?}");
    assert!(step.bootstrap.is_some() && step.paired.is_some());
    assert_eq!(slower.left_out, []);

    let equal = compared(&two_arms(4, 1.0, as_is), None);
    assert_eq!(equal.comparison.verdict, Verdict::Equivalent, "{equal:?}");
}

#[test]
fn pairs_are_runs_of_one_repeat() {
    let set = two_arms(3, 1.0, as_is);
    let order = |arm: &str| -> Vec<&str> {
        let processes = set.of_arm(arm).into_iter();
        processes.map(|process| process.name.as_str()).collect()
    };
    assert_eq!(order("a"), ["01-a", "04-a", "05-a"]);
    assert_eq!(order("b"), ["02-b", "03-b", "06-b"]);
}

#[test]
fn incomplete_runs_count_nowhere_and_break_their_pair() {
    let set = two_arms(3, 1.0, |number, record| {
        if number == 3 {
            record.end = None;
        }
    });
    let compared = compared(&set, None);
    assert_eq!(compared.design, Design::Independent);
    let step = &compared.comparison.metrics[0];
    assert_eq!((step.baseline_runs, step.candidate_runs), (3, 2));
    let summary = summarize(&set, None);
    assert_eq!(summary.arms[1].runs, 2);
    assert_eq!(summary.processes[2].status, RunStatus::CutOff);
}

/// Of the CPU time from the first state to the last, other guests had so much.
fn steal(record: &mut Record, share: f64) {
    let [first, last] = &mut record.states[..] else {
        panic!("two states");
    };
    (first.cpu_total_ms, first.cpu_steal_ms) = (Some(5_000), Some(100));
    last.cpu_total_ms = Some(6_000);
    last.cpu_steal_ms = Some(100 + (1_000.0 * share) as u64);
}

#[test]
fn pairs_that_lost_time_to_other_guests_are_left_out_where_enough_are_left() {
    // Process 3 is the second one of b, in repeat 2, and 8 the fourth of a.
    let with = |repeats: u32, share: f64| {
        two_arms(repeats, 1.0, |number, record| {
            let stolen = [3, 8].contains(&number);
            steal(record, if stolen { share } else { 0.02 });
            if stolen {
                for iteration in &mut record.iterations {
                    iteration.step_ns *= 3;
                }
            }
        })
    };
    let check = |set: &Set, stolen: &[u32], left_out: bool, runs: usize| {
        let compared = compared(set, None);
        assert_eq!(compared.stolen, stolen);
        assert_eq!(compared.stolen_left_out, left_out);
        let step = &compared.comparison.metrics[0];
        assert_eq!((step.baseline_runs, step.candidate_runs), (runs, runs));
        assert_eq!(compared.design, Design::Interleaved);
        step.change
    };
    let change = check(&with(12, 0.06), &[2, 4], true, 10);
    assert!(change.abs() < 0.01, "{change}");
    check(&with(11, 0.06), &[2, 4], false, 11);
    check(&with(12, 0.05), &[], false, 12);
    // One that does not say.
    let mut silent = with(12, 0.06);
    silent.processes[5].run.conditions.stolen = None;
    check(&silent, &[], false, 12);
}

#[test]
fn one_run_an_arm_and_none_at_all_are_inconclusive() {
    let one = compared(&two_arms(1, 2.0, as_is), None);
    assert_eq!(
        one.comparison.verdict,
        Verdict::Inconclusive { more_runs: Some(4) }
    );
    let none = compared(&two_arms(1, 2.0, |_, record| record.end = None), None);
    assert_eq!(
        none.comparison.verdict,
        Verdict::Inconclusive { more_runs: None }
    );
    assert_eq!(none.left_out.len(), MetricKind::ALL.len());
    let half = two_arms(1, 2.0, |number, record| {
        if number == 2 {
            record.end = None;
        }
    });
    let half = super::tests::compared(&half, None);
    assert_eq!(half.left_out.len(), MetricKind::ALL.len());
    assert!(
        half.left_out[0].why.contains("no run in the candidate"),
        "{half:?}"
    );
}

#[test]
fn different_work_is_not_compared_and_is_named() {
    let check = |alter: fn(&mut Record), expected: &str| {
        let set = two_arms(2, 1.0, |number, record| {
            if [2, 3].contains(&number) {
                alter(record);
            }
        });
        match compared(&set, None).comparison.verdict {
            Verdict::NotComparable { why } => assert!(why.starts_with(expected), "{why}"),
            other => panic!("{other:?} instead of {expected}"),
        }
    };
    check(
        |record| record.start.config.batch_size = 2,
        "batch_size (1 in 01-a, 2 in 02-b)",
    );
    check(
        |record| record.start.model.weights = Weights::Random { seed: 8 },
        "weights.seed (7 in 01-a, 8 in 02-b)",
    );
    check(
        |record| record.start.config.generation.max_tokens = 5,
        "generation.max_tokens (4 in 01-a, 5 in 02-b)",
    );
    check(
        |record| record.iterations[3].real_tokens += 1,
        "real_tokens (2800 in 01-a, 2801 in 02-b); iteration_tokens (",
    );
    check(
        |record| {
            record.iterations[3].real_tokens += 1;
            record.iterations[4].real_tokens -= 1;
        },
        "iteration_tokens (",
    );
}

#[test]
fn how_the_work_is_done_may_differ_between_arms_and_is_listed() {
    let set = two_arms(3, 1.0, |number, record| {
        if [2, 3, 6].contains(&number) {
            record.start.config.compile = false;
            record.start.lfmark.commit = Some("abc".to_owned());
        }
    });
    let summary = summarize(&set, None);
    let values = |first: &str, second: &str| vec![Some(first.to_owned()), Some(second.to_owned())];
    let expected = [
        Setting {
            name: "compile".to_owned(),
            values: values("true", "false"),
        },
        Setting {
            name: "lfmark.commit".to_owned(),
            values: values("null", "abc"),
        },
    ];
    assert_eq!(summary.settings, expected);
    let verdict = &summary.comparisons[0].comparison.verdict;
    assert_eq!(*verdict, Verdict::Equivalent);
    assert_eq!(summary.unread, ["temperature"]);
}

#[test]
fn runs_of_one_arm_have_to_be_alike() {
    let set = two_arms(2, 1.0, |number, record| {
        if number == 3 {
            record.start.lfmark.commit = Some("abc".to_owned());
        }
    });
    let why = "lfmark.commit (null in 02-b, abc in 03-b)".to_owned();
    assert_eq!(
        compared(&set, None).comparison.verdict,
        Verdict::NotComparable { why: why.clone() }
    );
    assert_eq!(summarize(&set, None).warnings, [why]);
}

#[test]
fn an_empty_folder_of_ones_own_is_no_other_setting() {
    let check = |empty_caches: Option<Vec<String>>, comparable: bool| {
        let set = two_arms(2, 1.5, |number, record| {
            let folder = format!("/tmp/{number}/MLX_PTX_CACHE_DIR");
            let variables = &mut record.start.mlx.variables;
            variables.insert("MLX_PTX_CACHE_DIR".to_owned(), folder);
            let member = record.start.member.as_mut().unwrap();
            member.empty_caches = empty_caches.clone();
        });
        let verdict = compared(&set, None).comparison.verdict;
        let refused = matches!(verdict, Verdict::NotComparable { .. });
        assert_eq!(refused, !comparable, "{verdict:?}");
    };
    check(Some(vec!["MLX_PTX_CACHE_DIR".to_owned()]), true);
    check(None, false);
}

#[test]
fn a_changed_machine_makes_the_numbers_void() {
    let check = |alter: fn(&mut Record), expected: &str| {
        let set = two_arms(2, 1.5, |number, record| {
            record.states[0].thermal_state = Some(0);
            record.states[0].power_source = Some("ac".to_owned());
            record.states[0].power_mode = Some(0);
            if number == 4 {
                alter(record);
            }
        });
        let compared = compared(&set, None).comparison;
        match compared.verdict {
            Verdict::Void { why } => assert_eq!(why, expected),
            other => panic!("{other:?} instead of {expected}"),
        }
        assert!(!compared.metrics.is_empty(), "void runs still have numbers");
    };
    check(
        |record| record.states[1].thermal_state = Some(2),
        "the thermal state rose from 0 to 2 in 04-a",
    );
    check(
        |record| record.states[1].power_source = Some("battery".to_owned()),
        "the power source changed from ac to battery in 04-a",
    );
    check(
        |record| record.states[0].power_mode = Some(1),
        "the energy mode was 0 in 01-a and 1 in 04-a",
    );
    check(
        |record| record.iterations[7].swap_bytes = Some(100_000_000),
        "swap in use grew by 100 MB in 04-a",
    );
    check(
        |record| record.states[1].gpu_throttle_reasons = Some(vec!["hw_slowdown".to_owned()]),
        "the GPU lowered its clock (hw_slowdown) in 04-a",
    );
}

#[test]
fn metrics_that_a_run_lacks_are_left_out_and_named() {
    let set = two_arms(2, 1.0, |number, record| {
        if number == 2 {
            for it in &mut record.iterations {
                it.footprint_bytes = None;
            }
            record.generations[1] = generation(4_000, &[]);
            record.generations[0].footprint_bytes = None;
            record.generations[1].footprint_bytes = None;
        }
    });
    let left_out = compared(&set, None).left_out;
    let why = |metric: MetricKind| {
        let left = left_out.iter().find(|left| left.metric == metric);
        left.map(|left| left.why.as_str())
    };
    assert_eq!(left_out.len(), 2);
    assert_eq!(why(MetricKind::Footprint), Some("02-b has no value of it"));
    assert_eq!(
        why(MetricKind::TokenTime),
        Some("the runs generated different numbers of tokens")
    );
}

#[test]
fn runs_of_two_sets_and_copies_are_refused() {
    let process = |set: &str, number: u32| {
        let mut process =
            Process::of(&format!("{number}-{set}"), &record("a", number, 1, 9)).unwrap();
        process.member.set = set.to_owned();
        process
    };
    let error = |processes: Vec<Process>| Set::new(processes, Vec::new()).unwrap_err().to_string();
    let mixed = error(vec![process("x", 1), process("y", 2)]);
    assert!(
        mixed.contains("1-x and 2-y are of different sets (x and y)"),
        "{mixed}"
    );
    let twice = error(vec![process("x", 1), process("x", 1)]);
    assert!(twice.contains("both run 1"), "{twice}");
}

/// Runs of one arm, from which a floor can be made.
fn one_arm(runs: u32) -> Set {
    let processes = (1..=runs).map(|number| {
        let record = record(
            "run",
            number,
            number,
            1_000_000 + 10_000 * u64::from(number % 3),
        );
        Process::of(&format!("{number:02}-run"), &record).unwrap()
    });
    Set::new(processes.collect(), Vec::new()).unwrap()
}

#[test]
fn a_noise_floor_survives_its_file_and_widens_the_threshold() {
    let set = one_arm(5);
    let noise = Noise::of(&set).unwrap();
    assert_eq!(noise.runs.len(), 5);
    let stored = &noise.metrics["step_time"];
    let values = &summarize(&set, None).arms[0].metrics[0].values;
    assert_eq!(stored.noise, MetricNoise::of(values).unwrap());
    assert_eq!(stored.difference_99[&8], stored.noise.difference_99(8, 8));

    let text = noise.text();
    let read = Noise::parse(&text).unwrap();
    assert_eq!((&read.key, read.floor()), (&noise.key, noise.floor()));

    let arms = two_arms(3, 1.0, as_is);
    let with = compared(&arms, Some(&read)).comparison;
    let without = compared(&arms, None).comparison;
    assert_eq!(without.metrics[0].threshold, 0.02_f64.ln_1p().exp_m1());
    assert_near(
        with.metrics[0].threshold,
        stored.noise.difference_99(3, 3),
        1e-12,
        "threshold",
    );
    assert!(summarize(&arms, Some(&read)).has_floor);
}

#[test]
fn a_floor_of_another_machine_or_other_work_is_refused() {
    let noise = Noise::of(&one_arm(3)).unwrap();
    let check = |alter: fn(&mut Record), expected: &str| {
        let mut other = record("run", 1, 1, 1_000_000);
        alter(&mut other);
        let error = noise.check(&Run::of("01-run", &other).key).unwrap_err();
        let NoiseError::Mismatch { differences } = error else {
            panic!("{error:?}");
        };
        assert_eq!(differences, expected);
    };
    check(
        |record| record.start.machine.cpu = Some("another".to_owned()),
        "machine.cpu",
    );
    check(
        |record| record.start.mlx.version = "0.1".to_owned(),
        "how.mlx_version",
    );
    check(|record| record.start.config.compile = false, "how.compile");
    check(
        |record| record.start.config.wired = Some("recommended".to_owned()),
        "how.wired",
    );
    check(
        |record| record.start.config.iterations = 7,
        "work.iterations",
    );
    let same = record("b", 9, 4, 2_000_000);
    assert_eq!(noise.check(&Run::of("09-b", &same).key), Ok(()));

    let set = two_arms(2, 1.0, |_, record| record.start.config.seed = 1);
    assert!(summarize(&set, Some(&noise)).has_floor, "a seed is no work");
    let set = two_arms(2, 1.0, |_, record| {
        record.start.config.dtype = "f16".to_owned()
    });
    let summary = summarize(&set, Some(&noise));
    assert!(!summary.has_floor);
    assert!(summary.notices[0].contains("work.dtype"), "{summary:?}");
}

#[test]
fn a_floor_from_before_wiring_was_a_choice_is_one_of_what_was_wired_then() {
    let mut noise = Noise::of(&one_arm(3)).unwrap();
    assert_eq!(noise.key.how["wired"], "off");
    for (backend, wired) in [("metal", "recommended"), ("cpu", "off"), ("cuda", "off")] {
        let machine = &mut noise.key.machine;
        machine.insert("backend".to_owned(), backend.to_owned());
        noise.key.how.remove("wired");
        let read = Noise::parse(&noise.text()).unwrap();
        assert_eq!(read.key.how["wired"], wired, "{backend}");
    }
}

#[test]
fn a_floor_of_the_first_schema_is_read_and_belongs_to_the_same_runs() {
    let noise = Noise::of(&one_arm(3)).unwrap();
    let mut old = serde_json::to_value(&noise).unwrap();
    let key = old["key"].take();
    let mut flat = serde_json::Map::new();
    for (name, value) in key["how"].as_object().unwrap() {
        flat.insert(name.clone(), value.clone());
    }
    let mut machine = key["machine"].as_object().unwrap().clone();
    for name in ["device", "backend"] {
        flat.insert(name.to_owned(), machine.remove(name).unwrap());
    }
    machine.insert("os_version".to_owned(), serde_json::Value::Null);
    flat.insert("machine".to_owned(), machine.into());
    flat.insert("work".to_owned(), key["work"].clone());
    old["key"] = flat.into();
    old["schema"] = serde_json::json!({ "major": 1, "minor": 0 });
    let read = Noise::parse(&old.to_string()).unwrap();
    let same = Run::of("run", &record("run", 1, 1, 1_000_000)).key;
    assert_eq!(read.check(&same), Ok(()));
}

#[test]
fn arms_that_wire_otherwise_differ_in_that_setting_also_where_it_is_not_recorded() {
    let wiring = |of_b: Option<&'static str>| {
        let set = two_arms(2, 1.0, move |_, record| {
            let b = record.start.member.as_ref().unwrap().arm == "b";
            record.start.mlx.backend = "metal".to_owned();
            record.start.config.wired = match b {
                true => of_b.map(str::to_owned),
                false => Some("off".to_owned()),
            };
        });
        let settings = summarize(&set, None).settings;
        let wired = settings.into_iter().find(|it| it.name == "wired");
        wired.map(|it| it.values[1].clone().unwrap())
    };
    assert_eq!(wiring(Some("off")), None);
    assert_eq!(wiring(None).as_deref(), Some("recommended"));
}

#[test]
fn runs_that_are_no_repeats_give_no_floor() {
    let error = |set: &Set| Noise::of(set).unwrap_err();
    assert_eq!(error(&one_arm(1)), NoiseError::TooFew { complete: 1 });
    let mut cut = one_arm(3);
    cut.processes[0].run.status = RunStatus::Interrupted;
    cut.processes[1].run.status = RunStatus::Failed;
    assert_eq!(error(&cut), NoiseError::TooFew { complete: 1 });
    let mut hot = one_arm(3);
    hot.processes[0].run.conditions.thermal = Some((0, 0));
    hot.processes[2].run.conditions.thermal = Some((1, 1));
    assert!(matches!(error(&hot), NoiseError::Unfit { why } if why.contains("thermal")));
}

#[test]
fn a_hostile_floor_is_refused_with_a_reason() {
    let text = Noise::of(&one_arm(3)).unwrap().text();
    let check = |from: &str, to: &str, expected: &str| {
        assert!(text.contains(from), "{from}");
        let error = Noise::parse(&text.replacen(from, to, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("\"minor\": 0", "\"minor\": 9", "schema 2.9");
    check("\"major\": 2", "\"major\": 3", "schema 3.0");
    check("\"schema\"", "\"scheme\"", "not a noise floor");
    check("\"runs\": 3", "\"runs\": 1", "1 runs, fewer than two");
    check("\"runs\": 3", "\"runs\": -3", "not a noise floor");
    let sd = "\"sd\": 0.00990";
    check(sd, "\"sd\": -0.00990", "a standard deviation of -0.0099");
    check(sd, "\"sd\": 90.0990", "a standard deviation of 90.0");
    check("\"sd\": 0", "\"sd\": 1e999, \"x\": 0", "not a noise floor");
    for text in ["", "[]", "null", "{\"schema\":{\"major\":1,\"minor\":0}}"] {
        assert!(Noise::parse(text).is_err(), "{text}");
    }
}
