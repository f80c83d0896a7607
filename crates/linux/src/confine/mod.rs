//! What a confined process may see and do.
//!
//! A *room* is a set of namespaces with a first process of ours, [`init`]. It is made, or entered, by a child of the
//! agent that then makes the process which becomes the program, as another child of the agent:
//!
//! ```text
//! agent ──fork──► stage: streams, limits, network, user, namespaces ─┬─► init: mounts, host name, loopback ─ reaps
//!                                                                   │      └ done
//!                   "moved: init, main" ◄───── stage, and leaves ◄──┴─► main: session, terminal, rlimits, bounding set, user,
//!                                                                              capabilities, files, directory, no_new_privs,
//!                                                                              landlock ─ Ready ─ waits ─ seccomp ─ execve
//! ```
//! Both children of `stage` are the agent's, by `CLONE_PARENT`: it reaps them, and they die with it. The agent puts `main`
//! into its cgroup; `init` stays out of it, or it would count, and be killed for memory.
//!
//! In a user namespace (the default) everything after `stage` has no right outside of it, and no user but its own exists.
//! Without one, root's rights are given up by hand: capabilities, bounding set, user.
//!
//! - [`namespaces`], [`mounts`], [`capabilities`], [`landlock`], [`seccomp`]: the steps
//! - [`support`]: what this kernel can
//!
//! A step that cannot be taken is a failure of the start, never passed over.

pub(crate) mod capabilities;
mod init;
pub mod landlock;
mod mounts;
mod namespaces;
mod own;
pub mod seccomp;
mod stage;
pub mod support;

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use hostler_model::container::{Network, Seccomp, Userns};
use hostler_model::isolation::Isolation;
use hostler_model::launch::Confinement;
use hostler_model::limits::OCI_CONFIG_MAX;
use hostler_model::workload::{StartFailure, StartFailureKind};

pub(crate) use namespaces::join_network;
pub(crate) use stage::become_confined;

/// Brings up the loopback device of the network that this process is in. The caller stays in that network.
pub fn raise_loopback_of(pid: u32) -> Result<(), StartFailure> {
    let joined = namespaces::join_network(&format!("/proc/{pid}/ns/net").into());
    let raised = joined.and_then(|()| namespaces::raise_loopback());
    raised.map_err(|failure| StartFailure { kind: failure.kind, message: failure.message })
}

/// How a program is kept apart, with everything from files already read: a second program gets the same.
#[derive(Debug)]
pub struct Room {
    pub(crate) confinement: Confinement,
    filter: Option<seccomp::Program>,
}

/// Which room a program gets.
#[derive(Debug, Clone, Copy)]
pub enum Door<'a> {
    /// A new one.
    New(&'a Room),
    /// This one, which has this first process.
    Of(&'a Room, u32),
}

impl Door<'_> {
    pub(crate) fn room(&self) -> &Room {
        match self {
            Self::New(room) | Self::Of(room, _) => room,
        }
    }
}

fn failure(message: String) -> StartFailure {
    StartFailure { kind: StartFailureKind::Isolation, message }
}

/// Reads a profile, which must be a file: nothing that could make us wait.
pub fn read_profile(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut content = Vec::new();
    file.take(OCI_CONFIG_MAX as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

fn filter(isolation: &Isolation) -> Result<Option<seccomp::Program>, StartFailure> {
    let profile = match isolation.seccomp() {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => seccomp::profile::default(isolation.capabilities()),
        Seccomp::File(path) => {
            let shown = path.to_string_lossy();
            let content = read_profile(path.as_path())
                .map_err(|error| failure(format!("cannot read the seccomp profile {shown:?}: {error}")))?;
            let kernel = support::kernel_release();
            let here = seccomp::file::Here { capabilities: isolation.capabilities(), kernel: &kernel };
            seccomp::file::parse(&content, &here)
                .map_err(|error| failure(format!("the seccomp profile {shown:?}: {error}")))?
        }
    };
    let program = seccomp::compile(&profile).map_err(|error| failure(format!("the seccomp profile: {error}")))?;
    Ok(Some(program))
}

impl Room {
    /// Everything that can be made ready ahead.
    pub fn new(confinement: Confinement) -> Result<Self, StartFailure> {
        Ok(Self { filter: filter(&confinement.isolation)?, confinement })
    }

    fn isolation(&self) -> &Isolation {
        &self.confinement.isolation
    }

    /// Whether it has users of its own.
    pub(crate) fn has_users(&self) -> bool {
        self.isolation().userns() == Userns::Auto
    }

    pub(crate) fn capabilities(&self) -> &[hostler_model::Capability] {
        self.isolation().capabilities()
    }

    /// The last but one step; `no_new_privs` is set.
    pub(crate) fn restrict_paths(&self) -> Result<(), crate::spawn::child::Failure> {
        let shares = match self.isolation().network() {
            Network::Host => landlock::Sharing::Network,
            Network::None | Network::Namespace(_) | Network::Named(_) => landlock::Sharing::Nothing,
        };
        landlock::restrict(self.isolation().landlock.as_ref(), shares)
    }

    /// The last step before `execve`.
    pub(crate) fn restrict_calls(&self) -> Result<(), crate::spawn::child::Failure> {
        let Some(filter) = &self.filter else { return Ok(()) };
        filter.install().map_err(|error| crate::spawn::child::Failure {
            kind: StartFailureKind::Isolation,
            message: format!("cannot filter system calls: {}", crate::spawn::errno_text(&error)),
        })
    }
}
