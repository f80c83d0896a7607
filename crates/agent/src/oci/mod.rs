//! Containers: the run's program in a container that an OCI runtime makes, leaves alone, and takes away.
//!
//! ```text
//!          create               start                   main reaped, end recorded       delete
//!  New ──► Creating ──► Created ──► Starting ──► Started ────────────────────► Deleting ──► Gone
//!              │ failed, aborted, killed: all of it is killed first                 ▲
//!              └──────────────────────► Killing ────────────────────────────────────┘
//! ```
//! The OCI runtime is called for each step and ends: between the steps nothing stands beside the container's own
//! processes but this agent, whose children they become when the call that made them is over.
//!
//! - [`call`]: one call, with its log and its deadline; what it complained of becomes the error
//! - [`config`]: `config.json` from what was asked; [`defaults`]: what a container gets unasked
//! - [`users`]: user ids of its own; [`loopback`]: what is missing after a restore
//! - [`files`]: what it reads of its network
//! - [`lifecycle`]: create, start, delete; [`exec`]: second programs; [`console`]: terminals
//!
//! Not here: what is the same for every run. Limits, statistics, pausing and killing are the cgroup's; signals, logs,
//! streams and the end are those of any program.

pub(crate) mod call;
mod config;
mod console;
mod defaults;
mod exec;
mod files;
mod lifecycle;
pub(crate) mod loopback;
mod users;

pub(crate) use lifecycle::BUNDLE;

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use hostler_linux::confine::seccomp;
use hostler_linux::process::Reaped;
use hostler_model::ByteString;
use hostler_model::launch::{ContainerLaunch, Program};
use hostler_model::rundir::RunFile;
use hostler_model::spec::Limits;

use call::Call;
use console::Console;
use users::Claim;

/// Where the container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    New,
    Creating,
    Created,
    Starting,
    Started,
    Killing,
    Deleting,
    Gone,
}

/// Ended children of unknown origin that are remembered while a call may still say who they were.
const STRANGERS_MAX: usize = 256;

/// A run's container.
pub(crate) struct Container {
    pub(crate) launch: ContainerLaunch,
    /// Its name with the OCI runtime: the run's id.
    id: String,
    program: Program,
    limits: Limits,
    /// The run directory's first file, to be written again when there is a main process.
    file: RunFile,
    bundle: PathBuf,
    pub(crate) stage: Stage,
    pub(crate) calls: Vec<Call>,
    /// Children that ended before their call said who they are.
    strangers: Vec<Reaped>,
    consoles: Vec<Console>,
    /// Becomes readable when the program is executed, of a container that was started without a call.
    starting: Option<OwnedFd>,
    /// It has hooks that only `start` runs.
    has_poststart: bool,
    /// It has something that only `delete` does.
    has_delete: bool,
    /// The outer filter of its system calls, when it has the default profile.
    filter: Option<&'static seccomp::Program>,
    /// Where a checkpoint under way goes.
    images: Option<ByteString>,
    /// User ids that it has for itself.
    users: Option<Claim>,
    /// Hidden from the OCI runtime: crun refuses machines with both versions of cgroups.
    unified: Option<CString>,
}

impl Container {
    /// Nothing of it is left.
    pub(crate) fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    fn state_directory(&self) -> PathBuf {
        self.launch.oci.state.as_path().join(&self.id)
    }

    /// How the program that makes it is called by people.
    fn runtime_name(&self) -> String {
        let name = self.launch.oci.program.as_path().file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn remember(&mut self, reaped: Reaped) {
        if !self.calls.is_empty() && self.strangers.len() < STRANGERS_MAX {
            self.strangers.push(reaped);
        }
    }

    /// Whether this process ended already, and how.
    fn stranger(&mut self, pid: u32) -> Option<Reaped> {
        let place = self.strangers.iter().position(|reaped| reaped.pid == pid)?;
        Some(self.strangers.swap_remove(place))
    }
}
