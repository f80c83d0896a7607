//! Networks: what is asked of them, and what must hold.

use hostler_model::container::Network;
use hostler_model::network::{Attachment, Bridge, NetworkSpec};

use super::*;

fn network_name(number: u8) -> NetworkName {
    format!("n{number}").parse().expect("a name")
}

/// Each has a range of its own. One that is not plain differs in what was asked for.
fn record(number: u8, range: u8, internal: bool) -> NetworkRecord {
    let spec = NetworkSpec { internal, ..NetworkSpec::default() };
    let subnet = format!("10.0.{range}.0/24").parse().expect("a range");
    NetworkRecord {
        id: NetworkId::from_bytes([0, range, number]),
        namespace: Namespace::owner(),
        name: network_name(number),
        bridge: Some(Bridge::new(&spec, subnet, None)),
        spec,
        created_at_ms: 1,
    }
}

pub(crate) fn attached(number: u8) -> Box<Container> {
    let network = Some(Network::Named(Box::new(Attachment::to(network_name(number)))));
    Box::new(Container { rootfs: Some("/".into()), network, ..Container::default() })
}

/// What a stack describes in its versions: nothing, a network that others make too, and one of its own.
pub(crate) fn described(version: u8) -> Vec<NetworkRecord> {
    match version {
        0 => Vec::new(),
        1 => vec![record(0, 0, false)],
        _ => vec![record(3, 3, false), record(0, 0, true)],
    }
}

pub(super) fn commit(disk: &mut Disk, record: &Record) {
    match record {
        Record::Network(network) => {
            let before = disk.networks.insert(network.name.clone(), NetworkRecord::clone(network));
            assert!(before.is_none(), "a network is made once");
        }
        Record::NetworkRemoved(_, name) => drop(disk.networks.remove(name).expect("removed once")),
        other => panic!("not about a network: {other:?}"),
    }
}

/// The network that a workload names.
fn named(workload: &Workload) -> Option<&NetworkName> {
    workload.spec.attachment().map(|attachment| &attachment.name)
}

impl World {
    pub(crate) fn change_network(&mut self, which: u8, what: u8) {
        let (namespace, name) = (Namespace::owner(), network_name(which));
        if what == 0 {
            return self.ask(Request::RemoveNetwork(namespace, name));
        }
        // One of them wants the range of another.
        let range = if what == 3 { (which + 1) % 3 } else { which };
        self.ask(Request::CreateNetwork(Box::new(record(which, range, false))));
    }

    /// What is prepared finds its network on the machine.
    pub(crate) fn check_prepared(&self, workload: &Workload) {
        let Some(name) = named(workload) else { return };
        let known = self.state.networks().get(&(workload.namespace.clone(), name.clone()));
        assert!(known.is_some_and(|known| self.bridges.contains(&known.id)), "{name} is not made yet");
    }

    /// Whoever is in a network, or will be by himself, has it; no two share an address; and the machine is told of all.
    pub(crate) fn check_networks(&self) {
        let known: BTreeMap<_, _> =
            self.state.networks().values().map(|it| (it.name.clone(), NetworkRecord::clone(it))).collect();
        assert_eq!(known, self.disk.networks, "the networks are what replay gives");
        assert_eq!(known.values().map(|network| network.id).collect::<BTreeSet<_>>(), self.bridges);
        for workload in self.state.workloads().values().filter(|workload| !workload.is_at_rest()) {
            assert!(named(workload).is_none_or(|name| known.contains_key(name)), "without its network: {workload:?}");
        }
        for (number, network) in known.values().enumerate() {
            assert!(known.values().skip(number + 1).all(|other| network.overlap(other).is_none()));
        }
        for (stack, _) in self.state.stacks() {
            assert!(stack.down || stack.networks.iter().all(|name| known.contains_key(name)), "{stack:?}");
        }
    }

    /// With nobody left every network can go, and nothing stays on the machine.
    pub(crate) fn settle_networks(&mut self) {
        let all: Vec<_> = self.state.workloads().keys().copied().collect();
        for workload in all {
            self.ask(Request::Remove { workload, force: true });
        }
        let names: Vec<_> = self.state.networks().keys().cloned().collect();
        for (namespace, name) in names {
            self.ask(Request::RemoveNetwork(namespace, name));
        }
        assert!(self.state.networks().is_empty() && self.bridges.is_empty(), "a network never goes");
    }
}
