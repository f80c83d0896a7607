//! The write-ahead log: what is in it, what is torn, what is damaged, and which log belongs to which store.

use hostler_model::record::Record;
use proptest::prelude::*;

use super::disk::Disk;
use super::{Model, commit, events, open_on, read_all, workload};
use crate::changes::Group;
use crate::error::Corruption;
use crate::wal::{self, Place as _, Wal};
use crate::{OpenError, Options};

const SIZE: u64 = 64 * 1_024;

fn options() -> Options {
    Options { log_bytes: SIZE, ..Options::default() }
}

fn append(log: &mut Wal, payload: &[u8]) -> bool {
    log.append(|out| {
        out.extend_from_slice(payload);
        Ok(())
    })
    .expect("no fault")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever earlier epochs have left in the file.
    #[test]
    fn what_was_appended_is_recovered_and_a_torn_end_is_no_damage(
        epochs in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 0..12), 1..5),
        tear in 0..900_usize,
    ) {
        let disk = Disk::default();
        let mut log = Wal::start(disk.make(16 * 1_024).expect("made"), 0).expect("started");
        let mut newest = None;
        for (epoch, payloads) in (1..).zip(&epochs) {
            log.restart(epoch);
            for payload in payloads {
                prop_assert!(append(&mut log, payload));
                newest = Some(epoch);
            }
        }
        let last = epochs.len() as u64;
        let payloads = epochs.last().expect("one");
        let backend = disk.find().expect("found").expect("there");
        let found = wal::recover(&*backend, last).expect("read");
        prop_assert_eq!(&found.payloads, payloads);
        prop_assert_eq!(found.newest, newest);
        // The last record never got to the disk, or not all of it.
        if let Some(end) = payloads.last() {
            let start: usize = payloads[..payloads.len() - 1].iter().map(|one| (24 + one.len()).next_multiple_of(8)).sum();
            let torn = start + tear % (24 + end.len());
            let mut byte = [0];
            backend.read(torn as u64, &mut byte).expect("read");
            backend.write(torn as u64, &[!byte[0]]).expect("written");
            let found = wal::recover(&*backend, last).expect("read");
            prop_assert_eq!(&found.payloads[..], &payloads[..payloads.len() - 1]);
            prop_assert_eq!(found.behind, None);
        }
    }

    #[test]
    fn no_payload_makes_the_decoder_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), head in "\\[[0-9]{1,3},[0-9]{1,3}\\]\n") {
        let _ = Group::decode(&bytes);
        bytes.splice(0..0, head.bytes());
        let _ = Group::decode(&bytes);
    }
}

/// A store of which the log holds the last changes, as a kill leaves it.
fn killed() -> ([Vec<u8>; 2], Model) {
    let disk = Disk::default();
    let (store, _) = open_on(&disk, options()).expect("a new store");
    let mut model = Model::default();
    for number in 0..9 {
        let mut batch = events(3, number.into());
        batch.records.push(Record::Workload(workload(number, 1)));
        model.apply(&batch);
        commit(&store, batch, 1);
    }
    let content = disk.content();
    store.close();
    (content, model)
}

#[test]
fn a_killed_store_has_its_last_changes_in_the_log_and_a_closed_one_has_not() {
    let (content, model) = killed();
    let disk = Disk::of(content);
    for closed in [false, true] {
        let (store, loaded) = open_on(&disk, options()).expect("opens");
        assert_eq!(Model::of(&loaded, &store.reader()), model, "closed: {closed}");
        store.close();
        // Whole without its log, as somebody copies it.
        let [alone, _] = disk.content();
        let (store, loaded) = open_on(&Disk::of([alone, Vec::new()]), options()).expect("opens without the log");
        assert_eq!(Model::of(&loaded, &store.reader()), model);
    }
}

#[track_caller]
fn refused(content: [Vec<u8>; 2], words: &str) {
    let disk = Disk::of(content.clone());
    match open_on(&disk, options()) {
        Err(OpenError::Corrupt { source: Corruption::Log(reason), .. }) => {
            assert!(reason.contains(words), "{reason}");
        }
        other => panic!("{words}: {other:?}"),
    }
    assert_eq!(disk.content(), content, "{words}: touched");
}

