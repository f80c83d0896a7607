//! What an agent is told to start: everything resolved, nothing left to look up. Static agents have no user
//! database, no configuration and no opinion.

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::container::Container;
use crate::guest::VmLaunch;
use crate::ids::{CheckpointName, Namespace, RunId};
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
    /// The container that it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<ContainerLaunch>>,
    /// The guest that it runs in. From protocol 4 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Box<VmLaunch>>,
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

/// A container, ready to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerLaunch {
    /// What was asked; paths as they were given.
    pub container: Container,
    /// Its host name.
    pub hostname: String,
    /// By which names others of its network find it; the first is the workload's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// What it reads of its network; nothing is put in its way when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_files: Option<Box<NetworkFiles>>,
    /// By what it is made.
    pub oci: OciRuntime,
    /// From which checkpoint it goes on, instead of from its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// Two files that a container sees at their usual places.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkFiles {
    /// `/etc/hosts`.
    pub hosts: String,
    /// `/etc/resolv.conf`.
    pub resolv: String,
}

/// The program that makes containers, as it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciRuntime {
    /// Its path, absolute.
    pub program: ByteString,
    /// Whose it is, as far as its version tells.
    pub kind: OciKind,
    /// Its arguments before each command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<ByteString>,
    /// The directory in which it keeps what it knows of containers: `--root`.
    pub state: ByteString,
    /// A directory in which it finds `criu`, before those where programs usually are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criu_dir: Option<ByteString>,
    /// Longest time of any call where that is less than the usual one, milliseconds: for tests of what hangs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_max_ms: Option<u64>,
}

/// A family of OCI runtimes. What any of them does is asked of each in the same way; a few things are known of some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OciKind {
    /// `runc`.
    Runc,
    /// `crun`.
    Crun,
    /// Anything else with the same command line.
    Other,
}

/// A checkpoint to go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Restore {
    /// Its name.
    pub checkpoint: CheckpointName,
    /// The directory of its images.
    pub images: ByteString,
    /// How it was made.
    pub options: CheckpointOptions,
}

/// Among the images of a checkpoint: the file that CRIU writes whenever it makes some.
pub const CRIU_INVENTORY: &str = "inventory.img";

/// What a checkpoint may contain, besides processes and their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointOptions {
    /// The container ends with it; otherwise it goes on.
    pub exit: bool,
    /// Open TCP connections.
    pub tcp_established: bool,
    /// Unix sockets whose other end is outside.
    pub ext_unix_sk: bool,
    /// A terminal.
    pub shell_job: bool,
    /// The network is made anew, not restored.
    pub empty_ns_net: bool,
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
