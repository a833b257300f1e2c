//! Whether the machine was in one state during a run, and all of it this run's to use.
//!
//! Only what was read can mark a run: a machine that tells little has few marks, and the report
//! names what it did not tell.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::record::MachineState;
use crate::rules::ValidityRules;
use crate::store::Record;

/// Something that happened to the machine, or is true of it, that a comparison has to know.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
#[serde(tag = "mark", rename_all = "snake_case")]
pub enum Mark {
    ThermalStateRose {
        from: u32,
        to: u32,
    },
    PowerSourceChanged {
        from: String,
        to: String,
    },
    EnergyModeChanged {
        from: String,
        to: String,
    },
    SwapGrew {
        bytes: u64,
    },
    /// The GPU lowered its clock for heat or by hardware.
    GpuSlowed {
        reasons: Vec<String>,
    },
    VirtualMachine,
    /// Other guests of the same hardware had this share of the CPU time.
    TimeStolen {
        share: f64,
    },
}

/// What the marks of a run come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Unmarked,
    SharedHardware,
    Disturbed,
}

impl Verdict {
    /// As [`crate::rules::WORDS`] has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disturbed => "disturbed",
            Self::SharedHardware => "shared hardware",
            Self::Unmarked => "unmarked",
        }
    }
}

impl Mark {
    /// What a run with this mark is.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::ThermalStateRose { .. }
            | Self::PowerSourceChanged { .. }
            | Self::EnergyModeChanged { .. }
            | Self::SwapGrew { .. }
            | Self::GpuSlowed { .. } => Verdict::Disturbed,
            Self::VirtualMachine | Self::TimeStolen { .. } => Verdict::SharedHardware,
        }
    }

    /// What happened, as the end of a sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::ThermalStateRose { from, to } => {
                format!("the thermal state rose from {from} to {to}")
            }
            Self::PowerSourceChanged { from, to } => {
                format!("the power source changed from {from} to {to}")
            }
            Self::EnergyModeChanged { from, to } => {
                format!("the energy mode changed from {from} to {to}")
            }
            Self::SwapGrew { bytes } => format!("swap in use grew by {} MB", bytes / 1_000_000),
            Self::GpuSlowed { reasons } => {
                format!("the GPU lowered its clock ({})", reasons.join(", "))
            }
            Self::VirtualMachine => {
                "it ran in a virtual machine, whose hardware other guests may share".to_owned()
            }
            Self::TimeStolen { share } => format!(
                "other guests of the hardware had {:.1} % of the CPU time",
                100.0 * share
            ),
        }
    }
}

/// What the marks come to together.
pub fn verdict(marks: &[Mark]) -> Verdict {
    let verdicts = marks.iter().map(Mark::verdict);
    verdicts.max().unwrap_or(Verdict::Unmarked)
}

/// The state of the machine during a run, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// The first thermal state, and the highest from then on.
    pub thermal: Option<(u32, u32)>,
    /// The first source of power and energy mode. Where one changed later, the run has a [`Mark`].
    pub power_source: Option<String>,
    pub energy_mode: Option<String>,
    /// Share of the CPU time that other guests had.
    pub stolen: Option<f64>,
}

impl Conditions {
    /// Of the whole run.
    pub fn of(record: &Record) -> Self {
        let states = &record.states;
        Self {
            thermal: thermal(record),
            power_source: states.iter().find_map(|it| it.power_source.clone()),
            energy_mode: states.iter().find_map(energy_mode),
            stolen: stolen(states),
        }
    }
}

/// NVML's reasons that stand for heat or for a brake of the hardware. A limit of power is how a
/// GPU runs at full load, and no mark.
const SLOWDOWNS: [&str; 4] = [
    "hw_power_brake_slowdown",
    "hw_slowdown",
    "hw_thermal_slowdown",
    "sw_thermal_slowdown",
];

