//! A stack: services and jobs that belong together, written by people as TOML (or JSON), kept as records.
//!
//! ```text
//!   Stack (as written) ──check──► UnitPlan for each good unit, a Mistake for every bad value
//!                                     │ applied by the supervisor
//!                                     ▼
//!   StackRecord, UnitRecord (as kept) ── one Workload for each replica, which carries its StackMember
//! ```
//! - `written`: values as people write them
//! - [`unit`]: a service or job as it is written
//! - [`container`]: its container as it is written; [`network`]: a network as it is written
//! - [`probe`]: how it is found out that a unit is ready, or still alive
//! - [`condition`]: when a unit is left out; judged over [`condition::Facts`] that somebody else gathered
//! - [`plan`]: a unit with every value parsed
//! - [`check`]: all mistakes of a stack, with their paths; a unit with a mistake does not take the others down
//! - [`record`]: how a stack stands
//!
//! Not here: files (`env_file` and relative paths are resolved by whoever reads the stack's file), and decisions.

pub mod check;
pub mod condition;
pub mod container;
pub mod network;
pub mod plan;
pub mod probe;
pub mod record;
pub mod unit;
pub mod written;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use check::{Checked, Mistake, check};
pub use plan::{UnitKind, UnitPlan, Update};
pub use record::{Generation, GenerationState, StackMember, StackRecord, Then, UnitRecord};
pub use unit::Unit;

/// A stack as it is written. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Stack {
    /// Its name; that of its file when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is kept running: `[service.NAME]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service: BTreeMap<String, Unit>,
    /// What runs to its end: `[job.NAME]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub job: BTreeMap<String, Unit>,
    /// Queues that jobs wait in: `[queue.NAME]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub queue: BTreeMap<String, unit::Queue>,
    /// Networks that containers are in: `[network.NAME]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub network: BTreeMap<String, network::NetworkTable>,
}
