//! Charts as SVG text, from plain numbers.
//!
//! Every chart carries its own card, so it reads on a page of any colour; where the reader's
//! system asks for a dark scheme, card, text and series change together. Text is large enough to
//! read when a chart is drawn at half its width. The series have colours of Okabe and Ito, which
//! stay apart under the common kinds of colour blindness. The same numbers give the same bytes.

use std::fmt::Write as _;
use std::ops::Range;

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::markdown;
use crate::units::{self, ByteUnit};

const WIDTH: u32 = 800;
/// Space left free around a card's contents.
const MARGIN: i32 = 20;
/// Points that one series draws at most; more are thinned to the extremes of equal buckets.
pub(crate) const POINT_LIMIT: usize = 1_500;

// Sizes in the unit of plotters, which divides by 1.24 on the way to SVG.
const TEXT: f64 = 21.0 * 1.24;
const HEADING: f64 = 24.0 * 1.24;
/// Estimated width of a character of text, in pixels: no font is at hand to measure with.
const CHARACTER: f64 = 11.0;

const CARD: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
const EDGE: RGBColor = RGBColor(0xD0, 0xD7, 0xDE);
const GRID: RGBColor = RGBColor(0xE4, 0xE8, 0xEC);
const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
const QUIET: RGBColor = RGBColor(0x57, 0x60, 0x6A);
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
const VERMILION: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
const GREEN: RGBColor = RGBColor(0x00, 0x9E, 0x73);
const PURPLE: RGBColor = RGBColor(0xCC, 0x79, 0xA7);

/// What a colour becomes under a dark scheme; those not listed read on both.
const DARK: [(RGBColor, RGBColor); 7] = [
    (CARD, RGBColor(0x0D, 0x11, 0x17)),
    (EDGE, RGBColor(0x3D, 0x44, 0x4D)),
    (GRID, RGBColor(0x2A, 0x31, 0x3C)),
    (INK, RGBColor(0xF0, 0xF6, 0xFC)),
    (QUIET, RGBColor(0xA9, 0xB4, 0xC0)),
    (BLUE, RGBColor(0x56, 0xB4, 0xE9)),
    (VERMILION, RGBColor(0xF0, 0x8A, 0x3C)),
];

/// Why a chart could not be drawn.
pub(crate) type ChartError = DrawingAreaErrorKind<std::io::Error>;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A range of iterations that is summarized together, with the median of what the chart shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub first: u32,
    pub last: u32,
    pub median_ns: f64,
}

/// One line of a chart over iterations.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    pub name: String,
    /// Iteration and bytes, in order of iteration.
    pub points: Vec<(u32, u64)>,
}

/// One bar with its label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    pub label: String,
    pub value: f64,
    /// What stands at the end of the bar.
    pub text: String,
}

