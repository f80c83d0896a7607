//! Events: numbered, durable facts. An event carries its object's state *after* it, so that a reader who joins
//! late needs no other source. Ids are `<journal>-<sequence number>`, gapless on a node.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::hook::HookTrigger;
use crate::ids::{
    CheckpointName, ExecId, IdError, Namespace, QueueName, RunId, StackName, StoreId, UnitName, WorkloadId,
    WorkloadName,
};
use crate::network::NetworkRecord;
use crate::queue::QueueRecord;
use crate::schedule::{Misfire, Overlap};
use crate::seldom::Seldom;
use crate::spec::Limits;
use crate::stack::GenerationState;
use crate::workload::{LostReason, Phase, StartFailure};

/// `<journal>-<sequence number>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId {
    /// The journal: the id of the store that numbered it.
    pub journal: StoreId,
    /// From 1, without gaps.
    pub sequence: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.journal, self.sequence)
    }
}

impl FromStr for EventId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error =
            || IdError::Hex { what: "an event id", text: text.chars().take(80).collect(), digits: StoreId::DIGITS };
        let (journal, sequence) = text.split_once('-').ok_or_else(error)?;
        let sequence = sequence.parse().map_err(|_| error())?;
        Ok(Self { journal: journal.parse()?, sequence })
    }
}

