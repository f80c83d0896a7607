//! Schedules: what happens when a fire time comes, was missed, or meets a run that is not over; pause, resume, fire.
//!
//! The next fire time is a part of the workload's record, written in the same batch as the run that the last one
//! started: a daemon that dies in between has either neither or both.

use hostler_model::event::{EventKind, StopReason};
use hostler_model::ids::{Namespace, QueueName, WorkloadId};
use hostler_model::schedule::{Misfire, Overlap, Schedule, ScheduleState};
use hostler_model::workload::{Desired, Workload};
use hostler_model::{Now, Problem, ProblemKind, limits};

use crate::input::{Outcome, Reply, ScheduleOrder, StopOrder};
use crate::request::{Answer, conflict};
use crate::schedule::{self, Due};
use crate::state::State;

/// Between two looks for room when as many runs are live as may be.
pub(crate) const LOOK_AGAIN_MS: u64 = 1_000;

/// The plan of a workload that was just accepted: it begins with the first fire, which may be now.
pub(crate) enum First {
    Now,
    Later(ScheduleState),
}

/// When a schedule that begins now fires for the first time.
pub(crate) fn first(schedule: &Schedule, now: Now) -> Result<First, Problem> {
    let mut state = ScheduleState::default();
    match (schedule.every_ms, schedule.first_after_ms) {
        (Some(_), None | Some(0)) => return Ok(First::Now),
        (Some(_), Some(first_after_ms)) => state.wait(first_after_ms, now),
        (None, _) => {
            state.next_fire_ms = schedule::next_fire_ms(schedule, now.wall_ms);
            if state.next_fire_ms.is_none() {
                // Says which of several mistakes it is.
                schedule::check(schedule, now.wall_ms)?;
            }
        }
    }
    Ok(First::Later(state))
}

trait Plan {
    fn wait(&mut self, delay_ms: u64, now: Now);
    fn forget(&mut self);
    fn plan(&mut self, schedule: &Schedule, is_live: bool, now: Now);
}

impl Plan for ScheduleState {
    /// The next fire is so far away, by the boot clock.
    fn wait(&mut self, delay_ms: u64, now: Now) {
        self.next_fire_ms = Some(now.wall_ms.saturating_add(delay_ms));
        self.next_fire_boot_ms = Some(now.boot_ms.saturating_add(delay_ms));
    }

    fn forget(&mut self) {
        self.next_fire_ms = None;
        self.next_fire_boot_ms = None;
    }

    /// The next fire, counted from now.
    fn plan(&mut self, schedule: &Schedule, is_live: bool, now: Now) {
        self.forget();
        match schedule.every_ms {
            Some(_) if is_live => {}
            Some(every_ms) => self.wait(every_ms, now),
            None => self.next_fire_ms = schedule::next_fire_ms(schedule, now.wall_ms),
        }
    }
}

/// A run begins: an interval is counted from its end.
pub(crate) fn begun(workload: &mut Workload) {
    if let (Some(schedule), Some(state)) = (&workload.spec.schedule, &mut workload.schedule)
        && schedule.every_ms.is_some()
    {
        state.forget();
    }
}

/// Stands still until it is resumed; what waited is given up.
pub(crate) fn pause(workload: &mut Workload, now: Now, out: &mut Outcome) {
    let Some(state) = workload.schedule.as_mut() else { return };
    state.waiting = 0;
    if std::mem::replace(&mut state.paused, true) {
        return;
    }
    state.forget();
    State::event(workload, EventKind::SchedulePaused, now, out);
}

/// A run of it is live, waits for its turn, or is to be repeated.
fn is_busy(workload: &Workload) -> bool {
    workload.live_run().is_some() || workload.queued.is_some() || workload.restart_at_boot_ms.is_some()
}

/// The run that waited for its turn was taken back, and so are those that waited behind it.
pub(crate) fn cancelled(workload: &mut Workload, now: Now) {
    let (Some(schedule), Some(state)) = (&workload.spec.schedule, &mut workload.schedule) else { return };
    state.waiting = 0;
    if let Some(every_ms) = schedule.every_ms.filter(|_| !state.paused) {
        state.wait(every_ms, now);
    }
}

