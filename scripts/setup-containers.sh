#!/bin/sh
# What the tests of containers need beside the compiler: OCI runtimes, CRIU, and a root file system with real programs.
# Called by scripts/setup.sh. What cannot be had is left out and says why in target/tools/<what>.skipped; the tests
# that need it then say `skipped: why`. Nothing asks, nothing is started, and all but the programs that are found by
# name goes to target/tools.
set -eu

cd "$(dirname "$0")/.."
TOOLS="$PWD/target/tools"
CRIU_SUITES="forky trixie"
ROOT_SUITE=bookworm
MIRROR=http://deb.debian.org/debian
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
LOG="$TOOLS/setup-containers.log"
mkdir -p "$TOOLS"

say() { printf 'setup: %s\n' "$*"; }

# skip WHAT WHY: remembers why it is not there.
skip() {
    printf '%s\n' "$2" >"$TOOLS/$1.skipped"
    say "left out: $1: $2"
}

# What stops everything here, if anything does.
hindrance() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "it needs root"
    elif ! command -v apt-get >/dev/null 2>&1; then
        echo "it comes from Debian's packages, and there is no apt-get"
    fi
}

# debian COMMAND PACKAGE WHY: installs a package of this machine's own Debian whose program is missing. None of them
# starts a service.
debian() {
    command -v "$1" >/dev/null 2>&1 && return 0
    [ -z "$(hindrance)" ] || return 1
    say "installing from Debian: $2: $3"
    install_package() {
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$1" </dev/null >>"$LOG" 2>&1
    }
    install_package "$2" || { apt-get update </dev/null >>"$LOG" 2>&1 && install_package "$2"; }
}

# own_apt DIR SUITE: from here on apt works in DIR, with nothing of this machine's own configuration but its proxy.
own_apt() {
    mkdir -p "$1/sources" "$1/lists/partial" "$1/cache/archives/partial" "$1/packages"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$MIRROR" "$2" "$KEYRING" >"$1/sources/own.sources"
    printf '%s\n' \
        "Dir::Etc::sourcelist \"/dev/null\";" "Dir::Etc::sourceparts \"$1/sources\";" \
        "Dir::State::lists \"$1/lists\";" "Dir::State::status \"/dev/null\";" "Dir::Cache \"$1/cache\";" \
        "APT::Sandbox::User \"root\";" "Acquire::Languages \"none\";" >"$1/apt.conf"
    APT_CONFIG="$1/apt.conf"
    export APT_CONFIG
    apt-get update </dev/null >>"$LOG" 2>&1
}

# closure PACKAGE…: these and all that they depend on.
closure() {
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$@" 2>>"$LOG" | grep '^[a-z0-9]' | sort -u
}

