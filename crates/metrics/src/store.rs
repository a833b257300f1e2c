//! The run folder: appending to a record while the run goes on, and reading it back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::record::{
    Counters, Effect, End, Event, Generation, Iteration, MachineState, Phase, SCHEMA, Schema,
    Sensors, Start,
};
use crate::window;

/// Name of the record in its run folder.
pub const FILE_NAME: &str = "record.jsonl";

/// Devices that `config.device` can name.
const DEVICES: [&str; 2] = ["cpu", "gpu"];

/// A record that is being written.
///
/// Every event goes to the operating system at once, so that a killed process loses at most
/// the line it was writing.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
}

impl Writer {
    /// Creates the run folder `dir` where it does not exist, and begins its record.
    ///
    /// A record that is there already is never overwritten. A device or pipe in its place is
    /// written to.
    pub fn create(dir: &Path, start: &Start) -> Result<Self, StoreError> {
        prepare(dir)?;
        let path = dir.join(FILE_NAME);
        let file = match open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Exists { path });
            }
            Err(error) => return Err(StoreError::Create { path, error }),
        };
        let mut writer = Self { file, path };
        let begun = writer.append(&Event::Start(Box::new(start.clone())));
        if begun.is_err() && writer.path.is_file() {
            // A record of nothing would only be in the way of the next run.
            let _ = fs::remove_file(&writer.path);
        }
        begun.map(|()| writer)
    }

    /// Appends one event as one line.
    pub fn append(&mut self, event: &Event) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(event).map_err(|error| self.error(error.into()))?;
        line.push(b'\n');
        write_whole(&mut self.file, &line, |file, line| file.write_all(line))
            .map_err(|error| self.error(error))
    }

    /// Path of the record.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, error: io::Error) -> StoreError {
        let path = self.path.clone();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
            _ => StoreError::Append { path, error },
        }
    }
}

/// Creates the run folder, and refuses one that has a record: what can be known before a run has
/// cost any time.
pub fn prepare(dir: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(dir).map_err(|error| StoreError::Folder {
        path: dir.to_owned(),
        error,
    })?;
    let path = dir.join(FILE_NAME);
    match path.is_file() {
        true => Err(StoreError::Exists { path }),
        false => Ok(()),
    }
}

/// Writes a line, or takes back the part of it that was written.
///
/// Half a line in the middle would make the record unreadable, should a later write succeed.
fn write_whole(
    file: &mut File,
    line: &[u8],
    write: impl FnOnce(&mut File, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let before = file.metadata().ok().filter(fs::Metadata::is_file);
    write(file, line).inspect_err(|_| {
        // Where even this fails, the error to report is still the first.
        if let Some(before) = before {
            let _ = file.set_len(before.len());
        }
    })
}

/// Opens a new file to append to, or a device or pipe that is there.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.append(true);
    let new = options.clone().create_new(true).open(path);
    match (&new, fs::metadata(path)) {
        (Err(error), Ok(existing))
            if error.kind() == io::ErrorKind::AlreadyExists
                && !existing.is_file()
                && !existing.is_dir() =>
        {
            options.open(path)
        }
        _ => new,
    }
}

/// Why a record could not be written. The messages hold their causes, which are no sources.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot create the run folder {path}: {error}; choose another output folder")]
    Folder { path: PathBuf, error: io::Error },
    #[error(
        "{path} exists already and is not overwritten; choose another output folder or move it away"
    )]
    Exists { path: PathBuf },
    #[error("cannot create {path}: {error}; choose an output folder that can be written to")]
    Create { path: PathBuf, error: io::Error },
    #[error(
        "no space left to write {path}; free some space or choose an output folder on another \
         disk (what was written before stays readable)"
    )]
    Full { path: PathBuf },
    #[error(
        "cannot write to {path}: {error}; check its disk and the limits set on files (what \
         was written before stays readable)"
    )]
    Append { path: PathBuf, error: io::Error },
}

/// A whole record, sorted by kind of event; within a kind in the order it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub start: Start,
    pub phases: Vec<Phase>,
    /// Numbered from 1 without a gap.
    pub iterations: Vec<Iteration>,
    pub generations: Vec<Generation>,
    /// `None` where it was not read.
    pub effect: Option<Effect>,
    pub states: Vec<MachineState>,
    /// In the order of time.
    pub sensors: Vec<Sensors>,
    /// In the order of time.
    pub counters: Vec<Counters>,
    /// `None` for a run that was cut off.
    pub end: Option<End>,
    /// What had to be left out when reading, one sentence each.
    pub notices: Vec<String>,
}

