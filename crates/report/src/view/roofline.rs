//! What a run used of the memory and the arithmetic of its device.

use metrics::roofline::{Resource, Roofline, Share, Use, Work};

use super::Shown;
use crate::markdown::{Align, escape, table};
use crate::units::{self, NOT_MEASURED};

/// Says that no figure is published.
const NOT_SPECIFIED: &str = "not known";

/// Use, specified and measured figures as a section without its heading.
pub(crate) fn roofline_section(roofline: &Roofline) -> String {
    if roofline.uses.is_empty() {
        return "Nothing was measured that could be held against the device.".to_owned();
    }
    let rows: Vec<_> = roofline
        .uses
        .iter()
        .map(|used| row(roofline, used))
        .collect();
    let table = table(
        [
            ("Work", Align::Left),
            ("Tokens/s", Align::Right),
            ("Cost of a token", Align::Right),
            ("Used", Align::Right),
            ("Specified", Align::Right),
            ("Share of the specified", Align::Right),
            ("Measured", Align::Right),
            ("Share of the measured", Align::Right),
        ],
        &rows,
    );
    let mut text = format!("{table}\n\n{}", device(roofline));
    for (resource, name) in [
        (Resource::Bandwidth, "bandwidth"),
        (Resource::Arithmetic, "arithmetic"),
    ] {
        let specified = roofline
            .uses
            .iter()
            .filter(|used| used.resource == resource);
        if let Some(specified) = specified.filter_map(|used| used.specified).next() {
            text.push_str(&format!(
                " Source of the specified {name}: {}.",
                escape(specified.figure.source)
            ));
        }
    }
    text.push_str(
        "\n\nA generated token reads every weight once; the key/value cache is left out. A token of \
         training or of a prompt costs 2 operations for every parameter it passes, one of training \
         2 more for every parameter on the way back to the lowest adapter, and 6 for every \
         trainable one; attention to earlier tokens is left out. All costs are lower bounds, and so \
         are the shares. Training counts padded tokens, which the device works through as well.",
    );
    if roofline.measured_bandwidth.is_some() {
        text.push_str(
            " The measured bandwidth is that of copying memory with all processors at once. Weights \
             that fit a cache can be read faster than that.",
        );
    }
    text
}

fn device(roofline: &Roofline) -> String {
    let dtype = escape(&roofline.dtype);
    match (&roofline.chip, roofline.arithmetic_note) {
        (None, _) => {
            "The device is none of the chip table, so nothing is specified for it.".to_owned()
        }
        (Some(chip), Some(note)) => format!(
            "Row of the chip table: {}. Arithmetic of {dtype}: {}.",
            escape(chip),
            escape(note)
        ),
        (Some(chip), None) => format!(
            "Row of the chip table: {}. Arithmetic is that of {dtype}.",
            escape(chip)
        ),
    }
}

fn row(roofline: &Roofline, used: &Use) -> [String; 8] {
    let (scale, unit, cost) = match used.resource {
        Resource::Bandwidth => (1e9, "GB/s", "GB"),
        Resource::Arithmetic => (1e12, "TFLOP/s", "GFLOP"),
    };
    let per_second = |value: f64| format!("{} {unit}", units::significant(value / scale, 4));
    let measured = match used.resource {
        Resource::Bandwidth => roofline.measured_bandwidth.shown(per_second),
        Resource::Arithmetic => NOT_MEASURED.to_owned(),
    };
    let share = |share: f64| format!("{} %", units::significant(100.0 * share, 3));
    [
        match used.work {
            Work::Training => "training".to_owned(),
            Work::Prefill(number) => format!("reading prompt {number}"),
            Work::Decode(number) => format!("generation, prompt {number}"),
        },
        units::significant(used.tokens_per_second, 4),
        format!("{} {cost}", units::significant(used.per_token / 1e9, 4)),
        per_second(used.used),
        used.specified
            .map_or(NOT_SPECIFIED.to_owned(), |it| per_second(it.figure.value)),
        match used.specified.map(|it| it.share) {
            None => NOT_SPECIFIED.to_owned(),
            Some(Share::Of(of)) => share(of),
            Some(Share::Impossible(of)) => format!(
                "**error: {}, which cannot be; suspect the row {} of the chip table**",
                share(of),
                roofline.chip.as_deref().map_or(String::new(), escape)
            ),
        },
        measured,
        used.measured_share.shown(share),
    ]
}
