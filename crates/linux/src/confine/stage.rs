//! The child of the agent that makes a room, or enters one, and leaves the rest to two children of its own that become the
//! agent's; see [`super`].

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use hostler_model::container::{Network, Userns};
use hostler_model::workload::StartFailureKind;

use super::{Door, init, namespaces, own};
use crate::spawn::ChildSetup;
use crate::spawn::child::{CONTROL, Failure, become_user, exit, fail, raise_hard_limits, report_moved};

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let mut ends = [0; 2];
    // SAFETY: valid for writes of two numbers, which are new descriptors and ours alone.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return fail(StartFailureKind::System, "make a pipe");
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// A child that has our parent for its own. 0 in the child.
fn fork_sibling() -> Result<u32, Failure> {
    // SAFETY: as fork, for a process with one thread, which this is.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT | libc::SIGCHLD, 0, 0, 0, 0) };
    match u32::try_from(pid) {
        Ok(pid) => Ok(pid),
        Err(_) => fail(StartFailureKind::System, "fork into the namespaces"),
    }
}

/// Whether the other end said something before it closed.
fn wait(end: &OwnedFd) -> bool {
    let mut byte = [0];
    loop {
        // SAFETY: valid for writes of one byte.
        match unsafe { libc::read(end.as_raw_fd(), byte.as_mut_ptr().cast(), 1) } {
            1 => return true,
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return false,
        }
    }
}

/// Called by a forked child with its streams in place; returns in the process that is to become the program. Only for processes
/// with one thread.
pub(crate) fn become_confined(door: &Door<'_>, setup: &ChildSetup<'_>, parent: u32) -> Result<(), Failure> {
    let isolation = &door.room().confinement.isolation;
    // As long as we may; the limits themselves come later, for they could keep us from doing what comes now.
    raise_hard_limits(&setup.program.rlimits)?;
    let init = match door {
        Door::New(room) => {
            if let Network::Namespace(path) = isolation.network() {
                namespaces::join_network(path)?;
            }
            if let (Userns::Auto, Some(identity)) = (isolation.userns(), &setup.program.identity) {
                // The user makes the namespace himself, and so owns nothing in it that is not his.
                become_user(identity, parent)?;
            }
            namespaces::make(isolation)?;
            let (done, report) = pipe()?;
            let init = fork_sibling()?;
            if init == 0 {
                drop(done);
                init::run(room, report);
            }
            drop(report);
            if !wait(&done) {
                // It has said why.
                exit();
            }
            init
        }
        Door::Of(_, init) => {
            if let (Userns::Auto, Some(identity)) = (isolation.userns(), &setup.program.identity) {
                // Within there are no groups to be had.
                crate::spawn::child::set_groups(identity)?;
            }
            namespaces::enter(isolation, *init)?;
            *init
        }
    };
    let (go, told) = pipe()?;
    let main = fork_sibling()?;
    if main == 0 {
        drop(told);
        own::die_with_parent();
        // The agent knows us before we go on.
        if !wait(&go) || !own::is_connected(CONTROL) {
            exit();
        }
        return Ok(());
    }
    report_moved(init, main);
    let _ = rustix::io::write(&told, &[1]);
    exit()
}
