//! Rust bindings of mlx-c, as mlx-sys's own build script would have made them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Writes `output` from every public header of the mlx-c source folder.
///
/// libclang is loaded at run time from `LIBCLANG_PATH`.
///
/// # Errors
/// No headers, libclang not found, a header that does not parse, or an unwritable output.
pub(crate) fn write(mlx_c: &Path, output: &Path, clang_args: &[String]) -> Result<()> {
    let folder = mlx_c.join("mlx/c");
    let mut headers: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    headers.retain(|path| path.extension().is_some_and(|ending| ending == "h"));
    headers.sort();
    ensure!(!headers.is_empty(), "no headers in {}", folder.display());

    let mut builder = bindgen::Builder::default()
        .rust_target(
            "1.73.0"
                .parse()
                .map_err(|error| anyhow::anyhow!("mlx-sys's Rust version: {error}"))?,
        )
        .clang_arg(format!("-I{}", mlx_c.display()))
        .clang_args(clang_args)
        // Declared by system headers only; their size types differ from Rust's.
        .blocklist_function("malloc")
        .blocklist_function("realloc");
    for header in headers {
        builder = builder.header(header.to_string_lossy());
    }
    builder
        .generate()
        .context("cannot read the mlx-c headers")?
        .write_to_file(output)
        .with_context(|| format!("cannot write {}", output.display()))
}
