use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc;

use super::steps::How::{self, Json, Repeated, Smoke, Tests, Text, UnderLoad};
use super::steps::When::{Always, InFull, OnMac};
use super::*;

/// A folder with programs of these names, which the shell runs, and nothing else on `PATH` but
/// what they need themselves.
fn machine(programs: &[(&str, &str)]) -> (tempfile::TempDir, At) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_owned();
    fs::create_dir_all(place.join("examples")).unwrap();
    for (name, script) in programs {
        let path = place.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut path = OsString::from(&place);
    path.push(":/bin:/usr/bin");
    let at = At {
        root: place.clone(),
        cargo: place.join("cargo"),
        xtask: place.join("xtask"),
        profile: "release".to_owned(),
        scratch: place.clone(),
        path: Some(path),
        mac: true,
        quick: false,
        folder: place,
    };
    (folder, at)
}

/// A command as it is shown here.
fn typed(words: &str) -> String {
    format!("PATH=REPOSITORY:/bin:/usr/bin {words}")
}

fn collected(at: &At, steps: &[Step]) -> Value {
    let output = at.root.join("found.json");
    let private = Private::new(&["anna".to_owned()], &[(&at.root, "REPOSITORY")]);
    let found = collect(at, steps, &private, &output).unwrap();
    let text = fs::read_to_string(output).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), found);
    found
}

fn one(at: &At, how: How) -> Value {
    collected(at, &[("it", Always, 60, how)])["it"].take()
}

/// What `otool -lL` of Apple's tools prints of a library, shortened.
const OTOOL: &str = "\
/Users/anna/lfmark/native/metal/lib/libmlxc.dylib:
\t@rpath/libmlxc.dylib (compatibility version 0.0.0, current version 0.0.0)
\t/usr/lib/libSystem.B.dylib (compatibility version 1.0.0, current version 1351.0.0)
Load command 9
      cmd LC_BUILD_VERSION
  cmdsize 32
 platform 1
    minos 14.0
      sdk 15.5
   ntools 1
Load command 14
          cmd LC_RPATH
      cmdsize 32
         path @loader_path (offset 12)
";

#[test]
fn what_programs_print_is_kept_with_what_was_run_and_without_names() {
    let (_folder, at) = machine(&[
        ("sw_vers", "printf 'ProductVersion:\\t\\t26.1\\n'"),
        ("otool", &format!("cat <<'END'\n{OTOOL}END")),
        (
            "codesign",
            "echo \"$PWD/lfmark: valid on disk, Anna\" >&2; exit 1",
        ),
    ]);
    let found = collected(
        &at,
        &[
            ("raw/sw_vers", OnMac, 60, Text("sw_vers")),
            (
                "libraries/load",
                OnMac,
                60,
                Text("otool -L {folder}/lfmark"),
            ),
            (
                "libraries/signed",
                OnMac,
                60,
                Text("codesign --verify {folder}/lfmark"),
            ),
        ],
    );
    assert_eq!(
        found["raw"]["sw_vers"]["stdout"],
        "ProductVersion:\t\t26.1\n"
    );
    let load = &found["libraries"]["load"];
    assert_eq!(load["command"], typed("otool -L REPOSITORY/lfmark"));
    let expected = OTOOL.replace("anna", "removed");
    assert_eq!(load["stdout"], expected);
    let signed = &found["libraries"]["signed"];
    assert_eq!(signed["exit"], 1);
    assert_eq!(
        signed["stderr"],
        "REPOSITORY/lfmark: valid on disk, removed\n"
    );
    assert_eq!(found["complete"], true);
}

#[test]
fn what_the_parsers_of_metrics_read_is_kept_byte_for_byte() {
    macro_rules! fixtures {
        ($($program:literal $file:literal)*) => {
            [$(($program, include_str!(concat!("../../../../fixtures/machines/", $file)))),*]
        };
    }
    let texts = fixtures!(
        "sysctl" "sysctl-m1-pro.txt"
        "ioreg" "ioreg-m5-max.txt"
        "system_profiler" "system-profiler-constructed.json"
        "pmset" "pmset-custom-m1-max.txt"
    );
    let scripts = texts.map(|(program, text)| (program, format!("cat <<'END'\n{text}\nEND")));
    let programs = scripts
        .each_ref()
        .map(|(program, script)| (*program, script.as_str()));
    let (_folder, at) = machine(&programs);
    let private = Private::new(&["anna".to_owned()], &[(&at.root, "REPOSITORY")]);
    for (program, text) in texts {
        let begin = format!("raw/{program}");
        let (_, _, limit, how) = STEPS.iter().find(|it| it.0.starts_with(&begin)).unwrap();
        let limit = Duration::from_secs(*limit);
        let entry = how.perform(&at, &Value::Null, limit).unwrap();
        assert_eq!(
            private.clean(entry)["stdout"],
            format!("{text}\n"),
            "{program}"
        );
    }
}

