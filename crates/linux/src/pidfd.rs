//! A hold on one process that cannot slip to a later one with the same number.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use hostler_model::rundir::ProcessId;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::procfs;

/// One process, for as long as this is held. Readable when the process has ended.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens exactly this process; `None` when it is gone, a zombie of somebody else included.
    ///
    /// Never this process itself: numbers come from files and from peers, and what is opened here gets killed.
    #[must_use]
    pub fn open(id: ProcessId) -> Option<Self> {
        if id.pid <= 1 || id.pid == std::process::id() {
            return None;
        }
        let pid = Pid::from_raw(i32::try_from(id.pid).ok()?)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after it was opened: what is the same now is what was opened.
        procfs::is_same_process(id).then_some(Self(descriptor))
    }

    /// Kills it; one that has just ended is fine.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
