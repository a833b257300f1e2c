//! Whether the machine is ready for the next process of a set, and waiting until it is.
//!
//! The wait ends by condition and not after a fixed time: the machine has to be as cool, as
//! unthrottled and as free of swapping as before the first process, and other programs have to
//! leave the CPUs alone. What cannot be read is no condition, and is named.

use std::thread;
use std::time::Duration;

use sysinfo::{Components, System};

use crate::clock::Clock;
use crate::footprint::FootprintReader;
use crate::machine::Reader;

/// When the machine is ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadinessRules {
    /// Largest share of all CPUs that other programs may use, in thousandths.
    pub other_cpu_milli: u32,
    /// Largest rise above the temperature before the first process, thousandths of a degree.
    pub temperature_rise_mc: i64,
    /// Largest growth of swap in use since before the first process.
    pub swap_growth_bytes: u64,
}

impl Default for ReadinessRules {
    fn default() -> Self {
        Self {
            other_cpu_milli: 100,
            temperature_rise_mc: 2_000,
            swap_growth_bytes: 64 << 20,
        }
    }
}

/// The machine while no process of the set runs. `None` is what could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// macOS: 0 nominal, 1 fair, 2 serious, 3 critical.
    pub thermal_state: Option<u32>,
    /// Share of all CPUs in use, in thousandths.
    pub other_cpu_milli: Option<u32>,
    /// Of the hottest sensor of CPU or GPU, in thousandths of a degree Celsius.
    pub temperature_mc: Option<i64>,
    pub swap_bytes: Option<u64>,
}

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waited {
    pub ns: u64,
    /// Conditions that were still not met, one sentence each; empty where the machine is ready.
    pub unmet: Vec<String>,
    /// The last readings.
    pub readings: Readings,
}

/// Waits until the machine is ready, `limit_ns` have passed, or `stop` says so.
///
/// `before` is the machine before the first process of the set, and `None` for that process
/// itself, which waits for other programs only. `read` takes as long as it needs to see what
/// other programs do; `clock` must go on meanwhile. `not_ready` hears of every reading after
/// which the wait goes on.
pub fn wait(
    before: Option<Readings>,
    rules: &ReadinessRules,
    limit_ns: u64,
    clock: &mut dyn Clock,
    read: &mut dyn FnMut() -> Readings,
    stop: &dyn Fn() -> bool,
    not_ready: &mut dyn FnMut(&[String]),
) -> Waited {
    let mut conditions =
        |readings: &Readings, _: u64| unmet(readings, &before.unwrap_or(*readings), rules);
    wait_until(&mut conditions, limit_ns, clock, read, stop, not_ready)
}

/// Waits until a machine by itself has settled: nominal thermal state, a temperature that falls no
/// more, and other programs that leave the CPUs alone. There is no earlier state to come back to,
/// so a machine that stays warm is taken for settled.
///
/// The arguments are those of [`wait`].
pub fn settle(
    rules: &ReadinessRules,
    limit_ns: u64,
    clock: &mut dyn Clock,
    read: &mut dyn FnMut() -> Readings,
    stop: &dyn Fn() -> bool,
    not_ready: &mut dyn FnMut(&[String]),
) -> Waited {
    let mut temperatures: Vec<(u64, i64)> = Vec::new();
    let mut conditions = |readings: &Readings, ns: u64| {
        temperatures.extend(readings.temperature_mc.map(|mc| (ns, mc)));
        unsettled(readings, &temperatures, rules)
    };
    wait_until(&mut conditions, limit_ns, clock, read, stop, not_ready)
}

fn wait_until(
    conditions: &mut dyn FnMut(&Readings, u64) -> Vec<String>,
    limit_ns: u64,
    clock: &mut dyn Clock,
    read: &mut dyn FnMut() -> Readings,
    stop: &dyn Fn() -> bool,
    not_ready: &mut dyn FnMut(&[String]),
) -> Waited {
    let begin = clock.now_ns();
    loop {
        let readings = read();
        let unmet = conditions(&readings, clock.now_ns().saturating_sub(begin));
        let ns = clock.now_ns().saturating_sub(begin);
        if unmet.is_empty() || ns >= limit_ns || stop() {
            return Waited {
                ns,
                unmet,
                readings,
            };
        }
        not_ready(&unmet);
    }
}

