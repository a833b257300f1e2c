//! `lfmark run --repeats`: fresh processes one after another, of one arm or of several in turn.
//!
//! Every process is an ordinary `lfmark run` into a folder of its own. What is known of the set is
//! in their records, so its report is made from these alone, and can be made anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use metrics::{
    clock::SystemClock,
    comparison::{MetricComparison, Verdict},
    noise::{FILE_NAME, Noise},
    readiness::{self, ReadinessRules, Sensors},
    record::Member,
    sets::{self, Process, Set, SetError, Summary, VERSUS, Versus},
    store,
    summary::summarize,
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
    output, settle, whole,
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
/// compilers of PyTorch. Metal's cache has no variable: it is the system's.
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
    // Each process waits until the machine is as before the first, which this one waits for.
    let _awake = match args.set.settle {
        true => {
            let allowed = args.set.allow_low_power;
            let never = || false;
            Some(settle::settle(
                allowed,
                cool_down_limit,
                never,
                clock,
                output,
            )?)
        }
        false => None,
    };
    let plan = SetPlan {
        arms,
        repeats: args.set.repeats.unwrap_or(1),
        cool_down_limit,
        cold: args.set.cold,
        versus: args.set.versus,
        dir: &dir,
        resume: args.set.resume,
    };
    match run_set(plan, given, &args.presentation, output, clock)? {
        Some(measured) => {
            measured.print(output)?;
            measured.ending.result()
        }
        None => Ok(()),
    }
}

/// A set that was measured and reported.
pub(crate) struct Measured {
    pub(crate) summary: Summary,
    pub(crate) ending: Ending,
    noise: Option<Noise>,
    dir: PathBuf,
}

impl Measured {
    pub(crate) fn print(&self, output: Output) -> Result<(), Failure> {
        output::print(&match output.json {
            true => self.json().to_string(),
            false => output::shown(&to_text(&self.summary, self.noise.as_ref(), &self.dir)),
        })
    }

    pub(crate) fn json(&self) -> Value {
        to_json(&self.summary, self.noise.as_ref(), &self.dir)
    }
}

/// Runs every process of a set, and writes the report of it; gives what was found and how it ended,
/// or nothing where not one run has begun its record. Arms are judged with the noise floor that is
/// given, or else with the stored one.
pub(crate) fn run_set(
    plan: SetPlan,
    given: Option<Noise>,
    presentation: &Presentation,
    output: Output,
    clock: SystemClock,
) -> Result<Option<Measured>, Failure> {
    let (dir, cold) = (plan.dir, plan.cold);
    let ending = measure(plan, output, clock, &mut |first| match &given {
        Some(noise) => noise
            .check(&first.key)
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
                .first()
                .and_then(|first| noise::stored(&first.key, output)),
        };
        if let Some(floor) = floor {
            noise::write(&floor, &dir.join(FILE_NAME))?;
        }
    }
    let (summary, noise) = written(dir, dir, None, presentation, output)?;
    Ok(Some(Measured {
        summary,
        ending,
        noise,
        dir: dir.to_owned(),
    }))
}

/// Makes the report of the set in `dir` from the records of its runs, writes it to `to`, and prints
/// what it shows.
pub(crate) fn report(
    dir: &Path,
    to: &Path,
    rules: Option<&Thresholds>,
    presentation: &Presentation,
    output: Output,
) -> Result<(), Failure> {
    let (summary, noise) = written(dir, to, rules, presentation, output)?;
    output::print(&match output.json {
        true => to_json(&summary, noise.as_ref(), to).to_string(),
        false => output::shown(&to_text(&summary, noise.as_ref(), to)),
    })
}

