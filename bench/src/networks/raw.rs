//! The same set-up by hand: a network namespace kept by a file, a pair of links, an address, a route, a bridge, in the same
//! messages to the kernel and nothing around them.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_linux::netlink::Socket;
use hostler_linux::netns;

const REQUEST: u16 = 0x1 | 0x4;
const NEW: u16 = REQUEST | 0x200 | 0x400;
const NEWLINK: u16 = 16;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const UP: u32 = 1;
const INDEX: u32 = 100;

/// A message that is being written.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, sequence: u32) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        Self(bytes)
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn link(self, index: u32, flags: u32) -> Self {
        self.put(&[0; 4]).put(&index.to_ne_bytes()).put(&flags.to_ne_bytes()).put(&flags.to_ne_bytes())
    }

    fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        let mut message = self.put(&length.to_ne_bytes()).put(&kind.to_ne_bytes()).put(value);
        message.0.resize(message.0.len().next_multiple_of(4), 0);
        message
    }

    fn nested(self, kind: u16, inner: impl FnOnce(Message) -> Message) -> Self {
        let inner = inner(Message(Vec::new()));
        self.attribute(kind, &inner.0)
    }

    fn name(self, name: &str) -> Self {
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        self.attribute(3, &text)
    }

    fn done(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn ask(messages: &[Vec<u8>]) -> io::Result<()> {
    let mut socket = Socket::open(Duration::from_secs(5))?;
    socket.send(&messages.concat())?;
    let mut answers = 0;
    while answers < messages.len() {
        let mut rest = socket.receive()?;
        while rest.len() >= 20 {
            let number = |at: usize| i32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
            let (length, code) = (number(0) as usize, number(16));
            if code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
            answers += 1;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    Ok(())
}

/// Where the number's network is kept.
pub fn path(number: u32) -> PathBuf {
    Path::new(netns::DIRECTORY).join(outer(number))
}

fn outer(number: u32) -> String {
    format!("bench{:x}r{number}", std::process::id() & 0xffff)
}

/// Makes one.
pub fn make(number: u32, bridge: u32) -> anyhow::Result<()> {
    let machine = netns::own()?;
    let outer = outer(number);
    let ip = (0x0a4d_0000_u32 + 2 + number).to_be_bytes();
    netns::create(&path(number), || -> io::Result<()> {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
        let mtu = 1_500_u32.to_ne_bytes();
        let [a, b, c, d] = ip;
        let pair = Message::new(NEWLINK, NEW, 1).link(INDEX, UP).name("eth0").attribute(4, &mtu);
        let pair = pair.attribute(1, &[2, 0, a, b, c, d]).nested(18, |info| {
            info.attribute(1, b"veth").nested(2, |data| {
                data.nested(1, |peer| {
                    let peer = peer.link(0, 0).name(&outer).attribute(4, &mtu);
                    peer.attribute(28, &machine.as_raw_fd().to_ne_bytes())
                })
            })
        });
        let lo = Message::new(SETLINK, REQUEST, 2).link(0, UP).name("lo");
        let address = Message::new(NEWADDR, NEW, 3).put(&[2, 16, 0, 0]).put(&INDEX.to_ne_bytes());
        let address = address.attribute(2, &ip).attribute(1, &ip).attribute(4, &[a, b, 255, 255]);
        let route = Message::new(NEWROUTE, NEW, 4).put(&[2, 0, 0, 0, 254, 4, 0, 1]).put(&[0; 4]);
        let route = route.attribute(5, &[a, b, 0, 1]);
        ask(&[pair.done(), lo.done(), address.done(), route.done()])
    })??;
    let join = Message::new(SETLINK, REQUEST, 1).link(0, UP).name(&outer).attribute(10, &bridge.to_ne_bytes());
    Ok(ask(&[join.done()])?)
}
