//! Sockets to the kernel's network configuration. What travels on them is for others to say.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

/// Most that one answer has, bytes: the kernel sends dumps in parts of at most 32 KiB.
const ANSWER_MAX: usize = 64 * 1024;

/// Parts of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses and routes.
    Route,
    /// Filters, and connections that are remembered.
    Netfilter,
}

/// A connection to the configuration of the network that the thread was in when it was made.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one for links, addresses and routes; no answer is waited for longer than this.
    pub fn open(longest_wait: Duration) -> io::Result<Self> {
        Self::open_on(Family::Route, longest_wait)
    }

    /// The same for any part of the configuration.
    pub fn open_on(family: Family, longest_wait: Duration) -> io::Result<Self> {
        let protocol = match family {
            // Protocol 0.
            Family::Route => None,
            Family::Netfilter => Some(rustix::net::netlink::NETFILTER),
        };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(fd.as_fd(), Timeout::Recv, Some(longest_wait))?;
        // Says more than a number of what is wrong; older kernels do not know how.
        let _ = say_more(fd.as_fd());
        Ok(Self { fd, buffer: vec![0; ANSWER_MAX] })
    }

    /// Sends requests, one or several in one piece.
    pub fn send(&self, requests: &[u8]) -> io::Result<()> {
        let sent = send(&self.fd, requests, SendFlags::empty())?;
        if sent == requests.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next piece of answers.
    pub fn receive(&mut self) -> io::Result<&[u8]> {
        let received = rustix::io::retry_on_intr(|| recv(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC));
        let (_, length) = received.map_err(|error| match error {
            rustix::io::Errno::AGAIN => io::Error::from(io::ErrorKind::TimedOut),
            error => error.into(),
        })?;
        self.buffer.get(..length).ok_or_else(|| io::Error::other("an answer of the kernel is too long"))
    }
}

fn say_more(fd: impl AsFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        // SAFETY: the value is valid for its size.
        let set = unsafe {
            libc::setsockopt(fd.as_fd().as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), size)
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
