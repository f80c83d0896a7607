//! The write-ahead log: what is in it, what is torn, what is damaged, and which log belongs to which store.

use hostler_model::record::Record;
use proptest::prelude::*;

use super::disk::Disk;
use super::{Model, commit, events, identity, open_on, read_all, workload};
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
        epochs in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 0..12), 2..6),
        tear in 0..900_usize,
    ) {
        let disk = Disk::default();
        let mut log = Wal::start(disk.make(32 * 1_024).expect("made"), identity().store, 0).expect("started");
        let mut newest = None;
        for (epoch, payloads) in (1..).zip(&epochs) {
            log.turn();
            prop_assert_eq!((log.epoch(), log.is_empty()), (epoch, true));
            for payload in payloads {
                prop_assert!(append(&mut log, payload));
                newest = Some(epoch);
            }
        }
        let last = epochs.len() as u64;
        let backend = disk.find().expect("found").expect("there");
        let recover = |epoch| wal::recover(&*backend, identity().store, epoch).expect("read");
        let [.., earlier, payloads] = &epochs[..] else { unreachable!("two at least") };
        let both: Vec<_> = earlier.iter().chain(payloads).cloned().collect();
        for (epoch, expected) in [(last, payloads), (last - 1, &both)] {
            let found = recover(epoch);
            prop_assert_eq!(&found.payloads, expected);
            prop_assert_eq!((found.newest, found.damaged), (newest, false));
        }
        // A record that is not whole: the end, or damage if there are whole ones behind it.
        let starts = |payloads: &[Vec<u8>], epoch: u64| {
            let half = if epoch.is_multiple_of(2) { 0 } else { 16 * 1_024 };
            payloads.iter().scan(half, |at, one| Some(std::mem::replace(at, *at + (36 + one.len()).next_multiple_of(4))))
                .collect::<Vec<usize>>()
        };
        let all = [starts(earlier, last - 1), starts(payloads, last)].concat();
        for (index, start) in all.iter().enumerate() {
            let torn = start + tear % (36 + both[index].len());
            let mut byte = [0];
            backend.read(torn as u64, &mut byte).expect("read");
            backend.write(torn as u64, &[!byte[0]]).expect("written");
            let found = recover(last - 1);
            prop_assert_eq!(&found.payloads[..], &both[..index]);
            prop_assert_eq!(found.damaged, index + 1 < both.len());
            backend.write(torn as u64, &byte).expect("written");
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
    // The first epoch is 1, and in the second half.
    let mut scribbled = log.clone();
    scribbled[SIZE as usize / 2 + 40] ^= 1;
    refused([store.clone(), scribbled], "record 0 is damaged");
    let mut foreign = log.clone();
    let start = SIZE as usize / 2;
    foreign[start + 8] ^= 1;
    let length = u32::from_le_bytes(foreign[start + 4..start + 8].try_into().expect("four")) as usize;
    let sum = crc32fast::hash(&[&foreign[start..start + 32], &foreign[start + 36..start + 36 + length]].concat());
    foreign[start + 32..start + 36].copy_from_slice(&sum.to_le_bytes());
    refused([store.clone(), foreign], "another store");
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
    let first = log.iter().position(|byte| *byte != 0).expect("something is in the log");
    let (mut noticed, mut lost) = (0, 0);
    for at in (first..=used).step_by(23) {
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