# unpack APT-DIR ROOT PACKAGE…: fetches the packages and unpacks them into ROOT, running nothing of theirs.
unpack() {
    packages="$1/packages"
    into="$2"
    shift 2
    (cd "$packages" && apt-get download "$@" </dev/null >>"$LOG" 2>&1) || return 1
    for package in "$packages"/*.deb; do
        # Not dpkg-deb -x: that would put a directory in the place of the link that /lib is.
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$into" || return 1
    done
}

# The CRIU of Debian 12 fails on newer kernels, and that of Debian 13 cannot dump network sockets on Linux 6.16 and
# later. So the newest one is unpacked and run with its own loader and libraries.
make_criu() {
    for suite in $CRIU_SUITES; do
        if criu_of "$suite"; then return 0; fi
        rm -rf "$TOOLS/criu" "$TOOLS/criu.new" "$TOOLS/criu.new.apt"
    done
    return 1
}

criu_of() {
    new="$TOOLS/criu.new"
    mkdir -p "$new/root" "$new/bin"
    own_apt "$new.apt" "$1" || return 1
    # shellcheck disable=SC2046 # a list of words
    unpack "$new.apt" "$new/root" $(closure criu) || return 1
    loader=$(cd "$new/root" && ls usr/lib64/ld-linux-*.so.* usr/lib/ld-linux-*.so.* 2>/dev/null | head -n 1)
    libraries=$(cd "$new/root" && ls -d usr/lib/*-linux-gnu | head -n 1)
    root="$TOOLS/criu/root"
    printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
        "$root/$loader" "$root/$libraries" "$root/usr/sbin/criu" >"$new/bin/criu"
    chmod 755 "$new/bin/criu"
    mv "$new" "$TOOLS/criu"
    "$TOOLS/criu/bin/criu" --version >>"$LOG" 2>&1
}

# A Debian of its own, and in it programs that people really run. These are unpacked and not installed, so that no
# script of theirs is run; what only translates, compiles or configures is left out.
PROGRAMS="nginx-light redis-server postgresql-15 python3"
LEFT_OUT='^(libllvm|libz3|perl$|perl-modules|libperl|lib.*-perl$|locales|cdebconf|libdebian|libnewt|libslang|libtextwrap|.*elogind|adduser|ucf|usrmerge|usr-is-merged|dpkg|debconf|libc6$|iproute2|install-info|sysvinit)'

make_root() {
    new="$TOOLS/debian.new"
    debootstrap --variant=minbase "$ROOT_SUITE" "$new" "$MIRROR" </dev/null >>"$LOG" 2>&1 || return 1
    own_apt "$new.apt" "$ROOT_SUITE" || return 1
    sed -n 's/^Package: //p' "$new/var/lib/dpkg/status" >"$new.apt/there"
    # shellcheck disable=SC2046,SC2086 # lists of words
    unpack "$new.apt" "$new" $(closure $PROGRAMS | grep -Ev "$LEFT_OUT" | grep -Fxv -f "$new.apt/there") || return 1
    ldconfig -r "$new" || return 1
    # What their installation scripts would have made, as far as the tests need it.
    echo 'postgres:x:990:990::/var/lib/postgresql:/bin/bash' >>"$new/etc/passwd"
    echo 'postgres:x:990:' >>"$new/etc/group"
    mkdir -p "$new/data"
    rm -rf "$new/var/cache/apt" "$new/var/lib/apt/lists" "$new/usr/share/doc" "$new/usr/share/man" \
        "$new/usr/share/locale"
    mv "$new" "$TOOLS/debian"
}

# want WHAT MARK MAKE WHY: makes target/tools/WHAT unless this version of it is there.
want() {
    mark="$TOOLS/$1/.made"
    if [ -f "$mark" ] && [ "$(cat "$mark")" = "$2" ]; then return 0; fi
    why=$(hindrance)
    if [ -n "$why" ]; then
        skip "$1" "$why"
        return 0
    fi
    say "making target/tools/$1: $4"
    rm -rf "$TOOLS/$1" "$TOOLS/$1.new" "$TOOLS/$1.new.apt"
    if "$3"; then
        printf '%s' "$2" >"$mark"
        rm -f "$TOOLS/$1.skipped"
    else
        rm -rf "$TOOLS/$1" "$TOOLS/$1.new"
        skip "$1" "Debian's packages could not be had, see $LOG"
    fi
    rm -rf "$TOOLS/$1.new.apt"
    unset APT_CONFIG
}

: >"$LOG"
# One of the OCI runtimes is enough; every test runs against each one that is there.
debian runc runc "containers are made by it" || say "runc is not here: its tests will be left out"
debian crun crun "containers are made by it as well" || say "crun is not here: its tests will be left out"
debian busybox busybox-static "the smallest root file system is made of it" ||
    skip containers "there is no busybox, of which roots are made"
debian iptables-restore iptables "CRIU locks the network of a checkpointed container with it" ||
    say "iptables-restore is not here: checkpoints with connections will be left out"
want criu "criu of $CRIU_SUITES, 1" make_criu "checkpoints (8 MB to fetch, once)"
debian nft nftables "networks of containers have their rules by it" || say "nft is not here: tests of networks will be left out"
debian ip iproute2 "tests of networks make machines with it" || say "ip is not here: tests of networks will be left out"
[ -x /usr/lib/cni/bridge ] || debian cni-plugins containernetworking-plugins "networks of CNI plugins are tested with them" ||
    say "CNI plugins are not here: their tests will be left out"
debian debootstrap debootstrap "it makes a Debian root file system" || skip debian "there is no debootstrap"
if command -v debootstrap >/dev/null 2>&1; then
    want debian "$ROOT_SUITE: $PROGRAMS, 2" make_root "a Debian root with nginx, redis, PostgreSQL and Python (a minute, once)"
fi
