//! An accepted workload and its current run.
//!
//! ```text
//! run:  preparing ──► running ──► stopping ──► ended{exit}
//!           │            └───────────┴───────► ended{exit} | lost{reason}
//!           └──► failed{reason} | lost{reason}
//! ```
//! A workload without a live run waits (`restart_at_boot_ms`), was stopped, or has ended for good.
//! `queued` is the workload's word for "accepted, waiting for its turn"; `paused` comes with the runtimes that can freeze.

use std::cmp::Reverse;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::hook::{HookCall, LineTail};
use crate::ids::{ExecId, Namespace, RunId, SandboxId, WorkloadId, WorkloadName};
use crate::launch::Restore;
use crate::queue::{Queued, Turn};
use crate::schedule::ScheduleState;
use crate::seldom::Seldom;
use crate::spec::{Limits, Spec};
use crate::stack::StackMember;

/// Who the program runs as, resolved when the workload was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
    /// Login name, when the user database has one: becomes `USER` and `LOGNAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Home directory, when the user database has one: becomes `HOME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
}

/// What the last explicit request said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Run it, and follow its restart policy.
    Run,
    /// Stay stopped until someone starts it.
    Stopped,
    /// Stop it and forget it.
    Removed,
}

/// Why the program never started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StartFailure {
    /// Which step failed.
    pub kind: StartFailureKind,
    /// What was being done and what the system answered, for people.
    pub message: String,
}

/// The steps of a start that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StartFailureKind {
    /// The program does not exist or is not in `PATH` (a shell would say 127).
    CommandNotFound,
    /// The program exists and cannot be executed (a shell would say 126).
    CommandNotExecutable,
    /// The working directory cannot be entered.
    Workdir,
    /// A file for stdin, stdout or stderr cannot be opened.
    Stdio,
    /// User or groups cannot be set.
    Credentials,
    /// A limit that this machine cannot give.
    Limit,
    /// Isolation that this machine, or this node, cannot give.
    Isolation,
    /// It got no place in its network.
    Network,
    /// No sandbox could be made.
    Sandbox,
    /// Not started within its start deadline.
    Deadline,
    /// Stopped before it was started.
    Cancelled,
    /// Anything else the system refused.
    System,
}

impl StartFailureKind {
    /// What a shell would return for it; 125 is docker's and podman's "the tool itself failed".
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::CommandNotFound => 127,
            Self::CommandNotExecutable => 126,
            _ => 125,
        }
    }
}

/// Why nobody can say how the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LostReason {
    /// The machine was rebooted.
    Reboot,
    /// The agent died; what was left of the run was killed.
    Agent,
    /// The run directory was gone or unreadable when the daemon looked for it.
    RunDirectory,
}

/// Where a run is in its life. The three last states are final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RunState {
    /// Accepted; a sandbox is being prepared. The deadline is on the boot clock.
    Preparing {
        /// When waiting for the start ends, boot clock, milliseconds.
        deadline_boot_ms: u64,
    },
    /// The program runs.
    Running,
    /// The stop signal was sent; at the deadline everything in the run is killed.
    Stopping {
        /// When the kill comes, boot clock, milliseconds. Absent once it was sent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kill_at_boot_ms: Option<u64>,
    },
    /// The program ended.
    Ended {
        /// How.
        exit: Exit,
    },
    /// The program was never started.
    Failed {
        /// Why.
        failure: StartFailure,
    },
    /// Nobody knows how it ended.
    Lost {
        /// Why.
        reason: LostReason,
    },
}

impl RunState {
    /// Whether this state is final.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Failed { .. } | Self::Lost { .. })
    }

    /// What a shell would return for a final state; 125 where there is no exit status to return.
    #[must_use]
    pub fn shell_code(&self) -> Option<u8> {
        match self {
            Self::Ended { exit } => Some(exit.status.shell_code()),
            Self::Failed { failure } => Some(failure.kind.shell_code()),
            Self::Lost { .. } => Some(125),
            _ => None,
        }
    }
}

/// One incarnation of a workload: at most one start, exactly one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Where it is in its life.
    #[serde(flatten)]
    pub state: RunState,
    /// When it was accepted, wall clock, milliseconds.
    pub created_at_ms: u64,
    /// When the program started, wall clock, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<u64>,
    /// The same on the boot clock, milliseconds: what its `delay` hooks count from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_boot_ms: Option<u64>,
    /// Numbers of the hooks that have fired, in the order in which they did: none fires twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks_fired: Vec<u8>,
    /// When it was found ready, wall clock, milliseconds: of a stack's service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at_ms: Option<u64>,
    /// When it is ready without being asked, boot clock, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_due_boot_ms: Option<u64>,
    /// Why it is taken for dead though it runs: it is being ended for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<String>,
    /// The main process, while it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The sandbox it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxId>,
    /// Processes killed for memory so far.
    #[serde(default)]
    pub oom_kills: u64,
    /// All of it stands still.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The checkpoint that it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Box<Restore>>,
    /// It was not started in time, and is being ended for that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deadline_passed: bool,
    /// Accepted execs whose end is not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub execs: Vec<RunExec>,
}

impl Run {
    /// A run in this state of which nothing else is known yet.
    #[must_use]
    pub fn new(id: RunId, state: RunState, created_at_ms: u64) -> Self {
        Self {
            id,
            state,
            created_at_ms,
            started_at_ms: None,
            started_boot_ms: None,
            hooks_fired: Vec::new(),
            ready_at_ms: None,
            ready_due_boot_ms: None,
            unhealthy: None,
            pid: None,
            sandbox: None,
            oom_kills: 0,
            paused: false,
            restore: None,
            deadline_passed: false,
            execs: Vec::new(),
        }
    }
}

