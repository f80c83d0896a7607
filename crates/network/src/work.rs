//! The jobs of a network, on threads that may block.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hostler_linux::net::{PortKind, reserve_port};
use hostler_linux::{failpoint, netns};
use hostler_model::ids::{NetworkId, RunId, SetupId};
use hostler_model::limits;
use hostler_model::network::{Protocol, Publish, text};

use crate::book::leases::Entry;
use crate::dns::Resolver;
use crate::pool::{Next, Spoiled};
use crate::rules::{self, Net as RulesNet, Port};
use crate::setup::{self, SetupError, Users};
use crate::state::{Job, Returned, Shared, Stage, State, tell};
use crate::take::Bound;
use crate::{NetworkError, Taker, bridge, cni, conntrack, guest, names};

impl Shared {
    pub(crate) fn carry_out(self: &Arc<Self>, id: NetworkId, job: Job) {
        match job {
            Job::Ensure => self.ensure(id, Rules::Write),
            Job::Unmake => self.unmake(id),
            Job::Make(setup) | Job::Fill(setup) => self.make(id, setup),
            Job::Finish(run) => self.finish(id, run),
            Job::Return(returned) => self.take_back(id, returned),
            Job::Undo { setup, attempt } => self.undo(id, setup, attempt),
        }
    }

    /// Makes a network what it should be.
    pub(crate) fn ensure(self: &Arc<Self>, id: NetworkId, rules: Rules) {
        let record = match self.state().nets.get(&id) {
            Some(net) => net.record.clone(),
            None => return,
        };
        let made = match &record.bridge {
            Some(bridge) => self.ensure_bridge(&record, bridge, rules),
            None => cni::List::parse(record.spec.cni.as_deref().unwrap_or_default())
                .map(|_| (0, None))
                .map_err(|error| error.to_string()),
        };
        let mut guard = self.state();
        let Some(net) = guard.nets.get_mut(&id) else { return };
        match made {
            Ok((index, resolver)) => {
                (net.stage, net.failures) = (Stage::Ready(index), 0);
                net.resolver = resolver.or(net.resolver.take());
                self.zone_changed(&mut guard, id);
            }
            Err(why) => {
                tracing::warn!(network = %record.name, why, "a network cannot be made");
                let wait_ms =
                    (limits::SETUP_BACKOFF_INITIAL_MS << net.failures.min(16)).min(limits::SETUP_BACKOFF_MAX_MS);
                net.failures += 1;
                net.stage = Stage::Broken(why);
                if !net.removed {
                    self.enqueue_later(id, Job::Ensure, wait_ms);
                }
            }
        }
    }

    fn ensure_bridge(
        self: &Arc<Self>,
        record: &hostler_model::network::NetworkRecord,
        bridge: &hostler_model::network::Bridge,
        rules: Rules,
    ) -> Result<(u32, Option<Resolver>), String> {
        let index = bridge::ensure(self.settings.tag, record, bridge).map_err(|error| error.to_string())?;
        if rules == Rules::Write {
            self.apply_rules().map_err(|error| error.to_string())?;
        }
        if self.state().nets.get(&record.id).is_some_and(|net| net.resolver.is_some()) {
            return Ok((index, None));
        }
        let mut listen = vec![IpAddr::V4(bridge.gateway)];
        listen.extend(bridge.gateway6.map(IpAddr::V6));
        let name = names::bridge(self.settings.tag, record.id);
        let zone = crate::files::zone(&self.state(), record.id).unwrap_or_default();
        let _entered = self.handle.enter();
        let resolver = Resolver::start(&self.handle, &listen, Some(&name), zone);
        resolver
            .map(|resolver| (index, Some(resolver)))
            .map_err(|error| format!("names cannot be answered in it: {error}"))
    }

    /// Writes the whole table anew.
    pub(crate) fn apply_rules(&self) -> Result<(), crate::tool::ToolError> {
        let _held = self.hold_rules();
        self.write_rules()
    }

