//! Quantities of several columns: bars in groups, and rates over the iterations.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{
    BLUE, Bar, ChartError, GREEN, INK, LEGEND_ROW, MARGIN, ORANGE, PURPLE, VERMILION, axes,
    bars_below_labels, card, heading, label, legend, legend_height, thin_points,
};
use crate::markdown;

/// Columns that a chart shows: as many as it has colours.
pub(crate) const MOST_COLUMNS: usize = COLOURS.len();

const COLOURS: [RGBColor; 6] = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, INK];

/// Bars of one quantity, each of a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BarGroup {
    pub heading: String,
    /// One a column; `None` where it was not measured.
    pub bars: Vec<Option<Bar>>,
}

const HEAD: i32 = 52;
const BAR: i32 = 70;
const SPACE: i32 = 12;

/// Groups one below the other, each from 0 and with its own scale.
pub(crate) fn bar_groups(words: &str, groups: &[BarGroup]) -> Result<String, ChartError> {
    let height = |group: &BarGroup| HEAD + BAR * group.bars.len() as i32 + SPACE;
    let total: i32 = groups.iter().map(height).sum();
    card(words, total.max(HEAD) as u32, |area| {
        let mut top = 0;
        for group in groups {
            heading(area, top, &group.heading)?;
            let bars: Vec<Bar> = group.bars.iter().flatten().cloned().collect();
            let measured = group
                .bars
                .iter()
                .zip(COLOURS)
                .filter(|(bar, _)| bar.is_some());
            let colours: Vec<RGBColor> = measured.map(|(_, colour)| colour).collect();
            bars_below_labels(area, top + HEAD, &bars, &colours)?;
            if bars.is_empty() {
                area.draw(&label(
                    "not measured",
                    (MARGIN, top + HEAD + 14),
                    INK,
                    HPos::Left,
                ))?;
            }
            top += height(group);
        }
        Ok(())
    })
}

/// Something of one column, by iteration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Curve {
    pub name: String,
    pub points: Vec<(u32, f64)>,
}

/// Curves over one another, from 0.
pub(crate) fn overlay(words: &str, y_name: &str, curves: &[Curve]) -> Result<String, ChartError> {
    let entries = curves.iter().zip(COLOURS);
    let entries: Vec<(RGBColor, String)> = entries
        .map(|(curve, colour)| (colour, markdown::shorten(&curve.name, 30)))
        .collect();
    let extra = (legend_height(&entries) - LEGEND_ROW).max(0);
    let all: Vec<(u32, f64)> = curves
        .iter()
        .flat_map(|curve| curve.points.clone())
        .collect();
    let top = all
        .iter()
        .map(|point| point.1)
        .filter(|y| y.is_finite())
        .fold(0.0, f64::max);
    let top = if top > 0.0 { 1.1 * top } else { 1.0 };
    card(words, (480 + extra) as u32, |area| {
        heading(area, 0, words)?;
        legend(area, &entries)?;
        let mut plot = axes(area, extra, super::iterations(&all), 0.0..top, y_name)?;
        for (curve, colour) in curves.iter().zip(COLOURS) {
            let points = curve.points.iter().map(|&(x, y)| (f64::from(x), y));
            let points = points.filter(|(_, y)| y.is_finite()).collect();
            plot.draw_series(LineSeries::new(
                thin_points(points),
                colour.mix(0.8).stroke_width(2),
            ))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degenerate_charts_can_be_drawn_and_foreign_names_stay_text() {
        let bar = |value, interval| {
            Some(Bar {
                label: "</text><script>".to_owned(),
                value,
                interval,
                text: "1".to_owned(),
            })
        };
        let group = |bars| BarGroup {
            heading: "<script>".to_owned(),
            bars,
        };
        let groups = [
            group(vec![]),
            group(vec![None, bar(0.0, None)]),
            group(vec![
                bar(2.0, Some((f64::NAN, 1.0))),
                bar(1.0, Some((0.5, f64::INFINITY))),
            ]),
        ];
        let svg = bar_groups("words", &groups).unwrap();
        assert!(!svg.contains("<script"), "{svg}");
        overlay("words", "rate", &[]).unwrap();
        let curve = Curve {
            name: "</text><script>".to_owned(),
            points: vec![(1, f64::NAN), (2, 0.0), (3, f64::INFINITY)],
        };
        let svg = overlay("words", "rate", &[curve]).unwrap();
        assert!(!svg.contains("<script"), "{svg}");
    }
}
