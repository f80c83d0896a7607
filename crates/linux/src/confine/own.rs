//! What the processes that make a room do with themselves.

use std::io;
use std::os::fd::RawFd;

/// The kernel kills us when our parent dies, which is the agent. Cleared by every change of rights.
pub(super) fn die_with_parent() {
    // SAFETY: this prctl takes numbers; with a valid signal it cannot fail.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
    }
}

/// Whether the other end of a socket is there. In another namespace of processes a parent has no number by which it could
/// be recognised.
pub(super) fn is_connected(socket: RawFd) -> bool {
    let mut poll = libc::pollfd { fd: socket, events: 0, revents: 0 };
    // SAFETY: valid for reads and writes of one entry; does not wait.
    unsafe { libc::poll(&mut poll, 1, 0) == 0 }
}

/// Wipes the command line that `/proc/1/cmdline` would show within the room: it is the agent's, and names the node's directories.
pub(super) fn hide_arguments() -> io::Result<()> {
    // Fields 48 and 49 of proc(5): where the arguments begin and end. Read before the room has a /proc of its own or after,
    // both have us.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect()).unwrap_or_default();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let (begin, end) = (number(48), number(49));
    if begin != 0 && begin < end {
        // SAFETY: this is the memory of our arguments, on our stack, writable, and read by nobody any more: the
        // agent's parsed ones are copies, and this process never returns.
        unsafe { std::ptr::write_bytes(begin as *mut u8, 0, end - begin) };
    }
    Ok(())
}

/// Reaps orphans as long as it lives.
pub(super) fn reap_forever() -> ! {
    // SAFETY: the set is initialised before it is used; all calls take numbers or valid pointers.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        loop {
            while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) > 0 {}
            libc::sigwaitinfo(&set, std::ptr::null_mut());
        }
    }
}