/// Step time of every iteration as a point, with the bounds and the median of every span.
///
/// `samples` are iterations with nanoseconds. The axis begins at 0. Where a few samples lie far
/// above the rest it ends at [`axis_end`], and those beyond it are drawn as triangles at the
/// upper edge and counted in the chart.
pub(crate) fn step_time(samples: &[(u32, u64)], spans: &[Span]) -> Result<String, ChartError> {
    let end_ns = axis_end(samples);
    let (scale, unit) = match end_ns {
        0..1_000_000 => (1e3, "µs"),
        1_000_000..2_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let top = end_ns as f64 / scale;
    let dot = dot_radius(samples.len());
    let (shown, above): (Vec<_>, Vec<_>) = samples.iter().partition(|sample| sample.1 <= end_ns);
    let mut entries = vec![(BLUE, "an iteration".to_owned())];
    if !spans.is_empty() {
        entries.push((VERMILION, "window median".to_owned()));
    }
    if let Some(largest) = above.iter().map(|sample: &(u32, u64)| sample.1).max() {
        entries.push((
            PURPLE,
            format!(
                "{} above the axis, up to {} {unit}",
                units::count(above.len() as u64),
                units::significant(largest as f64 / scale, 3)
            ),
        ));
    }
    card("Step time of every training iteration", 480, |area| {
        heading(area, 0, "Step time by iteration")?;
        legend(area, &entries)?;
        let mut plot = axes(
            area,
            iterations(samples),
            0.0..top,
            &format!("step time ({unit})"),
        )?;
        for pair in spans.windows(2) {
            // A bound lies half way between two windows.
            let x = f64::from(pair[0].last) + 0.5;
            plot.draw_series([PathElement::new(
                [(x, 0.0), (x, top)],
                QUIET.stroke_width(2),
            )])?;
        }
        plot.draw_series(thin(&shown).into_iter().map(|(iteration, ns)| {
            Circle::new((iteration, ns / scale), dot, BLUE.mix(0.6).filled())
        }))?;
        plot.draw_series(
            thin(&above)
                .into_iter()
                .map(|(iteration, _)| TriangleMarker::new((iteration, top), 9, PURPLE.filled())),
        )?;
        plot.draw_series(spans.iter().map(|span| {
            let median = span.median_ns / scale;
            let (left, right) = (f64::from(span.first) - 0.5, f64::from(span.last) + 0.5);
            PathElement::new([(left, median), (right, median)], VERMILION.stroke_width(3))
        }))?;
        Ok(())
    })
}

/// Memory after every iteration, one line a series. The axis begins at 0.
///
/// At most four series.
pub(crate) fn memory(series: &[Series]) -> Result<String, ChartError> {
    let values = || series.iter().flat_map(|series| &series.points);
    let largest = values().map(|point| point.1).max().unwrap_or(0);
    let unit = ByteUnit::for_largest(largest);
    let scale = unit.bytes as f64;
    let colours = [BLUE, GREEN, VERMILION, PURPLE];
    let entries: Vec<_> = colours
        .into_iter()
        .zip(series)
        .map(|(colour, series)| (colour, series.name.clone()))
        .collect();
    card("Memory after every training iteration", 480, |area| {
        heading(area, 0, "Memory by iteration")?;
        legend(area, &entries)?;
        let points: Vec<_> = values().copied().collect();
        let top = (largest as f64 / scale * 1.08).max(1.0);
        let mut plot = axes(
            area,
            iterations(&points),
            0.0..top,
            &format!("memory ({})", unit.name),
        )?;
        for (colour, series) in colours.into_iter().zip(series) {
            let line = thin(&series.points)
                .into_iter()
                .map(|(x, bytes)| (x, bytes / scale));
            plot.draw_series(LineSeries::new(line, colour.stroke_width(3)))?;
        }
        Ok(())
    })
}

/// Training loss of every iteration whose loss was finite.
///
/// The axis begins at 0, or near the smallest loss where the losses would else fill less than
/// half of it; the chart says so.
pub(crate) fn loss(losses: &[(u32, f32)]) -> Result<String, ChartError> {
    let values = || losses.iter().map(|loss| f64::from(loss.1));
    let smallest = values().fold(f64::INFINITY, f64::min).min(f64::MAX);
    let largest = values().fold(0.0, f64::max);
    let from_zero = (0.0..=largest / 2.0).contains(&smallest);
    let margin = ((largest - smallest) * 0.08)
        .max(largest.abs() * 0.002)
        .max(1e-6);
    let bottom = if from_zero { 0.0 } else { smallest - margin };
    let words = if from_zero {
        "Training loss by iteration"
    } else {
        "Training loss by iteration (the axis does not begin at 0)"
    };
    card("Training loss of every iteration", 480, |area| {
        heading(area, 0, words)?;
        legend(area, &[(BLUE, "an iteration".to_owned())])?;
        let range = bottom..largest + margin;
        let mut plot = axes(area, iterations(losses), range, "loss (nats a token)")?;
        let points = thin(losses);
        let dot = dot_radius(losses.len());
        plot.draw_series(LineSeries::new(
            points.iter().copied(),
            BLUE.mix(0.35).stroke_width(2),
        ))?;
        plot.draw_series(
            points
                .into_iter()
                .map(|point| Circle::new(point, dot, BLUE.filled())),
        )?;
        Ok(())
    })
}

/// Rates by prompt: one panel of bars for reading the prompt, one for generating, each with its
/// own scale, in tokens per second.
pub(crate) fn generation(prompt_rates: &[Bar], rates: &[Bar]) -> Result<String, ChartError> {
    let panel_height = |bars: &[Bar]| 64 + 70 * bars.len() as u32;
    let split = panel_height(prompt_rates);
    card(
        "Tokens per second by prompt",
        split + panel_height(rates) + 8,
        |area| {
            heading(area, 0, "Prompt rate, up to the first token (tokens/s)")?;
            bars_below_labels(area, 52, prompt_rates, BLUE)?;
            heading(
                area,
                split as i32,
                "Generation rate, after the first token (tokens/s)",
            )?;
            bars_below_labels(area, split as i32 + 52, rates, GREEN)
        },
    )
}

/// Where the wall time went: one bar a part, in seconds.
pub(crate) fn time_budget(parts: &[Bar]) -> Result<String, ChartError> {
    const LABELS: i32 = 150;
    const ROW: i32 = 40;
    card(
        "Where the wall time went",
        72 + ROW as u32 * parts.len() as u32,
        |area| {
            heading(area, 0, "Time by part (seconds, share of the wall time)")?;
            for (row, bar, length) in scaled(parts, LABELS + 12) {
                let middle = 60 + ROW * row + ROW / 2;
                let left = LABELS + 12;
                area.draw(&label(&bar.label, (LABELS, middle), INK, HPos::Right))?;
                area.draw(&Rectangle::new(
                    [(left, middle - 13), (left + length, middle + 13)],
                    BLUE.filled(),
                ))?;
                area.draw(&label(
                    &bar.text,
                    (left + length + 10, middle),
                    INK,
                    HPos::Left,
                ))?;
            }
            Ok(())
        },
    )
}

fn bars_below_labels(
    area: &Area<'_>,
    top: i32,
    bars: &[Bar],
    colour: RGBColor,
) -> Result<(), ChartError> {
    for (row, bar, length) in scaled(bars, MARGIN) {
        let y = top + 70 * row;
        area.draw(&label(&bar.label, (MARGIN, y + 14), INK, HPos::Left))?;
        area.draw(&Rectangle::new(
            [(MARGIN, y + 29), (MARGIN + length, y + 55)],
            colour.filled(),
        ))?;
        area.draw(&label(
            &bar.text,
            (MARGIN + length + 10, y + 42),
            INK,
            HPos::Left,
        ))?;
    }
    Ok(())
}

/// Every bar with its row and its length in pixels, the text behind the longest one still inside
/// the card.
fn scaled(bars: &[Bar], left: i32) -> impl Iterator<Item = (i32, &Bar, i32)> {
    let longest_text = bars
        .iter()
        .map(|bar| bar.text.chars().count())
        .max()
        .unwrap_or(0);
    let room = f64::from(WIDTH as i32 - left - MARGIN - 10) - longest_text as f64 * CHARACTER;
    let largest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    bars.iter().enumerate().map(move |(row, bar)| {
        let length = if largest > 0.0 {
            bar.value.max(0.0) / largest * room
        } else {
            0.0
        };
        // A part that took time is always seen.
        let length = if bar.value > 0.0 {
            length.max(2.0)
        } else {
            length
        };
        (row as i32, bar, length.round() as i32)
    })
}

/// Upper end of the step-time axis in nanoseconds: a little above the largest sample, or above
/// the 98th percentile where the largest is more than half as much again.
fn axis_end(samples: &[(u32, u64)]) -> u64 {
    let mut times: Vec<u64> = samples.iter().map(|sample| sample.1).collect();
    times.sort_unstable();
    let Some(&largest) = times.last() else {
        return 1_000_000;
    };
    let high = times[(times.len() - 1) * 98 / 100];
    let end = if largest > high.saturating_add(high / 2) {
        high + high / 4
    } else {
        largest.saturating_add(largest / 12)
    };
    end.max(1)
}

/// Points as floats, thinned to at most [`POINT_LIMIT`]: of every bucket of neighbours the
/// smallest and the largest stay, in their order, so that no extreme is lost.
fn thin<T: Copy + Into<Value>>(points: &[(u32, T)]) -> Vec<(f64, f64)> {
    let as_floats = |&(iteration, value): &(u32, T)| (f64::from(iteration), value.into().0);
    if points.len() <= POINT_LIMIT {
        return points.iter().map(as_floats).collect();
    }
    let bucket = points.len().div_ceil(POINT_LIMIT / 2);
    points
        .chunks(bucket)
        .flat_map(|bucket| {
            let bucket: Vec<_> = bucket.iter().map(as_floats).collect();
            let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let low = bucket.iter().min_by(by_value).copied();
            let high = bucket.iter().max_by(by_value).copied();
            let mut kept: Vec<_> = low.into_iter().chain(high).collect();
            kept.sort_by(|a, b| a.0.total_cmp(&b.0));
            kept.dedup();
            kept
        })
        .collect()
}

/// Pixels at which points can be told apart, or seen as a cloud where they are many.
fn dot_radius(points: usize) -> u32 {
    if points <= 150 { 5 } else { 3 }
}

/// A sample as the coordinate it is drawn at.
struct Value(f64);

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self(f64::from(value))
    }
}

