//! The fields of the record that the figures rest on.

use crate::markdown::{Align, table};

/// A field as a link to its row: every figure of the report is beside one.
///
/// A figure of no field in [`FIELDS`] is found by the tests.
pub(super) fn field(path: &str) -> String {
    let event = path.split('.').next().unwrap_or_default();
    format!("[`{path}`](#fields-of-{})", event.replace('_', "-"))
}

/// Several fields, each a link.
pub(super) fn fields(paths: &[&str]) -> String {
    let links: Vec<_> = paths.iter().map(|path| field(path)).collect();
    links.join(", ")
}

/// One table for every event that has a field here, each under its heading.
pub(super) fn appendix() -> String {
    let mut sections = Vec::new();
    for (event, meaning) in EVENTS {
        let rows: Vec<_> = FIELDS
            .iter()
            .filter(|(path, _)| path.split('.').next() == Some(event))
            .map(|(path, meaning)| [format!("`{path}`"), (*meaning).to_owned()])
            .collect();
        let table = table([("Field", Align::Left), ("Meaning", Align::Left)], &rows);
        // Without an underscore, so that every renderer makes the same anchor of it.
        let heading = event.replace('_', " ");
        sections.push(format!("### Fields of {heading}\n\n{meaning}\n\n{table}"));
    }
    sections.join("\n\n")
}

const EVENTS: [(&str, &str); 9] = [
    ("start", "The first line of the record."),
    (
        "phase",
        "One line for every stretch that is neither an iteration nor a generation.",
    ),
    ("iteration", "One line for every training iteration."),
    ("generation", "One line for every prompt."),
    (
        "effect",
        "One line on what training changed, where that was read.",
    ),
    (
        "machine_state",
        "One line for every reading of the machine's state.",
    ),
    ("sensors", "One line for every sample of the sensors."),
    (
        "counters",
        "One line for every reading of the processor's counters of the process.",
    ),
    ("end", "The last line of a run that ended in order."),
];

