//! Who waits in which queue, and how many of it are under way: derived from workloads and queue records, never stored.
//! The decider keeps one to decide by, the view one to show.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use hostler_model::queue::{QueueRecord, Turn};
use hostler_model::workload::Workload;
use hostler_model::{Namespace, QueueName};

/// A queue's place among all.
pub type QueueKey = (Namespace, QueueName);

/// One queue and its jobs.
#[derive(Debug)]
pub struct Queue {
    /// What is kept of it.
    pub record: Arc<QueueRecord>,
    waiting: BTreeSet<Turn>,
    running: usize,
}

impl Queue {
    /// Jobs that wait, the next one first.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &Turn> {
        self.waiting.iter()
    }

    /// Jobs that hold one of its places.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// So many of the next ones, if they may start.
    pub(crate) fn next_ones(&self, count: usize) -> Vec<Turn> {
        let count = if self.record.paused { 0 } else { count };
        self.waiting.iter().take(count).copied().collect()
    }

    /// How many go before this one.
    #[must_use]
    pub fn ahead_of(&self, turn: Turn) -> usize {
        self.waiting.range(..turn).count()
    }

    /// Nobody waits and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }

    fn can_start(&self) -> bool {
        !self.record.paused && self.running < self.record.parallel as usize && !self.waiting.is_empty()
    }
}

/// All queues.
#[derive(Debug, Default)]
pub struct Queues {
    known: BTreeMap<QueueKey, Queue>,
    /// Those that have a job that could start and a place for it.
    ready: BTreeSet<QueueKey>,
    running: usize,
    /// Of them by namespace.
    places: BTreeMap<Namespace, usize>,
    last_ticket: u64,
}

impl Queues {
    /// A queue was made or changed.
    pub fn put(&mut self, record: Arc<QueueRecord>) {
        let key = (record.namespace.clone(), record.name.clone());
        match self.known.get_mut(&key) {
            Some(queue) => queue.record = record,
            None => {
                self.known.insert(key.clone(), Queue { record, waiting: BTreeSet::new(), running: 0 });
            }
        }
        self.refresh(&key);
    }

    /// A queue is gone; it must be idle.
    pub fn take(&mut self, key: &QueueKey) -> Option<Arc<QueueRecord>> {
        let queue = self.known.remove(key)?;
        assert!(queue.is_idle(), "a queue with jobs is not removed");
        self.ready.remove(key);
        Some(queue.record)
    }

    /// A workload that is now like this counts.
    pub fn index(&mut self, workload: &Workload) {
        self.change(workload, |queue, turn| match turn {
            Some(turn) => drop(queue.waiting.insert(turn)),
            None => queue.running += 1,
        });
        if let Some(queued) = workload.queued {
            self.last_ticket = self.last_ticket.max(queued.ticket);
        } else if workload.holds_place() {
            self.running += 1;
            *self.places.entry(workload.namespace.clone()).or_default() += 1;
        }
    }

    /// A workload that was like this no longer counts.
    pub fn unindex(&mut self, workload: &Workload) {
        self.change(workload, |queue, turn| match turn {
            Some(turn) => drop(queue.waiting.remove(&turn)),
            None => queue.running -= 1,
        });
        if workload.holds_place() {
            self.running -= 1;
            if let Some(places) = self.places.get_mut(&workload.namespace) {
                *places -= 1;
                if *places == 0 {
                    self.places.remove(&workload.namespace);
                }
            }
        }
    }

    fn change(&mut self, workload: &Workload, change: impl FnOnce(&mut Queue, Option<Turn>)) {
        let turn = workload.turn();
        let Some(name) = workload.spec.queue.as_ref().filter(|_| turn.is_some() || workload.holds_place()) else {
            return;
        };
        let key = (workload.namespace.clone(), name.clone());
        let queue = self.known.entry(key.clone()).or_insert_with(|| {
            // Records of queues are written with the first job of each, so this is a store that somebody mended by hand.
            let record = QueueRecord::new(workload.namespace.clone(), name.clone(), workload.created_at_ms);
            Queue { record: Arc::new(record), waiting: BTreeSet::new(), running: 0 }
        });
        change(queue, turn);
        self.refresh(&key);
    }

    fn refresh(&mut self, key: &QueueKey) {
        if self.known.get(key).is_some_and(Queue::can_start) {
            self.ready.insert(key.clone());
        } else {
            self.ready.remove(key);
        }
    }

    /// A ticket later than all that are known.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.last_ticket + 1
    }

    /// Jobs of all queues that are under way.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// Jobs of a namespace that hold a place in any queue.
    #[must_use]
    pub fn places(&self, namespace: &Namespace) -> usize {
        self.places.get(namespace).copied().unwrap_or(0)
    }

    /// Queues of a namespace.
    pub(crate) fn of(&self, namespace: &Namespace) -> usize {
        self.known.values().filter(|queue| queue.record.namespace == *namespace).count()
    }

    /// One queue.
    #[must_use]
    pub fn get(&self, key: &QueueKey) -> Option<&Queue> {
        self.known.get(key)
    }

    /// All of them, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.known.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The next job that may start, of the queue that comes after `last` in turn, so that every queue gets its share.
    /// `blocked`: namespaces that may start nothing now.
    pub(crate) fn next(
        &self,
        last: Option<&QueueKey>,
        blocked: impl Fn(&Namespace) -> bool,
    ) -> Option<(QueueKey, Turn)> {
        let after = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone()));
        let upto = last.map_or(Bound::Unbounded, |last| Bound::Included(last.clone()));
        let first = self.ready.range((after, Bound::Unbounded));
        let then = self.ready.range((Bound::Unbounded, upto)).take(if last.is_some() { usize::MAX } else { 0 });
        let key = first.chain(then).find(|(namespace, _)| !blocked(namespace))?;
        let turn = self.known.get(key)?.waiting.first()?;
        Some((key.clone(), *turn))
    }
}