    /// What is written while this is held is all that is.
    fn hold_rules(&self) -> std::sync::MutexGuard<'_, ()> {
        self.rules.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Of every network that is known, also of one that cannot be used now: who is in it stays apart from the others.
    fn write_rules(&self) -> Result<(), crate::tool::ToolError> {
        let (nets, ports) = {
            let mut state = self.state();
            // They are not among those that are written.
            state.unpublished.clear();
            let nets = state.nets.iter().filter(|(_, net)| !net.unmaking).filter_map(|(id, net)| {
                let bridge = net.record.bridge.as_ref()?;
                Some(RulesNet {
                    bridge: names::bridge(self.settings.tag, *id),
                    subnet: bridge.subnet,
                    subnet6: bridge.subnet6,
                    internal: net.record.spec.internal,
                })
            });
            (nets.collect::<Vec<_>>(), published(&state))
        };
        if nets.is_empty() && ports.is_empty() {
            return rules::remove(self.settings.tag);
        }
        rules::apply(self.settings.tag, &nets, &ports)
    }

    fn unmake(self: &Arc<Self>, id: NetworkId) {
        let mut guard = self.state();
        let state = &mut *guard;
        let (record, resolver) = match state.nets.get_mut(&id) {
            Some(net) => {
                (net.stage, net.unmaking) = (Stage::Making, true);
                let key = (net.record.namespace.clone(), net.record.name.clone());
                let taken = (net.record.clone(), net.resolver.take());
                if state.by_name.get(&key) == Some(&id) {
                    state.by_name.remove(&key);
                }
                taken
            }
            None => return,
        };
        drop(guard);
        // Its sockets first: they are bound to the bridge.
        if let Some(resolver) = resolver {
            self.handle.block_on(resolver.stop());
        }
        let removed = if record.bridge.is_some() {
            let removed = bridge::remove(self.settings.tag, id);
            removed.map_err(|error| error.to_string()).and(self.apply_rules().map_err(|error| error.to_string()))
        } else {
            Ok(())
        };
        if let Err(error) = removed {
            tracing::warn!(network = %record.name, error, "what is left of a network goes when the daemon comes up again");
        }
        let mut state = self.state();
        if let Some(book) = &mut state.book {
            book.leases_mut().forget(id);
        }
        state.nets.remove(&id);
        self.changed.notify_waiters();
    }

    fn make(self: &Arc<Self>, id: NetworkId, setup: SetupId) {
        enum Way {
            Bridge(Box<setup::Plan>),
            Plugins(Arc<cni::List>, cni::Wishes),
        }
        let way = {
            let state = self.state();
            let Some(net) = state.nets.get(&id) else { return };
            let Some(lease) = state.lease(setup) else { return };
            let plan = net.plan(&self.settings, lease).map(|plan| Way::Bridge(Box::new(plan)));
            plan.or_else(|| Some(Way::Plugins(net.list.clone()?, self.wishes(&state, id, setup)))).ok_or_else(|| {
                match &net.stage {
                    Stage::Broken(why) => why.clone(),
                    _ => "its configuration list makes no sense".to_owned(),
                }
            })
        };
        let made = match way {
            Ok(Way::Bridge(plan)) => setup::make(&plan).map(|()| None).map_err(|error| error.to_string()),
            Ok(Way::Plugins(list, wishes)) => {
                self.add_by_plugins(&list, setup, wishes).map(Some).map_err(|error| error.to_string())
            }
            Err(why) => Err(why),
        };
        let mut guard = self.state();
        match made {
            Ok(outcome) => {
                guard.change_lease(setup, |lease| {
                    lease.made = true;
                    if let Some(outcome) = &outcome {
                        (lease.ip, lease.ip6) = (outcome.first_ip4(), outcome.first_ip6());
                    }
                });
                failpoint::hit("setup-made");
                let next = guard.nets.get_mut(&id).map_or(Next::Nothing, |net| net.pool.made(setup));
                self.next(&mut guard, id, setup, next);
            }
            Err(why) => {
                let now_ms = self.now_ms();
                let Some(net) = guard.nets.get_mut(&id) else { return };
                let name = net.name().clone();
                tracing::warn!(network = %name, %setup, why, "a set-up could not be made");
                let run = net.pool.failed(setup, &why, now_ms);
                if let Some(run) = run {
                    tell(&mut guard, run, Err(NetworkError::Failed(name, why)));
                }
                self.start_removal(&mut guard, id, setup);
            }
        }
    }

