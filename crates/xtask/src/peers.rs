//! Environments of the peers: other programs that do lfmark's work, with pinned Python packages.
//!
//! ```text
//! native/peers/<name>/                    a virtual environment
//!                    /peer                starts the peer with it
//!                    /peer-as-installed   the same without the BLAS of lfmark's set-up (Linux)
//! ```
//!
//! A starter is written last, so that where there is one, its environment is complete.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::prerequisites;
use crate::process::{command, quiet, root, step};
use crate::setup::wheels::{self, MLX};
use crate::setup::{host, remove, setup};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// mlx-lm's trainer and generator, on the MLX of the set-up's back end.
    MlxLm,
    /// PyTorch with transformers and PEFT.
    Torch,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::MlxLm => "mlx-lm",
            Self::Torch => "torch",
        }
    }

    fn folder(self) -> PathBuf {
        root().join("native/peers").join(self.name())
    }

    fn python(self) -> PathBuf {
        self.folder().join("bin/python")
    }

    fn program(self) -> &'static str {
        match self {
            Self::MlxLm => "mlx_lm_peer.py",
            Self::Torch => "torch_peer.py",
        }
    }
}

/// Installs a peer, or all of them.
///
/// # Errors
/// Python, set-up or an install failed.
pub(crate) fn peers(peer: Option<Peer>) -> Result<()> {
    let wanted = peer.map_or(vec![Peer::MlxLm, Peer::Torch], |peer| vec![peer]);
    if wanted.iter().any(|peer| !peer.python().is_file()) {
        prerequisites::pinned_python("cargo xtask peers", host()?.linux)?;
    }
    let native = setup(None, None)?;
    wanted
        .into_iter()
        .try_for_each(|peer| install(peer, native.as_deref()))
}

fn install(peer: Peer, native: Option<&Path>) -> Result<()> {
    let root = root();
    let name = peer.name();
    let folder = peer.folder();
    println!("peer {name} in native/peers/{name}");
    let starter = folder.join("peer");
    if starter.exists() {
        fs::remove_file(&starter)
            .with_context(|| format!("cannot remove {}", starter.display()))?;
    }
    let python = peer.python();
    if !python.is_file() {
        step("create the environment", || {
            quiet(command("python3", ["-m", "venv"]).arg(&folder))
        })?;
    }
    let requirements = format!("peers/requirements-{name}.txt");
    let wheels = match (peer, native) {
        (Peer::MlxLm, _) if !host()?.linux => mac_wheels(&python, &folder)?,
        (Peer::MlxLm, Some(native)) => mlx_wheels(&file_names(&native.join("python"))?),
        _ => Vec::new(),
    };
    step(&format!("install {requirements}"), || {
        let mut pip = command(&python, ["-m", "pip", "install", "--quiet", "-r"]);
        pip.arg(root.join(&requirements)).args(wheels);
        // macOS tells a Python that was built for an older one that it is 16, and pip then refuses
        // the wheels for 26.
        pip.env("SYSTEM_VERSION_COMPAT", "0");
        quiet(pip.args(["--disable-pip-version-check", "--no-input"]))
    })?;

    let program = root.join("peers").join(peer.program());
    let start = |preload: Option<&Path>| starter_text(&python, &program, preload);
    // What lfmark links ahead of the wheel's BLAS.
    let blas = native.map(|native| native.join("lib/liblfmark_native.so"));
    let blas = blas.filter(|path| peer == Peer::MlxLm && path.is_file());
    if blas.is_some() {
        write_starter(&folder.join("peer-as-installed"), &start(None))?;
    }
    write_starter(&starter, &start(blas.as_deref()))
}

/// MLX's wheels for this Mac, the same that set-up chooses, as files.
fn mac_wheels(python: &Path, folder: &Path) -> Result<Vec<String>> {
    let platform = wheels::for_this_mac()?;
    let folder = folder.join("wheels");
    remove(&folder)?;
    step(&format!("download MLX's wheels ({platform})"), || {
        let mut pip = wheels::pip(python, "download", Some(platform));
        pip.arg("--dest").arg(&folder);
        quiet(pip.args(["mlx", "mlx-metal"].map(|package| format!("{package}=={MLX}"))))
    })?;
    let files = file_names(&folder)?;
    Ok(files
        .iter()
        .map(|file| folder.join(file).to_string_lossy().into_owned())
        .collect())
}

/// The wheels of MLX and what it depends on among those that set-up has unpacked, as pip asks for
/// them: the peer runs on the same MLX. The BLAS beside them is not MLX's.
fn mlx_wheels(unpacked: &[String]) -> Vec<String> {
    let wheels = unpacked.iter().filter_map(|name| {
        let (package, version) = name.strip_suffix(".dist-info")?.split_once('-')?;
        let mlx = package.starts_with("mlx_") || package.starts_with("nvidia_");
        mlx.then(|| format!("{}=={version}", package.replace('_', "-")))
    });
    let mut wheels: Vec<String> = wheels.collect();
    wheels.sort();
    wheels
}

fn file_names(folder: &Path) -> Result<Vec<String>> {
    let cannot = || format!("cannot read {}", folder.display());
    fs::read_dir(folder)
        .with_context(cannot)?
        .map(|entry| {
            Ok(entry
                .with_context(cannot)?
                .file_name()
                .to_string_lossy()
                .into_owned())
        })
        .collect()
}

/// A shell script that becomes the peer.
fn starter_text(python: &Path, program: &Path, preload: Option<&Path>) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let environment = preload.map_or(String::new(), |path| {
        format!("export LD_PRELOAD={}\n", quoted(path))
    });
    format!(
        "#!/bin/sh\n# Written by `cargo xtask peers`; run it again rather than edit this.\n\
         {environment}exec {} {} \"$@\"\n",
        quoted(python),
        quoted(program)
    )
}

fn write_starter(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starter_becomes_the_peer_also_from_a_folder_with_a_quote() {
        let text = starter_text(
            Path::new("/it's/python"),
            Path::new("/p/peer.py"),
            Some(Path::new("/n/lib.so")),
        );
        assert_eq!(
            text.lines().skip(2).collect::<Vec<_>>(),
            [
                "export LD_PRELOAD='/n/lib.so'",
                r#"exec '/it'\''s/python' '/p/peer.py' "$@""#
            ]
        );
        let plain = starter_text(Path::new("/python"), Path::new("/p/peer.py"), None);
        assert!(!plain.contains("LD_PRELOAD"), "{plain}");
    }

    #[test]
    fn a_peer_gets_the_mlx_of_the_set_up() {
        let unpacked = [
            "mlx",
            "mlx_cuda_13-0.32.2.dist-info",
            "nvidia_cudnn_cu13-9.28.1.4.dist-info",
            "scipy_openblas32-0.3.34.481.3.dist-info",
        ];
        assert_eq!(
            mlx_wheels(&unpacked.map(str::to_owned)),
            ["mlx-cuda-13==0.32.2", "nvidia-cudnn-cu13==9.28.1.4"]
        );
    }
}
