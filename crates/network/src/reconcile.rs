//! What is there against what should be, when the daemon comes up.
//!
//! | found | becomes |
//! |---|---|
//! | a lease of a live run | the run's again; what is missing of it is reported on the run |
//! | a lease of a set-up that was idle, made and without a flaw | idle again |
//! | any other lease | removed, and crossed out |
//! | a link or network namespace with our tag and no lease | removed |
//! | a bridge with our tag and no network | removed |
//! | the table of nftables | written anew, or removed |
//!
//! Names with another tag are not looked at.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hostler_linux::netns;
use hostler_model::ids::{NetworkId, RunId, SetupId};
use hostler_model::limits;
use hostler_model::network::{Attachment, NetworkRecord};

use crate::book::leases::{Entry, Lease, User};
use crate::names::{self, Owned};
use crate::netlink::Netlink;
use crate::pool;
use crate::setup::{self, Users};
use crate::state::{Job, Place, Returned, Shared, Stage, State};
use crate::work::Rules;
use crate::{Ask, NetworkError, Rights, Taker, bridge};

/// What was found.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Live runs whose network is not whole, and what is missing.
    pub broken: Vec<(RunId, String)>,
    /// What was ours and is nobody's, and was removed.
    pub removed: Vec<String>,
}

impl Shared {
    /// Networks, and the runs that live. Blocks; before anything is taken or released.
    pub(crate) fn adopt(self: &Arc<Self>, records: Vec<NetworkRecord>, live: &HashSet<RunId>) -> Adopted {
        let mut adopted = Adopted::default();
        let nothing = records.is_empty() && !self.settings.directory.join("leases").exists();
        let ids: Vec<_> = records.iter().map(|record| record.id).collect();
        for record in records {
            self.know(&mut self.state(), Arc::new(record));
        }
        if !self.settings.privileged {
            for net in self.state().nets.values_mut() {
                net.stage = Stage::Broken(NetworkError::Unprivileged.to_string());
            }
            return adopted;
        }
        if nothing {
            return adopted;
        }
        if let Err(error) = self.book(&mut self.state()).map(drop) {
            // Whoever takes a place is told so, until it can be opened. What is there is left alone: it may be a live run's.
            tracing::error!(%error, "networks cannot be used");
        }
        // Rules come last, once for all: those that are there serve until then.
        ids.iter().for_each(|id| self.ensure(*id, Rules::Later));
        let book_is_open = self.state().book.is_some();
        let mut leases: Vec<_> = self.state().book.iter().flat_map(|book| book.leases().all()).cloned().collect();
        // Who lives comes before who might.
        leases.sort_by_key(|lease| !lease.user.as_ref().is_some_and(|user| live.contains(&user.run)));
        let owned: BTreeSet<_> = leases.iter().map(|lease| lease.setup).collect();
        for lease in leases {
            self.adopt_lease(lease, live, &mut adopted);
        }
        if book_is_open {
            self.remove_unowned(&ids.into_iter().collect(), &owned, &mut adopted);
        }
        self.publish_again();
        if let Err(error) = self.apply_rules() {
            tracing::warn!(%error, "the rules of the node's networks");
        }
        let all: Vec<_> = self.state().nets.keys().copied().collect();
        for id in all {
            self.zone_changed(&mut self.state(), id);
        }
        adopted
    }

    fn adopt_lease(self: &Arc<Self>, lease: Lease, live: &HashSet<RunId>, adopted: &mut Adopted) {
        let id = lease.network;
        let plan = {
            let state = self.state();
            let Some(net) = state.nets.get(&id) else {
                drop(state);
                return self.remove_orphan(&lease, adopted);
            };
            net.plan(&self.settings, &lease)
        };
        let flaw = |users| match &plan {
            Some(plan) => setup::flaw(plan, users).unwrap_or_else(|error| Some(error.to_string())),
            // Of CNI networks plugins know more; they are asked later, since they may take their time.
            None if lease.cni => match netns::identity(&names::namespace(self.settings.tag, lease.setup)) {
                Ok(Some(_)) => None,
                _ => Some("its network namespace is gone".to_owned()),
            },
            None => Some("its network cannot be used".to_owned()),
        };
        if let Some(user) = lease.user.clone().filter(|user| live.contains(&user.run)) {
            let problem = flaw(if user.spoils { Users::MayChange } else { Users::May });
            if let Some(problem) = &problem {
                adopted.broken.push((user.run, problem.clone()));
            }
            return self.adopt_user(&lease, user, problem);
        }
        let is_idle = lease.made && lease.user.is_none();
        let nobody = || {
            let path = names::namespace(self.settings.tag, lease.setup);
            let found = netns::identity(&path).ok().flatten().map(netns::processes);
            matches!(found, Some(Ok(pids)) if pids.is_empty()) && setup::sockets(&path).is_ok_and(|count| count == 0)
        };
        // In this order: the look itself has a socket there, which counts for some milliseconds more.
        let whole = is_idle && !lease.cni && nobody() && flaw(Users::None).is_none();
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(net) = state.nets.get_mut(&id) else { return };
        let wanted = is_idle && net.pool.wants_idle();
        if whole && wanted {
            net.pool.adopt(lease.setup, pool::Place::Idle);
        } else if is_idle && lease.cni && wanted {
            // Proved clean as if somebody had just left it.
            net.pool.adopt(lease.setup, pool::Place::Cleaning);
            let returned = Returned { setup: lease.setup, run: None, published: false, since_ms: self.now_ms() };
            self.enqueue(state, id, Job::Return(returned));
        } else {
            net.pool.adopt(lease.setup, pool::Place::Removing);
            self.start_removal(state, id, lease.setup);
        }
    }

