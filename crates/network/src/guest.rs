//! From a set-up as containers have it to one of a virtual machine: its own end is joined to a tap, and its addresses are for
//! the guest to set.
//!
//! ```text
//!   the machine                      the network of the set-up                  the guest
//!   bridge ── h<tag><set-up> ────────── eth0 ── br0 ── tap0 ═══ the VMM ═══ its interface
//! ```
//! The guest has the hardware address that `eth0` had, so whoever knows that of its address knows the guest's. `eth0` gets
//! another one, and nothing in this network has an address: it only hands on what passes. Its bridge remembers nobody: where
//! ports are published, what the guest says to all comes back to it, and would be taken for somebody on the other side.
//!
//! A guest is root on a machine of its own, and could call itself anybody. What comes from its tap has its own addresses, or
//! goes no further: a container has no right to change its own either.
//!
//! This is done when a machine takes a set-up, so that one pool serves both; it is not undone, for it goes with the machine.
//!
//! Not here: making a set-up and removing it, which are the same for both; telling the guest.

use std::fmt::Write as _;
use std::net::IpAddr;

use hostler_linux::tap;

use crate::GuestPlace;
use crate::names;
use crate::netlink::{self, Link, Netlink, Prefixed};
use crate::setup::{self, INNER_INDEX, Kind, Plan, SetupError};
use crate::tool::NFT;

/// The table of nftables in its network.
const TABLE: &str = "guest";

/// The hardware address of the end in the set-up's network: that of the guest, but for the bit that no other one has.
pub(crate) fn port_mac(plan: &Plan) -> [u8; 6] {
    let mut mac = plan.mac();
    mac[0] ^= 0x04;
    mac
}

/// Turns the set-up into a virtual machine's. Of a plan for one; when it fails, nobody may have the set-up any more.
pub(crate) fn convert(plan: &Plan) -> Result<(), SetupError> {
    let Kind::VirtualMachine { owner } = plan.kind else { return Ok(()) };
    setup::within(&names::namespace(plan.tag, plan.setup), || convert_inside(plan, owner))?
}

fn convert_inside(plan: &Plan, owner: u32) -> Result<(), SetupError> {
    // Takes addresses and routes of IPv6 away, and none come on what is made here.
    setup::setting("net/ipv6/conf/all/disable_ipv6", "1")?;
    NFT.run("keep a guest to its addresses", &["-f", "-"], &rules(plan))?;
    tap::create(names::TAP, owner).map_err(SetupError::Tap)?;
    let mut netlink = Netlink::open()?;
    let four = |prefixed: &Prefixed| prefixed.address.is_ipv4();
    let mut requests: Vec<_> =
        plan.addresses().into_iter().filter(four).map(|it| netlink::remove_address(INNER_INDEX, it)).collect();
    requests.push(netlink::set_mac(names::INNER, port_mac(plan)));
    requests.push(netlink::new_bridge(names::INNER_BRIDGE, None, plan.mtu));
    requests.push(netlink::set_mtu(names::TAP, plan.mtu));
    netlink.all(requests)?;
    let bridge = netlink.link(names::INNER_BRIDGE)?.ok_or_else(|| netlink::gone(names::INNER_BRIDGE))?.index;
    Ok(netlink.all(vec![
        netlink::raise(names::INNER_BRIDGE),
        netlink::join(names::INNER, bridge),
        netlink::join(names::TAP, bridge),
        netlink::learn_nothing(names::INNER),
        netlink::learn_nothing(names::TAP),
    ])?)
}

/// What may come from the guest: IPv4, IPv6 and their questions for neighbours, from its own addresses. It announces no
/// routes, and no address that is another's.
fn rules(plan: &Plan) -> String {
    let (mac, ip, tap) = (netlink::mac_text(&plan.mac()), plan.ip, names::TAP);
    let mut text = format!(
        r#"table bridge {TABLE} {{
  chain from_guest {{
    type filter hook forward priority filter; policy drop;
    iifname != "{tap}" accept
    ether saddr != {mac} drop
    arp saddr ether {mac} arp saddr ip {{ 0.0.0.0, {ip} }} accept
    ip saddr {ip} accept
"#
    );
    if let Some(ip6) = plan.ip6 {
        // The target of an advertisement, RFC 4861 section 4.4, has no name in nft before 1.0.8. Link-local ones lead nowhere
        // from elsewhere.
        let target = ip6.to_bits();
        let _ = writeln!(
            text,
            "    icmpv6 type nd-router-advert drop
    icmpv6 type nd-neighbor-advert @th,64,10 != 0x3fa @th,64,128 != {target:#034x} drop
    ip6 saddr {{ ::, {ip6}, fe80::/10 }} accept"
        );
    }
    text + "  }\n}\n"
}

/// What the machine is made with, and what its guest is told.
pub(crate) fn place(plan: &Plan) -> GuestPlace {
    let pair = |prefixed: Prefixed| -> (IpAddr, u8) { (prefixed.address, prefixed.length) };
    GuestPlace {
        tap: names::TAP.to_owned(),
        mac: plan.mac(),
        addresses: plan.addresses().into_iter().map(pair).collect(),
        gateways: plan.gateways(),
        mtu: plan.mtu,
    }
}

/// What is not as it should be with the links in its network; `inner` is its own end.
pub(crate) fn flaw(links: &[Link], inner: &Link) -> Option<String> {
    let of = |name: &str| links.iter().find(|link| link.name == name);
    let (Some(bridge), Some(tap)) = (of(names::INNER_BRIDGE), of(names::TAP)) else {
        return Some(format!("it has no {} or no {}", names::INNER_BRIDGE, names::TAP));
    };
    let joined = [inner, tap].iter().all(|link| link.bridge == Some(bridge.index) && link.up) && bridge.up;
    (!joined).then(|| format!("{} does not lead to {} any more", names::INNER, names::TAP))
}
