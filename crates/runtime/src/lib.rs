//! Carries out what the supervisor decided, on agents, and reports facts. It decides nothing and writes no store.
//!
//! ```text
//!  sandbox:  starting ──hello──► idle ──Prepare──► preparing ──Execute──► running ──► over
//!               │                 ▲ │                  │ Abort                          │ Committed
//!               │ died            │ └─ surplus: Quit   ▼                                ▼
//!               ▼                 └──────────────── releasing ◄─────────────────────────┘
//!             (gone)                                   └─ died, or leaves ─► (gone)
//! ```
//! A request passes [`Runtime`] → `process` (which run is on which agent; one short lock) → `agent` (frames queued)
//! → `link` (one task for each connection); facts come back from the link through the bounded channel given to
//! [`Runtime::start`], those of one run in order.
//!
//! - `process`: the driver, with `spawn` (agent processes) and `remains` (what dead agents leave behind)
//! - `oci`: what is left of containers
//! - `pool`: warm agents; `pool/slots` decides, purely
//! - `link`: one connection, from hello to end
//! - `agent`: what is to be sent to an agent, and who waits for its answers
//! - `attach`: channels with credit in both directions
//! - `adopt`: what is found after a restart of the daemon
//! - `os`: pidfd and cgroup removal
//! - [`microvm`]: virtual machines: how their VMMs are executed and told
//!
//! Bounded: facts by their channel; frames to an agent by bytes (see `agent`); output by the credit granted; waiting
//! runs by the supervisor's limit on live runs; agents being started by a constant.
//!
//! Not here: deadlines of starts and stops, restarts, what a fact means.
#![forbid(unsafe_code)]

mod adopt;
mod agent;
mod attach;
mod guests;
mod link;
pub mod microvm;
mod oci;
mod os;
mod pool;
mod process;
#[cfg(test)]
mod tests;
mod warm;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hostler_linux::cgroup::Parent;
use hostler_model::ByteString;
use hostler_model::exit::Exit;
use hostler_model::ids::{ExecId, RunId, SandboxId, StoreId};
use hostler_model::launch::{CheckpointOptions, ExecLaunch, Launch};
use hostler_model::limits;
use hostler_model::process::Processes;
use hostler_model::spec::{Limits, TtySize};
use hostler_model::units::Signal;
use hostler_model::workload::{LostReason, StartFailure};
use hostler_network::Networks;
use hostler_wire::ToAgent;
use thiserror::Error;
use tokio::sync::mpsc;

use agent::{Agent, Answer};
use process::Shared;

pub use attach::{AttachRequest, Attachment, InputWriter, Output, OutputReader, Role};
pub use guests::GuestSettings;
pub use hostler_wire::{AttachTarget, RunStats, SignalScope, StatsDepth, Stream, StreamOffsets};
pub use warm::{MadeBy, PoolSettings, PoolStand, TakeBack};

/// How long a shutdown waits for idle agents to leave, milliseconds.
const SHUTDOWN_MAX_MS: u64 = 2_000;

/// Where things are, and how many agents to keep.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose agents and runs.
    pub store: StoreId,
    /// The agent binary as installed, `agents/<hash>`; absolute.
    pub agent: PathBuf,
    /// Directory of the sandboxes.
    pub sandboxes: PathBuf,
    /// Directory of the run directories.
    pub runs: PathBuf,
    /// Where agents' complaints go; nowhere when absent.
    pub agent_log: Option<PathBuf>,
    /// What the OCI runtime keeps of containers.
    pub oci_state: PathBuf,
    /// Idle agents kept ready.
    pub idle: usize,
    /// Whether an agent takes more than one run.
    pub reuse: bool,
    /// Where runs get their cgroups.
    pub cgroup: Option<Parent>,
    /// Where containers get their networks.
    pub networks: Networks,
    /// Where guests get what they are made of.
    pub guests: GuestSettings,
    /// Machines kept ready.
    pub pools: Vec<PoolSettings>,
}

