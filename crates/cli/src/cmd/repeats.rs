//! `lfmark run --repeats`: fresh processes one after another, of one arm or of several in turn.
//!
//! Every process is an ordinary `lfmark run` into a folder of its own. What is known of the set is
//! in their records, so its report is made from these alone, and can be made anew.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use metrics::{
    comparison::Verdict,
    measure::SystemClock,
    noise::{FILE_NAME, Key, Noise},
    readiness::{self, ReadinessRules, Sensors},
    record::Member,
    sets::{self, Process, Set, SetError, Summary, UNMEASURED, Unmeasured},
    store,
};
use model::load::EMBEDDED;
use report::{set as words, units};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{noise, run as single};
use crate::{
    args::{Output, Presentation, RunArgs},
    exit::Failure,
    options::{Options, Thresholds},
    output,
};

/// Name of the only arm, where none is named.
const ONLY_ARM: &str = "run";

/// Folder of the arms' merged settings, within that of the set.
const ARMS: &str = "arms";

/// Environment variable in which a process is told when it was started: nanoseconds since the Unix
/// epoch, read from the wall clock just before.
pub(crate) const LAUNCHED: &str = "LFMARK_LAUNCHED_UNIX_NS";

/// Environment variables of the folders that compiled kernels are kept in: by MLX's CPU back end
/// under the folder of temporary files, by its CUDA back end, by CUDA's driver, and by the two
/// compilers of PyTorch. Metal has none.
const CACHES: [&str; 5] = [
    "TMPDIR",
    "MLX_PTX_CACHE_DIR",
    "CUDA_CACHE_PATH",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
];

pub(crate) fn run(args: RunArgs, output: Output, mut clock: SystemClock) -> Result<(), Failure> {
    args.presentation.check_set()?;
    let cool_down_limit = args.set.cool_down_limit();
    let settings = args.options.with_file(args.config.as_deref())?;
    let arms = match args.set.arms.is_empty() {
        true => vec![Arm::only(settings.clone())?],
        false => arms(&args.set.arms, &settings)?,
    };
    let given = args.set.noise.as_deref().map(noise::read).transpose()?;
    let dir = match args.output {
        Some(dir) => dir,
        None => {
            let model = settings.model.as_deref().unwrap_or(EMBEDDED);
            single::default_folder(model, "runs", single::started_unix_ms(&mut clock))
        }
    };
    let plan = SetPlan {
        arms,
        repeats: args.set.repeats.unwrap_or(1),
        cool_down_limit,
        cold: args.set.cold,
        unmeasured: args.set.unmeasured.map_or(Vec::new(), |arms| arms.0),
        dir: &dir,
    };
    run_set(plan, given, &args.presentation, output, clock).map(drop)
}

/// Runs every process of a set, and reports them; gives what was found, or nothing where not one
/// run has begun its record. Arms are judged with the noise floor that is given, or else with the
/// stored one.
///
/// # Errors
///
/// Also for a set that ended early, which has been reported then.
pub(crate) fn run_set(
    plan: SetPlan,
    given: Option<Noise>,
    presentation: &Presentation,
    output: Output,
    clock: SystemClock,
) -> Result<Option<Summary>, Failure> {
    let SetPlan { dir, cold, .. } = plan;
    let ending = measure(plan, output, clock, &mut |first| match &given {
        Some(noise) => noise
            .check(first)
            .map_err(|error| Failure::Usage(format!("--noise: {error}"))),
        None => Ok(()),
    })?;
    let Some(set) = read(dir)? else {
        return ending.result().map(|()| None);
    };
    if set.arms.len() > 1 {
        let floor = match given {
            Some(noise) => Some(noise),
            // Floors are measured with the caches as they are.
            None if cold => None,
            None => set
                .complete()
                .next()
                .and_then(|first| noise::stored(&Key::of(first), output)),
        };
        if let Some(floor) = floor {
            noise::write(&floor, &dir.join(FILE_NAME))?;
        }
    }
    let summary = report(dir, dir, None, presentation, output)?;
    ending.result().map(|()| Some(summary))
}

