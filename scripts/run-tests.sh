#!/usr/bin/env bash
# Runs the tests with the servers that `just with-servers` started. Arguments go to the runner, which has the last word.
set -euo pipefail

# Building a documentation test for every crate takes minutes: only where there is one to run.
if grep -rqE '^\s*//[/!] ```(rust|no_run|should_panic|compile_fail)?\s*$' crates --include='*.rs'; then
    cargo test --workspace --doc --quiet
fi

if command -v cargo-nextest >/dev/null; then
    exec cargo nextest run --workspace "$@"
fi
exec cargo test --workspace --lib --bins --tests --no-fail-fast "$@"
