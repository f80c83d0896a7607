//! From a path to a loaded store, or the precise reason why not.
//!
//! ```text
//! no file ──► make <file>.new, locked ──► make the log ──► first commit ──► rename ──► sync directory ──► loaded
//! a file ───► read only: lock, repair or verify, newer? older: migrate, replay the log, load all ──► go live ──► loaded
//!                          └── anything wrong: both files stay as they were (staged.rs)
//! ```
//! A store is never half made: under its own name it is whole, so an empty file there is damage and not a beginning.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hostler_model::hook::HookCall;
use hostler_model::ids::{Namespace, StackName};
use hostler_model::limits;
use hostler_model::network::NetworkRecord;
use hostler_model::queue::QueueRecord;
use hostler_model::record::{IdempotencyKey, NodeRecord};
use hostler_model::stack::{StackRecord, UnitRecord};
use hostler_model::workload::Workload;
use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ballast::sync_directory;
use crate::changes::{self, Group};
use crate::error::{Corruption, OpenError, is_no_space, panic_text};
use crate::schema::{self, LogMark, MigrationError, SCHEMA};
use crate::staged::Staged;
use crate::wal::{self, Beside, Place, Recovered, Wal};
use crate::writer::Store;
use crate::{Loaded, Meta, NewStore, Options};

/// What goes into [`Meta::written_by`].
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How often a store that appears or vanishes while it is being opened is looked for again.
const ATTEMPTS: usize = 8;

/// A database with everything read from it.
pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) loaded: Loaded,
    /// The numbers of the first and last event.
    pub(crate) bounds: (u64, u64),
    /// Empty.
    pub(crate) wal: Wal,
}

/// Where opening stopped; the path is added on the way out.
pub(crate) enum Failure {
    Database(redb::Error),
    Corrupt(Corruption),
    Newer { schema: u32, written_by: String },
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

impl Failure {
    fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Newer { schema, written_by } => OpenError::Newer { path, schema, written_by, ours: SCHEMA },
            Self::Corrupt(source) => OpenError::Corrupt { path, source },
            Self::Database(redb::Error::DatabaseAlreadyOpen) => OpenError::Locked { path },
            Self::Database(redb::Error::Io(source)) => match source.kind() {
                // The database's own words for "not mine" and "shorter than it should be".
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    OpenError::Corrupt { path, source: Corruption::Database(source.to_string()) }
                }
                _ => system_error(path, source),
            },
            Self::Database(other) => OpenError::Corrupt { path, source: Corruption::Database(other.to_string()) },
        }
    }
}

fn system_error(path: PathBuf, source: io::Error) -> OpenError {
    if is_no_space(&source) { OpenError::NoSpace { path, source } } else { OpenError::Unreadable { path, source } }
}

impl Store {
    /// Opens the store at `path` and reads everything but its events, or makes it if there is none; `identity` is
    /// used only then. A store of an older layout is migrated, and a copy of the old file kept as `<path>.v<layout>`.
    ///
    /// # Errors
    /// Precise, and with the way out: see [`OpenError`]. The file is then what it was before.
    pub fn open(path: &Path, options: Options, identity: NewStore) -> Result<(Self, Loaded), OpenError> {
        let unreadable = |source| system_error(path.to_owned(), source);
        let opened = find_or_make(path, &options, identity)?;
        let (workloads, last_event) = (opened.loaded.workloads.len(), opened.bounds.1);
        tracing::debug!(path = %path.display(), workloads, last_event, "store open");
        Self::start(opened, options).map_err(unreadable)
    }
}

