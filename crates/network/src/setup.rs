//! One set-up of a bridge network on the machine: made, looked at, removed.
//!
//! ```text
//!   the machine                      the network of the set-up
//!   bridge ── h<tag><set-up> ────────── eth0   addresses and routes are on it
//! ```
//! For a virtual machine it is changed once it is taken: see [`crate::guest`].
//!
//! Everything here may fail at any step and may be called again: removing begins with whatever is there.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use hostler_linux::{failpoint, netns};
use hostler_model::ids::{NodeTag, SetupId};
use hostler_model::network::Bridge;
use thiserror::Error;

use crate::names;
use crate::netlink::{self, End, Link, Netlink, NetlinkError, Prefixed, Route};
use crate::tool::{TC, ToolError};

/// The interface's number in its network: said ahead, so that all that is asked of it can travel in one piece.
pub(crate) const INNER_INDEX: u32 = 100;

/// What could not be done with a set-up.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("cannot make a network namespace: {0}")]
    Namespace(io::Error),
    #[error("cannot enter the network namespace {0}: {1}")]
    Enter(String, io::Error),
    #[error("its range {0} overlaps {1}, which is an address of this machine")]
    Overlap(String, String),
    #[error("cannot make a tap device: {0}")]
    Tap(io::Error),
    #[error("cannot write {0}: {1}")]
    Setting(&'static str, io::Error),
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// For what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Container,
    /// The user that the virtual machine runs as.
    VirtualMachine {
        owner: u32,
    },
}

/// A set-up as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) tag: NodeTag,
    pub(crate) setup: SetupId,
    pub(crate) kind: Kind,
    pub(crate) ip: Ipv4Addr,
    pub(crate) ip6: Option<Ipv6Addr>,
    pub(crate) bridge: Bridge,
    /// The bridge's number on the machine.
    pub(crate) bridge_index: u32,
    pub(crate) internal: bool,
    pub(crate) mtu: u32,
}

impl Plan {
    /// That of its address, so that whoever knows the one of a workload before finds the one after it there.
    pub(crate) fn mac(&self) -> [u8; 6] {
        let tag = self.tag.as_bytes();
        netlink::mac_of([tag[0], tag[1]], self.ip.octets())
    }

    pub(crate) fn addresses(&self) -> Vec<Prefixed> {
        let four = Prefixed { address: self.ip.into(), length: self.bridge.subnet.length() };
        let six = self.bridge.subnet6.zip(self.ip6);
        let six = six.map(|(subnet6, ip6)| Prefixed { address: ip6.into(), length: subnet6.length() });
        [Some(four), six].into_iter().flatten().collect()
    }

    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        if self.internal {
            return Vec::new();
        }
        let six = self.bridge.gateway6.filter(|_| self.ip6.is_some());
        [Some(self.bridge.gateway.into()), six.map(Into::into)].into_iter().flatten().collect()
    }
}

/// Makes it, as a container has it. What was begun when it fails is for [`remove`] to undo.
pub(crate) fn make(plan: &Plan) -> Result<(), SetupError> {
    let outer = names::outer(plan.tag, plan.setup);
    let machine = netns::own().map_err(SetupError::Namespace)?;
    let path = names::namespace(plan.tag, plan.setup);
    failpoint::hit("setup-leased");
    netns::create(&path, || {
        failpoint::hit("setup-namespace");
        inside(plan, &outer, netns::number(&machine))
    })
    .map_err(SetupError::Namespace)??;
    failpoint::hit("setup-links");
    Netlink::open()?.one(netlink::join(&outer, plan.bridge_index))?;
    failpoint::hit("setup-joined");
    Ok(())
}

/// The part that is done in its network.
fn inside(plan: &Plan, outer: &str, machine: i32) -> Result<(), SetupError> {
    if plan.ip6.is_none() {
        // Before there is an interface: the kernel would look for neighbours on it.
        setting("net/ipv6/conf/default/disable_ipv6", "1")?;
    }
    // Root of a user namespace of its own has no right to low ports of a network that was made outside of it.
    setting("net/ipv4/ip_unprivileged_port_start", "0")?;
    // And may ask whether somebody is there, without a right to raw packets.
    setting("net/ipv4/ping_group_range", "0 2147483647")?;
    let mut netlink = Netlink::open()?;
    let here = End { name: names::INNER, mac: Some(plan.mac()), index: Some(INNER_INDEX) };
    let there = End { name: outer, mac: None, index: None };
    let mut requests = vec![netlink::new_pair(&here, &there, machine, plan.mtu), netlink::raise("lo")];
    requests.extend(plan.addresses().into_iter().map(|prefixed| netlink::address(INNER_INDEX, prefixed)));
    requests.extend(plan.gateways().into_iter().map(netlink::default_route));
    Ok(netlink.all(requests)?)
}

/// Writes a setting of the kernel's, for the network of this thread. One that the kernel does not have needs no setting.
pub(crate) fn setting(name: &'static str, value: &str) -> Result<(), SetupError> {
    match fs::write(Path::new("/proc/sys").join(name), value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SetupError::Setting(name, error)),
        _ => Ok(()),
    }
}

/// It has published ports, and may ask for them at the machine as anybody else.
pub(crate) fn let_reach_itself(tag: NodeTag, setup: SetupId) -> Result<(), SetupError> {
    Ok(Netlink::open()?.one(netlink::send_back(&names::outer(tag, setup)))?)
}