/// Goes on, counted from now; times that passed meanwhile are not missed.
pub(crate) fn resume(workload: &mut Workload, now: Now, out: &mut Outcome) {
    let is_live = is_busy(workload);
    let (Some(schedule), Some(state)) = (&workload.spec.schedule, &mut workload.schedule) else { return };
    state.paused = false;
    state.last_fire_ms = None;
    state.plan(schedule, is_live, now);
    let next_fire_ms = state.next_fire_ms;
    State::event(workload, EventKind::ScheduleResumed { next_fire_ms }, now, out);
}

/// After a reboot an interval goes on by the wall clock, and by the new boot clock from here.
pub(crate) fn carry_over(workload: &mut Workload, now: Now) {
    let (Some(schedule), Some(state)) = (&workload.spec.schedule, &mut workload.schedule) else { return };
    let (Some(every_ms), Some(next_ms), Some(_)) = (schedule.every_ms, state.next_fire_ms, state.next_fire_boot_ms)
    else {
        return;
    };
    let longest_ms = every_ms.max(schedule.first_after_ms.unwrap_or(0));
    // One that is overdue is late by no more than the machine is up: the new clock knows no earlier time.
    state.next_fire_boot_ms = Some(match next_ms.checked_sub(now.wall_ms) {
        Some(wait_ms) => now.boot_ms.saturating_add(wait_ms.min(longest_ms)),
        None => now.boot_ms.saturating_sub(now.wall_ms - next_ms),
    });
}

/// How many of the fire times that have come are kept, by the policy.
struct Kept {
    fires: u32,
    missed: u32,
    dropped: u32,
}

fn kept(due: &Due, late_ms: u64, policy: Misfire) -> Kept {
    let in_time = u32::from(late_ms <= limits::SCHEDULE_TOLERANCE_MS);
    let missed = due.count - in_time;
    let made_up = match policy {
        Misfire::Skip => 0,
        Misfire::Once => missed.min(1 - in_time),
        // With the one that starts now.
        Misfire::All => missed.min(limits::SCHEDULE_WAITING_MAX + 1 - in_time),
    };
    Kept { fires: in_time + made_up, missed, dropped: missed - made_up }
}

impl State {
    /// Whether a workload may be accepted: one that runs later needs no room now.
    pub(crate) fn admit_first(
        &self,
        namespace: &Namespace,
        queue: Option<&QueueName>,
        first: Option<&First>,
    ) -> Result<(), Problem> {
        self.takes_work()?;
        match first {
            Some(First::Later(_)) => queue.map_or(Ok(()), |queue| self.admit_to_queue(namespace, queue)),
            _ => self.room(namespace, queue),
        }
    }

    /// A workload was accepted: its first run, or its plan, begins.
    pub(crate) fn begin(&mut self, mut workload: Workload, first: Option<First>, now: Now, out: &mut Outcome) {
        match first {
            None => self.start_or_queue(workload, now, out),
            Some(First::Now) => {
                workload.schedule = Some(Box::default());
                let kind = EventKind::ScheduleFired { due_ms: Some(now.wall_ms), waiting: 0 };
                Self::event(&workload, kind, now, out);
                self.fire(workload, now, out);
            }
            Some(First::Later(state)) => {
                if let Some(queue) = workload.spec.queue.clone() {
                    self.queue_for(&workload.namespace, &queue, now, out);
                }
                workload.schedule = Some(Box::new(state));
                self.put(workload, out);
            }
        }
    }

