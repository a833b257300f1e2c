//! What other programs printed, imported: figures by quantity, and what is said to be missing.

use exchange::import::{ImportError, Source, import};
use metrics::audit::{self, Outcome};
use metrics::claims::{self, Claims, Figure, Quantity as Q, Scope};
use proptest::prelude::*;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../fixtures/exchange/", $name))
    };
}

const FIXTURES: [&str; 14] = [
    fixture!("mlx-lm-0.32-lora.txt"),
    fixture!("mlx-lm-0.26-lora-a100.txt"),
    fixture!("mlx-examples-lora-slow.txt"),
    fixture!("lora-shorter-last-window-constructed.txt"),
    fixture!("callback-constructed.jsonl"),
    fixture!("mlx-lm-0.32-benchmark.txt"),
    fixture!("mlx-lm-0.32-generate.txt"),
    fixture!("llama-bench.json"),
    fixture!("llama-bench.md"),
    fixture!("llama-bench-constructed.sql"),
    fixture!("llama-bench.csv"),
    fixture!("llama-bench-constructed.csv"),
    fixture!("criterion-estimates.json"),
    fixture!("criterion-constructed.txt"),
];

/// Imports a fixture, checks that it is a document of claims that the audit finds no fault in, and
/// compares the figures of a quantity as they were printed.
fn check(text: &str, source: Source, expected: &[(Q, &[&str])], notes: &[&str]) -> Claims {
    let imported = import("a file.txt", text).unwrap();
    assert_eq!(imported.source, source);
    let claims = claims::parse(&imported.text()).unwrap();
    assert_eq!(claims, imported.claims);
    for (quantity, printed) in expected {
        let found: Vec<&str> = claims
            .figures()
            .filter(|it| it.quantity == *quantity)
            .map(|it| it.printed.as_str())
            .collect();
        assert_eq!(found, *printed, "{quantity:?}");
    }
    for note in notes {
        let known = imported.notes.iter().any(|it| it.contains(note));
        assert!(known, "{note}: {:?}", imported.notes);
    }
    let audit = audit::claims(&claims);
    let failed = audit.checks.iter().filter(|it| it.outcome == Outcome::Fail);
    assert_eq!(failed.collect::<Vec<_>>(), Vec::<&audit::Check>::new());
    claims
}

fn figure(claims: &Claims, quantity: Q, of: &str) -> Figure {
    let scoped = |it: &&Figure| match &it.of {
        Some(Scope::Window(name) | Scope::Other(name)) => name == of,
        _ => false,
    };
    let mut found = claims.figures().filter(|it| it.quantity == quantity);
    found.find(scoped).unwrap().clone()
}

#[test]
fn a_log_of_an_earlier_mlx_lm_keeps_every_figure() {
    let claims = check(
        fixture!("mlx-lm-0.26-lora-a100.txt"),
        Source::MlxLmTraining,
        &[
            (Q::Iterations, &["100"]),
            (Q::TrainableParameters, &["1.311M"]),
            (Q::TrainableShare, &["0.041"]),
            (
                Q::IterationRange,
                &["1-10", "11-20", "21-30", "31-40", "41-50"],
            ),
            (
                Q::IterationRate,
                &["0.490", "13.913", "24.234", "25.674", "23.600"],
            ),
            (
                Q::TrainedTokens,
                &["3290", "6568", "9669", "12807", "16150"],
            ),
            (
                Q::PeakMemory,
                &["9.707", "10.588", "10.588", "10.588", "10.588"],
            ),
            (Q::LearningRate, &["1.000e-05"; 5]),
            (Q::WallTime, &["5.265"]),
        ],
        &[
            "cannot show that memory did not grow",
            "leaves out building",
        ],
    );
    assert!(claims.figures().all(|it| !it.derived));
    let rate = figure(&claims, Q::TokenRate, "11-20");
    assert_eq!(rate.printed, "4560.749");
}

