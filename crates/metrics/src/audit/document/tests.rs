//! The performance document and its corrected copy, and each check both ways.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::claims::{Block, parse};

const DOCUMENT: &str = include_str!("../../../../../fixtures/m3-max.json");
const CORRECTED: &str = include_str!("../../../../../fixtures/m3-max.corrected.json");
const FINDINGS: &str = include_str!("../../../../../fixtures/m3-max.findings.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    id: String,
    outcome: Outcome,
    why: String,
}

#[test]
fn the_document_has_exactly_the_findings_that_were_derived_by_hand() {
    let findings: Vec<Finding> = serde_json::from_str(FINDINGS).unwrap();
    assert!(findings.iter().all(|it| !it.why.is_empty()));
    let expected: BTreeMap<_, _> = findings
        .iter()
        .map(|it| (it.id.as_str(), it.outcome))
        .collect();
    assert_eq!(expected.len(), findings.len(), "an id stands twice");
    let audit = claims(&parse(DOCUMENT).unwrap());
    let actual: BTreeMap<_, _> = audit.outcomes().collect();
    assert_eq!(actual.len(), audit.outcomes().count(), "an id stands twice");
    assert_eq!(actual, expected, "{audit:#?}");
}

#[test]
fn the_corrected_copy_has_nothing_failed_and_nothing_unsupported() {
    let audit = claims(&parse(CORRECTED).unwrap());
    for (id, outcome) in audit.outcomes() {
        assert!(
            matches!(outcome, Outcome::Pass | Outcome::CannotTell),
            "{id} {audit:#?}"
        );
    }
    assert!(audit.count(Outcome::Pass) > 15, "{audit:#?}");
}

/// The corrected copy with one text replaced by another, as JSON.
fn edited(from: &str, to: &str) -> Claims {
    assert_eq!(CORRECTED.matches(from).count(), 1, "{from}");
    parse(&CORRECTED.replace(from, to)).unwrap()
}

fn figures(document: &mut Claims) -> impl Iterator<Item = &mut Figure> {
    let blocks = document
        .sections
        .iter_mut()
        .flat_map(|section| &mut section.blocks);
    let texts = blocks.flat_map(|block| match block {
        Block::Table(it) => it.rows.iter_mut().flatten().collect(),
        Block::Text(it) | Block::Item(it) => vec![it],
    });
    texts.flat_map(|text| &mut text.figures)
}

fn outcome(audit: &Audit, id: &str) -> Option<Outcome> {
    audit
        .outcomes()
        .find(|(found, _)| *found == id)
        .map(|(_, outcome)| outcome)
}

/// Adds a text with figures to the corrected copy, and compares what came of a check with what is
/// due.
fn check(figures: &str, id: &str, expected: Outcome) {
    let audit = claims(&with(figures, ""));
    assert_eq!(outcome(&audit, id), Some(expected), "{figures} {audit:#?}");
}

fn with(figures: &str, of_claims: &str) -> Claims {
    let figures: Vec<Figure> = serde_json::from_str(&format!("[{figures}]")).unwrap();
    let of_claims: Vec<Claim> = serde_json::from_str(&format!("[{of_claims}]")).unwrap();
    let printed = figures
        .iter()
        .flat_map(|it| [Some(it.printed.as_str()), it.spread.as_deref()]);
    let text = printed.flatten().collect::<Vec<_>>().join(" ± ");
    let mut document = parse(CORRECTED).unwrap();
    document.sections[0].blocks.push(Block::Text(Text {
        text: format!("words {text}"),
        figures,
        claims: of_claims,
    }));
    // What was built here has to be a document as well.
    parse(&serde_json::to_string(&document).unwrap()).unwrap()
}