/// A second program inside a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunExec {
    /// Its id.
    pub id: ExecId,
    /// Its process, once it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// A workload: a spec that was accepted, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Workload {
    /// Its id.
    pub id: WorkloadId,
    /// Whose it is.
    pub namespace: Namespace,
    /// Its name, unique in the namespace.
    pub name: WorkloadName,
    /// Counts changes of what was asked, from 1.
    pub generation: u32,
    /// What was asked.
    pub spec: Arc<Spec>,
    /// Who it runs as.
    pub identity: Arc<Identity>,
    /// What it is in its stack, if it is part of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Box<StackMember>>,
    /// The limits in force: the spec's, with later updates.
    pub limits: Seldom<Limits>,
    /// What the last explicit request said.
    pub desired: Desired,
    /// When it was accepted, wall clock, milliseconds.
    pub created_at_ms: u64,
    /// Runs so far.
    pub runs: u32,
    /// The checkpoint that its next run goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Box<Restore>>,
    /// How its schedule stands, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Box<ScheduleState>>,
    /// Runs that are over and whose last output was not yet searched for the patterns of `line` hooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub line_tails: Vec<LineTail>,
    /// The call that this workload carries out, if it was made for the command of another one's hook; until its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_of: Option<Box<HookCall>>,
    /// Failed attempts in a row, for the back-off.
    #[serde(default)]
    pub failures_in_a_row: u32,
    /// Start again as soon as the current run has ended, whatever the policy says: `restart` was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart_requested: bool,
    /// When the next run starts, boot clock, milliseconds, while one is waiting for its back-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_at_boot_ms: Option<u64>,
    /// Its wait in its queue, until it is its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<Queued>,
    /// The current run, or the last. Boxed, because those who wait in a queue have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Box<Run>>,
}

/// One word for people and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Accepted, waiting for its first start or the next.
    Pending,
    /// Accepted, waiting for its turn in its queue.
    Queued,
    /// No run is live; the next one starts when its schedule says so.
    Scheduled,
    /// A sandbox is being prepared.
    Preparing,
    /// The program runs.
    Running,
    /// The program stands still until it is resumed.
    Paused,
    /// The program was asked to stop.
    Stopping,
    /// The last run ended, and no other will come by itself.
    Ended,
    /// The last run could not be started, and no other will come by itself.
    Failed,
    /// The last run was lost, and no other will come by itself.
    Lost,
}

impl Phase {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Queued,
        Self::Scheduled,
        Self::Preparing,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Ended,
        Self::Failed,
        Self::Lost,
    ];

    /// The phase of this word, see [`Phase::as_str`].
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == word)
    }

    /// The word as JSON and people see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Scheduled => "scheduled",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

impl Workload {
    /// Whether each of its runs has a cgroup of its own.
    #[must_use]
    pub fn has_cgroup(&self) -> bool {
        !self.limits.is_empty() || self.spec.container.is_some() || self.spec.vm.is_some()
    }

    /// The run that is not yet at its end.
    #[must_use]
    pub fn live_run(&self) -> Option<&Run> {
        self.run.as_deref().filter(|run| !run.state.is_final())
    }

    /// Where it stands in its queue, while it waits there.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        let queued = self.queued?;
        Some(Turn { priority: Reverse(self.spec.priority), ticket: queued.ticket, workload: self.id })
    }

    /// Whether it takes one of the places of its queue: from its turn to its result, the waits between attempts included.
    /// One that waits for another reason than a failed attempt has begun nothing yet.
    #[must_use]
    pub fn holds_place(&self) -> bool {
        let retries = self.restart_at_boot_ms.is_some() && self.failures_in_a_row > 0;
        let under_way = self.live_run().is_some() || retries;
        self.spec.queue.is_some() && self.queued.is_none() && under_way
    }

    /// Whether no run is live and none will come by itself.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        match self.phase() {
            Phase::Pending | Phase::Queued | Phase::Preparing | Phase::Running | Phase::Paused | Phase::Stopping => {
                false
            }
            Phase::Scheduled => !self.is_schedule_active(),
            Phase::Ended | Phase::Failed | Phase::Lost => true,
        }
    }

    /// Whether no run is live and the next one, if any, is a matter of the schedule: what a `wait` waits for.
    #[must_use]
    pub fn is_between_fires(&self) -> bool {
        self.phase() == Phase::Scheduled || self.is_at_rest()
    }

    fn is_schedule_active(&self) -> bool {
        self.schedule.as_deref().is_some_and(ScheduleState::is_active)
    }

    /// Where it stands, in one word.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.run.as_ref().map(|run| &run.state) {
            Some(RunState::Preparing { .. }) => Phase::Preparing,
            Some(RunState::Running) if self.run.as_ref().is_some_and(|run| run.paused) => Phase::Paused,
            Some(RunState::Running) => Phase::Running,
            Some(RunState::Stopping { .. }) => Phase::Stopping,
            _ if self.queued.is_some() => Phase::Queued,
            _ if self.restart_at_boot_ms.is_some() => Phase::Pending,
            _ if self.is_schedule_active() => Phase::Scheduled,
            Some(RunState::Ended { .. }) => Phase::Ended,
            Some(RunState::Failed { .. }) => Phase::Failed,
            Some(RunState::Lost { .. }) => Phase::Lost,
            // Its schedule was paused before it ever fired.
            None if self.schedule.is_some() => Phase::Scheduled,
            None => Phase::Pending,
        }
    }
}