/// How far back a temperature is compared with, in nanoseconds.
const COOLING_NS: u64 = 10_000_000_000;

/// What keeps a machine from having settled, given its temperatures so far with their times.
fn unsettled(now: &Readings, temperatures: &[(u64, i64)], rules: &ReadinessRules) -> Vec<String> {
    let mut unmet = Vec::new();
    if let Some(state) = now.thermal_state
        && state > 0
    {
        unmet.push(format!("the thermal state is {state}, and not 0 (nominal)"));
    }
    unmet.extend(other_programs(now, rules));
    if let Some(&(last_ns, last)) = temperatures.last() {
        let earlier = temperatures.iter().rev();
        let mut earlier = earlier.filter(|(ns, _)| last_ns.saturating_sub(*ns) >= COOLING_NS);
        match earlier.next() {
            None => unmet.push("the temperature has been watched for less than 10 s".to_owned()),
            Some((_, mc)) if mc - last > rules.temperature_rise_mc / 2 => unmet.push(format!(
                "the hottest processor still cools down: {} °C after {} °C 10 s before",
                tenths(last, 1_000),
                tenths(*mc, 1_000)
            )),
            Some(_) => {}
        }
    }
    unmet
}

fn other_programs(now: &Readings, rules: &ReadinessRules) -> Option<String> {
    let share = now.other_cpu_milli?;
    (share > rules.other_cpu_milli).then(|| {
        format!(
            "other programs use {} % of the CPUs, more than {} %",
            tenths(share.into(), 10),
            tenths(rules.other_cpu_milli.into(), 10)
        )
    })
}

/// The conditions that are not met, one sentence each.
pub fn unmet(now: &Readings, before: &Readings, rules: &ReadinessRules) -> Vec<String> {
    let mut unmet = Vec::new();
    if let (Some(now), Some(before)) = (now.thermal_state, before.thermal_state)
        && now > before
    {
        unmet.push(format!(
            "the thermal state is {now}, and was {before} before the first process"
        ));
    }
    unmet.extend(other_programs(now, rules));
    if let (Some(now), Some(before)) = (now.temperature_mc, before.temperature_mc)
        && now.saturating_sub(before) > rules.temperature_rise_mc
    {
        unmet.push(format!(
            "the hottest processor is at {} °C, more than {} above the {} °C before the first \
             process",
            tenths(now, 1_000),
            tenths(rules.temperature_rise_mc, 1_000),
            tenths(before, 1_000)
        ));
    }
    if let (Some(now), Some(before)) = (now.swap_bytes, before.swap_bytes)
        && now.saturating_sub(before) > rules.swap_growth_bytes
    {
        unmet.push(format!(
            "swap in use has grown by {} MB since before the first process",
            (now - before) / 1_000_000
        ));
    }
    unmet
}

/// `value / scale` to one decimal.
fn tenths(value: i64, scale: i64) -> String {
    format!("{:.1}", value as f64 / scale as f64)
}

impl Readings {
    /// Names of what could not be read, and so was no condition.
    pub fn unread(&self) -> Vec<String> {
        let read = [
            ("thermal state", self.thermal_state.is_some()),
            ("CPU use of other programs", self.other_cpu_milli.is_some()),
            ("temperature", self.temperature_mc.is_some()),
            ("swap", self.swap_bytes.is_some()),
        ];
        let unread = read.iter().filter(|(_, read)| !read);
        unread.map(|(name, _)| (*name).to_owned()).collect()
    }
}

/// Reads this machine. The calling process must do nothing else meanwhile, since its own CPU use
/// counts as that of others.
pub struct Sensors {
    system: Option<System>,
    components: Option<Components>,
    footprint: FootprintReader,
    reader: Reader,
    span: Duration,
}

impl Sensors {
    /// Sensors that look at CPU use over `span`, but at least 0.2 s.
    pub fn new(span: Duration) -> Self {
        Self {
            system: System::new().ok(),
            components: Components::new().ok(),
            footprint: FootprintReader::new(),
            reader: Reader::for_gpu(None),
            span: span.max(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL),
        }
    }

