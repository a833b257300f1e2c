//! Changes as dots on a line, with whiskers for their intervals.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{
    BLUE, CHARACTER, ChartError, GREEN, GRID, INK, MARGIN, PURPLE, QUIET, VERMILION, WIDTH, card,
    heading, label, legend, legend_height,
};
use crate::units;

/// A labelled part of the chart, with one line for each series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Strip {
    pub label: String,
    /// What stands at the right end of the label's line.
    pub text: String,
    pub lines: Vec<Line>,
}

/// Changes of one series, as ratios less 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// The number that its series has among the names.
    pub series: usize,
    pub dots: Vec<f64>,
    pub whisker: Option<(f64, f64)>,
}

/// Height of a strip's label, of one of its lines, and of the space below.
const LABEL: i32 = 32;
const LINE: i32 = 28;
const SPACE: i32 = 12;
/// Height of the axis and its numbers.
const AXIS: i32 = 52;

/// Strips one below the other, over one axis in percent that reaches as far to either side of no
/// change. `band` is shaded to both sides of no change. What lies beyond the axis is drawn as a
/// triangle at its end.
pub(crate) fn strips(
    words: &str,
    series: &[(usize, String)],
    strips: &[Strip],
    band: Option<f64>,
) -> Result<String, ChartError> {
    let colours = [BLUE, VERMILION, GREEN, PURPLE];
    let colour = |series: usize| colours[series % colours.len()];
    let entries: Vec<_> = series
        .iter()
        .map(|(number, name)| (colour(*number), name.clone()))
        .collect();
    let top = 56
        + if entries.is_empty() {
            0
        } else {
            legend_height(&entries) + 8
        };
    let height_of = |strip: &Strip| LABEL + LINE * strip.lines.len() as i32 + SPACE;
    let bottom = top + strips.iter().map(height_of).sum::<i32>();
    let end = axis_end(strips, band.unwrap_or(0.0));
    let (left, right) = (MARGIN + 30, WIDTH as i32 - MARGIN - 30);
    let middle = (left + right) / 2;
    let at = |change: f64| {
        let share = (change / end).clamp(-1.0, 1.0);
        middle + (share * f64::from(right - middle)).round() as i32
    };
    card(words, (bottom + AXIS) as u32, |area| {
        heading(area, 0, words)?;
        legend(area, &entries)?;
        if let Some(band) = band {
            area.draw(&Rectangle::new(
                [(at(-band), top), (at(band), bottom)],
                GRID.filled(),
            ))?;
        }
        area.draw(&PathElement::new(
            [(middle, top), (middle, bottom)],
            QUIET.stroke_width(2),
        ))?;
        let mut y = top;
        for strip in strips {
            area.draw(&label(
                &strip.label,
                (MARGIN, y + LABEL / 2),
                INK,
                HPos::Left,
            ))?;
            let far = WIDTH as i32 - MARGIN;
            area.draw(&label(&strip.text, (far, y + LABEL / 2), INK, HPos::Right))?;
            y += LABEL;
            for line in &strip.lines {
                let (colour, level) = (colour(line.series), y + LINE / 2);
                if let Some((low, high)) = line.whisker {
                    area.draw(&PathElement::new(
                        [(at(low), level), (at(high), level)],
                        colour.stroke_width(3),
                    ))?;
                    for bound in [low, high] {
                        let x = at(bound);
                        if bound.abs() > end {
                            area.draw(&beyond(x, level, bound, colour))?;
                        } else {
                            area.draw(&PathElement::new(
                                [(x, level - 7), (x, level + 7)],
                                colour.stroke_width(3),
                            ))?;
                        }
                    }
                }
                for &dot in &line.dots {
                    if dot.abs() > end {
                        area.draw(&beyond(at(dot), level, dot, colour))?;
                    } else {
                        area.draw(&Circle::new((at(dot), level), 6, colour.mix(0.75).filled()))?;
                    }
                }
                y += LINE;
            }
            y += SPACE;
        }
        area.draw(&PathElement::new(
            [(left, bottom), (right, bottom)],
            QUIET.stroke_width(1),
        ))?;
        let step = tick(end);
        let count = (end / step * (1.0 + 1e-9)).floor() as i32;
        for index in -count..=count {
            let change = f64::from(index) * step;
            let x = at(change);
            area.draw(&PathElement::new(
                [(x, bottom), (x, bottom + 6)],
                QUIET.stroke_width(1),
            ))?;
            let words = percent(change, step);
            area.draw(&label(&words, (x, bottom + 24), QUIET, HPos::Center))?;
        }
        Ok(())
    })
}

