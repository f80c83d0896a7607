//! Links, addresses and routes, asked of the kernel: what is needed of them here, and nothing else.
//!
//! Several requests travel in one piece and are carried out one after another; each is answered.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;
use std::time::Duration;

use hostler_linux::netlink::Socket;
use hostler_model::limits;
use hostler_model::network::{Subnet4, Subnet6};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use thiserror::Error;

/// What the kernel did not do.
#[derive(Debug, Error)]
#[error("cannot {doing}: {said}")]
pub(crate) struct NetlinkError {
    pub(crate) doing: String,
    pub(crate) said: String,
    /// The system's number for it; 0 when it has none.
    pub(crate) errno: i32,
}

impl NetlinkError {
    fn new(doing: &str, error: &io::Error) -> Self {
        Self { doing: doing.to_owned(), said: error.to_string(), errno: error.raw_os_error().unwrap_or(0) }
    }

    /// It was not there.
    pub(crate) fn is_missing(&self) -> bool {
        const ENODEV: i32 = 19;
        self.errno == ENODEV
    }
}

/// It was there a moment ago.
pub(crate) fn gone(name: &str) -> NetlinkError {
    NetlinkError { doing: format!("find {name}"), said: "it is gone".to_owned(), errno: 0 }
}

pub(crate) type Result<T> = std::result::Result<T, NetlinkError>;

/// One request, and what it is for.
pub(crate) struct Request {
    doing: String,
    message: RouteNetlinkMessage,
    flags: u16,
}

fn request(doing: impl Into<String>, message: RouteNetlinkMessage, flags: u16) -> Request {
    Request { doing: doing.into(), message, flags: NLM_F_REQUEST | NLM_F_ACK | flags }
}

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// An address with the length of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefixed {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

impl Prefixed {
    /// Whether both ranges have an address in common.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let length = self.length.min(other.length);
        match (self.address, other.address) {
            (IpAddr::V4(one), IpAddr::V4(two)) => Subnet4::around(one, length) == Subnet4::around(two, length),
            (IpAddr::V6(one), IpAddr::V6(two)) => Subnet6::around(one, length) == Subnet6::around(two, length),
            _ => false,
        }
    }
}

impl std::fmt::Display for Prefixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// What is said of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) mac: Vec<u8>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// The bridge it belongs to, by its index.
    pub(crate) bridge: Option<u32>,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// `None` for a default route.
    pub(crate) to: Option<Prefixed>,
    pub(crate) via: Option<IpAddr>,
    pub(crate) link: Option<u32>,
}

