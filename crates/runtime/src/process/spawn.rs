//! Making an agent process, and seeing it end.
//!
//! `Command` without `pre_exec`, ids or groups is `posix_spawn`, whose cost does not grow with the daemon's memory;
//! it still blocks for about half a millisecond, so it runs on the blocking pool, a few at a time (see the pool).
//! No descriptor is kept for a living agent but its connection: its end shows there first, and only then is a
//! pidfd opened to wait for the process itself. Its own children are reaped the moment that pidfd says so.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hostler_linux::procfs;
use hostler_model::ids::SandboxId;
use hostler_model::rundir::ProcessId;
use thiserror::Error;

use crate::Settings;
use hostler_linux::pidfd::Pidfd;

/// How long a killed process may take to be gone before we go on without it, milliseconds.
const KILLED_MAX_MS: u64 = 2_000;

/// Why there is no agent.
#[derive(Debug, Error)]
pub(crate) enum SpawnError {
    #[error("cannot make the sandbox directory {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot open the agents' log {}: {source}", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("cannot make a socket pair: {0}")]
    Socket(io::Error),
    #[error("cannot start {}: {source}", path.display())]
    Start { path: PathBuf, source: io::Error },
}

/// An id that nobody has. Random enough: sandboxes are few, and their directory is made exclusively.
pub(crate) fn new_sandbox_id(taken: impl Fn(SandboxId) -> bool) -> SandboxId {
    loop {
        // SipHash under keys that std took from the system and never uses twice.
        let [a, b, c, d, e, f, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
        let id = SandboxId::from_bytes([a, b, c, d, e, f]);
        if !taken(id) {
            return id;
        }
    }
}

pub(crate) fn sandbox_dir(settings: &Settings, sandbox: SandboxId) -> PathBuf {
    settings.sandboxes.join(sandbox.to_string())
}

/// A process that is, or may be, an agent of ours.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: Option<ProcessId>,
    child: Option<Child>,
}

/// Starts an agent. Blocks.
pub(crate) fn spawn(settings: &Settings, sandbox: SandboxId) -> Result<(UnixStream, Process), SpawnError> {
    let directory = sandbox_dir(settings, sandbox);
    DirBuilder::new()
        .mode(0o700)
        .create(&directory)
        .map_err(|source| SpawnError::Directory { path: directory.clone(), source })?;
    let started = start(settings, sandbox, &directory);
    if started.is_err() {
        remove_dir(&directory);
    }
    started
}

fn start(settings: &Settings, sandbox: SandboxId, directory: &Path) -> Result<(UnixStream, Process), SpawnError> {
    let (ours, theirs) = UnixStream::pair().map_err(SpawnError::Socket)?;
    ours.set_nonblocking(true).map_err(SpawnError::Socket)?;
    let mut command = Command::new(&settings.agent);
    command
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(log(settings)?)
        .args(["--sandbox", &sandbox.to_string(), "--sandbox-dir"])
        .arg(directory)
        .arg("--run-root")
        .arg(&settings.runs)
        .args(["--store", &settings.store.to_string()]);
    if let Some(cgroup) = &settings.cgroup {
        command.args(["--cgroup", &cgroup.to_arg()]);
    }
    let child = command.spawn().map_err(|source| SpawnError::Start { path: settings.agent.clone(), source })?;
    Ok((ours, Process::of_child(child)))
}

fn log(settings: &Settings) -> Result<Stdio, SpawnError> {
    let Some(path) = &settings.agent_log else { return Ok(Stdio::null()) };
    let file: io::Result<File> = OpenOptions::new().append(true).create(true).open(path);
    file.map(Stdio::from).map_err(|source| SpawnError::Log { path: path.clone(), source })
}

/// Removes a directory and says so if it cannot; one that is not there is fine.
pub(crate) fn remove_dir(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a directory");
        }
        _ => {}
    }
}

impl Process {
    /// Our own child, not yet reaped, so that its number is still its own.
    pub(crate) fn of_child(child: Child) -> Self {
        Self { id: procfs::process_id(child.id()).ok(), child: Some(child) }
    }

    /// A process that somebody else started.
    pub(crate) fn found(pid: u32) -> Self {
        Self { id: procfs::process_id(pid).ok(), child: None }
    }

    /// Waits for its end, this long at most; reaps it if it is our child. Whether it has ended.
    pub(crate) async fn ended(&mut self, wait: Duration) -> bool {
        let Some(id) = self.id else { return self.reap() };
        // Nobody has this number any more, or somebody else.
        let Some(pidfd) = Pidfd::open(id) else { return self.reap() };
        if tokio::time::timeout(wait, crate::os::ended(pidfd)).await.is_err() {
            return false;
        }
        self.reap()
    }

    /// Kills it, if it is still the same process, and waits for its end.
    pub(crate) async fn kill(&mut self) {
        if let Some(pidfd) = self.id.and_then(Pidfd::open) {
            pidfd.kill();
        }
        if !self.ended(Duration::from_millis(KILLED_MAX_MS)).await {
            tracing::error!(process = ?self.id, "a killed agent is stuck in the kernel");
        }
    }

    fn reap(&mut self) -> bool {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => false,
            _ => {
                self.child = None;
                true
            }
        }
    }
}
