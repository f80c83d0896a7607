//! Readers against a writer that does what agents do, and what a crash or a defect may leave behind.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use hostler_api::types::LogStream;
use hostler_model::limits::{LOG_LINE_MAX, RESULT_LINE_MAX};

use super::reader::Batch;
use super::segment::{self, RECORD_MAX};
use super::{Begin, Filter, Last, LogReader, Position, Wanted, Watcher, last};

/// 2024-05-01T12:00:00Z
const NOON_MS: u64 = 1_714_564_800_000;

struct Log {
    _root: tempfile::TempDir,
    directory: PathBuf,
    segment: u64,
    file: Option<File>,
}

impl Log {
    /// A log whose directory is not there yet.
    fn absent() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { directory: root.path().join("0a1b2c3d4e5f"), _root: root, segment: 1, file: None }
    }

    fn new() -> Self {
        let log = Self::absent();
        fs::create_dir(&log.directory).unwrap();
        log
    }

    fn with_lines(texts: &[&str]) -> Self {
        let mut log = Self::new();
        texts.iter().for_each(|text| log.line(text));
        log
    }

    fn raw(&mut self, bytes: &[u8]) {
        let path = segment::path(&self.directory, self.segment);
        let open = || OpenOptions::new().create(true).append(true).open(path).unwrap();
        self.file.get_or_insert_with(open).write_all(bytes).unwrap();
    }

    fn record(&mut self, second: u64, stream: &str, tag: &str, text: &[u8]) {
        let time = format!("2024-05-01T12:{:02}:{:02}.000000000Z {stream} {tag} ", second / 60, second % 60);
        self.raw(&[time.as_bytes(), text, b"\n"].concat());
    }

    fn line(&mut self, text: &str) {
        self.record(0, "stdout", "F", text.as_bytes());
    }

    fn rotate(&mut self) {
        self.segment += 1;
        self.file = None;
        self.raw(b"");
    }

    fn delete(&self, segment: u64) {
        fs::remove_file(segment::path(&self.directory, segment)).unwrap();
    }

    fn reader(&self, filter: Filter) -> LogReader {
        LogReader::open(self.directory.clone(), filter, None).unwrap()
    }

    fn resume(&self, from: Position) -> LogReader {
        LogReader::open(self.directory.clone(), Filter::default(), Some(from)).unwrap()
    }

    fn read(&self, filter: Filter) -> String {
        texts(&drain(&mut self.reader(filter), 1024))
    }
}

/// Everything there is now, in one.
fn drain(reader: &mut LogReader, max_bytes: usize) -> Batch {
    let mut all = Batch::default();
    loop {
        let batch = reader.next_batch(max_bytes).unwrap();
        all.lines.extend(batch.lines);
        all.lost_segments += batch.lost_segments;
        all.skipped_records += batch.skipped_records;
        if batch.at_end {
            all.at_end = true;
            return all;
        }
    }
}

