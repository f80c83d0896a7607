//! What is answered, by the pure parts and by real sockets on the loopback.

mod forwarding;
mod hostile;
mod machine;
mod pure;
mod serving;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;

use super::server::{Resolver, Settings};
use super::upstream::Asking;
use super::zone::{Client, Zone};

/// Nothing that is waited for takes this long, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(30);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn question_of(id: u16, name: &str, kind: QTYPE, datagram_bytes: Option<u16>) -> Vec<u8> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(simple_dns::Question::new(Name::new(name).expect("a name"), kind, CLASS::IN.into(), false));
    *packet.opt_mut() = datagram_bytes.map(|bytes| OPT { opt_codes: Vec::new(), udp_packet_size: bytes, version: 0 });
    packet.build_bytes_vec().expect("a packet")
}

fn asked(id: u16, name: &str) -> Vec<u8> {
    question_of(id, name, TYPE::A.into(), None)
}

/// An answer in short: its code, `tc` when truncated, and its data.
fn told(answer: &[u8]) -> String {
    let packet = Packet::parse(answer).expect("a well-formed answer");
    assert!(packet.has_flags(PacketFlag::RESPONSE));
    let mut told = match packet.rcode() {
        RCODE::NoError => String::new(),
        code => format!("{code:?}"),
    };
    if packet.has_flags(PacketFlag::TRUNCATION) {
        told.push_str("tc");
    }
    for answer in &packet.answers {
        let data = match &answer.rdata {
            RData::A(a) => Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(a) => std::net::Ipv6Addr::from(a.address).to_string(),
            RData::PTR(name) => name.to_string(),
            other => format!("{other:?}"),
        };
        told.push_str(if told.is_empty() { "" } else { " " });
        told.push_str(&data);
    }
    told
}

/// A network of `web` with three replicas, `db` with IPv6 too; everybody on the loopback is in it.
fn zone() -> Zone {
    let mut zone = Zone {
        subnet: Some("127.0.0.0/8".parse().expect("a range")),
        subnet6: Some("fd00:1::/64".parse().expect("a range")),
        ..Zone::default()
    };
    for (name, address) in [
        ("web", "127.1.0.1"),
        ("Web.", "127.1.0.2"),
        ("web", "127.1.0.3"),
        ("db", "127.1.0.4"),
        ("db", "fd00:1::4"),
        ("db.front", "127.1.0.4"),
        ("six", "fd00:1::6"),
    ] {
        zone.add_name(name, ip(address));
    }
    for (address, names) in [("127.1.0.4", vec!["db", "db.front"]), ("fd00:1::4", vec!["db"]), ("127.1.0.9", vec![])] {
        let names = names.into_iter().map(str::to_owned).collect();
        zone.set_client(ip(address), Client { names, dns: Vec::new() });
    }
    zone
}

fn settings(upstream_port: u16, wait_max: Duration) -> Settings {
    Settings {
        port: 0,
        asking: Asking { port: upstream_port, wait_max },
        idle_max: PATIENCE,
        machine: PathBuf::from("/nonexistent/resolv.conf"),
    }
}

fn started(zone: Zone, settings: Settings) -> (Resolver, SocketAddr) {
    let resolver =
        Resolver::start_with(&Handle::current(), &[LOCAL], None, zone, settings).expect("room on the loopback");
    let address = resolver.addresses()[0];
    (resolver, address)
}

async fn in_time<T>(waited: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, waited).await.expect("in time")
}

async fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((LOCAL, 0)).await.expect("a socket");
    socket.connect(server).await.expect("the loopback");
    socket
}

async fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let length = in_time(socket.recv(&mut buffer)).await.expect("an answer");
    buffer.truncate(length);
    buffer
}

async fn by_udp(server: SocketAddr, question: &[u8]) -> Vec<u8> {
    let socket = client(server).await;
    socket.send(question).await.expect("sent");
    received(&socket).await
}

async fn send_framed(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).expect("a length");
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await.expect("sent");
}

async fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let length = in_time(stream.read_u16()).await.expect("a length");
    let mut message = vec![0; usize::from(length)];
    in_time(stream.read_exact(&mut message)).await.expect("a message");
    message
}

async fn by_tcp(server: SocketAddr, question: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    send_framed(&mut stream, question).await;
    read_framed(&mut stream).await
}

/// A resolver's stand-in, that does what the test does.
struct StandIn {
    address: IpAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

impl StandIn {
    /// The next question, and who asks.
    async fn asked(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 65_535];
        let (length, from) = in_time(self.udp.recv_from(&mut buffer)).await.expect("a question");
        buffer.truncate(length);
        (buffer, from)
    }

    async fn answer(&self, answer: &[u8], to: SocketAddr) {
        self.udp.send_to(answer, to).await.expect("sent");
    }
}

/// So many, at addresses of their own and one port.
async fn stand_ins<const N: usize>() -> (u16, [StandIn; N]) {
    'port: loop {
        let mut port = 0;
        let mut found = Vec::new();
        for place in 0..N {
            let address = IpAddr::from([127, 0, 1, 1 + u8::try_from(place).expect("few")]);
            let Ok(udp) = UdpSocket::bind((address, port)).await else { continue 'port };
            port = udp.local_addr().expect("bound").port();
            let Ok(tcp) = TcpListener::bind((address, port)).await else { continue 'port };
            found.push(StandIn { address, udp, tcp });
        }
        if let Ok(found) = found.try_into() {
            return (port, found);
        }
    }
}

/// The answer of a stand-in: the question, with this code and these addresses.
fn answered(question: &[u8], code: RCODE, addresses: &[[u8; 4]]) -> Vec<u8> {
    let mut packet = Packet::parse(question).expect("a question").into_reply();
    *packet.rcode_mut() = code;
    let name = packet.questions[0].qname.clone();
    for address in addresses {
        let data = RData::A(Ipv4Addr::from(*address).into());
        packet.answers.push(simple_dns::ResourceRecord::new(name.clone(), CLASS::IN, 60, data));
    }
    packet.build_bytes_vec_compressed().expect("a packet")
}
