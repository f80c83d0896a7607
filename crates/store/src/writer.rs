//! The writer: a bounded queue, one thread, one transaction and one `fdatasync` for everything that waits.
//!
//! ```text
//! idle ──recv──► gathering ──all lazy: up to `linger`──► committing ──ok──► done(Ok) in order ──► idle
//!  ▲ blocked,      a prompt batch, a full group or            │
//!  │ no timer      `close` ends the wait                      └──error──► poisoned: done(Err) to all, for good
//! ```
//! Why one thread: redb has one writer anyway, and what makes a store fast is how many batches share a sync.
//! Under load also a prompt batch waits up to 2 ms for company: a commit costs about the same for ten as for one.
//! Within a group only the last record of each thing is serialised and written.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::repeat;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hostler_model::hook::{HookCall, HookKey};
use hostler_model::ids::WorkloadId;
use hostler_model::limits;
use hostler_model::queue::QueueRecord;
use hostler_model::record::{Batch, IdempotencyKey, NodeRecord, Record, Urgency};
use hostler_model::stack::{StackRecord, UnitRecord};
use hostler_model::workload::Workload;
use redb::{Database, Durability};
use serde::Serialize;

use crate::error::{CommitError, panic_text};
use crate::reader::{Reader, Shared};
use crate::retention::Retention;
use crate::{Options, schema};

/// Called once, on the writer's thread: hand the result over and return, the next commit waits for it.
/// It must not close the store.
pub type Done = Box<dyn FnOnce(Result<Committed, CommitError>) + Send>;

/// A batch is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The sequence numbers given to its events, in their order; empty if it has none.
    pub events: Range<u64>,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// As many batches wait as the queue holds.
    Full,
    /// The writer is gone.
    Closed,
}

/// A batch that was not taken, given back together with its callback.
pub struct Rejected {
    /// Why.
    pub reason: RejectReason,
    /// The batch.
    pub batch: Batch,
    /// The callback; it was not called.
    pub done: Done,
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("reason", &self.reason).field("batch", &self.batch).finish_non_exhaustive()
    }
}

struct Job {
    batch: Batch,
    now_ms: u64,
    done: Done,
}

/// An open store. Dropping it is the same as [`Store::close`].
#[derive(Debug)]
pub struct Store {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("batch", &self.batch).finish_non_exhaustive()
    }
}

impl Store {
    /// Starts the writer of a loaded database that holds the events `bounds.0..=bounds.1`.
    pub(crate) fn start(database: Database, bounds: (u64, u64), options: Options) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(database, bounds.1));
        let (queue, receiver) = sync_channel(limits::STORE_QUEUE);
        let writer = Writer {
            shared: Arc::clone(&shared),
            receiver,
            options,
            bounds,
            retention: Retention::default(),
            poisoned: false,
            busy: false,
            json: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || writer.run())?;
        Ok(Self { queue: Some(queue), thread: Some(thread), shared })
    }

    /// Hands a batch to the writer and returns at once. `done` is called on the writer's thread after the commit or
    /// its failure. `now_ms` is the wall clock, for the age of events.
    ///
    /// # Errors
    /// The batch and its callback, when [`limits::STORE_QUEUE`] batches wait already.
    #[allow(clippy::result_large_err, reason = "the error is the caller's own batch")]
    pub fn submit(&self, batch: Batch, now_ms: u64, done: Done) -> Result<(), Rejected> {
        let queue = self.queue.as_ref().expect("only close takes the queue, and it takes the store with it");
        queue.try_send(Job { batch, now_ms, done }).map_err(|error| {
            let (reason, job) = match error {
                TrySendError::Full(job) => (RejectReason::Full, job),
                TrySendError::Disconnected(job) => (RejectReason::Closed, job),
            };
            Rejected { reason, batch: job.batch, done: job.done }
        })
    }

    /// A way to read events; it may outlive the store, and then says so.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Commits what is queued, calls its callbacks, closes the file and gives it free for others.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
        self.shared.close();
    }
}
/// A group of so many batches is a sign of load.
const BUSY_GROUP: usize = 8;
/// How long a group waits for more under load.
const BUSY_LINGER: Duration = Duration::from_millis(2);

struct Writer {
    shared: Arc<Shared>,
    receiver: Receiver<Job>,
    options: Options,
    /// First and last event on disk.
    bounds: (u64, u64),
    retention: Retention,
    poisoned: bool,
    /// The last group was large: there is much to do.
    busy: bool,
    /// Re-used for every value.
    json: Vec<u8>,
}

