//! What an ADD has made, as the last plugin of the list tells it.
//!
//! The answers of 0.3.1 to 1.1.0 differ in keys that nothing here depends on: `ips[].version` went, others came.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::list::Version;

/// What an ADD has made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// Interfaces, those on the machine included.
    pub(crate) interfaces: Vec<Interface>,
    /// Addresses.
    pub(crate) ips: Vec<Address>,
    /// Routes.
    pub(crate) routes: Vec<Route>,
    /// How names are resolved.
    pub(crate) dns: Dns,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Interface {
    /// Its name.
    pub(crate) name: String,
    /// Its hardware address.
    #[serde(default, deserialize_with = "filled")]
    pub(crate) mac: Option<String>,
    /// Its largest packet, bytes.
    #[serde(default)]
    pub(crate) mtu: Option<u32>,
    /// Its network namespace, a path; none of the machine's own.
    #[serde(default, deserialize_with = "filled")]
    pub(crate) sandbox: Option<String>,
}

/// An address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// The address.
    pub(crate) ip: IpAddr,
    /// How many of its bits are the network's.
    pub(crate) prefix: u8,
    /// The way out.
    pub(crate) gateway: Option<IpAddr>,
    /// Which of the interfaces has it.
    pub(crate) interface: Option<usize>,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where to.
    pub(crate) destination: IpAddr,
    /// How many bits of it count.
    pub(crate) prefix: u8,
    /// By whom; by an address's gateway when absent.
    pub(crate) gateway: Option<IpAddr>,
}

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Dns {
    /// Who is asked, as told: not every plugin tells addresses.
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) nameservers: Vec<String>,
    /// The domain of short names.
    #[serde(default, deserialize_with = "filled")]
    pub(crate) domain: Option<String>,
    /// Domains in which short names are looked for.
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) search: Vec<String>,
    /// As `resolv.conf` has them.
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) options: Vec<String>,
}

/// As it is written.
#[derive(Deserialize)]
struct Written {
    #[serde(default, deserialize_with = "nullable")]
    interfaces: Vec<Interface>,
    #[serde(default, deserialize_with = "nullable")]
    ips: Vec<WrittenAddress>,
    #[serde(default, deserialize_with = "nullable")]
    routes: Vec<WrittenRoute>,
    #[serde(default, deserialize_with = "nullable")]
    dns: Dns,
}

#[derive(Deserialize)]
struct WrittenAddress {
    address: String,
    #[serde(default, deserialize_with = "filled")]
    gateway: Option<String>,
    #[serde(default)]
    interface: Option<i64>,
}

#[derive(Deserialize)]
struct WrittenRoute {
    dst: String,
    #[serde(default, deserialize_with = "filled")]
    gw: Option<String>,
}

/// Plugins written in Go say `null` where they mean none.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// … and an empty text where they mean nothing.
fn filled<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(from).map(|text| text.filter(|text| !text.is_empty()))
}

/// Reads an answer to ADD: what it says, and the same as the next plugin is told it. Otherwise what is wrong with it.
pub(super) fn read(answer: &[u8], asked: Version) -> Result<(Outcome, Value), String> {
    if answer.trim_ascii().is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut value: Value = serde_json::from_slice(answer).map_err(|error| format!("it is no JSON: {error}"))?;
    let Some(object) = value.as_object_mut() else { return Err("it is no JSON object".to_owned()) };
    match object.get("cniVersion") {
        // Those that leave it out answer as they were asked.
        None | Some(Value::Null) => {
            object.insert("cniVersion".to_owned(), asked.as_str().into());
        }
        Some(Value::String(version)) if version.is_empty() => {
            object.insert("cniVersion".to_owned(), asked.as_str().into());
        }
        Some(Value::String(version)) if ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].contains(&version.as_str()) => {}
        Some(version) => return Err(format!("its cniVersion is {version}, asked was {}", asked.as_str())),
    }
    let outcome = Outcome::from_value(&value)?;
    Ok((outcome, value))
}

impl Outcome {
    /// The same from a result that was read before.
    pub(super) fn from_value(value: &Value) -> Result<Self, String> {
        let written = Written::deserialize(value).map_err(|error| error.to_string())?;
        let count = written.interfaces.len();
        let ips = written.ips.into_iter().map(|ip| ip.read(count)).collect::<Result<_, _>>()?;
        let routes = written.routes.into_iter().map(WrittenRoute::read).collect::<Result<_, _>>()?;
        Ok(Self { interfaces: written.interfaces, ips, routes, dns: written.dns })
    }

    /// The workload's first IPv4 address.
    #[must_use]
    pub(crate) fn first_ip4(&self) -> Option<Ipv4Addr> {
        self.inner_addresses().find_map(|address| match address.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
    }

    /// The workload's first IPv6 address.
    #[must_use]
    pub(crate) fn first_ip6(&self) -> Option<Ipv6Addr> {
        self.inner_addresses().find_map(|address| match address.ip {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        })
    }

    /// The hardware address of the workload's interface of this name.
    #[must_use]
    pub(crate) fn mac(&self, interface: &str) -> Option<&str> {
        let ours = self.interfaces.iter().find(|one| one.sandbox.is_some() && one.name == interface)?;
        ours.mac.as_deref()
    }

    /// Plugins may tell of the machine's own addresses as well.
    fn inner_addresses(&self) -> impl Iterator<Item = &Address> {
        let is_inner = |address: &&Address| {
            let interface = address.interface.and_then(|index| self.interfaces.get(index));
            interface.is_none_or(|interface| interface.sandbox.is_some())
        };
        self.ips.iter().filter(is_inner)
    }
}

impl WrittenAddress {
    fn read(self, interfaces: usize) -> Result<Address, String> {
        let (ip, prefix) = with_prefix(&self.address)?;
        let interface = match self.interface {
            None => None,
            Some(index) => {
                let index = usize::try_from(index).ok().filter(|index| *index < interfaces);
                Some(index.ok_or_else(|| format!("{} is at an interface that it does not list", self.address))?)
            }
        };
        Ok(Address { ip, prefix, gateway: address(self.gateway)?, interface })
    }
}

impl WrittenRoute {
    fn read(self) -> Result<Route, String> {
        let (destination, prefix) = with_prefix(&self.dst)?;
        Ok(Route { destination, prefix, gateway: address(self.gw)? })
    }
}

fn address(text: Option<String>) -> Result<Option<IpAddr>, String> {
    text.map(|text| text.parse().map_err(|_| format!("{text:?} is no address"))).transpose()
}

fn with_prefix(text: &str) -> Result<(IpAddr, u8), String> {
    let parse = || {
        let (ip, prefix) = text.split_once('/')?;
        let (ip, prefix) = (ip.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
        (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, prefix))
    };
    parse().ok_or_else(|| format!("{text:?} is no address with the length of its network"))
}
