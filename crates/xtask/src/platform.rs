//! Everything that differs between the systems native MLX is set up on, in one table.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Result, bail};

/// The oldest macOS that is built for: MLX's wheels are for no older one.
pub(crate) const MACOS_TARGET: &str = "14.0";

/// What set-up must know of a system.
#[derive(Debug, PartialEq)]
pub(crate) struct Platform {
    /// Rust's name for it.
    pub(crate) triple: String,
    /// Ending of a shared library.
    pub(crate) library: &'static str,
    /// What a loader replaces by the folder of the library it is loading.
    pub(crate) origin: &'static str,
    /// Whether mlx-c needs the compatibility header, and programs the library of missing symbols.
    pub(crate) linux: bool,
}

impl Platform {
    /// Looks a target triple up.
    ///
    /// # Errors
    /// MLX has no library for that system.
    pub(crate) fn of(triple: &str) -> Result<Self> {
        let (library, origin, linux) = match triple {
            "x86_64-unknown-linux-gnu" | "aarch64-unknown-linux-gnu" => ("so", "$ORIGIN", true),
            "aarch64-apple-darwin" => ("dylib", "@loader_path", false),
            "x86_64-apple-darwin" => bail!(
                "this Rust is for Intel Macs and MLX is for Apple silicon only; on Apple silicon, \
                 install Rust from a native terminal (not under Rosetta)"
            ),
            other => bail!(
                "MLX has no library for {other}; supported: Linux with glibc (x86_64, aarch64) \
                 and macOS on Apple silicon"
            ),
        };
        Ok(Self {
            triple: triple.to_owned(),
            library,
            origin,
            linux,
        })
    }

    /// Libraries a program links, in the loader's search order.
    pub(crate) fn link_libraries(&self) -> &'static [&'static str] {
        if self.linux {
            &["mlxc", "lfmark_native"]
        } else {
            &["mlxc"]
        }
    }
}

/// What a compiler is told for a program to look for libraries in a folder. As `-Wl,-rpath,` it
/// would end at a comma.
pub(crate) fn rpath(folder: &Path) -> [&OsStr; 4] {
    let linker = OsStr::new("-Xlinker");
    [linker, OsStr::new("-rpath"), linker, folder.as_os_str()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intel_mac_is_told_what_to_do() {
        let message = Platform::of("x86_64-apple-darwin").unwrap_err().to_string();
        assert!(message.contains("Apple silicon"), "{message}");
    }

    #[test]
    fn a_system_without_mlx_is_named() {
        let message = Platform::of("x86_64-unknown-linux-musl")
            .unwrap_err()
            .to_string();
        assert!(message.contains("x86_64-unknown-linux-musl"), "{message}");
    }

    #[test]
    fn only_linux_needs_the_missing_symbols() {
        let linux = Platform::of("aarch64-unknown-linux-gnu").unwrap();
        let mac = Platform::of("aarch64-apple-darwin").unwrap();
        assert_eq!(linux.link_libraries(), ["mlxc", "lfmark_native"]);
        assert_eq!(mac.link_libraries(), ["mlxc"]);
    }
}
