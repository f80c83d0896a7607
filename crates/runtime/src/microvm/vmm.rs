//! What every VMM does, in the order of a VM's life: say what is lacking, get ready, be spawned by somebody else, start,
//! pause, take a snapshot. A driver keeps nothing of a VM: all there is to know is in the VM's directory and in the VMM.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_linux::tool;
use hostler_model::limits;
use thiserror::Error;

use super::firecracker::{Drains, Firecracker};
use super::qemu::Qemu;
use super::{Machine, MachineError, VmId};

/// A VM and its directory, which is the working directory of its VMM. Absolute; made by the caller, for nobody but him
/// (and the VMM's own user, unless that is jailed below it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub directory: PathBuf,
    /// Whose it is.
    pub id: VmId,
}

/// How a guest comes to life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// From its kernel.
    Boot,
    /// From its kernel, with its memory where a snapshot of it will be: for copy-on-write clones. Its VMM ends with the
    /// snapshot where it has to ([`AfterSnapshot`]).
    BootTemplate(&'a SnapshotFiles),
    /// From a snapshot of the same machine, made by the same VMM in the same version. The files are only read, but QEMU must
    /// have the right to write to `memory`.
    Restore(&'a SnapshotFiles),
}

/// Where a snapshot is. Absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFiles {
    /// The state of the devices; and all memory, if `memory` is absent.
    pub state: PathBuf,
    /// The memory, which clones map: always with Firecracker, of templates with QEMU.
    pub memory: Option<PathBuf>,
}

/// What became of the VM of which a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSnapshot {
    /// It is paused, and may be resumed.
    Paused,
    /// Its VMM ends: its memory is the snapshot's now, and must not change any more.
    Ended,
}

/// Something that a VMM does not have. Said before anything is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Who lacks it.
    pub vmm: &'static str,
    /// What, in the plural or with an article.
    pub what: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no {}", self.vmm, self.what)
    }
}

/// What is to be executed, in the VM's directory. Its stdin must be `/dev/null`, or the guest could read on its console what
/// is its parent's; its stdout and stderr are the guest's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmmCommand {
    /// Absolute.
    pub program: PathBuf,
    /// Without the program's own name.
    pub arguments: Vec<OsString>,
    /// All of it: nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Which network it is to be spawned in; absent when that is the host's, or the program goes there by itself.
    pub network_namespace: Option<PathBuf>,
    /// What has to be in the VM's directory before, because the VMM will see nothing else.
    pub files: Vec<PlacedFile>,
    /// Where the agent in the guest is reached.
    pub channel: Option<ChannelAddress>,
    /// The VMM's own socket, relative to the VM's directory.
    pub api: PathBuf,
}

/// A file that a jailed VMM needs: linked, bound or copied there, and readable (writable) for the VMM's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedFile {
    /// Where it is.
    pub from: PathBuf,
    /// Where it has to be, relative to the VM's directory.
    pub to: PathBuf,
    /// Nobody writes to it.
    pub read_only: bool,
}

/// Where the agent in the guest is reached, by a name relative to the VM's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelAddress {
    /// A stream socket: what is written comes out of the port `hostler.agent.0` in the guest. One connection at a time.
    Stream(PathBuf),
    /// A stream socket that first wants `CONNECT <port>\n` and answers `OK <number>\n`.
    FirecrackerVsock {
        /// The socket.
        socket: PathBuf,
        /// The port that the agent listens at.
        port: u32,
    },
}

/// What a VMM says of its devices, from the guest's side and since it was started; what it does not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it, and their last words are the units")]
pub struct VmmMetrics {
    pub drives_read_bytes: Option<u64>,
    pub drives_written_bytes: Option<u64>,
    pub drives_reads: Option<u64>,
    pub drives_writes: Option<u64>,
    pub drives_throttled: Option<u64>,
    pub nics_received_bytes: Option<u64>,
    pub nics_sent_bytes: Option<u64>,
    pub nics_throttled: Option<u64>,
    /// Log and metrics lines that the VMM had to drop.
    pub lines_lost: Option<u64>,
}

