//! What has to be alike of runs for their numbers to be compared: one list of the fields of a
//! record, and what each of them stands for.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use crate::fields::{Fields, flat, value_of};
use crate::record::{Iteration, Start};
use crate::store::Record;

/// What a field of the start of a record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The work.
    Work,
    /// The way in which the work is done.
    How,
    /// The machine, and the device in it.
    Machine,
    /// The build of lfmark.
    Build,
    /// The system and the library, as an update changes them.
    System,
    /// Any other setting that can change the numbers.
    Setting,
    /// It cannot change the numbers, or it is judged elsewhere.
    Nothing,
}

use Part::{Build, How, Machine, Nothing, Setting, System, Work};

/// Every field of the start of a record, by the beginning of its path: the name under which
/// messages and `--allow` know it, and its part. The first row that fits counts. A test requires a
/// row for every field.
const FIELDS: &[(&str, &str, Part)] = &[
    ("model.weights", "weights", Work),
    ("model.quantization", "quantization", Work),
    ("model.config_sha256", "config_sha256", Work),
    ("model.tokenizer_sha256", "tokenizer_sha256", Work),
    ("model.parameters", "parameters", Work),
    ("model.trainable_parameters", "trainable_parameters", Work),
    ("model.adapters", "adapters", Work),
    ("data.sha256", "data_sha256", Work),
    ("config.dtype", "dtype", Work),
    ("config.iterations", "iterations", Work),
    ("config.batch_size", "batch_size", Work),
    ("config.max_seq_length", "max_seq_length", Work),
    ("config.pad_to", "pad_to", Work),
    ("config.mask_prompt", "mask_prompt", Work),
    ("config.optimizer.name", "optimizer", Work),
    ("config.lora.dropout", "dropout", Work),
    // They judge the work and are no part of it.
    ("config.generation.checks", "checks", Nothing),
    ("config.generation", "generation", Work),
    ("config.lora.targets", "lora_targets", How),
    ("config.lora.rank", "lora_rank", How),
    ("config.compile", "compile", How),
    ("config.clear_cache", "clear_cache", How),
    // As it was, where an older record does not say it.
    ("config.wired", "wired", Nothing),
    ("mlx.version", "mlx_version", How),
    ("lfmark.profile", "profile", How),
    ("machine.os_version", "os_version", System),
    ("machine.os_build", "os_build", System),
    ("machine.kernel", "kernel", System),
    ("machine.gpu_driver", "gpu_driver", System),
    ("machine", "", Machine),
    ("config.device", "device", Machine),
    ("mlx.backend", "backend", Machine),
    ("mlx.device_name", "device_name", Machine),
    // They follow from the machine and the library.
    ("mlx.architecture", "architecture", Nothing),
    ("mlx.device_memory_bytes", "device_memory_bytes", Nothing),
    ("mlx.working_set_bytes", "working_set_bytes", Nothing),
    ("mlx.library_sha256", "mlx.library_sha256", System),
    ("lfmark.version", "lfmark.version", Build),
    ("lfmark.commit", "lfmark.commit", Build),
    ("lfmark.dirty", "lfmark.dirty", Build),
    ("lfmark.rustc", "lfmark.rustc", Build),
    ("lfmark.native_setup", "native_setup", Nothing),
    ("engine.name", "program", Build),
    ("engine", "engine", Nothing),
    ("mlx.metallib", "mlx.metallib", Setting),
    ("config.fused_kernels", "fused_kernels", Setting),
    ("footprint_source", "footprint_source", Setting),
    ("config.batch_order", "batch_order", Setting),
    ("config.seed", "seed", Setting),
    ("config.lora.scale", "lora.scale", Setting),
    ("config.lora.layers", "lora.layers", Setting),
    ("mlx.blas", "mlx.blas", Setting),
    ("config.optimizer", "optimizer", Setting),
    (VARIABLES, VARIABLES, Setting),
    ("config.windows", "windows", Nothing),
    ("model", "model", Nothing),
    ("data", "data", Nothing),
    ("schema", "schema", Nothing),
    ("run_id", "run_id", Nothing),
    ("started_unix_ms", "started_unix_ms", Nothing),
    ("rules", "rules", Nothing),
    ("member", "member", Nothing),
    ("launch_ns", "launch_ns", Nothing),
    ("sampling", "sampling", Nothing),
    ("settled", "settled", Nothing),
];

/// Variables of the environment. Of these settings one that is not recorded was not set.
pub(crate) const VARIABLES: &str = "mlx.variables";

/// The fields of a run by what they stand for. Two runs are compared where work, how and machine
/// are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What was done, with the tokens that were worked through.
    pub work: Rc<Fields>,
    /// In what way. The arms of a set may differ in it.
    pub how: Rc<Fields>,
    pub machine: Rc<Fields>,
    /// The program. An arm of a set has one.
    pub build: Rc<Fields>,
    /// What an update of the system changes, where it is known.
    pub system: Rc<Fields>,
    /// Other settings, where they are known. Where they differ a comparison says so.
    pub settings: Rc<Fields>,
}

