//! Device nodes: what a path names, and all that this machine has.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Most nodes that [`all`] tells; a machine has a few hundred.
const DEVICES_MAX: usize = 1_024;
/// How deep below `/dev` nodes are looked for.
const DEPTH_MAX: usize = 3;

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it is.
    pub path: PathBuf,
    /// `c` or `b`, as `mknod(1)` has it.
    pub kind: char,
    /// Its driver.
    pub major: u32,
    /// Which of that driver's.
    pub minor: u32,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The device that a path names; links are followed.
pub fn at(path: &Path) -> io::Result<Device> {
    let about = std::fs::metadata(path)?;
    of(path, &about).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a device"))
}

fn of(path: &Path, about: &std::fs::Metadata) -> Option<Device> {
    let kind = match about.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => return None,
    };
    Some(Device {
        path: path.to_owned(),
        kind,
        major: rustix::fs::major(about.rdev()),
        minor: rustix::fs::minor(about.rdev()),
        mode: about.mode() & 0o7777,
        uid: about.uid(),
        gid: about.gid(),
    })
}

/// Every device below `/dev`, but terminals, which each container has of its own. Links are not followed.
#[must_use]
pub fn all() -> Vec<Device> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), 0, &mut found);
    found
}

fn collect(directory: &Path, depth: usize, found: &mut Vec<Device>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            let own = ["pts", "shm", "mqueue", "fd"].iter().any(|name| entry.file_name() == *name);
            if !own && depth < DEPTH_MAX {
                collect(&path, depth + 1, found);
            }
        } else if found.len() < DEVICES_MAX
            && entry.file_name() != "console"
            && entry.file_name() != "ptmx"
            && let Some(device) = of(&path, &about)
        {
            found.push(device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_machine_has() {
        let null = at(Path::new("/dev/null")).unwrap();
        assert_eq!((null.kind, null.major, null.minor), ('c', 1, 3));
        assert!(at(Path::new("/")).is_err() && at(Path::new("/dev/no-such-device")).is_err());
        assert!(all().iter().any(|device| device.path == Path::new("/dev/null")));
    }
}