/// Every field that a figure links to, in the order of the record.
pub(super) const FIELDS: &[(&str, &str)] = &[
    ("start.run_id", "name of the run folder"),
    (
        "start.started_unix_ms",
        "wall clock at the start, in milliseconds since the Unix epoch",
    ),
    (
        "start.launch_ns",
        "from just before the process was started to where its times count from; null for a run by \
         itself",
    ),
    ("start.lfmark.version", "version of lfmark"),
    ("start.lfmark.profile", "release or debug build"),
    ("start.lfmark.commit", "Git commit of the source"),
    (
        "start.lfmark.dirty",
        "whether tracked files differed from the commit",
    ),
    ("start.lfmark.rustc", "compiler"),
    (
        "start.lfmark.native_setup.wall_ms",
        "time that setting native MLX up took, in milliseconds",
    ),
    (
        "start.lfmark.native_setup.installed_bytes",
        "bytes that it installed",
    ),
    ("start.mlx.version", "version of MLX"),
    ("start.mlx.backend", "back end of MLX"),
    ("start.mlx.device_name", "device, as MLX names it"),
    (
        "start.mlx.architecture",
        "its architecture, as MLX names it",
    ),
    (
        "start.mlx.device_memory_bytes",
        "memory that MLX says the device has",
    ),
    (
        "start.mlx.working_set_bytes",
        "Metal's recommended working set",
    ),
    ("start.mlx.library_sha256", "hash of the MLX library"),
    ("start.mlx.blas", "BLAS of the CPU back end"),
    (
        "start.mlx.variables",
        "environment variables that told MLX how to run",
    ),
    (
        "start.mlx.metallib",
        "Metal's kernels: size, the macOS they are built for, whether any are for neural \
         accelerators",
    ),
    ("start.machine.os", "operating system"),
    ("start.machine.os_version", "its version"),
    ("start.machine.os_build", "macOS: the build of that version"),
    ("start.machine.kernel", "version of the kernel"),
    ("start.machine.arch", "architecture of the CPU"),
    ("start.machine.cpu", "name of the CPU"),
    ("start.machine.physical_cores", "cores of the CPU"),
    ("start.machine.logical_cores", "threads of the CPU"),
    ("start.machine.memory_bytes", "memory of the machine"),
    ("start.machine.chip", "Apple's name of the chip"),
    ("start.machine.model_id", "Apple's identifier of the model"),
    ("start.machine.gpu", "GPU that MLX runs on"),
    ("start.machine.gpu_cores", "its cores"),
    ("start.machine.cpu_tiers", "kinds of CPU cores"),
    (
        "start.machine.gpu_wired_limit_bytes",
        "limit of GPU memory that was set by hand",
    ),
    ("start.machine.gpu_driver", "version of the GPU's driver"),
    (
        "start.machine.gpu_power_limit_uw",
        "limit of the GPU's power, in microwatts",
    ),
    ("start.machine.gpu_max_clock_hz", "highest clock of the GPU"),
    (
        "start.machine.cgroup",
        "limits of the control group: memory in bytes, CPU time in thousandths of a CPU",
    ),
    (
        "start.machine.virtual_machine",
        "whether the system runs in a virtual machine",
    ),
    ("start.config.iterations", "iterations that were asked for"),
    ("start.config.batch_size", "samples of an iteration"),
    ("start.config.max_seq_length", "longest row in tokens"),
    (
        "start.config.pad_to",
        "rows are padded to one more than a multiple of it",
    ),
    (
        "start.config.mask_prompt",
        "whether prompts are left out of the loss",
    ),
    ("start.config.batch_order", "which samples share a batch"),
    (
        "start.config.seed",
        "seed of order, adapters, dropout, sampling and random weights",
    ),
    ("start.config.dtype", "type of weights and activations"),
    ("start.config.device", "CPU or GPU"),
    ("start.config.optimizer", "the optimizer and its constants"),
    (
        "start.config.lora",
        "rank, scale, dropout, layers and modules of the adapters",
    ),
    (
        "start.config.compile",
        "whether MLX compiled the whole step",
    ),
    (
        "start.config.fused_kernels",
        "whether compiling made kernels of element-wise operations",
    ),
    (
        "start.config.clear_cache",
        "whether MLX's cache was cleared after every step",
    ),
    (
        "start.config.wired",
        "memory that Metal was told to keep resident: off, recommended, or bytes",
    ),
    ("start.config.windows", "ranges of iterations"),
    (
        "start.config.generation",
        "prompts, their checks, and how tokens are chosen",
    ),
    (
        "start.model.name",
        "preset, name of a folder, or id on the hub",
    ),
    ("start.model.weights", "where the base weights came from"),
    ("start.model.revision", "commit of the hub's files"),
    ("start.model.quantization", "how matrices are packed"),
    (
        "start.model.layers",
        "layers; the attention layers, sizes and vocabulary are beside it",
    ),
    ("start.model.parameters", "parameters of the base model"),
    ("start.model.weight_bytes", "base weights in memory"),
    (
        "start.model.trainable_parameters",
        "parameters that were counted in the adapters",
    ),
    ("start.model.adapters", "every adapted module and its shape"),
    ("start.model.config_sha256", "hash of `config.json`"),
    ("start.model.tokenizer_sha256", "hash of `tokenizer.json`"),
    ("start.data.name", "name of the data"),
    ("start.data.format", "text, completions or chat"),
    ("start.data.sha256", "hash of the data"),
    ("start.data.sample_tokens", "tokens of every sample"),
    ("start.data.truncated_samples", "samples that were cut"),
    (
        "start.footprint_source",
        "where the process footprint is read from",
    ),
    ("start.rules", "thresholds of the verdicts"),
    (
        "start.sampling",
        "interval of the sensors, and what each rail is read from",
    ),
    (
        "start.settled",
        "how the run waited for the machine before it began",
    ),
    ("phase.phase", "which stretch it is"),
    ("phase.wall_ns", "how long it took, in nanoseconds"),
    ("iteration.iteration", "its number, from 1"),
    (
        "iteration.start_ns",
        "when its data part began, in nanoseconds since the process did",
    ),
    ("iteration.data_ns", "building the batch, in nanoseconds"),
    (
        "iteration.step_ns",
        "the step, until the device has finished, in nanoseconds",
    ),
    (
        "iteration.graph_ns",
        "of the step, building its graph, in nanoseconds; null where it was not told apart",
    ),
    (
        "iteration.dispatch_ns",
        "of the step, from then until all its work was handed to the device",
    ),
    ("iteration.rows", "rows of the batch"),
    ("iteration.real_tokens", "tokens of the samples themselves"),
    (
        "iteration.padded_tokens",
        "tokens of the padded batch, as fed to the model",
    ),
    ("iteration.loss_tokens", "positions that entered the loss"),
    ("iteration.loss", "mean loss of them"),
    (
        "iteration.active_bytes",
        "MLX's memory in use after the step",
    ),
    ("iteration.cache_bytes", "MLX's cache of free buffers"),
    (
        "iteration.peak_bytes",
        "MLX's highest memory in use since the window began",
    ),
    (
        "iteration.footprint_bytes",
        "memory of the process, where it was read",
    ),
    (
        "iteration.swap_bytes",
        "swap in use on the machine, where it was read",
    ),
    ("generation.prompt", "text of the prompt"),
    ("generation.prompt_tokens", "tokens of the prompt"),
    (
        "generation.first_token_ns",
        "from the call to the first token, in nanoseconds",
    ),
    (
        "generation.token_ns",
        "from each token to the next, in nanoseconds",
    ),
    ("generation.token_ids", "tokens that were generated"),
    ("generation.text", "text of them"),
    ("generation.finish", "why it ended"),
    (
        "generation.wall_ns",
        "tokenizing, generating and decoding, in nanoseconds",
    ),
    (
        "generation.peak_bytes",
        "MLX's highest memory in use since the prompt began",
    ),
    (
        "effect.samples",
        "losses of the first samples of the data, without adapters and with them",
    ),
    (
        "effect.texts_before",
        "what the model says to each prompt without adapters",
    ),
    ("effect.wall_ns", "reading both, in nanoseconds"),
    ("machine_state.thermal_state", "macOS's thermal state"),
    ("machine_state.power_source", "mains or battery"),
    (
        "machine_state.power_mode",
        "energy mode of the operating system",
    ),
    (
        "machine_state.low_power_mode",
        "whether macOS's Low Power Mode is on",
    ),
    (
        "machine_state.cpu_governor",
        "what decides the clock of the CPUs",
    ),
    (
        "machine_state.cpu_steal_ms",
        "CPU time that other guests had, in milliseconds; the whole is `cpu_total_ms`",
    ),
    (
        "machine_state.cgroup_throttled_us",
        "time for which the control group's limit held the process back, in microseconds",
    ),
    (
        "machine_state.gpu_memory_clock_hz",
        "clock of the GPU's memory",
    ),
    (
        "machine_state.gpu_throttle_reasons",
        "why the GPU's clock is below its highest",
    ),
    ("machine_state.swap_used_bytes", "swap in use"),
    ("machine_state.footprint_bytes", "memory of the process"),
    ("machine_state.gpu_clock_hz", "clock of the GPU"),
    (
        "machine_state.gpu_temperature_mc",
        "temperature of the GPU in thousandths of a degree",
    ),
    (
        "machine_state.load_milli",
        "load average over one minute, in thousandths",
    ),
    (
        "machine_state.copies",
        "copies of memory by all processors at once",
    ),
    (
        "machine_state.energy_uj",
        "energy counters by rail, in microjoules",
    ),
    ("sensors.power_uw", "power by rail, in microwatts"),
    (
        "sensors.energy_uj",
        "energy counters by rail, in microjoules",
    ),
    (
        "sensors.gpu_temperature_mc",
        "temperature of the GPU in thousandths of a degree",
    ),
    (
        "sensors.cpu_temperature_mc",
        "temperature of the CPU in thousandths of a degree",
    ),
    ("counters.iterations", "iterations that were done by then"),
    (
        "counters.instructions",
        "instructions of the process; on Linux of user space alone",
    ),
    ("counters.cycles", "cycles of the process"),
    (
        "counters.energy_nj",
        "macOS: energy that the kernel billed to the process, in nanojoules",
    ),
    ("end.status", "how the run ended"),
    ("end.wall_ns", "wall time of the process, in nanoseconds"),
];