/// What happened. `type` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum EventKind {
    /// A workload was accepted.
    #[serde(rename = "workload.created")]
    WorkloadCreated,
    /// It waits for its turn in its queue.
    #[serde(rename = "workload.queued")]
    WorkloadQueued {
        /// Which queue.
        queue: QueueName,
    },
    /// Its limits were changed.
    #[serde(rename = "workload.updated")]
    WorkloadUpdated {
        /// The limits now in force.
        limits: Seldom<Limits>,
    },
    /// Somebody asked it to stop.
    #[serde(rename = "workload.stopping")]
    WorkloadStopping {
        /// Why: `stop`, `restart`, `replace`, `remove`, `owner_gone`, `shutdown`.
        reason: StopReason,
    },
    /// It will be started again after a delay.
    #[serde(rename = "workload.restarting")]
    WorkloadRestarting {
        /// The delay, milliseconds.
        delay_ms: u64,
        /// Failures in a row so far.
        attempt: u32,
    },
    /// It is gone.
    #[serde(rename = "workload.removed")]
    WorkloadRemoved,
    /// A fire of its schedule: a run starts now, or waits for the end of the one before it.
    #[serde(rename = "schedule.fired")]
    ScheduleFired {
        /// The fire time, wall clock, milliseconds; absent when somebody asked for it beside the plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due_ms: Option<u64>,
        /// Fires that now wait for the end of the run before them.
        #[serde(default)]
        waiting: u32,
    },
    /// Fire times of its schedule passed that nobody could keep.
    #[serde(rename = "schedule.missed")]
    ScheduleMissed {
        /// How many.
        count: u32,
        /// There were more; counting stopped there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
        /// What becomes of them.
        policy: Misfire,
        /// Of those counted, the ones that no run makes up for.
        dropped: u32,
    },
    /// A fire time of its schedule was left out: the run before it is not over.
    #[serde(rename = "schedule.skipped")]
    ScheduleSkipped {
        /// The fire time, wall clock, milliseconds.
        due_ms: u64,
        /// The policy in force.
        policy: Overlap,
    },
    /// Its schedule stands still.
    #[serde(rename = "schedule.paused")]
    SchedulePaused,
    /// Its schedule goes on.
    #[serde(rename = "schedule.resumed")]
    ScheduleResumed {
        /// The next fire time, wall clock, milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_fire_ms: Option<u64>,
    },
    /// A run was accepted: a sandbox is being prepared.
    #[serde(rename = "run.created")]
    RunCreated,
    /// Its program runs.
    #[serde(rename = "run.started")]
    RunStarted {
        /// The main process; absent when only the end told of the start, because no daemon was there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        /// The checkpoint that it went on from; absent when it began at its beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restored_from: Option<CheckpointName>,
    },
    /// All of it stands still.
    #[serde(rename = "run.paused")]
    RunPaused,
    /// It goes on.
    #[serde(rename = "run.resumed")]
    RunResumed,
    /// An image of it was made.
    #[serde(rename = "run.checkpointed")]
    RunCheckpointed {
        /// The checkpoint's name.
        checkpoint: CheckpointName,
        /// The run ended with it.
        #[serde(default)]
        exit: bool,
    },
    /// It is ready: of a stack's service.
    #[serde(rename = "run.ready")]
    RunReady,
    /// It is taken for dead though it runs, and is stopped.
    #[serde(rename = "run.unhealthy")]
    RunUnhealthy {
        /// What the probes said.
        reason: String,
    },
    /// A stack was applied.
    #[serde(rename = "stack.applied")]
    StackApplied {
        /// Whose.
        namespace: Namespace,
        /// Which.
        stack: StackName,
        /// How often it was applied so far.
        revision: u32,
        /// Mistakes for which units were left out.
        mistakes: u32,
    },
    /// A unit of a stack now stands like this.
    #[serde(rename = "stack.unit")]
    StackUnit {
        /// Whose.
        namespace: Namespace,
        /// Which stack.
        stack: StackName,
        /// Which unit.
        unit: UnitName,
        /// Which version of it.
        generation: u32,
        /// How it stands.
        standing: GenerationState,
    },
    /// A stack is gone.
    #[serde(rename = "stack.removed")]
    StackRemoved {
        /// Whose.
        namespace: Namespace,
        /// Which.
        stack: StackName,
    },
    /// The kernel killed within it for memory.
    #[serde(rename = "run.oom")]
    RunOom {
        /// Kills so far.
        oom_kills: u64,
    },
    /// Its network was found broken when the daemon came up; the program goes on.
    #[serde(rename = "run.network_lost")]
    RunNetworkLost {
        /// What of it is missing.
        problem: String,
    },
    /// Its program ended.
    #[serde(rename = "run.exited")]
    RunExited {
        /// How.
        exit: Exit,
    },
    /// Its program was never started.
    #[serde(rename = "run.failed")]
    RunFailed {
        /// Why.
        failure: StartFailure,
    },
    /// Nobody knows how it ended.
    #[serde(rename = "run.lost")]
    RunLost {
        /// Why.
        reason: LostReason,
    },
    /// A second program was started inside a run.
    #[serde(rename = "exec.started")]
    ExecStarted {
        /// Which.
        exec: ExecId,
        /// Its process.
        pid: u32,
    },
    /// It ended.
    #[serde(rename = "exec.exited")]
    ExecExited {
        /// Which.
        exec: ExecId,
        /// How.
        exit: Exit,
    },
    /// A hook's trigger came: its action will be carried out, with this event's id as its key.
    #[serde(rename = "hook.fired")]
    HookFired {
        /// The hook's number in the spec.
        hook: u8,
        /// What made it fire.
        on: HookTrigger,
    },
    /// A hook's action was carried out.
    #[serde(rename = "hook.succeeded")]
    HookSucceeded {
        /// The hook's number in the spec.
        hook: u8,
        /// Attempts it took.
        attempts: u32,
    },
    /// A hook's action was given up.
    #[serde(rename = "hook.failed")]
    HookFailed {
        /// The hook's number in the spec.
        hook: u8,
        /// Attempts that were made.
        attempts: u32,
        /// What went wrong the last time.
        message: String,
    },
    /// The daemon came up.
    #[serde(rename = "node.started")]
    NodeStarted {
        /// Its version.
        version: String,
        /// Runs found alive.
        adopted: u32,
        /// Ends that happened while no daemon was there.
        ended_meanwhile: u32,
        /// Runs that could not be found again.
        lost: u32,
    },
    /// A queue was made or changed.
    #[serde(rename = "queue.changed")]
    QueueChanged {
        /// How it stands now.
        queue: QueueRecord,
    },
    /// A queue is gone.
    #[serde(rename = "queue.removed")]
    QueueRemoved {
        /// How it stood last.
        queue: QueueRecord,
    },
    /// A network was made.
    #[serde(rename = "network.created")]
    NetworkCreated {
        /// What it is.
        network: Box<NetworkRecord>,
    },
    /// A network is gone.
    #[serde(rename = "network.removed")]
    NetworkRemoved {
        /// What it was.
        network: Box<NetworkRecord>,
    },
    /// The node takes no new work, or takes work again.
    #[serde(rename = "node.lame_duck")]
    NodeLameDuck {
        /// Whether it is one now.
        lame_duck: bool,
    },
}

