//! One training iteration of `lfmark run`, batch included, on the embedded model.

use std::time::Duration;

use benches::{embedded, training};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

fn train_step(criterion: &mut Criterion) {
    let (_session, loaded) = embedded().expect("the embedded model loads");
    let mut group = criterion.benchmark_group("train_step");
    // A step takes tens of milliseconds: as many steps in every sample, and few samples.
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.measurement_time(Duration::from_secs(10));
    for (name, compile) in [("eager", false), ("compiled", true)] {
        let (mut trainer, mut batches) = training(&loaded, compile).expect("training starts");
        for batch in batches.one_of_each_width() {
            trainer.warm_up(&batch).expect("a step runs");
        }
        group.throughput(Throughput::Elements(1));
        // The step returns after the device has finished, so the timer stops after the work.
        group.bench_function(name, |bencher| {
            bencher.iter(|| trainer.step(&batches.next_batch()).expect("a step runs"));
        });
    }
    group.finish();
}

criterion_group!(benches, train_step);
criterion_main!(benches);
