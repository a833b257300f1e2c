//! What would make the numbers of a machine better, what it can fit, and what cannot be read
//! here.

use schemars::JsonSchema;
use serde::Serialize;

use crate::headroom::{Capacity, Headroom, capacity};
use crate::metallib::{NeuralAccelerators, neural_accelerators};
use crate::readiness::{ReadinessRules, Readings};
use crate::record::{Machine, MachineState, Mlx, Sampling};

/// What is known of a machine at one moment.
#[derive(Clone, Debug)]
pub struct Examined {
    /// `release` or `debug`.
    pub profile: String,
    pub mlx: Mlx,
    pub machine: Machine,
    pub state: MachineState,
    pub readings: Readings,
    pub sampling: Option<Sampling>,
}

/// Something that costs speed or makes figures vary, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Advice {
    pub finding: String,
    pub fix: String,
}

/// Everything that can be made better: first what changes every figure of every run, then what
/// changes with the hour, then what cannot be helped on this machine.
pub fn advise(examined: &Examined) -> Vec<Advice> {
    let Examined {
        profile,
        mlx,
        machine,
        state,
        readings,
        sampling: _,
    } = examined;
    let mut advice = Vec::new();
    let mut add = |finding: String, fix: &str| {
        advice.push(Advice {
            finding,
            fix: fix.to_owned(),
        });
    };
    if profile == "debug" {
        add(
            "this is a debug build of lfmark".to_owned(),
            "build it with `cargo build --release`",
        );
    }
    match neural_accelerators(mlx, machine) {
        NeuralAccelerators::NoKernels => {
            let built_for = mlx.metallib.as_ref().and_then(|it| it.built_for.as_ref());
            add(
                format!(
                    "the GPU has neural accelerators, and mlx.metallib{} has no kernels for them",
                    built_for.map_or(String::new(), |it| format!(", built for macOS {it},"))
                ),
                "run `cargo xtask setup --backend metal` on this macOS, which installs the \
                 library built for it; when building MLX from source, do so with the SDK of \
                 macOS 26.2 or newer and MACOSX_DEPLOYMENT_TARGET=26.2",
            );
        }
        NeuralAccelerators::OldSystem => add(
            "the GPU has neural accelerators, and MLX uses them from macOS 26.2 on".to_owned(),
            "update macOS to 26.2 or newer, then run `cargo xtask setup` again",
        ),
        _ => {}
    }
    if state.power_source.as_deref() == Some("battery") {
        add(
            "the machine runs on battery".to_owned(),
            "connect it to mains power",
        );
    }
    if low_power(state) {
        add(
            "the energy mode saves power".to_owned(),
            match machine.os.as_str() {
                "macos" => {
                    "turn Low Power Mode off in System Settings, Battery (Energy on a desktop)"
                }
                _ => "choose another profile, with `powerprofilesctl set performance`",
            },
        );
    }
    if let Some(governor) = &state.cpu_governor
        && governor != "performance"
    {
        add(
            format!("the CPU's clock is governed by {governor}"),
            "set it with `sudo cpupower frequency-set --governor performance`",
        );
    }
    if let Some(thermal) = state.thermal_state
        && thermal > 0
    {
        add(
            format!("the thermal state is {thermal}, and not 0 (nominal)"),
            "let the machine cool down; `lfmark run --settle` waits for it",
        );
    }
    if let Some(share) = readings.other_cpu_milli
        && share > ReadinessRules::default().other_cpu_milli
    {
        add(
            format!(
                "other programs use {:.1} % of the CPUs",
                f64::from(share) / 10.0
            ),
            "close them; `lfmark run --settle` waits until they use less",
        );
    }
    if let Some(bytes) = state.swap_used_bytes
        && bytes > 0
    {
        add(
            format!("{} MB of swap are in use", bytes / 1_000_000),
            "close programs that hold memory; a run during which swap grows is marked",
        );
    }
    if let Some(cgroup) = machine.cgroup
        && let Some(milli) = cgroup.cpu_milli
    {
        add(
            format!(
                "a control group limits this process to {:.2} CPUs",
                milli as f64 / 1_000.0
            ),
            "raise or remove the limit (`cpu.max`), or expect steps that stand still",
        );
    }
    if machine.virtual_machine == Some(true) {
        add(
            "this is a virtual machine".to_owned(),
            "its speed is not the hardware's: compare runs of one set here, and measure the \
             hardware on itself",
        );
    }
    advice
}