fn find_or_make(path: &Path, options: &Options, identity: NewStore) -> Result<Opened, OpenError> {
    let system = |source| system_error(path.to_owned(), source);
    for _ in 0..ATTEMPTS {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) if file.metadata().map_err(system)?.is_dir() => {
                return Err(system(io::ErrorKind::IsADirectory.into()));
            }
            Ok(file) => {
                let backend = FileBackend::new(file).map_err(|error| Failure::from(error).at(path))?;
                return load(path, backend, &Beside::store(path), options, |schema| keep_copy(path, schema));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system(error)),
        }
        let unfinished = beside(path, "new");
        let Some(file) = lock_unfinished(path, &unfinished)? else { continue };
        let made = make(path, file, &unfinished, options, identity);
        if made.is_err() {
            // What is left would only take up room; the error to tell is the first one.
            let _ = fs::remove_file(&unfinished);
        }
        return made;
    }
    Err(system(io::Error::other("the file appears and vanishes again and again")))
}

/// `<path>.<suffix>`
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// The file a new store is made in: empty, and locked against another daemon that starts at the same moment.
/// `None` when that other one was faster and the store is there now.
fn lock_unfinished(path: &Path, unfinished: &Path) -> Result<Option<File>, OpenError> {
    let system = |source| system_error(path.to_owned(), source);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(unfinished);
    let file = open.map_err(system)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(system(error)),
    }
    // Between open and lock another daemon may have renamed this very file: then it is a store, not ours to empty.
    let ours = file.metadata().map_err(system)?;
    let same = fs::metadata(unfinished).is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino()));
    if !same || path.exists() {
        return Ok(None);
    }
    file.set_len(0).map_err(system)?;
    Ok(Some(file))
}

fn make(
    path: &Path,
    file: File,
    unfinished: &Path,
    options: &Options,
    identity: NewStore,
) -> Result<Opened, OpenError> {
    let system = |source| system_error(path.to_owned(), source);
    let backend = FileBackend::new(file).map_err(|error| Failure::from(error).at(path))?;
    let opened = create(path, backend, &Beside::store(path), options, identity)?;
    fs::rename(unfinished, path).and_then(|()| sync_directory(path)).map_err(system)?;
    Ok(opened)
}

/// Makes a new store in an empty storage.
pub(crate) fn create(
    path: &Path,
    backend: impl StorageBackend,
    log: &dyn Place,
    options: &Options,
    identity: NewStore,
) -> Result<Opened, OpenError> {
    let log = log.set_aside().and_then(|()| log.make(options.log_bytes));
    let log = log.map_err(|error| system_error(path.to_owned(), error))?;
    let meta = Meta {
        store: identity.store,
        tag: identity.tag,
        schema: SCHEMA,
        created_at_ms: identity.now_ms,
        written_by: VERSION.to_owned(),
    };
    let node = NodeRecord::default();
    let mark = LogMark { epoch: 1, clean: false, size: options.log_bytes };
    let make = || -> Result<(Database, Wal), Failure> {
        let database = Database::builder().set_cache_size(options.cache_bytes).create_with_backend(backend)?;
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        schema::create_tables(&transaction)?;
        schema::put(&transaction, schema::META, schema::META_KEY, &meta)?;
        schema::put(&transaction, schema::NODE, schema::NODE_KEY, &node)?;
        schema::put(&transaction, schema::META, schema::LOG_KEY, &mark)?;
        transaction.commit()?;
        Ok((database, Wal::start(log, identity.store, mark.epoch).map_err(redb::Error::Io)?))
    };
    let (database, wal) = make().map_err(|failure| failure.at(path))?;
    let loaded = Loaded {
        meta,
        node,
        workloads: Vec::new(),
        stacks: Vec::new(),
        stack_units: Vec::new(),
        idempotency_keys: Vec::new(),
        queues: Vec::new(),
        networks: Vec::new(),
        hook_calls: Vec::new(),
        created: true,
    };
    Ok(Opened { database, loaded, bounds: (1, 0), wal })
}

