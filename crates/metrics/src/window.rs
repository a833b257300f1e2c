//! Ranges of iterations that are reported together.
//!
//! Windows are written as in `1-100,100-300,300-500`. They ascend, may leave gaps, and may
//! share a boundary, which then counts in the earlier window only. The peak memory is reset
//! where a window begins.

use std::fmt;
use std::ops::RangeInclusive;

use thiserror::Error;

use crate::record::WindowSpec;

/// Below this number of iterations a run has a single window by default: thirds of so few
/// samples would say nothing.
const FEWEST_TO_DIVIDE: u32 = 20;

/// Parses comma-separated windows. Only the notation is checked here, see [`validate`].
pub fn parse(text: &str) -> Result<Vec<WindowSpec>, WindowError> {
    text.split(',').map(|part| parse_one(part.trim())).collect()
}

/// Writes windows in the notation [`parse`] reads.
pub fn format(windows: &[WindowSpec]) -> String {
    let parts: Vec<String> = windows.iter().map(WindowSpec::to_string).collect();
    parts.join(",")
}

/// Checks windows against each other and against the number of iterations of the run.
pub fn validate(windows: &[WindowSpec], iterations: u32) -> Result<(), WindowError> {
    for (index, &window) in windows.iter().enumerate() {
        if window.first == 0 {
            return Err(WindowError::Zero { window });
        }
        if window.last < window.first {
            return Err(WindowError::Reversed { window });
        }
        if let Some(&earlier) = index.checked_sub(1).and_then(|i| windows.get(i))
            && (window.first < earlier.last || window.last <= earlier.last)
        {
            return Err(WindowError::Overlap { window, earlier });
        }
        if window.last > iterations {
            return Err(WindowError::PastEnd { window, iterations });
        }
    }
    Ok(())
}

/// The windows of a run that names none: the first fifth of its iterations, the next two fifths
/// and the last two, which for 500 iterations gives `1-100,100-300,300-500`. A short run is one
/// window.
pub fn default_windows(iterations: u32) -> Vec<WindowSpec> {
    let window = |first, last| WindowSpec { first, last };
    match iterations {
        0 => Vec::new(),
        1..FEWEST_TO_DIVIDE => vec![window(1, iterations)],
        _ => {
            let fifth = iterations / 5;
            vec![
                window(1, fifth),
                window(fifth, 3 * fifth),
                window(3 * fifth, iterations),
            ]
        }
    }
}

/// The iterations that count in window number `index`, counted from 0: its own, less those that
/// an earlier window holds already.
///
/// # Panics
///
/// Where there is no such window.
pub fn members(windows: &[WindowSpec], index: usize) -> RangeInclusive<u32> {
    let window = windows[index];
    let earlier = windows[..index].iter().map(|earlier| earlier.last).max();
    let first = match earlier {
        Some(last) => window.first.max(last.saturating_add(1)),
        None => window.first,
    };
    first..=window.last
}

/// Whether `iteration` is the first that counts in a window.
pub fn begins_window(windows: &[WindowSpec], iteration: u32) -> bool {
    (0..windows.len()).any(|index| {
        let members = members(windows, index);
        *members.start() == iteration && !members.is_empty()
    })
}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Why windows were refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WindowError {
    #[error("`{text}` is not a window; write windows as in 1-100,100-300")]
    Notation { text: String },
    #[error("window {window} begins at iteration 0; iterations are counted from 1")]
    Zero { window: WindowSpec },
    #[error("window {window} ends before it begins; write it as {}-{}", window.last, window.first)]
    Reversed { window: WindowSpec },
    #[error(
        "window {window} overlaps {earlier} before it; windows ascend and share at most a \
         boundary, so begin at {} or later and end after it", earlier.last
    )]
    Overlap {
        window: WindowSpec,
        earlier: WindowSpec,
    },
    #[error(
        "window {window} ends past the last iteration, which is {iterations}; end it at \
         {iterations} or earlier, or run at least {} iterations", window.last
    )]
    PastEnd { window: WindowSpec, iterations: u32 },
}

