//! `lfmark doctor`: this machine, what would make its numbers better, what it can fit, and what
//! cannot be read here.

use std::time::Duration;

use anyhow::Context;
use metrics::{
    clock::{Clock, SystemClock},
    doctor::{self, Advice, Candidate, Examined, Fits, REFERENCE, TOKENS_OF_LARGEST},
    footprint::FootprintReader,
    headroom::{Capacity, Headroom},
    machine::{self, Reader},
    metallib::{NeuralAccelerators, neural_accelerators},
    readiness::Sensors,
    sampler::Sampler,
    store,
};
use model::{
    config::Shape,
    load::{EMBEDDED, EMBEDDED_CONFIG, PRESETS},
    mlx::{DeviceKind, Session},
};
use report::units;
use serde_json::json;

use crate::{
    args::{DoctorArgs, Output},
    environment,
    exit::Failure,
    options::{DtypeName, ModelOptions},
    output,
    telemetry::sensors_failed,
};

/// How long CPU use of other programs is looked at.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) fn run(
    args: &DoctorArgs,
    output: Output,
    mut clock: SystemClock,
) -> Result<(), Failure> {
    let options = ModelOptions {
        dtype: args.dtype,
        device: args.device,
        ..ModelOptions::default()
    };
    let measured = args.run.as_deref().map(headroom_of).transpose()?;
    let (_session, device) = Session::start(options.device())?;
    let examined = examine(&mut clock, output.quiet)?;
    let bytes = bytes_per_parameter(options.dtype(device));
    let fits = doctor::fits(
        &examined,
        &measured.unwrap_or(REFERENCE),
        bytes,
        &candidates()?,
    );
    let advice = doctor::advise(&examined);
    let risks = doctor::risks(&examined);
    let unread = doctor::unread(&examined);
    if output.json {
        return output::print(
            &json!({
                "lfmark": environment::build(),
                "mlx": examined.mlx,
                "machine": examined.machine,
                "state": examined.state,
                "sampling": examined.sampling,
                "other_cpu_milli": examined.readings.other_cpu_milli,
                "temperature_mc": examined.readings.temperature_mc,
                "neural_accelerators": neural_accelerators(&examined.mlx, &examined.machine),
                "advice": advice,
                "risks": risks,
                "fits": fits,
                "unread": unread,
            })
            .to_string(),
        );
    }
    let mut lines = describe(&examined, device);
    lines.push("\nWhat would make the numbers better, in this order".to_owned());
    lines.extend(numbered(&advice));
    if advice.is_empty() {
        lines.push("  nothing that could be read here".to_owned());
    }
    if !risks.is_empty() {
        lines.push("\nWhat can bring this machine down".to_owned());
        lines.extend(numbered(&risks));
    }
    lines.extend(fitting(
        fits.as_ref(),
        measured.is_some(),
        options.dtype(device),
    ));
    lines.push("\nWhat cannot be read here, and so is in no record".to_owned());
    lines.push(match unread.is_empty() {
        true => "  nothing that lfmark looks for".to_owned(),
        false => format!("  {}", unread.join(", ")),
    });
    output::print(&output::shown(&lines.join("\n")))
}

fn numbered(advice: &[Advice]) -> impl Iterator<Item = String> {
    (1..).zip(advice).flat_map(|(number, advice)| {
        [
            format!("  {number}. {}", advice.finding),
            format!("     {}", advice.fix),
        ]
    })
}

fn headroom_of(dir: &std::path::Path) -> anyhow::Result<Headroom> {
    let record = store::read(dir)?;
    Headroom::of(&record).with_context(|| {
        format!(
            "{} has no training whose memory was measured; name the folder of a run that trained",
            dir.display()
        )
    })
}

fn examine(clock: &mut SystemClock, quiet: bool) -> anyhow::Result<Examined> {
    let mlx = environment::mlx()?;
    let uuid = environment::gpu_uuid()?;
    let reader = Reader::for_gpu(uuid.as_deref());
    let sampler = machine::sampler(*clock, uuid, mlx.backend != "cpu");
    let sampling = sampler.as_ref().and_then(Sampler::sampling).cloned();
    if let Some(why) = sampler.as_ref().and_then(Sampler::failure) {
        output::message(quiet, &sensors_failed(&why));
    }
    drop(sampler);
    let readings = Sensors::new(LOOK).read();
    Ok(Examined {
        profile: environment::build().profile,
        machine: environment::machine(&reader, &mlx),
        state: reader.state(clock.now_ns(), &mut FootprintReader::new()),
        mlx,
        readings,
        sampling,
    })
}

