//! Integers and ratios, written for people.
//!
//! Every function is a pure mapping from a number to text, with the unit in the text or in
//! the name of the function. Memory is in decimal units (1 GB = 10^9 bytes), as MLX counts it.

/// What a cell without a measurement says.
pub const NOT_MEASURED: &str = "not measured";

/// An integer with thousands separators: `1,170,340,608`.
pub fn count(value: u64) -> String {
    group(&value.to_string())
}

/// As in "1 run" and "2 runs".
pub fn counted(value: u64, what: &str) -> String {
    let many = if value == 1 { "" } else { "s" };
    format!("{} {what}{many}", count(value))
}

/// `value` rounded to `digits` significant digits, in plain notation: `15.50`, `1,085`, `0.0364`.
///
/// Integer digits are never dropped, so large values show more digits than asked for.
pub fn significant(value: f64, digits: u32) -> String {
    fixed(value, decimals_for(value, digits))
}

/// `value` with exactly `decimals` digits after the point, and thousands separators before it.
pub fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return NOT_MEASURED.to_owned();
    }
    let text = format!("{value:.decimals$}");
    // A negative value that rounds to nothing is written as zero.
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|byte| matches!(byte, b'0' | b'.')) => ("", rest),
        Some(rest) => ("-", rest),
        None => ("", text.as_str()),
    };
    match magnitude.split_once('.') {
        Some((whole, fraction)) => format!("{sign}{}.{fraction}", group(whole)),
        None => format!("{sign}{}", group(magnitude)),
    }
}

/// A duration in the unit that suits it, to four significant digits: `34.80 s`, `12.34 ms`.
pub fn duration(ns: u64) -> String {
    let (scale, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    format!("{} {unit}", significant(ns as f64 / scale, 4))
}

/// Seconds to the millisecond, without the unit, for a column of seconds.
pub fn seconds(ns: u64) -> String {
    fixed(ns as f64 / 1e9, 3)
}

/// Milliseconds to four significant digits, without the unit, for a column of milliseconds.
pub fn milliseconds(ns: f64) -> String {
    significant(ns / 1e6, 4)
}

/// Mean and standard deviation of nanosecond samples in milliseconds, without the unit.
///
/// Both have the same number of decimals, as many as the deviation needs for two significant
/// digits: a spread is never below the resolution of the mean beside it. The samples are whole
/// nanoseconds, so no more than six decimals are shown.
pub fn mean_and_sd_ms(mean_ns: f64, sd_ns: Option<f64>) -> String {
    let mean = mean_ns / 1e6;
    let Some(sd) = sd_ns.map(|sd| sd / 1e6) else {
        return format!("{} ± {NOT_MEASURED} (one value)", significant(mean, 4));
    };
    let decimals = decimals_for(mean, 4).max(decimals_for(sd, 2)).min(6);
    format!("{} ± {}", fixed(mean, decimals), fixed(sd, decimals))
}

/// As [`significant`], with a plus sign where the value is above 0: `+0.512`, `-1.20`, `0.00`.
pub fn signed(value: f64, digits: u32) -> String {
    with_sign(significant(value, digits), value)
}

/// A change in percent, to three significant digits, with its sign: `+1.25 %`.
pub fn signed_share(change: f64) -> String {
    format!("{} %", signed(100.0 * change, 3))
}

/// A value and the interval around it: `33.92 (33.88 to 33.97)`.
///
/// All three have as many decimals as two significant digits of the interval's half-width need,
/// and no fewer than three significant digits of the value, within six.
pub fn with_interval(value: f64, interval: Option<(f64, f64)>) -> String {
    estimate(value, interval, |_, text| text)
}

/// As [`with_interval`], for what may lie on either side of 0: `+0.51 (+0.48 to +0.55)`.
pub fn signed_with_interval(value: f64, interval: Option<(f64, f64)>) -> String {
    estimate(value, interval, |value, text| with_sign(text, value))
}

fn estimate(
    value: f64,
    interval: Option<(f64, f64)>,
    write: impl Fn(f64, String) -> String,
) -> String {
    let Some((low, high)) = interval else {
        return format!("{} (no interval)", write(value, significant(value, 4)));
    };
    let decimals = decimals_for((high - low) / 2.0, 2)
        .max(decimals_for(value, 3))
        .min(6);
    let [value, low, high] = [value, low, high].map(|x| write(x, fixed(x, decimals)));
    format!("{value} ({low} to {high})")
}

fn with_sign(text: String, value: f64) -> String {
    let is_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.' | b','));
    if value > 0.0 && value.is_finite() && !is_zero {
        format!("+{text}")
    } else {
        text
    }
}

/// A p-value: `0.43`, `0.0071`, `below 0.001`.
pub fn p_value(p: f64) -> String {
    if p < 0.001 {
        "below 0.001".to_owned()
    } else {
        significant(p, 2)
    }
}

/// A setting as its shortest exact decimal, in scientific notation below a thousandth.
pub fn setting(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        format!("{value:e}")
    } else {
        format!("{value}")
    }
}

