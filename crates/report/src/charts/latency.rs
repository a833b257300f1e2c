//! How times were distributed, as the share of them up to each time.

use plotters::prelude::*;

use super::{
    BLUE, ChartError, GREEN, POINT_LIMIT, PURPLE, VERMILION, card, heading, legend, legend_height,
    panel, time_unit,
};
use crate::units;

/// Times of one kind, in nanoseconds, of which there is at least one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Times {
    pub name: &'static str,
    pub ns: Vec<u64>,
    /// Median, 95th and 99th percentile.
    pub quantiles: [f64; 3],
}

/// Height of a panel with one row of legend.
const PANEL: i32 = 420;

/// One panel below the other: the empirical distribution function and its quantiles. Where a few
/// times lie far above the rest the axis ends at [`axis_end`], and they are counted in the chart.
pub(crate) fn latency(kinds: &[Times]) -> Result<String, ChartError> {
    let panels: Vec<_> = kinds.iter().map(Panel::new).collect();
    let heights: Vec<_> = panels.iter().map(|panel| PANEL + panel.extra).collect();
    let height = heights.iter().sum::<i32>().max(PANEL) as u32;
    card("How the times were distributed", height, |area| {
        let mut top = 0;
        for (panel, height) in panels.iter().zip(heights) {
            let (_, below) = area.split_vertically(top);
            let (place, _) = below.split_vertically(height);
            panel.draw(&place)?;
            top += height;
        }
        Ok(())
    })
}

struct Panel<'a> {
    times: &'a Times,
    /// In ascending order.
    sorted: Vec<u64>,
    end_ns: u64,
    scale: f64,
    unit: &'static str,
    entries: Vec<(RGBColor, String)>,
    /// Height of the legend's rows after the first.
    extra: i32,
}

/// Upper end of the axis for times in ascending order: the largest, or as far above the 99th
/// percentile as three quarters of the way there from the smallest, where the largest lies beyond.
fn axis_end(sorted: &[u64]) -> u64 {
    let (Some(&first), Some(&largest)) = (sorted.first(), sorted.last()) else {
        return 1;
    };
    let high = sorted[(sorted.len() - 1) * 99 / 100];
    let reach = (high - first) / 4 * 3;
    largest.min(high.saturating_add(reach)).max(1)
}

const QUANTILES: [(&str, f64, RGBColor); 3] = [
    ("median", 50.0, VERMILION),
    ("p95", 95.0, GREEN),
    ("p99", 99.0, PURPLE),
];

impl<'a> Panel<'a> {
    fn new(times: &'a Times) -> Self {
        let mut sorted = times.ns.clone();
        sorted.sort_unstable();
        let end_ns = axis_end(&sorted);
        let (scale, unit) = time_unit(end_ns);
        let mut entries: Vec<_> = QUANTILES
            .into_iter()
            .zip(times.quantiles)
            .map(|((name, _, colour), ns)| {
                let value = units::significant(ns / scale, 4);
                (colour, format!("{name} {value} {unit}"))
            })
            .collect();
        let beyond = sorted.len() - sorted.partition_point(|&ns| ns <= end_ns);
        if let Some(&largest) = sorted.last().filter(|_| beyond > 0) {
            entries.push((
                BLUE,
                format!(
                    "{} beyond the axis, up to {} {unit}",
                    units::count(beyond as u64),
                    units::significant(largest as f64 / scale, 3)
                ),
            ));
        }
        let extra = legend_height(&entries) - super::LEGEND_ROW;
        Self {
            times,
            sorted,
            end_ns,
            scale,
            unit,
            entries,
            extra,
        }
    }

    fn draw(&self, area: &super::Area<'_>) -> Result<(), ChartError> {
        heading(area, 0, self.times.name)?;
        legend(area, &self.entries)?;
        let first = self.sorted.first().copied().unwrap_or(0) as f64 / self.scale;
        let end = self.end_ns as f64 / self.scale;
        let begin = (first - (end - first) * 0.04).max(0.0);
        let range = begin..(end + (end - first) * 0.04).max(begin + 1e-6);
        let decimals = units::decimals_for(range.end - range.start, 2);
        let x_name = format!("time ({})", self.unit);
        let mut plot = panel(
            area,
            self.extra,
            (range.clone(), &x_name, &move |x| units::fixed(x, decimals)),
            (0.0..100.0, "share up to it (%)", &|y| units::fixed(y, 0)),
        )?;
        plot.draw_series(LineSeries::new(self.steps(&range), BLUE.stroke_width(3)))?;
        for ((_, percent, colour), ns) in QUANTILES.into_iter().zip(self.times.quantiles) {
            let x = ns / self.scale;
            if range.contains(&x) {
                let line = [(x, 0.0), (x, percent)];
                plot.draw_series(DashedLineSeries::new(line, 10, 6, colour.stroke_width(3)))?;
                plot.draw_series([Circle::new((x, percent), 6, colour.filled())])?;
            }
        }
        Ok(())
    }

    /// The distribution function as a staircase within the axis.
    fn steps(&self, range: &std::ops::Range<f64>) -> Vec<(f64, f64)> {
        let count = self.sorted.len();
        let share = |samples: usize| 100.0 * samples as f64 / count as f64;
        // Evenly spaced samples, the last one included.
        let drawn = count.min(POINT_LIMIT / 2);
        let ranks = (1..=drawn).map(|step| step * count / drawn);
        let mut line = vec![(range.start, 0.0)];
        let mut below = 0.0;
        for rank in ranks {
            let x = self.sorted[rank - 1] as f64 / self.scale;
            if x > range.end {
                break;
            }
            line.extend([(x, below), (x, share(rank))]);
            below = share(rank);
        }
        line.push((range.end, below));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_long_times_lie_beyond_the_axis() {
        let mut sorted: Vec<u64> = (1_000..=1_100).collect();
        assert_eq!(axis_end(&sorted), 1_100);
        sorted[100] = 90_000;
        assert_eq!(axis_end(&sorted), 1_171);
        assert_eq!(axis_end(&[7]), 7);
        assert_eq!(axis_end(&[0]), 1);
        assert_eq!(axis_end(&[]), 1);
        let times = Times {
            name: "steps",
            ns: sorted,
            quantiles: [1_050.0, 1_095.0, 1_099.0],
        };
        let svg = latency(&[times]).unwrap();
        assert!(svg.contains("1 beyond the axis, up to 90.0 µs"), "{svg}");
    }

    #[test]
    fn the_curve_climbs_from_0_to_100_percent() {
        let times = Times {
            name: "steps",
            ns: vec![3_000, 1_000, 2_000, 2_000],
            quantiles: [2_000.0; 3],
        };
        let steps = Panel::new(&times).steps(&(0.5..3.5));
        let expected = [
            (0.5, 0.0),
            (1.0, 0.0),
            (1.0, 25.0),
            (2.0, 25.0),
            (2.0, 50.0),
            (2.0, 50.0),
            (2.0, 75.0),
            (3.0, 75.0),
            (3.0, 100.0),
            (3.5, 100.0),
        ];
        assert_eq!(steps, expected);
    }
}
