//! What programs of macOS print about a Mac, as facts.
//!
//! Everything here is text to facts, so that it is tested wherever the crate is built. Running the
//! programs is left to [`machine`](crate::machine).

use serde_json::Value;

use crate::record::{CpuTier, Sensors};

/// Names of kernel variables that [`Sysctl`] reads, as arguments of `sysctl`. A Mac that lacks one
/// says so on stderr and prints the rest.
pub const SYSCTL_NAMES: [&str; 9] = [
    "hw.nperflevels",
    "hw.perflevel0.name",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.name",
    "hw.perflevel1.physicalcpu",
    "hw.perflevel2.name",
    "hw.perflevel2.physicalcpu",
    "iogpu.wired_limit_mb",
    "kern.hv_vmm_present",
];

/// Facts from the output of `sysctl NAME..`: lines of `name: value`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctl {
    /// The fastest first; `None` where the system tells no kinds apart.
    pub cpu_tiers: Option<Vec<CpuTier>>,
    /// `None` where the system decides, for which the variable is 0.
    pub gpu_wired_limit_bytes: Option<u64>,
    pub virtual_machine: Option<bool>,
}

/// Reads the output of `sysctl`.
pub fn sysctl(text: &str) -> Sysctl {
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let number = |name: &str| value(name)?.parse::<u64>().ok();
    let tiers: Vec<CpuTier> = (0..)
        .map_while(|level| {
            let cores = number(&format!("hw.perflevel{level}.physicalcpu"))?;
            let name = value(&format!("hw.perflevel{level}.name"));
            Some(CpuTier {
                name: name.filter(|name| !name.is_empty()).map(str::to_owned),
                physical_cores: u32::try_from(cores).ok().filter(|&cores| cores > 0)?,
            })
        })
        .collect();
    Sysctl {
        cpu_tiers: (!tiers.is_empty()).then_some(tiers),
        gpu_wired_limit_bytes: number("iogpu.wired_limit_mb")
            .filter(|&mib| mib > 0)
            .and_then(|mib| mib.checked_mul(1 << 20)),
        virtual_machine: number("kern.hv_vmm_present").map(|present| present != 0),
    }
}

/// GPU cores from the output of `ioreg -rc AGXAccelerator -d1`.
pub fn ioreg_gpu_cores(text: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let (_, value) = line.split_once("\"gpu-core-count\" = ")?;
        value.trim().parse().ok().filter(|&cores| cores > 0)
    })
}

/// GPU cores from the output of `system_profiler SPDisplaysDataType -json`.
pub fn system_profiler_gpu_cores(json: &str) -> Option<u32> {
    let profile: Value = serde_json::from_str(json).ok()?;
    let displays = profile.get("SPDisplaysDataType")?.as_array()?;
    displays.iter().find_map(|display| {
        let cores = display.get("sppci_cores")?.as_str()?;
        cores.parse().ok().filter(|&cores| cores > 0)
    })
}

/// `ac`, `battery` or `ups`, from the output of `pmset -g batt`.
pub fn power_source(text: &str) -> Option<&'static str> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Now drawing from '"))?;
    match line.split_once('\'')?.0 {
        "AC Power" => Some("ac"),
        "Battery Power" => Some("battery"),
        "UPS Power" => Some("ups"),
        _ => None,
    }
}

/// The number of the energy mode that a power source has, from the output of `pmset -g custom`.
///
/// Macs with a high power mode call the setting `powermode`, the others `lowpowermode`.
pub fn power_mode(text: &str, source: &str) -> Option<u32> {
    let section = match source {
        "ac" => "AC Power:",
        "battery" => "Battery Power:",
        "ups" => "UPS Power:",
        _ => return None,
    };
    text.lines()
        .skip_while(|line| line.trim() != section)
        .skip(1)
        .take_while(|line| !line.trim_end().ends_with(':'))
        .find_map(|line| match *line.split_whitespace().collect::<Vec<_>>() {
            ["powermode" | "lowpowermode", mode] => mode.parse().ok(),
            _ => None,
        })
}

/// The name of an energy mode, as the system's settings call it.
pub fn power_mode_name(mode: u32) -> Option<&'static str> {
    match mode {
        0 => Some("automatic"),
        1 => Some("low power"),
        2 => Some("high power"),
        _ => None,
    }
}

/// The build from what `sw_vers -buildVersion` prints, such as `25F84` or, of a beta, `25A5279m`.
pub fn os_build(printed: &str) -> Option<String> {
    let build = printed.trim();
    let (train, rest) = build.split_at_checked(build.find(|c: char| !c.is_ascii_digit())?)?;
    let number = rest.strip_prefix(|c: char| c.is_ascii_uppercase())?;
    let number = number
        .strip_suffix(|c: char| c.is_ascii_lowercase())
        .unwrap_or(number);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(train) && is_number(number)).then(|| build.to_owned())
}