fn bytes_per_parameter(dtype: DtypeName) -> u64 {
    match dtype {
        DtypeName::F32 => 4,
        DtypeName::Bf16 | DtypeName::F16 => 2,
    }
}

/// The models that need no download.
fn candidates() -> anyhow::Result<Vec<Candidate>> {
    let presets = PRESETS.iter().map(|preset| (preset.name, preset.config));
    let models = std::iter::once((EMBEDDED, EMBEDDED_CONFIG)).chain(presets);
    models
        .map(|(name, config)| {
            Ok(Candidate {
                name: name.to_owned(),
                parameters: Shape::from_json(config, name)?.parameters(),
            })
        })
        .collect()
}

const NOT_READ: &str = "not read";

/// The machine and its state, a fact a line.
fn describe(examined: &Examined, device: DeviceKind) -> Vec<String> {
    let (machine, mlx, state) = (&examined.machine, &examined.mlx, &examined.state);
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| NOT_READ.to_owned());
    let bytes = |value: Option<u64>| value.map_or(NOT_READ.to_owned(), units::bytes);
    let number = |value: Option<u32>| value.map_or(NOT_READ.to_owned(), |it| it.to_string());
    let yes_or_no = |value: Option<bool>| match value {
        None => NOT_READ,
        Some(true) => "yes",
        Some(false) => "no",
    };
    let tiers = machine.cpu_tiers.iter().flatten().map(|tier| {
        let name = tier.name.as_deref().unwrap_or("of one kind");
        format!("{} {name}", tier.physical_cores)
    });
    let tiers: Vec<String> = tiers.collect();
    let mut facts = vec![
        ("chip", text(&machine.chip.clone().or(machine.cpu.clone()))),
        (
            "CPU cores",
            match tiers.is_empty() {
                true => number(machine.physical_cores),
                false => tiers.join(", "),
            },
        ),
        ("memory", bytes(machine.memory_bytes)),
        (
            "system",
            match &machine.os_build {
                None => format!("{} {}", machine.os, text(&machine.os_version)),
                Some(build) => {
                    format!(
                        "{} {}, build {build}",
                        machine.os,
                        text(&machine.os_version)
                    )
                }
            },
        ),
        ("virtual", yes_or_no(machine.virtual_machine).to_owned()),
        ("MLX", format!("{}, {} back end", mlx.version, mlx.backend)),
    ];
    if machine.os == "macos" {
        facts.insert(1, ("model", text(&machine.model_id)));
    }
    if let Some(cgroup) = machine.cgroup {
        let none = || "no limit".to_owned();
        let cpus = |milli: u64| format!("{:.2} CPUs", milli as f64 / 1_000.0);
        let limits = format!(
            "memory {}, CPU time {}",
            cgroup.memory_bytes.map_or_else(none, units::bytes),
            cgroup.cpu_milli.map_or_else(none, cpus)
        );
        facts.push(("cgroup", limits));
    }
    if device == DeviceKind::Gpu {
        facts.extend([
            ("GPU", text(&machine.gpu)),
            ("GPU cores", number(machine.gpu_cores)),
            ("GPU driver", text(&machine.gpu_driver)),
            ("architecture", text(&mlx.architecture)),
            ("GPU memory", bytes(mlx.device_memory_bytes)),
            ("working set", bytes(mlx.working_set_bytes)),
        ]);
    }
    if mlx.backend == "metal" {
        let kernels = match &mlx.metallib {
            None => NOT_READ.to_owned(),
            Some(library) => format!(
                "{}, built for macOS {}",
                units::bytes(library.bytes),
                text(&library.built_for)
            ),
        };
        facts.push(("Metal kernels", kernels));
        let used = match neural_accelerators(mlx, machine) {
            NeuralAccelerators::None => "the GPU has none",
            NeuralAccelerators::Used => "used",
            NeuralAccelerators::OldSystem => "macOS is older than 26.2",
            NeuralAccelerators::NoKernels => "not used",
            NeuralAccelerators::Unknown => NOT_READ,
        };
        facts.push(("neural accel.", used.to_owned()));
    }
    let mut lines = vec!["Machine".to_owned()];
    lines.extend(facts.iter().map(|(name, fact)| line(name, fact)));

    let thousandths = |value: Option<u64>| {
        value.map_or(NOT_READ.to_owned(), |it| format!("{:.2}", it as f64 / 1e3))
    };
    let celsius = examined.readings.temperature_mc;
    let mode = state.power_mode_name.clone();
    let mut now = vec![
        ("power source", text(&state.power_source)),
        (
            "energy mode",
            text(&mode.or(state.power_mode.map(|mode| mode.to_string()))),
        ),
        (
            "temperature",
            celsius.map_or(NOT_READ.to_owned(), |mc| {
                format!("{:.1} °C", mc as f64 / 1e3)
            }),
        ),
        ("swap in use", bytes(state.swap_used_bytes)),
        ("load", thousandths(state.load_milli)),
        (
            "other programs",
            examined
                .readings
                .other_cpu_milli
                .map_or(NOT_READ.to_owned(), |it| {
                    format!("{:.1} % of the CPUs", f64::from(it) / 10.0)
                }),
        ),
    ];
    match machine.os.as_str() {
        "macos" => now.push(("thermal state", number(state.thermal_state))),
        _ => now.push(("CPU governor", text(&state.cpu_governor))),
    }
    if device == DeviceKind::Gpu && machine.os != "macos" {
        let clock = state
            .gpu_clock_hz
            .map(|hz| format!("{} MHz", hz / 1_000_000));
        let reasons = state.gpu_throttle_reasons.as_ref();
        now.push(("GPU clock", text(&clock)));
        now.push((
            "lowered by",
            text(&reasons.map(|reasons| match reasons.is_empty() {
                true => "nothing".to_owned(),
                false => reasons.join(", "),
            })),
        ));
    }
    let sampled = examined.sampling.as_ref().map(|sampling| {
        let rails = sampling.rails.iter();
        let rails: Vec<String> = rails
            .map(|(rail, from)| format!("{rail} ({from})"))
            .collect();
        rails.join(", ")
    });
    now.push(("power of", text(&sampled)));
    lines.push("\nState".to_owned());
    lines.extend(now.iter().map(|(name, fact)| line(name, fact)));
    lines
}