fn iterations<T>(points: &[(u32, T)]) -> Range<f64> {
    let first = points.iter().map(|point| point.0).min().unwrap_or(1);
    let last = points.iter().map(|point| point.0).max().unwrap_or(1);
    f64::from(first) - 0.5..f64::from(last) + 0.5
}

/// A plot below heading and legend, with iterations from left to right.
fn axes<'a, 'b>(
    area: &'a Area<'b>,
    x: Range<f64>,
    y: Range<f64>,
    y_name: &str,
) -> Result<Plot<'a, 'b>, ChartError> {
    let decimals = units::decimals_for(y.end - y.start, 2);
    let mut plot = ChartBuilder::on(area)
        .margin_top(92)
        .margin_left(8)
        .margin_right(36)
        .margin_bottom(8)
        .x_label_area_size(68)
        .y_label_area_size(104)
        .build_cartesian_2d(x, y)?;
    plot.configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(QUIET)
        .label_style(text(QUIET, HPos::Center))
        .axis_desc_style(text(INK, HPos::Center))
        .x_labels(7)
        .y_labels(6)
        .x_label_formatter(&|x| {
            if x.fract() == 0.0 {
                units::fixed(*x, 0)
            } else {
                String::new()
            }
        })
        .y_label_formatter(&|y| units::fixed(*y, decimals))
        .x_desc("iteration")
        .y_desc(y_name)
        .draw()?;
    Ok(plot)
}

