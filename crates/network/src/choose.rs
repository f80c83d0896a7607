//! From what was asked for to a network: its ranges, on this machine.

use std::sync::Arc;

use hostler_linux::tool;
use hostler_model::ids::{Namespace, NetworkId, StoreId};
use hostler_model::network::{Bridge, NetworkRecord, NetworkSpec, NewNetwork, Subnet4, Subnet6};
use hostler_model::{Problem, ProblemKind};

use crate::bridge::InUse;
use crate::cni::List;
use crate::state::Shared;
use crate::tool::NFT;

/// Length of a range that nobody has asked for.
const LENGTH: u8 = 24;

fn unavailable(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::NetworkUnavailable, detail)
}

impl Shared {
    /// Everything about it is chosen; nothing is made. Blocks for a few milliseconds.
    pub(crate) fn choose(
        self: &Arc<Self>,
        namespace: &Namespace,
        new: NewNetwork,
        known: &[NetworkRecord],
        created_at_ms: u64,
    ) -> Result<NetworkRecord, Problem> {
        let NewNetwork { name, spec } = new;
        spec.check()?;
        if !self.settings.privileged {
            return Err(unavailable("networks need a node that runs as root"));
        }
        let id = loop {
            let id = NetworkId::from_bytes(hostler_linux::daemon::random_bytes());
            if !known.iter().any(|other| other.id == id) {
                break id;
            }
        };
        let bridge = match &spec.cni {
            Some(text) => {
                self.judge_list(text)?;
                None
            }
            None => {
                NFT.find().map_err(|error| unavailable(error.to_string()))?;
                Some(self.choose_ranges(&spec, id, known)?)
            }
        };
        Ok(NetworkRecord { id, namespace: namespace.clone(), name, spec, bridge, created_at_ms })
    }

    /// A list that makes sense, whose plugins are there.
    fn judge_list(&self, text: &str) -> Result<(), Problem> {
        let list =
            List::parse(text).map_err(|error| Problem::new(ProblemKind::InvalidSpec, format!("cni: {error}")))?;
        let missing = list.missing(&self.settings.cni_path);
        if missing.is_empty() {
            return Ok(());
        }
        let looked: Vec<_> = self.settings.cni_path.iter().map(|path| path.display().to_string()).collect();
        let detail = format!(
            "the CNI plugin {} is not in {}; install it (Debian: apt-get install containernetworking-plugins), or name \
             its directory as network.cni_path in hostler.toml",
            missing.join(", "),
            looked.join(", ")
        );
        Err(unavailable(detail))
    }

    fn choose_ranges(&self, spec: &NetworkSpec, id: NetworkId, known: &[NetworkRecord]) -> Result<Bridge, Problem> {
        let mut in_use = InUse::look().map_err(|error| unavailable(error.to_string()))?;
        known.iter().filter_map(|record| record.bridge.as_ref()).for_each(|bridge| in_use.add(bridge));
        let overlaps = |range: String, with: String| {
            let detail = format!("{range} overlaps {with}, which this machine uses already; see: ip route, ip address");
            Problem::new(ProblemKind::Conflict, detail)
        };
        let [a, b, c] = *id.as_bytes();
        let begin = u32::from_be_bytes([0, a, b, c]);
        // What another network of the node has is refused where that is decided, by its name.
        let bridges = || known.iter().filter_map(|record| record.bridge.as_ref());
        let own4 = |subnet: &Subnet4| bridges().any(|bridge| bridge.subnet.overlaps(subnet));
        let own6 = |subnet6: &Subnet6| bridges().any(|bridge| bridge.subnet6.is_some_and(|own| own.overlaps(subnet6)));
        let subnet = match spec.subnet {
            Some(subnet) => match in_use.overlap4(subnet).filter(|_| !own4(&subnet)) {
                Some(with) => return Err(overlaps(subnet.to_string(), with.to_string())),
                None => subnet,
            },
            None => in_use.free4(self.settings.ranges, LENGTH, begin).ok_or_else(|| {
                let detail = format!(
                    "no free range is left in {}; name one with --subnet, or a larger one as network.ranges in hostler.toml",
                    self.settings.ranges
                );
                Problem::new(ProblemKind::LimitReached, detail)
            })?,
        };
        let subnet6 = match (spec.has_ipv6(), spec.subnet6) {
            (false, _) => None,
            (true, Some(subnet6)) => match in_use.overlap6(subnet6).filter(|_| !own6(&subnet6)) {
                Some(with) => return Err(overlaps(subnet6.to_string(), with.to_string())),
                None => Some(subnet6),
            },
            (true, None) => Some(self.free6(&in_use, u16::from_be_bytes([b, c]))?),
        };
        Ok(Bridge::new(spec, subnet, subnet6))
    }

    fn free6(&self, in_use: &InUse, begin: u16) -> Result<Subnet6, Problem> {
        in_use.free6(self.settings.range6, begin).ok_or_else(|| unavailable("no free range of IPv6 addresses is left"))
    }
}

/// The node's own unique local range of IPv6, of its store's id: random, as RFC 4193 has it.
#[must_use]
pub fn node_range6(store: StoreId) -> [u8; 5] {
    let bytes = store.as_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]]
}

/// Whether a tool is there.
pub(crate) fn is_there(name: &str) -> bool {
    tool::find(name).is_some()
}
