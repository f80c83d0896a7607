//! Signals as something to wait for, and signals as a child must find them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Signals that end a program by default and that a daemon's terminal, parent or peer may send by accident.
const IGNORED: [libc::c_int; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// What a caught signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// A child changed its state.
    Child,
    /// Someone asks us to end.
    Terminate,
}

/// `SIGCHLD` and `SIGTERM` as a descriptor.
#[derive(Debug)]
pub struct Signals(OwnedFd);

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set it is given; sigaddset changes an initialised one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Gives every signal its default disposition, whatever was inherited or set.
pub fn reset_dispositions() {
    // The kernel's own structure in its default state is all zero, and no longer than this on any machine. Not through
    // libc, which keeps 32 and 33 for itself and would leave them ignored when they were inherited so.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the default disposition runs no code of ours; the pointer is valid for reads, no old state is asked
        // for, and 8 is the size of the kernel's set. KILL and STOP are refused.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8);
        }
    }
}

/// Gives the signals that [`Signals::take_over`] ignores their default disposition again; the others have it since then.
/// Ten calls instead of 64 between fork and exec of every program.
pub fn reset_ignored() {
    for signal in IGNORED {
        // SAFETY: SIG_DFL runs no code of ours.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Unblocks every signal of the calling thread.
pub fn unblock_all() {
    let none = set_of(&[]);
    // SAFETY: the set is initialised, the old mask is not asked for.
    unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

impl Signals {
    /// Blocks both signals in this (only) thread, ignores what should not end a daemon, resets the rest.
    pub fn take_over() -> io::Result<Self> {
        reset_dispositions();
        for signal in IGNORED {
            // SAFETY: SIG_IGN runs no code of ours.
            unsafe {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
        let set = set_of(&[libc::SIGCHLD, libc::SIGTERM]);
        // SAFETY: the set is initialised; the descriptor that signalfd returns is new and ours alone.
        unsafe {
            if libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(fd))) }
        }
    }

    /// The next caught signal, `None` when there is none now.
    pub fn next(&self) -> Option<Caught> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        loop {
            match rustix::io::read(&self.0, &mut info) {
                Ok(length) if length == info.len() => {}
                Err(rustix::io::Errno::INTR) => continue,
                _ => return None,
            }
            // The number is the first field, ssi_signo.
            let number = u32::from_ne_bytes(info[..4].try_into().expect("four bytes"));
            return Some(if number == libc::SIGCHLD.cast_unsigned() { Caught::Child } else { Caught::Terminate });
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
