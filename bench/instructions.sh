#!/usr/bin/env bash
# Counts the instructions that the server executes for a message and for a join, and compares them
# with bench/instructions.txt: growth above 3 % fails.
#   bench/instructions.sh             compares
#   bench/instructions.sh --update    writes the counts of this toolchain into the file
# The counts do not depend on how busy the machine is. Those of another toolchain (compiler, C
# library, valgrind, vector instructions) do not compare; then it ends with 77, "skipped".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v valgrind >/dev/null || { echo "bench/instructions.sh: valgrind is missing; install it" >&2; exit 2; }
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --release --locked --quiet -p signalbox-signal --bin signal-service
cargo build --locked --quiet --manifest-path bench/Cargo.toml --target-dir "$target"
exec "$target/debug/bench" instructions --signal-service "$target/release/signal-service" \
  --file bench/instructions.txt "$@"
