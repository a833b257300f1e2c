//! What lfmark counts.
//!
//! | module | holds |
//! |---|---|
//! | [`record`] | the types of the run record, the only format results are stored in |
//! | [`store`] | writing a record while the run goes on, and reading it back |
//! | [`measure`] | the measured loop, generic over the work and the clock |
//! | [`window`] | ranges of iterations that are reported together |
//! | [`stats`] | statistics of samples |
//! | [`summary`] | everything a report shows of one record, derived from its raw samples |
//! | [`footprint`] | memory of the process as the operating system counts it, within a time budget |
//! | [`machine`] | facts about the machine and its state |
//!
//! Nothing here knows MLX: the crate builds and tests on a machine that has none.

pub mod footprint;
pub mod machine;
#[cfg(target_os = "macos")]
mod macos;
pub mod measure;
pub mod record;
pub mod stats;
pub mod store;
pub mod summary;
#[cfg(test)]
mod testing;
pub mod window;
