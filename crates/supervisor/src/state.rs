//! What the supervisor knows. Everything durable is in workload records, keys and the node record; the indexes
//! beside them are derived from those and never stored.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use hostler_model::event::{Event, EventKind, Subject};
use hostler_model::ids::{Namespace, RunId, StackName, WorkloadId, WorkloadName};
use hostler_model::record::{IdempotencyKey, NodeRecord, Record, Urgency};
use hostler_model::spec::Limits;
use hostler_model::stack::{StackRecord, UnitRecord};
use hostler_model::workload::{Desired, RunState, Workload};
use hostler_model::{Now, limits};

use crate::input::{Input, Outcome, Token};
use crate::stacks::Stacks;

/// Bounds that configuration may change.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Live runs, at most.
    pub live_runs_max: usize,
    /// Workloads at rest that are kept; the oldest end goes first. Stopped ones are kept until removed.
    pub ended_workloads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { live_runs_max: limits::LIVE_RUNS_MAX, ended_workloads: limits::ENDED_WORKLOADS_DEFAULT }
    }
}

/// What one namespace has of the node.
#[derive(Debug, Default)]
pub(crate) struct Share {
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

    // Derived from the records above.
    pub(crate) names: HashMap<(Namespace, WorkloadName), WorkloadId>,
    pub(crate) live: HashSet<WorkloadId>,
    timers: BTreeSet<(u64, WorkloadId)>,
    pub(crate) shares: HashMap<Namespace, Share>,
    pub(crate) key_order: VecDeque<(Namespace, String)>,
    pub(crate) stacks: Stacks,

    // True only as long as this daemon lives.
    pub(crate) updates: HashMap<RunId, (Token, Limits)>,
    pub(crate) disk_full: bool,
    pub(crate) going_down: bool,
}

impl State {
    /// The state that these records describe.
    #[must_use]
    pub fn load(
        settings: Settings,
        node: NodeRecord,
        workloads: impl IntoIterator<Item = Workload>,
        mut keys: Vec<IdempotencyKey>,
    ) -> Self {
        let mut state = Self { settings, node, ..Self::default() };
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
            Input::Adopted { found, boot_id, version } => self.adopted(found, boot_id, version, now, out),
            Input::DiskFull(full) => {
                self.disk_full = full;
                self.stacks.look_at_all();
            }
            Input::OwnerGone(workload) => self.owner_gone(workload, now, out),
        }
        self.advance_stacks(now, out);
        if !out.actions.is_empty() {
            out.batch.urgency = Urgency::Prompt;
        }
        for namespace in touched(out) {
            self.forget_oldest(&namespace, now, out);
        }
    }

    /// When the next timer is due, boot clock, milliseconds.
    #[must_use]
    pub fn next_wake_ms(&self) -> Option<u64> {
        let of_workloads = self.timers.iter().find(|(_, id)| !self.is_held(&self.workloads[id])).map(|(due, _)| *due);
        of_workloads.into_iter().chain(self.stacks.next_deadline_ms()).min()
    }

    /// With these stacks and their units besides.
    #[must_use]
    pub fn with_stacks(mut self, stacks: Vec<StackRecord>, units: Vec<(Namespace, StackName, UnitRecord)>) -> Self {
        self.stacks.load(stacks, units);
        self
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

    /// Timers armed: the pending actions.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.timers.len()
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

    /// Workloads whose timer is due and not held back.
    pub(crate) fn due(&self, boot_ms: u64) -> Vec<WorkloadId> {
        let due = self.timers.range(..=(boot_ms, WorkloadId::from_bytes([0xff; 6])));
        due.map(|(_, id)| *id).filter(|id| !self.is_held(&self.workloads[id])).collect()
    }

    /// New runs wait while the node takes no work; running ones keep their deadlines.
    fn is_held(&self, workload: &Workload) -> bool {
        workload.live_run().is_none() && (self.node.lame_duck || self.going_down || self.disk_full)
    }

    pub(crate) fn event(workload: &Workload, kind: EventKind, now: Now, out: &mut Outcome) {
        let about_run = !kind.name().starts_with("workload.");
        let subject = Subject {
            workload: workload.id,
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            run: workload.run.as_ref().filter(|_| about_run).map(|run| run.id),
            phase: workload.phase(),
            generation: workload.generation,
            runs: workload.runs,
        };
        out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: Some(subject) });
    }

    fn index(&mut self, workload: &Workload) {
        self.names.insert((workload.namespace.clone(), workload.name.clone()), workload.id);
        self.stacks.index(workload);
        let share = self.shares.entry(workload.namespace.clone()).or_default();
        share.known += 1;
        if let Some(since) = resting_since(workload) {
            share.resting.insert((since, workload.id));
        }
        if workload.live_run().is_some() {
            share.live += 1;
            self.live.insert(workload.id);
        }
        if let Some(due) = timer(workload) {
            self.timers.insert((due, workload.id));
        }
    }

    fn unindex(&mut self, workload: &Workload) {
        if let Some(share) = self.shares.get_mut(&workload.namespace) {
            share.known -= 1;
            share.live -= usize::from(workload.live_run().is_some());
            if let Some(since) = resting_since(workload) {
                share.resting.remove(&(since, workload.id));
            }
            if share.known == 0 {
                self.shares.remove(&workload.namespace);
            }
        }
        self.names.remove(&(workload.namespace.clone(), workload.name.clone()));
        self.stacks.unindex(workload);
        self.live.remove(&workload.id);
        if let Some(due) = timer(workload) {
            self.timers.remove(&(due, workload.id));
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

/// The namespaces whose workloads changed with this outcome, which may hold more than one step.
fn touched(out: &Outcome) -> BTreeSet<Namespace> {
    let namespace = |record: &Record| match record {
        Record::Workload(workload) => Some(workload.namespace.clone()),
        _ => None,
    };
    out.batch.records.iter().rev().take(RECORDS_PER_STEP).filter_map(namespace).collect()
}

/// A step that brings one workload to rest makes at most this many records of it and of what follows.
const RECORDS_PER_STEP: usize = 4;

/// The one timer a workload can have, from its state.
fn timer(workload: &Workload) -> Option<u64> {
    match workload.live_run().map(|run| &run.state) {
        Some(RunState::Preparing { deadline_boot_ms }) => Some(*deadline_boot_ms),
        Some(RunState::Stopping { kill_at_boot_ms }) => *kill_at_boot_ms,
        Some(_) => workload.run.as_ref().and_then(|run| run.ready_due_boot_ms),
        None => workload.restart_at_boot_ms,
    }
}

/// Since when a workload is at rest, if it may be forgotten.
fn resting_since(workload: &Workload) -> Option<u64> {
    // Those of a stack go with it.
    if !workload.is_at_rest() || workload.desired != Desired::Run || workload.stack.is_some() {
        return None;
    }
    match workload.run.as_ref().map(|run| (&run.state, run.created_at_ms)) {
        Some((RunState::Ended { exit }, _)) => Some(exit.ended_at_ms),
        Some((_, created_at_ms)) => Some(created_at_ms),
        None => None,
    }
}
