//! Queues: whose turn it is.
//!
//! ```text
//!   create, start ──► queued{ticket} ──its turn──► preparing ─► running ─► … (attempts, back-off) ─► at rest
//!                       │   ▲                        └────────────── holds one place ──────────────┘
//!            stop, rm,  │   └── order: priority, then acceptance
//!            queue rm   ▼
//!                     failed{cancelled}
//! ```
//! After every step all jobs that may start do: while the node has room, each queue in turn gives its next job, until
//! it has as many under way as its `parallel` says. Nothing waits for anything but an end, so no order of queues and
//! caps can block for ever: as long as a queue is open and there is room, a job of it is under way.
//!
//! - [`index`]: who waits where
//! - `ahead`: permissions that let a short job follow another before its start is committed
//!
//! Not here: what happens to a job once it has started.

mod ahead;
pub mod index;

use std::sync::Arc;

use hostler_model::event::{Event, EventKind};
use hostler_model::queue::{QueueChange, QueueRecord, Queued};
use hostler_model::record::Record;
use hostler_model::workload::{Run, RunState, StartFailure, StartFailureKind, Workload};
use hostler_model::{Namespace, Now, Problem, ProblemKind, QueueName, RunId, limits};

use crate::fires;
use crate::input::{Action, Outcome, Reply, Waiting};
use crate::request::{Answer, conflict};
use crate::state::State;
pub(crate) use ahead::Ahead;
use index::QueueKey;

impl State {
    /// Whether a job may be put into this queue; makes nothing.
    pub(crate) fn admit_to_queue(&self, namespace: &Namespace, name: &QueueName) -> Result<(), Problem> {
        match self.queues.get(&(namespace.clone(), name.clone())) {
            Some(queue) if queue.record.draining => Err(conflict(format!(
                "queue {name} is draining: it takes no new jobs; let it take some again with: hostler queue resume {name}"
            ))),
            Some(_) => Ok(()),
            None if *namespace != Namespace::owner() && self.queues.of(namespace) >= limits::QUEUES_SHARE_MAX => {
                let detail = format!(
                    "namespace {namespace} has {} queues, the most one may have; remove one with: hostler queue rm",
                    limits::QUEUES_SHARE_MAX
                );
                Err(Problem::new(ProblemKind::LimitReached, detail))
            }
            None if self.queues.len() >= limits::QUEUES_MAX && self.forgettable_queue().is_none() => {
                let detail = format!(
                    "{} queues are known, the most a node has; remove one with: hostler queue rm",
                    limits::QUEUES_MAX
                );
                Err(Problem::new(ProblemKind::LimitReached, detail))
            }
            None => Ok(()),
        }
    }

    /// Whether this queue takes no jobs.
    pub(crate) fn is_draining(&self, namespace: &Namespace, name: &QueueName) -> bool {
        self.queues.get(&(namespace.clone(), name.clone())).is_some_and(|queue| queue.record.draining)
    }

    /// Sets a workload going: at once, or in its queue. There must be no live run, and it must not wait already.
    pub(crate) fn start_or_queue(&mut self, mut workload: Workload, now: Now, out: &mut Outcome) {
        let Some(name) = workload.spec.queue.clone() else { return self.start_run(workload, now, out) };
        self.queue_for(&workload.namespace, &name, now, out);
        workload.restart_at_boot_ms = None;
        fires::begun(&mut workload);
        workload.queued = Some(Queued { ticket: self.queues.next_ticket(), since_ms: now.wall_ms, ahead: None });
        Self::event(&workload, EventKind::WorkloadQueued { queue: name }, now, out);
        self.put(workload, out);
    }

    /// Starts every job whose turn it is.
    pub(crate) fn serve_queues(&mut self, now: Now, out: &mut Outcome) {
        if !self.adopted || self.holds_starts() {
            return;
        }
        while self.live.len() < self.settings.live_runs_max && self.queues.running() < self.settings.queue_jobs_max {
            let places = self.settings.queue_jobs_max.div_ceil(limits::LIVE_RUNS_SHARE);
            let blocked = |namespace: &Namespace| {
                let all_taken = *namespace != Namespace::owner() && self.queues.places(namespace) >= places;
                all_taken || self.is_at_its_share(namespace)
            };
            let Some((key, turn)) = self.queues.next(self.last_served.as_ref(), blocked) else { return };
            self.last_served = Some(key);
            let Some(mut workload) = self.edit(turn.workload) else { return };
            let permission = workload.queued.take().and_then(|queued| queued.ahead);
            let run = RunId { workload: workload.id, number: workload.runs + 1 };
            self.start_run(workload, now, out);
            if let Some(permission) = permission {
                out.early.push(Action::ExecuteAhead(run, permission));
            }
        }
    }

