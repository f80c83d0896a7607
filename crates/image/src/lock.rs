//! How makers keep out of each other's way: a lock file for who may make, and a rename when it is made. The kernel takes a
//! lock back when its holder dies, so what a dead maker left is found by the next one, who removes it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::ImageError;

/// Between two looks whether a lock is free: the kernel has no wait for it with an end.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A lock that is held as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Makes the directory, and those above it; only the last one has this mode for sure.
pub(crate) fn directory(path: &Path, mode: u32) -> Result<(), ImageError> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(ImageError::io("make the directory", path))
}

/// Takes the lock of this file, which is made if need be and never removed.
pub(crate) fn take(path: &Path, longest_ms: u64) -> Result<Lock, ImageError> {
    let file = open(path)?;
    wait(path, longest_ms, || file.try_lock())?;
    Ok(Lock { _file: file })
}

/// The same, if nobody has it.
pub(crate) fn take_now(path: &Path) -> Result<Option<Lock>, ImageError> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(ImageError::io("lock", path)(error)),
    }
}

fn open(path: &Path) -> Result<File, ImageError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(path).map_err(ImageError::io("open the lock", path))
}

/// Tries again until the lock is there or the time is over.
pub(crate) fn wait(
    path: &Path,
    longest_ms: u64,
    mut attempt: impl FnMut() -> Result<(), TryLockError>,
) -> Result<(), ImageError> {
    let began = Instant::now();
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if began.elapsed() < Duration::from_millis(longest_ms) => {
                std::thread::sleep(LOOK_AGAIN);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(ImageError::Busy { path: path.to_path_buf(), waited_s: longest_ms / 1_000 });
            }
            Err(TryLockError::Error(error)) => return Err(ImageError::io("lock", path)(error)),
        }
    }
}

/// Puts what was made under its name, on disk: first the content, then the name.
pub(crate) fn put(made: &Path, path: &Path) -> Result<(), ImageError> {
    File::open(made).and_then(|file| file.sync_all()).map_err(ImageError::io("write", made))?;
    std::fs::rename(made, path).map_err(ImageError::io("rename to", path))?;
    sync_parent(path)
}

/// A new name is on disk when its directory is.
pub(crate) fn sync_parent(path: &Path) -> Result<(), ImageError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(ImageError::io("write", parent))
}

/// Whether the path still leads to this very file.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a file, or a directory with all in it, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), ImageError> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ImageError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes it when dropped, unless [`Leftover::keep`] was called: so that no error path leaves anything.
#[derive(Debug)]
pub(crate) struct Leftover<'a>(Option<&'a Path>);

impl<'a> Leftover<'a> {
    pub(crate) fn new(path: &'a Path) -> Self {
        Self(Some(path))
    }

    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Leftover<'_> {
    fn drop(&mut self) {
        // What cannot be removed now, the next maker removes.
        let _ = self.0.map(remove);
    }
}

/// Of the files of a cache that are named so, removes the oldest, until `kept` are left with the `current` one.
pub(crate) fn keep_newest(
    cache: &Path,
    (prefix, suffix): (&str, &str),
    current: &Path,
    kept: usize,
) -> Result<(), ImageError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(cache).map_err(ImageError::io("read", cache))?.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) && name.ends_with(suffix) && entry.path() != current {
            let made = entry.metadata().and_then(|about| about.modified()).unwrap_or(std::time::UNIX_EPOCH);
            found.push((made, entry.path()));
        }
    }
    found.sort();
    let excess = found.len().saturating_sub(kept - 1);
    found[..excess].iter().try_for_each(|(_, path)| remove(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let held = take(&path, 1_000).unwrap();
        assert!(take_now(&path).unwrap().is_none());
        assert!(matches!(take(&path, 20), Err(ImageError::Busy { .. })));
        drop(held);
        assert!(take_now(&path).unwrap().is_some());
    }

    #[test]
    fn leftovers_go_and_others_stay() {
        let place = tempfile::tempdir().unwrap();
        let (file, tree) = (place.path().join("file"), place.path().join("tree"));
        std::fs::create_dir_all(tree.join("deep")).unwrap();
        std::fs::write(&file, "x").unwrap();
        drop((Leftover::new(&file), Leftover::new(&tree)));
        assert!(!file.exists() && !tree.exists());
        std::fs::write(&file, "x").unwrap();
        Leftover::new(&file).keep();
        let new = place.path().join("new");
        let open = File::open(&file).unwrap();
        assert!(is_at(&open, &file).unwrap());
        put(&file, &new).unwrap();
        assert!(!is_at(&open, &file).unwrap() && is_at(&open, &new).unwrap());
        assert!(put(&file, &new).is_err());
    }
}
