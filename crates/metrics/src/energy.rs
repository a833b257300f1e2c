//! The energy of a run, from what its sensors recorded.
//!
//! Between two samples a rail has the power that its energy counter rose by over the time, or,
//! where it has no counter, a power that goes in a straight line from one reading to the next.
//! The energy of a stretch of the run is the integral over it, by trapezoids that are cut at its
//! ends. Two samples further apart than [`GAP`] intervals, and a counter that fell, leave a gap
//! that no energy is assumed for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::mac;
use crate::record::{PhaseKind, Sensors};
use crate::store::Record;
use crate::training::{Training, Window};

/// Samples further apart than this many intervals have a gap between them.
pub const GAP: u64 = 3;

/// Fewest samples within a stretch whose energy is stated.
pub const FEWEST_SAMPLES: usize = 5;

/// Smallest share of a stretch that samples must cover for its energy to be stated.
pub const LEAST_COVERED: f64 = 0.9;

/// Energy of one run.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Energy {
    /// Between two samples, as intended.
    pub interval_ns: u64,
    /// In the order of the alphabet. They overlap: a system's power holds that of its parts.
    pub rails: Vec<Rail>,
    /// Parts of the run that were too short for any rail.
    pub too_short: Vec<TooShort>,
}

/// A part of the run that ended before enough samples could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct TooShort {
    pub part: Part,
    pub wall_ns: u64,
    /// How long would do.
    pub needed_ns: u64,
    /// As many iterations, or generated tokens, as would take that long.
    pub needed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "EnergyPart")]
pub enum Part {
    /// Iterations, from the first to the last.
    Training,
    /// All prompts.
    Generation,
}

impl TooShort {
    /// `None` where the part was long enough; `done` is how much of it there was.
    fn of(part: Part, wall_ns: u64, done: u64, interval_ns: u64) -> Option<Self> {
        // One more, for the parts of an interval at the ends.
        let needed_ns = interval_ns.saturating_mul(FEWEST_SAMPLES as u64 + 1);
        (0 < wall_ns && wall_ns < needed_ns).then(|| Self {
            part,
            wall_ns,
            needed_ns,
            needed: (done as f64 * needed_ns as f64 / wall_ns as f64).ceil() as u64,
        })
    }
}

/// One thing whose power is measured.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Rail {
    pub name: String,
    /// What it is read from.
    pub source: String,
    /// Mean power before the run; `None` where that was not measured.
    pub idle_watts: Option<f64>,
    pub training: Option<Slice>,
    /// One for every window of the summary.
    pub windows: Vec<Option<Slice>>,
    /// All prompts, from the begin of the first to the end of the last.
    pub generation: Option<Slice>,
}

/// The energy of a stretch of wall time.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Slice {
    pub wall_ns: u64,
    /// Share of the wall time that samples cover.
    pub covered: f64,
    pub samples: usize,
    /// Mean power over what is covered.
    pub watts: f64,
    /// Mean power times wall time.
    pub energy: Joules,
    pub per_iteration: Option<Joules>,
    /// Per 1,000 tokens of the samples themselves.
    pub per_thousand_tokens: Option<Joules>,
    pub per_generated_token: Option<Joules>,
}

/// Energy, whole and less what the machine draws when idle.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Joules {
    pub whole: f64,
    /// `None` where the idle power was not measured.
    pub above_idle: Option<f64>,
}

impl Joules {
    fn over(self, count: u64) -> Option<Self> {
        (count > 0).then(|| Self {
            whole: self.whole / count as f64,
            above_idle: self.above_idle.map(|joules| joules / count as f64),
        })
    }
}

/// Name of the GPU's rail, from every source.
const GPU: &str = "gpu";

/// Of the GPU while it trained, per 1,000 tokens of the samples themselves, in joules.
pub(crate) fn gpu_training_joules(record: &Record) -> Option<f64> {
    let sampling = record.start.sampling.as_ref()?;
    sampling.rails.get(GPU)?;
    let (begin, end) = (record.iterations.first()?, record.iterations.last()?);
    let tokens = record.iterations.iter();
    let tokens = tokens.map(|it| u64::from(it.real_tokens)).sum();
    let slice = Power::of(record, GPU).slice(begin.start_ns, end.end_ns(), None)?;
    thousand(slice.energy, tokens).map(|energy| energy.whole)
}

