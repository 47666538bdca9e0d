# Shortcuts for daily work; `just` alone lists them. Each line is a plain command that also works without just.

_default:
    @just --list

# Build the program
build:
    cargo build --release

# Run every test
test:
    cargo test --release --workspace

# Check the format and all lints
lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# Everything a change must pass
ci:
    .ci/run

# Drive the simulated Push-T robot with the shipped policy
demo *args:
    cargo run --release -- demo {{args}}

# Score a checkpoint in simulation
eval checkpoint *args:
    cargo run --release -- eval {{checkpoint}} {{args}}

# Train a policy
train config="configs/push_t.toml" *args:
    cargo run --release -- train {{config}} {{args}}
