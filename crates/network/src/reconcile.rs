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

use hostler_linux::netns;
use hostler_model::ids::{NetworkId, RunId, SetupId};
use hostler_model::network::{Attachment, NetworkRecord};

use crate::book::leases::{Entry, Lease};
use crate::names::{self, Owned};
use crate::netlink::Netlink;
use crate::pool;
use crate::setup::{self, Users};
use crate::state::{Job, Place, Shared, Stage, State};
use crate::{Ask, NetworkError, Rights, bridge};

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
            tracing::error!(%error, "networks cannot be used");
            return adopted;
        }
        for id in &ids {
            self.ensure_now(*id);
        }
        let leases: Vec<_> = self.state().book.iter().flat_map(|book| book.leases().all()).cloned().collect();
        let owned: BTreeSet<_> = leases.iter().map(|lease| lease.setup).collect();
        for lease in leases {
            self.adopt_lease(lease, live, &mut adopted);
        }
        self.remove_unowned(&ids.into_iter().collect(), &owned, &mut adopted);
        self.publish_again();
        if let Err(error) = self.apply_rules(None) {
            tracing::warn!(%error, "the rules of the node's networks");
        }
        let all: Vec<_> = self.state().nets.keys().copied().collect();
        for id in all {
            self.zone_changed(&mut self.state(), id);
        }
        adopted
    }

    /// Makes the network what it should be; what cannot be made is tried again later.
    fn ensure_now(self: &Arc<Self>, id: NetworkId) {
        self.carry_out(id, Job::Ensure);
    }

    fn adopt_lease(self: &Arc<Self>, lease: Lease, live: &HashSet<RunId>, adopted: &mut Adopted) {
        let id = lease.network;
        let flaw = |users| {
            let plan = self.state().nets.get(&id).map(|net| (net.plan(&self.settings, &lease), net.is_cni()));
            match plan {
                None => Some("its network is not known any more".to_owned()),
                Some((Some(plan), _)) => setup::flaw(&plan, users).unwrap_or_else(|error| Some(error.to_string())),
                Some((None, true)) => match netns::identity(&names::namespace(self.settings.tag, lease.setup)) {
                    Ok(Some(_)) => self.check(lease.setup).err().map(|error| error.to_string()),
                    _ => Some("its network namespace is gone".to_owned()),
                },
                Some((None, false)) => Some("its network cannot be used".to_owned()),
            }
        };
        if let Some(user) = lease.user.clone().filter(|user| live.contains(&user.run)) {
            let problem = flaw(Users::May);
            if let Some(problem) = &problem {
                adopted.broken.push((user.run, problem.clone()));
            }
            let mut guard = self.state();
            let state = &mut *guard;
            let Some(net) = state.nets.get_mut(&id) else { return };
            net.pool.adopt(lease.setup, pool::Place::Taken(user.run));
            let mut attachment = Attachment::to(net.name().clone());
            attachment.publish.clone_from(&user.publish);
            attachment.dns.clone_from(&user.dns);
            let ask = Ask {
                run: user.run,
                namespace: net.record.namespace.clone(),
                attachment,
                hostname: user.names.first().cloned().unwrap_or_default(),
                names: user.names,
                rights: if user.spoils { Rights::Administers } else { Rights::Ordinary },
            };
            let published = user.publish;
            let setup = Some(lease.setup);
            let place = Place { network: id, ask, setup, answer: None, published, leaving: false, problem };
            state.runs.insert(user.run, place);
            return;
        }
        let is_idle = lease.made && lease.user.is_none();
        let path = names::namespace(self.settings.tag, lease.setup);
        let whole = is_idle && setup::sockets(&path).is_ok_and(|count| count == 0) && flaw(Users::None).is_none();
        let mut guard = self.state();
        let state = &mut *guard;
        match state.nets.get_mut(&id) {
            Some(net) if whole && net.pool.has_room() => net.pool.adopt(lease.setup, pool::Place::Idle),
            Some(net) => {
                net.pool.adopt(lease.setup, pool::Place::Removing);
                self.start_removal(state, id, lease.setup);
            }
            None => {
                drop(guard);
                self.remove_orphan(&lease, adopted);
            }
        }
    }

    /// A lease of a network that is not there any more.
    fn remove_orphan(self: &Arc<Self>, lease: &Lease, adopted: &mut Adopted) {
        let what = names::outer(self.settings.tag, lease.setup);
        let undone = if lease.cni {
            let undone = self.undo_now(lease.setup);
            undone.map_err(|error| error.to_string())
        } else if self.let_go(BTreeSet::from([lease.setup])).is_empty() {
            Ok(())
        } else {
            Err("it cannot be removed".to_owned())
        };
        match undone {
            Ok(()) => {
                adopted.removed.push(what);
                if let Some(book) = &mut self.state().book {
                    book.write_or_remember(Entry::Free(lease.setup));
                }
            }
            Err(error) => tracing::warn!(setup = what, error, "it is tried again when the daemon comes up"),
        }
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

    /// Ports of live runs are kept from others again.
    fn publish_again(&self) {
        let mut guard = self.state();
        let state: &mut State = &mut guard;
        for (run, place) in state.runs.iter().filter(|(_, place)| !place.published.is_empty()) {
            let lease = place.setup.and_then(|setup| state.book.as_ref()?.leases().get(setup));
            let (ip, ip6) = lease.map_or((None, None), |lease| (lease.ip, lease.ip6));
            let kept =
                place.published.iter().flat_map(|publish| crate::work::reserve(publish, ip, ip6).unwrap_or_default());
            state.ports.insert(*run, kept.collect());
        }
    }
}
