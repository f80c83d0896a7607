//! Unix sockets. A socket's address holds 107 bytes of path; deeper ones are reached through their directory's
//! descriptor, `/proc/self/fd/N/name`.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

/// Longest path that fits into an address, bytes, its NUL not counted.
const ADDRESS_MAX: usize = 107;

/// Who is at the other end, as the kernel saw him when he connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// His process.
    pub pid: u32,
    /// His user.
    pub uid: u32,
    /// His primary group.
    pub gid: u32,
}

/// A path short enough for an address, and what must stay open while it is used.
fn reachable(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= ADDRESS_MAX {
        return Ok((path.to_path_buf(), None));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let directory = File::open(parent)?;
    Ok((Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name), Some(directory)))
}

/// Connects to a socket at any depth.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (short, _directory) = reachable(path)?;
    UnixStream::connect(short)
}

/// Listens at any depth, readable and writable for the owner only. The name must be free.
///
/// Changes the umask for a moment: for programs that make no files in other threads meanwhile.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let (short, _directory) = reachable(path)?;
    let umask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(short);
    rustix::process::umask(umask);
    listener
}

/// Who is at the other end.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let found = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Peer {
        pid: u32::try_from(found.pid.as_raw_nonzero().get()).unwrap_or(0),
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
    })
}

/// Ends a connection for both sides. What is no socket is left alone.
pub fn shut_down(socket: impl AsFd) {
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// Whether this descriptor is a unix stream socket.
#[must_use]
pub fn is_unix_stream(socket: impl AsFd) -> bool {
    rustix::net::sockopt::socket_type(&socket).is_ok_and(|kind| kind == rustix::net::SocketType::STREAM)
        && rustix::net::sockopt::socket_domain(&socket).is_ok_and(|domain| domain == rustix::net::AddressFamily::UNIX)
}

/// Keeps a port of this machine from others: nothing is received on it.
pub fn reserve_port(address: std::net::SocketAddr, kind: PortKind) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match kind {
        PortKind::Tcp => SocketType::STREAM,
        PortKind::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// Which ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the protocols' own")]
pub enum PortKind {
    Tcp,
    Udp,
}

/// A connected pair of sockets that keep messages apart, both closed at exec.
pub(crate) fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A descriptor that the other side of a stream socket sends along with its bytes, if it has come.
pub fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    use std::mem::MaybeUninit;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // What comes with it is a name that nobody needs.
    let mut name = [0; 4096];
    let mut buffers = [io::IoSliceMut::new(&mut name)];
    recvmsg(socket, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    descriptors.flatten().next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no descriptor came"))
}

/// Sends these bytes, at least one, and a descriptor along with them; how many bytes were taken. The descriptor goes
/// with the first of them.
pub fn send_descriptor(socket: impl AsFd, bytes: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    use std::mem::MaybeUninit;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if bytes.is_empty() || !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// A hold on the socket of this name in a directory that somebody else may write to: no symbolic link is followed, and
/// anything but a socket is refused. Connect to `/proc/self/fd/N` while the hold is kept; that also works at any depth.
pub fn hold_socket(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    if name.is_empty() || name.contains('/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let within = rustix::fs::open(directory, flags | OFlags::DIRECTORY, Mode::empty())?;
    let held = rustix::fs::openat(within, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) {
        FileType::Socket => Ok(held),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "is not a socket")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_descriptor_goes_over() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(send_descriptor(&ours, b"{}", file.as_fd()).unwrap(), 2);
        let mut got = File::from(receive_descriptor(&theirs).unwrap());
        got.write_all(b"through the other one").unwrap();
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the other one");
        assert!(send_descriptor(&ours, b"", file.as_fd()).is_err(), "nothing to send it with");
        drop(theirs);
        assert!(send_descriptor(&ours, b"{}", file.as_fd()).is_err(), "and no signal");
    }

    #[test]
    fn sockets_are_held_without_following_links() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d".repeat(120));
        std::fs::create_dir(&directory).unwrap();
        let _listener = listen(&directory.join("s.sock")).unwrap();
        let held = hold_socket(&directory, "s.sock").unwrap();
        UnixStream::connect(format!("/proc/self/fd/{}", held.as_raw_fd())).unwrap();
        std::os::unix::fs::symlink("s.sock", directory.join("link.sock")).unwrap();
        std::fs::write(directory.join("file.sock"), "").unwrap();
        for (name, kind) in [
            ("link.sock", io::ErrorKind::InvalidData),
            ("file.sock", io::ErrorKind::InvalidData),
            ("none.sock", io::ErrorKind::NotFound),
            ("../s.sock", io::ErrorKind::InvalidInput),
            ("", io::ErrorKind::InvalidInput),
        ] {
            assert_eq!(hold_socket(&directory, name).unwrap_err().kind(), kind, "{name}");
        }
    }

    #[test]
    fn sockets_at_any_depth() {
        let root = tempfile::tempdir().unwrap();
        for depth in [0, 3] {
            let directory = (0..depth).fold(root.path().to_path_buf(), |path, _| path.join("d".repeat(100)));
            std::fs::create_dir_all(&directory).unwrap();
            let path = directory.join("s.sock");
            let listener = listen(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let mut client = connect(&path).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            assert_eq!(peer(&server).unwrap().pid, std::process::id());
            assert!(is_unix_stream(&server) && !is_unix_stream(File::open("/dev/null").unwrap()));
            client.write_all(b"x").unwrap();
            server.read_exact(&mut [0]).unwrap();
        }
    }
}