/// What happened. Facts of one run arrive in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields are the ones of hostler-wire's messages")]
pub enum Fact {
    /// Ready to be executed.
    Prepared { run: RunId, sandbox: SandboxId },
    /// The program runs.
    Started { run: RunId, sandbox: SandboxId, pid: u32, started_at_ms: u64 },
    /// The program was never executed, and will not be.
    StartFailed { run: RunId, failure: StartFailure },
    /// The program ended.
    Exited { run: RunId, exit: Exit },
    /// A pause, resume or checkpoint was carried out, or why not.
    Ordered { run: RunId, result: Result<(), String> },
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
    /// Killing everything takes longer than it may: these processes are stuck in the kernel.
    Stuck { run: RunId, pids: Vec<u32> },
}

/// Everything found by [`Runtime::adopt`].
#[derive(Debug)]
pub struct Adoption {
    /// Runs of this store.
    pub found: Vec<Found>,
    /// What is not of this store, or makes no sense: left alone.
    pub foreign: Vec<ForeignRun>,
}

/// A run found when the daemon came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub run: RunId,
    /// How it stands.
    pub state: FoundState,
    /// Its execs, alive or with an end that was not committed.
    pub execs: Vec<FoundExec>,
}

/// An exec of a found run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundExec {
    /// Which.
    pub exec: ExecId,
    /// Its process, once the program runs.
    pub pid: Option<u32>,
    /// Its end, unless it is alive.
    pub exit: Option<Exit>,
}

/// How a found run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Nobody knows; nothing of it is left but its directory.
    Lost(LostReason),
}

/// A run or sandbox directory that is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRun {
    /// Where.
    pub path: PathBuf,
    /// Whose, if that can be read.
    pub store: Option<StoreId>,
    /// Why it is not ours, for people.
    pub problem: String,
}

/// Why a question has no answer.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// No agent has this run.
    #[error("run {0} is not running")]
    NotRunning(RunId),
    /// The connection to the agent broke, or the channel was closed.
    #[error("the connection to the run's agent is closed")]
    Closed,
    /// The agent took too long.
    #[error("the run's agent did not answer within {} ms", limits::AGENT_ANSWER_MAX_MS)]
    NoAnswer,
    /// Too many readers.
    #[error("more than {} channels are open to this run", limits::CHANNELS_MAX)]
    TooManyChannels,
    /// We cannot connect to an agent that may be alive.
    #[error("cannot ask the agent of sandbox {0}, which may have a run: {1}")]
    Adopt(SandboxId, std::io::Error),
    /// The agent says no.
    #[error("{0}")]
    Refused(String),
}

/// An attachment that comes with its run.
pub type Ahead = tokio::sync::oneshot::Receiver<Result<Attachment, RuntimeError>>;