/// What can bring the machine down.
pub fn risks(examined: &Examined) -> Vec<Advice> {
    let Examined { mlx, machine, .. } = examined;
    if mlx.backend != "metal" {
        return Vec::new();
    }
    let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "not read".to_owned());
    vec![Advice {
        finding: format!(
            "with wired memory under MLX, users have seen macOS panic and restart (\"prepare count \
             underflow\"); this is macOS {}, build {}",
            said(&machine.os_version),
            said(&machine.os_build)
        ),
        fix: "leave --wired off, as it is unless you set it; mlx-lm wires by itself, so save your \
              work before `lfmark versus`"
            .to_owned(),
    }]
}

/// Whether the machine saves power, by any of the ways in which systems say so.
pub fn low_power(state: &MachineState) -> bool {
    let name = state.power_mode_name.as_deref();
    state.low_power_mode == Some(true)
        || state.power_mode == Some(1)
        || name.is_some_and(|name| ["low power", "low-power"].contains(&name))
}

/// What cannot be read here, and so is in no record.
pub fn unread(examined: &Examined) -> Vec<&'static str> {
    let (state, machine) = (&examined.state, &examined.machine);
    let on_mac = machine.os == "macos";
    let on_gpu = examined.mlx.backend != "cpu";
    let temperature = examined.readings.temperature_mc.is_some();
    let kinds = [
        ("power and energy", true, examined.sampling.is_some()),
        ("temperature", true, temperature),
        ("thermal state", on_mac, state.thermal_state.is_some()),
        ("power source", true, state.power_source.is_some()),
        (
            "energy mode",
            true,
            state.power_mode.is_some()
                || state.power_mode_name.is_some()
                || state.low_power_mode.is_some(),
        ),
        ("CPU governor", !on_mac, state.cpu_governor.is_some()),
        (
            "limits of the control group",
            !on_mac,
            machine.cgroup.is_some(),
        ),
        ("stolen CPU time", !on_mac, state.cpu_steal_ms.is_some()),
        ("kinds of CPU cores", on_mac, machine.cpu_tiers.is_some()),
        ("GPU cores", on_mac, machine.gpu_cores.is_some()),
        ("GPU clock", on_gpu && !on_mac, state.gpu_clock_hz.is_some()),
        (
            "reasons for a lower GPU clock",
            on_gpu && !on_mac,
            state.gpu_throttle_reasons.is_some(),
        ),
        ("swap", true, state.swap_used_bytes.is_some()),
        ("load", true, state.load_milli.is_some()),
        (
            "whether the machine is virtual",
            true,
            machine.virtual_machine.is_some(),
        ),
    ];
    kinds
        .into_iter()
        .filter(|(_, exists, read)| *exists && !read)
        .map(|(name, _, _)| name)
        .collect()
}

/// A model that may be trained here.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub name: String,
    pub parameters: u64,
}

/// What fits of one model.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Fit {
    pub name: String,
    pub parameters: u64,
    pub weight_bytes: u64,
    /// Estimated tokens of the largest batch that can be trained with; 0 where the weights alone
    /// do not fit.
    pub tokens: u64,
}

/// What fits into the machine's memory.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Fits {
    pub capacity_bytes: u64,
    pub capacity: Capacity,
    /// Bytes of a parameter.
    pub bytes_per_parameter: u64,
    /// Estimated parameters of the largest model that can be trained with a row of 512 tokens.
    pub largest_parameters: u64,
    pub models: Vec<Fit>,
}

