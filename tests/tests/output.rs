//! Much output, slow readers, readers that stall or vanish, programs that close, share or leave their stdout.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostler_api::client::{Frame, LogItem};
use hostler_api::stream::{AttachQuery, FromServer};
use hostler_api::types::LogsQuery;
use hostler_model::workload::RunState;
use hostler_tests::{PATIENCE, TestNode, binary, is_alive, until, until_gone};

/// The daemon's memory, bytes, stays below this in a debug build.
const DAEMON_RSS_MAX: u64 = 60 << 20;

fn rss(pid: u32) -> u64 {
    hostler_linux::procfs::stats(pid).expect("alive").rss_bytes
}

/// The first word of a line.
fn number(line: &hostler_api::stream::LogLine) -> Option<usize> {
    line.text.to_string_lossy().split(' ').next().and_then(|word| word.parse().ok())
}

/// A hundred followers of one log; one of them looks away for the whole time.
#[test]
fn alone_a_hundred_readers_and_one_that_stalls() {
    const READERS: usize = 100;
    const LINES: usize = 4_000;
    // More than all buffers on the way to a reader hold.
    let padding = "x".repeat(400);
    let node = TestNode::new();
    let mut spec = node.script(&format!("until [ -e go ]; do sleep 0.02; done; seq -f '%.0f {padding}' 1 {LINES}"));
    spec.name = Some("loud".parse().expect("a name"));
    node.create_started(&spec);
    let query = LogsQuery { follow: true, ..LogsQuery::default() };
    let mut stalled = node.block_on(node.api().logs("loud", &query, None)).expect("logs");
    let mut readers = tokio::task::JoinSet::new();
    node.block_on(async {
        for _ in 1..READERS {
            let mut stream = node.api().logs("loud", &query, None).await.expect("logs");
            readers.spawn(async move {
                let mut next = 1;
                while let Some(item) = stream.next().await.expect("a line") {
                    let LogItem::Line(line) = item else { panic!("{item:?}") };
                    assert_eq!(number(&line), Some(next));
                    next += 1;
                }
                next - 1
            });
        }
    });
    std::fs::write(node.work().join("go"), "").expect("write");
    node.ended("loud");
    let peak = rss(node.pid());
    let counts = node.block_on(async { tokio::time::timeout(Duration::from_secs(90), readers.join_all()).await });
    assert!(counts.expect("readers end in time").iter().all(|count| *count == LINES));
    let after = rss(node.pid());
    assert!(peak.max(after) < DAEMON_RSS_MAX, "the daemon has {peak}, then {after} bytes");
    let mut count = 0;
    node.block_on(async {
        while let Some(item) = stalled.next().await.expect("a line") {
            count += 1;
            let LogItem::Line(line) = item else { panic!("{item:?}") };
            assert_eq!(number(&line), Some(count));
        }
    });
    assert_eq!(count, LINES);
    node.finish();
}

