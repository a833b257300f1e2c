//! `lfmark export` and `lfmark versus`: the same work for other programs.

use std::{
    fs,
    io::{self, Write},
    process::Command,
};

use metrics::record::Iteration;
use serde_json::Value;

use crate::support::{Folder, repository};

const EXPORT: &str = "export -o work/embedded --iterations 12 --max-tokens 4";

/// Little more than the check itself, whose iterations are fixed.
const VERSUS: &str = "versus -o out --repeats 1 --cool-down-limit 0 --iterations 3 \
                      --max-seq-length 40 --truncate --max-tokens 2 --prompt Hi";

#[test]
fn a_run_on_exported_work_records_what_was_exported() {
    let folder = Folder::new();
    folder.ok(EXPORT);
    let work: Value = serde_json::from_str(&folder.read("work/embedded/work.json")).unwrap();
    folder.ok("run -o out --config work/embedded/run.toml");
    let record = folder.record();
    let recorded = serde_json::to_value(&record.start).unwrap();
    for part in ["machine", "config", "model", "data"] {
        assert_eq!(recorded[part], work[part], "{part}");
    }
    let text = folder.read("work/embedded/batches.jsonl");
    let batches: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(batches.len(), record.iterations.len());
    for (batch, iteration) in batches.iter().zip(&record.iterations) {
        let Iteration {
            real_tokens,
            padded_tokens,
            loss_tokens,
            ..
        } = *iteration;
        assert_eq!(batch["real_tokens"], real_tokens);
        assert_eq!(batch["padded_tokens"], padded_tokens);
        assert_eq!(batch["loss_tokens"], loss_tokens);
        assert_eq!(
            batch["tokens"][0].as_array().unwrap().len() as u32,
            padded_tokens + 1
        );
    }
    for (prompt, generation) in work["prompts"]
        .as_array()
        .unwrap()
        .iter()
        .zip(&record.generations)
    {
        assert_eq!(prompt["text"], generation.prompt);
        assert_eq!(
            prompt["ids"].as_array().unwrap().len() as u32,
            generation.prompt_tokens
        );
    }
}

#[test]
fn exported_work_gives_the_losses_of_the_model_it_was_made_from() {
    let folder = Folder::new();
    // On a GPU two runs may differ by rounding.
    folder.ok("export -o work/embedded --iterations 3 --no-generation --device cpu");
    let losses = |arguments: &str| -> Vec<Option<f32>> {
        folder.ok(arguments);
        let losses = folder
            .record()
            .iterations
            .iter()
            .map(|it| it.loss)
            .collect();
        fs::remove_dir_all(folder.path("out")).unwrap();
        losses
    };
    assert_eq!(
        losses("run -o out --config work/embedded/run.toml --device cpu"),
        losses("run -o out --iterations 3 --no-generation --device cpu")
    );
}

#[test]
fn exported_work_is_not_overwritten() {
    let folder = Folder::new();
    folder.ok(EXPORT);
    folder.check_error(EXPORT, 2, &["work/embedded holds exported work already"]);
}

/// Says on the terminal that a test could not run, since the output of a passed one is not shown.
pub(crate) fn skip(test: &str, why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {why}");
}

