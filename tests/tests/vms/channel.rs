//! Much data on the one line between both agents: nothing is lost, nobody starves, and who is slow is waited for.

use std::time::{Duration, Instant};

use hostler_tests::{Host, PATIENCE, until};

const MUCH: usize = 64 * 1024 * 1024;

/// Bytes that repeat nowhere near.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend(state.to_le_bytes());
    }
    all.truncate(count);
    all
}

#[test]
fn alone_much_both_ways_and_others_are_heard() {
    let Some(host) = Host::start() else { return };
    let sent = bytes(MUCH);
    let (done, slowest) = std::thread::scope(|scope| {
        let run = ["run", "-i", "--vm", "--name", "cat", "--memory", "128M", "--", "cat"];
        let command = host.command(&run).stdin(sent.clone()).deadline(Duration::from_secs(120));
        let copying = scope.spawn(move || command.run());
        host.wait_kind("cat", "run.started");
        let mut slowest = Duration::ZERO;
        let mut asked = 0;
        while !copying.is_finished() {
            let began = Instant::now();
            let answer = host.exec("cat", "echo here");
            if answer.code == 0 {
                assert_eq!(answer.out(), "here\n");
                slowest = slowest.max(began.elapsed());
                asked += 1;
            }
        }
        assert!(asked > 0, "nobody was asked meanwhile");
        (copying.join().expect("the copy"), slowest)
    });
    let done = done.code(0);
    assert!(done.stdout == sent, "{} bytes came back, and not the same", done.stdout.len());
    assert!(slowest < Duration::from_secs(8), "a second program took {slowest:?}");
    eprintln!("the slowest exec took {slowest:?}");
    host.finish();
}

#[test]
fn a_slow_owner_is_waited_for() {
    let Some(host) = Host::start() else { return };
    let mut slow = host.command(&["run", "--vm", "--name", "flood", "--", "seq", "1", "300000"]).spawn();
    assert_eq!(slow.next_line(), "1");
    // It is not read for a while; the guest is alive and answers.
    assert_eq!(host.exec("flood", "echo here").out(), "here\n");
    for number in 2..=300_000 {
        assert_eq!(slow.next_line(), number.to_string());
    }
    assert_eq!(slow.end().code, 0);
    // Nobody reads, and the log keeps the last of it.
    host.detach("log", &[], "seq 1 20000; echo over; exec sleep 600");
    until("the end of it", PATIENCE, || host.log_of("log").ends_with("20000\nover").then_some(()));
    host.finish();
}
