//! The control messages. Fields may be added with a default; a change of meaning needs a new protocol version.

use hostler_model::ByteString;
use hostler_model::accounting::Accounting;
use hostler_model::exit::Exit;
use hostler_model::guest::{Furnish, GuestIdentity, VmBoot};
use hostler_model::ids::{ExecId, RunId, SandboxId, StoreId};
use hostler_model::launch::{CheckpointOptions, ExecLaunch, Launch};
use hostler_model::process::Processes;
use hostler_model::rundir::ExecEnd;
use hostler_model::spec::{Limits, TtySize};
use hostler_model::units::Signal;
use hostler_model::workload::StartFailure;
use serde::{Deserialize, Serialize};

/// Lowest protocol version this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// Highest protocol version this build speaks.
pub const PROTOCOL_MAX: u16 = 4;

/// The version to use with a peer that speaks `min` to `max`, if there is a common one.
#[must_use]
pub fn negotiate(min: u16, max: u16) -> Option<u16> {
    let highest = max.min(PROTOCOL_MAX);
    (highest >= min.max(PROTOCOL_MIN)).then_some(highest)
}

/// Node to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "message")]
pub enum ToAgent {
    /// First on every connection.
    Hello {
        /// Lowest version spoken.
        protocol_min: u16,
        /// Highest version spoken.
        protocol_max: u16,
        /// Whose agent it is; an agent of another store closes the connection.
        store: StoreId,
    },
    /// Make everything ready for this run, program not yet executed: run directory, cgroup, streams, and, where the
    /// program needs more than to be executed, a forked child that has applied its confinement and waits. Answered by
    /// `StartFailed`, or by `Prepared` unless `Execute` comes first.
    Prepare {
        /// What to start.
        launch: Box<Launch>,
    },
    /// The run is committed: execute the prepared program. May follow `Prepare` at once. Answered by `Started` or
    /// `StartFailed`.
    Execute {
        /// Which run.
        run: RunId,
    },
    /// Undo `Prepare`. Never after `Execute`. The agent removes the run directory and answers `Idle`.
    Abort {
        /// Which run.
        run: RunId,
    },
    /// Send a signal.
    Signal {
        /// Which signal.
        signal: Signal,
        /// To whom.
        scope: SignalScope,
    },
    /// Kill everything in the run, exec'd programs and orphans included, until nothing is left.
    Kill {
        /// Which run.
        run: RunId,
    },
    /// Change limits. Answered by `Done`.
    Update {
        /// Echoed in the answer.
        request: u64,
        /// Those that change.
        limits: Box<Limits>,
    },
    /// From version 3 on. Let everything in the run stand still. Answered by `Done`.
    Pause {
        /// Echoed in the answer.
        request: u64,
        /// Which run.
        run: RunId,
    },
    /// From version 3 on. Let it go on. Answered by `Done`.
    Resume {
        /// Echoed in the answer.
        request: u64,
        /// Which run.
        run: RunId,
    },
    /// From version 3 on. Have an image of the run's container made. Answered by `Done`.
    Checkpoint {
        /// Echoed in the answer.
        request: u64,
        /// Which run.
        run: RunId,
        /// The directory for it, which exists.
        images: ByteString,
        /// What it contains.
        options: CheckpointOptions,
    },
    /// Start a second program. Answered by `ExecStarted` or `ExecFailed`.
    Exec {
        /// Its id.
        exec: ExecId,
        /// What to start.
        launch: Box<ExecLaunch>,
    },
    /// Open a channel to the streams of the run or an exec. Output follows from `from`, or from the oldest byte
    /// still in the backlog. The receiver must grant credit before the first byte comes.
    Attach {
        /// The channel's number, chosen by the node, not in use.
        channel: u32,
        /// Whose streams.
        target: AttachTarget,
        /// Output waits for this reader instead of dropping. At most one owner for each target: a new one takes over.
        owner: bool,
        /// This channel may also send stdin.
        stdin: bool,
        /// Where to begin; absent: the oldest byte in the backlog.
        from: Option<StreamOffsets>,
    },
    /// Close a channel. Of an owner: he is gone for good, output turns to dropping.
    Detach {
        /// Which channel.
        channel: u32,
    },
    /// Set a terminal's size.
    Resize {
        /// Whose terminal.
        target: AttachTarget,
        /// The new size.
        size: TtySize,
    },
    /// Ask for the resources in use now. Answered by `Stats`.
    Stats {
        /// Echoed in the answer.
        request: u64,
        /// It is one of the samples that the end tells the sum of.
        #[serde(default)]
        sample: bool,
        /// How much is wanted.
        #[serde(default)]
        depth: StatsDepth,
    },
    /// From version 3 on. Send a signal to one of the run's processes. Answered by `Done`.
    SignalProcess {
        /// Echoed in the answer.
        request: u64,
        /// Which, as the machine counts.
        pid: u32,
        /// Which signal.
        signal: Signal,
    },
    /// From version 3 on. Ask for the processes of the run. Answered by `Processes`.
    Processes {
        /// Echoed in the answer.
        request: u64,
    },
    /// The end (or start failure) of this run is on disk: remove its directory. Then be idle, or leave.
    Committed {
        /// Which run.
        run: RunId,
        /// Take the next run if nothing of this one is left; otherwise leave.
        reuse: bool,
        /// The agent said that it is `clean`: the node takes it for idle from now on, and no `Idle` follows.
        #[serde(default)]
        assume_idle: bool,
    },
    /// From version 2 on. The end of this exec is on disk: it need not be told again.
    ExecCommitted {
        /// Which.
        exec: ExecId,
    },
    /// Leave, if idle.
    Quit,
    /// To the agent in a guest, from version 4 on, as are the next three. Mount what belongs to the guest. Answered by
    /// `Done`.
    Furnish {
        /// Echoed in the answer.
        request: u64,
        /// What is mounted.
        furnish: Box<Furnish>,
    },
    /// Be this guest from now on: name, clock, randomness, network. Answered by `Done`.
    Rebind {
        /// Echoed in the answer.
        request: u64,
        /// Who.
        identity: Box<GuestIdentity>,
    },
    /// The guest is about to be copied. `Suspended` is the last word on this connection; what comes next is
    /// another's beginning.
    Suspend,
    /// Bring everything that was written to the disks, and switch the guest off.
    PowerOff,
    /// To the agent on the node, from version 4 on: make this machine, for a run that is still to come. Answered by
    /// `VmmStarted`, each time the program that makes it is started, and then `Booted` or `BootFailed`. `Suspend` is passed
    /// on to its guest.
    Boot {
        /// The machine.
        boot: Box<VmBoot>,
        /// Who its guest is until it has a run.
        identity: Box<GuestIdentity>,
    },
}

