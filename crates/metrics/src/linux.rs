//! What Linux's files under `/proc` and `/sys` say of a machine, as facts.
//!
//! Files are read below a root, so that a test can lay out a machine of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::record::Cgroup;

/// The file system of this machine.
pub fn root() -> &'static Path {
    Path::new("/")
}

/// What decides the clock of the CPUs; several of them in the order of the alphabet.
pub fn governor(root: &Path) -> Option<String> {
    let cpus = fs::read_dir(root.join("sys/devices/system/cpu")).ok()?;
    let governors: BTreeSet<String> = cpus
        .filter_map(|cpu| line(&cpu.ok()?.path().join("cpufreq/scaling_governor")))
        .collect();
    let governors: Vec<String> = governors.into_iter().collect();
    (!governors.is_empty()).then(|| governors.join(", "))
}

/// `ac` where any mains supply is on line, `battery` where none is and a battery discharges.
pub fn power_source(root: &Path) -> Option<&'static str> {
    let supplies = fs::read_dir(root.join("sys/class/power_supply")).ok()?;
    let mut discharging = false;
    for supply in supplies {
        let supply = supply.ok()?.path();
        // Batteries of mice and keyboards have the scope of a device.
        if line(&supply.join("scope")).as_deref() == Some("Device") {
            continue;
        }
        let kind = line(&supply.join("type"))?;
        if kind != "Battery" && line(&supply.join("online")).as_deref() == Some("1") {
            return Some("ac");
        }
        discharging |= line(&supply.join("status")).as_deref() == Some("Discharging");
    }
    discharging.then_some("battery")
}

/// The firmware's profile (`low-power`, `balanced`, `performance`).
pub fn platform_profile(root: &Path) -> Option<String> {
    line(&root.join("sys/firmware/acpi/platform_profile"))
}

/// Time of all CPUs since the machine was started, and what of it other guests had, in
/// milliseconds: from `/proc/stat` (`proc_stat(5)`), whose unit is a hundredth of a second on
/// every architecture that MLX runs on.
pub fn cpu_times(stat: &str) -> Option<(u64, u64)> {
    let times: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|time| time.parse().ok())
        .collect();
    // The last two, of guests of this machine, are in the first two already.
    let own = times.get(..8)?;
    let total = own
        .iter()
        .try_fold(0_u64, |sum, &time| sum.checked_add(time))?;
    Some((total.checked_mul(10)?, own[7].checked_mul(10)?))
}

/// Limits of the control group that this process is in, and how long they held it back, in
/// microseconds.
///
/// The smallest limit on the way up counts. `None` without a hierarchy of version 2 that can be
/// read: inside a container it begins at its own group.
pub fn cgroup(root: &Path) -> Option<(Cgroup, Option<u64>)> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let top = root.join("sys/fs/cgroup");
    // Only version 2 has this file.
    if !top.join("cgroup.controllers").is_file() {
        return None;
    }
    let mut groups: Vec<PathBuf> = Vec::new();
    let mut group = top.clone();
    groups.push(group.clone());
    for part in own.split('/').filter(|part| !part.is_empty()) {
        group.push(part);
        groups.push(group.clone());
    }
    let smallest =
        |limit: &dyn Fn(&Path) -> Option<u64>| groups.iter().filter_map(|group| limit(group)).min();
    let cgroup = Cgroup {
        memory_bytes: smallest(&|group| line(&group.join("memory.max"))?.parse().ok()),
        cpu_milli: smallest(&|group| cpu_max(&line(&group.join("cpu.max"))?)),
    };
    let throttled = groups.iter().rev().find_map(|group| {
        let stat = fs::read_to_string(group.join("cpu.stat")).ok()?;
        stat.lines()
            .find_map(|line| line.strip_prefix("throttled_usec "))
            .and_then(|us| us.trim().parse().ok())
    });
    Some((cgroup, throttled))
}

/// `cpu.max`: microseconds of a period, or `max`; in thousandths of a CPU.
pub fn cpu_max(text: &str) -> Option<u64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    quota.checked_mul(1_000)?.checked_div(period)
}

/// A RAPL zone of `/sys/class/powercap`: a cumulative counter that wraps around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaplZone {
    /// As the kernel names it (`package-0`).
    pub name: String,
    file: PathBuf,
    range_uj: u64,
    last_uj: Option<u64>,
    total_uj: u64,
}

/// The packages whose counter can be read; most systems keep it from ordinary users.
pub fn rapl_zones(root: &Path) -> Vec<RaplZone> {
    let Ok(zones) = fs::read_dir(root.join("sys/class/powercap")) else {
        return Vec::new();
    };
    let mut zones: Vec<RaplZone> = zones
        .filter_map(|zone| {
            let zone = zone.ok()?;
            // Zones within a package have a second colon, and are counted by it.
            let name = zone.file_name().into_string().ok()?;
            if !name.starts_with("intel-rapl:") || name.matches(':').count() != 1 {
                return None;
            }
            let path = zone.path();
            let mut zone = RaplZone {
                name: line(&path.join("name"))?,
                file: path.join("energy_uj"),
                range_uj: line(&path.join("max_energy_range_uj"))?.parse().ok()?,
                last_uj: None,
                total_uj: 0,
            };
            zone.read()?;
            Some(zone)
        })
        .collect();
    zones.sort_by(|a, b| a.name.cmp(&b.name));
    zones
}

