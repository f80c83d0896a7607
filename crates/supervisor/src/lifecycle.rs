//! Starting, stopping and ending runs: the only place where a run changes its state.

use hostler_model::event::{EventKind, StopReason};
use hostler_model::exit::Exit;
use hostler_model::ids::{RunId, SandboxId, WorkloadId};
use hostler_model::record::Urgency;
use hostler_model::workload::{Desired, Run, RunState, StartFailure, StartFailureKind, Workload};
use hostler_model::{Now, limits};

use crate::fires;
use crate::input::{Action, Notice, Outcome, StopOrder};
use crate::policy::{self, Next};
use crate::ready;
use crate::state::{self, State, Timer};

impl State {
    /// Gives the workload a new run and sets it going. There must be no live one.
    pub(crate) fn start_run(&mut self, mut workload: Workload, now: Now, out: &mut Outcome) {
        assert!(
            workload.live_run().is_none() && workload.queued.is_none(),
            "one live run at a time, and not out of turn"
        );
        workload.runs += 1;
        workload.restart_at_boot_ms = None;
        workload.restart_requested = false;
        fires::begun(&mut workload);
        let id = RunId { workload: workload.id, number: workload.runs };
        let deadline_boot_ms = now.boot_ms.saturating_add(workload.spec.start_deadline_ms);
        let restore = workload.restore.take();
        let run = Run { restore, ..Run::new(id, RunState::Preparing { deadline_boot_ms }, now.wall_ms) };
        workload.run = Some(Box::new(run));
        Self::event(&workload, EventKind::RunCreated, now, out);
        let workload = self.put(workload, out);
        out.early.push(Action::Prepare(workload));
        out.actions.push(Action::Execute(id));
    }

    /// The program runs.
    pub(crate) fn run_started(&mut self, mut workload: Workload, found: Started, now: Now, out: &mut Outcome) {
        let Some(run) = workload.run.as_mut().filter(|run| !run.state.is_final()) else { return };
        let news = run.started_at_ms.is_none();
        run.pid = Some(found.pid);
        run.sandbox = Some(found.sandbox);
        run.started_at_ms = Some(found.started_at_ms);
        run.oom_kills = run.oom_kills.max(found.oom_kills);
        let restored_from = run.restore.as_ref().map(|restore| restore.checkpoint.clone());
        let turned = found.paused.filter(|paused| run.paused != *paused);
        run.paused = found.paused.unwrap_or(run.paused);
        if matches!(run.state, RunState::Preparing { .. }) {
            run.state = RunState::Running;
        }
        if news {
            Self::event(&workload, EventKind::RunStarted { pid: Some(found.pid), restored_from }, now, out);
            Self::ready_after_start(&mut workload, now, out);
            self.hooks_at_start(&mut workload, now, out);
        }
        // The daemon died between the deed and its record.
        if let Some(paused) = turned {
            let kind = if paused { EventKind::RunPaused } else { EventKind::RunResumed };
            Self::event(&workload, kind, now, out);
        }
        self.put(workload, out);
    }

    /// Begins the stop escalation of a live run.
    pub(crate) fn stop_run(&mut self, mut workload: Workload, order: &StopOrder, now: Now, out: &mut Outcome) {
        let stop = workload.spec.stop;
        let mut grace_ms = order.grace_ms.unwrap_or(stop.grace_ms);
        let Some(run) = workload.run.as_mut().filter(|run| !run.state.is_final()) else { return };
        // A container that is being made, which may take long, has no program that could end by itself.
        // The same of a guest.
        let is_made = workload.spec.container.is_some() || workload.spec.vm.is_some();
        if is_made && matches!(run.state, RunState::Preparing { .. }) {
            grace_ms = 0;
        }
        let id = run.id;
        Self::resume_to_stop(&mut workload, now, out);
        let Some(run) = workload.run.as_mut() else { return };
        let kill_at = now.boot_ms.saturating_add(grace_ms);
        let again = match run.state {
            // A second stop can shorten the grace of the first, never lengthen it.
            RunState::Stopping { kill_at_boot_ms } => {
                run.state = RunState::Stopping { kill_at_boot_ms: kill_at_boot_ms.map(|before| before.min(kill_at)) };
                true
            }
            _ => {
                run.state = RunState::Stopping { kill_at_boot_ms: Some(kill_at) };
                false
            }
        };
        if grace_ms == 0 {
            run.state = RunState::Stopping { kill_at_boot_ms: None };
            out.actions.push(Action::Kill(id));
        } else {
            out.actions.push(Action::Signal(id, order.signal.unwrap_or(stop.signal)));
        }
        if !again {
            Self::event(&workload, EventKind::WorkloadStopping { reason: order.reason }, now, out);
        }
        self.put(workload, out);
    }

