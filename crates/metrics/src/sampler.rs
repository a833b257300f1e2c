//! Sensors that are read at an interval while a run goes on: power, energy, temperature, clocks.
//!
//! A thread of its own reads them and hands them over; the measured loop takes what there is
//! between two steps. A reading may take a part of the time between two that its source names:
//! where it is dearer, they lie further apart. A source that panics ends the sampling and nothing
//! else.

use std::any::Any;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::record::{Sampling, Sensors};

/// Between two samples, where they are cheap enough.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// Name of the thread.
const THREAD: &str = "sensors";

/// What can be sampled.
pub trait Source {
    /// A sample of now, without its moment; `at_ns` is set by the caller.
    fn read(&mut self) -> Option<Sensors>;

    /// Whether the figures are averages over the time since the reading before, and not of the
    /// moment.
    fn averages(&self) -> bool {
        false
    }

    /// A reading may take one part in this many of the time between two.
    fn share(&self) -> u32 {
        100
    }

    /// Rails that may be silent in the first sample of a source that has others.
    fn late(&self) -> &'static [&'static str] {
        &[]
    }

    /// What a rail is read from.
    fn name(&self, rail: &str) -> &'static str;
}

/// A thread that samples until it is dropped.
pub struct Sampler {
    found: Receiver<Sampling>,
    sampling: OnceCell<Option<Sampling>>,
    samples: Receiver<Sensors>,
    failed: Receiver<String>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Samples what `open` gives, which is called on the thread that reads it and is not waited
    /// for; `None` where there can be no thread.
    pub fn start<S: Source>(
        clock: SystemClock,
        open: impl FnOnce() -> Option<S> + Send + 'static,
    ) -> Option<Self> {
        let (stop, stopped) = mpsc::channel();
        let (send, samples) = mpsc::channel();
        let (send_sampling, found) = mpsc::channel();
        let (send_failure, failed) = mpsc::channel();
        keep_panics_quiet();
        let thread = thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || {
                let sampled = panic::catch_unwind(AssertUnwindSafe(|| {
                    let source = open()?;
                    sample(source, clock, &send_sampling, &send, &stopped)
                }));
                // The other channels are still open, so that whoever waits for them finds it.
                if let Err(panic) = sampled {
                    let _ = send_failure.send(first_line(panic.as_ref()));
                }
            })
            .ok()?;
        Some(Self {
            found,
            sampling: OnceCell::new(),
            samples,
            failed,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What is sampled, and how often; `None` where that is nothing, or has neither power nor
    /// energy. Waits for the first sample.
    pub fn sampling(&self) -> Option<&Sampling> {
        // The channel is closed where the thread has ended.
        let sampling = self.sampling.get_or_init(|| self.found.recv().ok());
        sampling.as_ref()
    }

    /// The samples since the last call.
    pub fn take(&self) -> impl Iterator<Item = Sensors> + '_ {
        self.samples.try_iter()
    }

    /// What a source panicked with, in one line; told once.
    pub fn failure(&self) -> Option<String> {
        self.failed.try_recv().ok()
    }

    /// Ends the thread, and gives the samples since the last [`Sampler::take`], and the failure
    /// where it was not told.
    pub fn finish(mut self) -> (Vec<Sensors>, Option<String>) {
        self.join();
        (self.samples.try_iter().collect(), self.failure())
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

/// Panics of the thread are told by [`Sampler::failure`], and not on stderr.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD) {
                before(info);
            }
        }));
    });
}

fn first_line(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref().copied());
    let line = text.and_then(|text| text.lines().next());
    line.unwrap_or("no reason given").to_owned()
}