    /// The place of a run that lives.
    fn adopt_user(&self, lease: &Lease, user: User, problem: Option<String>) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(net) = state.nets.get_mut(&lease.network) else { return };
        net.pool.adopt(lease.setup, pool::Place::Taken(user.run));
        let mut attachment = Attachment::to(net.name().clone());
        (attachment.publish, attachment.dns) = (user.publish, user.dns);
        let ask = Ask {
            run: user.run,
            namespace: net.record.namespace.clone(),
            attachment,
            hostname: user.names.first().cloned().unwrap_or_default(),
            names: user.names,
            rights: if user.spoils { Rights::Administers } else { Rights::Ordinary },
            taker: user.tap_owner.map_or(Taker::Processes, |owner| Taker::Machine { owner }),
        };
        let published = net.ports_of(&ask);
        let place = Place { network: lease.network, ask, setup: Some(lease.setup), answer: None, published, problem };
        state.runs.insert(user.run, place);
    }

    /// Asks CNI plugins about the places of live runs; what is missing of them. Blocks, for as long as plugins do.
    pub(crate) fn check_live(&self) -> Vec<(RunId, String)> {
        let asked: Vec<_> = {
            let state = self.state();
            let of_plugins = |setup: &SetupId| state.lease(*setup).is_some_and(|lease| lease.cni);
            let places = state.runs.iter().filter_map(|(run, place)| Some((*run, place.setup?)));
            places.filter(|(_, setup)| of_plugins(setup)).collect()
        };
        let mut broken = Vec::new();
        for (run, setup) in asked {
            let Err(error) = self.check(setup) else { continue };
            if let Some(place) = self.state().runs.get_mut(&run).filter(|place| place.setup == Some(setup)) {
                place.problem = Some(error.to_string());
                broken.push((run, error.to_string()));
            }
        }
        broken
    }

    /// A lease of a network that is not there any more.
    fn remove_orphan(self: &Arc<Self>, lease: &Lease, adopted: &mut Adopted) {
        let setup = lease.setup;
        adopted.removed.push(names::outer(self.settings.tag, setup));
        let shared = Arc::clone(self);
        let cni = lease.cni;
        // Plugins may take their time, and may have to be asked again.
        self.handle.spawn(async move {
            let mut wait_ms = limits::SETUP_BACKOFF_INITIAL_MS;
            loop {
                let undoing = Arc::clone(&shared);
                let undo = move || match cni {
                    true => undoing.undo_now(setup).map_err(|error| error.to_string()),
                    false if undoing.let_go(BTreeSet::from([setup])).is_empty() => Ok(()),
                    false => Err("it cannot be removed".to_owned()),
                };
                match tokio::task::spawn_blocking(undo).await {
                    Ok(Err(error)) => tracing::warn!(%setup, error, "what is left of a network; it is tried again"),
                    _ => break,
                }
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                wait_ms = (wait_ms * 2).min(limits::SETUP_BACKOFF_MAX_MS);
            }
            if let Some(book) = &mut shared.state().book {
                book.write_or_remember(Entry::Free(setup));
            }
        });
    }

    fn remove_unowned(&self, networks: &BTreeSet<NetworkId>, setups: &BTreeSet<SetupId>, adopted: &mut Adopted) {
        let tag = self.settings.tag;
        let links = Netlink::open().and_then(|mut netlink| netlink.links()).unwrap_or_default();
        let mut found: BTreeMap<String, Owned> =
            links.into_iter().filter_map(|link| Some((link.name.clone(), names::owned(tag, &link.name)?))).collect();
        for entry in std::fs::read_dir(netns::DIRECTORY).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.extend(names::owned(tag, &name).map(|owned| (name, owned)));
        }
        let mut unowned = BTreeSet::new();
        for (name, owned) in found {
            match owned {
                Owned::Network(id) if !networks.contains(&id) => {
                    if let Err(error) = bridge::remove(tag, id) {
                        tracing::warn!(name, %error, "removing a bridge that is no network's");
                    }
                    adopted.removed.push(name);
                }
                Owned::Setup(setup) if !setups.contains(&setup) => {
                    unowned.insert(setup);
                    adopted.removed.push(name);
                }
                _ => {}
            }
        }
        if !unowned.is_empty() {
            let left = self.let_go(unowned);
            if !left.is_empty() {
                tracing::warn!(?left, "set-ups that are nobody's cannot be removed");
            }
        }
    }

    /// Ports of live runs are kept from others again. One that somebody has taken meanwhile leads to the run all the same.
    fn publish_again(&self) {
        let mut guard = self.state();
        let state: &mut State = &mut guard;
        for (run, place) in state.runs.iter().filter(|(_, place)| !place.published.is_empty()) {
            let lease = place.setup.and_then(|setup| state.book.as_ref()?.leases().get(setup));
            let (ip, ip6) = lease.map_or((None, None), |lease| (lease.ip, lease.ip6));
            let mut kept = Vec::new();
            for publish in &place.published {
                match crate::work::reserve(publish, ip, ip6) {
                    Ok(sockets) => kept.extend(sockets),
                    Err(error) => tracing::warn!(%run, port = publish.host_port, %error, "keeping a published port"),
                }
            }
            state.ports.insert(*run, kept);
        }
    }
}
