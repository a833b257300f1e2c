//! `lfmark versus`: lfmark and other programs at the same work, in turn, in fresh processes.
//!
//! The work is exported twice. A short one without dropout shows that all arms do the same: their
//! losses have to agree. The other is the one that is timed. Everything runs in processes of its
//! own, so that this one holds neither memory nor threads of MLX beside them.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use metrics::{
    clock::SystemClock,
    comparison::Verdict,
    sets::{self, Agreement, SameWork, Unmeasured, Versus},
    store::{self, Record},
};
use model::load::EMBEDDED;

use super::run as single;
use crate::{
    args::{Output, Presentation, VersusArgs},
    exit::Failure,
    options::Options,
    output,
};

/// Folder of the arms' files in the repository, which this command is started in.
const PEERS: &str = "peers";

/// Iterations whose losses are compared.
const CHECKED_ITERATIONS: u32 = 20;

/// A rate at which the loss falls within so few iterations: at the default one, two optimizers
/// would look alike.
const CHECKED_LEARNING_RATE: f64 = 1e-3;

/// Largest relative difference between the losses of one iteration, which are f32 in any type. Two
/// BLAS libraries differ by 1e-6. In 16 bits programs round activations in different places, which
/// may move a loss by up to two spacings of the type's numbers near 1: little enough to find a
/// learning rate that is a quarter off.
fn tolerance(dtype: &str) -> f64 {
    match dtype {
        "bf16" => 2.0 * 2.0_f64.powi(-7),
        "f16" => 2.0 * 2.0_f64.powi(-10),
        _ => 1e-3,
    }
}

pub(crate) fn run(args: VersusArgs, output: Output, mut clock: SystemClock) -> Result<(), Failure> {
    let file = args.config.as_deref().map(Options::read).transpose()?;
    let options = args.options.or(file.unwrap_or_default());
    options.clone().resolve()?;
    let mut arms = Vec::new();
    let mut unmeasured = Vec::new();
    for name in &args.arms {
        match arm(name)? {
            Ok(path) => arms.push(path),
            Err(why) => {
                output::message(output.quiet, &format!("{name}: not measured ({why})"));
                unmeasured.push(Unmeasured {
                    arm: name.clone(),
                    why,
                });
            }
        }
    }
    if arms.len() < 2 {
        return Err(Failure::Usage(format!(
            "of the arms {} only {} can be measured here; `cargo xtask peers` installs the others",
            args.arms.join(", "),
            arms.len()
        )));
    }
    // For their errors, before anything is written.
    super::repeats::arms(&arms, &options)?;
    let dir = match args.output {
        Some(dir) => dir,
        None => {
            let model = options.model.as_deref().unwrap_or(EMBEDDED);
            single::default_folder(model, "versus", single::started_unix_ms(&mut clock))
        }
    };
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;

    let checked = Options {
        iterations: Some(CHECKED_ITERATIONS),
        windows: None,
        lora_dropout: Some(0.0),
        learning_rate: Some(CHECKED_LEARNING_RATE),
        no_generation: Some(true),
        ..options.clone()
    };
    output::message(output.quiet, "exporting the work");
    let model = options.model.as_deref().unwrap_or(EMBEDDED);
    // Records call the exported model as its folder.
    let model = Path::new(model).file_name().unwrap_or_default();
    let settings = export(&checked, &dir.join("check-work"), model)?;
    let mut checking = processes(&settings, &arms, &dir.join("check"), 1, Some(0))?;
    succeed(checking.stdout(Stdio::null()))?;
    let (same_work, wired) = check(&dir.join("check"))?;
    for agreement in &same_work.arms {
        output::message(output.quiet, &sentence(&same_work, agreement));
    }
    if let Some(note) = unlike_wiring(&wired) {
        output::message(output.quiet, &note);
    }

    let settings = export(&options, &dir.join("work"), model)?;
    let runs = dir.join("runs");
    let mut timed = processes(&settings, &arms, &runs, args.repeats, args.cool_down_limit)?;
    if args.cold {
        timed.arg("--cold");
    }
    let versus = Versus {
        unmeasured,
        same_work: Some(same_work),
    };
    timed.arg("--versus").arg(serde_json::to_string(&versus)?);
    if output.json {
        timed.stdout(Stdio::null());
    }
    succeed(&mut timed)?;
    match output.json {
        // Its report is made from the records, so it can be made once more.
        true => super::repeats::report(&runs, &runs, None, &Presentation::default(), output),
        false => Ok(()),
    }
}

/// The file of an arm, or why it is not measured: its program is not installed.
///
/// # Errors
///
/// There is no such arm.
fn arm(name: &str) -> Result<Result<PathBuf, String>, Failure> {
    let path = Path::new(PEERS).join(format!("{name}.toml"));
    let text = fs::read_to_string(&path).map_err(|error| {
        Failure::Usage(format!(
            "the arm {name} is the file {}, which cannot be read ({error}); start this command in \
             lfmark's repository",
            path.display()
        ))
    })?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    Ok(match table.get("program").and_then(toml::Value::as_str) {
        Some(program) if !Path::new(program).is_file() => Err(format!(
            "there is no {program}; `cargo xtask peers` installs it"
        )),
        _ => Ok(path),
    })
}

