//! What lfmark counts.
//!
//! | module | holds |
//! |---|---|
//! | [`record`] | the types of the run record, the only format results are stored in |
//! | [`store`] | writing a record while the run goes on, and reading it back |
//! | [`bandwidth`] | how fast this machine's processors copy memory |
//! | [`measure`] | the measured loop, generic over the work and the clock |
//! | [`window`] | ranges of iterations that are reported together |
//! | [`stats`] | statistics of samples |
//! | [`rules`] | the thresholds behind every adjective |
//! | [`steadiness`] | whether a run reached a steady state, and its level there |
//! | [`leak`] | whether memory grows for as long as a run lasts |
//! | [`synthetic`], [`simulation`] | series of known truth, and how often the detectors are right |
//! | [`engine`] | a workload of known truth, measured as a real one |
//! | [`selftest`] | faults that are planted, and the verdicts that have to follow |
//! | [`power`] | the table of false alarms and power |
//! | [`gate`] | whether a candidate may take the place of a baseline |
//! | [`random`] | the seeded generator |
//! | [`compare`] | runs that were not started together, machine by machine |
//! | [`history`] | runs by commit, and where the level of their values changed |
//! | [`comparison`] | the decision between two sets of runs |
//! | [`sets`] | runs that were started together: their values, and what makes them comparable |
//! | [`performance`] | rates, start and memory by arm of a set, and their ratios |
//! | [`scaling`] | a line through the values of processes, and where they leave it |
//! | [`sweep`] | runs that differ in the amount of one kind of work |
//! | [`noise`] | a machine's noise floor as it is stored |
//! | [`readiness`] | whether the machine is ready for the next process of a set |
//! | [`chips`], [`roofline`] | what makers specify of their chips, and how much of it a run used |
//! | [`claims`], [`interval`] | documents of claims, and what a printed figure can have been |
//! | [`audit`] | checks whether figures can be true together |
//! | [`summary`] | everything a report shows of one record, derived from its raw samples |
//! | [`quality`] | whether a generated text passes the checks of its prompt |
//! | [`trigram`] | a model of neighbouring tokens, for a loss to stay below |
//! | [`copying`] | how much of a generated text is from the training text |
//! | [`headroom`] | what else might fit into the machine's memory |
//! | [`footprint`] | memory of the process as the operating system counts it, within a time budget |
//! | [`counters`] | what the processor counted of the process |
//! | [`machine`] | facts about the machine and its state |
//! | [`probe`] | the same with every sensor's raw readings and their cost |
//! | [`mac`], [`linux`], [`nvidia`], [`metallib`] | what each of these is asked |
//! | [`sampler`], [`energy`] | sensors that are read while a run goes on, and the energy they show |
//! | [`validity`] | whether the machine was in one state, and its own |
//! | [`doctor`] | what would make the numbers of a machine better |
//!
//! Nothing here knows MLX: the crate builds and tests on a machine that has none.

pub mod audit;
pub mod bandwidth;
pub mod checks;
pub mod chips;
pub mod claims;
pub mod clock;
pub mod compare;
pub mod comparison;
pub mod copying;
pub mod counters;
pub mod doctor;
pub mod energy;
pub mod engine;
pub mod fields;
pub mod figures;
pub mod footprint;
pub mod gate;
pub mod headroom;
pub mod history;
pub mod interval;
pub mod key;
pub mod leak;
pub mod linux;
pub mod mac;
pub mod machine;
#[cfg(target_os = "macos")]
mod macos;
pub mod measure;
pub mod metallib;
pub mod noise;
#[cfg(target_os = "linux")]
pub mod nvidia;
mod parallel;
pub mod power;
pub mod probe;
pub mod prompts;
pub mod quality;
pub mod random;
pub mod readiness;
pub mod record;
pub mod roofline;
pub mod rules;
pub mod run;
pub mod sampler;
pub mod scaling;
pub mod selftest;
pub mod sets;
pub mod simulation;
pub mod stats;
pub mod steadiness;
pub mod store;
pub mod study;
pub mod summary;
pub mod sweep;
pub mod synthetic;
#[cfg(test)]
mod testing;
pub mod training;
pub mod trigram;
pub mod validity;
pub mod window;
