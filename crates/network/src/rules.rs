//! The node's table of nftables: NAT for what leaves, published ports, and what keeps networks apart.
//!
//! There is one table, `inet h<node tag>`. Its chains never change; what does is in sets and maps. It is made in one
//! transaction, from what should be; a published port adds and removes an element. So nothing of it can be left over
//! and nobody else's rules are touched.
//!
//! - A packet from one of our bridges to another is dropped, unless it goes to a published port.
//! - A connection from outside into a network is dropped, unless it goes to a published port.
//! - What leaves a network has the machine's address; internal networks send and receive nothing.
//! - Ports are published at all addresses of this machine, `127.0.0.1` included, and not at `::1`, which cannot be routed.
//! - Nobody on a bridge reaches what listens on the machine's loopback device.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostler_model::ids::NodeTag;
use hostler_model::network::{Protocol, Publish, Subnet4, Subnet6};

use crate::names;
use crate::tool::{NFT, ToolError};

/// A network, as far as the rules know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Net {
    pub(crate) bridge: String,
    pub(crate) subnet: Subnet4,
    pub(crate) subnet6: Option<Subnet6>,
    pub(crate) internal: bool,
}

/// A published port, and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) publish: Publish,
    pub(crate) ip: Option<Ipv4Addr>,
    pub(crate) ip6: Option<Ipv6Addr>,
}

/// The maps of published ports: protocol, family, whether the address of the machine is part of the key.
fn maps() -> impl Iterator<Item = (Protocol, &'static str, bool)> {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .flat_map(|protocol| ["ip", "ip6"].map(|family| [false, true].map(|at| (protocol, family, at))))
        .flatten()
}

fn map_name(protocol: Protocol, family: &str, at: bool) -> String {
    format!("{}_{family}{}", protocol.as_str(), if at { "_at" } else { "" })
}

impl Port {
    /// The map it belongs to with its element, for each family in which it is published.
    fn elements(&self) -> Vec<(String, String, String)> {
        let Publish { host, host_port, port, protocol } = self.publish;
        let mut elements = Vec::new();
        let mut add = |family: &str, to: String| {
            let name = map_name(protocol, family, host.is_some());
            let key = host.map_or_else(|| host_port.to_string(), |host| format!("{host} . {host_port}"));
            elements.push((name, key, format!("{to} . {port}")));
        };
        if let Some(ip) = self.ip.filter(|_| host.is_none_or(|host| host.is_ipv4())) {
            add("ip", ip.to_string());
        }
        if let Some(ip6) = self.ip6.filter(|_| host.is_none_or(|host| host.is_ipv6())) {
            add("ip6", ip6.to_string());
        }
        elements
    }

    /// Whether it leads anywhere: an IPv6 address of the machine leads to none of a workload that has only IPv4.
    pub(crate) fn leads(&self) -> bool {
        !self.elements().is_empty() && self.publish.host != Some(IpAddr::V6(Ipv6Addr::LOCALHOST))
    }
}

/// A set, empty or not.
fn set(name: &str, kind: &str, elements: &[String]) -> String {
    let list = elements.join(", ");
    let elements = if elements.is_empty() { String::new() } else { format!(" elements = {{ {list} }};") };
    format!("  set {name} {{ {kind};{elements} }}\n")
}

