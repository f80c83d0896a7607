//! The files of cgroup v1: limits, statistics, the freezer state, out-of-memory kills and their eventfd.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use hostler_model::resources::Limits;
use rustix::event::EventfdFlags;

use super::limit::{Change, refused};
use super::{CgroupError, Controller, GroupStats, Place, explain, files, place};

/// Length of the window in which a CPU quota is counted, microseconds: the kernel's own default.
pub(super) const CPU_PERIOD_US: u64 = 100_000;
/// Smallest quota that the kernel takes, microseconds.
const CPU_QUOTA_MIN_US: u64 = 1_000;
/// The kernel shows "no limit" as the largest multiple of a page; anything near it is none.
pub(super) const UNLIMITED: u64 = 1 << 62;
/// Largest `pids.max`: the kernel's `PID_MAX_LIMIT`.
const PIDS_MAX: u32 = 4 * 1024 * 1024;

/// Quota and period for so many thousandths of a core; the same on both versions.
pub(super) fn cpu_quota_period_us(millis: u32) -> (u64, u64) {
    ((u64::from(millis) * CPU_PERIOD_US / 1_000).max(CPU_QUOTA_MIN_US), CPU_PERIOD_US)
}

/// The text for `pids.max`; the same on both versions.
pub(super) fn pids_max(pids: u32) -> String {
    if pids > PIDS_MAX { "max".to_owned() } else { pids.to_string() }
}

/// Makes a group in a hierarchy that a limit is asked of. The kernel lets nobody join a cpuset without CPUs and memory
/// nodes, and gives a new one none: it gets those of the group above.
pub(super) fn make(directory: &Path, is_cpuset: bool) -> io::Result<()> {
    let above = directory.parent().unwrap_or(Path::new("/"));
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::create_dir(above) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::create_dir(directory)?,
        },
        outcome => outcome?,
    }
    if is_cpuset { fill_cpuset(directory) } else { Ok(()) }
}

/// Gives a cpuset what the one above has, unless it has something; those above likewise.
pub(super) fn fill_cpuset(directory: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        // From here up to the first that has something.
        let mut empty = Vec::new();
        let mut found = None;
        for group in directory.ancestors() {
            let path = group.join(file);
            let text = files::read(&path)?;
            if !text.trim().is_empty() {
                found = Some(text);
                break;
            }
            empty.push(path);
        }
        if let Some(text) = found {
            for path in empty.iter().rev() {
                files::write(path, text.trim())?;
            }
        }
    }
    Ok(())
}

pub(super) fn set_memory(directory: &Path, limits: &Limits, change: &mut Change) -> Result<(), CgroupError> {
    if limits.memory_bytes.is_some() || limits.memory_swap_bytes.is_some() {
        set_memory_and_swap(directory, limits, change)?;
    }
    if let Some(bytes) = limits.memory_reservation_bytes {
        change.set("memory reservation", &directory.join("memory.soft_limit_in_bytes"), &bytes_text(bytes))?;
    }
    Ok(())
}

fn bytes_text(bytes: u64) -> String {
    if bytes >= UNLIMITED { "-1".to_owned() } else { bytes.to_string() }
}