/// Loads the store in a storage that must hold one. `keep_copy` is asked to copy a file of an older layout, whose
/// number it gets, before anything in it is changed.
pub(crate) fn load(
    path: &Path,
    backend: impl StorageBackend,
    place: &dyn Place,
    options: &Options,
    keep_copy: impl FnOnce(u32) -> io::Result<()>,
) -> Result<Opened, OpenError> {
    let system = |source| system_error(path.to_owned(), source);
    if backend.len().map_err(system)? == 0 {
        return Err(Failure::Corrupt(Corruption::Empty).at(path));
    }
    let staged = Staged::new(backend);
    let attempt = || -> Result<_, Failure> {
        let repaired = Arc::new(AtomicBool::new(false));
        let notice = Arc::clone(&repaired);
        let mut database = Database::builder()
            .set_cache_size(options.cache_bytes)
            .set_repair_callback(move |_| notice.store(true, Ordering::Relaxed))
            .create_with_backend(staged.clone())?;
        // Before anything else looks at tables that a newer layout may not have.
        read_head(&database)?;
        if !repaired.load(Ordering::Relaxed) {
            verify(&mut database)?;
        }
        let found = upgrade(&database)?;
        let (log, epoch) = replay(&database, place, options.log_bytes)?;
        Ok((load_all(&database.begin_read()?)?, database, log, epoch, found))
    };
    // Only memory is touched in there, and it is dropped if it panics.
    let ((loaded, bounds), database, log, epoch, found) = match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(result) => result.map_err(|failure| failure.at(path))?,
        Err(panic) => return Err(Failure::Corrupt(Corruption::Panic(panic_text(&*panic))).at(path)),
    };
    if found < SCHEMA {
        keep_copy(found).map_err(system)?;
        tracing::info!(path = %path.display(), from = found, to = SCHEMA, "store migrated; the old file was kept beside it");
    }
    let log = log.map_or_else(|| place.make(options.log_bytes), Ok).map_err(system)?;
    let wal = Wal::start(log, loaded.meta.store, epoch).map_err(system)?;
    staged.go_live().map_err(system)?;
    Ok(Opened { database, loaded, bounds, wal })
}

/// Brings what the log holds into the tables. Gives the log for the time to come, `None` if one has to be made, which
/// shall have `size` bytes then; and its epoch.
fn replay(database: &Database, place: &dyn Place, size: u64) -> Result<(Option<wal::Backend>, u64), Failure> {
    let damaged = |reason: String| Failure::Corrupt(Corruption::Log(reason));
    let (mark, store) = {
        let transaction = database.begin_read()?;
        // A table that is missing is damage, and not to be made by writing to it.
        schema::open_all(&transaction)?;
        let meta = transaction.open_table(schema::META)?;
        let bytes = meta.get(schema::LOG_KEY)?.ok_or_else(|| missing("meta", schema::LOG_KEY))?;
        let mark = parse::<LogMark>("meta", schema::LOG_KEY, bytes.value())?;
        let bytes = meta.get(schema::META_KEY)?.ok_or_else(|| missing("meta", schema::META_KEY))?;
        (mark, parse::<Meta>("meta", schema::META_KEY, bytes.value())?.store)
    };
    let log = place.find().map_err(redb::Error::Io)?;
    let length = log.as_ref().map(|log| log.len()).transpose().map_err(redb::Error::Io)?;
    // One of another length is refused, or made anew: it is not worth the memory.
    let found = match &log {
        Some(log) if length == Some(if mark.clean { size } else { mark.size }) => {
            wal::recover(&**log, store, mark.epoch).map_err(redb::Error::Io)?
        }
        _ => Recovered::default(),
    };
    let newest = found.newest.unwrap_or(0);
    let mut group = Group::default();
    if !mark.clean {
        let obstacle = match length {
            None => Some("it is missing, and holds the last changes".to_owned()),
            Some(length) if length != mark.size => Some(format!("it has {length} bytes instead of {}", mark.size)),
            Some(_) if found.foreign => Some("it belongs to another store".to_owned()),
            Some(_) if newest > mark.epoch.saturating_add(1) => {
                Some("it belongs to a later state of the store".to_owned())
            }
            Some(_) if found.damaged => {
                Some(format!("record {} is damaged, and some behind it are whole", found.payloads.len()))
            }
            Some(_) => None,
        };
        if let Some(reason) = obstacle {
            return Err(damaged(reason));
        }
        for (number, payload) in found.payloads.iter().enumerate() {
            let more = Group::decode(payload).map_err(|error| damaged(format!("record {number}: {error}")))?;
            group.changes.extend(more.changes);
            group.events.extend(more.events);
        }
    }
    let log = log.filter(|_| !mark.clean || length == Some(size));
    // Above whatever is in the file: none of it may ever be taken for a record of the time to come.
    // The first record of the next epoch may be there in part.
    let epoch = mark.epoch.saturating_add(1).max(newest).checked_add(1);
    let epoch = epoch.ok_or_else(|| damaged("its epochs are at their end".to_owned()))?;
    let mark = LogMark { epoch, clean: false, size: log.as_ref().and(length).unwrap_or(size) };
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    changes::write(&transaction, &group.changes)?;
    let (_, last) = schema::event_bounds(&transaction.open_table(schema::EVENTS)?)?;
    drop(changes::append(&transaction, last + 1, &group.events)?);
    schema::put(&transaction, schema::META, schema::LOG_KEY, &mark)?;
    transaction.commit()?;
    Ok((log, epoch))
}