/// The whole table.
pub(crate) fn table(tag: NodeTag, nets: &[Net], ports: &[Port]) -> String {
    let (table, bridges) = (names::table(tag), names::bridges(tag));
    let mut text = format!("add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
    let each = |one: &dyn Fn(&Net) -> Option<String>| -> Vec<String> { nets.iter().filter_map(one).collect() };
    let outward = |net: &Net| !net.internal;
    text += &set("within", "type ifname . ifname", &each(&|net| Some(format!("\"{0}\" . \"{0}\"", net.bridge))));
    text += &set("internal", "type ifname", &each(&|net| net.internal.then(|| format!("\"{}\"", net.bridge))));
    text +=
        &set("leaving4", "type ipv4_addr; flags interval", &each(&|net| outward(net).then(|| net.subnet.to_string())));
    text += &set(
        "leaving6",
        "type ipv6_addr; flags interval",
        &each(&|net| net.subnet6.filter(|_| outward(net)).map(|subnet6| subnet6.to_string())),
    );
    text += &set("own4", "type ipv4_addr; flags interval", &each(&|net| Some(net.subnet.to_string())));
    text += &set("own6", "type ipv6_addr; flags interval", &each(&|net| Some(net.subnet6?.to_string())));
    let elements: Vec<_> = ports.iter().flat_map(Port::elements).collect();
    for (protocol, family, at) in maps() {
        let name = map_name(protocol, family, at);
        let address = if family == "ip" { "ipv4_addr" } else { "ipv6_addr" };
        let key = if at { format!("{address} . inet_service") } else { "inet_service".to_owned() };
        let own: Vec<_> =
            elements.iter().filter(|(of, ..)| *of == name).map(|(_, from, to)| format!("{from} : {to}")).collect();
        let list = if own.is_empty() { String::new() } else { format!(" elements = {{ {} }};", own.join(", ")) };
        let _ = writeln!(text, "  map {name} {{ type {key} : {address} . inet_service;{list} }}");
    }
    text += &chains(&bridges);
    text += "}\n";
    text
}

fn chains(bridges: &str) -> String {
    let mut publish = String::new();
    // A port at one address comes before the same one at all.
    for (protocol, family, at) in maps().filter(|map| map.2).chain(maps().filter(|map| !map.2)) {
        let (name, word) = (map_name(protocol, family, at), protocol.as_str());
        let key = if at { format!("{family} daddr . {word} dport") } else { format!("{word} dport") };
        let nfproto = if family == "ip" { "ipv4" } else { "ipv6" };
        let _ = writeln!(publish, "    meta nfproto {nfproto} meta l4proto {word} dnat {family} to {key} map @{name}");
    }
    format!(
        r#"  chain publish {{
{publish}  }}
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{bridges}" ip daddr 127.0.0.0/8 drop
    iifname "{bridges}" ip saddr 127.0.0.0/8 drop
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump publish
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump publish
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 127.0.0.0/8 oifname "{bridges}" masquerade
    ip saddr @own4 oifname "{bridges}" ct status dnat masquerade
    ip6 saddr @own6 oifname "{bridges}" ct status dnat masquerade
    ip saddr @leaving4 oifname != "{bridges}" masquerade
    ip6 saddr @leaving6 oifname != "{bridges}" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname . oifname @within accept
    iifname @internal drop
    oifname @internal drop
    oifname "{bridges}" ct state established,related accept
    oifname "{bridges}" ct status dnat accept
    oifname "{bridges}" drop
  }}
"#
    )
}

/// Makes the table what it should be.
pub(crate) fn apply(tag: NodeTag, nets: &[Net], ports: &[Port]) -> Result<(), ToolError> {
    NFT.run("set the rules of the node's networks", &["-f", "-"], &table(tag, nets, ports)).map(drop)
}

fn changed(tag: NodeTag, ports: &[Port], change: impl Fn(&str, &str, &str, &str) -> String) -> String {
    let table = names::table(tag);
    let each = ports.iter().flat_map(Port::elements);
    each.map(|(map, from, to)| change(&table, &map, &from, &to)).collect()
}

/// Publishes ports; all of them or none.
pub(crate) fn publish(tag: NodeTag, ports: &[Port]) -> Result<(), ToolError> {
    let text =
        changed(tag, ports, |table, map, from, to| format!("add element inet {table} {map} {{ {from} : {to} }}\n"));
    NFT.run("publish ports", &["-f", "-"], &text).map(drop)
}

