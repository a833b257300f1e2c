//! `lfmark noise`: how far identical runs lie apart on this machine, measured and stored.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use metrics::{
    clock::SystemClock,
    key::Key,
    noise::{FILE_NAME, Noise, Owner},
};
use model::{load::EMBEDDED, weights::sha256_hex};

use super::{
    repeats::{self, Arm, SetPlan},
    run as single,
};
use crate::{
    args::{NoiseArgs, Output, Presentation},
    exit::Failure,
    output,
};

/// Folder of the noise floors of this machine, among the run folders.
const STORED: &str = "noise";

/// Characters of each hash in a stored floor's name.
const HASH: usize = 12;

/// No noise floor is larger than this; a file that is, is something else.
const LARGEST_FILE: u64 = 1 << 20;

pub(crate) fn run(args: NoiseArgs, output: Output, mut clock: SystemClock) -> Result<(), Failure> {
    let settings = args.options.with_file(args.config.as_deref())?;
    let dir = match args.output {
        Some(dir) => dir,
        None => {
            let model = settings.model.as_deref().unwrap_or(EMBEDDED);
            single::default_folder(model, "noise", single::started_unix_ms(&mut clock))
        }
    };
    let plan = SetPlan {
        arms: vec![Arm::only(settings)?],
        repeats: args.repeats,
        cool_down_limit: Duration::from_secs(args.cool_down_limit.into()),
        cold: false,
        versus: None,
        dir: &dir,
        resume: false,
    };
    let ending = repeats::measure(plan, output, clock, &mut |_| Ok(()))?;
    let Some(set) = repeats::read(&dir)? else {
        return ending.result();
    };
    // A floor of fewer runs than were asked for is not what was asked for.
    let measured = ending.result().and_then(|()| Ok(Noise::of(&set)?));
    if let Ok(noise) = &measured {
        write(noise, &dir.join(FILE_NAME))?;
        let stored = place(&noise.key);
        write(noise, &stored)?;
        output::message(
            output.quiet,
            &format!("the noise floor is stored as {}", stored.display()),
        );
    }
    repeats::report(&dir, &dir, None, &Presentation::default(), output)?;
    measured.map(|_| ())
}

/// Reads a noise floor.
pub(crate) fn read(path: &Path) -> Result<Noise, Failure> {
    let cannot = || format!("cannot read the noise floor {}", path.display());
    let found = fs::metadata(path).with_context(cannot)?;
    if !found.is_file() || found.len() > LARGEST_FILE {
        let problem = anyhow::anyhow!("it is no file that `lfmark noise` wrote");
        return Err(problem.context(cannot()).into());
    }
    let text = fs::read_to_string(path).with_context(cannot)?;
    Ok(Noise::parse(&text).with_context(|| format!("the noise floor {}", path.display()))?)
}

/// This machine's floor for runs with this key. One that cannot be read is said and left alone.
pub(crate) fn stored(key: &Key, output: Output) -> Option<Noise> {
    let path = place(&Owner::of(key));
    if !path.exists() {
        let text = "note: no noise floor of this machine and this work is stored; `lfmark noise` \
                    with the same settings measures one";
        output::message(output.quiet, text);
        return None;
    }
    read(&path)
        .inspect_err(|failure| {
            if let Failure::Error(error) = failure {
                output::message(output.quiet, &format!("note: {error:#}; it is not used"));
            }
        })
        .ok()
}

/// Writes a noise floor, in place of one that is there.
pub(crate) fn write(noise: &Noise, path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, noise.text()).with_context(|| format!("cannot write {}", path.display()))
}

/// Where the floor for runs with this key is stored: `reports/noise/<machine>-<work>.json`, with
/// hashes of all that has to be equal.
fn place(key: &Owner) -> PathBuf {
    let hash = |value: &serde_json::Value| {
        let mut hex = sha256_hex(value.to_string().as_bytes());
        hex.truncate(HASH);
        hex
    };
    let mut machine = serde_json::to_value(key).unwrap_or_default();
    let work = machine.as_object_mut().and_then(|key| key.remove("work"));
    let work = hash(&work.unwrap_or_default());
    Path::new(single::REPORTS)
        .join(STORED)
        .join(format!("{}-{work}.json", hash(&machine)))
}
