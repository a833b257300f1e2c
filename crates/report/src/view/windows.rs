//! The configured windows, with what was measured of each.

use metrics::record::{Iteration, WindowSpec};
use metrics::store::Record;
use metrics::summary::{Summary, Window};

use crate::units::{self, NOT_MEASURED};

/// Every configured window, with what was measured of it.
pub(super) fn windows<'a>(
    record: &'a Record,
    summary: &'a Summary,
) -> Vec<(WindowSpec, Option<&'a Window>)> {
    let mut measured = summary.windows.iter().peekable();
    let specs = record.start.config.windows.iter();
    specs
        .map(|spec| (*spec, measured.next_if(|window| window.spec == *spec)))
        .collect()
}

/// The iterations a window counts.
pub(super) fn members<'a>(record: &'a Record, window: &Window) -> &'a [Iteration] {
    let begin = record
        .iterations
        .partition_point(|it| it.iteration < window.first);
    let end = record
        .iterations
        .partition_point(|it| it.iteration <= window.last);
    &record.iterations[begin..end]
}

/// The iterations a window counts, first, last and number: `101-300 (200)`.
pub(super) fn counted(window: &Window) -> String {
    format!(
        "{}-{} ({})",
        units::count(window.first.into()),
        units::count(window.last.into()),
        units::count(window.training.iterations.into())
    )
}

/// A row that begins with the window and its count; not measured where it holds no iteration.
pub(super) fn window_row<const N: usize>(
    spec: WindowSpec,
    window: Option<&Window>,
    cells: impl FnOnce(&Window) -> [String; N],
) -> [String; N] {
    match window {
        Some(window) => cells(window),
        None => std::array::from_fn(|column| match column {
            0 => format!("**{spec}**"),
            1 => "0".to_owned(),
            _ => NOT_MEASURED.to_owned(),
        }),
    }
}