fn parse_one(text: &str) -> Result<WindowSpec, WindowError> {
    let number = |digits: &str| {
        // `u32::from_str` would take a plus sign.
        let digits = digits.trim();
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    text.split_once('-')
        .and_then(|(first, last)| {
            Some(WindowSpec {
                first: number(first)?,
                last: number(last)?,
            })
        })
        .ok_or_else(|| WindowError::Notation {
            text: text.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows for a run of 500 iterations: how they are written back, or the error.
    fn check(text: &str, expected: Result<&str, &str>) {
        let actual = parse(text)
            .and_then(|windows| validate(&windows, 500).map(|()| format(&windows)))
            .map_err(|error| error.to_string());
        let actual = actual.as_deref().map_err(String::as_str);
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn windows_are_written_back_as_they_were_read() {
        check("1-100,100-300,300-500", Ok("1-100,100-300,300-500"));
        check(" 1 - 100 , 200-300 ", Ok("1-100,200-300"));
        check("7-7", Ok("7-7"));
        check("1-100,101-101", Ok("1-100,101-101"));
    }

    #[test]
    fn other_notations_are_errors() {
        for text in [
            "",
            "5",
            "1-",
            "-1-5",
            "1-+5",
            "1..5",
            "1-2-3",
            "a-b",
            "1-4294967296",
        ] {
            let message = format!("`{text}` is not a window; write windows as in 1-100,100-300");
            check(text, Err(&message));
        }
        check(
            "1-100,,200-300",
            Err("`` is not a window; write windows as in 1-100,100-300"),
        );
    }

    #[test]
    fn impossible_windows_are_errors_that_say_what_to_write() {
        check(
            "0-100",
            Err("window 0-100 begins at iteration 0; iterations are counted from 1"),
        );
        check(
            "100-1",
            Err("window 100-1 ends before it begins; write it as 1-100"),
        );
        check(
            "1-501",
            Err(
                "window 1-501 ends past the last iteration, which is 500; end it at 500 or \
                 earlier, or run at least 501 iterations",
            ),
        );
    }

    #[test]
    fn windows_share_at_most_a_boundary() {
        let overlap = |window: &str, earlier: &str, last: u32| {
            format!(
                "window {window} overlaps {earlier} before it; windows ascend and share at most \
                 a boundary, so begin at {last} or later and end after it"
            )
        };
        check("1-100,99-300", Err(&overlap("99-300", "1-100", 100)));
        check("1-100,100-100", Err(&overlap("100-100", "1-100", 100)));
        check("1-100,1-100", Err(&overlap("1-100", "1-100", 100)));
        check("200-300,1-100", Err(&overlap("1-100", "200-300", 300)));
    }

    #[test]
    fn a_shared_boundary_counts_in_the_earlier_window() {
        let windows = parse("1-100,100-300,350-500").unwrap();
        let members: Vec<_> = (0..3).map(|index| members(&windows, index)).collect();
        assert_eq!(members, [1..=100, 101..=300, 350..=500]);

        let begins: Vec<u32> = (0..=501).filter(|&n| begins_window(&windows, n)).collect();
        assert_eq!(begins, [1, 101, 350]);
    }

    #[test]
    fn a_window_without_iterations_of_its_own_does_not_begin() {
        let windows = parse("1-100,100-100").unwrap();
        assert!(members(&windows, 1).is_empty());
        assert!(!begins_window(&windows, 101));
    }

    #[test]
    fn default_windows_scale_with_the_run() {
        for (iterations, expected) in [
            (500, "1-100,100-300,300-500"),
            (1000, "1-200,200-600,600-1000"),
            (33, "1-6,6-18,18-33"),
            (20, "1-4,4-12,12-20"),
            (19, "1-19"),
            (1, "1-1"),
        ] {
            assert_eq!(format(&default_windows(iterations)), expected);
        }
        assert_eq!(default_windows(0), []);
    }

    #[test]
    fn default_windows_are_valid_and_hold_every_iteration_once() {
        for iterations in (1..=600).chain([u32::MAX]) {
            let windows = default_windows(iterations);
            assert_eq!(validate(&windows, iterations), Ok(()));
            let counted: u32 = (0..windows.len())
                .map(|index| {
                    let members = members(&windows, index);
                    members.end() - members.start() + 1
                })
                .sum();
            assert_eq!(counted, iterations);
        }
    }
}
