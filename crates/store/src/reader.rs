//! Reading events: by number, by time. Every call is one short transaction, so that a slow reader holds up neither
//! the writer nor the re-use of space; it pages, and falls behind instead.
//!
//! The newest events are in memory, until a checkpoint has brought them into their table: the *tail*. A reader takes what it
//! needs of the tail first and begins its transaction after that, so an event that leaves the tail meanwhile is in the table.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use hostler_model::limits;
use redb::{Database, ReadOnlyTable, ReadableDatabase};

use crate::error::{ReadError, panic_text};
use crate::schema;

/// What writer and readers share. The database is taken out when the store is closed, so that readers left over do
/// not keep the file locked.
pub(crate) struct Shared {
    database: RwLock<Option<Database>>,
    /// The last event whose commit is on disk.
    last: AtomicU64,
    tail: Mutex<Tail>,
}

/// Events that are durable, or about to be, and not in the table.
#[derive(Debug)]
struct Tail {
    /// Number of the first of them; one after the table's last.
    first: u64,
    events: Vec<Arc<[u8]>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(database: Database, last: u64) -> Self {
        let tail = Mutex::new(Tail { first: last + 1, events: Vec::new() });
        Self { database: RwLock::new(Some(database)), last: AtomicU64::new(last), tail }
    }

    /// `None` once closed. Nobody changes the content but `close`, so a poisoned lock is as good as any.
    pub(crate) fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_tail(&self) -> MutexGuard<'_, Tail> {
        // Every change of it is one step.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the first event of the tail, and the events.
    pub(crate) fn tail(&self) -> (u64, Vec<Arc<[u8]>>) {
        let tail = self.lock_tail();
        (tail.first, tail.events.clone())
    }

    /// Where the tail begins, and its events from this number on, at most so many.
    fn tail_page(&self, from: u64, max: usize) -> (u64, Vec<EventJson>) {
        let tail = self.lock_tail();
        let skip = usize::try_from(from.saturating_sub(tail.first)).unwrap_or(usize::MAX);
        let page = (tail.first..).zip(&tail.events).skip(skip).take(max);
        (tail.first, page.map(|(sequence, json)| (sequence, Arc::clone(json))).collect())
    }

    pub(crate) fn extend_tail(&self, events: Vec<Arc<[u8]>>) {
        self.lock_tail().events.extend(events);
    }

    /// The table has everything up to this event.
    pub(crate) fn cut_tail(&self, last: u64) {
        let mut tail = self.lock_tail();
        let count = tail.events.len().min((last + 1).saturating_sub(tail.first) as usize);
        tail.events.drain(..count);
        tail.first = last + 1;
    }

    pub(crate) fn set_last(&self, last: u64) {
        self.last.store(last, Ordering::Release);
    }

    /// Waits for readers in their transactions, then closes the file.
    pub(crate) fn close(&self) {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        // Closing writes; a database that failed before may stumble there, and nothing is lost by it.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(database))) {
            tracing::warn!(panic = panic_text(&*panic), "closing the store");
        }
    }
}

/// Reads events; cheap to clone, for any thread.
#[derive(Debug, Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// An event's sequence number and its JSON.
pub type EventJson = (u64, Arc<[u8]>);

type Events = ReadOnlyTable<u64, &'static [u8]>;

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The last event on disk; 0 while there is none. Costs an atomic load.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.shared.last.load(Ordering::Acquire)
    }

    /// The oldest event that can still be read; one after the last while there is none.
    ///
    /// # Errors
    /// [`ReadError::Closed`] and [`ReadError::Storage`].
    pub fn oldest_sequence(&self) -> Result<u64, ReadError> {
        self.read(|events, _| Ok(schema::event_bounds(&events()?).map_err(ReadError::storage)?.0))
    }

    /// Events from number `from` on, as JSON, up to the last on disk; at most `max` and never more than
    /// [`limits::EVENTS_PAGE`]. Empty when `from` is still to come.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when `from` is past the retention.
    pub fn events(&self, from: u64, max: usize) -> Result<Vec<EventJson>, ReadError> {
        let (from, max) = (from.max(1), max.min(limits::EVENTS_PAGE));
        let (tail_first, tail) = self.shared.tail_page(from, max);
        self.read(|events, last| {
            let tail = tail.into_iter().take_while(|(sequence, _)| *sequence <= last);
            if from >= tail_first {
                return Ok(tail.collect());
            }
            let events = events()?;
            let (oldest, _) = schema::event_bounds(&events).map_err(ReadError::storage)?;
            if from < oldest {
                return Err(ReadError::Gone { oldest });
            }
            let older = events.range(from..tail_first.min(last + 1)).map_err(ReadError::storage)?.map(|entry| {
                let (sequence, json) = entry.map_err(ReadError::storage)?;
                Ok((sequence.value(), Arc::from(json.value())))
            });
            older.chain(tail.map(Ok)).take(max).collect()
        })
    }

    /// The first event at or after a wall-clock time, milliseconds; one after the last if there is none. By binary
    /// search: where the clock was set back, the answer is one of the places that fit.
    ///
    /// # Errors
    /// [`ReadError::Closed`] and [`ReadError::Storage`].
    pub fn sequence_at_time(&self, time_ms: u64) -> Result<u64, ReadError> {
        let (tail_first, tail) = self.shared.tail();
        self.read(|events, last| {
            let events = events()?;
            let (mut low, _) = schema::event_bounds(&events).map_err(ReadError::storage)?;
            // What came after the tail was taken is not in it.
            let mut high = (last + 1).min(tail_first + tail.len() as u64);
            while low < high {
                let middle = low + (high - low) / 2;
                let time = match middle.checked_sub(tail_first) {
                    Some(index) => tail.get(index as usize).map(|json| schema::event_time_ms(json)),
                    None => {
                        let json = events.get(middle).map_err(ReadError::storage)?;
                        json.map(|json| schema::event_time_ms(json.value()))
                    }
                };
                let time = time.ok_or_else(|| ReadError::Storage(format!("event {middle} is missing")))?;
                let time = time.map_err(|error| ReadError::Storage(format!("event {middle}: {error}")))?;
                if time < time_ms { low = middle + 1 } else { high = middle }
            }
            Ok(low)
        })
    }

    /// Runs `body` with the way to the table of events and with the last event it may see.
    fn read<T>(
        &self,
        body: impl FnOnce(&dyn Fn() -> Result<Events, ReadError>, u64) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let last = self.last_sequence();
        let guard = self.shared.database();
        let database = guard.as_ref().ok_or(ReadError::Closed)?;
        let events = || {
            let transaction = database.begin_read().map_err(ReadError::storage)?;
            transaction.open_table(schema::EVENTS).map_err(ReadError::storage)
        };
        // A damaged page can make the database panic; that is this reader's error and nobody else's.
        match catch_unwind(AssertUnwindSafe(|| body(&events, last))) {
            Ok(result) => result,
            Err(panic) => Err(ReadError::Storage(panic_text(&*panic))),
        }
    }
}
