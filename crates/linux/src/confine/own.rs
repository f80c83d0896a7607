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

/// What the command line of a room's first process says.
const SHOWN: &[u8] = b"hostler-init";

/// Wipes the command line that `/proc/1/cmdline` would show within the room: it is the agent's, and names the node's directories.
pub(super) fn hide_arguments() -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Fields 48 and 49 of proc(5): where the arguments begin and end.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().skip(48 - 3);
    let mut number = || fields.next().and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let (begin, end) = (number(), number());
    if begin != 0 && begin + SHOWN.len() < end {
        // SAFETY: this is the memory of our arguments, on our stack, writable, and read by nobody any more: the
        // agent's parsed ones are copies, and this process never returns.
        unsafe {
            std::ptr::write_bytes(begin as *mut u8, 0, end - begin);
            std::ptr::copy_nonoverlapping(SHOWN.as_ptr(), begin as *mut u8, SHOWN.len());
        }
    }
    Ok(())
}

/// Where the heap and the unused part of the stack are.
fn unused_memory() -> [(usize, usize); 2] {
    let mut found = [(0, 0); 2];
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return found };
    let here = (&raw const found).addr() & !0xfff;
    for line in maps.lines() {
        let range = || {
            let (begin, end) = line.split_once(' ')?.0.split_once('-')?;
            Some((usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
        };
        match (line.ends_with("[heap]"), line.ends_with("[stack]"), range()) {
            (true, _, Some(range)) => found[0] = range,
            // The page below is for the calls to come; with less than a page between there is nothing to give.
            (_, true, Some((begin, end))) if (begin..end).contains(&here) => found[1] = (begin, here - 0x1000),
            _ => {}
        }
    }
    found
}

/// Reaps orphans as long as it lives, and gives back all memory that it has of the agent.
///
/// From there on there is no heap, and no variable of a thread has a value: only bare system calls are made.
pub(super) fn reap_forever() -> ! {
    const PAGE: usize = 0x1000;
    let unused = unused_memory();
    // The kernel's set of signals has 64 bits, bit n-1 for signal n.
    let (every, child) = (u64::MAX, 1u64 << (libc::SIGCHLD - 1));
    let nothing = std::ptr::null_mut::<libc::c_void>();
    let size = size_of::<u64>();
    // SAFETY: nobody uses the heap any more, for this function allocates nothing and never returns; the part of the stack
    // is below every frame. `syscall` uses no memory but the stack and `errno`, which may be anything. The sets are valid
    // for reads.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const every, nothing, size);
        for (begin, end) in unused {
            if end > begin + PAGE {
                libc::syscall(libc::SYS_madvise, begin, end - begin, libc::MADV_DONTNEED);
            }
        }
        loop {
            while libc::syscall(libc::SYS_wait4, -1, nothing, libc::WNOHANG | libc::__WALL, nothing) > 0 {}
            libc::syscall(libc::SYS_rt_sigtimedwait, &raw const child, nothing, nothing, size);
        }
    }
}
