use super::*;
use crate::comparison::Verdict;
use crate::engine::{self, Truth};
use crate::random::Generator;
use crate::record::{Event, Member, Metallib};
use crate::{store, testing};

/// Steps of the mean that differ between processes by 0.2 %.
fn truth(level: f64) -> Truth {
    let mut truth = Truth::steady(30);
    truth.step.level *= level;
    truth.step.process_spread = 0.002;
    truth
}

/// A run on a machine of this name.
fn record(machine: &str, truth: &Truth, seed: u64, change: impl Fn(&mut Start)) -> Record {
    let mut start = engine::start(&format!("{machine}-{seed}"), truth.iterations);
    start.machine.chip = Some(machine.to_owned());
    change(&mut start);
    let mut text = serde_json::to_string(&Event::Start(Box::new(start))).unwrap() + "\n";
    engine::run(truth, seed, &mut |event| {
        text += &(serde_json::to_string(event).unwrap() + "\n");
        Ok(())
    })
    .unwrap();
    store::parse(&text).unwrap()
}

/// Runs of machines that are slower by these factors.
fn runs(machines: &[(&str, f64)], count: u64) -> Runs {
    let mut runs = Runs::default();
    for (index, (machine, level)) in machines.iter().enumerate() {
        for repeat in 0..count {
            let seed = 100 * index as u64 + repeat;
            let record = record(machine, &truth(*level), seed, |_| {});
            runs.add(machine, &format!("{machine}/{repeat}"), &record);
        }
    }
    runs
}

fn compared(runs: &Runs, allow: &[&str]) -> Result<Summary, CompareError> {
    let allow: Vec<String> = allow.iter().map(|&field| field.to_owned()).collect();
    compare(runs, &allow, &Rules::default())
}

fn row(summary: &Summary, metric: MetricKind) -> &Row<MetricKind> {
    let mut rows = summary.metrics.iter();
    rows.find(|row| row.what == metric).unwrap()
}

#[test]
fn the_best_is_marked_only_where_it_is_decided() {
    let check = |machines: &[(&str, f64)], count, expected: Option<usize>| {
        let summary = compared(&runs(machines, count), &[]).unwrap();
        let times = row(&summary, MetricKind::StepTime);
        assert_eq!(times.best, expected, "{machines:?}");
        // They all need the same memory.
        assert_eq!(row(&summary, MetricKind::PeakMemory).best, None);
        let rates = summary
            .rates
            .iter()
            .find(|row| row.what == Rate::TrainedTokens);
        assert_eq!(rates.unwrap().best, expected, "{machines:?}");
    };
    check(&[("a", 1.3), ("b", 1.0), ("c", 1.2)], 5, Some(1));
    check(&[("a", 1.3), ("b", 1.0), ("c", 1.001)], 5, None);
    check(&[("a", 1.3), ("b", 1.0)], 1, None);
}

/// Values of a machine's runs in every row, around these levels; they spread by this share.
fn spread_rows(levels: &[f64], spread: f64) -> Values {
    let around = |level: &f64| {
        let run = |place: f64| level * (1.0 + spread * place);
        Some([-1.0, -0.5, 0.0, 0.5, 1.0].map(run).to_vec())
    };
    levels.iter().map(around).collect()
}

#[test]
fn the_best_of_many_rows_shares_one_error_rate() {
    let rules = ComparisonRules::default();
    let clear = spread_rows(&[1.0, 1.2], 0.02);
    let alike = spread_rows(&[1.0, 1.0001], 0.02);
    // By itself its p-value is between a seventh of the error rate and all of it.
    let near = spread_rows(&[1.0, 1.03], 0.02);
    let p = led(&near, Better::Lower, &rules).unwrap().p;
    assert!((0.05 / 7.0..0.05).contains(&p), "{p}");
    let best = |rows: &[&Values]| {
        let rows: Vec<Values> = rows.iter().map(|&row| row.clone()).collect();
        best(&rows, Better::Lower, &rules)
    };
    assert_eq!(best(&[&near]), [Some(0)]);
    let among = [&near, &alike, &alike, &alike, &alike, &alike, &alike];
    assert_eq!(best(&among), [None; 7]);
    // What is decided leaves the rest to the others, as Holm's procedure has it.
    assert_eq!(best(&[&near, &clear]), [Some(0), Some(0)]);
    // A row that one column alone has is no test, and one without a column undecided.
    let alone = vec![None, near[1].clone()];
    assert_eq!(best(&[&near, &alone, &alone]), [Some(0), None, None]);
    // Each further column is a further way to be wrong.
    let third = spread_rows(&[1.0, 1.03, 1.2], 0.02);
    let three = led(&third, Better::Lower, &rules).unwrap().p;
    assert!((three / p - 1.5).abs() < 1e-9, "{three} {p}");
}