#[test]
fn figures_of_one_quantity_agree() {
    use Outcome::{Fail, Pass};
    let time = "agreement:training-time";
    let seconds = |printed: &str| {
        format!(r#"{{"quantity": "training_time", "printed": "{printed}", "unit": "s"}}"#)
    };
    check(&seconds("34.80"), time, Pass);
    check(&seconds("35"), time, Pass);
    check(&seconds("34.9"), time, Fail);
    check(
        r#"{"quantity": "rank", "printed": "16"}"#,
        "agreement:rank",
        Fail,
    );
    let peak =
        r#"{"quantity": "peak_memory", "printed": "2.569", "unit": "GB", "of": {"prompt": 1}}"#;
    check(peak, "agreement:peak-memory:prompt-1", Fail);
}

#[test]
fn a_token_rate_is_no_second_measurement() {
    let document = edited(
        r#""unit": "tokens/s", "derived": true"#,
        r#""unit": "tokens/s""#,
    );
    let audit = claims(&document);
    assert_eq!(
        outcome(&audit, "same-measurement"),
        Some(Outcome::Unsupported)
    );
    assert_eq!(outcome(&audit, "token-rate"), Some(Outcome::Pass));
}

#[test]
fn rank_layers_and_modules_give_the_trainable_parameters() {
    let fails = |rank: &str, targets: Option<&[&str]>, stated: &str| {
        let mut document = parse(CORRECTED).unwrap();
        let owned = |all: &[&str]| all.iter().map(|&it| it.to_owned()).collect();
        document.context.targets = targets.map(owned);
        for figure in figures(&mut document) {
            match figure.quantity {
                Q::Rank => figure.printed = rank.to_owned(),
                Q::TrainableParameters => figure.printed = stated.to_owned(),
                _ => {}
            }
        }
        let audit = claims(&document);
        let check = audit
            .checks
            .into_iter()
            .find(|it| it.id == "trainable-parameters");
        let check = check.unwrap();
        (check.outcome == Outcome::Fail).then_some(check.sentence)
    };
    let both: Option<&[&str]> = Some(&["self_attn.q_proj", "self_attn.v_proj"]);
    assert_eq!(fails("8", both, "213K"), None);
    assert_eq!(fails("8", both, "212,992"), None);
    assert_eq!(fails("8", None, "212,992"), None);
    assert_eq!(fails("16", both, "425,984"), None);
    assert_eq!(
        fails("16", both, "213K").as_deref(),
        Some(
            "Rank 16 on self_attn.q_proj and self_attn.v_proj gives 425,984, not 213K; rank 8 \
             gives 212,992."
        )
    );
    assert_eq!(
        fails("16", None, "213K").as_deref(),
        Some(
            "No choice of modules gives 213K with rank 16: on self_attn.q_proj and \
             self_attn.v_proj it gives 425,984, and rank 8 gives 212,992."
        )
    );
    // No power of two on any modules gives a prime number.
    assert_eq!(
        fails("16", both, "212,987").as_deref(),
        Some("Rank, layers and modules give 425,984 trainable parameters, and 212,987 is stated.")
    );
}

#[test]
fn the_peak_holds_the_weights() {
    for (dtype, expected) in [
        (Some("bf16"), Outcome::Pass),
        (Some("f32"), Outcome::Fail),
        (Some("q4"), Outcome::CannotTell),
        (None, Outcome::CannotTell),
    ] {
        let mut document = parse(CORRECTED).unwrap();
        document.context.dtype = dtype.map(str::to_owned);
        let audit = claims(&document);
        for id in ["memory-floor", "generation-floor:prompt-2"] {
            assert_eq!(outcome(&audit, id), Some(expected), "{dtype:?} {id}");
        }
    }
}

#[test]
fn a_spread_is_neither_finer_than_its_value_nor_another_share() {
    use Outcome::{Fail, Pass};
    let rate = |printed: &str, spread: &str| {
        let of = r#""of": {"prompt": 1}"#;
        format!(
            r#"{{"quantity": "iteration_rate", "printed": "{printed}", "unit": "it/s",
                "spread": "{spread}", {of}}},
               {{"quantity": "relative_spread", "printed": "0.1", "unit": "%", "below": true, {of}}}"#
        )
    };
    check(&rate("14.37", "0.01"), "spread-resolution:prompt-1", Pass);
    check(&rate("14.37", "0.004"), "spread-resolution:prompt-1", Fail);
    check(&rate("14.4", "0.02"), "spread-resolution:prompt-1", Fail);
    check(&rate("14.37", "0.01"), "spread-share:prompt-1", Pass);
    check(&rate("14.37", "0.02"), "spread-share:prompt-1", Fail);
}

#[test]
fn the_windows_make_the_whole() {
    use Outcome::{CannotTell, Fail, Pass};
    let ids = ["windows-time", "windows-rate", "windows-peak"];
    let check = |change: fn(&mut Figure), expected: [Outcome; 3]| {
        let mut document = parse(CORRECTED).unwrap();
        figures(&mut document).for_each(change);
        let audit = claims(&document);
        let actual = ids.map(|id| outcome(&audit, id).unwrap());
        assert_eq!(actual, expected);
    };
    check(|_| (), [Pass, Pass, Pass]);
    let slower = |it: &mut Figure| {
        if it.window().is_some_and(|window| window.first == 1) && it.spread.is_some() {
            it.printed = "14.20".to_owned();
        }
    };
    check(slower, [Fail, Fail, Pass]);
    let higher = |it: &mut Figure| {
        if it.window().is_some() && it.printed == "2.558" {
            it.printed = "2.559".to_owned();
        }
    };
    check(higher, [Pass, Pass, Fail]);
    let longer = |it: &mut Figure| {
        if it.quantity == Q::Iterations {
            it.printed = "600".to_owned();
        }
    };
    check(longer, [CannotTell; 3]);
}

