//! Damaged and foreign files: the answer is precise, it comes, and the file is left alone.

use std::error::Error as _;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use hostler_model::record::{Batch, Record, Urgency};
use redb::Database;

use super::disk::Disk;
use super::{Model, commit, event, identity, key, open_on, workload};
use crate::{Corruption, OpenError, Options, SCHEMA, Store, schema};

/// A store and its log.
type Files = [Vec<u8>; 2];

/// A log that some batches fit into, so that the samples have something in their tables and something in the log.
fn options() -> Options {
    Options { log_bytes: 20 * 1_024, ..Options::default() }
}

/// A store with something in it: closed in order, and killed. And what it holds.
fn samples() -> (Files, Files, Model) {
    let disk = Disk::default();
    let (store, _) = open_on(&disk, options()).expect("a new store");
    let mut model = Model::default();
    for number in 0..60 {
        let records = vec![Record::Workload(workload(number, 1)), Record::IdempotencyKey(key(&number.to_string()))];
        let batch = Batch { records, events: vec![event(number.into()); 20], urgency: Urgency::Prompt };
        model.apply(&batch);
        commit(&store, batch, 1);
    }
    let killed = disk.content();
    store.close();
    (disk.content(), killed, model)
}

/// Opens it; damage may be noticed or not matter, but must never look like a new or an emptied store.
fn judge(content: Files, whole: &Model, what: &str) -> bool {
    let disk = Disk::of(content.clone());
    match open_on(&disk, options()) {
        Ok((store, loaded)) => {
            assert!(!loaded.created, "{what}");
            assert!(loaded.workloads.len() + 1 >= whole.workloads.len(), "{what}: {}", loaded.workloads.len());
            assert!(store.reader().last_sequence() + 20 >= whole.events.len() as u64, "{what}");
            true
        }
        Err(OpenError::Corrupt { .. }) => {
            assert_eq!(disk.content(), content, "{what}: the file was touched");
            false
        }
        Err(other) => panic!("{what}: {other:?}"),
    }
}

/// A damaged tree may lead round in circles: that is a failure, not an endless test.
fn within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = sender.send(());
    });
    let finished = receiver.recv_timeout(limit);
    assert!(!matches!(finished, Err(std::sync::mpsc::RecvTimeoutError::Timeout)), "it hangs");
    thread.join().expect("no panic");
}

#[test]
fn a_truncated_store_is_never_a_new_one() {
    within(Duration::from_secs(240), || {
        let (clean, killed, model) = samples();
        let mut lengths: Vec<usize> = (1..400).step_by(57).collect();
        let whole = clean[0].len();
        lengths.extend((4_096..whole).step_by(61_441));
        lengths.extend((4_096..whole).step_by(16 * 4_096));
        lengths.extend([whole - 1, whole - 4_096]);
        let cut = |[store, log]: &Files, length: usize| [store[..length.min(store.len())].to_vec(), log.clone()];
        for length in lengths {
            let opened = length < whole && judge(cut(&clean, length), &model, &format!("clean, {length}"));
            assert!(!opened, "a store that was closed knows its length: {length}");
            judge(cut(&killed, length), &model, &format!("killed, {length}"));
        }
    });
}

#[test]
fn flipped_bytes_never_panic_hang_or_start_afresh() {
    within(Duration::from_secs(240), || {
        let (clean, killed, model) = samples();
        for (name, good) in [("clean", &clean), ("killed", &killed)] {
            let header = (0..320).step_by(3);
            let pages: Vec<usize> = (1..good[0].len() / 4_096).filter(|page| good[0][page * 4_096] != 0).collect();
            let body = pages.iter().flat_map(|page| [0, 1, 2, 5, 9, 40, 200, 4_000].map(|at| page * 4_096 + at));
            let (mut noticed, mut tried) = (0, 0);
            for at in header.chain(body.step_by(3)) {
                let mut bad = good.clone();
                bad[0][at] ^= 1 << (at % 8);
                tried += 1;
                noticed += usize::from(!judge(bad, &model, &format!("{name}, byte {at}")));
            }
            println!("{name}: {noticed} of {tried} flips noticed");
            assert!(noticed > 0, "{name}: nothing noticed of {tried}");
        }
    });
}

