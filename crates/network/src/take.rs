//! Set-ups for runs, and back.

use std::sync::Arc;

use hostler_linux::failpoint;
use hostler_model::ids::{NetworkId, NetworkName, RunId, SetupId};
use hostler_model::limits;
use hostler_model::network::{Publish, text};
use tokio::sync::oneshot;

use crate::book::leases::{Entry, Lease, User, Wanted};
use crate::pool::{self, Spoiled, Wish};
use crate::rules::Port;
use crate::state::{Job, Net, Place, Returned, Shared, Stage, State, tell};
use crate::{Ask, NetworkError, Rights, SetUp, Take, Taker, files};

/// What a run has that has a set-up.
pub(crate) enum Bound {
    /// All that it asked for.
    Whole(Box<SetUp>),
    /// Something is to be done before it can be used.
    Unfinished,
}

/// What came of the wish for a set-up.
enum Begun {
    Made,
    /// What it wants is on its way out.
    Waits,
}

/// Who has an address.
enum Holder {
    Run(RunId, String),
    /// Nobody, in a moment.
    Leaves,
}

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
    pub(crate) fn ports_of(&self, ask: &Ask) -> Vec<Publish> {
        let by_plugins = self.list.as_ref().is_some_and(|list| list.has_capability("portMappings"));
        if by_plugins { Vec::new() } else { ask.attachment.publish.clone() }
    }
}

/// Whether nobody may have it after this run.
fn spoils(ask: &Ask) -> bool {
    let attachment = &ask.attachment;
    // What the kernel remembers of connections to a published port would lead to the next one.
    ask.rights == Rights::Administers
        || ask.taker != Taker::Processes
        || attachment.ip.is_some()
        || attachment.ip6.is_some()
        || attachment.rate_bytes_per_s.is_some()
        || !attachment.publish.is_empty()
}