/// Takes published ports back.
pub(crate) fn unpublish(tag: NodeTag, ports: &[Port]) -> Result<(), ToolError> {
    let text = changed(tag, ports, |table, map, from, to| {
        // Made first, so that one that is gone already is no error.
        format!("add element inet {table} {map} {{ {from} : {to} }}\ndelete element inet {table} {map} {{ {from} }}\n")
    });
    NFT.run("take back published ports", &["-f", "-"], &text).map(drop)
}

/// Removes the table, if it is there.
pub(crate) fn remove(tag: NodeTag) -> Result<(), ToolError> {
    let table = names::table(tag);
    let text = format!("add table inet {table}\ndelete table inet {table}\n");
    NFT.run("remove the rules of the node's networks", &["-f", "-"], &text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_model::network::text;

    fn net(bridge: &str, subnet: &str, subnet6: Option<&str>, internal: bool) -> Net {
        let subnet6 = subnet6.map(|text| text.parse().expect("a range"));
        Net { bridge: bridge.to_owned(), subnet: subnet.parse().expect("a range"), subnet6, internal }
    }

    fn port(publish: &str, ip6: Option<&str>) -> Port {
        Port {
            publish: text::publish(publish).expect("a port"),
            ip: "10.0.0.2".parse().ok(),
            ip6: ip6.map(|text| text.parse().expect("an address")),
        }
    }

    #[test]
    fn where_ports_lead() {
        let elements = |publish: &str, ip6| port(publish, ip6).elements();
        assert_eq!(elements("80:8080", None), [("tcp_ip".into(), "80".into(), "10.0.0.2 . 8080".into())]);
        assert_eq!(elements("80:8080", Some("fd00::2")).len(), 2);
        let at = elements("127.0.0.1:53:53/udp", Some("fd00::2"));
        assert_eq!(at, [("udp_ip_at".into(), "127.0.0.1 . 53".into(), "10.0.0.2 . 53".into())]);
        assert!(!port("[fd01::1]:80:80", None).leads());
        assert!(port("[fd01::1]:80:80", Some("fd00::2")).leads());
    }

    /// The kernel's own judgement, in a network of its own.
    #[test]
    fn the_kernel_takes_it() {
        if NFT.find().is_err() {
            println!("skipped: there is no nft");
            return;
        }
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("net");
        let tag = NodeTag::from_bytes([1, 2, 3]);
        let nets = [
            net("h010203n000001", "10.0.0.0/24", Some("fd00::/64"), false),
            net("h010203n000002", "10.0.1.0/24", None, true),
        ];
        let ports = [port("80:8080", Some("fd00::2")), port("127.0.0.1:53:53/udp", None)];
        let more = [port("81:1/udp", Some("fd00::2"))];
        let ran = hostler_linux::netns::create(&path, || {
            apply(tag, &[], &[]).expect("empty");
            apply(tag, &nets, &ports).expect("full");
            publish(tag, &more).expect("one more");
            let clash = Port { ip: "10.0.0.9".parse().ok(), ..more[0] };
            assert!(publish(tag, &[clash]).is_err(), "one port leads to one place");
            let shown = NFT.run("list", &["list", "ruleset"], "").expect("listed");
            assert!(shown.contains("81 : 10.0.0.2 . 1") && shown.contains("80 : fd00::2 . 8080"), "{shown}");
            for _ in 0..2 {
                unpublish(tag, &more).expect("taken back");
            }
            assert!(!NFT.run("list", &["list", "ruleset"], "").expect("listed").contains("81 : "));
            remove(tag).expect("removed");
            remove(tag).expect("removed again");
            NFT.run("list", &["list", "ruleset"], "").expect("listed")
        });
        match ran {
            Ok(left) => assert_eq!(left, ""),
            Err(error) if error.raw_os_error() == Some(1) => println!("skipped: network namespaces need root"),
            Err(error) => panic!("{error}"),
        }
        hostler_linux::netns::release(&path).expect("released");
    }
}
