//! Reading, summarizing and rendering: a record of 500 iterations, and a hundred records of 10,000
//! compared.

use benches::{record, record_text};
use criterion::{Criterion, criterion_group, criterion_main};
use metrics::{
    record::Member,
    sets::{Process, Set},
    store,
    summary::summarize,
};

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

/// Two arms of 50 runs: judged, compared and rendered.
fn comparing(criterion: &mut Criterion) {
    let records: Vec<_> = (1..=100).map(member).collect();
    let mut group = criterion.benchmark_group("comparing");
    group.sample_size(10);
    group.bench_function("a_hundred_records", |bencher| {
        bencher.iter(|| {
            let processes = records.iter().enumerate();
            let processes =
                processes.filter_map(|(index, record)| Process::of(&format!("{index:03}"), record));
            let set = Set::new(processes.collect(), Vec::new()).expect("the runs are of one set");
            report::render_set(&set, None)
        });
    });
    group.finish();
}

/// Run number n of a set, whose arms take turns.
fn member(number: u32) -> store::Record {
    let mut record = record(10_000);
    record.start.member = Some(Member {
        set: "set".to_owned(),
        arm: ["a", "b"][number as usize % 2].to_owned(),
        number,
        repeat: number.div_ceil(2),
        waited_ns: 0,
        unmet: Vec::new(),
        unread: Vec::new(),
        empty_caches: None,
    });
    record
}

criterion_group!(benches, reporting, comparing);
criterion_main!(benches);
