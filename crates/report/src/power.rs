//! The table of false alarms and power, as Markdown and charts.

use metrics::power::{FAILURE_CONFIDENCE, FALSE_ALARMS, Judge, POWER, Row, TUNING_SEED, Table};
use serde::Serialize;
use tera::{Context, Tera};

use crate::charts::{Rate, Rates, rates};
use crate::markdown::{Align, escape, table};
use crate::units;
use crate::{File, REPORT, Rendered, ReportError};

const TEMPLATE: &str = include_str!("../templates/power.md.tera");

const FALSE_ALARMS_CHART: &str = "false-alarms.svg";
const POWER_CHART: &str = "power.svg";

/// Of the intervals that are shown.
const CONFIDENCE: f64 = 0.95;

const JUDGES: [(Judge, &str); 3] = [
    (Judge::Steadiness, "steadiness"),
    (Judge::Leak, "memory growth"),
    (Judge::Comparison, "comparison"),
];

/// Renders a table as Markdown and charts. The same table gives the same bytes.
///
/// # Errors
///
/// See [`ReportError`].
pub fn render_power(table: &Table) -> Result<Rendered, ReportError> {
    let cells: Vec<Numbered> = (1..).zip(&table.rows).collect();
    let of = |judge| {
        let of: Vec<_> = cells
            .iter()
            .copied()
            .filter(|(_, row)| row.judge == judge)
            .collect();
        of
    };
    let view = View {
        version: escape(&table.version),
        seed: table.seed,
        tuning_seed: TUNING_SEED,
        simulations: units::count(u64::from(table.simulations)),
        nothing_simulations: cells
            .iter()
            .filter(|(_, row)| row.nothing)
            .map(|(_, row)| row.simulations)
            .max()
            .map_or("no".to_owned(), |most| units::count(u64::from(most))),
        cells: cells.len(),
        most_false_alarms: percent(FALSE_ALARMS),
        least_power: percent(POWER),
        failure_confidence: percent(FAILURE_CONFIDENCE),
        targets: targets(&cells),
        misses: cells
            .iter()
            .filter(|(_, row)| row.meets_target() == Some(false))
            .map(miss)
            .collect(),
        failures: cells
            .iter()
            .filter(|(_, row)| row.fails())
            .map(|(number, _)| number.to_string())
            .collect(),
        steadiness: of_runs(&of(Judge::Steadiness)),
        leak: of_runs(&of(Judge::Leak)),
        comparison: of_comparisons(&of(Judge::Comparison)),
    };
    let context = Context::from_serialize(&view)?;
    let text = Tera::one_off(TEMPLATE, &context, false)?;
    let mut files = vec![File { name: REPORT, text }];
    for (name, nothing) in [(FALSE_ALARMS_CHART, true), (POWER_CHART, false)] {
        files.push(File {
            name,
            text: chart(&cells, nothing).map_err(|error| ReportError::Chart {
                name,
                source: Box::new(error),
            })?,
        });
    }
    Ok(Rendered { files })
}

/// A cell with its number in the table, from 1.
type Numbered<'a> = (usize, &'a Row);

/// What the template fills in; every string is Markdown.
#[derive(Serialize)]
struct View {
    version: String,
    seed: u64,
    tuning_seed: u64,
    simulations: String,
    nothing_simulations: String,
    cells: usize,
    most_false_alarms: String,
    least_power: String,
    failure_confidence: String,
    targets: String,
    misses: Vec<String>,
    failures: Vec<String>,
    steadiness: String,
    leak: String,
    comparison: String,
}

/// A row for each target: how many cells it is about, how many meet it, and the worst.
fn targets(cells: &[Numbered]) -> String {
    let false_alarms = JUDGES.map(|(judge, name)| {
        let words = format!("false alarms of {name} at most {}", percent(FALSE_ALARMS));
        (judge, true, words)
    });
    let least = percent(POWER);
    let powers = [
        (
            Judge::Leak,
            false,
            format!(
                "power at least {least}: a leak of 0.5 MiB an iteration in 200 iterations, at \
                 2.5 GiB with 1 % noise"
            ),
        ),
        (
            Judge::Comparison,
            false,
            format!(
                "power at least {least}: 3 % slower at a process CV of 1 %, 8 runs an arm, Holm \
                 over all metrics"
            ),
        ),
    ];
    let rows: Vec<_> = false_alarms
        .into_iter()
        .chain(powers)
        .map(|(judge, nothing, words)| target(cells, judge, nothing, words))
        .collect();
    table(
        [
            ("Target", Align::Left),
            ("Cells", Align::Right),
            ("Met in", Align::Right),
            ("Worst cell", Align::Left),
        ],
        &rows,
    )
}

