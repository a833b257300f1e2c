//! Golden fixtures, made by pinned Python.

use std::path::Path;

use anyhow::Result;

use crate::prerequisites;
use crate::process::{command, loud, quiet, root, step};
use crate::setup::host;

/// Creates the Python environment, then runs the scripts of `fixtures/`.
///
/// # Errors
/// Python, an install or a script failed; a script's own output is shown.
pub(crate) fn fixtures() -> Result<()> {
    let root = root();
    let python = root.join(".venv/bin/python");
    println!("fixtures");
    if !python.is_file() {
        prerequisites::pinned_python("cargo xtask fixtures", host()?.linux)?;
        step("create .venv", || {
            quiet(command("python3", ["-m", "venv", ".venv"]).current_dir(&root))
        })?;
    }
    step("install fixtures/requirements.txt", || {
        quiet(
            command(
                &python,
                [
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "-r",
                    "fixtures/requirements.txt",
                ],
            )
            .current_dir(&root),
        )
    })?;
    let run = |python: &Path, script: &str| {
        println!("  {script}");
        loud(command(python, [script]).current_dir(&root))
    };
    run(&python, "fixtures/make_oracle.py")?;
    let torch = root.join("native/peers/torch/bin/python");
    match torch.is_file() {
        true => run(&torch, "fixtures/make_transformers.py")?,
        false => println!(
            "  fixtures/make_transformers.py: left out; `cargo xtask peers torch` installs what \
             it needs"
        ),
    }
    // The quantized models are conversions of the one that transformers saved.
    run(&python, "fixtures/make_quantized.py")?;
    run(&python, "fixtures/make_statistics.py")?;
    Ok(())
}
