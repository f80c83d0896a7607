//! Channels: backlog, offsets, credit, the owner who is waited for, readers who are not, stdin, terminals.

use std::time::Duration;

use hostler_model::limits::ATTACH_BACKLOG;
use hostler_model::spec::TtySize;
use hostler_wire::{AgentState, AttachTarget, FromAgent, Stream, StreamOffsets, ToAgent};

use crate::client::{Got, Node, wait_for};

const MAIN: AttachTarget = AttachTarget::Main;

#[test]
fn the_backlog_and_the_live_stream() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", "echo before; echo err >&2; read line; echo got $line"]);
    launch.stdio.interactive = true;
    node.start(&launch);
    wait_for("the first lines", || (node.log_lines().len() == 2).then_some(()));
    node.link.attach(1, MAIN, false, true);
    node.link.attach_from(2, StreamOffsets { stdout: 7, stderr: 4 }, false);
    node.link.stdin(1, false, b"word\n");
    let (stdout, stderr, missing) = node.link.read_channel(1);
    assert_eq!((stdout.as_slice(), stderr.as_slice(), missing), (&b"before\ngot word\n"[..], &b"err\n"[..], 0));
    let (stdout, stderr, _) = node.link.read_channel(2);
    assert_eq!((stdout.as_slice(), stderr.as_slice()), (&b"got word\n"[..], &b""[..]));
    node.exited();
    // After the end, and before Committed, the backlog is still there.
    node.link.attach(3, MAIN, false, false);
    assert_eq!(node.link.read_channel(3).0, b"before\ngot word\n");
    node.commit(launch.run);
    node.link.attach(4, MAIN, false, false);
    assert_eq!(node.link.message(), FromAgent::ChannelClosed { channel: 4 });
}

#[test]
fn an_owner_gets_every_byte_and_costs_little_memory() {
    // Without optimisation a gigabyte takes half a minute.
    const SIZE: usize = if cfg!(debug_assertions) { 200_000_000 } else { 1_000_000_000 };
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", &format!("yes 0123456789abcde | head -c {SIZE}")]);
    launch.stdio.owner = true;
    launch.log.segments = 1;
    node.start(&launch);
    let begin = std::time::Instant::now();
    node.link.attach(1, MAIN, true, false);
    let (mut next, mut peak, mut frames) = (0u64, 0, 0u64);
    let lines = b"0123456789abcde\n".repeat(4096);
    loop {
        match node.link.next() {
            Got::Data { channel, stream: Stream::Stdout, offset, bytes, .. } => {
                assert_eq!((channel, offset), (1, next), "no gap");
                let phase = usize::try_from(offset % 16).unwrap();
                assert!(bytes == lines[phase..phase + bytes.len()], "the bytes are the program's");
                next += bytes.len() as u64;
                node.link.credit(1, u32::try_from(bytes.len()).unwrap());
                frames += 1;
                if frames % 1_000 == 0 {
                    peak = peak.max(hostler_linux::procfs::stats(node.agent.id()).unwrap().rss_bytes);
                }
            }
            Got::Message(FromAgent::ChannelClosed { channel: 1 }) => break,
            Got::Message(FromAgent::Exited { .. }) => node.link.early.clear(),
            _ => {}
        }
    }
    eprintln!("{SIZE} bytes to an owner: {} ms, {} KiB RSS at most", begin.elapsed().as_millis(), peak / 1024);
    assert_eq!(next, SIZE as u64);
    assert!(peak < 12 << 20, "{peak}");
}

