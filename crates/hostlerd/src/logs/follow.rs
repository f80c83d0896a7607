//! Waiting for a log to grow: one inotify instance for the whole daemon, because a user has only 128 of them.
//!
//! ```text
//! directory not there ──created──► watched itself ──removed or moved──► directory not there
//!  (its parent is watched)                                             (its parent is watched)
//! ```
//! A subscription is a counter that only moves forward: what happens between a subscription and the wait, or between two
//! waits, makes the next wait return at once. Many changes are one wake-up. Wake-ups may come without a change;
//! a change never comes without a wake-up, except where the kernel refuses a watch: there a subscription wakes
//! [twice a second](POLL) instead.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hostler_linux::inotify::{Event, Inotify, WatchId};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How often a directory is looked at that the kernel does not watch for us.
const POLL: Duration = Duration::from_millis(500);

/// Pause after a wake-up, so that a writer of many lines wakes its readers a few hundred times a second at most.
const PAUSE: Duration = Duration::from_millis(2);

/// Tells of changes in directories. Clones share one inotify instance.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Shared {
    inotify: AsyncFd<Inotify>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    directories: HashMap<PathBuf, Directory>,
    /// Whom a watch serves. One directory may have several paths, and a parent many missing children.
    watches: HashMap<WatchId, HashSet<PathBuf>>,
}

#[derive(Debug)]
struct Directory {
    changes: watch::Sender<()>,
    subscriptions: usize,
    watched: Watched,
}

/// How we hear of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Itself(WatchId),
    /// It is not there.
    Parent(WatchId),
    /// The kernel takes no watch.
    Polled,
}

/// News of one directory, from the moment this was made.
#[derive(Debug)]
pub(crate) struct Subscription {
    changes: watch::Receiver<()>,
    directory: PathBuf,
    watcher: Watcher,
}

impl Watcher {
    /// Makes the inotify instance and the task that reads it. Call it within a tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe: it asks that the descriptor stay open, which Inotify owns"
        )]
        let inotify = AsyncFd::with_interest(Inotify::new()?, Interest::READABLE)?;
        let shared = Arc::new(Shared { inotify, table: Mutex::default() });
        let task = tokio::spawn(pump(shared.clone())).abort_handle();
        Ok(Self { inner: Arc::new(Inner { shared, task }) })
    }

    /// Subscribes to changes of the files in a directory, which need not exist yet. Subscribe first, then read.
    #[must_use]
    pub(crate) fn watch(&self, directory: &Path) -> Subscription {
        let shared = &self.inner.shared;
        let mut table = shared.table();
        if !table.directories.contains_key(directory) {
            let entry = Directory { changes: watch::Sender::new(()), subscriptions: 0, watched: Watched::Polled };
            table.directories.insert(directory.to_path_buf(), entry);
            table.arm(shared.inotify.get_ref(), directory);
        }
        let entry = table.directories.get_mut(directory).expect("just put there");
        entry.subscriptions += 1;
        let changes = entry.changes.subscribe();
        Subscription { changes, directory: directory.to_path_buf(), watcher: self.clone() }
    }

    /// How many directories are watched in the kernel, parents of missing ones included.
    #[cfg(test)]
    pub(crate) fn watched_directories(&self) -> usize {
        self.inner.shared.table().watches.len()
    }
}

