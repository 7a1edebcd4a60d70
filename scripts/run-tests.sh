#!/usr/bin/env bash
# Runs the tests with the servers that `just with-servers` started. Arguments go to the runner, which has the last word.
# What this machine has not got is left out, and said at the end: by greenroom-servers, in GREENROOM_TEST_SKIPPED, a line each
# (TEST BINARY: WHAT: WHY: HOW TO GET IT).
set -euo pipefail

skipped=()
left_out=(cluster)
while IFS= read -r line; do
    [[ -n $line ]] || continue
    skipped+=("${line#*: }")
    left_out+=("${line%%:*}")
done <<<"${GREENROOM_TEST_SKIPPED:-}"
# The chain of several platforms needs all of them.
for name in engine moto; do
    if [[ " ${left_out[*]} " == *" $name "* && " ${left_out[*]} " != *" hybrid "* ]]; then
        skipped+=("outages of platforms in a chain: they need what is missing for the platforms by themselves: see there")
        left_out+=(hybrid)
    fi
done
skipped+=("tests with a real Kubernetes: they are for when somebody asks: KUBECONFIG=FILE ./dev test-k8s")

# all_but NAME: a filter for every test binary but this one. The runner refuses "not binary(NAME)" where the crates that were
# asked for have none of that name, and it knows no look-ahead, so this spells it out: another letter in one of the places, or
# more letters, or fewer.
all_but() {
    local name=$1 begun='' pattern='' place
    for ((place = 0; place < ${#name}; place++)); do
        pattern+="${begun}[^${name:place:1}]|"
        begun+=${name:place:1}
    done
    printf 'binary(/^(?:%s%s.|.{0,%d}$)/)' "$pattern" "$begun" "$((${#name} - 1))"
}

say_skipped() {
    printf 'skipped: %s\n' "${skipped[@]}" >&2
}

# Building a documentation test for every crate takes minutes: only where there is one to run.
if grep -rqE '^\s*//[/!] ```(rust|no_run|should_panic|compile_fail)?\s*$' crates --include='*.rs'; then
    cargo test --workspace --doc --quiet
fi

status=0
if command -v cargo-nextest >/dev/null; then
    # Two filters would be taken for "either of them": those in the arguments become one with ours.
    asked='' whole=(--workspace) arguments=()
    while (($# > 0)); do
        case $1 in
            -E | --filterset | --filter-expr)
                asked+="${asked:+ or }(${2:?an expression after $1})"
                shift
                ;;
            --filterset=* | --filter-expr=*) asked+="${asked:+ or }(${1#*=})" ;;
            *)
                [[ $1 != -p* && $1 != --package* ]] || whole=()
                arguments+=("$1")
                ;;
        esac
        shift
    done
    filter=${asked:+($asked)}
    for name in "${left_out[@]}"; do
        filter+="${filter:+ and }$(all_but "$name")"
    done
    cargo nextest run "${whole[@]}" -E "$filter" "${arguments[@]}" || status=$?
else
    # That one knows no filters for binaries: they are chosen one by one.
    targets=(--lib --bins)
    for test in crates/*/tests/*.rs crates/*/tests/*/main.rs; do
        name=$(basename "${test%/main.rs}" .rs)
        [[ " ${left_out[*]} " == *" $name "* || " ${targets[*]} " == *" $name "* ]] || targets+=(--test "$name")
    done
    cargo test --workspace "${targets[@]}" --no-fail-fast "$@" || status=$?
fi
say_skipped
exit "$status"
