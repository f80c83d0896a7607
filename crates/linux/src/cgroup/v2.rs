//! The files of cgroup v2: handing controllers down, limits, statistics, freezing, out-of-memory kills.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use hostler_model::resources::Limits;
use rustix::fs::inotify;

use super::limit::{Change, asked, refused};
use super::{CgroupError, Controller, GroupStats, explain, files, v1};

/// What a group of ours wants from the one above. What follows the first three is not missed until a limit asks for it.
const WANTED: [&str; 6] = ["memory", "cpu", "pids", "io", "cpuset", "hugetlb"];

fn lists(path: &Path, controller: &str) -> bool {
    files::read(path).is_ok_and(|text| text.split_ascii_whitespace().any(|name| name == controller))
}

/// Whether `directory` hands down all that is mostly limited, and what `limits` asks for.
pub(super) fn hands_down(directory: &Path, limits: &Limits) -> bool {
    let text = files::read(&directory.join("cgroup.subtree_control")).unwrap_or_default();
    let names: Vec<_> = text.split_ascii_whitespace().collect();
    let asked = [Controller::Cpuset, Controller::Blkio].into_iter().filter(|held| asked(*held, limits).is_some());
    ["memory", "cpu", "pids"].into_iter().chain(asked.map(Controller::v2_name)).all(|wanted| names.contains(&wanted))
}

/// Asks each of `chain`, top first, to hand down all we want. What is refused shows in [`handed_down`].
pub(super) fn hand_down(chain: &[&Path]) {
    for controller in WANTED {
        for directory in chain {
            let path = directory.join("cgroup.subtree_control");
            if !lists(&path, controller) && files::write(&path, &format!("+{controller}")).is_err() {
                break;
            }
        }
    }
}

/// Whether the last of `chain` hands `controller` down; if not, the first that does not, and why.
pub(super) fn handed_down(chain: &[&Path], controller: Controller) -> Result<(), String> {
    let name = controller.v2_name();
    for directory in chain {
        let path = directory.join("cgroup.subtree_control");
        if lists(&path, name) {
            continue;
        }
        let shown = directory.display();
        if !lists(&directory.join("cgroup.controllers"), name) {
            return Err(format!(
                "the {name} controller is not handed down to {shown}; have it delegated (systemd: Delegate=yes on \
                 the unit) or name another group as cgroup.parent"
            ));
        }
        // Asked again to learn why.
        match files::write(&path, &format!("+{name}")) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(format!(
                    "{shown} has processes of its own, so the kernel does not let it hand {name} down; move them to \
                     a leaf below it, or name an empty delegated group as cgroup.parent"
                ));
            }
            Err(error) => return Err(explain("write", &path, &error)),
        }
    }
    Ok(())
}

pub(super) fn set_memory(directory: &Path, limits: &Limits, change: &mut Change) -> Result<(), CgroupError> {
    let limit_path = directory.join("memory.max");
    let swap_path = directory.join("memory.swap.max");
    let had_limit = || files::read_u64(&limit_path).is_ok();
    // Not named: what there was stays; with the first memory limit there is none.
    let swap = match (limits.memory_bytes, limits.memory_swap_bytes) {
        (_, Some(bytes)) => Some(bytes),
        (Some(_), None) if !had_limit() => Some(0),
        _ => None,
    };
    if limits.memory_swap_bytes.is_some() && limits.memory_bytes.is_none() && !had_limit() {
        let why = "it goes on top of a memory limit, and there is none".to_owned();
        return Err(CgroupError::Unavailable { limit: "memory swap", why });
    }
    if let Some(bytes) = limits.memory_bytes {
        set_memory_max(directory, &limit_path, bytes, change)?;
    }
    if let Some(bytes) = swap {
        match change.write(&swap_path, &bytes_text(bytes)) {
            // Without swap accounting nothing swaps past the limit that we could forbid.
            Err(error) if files::is_gone(&error) && limits.memory_swap_bytes.is_none() => {}
            outcome => outcome.map_err(|error| refused("memory swap", &swap_path, &error))?,
        }
    }
    // What v1 calls the soft limit; the OCI runtimes take this file for it.
    if let Some(bytes) = limits.memory_reservation_bytes {
        change.set("memory reservation", &directory.join("memory.low"), &bytes_text(bytes))?;
    }
    Ok(())
}

fn bytes_text(bytes: u64) -> String {
    if bytes > i64::MAX as u64 { "max".to_owned() } else { bytes.to_string() }
}

