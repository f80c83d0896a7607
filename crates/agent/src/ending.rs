//! How a run comes to its end: time-outs, kills, the drain, the record, and waiting for the node and for readers.
//!
//! A run is over when its main program is over. What is left then may write for `DRAIN_MAX_MS` into the pipes it holds,
//! if it holds any; then it is killed, what the pipes contain is read, execs are reported, the end is recorded, and only
//! then the node is told. On the usual way there is nothing left, the pipes are at their end, and nothing waits.

use hostler_linux::{clock, process};
use hostler_model::exit::Cause;
use hostler_model::limits::{DRAIN_MAX_MS, EXECS_PER_RUN_MAX, EXIT_SYNC_AFTER_MS, KILL_MAX_MS, OWNER_GRACE_MS};
use hostler_model::rundir::{ExecEnd, Outcome};
use hostler_model::units::Signal;
use hostler_wire::{AttachTarget, FromAgent};

use crate::run::{After, Phase, Run};
use crate::shared::Shared;
use crate::target::{Owner, Target};

/// Between two sweeps over what does not die, milliseconds.
const SWEEP_MS: u64 = 20;
/// Looks at the OOM counter after a notification, and the time between them, milliseconds.
const OOM_LOOKS: (u32, u64) = (10, 20);

/// Everything is being killed.
pub(crate) struct Killing {
    next_ms: u64,
    give_up_ms: u64,
    stuck: bool,
}

impl Killing {
    /// Something does not die.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck
    }
}

/// What becomes of the agent after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It leaves.
    No,
    /// It is idle, and says so.
    Yes,
    /// It is idle, and the node knows it.
    Known,
}

impl Reuse {
    pub(crate) fn new(reuse: bool, assume_idle: bool) -> Self {
        match (reuse, assume_idle) {
            (false, _) => Self::No,
            (true, false) => Self::Yes,
            (true, true) => Self::Known,
        }
    }
}

/// Whether this process has children, as the last look for ended ones told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Children {
    Some,
    None,
}

impl Shared {
    /// When a record made now is synced: at once when there is nobody who could commit it.
    pub(crate) fn sync_at_ms(&self) -> u64 {
        clock::boot_ms() + if self.connected { EXIT_SYNC_AFTER_MS } else { 0 }
    }
}

impl Run {
    /// The node wants everything killed.
    pub(crate) fn kill(&mut self, shared: &mut Shared) {
        match self.phase {
            Phase::Preparing | Phase::Prepared => self.fail(
                hostler_model::workload::StartFailure {
                    kind: hostler_model::workload::StartFailureKind::Cancelled,
                    message: "killed before it was started".to_owned(),
                },
                shared,
            ),
            Phase::Starting | Phase::Running if self.guest.is_some() => self.kill_in_guest(clock::boot_ms()),
            // Its disks are being settled, or soon will be: that has an end of its own, and must not be cut short.
            Phase::Ending { .. } if self.keeps_disks() => {}
            Phase::Starting | Phase::Running | Phase::Ending { .. } => {
                for target in &mut self.targets {
                    target.signal(Signal::KILL);
                }
                self.start_killing();
            }
            Phase::Undoing(_) | Phase::Ended { .. } | Phase::Failed { .. } => {}
        }
    }

    pub(crate) fn start_killing(&mut self) {
        if self.killing.is_none() {
            let now_ms = clock::boot_ms();
            self.killing = Some(Killing { next_ms: now_ms, give_up_ms: now_ms + KILL_MAX_MS, stuck: false });
        }
    }

    pub(crate) fn main_ended(&mut self, now_ms: u64) {
        self.phase = Phase::Ending { drain_until_ms: now_ms + DRAIN_MAX_MS };
    }

    /// Does everything whose time has come. May be called at any time.
    pub(crate) fn advance(&mut self, children: Children, shared: &mut Shared, now_ms: u64) -> After {
        self.announce(shared);
        for target in &mut self.targets {
            if let Owner::Expected { until_ms: Some(until_ms) } = target.owner
                && until_ms <= now_ms
            {
                target.owner = Owner::Nobody;
            }
        }
        self.watch_memory(shared, now_ms);
        self.watch_time(now_ms);
        if children == Children::Some {
            self.sweep(shared, now_ms);
        }
        self.end_execs(shared, now_ms);
        self.advance_container(children, shared, now_ms);
        self.advance_guest(shared, now_ms);
        match self.phase {
            Phase::Ending { drain_until_ms } => self.end(children, drain_until_ms, shared, now_ms),
            Phase::Undoing(crate::run::Undo::Abort) if self.targets.is_empty() && self.is_container_gone() => {
                return After::Undone;
            }
            _ => {}
        }
        self.after(shared, now_ms)
    }

