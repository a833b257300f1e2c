//! The machine, and what was read of its state.

use std::collections::{BTreeMap, BTreeSet};

use metrics::record::MachineState;
use metrics::store::Record;

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
                "{}, version {}",
                escape(&machine.os),
                text(&machine.os_version)
            ),
            fields(&["start.machine.os", "start.machine.os_version"]),
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
            "Native set-up",
            setup,
            fields(&[
                "start.lfmark.native_setup.wall_ms",
                "start.lfmark.native_setup.installed_bytes",
            ]),
        ),
    ])
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
            |&hz| format!("{} MHz", units::fixed(hz as f64 / 1e6, 0)),
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