#[test]
fn hardly_any_page_of_equal_columns_has_a_best() {
    let rules = ComparisonRules::default();
    let mut random = Generator::new(5);
    let mut run = || (0.05 * random.normal()).exp();
    for columns in [2, 4] {
        let mut column = || Some((0..6).map(|_| run()).collect());
        let mut row = || (0..columns).map(|_| column()).collect::<Values>();
        let mut wrong = 0;
        for _ in 0..300 {
            let rows: Vec<Values> = (0..7).map(|_| row()).collect();
            let best = best(&rows, Better::Lower, &rules);
            wrong += usize::from(best.iter().any(Option::is_some));
        }
        // 5 % are 15; that it were more than 25 by chance has a probability below 1 %.
        assert!(wrong <= 25, "{wrong} of 300 with {columns} columns");
    }
}

#[test]
fn of_two_columns_the_best_is_where_a_verdict_says_so() {
    let mut marked = 0;
    for seed in 0..12 {
        let mut runs = Runs::default();
        for (index, machine) in (0..).zip(["a", "b"]) {
            for repeat in 0..4 {
                let mut truth = truth(1.0 + 0.03 * index as f64);
                truth.step.process_spread = 0.012;
                let record = record(machine, &truth, 1000 * seed + 100 * index + repeat, |_| {});
                runs.add(machine, &format!("{machine}/{repeat}"), &record);
            }
        }
        let summary = compared(&runs, &[]).unwrap();
        let verdicts = &summary.columns[1].against_first.as_ref().unwrap().metrics;
        for row in &summary.metrics {
            let mut verdicts = verdicts.iter();
            let found = verdicts.find(|it| it.name == row.what.name()).unwrap();
            let expected = match found.verdict {
                Verdict::Regressed => Some(0),
                Verdict::Improved => Some(1),
                _ => None,
            };
            assert_eq!(row.best, expected, "{seed} {:?}", row.what);
            marked += usize::from(expected.is_some());
        }
        let mut rates = summary.rates.iter();
        let rate = rates.find(|it| it.what == Rate::TrainedTokens).unwrap();
        assert_eq!(rate.best, row(&summary, MetricKind::StepTime).best);
    }
    assert!(marked > 0);
}

#[test]
fn an_argument_has_a_column_for_every_machine_and_arm_in_it() {
    let mut runs = Runs::default();
    for (seed, (machine, arm)) in
        (0..).zip([("a", None), ("b", None), ("a", None), ("b", Some("x"))])
    {
        let record = record(machine, &truth(1.0), seed, |start| {
            start.member = arm.map(|arm: &str| Member {
                set: "set".to_owned(),
                arm: arm.to_owned(),
                number: 1,
                repeat: 1,
                waited_ns: 0,
                unmet: Vec::new(),
                unread: Vec::new(),
                empty_caches: None,
            });
        });
        runs.add("folder", &seed.to_string(), &record);
    }
    let summary = compared(&runs, &[]).unwrap();
    let columns: Vec<_> = summary
        .columns
        .iter()
        .map(|it| (it.name.as_str(), it.runs.join(" ")))
        .collect();
    let expected =
        [("a", "0 2"), ("b", "1"), ("b x", "3")].map(|(name, runs)| (name, runs.to_owned()));
    assert_eq!(columns, expected);
}