fn heading(area: &Area<'_>, top: i32, words: &str) -> Result<(), ChartError> {
    let style = ("sans-serif", HEADING, FontStyle::Bold)
        .into_text_style(area)
        .color(&INK);
    area.draw(&Text::new(words.to_owned(), (MARGIN, top + 16), style))
}

/// Swatches with names in one row below the heading.
fn legend(area: &Area<'_>, entries: &[(RGBColor, String)]) -> Result<(), ChartError> {
    let mut x = MARGIN;
    for (colour, name) in entries {
        area.draw(&Rectangle::new([(x, 56), (x + 18, 74)], colour.filled()))?;
        area.draw(&label(name, (x + 26, 65), QUIET, HPos::Left))?;
        x += 26 + (name.chars().count() as f64 * CHARACTER) as i32 + 22;
    }
    Ok(())
}

/// Text centred on `y` of a position.
fn label(
    words: &str,
    position: (i32, i32),
    colour: RGBColor,
    side: HPos,
) -> Text<'static, (i32, i32), String> {
    Text::new(
        markdown::visible(words, false),
        position,
        text(colour, side),
    )
}

fn text(colour: RGBColor, side: HPos) -> TextStyle<'static> {
    TextStyle {
        font: ("sans-serif", TEXT).into_font(),
        color: colour.to_backend_color(),
        pos: Pos::new(side, VPos::Center),
    }
}

