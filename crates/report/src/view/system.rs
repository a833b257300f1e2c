//! The machine, and what was read of its state.

use std::collections::{BTreeMap, BTreeSet};

use metrics::metallib::{NeuralAccelerators, neural_accelerators};
use metrics::record::{Cgroup, CpuTier, MachineState, Metallib};
use metrics::store::Record;
use serde::Serialize;

use super::fields::{field, fields};
use super::{Shown, facts};
use crate::markdown::{Align, escape, table};
use crate::units::{self, NOT_MEASURED};

/// The machine and the MLX library.
pub(super) fn system(record: &Record) -> String {
    let start = &record.start;
    let (machine, mlx) = (&start.machine, &start.mlx);
    let text = |value: &Option<String>| value.as_deref().shown(escape);
    let number = |value: Option<u32>| value.shown(|value| units::count(value.into()));
    let bytes = |value: Option<u64>| value.shown(units::bytes);
    let setup = start.lfmark.native_setup.shown(|setup| {
        format!(
            "{} and {} on disk",
            units::duration(setup.wall_ms.saturating_mul(1_000_000)),
            units::bytes(setup.installed_bytes)
        )
    });
    let variables: Vec<_> = mlx
        .variables
        .iter()
        .map(|(name, value)| escape(&format!("{name}={value}")))
        .collect();
    facts([
        ("CPU", text(&machine.cpu), field("start.machine.cpu")),
        (
            "CPU cores",
            format!(
                "{} physical, {} logical",
                number(machine.physical_cores),
                number(machine.logical_cores)
            ),
            fields(&[
                "start.machine.physical_cores",
                "start.machine.logical_cores",
            ]),
        ),
        (
            "Memory",
            bytes(machine.memory_bytes),
            field("start.machine.memory_bytes"),
        ),
        ("Chip", text(&machine.chip), field("start.machine.chip")),
        (
            "Machine model",
            text(&machine.model_id),
            field("start.machine.model_id"),
        ),
        ("GPU", text(&machine.gpu), field("start.machine.gpu")),
        (
            "GPU cores",
            number(machine.gpu_cores),
            field("start.machine.gpu_cores"),
        ),
        (
            "CPU cores by kind",
            machine.cpu_tiers.as_deref().shown(tiers),
            field("start.machine.cpu_tiers"),
        ),
        (
            "Limit of GPU memory, set by hand",
            bytes(machine.gpu_wired_limit_bytes),
            field("start.machine.gpu_wired_limit_bytes"),
        ),
        (
            "GPU driver",
            text(&machine.gpu_driver),
            field("start.machine.gpu_driver"),
        ),
        (
            "GPU power limit",
            machine
                .gpu_power_limit_uw
                .shown(|uw| format!("{} W", units::fixed(uw as f64 / 1e6, 0))),
            field("start.machine.gpu_power_limit_uw"),
        ),
        (
            "Highest GPU clock",
            machine.gpu_max_clock_hz.shown(megahertz),
            field("start.machine.gpu_max_clock_hz"),
        ),
        (
            "Limits of the control group",
            machine.cgroup.shown(cgroup),
            field("start.machine.cgroup"),
        ),
        (
            "Virtual machine",
            machine
                .virtual_machine
                .map_or(
                    NOT_MEASURED,
                    |is_virtual| if is_virtual { "yes" } else { "no" },
                )
                .to_owned(),
            field("start.machine.virtual_machine"),
        ),
        (
            "Operating system",
            format!(
                "{}, version {}{}",
                escape(&machine.os),
                text(&machine.os_version),
                machine
                    .os_build
                    .as_deref()
                    .map_or(String::new(), |build| format!(", build {}", escape(build)))
            ),
            fields(&[
                "start.machine.os",
                "start.machine.os_version",
                "start.machine.os_build",
            ]),
        ),
        (
            "Kernel",
            text(&machine.kernel),
            field("start.machine.kernel"),
        ),
        (
            "CPU architecture",
            escape(&machine.arch),
            field("start.machine.arch"),
        ),
        (
            "MLX version",
            escape(&mlx.version),
            field("start.mlx.version"),
        ),
        (
            "MLX back end",
            escape(&mlx.backend),
            field("start.mlx.backend"),
        ),
        (
            "MLX device",
            text(&mlx.device_name),
            field("start.mlx.device_name"),
        ),
        (
            "MLX device architecture",
            text(&mlx.architecture),
            field("start.mlx.architecture"),
        ),
        (
            "Device memory",
            bytes(mlx.device_memory_bytes),
            field("start.mlx.device_memory_bytes"),
        ),
        (
            "Recommended working set",
            bytes(mlx.working_set_bytes),
            field("start.mlx.working_set_bytes"),
        ),
        ("BLAS", text(&mlx.blas), field("start.mlx.blas")),
        (
            "Variables of MLX",
            match mlx.variables.is_empty() {
                true => "none".to_owned(),
                false => variables.join(", "),
            },
            field("start.mlx.variables"),
        ),
        (
            "Metal kernels",
            mlx.metallib.as_ref().shown(metallib),
            field("start.mlx.metallib"),
        ),
        (
            "Neural accelerators",
            match neural_accelerators(mlx, machine) {
                NeuralAccelerators::None => "the device has none",
                NeuralAccelerators::Used => "used",
                NeuralAccelerators::OldSystem => "not measured: macOS is older than 26.2",
                NeuralAccelerators::NoKernels => "not used: the library has no kernels for them",
                NeuralAccelerators::Unknown => NOT_MEASURED,
            }
            .to_owned(),
            fields(&["start.mlx.architecture", "start.mlx.metallib"]),
        ),
        (
            "Native set-up",
            setup,
            fields(&[
                "start.lfmark.native_setup.wall_ms",
                "start.lfmark.native_setup.installed_bytes",
            ]),
        ),
    ])
}

