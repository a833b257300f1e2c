//! Whether memory grows for as long as a run lasts.
//!
//! Peaks cannot tell: a cumulative maximum only ever rises. Judged are the readings of what is in
//! use after each iteration, each series by itself; [`verdict`] then puts them together.

use schemars::JsonSchema;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

use crate::rules::LeakRules;
use crate::stats;
use crate::stats::dependence::inflation;
use crate::stats::rank::{pettitt, superiority};
use crate::stats::trend::{TheilSen, bootstrap_reach, mann_kendall, theil_sen};
use crate::steadiness::{reduce, warm_up};

/// What the memory of a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MemoryVerdict")]
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

impl Verdict {
    /// As [`crate::rules::WORDS`] has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::CacheGrowth => "cache growth",
            Self::Staircase => "staircase",
            Self::Flat => "flat",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// How one series of readings grew, after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Growth {
    /// Any but [`Verdict::CacheGrowth`], which takes more than one series.
    pub verdict: Verdict,
    /// Readings at the beginning that were taken for warm-up.
    pub cropped: usize,
    /// Theil-Sen slope in bytes per iteration; `None` for too few readings.
    pub slope: Option<f64>,
    /// Holds the slope with the confidence of the rules; decides. That of
    /// [`Method::Bootstrap`], unless another method was asked for.
    pub interval: Option<(f64, f64)>,
    /// The same by [`Method::Sen`].
    pub sen_interval: Option<(f64, f64)>,
    /// The smallest leak, in bytes per iteration, that this run would have found with the power
    /// of the rules.
    pub smallest_visible: Option<f64>,
    /// Of the last level of a staircase over the first, in bytes.
    pub staircase_bytes: Option<f64>,
}

/// Where the interval of a slope comes from. Both give Sen's order statistics of the slopes of all
/// pairs; they differ in how far chance is taken to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A block bootstrap of what the slope leaves, see [`bootstrap_reach`].
    Bootstrap,
    /// The normal approximation, its variance widened by the [`inflation`] of what the slope
    /// leaves.
    Sen,
}

/// Bytes per iteration as MiB per 1,000 iterations.
pub fn mib_per_thousand(bytes_per_iteration: f64) -> f64 {
    bytes_per_iteration * 1000.0 / 1_048_576.0
}

/// Judges readings of (iteration, bytes) in their order.
///
/// More than 500 readings are reduced to medians, as times are. A ramp at the beginning is
/// cropped as slow times are, at most one half. What decides is the interval of the slope by a
/// block bootstrap of what the better of a line and a staircase leaves.
pub fn judge(readings: &[(u32, u64)], rules: &LeakRules) -> Growth {
    judge_by(readings, rules, Method::Bootstrap)
}

/// As [`judge`], with the interval of either method deciding.
pub fn judge_by(readings: &[(u32, u64)], rules: &LeakRules, method: Method) -> Growth {
    let bytes: Vec<f64> = readings.iter().map(|&(_, bytes)| bytes as f64).collect();
    // From the first one, so that rounding is the same wherever the readings begin.
    let first = readings.first().map_or(0.0, |&(place, _)| f64::from(place));
    let places: Vec<f64> = readings
        .iter()
        .map(|&(place, _)| f64::from(place) - first)
        .collect();
    let ((bytes, width), (places, _)) = (reduce(&bytes), reduce(&places));
    let mut points: Vec<(f64, f64)> = places.into_iter().zip(bytes).collect();
    let ramp = ramp(&points);
    let skipped = ramp.as_ref().map_or(0, |&(skipped, _)| skipped);
    points.drain(..skipped);
    let mut growth = Growth {
        verdict: Verdict::CannotTell,
        cropped: skipped * width,
        slope: None,
        interval: None,
        sen_interval: None,
        smallest_visible: None,
        staircase_bytes: None,
    };
    if points.len() >= rules.fewest_readings.max(3)
        && let Some((_, sen)) = ramp
    {
        fit(&points, sen, rules, method, &mut growth);
    }
    growth
}

/// How many readings at the beginning are a ramp, and the slopes of the rest.
///
/// A ramp lies below the line through what follows; taken from the level alone, half of a leak
/// would pass for one. [`warm_up`] ends where the ramp is lost in the noise, and what is still
/// missing there would tilt the rest. So twice as many are cropped, after which an exponential
/// approach has covered the same factor once more; at most one half.
fn ramp(points: &[(f64, f64)]) -> Option<(usize, TheilSen)> {
    let mut skipped = 0;
    // The ramp itself tilts the first line, which then hides a part of it.
    loop {
        let sen = theil_sen(&points[skipped..])?;
        // Memory warms up from below, times from above.
        let mirrored = points.iter().map(|(x, y)| sen.line.slope * x - y);
        let found = (2 * warm_up(&mirrored.collect::<Vec<_>>())).min(points.len() / 2);
        if found <= skipped {
            return Some((skipped, sen));
        }
        skipped = found;
    }
}

fn fit(
    points: &[(f64, f64)],
    mut sen: TheilSen,
    rules: &LeakRules,
    method: Method,
    growth: &mut Growth,
) -> Option<()> {
    let bytes: Vec<f64> = points.iter().map(|point| point.1).collect();
    let span = points.last()?.0 - points.first()?.0;
    let level = stats::median(&bytes)?;
    let slope = sen.line.slope;
    let from_line: Vec<f64> = points
        .iter()
        .map(|(x, y)| y - sen.line.intercept - slope * x)
        .collect();
    let stairs = staircase(&bytes, rules);
    let size = |rests: &[f64]| rests.iter().map(|x| x.abs()).sum::<f64>();
    let in_steps =
        stairs.levels > 1 && size(&stairs.rests) <= rules.staircase_rest * size(&from_line);
    let rests = if in_steps { &stairs.rests } else { &from_line };
    let inflation = inflation(rests)?;
    let variance = mann_kendall(&bytes)?.variance;
    let by_sen = sen.interval(rules.confidence, variance * inflation);
    let reach = bootstrap_reach(rests, inflation, rules.confidence, variance)?;
    let (low, high) = match method {
        Method::Bootstrap => sen.within(reach),
        Method::Sen => by_sen,
    };

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
    } else if by_noise * span > smallest_growth.max(rules.blind_share * level) {
        Verdict::CannotTell
    } else {
        Verdict::Flat
    };
    growth.slope = Some(slope);
    growth.interval = Some((low, high));
    growth.sen_interval = Some(by_sen);
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
                superiority(after, before).is_some_and(|above| above >= rules.separation)
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
            fault,
            ..Series::steady(count, 2560.0 * MIB, noise)
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
    fn a_small_series_that_does_not_move_is_flat() {
        // 5 % of this level is less than the smallest growth there is.
        let readings: Vec<(u32, u64)> = (1..=200).map(|i| (i, 6_000_000)).collect();
        let growth = judge(&readings, &Rules::default().leak);
        assert_eq!(growth.verdict, Verdict::Flat, "{growth:?}");
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
                fault,
                ..Series::steady(200, 2560.0 * MIB, 0.01)
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
