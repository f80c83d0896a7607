//! Whose mounts a child sees and makes.

use std::ffi::CStr;

use hostler_model::workload::StartFailureKind;

use super::Mounts;
use super::child::{Failure, check, shown};

pub(super) fn enter(mounts: Mounts<'_>) -> Result<(), Failure> {
    match mounts {
        Mounts::Shared => Ok(()),
        Mounts::Own => keep(),
        Mounts::Without(path) => {
            keep()?;
            unmount(path)
        }
    }
}

/// From here on mounts are seen by this process and its children alone.
fn keep() -> Result<(), Failure> {
    let kind = StartFailureKind::System;
    // SAFETY: the path ends in NUL; the other pointers may be null for a change of propagation.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS), kind, "make a mount namespace")?;
        let flags = libc::MS_REC | libc::MS_SLAVE;
        let null = std::ptr::null();
        check(libc::mount(null, c"/".as_ptr(), null, flags, null.cast()), kind, "keep mounts to itself")
    }
}

/// Takes a mount out of sight.
fn unmount(path: &CStr) -> Result<(), Failure> {
    // SAFETY: the path ends in NUL.
    let unmounted = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    check(unmounted, StartFailureKind::System, format_args!("unmount {}", shown(path)))
}