fn texts(batch: &Batch) -> String {
    batch.lines.iter().map(|(_, line)| line.text.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn tail(count: u64) -> Filter {
    Filter { tail: Some(count), ..Filter::default() }
}

#[test]
fn rotation_while_reading() {
    let mut log = Log::with_lines(&["a", "b"]);
    let mut reader = log.reader(Filter::default());
    assert_eq!(texts(&drain(&mut reader, 1)), "a b");
    log.line("c");
    log.rotate();
    log.line("d");
    log.rotate();
    log.rotate();
    log.line("e");
    let batch = drain(&mut reader, 1024);
    assert_eq!((texts(&batch).as_str(), batch.lost_segments, batch.skipped_records), ("c d e", 0, 0));
    assert_eq!(drain(&mut reader, 1024), Batch { at_end: true, ..Batch::default() });
}

#[test]
fn deleted_segments_are_counted_after_the_open_one_is_read() {
    let mut log = Log::with_lines(&["a"]);
    let mut reader = log.reader(Filter::default());
    assert_eq!(texts(&drain(&mut reader, 1024)), "a");
    log.line("b");
    for text in ["c", "d", "e", "f"] {
        log.rotate();
        log.line(text);
    }
    [1, 2, 3].iter().for_each(|segment| log.delete(*segment));
    let before_the_gap = reader.next_batch(1024).unwrap();
    assert_eq!((texts(&before_the_gap).as_str(), before_the_gap.lost_segments), ("b", 0));
    let after_it = reader.next_batch(1024).unwrap();
    assert_eq!((texts(&after_it).as_str(), after_it.lost_segments, after_it.at_end), ("e f", 2, true));
    // Removing the workload removes the log: nothing more comes, and nothing is wrong.
    fs::remove_dir_all(&log.directory).unwrap();
    assert_eq!(drain(&mut reader, 1024), Batch { at_end: true, ..Batch::default() });
}

#[test]
fn resuming_where_segments_are_gone() {
    let mut log = Log::with_lines(&["a"]);
    for text in ["b", "c", "d"] {
        log.rotate();
        log.line(text);
    }
    let everything = drain(&mut log.reader(Filter::default()), 1024);
    log.delete(1);
    log.delete(2);
    let batch = drain(&mut log.resume(everything.lines[0].0), 1024);
    assert_eq!((texts(&batch).as_str(), batch.lost_segments), ("c d", 2));
    let end = everything.lines[3].0;
    for beyond in [Position { offset: end.offset + 1, ..end }, Position { segment: 5, offset: 0 }] {
        let refused = LogReader::open(log.directory.clone(), Filter::default(), Some(beyond)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    }
    // A position wins over `tail`, which was meant for the first connection.
    let mut resumed =
        LogReader::open(log.directory.clone(), tail(1), Some(Position { segment: 3, offset: 0 })).unwrap();
    assert_eq!(texts(&drain(&mut resumed, 1024)), "c d");
}

/// A small generator of numbers, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn text(&mut self) -> Vec<u8> {
        let length = [0, 1, 40, 500, LOG_LINE_MAX][self.below(5)];
        let length = if length == LOG_LINE_MAX && self.below(4) > 0 { 3 } else { self.below(length + 1) };
        (0..length).map(|_| self.below(256) as u8).filter(|byte| *byte != b'\n').collect()
    }
}

#[test]
fn any_writes_are_read_once_and_resumed_anywhere() {
    for seed in 1..=60u64 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut log = Log::new();
        let mut live = log.reader(Filter::default());
        let mut written: Vec<(LogStream, Vec<u8>)> = Vec::new();
        let mut read = Vec::new();
        for _ in 0..random.below(120) {
            let (text, is_out) = (random.text(), random.below(2) == 0);
            let stream = if is_out { LogStream::Stdout } else { LogStream::Stderr };
            let name = if is_out { "stdout" } else { "stderr" };
            let record = [format!("2024-05-01T12:00:00.5Z {name} F ").as_bytes(), &text, b"\n"].concat();
            // Written in two pieces, with somebody reading between them.
            let (first, second) = record.split_at(random.below(record.len()));
            log.raw(first);
            if random.below(3) == 0 {
                read.extend(drain(&mut live, 1 + random.below(70_000)).lines);
                assert_eq!(read.len(), written.len(), "seed {seed}: half a line is no line");
            }
            log.raw(second);
            written.push((stream, text));
            if random.below(10) == 0 {
                log.rotate();
            }
        }
        read.extend(drain(&mut live, 1 + random.below(70_000)).lines);
        let seen: Vec<_> = read.iter().map(|(_, line)| (line.stream, line.text.as_bytes().to_vec())).collect();
        assert!(seen == written, "seed {seed}");
        for (index, (position, _)) in read.iter().enumerate() {
            let parsed = position.to_string().parse().unwrap();
            let rest = drain(&mut log.resume(parsed), 1 + random.below(70_000));
            assert!(rest.lines == read[index + 1..] && rest.lost_segments == 0, "seed {seed}, after line {index}");
        }
        for count in [0, 1, 2, 3, 7, 50, 1_000] {
            let rest = drain(&mut log.reader(tail(count as u64)), 65_536);
            assert!(rest.lines == read[read.len().saturating_sub(count)..], "seed {seed}, tail {count}");
        }
    }
}