/// How the run waited for the machine.
#[derive(Debug, Serialize)]
pub(super) struct SettledView {
    waited: String,
    awake_by: Option<String>,
    unmet: Option<String>,
    unread: Option<String>,
}

pub(super) fn settled(record: &Record) -> Option<SettledView> {
    let settled = record.start.settled.as_ref()?;
    let listed =
        |texts: &[String], separator| (!texts.is_empty()).then(|| escape(&texts.join(separator)));
    Some(SettledView {
        waited: units::duration(settled.waited_ns),
        awake_by: settled.awake_by.as_deref().map(escape),
        unmet: listed(&settled.unmet, "; "),
        unread: listed(&settled.unread, ", "),
    })
}

fn tiers(tiers: &[CpuTier]) -> String {
    let tiers = tiers.iter().map(|tier| {
        let name = tier.name.as_deref().map_or("unnamed".to_owned(), escape);
        format!("{} {name}", units::count(tier.physical_cores.into()))
    });
    tiers.collect::<Vec<_>>().join(", ")
}

fn cgroup(limits: Cgroup) -> String {
    let none = || "no limit".to_owned();
    let cpus = |milli: u64| format!("{} CPUs", units::fixed(milli as f64 / 1e3, 2));
    format!(
        "memory {}, CPU time {}",
        limits.memory_bytes.map_or_else(none, units::bytes),
        limits.cpu_milli.map_or_else(none, cpus)
    )
}

fn metallib(library: &Metallib) -> String {
    format!(
        "{}, built for macOS {}, {} kernels for neural accelerators",
        units::bytes(library.bytes),
        library.built_for.as_deref().shown(escape),
        match library.neural_accelerators {
            true => "with",
            false => "without",
        }
    )
}

fn megahertz(hz: u64) -> String {
    format!("{} MHz", units::fixed(hz as f64 / 1e6, 0))
}

