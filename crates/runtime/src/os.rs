//! What is asked of the kernel: the end of a process, and the removal of a cgroup.

use hostler_linux::cgroup::{CgroupError, Parent};
use hostler_linux::pidfd::Pidfd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for the end of a process.
pub(crate) async fn ended(process: Pidfd) {
    #[expect(deprecated, reason = "its successor is `unsafe`, for types that may change their descriptor; ours cannot")]
    let watched = AsyncFd::with_interest(process, Interest::READABLE);
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