impl Record {
    /// End of the latest event, in nanoseconds since process start: the best lower bound of the
    /// wall time of a run that was cut off. 0 where there is none.
    pub fn latest_ns(&self) -> u64 {
        let phases = self
            .phases
            .iter()
            .map(|it| it.start_ns.saturating_add(it.wall_ns));
        let iterations = self.iterations.iter().map(Iteration::end_ns);
        let generations = self
            .generations
            .iter()
            .map(|it| it.start_ns.saturating_add(it.wall_ns));
        let effect = self.effect.iter();
        let effect = effect.map(|it| it.start_ns.saturating_add(it.wall_ns));
        let states = self.states.iter().map(|state| state.at_ns);
        let sensors = self.sensors.iter().map(|sensors| sensors.at_ns);
        let counters = self.counters.iter().map(|counters| counters.at_ns);
        phases
            .chain(iterations)
            .chain(generations)
            .chain(effect)
            .chain(states)
            .chain(sensors)
            .chain(counters)
            .max()
            .unwrap_or(0)
    }
}

/// Reads the record at `path`, which is the file itself or its run folder.
///
/// Only a regular file is read: a device may never end.
pub fn read(path: &Path) -> Result<Record, ReadError> {
    let file = if path.is_dir() {
        path.join(FILE_NAME)
    } else {
        path.to_owned()
    };
    let regular = fs::metadata(&file).and_then(|found| match found.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("not a regular file")),
    });
    match regular.and_then(|()| fs::read(&file)) {
        Ok(bytes) => parse_bytes(&bytes).map_err(|error| ReadError::Record { path: file, error }),
        Err(error) => Err(ReadError::File { path: file, error }),
    }
}

/// Parses the text of a record.
pub fn parse(text: &str) -> Result<Record, ParseError> {
    parse_bytes(text.as_bytes())
}

/// Why a record could not be read. The messages hold their causes, which are no sources.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("cannot read {path}: {error}; name a run folder, or the {FILE_NAME} inside it")]
    File { path: PathBuf, error: io::Error },
    #[error("{path}: {error}")]
    Record { path: PathBuf, error: ParseError },
}

/// What is wrong with the text of a record. Lines are counted from 1.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ParseError {
    #[error("the record is empty: the run ended before it began; delete the folder and run again")]
    Empty,
    #[error(
        "the record's only line is cut off: the run ended before it began; delete the folder and \
         run again"
    )]
    NoCompleteLine,
    #[error("line 1 is not the start of a record: {reason}; is this a {FILE_NAME} of lfmark?")]
    NoStart { reason: String },
    #[error(
        "the record was written with schema {}.{}, and this build reads schema {} up to {}.{}; use \
         a version of lfmark that reads schema {}.{}",
        found.major, found.minor,
        SCHEMA.major, SCHEMA.major, SCHEMA.minor,
        found.major, found.minor
    )]
    Schema { found: Schema },
    #[error("line 1 has windows that cannot be: {0}")]
    Windows(String),
    #[error("line 1 has thresholds that cannot be: {0}; restore the file")]
    Rules(String),
    #[error("line {line} is broken: {reason}; restore the file, or delete that line")]
    Line { line: usize, reason: String },
    #[error("line {line} does not fit the lines before it: {reason}; restore the file")]
    Order { line: usize, reason: String },
}

fn parse_bytes(bytes: &[u8]) -> Result<Record, ParseError> {
    if bytes.is_empty() {
        return Err(ParseError::Empty);
    }
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    let mut notices = Vec::new();
    // A line in flight when the process died has no line feed. Half an object is never valid
    // JSON, so that a last line that merely lost its line feed is kept.
    if let Some(last) = lines.last()
        && !last.ends_with(b"\n")
        && serde_json::from_slice::<serde::de::IgnoredAny>(last).is_err()
    {
        notices.push(format!(
            "line {} was cut off when the run stopped and is left out",
            lines.len()
        ));
        lines.pop();
    }
    let (first, rest) = lines.split_first().ok_or(ParseError::NoCompleteLine)?;
    let start = parse_start(first)?;
    if !DEVICES.contains(&start.config.device.as_str()) {
        notices.push(format!(
            "the device `{}` is none that this build knows ({}), and nothing is assumed about it",
            start.config.device,
            DEVICES.join(", ")
        ));
    }
    let mut record = Record {
        start,
        phases: Vec::new(),
        iterations: Vec::new(),
        generations: Vec::new(),
        effect: None,
        states: Vec::new(),
        sensors: Vec::new(),
        counters: Vec::new(),
        end: None,
        notices,
    };
    for (index, line) in rest.iter().enumerate() {
        let line_number = index + 2;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let event = serde_json::from_slice(line).map_err(|error| ParseError::Line {
            line: line_number,
            reason: error_text(&error),
        })?;
        add(&mut record, event).map_err(|reason| ParseError::Order {
            line: line_number,
            reason,
        })?;
    }
    Ok(record)
}

