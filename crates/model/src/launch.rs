//! What an agent is told to start: everything resolved, nothing left to look up. Static agents have no user
//! database, no configuration and no opinion.

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::ids::{Namespace, RunId};
use crate::isolation::Isolation;
use crate::spec::{Limits, Log, Rlimit, Stdio, Stop, TtySize};
use crate::workload::Identity;

/// A run, ready to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Which run.
    pub run: RunId,
    /// Whose it is; an agent that ran for one namespace never runs for another.
    pub namespace: Namespace,
    /// The program.
    pub program: Program,
    /// Standard streams.
    pub stdio: Stdio,
    /// Directory of the log segments, made by the agent when the first line comes.
    pub log_directory: ByteString,
    /// How much log is kept.
    pub log: Log,
    /// Limits of the run as a whole.
    pub limits: Limits,
    /// The cgroup to make for the run, when it needs one: its name under the node's parent.
    pub cgroup: Option<String>,
    /// Signal and grace used when `max_time_ms` passes.
    pub stop: Stop,
    /// Longest time from start, milliseconds.
    pub max_time_ms: Option<u64>,
}

/// A program with its process attributes; the main program of a run, or an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Program and arguments.
    pub command: Vec<ByteString>,
    /// The whole environment, `KEY=VALUE`, one entry a key.
    pub env: Vec<ByteString>,
    /// Working directory, absolute.
    pub workdir: ByteString,
    /// Who it runs as; `None` when the node is not root and cannot change that.
    pub identity: Option<Identity>,
    /// Limits of each process.
    pub rlimits: Vec<Rlimit>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// How it is kept apart; an exec is kept apart as its run is, without being told. From protocol 3 on: older
    /// agents would pass it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<Box<Confinement>>,
}

/// How a program is kept apart from this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// What was asked, resolved.
    pub isolation: Isolation,
    /// The host name it sees.
    pub hostname: String,
    /// Directories of the node, hidden whatever was asked: who reaches an agent's socket has left.
    #[serde(default)]
    pub hidden: Vec<ByteString>,
}

/// A second program inside a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecLaunch {
    /// The program.
    pub program: Program,
    /// Keep its stdin open.
    pub interactive: bool,
    /// Give it a terminal.
    pub tty: Option<TtySize>,
}
