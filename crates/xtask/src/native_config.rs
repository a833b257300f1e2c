//! The generated `.cargo/mlx.toml`, by which Cargo finds native MLX.

use std::path::Path;

use crate::platform::{MACOS_TARGET, Platform};

/// Text of `.cargo/mlx.toml` for native MLX installed in `native`.
///
/// The links override (`[target.<triple>.mlx]`) takes the place of mlx-sys's build script.
/// The run path travels in the environment to the build scripts of the packages that
/// link MLX: as `rustflags` it would rebuild everything else, too. A Mac's oldest system is set
/// against a variable of conda's, for which the libraries would be too new.
pub(crate) fn text(platform: &Platform, native: &Path) -> String {
    let lib = native.join("lib");
    let libraries: Vec<String> = platform
        .link_libraries()
        .iter()
        .map(|library| format!("\"dylib={library}\""))
        .collect();
    let target = match platform.linux {
        true => String::new(),
        false => {
            format!("MACOSX_DEPLOYMENT_TARGET = {{ value = \"{MACOS_TARGET}\", force = true }}\n")
        }
    };
    format!(
        "# Written by `cargo xtask setup`; run it again rather than edit this.\n\
         [target.{triple}.mlx]\n\
         rustc-link-lib = [{libraries}]\n\
         rustc-link-search = [{search}]\n\
         rustc-env = {{ OUT_DIR = {bindings} }}\n\
         \n\
         [env]\n\
         LFMARK_NATIVE_DIR = {{ value = {native}, force = true }}\n\
         LFMARK_RPATH = {{ value = {lib}, force = true }}\n\
         {target}",
        triple = platform.triple,
        libraries = libraries.join(", "),
        search = quote(&format!("native={}", lib.display())),
        bindings = quote(&native.join("bindings").to_string_lossy()),
        native = quote(&native.to_string_lossy()),
        lib = quote(&lib.to_string_lossy()),
    )
}

/// A TOML string: JSON's escapes are all valid there.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(triple: &str, native: &str, expected: &str) {
        let platform = Platform::of(triple).unwrap();
        assert_eq!(text(&platform, Path::new(native)), expected);
    }

    #[test]
    fn linux_links_mlx_c_and_the_missing_symbols() {
        check(
            "x86_64-unknown-linux-gnu",
            "/src/lfmark/native/cpu",
            r#"# Written by `cargo xtask setup`; run it again rather than edit this.
[target.x86_64-unknown-linux-gnu.mlx]
rustc-link-lib = ["dylib=mlxc", "dylib=lfmark_native"]
rustc-link-search = ["native=/src/lfmark/native/cpu/lib"]
rustc-env = { OUT_DIR = "/src/lfmark/native/cpu/bindings" }

[env]
LFMARK_NATIVE_DIR = { value = "/src/lfmark/native/cpu", force = true }
LFMARK_RPATH = { value = "/src/lfmark/native/cpu/lib", force = true }
"#,
        );
    }

    #[test]
    fn macos_links_mlx_c_alone_and_odd_folder_names_are_quoted() {
        check(
            "aarch64-apple-darwin",
            r#"/Users/a "b"/native/metal"#,
            r#"# Written by `cargo xtask setup`; run it again rather than edit this.
[target.aarch64-apple-darwin.mlx]
rustc-link-lib = ["dylib=mlxc"]
rustc-link-search = ["native=/Users/a \"b\"/native/metal/lib"]
rustc-env = { OUT_DIR = "/Users/a \"b\"/native/metal/bindings" }

[env]
LFMARK_NATIVE_DIR = { value = "/Users/a \"b\"/native/metal", force = true }
LFMARK_RPATH = { value = "/Users/a \"b\"/native/metal/lib", force = true }
MACOSX_DEPLOYMENT_TARGET = { value = "14.0", force = true }
"#,
        );
    }
}
