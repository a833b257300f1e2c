//! The measured loop.
//!
//! It knows neither MLX nor the system clock: the work and the clock are given, so that a whole
//! run can be replayed exactly in a test. What is timed is the data part, from the start of an
//! iteration to its batch, and the step, from the call until the device has finished. Counters,
//! process memory and the record are read and written between iterations.

use thiserror::Error;

use crate::clock::Clock;
use crate::footprint::FootprintReader;
use crate::record::{Iteration, WindowSpec};
use crate::window;

/// What is measured: a source of batches, and a step over one batch.
pub trait Workload {
    type Batch;
    type Error;

    /// Builds the next batch.
    fn next_batch(&mut self) -> Result<Self::Batch, Self::Error>;

    /// Does one step and returns after the device has finished it; tells its stages, where it has
    /// any.
    fn step(
        &mut self,
        batch: &Self::Batch,
        stages: &mut Stages<'_>,
    ) -> Result<StepOutput, Self::Error>;

    /// Memory of the device after the last step.
    fn memory(&self) -> Result<Memory, Self::Error>;

    /// Begins a new peak.
    fn reset_peak(&mut self) -> Result<(), Self::Error>;
}

/// What one step worked through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutput {
    pub rows: u32,
    /// Tokens of the samples themselves.
    pub real_tokens: u32,
    /// Tokens of the padded batch.
    pub padded_tokens: u32,
    /// Positions that entered the loss.
    pub loss_tokens: u32,
    pub loss: f32,
}

/// Memory as the device's allocator counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub active_bytes: u64,
    pub cache_bytes: u64,
    /// Highest active memory since the peak was last reset.
    pub peak_bytes: u64,
}

/// The moments within a step at which one stage of it ends and the next begins.
pub struct Stages<'a> {
    clock: &'a mut dyn Clock,
    built_ns: Option<u64>,
    dispatched_ns: Option<u64>,
}

impl<'a> Stages<'a> {
    fn new(clock: &'a mut dyn Clock) -> Self {
        Self {
            clock,
            built_ns: None,
            dispatched_ns: None,
        }
    }

    /// The graph of the step has been built; nothing of it has been handed to the device.
    pub fn built(&mut self) {
        self.built_ns = Some(self.clock.now_ns());
    }

    /// All of the step has been handed to the device.
    pub fn dispatched(&mut self) {
        self.dispatched_ns = Some(self.clock.now_ns());
    }
}

/// How many iterations to run, and where the peak memory begins anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub iterations: u32,
    /// Windows that [`window::validate`] accepts for this number of iterations.
    pub windows: Vec<WindowSpec>,
}

/// How a run without errors ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Completed,
    /// Stopped on request after this many iterations.
    Interrupted {
        after: u32,
    },
    /// The loss of this iteration, the last one measured, was infinite or not a number.
    NonFiniteLoss {
        iteration: u32,
    },
}

/// The error that ended a run, from the workload or from `on_iteration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("iteration {iteration}: {error}")]
pub struct RunError<E> {
    /// Iterations before this one were measured and passed on.
    pub iteration: u32,
    pub error: E,
}

/// Runs and measures the iterations of `plan`.
///
/// `stop` is asked before every iteration; `on_iteration` gets every iteration as soon as it is
/// measured, including one whose loss is not finite.
pub fn run<W: Workload>(
    work: &mut W,
    plan: &Plan,
    clock: &mut dyn Clock,
    footprint: &mut FootprintReader,
    stop: &dyn Fn() -> bool,
    on_iteration: &mut dyn FnMut(&Iteration) -> Result<(), W::Error>,
) -> Result<Outcome, RunError<W::Error>> {
    for number in 1..=plan.iterations {
        if stop() {
            return Ok(Outcome::Interrupted { after: number - 1 });
        }
        let iteration = iterate(work, plan, clock, footprint, number)
            .and_then(|iteration| on_iteration(&iteration).map(|()| iteration))
            .map_err(|error| RunError {
                iteration: number,
                error,
            })?;
        if iteration.loss.is_none() {
            return Ok(Outcome::NonFiniteLoss { iteration: number });
        }
    }
    Ok(Outcome::Completed)
}

