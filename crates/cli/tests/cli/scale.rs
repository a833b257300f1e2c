//! Many records, and large ones: how much memory the commands over many runs take.

use std::{fs, io::Write, ops::Range, path::Path, process::Command};

use metrics::{
    engine::{self, Truth},
    record::{Event, Start},
};

use crate::support::Folder;

/// Prints the largest resident set of the command that it is given, in KiB.
const MEASURE: &str = "\
import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak // 1024 if sys.platform == 'darwin' else peak)
sys.exit(ended.returncode)
";

/// Highest memory of the program with these arguments, in MiB.
fn peak_mib(folder: &Folder, arguments: &str) -> u64 {
    let mut command = Command::new("python3");
    let command = command.args(["-c", MEASURE, env!("CARGO_BIN_EXE_lfmark")]);
    let command = command.args(arguments.split_whitespace());
    let output = command.current_dir(folder.path("")).output().unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
    let kib = String::from_utf8(output.stdout).unwrap();
    kib.trim().parse::<u64>().unwrap() / 1024
}

/// Writes records of these numbers with this many iterations, ten of a commit, of two machines in turn. They are one
/// process with another start each, which is quicker than as many processes.
fn records(dir: &Path, numbers: Range<u64>, iterations: u32) {
    let mut truth = Truth::steady(iterations);
    truth.step.process_spread = 0.01;
    let mut events = String::new();
    engine::run(&truth, 1, &mut |event| {
        events += &(serde_json::to_string(event).unwrap() + "\n");
        Ok(())
    })
    .unwrap();
    for number in numbers {
        let mut start: Start = engine::start(&number.to_string(), iterations);
        start.started_unix_ms = number;
        start.machine.chip = Some(format!("chip {}", number % 2));
        start.lfmark.commit = Some(format!("{:040x}", number / 10));
        start.lfmark.dirty = Some(false);
        // As long as the start of a record of a real model.
        start.mlx.variables = [("MLX_PADDING".to_owned(), "0".repeat(6_000))].into();
        let folder = dir.join(format!("{}/{number}", number % 2));
        fs::create_dir_all(&folder).unwrap();
        let mut file = fs::File::create(folder.join("record.jsonl")).unwrap();
        let start = serde_json::to_string(&Event::Start(Box::new(start))).unwrap();
        write!(file, "{start}\n{events}").unwrap();
    }
}

#[test]
fn memory_does_not_grow_with_the_samples_of_many_records() {
    // Enough of the few that what an allocator keeps for reuse, as macOS's does, is there already.
    let [few, many] = [8, 40].map(|count| {
        let folder = Folder::new();
        records(&folder.path("runs"), 0..count, 5_000);
        peak_mib(&folder, "history runs -o history")
    });
    // The samples of the others would take 20 MiB, and their lines 53.
    assert!(many <= few + 14, "{few} and {many} MiB");
}

/// Takes minutes: `cargo test --release -p lfmark --test cli -- --ignored --nocapture ten_thousand`.
#[test]
#[ignore = "takes minutes"]
#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
fn ten_thousand_records_are_compared_in_less_than_300_mb() {
    let folder = Folder::new();
    records(&folder.path("runs"), 0..9_900, 30);
    records(&folder.path("long"), 0..100, 500);
    records(&folder.path("again"), 10_000..19_900, 30);
    let allow: String = [
        "iterations",
        "rows",
        "real_tokens",
        "padded_tokens",
        "loss_tokens",
    ]
    .iter()
    .map(|field| format!("--allow {field} "))
    .collect();
    for arguments in [
        format!("compare runs/0 runs/1 long --allow iteration_tokens {allow} -o compared"),
        "gate --baseline runs/0 --candidate again/0".to_owned(),
        "history runs long -o history".to_owned(),
    ] {
        let peak = peak_mib(&folder, &arguments);
        println!("{peak} MiB: {arguments}");
        assert!(peak * 1_048_576 < 300_000_000, "{arguments}: {peak} MiB");
    }
}
