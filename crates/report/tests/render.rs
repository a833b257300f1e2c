//! Whole reports against the files in `tests/snapshots/`, one folder for every record.
//!
//! `LFMARK_BLESS=1 cargo test -p report` writes the files anew; the change then shows in the
//! version control's own diff.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use metrics::checks::{Agreement, Checks, Score};
use metrics::record::{
    AdapterShape, Build, Config, Counters, CpuTier, Data, Effect, End, Engine, Event, Finish,
    Generation, GenerationConfig, Iteration, Lora, Machine, MachineState, Member, Metallib, Mlx,
    Model, NativeSetup, Optimizer, Packed, Phase, PhaseKind, Quantization, SCHEMA, SampleLoss,
    Sampling, Sensors, Settled, Start, Status, TextBefore, Weights, WindowSpec,
};
use metrics::rules::{Rules, WORDS};
use metrics::store::Record;
use metrics::summary::{Summary, summarize, summarize_with};
use metrics::window;
use report::{REPORT, Rendered, render, render_summary};

#[test]
fn a_complete_run() {
    check("complete", &compared(500));
}

#[test]
fn an_interrupted_run() {
    let mut record = complete(137);
    record.start.config.iterations = 500;
    record.generations.clear();
    record
        .phases
        .retain(|phase| matches!(phase.phase, PhaseKind::Setup | PhaseKind::Data));
    record.end = Some(End {
        status: Status::Interrupted,
        reason: Some("interrupted after iteration 137".to_owned()),
        wall_ns: 5_900_000_000,
    });
    check("interrupted", &record);
}

#[test]
fn a_run_that_was_cut_off() {
    let mut record = complete(42);
    record.start.config.iterations = 500;
    record.generations.clear();
    record.states.clear();
    record.end = None;
    record.notices = vec!["the last line was cut off and is left out".to_owned()];
    check("cut-off", &record);
}

#[test]
fn a_run_with_random_weights() {
    let mut record = complete(60);
    large_shape(&mut record);
    check("random-weights", &record);
}

#[test]
fn a_run_without_generation() {
    let mut record = complete(120);
    record.generations.clear();
    record.sensors.clear();
    record.counters.clear();
    record.start.sampling = None;
    record.start.config.generation.prompts.clear();
    record
        .phases
        .retain(|phase| phase.phase != PhaseKind::WarmUp);
    check("no-generation", &record);
}

#[test]
fn a_quantized_model_of_the_hub_is_said_to_be_so() {
    let mut record = complete(20);
    record.start.model.weights = Weights::Files {
        sha256: "ab".repeat(32),
    };
    record.start.model.revision = Some("c0ffee".to_owned());
    record.start.model.quantization = Some(Quantization {
        on_load: true,
        packed: vec![
            Packed {
                bits: 4,
                group_size: 64,
                matrices: 12,
                parameters: 4_000_000,
            },
            Packed {
                bits: 8,
                group_size: 32,
                matrices: 1,
                parameters: 1_000,
            },
        ],
    });
    record.phases.push(Phase {
        phase: PhaseKind::Fetch,
        start_ns: 0,
        wall_ns: 40_000_000,
    });
    let rendered = render(&record).unwrap();
    let report = rendered.get(REPORT).unwrap();
    for part in [
        "commit c0ffee on the hub; quantized while loading: 12 matrices to 4 bits in groups of \
         64; 1 matrix to 8 bits in groups of 32",
        "| Fetching |",
    ] {
        assert!(report.contains(part), "no `{part}` in\n{report}");
    }
}

#[test]
fn a_run_whose_memory_leaks() {
    check("leaking", &leaking());
}

#[test]
fn a_run_that_slows_down() {
    check("slowing-down", &slowing_down());
}

#[test]
fn a_throttled_run() {
    check("throttled", &throttled());
}

#[test]
fn a_run_whose_level_shifts() {
    check("shifted", &shifted());
}

#[test]
fn a_run_without_iterations() {
    check("no-iterations", &complete(0));
}

#[test]
fn a_run_with_hostile_strings() {
    let record = hostile();
    check("hostile", &record);

    let rendered = render(&record).unwrap();
    let outside_fences = without_code_blocks(rendered.get(REPORT).unwrap());
    for markup in [
        "<script", "![x](y)", "**bold**", "[z](", "www.x", "\u{1b}", "\u{202e}",
    ] {
        assert!(
            !outside_fences.contains(markup),
            "{markup} is live:\n{outside_fences}"
        );
    }
    for file in &rendered.files[1..] {
        assert!(!file.text.contains("<script"), "{}", file.name);
        assert!(!file.text.contains('\u{1b}'), "{}", file.name);
    }
}

#[test]
fn a_table_row_has_as_many_cells_as_its_head() {
    for record in [complete(500), complete(0), hostile()] {
        let rendered = render(&record).unwrap();
        let mut columns = None;
        for line in without_code_blocks(rendered.get(REPORT).unwrap()).lines() {
            let cells = line.starts_with('|').then(|| line.matches('|').count());
            if let (Some(cells), Some(expected)) = (cells, columns) {
                assert_eq!(cells, expected, "{line}");
            }
            columns = cells;
        }
    }
}