    fn watch_time(&mut self, now_ms: u64) {
        if self.phase != Phase::Running {
            return;
        }
        let stop = self.stop;
        if self.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            self.timed_out = true;
            self.kill_at_ms = Some(now_ms.saturating_add(stop.grace_ms));
            if self.guest.is_some() {
                self.signal_in_guest(AttachTarget::Main, stop.signal);
            } else if let Some(main) = self.main() {
                let _ = process::signal(main.pid, stop.signal);
            }
        }
        if self.kill_at_ms.is_some_and(|kill_at_ms| kill_at_ms <= now_ms) {
            self.kill_at_ms = None;
            if self.guest.is_some() {
                self.kill_in_guest(now_ms);
            } else {
                self.start_killing();
            }
        }
    }

    /// When `max_time` passes, unless it has.
    fn deadline_ms(&self) -> Option<u64> {
        let started = self.targets.first()?.started?;
        (!self.timed_out && self.phase == Phase::Running).then_some(started.boot_ms.saturating_add(self.max_time_ms?))
    }

    /// The kernel says that the group is out of memory, perhaps a moment before it kills.
    pub(crate) fn out_of_memory(&mut self, now_ms: u64) {
        self.oom_looks = OOM_LOOKS.0;
        self.oom_look_at_ms = Some(now_ms);
    }

    fn watch_memory(&mut self, shared: &mut Shared, now_ms: u64) {
        if self.oom_look_at_ms.is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        self.oom_looks = self.oom_looks.saturating_sub(1);
        self.oom_look_at_ms = (self.oom_looks > 0).then_some(now_ms + OOM_LOOKS.1);
        let kills = self.group.as_ref().map_or(0, hostler_linux::cgroup::Group::oom_kills);
        if kills > self.oom_kills {
            self.oom_kills = kills;
            shared.send(&FromAgent::Oom { run: self.id, oom_kills: kills });
        }
    }

    fn sweep(&mut self, shared: &mut Shared, now_ms: u64) {
        let Some(killing) = &mut self.killing else { return };
        if killing.next_ms > now_ms {
            return;
        }
        // The group first: it knows those who moved away from us. The rest may have left the group.
        if let Some(group) = &self.group {
            let _ = group.kill_all();
        }
        let left = process::kill_descendants().unwrap_or_default();
        killing.next_ms = now_ms + SWEEP_MS;
        if now_ms >= killing.give_up_ms && !killing.stuck && !left.is_empty() {
            killing.stuck = true;
            shared.send(&FromAgent::Stuck { run: self.id, pids: left });
        }
    }

    /// Reports execs whose program has ended and whose output is read, and forgets those that nobody waits for.
    fn end_execs(&mut self, shared: &mut Shared, now_ms: u64) {
        let (timed_out, oom_kills) = (self.timed_out, self.oom_kills);
        for target in &mut self.targets {
            let (AttachTarget::Exec(exec), Some(ended)) = (target.key, target.ended) else { continue };
            let late = now_ms >= ended.boot_ms + DRAIN_MAX_MS && target.is_quiet();
            if !target.reported && (target.is_drained() || late) {
                report_exec(target, exec, (timed_out, oom_kills), &mut self.exec_ends, shared);
            }
        }
        let channels = &self.channels;
        self.targets.retain(|target| {
            target.key == AttachTarget::Main
                || !target.reported
                || target.is_alive()
                || target.owner != Owner::Nobody
                || channels.any_on(target.key)
        });
    }

    fn end(&mut self, children: Children, drain_until_ms: u64, shared: &mut Shared, now_ms: u64) {
        let drained = self.targets.iter().all(Target::is_drained);
        let main_drained = self.targets.first().is_none_or(Target::is_drained);
        if children == Children::Some {
            // Its container ended because it is saved, and that is not over.
            if self.is_being_saved() {
                return;
            }
            // Its machine may take a moment to bring to its disks what belongs there.
            let is_over = main_drained || now_ms >= drain_until_ms;
            if self.killing.is_none() && is_over && self.end_machine(now_ms) {
                return;
            }
            if self.killing.is_none() && is_over {
                self.start_killing();
                self.sweep(shared, now_ms);
            }
            // Those that cannot be killed do not keep the end from being recorded.
            if self.killing.as_ref().is_none_or(|killing| !killing.stuck) {
                return;
            }
        }
        // Nothing of the run writes any more. What is still open is held by someone outside, or not yet read.
        let quiet = self.targets.iter().all(Target::is_quiet);
        let late = now_ms >= drain_until_ms && quiet || now_ms >= drain_until_ms + 2 * DRAIN_MAX_MS;
        if drained || late {
            self.finish(children, shared, now_ms);
        }
    }

    fn finish(&mut self, children: Children, shared: &mut Shared, now_ms: u64) {
        if let Some(group) = &self.group {
            self.oom_kills = self.oom_kills.max(group.oom_kills());
        }
        self.close_oom_watch(shared);
        self.oom_look_at_ms = None;
        self.killing = None;
        let (timed_out, oom_kills) = (self.timed_out, self.oom_kills);
        for target in &mut self.targets {
            target.close_streams(shared, &mut Vec::new());
            match target.key {
                AttachTarget::Exec(exec) if !target.reported => {
                    report_exec(target, exec, (timed_out, oom_kills), &mut self.exec_ends, shared);
                }
                _ => {}
            }
            if target.owner == (Owner::Expected { until_ms: None }) {
                target.owner_is_away(now_ms);
            }
        }
        self.log.close();
        let Some(mut exit) = self.main().and_then(|main| main.exit(timed_out, oom_kills)) else { return };
        if exit.cause == Cause::Machine {
            exit.note = self.machine_words();
        }
        self.account(&mut exit);
        if let Some(directory) = &self.directory {
            // A record that cannot be written is missing after a crash of both; the node hears of the end all the same.
            let _ = directory.write_exit(self.id, Outcome::Exited { exit: exit.clone() }, &self.exec_ends);
        }
        let clean = children == Children::None && self.group.is_none() && self.is_served();
        shared.send(&FromAgent::Exited { run: self.id, exit: exit.clone(), clean });
        self.progress_ms = now_ms;
        self.phase = Phase::Ended { exit, sync_at_ms: Some(shared.sync_at_ms()) };
    }

    /// The end is in the node's store.
    pub(crate) fn commit(&mut self, reuse: Reuse, now_ms: u64, shared: &mut Shared) {
        if matches!(self.phase, Phase::Ended { .. } | Phase::Failed { .. }) {
            // The run directory is how others find a container that is still to be taken away.
            if self.is_container_gone() {
                self.remove_records(shared);
                self.remove_group();
            }
            if let Phase::Ended { sync_at_ms, .. } | Phase::Failed { sync_at_ms, .. } = &mut self.phase {
                *sync_at_ms = None;
            }
            self.committed = Some(reuse);
            self.progress_ms = now_ms;
        }
    }

    fn after(&mut self, shared: &Shared, now_ms: u64) -> After {
        let (Phase::Ended { sync_at_ms, .. } | Phase::Failed { sync_at_ms, .. }) = &mut self.phase else {
            return After::Stay;
        };
        if sync_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            *sync_at_ms = None;
            if let Some(directory) = &self.directory {
                directory.sync();
            }
        }
        let synced = sync_at_ms.is_none();
        let served = self.is_served() && self.is_container_gone();
        match self.committed {
            Some(reuse) if served || (self.is_container_gone() && now_ms >= self.progress_ms + OWNER_GRACE_MS) => {
                After::Over { reuse }
            }
            None if !shared.linked && synced && served => After::Leave,
            _ => After::Stay,
        }
    }

    /// Whether every reader has everything, as far as there are readers.
    fn is_served(&self) -> bool {
        self.channels.is_empty() && !self.targets.iter().any(Target::has_unsent)
    }

    /// When something is to be done, if nothing else happens before.
    pub(crate) fn next_ms(&self, children: Children) -> Option<u64> {
        let mut next: Option<u64> = None;
        let mut at = |ms: Option<u64>| {
            next = match (next, ms) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        };
        at(self.deadline_ms());
        at(self.oom_look_at_ms);
        at(self.container_next_ms());
        at(self.guest_next_ms());
        if self.phase == Phase::Running {
            at(self.kill_at_ms);
        }
        if children == Children::Some {
            at(self.killing.as_ref().map(|killing| killing.next_ms));
        }
        for target in &self.targets {
            if let Owner::Expected { until_ms } = target.owner {
                at(until_ms);
            }
            if target.key != AttachTarget::Main && !target.reported {
                at(target.ended.map(|ended| ended.boot_ms + DRAIN_MAX_MS));
            }
        }
        match &self.phase {
            Phase::Ending { drain_until_ms } if self.killing.is_none() => {
                let late = clock::boot_ms() >= *drain_until_ms;
                at(Some(*drain_until_ms + if late { 2 * DRAIN_MAX_MS } else { 0 }));
            }
            Phase::Ending { drain_until_ms } => at(Some(*drain_until_ms + 2 * DRAIN_MAX_MS)),
            Phase::Ended { sync_at_ms, .. } | Phase::Failed { sync_at_ms, .. } => {
                at(*sync_at_ms);
                if self.committed.is_some() {
                    at(Some(self.progress_ms + OWNER_GRACE_MS));
                }
            }
            _ => {}
        }
        next
    }
}

fn report_exec(
    target: &mut Target,
    exec: hostler_model::ids::ExecId,
    (timed_out, oom_kills): (bool, u64),
    ends: &mut Vec<ExecEnd>,
    shared: &mut Shared,
) {
    target.reported = true;
    target.close_streams(shared, &mut Vec::new());
    // The run's time-out and OOM kills explain a kill, not another end.
    let ours = target.ended.is_some_and(|ended| !matches!(ended.reaped.status, hostler_model::ExitStatus::Code(_)));
    if let Some(exit) = target.exit(timed_out && ours, if ours { oom_kills } else { 0 }) {
        shared.send(&FromAgent::ExecExited { exec, exit: exit.clone() });
        // A node that is there records them as they come; one that is away has the last ones waiting for it.
        if ends.len() >= EXECS_PER_RUN_MAX {
            ends.remove(0);
        }
        ends.push(ExecEnd { exec, pid: target.pid, exit });
    }
}
