//! A container's place in a network of the node: taken before there is an agent for it, given back when its end is committed.
//!
//! A filled pool answers at once, and then nothing is different from a container without a network. Otherwise the run waits
//! here, with everything that is asked of it meanwhile, as it would wait for an agent.

use std::sync::Arc;

use hostler_model::Capability;
use hostler_model::container::{Container, Network, Userns};
use hostler_model::ids::RunId;
use hostler_model::launch::{ContainerLaunch, Launch, NetworkFiles};
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_network::{Ask, Rights, SetUp, Take, Taker, machine_files};

use super::{At, Entry, Shared, Step, Waiting};
use crate::Fact;

/// Whether it can change its network: then nobody else may have it afterwards.
fn rights(container: &Container) -> Rights {
    // Those of a user namespace of its own do not count for a network that was made outside of it.
    let without = container.userns == Userns::Auto;
    let may = |capability| container.cap_add.contains(&capability);
    // Settings below /proc/sys belong to root; they are only read-only.
    let asked = container.privileged || container.unmasked || may(Capability::NET_ADMIN) || may(Capability::SYS_ADMIN);
    // A bundle says itself what it may.
    if (asked || container.bundle.is_some()) && !without { Rights::Administers } else { Rights::Ordinary }
}

fn ask_of(launch: &Launch, container: &ContainerLaunch) -> Option<Ask> {
    let attachment = container.container.network.as_ref()?.attachment()?.clone();
    Some(Ask {
        run: launch.run,
        namespace: launch.namespace.clone(),
        attachment,
        names: container.names.clone(),
        hostname: container.hostname.clone(),
        rights: rights(&container.container),
        taker: Taker::Processes,
    })
}

/// From now on it is like a container with a network namespace that somebody has made.
fn put(launch: &mut Launch, set_up: SetUp) {
    let Some(container) = launch.container.as_deref_mut() else { return };
    container.container.network = Some(Network::Namespace(set_up.path.as_os_str().into()));
    container.network_files = Some(Box::new(NetworkFiles { hosts: set_up.hosts, resolv: set_up.resolv }));
}

fn failure(message: String) -> StartFailure {
    StartFailure { kind: StartFailureKind::Network, message }
}

impl Shared {
    pub(super) fn place_in_network(self: &Arc<Self>, mut launch: Launch) {
        let Some(container) = launch.container.as_deref_mut() else { return self.prepare_placed(launch) };
        if container.container.network == Some(Network::Host) && container.container.bundle.is_none() {
            let (hosts, resolv) = machine_files();
            container.network_files = Some(Box::new(NetworkFiles { hosts, resolv }));
        }
        let container = launch.container.as_deref().expect("it is one");
        let Some(ask) = ask_of(&launch, container) else { return self.prepare_placed(launch) };
        let run = launch.run;
        if self.state().runs.contains_key(&run) {
            tracing::error!(%run, "prepare for a run that exists already; ignored");
            return;
        }
        match self.settings.networks.take(ask) {
            Ok(Take::Ready(set_up)) => {
                put(&mut launch, set_up);
                self.prepare_placed(launch);
            }
            Ok(Take::Later(answer)) => {
                let mut state = self.state();
                let attach = state.ahead.remove(&run).into_iter().collect();
                let waiting = Box::new(Waiting { launch, signals: Vec::new(), attach });
                state.runs.insert(run, Entry::new(At::Waiting(waiting), Step::Preparing));
                drop(state);
                let shared = Arc::clone(self);
                self.handle.spawn(async move {
                    match answer.await {
                        Ok(Ok(set_up)) => shared.placed(run, set_up),
                        Ok(Err(error)) => shared.gives_up(run, StartFailureKind::Network, &error.to_string()),
                        Err(_) => {
                            let why = "its place in the network was given up";
                            shared.gives_up(run, StartFailureKind::Network, why);
                        }
                    }
                });
            }
            Err(error) => {
                let mut state = self.state();
                state.ahead.remove(&run);
                state.runs.insert(run, Entry::new(At::Nowhere, Step::Over));
                drop(state);
                self.report(Fact::StartFailed { run, failure: failure(error.to_string()) });
            }
        }
    }

    /// The place that it waited for.
    fn placed(self: &Arc<Self>, run: RunId, set_up: SetUp) {
        // Taken back meanwhile, and its place with it.
        if let Some(Entry { at: At::Waiting(waiting), .. }) = self.state().runs.get_mut(&run) {
            put(&mut waiting.launch, set_up);
        }
        self.take_agent_for(run);
    }

    /// What it waited for is there: now it waits for an agent, or has one.
    pub(super) fn take_agent_for(self: &Arc<Self>, run: RunId) {
        let now_ms = self.now_ms();
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(Entry { at: At::Waiting(waiting), .. }) = state.runs.get_mut(&run) else { return };
        let namespace = waiting.launch.namespace.clone();
        let agent = state.slots.take(run, &namespace, now_ms).and_then(|id| state.agents.get(&id).cloned());
        match agent {
            Some(agent) if state.is_too_old_for(run, &agent) => self.refuse_old(run, &agent, state),
            Some(agent) => state.bind(run, &agent),
            None => {}
        }
        self.start_agents(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_change_its_network_is_known() {
        let plain = Container::default();
        let with = |capability| Container { cap_add: [capability].into_iter().collect(), ..plain.clone() };
        let cases = [
            (plain.clone(), Rights::Ordinary),
            (with(Capability::NET_BIND_SERVICE), Rights::Ordinary),
            (with(Capability::NET_ADMIN), Rights::Administers),
            (with(Capability::SYS_ADMIN), Rights::Administers),
            (Container { privileged: true, ..plain.clone() }, Rights::Administers),
            (Container { unmasked: true, ..plain.clone() }, Rights::Administers),
            (Container { bundle: Some("/b".into()), ..plain.clone() }, Rights::Administers),
            (Container { userns: Userns::Auto, ..with(Capability::NET_ADMIN) }, Rights::Ordinary),
        ];
        for (container, expected) in cases {
            assert_eq!(rights(&container), expected, "{container:?}");
        }
    }
}
