//! The nouns of Hostler: what a workload, a run, an exit and an event *are*.
//!
//! Every other crate may name this one; it names none of them. Nothing here does I/O, reads a clock or
//! draws a random number: times, ids and entropy come in as arguments.
//!
//! - [`ids`]: typed identifiers that cannot be mixed up
//! - [`bytes`]: byte strings that survive JSON (arguments, environment, paths)
//! - [`container`]: how a workload runs as an OCI container; [`capability`]: what may be permitted to it
//! - [`isolation`]: how a plain process is kept apart from the machine
//! - [`seldom`]: parts that most specs leave at their default
//! - [`spec`]: what someone wants run, immutable once accepted; [`resources`]: the limits of a run as a whole
//! - [`workload`]: an accepted workload and its run, with the run's states
//! - [`exit`]: how a run or an exec ended, told apart by cause
//! - [`outcome`]: the same in one word, for results
//! - [`statistics`]: what samples of a run's resources come to; [`accounting`]: all that the kernel accounts for it
//! - [`process`]: the processes of a run
//! - [`event`]: the numbered facts that readers follow
//! - [`hook`]: what is done when something happens to a run
//! - [`launch`]: what the agent is told to start, fully resolved; [`guest`]: the same of a virtual machine
//! - [`network`]: networks, and how workloads are attached to them
//! - [`queue`]: what is known of a queue, and of a wait in it
//! - [`record`]: what the store keeps
//! - [`stack`]: services and jobs that belong together, as they are written and as they are kept
//! - [`rundir`]: the files that outlive agent and daemon
//! - [`schedule`]: when a workload runs by itself
//! - [`error`]: every refusal, with its stable type and HTTP status
//! - [`units`]: parsing and printing of sizes, durations and signals
//! - [`log_stream`]: stdout or stderr
//! - [`url`]: addresses that Hostler itself calls
//! - [`limits`]: the bound of every queue, input and wait
//! - [`config`] is `hostler.toml`
#![forbid(unsafe_code)]

pub mod accounting;
pub mod bytes;
pub mod capability;
pub mod config;
pub mod container;
pub mod error;
pub mod event;
pub mod exit;
pub mod guest;
pub mod hook;
pub mod ids;
pub mod isolation;
pub mod launch;
pub mod limits;
pub mod log_stream;
pub mod network;
pub mod outcome;
pub mod process;
pub mod queue;
pub mod record;
pub mod resources;
pub mod rundir;
pub mod schedule;
pub mod seldom;
pub mod spec;
pub mod stack;
pub mod statistics;
mod tags;
pub mod units;
pub mod url;
pub mod vm;
pub mod workload;

pub use bytes::ByteString;
pub use capability::Capability;
pub use error::{Problem, ProblemKind};
pub use exit::{Cause, Exit, ExitStatus};
pub use ids::{
    CheckpointName, ExecId, Namespace, NetworkId, NetworkName, NodeTag, QueueName, RunId, SandboxId, SetupId,
    StackName, StoreId, UnitName, WorkloadId, WorkloadName,
};
pub use isolation::Isolation;
pub use spec::Spec;
pub use workload::{Run, RunState, Workload};

/// The two clocks a decision may need, and the randomness it may spend. Always an argument, never read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME` in milliseconds: durations and deadlines within one boot.
    pub boot_ms: u64,
    /// Wall clock, milliseconds since the Unix epoch: dates.
    pub wall_ms: u64,
    /// Fresh random bits, for jitter and generated names.
    pub entropy: u64,
}
