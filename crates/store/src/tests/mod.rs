//! Tests of the whole store: over a simulated disk that fails and crashes, and over real files.

mod crash;
mod damage;
mod disk;
mod files;
mod group;
mod retention;
mod wal;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hostler_model::event::{Event, EventKind};
use hostler_model::hook::{HookCall, HookKey};
use hostler_model::ids::{NodeTag, StoreId, WorkloadId};
use hostler_model::network::NetworkRecord;
use hostler_model::queue::QueueRecord;
use hostler_model::record::{Batch, FiredHook, IdempotencyKey, NodeRecord, Record, Urgency};
use hostler_model::stack::{StackRecord, UnitRecord};
use hostler_model::workload::Workload;
use redb::StorageBackend;

use self::disk::Disk;
use crate::{CommitError, Committed, Loaded, NewStore, OpenError, Options, Reader, Store, open};

/// Longer than anything that works takes.
const LONG: Duration = Duration::from_secs(60);

fn identity() -> NewStore {
    NewStore { store: StoreId::from_bytes([7; 8]), tag: NodeTag::from_bytes([1, 2, 3]), now_ms: 1_000 }
}

fn workload(number: u8, generation: u32) -> Arc<Workload> {
    // From JSON, so that a new field with a default does not concern the store's tests.
    let json = serde_json::json!({
        "id": WorkloadId::from_bytes([number, 0, 0, 0, 0, 1]), "namespace": hostler_model::Namespace::owner(),
        "name": format!("w{number}"), "generation": generation, "spec": {"command": ["sleep", "60"]},
        "identity": {"uid": 0, "gid": 0}, "limits": {}, "desired": "run", "created_at_ms": 5, "runs": 0,
    });
    Arc::new(serde_json::from_value(json).expect("a workload"))
}

fn event(time_ms: u64) -> Event {
    Event { time_ms, kind: EventKind::NodeLameDuck { lame_duck: true }, subject: None }
}

fn events(count: usize, time_ms: u64) -> Batch {
    Batch { records: Vec::new(), events: vec![event(time_ms); count], urgency: Urgency::Prompt }
}

fn key(name: &str) -> IdempotencyKey {
    IdempotencyKey {
        namespace: hostler_model::Namespace::owner(),
        key: name.to_owned(),
        digest: "d".to_owned(),
        workload: WorkloadId::from_bytes([9; 6]),
        created_at_ms: 3,
    }
}

fn queue(name: &str, parallel: u32) -> QueueRecord {
    let name = name.parse().expect("a name");
    QueueRecord { parallel, ..QueueRecord::new(hostler_model::Namespace::owner(), name, 4) }
}

fn network(name: &str, number: u8) -> NetworkRecord {
    let json = serde_json::json!({
        "id": hostler_model::NetworkId::from_bytes([0, 0, number]), "namespace": hostler_model::Namespace::owner(),
        "name": name, "spec": {"internal": true}, "created_at_ms": 6,
        "bridge": {"subnet": format!("10.0.{number}.0/24"), "gateway": format!("10.0.{number}.1")},
    });
    serde_json::from_value(json).expect("a network")
}

/// A hook that fires with the batch's event of this number.
fn fired(hook: u8, event: usize) -> Record {
    let workload = workload(1, 1);
    let run = hostler_model::RunId { workload: workload.id, number: 1 };
    let json = serde_json::json!({
        "run": run, "hook": hook, "fired_at_ms": 6,
        "definition": {"on": "end", "action": {"http": {"url": "http://localhost/"}}},
        "subject": {"workload": workload.id, "namespace": workload.namespace, "name": workload.name, "phase": "ended",
            "generation": 1, "runs": 1},
    });
    Record::HookFired(FiredHook { call: Arc::new(serde_json::from_value(json).expect("a call")), event })
}

fn done(hook: u8) -> Record {
    Record::HookDone((hostler_model::RunId { workload: workload(1, 1).id, number: 1 }, hook))
}

fn stack(number: u8, revision: u32) -> Arc<StackRecord> {
    let json = serde_json::json!({
        "namespace": hostler_model::Namespace::owner(), "name": format!("s{number}"), "revision": revision,
        "applied_at_ms": 5,
    });
    Arc::new(serde_json::from_value(json).expect("a stack"))
}

fn unit(number: u8, generation: u32) -> Arc<UnitRecord> {
    let json = serde_json::json!({
        "name": format!("u{number}"), "generations": generation,
        "current": {
            "number": generation, "identity": {"uid": 0, "gid": 0}, "state": "waiting",
            "plan": {"kind": "job", "spec": {"command": ["true"]}, "ready": {"when": "success"}, "replicas": 1},
        },
    });
    Arc::new(serde_json::from_value(json).expect("a unit"))
}

