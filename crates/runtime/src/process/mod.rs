//! The driver of runtime `process`: which run is on which agent, and what is sent to it.
//!
//! ```text
//!             take() finds one, or ready() later         Execute          Started
//!   waiting ───────────────────────────► preparing ─────────► executing ─────────► running
//!      │ abort, kill                        │ abort               │ StartFailed       │ Exited, agent lost
//!      ▼                                    ▼                     ▼                   ▼
//!   (forgotten)                        (forgotten)               over ◄───────────────┘
//!                                                                 │ committed → forgotten
//! ```
//! - `guested`: a machine for its guest, likewise
//! - `networked`: a place in a network, before there is an agent
//! - `heard`: what agents say, and the facts it comes to
//! - [`spawn`]: making an agent process, and its end
//! - [`remains`]: what is left of a run whose agent is gone
//!
//! One short lock guards slots and runs. Actions take it, encode frames into the agent's buffer and return; no I/O
//! happens under it. Not here: deadlines, restarts, what comes of an end.

mod guested;
mod heard;
mod networked;
pub(crate) mod remains;
pub(crate) mod spawn;

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hostler_model::ids::{ExecId, RunId, SandboxId};
use hostler_model::launch::{ExecLaunch, Launch};
use hostler_model::limits;
use hostler_model::units::Signal;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::{SignalScope, ToAgent};
use tokio::sync::{mpsc, oneshot};

use crate::agent::Agent;
use crate::guests::Guests;
use crate::link;
use crate::pool::slots::Slots;
use crate::warm::Pools;
use crate::{Ahead, AttachRequest, Attachment, Fact, RuntimeError, Settings, attach};
use spawn::{Process, SpawnError};

/// Signals kept for a run that waits for its agent; more than these have no more to say.
const SIGNALS_WAITING_MAX: usize = 8;

/// The version of the protocol that brought pause, resume and checkpoint.
const ORDERS_SINCE: u16 = 3;

/// Makes an agent; blocks.
pub(crate) type Spawner = Box<dyn Fn(&Settings, SandboxId) -> Result<(UnixStream, Process), SpawnError> + Send + Sync>;

/// What all parts of the runtime share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) guests: Guests,
    pub(crate) facts: mpsc::Sender<Fact>,
    pub(crate) handle: tokio::runtime::Handle,
    /// Fires when an agent is gone, for those who wait for all of them.
    pub(crate) one_gone: tokio::sync::Notify,
    /// [`spawn::spawn`]; tests put their own agents here.
    pub(crate) spawner: Spawner,
    began: Instant,
    /// The kernel's wait before a process is moved is being waited for.
    moving: AtomicBool,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) slots: Slots,
    pub(crate) agents: HashMap<SandboxId, Arc<Agent>>,
    runs: HashMap<RunId, Entry>,
    /// Owners of runs that are about to be prepared.
    ahead: HashMap<RunId, Attaching>,
    pub(crate) trimming: bool,
    /// Machines that wait.
    pub(crate) warm: Pools,
    /// The daemon goes down: nothing more is made.
    pub(crate) closing: bool,
    /// Agents with something queued that goes with the next message, or soon.
    pub(crate) unflushed: Vec<Arc<Agent>>,
}

struct Entry {
    at: At,
    step: Step,
    killed: bool,
    /// Its agent said that nothing is left of it.
    clean: bool,
}

impl Entry {
    fn new(at: At, step: Step) -> Self {
        Self { at, step, killed: false, clean: false }
    }
}

/// Whether all that an agent does for this program is to execute it: then there is nothing to prepare ahead.
fn is_plain(launch: &Launch) -> bool {
    let Launch { cgroup, container, vm, stdio, program, .. } = launch;
    let own = hostler_linux::process::effective_uid();
    let files = [&stdio.stdin, &stdio.stdout, &stdio.stderr];
    cgroup.is_none()
        && container.is_none()
        && vm.is_none()
        && program.confinement.is_none()
        && stdio.tty.is_none()
        && files.iter().all(|file| file.is_none())
        && program.identity.as_ref().is_none_or(|identity| identity.uid == own)
}