/// Parses the first line, its schema before anything that depends on it.
fn parse_start(line: &[u8]) -> Result<Start, ParseError> {
    #[derive(Deserialize)]
    struct Header {
        event: String,
        schema: Option<Schema>,
    }
    let no_start = |reason: String| ParseError::NoStart { reason };
    let header: Header =
        serde_json::from_slice(line).map_err(|error| no_start(error_text(&error)))?;
    if header.event != "start" {
        return Err(no_start(format!("it holds the event `{}`", header.event)));
    }
    let found = header
        .schema
        .ok_or_else(|| no_start("it names no schema".to_owned()))?;
    if found.major != SCHEMA.major || found.minor > SCHEMA.minor {
        return Err(ParseError::Schema { found });
    }
    let start = match serde_json::from_slice(line) {
        Ok(Event::Start(start)) => *start,
        Ok(_) => return Err(no_start("it holds another event".to_owned())),
        Err(error) => return Err(no_start(error_text(&error))),
    };
    window::validate(&start.config.windows, start.config.iterations)
        .map_err(|error| ParseError::Windows(error.to_string()))?;
    if let Some(rules) = &start.rules {
        let checked = rules.validate();
        checked.map_err(|error| ParseError::Rules(error.to_string()))?;
    }
    Ok(start)
}

/// Adds an event that has to fit the ones before it.
fn add(record: &mut Record, event: Event) -> Result<(), String> {
    if record.end.is_some() {
        return Err("the record has ended already".to_owned());
    }
    let (begins, ends) = span(&event)?;
    match event {
        Event::Start(_) => return Err("it starts a second record".to_owned()),
        Event::Phase(phase) => record.phases.push(phase),
        Event::Iteration(iteration) => {
            let last = record.iterations.last();
            let expected = last.map_or(1, |last| u64::from(last.iteration) + 1);
            if u64::from(iteration.iteration) != expected {
                return Err(format!(
                    "iteration {} stands where {expected} has to follow",
                    iteration.iteration
                ));
            }
            let not_before = last.map_or(0, Iteration::end_ns);
            if begins < not_before {
                return Err(format!(
                    "iteration {expected} starts at {begins} ns, before the one that precedes it \
                     ended ({not_before} ns)"
                ));
            }
            record.iterations.push(iteration);
        }
        Event::Generation(generation) => {
            let (tokens, times) = (generation.token_ids.len(), generation.token_ns.len());
            if times != tokens.saturating_sub(1) {
                return Err(format!(
                    "{tokens} generated tokens need {} times between them, not {times}",
                    tokens.saturating_sub(1)
                ));
            }
            record.generations.push(generation);
        }
        Event::Effect(effect) => {
            if record.effect.is_some() {
                return Err("the effect of training stands there already".to_owned());
            }
            record.effect = Some(effect);
        }
        Event::MachineState(state) => record.states.push(state),
        Event::Sensors(sensors) => {
            if let Some(last) = record.sensors.last()
                && begins < last.at_ns
            {
                return Err(format!(
                    "sensors were read at {begins} ns, before the reading that precedes it ({} ns)",
                    last.at_ns
                ));
            }
            record.sensors.push(sensors);
        }
        Event::Counters(counters) => {
            let done = record.iterations.len() as u64;
            if u64::from(counters.iterations) != done {
                return Err(format!(
                    "counters are of {} iterations, and {done} stand before them",
                    counters.iterations
                ));
            }
            record.counters.push(counters);
        }
        Event::End(end) => {
            let latest = record.latest_ns();
            if ends < latest {
                return Err(format!(
                    "the run ends at {ends} ns, before its last event did ({latest} ns)"
                ));
            }
            record.end = Some(end);
        }
    }
    Ok(())
}

