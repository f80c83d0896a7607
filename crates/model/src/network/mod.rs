//! Networks of workloads: what someone asks for, what is kept of it, and how a workload is attached.
//!
//! A *network* is a named thing in a namespace. A *set-up* is one place in it, made ahead of need: a network namespace with
//! an interface and addresses. A workload's run takes one and gives it back.
//!
//! - [`subnet`]: ranges of addresses
//! - `new`: what can be judged of a network that is to be made
//! - [`text`]: attachments and published ports as people write them
//!
//! Not here: which addresses are free, and anything that is done to a machine.

pub(crate) mod new;
pub mod subnet;
pub mod text;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::error::{Problem, ProblemKind};
use crate::ids::{Namespace, NetworkId, NetworkName, RunId, SetupId};
use crate::limits;
use crate::spec::{Spec, invalid};
pub use subnet::{Subnet4, Subnet6};

/// A network as it is asked for. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// IPv4 addresses of its workloads, such as `10.1.2.0/24`; chosen by the node when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Subnet4>,
    /// The node's own address in it; the first when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// Its workloads get IPv6 addresses as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ipv6: bool,
    /// IPv6 addresses of its workloads, such as `fd12:3456::/64`; chosen by the node when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<Subnet6>,
    /// Its workloads reach each other and nothing else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// Largest packet, bytes; 1,500 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Who is asked about names outside of it; the machine's resolvers when absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// A CNI configuration list, as JSON: its plugins make the network, and nothing of the above applies but `dns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni: Option<String>,
}

/// A network as it is created: its name beside the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewNetwork {
    /// Unique in the namespace.
    pub name: NetworkName,
    /// What it is.
    #[serde(default)]
    pub spec: NetworkSpec,
}

/// A network as the store keeps it: everything chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkRecord {
    /// Its id: part of the names of its bridge.
    pub id: NetworkId,
    /// Whose it is.
    pub namespace: Namespace,
    /// Its name, unique in the namespace.
    pub name: NetworkName,
    /// What was asked for.
    pub spec: NetworkSpec,
    /// What was chosen, of a bridge network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
    /// When it was made, wall clock, milliseconds.
    pub created_at_ms: u64,
}

/// A built-in network: workloads on a bridge of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Bridge {
    /// IPv4 addresses of its workloads.
    pub subnet: Subnet4,
    /// The node's own among them.
    pub gateway: Ipv4Addr,
    /// IPv6 addresses of its workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<Subnet6>,
    /// The node's own among these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway6: Option<Ipv6Addr>,
}

impl Bridge {
    /// A bridge with these addresses, the first of each the node's own unless the spec says otherwise.
    #[must_use]
    pub fn new(spec: &NetworkSpec, subnet: Subnet4, subnet6: Option<Subnet6>) -> Self {
        Self {
            subnet,
            gateway: spec.gateway.unwrap_or_else(|| subnet.nth(1)),
            subnet6,
            gateway6: subnet6.map(|subnet6| subnet6.nth(1)),
        }
    }

    /// How many workloads it has IPv4 addresses for.
    #[must_use]
    pub fn places(&self) -> u32 {
        self.subnet.hosts().saturating_sub(1)
    }
}

/// How a workload is attached to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Which network of the workload's namespace.
    pub name: NetworkName,
    /// This IPv4 address and no other; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// This IPv6 address and no other; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip6: Option<Ipv6Addr>,
    /// Names by which others of the network find it, beside the workload's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Ports of this machine that lead to ports of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// Who is asked about names outside of the network; those of the network when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// At most so many bytes a second to it, and as many from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_bytes_per_s: Option<u64>,
}

/// A port of this machine that leads to one of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Only at this address of the machine; at all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// The machine's port.
    pub host_port: u16,
    /// The workload's port.
    pub port: u16,
    /// TCP unless it says `udp`.
    #[serde(default)]
    pub protocol: Protocol,
}

impl Publish {
    /// Whether both want the same port of the machine.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        let same_host = match (self.host, other.host) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        same_host && self.host_port == other.host_port && self.protocol == other.protocol
    }
}

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the protocols' own")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

impl Protocol {
    /// As `nft` and people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A run's place in its network, as far as it is known now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunNetwork {
    /// Which network.
    pub network: NetworkName,
    /// The set-up that the run has taken.
    pub setup: SetupId,
    /// The network namespace, a file.
    pub namespace_path: String,
    /// Its interface within.
    pub interface: String,
    /// Its IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// Its IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip6: Option<Ipv6Addr>,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// What of it is missing, as found when the daemon came up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How a network stands, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkView {
    /// The network.
    #[serde(flatten)]
    pub network: NetworkRecord,
    /// The bridge's name on this machine, of a bridge network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Why it cannot be used now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Runs in it.
    pub runs: Vec<NetworkRun>,
    /// Its pool of set-ups.
    pub pool: PoolView,
}