#[test]
fn batches_are_bounded() {
    let mut log = Log::new();
    let text = "x".repeat(1000);
    (0..500).for_each(|_| log.line(&text));
    let mut reader = log.reader(Filter::default());
    let batch = reader.next_batch(64 * 1024).unwrap();
    assert_eq!((batch.lines.len(), batch.at_end), (63, false));
    assert_eq!(reader.next_batch(0).unwrap().lines.len(), 1, "progress whatever is asked");
    assert_eq!(drain(&mut reader, 64 * 1024).lines.len(), 436);
}

#[test]
fn a_filter_that_matches_nothing_comes_back() {
    let mut log = Log::new();
    let text = "x".repeat(1000);
    (0..1_000).for_each(|_| log.line(&text));
    log.record(0, "stderr", "F", b"at last");
    let errors = Filter { stream: Some(LogStream::Stderr), ..Filter::default() };
    let batch = log.reader(errors).next_batch(1024).unwrap();
    assert_eq!((texts(&batch).as_str(), batch.at_end), ("at last", true));

    // Behind a writer that never stops.
    let mut reader = log.reader(Filter { since_ms: Some(NOON_MS + 1), ..Filter::default() });
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let writer = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            log.line(&text);
        }
        log
    });
    for _ in 0..3 {
        assert_eq!(reader.next_batch(1024).unwrap(), Batch { at_end: true, ..Batch::default() });
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    drop(writer.join().unwrap());
}

#[test]
fn tails() {
    let mut log = Log::with_lines(&["a", "b"]);
    log.rotate();
    log.line("c");
    log.record(0, "stderr", "F", b"oops");
    log.rotate();
    let all = [(0, ""), (1, "oops"), (2, "c oops"), (3, "b c oops"), (4, "a b c oops"), (u64::MAX, "a b c oops")];
    for (count, expected) in all {
        assert_eq!(log.read(tail(count)), expected, "{count}");
    }
    let out = |count| Filter { stream: Some(LogStream::Stdout), ..tail(count) };
    assert_eq!((log.read(out(1)), log.read(out(2)), log.read(out(9))), ("c".into(), "b c".into(), "a b c".into()));
    // A tail of an unfinished line, and then its rest.
    log.raw(b"2024-05-01T12:00:00Z stdout F d");
    let mut reader = log.reader(tail(0));
    assert_eq!(texts(&drain(&mut reader, 1024)), "");
    log.raw(b"one\n");
    assert_eq!(texts(&drain(&mut reader, 1024)), "done");
}

#[test]
fn the_parts_of_a_long_line_are_one_line() {
    let mut log = Log::with_lines(&["a"]);
    for (stream, tag, text) in [
        ("stdout", "P", "b1"),
        ("stdout", "P", "b2"),
        ("stdout", "F", "b3"),
        ("stderr", "F", "c"),
        ("stdout", "P", "d1"),
    ] {
        log.record(0, stream, tag, text.as_bytes());
    }
    for (count, expected) in [(1, "d1"), (2, "c d1"), (3, "b1 b2 b3 c d1"), (4, "a b1 b2 b3 c d1")] {
        assert_eq!(log.read(tail(count)), expected, "{count}");
    }
    let batch = drain(&mut log.reader(Filter::default()), 1024);
    let partial: Vec<_> = batch.lines.iter().map(|(_, line)| line.partial).collect();
    assert_eq!(partial, [false, true, true, false, false, true]);
}

#[test]
fn long_tails_cross_blocks() {
    let mut log = Log::new();
    for number in 0..20_000 {
        log.line(&number.to_string());
        if number % 6_000 == 5_999 {
            log.rotate();
        }
    }
    let batch = drain(&mut log.reader(tail(15_000)), 65_536);
    assert_eq!(batch.lines.len(), 15_000);
    assert_eq!(batch.lines[0].1.text.to_string_lossy(), "5000");
}

