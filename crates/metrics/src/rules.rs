//! The rule table: every threshold behind an adjective.
//!
//! The library judges by these numbers alone. They are recorded with what was judged, so that a
//! verdict can be traced to the rule that gave it.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    pub steadiness: SteadinessRules,
    pub leak: LeakRules,
    pub comparison: ComparisonRules,
}

/// When a run is steady.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SteadinessRules {
    /// Fewer samples than this, after the warm-up, are too few to tell.
    pub fewest_samples: usize,
    /// Level of the tests of trend and of level shift, each.
    pub significance: f64,
    /// A change over the run smaller than this share of the median is no change.
    pub smallest_change: f64,
    /// Probability with which a sample after a shift must lie beyond one before it.
    pub separation: f64,
    /// Samples each side of a shift.
    pub fewest_each_side: usize,
    /// Spread of the middle 90 % of samples, in standard deviations of a normal distribution and
    /// as a share of the median, above which there is no steady state.
    pub largest_spread: f64,
    /// Half-width of the median's interval, as a share of the median, above which there is no
    /// steady state.
    pub level_precision: f64,
    /// Of the intervals.
    pub confidence: f64,
}

impl Default for SteadinessRules {
    fn default() -> Self {
        Self {
            fewest_samples: 20,
            significance: 0.02,
            smallest_change: 0.01,
            separation: 0.85,
            fewest_each_side: 5,
            largest_spread: 0.05,
            level_precision: 0.05,
            confidence: 0.95,
        }
    }
}

/// When memory leaks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeakRules {
    /// Fewer readings than this, after the warm-up, are too few to tell.
    pub fewest_readings: usize,
    /// Of the interval of the slope, which must lie above 0.
    pub confidence: f64,
    /// With which a leak of the smallest size that is stated would have been found.
    pub power: f64,
    /// Growth over the run below the larger of this many bytes and the share below is none.
    pub smallest_growth_bytes: f64,
    pub smallest_growth_share: f64,
    /// A run that could only have seen a larger growth than this share of the level is not
    /// called flat.
    pub blind_share: f64,
    /// Steps explain growth where they leave at most this share of the deviations that a line
    /// leaves.
    pub staircase_rest: f64,
    /// Probability with which a reading on one level must lie above one on the level before.
    pub separation: f64,
    /// Levels of a staircase; growth in more of them is a leak.
    pub most_levels: usize,
}

impl Default for LeakRules {
    fn default() -> Self {
        Self {
            fewest_readings: 20,
            confidence: 0.98,
            power: 0.8,
            smallest_growth_bytes: 1_048_576.0,
            smallest_growth_share: 0.001,
            blind_share: 0.05,
            staircase_rest: 0.75,
            separation: 0.85,
            most_levels: 8,
        }
    }
}

/// When two sets of runs differ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComparisonRules {
    /// The smallest change that matters, as a ratio less 1: 0.02 means 1.02 or 1 / 1.02.
    pub practical: f64,
    /// Probability of finding a change in any metric where there is none. The one-sided tests
    /// of equivalence have it too, each.
    pub error_rate: f64,
    /// With which the smallest detectable change would have been found, and the number of runs
    /// that is asked for would decide.
    pub power: f64,
    /// Pairs from which interleaved runs are decided by their paired differences. With fewer,
    /// a t quantile at half the degrees of freedom costs more than pairing usually gains; the
    /// unpaired interval then decides, which drift only makes wider.
    pub pairs_to_decide: usize,
}

impl Default for ComparisonRules {
    fn default() -> Self {
        Self {
            practical: 0.02,
            error_rate: 0.05,
            power: 0.8,
            pairs_to_decide: 10,
        }
    }
}