fn line(name: &str, fact: &str) -> String {
    format!("  {name:<15} {fact}")
}

/// An estimate to two significant digits, which never says that more fits.
fn rounded_down(value: u64) -> u64 {
    let unit = 10_u64.pow(value.max(1).ilog10().saturating_sub(1));
    value / unit * unit
}

fn fitting(fits: Option<&Fits>, own: bool, dtype: DtypeName) -> Vec<String> {
    let mut lines = vec!["\nWhat fits, estimated".to_owned()];
    let Some(fits) = fits else {
        lines.push("  not known: the memory was not read".to_owned());
        return lines;
    };
    let capacity = match fits.capacity {
        Capacity::WorkingSet => "Metal's recommended working set",
        Capacity::DeviceMemory => "the device's memory",
        Capacity::MachineMemory => "the machine's memory",
    };
    let source = match own {
        true => "the given run".to_owned(),
        false => {
            "LFM2-1.2B on an H200 with one row of 96 tokens (reports/h200-lfm2-1.2b-2)".to_owned()
        }
    };
    lines.push(format!(
        "  training in {}, in {} of {capacity}, scaled from the memory of {source}",
        dtype.name(),
        units::bytes(fits.capacity_bytes),
    ));
    lines.push(format!(
        "  {:<12} {:>14} {:>10} {:>20}   e.g.",
        "model", "parameters", "weights", "tokens of a batch"
    ));
    for fit in &fits.models {
        let rows = [512, 2_048].map(|row| (fit.tokens / row, row));
        let rows = rows.iter().filter(|(rows, _)| *rows > 0);
        let examples: Vec<String> = rows
            .map(|(rows, row)| format!("{} × {row}", units::count(*rows)))
            .collect();
        let examples = match fit.tokens {
            0 => "does not fit".to_owned(),
            _ => examples.join(", "),
        };
        lines.push(format!(
            "  {:<12} {:>14} {:>10} {:>20}   {examples}",
            fit.name,
            units::count(fit.parameters),
            units::bytes(fit.weight_bytes),
            units::count(rounded_down(fit.tokens)),
        ));
    }
    lines.push(format!(
        "  largest model with one row of {TOKENS_OF_LARGEST} tokens: {} parameters",
        units::count(rounded_down(fits.largest_parameters))
    ));
    lines.push(
        "  memory of attention that grows with the square of a row, and other programs, are not in it"
            .to_owned(),
    );
    lines
}
