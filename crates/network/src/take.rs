//! Set-ups for runs, and back.

use std::sync::Arc;

use hostler_linux::failpoint;
use hostler_model::ids::{NetworkId, RunId, SetupId};
use hostler_model::limits;
use hostler_model::network::Publish;
use tokio::sync::oneshot;

use crate::book::Keep;
use crate::book::leases::{Entry, Lease, User, Wanted};
use crate::pool::{self, Spoiled, Wish};
use crate::rules::Port;
use crate::state::{Job, Net, Place, Returned, Shared, Stage, State, tell};
use crate::{Ask, NetworkError, Rights, SetUp, Take, files};

impl Net {
    /// Whether a set-up that somebody else had would do.
    fn wish(&self, ask: &Ask) -> Wish {
        let attachment = &ask.attachment;
        let has = |name: &str| self.list.as_ref().is_some_and(|list| list.has_capability(name));
        let told_to_plugins = (!attachment.publish.is_empty() && has("portMappings"))
            || (!attachment.aliases.is_empty() && has("aliases"))
            || (attachment.rate_bytes_per_s.is_some() && has("bandwidth"));
        if attachment.ip.is_some() || attachment.ip6.is_some() || told_to_plugins { Wish::Own } else { Wish::Any }
    }

    /// Ports that are published by rules of ours, and not by plugins.
    fn ports_of(&self, ask: &Ask) -> Vec<Publish> {
        let by_plugins = self.list.as_ref().is_some_and(|list| list.has_capability("portMappings"));
        if by_plugins { Vec::new() } else { ask.attachment.publish.clone() }
    }
}

/// Whether nobody may have it after this run.
fn spoils(ask: &Ask) -> bool {
    let attachment = &ask.attachment;
    // What the kernel remembers of connections to a published port would lead to the next one.
    ask.rights == Rights::Administers
        || attachment.ip.is_some()
        || attachment.ip6.is_some()
        || attachment.rate_bytes_per_s.is_some()
        || !attachment.publish.is_empty()
}

impl Shared {
    /// Nothing that it asks for is another's.
    pub(crate) fn take_now(self: &Arc<Self>, state: &mut State, ask: Ask) -> Result<Take, NetworkError> {
        let key = (ask.namespace.clone(), ask.attachment.name.clone());
        let id = *state.by_name.get(&key).ok_or(NetworkError::Unknown(key.0, key.1))?;
        let net = state.nets.get_mut(&id).expect("named networks are known");
        if let Stage::Broken(why) = &net.stage {
            return Err(NetworkError::Broken(net.name().clone(), why.clone()));
        }
        let (run, wish) = (ask.run, net.wish(&ask));
        let place = |answer| Place {
            network: id,
            ask,
            setup: None,
            answer,
            published: Vec::new(),
            leaving: false,
            problem: None,
        };
        match net.pool.take(run, wish) {
            pool::Take::Taken(setup) => {
                state.runs.insert(run, place(None));
                match self.bind(state, id, run, setup) {
                    Some(setup) => Ok(Take::Ready(setup)),
                    None => {
                        // There is something left to do for it.
                        let (sender, receiver) = oneshot::channel();
                        state.runs.get_mut(&run).expect("just put there").answer = Some(sender);
                        self.enqueue(state, id, Job::Finish(run));
                        Ok(Take::Later(receiver))
                    }
                }
            }
            taken => {
                let (sender, receiver) = oneshot::channel();
                state.runs.insert(run, place(Some(sender)));
                match taken {
                    pool::Take::Make => {
                        if let Err(error) = self.start_making(state, id, Some(run)) {
                            state.runs.remove(&run);
                            return Err(error);
                        }
                    }
                    pool::Take::WaitFor(setup) => self.start_removal(state, id, setup),
                    _ => {}
                }
                Ok(Take::Later(receiver))
            }
        }
        .inspect(|_| self.refill(id))
    }