impl EventKind {
    /// Whose it is, where that is not told by its subject.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::QueueChanged { queue } | Self::QueueRemoved { queue } => Some(&queue.namespace),
            Self::NetworkCreated { network } | Self::NetworkRemoved { network } => Some(&network.namespace),
            Self::StackApplied { namespace, .. }
            | Self::StackUnit { namespace, .. }
            | Self::StackRemoved { namespace, .. } => Some(namespace),
            _ => None,
        }
    }

    /// The name in `type`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::WorkloadCreated => "workload.created",
            Self::WorkloadQueued { .. } => "workload.queued",
            Self::WorkloadUpdated { .. } => "workload.updated",
            Self::WorkloadStopping { .. } => "workload.stopping",
            Self::WorkloadRestarting { .. } => "workload.restarting",
            Self::WorkloadRemoved => "workload.removed",
            Self::ScheduleFired { .. } => "schedule.fired",
            Self::ScheduleMissed { .. } => "schedule.missed",
            Self::ScheduleSkipped { .. } => "schedule.skipped",
            Self::SchedulePaused => "schedule.paused",
            Self::ScheduleResumed { .. } => "schedule.resumed",
            Self::RunCreated => "run.created",
            Self::RunStarted { .. } => "run.started",
            Self::RunPaused => "run.paused",
            Self::RunResumed => "run.resumed",
            Self::RunCheckpointed { .. } => "run.checkpointed",
            Self::RunReady => "run.ready",
            Self::RunUnhealthy { .. } => "run.unhealthy",
            Self::StackApplied { .. } => "stack.applied",
            Self::StackUnit { .. } => "stack.unit",
            Self::StackRemoved { .. } => "stack.removed",
            Self::RunOom { .. } => "run.oom",
            Self::RunNetworkLost { .. } => "run.network_lost",
            Self::RunExited { .. } => "run.exited",
            Self::RunFailed { .. } => "run.failed",
            Self::RunLost { .. } => "run.lost",
            Self::ExecStarted { .. } => "exec.started",
            Self::ExecExited { .. } => "exec.exited",
            Self::HookFired { .. } => "hook.fired",
            Self::HookSucceeded { .. } => "hook.succeeded",
            Self::HookFailed { .. } => "hook.failed",
            Self::NodeStarted { .. } => "node.started",
            Self::QueueChanged { .. } => "queue.changed",
            Self::QueueRemoved { .. } => "queue.removed",
            Self::NetworkCreated { .. } => "network.created",
            Self::NetworkRemoved { .. } => "network.removed",
            Self::NodeLameDuck { .. } => "node.lame_duck",
        }
    }
}

/// Why a workload was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// `stop`.
    Stop,
    /// `restart`.
    Restart,
    /// The next fire of its schedule takes its place.
    Replace,
    /// Its stack: it is changed, taken down, or something that it requires has failed.
    Stack,
    /// It is taken for dead though it runs.
    Unhealthy,
    /// `rm -f`.
    Remove,
    /// The client of a foreground `run --rm` is gone.
    OwnerGone,
    /// `node down --stop-workloads`.
    Shutdown,
}

/// Whose event it is, and how the object stands after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subject {
    /// The workload.
    pub workload: WorkloadId,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: WorkloadName,
    /// The run, where the event is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// How the workload stands after the event.
    pub phase: Phase,
    /// Its generation.
    pub generation: u32,
    /// Runs so far.
    pub runs: u32,
}

/// An event as the store keeps it; its sequence number is its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Wall clock, milliseconds.
    pub time_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
    /// Whose it is; absent for events of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

impl Event {
    /// Whose it is; absent for events of the node.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        match &self.subject {
            Some(subject) => Some(&subject.namespace),
            None => self.kind.namespace(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_json_says() {
        let event = Event { time_ms: 1, kind: EventKind::NodeLameDuck { lame_duck: true }, subject: None };
        let json = serde_json::to_value(&event).expect("print");
        assert_eq!(json["type"], event.kind.name());
        assert_eq!(serde_json::from_value::<Event>(json).expect("parse"), event);
    }
}
