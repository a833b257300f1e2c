use super::*;
use crate::engine::{self, Truth};
use crate::record::Event;
use crate::store::{self, Record};

fn record(seed: u64, level: f64, change: impl Fn(&mut Start)) -> Record {
    let mut truth = Truth::steady(12);
    truth.step.level *= level;
    truth.step.process_spread = 0.002;
    let mut start = engine::start(&seed.to_string(), truth.iterations);
    start.machine.chip = Some("Apple M4".to_owned());
    start.lfmark.dirty = Some(false);
    change(&mut start);
    let mut text = serde_json::to_string(&Event::Start(Box::new(start))).unwrap() + "\n";
    engine::run(&truth, seed, &mut |event| {
        text += &(serde_json::to_string(event).unwrap() + "\n");
        Ok(())
    })
    .unwrap();
    store::parse(&text).unwrap()
}

/// A run of a commit that began at this time.
fn of_commit(runs: &mut Runs, commit: &str, time: u64, level: f64, change: fn(&mut Start)) {
    let record = record(time, level, |start| {
        start.lfmark.commit = Some(commit.to_owned());
        start.started_unix_ms = time;
        change(start);
    });
    runs.add("", &format!("{commit}-{time}"), &record);
}

fn summary(runs: &Runs, allow: &[&str], commits: Option<&str>) -> Summary {
    let allow: Vec<String> = allow.iter().map(|&field| field.to_owned()).collect();
    let commits = commits.map(|text| Commits::parse(text).unwrap());
    summarize(runs, &allow, commits.as_ref(), &ComparisonRules::default()).unwrap()
}

fn ids(series: &Series) -> Vec<&str> {
    series.commits.iter().map(|it| it.id.as_str()).collect()
}

fn trend(series: &Series, metric: MetricKind) -> &Trend {
    let mut trends = series.trends.iter();
    trends.find(|trend| trend.metric == metric).unwrap()
}

#[test]
fn commits_are_in_the_order_of_the_repository_or_of_their_first_runs() {
    let mut runs = Runs::across_builds();
    for (commit, time) in [("c", 1), ("a", 2), ("b", 3), ("c", 4)] {
        of_commit(&mut runs, commit, time, 1.0, |_| {});
    }
    let by_time = summary(&runs, &[], None);
    assert_eq!(ids(&by_time.series[0]), ["c", "a", "b"]);
    let by_repository = summary(&runs, &[], Some("10 a\n20 x a\n30 b x\n40 c b"));
    let series = &by_repository.series[0];
    assert_eq!(ids(series), ["a", "b", "c"]);
    assert_eq!(series.commits[2].committed_unix_s, Some(40));
    assert_eq!(series.commits[2].runs, ["c-1", "c-4"]);
    let points = &trend(series, MetricKind::StepTime).points;
    let runs_of = |at: usize| points[at].map(|it| (it.runs, it.interval.is_some()));
    assert_eq!(
        [runs_of(0), runs_of(2)],
        [Some((1, false)), Some((2, true))]
    );
}

#[test]
fn what_is_no_measurement_of_a_commit_is_apart() {
    let mut runs = Runs::across_builds();
    of_commit(&mut runs, "a", 1, 1.0, |_| {});
    of_commit(&mut runs, "a", 2, 1.0, |start| {
        start.lfmark.dirty = Some(true)
    });
    of_commit(&mut runs, "a", 3, 1.0, |start| start.lfmark.commit = None);
    of_commit(&mut runs, "elsewhere", 5, 1.0, |_| {});
    of_commit(&mut runs, "a", 6, 1.0, |start| {
        start.engine = Some(crate::record::Engine {
            name: "mlx-lm".to_owned(),
            version: "1".to_owned(),
            memory_source: "none".to_owned(),
            batches_sha256: "none".to_owned(),
        });
    });
    let cut = Record {
        end: None,
        ..record(7, 1.0, |start| start.lfmark.commit = Some("a".to_owned()))
    };
    runs.add("", "cut", &cut);
    let found = summary(&runs, &[], Some("10 a"));
    assert_eq!(found.series.len(), 1);
    assert_eq!(found.series[0].commits[0].runs, ["a-1"]);
    let apart: Vec<_> = found.apart.values().flatten().collect();
    assert_eq!(apart.len(), 5, "{:?}", found.apart);
    assert_eq!(
        found.apart["its commit is not in the repository"],
        ["elsewhere-5"]
    );
}

#[test]
fn machines_and_work_are_series_of_their_own_until_a_field_is_allowed() {
    let mut runs = Runs::across_builds();
    of_commit(&mut runs, "a", 1, 1.0, |_| {});
    of_commit(&mut runs, "b", 2, 1.0, |start| {
        start.mlx.version = "0.33".to_owned()
    });
    of_commit(&mut runs, "b", 3, 1.0, |start| {
        start.machine.chip = Some("Apple M1".to_owned())
    });
    let apart = summary(&runs, &[], None);
    let names: Vec<_> = apart.series.iter().map(|it| it.name.as_str()).collect();
    let expected = [
        "Apple M4 mlx_version none",
        "Apple M4 mlx_version 0.33",
        "Apple M1 mlx_version none",
    ];
    assert_eq!(names, expected);
    let together = summary(&runs, &["mlx_version"], None);
    let names: Vec<_> = together.series.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["Apple M4", "Apple M1"]);
    assert_eq!(together.allowed[0].field, "mlx_version");
    let rules = ComparisonRules::default();
    let unknown = summarize(&runs, &["speed".to_owned()], None, &rules).unwrap_err();
    assert!(
        matches!(unknown, CompareError::UnknownField { .. }),
        "{unknown}"
    );
}

