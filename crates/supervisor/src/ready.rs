//! When a run of a stack's service is ready, and when it is taken for dead though it runs.
//!
//! ```text
//!  started ──at once, after a delay, or when a probe succeeds──► ready ──probes fail in a row──► unhealthy: stopped,
//!                                                                                  and the restart policy applies
//! ```
//! The probes are asked outside, of runs that are not ready yet and of those that have a `liveness`; only what came of
//! them is heard here.

use hostler_model::Now;
use hostler_model::event::{EventKind, StopReason};
use hostler_model::ids::RunId;
use hostler_model::record::Urgency;
use hostler_model::spec::{Restart, RestartWhen};
use hostler_model::stack::probe::ReadyWhen;
use hostler_model::workload::{RunState, Workload};

use crate::input::{Outcome, StopOrder};
use crate::policy;
use crate::state::State;

/// The restart policy after the run that just ended: one that was taken for dead has failed, whatever it answered to
/// the signal.
pub(crate) fn policy_of(workload: &Workload) -> Restart {
    let unhealthy = workload.run.as_ref().is_some_and(|run| run.unhealthy.is_some());
    let policy = policy::in_force(&workload.spec);
    let when = if unhealthy && policy.when == RestartWhen::OnFailure { RestartWhen::Always } else { policy.when };
    Restart { when, ..policy }
}

impl State {
    /// The program runs: what that says about its being ready. Of others than services of a stack nobody asks.
    pub(crate) fn ready_after_start(workload: &mut Workload, now: Now, out: &mut Outcome) {
        let Some(member) = &workload.stack else { return };
        let when = member.ready.when.clone();
        let Some(run) = workload.run.as_mut() else { return };
        match when {
            ReadyWhen::Started => {
                run.ready_at_ms = Some(now.wall_ms);
                Self::event(workload, EventKind::RunReady, now, out);
                // Others wait for this.
                out.batch.urgency = Urgency::Prompt;
            }
            ReadyWhen::Delay { delay_ms } => run.ready_due_boot_ms = Some(now.boot_ms.saturating_add(delay_ms)),
            ReadyWhen::Probe(_) | ReadyWhen::Match { .. } | ReadyWhen::Success => {}
        }
    }

    /// Its delay is over.
    pub(crate) fn ready_due(&mut self, workload: Workload, now: Now, out: &mut Outcome) {
        if let Some(run) = workload.live_run() {
            self.run_ready(run.id, now, out);
        }
    }

    /// It is ready. One that is being stopped, or is over, is no news.
    pub(crate) fn run_ready(&mut self, run: RunId, now: Now, out: &mut Outcome) {
        let Some(mut workload) = self.live_run(run).filter(|workload| workload.stack.is_some()) else { return };
        let Some(run) = workload.run.as_mut() else { return };
        if run.state != RunState::Running || run.ready_at_ms.is_some() {
            return;
        }
        run.ready_at_ms = Some(now.wall_ms);
        run.ready_due_boot_ms = None;
        Self::event(&workload, EventKind::RunReady, now, out);
        self.put(workload, out);
        out.batch.urgency = Urgency::Prompt;
    }

    /// It runs and does not live: it is stopped, and what follows is its restart policy's to say.
    pub(crate) fn run_unhealthy(&mut self, run: RunId, reason: String, now: Now, out: &mut Outcome) {
        let Some(mut workload) = self.live_run(run).filter(|workload| workload.stack.is_some()) else { return };
        let Some(run) = workload.run.as_mut().filter(|run| run.state == RunState::Running) else { return };
        if run.ready_at_ms.is_none() || run.unhealthy.is_some() {
            return;
        }
        run.unhealthy = Some(reason.clone());
        Self::event(&workload, EventKind::RunUnhealthy { reason }, now, out);
        let order = StopOrder { reason: StopReason::Unhealthy, signal: None, grace_ms: None };
        self.stop_run(workload, &order, now, out);
        out.batch.urgency = Urgency::Prompt;
    }
}
