//! What the processor counted of this process: instructions and cycles, which other programs hardly
//! disturb, and on macOS its energy.
//!
//! macOS counts for every process; Linux where there is a PMU and the kernel lets it be read, in
//! user space alone. Virtual machines often have none, and then there is nothing.

use crate::clock::Clock;
use crate::record::{Counters, WindowSpec};
use crate::window;

/// Reads the counters of this process, all threads together.
pub struct CounterReader(Box<dyn FnMut() -> Counts>);

/// Cumulative counts; `None` where one cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub instructions: Option<u64>,
    pub cycles: Option<u64>,
    pub energy_nj: Option<u64>,
}

impl CounterReader {
    /// Begins to count the threads that there are, and those that they start.
    pub fn new() -> Self {
        Self::from_fn(system::counts())
    }

    /// A reader of other values.
    pub fn from_fn(read: impl FnMut() -> Counts + 'static) -> Self {
        Self(Box::new(read))
    }

    /// The counts after so many iterations; `None` where there are none. A count of 0 is none.
    pub fn read(&mut self, clock: &mut dyn Clock, iterations: u32) -> Option<Counters> {
        let counts = (self.0)();
        let above_0 = |count: Option<u64>| count.filter(|&count| count > 0);
        let counters = Counters {
            at_ns: clock.now_ns(),
            iterations,
            instructions: above_0(counts.instructions),
            cycles: above_0(counts.cycles),
            energy_nj: above_0(counts.energy_nj),
        };
        let all = [counters.instructions, counters.cycles, counters.energy_nj];
        all.iter().any(Option::is_some).then_some(counters)
    }
}

impl Default for CounterReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the counters are read after so many of all iterations: at both ends of training and of
/// every window.
pub fn is_read_after(windows: &[WindowSpec], all: u32, iterations: u32) -> bool {
    let ends = windows.iter().any(|window| window.last == iterations);
    let begins = || window::begins_window(windows, iterations + 1);
    iterations == 0 || iterations == all || ends || begins()
}

#[cfg(target_os = "linux")]
mod system {
    use std::{fs, io};

    use perf_event::events::{Event, Hardware};
    use perf_event::{Builder, Counter};

    use super::Counts;

    pub(super) fn counts() -> impl FnMut() -> Counts {
        let mut instructions = Threads::open(Hardware::INSTRUCTIONS).ok();
        let mut cycles = Threads::open(Hardware::CPU_CYCLES).ok();
        move || Counts {
            instructions: instructions.as_mut().and_then(Threads::read),
            cycles: cycles.as_mut().and_then(Threads::read),
            energy_nj: None,
        }
    }

    /// A counter for every thread that there was; what a thread starts counts with it.
    ///
    /// Libraries start threads before `main`, so that one for this thread is not enough.
    pub(super) struct Threads(Vec<Counter>);

    impl Threads {
        pub(super) fn open(event: impl Event + Clone) -> io::Result<Self> {
            let mut counters = Vec::new();
            for thread in fs::read_dir("/proc/self/task")? {
                let name = thread?.file_name();
                let id = name.to_str().and_then(|name| name.parse().ok());
                let id = id.ok_or_else(|| io::Error::other("a thread without a number"))?;
                let mut builder = Builder::new(event.clone());
                builder.observe_pid(id).inherit(true).enabled(true);
                counters.push(builder.build()?);
            }
            Ok(Self(counters))
        }

        /// The sum; `None` where another user of the PMU took a counter's place for a time.
        pub(super) fn read(&mut self) -> Option<u64> {
            self.0.iter_mut().try_fold(0_u64, |sum, counter| {
                let data = counter.read_full().ok()?;
                let whole = data.time_running() == data.time_enabled();
                sum.checked_add(data.count()).filter(|_| whole)
            })
        }
    }
}

#[cfg(target_os = "macos")]
mod system {
    pub(super) fn counts() -> impl FnMut() -> super::Counts {
        || {
            let usage = crate::macos::usage();
            usage.map_or_else(super::Counts::default, |usage| super::Counts {
                instructions: Some(usage.ri_instructions),
                cycles: Some(usage.ri_cycles),
                energy_nj: Some(usage.ri_billed_energy),
            })
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod system {
    pub(super) fn counts() -> impl FnMut() -> super::Counts {
        super::Counts::default
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_count_of_0_is_none_and_nothing_counted_is_no_reading() {
        let read = |counts: Counts| {
            let mut clock = SystemClock::new(Instant::now());
            CounterReader::from_fn(move || counts).read(&mut clock, 7)
        };
        let counted = Counts {
            instructions: Some(5),
            cycles: Some(0),
            energy_nj: None,
        };
        let counters = read(counted).unwrap();
        assert_eq!((counters.iterations, counters.instructions), (7, Some(5)));
        assert_eq!((counters.cycles, counters.energy_nj), (None, None));
        let guest = Counts {
            instructions: Some(0),
            ..counted
        };
        assert_eq!(read(guest), None);
        assert_eq!(read(Counts::default()), None);
    }

    #[test]
    fn both_ends_of_every_window_are_read() {
        let read = |windows: &str| -> Vec<u32> {
            let windows = window::parse(windows).unwrap();
            (0..=9)
                .filter(|&done| is_read_after(&windows, 9, done))
                .collect()
        };
        assert_eq!(read("1-2,2-4,6-7"), [0, 2, 4, 5, 7, 9]);
        assert_eq!(read("1-9"), [0, 9]);
    }

    /// With an event of the kernel's own, since there may be no PMU here.
    #[cfg(target_os = "linux")]
    #[test]
    fn threads_that_start_later_are_counted_too() {
        use perf_event::events::Software;

        let Ok(mut faults) = system::Threads::open(Software::PAGE_FAULTS) else {
            // Not captured, unlike what a macro prints.
            let note = b"note: skipped, since the kernel lets no event be counted here\n";
            std::io::Write::write_all(&mut std::io::stderr(), note).unwrap();
            return;
        };
        let before = faults.read().unwrap();
        let pages = 4096;
        let touch = move || std::hint::black_box(vec![1_u8; pages * 4096]).len();
        std::thread::spawn(touch).join().unwrap();
        let grown = faults.read().unwrap() - before;
        // Huge pages need fewer faults; one that counts nothing of the thread would have none.
        assert!(grown > 4, "{grown} page faults");
    }
}
