//! Names on the machine: `h<node tag>` and what it is, at most 15 characters, and back to whose it is.

use std::path::PathBuf;

use hostler_linux::netns;
use hostler_model::ids::{NetworkId, NodeTag, SetupId};

/// The interface of a workload in its own network.
pub(crate) const INNER: &str = "eth0";
/// In the network of a virtual machine: its end, and what joins it to the interface.
pub(crate) const TAP: &str = "tap0";
pub(crate) const INNER_BRIDGE: &str = "br0";

/// The bridge of a network.
pub(crate) fn bridge(tag: NodeTag, network: NetworkId) -> String {
    format!("h{tag}n{network}")
}

/// Every bridge of the node, as nftables writes it.
pub(crate) fn bridges(tag: NodeTag) -> String {
    format!("h{tag}n*")
}

/// The outer end of a set-up.
pub(crate) fn outer(tag: NodeTag, setup: SetupId) -> String {
    format!("h{tag}{setup}")
}

/// The network namespace of a set-up.
pub(crate) fn namespace(tag: NodeTag, setup: SetupId) -> PathBuf {
    PathBuf::from(netns::DIRECTORY).join(outer(tag, setup))
}

/// The table of nftables.
pub(crate) fn table(tag: NodeTag) -> String {
    format!("h{tag}")
}

/// What a name of this node is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owned {
    Network(NetworkId),
    Setup(SetupId),
}

/// What a link or namespace of this name is of; `None` when it is not of this node.
pub(crate) fn owned(tag: NodeTag, name: &str) -> Option<Owned> {
    let rest = name.strip_prefix('h')?.strip_prefix(&tag.to_string())?;
    match rest.strip_prefix('n') {
        Some(network) => network.parse().ok().map(Owned::Network),
        None => rest.parse().ok().map(Owned::Setup),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_lead_back() {
        let tag = NodeTag::from_bytes([0xab, 0, 1]);
        let (network, setup) = (NetworkId::from_bytes([1, 2, 3]), SetupId::from_bytes([0xff; 4]));
        for (name, of) in [(bridge(tag, network), Owned::Network(network)), (outer(tag, setup), Owned::Setup(setup))] {
            assert!(name.len() <= 15, "{name}");
            assert_eq!(owned(tag, &name), Some(of));
            assert_eq!(owned(NodeTag::from_bytes([0xab, 0, 2]), &name), None);
        }
        for foreign in ["eth0", "h", "hab0001", "hab0001n", "hab0001nzz", "hab0001ff", "hab0001ffffffff0"] {
            assert_eq!(owned(tag, foreign), None, "{foreign}");
        }
    }
}
