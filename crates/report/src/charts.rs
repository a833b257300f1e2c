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
use crate::units;

mod groups;
pub(crate) use groups::{BarGroup, Curve, MOST_COLUMNS, bar_groups, overlay};
mod latency;
pub(crate) use latency::{Times, latency};
mod memory;
pub(crate) use memory::{Peak, Reading, memory};
mod power;
pub(crate) use power::{Track, TrackLine, power};
mod rates;
pub(crate) use rates::{Rate, Rates, rates};
mod scaling;
pub(crate) use scaling::{Dot, Plot, Series, scaling};
mod strips;
pub(crate) use strips::{Line, Strip, strips};
mod trend;
pub(crate) use trend::{Trend, trends};

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
const ORANGE: RGBColor = RGBColor(0xE6, 0x9F, 0x00);

/// Behind what was taken for warm-up: [`QUIET`], to be seen through.
const SHADE: RGBAColor = RGBAColor(QUIET.0, QUIET.1, QUIET.2, 0.25);

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
type Drawing<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A range of iterations that is summarized together, with the median of what the chart shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub first: u32,
    pub last: u32,
    pub median_ns: f64,
}

/// One bar with its label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    pub label: String,
    pub value: f64,
    /// Drawn as a whisker over the end of the bar.
    pub interval: Option<(f64, f64)>,
    /// What stands at the end of the bar.
    pub text: String,
}

impl Bar {
    /// The interval where it can be drawn.
    fn whisker(&self) -> Option<(f64, f64)> {
        self.interval
            .filter(|(low, high)| low.is_finite() && high.is_finite())
    }
}

