//! The files of cgroup v1: limits, statistics, the freezer state, out-of-memory kills and their eventfd.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::event::EventfdFlags;

use super::{CgroupError, Controller, GroupStats, Place, explain, files};

/// Length of the window in which a CPU quota is counted, microseconds: the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;
/// Smallest quota that the kernel takes, microseconds.
const CPU_QUOTA_MIN_US: u64 = 1_000;
/// The kernel shows "no limit" as the largest multiple of a page; anything near it is none.
const UNLIMITED: u64 = 1 << 62;
/// Largest `pids.max`: the kernel's `PID_MAX_LIMIT`.
const PIDS_MAX: u32 = 4 * 1024 * 1024;

pub(super) fn place(places: &[Place], controller: Controller) -> Option<&Path> {
    places.iter().find(|place| place.holds(controller)).map(|place| place.directory.as_path())
}

/// Quota and period for so many thousandths of a core; the same on both versions.
pub(super) fn cpu_quota_period_us(millis: u32) -> (u64, u64) {
    ((u64::from(millis) * CPU_PERIOD_US / 1_000).max(CPU_QUOTA_MIN_US), CPU_PERIOD_US)
}

/// The text for `pids.max`; the same on both versions.
pub(super) fn pids_max(pids: u32) -> String {
    if pids > PIDS_MAX { "max".to_owned() } else { pids.to_string() }
}

pub(super) fn set_memory(directory: &Path, bytes: u64) -> Result<(), CgroupError> {
    let limit = directory.join("memory.limit_in_bytes");
    let with_swap = directory.join("memory.memsw.limit_in_bytes");
    let text = if bytes >= UNLIMITED { "-1".to_owned() } else { bytes.to_string() };
    // memsw must never be below the limit: it goes first on the way up and last on the way down. It is not there
    // without swap accounting, and then nothing swaps past the limit that we could forbid.
    let raising = files::read_u64(&limit).is_ok_and(|now| bytes > now);
    if raising {
        let _ = files::write(&with_swap, &text);
    }
    files::write(&limit, &text).map_err(|error| {
        let used = || files::read_u64(&directory.join("memory.usage_in_bytes")).unwrap_or(0);
        memory_refusal(&limit, bytes, used, &error)
    })?;
    if !raising {
        let _ = files::write(&with_swap, &text);
    }
    Ok(())
}

/// Why a memory limit was refused: most often because more is in use.
pub(super) fn memory_refusal(path: &Path, asked: u64, used: impl Fn() -> u64, error: &io::Error) -> CgroupError {
    let why = if error.raw_os_error() == Some(libc::EBUSY) {
        format!("{} bytes are in use and cannot be reclaimed, more than the {asked} asked for", used())
    } else {
        explain("write", path, error)
    };
    CgroupError::Unavailable { limit: "memory", why }
}

pub(super) fn set_cpu(directory: &Path, millis: u32) -> Result<(), CgroupError> {
    let (quota, period) = cpu_quota_period_us(millis);
    let refused =
        |path: &Path, error: &io::Error| CgroupError::Unavailable { limit: "cpu", why: explain("write", path, error) };
    // Period and quota are two files, and either alone may break the rule that children get no more than parents:
    // without a quota any period is good.
    let quota_path = directory.join("cpu.cfs_quota_us");
    let period_path = directory.join("cpu.cfs_period_us");
    if files::read_u64(&period_path).ok() != Some(period) {
        files::write(&quota_path, "-1").map_err(|error| refused(&quota_path, &error))?;
        files::write(&period_path, &period.to_string()).map_err(|error| refused(&period_path, &error))?;
    }
    match files::write(&quota_path, &quota.to_string()) {
        Ok(()) => Ok(()),
        // v1 refuses a quota above an ancestor's. The ancestor's then is the one that counts, and it is smaller.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && ancestor_allows_less(directory, quota, period) => {
            files::write(&quota_path, "-1").map_err(|error| refused(&quota_path, &error))
        }
        Err(error) => Err(refused(&quota_path, &error)),
    }
}

fn ancestor_allows_less(directory: &Path, quota: u64, period: u64) -> bool {
    let above = directory.ancestors().skip(1).take_while(|above| above.join("cpu.cfs_quota_us").exists());
    above.into_iter().any(|above| {
        // No quota reads as -1, which is not a number here.
        let theirs = files::read_u64(&above.join("cpu.cfs_quota_us"));
        let window = files::read_u64(&above.join("cpu.cfs_period_us"));
        matches!((theirs, window), (Ok(theirs), Ok(window))
            if u128::from(theirs) * u128::from(period) < u128::from(quota) * u128::from(window))
    })
}

pub(super) fn set_pids(directory: &Path, pids: u32) -> Result<(), CgroupError> {
    let path = directory.join("pids.max");
    files::write(&path, &pids_max(pids))
        .map_err(|error| CgroupError::Unavailable { limit: "pids", why: explain("write", &path, &error) })
}

pub(super) fn stats(places: &[Place]) -> GroupStats {
    let number = |controller, file: &str| {
        place(places, controller).and_then(|directory| files::read_u64(&directory.join(file)).ok())
    };
    GroupStats {
        cpu_us: number(Controller::Cpuacct, "cpuacct.usage").unwrap_or(0) / 1_000,
        memory_bytes: number(Controller::Memory, "memory.usage_in_bytes").unwrap_or(0),
        memory_limit_bytes: number(Controller::Memory, "memory.limit_in_bytes").filter(|bytes| *bytes < UNLIMITED),
        pids: number(Controller::Pids, "pids.current").and_then(|pids| u32::try_from(pids).ok()).unwrap_or(0),
        // "max" is not a number.
        pids_limit: number(Controller::Pids, "pids.max"),
        read_bytes: None,
        written_bytes: None,
        swap_bytes: place(places, Controller::Memory)
            .and_then(|directory| files::read(&directory.join("memory.stat")).ok())
            .and_then(|text| files::keyed(&text, "total_swap")),
    }
}

/// v1 counts an OOM kill in the victim's own group only, so groups below are added.
pub(super) fn oom_kills(memory: &Path) -> u64 {
    let groups = files::subtree(memory);
    let counts = groups.iter().map(|group| {
        let text = files::read(&group.join("memory.oom_control")).unwrap_or_default();
        files::keyed(&text, "oom_kill").unwrap_or(0)
    });
    counts.fold(0, u64::saturating_add)
}

/// An eventfd that the kernel raises when the group runs out of memory, and once more when it is removed.
pub(super) fn oom_watch(memory: &Path) -> Result<OwnedFd, CgroupError> {
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|error| CgroupError::io("make an eventfd for", memory, error.into()))?;
    let path = memory.join("memory.oom_control");
    let watched = std::fs::File::open(&path).map_err(|error| CgroupError::io("open", &path, error))?;
    let control = memory.join("cgroup.event_control");
    files::write(&control, &format!("{} {}", event.as_raw_fd(), watched.as_raw_fd()))
        .map_err(|error| CgroupError::io("write", &control, error))?;
    Ok(event)
}

pub(super) fn write_frozen(freezer: &Path) -> io::Result<()> {
    files::write(&freezer.join("freezer.state"), "FROZEN")
}

pub(super) fn write_thawed(freezer: &Path) -> io::Result<()> {
    files::write(&freezer.join("freezer.state"), "THAWED")
}

pub(super) fn is_frozen(freezer: &Path) -> io::Result<bool> {
    files::read(&freezer.join("freezer.state")).map(|state| state.trim() == "FROZEN")
}
