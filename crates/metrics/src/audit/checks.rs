//! The checks themselves, on values that may come from samples or from print.

use super::{Check, Outcome, Side};
use crate::interval::Interval;
use crate::roofline::LARGEST_SHARE;

/// How values are written for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    Seconds,
    IterationsPerSecond,
    Tokens,
    TokensPerSecond,
    Bytes,
    BytesPerSecond,
    Operations,
    Share,
    Times,
}

impl Unit {
    /// A value with its unit; a range where several are possible.
    pub(super) fn write(self, value: Interval) -> String {
        let (low, high) = (value.low, value.high);
        let (scale, symbol) = match self {
            Self::Count => (1.0, ""),
            Self::Seconds => (1.0, " s"),
            Self::IterationsPerSecond => (1.0, " it/s"),
            Self::Tokens => (1.0, " tokens"),
            Self::TokensPerSecond => (1.0, " tokens/s"),
            Self::Bytes if low == high && low < 1e15 => return format!("{} B", number(low, 0)),
            Self::Bytes if high < 1e8 => (1e6, " MB"),
            Self::Bytes => (1e9, " GB"),
            Self::BytesPerSecond => (1e9, " GB/s"),
            Self::Operations => (1e12, " TFLOP/s"),
            Self::Share => (0.01, " %"),
            Self::Times => (1.0, " times"),
        };
        let (low, high) = (low / scale, high / scale);
        if low == high {
            let text = number(low, places(low, 4));
            let short = match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.'),
                false => &text,
            };
            return format!("{short}{symbol}");
        }
        // The ends of a narrow range differ in the digits shown.
        let needed = places(high - low, 2).max(places(high, 3));
        let (low, high) = (number(low, needed), number(high, needed));
        match low == high {
            true => format!("{low}{symbol}"),
            false => format!("{low} to {high}{symbol}"),
        }
    }
}

impl Side {
    pub(super) fn new(value: Interval, unit: Unit) -> Self {
        Self {
            value,
            text: unit.write(value),
        }
    }
}

/// Decimals that show so many significant digits.
fn places(value: f64, digits: i32) -> usize {
    if value == 0.0 {
        return 0;
    }
    // A power of ten that lost its last bit is one still.
    let magnitude = (value.abs() * (1.0 + 1e-9)).log10().floor() as i32;
    usize::try_from(digits.saturating_sub(1).saturating_sub(magnitude)).map_or(0, |n| n.min(9))
}

/// With thousands separators.
fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text.as_str(), None),
    };
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 && digit.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}

/// How far two sides may differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tolerance {
    /// As far as the last printed digit leaves open, which is in the sides already.
    Printed,
    /// Not at all.
    Exact,
    /// By this share of a side: what floating point loses.
    Rounding(f64),
    /// What [`LARGEST_SHARE`] allows over a specified figure.
    Specified,
}

impl Tolerance {
    /// Of figures that are computed from the same integers in two ways.
    pub(super) const COMPUTED: Self = Self::Rounding(1e-9);

    fn share(self) -> f64 {
        match self {
            Self::Printed | Self::Exact => 0.0,
            Self::Rounding(share) => share,
            Self::Specified => LARGEST_SHARE - 1.0,
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Printed => "printed digits".to_owned(),
            Self::Exact => "none".to_owned(),
            Self::Rounding(share) => format!("{share:e} of the value"),
            Self::Specified => "3 % of the specified figure".to_owned(),
        }
    }
}

/// Which sides a formula allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    /// The left side is at most the right one.
    AtMost,
}

/// A formula and its words. `{left}` and `{right}` in them stand for the sides, `{share}` for the
/// left one as a share of the right one.
pub(super) struct Formula {
    pub(super) formula: &'static str,
    pub(super) relation: Relation,
    pub(super) unit: Unit,
    pub(super) pass: &'static str,
    pub(super) fail: &'static str,
    /// Where a side is missing.
    pub(super) missing: &'static str,
}

impl Formula {
    /// Applies the formula to two sides, either of which may not be known.
    pub(super) fn check(
        &self,
        id: impl Into<String>,
        left: Option<Interval>,
        right: Option<Interval>,
        tolerance: Tolerance,
    ) -> Check {
        let side = |value| Side::new(value, self.unit);
        let (left, right) = (left.map(side), right.map(side));
        let outcome = match (&left, &right) {
            (Some(left), Some(right)) => {
                let (left, allowed) = (left.value, right.value.widened(tolerance.share()));
                let holds = match self.relation {
                    Relation::Equal => left.meets(allowed),
                    Relation::AtMost => !left.exceeds(allowed),
                };
                // A value that is no number holds nothing.
                match holds && left.low.is_finite() && allowed.high.is_finite() {
                    true => Outcome::Pass,
                    false => Outcome::Fail,
                }
            }
            _ => Outcome::CannotTell,
        };
        let words = match outcome {
            Outcome::Pass => self.pass,
            Outcome::Fail => self.fail,
            Outcome::Unsupported | Outcome::CannotTell => self.missing,
        };
        let text = |side: &Option<Side>| side.as_ref().map_or(String::new(), |it| it.text.clone());
        Check {
            id: id.into(),
            formula: self.formula,
            sentence: words
                .replace("{left}", &text(&left))
                .replace("{right}", &text(&right))
                .replace("{share}", &share(left.as_ref(), right.as_ref())),
            left,
            right,
            tolerance: tolerance.text(),
            outcome,
        }
    }
}