#[test]
fn every_chart_of_a_report_is_shown_in_it_and_the_reverse() {
    for record in [complete(500), complete(0), hostile()] {
        let rendered = render(&record).unwrap();
        let text = rendered.get(REPORT).unwrap();
        let charts: Vec<_> = rendered.files[1..].iter().map(|file| file.name).collect();
        let shown: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("![")?.strip_suffix(')')?.rsplit_once('('))
            .map(|(_, name)| name)
            .collect();
        assert_eq!(shown, charts);
    }
}

#[test]
fn the_same_record_gives_the_same_bytes() {
    for record in [complete(500), complete(0), hostile()] {
        assert_eq!(render(&record).unwrap(), render(&record.clone()).unwrap());
    }
}

#[test]
fn a_wrong_count_of_trainable_parameters_is_shown() {
    let mut record = complete(10);
    record.start.model.trainable_parameters += 1;
    let rendered = render(&record).unwrap();
    let text = rendered.get(REPORT).unwrap();
    assert!(
        text.contains("**The two differ, so one of them is wrong.**"),
        "{text}"
    );
}

#[test]
fn numbers_at_the_ends_of_their_range_can_be_rendered() {
    let mut record = complete(30);
    record.start.started_unix_ms = u64::MAX;
    record.start.config.lora.rank = u32::MAX;
    record.start.config.lora.scale = f64::NAN;
    record.start.model.adapters[0].inputs = u32::MAX;
    record.start.model.parameters = 0;
    record.start.data.sample_tokens.clear();
    record.iterations[0].step_ns = u64::MAX;
    record.iterations[1].step_ns = 0;
    record.iterations[2].loss = Some(f32::MAX);
    record.iterations[3].loss = Some(-f32::MAX);
    record.iterations[4].peak_bytes = u64::MAX;
    record.generations[0].token_ids.clear();
    record.generations[0].token_ns.clear();
    record.generations[1].first_token_ns = 0;
    record.end = Some(End {
        status: Status::Complete,
        reason: None,
        wall_ns: 0,
    });
    let rendered = render(&record).unwrap();
    // 2^64 - 1 nanoseconds, in whole seconds.
    let text = rendered.get(REPORT).unwrap();
    assert!(
        text.contains("iterations over 18,446,744,074 s of "),
        "{text}"
    );
    assert_eq!(rendered.files.len(), 8);
}

#[test]
fn a_long_run_is_thinned_and_says_so() {
    let sentence = "draw the smallest and the largest value";
    let long = render(&complete(3_000)).unwrap();
    assert!(long.get(REPORT).unwrap().contains(sentence));
    assert!(long.files.iter().all(|file| file.text.len() < 200_000));
    let short = render(&complete(500)).unwrap();
    assert!(!short.get(REPORT).unwrap().contains(sentence));
}

#[test]
fn every_judging_word_is_a_verdict_that_was_given() {
    for record in [
        complete(500),
        complete(3),
        complete(0),
        leaking(),
        slowing_down(),
        throttled(),
        shifted(),
    ] {
        let given = verdicts(&summarize(&record));
        let prose = prose(render(&record).unwrap().get(REPORT).unwrap());
        assert_eq!(unearned(&prose, &given), [""; 0]);
        for word in given {
            assert!(prose.contains(&format!(" {word} ")), "{word}: {prose}");
        }
    }
    // The same prose with other verdicts.
    let steady = prose(render(&complete(500)).unwrap().get(REPORT).unwrap());
    let mut given = verdicts(&summarize(&complete(500)));
    given.retain(|&word| word != "steady");
    given.push("slowing down");
    assert_eq!(unearned(&steady, &given), ["steady"]);
    let leaking = prose(render(&leaking()).unwrap().get(REPORT).unwrap());
    let mut given = verdicts(&summarize(&self::leaking()));
    given.retain(|&word| word != "leak");
    assert_eq!(unearned(&leaking, &given), ["leak"]);
}

#[test]
fn the_sections_stand_in_one_order_whatever_was_measured() {
    let expected = [
        "Overview",
        "Configuration",
        "Training performance",
        "Training stability by iteration range",
        "Generation by prompt",
        "Memory",
        "Consistency",
        "Energy and temperature",
        "Time budget",
        "Roofline",
        "Comparison",
        "Validation",
        "Conclusion",
        "What this run cannot show",
        "Appendix: rules",
        "Appendix: fields",
    ];
    for record in [complete(500), complete(0), hostile()] {
        let rendered = render(&record).unwrap();
        let text = without_code_blocks(rendered.get(REPORT).unwrap());
        let sections: Vec<_> = text
            .lines()
            .filter_map(|it| it.strip_prefix("## "))
            .collect();
        assert_eq!(sections, expected);
    }
}

