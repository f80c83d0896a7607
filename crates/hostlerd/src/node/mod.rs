//! The node: one task decides, the store's writer commits, one task publishes what was committed.
//!
//! ```text
//!  doors ── request ──► decider ── batch ──► store writer ── done ──► publisher ──► view, replies, waiters
//!  runtime ── fact ───►   │ State::step                                   └───────► runtime (actions)
//!                         └── early actions ──► runtime
//! ```
//! The decider never waits for a disk; the publisher keeps the order of commits. What readers see ([`View`]) is only
//! ever what was committed. When a commit fails, nothing in memory can be trusted any more: the daemon replaces itself
//! by a fresh one ([`Failure`]), which replays the store and adopts what runs.
//!
//! - [`view`]: the committed state for readers, and those who wait for it to change
//! - `decider`: the loop around `State::step`, woken by its `alarm`
//! - `stacks`: the part of the view that is about stacks
//! - `publisher`: what happens after a commit
//! - `permissions`: which jobs may be executed before their start is committed

mod alarm;
mod decider;
pub(crate) mod measure;
mod permissions;
mod publisher;
mod stacks;
pub mod view;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hostler_api::paths::Layout;
use hostler_api::stacks::BrokenFile;
use hostler_linux::{clock, daemon};
use hostler_model::config::Config;
use hostler_model::hook::HookCall;
use hostler_model::ids::WorkloadId;
use hostler_model::{Now, Problem, ProblemKind, limits};
use hostler_provision::{Scope, Users};
use hostler_runtime::Runtime;
use hostler_store::{Loaded, Reader, Store};
use hostler_supervisor::input::Reply;
use hostler_supervisor::{Fact, Found, FoundExec, FoundState, Input, Records, Request, Settings, State};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::checkpoints::Checkpoints;
use crate::doctor;
use crate::hooks::News;
use crate::metrics::Metrics;
use crate::networks::NetworkRoom;
use crate::oci::OciRuntimes;
use crate::probes::{Prober, Tools};
use crate::sampling::Sampling;
use decider::{Decider, Launcher};
pub use view::View;

/// Why the daemon cannot go on with what it has in memory.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The store's own words.
    pub what: String,
    /// The disk is full: give up the ballast.
    pub no_space: bool,
}

/// Without one of its two tasks a node is none: when one panics, the daemon is replaced by a fresh one.
pub(crate) struct DiesAlone {
    pub(crate) what: &'static str,
    pub(crate) failure: watch::Sender<Option<Failure>>,
}

impl Drop for DiesAlone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = format!("{} panicked: this is a defect of hostlerd", self.what);
            self.failure.send_replace(Some(Failure { what, no_space: false }));
        }
    }
}

/// Everything the doors need. Cheap to clone through its `Arc`.
pub struct Node {
    inputs: mpsc::Sender<Message>,
    /// What was committed.
    pub view: Arc<View>,
    /// Committed events.
    pub events: Reader,
    /// Carries out; answers questions about live runs.
    pub runtime: Runtime,
    /// Timers and counts.
    pub metrics: Arc<Metrics>,
    /// Statistics at an interval.
    pub sampling: Arc<Sampling>,
    /// Users of this machine.
    pub users: Users,
    /// Startup files that cannot be used.
    pub broken: std::sync::Mutex<Vec<BrokenFile>>,
    /// Where everything is.
    pub layout: Layout,
    /// The configuration in force.
    pub config: Config,
    /// What the store says of itself.
    pub meta: hostler_store::Meta,
    /// Sandboxes and runs that are not ours, for `doctor`.
    pub foreign: Vec<hostler_runtime::ForeignRun>,
    /// Networks on this machine.
    pub(crate) networks: Arc<NetworkRoom>,
    /// By what containers are made.
    pub oci: Arc<OciRuntimes>,
    /// What this node can limit.
    pub cgroup: Option<hostler_linux::cgroup::Parent>,
    /// When the daemon started, wall clock, milliseconds.
    pub started_at_ms: u64,
    /// Who the daemon runs as.
    pub uid: u32,
    down: watch::Sender<bool>,
    disk: Disk,
}

