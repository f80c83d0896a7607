//! Second programs inside a run.

use hostler_model::exit::{Cause, ExitStatus};
use hostler_model::ids::ExecId;
use hostler_model::launch::ExecLaunch;
use hostler_model::spec::TtySize;
use hostler_model::units::Signal;
use hostler_model::workload::StartFailureKind;
use hostler_wire::{AttachTarget, FromAgent, SignalScope, ToAgent};

use crate::client::{Node, ended, is_alive, program, wait_for};

fn exec(number: u8) -> ExecId {
    ExecId::from_bytes([number; 4])
}

fn launch(command: &[&str]) -> Box<ExecLaunch> {
    Box::new(ExecLaunch { program: program(command), interactive: false, tty: None })
}

fn started(node: &mut Node, id: ExecId) -> u32 {
    match node.link.message() {
        FromAgent::ExecStarted { exec, pid } if exec == id => pid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn execs_have_streams_and_ends_of_their_own() {
    let mut node = Node::new();
    let (run, _) = node.shell("echo main; read x");
    let (run, _) = {
        // Without stdin `read` ends at once; a second run stays.
        node.exited();
        node.commit(run);
        node.shell("echo main; sleep 60")
    };
    wait_for("both lines", || (node.log_lines().len() == 2).then_some(()));
    let target = AttachTarget::Exec(exec(1));
    node.link.send(&ToAgent::Exec { exec: exec(1), launch: launch(&["sh", "-c", "echo out; echo err >&2; exit 7"]) });
    started(&mut node, exec(1));
    match node.link.message() {
        FromAgent::ExecExited { exec: id, exit } => {
            assert_eq!((id, ended(&exit)), (exec(1), (ExitStatus::Code(7), Cause::Error)));
        }
        other => panic!("{other:?}"),
    }
    // His owner comes after the end, and gets it all.
    node.link.attach(1, target, true, false);
    let (stdout, stderr, missing) = node.link.read_channel(1);
    assert_eq!((stdout.as_slice(), stderr.as_slice(), missing), (&b"out\n"[..], &b"err\n"[..], 0));
    assert_eq!(node.log_lines(), ["stdout F main"; 2], "execs are not logged");

    // With stdin and a terminal.
    let mut with_input = launch(&["sh", "-c", "stty size; read a; echo got $a; read b || echo end"]);
    (with_input.interactive, with_input.tty) = (true, Some(TtySize { columns: 70, rows: 20 }));
    node.link.send(&ToAgent::Exec { exec: exec(2), launch: with_input });
    node.link.attach(2, AttachTarget::Exec(exec(2)), true, true);
    node.link.stdin(2, true, b"word\n");
    started(&mut node, exec(2));
    let text = String::from_utf8(node.link.read_channel(2).0).unwrap();
    for part in ["20 70\r\n", "got word\r\n", "end\r\n"] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    assert!(matches!(node.link.message(), FromAgent::ExecExited { .. }));

    // Failures, signals, and those that do not exist.
    node.link.send(&ToAgent::Exec { exec: exec(3), launch: launch(&["no-such-program"]) });
    match node.link.message() {
        FromAgent::ExecFailed(failed) => assert_eq!(failed.failure.kind, StartFailureKind::CommandNotFound),
        other => panic!("{other:?}"),
    }
    node.link.attach(3, AttachTarget::Exec(exec(9)), true, false);
    assert_eq!(node.link.message(), FromAgent::ChannelClosed { channel: 3 });
    node.link.send(&ToAgent::Exec { exec: exec(4), launch: launch(&["sleep", "60"]) });
    started(&mut node, exec(4));
    node.link.send(&ToAgent::Signal { signal: Signal::INT, scope: SignalScope::Exec(exec(4)) });
    match node.link.message() {
        FromAgent::ExecExited { exit, .. } => {
            assert_eq!(ended(&exit), (ExitStatus::Signal(Signal::INT), Cause::Killed));
        }
        other => panic!("{other:?}"),
    }
    node.link.send(&ToAgent::Kill { run });
    node.exited();
    node.link.send(&ToAgent::Exec { exec: exec(5), launch: launch(&["true"]) });
    assert!(matches!(node.link.message(), FromAgent::ExecFailed(_)));
}

#[test]
fn execs_end_with_the_run_and_are_reported_before_it() {
    let mut node = Node::new();
    let (run, main) = node.shell("sleep 60");
    let mut pids = Vec::new();
    for number in 1..=3 {
        node.link.send(&ToAgent::Exec { exec: exec(number), launch: launch(&["sh", "-c", "echo x; sleep 60 & wait"]) });
        pids.push(started(&mut node, exec(number)));
    }
    let hello = node.reconnect();
    let mut known = hello.execs.clone();
    known.sort();
    assert_eq!(known, (1..=3).map(|number| (exec(number), pids[usize::from(number) - 1])).collect::<Vec<_>>());
    hostler_linux::process::signal(main, Signal::KILL).unwrap();
    let mut reported = 0;
    loop {
        match node.link.message() {
            FromAgent::ExecExited { exit, .. } => {
                assert_eq!(exit.status, ExitStatus::Signal(Signal::KILL));
                reported += 1;
            }
            FromAgent::Exited { exit, .. } => break assert_eq!(exit.cause, Cause::Signal),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reported, 3);
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    // Their owners never came; what they printed waits for them a while, and nobody reads it.
    node.link.send(&ToAgent::Committed { run, reuse: true, assume_idle: false });
    for number in 1..=3 {
        let channel = u32::from(number);
        node.link.attach(channel, AttachTarget::Exec(exec(number)), true, false);
        assert_eq!(node.link.read_channel(channel).0, b"x\n");
    }
    assert_eq!(node.link.message(), FromAgent::Idle);
}