/// A connection to the kernel.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// To the network of this thread.
    pub(crate) fn open() -> Result<Self> {
        let socket = Socket::open(Duration::from_millis(limits::NETLINK_MAX_MS));
        let socket = socket.map_err(|error| NetlinkError::new("open a netlink socket", &error))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Has all of them done, in order; the first failure is told, after all were tried.
    pub(crate) fn all(&mut self, requests: Vec<Request>) -> Result<()> {
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        for request in &requests {
            self.sequence += 1;
            write(&mut bytes, request.message.clone(), request.flags, self.sequence);
        }
        let doing = requests.first().map(|request| request.doing.clone()).unwrap_or_default();
        let failed = |error: io::Error| NetlinkError::new(&doing, &error);
        self.socket.send(&bytes).map_err(failed)?;
        let mut answered = 0;
        let mut outcome = Ok(());
        while answered < requests.len() {
            let piece = self.socket.receive().map_err(failed)?;
            for message in messages(piece) {
                let message = message.map_err(failed)?;
                let at = message.header.sequence_number.wrapping_sub(first) as usize;
                let (NetlinkPayload::Error(answer), Some(request)) = (message.payload, requests.get(at)) else {
                    continue;
                };
                answered += 1;
                if answer.code.is_some() && outcome.is_ok() {
                    outcome = Err(NetlinkError::new(&request.doing, &answer.to_io()));
                }
            }
        }
        outcome
    }

    pub(crate) fn one(&mut self, request: Request) -> Result<()> {
        self.all(vec![request])
    }

    /// Asks, and looks at each answer until one says what came of it.
    fn ask<T>(
        &mut self,
        doing: &str,
        question: RouteNetlinkMessage,
        flags: u16,
        mut outcome: impl FnMut(NetlinkPayload<RouteNetlinkMessage>) -> Option<Result<T>>,
    ) -> Result<T> {
        self.sequence += 1;
        let mut bytes = Vec::new();
        write(&mut bytes, question, flags, self.sequence);
        let failed = |error: io::Error| NetlinkError::new(doing, &error);
        self.socket.send(&bytes).map_err(failed)?;
        loop {
            let piece = self.socket.receive().map_err(failed)?;
            for message in messages(piece) {
                let message = message.map_err(failed)?;
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                if let Some(outcome) = outcome(message.payload) {
                    return outcome;
                }
            }
        }
    }

    fn dump(
        &mut self,
        doing: &str,
        question: RouteNetlinkMessage,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> Result<()> {
        self.ask(doing, question, NLM_F_REQUEST | NLM_F_DUMP, |payload| match payload {
            NetlinkPayload::InnerMessage(inner) => {
                each(inner);
                None
            }
            NetlinkPayload::Done(_) => Some(Ok(())),
            NetlinkPayload::Error(answer) if answer.code.is_some() => {
                Some(Err(NetlinkError::new(doing, &answer.to_io())))
            }
            _ => None,
        })
    }

    /// All links.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>> {
        let mut found = Vec::new();
        self.dump("list links", RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
            if let RouteNetlinkMessage::NewLink(message) = message {
                found.push(link_of(&message));
            }
        })?;
        Ok(found)
    }

    /// The link of this name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let doing = format!("look at link {name}");
        self.ask(&doing, RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST, |payload| match payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(found)) => Some(Ok(Some(link_of(&found)))),
            NetlinkPayload::Error(answer) => {
                let error = NetlinkError::new(&doing, &answer.to_io());
                Some(if error.is_missing() { Ok(None) } else { Err(error) })
            }
            _ => None,
        })
    }

    /// Whether the kernel knows this kind of link: it is asked for one that cannot be, and says why not.
    pub(crate) fn can_make(&mut self, kind: &str) -> Result<()> {
        const EOPNOTSUPP: i32 = 95;
        let mut message = named("lo");
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other(kind.to_owned()))]));
        match self.one(request(format!("make a {kind}"), RouteNetlinkMessage::NewLink(message), NEW)) {
            Err(error) if error.errno == EOPNOTSUPP => Err(error),
            _ => Ok(()),
        }
    }

    /// All addresses, each with the index of its link.
    pub(crate) fn addresses(&mut self) -> Result<Vec<(u32, Prefixed)>> {
        let mut found = Vec::new();
        self.dump("list addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
            let RouteNetlinkMessage::NewAddress(message) = message else { return };
            let of = |attribute: &AddressAttribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            };
            let or = |attribute: &AddressAttribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            };
            let local = message.attributes.iter().find_map(of);
            if let Some(address) = local.or_else(|| message.attributes.iter().find_map(or)) {
                found.push((message.header.index, Prefixed { address, length: message.header.prefix_len }));
            }
        })?;
        Ok(found)
    }

    /// All routes of the main table.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            self.dump("list routes", RouteNetlinkMessage::GetRoute(question), |message| {
                if let RouteNetlinkMessage::NewRoute(message) = message
                    && message.header.table == RouteHeader::RT_TABLE_MAIN
                    && message.header.kind == RouteType::Unicast
                {
                    found.push(route_of(&message));
                }
            })?;
        }
        Ok(found)
    }
}

fn write(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut packet = NetlinkMessage::from(message);
    packet.header.flags = flags;
    packet.header.sequence_number = sequence;
    packet.finalize();
    let at = bytes.len();
    // Each begins at a multiple of four.
    bytes.resize(at + packet.buffer_len().next_multiple_of(4), 0);
    packet.serialize(&mut bytes[at..]);
}

/// The messages of one piece.
fn messages(piece: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> + '_ {
    let mut rest = piece;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let whole = rest.get(..length).filter(|whole| whole.len() >= 16)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkMessage::deserialize(whole).map_err(|error| io::Error::other(format!("{error}"))))
    })
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: Vec::new(),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        bridge: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.bridge = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

fn route_of(message: &RouteMessage) -> Route {
    let plain = |address: &RouteAddress| match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    };
    let mut route = Route { to: None, via: None, link: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => {
                let length = message.header.destination_prefix_length;
                route.to = plain(to).map(|address| Prefixed { address, length });
            }
            RouteAttribute::Gateway(via) => route.via = plain(via),
            RouteAttribute::Oif(index) => route.link = Some(*index),
            _ => {}
        }
    }
    route
}

fn up(message: &mut LinkMessage) {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// A bridge with this address, not up yet.
pub(crate) fn new_bridge(name: &str, mac: Option<[u8; 6]>, mtu: u32) -> Request {
    let mut message = named(name);
    message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    request(format!("make the bridge {name}"), RouteNetlinkMessage::NewLink(message), NEW)
}

/// One end of a pair.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Option<[u8; 6]>,
    /// Its number; any when absent.
    pub(crate) index: Option<u32>,
}

