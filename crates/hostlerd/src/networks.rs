//! What the node knows of its networks on the machine. So far it keeps them in mind and makes nothing: the machine side
//! takes this file's place.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hostler_linux::clock;
use hostler_model::ids::{Namespace, NetworkId, NetworkName, RunId};
use hostler_model::network::{Bridge, NetworkRecord, NetworkView, NewNetwork, PoolView, RunNetwork, Subnet4, Subnet6};
use hostler_model::{Problem, ProblemKind};

use crate::node::random;

/// The networks of this machine.
#[derive(Default)]
pub(crate) struct NetworkRoom {
    known: Mutex<BTreeMap<NetworkId, Arc<NetworkRecord>>>,
}

impl NetworkRoom {
    fn known(&self) -> MutexGuard<'_, BTreeMap<NetworkId, Arc<NetworkRecord>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a new network would be: its id, and addresses that no other one has.
    pub(crate) async fn choose(
        &self,
        namespace: &Namespace,
        new: NewNetwork,
        known: Vec<NetworkRecord>,
    ) -> Result<NetworkRecord, Problem> {
        let NewNetwork { name, spec } = new;
        let taken: Vec<_> = known.iter().filter_map(|record| record.bridge.as_ref()).map(|it| it.subnet).collect();
        let free = || {
            let mut all = (64..=127).flat_map(|second| (0..=255).map(move |third| Ipv4Addr::new(10, second, third, 0)));
            all.find_map(|first| {
                let subnet = Subnet4::around(first, 24);
                taken.iter().all(|taken| !taken.overlaps(&subnet)).then_some(subnet)
            })
        };
        let bridge = match &spec.cni {
            Some(_) => None,
            None => {
                let subnet = spec.subnet.or_else(free).ok_or_else(|| {
                    Problem::new(ProblemKind::LimitReached, "no range of addresses is left; name one with --subnet")
                })?;
                let mut octets = [0; 16];
                octets[0] = 0xfd;
                octets[1..6].copy_from_slice(&random::<5>());
                let subnet6 = spec.subnet6.or_else(|| spec.ipv6.then(|| Subnet6::around(octets.into(), 64)));
                Some(Bridge::new(&spec, subnet, subnet6))
            }
        };
        let (id, namespace) = (NetworkId::from_bytes(random()), namespace.clone());
        Ok(NetworkRecord { id, namespace, name, spec, bridge, created_at_ms: clock::wall_ms() })
    }

    /// Waits until it is made on the machine.
    pub(crate) async fn ready(&self, namespace: &Namespace, name: &NetworkName) -> Result<(), Problem> {
        let is_known = self.known().values().any(|record| record.namespace == *namespace && record.name == *name);
        if is_known { Ok(()) } else { Err(hostler_model::network::unknown(namespace, name)) }
    }

    /// How it stands.
    pub(crate) fn view(&self, record: &NetworkRecord) -> NetworkView {
        NetworkView {
            network: record.clone(),
            interface: None,
            problem: None,
            runs: Vec::new(),
            pool: PoolView::default(),
        }
    }

    /// The pools of all networks.
    pub(crate) fn pools(&self) -> Vec<(Namespace, NetworkName, PoolView)> {
        let known = self.known();
        known.values().map(|it| (it.namespace.clone(), it.name.clone(), PoolView::default())).collect()
    }

    /// The place of a run.
    pub(crate) fn of_run(&self, _run: RunId) -> Option<RunNetwork> {
        None
    }

    /// This network is to be made.
    pub(crate) fn add(&self, record: Arc<NetworkRecord>) {
        self.known().insert(record.id, record);
    }

    /// This network is to be undone.
    pub(crate) fn remove(&self, id: NetworkId) {
        self.known().remove(&id);
    }
}