/// Every mark of a run, what disturbed it first.
pub fn marks(record: &Record, rules: &ValidityRules) -> Vec<Mark> {
    let states = &record.states;
    let mut marks = Vec::new();
    if let Some((from, to)) = thermal(record)
        && to > from
    {
        marks.push(Mark::ThermalStateRose { from, to });
    }
    if let Some((from, to)) = change(states, |state| state.power_source.clone()) {
        marks.push(Mark::PowerSourceChanged { from, to });
    }
    if let Some((from, to)) = change(states, energy_mode) {
        marks.push(Mark::EnergyModeChanged { from, to });
    }
    if let Some(bytes) = swap_growth(record)
        && bytes as f64 > rules.swap_growth_bytes
    {
        marks.push(Mark::SwapGrew { bytes });
    }
    let reasons = slowdowns(record);
    if !reasons.is_empty() {
        marks.push(Mark::GpuSlowed { reasons });
    }
    if record.start.machine.virtual_machine == Some(true) {
        marks.push(Mark::VirtualMachine);
    }
    if let Some(share) = stolen(states)
        && share > rules.steal_share
    {
        marks.push(Mark::TimeStolen { share });
    }
    marks
}

/// The first thermal state that was read, and the highest.
fn thermal(record: &Record) -> Option<(u32, u32)> {
    let states = record.states.iter().map(|it| (it.at_ns, it.thermal_state));
    let sensors = record.sensors.iter().map(|it| (it.at_ns, it.thermal_state));
    let mut read: Vec<(u64, u32)> = states
        .chain(sensors)
        .filter_map(|(at_ns, state)| Some((at_ns, state?)))
        .collect();
    read.sort_by_key(|&(at_ns, _)| at_ns);
    let from = read.first()?.1;
    let to = read.iter().map(|&(_, state)| state).max()?;
    Some((from, to))
}

fn change(
    states: &[MachineState],
    value: impl Fn(&MachineState) -> Option<String>,
) -> Option<(String, String)> {
    let mut values = states.iter().filter_map(value);
    let first = values.next()?;
    let other = values.find(|value| *value != first)?;
    Some((first, other))
}

/// By its name, or its number where it has none, or whether the power is low.
fn energy_mode(state: &MachineState) -> Option<String> {
    let number = || state.power_mode.map(|mode| mode.to_string());
    let low = || match state.low_power_mode? {
        true => Some("low power".to_owned()),
        false => Some("not low power".to_owned()),
    };
    state.power_mode_name.clone().or_else(number).or_else(low)
}

/// The largest swap in use less the one before training.
pub(crate) fn swap_growth(record: &Record) -> Option<u64> {
    let before = record.states.first()?.swap_used_bytes?;
    let states = record.states.iter().filter_map(|it| it.swap_used_bytes);
    let later = states.chain(record.iterations.iter().filter_map(|it| it.swap_bytes));
    later.max().map(|most| most.saturating_sub(before))
}

fn slowdowns(record: &Record) -> Vec<String> {
    let states = record.states.iter().map(|it| &it.gpu_throttle_reasons);
    let sensors = record.sensors.iter().map(|it| &it.gpu_throttle_reasons);
    let found: BTreeSet<&String> = states
        .chain(sensors)
        .flatten()
        .flatten()
        .filter(|reason| SLOWDOWNS.contains(&reason.as_str()))
        .collect();
    found.into_iter().cloned().collect()
}

