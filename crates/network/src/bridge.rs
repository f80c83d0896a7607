//! A bridge network on the machine, and which addresses are free for a new one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostler_linux::failpoint;
use hostler_model::ids::{NetworkId, NodeTag};
use hostler_model::network::{Bridge, NetworkRecord, Subnet4, Subnet6};

use crate::names;
use crate::netlink::{self, Netlink, Prefixed};
use crate::setup::{SetupError, setting};

/// Of a packet, unless the network says otherwise, bytes.
const MTU: u32 = 1_500;

pub(crate) fn mtu(record: &NetworkRecord) -> u32 {
    record.spec.mtu.unwrap_or(MTU)
}

fn addresses(bridge: &Bridge) -> Vec<Prefixed> {
    let four = Prefixed { address: bridge.gateway.into(), length: bridge.subnet.length() };
    let six = bridge.subnet6.zip(bridge.gateway6);
    let six = six.map(|(subnet6, gateway6)| Prefixed { address: gateway6.into(), length: subnet6.length() });
    [Some(four), six].into_iter().flatten().collect()
}

/// Makes the bridge, or what is missing of it; its number.
pub(crate) fn ensure(tag: NodeTag, record: &NetworkRecord, bridge: &Bridge) -> Result<u32, SetupError> {
    let name = names::bridge(tag, record.id);
    let mut netlink = Netlink::open()?;
    let found = netlink.link(&name)?;
    let link = match found {
        Some(link) => link,
        None => {
            let [a, b, c] = *record.id.as_bytes();
            let mac = netlink::mac_of([tag.as_bytes()[0], tag.as_bytes()[1]], [0xff, a, b, c]);
            netlink.one(netlink::new_bridge(&name, Some(mac), mtu(record)))?;
            failpoint::hit("bridge-made");
            // Before it comes up: the machine takes no routes and no addresses from workloads.
            interface_setting("ipv6", &name, "accept_ra", "0");
            interface_setting("ipv6", &name, "autoconf", "0");
            let link = netlink.link(&name)?;
            link.ok_or_else(|| netlink::gone(&name))?
        }
    };
    if bridge.subnet6.is_none() {
        interface_setting("ipv6", &name, "disable_ipv6", "1");
    }
    let (there, others): (Vec<_>, Vec<_>) =
        netlink.addresses()?.into_iter().partition(|(index, _)| *index == link.index);
    let is_missing = |wanted: &Prefixed| !there.iter().any(|(_, known)| known == wanted);
    let missing: Vec<_> = addresses(bridge).into_iter().filter(is_missing).collect();
    // Another node of this machine may have chosen the same in the same moment.
    if let Some((wanted, (_, known))) =
        missing.iter().find_map(|wanted| Some((wanted, others.iter().find(|(_, known)| known.overlaps(wanted))?)))
    {
        return Err(SetupError::Overlap(wanted.to_string(), known.to_string()));
    }
    let mut requests: Vec<_> = missing.into_iter().map(|prefixed| netlink::address(link.index, prefixed)).collect();
    requests.extend((!link.up).then(|| netlink::raise(&name)));
    if !requests.is_empty() {
        netlink.all(requests)?;
    }
    // For ports that are published at 127.0.0.1.
    interface_setting("ipv4", &name, "route_localnet", "1");
    if !record.spec.internal {
        forward(tag, bridge)?;
    }
    failpoint::hit("bridge-ready");
    Ok(link.index)
}

/// Lets the machine pass packets on. What it lets through is for the rules to say.
fn forward(tag: NodeTag, bridge: &Bridge) -> Result<(), SetupError> {
    switch_on("net/ipv4/ip_forward")?;
    if bridge.subnet6.is_some() {
        // A machine that passes packets on takes no advertised routes any more, unless each interface says so.
        for interface in std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten() {
            let name = interface.file_name();
            let of_all = name == "all" || name == "default";
            if of_all || names::owned(tag, &name.to_string_lossy()).is_some() {
                continue;
            }
            let file = interface.path().join("accept_ra");
            if std::fs::read_to_string(&file).is_ok_and(|text| text.trim() == "1") {
                let _ = std::fs::write(&file, "2");
            }
        }
        switch_on("net/ipv6/conf/all/forwarding")?;
    }
    Ok(())
}

fn switch_on(name: &'static str) -> Result<(), SetupError> {
    let path = std::path::Path::new("/proc/sys").join(name);
    if std::fs::read_to_string(&path).is_ok_and(|text| text.trim() != "0") {
        return Ok(());
    }
    tracing::info!(setting = name, "switched on: networks of workloads need it");
    setting(name, "1")
}