#[test]
fn what_only_a_mac_has_is_null_elsewhere_and_what_takes_minutes_where_time_is_short() {
    let (_folder, mut at) = machine(&[]);
    (at.mac, at.quick) = (false, true);
    let found = collected(
        &at,
        &[
            ("raw/sw_vers", OnMac, 60, Text("echo printed")),
            ("tests", InFull, 60, Text("echo printed")),
            ("versions/sh", Always, 60, Text("echo printed")),
        ],
    );
    assert_eq!(found["raw"], json!({"sw_vers": null}));
    assert_eq!(found["tests"], Value::Null);
    assert_eq!(found["versions"]["sh"]["stdout"], "printed\n");
}

#[test]
fn what_fails_is_an_entry_and_the_rest_follows() {
    let (_folder, at) = machine(&[("crash", "echo half; kill -11 $$")]);
    let found = collected(
        &at,
        &[
            ("missing", Always, 60, Text("no-such-program-here -v")),
            ("crashes", Always, 60, Json("crash")),
            ("follows", Always, 60, Text("echo printed")),
        ],
    );
    let error = found["missing"]["error"].as_str().unwrap();
    let expected = format!("cannot start `{}`", typed("no-such-program-here -v"));
    assert!(error.starts_with(&expected), "{error}");
    let exit = &found["crashes"]["exit"];
    assert!(exit.as_str().unwrap().starts_with("signal: 11"), "{exit}");
    assert_eq!(found["crashes"]["stdout"], "half\n");
    assert_eq!(found["follows"]["exit"], 0);
}

#[test]
fn what_hangs_is_ended_with_all_that_it_started() {
    let (folder, at) = machine(&[("hang", "exec 3> held; echo begun; sleep 1000 & wait")]);
    let held = folder.path().join("held");
    let made = Command::new("mkfifo").arg(&held).status().unwrap();
    assert!(made.success());
    let (send, ended) = mpsc::channel();
    // Ends once nobody has it open for writing.
    std::thread::spawn(move || send.send(fs::read(held)));
    let found = collected(&at, &[("hangs", Always, 1, Text("hang"))]);
    assert_eq!(
        found["hangs"]["error"],
        format!("`{}` did not end within 1 s", typed("hang"))
    );
    assert_eq!(found["hangs"]["stdout"], "begun\n");
    assert!(ended.recv_timeout(Duration::from_secs(60)).is_ok());
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let (_folder, at) = machine(&[]);
    let private = Private::new(&[], &[]);
    let steps = [("it", Always, 60, Text("echo printed"))];
    let output = at.root.join("no/such/folder.json");
    let error = collect(&at, &steps, &private, &output).unwrap_err();
    assert!(
        error.to_string().contains("folder.json; name another file"),
        "{error}"
    );
}

/// Writes a record with these losses where `--output` says, whatever else is asked for.
fn lfmark(losses: &str) -> String {
    format!(
        "while [ \"$1\" != --output ]; do shift; done; mkdir -p \"$2\"
        for loss in {losses}; do
            echo \"{{\\\"event\\\":\\\"iteration\\\",\\\"loss\\\":$loss,\\\"active_bytes\\\":7}}\"
        done > \"$2/record.jsonl\"
        echo '{{\"event\":\"generation\",\"token_ids\":[4,2]}}' >> \"$2/record.jsonl\""
    )
}

#[test]
fn losses_of_the_smoke_preset_are_compared_with_those_of_the_cpu() {
    let check = |losses: &str, dtype: &'static str, difference: Value, agrees: Value| {
        let (_folder, at) = machine(&[("lfmark", &lfmark(losses))]);
        let reference = json!({"smoke": {"cpu_f32": {"losses": [4.0, 2.0]}}});
        let limit = Duration::from_secs(60);
        let entry = Smoke("gpu", dtype, "on")
            .perform(&at, &reference, limit)
            .unwrap();
        assert_eq!(entry["largest_relative_difference"], difference, "{losses}");
        assert_eq!(entry["agrees"], agrees, "{losses}");
        assert_eq!(entry["active_bytes"], json!([7, 7]));
        assert_eq!(entry["tokens"], json!([[4, 2]]));
        assert_eq!(entry["record"].as_array().unwrap().len(), 3);
    };
    check("4.0 2.0", "f32", json!(0.0), json!(true));
    check("4.0 2.03125", "f32", json!(0.015625), json!(false));
    check("4.0 2.03125", "bf16", json!(0.015625), json!(true));
    check("4.0 null", "bf16", Value::Null, Value::Null);
}

