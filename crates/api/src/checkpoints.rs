//! Images of running containers: what is asked about them, and what is told.

use hostler_model::ids::{CheckpointName, RunId, WorkloadId, WorkloadName};
use hostler_model::launch::CheckpointOptions;
use hostler_model::{ByteString, Namespace, Spec};
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/checkpoints`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckpointRequest {
    /// Of which workload: its name, its id, or a unique prefix of its id.
    pub workload: String,
    /// Its name, unique in the directory; made from the run's id when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<CheckpointName>,
    /// The directory in which it is made, absolute; the node's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<ByteString>,
    /// What it contains.
    #[serde(default)]
    pub options: CheckpointOptions,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckpointView {
    /// Its name.
    pub name: CheckpointName,
    /// Whose it is.
    pub namespace: Namespace,
    /// The workload it was made of; it may be gone by now.
    pub workload: WorkloadId,
    /// The name that the workload had.
    pub workload_name: WorkloadName,
    /// Of which run.
    pub run: RunId,
    /// When, wall clock, milliseconds.
    pub created_at_ms: u64,
    /// What it contains.
    pub options: CheckpointOptions,
    /// Where it is.
    pub directory: ByteString,
    /// Its size, bytes.
    pub size_bytes: u64,
    /// What was asked for when the workload was made: what a new workload from it is made of.
    pub spec: Spec,
}

/// Answer of `GET /v1/checkpoints`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckpointList {
    /// The newest first.
    pub checkpoints: Vec<CheckpointView>,
}

/// Query about checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointQuery {
    /// Whose; the caller's own namespace when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// The directory in which they are, absolute; the node's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Only those of this workload, by name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

/// Body of `POST /v1/checkpoints/{checkpoint}/restore`: a new workload goes on where the old one was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RestoreRequest {
    /// The new workload's name; made from the program's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<WorkloadName>,
}

/// Body of `POST /v1/workloads/{ref}/start`, if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StartRequest {
    /// Go on from this checkpoint instead of from the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointName>,
    /// The directory in which it is, absolute; the node's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<ByteString>,
}
