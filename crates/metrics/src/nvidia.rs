//! An NVIDIA GPU, as its management library (NVML) describes it.
//!
//! The library is loaded when it is asked for: without a driver there is no GPU here, and no
//! error.

use std::ffi::OsStr;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::{Device, Nvml};

use crate::record::{Machine, MachineState, Sensors};

/// Name of the rail of a sample.
pub const RAIL: &str = "gpu";

/// One GPU.
#[derive(Debug)]
pub struct Gpu {
    nvml: Nvml,
    index: u32,
}

impl Gpu {
    /// The GPU with this UUID, as MLX and NVML write it; without one the only GPU there is.
    pub fn open(uuid: Option<&str>) -> Option<Self> {
        // The name without a number comes with the development files only.
        let nvml = Nvml::init()
            .or_else(|_| {
                Nvml::builder()
                    .lib_path(OsStr::new("libnvidia-ml.so.1"))
                    .init()
            })
            .ok()?;
        let count = nvml.device_count().ok()?;
        let index = match uuid {
            None if count == 1 => 0,
            None => return None,
            Some(uuid) => (0..count).find(|&index| {
                let found = nvml.device_by_index(index).and_then(|device| device.uuid());
                found.is_ok_and(|found| found == uuid)
            })?,
        };
        Some(Self { nvml, index })
    }

    fn device(&self) -> Option<Device<'_>> {
        self.nvml.device_by_index(self.index).ok()
    }

    /// Adds what does not change.
    pub fn describe(&self, machine: &mut Machine) {
        machine.gpu_driver = self.nvml.sys_driver_version().ok();
        if let Some(device) = self.device() {
            machine.gpu_power_limit_uw = device.enforced_power_limit().ok().map(thousand);
            machine.gpu_max_clock_hz = device.max_clock_info(Clock::SM).ok().map(hertz);
            machine.gpu = machine.gpu.take().or_else(|| device.name().ok());
        }
    }

    /// Adds what changes.
    pub fn read(&self, state: &mut MachineState) {
        let Some(device) = self.device() else { return };
        state.gpu_clock_hz = device.clock_info(Clock::SM).ok().map(hertz);
        state.gpu_memory_clock_hz = device.clock_info(Clock::Memory).ok().map(hertz);
        state.gpu_temperature_mc = temperature(&device);
        state.gpu_throttle_reasons = reasons(&device);
        if let Ok(mj) = device.total_energy_consumption() {
            let energy = state.energy_uj.get_or_insert_default();
            energy.insert(RAIL.to_owned(), mj.saturating_mul(1_000));
        }
    }

    /// Adds a sample.
    pub fn sample(&self, sensors: &mut Sensors) {
        let Some(device) = self.device() else { return };
        if let Ok(mw) = device.power_usage() {
            let power = sensors.power_uw.get_or_insert_default();
            power.insert(RAIL.to_owned(), thousand(mw));
        }
        if let Ok(mj) = device.total_energy_consumption() {
            let energy = sensors.energy_uj.get_or_insert_default();
            energy.insert(RAIL.to_owned(), mj.saturating_mul(1_000));
        }
        sensors.gpu_clock_hz = device.clock_info(Clock::SM).ok().map(hertz);
        sensors.gpu_temperature_mc = temperature(&device);
        sensors.gpu_throttle_reasons = reasons(&device);
    }
}

fn thousand(value: u32) -> u64 {
    u64::from(value) * 1_000
}

fn hertz(mhz: u32) -> u64 {
    u64::from(mhz) * 1_000_000
}

fn temperature(device: &Device) -> Option<i64> {
    let celsius = device.temperature(TemperatureSensor::Gpu).ok()?;
    Some(i64::from(celsius) * 1_000)
}

fn reasons(device: &Device) -> Option<Vec<String>> {
    device.current_throttle_reasons().ok().map(reason_names)
}

/// NVML's names of the reasons, in lower case.
fn reason_names(reasons: ThrottleReasons) -> Vec<String> {
    let names = reasons.iter_names();
    let mut names: Vec<String> = names
        .filter(|(_, flag)| *flag != ThrottleReasons::NONE)
        .map(|(name, _)| name.to_lowercase())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_nvmls_names() {
        let names = |reasons| reason_names(reasons);
        assert_eq!(names(ThrottleReasons::NONE), [""; 0]);
        assert_eq!(names(ThrottleReasons::GPU_IDLE), ["gpu_idle"]);
        let both = ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_THERMAL_SLOWDOWN;
        assert_eq!(names(both), ["hw_thermal_slowdown", "sw_power_cap"]);
    }
}