#[test]
fn a_line_that_cannot_be_read_is_told_and_stretches_no_window() {
    const UNREAD: &str = "A line of an iteration could not be read";
    let log = fixture!("mlx-lm-0.26-lora-a100.txt");
    let whole = import("a", &format!("{log}Iter 50: Saved adapter weights to a.")).unwrap();
    assert!(whole.notes.iter().all(|it| !it.contains(UNREAD)));
    let ranges = |text: &str, expected: &[&str]| {
        let expected = [(Q::IterationRange, expected)];
        check(text, Source::MlxLmTraining, &expected, &[UNREAD]);
    };
    // What follows the line has no window whose beginning is known.
    let long = log.replace("Iter 20:", "Iter 12345678901234567890123:");
    ranges(&long, &["1-10", "31-40", "41-50"]);
    ranges(
        &log.replace("Iter 10: Train", "Iter 10 Train"),
        &["21-30", "31-40", "41-50"],
    );
    // Cut off, in the words and within a figure.
    let (before, _) = log.split_once("r 30: Train").unwrap();
    ranges(before, &["1-10", "11-20"]);
    let (before, _) = log.split_once(": Train loss 1.781").unwrap();
    ranges(before, &["1-10", "11-20"]);
    let (before, _) = log.split_once("234, Tokens/sec 7514").unwrap();
    ranges(before, &["1-10", "11-20"]);
    let table = fixture!("mlx-lm-0.32-lora.txt");
    let long = table.replace(
        "244m  20\u{1b}[0m    \u{1b}[1;32m",
        "244m 12345678901234567890123 ",
    );
    ranges(&long, &["1-10", "31-40", "41-45"]);
    let (before, _) = table.split_once("\u{1b}[1m  362").unwrap();
    ranges(before, &["1-10", "11-20"]);
    let objects = fixture!("callback-constructed.jsonl");
    let long = objects.replace(": 10, \"train", ": 12345678901234567890123, \"train");
    ranges(&long, &[]);
    let (before, _) = objects.trim_end().rsplit_once(',').unwrap();
    check(before, Source::MlxLmTraining, &[], &["A line is no JSON"]);
}

#[test]
fn a_log_of_mlx_lm_0_32_lacks_what_it_no_longer_prints() {
    check(
        fixture!("mlx-lm-0.32-lora.txt"),
        Source::MlxLmTraining,
        &[
            (Q::Rank, &["8"]),
            (Q::AdaptedLayers, &["2"]),
            (Q::BatchSize, &["2"]),
            (Q::Iterations, &["45"]),
            (Q::LearningRate, &["3.0e-03"]),
            (
                Q::IterationRange,
                &["1-10", "11-20", "21-30", "31-40", "41-45"],
            ),
            (Q::TokenRate, &["186", "150", "362", "451", "166"]),
            (Q::TrainedTokens, &["0.7K", "1.5K", "2.2K", "3.0K", "3.3K"]),
            (Q::WallTime, &["0.26", "0.15", "0.12", "0.30"]),
            (Q::IterationRate, &[]),
            (Q::PeakMemory, &[]),
        ],
        &[
            "The iteration rate is not in the source",
            "The peak of the memory is not in the source",
        ],
    );
}

#[test]
fn the_first_script_printed_neither_learning_rate_nor_peak() {
    check(
        fixture!("mlx-examples-lora-slow.txt"),
        Source::MlxLmTraining,
        &[
            (Q::IterationRate, &["0.015", "0.013", "0.014", "0.014"]),
            (Q::LearningRate, &[]),
            (Q::TrainedTokens, &[]),
        ],
        &["The number of trained tokens is not in the source"],
    );
}

#[test]
fn the_rate_of_a_shorter_last_window_is_computed_again_and_says_so() {
    let claims = check(
        fixture!("lora-shorter-last-window-constructed.txt"),
        Source::MlxLmTraining,
        &[
            (Q::IterationRate, &["2.000", "2.000", "2.000"]),
            // What is no number above 0 is a word.
            (Q::Loss, &["3.000"]),
        ],
        &["prints too high an iteration rate"],
    );
    let derived = |of| figure(&claims, Q::IterationRate, of).derived;
    assert_eq!(
        [derived("1-10"), derived("11-20"), derived("21-25")],
        [false, false, true]
    );
}

