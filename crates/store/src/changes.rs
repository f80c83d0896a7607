//! What a group of batches changes: gathered, as JSON, for the log and for the tables.
//!
//! Within a group only the last change of each thing is serialised; until a checkpoint only the last one of all groups is
//! kept. A job that was queued, run and removed in between is never written to the tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostler_model::hook::{HookCall, HookKey};
use hostler_model::ids::{Namespace, NetworkName, QueueName, StackName, UnitName, WorkloadId};
use hostler_model::network::NetworkRecord;
use hostler_model::queue::QueueRecord;
use hostler_model::record::{Batch, IdempotencyKey, NodeRecord, Record};
use hostler_model::stack::{StackRecord, UnitRecord};
use hostler_model::workload::Workload;
use redb::{Table, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::schema;

/// One thing that is kept. Ordered as the tables and their keys are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Key {
    Node,
    Workload(WorkloadId),
    Stack(Namespace, StackName),
    Unit(Namespace, StackName, UnitName),
    Idempotency(Namespace, String),
    Queue(Namespace, QueueName),
    Hook(HookKey),
    Network(Namespace, NetworkName),
}

/// How a thing stands now.
enum Value<'a> {
    Removed,
    Node(&'a NodeRecord),
    Workload(&'a Workload),
    Stack(&'a StackRecord),
    Unit(&'a UnitRecord),
    IdempotencyKey(&'a IdempotencyKey),
    Queue(&'a QueueRecord),
    Hook(Box<HookCall>),
    Network(&'a NetworkRecord),
}

impl Value<'_> {
    fn json(&self, json: &mut Json) -> serde_json::Result<Option<Box<[u8]>>> {
        let json = match self {
            Self::Removed => return Ok(None),
            Self::Node(node) => json.of(node),
            Self::Workload(workload) => json.of(workload),
            Self::Stack(stack) => json.of(stack),
            Self::Unit(unit) => json.of(unit),
            Self::IdempotencyKey(key) => json.of(key),
            Self::Queue(queue) => json.of(queue),
            Self::Hook(call) => json.of(call),
            Self::Network(network) => json.of(network),
        };
        json.map(|json| Some(json.into()))
    }
}

/// A buffer that grows once for all: what is kept is a copy of its exact size.
#[derive(Default)]
struct Json(Vec<u8>);

impl Json {
    fn of(&mut self, value: &impl Serialize) -> serde_json::Result<&[u8]> {
        self.0.clear();
        serde_json::to_writer(&mut self.0, value)?;
        Ok(&self.0)
    }
}

/// The last change of each thing, as JSON; `None` where it is gone.
pub(crate) type Changes = BTreeMap<Key, Option<Box<[u8]>>>;

/// What becomes durable together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) changes: Changes,
    /// In the order of their numbers.
    pub(crate) events: Vec<Arc<[u8]>>,
}

impl Group {
    /// The batches with the number of each one's first event.
    pub(crate) fn of<'a>(batches: impl Iterator<Item = (&'a Batch, u64)>) -> serde_json::Result<Self> {
        let mut last = BTreeMap::new();
        let mut events = Vec::new();
        let mut json = Json::default();
        for (batch, first_event) in batches {
            last.extend(batch.records.iter().map(|record| change(record, first_event)));
            for event in &batch.events {
                events.push(json.of(event)?.into());
            }
        }
        let changes = last.into_iter().map(|(key, value)| Ok((key, value.json(&mut json)?)));
        Ok(Self { changes: changes.collect::<serde_json::Result<_>>()?, events })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.events.is_empty()
    }

    /// It is longer than this when encoded, bytes.
    pub(crate) fn least_length(&self) -> usize {
        self.changes.values().flatten().map(|json| json.len()).sum::<usize>()
            + self.events.iter().map(|json| json.len()).sum::<usize>()
    }

    /// As the log has it: lines of JSON. How many changes and events; then key and value of each change, the value empty
    /// where the thing is gone; then the events.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(&mut *out, &(self.changes.len(), self.events.len()))?;
        out.push(b'\n');
        for (key, value) in &self.changes {
            serde_json::to_writer(&mut *out, key)?;
            out.push(b'\n');
            out.extend_from_slice(value.as_deref().unwrap_or_default());
            out.push(b'\n');
        }
        for event in &self.events {
            out.extend_from_slice(event);
            out.push(b'\n');
        }
        Ok(())
    }

    /// The way back; what the values say is judged when they are loaded.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, String> {
        let mut lines = payload.split(|byte| *byte == b'\n');
        let mut line = || lines.next().ok_or_else(|| "it ends too early".to_owned());
        let (changes, events): (usize, usize) = parse(line()?)?;
        let mut group = Self::default();
        for _ in 0..changes {
            let (key, value) = (parse(line()?)?, line()?);
            group.changes.insert(key, (!value.is_empty()).then(|| value.into()));
        }
        for _ in 0..events {
            group.events.push(line()?.into());
        }
        Ok(group)
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

fn change(record: &Record, first_event: u64) -> (Key, Value<'_>) {
    match record {
        Record::Node(node) => (Key::Node, Value::Node(node)),
        Record::Workload(workload) => (Key::Workload(workload.id), Value::Workload(workload)),
        Record::WorkloadRemoved(id) => (Key::Workload(*id), Value::Removed),
        Record::Stack(stack) => (Key::Stack(stack.namespace.clone(), stack.name.clone()), Value::Stack(stack)),
        Record::StackRemoved(namespace, name) => (Key::Stack(namespace.clone(), name.clone()), Value::Removed),
        Record::StackUnit(namespace, stack, unit) => {
            (Key::Unit(namespace.clone(), stack.clone(), unit.name.clone()), Value::Unit(unit))
        }
        Record::StackUnitRemoved(namespace, stack, unit) => {
            (Key::Unit(namespace.clone(), stack.clone(), unit.clone()), Value::Removed)
        }
        Record::Queue(queue) => (Key::Queue(queue.namespace.clone(), queue.name.clone()), Value::Queue(queue)),
        Record::QueueRemoved(namespace, name) => (Key::Queue(namespace.clone(), name.clone()), Value::Removed),
        Record::Network(network) => {
            (Key::Network(network.namespace.clone(), network.name.clone()), Value::Network(network))
        }
        Record::NetworkRemoved(namespace, name) => (Key::Network(namespace.clone(), name.clone()), Value::Removed),
        Record::IdempotencyKey(key) => {
            (Key::Idempotency(key.namespace.clone(), key.key.clone()), Value::IdempotencyKey(key))
        }
        Record::IdempotencyKeyForgotten(namespace, key) => {
            (Key::Idempotency(namespace.clone(), key.clone()), Value::Removed)
        }
        Record::HookFired(fired) => (Key::Hook(fired.call.key()), Value::Hook(Box::new(fired.numbered(first_event)))),
        Record::HookDone(key) => (Key::Hook(*key), Value::Removed),
    }
}

/// Writes changes to their tables.
pub(crate) fn write(transaction: &WriteTransaction, changes: &Changes) -> Result<(), redb::Error> {
    let mut node = transaction.open_table(schema::NODE)?;
    let mut workloads = transaction.open_table(schema::WORKLOADS)?;
    let mut stacks = transaction.open_table(schema::STACKS)?;
    let mut units = transaction.open_table(schema::UNITS)?;
    let mut keys = transaction.open_table(schema::KEYS)?;
    let mut queues = transaction.open_table(schema::QUEUES)?;
    let mut hooks = transaction.open_table(schema::HOOKS)?;
    let mut networks = transaction.open_table(schema::NETWORKS)?;
    for (key, value) in changes {
        let value = value.as_deref();
        match key {
            Key::Node => put(&mut node, schema::NODE_KEY, value),
            Key::Workload(id) => put(&mut workloads, id.to_string().as_str(), value),
            Key::Stack(namespace, name) => put(&mut stacks, (namespace.as_str(), name.as_str()), value),
            Key::Unit(namespace, stack, name) => {
                put(&mut units, (namespace.as_str(), stack.as_str(), name.as_str()), value)
            }
            Key::Idempotency(namespace, key) => put(&mut keys, (namespace.as_str(), key.as_str()), value),
            Key::Queue(namespace, name) => put(&mut queues, (namespace.as_str(), name.as_str()), value),
            Key::Hook((run, hook)) => put(&mut hooks, (run.to_string().as_str(), *hook), value),
            Key::Network(namespace, name) => put(&mut networks, (namespace.as_str(), name.as_str()), value),
        }?;
    }
    Ok(())
}

/// Appends events to their table, numbered from `first`.
pub(crate) fn append<'t>(
    transaction: &'t WriteTransaction,
    first: u64,
    new: &[Arc<[u8]>],
) -> Result<Table<'t, u64, &'static [u8]>, redb::Error> {
    let mut events = transaction.open_table(schema::EVENTS)?;
    for (sequence, event) in (first..).zip(new) {
        events.insert(sequence, &**event)?;
    }
    Ok(events)
}

fn put<'k, K: redb::Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
    value: Option<&[u8]>,
) -> Result<(), redb::StorageError> {
    match value {
        Some(value) => drop(table.insert(key, value)?),
        None => drop(table.remove(key)?),
    }
    Ok(())
}
