//! The hierarchical bootstrap: processes are resampled, then blocks of windows within each.

use super::Run;
use super::estimate::{normal_cdf, quantile};
use crate::random::Generator;

const RESAMPLES: usize = 2_000;

/// Every interval is drawn from the same stream, so that the order of metrics changes nothing.
const SEED: u64 = 1;

/// Bounds of an interval of the log ratio with confidence `level`; `None` where an arm has
/// fewer than two processes or a process has no windows.
///
/// Both levels are resampled (Davison and Hinkley 1997, "Bootstrap Methods and their
/// Application", section 3.8): windows in circular blocks of n^(1/3), because neighbours are
/// alike (Politis and Romano 1992). The percentiles are moved outwards as far as a t interval
/// is wider than a normal one, which plain percentiles of few processes fall short of
/// (Hesterberg 2015, doi:10.1080/00031305.2015.1089789). `paired` draws pairs of processes.
pub(super) fn interval(
    baseline: &[Run],
    candidate: &[Run],
    paired: bool,
    level: f64,
) -> Option<(f64, f64)> {
    let fewest = baseline.len().min(candidate.len());
    if fewest < 2
        || baseline
            .iter()
            .chain(candidate)
            .any(|run| run.windows.is_empty())
    {
        return None;
    }
    let mut random = Generator::new(SEED);
    let mut log_ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let first = choose(baseline.len(), &mut random);
            let second = match paired {
                true => first.clone(),
                false => choose(candidate.len(), &mut random),
            };
            resampled_mean(candidate, &second, &mut random)
                - resampled_mean(baseline, &first, &mut random)
        })
        .collect();
    log_ratios.sort_by(f64::total_cmp);

    let n = fewest as f64;
    let freedom = match paired {
        true => n - 1.0,
        false => (baseline.len() + candidate.len() - 2) as f64,
    };
    let reach = quantile(0.5 + level / 2.0, freedom) * (n / (n - 1.0)).sqrt();
    let rank = (normal_cdf(-reach) * (RESAMPLES - 1) as f64).round() as usize;
    Some((log_ratios[rank], log_ratios[RESAMPLES - 1 - rank]))
}

/// As many of the processes as there are, with replacement.
fn choose(count: usize, random: &mut Generator) -> Vec<usize> {
    (0..count).map(|_| random.below(count)).collect()
}

/// Mean over the chosen processes of the logarithm of their values, each moved as far as the
/// mean of its windows moved in resampling.
fn resampled_mean(runs: &[Run], chosen: &[usize], random: &mut Generator) -> f64 {
    let logs = chosen.iter().map(|&index| {
        let Run { value, windows } = &runs[index];
        let mean = windows.iter().sum::<f64>() / windows.len() as f64;
        (value * resampled_window_mean(windows, random) / mean).ln()
    });
    logs.sum::<f64>() / chosen.len() as f64
}

fn resampled_window_mean(windows: &[f64], random: &mut Generator) -> f64 {
    let count = windows.len();
    let block = (count as f64).cbrt().ceil() as usize;
    let mut sum = 0.0;
    let mut drawn = 0;
    while drawn < count {
        let start = random.below(count);
        let length = block.min(count - drawn);
        sum += (start..start + length)
            .map(|at| windows[at % count])
            .sum::<f64>();
        drawn += length;
    }
    sum / count as f64
}