#[test]
fn garbage_and_empty_files_are_corrupt_and_stay_as_they_are() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    for content in [Vec::new(), vec![0; 5_000], b"not a store".to_vec(), vec![0xff; 1 << 20]] {
        std::fs::write(&path, &content).expect("write");
        let error = Store::open(&path, Options::default(), identity()).expect_err("refused");
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(path.to_str().expect("text")) && text.contains("Nothing was changed"), "{text}");
        assert!(text.contains("move it away") && text.contains("run/"), "{text}");
        assert!(error.source().is_some());
        assert_eq!(std::fs::read(&path).expect("read"), content);
    }
}

/// Changes a closed store with redb alone.
fn edit(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).expect("open");
    let transaction = database.begin_write().expect("begin");
    change(&transaction);
    transaction.commit().expect("commit");
}

fn put(transaction: &redb::WriteTransaction, table: schema::TextTable, key: &str, json: &str) {
    transaction.open_table(table).expect("table").insert(key, json.as_bytes()).expect("insert");
}

#[test]
fn a_record_that_does_not_parse_is_named() {
    let (clean, _, _) = samples();
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    let id = workload(3, 1).id.to_string();
    let other = workload(200, 1).id.to_string();
    let cases = [
        (schema::META, "meta", "{\"schema\":2}".to_owned(), "meta"),
        (schema::META, "meta", "{\"schema\":0,\"written_by\":\"x\"}".to_owned(), "meta"),
        (schema::NODE, "node", "[".to_owned(), "node"),
        (schema::WORKLOADS, id.as_str(), "{}".to_owned(), "workloads"),
        (schema::WORKLOADS, other.as_str(), serde_json::to_string(&*workload(3, 1)).expect("json"), "workloads"),
    ];
    for (table, key, json, name) in cases {
        std::fs::write(&path, &clean[0]).expect("write");
        edit(&path, |transaction| put(transaction, table, key, &json));
        let before = std::fs::read(&path).expect("read");
        match Store::open(&path, Options::default(), identity()) {
            Err(OpenError::Corrupt { source: Corruption::Record { table, key: named, .. }, .. }) => {
                assert_eq!((table, named.as_str()), (name, key));
            }
            other => panic!("{json}: {other:?}"),
        }
        assert_eq!(std::fs::read(&path).expect("read"), before);
    }
    std::fs::write(&path, &clean[0]).expect("write");
    edit(&path, |transaction| drop(transaction.open_table(schema::EVENTS).expect("table").remove(7).expect("remove")));
    let error = Store::open(&path, Options::default(), identity()).expect_err("a gap");
    assert!(
        matches!(error, OpenError::Corrupt { source: Corruption::Record { table: "events", .. }, .. }),
        "{error:?}"
    );
}

#[test]
fn a_store_written_by_a_newer_version_is_refused_by_name() {
    let (clean, _, _) = samples();
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    std::fs::write(&path, &clean[0]).expect("write");
    let newer = format!("{{\"schema\":{},\"written_by\":\"9.1.0\",\"new\":true}}", SCHEMA + 1);
    edit(&path, |transaction| {
        transaction.delete_table(schema::KEYS).expect("delete");
        put(transaction, schema::META, "meta", &newer);
    });
    let before = std::fs::read(&path).expect("read");
    let error = Store::open(&path, Options::default(), identity()).expect_err("refused");
    assert!(
        error.to_string().contains("9.1.0") && error.to_string().contains(&format!("store.redb.v{SCHEMA}")),
        "{error}"
    );
    assert!(matches!(error, OpenError::Newer { schema, ours: SCHEMA, .. } if schema == SCHEMA + 1), "{error:?}");
    assert_eq!(std::fs::read(&path).expect("read"), before);
}
