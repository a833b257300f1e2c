//! Whether memory grows for as long as a run lasts.
//!
//! Peaks cannot tell: a cumulative maximum only ever rises. Judged are the readings of what is in
//! use after each iteration, each series by itself; [`verdict`] then puts them together.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

use crate::rules::LeakRules;
use crate::stats;
use crate::stats::dependence::inflation;
use crate::stats::rank::{mann_whitney, pettitt};
use crate::stats::trend::{mann_kendall, theil_sen};
use crate::steadiness::{reduce, warm_up};

/// What the memory of a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Grew with every iteration.
    Leak,
    /// The allocator's cache grew, and what is in use did not.
    CacheGrowth,
    /// Grew in a few steps, flat in between.
    Staircase,
    Flat,
    /// Too few readings, or too noisy to have seen a growth that matters.
    CannotTell,
}

/// How one series of readings grew, after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Growth {
    /// Any but [`Verdict::CacheGrowth`], which takes more than one series.
    pub verdict: Verdict,
    /// Readings at the beginning that were taken for warm-up.
    pub cropped: usize,
    /// Theil-Sen slope in bytes per iteration; `None` for too few readings.
    pub slope: Option<f64>,
    /// Holds the slope with the confidence of the rules.
    pub interval: Option<(f64, f64)>,
    /// The smallest leak, in bytes per iteration, that this run would have found with the power
    /// of the rules.
    pub smallest_visible: Option<f64>,
    /// Of the last level of a staircase over the first, in bytes.
    pub staircase_bytes: Option<f64>,
}

/// Bytes per iteration as MiB per 1,000 iterations.
pub fn mib_per_thousand(bytes_per_iteration: f64) -> f64 {
    bytes_per_iteration * 1000.0 / 1_048_576.0
}

/// Judges readings of (iteration, bytes) in their order.
///
/// More than 500 readings are reduced to medians, as times are. A ramp at the beginning is
/// cropped as slow times are, at most one half. The interval of the slope is Sen's, widened by the
/// autocorrelation that the better of a line and a staircase leaves.
pub fn judge(readings: &[(u32, u64)], rules: &LeakRules) -> Growth {
    let bytes: Vec<f64> = readings.iter().map(|&(_, bytes)| bytes as f64).collect();
    let places: Vec<f64> = readings
        .iter()
        .map(|&(place, _)| f64::from(place))
        .collect();
    let ((bytes, width), (places, _)) = (reduce(&bytes), reduce(&places));
    let mut points: Vec<(f64, f64)> = places.into_iter().zip(bytes).collect();
    let skipped = ramp(&points);
    points.drain(..skipped);
    let mut growth = Growth {
        verdict: Verdict::CannotTell,
        cropped: skipped * width,
        slope: None,
        interval: None,
        smallest_visible: None,
        staircase_bytes: None,
    };
    if points.len() < rules.fewest_readings.max(3) {
        return growth;
    }
    fit(&points, rules, &mut growth);
    growth
}

/// How many readings at the beginning are a ramp: below the line through all of them. Taken from
/// the level alone, half of a leak would pass for one.
fn ramp(points: &[(f64, f64)]) -> usize {
    let slope = theil_sen(points).map_or(0.0, |sen| sen.line.slope);
    // Memory warms up from below, times from above.
    let mirrored: Vec<f64> = points.iter().map(|(x, y)| slope * x - y).collect();
    warm_up(&mirrored)
}