/// Verifies every checksum. A repair has done so; after an orderly close the database trusts its pages, and we do not.
fn verify(database: &mut Database) -> Result<(), Failure> {
    let before = extent(database)?;
    if database.check_integrity()? {
        return Ok(());
    }
    // It was mended: pages that nobody uses are harmless, going back to an older commit is not.
    if extent(database)? != before {
        return Err(Failure::Corrupt(Corruption::Database("its checksums do not match".to_owned())));
    }
    tracing::warn!("the store's unused pages were not in order, and are now");
    Ok(())
}

/// How much there is; another commit has other numbers.
fn extent(database: &Database) -> Result<(u64, u64, u64, u64), Failure> {
    let transaction = database.begin_read()?;
    let (first, last) = schema::event_bounds(&transaction.open_table(schema::EVENTS)?)?;
    let workloads = transaction.open_table(schema::WORKLOADS)?.len()?;
    Ok((first, last, workloads, transaction.open_table(schema::KEYS)?.len()?))
}

/// Copies the store to `<path>.v<schema>`. The file is locked by us, and unchanged so far.
fn keep_copy(path: &Path, schema: u32) -> io::Result<()> {
    let (copy, unfinished) = (beside(path, &format!("v{schema}")), beside(path, "copy"));
    let result = fs::copy(path, &unfinished)
        .and_then(|_| File::open(&unfinished)?.sync_all())
        .and_then(|()| fs::rename(&unfinished, &copy));
    if result.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    result?;
    sync_directory(path)
}

/// All that every layout, future ones too, has in common.
#[derive(Deserialize)]
struct Head {
    schema: u32,
    written_by: String,
}

/// Reads who wrote the store, and refuses what a newer version has changed.
fn read_head(database: &Database) -> Result<(Head, Vec<u8>), Failure> {
    let meta = database.begin_read()?.open_table(schema::META)?;
    let bytes = meta.get(schema::META_KEY)?.map(|value| value.value().to_vec());
    let bytes = bytes.ok_or_else(|| missing("meta", schema::META_KEY))?;
    let head: Head = parse("meta", schema::META_KEY, &bytes)?;
    match head.schema {
        0 => Err(bad_record("meta", schema::META_KEY, "there is no layout 0")),
        newer if newer > SCHEMA => Err(Failure::Newer { schema: newer, written_by: head.written_by }),
        _ => Ok((head, bytes)),
    }
}

