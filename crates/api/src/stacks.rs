//! Stacks as they stand, and what a new version would change. What is asked for is `hostler_model::stack::Stack`.

use hostler_model::Namespace;
use hostler_model::ids::{NetworkName, QueueName, StackName, UnitName, WorkloadId, WorkloadName};
use hostler_model::stack::{GenerationState, Mistake, UnitKind};
use hostler_model::workload::Phase;
use serde::{Deserialize, Serialize};

/// Query of `GET /v1/stacks/{ref}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StackQuery {
    /// Whose; the caller's own namespace when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Each time it changes, as server-sent events, until it is gone.
    pub follow: bool,
}

/// Body of `GET /v1/stacks`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StackList {
    /// By name.
    pub stacks: Vec<StackView>,
    /// Files in `startup.d` that cannot be used; the others were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<BrokenFile>,
}

/// A startup file that cannot be used, or not as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BrokenFile {
    /// Where.
    pub file: String,
    /// Why.
    pub problem: String,
}

/// How a stack stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StackView {
    /// Its name.
    pub name: StackName,
    /// Whose.
    pub namespace: Namespace,
    /// How often it was applied.
    pub revision: u32,
    /// When it was applied last, wall clock, milliseconds.
    pub applied_at_ms: u64,
    /// It is being taken down.
    #[serde(default)]
    pub down: bool,
    /// Nothing more will happen by itself.
    pub settled: bool,
    /// Its units, by name.
    pub units: Vec<UnitView>,
    /// What is wrong with it; these units were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}

/// How a unit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnitView {
    /// Its name.
    pub name: UnitName,
    /// Service or job.
    pub kind: UnitKind,
    /// It is no longer part of the stack, and goes.
    #[serde(default)]
    pub leaving: bool,
    /// What must be ready before it.
    pub requires: Vec<UnitName>,
    /// What only comes before it.
    pub after: Vec<UnitName>,
    /// Replicas wanted.
    pub replicas: u32,
    /// When it runs, of a job with a schedule, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Which version is in service, or on its way there.
    pub generation: u32,
    /// Where that stands.
    #[serde(flatten)]
    pub state: GenerationState,
    /// The version that is to take its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NextView>,
    /// Its replicas.
    pub members: Vec<MemberView>,
}

/// The version that is to take a unit's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NextView {
    /// Which.
    pub generation: u32,
    /// Where it stands.
    #[serde(flatten)]
    pub state: GenerationState,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberView {
    /// Its workload.
    pub workload: WorkloadId,
    /// That one's name.
    pub name: WorkloadName,
    /// Which replica, from 0.
    pub replica: u32,
    /// Of which version.
    pub generation: u32,
    /// Where the workload stands.
    pub phase: Phase,
    /// Its run is ready.
    pub ready: bool,
    /// Its main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What a shell would return, once its run has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Runs so far.
    pub runs: u32,
}

/// Answer of `POST /v1/stacks/{ref}/diff`: what would change. Units that would not are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StackDiff {
    /// By unit.
    pub changes: Vec<UnitChange>,
    /// Queues that would come or change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueChanged>,
    /// Networks that would come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkName>,
    /// What is wrong with it; these units would be left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}

/// A queue that would come or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueChanged {
    /// Which.
    pub queue: QueueName,
    /// So many jobs of it run at one time now; absent when it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// So many will.
    pub to: u32,
}

/// What would become of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnitChange {
    /// Which.
    pub unit: UnitName,
    /// What.
    #[serde(flatten)]
    pub change: ChangeKind,
}

/// The ways to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum ChangeKind {
    /// It comes.
    Added,
    /// It goes.
    Removed,
    /// A new version takes its place.
    Changed {
        /// The keys that differ.
        keys: Vec<String>,
    },
    /// Replicas come or go; the others are left alone.
    Scaled {
        /// So many there are.
        from: u32,
        /// So many there will be.
        to: u32,
    },
}
