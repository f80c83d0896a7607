//! What the kernel remembers of connections. A published port that is gone lives on in it for whoever has talked to it before: he
//! would go on to talk to the address, whoever has it then. And who has sent datagrams to a port before it was published would
//! never reach it.
//!
//! Asked for by the messages of `NETLINK_NETFILTER`; what is looked at of an entry is who talks to whom.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hostler_linux::netlink::{Family, Socket};
use hostler_model::limits;

const NEW: u16 = 0x100;
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// Bits of an attribute's type that do not tell what it is.
const FLAGS: u16 = 0xc000;
const NESTED: u16 = 0x8000;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ZONE: u16 = 18;
/// Of the two headers of each message, bytes.
const HEADERS: usize = 20;
const UDP: u8 = 17;

/// One side of a connection, as the kernel expects its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Way {
    pub(crate) from: Option<IpAddr>,
    pub(crate) to: Option<IpAddr>,
    pub(crate) protocol: u8,
    pub(crate) to_port: u16,
}

/// A connection that the kernel remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) original: Way,
    pub(crate) reply: Way,
    /// By which it is named, as the kernel told it.
    name: Vec<u8>,
}

impl Entry {
    /// Whether one of its ends is this address.
    pub(crate) fn is_of(&self, address: IpAddr) -> bool {
        [self.original.from, self.reply.from].contains(&Some(address))
    }

    /// Datagrams to this port of the machine, which lead nowhere else.
    pub(crate) fn is_unled(&self, port: u16) -> bool {
        let Way { to, protocol, to_port, .. } = self.original;
        protocol == UDP && to_port == port && to == self.reply.from
    }
}

/// Attributes, one after another; what is not whole ends them.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & !FLAGS;
        let whole = rest.get(..length).filter(|whole| whole.len() >= 4)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, &whole[4..], whole))
    })
}

fn inner(bytes: &[u8], wanted: u16) -> &[u8] {
    attributes(bytes).find(|(kind, ..)| *kind == wanted).map_or(&[], |(_, value, _)| value)
}

fn way(tuple: &[u8]) -> Way {
    let (ip, protocol) = (inner(tuple, 1), inner(tuple, 2));
    let address = |four: u16, six: u16| {
        let four = <[u8; 4]>::try_from(inner(ip, four)).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
        let six = || <[u8; 16]>::try_from(inner(ip, six)).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
        four.or_else(|_| six()).ok()
    };
    Way {
        from: address(1, 3),
        to: address(2, 4),
        protocol: inner(protocol, 1).first().copied().unwrap_or(0),
        to_port: <[u8; 2]>::try_from(inner(protocol, 3)).map_or(0, u16::from_be_bytes),
    }
}

/// What a message of the kernel's tells.
fn entry(message: &[u8]) -> Option<Entry> {
    let body = message.get(HEADERS..)?;
    let mut name = Vec::new();
    for (kind, _, whole) in attributes(body) {
        if kind == ORIGINAL || kind == ZONE {
            name.extend_from_slice(whole);
            name.resize(name.len().next_multiple_of(4), 0);
        }
    }
    Some(Entry { original: way(inner(body, ORIGINAL)), reply: way(inner(body, REPLY)), name })
}

fn message(kind: u16, flags: u16, sequence: u32, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADERS + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(body);
    bytes
}

/// Splits a piece into its messages, each with its type.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
        let whole = rest.get(..length).filter(|whole| whole.len() >= 16)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, whole))
    })
}

fn code_of(message: &[u8]) -> i32 {
    message.get(16..20).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes)
}

/// Everything that is remembered of one family.
fn all(socket: &mut Socket, family: u8) -> io::Result<Vec<Entry>> {
    socket.send(&message(GET, REQUEST | DUMP, 1, family, &[]))?;
    let mut entries = Vec::new();
    loop {
        for (kind, message) in messages(socket.receive()?) {
            match kind {
                NEW => entries.extend(entry(message)),
                DONE => return Ok(entries),
                ERROR if code_of(message) != 0 => return Err(io::Error::from_raw_os_error(-code_of(message))),
                _ => {}
            }
        }
    }
}

/// Has the kernel forget these connections of the network that this thread is in. How many it forgot.
pub(crate) fn forget(which: impl Fn(&Entry) -> bool) -> io::Result<usize> {
    const ENOENT: i32 = -2;
    let mut socket = Socket::open_on(Family::Netfilter, Duration::from_millis(limits::NETLINK_MAX_MS))?;
    let mut forgotten = 0;
    for family in [2, 10] {
        let entries = all(&mut socket, family)?;
        for entry in entries.iter().filter(|entry| which(entry)) {
            let mut name = entry.name.clone();
            // Its first attribute has others within.
            if let Some(kind) = name.get(2..4).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()) {
                name[2..4].copy_from_slice(&(u16::from_ne_bytes(kind) | NESTED).to_ne_bytes());
            }
            socket.send(&message(DELETE, REQUEST | ACK, 2, family, &name))?;
            let answer =
                messages(socket.receive()?).find(|(kind, _)| *kind == ERROR).map(|(_, answer)| code_of(answer));
            match answer {
                Some(0) => forgotten += 1,
                // It went by itself.
                Some(ENOENT) | None => {}
                Some(code) => return Err(io::Error::from_raw_os_error(-code)),
            }
        }
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rubbish_is_no_entry(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (_, message) in messages(&bytes) {
                let _ = entry(message);
                let _ = code_of(message);
            }
            let _ = entry(&bytes);
        }
    }
}
