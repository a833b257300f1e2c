//! Facts about the machine and its state, without names of hosts or users.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::footprint::FootprintReader;
use crate::record::{Machine, MachineState};

/// Reads what the operating system says about the machine.
///
/// What the accelerator's own library has to say (`gpu`, `gpu_cores`) is left `None`.
pub fn machine() -> Machine {
    let kinds = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kinds).ok();
    let cpu = system
        .as_ref()
        .and_then(|system| system.cpus().first())
        .and_then(|cpu| named(cpu.brand()));
    let logical_cores = system
        .as_ref()
        .and_then(|system| counted(system.cpus().len()));
    let on_mac = cfg!(target_os = "macos");
    Machine {
        os: std::env::consts::OS.to_owned(),
        os_version: os_version(),
        kernel: System::kernel_version().ok().as_deref().and_then(named),
        arch: std::env::consts::ARCH.to_owned(),
        chip: cpu.clone().filter(|_| on_mac),
        cpu,
        physical_cores: System::physical_core_count().ok().and_then(counted),
        logical_cores,
        memory_bytes: system
            .map(|system| system.total_memory())
            .filter(|&bytes| bytes > 0),
        model_id: mac_model_id(),
        gpu: None,
        gpu_cores: None,
        virtual_machine: virtual_machine(),
    }
}

/// Reads the machine's state of this moment, `at_ns` after process start.
///
/// Thermal state, power, energy and the GPU's clock and temperature are not read.
pub fn state(at_ns: u64, footprint: &mut FootprintReader) -> MachineState {
    let process = footprint.read();
    MachineState {
        at_ns,
        swap_used_bytes: process.swap_bytes,
        footprint_bytes: process.footprint_bytes,
        load_milli: System::load_average()
            .ok()
            .and_then(|load| thousandths(load.one)),
        ..MachineState::default()
    }
}

/// The version of macOS, or a distribution of Linux with its version.
fn os_version() -> Option<String> {
    let version = System::os_version().ok().as_deref().and_then(named);
    if !cfg!(target_os = "linux") {
        return version;
    }
    let name = System::name().ok().as_deref().and_then(named)?;
    Some(match version {
        Some(version) => format!("{name} {version}"),
        None => name,
    })
}

#[cfg(target_os = "macos")]
fn mac_model_id() -> Option<String> {
    sysinfo::Product::name().ok().as_deref().and_then(named)
}

#[cfg(not(target_os = "macos"))]
fn mac_model_id() -> Option<String> {
    None
}

#[cfg(target_os = "macos")]
fn virtual_machine() -> Option<bool> {
    crate::macos::virtual_machine()
}

#[cfg(target_os = "linux")]
fn virtual_machine() -> Option<bool> {
    has_hypervisor(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn virtual_machine() -> Option<bool> {
    None
}

/// Whether `/proc/cpuinfo` shows the bit by which a hypervisor tells its guest of itself. Only
/// x86 has it; elsewhere there is no line of flags.
#[cfg(any(target_os = "linux", test))]
fn has_hypervisor(cpuinfo: &str) -> Option<bool> {
    cpuinfo.lines().find_map(|line| {
        let (key, flags) = line.split_once(':')?;
        (key.trim_end() == "flags").then(|| flags.split_whitespace().any(|f| f == "hypervisor"))
    })
}

/// A name that says something.
fn named(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A count of something that every machine has at least one of.
fn counted(count: usize) -> Option<u32> {
    u32::try_from(count).ok().filter(|&count| count > 0)
}

fn thousandths(value: f64) -> Option<u64> {
    (value.is_finite() && value >= 0.0).then(|| (value * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hypervisor_shows_in_the_flags_of_x86() {
        let guest = "processor\t: 0\nflags\t\t: fpu vme hypervisor lahf_lm\nbugs\t\t: spectre\n";
        let bare = "processor\t: 0\nflags\t\t: fpu vme lahf_lm\n";
        let arm = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x61\n";
        assert_eq!(has_hypervisor(guest), Some(true));
        assert_eq!(has_hypervisor(bare), Some(false));
        assert_eq!(has_hypervisor(arm), None);
    }

    #[test]
    fn load_is_stored_in_thousandths() {
        assert_eq!(thousandths(0.36), Some(360));
        assert_eq!(thousandths(12.3456), Some(12_346));
        assert_eq!(thousandths(f64::NAN), None);
        assert_eq!(thousandths(-1.0), None);
    }

    #[test]
    fn empty_answers_are_none() {
        assert_eq!(named("  "), None);
        assert_eq!(named(" Apple M4 Max "), Some("Apple M4 Max".to_owned()));
        assert_eq!(counted(0), None);
        assert_eq!(counted(8), Some(8));
    }

    #[cfg(any(target_os = "linux", target_os = "macos"))]
    #[test]
    fn this_machine_has_cores_memory_and_a_state() {
        let machine = machine();
        let (physical, logical) = (machine.physical_cores, machine.logical_cores);
        assert!(logical.is_some_and(|cores| cores >= physical.unwrap_or(1)));
        assert!(machine.memory_bytes.is_some_and(|bytes| bytes > 1 << 28));
        assert!(machine.os_version.is_some() && machine.kernel.is_some());

        let state = state(17, &mut FootprintReader::new());
        assert_eq!(state.at_ns, 17);
        assert!(state.footprint_bytes.is_some() && state.load_milli.is_some());
        assert_eq!(state.thermal_state, None);
    }
}