fn target(cells: &[Numbered], judge: Judge, nothing: bool, words: String) -> [String; 4] {
    let about: Vec<_> = cells
        .iter()
        .filter(|(_, row)| row.judge == judge && row.nothing == nothing)
        .filter_map(|cell| Some((cell, cell.1.meets_target()?)))
        .collect();
    let met = about.iter().filter(|(_, met)| *met).count();
    let badness = |row: &Row| if nothing { row.rate() } else { -row.rate() };
    let worst = about
        .iter()
        .max_by(|(a, _), (b, _)| badness(a.1).total_cmp(&badness(b.1)));
    [
        words,
        about.len().to_string(),
        met.to_string(),
        worst.map_or("none".to_owned(), |((number, row), _)| {
            format!("{number}: {}", with_interval(row))
        }),
    ]
}

fn miss((number, row): &Numbered) -> String {
    let judge = JUDGES.iter().find(|(judge, _)| *judge == row.judge);
    format!(
        "{number} ({}, {}, {} {}, rho {}): {}",
        judge.map_or("", |(_, name)| *name),
        escape(&row.planted),
        units::count(row.size as u64),
        match row.judge {
            Judge::Comparison => "runs an arm",
            _ => "iterations",
        },
        row.rho,
        with_interval(row)
    )
}

fn of_runs(cells: &[Numbered]) -> String {
    let rows: Vec<_> = cells
        .iter()
        .map(|(number, row)| {
            let [simulations, false_alarms, power, verdicts] = figures(row);
            [
                number.to_string(),
                escape(&row.planted),
                units::count(row.size as u64),
                percent(row.noise),
                row.rho.to_string(),
                ratio(row.spread),
                simulations,
                false_alarms,
                power,
                verdicts,
            ]
        })
        .collect();
    table(
        [
            ("Cell", Align::Right),
            ("Planted", Align::Left),
            ("Iterations", Align::Right),
            ("Noise", Align::Right),
            ("rho", Align::Right),
            ("Between / within", Align::Right),
            ("Simulations", Align::Right),
            ("False alarms", Align::Right),
            ("Power", Align::Right),
            ("Verdicts", Align::Left),
        ],
        &rows,
    )
}

fn of_comparisons(cells: &[Numbered]) -> String {
    let rows: Vec<_> = cells
        .iter()
        .map(|(number, row)| {
            let [simulations, false_alarms, power, verdicts] = figures(row);
            [
                number.to_string(),
                escape(&row.planted),
                row.size.to_string(),
                percent(row.noise),
                row.rho.to_string(),
                ratio(row.spread),
                simulations,
                false_alarms,
                power,
                row.all_found.map_or(String::new(), |found| {
                    units::share(f64::from(found), f64::from(row.simulations))
                }),
                verdicts,
            ]
        })
        .collect();
    table(
        [
            ("Cell", Align::Right),
            ("Planted", Align::Left),
            ("Runs an arm", Align::Right),
            ("Process CV", Align::Right),
            ("rho", Align::Right),
            ("Between / within", Align::Right),
            ("Simulations", Align::Right),
            ("False alarms", Align::Right),
            ("Power", Align::Right),
            ("Every one found", Align::Right),
            ("Verdicts", Align::Left),
        ],
        &rows,
    )
}

/// Simulations, false alarms, power and verdicts; one of the middle two is empty.
fn figures(row: &Row) -> [String; 4] {
    let (false_alarms, power) = match row.nothing {
        true => {
            let least = percent(row.at_least(FAILURE_CONFIDENCE));
            let rate = percent(row.rate());
            (format!("{rate} (at least {least})"), String::new())
        }
        false => (String::new(), with_interval(row)),
    };
    let verdicts: Vec<String> = row
        .verdicts
        .iter()
        .map(|(word, count)| format!("{word} {}", units::count(u64::from(*count))))
        .collect();
    [
        units::count(u64::from(row.simulations)),
        false_alarms,
        power,
        verdicts.join(", "),
    ]
}

fn with_interval(row: &Row) -> String {
    let (low, high) = row.interval(CONFIDENCE);
    format!(
        "{} ({} to {})",
        percent(row.rate()),
        units::fixed(100.0 * low, 2),
        units::fixed(100.0 * high, 2)
    )
}

/// A share in percent, with two decimals where it has any.
fn percent(share: f64) -> String {
    let text = units::fixed(100.0 * share, 2);
    let short = text.trim_end_matches('0').trim_end_matches('.');
    format!("{short} %")
}