fn interface_setting(family: &str, interface: &str, name: &str, value: &str) {
    // A kernel without it has nothing to switch.
    let _ = std::fs::write(format!("/proc/sys/net/{family}/conf/{interface}/{name}"), value);
}

/// Removes the bridge, if it is there.
pub(crate) fn remove(tag: NodeTag, network: NetworkId) -> Result<(), SetupError> {
    match Netlink::open()?.one(netlink::remove(&names::bridge(tag, network))) {
        Err(error) if !error.is_missing() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Ranges that this machine knows of, and so are not free: its own addresses, and where its routes lead.
#[derive(Debug, Default)]
pub(crate) struct InUse {
    ranges4: Vec<Subnet4>,
    ranges6: Vec<Subnet6>,
}

impl InUse {
    /// Everything but default routes.
    pub(crate) fn look() -> Result<Self, SetupError> {
        let mut netlink = Netlink::open()?;
        let addresses = netlink.addresses()?.into_iter().map(|(_, prefixed)| prefixed);
        let routes = netlink.routes()?.into_iter().filter_map(|route| route.to);
        let mut found = Self::default();
        for Prefixed { address, length } in addresses.chain(routes).filter(|prefixed| prefixed.length > 0) {
            match address {
                IpAddr::V4(address) => found.ranges4.push(Subnet4::around(address, length)),
                IpAddr::V6(address) => found.ranges6.push(Subnet6::around(address, length)),
            }
        }
        Ok(found)
    }

    pub(crate) fn add(&mut self, bridge: &Bridge) {
        self.ranges4.push(bridge.subnet);
        self.ranges6.extend(bridge.subnet6);
    }

    pub(crate) fn overlap4(&self, subnet: Subnet4) -> Option<Subnet4> {
        self.ranges4.iter().copied().find(|known| known.overlaps(&subnet))
    }

    pub(crate) fn overlap6(&self, subnet6: Subnet6) -> Option<Subnet6> {
        self.ranges6.iter().copied().find(|known| known.overlaps(&subnet6))
    }

    /// The first free one of this length in a larger range, beginning somewhere in it: two nodes seldom want the same.
    pub(crate) fn free4(&self, within: Subnet4, length: u8, begin: u32) -> Option<Subnet4> {
        let length = length.max(within.length());
        let count = 1_u32.checked_shl(u32::from(length - within.length()))?;
        let size = 1_u32.checked_shl(u32::from(32 - length))?;
        let at = |step: u32| {
            let first = within.network().to_bits().wrapping_add((begin.wrapping_add(step) % count).wrapping_mul(size));
            Subnet4::around(Ipv4Addr::from_bits(first), length)
        };
        (0..count).map(at).find(|subnet| self.overlap4(*subnet).is_none())
    }

    /// The same of IPv6: a unique local range of the node, and in it one for each network.
    pub(crate) fn free6(&self, node: [u8; 5], begin: u16) -> Option<Subnet6> {
        let at = |step: u16| {
            let mut bytes = [0; 16];
            bytes[0] = 0xfd;
            bytes[1..6].copy_from_slice(&node);
            bytes[6..8].copy_from_slice(&begin.wrapping_add(step).to_be_bytes());
            Subnet6::around(Ipv6Addr::from(bytes), 64)
        };
        (0..u16::MAX).map(at).find(|subnet6| self.overlap6(*subnet6).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ranges_overlap_nothing() {
        let within: Subnet4 = "10.0.0.0/22".parse().expect("a range");
        let mut in_use = InUse::default();
        let mut given = Vec::new();
        for begin in [3, 3, 0, 99] {
            let subnet = in_use.free4(within, 24, begin).expect("free");
            in_use.ranges4.push(subnet);
            given.push(subnet.to_string());
        }
        assert_eq!(given, ["10.0.3.0/24", "10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]);
        assert_eq!(in_use.free4(within, 24, 0), None);
        in_use = InUse { ranges4: vec!["10.0.0.0/8".parse().expect("a range")], ranges6: Vec::new() };
        assert_eq!(in_use.free4(within, 24, 0), None, "a wider route covers all of it");
        let six = in_use.free6([1, 2, 3, 4, 5], 7).expect("free");
        assert_eq!(six.to_string(), "fd01:203:405:7::/64");
    }
}
