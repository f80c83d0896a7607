//! Reading events: by number, by time. Every call is one short transaction, so that a slow reader holds up neither
//! the writer nor the re-use of space; it pages, and falls behind instead.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

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
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(database: Database, last: u64) -> Self {
        Self { database: RwLock::new(Some(database)), last: AtomicU64::new(last) }
    }

    /// `None` once closed. Nobody changes the content but `close`, so a poisoned lock is as good as any.
    pub(crate) fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
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
        self.read(|events, _| Ok(schema::event_bounds(events).map_err(ReadError::storage)?.0))
    }

    /// Events from number `from` on, as JSON, up to the last on disk; at most `max` and never more than
    /// [`limits::EVENTS_PAGE`]. Empty when `from` is still to come.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when `from` is past the retention.
    pub fn events(&self, from: u64, max: usize) -> Result<Vec<EventJson>, ReadError> {
        let from = from.max(1);
        self.read(|events, last| {
            let (oldest, _) = schema::event_bounds(events).map_err(ReadError::storage)?;
            if from < oldest {
                return Err(ReadError::Gone { oldest });
            }
            if from > last {
                return Ok(Vec::new());
            }
            let page = events.range(from..=last).map_err(ReadError::storage)?.take(max.min(limits::EVENTS_PAGE));
            page.map(|entry| {
                let (sequence, json) = entry.map_err(ReadError::storage)?;
                Ok((sequence.value(), Arc::from(json.value())))
            })
            .collect()
        })
    }

    /// The first event at or after a wall-clock time, milliseconds; one after the last if there is none. By binary
    /// search: where the clock was set back, the answer is one of the places that fit.
    ///
    /// # Errors
    /// [`ReadError::Closed`] and [`ReadError::Storage`].
    pub fn sequence_at_time(&self, time_ms: u64) -> Result<u64, ReadError> {
        self.read(|events, last| {
            let (mut low, _) = schema::event_bounds(events).map_err(ReadError::storage)?;
            let mut high = last + 1;
            while low < high {
                let middle = low + (high - low) / 2;
                let json = events.get(middle).map_err(ReadError::storage)?;
                let json = json.ok_or_else(|| ReadError::Storage(format!("event {middle} is missing")))?;
                let time = schema::event_time_ms(json.value());
                let time = time.map_err(|error| ReadError::Storage(format!("event {middle}: {error}")))?;
                if time < time_ms { low = middle + 1 } else { high = middle }
            }
            Ok(low)
        })
    }

    /// Runs `body` in a read transaction, with the last event it may see.
    fn read<T>(&self, body: impl FnOnce(&Events, u64) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let last = self.last_sequence();
        let guard = self.shared.database();
        let database = guard.as_ref().ok_or(ReadError::Closed)?;
        let read = || {
            let transaction = database.begin_read().map_err(ReadError::storage)?;
            let events = transaction.open_table(schema::EVENTS).map_err(ReadError::storage)?;
            body(&events, last)
        };
        // A damaged page can make the database panic; that is this reader's error and nobody else's.
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(result) => result,
            Err(panic) => Err(ReadError::Storage(panic_text(&*panic))),
        }
    }
}
