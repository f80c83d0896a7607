//! Crashes and failing disks: what was acknowledged is there, nothing is half there, and numbers have no gap.

use std::io::ErrorKind;
use std::sync::mpsc::channel;
use std::time::Duration;

use hostler_model::Namespace;
use hostler_model::record::{Batch, NodeRecord, Record, Urgency};
use proptest::prelude::*;

use super::disk::{Disk, Fault};
use super::{
    LONG, Model, commit, done, event, events, fired, key, network, open_on, queue, stack, submit, unit, workload,
};
use crate::{CommitError, Options};

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        4 => (0..6_u8, 1..1_000_u32).prop_map(|(number, generation)| Record::Workload(workload(number, generation))),
        2 => (0..6_u8).prop_map(|number| Record::WorkloadRemoved(workload(number, 1).id)),
        1 => any::<bool>().prop_map(|lame_duck| Record::Node(NodeRecord { lame_duck, boot_id: "b".to_owned() })),
        1 => (0..3_u8, 1..9_u32).prop_map(|(name, parallel)| Record::Queue(queue(&format!("q{name}"), parallel).into())),
        1 => (0..3_u8).prop_map(|name| {
            Record::QueueRemoved(hostler_model::Namespace::owner(), format!("q{name}").parse().expect("a name"))
        }),
        1 => (0..3_u8, 0..9_u8).prop_map(|(name, number)| {
            Record::Network(network(&format!("n{name}"), number).into())
        }),
        1 => (0..3_u8).prop_map(|name| {
            Record::NetworkRemoved(hostler_model::Namespace::owner(), format!("n{name}").parse().expect("a name"))
        }),
        1 => (0..3_u8, 1..1_000_u32).prop_map(|(number, revision)| Record::Stack(stack(number, revision))),
        1 => (0..3_u8).prop_map(|number| Record::StackRemoved(Namespace::owner(), stack(number, 1).name.clone())),
        2 => (0..3_u8, 1..1_000_u32).prop_map(|(number, generation)| {
            Record::StackUnit(Namespace::owner(), stack(number, 1).name.clone(), unit(number, generation))
        }),
        1 => (0..3_u8).prop_map(|number| {
            Record::StackUnitRemoved(Namespace::owner(), stack(number, 1).name.clone(), unit(number, 1).name.clone())
        }),
        1 => (0..4_u8).prop_map(|name| Record::IdempotencyKey(key(&name.to_string()))),
        1 => (0..4_u8).prop_map(|name| {
            Record::IdempotencyKeyForgotten(hostler_model::Namespace::owner(), name.to_string())
        }),
        2 => (0..3_u8, 0..4_usize).prop_map(|(hook, event)| fired(hook, event)),
        1 => (0..3_u8).prop_map(done),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    let urgency = prop_oneof![Just(Urgency::Lazy), Just(Urgency::Prompt)];
    (prop::collection::vec(record(), 0..4), prop::collection::vec(0..1_000_u64, 0..4), urgency).prop_map(
        |(records, times, urgency)| Batch { records, events: times.into_iter().map(event).collect(), urgency },
    )
}

/// One life of a daemon: what it submits, when its power fails, and when its disk does.
#[derive(Debug, Clone)]
struct Life {
    batches: Vec<Batch>,
    crash_after: usize,
    seed: u64,
    fault: Option<(u64, bool)>,
}

fn life() -> impl Strategy<Value = Life> {
    let fault = prop::option::of((0..40_u64, any::<bool>()));
    (prop::collection::vec(batch(), 1..24), 0..24_usize, any::<u64>(), fault)
        .prop_map(|(batches, crash_after, seed, fault)| Life { batches, crash_after, seed, fault })
}