    /// A fire time has come, or passed: counts what was missed, plans the next, and fires.
    /// How many dates that were.
    pub(crate) fn fire_due(&mut self, mut workload: Workload, now: Now, out: &mut Outcome) -> u32 {
        let (Some(spec), Some(state)) = (workload.spec.schedule.clone(), workload.schedule.as_mut()) else {
            return 0;
        };
        let Some(first_ms) = state.next_fire_ms else { return 0 };
        let (due, late_ms) = match state.next_fire_boot_ms {
            Some(boot_ms) => {
                let due = Due { count: 1, more: false, last_ms: first_ms, next_ms: None };
                (due, now.boot_ms.saturating_sub(boot_ms))
            }
            None => {
                let due = schedule::due(&spec, first_ms, now.wall_ms);
                (due, now.wall_ms.saturating_sub(due.last_ms))
            }
        };
        let Kept { fires, missed, dropped } = kept(&due, late_ms, spec.misfire);
        state.last_fire_ms = state.last_fire_ms.max(Some(due.last_ms));
        state.missed += u64::from(missed);
        state.forget();
        match spec.every_ms {
            Some(every_ms) if fires == 0 => state.wait(every_ms, now),
            Some(_) => {}
            None => state.next_fire_ms = due.next_ms,
        }
        if missed > 0 {
            let kind = EventKind::ScheduleMissed { count: missed, more: due.more, policy: spec.misfire, dropped };
            Self::event(&workload, kind, now, out);
        }
        if fires == 0 {
            self.put(workload, out);
            return due.count;
        }
        self.fire_or_overlap(workload, spec.overlap, fires, Some(due.last_ms), now, out);
        due.count
    }

    /// So many fires at once: the first starts, or meets the run before it.
    fn fire_or_overlap(
        &mut self,
        mut workload: Workload,
        overlap: Overlap,
        fires: u32,
        due_ms: Option<u64>,
        now: Now,
        out: &mut Outcome,
    ) {
        let is_live = workload.live_run().is_some();
        let is_busy = is_busy(&workload);
        // One that waits for its turn has begun nothing that could be replaced.
        let is_replaced = workload.restart_requested || workload.queued.is_some();
        let queue = workload.spec.queue.clone();
        let is_draining = queue.is_some_and(|queue| self.is_draining(&workload.namespace, &queue));
        let every_ms = workload.spec.schedule.as_ref().and_then(|schedule| schedule.every_ms);
        let Some(state) = workload.schedule.as_mut() else { return };
        let room = limits::SCHEDULE_WAITING_MAX.saturating_sub(state.waiting);
        let (kept, waits) = match overlap {
            // Its queue takes no jobs.
            _ if is_draining => (0, 0),
            _ if !is_busy => (fires, (fires - 1).min(room)),
            Overlap::Forbid => (0, 0),
            Overlap::Queue => (fires.min(room), fires.min(room)),
            // The one that is being started in its place already is the newest.
            Overlap::Replace if is_replaced => (0, 0),
            Overlap::Replace => (fires, (fires - 1).min(room)),
        };
        state.waiting += waits;
        state.skipped += u64::from(fires - kept);
        if let Some(every_ms) = every_ms.filter(|_| is_draining && !is_busy && !state.paused) {
            state.wait(every_ms, now);
        }
        let waiting = state.waiting;
        if kept < fires
            && let Some(due_ms) = due_ms
        {
            Self::event(&workload, EventKind::ScheduleSkipped { due_ms, policy: overlap }, now, out);
        }
        if kept > 0 {
            Self::event(&workload, EventKind::ScheduleFired { due_ms, waiting }, now, out);
        }
        if kept > 0 && (!is_busy || (overlap == Overlap::Replace && !is_live)) {
            // The fire that is replaced between two attempts has its result with the last of them.
            self.hooks_at_rest(&mut workload, now, out);
            self.fire(workload, now, out);
        } else if kept > 0 && overlap == Overlap::Replace {
            workload.restart_requested = true;
            let order = StopOrder { reason: StopReason::Replace, signal: None, grace_ms: None };
            self.stop_run(workload, &order, now, out);
        } else {
            self.put(workload, out);
        }
    }

    /// One fire becomes a run. The only place where a schedule starts one.
    pub(crate) fn fire(&mut self, mut workload: Workload, now: Now, out: &mut Outcome) {
        workload.failures_in_a_row = 0;
        workload.restart_requested = false;
        if workload.spec.queue.is_some() {
            return self.start_or_queue(workload, now, out);
        }
        let wait_ms = if self.takes_work().is_err() {
            0
        } else if self.room(&workload.namespace, None).is_err() {
            LOOK_AGAIN_MS
        } else {
            self.start_run(workload, now, out);
            return;
        };
        // Not lost, only late.
        begun(&mut workload);
        workload.restart_at_boot_ms = Some(now.boot_ms + wait_ms);
        self.put(workload, out);
    }

