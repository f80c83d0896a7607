//! What the supervisor knows. Everything durable is in workload records, keys and the node record; the indexes
//! beside them are derived from those and never stored.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use hostler_model::event::{Event, EventKind, Subject};
use hostler_model::hook::{HookCall, HookKey};
use hostler_model::ids::{Namespace, NetworkName, RunId, StackName, WorkloadId, WorkloadName};
use hostler_model::network::NetworkRecord;
use hostler_model::queue::QueueRecord;
use hostler_model::record::{IdempotencyKey, NodeRecord, Record, Urgency};
use hostler_model::seldom::Seldom;
use hostler_model::spec::Limits;
use hostler_model::stack::{StackRecord, UnitRecord};
use hostler_model::workload::{Desired, Identity, RunState, Workload};
use hostler_model::{Now, limits};

use crate::hooks;
use crate::input::{Input, Outcome, Token};
use crate::orders::Ordered;
use crate::queue::Ahead;
use crate::queue::index::{QueueKey, Queues};
use crate::stacks::Stacks;

/// Bounds that configuration may change.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Live runs, at most.
    pub live_runs_max: usize,
    /// Of them from queues, at most.
    pub queue_jobs_max: usize,
    /// Workloads at rest that are kept; the oldest end goes first. Stopped ones are kept until removed.
    pub ended_workloads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            live_runs_max: limits::LIVE_RUNS_MAX,
            queue_jobs_max: limits::LIVE_RUNS_MAX,
            ended_workloads: limits::ENDED_WORKLOADS_DEFAULT,
        }
    }
}

/// Everything that was stored.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names are the records' own")]
pub struct Records {
    pub node: NodeRecord,
    pub workloads: Vec<Workload>,
    pub keys: Vec<IdempotencyKey>,
    pub queues: Vec<QueueRecord>,
    pub networks: Vec<NetworkRecord>,
    pub stacks: Vec<StackRecord>,
    pub units: Vec<(Namespace, StackName, UnitRecord)>,
    pub calls: Vec<HookCall>,
}

/// When something is to be decided next, if nothing else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wake {
    /// Boot clock, milliseconds: deadlines, attempts, intervals.
    pub boot_ms: Option<u64>,
    /// Wall clock, milliseconds: dates.
    pub wall_ms: Option<u64>,
}

impl Wake {
    /// Whether that time has come.
    #[must_use]
    pub fn is_due(self, boot_ms: u64, wall_ms: u64) -> bool {
        self.boot_ms.is_some_and(|due| due <= boot_ms) || self.wall_ms.is_some_and(|due| due <= wall_ms)
    }
}

/// What one namespace has of the node.
#[derive(Debug, Default)]
pub(crate) struct Share {
    pub(crate) names: HashMap<WorkloadName, WorkloadId>,
    pub(crate) known: usize,
    pub(crate) live: usize,
    /// Those at rest that may be forgotten, by when they came to rest.
    resting: BTreeSet<(u64, WorkloadId)>,
}

/// The state that [`State::step`] changes.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) settings: Settings,
    pub(crate) workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    pub(crate) node: NodeRecord,
    pub(crate) keys: HashMap<(Namespace, String), IdempotencyKey>,
    pub(crate) calls: BTreeMap<HookKey, Arc<HookCall>>,
    pub(crate) networks: BTreeMap<(Namespace, NetworkName), Arc<NetworkRecord>>,

    // Derived from the records above.
    pub(crate) live: HashSet<WorkloadId>,
    /// Of live runs, boot clock: these are kept whatever the node takes.
    deadlines: BTreeSet<(u64, WorkloadId)>,
    /// Runs that wait for their start, boot clock.
    starts: BTreeSet<(u64, WorkloadId)>,
    /// The same of jobs that hooks made: they belong to work that a lame duck lets finish.
    hook_jobs: BTreeSet<(u64, WorkloadId)>,
    /// Delays after which a run is ready, boot clock.
    readiness: BTreeSet<(u64, WorkloadId)>,
    /// Delays of hooks, boot clock.
    delays: BTreeSet<(u64, WorkloadId)>,
    /// Dates of schedules, wall clock.
    fires: BTreeSet<(u64, WorkloadId)>,
    pub(crate) shares: HashMap<Namespace, Share>,
    pub(crate) key_order: VecDeque<(Namespace, String)>,
    pub(crate) queues: Queues,
    /// Jobs whose next run may be executed before its start is recorded.
    pub(crate) permitted: BTreeSet<WorkloadId>,
    pub(crate) last_identity: Option<Arc<Identity>>,
    pub(crate) stacks: Stacks,

    // True only as long as this daemon lives.
    pub(crate) updates: HashMap<RunId, (Token, Seldom<Limits>)>,
    /// Orders under way.
    pub(crate) orders: HashMap<RunId, Ordered>,
    pub(crate) disk_full: bool,
    /// What runs is known: before that nothing is begun.
    pub(crate) adopted: bool,
    pub(crate) last_served: Option<QueueKey>,
    pub(crate) ahead: Ahead,
    pub(crate) going_down: bool,
}

