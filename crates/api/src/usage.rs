//! What many workloads use, in one answer.

use hostler_model::{Namespace, WorkloadId, WorkloadName};
use serde::{Deserialize, Serialize};

use crate::types::Stats;

/// Query of `GET /v1/stats`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StatsListQuery {
    /// Whose workloads; the caller's own namespace when absent. `*` is every namespace, for the node's owner only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// As of `GET /v1/workloads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Once a second as server-sent events.
    pub follow: bool,
}

/// What the running workloads use now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatsList {
    /// Sorted by name.
    pub workloads: Vec<WorkloadStats>,
    /// Workloads that run and whose agents gave no answer in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<WorkloadId>,
}

/// One of them. What only a look at each single process would tell (bytes read and written, without a cgroup that counts
/// them) is absent for those with limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkloadStats {
    /// Its id.
    pub id: WorkloadId,
    /// Whose it is.
    pub namespace: Namespace,
    /// Its name.
    pub name: WorkloadName,
    /// What it uses.
    #[serde(flatten)]
    pub stats: Stats,
}
