//! Whether a name of a user or a machine tells anything of its owner. xtask has this file too, since
//! it runs before this crate is built.

/// Words of user and host names that tell nothing: a new Mac is called `Mac` or `MacBook Pro`.
#[rustfmt::skip]
const COMMON: [&str; 15] = [
    "root", "user", "admin", "localhost", "local", "lan", "runner", "mac", "macbook", "imac", "pro",
    "air", "mini", "studio", "apple",
];

/// Whether a name that was found on a machine tells anything of its owner. What is short or usual
/// would be found in texts that mean something else.
pub fn is_telling(name: &str) -> bool {
    let name = name.to_lowercase();
    let mut words = name.split(|c: char| !c.is_alphanumeric());
    name.chars().count() >= 3 && words.any(|word| !word.is_empty() && !COMMON.contains(&word))
}