#[test]
fn since_and_streams() {
    let mut log = Log::new();
    for second in 0..10 {
        log.record(second, if second % 2 == 0 { "stdout" } else { "stderr" }, "F", second.to_string().as_bytes());
        if second % 3 == 2 {
            log.rotate();
        }
    }
    let since = |second: u64| Filter { since_ms: Some(NOON_MS + second * 1000), ..Filter::default() };
    for (second, expected) in [(0, "0 1 2 3 4 5 6 7 8 9"), (3, "3 4 5 6 7 8 9"), (5, "5 6 7 8 9"), (9, "9"), (10, "")] {
        assert_eq!(log.read(since(second)), expected, "{second}");
    }
    assert_eq!(log.read(Filter { stream: Some(LogStream::Stderr), ..since(4) }), "5 7 9");
    assert_eq!(log.read(Filter { tail: Some(2), ..since(4) }), "8 9");
    assert_eq!(log.read(Filter { tail: Some(99), ..since(4) }), "4 5 6 7 8 9");
}

#[test]
fn the_output_of_one_run() {
    let mut log = Log::new();
    let of = |run: u32| Filter { run: Some(run), ..Filter::default() };
    log.line("unmarked");
    log.record(0, "stdout", "F:run=2", b"a");
    log.record(0, "stderr", "F", b"b");
    log.record(0, "stdout", "F:run=10", b"c");
    log.rotate();
    log.record(0, "stdout", "P:run=10", b"d");
    log.record(0, "stdout", "F", b"e");
    log.rotate();
    log.record(0, "stdout", "F:run=10", b"f");
    log.record(0, "stdout", "F:run=11", b"g");
    for (run, expected) in [(1, ""), (2, "ab"), (3, ""), (10, "cdef"), (11, "g"), (12, "")] {
        assert_eq!(log.read(of(run)).replace(['\n', ' '], ""), expected, "run {run}");
    }
    // Its beginning is gone, and it goes on.
    log.delete(1);
    let mut reader = log.reader(of(10));
    assert_eq!(drain(&mut reader, 1).lines.len(), 3);
    log.line("of 11");
    assert!(drain(&mut reader, 1).lines.is_empty());
}

#[test]
fn garbage_is_skipped_and_counted() {
    let mut log = Log::with_lines(&["a"]);
    log.raw(b"no record\n\n");
    log.line("b");
    log.raw(&vec![b'x'; 3 * 65_536]);
    log.raw(b"\n");
    log.line("c");
    log.raw(&vec![b'y'; RECORD_MAX]);
    log.raw(b"\n");
    // Torn by a crash: never finished.
    log.raw(b"2024-05-01T12:00:00Z stdout F tor");
    log.rotate();
    log.record(0, "stdout", "F", b"\xff\xfe \0");
    for max_bytes in [1, 100_000] {
        let batch = drain(&mut log.reader(Filter::default()), max_bytes);
        assert_eq!((texts(&batch).as_str(), batch.skipped_records), ("a b c \u{fffd}\u{fffd} \0", 5));
        assert_eq!(batch.lines[3].1.text.as_bytes(), b"\xff\xfe \0");
    }
    for (count, expected) in
        [(2, "c \u{fffd}\u{fffd} \0"), (3, "b c \u{fffd}\u{fffd} \0"), (4, "a b c \u{fffd}\u{fffd} \0")]
    {
        assert_eq!(log.read(tail(count)), expected);
    }
    // A writer that never ends its line is not held in memory.
    log.rotate();
    let mut reader = log.reader(tail(0));
    log.raw(&vec![b'z'; 1_000_000]);
    assert_eq!(drain(&mut reader, 1024).skipped_records, 1);
    log.raw(b"z\n");
    log.line("d");
    let batch = drain(&mut reader, 1024);
    assert_eq!((texts(&batch).as_str(), batch.skipped_records), ("d", 0));
}

/// Longer than anything should take; a test that hangs says so.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("woken in time")
}

