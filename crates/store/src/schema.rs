//! The layout of the file, and the way from each older layout to this one.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `meta` | [`Meta`](crate::Meta) |
//! | `meta` | `log` | [`LogMark`] |
//! | `node` | `node` | `NodeRecord` |
//! | `workloads` | workload id | `Workload` |
//! | `stacks` | namespace, stack | `StackRecord` |
//! | `units` | namespace, stack, unit | `UnitRecord` |
//! | `keys` | namespace, key | `IdempotencyKey` |
//! | `queues` | namespace, name | `QueueRecord` |
//! | `events` | sequence number | `Event` |
//! | `hooks` | run, hook's number | `HookCall` |
//! | `networks` | namespace, name | `NetworkRecord` |
//!
//! All values are JSON. Fields that are new and have a default need no new layout; a change that an older version
//! would misread does. Then `SCHEMA` goes up by one and [`MIGRATIONS`] gets a function; all that are needed run in
//! one transaction, after the old file was copied to `<file>.v<layout>` beside it.
//!
//! Layouts: **1** kept the node's record in `meta`, under the key `node`. **2** gives it a table of its own.
//! **3** has `queues`, `hooks`, `stacks` and `units`, and workloads that belong to them: an older version would misread
//! them. **4** has a write-ahead log beside it: an older version would not see what is in there.
//! **5** has `networks`, and workloads that are in them.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::error::Corruption;

/// The layout that this version writes.
pub const SCHEMA: u32 = 5;

/// Text to JSON.
pub(crate) type TextTable = TableDefinition<'static, &'static str, &'static [u8]>;

pub(crate) const META: TextTable = TableDefinition::new("meta");
pub(crate) const NODE: TextTable = TableDefinition::new("node");
pub(crate) const WORKLOADS: TextTable = TableDefinition::new("workloads");
/// (Namespace, name) to JSON.
pub(crate) type NamedTable = TableDefinition<'static, (&'static str, &'static str), &'static [u8]>;

pub(crate) const KEYS: NamedTable = TableDefinition::new("keys");
pub(crate) const QUEUES: NamedTable = TableDefinition::new("queues");
pub(crate) const NETWORKS: NamedTable = TableDefinition::new("networks");
/// Of a namespace.
pub(crate) const STACKS: NamedTable = TableDefinition::new("stacks");
/// (Namespace, stack, unit) to JSON.
pub(crate) const UNITS: TableDefinition<'static, (&'static str, &'static str, &'static str), &'static [u8]> =
    TableDefinition::new("units");
/// Sequence number to JSON.
pub(crate) const EVENTS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("events");

/// (Run, hook's number) to JSON.
pub(crate) const HOOKS: TableDefinition<'static, (&'static str, u8), &'static [u8]> = TableDefinition::new("hooks");

/// The only key of `meta`.
pub(crate) const META_KEY: &str = "meta";
/// The only key of `node`.
pub(crate) const NODE_KEY: &str = "node";

/// The mark of the write-ahead log, in `meta`.
pub(crate) const LOG_KEY: &str = "log";

/// Which records of the write-ahead log are still to be brought into the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogMark {
    /// Those of this epoch.
    pub(crate) epoch: u64,
    /// None at all: the store was closed in order, and is whole without the log.
    pub(crate) clean: bool,
    /// Length of the log's file, bytes.
    pub(crate) size: u64,
}

impl LogMark {
    /// Of a store that never had a log.
    const NONE: Self = Self { epoch: 0, clean: true, size: 0 };
}

/// Writes one record as JSON.
pub(crate) fn put(
    transaction: &WriteTransaction,
    table: TextTable,
    key: &str,
    record: &impl Serialize,
) -> Result<(), redb::Error> {
    let json = serde_json::to_vec(record).map_err(|error| redb::Error::Io(error.into()))?;
    transaction.open_table(table)?.insert(key, json.as_slice())?;
    Ok(())
}

/// Why a migration stopped.
#[derive(Debug)]
pub(crate) enum MigrationError {
    Database(redb::Error),
    Corrupt(Corruption),
}

impl<E: Into<redb::Error>> From<E> for MigrationError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// One step from a layout to the next.
type Migration = fn(&WriteTransaction) -> Result<(), MigrationError>;

/// `MIGRATIONS[n]` leads from layout n + 1 to n + 2.
const MIGRATIONS: [Migration; SCHEMA as usize - 1] = [node_gets_its_table, later_tables_come, log_comes, networks_come];

/// Leads from layout `from` (at least 1) to [`SCHEMA`].
pub(crate) fn migrate(transaction: &WriteTransaction, from: u32) -> Result<(), MigrationError> {
    MIGRATIONS.iter().skip(from as usize - 1).try_for_each(|step| step(transaction))
}

/// 1 → 2: the node's record moves from `meta` to `node`.
fn node_gets_its_table(transaction: &WriteTransaction) -> Result<(), MigrationError> {
    let mut meta = transaction.open_table(META)?;
    let record = meta.remove(NODE_KEY)?.map(|record| record.value().to_vec());
    let record = record
        .ok_or_else(|| MigrationError::Corrupt(Corruption::Missing { table: "meta", key: NODE_KEY.to_owned() }))?;
    transaction.open_table(NODE)?.insert(NODE_KEY, record.as_slice())?;
    Ok(())
}

/// 2 → 3: tables for queues, for the calls of hooks, for stacks and their units, with nothing in them.
fn later_tables_come(transaction: &WriteTransaction) -> Result<(), MigrationError> {
    transaction.open_table(QUEUES)?;
    transaction.open_table(HOOKS)?;
    transaction.open_table(STACKS)?;
    transaction.open_table(UNITS)?;
    Ok(())
}

/// 3 → 4: the mark of a log with nothing in it.
fn log_comes(transaction: &WriteTransaction) -> Result<(), MigrationError> {
    Ok(put(transaction, META, LOG_KEY, &LogMark::NONE)?)
}

/// 4 → 5: a table for networks, with nothing in it.
fn networks_come(transaction: &WriteTransaction) -> Result<(), MigrationError> {
    transaction.open_table(NETWORKS)?;
    Ok(())
}

/// One list for both kinds of transaction.
macro_rules! open_every_table {
    ($transaction:expr) => {{
        $transaction.open_table(META)?;
        $transaction.open_table(NODE)?;
        $transaction.open_table(WORKLOADS)?;
        $transaction.open_table(STACKS)?;
        $transaction.open_table(UNITS)?;
        $transaction.open_table(KEYS)?;
        $transaction.open_table(QUEUES)?;
        $transaction.open_table(EVENTS)?;
        $transaction.open_table(HOOKS)?;
        $transaction.open_table(NETWORKS)?;
        Ok(())
    }};
}

/// Makes every table, so that readers need not ask whether one is there.
pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    open_every_table!(transaction)
}

/// Opens every table, so that one that is missing is named.
pub(crate) fn open_all(transaction: &redb::ReadTransaction) -> Result<(), redb::Error> {
    open_every_table!(transaction)
}

/// First and last event number; `(1, 0)` while there is none.
pub(crate) fn event_bounds(events: &impl ReadableTable<u64, &'static [u8]>) -> Result<(u64, u64), redb::Error> {
    let first = events.first()?.map(|(key, _)| key.value());
    let last = events.last()?.map(|(key, _)| key.value());
    Ok((first.unwrap_or(1), last.unwrap_or(0)))
}

/// When an event happened, without looking at the rest of it.
pub(crate) fn event_time_ms(json: &[u8]) -> Result<u64, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Time {
        time_ms: u64,
    }
    serde_json::from_slice::<Time>(json).map(|time| time.time_ms)
}