/// What was read of the machine's state, from its first reading to its last.
pub(super) fn machine_state(states: &[MachineState]) -> String {
    fn row<T>(
        name: &str,
        field: &str,
        states: &[MachineState],
        read: impl Fn(&MachineState) -> Option<T>,
        write: impl Fn(&T) -> String,
    ) -> [String; 5] {
        let values: Vec<T> = states.iter().filter_map(read).collect();
        let cell = |value: Option<&T>| value.shown(&write);
        [
            name.to_owned(),
            cell(values.first()),
            cell(values.last()),
            units::count(values.len() as u64),
            self::field(&format!("machine_state.{field}")),
        ]
    }
    let mode = |state: &MachineState| {
        let name = state.power_mode_name.as_deref().map(escape);
        match (state.power_mode, name) {
            (Some(number), Some(name)) => Some(format!("{number} ({name})")),
            (Some(number), None) => Some(number.to_string()),
            (None, name) => name,
        }
    };
    let mut rows = vec![
        row(
            "Thermal state",
            "thermal_state",
            states,
            |s| s.thermal_state,
            |&state| match state {
                0 => "0 (nominal)".to_owned(),
                1 => "1 (fair)".to_owned(),
                2 => "2 (serious)".to_owned(),
                3 => "3 (critical)".to_owned(),
                other => other.to_string(),
            },
        ),
        row(
            "Power source",
            "power_source",
            states,
            |s| s.power_source.as_deref().map(escape),
            String::clone,
        ),
        row("Energy mode", "power_mode", states, mode, String::clone),
        row(
            "Low Power Mode",
            "low_power_mode",
            states,
            |s| s.low_power_mode,
            |&on| if on { "on" } else { "off" }.to_owned(),
        ),
        row(
            "CPU governor",
            "cpu_governor",
            states,
            |s| s.cpu_governor.as_deref().map(escape),
            String::clone,
        ),
        row(
            "CPU time of other guests, since the machine started",
            "cpu_steal_ms",
            states,
            |s| s.cpu_steal_ms.zip(s.cpu_total_ms),
            |&(steal, total)| units::share(steal as f64, total as f64),
        ),
        row(
            "Time held back by the control group",
            "cgroup_throttled_us",
            states,
            |s| s.cgroup_throttled_us,
            |&us| units::duration(us.saturating_mul(1_000)),
        ),
        row(
            "Swap in use",
            "swap_used_bytes",
            states,
            |s| s.swap_used_bytes,
            |&bytes| units::bytes(bytes),
        ),
        row(
            "Process footprint",
            "footprint_bytes",
            states,
            |s| s.footprint_bytes,
            |&bytes| units::bytes(bytes),
        ),
        row(
            "GPU clock",
            "gpu_clock_hz",
            states,
            |s| s.gpu_clock_hz,
            |&hz| megahertz(hz),
        ),
        row(
            "GPU memory clock",
            "gpu_memory_clock_hz",
            states,
            |s| s.gpu_memory_clock_hz,
            |&hz| megahertz(hz),
        ),
        row(
            "Reasons for a lower GPU clock",
            "gpu_throttle_reasons",
            states,
            |s| s.gpu_throttle_reasons.clone(),
            |reasons| match reasons.is_empty() {
                true => "none".to_owned(),
                false => escape(&reasons.join(", ")),
            },
        ),
        row(
            "GPU temperature",
            "gpu_temperature_mc",
            states,
            |s| s.gpu_temperature_mc,
            |&mc| format!("{} °C", units::fixed(mc as f64 / 1e3, 1)),
        ),
        row(
            "Load average over one minute",
            "load_milli",
            states,
            |s| s.load_milli,
            |&milli| units::fixed(milli as f64 / 1e3, 2),
        ),
    ];
    let rails: BTreeSet<&String> = states
        .iter()
        .filter_map(|state| state.energy_uj.as_ref())
        .flat_map(BTreeMap::keys)
        .collect();
    let joules = |uj: &u64| format!("{} J", units::fixed(*uj as f64 / 1e6, 3));
    if rails.is_empty() {
        rows.push(row("Energy counter", "energy_uj", states, |_| None, joules));
    }
    for rail in rails {
        let name = format!("Energy counter, {}", escape(rail));
        rows.push(row(
            &name,
            "energy_uj",
            states,
            |s| s.energy_uj.as_ref()?.get(rail).copied(),
            joules,
        ));
    }
    table(
        [
            ("Quantity", Align::Left),
            ("First reading", Align::Right),
            ("Last reading", Align::Right),
            ("Readings", Align::Right),
            ("Field", Align::Left),
        ],
        &rows,
    )
}
