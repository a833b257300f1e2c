//! The program from outside: what it prints, writes and exits with. Everything runs the real
//! binary, on the embedded model, in a folder of its own.

mod audit;
mod bad_input;
mod browser;
mod ci;
mod compare;
mod doctor;
mod exchange;
mod failing_disk;
mod formats;
mod generate;
mod hard_use;
mod history;
mod hub;
mod killed;
mod mlx_lm;
mod models;
mod peers;
mod regress;
mod rules;
mod run;
mod scale;
mod selftest;
mod sets;
mod support;
mod sweep;