    /// Carries on with a set-up that is ready.
    fn next(self: &Arc<Self>, state: &mut State, id: NetworkId, setup: SetupId, next: Next) {
        match next {
            Next::Run(run) => {
                let sender = state.runs.get_mut(&run).and_then(|place| place.answer.take());
                match self.bind(state, id, run, setup) {
                    Ok(Bound::Whole(set_up)) => drop(sender.map(|sender| sender.send(Ok(*set_up)))),
                    Ok(Bound::Unfinished) => {
                        state.runs.entry(run).and_modify(|place| place.answer = sender);
                        self.enqueue(state, id, Job::Finish(run));
                    }
                    Err(error) => drop(sender.map(|sender| sender.send(Err(error)))),
                }
            }
            Next::Idle => {
                if state.lease(setup).is_some_and(|lease| lease.user.is_some()) {
                    state.change_lease(setup, |lease| lease.user = None);
                }
            }
            Next::Remove => self.start_removal(state, id, setup),
            Next::Nothing => {}
        }
    }

    /// Makes a run's place a virtual machine's if it is one, publishes ports and limits the rate.
    fn finish(self: &Arc<Self>, id: NetworkId, run: RunId) {
        let (setup, ports, rate, plan) = {
            let state = self.state();
            // It has gone meanwhile.
            let Some(place) = state.runs.get(&run) else { return };
            let Some(lease) = place.setup.and_then(|setup| state.lease(setup)) else { return };
            let port = |publish: &Publish| Port { publish: *publish, ip: lease.ip, ip6: lease.ip6 };
            let ports: Vec<_> = place.published.iter().map(port).collect();
            let plan = match place.ask.taker {
                Taker::Processes => None,
                Taker::Machine { .. } => Some(state.nets.get(&id).and_then(|net| net.plan(&self.settings, lease))),
            };
            (lease.setup, ports, place.ask.attachment.rate_bytes_per_s, plan)
        };
        let on_bridge = !ports.is_empty() && self.state().nets.get(&id).is_some_and(|net| !net.is_cni());
        let reach = || if on_bridge { setup::let_reach_itself(self.settings.tag, setup) } else { Ok(()) };
        let limit = || rate.map_or(Ok(()), |rate| setup::limit_rate(self.settings.tag, setup, rate));
        let set = || reach().and_then(|()| limit()).map_err(|error| self.failed(id, &error.to_string()));
        let converted = match plan {
            None => Ok(()),
            Some(None) => Err(self.failed(id, "the network cannot be used now")),
            Some(Some(plan)) => guest::convert(&plan).map_err(|error| self.failed(id, &error.to_string())),
        };
        let done = converted.and_then(|()| self.publish(run, &ports)).and_then(|()| set());
        failpoint::hit("setup-finished");
        let mut guard = self.state();
        match done {
            Ok(()) => {
                if let Some(set_up) = self.set_up(&guard, run) {
                    tell(&mut guard, run, Ok(set_up));
                }
            }
            Err(error) => {
                // It has a place all the same, and gives it back like any other.
                let sender = guard.runs.get_mut(&run).and_then(|place| place.answer.take());
                drop(guard);
                self.release(run, Spoiled::Yes);
                if let Some(sender) = sender {
                    let _ = sender.send(Err(error));
                }
            }
        }
    }

    fn failed(&self, id: NetworkId, why: &str) -> NetworkError {
        let name = self.state().nets.get(&id).map(|net| net.name().clone());
        name.map_or_else(|| NetworkError::Book(why.to_owned()), |name| NetworkError::Failed(name, why.to_owned()))
    }