fn fit(points: &[(f64, f64)], rules: &LeakRules, growth: &mut Growth) -> Option<()> {
    let bytes: Vec<f64> = points.iter().map(|point| point.1).collect();
    let span = points.last()?.0 - points.first()?.0;
    let level = stats::median(&bytes)?;
    let mut sen = theil_sen(points)?;
    let slope = sen.line.slope;
    let from_line: Vec<f64> = points
        .iter()
        .map(|(x, y)| y - sen.line.intercept - slope * x)
        .collect();
    let stairs = staircase(&bytes, rules);
    let size = |rests: &[f64]| rests.iter().map(|x| x.abs()).sum::<f64>();
    let in_steps =
        stairs.levels > 1 && size(&stairs.rests) <= rules.staircase_rest * size(&from_line);
    let inflation = inflation(if in_steps { &stairs.rests } else { &from_line })?;
    let (low, high) = sen.interval(rules.confidence, mann_kendall(&bytes)?.variance * inflation);

    // Half the interval is z standard errors.
    let z = |p: f64| Normal::standard().inverse_cdf(p);
    let beyond = z(0.5 + rules.confidence / 2.0);
    let smallest_growth = rules
        .smallest_growth_bytes
        .max(rules.smallest_growth_share * level);
    let by_noise = (high - low) / 2.0 * (1.0 + z(rules.power) / beyond);
    let visible = by_noise.max(smallest_growth / span);

    growth.verdict = if low > 0.0 && slope * span >= smallest_growth && !in_steps {
        Verdict::Leak
    } else if low > 0.0 && in_steps && stairs.rise >= smallest_growth {
        Verdict::Staircase
    } else if visible * span > rules.blind_share * level {
        Verdict::CannotTell
    } else {
        Verdict::Flat
    };
    growth.slope = Some(slope);
    growth.interval = Some((low, high));
    growth.smallest_visible = Some(visible);
    growth.staircase_bytes = in_steps.then_some(stairs.rise);
    Some(())
}

/// One verdict on the run: that of the memory in use, unless it is flat and the cache or the
/// process has grown.
///
/// The footprint holds the cache too, so that its growth is the cache's where that grows, and a
/// leak outside MLX where it does not.
pub fn verdict(active: &Growth, cache: Option<&Growth>, footprint: Option<&Growth>) -> Verdict {
    let grows = |growth: &&Growth| matches!(growth.verdict, Verdict::Leak | Verdict::Staircase);
    if active.verdict != Verdict::Flat {
        active.verdict
    } else if cache.filter(grows).is_some() {
        Verdict::CacheGrowth
    } else {
        footprint
            .filter(grows)
            .map_or(Verdict::Flat, |footprint| footprint.verdict)
    }
}

struct Staircase {
    levels: usize,
    /// What is left of the readings when each level's median is taken off.
    rests: Vec<f64>,
    /// Last level less the first.
    rise: f64,
}