#[test]
fn a_slowdown_is_found_with_the_commits_that_can_have_it() {
    let mut runs = Runs::across_builds();
    let mut commits = String::new();
    // Every second commit was measured; 31 and all later ones are slower.
    for at in 0..60_u64 {
        let parent = at.checked_sub(1).map_or(String::new(), |p| format!(" {p}"));
        commits += &format!("{at} {at}{parent}\n");
        if at % 2 == 0 {
            let level = if at >= 31 { 1.1 } else { 1.0 };
            of_commit(&mut runs, &at.to_string(), 1000 - at, level, |_| {});
        }
    }
    let found = summary(&runs, &[], Some(&commits));
    let series = &found.series[0];
    let steps = trend(series, MetricKind::StepTime);
    let [change] = &steps.changes[..] else {
        panic!("{:?}", steps.changes);
    };
    assert_eq!((change.range.as_str(), change.commits), ("30..32", Some(2)));
    assert_eq!(change.verdict, Direction::Regressed);
    assert!((change.change - 0.1).abs() < 0.01, "{change:?}");
    let levels: Vec<_> = steps.levels.iter().map(|it| (it.first, it.last)).collect();
    assert_eq!(levels, [(0, 15), (16, 29)]);
    assert_eq!(trend(series, MetricKind::PeakMemory).changes, []);
    // In the order of time it becomes faster, and there is no repository to count commits in.
    let by_time = summary(&runs, &[], None);
    let change = &trend(&by_time.series[0], MetricKind::StepTime).changes[0];
    assert_eq!(
        (change.verdict, change.commits),
        (Direction::Improved, None)
    );
}

#[test]
fn a_range_counts_the_commits_that_git_counts() {
    // a - b - d - f, with c - e beside b and merged by f.
    let text = "1 a\n2 b a\n3 c a\n4 d b\n5 e c\n6 f d e\n";
    let commits = Commits::parse(text).unwrap();
    let check = |from: &str, to: &str, expected: Option<usize>| {
        assert_eq!(commits.between(from, to), expected, "{from}..{to}");
    };
    check("a", "b", Some(1));
    check("b", "f", Some(4));
    check("a", "f", Some(5));
    check("b", "c", None);
    check("f", "a", None);
    check("a", "nowhere", None);
    assert!(Commits::parse("no commit").is_err());
    assert_eq!(Commits::parse("").unwrap(), Commits::default());
}

fn estimates(values: impl IntoIterator<Item = f64>) -> Vec<Option<Estimate>> {
    let alone = |value: f64| Estimate {
        runs: 1,
        geometric_mean: value,
        interval: None,
    };
    values.into_iter().map(|value| Some(alone(value))).collect()
}

fn changes_of(points: &[Option<Estimate>], level: f64) -> Vec<Change> {
    let ids: Vec<String> = (0..points.len()).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    changes(points, &ids, None, level, &ComparisonRules::default()).1
}

#[test]
fn changes_either_way_are_found_and_one_bad_commit_is_none() {
    let mut random = Generator::new(4);
    let mut noisy = |level: f64| level * (0.01 * random.normal()).exp();
    let levels = [(20, 1.0), (15, 1.1), (12, 0.9), (12, 0.91)];
    let values = levels.iter().flat_map(|&(count, level)| vec![level; count]);
    let mut values: Vec<f64> = values.map(&mut noisy).collect();
    values[8] = 3.0;
    values[40] = 0.2;
    let mut points = estimates(values);
    // Not every commit has every value.
    points[3] = None;
    let found = changes_of(&points, 0.05 / 8.0);
    // Neither of the bad commits has a part in a level.
    for (it, ratio) in found.iter().zip([1.1_f64, 0.905 / 1.1]) {
        assert!((it.change + 1.0 - ratio).abs() < 0.015, "{it:?}");
    }
    let found: Vec<_> = found.iter().map(|it| (it.likeliest, it.verdict)).collect();
    let expected = [(20, Direction::Regressed), (35, Direction::Improved)];
    assert_eq!(found, expected);
    assert_eq!(changes_of(&[None, None], 0.05), []);
    assert_eq!(changes_of(&[], 0.05), []);
}

#[test]
fn a_value_without_noise_needs_three_commits_on_its_new_level() {
    let found = |after: usize| {
        let values = [vec![500.0; 25], vec![550.0; after]].concat();
        let found = changes_of(&estimates(values), 0.05 / 8.0);
        found.first().map(|it| (it.after, it.up_to))
    };
    assert_eq!([found(2), found(3)], [None, Some((24, 25))]);
}

