//! What is read from the output of programs.

use serde_json::{Value, json};

/// Every failed test in the output of `cargo test`, with its message; without a name where a whole
/// test program ended otherwise than in order.
pub(super) fn failures(text: &str) -> Vec<Value> {
    let (mut binary, mut failing, mut inside) = ("", false, false);
    let mut found: Vec<(&str, Option<&str>, String)> = Vec::new();
    for line in text.lines() {
        let words = line.trim();
        let running = words.strip_prefix("Running ");
        let test = line
            .strip_prefix("---- ")
            .and_then(|it| it.strip_suffix(" stdout ----"));
        if let Some(name) = running.or(words.strip_prefix("Doc-tests ")) {
            // Its file has a hash of the build in its name.
            binary = name.split(" (").next().unwrap_or(name);
            inside = false;
        } else if line.contains("process didn't exit successfully") {
            found.push((binary, None, words.to_owned()));
        } else if ["failures:", "successes:"].contains(&line) || line.starts_with("test result: ") {
            (failing, inside) = (line == "failures:", false);
        } else if let Some(test) = test {
            inside = failing;
            if failing {
                found.push((binary, Some(test), String::new()));
            }
        } else if let (true, Some((_, _, message))) = (inside, found.last_mut()) {
            *message += line;
            *message += "\n";
        }
    }
    let entry = |(binary, test, message): &(&str, Option<&str>, String)| json!({"binary": binary, "test": test, "message": message.trim()});
    found.iter().map(entry).collect()
}

/// What a record says of a run, and the whole of it.
pub(super) fn record(text: &str) -> Value {
    let events: Vec<Value> = text
        .lines()
        .map_while(|line| serde_json::from_str(line).ok())
        .collect();
    let all = |kind: &str, field: &str| -> Vec<Value> {
        let events = events.iter().filter(|event| event["event"] == kind);
        events.map(|event| event[field].clone()).collect()
    };
    json!({
        "losses": all("iteration", "loss"),
        "active_bytes": all("iteration", "active_bytes"),
        "tokens": all("generation", "token_ids"),
        "record": events,
    })
}

/// The largest difference of two runs' losses, relative to the first's; `None` where they are not
/// as many, or one is no number.
pub(super) fn largest_difference(of: &Value, with: &Value) -> Option<f64> {
    let (of, with) = (of.as_array()?, with.as_array()?);
    if of.len() != with.len() || of.is_empty() {
        return None;
    }
    of.iter()
        .zip(with)
        .try_fold(0.0_f64, |largest, (of, with)| {
            let (of, with) = (of.as_f64()?, with.as_f64()?);
            Some(largest.max((with - of).abs() / of.abs()))
        })
}