#[test]
fn the_program_waits_for_an_owner_and_for_nobody_else() {
    let mut node = Node::new();
    let done = node.path("done");
    let script = "head -c 1000000 /dev/zero; echo > \"$0\"; read x";
    let mut launch = node.launch(&["sh", "-c", script, done.to_str().unwrap()]);
    launch.stdio.owner = true;
    launch.stdio.interactive = true;
    let pid = node.start(&launch);
    // Expected: it blocks before he came. It sleeps in write when it is blocked, so that this is no race.
    let head = wait_for("head", || hostler_linux::procfs::children(pid).unwrap().first().copied());
    wait_for("the pipe to be full", || {
        let about = std::fs::read_to_string(format!("/proc/{head}/wchan")).unwrap_or_default();
        (about.contains("pipe_w") || about == "0").then_some(())
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(!done.exists());
    // He comes, takes a part, and goes: the rest is dropped, and the program goes on.
    node.link.send(&ToAgent::Attach { channel: 1, target: MAIN, owner: true, stdin: false, from: None });
    node.link.credit(1, 10_000);
    let mut received = 0;
    while received < 10_000 {
        let Got::Data { offset, bytes, .. } = node.link.next() else { panic!("no data") };
        assert_eq!(offset, received);
        received += bytes.len() as u64;
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(!done.exists());
    node.link.send(&ToAgent::Detach { channel: 1 });
    wait_for("the program to go on", || done.exists().then_some(()));
    // A late reader sees the backlog only, and by its offset that it is not all.
    node.link.send(&ToAgent::Attach { channel: 2, target: MAIN, owner: false, stdin: true, from: None });
    node.link.credit(2, 1_000_000);
    let first = loop {
        if let Got::Data { channel: 2, offset, .. } = node.link.next() {
            break offset;
        }
    };
    assert_eq!(first, 1_000_000 - ATTACH_BACKLOG as u64);
    node.link.stdin(2, true, b"");
    node.exited();
}

#[test]
fn a_slow_reader_loses_bytes_and_sees_where() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", "read x; head -c 3000000 /dev/zero; read x"]);
    launch.stdio.interactive = true;
    node.start(&launch);
    node.link.send(&ToAgent::Attach { channel: 1, target: MAIN, owner: false, stdin: true, from: None });
    node.link.credit(1, 1_000);
    node.link.stdin(1, false, b"go\n");
    wait_for("the program to have written", || {
        let sizes = std::fs::read_dir(node.path("log/w")).ok()?;
        let size: u64 = sizes.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        (size >= 2_980_000).then_some(())
    });
    let Got::Data { offset: 0, bytes, .. } = ({
        loop {
            let got = node.link.next();
            if matches!(got, Got::Data { .. }) {
                break got;
            }
        }
    }) else {
        panic!("no data")
    };
    node.link.credit(1, 1_000_000);
    node.link.stdin(1, true, b"");
    let (stdout, _, missing) = node.link.read_channel(1);
    // The backlog as it was then, and what was still in the pipe.
    assert!((ATTACH_BACKLOG..=2 * ATTACH_BACKLOG).contains(&stdout.len()), "{}", stdout.len());
    assert_eq!(missing, 0, "the gap is before the first frame that is read here");
    assert!(bytes.len() <= 1_000);
    node.exited();
}

#[test]
fn large_stdin_and_large_stdout_at_once() {
    const SIZE: usize = 50_000_000;
    let mut node = Node::new();
    let mut launch = node.launch(&["cat"]);
    launch.stdio.interactive = true;
    launch.stdio.owner = true;
    launch.log.segments = 1;
    node.start(&launch);
    node.link.attach(1, MAIN, true, true);
    let (mut sent, mut received, mut window, mut ended) = (0usize, 0usize, 0usize, false);
    let block: Vec<u8> = (0..16_384u32).map(|index| (index % 251) as u8).collect();
    loop {
        while window > 0 && sent < SIZE {
            let part = window.min(SIZE - sent).min(block.len());
            node.link.stdin(1, false, &block[..part]);
            sent += part;
            window -= part;
        }
        if sent == SIZE && !ended {
            ended = true;
            node.link.stdin(1, true, b"");
        }
        match node.link.next() {
            Got::Credit { channel: 1, bytes } => window += bytes as usize,
            Got::Data { channel: 1, stream: Stream::Stdout, offset, bytes, .. } => {
                assert_eq!(offset, received as u64);
                received += bytes.len();
                node.link.credit(1, u32::try_from(bytes.len()).unwrap());
            }
            Got::Message(FromAgent::ChannelClosed { .. }) => break,
            _ => {}
        }
    }
    assert_eq!(received, SIZE);
}

#[test]
fn stdin_that_nobody_reads() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", "exec <&-; echo closed; sleep 60"]);
    launch.stdio.interactive = true;
    node.start(&launch);
    wait_for("the close", || (!node.log_lines().is_empty()).then_some(()));
    node.link.attach(1, MAIN, false, true);
    let mut left = 1_000_000usize;
    while left > 0 {
        if let Got::Credit { channel: 1, bytes } = node.link.next() {
            let mut window = bytes as usize;
            while window > 0 && left > 0 {
                let part = window.min(left).min(16_384);
                node.link.stdin(1, false, &vec![0; part]);
                (window, left) = (window - part, left - part);
            }
        }
    }
    node.link.send(&ToAgent::Kill { run: launch.run });
    node.exited();
    // Bytes that were never granted end the connection.
    let mut node = Node::new();
    let mut launch = node.launch(&["sleep", "60"]);
    launch.stdio.interactive = true;
    node.start(&launch);
    node.link.attach(1, MAIN, false, true);
    // More than the pipe and the buffer hold together.
    for _ in 0..10 {
        node.link.try_stdin(1, false, &[0; 16_384]);
    }
    assert!(node.link.closed());
    assert!(matches!(node.reconnect().state, AgentState::Running { .. }));
}

#[test]
fn a_terminal_with_its_size_and_its_end() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", "stty size; trap 'stty size' WINCH; echo ready; cat; echo end"]);
    launch.stdio.tty = Some(TtySize { columns: 90, rows: 30 });
    launch.stdio.interactive = true;
    node.start(&launch);
    wait_for("the trap", || (node.log_lines().len() == 2).then_some(()));
    node.link.attach(1, MAIN, false, true);
    node.link.send(&ToAgent::Resize { target: MAIN, size: TtySize { columns: 120, rows: 40 } });
    node.link.stdin(1, false, b"hello\n");
    // Its echo, and cat's.
    let hellos = |lines: &[String]| lines.iter().filter(|line| line.ends_with("hello")).count();
    wait_for("hello", || (hellos(&node.log_lines()) == 2).then_some(()));
    node.link.stdin(1, true, b"half");
    let (stdout, stderr, missing) = node.link.read_channel(1);
    let text = String::from_utf8(stdout).unwrap();
    for part in ["30 90\r\n", "hello\r\n", "halfhalf", "40 120\r\n", "end\r\n"] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    assert!(stderr.is_empty() && missing == 0);
    assert_eq!(node.exited().cause, hostler_model::Cause::Success);
    node.commit(launch.run);
}