#[test]
fn levels_that_are_far_apart_are_found_however_long_they_last() {
    for before in [3, 8, 14, 21] {
        let mut random = Generator::new(9);
        let level = |at: usize| if at < before { 1.0 } else { 1.2 };
        let values = (0..24).map(|at| level(at) * (1e-4 * random.normal()).exp());
        let found = changes_of(&estimates(values), 0.05 / 8.0);
        let found: Vec<_> = found.iter().map(|it| (it.after, it.up_to)).collect();
        assert_eq!(found, [(before - 1, before)]);
    }
}

/// Commits with noise of 1 %, a change by this ratio before one of them, and the correlation of
/// neighbours.
fn history(count: usize, change: Option<(usize, f64)>, rho: f64, seed: u64) -> Vec<f64> {
    let mut random = Generator::stream(seed, 7);
    let mut state = random.normal();
    let draw = |at: usize| {
        let level = change.map_or(1.0, |(from, ratio)| if at < from { 1.0 } else { ratio });
        let value = level * (0.01 * state).exp();
        state = rho * state + (1.0 - rho * rho).sqrt() * random.normal();
        value
    };
    (0..count).map(draw).collect()
}

/// Of this many histories, the share of which this is true.
fn share(count: u64, of: impl Fn(u64) -> bool) -> f64 {
    (0..count).filter(|seed| of(*seed)).count() as f64 / count as f64
}

#[test]
fn histories_without_a_change_have_few_found_and_hardly_one_that_matters() {
    for count in [12, 40] {
        // At a rate that can be told from none: four standard errors above 5 %.
        let any = share(250, |seed| {
            !splits(&history(count, None, 0.0, seed), 0.05).is_empty()
        });
        assert!(any <= 0.105, "{count}: {any}");
        let matters = share(100, |seed| {
            let points = estimates(history(count, None, 0.0, seed));
            let found = changes_of(&points, 0.05 / 8.0);
            let matters = |it: &Change| it.verdict != Direction::ChangedButSmall;
            found.iter().any(matters)
        });
        assert!(matters <= 0.02, "{count}: {matters}");
    }
}

#[test]
fn a_change_of_five_standard_deviations_is_found_three_commits_later() {
    let found = share(20, |seed| {
        let values = history(28, Some((25, 1.05)), 0.0, seed);
        !splits(&values, 0.05 / 8.0).is_empty()
    });
    assert!(found >= 0.9, "{found}");
}

#[test]
fn a_range_holds_the_change_and_is_short() {
    for (count, from) in [(12, 6), (30, 15), (30, 25), (60, 50)] {
        for (ratio, most) in [(1.03, 3.2), (1.05, 1.9), (1.5, 1.8)] {
            let range = |seed| {
                let logs: Vec<f64> = history(count, Some((from, ratio)), 0.0, seed)
                    .iter()
                    .map(|value| value.ln())
                    .collect();
                placed(&logs, level_shift(&logs, FEWEST_COMMITS).unwrap()).within
            };
            let held = share(400, |seed| {
                let (first, last) = range(seed);
                (first..=last).contains(&from)
            });
            // Four standard errors below 95 %.
            assert!(held >= 0.906, "{count} {from} {ratio}: held {held}");
            let lengths = (0..400).map(|seed| range(seed).1 - range(seed).0 + 1);
            let length = lengths.sum::<usize>() as f64 / 400.0;
            assert!(length <= most, "{count} {from} {ratio}: {length} commits");
        }
    }
}

#[test]
fn what_else_changed_where_a_level_did_is_named() {
    let mut runs = Runs::across_builds();
    for number in 0..20_u64 {
        let level = if number < 10 { 1.0 } else { 1.3 };
        // It changed at once with the level, and once before, where the level did not.
        let change: fn(&mut Start) = match number {
            ..3 => |start| start.machine.os_version = Some("26.0".to_owned()),
            3..10 => |start| start.machine.os_version = Some("26.1".to_owned()),
            _ => |start| {
                start.machine.os_version = Some("26.2".to_owned());
                start.config.fused_kernels = Some(true);
                start.mlx.variables = [("MLX_X".to_owned(), "1".to_owned())].into();
                start.mlx.version = "0.33".to_owned();
                start.mlx.metallib = Some(crate::record::Metallib {
                    bytes: 1,
                    built_for: None,
                    neural_accelerators: true,
                });
            },
        };
        of_commit(&mut runs, &format!("c{number:02}"), number, level, change);
    }
    let found = summary(&runs, &["mlx_version"], None);
    let changes = &trend(&found.series[0], MetricKind::StepTime).changes;
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0].range, "c09..c10");
    let texts: Vec<String> = changes[0].meanwhile.iter().map(Meanwhile::text).collect();
    // What the records of one side do not say is no change.
    let expected = [
        "mlx.variables.MLX_X (none, then 1)",
        "mlx_version (none, then 0.33)",
        "os_version (26.1, then 26.2)",
    ];
    let mut sorted = texts.clone();
    sorted.sort();
    assert_eq!(sorted, expected);
}