fn options() -> Options {
    // A log that is full after a few groups.
    Options { linger: Duration::from_micros(200), group_max: 5, log_bytes: 4_096, ..Options::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_batches_survive_and_nothing_is_half_there(lives in prop::collection::vec(life(), 1..4)) {
        let mut disk = Disk::default();
        drop(open_on(&disk, options()).expect("a new store"));
        let mut base = Model::default();
        for life in lives {
            let (store, loaded) = open_on(&disk, options()).expect("the store opens again");
            prop_assert!(!loaded.created);
            prop_assert_eq!(&Model::of(&loaded, &store.reader()), &base);
            if let Some((after, once)) = life.fault {
                disk.fail(Fault { after, once, kind: ErrorKind::Other });
            }
            let (sender, receiver) = channel();
            let mut prefixes = vec![base.clone()];
            for (index, batch) in life.batches.iter().enumerate() {
                let mut after = prefixes[index].clone();
                let first = after.events.len() as u64 + 1;
                after.apply(batch);
                let sender = sender.clone();
                let expected = first..after.events.len() as u64 + 1;
                let done = Box::new(move |result: Result<crate::Committed, _>| {
                    drop(sender.send((index, result.map(|committed| committed.events == expected))));
                });
                store.submit(batch.clone(), 0, done).expect("room");
                prefixes.push(after);
            }
            let mut acknowledged = 0;
            for answered in 0..life.crash_after.min(life.batches.len()) {
                let (index, result) = receiver.recv_timeout(LONG).expect("an answer");
                prop_assert_eq!(index, answered, "answers come in order");
                if let Ok(numbers_fit) = result {
                    prop_assert!(numbers_fit);
                    prop_assert_eq!(acknowledged, answered, "no success after a failure");
                    acknowledged = answered + 1;
                }
            }
            let crashed = disk.crash(life.seed);
            store.close();
            disk = crashed;
            let (store, loaded) = open_on(&disk, options()).expect("the store opens after a crash");
            let found = Model::of(&loaded, &store.reader());
            store.close();
            let survived = prefixes[acknowledged..].contains(&found);
            prop_assert!(survived, "not a prefix with all {acknowledged} acknowledged batches");
            base = found;
        }
    }

    #[test]
    fn a_clean_close_keeps_everything(batches in prop::collection::vec(batch(), 0..40)) {
        let disk = Disk::default();
        let (store, _) = open_on(&disk, options()).expect("a new store");
        let mut model = Model::default();
        for batch in batches {
            model.apply(&batch);
            drop(submit(&store, batch, 0));
        }
        store.close();
        let (store, loaded) = open_on(&disk, options()).expect("opens");
        prop_assert_eq!(Model::of(&loaded, &store.reader()), model);
    }
}

#[test]
fn after_a_failed_commit_everything_fails_until_it_is_opened_again() {
    for once in [true, false] {
        let disk = Disk::default();
        let (store, _) = open_on(&disk, options()).expect("a new store");
        commit(&store, events(2, 1), 1);
        disk.fail(Fault { after: 0, once, kind: ErrorKind::StorageFull });
        let failed = submit(&store, events(1, 2), 2).recv_timeout(LONG).expect("an answer");
        assert!(matches!(failed, Err(CommitError::NoSpace(_))), "{failed:?}");
        let later = submit(&store, events(1, 3), 3).recv_timeout(LONG).expect("an answer");
        assert!(matches!(later, Err(CommitError::Poisoned)), "{later:?}");
        assert_eq!(store.reader().last_sequence(), 2);
        store.close();
        let (store, _) = open_on(&disk.crash(99), options()).expect("opens");
        let last = store.reader().last_sequence();
        assert!(last == 2 || last == 3, "{last}");
        assert_eq!(commit(&store, events(1, 4), 4).events, last + 1..last + 2);
    }
}

#[test]
fn a_crash_while_opening_loses_nothing() {
    let disk = Disk::default();
    let (store, _) = open_on(&disk, options()).expect("a new store");
    for time in 0..20 {
        commit(&store, events(3, time), time);
    }
    let crashed = disk.crash(5);
    store.close();
    for after in 0..60 {
        // The repair's own writes stop after so many; then the power fails again.
        let again = Disk::of(crashed.content());
        again.fail(Fault { after, once: false, kind: ErrorKind::Other });
        drop(open_on(&again, options()));
        for seed in 0..4 {
            let (store, _) = open_on(&again.crash(seed * 7 + after), options()).expect("opens");
            assert_eq!(read_all_len(&store), 60, "after {after}");
        }
    }
}

fn read_all_len(store: &crate::Store) -> usize {
    super::read_all(&store.reader()).len()
}
