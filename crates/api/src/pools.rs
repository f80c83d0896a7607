//! Pools of machines that wait, as they stand and as they are changed.

use hostler_model::SandboxId;
use hostler_model::vm::Vm;
use serde::{Deserialize, Serialize};

/// A pool of guests that wait for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MachinePoolView {
    /// Its name in the configuration.
    pub name: String,
    /// What its guests are.
    pub shape: Vm,
    /// Kept waiting.
    pub target: u32,
    /// Waiting.
    pub idle: u32,
    /// With a run.
    pub occupied: u32,
    /// Being made.
    pub making: u32,
    /// On their way out.
    pub leaving: u32,
    /// At most, in all.
    pub max: u32,
    /// Nothing is made ahead until it is filled.
    pub drained: bool,
    /// Of a pool whose guests are copies of a snapshot: whether that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_ready: Option<bool>,
    /// Attempts in a row that have failed.
    pub failures: u32,
    /// Why the last one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The sandboxes of those that wait or have a run.
    pub sandboxes: Vec<SandboxId>,
}

/// Body of `PATCH /v1/pools/{pool}`: what is done with a pool until the daemon is started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PoolChange {
    /// Keep guests waiting, whatever was before.
    Fill,
    /// Let those go that wait, and make none ahead.
    Drain,
    /// Other numbers; what is absent stays.
    Resize {
        /// Kept waiting.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idle: Option<u32>,
        /// At most, in all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<u32>,
    },
}
