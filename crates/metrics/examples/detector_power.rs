//! Prints how often the detectors of one run are right: `detector_power [runs a cell]`.

use metrics::rules::Rules;
use metrics::simulation::{grid, simulate};

const SEED: u64 = 20_260_701;

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() {
    let runs = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000);
    println!(
        "| detector | planted | iterations | noise | rho | right % | 99.9 % lower bound of wrong % | verdicts |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---|");
    for cell in grid() {
        let outcome = simulate(&cell, runs, SEED, &Rules::default());
        println!(
            "| {:?} | {:?} | {} | {} | {} | {:.1} | {:.1} | {} |",
            cell.detector,
            cell.truth.fault,
            cell.truth.count,
            cell.truth.noise,
            cell.truth.rho,
            100.0 * outcome.power(),
            100.0 * outcome.wrong_at_least(0.999),
            serde_json::to_string(&outcome.verdicts.iter().collect::<Vec<_>>()).unwrap_or_default(),
        );
    }
}
