//! Generation with the embedded model: the first token of a prompt, and one token after it.

use benches::embedded;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::generate::{Decoder, Sampling};

/// Tokens generated from one prompt before the sequence begins anew, so that every sample meets
/// the same range of lengths.
const TOKENS: u64 = 64;

fn decode(criterion: &mut Criterion) {
    let (_session, loaded) = embedded().expect("the embedded model loads");
    let prompt: Vec<u32> = (0..16).map(|i| 100 + i).collect();
    let start = || {
        let decoder = Decoder::start(&loaded.model, None, &prompt, Sampling::GREEDY);
        decoder.expect("the prompt is within the vocabulary").0
    };
    let mut group = criterion.benchmark_group("decode");
    group.sample_size(20);
    group.throughput(Throughput::Elements(1));
    group.bench_function("first_token_of_16", |bencher| {
        bencher.iter_with_large_drop(start)
    });
    group.throughput(Throughput::Elements(TOKENS));
    group.bench_function("64_tokens", |bencher| {
        bencher.iter_batched(start, generate, BatchSize::PerIteration);
    });
    group.finish();
}

/// Returns the decoder, whose end waits for the device and is not measured.
fn generate(mut decoder: Decoder<'_>) -> Decoder<'_> {
    for _ in 0..TOKENS {
        decoder.next_token().expect("a token is generated");
    }
    decoder
}

criterion_group!(benches, decode);
criterion_main!(benches);
