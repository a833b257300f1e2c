//! How fast this machine's processors copy memory: what the roofline of a CPU rests on, since
//! nobody publishes it.
//!
//! Every thread copies a block of its own, as STREAM's copy does (McCalpin 1995, "Memory Bandwidth
//! and Machine Balance in Current High Performance Computers"). The first pass also makes the pages
//! of the target, and is not measured.

use std::sync::Barrier;
use std::thread;

use crate::clock::Clock;
use crate::record::Copies;

/// Bytes that are copied in a pass, all threads together: more than the caches of most processors.
const BYTES: usize = 128 << 20;

const PASSES: usize = 7;

/// Copies memory with this many threads; about a fifth of a second, and twice 128 MiB meanwhile.
/// `None` for no thread.
pub fn probe<C: Clock>(threads: usize, clock: &mut C) -> Option<Copies> {
    let share = BYTES.checked_div(threads)?;
    // One more, for the thread that reads the clock.
    let (begin, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    let pass_ns = thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let source = vec![1_u8; share];
                let mut target = vec![0_u8; share];
                for _ in 0..=PASSES {
                    begin.wait();
                    target.copy_from_slice(&source);
                    end.wait();
                    // Or the copy could be left out, since nobody reads it.
                    std::hint::black_box(&mut target);
                }
            });
        }
        let mut pass = || {
            begin.wait();
            let start = clock.now_ns();
            end.wait();
            clock.now_ns().saturating_sub(start)
        };
        pass();
        (0..PASSES).map(|_| pass()).collect()
    });
    Some(Copies {
        threads: threads as u32,
        // Every byte is read once and written once.
        pass_bytes: 2 * (share * threads) as u64,
        pass_ns,
    })
}

/// Bytes per second of the fastest pass: a limit is what was reached at all. `None` where no pass
/// took any time.
pub fn fastest(copies: &Copies) -> Option<f64> {
    let ns = copies.pass_ns.iter().copied().filter(|&ns| ns > 0).min()?;
    Some(copies.pass_bytes as f64 * 1e9 / ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that moves by 1, 2, 3, ... milliseconds.
    struct Steps(u64, u64);

    impl Clock for Steps {
        fn now_ns(&mut self) -> u64 {
            self.1 += 1_000_000;
            self.0 += self.1;
            self.0
        }
    }

    #[test]
    fn every_pass_but_the_first_is_measured() {
        let copies = probe(2, &mut Steps(0, 0)).unwrap();
        assert_eq!(copies.threads, 2);
        assert_eq!(copies.pass_bytes, 2 * 128 * 1_048_576);
        // The clock is read twice a pass; the first pass took 2 ms of it.
        let expected: Vec<u64> = (2..9).map(|pass| 2 * pass * 1_000_000).collect();
        assert_eq!(copies.pass_ns, expected);
        assert_eq!(probe(0, &mut Steps(0, 0)), None);
    }

    #[test]
    fn the_fastest_pass_is_the_bandwidth() {
        let of = |pass_ns: &[u64]| {
            fastest(&Copies {
                threads: 1,
                pass_bytes: 4_000,
                pass_ns: pass_ns.to_vec(),
            })
        };
        assert_eq!(of(&[4_000, 2_000, 8_000]), Some(2e9));
        assert_eq!(of(&[0, 4_000]), Some(1e9));
        assert_eq!((of(&[0]), of(&[])), (None, None));
    }
}
