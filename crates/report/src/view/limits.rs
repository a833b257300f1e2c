//! Facts of the record that bound what it can show.

use metrics::leak::Verdict::{CannotTell, Flat};
use metrics::leak::mib_per_thousand;
use metrics::quality::Quality;
use metrics::record::{MachineState, PhaseKind, Sensors};
use metrics::steadiness;
use metrics::store::Record;
use metrics::summary::Summary;
use serde::Serialize;

use super::{Shown, percent};
use crate::units;

/// Facts of the record that bound what it can show.
#[derive(Debug, Serialize)]
pub(super) struct Limits {
    /// The number of iterations, where so few make a 95th percentile.
    few_iterations: Option<u32>,
    shortest_prompt: Option<u32>,
    /// Whether the checks of any prompt were applied.
    judged_texts: bool,
    debug_build: bool,
    dirty: bool,
    commit_known: bool,
    virtual_machine: bool,
    compiled_apart: bool,
    unread: Vec<&'static str>,
    /// The word for step times that kept no level.
    no_level: Option<&'static str>,
    /// What growth of memory stayed hidden; absent where growth was found.
    hidden_growth: Option<HiddenGrowth>,
    /// Whether the process's memory was judged.
    footprint_judged: bool,
}

#[derive(Debug, Serialize)]
struct HiddenGrowth {
    /// The smallest growth that would have been found; absent for too few readings.
    bytes: Option<String>,
    mib: String,
    power: String,
}

/// Collects them from the record.
pub(super) fn limits(record: &Record, summary: &Summary) -> Limits {
    /// Iterations below which at most five samples lie above the 95th percentile.
    const FEW: u32 = 100;
    /// Prompt tokens from which reading a prompt is more than a call with a few tokens.
    const SHORT_PROMPT: u32 = 128;
    let start = &record.start;
    let read = |value: fn(&MachineState) -> bool| record.states.iter().any(value);
    let sampled = |value: fn(&Sensors) -> bool| record.sensors.iter().any(value);
    let sensors = [
        (
            "energy",
            summary.energy.is_some()
                || read(|s| s.energy_uj.as_ref().is_some_and(|rails| !rails.is_empty())),
        ),
        ("thermal state", read(|s| s.thermal_state.is_some())),
        ("power source", read(|s| s.power_source.is_some())),
        (
            "energy mode",
            read(|s| {
                s.power_mode.is_some() || s.power_mode_name.is_some() || s.low_power_mode.is_some()
            }),
        ),
        (
            "GPU clock",
            read(|s| s.gpu_clock_hz.is_some()) || sampled(|s| s.gpu_clock_hz.is_some()),
        ),
        (
            "GPU temperature",
            read(|s| s.gpu_temperature_mc.is_some()) || sampled(|s| s.gpu_temperature_mc.is_some()),
        ),
        (
            "swap",
            summary.memory.swap.is_some() || read(|s| s.swap_used_bytes.is_some()),
        ),
        (
            "process footprint while training",
            summary.memory.footprint.is_some(),
        ),
    ];
    Limits {
        few_iterations: summary
            .training
            .as_ref()
            .map(|training| training.iterations)
            .filter(|&iterations| iterations < FEW),
        shortest_prompt: summary
            .generations
            .iter()
            .map(|generation| generation.prompt_tokens)
            .min()
            .filter(|&tokens| tokens < SHORT_PROMPT),
        judged_texts: summary
            .generations
            .iter()
            .any(|generation| matches!(generation.quality, Quality::Judged(_))),
        debug_build: start.lfmark.profile == "debug",
        dirty: start.lfmark.dirty == Some(true),
        commit_known: start.lfmark.commit.is_some(),
        virtual_machine: start.machine.virtual_machine == Some(true),
        compiled_apart: record
            .phases
            .iter()
            .any(|phase| phase.phase == PhaseKind::Compile),
        no_level: summary
            .steadiness
            .map(|judged| judged.verdict)
            .filter(|&verdict| verdict != steadiness::Verdict::Steady)
            .map(steadiness::Verdict::word),
        hidden_growth: summary
            .memory
            .growth
            .map(|growth| growth.active)
            .filter(|active| matches!(active.verdict, Flat | CannotTell))
            .map(|active| HiddenGrowth {
                bytes: active
                    .smallest_visible
                    .map(|bytes| units::significant(bytes, 3)),
                mib: active
                    .smallest_visible
                    .shown(|bytes| units::significant(mib_per_thousand(bytes), 3)),
                power: percent(summary.rules.leak.power),
            }),
        footprint_judged: summary
            .memory
            .growth
            .and_then(|growth| growth.footprint?.slope)
            .is_some(),
        unread: sensors
            .iter()
            .filter(|(_, read)| !read)
            .map(|(name, _)| *name)
            .collect(),
    }
}
