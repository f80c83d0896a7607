//! The closed set of things that can happen, and of what can come of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostler_model::event::{EventId, StopReason};
use hostler_model::exit::Exit;
use hostler_model::hook::{HookCall, HookKey};
use hostler_model::ids::{
    CheckpointName, ExecId, Namespace, NetworkId, NetworkName, QueueName, RunId, SandboxId, StackName, UnitName,
    WorkloadId,
};
use hostler_model::launch::{CheckpointOptions, ExecLaunch, Restore};
use hostler_model::log_stream::LogStream;
use hostler_model::network::NetworkRecord;
use hostler_model::queue::{QueueChange, QueueRecord};
use hostler_model::record::Batch;
use hostler_model::spec::{Limits, Spec};
use hostler_model::stack::Mistake;
use hostler_model::stack::condition::Condition;
use hostler_model::units::Signal;
use hostler_model::workload::{Identity, LostReason, StartFailure, Workload};
use hostler_model::{ByteString, Problem};

use crate::stack::{Retry, Wanted};

/// Ties an answer to its question. The caller numbers them.
pub type Token = u64;

/// Everything that can happen.
#[derive(Debug, Clone)]
pub enum Input {
    /// Somebody asks; exactly one answer with this token follows.
    Request(Token, Request),
    /// The runtime reports.
    Fact(Fact),
    /// A timer may be due.
    Tick,
    /// The daemon came up and looked around. First of all inputs, once.
    Adopted {
        /// Every run found on this machine that belongs to this store.
        found: Vec<Found>,
        /// The boot it was found in.
        boot_id: String,
        /// The daemon's version, for the event.
        version: String,
    },
    /// Free space fell below the mark, or is above it again.
    DiskFull(bool),
    /// The client of a foreground workload is gone.
    OwnerGone(WorkloadId),
    /// The daemon ends; nothing comes after this.
    Closing,
}

/// What callers can ask. References are resolved and authorised before.
#[derive(Debug, Clone)]
pub enum Request {
    /// Accept a workload and start it.
    Create(Box<Create>),
    /// Start one that is at rest, or waits for a restart.
    Start(WorkloadId),
    /// Start one that is at rest from this checkpoint.
    Restore(WorkloadId, Box<Restore>),
    /// Pause it, resume it, or make a checkpoint of it.
    Order(WorkloadId, Order),
    /// Stop it, and keep it stopped.
    Stop {
        /// Which.
        workload: WorkloadId,
        /// Instead of the spec's signal.
        signal: Option<Signal>,
        /// Instead of the spec's grace, milliseconds.
        grace_ms: Option<u64>,
    },
    /// Stop it and start it again.
    Restart {
        /// Which.
        workload: WorkloadId,
        /// Instead of the spec's signal.
        signal: Option<Signal>,
        /// Instead of the spec's grace, milliseconds.
        grace_ms: Option<u64>,
    },
    /// Send a signal; the restart policy applies to what comes of it.
    Kill {
        /// Which.
        workload: WorkloadId,
        /// The signal.
        signal: Signal,
        /// To this exec instead of the main process.
        exec: Option<ExecId>,
    },
    /// Forget it.
    Remove {
        /// Which.
        workload: WorkloadId,
        /// Kill it first if it is live.
        force: bool,
    },
    /// Change limits.
    Update {
        /// Which.
        workload: WorkloadId,
        /// Those that change.
        limits: Box<Limits>,
    },
    /// Make a stack what it should be.
    ApplyStack(Box<ApplyStack>),
    /// Take a stack down: its units stop in reverse order and are forgotten, and then it is.
    DownStack(Namespace, StackName),
    /// Start a second program inside.
    Exec {
        /// Which workload.
        workload: WorkloadId,
        /// The new exec's id.
        exec: ExecId,
        /// What to start.
        launch: Box<ExecLaunch>,
    },
    /// The same to many; what is protected is left out.
    Bulk {
        /// What.
        verb: Verb,
        /// To which.
        workloads: Vec<WorkloadId>,
    },
    /// Make a queue, or change it.
    SetQueue {
        /// Whose.
        namespace: Namespace,
        /// Which.
        name: QueueName,
        /// What.
        change: QueueChange,
    },
    /// Forget a queue.
    RemoveQueue {
        /// Whose.
        namespace: Namespace,
        /// Which.
        name: QueueName,
        /// What becomes of the jobs that wait in it.
        waiting: Waiting,
    },
    /// Make a network.
    CreateNetwork(Box<NetworkRecord>),
    /// Forget a network that nobody uses.
    RemoveNetwork(Namespace, NetworkName),
    /// About its schedule.
    Schedule(WorkloadId, ScheduleOrder),
    /// Take no new work, or take work again.
    LameDuck(bool),
    /// Stop everything that runs, for the daemon is going down with its workloads.
    StopAll,
    /// It does not go down after all.
    StayUp,
}

/// What is asked of a live run as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Let all of it stand still.
    Pause,
    /// Let it go on.
    Resume,
    /// Make an image of it.
    Checkpoint(Box<CheckpointOrder>),
}