#[test]
fn every_figure_links_to_a_field_that_the_record_has() {
    let record = compared(500);
    let rendered = render(&record).unwrap();
    let text = rendered.get(REPORT).unwrap();
    let (body, appendix) = text.split_once("## Appendix: fields").unwrap();

    let mut linked = BTreeSet::new();
    for link in body.split("[`").skip(1) {
        let (path, anchor) = link.split_once("`](#").unwrap();
        let (anchor, _) = anchor.split_once(')').unwrap();
        let event = path.split('.').next().unwrap();
        assert_eq!(anchor, format!("fields-of-{}", event.replace('_', "-")));
        linked.insert(path);
    }
    let rows: BTreeSet<_> = appendix
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(linked, rows, "links and rows of the appendix");

    let events = [
        Event::Start(Box::new(record.start)),
        Event::Phase(record.phases[0]),
        Event::Iteration(record.iterations[0]),
        Event::Generation(record.generations[0].clone()),
        Event::Effect(record.effect.unwrap()),
        Event::MachineState(record.states[0].clone()),
        Event::Sensors(record.sensors[0].clone()),
        Event::Counters(record.counters[0]),
        Event::End(record.end.unwrap()),
    ];
    let events: Vec<_> = events
        .iter()
        .map(|event| serde_json::to_value(event).unwrap())
        .collect();
    for path in rows {
        let (event, pointer) = path.split_once('.').unwrap();
        let line = events.iter().find(|it| it["event"] == event).unwrap();
        let pointer = format!("/{}", pointer.replace('.', "/"));
        assert!(line.pointer(&pointer).is_some(), "{path}");
    }

    for section in body.split("\n#").filter(|it| it.contains("\n| ---")) {
        let heading = section.lines().next().unwrap();
        // Its rows are named after other sections.
        let exempt = heading.contains("Validation");
        assert!(exempt || section.contains("(#fields-of-"), "{heading}");
    }
}

#[test]
fn every_link_within_a_report_leads_to_a_heading_of_it() {
    for record in [complete(500), complete(0), hostile()] {
        let rendered = render(&record).unwrap();
        let text = without_code_blocks(rendered.get(REPORT).unwrap());
        let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
        let anchors: Vec<String> = headings
            .map(|line| {
                let words = line.trim_start_matches('#').trim().to_lowercase();
                let kept = words.chars().filter(|c| c.is_alphanumeric() || *c == ' ');
                kept.collect::<String>().replace(' ', "-")
            })
            .collect();
        for link in text.split("](#").skip(1) {
            let (anchor, _) = link.split_once(')').unwrap();
            assert!(
                anchors.iter().any(|it| it == anchor),
                "{anchor}: {anchors:?}"
            );
        }
    }
}

#[test]
fn the_text_of_a_chart_can_be_read_on_a_phone() {
    // Drawn 390 pixels wide, a chart of 800 has text of at least 9.
    const SMALLEST: f64 = 9.0 * 800.0 / 390.0;
    let rendered = render(&complete(500)).unwrap();
    for file in &rendered.files[1..] {
        for text in file.text.split("font-size=\"").skip(1) {
            let size: f64 = text.split_once('"').unwrap().0.parse().unwrap();
            assert!(size >= SMALLEST, "{}: {size}", file.name);
        }
    }
}

#[test]
fn a_run_of_a_set_points_to_the_report_of_its_set() {
    let mut record = complete(20);
    record.start.member = Some(Member {
        set: "nightly".to_owned(),
        arm: "base".to_owned(),
        number: 3,
        repeat: 2,
        waited_ns: 0,
        unmet: Vec::new(),
        unread: Vec::new(),
        empty_caches: None,
    });
    let rendered = render(&record).unwrap();
    let text = rendered.get(REPORT).unwrap();
    assert!(
        text.contains("number 3, of arm base, of the set nightly"),
        "{text}"
    );
    assert!(!text.contains("Nothing was compared"), "{text}");
}

/// The words that a summary earned.
fn verdicts(summary: &Summary) -> Vec<&'static str> {
    let mut words: Vec<_> = summary
        .steadiness
        .iter()
        .map(|judged| judged.verdict.word())
        .collect();
    words.push(summary.validity.word());
    if summary.validity == metrics::validity::Verdict::Disturbed {
        // Its rule says what a comparison is.
        words.push("void");
    }
    if let Some(growth) = &summary.memory.growth {
        words.push(growth.verdict.word());
        let series = [
            Some(growth.active),
            Some(growth.cache),
            growth.footprint,
            growth.swap,
        ];
        words.extend(series.iter().flatten().map(|growth| growth.verdict.word()));
    }
    words
}

/// The report's words in lower case, each between spaces, without what was generated, without
/// the appendix, whose subject they are, without the validation, whose outcomes are no judgement
/// of the run, and without what names a limit instead of judging.
fn prose(text: &str) -> String {
    let (text, _) = text.split_once("## Appendix: rules").unwrap();
    let (before, validation) = text.split_once("\n## Validation\n").unwrap();
    let (_, after) = validation.split_once("\n## Conclusion\n").unwrap();
    let text = without_code_blocks(&format!("{before}\n{after}")).to_lowercase();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let prose = format!(" {} ", words.join(" "));
    ["smallest leak", "a leak of less than"]
        .into_iter()
        .fold(prose, |prose, limit| prose.replace(limit, ""))
}