/// Writes that report, and gives what it shows, with the noise floor that it was made with.
fn written(
    dir: &Path,
    to: &Path,
    rules: Option<&Thresholds>,
    presentation: &Presentation,
    output: Output,
) -> Result<(Summary, Option<Noise>), Failure> {
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
    Ok((summary, noise))
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
    pub(crate) name: String,
    /// The build of lfmark, or the peer, that it runs.
    pub(crate) program: PathBuf,
    /// Environment variables that are set for it.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) settings: Options,
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
    pub(crate) fn read(path: &Path, others: &Options) -> Result<Self, Failure> {
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
pub(crate) fn checked(program: PathBuf) -> Result<PathBuf, String> {
    match program.components().count() > 1 && !program.is_file() {
        true => Err(format!(
            "`program` is {}, and there is no such file",
            program.display()
        )),
        false => Ok(program),
    }
}

/// The arms of these files, which must have different names.
pub(crate) fn arms(files: &[PathBuf], others: &Options) -> Result<Vec<Arm>, Failure> {
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

pub(crate) fn this_program() -> anyhow::Result<PathBuf> {
    env::current_exe().context("cannot find the file of this program")
}

/// What to run, and where.
pub(crate) struct SetPlan<'a> {
    pub(crate) arms: Vec<Arm>,
    pub(crate) repeats: u32,
    pub(crate) cool_down_limit: Duration,
    /// Whether every process gets empty folders for what is compiled.
    pub(crate) cold: bool,
    /// What was found before.
    pub(crate) versus: Option<Versus>,
    pub(crate) dir: &'a Path,
    /// Whether the folder holds what such a plan has begun.
    pub(crate) resume: bool,
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
    clock: SystemClock,
    check_first: &mut dyn FnMut(&metrics::run::Run) -> Result<(), Failure>,
) -> Result<Ending, Failure> {
    if plan.resume && !plan.dir.is_dir() {
        return Err(Failure::Usage(format!(
            "--resume: there is no folder {}; leave --resume out to begin a set",
            plan.dir.display()
        )));
    }
    let refuse = || {
        if plan.resume {
            Ok(())
        } else {
            prepare(plan.dir)
        }
    };
    refuse()?;
    let _claim = whole::claim(plan.dir)?;
    // Another one may have been faster.
    refuse()?;
    let done = match plan.resume {
        true => Done::read(&plan)?,
        false => Done::default(),
    };
    let mut configs = Vec::new();
    for arm in &plan.arms {
        configs.push(write_settings(&arm.name, &arm.settings, plan.dir)?);
    }
    if let Some(versus) = &plan.versus {
        let path = plan.dir.join(VERSUS);
        fs::write(&path, versus.text())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let schedule = schedule(plan.arms.len(), plan.repeats);
    let left = schedule.into_iter().filter(|(arm, repeat)| {
        !done
            .complete
            .contains(&(plan.arms[*arm].name.clone(), *repeat))
    });
    let jobs = left.map(|(arm, repeat)| Job {
        arm: plan.arms[arm].name.clone(),
        program: plan.arms[arm].program.clone(),
        config: configs[arm].clone(),
        variables: plan.arms[arm].environment.clone(),
        repeat,
    });
    let jobs = Jobs {
        dir: plan.dir,
        jobs: jobs.collect(),
        first_number: done.last_number + 1,
        cool_down_limit: plan.cool_down_limit,
        cold: plan.cold,
        keep_going: false,
    };
    let mut unchecked = true;
    start(jobs, output, clock, &mut |job, folder| {
        if !std::mem::take(&mut unchecked) {
            return Ok(());
        }
        check_first(&metrics::run::Run::of(&job.arm, &store::read(folder)?))
    })
}

/// What a folder holds of the set that is to be gone on with.
#[derive(Default)]
struct Done {
    /// Arm and repeat of every complete process.
    complete: BTreeSet<(String, u32)>,
    /// The highest number of any process, complete or not.
    last_number: u32,
}

impl Done {
    /// # Errors
    ///
    /// For a folder that holds no set, or one of another plan.
    fn read(plan: &SetPlan) -> Result<Self, Failure> {
        let other = |what: String| {
            Failure::Usage(format!(
                "{} is not of this set: {what}; give the command that began it, or another folder",
                plan.dir.display()
            ))
        };
        let Some(set) = read(plan.dir)? else {
            return Err(other("no run in it has begun its record".to_owned()));
        };
        for arm in &plan.arms {
            let path = settings_file(&arm.name, plan.dir);
            let written = fs::read_to_string(&path)
                .map_err(|error| other(format!("cannot read {}: {error}", path.display())))?;
            if written != settings_text(&arm.settings)? {
                return Err(other(format!("the settings of arm {} differ", arm.name)));
            }
        }
        let mut done = Self::default();
        for Process { member, run } in &set.processes {
            if !plan.arms.iter().any(|arm| arm.name == member.arm) {
                return Err(other(format!("it has an arm {}", member.arm)));
            }
            if member.empty_caches.is_some() != plan.cold {
                return Err(other("--cold is given to one of them alone".to_owned()));
            }
            if run.is_complete() {
                done.complete.insert((member.arm.clone(), member.repeat));
            }
        }
        // By the folders, since a process may have ended before its record began.
        let entries = fs::read_dir(plan.dir).context("cannot list the set")?;
        for entry in entries {
            let name = entry.context("cannot list the set")?.file_name();
            let number = name.to_string_lossy();
            let number = number.split('-').next().and_then(|text| text.parse().ok());
            done.last_number = done.last_number.max(number.unwrap_or(0));
        }
        Ok(done)
    }
}

/// One process to start.
pub(crate) struct Job {
    pub(crate) arm: String,
    /// The build of lfmark, or the peer, that it runs.
    pub(crate) program: PathBuf,
    /// File of its settings.
    pub(crate) config: PathBuf,
    /// Set in its environment.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) repeat: u32,
}

/// Processes to start one after another.
pub(crate) struct Jobs<'a> {
    /// Holds their folders.
    pub(crate) dir: &'a Path,
    pub(crate) jobs: Vec<Job>,
    /// Place of the first one in the order of time.
    pub(crate) first_number: u32,
    pub(crate) cool_down_limit: Duration,
    /// Whether each gets empty folders for the kernels it compiles.
    pub(crate) cold: bool,
    /// Whether the others are started after one that did not complete.
    pub(crate) keep_going: bool,
}

/// Runs the processes. `on_complete` sees the folder of each complete one, and can refuse the rest.
pub(crate) fn start(
    plan: Jobs,
    output: Output,
    mut clock: SystemClock,
    on_complete: &mut dyn FnMut(&Job, &Path) -> Result<(), Failure>,
) -> Result<Ending, Failure> {
    let stop = Stop::on_ctrl_c()?;
    let total = plan.jobs.len();
    let last = plan.first_number as usize + total - 1;
    let digits = last.to_string().len().max(2);
    let set = set_name(plan.dir);
    let limit = plan.cool_down_limit;
    let mut sensors = Sensors::new(limit.min(Duration::from_secs(1)));
    let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    let mut before = None;
    let mut failed = Vec::new();
    for (index, job) in plan.jobs.iter().enumerate() {
        let number = plan.first_number + index as u32;
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
        let Job { arm, repeat, .. } = job;
        let place = index + 1;
        output::message(output.quiet, &format!("run {place} of {total}, arm {arm}"));
        let folder = plan.dir.join(format!("{number:0digits$}-{arm}"));
        let member = Member {
            set: set.clone(),
            arm: arm.clone(),
            number,
            repeat: *repeat,
            waited_ns: waited.ns,
            unread: waited.readings.unread(),
            unmet: waited.unmet,
            empty_caches: plan.cold.then(|| CACHES.map(str::to_owned).into()),
        };
        let mut command = Command::new(&job.program);
        command.envs(&job.variables);
        // Kept until the process has ended.
        let caches = plan.cold.then(empty_caches).transpose()?;
        if let Some(caches) = &caches {
            command.envs(CACHES.map(|name| (name, caches.path().join(name))));
        }
        command
            .args(["run", "--config"])
            .arg(&job.config)
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
        if succeeded {
            // Other programs write no report, and that of the set links to it.
            if !folder.join(report::REPORT).exists() {
                let record = store::read(&folder)?;
                let presentation = Presentation::default();
                output::write_report(&record, &summarize(&record), &presentation, &folder)?;
            }
            on_complete(job, &folder)?;
        } else if plan.keep_going {
            failed.push(arm.as_str());
        } else {
            return Ok(Ending::Early(format!(
                "run {place} of {total} (arm {arm}) did not complete, and the set ends with it; \
                 what it recorded is in {}",
                folder.display()
            )));
        }
    }
    Ok(match failed.is_empty() {
        true => Ending::Complete,
        false => Ending::Early(format!(
            "{} of {total} runs did not complete: {}",
            failed.len(),
            failed.join(", ")
        )),
    })
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
pub(crate) fn prepare(dir: &Path) -> anyhow::Result<()> {
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

/// File of the settings that an arm's processes are started with.
pub(crate) fn settings_file(arm: &str, dir: &Path) -> PathBuf {
    dir.join(ARMS).join(format!("{arm}.toml"))
}

/// Writes what an arm's processes are started with.
pub(crate) fn write_settings(arm: &str, settings: &Options, dir: &Path) -> anyhow::Result<PathBuf> {
    let path = settings_file(arm, dir);
    let dir = dir.join(ARMS);
    let text = settings_text(settings)?;
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn settings_text(settings: &Options) -> anyhow::Result<String> {
    toml::to_string(settings).context("cannot write settings as TOML")
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
#[derive(Clone)]
struct Stop {
    asked: Arc<AtomicBool>,
    held: Arc<Mutex<Option<ChildStdin>>>,
}

impl Stop {
    /// The same one every time: a program has one handler.
    fn on_ctrl_c() -> anyhow::Result<Self> {
        static ONLY: OnceLock<Stop> = OnceLock::new();
        if let Some(stop) = ONLY.get() {
            return Ok(stop.clone());
        }
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
        Ok(ONLY.get_or_init(|| stop).clone())
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
            } if compared
                .comparison
                .metrics
                .iter()
                .any(MetricComparison::has_single_run) =>
            {
                format!("; a test needs {runs} more in each arm to begin")
            }
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
            .versus
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
