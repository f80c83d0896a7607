//! What a parent does with processes: names itself, becomes the reaper of orphans, waits, signals, and ends all
//! that is left below it.

use std::io;
use std::mem::MaybeUninit;

use hostler_model::exit::{ExitStatus, Usage};
use hostler_model::units::Signal;

use crate::procfs;

/// A child that ended and was reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Its number, free for others from now on.
    pub pid: u32,
    /// Code or signal.
    pub status: ExitStatus,
    /// Whether a core was dumped.
    pub core_dumped: bool,
    /// What it and its reaped descendants used.
    pub usage: Usage,
}

/// What a look for ended children found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// One ended.
    Reaped(Reaped),
    /// There are children, and none of them ended.
    NoneEnded,
    /// There is no child at all, and so no descendant.
    NoneLeft,
}

/// Whether to wait for an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Any child, only those that have ended.
    AtEnded,
    /// This child, until it has ended.
    UntilEnded(u32),
}

fn microseconds(time: libc::timeval) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000) + u64::try_from(time.tv_usec).unwrap_or(0)
}

/// Reaps one child.
pub fn wait(look: Look) -> io::Result<Waited> {
    let (which, flags) = match look {
        Look::AtEnded => (-1, libc::WNOHANG),
        Look::UntilEnded(pid) => (as_pid(pid)?, 0),
    };
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let pid = loop {
        // SAFETY: both pointers are valid for writes for the length of the call.
        let pid = unsafe { libc::wait4(which, &mut status, flags | libc::__WALL, usage.as_mut_ptr()) };
        match pid {
            0 => return Ok(Waited::NoneEnded),
            -1 => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Waited::NoneLeft),
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
            pid => break pid,
        }
    };
    // SAFETY: all-zero bytes are a valid rusage, and wait4 has filled it in.
    let usage = unsafe { usage.assume_init() };
    let ended = if libc::WIFSIGNALED(status) {
        let number = u8::try_from(libc::WTERMSIG(status)).ok().and_then(Signal::from_number);
        ExitStatus::Signal(number.unwrap_or(Signal::KILL))
    } else {
        ExitStatus::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
    };
    Ok(Waited::Reaped(Reaped {
        pid: pid.cast_unsigned(),
        status: ended,
        core_dumped: libc::WIFSIGNALED(status) && libc::WCOREDUMP(status),
        usage: Usage {
            user_us: microseconds(usage.ru_utime),
            system_us: microseconds(usage.ru_stime),
            max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
        },
    }))
}

/// Whether there is any child, ended ones that were not reaped included.
#[must_use]
pub fn has_children() -> bool {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the pointer is valid for writes; with WNOWAIT nothing is reaped.
    unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) == 0 }
}

/// Zero and negative numbers mean groups to `kill` and `wait`, never one process.
fn as_pid(pid: u32) -> io::Result<libc::pid_t> {
    libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Sends a signal to one process: a child that was not yet reaped, whose number can be nobody else's.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = as_pid(pid)?;
    // SAFETY: kill takes numbers only.
    if unsafe { libc::kill(pid, libc::c_int::from(signal.number())) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sweeps over the descendants before it is accepted that they fork faster than we look.
const SWEEPS: usize = 16;

/// Kills every descendant of this process. Stops them first, parents before children: what is stopped can neither
/// fork nor reap, so that the next look finds all, and no number changes hands between look and kill.
///
/// Returns whom it found. The caller reaps, and calls again until nothing is left.
pub fn kill_descendants() -> io::Result<Vec<u32>> {
    kill_with_descendants(Vec::new(), std::process::id())
}

/// The same to a child that is not reaped, and to all below it.
pub fn kill_tree(child: u32) -> io::Result<Vec<u32>> {
    let _ = signal(child, Signal::from_number(19).expect("SIGSTOP is a signal"));
    kill_with_descendants(vec![child], child)
}

fn kill_with_descendants(mut stopped: Vec<u32>, above: u32) -> io::Result<Vec<u32>> {
    let stop = Signal::from_number(19).expect("SIGSTOP is a signal");
    for _ in 0..SWEEPS {
        let found = match procfs::descendants(above) {
            Ok(found) => found,
            // A child that just ended: who is left of it is found as ours.
            Err(_) if above != std::process::id() => Vec::new(),
            Err(error) => return Err(error),
        };
        let before = stopped.len();
        for pid in found {
            if !stopped.contains(&pid) {
                // Gone meanwhile, or not ours to signal (a set-uid program of a rootless node).
                let _ = signal(pid, stop);
                stopped.push(pid);
            }
        }
        if stopped.len() == before {
            break;
        }
    }
    for pid in &stopped {
        let _ = signal(*pid, Signal::KILL);
    }
    Ok(stopped)
}

/// Orphaned descendants become our children, instead of those of process 1.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this prctl takes a number.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Leaves the parent's session and terminal. A process that leads a group already stays where it is.
pub fn new_session() {
    let _ = rustix::process::setsid();
}

/// Whether a program that we start could have this capability: it is in our bounding set.
#[must_use]
pub fn may_give(capability: hostler_model::Capability) -> bool {
    // SAFETY: this prctl takes numbers; a kernel that does not know the capability answers -1.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability.number()), 0, 0, 0) == 1 }
}

/// The name that `ps -o comm` and `/proc/<pid>/comm` show; 15 bytes.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the pointer is valid and ends in NUL; the kernel copies 16 bytes at most.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
}

/// Files are made without write permission for others.
pub fn set_umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

/// The user this process acts as.
#[must_use]
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Makes another process's score what a program's is; raising it is always allowed. A kernel without scores has none to
/// reset.
pub fn reset_oom_score(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0");
}

/// Makes the kernel prefer other victims, where it is allowed. Answers whether the score is now below zero, which
/// children must not inherit.
pub fn lower_oom_score(score: i32) -> bool {
    let current = || std::fs::read_to_string(OOM_SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if current().is_some_and(|now| now > score) {
        let _ = std::fs::write(OOM_SCORE, score.to_string());
    }
    current().is_some_and(|now| now < 0)
}
