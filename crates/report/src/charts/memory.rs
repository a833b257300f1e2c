//! Memory over the iterations, stacked, with the peak of every window.

use plotters::prelude::*;

use super::{
    BLUE, ChartError, GREEN, PURPLE, VERMILION, axes, card, heading, iterations, legend,
    legend_height, thin,
};
use crate::units::ByteUnit;

/// MLX's memory after one iteration, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub iteration: u32,
    pub active: u64,
    pub cache: u64,
}

/// The peak of a range of iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peak {
    pub first: u32,
    pub last: u32,
    pub bytes: u64,
}

/// Active memory from 0, the cache on top of it, the peak of every window as a line, and the
/// footprint by iteration where it was read. The axis begins at 0.
pub(crate) fn memory(
    readings: &[Reading],
    peaks: &[Peak],
    footprint: &[(u32, u64)],
) -> Result<String, ChartError> {
    let total = |it: &Reading| it.active.saturating_add(it.cache);
    let totals: Vec<_> = readings
        .iter()
        .map(|it| (it.iteration, total(it)))
        .collect();
    let actives: Vec<_> = readings
        .iter()
        .map(|it| (it.iteration, it.active))
        .collect();
    let bytes = totals.iter().chain(footprint).map(|point| point.1);
    let largest = bytes.chain(peaks.iter().map(|peak| peak.bytes)).max();
    let largest = largest.unwrap_or(0);
    let unit = ByteUnit::for_largest(largest);
    let scale = unit.bytes as f64;
    let mut entries = vec![
        (BLUE, "MLX active".to_owned()),
        (GREEN, "MLX cache, on top of it".to_owned()),
    ];
    if !peaks.is_empty() {
        entries.push((VERMILION, "MLX peak of a window".to_owned()));
    }
    if !footprint.is_empty() {
        entries.push((PURPLE, "process footprint".to_owned()));
    }
    let extra = legend_height(&entries) - super::LEGEND_ROW;
    let height = (480 + extra) as u32;
    card("Memory after every training iteration", height, |area| {
        heading(area, 0, "Memory by iteration")?;
        legend(area, &entries)?;
        let range = iterations(&totals);
        let top = (largest as f64 / scale * 1.08).max(1.0);
        let name = format!("memory ({})", unit.name);
        let mut plot = axes(area, extra, range.clone(), 0.0..top, &name)?;
        // The upper area first, so that the lower one covers what lies below the cache.
        for (points, colour) in [(&totals, GREEN), (&actives, BLUE)] {
            let mut line: Vec<_> = thin(points)
                .into_iter()
                .map(|(x, bytes)| (x, bytes / scale))
                .collect();
            // To the ends of the axis, so that a single iteration has an area too.
            if let (Some(&first), Some(&last)) = (line.first(), line.last()) {
                line.insert(0, (range.start, first.1));
                line.push((range.end, last.1));
            }
            plot.draw_series(AreaSeries::new(line, 0.0, colour.filled()))?;
        }
        plot.draw_series(peaks.iter().map(|peak| {
            let (left, right) = (f64::from(peak.first) - 0.5, f64::from(peak.last) + 0.5);
            let y = peak.bytes as f64 / scale;
            PathElement::new([(left, y), (right, y)], VERMILION.stroke_width(4))
        }))?;
        let line = thin(footprint)
            .into_iter()
            .map(|(x, bytes)| (x, bytes / scale));
        plot.draw_series(LineSeries::new(line, PURPLE.stroke_width(4)))?;
        Ok(())
    })
}
