//! What a run uses: the answer to `Stats`, the summary of the answers that are samples, and what the end says of both
//! output and use.

use hostler_linux::{procfs, usage};
use hostler_model::exit::Exit;
use hostler_model::statistics::Used;
use hostler_wire::RunStats;

use crate::log::Source;
use crate::run::Run;

/// Whether a look is one of those at `stats_interval_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Somebody wants to know.
    Aside,
    /// It counts in the summary.
    Sample,
}

impl Run {
    /// What it uses now.
    pub(crate) fn stats(&mut self, look: Look) -> RunStats {
        let group = self.group.as_ref().and_then(|group| group.stats().ok());
        let pids = match &self.group {
            Some(group) => group.pids().unwrap_or_default(),
            None => procfs::descendants(std::process::id()).unwrap_or_default(),
        };
        // Ours, and no part of the run.
        let init = self.room.as_ref().and_then(|room| room.init);
        let pids: Vec<u32> = pids.into_iter().filter(|pid| Some(*pid) != init).collect();
        let seen = usage::of_processes(&pids);
        let count = u32::try_from(pids.len()).unwrap_or(u32::MAX);
        // What a group has counted is more exact: it knows those that are gone. It may count only some things.
        let found = group.unwrap_or_default();
        let stats = RunStats {
            cpu_us: if found.cpu_us > 0 { found.cpu_us } else { seen.cpu_us },
            memory_bytes: if found.memory_bytes > 0 { found.memory_bytes } else { seen.rss_bytes },
            memory_limit_bytes: found.memory_limit_bytes,
            pids: if found.pids > 0 { found.pids } else { count },
            pids_limit: found.pids_limit,
            read_bytes: found.read_bytes.or(seen.read_bytes),
            written_bytes: found.written_bytes.or(seen.written_bytes),
            log_dropped_bytes: self.log.dropped_bytes(),
            rss_bytes: seen.rss_bytes,
            swap_bytes: found.swap_bytes.unwrap_or(seen.swap_bytes),
        };
        if look == Look::Sample {
            self.statistics.get_or_insert_default().add(&Used {
                cpu_us: stats.cpu_us,
                rss_bytes: stats.rss_bytes,
                swap_bytes: stats.swap_bytes,
                read_bytes: stats.read_bytes,
                written_bytes: stats.written_bytes,
            });
        }
        stats
    }

    /// Completes the end: lines, and what was used in all.
    pub(crate) fn account(&mut self, exit: &mut Exit) {
        exit.stdout_lines = self.log.lines(Source::Stdout);
        exit.stderr_lines = self.log.lines(Source::Stderr);
        exit.log_from = self.log.from();
        let Some(statistics) = &mut self.statistics else { return };
        let ended = Used { cpu_us: exit.usage.user_us.saturating_add(exit.usage.system_us), ..Used::default() };
        statistics.total(&ended);
        if let Some(found) = self.group.as_ref().and_then(|group| group.stats().ok()) {
            statistics.total(&Used {
                cpu_us: found.cpu_us,
                read_bytes: found.read_bytes,
                written_bytes: found.written_bytes,
                ..Used::default()
            });
        }
        exit.statistics = Some(statistics.clone());
    }
}
