//! What many processes use together, from `/proc`: for runs without a cgroup, and for what a cgroup does not count.
//!
//! Processes that are gone count with the parent that has waited for them, for CPU time and I/O alike; those of
//! parents that are gone themselves are no longer known to anybody.

use hostler_model::limits::STATS_PROCESSES_MAX;
use hostler_model::statistics::Used;

use crate::procfs;

/// `name: 123` lines of `/proc/<pid>/io`.
fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

/// The sum over these processes, the first [`STATS_PROCESSES_MAX`] of them. Those that end meanwhile, and what we may
/// not look at, add nothing.
#[must_use]
pub fn of_processes(pids: &[u32]) -> Used {
    let mut sum = Used::default();
    for pid in pids.iter().take(STATS_PROCESSES_MAX) {
        let Ok(stats) = procfs::stats(*pid) else { continue };
        sum.cpu_us = sum.cpu_us.saturating_add(stats.cpu_us).saturating_add(stats.children_cpu_us);
        sum.rss_bytes = sum.rss_bytes.saturating_add(stats.rss_bytes);
        if let Ok(status) = procfs::read(&format!("/proc/{pid}/status")) {
            sum.swap_bytes = sum.swap_bytes.saturating_add(procfs::kilobytes(&status, "VmSwap").unwrap_or(0));
        }
        if let Ok(io) = procfs::read(&format!("/proc/{pid}/io")) {
            let add = |sum: &mut Option<u64>, name| {
                if let Some(bytes) = keyed(&io, name) {
                    *sum = Some(sum.unwrap_or(0).saturating_add(bytes));
                }
            };
            add(&mut sum.read_bytes, "read_bytes");
            add(&mut sum.written_bytes, "write_bytes");
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_io() {
        let text = "rchar: 9\nread_bytes: 4096\nwrite_bytes: 0\ncancelled_write_bytes: 7\n";
        assert_eq!((keyed(text, "read_bytes"), keyed(text, "write_bytes")), (Some(4096), Some(0)));
        assert_eq!((keyed(text, "bytes"), keyed("read_bytes: many", "read_bytes")), (None, None));
    }

    #[test]
    fn ourselves_and_nobody() {
        let own = of_processes(&[std::process::id()]);
        assert!(own.rss_bytes > 0 && own.read_bytes.is_some() && own.written_bytes.is_some(), "{own:?}");
        let twice = of_processes(&[std::process::id(), std::process::id(), u32::MAX]);
        assert!(twice.rss_bytes > own.rss_bytes, "{twice:?}");
        assert_eq!(of_processes(&[u32::MAX]), Used::default());
        assert_eq!(of_processes(&[]), Used::default());
    }
}
