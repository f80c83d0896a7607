//! What a run uses, and who its processes are: the answers to `Stats` and `Processes`, the summary of the answers that are samples, and what the end says of both
//! output and use.

use hostler_linux::cgroup::Group;
use hostler_linux::{look, process, procfs, usage};
use hostler_model::accounting::Accounting;
use hostler_model::exit::Exit;
use hostler_model::process::{Processes, Role};
use hostler_model::statistics::Used;
use hostler_model::units::Signal;
use hostler_wire::{AttachTarget, RunStats, StatsDepth};

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
    pub(crate) fn stats(&mut self, look: Look, depth: StatsDepth) -> RunStats {
        // What a group has counted is more exact: it knows those that are gone. It may count only some things.
        let found = self.group.as_ref().and_then(|group| group.stats().ok()).unwrap_or_default();
        let is_told = found.cpu_us > 0 && found.pids > 0 && found.rss_bytes.is_some();
        let mut seen = Used::default();
        let mut count = 0;
        let mut rss_bytes = found.rss_bytes.unwrap_or(0);
        // A brief look reads the files of no single process where the group says enough.
        if look == Look::Sample || depth != StatsDepth::Brief || !is_told {
            let pids = self.pids();
            seen = usage::of_processes(&pids);
            count = u32::try_from(pids.len()).unwrap_or(u32::MAX);
            rss_bytes = seen.rss_bytes;
        }
        let stats = RunStats {
            cpu_us: if found.cpu_us > 0 { found.cpu_us } else { seen.cpu_us },
            memory_bytes: if found.memory_bytes > 0 { found.memory_bytes } else { rss_bytes },
            memory_limit_bytes: found.memory_limit_bytes,
            pids: if found.pids > 0 { found.pids } else { count },
            pids_limit: found.pids_limit,
            read_bytes: found.read_bytes.or(seen.read_bytes),
            written_bytes: found.written_bytes.or(seen.written_bytes),
            log_dropped_bytes: self.log.dropped_bytes(),
            rss_bytes,
            swap_bytes: found.swap_bytes.unwrap_or(seen.swap_bytes),
            accounting: (depth == StatsDepth::Full).then(|| Box::new(self.accounting())),
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

    /// Its processes.
    fn pids(&self) -> Vec<u32> {
        let mut pids = match &self.group {
            Some(group) => group.members().unwrap_or_default(),
            None => procfs::descendants(std::process::id()).unwrap_or_default(),
        };
        // Ours, and no part of the run.
        let init = self.room.as_ref().and_then(|room| room.init);
        pids.retain(|pid| Some(*pid) != init);
        pids
    }

    fn accounting(&self) -> Accounting {
        let mut accounting = self.group.as_ref().map(Group::accounting).unwrap_or_default();
        // The main process, or whoever has outlived it.
        let main = self.targets.first().filter(|main| main.is_alive()).map(|main| main.pid);
        if let Some(pid) = main.or_else(|| self.pids().first().copied()) {
            accounting.network = look::interfaces(pid);
        }
        accounting
    }

    /// Who its processes are.
    pub(crate) fn processes(&self) -> Processes {
        let mut list = look::processes(&self.pids());
        for process in &mut list.processes {
            let target = self.targets.iter().find(|target| target.is_alive() && target.pid == process.pid);
            process.role = match target.map(|target| target.key) {
                Some(AttachTarget::Main) => Role::Main,
                Some(AttachTarget::Exec(exec)) => Role::Exec(exec),
                None => Role::Other,
            };
        }
        list
    }

    /// Sends a signal to one of its processes.
    pub(crate) fn signal_process(&mut self, pid: u32, signal: Signal) -> Result<(), String> {
        if let Some(target) = self.targets.iter_mut().find(|target| target.is_alive() && target.pid == pid) {
            target.signal(signal);
            return Ok(());
        }
        match process::signal_stranger(pid, signal, || self.pids().contains(&pid)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{pid} is no process of it")),
            Err(error) => Err(format!("cannot send {signal} to process {pid}: {error}")),
        }
    }

    /// Completes the end: lines, and what was used in all.
    pub(crate) fn account(&mut self, exit: &mut Exit) {
        exit.stdout_lines = self.log.lines(Source::Stdout);
        exit.stderr_lines = self.log.lines(Source::Stderr);
        exit.log_from = self.log.from();
        let Some(statistics) = &mut self.statistics else { return };
        let ended = Used { cpu_us: exit.usage.user_us.saturating_add(exit.usage.system_us), ..Used::default() };
        statistics.total(&ended);
        // The group of a guest has what its maker used, and not what the program did.
        let group = self.group.as_ref().filter(|_| self.guest.is_none());
        if let Some(found) = group.and_then(|group| group.stats().ok()) {
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