/// A pair of links: one here, up; the other in the network that is held by this number, not up yet, for the kernel
/// cannot have that of the second end of a pair.
pub(crate) fn new_pair(here: &End<'_>, there: &End<'_>, network: RawFd, mtu: u32) -> Request {
    let end = |end: &End<'_>| {
        let mut message = named(end.name);
        message.header.index = end.index.unwrap_or(0);
        message.attributes.push(LinkAttribute::Mtu(mtu));
        message.attributes.extend(end.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        message
    };
    let mut peer = end(there);
    peer.attributes.push(LinkAttribute::NetNsFd(network));
    let mut message = end(here);
    up(&mut message);
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)]));
    let doing = format!("make the pair of links {} and {}", here.name, there.name);
    request(doing, RouteNetlinkMessage::NewLink(message), NEW)
}

/// A link by its name comes up.
pub(crate) fn raise(name: &str) -> Request {
    let mut message = named(name);
    up(&mut message);
    request(format!("bring up {name}"), RouteNetlinkMessage::SetLink(message), 0)
}

/// A link becomes part of a bridge, and comes up.
pub(crate) fn join(name: &str, bridge: u32) -> Request {
    let mut message = named(name);
    up(&mut message);
    message.attributes.push(LinkAttribute::Controller(bridge));
    request(format!("put {name} into its bridge"), RouteNetlinkMessage::SetLink(message), 0)
}

/// What comes from a link of a bridge may go back to it: of one who asks for a port of his own at the machine.
pub(crate) fn send_back(name: &str) -> Request {
    port(format!("let {name} reach itself"), name, InfoBridgePort::HairpinMode(true))
}

/// Who is behind a link of a bridge is not remembered: what is for somebody else goes to all others.
pub(crate) fn learn_nothing(name: &str) -> Request {
    port(format!("have nothing remembered of {name}"), name, InfoBridgePort::Learning(false))
}

fn port(doing: String, name: &str, setting: InfoBridgePort) -> Request {
    let mut message = named(name);
    let data = InfoPortData::BridgePort(vec![setting]);
    let infos = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(data)];
    message.attributes.push(LinkAttribute::LinkInfo(infos));
    // The other message, for what it changes, does not look at this part.
    request(doing, RouteNetlinkMessage::NewLink(message), 0)
}

/// A link goes, and its other end with it.
pub(crate) fn remove(name: &str) -> Request {
    request(format!("remove the link {name}"), RouteNetlinkMessage::DelLink(named(name)), 0)
}

/// A link has this hardware address from now on.
pub(crate) fn set_mac(name: &str, mac: [u8; 6]) -> Request {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Address(mac.to_vec()));
    request(format!("change the hardware address of {name}"), RouteNetlinkMessage::SetLink(message), 0)
}

/// A link carries packets of this size from now on, bytes.
pub(crate) fn set_mtu(name: &str, mtu: u32) -> Request {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Mtu(mtu));
    request(format!("change the largest packet of {name}"), RouteNetlinkMessage::SetLink(message), 0)
}

/// A link has this address no more; with its last one go its routes.
pub(crate) fn remove_address(link: u32, prefixed: Prefixed) -> Request {
    let mut message = AddressMessage::default();
    message.header.index = link;
    message.header.prefix_len = prefixed.length;
    message.header.family = if prefixed.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.attributes.push(AddressAttribute::Local(prefixed.address));
    let doing = format!("take away the address {prefixed}");
    request(doing, RouteNetlinkMessage::DelAddress(message), 0)
}

/// An address for a link. One of IPv6 is used at once: nobody else can have it.
pub(crate) fn address(link: u32, prefixed: Prefixed) -> Request {
    let mut message = AddressMessage::default();
    message.header.index = link;
    message.header.prefix_len = prefixed.length;
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Local(prefixed.address));
    message.attributes.push(AddressAttribute::Address(prefixed.address));
    match prefixed.address {
        IpAddr::V4(address) => {
            message.header.family = AddressFamily::Inet;
            let hosts = u32::MAX.checked_shr(prefixed.length.into()).unwrap_or(0);
            message.attributes.push(AddressAttribute::Broadcast(Ipv4Addr::from_bits(address.to_bits() | hosts)));
        }
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    let doing = format!("give out the address {}/{}", prefixed.address, prefixed.length);
    request(doing, RouteNetlinkMessage::NewAddress(message), NEW)
}

/// Everything that is not near goes there.
pub(crate) fn default_route(gateway: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.header.address_family = if gateway.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    request(format!("set the default route to {gateway}"), RouteNetlinkMessage::NewRoute(message), NEW)
}

/// A hardware address of our own making, for this number.
pub(crate) fn mac_of(prefix: [u8; 2], number: [u8; 4]) -> [u8; 6] {
    // Locally administered, one machine only.
    [(prefix[0] & 0xfc) | 0x02, prefix[1], number[0], number[1], number[2], number[3]]
}

/// As people write it.
pub(crate) fn mac_text(mac: &[u8]) -> String {
    let parts: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

/// The address of a range's first, for IPv6 link-local ones: made by the kernel, and nobody's lease.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => {
            address.segments()[0] & 0xffc0 == Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).segments()[0]
        }
    }
}