impl State {
    /// The state that these records describe.
    #[must_use]
    pub fn load(settings: Settings, records: Records) -> Self {
        let Records { node, workloads, mut keys, queues, networks, stacks, units, calls } = records;
        let mut state = Self { settings, node, ..Self::default() };
        for queue in queues {
            state.queues.put(Arc::new(queue));
        }
        let networks = networks.into_iter().map(Arc::new);
        state.networks = networks.map(|network| ((network.namespace.clone(), network.name.clone()), network)).collect();
        state.stacks.load(stacks, units);
        state.calls = calls.into_iter().map(|call| (call.key(), Arc::new(call))).collect();
        for workload in workloads {
            state.index(&workload);
            state.workloads.insert(workload.id, Arc::new(workload));
        }
        keys.sort_by_key(|key| key.created_at_ms);
        for key in keys {
            let id = (key.namespace.clone(), key.key.clone());
            state.key_order.push_back(id.clone());
            state.keys.insert(id, key);
        }
        state
    }

    /// One thing happened: change the state, and add to the outcome what comes of it.
    pub fn step(&mut self, input: Input, now: Now, out: &mut Outcome) {
        let before = out.batch.records.len();
        match input {
            Input::Request(token, request) => {
                let reply = self.request(token, request, now, out);
                if let Some(reply) = reply {
                    out.replies.push((token, reply));
                }
                out.batch.urgency = Urgency::Prompt;
            }
            Input::Fact(fact) => self.fact(fact, now, out),
            Input::Tick => self.tick(now, out),
            Input::Adopted { found, boot_id, version } => {
                self.adopted(found, boot_id, version, now, out);
                self.adopted = true;
            }
            Input::DiskFull(full) => {
                self.disk_full = full;
                self.stacks.look_at_all();
            }
            Input::OwnerGone(workload) => self.owner_gone(workload, now, out),
            Input::Closing => {
                self.going_down = true;
                self.take_back(out);
            }
        }
        self.advance_stacks(now, out);
        for namespace in touched(&out.batch.records[before..]) {
            self.forget_oldest(&namespace, now, out);
        }
        self.serve_queues(now, out);
        self.permit_ahead(now, out);
        if !out.actions.is_empty() {
            out.batch.urgency = Urgency::Prompt;
        }
    }

    /// When the next timers are due.
    #[must_use]
    pub fn next_wake(&self) -> Wake {
        let next = |wanted: Clock| {
            let timers = self.open_timers().filter(|(.., clock)| *clock == wanted);
            timers.filter_map(|(_, timers, _)| timers.first().map(|(due, _)| *due)).min()
        };
        let boot_ms =
            next(Clock::Boot).into_iter().chain(self.stacks.next_deadline_ms()).chain(self.ahead.until_ms()).min();
        Wake { boot_ms, wall_ms: next(Clock::Wall) }
    }

    /// Everything known, by id.
    #[must_use]
    pub fn workloads(&self) -> &BTreeMap<WorkloadId, Arc<Workload>> {
        &self.workloads
    }

    /// The node's own record.
    #[must_use]
    pub fn node(&self) -> &NodeRecord {
        &self.node
    }

    /// Idempotency keys remembered.
    #[must_use]
    pub fn keys(&self) -> &HashMap<(Namespace, String), IdempotencyKey> {
        &self.keys
    }

    /// Hooks that have fired and whose outcome is not recorded.
    #[must_use]
    pub fn calls(&self) -> &BTreeMap<HookKey, Arc<HookCall>> {
        &self.calls
    }

    /// Puts a changed workload back: into the map, the indexes and the batch. The only way a workload changes.
    pub(crate) fn put(&mut self, workload: Workload, out: &mut Outcome) -> Arc<Workload> {
        if let Some(old) = self.workloads.get(&workload.id).cloned() {
            self.unindex(&old);
        }
        self.index(&workload);
        self.stacks.changed(&workload);
        let workload = Arc::new(workload);
        self.workloads.insert(workload.id, workload.clone());
        out.batch.records.push(Record::Workload(workload.clone()));
        workload
    }

