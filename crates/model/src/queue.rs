//! Queues: jobs of one name run one after another, or a few at a time, in order of acceptance.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::ids::{Namespace, QueueName, WorkloadId};
use crate::{Problem, ProblemKind, limits};

/// A queue as the store keeps it. One that a job names and nobody made is made with [`QueueRecord::new`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueRecord {
    /// Whose it is.
    pub namespace: Namespace,
    /// Its name, unique in the namespace.
    pub name: QueueName,
    /// Jobs of it that run at one time, at most.
    pub parallel: u32,
    /// No job of it is started; jobs are accepted.
    #[serde(default)]
    pub paused: bool,
    /// No job is accepted; those that wait are run.
    #[serde(default)]
    pub draining: bool,
    /// When it was made, wall clock, milliseconds.
    pub created_at_ms: u64,
}

impl QueueRecord {
    /// A queue as it is made by the first job that names it: one job after another.
    #[must_use]
    pub fn new(namespace: Namespace, name: QueueName, created_at_ms: u64) -> Self {
        Self { namespace, name, parallel: 1, paused: false, draining: false, created_at_ms }
    }

    /// Whether nobody ever said anything about it: it can be made again by the next job.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.parallel == 1 && !self.paused && !self.draining
    }
}

/// What is to change of a queue; what is absent stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct QueueChange {
    /// Jobs that run at one time, 1 to 1,024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// Start no job, or start jobs again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Accept no job and run those that wait, or accept jobs again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
}

impl QueueChange {
    /// Checks the values for sense.
    pub fn check(&self) -> Result<(), Problem> {
        match self.parallel {
            Some(0) => {
                let detail = "parallel must be at least 1; to start no job, pause the queue";
                Err(Problem::new(ProblemKind::InvalidSpec, detail))
            }
            Some(parallel) if parallel > limits::QUEUE_PARALLEL_MAX => {
                let detail = format!("parallel must be at most {}", limits::QUEUE_PARALLEL_MAX);
                Err(Problem::new(ProblemKind::InvalidSpec, detail))
            }
            _ => Ok(()),
        }
    }
}

/// A job's wait for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Queued {
    /// Tells the order of acceptance; larger is later.
    pub ticket: u64,
    /// Since when it waits, wall clock, milliseconds.
    pub since_ms: u64,
    /// Its next run may be executed from the moment this is durable, its start be committed after it: it will follow a
    /// short job within milliseconds. The number tells one such permission from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u64>,
}

/// Where a job stands in its queue: a higher priority first, then the order of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// The spec's.
    pub priority: Reverse<i32>,
    /// Of [`Queued`].
    pub ticket: u64,
    /// Whose.
    pub workload: WorkloadId,
}
