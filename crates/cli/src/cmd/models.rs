//! `lfmark models`: what runs without a download.

use model::{
    config::Shape,
    load::{EMBEDDED, EMBEDDED_CONFIG, PRESETS},
};
use report::units;
use serde_json::json;

use crate::{args::Output, exit::Failure, output};

pub(crate) fn run(output: Output) -> Result<(), Failure> {
    let presets = PRESETS
        .iter()
        .map(|preset| (preset.name, preset.config, "random"));
    let models = std::iter::once((EMBEDDED, EMBEDDED_CONFIG, "trained")).chain(presets);
    let mut rows = Vec::new();
    for (name, config, weights) in models {
        rows.push((name, Shape::from_json(config, name)?.parameters(), weights));
    }
    if output.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, parameters, weights)| {
                json!({"name": name, "parameters": parameters, "weights": weights})
            })
            .collect();
        return output::print(&json!({ "models": rows }).to_string());
    }
    output::print(&format!("{:<12}{:>15}  weights", "model", "parameters"))?;
    for (name, parameters, weights) in rows {
        output::print(&format!(
            "{name:<12}{:>15}  {weights}",
            units::count(parameters)
        ))?;
    }
    Ok(())
}