#[test]
fn the_callback_is_given_all_that_the_log_lacks() {
    check(
        fixture!("callback-constructed.jsonl"),
        Source::MlxLmTraining,
        &[
            (Q::IterationRate, &["4.5", "4.25"]),
            (Q::Loss, &["3.8075", "3.7025", "4.125"]),
            (Q::PeakMemory, &["0.0125", "0.0125"]),
        ],
        &[],
    );
}

#[test]
fn trials_of_mlx_lm_benchmark_are_trials_and_not_runs() {
    let claims = check(
        fixture!("mlx-lm-0.32-benchmark.txt"),
        Source::MlxLmBenchmark,
        &[
            (Q::PromptTokens, &["64"]),
            (Q::GeneratedTokens, &["16"]),
            (Q::PromptRate, &["909.812", "419.750", "472.262", "600.608"]),
            (Q::WallTime, &["0.197", "0.280", "0.250"]),
        ],
        &["in one process"],
    );
    let average = figure(&claims, Q::GenerationRate, "average");
    assert_eq!(
        (average.printed.as_str(), average.spread),
        ("130.922", None)
    );
}

#[test]
fn a_generation_of_mlx_lm_is_a_prompt_without_its_text() {
    let claims = check(
        fixture!("mlx-lm-0.32-generate.txt"),
        Source::MlxLmGenerate,
        &[
            (Q::PromptTokens, &["14"]),
            (Q::GeneratedTokens, &["20"]),
            (Q::GenerationRate, &["196.814"]),
            (Q::PeakMemory, &["0.006"]),
        ],
        &["Prompts and generated texts were left out"],
    );
    assert!(claims.texts().all(|text| !text.text.contains("learning")));
}

#[test]
fn repetitions_of_llama_bench_are_reckoned_from_their_times() {
    let claims = check(
        fixture!("llama-bench.json"),
        Source::LlamaBench,
        // NumPy: (512e9 / samples).mean() and .std(ddof=1).
        &[
            (Q::PromptRate, &["7100.002"]),
            (Q::GenerationRate, &["118.882"]),
        ],
        &["in one process"],
    );
    let spreads: Vec<_> = claims.figures().map(|it| it.spread.as_deref()).collect();
    assert_eq!(spreads, [Some("140.342"), Some("1.042")]);
    assert!(claims.figures().all(|it| it.derived));
}

#[test]
fn a_spread_that_is_no_number_does_not_hide_the_times() {
    let claims = check(
        fixture!("llama-bench-nan-constructed.jsonl"),
        Source::LlamaBench,
        &[(Q::TokenRate, &["1000.000", "1000.000"])],
        &["one rate for both together"],
    );
    let first = claims.texts().next().unwrap();
    assert_eq!(first.text, "pp64+tg16 @ d128");
}

#[test]
fn a_table_of_llama_bench_is_read_by_the_names_of_its_columns() {
    let claims = check(
        fixture!("llama-bench.md"),
        Source::LlamaBench,
        &[
            (Q::PromptRate, &["7340.20", "6425.91"]),
            (Q::GenerationRate, &["120.60", "116.71"]),
        ],
        &["times of the repetitions are not in the source"],
    );
    assert_eq!(
        claims.figures().next().unwrap().spread.as_deref(),
        Some("23.45")
    );
}

#[test]
fn sql_of_llama_bench_is_read_through_its_quotes() {
    let claims = check(
        fixture!("llama-bench-constructed.sql"),
        Source::LlamaBench,
        &[
            (Q::PromptRate, &["7100.002165"]),
            (Q::GenerationRate, &["118.881588"]),
        ],
        &["left out, since its formula"],
    );
    assert!(claims.figures().all(|it| it.spread.is_none()));
    let quoted = |it: &&claims::Text| it.text == "it's a (model), quoted";
    assert!(claims.texts().find(quoted).is_some());
}