/// A run in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkRun {
    /// Which.
    pub run: RunId,
    /// Names by which the others find it.
    pub names: Vec<String>,
    /// Its published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// Its place.
    #[serde(flatten)]
    pub place: RunNetwork,
}

/// How a pool stands. Counts are those of the set-ups themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolView {
    /// Kept ready.
    pub target: u32,
    /// At most, of all kinds together.
    pub max: u32,
    /// Ready.
    pub idle: u32,
    /// Taken.
    pub occupied: u32,
    /// Being made.
    pub making: u32,
    /// Given back, and being cleaned or removed.
    pub leaving: u32,
    /// Runs that wait for one.
    pub waiting: u32,
    /// Failures to make one in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// What the last of them said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// When it is tried again, milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl NetworkSpec {
    /// Everything that can be judged without looking at the machine. What a CNI list says is judged by the node.
    pub fn check(&self) -> Result<(), Problem> {
        if self.dns.len() > limits::NETWORK_DNS_MAX {
            return Err(invalid("dns", &format!("has more than {} entries", limits::NETWORK_DNS_MAX)));
        }
        if let Some(list) = &self.cni {
            let plain = Self { cni: self.cni.clone(), dns: self.dns.clone(), ..Self::default() };
            if *self != plain {
                return Err(invalid("cni", "excludes subnets, gateway, ipv6, internal and mtu: its plugins say these"));
            }
            if list.len() > limits::CNI_LIST_MAX {
                return Err(invalid("cni", &format!("has more than {} bytes", limits::CNI_LIST_MAX)));
            }
            return Ok(());
        }
        if let Some(mtu) = self.mtu.filter(|mtu| !(1_280..=65_535).contains(mtu)) {
            return Err(invalid("mtu", &format!("{mtu} is not from 1280 to 65535")));
        }
        match (self.subnet, self.gateway) {
            (Some(subnet), _) if !subnet.is_usable() => {
                return Err(invalid(
                    "subnet",
                    &format!("{subnet} must be a private or otherwise unicast range from /8 to /30"),
                ));
            }
            (Some(subnet), Some(gateway)) if !subnet.is_host(gateway) => {
                return Err(invalid("gateway", &format!("{gateway} is not an address of a machine in {subnet}")));
            }
            (None, Some(_)) => return Err(invalid("gateway", "needs a subnet")),
            _ => {}
        }
        if let Some(subnet6) = self.subnet6.filter(|subnet6| !subnet6.is_usable()) {
            return Err(invalid("subnet6", &format!("{subnet6} must be a unicast range from /48 to /96")));
        }
        Ok(())
    }

    /// Whether it has IPv6 addresses.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.ipv6 || self.subnet6.is_some()
    }
}

impl Attachment {
    /// Attached without wishes.
    #[must_use]
    pub fn to(name: NetworkName) -> Self {
        Self {
            name,
            ip: None,
            ip6: None,
            aliases: Vec::new(),
            publish: Vec::new(),
            dns: Vec::new(),
            rate_bytes_per_s: None,
        }
    }

    /// Whether no two workloads can be attached like this.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.ip.is_some() || self.ip6.is_some() || !self.publish.is_empty()
    }

    /// Everything that can be judged without looking at the machine; `field` is where it is.
    pub fn check(&self, field: &str) -> Result<(), Problem> {
        let refuse = |part: &str, what: &str| Err(invalid(&format!("{field}.{part}"), what));
        if self.aliases.len() > limits::NETWORK_ALIASES_MAX {
            return refuse("aliases", &format!("has more than {} entries", limits::NETWORK_ALIASES_MAX));
        }
        if let Some(bad) = self.aliases.iter().find(|alias| !is_dns_name(alias)) {
            return refuse("aliases", &format!("{bad:?} is no name: letters, digits, dashes, underscores and dots"));
        }
        if self.dns.len() > limits::NETWORK_DNS_MAX {
            return refuse("dns", &format!("has more than {} entries", limits::NETWORK_DNS_MAX));
        }
        if self.publish.len() > limits::PUBLISH_MAX {
            return refuse("publish", &format!("has more than {} entries", limits::PUBLISH_MAX));
        }
        for (index, publish) in self.publish.iter().enumerate() {
            if publish.port == 0 || publish.host_port == 0 {
                return refuse("publish", "port 0 leads nowhere");
            }
            if publish.host == Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) {
                return refuse(
                    "publish",
                    "::1 leads nowhere: the kernel passes nothing on from there; publish at 127.0.0.1",
                );
            }
            if publish.host.is_some_and(|host| host.is_multicast()) {
                return refuse("publish", "a port can be published at an address of this machine only");
            }
            if self.publish[..index].iter().any(|other| other.collides(publish)) {
                let what = format!("{} port {} is published twice", publish.protocol.as_str(), publish.host_port);
                return refuse("publish", &what);
            }
        }
        if self
            .rate_bytes_per_s
            .is_some_and(|rate| !(limits::NETWORK_RATE_MIN..=limits::NETWORK_RATE_MAX).contains(&rate))
        {
            let what = format!("must be from {} to {}", limits::NETWORK_RATE_MIN, limits::NETWORK_RATE_MAX);
            return refuse("rate_bytes_per_s", &what);
        }
        Ok(())
    }
}