fn set_memory_max(directory: &Path, path: &Path, bytes: u64, change: &mut Change) -> Result<(), CgroupError> {
    let current = || files::read_u64(&directory.join("memory.current")).unwrap_or(0);
    // v2 would kill to get below a limit. As on v1, a change that does not fit is refused instead.
    let used = current();
    if used > bytes {
        let _ = files::write(&directory.join("memory.reclaim"), &(used - bytes).to_string());
    }
    if current() > bytes {
        return Err(v1::memory_refusal(path, bytes, current, &io::Error::from_raw_os_error(libc::EBUSY)));
    }
    change.write(path, &bytes_text(bytes)).map_err(|error| v1::memory_refusal(path, bytes, current, &error))
}

pub(super) fn set_cpu(directory: &Path, limits: &Limits, change: &mut Change) -> Result<(), CgroupError> {
    if let Some(shares) = limits.cpu_shares {
        // 2…262,144 become 1…10,000, as the OCI runtimes do it.
        let weight = 1 + shares.saturating_sub(2).min(262_142) * 9_999 / 262_142;
        change.set("cpu shares", &directory.join("cpu.weight"), &weight.to_string())?;
    }
    let path = directory.join("cpu.max");
    let now = || {
        let text = files::read(&path).unwrap_or_default();
        let mut words = text.split_ascii_whitespace();
        let quota = words.next().and_then(|quota| quota.parse().ok());
        (quota, words.next().and_then(|period| period.parse().ok()).unwrap_or(v1::CPU_PERIOD_US))
    };
    let Some((quota, period)) = v1::quota_asked(limits, now) else { return Ok(()) };
    let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
    change.set("cpu", &path, &format!("{quota} {period}"))
}

pub(super) fn stats(directory: &Path) -> GroupStats {
    let number = |file: &str| files::read_u64(&directory.join(file)).ok();
    let text = |file: &str| files::read(&directory.join(file)).unwrap_or_default();
    let io = files::read(&directory.join("io.stat")).ok();
    let memory = text("memory.stat");
    let memory = |key: &str| files::keyed(&memory, key);
    // `8:0 rbytes=1 wbytes=2 rios=3 …`, one line a device.
    let sum = |key: &str| {
        let words = io.as_deref()?.split_ascii_whitespace();
        let values = words.filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok());
        Some(values.fold(0, u64::saturating_add))
    };
    GroupStats {
        cpu_us: files::keyed(&text("cpu.stat"), "usage_usec").unwrap_or(0),
        memory_bytes: number("memory.current").unwrap_or(0),
        memory_limit_bytes: number("memory.max"),
        pids: number("pids.current").and_then(|pids| u32::try_from(pids).ok()).unwrap_or(0),
        pids_limit: number("pids.max"),
        read_bytes: sum("rbytes"),
        written_bytes: sum("wbytes"),
        swap_bytes: number("memory.swap.current"),
        rss_bytes: memory("anon").map(|anon| anon.saturating_add(memory("file_mapped").unwrap_or(0))),
    }
}

/// v2 adds up what happens in groups below by itself.
pub(super) fn oom_kills(directory: &Path) -> u64 {
    let text = files::read(&directory.join("memory.events")).unwrap_or_default();
    files::keyed(&text, "oom_kill").unwrap_or(0)
}

/// An inotify descriptor that becomes readable when `memory.events` changes.
pub(super) fn oom_watch(directory: &Path) -> Result<OwnedFd, CgroupError> {
    let path = directory.join("memory.events");
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(|error| CgroupError::io("make an inotify instance for", &path, error.into()))?;
    inotify::add_watch(&watch, &path, inotify::WatchFlags::MODIFY)
        .map_err(|error| CgroupError::io("watch", &path, error.into()))?;
    Ok(watch)
}

pub(super) fn write_frozen(directory: &Path) -> io::Result<()> {
    files::write(&directory.join("cgroup.freeze"), "1")
}

pub(super) fn write_thawed(directory: &Path) -> io::Result<()> {
    files::write(&directory.join("cgroup.freeze"), "0")
}

pub(super) fn is_frozen(directory: &Path) -> io::Result<bool> {
    files::read(&directory.join("cgroup.events")).map(|text| files::keyed(&text, "frozen") == Some(1))
}

/// Whether nothing runs in the group or below it, processes of foreign pid namespaces included.
pub(super) fn is_empty(directory: &Path) -> Option<bool> {
    let text = files::read(&directory.join("cgroup.events")).ok()?;
    files::keyed(&text, "populated").map(|populated| populated == 0)
}
