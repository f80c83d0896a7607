//! Making the sockets that a resolver listens at.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use super::message::Transport;

/// Connections that the kernel holds until we take them.
const BACKLOG: u32 = 64;
/// Between two attempts to listen at an address that is not usable yet.
const LISTEN_AGAIN: Duration = Duration::from_millis(20);
/// Attempts to find a port that is free for datagrams and for connections, where any will do.
const ANY_PORT_ATTEMPTS: usize = 16;
/// Datagrams thrown away that came before the socket was bound to its interface.
const STRAY_MAX: usize = 1_024;

/// Why a resolver does not listen.
#[derive(Debug, Error)]
pub(crate) enum DnsError {
    /// The address is not there, is somebody else's, or may not be used.
    #[error("the resolver cannot listen at {address} by {transport}{}", of_interface(interface.as_deref()))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// For what.
        transport: Transport,
        /// The only interface it would be asked from.
        interface: Option<String>,
        /// What the system said.
        source: io::Error,
    },
}

fn of_interface(interface: Option<&str>) -> String {
    interface.map(|interface| format!(" on {interface}")).unwrap_or_default()
}

/// Where it came to be, and both sockets there.
pub(super) type Sockets = (SocketAddr, UdpSocket, TcpListener);

/// Both sockets of an address, at the same port; within a runtime.
pub(super) fn open(address: SocketAddr, interface: Option<&str>, deadline: Instant) -> Result<Sockets, DnsError> {
    let went_wrong = |address, transport, source| DnsError::Listen {
        address,
        transport,
        interface: interface.map(str::to_owned),
        source,
    };
    let mut attempts = ANY_PORT_ATTEMPTS;
    loop {
        let datagrams = patient(deadline, || open_udp(address, interface))
            .map_err(|error| went_wrong(address, Transport::Udp, error))?;
        let bound = datagrams.local_addr().map_err(|error| went_wrong(address, Transport::Udp, error))?;
        match patient(deadline, || open_tcp(bound, interface)) {
            Ok(connections) => return Ok((bound, datagrams, connections)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() == 0 && attempts > 0 => {
                attempts -= 1;
            }
            Err(error) => return Err(went_wrong(bound, Transport::Tcp, error)),
        }
    }
}

/// A new IPv6 address cannot be used while the kernel looks whether somebody else has it.
fn patient<T>(deadline: Instant, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    loop {
        match open() {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && Instant::now() < deadline => {
                std::thread::sleep(LISTEN_AGAIN);
            }
            opened => return opened,
        }
    }
}

fn open_udp(address: SocketAddr, interface: Option<&str>) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let Some(interface) = interface else { return Ok(socket) };
    socket.bind_device(Some(interface.as_bytes()))?;
    // What came in between may have come from anywhere.
    let socket = socket.into_std()?;
    let mut byte = [0];
    for _ in 0..STRAY_MAX {
        if socket.recv_from(&mut byte).is_err() {
            break;
        }
    }
    UdpSocket::from_std(socket)
}

fn open_tcp(address: SocketAddr, interface: Option<&str>) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a resolver that was there before may still be ending.
    socket.set_reuseaddr(true)?;
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
