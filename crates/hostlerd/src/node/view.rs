//! The committed state, for readers; and those who wait for it to change. Nothing undecided or uncommitted is ever
//! seen here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hostler_api::stacks::StackView;
use hostler_api::types::{QueuePlace, WaitFor};
use hostler_model::exit::Exit;
use hostler_model::ids::{ExecId, Namespace, NetworkName, StackName, WorkloadId, WorkloadName};
use hostler_model::network::NetworkRecord;
use hostler_model::record::{NodeRecord, Record};
use hostler_model::workload::{Phase, StartFailure, Workload};
use hostler_model::{Problem, ProblemKind};
use hostler_provision::Scope;
use hostler_supervisor::State;
use hostler_supervisor::queue::index::Queues;
use hostler_supervisor::stack::Units;

use tokio::sync::{mpsc, watch};

use super::stacks::SeenStacks;

/// What is heard of an exec.
#[derive(Debug, Clone)]
pub enum ExecNews {
    /// It runs, as this process.
    Started(u32),
    /// It could not be started.
    Failed(StartFailure),
    /// It ended.
    Exited(Exit),
    /// Its run is over; nothing else will be heard.
    Lost,
}

/// A workload as those who wait for it see it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// How it stands, or stood last.
    pub workload: Arc<Workload>,
    /// It is gone.
    pub removed: bool,
}

#[derive(Default)]
struct Known {
    workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    names: HashMap<Namespace, HashMap<WorkloadName, WorkloadId>>,
    stacks: SeenStacks,
    node: NodeRecord,
    queues: Queues,
    networks: BTreeMap<(Namespace, NetworkName), Arc<NetworkRecord>>,
}

/// The committed state.
pub struct View {
    known: RwLock<Known>,
    waiting: Mutex<HashMap<WorkloadId, watch::Sender<Option<Seen>>>>,
    execs: Mutex<HashMap<ExecId, mpsc::UnboundedSender<ExecNews>>>,
    last_event: watch::Sender<u64>,
}

impl View {
    /// What was loaded at the start.
    pub fn new(state: &State, last_event: u64) -> Self {
        let mut known = Known { node: state.node().clone(), ..Known::default() };
        for queue in state.queues().iter() {
            known.queues.put(queue.record.clone());
        }
        known.networks.clone_from(state.networks());
        for (record, units) in state.stacks() {
            known.stacks.begin_with(record, units);
        }
        for workload in state.workloads().values() {
            known.insert(workload.clone());
        }
        Self {
            known: RwLock::new(known),
            waiting: Mutex::default(),
            execs: Mutex::default(),
            last_event: watch::Sender::new(last_event),
        }
    }