/// Brings an older layout to this one and signs the store with this version. Returns the layout that was found.
fn upgrade(database: &Database) -> Result<u32, Failure> {
    let (head, bytes) = read_head(database)?;
    if head.schema == SCHEMA && head.written_by == VERSION {
        return Ok(SCHEMA);
    }
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    schema::migrate(&transaction, head.schema).map_err(|error| match error {
        MigrationError::Database(error) => Failure::Database(error),
        MigrationError::Corrupt(error) => Failure::Corrupt(error),
    })?;
    let meta: Meta = parse("meta", schema::META_KEY, &bytes)?;
    let meta = Meta { schema: SCHEMA, written_by: VERSION.to_owned(), ..meta };
    schema::put(&transaction, schema::META, schema::META_KEY, &meta)?;
    transaction.commit()?;
    Ok(head.schema)
}

fn load_all(transaction: &ReadTransaction) -> Result<(Loaded, (u64, u64)), Failure> {
    let single = |table, name: &'static str, key| -> Result<Vec<u8>, Failure> {
        let value = transaction.open_table::<&str, &[u8]>(table)?.get(key)?.map(|value| value.value().to_vec());
        value.ok_or_else(|| missing(name, key))
    };
    let meta: Meta = parse("meta", schema::META_KEY, &single(schema::META, "meta", schema::META_KEY)?)?;
    let node: NodeRecord = parse("node", schema::NODE_KEY, &single(schema::NODE, "node", schema::NODE_KEY)?)?;

    let mut workloads: Vec<Workload> = Vec::new();
    let table = transaction.open_table(schema::WORKLOADS)?;
    for entry in table.iter()? {
        let (key, value) = entry?;
        let workload: Workload = parse("workloads", key.value(), value.value())?;
        // Strictly upwards: a damaged tree could lead round in a circle, or name a record twice.
        let in_order = workloads.last().is_none_or(|last| last.id < workload.id);
        if workload.id.to_string() != key.value() || !in_order || workloads.len() == limits::WORKLOADS_MAX {
            return Err(bad_record("workloads", key.value(), "it is not where it belongs"));
        }
        workloads.push(workload);
    }
    check_count("workloads", workloads.len(), table.len()?)?;

    let (stacks, stack_units) = load_stacks(transaction)?;
    let idempotency_keys = load_named(transaction, "keys", schema::KEYS, |key: &IdempotencyKey| {
        (key.namespace.as_str().to_owned(), key.key.clone())
    })?;
    let queues = load_named(transaction, "queues", schema::QUEUES, |queue: &QueueRecord| {
        (queue.namespace.as_str().to_owned(), queue.name.as_str().to_owned())
    })?;
    let networks = load_named(transaction, "networks", schema::NETWORKS, |network: &NetworkRecord| {
        (network.namespace.as_str().to_owned(), network.name.as_str().to_owned())
    })?;
    let hook_calls = load_hook_calls(transaction)?;
    let bounds = load_event_bounds(transaction)?;
    let loaded = Loaded {
        meta,
        node,
        workloads,
        stacks,
        stack_units,
        idempotency_keys,
        queues,
        networks,
        hook_calls,
        created: false,
    };
    Ok((loaded, bounds))
}

/// All records of a table whose things are known by namespace and name, which `id` tells.
fn load_named<T: DeserializeOwned>(
    transaction: &ReadTransaction,
    name: &'static str,
    table: schema::NamedTable,
    id: impl Fn(&T) -> (String, String),
) -> Result<Vec<T>, Failure> {
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let table = transaction.open_table(table)?;
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (namespace, key) = key.value();
        let record: T = parse(name, key, value.value())?;
        let belongs = id(&record);
        if (belongs.0.as_str(), belongs.1.as_str()) != (namespace, key) || !seen.insert(belongs) {
            return Err(bad_record(name, key, "it is not where it belongs"));
        }
        records.push(record);
    }
    check_count(name, records.len(), table.len()?)?;
    Ok(records)
}