/// Name of macmon as a source.
pub const SOURCE: &str = "macmon";

/// Rails whose counters may stand still between two samples: that of an idle GPU, and those of CPU
/// and memory, which some chips move only every two seconds or so (lablup/all-smi, issues 410 and
/// 415). The ANE is none of them, since nothing here runs on it.
pub const LATE: &[&str] = &["cpu", "dram", "gpu"];

/// Whether macmon has a rail's power from a counter of its own: where it is silent and others are
/// not, the counter stood still, provided that it counts at all.
pub fn is_counted(rail: &str) -> bool {
    rail != "system"
}

/// A sample from macmon's metrics as JSON, without its moment.
///
/// macmon has 0 for power and clocks that it could not read, and earlier versions for temperatures
/// too: 0 is taken for absent. Where it could not read the system's power, or read less than the
/// sum of CPU, GPU and ANE, it has that sum in its place, which is taken for absent as well.
pub fn macmon(metrics: &Value) -> Sensors {
    let above_0 = |value: &Value, unit: f64| {
        let scaled = value.as_f64()? * unit;
        (scaled.is_finite() && scaled.round() > 0.0).then(|| scaled.round() as u64)
    };
    let power = |key: &str| above_0(metrics.get(key)?, 1e6);
    let temperature = |key: &str| {
        let celsius = metrics.get("temp")?.get(key)?;
        above_0(celsius, 1e3).and_then(|mc| i64::try_from(mc).ok())
    };
    let sum = metrics.get("all_power").and_then(Value::as_f64);
    let system = metrics.get("sys_power").and_then(Value::as_f64);
    let is_sum = sum.is_some() && system <= sum;
    let rails = RAILS
        .iter()
        .filter(|(rail, _)| is_counted(rail) || !is_sum)
        .filter_map(|(rail, key)| Some(((*rail).to_owned(), power(key)?)))
        .collect();
    Sensors {
        power_uw: Some(rails).filter(|rails: &std::collections::BTreeMap<_, _>| !rails.is_empty()),
        gpu_clock_hz: metrics
            .get("gpu_freq_mhz")
            .and_then(|mhz| above_0(mhz, 1e6)),
        gpu_temperature_mc: temperature("gpu_temp_avg"),
        cpu_temperature_mc: temperature("cpu_temp_avg"),
        ..Sensors::default()
    }
}

