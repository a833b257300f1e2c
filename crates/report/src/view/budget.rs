//! Where the wall time went.

use metrics::store::Record;
use metrics::summary::{Budget, Part, Summary, Training};
use serde::Serialize;

use super::Shown;
use super::fields::{field, fields};
use crate::charts::{self, Bar, ChartError};
use crate::markdown::{Align, table};
use crate::units::{self, NOT_MEASURED};

#[derive(Debug, Serialize)]
pub(super) struct BudgetView {
    table: String,
    /// What a step consists of, where every iteration tells it.
    stages: Option<String>,
    on_cpu: bool,
    wall_known: bool,
}

/// Seconds and share of every part, of the rest, and of all.
pub(super) fn budget(record: &Record, summary: &Summary) -> BudgetView {
    let budget = &summary.budget;
    let mut rows: Vec<_> = budget_parts(budget)
        .into_iter()
        .map(|(name, ns)| {
            [
                name.to_owned(),
                ns.shown(|ns| units::fixed(ns as f64 / 1e9, 3)),
                ns.shown(|ns| budget_share(ns, budget)),
                basis(name),
            ]
        })
        .collect();
    let wall = i128::from(budget.wall_ns);
    rows.push([
        "**Wall time**".to_owned(),
        units::seconds(budget.wall_ns),
        budget_share(wall, budget),
        fields(&["end.wall_ns"]),
    ]);
    BudgetView {
        table: table(
            [
                ("Part", Align::Left),
                ("Seconds", Align::Right),
                ("Share", Align::Right),
                ("Field", Align::Left),
            ],
            &rows,
        ),
        stages: summary.training.as_ref().and_then(stages),
        on_cpu: record.start.mlx.backend == "cpu",
        wall_known: budget.wall_known,
    }
}

/// Mean of a step's parts, and their shares of it.
fn stages(training: &Training) -> Option<String> {
    let stages = training.stages?;
    let step = field("iteration.step_ns");
    let (graph, dispatch) = (field("iteration.graph_ns"), field("iteration.dispatch_ns"));
    let row = |name: &str, ns: u64, basis: String| {
        let mean = ns as f64 / f64::from(training.iterations);
        [
            name.to_owned(),
            units::milliseconds(mean),
            units::share(ns as f64, training.step_ns as f64),
            basis,
        ]
    };
    let rows = [
        row("Building the graph", stages.graph_ns, graph.clone()),
        row(
            "Handing it to the device",
            stages.dispatch_ns,
            dispatch.clone(),
        ),
        row(
            "Waiting for the device",
            stages.wait_ns,
            format!("{step} less {graph} and {dispatch}"),
        ),
        row("**Step**", training.step_ns, step.clone()),
    ];
    Some(table(
        [
            ("Part of a step", Align::Left),
            ("Mean (ms)", Align::Right),
            ("Share", Align::Right),
            ("Field", Align::Left),
        ],
        &rows,
    ))
}

/// Every part of the budget, the rest included, with its nanoseconds where they were measured.
fn budget_parts(budget: &Budget) -> Vec<(&'static str, Option<i128>)> {
    let parts = budget.parts.iter().map(|share| {
        let name = match share.part {
            Part::Fetch => "Fetching",
            Part::Setup => "Set-up",
            Part::Data => "Data",
            Part::Compile => "Compilation",
            Part::Step => "Steps",
            Part::Saving => "Saving",
            Part::Idle => "Waiting",
            Part::WarmUp => "Warm-up",
            Part::Generation => "Generation",
            Part::Effect => "Before and after",
        };
        (name, share.ns.map(i128::from))
    });
    parts
        .chain([("Rest", Some(i128::from(budget.rest_ns)))])
        .collect()
}

/// What a part is the sum of.
fn basis(part: &str) -> String {
    match part {
        "Data" => fields(&["phase.wall_ns", "iteration.data_ns"]),
        "Steps" => fields(&["iteration.step_ns"]),
        "Generation" => fields(&["generation.wall_ns"]),
        "Before and after" => fields(&["effect.wall_ns"]),
        "Rest" => "wall time less all above".to_owned(),
        _ => fields(&["phase.wall_ns"]),
    }
}

fn budget_share(ns: i128, budget: &Budget) -> String {
    if budget.wall_ns == 0 {
        return NOT_MEASURED.to_owned();
    }
    format!(
        "{} %",
        units::fixed(100.0 * ns as f64 / budget.wall_ns as f64, 2)
    )
}

/// The same figures as bars.
pub(super) fn chart(budget: &Budget) -> Result<String, ChartError> {
    let bars: Vec<_> = budget_parts(budget)
        .into_iter()
        .map(|(name, ns)| Bar {
            label: name.to_owned(),
            value: ns.unwrap_or(0) as f64,
            interval: None,
            text: ns.shown(|ns| {
                format!(
                    "{} s, {}",
                    units::fixed(ns as f64 / 1e9, 3),
                    budget_share(ns, budget)
                )
            }),
        })
        .collect();
    charts::time_budget(&bars)
}