/// Splits where Pettitt's statistic is largest, again and again, for as long as the readings on
/// both sides are well separated upwards.
fn staircase(bytes: &[f64], rules: &LeakRules) -> Staircase {
    let side = (bytes.len() / 20).max(5);
    let mut levels = vec![bytes];
    let mut index = 0;
    while index < levels.len() {
        let stretch = levels[index];
        let split = pettitt(stretch, side)
            .map(|split| stretch.split_at(split.index))
            .filter(|(before, after)| {
                mann_whitney(after, before).is_some_and(|u| u.superiority >= rules.separation)
            });
        match split {
            Some((before, after)) if levels.len() < rules.most_levels => {
                levels.splice(index..=index, [before, after]);
            }
            _ => index += 1,
        }
    }
    let medians: Vec<f64> = levels
        .iter()
        .filter_map(|level| stats::median(level))
        .collect();
    let rests = levels
        .iter()
        .zip(&medians)
        .flat_map(|(level, median)| level.iter().map(move |x| x - median));
    Staircase {
        levels: levels.len(),
        rests: rests.collect(),
        rise: medians
            .last()
            .zip(medians.first())
            .map_or(0.0, |(last, first)| last - first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use crate::rules::Rules;
    use crate::synthetic::{Fault, Series, series};

    const MIB: f64 = 1_048_576.0;

    fn growth(fault: Fault, noise: f64, count: usize) -> Growth {
        let truth = Series {
            count,
            level: 2560.0 * MIB,
            noise,
            rho: 0.0,
            fault,
        };
        let samples = series(&truth, &mut Generator::new(2));
        judge(
            &(1..).zip(samples).collect::<Vec<_>>(),
            &Rules::default().leak,
        )
    }

    fn check(fault: Fault, noise: f64, count: usize, expected: Verdict) {
        let growth = growth(fault, noise, count);
        assert_eq!(
            growth.verdict, expected,
            "{fault:?} {noise} {count}: {growth:?}"
        );
    }

    #[test]
    fn every_growth_has_its_verdict() {
        let leak = Fault::Leak {
            per_sample: 0.5 * MIB,
        };
        let stairs = Fault::Staircase {
            step: 150.0 * MIB,
            steps: 3,
        };
        for noise in [0.0, 0.01] {
            check(Fault::None, noise, 200, Verdict::Flat);
            check(leak, noise, 200, Verdict::Leak);
            check(stairs, noise, 200, Verdict::Staircase);
            check(leak, noise, 3000, Verdict::Leak);
        }
        check(
            Fault::Leak {
                per_sample: -0.5 * MIB,
            },
            0.01,
            200,
            Verdict::Flat,
        );
        check(
            Fault::WarmUp {
                excess: -0.5,
                decay: 4.0,
            },
            0.01,
            200,
            Verdict::Flat,
        );
        check(Fault::None, 0.3, 50, Verdict::CannotTell);
        for count in 0..5 {
            check(leak, 0.01, count, Verdict::CannotTell);
        }
    }

    #[test]
    fn the_slope_is_per_iteration_even_where_readings_are_missing() {
        let every_eighth: Vec<(u32, u64)> = (0..400)
            .map(|i| (i, (1 << 31) + u64::from(i) * 16_384))
            .filter(|(i, _)| i % 8 < 3)
            .collect();
        let growth = judge(&every_eighth, &Rules::default().leak);
        assert_eq!(growth.verdict, Verdict::Leak);
        assert_eq!(
            (growth.slope, growth.interval),
            (Some(16_384.0), Some((16_384.0, 16_384.0)))
        );
        assert_eq!(mib_per_thousand(4096.0), 3.90625);
    }

    #[test]
    fn a_leak_of_the_smallest_visible_size_is_mostly_found() {
        let rules = Rules::default().leak;
        let visible = growth(Fault::None, 0.01, 200).smallest_visible.unwrap();
        let found = (0..200).filter(|&run| {
            let fault = Fault::Leak {
                per_sample: visible,
            };
            let truth = Series {
                count: 200,
                level: 2560.0 * MIB,
                noise: 0.01,
                rho: 0.0,
                fault,
            };
            let samples = series(&truth, &mut Generator::stream(6, run));
            let growth = judge(&(1..).zip(samples).collect::<Vec<_>>(), &rules);
            growth.verdict == Verdict::Leak
        });
        // 80 %, and what one run's estimate of its own noise may be off.
        let found = found.count();
        assert!((130..195).contains(&found), "{found}");
    }

    #[test]
    fn series_together_tell_a_cache_from_a_leak() {
        let of = |verdict| Growth {
            verdict,
            ..growth(Fault::None, 0.0, 50)
        };
        let (flat, leak) = (of(Verdict::Flat), of(Verdict::Leak));
        assert_eq!(verdict(&leak, Some(&leak), Some(&leak)), Verdict::Leak);
        assert_eq!(
            verdict(&flat, Some(&leak), Some(&leak)),
            Verdict::CacheGrowth
        );
        assert_eq!(verdict(&flat, Some(&flat), Some(&leak)), Verdict::Leak);
        assert_eq!(verdict(&flat, None, None), Verdict::Flat);
        assert_eq!(
            verdict(&of(Verdict::CannotTell), None, Some(&leak)),
            Verdict::CannotTell
        );
    }
}
