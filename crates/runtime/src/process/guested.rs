//! A run's guest: one that waits, or else its place in a network, if it wants one, and then what it is made of; both before
//! there is an agent for it, for that may take long.
//!
//! ```text
//!            taken               planned              an agent
//!   waiting ───────► (its place) ────────► (its boot) ────────► preparing
//!      │ refused, killed, taken back: the place is given back with the run's end, the machine's directory at once
//! ```
//! Not here: what a place is, how a machine is planned, and which machines wait.

use std::sync::Arc;
use std::time::Duration;

use hostler_model::container::Network;
use hostler_model::guest::VmBoot;
use hostler_model::ids::RunId;
use hostler_model::launch::Launch;
use hostler_model::workload::StartFailureKind;
use hostler_network::{Ask, Rights, SetUp, Take, Taker};

use super::{At, Entry, Shared, Step, Waiting, failure};
use crate::Fact;
use crate::guests::{GuestError, tell_of_network};
use crate::microvm::{SnapshotFiles, Start};
use crate::warm::Warm;

/// The user that VMMs run as.
const VMM_UID: u32 = 0;
/// How often a run that waits for a full pool asks again, milliseconds.
const FULL_ASK_MS: u64 = 100;

fn ask_of(launch: &Launch) -> Option<Ask> {
    let vm = launch.vm.as_ref()?;
    Some(Ask {
        run: launch.run,
        namespace: launch.namespace.clone(),
        attachment: vm.asked.network.as_ref().and_then(Network::attachment)?.clone(),
        names: vm.names.clone(),
        hostname: vm.identity.hostname.clone(),
        rights: Rights::Administers,
        taker: Taker::Machine { owner: VMM_UID },
    })
}

impl Shared {
    /// Gives the run a machine that waits, or has one planned, in its network, and goes on with the run when that is done.
    pub(super) fn plan_guest(self: &Arc<Self>, launch: Launch) {
        let run = launch.run;
        let mut guard = self.state();
        let state = &mut *guard;
        if state.runs.contains_key(&run) {
            tracing::error!(%run, "prepare for a run that exists already; ignored");
            return;
        }
        let attach = state.ahead.remove(&run).into_iter().collect();
        let waiting = Box::new(Waiting { launch: launch.clone(), signals: Vec::new(), attach });
        state.runs.insert(run, Entry::new(At::Waiting(waiting), Step::Preparing));
        drop(guard);
        self.find_machine(launch);
    }

    /// A machine that waits, or one that is made. Where there are as many as there may be, the run waits for one, until the
    /// time it has to start is over: it was accepted.
    fn find_machine(self: &Arc<Self>, launch: Launch) {
        let run = launch.run;
        let Some(vm) = &launch.vm else { return };
        let mut guard = self.state();
        let state = &mut *guard;
        if !matches!(state.runs.get(&run), Some(Entry { at: At::Waiting(_), .. })) {
            // Taken back meanwhile.
            return;
        }
        let snapshot = match self.take_warm(run, &vm.asked, state) {
            Warm::Machine(agent) => return state.bind(run, &agent),
            Warm::Full => {
                drop(guard);
                let shared = Arc::downgrade(self);
                self.handle.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(FULL_ASK_MS)).await;
                    if let Some(shared) = shared.upgrade() {
                        shared.find_machine(launch);
                    }
                });
                return;
            }
            Warm::Snapshot(files) => Some(files),
            Warm::Nothing => None,
        };
        drop(guard);
        let taken = ask_of(&launch).map(|ask| self.settings.networks.take(ask));
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            let set_up = match taken {
                None => None,
                Some(Ok(Take::Ready(set_up))) => Some(set_up),
                Some(Ok(Take::Later(answer))) => match answer.await {
                    Ok(Ok(set_up)) => Some(set_up),
                    Ok(Err(error)) => return shared.gives_up(run, StartFailureKind::Network, &error.to_string()),
                    Err(_) => {
                        let why = "its place in the network was given up";
                        return shared.gives_up(run, StartFailureKind::Network, why);
                    }
                },
                Some(Err(error)) => return shared.gives_up(run, StartFailureKind::Network, &error.to_string()),
            };
            shared.plan_placed(launch, set_up, snapshot).await;
        });
    }

    /// It has its place, if it has one.
    async fn plan_placed(self: &Arc<Self>, launch: Launch, set_up: Option<SetUp>, snapshot: Option<SnapshotFiles>) {
        let run = launch.run;
        let planning = Arc::clone(self);
        let planned = self.handle.spawn_blocking(move || {
            let vm = launch.vm.as_ref().expect("it is planned for");
            let start = snapshot.as_ref().map_or(Start::Boot, Start::Restore);
            let planned = planning.guests.plan(&launch, &vm.asked, start, set_up.as_ref())?;
            if let Some(files) = snapshot {
                planning.will_drive(run, &planned, files);
            }
            Ok::<_, GuestError>((planned.boot, set_up))
        });
        match planned.await {
            Ok(Ok((boot, set_up))) => self.planned(run, boot, set_up),
            Ok(Err(error)) => {
                self.guests.forget(&run.to_string());
                self.gives_up(run, StartFailureKind::Sandbox, &error.to_string());
            }
            Err(_) => self.gives_up(run, StartFailureKind::Sandbox, "the daemon is going down"),
        }
    }

    fn planned(self: &Arc<Self>, run: RunId, boot: VmBoot, set_up: Option<SetUp>) {
        let mut state = self.state();
        let Some(Entry { at: At::Waiting(waiting), .. }) = state.runs.get_mut(&run) else {
            // Taken back meanwhile, and its place with it.
            state.warm.release(run);
            drop(state);
            return self.forget_guest(run);
        };
        if let Some(vm) = &mut waiting.launch.vm {
            vm.boot = Some(Box::new(boot));
            set_up.into_iter().for_each(|set_up| tell_of_network(&mut vm.identity, set_up));
        }
        drop(state);
        self.take_agent_for(run);
    }

    /// What was made for a guest that will not be.
    pub(super) fn forget_guest(self: &Arc<Self>, run: RunId) {
        let shared = Arc::clone(self);
        self.handle.spawn_blocking(move || shared.guests.forget(&run.to_string()));
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
