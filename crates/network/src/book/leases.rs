//! Who has which addresses: values in, decisions out.
//!
//! Addresses of a network are given out one after another, round and round, so that one that was given back rests as long
//! as it can before somebody else has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};

use hostler_model::ids::{NetworkId, RunId, SetupId};
use hostler_model::network::{Bridge, Publish};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a set-up has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) setup: SetupId,
    pub(crate) network: NetworkId,
    /// Of a CNI network, its plugins give the addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ip6: Option<Ipv6Addr>,
    /// Made by CNI plugins, and to be undone by them, after a reboot as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cni: bool,
    /// It was whole once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) made: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<User>,
}

/// Who has taken it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) run: RunId,
    /// By which others find it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) publish: Vec<Publish>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns: Vec<std::net::IpAddr>,
    /// It cannot be given to somebody else after him.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) spoils: bool,
    /// It is a virtual machine, and this the user that may open its tap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tap_owner: Option<u32>,
}

/// One line of the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// Leased, or as it now stands.
    Lease(Lease),
    /// Crossed out.
    Free(SetupId),
}

/// Why there is no lease.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LeaseError {
    #[error("all {0} addresses are in use")]
    Exhausted(u32),
    #[error("{0} is in use")]
    Taken(String),
    #[error("{0} is not an address that a workload can have here")]
    Outside(String),
}

/// An address that somebody asks for, and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    pub(crate) ip: Option<Ipv4Addr>,
    pub(crate) ip6: Option<Ipv6Addr>,
}

#[derive(Debug, Default)]
struct Addresses {
    used: BTreeSet<Ipv4Addr>,
    used6: BTreeSet<Ipv6Addr>,
    /// The place that was given out last.
    last: u32,
}

/// All leases of a node.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    all: BTreeMap<SetupId, Lease>,
    addresses: HashMap<NetworkId, Addresses>,
}

impl Leases {
    pub(crate) fn get(&self, setup: SetupId) -> Option<&Lease> {
        self.all.get(&setup)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Lease> {
        self.all.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Free addresses for a set-up of this network; nothing is changed by asking.
    pub(crate) fn find(
        &self,
        network: NetworkId,
        bridge: &Bridge,
        wanted: Wanted,
    ) -> Result<(Ipv4Addr, Option<Ipv6Addr>), LeaseError> {
        let nothing = Addresses::default();
        let known = self.addresses.get(&network).unwrap_or(&nothing);
        let ip = match wanted.ip {
            Some(ip) if !bridge.subnet.is_host(ip) || ip == bridge.gateway => {
                return Err(LeaseError::Outside(ip.to_string()));
            }
            Some(ip) if known.used.contains(&ip) => return Err(LeaseError::Taken(ip.to_string())),
            Some(ip) => ip,
            None => known.next(bridge)?,
        };
        let ip6 = match (bridge.subnet6, wanted.ip6) {
            (None, None) => None,
            (None, Some(ip6)) => return Err(LeaseError::Outside(ip6.to_string())),
            (Some(subnet6), Some(ip6)) => {
                if !subnet6.contains(ip6) || Some(ip6) == bridge.gateway6 || ip6 == subnet6.network() {
                    return Err(LeaseError::Outside(ip6.to_string()));
                }
                if known.used6.contains(&ip6) {
                    return Err(LeaseError::Taken(ip6.to_string()));
                }
                Some(ip6)
            }
            (Some(subnet6), None) => {
                // That of the IPv4 address, unless somebody has asked for it by name: there are always enough.
                let place = bridge.subnet.place_of(ip).unwrap_or(0);
                let mut free = (0..=u32::try_from(known.used6.len()).unwrap_or(u32::MAX).saturating_add(2))
                    .map(|step| subnet6.nth(place.wrapping_add(step)))
                    .filter(|ip6| {
                        !known.used6.contains(ip6) && Some(*ip6) != bridge.gateway6 && *ip6 != subnet6.network()
                    });
                free.next()
            }
        };
        Ok((ip, ip6))
    }

    /// Writes down what an entry says.
    pub(crate) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Lease(lease) => {
                let addresses = self.addresses.entry(lease.network).or_default();
                if let Some(before) = self.all.get(&lease.setup) {
                    before.ip.iter().for_each(|ip| _ = addresses.used.remove(ip));
                    before.ip6.iter().for_each(|ip6| _ = addresses.used6.remove(ip6));
                }
                addresses.used.extend(lease.ip);
                addresses.used6.extend(lease.ip6);
                self.all.insert(lease.setup, lease);
            }
            Entry::Free(setup) => {
                let Some(lease) = self.all.remove(&setup) else { return };
                if let Some(addresses) = self.addresses.get_mut(&lease.network) {
                    lease.ip.iter().for_each(|ip| _ = addresses.used.remove(ip));
                    lease.ip6.iter().for_each(|ip6| _ = addresses.used6.remove(ip6));
                }
            }
        }
    }

    /// That place was given out: the next one is sought behind it.
    pub(crate) fn passed(&mut self, network: NetworkId, bridge: &Bridge, ip: Ipv4Addr) {
        if let Some(place) = bridge.subnet.place_of(ip) {
            self.addresses.entry(network).or_default().last = place;
        }
    }

    /// Nothing is known of that network any more.
    pub(crate) fn forget(&mut self, network: NetworkId) {
        self.addresses.remove(&network);
    }

    /// The whole book, as few entries as can be.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.all.values().cloned().map(Entry::Lease)
    }
}