/// Derives the energy of a run; `None` where nothing was sampled.
pub fn energy(record: &Record, training: Option<&Training>, windows: &[Window]) -> Option<Energy> {
    let sampling = record.start.sampling.as_ref()?;
    let rails = sampling.rails.iter().map(|(name, source)| {
        let power = Power::of(record, name);
        let pauses = record.phases.iter().rev();
        let mut pauses = pauses.filter(|phase| phase.phase == PhaseKind::Idle);
        let idle = pauses.find_map(|phase| {
            let end = phase.start_ns.saturating_add(phase.wall_ns);
            power.mean(phase.start_ns, end)
        });
        let idle_watts = idle.map(|mean| mean.watts);
        let of_iterations = |first: u32, last: u32, training: &Training| {
            let begin = record.iterations.iter().find(|it| it.iteration == first)?;
            let end = record.iterations.iter().find(|it| it.iteration == last)?;
            let mut slice = power.slice(begin.start_ns, end.end_ns(), idle_watts)?;
            slice.per_iteration = slice.energy.over(training.iterations.into());
            slice.per_thousand_tokens = thousand(slice.energy, training.real_tokens.total);
            Some(slice)
        };
        Rail {
            name: name.clone(),
            source: source.clone(),
            idle_watts,
            training: training.and_then(|training| {
                let first = record.iterations.first()?.iteration;
                let last = record.iterations.last()?.iteration;
                of_iterations(first, last, training)
            }),
            windows: windows
                .iter()
                .map(|window| of_iterations(window.first, window.last, &window.training))
                .collect(),
            generation: generation(record, &power, idle_watts),
        }
    });
    let rails: Vec<Rail> = rails.collect();
    Some(Energy {
        interval_ns: sampling.interval_ns,
        too_short: too_short(record, training, &rails, sampling.interval_ns),
        rails,
    })
}

fn too_short(
    record: &Record,
    training: Option<&Training>,
    rails: &[Rail],
    interval_ns: u64,
) -> Vec<TooShort> {
    let training = training
        .filter(|_| rails.iter().all(|rail| rail.training.is_none()))
        .and_then(|it| {
            let done = it.iterations.into();
            TooShort::of(Part::Training, it.wall_ns, done, interval_ns)
        });
    let generation = generation_ns(record)
        .filter(|_| rails.iter().all(|rail| rail.generation.is_none()))
        .and_then(|(begin, end)| {
            let wall_ns = end.saturating_sub(begin);
            TooShort::of(Part::Generation, wall_ns, generated(record), interval_ns)
        });
    training.into_iter().chain(generation).collect()
}

/// From the begin of the first prompt to the end of the last.
fn generation_ns(record: &Record) -> Option<(u64, u64)> {
    let (first, last) = (record.generations.first()?, record.generations.last()?);
    Some((first.start_ns, last.start_ns.saturating_add(last.wall_ns)))
}

fn generated(record: &Record) -> u64 {
    let tokens = record.generations.iter();
    tokens.map(|it| it.token_ids.len() as u64).sum()
}

fn generation(record: &Record, power: &Power, idle_watts: Option<f64>) -> Option<Slice> {
    let (begin, end) = generation_ns(record)?;
    let mut slice = power.slice(begin, end, idle_watts)?;
    slice.per_generated_token = slice.energy.over(generated(record));
    Some(slice)
}

fn thousand(energy: Joules, tokens: u64) -> Option<Joules> {
    let one = energy.over(tokens)?;
    Some(Joules {
        whole: one.whole * 1_000.0,
        above_idle: one.above_idle.map(|joules| joules * 1_000.0),
    })
}

/// The power of one rail over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Power {
    /// In the order of time, without overlap.
    segments: Vec<Segment>,
    /// Moments of the samples.
    moments: Vec<u64>,
}

/// Power that goes in a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    begin_ns: u64,
    end_ns: u64,
    begin_watts: f64,
    end_watts: f64,
}

struct Mean {
    watts: f64,
    covered: f64,
    samples: usize,
}

impl Power {
    /// Of a rail, as a record has it: by its counter, where it has one.
    pub fn of(record: &Record, rail: &str) -> Self {
        let interval = record.start.sampling.as_ref();
        let longest = interval.map_or(0, |it| it.interval_ns).saturating_mul(GAP);
        let energy = values(&record.sensors, rail, |it| it.energy_uj.as_ref());
        let by_counter = energy.len() > 1;
        let samples = match by_counter {
            true => energy,
            false => power(record, rail),
        };
        let segments = samples.windows(2).filter_map(|pair| {
            let [(begin_ns, first), (end_ns, second)] = *pair else {
                return None;
            };
            let ns = end_ns.checked_sub(begin_ns).filter(|&ns| ns > 0)?;
            if ns > longest {
                return None;
            }
            let (begin_watts, end_watts) = match by_counter {
                // Microjoules over nanoseconds are kilowatts.
                true => {
                    let watts = second.checked_sub(first)? as f64 / ns as f64 * 1e3;
                    (watts, watts)
                }
                false => (first as f64 * 1e-6, second as f64 * 1e-6),
            };
            Some(Segment {
                begin_ns,
                end_ns,
                begin_watts,
                end_watts,
            })
        });
        Self {
            segments: segments.collect(),
            moments: samples.iter().map(|&(at_ns, _)| at_ns).collect(),
        }
    }

