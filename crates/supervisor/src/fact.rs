//! What the runtime reports. Facts of a run that is over are echoes: an end that is already recorded is only
//! released again, anything else is ignored.

use hostler_model::event::EventKind;
use hostler_model::ids::RunId;
use hostler_model::workload::{LostReason, RunState, Workload};
use hostler_model::{Now, Problem, ProblemKind};

use crate::input::{Action, Fact, Outcome, Reply};
use crate::lifecycle::Started;
use crate::state::State;

impl State {
    pub(crate) fn fact(&mut self, fact: Fact, now: Now, out: &mut Outcome) {
        match fact {
            Fact::Started { run, sandbox, pid, started_at_ms } => match self.live_run(run) {
                Some(workload) => {
                    let found = Started { sandbox, pid, started_at_ms, oom_kills: 0, paused: None };
                    self.run_started(workload, found, now, out);
                }
                // It was given up before it started: it must not go on.
                None => out.actions.push(Action::Discard(run)),
            },
            Fact::StartFailed { run, failure } => self.ended(run, RunState::Failed { failure }, now, out),
            Fact::Exited { run, exit } => self.ended(run, RunState::Ended { exit }, now, out),
            Fact::AgentLost { run } => self.ended(run, RunState::Lost { reason: LostReason::Agent }, now, out),
            Fact::Oom { run, oom_kills } => {
                let Some(mut workload) = self.live_run(run) else { return };
                let Some(run) = workload.run.as_mut().filter(|run| oom_kills > run.oom_kills) else { return };
                run.oom_kills = oom_kills;
                Self::event(&workload, EventKind::RunOom { oom_kills }, now, out);
                self.put(workload, out);
            }
            Fact::ExecStarted { run, exec, pid } => self.exec_started(run, exec, pid, now, out),
            Fact::ExecFailed { run, exec, failure } => self.exec_failed(run, exec, failure, out),
            Fact::ExecExited { run, exec, exit } => self.exec_exited(run, exec, exit, now, out),
            Fact::Ready { run } => self.run_ready(run, now, out),
            Fact::Unhealthy { run, reason } => self.run_unhealthy(run, reason, now, out),
            Fact::ConditionChecked { namespace, stack, unit, generation, unmet } => {
                self.stacks.answer(namespace, stack, &unit, generation, unmet);
            }
            Fact::Ordered { run, result } => self.ordered(run, result, now, out),
            Fact::Updated { run, result } => self.updated(run, result, now, out),
            Fact::NetworkLost { run, problem } => self.network_lost(run, problem, now, out),
            Fact::LineMatched { run, hook, line } => self.line_matched(run, hook, line, now, out),
            Fact::LinesRead { run } => self.lines_read(run, now, out),
            Fact::HookDue { key, event } => self.hook_due(key, event, now, out),
            Fact::HookDelivered { key, attempts, result } => self.hook_delivered(key, attempts, result, now, out),
        }
    }

    /// The workload, if this run of it is live.
    pub(crate) fn live_run(&self, run: RunId) -> Option<Workload> {
        let workload = self.workloads.get(&run.workload)?;
        let live = workload.live_run().is_some_and(|live| live.id == run);
        live.then(|| Workload::clone(workload))
    }

    fn ended(&mut self, run: RunId, end: RunState, now: Now, out: &mut Outcome) {
        match self.live_run(run) {
            Some(workload) => self.end_run(workload, end, now, out),
            None => out.actions.push(Action::Release(run)),
        }
    }

    fn updated(&mut self, run: RunId, result: Result<(), String>, now: Now, out: &mut Outcome) {
        let Some((token, limits)) = self.updates.remove(&run) else { return };
        out.batch.urgency = hostler_model::record::Urgency::Prompt;
        let reply = match (result, self.edit(run.workload)) {
            (Ok(()), Some(mut workload)) => {
                workload.limits = limits.clone();
                workload.generation += 1;
                Self::event(&workload, EventKind::WorkloadUpdated { limits }, now, out);
                Ok(Reply::Workload(self.put(workload, out)))
            }
            (Err(why), _) => Err(Problem::new(ProblemKind::LimitUnavailable, why)),
            (Ok(()), None) => Err(Problem::new(ProblemKind::NotFound, "the workload is gone")),
        };
        out.replies.push((token, reply));
    }
}
