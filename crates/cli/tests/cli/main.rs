//! The program from outside: what it prints, writes and exits with. Everything runs the real
//! binary, on the embedded model, in a folder of its own.

mod bad_input;
mod failing_disk;
mod generate;
mod models;
mod run;
mod support;
