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

use std::sync::Arc;

use hostler_model::event::EventKind;
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
    /// When they are taken back, boot clock.
    until_ms: Option<u64>,
}

impl Ahead {
    pub(crate) fn until_ms(&self) -> Option<u64> {
        self.until_ms
    }
}

impl State {
    /// A run of a queue's job ended.
    pub(crate) fn note_short_job(&mut self, workload: &Workload, end: &RunState) {
        let RunState::Ended { exit } = end else { return };
        if let Some(name) = workload.spec.queue.as_ref().filter(|_| exit.duration_ms < limits::QUEUE_SHORT_JOB_MS) {
            let key = (workload.namespace.clone(), name.clone());
            if !self.ahead.short.contains(&key) {
                self.ahead.short.push(key);
            }
        }
    }

    /// Permits the jobs that will follow.
    pub(crate) fn permit_ahead(&mut self, now: Now, out: &mut Outcome) {
        let queues = std::mem::take(&mut self.ahead.short);
        if self.holds_starts() || !self.adopted {
            return;
        }
        for key in queues {
            // Of a queue with one job at a time each job may rely on the one before: its end is on disk first.
            let Some(queue) = self.queues.get(&key).filter(|queue| queue.record.parallel > 1) else { continue };
            let next = queue.next_ones(queue.record.parallel.min(limits::QUEUE_AHEAD_MAX) as usize);
            for turn in next {
                // One with a client who watches is made to wait for him before it is executed.
                let is_new = |known: &&Arc<Workload>| {
                    !known.spec.stdio.owner && known.queued.is_some_and(|queued| queued.ahead.is_none())
                };
                let Some(known) = self.workloads.get(&turn.workload).filter(is_new) else { continue };
                let mut workload = Workload::clone(known);
                let Some(queued) = workload.queued.as_mut() else { continue };
                self.ahead.last_number += 1;
                queued.ahead = Some(self.ahead.last_number);
                self.ahead.until_ms = Some(now.boot_ms + limits::QUEUE_AHEAD_MS);
                self.put(workload, out);
            }
        }
    }

    /// Takes them back when their time is over.
    pub(crate) fn ahead_due(&mut self, now: Now, out: &mut Outcome) {
        if self.ahead.until_ms.is_some_and(|until_ms| until_ms <= now.boot_ms) {
            self.take_back(out);
        }
    }

    /// Takes all of them back.
    pub(crate) fn take_back(&mut self, out: &mut Outcome) {
        self.ahead.until_ms = None;
        for id in self.permitted.iter().copied().collect::<Vec<_>>() {
            let Some(mut workload) = self.edit(id) else { continue };
            if let Some(queued) = &mut workload.queued {
                queued.ahead = None;
            }
            self.put(workload, out);
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
            workload.queued = None;
            workload.runs += 1;
            let deadline_boot_ms = now.boot_ms.saturating_add(workload.spec.start_deadline_ms);
            workload.run = Some(Box::new(Run::new(run, RunState::Preparing { deadline_boot_ms }, now.wall_ms)));
            fires::begun(&mut workload);
            Self::event(&workload, EventKind::RunCreated, now, out);
            self.put(workload, out);
        }
        self.take_back(out);
    }
}
