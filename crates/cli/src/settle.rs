//! A machine in a state to be measured: on mains power, cool, left alone, and awake.

use std::{
    process::{self, Child, Command, Stdio},
    time::Duration,
};

use anyhow::bail;
use metrics::{
    clock::SystemClock,
    doctor,
    footprint::FootprintReader,
    machine,
    readiness::{self, ReadinessRules, Sensors},
    record::{MachineState, Settled},
};

use crate::{args::Output, output};

/// Refuses a machine that saves power, unless that is allowed; then keeps it awake and waits
/// until it is cool and other programs leave it alone.
///
/// The machine may sleep again when the second value is dropped.
pub(crate) fn settle(
    allow_low_power: bool,
    limit: Duration,
    stop: fn() -> bool,
    mut clock: SystemClock,
    output: Output,
) -> anyhow::Result<(Settled, Awake)> {
    let reader = machine::Reader::for_gpu(None);
    let state = reader.state(0, &mut FootprintReader::new());
    if !allow_low_power {
        refuse(&state)?;
    }
    let mut awake = Awake::start();
    let mut sensors = Sensors::new(limit.min(Duration::from_secs(1)));
    let mut silent = output.quiet;
    let waited = readiness::settle(
        &ReadinessRules::default(),
        u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX),
        &mut clock,
        &mut || sensors.read(),
        &stop,
        // Once is enough.
        &mut |unmet| {
            output::message(silent, &format!("waiting: {}", unmet.join("; ")));
            silent = true;
        },
    );
    for unmet in &waited.unmet {
        output::message(
            output.quiet,
            &format!("note: not waited for any longer: {unmet}"),
        );
    }
    let settled = Settled {
        waited_ns: waited.ns,
        unread: waited.readings.unread(),
        unmet: waited.unmet,
        awake_by: awake.by(),
    };
    if settled.awake_by.is_none() {
        output::message(output.quiet, "note: nothing here keeps the machine awake");
    }
    Ok((settled, awake))
}

fn refuse(state: &MachineState) -> anyhow::Result<()> {
    if state.power_source.as_deref() == Some("battery") {
        bail!(
            "the machine runs on battery; connect it to mains power, or give --allow-low-power to \
             measure it as it is"
        );
    }
    if doctor::low_power(state) {
        bail!(
            "the energy mode saves power; choose another one, or give --allow-low-power to measure \
             the machine as it is"
        );
    }
    Ok(())
}

/// A program that keeps the machine awake while it runs.
pub(crate) struct Awake(Option<(Child, &'static str)>);

impl Awake {
    fn start() -> Self {
        let name = match cfg!(target_os = "macos") {
            true => "caffeinate",
            false => "systemd-inhibit",
        };
        let mut command = Command::new(name);
        if cfg!(target_os = "macos") {
            // Neither idle sleep nor that of the disks, until this process ends.
            command.args(["-i", "-m", "-w", &process::id().to_string()]);
        } else {
            // `cat` ends with this process, whose end of the pipe is then closed.
            command.args([
                "--what=idle:sleep",
                "--who=lfmark",
                "--why=a measurement",
                "cat",
            ]);
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.ok().map(|child| (child, name)))
    }

    /// The name of the program, where it still runs: without a session to ask, it has ended.
    fn by(&mut self) -> Option<String> {
        let (child, name) = self.0.as_mut()?;
        matches!(child.try_wait(), Ok(None)).then(|| (*name).to_owned())
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_saves_power_is_refused_with_what_to_do() {
        let check = |state: MachineState, expected: Option<&str>| {
            let refused = refuse(&state).map_err(|error| error.to_string());
            match (refused, expected) {
                (Ok(()), None) => {}
                (Err(message), Some(expected)) => {
                    assert!(message.contains(expected), "{message}");
                    assert!(message.contains("--allow-low-power"), "{message}");
                }
                (refused, _) => panic!("{state:?}: {refused:?}"),
            }
        };
        check(MachineState::default(), None);
        let on = |source: &str| MachineState {
            power_source: Some(source.to_owned()),
            ..MachineState::default()
        };
        check(on("ac"), None);
        check(on("battery"), Some("runs on battery"));
        let mode = |mode| MachineState {
            power_mode: Some(mode),
            ..on("ac")
        };
        check(mode(0), None);
        check(mode(2), None);
        check(mode(1), Some("energy mode"));
        let profile = MachineState {
            power_mode_name: Some("low-power".to_owned()),
            ..on("ac")
        };
        check(profile, Some("energy mode"));
    }
}