/// Exports the work of these settings, and gives the file of settings to run it with.
pub(crate) fn export(options: &Options, dir: &Path, model: &OsStr) -> anyhow::Result<PathBuf> {
    let settings = dir.join("settings.toml");
    let to = &dir.join(model);
    let text = toml::to_string(options).context("cannot write settings as TOML")?;
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(&settings, text))
        .with_context(|| format!("cannot write {}", settings.display()))?;
    let mut command = this_program()?;
    command
        .args(["export", "--quiet", "--config"])
        .arg(&settings);
    command.arg("--output").arg(to).stdout(Stdio::null());
    succeed(&mut command)?;
    Ok(to.join("run.toml"))
}

/// The command that runs every arm this often, in turn.
fn processes(
    settings: &Path,
    arms: &[PathBuf],
    to: &Path,
    repeats: u32,
    cool_down_limit: Option<u32>,
) -> anyhow::Result<Command> {
    let mut command = this_program()?;
    command.args(["run", "--config"]).arg(settings);
    for arm in arms {
        command.arg("--arm").arg(arm);
    }
    command.arg("--repeats").arg(repeats.to_string());
    if let Some(seconds) = cool_down_limit {
        command.arg("--cool-down-limit").arg(seconds.to_string());
    }
    command.arg("--output").arg(to);
    Ok(command)
}

fn this_program() -> anyhow::Result<Command> {
    Ok(Command::new(
        env::current_exe().context("cannot find the file of this program")?,
    ))
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .context("cannot start this program again")?;
    if !status.success() {
        bail!("a part did not succeed; see above");
    }
    Ok(())
}

/// Compares every arm with the first one, and gives what each has wired for Metal.
///
/// # Errors
///
/// Arms that did not do the same work, or whose losses do not agree.
fn check(dir: &Path) -> Result<(SameWork, Vec<(String, String)>), Failure> {
    let set = sets::read(dir)?;
    for compared in sets::summarize(&set, None).comparisons {
        if let Verdict::NotComparable { why } = compared.comparison.verdict {
            return Err(Failure::NotComparable(format!("not the same work: {why}")));
        }
    }
    let mut records = Vec::new();
    for process in &set.processes {
        let record = store::read(&dir.join(&process.run.name))?;
        records.push((process.member.arm.clone(), record));
    }
    let wired = records
        .iter()
        .map(|(arm, record)| (arm.clone(), record.start.wired().to_owned()));
    let wired = wired.collect();
    let mut records = records.into_iter();
    let (baseline, first) = records.next().expect("a set has processes");
    let mut same_work = SameWork {
        iterations: CHECKED_ITERATIONS,
        tolerance: tolerance(&first.start.config.dtype),
        baseline,
        arms: Vec::new(),
    };
    for (arm, record) in records {
        let agreement = Agreement {
            loss_difference: largest_loss_difference(&first, &record),
            arm,
        };
        let difference = agreement.loss_difference;
        // Not a number where a loss was none.
        if difference.is_nan() || difference > same_work.tolerance {
            return Err(Failure::NotComparable(format!(
                "{}; that is more than rounding makes, so nothing was timed; the records are in {}",
                sentence(&same_work, &agreement),
                dir.display()
            )));
        }
        same_work.arms.push(agreement);
    }
    Ok((same_work, wired))
}

/// Says of arms, with the limit of each, that they do not wire alike.
fn unlike_wiring(wired: &[(String, String)]) -> Option<String> {
    let (_, first) = wired.first()?;
    wired.iter().find(|(_, limit)| limit != first)?;
    let arms: Vec<String> = wired
        .iter()
        .map(|(arm, limit)| format!("{arm} {limit}"))
        .collect();
    Some(format!(
        "note: the arms differ in the memory that Metal keeps resident ({}), which mlx-lm sets by \
         itself; --wired recommended does the same in lfmark",
        arms.join(", ")
    ))
}

fn sentence(same_work: &SameWork, agreement: &Agreement) -> String {
    format!(
        "{} and {}: same work; over {} iterations without dropout their losses differ by at most \
         {:.1e}, relative (tolerance {:.1e})",
        agreement.arm,
        same_work.baseline,
        same_work.iterations,
        agreement.loss_difference,
        same_work.tolerance
    )
}

/// Over the iterations of both; not a number where one has a loss that is none, or no iteration.
fn largest_loss_difference(first: &Record, second: &Record) -> f64 {
    let losses = |record: &Record| -> Vec<f64> {
        let loss = |loss: Option<f32>| loss.map_or(f64::NAN, f64::from);
        record.iterations.iter().map(|it| loss(it.loss)).collect()
    };
    let (first, second) = (losses(first), losses(second));
    if first.is_empty() || first.len() != second.len() {
        return f64::NAN;
    }
    let pairs = first.iter().zip(&second);
    let differences = pairs.map(|(a, b)| (a - b).abs() / a.abs().max(b.abs()));
    // `f64::max` would pass over what is not a number.
    differences.fold(0.0, |most, next| match next.is_nan() || most.is_nan() {
        true => f64::NAN,
        false => most.max(next),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_that_wire_otherwise_are_named() {
        let arms = |limits: &[&str]| -> Vec<(String, String)> {
            let limits = limits.iter().enumerate();
            limits
                .map(|(arm, limit)| (format!("arm-{arm}"), (*limit).to_owned()))
                .collect()
        };
        assert_eq!(unlike_wiring(&arms(&["off", "off"])), None);
        assert_eq!(unlike_wiring(&[]), None);
        let note = unlike_wiring(&arms(&["off", "recommended"])).unwrap();
        assert!(note.contains("(arm-0 off, arm-1 recommended)"), "{note}");
    }
}
