//! The processes of a run, as a look at them finds them.

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::ids::ExecId;

/// What a process is within its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The main process.
    Main,
    /// The program of an exec.
    Exec(ExecId),
    /// Started by one of those.
    #[default]
    Other,
}

/// A process of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Process {
    /// Its number on the node.
    pub pid: u32,
    /// Its number in its own pid namespace; the same without one.
    pub namespace_pid: u32,
    /// Its parent, on the node.
    pub parent_pid: u32,
    /// Main process, exec or neither.
    pub role: Role,
    /// The user it runs as, on the node.
    pub uid: u32,
    /// As `ps` writes it: `R`, `S`, `D`, `T`, `Z`, …
    pub state: String,
    /// When it started, wall clock, milliseconds; in steps of a clock tick.
    pub started_at_ms: u64,
    /// CPU time of all its threads, microseconds.
    pub cpu_us: u64,
    /// Resident memory, bytes, shared pages counted in full.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u32,
    /// Program and arguments as the process shows them, cut at a bound; of a process without any, its name in brackets.
    pub command: Vec<ByteString>,
}

/// All of them, or the first ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Processes {
    /// Sorted by number.
    pub processes: Vec<Process>,
    /// How many are not in the list, because there are too many.
    pub left_out: u32,
}
