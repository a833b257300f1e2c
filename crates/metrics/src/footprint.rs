//! Memory of the process as the operating system counts it, and swap in use on the machine.
//!
//! On macOS this is `phys_footprint`, since the resident set can miss memory that Metal
//! allocated; on Linux it is the resident set size (RSS). Reading costs microseconds, which a
//! fast step would feel: readings are rationed to a share of the time that has passed.

use crate::clock::Clock;

/// Readings may take one part in this many of the time since process start, each kind for
/// itself: 0.1 %.
const SHARE_OF_ELAPSED: u64 = 1000;

/// Reads the process footprint and the swap in use.
pub struct FootprintReader {
    source: Option<&'static str>,
    footprint: Rationed,
    swap: Rationed,
}

/// What was read; `None` where it was not affordable or could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub footprint_bytes: Option<u64>,
    /// Swap in use on the whole machine.
    pub swap_bytes: Option<u64>,
}

impl FootprintReader {
    /// A reader for this operating system.
    pub fn new() -> Self {
        let (source, footprint) = system::footprint();
        Self::from_fns(source, footprint, system::swap_used)
    }

    /// A reader of other values, with the name of the first one's source.
    pub fn from_fns(
        source: Option<&'static str>,
        footprint: impl FnMut() -> Option<u64> + 'static,
        swap: impl FnMut() -> Option<u64> + 'static,
    ) -> Self {
        Self {
            source,
            footprint: Rationed::new(footprint),
            swap: Rationed::new(swap),
        }
    }

    /// Where the footprint is read from: `phys_footprint` or `rss`; `None` where it cannot be.
    pub fn source(&self) -> Option<&'static str> {
        self.source
    }

    /// Reads at once, whatever it costs, and without counting it: for the few moments outside
    /// the measured loop.
    pub fn read(&mut self) -> Reading {
        Reading {
            footprint_bytes: (self.footprint.read)(),
            swap_bytes: (self.swap.read)(),
        }
    }

    /// Reads what fits into 0.1 % of the time since process start, each kind for itself. The
    /// first reading of each is always taken, and its cost counts for the next ones.
    pub fn read_if_affordable(&mut self, clock: &mut dyn Clock) -> Reading {
        Reading {
            footprint_bytes: self.footprint.read_if_affordable(clock),
            swap_bytes: self.swap.read_if_affordable(clock),
        }
    }
}

impl Default for FootprintReader {
    fn default() -> Self {
        Self::new()
    }
}

struct Rationed {
    read: Box<dyn FnMut() -> Option<u64>>,
    spent_ns: u64,
    /// The dearest reading so far, which the next one is expected to cost.
    dearest_ns: Option<u64>,
}

impl Rationed {
    fn new(read: impl FnMut() -> Option<u64> + 'static) -> Self {
        Self {
            read: Box::new(read),
            spent_ns: 0,
            dearest_ns: None,
        }
    }

    fn read_if_affordable(&mut self, clock: &mut dyn Clock) -> Option<u64> {
        let begin = clock.now_ns();
        if let Some(expected) = self.dearest_ns
            && self.spent_ns.saturating_add(expected) > begin / SHARE_OF_ELAPSED
        {
            return None;
        }
        let value = (self.read)();
        let cost = clock.now_ns().saturating_sub(begin);
        self.spent_ns = self.spent_ns.saturating_add(cost);
        self.dearest_ns = self.dearest_ns.max(Some(cost));
        value
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;

    pub(super) fn footprint() -> (Option<&'static str>, impl FnMut() -> Option<u64>) {
        // The size of a page is not a constant: 64 KiB kernels are common on Arm.
        let page_bytes = fs::read("/proc/self/auxv")
            .ok()
            .and_then(|auxv| super::page_bytes(&auxv));
        let read = move || {
            let statm = fs::read_to_string("/proc/self/statm").ok()?;
            super::resident_pages(&statm)?.checked_mul(page_bytes?)
        };
        (page_bytes.map(|_| "rss"), read)
    }

    pub(super) fn swap_used() -> Option<u64> {
        super::swap_used_bytes(&fs::read_to_string("/proc/meminfo").ok()?)
    }
}

#[cfg(target_os = "macos")]
mod system {
    pub(super) fn footprint() -> (Option<&'static str>, impl FnMut() -> Option<u64>) {
        (Some("phys_footprint"), crate::macos::phys_footprint_bytes)
    }

