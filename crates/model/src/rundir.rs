//! The files of a run directory, `run/<run id>/`: what is left to find when agent or daemon are gone.
//!
//! - `run.json` ([`RunFile`]) is written before the program is executed.
//! - `exit.json` ([`ExitFile`]) is there at the same time with room for the end, so that a full disk cannot lose one;
//!   it is filled before the node is told. What it holds counts only if it is whole and of this run: directories
//!   are used again.

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::exit::Exit;
use crate::ids::{ExecId, Namespace, RunId, SandboxId, StoreId};
use crate::launch::OciRuntime;
use crate::workload::StartFailure;

/// Name of the file that holds a [`RunFile`].
pub const RUN_FILE: &str = "run.json";
/// Name of the file that holds an [`ExitFile`], or room for one.
pub const EXIT_FILE: &str = "exit.json";
/// Name of the directory, beside that of the OCI runtime, in which containers claim user ids.
pub const USERS_DIRECTORY: &str = "user-ids";
/// Name of an agent's socket in its sandbox directory.
pub const AGENT_SOCKET: &str = "agent.sock";

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`, clock ticks after boot.
    pub start_ticks: u64,
}

/// Who runs what here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// Which store the run belongs to; runs of another store are left alone.
    pub store: StoreId,
    /// The run.
    pub run: RunId,
    /// Its namespace.
    pub namespace: Namespace,
    /// The sandbox whose agent is the parent.
    pub sandbox: SandboxId,
    /// The boot in which the process numbers mean something.
    pub boot_id: String,
    /// The agent.
    pub agent: ProcessId,
    /// The main process, from the moment it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<ProcessId>,
    /// The run's own cgroup: its name under the node's parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// What made the container, and can take it away: of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerFile>,
    /// What was made for its virtual machine: of a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmFile>,
    /// Size of `exit.json` before the end, bytes.
    pub exit_reserved: u32,
}

/// What is needed to take a container away; its name is that of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFile {
    /// What made it.
    pub oci: OciRuntime,
}

/// What is needed to take a virtual machine away, once its processes are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmFile {
    /// Its directory.
    pub directory: ByteString,
}

/// How the run came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// The program ended.
    Exited {
        /// How.
        exit: Exit,
    },
    /// The program was never executed.
    StartFailed {
        /// Why.
        failure: StartFailure,
    },
}

/// The durable end. How it is written: `hostler_wire::exit_file`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitFile {
    /// The run.
    pub run: RunId,
    /// Its end.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Ends of execs that the node has not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub execs: Vec<ExecEnd>,
}

/// The end of an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEnd {
    /// Which.
    pub exec: ExecId,
    /// The process it was.
    pub pid: u32,
    /// How it ended.
    pub exit: Exit,
}
