//! What is forgotten, what readers are told then, and finding events by time.

use super::disk::Disk;
use super::{commit, events, open_on, read_all};
use crate::retention::FORGET_MAX;
use crate::{Options, ReadError};

/// Every commit is a checkpoint: nothing fits into such a log.
fn options() -> Options {
    Options { log_bytes: 8, ..Options::default() }
}

#[test]
fn the_oldest_go_in_bulk_when_there_are_too_many() {
    let disk = Disk::default();
    let options = Options { events_max: 1_000, ..options() };
    let (store, _) = open_on(&disk, options.clone()).expect("a new store");
    let reader = store.reader();
    commit(&store, events(1_064, 1), 1);
    assert_eq!(reader.oldest_sequence().expect("oldest"), 1, "within the slack");
    commit(&store, events(1, 1), 1);
    assert_eq!(reader.oldest_sequence().expect("oldest"), 66);
    assert!(matches!(reader.events(65, 10), Err(ReadError::Gone { oldest: 66 })));
    assert!(matches!(reader.events(0, 10), Err(ReadError::Gone { oldest: 66 })));
    let page = reader.events(66, 10).expect("a page");
    assert_eq!(page.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), (66..76).collect::<Vec<_>>());
    assert!(reader.events(1_066, 10).expect("not yet there").is_empty());
    store.close();
    let (store, _) = open_on(&disk, options).expect("opens");
    assert_eq!(read_all(&store.reader()).len(), 1_000);
    assert_eq!(commit(&store, events(1, 1), 1).events, 1_066..1_067);
}

#[test]
fn one_checkpoint_forgets_a_bounded_number() {
    let disk = Disk::default();
    let (store, _) = open_on(&disk, options()).expect("a new store");
    commit(&store, events(6_000, 1), 1);
    store.close();
    let (store, _) = open_on(&disk, Options { events_max: 1_000, ..options() }).expect("opens");
    let reader = store.reader();
    for expected in [2 + FORGET_MAX, 3 + 2 * FORGET_MAX, 5_004, 5_004] {
        commit(&store, events(1, 1), 1);
        assert_eq!(reader.oldest_sequence().expect("oldest"), expected);
    }
}

#[test]
fn the_old_go_once_a_minute_but_never_the_last() {
    let options = Options { events_age_max_ms: 100_000, ..options() };
    let (store, _) = open_on(&Disk::default(), options).expect("a new store");
    let reader = store.reader();
    let oldest = || reader.oldest_sequence().expect("oldest");
    commit(&store, events(10, 1_000), 1_000);
    commit(&store, events(10, 60_000), 60_000);
    commit(&store, events(1, 61_000), 61_000);
    assert_eq!(oldest(), 1);
    commit(&store, events(1, 101_002), 101_002);
    assert_eq!(oldest(), 1, "a minute has not gone by since the last look");
    commit(&store, events(1, 121_000), 121_000);
    assert_eq!(oldest(), 11);
    commit(&store, events(0, 0), 900_000);
    assert_eq!(oldest(), 11, "an empty batch is no commit");
    commit(&store, events(1, 1_000_000), 1_000_000);
    assert_eq!(oldest(), 24);
    commit(&store, events(1, 1), 9_000_000);
    assert_eq!(oldest(), 25, "the last stays, however old");
    assert_eq!(commit(&store, events(1, 9_000_000), 9_000_000).events, 26..27);
}

#[test]
fn ageing_is_bounded_and_goes_on_with_the_next_checkpoint() {
    let options = Options { events_age_max_ms: 1_000, ..options() };
    let (store, _) = open_on(&Disk::default(), options).expect("a new store");
    commit(&store, events(5_000, 1), 1);
    for expected in [1 + FORGET_MAX, 1 + 2 * FORGET_MAX, 5_001, 5_001] {
        commit(&store, events(1, 100_000), 100_000);
        assert_eq!(store.reader().oldest_sequence().expect("oldest"), expected);
    }
}

#[test]
fn what_comes_never_outruns_what_is_forgotten() {
    let (store, _) = open_on(&Disk::default(), Options { events_max: 1_000, ..options() }).expect("a new store");
    for _ in 0..5 {
        commit(&store, events(3 * FORGET_MAX as usize, 1), 1);
    }
    assert_eq!(read_all(&store.reader()).len(), 1_000);
}

#[test]
fn events_are_found_by_time() {
    let (store, _) = open_on(&Disk::default(), Options::default()).expect("a new store");
    let reader = store.reader();
    assert_eq!(reader.sequence_at_time(5).expect("none"), 1);
    assert_eq!((reader.oldest_sequence().expect("none"), reader.last_sequence()), (1, 0));
    assert!(reader.events(0, 10).expect("none").is_empty());
    for time_ms in [10, 20, 20, 30] {
        commit(&store, events(1, time_ms), 1);
    }
    for (time_ms, expected) in [(0, 1), (10, 1), (11, 2), (20, 2), (21, 4), (30, 4), (31, 5)] {
        assert_eq!(reader.sequence_at_time(time_ms).expect("found"), expected, "{time_ms}");
    }
}
