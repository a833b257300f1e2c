//! Estimates of what else fits into the memory.

use metrics::headroom::{Capacity, Headroom};
use metrics::store::Record;
use metrics::summary::Summary;
use serde::Serialize;

use super::fields::field;
use crate::markdown::{Align, table};
use crate::units;

/// Sizes of models, as multiples of the measured one.
const SCALES: [u32; 5] = [1, 2, 4, 8, 16];
/// Rows of a batch, as a multiple of the measured ones.
const MORE_ROWS: u32 = 8;
/// Tokens of a longer row, where the measured ones have fewer.
const LONG_ROW: u32 = 2_048;

#[derive(Debug, Serialize)]
pub(super) struct HeadroomView {
    table: String,
    capacity: String,
    capacity_name: &'static str,
    capacity_field: String,
    weights: String,
    overhead: String,
    tokens: String,
}

/// `None` where too little is known for an estimate.
pub(super) fn headroom(record: &Record, summary: &Summary) -> Option<HeadroomView> {
    let headroom = summary.memory.headroom?;
    let parameters = record.start.model.parameters as f64;
    let (capacity_name, capacity_field) = match headroom.capacity {
        Capacity::WorkingSet => ("recommended working set", "start.mlx.working_set_bytes"),
        Capacity::DeviceMemory => ("device's memory", "start.mlx.device_memory_bytes"),
        Capacity::MachineMemory => ("machine's memory", "start.machine.memory_bytes"),
    };
    let batches = batches(&headroom);
    let heads = batches.map(|(rows, row)| {
        format!(
            "{} × {} tokens",
            units::count(rows.into()),
            units::count(row.into())
        )
    });
    let tokens = batches.map(|(rows, row)| f64::from(rows) * f64::from(row));
    let mut rows: Vec<[String; 5]> = SCALES
        .iter()
        .map(|&scale| {
            let [a, b, c, d] = tokens.map(|tokens| cell(&headroom, scale.into(), tokens));
            let scaled = units::count((f64::from(scale) * parameters) as u64);
            [scaled, a, b, c, d]
        })
        .collect();
    let [a, b, c, d] = tokens.map(|tokens| rounded(headroom.largest_scale(tokens) * parameters));
    rows.push(["**Parameters that fill it**".to_owned(), a, b, c, d]);
    Some(HeadroomView {
        table: table(
            [
                ("Parameters", Align::Right),
                (&heads[0], Align::Right),
                (&heads[1], Align::Right),
                (&heads[2], Align::Right),
                (&heads[3], Align::Right),
            ],
            &rows,
        ),
        capacity: units::bytes(headroom.capacity_bytes),
        capacity_name,
        capacity_field: field(capacity_field),
        weights: units::bytes(headroom.weight_bytes),
        overhead: units::bytes(headroom.overhead_bytes),
        tokens: units::count(headroom.tokens.into()),
    })
}

/// An estimated number of parameters, to three significant digits.
pub(super) fn rounded(parameters: f64) -> String {
    let unit = 10_f64.powf((parameters.log10().floor() - 2.0).max(0.0));
    units::count(((parameters / unit).round() * unit) as u64)
}

/// Rows and tokens of a row: the measured ones, more rows, longer rows, and both.
fn batches(headroom: &Headroom) -> [(u32, u32); 4] {
    let rows = headroom.rows.max(1);
    let row = headroom.tokens / rows;
    let (many, long) = (
        rows.saturating_mul(MORE_ROWS),
        if row < LONG_ROW {
            LONG_ROW
        } else {
            row.saturating_mul(4)
        },
    );
    [(rows, row), (many, row), (rows, long), (many, long)]
}

/// The estimate and its share of what there is; bold where that is not enough.
fn cell(headroom: &Headroom, scale: f64, tokens: f64) -> String {
    let bytes = headroom.estimate(scale, tokens);
    let capacity = headroom.capacity_bytes as f64;
    let text = format!(
        "{} ({})",
        units::bytes(bytes as u64),
        units::share(bytes, capacity)
    );
    match bytes > capacity {
        true => format!("**{text}**"),
        false => text,
    }
}
