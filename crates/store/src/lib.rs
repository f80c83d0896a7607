//! The store: the journal of events and the state of everything, in `store.redb` and its write-ahead log, `store.wal`.
//!
//! ```text
//!   submit(batch, done)                 any thread; never blocks, a full queue gives the batch back
//!        │  bounded channel
//!   writer thread      gather ──► append to the log ──► one fdatasync ──► done(Ok), in order
//!        │             (lazy batches linger for company, a prompt one ends the wait)
//!        │                              └── fails: done(Err) to the group, and to all that come after
//!   store.wal          what is committed since the last checkpoint
//!        │ full, or closed: a checkpoint, one transaction, on a thread of its own
//!   store.redb         meta · node · workloads · stacks · units · keys · queues · events · hooks · networks
//!        │
//!   Reader             the newest events from memory, older ones by short read transactions
//! ```
//!
//! - [`Store`] (`writer.rs`): the queue, the writer thread, group commit
//! - `changes.rs`: what a group of batches changes, as JSON, for the log and for the tables
//! - `checkpoint.rs`: from the log to the tables
//! - `wal.rs`: the log: records, epochs, what is torn and what is damaged
//! - [`Reader`] (`reader.rs`): events by number and by time
//! - `open.rs`: from a path to a loaded store, or the precise reason why not
//! - `schema.rs`: the tables, and the way from each older layout to this one
//! - `staged.rs`: while a store is being opened its file is only read
//! - `retention.rs`: which events are forgotten in a checkpoint
//! - [`error`]: what can go wrong, and the way out
//! - [`Ballast`]: the file given up when the disk is full
//!
//! Invariants. A batch whose `done` said `Ok` is on disk. Events are numbered from 1 without a gap, and the last
//! one is never forgotten, so that no number is given twice. After a failed commit nothing more is written: the
//! store is closed, opened again and replayed. A store that cannot be understood is left as it is, byte for byte.
//!
//! What is *not* here: tokio and decisions. One thread writes the log, one the tables. Nothing wakes up while nobody writes.
#![forbid(unsafe_code)]

mod ballast;
mod changes;
mod checkpoint;
pub mod error;
mod open;
mod reader;
mod retention;
mod schema;
mod staged;
mod wal;
mod writer;

#[cfg(test)]
mod tests;

use std::time::Duration;

use hostler_model::hook::HookCall;
use hostler_model::ids::{Namespace, NodeTag, StackName, StoreId};
use hostler_model::limits;
use hostler_model::network::NetworkRecord;
use hostler_model::queue::QueueRecord;
use hostler_model::record::{IdempotencyKey, NodeRecord};
use hostler_model::stack::{StackRecord, UnitRecord};
use hostler_model::workload::Workload;
use serde::{Deserialize, Serialize};

pub use ballast::Ballast;
pub use error::{CommitError, Corruption, OpenError, ReadError};
pub use reader::{EventJson, Reader};
pub use schema::SCHEMA;
pub use writer::{Committed, Done, RejectReason, Rejected, Store};

/// How a store behaves; nothing in here is kept in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Events kept, count; a little more is tolerated so that they are forgotten in bulk.
    pub events_max: u64,
    /// Events kept, age in milliseconds.
    pub events_age_max_ms: u64,
    /// The database's page cache, bytes.
    pub cache_bytes: usize,
    /// How long a group of lazy batches waits for company.
    pub linger: Duration,
    /// Batches that one commit gathers, at most.
    pub group_max: usize,
    /// Length of a write-ahead log that has to be made, bytes.
    pub log_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            events_max: limits::EVENTS_DEFAULT,
            events_age_max_ms: limits::EVENTS_AGE_DEFAULT_MS,
            cache_bytes: 4 * 1024 * 1024,
            linger: Duration::from_millis(limits::STORE_LINGER_MS),
            group_max: limits::STORE_GROUP,
            log_bytes: limits::STORE_LOG,
        }
    }
}

/// Who a store is, if it has to be made. The caller draws the random ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewStore {
    /// The id of the store, its node and its journal.
    pub store: StoreId,
    /// The node's mark in machine-global names.
    pub tag: NodeTag,
    /// Wall clock, milliseconds.
    pub now_ms: u64,
}

/// Who a store is. Written when it is made, and when another version opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The id of the store, its node and its journal.
    pub store: StoreId,
    /// The node's mark in machine-global names.
    pub tag: NodeTag,
    /// The layout of the file; see [`SCHEMA`].
    pub schema: u32,
    /// When it was made, wall clock, milliseconds.
    pub created_at_ms: u64,
    /// The version of Hostler that opened it last.
    pub written_by: String,
}

/// Everything the store holds but the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Who the store is.
    pub meta: Meta,
    /// How the node stands.
    pub node: NodeRecord,
    /// All workloads, by id.
    pub workloads: Vec<Workload>,
    /// All stacks, by namespace and name.
    pub stacks: Vec<StackRecord>,
    /// All units of all stacks, with whose they are.
    pub stack_units: Vec<(Namespace, StackName, UnitRecord)>,
    /// All idempotency keys, by namespace and key.
    pub idempotency_keys: Vec<IdempotencyKey>,
    /// All queues, by namespace and name.
    pub queues: Vec<QueueRecord>,
    /// All networks, by namespace and name.
    pub networks: Vec<NetworkRecord>,
    /// All calls of hooks whose outcome is not recorded, with their numbers.
    pub hook_calls: Vec<HookCall>,
    /// Whether the file was made just now.
    pub created: bool,
}