/// The words of the rule table that the prose has and was not given, and any other that judges.
fn unearned<'a>(prose: &str, given: &[&'a str]) -> Vec<&'a str> {
    let mut given = given.to_vec();
    // "No steady state" does not allow "steady".
    given.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let rest = given.iter().fold(prose.to_owned(), |prose, word| {
        prose.replace(&format!(" {word} "), "  ")
    });
    let of_no_rule = [
        "stable",
        "fast",
        "slow",
        "excellent",
        "significant",
        "consistent",
        "efficient",
        "good",
        "superior",
        "variance",
        "solid",
    ];
    let of_rules = WORDS.iter().map(|word| word.word);
    of_rules
        .chain(of_no_rule)
        .filter(|word| rest.contains(&format!(" {word} ")))
        .collect()
}

#[test]
fn other_thresholds_than_the_recorded_ones_are_named() {
    let check = |recorded: Option<Rules>, given: Option<Rules>, expected: &str| {
        let mut record = complete(500);
        record.start.rules = recorded;
        let rendered = match given {
            Some(rules) => render_summary(&record, &summarize_with(&record, &rules)),
            None => render(&record),
        };
        let rendered = rendered.unwrap();
        let text = rendered.get(REPORT).unwrap();
        assert!(text.contains(expected), "{expected}\n{text}");
        text.contains("Verdict on the step times: **steady**")
    };
    let default = Rules::default();
    let mut strict = default;
    strict.steadiness.largest_spread = 0.001;
    let cell = "| `steadiness.largest-spread` | 0.001 (default 0.05) |";
    assert!(check(Some(default), None, "those recorded with the run."));
    assert!(check(
        Some(default),
        Some(default),
        "and are those recorded"
    ));
    assert!(check(None, None, "the defaults of the lfmark that wrote"));
    assert!(check(
        None,
        Some(default),
        "The record has no thresholds; these were given"
    ));
    assert!(!check(Some(strict), None, cell));
    assert!(!check(Some(default), Some(strict), cell));
    let differing = "are not those recorded with the run: `steadiness.largest-spread` 0.05.**";
    assert!(!check(Some(default), Some(strict), differing));
}

/// Compares every file of the report with the snapshot of that name, and the names themselves.
fn check(name: &str, record: &Record) {
    let rendered = render(record).unwrap();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(name);
    if std::env::var_os("LFMARK_BLESS").is_some() {
        bless(&folder, &rendered);
    }
    for file in &rendered.files {
        let expected = fs::read_to_string(folder.join(file.name)).unwrap_or_default();
        if let Some(difference) = difference(&expected, &file.text) {
            panic!(
                "{name}/{} differs; LFMARK_BLESS=1 accepts it\n{difference}",
                file.name
            );
        }
    }
    let mut present: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    present.sort();
    let mut expected: Vec<_> = rendered
        .files
        .iter()
        .map(|file| file.name.to_owned())
        .collect();
    expected.sort();
    assert_eq!(present, expected, "files of {name}");
}

fn bless(folder: &PathBuf, rendered: &Rendered) {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
    fs::create_dir_all(folder).unwrap();
    for file in &rendered.files {
        fs::write(folder.join(file.name), &file.text).unwrap();
    }
}

/// The lines between the common beginning and the common end of two texts.
fn difference(expected: &str, actual: &str) -> Option<String> {
    if expected == actual {
        return None;
    }
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[same..], &new[same..]);
    let same_end = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let mut text = format!("from line {}:\n", same + 1);
    for (sign, lines) in [
        ('-', &old[..old.len() - same_end]),
        ('+', &new[..new.len() - same_end]),
    ] {
        for line in lines.iter().take(20) {
            text.push_str(&format!("{sign}{line}\n"));
        }
        if lines.len() > 20 {
            text.push_str(&format!("{sign}(and {} more lines)\n", lines.len() - 20));
        }
    }
    Some(text)
}

/// The text less its fenced code blocks.
fn without_code_blocks(text: &str) -> String {
    let mut fence: Option<String> = None;
    let mut outside = String::new();
    for line in text.lines() {
        let ticks: String = line.chars().take_while(|&c| c == '`').collect();
        match &fence {
            Some(open) if ticks.len() >= open.len() && line == ticks => fence = None,
            Some(_) => {}
            None if ticks.len() >= 3 => fence = Some(ticks),
            None => {
                outside.push_str(line);
                outside.push('\n');
            }
        }
    }
    assert_eq!(fence, None, "a code block is not closed");
    outside
}

