//! Disks that take no more, in ways that hold for root too.

use std::process::Command;

use crate::support::{Finished, Folder, ONE_THREAD, check_failed};

/// Runs the program with a limit on the size of a file: the disk that fills while recording.
#[test]
fn a_disk_that_fills_while_recording_loses_nothing_that_was_recorded() {
    let folder = Folder::new();
    let lfmark = env!("CARGO_BIN_EXE_lfmark");
    // The units of the limit, 512 or 1,024 bytes, depend on the shell; both do. Without the
    // trap the signal would end the program before it could say anything. On a GPU the limit would
    // hold for the driver's cache of kernels as well.
    let script = format!(
        "trap '' XFSZ; ulimit -f 100; exec '{lfmark}' run -o out --iterations 500 --no-generation \
         --device cpu --max-seq-length 8 --truncate"
    );
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &script])
        .current_dir(folder.path(""))
        .envs(ONE_THREAD);
    let finished = Finished::from(shell.output().unwrap());

    let record = folder.record();
    let measured = record.iterations.len();
    assert!((1..500).contains(&measured), "{measured} iterations");
    let failed = format!(
        "iteration {}: cannot write to out/record.jsonl",
        measured + 1
    );
    check_failed(&script, &finished, 1, &[&failed, "stays readable"]);
    // What was written of the line that did not fit has been taken back.
    assert_eq!(record.notices, [""; 0]);
    assert!(
        folder
            .read("out/report.md")
            .contains("This run is incomplete")
    );
    folder.ok("report out --output elsewhere");
}

#[cfg(target_os = "linux")]
mod full {
    use std::{fs, os::unix::fs::symlink};

    use crate::support::{Folder, SHORT};

    #[test]
    fn a_record_on_a_full_disk_is_a_clear_error() {
        let folder = Folder::new();
        fs::create_dir(folder.path("out")).unwrap();
        symlink("/dev/full", folder.path("out/record.jsonl")).unwrap();
        folder.check_error(
            SHORT,
            1,
            &["no space left to write out/record.jsonl", "free some space"],
        );
        assert_eq!(fs::read_dir(folder.path("out")).unwrap().count(), 1);
        // Never ends, if it is read.
        folder.check_error("report out", 1, &["out/record.jsonl: not a regular file"]);
    }

    #[test]
    fn a_report_that_does_not_fit_leaves_the_record() {
        let folder = Folder::new();
        fs::create_dir(folder.path("out")).unwrap();
        symlink("/dev/full", folder.path("out/report.md")).unwrap();
        let needles = [
            "cannot write out/report.md",
            "the record is safe",
            "No space left",
        ];
        folder.check_error(SHORT, 1, &needles);
        assert_eq!(folder.record().iterations.len(), 3);
        folder.ok("report out --output elsewhere");
    }

    #[test]
    fn a_full_stdout_is_a_clear_error() {
        let folder = Folder::new();
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = folder.command("models").stdout(full).output().unwrap();
        let needles = ["cannot write to stdout", "No space left"];
        crate::support::check_failed("models", &output.into(), 1, &needles);
    }
}
