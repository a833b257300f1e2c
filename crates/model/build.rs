//! Gives a package's programs and tests the run path of native MLX, which `cargo xtask setup` wrote.
//!
//! Every package that links MLX has this as its build script, or as a part of it.

pub(crate) fn main() {
    println!("cargo::rerun-if-env-changed=LFMARK_RPATH");
    if let Ok(folder) = std::env::var("LFMARK_RPATH") {
        // As `-Wl,-rpath,` it would end at a comma.
        for argument in ["-Xlinker", "-rpath", "-Xlinker", &folder] {
            println!("cargo::rustc-link-arg={argument}");
        }
    }
}