#[test]
fn an_owner_is_served_after_the_end() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", "head -c 100000 /dev/zero"]);
    launch.stdio.owner = true;
    node.start(&launch);
    node.link.send(&ToAgent::Attach { channel: 1, target: MAIN, owner: true, stdin: false, from: None });
    node.link.credit(1, 50_000);
    let exit = node.exited();
    assert_eq!(exit.cause, hostler_model::Cause::Success);
    // Committed meanwhile; the agent is idle only when he has everything.
    node.link.send(&ToAgent::Committed { run: launch.run, reuse: true, assume_idle: false });
    let mut received = 0;
    while received < 50_000 {
        if let Got::Data { bytes, .. } = node.link.next() {
            received += bytes.len();
        }
    }
    while let Some(got) = node.link.try_next(Duration::from_millis(100)) {
        assert!(matches!(got, Got::Data { stream: Stream::Stderr, eof: true, .. }), "{got:?}");
    }
    node.link.credit(1, 100_000);
    while received < 100_000 {
        if let Got::Data { bytes, .. } = node.link.next() {
            received += bytes.len();
        }
    }
    // The end of stderr may come before or after.
    loop {
        match node.link.next() {
            Got::Message(FromAgent::ChannelClosed { channel: 1 }) => break,
            Got::Data { bytes, .. } => assert!(bytes.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(node.link.message(), FromAgent::Idle);
}
