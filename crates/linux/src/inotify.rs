//! Being told when something changes in a directory: inotify, one descriptor for any number of directories.
//!
//! Instances are scarce (128 for a user by default), watches are not: make one [`Inotify`] and share it.
//! Every watch has the same interest, because the kernel keeps one watch for each inode of an instance and a second
//! one would replace the first.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Events taken from the kernel at a time, bytes: about a hundred with names.
const BUFFER: usize = 8 * 1024;

/// A watch of an instance. Never used again for another directory while the instance lives, short of 2³¹ of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WatchId(i32);

/// What happened to a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something in it was made, written, removed or renamed.
    Changed {
        /// Where.
        watch: WatchId,
        /// Which entry, when the kernel says.
        name: Option<OsString>,
    },
    /// It was removed, moved or unmounted; a removed one's watch is gone, and this is its last event.
    Gone {
        /// Which it was.
        watch: WatchId,
    },
    /// More happened than the kernel could remember: anything may have changed anywhere.
    Overflow,
}

/// An inotify instance: not blocking, closed on exec.
#[derive(Debug)]
pub struct Inotify {
    descriptor: OwnedFd,
}

impl Inotify {
    /// Makes an instance. `EMFILE` means that the user has too many (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Self> {
        Ok(Self { descriptor: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)? })
    }

    /// Watches a directory. The same directory again, by whatever path, is the same watch.
    ///
    /// `ENOTDIR` for anything but a directory; `ENOSPC` when the user has too many watches
    /// (`fs.inotify.max_user_watches`).
    pub fn add_watch(&self, directory: &Path) -> io::Result<WatchId> {
        let interest = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        Ok(WatchId(inotify::add_watch(&self.descriptor, directory, interest)?))
    }

    /// Ends a watch. One that the kernel has ended already is `EINVAL`.
    pub fn remove(&self, watch: WatchId) -> io::Result<()> {
        Ok(inotify::remove_watch(&self.descriptor, watch.0)?)
    }

    /// What has happened since the last call, oldest first; one buffer full at most, so call again.
    /// [`io::ErrorKind::WouldBlock`] when there is nothing.
    pub fn read(&self) -> io::Result<Vec<Event>> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.descriptor, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(raw) => events.extend(event(&raw)),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if reader.is_buffer_empty() {
                return Ok(events);
            }
        }
    }
}

/// `None` for what says nothing new.
fn event(raw: &inotify::Event<'_>) -> Option<Event> {
    let watch = WatchId(raw.wd());
    let flags = raw.events();
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        return Some(Event::Overflow);
    }
    // `DELETE_SELF` and `UNMOUNT` are followed by `IGNORED`.
    if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT) {
        return None;
    }
    if flags.intersects(ReadFlags::IGNORED | ReadFlags::MOVE_SELF) {
        return Some(Event::Gone { watch });
    }
    let name = raw.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
    Some(Event::Changed { watch, name })
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Inotify {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn all(inotify: &Inotify) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match inotify.read() {
                Ok(more) => events.extend(more),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return events,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn changes_of_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let inotify = Inotify::new().unwrap();
        let watch = inotify.add_watch(dir.path()).unwrap();
        assert_eq!(inotify.add_watch(&dir.path().join(".")).unwrap(), watch, "one watch for one directory");
        assert_eq!(all(&inotify), []);
        fs::write(dir.path().join("a"), "1").unwrap();
        let changed = Event::Changed { watch, name: Some("a".into()) };
        assert_eq!(all(&inotify), [changed.clone(), changed], "made and written");
        inotify.remove(watch).unwrap();
        fs::write(dir.path().join("b"), "1").unwrap();
        assert_eq!(all(&inotify), [Event::Gone { watch }]);
        assert!(inotify.remove(watch).is_err());
    }

    #[test]
    fn directories_that_go_and_things_that_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let inotify = Inotify::new().unwrap();
        let path = dir.path().join("d");
        assert_eq!(inotify.add_watch(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::create_dir(&path).unwrap();
        let watch = inotify.add_watch(&path).unwrap();
        fs::remove_dir(&path).unwrap();
        assert_eq!(all(&inotify), [Event::Gone { watch }]);
        fs::write(&path, "").unwrap();
        assert_eq!(inotify.add_watch(&path).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn more_events_than_one_buffer() {
        let dir = tempfile::tempdir().unwrap();
        let inotify = Inotify::new().unwrap();
        inotify.add_watch(dir.path()).unwrap();
        for number in 0..1_000 {
            fs::create_dir(dir.path().join(format!("a-name-of-some-length-{number}"))).unwrap();
        }
        assert_eq!(all(&inotify).len(), 1_000);
    }
}
