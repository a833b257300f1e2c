//! What measuring and judging cost: a run of a million iterations summarized, judged and charted,
//! and what the measured loop does around one step.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use benches::{record, start};
use criterion::{Criterion, criterion_group, criterion_main};
use metrics::clock::{Clock, SystemClock};
use metrics::footprint::FootprintReader;
use metrics::measure::{self, Memory, Plan, Stages, StepOutput, Workload};
use metrics::record::Event;
use metrics::store::{StoreError, Writer};
use metrics::window;

const ITERATIONS: u32 = 1_000_000;

/// A step of this length pays for the readings of the process memory.
const STEP: Duration = Duration::from_millis(20);

fn judging(criterion: &mut Criterion) {
    let record = record(ITERATIONS);
    let mut group = criterion.benchmark_group("judging");
    group.sample_size(10);
    // The report is summarized, judged and charted from the record.
    group.bench_function("a_million_iterations", |bencher| {
        bencher.iter(|| report::render(&record).expect("every record has a report"));
    });
    group.finish();
}

fn sampling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sampling");
    for (name, step) in [
        ("an_iteration_of_20_ms", STEP),
        ("an_iteration_of_no_length", Duration::ZERO),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let iterations = u32::try_from(iterations).unwrap_or(u32::MAX);
                sample(iterations, step)
            });
        });
    }
    group.finish();
}

/// What a run of this many iterations takes whose steps do nothing, with its record in a
/// temporary folder. MLX's counters are not among it: it is not loaded.
fn sample(iterations: u32, step: Duration) -> Duration {
    let dir = tempfile::tempdir().expect("a temporary folder can be created");
    let mut writer = Writer::create(dir.path(), &start(iterations)).expect("it can be written to");
    let mut footprint = FootprintReader::new();
    let skipped = Rc::new(Cell::new(0));
    let mut clock = Skipping {
        real: SystemClock::new(Instant::now()),
        skipped_ns: Rc::clone(&skipped),
    };
    let mut work = Skip {
        step_ns: step.as_nanos() as u64,
        skipped_ns: skipped,
    };
    let plan = Plan {
        iterations,
        windows: window::default_windows(iterations),
    };
    let begin = Instant::now();
    let outcome = measure::run(
        &mut work,
        &plan,
        &mut clock,
        &mut footprint,
        &|| false,
        &mut |iteration| writer.append(&Event::Iteration(*iteration)),
    );
    let took = begin.elapsed();
    outcome.expect("nothing fails");
    took
}

/// The system's clock, and the steps that nobody waited for.
struct Skipping {
    real: SystemClock,
    skipped_ns: Rc<Cell<u64>>,
}

impl Clock for Skipping {
    fn now_ns(&mut self) -> u64 {
        self.real.now_ns() + self.skipped_ns.get()
    }
}

/// Steps that are over at once.
struct Skip {
    step_ns: u64,
    skipped_ns: Rc<Cell<u64>>,
}

impl Workload for Skip {
    type Batch = ();
    type Error = StoreError;

    fn next_batch(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn step(&mut self, _: &(), _: &mut Stages<'_>) -> Result<StepOutput, StoreError> {
        self.skipped_ns.set(self.skipped_ns.get() + self.step_ns);
        Ok(StepOutput {
            rows: 1,
            real_tokens: 70,
            padded_tokens: 96,
            loss_tokens: 70,
            loss: 5.5,
        })
    }

    fn memory(&self) -> Result<Memory, StoreError> {
        Ok(Memory {
            active_bytes: 6_000_000,
            cache_bytes: 8_000_000,
            peak_bytes: 14_000_000,
        })
    }

    fn reset_peak(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

criterion_group!(benches, judging, sampling);
criterion_main!(benches);