    /// Takes a workload out for good.
    pub(crate) fn take(&mut self, id: WorkloadId, out: &mut Outcome) -> Option<Arc<Workload>> {
        let workload = self.workloads.remove(&id)?;
        self.unindex(&workload);
        self.stacks.changed(&workload);
        out.batch.records.push(Record::WorkloadRemoved(id));
        Some(workload)
    }

    /// A copy to change.
    pub(crate) fn edit(&self, id: WorkloadId) -> Option<Workload> {
        self.workloads.get(&id).map(|workload| Workload::clone(workload))
    }

    /// Workloads whose timers are due and not held back, as many as one step takes.
    pub(crate) fn due(&self, now: Now) -> Vec<(Timer, u64, WorkloadId)> {
        let due = self.open_timers().flat_map(|(timer, timers, clock)| {
            let now_ms = if clock == Clock::Boot { now.boot_ms } else { now.wall_ms };
            let due = timers.range(..=(now_ms, WorkloadId::from_bytes([0xff; 6])));
            due.map(move |(due, id)| (timer, *due, *id)).take(limits::DUE_PER_STEP)
        });
        due.collect()
    }

    /// Looks at this timer again at another time. Only for as long as this daemon lives: the record says what is due.
    pub(crate) fn postpone(&mut self, timer: Timer, due_ms: u64, id: WorkloadId, until_ms: u64) {
        self.drop_timer(timer, due_ms, id);
        self.set(timer).insert((until_ms, id));
    }

    /// A timer whose workload is gone, or stands otherwise by now: what was postponed is not known by its record.
    pub(crate) fn drop_timer(&mut self, timer: Timer, due_ms: u64, id: WorkloadId) {
        self.set(timer).remove(&(due_ms, id));
    }

    /// The timers that are not held back.
    fn open_timers(&self) -> impl Iterator<Item = (Timer, &BTreeSet<(u64, WorkloadId)>, Clock)> {
        let (held, stopped) = (self.holds_starts(), self.going_down || self.disk_full);
        let all = [
            (Timer::Deadline, &self.deadlines, Clock::Boot, false),
            (Timer::Ready, &self.readiness, Clock::Boot, false),
            (Timer::Hook, &self.delays, Clock::Boot, false),
            (Timer::HookJob, &self.hook_jobs, Clock::Boot, stopped),
            (Timer::Start, &self.starts, Clock::Boot, held),
            (Timer::Fire, &self.fires, Clock::Wall, held),
        ];
        all.into_iter().filter(|(.., held)| !held).map(|(timer, timers, clock, _)| (timer, timers, clock))
    }

    /// Nothing is begun now: the node is a lame duck, goes down, or has no space to record what would happen.
    #[must_use]
    pub fn holds_starts(&self) -> bool {
        self.node.lame_duck || self.going_down || self.disk_full
    }

    /// Whether this namespace has as many live runs as one other than the owner's may have.
    pub(crate) fn is_at_its_share(&self, namespace: &Namespace) -> bool {
        let live = self.shares.get(namespace).map_or(0, |share| share.live);
        *namespace != Namespace::owner() && live >= self.settings.live_runs_max.div_ceil(limits::LIVE_RUNS_SHARE)
    }

    /// Whose name this is in a namespace.
    pub(crate) fn named(&self, namespace: &Namespace, name: &WorkloadName) -> Option<WorkloadId> {
        self.shares.get(namespace)?.names.get(name).copied()
    }

