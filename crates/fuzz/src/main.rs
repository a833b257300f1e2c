//! One fuzz target under libFuzzer. `LFMARK_FUZZ_TARGET` names it; without it, the names are
//! printed. With `LFMARK_FUZZ_SEEDS`, its seeds are written to that folder, and nothing is run.
#![no_main]

use std::{
    env, fs,
    io::{self, Write as _},
    panic,
    path::PathBuf,
    process,
    sync::OnceLock,
};

use fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

/// What an input may have allocated at once, in bytes. libFuzzer's own limit, which `cargo xtask
/// fuzz` sets to the same, is of pages that were touched, those of MLX included.
const MOST_BYTES: usize = 512 << 20;

#[cfg(fuzzing)]
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, MOST_BYTES);

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(
    init: {
        // libFuzzer's own hook ends the process before a panic can be caught, as `model` does with
        // those of the tokenizers crate. One that nothing catches still ends it.
        let _ = panic::take_hook();
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|it| it.file());
            if !place.is_some_and(|file| file.contains("/tokenizers-")) {
                hook(info);
            }
        }));
        match choose() {
            Ok(Some(target)) => drop(CHOSEN.set(target)),
            Ok(None) => process::exit(0),
            Err(error) => {
                let _ = writeln!(io::stderr(), "error: {error}");
                process::exit(2);
            }
        }
    },
    |data: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            (target.run)(data);
        }
    }
);

/// The target to run, or `None` where there is nothing more to do.
fn choose() -> io::Result<Option<&'static Target>> {
    let Some(name) = env::var_os("LFMARK_FUZZ_TARGET") else {
        for target in TARGETS {
            writeln!(io::stdout(), "{} {}", target.name, target.longest)?;
        }
        return Ok(None);
    };
    let found = TARGETS.iter().find(|target| name == target.name);
    let target = found.ok_or_else(|| {
        io::Error::other(format!("there is no target {}", name.to_string_lossy()))
    })?;
    let Some(dir) = env::var_os("LFMARK_FUZZ_SEEDS") else {
        return Ok(Some(target));
    };
    for (number, seed) in (1..).zip((target.seeds)()?) {
        fs::write(PathBuf::from(&dir).join(format!("seed-{number:02}")), seed)?;
    }
    Ok(None)
}
