//! The writer: a bounded queue, one thread, one write and one `fdatasync` for everything that waits.
//!
//! ```text
//! idle ──recv──► gathering ──all lazy: up to `linger`──► committing ──ok──► done(Ok) in order ──► idle
//!  ▲ blocked,      a prompt batch, a full group or            │
//!  │ no timer      `close` ends the wait                      └──error──► poisoned: done(Err) to all, for good
//!
//! committing   fits into the log ──► append it; the tables get it later
//!              does not          ──► begin a checkpoint of what the log holds; append it to the next epoch
//!              nor there         ──► wait for a checkpoint of it
//! ```
//! Why one thread: redb has one writer anyway, and what makes a store fast is how many batches share a sync.
//! Under load also a prompt batch waits up to 2 ms for company: a commit costs about the same for ten as for one.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hostler_model::limits;
use hostler_model::record::{Batch, Urgency};

use crate::changes::{Changes, Group};
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::error::{CommitError, caught};
use crate::open::Opened;
use crate::reader::{Reader, Shared};
use crate::schema::LogMark;
use crate::wal::Wal;
use crate::{Loaded, Options};

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
    /// Starts the writer of an opened store.
    pub(crate) fn start(opened: Opened, options: Options) -> std::io::Result<(Self, Loaded)> {
        let Opened { database, loaded, bounds, wal } = opened;
        let shared = Arc::new(Shared::new(database, bounds.1));
        let (queue, receiver) = sync_channel(limits::STORE_QUEUE);
        let checkpoints = Checkpoints::start(Arc::clone(&shared), bounds.0, options.clone())?;
        let writer = Writer {
            shared: Arc::clone(&shared),
            receiver,
            options,
            last_event: bounds.1,
            wal,
            pending: Changes::new(),
            pending_events: 0,
            checkpoint_at_ms: None,
            checkpoints,
            poisoned: false,
            busy: false,
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || writer.run())?;
        Ok((Self { queue: Some(queue), thread: Some(thread), shared }, loaded))
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

/// While somebody writes, a checkpoint comes at least so often, milliseconds of the wall clock.
const CHECKPOINT_EVERY_MS: u64 = 3_600_000;
/// So many new events are not worth a checkpoint of their own, however few are kept.
const EVENTS_PENDING_MIN: u64 = 64;

/// So many things that changed are worth one: each may be in a page of its own, and on a full disk there must be room.
const CHANGES_PENDING_MAX: usize = 256;

struct Writer {
    shared: Arc<Shared>,
    receiver: Receiver<Job>,
    options: Options,
    /// The last event on disk.
    last_event: u64,
    wal: Wal,
    /// What this epoch of the log holds; its events are the end of the readers' tail.
    pending: Changes,
    pending_events: u64,
    checkpoints: Checkpoints,
    /// When the last one began, wall clock.
    checkpoint_at_ms: Option<u64>,
    poisoned: bool,
    /// The last group was large: there is much to do.
    busy: bool,
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
        self.close();
    }

    /// Leaves everything in the tables, so that they are whole without the log.
    fn close(mut self) {
        if !self.poisoned
            && let Err(error) = self.checkpoint(0, true).and_then(|()| self.checkpoints.finish())
        {
            // Nothing is lost by it: the log has it all.
            tracing::warn!(%error, "the last checkpoint of the store failed");
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
        caught(|| self.commit(group))
    }

    fn commit(&mut self, jobs: &[Job]) -> Result<Vec<Range<u64>>, CommitError> {
        let mut next = self.last_event + 1;
        let ranges: Vec<Range<u64>> = jobs
            .iter()
            .map(|job| {
                let start = next;
                next += job.batch.events.len() as u64;
                start..next
            })
            .collect();
        let batches = jobs.iter().zip(&ranges).map(|(job, range)| (&job.batch, range.start));
        let group = Group::of(batches).map_err(CommitError::from_json)?;
        if group.is_empty() {
            return Ok(ranges);
        }
        self.checkpoints.look()?;
        let now_ms = jobs.iter().map(|job| job.now_ms).max().unwrap_or(0);
        let mut logged = self.log(&group)?;
        if !logged && !self.wal.is_empty() {
            self.checkpoint(now_ms, false)?;
            logged = self.log(&group)?;
        }
        self.pending.extend(group.changes);
        self.pending_events += group.events.len() as u64;
        self.shared.extend_tail(group.events);
        self.last_event = next - 1;
        if !logged {
            // Larger than the log.
            self.checkpoint(now_ms, false)?;
            self.checkpoints.finish()?;
        }
        self.shared.set_last(self.last_event);
        if self.is_due(now_ms) {
            self.checkpoint(now_ms, false)?;
        }
        Ok(ranges)
    }

    /// Whether a checkpoint has to come before the log is full: events are forgotten in checkpoints only.
    fn is_due(&mut self, now_ms: u64) -> bool {
        let last_ms = *self.checkpoint_at_ms.get_or_insert(now_ms);
        let many = self.pending_events >= (self.options.events_max / 16).max(EVENTS_PENDING_MIN)
            || self.pending.len() >= CHANGES_PENDING_MAX;
        (many || now_ms.abs_diff(last_ms) >= CHECKPOINT_EVERY_MS) && !self.checkpoints.is_under_way()
    }

    /// Whether the log had room for it; it is durable then.
    fn log(&mut self, group: &Group) -> Result<bool, CommitError> {
        if group.least_length() > self.wal.room() {
            return Ok(false);
        }
        self.wal.append(|out| group.encode(out)).map_err(|error| CommitError::from_database(error.into()))
    }

    /// Sends everything that is pending on its way to the tables, and goes on with the next epoch of the log.
    fn checkpoint(&mut self, now_ms: u64, clean: bool) -> Result<(), CommitError> {
        self.pending_events = 0;
        self.checkpoint_at_ms = Some(now_ms);
        let epoch = self.wal.epoch() + 1;
        let mark = LogMark { epoch, clean, size: self.wal.size() };
        let changes = std::mem::take(&mut self.pending);
        self.checkpoints.begin(Checkpoint { changes, last_event: self.last_event, mark, now_ms })?;
        self.wal.turn();
        Ok(())
    }
}