#[test]
fn runs_that_are_not_alike_are_refused_with_what_differs() {
    let mut runs = runs(&[("a", 1.0)], 2);
    let other = record("b", &truth(1.0), 7, |start| {
        start.config.dtype = "bf16".to_owned();
        start.mlx.version = "0.1".to_owned();
    });
    runs.add("b", "b", &other);
    let error = compared(&runs, &["dtype"]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("mlx_version (none in a/0, 0.1 in b)"),
        "{text}"
    );
    assert!(!text.contains("dtype ("), "{text}");
    let summary = compared(&runs, &["dtype", "mlx_version"]).unwrap();
    let allowed: Vec<_> = summary
        .allowed
        .iter()
        .map(|it| it.difference.field.as_str())
        .collect();
    assert_eq!(allowed, ["dtype", "mlx_version"]);
    let third = record("c", &truth(1.0), 8, |start| {
        start.config.dtype = "f16".to_owned()
    });
    runs.add("c", "c", &third);
    let same = record("d", &truth(1.0), 9, |_| {});
    runs.add("d", "d", &same);
    let summary = compared(&runs, &["dtype", "mlx_version"]).unwrap();
    let texts: Vec<String> = summary.allowed.iter().map(Allowed::text).collect();
    let expected = [
        "dtype (f32 in a and d, bf16 in b, f16 in c)",
        "mlx_version (none in a and c and d, 0.1 in b)",
    ];
    assert_eq!(texts, expected);
    let unknown = compared(&runs, &["d"]).unwrap_err();
    assert!(
        matches!(unknown, CompareError::UnknownField { .. }),
        "{unknown}"
    );
    // A name stands for all below it.
    assert!(
        stands_for("generation", "generation.max_tokens")
            && !stands_for("gen", "generation.max_tokens")
    );
}

#[test]
fn counts_have_a_row_and_no_best() {
    let counted = |name: &str, instructions: &[u64]| {
        let mut record = record(name, &truth(1.0), 7, |_| {});
        let done = record.iterations.len() as u32;
        let ends = [0, done].into_iter().zip(instructions);
        record.counters = ends
            .map(|(iterations, &count)| crate::record::Counters {
                at_ns: 0,
                iterations,
                instructions: Some(count),
                cycles: None,
                energy_nj: None,
            })
            .collect();
        (record, f64::from(done))
    };
    let mut runs = Runs::default();
    let (a, done) = counted("a", &[100, 6_100]);
    runs.add("a", "a", &a);
    runs.add("b", "b", &counted("b", &[]).0);
    let counts = compared(&runs, &[]).unwrap().counts;
    let [row] = &counts[..] else {
        panic!("{counts:?}");
    };
    assert_eq!((row.what, row.best), (Count::Instructions, None));
    let mean = row.cells[0].unwrap().geometric_mean;
    crate::testing::assert_near(mean, 6_000.0 / done, 1e-9, "instructions");
    assert_eq!(row.cells[1], None);
}

#[test]
fn runs_that_wire_otherwise_are_not_alike() {
    let of = |wired: Option<&str>| {
        record("a", &truth(1.0), 7, |start| {
            start.mlx.backend = "metal".to_owned();
            start.config.wired = wired.map(str::to_owned);
        })
    };
    let differs = |wired: Option<&str>| {
        let (off, other) = (Key::of(&of(Some("off"))), Key::of(&of(wired)));
        let found = fields::differing(&[("off", &off.how), ("other", &other.how)]);
        found.into_iter().map(|it| it.field).collect::<Vec<_>>()
    };
    assert_eq!(differs(Some("off")), [""; 0]);
    assert_eq!(differs(Some("4096")), ["wired"]);
    // What a build did that had no choice.
    assert_eq!(differs(None), ["wired"]);
}