/// An agent of an older build would pass over what it does not know, and run the program with all its rights.
fn is_too_old(agent: &Agent, launch: &Launch) -> bool {
    let confines = launch.program.confinement.is_some() || launch.container.is_some();
    (confines && agent.version() < PROTOCOL_CONFINEMENT) || (launch.vm.is_some() && agent.version() < PROTOCOL_GUESTS)
}

/// From this version on agents know of confinement and of containers.
const PROTOCOL_CONFINEMENT: u16 = 3;

/// From this version on they know of guests.
const PROTOCOL_GUESTS: u16 = 4;

fn too_old() -> StartFailure {
    failure(
        StartFailureKind::Isolation,
        "the agent that took the run is of an older build, which cannot isolate, or make containers or guests; start it again",
    )
}

enum At {
    Waiting(Box<Waiting>),
    Agent(Arc<Agent>),
    /// The agent is gone; the run directory may be left.
    Nowhere,
}

struct Waiting {
    launch: Launch,
    signals: Vec<(Signal, SignalScope)>,
    attach: Vec<Attaching>,
}

/// Somebody who wants the streams of a run that has no agent yet.
struct Attaching {
    request: AttachRequest,
    answer: oneshot::Sender<Result<Attachment, RuntimeError>>,
}

impl Attaching {
    /// Between the run's `Prepare` and its `Execute`, so that nothing the program does is missed.
    fn to(self, agent: &Arc<Agent>) {
        // He may have given up waiting.
        if !self.answer.is_closed() {
            let _ = self.answer.send(attach::to(agent, self.request));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Preparing,
    Executing,
    Running,
    Over,
}

fn failure(kind: StartFailureKind, message: &str) -> StartFailure {
    StartFailure { kind, message: message.to_owned() }
}

impl Shared {
    pub(crate) fn new(settings: Settings, facts: mpsc::Sender<Fact>, spawner: Spawner) -> Arc<Self> {
        let state = State {
            slots: Slots::new(settings.idle, settings.reuse),
            agents: HashMap::new(),
            runs: HashMap::new(),
            ahead: HashMap::new(),
            trimming: false,
            warm: Pools::new(&settings.pools),
            closing: false,
            unflushed: Vec::new(),
        };
        Arc::new(Self {
            guests: Guests::new(settings.guests.clone(), settings.agent.clone()),
            settings,
            facts,
            handle: tokio::runtime::Handle::current(),
            one_gone: tokio::sync::Notify::new(),
            spawner,
            began: Instant::now(),
            moving: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Reports from a place that must not wait.
    fn report(self: &Arc<Self>, fact: Fact) {
        if let Err(mpsc::error::TrySendError::Full(fact)) = self.facts.try_send(fact) {
            let facts = self.facts.clone();
            self.handle.spawn(async move { facts.send(fact).await });
        }
    }

    /// Starts as many agents as the slots ask for.
    pub(crate) fn start_agents(self: &Arc<Self>, state: &mut State) {
        for _ in 0..state.slots.to_start() {
            let agent = Agent::new(spawn::new_sandbox_id(|id| state.agents.contains_key(&id)));
            state.slots.started(agent.sandbox);
            state.agents.insert(agent.sandbox, Arc::clone(&agent));
            self.handle.spawn(link::run_spawned(Arc::clone(self), agent));
        }
    }

    // ---- actions ----

    /// An OCI runtime is about to be called, and it will move a process.
    pub(crate) fn expect_moves(self: &Arc<Self>) {
        if self.settings.cgroup.is_none() || self.moving.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(self);
        self.handle.spawn_blocking(move || {
            // Where it does not work, the OCI runtime waits itself.
            let _ = hostler_linux::cgroup::expect_moves();
            shared.moving.store(false, Ordering::Relaxed);
        });
    }

    pub(crate) fn prepare(self: &Arc<Self>, launch: Launch) {
        if launch.container.is_some() {
            self.expect_moves();
        }
        if launch.vm.is_some() {
            return self.plan_guest(launch);
        }
        self.place_in_network(launch);
    }

    /// Its network is there, if it has one: it gets its agent.
    fn prepare_placed(self: &Arc<Self>, launch: Launch) {
        let run = launch.run;
        let now_ms = self.now_ms();
        let mut state = self.state();
        if state.runs.contains_key(&run) {
            tracing::error!(%run, "prepare for a run that exists already; ignored");
            return;
        }
        let owner = state.ahead.remove(&run);
        let agent = state.slots.take(run, &launch.namespace, now_ms).and_then(|id| state.agents.get(&id).cloned());
        let at = match agent {
            Some(agent) if is_too_old(&agent, &launch) => return self.refuse_old(run, &agent, &mut state),
            Some(agent) => {
                let with_execute = is_plain(&launch);
                let prepare = ToAgent::Prepare { launch: Box::new(launch) };
                if with_execute {
                    agent.send_with_next(&prepare)
                } else {
                    agent.send(&prepare)
                }
                if let Some(owner) = owner {
                    owner.to(&agent);
                }
                At::Agent(agent)
            }
            None => {
                let attach = owner.into_iter().collect();
                At::Waiting(Box::new(Waiting { launch, signals: Vec::new(), attach }))
            }
        };
        state.runs.insert(run, Entry::new(at, Step::Preparing));
        self.start_agents(&mut state);
    }

    /// The run has failed, and the agent leaves.
    fn refuse_old(self: &Arc<Self>, run: RunId, agent: &Arc<Agent>, state: &mut State) {
        state.slots.release(agent.sandbox);
        agent.send(&ToAgent::Quit);
        state.runs.insert(run, Entry::new(At::Nowhere, Step::Over));
        self.report(Fact::StartFailed { run, failure: too_old() });
    }

    pub(crate) fn execute(&self, run: RunId) {
        let mut state = self.state();
        let Some(entry) = state.runs.get_mut(&run).filter(|entry| entry.step == Step::Preparing) else { return };
        entry.step = Step::Executing;
        if let At::Agent(agent) = &entry.at {
            agent.send(&ToAgent::Execute { run });
        }
    }

    pub(crate) fn abort(self: &Arc<Self>, run: RunId) {
        let mut state = self.state();
        state.warm.release(run);
        let Some(entry) = state.runs.get(&run) else { return };
        match (&entry.at, entry.step) {
            (At::Waiting(waiting), _) => {
                let is_guest = waiting.launch.vm.is_some();
                state.slots.cancel(run);
                state.runs.remove(&run);
                self.settings.networks.release(run);
                if is_guest {
                    self.forget_guest(run);
                }
            }
            (At::Agent(agent), Step::Preparing) => {
                agent.send(&ToAgent::Abort { run });
                let sandbox = agent.sandbox;
                state.slots.release(sandbox);
                state.runs.remove(&run);
                self.settings.networks.abandon(run);
            }
            // It may run by now, so there will be an end to tell.
            (At::Agent(_), _) => {
                drop(state);
                self.kill(run);
            }
            (At::Nowhere, _) => {}
        }
    }

    pub(crate) fn signal(&self, run: RunId, signal: Signal, scope: SignalScope) {
        let mut state = self.state();
        let Some(entry) = state.runs.get_mut(&run).filter(|entry| entry.step != Step::Over) else { return };
        match &mut entry.at {
            At::Waiting(waiting) if waiting.signals.len() < SIGNALS_WAITING_MAX => {
                waiting.signals.push((signal, scope))
            }
            At::Agent(agent) => agent.send(&ToAgent::Signal { signal, scope }),
            At::Waiting(_) | At::Nowhere => {}
        }
    }

    pub(crate) fn kill(self: &Arc<Self>, run: RunId) {
        let mut state = self.state();
        let Some(entry) = state.runs.get_mut(&run).filter(|entry| entry.step != Step::Over) else { return };
        entry.killed = true;
        match &entry.at {
            At::Waiting(waiting) => {
                if waiting.launch.vm.is_some() {
                    self.forget_guest(run);
                }
                entry.at = At::Nowhere;
                entry.step = Step::Over;
                state.slots.cancel(run);
                let failure = failure(StartFailureKind::Cancelled, "killed before it was started");
                self.report(Fact::StartFailed { run, failure });
            }
            At::Agent(agent) => {
                agent.send(&ToAgent::Kill { run });
                if entry.step < Step::Running {
                    self.expect_an_end(run, Arc::clone(agent));
                }
            }
            At::Nowhere => {}
        }
    }

    /// An agent stands still while a plain program is executed; should its path hang, the agent hangs with it.
    fn expect_an_end(self: &Arc<Self>, run: RunId, agent: Arc<Agent>) {
        let shared = Arc::downgrade(self);
        self.handle.spawn(async move {
            tokio::time::sleep(Duration::from_millis(limits::KILL_MAX_MS)).await;
            let Some(shared) = shared.upgrade() else { return };
            if shared.state().entry_on(run, &agent).is_some_and(|entry| entry.step < Step::Running) {
                tracing::warn!(%run, sandbox = %agent.sandbox, "the agent does not end a run that it has not started");
                agent.give_up();
            }
        });
    }

    /// Something that is done to a run; its result is a fact of the run, in its place among the others.
    pub(crate) fn order(
        self: &Arc<Self>,
        run: RunId,
        deadline_ms: u64,
        question: impl FnOnce(u64) -> ToAgent + Send + 'static,
    ) {
        let failed = |why: &str| Fact::Ordered { run, result: Err(why.to_owned()) };
        let Some(agent) = self.agent_now(run) else { return self.report(failed("the run is not running")) };
        if agent.version() < ORDERS_SINCE {
            return self.report(failed("the run's agent is of an older build that cannot do it"));
        }
        let (request, answer) = agent.ask_for(Some(run), question);
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            let why = match tokio::time::timeout(Duration::from_millis(deadline_ms), answer).await {
                // Reported already.
                Ok(Ok(_)) => return,
                Ok(Err(_)) => "the connection to the run's agent broke",
                Err(_) => "the run's agent did not answer in time",
            };
            agent.forget(request);
            let fact = Fact::Ordered { run, result: Err(why.to_owned()) };
            let _ = shared.facts.send(fact).await;
        });
    }

    pub(crate) fn exec(self: &Arc<Self>, run: RunId, exec: ExecId, launch: ExecLaunch) {
        let state = self.state();
        match state.runs.get(&run) {
            Some(Entry { at: At::Agent(agent), step: Step::Executing | Step::Running, .. }) => {
                agent.send(&ToAgent::Exec { exec, launch: Box::new(launch) });
            }
            _ => {
                let failure = failure(StartFailureKind::Sandbox, "the run is not running");
                self.report(Fact::ExecFailed { run, exec, failure });
            }
        }
    }

    pub(crate) fn committed(self: &Arc<Self>, run: RunId) {
        // Whatever is left of it, nobody else has its place before that is gone.
        self.settings.networks.release(run);
        let mut state = self.state();
        state.warm.release(run);
        let entry = state.runs.get(&run);
        if let Some(Entry { at: At::Agent(agent), step, clean, .. }) = entry {
            if *step != Step::Over {
                tracing::warn!(%run, "committed as over while it is not: killing it");
                drop(state);
                self.kill(run);
                return;
            }
            let (agent, clean) = (Arc::clone(agent), *clean);
            let reuse = state.slots.release(agent.sandbox);
            // Somebody who began to read since then is served first.
            let assume_idle = reuse && clean && !agent.has_channels();
            let committed = ToAgent::Committed { run, reuse, assume_idle };
            state.runs.remove(&run);
            if assume_idle {
                // Under load its next run is not far: then both come in one piece.
                agent.had(run);
                agent.send_with_next(&committed);
                self.can_take_one(&agent, &mut state);
                self.flush_later(&agent, &mut state);
            } else {
                agent.send(&committed);
            }
            return;
        }
        state.slots.cancel(run);
        state.runs.remove(&run);
        drop(state);
        let shared = Arc::clone(self);
        self.handle.spawn_blocking(move || remains::remove(&shared.settings, run));
    }

    // ---- questions ----

    /// Opens a channel to the streams of a run; waits for one whose agent is being started.
    pub(crate) async fn attach(&self, run: RunId, request: AttachRequest) -> Result<Attachment, RuntimeError> {
        let waiting = {
            let mut state = self.state();
            match state.runs.get_mut(&run) {
                // Under the lock: a moment later the agent may have another run.
                Some(Entry { at: At::Agent(agent), .. }) => return attach::to(agent, request),
                Some(Entry { at: At::Waiting(waiting), .. }) => {
                    waiting.attach.retain(|attaching| !attaching.answer.is_closed());
                    if waiting.attach.len() >= limits::CHANNELS_MAX {
                        return Err(RuntimeError::TooManyChannels);
                    }
                    let (answer, receiver) = oneshot::channel();
                    waiting.attach.push(Attaching { request, answer });
                    receiver
                }
                _ => return Err(RuntimeError::NotRunning(run)),
            }
        };
        let deadline = std::time::Duration::from_millis(limits::AGENT_ANSWER_MAX_MS);
        match tokio::time::timeout(deadline, waiting).await {
            Ok(Ok(attached)) => attached,
            Ok(Err(_)) => Err(RuntimeError::NotRunning(run)),
            Err(_) => Err(RuntimeError::NoAnswer),
        }
    }

    /// Has the streams of a run attached with its preparation, which is still to come.
    pub(crate) fn attach_ahead(&self, run: RunId, request: AttachRequest) -> Ahead {
        let (answer, receiver) = oneshot::channel();
        let attaching = Attaching { request, answer };
        let mut state = self.state();
        state.ahead.retain(|_, attaching| !attaching.answer.is_closed());
        match state.runs.get_mut(&run).map(|entry| &mut entry.at) {
            // Prepared already: it was quicker.
            Some(At::Agent(agent)) => attaching.to(&Arc::clone(agent)),
            Some(At::Waiting(waiting)) => waiting.attach.push(attaching),
            Some(_) => {}
            None => {
                state.ahead.insert(run, attaching);
            }
        }
        receiver
    }

    /// The agent that has the run, for a question that makes no sense before there is one.
    pub(crate) fn agent_now(&self, run: RunId) -> Option<Arc<Agent>> {
        match self.state().runs.get(&run)? {
            Entry { at: At::Agent(agent), .. } => Some(Arc::clone(agent)),
            _ => None,
        }
    }
}

impl State {
    fn entry_on(&self, run: RunId, agent: &Arc<Agent>) -> Option<&Entry> {
        self.runs.get(&run).filter(|entry| matches!(&entry.at, At::Agent(on) if Arc::ptr_eq(on, agent)))
    }

    fn entry_on_mut(&mut self, run: RunId, agent: &Arc<Agent>) -> Option<&mut Entry> {
        self.runs.get_mut(&run).filter(|entry| matches!(&entry.at, At::Agent(on) if Arc::ptr_eq(on, agent)))
    }

    /// Whether that agent must not have a run that waits.
    fn is_too_old_for(&self, run: RunId, agent: &Agent) -> bool {
        match self.runs.get(&run).map(|entry| &entry.at) {
            Some(At::Waiting(waiting)) => is_too_old(agent, &waiting.launch),
            _ => false,
        }
    }

    /// A waiting run got its agent: everything that was asked of it meanwhile is sent in one piece.
    fn bind(&mut self, run: RunId, agent: &Arc<Agent>) {
        let entry = self.runs.get_mut(&run).expect("only known runs wait");
        let At::Waiting(waiting) = std::mem::replace(&mut entry.at, At::Agent(Arc::clone(agent))) else {
            unreachable!("only waiting runs are bound")
        };
        agent.send(&ToAgent::Prepare { launch: Box::new(waiting.launch) });
        for attaching in waiting.attach {
            attaching.to(agent);
        }
        if entry.step == Step::Executing {
            agent.send(&ToAgent::Execute { run });
        }
        for (signal, scope) in waiting.signals {
            agent.send(&ToAgent::Signal { signal, scope });
        }
    }
}