    /// Points to draw: seconds since process start, and watts.
    pub fn points(&self) -> Vec<(f64, f64)> {
        let middle = |segment: &Segment| {
            let ns = segment.begin_ns as f64 / 2.0 + segment.end_ns as f64 / 2.0;
            (ns / 1e9, (segment.begin_watts + segment.end_watts) / 2.0)
        };
        self.segments.iter().map(middle).collect()
    }

    fn mean(&self, begin_ns: u64, end_ns: u64) -> Option<Mean> {
        let wall_ns = end_ns.checked_sub(begin_ns).filter(|&ns| ns > 0)?;
        let samples = self.moments.iter();
        let samples = samples.filter(|&&at| (begin_ns..=end_ns).contains(&at));
        let samples = samples.count();
        let (mut joules, mut covered_ns) = (0.0, 0_u64);
        for segment in &self.segments {
            let (from, to) = (segment.begin_ns.max(begin_ns), segment.end_ns.min(end_ns));
            if from < to {
                let watts = (segment.at(from) + segment.at(to)) / 2.0;
                joules += watts * (to - from) as f64 * 1e-9;
                covered_ns += to - from;
            }
        }
        let covered = covered_ns as f64 / wall_ns as f64;
        (samples >= FEWEST_SAMPLES && covered >= LEAST_COVERED).then(|| Mean {
            watts: joules / (covered_ns as f64 * 1e-9),
            covered,
            samples,
        })
    }

    fn slice(&self, begin_ns: u64, end_ns: u64, idle_watts: Option<f64>) -> Option<Slice> {
        let Mean {
            watts,
            covered,
            samples,
        } = self.mean(begin_ns, end_ns)?;
        let seconds = (end_ns - begin_ns) as f64 * 1e-9;
        Some(Slice {
            wall_ns: end_ns - begin_ns,
            covered,
            samples,
            watts,
            energy: Joules {
                whole: watts * seconds,
                above_idle: idle_watts.map(|idle| (watts - idle) * seconds),
            },
            per_iteration: None,
            per_thousand_tokens: None,
            per_generated_token: None,
        })
    }
}

/// The readings of a rail's power.
///
/// What stands still is silent with macmon, and an idle GPU is still. A rail that spoke once in the
/// run has a counter that counts: where it is silent beside others, it has 0.
fn power(record: &Record, rail: &str) -> Vec<(u64, u64)> {
    let read = values(&record.sensors, rail, |it| it.power_uw.as_ref());
    let sampling = record.start.sampling.as_ref();
    let source = sampling.and_then(|it| it.rails.get(rail));
    let silent_is_0 = source.is_some_and(|it| it == mac::SOURCE) && mac::is_counted(rail);
    if read.is_empty() || !silent_is_0 {
        return read;
    }
    let sensors = record.sensors.iter();
    sensors
        .filter_map(|it| Some((it.at_ns, it.power_uw.as_ref()?)))
        .map(|(at_ns, rails)| (at_ns, rails.get(rail).copied().unwrap_or(0)))
        .collect()
}

impl Segment {
    fn at(&self, ns: u64) -> f64 {
        let share = (ns - self.begin_ns) as f64 / (self.end_ns - self.begin_ns) as f64;
        self.begin_watts + share * (self.end_watts - self.begin_watts)
    }
}

