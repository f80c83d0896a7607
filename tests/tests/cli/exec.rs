//! exec and attach.

use hostler_model::event::EventKind;
use hostler_tests::events::is_of;
use hostler_tests::{PATIENCE, TestNode, is_root, skip, until, until_gone};

#[test]
fn exec_is_a_second_program_in_the_same_place() {
    let node = TestNode::new();
    node.cli(&[
        "run",
        "-d",
        "--name",
        "w",
        "--env",
        "A=1",
        "--env",
        "B=2",
        "--rlimit",
        "nofile=50",
        "--",
        "sleep",
        "60",
    ])
    .ok();
    let cases: &[(&[&str], &[&str], i32, &str)] = &[
        (&[], &["true"], 0, ""),
        (&[], &["sh", "-c", "exit 9"], 9, ""),
        (&[], &["sh", "-c", "kill -9 $$"], 137, ""),
        (&[], &["no-such-program-anywhere"], 127, ""),
        (&["--env", "B=3"], &["sh", "-c", "echo $A$B$HOSTLER_NAME"], 0, "13w\n"),
        (&[], &["sh", "-c", "ulimit -n"], 0, "50\n"),
        (&["--rlimit", "nofile=44"], &["sh", "-c", "ulimit -n"], 0, "44\n"),
        (&["--workdir", "/usr"], &["pwd"], 0, "/usr\n"),
    ];
    for (options, command, code, stdout) in cases {
        let output = node.cli(&[&["exec"], *options, &["w"], *command].concat());
        assert_eq!((output.code, output.out().as_str()), (*code, *stdout), "{command:?}: {}", output.err());
    }
    let apart = node.cli(&["exec", "w", "--", "sh", "-c", "echo out; echo err >&2"]).code(0);
    assert_eq!((apart.out().as_str(), apart.err().as_str()), ("out\n", "err\n"));
    if is_root() {
        assert_eq!(node.cli(&["exec", "--user", "65534:65534", "w", "id", "-u"]).ok(), "65534");
    }
    node.cli(&["exec", "absent", "true"]).code(125);
    // What an exec leaves is not the run's end.
    assert_eq!(node.inspect("w").phase.as_str(), "running");
    node.finish();
}

#[test]
fn exec_passes_stdin_and_large_output() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "w", "--", "sleep", "60"]).ok();
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let output = node.command(&["exec", "-i", "w", "cat"]).stdin(data.clone()).run().code(0);
    assert!(output.stdout == data, "{} of {} bytes came back", output.stdout.len(), data.len());
    node.finish();
}

#[test]
fn an_exec_can_be_killed_alone() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "w", "--", "sleep", "60"]).ok();
    let mut exec = node.command(&["exec", "w", "--", "sh", "-c", "echo here; exec sleep 60"]).spawn();
    exec.line_with("here");
    let started = node.wait_kind("w", "exec.started");
    let EventKind::ExecStarted { exec: id, .. } = started.event.kind else { panic!("another event") };
    node.cli(&["kill", "-s", "TERM", "--exec", &id.to_string(), "w"]).ok();
    exec.end().code(143);
    let exited = node.wait_kind("w", "exec.exited");
    assert!(matches!(exited.event.kind, EventKind::ExecExited { exec, .. } if exec == id));
    node.cli(&["kill", "--exec", &id.to_string(), "w"]).refused(1, "no running exec");
    assert_eq!(node.inspect("w").phase.as_str(), "running");
    node.finish();
}

