//! A storage that is only read until its content has proved good.
//!
//! Opening a database writes: it marks the file as in use, repairs it after a crash, migrates it. All of that is
//! staged in memory first. When everything was loaded and made sense, [`Staged::go_live`] carries it out, every
//! write and every sync in the order the database asked for; otherwise it is forgotten and the file stays as it was,
//! byte for byte. After that a write costs one atomic load more than without.
//!
//! The memory needed is what a repair (a few pages), the replay of the log or a migration writes: a migration that rewrites all events
//! would want another way.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// What the database asked for while staged.
enum Operation {
    Write { offset: u64, data: Vec<u8> },
    SetLength(u64),
    Sync,
}

struct Inner<B> {
    backend: B,
    live: AtomicBool,
    staged: Mutex<Vec<Operation>>,
}

/// A backend whose changes wait for [`Staged::go_live`].
pub(crate) struct Staged<B>(Arc<Inner<B>>);

impl<B> Clone for Staged<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> fmt::Debug for Staged<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("live", &self.is_live()).finish_non_exhaustive()
    }
}

impl<B> Staged<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self(Arc::new(Inner { backend, live: AtomicBool::new(false), staged: Mutex::default() }))
    }

    fn is_live(&self) -> bool {
        self.0.live.load(Ordering::Acquire)
    }

    fn staged(&self) -> MutexGuard<'_, Vec<Operation>> {
        // A list of operations is whole after every push, panic or not.
        self.0.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stage(&self, operation: Operation) {
        self.staged().push(operation);
    }
}

impl<B: StorageBackend> Staged<B> {
    /// Carries out what was staged. After an error the rest is dropped, and further changes stay in memory: for the
    /// file that is a crash at this point.
    pub(crate) fn go_live(&self) -> io::Result<()> {
        let mut staged = self.staged();
        for operation in staged.drain(..) {
            match operation {
                Operation::Write { offset, data } => self.0.backend.write(offset, &data)?,
                Operation::SetLength(length) => self.0.backend.set_len(length)?,
                Operation::Sync => self.0.backend.sync_data()?,
            }
        }
        self.0.live.store(true, Ordering::Release);
        Ok(())
    }

    fn read_staged(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        if end > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let kept = self.0.backend.len()?.saturating_sub(offset).min(out.len() as u64) as usize;
        let (below, above) = out.split_at_mut(kept);
        if !below.is_empty() {
            self.0.backend.read(offset, below)?;
        }
        above.fill(0);
        for operation in self.staged().iter() {
            match operation {
                Operation::Write { offset: at, data } => {
                    let from = offset.max(*at);
                    let to = end.min(at + data.len() as u64);
                    if from < to {
                        let source = &data[(from - at) as usize..(to - at) as usize];
                        out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
                    }
                }
                Operation::SetLength(length) if *length < end => {
                    out[length.saturating_sub(offset) as usize..].fill(0);
                }
                Operation::SetLength(_) | Operation::Sync => {}
            }
        }
        Ok(())
    }
}

impl<B: StorageBackend> StorageBackend for Staged<B> {
    fn len(&self) -> io::Result<u64> {
        if self.is_live() {
            return self.0.backend.len();
        }
        let start = self.0.backend.len()?;
        let length = self.staged().iter().fold(start, |length, operation| match operation {
            Operation::Write { offset, data } => length.max(offset + data.len() as u64),
            Operation::SetLength(length) => *length,
            Operation::Sync => length,
        });
        Ok(length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.is_live() { self.0.backend.read(offset, out) } else { self.read_staged(offset, out) }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if self.is_live() {
            return self.0.backend.set_len(length);
        }
        self.stage(Operation::SetLength(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_live() {
            return self.0.backend.sync_data();
        }
        self.stage(Operation::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.is_live() {
            return self.0.backend.write(offset, data);
        }
        self.stage(Operation::Write { offset, data: data.to_vec() });
        Ok(())
    }

    // Locks are taken for real from the start: a staged open must keep others out as well.
    fn close(&self) -> io::Result<()> {
        self.0.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.query_lock_range(start, end)
    }
}
