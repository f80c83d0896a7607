//! The decision core of stacks, as functions of values: which unit starts, waits, stops, and in which order.
//!
//! ```text
//!  apply ──► units ──advance(members, now)──► units in their new states, and Commands
//!              ▲                                     │ carried out at once by `crate::stacks`, on workloads
//!              └──── members: how each replica stands ┘
//! ```
//! Everything is told by level, not by edge: [`advance`](advance::advance) looks at how the replicas stand *now* and brings the units'
//! states after them. So a daemon that died anywhere in between goes on from its records, and nothing is told twice.
//! The one exception is the start of a generation, [`Command::Start`] for replicas that are at rest; it is part of the
//! same batch as the state that says so.
//!
//! - [`apply`](apply::apply): a new version of a stack over the old one; what it changes; taking it down
//! - [`advance`](advance::advance): one step of everything, up to the point where nothing follows any more
//! - `order`: who stops before whom
//!
//! Not here: workloads, names, probes. A replica is a [`MemberKey`] and a [`MemberState`].

mod advance;
mod apply;
mod order;

use std::collections::BTreeMap;

use hostler_model::ids::UnitName;
use hostler_model::stack::UnitRecord;

pub use advance::{Hold, advance, answer, next_deadline_ms, open_checks, reboot, rest};
pub use apply::{Change, Retry, Wanted, apply, diff, take_down};

/// The units of one stack.
pub type Units = BTreeMap<UnitName, UnitRecord>;

/// Which replica of which version of which unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberKey {
    /// The unit.
    pub unit: UnitName,
    /// The version.
    pub generation: u32,
    /// The replica, from 0.
    pub replica: u32,
}

/// How a replica stands. One that is not there at all has no state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberState {
    /// It has a run that is not ready, or waits for its next, or for its turn in a queue.
    Starting,
    /// Its run is ready; of a job with a schedule: its plan stands, whatever came of single runs.
    Ready,
    /// Its run was asked to stop.
    Stopping,
    /// The same, and then it is gone.
    Going,
    /// It is at rest, for somebody asked for that.
    Stopped,
    /// It ended with success and stays so; whether it had been ready.
    Done {
        /// Whether its last run had been ready.
        ready: bool,
    },
    /// It ended without success and stays so.
    Failed(String),
}

impl MemberState {
    /// Whether a run is live or will come by itself.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Starting | Self::Ready | Self::Stopping | Self::Going)
    }
}

/// The replicas of one stack that are there.
pub type Members = BTreeMap<MemberKey, MemberState>;

/// What is to be done, at once and in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Find out whether the unit's condition holds; answered by [`answer`].
    Check(UnitName, u32),
    /// Make this replica, or start it again where it is at rest.
    Start(MemberKey),
    /// Stop it and keep it.
    Stop(MemberKey),
    /// Stop it if need be, and forget it.
    Remove(MemberKey),
}
