//! How a stack stands, as the store keeps it: one record for the stack, one for each of its units.
//!
//! ```text
//! generation:  waiting ─► checking ─► starting ─► ready
//!                 │           └─► skipped  │        │
//!                 └──────────► failed ◄────┴────────┤
//!                                 ▲      stopping ◄─┘
//!                                 └────────┴─► stopped
//! ```
//! A unit has one generation in service (or on its way there), and beside it the next one while a change rolls out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::check::Mistake;
use super::plan::{UnitKind, UnitPlan};
use super::probe::{Liveness, Readiness};
use crate::ids::{Namespace, NetworkName, QueueName, StackName, UnitName};
use crate::workload::Identity;

/// A stack that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRecord {
    /// Whose.
    pub namespace: Namespace,
    /// Its name.
    pub name: StackName,
    /// Counts how often it was applied, from 1.
    pub revision: u32,
    /// When it was applied last, wall clock, milliseconds.
    pub applied_at_ms: u64,
    /// It is being taken down; the record goes with its last unit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub down: bool,
    /// Queues that it made; those that nobody else uses go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueName>,
    /// Networks that it made; those that nobody else uses go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkName>,
    /// What was wrong with it; these units were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}

/// A unit of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// Its name.
    pub name: UnitName,
    /// It is no longer part of the stack, and goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// The generation in service, or on its way there.
    pub current: Generation,
    /// The one that is to take its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Generation>,
    /// The highest number a generation has had.
    pub generations: u32,
}

/// One version of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Counts the unit's versions, from 1.
    pub number: u32,
    /// What it is.
    pub plan: Arc<UnitPlan>,
    /// Who it runs as, resolved when it was applied.
    pub identity: Identity,
    /// Where it stands.
    #[serde(flatten)]
    pub state: GenerationState,
}

/// Where a generation stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum GenerationState {
    /// Not started: others come first.
    Waiting {
        /// Which; or why else.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        on: Vec<String>,
        /// Its condition was just found to hold.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        checked: bool,
    },
    /// Its condition is being looked at.
    Checking,
    /// Its replicas were started; not all are ready.
    Starting {
        /// When it has failed, boot clock, milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_boot_ms: Option<u64>,
    },
    /// In service; of a job: done.
    Ready,
    /// It is not in service, and will not be until the stack is applied again.
    Failed {
        /// Why.
        reason: String,
    },
    /// Its condition does not hold.
    Skipped {
        /// What of it does not.
        reason: String,
    },
    /// Its replicas are being stopped, after those of the units that depend on it.
    Stopping {
        /// What it is afterwards.
        then: Then,
    },
    /// Stopped on request, or it has ended by itself.
    Stopped {
        /// Why.
        reason: String,
    },
}

/// What follows a stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It has failed.
    Failed(String),
    /// The next generation takes its place.
    Replaced,
    /// It starts again, after what it waits for.
    Waiting,
    /// It is gone.
    Gone,
}

impl GenerationState {
    /// Waiting, for nobody in particular so far.
    #[must_use]
    pub fn waiting() -> Self {
        Self::Waiting { on: Vec::new(), checked: false }
    }

    /// Failed for this reason.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into() }
    }

    /// The word as JSON and people see it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Checking => "checking",
            Self::Starting { .. } => "starting",
            Self::Ready => "ready",
            Self::Failed { .. } => "failed",
            Self::Skipped { .. } => "skipped",
            Self::Stopping { .. } => "stopping",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// Whether nothing more will happen by itself.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Ready | Self::Failed { .. } | Self::Skipped { .. } | Self::Stopped { .. })
    }

    /// Whether it may have replicas that run.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Starting { .. } | Self::Ready)
    }
}

/// What a workload is in its stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StackMember {
    /// The stack, in the workload's namespace.
    pub stack: StackName,
    /// The unit.
    pub unit: UnitName,
    /// Service or job.
    pub kind: UnitKind,
    /// Which replica, from 0.
    pub replica: u32,
    /// Which version of the unit.
    pub generation: u32,
    /// When a run of it is ready.
    pub ready: Readiness,
    /// How it is found out that a run of it is dead though it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
}
