//! Programs side by side: what each did, and the ratios between them.

use std::iter;

use metrics::figures::{Figure, MetricKind, Ratio};
use metrics::record::Start;
use metrics::sets::{Arm, ArmComparison, Process, Set, Summary};

use super::{NONE, or_none, percent};
use crate::markdown::{Align, escape, table};
use crate::units::{self, NOT_MEASURED};
use crate::view::{memory_counter, program, uses_mlx};

/// A figure as a reader calls it.
pub fn figure(figure: Figure) -> String {
    match figure {
        Figure::IterationRate => "Training (it/s)".to_owned(),
        Figure::TokenRate => "Training (tokens/s)".to_owned(),
        Figure::GraphTime => "Of a step, building its graph".to_owned(),
        Figure::DispatchTime => "Of a step, handing it to the device".to_owned(),
        Figure::WaitTime => "Of a step, waiting for the device".to_owned(),
        Figure::DecodeRate {
            prompt,
            prompt_tokens,
            generated_tokens,
        } => format!(
            "Generation (tokens/s), prompt {prompt}: {} tokens after {}",
            units::count(generated_tokens.into()),
            units::count(prompt_tokens.into())
        ),
        Figure::TimeToStep10 => "Process start to end of step 10".to_owned(),
        Figure::PeakMemory => "Peak memory".to_owned(),
        Figure::TrainingEnergy => "Training, energy of the GPU (J per 1,000 tokens)".to_owned(),
    }
}

fn value(figure: Figure, value: f64) -> String {
    let whole = value.round() as u64;
    match figure {
        Figure::GraphTime | Figure::DispatchTime | Figure::WaitTime => {
            format!("{} ms", units::milliseconds(value))
        }
        Figure::TimeToStep10 => units::duration(whole),
        Figure::PeakMemory => units::bytes(whole),
        _ => units::significant(value, 4),
    }
}

/// A ratio, with digits enough to tell 0.97 from 1.
pub fn ratio(ratio: f64) -> String {
    units::significant(ratio, 4)
}

pub fn ratio_interval(interval: Option<(f64, f64)>) -> String {
    or_none(interval, |(low, high)| {
        format!("{} to {}", ratio(low), ratio(high))
    })
}

/// The aspects in rows and the arms in columns, those that could not be measured too. `None` where
/// all arms are one program and were measured.
pub(super) fn side_by_side(set: &Set, summary: &Summary) -> Option<String> {
    let programs = summary.comparisons.iter().any(|it| it.different_programs);
    if !programs && summary.versus.unmeasured.is_empty() {
        return None;
    }
    let arms: Vec<(&Arm, &Start)> = summary
        .arms
        .iter()
        .filter_map(|arm| {
            let mut processes = set.processes.iter();
            let first = processes.find(|process| process.member.arm == arm.name)?;
            Some((arm, &*first.run.start))
        })
        .collect();
    let row = |aspect: String, cell: &dyn Fn(&Arm, &Start) -> String| -> Vec<String> {
        let measured = arms.iter().map(|(arm, start)| cell(arm, start));
        let unmeasured = summary
            .versus
            .unmeasured
            .iter()
            .map(|_| NOT_MEASURED.to_owned());
        iter::once(aspect)
            .chain(measured)
            .chain(unmeasured)
            .collect()
    };
    let not_measured = |_: &Arm, _: &Start| NOT_MEASURED.to_owned();
    let mut rows = vec![
        row("Program".to_owned(), &|_, start| program(start)),
        row("Library".to_owned(), &|_, start| library(start)),
        row("Precision".to_owned(), &|_, start| {
            escape(&start.config.dtype)
        }),
        row("Processes".to_owned(), &|arm, _| arm.runs.to_string()),
    ];
    let mut figures: Vec<Figure> = Vec::new();
    for measured in arms.iter().flat_map(|(arm, _)| &arm.figures) {
        if !figures.contains(&measured.figure) {
            figures.push(measured.figure);
        }
    }
    for always in [Figure::TimeToStep10, Figure::TrainingEnergy] {
        if !figures.contains(&always) {
            figures.push(always);
        }
    }
    figures.sort();
    for kind in figures {
        rows.push(row(figure(kind), &|arm, _| {
            let mut figures = arm.figures.iter();
            let found = figures.find(|measured| measured.figure == kind);
            found.map_or(NOT_MEASURED.to_owned(), |found| {
                let interval = or_none(found.interval, |(low, high)| {
                    format!("{} to {}", value(kind, low), value(kind, high))
                });
                format!("{} ({interval})", value(kind, found.geometric_mean))
            })
        }));
    }
    rows.extend([
        row("Peak memory is counted by".to_owned(), &|_, start| {
            escape(memory_counter(start))
        }),
        row(
            "CV of the step time between processes".to_owned(),
            &|arm, _| {
                let mut metrics = arm.metrics.iter();
                let step = metrics.find(|measured| measured.metric == MetricKind::StepTime);
                step.map_or(NOT_MEASURED.to_owned(), |step| {
                    or_none(step.spread.sd, percent)
                })
            },
        ),
        row("Set-up of the native library".to_owned(), &|_, start| {
            let setup = start.lfmark.native_setup;
            setup.map_or(NOT_MEASURED.to_owned(), |setup| {
                format!(
                    "{}, {} on disk",
                    units::duration(setup.wall_ms.saturating_mul(1_000_000)),
                    units::bytes(setup.installed_bytes)
                )
            })
        }),
        // No reader counts them, in any program.
        row("Bytes between host and device".to_owned(), &not_measured),
    ]);
    let measured = arms.iter().map(|(arm, _)| escape(&arm.name));
    let unmeasured = summary.versus.unmeasured.iter().map(|arm| escape(&arm.arm));
    let names = measured.chain(unmeasured);
    let head: Vec<String> = iter::once("Aspect".to_owned()).chain(names).collect();
    Some(super::table_of(&head, &rows))
}