fn share(left: Option<&Side>, right: Option<&Side>) -> String {
    let both = left.zip(right);
    both.map_or(String::new(), |(left, right)| {
        Unit::Share.write(left.value / right.value)
    })
}

pub(super) const RATE_OVER_TIME: Formula = Formula {
    formula: "iterations / time = iteration rate",
    relation: Relation::Equal,
    unit: Unit::IterationsPerSecond,
    pass: "The iterations over the time give the stated rate.",
    fail: "The iterations over the time are {left}, and {right} is stated: one of the figures is \
           wrong, or the rate leaves out time that the total has.",
    missing: "The iterations, the time or the rate are not stated.",
};

pub(super) const TOKEN_RATE: Formula = Formula {
    formula: "iteration rate x tokens per iteration = token rate",
    relation: Relation::Equal,
    unit: Unit::TokensPerSecond,
    pass: "The token rate is the iteration rate times the tokens of an iteration.",
    fail: "The iteration rate times the tokens of an iteration is {left}, and {right} is stated.",
    missing: "The tokens of an iteration are not stated.",
};

pub(super) const TRAINABLE_PARAMETERS: Formula = Formula {
    formula: "sum over the adapters of rank x (inputs + outputs) = trainable parameters",
    relation: Relation::Equal,
    unit: Unit::Count,
    pass: "Rank, layers and modules give the stated number of trainable parameters.",
    fail: "Rank, layers and modules give {left} trainable parameters, and {right} is stated.",
    missing: "Rank, layers, the shapes of the modules or the number are not stated.",
};

pub(super) const TRAINABLE_SHARE: Formula = Formula {
    formula: "trainable parameters / parameters = trainable share",
    relation: Relation::Equal,
    unit: Unit::Share,
    pass: "The share follows from the two numbers of parameters.",
    fail: "The two numbers of parameters give {left}, and {right} is stated.",
    missing: "One of the two numbers of parameters or the share is not stated.",
};

pub(super) const MEMORY_FLOOR: Formula = Formula {
    formula: "weights + 4 bytes x trainable parameters x (adapter, gradient, two moments) <= peak",
    relation: Relation::AtMost,
    unit: Unit::Bytes,
    pass: "The peak holds the weights, the adapters, their gradients and the optimizer's moments.",
    fail: "Weights, adapters, gradients and moments need {left}, more than the peak of {right}.",
    missing: "The type of the weights, the parameters or the peak are not stated.",
};

pub(super) const GENERATION_FLOOR: Formula = Formula {
    formula: "weights <= peak of the generation",
    relation: Relation::AtMost,
    unit: Unit::Bytes,
    pass: "The peak holds the weights.",
    fail: "The weights alone need {left}, more than the peak of {right}.",
    missing: "The type of the weights, the parameters or the peak are not stated.",
};

pub(super) const MEMORY_SHARE: Formula = Formula {
    formula: "peak / memory = share of the memory",
    relation: Relation::Equal,
    unit: Unit::Share,
    pass: "The share follows from the peak and the memory.",
    fail: "The peak over the memory is {left}, and {right} is stated.",
    missing: "The peak, the memory or the share is not stated.",
};

pub(super) const SPREAD_SHARE: Formula = Formula {
    formula: "spread / value = relative spread",
    relation: Relation::Equal,
    unit: Unit::Share,
    pass: "The relative spread follows from the spread and its value.",
    fail: "The spread over its value is {left}, and {right} is stated.",
    missing: "The spread or its share is not stated.",
};

pub(super) const SPREAD_BOUND: Formula = Formula {
    formula: "spread / value <= relative spread",
    relation: Relation::AtMost,
    ..SPREAD_SHARE
};

pub(super) const SPREAD_RESOLUTION: Formula = Formula {
    formula: "half a unit of the value's last digit <= spread",
    relation: Relation::AtMost,
    unit: Unit::IterationsPerSecond,
    pass: "The value is printed finely enough for its spread.",
    fail: "The value is known to {left}, and a spread of {right} is finer than that.",
    missing: "No spread is stated.",
};

pub(super) const WINDOWS_TIME: Formula = Formula {
    formula: "sum over the windows of iterations / rate = time",
    relation: Relation::Equal,
    unit: Unit::Seconds,
    pass: "The windows together take the time of the whole.",
    fail: "The windows together take {left}, and the whole {right}.",
    missing: "The windows do not cover the run, or their rates or the time are not stated.",
};

