//! How step times and the times between tokens were distributed.

use metrics::stats;
use metrics::store::Record;

use crate::charts::{self, ChartError, Times};

/// The chart of both; `None` where neither was measured.
pub(super) fn chart(record: &Record) -> Option<Result<String, ChartError>> {
    let steps = record.iterations.iter().map(|it| it.step_ns).collect();
    let tokens = record.generations.iter();
    let tokens = tokens.flat_map(|it| it.token_ns.iter().copied()).collect();
    let kinds: Vec<_> = [
        ("Step time of the iterations", steps),
        ("Time from token to token, all prompts", tokens),
    ]
    .into_iter()
    .filter_map(|(name, ns)| times(name, ns))
    .collect();
    (!kinds.is_empty()).then(|| charts::latency(&kinds))
}

fn times(name: &'static str, ns: Vec<u64>) -> Option<Times> {
    let samples: Vec<f64> = ns.iter().map(|&ns| ns as f64).collect();
    let quantile = |p| stats::quantile(&samples, p);
    let quantiles = [quantile(0.5)?, quantile(0.95)?, quantile(0.99)?];
    Some(Times {
        name,
        ns,
        quantiles,
    })
}
