//! `cargo xtask check-mac`: the whole workspace, tests and benches included, for Apple silicon, from Linux.
//!
//! Every name, type and lint of the macOS path is checked; with `--link` every program is built and
//! linked too ([`crate::mac_link`]). Nothing is run. mlx-sys's build script is replaced as on Linux,
//! for this one command only, and the Linux bindings serve, since both are made from the same headers.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::mac_link;
use crate::process::{cargo, command, loud, quiet, step, target_folder};
use crate::setup;

pub(crate) const TARGET: &str = "aarch64-apple-darwin";

/// Checks for the target; where it cannot be had, says so and passes unless `require`.
///
/// # Errors
/// Set-up failed, or the code does not pass, or there is no such target and `require`.
pub(crate) fn check_mac(link: bool, require: bool) -> Result<()> {
    if !setup::host()?.linux {
        println!("on a Mac `cargo xtask test` checks all of this, and more");
        return Ok(());
    }
    let native = setup::setup(None, None)?.context("on Linux set-up installs native MLX")?;
    if let Err(error) = has_target().or_else(|_| add_target()) {
        let unchecked = format!("NOT CHECKED for {TARGET}: no standard library for it: {error:#}");
        ensure!(!require, unchecked);
        println!("WARNING: {unchecked}");
        return Ok(());
    }
    let done = if link {
        "lint, build and link"
    } else {
        "type-check and lint"
    };
    println!("{done} for {TARGET}");
    let bindings = native.join("bindings");
    match link {
        true => mac_link::build(&arguments(&bindings), &bindings)?,
        false => {
            let mut clippy = cargo(&["clippy"]);
            clippy
                .args(arguments(&bindings))
                .env("RUSTFLAGS", "-Dwarnings");
            // What a few dependencies have in C or assembly need not be compiled.
            for tool in ["CC", "CXX", "AR"] {
                clippy.env(format!("{tool}_{}", TARGET.replace('-', "_")), "true");
            }
            loud(&mut clippy)?;
        }
    }
    println!("{done} for {TARGET}: passed");
    Ok(())
}

/// Where this program keeps what it needs for the target.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(target_folder()?.join("mac"))
}

/// What Cargo is told of work, target and native MLX.
fn arguments(bindings: &Path) -> Vec<String> {
    let settings = [
        // Nothing is run, so neither debug information nor speed is of use.
        "profile.dev.debug=0".to_owned(),
        "profile.dev.package.sha2.opt-level=0".to_owned(),
        "profile.dev.package.tokenizers.opt-level=0".to_owned(),
        format!("target.{TARGET}.mlx.rustc-link-lib=[\"dylib=mlxc\"]"),
        format!("target.{TARGET}.mlx.rustc-env.OUT_DIR={bindings:?}"),
    ];
    ["--locked", "--workspace", "--all-targets"]
        .into_iter()
        .chain(["--target", TARGET])
        .map(String::from)
        .chain(
            settings
                .into_iter()
                .flat_map(|setting| ["--config".to_owned(), setting]),
        )
        .collect()
}

fn has_target() -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let folder = quiet(&mut command(
        rustc,
        ["--print", "target-libdir", "--target", TARGET],
    ))?;
    let folder = Path::new(folder.trim());
    ensure!(folder.is_dir(), "there is no {}", folder.display());
    Ok(())
}

fn add_target() -> Result<()> {
    step(&format!("rustup target add {TARGET}"), || {
        quiet(&mut command("rustup", ["target", "add", TARGET]))
    })?;
    has_target()
}