/// Says what there is to sample, and samples until it is stopped; `None` where there is nothing.
fn sample<S: Source>(
    mut source: S,
    clock: SystemClock,
    send_sampling: &Sender<Sampling>,
    send: &Sender<Sensors>,
    stopped: &Receiver<()>,
) -> Option<()> {
    // Dearer than those that follow, and no average over a time that is known.
    let opened = Reading::take(&mut source, clock, 0);
    if source.averages() && !has_passed(INTERVAL, stopped) {
        return None;
    }
    let first = Reading::take(&mut source, clock, opened.begin_ns);
    let sampling = describe(&source, first.sensors.as_ref()?, first.cost)?;
    send_sampling.send(sampling).ok()?;
    run(&mut source, clock, first, send, stopped);
    Some(())
}

fn run<S: Source>(
    source: &mut S,
    clock: SystemClock,
    first: Reading,
    send: &Sender<Sensors>,
    stopped: &Receiver<()>,
) {
    let mut last = first;
    loop {
        if let Some(sensors) = last.sensors.take()
            && send.send(sensors).is_err()
        {
            return;
        }
        let pause = interval(last.cost, source.share());
        if !has_passed(pause, stopped) {
            return;
        }
        last = Reading::take(source, clock, last.begin_ns);
    }
}

/// Waits for so long, and says whether nothing ended the sampling meanwhile.
fn has_passed(pause: Duration, stopped: &Receiver<()>) -> bool {
    stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}

/// How long to wait between two readings that cost this much, one part in `share` of it.
fn interval(cost: Duration, share: u32) -> Duration {
    INTERVAL.max(cost * share)
}

/// A sample, or that there was none, and what it cost.
struct Reading {
    sensors: Option<Sensors>,
    begin_ns: u64,
    cost: Duration,
}

impl Reading {
    /// Reads a sample, `since_ns` being when the reading before began.
    fn take<S: Source>(source: &mut S, mut clock: SystemClock, since_ns: u64) -> Self {
        let begin_ns = clock.now_ns();
        let sensors = source.read();
        let end_ns = clock.now_ns();
        // An average stands in the middle of its time, which ends where the reading begins.
        let at_ns = match source.averages() {
            true => begin_ns - begin_ns.saturating_sub(since_ns) / 2,
            false => end_ns,
        };
        Self {
            sensors: sensors.map(|sensors| Sensors { at_ns, ..sensors }),
            begin_ns,
            cost: Duration::from_nanos(end_ns - begin_ns),
        }
    }
}

/// What there is to sample, how often at this cost of a reading, and from what.
fn describe<S: Source>(source: &S, first: &Sensors, cost: Duration) -> Option<Sampling> {
    let power = first.power_uw.iter().flat_map(|rails| rails.keys());
    let energy = first.energy_uj.iter().flat_map(|rails| rails.keys());
    let mut rails: BTreeMap<String, String> = power
        .chain(energy)
        .map(|rail| (rail.clone(), source.name(rail).to_owned()))
        .collect();
    if rails.is_empty() {
        return None;
    }
    let late = source.late().iter();
    rails.extend(late.map(|&rail| (rail.to_owned(), source.name(rail).to_owned())));
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Some(Sampling {
        interval_ns: ns(interval(cost, source.share())),
        reading_ns: Some(ns(cost)),
        rails,
    })
}

#[cfg(test)]
mod tests {
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

    /// Has 7 µW on average since the reading before, and a rail that comes later.
    struct Averaging;

    impl Source for Averaging {
        fn read(&mut self) -> Option<Sensors> {
            thread::sleep(Duration::from_millis(4));
            Some(Sensors {
                power_uw: Some([("system".to_owned(), 7)].into()),
                ..Sensors::default()
            })
        }

        fn averages(&self) -> bool {
            true
        }

        fn late(&self) -> &'static [&'static str] {
            &["gpu"]
        }