/// Milliseconds since the Unix epoch as a date and time: `2026-11-22 21:11:05 UTC`.
pub fn utc(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    // Days to a civil date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms",
    // civil_from_days. Years begin in March there, so that a leap day is the last one.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// `part` of `whole` in percent, to three significant digits: `0.0364 %`.
pub fn share(part: f64, whole: f64) -> String {
    if whole <= 0.0 {
        return NOT_MEASURED.to_owned();
    }
    format!("{} %", significant(100.0 * part / whole, 3))
}

/// Bytes in the decimal unit that suits them, to four significant digits: `2.567 GB`.
pub fn bytes(value: u64) -> String {
    let unit = ByteUnit::for_largest(value);
    format!("{} {}", unit.write(value), unit.name)
}

/// A decimal unit of memory, chosen once for a column or an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteUnit {
    /// `B`, `kB`, `MB` or `GB`.
    pub name: &'static str,
    /// Bytes in one of it.
    pub bytes: u64,
}

impl ByteUnit {
    /// The largest unit of which `largest` holds at least one.
    pub fn for_largest(largest: u64) -> Self {
        let (name, bytes) = match largest {
            0..1_000 => ("B", 1),
            1_000..1_000_000 => ("kB", 1_000),
            1_000_000..1_000_000_000 => ("MB", 1_000_000),
            _ => ("GB", 1_000_000_000),
        };
        Self { name, bytes }
    }

    /// `value` in this unit: three decimals, or none for bytes.
    pub fn write(self, value: u64) -> String {
        match self.bytes {
            1 => count(value),
            scale => fixed(value as f64 / scale as f64, 3),
        }
    }
}

/// Decimals that show `value` with `digits` significant digits.
pub fn decimals_for(value: f64, digits: u32) -> usize {
    if value == 0.0 || !value.is_finite() {
        return 0;
    }
    // Scientific notation rounds first, so 9.996 to three digits counts as 10.0.
    let rounded = format!("{value:.*e}", digits.saturating_sub(1) as usize);
    let exponent = rounded
        .rsplit_once('e')
        .and_then(|(_, exponent)| exponent.parse::<i64>().ok())
        .unwrap_or(0);
    (i64::from(digits) - 1 - exponent).max(0) as usize
}