/// A complete run of the given number of iterations, with figures from a fixed generator.
fn complete(iterations: u32) -> Record {
    let configured = iterations;
    let mut noise = Noise(1);
    let sample_tokens = vec![70, 62, 78, 71, 66, 74, 69, 73, 65, 73];
    let mut clock = 950_000_000;
    let iterations: Vec<_> = (1..=iterations)
        .map(|iteration| {
            let tokens = sample_tokens[(iteration as usize * 7) % 10];
            // Two outliers, as a busy machine has them.
            let delay = if matches!(iteration, 1 | 250) {
                65_000_000
            } else {
                0
            };
            let step_ns = 30_000_000 + u64::from(tokens) * 50_000 + noise.below(900_000) + delay;
            let data_ns = 40_000 + noise.below(9_000);
            let start_ns = clock;
            clock += data_ns + step_ns + 150_000;
            let decay = (-f64::from(iteration) / 180.0).exp();
            Iteration {
                iteration,
                start_ns,
                data_ns,
                step_ns,
                graph_ns: Some(step_ns / 50),
                dispatch_ns: Some(step_ns / 4),
                rows: 1,
                real_tokens: tokens,
                padded_tokens: 97,
                loss_tokens: tokens - 1,
                loss: Some((0.4 + 3.2 * decay) as f32 + noise.below(300) as f32 / 1e3),
                active_bytes: 18_640_512,
                cache_bytes: 9_000_000 + noise.below(400_000),
                peak_bytes: if iteration <= 100 {
                    27_902_116
                } else {
                    27_918_500
                },
                footprint_bytes: (iteration % 5 == 1)
                    .then(|| 118_000_000 + u64::from(iteration) * 2_000),
                swap_bytes: None,
            }
        })
        .collect();
    let phase = |phase, start_ns, wall_ns| Phase {
        phase,
        start_ns,
        wall_ns,
    };
    let phases = vec![
        phase(PhaseKind::Setup, 0, 310_000_000),
        phase(PhaseKind::Data, 310_000_000, 4_200_000),
        phase(PhaseKind::Compile, 315_000_000, 630_000_000),
        phase(PhaseKind::Save, clock, 3_100_000),
        phase(PhaseKind::WarmUp, clock + 4_000_000, 12_000_000),
    ];
    let prompts = [
        "What is artificial intelligence?",
        "Explain machine learning in simple terms.",
        "How do neural networks work?",
    ];
    clock += 17_000_000;
    let generations: Vec<_> = prompts
        .iter()
        .zip([9, 11, 8])
        .map(|(prompt, prompt_tokens)| {
            let token_ns: Vec<u64> = (0..63).map(|_| 2_900_000 + noise.below(300_000)).collect();
            let first_token_ns = 5_200_000 + noise.below(900_000);
            let start_ns = clock;
            let wall_ns = first_token_ns + token_ns.iter().sum::<u64>() + 80_000;
            clock += wall_ns + 20_000;
            Generation {
                start_ns,
                prompt: (*prompt).to_owned(),
                prompt_tokens,
                first_token_ns,
                token_ns,
                token_ids: (0..64).collect(),
                text: "A model is a set of numbers.\n\n- It has layers.\n- It has weights."
                    .to_owned(),
                finish: Finish::Length,
                wall_ns,
                active_bytes: 18_640_512,
                cache_bytes: 2_400_000,
                peak_bytes: 20_118_004 + noise.below(400_000),
                footprint_bytes: Some(119_500_000),
            }
        })
        .collect();
    let state = |at_ns, load_milli| MachineState {
        at_ns,
        swap_used_bytes: Some(0),
        footprint_bytes: Some(119_000_000),
        load_milli: Some(load_milli),
        ..MachineState::default()
    };
    Record {
        start: start(configured, sample_tokens, &prompts),
        phases,
        iterations,
        generations,
        effect: None,
        states: vec![state(1_000_000, 310), state(clock, 1_270)],
        sensors: sensors(clock),
        counters: counters(configured),
        end: Some(End {
            status: Status::Complete,
            reason: None,
            wall_ns: clock + 9_000_000,
        }),
        notices: Vec::new(),
    }
}

/// A complete run that was compared with the model before training.
fn compared(iterations: u32) -> Record {
    let mut record = complete(iterations);
    let sample = |(before, after): (f32, f32)| SampleLoss {
        loss_tokens: 70,
        before: Some(before),
        after: Some(after),
    };
    let losses = [(4.0, 3.0), (3.0, 2.5), (5.0, 3.0)].map(sample);
    let lost = SampleLoss {
        loss_tokens: 62,
        before: Some(4.5),
        after: None,
    };
    let text = |text: &str| TextBefore {
        token_ids: vec![9, 8, 7],
        text: text.to_owned(),
        finish: Finish::Stop,
    };
    let end = record.end.as_mut().unwrap();
    record.effect = Some(Effect {
        start_ns: end.wall_ns,
        wall_ns: 300_000_000,
        samples: losses.into_iter().chain([lost]).collect(),
        texts_before: vec![text("No answer.\u{1b}[0m"), text("`Another` | one")],
    });
    end.wall_ns += 300_000_000;
    record
}

