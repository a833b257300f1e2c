//! Values from commit to commit, with their levels and where these changed.

use plotters::prelude::*;

use super::{
    BLUE, ChartError, Dot, LEGEND_ROW, QUIET, SHADE, VERMILION, card, dot_radius, heading, legend,
    legend_height, panel, thin_points,
};
use crate::markdown;
use crate::units;

/// One series, in a plot of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Trend {
    pub heading: String,
    pub y_name: String,
    /// Names of the commits, in their order; places below count them from 0.
    pub commits: Vec<String>,
    /// By the place of their commit.
    pub points: Vec<Dot>,
    /// First and last place of a level, and its value.
    pub levels: Vec<(usize, usize, f64)>,
    /// The last place that is on the old level, and the first that is on the new.
    pub changes: Vec<(usize, usize)>,
}

/// Height of a plot with one row of legend.
const PLOT: i32 = 380;

/// More whiskers than these would hide what they belong to.
const MOST_WHISKERS: usize = 300;

/// Plots one below the other, each with its own scale, which does not begin at 0.
pub(crate) fn trends(words: &str, plots: &[Trend]) -> Result<String, ChartError> {
    let entries = [
        (BLUE.into(), "a commit, with its interval".to_owned()),
        (VERMILION.into(), "level".to_owned()),
        (SHADE, "where a change lies".to_owned()),
    ];
    let extra = (legend_height(&entries) - LEGEND_ROW).max(0);
    let height = (PLOT + extra) * plots.len().max(1) as i32;
    card(words, height as u32, |area| {
        let mut below = area.clone();
        for plot in plots {
            let (place, rest) = below.split_vertically(PLOT + extra);
            heading(&place, 0, &markdown::shorten(&plot.heading, 60))?;
            legend(&place, &entries)?;
            draw(&place, extra, plot)?;
            below = rest;
        }
        Ok(())
    })
}

fn draw(area: &super::Area<'_>, extra: i32, plot: &Trend) -> Result<(), ChartError> {
    let points = plot.points.iter().filter(|point| point.y.is_finite());
    let points: Vec<Dot> = points.copied().collect();
    let values = || points.iter().map(|point| point.y);
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    // Noise of a value that hardly moves is not to look like a mountain range.
    let margin = (0.15 * (high - low)).max(0.02 * high.abs()).max(1e-9);
    let y = low - margin..high + margin;
    let decimals = units::decimals_for(y.end - y.start, 2);
    let name = |x: f64| {
        let at = (x >= 0.0 && x.fract() == 0.0).then_some(x as usize);
        let commit = at.and_then(|at| plot.commits.get(at));
        commit.map_or(String::new(), |commit| markdown::visible(commit, false))
    };
    let mut drawn = panel(
        area,
        extra,
        (-0.5..plot.commits.len() as f64 - 0.5, "commit", &name),
        (y.clone(), &plot.y_name, &|y| units::fixed(y, decimals)),
    )?;
    drawn.draw_series(plot.changes.iter().map(|&(after, up_to)| {
        let corners = [(after as f64, y.start), (up_to as f64, y.end)];
        Rectangle::new(corners, SHADE.filled())
    }))?;
    if points.len() <= MOST_WHISKERS {
        let whiskers = points.iter().filter_map(|point| {
            let finite = |it: &(f64, f64)| it.0.is_finite() && it.1.is_finite();
            let (low, high) = point.interval.filter(finite)?;
            let ends = [low, high].map(|end| (point.x, end.clamp(y.start, y.end)));
            Some(PathElement::new(ends, QUIET.stroke_width(2)))
        });
        drawn.draw_series(whiskers)?;
    }
    let shown: Vec<_> = points.iter().map(|it| (it.x, it.y)).collect();
    let dot = dot_radius(shown.len());
    let shown = thin_points(shown).into_iter();
    drawn.draw_series(shown.map(|point| Circle::new(point, dot, BLUE.mix(0.6).filled())))?;
    drawn.draw_series(plot.levels.iter().map(|&(first, last, value)| {
        let ends = [first as f64 - 0.4, last as f64 + 0.4].map(|x| (x, value));
        PathElement::new(ends, VERMILION.stroke_width(3))
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(place: u32, y: f64) -> Dot {
        Dot {
            x: place.into(),
            y,
            interval: Some((f64::NAN, f64::INFINITY)),
        }
    }

    #[test]
    fn degenerate_trends_can_be_drawn_and_foreign_names_stay_text() {
        trends("words", &[]).unwrap();
        let plot = Trend {
            heading: "</text><script>".to_owned(),
            y_name: "ms".to_owned(),
            commits: vec!["</text><script>\n".to_owned(), "b".to_owned()],
            points: vec![dot(0, f64::NAN), dot(1, 3.0)],
            levels: vec![(0, 1, 3.0)],
            changes: vec![(0, 1)],
        };
        let svg = trends("words", &[Trend::default(), plot]).unwrap();
        assert!(!svg.contains("<script"), "{svg}");
    }

    #[test]
    fn a_long_history_stays_small() {
        let points = (0..10_000).map(|at| dot(at, 1e7 + f64::from(at * 7_919 % 1_003)));
        let plot = Trend {
            commits: (0..10_000).map(|at| at.to_string()).collect(),
            points: points.collect(),
            ..Trend::default()
        };
        let size = trends("words", &[plot]).unwrap().len();
        assert!(size < 200_000, "{size} bytes");
    }
}
