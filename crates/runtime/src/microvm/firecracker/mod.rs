//! Firecracker: needs KVM, isolates by it, and is jailed besides.
//!
//! - `config`: what it is told, as data, in order; `api`: how it is told; `jail`: how it is executed; `watch`: what it says
//!
//! ```text
//!  prepare: FIFOs, read by us ─ (spawned) ─ logger ─ metrics ─┬─ machine ─ kernel ─ drives ─ cards ─ channel ─ InstanceStart
//!                                                            └─ snapshot/load, which resumes
//! ```
//! Of a failed sequence nothing is to be saved: the VMM is killed, its directory removed, by whoever made them. Reading the
//! FIFOs ends with [`Watch`].
//!
//! A snapshot names its drives, taps and channel as they were. Jailed, drives and channel have the same names in every jail,
//! and with a network namespace for each VM so have taps.

mod api;
mod config;
mod jail;
mod watch;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::vmm::admit;
use super::{
    AfterSnapshot, Channel, ChannelAddress, Deadlines, Lack, Machine, Place, SnapshotFiles, Start, Vmm, VmmCommand,
    VmmError, VmmMetrics, Watch, socket,
};
use api::Api;
use config::Call;

pub use jail::{CgroupVersion, Jail};
pub(super) use watch::Drains;
pub use watch::{BlockMetrics, FirecrackerMetrics, LatencyMetrics, LoggerMetrics, NetMetrics, VsockMetrics};

/// The API's socket.
const API: &str = "api.sock";
/// The FIFO of the log.
const LOG: &str = "log.fifo";
/// The FIFO of the metrics.
const METRICS: &str = "metrics.fifo";
/// The socket of the channel.
const CHANNEL: &str = "agent.vsock";
/// A jailed snapshot's state.
const STATE: &str = "snapshot.state";
/// A jailed snapshot's memory.
const MEMORY: &str = "snapshot.memory";
/// The guest's address on its vsock; 0 to 2 are taken.
const GUEST_CID: u32 = 3;
/// The vsock port that the agent in a guest listens at.
pub const AGENT_PORT: u32 = 1024;

/// The driver.
#[derive(Debug, Clone)]
pub struct Firecracker {
    /// `firecracker`, absolute.
    pub program: PathBuf,
    /// How it is jailed.
    pub jail: Option<Jail>,
    /// How long it may take.
    pub deadlines: Deadlines,
}

impl Firecracker {
    /// Jailed, as it should be.
    #[must_use]
    pub fn jailed(program: PathBuf, jail: Jail) -> Self {
        Self { program, jail: Some(jail), deadlines: Deadlines::default() }
    }

    /// Under the user of whoever spawns it, seeing all files: for trying things out, and where there is no root.
    #[must_use]
    pub fn unjailed(program: PathBuf) -> Self {
        Self { program, jail: None, deadlines: Deadlines::default() }
    }

    /// What Firecracker's names are relative to.
    fn root(&self, place: &Place) -> PathBuf {
        match &self.jail {
            Some(_) => place.directory.join(jail::root(&self.program, place)),
            None => place.directory.clone(),
        }
    }

    /// Where it sees a file.
    fn seen(&self, role: config::Role<'_>, path: &Path) -> PathBuf {
        if self.jail.is_some() { jail::name_of(role) } else { path.to_path_buf() }
    }

    /// One call of one that has been there for a while.
    async fn call(&self, place: &Place, call: &Call) -> Result<(), VmmError> {
        let stream = socket::connect_again(&self.root(place), API, self.deadlines.call).await?;
        Api::over(stream, self.deadlines).await?.call(call).await
    }
}

impl Vmm for Firecracker {
    fn name(&self) -> &'static str {
        "firecracker"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn lacks(&self, machine: &Machine, start: &Start<'_>) -> Vec<Lack> {
        let lack = |what: &str| Lack { vmm: "firecracker", what: what.to_owned() };
        let mut lacks = Vec::new();
        if !machine.shares.is_empty() {
            lacks.push(lack("shared directories"));
        }
        if matches!(start, Start::BootTemplate(files) | Start::Restore(files) if files.memory.is_none()) {
            lacks.push(lack("snapshots without a file for their memory"));
        }
        lacks
    }