impl Subscription {
    /// Resolves when anything was made or written in the directory since the last call or the subscription. Nothing is
    /// lost when this is dropped while it waits.
    pub(crate) async fn changed(&mut self) {
        let shared = &self.watcher.inner.shared;
        if shared.table().is_polled(&self.directory) {
            let _ = tokio::time::timeout(POLL, self.changes.changed()).await;
            shared.table().arm(shared.inotify.get_ref(), &self.directory);
            return;
        }
        if self.changes.changed().await.is_err() {
            unreachable!("the table keeps the sender while there is a subscription");
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let shared = &self.watcher.inner.shared;
        let mut table = shared.table();
        let Some(entry) = table.directories.get_mut(&self.directory) else { return };
        entry.subscriptions -= 1;
        if entry.subscriptions == 0 {
            table.disarm(shared.inotify.get_ref(), &self.directory);
            table.directories.remove(&self.directory);
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads events and wakes those they concern, until it is aborted.
async fn pump(shared: Arc<Shared>) {
    loop {
        let events = match shared.inotify.readable().await {
            Ok(mut ready) => match ready.try_io(|inotify| inotify.get_ref().read()) {
                Ok(events) => events,
                Err(_nothing_there) => continue,
            },
            Err(error) => Err(error),
        };
        match events {
            Ok(events) => shared.table().handle(shared.inotify.get_ref(), events),
            Err(error) => {
                tracing::error!(%error, "reading inotify events");
                shared.table().handle(shared.inotify.get_ref(), vec![Event::Overflow]);
                tokio::time::sleep(POLL).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Table {
    fn is_polled(&self, directory: &Path) -> bool {
        self.directories.get(directory).is_some_and(|entry| entry.watched == Watched::Polled)
    }

    fn handle(&mut self, inotify: &Inotify, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Changed { watch, name } => {
                    for path in self.served_by(watch) {
                        match self.directories.get(&path).map(|entry| entry.watched) {
                            Some(Watched::Parent(_)) if name.as_deref() == path.file_name() => self.arm(inotify, &path),
                            Some(Watched::Parent(_)) | None => {}
                            Some(Watched::Itself(_) | Watched::Polled) => self.wake(&path),
                        }
                    }
                }
                Event::Gone { watch } => {
                    for path in self.served_by(watch) {
                        self.disarm(inotify, &path);
                        self.arm(inotify, &path);
                        self.wake(&path);
                    }
                }
                Event::Overflow => {
                    // A creation may be among what was forgotten.
                    for path in self.directories.keys().cloned().collect::<Vec<_>>() {
                        self.arm(inotify, &path);
                        self.wake(&path);
                    }
                }
            }
        }
    }

    fn served_by(&self, watch: WatchId) -> Vec<PathBuf> {
        self.watches.get(&watch).map(|paths| paths.iter().cloned().collect()).unwrap_or_default()
    }

    fn wake(&self, directory: &Path) {
        if let Some(entry) = self.directories.get(directory) {
            entry.changes.send_replace(());
        }
    }

    /// Watches the directory, or its parent until it is there; wakes its readers when that is a change.
    fn arm(&mut self, inotify: &Inotify, directory: &Path) {
        let Some(before) = self.directories.get(directory).map(|entry| entry.watched) else { return };
        let wanted = self.find(inotify, directory);
        if wanted == before {
            return;
        }
        self.release(inotify, before, directory);
        if let Watched::Itself(watch) | Watched::Parent(watch) = wanted {
            self.watches.entry(watch).or_default().insert(directory.to_path_buf());
        }
        if let Some(entry) = self.directories.get_mut(directory) {
            entry.watched = wanted;
        }
        self.wake(directory);
    }

    fn find(&self, inotify: &Inotify, directory: &Path) -> Watched {
        if let Some(watch) = try_watch(inotify, directory) {
            return Watched::Itself(watch);
        }
        let Some(parent) = directory.parent().and_then(|parent| try_watch(inotify, parent)) else {
            return Watched::Polled;
        };
        // It may have come to be before its parent was watched.
        let Some(watch) = try_watch(inotify, directory) else { return Watched::Parent(parent) };
        if !self.watches.contains_key(&parent) {
            let _ = inotify.remove(parent);
        }
        Watched::Itself(watch)
    }

    fn disarm(&mut self, inotify: &Inotify, directory: &Path) {
        if let Some(entry) = self.directories.get_mut(directory) {
            let before = std::mem::replace(&mut entry.watched, Watched::Polled);
            self.release(inotify, before, directory);
        }
    }

    /// The directory no longer needs this watch; the last one to say so ends it.
    fn release(&mut self, inotify: &Inotify, watched: Watched, directory: &Path) {
        let (Watched::Itself(watch) | Watched::Parent(watch)) = watched else { return };
        let Some(paths) = self.watches.get_mut(&watch) else { return };
        paths.remove(directory);
        if paths.is_empty() {
            self.watches.remove(&watch);
            // The kernel has ended the watch of a removed directory by itself.
            let _ = inotify.remove(watch);
        }
    }
}

/// `None` where there is nothing to watch, or no room to.
fn try_watch(inotify: &Inotify, directory: &Path) -> Option<WatchId> {
    match inotify.add_watch(directory) {
        Ok(watch) => Some(watch),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::debug!(directory = %directory.display(), %error, "cannot watch; looking at it now and then instead");
            None
        }
    }
}