impl Key {
    /// The key of a run.
    pub fn of(record: &Record) -> Self {
        let mut parts = parts(&record.start);
        let mut take = |part| Rc::new(std::mem::take(&mut parts[part as usize]));
        let mut work = take(Work);
        Rc::make_mut(&mut work).extend(tokens(record));
        let mut how = take(How);
        Rc::make_mut(&mut how).push(("wired".to_owned(), record.start.wired().to_owned()));
        Self {
            work,
            how,
            machine: take(Machine),
            build: take(Build),
            system: take(System),
            settings: take(Setting),
        }
    }

    /// Whether a field of this name is of the machine or the build.
    pub(crate) fn is_of_machine(&self, field: &str) -> bool {
        let parts = [&self.machine, &self.build];
        parts.iter().any(|part| value_of(part, field).is_some())
    }

    /// Each part, for sharing equal ones between runs.
    pub(crate) fn parts_mut(&mut self) -> [&mut Rc<Fields>; 6] {
        [
            &mut self.work,
            &mut self.how,
            &mut self.machine,
            &mut self.build,
            &mut self.system,
            &mut self.settings,
        ]
    }
}

/// Whether one of two builds did not read this field of the machine: older ones read less. Then a
/// difference is none between machines.
pub(crate) fn not_read(field: &str, values: &[Option<String>]) -> bool {
    const READ_LATER: [&str; 5] = [
        "cpu_tiers",
        "gpu_wired_limit_bytes",
        "gpu_power_limit_uw",
        "gpu_max_clock_hz",
        "cgroup",
    ];
    let name = field.split('.').next().unwrap_or(field);
    let null = |value: &Option<String>| value.as_deref().is_none_or(|value| value == "null");
    READ_LATER.contains(&name) && values.iter().any(null)
}

/// Paths of the variables that name an empty folder of the process's own, as a process of a set has.
/// They are no setting.
pub(crate) fn own_folders(start: &Start) -> Vec<String> {
    let member = start.member.as_ref();
    let names = member.and_then(|it| it.empty_caches.as_ref());
    let names = names.into_iter().flatten();
    names.map(|name| format!("{VARIABLES}.{name}")).collect()
}

/// Whether a field of the machine is of its system, by its name.
pub(crate) fn is_of_system(name: &str) -> bool {
    row_of(&format!("machine.{name}")).is_some_and(|row| FIELDS[row].2 == System)
}

/// The row of [`FIELDS`] for a path, by its index.
fn row_of(path: &str) -> Option<usize> {
    let below = |beginning: &str| {
        let rest = path.strip_prefix(beginning);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    FIELDS.iter().position(|(beginning, ..)| below(beginning))
}

/// The fields of a start by their part, in the order of [`FIELDS`].
fn parts(start: &Start) -> [Fields; 7] {
    let own = own_folders(start);
    let mut rows: Vec<(usize, (String, String))> = flat(start)
        .into_iter()
        .filter(|(path, _)| !own.contains(path))
        .filter_map(|field| Some((row_of(&field.0)?, field)))
        .collect();
    rows.sort_by_key(|(row, _)| *row);
    let mut parts = <[Fields; 7]>::default();
    for (row, (path, value)) in rows {
        let (beginning, name, part) = FIELDS[row];
        // What an older build did not record is not known.
        if matches!(part, System | Setting) && value == "null" {
            continue;
        }
        let value = match beginning {
            "mlx.library_sha256" => value.chars().take(12).collect(),
            _ => value,
        };
        let rest = &path[beginning.len()..];
        let name = match name {
            "" => rest.trim_start_matches('.').to_owned(),
            name => format!("{name}{rest}"),
        };
        parts[part as usize].push((name, value));
    }
    parts
}

/// What was worked through: totals over the iterations, and a hash of the counts of each.
fn tokens(record: &Record) -> Fields {
    let total = |count: fn(&Iteration) -> u32| {
        let counts = record.iterations.iter().map(|it| u64::from(count(it)));
        counts.sum::<u64>().to_string()
    };
    let mut hasher = DefaultHasher::new();
    for it in &record.iterations {
        (it.rows, it.real_tokens, it.padded_tokens, it.loss_tokens).hash(&mut hasher);
    }
    [
        ("rows", total(|it| it.rows)),
        ("real_tokens", total(|it| it.real_tokens)),
        ("padded_tokens", total(|it| it.padded_tokens)),
        ("loss_tokens", total(|it| it.loss_tokens)),
        ("iteration_tokens", format!("{:016x}", hasher.finish())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::flat;
    use crate::testing;

    #[test]
    fn every_field_of_a_start_has_a_part() {
        let start = serde_json::to_value(testing::start()).unwrap();
        for (path, _) in flat(&start) {
            assert!(row_of(&path).is_some(), "no row of FIELDS is for {path}");
        }
    }
}
