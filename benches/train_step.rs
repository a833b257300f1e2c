//! The training iteration of `lfmark run`, batch included, on the embedded model.

use std::time::{Duration, Instant};

use benches::{Training, embedded};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

fn train_step(criterion: &mut Criterion) {
    let (_session, loaded) = embedded().expect("the embedded model loads");
    let mut group = criterion.benchmark_group("train_step");
    // A pass takes tenths of a second: as many passes in every sample, and few samples.
    group.sampling_mode(SamplingMode::Flat).sample_size(15);
    group.measurement_time(Duration::from_secs(12));
    for (name, compile) in [("eager_pass", false), ("compiled_pass", true)] {
        let mut training = Training::new(&loaded, compile).expect("training starts");
        for batch in training.batches.one_of_each_shape() {
            training.trainer.warm_up(&batch).expect("a step runs");
        }
        group.throughput(Throughput::Elements(training.tokens));
        // One pass over the data is one iteration of the benchmark, because batches differ in
        // width. A step returns after the device has finished, so the clock stops after the work.
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|passes| {
                let begin = Instant::now();
                for _ in 0..passes * training.steps {
                    let batch = training.batches.next_batch();
                    training.trainer.step(&batch).expect("a step runs");
                }
                begin.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, train_step);
criterion_main!(benches);
