//! The terminal of a program in a container. The OCI runtime makes it inside, and sends our end of it over a socket.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use hostler_linux::epoll::Interest;
use hostler_linux::{net, streams};
use hostler_model::ByteString;
use hostler_model::spec::TtySize;
use hostler_model::workload::StartFailure;

use crate::child::{self, system_failure};
use crate::shared::{Shared, TokenKind, token};
use crate::streams::{Input, Output};
use crate::target::Target;

/// A socket that waits for a terminal.
pub(crate) struct Console {
    listener: UnixListener,
    path: PathBuf,
    /// The target's serial number, and the socket's.
    pub(crate) serial: u32,
    size: TtySize,
}

impl Console {
    /// Makes it for a target whose outputs will come by it.
    pub(crate) fn open(target: &mut Target, size: TtySize, shared: &Shared) -> Result<Self, StartFailure> {
        let failed = |error: &std::io::Error| system_failure("make a socket for the terminal", error);
        let path = shared.config.sandbox_dir.join(format!("console-{}", target.serial));
        let _ = std::fs::remove_file(&path);
        let listener = net::listen(&path).map_err(|error| failed(&error))?;
        listener.set_nonblocking(true).map_err(|error| failed(&error))?;
        let token = token(TokenKind::Console, target.serial);
        shared.epoll.add(&listener, token, Interest::Read).map_err(|error| failed(&error))?;
        target.outputs[0].expected = true;
        Ok(Self { listener, path, serial: target.serial, size })
    }

    /// How the OCI runtime reaches it: a socket's address is short, the way to our directory may be long.
    pub(crate) fn address(&self, shared: &Shared) -> ByteString {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("/proc/{}/cwd/{name}", shared.config.own.pid).into()
    }

    /// Somebody connected: takes the terminal that he sends. `Err` when it cannot be had, ever.
    pub(crate) fn accept(&self, target: &mut Target, shared: &Shared) -> Result<(), StartFailure> {
        let failed = |error: &std::io::Error| system_failure("take the terminal from the OCI runtime", error);
        let (socket, _) = match self.listener.accept() {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            accepted => accepted.map_err(|error| failed(&error))?,
        };
        // It connects and sends in one go; somebody who does not must not hold us up for long.
        socket.set_nonblocking(false).map_err(|error| failed(&error))?;
        socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).map_err(|error| failed(&error))?;
        let master = net::receive_descriptor(&socket).map_err(|error| failed(&error))?;
        streams::set_nonblocking(&master).map_err(|error| failed(&error))?;
        let _ = streams::resize(&master, self.size);
        let input = streams::duplicate(std::os::fd::AsFd::as_fd(&master)).map_err(|error| failed(&error))?;
        target.input = Input::new(Some(input), true);
        target.outputs[0] = Output::new(master);
        child::watch(target, shared)
    }

    /// Removes it.
    pub(crate) fn close(self, shared: &Shared) {
        shared.epoll.remove(&self.listener);
        let _ = std::fs::remove_file(&self.path);
    }
}