#[test]
fn exits_are_counted_and_those_that_fail_are_kept() {
    let (_folder, at) = machine(&[(
        "lfmark",
        "echo x >> ran; [ $(wc -l < ran) -ne 3 ] || exit 6",
    )]);
    let found = one(&at, Repeated(5, "{folder}/lfmark generate"));
    assert_eq!(found["failed"], 1);
    let exits: Vec<&Value> = found["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["exit"])
        .collect();
    assert_eq!(exits, [0, 0, 6, 0, 0]);
}

#[test]
fn sensors_are_read_while_something_runs_or_it_is_said_that_nothing_did() {
    let (_folder, at) = machine(&[
        ("machine", "echo '{\"read\":1}'"),
        ("works", "echo working; exec sleep 1000"),
        ("fails", "echo no memory >&2; exit 3"),
        // Read once the other has had time to end.
        (
            "later",
            "while [ ! -e ended ]; do :; done; sleep 0.2; echo '{\"read\":2}'",
        ),
        ("ends", "echo no memory >&2; touch ended; exit 3"),
    ]);
    let found = one(&at, UnderLoad("machine", "works"));
    assert_eq!(found["stdout"], json!({"read": 1}));
    assert_eq!(found["load_ended"], Value::Null);
    let found = one(&at, UnderLoad("later", "ends"));
    assert_eq!(found["load_ended"], "exit status: 3");
    assert_eq!(found["load_printed"], "no memory\n");
}

/// What `cargo test --no-fail-fast` prints, both streams together.
const CARGO_TEST: &str = "
     Running unittests src/lib.rs (target/debug/deps/model-0123456789abcdef)

running 2 tests
test speaks ... ok
test oracle_of_the_gpu ... FAILED

successes:

---- speaks stdout ----
largest difference 1e-4

successes:
    speaks

failures:

---- oracle_of_the_gpu stdout ----

thread 'oracle_of_the_gpu' panicked at crates/model/tests/oracle.rs:9:5:
logits differ by 0.5
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace

failures:
    oracle_of_the_gpu

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s

error: test failed, to rerun pass `-p model --lib`
     Running tests/mac.rs (target/debug/deps/mac-0123456789abcdef)

running 1 test
error: test failed, to rerun pass `-p model --test mac`

Caused by:
  process didn't exit successfully: `target/debug/deps/mac-0123456789abcdef` (signal: 6, SIGABRT: process abort signal)
   Doc-tests model

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

#[test]
fn every_failed_test_is_listed_with_its_message_and_every_program_that_crashed() {
    let script = format!("cat >&2 <<'END'\n{CARGO_TEST}END\nexit 101");
    let (_folder, at) = machine(&[("cargo", &script)]);
    let found = one(&at, Tests("{cargo} test"));
    assert_eq!(found["exit"], 101);
    assert_eq!(found["stdout"], CARGO_TEST);
    let failures = found["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 2);
    assert_eq!(failures[0]["binary"], "unittests src/lib.rs");
    assert_eq!(failures[0]["test"], "oracle_of_the_gpu");
    let message = failures[0]["message"].as_str().unwrap();
    assert!(
        message.contains("logits differ by 0.5") && !message.contains("1e-4"),
        "{message}"
    );
    assert_eq!(failures[1]["binary"], "tests/mac.rs");
    assert_eq!(failures[1]["test"], Value::Null);
    let message = failures[1]["message"].as_str().unwrap();
    assert!(message.contains("SIGABRT"), "{message}");
}

#[test]
fn nothing_of_the_owner_stays() {
    let names = [
        "anna\n",
        "Anna’s Mac Studio\n",
        "annas-mac.example.org\n",
        "root",
        "me",
    ];
    let private = Private::new(
        &names.map(str::to_owned),
        &[
            (Path::new("/Users/anna"), "~"),
            (Path::new("/Users/anna/lfmark"), "REPOSITORY"),
        ],
    );
    let check = |text: &str, expected: &str| {
        assert_eq!(private.clean(json!([text])), json!([expected]));
    };
    check(
        "-L/Users/anna/lfmark/native /Users/ANNA/x",
        "-LREPOSITORY/native ~/x",
    );
    check(
        "ssh Anna@annas-mac, annas-mac.example.org",
        "ssh removed@removed, removed",
    );
    check("“Anna’s Mac Studio”", "“removed”");
    let default = ["Mac\n", "Mac.lan\n", "MacBook Pro\n"].map(str::to_owned);
    let text = json!(["MacBook Pro, Mac14,7 of Mac.lan"]);
    assert_eq!(Private::new(&default, &[]).clean(text.clone()), text);
    check(
        "annals of root, me and /Users/annabel",
        "annals of root, me and /Users/annabel",
    );
    check(
        "  \"spdisplays_display-serial-number\" : \"C02XYZ\",\n  \"b\" : 1\n",
        "  \"spdisplays_display-serial-number\" : \"removed\",\n  \"b\" : 1\n",
    );
    check(
        "\"IOPlatformSerialNumber\" = \"C02XYZ\"",
        "\"IOPlatformSerialNumber\" = \"removed\"",
    );
}

#[test]
fn a_long_text_keeps_its_end() {
    assert_eq!(child::end_of("short"), "short");
    let text = "ä".repeat(100_001) + "end";
    let kept = child::end_of(&text);
    assert!(kept.starts_with("... 6 bytes left out ...\nä") && kept.ends_with("end"));
}

#[test]
fn every_step_of_the_table_has_a_place_of_its_own_and_a_limit() {
    let mut names: Vec<&str> = STEPS.iter().map(|it| it.0).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    for name in names.iter().filter(|it| !it.contains('/')) {
        let group = format!("{name}/");
        assert!(!names.iter().any(|it| it.starts_with(&group)), "{name}");
    }
    assert!(STEPS.iter().all(|it| it.2 > 0));
}