pub(super) const WINDOWS_RATE: Formula = Formula {
    formula: "iterations of all windows / their time = iteration rate",
    relation: Relation::Equal,
    unit: Unit::IterationsPerSecond,
    pass: "The windows together have the rate of the whole.",
    fail: "The windows together have {left}, and the whole {right}.",
    missing: "The windows do not cover the run, or their rates or that of the whole are not stated.",
};

pub(super) const WINDOWS_PEAK: Formula = Formula {
    formula: "largest peak of a window = peak",
    relation: Relation::Equal,
    unit: Unit::Bytes,
    pass: "The largest peak of a window is that of the whole.",
    fail: "The largest peak of a window is {left}, and that of the whole {right}.",
    missing: "The windows do not cover the run, or a peak is not stated.",
};

pub(super) const BUDGET: Formula = Formula {
    formula: "sum of the parts of the time = wall time",
    relation: Relation::Equal,
    unit: Unit::Seconds,
    pass: "The parts of the time add up to the wall time.",
    fail: "The parts of the time add up to {left}, and the wall time is {right}.",
    missing: "The wall time is not known.",
};

pub(super) const DECODE_BANDWIDTH: Formula = Formula {
    formula: "generation rate x bytes of the weights <= bandwidth of the memory",
    relation: Relation::AtMost,
    unit: Unit::BytesPerSecond,
    pass: "Reading the weights once a token takes {left} of {right}, {share}.",
    fail: "Reading the weights once a token would take {left} of a memory that has {right}, {share}: the \
           rate, the weights or the row of the chip table is wrong.",
    missing: "The chip has no specified bandwidth here, or the rate or the weights are not known.",
};

pub(super) const ARITHMETIC: Formula = Formula {
    formula: "token rate x operations per token <= arithmetic of the chip",
    relation: Relation::AtMost,
    unit: Unit::Operations,
    pass: "The work needs {left} of {right}, {share}.",
    fail: "The work would need {left} of a chip that has {right}, {share}: the rate, the count or the row \
           of the chip table is wrong.",
    missing: "The chip has no specified arithmetic here, or the rate or the model is not known.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_for_people() {
        let exact = Interval::exact;
        for (unit, value, expected) in [
            (Unit::Count, exact(425_984.0), "425,984"),
            (Unit::IterationsPerSecond, exact(157.2345), "157.2 it/s"),
            (
                Unit::IterationsPerSecond,
                Interval::around(15.5, 0.05),
                "15.45 to 15.55 it/s",
            ),
            (
                Unit::IterationsPerSecond,
                Interval {
                    low: 14.347,
                    high: 14.388,
                },
                "14.347 to 14.388 it/s",
            ),
            (Unit::Bytes, exact(2_340_681_216.0), "2,340,681,216 B"),
            (
                Unit::Bytes,
                Interval::around(2.558e9, 5e5),
                "2.5575 to 2.5585 GB",
            ),
            (Unit::Share, exact(0.000_364), "0.0364 %"),
            (Unit::BytesPerSecond, exact(3e11), "300 GB/s"),
            (Unit::Seconds, exact(0.0), "0 s"),
            (
                Unit::Times,
                Interval {
                    low: 3.02,
                    high: 4.71,
                },
                "3.02 to 4.71 times",
            ),
        ] {
            assert_eq!(unit.write(value), expected);
        }
    }

    fn outcome(formula: &Formula, left: f64, right: f64, tolerance: Tolerance) -> Outcome {
        let side = |value| Some(Interval::exact(value));
        formula
            .check("id", side(left), side(right), tolerance)
            .outcome
    }

    #[test]
    fn equal_sides_may_differ_by_the_tolerance() {
        use Outcome::{Fail, Pass};
        assert_eq!(
            outcome(&BUDGET, 1.0, 1.0 + 1e-10, Tolerance::COMPUTED),
            Pass
        );
        assert_eq!(outcome(&BUDGET, 1.0, 1.0 + 1e-8, Tolerance::COMPUTED), Fail);
        assert_eq!(outcome(&BUDGET, 7.0, 7.0, Tolerance::Exact), Pass);
        assert_eq!(outcome(&BUDGET, 7.0, 8.0, Tolerance::Exact), Fail);
        assert_eq!(outcome(&BUDGET, f64::NAN, 1.0, Tolerance::Exact), Fail);
    }

    #[test]
    fn a_specified_figure_may_be_exceeded_by_three_percent() {
        use Outcome::{Fail, Pass};
        assert_eq!(
            outcome(&DECODE_BANDWIDTH, 309e9, 300e9, Tolerance::Specified),
            Pass
        );
        assert_eq!(
            outcome(&DECODE_BANDWIDTH, 310e9, 300e9, Tolerance::Specified),
            Fail
        );
    }

    #[test]
    fn a_missing_side_leaves_it_open() {
        let check = BUDGET.check("id", Some(Interval::exact(1.0)), None, Tolerance::Exact);
        assert_eq!(check.outcome, Outcome::CannotTell);
        assert_eq!(check.sentence, "The wall time is not known.");
        assert_eq!(check.right, None);
    }
}
