//! Whether the step times kept one level, and the windows against it.

use metrics::rules::{Group, SteadinessRules, rule_of};
use metrics::steadiness::{Estimate, Level, Shift, Steadiness, Trend, Verdict};
use metrics::store::Record;
use metrics::summary::{Summary, Window};
use serde::Serialize;

use super::windows::{window_row, windows};
use super::{Shown, percent};
use crate::markdown::{Align, table};
use crate::units;

/// The words for the whole run, with the figures that they rest on.
#[derive(Debug, Serialize)]
pub(super) struct Consistency {
    verdict: &'static str,
    rule: &'static str,
    /// Iterations at the beginning that were taken for warm-up.
    cropped: usize,
    table: String,
}

/// Step times by window.
#[derive(Debug, Serialize)]
pub(super) struct Levels {
    /// Median and mean with their intervals.
    centres: String,
    /// Percentiles, robust CV, and the change where there is something to compare with.
    spreads: String,
    confidence: String,
    /// The first steady window, where there is one.
    base: Option<String>,
}

/// `None` where no iteration was measured.
pub(super) fn consistency(summary: &Summary) -> Option<Consistency> {
    let judged = summary.steadiness?;
    let level = judged.level?;
    let rules = &summary.rules.steadiness;
    let mut rows = level_rows(&judged, &level, rules);
    if let (Some(trend), Some(shift)) = (judged.trend, judged.shift) {
        rows.extend(trend_rows(&trend, rules));
        rows.extend(shift_rows(&shift, rules));
    }
    if let Some(base) = summary.first_steady {
        rows.push([
            "First steady window".to_owned(),
            summary.windows[base].label.clone(),
            "the first that begins after the warm-up".to_owned(),
        ]);
    }
    let word = judged.verdict.word();
    Some(Consistency {
        verdict: word,
        rule: rule_of(Group::Steadiness, word).unwrap_or_default(),
        cropped: judged.cropped,
        table: table(
            [
                ("Item", Align::Left),
                ("Value", Align::Right),
                ("Basis", Align::Left),
            ],
            &rows,
        ),
    })
}

fn level_rows(judged: &Steadiness, level: &Level, rules: &SteadinessRules) -> Vec<[String; 3]> {
    let interval = format!("with its {} interval", percent(rules.confidence));
    let share = |share: Option<f64>| share.shown(|share| units::share(share, 1.0));
    let of_median = |x: f64| (level.median.value > 0.0).then(|| x / level.median.value);
    let spread = of_median(level.spread());
    let precision = level
        .median
        .interval
        .and_then(|(low, high)| of_median((high - low) / 2.0));
    let rows = [
        (
            "Iterations judged",
            units::count(level.count as u64),
            match judged.samples_per_value {
                1 => "all but those taken for warm-up".to_owned(),
                width => format!(
                    "all but those taken for warm-up; trend and shift by the medians of {width} \
                     neighbours"
                ),
            },
        ),
        (
            "Independent samples they are worth",
            units::significant(level.effective.floor(), 1),
            "fewer than the iterations where neighbours resemble each other".to_owned(),
        ),
        (
            "Step time, median",
            format!("{} ms", milliseconds(level.median)),
            interval.clone(),
        ),
        (
            "Step time, mean",
            format!("{} ms", milliseconds(level.mean)),
            interval,
        ),
        (
            "CV",
            share(level.cv),
            "standard deviation over mean".to_owned(),
        ),
        (
            "Robust CV",
            share(level.robust_cv),
            "1.4826 × median absolute deviation over median".to_owned(),
        ),
        (
            "Spread of the middle 90 %",
            share(spread),
            format!(
                "as a CV; a level has at most {}",
                percent(rules.largest_spread)
            ),
        ),
        (
            "Half of the median's interval",
            match precision {
                Some(precision) => units::share(precision, 1.0),
                None => "no interval".to_owned(),
            },
            format!(
                "of the median; a level has at most {}",
                percent(rules.level_precision)
            ),
        ),
    ];
    rows.map(|(item, value, basis)| [item.to_owned(), value, basis])
        .into()
}

