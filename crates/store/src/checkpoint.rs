//! Checkpoints: what an epoch of the log holds is brought into the tables, aside, while the writer appends to the next.
//!
//! ```text
//! idle ──begin(changes, events, mark)──► under way ──done──► idle
//!                                            └── failed: the writer hears it before its next commit, and is poisoned
//! ```
//! One at a time, on a thread of its own, the only one that writes to the tables: a job that was queued among a hundred
//! thousand lies in a page of its own, so a checkpoint of some hundred jobs may read and write as many pages, and
//! nobody's commit should wait for that.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use redb::Durability;

use crate::Options;
use crate::changes::{self, Changes};
use crate::error::{CommitError, caught};
use crate::reader::Shared;
use crate::retention::Retention;
use crate::schema::{self, LogMark};

/// What goes into the tables in one transaction.
pub(crate) struct Checkpoint {
    pub(crate) changes: Changes,
    /// The last event of it; the first is the tail's.
    pub(crate) last_event: u64,
    pub(crate) mark: LogMark,
    pub(crate) now_ms: u64,
}

/// The writer's hold of the thread.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    /// Taken when the thread is to end.
    work: Option<SyncSender<Checkpoint>>,
    results: Receiver<Result<(), CommitError>>,
    thread: Option<JoinHandle<()>>,
    under_way: bool,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("mark", &self.mark).finish_non_exhaustive()
    }
}

impl Checkpoints {
    /// `oldest` is the first event in the tables.
    pub(crate) fn start(shared: Arc<Shared>, oldest: u64, options: Options) -> std::io::Result<Self> {
        let (work, receiver) = sync_channel(1);
        let (sender, results) = sync_channel(1);
        let mut tables = Tables { shared, oldest, options, retention: Retention::default() };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
            while let Ok(checkpoint) = receiver.recv() {
                if sender.send(tables.write_caught(&checkpoint)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { work: Some(work), results, thread: Some(thread), under_way: false })
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// How the last one went, if it is over.
    pub(crate) fn look(&mut self) -> Result<(), CommitError> {
        match self.under_way.then(|| self.results.try_recv().ok()).flatten() {
            Some(result) => self.over(result),
            None => Ok(()),
        }
    }

    /// Waits for the one under way.
    pub(crate) fn finish(&mut self) -> Result<(), CommitError> {
        if !self.under_way {
            return Ok(());
        }
        let result = self.results.recv();
        self.over(result.unwrap_or_else(|_| Err(CommitError::from_text("the checkpoint's thread is gone".to_owned()))))
    }

    fn over(&mut self, result: Result<(), CommitError>) -> Result<(), CommitError> {
        self.under_way = false;
        result
    }

    /// Begins one, after the one before is over.
    pub(crate) fn begin(&mut self, checkpoint: Checkpoint) -> Result<(), CommitError> {
        self.finish()?;
        // If the thread is gone, `finish` says so.
        self.under_way = true;
        let _ = self.work.as_ref().map(|work| work.send(checkpoint));
        Ok(())
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint's thread panicked");
        }
    }
}

/// The thread's own.
struct Tables {
    shared: Arc<Shared>,
    /// First event in the tables.
    oldest: u64,
    options: Options,
    retention: Retention,
}

impl Tables {
    fn write_caught(&mut self, checkpoint: &Checkpoint) -> Result<(), CommitError> {
        let began = Instant::now();
        let written = caught(|| self.write(checkpoint));
        let took_ms = began.elapsed().as_millis();
        tracing::debug!(changes = checkpoint.changes.len(), took_ms, ok = written.is_ok(), "checkpoint");
        written
    }

    fn write(&mut self, checkpoint: &Checkpoint) -> Result<(), CommitError> {
        self.oldest = self.transact(checkpoint).map_err(CommitError::from_database)?;
        self.shared.cut_tail(checkpoint.last_event);
        Ok(())
    }

    /// One transaction, durable when this returns; gives the oldest event that is left.
    fn transact(&mut self, checkpoint: &Checkpoint) -> Result<u64, redb::Error> {
        let shared = Arc::clone(&self.shared);
        let guard = shared.database();
        let database = guard.as_ref().ok_or_else(|| redb::Error::Io(std::io::ErrorKind::NotConnected.into()))?;
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        changes::write(&transaction, &checkpoint.changes)?;
        let (first, tail) = shared.tail();
        let new = (checkpoint.last_event + 1).saturating_sub(first);
        let mut events = changes::append(&transaction, first, &tail[..new as usize])?;
        let bounds = (self.oldest, checkpoint.last_event);
        let oldest = self.retention.apply(&mut events, bounds, new, &self.options, checkpoint.now_ms)?;
        drop(events);
        schema::put(&transaction, schema::META, schema::LOG_KEY, &checkpoint.mark)?;
        transaction.commit()?;
        Ok(oldest)
    }
}
