//! What only macOS can be asked, through its C interface, its frameworks and macmon.

use std::ffi::CStr;
use std::mem::{MaybeUninit, offset_of};
use std::ptr;

use objc2_foundation::NSProcessInfo;
use serde_json::Value;

use crate::mac;
use crate::record::Sensors;
use crate::sampler::Source;

/// 0 nominal, 1 fair, 2 serious, 3 critical.
pub(crate) fn thermal_state() -> Option<u32> {
    u32::try_from(NSProcessInfo::processInfo().thermalState().0).ok()
}

pub(crate) fn low_power_mode() -> bool {
    NSProcessInfo::processInfo().isLowPowerModeEnabled()
}

/// macmon's sensors. They stay on the thread that opened them.
pub(crate) struct Macmon(macmon::Sampler);

impl Macmon {
    pub(crate) fn open() -> Result<Self, String> {
        let sampler = macmon::Sampler::new().map_err(|error| error.to_string())?;
        Ok(Self(sampler))
    }

    /// What macmon knows of the chip.
    pub(crate) fn chip(&self) -> Value {
        serde_json::to_value(self.0.get_soc_info()).unwrap_or_default()
    }

    /// All that macmon reads.
    pub(crate) fn metrics(&mut self) -> Result<Value, String> {
        // With 0 it does not wait, and has the averages since the call before.
        let metrics = self.0.get_metrics(0).map_err(|error| error.to_string())?;
        serde_json::to_value(&metrics).map_err(|error| error.to_string())
    }
}

impl Source for Macmon {
    fn read(&mut self) -> Option<Sensors> {
        Some(Sensors {
            thermal_state: thermal_state(),
            ..mac::macmon(&self.metrics().ok()?)
        })
    }

    fn averages(&self) -> bool {
        true
    }

    // A reading asks for some hundred keys of the system's controller. The thread has a core to
    // itself, and a short run needs samples.
    fn share(&self) -> u32 {
        20
    }

    fn late(&self) -> &'static [&'static str] {
        mac::LATE
    }

    fn name(&self, _: &str) -> &'static str {
        mac::SOURCE
    }
}

/// `phys_footprint` of this process, the figure Activity Monitor calls memory.
pub(crate) fn phys_footprint_bytes() -> Option<u64> {
    Some(usage()?.ri_phys_footprint)
}

/// What the kernel counted of this process since its start; 0 where it counts nothing, as in a
/// virtual machine.
#[expect(
    unsafe_code,
    reason = "the kernel's process information has no safe binding"
)]
pub(crate) fn usage() -> Option<libc::rusage_info_v4> {
    let pid = libc::c_int::try_from(std::process::id()).ok()?;
    let mut usage = MaybeUninit::<libc::rusage_info_v4>::uninit();
    // SAFETY: the flavour names the type of the buffer, which the kernel fills whenever it
    // returns 0. The declared `*mut rusage_info_t` stands for a pointer to that buffer.
    unsafe {
        let buffer = usage.as_mut_ptr().cast::<libc::rusage_info_t>();
        if libc::proc_pid_rusage(pid, libc::RUSAGE_INFO_V4, buffer) != 0 {
            return None;
        }
        Some(usage.assume_init())
    }
}

/// Swap in use on the machine.
pub(crate) fn swap_used_bytes() -> Option<u64> {
    const OFFSET: usize = offset_of!(libc::xsw_usage, xsu_used);
    let usage = sysctl::<{ size_of::<libc::xsw_usage>() }>(c"vm.swapusage")?;
    let used = usage[OFFSET..].first_chunk()?;
    Some(u64::from_ne_bytes(*used))
}

/// Whether macOS itself runs in a virtual machine.
pub(crate) fn virtual_machine() -> Option<bool> {
    let present = sysctl(c"kern.hv_vmm_present")?;
    Some(libc::c_int::from_ne_bytes(present) != 0)
}

/// The value of a kernel variable that is `N` bytes long.
#[expect(unsafe_code, reason = "kernel variables have no safe binding")]
fn sysctl<const N: usize>(name: &CStr) -> Option<[u8; N]> {
    let mut value = [0; N];
    let mut length = N;
    // SAFETY: the name ends with a NUL, and the kernel writes at most `length` bytes, which is
    // the size of the buffer.
    let status = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null_mut(),
            0,
        )
    };
    (status == 0 && length == N).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_finds_its_variable() {
        assert!(phys_footprint_bytes().is_some_and(|bytes| bytes > 0));
        assert!(swap_used_bytes().is_some());
        assert!(virtual_machine().is_some());
        assert!(thermal_state().is_some_and(|state| state <= 3));
    }

    #[test]
    fn an_unknown_variable_is_not_read() {
        assert_eq!(sysctl::<4>(c"kern.no_such_variable"), None);
        assert_eq!(sysctl::<3>(c"kern.hv_vmm_present"), None);
    }
}