fn trend_rows(trend: &Trend, rules: &SteadinessRules) -> [[String; 3]; 2] {
    // Nanoseconds an iteration are thousandths of a millisecond per 1,000 iterations.
    let scale = |ns: f64| ns / 1e3;
    let interval = trend.slope.interval;
    let slope = units::signed_with_interval(
        scale(trend.slope.value),
        interval.map(|(low, high)| (scale(low), scale(high))),
    );
    [
        [
            "Trend, slope".to_owned(),
            format!("{slope} ms per 1,000 iterations"),
            format!("Theil-Sen, with its {} interval", percent(rules.confidence)),
        ],
        [
            "Trend, over all of them".to_owned(),
            format!(
                "{}, p {}",
                units::signed_share(trend.change),
                units::p_value(trend.p)
            ),
            format!(
                "Mann-Kendall; a trend has at least {} and a p below {}",
                percent(rules.smallest_change),
                units::setting(rules.significance)
            ),
        ],
    ]
}

fn shift_rows(shift: &Shift, rules: &SteadinessRules) -> [[String; 3]; 2] {
    [
        [
            "Level shift, likeliest place".to_owned(),
            format!("iteration {}", units::count(shift.at as u64 + 1)),
            "Pettitt; the first iteration after it".to_owned(),
        ],
        [
            "Level shift, size".to_owned(),
            format!(
                "{}, p {}, separation {}",
                units::signed_share(shift.change),
                units::p_value(shift.p),
                units::fixed(shift.separation, 2)
            ),
            format!(
                "a level shift has at least {}, a p below {} and a separation of {} or more",
                percent(rules.smallest_change),
                units::setting(rules.significance),
                units::setting(rules.separation)
            ),
        ],
    ]
}

/// `None` where no iteration was measured.
pub(super) fn levels(record: &Record, summary: &Summary) -> Option<Levels> {
    if record.iterations.is_empty() {
        return None;
    }
    let base = summary.first_steady.map(|index| &summary.windows[index]);
    let rows = windows(record, summary);
    let level =
        |window: &Window, write: &dyn Fn(&Level) -> String| window.level.as_ref().shown(write);
    let centres: Vec<_> = rows
        .iter()
        .map(|&(spec, window)| {
            window_row(spec, window, |window| {
                [
                    format!("**{spec}**"),
                    level(window, &|level| {
                        units::significant(level.effective.floor(), 1)
                    }),
                    level(window, &|level| milliseconds(level.median)),
                    level(window, &|level| milliseconds(level.mean)),
                ]
            })
        })
        .collect();
    let spreads: Vec<_> = rows
        .iter()
        .map(|&(spec, window)| {
            window_row(spec, window, |window| {
                [
                    format!("**{spec}**"),
                    units::count(window.training.iterations.into()),
                    level(window, &|level| units::milliseconds(level.p05)),
                    level(window, &|level| units::milliseconds(level.p95)),
                    level(window, &|level| units::milliseconds(level.p99)),
                    level(window, &|level| {
                        level.robust_cv.shown(|cv| units::share(cv, 1.0))
                    }),
                    match base {
                        Some(base) if base.spec == window.spec => "base".to_owned(),
                        Some(_) => window.change.shown(units::signed_share),
                        None => "not compared".to_owned(),
                    },
                ]
            })
        })
        .collect();
    let range = ("Iteration range", Align::Left);
    let counted = ("Counted", Align::Right);
    Some(Levels {
        centres: table(
            [
                range,
                ("Worth", Align::Right),
                ("Median (ms)", Align::Right),
                ("Mean (ms)", Align::Right),
            ],
            &centres,
        ),
        spreads: table(
            [
                range,
                counted,
                ("p5 (ms)", Align::Right),
                ("p95 (ms)", Align::Right),
                ("p99 (ms)", Align::Right),
                ("Robust CV", Align::Right),
                ("Change of the median", Align::Right),
            ],
            &spreads,
        ),
        confidence: percent(summary.rules.steadiness.confidence),
        base: base.map(|base| base.label.clone()),
    })
}

/// What the step-time chart shows of the verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Marks {
    /// Last iteration that was taken for warm-up.
    pub warm_up: Option<u32>,
    /// First iteration of the new level, where the verdict is that there is one.
    pub shift: Option<u32>,
}

pub(super) fn marks(record: &Record, summary: &Summary) -> Marks {
    let iteration = |index: usize| Some(record.iterations.get(index)?.iteration);
    let judged = summary.steadiness.as_ref();
    Marks {
        warm_up: judged
            .and_then(|judged| judged.cropped.checked_sub(1))
            .and_then(iteration),
        shift: judged
            .filter(|judged| judged.verdict == Verdict::Shifted)
            .and_then(|judged| iteration(judged.shift?.at)),
    }
}

/// In milliseconds, without the unit, for a column of them.
fn milliseconds(ns: Estimate) -> String {
    let interval = ns.interval.map(|(low, high)| (low / 1e6, high / 1e6));
    units::with_interval(ns.value / 1e6, interval)
}
