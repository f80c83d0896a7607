//! Network namespaces that are kept by a file, as `ip netns` does it: `/run/netns/<name>`.
//!
//! Which network a thread is in is its own affair, so whatever is done in another one is done by a thread that is made for
//! it and ends with it.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::procfs;

/// Where namespaces are kept by name.
pub const DIRECTORY: &str = "/run/netns";
/// The network of the thread that reads this.
const OWN: &str = "/proc/thread-self/ns/net";

/// Tells one network namespace from another as long as something keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
}

fn identity_of(path: &Path) -> io::Result<Identity> {
    let found = fs::metadata(path)?;
    Ok(Identity { device: found.dev(), inode: found.ino() })
}

fn path_text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

/// Makes a new network, kept by this file, which must not be there, and does something in it.
pub fn create<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(move || {
        // SAFETY: takes a number; of this thread alone, which ends with this.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        keep(path)?;
        Ok(work())
    })
}

/// Puts the network of this thread where it is found by name.
fn keep(path: &Path) -> io::Result<()> {
    let target = path_text(path)?;
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o444).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
            open()?
        }
        opened => opened?,
    };
    let source = path_text(Path::new(OWN))?;
    let (none, flags) = (std::ptr::null(), libc::MS_BIND);
    // SAFETY: both names end in NUL and are valid for the call; the other two may be absent for this kind of mount.
    if unsafe { libc::mount(source.as_ptr(), target.as_ptr(), none, flags, none.cast()) } != 0 {
        let error = io::Error::last_os_error();
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(())
}

/// Does something in the network that this file keeps.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let file = File::open(path)?;
    on_own_thread(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("netns".to_owned()).stack_size(256 * 1024).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Lets the network go that this file keeps, if it does, and removes the file. The network itself is gone when nobody
/// is in it.
pub fn release(path: &Path) -> io::Result<()> {
    let target = path_text(path)?;
    loop {
        // SAFETY: ends in NUL and is valid for the call.
        if unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) } != 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // Not mounted, any more or at all.
                Some(libc::EINVAL) => break,
                Some(libc::ENOENT) => return Ok(()),
                _ => return Err(error),
            }
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The network that this file keeps; `None` where it keeps none.
pub fn identity(path: &Path) -> io::Result<Option<Identity>> {
    match rustix::fs::statfs(path) {
        Ok(found) if found.f_type as u64 == libc::NSFS_MAGIC as u64 => identity_of(path).map(Some),
        Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Processes that are in this network. Whoever goes meanwhile may be among them.
pub fn processes(identity: Identity) -> io::Result<Vec<u32>> {
    let pids = procfs::processes()?.into_iter();
    Ok(pids
        .filter(|pid| identity_of(Path::new(&format!("/proc/{pid}/ns/net"))).is_ok_and(|of| of == identity))
        .collect())
}

/// A hold on the network of this thread.
pub fn own() -> io::Result<File> {
    File::open(OWN)
}

/// The number by which netlink takes a hold on a network.
#[must_use]
pub fn number(held: &File) -> i32 {
    held.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_entered_and_let_go() {
        if rustix::process::geteuid().as_raw() != 0 {
            println!("skipped: making network namespaces needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below").join("one");
        let inside = create(&path, || identity_of(Path::new(OWN)).unwrap()).unwrap();
        assert_eq!(identity(&path).unwrap(), Some(inside));
        assert_ne!(identity_of(Path::new(OWN)).unwrap(), inside, "this thread stays where it is");
        assert_eq!(within(&path, || identity_of(Path::new(OWN)).unwrap()).unwrap(), inside);
        assert!(create(&path, || ()).is_err(), "a name is used once");
        assert_eq!(processes(inside).unwrap(), Vec::<u32>::new());
        let mine = identity_of(Path::new("/proc/self/ns/net")).unwrap();
        assert!(processes(mine).unwrap().contains(&std::process::id()));
        release(&path).unwrap();
        release(&path).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        assert_eq!(identity(&path).unwrap(), None);
        release(&path).unwrap();
        assert!(!path.exists());
    }
}
