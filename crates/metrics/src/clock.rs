//! The clock that measures, given to whoever measures, so that a test can have another.

use std::time::Instant;

/// A monotonic clock.
pub trait Clock {
    /// Nanoseconds since process start.
    fn now_ns(&mut self) -> u64;
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    process_start: Instant,
}

impl SystemClock {
    /// A clock that counts from `process_start`, which should be taken first thing in `main`.
    pub fn new(process_start: Instant) -> Self {
        Self { process_start }
    }
}

impl Clock for SystemClock {
    fn now_ns(&mut self) -> u64 {
        // 2^64 ns are 584 years.
        u64::try_from(self.process_start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