/// A checkpoint to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointOrder {
    /// Its name.
    pub name: CheckpointName,
    /// The directory for its images, which exists.
    pub images: ByteString,
    /// What it contains.
    pub options: CheckpointOptions,
}

/// What is done to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Stop, and keep stopped.
    Stop,
    /// Send this signal.
    Kill(Signal),
    /// Forget what is not live.
    Remove,
    /// Forget; what is live is killed first.
    RemoveLive,
}

/// What becomes of the jobs that wait in a queue which is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// They keep it from being removed.
    Keep,
    /// Each gets its result: cancelled.
    Cancel,
}

/// What can be asked of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleOrder {
    /// No run starts by itself until it is resumed.
    Pause,
    /// Go on, counted from now.
    Resume,
    /// One run now, beside the plan.
    Fire,
}

/// A creation, verified and normalised by `provision::accept`.
#[derive(Debug, Clone)]
pub struct Create {
    /// Fresh random id.
    pub id: WorkloadId,
    /// Whose.
    pub namespace: Namespace,
    /// What.
    pub spec: Arc<Spec>,
    /// As whom.
    pub identity: Identity,
    /// The caller's idempotency key and the digest of his request.
    pub idempotency: Option<(String, String)>,
    /// The checkpoint that it goes on from, instead of beginning.
    pub restore: Option<Box<Restore>>,
    /// The call of a hook whose command this is; never from a door.
    pub hook_of: Option<Box<HookCall>>,
    /// Why it would have no place in its network, if it would have none now.
    pub unplaced: Option<Problem>,
}

/// A stack, verified and normalised.
#[derive(Debug, Clone)]
pub struct ApplyStack {
    /// Whose.
    pub namespace: Namespace,
    /// Its name.
    pub name: StackName,
    /// Its units, without those that have mistakes.
    pub units: BTreeMap<UnitName, Wanted>,
    /// The queues that it describes, and how many jobs of each run at one time.
    pub queues: BTreeMap<QueueName, u32>,
    /// The networks that it describes: one that is not there as it would be made, one that is there with what the stack
    /// says of it.
    pub networks: Vec<NetworkRecord>,
    /// What is wrong with the others.
    pub mistakes: Vec<Mistake>,
    /// What becomes of those that are as they should be, and not in service.
    pub retry: Retry,
}

/// What the runtime reports. Facts of one run arrive in order; a fact of a run that is over is an echo, not news.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "fields are the ones of hostler-wire's messages")]
pub enum Fact {
    /// The program runs.
    Started { run: RunId, sandbox: SandboxId, pid: u32, started_at_ms: u64 },
    /// The program was never executed, and will not be.
    StartFailed { run: RunId, failure: StartFailure },
    /// The program ended.
    Exited { run: RunId, exit: Exit },
    /// The kernel killed for memory.
    Oom { run: RunId, oom_kills: u64 },
    /// An exec runs.
    ExecStarted { run: RunId, exec: ExecId, pid: u32 },
    /// An exec could not be started.
    ExecFailed { run: RunId, exec: ExecId, failure: StartFailure },
    /// An exec ended.
    ExecExited { run: RunId, exec: ExecId, exit: Exit },
    /// The agent died and left no end behind; what was left of the run is killed.
    AgentLost { run: RunId },
    /// A probe found a run ready.
    Ready { run: RunId },
    /// Probes found a run dead, so often in a row as it may be.
    Unhealthy { run: RunId, reason: String },
    /// A unit's condition was looked at; what of it does not hold.
    ConditionChecked { namespace: Namespace, stack: StackName, unit: UnitName, generation: u32, unmet: Option<String> },
    /// An order was carried out, or why not.
    Ordered { run: RunId, result: Result<(), String> },
    /// New limits are in force, or why not.
    Updated { run: RunId, result: Result<(), String> },
    /// A line of the run's output matches the pattern of this hook of its.
    LineMatched { run: RunId, hook: u8, line: MatchedLine },
    /// The run is over, and all its output was searched.
    LinesRead { run: RunId },
    /// The `hook.fired` of this command is on disk, and has this id.
    HookDue { key: HookKey, event: EventId },
    /// When the daemon came up, this was missing of the run's network.
    NetworkLost { run: RunId, problem: String },
    /// The request of this hook was answered well, or given up.
    HookDelivered { key: HookKey, attempts: u32, result: Result<(), String> },
}

/// A line that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedLine {
    /// Its text without the newline, or the beginning of it.
    pub text: ByteString,
    /// Where the program wrote it.
    pub stream: LogStream,
}

/// A run found when the daemon came up.
#[derive(Debug, Clone)]
pub struct Found {
    /// Which.
    pub run: RunId,
    /// How it stands.
    pub state: FoundState,
    /// Its execs, alive or with an end that was not committed.
    pub execs: Vec<FoundExec>,
}