    /// A run, with its attempts, is over: the next fire that waits starts now, or the next interval begins.
    /// Whether one starts.
    pub(crate) fn next_fire_waits(workload: &mut Workload, now: Now) -> bool {
        let (Some(schedule), Some(state)) = (&workload.spec.schedule, &mut workload.schedule) else { return false };
        if state.waiting > 0 {
            state.waiting -= 1;
            return true;
        }
        if let Some(every_ms) = schedule.every_ms.filter(|_| !state.paused) {
            state.wait(every_ms, now);
        }
        false
    }

    /// `schedule pause`, `resume`, `fire`.
    pub(crate) fn schedule_asked(
        &mut self,
        id: WorkloadId,
        order: ScheduleOrder,
        now: Now,
        out: &mut Outcome,
    ) -> Answer {
        let mut workload = self.find(id)?;
        let name = &workload.name;
        let Some(state) = &workload.schedule else {
            return Err(conflict(format!("{name} has no schedule; it was created without one")));
        };
        if workload.desired == Desired::Removed {
            return Err(conflict(format!("{name} is being removed")));
        }
        match order {
            ScheduleOrder::Pause if state.paused => {}
            ScheduleOrder::Pause => {
                pause(&mut workload, now, out);
                if workload.queued.is_some() {
                    self.cancel_queued(workload, "its schedule was paused while it waited for its turn", now, out);
                } else {
                    // A fire that was put off has begun nothing; an attempt to repeat one goes on.
                    if workload.live_run().is_none() && workload.failures_in_a_row == 0 {
                        workload.restart_at_boot_ms = None;
                    }
                    self.put(workload, out);
                }
            }
            ScheduleOrder::Resume => {
                if workload.desired == Desired::Stopped && workload.live_run().is_some() {
                    return Err(conflict(format!("{name} is being stopped; resume it when that is over")));
                }
                self.has_network(&workload.namespace, &workload.spec)?;
                workload.desired = Desired::Run;
                resume(&mut workload, now, out);
                self.put(workload, out);
            }
            ScheduleOrder::Fire => self.fire_asked(workload, now, out)?,
        }
        Ok(Reply::Workload(self.workloads[&id].clone()))
    }

    pub(crate) fn fire_asked(&mut self, mut workload: Workload, now: Now, out: &mut Outcome) -> Result<(), Problem> {
        self.takes_work()?;
        self.has_network(&workload.namespace, &workload.spec)?;
        let overlap = workload.spec.schedule.as_ref().map(|schedule| schedule.overlap).unwrap_or_default();
        let waiting = workload.schedule.as_ref().map_or(0, |state| state.waiting);
        let is_live = workload.live_run().is_some();
        let is_busy = is_busy(&workload);
        if is_live && workload.desired == Desired::Stopped {
            return Err(conflict(format!("{} is being stopped", workload.name)));
        }
        if is_busy && overlap == Overlap::Forbid {
            let (name, phase) = (&workload.name, workload.phase().as_str());
            return Err(conflict(format!("{name} is {phase}, and its schedule forbids that runs overlap")));
        }
        if is_busy && overlap == Overlap::Replace && (workload.restart_requested || workload.queued.is_some()) {
            return Err(conflict(format!("{} is being replaced by a new run already", workload.name)));
        }
        if is_busy && overlap == Overlap::Queue && waiting >= limits::SCHEDULE_WAITING_MAX {
            let detail = format!("{waiting} fires of {} wait already", workload.name);
            return Err(Problem { retry_after_s: Some(5), ..Problem::new(ProblemKind::LimitReached, detail) });
        }
        if !is_live && workload.queued.is_none() {
            self.room(&workload.namespace, workload.spec.queue.as_ref())?;
        }
        // Paused or not stays as it is: this run is beside the plan.
        workload.desired = Desired::Run;
        self.fire_or_overlap(workload, overlap, 1, None, now, out);
        Ok(())
    }
}