fn start(iterations: u32, sample_tokens: Vec<u32>, prompts: &[&str]) -> Start {
    let adapters = [2, 5]
        .into_iter()
        .flat_map(|layer| [("q_proj", layer, 256, 256), ("v_proj", layer, 256, 64)])
        .map(|(module, layer, inputs, outputs)| AdapterShape {
            name: format!("model.layers.{layer}.self_attn.{module}"),
            inputs,
            outputs,
        })
        .collect();
    Start {
        schema: SCHEMA,
        run_id: "2026-11-22-embedded".to_owned(),
        started_unix_ms: 1_795_381_865_000,
        lfmark: Build {
            version: "0.1.0".to_owned(),
            commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            dirty: Some(false),
            profile: "release".to_owned(),
            rustc: Some("rustc 1.95.0".to_owned()),
            native_setup: Some(NativeSetup {
                wall_ms: 61_400,
                installed_bytes: 412_000_000,
            }),
        },
        mlx: Mlx {
            version: "0.32.2".to_owned(),
            backend: "cpu".to_owned(),
            device_name: None,
            architecture: None,
            device_memory_bytes: None,
            working_set_bytes: None,
            library_sha256: Some("ab".repeat(32)),
            blas: Some("OpenBLAS 0.3.30".to_owned()),
            variables: Default::default(),
            metallib: None,
        },
        machine: Machine {
            os: "Linux".to_owned(),
            os_version: Some("Debian 12".to_owned()),
            kernel: Some("6.1.0".to_owned()),
            arch: "x86_64".to_owned(),
            cpu: Some("Example CPU @ 2.40GHz".to_owned()),
            physical_cores: Some(1),
            logical_cores: Some(2),
            memory_bytes: Some(8_327_000_000),
            virtual_machine: Some(true),
            ..Machine::default()
        },
        config: Config {
            iterations,
            batch_size: 1,
            max_seq_length: 2_048,
            pad_to: 32,
            mask_prompt: false,
            batch_order: "mlx_lm".into(),
            seed: 0,
            dtype: "f32".to_owned(),
            device: "cpu".to_owned(),
            optimizer: Optimizer {
                name: "adam".to_owned(),
                learning_rate: 2e-5,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.0,
                bias_correction: false,
            },
            lora: Lora {
                rank: 16,
                scale: 2.0,
                dropout: 0.05,
                layers: 8,
                targets: vec!["self_attn.q_proj".to_owned(), "self_attn.v_proj".to_owned()],
            },
            compile: true,
            fused_kernels: None,
            clear_cache: false,
            wired: Some("off".to_owned()),
            windows: vec![
                WindowSpec {
                    first: 1,
                    last: 100,
                },
                WindowSpec {
                    first: 100,
                    last: 300,
                },
                WindowSpec {
                    first: 300,
                    last: 500,
                },
            ],
            generation: GenerationConfig {
                prompts: prompts.iter().map(|prompt| (*prompt).to_owned()).collect(),
                max_tokens: 64,
                temperature: 0.0,
                top_p: 1.0,
                ignore_eos: false,
                chat_template: true,
                checks: Some(checks()),
            },
        },
        model: Model {
            name: "embedded".to_owned(),
            weights: Weights::Embedded {
                sha256: "cd".repeat(32),
            },
            layers: 8,
            attention_layers: 3,
            hidden_size: 256,
            ffn_size: 640,
            revision: None,
            quantization: None,
            vocab_size: 4_096,
            parameters: 4_561_152,
            weight_bytes: 18_244_608,
            // 16 x (256 + 256) + 16 x (256 + 64), twice.
            trainable_parameters: 26_624,
            adapters,
            config_sha256: Some("ef".repeat(32)),
            tokenizer_sha256: None,
        },
        data: Data {
            name: "embedded".to_owned(),
            sha256: "12".repeat(32),
            format: "text".to_owned(),
            sample_tokens,
            truncated_samples: 0,
        },
        footprint_source: Some("rss".to_owned()),
        rules: Some(Rules::default()),
        member: None,
        engine: None,
        launch_ns: None,
        sampling: Some(Sampling {
            interval_ns: 250_000_000,
            reading_ns: Some(150_000),
            rails: [("package-0".to_owned(), "powercap".to_owned())].into(),
        }),
        settled: None,
    }
}

/// As macOS counts: 40 million instructions in an iteration, and 16 million cycles.
fn counters(iterations: u32) -> Vec<Counters> {
    let windows = window::default_windows(iterations);
    let ends = windows.iter().map(|window| window.last);
    let read = |done: u32| Counters {
        at_ns: 0,
        iterations: done,
        instructions: Some(7_000_000 + 40_000_000 * u64::from(done)),
        cycles: Some(5_000_000 + 16_000_000 * u64::from(done)),
        energy_nj: Some(9_000_000 + 31_000_000 * u64::from(done)),
    };
    std::iter::once(0).chain(ends).map(read).collect()
}

