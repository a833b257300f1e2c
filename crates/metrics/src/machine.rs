//! Facts about the machine and its state, without names of hosts or users.
//!
//! Where a fact comes from differs between the systems, and the module `system` below has one
//! version for each. What cannot be read is `None`.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::clock::SystemClock;
use crate::footprint::FootprintReader;
use crate::record::{Machine, MachineState};
use crate::sampler::Sampler;

/// Reads what can be known of the machine, and what changes on it.
pub struct Reader {
    system: system::Reader,
}

impl Reader {
    /// A reader that also asks the driver of the GPU with this UUID, as MLX names it.
    pub fn for_gpu(uuid: Option<&str>) -> Self {
        Self {
            system: system::Reader::new(uuid),
        }
    }

    /// Facts that do not change while the machine runs. The `gpu` is left `None` where the driver
    /// does not name it.
    pub fn machine(&self) -> Machine {
        let mut machine = common();
        self.system.describe(&mut machine);
        machine
    }

    /// The machine's state of this moment, `at_ns` after process start.
    pub fn state(&self, at_ns: u64, footprint: &mut FootprintReader) -> MachineState {
        let process = footprint.read();
        let mut state = MachineState {
            at_ns,
            swap_used_bytes: process.swap_bytes,
            footprint_bytes: process.footprint_bytes,
            load_milli: System::load_average()
                .ok()
                .and_then(|load| thousandths(load.one)),
            ..MachineState::default()
        };
        self.system.read(&mut state);
        state
    }
}

/// Samples power and temperature, of the GPU with this UUID where there is one. Whether anything
/// tells the power, [`Sampler::sampling`] says.
pub fn sampler(clock: SystemClock, gpu_uuid: Option<String>, with_gpu: bool) -> Option<Sampler> {
    Sampler::start(clock, move || system::source(gpu_uuid.as_deref(), with_gpu))
}

/// What [`sampler`] reads, of the first GPU that there is.
#[cfg(not(target_os = "macos"))]
pub(crate) fn source() -> Option<impl crate::sampler::Source> {
    system::source(None, true)
}

/// What every system is asked in the same way.
fn common() -> Machine {
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
        ..Machine::default()
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

#[cfg(target_os = "linux")]
mod system {
    use super::has_hypervisor;
    use crate::linux::{self, RaplZone};
    use crate::nvidia::{self, Gpu};
    use crate::record::{Machine, MachineState, Sensors};
    use crate::sampler::Source;

    pub(super) struct Reader {
        gpu: Option<Gpu>,
    }

    impl Reader {
        pub(super) fn new(uuid: Option<&str>) -> Self {
            Self {
                gpu: Gpu::open(uuid),
            }
        }

        pub(super) fn describe(&self, machine: &mut Machine) {
            let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").ok();
            machine.virtual_machine = cpuinfo.as_deref().and_then(has_hypervisor);
            machine.cgroup = linux::cgroup(linux::root()).map(|(limits, _)| limits);
            if let Some(gpu) = &self.gpu {
                gpu.describe(machine);
            }
        }

        pub(super) fn read(&self, state: &mut MachineState) {
            let root = linux::root();
            state.power_source = linux::power_source(root).map(str::to_owned);
            state.power_mode_name = linux::platform_profile(root);
            state.cpu_governor = linux::governor(root);
            let stat = std::fs::read_to_string("/proc/stat").ok();
            let times = stat.as_deref().and_then(linux::cpu_times);
            state.cpu_total_ms = times.map(|(total, _)| total);
            state.cpu_steal_ms = times.map(|(_, steal)| steal);
            state.cgroup_throttled_us = linux::cgroup(root).and_then(|(_, throttled)| throttled);
            if let Some(gpu) = &self.gpu {
                gpu.read(state);
            }
        }
    }

    /// The GPU, and the packages of the CPU.
    pub(super) struct Meters {
        gpu: Option<Gpu>,
        zones: Vec<RaplZone>,
    }

    pub(super) fn source(gpu_uuid: Option<&str>, with_gpu: bool) -> Option<Meters> {
        let gpu = with_gpu.then(|| Gpu::open(gpu_uuid)).flatten();
        let zones = linux::rapl_zones(linux::root());
        (gpu.is_some() || !zones.is_empty()).then_some(Meters { gpu, zones })
    }

    impl Source for Meters {
        fn read(&mut self) -> Option<Sensors> {
            let mut sensors = Sensors::default();
            if let Some(gpu) = &self.gpu {
                gpu.sample(&mut sensors);
            }
            for zone in &mut self.zones {
                if let Some(uj) = zone.read() {
                    let energy = sensors.energy_uj.get_or_insert_default();
                    energy.insert(zone.name.clone(), uj);
                }
            }
            Some(sensors)
        }

        fn name(&self, rail: &str) -> &'static str {
            match rail {
                nvidia::RAIL => "NVML",
                _ => "powercap",
            }
        }
    }
}

