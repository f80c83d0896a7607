//! Broken connections, restarted daemons, dead agents, and what is on disk then.

use std::io::Write;
use std::time::Duration;

use hostler_model::exit::{Cause, ExitStatus};
use hostler_model::ids::StoreId;
use hostler_model::rundir::Outcome;
use hostler_wire::{AgentState, AttachTarget, FromAgent, PROTOCOL_MAX, PROTOCOL_MIN, StreamOffsets, ToAgent};

use crate::client::{Got, Link, Node, is_alive, wait_for};

fn hang_up(node: &Node) {
    node.link.socket.shutdown(std::net::Shutdown::Both).unwrap();
}

#[test]
fn an_end_without_a_daemon_is_on_disk_and_the_agent_leaves() {
    let mut node = Node::new();
    let launch = node.launch(&["sh", "-c", "sleep 0.3; echo done; exit 6"]);
    node.start(&launch);
    hang_up(&node);
    node.gone();
    match node.exit_file(launch.run).outcome {
        Outcome::Exited { exit } => assert_eq!((exit.status, exit.cause), (ExitStatus::Code(6), Cause::Error)),
        other => panic!("{other:?}"),
    }
    assert_eq!(node.run_file(launch.run).run, launch.run);
    assert_eq!(node.log_lines(), ["stdout F done"]);
}

#[test]
fn a_lost_connection_after_the_end_leaves_the_record() {
    let mut node = Node::new();
    let (run, _) = node.shell("exit 2");
    let exit = node.exited();
    hang_up(&node);
    node.gone();
    assert_eq!(node.exit_file(run).outcome, Outcome::Exited { exit });
}

#[test]
fn a_restarted_daemon_finds_the_truth() {
    let mut node = Node::new();
    assert_eq!(node.reconnect().state, AgentState::Idle);
    let launch = node.launch(&["sh", "-c", "echo one; read x; echo two; exit 3"]);
    let mut launch = launch;
    launch.stdio.interactive = true;
    let run = launch.run;
    node.link.send(&ToAgent::Prepare { launch: Box::new(launch) });
    assert_eq!(node.link.message(), FromAgent::Prepared { run });
    hang_up(&node);
    assert_eq!(node.reconnect().state, AgentState::Prepared { run });
    node.link.send(&ToAgent::Execute { run });
    let FromAgent::Started { started_at_ms, pid, .. } = node.link.message() else { panic!("not started") };
    assert_eq!(node.reconnect().state, AgentState::Running { run, pid, started_at_ms, oom_kills: 0, paused: false });
    wait_for("output", || (node.log_lines().len() == 1).then_some(()));
    node.link.attach(1, AttachTarget::Main, true, true);
    node.link.stdin(1, true, b"\n");
    let exit = node.exited();
    assert_eq!(exit.status, ExitStatus::Code(3));
    let ended = AgentState::Ended { run, exit };
    // The old connection is replaced, not refused.
    let mut old = std::mem::replace(&mut node.link, Link::new(std::os::unix::net::UnixStream::pair().unwrap().0));
    assert_eq!(node.reconnect().state, ended);
    assert!(old.closed());
    node.link.attach_from(2, StreamOffsets { stdout: 4, stderr: 0 }, true);
    assert_eq!(node.link.read_channel(2).0, b"two\n");
    node.commit(run);
    assert_eq!(node.reconnect().state, AgentState::Idle);

    let launch = node.launch(&["/no/such/program"]);
    let failure = node.refused(&launch);
    assert_eq!(node.reconnect().state, AgentState::Failed { run: launch.run, failure });
    node.commit(launch.run);
}

#[test]
fn an_owner_may_come_back() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' y"]);
    launch.stdio.owner = true;
    node.start(&launch);
    node.link.send(&ToAgent::Attach { channel: 1, target: AttachTarget::Main, owner: true, stdin: false, from: None });
    node.link.credit(1, 100_000);
    let mut received = 0;
    while received < 100_000 {
        if let Got::Data { bytes, .. } = node.link.next() {
            received += bytes.len();
        }
    }
    hang_up(&node);
    node.reconnect();
    node.link.attach_from(7, StreamOffsets { stdout: 100_000, stderr: 0 }, true);
    let (stdout, _, missing) = node.link.read_channel(7);
    assert_eq!((stdout.len(), missing), (200_000, 0));
    assert!(stdout.iter().all(|byte| *byte == b'y'));
    node.exited();
    node.commit(launch.run);
}

#[test]
fn strangers_and_noise_end_the_connection_only() {
    let mut node = Node::new();
    let (_, pid) = node.shell("sleep 60");
    let path = node.path("sandbox/agent.sock");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let hello = |store, low, high| ToAgent::Hello { store, protocol_min: low, protocol_max: high };
    let own: StoreId = crate::client::store();
    for message in [
        hello(StoreId::from_bytes([1; 8]), PROTOCOL_MIN, PROTOCOL_MAX),
        hello(own, PROTOCOL_MAX + 1, PROTOCOL_MAX + 9),
        ToAgent::Quit,
    ] {
        let mut link = Link::new(hostler_linux::net::connect(&path).unwrap());
        link.send(&message);
        assert!(link.closed(), "{message:?}");
    }
    for noise in [
        &b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"[..],
        &[0xff; 64],
        &[4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
    ] {
        let mut link = Link::new(hostler_linux::net::connect(&path).unwrap());
        link.socket.write_all(noise).unwrap();
        assert!(link.closed());
    }
    assert!(matches!(node.reconnect().state, AgentState::Running { pid: found, .. } if found == pid));
}

#[test]
fn a_dead_agent_takes_its_programs_along() {
    let mut node = Node::new();
    let launch = node.launch(&["sleep", "60"]);
    let pid = node.start(&launch);
    node.agent.kill().unwrap();
    node.agent.wait().unwrap();
    wait_for("the program to die", || (!is_alive(pid)).then_some(()));
    // Prepared ones too.
    let mut node = Node::new();
    let launch = node.launch_forked(&["sleep", "60"]);
    node.link.send(&ToAgent::Prepare { launch: Box::new(launch) });
    let FromAgent::Prepared { .. } = node.link.message() else { panic!("not prepared") };
    let [pid] = node.children()[..] else { panic!("one child, not {:?}", node.children()) };
    node.agent.kill().unwrap();
    node.agent.wait().unwrap();
    wait_for("the prepared process to die", || (!is_alive(pid)).then_some(()));
}

#[test]
fn stray_signals_do_not_end_a_run() {
    use hostler_model::units::Signal;
    let mut node = Node::new();
    let (run, _) = node.shell("sleep 0.3; exit 1");
    for number in [15, 1, 2, 3, 10, 12, 13, 14] {
        hostler_linux::process::signal(node.agent.id(), Signal::from_number(number).unwrap()).unwrap();
    }
    assert_eq!(node.exited().status, ExitStatus::Code(1));
    node.commit(run);
    hostler_linux::process::signal(node.agent.id(), Signal::TERM).unwrap();
    node.gone();
}

#[test]
fn an_idle_agent_sleeps() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sleep", "60"]);
    launch.max_time_ms = Some(3_600_000);
    node.start(&launch);
    let switches = || hostler_linux::procfs::context_switches(node.agent.id()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let before = switches();
    std::thread::sleep(Duration::from_millis(1_000));
    assert_eq!(switches(), before);
}
