//! What lfmark counts.
//!
//! | module | holds |
//! |---|---|
//! | [`record`] | the types of the run record, the only format results are stored in |
//! | [`store`] | writing a record while the run goes on, and reading it back |
//! | [`measure`] | the measured loop, generic over the work and the clock |
//! | [`window`] | ranges of iterations that are reported together |
//! | [`stats`] | statistics of samples |
//! | [`rules`] | the thresholds behind every adjective |
//! | [`steadiness`] | whether a run reached a steady state, and its level there |
//! | [`leak`] | whether memory grows for as long as a run lasts |
//! | [`synthetic`], [`simulation`] | series of known truth, and how often the detectors are right |
//! | [`random`] | the seeded generator |
//! | [`comparison`] | the decision between two sets of runs |
//! | [`summary`] | everything a report shows of one record, derived from its raw samples |
//! | [`footprint`] | memory of the process as the operating system counts it, within a time budget |
//! | [`machine`] | facts about the machine and its state |
//!
//! Nothing here knows MLX: the crate builds and tests on a machine that has none.

pub mod comparison;
pub mod footprint;
pub mod leak;
pub mod machine;
#[cfg(target_os = "macos")]
mod macos;
pub mod measure;
pub mod random;
pub mod record;
pub mod rules;
pub mod simulation;
pub mod stats;
pub mod steadiness;
pub mod store;
pub mod summary;
pub mod synthetic;
#[cfg(test)]
mod testing;
pub mod window;