    /// Takes the span, and a little more.
    pub fn read(&mut self) -> Readings {
        let mut refresh = || self.system.as_mut().map(System::refresh_cpu_usage);
        refresh();
        thread::sleep(self.span);
        refresh();
        let state = self.reader.state(0, &mut self.footprint);
        let hottest = self.components.as_mut().and_then(|components| {
            components.refresh(true);
            let sensors = components.iter();
            sensors
                .filter(|sensor| is_processor(sensor.label()))
                .filter_map(|sensor| thousandths(sensor.temperature()?))
                .max()
        });
        let system = self.system.as_ref();
        Readings {
            thermal_state: state.thermal_state,
            other_cpu_milli: system
                .filter(|system| !system.cpus().is_empty())
                .and_then(|system| thousandths(system.global_cpu_usage() / 100.0))
                .and_then(|share| u32::try_from(share).ok()),
            temperature_mc: hottest.max(state.gpu_temperature_mc),
            swap_bytes: state.swap_used_bytes,
        }
    }
}

fn thousandths(value: f32) -> Option<i64> {
    value
        .is_finite()
        .then(|| (f64::from(value) * 1_000.0).round() as i64)
}

/// Whether a sensor of this name sits on a CPU or GPU, by the names that Linux's drivers
/// (`coretemp`, `k10temp`, `zenpower`, `cpu_thermal`, `amdgpu`, `nouveau`) and Apple's sensors use.
fn is_processor(label: &str) -> bool {
    const NAMES: [&str; 14] = [
        "coretemp",
        "k10temp",
        "zenpower",
        "cpu",
        "gpu",
        "nouveau",
        "package id",
        "tctl",
        "tccd",
        "x86_pkg",
        "soc",
        "acc mtr",
        "tdie",
        "junction",
    ];
    let label = label.to_lowercase();
    NAMES.iter().any(|name| label.contains(name))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const COOL: Readings = Readings {
        thermal_state: Some(0),
        other_cpu_milli: Some(20),
        temperature_mc: Some(50_000),
        swap_bytes: Some(1 << 30),
    };

    #[test]
    fn only_what_got_worse_is_waited_for() {
        let check = |now: Readings, expected: &[&str]| {
            let unmet = unmet(&now, &COOL, &ReadinessRules::default());
            assert_eq!(unmet, expected, "{now:?}");
        };
        check(COOL, &[]);
        check(
            Readings {
                temperature_mc: Some(52_000),
                swap_bytes: Some((1 << 30) + (64 << 20)),
                other_cpu_milli: Some(100),
                ..COOL
            },
            &[],
        );
        check(
            Readings {
                thermal_state: Some(1),
                ..COOL
            },
            &["the thermal state is 1, and was 0 before the first process"],
        );
        check(
            Readings {
                other_cpu_milli: Some(345),
                temperature_mc: Some(52_100),
                ..COOL
            },
            &[
                "other programs use 34.5 % of the CPUs, more than 10.0 %",
                "the hottest processor is at 52.1 °C, more than 2.0 above the 50.0 °C before the \
                 first process",
            ],
        );
        check(
            Readings {
                swap_bytes: Some(2 << 30),
                ..COOL
            },
            &["swap in use has grown by 1073 MB since before the first process"],
        );
        // What cannot be read is no condition, and better than before is no worse.
        check(Readings::default(), &[]);
        check(
            Readings {
                temperature_mc: Some(-10_000),
                swap_bytes: Some(0),
                ..COOL
            },
            &[],
        );
        assert_eq!(COOL.unread(), Vec::<String>::new());
        let unread = ["CPU use of other programs", "swap"];
        let some = Readings {
            other_cpu_milli: None,
            swap_bytes: None,
            ..COOL
        };
        assert_eq!(some.unread(), unread);
    }

    struct Time<'a>(&'a Cell<u64>);

    impl Clock for Time<'_> {
        fn now_ns(&mut self) -> u64 {
            self.0.get()
        }
    }

    /// Waits at most 10 s where reading takes 1 s; the temperature falls by a degree a reading.
    fn wait_from(degrees: i64, before: Option<Readings>, stop_after: usize) -> (Waited, usize) {
        let now = Cell::new(5);
        let taken = Cell::new(0);
        let mut heard = 0;
        let waited = wait(
            before,
            &ReadinessRules::default(),
            10_000_000_000,
            &mut Time(&now),
            &mut || {
                now.set(now.get() + 1_000_000_000);
                taken.set(taken.get() + 1);
                Readings {
                    temperature_mc: Some((degrees - taken.get() as i64) * 1_000),
                    ..COOL
                }
            },
            &|| taken.get() >= stop_after,
            &mut |unmet| heard += unmet.len(),
        );
        (waited, heard)
    }

    #[test]
    fn waiting_ends_when_the_machine_is_ready() {
        let (waited, heard) = wait_from(56, Some(COOL), usize::MAX);
        assert_eq!((waited.ns, heard), (4_000_000_000, 3));
        assert_eq!(waited.unmet, Vec::<String>::new());
        assert_eq!(waited.readings.temperature_mc, Some(52_000));
    }

    #[test]
    fn waiting_is_given_up_at_the_limit_and_says_why() {
        let (waited, _) = wait_from(90, Some(COOL), usize::MAX);
        assert_eq!(waited.ns, 10_000_000_000);
        assert!(waited.unmet[0].contains("at 80.0 °C"), "{waited:?}");
        let (waited, _) = wait_from(90, Some(COOL), 2);
        assert_eq!(waited.ns, 2_000_000_000);
    }

    #[test]
    fn the_first_process_has_nothing_to_cool_down_to() {
        let (waited, heard) = wait_from(90, None, usize::MAX);
        assert_eq!((waited.ns, heard), (1_000_000_000, 0));
        assert_eq!(waited.unmet, Vec::<String>::new());
    }

    /// Settles within a minute where reading takes 1 s; the temperature falls by a degree a
    /// reading until it is at `floor`.
    fn settle_at(floor: i64, thermal_state: Option<u32>, temperature: bool) -> Waited {
        let now = Cell::new(0);
        settle(
            &ReadinessRules::default(),
            60_000_000_000,
            &mut Time(&now),
            &mut || {
                now.set(now.get() + 1_000_000_000);
                let celsius = (80 - (now.get() / 1_000_000_000) as i64).max(floor);
                Readings {
                    thermal_state,
                    temperature_mc: temperature.then_some(celsius * 1_000),
                    ..COOL
                }
            },
            &|| false,
            &mut |_| {},
        )
    }

    #[test]
    fn a_machine_has_settled_when_it_cools_no_more() {
        // At 60 °C from the 20th second on: ten seconds later the fall is within a degree.
        let settled = settle_at(60, Some(0), true);
        assert_eq!((settled.ns, settled.unmet.len()), (29_000_000_000, 0));
        let settled = settle_at(80, None, true);
        assert_eq!((settled.ns, settled.unmet.len()), (11_000_000_000, 0));
        let settled = settle_at(0, None, false);
        assert_eq!((settled.ns, settled.unmet.len()), (1_000_000_000, 0));
    }

    #[test]
    fn a_machine_that_stays_hot_is_not_waited_for_for_ever() {
        let hot = settle_at(0, Some(1), true);
        assert_eq!(hot.ns, 60_000_000_000);
        assert_eq!(
            hot.unmet,
            [
                "the thermal state is 1, and not 0 (nominal)",
                "the hottest processor still cools down: 20.0 °C after 30.0 °C 10 s before",
            ]
        );
    }

    #[test]
    fn sensors_of_processors_are_told_from_others() {
        let processors = [
            "coretemp Package id 0",
            "k10temp Tctl",
            "amdgpu edge",
            "cpu_thermal temp1",
            "pACC MTR Temp Sensor2",
            "GPU MTR Temp Sensor1",
            "PMU tdie3",
        ];
        for label in processors {
            assert!(is_processor(label), "{label}");
        }
        for label in ["nvme Composite", "acpitz temp1", "gas gauge battery", ""] {
            assert!(!is_processor(label), "{label}");
        }
    }

    #[test]
    fn this_machine_can_be_read() {
        let readings = Sensors::new(Duration::ZERO).read();
        assert!(readings.other_cpu_milli.is_some_and(|share| share <= 1_000));
        if cfg!(any(target_os = "linux", target_os = "macos")) {
            assert!(readings.swap_bytes.is_some(), "{readings:?}");
        }
    }
}
