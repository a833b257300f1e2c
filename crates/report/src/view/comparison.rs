//! What a comparison would start from: the rows of one run, and nothing beside them.

use metrics::record::{MachineState, Member};
use metrics::store::Record;
use metrics::summary::Summary;
use serde::Serialize;

use super::Shown;
use super::fields::{field, fields};
use super::headroom::rounded;
use crate::markdown::{Align, escape, table};
use crate::units::{self, NOT_MEASURED};

/// Bytes of a token id on its way to the device.
const TOKEN_ID_BYTES: u64 = 4;

#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    table: String,
    /// The set that this run belongs to, in whose report the comparison is.
    set: Option<Set>,
}

#[derive(Debug, Serialize)]
struct Set {
    name: String,
    arm: String,
    number: String,
}

/// One row for every aspect that frameworks are compared by, measured or not.
pub(super) fn comparison(record: &Record, summary: &Summary) -> Comparison {
    let model = &record.start.model;
    let peak = summary.training.as_ref().map(|it| it.peak_bytes);
    let judged = summary.steadiness.as_ref();
    let speed = judged.shown(|judged| {
        let cv = judged.level.and_then(|level| level.cv);
        format!(
            "verdict \"{}\", CV {}",
            judged.verdict.word(),
            cv.shown(|cv| units::share(cv, 1.0))
        )
    });
    let setup = record.start.lfmark.native_setup.shown(|setup| {
        format!(
            "{} and {} on disk for native MLX",
            units::duration(setup.wall_ms.saturating_mul(1_000_000)),
            units::bytes(setup.installed_bytes)
        )
    });
    let larger = summary.memory.headroom.shown(|headroom| {
        let scale = headroom.largest_scale(headroom.tokens.into());
        format!(
            "estimated up to {} parameters at the measured batch ([how](#headroom))",
            rounded(scale * model.parameters as f64)
        )
    });
    let rows = [
        (
            "Memory use",
            peak.shown(|peak| {
                format!(
                    "peak of {}, base weights of {} included",
                    units::bytes(peak),
                    units::bytes(model.weight_bytes)
                )
            }),
            fields(&["iteration.peak_bytes", "start.model.weight_bytes"]),
        ),
        (
            "Memory transfer",
            transfer(record),
            fields(&["iteration.padded_tokens", "iteration.rows"]),
        ),
        ("Speed consistency", speed, field("iteration.step_ns")),
        (
            "Set-up complexity",
            setup,
            fields(&[
                "start.lfmark.native_setup.wall_ms",
                "start.lfmark.native_setup.installed_bytes",
            ]),
        ),
        (
            "Power",
            power(&record.states, summary),
            field("machine_state.energy_uj"),
        ),
        (
            "Larger models",
            larger,
            fields(&["iteration.peak_bytes", "start.model.parameters"]),
        ),
    ];
    Comparison {
        table: table(
            [
                ("Aspect", Align::Left),
                ("This run", Align::Left),
                ("Field", Align::Left),
            ],
            &rows.map(|(aspect, value, field)| [format!("**{aspect}**"), value, field]),
        ),
        set: record.start.member.as_ref().map(set),
    }
}

fn set(member: &Member) -> Set {
    Set {
        name: escape(&member.set),
        arm: escape(&member.arm),
        number: units::count(member.number.into()),
    }
}

/// What is known of the bytes that pass to the device: those of the token ids.
fn transfer(record: &Record) -> String {
    let batches = record.iterations.iter();
    let bytes =
        batches.map(|it| TOKEN_ID_BYTES * (u64::from(it.padded_tokens) + u64::from(it.rows)));
    match bytes.max().filter(|_| record.start.engine.is_none()) {
        None => NOT_MEASURED.to_owned(),
        Some(largest) => format!(
            "bytes moved: {NOT_MEASURED}. Computed: {} of token ids in the largest batch, as {} × \
             (padded tokens + rows); the base weights once",
            units::bytes(largest),
            TOKEN_ID_BYTES,
        ),
    }
}

/// Energy of an iteration and of a token, by rail. Where nothing was sampled, the counters of the
/// machine's states: they are read before compilation and at the end, so what they rose by is the
/// energy of all work in between and of no token.
fn power(states: &[MachineState], summary: &Summary) -> String {
    let rails = summary.energy.iter().flat_map(|energy| &energy.rails);
    let measured: Vec<String> = rails
        .filter_map(|rail| {
            let joules = |joules: Option<metrics::energy::Joules>, of: &str| {
                let joules = joules?.whole;
                Some(format!("{} J {of}", units::significant(joules, 4)))
            };
            let iteration = rail.training.and_then(|it| it.per_iteration);
            let token = rail.generation.and_then(|it| it.per_generated_token);
            let figures: Vec<String> = [
                joules(iteration, "an iteration"),
                joules(token, "a generated token"),
            ]
            .into_iter()
            .flatten()
            .collect();
            (!figures.is_empty()).then(|| format!("{}: {}", escape(&rail.name), figures.join(", ")))
        })
        .collect();
    if !measured.is_empty() {
        return measured.join("; ");
    }
    let mut readings = states.iter().filter_map(|state| state.energy_uj.as_ref());
    let (Some(first), Some(last)) = (readings.next(), readings.next_back()) else {
        return format!("joules per token: {NOT_MEASURED}");
    };
    let rails: Vec<String> = last
        .iter()
        .filter_map(|(rail, end)| {
            let joules = end.checked_sub(*first.get(rail)?)? as f64 / 1e6;
            Some(format!(
                "{} {} J",
                escape(rail),
                units::significant(joules, 4)
            ))
        })
        .collect();
    match rails.is_empty() {
        true => format!("joules per token: {NOT_MEASURED}"),
        false => format!(
            "joules per token: {NOT_MEASURED}. Between the first and the last reading, which \
             hold compilation, training and generation together: {}",
            rails.join(", ")
        ),
    }
}
