# The recipes of ./dev, which sees to what they need. With the tools on PATH, `just RECIPE` does the same.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

# Always --workspace, never -p: by itself a crate asks its dependencies for fewer features than all crates together do, and Cargo
# would build most of them a second time.
target := env("CARGO_TARGET_DIR", "target") / "debug"

# the recipes
[private]
default:
    @just --list --unsorted

# a meeting room full of bots on this machine, to look at
[no-exit-message]
demo *args:
    @cargo build --quiet --workspace --bin greenroom --bin greenroom-bot --bin greenroom-local-supervise --bin greenroom-demo
    @exec {{ target }}/greenroom-demo "$@"

# all services in one process, with their own Postgres and nats-server under .greenroom/
[no-exit-message]
up *args:
    @cargo build --quiet --workspace --bin greenroom --bin greenroom-bot --bin greenroom-local-supervise
    @exec {{ target }}/greenroom up "$@"

# everything CI checks: format, lints, protos, dependencies, tests
[no-exit-message]
test *args: fmt-check protos lint deny
    @cargo build --workspace
    @just with-servers scripts/run-tests.sh "$@"

# the tests that need a real Kubernetes, with real pods: KUBECONFIG=FILE ./dev test-k8s (K8S_TEST_IMAGE: a small one with sh)
[no-exit-message]
test-k8s *args:
    @[[ -n "${KUBECONFIG:-}" ]] || { echo "test-k8s: set KUBECONFIG to the cluster to use: the tests make and remove a namespace of their own there" >&2; exit 2; }
    @[[ -f "$KUBECONFIG" ]] || { echo "test-k8s: KUBECONFIG: there is no file $KUBECONFIG" >&2; exit 2; }
    @GREENROOM_TEST_K8S=1 K8S_TEST_IMAGE="${K8S_TEST_IMAGE:-busybox:1.37}" just with-servers cargo nextest run --workspace -E 'binary(cluster)' "$@"

# images of greenroom and of the bot, from this source: images [--tag TAG] [--base IMAGE] [--snapshot DAY] [greenroom] [bot] [local]
[no-exit-message]
images *args:
    @deploy/docker/build "$@"

# what is in the images of a tag, as CycloneDX, in target/sbom/
[no-exit-message]
sbom tag="latest":
    @mkdir -p target/sbom
    @deploy/docker/sbom greenroom:{{ tag }} greenroom >target/sbom/greenroom.cdx.json
    @deploy/docker/sbom greenroom-bot:{{ tag }} greenroom-bot >target/sbom/greenroom-bot.cdx.json
    @ls -l target/sbom

# formats the code
fmt:
    @cargo fmt --all

[private]
fmt-check:
    @cargo fmt --all --check

# clippy, with warnings as errors
lint:
    @cargo clippy --workspace --all-targets -- -D warnings

# the protos: their style, and that no client of the baseline breaks
protos:
    @buf lint
    @buf breaking --against buf.baseline.binpb

# makes the present protos the baseline: at a release, or for a break that the commit explains
proto-baseline:
    @buf build --exclude-source-info --output buf.baseline.binpb

# licences, sources and second TLS stacks among the dependencies
deny:
    @cargo deny --log-level error check --hide-inclusion-graph licenses bans sources

# known vulnerabilities among the dependencies (fetches the advisory database)
advisories:
    @cargo deny check advisories

# runs a command with a throw-away Postgres and nats-server, as in: with-servers cargo nextest run -p greenroom-queue
[no-exit-message]
with-servers +command:
    @cargo build --quiet --workspace --bin greenroom-servers
    @exec {{ target }}/greenroom-servers run -- "$@"

# kills, pauses and doubles services under load, and checks the promises
[no-exit-message]
chaos *args:
    @cargo build --quiet --workspace --bins
    @# All of it: pages that lie to the recorder too, each with a browser.
    @if [ $# -eq 0 ]; then GREENROOM_LIARS=4 cargo nextest run -p greenroom-scenarios --test liars; fi
    @exec {{ target }}/greenroom-chaos "$@"

# how many bots, how fast, on this machine
[no-exit-message]
bench *args:
    @cargo run --quiet --release -p greenroom-bench -- "$@"

# makes the generated pages under docs/ again
docs:
    @cargo build --quiet --workspace --bin greenroom
    @{{ target }}/greenroom docs

# what takes how long to compile
timings:
    @cargo build --workspace --timings