fn set_memory_and_swap(directory: &Path, limits: &Limits, change: &mut Change) -> Result<(), CgroupError> {
    let limit_path = directory.join("memory.limit_in_bytes");
    // The sum of both; not there without swap accounting, and then nothing swaps past the limit that we could forbid.
    let sum_path = directory.join("memory.memsw.limit_in_bytes");
    let limit_before = files::read_u64(&limit_path).unwrap_or(UNLIMITED);
    let sum_before = files::read_u64(&sum_path).ok();
    let limit = limits.memory_bytes.unwrap_or(limit_before);
    if limits.memory_swap_bytes.is_some() && (limit >= UNLIMITED || sum_before.is_none()) {
        let why = match sum_before {
            None => "the kernel does not account swap; boot with swapaccount=1",
            Some(_) => "it goes on top of a memory limit, and there is none",
        };
        return Err(CgroupError::Unavailable { limit: "memory swap", why: why.to_owned() });
    }
    // Not named: what there was stays; with the first memory limit there is none.
    let kept = || match sum_before {
        Some(sum) if limit_before < UNLIMITED && sum >= UNLIMITED => UNLIMITED,
        Some(sum) if limit_before < UNLIMITED => sum.saturating_sub(limit_before),
        _ => 0,
    };
    let sum = limit.saturating_add(limits.memory_swap_bytes.unwrap_or_else(kept));
    let set_limit = |change: &mut Change| {
        change.write(&limit_path, &bytes_text(limit)).map_err(|error| {
            let used = || files::read_u64(&directory.join("memory.usage_in_bytes")).unwrap_or(0);
            memory_refusal(&limit_path, limit, used, &error)
        })
    };
    let set_sum = |change: &mut Change| match sum_before {
        None => Ok(()),
        Some(_) => change.write(&sum_path, &bytes_text(sum)).map_err(|error| {
            let used = || files::read_u64(&directory.join("memory.memsw.usage_in_bytes")).unwrap_or(0);
            memory_refusal(&sum_path, sum, used, &error)
        }),
    };
    // The sum must never be below the limit: it goes first on the way up and last on the way down.
    if sum_before.is_some_and(|before| sum > before) {
        set_sum(change)?;
        return set_limit(change);
    }
    set_limit(change)?;
    set_sum(change)
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

/// The quota, if there is to be one, and its period; absent: nothing about either is asked. `now` is what is in force.
pub(super) fn quota_asked(limits: &Limits, now: impl Fn() -> (Option<u64>, u64)) -> Option<(Option<u64>, u64)> {
    if let Some(millis) = limits.cpu_millis {
        let (quota, period) = cpu_quota_period_us(millis);
        return Some((Some(quota), period));
    }
    if limits.cpu_quota_us.is_none() && limits.cpu_period_us.is_none() {
        return None;
    }
    let (quota, period) = now();
    Some((limits.cpu_quota_us.or(quota), limits.cpu_period_us.unwrap_or(period)))
}

pub(super) fn set_cpu(directory: &Path, limits: &Limits, change: &mut Change) -> Result<(), CgroupError> {
    let quota_path = directory.join("cpu.cfs_quota_us");
    let period_path = directory.join("cpu.cfs_period_us");
    if let Some(shares) = limits.cpu_shares {
        change.set("cpu shares", &directory.join("cpu.shares"), &shares.to_string())?;
    }
    let now = || {
        // No quota reads as -1, which is not a number here.
        (files::read_u64(&quota_path).ok(), files::read_u64(&period_path).unwrap_or(CPU_PERIOD_US))
    };
    let Some((quota, period)) = quota_asked(limits, now) else { return Ok(()) };
    // Period and quota are two files, and either alone may break the rule that children get no more than parents:
    // without a quota any period is good.
    if files::read_u64(&period_path).ok() != Some(period) {
        change.set("cpu", &quota_path, "-1")?;
        change.set("cpu", &period_path, &period.to_string())?;
    }
    let Some(quota) = quota else { return Ok(()) };
    match change.write(&quota_path, &quota.to_string()) {
        Ok(()) => Ok(()),
        // v1 refuses a quota above an ancestor's. The ancestor's then is the one that counts, and it is smaller.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && ancestor_allows_less(directory, quota, period) => {
            change.set("cpu", &quota_path, "-1")
        }
        Err(error) => Err(refused("cpu", &quota_path, &error)),
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

pub(super) fn set_pids(directory: &Path, pids: u32, change: &mut Change) -> Result<(), CgroupError> {
    change.set("pids", &directory.join("pids.max"), &pids_max(pids))
}

pub(super) fn stats(places: &[Place]) -> GroupStats {
    let number = |controller, file: &str| {
        place(places, controller).and_then(|directory| files::read_u64(&directory.join(file)).ok())
    };
    let memory = place(places, Controller::Memory).and_then(|dir| files::read(&dir.join("memory.stat")).ok());
    let memory = |key: &str| files::keyed(memory.as_deref()?, key);
    GroupStats {
        cpu_us: number(Controller::Cpuacct, "cpuacct.usage").unwrap_or(0) / 1_000,
        memory_bytes: number(Controller::Memory, "memory.usage_in_bytes").unwrap_or(0),
        memory_limit_bytes: number(Controller::Memory, "memory.limit_in_bytes").filter(|bytes| *bytes < UNLIMITED),
        pids: number(Controller::Pids, "pids.current").and_then(|pids| u32::try_from(pids).ok()).unwrap_or(0),
        // "max" is not a number.
        pids_limit: number(Controller::Pids, "pids.max"),
        read_bytes: None,
        written_bytes: None,
        swap_bytes: memory("total_swap"),
        rss_bytes: memory("total_rss").map(|rss| rss.saturating_add(memory("total_mapped_file").unwrap_or(0))),
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