    /// All queues, with who waits in them.
    #[must_use]
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    pub(crate) fn event(workload: &Workload, kind: EventKind, now: Now, out: &mut Outcome) {
        let about_run = !kind.name().starts_with("workload.") && !kind.name().starts_with("schedule.");
        let run = workload.run.as_ref().filter(|_| about_run).map(|run| run.id);
        let subject = Subject { run, ..Self::subject(workload) };
        out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: Some(subject) });
    }

    /// How it stands, without a run.
    pub(crate) fn subject(workload: &Workload) -> Subject {
        Subject {
            workload: workload.id,
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            run: None,
            phase: workload.phase(),
            generation: workload.generation,
            runs: workload.runs,
        }
    }

    fn index(&mut self, workload: &Workload) {
        self.stacks.index(workload);
        let share = self.shares.entry(workload.namespace.clone()).or_default();
        share.names.insert(workload.name.clone(), workload.id);
        share.known += 1;
        if let Some(since) = resting_since(workload) {
            share.resting.insert((since, workload.id));
        }
        if workload.live_run().is_some() {
            share.live += 1;
            self.live.insert(workload.id);
        }
        for (timer, due) in timers(workload) {
            self.set(timer).insert((due, workload.id));
        }
        self.queues.index(workload);
        if workload.queued.is_some_and(|queued| queued.ahead.is_some()) {
            self.permitted.insert(workload.id);
        }
    }

    fn unindex(&mut self, workload: &Workload) {
        self.queues.unindex(workload);
        if let Some(share) = self.shares.get_mut(&workload.namespace) {
            share.names.remove(&workload.name);
            share.known -= 1;
            share.live -= usize::from(workload.live_run().is_some());
            if let Some(since) = resting_since(workload) {
                share.resting.remove(&(since, workload.id));
            }
            if share.known == 0 {
                self.shares.remove(&workload.namespace);
            }
        }
        self.stacks.unindex(workload);
        self.live.remove(&workload.id);
        self.permitted.remove(&workload.id);
        for (timer, due) in timers(workload) {
            self.set(timer).remove(&(due, workload.id));
        }
    }

    fn set(&mut self, timer: Timer) -> &mut BTreeSet<(u64, WorkloadId)> {
        match timer {
            Timer::Deadline => &mut self.deadlines,
            Timer::Start => &mut self.starts,
            Timer::HookJob => &mut self.hook_jobs,
            Timer::Hook => &mut self.delays,
            Timer::Ready => &mut self.readiness,
            Timer::Fire => &mut self.fires,
        }
    }

    /// Keeps the workloads at rest within their bound, each namespace for itself: nobody's history is pushed out by
    /// somebody else's jobs.
    fn forget_oldest(&mut self, namespace: &Namespace, now: Now, out: &mut Outcome) {
        while let Some(share) = self.shares.get(namespace) {
            let Some((_, id)) = share.resting.first().copied() else { return };
            if share.resting.len() <= self.settings.ended_workloads {
                return;
            }
            self.remove(id, now, out);
        }
    }
}

/// The namespaces whose workloads these records change.
fn touched(records: &[Record]) -> BTreeSet<Namespace> {
    let namespace = |record: &Record| match record {
        Record::Workload(workload) => Some(workload.namespace.clone()),
        _ => None,
    };
    records.iter().filter_map(namespace).collect()
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The end of a live run's patience.
    Deadline,
    /// The next attempt, or the end of an interval.
    Start,
    /// The next attempt of a job that a hook made.
    HookJob,
    /// The delay of a hook.
    Hook,
    /// The delay after which a run is ready.
    Ready,
    /// A date of a schedule.
    Fire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    Boot,
    Wall,
}

/// Whether this timer of a workload is due.
pub(crate) fn is_due(workload: &Workload, timer: Timer, now: Now) -> bool {
    let now_ms = if timer == Timer::Fire { now.wall_ms } else { now.boot_ms };
    timers(workload).any(|(other, due)| other == timer && due <= now_ms)
}

/// The timers that a workload has, from its state: one on the boot clock, and one on the wall clock.
fn timers(workload: &Workload) -> impl Iterator<Item = (Timer, u64)> {
    let plan = workload.schedule.as_ref().filter(|plan| !plan.paused && workload.desired == Desired::Run);
    let interval = plan.and_then(|plan| plan.next_fire_boot_ms);
    let deadline = |due: u64| (Timer::Deadline, due);
    let boot = match workload.live_run().map(|run| &run.state) {
        Some(RunState::Preparing { deadline_boot_ms }) => Some(deadline(*deadline_boot_ms)),
        Some(RunState::Stopping { kill_at_boot_ms }) => kill_at_boot_ms.map(deadline),
        Some(_) => None,
        None => {
            let timer = if workload.hook_of.is_some() { Timer::HookJob } else { Timer::Start };
            workload.restart_at_boot_ms.or(interval).map(|due| (timer, due))
        }
    };
    let running = workload.live_run().filter(|run| run.state == RunState::Running);
    let ready = running.and_then(|run| run.ready_due_boot_ms).map(|due| (Timer::Ready, due));
    let delay = hooks::timer(workload).map(|due| (Timer::Hook, due));
    let date = plan.filter(|_| interval.is_none()).and_then(|plan| plan.next_fire_ms);
    boot.into_iter().chain(ready).chain(delay).chain(date.map(|due| (Timer::Fire, due)))
}

/// Since when a workload is at rest, if it may be forgotten.
fn resting_since(workload: &Workload) -> Option<u64> {
    if !workload.is_at_rest() || workload.desired != Desired::Run || workload.schedule.is_some() {
        return None;
    }
    // Those of a stack go with it.
    // Of others the last output may still be searched for lines.
    if workload.stack.is_some() || !workload.line_tails.is_empty() {
        return None;
    }
    match workload.run.as_ref().map(|run| (&run.state, run.created_at_ms)) {
        Some((RunState::Ended { exit }, _)) => Some(exit.ended_at_ms),
        Some((_, created_at_ms)) => Some(created_at_ms),
        None => None,
    }
}
