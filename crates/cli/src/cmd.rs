//! One file a command; each has one `run`.

pub(crate) mod generate;
pub(crate) mod models;
pub(crate) mod report;
pub(crate) mod run;
