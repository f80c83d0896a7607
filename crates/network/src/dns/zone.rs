//! What the resolver of one network knows, and what it says to a question.

use std::collections::HashMap;
use std::net::IpAddr;

use hostler_model::network::{Subnet4, Subnet6};

use super::message::{Data, Question, TYPE_A, TYPE_AAAA, TYPE_PTR};
use super::reverse::reverse;

/// What becomes of questions about names that are not of the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Outside {
    /// Other resolvers are asked.
    #[default]
    Forward,
    /// There are none: NXDOMAIN, at once. It is what every libc takes for an answer: musl ignores a REFUSED and waits for
    /// another until its time is up, and glibc calls it a failure that may pass.
    Refuse,
}

/// What is known of who has one address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Client {
    /// What its address is called, in this order.
    pub(crate) names: Vec<String>,
    /// Whom its questions about outside names are forwarded to; those of the network when empty.
    pub(crate) dns: Vec<IpAddr>,
}

/// What the resolver of one network knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Zone {
    pub(super) names: HashMap<String, Vec<IpAddr>>,
    pub(super) clients: HashMap<IpAddr, Client>,
    /// Whom questions about outside names are forwarded to; the machine's resolvers when empty.
    pub(crate) upstreams: Vec<IpAddr>,
    /// Addresses at which this node's resolvers answer: never asked when the machine's list has them.
    pub(crate) own: Vec<IpAddr>,
    /// The network's range. When this or the other is known, questions from elsewhere are dropped.
    pub(crate) subnet: Option<Subnet4>,
    /// The network's range of IPv6 addresses.
    pub(crate) subnet6: Option<Subnet6>,
    /// What becomes of other names.
    pub(crate) outside: Outside,
}

/// What to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The name is known; there may be no data of the type asked for.
    Known(Vec<Data>),
    NoSuchName,
    /// Others may know.
    Ask(Upstreams),
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Upstreams {
    These(Vec<IpAddr>),
    /// The machine's, but never ourselves.
    Machine {
        own: Vec<IpAddr>,
    },
}

impl Zone {
    /// Adds an address of a name; several make replicas. The name is taken without regard to case and a dot at its end.
    pub(crate) fn add_name(&mut self, name: &str, address: IpAddr) {
        let addresses = self.names.entry(spelled(name)).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }

    /// Says who has an address.
    pub(crate) fn set_client(&mut self, address: IpAddr, client: Client) {
        self.clients.insert(address, client);
    }

    /// Whether someone at this address is answered at all.
    pub(super) fn serves(&self, source: IpAddr) -> bool {
        (self.subnet.is_none() && self.subnet6.is_none()) || self.covers(source)
    }

    /// Whether the address is in the network's ranges.
    fn covers(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.subnet.is_some_and(|subnet| subnet.contains(address)),
            IpAddr::V6(address) => self.subnet6.is_some_and(|subnet| subnet.contains(address)),
        }
    }

    /// What to say to this question of this client; `turn` says which of several addresses comes first.
    pub(super) fn answer(&self, question: &Question, source: IpAddr, turn: usize) -> Verdict {
        let labels = question.labels();
        if let Some(addresses) = key(&labels).and_then(|name| self.names.get(&name)) {
            return Verdict::Known(rotated(addresses, question.kind(), turn));
        }
        if let Some(reverse) = reverse(&labels) {
            match self.clients.get(&reverse.address) {
                Some(client) if reverse.exact && !client.names.is_empty() => {
                    let names = client.names.iter().filter(|_| question.kind() == TYPE_PTR);
                    return Verdict::Known(names.cloned().map(Data::Called).collect());
                }
                _ if self.covers(reverse.address) => return Verdict::NoSuchName,
                _ => {}
            }
        }
        // A name without a dot is a workload's, or a mistyped one: it is nobody's business outside.
        if labels.len() == 1 || self.outside == Outside::Refuse {
            return Verdict::NoSuchName;
        }
        Verdict::Ask(self.upstreams(source))
    }

    fn upstreams(&self, source: IpAddr) -> Upstreams {
        let asked_for = self.clients.get(&source).map(|client| &client.dns).filter(|dns| !dns.is_empty());
        let these = asked_for.unwrap_or(&self.upstreams);
        if these.is_empty() { Upstreams::Machine { own: self.own.clone() } } else { Upstreams::These(these.clone()) }
    }
}

/// The addresses of this type, from another one each turn.
fn rotated(addresses: &[IpAddr], kind: u16, turn: usize) -> Vec<Data> {
    let mut found: Vec<IpAddr> = addresses
        .iter()
        .copied()
        .filter(|address| kind == if address.is_ipv4() { TYPE_A } else { TYPE_AAAA })
        .collect();
    if !found.is_empty() {
        let first = turn % found.len();
        found.rotate_left(first);
    }
    found.into_iter().map(Data::Address).collect()
}

fn spelled(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// How a name of a question is kept; none that holds what names cannot, such as a dot within a label.
fn key(labels: &[&[u8]]) -> Option<String> {
    if labels.is_empty() || labels.iter().any(|label| label.contains(&b'.')) {
        return None;
    }
    let name = String::from_utf8(labels.join(&b'.')).ok()?;
    Some(name.to_ascii_lowercase())
}
