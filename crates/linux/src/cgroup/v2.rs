//! The files of cgroup v2: handing controllers down, limits, statistics, freezing, out-of-memory kills.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify;

use super::{CgroupError, Controller, GroupStats, explain, files, v1};

/// What a group of ours wants from the one above. `io` gives figures only; it is not missed.
const WANTED: [&str; 4] = ["memory", "cpu", "pids", "io"];

fn lists(path: &Path, controller: &str) -> bool {
    files::read(path).is_ok_and(|text| text.split_ascii_whitespace().any(|name| name == controller))
}

/// Whether `directory` hands down all that can be limited.
pub(super) fn hands_down_all(directory: &Path) -> bool {
    let text = files::read(&directory.join("cgroup.subtree_control")).unwrap_or_default();
    let names: Vec<_> = text.split_ascii_whitespace().collect();
    ["memory", "cpu", "pids"].iter().all(|wanted| names.contains(wanted))
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
    let name = controller.v1_name();
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

pub(super) fn set_memory(directory: &Path, bytes: u64) -> Result<(), CgroupError> {
    let current = || files::read_u64(&directory.join("memory.current")).unwrap_or(0);
    // v2 would kill to get below a limit. As on v1, a change that does not fit is refused instead.
    let used = current();
    if used > bytes {
        let _ = files::write(&directory.join("memory.reclaim"), &(used - bytes).to_string());
    }
    let path = directory.join("memory.max");
    let write =
        |text: &str| files::write(&path, text).map_err(|error| v1::memory_refusal(&path, bytes, current, &error));
    if current() > bytes {
        return Err(v1::memory_refusal(&path, bytes, current, &io::Error::from_raw_os_error(libc::EBUSY)));
    }
    write(&if bytes > i64::MAX as u64 { "max".to_owned() } else { bytes.to_string() })?;
    match files::write(&directory.join("memory.swap.max"), "0") {
        Err(error) if !files::is_gone(&error) => {
            let why = explain("write", &directory.join("memory.swap.max"), &error);
            Err(CgroupError::Unavailable { limit: "memory", why })
        }
        _ => Ok(()),
    }
}

pub(super) fn set_cpu(directory: &Path, millis: u32) -> Result<(), CgroupError> {
    let (quota, period) = v1::cpu_quota_period_us(millis);
    let path = directory.join("cpu.max");
    files::write(&path, &format!("{quota} {period}"))
        .map_err(|error| CgroupError::Unavailable { limit: "cpu", why: explain("write", &path, &error) })
}

pub(super) fn stats(directory: &Path) -> GroupStats {
    let number = |file: &str| files::read_u64(&directory.join(file)).ok();
    let text = |file: &str| files::read(&directory.join(file)).unwrap_or_default();
    let io = files::read(&directory.join("io.stat")).ok();
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
