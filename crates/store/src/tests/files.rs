//! What only a real file system shows: making, locking, upgrading, a full disk, the ballast.

use std::path::Path;
use std::process::Command;

use hostler_model::limits;
use hostler_model::record::{NodeRecord, Record};
use redb::{Database, ReadableTable};

use super::{LONG, commit, events, identity, key, network, read_all, submit, workload};
use crate::{Ballast, CommitError, OpenError, Options, SCHEMA, Store, schema};

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("list");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn a_store_is_made_locked_kept_and_given_free() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    // What a daemon killed in the middle of making one leaves behind is no obstacle.
    std::fs::write(directory.path().join("store.redb.new"), b"half a store").expect("write");
    let (store, loaded) = Store::open(&path, Options::default(), identity()).expect("made");
    assert!(loaded.created);
    assert_eq!((loaded.meta.store, loaded.meta.schema), (identity().store, SCHEMA));
    assert_eq!(names(directory.path()), ["store.redb", "store.wal"]);
    let locked = Store::open(&path, Options::default(), identity()).expect_err("in use");
    assert!(matches!(locked, OpenError::Locked { .. }), "{locked:?}");
    commit(&store, events(3, 1), 1);
    let reader = store.reader();
    store.close();
    // A reader left over does not keep the file locked.
    let (store, loaded) = Store::open(&path, Options::default(), identity()).expect("opens");
    assert!(!loaded.created && reader.events(1, 1).is_err());
    assert_eq!(read_all(&store.reader()).len(), 3);
    let other = crate::NewStore { now_ms: 77, ..identity() };
    drop(store);
    let (_store, loaded) = Store::open(&path, Options::default(), other).expect("opens");
    assert_eq!(loaded.meta.created_at_ms, identity().now_ms, "the identity of an old store stays");
}

#[test]
fn two_that_start_at_once_make_one_store() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Store::open(&path, Options::default(), identity()))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let opened = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(opened, 1, "{results:?}");
    assert!(
        results.iter().flat_map(|result| result.as_ref().err()).all(|error| matches!(error, OpenError::Locked { .. }))
    );
}

#[test]
fn a_store_that_is_moved_away_can_come_back_with_its_log() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    let (store, _) = Store::open(&path, Options::default(), identity()).expect("made");
    commit(&store, events(3, 1), 1);
    // As a kill leaves them.
    let aside = directory.path().join("aside");
    std::fs::copy(&path, &aside).expect("copy");
    store.close();
    std::fs::remove_file(&path).expect("rm");
    drop(Store::open(&path, Options::default(), identity()).expect("another one is made"));
    assert_eq!(names(directory.path()), ["aside", "store.redb", "store.wal", "store.wal.old"]);
    std::fs::rename(&aside, &path).expect("mv");
    std::fs::rename(directory.path().join("store.wal.old"), directory.path().join("store.wal")).expect("mv");
    let (store, _) = Store::open(&path, Options::default(), identity()).expect("opens");
    assert_eq!(read_all(&store.reader()).len(), 3);
}

#[test]
fn paths_that_cannot_be_used_are_unreadable() {
    let directory = tempfile::tempdir().expect("directory");
    for path in [directory.path().join("no/such/store.redb"), directory.path().to_owned()] {
        let error = Store::open(&path, Options::default(), identity()).expect_err("refused");
        assert!(matches!(error, OpenError::Unreadable { .. }), "{error:?}");
    }
}

/// A store as layout 1 had it, written with redb alone.
fn write_layout_1(path: &Path) {
    let database = Database::create(path).expect("create");
    let transaction = database.begin_write().expect("begin");
    {
        let mut meta = transaction.open_table(schema::META).expect("table");
        let json = serde_json::json!({"store": identity().store, "tag": identity().tag, "schema": 1,
            "created_at_ms": 4, "written_by": "0.0.1"});
        meta.insert("meta", json.to_string().as_bytes()).expect("insert");
        meta.insert("node", b"{\"lame_duck\":true,\"boot_id\":\"b\"}".as_slice()).expect("insert");
        let mut workloads = transaction.open_table(schema::WORKLOADS).expect("table");
        let one = workload(1, 9);
        workloads.insert(&*one.id.to_string(), &*serde_json::to_vec(&*one).expect("json")).expect("insert");
        let mut keys = transaction.open_table(schema::KEYS).expect("table");
        keys.insert(("default", "k"), &*serde_json::to_vec(&key("k")).expect("json")).expect("insert");
        let mut table = transaction.open_table(schema::EVENTS).expect("table");
        for sequence in 5..8_u64 {
            let json = serde_json::to_vec(&super::event(sequence)).expect("json");
            table.insert(sequence, &*json).expect("insert");
        }
    }
    transaction.commit().expect("commit");
}

#[test]
fn layout_1_is_upgraded_and_a_copy_kept() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    write_layout_1(&path);
    let old = std::fs::read(&path).expect("read");
    for attempt in ["upgraded", "already there"] {
        let (store, loaded) = Store::open(&path, Options::default(), identity()).expect(attempt);
        assert_eq!((loaded.meta.schema, loaded.meta.created_at_ms, loaded.created), (SCHEMA, 4, false));
        assert_eq!(loaded.meta.written_by, crate::open::VERSION);
        assert_eq!(loaded.node, NodeRecord { lame_duck: true, boot_id: "b".to_owned() });
        assert_eq!(loaded.workloads, [(*workload(1, 9)).clone()]);
        assert_eq!(loaded.idempotency_keys, [key("k")]);
        assert_eq!(store.reader().oldest_sequence().expect("oldest"), 5);
        assert_eq!(read_all(&store.reader()).len(), 3);
        assert_eq!(names(directory.path()), ["store.redb", "store.redb.v1", "store.wal"]);
        assert_eq!(std::fs::read(directory.path().join("store.redb.v1")).expect("read"), old);
    }
}

