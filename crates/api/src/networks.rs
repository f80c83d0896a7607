//! Networks and pools as they are asked for and as they stand. What one network looks like is
//! [`NetworkView`](hostler_model::network::NetworkView).

use hostler_model::network::{NetworkView, PoolView};
use hostler_model::{Namespace, NetworkName};
use serde::{Deserialize, Serialize};

use crate::pools::MachinePoolView;

/// Query of `GET /v1/networks` and `GET /v1/pools`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NetworksQuery {
    /// Whose networks; the caller's own namespace when absent. `*` is every namespace, for the node's owner only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Body of `GET /v1/networks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkList {
    /// By namespace and name.
    pub networks: Vec<NetworkView>,
}

/// Body of `GET /v1/pools`: what is kept ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolList {
    /// Agents that wait for work.
    pub process: ProcessPool,
    /// Set-ups of networks, by namespace and name.
    pub networks: Vec<NetworkPool>,
    /// Guests that wait, by the names of their pools; for the node's owner only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<MachinePoolView>,
}

/// How the pool of agents stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessPool {
    /// Kept ready.
    pub target: u32,
    /// Ready.
    pub idle: u32,
    /// Taken: runs of the whole node that are not at their end.
    pub occupied: u32,
}

/// How the pool of a network stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkPool {
    /// Whose network.
    pub namespace: Namespace,
    /// Which.
    pub name: NetworkName,
    /// Its pool.
    pub pool: PoolView,
}
