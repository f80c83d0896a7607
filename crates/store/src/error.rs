//! What can go wrong with a store. The messages of [`OpenError`] are what an operator sees when the daemon does not
//! come up: they name the file, say what was done to it (nothing) and what to do next.

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

/// Why a store was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store {} is in use by another hostlerd; stop that one first, or use another --root", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// A newer Hostler has changed its layout.
    #[error(
        "the store {} has layout {schema}, written by Hostler {written_by}; this version reads layouts up to {ours}. \
         Nothing was changed. Start Hostler {written_by} or newer, or restore the copy that its upgrade left beside \
         the store ({}.v{ours})", path.display(), path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its layout.
        schema: u32,
        /// The version that wrote it.
        written_by: String,
        /// The newest layout known here.
        ours: u32,
    },
    /// The file is there and is not a store, or not a whole one.
    #[error(
        "the store {} is damaged. Nothing was changed. Restore it and its log, store.wal, from copies, or move it away to \
         start with an empty one; the exit records of its runs are still in run/ beside it", path.display()
    )]
    Corrupt {
        /// The store.
        path: PathBuf,
        /// What is wrong with it.
        source: Corruption,
    },
    /// The system does not let us read or write it.
    #[error("cannot open the store {}. Nothing in it was changed; check the path, its permissions and the disk", path.display())]
    Unreadable {
        /// The store.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// No room to open it.
    #[error(
        "no space left on the disk of the store {}. Free some space there (old logs, images), then start again",
        path.display()
    )]
    NoSpace {
        /// The store.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// What is wrong with a damaged store.
#[derive(Debug, Error)]
pub enum Corruption {
    /// A store is never empty: it is made under another name and renamed when it is whole.
    #[error("the file is empty")]
    Empty,
    /// The database says so.
    #[error("the database cannot be read: {0}")]
    Database(String),
    /// The database stumbled over it.
    #[error("the database cannot be read: it stopped with {0:?}")]
    Panic(String),
    /// A record that every store has is not there.
    #[error("table {table:?} has no record {key:?}")]
    Missing {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
    },
    /// The write-ahead log beside it does not fit or is not whole.
    #[error("its write-ahead log (store.wal, beside it): {0}")]
    Log(String),
    /// A record is there and cannot be understood.
    #[error("table {table:?}, record {key:?}: {reason}")]
    Record {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a batch was not committed. It may be on disk all the same: only opening the store again tells.
#[derive(Debug, Clone, Error)]
pub enum CommitError {
    /// The disk is full.
    #[error("no space left on the store's disk; the store must be opened again")]
    NoSpace(#[source] Arc<dyn Error + Send + Sync>),
    /// The disk or the database failed.
    #[error("the store could not write; it must be opened again")]
    Io(#[source] Arc<dyn Error + Send + Sync>),
    /// An earlier commit failed, and the store was not opened again since. This batch was not tried.
    #[error("the store failed earlier and must be opened again")]
    Poisoned,
}

/// Why events could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// They are past the retention.
    #[error("these events are gone; the oldest kept is {oldest}")]
    Gone {
        /// The oldest event that can still be read.
        oldest: u64,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The disk or the database failed.
    #[error("the store could not be read: {0}")]
    Storage(String),
}

impl ReadError {
    pub(crate) fn storage(error: impl Into<redb::Error>) -> Self {
        Self::Storage(error.into().to_string())
    }
}

/// Whether the system ran out of room, the user's quota included.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl CommitError {
    pub(crate) fn from_database(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if is_no_space(&error) => Self::NoSpace(Arc::new(error)),
            redb::Error::Io(error) => Self::Io(Arc::new(error)),
            other => Self::Io(Arc::from(Box::<dyn Error + Send + Sync>::from(other.to_string()))),
        }
    }

    pub(crate) fn from_json(error: serde_json::Error) -> Self {
        Self::Io(Arc::new(error))
    }

    pub(crate) fn from_text(text: String) -> Self {
        Self::Io(Arc::from(Box::<dyn Error + Send + Sync>::from(text)))
    }
}

/// What a caught panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "an unknown panic".to_owned())
}

/// A panic is an error like any other: after both the writer is poisoned, and nothing of its memory is used again.
pub(crate) fn caught<T>(body: impl FnOnce() -> Result<T, CommitError>) -> Result<T, CommitError> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(panic) => Err(CommitError::from_text(panic_text(&*panic))),
    }
}
