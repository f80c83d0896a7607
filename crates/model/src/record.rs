//! What the store keeps: the state of everything, one record for each thing. The supervisor makes records, the
//! store writes them, and reading all of them back gives the supervisor's state again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::hook::{HookCall, HookKey};
use crate::ids::{Namespace, NetworkName, QueueName, StackName, UnitName, WorkloadId};
use crate::network::NetworkRecord;
use crate::queue::QueueRecord;
use crate::stack::{StackRecord, UnitRecord};
use crate::workload::Workload;

/// One change of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The workload now stands like this.
    Workload(Arc<Workload>),
    /// The workload is gone.
    WorkloadRemoved(WorkloadId),
    /// The stack now stands like this.
    Stack(Arc<StackRecord>),
    /// The stack is gone; its units went before.
    StackRemoved(Namespace, StackName),
    /// The unit now stands like this.
    StackUnit(Namespace, StackName, Arc<UnitRecord>),
    /// The unit is gone.
    StackUnitRemoved(Namespace, StackName, UnitName),
    /// The node now stands like this.
    Node(NodeRecord),
    /// The queue now stands like this.
    Queue(Arc<QueueRecord>),
    /// The queue is gone.
    QueueRemoved(Namespace, QueueName),
    /// The network is there.
    Network(Arc<NetworkRecord>),
    /// The network is gone.
    NetworkRemoved(Namespace, NetworkName),
    /// A creation with this key was accepted.
    IdempotencyKey(IdempotencyKey),
    /// The key is forgotten.
    IdempotencyKeyForgotten(Namespace, String),
    /// A hook has fired, and its action is to be carried out.
    HookFired(FiredHook),
    /// The action is carried out, given up, or in the hands of a job.
    HookDone(HookKey),
}

/// A call whose number comes with the commit: it is that of an event in the same batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiredHook {
    /// The call, without its number.
    pub call: Arc<HookCall>,
    /// Which event of the batch is its `hook.fired`.
    pub event: usize,
}

impl FiredHook {
    /// The call with its number, given that of the batch's first event.
    #[must_use]
    pub fn numbered(&self, first_event: u64) -> HookCall {
        HookCall { sequence: first_event + self.event as u64, ..HookCall::clone(&self.call) }
    }
}

/// What is known of the node itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeRecord {
    /// No new work is taken.
    #[serde(default)]
    pub lame_duck: bool,
    /// The boot the node last ran in, so that a reboot is noticed.
    #[serde(default)]
    pub boot_id: String,
}

/// A creation that must not happen twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// Whose key.
    pub namespace: Namespace,
    /// The key as the caller sent it.
    pub key: String,
    /// Hash of the request's body: the same key with another body is refused.
    pub digest: String,
    /// What it made.
    pub workload: WorkloadId,
    /// When, wall clock, milliseconds.
    pub created_at_ms: u64,
}

/// Whether somebody waits for the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// May linger for a moment and share the next commit.
    Lazy,
    /// Commit as soon as possible.
    Prompt,
}

/// Records and events that become durable together, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Changes, in order; a later one of the same thing wins.
    pub records: Vec<Record>,
    /// Events, in order; the store numbers them.
    pub events: Vec<Event>,
    /// Whether somebody waits.
    pub urgency: Urgency,
}