        fn name(&self, _: &str) -> &'static str {
            "test"
        }
    }

    #[test]
    fn a_reading_takes_its_share_of_the_time_at_most() {
        let ms = Duration::from_millis;
        assert_eq!(interval(ms(0), 100), ms(250));
        assert_eq!(interval(ms(2), 100), ms(250));
        assert_eq!(interval(ms(5), 100), ms(500));
        assert_eq!(interval(ms(8), 20), ms(250));
        assert_eq!(interval(ms(20), 20), ms(400));
    }

    #[test]
    fn an_average_stands_in_the_middle_of_its_time_and_costs_all_that_it_takes() {
        let mut clock = SystemClock::new(Instant::now());
        thread::sleep(Duration::from_millis(10));
        let before_ns = clock.now_ns();
        let since_ns = before_ns - 8_000_000;
        let reading = Reading::take(&mut Averaging, clock, since_ns);
        let at_ns = reading.sensors.unwrap().at_ns;
        assert_eq!(at_ns - since_ns, (reading.begin_ns - since_ns).div_ceil(2));
        assert!(reading.begin_ns >= before_ns && reading.cost >= Duration::from_millis(4));
        let moment = Reading::take(&mut Counting(0), clock, since_ns);
        assert!(moment.sensors.unwrap().at_ns >= moment.begin_ns);
    }

    #[test]
    fn a_dear_reading_is_recorded_with_its_interval_and_the_rails_that_come_later() {
        let clock = SystemClock::new(Instant::now());
        let sampler = Sampler::start(clock, || Some(Averaging)).unwrap();
        let sampling = sampler.sampling().unwrap();
        let reading_ns = sampling.reading_ns.unwrap();
        assert!(reading_ns >= 4_000_000, "{sampling:?}");
        assert_eq!(sampling.interval_ns, 100 * reading_ns);
        let rails: Vec<_> = sampling.rails.keys().collect();
        assert_eq!(rails, ["gpu", "system"]);
    }

    #[test]
    fn samples_arrive_in_order_and_end_with_the_sampler() {
        let clock = SystemClock::new(Instant::now());
        let sampler = Sampler::start(clock, || Some(Counting(0))).unwrap();
        assert_eq!(sampler.sampling().unwrap().rails["gpu"], "test");
        let (samples, failure) = sampler.finish();
        assert_eq!(failure, None);
        let power: Vec<u64> = samples
            .iter()
            .map(|it| it.power_uw.as_ref().unwrap()["gpu"])
            .collect();
        // The first reading is not a sample.
        let expected: Vec<_> = (2..).take(power.len()).collect();
        assert_eq!(power, expected);
        assert!(!power.is_empty() && samples.is_sorted_by_key(|it| it.at_ns));
    }

    #[test]
    fn a_source_that_panics_ends_the_sampling_with_one_line() {
        struct Breaking;
        impl Source for Breaking {
            fn read(&mut self) -> Option<Sensors> {
                panic!("no channel {}\nof two lines", 7);
            }
            fn name(&self, _: &str) -> &'static str {
                "test"
            }
        }
        let clock = SystemClock::new(Instant::now());
        let sampler = Sampler::start(clock, || Some(Breaking)).unwrap();
        assert_eq!(sampler.sampling(), None);
        assert_eq!(sampler.failure().as_deref(), Some("no channel 7"));
        assert_eq!(sampler.finish(), (Vec::new(), None));
    }

    #[test]
    fn what_opens_slowly_is_not_waited_for_at_the_start() {
        let clock = SystemClock::new(Instant::now());
        let (begin, begun) = mpsc::channel();
        let open = move || {
            begun.recv_timeout(Duration::from_secs(10)).ok()?;
            Some(Counting(0))
        };
        let sampler = Sampler::start(clock, open).unwrap();
        begin.send(()).unwrap();
        assert!(sampler.sampling().is_some());
    }

    #[test]
    fn nothing_to_sample_is_no_sampling() {
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
        let nothing = Sampler::start(clock, || None::<Counting>).unwrap();
        assert_eq!(nothing.sampling(), None);
        let blind = Sampler::start(clock, || Some(Blind)).unwrap();
        assert_eq!(blind.sampling(), None);
        assert_eq!(blind.finish(), (Vec::new(), None));
    }
}
