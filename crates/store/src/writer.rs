//! The writer: a bounded queue, one thread, one write and one `fdatasync` for everything that waits.
//!
//! ```text
//! idle ──recv──► gathering ──all lazy: up to `linger`──► committing ──ok──► done(Ok) in order ──► idle
//!  ▲ blocked,      a prompt batch, a full group or            │
//!  │ no timer      `close` ends the wait                      └──error──► poisoned: done(Err) to all, for good
//!
//! committing   fits into the log ──► append it; the tables get it later
//!              does not          ──► checkpoint: one transaction takes it and all that the log holds
//! ```
//! Why one thread: redb has one writer anyway, and what makes a store fast is how many batches share a sync.
//! Under load also a prompt batch waits up to 2 ms for company: a commit costs about the same for ten as for one.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hostler_model::limits;
use hostler_model::record::{Batch, Urgency};
use redb::Durability;

use crate::changes::{self, Changes, Group};
use crate::error::{CommitError, panic_text};
use crate::open::Opened;
use crate::reader::{Reader, Shared};
use crate::retention::Retention;
use crate::schema::{self, LogMark};
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
        let writer = Writer {
            shared: Arc::clone(&shared),
            receiver,
            options,
            bounds,
            wal,
            pending: Changes::new(),
            retention: Retention::default(),
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

struct Writer {
    shared: Arc<Shared>,
    receiver: Receiver<Job>,
    options: Options,
    /// First and last event on disk.
    bounds: (u64, u64),
    wal: Wal,
    /// What the log holds and the tables do not; its events are the readers' tail.
    pending: Changes,
    retention: Retention,
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
            && let Err(error) = caught(|| self.checkpoint(0, true))
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
        let mut next = self.bounds.1 + 1;
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
        let logged = self.wal.append(|out| group.encode(out));
        let logged = logged.map_err(|error| CommitError::from_database(error.into()))?;
        self.pending.extend(group.changes);
        self.shared.extend_tail(group.events);
        self.bounds.1 = next - 1;
        if !logged {
            let now_ms = jobs.iter().map(|job| job.now_ms).max().unwrap_or(0);
            self.checkpoint(now_ms, false)?;
        }
        self.shared.set_last(self.bounds.1);
        Ok(ranges)
    }

    /// Brings everything that is pending into the tables, durably, and begins the log again.
    fn checkpoint(&mut self, now_ms: u64, clean: bool) -> Result<(), CommitError> {
        let epoch = self.wal.epoch() + 1;
        let oldest = self.write_tables(now_ms, LogMark { epoch, clean, size: self.wal.size() });
        self.bounds.0 = oldest.map_err(CommitError::from_database)?;
        self.wal.restart(epoch);
        self.pending.clear();
        self.shared.cut_tail(self.bounds.1);
        Ok(())
    }

    /// One transaction, durable when this returns; gives the oldest event that is left.
    fn write_tables(&mut self, now_ms: u64, mark: LogMark) -> Result<u64, redb::Error> {
        let shared = Arc::clone(&self.shared);
        let guard = shared.database();
        let database = guard.as_ref().ok_or_else(|| redb::Error::Io(std::io::ErrorKind::NotConnected.into()))?;
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        changes::write(&transaction, &self.pending)?;
        let (first, tail) = shared.tail();
        let mut events = transaction.open_table(schema::EVENTS)?;
        for (sequence, event) in (first..).zip(&tail) {
            events.insert(sequence, &**event)?;
        }
        let oldest = self.retention.apply(&mut events, self.bounds, tail.len() as u64, &self.options, now_ms)?;
        drop(events);
        schema::put(&transaction, schema::META, schema::LOG_KEY, &mark)?;
        transaction.commit()?;
        Ok(oldest)
    }
}

fn caught<T>(body: impl FnOnce() -> Result<T, CommitError>) -> Result<T, CommitError> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(panic) => Err(CommitError::from_text(panic_text(&*panic))),
    }
}