impl Shared {
    /// Without a wait for what another run has.
    pub(crate) fn take_now(self: &Arc<Self>, ask: Ask) -> Result<Take, NetworkError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let key = (ask.namespace.clone(), ask.attachment.name.clone());
        let name = ask.attachment.name.clone();
        if state.closed {
            return Err(NetworkError::Removed(name));
        }
        let id = *state.by_name.get(&key).ok_or(NetworkError::Unknown(key.0, key.1))?;
        if let Some((port, run)) =
            ask.attachment.publish.iter().find_map(|port| Some((port, state.publisher_of(port)?)))
        {
            let port = format!("port {}", text::published(port));
            return Err(NetworkError::PortPublished(port, state.name_of(run), run));
        }
        let net = state.nets.get_mut(&id).ok_or(NetworkError::Removed(name))?;
        if let Stage::Broken(why) = &net.stage {
            return Err(NetworkError::Broken(net.name().clone(), why.clone()));
        }
        if ask.taker != Taker::Processes && net.is_cni() {
            return Err(NetworkError::NoGuests(net.name().clone()));
        }
        let (run, wish) = (ask.run, net.wish(&ask));
        let (sender, receiver) = oneshot::channel();
        let place = Place { network: id, ask, setup: None, answer: Some(sender), published: Vec::new(), problem: None };
        let taken = net.pool.take(run, wish);
        state.runs.insert(run, place);
        match taken {
            pool::Take::Taken(setup) => match self.bind(state, id, run, setup)? {
                Bound::Whole(set_up) => {
                    state.runs.entry(run).and_modify(|place| place.answer = None);
                    self.refill(id);
                    return Ok(Take::Ready(*set_up));
                }
                // There is something left to do for it.
                Bound::Unfinished => self.enqueue(state, id, Job::Finish(run)),
            },
            pool::Take::Make => match self.start_making(state, id, Some(run)) {
                Ok(Begun::Made) => {}
                Ok(Begun::Waits) => {
                    state.nets.get_mut(&id).into_iter().for_each(|net| net.pool.wait_again(run, Wish::Own));
                }
                Err(error) => {
                    state.runs.remove(&run);
                    return Err(error);
                }
            },
            pool::Take::WaitFor(setup) => self.start_removal(state, id, setup),
            pool::Take::Wait => {}
        }
        self.refill(id);
        Ok(Take::Later(receiver))
    }

    /// One that is gone from the pool is made anew, aside.
    fn refill(self: &Arc<Self>, id: NetworkId) {
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            let mut state = shared.state();
            shared.settle(&mut state, id);
        });
    }

    /// The set-up is the run's from now on. When that cannot be written down it is not, and is removed.
    pub(crate) fn bind(
        self: &Arc<Self>,
        state: &mut State,
        id: NetworkId,
        run: RunId,
        setup: SetupId,
    ) -> Result<Bound, NetworkError> {
        let bound = self.try_bind(state, id, run, setup);
        if bound.is_err() {
            state.runs.remove(&run);
            state.nets.get_mut(&id).into_iter().for_each(|net| net.pool.condemn(setup));
            self.start_removal(state, id, setup);
        }
        bound
    }

    fn try_bind(
        self: &Arc<Self>,
        state: &mut State,
        id: NetworkId,
        run: RunId,
        setup: SetupId,
    ) -> Result<Bound, NetworkError> {
        let gone = || NetworkError::Book(format!("run {run} is gone"));
        let net = state.nets.get(&id).ok_or_else(gone)?;
        let place = state.runs.get_mut(&run).ok_or_else(gone)?;
        place.setup = Some(setup);
        place.published = net.ports_of(&place.ask);
        let by_rules = !place.published.is_empty();
        let by_tool = place.ask.attachment.rate_bytes_per_s.is_some() && net.wish(&place.ask) == Wish::Any;
        let tap_owner = match place.ask.taker {
            Taker::Processes => None,
            Taker::Machine { owner } => Some(owner),
        };
        let user = User {
            run,
            names: place.ask.names.clone(),
            publish: place.ask.attachment.publish.clone(),
            dns: place.ask.attachment.dns.clone(),
            spoils: spoils(&place.ask),
            tap_owner,
        };
        state.write_user(setup, user)?;
        failpoint::hit("setup-taken");
        self.zone_changed(state, id);
        if by_rules || by_tool || tap_owner.is_some() {
            return Ok(Bound::Unfinished);
        }
        self.set_up(state, run).map(|set_up| Bound::Whole(Box::new(set_up))).ok_or_else(gone)
    }

    /// What the run is told of its place.
    pub(crate) fn set_up(&self, state: &State, run: RunId) -> Option<SetUp> {
        let place = state.runs.get(&run)?;
        let net = state.nets.get(&place.network)?;
        let lease = state.lease(place.setup?)?;
        let machine = || files::machine_resolvers(&state.own_addresses());
        let plugins = || self.answered(lease.setup).map(|outcome| outcome.dns).unwrap_or_default();
        let guest = match place.ask.taker {
            Taker::Processes => None,
            Taker::Machine { .. } => Some(Box::new(crate::guest::place(&net.plan(&self.settings, lease)?))),
        };
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
            guest,
        })
    }

    /// Who waits has one made, as far as that may be; then the pool is filled.
    pub(crate) fn serve(self: &Arc<Self>, state: &mut State, id: NetworkId) {
        let mut waits = Vec::new();
        loop {
            let Some(net) = state.nets.get_mut(&id) else { return };
            if net.removed || state.closed {
                return;
            }
            let Some((run, wish)) = net.pool.next_waiting() else { break };
            match self.start_making(state, id, Some(run)) {
                Ok(Begun::Made) => {}
                // What it waits for serves it again when it is gone; nobody else waits for that.
                Ok(Begun::Waits) => waits.push((run, wish)),
                Err(error) => tell(state, run, Err(error)),
            }
        }
        for (run, wish) in waits.into_iter().rev() {
            state.nets.get_mut(&id).into_iter().for_each(|net| net.pool.wait_again(run, wish));
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
    ) -> Result<Begun, NetworkError> {
        let setup = self.fresh_id(state);
        let wanted = run
            .and_then(|run| state.runs.get(&run))
            .map_or(Wanted::default(), |place| Wanted { ip: place.ask.attachment.ip, ip6: place.ask.attachment.ip6 });
        match self.holder(state, id, wanted) {
            Some(Holder::Leaves) => return Ok(Begun::Waits),
            Some(Holder::Run(other, address)) => {
                let (network, who) = (self.name_of(state, id), state.name_of(other));
                return Err(NetworkError::AddressTaken(network, address, who, other));
            }
            None => {}
        }
        let gone = || NetworkError::Book("the network is gone".to_owned());
        let net = state.nets.get(&id).ok_or_else(gone)?;
        let (record, cni) = (net.record.clone(), net.is_cni());
        let book = self.book(state)?;
        let mut lease = Lease { setup, network: id, ip: None, ip6: None, cni, made: false, user: None };
        if let Some(bridge) = &record.bridge {
            let found = book.leases().find(id, bridge, wanted);
            let (ip, ip6) = found.map_err(|error| {
                let gateway = bridge.gateway;
                let range = format!("its range is {}, of which {gateway} is the machine's own", bridge.subnet);
                NetworkError::Address(record.name.clone(), format!("{error}; {range}"))
            })?;
            (lease.ip, lease.ip6) = (Some(ip), ip6);
            book.leases_mut().passed(id, bridge, ip);
        }
        book.write(Entry::Lease(lease)).map_err(|error| NetworkError::Book(error.to_string()))?;
        let net = state.nets.get_mut(&id).ok_or_else(gone)?;
        net.pool.making(setup, run);
        let job = if run.is_some() { Job::Make(setup) } else { Job::Fill(setup) };
        self.enqueue(state, id, job);
        Ok(Begun::Made)
    }

    fn name_of(&self, state: &State, id: NetworkId) -> NetworkName {
        state.nets.get(&id).map(|net| net.name().clone()).expect("asked for by those who have it")
    }

    /// Who has the address that is asked for. One that is idle goes for it; a workload that is started again finds its own
    /// on the way out.
    fn holder(self: &Arc<Self>, state: &mut State, id: NetworkId, wanted: Wanted) -> Option<Holder> {
        let has = |lease: &&Lease| {
            lease.network == id
                && (wanted.ip.is_some() && lease.ip == wanted.ip || wanted.ip6.is_some() && lease.ip6 == wanted.ip6)
        };
        let setup = state.book.iter().flat_map(|book| book.leases().all()).find(has).map(|lease| lease.setup)?;
        let net = state.nets.get_mut(&id)?;
        let address = wanted.ip.map(|ip| ip.to_string()).or_else(|| wanted.ip6.map(|ip6| ip6.to_string()));
        match net.pool.place(setup) {
            Some(pool::Place::Idle) => {
                net.pool.condemn(setup);
                self.start_removal(state, id, setup);
                Some(Holder::Leaves)
            }
            Some(pool::Place::Taken(run) | pool::Place::Making(Some(run))) => {
                Some(Holder::Run(run, address.unwrap_or_default()))
            }
            Some(_) => Some(Holder::Leaves),
            None => None,
        }
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
    pub(crate) fn release(self: &Arc<Self>, run: RunId, after: Spoiled) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.knocking.remove(&run);
        let Some(place) = state.runs.remove(&run) else { return };
        let id = place.network;
        failpoint::hit("setup-released");
        let spoiled = if spoils(&place.ask) || place.problem.is_some() { Spoiled::Yes } else { after };
        let Some(net) = state.nets.get_mut(&id) else { return };
        if let Some(setup) = net.pool.released(run, spoiled) {
            let lease = state.lease(setup);
            let (ip, ip6) = lease.map_or((None, None), |lease| (lease.ip, lease.ip6));
            let ports: Vec<_> = place.published.iter().map(|publish| Port { publish: *publish, ip, ip6 }).collect();
            let published = !ports.is_empty();
            if published {
                state.unpublished.insert(run, ports);
            }
            let returned = Returned { setup, run: Some(run), published, since_ms: self.now_ms() };
            self.zone_changed(state, id);
            self.enqueue(state, id, Job::Return(returned));
        }
        // The next run may want them at once.
        state.ports.remove(&run);
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
