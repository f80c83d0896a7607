//! What a workload reads of its network: `/etc/hosts` and `/etc/resolv.conf`; and what the network's resolver knows.

use std::net::IpAddr;

use hostler_model::ids::NetworkId;
use hostler_model::network::{Attachment, Bridge, NetworkRecord};

use crate::book::leases::Lease;
use crate::cni::Dns;
use crate::dns::{self, Client, Outside, Zone};
use crate::state::State;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Most that is read of a file of the machine's, bytes.
const FILE_MAX: u64 = 64 * 1024;

const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// `/etc/hosts`: itself, by its host name and its names.
pub(crate) fn hosts(hostname: &str, names: &[String], lease: &Lease) -> String {
    let mut all = vec![hostname];
    all.extend(names.iter().map(String::as_str).filter(|name| *name != hostname));
    let own = [lease.ip.map(IpAddr::V4), lease.ip6.map(IpAddr::V6)].into_iter().flatten();
    own.fold(LOCAL.to_owned(), |text, address| text + &format!("{address}\t{}\n", all.join(" ")))
}

fn nameservers(servers: &[IpAddr]) -> String {
    servers.iter().map(|server| format!("nameserver {server}\n")).collect()
}

/// The node's own resolver answers, and asks others. Names are asked for as they are: without a word about it, those whose
/// host name has a dot, as replicas of stacks have, would look for everything below what comes after it first.
pub(crate) fn resolv_of_bridge(bridge: &Bridge) -> String {
    nameservers(&[bridge.gateway.into()]) + "search .\noptions ndots:0\n"
}

/// Without a resolver of the node.
pub(crate) fn resolv_of(to: &Attachment, record: &NetworkRecord, machine: impl FnOnce() -> Vec<IpAddr>) -> String {
    match (to.dns.is_empty(), record.spec.dns.is_empty()) {
        (false, _) => nameservers(&to.dns),
        (true, false) => nameservers(&record.spec.dns),
        (true, true) => nameservers(&machine()),
    }
}

/// As the plugins of a CNI network say it, unless somebody asks for other resolvers.
pub(crate) fn resolv_of_plugins(
    dns: &Dns,
    to: &Attachment,
    record: &NetworkRecord,
    machine: impl FnOnce() -> Vec<IpAddr>,
) -> String {
    if dns.nameservers.is_empty() || !to.dns.is_empty() || !record.spec.dns.is_empty() {
        return resolv_of(to, record, machine);
    }
    let mut text: String = dns.nameservers.iter().map(|server| format!("nameserver {server}\n")).collect();
    if let Some(domain) = &dns.domain {
        text += &format!("domain {domain}\n");
    }
    for (word, list) in [("search", &dns.search), ("options", &dns.options)] {
        if !list.is_empty() {
            text += &format!("{word} {}\n", list.join(" "));
        }
    }
    text
}

fn read(path: &str) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path);
    let _ = file.and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
    text
}

/// Whom the machine asks.
pub(crate) fn machine_resolvers(own: &[IpAddr]) -> Vec<IpAddr> {
    dns::machine_upstreams(&read(RESOLV_CONF), own)
}

/// The machine's own two files, for a workload in its network.
#[must_use]
pub fn machine_files() -> (String, String) {
    (read("/etc/hosts"), read(RESOLV_CONF))
}

/// What the resolver of a network knows: everybody in it.
pub(crate) fn zone(state: &State, id: NetworkId) -> Option<Zone> {
    let record = &state.nets.get(&id)?.record;
    let bridge = record.bridge.as_ref()?;
    let mut zone = Zone::default();
    zone.upstreams.clone_from(&record.spec.dns);
    zone.own = state.own_addresses();
    (zone.subnet, zone.subnet6) = (Some(bridge.subnet), bridge.subnet6);
    zone.outside = if record.spec.internal { Outside::Refuse } else { Outside::Forward };
    let leases = state.book.iter().flat_map(|book| book.leases().all());
    for lease in leases.filter(|lease| lease.network == id) {
        // One that has been left already is nobody's.
        let Some(user) = lease.user.as_ref().filter(|user| state.runs.contains_key(&user.run)) else { continue };
        let addresses: Vec<_> = [lease.ip.map(IpAddr::V4), lease.ip6.map(IpAddr::V6)].into_iter().flatten().collect();
        for address in addresses {
            user.names.iter().for_each(|name| zone.add_name(name, address));
            zone.set_client(address, Client { names: user.names.clone(), dns: user.dns.clone() });
        }
    }
    Some(zone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_model::ids::SetupId;

    #[test]
    fn hosts_name_everybody_once() {
        let lease = Lease {
            setup: SetupId::from_bytes([0; 4]),
            network: NetworkId::from_bytes([0; 3]),
            ip: "10.0.0.2".parse().ok(),
            ip6: "fd00::2".parse().ok(),
            cni: false,
            made: true,
            user: None,
        };
        let text = hosts("web", &["web".to_owned(), "www".to_owned()], &lease);
        assert!(text.ends_with("10.0.0.2\tweb www\nfd00::2\tweb www\n"), "{text}");
    }

    #[test]
    fn the_nearest_word_counts() {
        let (record, bridge) = crate::tests::record(Default::default(), "10.0.0.0/24", None);
        let mut to = Attachment::to("blue".parse().expect("a name"));
        let machine = || vec!["9.9.9.9".parse().expect("an address")];
        assert_eq!(resolv_of_bridge(&bridge), "nameserver 10.0.0.1\nsearch .\noptions ndots:0\n");
        assert_eq!(resolv_of(&to, &record, machine), "nameserver 9.9.9.9\n");
        let plugins =
            Dns { nameservers: vec!["10.1.1.1".to_owned()], search: vec!["x.y".to_owned()], ..Dns::default() };
        let text = resolv_of_plugins(&plugins, &to, &record, machine);
        assert_eq!(text, "nameserver 10.1.1.1\nsearch x.y\n");
        to.dns = vec!["1.1.1.1".parse().expect("an address")];
        assert_eq!(resolv_of_plugins(&plugins, &to, &record, machine), "nameserver 1.1.1.1\n");
    }
}
