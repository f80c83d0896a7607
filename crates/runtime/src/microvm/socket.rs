//! Waiting for the socket of a VMM that was just spawned, and connecting to it.
//!
//! The directory may belong to the VMM's own user, who may be up to no good by now: a symbolic link in place of the socket
//! is not followed, since at its other end somebody might listen who trusts us.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use hostler_linux::inotify::Inotify;
use hostler_linux::net;
use hostler_model::limits;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use super::VmmError;

/// Connects to one that was just spawned, as soon as it listens.
pub(super) async fn connect(directory: &Path, name: &str, longest: Duration) -> Result<UnixStream, VmmError> {
    match tokio::time::timeout(longest, wait(directory, name)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(VmmError::io(format!("connect to {name}"), source)),
        Err(_) => Err(VmmError::NoSocket { name: name.to_owned(), longest }),
    }
}

/// Connects to one that listened before: where nobody does now, it is gone.
pub(super) async fn connect_again(directory: &Path, name: &str, longest: Duration) -> Result<UnixStream, VmmError> {
    let trying = async {
        loop {
            match try_connect(directory, name).await {
                // Its queue is full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tried => return tried,
            }
        }
    };
    match tokio::time::timeout(longest, trying).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Err(VmmError::Gone { name: name.to_owned() })
        }
        Ok(Err(source)) => Err(VmmError::io(format!("connect to {name}"), source)),
        Err(_) => Err(VmmError::NoSocket { name: name.to_owned(), longest }),
    }
}

async fn wait(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let mut changes: Option<AsyncFd<Inotify>> = None;
    let mut pause = Duration::from_millis(1);
    loop {
        match try_connect(directory, name).await {
            Ok(stream) => return Ok(stream),
            // Watch first and look again: it may have come in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound && changes.is_none() => {
                changes = watch(directory);
                if changes.is_some() {
                    continue;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(changes) = &changes {
                    changed(changes).await?;
                    continue;
                }
            }
            // Bound but not listening yet, or its queue is full: nothing tells when that ends.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(limits::VMM_SOCKET_WAIT_MAX_MS));
    }
}

async fn try_connect(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let held = net::hold_socket(directory, name)?;
    UnixStream::connect(format!("/proc/self/fd/{}", held.as_raw_fd())).await
}

/// `None` where the user has no instance left, or the directory is not there yet: then it is looked for again and again.
fn watch(directory: &Path) -> Option<AsyncFd<Inotify>> {
    let inotify = Inotify::new().ok()?;
    inotify.add_watch(directory).ok()?;
    #[expect(deprecated, reason = "its successor is `unsafe`, for types that may change their descriptor; ours cannot")]
    let watched = AsyncFd::with_interest(inotify, Interest::READABLE);
    watched.ok()
}

/// Something happened in the directory.
async fn changed(changes: &AsyncFd<Inotify>) -> io::Result<()> {
    loop {
        let mut ready = changes.readable().await?;
        match ready.try_io(|inotify| inotify.get_ref().read()) {
            Ok(events) => return events.map(|_| ()),
            Err(_) => continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn it_is_waited_for_at_any_depth() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(100));
        for directory in [root.path(), &deep] {
            std::fs::create_dir_all(directory).unwrap();
            let connecting = connect(directory, "api.sock", LONG);
            let binding = async {
                tokio::task::yield_now().await;
                let handle = std::fs::File::open(directory).unwrap();
                UnixListener::bind(format!("/proc/self/fd/{}/api.sock", handle.as_raw_fd())).unwrap()
            };
            let (stream, _listener) = tokio::join!(connecting, binding);
            stream.unwrap();
        }
    }

    #[tokio::test]
    async fn it_is_not_waited_for_forever() {
        let root = tempfile::tempdir().unwrap();
        let short = Duration::from_millis(60);
        let began = Instant::now();
        let error = connect(root.path(), "api.sock", short).await.unwrap_err();
        assert!(matches!(error, VmmError::NoSocket { .. }), "{error}");
        let nowhere = root.path().join("none");
        assert!(connect(&nowhere, "api.sock", short).await.is_err());
        // Bound, and its listener is gone: nobody will answer.
        drop(UnixListener::bind(root.path().join("dead.sock")).unwrap());
        assert!(connect(root.path(), "dead.sock", short).await.is_err());
        for name in ["dead.sock", "none.sock"] {
            let error = connect_again(root.path(), name, LONG).await.unwrap_err();
            assert!(matches!(error, VmmError::Gone { .. }), "{error}");
        }
        assert!(began.elapsed() < LONG);
    }

    #[tokio::test]
    async fn a_link_in_its_place_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let _somebody = UnixListener::bind(root.path().join("trusting.sock")).unwrap();
        std::os::unix::fs::symlink("trusting.sock", root.path().join("api.sock")).unwrap();
        let error = connect(root.path(), "api.sock", LONG).await.unwrap_err();
        assert!(matches!(error, VmmError::Io { .. }), "{error}");
    }
}