    /// A run came to its end: exactly once for each run, whatever the order in which news arrive.
    pub(crate) fn end_run(&mut self, mut workload: Workload, mut end: RunState, now: Now, out: &mut Outcome) {
        assert!(end.is_final(), "an end is final");
        let Some(run) = workload.run.as_mut().filter(|run| !run.state.is_final()) else { return };
        let id = run.id;
        if let RunState::Ended { exit } = &end {
            Self::tell_missed(&mut workload, exit, now, out);
        }
        self.hooks_before_end(&mut workload, &end, now, out);
        let Some(run) = workload.run.as_mut() else { return };
        if let RunState::Failed { failure } = &mut end
            && failure.kind == StartFailureKind::Cancelled
            && run.deadline_passed
        {
            let limit = hostler_model::units::format_duration(workload.spec.start_deadline_ms);
            *failure =
                StartFailure { kind: StartFailureKind::Deadline, message: format!("not started within {limit}") };
        }
        run.state = end.clone();
        run.paused = false;
        run.pid = None;
        run.sandbox = None;
        // Their ends, if anybody knows them, came before this one.
        let execs = std::mem::take(&mut run.execs);
        out.notices.extend(execs.into_iter().map(|exec| Notice::ExecLost(exec.id)));
        self.settle_waiters(id, out);
        let next = self.after_end(&mut workload, &end, now);
        // One that waits for its next attempt keeps its place.
        if !matches!(next, After::Wait { .. }) {
            self.note_short_job(&workload, &end);
        }
        let kind = match end {
            RunState::Ended { exit } => EventKind::RunExited { exit },
            RunState::Failed { failure } => EventKind::RunFailed { failure },
            RunState::Lost { reason } => EventKind::RunLost { reason },
            _ => unreachable!("checked above"),
        };
        Self::event(&workload, kind, now, out);
        let next = self.hooks_at_end(&mut workload, next, now, out);
        out.actions.push(Action::Release(id));
        out.batch.urgency = Urgency::Prompt;
        match next {
            After::Remove => {
                self.put(workload.clone(), out);
                self.remove(workload.id, now, out);
            }
            After::NextFire => self.fire(workload, now, out),
            After::StartNow if workload.schedule.is_some() => self.fire(workload, now, out),
            After::StartNow => self.start_or_queue(workload, now, out),
            After::Wait { delay_ms, attempt } => {
                Self::event(&workload, EventKind::WorkloadRestarting { delay_ms, attempt }, now, out);
                self.put(workload, out);
            }
            After::Rest => {
                self.put(workload, out);
            }
        }
    }

    /// The start may have been lost with the daemon, and the last kill for memory overtaken by the end of its victim:
    /// the end tells both, before itself.
    fn tell_missed(workload: &mut Workload, exit: &Exit, now: Now, out: &mut Outcome) {
        let Some(run) = workload.run.as_mut() else { return };
        let started = run.started_at_ms.is_none();
        run.started_at_ms.get_or_insert(exit.started_at_ms);
        let restored_from = run.restore.as_ref().map(|restore| restore.checkpoint.clone());
        let killed = exit.oom_kills > run.oom_kills;
        run.oom_kills = run.oom_kills.max(exit.oom_kills);
        if started {
            Self::event(workload, EventKind::RunStarted { pid: None, restored_from }, now, out);
            Self::ready_after_start(workload, now, out);
        }
        if killed {
            Self::event(workload, EventKind::RunOom { oom_kills: exit.oom_kills }, now, out);
        }
    }

    fn after_end(&self, workload: &mut Workload, end: &RunState, now: Now) -> After {
        match workload.desired {
            Desired::Removed => return After::Remove,
            Desired::Stopped => return After::Rest,
            Desired::Run => {}
        }
        if workload.restart_requested {
            workload.failures_in_a_row = 0;
            if self.holds_starts() {
                workload.restart_at_boot_ms = Some(now.boot_ms);
                return After::Wait { delay_ms: 0, attempt: 0 };
            }
            return After::StartNow;
        }
        let lived_ms = match end {
            RunState::Ended { exit } => exit.duration_ms,
            _ => 0,
        };
        let policy = &ready::policy_of(workload);
        // Decisions of one batch share their entropy; services that died together must not come back together.
        let entropy = mixed(now.entropy, workload.id);
        match policy::after_end(policy, end, workload.failures_in_a_row, lived_ms, entropy) {
            Next::Restart { delay_ms, attempt } => {
                workload.failures_in_a_row = attempt;
                workload.restart_at_boot_ms = Some(now.boot_ms.saturating_add(delay_ms));
                After::Wait { delay_ms, attempt }
            }
            Next::Rest if Self::next_fire_waits(workload, now) => After::NextFire,
            Next::Rest if workload.spec.remove => After::Remove,
            Next::Rest => After::Rest,
        }
    }

