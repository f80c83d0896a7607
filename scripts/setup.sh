#!/bin/sh
# Sets up what a target of the Makefile needs, and says what it installs and why. Safe to run again and again; it
# never asks a question and needs no terminal. Tools go to target/tools, which belongs to this checkout alone;
# a tool that is on the PATH already, and new enough, is used as it is.
#
#   scripts/setup.sh build    checks for cargo, rustc, a C compiler, make; installs nothing but Debian packages
#   scripts/setup.sh test     … and the test runner (cargo-nextest), what tests of containers run (setup-containers.sh), and
#                             what tests of virtual machines run (setup-vms.sh)
#   scripts/setup.sh check    … and rustfmt, clippy, the licence and ban checker (cargo-deny)
#   scripts/setup.sh bench    … as build, what virtual machines run, and what is measured beside: task-spooler, runc,
#                             containerd
set -eu

RUST_MIN=1.95.0
NEXTEST_VERSION=0.9.143
NEXTEST_MIN=0.9.100
DENY_VERSION=0.20.2
DENY_MIN=0.18.0

cd "$(dirname "$0")/.."
TOOLS="$PWD/target/tools"
PATH="$TOOLS/bin:$PATH"
[ -x "${HOME:-/nonexistent}/.cargo/bin/cargo" ] && PATH="$PATH:$HOME/.cargo/bin"
export PATH

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

# at_least HAVE WANT: compares dotted version numbers.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -t . -k 1,1n -k 2,2n -k 3,3n | head -n 1)" = "$2" ]
}

# debian COMMAND PACKAGE WHY: the command must exist; installs its Debian package when we may.
debian() {
    command -v "$1" >/dev/null 2>&1 && return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        fail "$1 is missing: $3." "Install it with your distribution's package manager and run this again."
    fi
    if [ "$(id -u)" -ne 0 ]; then
        fail "$1 is missing: $3." "Run: sudo apt-get install --yes --no-install-recommends $2"
    fi
    say "installing from Debian: $2: $3"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # a list of packages
    apt-get install --yes --no-install-recommends $2 </dev/null >/dev/null 2>&1 ||
        { apt-get update </dev/null && apt-get install --yes --no-install-recommends $2 </dev/null; } ||
        fail "apt-get could not install $2." "Install it by hand and run this again."
}

# The compilers. Rust itself is not installed here: where it comes from is the owner's choice.
need_build() {
    if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
        fail "cargo and rustc are missing: Hostler is written in Rust." \
            "Install Rust $RUST_MIN or newer, for example with rustup: https://rustup.rs" \
            "The Rust of Debian 12 is too old."
    fi
    have=$(rustc --version | cut -d ' ' -f 2 | cut -d - -f 1)
    at_least "$have" "$RUST_MIN" ||
        fail "rustc is $have; Hostler needs $RUST_MIN or newer." "With rustup: rustup update stable"
    debian cc "gcc libc6-dev" "the linker and the C library's start files are reached through it"
    debian make make "the Makefile holds every command of this project"
    # A compiler without the C library's development files cannot link anything.
    printf '#include <stdlib.h>\nint main(void){return 0;}\n' | cc -x c - -o /dev/null 2>/dev/null ||
        fail "cc cannot link a program: the C library's development files are missing." \
            "Run: sudo apt-get install --yes libc6-dev"
}

# tool COMMAND CRATE VERSION MIN WHY: `cargo COMMAND` must exist, at least MIN; else builds VERSION into target/tools.
tool() {
    have=$(cargo "$1" --version 2>/dev/null | head -n 1 | cut -d ' ' -f 2) || have=
    if [ -n "$have" ] && at_least "$have" "$4"; then
        return 0
    fi
    say "installing $2 $3 into target/tools: $5 (a few minutes, once)"
    # It only has to work, not to be fast: no link-time optimisation, little optimisation, no debug information.
    CARGO_TARGET_DIR="$TOOLS/build" CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 \
        cargo install --locked --quiet --root "$TOOLS" "$2@$3" </dev/null ||
        fail "$2 $3 could not be installed." "Is the package registry reachable? Another copy on the PATH, $4 or newer, will do as well."
    rm -rf "$TOOLS/build"
}

need_test() {
    need_build
    tool nextest cargo-nextest "$NEXTEST_VERSION" "$NEXTEST_MIN" "it runs each test in a process of its own, with a time limit"
    scripts/setup-containers.sh
    scripts/setup-vms.sh
}

# component COMMAND NAME: a part of the Rust tool chain.
component() {
    cargo "$1" --version >/dev/null 2>&1 && return 0
    command -v rustup >/dev/null 2>&1 ||
        fail "cargo $1 is missing." "Install the $2 component of your Rust tool chain."
    say "installing the Rust component $2: make check needs it"
    rustup component add "$2" </dev/null || fail "rustup could not add $2." "Run: rustup component add $2"
}

need_check() {
    need_build
    component fmt rustfmt
    component clippy clippy
    tool deny cargo-deny "$DENY_VERSION" "$DENY_MIN" "it checks licences, banned crates and where crates come from"
}

# A peer that is missing is left out of the report, which says so.
need_bench() {
    need_build
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ]; then
        debian tsp task-spooler "jobs from queues are measured beside it"
        debian runc runc "containers are measured beside it"
        debian busybox busybox-static "containers are measured with it as their root"
        debian nft nftables "networks of containers have their rules by it"
        debian ip iproute2 "machines for networks are made with it"
        unpack_containerd || say "containerd could not be had: what is measured beside it will be left out"
    else
        for peer in tsp runc busybox containerd nft ip; do
            command -v "$peer" >/dev/null 2>&1 || say "$peer is not here: what is measured beside it will be left out"
        done
    fi
    scripts/setup-vms.sh
}

# containerd is unpacked into target/tools and not installed: its package starts a service.
unpack_containerd() {
    command -v containerd >/dev/null 2>&1 && command -v ctr >/dev/null 2>&1 && return 0
    say "fetching from Debian: containerd: containers are measured beside it"
    new="$TOOLS/containerd.new"
    rm -rf "$new"
    mkdir -p "$new" "$TOOLS/bin"
    fetch() { (cd "$new" && apt-get download containerd </dev/null >/dev/null 2>&1); }
    if { fetch || { apt-get update </dev/null >/dev/null 2>&1 && fetch; }; } &&
        dpkg-deb -x "$new"/containerd_*.deb "$new/root"; then
        for program in containerd containerd-shim-runc-v2 ctr; do
            install -m 755 "$new/root/usr/bin/$program" "$TOOLS/bin/"
        done
    fi
    rm -rf "$new"
    [ -x "$TOOLS/bin/containerd" ]
}

case "${1:-}" in
build) need_build ;;
test) need_test ;;
check) need_check ;;
bench) need_bench ;;
*)
    echo "usage: scripts/setup.sh build|test|check|bench" >&2
    exit 2
    ;;
esac
say "ready for make $1"
