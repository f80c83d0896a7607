//! What the daemon needs of the system beside processes and groups.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Fresh random bytes from the kernel. Waits, at boot only, until the kernel has some.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel gives no random bytes: {error}"),
        }
    }
    bytes
}

/// Free bytes for us where `path` is.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(path)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Ends this process as `kill -9` does: nothing is cleaned up.
pub fn kill_self() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

/// Listens on a socket file that may lie deeper than the 107 bytes a socket address has room for.
pub fn listen_deep(socket: &Path) -> io::Result<UnixListener> {
    use std::os::fd::AsRawFd;
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a path of a socket"));
    };
    let directory = std::fs::File::open(directory)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    UnixListener::bind(short)
}

/// Raises the soft limit of open files to the hard one: each live run needs a few in the daemon.
pub fn raise_open_files() -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)?;
    Ok(())
}