/// The handle. Clones share everything.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("watched", &self.watched()).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Starts with no agents; call it within tokio. [`Runtime::adopt`] comes next, then [`Runtime::fill_pool`].
    #[must_use]
    pub fn start(settings: Settings, facts: mpsc::Sender<Fact>) -> Self {
        Self { shared: Shared::new(settings, facts, Box::new(process::spawn::spawn)) }
    }

    /// Finds what an earlier daemon left. Once, before anything else.
    pub async fn adopt(&self) -> Result<Adoption, RuntimeError> {
        adopt::adopt(&self.shared).await
    }

    /// From now on keep idle agents ready.
    pub fn fill_pool(&self) {
        self.shared.fill_pool();
        self.shared.fill_warm();
    }

    /// How the pools of machines stand.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolStand> {
        self.shared.pools()
    }

    /// Does what is asked of a pool of machines. Whether there is one of this name.
    pub fn change_pool(&self, name: &str, change: TakeBack) -> bool {
        self.shared.change_pool(name, change)
    }

    /// The pool that has no room for one more machine like this, if there is such a pool.
    #[must_use]
    pub fn full_pool(&self, vm: &hostler_model::vm::Vm) -> Option<String> {
        self.shared.full_pool(vm)
    }

    /// Makes everything ready for a run, on a warm agent or a new one. Executes nothing of the user's, so it may come
    /// before the commit.
    pub fn prepare(&self, launch: Launch) {
        self.shared.prepare(launch);
    }

    /// The run is committed: execute its program, as soon as it is prepared.
    pub fn execute(&self, run: RunId) {
        self.shared.execute(run);
    }

    /// Undoes a prepare, at any point of it; nothing is reported. A run that was executed is killed, and its end is
    /// reported.
    pub fn abort(&self, run: RunId) {
        self.shared.abort(run);
    }

    /// Sends a signal.
    pub fn signal(&self, run: RunId, signal: Signal, scope: SignalScope) {
        self.shared.signal(run, signal, scope);
    }

    /// Kills everything in the run, started or not. Its end is reported.
    pub fn kill(&self, run: RunId) {
        self.shared.kill(run);
    }

    /// Lets everything in the run stand still. Answered by [`Fact::Ordered`], as are the next two.
    pub fn pause(&self, run: RunId) {
        let deadline_ms = limits::AGENT_ANSWER_MAX_MS;
        self.shared.order(run, deadline_ms, move |request| ToAgent::Pause { request, run });
    }

    /// Lets it go on.
    pub fn resume(&self, run: RunId) {
        let deadline_ms = limits::AGENT_ANSWER_MAX_MS;
        self.shared.order(run, deadline_ms, move |request| ToAgent::Resume { request, run });
    }

    /// Has an image of the run's container made in this directory, which exists.
    pub fn checkpoint(&self, run: RunId, images: ByteString, options: CheckpointOptions) {
        let deadline_ms = limits::OCI_CHECKPOINT_MAX_MS + limits::AGENT_ANSWER_MAX_MS;
        self.shared.order(run, deadline_ms, move |request| ToAgent::Checkpoint { request, run, images, options });
    }

    /// Starts a second program.
    pub fn exec(&self, run: RunId, exec: ExecId, launch: ExecLaunch) {
        self.shared.exec(run, exec, launch);
    }

    /// The end of the run is on disk: everything of it can go. For a run of this store whose agent is gone the
    /// runtime itself removes run directory, cgroup and sandbox.
    pub fn committed(&self, run: RunId) {
        self.shared.committed(run);
    }

    /// The end of the exec is on disk.
    pub fn exec_committed(&self, run: RunId, exec: ExecId) {
        if let Some(agent) = self.shared.agent_now(run).filter(|agent| agent.version() >= 2) {
            agent.send(&ToAgent::ExecCommitted { exec });
        }
    }

    /// Sets a terminal's size.
    pub fn resize(&self, run: RunId, target: AttachTarget, size: TtySize) {
        if let Some(agent) = self.shared.agent_now(run) {
            agent.send(&ToAgent::Resize { target, size });
        }
    }

    /// What the run uses now.
    pub async fn stats(&self, run: RunId, depth: StatsDepth) -> Result<RunStats, RuntimeError> {
        self.look(run, |request| ToAgent::Stats { request, sample: false, depth }).await
    }

    /// The same as one of the samples that the end of the run tells the sum of.
    pub async fn sample(&self, run: RunId) -> Result<RunStats, RuntimeError> {
        self.look(run, |request| ToAgent::Stats { request, sample: true, depth: StatsDepth::Usual }).await
    }

    async fn look(&self, run: RunId, question: impl FnOnce(u64) -> ToAgent) -> Result<RunStats, RuntimeError> {
        let agent = self.shared.agent_now(run).ok_or(RuntimeError::NotRunning(run))?;
        match ask(&agent, question).await? {
            Answer::Stats(stats) => Ok(stats),
            other => Err(out_of_place(&other)),
        }
    }

    /// The processes of the run.
    pub async fn processes(&self, run: RunId) -> Result<Processes, RuntimeError> {
        let agent = self.shared.agent_now(run).ok_or(RuntimeError::NotRunning(run))?;
        if agent.version() < 3 {
            return Err(older_agent("how to list its processes"));
        }
        match ask(&agent, |request| ToAgent::Processes { request }).await? {
            Answer::Processes(list) => Ok(list),
            other => Err(out_of_place(&other)),
        }
    }

    /// Sends a signal to one of the run's processes, by its number on the machine.
    pub async fn signal_process(&self, run: RunId, pid: u32, signal: Signal) -> Result<(), RuntimeError> {
        let agent = self.shared.agent_now(run).ok_or(RuntimeError::NotRunning(run))?;
        if agent.version() < 3 {
            return Err(older_agent("how to signal one of its processes"));
        }
        done(ask(&agent, |request| ToAgent::SignalProcess { request, pid, signal }).await?)
    }

    /// Puts limits in force, beside those that are.
    pub async fn update(&self, run: RunId, limits: Box<Limits>) -> Result<(), RuntimeError> {
        let agent = self.shared.agent_now(run).ok_or(RuntimeError::NotRunning(run))?;
        if limits.has_more() && agent.version() < 3 {
            return Err(older_agent("these limits"));
        }
        done(ask(&agent, |request| ToAgent::Update { request, limits }).await?)
    }

    /// An exec in a container is about to be asked for: what the kernel makes it wait for begins now.
    pub fn expect_exec(&self) {
        self.shared.expect_moves();
    }

    /// Opens a channel to the streams of a run or an exec. Waits while the run's agent is being started.
    pub async fn attach(&self, run: RunId, request: AttachRequest) -> Result<Attachment, RuntimeError> {
        self.shared.attach(run, request).await
    }

    /// Opens a channel to a run that is about to be prepared: it is open before the program can be executed, however
    /// short that is. The answer comes with the preparation; drop it when that will not come.
    #[must_use]
    pub fn attach_ahead(&self, run: RunId, request: AttachRequest) -> Ahead {
        self.shared.attach_ahead(run, request)
    }

    /// Agents that are ready for a run.
    #[must_use]
    pub fn idle_agents(&self) -> usize {
        self.shared.state().slots.idle()
    }

    /// Agents connected, or being started.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.shared.state().agents.len()
    }

    /// Lets agents without a run go, those that are just being started and those whose machines wait too; leaves agents with
    /// runs to themselves, and closes all connections.
    pub async fn shutdown(&self) {
        let leaving = {
            let mut state = self.shared.state();
            state.closing = true;
            let mut leaving = state.slots.close();
            let waiting = state.warm.without_run();
            leaving.extend(&waiting);
            for agent in leaving.iter().filter_map(|sandbox| state.agents.get(sandbox)) {
                agent.send(&ToAgent::Quit);
            }
            let mut unbound = state.slots.unbound();
            unbound.extend(waiting);
            unbound
        };
        let all_left = async {
            loop {
                let gone = self.shared.one_gone.notified();
                tokio::pin!(gone);
                gone.as_mut().enable();
                if !leaving.iter().any(|sandbox| self.shared.state().agents.contains_key(sandbox)) {
                    return;
                }
                gone.await;
            }
        };
        // Those who do not leave in time find their connection closed, and leave then.
        let _ = tokio::time::timeout(Duration::from_millis(SHUTDOWN_MAX_MS), all_left).await;
        let agents: Vec<_> = self.shared.state().agents.drain().map(|(_, agent)| agent).collect();
        for agent in agents {
            agent.hang_up();
        }
    }
}

/// Asks an agent something, with a deadline.
async fn ask(agent: &Arc<Agent>, question: impl FnOnce(u64) -> ToAgent) -> Result<Answer, RuntimeError> {
    let (request, answer) = agent.ask(question);
    match tokio::time::timeout(Duration::from_millis(limits::AGENT_ANSWER_MAX_MS), answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(RuntimeError::Closed),
        Err(_) => {
            agent.forget(request);
            Err(RuntimeError::NoAnswer)
        }
    }
}

fn done(answer: Answer) -> Result<(), RuntimeError> {
    match answer {
        Answer::Done(None) => Ok(()),
        other => Err(out_of_place(&other)),
    }
}

/// An answer to another question than ours; an agent that does not know a question may say why.
fn out_of_place(answer: &Answer) -> RuntimeError {
    match answer {
        Answer::Done(Some(error)) => RuntimeError::Refused(error.clone()),
        _ => RuntimeError::Refused("the agent answered another question".to_owned()),
    }
}

/// An agent keeps its program for as long as its run lives, however often the daemon is upgraded meanwhile.
fn older_agent(what: &str) -> RuntimeError {
    RuntimeError::Refused(format!("the run has an agent of an older build, which does not know {what}; restart it"))
}