/// When an event began and ended, in nanoseconds since process start.
fn span(event: &Event) -> Result<(u64, u64), String> {
    let lasting = |start: u64, parts: &[u64]| {
        let end = parts.iter().try_fold(start, |sum, &ns| sum.checked_add(ns));
        end.map(|end| (start, end))
            .ok_or_else(|| format!("its times add up to more than {} ns", u64::MAX))
    };
    match event {
        Event::Start(_) => Ok((0, 0)),
        Event::Phase(it) => lasting(it.start_ns, &[it.wall_ns]),
        Event::Iteration(it) => lasting(it.start_ns, &[it.data_ns, it.step_ns]),
        Event::Generation(it) => {
            lasting(it.start_ns, &[it.wall_ns])?;
            // The parts are summed elsewhere.
            lasting(it.first_token_ns, &it.token_ns)
                .map(|_| (it.start_ns, it.start_ns + it.wall_ns))
        }
        Event::Effect(it) => lasting(it.start_ns, &[it.wall_ns]),
        Event::MachineState(it) => Ok((it.at_ns, it.at_ns)),
        Event::Sensors(it) => Ok((it.at_ns, it.at_ns)),
        Event::Counters(it) => Ok((it.at_ns, it.at_ns)),
        Event::End(it) => Ok((it.wall_ns, it.wall_ns)),
    }
}