#[test]
fn a_log_that_does_not_fit_its_store_is_refused_and_both_stay_as_they_are() {
    let ([store, log], _) = killed();
    refused([store.clone(), Vec::new()], "missing");
    refused([store.clone(), log[..log.len() / 2].to_vec()], "bytes instead of");
    let mut scribbled = log.clone();
    scribbled[40] ^= 1;
    refused([store.clone(), scribbled], "record 0 is damaged");
    // A log that went on while the store was put back to how it stood before.
    let disk = Disk::of([store.clone(), log]);
    let (opened, _) = open_on(&disk, options()).expect("opens");
    commit(&opened, events(1, 1), 1);
    let [_, later] = disk.content();
    opened.close();
    refused([store, later], "later state");
}

#[test]
fn flipped_bytes_lose_the_last_record_or_are_noticed() {
    let ([store, log], model) = killed();
    let used = log.iter().rposition(|byte| *byte != 0).expect("something is in the log");
    let (mut noticed, mut lost) = (0, 0);
    for at in (0..=used).step_by(3) {
        let mut bad = log.clone();
        bad[at] ^= 1 << (at % 8);
        match open_on(&Disk::of([store.clone(), bad]), options()) {
            Ok((opened, loaded)) => {
                let found = Model::of(&loaded, &opened.reader());
                assert!(found == model || found.workloads.len() == 8 && found.events.len() == 24, "byte {at}");
                lost += usize::from(found != model);
            }
            Err(OpenError::Corrupt { source: Corruption::Log(_), .. }) => noticed += 1,
            Err(other) => panic!("byte {at}: {other:?}"),
        }
    }
    assert!(noticed > 6 * lost && lost > 0, "{noticed} noticed, {lost} taken for a torn end");
}

#[test]
fn an_earlier_copy_of_a_closed_store_is_taken_whatever_log_is_there() {
    let disk = Disk::default();
    let (store, _) = open_on(&disk, options()).expect("a new store");
    commit(&store, events(2, 1), 1);
    store.close();
    let [copy, _] = disk.content();
    let (store, _) = open_on(&disk, options()).expect("opens");
    for time in 0..5 {
        commit(&store, events(2, time), 1);
    }
    let [_, log] = disk.content();
    store.close();
    let disk = Disk::of([copy, log]);
    // Records of the same length as those that are in the log already: they must not be taken for ours.
    let (store, _) = open_on(&disk, options()).expect("opens");
    assert_eq!(read_all(&store.reader()).len(), 2);
    commit(&store, events(2, 0), 1);
    let killed = disk.content();
    store.close();
    let (store, _) = open_on(&Disk::of(killed), options()).expect("opens");
    assert_eq!(read_all(&store.reader()).len(), 4);
}

#[test]
fn a_group_that_is_larger_than_the_log_goes_to_the_tables_at_once() {
    let disk = Disk::default();
    let (store, _) = open_on(&disk, options()).expect("a new store");
    let mut count = 0;
    for size in [1, 2_000, 3, 1] {
        commit(&store, events(size, 1), 1);
        count += size;
        let (killed, _) = open_on(&Disk::of(disk.content()), options()).expect("opens");
        assert_eq!(read_all(&killed.reader()).len(), count);
        assert_eq!(read_all(&store.reader()).len(), count);
    }
}

#[test]
fn readers_see_every_event_once_while_checkpoints_come_and_go() {
    let (store, _) = open_on(&Disk::default(), Options { log_bytes: 4_096, ..options() }).expect("a new store");
    let reader = store.reader();
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut next = 1;
            while next <= 3_000 {
                for (sequence, json) in reader.events(next, 100).expect("a page") {
                    assert_eq!(sequence, next);
                    assert_eq!(crate::schema::event_time_ms(&json).expect("a time"), next);
                    next += 1;
                }
            }
        });
        for time in 1..=3_000 {
            commit(&store, events(1, time), 1);
        }
        follower.join().expect("no panic");
    });
    for time in [1, 1_500, 2_999, 3_000] {
        assert_eq!(reader.sequence_at_time(time).expect("found"), time);
    }
    assert_eq!(reader.sequence_at_time(3_001).expect("none"), 3_001);
}
