# Verbs for those who have `just`; each is one cargo command, and nothing requires `just`.

# List the verbs.
default:
    @just --list

# Install native MLX under native/.
setup *args:
    cargo xtask setup {{args}}

# Type-check the workspace, tests and benches included.
check:
    cargo check --workspace --all-targets

# Check formatting, lints and every test.
test:
    cargo xtask test

# Run the Criterion benchmarks.
bench *args:
    cargo bench --package benches {{args}}

# Build a revision and the working tree, and fail where the working tree is worse.
regress *args:
    cargo xtask regress {{args}}

# Run lfmark, for instance `just run generate --prompt "Hello"`.
run *args:
    cargo run --release --package lfmark -- {{args}}

# Fine-tune and run the embedded default, and write its report.
report *args:
    cargo xtask report {{args}}

# Plant faults, and see whether each is found and nothing else.
selftest *args:
    cargo run --release --package lfmark -- selftest {{args}}

# Regenerate the golden fixtures and the embedded model (Python).
fixtures:
    cargo xtask fixtures

# Try every parser with inputs that are made to break it.
fuzz *args:
    cargo xtask fuzz {{args}}

# Install the programs that `lfmark versus` compares with (Python).
peers *args:
    cargo xtask peers {{args}}

# Type-check and lint for Apple silicon, from Linux; with --link, link too.
check-mac *args:
    cargo xtask check-mac {{args}}

# Collect in one file all that can be known of lfmark on this Mac.
first-mac *args:
    cargo xtask first-mac {{args}}

# Check workflows, actions and shell scripts.
lint-workflows:
    cargo xtask lint-workflows

# Format everything.
fmt:
    cargo fmt --all

# Run the lints as errors.
lint:
    cargo clippy --workspace --all-targets -- -D warnings