impl Writer {
    fn run(mut self) {
        while let Some(group) = self.gather() {
            let result = if self.poisoned { Err(CommitError::Poisoned) } else { self.commit_caught(&group) };
            match result {
                Ok(ranges) => {
                    for (job, events) in group.into_iter().zip(ranges) {
                        (job.done)(Ok(Committed { events }));
                    }
                }
                Err(error) => {
                    if !self.poisoned {
                        tracing::error!(%error, source = ?std::error::Error::source(&error), "a commit failed");
                    }
                    self.poisoned = true;
                    for job in group {
                        (job.done)(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Waits for work; `None` when the store is being closed and nothing is left.
    ///
    /// Under load it waits a moment for more even when somebody waits for the first: a commit costs the same for many.
    fn gather(&mut self) -> Option<Vec<Job>> {
        let first = self.receiver.recv().ok()?;
        let began = Instant::now();
        let deadline = began + self.options.linger;
        let mut urgency = first.batch.urgency;
        let mut group = vec![first];
        while group.len() < self.options.group_max.max(1) {
            let deadline = match urgency {
                Urgency::Prompt if !self.busy => None,
                Urgency::Prompt => Some(deadline.min(began + BUSY_LINGER)),
                Urgency::Lazy => Some(deadline),
            };
            let next = match deadline {
                None => self.receiver.try_recv().ok(),
                Some(at) => self.receiver.recv_timeout(at.saturating_duration_since(Instant::now())).ok(),
            };
            let Some(job) = next else { break };
            urgency = urgency.max(job.batch.urgency);
            group.push(job);
        }
        self.busy = group.len() >= BUSY_GROUP;
        Some(group)
    }

    fn commit_caught(&mut self, group: &[Job]) -> Result<Vec<Range<u64>>, CommitError> {
        // After a panic nothing of the writer's memory is used again: it is poisoned.
        match catch_unwind(AssertUnwindSafe(|| self.commit(group))) {
            Ok(result) => result,
            Err(panic) => Err(CommitError::from_text(panic_text(&*panic))),
        }
    }

    fn commit(&mut self, group: &[Job]) -> Result<Vec<Range<u64>>, CommitError> {
        let events = group.iter().map(|job| job.batch.events.len()).sum::<usize>();
        let mut next = self.bounds.1 + 1;
        let ranges: Vec<Range<u64>> = group
            .iter()
            .map(|job| {
                let start = next;
                next += job.batch.events.len() as u64;
                start..next
            })
            .collect();
        let changes = Changes::of(group, &ranges);
        if changes.is_empty() && events == 0 {
            return Ok(ranges);
        }
        let shared = Arc::clone(&self.shared);
        let guard = shared.database();
        let database = guard.as_ref().ok_or(CommitError::Poisoned)?;
        let bounds = self.write(database, &changes, group).map_err(CommitError::from_database)?;
        self.bounds = bounds;
        shared.set_last(bounds.1);
        Ok(ranges)
    }

    /// One transaction, durable when this returns; gives the new bounds of the events.
    fn write(&mut self, database: &Database, changes: &Changes<'_>, group: &[Job]) -> Result<(u64, u64), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        changes.write(&transaction, &mut self.json)?;
        let (first, mut last) = self.bounds;
        let mut events = transaction.open_table(schema::EVENTS)?;
        for event in group.iter().flat_map(|job| &job.batch.events) {
            last += 1;
            events.insert(last, to_json(&mut self.json, event)?)?;
        }
        let now_ms = group.iter().map(|job| job.now_ms).max().unwrap_or(0);
        let first = self.retention.apply(&mut events, (first, last), &self.options, now_ms)?;
        drop(events);
        transaction.commit()?;
        Ok((first, last))
    }
}

/// The last change of each thing in a group; in key order, which is the tree's.
#[derive(Default)]
struct Changes<'a> {
    node: Option<&'a NodeRecord>,
    workloads: BTreeMap<WorkloadId, Option<&'a Workload>>,
    stacks: BTreeMap<(&'a str, &'a str), Option<&'a StackRecord>>,
    units: BTreeMap<(&'a str, &'a str, &'a str), Option<&'a UnitRecord>>,
    keys: BTreeMap<(&'a str, &'a str), Option<&'a IdempotencyKey>>,
    queues: BTreeMap<(&'a str, &'a str), Option<&'a QueueRecord>>,
    hooks: BTreeMap<HookKey, Option<HookCall>>,
}

impl<'a> Changes<'a> {
    /// `ranges` are the numbers of each job's events.
    fn of(group: &'a [Job], ranges: &[Range<u64>]) -> Self {
        let mut changes = Self::default();
        let records =
            group.iter().zip(ranges).flat_map(|(job, range)| job.batch.records.iter().zip(repeat(range.start)));
        for (record, first_event) in records {
            match record {
                Record::Workload(workload) => {
                    changes.workloads.insert(workload.id, Some(workload));
                }
                Record::WorkloadRemoved(id) => {
                    changes.workloads.insert(*id, None);
                }
                Record::Stack(stack) => {
                    changes.stacks.insert((stack.namespace.as_str(), stack.name.as_str()), Some(stack));
                }
                Record::StackRemoved(namespace, stack) => {
                    changes.stacks.insert((namespace.as_str(), stack.as_str()), None);
                }
                Record::StackUnit(namespace, stack, unit) => {
                    let key = (namespace.as_str(), stack.as_str(), unit.name.as_str());
                    changes.units.insert(key, Some(unit));
                }
                Record::StackUnitRemoved(namespace, stack, unit) => {
                    changes.units.insert((namespace.as_str(), stack.as_str(), unit.as_str()), None);
                }
                Record::Node(node) => changes.node = Some(node),
                Record::Queue(queue) => {
                    changes.queues.insert((queue.namespace.as_str(), queue.name.as_str()), Some(queue));
                }
                Record::QueueRemoved(namespace, name) => {
                    changes.queues.insert((namespace.as_str(), name.as_str()), None);
                }
                Record::IdempotencyKey(key) => {
                    changes.keys.insert((key.namespace.as_str(), key.key.as_str()), Some(key));
                }
                Record::IdempotencyKeyForgotten(namespace, key) => {
                    changes.keys.insert((namespace.as_str(), key.as_str()), None);
                }
                Record::HookFired(fired) => {
                    changes.hooks.insert(fired.call.key(), Some(fired.numbered(first_event)));
                }
                Record::HookDone(key) => {
                    changes.hooks.insert(*key, None);
                }
            }
        }
        changes
    }

    fn is_empty(&self) -> bool {
        let named = self.keys.is_empty() && self.queues.is_empty() && self.stacks.is_empty();
        let rest = self.node.is_none() && self.units.is_empty() && self.hooks.is_empty();
        self.workloads.is_empty() && named && rest
    }

    fn write(&self, transaction: &redb::WriteTransaction, json: &mut Vec<u8>) -> Result<(), redb::Error> {
        if let Some(node) = self.node {
            transaction.open_table(schema::NODE)?.insert(schema::NODE_KEY, to_json(json, node)?)?;
        }
        if !self.workloads.is_empty() {
            let mut table = transaction.open_table(schema::WORKLOADS)?;
            for (id, workload) in &self.workloads {
                let id = id.to_string();
                match workload {
                    Some(workload) => drop(table.insert(id.as_str(), to_json(json, workload)?)?),
                    None => drop(table.remove(id.as_str())?),
                }
            }
        }
        write_named(transaction, schema::STACKS, &self.stacks, json)?;
        if !self.units.is_empty() {
            let mut table = transaction.open_table(schema::UNITS)?;
            for (id, unit) in &self.units {
                match unit {
                    Some(unit) => drop(table.insert(id, to_json(json, unit)?)?),
                    None => drop(table.remove(id)?),
                }
            }
        }
        write_named(transaction, schema::KEYS, &self.keys, json)?;
        write_named(transaction, schema::QUEUES, &self.queues, json)?;
        if !self.hooks.is_empty() {
            let mut table = transaction.open_table(schema::HOOKS)?;
            for ((run, hook), call) in &self.hooks {
                let run = run.to_string();
                match call {
                    Some(call) => drop(table.insert((run.as_str(), *hook), to_json(json, call)?)?),
                    None => drop(table.remove((run.as_str(), *hook))?),
                }
            }
        }
        Ok(())
    }
}

/// The changes of a table whose things are known by namespace and name.
fn write_named<T: Serialize>(
    transaction: &redb::WriteTransaction,
    table: schema::NamedTable,
    changes: &BTreeMap<(&str, &str), Option<&T>>,
    json: &mut Vec<u8>,
) -> Result<(), redb::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(table)?;
    for (id, value) in changes {
        match value {
            Some(value) => drop(table.insert(id, to_json(json, value)?)?),
            None => drop(table.remove(id)?),
        }
    }
    Ok(())
}

/// Serialises into the given buffer, which is emptied first.
pub(crate) fn to_json<'a>(buffer: &'a mut Vec<u8>, value: &impl Serialize) -> Result<&'a [u8], redb::Error> {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, value).map_err(|error| redb::Error::Io(error.into()))?;
    Ok(buffer)
}