/// Draws on a card of the given height, and gives it a title and its dark scheme.
fn card(
    title: &str,
    height: u32,
    draw: impl FnOnce(&Area<'_>) -> Result<(), ChartError>,
) -> Result<String, ChartError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&CARD)?;
        let corners = [(0, 0), (WIDTH as i32 - 1, height as i32 - 1)];
        area.draw(&Rectangle::new(corners, EDGE.stroke_width(1)))?;
        draw(&area)?;
        area.present()?;
    }
    // Attribute selectors outrank the presentation attributes that plotters writes, so the
    // drawing itself need not know of the scheme.
    let mut dark = String::new();
    for (light, dark_colour) in DARK {
        let (light, colour) = (hex(light), hex(dark_colour));
        let _ = write!(
            dark,
            "[fill=\"{light}\"]{{fill:{colour}}}[stroke=\"{light}\"]{{stroke:{colour}}}"
        );
    }
    let head = format!(
        " role=\"img\">\n<title>{title}</title>\n\
         <style>@media (prefers-color-scheme:dark){{{dark}}}</style>\n"
    );
    Ok(svg.replacen(">\n", &head, 1))
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_does_not_stretch_the_axis() {
        let mut samples: Vec<(u32, u64)> = (1..=100).map(|i| (i, 10_000_000)).collect();
        assert_eq!(axis_end(&samples), 10_833_333);
        samples[0].1 = 900_000_000;
        assert_eq!(axis_end(&samples), 12_500_000);
        let svg = step_time(&samples, &[]).unwrap();
        assert!(svg.contains("1 above the axis, up to 900 ms"), "{svg}");
        assert_eq!(axis_end(&[]), 1_000_000);
        assert_eq!(axis_end(&[(1, 0)]), 1);
    }

    #[test]
    fn thinning_keeps_the_extremes_of_every_bucket() {
        let mut points: Vec<(u32, u64)> =
            (1..=10_000).map(|i| (i, 500 + u64::from(i % 7))).collect();
        points[4_321].1 = 9_999;
        points[8_765].1 = 1;
        let thinned = thin(&points);
        assert!(thinned.len() <= POINT_LIMIT, "{}", thinned.len());
        assert!(thinned.contains(&(4_322.0, 9_999.0)));
        assert!(thinned.contains(&(8_766.0, 1.0)));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(thin(&points[..POINT_LIMIT]).len(), POINT_LIMIT);
    }

    #[test]
    fn charts_of_long_runs_stay_small() {
        let samples: Vec<(u32, u64)> = (1..=100_000)
            .map(|i| (i, 10_000_000 + u64::from(i) * 7_919 % 1_000_003))
            .collect();
        let series = ["active", "cache", "peak", "footprint"].map(|name| Series {
            name: name.to_owned(),
            points: samples.clone(),
        });
        let losses: Vec<(u32, f32)> = samples.iter().map(|s| (s.0, s.1 as f32)).collect();
        for svg in [step_time(&samples, &[]), memory(&series), loss(&losses)] {
            let size = svg.unwrap().len();
            assert!(size < 200_000, "{size} bytes");
        }
    }

    #[test]
    fn degenerate_numbers_can_be_drawn() {
        step_time(&[], &[]).unwrap();
        step_time(&[(7, 0)], &[]).unwrap();
        memory(&[]).unwrap();
        loss(&[]).unwrap();
        loss(&[(1, 0.0)]).unwrap();
        loss(&[(1, f32::MAX), (2, -f32::MAX)]).unwrap();
        generation(&[], &[]).unwrap();
        time_budget(&[Bar {
            label: "rest".into(),
            value: -1.0,
            text: "-1".into(),
        }])
        .unwrap();
    }

    #[test]
    fn foreign_text_cannot_leave_its_element() {
        let bar = Bar {
            label: "</text><script>\u{0}".into(),
            value: 1.0,
            text: "1".into(),
        };
        let svg = generation(&[bar], &[]).unwrap();
        assert!(!svg.contains("<script"));
        assert!(svg.contains("&lt;/text&gt;&lt;script&gt;\\u{0}"), "{svg}");
    }
}
