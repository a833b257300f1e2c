//! Rates with their intervals, one a cell, against a limit.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{
    BLUE, ChartError, GREEN, GRID, INK, PURPLE, QUIET, VERMILION, card, heading, legend, text,
};
use crate::units;

/// Rates of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rates {
    pub name: &'static str,
    pub rates: Vec<Rate>,
}

/// One rate in percent, and the interval that holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    pub percent: f64,
    pub interval: (f64, f64),
}

/// A point with a bar for every rate, one beside the other, and a line at the limit. At most three
/// kinds.
pub(crate) fn rates(
    words: &str,
    kinds: &[Rates],
    (limit, limit_name): (f64, &str),
    y: Range<f64>,
) -> Result<String, ChartError> {
    let count: usize = kinds.iter().map(|kind| kind.rates.len()).sum();
    let x = 0.0..count as f64 + 1.0;
    let colours = [BLUE, GREEN, PURPLE];
    let mut entries: Vec<_> = colours
        .into_iter()
        .zip(kinds)
        .map(|(colour, kind)| (colour, kind.name.to_owned()))
        .collect();
    entries.push((VERMILION, limit_name.to_owned()));
    card(words, 480, |area| {
        heading(area, 0, words)?;
        legend(area, &entries)?;
        let decimals = units::decimals_for(y.end - y.start, 2);
        let mut plot = ChartBuilder::on(area)
            .margin_top(92)
            .margin_left(8)
            .margin_right(36)
            .margin_bottom(8)
            .x_label_area_size(48)
            .y_label_area_size(100)
            .build_cartesian_2d(x.clone(), y)?;
        plot.configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(QUIET)
            .label_style(text(QUIET, HPos::Center))
            .axis_desc_style(text(INK, HPos::Center))
            .x_labels(0)
            .y_labels(6)
            .y_label_formatter(&|y| units::fixed(*y, decimals))
            .x_desc("cells, in the order of the tables")
            .y_desc("% of simulations")
            .draw()?;
        plot.draw_series([PathElement::new(
            [(x.start, limit), (x.end, limit)],
            VERMILION.stroke_width(3),
        )])?;
        let mut place = 0.0;
        for (colour, kind) in colours.into_iter().zip(kinds) {
            for rate in &kind.rates {
                place += 1.0;
                let (low, high) = rate.interval;
                plot.draw_series([PathElement::new(
                    [(place, low), (place, high)],
                    colour.mix(0.5).stroke_width(2),
                )])?;
                plot.draw_series([Circle::new((place, rate.percent), 3, colour.filled())])?;
            }
        }
        Ok(())
    })
}