#[derive(Default)]
struct Disk {
    checked_at_ms: AtomicU64,
    full: AtomicBool,
    /// It became full, or has room again.
    changed: Notify,
}

/// What the decider receives.
pub(crate) enum Message {
    /// Somebody asks.
    Request(Request, oneshot::Sender<Result<Reply, Problem>>),
    /// Anything else that can happen.
    Input(Input),
    /// Commit what is under way, close the store, and end.
    Close,
}

/// What [`start`] gives back besides the node.
pub struct Handles {
    /// Says why, when the daemon has to be replaced.
    pub failure: watch::Receiver<Option<Failure>>,
    /// Becomes true when somebody asked the daemon to go down.
    pub down: watch::Receiver<bool>,
    /// Ends when the store is closed, after [`Node::close`].
    pub closed: tokio::task::JoinHandle<()>,
    /// Calls of hooks that the last daemon left.
    pub calls: Vec<HookCall>,
    /// What was committed since, for hooks. Unbounded, but its reader waits for nothing.
    pub(crate) news: mpsc::UnboundedReceiver<News>,
}

/// What a node is made of.
pub struct Parts {
    /// The open store.
    pub store: Store,
    /// What was in it.
    pub loaded: Loaded,
    /// Started, not yet adopted.
    pub runtime: Runtime,
    /// Its facts.
    pub facts: mpsc::Receiver<hostler_runtime::Fact>,
    /// Paths.
    pub layout: Layout,
    /// Configuration.
    pub config: Config,
    /// The networks of the machine, not yet adopted.
    pub(crate) networks: NetworkRoom,
    /// What can be limited.
    pub cgroup: Option<hostler_linux::cgroup::Parent>,
    /// Who we are.
    pub uid: u32,
    /// The boot we are in.
    pub boot_id: String,
    /// Tells of news in logs.
    pub(crate) watcher: crate::logs::Watcher,
    /// Where probes run.
    pub(crate) doors: tokio::runtime::Handle,
}