#[tokio::test]
async fn following_a_log_that_is_not_there_yet() {
    let mut log = Log::absent();
    let watcher = Watcher::new().unwrap();
    let mut news = watcher.watch(&log.directory);
    let mut reader = log.reader(tail(5));
    assert_eq!(drain(&mut reader, 1024), Batch { at_end: true, ..Batch::default() });
    let writer = tokio::task::spawn_blocking(move || {
        fs::create_dir(&log.directory).unwrap();
        for number in 0..2_000 {
            log.line(&number.to_string());
            if number % 500 == 499 {
                log.rotate();
            }
        }
        log
    });
    let mut lines = Vec::new();
    while lines.len() < 2_000 {
        soon(news.changed()).await;
        lines.extend(drain(&mut reader, 4096).lines);
    }
    let numbers: Vec<_> = lines.iter().map(|(_, line)| line.text.to_string_lossy().parse::<usize>().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..2_000));
    drop(writer.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_followers_and_one_that_stalls() {
    const LINES: usize = 3_000;
    let mut log = Log::new();
    let watcher = Watcher::new().unwrap();
    let mut stalled = (watcher.watch(&log.directory), log.reader(Filter::default()));
    let followers: Vec<_> = (0..100)
        .map(|_| {
            let (mut news, mut reader) = (watcher.watch(&log.directory), log.reader(Filter::default()));
            tokio::spawn(async move {
                let mut count = 0;
                while count < LINES {
                    soon(news.changed()).await;
                    count += drain(&mut reader, 16 * 1024).lines.len();
                }
                count
            })
        })
        .collect();
    assert_eq!(watcher.watched_directories(), 1);
    for number in 0..LINES {
        log.line(&number.to_string());
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for follower in followers {
        assert_eq!(follower.await.unwrap(), LINES);
    }
    soon(stalled.0.changed()).await;
    assert_eq!(drain(&mut stalled.1, 16 * 1024).lines.len(), LINES);
}

#[tokio::test]
async fn watches_are_counted_and_given_back() {
    let log = Log::new();
    let watcher = Watcher::new().unwrap();
    let (missing, other) = (log.directory.join("missing"), log.directory.join("other"));
    let first = watcher.watch(&log.directory);
    let second = watcher.clone().watch(&log.directory);
    assert_eq!(watcher.watched_directories(), 1);
    let mut below = watcher.watch(&missing);
    let beside = watcher.watch(&other);
    assert_eq!(watcher.watched_directories(), 1, "missing ones share their parent's");
    fs::create_dir(&missing).unwrap();
    soon(below.changed()).await;
    assert_eq!(watcher.watched_directories(), 2);
    drop((first, second));
    assert_eq!(watcher.watched_directories(), 2, "one still waits for its directory");
    drop(beside);
    assert_eq!(watcher.watched_directories(), 1);
    // Removed and made again.
    fs::remove_dir(&missing).unwrap();
    soon(below.changed()).await;
    fs::create_dir(&missing).unwrap();
    soon(below.changed()).await;
    fs::write(missing.join("x"), "").unwrap();
    soon(below.changed()).await;
    drop(below);
    assert_eq!(watcher.watched_directories(), 0);
}

#[tokio::test]
async fn what_happens_before_the_wait_is_not_lost() {
    let mut log = Log::new();
    let watcher = Watcher::new().unwrap();
    let mut news = watcher.watch(&log.directory);
    for round in 0..20 {
        log.line(&round.to_string());
        // Nothing else writes: each wait ends by this write, or by an earlier one's second event.
        soon(news.changed()).await;
    }
    // Neither directory nor parent: looked at now and then.
    let mut nowhere = watcher.watch(&log.directory.join("a/b"));
    soon(nowhere.changed()).await;
    fs::create_dir_all(log.directory.join("a/b")).unwrap();
    soon(nowhere.changed()).await;
}

fn find(log: &Log, stdout: u64, stderr: u64, begin: Begin) -> Last {
    last(&log.directory, &Wanted { stdout, stderr, begin }).unwrap()
}

fn at(segment: u64, offset: u64) -> Begin {
    Begin::At(Position { segment, offset })
}

fn words(lines: &[hostler_api::result::ResultLine]) -> String {
    lines.iter().map(|line| line.text.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_last_lines_of_both_streams_of_the_last_run_only() {
    let mut log = Log::with_lines(&["old-1", "old-2"]);
    let begin = fs::metadata(segment::path(&log.directory, 1)).unwrap().len();
    log.record(1, "stderr", "F", b"err-1");
    for number in 1..=20 {
        log.record(2, "stdout", "F", format!("out-{number}").as_bytes());
        if number % 7 == 0 {
            log.rotate();
        }
    }
    log.raw(b"garbage\n");
    let found = find(&log, 3, 3, at(1, begin));
    assert_eq!((words(&found.stdout).as_str(), words(&found.stderr).as_str()), ("out-18 out-19 out-20", "err-1"));
    assert!(!found.whole);
    let found = find(&log, 100, 100, at(1, begin));
    assert_eq!((found.stdout.len(), found.stderr.len(), found.whole), (20, 1, true));
    assert_eq!(found.stdout[0].time, "2024-05-01T12:00:02.000000000Z");
    assert_eq!(find(&log, 0, 0, at(1, begin)).stdout, []);
    // Nobody could say where it begins: its time must do.
    let found = find(&log, 100, 100, Begin::Since(NOON_MS + 1_000));
    assert_eq!((found.stdout.len(), found.stderr.len(), found.whole), (20, 1, true));
    // What was rotated away is missing, and that is known.
    log.delete(1);
    let found = find(&log, 100, 100, at(1, begin));
    assert_eq!((found.stdout.len(), found.stderr.len(), found.whole), (13, 0, false));
    assert!(!find(&log, 100, 100, Begin::Since(NOON_MS)).whole);
    assert_eq!(find(&Log::absent(), 9, 9, at(1, 0)), Last { whole: true, ..Last::default() });
}

#[test]
fn long_lines_keep_their_beginning_and_odd_bytes_stay() {
    let mut log = Log::new();
    // Three parts, with another stream's line between them; a character stands across the cut.
    let text = format!("{}é{}", "a".repeat(RESULT_LINE_MAX - 1), "b".repeat(2 * LOG_LINE_MAX));
    let (first, rest) = text.as_bytes().split_at(LOG_LINE_MAX);
    let (second, third) = rest.split_at(LOG_LINE_MAX);
    log.record(1, "stdout", "P", first);
    log.record(2, "stderr", "F", b"between \xff\xfe");
    log.record(2, "stdout", "P", second);
    log.rotate();
    log.record(3, "stdout", "F", third);
    log.record(4, "stdout", "F", b"");
    for count in [2, 9] {
        let found = find(&log, count, 1, at(1, 0));
        let [long, empty] = &found.stdout[..] else { panic!("{} lines", found.stdout.len()) };
        assert_eq!(long.text.as_bytes(), "a".repeat(RESULT_LINE_MAX - 1).as_bytes());
        assert_eq!(long.cut_bytes, (text.len() - RESULT_LINE_MAX) as u64);
        assert_eq!((long.time.as_str(), empty.text.as_bytes()), ("2024-05-01T12:00:01.000000000Z", &b""[..]));
        assert_eq!(found.stderr[0].text.as_bytes(), b"between \xff\xfe");
        assert!(found.whole);
    }
    // An agent that died within a line left no end of it.
    log.record(5, "stdout", "P", &[0xff; LOG_LINE_MAX]);
    log.raw(b"2024-05-01T12:00:06.000000000Z stdout F torn");
    let found = find(&log, 1, 0, at(1, 0));
    assert_eq!((found.stdout.len(), found.stdout[0].text.as_bytes()), (1, &[0xff; RESULT_LINE_MAX][..]));
    assert_eq!(found.stdout[0].cut_bytes, (LOG_LINE_MAX - RESULT_LINE_MAX) as u64);
}