#[test]
fn csv_of_llama_bench_is_read_by_the_names_of_its_columns() {
    let claims = check(
        fixture!("llama-bench.csv"),
        Source::LlamaBench,
        &[
            (Q::PromptRate, &["7285.676949"]),
            (Q::GenerationRate, &["119.915244"]),
        ],
        &[
            "times of the repetitions are not in the source",
            "left out, since its formula",
        ],
    );
    assert!(claims.figures().all(|it| it.spread.is_none()));
    // Behind a message, of two outputs one behind the other, and without the row that was cut off.
    let claims = check(
        fixture!("llama-bench-constructed.csv"),
        Source::LlamaBench,
        &[
            (Q::PromptRate, &["3413.333333"]),
            (Q::TokenRate, &["960.000000"]),
            (Q::GenerationRate, &["160.000000"]),
        ],
        &["one rate for both together"],
    );
    let quoted = |it: &&claims::Text| it.text == "a \"model\", quoted";
    assert!(claims.texts().find(quoted).is_some());
    let build = |it: &&claims::Text| it.text == "0104b151 (6900)";
    assert!(claims.texts().find(build).is_some());
}

#[test]
fn estimates_of_criterion_become_seconds() {
    let claims = check(
        fixture!("criterion-estimates.json"),
        Source::Criterion,
        &[],
        &["samples of one process as independent"],
    );
    assert_eq!(
        figure(&claims, Q::WallTime, "mean, estimate").printed,
        "1.494065e-2"
    );
    let claims = check(
        fixture!("criterion-constructed.txt"),
        Source::Criterion,
        &[(
            Q::WallTime,
            &[
                "12.911e-3",
                "14.941e-3",
                "17.134e-3",
                "901.25e-9",
                "910.50e-9",
                "921.75e-9",
            ],
        )],
        &[],
    );
    figure(
        &claims,
        Q::WallTime,
        "a/benchmark/with/a/name/that/is/longer, estimate",
    );
}

#[test]
fn what_cannot_be_imported_says_why() {
    let check = |text: &str, expected: &str| {
        let error = import("f", text).unwrap_err();
        assert!(error.to_string().contains(expected), "{text}: {error}");
    };
    check("", "nothing here is of a program that is known");
    check("{\"a\": 1}", "nothing here is of a program that is known");
    check("Starting training..., iters: 5", "no loss was reported");
    check(
        "Timing with prompt_tokens=1, generation_tokens=1.",
        "no trial ended",
    );
    check("build_commit,n_prompt,n_gen,avg_ts", "no test has a result");
    let line = "Iter 10: Train loss 1.0, It/sec 1.0, Tokens/sec 1.0\n";
    check(&line.repeat(2), "iteration 10 follows iteration 10");
    let long: String = (1..3000)
        .map(|n| line.replace("10", &n.to_string()))
        .collect();
    assert_eq!(import("f", &long).unwrap_err(), ImportError::TooLong);
}

#[test]
fn a_path_is_no_part_of_a_name() {
    let text = fixture!("mlx-lm-0.32-lora.txt").replace("1mmodel", "1m/Users/someone/my model");
    let claims = import("/home/someone/log.txt", &text).unwrap().claims;
    assert_eq!(claims.source, "log.txt");
    let text = serde_json::to_string(&claims).unwrap();
    assert!(
        text.contains("\"my model\"") && !text.contains("someone"),
        "{text}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    /// Cut, spliced and overwritten output is refused or becomes a document that can be read.
    #[test]
    fn damaged_output_never_becomes_a_document_that_cannot_be_read(
        which in 0..FIXTURES.len(),
        with in 0..FIXTURES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[ -~▼µ±\u{1b}\n]{0,6}|-|9{1,25}|nan|0|\\.|e9999"), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut text: Vec<char> = FIXTURES[which].chars().collect();
        for (at, edit) in &edits {
            let at = at.index(text.len());
            let end = (at + edit.chars().count()).min(text.len());
            text.splice(at..end, edit.chars());
        }
        text.truncate(cut.index(2 * text.len()).max(1));
        text.extend(FIXTURES[with].chars().take(cut.index(300)));
        let text: String = text.into_iter().collect();
        if let Ok(imported) = import("f", &text) {
            let parsed = claims::parse(&imported.text());
            prop_assert!(parsed.is_ok(), "{:?}\n{}", parsed, text);
            audit::claims(&imported.claims);
        }
    }
}