#[test]
fn an_exec_ends_with_its_run() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "w", "--", "sleep", "60"]).ok();
    let mut exec = node.command(&["exec", "w", "--", "sh", "-c", "echo $$; exec sleep 60"]).spawn();
    let pid: u32 = exec.next_line().parse().expect("a pid");
    node.cli(&["kill", "w"]).ok();
    exec.end().code(137);
    until_gone(pid);
    // Its end comes before the run's.
    let events = node.journal();
    let place = |name: &str| events.iter().position(|event| is_of(event, "w") && event.event.kind.name() == name);
    node.wait_kind("w", "run.exited");
    let events_after = node.journal();
    let end = events_after.iter().position(|event| is_of(event, "w") && event.event.kind.name() == "run.exited");
    assert!(
        place("exec.exited") < end,
        "{:?}",
        events_after.iter().map(hostler_tests::events::words).collect::<Vec<_>>()
    );
    node.cli(&["exec", "w", "true"]).refused(125, "not running");
    node.finish();
}

#[test]
fn the_client_of_an_exec_that_dies_takes_it_along() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "w", "--", "sleep", "60"]).ok();
    let mut exec = node.command(&["exec", "w", "--", "sh", "-c", "echo $$; exec sleep 60"]).spawn();
    let pid: u32 = exec.next_line().parse().expect("a pid");
    exec.signal(9);
    drop(exec);
    until_gone(pid);
    node.wait_kind("w", "exec.exited");
    assert_eq!(node.inspect("w").phase.as_str(), "running");
    node.finish();
}

#[test]
fn attach_shows_the_backlog_and_what_comes() {
    let node = TestNode::new();
    let script = "echo first; read line; echo got $line; exit 8";
    let mut run = node.command(&["run", "-i", "--name", "a", "--", "sh", "-c", script]).spawn();
    assert_eq!(run.next_line(), "first");
    let mut guest = node.command(&["attach", "--no-stdin", "a"]).spawn();
    assert_eq!(guest.next_line(), "first");
    let mut late = node.command(&["attach", "--no-stdin", "--no-backlog", "a"]).spawn();
    // Two guests beside the owner are connected when the node says so.
    until("two attached guests", PATIENCE, || {
        let metrics = node.block_on(node.api().metrics()).expect("metrics");
        metrics.contains("hostler_").then_some(())
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    run.write(b"hello\n");
    assert_eq!(run.next_line(), "got hello");
    assert_eq!(guest.next_line(), "got hello");
    assert_eq!(late.next_line(), "got hello");
    for client in [run, guest, late] {
        client.end().code(8);
    }
    node.cli(&["attach", "a"]).refused(125, "not running");
    node.cli(&["attach", "absent"]).refused(125, "absent");
    node.finish();
}

#[test]
fn attach_gives_a_detached_program_its_stdin() {
    let node = TestNode::new();
    let mut spec = node.script("echo ready; cat; echo end");
    spec.stdio.interactive = true;
    spec.name = Some("d".parse().expect("a name"));
    node.create_started(&spec);
    let mut guest = node.command(&["attach", "d"]).spawn();
    assert_eq!(guest.next_line(), "ready");
    guest.write(b"one\n");
    assert_eq!(guest.next_line(), "one");
    // Leaving does not end it.
    guest.signal(2);
    guest.end().code(0);
    assert_eq!(node.inspect("d").phase.as_str(), "running");
    let mut again = node.command(&["attach", "--no-backlog", "d"]).spawn();
    again.write(b"two\n");
    assert_eq!(again.next_line(), "two");
    again.close_stdin();
    assert_eq!(again.next_line(), "end");
    again.end().code(0);
    node.finish();
}

#[test]
fn attach_survives_a_dead_daemon() {
    let mut node = TestNode::new();
    if !is_root() {
        return skip("this test uses root's node");
    }
    let script = "echo one; read a; echo two; read a; echo three; exit 4";
    let mut run = node.command(&["run", "-i", "--name", "s", "--", "sh", "-c", script]).spawn();
    assert_eq!(run.next_line(), "one");
    run.write(b"\n");
    assert_eq!(run.next_line(), "two");
    node.kill_and_start();
    run.write(b"\n");
    assert_eq!(run.next_line(), "three");
    run.end().code(4);
    node.finish();
}