fn ratio(value: f64) -> String {
    let text = units::fixed(value, 2);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn chart(cells: &[Numbered], nothing: bool) -> Result<String, crate::charts::ChartError> {
    let kinds = JUDGES.map(|(judge, name)| Rates {
        name,
        rates: cells
            .iter()
            .filter(|(_, row)| row.judge == judge && row.nothing == nothing && row.decides)
            .map(|(_, row)| {
                let (low, high) = row.interval(CONFIDENCE);
                Rate {
                    percent: 100.0 * row.rate(),
                    interval: (100.0 * low, 100.0 * high),
                }
            })
            .collect(),
    });
    if nothing {
        let highest = kinds
            .iter()
            .flat_map(|kind| &kind.rates)
            .map(|rate| rate.interval.1)
            .fold(100.0 * FALSE_ALARMS, f64::max);
        rates(
            "False alarms of every cell with nothing planted",
            &kinds,
            (100.0 * FALSE_ALARMS, "the most allowed"),
            0.0..1.1 * highest,
        )
    } else {
        rates(
            "Power in every cell with something planted",
            &kinds,
            (100.0 * POWER, "target"),
            0.0..103.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use metrics::rules::Rules;

    use super::*;

    fn row(judge: Judge, nothing: bool, right: u32) -> Row {
        Row {
            judge,
            planted: if nothing { "nothing" } else { "a | fault" }.to_owned(),
            nothing,
            decides: true,
            has_power_target: !nothing,
            size: 200,
            noise: 0.01,
            rho: 0.3,
            spread: 0.5,
            simulations: 1000,
            right,
            all_found: (judge == Judge::Comparison && !nothing).then_some(900),
            verdicts: vec![
                ("leak".to_owned(), right),
                ("flat".to_owned(), 1000 - right),
            ],
        }
    }

    fn rendered(rows: Vec<Row>) -> Rendered {
        render_power(&Table {
            version: "0.1.0".to_owned(),
            seed: 7,
            simulations: 1000,
            rules: Rules::default(),
            rows,
        })
        .unwrap()
    }

    fn check(rows: Vec<Row>, needles: &[&str]) {
        let rendered = rendered(rows);
        let text = rendered.get(REPORT).unwrap();
        for needle in needles {
            assert!(text.contains(needle), "no `{needle}` in:\n{text}");
        }
    }

    #[test]
    fn every_cell_has_its_figures() {
        check(
            vec![
                row(Judge::Steadiness, true, 980),
                row(Judge::Leak, false, 960),
                row(Judge::Comparison, false, 970),
            ],
            &[
                "| 1 | nothing | 200 | 1 % | 0.3 | 0.5 | 1,000 | 2 % (at least 0.9 %) |  | leak 980, flat 20 |",
                "| 2 | a &#124; fault | 200 | 1 % | 0.3 | 0.5 | 1,000 |  | 96 % (94.59 to 97.13) | leak 960, flat 40 |",
                "97 % (95.74 to 97.97) | 90.0 % | leak 970",
                "Every cell meets its target.",
            ],
        );
    }

    #[test]
    fn cells_that_miss_a_target_are_named_with_their_figures() {
        check(
            vec![
                row(Judge::Leak, true, 940),
                row(Judge::Leak, false, 900),
                row(Judge::Comparison, true, 990),
            ],
            &[
                "- 1 (memory growth, nothing, 200 iterations, rho 0.3): 6 % (4.61 to 7.66)",
                "- 2 (memory growth, a &#124; fault, 200 iterations, rho 0.3): 90 % (87.97 to 91.79)",
                "| false alarms of memory growth at most 5 % | 1 | 0 | 1: 6 % (4.61 to 7.66) |",
                "| false alarms of comparison at most 5 % | 1 | 1 | 3: 1 % (0.48 to 1.83) |",
                "| false alarms of steadiness at most 5 % | 0 | 0 | none |",
            ],
        );
    }

    #[test]
    fn a_cell_with_too_many_false_alarms_fails_the_table() {
        check(
            vec![row(Judge::Leak, true, 980), row(Judge::Leak, true, 900)],
            &["**The table fails in cell 2"],
        );
    }

    #[test]
    fn the_same_table_gives_the_same_files() {
        let rows = vec![row(Judge::Leak, true, 980), row(Judge::Leak, false, 900)];
        let files = rendered(rows.clone());
        assert_eq!(files, rendered(rows));
        let names: Vec<_> = files.files.iter().map(|file| file.name).collect();
        assert_eq!(names, [REPORT, FALSE_ALARMS_CHART, POWER_CHART]);
        let svg = files.get(FALSE_ALARMS_CHART).unwrap();
        assert!(
            svg.contains("the most allowed") && svg.contains("<circle"),
            "{svg}"
        );
        rendered(Vec::new());
    }
}
