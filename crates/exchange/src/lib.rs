//! What lfmark takes from other programs and gives to them, as text.
//!
//! | module | holds |
//! |---|---|
//! | [`import`] | what other programs printed, as documents of claims |
//! | [`export`] | the figures of runs, for programs that follow them over time |
//! | [`share`] | a record without what is its owner's alone |
//!
//! The crate does no I/O, measures nothing and knows no MLX. An imported figure was rounded and
//! averaged by the program that printed it, so it becomes a claim and never a sample of a record.

pub mod export;
pub mod import;
pub mod share;
mod telling;

use metrics::record::Start;

/// What a run computed with, as its maker calls it.
fn device(start: &Start) -> Option<&str> {
    let machine = &start.machine;
    let names = match start.config.device.as_str() {
        "cpu" => [&machine.chip, &machine.cpu, &None],
        _ => [&machine.chip, &machine.gpu, &machine.cpu],
    };
    names.into_iter().flatten().next().map(String::as_str)
}