/// Makes the report of the set in `dir` from the records of its runs, writes it to `to`, and gives
/// what it shows.
pub(crate) fn report(
    dir: &Path,
    to: &Path,
    rules: Option<&Thresholds>,
    presentation: &Presentation,
    output: Output,
) -> Result<Summary, Failure> {
    presentation.check_set()?;
    let mut set = sets::read(dir)?;
    if let Some(thresholds) = rules {
        set.rules = thresholds.over(set.rules).map_err(Failure::Usage)?;
    }
    let noise = dir.join(FILE_NAME);
    let noise = noise.exists().then(|| noise::read(&noise)).transpose()?;
    let rendered = report::render_set(&set, noise.as_ref())?;
    output::write_set(&rendered, presentation, to)?;
    let summary = sets::summarize(&set, noise.as_ref());
    for notice in &summary.notices {
        output::message(output.quiet, &format!("note: {notice}"));
    }
    output::print(&match output.json {
        true => to_json(&summary, noise.as_ref(), to).to_string(),
        false => to_text(&summary, noise.as_ref(), to),
    })?;
    Ok(summary)
}

/// The set in a folder, or `None` where not one run has begun its record.
pub(crate) fn read(dir: &Path) -> Result<Option<Set>, Failure> {
    match sets::read(dir) {
        Ok(set) => Ok(Some(set)),
        Err(SetError::Empty { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One of the things that are compared.
pub(crate) struct Arm {
    name: String,
    /// The build of lfmark that it runs.
    program: PathBuf,
    /// Environment variables that are set for it.
    environment: BTreeMap<String, String>,
    settings: Options,
}

impl Arm {
    /// The only arm of a set.
    pub(crate) fn only(settings: Options) -> Result<Self, Failure> {
        Self::new(ONLY_ARM, None, settings)
    }

    /// An arm of this program or another build of it. The name is part of folders' names.
    pub(crate) fn new(
        name: &str,
        program: Option<PathBuf>,
        settings: Options,
    ) -> Result<Self, Failure> {
        settings.clone().resolve()?;
        let program = match program {
            None => this_program()?,
            Some(program) => checked(program).map_err(Failure::Usage)?,
        };
        Ok(Self {
            name: name.to_owned(),
            program,
            environment: BTreeMap::new(),
            settings,
        })
    }

    /// An arm from its file: settings, which go before those of the command line, the program, and
    /// its environment.
    fn read(path: &Path, others: &Options) -> Result<Self, Failure> {
        let usage = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return Err(usage(
                "an arm is called as its file, and its runs' folders after it; rename the file to \
                 letters, digits, `-`, `_` and `.`"
                    .to_owned(),
            ));
        }
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let toml = |error: toml::de::Error| usage(error.to_string().trim_end().to_owned());
        let mut table: toml::Table = toml::from_str(&text).map_err(toml)?;
        let program = match table.remove("program") {
            None => None,
            Some(toml::Value::String(program)) => Some(PathBuf::from(program)),
            Some(_) => return Err(usage("`program` is no text; name a file".to_owned())),
        };
        let environment = match table.remove("environment") {
            None => BTreeMap::new(),
            Some(variables) => BTreeMap::deserialize(variables).map_err(toml)?,
        };
        let own = Options::deserialize(toml::Value::Table(table)).map_err(toml)?;
        let arm = Self::new(&name, program, own.or(others.clone()));
        let arm = arm.map_err(|failure| match failure {
            Failure::Usage(problem) => usage(problem),
            other => other,
        })?;
        Ok(Self { environment, ..arm })
    }
}

/// The program of an arm, where it is a file or can be looked for by its name.
fn checked(program: PathBuf) -> Result<PathBuf, String> {
    match program.components().count() > 1 && !program.is_file() {
        true => Err(format!(
            "`program` is {}, and there is no such file",
            program.display()
        )),
        false => Ok(program),
    }
}

fn arms(files: &[PathBuf], others: &Options) -> Result<Vec<Arm>, Failure> {
    let mut arms: Vec<Arm> = Vec::new();
    for file in files {
        let arm = Arm::read(file, others)?;
        if arms.iter().any(|other| other.name == arm.name) {
            return Err(Failure::Usage(format!(
                "two arms are called {}; give their files different names",
                arm.name
            )));
        }
        arms.push(arm);
    }
    Ok(arms)
}

fn this_program() -> anyhow::Result<PathBuf> {
    env::current_exe().context("cannot find the file of this program")
}

/// What to run, and where.
pub(crate) struct SetPlan<'a> {
    pub(crate) arms: Vec<Arm>,
    pub(crate) repeats: u32,
    pub(crate) cool_down_limit: Duration,
    /// Whether every process gets empty folders for what is compiled.
    pub(crate) cold: bool,
    pub(crate) unmeasured: Vec<Unmeasured>,
    pub(crate) dir: &'a Path,
}

/// How the processes ended.
pub(crate) enum Ending {
    Complete,
    /// Stopped early; the sentence says why.
    Early(String),
}

impl Ending {
    pub(crate) fn result(self) -> Result<(), Failure> {
        match self {
            Self::Complete => Ok(()),
            Self::Early(sentence) => Err(Failure::Incomplete(sentence)),
        }
    }
}

/// Every process in the order of time, as an arm's index and its repeat from 1: all arms forward,
/// then all arms backward, and so on, so that a steady drift of the machine hits them alike.
fn schedule(arms: usize, repeats: u32) -> Vec<(usize, u32)> {
    let block = |repeat: u32| {
        let backward = repeat.is_multiple_of(2);
        let arm = move |index| if backward { arms - 1 - index } else { index };
        (0..arms).map(move |index| (arm(index), repeat))
    };
    (1..=repeats).flat_map(block).collect()
}

/// Runs every process. `check_first` sees the first complete one, and can refuse the rest.
pub(crate) fn measure(
    plan: SetPlan,
    output: Output,
    mut clock: SystemClock,
    check_first: &mut dyn FnMut(&Process) -> Result<(), Failure>,
) -> Result<Ending, Failure> {
    prepare(plan.dir)?;
    let mut configs = Vec::new();
    for arm in &plan.arms {
        configs.push(write_settings(arm, plan.dir)?);
    }
    if !plan.unmeasured.is_empty() {
        let path = plan.dir.join(UNMEASURED);
        fs::write(&path, Unmeasured::text(&plan.unmeasured))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let stop = Stop::on_ctrl_c()?;
    let schedule = schedule(plan.arms.len(), plan.repeats);
    let total = schedule.len();
    let digits = total.to_string().len().max(2);
    let set = set_name(plan.dir);
    let limit = plan.cool_down_limit;
    let mut sensors = Sensors::new(limit.min(Duration::from_secs(1)));
    let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    let mut before = None;
    let mut unchecked = true;
    for (index, (arm, repeat)) in schedule.into_iter().enumerate() {
        let number = index + 1;
        let Arm {
            name,
            program,
            environment,
            ..
        } = &plan.arms[arm];
        let mut silent = output.quiet;
        let waited = readiness::wait(
            before,
            &ReadinessRules::default(),
            limit_ns,
            &mut clock,
            &mut || sensors.read(),
            &|| stop.asked(),
            // Once is enough.
            &mut |unmet| {
                output::message(silent, &format!("waiting: {}", unmet.join("; ")));
                silent = true;
            },
        );
        before.get_or_insert(waited.readings);
        let interrupted =
            |done: usize| Ending::Early(format!("interrupted after {done} of {total} runs"));
        if stop.asked() {
            return Ok(interrupted(index));
        }
        output::message(
            output.quiet,
            &format!("run {number} of {total}, arm {name}"),
        );
        let folder = plan.dir.join(format!("{number:0digits$}-{name}"));
        let member = Member {
            set: set.clone(),
            arm: name.clone(),
            number: number as u32,
            repeat,
            waited_ns: waited.ns,
            unread: waited.readings.unread(),
            unmet: waited.unmet,
            empty_caches: plan.cold.then(|| CACHES.map(str::to_owned).into()),
        };
        let mut command = Command::new(program);
        command.envs(environment);
        // Kept until the process has ended.
        let caches = plan.cold.then(empty_caches).transpose()?;
        if let Some(caches) = &caches {
            command.envs(CACHES.map(|name| (name, caches.path().join(name))));
        }
        command
            .args(["run", "--config"])
            .arg(&configs[arm])
            .arg("--output")
            .arg(&folder)
            .arg("--member")
            .arg(serde_json::to_string(&member)?);
        if output.quiet {
            command.arg("--quiet");
        }
        let succeeded = stop.child(&mut command)?;
        if stop.asked() {
            return Ok(interrupted(index));
        }
        if !succeeded {
            return Ok(Ending::Early(format!(
                "run {number} of {total} (arm {name}) did not complete, and the set ends with it; \
                 what it recorded is in {}",
                folder.display()
            )));
        }
        if unchecked {
            unchecked = false;
            let record = store::read(&folder)?;
            if let Some(process) = Process::of(name, &record) {
                check_first(&process)?;
            }
        }
    }
    Ok(Ending::Complete)
}

/// A folder with an empty one in it for each of [`CACHES`], which goes when it is dropped.
fn empty_caches() -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir().context("cannot create a folder for empty caches")?;
    for name in CACHES {
        let cache = folder.path().join(name);
        fs::create_dir(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    }
    Ok(folder)
}

/// Creates the folder of a set, which must hold nothing yet.
fn prepare(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut entries =
        fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    anyhow::ensure!(
        entries.next().is_none(),
        "{} is not empty, and nothing in it is overwritten; choose another output folder",
        dir.display()
    );
    Ok(())
}

/// Writes what an arm's processes are started with.
fn write_settings(arm: &Arm, dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = dir.join(ARMS);
    let path = dir.join(format!("{}.toml", arm.name));
    let text = toml::to_string(&arm.settings).context("cannot write settings as TOML")?;
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The set as its records name it: as its folder, never by a path.
fn set_name(dir: &Path) -> String {
    let resolved = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let name = resolved.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Ctrl-C, and the process that has to hear of it.
///
/// A process of a set ends in order when the other end of its stdin is closed. So it does when
/// only this program is told to stop, and when this program dies.
struct Stop {
    asked: Arc<AtomicBool>,
    held: Arc<Mutex<Option<ChildStdin>>>,
}

impl Stop {
    fn on_ctrl_c() -> anyhow::Result<Self> {
        let stop = Self {
            asked: Arc::default(),
            held: Arc::default(),
        };
        let (asked, held) = (stop.asked.clone(), stop.held.clone());
        ctrlc::set_handler(move || {
            asked.store(true, Ordering::SeqCst);
            held.lock().unwrap_or_else(PoisonError::into_inner).take();
        })
        .context("cannot handle Ctrl-C")?;
        Ok(stop)
    }

    fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Runs a process to its end, and says whether it succeeded. Meanwhile this one sleeps.
    fn child(&self, command: &mut Command) -> anyhow::Result<bool> {
        let program = command.get_program().to_string_lossy().into_owned();
        // What it prints of its result is derived from its record, as is all that is printed here.
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let cannot = || format!("cannot start {program}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        command.env(LAUNCHED, now.unwrap_or_default().as_nanos().to_string());
        let mut child = command.spawn().with_context(cannot)?;
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            *held = child.stdin.take();
            // Asked before there was anything to close.
            if self.asked() {
                held.take();
            }
        }
        let ended = child
            .wait()
            .with_context(|| format!("cannot wait for {program}"));
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        Ok(ended?.success())
    }
}

fn to_json(summary: &Summary, noise: Option<&Noise>, dir: &Path) -> Value {
    json!({
        "set": dir.display().to_string(),
        "report": dir.join(report::REPORT).display().to_string(),
        "summary": summary,
        "noise": noise,
    })
}

/// The result of a set in a few lines.
fn to_text(summary: &Summary, noise: Option<&Noise>, dir: &Path) -> String {
    let mut lines = Vec::new();
    for compared in &summary.comparisons {
        let verdict = &compared.comparison.verdict;
        let why = match verdict {
            Verdict::Void { why } | Verdict::NotComparable { why } => format!(": {why}"),
            Verdict::Inconclusive {
                more_runs: Some(runs),
            } => format!("; {runs} more in each arm would decide"),
            _ => String::new(),
        };
        lines.push(format!(
            "{} against {}: {}{why}",
            compared.candidate,
            compared.baseline,
            words::verdict(compared)
        ));
        lines.extend(compared.comparison.metrics.iter().map(|metric| {
            format!(
                "  {:<24} {:>10}  {:>22}  threshold {:>8}  {}",
                words::named(&metric.name),
                words::change(metric.change),
                words::interval(metric.adjusted),
                words::percent(metric.threshold),
                compared.word(metric)
            )
        }));
        if compared.different_programs {
            lines.extend(compared.ratios.iter().map(|ratio| {
                format!(
                    "  {:<46} {:>10}  {}",
                    words::figure(ratio.figure),
                    words::ratio(ratio.ratio),
                    words::ratio_interval(ratio.interval)
                )
            }));
        }
    }
    lines.extend(
        summary
            .unmeasured
            .iter()
            .map(|arm| format!("{}: not measured ({})", arm.arm, arm.why)),
    );
    if let [arm] = &summary.arms[..] {
        let runs = units::count(arm.runs as u64);
        let head = format!("99 % A/A ({runs}+{runs})");
        lines.push(format!(
            "{:<24} {:>12} {:>10} {:>19} {:>20}",
            "metric", "mean", "CV", head, "minimum detectable"
        ));
        lines.extend(arm.metrics.iter().map(|measured| {
            let spread = &measured.spread;
            let or_none = |value: Option<f64>| value.map_or("none".to_owned(), words::percent);
            let floor = measured.noise.filter(|_| noise.is_some());
            format!(
                "{:<24} {:>12} {:>10} {:>19} {:>20}",
                words::name(measured.metric),
                words::value(measured.metric, spread.geometric_mean),
                or_none(spread.sd),
                or_none(floor.map(|noise| noise.difference_99(arm.runs, arm.runs))),
                or_none(spread.minimum_detectable),
            )
        }));
    }
    lines.push(format!("report  {}", dir.join(report::REPORT).display()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_take_turns_forward_and_backward() {
        let check = |arms: usize, repeats: u32, expected: &str| {
            let order = schedule(arms, repeats);
            let names: Vec<String> = order
                .iter()
                .map(|(arm, repeat)| format!("{}{repeat}", ["A", "B", "C"][*arm]))
                .collect();
            assert_eq!(names.join(" "), expected);
        };
        check(1, 3, "A1 A2 A3");
        check(2, 4, "A1 B1 B2 A2 A3 B3 B4 A4");
        check(3, 2, "A1 B1 C1 C2 B2 A2");
    }

    #[test]
    fn settings_survive_their_file() {
        let written = "model = \"lfm2-350m\"\ndtype = \"bf16\"\nlora-scale = 2.0\n\
                       lora-targets = [\"w1\"]\ncompile = \"off\"\nprompt = [\"a\", \"b\"]\n\
                       clear-cache = true\n\n[rules.comparison]\npractical = 0.05\n";
        let settings: Options = toml::from_str(written).unwrap();
        let text = toml::to_string(&settings).unwrap();
        let read: Options = toml::from_str(&text).unwrap();
        assert_eq!(format!("{read:?}"), format!("{settings:?}"));
    }
}
