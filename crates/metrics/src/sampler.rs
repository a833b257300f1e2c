//! Sensors that are read at an interval while a run goes on: power, energy, temperature, clocks.
//!
//! A thread of its own reads them and hands them over; the measured loop takes what there is
//! between two steps. A reading may take one part in a hundred of the time between two: where it
//! is dearer, they lie further apart.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::measure::{Clock, SystemClock};
use crate::record::{Sampling, Sensors};

/// Between two samples, where they are cheap enough.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// A reading may take one part in this many of the time between two.
const SHARE: u32 = 100;

/// What can be sampled.
pub trait Source {
    /// A sample of now, without its moment; `at_ns` is set by the caller.
    fn read(&mut self) -> Option<Sensors>;

    /// How long the reading itself waits, for sources that measure over a span: their figures
    /// are averages over it.
    fn span(&self) -> Duration {
        Duration::ZERO
    }

    /// What a rail is read from.
    fn name(&self, rail: &str) -> &'static str;
}

/// A thread that samples until it is dropped.
pub struct Sampler {
    sampling: Sampling,
    samples: Receiver<Sensors>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Samples what `open` gives, which is called on the thread that reads it; `None` where that
    /// is nothing, or has neither power nor energy.
    pub fn start<S: Source>(
        clock: SystemClock,
        open: impl FnOnce() -> Option<S> + Send + 'static,
    ) -> Option<Self> {
        let (stop, stopped) = mpsc::channel();
        let (send, samples) = mpsc::channel();
        let (send_sampling, sampling) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("sensors".to_owned())
            .spawn(move || {
                let Some(mut source) = open() else { return };
                let Some((first, _)) = sample(&mut source, clock) else {
                    return;
                };
                let Some(found) = describe(&source, &first) else {
                    return;
                };
                if send_sampling.send(found).is_err() || send.send(first).is_err() {
                    return;
                }
                run(&mut source, clock, &send, &stopped);
            })
            .ok()?;
        match sampling.recv() {
            Ok(sampling) => Some(Self {
                sampling,
                samples,
                stop: Some(stop),
                thread: Some(thread),
            }),
            // The thread has ended.
            Err(_) => {
                let _ = thread.join();
                None
            }
        }
    }

    /// What is sampled, and how often.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// The samples since the last call.
    pub fn take(&self) -> impl Iterator<Item = Sensors> + '_ {
        self.samples.try_iter()
    }

    /// Ends the thread, and gives the samples since the last [`Sampler::take`].
    pub fn finish(mut self) -> Vec<Sensors> {
        self.join();
        self.samples.try_iter().collect()
    }

    fn join(&mut self) {
        // A closed channel is what the thread waits for.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.join();
    }
}

fn run<S: Source>(
    source: &mut S,
    clock: SystemClock,
    send: &Sender<Sensors>,
    stopped: &Receiver<()>,
) {
    let mut cost = Duration::ZERO;
    loop {
        let pause = pause(cost, source.span());
        if !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
            return;
        }
        let Some((sensors, took)) = sample(source, clock) else {
            continue;
        };
        cost = took;
        if send.send(sensors).is_err() {
            return;
        }
    }
}

/// How long to wait before a reading that is expected to cost this much, and waits for `span`
/// itself.
fn pause(cost: Duration, span: Duration) -> Duration {
    INTERVAL.max(cost * SHARE).saturating_sub(span)
}

/// A sample at its moment, which is the middle of what it is an average of, and what it cost.
fn sample<S: Source>(source: &mut S, mut clock: SystemClock) -> Option<(Sensors, Duration)> {
    let begin = clock.now_ns();
    let sensors = source.read()?;
    let end = clock.now_ns();
    let span = source.span();
    let half = u64::try_from(span.as_nanos() / 2).unwrap_or(0);
    let at_ns = end.saturating_sub(half).max(begin);
    let took = Duration::from_nanos(end - begin).saturating_sub(span);
    Some((Sensors { at_ns, ..sensors }, took))
}

fn describe<S: Source>(source: &S, first: &Sensors) -> Option<Sampling> {
    let power = first.power_uw.iter().flat_map(|rails| rails.keys());
    let energy = first.energy_uj.iter().flat_map(|rails| rails.keys());
    let rails: std::collections::BTreeMap<String, String> = power
        .chain(energy)
        .map(|rail| (rail.clone(), source.name(rail).to_owned()))
        .collect();
    (!rails.is_empty()).then(|| Sampling {
        interval_ns: INTERVAL.as_nanos() as u64,
        rails,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use super::*;

    /// Counts its readings as microwatts.
    struct Counting(u64);

    impl Source for Counting {
        fn read(&mut self) -> Option<Sensors> {
            self.0 += 1;
            Some(Sensors {
                power_uw: Some(BTreeMap::from([("gpu".to_owned(), self.0)])),
                ..Sensors::default()
            })
        }

        fn name(&self, _: &str) -> &'static str {
            "test"
        }
    }

    #[test]
    fn a_reading_takes_a_hundredth_of_the_time_at_most() {
        let ms = Duration::from_millis;
        assert_eq!(pause(ms(0), ms(0)), ms(250));
        assert_eq!(pause(ms(2), ms(0)), ms(250));
        assert_eq!(pause(ms(5), ms(0)), ms(500));
        assert_eq!(pause(ms(5), ms(200)), ms(300));
        assert_eq!(pause(ms(1), ms(250)), ms(0));
    }

    #[test]
    fn samples_arrive_in_order_and_end_with_the_sampler() {
        let clock = SystemClock::new(Instant::now());
        let sampler = Sampler::start(clock, || Some(Counting(0))).unwrap();
        assert_eq!(sampler.sampling().rails["gpu"], "test");
        let samples = sampler.finish();
        let power: Vec<u64> = samples
            .iter()
            .map(|it| it.power_uw.as_ref().unwrap()["gpu"])
            .collect();
        assert_eq!(power, (1..=power.len() as u64).collect::<Vec<_>>());
        assert!(!power.is_empty() && samples.is_sorted_by_key(|it| it.at_ns));
    }

    #[test]
    fn nothing_to_sample_is_no_sampler() {
        struct Blind;
        impl Source for Blind {
            fn read(&mut self) -> Option<Sensors> {
                Some(Sensors::default())
            }
            fn name(&self, _: &str) -> &'static str {
                "nothing"
            }
        }
        let clock = SystemClock::new(Instant::now());
        assert!(Sampler::start(clock, || None::<Counting>).is_none());
        assert!(Sampler::start(clock, || Some(Blind)).is_none());
    }
}