fn values(
    sensors: &[Sensors],
    rail: &str,
    rails: impl Fn(&Sensors) -> Option<&BTreeMap<String, u64>>,
) -> Vec<(u64, u64)> {
    let values = sensors.iter();
    values
        .filter_map(|it| Some((it.at_ns, *rails(it)?.get(rail)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Event, Phase, Sampling};
    use crate::summary::summarize;
    use crate::testing::assert_near;
    use crate::{store, testing};

    const MS: u64 = 1_000_000;

    /// A record that is sampled every 100 ms; rails are `gpu` (power) and `package-0` (counter).
    fn record(sensors: &[Sensors], phases: &[Phase], seconds_of_a_step: &[u64]) -> Record {
        let mut start = testing::start();
        start.config.iterations = 6;
        let rail = |name: &str, source: &str| (name.to_owned(), source.to_owned());
        start.sampling = Some(Sampling {
            interval_ns: 100 * MS,
            reading_ns: Some(MS),
            rails: [rail("gpu", "macmon"), rail("package-0", "powercap")].into(),
        });
        let mut events = vec![Event::Start(Box::new(start))];
        events.extend(phases.iter().copied().map(Event::Phase));
        let mut begin = 1_000 * MS;
        for (index, seconds) in seconds_of_a_step.iter().enumerate() {
            let mut iteration = testing::iteration(index as u32 + 1);
            iteration.start_ns = begin;
            iteration.data_ns = 0;
            iteration.step_ns = seconds * 1_000 * MS;
            begin = iteration.end_ns();
            events.push(Event::Iteration(iteration));
        }
        events.extend(sensors.iter().cloned().map(Event::Sensors));
        store::parse(&testing::text(&events)).unwrap()
    }

    fn power(at_ms: u64, watts: f64) -> Sensors {
        Sensors {
            at_ns: at_ms * MS,
            power_uw: Some([("gpu".to_owned(), (watts * 1e6) as u64)].into()),
            ..Sensors::default()
        }
    }

    fn counter(at_ms: u64, joules: f64) -> Sensors {
        Sensors {
            at_ns: at_ms * MS,
            energy_uj: Some([("package-0".to_owned(), (joules * 1e6) as u64)].into()),
            ..Sensors::default()
        }
    }

    fn rail(record: &Record, name: &str) -> Rail {
        let energy = summarize(record).energy.unwrap();
        energy.rails.into_iter().find(|it| it.name == name).unwrap()
    }

    #[test]
    fn a_constant_power_is_that_times_the_wall_time() {
        let sensors: Vec<_> = (0..60).map(|k| power(k * 100, 30.0)).collect();
        let record = record(&sensors, &[], &[1, 1, 1, 1]);
        let training = rail(&record, "gpu").training.unwrap();
        let thousand = training.per_thousand_tokens.map(|joules| joules.whole);
        assert_eq!(gpu_training_joules(&record), thousand);
        assert_near(training.energy.whole, 120.0, 1e-9, "energy");
        assert_near(training.covered, 1.0, 1e-9, "covered");
        assert_near(
            training.per_iteration.unwrap().whole,
            30.0,
            1e-9,
            "iteration",
        );
        // 70 real tokens an iteration.
        let tokens = training.per_thousand_tokens.unwrap();
        assert_near(tokens.whole, 120.0 / 280.0 * 1e3, 1e-9, "tokens");
        assert_eq!((tokens.above_idle, training.samples), (None, 41));
    }

    #[test]
    fn a_ramp_is_cut_at_the_ends_of_the_stretch() {
        // 10 W a second: over the second from 1 to 2 that is 15 J, whichever moments were sampled.
        let ramp = |k: u64| power(k * 90 + 17, (k * 90 + 17) as f64 / 100.0);
        let record = record(&(0..40).map(ramp).collect::<Vec<_>>(), &[], &[1, 1]);
        let rail = rail(&record, "gpu");
        assert_near(
            rail.windows[0].unwrap().energy.whole,
            15.0 + 25.0,
            1e-6,
            "window 1-2",
        );
        assert_near(rail.training.unwrap().watts, 20.0, 1e-6, "watts");
    }

    #[test]
    fn a_counter_goes_before_readings_of_power() {
        let both = |k: u64| Sensors {
            power_uw: Some([("package-0".to_owned(), 999_000_000)].into()),
            ..counter(k * 100, 4.0 * k as f64)
        };
        let record = record(&(0..40).map(both).collect::<Vec<_>>(), &[], &[1, 1]);
        let training = rail(&record, "package-0").training.unwrap();
        assert_near(training.energy.whole, 80.0, 1e-9, "energy");
    }

    #[test]
    fn no_energy_is_assumed_within_a_gap() {
        let without = |gap: std::ops::Range<u64>| {
            let kept = (0..60).filter(|k| !gap.contains(k));
            let sensors: Vec<_> = kept.map(|k| power(k * 100, 30.0)).collect();
            rail(&record(&sensors, &[], &[1, 1, 1, 1]), "gpu").training
        };
        // Three intervals from one sample to the next are none, four are.
        assert_near(without(20..22).unwrap().covered, 1.0, 1e-9, "bridged");
        let gap = without(20..23).unwrap();
        assert_near(gap.covered, 0.9, 1e-9, "covered");
        assert_near(gap.energy.whole, 120.0, 1e-9, "energy");
        assert_eq!(without(20..24), None);
        assert_eq!(without(0..60), None);
        // A counter that starts anew.
        let reset = |k: u64| counter(k * 100, if k < 25 { k as f64 } else { (k - 25) as f64 });
        let record = record(&(0..60).map(reset).collect::<Vec<_>>(), &[], &[1, 1, 1, 1]);
        let training = rail(&record, "package-0").training.unwrap();
        assert_near(training.covered, 0.975, 1e-9, "covered");
        assert_near(training.watts, 10.0, 1e-9, "watts");
    }

    #[test]
    fn idle_power_is_taken_off_in_a_second_column() {
        let idle = Phase {
            phase: PhaseKind::Idle,
            start_ns: 0,
            wall_ns: 900 * MS,
        };
        let watts = |k| if k < 10 { 8.0 } else { 30.0 };
        let sensors: Vec<_> = (0..60).map(|k| power(k * 100, watts(k))).collect();
        let rail = rail(&record(&sensors, &[idle], &[1, 1, 1, 1]), "gpu");
        assert_near(rail.idle_watts.unwrap(), 8.0, 1e-9, "idle");
        let per_iteration = rail.training.unwrap().per_iteration.unwrap();
        assert_near(per_iteration.above_idle.unwrap(), 22.0, 1e-9, "above idle");
    }

    #[test]
    fn a_counter_of_macmon_that_stands_still_is_no_power() {
        let idle = Phase {
            phase: PhaseKind::Idle,
            start_ns: 0,
            wall_ns: 900 * MS,
        };
        let silent = |k: u64| Sensors {
            power_uw: Some([("system".to_owned(), 9_000_000)].into()),
            ..power(k * 100, 0.0)
        };
        let sample = |k| match k % 2 == 0 || k < 10 {
            true => silent(k),
            false => power(k * 100, 60.0),
        };
        let sensors: Vec<_> = (0..60).map(sample).collect();
        let read = rail(&record(&sensors, &[idle], &[1, 1, 1, 1]), "gpu");
        assert_eq!(read.idle_watts, Some(0.0));
        assert_near(read.training.unwrap().watts, 30.0, 1e-9, "watts");
        // Without a sample of its own above 0 there is none.
        let sensors: Vec<_> = (0..60).map(silent).collect();
        let never = rail(&record(&sensors, &[idle], &[1, 1, 1, 1]), "gpu");
        assert_eq!((never.idle_watts, never.training), (None, None));
    }

    #[test]
    fn too_few_samples_are_no_energy() {
        let sensors: Vec<_> = (0..60).map(|k| power(k * 100, 30.0)).collect();
        let mut short = record(&sensors, &[], &[1]);
        short.iterations[0].step_ns = 350 * MS;
        assert_eq!(rail(&short, "gpu").training, None);
        let too_short = |record: &Record| summarize(record).energy.unwrap().too_short;
        let longer = TooShort {
            part: Part::Training,
            wall_ns: 350 * MS,
            needed_ns: 600 * MS,
            needed: 2,
        };
        assert_eq!(too_short(&short), [longer]);
        // What was long enough lacks its samples for another reason.
        short.iterations[0].step_ns = 600 * MS;
        short.sensors.clear();
        assert_eq!(too_short(&short), []);
        short.sensors = sensors;
        short.iterations[0].step_ns = 450 * MS;
        assert!(rail(&short, "gpu").training.is_some());
        assert_eq!(too_short(&short), []);
        assert_eq!(rail(&short, "package-0").training, None);
        short.start.sampling = None;
        assert_eq!(summarize(&short).energy, None);
    }

    #[test]
    fn all_prompts_together_are_one_stretch() {
        let sensors: Vec<_> = (0..60).map(|k| power(k * 100, 30.0)).collect();
        let mut record = record(&sensors, &[], &[1]);
        for start in [2_500, 3_000] {
            let mut generation = testing::generation(7, &[7, 7, 7]);
            generation.start_ns = start * MS;
            generation.wall_ns = 400 * MS;
            record.generations.push(generation);
        }
        let generation = rail(&record, "gpu").generation.unwrap();
        assert_near(generation.energy.whole, 27.0, 1e-9, "energy");
        let token = generation.per_generated_token.unwrap();
        assert_near(token.whole, 27.0 / 8.0, 1e-9, "token");
    }
}
