//! Short jobs follow each other without waiting for the disk.
//!
//! ```text
//!            a job of the queue was short                 its turn
//!   waiting ──────────────────────────────► permitted ───────────────► under way, executed at once if the permission is
//!      ▲                                        │                      durable; the record of its start comes after it
//!      └──── 100 ms without another short job ──┘
//!            the daemon ends, or comes up
//! ```
//! Only in queues that run several jobs at a time, so that none may rely on the end of another.
//!
//! Nothing is executed before a record that says so is durable; this one says it a little earlier: not "run n is being
//! started" but "run n may be started". A daemon that comes up finds the run by its directory and goes on from there. After a loss
//! of power nobody can tell whether a permission was used, so the job counts as lost, as one does that was being
//! started; that is why only short jobs get one, and not for long.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostler_model::event::EventKind;
use hostler_model::ids::WorkloadId;
use hostler_model::queue::Turn;
use hostler_model::workload::{Run, RunState, Workload};
use hostler_model::{Now, RunId, limits};

use super::QueueKey;
use crate::fires;
use crate::input::Outcome;
use crate::state::State;

/// What is known of permissions; like all that is derived, not stored.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Queues in which a short job ended in this step.
    short: Vec<QueueKey>,
    last_number: u64,
    /// When those of a queue are taken back, boot clock.
    until_ms: BTreeMap<QueueKey, u64>,
}

impl Ahead {
    /// When the first are taken back.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        self.until_ms.values().min().copied()
    }
}

impl State {
    /// A run of a queue's job ended, and its place is free.
    pub(crate) fn note_short_job(&mut self, workload: &Workload, end: &RunState) {
        let RunState::Ended { exit } = end else { return };
        if let Some(name) = workload.spec.queue.as_ref().filter(|_| exit.duration_ms < limits::QUEUE_SHORT_JOB_MS) {
            let key = (workload.namespace.clone(), name.clone());
            if !self.ahead.short.contains(&key) {
                self.ahead.short.push(key);
            }
        }
    }

    /// Permits the jobs that will follow, and only those.
    pub(crate) fn permit_ahead(&mut self, now: Now, out: &mut Outcome) {
        let queues = std::mem::take(&mut self.ahead.short);
        if self.holds_starts() || !self.adopted {
            return;
        }
        for key in queues {
            // Of a queue with one job at a time each job may rely on the one before: its end is on disk first.
            let Some(queue) = self.queues.get(&key).filter(|queue| queue.record.parallel > 1) else { continue };
            let next = queue.next_ones(queue.record.parallel.min(limits::QUEUE_AHEAD_MAX) as usize);
            self.withdraw_of(&key, &next, out);
            for turn in next {
                self.permit(turn.workload, out);
            }
            if self.permitted_of(&key).next().is_some() {
                self.ahead.until_ms.insert(key, now.boot_ms + limits::QUEUE_AHEAD_MS);
            }
        }
    }

    fn permit(&mut self, id: WorkloadId, out: &mut Outcome) {
        // One with a client who watches is made to wait for him before it is executed.
        let is_new = |known: &&Arc<Workload>| {
            !known.spec.stdio.owner && known.queued.is_some_and(|queued| queued.ahead.is_none())
        };
        let Some(known) = self.workloads.get(&id).filter(is_new) else { return };
        let mut workload = Workload::clone(known);
        if let Some(queued) = &mut workload.queued {
            self.ahead.last_number += 1;
            queued.ahead = Some(self.ahead.last_number);
            self.put(workload, out);
        }
    }

    fn permitted_of<'a>(&'a self, key: &'a QueueKey) -> impl Iterator<Item = WorkloadId> + 'a {
        let is_of =
            |workload: &&Arc<Workload>| workload.namespace == key.0 && workload.spec.queue.as_ref() == Some(&key.1);
        self.permitted.iter().filter_map(|id| self.workloads.get(id)).filter(is_of).map(|workload| workload.id)
    }

    /// Takes those of a queue back, but for these.
    pub(crate) fn withdraw_of(&mut self, key: &QueueKey, but: &[Turn], out: &mut Outcome) {
        let others = self.permitted_of(key).filter(|id| but.iter().all(|turn| turn.workload != *id));
        for id in others.collect::<Vec<_>>() {
            self.withdraw(id, out);
        }
        self.ahead.until_ms.remove(key);
    }

    fn withdraw(&mut self, id: WorkloadId, out: &mut Outcome) {
        let Some(mut workload) = self.edit(id) else { return };
        if let Some(queued) = &mut workload.queued {
            queued.ahead = None;
        }
        self.put(workload, out);
    }

    /// Takes back those whose time is over.
    pub(crate) fn ahead_due(&mut self, now: Now, out: &mut Outcome) {
        let due = self.ahead.until_ms.iter().filter(|(_, until_ms)| **until_ms <= now.boot_ms);
        for key in due.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.withdraw_of(&key, &[], out);
        }
    }

    /// Takes all of them back.
    pub(crate) fn take_back(&mut self, out: &mut Outcome) {
        self.ahead.until_ms.clear();
        for id in self.permitted.iter().copied().collect::<Vec<_>>() {
            self.withdraw(id, out);
        }
    }

    /// The daemon came up. Runs that are there, whose start was never recorded, become what they are; `is_there` tells. After
    /// a reboot a permission may have been used, and nobody knows. The rest waits again.
    pub(crate) fn adopt_permitted(
        &mut self,
        is_there: impl Fn(&RunId) -> bool,
        rebooted: bool,
        now: Now,
        out: &mut Outcome,
    ) {
        let mut permitted: Vec<_> = self.permitted.iter().filter_map(|id| self.workloads.get(id)?.turn()).collect();
        permitted.sort_unstable();
        for turn in permitted {
            let Some(mut workload) = self.edit(turn.workload) else { continue };
            let run = RunId { workload: workload.id, number: workload.runs + 1 };
            if !is_there(&run) && !rebooted {
                continue;
            }
            // It may have begun at any time since then.
            let created_at_ms = workload.queued.take().map_or(now.wall_ms, |queued| queued.since_ms);
            workload.runs += 1;
            let deadline_boot_ms = now.boot_ms.saturating_add(workload.spec.start_deadline_ms);
            workload.run = Some(Box::new(Run::new(run, RunState::Preparing { deadline_boot_ms }, created_at_ms)));
            fires::begun(&mut workload);
            Self::event(&workload, EventKind::RunCreated, now, out);
            self.put(workload, out);
        }
        self.take_back(out);
    }
}
