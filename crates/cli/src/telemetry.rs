//! The machine beside the work: its state at moments, and its sensors all along.

use std::{thread, time::Duration};

use metrics::{
    clock::{Clock, SystemClock},
    energy::FEWEST_SAMPLES,
    footprint::FootprintReader,
    machine,
    record::{Copies, Event, MachineState, Mlx, Phase, PhaseKind, Sampling, WindowSpec},
    sampler::Sampler,
    store::{StoreError, Writer},
};

/// States within training may take one part in this many of the time that has passed.
const SHARE_OF_ELAPSED: u64 = 1000;

/// The idle machine is measured for at most so many times as long as asked.
const LONGEST_IDLE: u32 = 4;

/// Between two looks at whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Telemetry {
    reader: machine::Reader,
    sampler: Option<Sampler>,
    footprint: FootprintReader,
    clock: SystemClock,
    /// What the dearest state so far cost to read, and all those within training together.
    dearest_ns: u64,
    spent_ns: u64,
}

impl Telemetry {
    /// Of the device that MLX runs on, whose UUID only CUDA tells.
    pub(crate) fn start(mlx: &Mlx, gpu_uuid: Option<String>, clock: SystemClock) -> Self {
        let on_gpu = mlx.backend != "cpu";
        let reader = machine::Reader::for_gpu(gpu_uuid.as_deref());
        Self {
            reader,
            sampler: machine::sampler(clock, gpu_uuid, on_gpu),
            footprint: FootprintReader::new(),
            clock,
            dearest_ns: 0,
            spent_ns: 0,
        }
    }

    /// What is sampled, which is known once the sensors have been opened.
    pub(crate) fn sampling(&self) -> Option<&Sampling> {
        self.sampler.as_ref().and_then(Sampler::sampling)
    }

    /// Why nothing is sampled any more, as a message; told once.
    pub(crate) fn failure(&self) -> Option<String> {
        let failure = self.sampler.as_ref().and_then(Sampler::failure);
        failure.map(|why| sensors_failed(&why))
    }

    pub(crate) fn reader(&self) -> &machine::Reader {
        &self.reader
    }

    /// Does nothing for so long while the sensors are read, or for up to [`LONGEST_IDLE`] times as
    /// long where they are read so seldom; at once where there are none.
    pub(crate) fn idle(&mut self, length: Duration, stop: fn() -> bool) -> Option<Phase> {
        if length.is_zero() {
            return None;
        }
        let interval = Duration::from_nanos(self.sampling()?.interval_ns);
        // One more, for the parts of an interval at the ends.
        let samples = interval.saturating_mul(FEWEST_SAMPLES as u32 + 1);
        let length = length.max(samples.min(length * LONGEST_IDLE));
        let start_ns = self.clock.now_ns();
        let end_ns = start_ns + length.as_nanos() as u64;
        while self.clock.now_ns() < end_ns && !stop() {
            thread::sleep(LOOK);
        }
        Some(Phase {
            phase: PhaseKind::Idle,
            start_ns,
            wall_ns: self.clock.now_ns() - start_ns,
        })
    }

    /// Records the samples since the last call.
    pub(crate) fn drain(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let samples = self.sampler.iter().flat_map(Sampler::take);
        for sensors in samples {
            writer.append(&Event::Sensors(sensors))?;
        }
        Ok(())
    }

    /// Records the state of this moment.
    pub(crate) fn state(
        &mut self,
        writer: &mut Writer,
        copies: Option<Copies>,
    ) -> Result<(), StoreError> {
        let at_ns = self.clock.now_ns();
        let state = MachineState {
            copies,
            ..self.reader.state(at_ns, &mut self.footprint)
        };
        self.dearest_ns = self.dearest_ns.max(self.clock.now_ns() - at_ns);
        writer.append(&Event::MachineState(state))
    }

    /// Records the state after the last iteration of a window, where that is affordable.
    pub(crate) fn state_of_window(
        &mut self,
        writer: &mut Writer,
        windows: &[WindowSpec],
        iteration: u32,
        iterations: u32,
    ) -> Result<(), StoreError> {
        let ends = windows.iter().any(|window| window.last == iteration) && iteration < iterations;
        let begin = self.clock.now_ns();
        let spent_ns = self.spent_ns.saturating_add(self.dearest_ns);
        if !ends || spent_ns > begin / SHARE_OF_ELAPSED {
            return Ok(());
        }
        self.state(writer, None)?;
        self.spent_ns = self.spent_ns.saturating_add(self.clock.now_ns() - begin);
        Ok(())
    }

    /// Ends the sampling, and records what is left of it; gives the failure, where it was not told.
    pub(crate) fn finish(&mut self, writer: &mut Writer) -> Result<Option<String>, StoreError> {
        let (samples, failure) = self.sampler.take().map(Sampler::finish).unwrap_or_default();
        for sensors in samples {
            writer.append(&Event::Sensors(sensors))?;
        }
        Ok(failure.map(|why| sensors_failed(&why)))
    }
}

/// A message that the sensors could not be read, or no longer.
pub(crate) fn sensors_failed(why: &str) -> String {
    format!("note: the sensors cannot be read from here on ({why}); power and energy are missing")
}