/// A name that can be asked for: labels of 1 to 63 letters, digits, dashes and underscores, 253 bytes in all.
#[must_use]
pub fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl Spec {
    /// How it is attached to a network of the node, if it is.
    #[must_use]
    pub fn attachment(&self) -> Option<&Attachment> {
        let of_container = self.container.as_ref().and_then(|container| container.network.as_ref());
        let of_machine = self.vm.as_ref().and_then(|vm| vm.network.as_ref());
        of_container.or(of_machine)?.attachment()
    }
}

/// The refusal of a virtual machine that asks for a place in a network of CNI plugins, which make none for it.
#[must_use]
pub fn no_guests(name: &NetworkName) -> Problem {
    let detail = format!(
        "network {name} is made by CNI plugins, which give no place to a virtual machine; use a network that was made without --cni"
    );
    Problem::new(ProblemKind::NetworkUnavailable, detail)
}

/// The refusal of one who names a network that is not there.
#[must_use]
pub fn unknown(namespace: &Namespace, name: &NetworkName) -> Problem {
    let detail = format!(
        "there is no network {name} in namespace {namespace}; make it with: hostler network create {name}, or see: hostler network ls; a namespace of the machine is written as a path, /run/netns/{name}"
    );
    Problem::new(ProblemKind::UnknownNetwork, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        let spec: NetworkSpec = match serde_json::from_str(json) {
            Ok(spec) => spec,
            Err(error) => return error.to_string(),
        };
        spec.check().expect_err(json).detail
    }

    #[test]
    fn specs_that_make_no_sense_are_refused() {
        for (json, word) in [
            (r#"{"subnet":"10.0.0.0/31"}"#, "subnet"),
            (r#"{"subnet":"224.0.0.0/24"}"#, "subnet"),
            (r#"{"subnet":"127.0.0.0/24"}"#, "subnet"),
            (r#"{"subnet":"10.0.0.1/24"}"#, "10.0.0.1/24"),
            (r#"{"subnet":"10.0.0.0/24","gateway":"10.0.1.1"}"#, "gateway"),
            (r#"{"subnet":"10.0.0.0/24","gateway":"10.0.0.255"}"#, "gateway"),
            (r#"{"gateway":"10.0.1.1"}"#, "gateway"),
            (r#"{"subnet6":"ff00::/64"}"#, "subnet6"),
            (r#"{"mtu":100}"#, "mtu"),
            (r#"{"cni":"{}","ipv6":true}"#, "cni"),
            (r#"{"what":1}"#, "what"),
        ] {
            assert!(refused(json).contains(word), "{json}: {}", refused(json));
        }
        let good: NetworkSpec =
            serde_json::from_str(r#"{"subnet":"10.1.2.0/24","ipv6":true,"dns":["9.9.9.9"]}"#).expect("parse");
        good.check().expect("valid");
    }

    #[test]
    fn attachments_that_make_no_sense_are_refused() {
        let check = |change: &dyn Fn(&mut Attachment)| {
            let mut attachment = Attachment::to("blue".parse().expect("valid"));
            change(&mut attachment);
            attachment.check("network").map_err(|problem| problem.detail)
        };
        let port = |host: Option<&str>, host_port, protocol| Publish {
            host: host.map(|host| host.parse().expect("an address")),
            host_port,
            port: 80,
            protocol,
        };
        assert_eq!(check(&|_| ()), Ok(()));
        let good = [
            port(None, 80, Protocol::Tcp),
            port(None, 80, Protocol::Udp),
            port(Some("127.0.0.1"), 81, Protocol::Tcp),
            port(Some("127.0.0.2"), 81, Protocol::Tcp),
        ];
        assert_eq!(check(&|it| it.publish = good.to_vec()), Ok(()));
        let twice = [port(None, 80, Protocol::Tcp), port(Some("127.0.0.1"), 80, Protocol::Tcp)];
        assert!(check(&|it| it.publish = twice.to_vec()).expect_err("twice").contains("twice"));
        assert!(check(&|it| it.publish = vec![port(None, 0, Protocol::Tcp)]).is_err());
        for bad in ["", "a b", "-a", "a..b", "ä", &"x".repeat(64)] {
            assert!(check(&|it| it.aliases = vec![bad.to_owned()]).expect_err(bad).contains("aliases"));
        }
        assert!(check(&|it| it.rate_bytes_per_s = Some(1)).is_err());
    }
}