/// Why a node does not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot be told what runs.
    #[error("asking what runs")]
    Runtime(#[from] hostler_runtime::RuntimeError),
    /// The kernel gives no timers.
    #[error("making the timers that wake the daemon")]
    Alarm(#[from] std::io::Error),
}

/// Adopts what runs, sets decider and publisher going, and is back when what was found is on disk: the first answer
/// already tells what became of everything meanwhile.
///
/// Fails when it cannot be told what runs; then nothing was decided.
pub async fn start(parts: Parts) -> Result<(Arc<Node>, Handles), StartError> {
    let Parts { store, loaded, runtime, facts, layout, config, networks, cgroup, uid, boot_id, watcher, doors } = parts;
    let meta = loaded.meta.clone();
    let calls = loaded.hook_calls.clone();
    let oci = Arc::new(OciRuntimes::new(config.oci.clone(), layout.oci_state()));
    let state = load(&config, loaded);
    know_runtimes(&oci, &state);
    let view = Arc::new(View::new(&state, store.reader().last_sequence()));
    let metrics = Arc::new(Metrics::new());
    let sampling = sampling_of(&view);
    let adoption = runtime.adopt().await?;
    let networks = Arc::new(networks);
    let broken = adopt_networks(&networks, &state, &adoption).await;
    crate::failpoint::hit("adopted");
    let (inputs, input_receiver) = mpsc::channel(limits::SUPERVISOR_QUEUE);
    let (failure_sender, failure) = watch::channel(None);
    let before = store.reader().last_sequence();
    let (down, down_receiver) = watch::channel(false);
    let events = store.reader();
    let tools = tools(&runtime, &inputs, uid, &view, watcher, &layout);
    let prober = prober(&doors, &state, tools);
    let (hooks, news) = mpsc::unbounded_channel();
    let publisher = publisher::Publisher {
        hooks,
        view: view.clone(),
        prober: prober.clone(),
        runtime: runtime.clone(),
        inputs: inputs.downgrade(),
        metrics: metrics.clone(),
        sampling: sampling.clone(),
        networks: networks.clone(),
        logs: layout.logs(),
        failure: failure_sender.clone(),
    };
    let (published, publish_receiver) = mpsc::unbounded_channel();
    tokio::spawn(publisher.run(publish_receiver));
    let launcher = launcher(&layout, uid, &oci, &networks);
    let decider = Decider::new(state, store, published, runtime.clone(), prober, launcher, failure_sender)?;
    let adopted = adopted(adoption.found, boot_id);
    // Before anything is decided: on a full disk ends are recorded, and nothing is begun.
    let full = daemon::free_bytes(&layout.data).is_ok_and(|free| free < config.node.free_space_min_bytes);
    let first = [Input::DiskFull(full), adopted].into_iter().chain(broken).collect();
    let closed = tokio::spawn(decider.run(input_receiver, facts, first));
    until_published(&view, before, failure.clone()).await;
    begin(&runtime, &networks, &layout);
    tokio::spawn(sampling.clone().run(runtime.clone(), down.subscribe()));

    let node = Node {
        inputs,
        view,
        events,
        runtime,
        metrics,
        sampling,
        users: Users::default(),
        broken: std::sync::Mutex::default(),
        layout,
        config,
        meta,
        foreign: adoption.foreign,
        networks,
        oci,
        cgroup,
        started_at_ms: clock::wall_ms(),
        uid,
        down,
        disk: Disk { full: AtomicBool::new(full), ..Disk::default() },
    };
    Ok((Arc::new(node), Handles { failure, down: down_receiver, closed, calls, news }))
}

fn launcher(layout: &Layout, uid: u32, oci: &Arc<OciRuntimes>, networks: &Arc<NetworkRoom>) -> Launcher {
    let (oci, networks) = (oci.clone(), networks.clone());
    Launcher { places: crate::isolation::places(layout), may_change_user: uid == 0, oci, networks }
}

/// Networks as they were; what of them is missing for runs that live.
async fn adopt_networks(networks: &NetworkRoom, state: &State, found: &hostler_runtime::Adoption) -> Vec<Input> {
    use hostler_runtime::FoundState;
    let lives =
        |found: &&hostler_runtime::Found| matches!(found.state, FoundState::Running { .. } | FoundState::Prepared);
    let live = found.found.iter().filter(lives).map(|found| found.run).collect();
    let records = state.networks().values().map(|record| record.as_ref().clone()).collect();
    let adopted = networks.adopt(records, live).await;
    let lost = adopted.broken.into_iter().map(|(run, problem)| Input::Fact(Fact::NetworkLost { run, problem }));
    lost.collect()
}

/// From now on what is kept ready is made ready.
fn begin(runtime: &Runtime, networks: &NetworkRoom, layout: &Layout) {
    runtime.fill_pool();
    networks.fill();
    tidy_checkpoints(layout);
}

/// What daemons before this one left unfinished.
fn tidy_checkpoints(layout: &Layout) {
    let directory = layout.checkpoints();
    tokio::task::spawn_blocking(move || {
        for namespace in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            Checkpoints::within(namespace.path()).tidy();
        }
    });
}

/// Who makes containers is asked before anything starts again.
fn know_runtimes(oci: &OciRuntimes, state: &State) {
    let containers = state.workloads().values().filter_map(|workload| workload.spec.container.as_deref());
    let asked: HashSet<_> = containers.map(|container| container.oci_runtime.clone()).collect();
    for name in asked {
        if let Err(problem) = oci.find(name.as_ref()) {
            tracing::warn!(%problem, "containers of this node cannot be made");
        }
    }
}

/// Among those who ask: what a pattern costs is nothing that a run should wait for.
fn prober(doors: &tokio::runtime::Handle, state: &State, tools: Tools) -> Prober {
    let _doors = doors.enter();
    Prober::start(state.workloads().values(), tools)
}

/// What probes are made with.
fn tools(
    runtime: &Runtime,
    inputs: &mpsc::Sender<Message>,
    node_uid: u32,
    view: &Arc<View>,
    watcher: crate::logs::Watcher,
    layout: &Layout,
) -> Tools {
    let (runtime, inputs, view) = (runtime.clone(), inputs.downgrade(), view.clone());
    Tools { runtime, inputs, node_uid, view, watcher, logs: layout.logs() }
}