impl Addresses {
    fn next(&self, bridge: &Bridge) -> Result<Ipv4Addr, LeaseError> {
        let hosts = bridge.subnet.hosts();
        // Of so many tries one finds a free one, if there is any: each used one costs a try, and the gateway another.
        let tries = u32::try_from(self.used.len()).unwrap_or(u32::MAX).saturating_add(2).min(hosts);
        let place = |step: u32| 1 + (self.last + step) % hosts;
        (0..tries)
            .map(|step| bridge.subnet.nth(place(step)))
            .find(|ip| *ip != bridge.gateway && !self.used.contains(ip))
            .ok_or(LeaseError::Exhausted(bridge.places()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_model::network::{NetworkSpec, Subnet4};
    use proptest::prelude::*;

    fn bridge(subnet: &str, subnet6: Option<&str>) -> Bridge {
        let subnet6 = subnet6.map(|text| text.parse().expect("a range"));
        Bridge::new(&NetworkSpec::default(), subnet.parse().expect("a range"), subnet6)
    }

    const NET: NetworkId = NetworkId::from_bytes([1; 3]);

    fn setup(number: u32) -> SetupId {
        SetupId::from_bytes(number.to_be_bytes())
    }

    fn take(leases: &mut Leases, bridge: &Bridge, number: u32, wanted: Wanted) -> Result<Ipv4Addr, LeaseError> {
        let (ip, ip6) = leases.find(NET, bridge, wanted)?;
        let lease =
            Lease { setup: setup(number), network: NET, ip: Some(ip), ip6, cni: false, made: false, user: None };
        leases.apply(Entry::Lease(lease));
        leases.passed(NET, bridge, ip);
        Ok(ip)
    }

    #[test]
    fn every_address_once_and_then_none() {
        let bridge = bridge("10.0.0.0/29", Some("fd00::/64"));
        let mut leases = Leases::default();
        let mut given = BTreeSet::new();
        for number in 0..5 {
            given.insert(take(&mut leases, &bridge, number, Wanted::default()).expect("free"));
        }
        assert_eq!(given.len(), 5);
        assert!(!given.contains(&bridge.gateway));
        assert_eq!(take(&mut leases, &bridge, 9, Wanted::default()), Err(LeaseError::Exhausted(5)));
        leases.apply(Entry::Free(setup(2)));
        assert!(take(&mut leases, &bridge, 9, Wanted::default()).is_ok());
    }

    #[test]
    fn wishes_are_granted_or_refused_by_name() {
        let bridge = bridge("10.0.0.0/24", Some("fd00::/64"));
        let mut leases = Leases::default();
        let ask = |ip: &str| Wanted { ip: Some(ip.parse().expect("an address")), ip6: None };
        assert_eq!(take(&mut leases, &bridge, 1, ask("10.0.0.9")), Ok(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(take(&mut leases, &bridge, 2, ask("10.0.0.9")), Err(LeaseError::Taken("10.0.0.9".to_owned())));
        for outside in ["10.0.0.1", "10.0.0.0", "10.0.0.255", "10.0.1.2"] {
            assert_eq!(take(&mut leases, &bridge, 2, ask(outside)), Err(LeaseError::Outside(outside.to_owned())));
        }
        let ask6 = |ip6: &str| Wanted { ip: None, ip6: Some(ip6.parse().expect("an address")) };
        assert!(take(&mut leases, &bridge, 3, ask6("fd00::b")).is_ok());
        assert!(take(&mut leases, &bridge, 4, ask6("fd00::b")).is_err());
        assert!(take(&mut leases, &bridge, 4, ask6("fd01::b")).is_err());
        // The next one's usual IPv6 address is the one that was asked for: it gets another.
        assert!(take(&mut leases, &bridge, 5, Wanted::default()).is_ok());
    }

    #[derive(Debug, Clone)]
    enum Op {
        Take(Option<u8>),
        Give(usize),
    }

    proptest! {
        #[test]
        fn nobody_shares_and_nothing_leaks(
            length in 26_u8..=30,
            ops in proptest::collection::vec(
                prop_oneof![2 => proptest::option::of(0_u8..70).prop_map(Op::Take), 1 => (0_usize..64).prop_map(Op::Give)],
                0..200,
            ),
        ) {
            let subnet = Subnet4::around(Ipv4Addr::new(10, 0, 0, 0), length);
            let bridge = Bridge::new(&NetworkSpec::default(), subnet, Some("fd00::/96".parse().expect("a range")));
            let mut leases = Leases::default();
            let mut held: Vec<u32> = Vec::new();
            for (number, op) in (0_u32..).zip(ops) {
                match op {
                    Op::Take(place) => {
                        let wanted = Wanted { ip: place.map(|place| subnet.nth(place.into())), ip6: None };
                        match take(&mut leases, &bridge, number, wanted) {
                            Ok(ip) => {
                                prop_assert!(subnet.is_host(ip) && ip != bridge.gateway);
                                held.push(number);
                            }
                            Err(LeaseError::Exhausted(_)) => prop_assert_eq!(held.len() as u32, bridge.places()),
                            Err(_) => prop_assert!(place.is_some()),
                        }
                    }
                    Op::Give(index) if !held.is_empty() => {
                        let number = held.swap_remove(index % held.len());
                        leases.apply(Entry::Free(setup(number)));
                    }
                    Op::Give(_) => {}
                }
                let ips: BTreeSet<_> = leases.all().filter_map(|lease| lease.ip).collect();
                let ip6s: BTreeSet<_> = leases.all().filter_map(|lease| lease.ip6).collect();
                prop_assert_eq!(ips.len(), held.len());
                prop_assert_eq!(ip6s.len(), held.len());
            }
        }
    }
}