/// An exec of a found run.
#[derive(Debug, Clone)]
pub struct FoundExec {
    /// Which.
    pub exec: ExecId,
    /// Its process, once the program runs.
    pub pid: Option<u32>,
    /// Its end, unless it is alive.
    pub exit: Option<Exit>,
}

/// How a found run stands.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "fields are the ones of hostler-wire's messages")]
pub enum FoundState {
    /// Its program waits to be executed.
    Prepared,
    /// Its program runs.
    Running { sandbox: SandboxId, pid: u32, started_at_ms: u64, oom_kills: u64, paused: bool },
    /// It ended.
    Ended { exit: Exit },
    /// It could not be started.
    StartFailed { failure: StartFailure },
    /// Nobody knows.
    Lost(LostReason),
}

/// What the runtime is to do. Each is carried out elsewhere and answered by facts.
#[derive(Debug, Clone)]
pub enum Action {
    /// Make everything ready; executes nothing of the user's, so it may overlap the commit.
    Prepare(Arc<Workload>),
    /// Execute what was prepared.
    Execute(RunId),
    /// The same without waiting for the commit of the start, if this permission ([`Queued::ahead`]) is durable.
    /// Early; [`Action::Execute`] of the same run follows after the commit, whatever came of this.
    ///
    /// [`Queued::ahead`]: hostler_model::queue::Queued::ahead
    ExecuteAhead(RunId, u64),
    /// The run is over for us before it really was: undo, or kill, whatever there is of it.
    Discard(RunId),
    /// Signal the main process.
    Signal(RunId, Signal),
    /// Signal an exec.
    SignalExec(RunId, ExecId, Signal),
    /// Kill everything in the run.
    Kill(RunId),
    /// Put these limits in force, beside those that are; answered by [`Fact::Updated`].
    Update(RunId, Box<Limits>),
    /// Carry this out; answered by [`Fact::Ordered`].
    Order(RunId, Order),
    /// Start a second program.
    Exec(RunId, ExecId, Box<ExecLaunch>),
    /// The end is on disk: its directory can go, its agent is free.
    Release(RunId),
    /// The workload is gone: so is its log.
    RemoveLog(WorkloadId),
    /// Look whether the condition of a unit holds; answered by [`Fact::ConditionChecked`].
    CheckCondition {
        /// Whose stack.
        namespace: Namespace,
        /// Which.
        stack: StackName,
        /// Which unit.
        unit: UnitName,
        /// Which version of it.
        generation: u32,
        /// The condition.
        condition: Condition,
    },
    /// This network can be made on the machine. Early, and before whatever is prepared for it: making one executes
    /// nothing of the user's, and one that was never committed is removed by the next daemon.
    AddNetwork(Arc<NetworkRecord>),
    /// The network is gone: undo it.
    RemoveNetwork(NetworkId),
    /// The end of this exec is recorded.
    ReleaseExec(RunId, ExecId),
}

/// News for those who wait, that is not in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An exec could not be started.
    ExecFailed(ExecId, StartFailure),
    /// An exec will never be heard of again: its run is over.
    ExecLost(ExecId),
}

/// Everything that comes of one or more steps.
#[derive(Debug)]
pub struct Outcome {
    /// To be committed before anything below `early` happens.
    pub batch: Batch,
    /// May be carried out at once.
    pub early: Vec<Action>,
    /// After the commit, in order.
    pub actions: Vec<Action>,
    /// After the commit: exactly one for each request.
    pub replies: Vec<(Token, Result<Reply, Problem>)>,
    /// After the commit.
    pub notices: Vec<Notice>,
}

/// The good answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// How the workload now stands.
    Workload(Arc<Workload>),
    /// The exec was sent to this run.
    Exec(RunId),
    /// How many runs were asked to stop.
    Stopping(u32),
    /// How the queue now stands.
    Queue(Arc<QueueRecord>),
    /// How the network now stands.
    Network(Arc<NetworkRecord>),
    /// A queue's waiting jobs were cancelled; it is gone when nothing is left or under way.
    Cancelled {
        /// Still waiting.
        left: usize,
        /// Under way.
        running: usize,
    },
    /// What was done to many.
    Bulk {
        /// To these it was done.
        done: Vec<WorkloadId>,
        /// These are protected.
        protected: Vec<WorkloadId>,
    },
    /// Done, and nothing to show.
    Done,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            batch: Batch { records: Vec::new(), events: Vec::new(), urgency: hostler_model::record::Urgency::Lazy },
            early: Vec::new(),
            actions: Vec::new(),
            replies: Vec::new(),
            notices: Vec::new(),
        }
    }
}

impl Outcome {
    /// Nothing came of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.records.is_empty()
            && self.batch.events.is_empty()
            && self.early.is_empty()
            && self.actions.is_empty()
            && self.replies.is_empty()
            && self.notices.is_empty()
    }
}

/// Why a stop escalation begins; part of the event.
pub(crate) struct StopOrder {
    pub(crate) reason: StopReason,
    pub(crate) signal: Option<Signal>,
    pub(crate) grace_ms: Option<u64>,
}