/// Rails of a sample, and macmon's fields for them.
const RAILS: [(&str, &str); 5] = [
    ("ane", "ane_power"),
    ("cpu", "cpu_power"),
    ("dram", "ram_power"),
    ("gpu", "gpu_power"),
    ("system", "sys_power"),
];

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../fixtures/machines/", $name))
        };
    }

    fn tiers(text: &str) -> Vec<(Option<String>, u32)> {
        let tiers = sysctl(text).cpu_tiers.unwrap_or_default();
        tiers
            .into_iter()
            .map(|tier| (tier.name, tier.physical_cores))
            .collect()
    }

    #[test]
    fn kinds_of_cores_are_counted_from_the_fastest() {
        let named = |name: &str, cores| (Some(name.to_owned()), cores);
        assert_eq!(tiers(fixture!("sysctl-m1-pro.txt")), [(None, 8), (None, 2)]);
        assert_eq!(
            tiers(fixture!("sysctl-m6-constructed.txt")),
            [
                named("Super", 2),
                named("Performance", 4),
                named("Efficiency", 4)
            ]
        );
        assert_eq!(
            tiers(fixture!("sysctl-vm-constructed.txt")),
            [named("Standard", 3)]
        );
        assert_eq!(tiers("hw.perflevel0.physicalcpu: 0\n"), []);
        assert_eq!(tiers(""), []);
    }

    #[test]
    fn a_limit_of_gpu_memory_is_what_was_set_and_not_zero() {
        let m6 = sysctl(fixture!("sysctl-m6-constructed.txt"));
        assert_eq!(m6.gpu_wired_limit_bytes, Some(28 << 30));
        assert_eq!(m6.virtual_machine, Some(false));
        let guest = sysctl(fixture!("sysctl-vm-constructed.txt"));
        assert_eq!(guest.gpu_wired_limit_bytes, None);
        assert_eq!(guest.virtual_machine, Some(true));
        assert_eq!(sysctl("").virtual_machine, None);
    }

    #[test]
    fn a_build_is_told_from_other_text() {
        let check = |printed: &str, expected: Option<&str>| {
            assert_eq!(os_build(printed).as_deref(), expected, "{printed:?}");
        };
        check("25F84\n", Some("25F84"));
        check("25A5279m\n", Some("25A5279m"));
        for other in [
            "",
            "\n",
            "26.5.2\n",
            "25F\n",
            "F84",
            "25F84mm",
            "sw_vers: error",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn gpu_cores_are_read_from_two_programs() {
        assert_eq!(ioreg_gpu_cores(fixture!("ioreg-m5-max.txt")), Some(40));
        assert_eq!(ioreg_gpu_cores("no accelerator"), None);
        assert_eq!(ioreg_gpu_cores("\"gpu-core-count\" = 0"), None);
        let m3_pro = fixture!("system-profiler-constructed.json");
        assert_eq!(system_profiler_gpu_cores(m3_pro), Some(18));
        let guest = r#"{"SPDisplaysDataType":[{"_name":"Apple Paravirtual device"}]}"#;
        assert_eq!(system_profiler_gpu_cores(guest), None);
        assert_eq!(system_profiler_gpu_cores("not JSON"), None);
    }

    #[test]
    fn the_power_source_is_what_the_mac_draws_from() {
        let check = |text: &str, expected| assert_eq!(power_source(text), expected, "{text}");
        check("Now drawing from 'AC Power'\n", Some("ac"));
        check(
            "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t27%; discharging;\n",
            Some("battery"),
        );
        check("Now drawing from 'Fuel Cell'\n", None);
        check("", None);
    }

    #[test]
    fn the_energy_mode_is_that_of_the_power_source() {
        let constructed = fixture!("pmset-custom-constructed.txt");
        assert_eq!(power_mode(constructed, "battery"), Some(1));
        assert_eq!(power_mode(constructed, "ac"), Some(0));
        assert_eq!(power_mode(constructed, "ups"), None);
        let m1_max = fixture!("pmset-custom-m1-max.txt");
        assert_eq!(power_mode(m1_max, "battery"), Some(0));
        assert_eq!(power_mode(m1_max, "ac"), None);
        // A section without the setting does not borrow that of the next one.
        let studio = "AC Power:\n sleep 0\nBattery Power:\n powermode 2\n";
        assert_eq!(power_mode(studio, "ac"), None);
        assert_eq!(
            power_mode(studio, "battery").and_then(power_mode_name),
            Some("high power")
        );
        assert_eq!(power_mode_name(7), None);
    }

    #[test]
    fn what_macmon_could_not_read_is_absent() {
        let metrics = |text: &str| macmon(&serde_json::from_str(text).unwrap());
        let rails = |sensors: &Sensors| -> Vec<(String, u64)> {
            sensors
                .power_uw
                .clone()
                .unwrap_or_default()
                .into_iter()
                .collect()
        };
        let rail = |name: &str, uw| (name.to_owned(), uw);

        let readme = metrics(fixture!("macmon-readme.json"));
        assert_eq!(
            rails(&readme),
            [
                rail("cpu", 204_864),
                rail("dram", 116_358),
                rail("gpu", 17_452),
                rail("system", 5_876_533)
            ]
        );
        assert_eq!(readme.gpu_temperature_mc, Some(36_952));
        assert_eq!(readme.cpu_temperature_mc, Some(43_736));

        let mini = metrics(fixture!("macmon-mini.json"));
        assert_eq!(
            rails(&mini),
            [
                rail("cpu", 252_332),
                rail("gpu", 4_443),
                rail("system", 9_391_488)
            ]
        );
        assert_eq!(mini.gpu_temperature_mc, None);

        let newer = metrics(fixture!("macmon-0.10-constructed.json"));
        assert_eq!(newer.gpu_clock_hz, Some(1_398_000_000));
        let guest = metrics(
            r#"{"temp":{"cpu_temp_avg":null,"gpu_temp_avg":null},"gpu_freq_mhz":0,
                "cpu_power":0.0,"gpu_power":0.0,"ane_power":0.0,"sys_power":0.0,"ram_power":0.0}"#,
        );
        assert_eq!(guest, Sensors::default());
    }

    #[test]
    fn a_rail_that_may_come_late_has_a_counter() {
        for rail in LATE {
            assert!(is_counted(rail) && RAILS.iter().any(|(name, _)| name == rail));
        }
    }

    #[test]
    fn the_sum_of_the_parts_is_not_the_system() {
        let check = |system: f64, expected| {
            let metrics = serde_json::json!({"all_power": 24.5, "sys_power": system});
            let power = macmon(&metrics).power_uw;
            assert_eq!(power.map(|rails| rails["system"]), expected);
        };
        check(41.0, Some(41_000_000));
        check(24.5, None);
        check(0.0, None);
    }
}
