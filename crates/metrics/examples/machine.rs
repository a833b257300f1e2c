//! Prints what is read of this machine, as JSON: `machine READINGS`, a second apart.
//!
//! It needs no MLX; `cargo xtask first-mac` runs it.

use std::io::{self, Write};
use std::time::Duration;

fn main() -> io::Result<()> {
    let readings = std::env::args().nth(1);
    let readings = readings.and_then(|it| it.parse().ok()).unwrap_or(3);
    let found = metrics::probe::probe(readings, Duration::from_secs(1));
    writeln!(io::stdout(), "{found}")
}