/// The programs of all arms, each with its library, in the order of the arms.
pub(super) fn programs(processes: &[&Process]) -> String {
    let mut programs: Vec<String> = Vec::new();
    for process in processes {
        let start = &process.run.start;
        let text = format!("{} with {}", program(start), library(start));
        if !programs.contains(&text) {
            programs.push(text);
        }
    }
    programs.join("; ")
}

fn library(start: &Start) -> String {
    let mlx = &start.mlx;
    let parts = iter::once(&mlx.backend).chain(&mlx.blas);
    let parts: Vec<String> = parts.map(|part| escape(part)).collect();
    match uses_mlx(start) {
        true => format!("MLX {} ({})", escape(&mlx.version), parts.join(", ")),
        false => format!("no MLX ({})", parts.join(", ")),
    }
}

/// The baseline in relation to every other arm, where any of them is another program.
pub(super) fn ratios(summary: &Summary) -> Option<String> {
    let comparisons = &summary.comparisons;
    if !comparisons.iter().any(|it| it.different_programs) {
        return None;
    }
    let row = |compared: &ArmComparison, it: &Ratio| {
        let (first, second) = (escape(&compared.baseline), escape(&compared.candidate));
        [
            figure(it.figure),
            match it.inverted {
                true => format!("{second} / {first}"),
                false => format!("{first} / {second}"),
            },
            format!("{} + {}", it.baseline_runs, it.other_runs),
            ratio(it.ratio),
            ratio_interval(it.interval),
            match it.excludes_one {
                Some(true) => "yes".to_owned(),
                Some(false) => "no".to_owned(),
                None if it.interval.is_some() => "void".to_owned(),
                None => NONE.to_owned(),
            },
            ratio(it.of_medians),
        ]
    };
    let rows = comparisons
        .iter()
        .flat_map(|compared| compared.ratios.iter().map(move |it| row(compared, it)));
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then(|| {
        table(
            [
                ("Figure", Align::Left),
                ("Ratio of", Align::Left),
                ("Runs", Align::Right),
                ("Ratio", Align::Right),
                ("95 % interval", Align::Right),
                ("Interval excludes 1", Align::Left),
                ("Of medians", Align::Right),
            ],
            &rows,
        )
    })
}
