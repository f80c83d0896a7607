//! Connections: unix sockets at any depth, and a few kept open between requests.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::error::ClientError;

/// Longest path in a `sockaddr_un`, bytes: 108 with its NUL.
const SOCKET_PATH_MAX: usize = 107;
/// `O_PATH` is this on every architecture that Hostler is built for; it needs no read permission on the directory.
const O_PATH: i32 = 0o10_000_000;
/// Connections kept open between requests.
const IDLE_CONNECTIONS_MAX: usize = 64;

pub(super) type Sender = SendRequest<Full<Bytes>>;

/// Connects to a socket, however deep it lies.
pub(super) async fn connect_stream(socket: &Path) -> Result<UnixStream, ClientError> {
    connect_any_depth(socket).await.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ClientError::NotRunning { socket: socket.to_owned() }
        }
        // It died before it took the connection.
        io::ErrorKind::ConnectionReset => ClientError::Disconnected(source.to_string()),
        io::ErrorKind::PermissionDenied => ClientError::Permission { socket: socket.to_owned() },
        _ => ClientError::Io { doing: format!("connecting to {}", socket.display()), source },
    })
}

async fn connect_any_depth(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().as_bytes().len() <= SOCKET_PATH_MAX {
        return UnixStream::connect(socket).await;
    }
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = OpenOptions::new().read(true).custom_flags(O_PATH).open(directory)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    // A unix connect never leaves the kernel half-way: the descriptor is still open when the path is resolved.
    UnixStream::connect(short).await
}

/// A new connection; its driver runs as a task until the connection is closed.
pub(super) async fn open(socket: &Path) -> Result<Sender, ClientError> {
    let stream = connect_stream(socket).await?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| ClientError::Disconnected(error.to_string()))?;
    // Its failure is seen by the request that uses it.
    tokio::spawn(async move { connection.with_upgrades().await.ok() });
    Ok(sender)
}

/// Connections that wait for their next request.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<Sender>>);

impl Idle {
    /// One that is ready for a request; those that the node has closed meanwhile are dropped.
    pub(super) async fn take(&self) -> Option<Sender> {
        loop {
            let mut sender = self.pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn pop(&self) -> Option<Sender> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
    }

    pub(super) fn put(&self, sender: Sender) {
        let mut idle = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS_MAX && !sender.is_closed() {
            idle.push(sender);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
    }

    /// A directory of its own under the temporary one, removed at the end.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hostler-api-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("create");
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn a_socket_at_any_depth_is_reached() {
        let scratch = Scratch::new("deep");
        for depth in [0, 1, 12] {
            let directory = (0..depth).fold(scratch.0.clone(), |path, _| path.join("a-rather-long-name"));
            std::fs::create_dir_all(&directory).expect("create");
            let handle = std::fs::File::open(&directory).expect("open");
            let short = format!("/proc/self/fd/{}/hostler.sock", handle.as_raw_fd());
            let _listener = std::os::unix::net::UnixListener::bind(short).expect("bind");
            let socket = directory.join("hostler.sock");
            block_on(connect_stream(&socket)).unwrap_or_else(|error| panic!("depth {depth}: {error}"));
        }
    }

    #[test]
    fn nobody_there_is_not_running() {
        let scratch = Scratch::new("nobody");
        let absent = scratch.0.join("absent.sock");
        let deep = scratch.0.join("x".repeat(120)).join("absent.sock");
        let dead = scratch.0.join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).expect("bind"));
        for socket in [absent, deep, dead] {
            let error = block_on(connect_stream(&socket)).expect_err("nobody listens");
            assert!(matches!(error, ClientError::NotRunning { .. }), "{error:?}");
            assert!(error.is_disconnect());
        }
    }
}