    fn publish(&self, run: RunId, ports: &[Port]) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        let mut kept = Vec::new();
        for port in ports {
            let shown = || format!("port {}", text::published(&port.publish));
            if !port.leads() {
                let why = "its network has no address of that family, or nothing can be led from there";
                return Err(NetworkError::Port(shown(), why.to_owned()));
            }
            let reserved = reserve(&port.publish, port.ip, port.ip6);
            kept.extend(reserved.map_err(|error| NetworkError::Port(shown(), unreserved(&port.publish, &error)))?);
        }
        let _held = self.hold_rules();
        {
            let mut state = self.state();
            // It has gone meanwhile: nobody would ever take them back.
            if !state.runs.contains_key(&run) {
                return Err(NetworkError::Port("a port".to_owned(), "the run is gone".to_owned()));
            }
            state.ports.insert(run, kept);
        }
        // Those of a run that is over, and whose turn to be taken back has not come.
        self.unpublish(|_, old| old.iter().any(|old| ports.iter().any(|new| old.publish.collides(&new.publish))));
        let published = rules::publish(self.settings.tag, ports);
        forget_unled(ports);
        // Somebody may have flushed all rules of the machine: then they are written anew, these ports among them.
        published.or_else(|_| self.write_rules()).map_err(|error| {
            self.state().ports.remove(&run);
            NetworkError::Port("a port".to_owned(), error.to_string())
        })
    }

    /// What was said to it must not be said to who has its address next.
    fn forget_connections(&self, setup: SetupId) {
        let addresses: Vec<_> = {
            let state = self.state();
            let lease = state.lease(setup);
            let of = |lease: &crate::book::leases::Lease| [lease.ip.map(IpAddr::V4), lease.ip6.map(IpAddr::V6)];
            lease.map(of).into_iter().flatten().flatten().collect()
        };
        let forgotten = conntrack::forget(|entry| addresses.iter().any(|address| entry.is_of(*address)));
        if let Err(error) = forgotten {
            tracing::warn!(%setup, %error, "what the kernel remembers of a set-up's connections stays until it forgets it");
        }
    }

    /// Takes ports out of the rules. While they are held, so that nothing else is published meanwhile.
    fn unpublish(&self, which: impl Fn(&RunId, &[Port]) -> bool) {
        let ports: Vec<_> = {
            let mut state = self.state();
            let runs: Vec<_> =
                state.unpublished.iter().filter(|(run, ports)| which(run, ports)).map(|it| *it.0).collect();
            runs.iter().filter_map(|run| state.unpublished.remove(run)).flatten().collect()
        };
        if ports.is_empty() {
            return;
        }
        if let Err(error) = rules::unpublish(self.settings.tag, &ports).or_else(|_| self.write_rules()) {
            tracing::warn!(%error, "published ports stay until the rules are written anew");
        }
    }

    /// A set-up that its run has left: nobody may be in it any more before it is used again, or goes.
    fn take_back(self: &Arc<Self>, id: NetworkId, returned: Returned) {
        let setup = returned.setup;
        {
            let _held = self.hold_rules();
            self.unpublish(|run, _| Some(*run) == returned.run);
        }
        if returned.published {
            self.forget_connections(setup);
        }
        failpoint::hit("setup-unpublished");
        let waited_ms = self.now_ms().saturating_sub(returned.since_ms);
        let left = self.is_in_use(setup, waited_ms);
        if left == InUse::ForNow {
            self.enqueue_later(id, Job::Return(returned), limits::SETUP_LOOK_AGAIN_MS);
            return;
        }
        let plan = {
            let state = self.state();
            let Some(net) = state.nets.get(&id) else { return };
            let keeps = net.pool.place(setup) == Some(crate::pool::Place::Cleaning);
            state.lease(setup).filter(|_| keeps).and_then(|lease| net.plan(&self.settings, lease))
        };
        let flaw = match plan {
            Some(plan) => setup::flaw(&plan, Users::None),
            None => self.flaw_of_plugins(id, setup),
        };
        let flaw = flaw.unwrap_or_else(|error| Some(error.to_string()));
        let flaw = if left == InUse::StillThen { Some("somebody is still in it".to_owned()) } else { flaw };
        failpoint::hit("setup-cleaned");
        let mut guard = self.state();
        let Some(net) = guard.nets.get_mut(&id) else { return };
        match net.pool.place(setup) {
            Some(crate::pool::Place::Cleaning) => {
                if let Some(flaw) = &flaw {
                    tracing::debug!(%setup, flaw, "a set-up is not used again");
                }
                let next = net.pool.cleaned(setup, if flaw.is_some() { Spoiled::Yes } else { Spoiled::No });
                self.next(&mut guard, id, setup, next);
            }
            _ => self.start_removal(&mut guard, id, setup),
        }
    }

    /// Whether somebody is in its network: a process, or a socket that one has given to others. What cannot be found out counts
    /// as somebody.
    fn is_in_use(&self, setup: SetupId, waited_ms: u64) -> InUse {
        let path = names::namespace(self.settings.tag, setup);
        let processes = match netns::identity(&path) {
            Ok(Some(identity)) => netns::processes(identity).map_or(true, |pids| !pids.is_empty()),
            Ok(None) => return InUse::No,
            Err(_) => true,
        };
        let longest_ms = if processes { limits::SETUP_USER_GONE_MAX_MS } else { limits::SETUP_SOCKETS_GONE_MAX_MS };
        match processes || setup::sockets(&path).map_or(true, |count| count > 0) {
            false => InUse::No,
            true if waited_ms < longest_ms => InUse::ForNow,
            true => InUse::StillThen,
        }
    }

    /// Plugins say whether all is as they have made it; sockets that are left they do not know of.
    fn flaw_of_plugins(&self, id: NetworkId, setup: SetupId) -> Result<Option<String>, SetupError> {
        let keeps =
            self.state().nets.get(&id).is_some_and(|net| net.pool.place(setup) == Some(crate::pool::Place::Cleaning));
        if !keeps {
            return Ok(None);
        }
        Ok(self.check(setup).err().map(|error| error.to_string()))
    }

    /// Writes down that nothing of it is left.
    pub(crate) fn gone(self: &Arc<Self>, state: &mut State, id: NetworkId, setup: SetupId) {
        failpoint::hit("setup-freed");
        if let Some(book) = &mut state.book {
            book.write_or_remember(Entry::Free(setup));
        }
        if let Some(net) = state.nets.get_mut(&id) {
            net.pool.removed(setup);
        }
        self.settle(state, id);
    }
}

