//! Hooks: decided in the same step as what makes them fire, so that an event and its hooks are on disk together or not
//! at all. Which have fired is in the run's record: none fires twice, whatever is reported twice.
//!
//! - here: what makes a hook fire
//! - `lines`: lines that matched, told by whoever reads the log; also after the run's end
//! - `calls`: what a fired hook does, and what comes of it
//!
//! ```text
//! started ── run.started, or an end that tells of a start nobody heard of
//! delay ──── the workload's timer; an end says whether it was still due
//! line ───── Fact::LineMatched
//! success, failure, end ── the end after which the policy lets no other run follow, or the stop of one that waits for it
//! ```

mod calls;
mod lines;

use hostler_model::hook::{HookContext, HookOn};
use hostler_model::ids::WorkloadId;
use hostler_model::workload::{Desired, RunState, Workload};
use hostler_model::{Cause, Now};

use crate::input::Outcome;
use crate::lifecycle::After;
use crate::state::State;

impl State {
    /// Fires those of the current run's hooks that are wanted and have not fired.
    fn fire_all(&mut self, workload: &mut Workload, now: Now, out: &mut Outcome, wanted: impl Fn(&HookOn) -> bool) {
        let spec = workload.spec.clone();
        for (number, hook) in (0..).zip(&spec.hooks) {
            let Some(run) = workload.run.as_mut() else { return };
            if !wanted(&hook.on) || run.hooks_fired.contains(&number) {
                continue;
            }
            run.hooks_fired.push(number);
            let end = run.state.is_final().then(|| run.state.clone());
            let context = HookContext { pid: run.pid, end, ..HookContext::default() };
            let run = run.id;
            self.fire_hook(workload, run, number, context, now, out);
        }
    }

    /// The program runs.
    pub(crate) fn hooks_at_start(&mut self, workload: &mut Workload, now: Now, out: &mut Outcome) {
        let Some(run) = workload.run.as_mut() else { return };
        if workload.spec.hooks.is_empty() {
            return;
        }
        // It may have started while no daemon was there.
        let lived_ms = now.wall_ms.saturating_sub(run.started_at_ms.unwrap_or(now.wall_ms));
        run.started_boot_ms = Some(now.boot_ms.saturating_sub(lived_ms));
        self.fire_all(workload, now, out, |on| matches!(on, HookOn::Started));
    }

    /// Delays that are over.
    pub(crate) fn hooks_at_tick(&mut self, mut workload: Workload, now: Now, out: &mut Outcome) {
        let Some(started) = workload.run.as_ref().and_then(|run| run.started_boot_ms) else { return };
        let lived_ms = now.boot_ms.saturating_sub(started);
        self.fire_all(&mut workload, now, out, |on| matches!(on, HookOn::Delay { after_ms } if *after_ms <= lived_ms));
        self.put(workload, out);
    }

    /// Just before the end is recorded: what happened while nobody was told.
    pub(crate) fn hooks_before_end(&mut self, workload: &mut Workload, end: &RunState, now: Now, out: &mut Outcome) {
        let RunState::Ended { exit } = end else { return };
        let lived_ms = exit.duration_ms;
        self.fire_all(workload, now, out, |on| match on {
            HookOn::Started => true,
            HookOn::Delay { after_ms } => *after_ms <= lived_ms,
            _ => false,
        });
    }

    /// Just after the end was recorded. What is to follow may change: who still has lines to be searched is not
    /// removed, and a hook's own job is, once it has succeeded.
    pub(crate) fn hooks_at_end(&mut self, workload: &mut Workload, next: After, now: Now, out: &mut Outcome) -> After {
        Self::keep_tail(workload);
        // With a schedule what starts now is another fire; with `restart` it is the same job once more.
        let other_fire = workload.schedule.is_some() && matches!(next, After::StartNow);
        let is_over = other_fire || matches!(next, After::Rest | After::Remove | After::NextFire);
        if !is_over {
            return next;
        }
        let was_job = workload.hook_of.is_some();
        self.hooks_at_rest(workload, now, out);
        match next {
            After::Remove if workload.desired == Desired::Run && !workload.line_tails.is_empty() => After::Rest,
            After::Rest if was_job && workload.desired == Desired::Run && is_success(workload) => After::Remove,
            next => next,
        }
    }

    /// No other run will come by itself. Once for each end, however often it is said.
    pub(crate) fn hooks_at_rest(&mut self, workload: &mut Workload, now: Now, out: &mut Outcome) {
        if let Some(call) = workload.hook_of.take() {
            self.job_over(workload, &call, now, out);
        }
        if workload.run.as_ref().is_none_or(|run| !run.state.is_final()) {
            return;
        }
        let success = is_success(workload);
        self.fire_all(workload, now, out, |on| match on {
            HookOn::Success => success,
            HookOn::Failure => !success,
            HookOn::End => true,
            _ => false,
        });
    }

    /// The same for one that is about to be forgotten, whatever it waited for.
    pub(crate) fn hooks_at_removal(&mut self, id: WorkloadId, now: Now, out: &mut Outcome) {
        let concerned = |workload: &Workload| workload.hook_of.is_some() || !workload.spec.hooks.is_empty();
        let Some(mut workload) = self.edit(id).filter(concerned) else { return };
        self.hooks_at_rest(&mut workload, now, out);
        self.put(workload, out);
    }
}

/// When the next delay of a live run is over, boot clock, milliseconds.
pub(crate) fn timer(workload: &Workload) -> Option<u64> {
    let run = workload.live_run()?;
    let started = run.started_boot_ms?;
    let open = (0..).zip(&workload.spec.hooks).filter(|(number, _)| !run.hooks_fired.contains(number));
    let due = open.filter_map(|(_, hook)| match hook.on {
        HookOn::Delay { after_ms } => Some(started.saturating_add(after_ms)),
        _ => None,
    });
    due.min()
}

fn is_success(workload: &Workload) -> bool {
    let state = workload.run.as_ref().map(|run| &run.state);
    matches!(state, Some(RunState::Ended { exit }) if exit.cause == Cause::Success)
}