/// How closely a run is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatsDepth {
    /// What its cgroup tells in a few files; without one, as `Usual`. For looks at many runs at once.
    Brief,
    /// With the sums over its processes.
    #[default]
    Usual,
    /// With everything that the kernel accounts.
    Full,
}

/// To whom a signal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalScope {
    /// The run's main process.
    Main,
    /// One exec'd program.
    Exec(ExecId),
}

/// Whose streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachTarget {
    /// The run's main process.
    Main,
    /// One exec'd program.
    Exec(ExecId),
}

/// Offsets of the next byte wanted, since the program's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamOffsets {
    /// On stdout.
    pub stdout: u64,
    /// On stderr.
    pub stderr: u64,
}

/// Agent to node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "message")]
pub enum FromAgent {
    /// The answer to `Hello`.
    Hello(Hello),
    /// A run is ready to be executed.
    Prepared {
        /// Which run.
        run: RunId,
    },
    /// The program runs: `execve` succeeded.
    Started {
        /// Which run.
        run: RunId,
        /// Its process.
        pid: u32,
        /// Wall clock, milliseconds.
        started_at_ms: u64,
    },
    /// The program was never executed, and will not be. Nothing of it is left but the run directory.
    StartFailed {
        /// Which run.
        run: RunId,
        /// Why.
        failure: StartFailure,
    },
    /// The program ended; all execs have been reported before. The exit record is in the run directory.
    Exited {
        /// Which run.
        run: RunId,
        /// How.
        exit: Exit,
        /// Nothing of the run is left and nobody reads its streams: once the end is committed, the next run may come.
        #[serde(default)]
        clean: bool,
    },
    /// The kernel killed for memory within the run.
    Oom {
        /// Which run.
        run: RunId,
        /// Kills so far.
        oom_kills: u64,
    },
    /// An exec'd program runs.
    ExecStarted {
        /// Which.
        exec: ExecId,
        /// Its process.
        pid: u32,
    },
    /// An exec could not be started.
    ExecFailed(ExecFailure),
    /// An exec'd program ended and its output was read, or the drain ran out.
    ExecExited {
        /// Which.
        exec: ExecId,
        /// How.
        exit: Exit,
    },
    /// The streams of this channel are complete; it is closed.
    ChannelClosed {
        /// Which channel.
        channel: u32,
    },
    /// The answer to `Stats`.
    Stats {
        /// From the question.
        request: u64,
        /// What is used.
        stats: RunStats,
    },
    /// The answer to `Processes`.
    Processes {
        /// From the question.
        request: u64,
        /// What was found.
        list: Processes,
    },
    /// The answer to `Update`.
    Done {
        /// From the question.
        request: u64,
        /// What went wrong.
        error: Option<String>,
    },
    /// Killing everything took longer than it may: these processes are stuck in the kernel.
    Stuck {
        /// Which run.
        run: RunId,
        /// The processes.
        pids: Vec<u32>,
    },
    /// Ready for the next run of the same namespace.
    Idle,
    /// From version 4 on, as are the next. The answer to `Suspend`.
    Suspended,
    /// The program that makes the machine runs, and may be told more.
    VmmStarted,
    /// The guest waits for a run.
    Booted,
    /// There will be no guest. The agent leaves.
    BootFailed {
        /// Why.
        failure: StartFailure,
    },
}