/// A package that draws 12 W before the first second and 40 to 46 W from then on, by its counter.
fn sensors(until_ns: u64) -> Vec<Sensors> {
    let mut noise = Noise(5);
    let mut energy_uj = 0;
    (0..=until_ns / 250_000_000 + 1)
        .map(|sample| {
            let watts = if sample < 4 { 12 } else { 40 + noise.below(7) };
            energy_uj += watts * 250_000;
            Sensors {
                at_ns: sample * 250_000_000,
                energy_uj: Some([("package-0".to_owned(), energy_uj)].into()),
                ..Sensors::default()
            }
        })
        .collect()
}

/// Of the first two prompts; the text passes those of the second.
fn checks() -> Vec<Checks> {
    let terms = |terms: &[&str]| terms.iter().map(|&term| term.to_owned()).collect();
    let first = Checks {
        must_mention: terms(&["intelligence|AI", "model*"]),
        most_repetition: Some(0.2),
        fewest_words: Some(20),
        agreement: Some(Agreement {
            score: Score::RougeL,
            at_least: 0.3,
            reference: "A set of numbers is no mind.".to_owned(),
        }),
        ..Checks::default()
    };
    let second = Checks {
        must_mention: terms(&["number*"]),
        must_not_mention: terms(&["I cannot"]),
        ..Checks::default()
    };
    vec![first, second]
}

/// A run in which every iteration keeps 40 kB and some, of which the process gets to know.
fn leaking() -> Record {
    let mut record = complete(200);
    let mut noise = Noise(3);
    for iteration in &mut record.iterations {
        let kept = u64::from(iteration.iteration) * 40_000 + noise.below(60_000);
        iteration.active_bytes += kept;
        iteration.peak_bytes += kept;
        if let Some(footprint) = &mut iteration.footprint_bytes {
            *footprint += kept;
        }
    }
    record
}

/// A run in which the steps of the end take 6 % more than those of the beginning.
fn slowing_down() -> Record {
    timed(|iteration, step_ns| step_ns + step_ns * u64::from(iteration) * 6 / 30_000)
}

/// A run on a machine that gets too hot: from the middle on its clock goes down and up again.
fn throttled() -> Record {
    let mut record = timed(|iteration, step_ns| match iteration {
        151.. => step_ns + step_ns * (6 + u64::from(iteration % 20) / 2) / 100,
        _ => step_ns,
    });
    let at_ns = record.end.as_ref().map_or(0, |end| end.wall_ns);
    for (thermal_state, at_ns) in [(0, 0), (2, at_ns)] {
        record.states.push(MachineState {
            at_ns,
            thermal_state: Some(thermal_state),
            power_source: Some("ac".to_owned()),
            ..MachineState::default()
        });
    }
    record
}

/// A run in which the steps take 8 % more from iteration 201 on.
fn shifted() -> Record {
    timed(|iteration, step_ns| match iteration {
        ..=200 => step_ns,
        _ => step_ns + step_ns * 8 / 100,
    })
}

/// A run of 300 iterations, with its step times changed.
fn timed(change: impl Fn(u32, u64) -> u64) -> Record {
    let mut record = complete(300);
    let mut later = 0;
    for iteration in &mut record.iterations {
        let step_ns = change(iteration.iteration, iteration.step_ns);
        iteration.start_ns += later;
        later += step_ns - iteration.step_ns;
        iteration.step_ns = step_ns;
    }
    record
}

/// The shape of LFM2-1.2B on a large device, with random weights.
fn large_shape(record: &mut Record) {
    let start = &mut record.start;
    start.run_id = "2026-11-22-lfm2-1.2b".to_owned();
    start.mlx.backend = "cuda".to_owned();
    start.mlx.device_name = Some("NVIDIA H200".to_owned());
    start.mlx.architecture = Some("sm_90".to_owned());
    start.mlx.device_memory_bytes = Some(150_000_000_000);
    start.machine.virtual_machine = None;
    start.lfmark.dirty = Some(true);
    start.config.device = "gpu".to_owned();
    start.config.dtype = "bf16".to_owned();
    start.model.name = "lfm2-1.2b".to_owned();
    start.model.weights = Weights::Random { seed: 7 };
    start.model.layers = 16;
    start.model.attention_layers = 6;
    start.model.hidden_size = 2_048;
    start.model.ffn_size = 8_192;
    start.model.vocab_size = 65_536;
    start.model.parameters = 1_170_340_608;
    start.model.weight_bytes = 2_340_681_216;
    start.model.trainable_parameters = 425_984;
    start.model.adapters = [8, 10, 12, 14]
        .into_iter()
        .flat_map(|layer| [("q_proj", layer, 2_048), ("v_proj", layer, 512)])
        .map(|(module, layer, outputs)| AdapterShape {
            name: format!("model.layers.{layer}.self_attn.{module}"),
            inputs: 2_048,
            outputs,
        })
        .collect();
    start.footprint_source = None;
    start.sampling = Some(Sampling {
        interval_ns: 250_000_000,
        reading_ns: Some(150_000),
        rails: [("gpu".to_owned(), "NVML".to_owned())].into(),
    });
    for (sensors, mc) in record
        .sensors
        .iter_mut()
        .zip((0..).map(|n: i64| 41_000 + 300 * n))
    {
        sensors.energy_uj = None;
        sensors.power_uw = Some([("gpu".to_owned(), 350_000_000)].into());
        sensors.gpu_temperature_mc = Some(mc);
        sensors.gpu_throttle_reasons = Some(vec!["sw_power_cap".to_owned()]);
    }
    for iteration in &mut record.iterations {
        iteration.active_bytes = 2_345_800_000;
        iteration.cache_bytes += 300_000_000;
        iteration.peak_bytes = 2_567_000_000;
        iteration.footprint_bytes = None;
        iteration.loss = Some(11.2 + (iteration.iteration % 10) as f32 / 100.0);
    }
    record.iterations[36].loss = None;
    for (generation, finish) in
        record
            .generations
            .iter_mut()
            .zip([Finish::Length, Finish::Stop, Finish::Interrupted])
    {
        generation.peak_bytes = 2_361_000_000;
        generation.finish = finish;
    }
    for (state, uj) in record.states.iter_mut().zip([5_000_000, 96_400_000]) {
        state.energy_uj = Some([("gpu".to_owned(), uj)].into());
        state.thermal_state = Some(0);
        state.power_source = Some("ac".to_owned());
        state.power_mode = Some(2);
        state.power_mode_name = Some("high power".to_owned());
        state.gpu_clock_hz = Some(1_980_000_000);
        state.gpu_temperature_mc = Some(41_500);
    }
}