fn load_hook_calls(transaction: &ReadTransaction) -> Result<Vec<HookCall>, Failure> {
    let mut calls: Vec<HookCall> = Vec::new();
    let table = transaction.open_table(schema::HOOKS)?;
    for entry in table.iter()? {
        let (id, value) = entry?;
        let (run, hook) = id.value();
        let call: HookCall = parse("hooks", run, value.value())?;
        let twice = calls.last().is_some_and(|last| last.key() == call.key());
        if call.run.to_string() != run || call.hook != hook || twice || calls.len() >= limits::HOOK_CALLS_MAX {
            return Err(bad_record("hooks", run, "it is not where it belongs"));
        }
        calls.push(call);
    }
    check_count("hooks", calls.len(), table.len()?)?;
    Ok(calls)
}

/// Stacks and their units, in the order of their keys: each one once, and where it belongs.
#[allow(clippy::type_complexity, reason = "the two lists of Loaded")]
fn load_stacks(
    transaction: &ReadTransaction,
) -> Result<(Vec<StackRecord>, Vec<(Namespace, StackName, UnitRecord)>), Failure> {
    let mut stacks: Vec<StackRecord> = Vec::new();
    let table = transaction.open_table(schema::STACKS)?;
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (namespace, name) = key.value();
        let stack: StackRecord = parse("stacks", name, value.value())?;
        let fits = stack.namespace.as_str() == namespace && stack.name.as_str() == name;
        let key = |stack: &StackRecord| (stack.namespace.clone(), stack.name.clone());
        if !fits || stacks.last().is_some_and(|last| key(last) >= key(&stack)) {
            return Err(bad_record("stacks", name, "it is not where it belongs"));
        }
        stacks.push(stack);
    }
    check_count("stacks", stacks.len(), table.len()?)?;

    let mut units: Vec<(Namespace, StackName, UnitRecord)> = Vec::new();
    let table = transaction.open_table(schema::UNITS)?;
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (namespace, stack, name) = key.value();
        let unit: UnitRecord = parse("units", name, value.value())?;
        let (Ok(namespace), Ok(stack)) = (namespace.parse::<Namespace>(), stack.parse::<StackName>()) else {
            return Err(bad_record("units", name, "it is of no stack that can be"));
        };
        let key = |(namespace, stack, unit): &(Namespace, StackName, UnitRecord)| {
            (namespace.clone(), stack.clone(), unit.name.clone())
        };
        let fits = unit.name.as_str() == name;
        let unit = (namespace, stack, unit);
        if !fits || units.last().is_some_and(|last| key(last) >= key(&unit)) {
            return Err(bad_record("units", name, "it is not where it belongs"));
        }
        units.push(unit);
    }
    check_count("units", units.len(), table.len()?)?;
    Ok((stacks, units))
}

/// The tree's own count of its records is in another page than they are.
fn check_count(table: &'static str, found: usize, expected: u64) -> Result<(), Failure> {
    let reason = || format!("{found} records were found of {expected}");
    if found as u64 == expected { Ok(()) } else { Err(bad_record(table, "*", &reason())) }
}

/// The first and the last number; there is no gap between them, so their count is known without reading them all.
fn load_event_bounds(transaction: &ReadTransaction) -> Result<(u64, u64), Failure> {
    let events = transaction.open_table(schema::EVENTS)?;
    let (first, last) = schema::event_bounds(&events)?;
    if (last + 1).checked_sub(first) != Some(events.len()?) {
        let reason = format!("{} events are numbered {first} to {last}", events.len()?);
        return Err(bad_record("events", &last.to_string(), &reason));
    }
    if let Some(event) = events.get(last)? {
        let _: hostler_model::event::Event = parse("events", &last.to_string(), event.value())?;
    }
    Ok((first, last))
}

fn parse<T: DeserializeOwned>(table: &'static str, key: &str, json: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| bad_record(table, key, &error.to_string()))
}

fn bad_record(table: &'static str, key: &str, reason: &str) -> Failure {
    Failure::Corrupt(Corruption::Record { table, key: key.to_owned(), reason: reason.to_owned() })
}

fn missing(table: &'static str, key: &str) -> Failure {
    Failure::Corrupt(Corruption::Missing { table, key: key.to_owned() })
}