/// Why a port of this machine cannot be had.
fn unreserved(publish: &Publish, error: &io::Error) -> String {
    match (error.kind(), publish.host) {
        (io::ErrorKind::AddrInUse, _) => {
            format!("in use by a program of this machine (see: ss -lnp sport = {})", publish.host_port)
        }
        (io::ErrorKind::AddrNotAvailable, Some(host)) => format!("{host} is not an address of this machine"),
        _ => error.to_string(),
    }
}

/// Whether the rules are written when a network is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    Write,
    /// Others are made as well, and then they are written once.
    Later,
}

/// Whether somebody is in a network that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InUse {
    No,
    /// He may be on his way out.
    ForNow,
    /// He does not go.
    StillThen,
}

/// Who has sent datagrams to the machine's port before it was published reaches what is there now.
fn forget_unled(ports: &[Port]) {
    let of_udp = ports.iter().filter(|port| port.publish.protocol == Protocol::Udp);
    let numbers: Vec<_> = of_udp.map(|port| port.publish.host_port).collect();
    if numbers.is_empty() {
        return;
    }
    let forgotten = conntrack::forget(|entry| numbers.iter().any(|number| entry.is_unled(*number)));
    if let Err(error) = forgotten {
        tracing::warn!(%error, "who has sent datagrams to a port before it was published may not reach it");
    }
}

/// Keeps a published port of this machine from others, at each address at which it is published.
pub(crate) fn reserve(publish: &Publish, ip: Option<Ipv4Addr>, ip6: Option<Ipv6Addr>) -> io::Result<Vec<OwnedFd>> {
    let kind = match publish.protocol {
        Protocol::Tcp => PortKind::Tcp,
        Protocol::Udp => PortKind::Udp,
    };
    let everywhere = [ip.map(|_| Ipv4Addr::UNSPECIFIED.into()), ip6.map(|_| Ipv6Addr::UNSPECIFIED.into())];
    let addresses: Vec<IpAddr> = match publish.host {
        Some(host) => vec![host],
        None => everywhere.into_iter().flatten().collect(),
    };
    addresses.into_iter().map(|address| reserve_port(SocketAddr::new(address, publish.host_port), kind)).collect()
}

/// Every port that is to be in the rules.
fn published(state: &State) -> Vec<Port> {
    let of = |run: &RunId| state.ports.contains_key(run);
    let places = state.runs.iter().filter(|(run, _)| of(run)).map(|(_, place)| place);
    places
        .flat_map(|place| {
            let lease = place.setup.and_then(|setup| state.lease(setup));
            let (ip, ip6) = lease.map_or((None, None), |lease| (lease.ip, lease.ip6));
            place.published.iter().map(move |publish| Port { publish: *publish, ip, ip6 })
        })
        .collect()
}
