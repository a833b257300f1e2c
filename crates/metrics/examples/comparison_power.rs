//! Prints how often comparisons of two sets of runs are right: `comparison_power [comparisons a
//! cell]`.

use metrics::comparison::Design;
use metrics::comparison::simulation::{Scenario, Verdicts, simulate};
use metrics::rules::ComparisonRules;

const SEED: u64 = 20_260_701;

/// Standard deviation of windows within a run.
const WINDOW_SD: f64 = 0.01;

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() {
    let simulations = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000);
    let rules = ComparisonRules::default();
    println!(
        "| truth | metrics with it | runs | pairs | floor from | run CV % | rho | between / within \
         | wrong % | all found % | final verdict % | with effect % | without effect % |"
    );
    println!("|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---|---|---|");
    // The five shares: regressed, improved, equivalent, changed but small, inconclusive.
    for (index, scenario) in grid().into_iter().enumerate() {
        let rates = simulate(&scenario, &rules, simulations, SEED + index as u64);
        let percent = |count: u32| 100.0 * f64::from(count) / f64::from(rates.simulations);
        println!(
            "| {:+.0} % | {} of {} | {} | {} | {} | {:.2} | {} | {:.2} | {:.2} | {} | {} | {} | {} |",
            100.0 * scenario.effect,
            scenario.shifted,
            scenario.metrics,
            scenario.runs,
            if scenario.design == Design::Interleaved {
                "yes"
            } else {
                ""
            },
            scenario.floor_runs,
            100.0 * scenario.run_cv(),
            scenario.autocorrelation,
            scenario.process_sd / scenario.window_sd,
            percent(rates.false_alarms),
            match scenario.shifted {
                0 => String::new(),
                _ => format!("{:.2}", percent(rates.found)),
            },
            shares(&rates.overall),
            shares(&rates.shifted),
            shares(&rates.unshifted),
        );
    }
}

fn grid() -> Vec<Scenario> {
    let still = Scenario {
        runs: 8,
        metrics: 7,
        shifted: 0,
        effect: 0.0,
        process_sd: 0.0,
        windows: 20,
        window_sd: WINDOW_SD,
        autocorrelation: 0.0,
        design: Design::Independent,
        floor_runs: 0,
    };
    let mut grid = Vec::new();
    for runs in [5, 8] {
        for autocorrelation in [0.0, 0.3, 0.6] {
            for spread in [0.0, 0.25, 0.5, 1.0] {
                grid.push(Scenario {
                    runs,
                    autocorrelation,
                    process_sd: spread * WINDOW_SD,
                    ..still
                });
            }
        }
    }
    let noisy = |runs, design, floor_runs| {
        let scenario = Scenario {
            runs,
            design,
            floor_runs,
            autocorrelation: 0.3,
            ..still
        };
        scenario.with_run_cv(0.01).expect("windows spread less")
    };
    for (runs, design) in [
        (2, Design::Independent),
        (3, Design::Independent),
        (16, Design::Independent),
        (16, Design::Interleaved),
    ] {
        grid.push(noisy(runs, design, 0));
    }
    for (effect, shifted) in [(0.01, 7), (0.02, 7), (0.03, 1), (0.03, 7), (0.05, 1)] {
        for runs in [5, 8, 10] {
            grid.push(Scenario {
                effect,
                shifted,
                ..noisy(runs, Design::Independent, 0)
            });
        }
    }
    for (runs, design, floor_runs) in [
        (8, Design::Independent, 10),
        (8, Design::Independent, 20),
        (8, Design::Interleaved, 0),
        (10, Design::Interleaved, 0),
        (12, Design::Interleaved, 0),
    ] {
        grid.push(Scenario {
            effect: 0.03,
            shifted: 1,
            ..noisy(runs, design, floor_runs)
        });
    }
    grid
}

/// Shares of the verdicts, in the order of the heading.
fn shares(verdicts: &Verdicts) -> String {
    let counts = [
        verdicts.regressed,
        verdicts.improved,
        verdicts.equivalent,
        verdicts.changed_but_small,
        verdicts.inconclusive,
    ];
    let total: u32 = counts.iter().sum();
    if total == 0 {
        return String::new();
    }
    let share = |count| format!("{:.2}", 100.0 * f64::from(count) / f64::from(total));
    counts.map(share).join(" ")
}