/// Tokens of the batch that the largest model is estimated for.
pub const TOKENS_OF_LARGEST: u32 = 512;

/// What a run on an H200 took, for machines that have none of their own:
/// `reports/h200-lfm2-1.2b-2`, LFM2-1.2B in bf16 with one row of 96 tokens.
pub const REFERENCE: Headroom = Headroom {
    capacity_bytes: 150_754_820_096,
    capacity: Capacity::DeviceMemory,
    weight_bytes: 2_340_681_216,
    overhead_bytes: 380_171_840,
    rows: 1,
    tokens: 96,
};

/// Estimates what fits, by what a run measured, with so many bytes a parameter; `None` where the
/// machine's memory was not read.
pub fn fits(
    examined: &Examined,
    measured: &Headroom,
    bytes_per_parameter: u64,
    candidates: &[Candidate],
) -> Option<Fits> {
    let (capacity, capacity_bytes) = capacity(&examined.mlx, &examined.machine)?;
    let here = Headroom {
        capacity_bytes,
        capacity,
        ..*measured
    };
    let scale = |parameters: u64| {
        (parameters as f64 * bytes_per_parameter as f64) / here.weight_bytes as f64
    };
    let models = candidates.iter().map(|candidate| Fit {
        name: candidate.name.clone(),
        parameters: candidate.parameters,
        weight_bytes: candidate.parameters * bytes_per_parameter,
        tokens: here.largest_tokens(scale(candidate.parameters)) as u64,
    });
    let largest = here.largest_scale(TOKENS_OF_LARGEST.into());
    Some(Fits {
        capacity_bytes,
        capacity,
        bytes_per_parameter,
        largest_parameters: (largest * here.weight_bytes as f64 / bytes_per_parameter as f64)
            as u64,
        models: models.collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::{Cgroup, Metallib};
    use crate::{store, testing};

    fn examined() -> Examined {
        let start = testing::start();
        Examined {
            profile: "release".to_owned(),
            mlx: start.mlx,
            machine: Machine {
                os: "linux".to_owned(),
                ..start.machine
            },
            state: MachineState::default(),
            readings: Readings::default(),
            sampling: None,
        }
    }

    fn findings(examined: &Examined) -> Vec<String> {
        advise(examined).into_iter().map(|it| it.finding).collect()
    }

    #[test]
    fn a_machine_at_its_best_needs_no_advice() {
        let mut best = examined();
        best.state.power_source = Some("ac".to_owned());
        best.state.cpu_governor = Some("performance".to_owned());
        best.state.thermal_state = Some(0);
        best.state.swap_used_bytes = Some(0);
        best.readings.other_cpu_milli = Some(100);
        best.machine.virtual_machine = Some(false);
        assert_eq!(findings(&best), [""; 0]);
        assert_eq!(findings(&examined()), [""; 0]);
    }

    #[test]
    fn advice_stands_in_the_order_of_what_it_changes() {
        let mut worst = examined();
        worst.profile = "debug".to_owned();
        worst.state.power_source = Some("battery".to_owned());
        worst.state.power_mode_name = Some("low-power".to_owned());
        worst.state.cpu_governor = Some("powersave".to_owned());
        worst.state.thermal_state = Some(1);
        worst.state.swap_used_bytes = Some(5_000_000);
        worst.readings.other_cpu_milli = Some(345);
        worst.machine.cgroup = Some(Cgroup {
            memory_bytes: None,
            cpu_milli: Some(1_500),
        });
        worst.machine.virtual_machine = Some(true);
        assert_eq!(
            findings(&worst),
            [
                "this is a debug build of lfmark",
                "the machine runs on battery",
                "the energy mode saves power",
                "the CPU's clock is governed by powersave",
                "the thermal state is 1, and not 0 (nominal)",
                "other programs use 34.5 % of the CPUs",
                "5 MB of swap are in use",
                "a control group limits this process to 1.50 CPUs",
                "this is a virtual machine",
            ]
        );
    }

    #[test]
    fn a_library_without_kernels_for_the_chip_is_named_with_the_fix() {
        let mut mac = examined();
        mac.machine.os = "macos".to_owned();
        mac.machine.os_version = Some("26.2".to_owned());
        mac.mlx.backend = "metal".to_owned();
        mac.mlx.architecture = Some("applegpu_g17s".to_owned());
        mac.mlx.metallib = Some(Metallib {
            bytes: 135_865_440,
            built_for: Some("14.0".to_owned()),
            neural_accelerators: false,
        });
        let advice = advise(&mac);
        assert_eq!(
            advice[0].finding,
            "the GPU has neural accelerators, and mlx.metallib, built for macOS 14.0, has no \
             kernels for them"
        );
        assert!(advice[0].fix.contains("cargo xtask setup --backend metal"));
        mac.machine.os_version = Some("26.1".to_owned());
        assert!(advise(&mac)[0].fix.contains("update macOS"));
    }

    #[test]
    fn the_risk_of_wired_memory_names_the_system_and_is_one_of_metal() {
        let mut mac = examined();
        assert_eq!(risks(&mac), []);
        mac.mlx.backend = "metal".to_owned();
        mac.machine.os_version = Some("26.5.2".to_owned());
        let risk = |mac: &Examined| risks(mac)[0].finding.clone();
        assert!(risk(&mac).ends_with("macOS 26.5.2, build not read"));
        mac.machine.os_build = Some("25F84".to_owned());
        assert!(risk(&mac).ends_with("macOS 26.5.2, build 25F84"));
    }

    #[test]
    fn what_a_system_does_not_have_is_not_missing() {
        let linux = unread(&examined());
        assert!(linux.contains(&"CPU governor") && !linux.contains(&"thermal state"));
        let mut mac = examined();
        mac.machine.os = "macos".to_owned();
        mac.state.swap_used_bytes = Some(0);
        let mac = unread(&mac);
        assert!(mac.contains(&"thermal state") && !mac.contains(&"CPU governor"));
        assert!(!mac.contains(&"swap"), "{mac:?}");
    }

    #[test]
    fn the_reference_is_what_the_committed_record_measured() {
        let dir =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/records/h200-lfm2-1.2b-2");
        let record = store::read(&dir).unwrap();
        assert_eq!(Headroom::of(&record), Some(REFERENCE));
    }

    #[test]
    fn what_fits_follows_from_what_was_measured() {
        let measured = Headroom {
            capacity_bytes: 1,
            capacity: Capacity::WorkingSet,
            weight_bytes: 1_000,
            overhead_bytes: 500,
            rows: 1,
            tokens: 100,
        };
        let mut here = examined();
        here.machine.memory_bytes = Some(10_000);
        here.mlx.device_memory_bytes = None;
        here.mlx.working_set_bytes = None;
        let candidate = |name: &str, parameters| Candidate {
            name: name.to_owned(),
            parameters,
        };
        let candidates = [candidate("small", 1_000), candidate("large", 6_000)];
        let fits = fits(&here, &measured, 2, &candidates).unwrap();
        assert_eq!(fits.capacity, Capacity::MachineMemory);
        // Twice the measured weights: 2 x (1,000 + 5 x tokens) is 10,000 at 800 tokens.
        assert_eq!(fits.models[0].tokens, 800);
        assert_eq!(
            (fits.models[1].weight_bytes, fits.models[1].tokens),
            (12_000, 0)
        );
        // 1,000 x s + 5 x 512 x s is 10,000 at s = 2.808..; two bytes a parameter.
        assert_eq!(fits.largest_parameters, 1_404);
        here.machine.memory_bytes = None;
        assert_eq!(super::fits(&here, &measured, 2, &[]), None);
    }
}