    /// One that is gone from the pool is made anew, aside.
    fn refill(self: &Arc<Self>, id: NetworkId) {
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            let mut state = shared.state();
            shared.settle(&mut state, id);
        });
    }

    /// The set-up is the run's from now on; `None`: something is to be done for it before it can be used.
    pub(crate) fn bind(
        self: &Arc<Self>,
        state: &mut State,
        id: NetworkId,
        run: RunId,
        setup: SetupId,
    ) -> Option<SetUp> {
        let net = state.nets.get(&id)?;
        let place = state.runs.get_mut(&run)?;
        place.setup = Some(setup);
        place.published = net.ports_of(&place.ask);
        let by_rules = !place.published.is_empty();
        let by_tool = place.ask.attachment.rate_bytes_per_s.is_some() && net.wish(&place.ask) == Wish::Any;
        let user = User {
            run,
            names: place.ask.names.clone(),
            publish: place.published.clone(),
            dns: place.ask.attachment.dns.clone(),
            spoils: spoils(&place.ask),
        };
        state.change_lease(setup, |lease| lease.user = Some(user));
        failpoint::hit("setup-taken");
        self.zone_changed(state, id);
        if by_rules || by_tool { None } else { self.set_up(state, run) }
    }

    /// What the run is told of its place.
    pub(crate) fn set_up(&self, state: &State, run: RunId) -> Option<SetUp> {
        let place = state.runs.get(&run)?;
        let net = state.nets.get(&place.network)?;
        let lease = state.lease(place.setup?)?;
        let machine = || files::machine_resolvers(&state.own_addresses());
        let plugins = || self.answered(lease.setup).map(|outcome| outcome.dns).unwrap_or_default();
        Some(SetUp {
            id: lease.setup,
            path: crate::names::namespace(self.settings.tag, lease.setup),
            ip: lease.ip,
            ip6: lease.ip6,
            hosts: files::hosts(&place.ask.hostname, &place.ask.names, lease),
            resolv: match (&net.resolver, &net.record.bridge) {
                (Some(_), Some(bridge)) => files::resolv_of_bridge(bridge),
                _ if net.is_cni() => files::resolv_of_plugins(&plugins(), &place.ask.attachment, &net.record, machine),
                _ => files::resolv_of(&place.ask.attachment, &net.record, machine),
            },
        })
    }

    /// Who waits has one made, as far as that may be; then the pool is filled.
    pub(crate) fn serve(self: &Arc<Self>, state: &mut State, id: NetworkId) {
        loop {
            let Some(net) = state.nets.get_mut(&id) else { return };
            if net.removed || state.closed {
                return;
            }
            let Some((run, _)) = net.pool.next_waiting() else { break };
            if let Err(error) = self.start_making(state, id, Some(run)) {
                tell(state, run, Err(error));
            }
        }
        while let Some(net) = state.nets.get_mut(&id) {
            let making = net.pool.view(0).making as usize;
            let may = state.filling && matches!(net.stage, Stage::Ready(_)) && making < limits::SETUP_WORK_PARALLEL;
            if !may || net.pool.to_make(self.now_ms()) == 0 {
                self.wake_later(net, id);
                return;
            }
            if let Err(error) = self.start_making(state, id, None) {
                tracing::debug!(%error, "the pool of a network cannot be filled");
                return;
            }
        }
    }

    /// Leases addresses, and has a set-up made with them.
    fn start_making(
        self: &Arc<Self>,
        state: &mut State,
        id: NetworkId,
        run: Option<RunId>,
    ) -> Result<(), NetworkError> {
        let setup = self.fresh_id(state);
        let wanted = run
            .and_then(|run| state.runs.get(&run))
            .map_or(Wanted::default(), |place| Wanted { ip: place.ask.attachment.ip, ip6: place.ask.attachment.ip6 });
        let net = state.nets.get(&id).expect("asked for by those who have it");
        let (record, cni) = (net.record.clone(), net.is_cni());
        let book = self.book(state)?;
        let mut lease = Lease { setup, network: id, ip: None, ip6: None, cni, made: false, user: None };
        if let Some(bridge) = &record.bridge {
            let found = book.leases().find(id, bridge, wanted);
            let (ip, ip6) = found.map_err(|error| NetworkError::Address(record.name.clone(), error.to_string()))?;
            (lease.ip, lease.ip6) = (Some(ip), ip6);
            book.leases_mut().passed(id, bridge, ip);
        }
        let keep = if cni { Keep::OverPowerLoss } else { Keep::OverCrash };
        book.write(Entry::Lease(lease), keep).map_err(|error| NetworkError::Book(error.to_string()))?;
        let net = state.nets.get_mut(&id).expect("as above");
        net.pool.making(setup, run);
        match run {
            // Somebody waits for it.
            Some(_) => net.queue.push_front(Job::Make(setup)),
            None => net.queue.push_back(Job::Make(setup)),
        }
        self.start_jobs_of(state, id);
        Ok(())
    }

    fn fresh_id(&self, state: &State) -> SetupId {
        loop {
            let setup = SetupId::from_bytes(hostler_linux::daemon::random_bytes());
            if state.lease(setup).is_none() {
                return setup;
            }
        }
    }

    /// A run is over, or wants no place any more.
    pub(crate) fn release(self: &Arc<Self>, run: RunId) {
        let mut guard = self.state();
        let state = &mut *guard;
        self.give_up_turn(state, run);
        let Some(place) = state.runs.remove(&run) else { return };
        let id = place.network;
        failpoint::hit("setup-released");
        let spoiled = if spoils(&place.ask) || place.problem.is_some() { Spoiled::Yes } else { Spoiled::No };
        let Some(net) = state.nets.get_mut(&id) else { return };
        if let Some(setup) = net.pool.released(run, spoiled) {
            let lease = state.lease(setup);
            let (ip, ip6) = lease.map_or((None, None), |lease| (lease.ip, lease.ip6));
            let ports = place.published.iter().map(|publish| Port { publish: *publish, ip, ip6 }).collect();
            if !place.published.is_empty() {
                state.unpublishing.push((run, place.published.clone()));
            }
            let returned = Returned { setup, run, ports, since_ms: self.now_ms() };
            self.zone_changed(state, id);
            self.enqueue(state, id, Job::Return(returned));
        } else {
            state.ports.remove(&run);
        }
        self.settle(state, id);
    }

    /// The resolver of a network learns who is in it, soon: several changes at once are one.
    pub(crate) fn zone_changed(self: &Arc<Self>, state: &mut State, id: NetworkId) {
        let Some(net) = state.nets.get_mut(&id).filter(|net| net.resolver.is_some() && !net.zone_pending) else {
            return;
        };
        net.zone_pending = true;
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            let mut state = shared.state();
            let zone = crate::files::zone(&state, id);
            if let Some(net) = state.nets.get_mut(&id) {
                net.zone_pending = false;
                if let Some((resolver, zone)) = net.resolver.as_ref().zip(zone) {
                    resolver.set(zone);
                }
            }
        });
    }
}