#[test]
fn what_is_void_or_virtual_or_cut_off_is_shown_apart() {
    let mut runs = runs(&[("a", 1.0), ("b", 1.0)], 3);
    let mut hot = truth(0.5);
    hot.thermal_state = [0, 2];
    runs.add("b", "b/hot", &record("b", &hot, 50, |_| {}));
    let guest = record("c", &truth(0.5), 51, |start| {
        start.machine.virtual_machine = Some(true);
        // What is apart refuses nothing.
        start.mlx.version = "0.1".to_owned();
    });
    runs.add("c", "c", &guest);
    let cut = Record {
        end: None,
        ..record("b", &truth(0.5), 52, |_| {})
    };
    runs.add("b", "b/cut", &cut);
    let summary = compared(&runs, &[]).unwrap();
    assert_eq!(summary.columns.len(), 2);
    let apart: Vec<_> = summary
        .apart
        .iter()
        .map(|it| {
            (
                it.column.as_str(),
                it.runs.join(" "),
                it.why.split(' ').next().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("b", "b/hot", "void:"),
        ("c", "c", "it"),
        ("b", "b/cut", "it"),
    ];
    assert_eq!(apart, expected.map(|(a, b, c)| (a, b.to_owned(), c)));
    let differs = |at: usize| -> Vec<String> {
        let apart = &summary.apart[at];
        apart.differs.iter().map(Difference::text).collect()
    };
    assert_eq!(differs(1), ["mlx_version (none in a/0, 0.1 in c)"]);
    assert!(differs(0).is_empty() && differs(2).is_empty());
    assert!(summary.allowed.is_empty());
    assert_eq!(row(&summary, MetricKind::StepTime).best, None);
}

#[test]
fn a_copy_of_a_run_is_no_further_measurement() {
    let mut runs = Runs::default();
    let record = record("a", &truth(1.0), 1, |_| {});
    runs.add("x", "x", &record);
    runs.add("y", "y", &record);
    assert_eq!(runs.len(), 1);
    let error = compared(&runs, &[]).unwrap_err();
    assert!(matches!(error, CompareError::TooFew(_)), "{error}");
}

#[test]
fn rates_are_divided_by_what_is_known_of_the_machine() {
    let mut runs = Runs::default();
    for (seed, chip, cores) in [(1, "Apple M4", 10), (2, "Apple M2 Ultra", 60)] {
        let record = record(chip, &truth(1.0), seed, |start| {
            start.machine.gpu_cores = Some(cores);
            start.config.device = "gpu".to_owned();
        });
        runs.add(chip, chip, &record);
    }
    let summary = compared(&runs, &[]).unwrap();
    let rate = |column: usize| {
        let row = summary
            .rates
            .iter()
            .find(|row| row.what == Rate::TrainedTokens);
        row.unwrap().cells[column].unwrap().geometric_mean
    };
    let normalised = |per: Per, column: usize| {
        let mut rows = summary.normalised.iter();
        let row = rows.find(|row| row.what.rate == Rate::TrainedTokens && row.what.per == per);
        row.unwrap().cells[column].unwrap().geometric_mean
    };
    let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
    near(normalised(Per::Bandwidth, 0), rate(0) / 120.0);
    near(normalised(Per::Bandwidth, 1), rate(1) / 800.0);
    near(normalised(Per::GpuCore, 1), rate(1) / 60.0);
    // Nothing sampled a sensor.
    assert!(
        !summary
            .normalised
            .iter()
            .any(|row| matches!(row.what.per, Per::Watt { .. }))
    );
}

#[test]
fn power_that_was_sampled_divides_each_runs_own_rate() {
    let mut runs = Runs::default();
    for (name, seed) in [("a", 1), ("b", 2)] {
        let mut record = record(name, &truth(1.0), seed, |start| {
            start.sampling = Some(crate::record::Sampling {
                interval_ns: 50_000_000,
                reading_ns: Some(150_000),
                rails: [("gpu".to_owned(), "test".to_owned())].into(),
            });
        });
        record.sensors = (0..200u64)
            .map(|at| crate::record::Sensors {
                at_ns: at * 50_000_000,
                power_uw: Some([("gpu".to_owned(), 20_000_000)].into()),
                ..Default::default()
            })
            .collect();
        runs.add(name, name, &record);
    }
    let summary = compared(&runs, &[]).unwrap();
    let rail = Per::Watt {
        rail: "gpu".to_owned(),
    };
    let mut rows = summary.normalised.iter();
    let row = rows
        .find(|row| row.what.per == rail && row.what.rate == Rate::TrainedTokens)
        .unwrap();
    let rate = summary
        .rates
        .iter()
        .find(|row| row.what == Rate::TrainedTokens)
        .unwrap();
    for (per_watt, rate) in row.cells.iter().zip(&rate.cells) {
        let (per_watt, rate) = (per_watt.unwrap(), rate.unwrap());
        assert!((20.0 * per_watt.geometric_mean / rate.geometric_mean - 1.0).abs() < 1e-6);
    }
}

#[test]
fn other_metal_kernels_are_a_warning() {
    let mut runs = Runs::default();
    for (name, neural) in [("a", false), ("b", true)] {
        let record = record(name, &truth(1.0), u64::from(neural), |start| {
            start.mlx.metallib = Some(Metallib {
                bytes: 1,
                built_for: Some("26.2".to_owned()),
                neural_accelerators: neural,
            });
        });
        runs.add(name, name, &record);
    }
    let summary = compared(&runs, &[]).unwrap();
    let expected = "mlx.metallib.neural_accelerators differs: false in a, true in b";
    assert_eq!(summary.warnings, [expected]);
    // One run of a column is enough, and not the first one.
    let other = record("a", &truth(1.0), 3, |start| {
        start.mlx.metallib = Some(Metallib {
            bytes: 2,
            built_for: None,
            neural_accelerators: false,
        });
        start.config.fused_kernels = Some(true);
    });
    runs.add("a", "a/later", &other);
    let summary = compared(&runs, &[]).unwrap();
    let expected = ["mlx.metallib.bytes differs: 1 and 2 in a, 1 in b", expected];
    assert_eq!(summary.warnings, expected);
}

#[test]
fn settings_that_need_not_be_alike_are_a_warning() {
    let mut runs = Runs::default();
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        let record = record(name, &truth(1.0), seed, |start| {
            if name == "b" {
                start.config.optimizer.learning_rate = 0.5;
                start.config.lora.scale = 7.0;
                start.config.lora.layers = 3;
                start.config.seed = 11;
                start.config.batch_order = "length".to_owned();
                let variable = ("MLX_MAX_OPS".to_owned(), "9".to_owned());
                start.mlx.variables = [variable].into();
            }
        });
        runs.add(name, name, &record);
    }
    let summary = compared(&runs, &[]).unwrap();
    let fields = [
        "batch_order",
        "seed",
        "lora.scale",
        "lora.layers",
        "optimizer.learning_rate",
        "mlx.variables.MLX_MAX_OPS",
    ];
    assert_eq!(summary.warnings.len(), fields.len());
    for (warning, field) in summary.warnings.iter().zip(fields) {
        let begin = format!("{field} differs: ");
        assert!(warning.starts_with(&begin), "{warning}");
        assert!(warning.contains(" in a and c, "), "{warning}");
    }
    assert!(summary.warnings[5].ends_with("none in a and c, 9 in b"));
}

#[test]
fn a_run_without_any_sample_is_no_fault() {
    let mut runs = Runs::default();
    let empty = || {
        let text = serde_json::to_string(&Event::Start(Box::new(testing::start()))).unwrap();
        store::parse(&text).unwrap()
    };
    runs.add("a", "a", &empty());
    assert!(matches!(compared(&runs, &[]), Err(CompareError::TooFew(_))));
}

#[test]
fn times_per_token_are_compared_of_texts_of_one_length() {
    let check = |lengths: [usize; 2], expected: bool| {
        let mut runs = Runs::default();
        for (name, length) in ["a", "b"].into_iter().zip(lengths) {
            let mut record = record(name, &truth(1.0), length as u64, |_| {});
            let times = vec![1_000_000; length];
            record.generations = vec![testing::generation(2_000_000, &times)];
            runs.add(name, name, &record);
        }
        let summary = compared(&runs, &[]).unwrap();
        let mut metrics = summary.metrics.iter();
        assert_eq!(
            metrics.any(|row| row.what == MetricKind::TokenTime),
            expected
        );
        let mut rates = summary.rates.iter();
        assert_eq!(rates.any(|row| row.what == Rate::GeneratedTokens), expected);
        let said = summary.warnings.iter().any(|it| it == TEXTS_DIFFER);
        assert_eq!(said, !expected);
    };
    check([8, 8], true);
    check([8, 9], false);
}
