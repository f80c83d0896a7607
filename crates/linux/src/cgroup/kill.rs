//! Killing everything in a group, so that a fork bomb does not win.
//!
//! v2 does it in the kernel (`cgroup.kill`, Linux 5.14). Elsewhere the group is frozen first, so that nothing forks while
//! its processes are signalled, and thawed after, because the frozen do not die. Where it cannot be frozen, its
//! `pids.max` becomes 0, and nothing new can be forked either. Each pass has a time budget; the caller repeats it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::{CgroupError, Controller, Group, Version, files, v1, v2};

/// Part of a pass spent waiting for the freezer, milliseconds.
const FREEZE_MS: u64 = 40;
/// From the start of a pass, when signalling one by one stops, milliseconds.
const SIGNAL_MS: u64 = 70;
/// Part of a pass spent waiting for the dying to be gone, milliseconds.
const EMPTY_MS: u64 = 20;
/// Descriptors held at a time; an agent has 1,024.
const PIDFDS_MAX: usize = 128;
/// Looks at a v1 group that does not become frozen before it is let go for a moment; 25 takes about 45 ms.
const THAW_EVERY: u32 = 25;
/// First and longest pause between two looks, microseconds.
const PAUSE_US: (u64, u64) = (100, 2_000);

/// Looks until `done`, with growing pauses.
fn wait_for<E>(limit: Duration, mut done: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
    let deadline = Instant::now() + limit;
    let mut pause_us = PAUSE_US.0;
    loop {
        if done()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_micros(pause_us));
        pause_us = (pause_us * 2).min(PAUSE_US.1);
    }
}

/// Freezes and waits. On v1 it is asked again at every look, and now and then thawed between: a group in which new
/// processes keep appearing, or one waits for another that is frozen already, may otherwise stay half frozen (libcontainer
/// has met both).
pub(super) fn freeze_within(group: &Group, limit: Duration) -> io::Result<bool> {
    let Some(freezer) = group.freezer() else { return Ok(false) };
    if group.version() == Version::V2 {
        v2::write_frozen(freezer)?;
        return wait_for(limit, || v2::is_frozen(freezer));
    }
    let mut looks = 0;
    wait_for(limit, || {
        looks += 1;
        if looks % THAW_EVERY == 0 {
            v1::write_thawed(freezer)?;
            std::thread::sleep(Duration::from_micros(PAUSE_US.0));
        }
        v1::write_frozen(freezer)?;
        v1::is_frozen(freezer)
    })
}

pub(super) fn thaw(group: &Group) -> io::Result<()> {
    let Some(freezer) = group.freezer() else { return Ok(()) };
    if group.version() == Version::V2 { v2::write_thawed(freezer) } else { v1::write_thawed(freezer) }
}

/// Thaws whatever happens.
struct Thaw<'a>(&'a Group);

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        let _ = thaw(self.0);
        // A group below may have been frozen by the workload itself, and the frozen do not die on v1.
        if self.0.version() == Version::V1
            && let Some(freezer) = self.0.freezer()
        {
            for below in files::subtree(freezer).iter().skip(1) {
                let _ = v1::write_thawed(below);
            }
        }
    }
}

pub(super) fn kill_all(group: &Group) -> Result<bool, CgroupError> {
    let start = Instant::now();
    group.refuse_own("kill")?;
    let thaw = Thaw(group);
    if group.is_empty()? {
        return Ok(true);
    }
    let killed_by_kernel = group.version() == Version::V2
        && group.freezer().is_some_and(|directory| files::write(&directory.join("cgroup.kill"), "1").is_ok());
    if !killed_by_kernel {
        let frozen = matches!(freeze_within(group, Duration::from_millis(FREEZE_MS)), Ok(true));
        let held = if frozen { kill_frozen(group) } else { Vec::new() };
        if !frozen && let Some(place) = group.place(Controller::Pids) {
            let _ = files::write(&place.join("pids.max"), "0");
        }
        // Not frozen, or (v1) moved out of the freezer's group by a workload with the right to do so.
        if group.pids()?.iter().any(|pid| held.binary_search(pid).is_err()) {
            for place in group.places()? {
                signal_running(&place.directory, start + Duration::from_millis(SIGNAL_MS));
            }
        }
    }
    drop(thaw);
    wait_for(Duration::from_millis(EMPTY_MS), || group.is_empty())
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Signals what stands still, and returns it, sorted. Nothing in the list can end or fork meanwhile, so no number can come
/// to mean another process.
fn kill_frozen(group: &Group) -> Vec<u32> {
    let mut held = group.freezer().and_then(|freezer| files::processes(freezer).ok()).unwrap_or_default();
    for pid in held.iter().filter_map(|pid| raw(*pid)) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    held.sort_unstable();
    held
}

/// Signals processes that may end meanwhile. A descriptor is taken first and the list read again: what is still listed
/// is what the descriptor means, and a number that was given to a stranger is left alone.
fn signal_running(directory: &Path, deadline: Instant) {
    let listed = files::processes(directory).unwrap_or_default();
    for batch in listed.chunks(PIDFDS_MAX) {
        let open = |pid: &u32| Some((*pid, rustix::process::pidfd_open(raw(*pid)?, PidfdFlags::empty()).ok()?));
        let held: Vec<_> = batch.iter().filter_map(open).collect();
        let still = files::processes(directory).unwrap_or_default();
        for (_, descriptor) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            let _ = rustix::process::pidfd_send_signal(descriptor, Signal::KILL);
        }
        if Instant::now() >= deadline {
            return;
        }
    }
}
