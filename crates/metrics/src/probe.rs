//! What is read of this machine, and what each reading of its sensors costs.
//!
//! For whoever looks into a machine that nobody has seen yet: failures are kept with their
//! messages, and what the sources say stands beside what lfmark takes from it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sysinfo::Components;

use crate::footprint::FootprintReader;
use crate::machine::Reader;

/// The facts and the state of this machine, every thermal sensor by its label, and so many readings
/// of power and temperature with a pause before each.
pub fn probe(readings: u32, pause: Duration) -> Value {
    let reader = Reader::for_gpu(None);
    json!({
        "machine": reader.machine(),
        "state": reader.state(0, &mut FootprintReader::new()),
        "temperatures_celsius": temperatures(),
        "sensors": sensors(readings, pause, source::open, source::read),
    })
}

fn temperatures() -> Option<Vec<Value>> {
    let components = Components::new_with_refreshed_list().ok()?;
    let sensors = components.iter();
    Some(
        sensors
            .map(|it| json!([it.label(), it.temperature()]))
            .collect(),
    )
}

/// What `open` gives is read so many times; what it says of itself comes with it.
fn sensors<T>(
    readings: u32,
    pause: Duration,
    open: impl FnOnce() -> Result<(T, Value), String>,
    mut read: impl FnMut(&mut T) -> Result<Value, String>,
) -> Value {
    let begin = Instant::now();
    let opened = kept(open);
    let open_ns = nanoseconds(begin.elapsed());
    let (mut source, about, open_error) = match opened {
        Ok((source, about)) => (Some(source), Some(about), None),
        Err(error) => (None, None, Some(error)),
    };
    let taken = (0..readings).map(|_| {
        thread::sleep(pause);
        let at_ns = nanoseconds(begin.elapsed());
        let reading = source.as_mut().map(|source| kept(|| read(source)));
        let cost_ns = nanoseconds(begin.elapsed()) - at_ns;
        let (read, error) = match reading.transpose() {
            Ok(read) => (read, None),
            Err(error) => (None, Some(error)),
        };
        json!({
            "at_ns": at_ns,
            "cost_ns": cost_ns,
            "thermal_state": source::thermal_state(),
            "read": read,
            "error": error,
        })
    });
    let readings: Vec<Value> = taken.collect();
    json!({"open_ns": open_ns, "open_error": open_error, "about": about, "readings": readings})
}

/// A panic is an error like any other: macmon panics on a chip that it does not know.
fn kept<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let panicked = |_| Err("panicked; the message is on stderr".to_owned());
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(target_os = "macos")]
mod source {
    use serde_json::{Value, json};

    pub(super) use crate::macos::thermal_state;
    use crate::{mac, macos::Macmon};

    pub(super) fn open() -> Result<(Macmon, Value), String> {
        let macmon = Macmon::open()?;
        let chip = macmon.chip();
        Ok((macmon, chip))
    }

    pub(super) fn read(source: &mut Macmon) -> Result<Value, String> {
        let metrics = source.metrics()?;
        Ok(json!({"taken": mac::macmon(&metrics), "macmon": metrics}))
    }
}

#[cfg(not(target_os = "macos"))]
mod source {
    use serde_json::{Value, json};

    use crate::{machine, sampler::Source};

    pub(super) fn open() -> Result<(impl Source, Value), String> {
        let source = machine::source().ok_or("there is neither a GPU nor powercap to read")?;
        Ok((source, Value::Null))
    }

    pub(super) fn read(source: &mut impl Source) -> Result<Value, String> {
        let sensors = source.read().ok_or("nothing was read")?;
        Ok(json!({"taken": sensors}))
    }

    pub(super) fn thermal_state() -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(
        open: impl FnOnce() -> Result<(u32, Value), String>,
        read: impl FnMut(&mut u32) -> Result<Value, String>,
    ) -> (Value, Vec<Value>) {
        let mut found = sensors(3, Duration::ZERO, open, read);
        let readings = found["readings"].take();
        (found, readings.as_array().unwrap().clone())
    }

    #[test]
    fn every_reading_has_its_cost_and_what_was_read_or_why_not() {
        let (found, readings) = three(
            || Ok((0, json!("chip"))),
            |count| {
                *count += 1;
                match *count {
                    2 => Err("no such key".to_owned()),
                    3 => panic!("unknown"),
                    _ => Ok(json!({"gpu": count})),
                }
            },
        );
        assert_eq!(found["about"], "chip");
        assert_eq!(found["open_error"], Value::Null);
        assert_eq!(readings[0]["read"], json!({"gpu": 1}));
        assert_eq!(readings[0]["error"], Value::Null);
        assert_eq!(readings[1]["error"], "no such key");
        assert_eq!(readings[2]["error"], "panicked; the message is on stderr");
        assert!(readings.iter().all(|it| it["cost_ns"].is_u64()));
    }

    #[test]
    fn what_does_not_open_says_why_and_the_thermal_state_is_read_all_the_same() {
        let (found, readings) = three(|| Err("no channels".to_owned()), |_| Ok(json!(1)));
        assert_eq!(found["open_error"], "no channels");
        assert_eq!(readings.len(), 3);
        assert!(readings.iter().all(|it| it["read"].is_null()));
    }

    #[test]
    fn a_machine_is_described_without_mlx() {
        let found = probe(1, Duration::ZERO);
        assert!(found["machine"]["logical_cores"].as_u64() > Some(0));
        assert_eq!(found["sensors"]["readings"].as_array().unwrap().len(), 1);
    }
}