/// Why an exec could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecFailure {
    /// Which.
    pub exec: ExecId,
    /// Why.
    pub failure: StartFailure,
}

/// Who an agent is and how it stands: the truth after a crash of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest version spoken.
    pub protocol_min: u16,
    /// Highest version spoken.
    pub protocol_max: u16,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Its process.
    pub pid: u32,
    /// How it stands.
    pub state: AgentState,
    /// Execs alive, with their processes.
    #[serde(default)]
    pub execs: Vec<(ExecId, u32)>,
    /// Execs that are being started.
    #[serde(default)]
    pub exec_starts: Vec<ExecId>,
    /// Ends of execs without `ExecCommitted`.
    #[serde(default)]
    pub exec_ends: Vec<ExecEnd>,
}

/// How an agent stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum AgentState {
    /// Waiting for a run.
    Idle,
    /// Making a machine for a run that is still to come.
    Booting,
    /// Its guest waits for a run.
    Warm,
    /// A run is prepared, its program not yet executed.
    Prepared {
        /// Which run.
        run: RunId,
    },
    /// `Execute` was received; the program runs.
    Running {
        /// Which run.
        run: RunId,
        /// The main process.
        pid: u32,
        /// Wall clock, milliseconds.
        started_at_ms: u64,
        /// Kills for memory so far.
        oom_kills: u64,
        /// All of it stands still.
        #[serde(default)]
        paused: bool,
    },
    /// The program could not be started; not yet committed.
    Failed {
        /// Which run.
        run: RunId,
        /// Why.
        failure: StartFailure,
    },
    /// The program ended; not yet committed.
    Ended {
        /// Which run.
        run: RunId,
        /// How.
        exit: Exit,
    },
}

/// Resources in use now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunStats {
    /// CPU time used so far, microseconds.
    pub cpu_us: u64,
    /// Memory in use, bytes: the cgroup's, or the sum of resident sets.
    pub memory_bytes: u64,
    /// The memory limit in force, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Processes (with a cgroup: processes and threads).
    pub pids: u32,
    /// The limit on them.
    pub pids_limit: Option<u64>,
    /// Bytes read from storage, where the kernel tells.
    pub read_bytes: Option<u64>,
    /// Bytes written to storage, where the kernel tells.
    pub written_bytes: Option<u64>,
    /// Log bytes that could not be written.
    pub log_dropped_bytes: u64,
    /// Sum of the resident sets of its processes, bytes.
    #[serde(default)]
    pub rss_bytes: u64,
    /// Swapped out, bytes.
    #[serde(default)]
    pub swap_bytes: u64,
    /// Everything that the kernel accounts, when that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounting: Option<Box<Accounting>>,
}
