//! Type-checks the whole workspace, tests and benches included, for Apple silicon on Linux.
//!
//! Every name, type and feature of the macOS path is checked; nothing is linked or run.
//! mlx-sys's build script is replaced as on Linux, for this one command only, and the
//! Linux bindings serve, since both are made from the same headers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::prerequisites::first_version;
use crate::process::{cargo, command, loud, quiet, root};
use crate::setup;

const TARGET: &str = "aarch64-apple-darwin";
/// Debian's newest Rust, with the source of the standard library.
const DEBIAN: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// The Rust that the workspace asks for (`rust-version`).
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// How the standard library for the target is had.
enum Toolchain {
    /// Precompiled, beside the Rust in use.
    Installed,
    /// Built from the source that Debian packages, by Debian's own Rust.
    Debian,
}

/// What is tried, what it would give, and the trying.
type Attempt = (&'static str, Toolchain, fn() -> Result<()>);

/// Type-checks for the target; where no toolchain can be had, says so and passes unless `require`.
///
/// # Errors
/// Set-up failed, or the code does not type-check, or no toolchain was found and `require`.
pub(crate) fn check_mac(require: bool) -> Result<()> {
    if !setup::host()?.linux {
        println!("on a Mac `cargo xtask test` checks all of this, and more");
        return Ok(());
    }
    let native = setup::setup(None, None)?.context("on Linux set-up installs native MLX")?;
    println!("type-check for {TARGET}");
    let toolchain = match toolchain() {
        Ok(toolchain) => toolchain,
        Err(tried) => {
            let tried = format!(
                "NOT CHECKED for {TARGET}: no standard library for it. Tried:\n- {}",
                tried.join("\n- ")
            );
            ensure!(!require, tried);
            println!("WARNING: {tried}");
            return Ok(());
        }
    };
    let mut check = match toolchain {
        // The lints too, as they are errors to whoever runs `cargo xtask test` on a Mac.
        Toolchain::Installed => cargo(&["clippy"]),
        // Debian's clippy is another package, which may lag.
        Toolchain::Debian => debian_cargo(&["check", "-Z", "build-std=std,panic_abort"]),
    };
    check
        .args(["--locked", "--workspace", "--all-targets"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_folder(&root()))
        .arg("--config")
        .arg(format!(
            "target.{TARGET}.mlx.rustc-link-lib=[\"dylib=mlxc\"]"
        ))
        .arg("--config")
        .arg(format!(
            "target.{TARGET}.mlx.rustc-env.OUT_DIR={:?}",
            native.join("bindings")
        ));
    if matches!(toolchain, Toolchain::Installed) {
        check.args(["--", "-D", "warnings"]);
    }
    // Nothing is linked, so what a few dependencies have in C or assembly need not be compiled.
    for tool in ["CC", "CXX", "AR"] {
        check.env(format!("{tool}_{}", TARGET.replace('-', "_")), "true");
    }
    loud(&mut check)?;
    println!("type-check for {TARGET}: passed");
    Ok(())
}

/// The first toolchain that works, installing what may be installed; or what was tried.
fn toolchain() -> Result<Toolchain, Vec<String>> {
    let mut tried = Vec::new();
    let attempts: [Attempt; 4] = [
        ("use an installed target", Toolchain::Installed, has_target),
        ("rustup target add", Toolchain::Installed, add_target),
        (
            "use Debian's Rust and its library source",
            Toolchain::Debian,
            has_debian,
        ),
        (
            "install Debian's Rust and its library source",
            Toolchain::Debian,
            add_debian,
        ),
    ];
    for (name, toolchain, attempt) in attempts {
        match attempt() {
            Ok(()) => {
                println!("  {name}: yes");
                return Ok(toolchain);
            }
            Err(error) => {
                println!("  {name}: no");
                tried.push(format!("{name}: {error:#}"));
            }
        }
    }
    Err(tried)
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
    quiet(&mut command("rustup", ["target", "add", TARGET]))?;
    has_target()
}

fn has_debian() -> Result<()> {
    let version = quiet(&mut command("/usr/bin/rustc", ["--version"]))?;
    ensure!(
        first_version(&version) >= first_version(RUST),
        "Rust {RUST} is needed, there is {}",
        version.trim()
    );
    quiet(&mut command("/usr/bin/cargo", ["--version"]))?;
    let sysroot = quiet(&mut command("/usr/bin/rustc", ["--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    ensure!(library.is_dir(), "there is no {}", library.display());
    Ok(())
}

fn add_debian() -> Result<()> {
    let user = quiet(&mut command("id", ["-u"]))?;
    if user.trim() != "0" {
        bail!(
            "needs root: apt-get install --no-install-recommends {}",
            DEBIAN.join(" ")
        );
    }
    let apt = |args: &[&str]| {
        quiet(command("apt-get", args).env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
    };
    println!("  apt-get install {} ...", DEBIAN.join(" "));
    apt(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(DEBIAN);
    apt(&install)?;
    has_debian()
}

/// Debian's Cargo, which builds the standard library for the target first.
fn debian_cargo(args: &[&str]) -> Command {
    let mut path = OsString::from("/usr/bin:");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut cargo = command("/usr/bin/cargo", args);
    cargo
        .current_dir(root())
        .env("PATH", path)
        // What lets a released compiler build the standard library.
        .env("RUSTC_BOOTSTRAP", "1");
    // They name the Rust that started this program.
    for variable in [
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTUP_TOOLCHAIN",
        "LD_LIBRARY_PATH",
    ] {
        cargo.env_remove(variable);
    }
    cargo
}

/// A folder of its own: sharing one would rebuild everything at each change of target.
fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder))
        .join("mac")
}
