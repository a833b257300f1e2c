//! Power and temperature beside the rate, over one axis of time.

use plotters::prelude::*;

use super::{
    BLUE, ChartError, GREEN, PURPLE, VERMILION, card, heading, legend, legend_height, panel,
    thin_points,
};
use crate::units;

/// Values of one kind over time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Track {
    pub heading: &'static str,
    /// Name and unit of the values.
    pub axis: &'static str,
    pub lines: Vec<TrackLine>,
}

/// A named line of points, in seconds and the unit of its track.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrackLine {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Height of a panel with one row of legend.
const PANEL: i32 = 340;

/// One panel below the other, all from the first to the last second. Axes begin at 0, but for a
/// track whose values would fill less than half of its axis.
pub(crate) fn power(tracks: &[Track]) -> Result<String, ChartError> {
    let colours = [BLUE, VERMILION, GREEN, PURPLE];
    let entries: Vec<Vec<(RGBColor, String)>> = tracks
        .iter()
        .map(|track| {
            let names = track.lines.iter().map(|line| line.name.clone());
            colours.into_iter().cycle().zip(names).collect()
        })
        .collect();
    let extra = |entries: &[(RGBColor, String)]| legend_height(entries) - super::LEGEND_ROW;
    let heights: Vec<i32> = entries.iter().map(|it| PANEL + extra(it)).collect();
    let seconds = || {
        let lines = tracks.iter().flat_map(|track| &track.lines);
        lines.flat_map(|line| line.points.iter().map(|point| point.0))
    };
    let first = seconds().fold(f64::INFINITY, f64::min).min(f64::MAX);
    let last = seconds().fold(first, f64::max);
    let x = first..last.max(first + 1e-3);
    let height = heights.iter().sum::<i32>().max(PANEL) as u32;
    card("Power and temperature beside the rate", height, |area| {
        let mut top = 0;
        for ((track, entries), height) in tracks.iter().zip(&entries).zip(&heights) {
            let (_, below) = area.split_vertically(top);
            let (place, _) = below.split_vertically(*height);
            heading(&place, 0, track.heading)?;
            legend(&place, entries)?;
            let y = range(track);
            let decimals = units::decimals_for(y.end - y.start, 2);
            let time_decimals = units::decimals_for(x.end - x.start, 2);
            let mut plot = panel(
                &place,
                extra(entries),
                (x.clone(), "seconds since the process began", &|x| {
                    units::fixed(x, time_decimals)
                }),
                (y, track.axis, &|y| units::fixed(y, decimals)),
            )?;
            for (line, (colour, _)) in track.lines.iter().zip(entries) {
                let points = thin_points(line.points.clone());
                plot.draw_series(LineSeries::new(points, colour.stroke_width(3)))?;
            }
            top += height;
        }
        Ok(())
    })
}

fn range(track: &Track) -> std::ops::Range<f64> {
    let values = || {
        let lines = track.lines.iter();
        lines.flat_map(|line| line.points.iter().map(|point| point.1))
    };
    let smallest = values().fold(f64::INFINITY, f64::min).min(f64::MAX);
    let largest = values().fold(0.0, f64::max);
    if smallest > largest {
        // Without a value.
        return 0.0..1.0;
    }
    let margin = ((largest - smallest) * 0.08)
        .max(largest.abs() * 0.02)
        .max(1e-6);
    match smallest <= largest / 2.0 {
        true => 0.0_f64.min(smallest)..largest + margin,
        false => smallest - margin..largest + margin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(points: &[(f64, f64)]) -> Track {
        Track {
            heading: "Power",
            axis: "W",
            lines: vec![TrackLine {
                name: "gpu</text><script>".to_owned(),
                points: points.to_vec(),
            }],
        }
    }

    #[test]
    fn an_axis_begins_at_0_where_that_wastes_less_than_half() {
        let ends = |points: &[(f64, f64)]| {
            let range = range(&track(points));
            (range.start, range.end)
        };
        assert_eq!(ends(&[(0.0, 10.0), (1.0, 50.0)]), (0.0, 53.2));
        assert_eq!(ends(&[(0.0, 40.0), (1.0, 50.0)]), (39.0, 51.0));
        assert_eq!(ends(&[]), (0.0, 1.0));
    }

    #[test]
    fn degenerate_tracks_can_be_drawn_and_names_cannot_leave_their_element() {
        power(&[]).unwrap();
        power(&[track(&[])]).unwrap();
        let svg = power(&[track(&[(2.0, 5.0)]), track(&[(0.0, 0.0), (9.0, 1.0)])]).unwrap();
        assert!(!svg.contains("<script"), "{svg}");
    }
}