impl RaplZone {
    /// Microjoules since the zone was found, without the jumps back to 0.
    pub fn read(&mut self) -> Option<u64> {
        let now: u64 = line(&self.file)?.parse().ok()?;
        if let Some(last) = self.last_uj {
            let passed = match now.checked_sub(last) {
                Some(passed) => passed,
                None => (self.range_uj.checked_sub(last)?).checked_add(now)?,
            };
            self.total_uj = self.total_uj.checked_add(passed)?;
        }
        self.last_uj = Some(now);
        Some(self.total_uj)
    }
}

fn line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn governors_are_named_once_each() {
        let cpu = "sys/devices/system/cpu";
        let files = [
            (
                &*format!("{cpu}/cpu0/cpufreq/scaling_governor"),
                "powersave\n",
            ),
            (
                &*format!("{cpu}/cpu1/cpufreq/scaling_governor"),
                "powersave\n",
            ),
            (
                &*format!("{cpu}/cpu2/cpufreq/scaling_governor"),
                "performance\n",
            ),
            (&*format!("{cpu}/online"), "0-2\n"),
        ];
        let root = machine(&files);
        assert_eq!(governor(root.path()).unwrap(), "performance, powersave");
        assert_eq!(governor(machine(&files[3..]).path()), None);
        assert_eq!(governor(machine(&[]).path()), None);
    }

    #[test]
    fn mains_go_before_a_battery_and_a_mouse_is_neither() {
        let supply = "sys/class/power_supply";
        let check = |files: &[(&str, &str)], expected| {
            let files: Vec<_> = files
                .iter()
                .map(|(path, text)| (format!("{supply}/{path}"), *text))
                .collect();
            let files: Vec<_> = files.iter().map(|(path, text)| (&**path, *text)).collect();
            assert_eq!(power_source(machine(&files).path()), expected, "{files:?}");
        };
        let mouse = [
            ("hid/type", "Battery\n"),
            ("hid/scope", "Device\n"),
            ("hid/status", "Discharging\n"),
        ];
        let battery = [("BAT0/type", "Battery\n"), ("BAT0/status", "Discharging\n")];
        let mains = |online| [("AC/type", "Mains\n"), ("AC/online", online)];
        check(&mouse, None);
        check(&battery, Some("battery"));
        check(&[&battery[..], &mains("0\n")].concat(), Some("battery"));
        check(&[&battery[..], &mains("1\n")].concat(), Some("ac"));
        check(&[&mouse[..], &mains("1\n")].concat(), Some("ac"));
        assert_eq!(power_source(machine(&[]).path()), None);
    }

    #[test]
    fn stolen_time_is_the_eighth_number() {
        let stat = "cpu  2717169 48854 211897 1476491 6330 0 1531 22484 0 0\ncpu0 1 1 1 1\n";
        let total = 2_717_169 + 48_854 + 211_897 + 1_476_491 + 6_330 + 1_531 + 22_484;
        assert_eq!(cpu_times(stat), Some((total * 10, 224_840)));
        assert_eq!(cpu_times("cpu  1 2 3 4\n"), None);
        assert_eq!(cpu_times("intr 5\n"), None);
    }

    #[test]
    fn the_tightest_limit_of_the_groups_counts() {
        let base = [
            ("proc/self/cgroup", "1:cpu:/old\n0::/jobs/run\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
            ("sys/fs/cgroup/jobs/memory.max", "8589934592\n"),
            ("sys/fs/cgroup/jobs/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/jobs/run/memory.max", "max\n"),
            ("sys/fs/cgroup/jobs/run/cpu.max", "max 100000\n"),
            (
                "sys/fs/cgroup/jobs/run/cpu.stat",
                "usage_usec 5\nnr_throttled 2\nthrottled_usec 1234\n",
            ),
        ];
        let limits = Cgroup {
            memory_bytes: Some(8 << 30),
            cpu_milli: Some(1_500),
        };
        assert_eq!(cgroup(machine(&base).path()), Some((limits, Some(1234))));
        // Version 1 alone, as in some containers.
        assert_eq!(cgroup(machine(&base[..1]).path()), None);
        let unlimited = Cgroup {
            memory_bytes: None,
            cpu_milli: None,
        };
        assert_eq!(cgroup(machine(&base[..2]).path()), Some((unlimited, None)));
    }

    #[test]
    fn a_counter_that_wraps_around_goes_on() {
        let zone = "sys/class/powercap/intel-rapl:0";
        let root = machine(&[
            (&*format!("{zone}/name"), "package-0\n"),
            (&*format!("{zone}/max_energy_range_uj"), "1000\n"),
            (&*format!("{zone}/energy_uj"), "900\n"),
            ("sys/class/powercap/intel-rapl:0:0/name", "core\n"),
            (
                "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj",
                "1000\n",
            ),
            ("sys/class/powercap/intel-rapl:0:0/energy_uj", "1\n"),
            // Without a counter that can be read.
            ("sys/class/powercap/intel-rapl:1/name", "package-1\n"),
            (
                "sys/class/powercap/intel-rapl:1/max_energy_range_uj",
                "1000\n",
            ),
        ]);
        let mut zones = rapl_zones(root.path());
        assert_eq!(zones.len(), 1);
        assert_eq!(zones[0].name, "package-0");
        let mut read = |counter: &str| {
            fs::write(root.path().join(format!("{zone}/energy_uj")), counter).unwrap();
            zones[0].read()
        };
        assert_eq!(read("950\n"), Some(50));
        assert_eq!(read("20\n"), Some(120));
        assert_eq!(read("50\n"), Some(150));
        assert_eq!(read("nonsense\n"), None);
        assert_eq!(rapl_zones(machine(&[]).path()), []);
    }
}
