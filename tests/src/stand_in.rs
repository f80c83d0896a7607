//! A stand-in OCI runtime: it does what a file says, and for the rest calls the real one.
//!
//! It is a shell script in a directory of the test. For each call, a file named like the call says what goes wrong;
//! without one the real OCI runtime is executed in its place. `calls` lists the calls that came.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::container::{Oci, program};

/// What goes wrong in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It does not end.
    Hang,
    /// It does not end, nor does a child that it has made.
    HangWithChild,
    /// It says why in its log, and ends with code 3.
    Fail,
    /// The same, and nothing is said.
    FailSilently,
    /// It writes a mebibyte to its log before it says why it fails.
    FloodLog,
    /// The same to its stderr and stdout.
    FloodStderr,
    /// It is ended by a signal.
    Die,
    /// It does what it should, and then writes garbage to its pid file.
    GarbledPid,
    /// It does what it should, and takes its pid file away.
    NoPid,
    /// It says that all went well, and has done nothing.
    Lie,
    /// It does what it should, and says that it failed.
    LateFailure,
    /// It freezes the container, and does not end.
    Freeze,
}

impl Wrong {
    fn word(self) -> String {
        format!("{self:?}")
    }
}

const SCRIPT: &str = r#"#!/bin/sh
here=@HERE@
real=@REAL@
call= log= pid_file= previous=
for word; do
    case $previous in
    --log) log=$word ;;
    --pid-file) pid_file=$word ;;
    esac
    case $word in
    create|start|exec|delete|checkpoint|restore|kill|state|--version) [ -n "$call" ] || call=$word ;;
    esac
    previous=$word
done
echo "$call" >>"$here/calls"
flood() { head -c 1048576 /dev/zero | tr '\0' x; echo; }
complain() { echo '{"level":"error","msg":"the stand-in was told to fail"}' >>"$log"; exit 3; }
if [ "$call" = --version ]; then
    [ ! -e "$here/unknown" ] || { echo "stand-in 1.0"; exit 0; }
    exec "$real" "$@"
fi
case $(cat "$here/$call" 2>/dev/null) in
Hang) exec sleep 600 ;;
HangWithChild) sleep 600 & wait ;;
Fail) complain ;;
FailSilently) exit 3 ;;
FloodLog) flood >>"$log"; complain ;;
FloodStderr) flood >&2; flood; complain ;;
Die) kill -SEGV $$ ;;
GarbledPid) "$real" "$@" || exit; echo garbage >"$pid_file" ;;
NoPid) "$real" "$@" || exit; rm "$pid_file" ;;
Lie) exit 0 ;;
LateFailure) "$real" "$@" || exit; complain ;;
Freeze) for id; do :; done; echo FROZEN >"$(find /sys/fs/cgroup/freezer -type d -name "$id")/freezer.state"; exec sleep 600 ;;
*) exec "$real" "$@" ;;
esac
"#;

/// See the module.
#[derive(Debug)]
pub struct StandIn {
    here: PathBuf,
}

impl StandIn {
    /// One in this directory, which calls the real one.
    #[must_use]
    pub fn new(here: PathBuf, oci: Oci) -> Self {
        std::fs::create_dir_all(&here).expect("a directory");
        let real = program(oci.name).expect("it is installed");
        let script = SCRIPT.replace("@HERE@", &here.to_string_lossy()).replace("@REAL@", &real.to_string_lossy());
        let stand_in = Self { here };
        std::fs::write(stand_in.program(), script).expect("a script");
        std::fs::set_permissions(stand_in.program(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        stand_in
    }

    /// Its path, for `--oci-runtime`.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.here.join("stand-in")
    }

    /// It does not say whose it is, so nothing is known of it.
    #[must_use]
    pub fn unknown(self) -> Self {
        std::fs::write(self.here.join("unknown"), "").expect("write");
        self
    }

    /// From now on this call goes wrong.
    pub fn set(&self, call: &str, wrong: Wrong) {
        std::fs::write(self.here.join(call), wrong.word()).expect("write");
    }

    /// From now on this call is as it should be.
    pub fn clear(&self, call: &str) {
        std::fs::remove_file(self.here.join(call)).expect("it was set");
    }

    /// How often this was called.
    #[must_use]
    pub fn count(&self, call: &str) -> usize {
        let calls = std::fs::read_to_string(self.here.join("calls")).unwrap_or_default();
        calls.lines().filter(|line| *line == call).count()
    }
}