fn iterate<W: Workload>(
    work: &mut W,
    plan: &Plan,
    clock: &mut dyn Clock,
    footprint: &mut FootprintReader,
    number: u32,
) -> Result<Iteration, W::Error> {
    // The first iteration begins a new peak even where no window does: what was allocated
    // before it is not training.
    if number == 1 || window::begins_window(&plan.windows, number) {
        work.reset_peak()?;
    }
    let start_ns = clock.now_ns();
    let batch = work.next_batch()?;
    let step_start_ns = clock.now_ns();
    let mut stages = Stages::new(clock);
    let output = work.step(&batch, &mut stages)?;
    let (built_ns, dispatched_ns) = (stages.built_ns, stages.dispatched_ns);
    let end_ns = clock.now_ns();

    let memory = work.memory()?;
    let process = footprint.read_if_affordable(clock);
    Ok(Iteration {
        iteration: number,
        start_ns,
        data_ns: step_start_ns.saturating_sub(start_ns),
        step_ns: end_ns.saturating_sub(step_start_ns),
        graph_ns: built_ns.map(|built| built.saturating_sub(step_start_ns)),
        dispatch_ns: dispatched_ns
            .zip(built_ns)
            .map(|(dispatched, built)| dispatched.saturating_sub(built)),
        rows: output.rows,
        real_tokens: output.real_tokens,
        padded_tokens: output.padded_tokens,
        loss_tokens: output.loss_tokens,
        loss: Some(output.loss).filter(|loss| loss.is_finite()),
        active_bytes: memory.active_bytes,
        cache_bytes: memory.cache_bytes,
        peak_bytes: memory.peak_bytes,
        footprint_bytes: process.footprint_bytes,
        swap_bytes: process.swap_bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use std::time::Instant;

    use super::*;
    use crate::clock::SystemClock;

    /// Time that passes only when the mock says so; shared by the clock, the work and the
    /// reader of process memory.
    #[derive(Clone, Default)]
    struct Time(Rc<Cell<u64>>);

    impl Time {
        fn pass(&self, ns: u64) {
            self.0.set(self.0.get() + ns);
        }
    }

    impl Clock for Time {
        fn now_ns(&mut self) -> u64 {
            self.0.get()
        }
    }

    /// Batch n takes 10 ns to build, and its step 100 + n ns and 1000 - 10 n bytes.
    struct Mock {
        time: Time,
        batches: u32,
        peak_bytes: u64,
        losses: Vec<f32>,
        fail_at: Option<u32>,
    }

    impl Workload for Mock {
        type Batch = u32;
        type Error = String;

        fn next_batch(&mut self) -> Result<u32, String> {
            self.time.pass(10);
            self.batches += 1;
            Ok(self.batches)
        }

        fn step(&mut self, &batch: &u32, stages: &mut Stages<'_>) -> Result<StepOutput, String> {
            if self.fail_at == Some(batch) {
                return Err("out of memory".to_owned());
            }
            self.time.pass(20);
            stages.built();
            self.time.pass(u64::from(batch));
            stages.dispatched();
            self.time.pass(80);
            self.peak_bytes = self.peak_bytes.max(1000 - 10 * u64::from(batch));
            Ok(StepOutput {
                rows: 1,
                real_tokens: 70,
                padded_tokens: 97,
                loss_tokens: 69,
                loss: self.losses[batch as usize - 1],
            })
        }

        fn memory(&self) -> Result<Memory, String> {
            self.time.pass(1000);
            Ok(Memory {
                active_bytes: 500,
                cache_bytes: 40,
                peak_bytes: self.peak_bytes,
            })
        }

        fn reset_peak(&mut self) -> Result<(), String> {
            self.time.pass(5000);
            self.peak_bytes = 0;
            Ok(())
        }
    }

    /// A run of six iterations that may be stopped before one of them, or fail in one.
    struct Case {
        windows: &'static str,
        losses: [f32; 6],
        stop_before: Option<u32>,
        fail_at: Option<u32>,
        record_until: u32,
    }

    impl Default for Case {
        fn default() -> Self {
            Self {
                windows: "1-2,2-6",
                losses: [4.5, 4.25, 4.0, 3.75, 3.5, 3.25],
                stop_before: None,
                fail_at: None,
                record_until: u32::MAX,
            }
        }
    }

    /// Compares the outcome and all iterations, one a line:
    /// number, start + data + step, loss, peak, footprint and swap.
    fn check(case: &Case, outcome: Result<Outcome, RunError<&str>>, expected: &[&str]) {
        let time = Time::default();
        // Process start to first iteration.
        time.pass(1_000_000);
        let mut work = Mock {
            time: time.clone(),
            batches: 0,
            peak_bytes: 7777,
            losses: case.losses.to_vec(),
            fail_at: case.fail_at,
        };
        let plan = Plan {
            iterations: 6,
            windows: window::parse(case.windows).unwrap(),
        };
        // Iterations get the readings they can afford: the first is free, and 0.1 % of a bit
        // more than a millisecond pays for further ones of the footprint (400 ns), not of the
        // swap (2000 ns).
        let costly = |cost: u64, value: u64| {
            let time = time.clone();
            move || {
                time.pass(cost);
                Some(value)
            }
        };
        let mut footprint =
            FootprintReader::from_fns(Some("rss"), costly(400, 9000), costly(2000, 3));
        let seen: RefCell<Vec<Iteration>> = RefCell::default();
        let stop = || Some(seen.borrow().len() as u32 + 1) == case.stop_before;
        let actual = run(
            &mut work,
            &plan,
            &mut time.clone(),
            &mut footprint,
            &stop,
            &mut |iteration| {
                if iteration.iteration > case.record_until {
                    return Err("disk full".to_owned());
                }
                seen.borrow_mut().push(*iteration);
                Ok(())
            },
        );

        let actual = actual.as_ref().copied().map_err(|e| RunError {
            iteration: e.iteration,
            error: e.error.as_str(),
        });
        assert_eq!(actual, outcome);
        let lines: Vec<String> = seen.borrow().iter().map(line).collect();
        assert_eq!(lines, expected);
    }

    fn line(it: &Iteration) -> String {
        let text = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        assert_eq!(
            (it.rows, it.real_tokens, it.padded_tokens, it.loss_tokens),
            (1, 70, 97, 69)
        );
        assert_eq!((it.active_bytes, it.cache_bytes), (500, 40));
        assert_eq!(it.graph_ns, Some(20));
        assert_eq!(it.dispatch_ns, Some(it.step_ns - 100));
        format!(
            "{}: {} + {} + {}, loss {}, peak {}, footprint {}, swap {}",
            it.iteration,
            it.start_ns,
            it.data_ns,
            it.step_ns,
            it.loss.map_or("null".to_owned(), |loss| loss.to_string()),
            it.peak_bytes,
            text(it.footprint_bytes),
            text(it.swap_bytes),
        )
    }

    const WHOLE_RUN: [&str; 6] = [
        "1: 1005000 + 10 + 101, loss 4.5, peak 990, footprint 9000, swap 3",
        "2: 1008511 + 10 + 102, loss 4.25, peak 990, footprint 9000, swap -",
        "3: 1015023 + 10 + 103, loss 4, peak 970, footprint -, swap -",
        "4: 1016136 + 10 + 104, loss 3.75, peak 970, footprint -, swap -",
        "5: 1017250 + 10 + 105, loss 3.5, peak 970, footprint -, swap -",
        "6: 1018365 + 10 + 106, loss 3.25, peak 970, footprint -, swap -",
    ];

    #[test]
    fn a_whole_run_times_data_and_step_alone() {
        check(&Case::default(), Ok(Outcome::Completed), &WHOLE_RUN);
    }

    #[test]
    fn the_first_iteration_begins_a_peak_without_a_window() {
        let case = Case {
            windows: "5-6",
            losses: [1.0; 6],
            stop_before: Some(6),
            ..Case::default()
        };
        check(
            &case,
            Ok(Outcome::Interrupted { after: 5 }),
            &[
                "1: 1005000 + 10 + 101, loss 1, peak 990, footprint 9000, swap 3",
                "2: 1008511 + 10 + 102, loss 1, peak 990, footprint 9000, swap -",
                "3: 1010023 + 10 + 103, loss 1, peak 990, footprint -, swap -",
                "4: 1011136 + 10 + 104, loss 1, peak 990, footprint -, swap -",
                "5: 1017250 + 10 + 105, loss 1, peak 950, footprint -, swap -",
            ],
        );
    }

    #[test]
    fn a_request_to_stop_ends_the_run_between_iterations() {
        let case = |stop_before| Case {
            stop_before: Some(stop_before),
            ..Case::default()
        };
        check(&case(1), Ok(Outcome::Interrupted { after: 0 }), &[]);
        check(
            &case(4),
            Ok(Outcome::Interrupted { after: 3 }),
            &WHOLE_RUN[..3],
        );
    }

    #[test]
    fn a_loss_that_is_not_finite_is_passed_on_and_ends_the_run() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let case = Case {
                losses: [4.5, bad, 1.0, 1.0, 1.0, 1.0],
                ..Case::default()
            };
            check(
                &case,
                Ok(Outcome::NonFiniteLoss { iteration: 2 }),
                &[
                    WHOLE_RUN[0],
                    "2: 1008511 + 10 + 102, loss null, peak 990, footprint 9000, swap -",
                ],
            );
        }
    }

    #[test]
    fn an_error_names_its_iteration_and_keeps_those_before() {
        let failing_step = Case {
            fail_at: Some(3),
            ..Case::default()
        };
        let error = RunError {
            iteration: 3,
            error: "out of memory",
        };
        assert_eq!(error.to_string(), "iteration 3: out of memory");
        check(&failing_step, Err(error), &WHOLE_RUN[..2]);

        let failing_record = Case {
            record_until: 4,
            ..Case::default()
        };
        let error = RunError {
            iteration: 5,
            error: "disk full",
        };
        check(&failing_record, Err(error), &WHOLE_RUN[..4]);
    }

    #[test]
    fn the_system_clock_does_not_run_backwards() {
        let mut clock = SystemClock::new(Instant::now());
        let (first, second) = (clock.now_ns(), clock.now_ns());
        assert!(first <= second);
    }
}