fn submit(store: &Store, batch: Batch, now_ms: u64) -> Receiver<Result<Committed, CommitError>> {
    let (sender, receiver) = channel();
    let done = Box::new(move |result| drop(sender.send(result)));
    store.submit(batch, now_ms, done).expect("room in the queue");
    receiver
}

fn commit(store: &Store, batch: Batch, now_ms: u64) -> Committed {
    submit(store, batch, now_ms).recv_timeout(LONG).expect("an answer").expect("committed")
}

/// Makes or loads the store of a disk.
fn open_on(disk: &Disk, options: Options) -> Result<(Store, Loaded), OpenError> {
    let path = Path::new("simulated");
    let store = disk.store();
    let opened = if store.len().expect("length") == 0 {
        open::create(path, store, disk, &options, identity())?
    } else {
        open::load(path, store, disk, &options, |_| Ok(()))?
    };
    Ok(Store::start(opened, options).expect("a thread"))
}

/// All events, page by page, decoded; checks that their numbers have no gap.
fn read_all(reader: &Reader) -> Vec<Event> {
    let mut found = Vec::new();
    let mut next = reader.oldest_sequence().expect("oldest");
    loop {
        let page = reader.events(next, usize::MAX).expect("a page");
        if page.is_empty() {
            assert_eq!(next, reader.last_sequence() + 1);
            return found;
        }
        for (sequence, json) in page {
            assert_eq!(sequence, next);
            next += 1;
            found.push(serde_json::from_slice(&json).expect("an event"));
        }
    }
}

/// What a store should hold: the batches applied one after the other, in memory.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    node: NodeRecord,
    workloads: BTreeMap<WorkloadId, Workload>,
    stacks: BTreeMap<String, StackRecord>,
    units: BTreeMap<(String, String), UnitRecord>,
    keys: BTreeMap<String, IdempotencyKey>,
    queues: BTreeMap<String, QueueRecord>,
    networks: BTreeMap<String, NetworkRecord>,
    hooks: BTreeMap<HookKey, HookCall>,
    events: Vec<Event>,
}

impl Model {
    fn apply(&mut self, batch: &Batch) {
        let first_event = self.events.len() as u64 + 1;
        for record in &batch.records {
            match record {
                Record::Workload(workload) => drop(self.workloads.insert(workload.id, (**workload).clone())),
                Record::WorkloadRemoved(id) => drop(self.workloads.remove(id)),
                Record::Stack(stack) => drop(self.stacks.insert(stack.name.to_string(), (**stack).clone())),
                Record::StackRemoved(_, stack) => drop(self.stacks.remove(stack.as_str())),
                Record::StackUnit(_, stack, unit) => {
                    self.units.insert((stack.to_string(), unit.name.to_string()), (**unit).clone());
                }
                Record::StackUnitRemoved(_, stack, unit) => {
                    self.units.remove(&(stack.to_string(), unit.to_string()));
                }
                Record::Node(node) => self.node = node.clone(),
                Record::IdempotencyKey(key) => drop(self.keys.insert(key.key.clone(), key.clone())),
                Record::IdempotencyKeyForgotten(_, key) => drop(self.keys.remove(key)),
                Record::Queue(queue) => {
                    drop(self.queues.insert(queue.name.to_string(), QueueRecord::clone(queue)));
                }
                Record::QueueRemoved(_, name) => drop(self.queues.remove(name.as_str())),
                Record::Network(network) => {
                    drop(self.networks.insert(network.name.to_string(), NetworkRecord::clone(network)));
                }
                Record::NetworkRemoved(_, name) => drop(self.networks.remove(name.as_str())),
                Record::HookFired(fired) => drop(self.hooks.insert(fired.call.key(), fired.numbered(first_event))),
                Record::HookDone(key) => drop(self.hooks.remove(key)),
            }
        }
        self.events.extend(batch.events.iter().cloned());
    }

    fn of(loaded: &Loaded, reader: &Reader) -> Self {
        Self {
            node: loaded.node.clone(),
            workloads: loaded.workloads.iter().map(|workload| (workload.id, workload.clone())).collect(),
            stacks: loaded.stacks.iter().map(|stack| (stack.name.to_string(), stack.clone())).collect(),
            units: loaded
                .stack_units
                .iter()
                .map(|(_, stack, unit)| ((stack.to_string(), unit.name.to_string()), unit.clone()))
                .collect(),
            keys: loaded.idempotency_keys.iter().map(|key| (key.key.clone(), key.clone())).collect(),
            queues: loaded.queues.iter().map(|queue| (queue.name.to_string(), queue.clone())).collect(),
            networks: loaded.networks.iter().map(|network| (network.name.to_string(), network.clone())).collect(),
            hooks: loaded.hook_calls.iter().map(|call| (call.key(), call.clone())).collect(),
            events: read_all(reader),
        }
    }
}