    /// Everybody who waits for something inside the run hears that it is over.
    fn settle_waiters(&mut self, run: RunId, out: &mut Outcome) {
        self.settle_order(run, out);
        if let Some((token, _)) = self.updates.remove(&run) {
            let problem = hostler_model::Problem::new(
                hostler_model::ProblemKind::Conflict,
                "the run ended before the new limits were in force",
            );
            out.replies.push((token, Err(problem)));
        }
    }

    /// Takes a workload without a live run out for good, with its log.
    pub(crate) fn remove(&mut self, id: WorkloadId, now: Now, out: &mut Outcome) {
        self.hooks_at_removal(id, now, out);
        let Some(workload) = self.take(id, out) else { return };
        assert!(workload.live_run().is_none(), "a live workload is stopped before it is removed");
        Self::event(&workload, EventKind::WorkloadRemoved, now, out);
        // Most short jobs have none: not even looking for it is what a queue of them notices.
        let only_run = workload.run.as_ref().filter(|_| workload.runs == 1);
        if !only_run.is_some_and(|run| matches!(&run.state, RunState::Ended { exit } if exit.is_silent())) {
            out.actions.push(Action::RemoveLog(id));
        }
        out.batch.urgency = Urgency::Prompt;
    }

    /// Timers that are due.
    pub(crate) fn tick(&mut self, now: Now, out: &mut Outcome) {
        let mut dates = 0;
        for (timer, due_ms, id) in self.due(now) {
            // What came before in this step may have changed it, and what was postponed may be over.
            let due = |workload: &Workload| state::is_due(workload, timer, now);
            let Some(mut workload) = self.edit(id).filter(due) else {
                self.drop_timer(timer, due_ms, id);
                continue;
            };
            if timer == Timer::Hook {
                self.hooks_at_tick(workload, now, out);
                continue;
            }
            if timer == Timer::Ready {
                self.ready_due(workload, now, out);
                continue;
            }
            if timer == Timer::Fire || (timer == Timer::Start && workload.restart_at_boot_ms.is_none()) {
                if dates <= limits::DATES_PER_STEP {
                    dates += self.fire_due(workload, now, out);
                }
                continue;
            }
            let Some(run) = workload.run.as_mut().filter(|run| !run.state.is_final()) else {
                if workload.spec.queue.is_some() && !workload.holds_place() {
                    self.start_or_queue(workload, now, out);
                } else if self.room(&workload.namespace, None).is_err() {
                    // Not lost, only late: the next end makes room, and this looks again in a second. No record of that.
                    self.postpone(timer, due_ms, id, now.boot_ms + fires::LOOK_AGAIN_MS);
                } else {
                    self.start_run(workload, now, out);
                }
                continue;
            };
            let run_id = run.id;
            match run.state {
                // It may start in this very moment: how it ended is the runtime's to say, once it is killed.
                RunState::Preparing { .. } => {
                    run.state = RunState::Stopping { kill_at_boot_ms: None };
                    run.deadline_passed = true;
                    out.actions.push(Action::Kill(run_id));
                    self.put(workload, out);
                }
                RunState::Stopping { .. } => {
                    run.state = RunState::Stopping { kill_at_boot_ms: None };
                    out.actions.push(Action::Kill(run_id));
                    self.put(workload, out);
                }
                _ => {}
            }
        }
        self.stacks.due(now.boot_ms);
        self.ahead_due(now, out);
    }

    /// The client of a foreground run is gone: one that nobody else would ever see is stopped.
    pub(crate) fn owner_gone(&mut self, id: WorkloadId, now: Now, out: &mut Outcome) {
        let Some(mut workload) = self.edit(id) else { return };
        if !workload.spec.remove || !workload.spec.stdio.owner {
            return;
        }
        if workload.queued.is_some() {
            return self.cancel_queued(workload, "its client went away while it waited for its turn", now, out);
        }
        if workload.live_run().is_none() {
            self.remove(id, now, out);
            return;
        }
        workload.desired = Desired::Removed;
        let order = StopOrder { reason: StopReason::OwnerGone, signal: None, grace_ms: None };
        self.stop_run(workload, &order, now, out);
    }
}

/// A step of splitmix64 over both, so that neighbours differ in every bit.
pub(crate) fn mixed(entropy: u64, id: WorkloadId) -> u64 {
    let id = id.as_bytes().iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let mut mixed = (entropy ^ id).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What the runtime knows of a started program.
pub(crate) struct Started {
    pub(crate) sandbox: SandboxId,
    pub(crate) pid: u32,
    pub(crate) started_at_ms: u64,
    pub(crate) oom_kills: u64,
    /// Whether all of it stands still, where that is known.
    pub(crate) paused: Option<bool>,
}

/// What follows the end of a run.
pub(crate) enum After {
    Rest,
    Remove,
    StartNow,
    /// Its schedule had a fire waiting for this end.
    NextFire,
    Wait {
        delay_ms: u64,
        attempt: u32,
    },
}