    pub(super) use crate::macos::swap_used_bytes as swap_used;
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod system {
    pub(super) fn footprint() -> (Option<&'static str>, impl FnMut() -> Option<u64>) {
        (None, || None)
    }

    pub(super) fn swap_used() -> Option<u64> {
        None
    }
}

/// Size of a page from the auxiliary vector the kernel hands to a process: pairs of words, the
/// kind and its value (`getauxval(3)`).
#[cfg(any(target_os = "linux", test))]
fn page_bytes(auxv: &[u8]) -> Option<u64> {
    const AT_PAGESZ: usize = 6;
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| bytes.try_into().ok().map(usize::from_ne_bytes);
    auxv.chunks_exact(2 * WORD)
        .find(|entry| word(&entry[..WORD]) == Some(AT_PAGESZ))
        .and_then(|entry| word(&entry[WORD..]))
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| bytes.is_power_of_two())
}

/// Resident pages from `/proc/self/statm`: its second number (`proc_pid_statm(5)`).
#[cfg(any(target_os = "linux", test))]
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Swap in use from `/proc/meminfo`, whose "kB" are 1024 bytes (`proc_meminfo(5)`).
#[cfg(any(target_os = "linux", test))]
fn swap_used_bytes(meminfo: &str) -> Option<u64> {
    let kib = |key: &str| -> Option<u64> {
        meminfo
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?
            .trim()
            .strip_suffix("kB")?
            .trim_end()
            .parse()
            .ok()
    };
    kib("SwapTotal")?
        .checked_sub(kib("SwapFree")?)?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    struct Time(Rc<Cell<u64>>);

    impl Clock for Time {
        fn now_ns(&mut self) -> u64 {
            self.0.get()
        }
    }

    /// Asks for a reading that costs `cost` ns at each of `moments`, and compares the moments
    /// at which one was taken.
    fn check_rationing(cost: u64, moments: impl IntoIterator<Item = u64>, expected: &[u64]) {
        let now = Rc::new(Cell::new(0));
        let passing = Rc::clone(&now);
        let mut reader = FootprintReader::from_fns(
            Some("rss"),
            move || {
                passing.set(passing.get() + cost);
                Some(1)
            },
            || None,
        );
        let mut taken = Vec::new();
        for moment in moments {
            now.set(moment);
            let reading = reader.read_if_affordable(&mut Time(Rc::clone(&now)));
            assert_eq!(reading.swap_bytes, None);
            if reading.footprint_bytes.is_some() {
                taken.push(moment);
            }
        }
        assert_eq!(taken, expected);
    }

    #[test]
    fn the_first_reading_is_always_taken() {
        check_rationing(1_000_000, [0, 1, 2], &[0]);
    }

    #[test]
    fn later_readings_wait_until_they_fit_the_share() {
        // Two readings of 10 ns are 0.1 % of 20,000 ns, and so on.
        check_rationing(
            10,
            [5, 19_999, 20_000, 20_001, 29_999, 30_000, 90_000, 90_010],
            &[5, 20_000, 30_000, 90_000, 90_010],
        );
    }

    #[test]
    fn readings_never_take_more_than_their_share() {
        for cost in [1, 7, 100] {
            let moments: Vec<u64> = (1..2000).map(|k| k * 997).collect();
            let mut spent = 0;
            let now = Rc::new(Cell::new(0));
            let passing = Rc::clone(&now);
            let mut reading = Rationed::new(move || {
                passing.set(passing.get() + cost);
                Some(1)
            });
            for (index, &moment) in moments.iter().enumerate() {
                now.set(moment);
                let taken = reading.read_if_affordable(&mut Time(Rc::clone(&now)));
                spent += u64::from(taken.is_some()) * cost;
                assert!(index == 0 || spent == cost || spent * 1000 <= moment);
            }
            assert!(spent > cost);
        }
    }

    #[test]
    fn a_reading_outside_the_loop_costs_no_later_one() {
        let now = Rc::new(Cell::new(0));
        let mut reader = FootprintReader::from_fns(None, || Some(5), || Some(6));
        let both = Reading {
            footprint_bytes: Some(5),
            swap_bytes: Some(6),
        };
        assert_eq!(reader.read(), both);
        assert_eq!(reader.read_if_affordable(&mut Time(now)), both);
    }

    #[test]
    fn swap_is_what_is_not_free() {
        let meminfo = "MemTotal:       16316412 kB\n\
                       SwapCached:            8 kB\n\
                       SwapTotal:       2097148 kB\n\
                       SwapFree:        2096124 kB\n";
        assert_eq!(swap_used_bytes(meminfo), Some(1024 * 1024));
        assert_eq!(
            swap_used_bytes("SwapTotal: 0 kB\nSwapFree: 0 kB\n"),
            Some(0)
        );
        assert_eq!(swap_used_bytes("SwapTotal: 5 kB\n"), None);
        assert_eq!(swap_used_bytes("SwapTotal: 5 kB\nSwapFree: 6 kB\n"), None);
        assert_eq!(swap_used_bytes(""), None);
    }

    #[test]
    fn resident_pages_are_the_second_number() {
        assert_eq!(resident_pages("5462 1342 997 9 0 372 0\n"), Some(1342));
        assert_eq!(resident_pages("5462"), None);
        assert_eq!(resident_pages("5462 x"), None);
    }

    #[test]
    fn the_page_size_is_found_by_its_kind() {
        let auxv = |entries: &[[usize; 2]]| -> Vec<u8> {
            entries
                .iter()
                .flatten()
                .flat_map(|w| w.to_ne_bytes())
                .collect()
        };
        let entries = [[16, 0x1f8b_fbff], [6, 65536], [17, 100], [0, 0]];
        assert_eq!(page_bytes(&auxv(&entries)), Some(65536));
        assert_eq!(page_bytes(&auxv(&[[17, 6], [0, 0]])), None);
        assert_eq!(page_bytes(&auxv(&[[6, 4095]])), None);
        assert_eq!(page_bytes(&[]), None);
    }

    #[cfg(any(target_os = "linux", target_os = "macos"))]
    #[test]
    fn touched_memory_shows_in_the_footprint() {
        const ADDED: u64 = 256 << 20;
        let mut reader = FootprintReader::new();
        assert!(reader.source().is_some());
        let before = reader.read().footprint_bytes.unwrap();
        let block = std::hint::black_box(vec![1_u8; ADDED as usize]);
        let after = reader.read().footprint_bytes.unwrap();
        drop(block);
        // Other tests of this process come and go meanwhile, with far less memory than this.
        let grown = after.saturating_sub(before);
        assert!(
            grown > ADDED / 2 && grown < ADDED * 2,
            "{ADDED} bytes showed as {grown}"
        );
    }
}
