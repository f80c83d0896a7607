//! A run's guest: what it is made of is looked up and made before there is an agent for it, for that may take long.

use std::sync::Arc;

use hostler_model::ids::RunId;
use hostler_model::launch::Launch;
use hostler_model::workload::StartFailureKind;

use super::{At, Entry, Shared, Step, Waiting, failure};
use crate::Fact;

impl Shared {
    /// Has the machine planned, and goes on with the run when that is done.
    pub(super) fn plan_guest(self: &Arc<Self>, launch: Launch) {
        let run = launch.run;
        let mut state = self.state();
        if state.runs.contains_key(&run) {
            tracing::error!(%run, "prepare for a run that exists already; ignored");
            return;
        }
        let attach = state.ahead.remove(&run).into_iter().collect();
        let waiting = Box::new(Waiting { launch: launch.clone(), signals: Vec::new(), attach });
        state.runs.insert(run, Entry::new(At::Waiting(waiting), Step::Preparing));
        drop(state);
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            let planning = Arc::clone(&shared);
            let planned = shared.handle.spawn_blocking(move || {
                let vm = launch.vm.as_ref().expect("it is planned for");
                planning.guests.plan(&launch, &vm.asked)
            });
            match planned.await {
                Ok(Ok(boot)) => shared.planned(run, boot),
                Ok(Err(error)) => {
                    shared.guests.forget(run);
                    shared.gives_up(run, StartFailureKind::Sandbox, &error.to_string());
                }
                Err(_) => shared.gives_up(run, StartFailureKind::Sandbox, "the daemon is going down"),
            }
        });
    }

    fn planned(self: &Arc<Self>, run: RunId, boot: hostler_model::guest::VmBoot) {
        let mut state = self.state();
        let Some(Entry { at: At::Waiting(waiting), .. }) = state.runs.get_mut(&run) else {
            // Taken back meanwhile.
            drop(state);
            let shared = Arc::clone(self);
            self.handle.spawn_blocking(move || shared.guests.forget(run));
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
        let Some(entry) = state.runs.get_mut(&run).filter(|entry| matches!(entry.at, At::Waiting(_))) else { return };
        entry.at = At::Nowhere;
        entry.step = Step::Over;
        drop(state);
        self.report(Fact::StartFailed { run, failure: failure(kind, why) });
    }
}