fn group(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_thousands_separators() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (425_984, "425,984"),
            (1_170_340_608, "1,170,340,608"),
        ];
        for (value, expected) in cases {
            assert_eq!(count(value), expected);
        }
    }

    #[test]
    fn significant_digits_survive_rounding_up() {
        let cases = [
            (15.4999, 4, "15.50"),
            (9.996, 3, "10.0"),
            (0.036_398, 3, "0.0364"),
            (1_085.4, 4, "1,085"),
            (44_512.0, 4, "44,512"),
            (0.0, 4, "0"),
            (-1.0, 2, "-1.0"),
            (f64::NAN, 3, "not measured"),
        ];
        for (value, digits, expected) in cases {
            assert_eq!(significant(value, digits), expected, "{value}");
        }
        assert_eq!(fixed(-0.001, 2), "0.00");
    }

    #[test]
    fn durations_pick_their_unit() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_500, "1.500 µs"),
            (12_340_000, "12.34 ms"),
            (34_800_000_000, "34.80 s"),
            (1_234_567_000_000, "1,235 s"),
        ];
        for (ns, expected) in cases {
            assert_eq!(duration(ns), expected);
        }
        assert_eq!(seconds(34_800_400_000), "34.800");
    }

    #[test]
    fn a_spread_is_never_below_the_resolution_of_its_mean() {
        let cases = [
            (64_516_000.0, Some(83_000.0), "64.516 ± 0.083"),
            (64_516_000.0, Some(12_000_000.0), "64.52 ± 12.00"),
            (64_516_000.0, Some(1.3), "64.516000 ± 0.000001"),
            (64_516_000.0, Some(0.0), "64.52 ± 0.00"),
            (64_516_000.0, None, "64.52 ± not measured (one value)"),
        ];
        for (mean, sd, expected) in cases {
            assert_eq!(mean_and_sd_ms(mean, sd), expected);
        }
    }

    #[test]
    fn an_interval_sets_the_decimals() {
        let cases = [
            (
                33.9216,
                Some((33.8811, 33.9702)),
                "33.922 (33.881 to 33.970)",
            ),
            (33.9216, Some((30.1, 37.9)), "33.9 (30.1 to 37.9)"),
            (7.0, Some((7.0, 7.0)), "7.00 (7.00 to 7.00)"),
            (33.9216, None, "33.92 (no interval)"),
            (1e-9, Some((0.0, 2e-9)), "0.000000 (0.000000 to 0.000000)"),
        ];
        for (value, interval, expected) in cases {
            assert_eq!(with_interval(value, interval), expected);
        }
        let cases = [
            (0.51, Some((-0.48, 1.5)), "+0.510 (-0.480 to +1.500)"),
            (
                -4096.0,
                Some((-4200.0, -3900.0)),
                "-4,096 (-4,200 to -3,900)",
            ),
            (0.0, Some((0.0, 0.0)), "0 (0 to 0)"),
        ];
        for (value, interval, expected) in cases {
            assert_eq!(signed_with_interval(value, interval), expected);
        }
        assert_eq!(signed_share(0.0125), "+1.25 %");
        assert_eq!(signed_share(-0.0125), "-1.25 %");
        assert_eq!(signed_share(0.0), "0 %");
        assert_eq!(
            [0.4321, 0.0071, 1e-9].map(p_value),
            ["0.43", "0.0071", "below 0.001"]
        );
    }

    #[test]
    fn memory_is_decimal() {
        let cases = [
            (512, "512 B"),
            (1_500, "1.500 kB"),
            (31_400_000, "31.400 MB"),
            (2_558_000_000, "2.558 GB"),
            (1 << 30, "1.074 GB"),
        ];
        for (value, expected) in cases {
            assert_eq!(bytes(value), expected);
        }
    }

    #[test]
    fn settings_are_exact() {
        let cases = [
            (2e-5, "2e-5"),
            (0.05, "0.05"),
            (2.0, "2"),
            (0.0, "0"),
            (0.999, "0.999"),
        ];
        for (value, expected) in cases {
            assert_eq!(setting(value), expected);
        }
    }

    #[test]
    fn times_are_civil() {
        let cases = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199_999, "2024-02-29 23:59:59 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
        ];
        for (unix_ms, expected) in cases {
            assert_eq!(utc(unix_ms), expected);
        }
    }

    #[test]
    fn shares_are_in_percent() {
        assert_eq!(share(425_984.0, 1_170_340_608.0), "0.0364 %");
        assert_eq!(share(1.0, 0.0), "not measured");
        assert_eq!(share(36.0, 36.0), "100 %");
    }
}