/// A triangle at the end of the axis, pointing to where the value lies.
fn beyond(x: i32, y: i32, value: f64, colour: RGBColor) -> Polygon<(i32, i32)> {
    let tip = if value < 0.0 { x - 12 } else { x + 12 };
    Polygon::new([(x, y - 9), (x, y + 9), (tip, y)], colour.filled())
}

/// Far enough for every dot and for the band twice, and for the whiskers unless they are much
/// wider than that.
fn axis_end(strips: &[Strip], band: f64) -> f64 {
    let finite = |values: &mut dyn Iterator<Item = f64>| {
        values
            .map(f64::abs)
            .filter(|value| value.is_finite())
            .fold(0.0, f64::max)
    };
    let lines = || strips.iter().flat_map(|strip| &strip.lines);
    let dots = finite(&mut lines().flat_map(|line| line.dots.iter().copied()));
    let whiskers = lines().filter_map(|line| line.whisker);
    let whiskers = finite(&mut whiskers.flat_map(|(low, high)| [low, high]));
    let near = dots.max(2.0 * band);
    (whiskers.min(4.0 * near)).max(near).max(1e-6) * 1.08
}

/// Distance of the axis' numbers: the smallest of 1, 2 and 5 times a power of ten that leaves
/// each of them room.
fn tick(end: f64) -> f64 {
    let power = 10.0_f64.powf((end / 3.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let room = |step: &f64| {
        let widest = percent(-end, *step).chars().count() as f64 * CHARACTER;
        step / end * f64::from(WIDTH / 2 - 50) >= widest + 16.0
    };
    steps.into_iter().find(room).unwrap_or(end)
}

fn percent(change: f64, step: f64) -> String {
    let decimals = units::decimals_for(100.0 * step, 1);
    format!("{} %", units::fixed(100.0 * change, decimals))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(dots: &[f64], whisker: Option<(f64, f64)>) -> Strip {
        Strip {
            label: "step time".to_owned(),
            text: String::new(),
            lines: vec![Line {
                series: 0,
                dots: dots.to_vec(),
                whisker,
            }],
        }
    }

    #[test]
    fn the_axis_holds_every_dot_but_not_the_widest_whisker() {
        let check = |dots: &[f64], whisker, band, expected: f64| {
            let end = axis_end(&[strip(dots, whisker)], band) / 1.08;
            assert!((end - expected).abs() < 1e-9, "{end} instead of {expected}");
        };
        check(&[0.01], None, 0.02, 0.04);
        check(&[0.5, -0.7], None, 0.02, 0.7);
        check(&[0.01], Some((-0.05, 0.07)), 0.02, 0.07);
        check(&[0.01], Some((-1.0, 1e9)), 0.02, 0.16);
        check(&[], None, 0.0, 1e-6);
        check(&[f64::INFINITY], Some((0.0, f64::NAN)), 0.02, 0.04);
    }

    #[test]
    fn ticks_are_round_and_have_room() {
        for (end, expected) in [(0.04, 0.01), (0.1, 0.05), (1.0, 0.5), (0.0004, 0.0002)] {
            let step = tick(end);
            assert!((step / expected - 1.0).abs() < 1e-9, "{end}: {step}");
        }
    }

    #[test]
    fn degenerate_strips_can_be_drawn() {
        strips("words", &[], &[], None).unwrap();
        let odd = strip(
            &[f64::NAN, f64::INFINITY],
            Some((f64::NEG_INFINITY, f64::INFINITY)),
        );
        strips("words", &[(5, "a".to_owned())], &[odd], Some(0.02)).unwrap();
    }

    #[test]
    fn foreign_names_cannot_leave_their_element() {
        let series = [(0, "</text><script>".to_owned())];
        let svg = strips("words", &series, &[strip(&[0.0], None)], None).unwrap();
        assert!(!svg.contains("<script"), "{svg}");
    }
}
