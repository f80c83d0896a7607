//! Execs: second programs inside a run. Each that was accepted is in its run's record until its end, so that a daemon
//! that comes back knows whom to expect: every exec has at most one start and one end in the journal, before its run's end.
//!
//! ```text
//!   accepted ──started──► running ──exited──► (out of the record, its end in the journal)
//!      └── failed, or never reached the agent ──► (out of the record; who asked is told)
//! ```

use hostler_model::event::EventKind;
use hostler_model::exit::Exit;
use hostler_model::ids::{ExecId, RunId, WorkloadId};
use hostler_model::launch::ExecLaunch;
use hostler_model::record::Urgency;
use hostler_model::workload::{Run, RunExec, RunState, StartFailure, Workload};
use hostler_model::{Now, Problem, ProblemKind, limits};

use crate::input::{Action, FoundExec, Notice, Outcome, Reply};
use crate::request::{Answer, conflict, refuse_paused};
use crate::state::State;

fn known(run: &mut Run, exec: ExecId) -> Option<&mut RunExec> {
    run.execs.iter_mut().find(|known| known.id == exec)
}

/// Takes it out; whether it was there.
fn forget(workload: &mut Workload, exec: ExecId) -> bool {
    let Some(run) = workload.run.as_mut() else { return false };
    let before = run.execs.len();
    run.execs.retain(|known| known.id != exec);
    run.execs.len() < before
}

impl State {
    pub(crate) fn exec(&mut self, id: WorkloadId, exec: ExecId, launch: Box<ExecLaunch>, out: &mut Outcome) -> Answer {
        let mut workload = self.find(id)?;
        refuse_paused(&workload)?;
        let (name, phase) = (workload.name.clone(), workload.phase());
        let running = |run: &&mut Box<Run>| matches!(run.state, RunState::Running | RunState::Stopping { .. });
        let Some(run) = workload.run.as_mut().filter(running) else {
            return Err(conflict(format!(
                "{name} is not running: it is {phase}; start it with: hostler start {name}",
                phase = phase.as_str()
            )));
        };
        if run.execs.len() >= limits::EXECS_PER_RUN_MAX || known(run, exec).is_some() {
            let detail = format!("{name} has {} execs running, the most it may have", run.execs.len());
            return Err(Problem::new(ProblemKind::LimitReached, detail));
        }
        run.execs.push(RunExec { id: exec, pid: None });
        let run = run.id;
        self.put(workload, out);
        out.actions.push(Action::Exec(run, exec, launch));
        Ok(Reply::Exec(run))
    }

    pub(crate) fn exec_started(&mut self, run: RunId, exec: ExecId, pid: u32, now: Now, out: &mut Outcome) {
        let Some(mut workload) = self.live_run(run) else { return };
        // Told before, or over.
        let Some(known) = workload.run.as_mut().and_then(|run| known(run, exec)).filter(|known| known.pid.is_none())
        else {
            return;
        };
        known.pid = Some(pid);
        Self::event(&workload, EventKind::ExecStarted { exec, pid }, now, out);
        self.put(workload, out);
        out.batch.urgency = Urgency::Prompt;
    }

    pub(crate) fn exec_failed(&mut self, run: RunId, exec: ExecId, failure: StartFailure, out: &mut Outcome) {
        let Some(mut workload) = self.live_run(run) else { return };
        if forget(&mut workload, exec) {
            self.put(workload, out);
            out.notices.push(Notice::ExecFailed(exec, failure));
        }
    }

    pub(crate) fn exec_exited(&mut self, run: RunId, exec: ExecId, exit: Exit, now: Now, out: &mut Outcome) {
        // Also when it was recorded before: the agent did not hear of that.
        out.actions.push(Action::ReleaseExec(run, exec));
        let Some(mut workload) = self.live_run(run) else { return };
        if forget(&mut workload, exec) {
            Self::event(&workload, EventKind::ExecExited { exec, exit }, now, out);
            self.put(workload, out);
            out.batch.urgency = Urgency::Prompt;
        }
    }

    /// Execs that are alive and in no record are those of a daemon that kept none: their start is in the journal.
    fn expect_execs(&mut self, run: RunId, found: &[FoundExec], out: &mut Outcome) {
        let Some(mut workload) = self.live_run(run) else { return };
        let Some(execs) = workload.run.as_mut().map(|run| &mut run.execs) else { return };
        let unknown: Vec<_> = found
            .iter()
            .filter(|found| found.exit.is_none() && !execs.iter().any(|known| known.id == found.exec))
            .map(|found| RunExec { id: found.exec, pid: found.pid })
            .collect();
        if !unknown.is_empty() {
            execs.extend(unknown);
            self.put(workload, out);
        }
    }

    /// What the daemon found of a run's execs when it came up. Those it did not find were never started, or went with
    /// their agent.
    pub(crate) fn adopt_execs(&mut self, run: RunId, found: Vec<FoundExec>, now: Now, out: &mut Outcome) {
        let alive: Vec<_> = found.iter().filter(|found| found.exit.is_none()).map(|found| found.exec).collect();
        self.expect_execs(run, &found, out);
        for FoundExec { exec, pid, exit } in found {
            if let Some(pid) = pid {
                self.exec_started(run, exec, pid, now, out);
            }
            if let Some(exit) = exit {
                self.exec_exited(run, exec, exit, now, out);
            }
        }
        let Some(mut workload) = self.live_run(run) else { return };
        let Some(execs) = workload.run.as_mut().map(|run| &mut run.execs) else { return };
        let before = execs.len();
        execs.retain(|exec| alive.contains(&exec.id));
        if execs.len() < before {
            self.put(workload, out);
        }
    }
}