    fn command(&self, place: &Place, machine: &Machine, start: &Start<'_>) -> Result<VmmCommand, VmmError> {
        admit(self, machine, start)?;
        let mut command = jail::command(self, place, machine, start);
        if machine.channel == Channel::Agent {
            let socket = command.api.with_file_name(CHANNEL);
            command.channel = Some(ChannelAddress::FirecrackerVsock { socket, port: AGENT_PORT });
        }
        Ok(command)
    }

    fn prepare(&self, place: &Place, machine: &Machine, start: &Start<'_>) -> Result<Watch, VmmError> {
        admit(self, machine, start)?;
        let root = self.root(place);
        if self.jail.is_some() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&root);
            made.map_err(|error| VmmError::io("make the root of the jail", error))?;
        }
        let owner = self.jail.as_ref().map(|jail| (jail.uid, jail.gid));
        Ok(Watch { drains: Some(Drains::start(&root, &place.id, owner)?) })
    }

    async fn start(&self, place: &Place, machine: &Machine, start: &Start<'_>) -> Result<(), VmmError> {
        admit(self, machine, start)?;
        let seen = |role: config::Role<'_>, path: &Path| self.seen(role, path);
        let calls = match start {
            Start::Boot | Start::BootTemplate(_) => config::boot(machine, &seen),
            Start::Restore(files) => {
                let memory = files.memory.as_deref().expect("admit has refused one without");
                config::restore(files, memory, &seen)
            }
        };
        let stream = socket::connect(&self.root(place), API, self.deadlines.socket).await?;
        let mut api = Api::over(stream, self.deadlines).await?;
        for call in &calls {
            api.call(call).await?;
        }
        Ok(())
    }

    async fn pause(&self, place: &Place) -> Result<(), VmmError> {
        self.call(place, &config::pause()).await
    }

    async fn resume(&self, place: &Place) -> Result<(), VmmError> {
        self.call(place, &config::resume()).await
    }

    async fn snapshot(&self, place: &Place, into: &SnapshotFiles) -> Result<AfterSnapshot, VmmError> {
        let Some(memory) = into.memory.clone() else {
            let what = "snapshots without a file for their memory".to_owned();
            return Err(VmmError::Lacks(vec![Lack { vmm: "firecracker", what }]));
        };
        let written = Written::new(self, place, &into.state, &memory);
        self.call(place, &config::snapshot(&written.names[0], &written.names[1])).await?;
        let targets = [into.state.clone(), memory];
        let kept = tokio::task::spawn_blocking(move || written.keep(&targets)).await;
        let kept = kept.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
        kept.map_err(|error| VmmError::io("keep a snapshot", error))?;
        Ok(AfterSnapshot::Paused)
    }

    async fn metrics(&self, place: &Place, watch: &Watch) -> Result<VmmMetrics, VmmError> {
        let Some(drains) = &watch.drains else { return Ok(VmmMetrics::default()) };
        let before = drains.latest().lines;
        self.call(place, &config::flush()).await?;
        Ok(drains.next(self.deadlines.call, before).await.common())
    }
}

impl Watch {
    /// What Firecracker has said of itself so far, without asking it: it writes once a minute by itself. `None` with another
    /// VMM.
    #[must_use]
    pub fn firecracker(&self) -> Option<FirecrackerMetrics> {
        self.drains.as_ref().map(Drains::latest)
    }
}

/// The two files of a snapshot while they are written, state and memory.
struct Written {
    /// As Firecracker is told them.
    names: [PathBuf; 2],
    /// As they are.
    paths: [PathBuf; 2],
}

impl Written {
    fn new(firecracker: &Firecracker, place: &Place, state: &Path, memory: &Path) -> Self {
        if firecracker.jail.is_some() {
            // What a restored one was started from has the plain names.
            let names = [STATE, MEMORY].map(|name| PathBuf::from(format!("{name}.unfinished")));
            let root = firecracker.root(place);
            return Self { paths: names.clone().map(|name| root.join(name)), names };
        }
        let paths = [state, memory].map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".unfinished");
            PathBuf::from(name)
        });
        Self { names: paths.clone(), paths }
    }

    /// Puts them on the disk and where they belong, the state last: a state that is there has its memory.
    fn keep(self, targets: &[PathBuf; 2]) -> io::Result<()> {
        for (from, to) in self.paths.iter().zip(targets).rev() {
            // What comes out of a jail may be a link to what is nobody's business in there.
            fs::rename(from, to)?;
            if !fs::symlink_metadata(to)?.is_file() {
                fs::remove_file(to)?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, "what was written is no file"));
            }
            File::open(to)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = fs::remove_file(path);
        }
    }
}