    /// A job that waits will not run: that is its result.
    pub(crate) fn cancel_queued(&mut self, mut workload: Workload, why: &str, now: Now, out: &mut Outcome) {
        assert!(workload.live_run().is_none() && workload.queued.is_some(), "only who waits is cancelled");
        workload.queued = None;
        workload.runs += 1;
        fires::cancelled(&mut workload, now);
        let failure = StartFailure { kind: StartFailureKind::Cancelled, message: why.to_owned() };
        let id = RunId { workload: workload.id, number: workload.runs };
        let state = RunState::Failed { failure: failure.clone() };
        workload.run = Some(Box::new(Run::new(id, state, now.wall_ms)));
        Self::event(&workload, EventKind::RunFailed { failure }, now, out);
        self.hooks_at_rest(&mut workload, now, out);
        let (id, remove) = (workload.id, workload.spec.remove);
        self.put(workload, out);
        if remove {
            self.remove(id, now, out);
        }
    }

    /// Makes a queue, or changes it.
    pub(crate) fn set_queue(
        &mut self,
        namespace: &Namespace,
        name: &QueueName,
        change: QueueChange,
        now: Now,
        out: &mut Outcome,
    ) -> Answer {
        change.check()?;
        if self.queues.get(&(namespace.clone(), name.clone())).is_none() {
            self.admit_to_queue(namespace, name)?;
        }
        let before = self.queue_for(namespace, name, now, out);
        let mut record = QueueRecord::clone(&before);
        record.parallel = change.parallel.unwrap_or(record.parallel);
        record.paused = change.paused.unwrap_or(record.paused);
        record.draining = change.draining.unwrap_or(record.draining);
        if record != *before {
            self.put_queue(record, now, out);
        }
        Ok(Reply::Queue(self.queues.get(&(namespace.clone(), name.clone())).expect("just put").record.clone()))
    }

    /// Removes a queue that is idle; otherwise ends the jobs that wait in it first, so many for each request.
    pub(crate) fn remove_queue(
        &mut self,
        key: &QueueKey,
        waiting_jobs: Waiting,
        now: Now,
        out: &mut Outcome,
    ) -> Answer {
        let name = &key.1;
        let queue = self.queues.get(key).ok_or_else(|| no_queue(name))?;
        let (waiting, running) = (queue.waiting().len(), queue.running());
        if waiting > 0 && waiting_jobs == Waiting::Keep {
            return Err(conflict(format!(
                "{waiting} jobs wait in queue {name}; cancel them with: hostler queue rm -f {name}"
            )));
        }
        let first: Vec<_> = queue.waiting().take(limits::QUEUE_CANCEL_MAX).map(|turn| turn.workload).collect();
        for id in first {
            let Some(workload) = self.edit(id) else { continue };
            self.cancel_queued(workload, "cancelled: its queue was removed", now, out);
        }
        if waiting == 0 && running > 0 {
            let detail = format!("{running} jobs of queue {name} are under way; stop them, or wait for their end");
            return Err(conflict(detail));
        }
        // Looked at again: a hook of a job that was cancelled may have put another one in.
        let queue = self.queues.get(key).ok_or_else(|| no_queue(name))?;
        let (left, running) = (queue.waiting().len(), queue.running());
        if queue.is_idle() {
            self.forget_queue(key, now, out);
        }
        Ok(Reply::Cancelled { left, running })
    }

    pub(crate) fn queue_for(
        &mut self,
        namespace: &Namespace,
        name: &QueueName,
        now: Now,
        out: &mut Outcome,
    ) -> Arc<QueueRecord> {
        if let Some(queue) = self.queues.get(&(namespace.clone(), name.clone())) {
            return queue.record.clone();
        }
        if self.queues.len() >= limits::QUEUES_MAX
            && let Some(key) = self.forgettable_queue()
        {
            self.forget_queue(&key, now, out);
        }
        self.put_queue(QueueRecord::new(namespace.clone(), name.clone(), now.wall_ms), now, out)
    }

    fn put_queue(&mut self, record: QueueRecord, now: Now, out: &mut Outcome) -> Arc<QueueRecord> {
        let kind = EventKind::QueueChanged { queue: record.clone() };
        out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: None });
        let record = Arc::new(record);
        out.batch.records.push(Record::Queue(record.clone()));
        self.queues.put(record.clone());
        if record.paused || record.parallel == 1 {
            self.withdraw_of(&(record.namespace.clone(), record.name.clone()), &[], out);
        }
        record
    }

    pub(crate) fn forget_queue(&mut self, key: &QueueKey, now: Now, out: &mut Outcome) {
        let Some(record) = self.queues.take(key) else { return };
        out.batch.records.push(Record::QueueRemoved(key.0.clone(), key.1.clone()));
        let kind = EventKind::QueueRemoved { queue: QueueRecord::clone(&record) };
        out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: None });
    }

    /// A queue that nobody uses and that the next job would make again as it is.
    fn forgettable_queue(&self) -> Option<QueueKey> {
        let queue = self.queues.iter().find(|queue| queue.is_idle() && queue.record.is_plain())?;
        Some((queue.record.namespace.clone(), queue.record.name.clone()))
    }
}

pub(crate) fn no_queue(name: &QueueName) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no queue {name}; see: hostler queue ls"))
}
