//! What a printed figure can have been before it was rounded, and arithmetic on that.
//!
//! `15.5` is any value from 15.45 to 15.55; a count is itself. All values are at least 0.

use schemars::JsonSchema;
use serde::Serialize;

/// Ends that differ by less than this share of themselves are one: floating point gives 2.557 +
/// 0.0005 and 2.558 - 0.0005 different last bits.
const SAME: f64 = 1e-12;

/// The values from `low` to `high`.
///
/// Where the two differ, the upper end itself is outside: rounding gives it to the next figure.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// One value.
    pub const fn exact(value: f64) -> Self {
        Self {
            low: value,
            high: value,
        }
    }

    /// Everything that lies at most `by` from `value`, and not below 0.
    pub fn around(value: f64, by: f64) -> Self {
        Self {
            low: (value - by).max(0.0),
            high: value + by,
        }
    }

    /// Both ends further apart, each by this share of itself.
    pub fn widened(self, share: f64) -> Self {
        Self {
            low: self.low * (1.0 - share),
            high: self.high * (1.0 + share),
        }
    }

    /// Both times a factor.
    pub fn times(self, factor: f64) -> Self {
        Self {
            low: self.low * factor,
            high: self.high * factor,
        }
    }

    /// Whether one value can be in both.
    pub fn meets(self, other: Self) -> bool {
        let low = self.low.max(other.low);
        let high = self.high.min(other.high);
        let room = SAME * high.abs();
        if self.is_exact() || other.is_exact() {
            low <= high + room
        } else {
            low < high - room
        }
    }

    /// Whether every value here lies above every value there.
    pub fn exceeds(self, other: Self) -> bool {
        self.low > other.high * (1.0 + SAME)
    }

    fn is_exact(self) -> bool {
        self.high - self.low <= SAME * self.high.abs()
    }
}

impl std::ops::Add for Interval {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            low: self.low + other.low,
            high: self.high + other.high,
        }
    }
}

impl std::ops::Mul for Interval {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self {
            low: self.low * other.low,
            high: self.high * other.high,
        }
    }
}

impl std::ops::Div for Interval {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        Self {
            low: self.low / other.high,
            high: self.high / other.low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values with so many decimals, and whether one number can be printed as both.
    fn check(a: (f64, i32), b: (f64, i32), expected: bool) {
        let interval = |(value, decimals): (f64, i32)| match decimals {
            i32::MAX => Interval::exact(value),
            _ => Interval::around(value, 0.5 * 10_f64.powi(-decimals)),
        };
        let (a, b) = (interval(a), interval(b));
        assert_eq!(
            (a.meets(b), b.meets(a)),
            (expected, expected),
            "{a:?} {b:?}"
        );
    }

    #[test]
    fn figures_agree_where_one_value_prints_as_both() {
        const EXACT: i32 = i32::MAX;
        check((2.558, 3), (2.6, 1), true);
        check((2.557, 3), (2.558, 3), false);
        check((15.5, 1), (15.6, 1), false);
        check((15.5, 1), (15.5, 1), true);
        check((0.58, 2), (34.8 / 60.0, EXACT), true);
        check((0.57, 2), (34.8 / 60.0, EXACT), false);
        check((500.0, EXACT), (500.0, EXACT), true);
        check((500.0, EXACT), (501.0, EXACT), false);
        check((0.0, EXACT), (0.0, EXACT), true);
    }

    #[test]
    fn arithmetic_keeps_every_value_that_can_be() {
        let time = Interval::around(34.8, 0.05);
        let rate = Interval::exact(500.0) / time;
        assert!((rate.low - 14.347).abs() < 1e-3 && (rate.high - 14.388).abs() < 1e-3);
        let stated = Interval::around(15.5, 0.05);
        assert!(stated.exceeds(rate) && !rate.exceeds(stated) && !rate.meets(stated));
        assert_eq!(
            Interval::around(0.2, 0.5),
            Interval {
                low: 0.0,
                high: 0.7
            }
        );
        assert_eq!(
            Interval::exact(2.0) + Interval::exact(3.0),
            Interval::exact(5.0)
        );
        let product = Interval::around(2.0, 1.0) * Interval::exact(3.0);
        assert_eq!(
            product,
            Interval {
                low: 3.0,
                high: 9.0
            }
        );
    }
}