/// Step time of every iteration as a point, with the bounds and the median of every span.
///
/// `samples` are iterations with nanoseconds. The axis begins at 0. Where a few samples lie far
/// above the rest it ends at [`axis_end`], and those beyond it are drawn as triangles at the
/// upper edge and counted in the chart. The background is shaded up to iteration `warm_up`, and
/// a broken line stands before iteration `shift`.
pub(crate) fn step_time(
    samples: &[(u32, u64)],
    spans: &[Span],
    warm_up: Option<u32>,
    shift: Option<u32>,
) -> Result<String, ChartError> {
    let end_ns = axis_end(samples);
    let (scale, unit) = time_unit(end_ns);
    let top = end_ns as f64 / scale;
    let dot = dot_radius(samples.len());
    let (shown, above): (Vec<_>, Vec<_>) = samples.iter().partition(|sample| sample.1 <= end_ns);
    let mut entries = vec![(BLUE.into(), "an iteration".to_owned())];
    if !spans.is_empty() {
        entries.push((VERMILION.into(), "window median".to_owned()));
    }
    if let Some(last) = warm_up {
        entries.push((
            SHADE,
            format!("warm-up, up to {}", units::count(last.into())),
        ));
    }
    if let Some(first) = shift {
        entries.push((
            GREEN.into(),
            format!("level shift at {}", units::count(first.into())),
        ));
    }
    if let Some(largest) = above.iter().map(|sample: &(u32, u64)| sample.1).max() {
        entries.push((
            PURPLE.into(),
            format!(
                "{} above the axis, up to {} {unit}",
                units::count(above.len() as u64),
                units::significant(largest as f64 / scale, 3)
            ),
        ));
    }
    let extra = legend_height(&entries) - LEGEND_ROW;
    let height = (480 + extra) as u32;
    card("Step time of every training iteration", height, |area| {
        heading(area, 0, "Step time by iteration")?;
        legend(area, &entries)?;
        let range = iterations(samples);
        let begin = range.start;
        let name = format!("step time ({unit})");
        let mut plot = axes(area, extra, range, 0.0..top, &name)?;
        if let Some(last) = warm_up {
            let end = f64::from(last) + 0.5;
            plot.draw_series([Rectangle::new([(begin, 0.0), (end, top)], SHADE.filled())])?;
        }
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
        if let Some(first) = shift {
            let x = f64::from(first) - 0.5;
            let line = [(x, 0.0), (x, top)];
            plot.draw_series(DashedLineSeries::new(line, 14, 8, GREEN.stroke_width(4)))?;
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
        let mut plot = axes(area, 0, iterations(losses), range, "loss (nats a token)")?;
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
            bars_below_labels(area, 52, prompt_rates, &[BLUE])?;
            heading(
                area,
                split as i32,
                "Generation rate, after the first token (tokens/s)",
            )?;
            bars_below_labels(area, split as i32 + 52, rates, &[GREEN])
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

/// The colours take turns.
fn bars_below_labels(
    area: &Area<'_>,
    top: i32,
    bars: &[Bar],
    colours: &[RGBColor],
) -> Result<(), ChartError> {
    for ((row, bar, length), colour) in scaled(bars, MARGIN).zip(colours.iter().cycle()) {
        let y = top + 70 * row;
        let mut end = MARGIN + length;
        area.draw(&label(&bar.label, (MARGIN, y + 14), INK, HPos::Left))?;
        area.draw(&Rectangle::new(
            [(MARGIN, y + 29), (MARGIN + length, y + 55)],
            colour.filled(),
        ))?;
        if let Some((low, high)) = bar.whisker().filter(|_| bar.value > 0.0) {
            let at = |value: f64| MARGIN + (value / bar.value * f64::from(length)).round() as i32;
            let (low, high) = (at(low.max(0.0)), at(high));
            let strokes = [
                [(low, y + 42), (high, y + 42)],
                [(low, y + 34), (low, y + 50)],
                [(high, y + 34), (high, y + 50)],
            ];
            for stroke in strokes {
                area.draw(&PathElement::new(stroke, INK.stroke_width(2)))?;
            }
            end = end.max(high);
        }
        area.draw(&label(&bar.text, (end + 10, y + 42), INK, HPos::Left))?;
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
    let ends = bars
        .iter()
        .map(|bar| bar.whisker().map_or(0.0, |it| it.1).max(bar.value));
    let largest = ends.fold(0.0, f64::max);
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

/// Nanoseconds of the unit that suits times up to this one, and its name.
pub(crate) fn time_unit(end_ns: u64) -> (f64, &'static str) {
    match end_ns {
        0..1_000_000 => (1e3, "µs"),
        1_000_000..2_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    }
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
/// smallest and the largest stay, in their order, so that no extreme is lost. What cannot be drawn lies
/// at the end of the axis.
fn thin<T: Copy + Into<Value>>(points: &[(u32, T)]) -> Vec<(f64, f64)> {
    let as_floats = |&(iteration, value): &(u32, T)| {
        let drawn = value.into().0.clamp(-LARGEST, LARGEST);
        (f64::from(iteration), drawn)
    };
    thin_points(points.iter().map(as_floats).collect())
}

/// As [`thin`], of points with any place.
fn thin_points(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= POINT_LIMIT {
        return points;
    }
    let bucket = points.len().div_ceil(POINT_LIMIT / 2);
    points
        .chunks(bucket)
        .flat_map(|bucket| {
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

/// A plot below heading and legend, with iterations from left to right. `extra` is the height of
/// the legend's rows after the first.
fn axes<'a, 'b>(
    area: &'a Area<'b>,
    extra: i32,
    x: Range<f64>,
    y: Range<f64>,
    y_name: &str,
) -> Result<Drawing<'a, 'b>, ChartError> {
    let decimals = units::decimals_for(y.end - y.start, 2);
    let whole = |x: f64| match x.fract() == 0.0 {
        true => units::fixed(x, 0),
        false => String::new(),
    };
    panel(
        area,
        extra,
        (x, "iteration", &whole),
        (y, y_name, &|y| units::fixed(y, decimals)),
    )
}

/// Range, name and labels of an axis.
type Axis<'a> = (Range<f64>, &'a str, &'a dyn Fn(f64) -> String);

/// Largest value that is drawn: plotters does not end its search for the labels of an axis of
/// much larger ones, which only a record that was edited or a run that diverged has.
const LARGEST: f64 = 1e15;

/// The part of a range that can be drawn.
fn drawable(range: Range<f64>) -> Range<f64> {
    range.start.clamp(-LARGEST, LARGEST)..range.end.clamp(-LARGEST, LARGEST)
}

/// A plot below heading and legend, with any two axes.
fn panel<'a, 'b>(
    area: &'a Area<'b>,
    extra: i32,
    (x, x_name, x_label): Axis<'_>,
    (y, y_name, y_label): Axis<'_>,
) -> Result<Drawing<'a, 'b>, ChartError> {
    let mut plot = ChartBuilder::on(area)
        .margin_top(92 + extra)
        .margin_left(8)
        .margin_right(36)
        .margin_bottom(8)
        .x_label_area_size(68)
        .y_label_area_size(104)
        .build_cartesian_2d(drawable(x), drawable(y))?;
    plot.configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(QUIET)
        .label_style(text(QUIET, HPos::Center))
        .axis_desc_style(text(INK, HPos::Center))
        .x_labels(7)
        .y_labels(6)
        .x_label_formatter(&|x| x_label(*x))
        .y_label_formatter(&|y| y_label(*y))
        .x_desc(x_name)
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

/// Swatches with names below the heading, in as many rows as they need.
fn legend(area: &Area<'_>, entries: &[(impl Color, String)]) -> Result<(), ChartError> {
    for ((x, y), (colour, name)) in legend_places(entries).zip(entries) {
        let swatch = [(x, y - 9), (x + 18, y + 9)];
        area.draw(&Rectangle::new(swatch, colour.filled()))?;
        area.draw(&label(name, (x + 26, y), QUIET, HPos::Left))?;
    }
    Ok(())
}

const LEGEND_ROW: i32 = 30;

fn legend_height<C>(entries: &[(C, String)]) -> i32 {
    let last = legend_places(entries).last();
    last.map_or(0, |(_, y)| y - LEGEND_TOP) + LEGEND_ROW
}

/// Middle of the legend's first row.
const LEGEND_TOP: i32 = 65;

/// Left end and middle of every entry.
fn legend_places<C>(entries: &[(C, String)]) -> impl Iterator<Item = (i32, i32)> {
    let (mut x, mut y) = (MARGIN, LEGEND_TOP);
    entries.iter().map(move |(_, name)| {
        let width = 26 + (name.chars().count() as f64 * CHARACTER) as i32;
        if x > MARGIN && x + width > WIDTH as i32 - MARGIN {
            (x, y) = (MARGIN, y + LEGEND_ROW);
        }
        let place = (x, y);
        x += width + 22;
        place
    })
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
        let svg = step_time(&samples, &[], None, None).unwrap();
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
        let readings: Vec<_> = samples
            .iter()
            .map(|&(iteration, bytes)| Reading {
                iteration,
                active: bytes,
                cache: bytes / 7,
            })
            .collect();
        let times = ["steps", "tokens"].map(|name| Times {
            name,
            ns: samples.iter().map(|sample| sample.1).collect(),
            quantiles: [10_500_000.0, 10_950_000.0, 10_990_000.0],
        });
        let losses: Vec<(u32, f32)> = samples.iter().map(|s| (s.0, s.1 as f32)).collect();
        for svg in [
            step_time(&samples, &[], None, None),
            memory(&readings, &[], &samples),
            latency(&times),
            loss(&losses),
        ] {
            let size = svg.unwrap().len();
            assert!(size < 200_000, "{size} bytes");
        }
    }

    #[test]
    fn degenerate_numbers_can_be_drawn() {
        step_time(&[], &[], None, None).unwrap();
        step_time(&[(7, 0)], &[], Some(7), Some(7)).unwrap();
        memory(&[], &[], &[]).unwrap();
        let reading = Reading {
            iteration: 7,
            active: u64::MAX,
            cache: u64::MAX,
        };
        memory(&[reading], &[], &[(7, 0)]).unwrap();
        latency(&[]).unwrap();
        for ns in [vec![0], vec![5, 5, 5], vec![1, u64::MAX]] {
            let quantiles = [f64::NAN, 5.0, f64::INFINITY];
            latency(&[Times {
                name: "steps",
                ns,
                quantiles,
            }])
            .unwrap();
        }
        loss(&[]).unwrap();
        loss(&[(1, 0.0)]).unwrap();
        loss(&[(1, f32::MAX), (2, -f32::MAX)]).unwrap();
        loss(&[(1, f32::MAX), (2, 11.4)]).unwrap();
        loss(&[(1, f32::INFINITY), (2, 11.4)]).unwrap();
        loss(&[(2, 11.439_516), (3, 11.552_678)]).unwrap();
        generation(&[], &[]).unwrap();
        time_budget(&[Bar {
            label: "rest".into(),
            value: -1.0,
            interval: None,
            text: "-1".into(),
        }])
        .unwrap();
    }

    #[test]
    fn foreign_text_cannot_leave_its_element() {
        let bar = Bar {
            label: "</text><script>\u{0}".into(),
            value: 1.0,
            interval: Some((f64::NAN, f64::INFINITY)),
            text: "1".into(),
        };
        let svg = generation(&[bar], &[]).unwrap();
        assert!(!svg.contains("<script"));
        assert!(svg.contains("&lt;/text&gt;&lt;script&gt;\\u{0}"), "{svg}");
    }
}
