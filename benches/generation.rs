//! Generation with the embedded model: reading a prompt, and the tokens after it, chosen greedily
//! and by sampling.
//!
//! Every sequence begins anew, so that each sample meets the same range of lengths. A decoder works
//! a step ahead, and waits for it when it is dropped: that is outside the measured time.

use std::time::{Duration, Instant};

use benches::embedded;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::generate::{Decoder, Forward, Sampling};

/// Tokens generated from one prompt.
const TOKENS: u64 = 64;

const SAMPLED: Sampling = Sampling {
    temperature: 0.7,
    top_p: 0.9,
    seed: 0,
};

fn generation(criterion: &mut Criterion) {
    let (_session, loaded) = embedded().expect("the embedded model loads");
    let forward = Forward::new(loaded.model, None, true);
    let mut group = criterion.benchmark_group("prefill");
    group.sample_size(20);
    for length in [16, 512] {
        let prompt = prompt(length);
        group.throughput(Throughput::Elements(length.into()));
        // Until the first token is known on the host.
        group.bench_function(format!("prompt_of_{length}"), |bencher| {
            bencher.iter_custom(|sequences| {
                total(sequences, || {
                    let begin = Instant::now();
                    let decoder = start(&forward, &prompt, Sampling::GREEDY);
                    (begin.elapsed(), decoder)
                })
            });
        });
    }
    group.finish();

    let prompt = prompt(16);
    let mut group = criterion.benchmark_group("decode");
    group.sample_size(20);
    group.throughput(Throughput::Elements(TOKENS));
    for (name, sampling) in [("greedy", Sampling::GREEDY), ("sampled", SAMPLED)] {
        group.bench_function(format!("64_tokens_{name}"), |bencher| {
            bencher.iter_custom(|sequences| {
                total(sequences, || {
                    let mut decoder = start(&forward, &prompt, sampling);
                    let begin = Instant::now();
                    for _ in 0..TOKENS {
                        decoder.next_token().expect("a token is generated");
                    }
                    (begin.elapsed(), decoder)
                })
            });
        });
    }
    group.finish();
}

/// Token ids without a meaning.
fn prompt(length: u32) -> Vec<u32> {
    (100..100 + length).collect()
}

fn start<'a>(forward: &'a Forward, prompt: &[u32], sampling: Sampling) -> Decoder<'a> {
    let started = Decoder::start(forward, prompt, sampling);
    started.expect("the prompt is within the vocabulary").0
}

/// The measured time of this many sequences. Each decoder waits for the device before the next
/// sequence begins.
fn total<'a>(sequences: u64, sequence: impl Fn() -> (Duration, Decoder<'a>)) -> Duration {
    (0..sequences).map(|_| sequence().0).sum()
}

criterion_group!(benches, generation);
criterion_main!(benches);
