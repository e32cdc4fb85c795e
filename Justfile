# The daily verbs. Each is one line that a script or cargo answers, so `just` is a convenience only.

# Where builds go; scripts/env.sh says the same to the scripts.
export CARGO_TARGET_DIR := env("CARGO_TARGET_DIR", env("HOME") / ".cache/ottla/target")

# The verbs
[private]
default:
    @just --list

# Build in release and start a broker: just run --memory
run *ARGS:
    scripts/run {{ARGS}}

# Everything that CI checks
test:
    scripts/test

# Format, lints and licences only
lint:
    scripts/test --lint

# Format all code
fmt:
    cargo fmt --all

# The house rules (broker/tests/tidy.rs); UPDATE=1 just tidy rewrites the list of long functions
tidy:
    cargo test --locked -p ottla-broker --test tidy

# Rewrite the pages under docs/ that are generated from tables and results
docs:
    UPDATE=1 cargo test --locked -p ottla-broker --test docs
    scripts/rocksdb.sh >/dev/null
    bash -c '. scripts/env.sh && UPDATE=1 cargo test --locked -p ottla --test reference'
    UPDATE=1 scripts/compat

# One seed of the simulator, or many: just sim 42
sim *ARGS:
    cargo run --locked --release -p ottla-sim -- {{ARGS}}

# Millions of steps of the random histories of a log (400 and 600 steps each): just model 5000
model SEEDS="2000":
    SEEDS={{SEEDS}} cargo test --locked -p ottla-storage --test log -- random_histories

# Readers of a log under ThreadSanitizer; builds everything once more the first time
tsan *ARGS:
    scripts/tsan {{ARGS}}

# Real clients against the built broker; OTTLA_COMPAT_BROKER=host:port points at another broker
compat *ARGS:
    scripts/compat {{ARGS}}

# Benchmarks: just bench side-by-side, just bench recovery
bench *ARGS:
    scripts/bench {{ARGS}}

# Fuzz what reads bytes from a socket: just fuzz messages 60
fuzz *ARGS:
    protocol/fuzz/run {{ARGS}}