/// A run in which every string that can come from outside tries to be markup.
fn hostile() -> Record {
    let evil = "a|b\\ `c` <script>alert(1)</script> ![x](y) [z](https://z) **bold** _i_ ~~s~~\n\
                | new | row |\r# head\t$x$ & &lt; www.x.y \u{1b}[31m \u{202e}back";
    let text = || evil.to_owned();
    let some = || Some(evil.to_owned());
    let mut record = complete(20);
    let start = &mut record.start;
    start.run_id = text();
    start.lfmark.version = text();
    start.lfmark.commit = some();
    start.lfmark.profile = text();
    start.lfmark.rustc = some();
    start.mlx.version = text();
    start.mlx.backend = text();
    start.mlx.device_name = some();
    start.mlx.architecture = some();
    start.mlx.library_sha256 = some();
    start.mlx.blas = some();
    start.machine.os = text();
    start.machine.os_version = some();
    start.machine.kernel = some();
    start.machine.arch = text();
    start.machine.cpu = some();
    start.machine.chip = some();
    start.machine.model_id = some();
    start.machine.gpu = some();
    start.config.dtype = text();
    start.config.device = text();
    start.config.optimizer.name = text();
    start.config.lora.targets = vec![text()];
    start.model.name = text();
    start.model.weights = Weights::Files { sha256: text() };
    start.model.adapters[0].name = text();
    start.model.config_sha256 = some();
    start.model.tokenizer_sha256 = some();
    start.model.revision = some();
    start.data.name = text();
    start.data.sha256 = text();
    start.data.format = text();
    start.footprint_source = some();
    start.mlx.metallib = Some(Metallib {
        bytes: 1,
        built_for: some(),
        neural_accelerators: false,
    });
    start.machine.cpu_tiers = Some(vec![CpuTier {
        name: some(),
        physical_cores: 2,
    }]);
    start.machine.gpu_driver = some();
    start.sampling = Some(Sampling {
        interval_ns: 250_000_000,
        reading_ns: Some(150_000),
        rails: [(text(), text())].into(),
    });
    start.settled = Some(Settled {
        waited_ns: 1,
        unmet: vec![text()],
        unread: vec![text()],
        awake_by: some(),
    });
    for state in &mut record.states {
        state.power_source = some();
        state.power_mode_name = some();
        state.energy_uj = Some([(text(), 1)].into());
        state.cpu_governor = some();
        state.gpu_throttle_reasons = Some(vec![text()]);
    }
    for sensors in &mut record.sensors {
        sensors.energy_uj = Some([(text(), sensors.at_ns)].into());
    }
    record.generations[0].prompt = text();
    record.start.config.generation.prompts[0] = text();
    record.start.config.generation.checks = Some(vec![Checks {
        must_mention: vec![text()],
        must_not_mention: vec![text()],
        ..Checks::default()
    }]);
    record.start.member = Some(Member {
        set: text(),
        arm: text(),
        number: 1,
        repeat: 1,
        waited_ns: 0,
        unmet: vec![text()],
        unread: vec![text()],
        empty_caches: None,
    });
    record.start.engine = Some(Engine {
        name: text(),
        version: text(),
        memory_source: text(),
        batches_sha256: text(),
    });
    record.generations[0].text = format!("```\n</code>\n`````\n{evil}\n~~~\n    </pre>");
    record.generations[1].prompt = String::new();
    record.generations[1].text = String::new();
    record.end = Some(End {
        status: Status::Failed,
        reason: some(),
        wall_ns: 9_000_000_000,
    });
    record.notices = vec![text()];
    record
}

/// Numbers from a fixed linear congruential generator, with the constants of Knuth's MMIX.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
