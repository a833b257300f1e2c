//! Gives the fuzz targets the run path of native MLX, which `cargo xtask setup` wrote.

fn main() {
    println!("cargo::rerun-if-env-changed=LFMARK_RPATH");
    if let Ok(folder) = std::env::var("LFMARK_RPATH") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
