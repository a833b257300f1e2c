//! Reading, summarizing and rendering a record of 500 iterations.

use benches::{record, record_text};
use criterion::{Criterion, criterion_group, criterion_main};
use metrics::{store, summary::summarize};

const ITERATIONS: u32 = 500;

fn reporting(criterion: &mut Criterion) {
    let text = record_text(ITERATIONS);
    let record = record(ITERATIONS);
    let mut group = criterion.benchmark_group("reporting");
    group.sample_size(20);
    group.bench_function("parse", |bencher| bencher.iter(|| store::parse(&text)));
    group.bench_function("summarize", |bencher| bencher.iter(|| summarize(&record)));
    group.bench_function("render", |bencher| bencher.iter(|| report::render(&record)));
    group.finish();
}

criterion_group!(benches, reporting);
criterion_main!(benches);
