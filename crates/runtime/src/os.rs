//! The few things asked of the kernel directly: a hold on one process that cannot slip to a later one with the same
//! number, and the removal of a cgroup.

use std::os::fd::OwnedFd;

use hostler_linux::cgroup::{CgroupError, Parent};
use hostler_linux::procfs;
use hostler_model::rundir::ProcessId;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One process, for as long as this is held.
#[derive(Debug)]
pub(crate) struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens exactly this process; `None` when it is gone, a zombie of somebody else included.
    ///
    /// Never this process itself: numbers come from files and from peers, and what is opened here gets killed.
    pub(crate) fn open(id: ProcessId) -> Option<Self> {
        if id.pid <= 1 || id.pid == std::process::id() {
            return None;
        }
        let pid = Pid::from_raw(i32::try_from(id.pid).ok()?)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after it was opened: what is the same now is what was opened.
        procfs::is_same_process(id).then_some(Self(descriptor))
    }

    /// Kills it; one that has just ended is fine.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) {
        #[expect(
            deprecated,
            reason = "its successor is `unsafe`, for types that may change their descriptor; ours cannot"
        )]
        let watched = AsyncFd::with_interest(self.0, Interest::READABLE);
        match watched {
            Ok(descriptor) => {
                // Fails only when the reactor is going down, and we with it.
                let _ = descriptor.readable().await;
            }
            Err(error) => {
                // Out of memory or epoll watches: the caller's deadline ends this.
                tracing::error!(%error, "cannot watch a process");
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Kills everything in a group of the node and removes it. Whether it is gone; takes about 100 ms at most.
pub(crate) fn remove_group(parent: &Parent, name: &str) -> bool {
    let group = parent.open(name);
    let removed = group.kill_all().and_then(|empty| if empty { group.remove().map(|()| true) } else { Ok(false) });
    match removed {
        Ok(gone) => gone,
        Err(CgroupError::Busy { .. }) => false,
        Err(error) => {
            // Trying again would not help.
            tracing::warn!(name, %error, "cannot remove a cgroup");
            true
        }
    }
}