    /// Shows what was just committed.
    pub(crate) fn apply(&self, records: &[Record], last_event: u64) {
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            for record in records {
                match record {
                    Record::Workload(workload) => known.insert(workload.clone()),
                    Record::WorkloadRemoved(id) => known.remove(*id),
                    Record::Node(node) => known.node = node.clone(),
                    Record::Queue(queue) => known.queues.put(queue.clone()),
                    Record::QueueRemoved(namespace, name) => {
                        known.queues.take(&(namespace.clone(), name.clone()));
                    }
                    Record::Network(network) => {
                        known.networks.insert((network.namespace.clone(), network.name.clone()), network.clone());
                    }
                    Record::NetworkRemoved(namespace, name) => {
                        known.networks.remove(&(namespace.clone(), name.clone()));
                    }
                    Record::Stack(_)
                    | Record::StackRemoved(..)
                    | Record::StackUnit(..)
                    | Record::StackUnitRemoved(..) => known.stacks.apply(record),
                    Record::IdempotencyKey(_)
                    | Record::IdempotencyKeyForgotten(..)
                    | Record::HookFired(_)
                    | Record::HookDone(_) => {}
                }
            }
        }
        self.tell(records);
        if last_event > 0 {
            self.last_event.send_if_modified(|seen| {
                last_event > *seen && {
                    *seen = last_event;
                    true
                }
            });
        }
    }

    fn tell(&self, records: &[Record]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return;
        }
        for record in records {
            match record {
                Record::Workload(workload) => {
                    if let Some(sender) = waiting.get(&workload.id) {
                        sender.send_replace(Some(Seen { workload: workload.clone(), removed: false }));
                    }
                }
                Record::WorkloadRemoved(id) => {
                    if let Some(sender) = waiting.remove(id) {
                        sender.send_modify(|seen| {
                            if let Some(seen) = seen {
                                seen.removed = true;
                            }
                        });
                    }
                }
                _ => {}
            }
        }
    }

    /// How a stack stands.
    #[must_use]
    pub fn stack(&self, namespace: &Namespace, name: &StackName) -> Option<StackView> {
        self.read(|known| known.stacks.view(namespace, name, &known.workloads))
    }

    /// All stacks of a namespace, by name.
    #[must_use]
    pub fn stacks(&self, namespace: &Namespace) -> Vec<StackView> {
        self.read(|known| {
            let names = known.stacks.names(namespace);
            names.filter_map(|name| known.stacks.view(namespace, name, &known.workloads)).collect()
        })
    }

    /// The units of a stack as they are kept; none when there is no such stack.
    #[must_use]
    pub fn stack_units(&self, namespace: &Namespace, name: &StackName) -> Units {
        self.read(|known| known.stacks.units(namespace, name))
    }

    /// The newest committed event's number, and its changes.
    #[must_use]
    pub fn last_event(&self) -> watch::Receiver<u64> {
        self.last_event.subscribe()
    }

    /// Readers of [`View::last_event`]: those who follow events.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.last_event.receiver_count()
    }

    /// The node's own record.
    #[must_use]
    pub fn node(&self) -> NodeRecord {
        self.read(|known| known.node.clone())
    }

    /// One workload by its id.
    #[must_use]
    pub fn get(&self, id: WorkloadId) -> Option<Arc<Workload>> {
        self.read(|known| known.workloads.get(&id).cloned())
    }

    /// Workloads of a scope, newest first.
    #[must_use]
    pub fn list(&self, scope: &Scope) -> Vec<Arc<Workload>> {
        let mut list: Vec<_> =
            self.read(|known| known.workloads.values().filter(|w| scope.contains(&w.namespace)).cloned().collect());
        list.sort_by(|a, b| b.created_at_ms.cmp(&a.created_at_ms).then_with(|| a.id.cmp(&b.id)));
        list
    }

    /// Looks at the queues, with who waits in them.
    pub fn queues<T>(&self, look: impl FnOnce(&Queues) -> T) -> T {
        self.read(|known| look(&known.queues))
    }

    /// The networks of a scope, by namespace and name.
    #[must_use]
    pub fn networks(&self, scope: &Scope) -> Vec<Arc<NetworkRecord>> {
        self.read(|known| known.networks.values().filter(|it| scope.contains(&it.namespace)).cloned().collect())
    }

    /// One network.
    #[must_use]
    pub fn network(&self, namespace: &Namespace, name: &NetworkName) -> Option<Arc<NetworkRecord>> {
        self.read(|known| known.networks.get(&(namespace.clone(), name.clone())).cloned())
    }

    /// All networks of the node, for whoever chooses addresses.
    #[must_use]
    pub fn all_networks(&self) -> Vec<NetworkRecord> {
        self.read(|known| known.networks.values().map(|network| NetworkRecord::clone(network)).collect())
    }

    /// Where a workload stands in its queue, while it waits there.
    #[must_use]
    pub fn place(&self, workload: &Workload, now_ms: u64) -> Option<QueuePlace> {
        let (queued, turn) = workload.queued.zip(workload.turn())?;
        let queue = workload.spec.queue.clone()?;
        let position = self.queues(|queues| {
            Some(queues.get(&(workload.namespace.clone(), queue.clone()))?.ahead_of(turn) as u64 + 1)
        })?;
        Some(QueuePlace { queue, position, waited_ms: now_ms.saturating_sub(queued.since_ms) })
    }

    /// How many workloads of a scope are in which phase.
    #[must_use]
    pub fn count(&self, scope: &Scope) -> BTreeMap<Phase, u32> {
        self.read(|known| {
            let mut counts = BTreeMap::new();
            for workload in known.workloads.values().filter(|workload| scope.contains(&workload.namespace)) {
                *counts.entry(workload.phase()).or_insert(0) += 1;
            }
            counts
        })
    }

    /// How many runs are not at their end.
    #[must_use]
    pub fn live_runs(&self) -> usize {
        self.read(|known| known.workloads.values().filter(|workload| workload.live_run().is_some()).count())
    }

    /// The workload that a name, an id or a unique prefix of an id means in a namespace.
    pub fn resolve(&self, namespace: &Namespace, reference: &str) -> Result<Arc<Workload>, Problem> {
        self.read(|known| {
            if let Some(id) = known.names.get(namespace).and_then(|names| names.get(reference)) {
                return Ok(known.workloads[id].clone());
            }
            let shown: String = reference.chars().take(80).collect();
            // Those that begin like this are neighbours.
            let end = |digit: &str| -> Option<WorkloadId> {
                let missing = WorkloadId::DIGITS.checked_sub(reference.len()).filter(|_| !reference.is_empty())?;
                format!("{reference}{}", digit.repeat(missing)).parse().ok()
            };
            let range = end("0").zip(end("f")).map(|(first, last)| known.workloads.range(first..=last));
            let mut matches =
                range.into_iter().flatten().map(|(_, workload)| workload).filter(|w| w.namespace == *namespace);
            match (matches.next(), matches.next()) {
                (Some(one), None) => Ok(one.clone()),
                (Some(_), Some(_)) => {
                    let detail = format!("{shown} is the beginning of more than one id; type more of it");
                    Err(Problem::new(ProblemKind::Ambiguous, detail))
                }
                (None, _) => {
                    let detail = format!("there is no workload {shown:?} in namespace {namespace}; see: hostler ps -a");
                    Err(Problem::new(ProblemKind::NotFound, detail))
                }
            }
        })
    }

    /// Begins to watch a workload, known or about to be. Begin before asking for what is to be seen.
    #[must_use]
    pub fn watch(&self, id: WorkloadId) -> watch::Receiver<Option<Seen>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        let now = || self.get(id).map(|workload| Seen { workload, removed: false });
        waiting.entry(id).or_insert_with(|| watch::Sender::new(now())).subscribe()
    }

    /// Begins to listen for news of an exec. Begin before asking for it.
    pub fn listen(&self, exec: ExecId) -> mpsc::UnboundedReceiver<ExecNews> {
        // Unbounded, but an exec has at most two pieces of news.
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        execs.retain(|_, sender| !sender.is_closed());
        execs.insert(exec, sender);
        receiver
    }

    pub(crate) fn exec_news(&self, exec: ExecId, news: ExecNews) {
        let mut execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        let over = !matches!(news, ExecNews::Started(_));
        if let Some(sender) = execs.get(&exec) {
            let _ = sender.send(news);
        }
        if over {
            execs.remove(&exec);
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn insert(&mut self, workload: Arc<Workload>) {
        let before = self.workloads.get(&workload.id).cloned();
        if let Some(before) = &before {
            self.queues.unindex(before);
        }
        if before.as_ref().is_none_or(|before| before.name != workload.name) {
            // A replica of a stack may get another name; its old one may be somebody else's by now.
            if let Some(before) = &before {
                self.unname(before);
            }
            let names = self.names.entry(workload.namespace.clone()).or_default();
            names.insert(workload.name.clone(), workload.id);
        }
        self.queues.index(&workload);
        self.stacks.member(&workload);
        self.workloads.insert(workload.id, workload);
    }

    fn remove(&mut self, id: WorkloadId) {
        if let Some(workload) = self.workloads.remove(&id) {
            self.queues.unindex(&workload);
            self.unname(&workload);
            self.stacks.member_gone(&workload);
        }
    }

    fn unname(&mut self, workload: &Workload) {
        let Some(names) = self.names.get_mut(&workload.namespace) else { return };
        if names.get(&workload.name) == Some(&workload.id) {
            names.remove(&workload.name);
        }
        if names.is_empty() {
            self.names.remove(&workload.namespace);
        }
    }
}

/// Whether a workload that stands like this is what was waited for.
#[must_use]
pub fn is_reached(workload: &Workload, until: WaitFor) -> bool {
    match until {
        WaitFor::Accepted => true,
        WaitFor::Started => match workload.phase() {
            Phase::Pending | Phase::Queued | Phase::Preparing => false,
            // Stopped before its start: whether there was one after all comes with the end.
            Phase::Stopping => workload.live_run().is_some_and(|run| run.started_at_ms.is_some()),
            _ => true,
        },
        WaitFor::Ended => workload.is_between_fires(),
    }
}

/// Waits until a watched workload is where it is wanted, or gone. `None`: it was not there at all.
pub async fn reach(watched: &mut watch::Receiver<Option<Seen>>, until: WaitFor) -> Option<Seen> {
    let reached =
        |seen: &Option<Seen>| seen.as_ref().is_some_and(|seen| seen.removed || is_reached(&seen.workload, until));
    // An error means that the sender went with the removal; the last value is how it stood then.
    let seen = watched.wait_for(reached).await.ok().map(|seen| seen.clone());
    seen.unwrap_or_else(|| watched.borrow().clone())
}