/// How long a VMM may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Until its socket takes connections.
    pub socket: Duration,
    /// For one call.
    pub call: Duration,
    /// To start the processors, or load a snapshot.
    pub start: Duration,
    /// To write a snapshot.
    pub snapshot: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            socket: Duration::from_millis(limits::VMM_SOCKET_MAX_MS),
            call: Duration::from_millis(limits::VMM_CALL_MAX_MS),
            start: Duration::from_millis(limits::VMM_START_MAX_MS),
            snapshot: Duration::from_millis(limits::VMM_SNAPSHOT_MAX_MS),
        }
    }
}

/// Why something could not be done with a VM. Says what we were doing; the source or the text says what was answered.
#[derive(Debug, Error)]
pub enum VmmError {
    /// It makes no sense.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Another VMM may have it.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Lacks(Vec<Lack>),
    /// The system says no.
    #[error("cannot {doing}: {source}")]
    Io {
        /// In the infinitive.
        doing: String,
        /// What it said.
        source: io::Error,
    },
    /// Nobody listens.
    #[error("the VMM does not listen at {name} within {} ms", longest.as_millis())]
    NoSocket {
        /// Which socket.
        name: String,
        /// How long that was waited for.
        longest: Duration,
    },
    /// Nobody listens any more.
    #[error("nobody listens at {name}: the VMM is gone")]
    Gone {
        /// Which socket.
        name: String,
    },
    /// It takes too long.
    #[error("cannot {doing}: the VMM did not answer within {} ms", longest.as_millis())]
    Deadline {
        /// In the infinitive.
        doing: String,
        /// How long that was waited for.
        longest: Duration,
    },
    /// The VMM says no.
    #[error("cannot {doing}: the VMM says: {said}")]
    Refused {
        /// In the infinitive.
        doing: String,
        /// Its own words, at most some hundred.
        said: String,
    },
    /// It hung up: it died, most likely.
    #[error("cannot {doing}: the VMM closed the connection")]
    Closed {
        /// In the infinitive.
        doing: String,
    },
    /// That is not an answer.
    #[error("cannot {doing}: the VMM's answer makes no sense: {problem}")]
    Garbage {
        /// In the infinitive.
        doing: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Of what a VMM says to an error, what is kept, characters.
const SAID_MAX: usize = 500;

impl VmmError {
    pub(super) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }

    pub(super) fn refused(doing: impl Into<String>, said: &str) -> Self {
        let said = said.chars().take(SAID_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self::Refused { doing: doing.into(), said }
    }

    pub(super) fn garbage(doing: impl Into<String>, problem: impl fmt::Display) -> Self {
        let problem = problem.to_string().chars().take(SAID_MAX).collect();
        Self::Garbage { doing: doing.into(), problem }
    }
}

/// What is kept of a VMM while it lives: its log goes to ours, its metrics are remembered. Ends when it is dropped.
#[derive(Debug, Default)]
pub struct Watch {
    pub(super) drains: Option<Drains>,
}

/// A program that makes virtual machines.
pub trait Vmm {
    /// For people, and in keys.
    fn name(&self) -> &'static str;

    /// The VMM's own program, absolute.
    fn program(&self) -> &Path;

    /// What it does not have that this machine would need, when started like this. Empty: it will do.
    fn lacks(&self, machine: &Machine, start: &Start<'_>) -> Vec<Lack>;

    /// What is to be executed. [`VmmError::Machine`] and [`VmmError::Lacks`] before anything else.
    fn command(&self, place: &Place, machine: &Machine, start: &Start<'_>) -> Result<VmmCommand, VmmError>;

    /// Makes what has to be there before the VMM is spawned, and listens to it. Within tokio. Also called for a VMM that was
    /// found alive: what is there is used.
    fn prepare(&self, place: &Place, machine: &Machine, start: &Start<'_>) -> Result<Watch, VmmError>;

    /// From a VMM that was just spawned to a guest whose processors run. After an error the VMM is to be killed.
    fn start(
        &self,
        place: &Place,
        machine: &Machine,
        start: &Start<'_>,
    ) -> impl Future<Output = Result<(), VmmError>> + Send;

    /// Stops the processors. A guest that is paused stays so.
    fn pause(&self, place: &Place) -> impl Future<Output = Result<(), VmmError>> + Send;

    /// Lets them run again.
    fn resume(&self, place: &Place) -> impl Future<Output = Result<(), VmmError>> + Send;

    /// Writes a snapshot of a paused guest, whose channel nobody is connected to. Where it fails, nothing new is left, but
    /// for a template's memory, which it is using; files that were there are replaced. What was written is on the disk.
    fn snapshot(
        &self,
        place: &Place,
        into: &SnapshotFiles,
    ) -> impl Future<Output = Result<AfterSnapshot, VmmError>> + Send;

    /// What its devices did.
    fn metrics(&self, place: &Place, watch: &Watch) -> impl Future<Output = Result<VmmMetrics, VmmError>> + Send;

    /// What the program says of its version: the first line. Snapshots are tied to it.
    fn version(&self) -> impl Future<Output = Result<String, VmmError>> + Send {
        version_of(self.program().to_path_buf())
    }
}

/// The first line of what a program says to `--version`.
async fn version_of(program: PathBuf) -> Result<String, VmmError> {
    let doing = format!("ask {} for its version", program.display());
    let longest = Duration::from_millis(limits::VMM_VERSION_MAX_MS);
    let asked = tokio::task::spawn_blocking(move || tool::call(&program, &["--version"], &[], b"", longest)).await;
    let done = match asked {
        Ok(Ok(done)) => done,
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(VmmError::Deadline { doing, longest });
        }
        Ok(Err(source)) => return Err(VmmError::Io { doing, source }),
        Err(_) => return Err(VmmError::io(doing, io::ErrorKind::Interrupted.into())),
    };
    if !done.status.success() {
        return Err(VmmError::refused(doing, &String::from_utf8_lossy(&done.err)));
    }
    let text = String::from_utf8_lossy(&done.out).into_owned();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && line.len() <= SAID_MAX);
    first.map(str::to_owned).ok_or_else(|| VmmError::garbage(doing, "no line of text"))
}

/// Refuses what makes no sense and what this VMM lacks.
pub(super) fn admit(vmm: &impl Vmm, machine: &Machine, start: &Start<'_>) -> Result<(), VmmError> {
    machine.check()?;
    match vmm.lacks(machine, start) {
        lacks if lacks.is_empty() => Ok(()),
        lacks => Err(VmmError::Lacks(lacks)),
    }
}

/// One of those there are.
#[derive(Debug, Clone)]
pub enum AnyVmm {
    /// Firecracker.
    Firecracker(Firecracker),
    /// QEMU.
    Qemu(Qemu),
}

/// Hands a call on to whichever it is.
macro_rules! each {
    ($self:ident, $vmm:ident => $call:expr) => {
        match $self {
            AnyVmm::Firecracker($vmm) => $call,
            AnyVmm::Qemu($vmm) => $call,
        }
    };
}

impl Vmm for AnyVmm {
    fn name(&self) -> &'static str {
        each!(self, vmm => vmm.name())
    }

    fn program(&self) -> &Path {
        each!(self, vmm => vmm.program())
    }

    fn lacks(&self, machine: &Machine, start: &Start<'_>) -> Vec<Lack> {
        each!(self, vmm => vmm.lacks(machine, start))
    }

    fn command(&self, place: &Place, machine: &Machine, start: &Start<'_>) -> Result<VmmCommand, VmmError> {
        each!(self, vmm => vmm.command(place, machine, start))
    }

    fn prepare(&self, place: &Place, machine: &Machine, start: &Start<'_>) -> Result<Watch, VmmError> {
        each!(self, vmm => vmm.prepare(place, machine, start))
    }

    async fn start(&self, place: &Place, machine: &Machine, start: &Start<'_>) -> Result<(), VmmError> {
        each!(self, vmm => vmm.start(place, machine, start).await)
    }

    async fn pause(&self, place: &Place) -> Result<(), VmmError> {
        each!(self, vmm => vmm.pause(place).await)
    }

    async fn resume(&self, place: &Place) -> Result<(), VmmError> {
        each!(self, vmm => vmm.resume(place).await)
    }

    async fn snapshot(&self, place: &Place, into: &SnapshotFiles) -> Result<AfterSnapshot, VmmError> {
        each!(self, vmm => vmm.snapshot(place, into).await)
    }

    async fn metrics(&self, place: &Place, watch: &Watch) -> Result<VmmMetrics, VmmError> {
        each!(self, vmm => vmm.metrics(place, watch).await)
    }
}