/// Limits the rate both ways: what goes to the workload at the outer end, what comes from it at the inner.
pub(crate) fn limit_rate(tag: NodeTag, setup: SetupId, bytes_per_s: u64) -> Result<(), SetupError> {
    let bits = format!("{}bit", bytes_per_s.saturating_mul(8));
    // What a timer of 250 a second lets through at once, and no less than a large packet.
    let burst = format!("{}b", (bytes_per_s / 250).max(32 * 1024));
    let set = |link: &str| {
        let arguments =
            ["qdisc", "replace", "dev", link, "root", "tbf", "rate", &bits, "burst", &burst, "latency", "50ms"];
        TC.run("limit the rate of a network", &arguments, "").map(drop)
    };
    let path = names::namespace(tag, setup);
    set(&names::outer(tag, setup))?;
    within(&path, || set(names::INNER))??;
    Ok(())
}

pub(crate) fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, SetupError> {
    netns::within(path, work).map_err(|error| SetupError::Enter(path.display().to_string(), error))
}

/// Removes whatever is there of it.
pub(crate) fn remove(tag: NodeTag, setup: SetupId) -> Result<(), SetupError> {
    let outer = names::outer(tag, setup);
    match Netlink::open()?.one(netlink::remove(&outer)) {
        Err(error) if !error.is_missing() => return Err(error.into()),
        _ => {}
    }
    failpoint::hit("setup-unlinked");
    let path = names::namespace(tag, setup);
    netns::release(&path).map_err(|error| SetupError::Enter(path.display().to_string(), error))
}

/// What is not as it should be with it; `None` when all is.
pub(crate) fn flaw(plan: &Plan, users: Users) -> Result<Option<String>, SetupError> {
    let path = names::namespace(plan.tag, plan.setup);
    if netns::identity(&path).map_err(SetupError::Namespace)?.is_none() {
        return Ok(Some(format!("its network namespace {} is gone", path.display())));
    }
    let outer = names::outer(plan.tag, plan.setup);
    match Netlink::open()?.link(&outer)? {
        None => return Ok(Some(format!("its link {outer} is gone"))),
        Some(link) if link.bridge != Some(plan.bridge_index) => {
            return Ok(Some(format!("its link {outer} is not in its bridge")));
        }
        Some(link) if !link.up => return Ok(Some(format!("its link {outer} is down"))),
        // What is in it cannot change anything of a guest's set-up, so that is looked at all the same.
        Some(_) if users == Users::MayChange && plan.kind == Kind::Container => return Ok(None),
        Some(_) => {}
    }
    within(&path, || flaw_inside(plan, users))?
}

/// Whether somebody uses it, who may have his own in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    May,
    /// He may also have changed it.
    MayChange,
    None,
}

fn flaw_inside(plan: &Plan, users: Users) -> Result<Option<String>, SetupError> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let Some(inner) = links.iter().find(|link| link.name == names::INNER) else {
        return Ok(Some(format!("it has no {}", names::INNER)));
    };
    let mac = if plan.kind == Kind::Container { plan.mac() } else { crate::guest::port_mac(plan) };
    if !inner.up || inner.mac != mac || inner.mtu != plan.mtu {
        return Ok(Some(format!("{} was changed", names::INNER)));
    }
    if plan.kind != Kind::Container {
        return Ok(crate::guest::flaw(&links, inner));
    }
    if let Some(flaw) = addresses_flaw(plan, inner.index, &netlink.addresses()?) {
        return Ok(Some(flaw));
    }
    if let Some(flaw) = routes_flaw(plan, &netlink.routes()?) {
        return Ok(Some(flaw));
    }
    if users == Users::None
        && let Some(link) = links.iter().find(|link| is_foreign(link))
    {
        return Ok(Some(format!("{} was left in it", link.name)));
    }
    Ok(None)
}

/// Neither ours nor one that the kernel puts into every network.
fn is_foreign(link: &Link) -> bool {
    let of_kernel = ["lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"];
    link.name != names::INNER && !of_kernel.contains(&link.name.as_str())
}

fn addresses_flaw(plan: &Plan, link: u32, found: &[(u32, Prefixed)]) -> Option<String> {
    let is_ours = |(of, prefixed): &&(u32, Prefixed)| *of == link && !netlink::is_link_local(prefixed.address);
    let mut found: Vec<_> = found.iter().filter(is_ours).map(|(_, prefixed)| *prefixed).collect();
    let mut wanted = plan.addresses();
    found.sort_unstable();
    wanted.sort_unstable();
    (found != wanted).then(|| format!("addresses of {} were changed", names::INNER))
}

fn routes_flaw(plan: &Plan, found: &[Route]) -> Option<String> {
    let mut gateways: Vec<_> = found.iter().filter(|route| route.to.is_none()).filter_map(|route| route.via).collect();
    let mut wanted = plan.gateways();
    gateways.sort_unstable();
    wanted.sort_unstable();
    let odd = found.iter().any(|route| route.to.is_some() && route.via.is_some());
    (gateways != wanted || odd).then(|| "its routes were changed".to_owned())
}

/// How many sockets there are in this network. One that was closed counts for some milliseconds more.
///
/// Not asked of `/proc/net/tcp` and its like: for these the kernel goes through all connections of the machine.
pub(crate) fn sockets(path: &Path) -> Result<u32, SetupError> {
    within(path, || {
        let text = fs::read_to_string("/proc/thread-self/net/sockstat").unwrap_or_default();
        let used = text.lines().find_map(|line| line.strip_prefix("sockets: used "));
        used.and_then(|used| used.trim().parse().ok()).unwrap_or(0)
    })
}