#[test]
fn layout_4_gets_room_for_networks() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    let (store, _) = Store::open(&path, Options::default(), identity()).expect("made");
    let mut batch = events(1, 1);
    batch.records.push(Record::Workload(workload(1, 1)));
    commit(&store, batch, 1);
    store.close();
    {
        let database = Database::open(&path).expect("open");
        let transaction = database.begin_write().expect("begin");
        transaction.delete_table(schema::NETWORKS).expect("delete");
        let mut meta = transaction.open_table(schema::META).expect("table");
        let now = meta.get("meta").expect("read").expect("there").value().to_vec();
        let mut json: serde_json::Value = serde_json::from_slice(&now).expect("json");
        json["schema"] = 4.into();
        meta.insert("meta", json.to_string().as_bytes()).expect("insert");
        drop(meta);
        transaction.commit().expect("commit");
    }
    let (store, loaded) = Store::open(&path, Options::default(), identity()).expect("upgraded");
    assert_eq!((loaded.meta.schema, loaded.workloads.len(), loaded.networks.len()), (SCHEMA, 1, 0));
    assert_eq!(names(directory.path()), ["store.redb", "store.redb.v4", "store.wal"]);
    let mut batch = events(1, 1);
    batch.records.push(Record::Network(network("blue", 1).into()));
    commit(&store, batch, 1);
    store.close();
    let (_store, loaded) = Store::open(&path, Options::default(), identity()).expect("opens");
    assert_eq!(loaded.networks, [network("blue", 1)]);
}

#[test]
fn an_upgrade_that_fails_changes_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    write_layout_1(&path);
    {
        let database = Database::open(&path).expect("open");
        let transaction = database.begin_write().expect("begin");
        transaction.open_table(schema::META).expect("table").remove("node").expect("remove");
        transaction.commit().expect("commit");
    }
    let before = std::fs::read(&path).expect("read");
    let error = Store::open(&path, Options::default(), identity()).expect_err("no node record");
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).expect("read"), before);
    assert_eq!(names(directory.path()), ["store.redb"]);
}

#[test]
fn the_ballast_has_its_size_and_can_be_given_up_twice() {
    let directory = tempfile::tempdir().expect("directory");
    let ballast = Ballast::beside(&directory.path().join("store.redb"));
    assert!(!ballast.is_there() && !ballast.release().expect("none"));
    ballast.ensure().expect("made");
    ballast.ensure().expect("kept");
    let found = std::fs::metadata(directory.path().join("ballast")).expect("there");
    assert_eq!(found.len(), limits::BALLAST);
    assert!(std::os::unix::fs::MetadataExt::blocks(&found) * 512 >= limits::BALLAST, "real blocks");
    assert_eq!(names(directory.path()), ["ballast"]);
    assert!(ballast.release().expect("given up") && !ballast.is_there());
}

/// A small file system of its own, unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("directory");
        let options = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(directory))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "cannot unmount");
    }
}

/// Forgets nothing.
fn endless() -> Options {
    Options { events_max: u64::MAX / 2, ..Options::default() }
}

#[test]
fn on_a_full_disk_the_ballast_makes_room_for_the_end() {
    let Some(tmpfs) = Tmpfs::mount("12m") else {
        eprintln!("skipped: no permission to mount a tmpfs");
        return;
    };
    let path = tmpfs.0.path().join("store.redb");
    let (store, _) = Store::open(&path, endless(), identity()).expect("made");
    let ballast = Ballast::beside(&path);
    ballast.ensure().expect("room");
    let mut acknowledged = 0;
    let error = loop {
        match submit(&store, events(500, 1), 1).recv_timeout(LONG).expect("an answer") {
            Ok(committed) => acknowledged = committed.events.end - 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1_000_000, "the disk never fills");
    };
    assert!(matches!(error, CommitError::NoSpace(_)), "{error:?}");
    store.close();
    assert!(ballast.ensure().is_ok(), "it is still there");
    assert!(ballast.release().expect("given up"));
    let (store, _) = Store::open(&path, endless(), identity()).expect("opens with room");
    let last = store.reader().last_sequence();
    assert!(last == acknowledged || last == acknowledged + 500, "{last} {acknowledged}");
    let mut end = events(1, 1);
    end.records.push(Record::Workload(workload(1, 1)));
    commit(&store, end, 1);
    store.close();
    // Full to the brim: opening says so, or works, and does no harm; with room again everything is there.
    let stuff = tmpfs.0.path().join("stuff");
    let mut file = std::fs::File::create(&stuff).expect("create");
    while std::io::Write::write_all(&mut file, &[1; 4_096]).is_ok() {}
    match Store::open(&path, Options::default(), identity()) {
        Ok((store, _)) => store.close(),
        Err(error) => assert!(matches!(error, OpenError::NoSpace { .. }), "{error:?}"),
    }
    assert!(ballast.ensure().is_err_and(|error| crate::error::is_no_space(&error)));
    assert!(matches!(
        Store::open(&tmpfs.0.path().join("second.redb"), Options::default(), identity()),
        Err(OpenError::NoSpace { .. })
    ));
    std::fs::remove_file(&stuff).expect("remove");
    let (store, loaded) = Store::open(&path, endless(), identity()).expect("opens");
    assert_eq!((loaded.workloads.len(), store.reader().last_sequence()), (1, last + 1));
    assert_eq!(names(tmpfs.0.path()), ["store.redb", "store.wal"]);
    drop(store);
}
