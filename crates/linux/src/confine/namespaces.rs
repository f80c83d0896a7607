//! Namespaces: making them, entering those of another process, and who is who in one of users.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use hostler_model::ByteString;
use hostler_model::container::{Network, Userns};
use hostler_model::isolation::Isolation;
use hostler_model::workload::StartFailureKind;

use crate::spawn::child::{Failure, check, fail};

const KIND: StartFailureKind = StartFailureKind::Isolation;

/// What every room has of its own.
const ALWAYS: libc::c_int = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

fn flags(isolation: &Isolation) -> libc::c_int {
    match isolation.network() {
        Network::Host => ALWAYS,
        Network::None | Network::Namespace(_) | Network::Named(_) => ALWAYS | libc::CLONE_NEWNET,
    }
}

/// The network of a namespace that exists. Before anything is given up: only root may.
pub(crate) fn join_network(path: &ByteString) -> Result<(), Failure> {
    let shown = path.to_string_lossy();
    let Ok(name) = CString::new(path.as_bytes()) else {
        return Err(Failure { kind: KIND, message: format!("{shown:?} contains a NUL byte") });
    };
    // SAFETY: the name ends in NUL; the descriptor is new and owned at once. Not a FIFO that waits for somebody.
    let fd = unsafe { libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK) };
    if fd < 0 {
        return fail(KIND, format_args!("open the network namespace {shown:?}"));
    }
    // SAFETY: new, and ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: takes numbers.
    let joined = unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) };
    check(joined, KIND, format_args!("join the network namespace {shown:?}"))
}

/// Leaves the machine's namespaces for new ones; that of processes begins with the next child.
pub(super) fn make(isolation: &Isolation) -> Result<(), Failure> {
    if isolation.userns() == Userns::Auto {
        // Within, until they are mapped, they are nobody's.
        // SAFETY: take nothing.
        let own = unsafe { (libc::geteuid(), libc::getegid()) };
        // SAFETY: takes numbers; this process has one thread.
        let made = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
        let why = "make a user namespace (forbidden here, or too many; see hostler doctor)";
        check(made, KIND, why)?;
        map_ids(own)?;
    }
    let mut flags = flags(isolation);
    if matches!(isolation.network(), Network::Namespace(_)) {
        flags &= !libc::CLONE_NEWNET;
    }
    // SAFETY: as above.
    let made = unsafe { libc::unshare(flags) };
    if isolation.userns() == Userns::Host {
        return check(made, KIND, "make namespaces without one of users: that needs root");
    }
    check(made, KIND, "make namespaces of processes, mounts, IPC, host name and network")
}

/// Our user and group are themselves in the new namespace, and nobody else is anybody.
fn map_ids((uid, gid): (u32, u32)) -> Result<(), Failure> {
    // Files below /proc/self are ours only when others may look at us; what is in us is known to our user anyhow.
    // SAFETY: takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, KIND, "become visible to ourselves")?;
    let files = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ];
    for (path, text) in files {
        std::fs::write(path, &text).map_err(|error| Failure {
            kind: KIND,
            message: format!("cannot write {text:?} to {path}: {}", crate::spawn::errno_text(&error)),
        })?;
    }
    Ok(())
}

/// Enters the namespaces of a room by its first process; that of processes begins with the next child.
pub(super) fn enter(isolation: &Isolation, init: u32) -> Result<(), Failure> {
    // SAFETY: takes numbers; the descriptor is new.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, init, 0) };
    let Some(fd) = libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0) else {
        return fail(KIND, "find the namespaces of the run");
    };
    // SAFETY: new, and ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut flags = flags(isolation);
    if isolation.userns() == Userns::Auto {
        flags |= libc::CLONE_NEWUSER;
    }
    // SAFETY: takes numbers; this process has one thread.
    check(unsafe { libc::setns(fd.as_raw_fd(), flags) }, KIND, "enter the namespaces of the run")
}

/// Brings up the loopback device of a new network.
pub(super) fn raise_loopback() -> Result<(), Failure> {
    // SAFETY: takes numbers; the descriptor is new and owned at once.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        // A kernel without IP has no loopback device either.
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::EAFNOSUPPORT) { Ok(()) } else { fail(KIND, "make a socket") };
    }
    // SAFETY: new, and ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all-zero bytes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is valid for the length of the call.
    let raised = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(raised, KIND, "bring up the loopback device")
}

/// The name of the machine as the room sees it.
pub(super) fn set_hostname(name: &str) -> Result<(), Failure> {
    // SAFETY: valid for reads for its length.
    let set = unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) };
    check(set, KIND, format_args!("set the host name {name:?}"))
}