#[test]
fn a_peer_refuses_settings_and_files_that_are_not_the_work() {
    let python = |script: &str, folder: &Folder| {
        let output = Command::new("python3")
            .args(["-B", "-c", script])
            .env("PYTHONPATH", repository("peers"))
            .current_dir(folder.path(""))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let folder = Folder::new();
    if python("import sys; print(sys.version_info >= (3, 11))", &folder).trim() != "True" {
        return skip("a_peer_refuses", "python3 is older than 3.11");
    }
    folder.ok(EXPORT);
    let check = |change: &str, expected: &str| {
        let script = format!(
            "import work, tomllib, pathlib\n\
             settings = tomllib.loads(pathlib.Path('work/embedded/run.toml').read_text())\n\
             try:\n\
             \x20   {change}\n\
             \x20   exported, switches = work.read(settings)\n\
             \x20   exported.batches(); exported.check_files(); print('accepted', switches)\n\
             except work.Unusable as problem: print(problem)"
        );
        let printed = python(&script, &folder);
        assert!(printed.contains(expected), "{change}: {printed}");
    };
    check("pass", "accepted {}");
    check("settings['compile'] = 'off'", "accepted {'compile': 'off'}");
    check("settings['lora-rank'] = 8", "`lora-rank` is 8");
    check(
        "settings['model'] = 'embedded'",
        "a folder written by `lfmark export`",
    );
    fs::write(folder.path("work/embedded/model.safetensors"), "other").unwrap();
    check("pass", "model.safetensors is not what was exported");
}

#[test]
fn arms_that_do_the_same_are_measured_in_turn() {
    let folder = Folder::new();
    fs::create_dir(folder.path("peers")).unwrap();
    folder.write("peers/lfmark.toml", "");
    folder.write("peers/cleared.toml", "clear-cache = true");
    folder.write("peers/absent.toml", "program = \"no/such/peer\"");
    let finished = folder.ok(&format!(
        "{VERSUS} --arms lfmark,cleared,absent --device cpu"
    ));
    for part in [
        "absent: not measured (there is no no/such/peer",
        "cleared and lfmark: same work",
    ] {
        assert!(finished.stderr.contains(part), "{part}: {finished:?}");
    }
    for run in [
        "check/02-cleared",
        "runs/01-lfmark",
        "runs/02-cleared",
        "runs/report.md",
    ] {
        assert!(folder.exists(&format!("out/{run}")), "{run}");
    }
    fs::remove_file(folder.path("out/runs/report.md")).unwrap();
    folder.ok("report out/runs");
    let report = folder.read("out/runs/report.md");
    let unmeasured = "**Not measured: absent (there is no no/such/peer";
    assert!(report.contains(unmeasured), "{report}");
    let agreed = "their losses differed from those of lfmark, relative: cleared by at most 0.0e0";
    assert!(report.contains(agreed), "{report}");
}

#[test]
fn arms_whose_losses_differ_are_not_measured() {
    let folder = Folder::new();
    fs::create_dir(folder.path("peers")).unwrap();
    folder.write("peers/lfmark.toml", "");
    folder.write("peers/other.toml", "learning-rate = 1e-2");
    folder.write("peers/smaller.toml", "lora-rank = 8");
    folder.write("peers/quarter.toml", "learning-rate = 1.25e-3");
    let check = |arm: &str, problem: &str| {
        folder.check_error(&format!("{VERSUS} --arms lfmark,{arm}"), 6, &[problem]);
        assert!(!folder.exists("out/runs"));
        fs::remove_dir_all(folder.path("out")).unwrap();
    };
    check("other", "their losses differ by at most");
    check("smaller", "not the same work: ");
    check(
        "quarter --device cpu --dtype bf16",
        "relative (tolerance 1.6e-2)",
    );
    folder.check_error(
        &format!("{VERSUS} --arms lfmark"),
        2,
        &["`cargo xtask peers` installs"],
    );
    folder.write("peers/maybe.toml", "clear-cache = \"maybe\"");
    for (arms, problem) in [
        ("lfmark,none", "peers/none.toml"),
        ("lfmark,lfmark", "two arms are called lfmark"),
        ("lfmark,maybe", "peers/maybe.toml"),
    ] {
        folder.check_error(&format!("{VERSUS} --arms {arms}"), 2, &[problem]);
        assert!(!folder.exists("out"), "{arms}");
    }
}

/// mlx-lm's own trainer gives lfmark's losses, within the tolerance of `versus`.
#[test]
fn mlx_lm_does_the_same_work() {
    let peer = repository("native/peers/mlx-lm/peer");
    if !peer.is_file() {
        return skip(
            "mlx_lm_does_the_same_work",
            "`cargo xtask peers mlx-lm` installs the peer",
        );
    }
    let folder = Folder::new();
    fs::create_dir(folder.path("peers")).unwrap();
    folder.write("peers/lfmark.toml", "");
    folder.write(
        "peers/mlx-lm.toml",
        format!("program = \"{}\"", peer.display()),
    );
    for dtype in ["f32", "bf16"] {
        let finished = folder.ok(&format!(
            "{VERSUS} --arms lfmark,mlx-lm --device cpu --dtype {dtype}"
        ));
        assert!(
            finished.stderr.contains("mlx-lm and lfmark: same work"),
            "{finished:?}"
        );
        let report = folder.read("out/runs/report.md");
        for part in [
            "**mlx-lm against lfmark: different programs.**",
            &format!("| Precision | {dtype} | {dtype} |"),
        ] {
            assert!(report.contains(part), "no `{part}` in:\n{report}");
        }
        let alone = folder.read("out/runs/02-mlx-lm/report.md");
        assert!(alone.contains("**The work was done by mlx-lm "), "{alone}");
        fs::remove_dir_all(folder.path("out")).unwrap();
    }
}
