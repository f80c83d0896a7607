//! A run's guest: what it is made of is looked up and made before there is an agent for it, for that may take long.

use std::sync::Arc;

use hostler_model::guest::VmBoot;
use hostler_model::ids::RunId;
use hostler_model::launch::Launch;
use hostler_model::workload::StartFailureKind;
use hostler_wire::ToAgent;

use super::{At, Entry, Shared, Step, Waiting, failure};
use crate::Fact;
use crate::guests::GuestError;
use crate::microvm::Start;
use crate::warm::Warm;

impl Shared {
    /// Gives the run a machine that waits, or has one planned and goes on with the run when that is done.
    pub(super) fn plan_guest(self: &Arc<Self>, mut launch: Launch) {
        let run = launch.run;
        let mut guard = self.state();
        let state = &mut *guard;
        if state.runs.contains_key(&run) {
            tracing::error!(%run, "prepare for a run that exists already; ignored");
            return;
        }
        let Some(vm) = &mut launch.vm else { return };
        let asked = vm.asked.clone();
        let snapshot = match self.take_warm(run, &asked, state) {
            Warm::Machine(agent) => {
                let owner = state.ahead.remove(&run);
                agent.send(&ToAgent::Prepare { launch: Box::new(launch) });
                if let Some(owner) = owner {
                    owner.to(&agent);
                }
                state.runs.insert(run, Entry::new(At::Agent(agent), Step::Preparing));
                return;
            }
            Warm::Full(pool) => {
                state.ahead.remove(&run);
                state.runs.insert(run, Entry::new(At::Nowhere, Step::Over));
                let why = format!("pool {pool} has as many machines as it may have; try again later");
                return self.report(Fact::StartFailed { run, failure: failure(StartFailureKind::Sandbox, &why) });
            }
            Warm::Snapshot(files) => Some(files),
            Warm::Nothing => None,
        };
        let attach = state.ahead.remove(&run).into_iter().collect();
        let waiting = Box::new(Waiting { launch: launch.clone(), signals: Vec::new(), attach });
        state.runs.insert(run, Entry::new(At::Waiting(waiting), Step::Preparing));
        drop(guard);
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            let planning = Arc::clone(&shared);
            let planned = shared.handle.spawn_blocking(move || {
                let start = snapshot.as_ref().map_or(Start::Boot, Start::Restore);
                let planned = planning.guests.plan(&launch, &asked, start)?;
                if let Some(files) = snapshot {
                    planning.will_drive(run, &planned, files);
                }
                Ok::<_, GuestError>(planned.boot)
            });
            match planned.await {
                Ok(Ok(boot)) => shared.planned(run, boot),
                Ok(Err(error)) => {
                    shared.guests.forget(&run.to_string());
                    shared.gives_up(run, StartFailureKind::Sandbox, &error.to_string());
                }
                Err(_) => shared.gives_up(run, StartFailureKind::Sandbox, "the daemon is going down"),
            }
        });
    }

    fn planned(self: &Arc<Self>, run: RunId, boot: VmBoot) {
        let mut state = self.state();
        let Some(Entry { at: At::Waiting(waiting), .. }) = state.runs.get_mut(&run) else {
            // Taken back meanwhile.
            state.warm.release(run);
            drop(state);
            let shared = Arc::clone(self);
            self.handle.spawn_blocking(move || shared.guests.forget(&run.to_string()));
            return;
        };
        if let Some(vm) = &mut waiting.launch.vm {
            vm.boot = Some(Box::new(boot));
        }
        drop(state);
        self.take_agent_for(run);
    }

    /// A run that waits will not be.
    pub(super) fn gives_up(self: &Arc<Self>, run: RunId, kind: StartFailureKind, why: &str) {
        let mut state = self.state();
        state.warm.release(run);
        let Some(entry) = state.runs.get_mut(&run).filter(|entry| matches!(entry.at, At::Waiting(_))) else { return };
        entry.at = At::Nowhere;
        entry.step = Step::Over;
        drop(state);
        self.report(Fact::StartFailed { run, failure: failure(kind, why) });
    }
}
