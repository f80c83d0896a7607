#!/bin/sh
# Shows the main job on real work, on a node of its own under a temporary directory: output and exit codes come back,
# a killed service returns, and a job that ends while the daemon is dead is not lost. Every step checks what it
# claims. Whatever happens, the node is taken down and its directory removed.
#
# HOSTLER_BIN is the directory of the release binaries; target/release when absent.
set -eu

cd "$(dirname "$0")/.."
BIN="${HOSTLER_BIN:-$PWD/target/release}"
PATH="$BIN:$PATH"
HOSTLER_ROOT=$(mktemp -d "${TMPDIR:-/tmp}/hostler-demo.XXXXXX")
export PATH HOSTLER_ROOT
unset HOSTLER_NAMESPACE || true
SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/hostler-demo-notes.XXXXXX")
BEGAN=$(date +%s)
FINISHED=no
TAG=
SEEN=

step() { printf '\n== %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }

fail() {
    printf '\ndemo: FAILED: %s\n' "$*" >&2
    for log in "$HOSTLER_ROOT"/*.log "$HOSTLER_ROOT"/log/*.log; do
        [ -f "$log" ] && { printf 'demo: the last lines of %s:\n' "$log" >&2; tail -n 20 "$log" >&2; }
    done
    exit 1
}

# typed COMMAND...: prints the command line as one would type it, runs it, shows what it printed, keeps its exit code.
typed() {
    line='$'
    for word in "$@"; do
        case "$word" in
        *[!A-Za-z0-9_./:=@%+-]* | '') line="$line '$word'" ;;
        *) line="$line $word" ;;
        esac
    done
    printf '   %s\n' "$line"
    CODE=0
    timeout 30 "$@" </dev/null >"$SCRATCH/out" 2>"$SCRATCH/err" || CODE=$?
    sed 's/^/     /' "$SCRATCH/out" "$SCRATCH/err"
    OUT=$(cat "$SCRATCH/out")
}

# must COMMAND...: the same, and it has to succeed.
must() {
    typed "$@"
    [ "$CODE" -eq 0 ] || fail "the command above returned $CODE"
}

# field NAME WORKLOAD: the first value of that name in the workload's JSON, a number or a word; empty when absent.
field() {
    timeout 30 hostler --json inspect "$2" </dev/null 2>/dev/null | tr ',{}' '\n\n\n' |
        sed -n "s/^[[:space:]]*\"$1\"[[:space:]]*:[[:space:]]*\"\{0,1\}\([A-Za-z0-9_]*\).*/\1/p" | head -n 1
}

# until_true SECONDS WHAT COMMAND...: waits for the command to succeed.
until_true() {
    tries=$(($1 * 20))
    what=$2
    shift 2
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "waited in vain: $what"
        sleep 0.05
    done
}

alive() { [ -d "/proc/$1" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }
gone() { ! alive "$1"; }
runs() { [ "$(field phase "$1")" = running ] && [ -n "$(field pid "$1")" ]; }
ended() { [ "$(field phase "$1")" = ended ]; }
nothing_left() { [ -z "$(leftover_processes)" ]; }
# One look at the number: between two looks the old process may go, and nothing is not a new one.
runs_anew() { now=$(field pid "$1") && [ -n "$now" ] && [ "$now" != "$2" ] && runs "$1"; }

daemon_pid() {
    for file in "$HOSTLER_ROOT/hostlerd.pid" "$HOSTLER_ROOT/run/hostlerd.pid"; do
        [ -s "$file" ] && { tr -cd '0-9\n' <"$file" | head -n 1; return 0; }
    done
    return 1
}

# Processes of this node: its programs by their file, daemon and agents by the root on their command line, and the
# workloads that the steps have seen.
leftover_processes() {
    for proc in /proc/[0-9]*; do
        pid=${proc#/proc/}
        [ "$pid" != "$$" ] || continue
        exe=$(readlink "$proc/exe" 2>/dev/null) || continue
        case "$exe" in
        "$HOSTLER_ROOT"/*) echo "$pid" ;;
        */hostlerd | */hostler-agent)
            tr '\0' '\n' 2>/dev/null <"$proc/environ" | grep -qx "HOSTLER_ROOT=$HOSTLER_ROOT" && echo "$pid" ;;
        esac
    done
    for pid in $SEEN; do alive "$pid" && echo "$pid"; done
    return 0
}

leftover_cgroups() {
    [ -n "$TAG" ] || return 0
    find /sys/fs/cgroup -type d -name "h$TAG*" 2>/dev/null || true
}

clean_up() {
    status=$?
    trap - EXIT INT TERM HUP
    if [ "$FINISHED" != yes ]; then
        timeout 20 hostler down --stop-workloads </dev/null >/dev/null 2>&1 || true
        for pid in $(leftover_processes); do kill -9 "$pid" 2>/dev/null || true; done
        sleep 0.2
        leftover_cgroups | sort -r | while read -r group; do rmdir "$group" 2>/dev/null || true; done
    fi
    rm -rf "$HOSTLER_ROOT" "$SCRATCH"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

for program in hostler hostlerd; do
    [ -x "$BIN/$program" ] || fail "$BIN/$program is missing: run make build"
done

step "A node of its own, under $HOSTLER_ROOT"
note "(every command below reads that directory from HOSTLER_ROOT)"
must hostler up
FIRST_DAEMON=$(daemon_pid) || fail "the node left no hostlerd.pid"
alive "$FIRST_DAEMON" || fail "process $FIRST_DAEMON of hostlerd.pid is not alive"
TAG=$(timeout 30 hostler --json node info </dev/null | tr ',{}' '\n\n\n' |
    sed -n 's/^[[:space:]]*"tag"[[:space:]]*:[[:space:]]*"h\{0,1\}\([A-Za-z0-9]*\)".*/\1/p' | head -n 1)
[ -n "$TAG" ] || fail "node info names no tag"

step "One command: its output and its exit code come back"
typed hostler run --rm -- sh -c 'echo hello from $$; echo a complaint >&2; exit 7'
[ "$CODE" -eq 7 ] || fail "hostler run returned $CODE instead of 7"
grep -q '^hello from [0-9]' "$SCRATCH/out" || fail "the output did not come back"
grep -qx 'a complaint' "$SCRATCH/err" || fail "stderr did not come back on stderr"
note "exit code 7, stdout and stderr apart: as if it had been run by hand"

step "A service: killed, it comes back by itself"
must hostler run --detach --name clock --restart always -- sh -c 'while :; do date; sleep 1; done'
until_true 10 "the service runs" runs clock
PID=$(field pid clock)
SEEN="$SEEN $PID"
printf '   $ kill -9 %s\n' "$PID"
kill -9 "$PID" || fail "the service's process $PID is not there"
until_true 15 "the service came back" runs_anew clock "$PID"
AGAIN=$(field pid clock)
SEEN="$SEEN $AGAIN"
must hostler ps
note "process $PID was killed, process $AGAIN has taken its place"

step "A job that ends while the daemon is dead"
must hostler run --detach --name night -- sh -c 'echo working; sleep 2; echo done; exit 3'
until_true 10 "the job runs" runs night
JOB=$(field pid night)
SEEN="$SEEN $JOB"
printf '   $ kill -9 %s        # the daemon\n' "$FIRST_DAEMON"
KILLED_MS=$(date +%s%3N)
kill -9 "$FIRST_DAEMON" || fail "the daemon's process is not there"
until_true 5 "the daemon is dead" gone "$FIRST_DAEMON"
alive "$AGAIN" || fail "the service died with the daemon"
until_true 10 "the job ended" gone "$JOB"
note "the daemon is dead, the service goes on, the job has ended meanwhile"
sleep 1
BACK_MS=$(date +%s%3N)
must hostler up
typed hostler wait night
[ "$CODE" -eq 3 ] || fail "hostler wait returned $CODE instead of 3"
until_true 10 "the job's end is known" ended night
[ "$(field exit_code night)" = 3 ] || fail "the job's exit code is '$(field exit_code night)' instead of 3"
must hostler logs night
[ "$OUT" = "$(printf 'working\ndone')" ] || fail "the job's output is not complete"
ENDED_MS=$(field ended_at_ms night)
[ -n "$ENDED_MS" ] || fail "the job has no end time"
[ "$ENDED_MS" -gt "$KILLED_MS" ] && [ "$ENDED_MS" -lt "$BACK_MS" ] ||
    fail "the end time $ENDED_MS is not between the daemon's death $KILLED_MS and its return $BACK_MS"
must hostler events --no-follow --filter workload=night
[ "$(field pid clock)" = "$AGAIN" ] || fail "the service was disturbed by the daemon's death"
note "exit code 3, both lines of output, and its end at $(date -d "@$((ENDED_MS / 1000))" +%T): $((BACK_MS - ENDED_MS)) ms before the daemon was back"
note "the service is still process $AGAIN"

step "Everything down, nothing left behind"
SECOND_DAEMON=$(daemon_pid) || fail "the node left no hostlerd.pid"
SEEN="$SEEN $FIRST_DAEMON $SECOND_DAEMON"
must hostler down --stop-workloads
until_true 10 "every process of the node has ended" nothing_left
[ -z "$(leftover_cgroups)" ] || fail "cgroups are left: $(leftover_cgroups | tr '\n' ' ')"
LEFT=$(find "$HOSTLER_ROOT" \( -path '*/run/*' -o -path '*/sandbox/*' -o -name '*.sock' -o -name 'hostlerd.pid' \) 2>/dev/null)
[ -z "$LEFT" ] || fail "files are left: $(printf '%s' "$LEFT" | tr '\n' ' ')"
rm -rf "$HOSTLER_ROOT"
[ ! -e "$HOSTLER_ROOT" ] || fail "$HOSTLER_ROOT could not be removed"
FINISHED=yes
note "no process, no cgroup, no socket, no run directory; the node's own directory is removed"
printf '\ndemo: all steps passed in %s seconds\n' "$(($(date +%s) - BEGAN))"
