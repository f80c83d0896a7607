#!/bin/sh
# What the tests of virtual machines need beside the compiler: QEMU, programs that make disks, a kernel. What cannot be had
# is left out and says why in target/tools/<what>.skipped; the tests that need it then say `skipped: why`. Nothing asks,
# nothing is started, and no kernel is installed.
#
#   scripts/setup-vms.sh                  packages; called by scripts/setup.sh
#   scripts/setup-vms.sh kernel HOSTLER   a kernel in target/tools/vm/kernels, made by this hostler; called by the Makefile
set -eu

cd "$(dirname "$0")/.."
TOOLS="$PWD/target/tools"
LOG="$TOOLS/setup-vms.log"
KERNELS="$TOOLS/vm/kernels"
mkdir -p "$TOOLS"

say() { printf 'setup: %s\n' "$*"; }

# skip WHAT WHY: remembers why it is not there.
skip() {
    printf '%s\n' "$2" >"$TOOLS/$1.skipped"
    say "left out: $1: $2"
}

# debian FILE PACKAGE WHY: installs a package of this machine's own Debian when the program is missing. None of them starts
# a service, and none brings what it only recommends: QEMU would bring a desktop.
debian() {
    if [ -x "$1" ] || command -v "$1" >/dev/null 2>&1; then return 0; fi
    if [ "$(id -u)" -ne 0 ]; then
        why="it needs root to install $2"
    elif ! command -v apt-get >/dev/null 2>&1; then
        why="$2 comes from Debian's packages, and there is no apt-get"
    else
        why="$2 could not be installed, see $LOG"
        say "installing from Debian: $2: $3"
        install_package "$2" || { apt-get update </dev/null >>"$LOG" 2>&1 && install_package "$2"; } || return 1
        return 0
    fi
    return 1
}

install_package() {
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$1" </dev/null >>"$LOG" 2>&1
}

packages() {
    : >"$LOG"
    rm -f "$TOOLS/vm.skipped"
    debian qemu-system-x86_64 qemu-system-x86 "virtual machines are tested with it" || skip vm "$why"
    debian mkfs.erofs erofs-utils "read-only disks are made by it" || command -v mksquashfs >/dev/null 2>&1 ||
        say "neither mkfs.erofs nor mksquashfs is here: tests with disks will be left out"
    debian mkfs.ext4 e2fsprogs "writable disks are formatted by it" ||
        say "mkfs.ext4 is not here: tests with writable disks will be left out"
    debian busybox busybox-static "guests have their shell from it" ||
        say "busybox is not here: tests with a shell in the guest will be left out"
    debian cpio cpio "it reads what guests boot into, to prove it" || say "cpio is not here: a test of archives will be left out"
    # A package of its own since Debian 13, a part of QEMU's before.
    for place in /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do
        if [ -x "$place" ]; then return 0; fi
    done
    debian virtiofsd virtiofsd "directories are shared by it" ||
        say "virtiofsd is not here: tests of shares will be left out"
}

# A kernel that is there is left as it is, so the next time costs nothing and needs no network.
kernel() {
    if [ "$("$1" --json vm ls --directory "$KERNELS")" != "[]" ]; then return 0; fi
    say "making a kernel for virtual machines in target/tools/vm/kernels (26 MB to fetch, once)"
    "$1" vm setup --directory "$KERNELS" >>"$LOG" 2>&1 || skip vm "no kernel: $(tail -n 1 "$LOG")"
}

case "${1:-}" in
'') packages ;;
kernel) kernel "$2" ;;
*)
    echo "usage: scripts/setup-vms.sh [kernel HOSTLER]" >&2
    exit 2
    ;;
esac
