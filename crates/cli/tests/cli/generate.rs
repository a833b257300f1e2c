//! `lfmark generate`.

use serde_json::{Value, json};

use crate::support::Folder;

/// On the CPU, where two processes round alike.
const EIGHT: &str = "generate --device cpu --json --prompt-ids 1,2,3 --ignore-eos --max-tokens 8";

fn token_ids(folder: &Folder, arguments: &str) -> Value {
    folder.lfmark(arguments).json()["token_ids"].take()
}

#[test]
fn json_holds_the_ids_the_text_and_the_rates() {
    let folder = Folder::new();
    let json = folder.lfmark(EIGHT).json();
    assert_eq!(json["token_ids"].as_array().unwrap().len(), 8);
    assert_eq!(json["generated_tokens"], 8);
    assert_eq!(json["prompt_tokens"], 3);
    assert_eq!(json["finish"], "length");
    assert!(json["text"].is_string());
    assert!(json["tokens_per_second"].as_f64().unwrap() > 0.0);
    assert!(json["prompt_tokens_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_same_command_gives_the_same_tokens() {
    let folder = Folder::new();
    let sampled = format!("{EIGHT} --temperature 1 --seed 4");
    let other_seed = format!("{EIGHT} --temperature 1 --seed 5");
    assert_eq!(token_ids(&folder, EIGHT), token_ids(&folder, EIGHT));
    assert_eq!(token_ids(&folder, &sampled), token_ids(&folder, &sampled));
    assert_ne!(
        token_ids(&folder, &sampled),
        token_ids(&folder, &other_seed)
    );
}

#[test]
fn a_prompt_ends_at_its_stop_token_with_the_text_alone_on_stdout() {
    let folder = Folder::new();
    let hello = "generate --device cpu --prompt Hello --temperature 0.8 --top-p 0.95 --seed 1 \
                 --max-tokens 1000";
    let finished = folder.ok(hello);
    assert!(!finished.stdout.trim().is_empty(), "{finished:?}");
    assert!(finished.stderr.contains("tokens/s"), "{finished:?}");
    let quiet = folder.ok(&format!("{hello} --quiet"));
    assert_eq!(
        (quiet.stdout, quiet.stderr),
        (finished.stdout, String::new())
    );
    let json = folder.lfmark(&format!("{hello} --json")).json();
    assert_eq!(json["finish"], "stop");
}

#[test]
fn adapters_of_a_run_change_the_tokens_only_where_they_learnt() {
    let plain = token_ids(&Folder::new(), EIGHT);
    for (learning_rate, changes) in [("0", false), ("0.1", true)] {
        let folder = Folder::new();
        folder.ok(&format!(
            "run -o out --device cpu --iterations 3 --no-generation \
             --learning-rate {learning_rate}"
        ));
        // The run folder, and the folder of the adapters themselves.
        for adapters in ["out", "out/adapters"] {
            let adapted = token_ids(&folder, &format!("{EIGHT} --adapters {adapters}"));
            assert_eq!(adapted != plain, changes, "{learning_rate}: {adapted}");
        }
    }
}

#[test]
fn what_cannot_be_generated_from_is_a_clear_error() {
    let folder = Folder::with("file", "");
    let check = |arguments: &str, code, needles: &[&str]| {
        folder.check_error(&format!("generate {arguments}"), code, needles);
    };
    check(
        "--prompt-ids 1,1536",
        1,
        &["token id 1536 at position 1", "vocabulary of 1536"],
    );
    check("--prompt-ids 1,x", 2, &["invalid value 'x'"]);
    check("", 2, &["--prompt"]);
    check("--prompt a --prompt-ids 1", 2, &["cannot be used with"]);
    check("--prompt a --max-tokens 0", 2, &["--max-tokens is 0"]);
    check("--prompt a --temperature=-1", 2, &["the temperature is -1"]);
    check("--prompt a --top-p 0", 2, &["top-p is 0"]);
    check("--prompt a --model nope", 1, &["`nope` is neither"]);
    check(
        "--prompt a --adapters nope",
        1,
        &["cannot read nope/adapter_config.json", "name a run folder"],
    );
    check(
        "--prompt a --adapters file",
        1,
        &["file/adapter_config.json"],
    );
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let folder = Folder::new();
    folder.ok("run -o out --iterations 1 --no-generation");
    let config: Value =
        serde_json::from_str(&folder.read("out/adapters/adapter_config.json")).unwrap();
    let check = |edit: fn(&mut Value), needles: &[&str]| {
        let mut config = config.clone();
        edit(&mut config);
        folder.write("out/adapters/adapter_config.json", config.to_string());
        folder.check_error(&format!("{EIGHT} --adapters out"), 1, needles);
    };
    check(
        |config| config["lora_parameters"]["rank"] = json!(8),
        &["out/adapters/adapters.safetensors", "misshapen", "lora_a"],
    );
    check(
        |config| config["fine_tune_type"] = json!("full"),
        &["adapter_config.json", "fine_tune_type is `full`"],
    );
    check(
        |config| config["num_layers"] = json!(9),
        &["out/adapters/adapter_config.json", "9 LoRA layers"],
    );
}