#[cfg(target_os = "macos")]
mod system {
    use std::process::{Command, Stdio};

    use super::named;
    use crate::record::{Machine, MachineState};
    use crate::{mac, macos};

    pub(super) struct Reader;

    impl Reader {
        pub(super) fn new(_: Option<&str>) -> Self {
            Self
        }

        pub(super) fn describe(&self, machine: &mut Machine) {
            let names = mac::SYSCTL_NAMES;
            let facts = mac::sysctl(&output("/usr/sbin/sysctl", &names).unwrap_or_default());
            // To a program that was linked against an older SDK the kernel tells the version that
            // such programs expect, which is 16 for macOS 26.
            let version = output("/usr/bin/sw_vers", &["-productVersion"]);
            machine.os_version = version
                .as_deref()
                .and_then(named)
                .or(machine.os_version.take());
            let build = output("/usr/bin/sw_vers", &["-buildVersion"]);
            machine.os_build = build.as_deref().and_then(mac::os_build);
            machine.model_id = sysinfo::Product::name().ok().as_deref().and_then(named);
            machine.virtual_machine = macos::virtual_machine().or(facts.virtual_machine);
            machine.cpu_tiers = facts.cpu_tiers;
            machine.gpu_wired_limit_bytes = facts.gpu_wired_limit_bytes;
            let registry = output("/usr/sbin/ioreg", &["-rc", "AGXAccelerator", "-d1"]);
            machine.gpu_cores = registry
                .as_deref()
                .and_then(mac::ioreg_gpu_cores)
                .or_else(|| {
                    // Slower, and needed only where the registry has another form.
                    let arguments = ["SPDisplaysDataType", "-json"];
                    let profile = output("/usr/sbin/system_profiler", &arguments)?;
                    mac::system_profiler_gpu_cores(&profile)
                });
        }

        pub(super) fn read(&self, state: &mut MachineState) {
            state.thermal_state = macos::thermal_state();
            state.low_power_mode = Some(macos::low_power_mode());
            let source = output("/usr/bin/pmset", &["-g", "batt"])
                .as_deref()
                .and_then(mac::power_source);
            state.power_source = source.map(str::to_owned);
            let custom = output("/usr/bin/pmset", &["-g", "custom"]);
            state.power_mode = custom
                .as_deref()
                .zip(source)
                .and_then(|(custom, source)| mac::power_mode(custom, source));
            let name = state.power_mode.and_then(mac::power_mode_name);
            state.power_mode_name = name.map(str::to_owned);
        }
    }

    /// What a program prints, whatever its exit status: `sysctl` fails for a name it lacks, after
    /// printing the others.
    fn output(program: &str, arguments: &[&str]) -> Option<String> {
        let output = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(super) fn source(_: Option<&str>, _: bool) -> Option<macos::Macmon> {
        macos::Macmon::open().ok()
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod system {
    use crate::record::{Machine, MachineState, Sensors};
    use crate::sampler::Source;

    pub(super) struct Reader;

    impl Reader {
        pub(super) fn new(_: Option<&str>) -> Self {
            Self
        }

        pub(super) fn describe(&self, _: &mut Machine) {}

        pub(super) fn read(&self, _: &mut MachineState) {}
    }

    pub(super) enum Nothing {}

    impl Source for Nothing {
        fn read(&mut self) -> Option<Sensors> {
            match *self {}
        }

        fn name(&self, _: &str) -> &'static str {
            match *self {}
        }
    }

    pub(super) fn source(_: Option<&str>, _: bool) -> Option<Nothing> {
        None
    }
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
        let reader = Reader::for_gpu(None);
        let machine = reader.machine();
        let (physical, logical) = (machine.physical_cores, machine.logical_cores);
        assert!(logical.is_some_and(|cores| cores >= physical.unwrap_or(1)));
        assert!(machine.memory_bytes.is_some_and(|bytes| bytes > 1 << 28));
        assert!(machine.os_version.is_some() && machine.kernel.is_some());

        let state = reader.state(17, &mut FootprintReader::new());
        assert_eq!(state.at_ns, 17);
        assert!(state.footprint_bytes.is_some() && state.load_milli.is_some());
        // Each system has what the other lacks.
        let on_mac = cfg!(target_os = "macos");
        assert_eq!(state.thermal_state.is_some(), on_mac);
        assert_eq!(state.cpu_total_ms.is_some(), !on_mac);
    }
}
