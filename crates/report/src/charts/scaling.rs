//! Quantities against the work, as dots with the curves of their cost models.

use std::ops::Range;

use plotters::prelude::*;

use super::{
    BLUE, ChartError, GREEN, LEGEND_ROW, PURPLE, QUIET, VERMILION, card, heading, legend,
    legend_height, panel,
};
use crate::markdown;
use crate::units;

/// One quantity, in a plot of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plot {
    pub heading: String,
    pub x_name: &'static str,
    pub y_name: String,
    pub series: Vec<Series>,
}

/// One program in a plot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    pub name: String,
    pub dots: Vec<Dot>,
    pub curve: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dot {
    pub x: f64,
    pub y: f64,
    pub interval: Option<(f64, f64)>,
}

/// Height of a plot with one row of legend.
const PLOT: i32 = 380;

/// A range of work wider than this factor has an axis of doublings.
const DOUBLINGS: f64 = 8.0;

/// Plots one below the other, each from 0 and over one range of work.
pub(crate) fn scaling(words: &str, plots: &[Plot]) -> Result<String, ChartError> {
    let entries: Vec<Vec<_>> = plots.iter().map(entries).collect();
    let extra = |entries: &Vec<_>| (legend_height(entries) - LEGEND_ROW).max(0);
    let heights: Vec<i32> = entries.iter().map(|it| PLOT + extra(it)).collect();
    let x = work(plots);
    let height = heights.iter().sum::<i32>().max(PLOT) as u32;
    card(words, height, |area| {
        let mut top = 0;
        for ((plot, entries), height) in plots.iter().zip(&entries).zip(&heights) {
            let (_, below) = area.split_vertically(top);
            let (place, _) = below.split_vertically(*height);
            heading(&place, 0, &plot.heading)?;
            legend(&place, entries)?;
            draw(&place, extra(entries), plot, &x)?;
            top += height;
        }
        Ok(())
    })
}

fn colour(series: usize) -> RGBColor {
    let colours = [BLUE, VERMILION, GREEN, PURPLE];
    colours[series % colours.len()]
}

fn entries(plot: &Plot) -> Vec<(RGBColor, String)> {
    let series = plot.series.iter().enumerate();
    series
        .map(|(index, series)| (colour(index), markdown::shorten(&series.name, 24)))
        .collect()
}

/// The axis of the work: its range as drawn, and whether it counts doublings.
struct Work {
    range: Range<f64>,
    doublings: bool,
}

impl Work {
    fn at(&self, x: f64) -> f64 {
        match self.doublings {
            true => x.log2(),
            false => x,
        }
    }
}

fn work(plots: &[Plot]) -> Work {
    let dots = plots
        .iter()
        .flat_map(|it| &it.series)
        .flat_map(|it| &it.dots);
    let xs = dots.map(|dot| dot.x).filter(|x| x.is_finite() && *x > 0.0);
    let (low, high) = xs.fold((f64::INFINITY, 0.0_f64), |(low, high), x| {
        (low.min(x), high.max(x))
    });
    if high <= 0.0 {
        return Work {
            range: 0.0..1.0,
            doublings: false,
        };
    }
    let mut work = Work {
        range: 0.0..1.0,
        doublings: high / low > DOUBLINGS,
    };
    let margin = match work.doublings {
        true => 0.3,
        false => ((high - low) * 0.06).max(high * 1e-3),
    };
    work.range = work.at(low) - margin..work.at(high) + margin;
    work
}

fn draw(area: &super::Area<'_>, extra: i32, plot: &Plot, x: &Work) -> Result<(), ChartError> {
    let series = || plot.series.iter().enumerate();
    let tops = series().flat_map(|(_, series)| {
        let dots = series.dots.iter().map(|dot| dot.y);
        dots.chain(series.curve.iter().map(|point| point.1))
    });
    let top = tops.filter(|y| y.is_finite()).fold(0.0, f64::max);
    let top = if top > 0.0 { 1.15 * top } else { 1.0 };
    let decimals = units::decimals_for(top, 2);
    let label = |at: f64| match x.doublings {
        true if at.fract() == 0.0 => units::fixed(at.exp2(), 0),
        true => String::new(),
        false => units::fixed(at, units::decimals_for(x.range.end - x.range.start, 2)),
    };
    let mut drawn = panel(
        area,
        extra,
        (x.range.clone(), plot.x_name, &label),
        (0.0..top, &plot.y_name, &|y| units::fixed(y, decimals)),
    )?;
    for (index, series) in series() {
        let curve = series.curve.iter().map(|&(at, y)| (x.at(at), y));
        let style = colour(index).mix(0.6).stroke_width(3);
        drawn.draw_series(LineSeries::new(curve, style))?;
        for dot in &series.dots {
            let at = x.at(dot.x);
            if let Some((low, high)) = dot
                .interval
                .filter(|it| it.0.is_finite() && it.1.is_finite())
            {
                let whisker = [(at, low.max(0.0)), (at, high.min(top))];
                drawn.draw_series([PathElement::new(whisker, QUIET.stroke_width(2))])?;
            }
            drawn.draw_series([Circle::new((at, dot.y), 6, colour(index).filled())])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(xs: &[f64], name: &str) -> Plot {
        let dot = |&x: &f64| Dot {
            x,
            y: 2.0 * x,
            interval: Some((x, f64::INFINITY)),
        };
        Plot {
            heading: "A rate".to_owned(),
            x_name: "work",
            y_name: "rate".to_owned(),
            series: vec![Series {
                name: name.to_owned(),
                dots: xs.iter().map(dot).collect(),
                curve: xs.iter().map(|&x| (x, 2.0 * x)).collect(),
            }],
        }
    }

    #[test]
    fn a_wide_range_of_work_is_drawn_in_doublings() {
        let check = |xs: &[f64], doublings: bool, range: Range<f64>| {
            let work = work(&[plot(xs, "a")]);
            assert_eq!(work.doublings, doublings, "{xs:?}");
            assert!(
                (work.range.start - range.start).abs() < 1e-9,
                "{:?}",
                work.range
            );
            assert!(
                (work.range.end - range.end).abs() < 1e-9,
                "{:?}",
                work.range
            );
        };
        check(&[128.0, 8192.0], true, 6.7..13.3);
        check(&[1.0, 2.0], false, 0.94..2.06);
        check(&[], false, 0.0..1.0);
    }

    #[test]
    fn degenerate_plots_can_be_drawn() {
        scaling("words", &[]).unwrap();
        let odd = [f64::NAN, f64::INFINITY, 0.0, -1.0];
        scaling(
            "words",
            &[plot(&[], "a"), plot(&[3.0], "b"), plot(&odd, "c")],
        )
        .unwrap();
    }

    #[test]
    fn foreign_names_cannot_leave_their_element() {
        let svg = scaling("words", &[plot(&[1.0], "</text><script>")]).unwrap();
        assert!(!svg.contains("<script"), "{svg}");
    }
}
