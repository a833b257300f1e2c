//! The rank test of Mann and Whitney, and the probability of superiority.

use serde::{Deserialize, Serialize};

use crate::stats::rank;

/// Up to this many runs an arm the distribution of the rank sum is counted out.
const MOST_EXACT: usize = 20;

/// Whether one arm tends to larger values than the other, by ranks alone (Mann and Whitney
/// 1947, doi:10.1214/aoms/1177730491).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MannWhitney {
    /// Pairs of runs in which the candidate is larger; a tie counts one half.
    pub u: f64,
    /// Two-sided.
    pub p: f64,
    /// Counted over all arrangements of the ranks, ties included, rather than by the normal
    /// approximation with tie and continuity correction.
    pub exact: bool,
    /// Probability that a run of the candidate is larger than one of the baseline, a tie
    /// counting one half: `u` over the number of pairs (Vargha and Delaney 2000,
    /// doi:10.3102/10769986025002101).
    pub superiority: f64,
}

/// # Panics
///
/// If an arm is empty or holds what is not finite.
pub(super) fn mann_whitney(baseline: &[f64], candidate: &[f64]) -> MannWhitney {
    let rank::MannWhitney { u, superiority, p } =
        rank::mann_whitney(candidate, baseline).expect("arms hold finite values");
    let exact = baseline.len().max(candidate.len()) <= MOST_EXACT;
    MannWhitney {
        u,
        p: if exact {
            exact_p(baseline, candidate)
        } else {
            p
        },
        exact,
        superiority,
    }
}

/// Twice the smaller tail among all choices of the candidate's ranks from the pooled ones. At
/// most 40 ranks: the numbers of choices stay below 2^53, so that floating point counts them
/// exactly.
fn exact_p(baseline: &[f64], candidate: &[f64]) -> f64 {
    let ranks = rank::ranks(&[candidate, baseline].concat()).expect("arms hold finite values");
    // Doubled, the mean ranks of ties are integers too.
    let ranks: Vec<usize> = ranks.iter().map(|rank| (2.0 * rank) as usize).collect();
    let count = candidate.len();
    let sum: usize = ranks[..count].iter().sum();
    let most: usize = ranks.iter().sum();
    // choices[k][s]: ways to choose k of the ranks seen so far with sum s.
    let mut choices = vec![vec![0.0; most + 1]; count + 1];
    choices[0][0] = 1.0;
    for rank in ranks {
        for chosen in (1..=count).rev() {
            let (fewer, more) = choices.split_at_mut(chosen);
            for (ways, before) in more[0][rank..].iter_mut().zip(&fewer[chosen - 1]) {
                *ways += before;
            }
        }
    }
    let ways = &choices[count];
    let total: f64 = ways.iter().sum();
    let below: f64 = ways[..=sum].iter().sum();
    let above: f64 = ways[sum..].iter().sum();
    (2.0 * below.min(above) / total).min(1.0)
}