fn adopted(runs: Vec<hostler_runtime::Found>, boot_id: String) -> Input {
    let found = runs.into_iter().map(found).collect();
    Input::Adopted { found, boot_id, version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Runs that are adopted as they were come in no record; what became of the others meanwhile comes in one.
fn sampling_of(view: &View) -> Arc<Sampling> {
    let sampling = Sampling::new();
    view.list(&Scope::All).iter().for_each(|workload| sampling.observe(workload));
    sampling
}

fn load(config: &Config, loaded: Loaded) -> State {
    let settings = Settings {
        live_runs_max: config.node.live_runs_max as usize,
        queue_jobs_max: config.node.queue_jobs_max.unwrap_or(config.node.live_runs_max) as usize,
        ended_workloads: config.retention.ended_workloads as usize,
    };
    let records = Records {
        node: loaded.node,
        workloads: loaded.workloads,
        keys: loaded.idempotency_keys,
        queues: loaded.queues,
        networks: loaded.networks,
        stacks: loaded.stacks,
        units: loaded.stack_units,
        calls: loaded.hook_calls,
    };
    State::load(settings, records)
}

/// Waits until readers see an event after this one.
async fn until_published(view: &View, before: u64, mut failure: watch::Receiver<Option<Failure>>) {
    let mut last_event = view.last_event();
    tokio::select! {
        _ = last_event.wait_for(|last| *last > before) => {}
        // Whoever serves this node sees it too, and replaces the daemon.
        _ = failure.wait_for(Option::is_some) => {}
    }
}

fn found(found: hostler_runtime::Found) -> Found {
    use hostler_runtime::FoundState as Theirs;
    let state = match found.state {
        Theirs::Prepared => FoundState::Prepared,
        Theirs::Running { sandbox, pid, started_at_ms, oom_kills, paused } => {
            FoundState::Running { sandbox, pid, started_at_ms, oom_kills, paused }
        }
        Theirs::Ended { exit } => FoundState::Ended { exit },
        Theirs::StartFailed { failure } => FoundState::StartFailed { failure },
        Theirs::Lost(reason) => FoundState::Lost(reason),
    };
    let execs = found.execs.into_iter().map(|found| FoundExec { exec: found.exec, pid: found.pid, exit: found.exit });
    Found { run: found.run, state, execs: execs.collect() }
}

/// The clocks and fresh randomness, read once for each batch of decisions.
pub(crate) fn now() -> Now {
    Now { boot_ms: clock::boot_ms(), wall_ms: clock::wall_ms(), entropy: u64::from_le_bytes(random()) }
}

/// Fresh random bytes from the kernel.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    daemon::random_bytes()
}

/// A question on its way; whoever drops it does not take it back.
pub struct Submitted(oneshot::Receiver<Result<Reply, Problem>>);

impl Submitted {
    /// The answer.
    pub async fn answer(self) -> Result<Reply, Problem> {
        self.0.await.map_err(|_| going_down())?
    }
}

fn going_down() -> Problem {
    Problem::new(ProblemKind::Unavailable, "the node is going down")
}

impl Node {
    /// Asks the supervisor; the answer comes after its commit.
    pub async fn request(&self, request: Request) -> Result<Reply, Problem> {
        self.submit(request).await?.answer().await
    }

    /// The same, without waiting for the answer: requests are decided in the order in which they are submitted.
    pub async fn submit(&self, request: Request) -> Result<Submitted, Problem> {
        if matches!(
            request,
            Request::Create(_)
                | Request::Start(_)
                | Request::Restart { .. }
                | Request::ApplyStack(_)
                | Request::CreateNetwork(_)
        ) {
            self.check_disk().await;
        }
        let (sender, receiver) = oneshot::channel();
        self.inputs.send(Message::Request(request, sender)).await.map_err(|_| going_down())?;
        Ok(Submitted(receiver))
    }

    /// Reports something that happened.
    pub(crate) async fn tell(&self, fact: Fact) {
        let _ = self.inputs.send(Message::Input(Input::Fact(fact))).await;
    }

    /// The client of a foreground workload is gone.
    pub async fn owner_gone(&self, workload: WorkloadId) {
        let _ = self.inputs.send(Message::Input(Input::OwnerGone(workload))).await;
    }

    /// Begins the way down; the workloads are left as they are.
    pub fn go_down(&self) {
        self.down.send_replace(true);
    }

    /// The last message to the decider: nothing is decided any more, and the store is closed in order.
    pub async fn close(&self) {
        let _ = self.inputs.send(Message::Close).await;
    }

    /// Whether the node is going down; long answers end then.
    #[must_use]
    pub fn going_down(&self) -> watch::Receiver<bool> {
        self.down.subscribe()
    }

    /// Free bytes where the data is.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        daemon::free_bytes(&self.layout.data).unwrap_or(u64::MAX)
    }

    /// Looks at the free space before new work, a few times a second at most; tells the supervisor of a change.
    async fn check_disk(&self) {
        const CHECK_EVERY_MS: u64 = 200;
        let now = clock::boot_ms();
        let before = self.disk.checked_at_ms.load(Ordering::Relaxed);
        if now.saturating_sub(before) < CHECK_EVERY_MS && before != 0 {
            return;
        }
        self.disk.checked_at_ms.store(now, Ordering::Relaxed);
        let full = self.free_bytes() < self.config.node.free_space_min_bytes;
        if self.disk.full.swap(full, Ordering::Relaxed) != full {
            tracing::warn!(full, "free space crossed the mark below which no new work is accepted");
            let _ = self.inputs.send(Message::Input(Input::DiskFull(full))).await;
            self.disk.changed.notify_one();
        }
    }

    /// Whether new work is refused for want of space, as far as the last look told.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk.full.load(Ordering::Relaxed)
    }

    /// While the disk is full, looks again once a second, so that held restarts go on when there is room.
    pub async fn watch_disk(self: Arc<Self>) {
        self.check_disk().await;
        let mut down = self.going_down();
        loop {
            let wait = if self.disk.full.load(Ordering::Relaxed) { 1 } else { 60 };
            let is_down = tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(wait)) => false,
                // A request found it full: from now on it is looked at every second.
                () = self.disk.changed.notified() => continue,
                _ = down.wait_for(|down| *down) => true,
            };
            if is_down {
                return;
            }
            self.check_disk().await;
        }
    }

    /// Once, after it came up: what CNI plugins say of the networks of runs that live.
    pub async fn check_networks(self: Arc<Self>) {
        for (run, problem) in self.networks.check_live().await {
            tracing::warn!(%run, problem, "a run's network is not whole");
            self.tell(Fact::NetworkLost { run, problem }).await;
        }
    }

    /// Startup files that cannot be used.
    pub(crate) fn broken_files(&self) -> Vec<BrokenFile> {
        self.broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Where kernels of virtual machines are.
    #[must_use]
    pub(crate) fn kernels(&self) -> PathBuf {
        self.config.vm.kernel_dir.as_ref().map_or_else(|| self.layout.kernels(), PathBuf::from)
    }

    /// What only the node can tell the doctor.
    #[must_use]
    pub(crate) fn doctor(&self) -> doctor::Node<'_> {
        let foreign = self.foreign.iter().map(|run| doctor::ForeignDirectory {
            path: run.path.clone(),
            store: run.store.map(|store| store.to_string()),
            problem: run.problem.clone(),
        });
        doctor::Node {
            uid: self.uid,
            data: &self.layout.data,
            free_bytes: self.free_bytes(),
            free_space_min_bytes: self.config.node.free_space_min_bytes,
            live_runs_max: self.config.node.live_runs_max,
            cgroup: self.cgroup.as_ref().map(hostler_linux::cgroup::Parent::available),
            cgroup_more: self.cgroup.as_ref().map(hostler_linux::cgroup::Parent::available_more),
            foreign: foreign.collect(),
            broken: self.broken_files(),
            oci: &self.oci,
            networks: &self.networks,
            kernels: self.kernels(),
        }
    }
}