/// Share of the CPU time between the first and the last reading that other guests had.
pub fn stolen(states: &[MachineState]) -> Option<f64> {
    let times = |state: &MachineState| Some((state.cpu_total_ms?, state.cpu_steal_ms?));
    let (total, steal) = states.iter().find_map(times)?;
    let (last_total, last_steal) = states.iter().rev().find_map(times)?;
    let passed = last_total.checked_sub(total).filter(|&ms| ms > 0)?;
    Some(last_steal.checked_sub(steal)? as f64 / passed as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Event, Sensors};
    use crate::{store, testing};

    fn record(states: &[MachineState], sensors: &[Sensors], vm: Option<bool>) -> Record {
        let mut start = testing::start();
        start.machine.virtual_machine = vm;
        let mut events = vec![Event::Start(Box::new(start))];
        events.extend(states.iter().cloned().map(Event::MachineState));
        events.extend(sensors.iter().cloned().map(Event::Sensors));
        store::parse(&testing::text(&events)).unwrap()
    }

    fn check(states: &[MachineState], vm: Option<bool>, expected: &[&str], verdict: Verdict) {
        let marks = marks(&record(states, &[], vm), &ValidityRules::default());
        let sentences: Vec<String> = marks.iter().map(Mark::sentence).collect();
        assert_eq!(sentences, expected);
        assert_eq!(super::verdict(&marks), verdict);
    }

    fn state() -> MachineState {
        MachineState {
            thermal_state: Some(0),
            power_source: Some("ac".to_owned()),
            power_mode: Some(0),
            swap_used_bytes: Some(1 << 30),
            cpu_total_ms: Some(1_000_000),
            cpu_steal_ms: Some(90_000),
            ..MachineState::default()
        }
    }

    #[test]
    fn a_machine_in_one_state_has_no_mark() {
        let later = MachineState {
            swap_used_bytes: Some((1 << 30) + (64 << 20)),
            cpu_total_ms: Some(1_100_000),
            cpu_steal_ms: Some(91_000),
            ..state()
        };
        check(&[state(), later], Some(false), &[], Verdict::Unmarked);
        check(&[MachineState::default()], None, &[], Verdict::Unmarked);
        check(&[], None, &[], Verdict::Unmarked);
    }

    #[test]
    fn every_change_is_a_mark() {
        let hot = MachineState {
            thermal_state: Some(2),
            ..state()
        };
        let one = |state: MachineState, sentence: &str| {
            check(
                &[self::state(), state],
                None,
                &[sentence],
                Verdict::Disturbed,
            );
        };
        one(hot.clone(), "the thermal state rose from 0 to 2");
        one(
            MachineState {
                power_source: Some("battery".to_owned()),
                ..state()
            },
            "the power source changed from ac to battery",
        );
        one(
            MachineState {
                power_mode: Some(1),
                ..state()
            },
            "the energy mode changed from 0 to 1",
        );
        one(
            MachineState {
                swap_used_bytes: Some(2 << 30),
                ..state()
            },
            "swap in use grew by 1073 MB",
        );
        one(
            MachineState {
                gpu_throttle_reasons: Some(vec![
                    "sw_power_cap".to_owned(),
                    "sw_thermal_slowdown".to_owned(),
                ]),
                ..state()
            },
            "the GPU lowered its clock (sw_thermal_slowdown)",
        );
        // A machine that cools down is no worse.
        check(&[hot, state()], None, &[], Verdict::Unmarked);
    }

    #[test]
    fn shared_hardware_is_marked_and_disturbs_nothing() {
        let stolen = MachineState {
            cpu_total_ms: Some(1_100_000),
            cpu_steal_ms: Some(100_000),
            ..state()
        };
        check(
            &[state(), stolen],
            Some(true),
            &[
                "it ran in a virtual machine, whose hardware other guests may share",
                "other guests of the hardware had 10.0 % of the CPU time",
            ],
            Verdict::SharedHardware,
        );
    }

    #[test]
    fn a_rise_between_two_readings_of_the_state_shows_in_the_sensors() {
        let hot = Sensors {
            at_ns: 5,
            thermal_state: Some(1),
            ..Sensors::default()
        };
        let after = MachineState {
            at_ns: 9,
            ..state()
        };
        let marks = marks(
            &record(&[state(), after], &[hot], None),
            &ValidityRules::default(),
        );
        assert_eq!(marks, [Mark::ThermalStateRose { from: 0, to: 1 }]);
    }
}