#[test]
fn generation_keeps_to_the_bandwidth_of_its_chip() {
    for (chip, gib, bandwidth, generation) in [
        ("Apple M3 Max", 36, Outcome::Pass, Outcome::Pass),
        ("Apple M3 Max", 64, Outcome::Fail, Outcome::Pass),
        ("Apple M4", 16, Outcome::Fail, Outcome::Fail),
        ("Apple M9", 36, Outcome::CannotTell, Outcome::CannotTell),
    ] {
        let mut document = parse(CORRECTED).unwrap();
        document.context.chip = Some(chip.to_owned());
        document.context.memory_gib = Some(gib);
        let audit = claims(&document);
        assert_eq!(outcome(&audit, "bandwidth"), Some(bandwidth), "{chip}");
        for number in 1..=3 {
            let id = format!("roofline:generation-prompt-{number}");
            assert_eq!(outcome(&audit, &id), Some(generation), "{chip}");
        }
    }
}

#[test]
fn a_ratio_follows_from_both_peaks() {
    use Outcome::{CannotTell, Fail, Pass};
    let ratio = |printed: &str, other: &str| {
        let ratio =
            format!(r#"{{"quantity": "memory_ratio", "printed": "{printed}", "unit": "x"}}"#);
        match other {
            "" => ratio,
            _ => format!(
                r#"{ratio}, {{"quantity": "peak_memory", "printed": "{other}", "unit": "GB",
                    "of": {{"other": "elsewhere"}}}}"#
            ),
        }
    };
    for (printed, other, expected) in [
        ("3-4", "8-12", Fail),
        ("3-5", "8-12", Pass),
        ("7", "8-12", Fail),
        ("4", "10", Pass),
        ("5", "10", Fail),
        ("4", "", CannotTell),
    ] {
        check(&ratio(printed, other), "memory-ratio:1", expected);
    }
}

#[test]
fn a_larger_model_is_refuted_or_unsupported() {
    use Outcome::{Fail, Unsupported};
    let ratio = |printed: &str| {
        format!(r#"{{"quantity": "model_ratio", "printed": "{printed}", "unit": "x"}}"#)
    };
    check(&ratio("10"), "larger-model:1", Unsupported);
    check(&ratio("20"), "larger-model:1", Fail);
}

#[test]
fn the_parts_of_the_time_make_the_whole() {
    use Outcome::{CannotTell, Fail, Pass};
    let part = |name: &str, printed: &str| {
        format!(
            r#"{{"quantity": "time_part", "printed": "{printed}", "unit": "s",
                "of": {{"other": "{name}"}}}}"#
        )
    };
    let parts = format!("{}, {}", part("steps", "34.8"), part("saving", "0.1"));
    let wall = |printed: &str| {
        format!(r#"{parts}, {{"quantity": "wall_time", "printed": "{printed}", "unit": "s"}}"#)
    };
    check(&wall("34.9"), "time-budget", Pass);
    check(&wall("36.0"), "time-budget", Fail);
    check(&parts, "time-budget", CannotTell);
}

#[test]
fn prompts_and_their_rates() {
    use Outcome::{CannotTell, Pass};
    let lengths = |tokens: u32| {
        let of = |number: u32| {
            format!(
                r#"{{"quantity": "prompt_tokens", "printed": "{tokens}", "unit": "tokens",
                    "of": {{"prompt": {number}}}}}"#
            )
        };
        [1, 2, 3].map(of).join(", ")
    };
    check(&lengths(512), "prompt-length", Pass);
    check(&lengths(12), "prompt-length", CannotTell);
    check("", "prompt-length", CannotTell);
    check("", "generation-spread", CannotTell);
    check("", "generation-peak-order", CannotTell);
}

/// A claim beside the figures of the corrected copy.
fn check_claim(claim: &str, figures: &str, expected: Outcome) {
    let audit = claims(&with(figures, &format!(r#"{{"id": "it", {claim}}}"#)));
    assert_eq!(outcome(&audit, "claim:it"), Some(expected), "{claim}");
}

#[test]
fn claims_of_no_change_and_no_spread_stand_against_the_figures() {
    use Outcome::{CannotTell, Fail};
    check_claim(r#""subject": "no_change", "of": "peak_memory""#, "", Fail);
    check_claim(
        r#""subject": "no_change", "of": "iteration_rate""#,
        "",
        CannotTell,
    );
    check_claim(
        r#""subject": "no_change", "of": "token_rate""#,
        "",
        CannotTell,
    );
    check_claim(
        r#""subject": "no_spread", "of": "iteration_rate""#,
        "",
        Fail,
    );
    check_claim(
        r#""subject": "no_spread", "of": "token_rate""#,
        "",
        CannotTell,
    );
}

#[test]
fn other_claims_need_what_a_document_does_not_have() {
    use Outcome::{CannotTell, Unsupported};
    for (subject, expected) in [
        ("steadiness", CannotTell),
        ("leak", Unsupported),
        ("comparison", Unsupported),
        ("quality", Unsupported),
        ("power", Unsupported),
        ("setup", Unsupported),
        ("mechanism", Unsupported),
        ("efficiency", Unsupported),
        ("capability", Unsupported),
        ("judgement", Unsupported),
    ] {
        check_claim(&format!(r#""subject": "{subject}""#), "", expected);
    }
}
