//! One file a command; each has one `run`.

pub(crate) mod audit;
pub(crate) mod bless;
pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod fuse;
pub(crate) mod gate;
pub(crate) mod generate;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod models;
pub(crate) mod noise;
pub(crate) mod pretrain;
pub(crate) mod regress;
pub(crate) mod repeats;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod selftest;
pub(crate) mod share;
pub(crate) mod sweep;
pub(crate) mod versus;