/// The error with its column; the line is the record's own.
fn error_text(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((reason, _)) if error.column() > 0 => format!("{reason} (column {})", error.column()),
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{PhaseKind, Status};
    use crate::testing::{generation, iteration, start, text};

    fn start_event() -> Event {
        Event::Start(Box::new(start()))
    }

    fn end_event() -> Event {
        Event::End(End {
            status: Status::Complete,
            reason: None,
            wall_ns: 40_000,
        })
    }

    fn all_events() -> Vec<Event> {
        vec![
            start_event(),
            Event::Phase(Phase {
                phase: PhaseKind::Setup,
                start_ns: 0,
                wall_ns: 9000,
            }),
            Event::Iteration(iteration(1)),
            Event::MachineState(MachineState {
                at_ns: 11_000,
                load_milli: Some(360),
                ..MachineState::default()
            }),
            Event::Iteration(Iteration {
                loss: Some(f32::NAN),
                ..iteration(2)
            }),
            Event::Generation(generation(400, &[100, 110])),
            end_event(),
        ]
    }

    /// Parses the text of a record: the error as its user reads it.
    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("reports/run");
        let mut writer = Writer::create(&run, &start()).unwrap();
        for (index, event) in all_events()[1..].iter().enumerate() {
            writer.append(event).unwrap();
            // Nothing waits in a buffer: every event is there before the next one.
            assert_eq!(
                fs::read_to_string(writer.path()).unwrap().lines().count(),
                index + 2
            );
        }

        let record = read(&run).unwrap();
        let nan_became_null = Iteration {
            loss: None,
            ..iteration(2)
        };
        assert_eq!(record.start, start());
        assert_eq!(record.phases.len(), 1);
        assert_eq!(record.iterations, [iteration(1), nan_became_null]);
        assert_eq!(record.generations, [generation(400, &[100, 110])]);
        assert_eq!(record.states[0].load_milli, Some(360));
        assert_eq!(record.end.as_ref().unwrap().status, Status::Complete);
        assert_eq!(record.notices, [""; 0]);
        assert_eq!(read(writer.path()).unwrap(), record);
    }

    #[test]
    fn floats_survive_the_record_bit_for_bit() {
        let mut expected = start();
        expected.config.optimizer.learning_rate = 0.1 + 0.2;
        expected.config.lora.scale = 2.0 / 3.0;
        let losses = [1.0e-45_f32, 0.1, 8.402_612, f32::MAX];
        let mut events = vec![Event::Start(Box::new(expected.clone()))];
        events.extend((1..).zip(losses).map(|(n, loss)| {
            Event::Iteration(Iteration {
                loss: Some(loss),
                ..iteration(n)
            })
        }));
        let record = parse(&text(&events)).unwrap();
        assert_eq!(record.start, expected);
        let read: Vec<f32> = record.iterations.iter().filter_map(|it| it.loss).collect();
        assert_eq!(read, losses);
    }

    #[test]
    fn a_record_cut_anywhere_holds_what_was_complete() {
        let text = text(&all_events());
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        for length in 0..=text.len() {
            let complete = ends.iter().filter(|&&end| end <= length).count();
            let cut = length > 0 && !ends.contains(&length) && !ends.contains(&(length - 1));
            match parse_bytes(&text.as_bytes()[..length]) {
                Ok(record) => {
                    let read = 1
                        + record.phases.len()
                        + record.iterations.len()
                        + record.generations.len()
                        + record.states.len()
                        + usize::from(record.end.is_some());
                    assert_eq!(read, complete, "at byte {length}");
                    let notice = format!(
                        "line {} was cut off when the run stopped and is left out",
                        complete + 1
                    );
                    let expected = if cut { vec![notice] } else { Vec::new() };
                    assert_eq!(record.notices, expected);
                }
                Err(ParseError::Empty) => assert_eq!(length, 0),
                Err(ParseError::NoCompleteLine) => assert_eq!(complete, 0),
                Err(error) => panic!("at byte {length}: {error}"),
            }
        }
    }

    #[test]
    fn an_existing_record_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        drop(Writer::create(folder.path(), &start()).unwrap());
        let before = fs::read(folder.path().join(FILE_NAME)).unwrap();

        let error = Writer::create(folder.path(), &start()).unwrap_err();
        let expected = format!(
            "{} exists already and is not overwritten; choose another output folder or move it \
             away",
            folder.path().join(FILE_NAME).display()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(fs::read(folder.path().join(FILE_NAME)).unwrap(), before);
    }

    #[test]
    fn a_run_folder_under_a_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        let run = file.join("run");
        let error = Writer::create(&run, &start()).unwrap_err().to_string();
        let expected = format!("cannot create the run folder {}: ", run.display());
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.ends_with("; choose another output folder"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let error = Writer::create(folder.path(), &start()).unwrap_err();
        let expected = format!(
            "no space left to write {}; free some space or choose an output folder on another \
             disk (what was written before stays readable)",
            path.display()
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_half_written_line_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(folder.path(), &start()).unwrap();
        let full = write_whole(&mut writer.file, b"{\"event\":\"end\"", |file, line| {
            file.write_all(&line[..5])?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
        writer.append(&end_event()).unwrap();
        let record = read(folder.path()).unwrap();
        assert!(record.end.is_some() && record.notices.is_empty());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        let expected = format!("cannot read {}: ", folder.path().join(FILE_NAME).display());
        assert!(error.starts_with(&expected), "{error}");
        assert!(
            error.ends_with("; name a run folder, or the record.jsonl inside it"),
            "{error}"
        );
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, text(&[start_event()]) + "{\n").unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        let expected = format!("{}: line 2 is broken: ", path.display());
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn a_record_without_a_start_is_an_error() {
        check_error(
            "",
            "the record is empty: the run ended before it began; delete the folder and run again",
        );
        check_error(
            "{\"event\":\"start\",\"sch",
            "the record's only line is cut off: the run ended before it began; delete the folder \
             and run again",
        );
        check_error(
            &text(&[end_event()]),
            "line 1 is not the start of a record: it holds the event `end`; is this a \
             record.jsonl of lfmark?",
        );
        check_error(
            "{\"event\":\"start\"}\n",
            "line 1 is not the start of a record: it names no schema; is this a record.jsonl of \
             lfmark?",
        );
        check_error(
            "# Report\n",
            "line 1 is not the start of a record: expected value (column 1); is this a \
             record.jsonl of lfmark?",
        );
    }

    #[test]
    fn a_record_with_thresholds_that_cannot_be_is_refused() {
        let mut start = start();
        let rules = start.rules.get_or_insert_default();
        rules.steadiness.confidence = 95.0;
        let line = serde_json::to_string(&Event::Start(Box::new(start))).unwrap();
        let error = parse(&format!("{line}\n")).unwrap_err().to_string();
        for needle in ["line 1", "confidence", "95", "0.5"] {
            assert!(error.contains(needle), "{needle} is not in {error}");
        }
    }

    #[test]
    fn a_record_of_another_schema_is_refused_before_its_fields() {
        let newer = |major: u32, minor: u32| {
            format!("{{\"event\":\"start\",\"schema\":{{\"major\":{major},\"minor\":{minor}}}}}\n")
        };
        check_error(
            &newer(2, 0),
            "the record was written with schema 2.0, and this build reads schema 1 up to 1.4; \
             use a version of lfmark that reads schema 2.0",
        );
        check_error(
            &newer(1, 7),
            "the record was written with schema 1.7, and this build reads schema 1 up to 1.4; \
             use a version of lfmark that reads schema 1.7",
        );
    }

    #[test]
    fn numbers_that_cannot_be_are_errors() {
        let with = |name: &str, number: &str| {
            let text = text(&[start_event(), Event::Iteration(iteration(1))]);
            let (before, after) = text.split_once(name).unwrap();
            let end = after.find([',', '}']).unwrap();
            format!("{before}{name}{number}{}", &after[end..])
        };
        let refused = |name: &str, number: &str, reason: &str| {
            let error = parse(&with(name, number)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line 2 {reason}")), "{error}");
        };
        assert!(parse(&with("\"step_ns\":", "7")).is_ok());
        let step = "\"step_ns\":";
        refused(
            step,
            "-7",
            "is broken: invalid value: integer `-7`, expected u64",
        );
        refused(
            step,
            "1e30",
            "is broken: invalid type: floating point `1e+30`, expected u64",
        );
        refused(
            step,
            "18446744073709551616",
            "is broken: invalid type: floating point",
        );
        refused(
            step,
            "18446744073709551615",
            "does not fit the lines before it: its times add up",
        );
        refused(
            "\"rows\":",
            "4294967296",
            "is broken: invalid value: integer `4294967296`",
        );
        refused(
            "\"active_bytes\":",
            "null",
            "is broken: invalid type: null, expected u64",
        );
    }

    #[test]
    fn windows_that_cannot_be_are_an_error() {
        let mut start = start();
        start.config.windows = window::parse("1-2,2-9").unwrap();
        check_error(
            &text(&[Event::Start(Box::new(start))]),
            "line 1 has windows that cannot be: window 2-9 ends past the last iteration, which \
             is 6; end it at 6 or earlier, or run at least 9 iterations",
        );
    }

    #[test]
    fn an_unknown_device_is_said() {
        let mut start = start();
        start.config.device = "npu".to_owned();
        let record = parse(&text(&[Event::Start(Box::new(start))])).unwrap();
        assert_eq!(
            record.notices,
            [
                "the device `npu` is none that this build knows (cpu, gpu), and nothing is assumed \
              about it"
            ]
        );
    }

    #[test]
    fn a_field_that_a_later_build_added_is_ignored() {
        let text = text(&[start_event(), end_event()]).replace("}\n", ",\"later\":[1]}\n");
        assert_eq!(text.matches("later").count(), 2);
        assert_eq!(parse(&text).unwrap().start, start());
    }

    #[test]
    fn a_broken_line_is_an_error_with_its_number() {
        let with = |line: &str| text(&[start_event()]) + line + "\n" + &text(&[end_event()]);
        check_error(
            &with("{\"event\":"),
            "line 2 is broken: EOF while parsing a value (column 9); restore the file, or delete \
             that line",
        );
        check_error(
            &with("{\"event\":\"coffee\"}"),
            "line 2 is broken: unknown variant `coffee`, expected one of `start`, `phase`, \
             `iteration`, `generation`, `effect`, `machine_state`, `sensors`, `counters`, `end` (column 17); restore \
             the file, or delete that line",
        );
        check_error(
            &with(""),
            "line 2 is broken: EOF while parsing a value; restore the file, or delete \
             that line",
        );
    }

    #[test]
    fn lines_that_do_not_fit_are_errors() {
        let check = |events: &[Event], line: usize, reason: &str| {
            let events = [&[start_event()], events].concat();
            check_error(
                &text(&events),
                &format!(
                    "line {line} does not fit the lines before it: {reason}; restore the file"
                ),
            );
        };
        check(&[start_event()], 2, "it starts a second record");
        check(
            &[end_event(), end_event()],
            3,
            "the record has ended already",
        );
        check(
            &[Event::Iteration(iteration(2))],
            2,
            "iteration 2 stands where 1 has to follow",
        );
        check(
            &[
                Event::Iteration(iteration(1)),
                Event::Iteration(iteration(1)),
            ],
            3,
            "iteration 1 stands where 2 has to follow",
        );
        check(
            &[
                Event::Iteration(iteration(1)),
                Event::Iteration(Iteration {
                    start_ns: 9999,
                    ..iteration(2)
                }),
            ],
            3,
            "iteration 2 starts at 9999 ns, before the one that precedes it ended (11200 ns)",
        );
        check(
            &[
                Event::Iteration(iteration(1)),
                Event::End(End {
                    status: Status::Complete,
                    reason: None,
                    wall_ns: 11_199,
                }),
            ],
            3,
            "the run ends at 11199 ns, before its last event did (11200 ns)",
        );
        let mut generation = generation(400, &[100, 110]);
        generation.token_ids.push(9);
        check(
            &[Event::Generation(generation)],
            2,
            "4 generated tokens need 3 times between them, not 2",
        );
    }
}
