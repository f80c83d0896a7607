//! Group commit: company, linger, urgency, a full queue, closing.

use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use hostler_model::limits;
use hostler_model::record::{Batch, Record, Urgency};

use super::disk::Disk;
use super::{LONG, Model, commit, event, events, open_on, read_all, submit, workload};
use crate::{Options, ReadError, RejectReason};

fn lazy(time_ms: u64) -> Batch {
    Batch { urgency: Urgency::Lazy, ..events(1, time_ms) }
}

#[test]
fn sixty_four_submitters_share_commits_and_numbers_have_no_gap() {
    let disk = Disk::default();
    let (store, _) = open_on(&disk, Options::default()).expect("a new store");
    let before = disk.syncs();
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64_u8)
            .map(|number| {
                let store = &store;
                scope.spawn(move || {
                    let one = |round: u32| {
                        let records = vec![Record::Workload(workload(number, round))];
                        let batch = Batch { records, events: vec![event(1), event(2)], urgency: Urgency::Prompt };
                        commit(store, batch, 1).events
                    };
                    (1..=20).flat_map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=64 * 20 * 2).collect::<Vec<_>>());
    assert!(disk.syncs() - before <= 64 * 20, "never more than one sync for a batch");
    store.close();
    let (store, loaded) = open_on(&disk, Options::default()).expect("opens");
    assert_eq!(loaded.workloads.len(), 64);
    assert!(loaded.workloads.iter().all(|workload| workload.generation == 20));
    assert_eq!(read_all(&store.reader()).len(), 2_560);
}

#[test]
fn a_group_costs_one_sync_and_keeps_the_last_record() {
    let disk = Disk::default();
    let options = Options { linger: LONG, ..Options::default() };
    let (store, _) = open_on(&disk, options).expect("a new store");
    let before = disk.syncs();
    let mut model = Model::default();
    let mut waiting = Vec::new();
    for generation in 1..=100 {
        let mut batch = lazy(1);
        batch.records.push(Record::Workload(workload(1, generation)));
        batch.records.push(Record::WorkloadRemoved(workload(2, 1).id));
        model.apply(&batch);
        waiting.push(submit(&store, batch, 1));
    }
    // The prompt one ends the linger of all the others at once.
    let started = Instant::now();
    assert_eq!(commit(&store, events(1, 1), 1).events, 101..102);
    assert!(started.elapsed() < LONG / 2);
    for (index, receiver) in waiting.into_iter().enumerate() {
        let committed = receiver.try_recv().expect("answered before the prompt one").expect("committed");
        assert_eq!(committed.events, index as u64 + 1..index as u64 + 2);
    }
    assert_eq!(disk.syncs() - before, 1);
    store.close();
    let (_store, loaded) = open_on(&disk, Options::default()).expect("opens");
    assert_eq!(loaded.workloads, model.workloads.into_values().collect::<Vec<_>>());
}

#[test]
fn a_lazy_batch_alone_is_committed_after_its_linger() {
    let linger = Duration::from_millis(30);
    let (store, _) = open_on(&Disk::default(), Options { linger, ..Options::default() }).expect("a new store");
    let started = Instant::now();
    commit(&store, lazy(1), 1);
    assert!(started.elapsed() >= linger);
    assert_eq!(store.reader().last_sequence(), 1);
}

#[test]
fn a_full_group_does_not_linger() {
    let options = Options { linger: LONG * 10, group_max: 3, ..Options::default() };
    let (store, _) = open_on(&Disk::default(), options).expect("a new store");
    let waiting: Vec<_> = (0..3).map(|_| submit(&store, lazy(1), 1)).collect();
    for receiver in waiting {
        receiver.recv_timeout(LONG).expect("an answer").expect("committed");
    }
}

#[test]
fn a_full_queue_gives_the_batch_back_and_close_drains() {
    let (store, _) = open_on(&Disk::default(), Options::default()).expect("a new store");
    let reader = store.reader();
    let (entered, in_callback) = channel();
    let barrier = Arc::new(Barrier::new(2));
    let hold = Arc::clone(&barrier);
    let done = Box::new(move |_| {
        let _ = entered.send(());
        hold.wait();
    });
    store.submit(events(1, 1), 1, done).expect("room");
    in_callback.recv_timeout(LONG).expect("the writer stands in the callback");
    let waiting: Vec<_> = (0..limits::STORE_QUEUE).map(|_| submit(&store, events(1, 1), 1)).collect();
    let rejected = store.submit(events(5, 1), 1, Box::new(|_| ())).expect_err("full");
    assert_eq!(rejected.reason, RejectReason::Full);
    assert_eq!(rejected.batch.events.len(), 5);
    barrier.wait();
    store.close();
    for receiver in waiting {
        receiver.try_recv().expect("answered before close returned").expect("committed");
    }
    assert_eq!(reader.last_sequence(), limits::STORE_QUEUE as u64 + 1);
    assert!(matches!(reader.events(1, 1), Err(ReadError::Closed)));
}

#[test]
fn an_empty_batch_is_answered_without_a_sync() {
    let disk = Disk::default();
    let (store, _) = open_on(&disk, Options::default()).expect("a new store");
    let before = disk.syncs();
    assert!(commit(&store, events(0, 1), 1).events.is_empty());
    assert_eq!(disk.syncs(), before);
}
