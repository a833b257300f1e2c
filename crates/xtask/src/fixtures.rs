//! Golden fixtures and the embedded model, made by pinned Python.

use anyhow::Result;

use crate::process::{command, loud, quiet, root, step};

/// Creates the Python environment, then runs the three scripts of `fixtures/`.
///
/// # Errors
/// Python, an install or a script failed; a script's own output is shown.
pub(crate) fn fixtures() -> Result<()> {
    let root = root();
    let python = root.join(".venv/bin/python");
    println!("fixtures");
    if !python.is_file() {
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
    for script in [
        "fixtures/make_oracle.py",
        "fixtures/make_embedded.py",
        "fixtures/make_statistics.py",
    ] {
        println!("  {script}");
        loud(command(&python, [script]).current_dir(&root))?;
    }
    Ok(())
}