/// Reads a stream to its end: how much it was, and its sum under a rolling hash.
fn digest(mut from: impl Read) -> (u64, u64) {
    let mut buffer = vec![0; 64 * 1024];
    let (mut length, mut hash) = (0, 0xcbf2_9ce4_8422_2325_u64);
    loop {
        let count = from.read(&mut buffer).expect("readable");
        if count == 0 {
            return (length, hash);
        }
        length += count as u64;
        for byte in &buffer[..count] {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

const MUCH: u64 = 200 << 20;

#[test]
fn alone_much_output_with_a_reader_is_complete() {
    let node = TestNode::new();
    let script = format!("yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c {MUCH}");
    let mut run = Command::new(binary("hostler"))
        .args(["run", "--rm", "--", "sh", "-c", &script])
        .env("HOSTLER_ROOT", node.root())
        .current_dir(node.work())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("hostler");
    let mut length = 0;
    let mut expected = b"0123456789abcdefghijklmnopqrstuvwxyz\n".iter().cycle();
    let mut buffer = vec![0; 64 * 1024];
    let stdout = run.stdout.as_mut().expect("piped");
    loop {
        let count = stdout.read(&mut buffer).expect("readable");
        if count == 0 {
            break;
        }
        assert!(buffer[..count].iter().all(|byte| Some(byte) == expected.next()), "wrong bytes after {length}");
        length += count as u64;
    }
    assert!(run.wait().expect("an end").success());
    assert_eq!(length, MUCH);
    assert!(rss(node.pid()) < DAEMON_RSS_MAX, "the daemon has {} bytes", rss(node.pid()));
    node.finish();
}

#[test]
fn alone_much_output_without_a_reader_is_rotated() {
    let node = TestNode::new();
    let script = format!("yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c {MUCH}; echo; echo the end");
    node.cli(&["run", "-d", "--name", "loud", "--", "sh", "-c", &script]).ok();
    let began = Instant::now();
    let view = until("its end", Duration::from_secs(60), || {
        Some(node.inspect("loud")).filter(|view| view.workload.is_at_rest())
    });
    assert_eq!(view.exit_code, Some(0), "{:?}", began.elapsed());
    let directory = node.root().join("logs").join(view.workload.id.to_string());
    let segments: Vec<u64> = std::fs::read_dir(&directory)
        .expect("a log")
        .flatten()
        .map(|entry| entry.metadata().expect("a segment").len())
        .collect();
    assert!(segments.len() <= 6, "{segments:?}");
    assert!(segments.iter().sum::<u64>() < 60 << 20, "{segments:?}");
    assert_eq!(node.cli(&["logs", "--tail", "1", "loud"]).ok(), "the end");
    assert!(rss(node.pid()) < DAEMON_RSS_MAX, "the daemon has {} bytes", rss(node.pid()));
    node.finish();
}

#[test]
fn rotation_keeps_the_newest_segments_and_says_what_is_gone() {
    let node = TestNode::new();
    let mut spec = node.script("seq 1 20000");
    spec.log.segment_bytes = 8 * 1024;
    spec.log.segments = 3;
    let id = node.create(&spec).workload.id.to_string();
    node.ended(&id);
    let directory = node.root().join("logs").join(&id);
    assert!(std::fs::read_dir(&directory).expect("a log").count() <= 4);
    let lines: Vec<u32> = node.log_of(&id).lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(lines.last(), Some(&20_000));
    assert!(lines.len() > 200 && lines.windows(2).all(|pair| pair[1] == pair[0] + 1), "{} lines", lines.len());
    node.finish();
}

#[test]
fn long_lines_and_odd_bytes_are_logged_whole() {
    let node = TestNode::new();
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'odd \\377\\376 bytes\\n'; printf 'a\\0b\\r\\n'";
    node.cli(&["run", "--name", "odd", "--", "sh", "-c", script]).code(0);
    let mut expected = "x".repeat(100_000).into_bytes();
    expected.extend_from_slice(b"\nodd \xff\xfe bytes\na\0b\r\n");
    assert!(node.cli(&["logs", "odd"]).code(0).stdout == expected);
    node.finish();
}

#[test]
fn a_slow_guest_is_told_what_it_missed_and_delays_nobody() {
    const BYTES: u64 = 30 << 20;
    let node = TestNode::new();
    let mut spec = node.script(&format!("until [ -e go ]; do sleep 0.02; done; head -c {BYTES} /dev/zero"));
    spec.name = Some("fast".parse().expect("a name"));
    node.create_started(&spec);
    let mut guest = node.block_on(node.api().attach("fast", &AttachQuery::default())).expect("attached");
    let first = node.block_on(guest.next()).expect("a frame");
    assert!(matches!(first, Some(Frame::Control(FromServer::Attached { .. }))), "{first:?}");
    std::fs::write(node.work().join("go"), "").expect("write");
    let view = node.ended("fast");
    let Some(RunState::Ended { exit }) = view.workload.run.as_ref().map(|run| run.state.clone()) else {
        panic!("{view:?}")
    };
    assert_eq!(view.exit_code, Some(0));
    let (mut seen, mut dropped, mut ended) = (0, 0, false);
    node.block_on(async {
        while let Some(frame) = guest.next().await.expect("a frame") {
            match frame {
                Frame::Output(_, bytes) => seen += bytes.len() as u64,
                Frame::Control(FromServer::Dropped { bytes, .. }) => dropped += bytes,
                Frame::Control(FromServer::Ended { .. }) => ended = true,
                Frame::Control(other) => panic!("{other:?}"),
            }
        }
    });
    assert!(ended, "the end was not told");
    assert_eq!(seen + dropped, BYTES, "{seen} seen, {dropped} dropped; it ran {} ms", exit.duration_ms);
    assert!(dropped > 0);
    node.finish();
}

#[test]
fn a_program_that_closes_its_stdout_is_not_over() {
    let node = TestNode::new();
    let script = "echo before; exec >&- 2>&-; sleep 0.3; exit 3";
    let began = Instant::now();
    assert_eq!(node.cli(&["run", "--", "sh", "-c", script]).code(3).out(), "before\n");
    assert!(began.elapsed() >= Duration::from_millis(300));
    // One that reads nothing and whose reader is gone gets SIGPIPE or an error, never a stuck write.
    let pipe = Command::new("sh")
        .args([
            "-c",
            "\"$0\" run -- sh -c 'yes | head -c 50000000' | head -n 1",
            &binary("hostler").display().to_string(),
        ])
        .env("HOSTLER_ROOT", node.root())
        .current_dir(node.work())
        .output()
        .expect("sh");
    assert_eq!(pipe.stdout, b"y\n");
    node.finish();
}

#[test]
fn an_orphan_that_holds_stdout_delays_the_end_by_a_second_at_most() {
    let node = TestNode::new();
    for _ in 0..2 {
        // Twice: the first orphan must not be in the way of the second run.
        let script = "(setsid sleep 600 & echo $! >orphan); echo done; exit 4";
        let began = Instant::now();
        assert_eq!(node.cli(&["run", "--rm", "--", "sh", "-c", script]).code(4).out(), "done\n");
        assert!(began.elapsed() < Duration::from_millis(3_000), "it took {:?}", began.elapsed());
        let orphan =
            std::fs::read_to_string(node.work().join("orphan")).expect("a number").trim().parse().expect("a number");
        until_gone(orphan);
    }
    // One that keeps writing, too.
    let script = "(setsid sh -c 'while :; do echo noise; sleep 0.01; done' & ) ; exit 5";
    let began = Instant::now();
    let output = node.cli(&["run", "--rm", "--", "sh", "-c", script]).code(5);
    assert!(began.elapsed() < Duration::from_millis(3_000), "it took {:?}", began.elapsed());
    assert!(output.out().lines().all(|line| line == "noise"));
    node.finish();
}

#[test]
fn the_end_comes_after_all_output() {
    let node = TestNode::new();
    for round in 0..30 {
        let output = node.cli(&["run", "--rm", "--", "sh", "-c", "seq 1 3000; seq 1 1000 >&2"]).code(0);
        assert_eq!((output.out().lines().count(), output.err().lines().count()), (3_000, 1_000), "round {round}");
    }
    node.finish();
}

#[test]
fn a_client_that_vanishes_ends_its_own_run_only_with_rm() {
    let node = TestNode::new();
    let script = "echo ready; while :; do echo tick; sleep 0.05; done";
    let mut gone = node.command(&["run", "--rm", "--name", "with-rm", "--", "sh", "-c", script]).spawn();
    gone.line_with("ready");
    let pid = node.main_pid("with-rm");
    gone.signal(9);
    drop(gone);
    node.wait_kind("with-rm", "workload.removed");
    until_gone(pid);

    let mut gone = node.command(&["run", "--name", "without", "--", "sh", "-c", script]).spawn();
    gone.line_with("ready");
    let pid = node.main_pid("without");
    gone.signal(9);
    drop(gone);
    // It goes on, and its output goes to the log.
    let mut logs = node.command(&["logs", "-f", "--tail", "1", "without"]).spawn();
    for _ in 0..20 {
        logs.line_with("tick");
    }
    assert!(is_alive(pid));
    drop(logs);
    // A client that came to listen goes unnoticed.
    let mut guest = node.command(&["attach", "without"]).spawn();
    guest.line_with("tick");
    guest.signal(9);
    drop(guest);
    assert!(is_alive(pid));
    node.cli(&["stop", "without"]).ok();
    node.finish();
}

#[test]
fn a_detached_run_with_rm_goes_on_without_a_client_and_is_removed() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--rm", "--name", "d", "--", "sh", "-c", "until [ -e go ]; do sleep 0.02; done"]).ok();
    assert_eq!(node.inspect("d").phase.as_str(), "running");
    std::fs::write(node.work().join("go"), "").expect("write");
    node.wait_kind("d", "workload.removed");
    until("no log of it", PATIENCE, || node.directories("logs").is_empty().then_some(()));
    node.finish();
}

#[test]
fn digests_are_the_same_both_ways() {
    let node = TestNode::new();
    // More than any buffer on the way, both directions at once.
    let mut run = Command::new(binary("hostler"))
        .args(["run", "-i", "--rm", "--", "cat"])
        .env("HOSTLER_ROOT", node.root())
        .current_dir(node.work())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("hostler");
    let data: Vec<u8> = (0..30_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    let expected = digest(data.as_slice());
    let mut stdin = run.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &data).expect("writable"));
    let found = digest(run.stdout.take().expect("piped"));
    writer.join().expect("a writer");
    assert!(run.wait().expect("an end").success());
    assert_eq!(found, expected);
    node.finish();
}

#[test]
fn an_owner_that_stalls_holds_up_his_own_program_and_nothing_else() {
    let node = TestNode::new();
    let script = "head -c 20000000 /dev/zero | tr '\\0' x; echo over >over";
    let mut stalled = Command::new(binary("hostler"))
        .args(["run", "--name", "held", "--", "sh", "-c", script])
        .env("HOSTLER_ROOT", node.root())
        .current_dir(node.work())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("hostler");
    until("the workload", PATIENCE, || node.block_on(node.api().inspect("held")).ok());
    node.main_pid("held");
    // Others are served meanwhile.
    for _ in 0..10 {
        assert_eq!(node.cli(&["run", "--rm", "--", "echo", "free"]).ok(), "free");
    }
    assert_eq!(node.inspect("held").phase.as_str(), "running");
    assert!(!node.work().join("over").exists(), "its output went nowhere");
    assert!(rss(node.pid()) < DAEMON_RSS_MAX, "the daemon has {} bytes", rss(node.pid()));
    // Without its owner it goes on.
    stalled.kill().expect("kill -9");
    stalled.wait().expect("reaped");
    assert_eq!(node.ended("held").exit_code, Some(0));
    assert!(node.work().join("over").exists());
    node.finish();
}
