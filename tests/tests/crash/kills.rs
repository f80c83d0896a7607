//! Agent, main process or both are killed; things end while no daemon is there.

use hostler_model::event::EventKind;
use hostler_model::ids::ExecId;
use hostler_model::workload::{LostReason, RunState};
use hostler_model::{Cause, ExitStatus};
use hostler_tests::cli::Running;
use hostler_tests::events::{assert_history, is_of};
use hostler_tests::{PATIENCE, TestNode, is_alive, signal, until, until_gone};

fn wall_ms() -> u64 {
    hostler_linux::clock::wall_ms()
}

/// Starts a service with children, and gives its processes: main, and a child that would outlive it.
fn family(node: &TestNode, name: &str, restart: &str) -> (u32, u32) {
    let script = "setsid sleep 600 & echo $! >child.$HOSTLER_NAME; exec sleep 601";
    node.cli(&["run", "-d", "--name", name, "--restart", restart, "--", "sh", "-c", script]).ok();
    let main = node.main_pid(name);
    let file = node.work().join(format!("child.{name}"));
    let child = until("the child's number", PATIENCE, || std::fs::read_to_string(&file).ok()?.trim().parse().ok());
    (main, child)
}

#[test]
fn an_end_while_the_daemon_is_dead_is_kept_whole() {
    let mut node = TestNode::new();
    let script = "echo before; until [ -e go ]; do sleep 0.01; done; seq 1 2000; echo after >&2; exit 7";
    node.cli(&["run", "-d", "--name", "job", "--", "sh", "-c", script]).ok();
    let run = node.run_file("job").run;
    node.kill();
    let began = wall_ms();
    std::fs::write(node.work().join("go"), "").expect("write");
    until("the exit record", PATIENCE, || node.exit_file(run));
    let over = wall_ms();
    node.start();
    let RunState::Ended { exit } = node.state_of("job") else { panic!("{:?}", node.state_of("job")) };
    assert_eq!((exit.status, exit.cause), (ExitStatus::Code(7), Cause::Error));
    assert!((began..=over).contains(&exit.ended_at_ms), "{began} {} {over}", exit.ended_at_ms);
    let logs = node.cli(&["logs", "job"]).code(0);
    let expected: String = std::iter::once("before\n".to_owned()).chain((1..=2000).map(|n| format!("{n}\n"))).collect();
    assert!(logs.out() == expected && logs.err() == "after\n", "{} bytes of log", logs.stdout.len());
    let started = node.wait_event("the second start of the node", |event| {
        matches!(event.event.kind, EventKind::NodeStarted { ended_meanwhile: 1, .. })
    });
    assert!(matches!(started.event.kind, EventKind::NodeStarted { adopted: 0, lost: 0, .. }));
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn what_runs_is_not_disturbed_by_a_dead_daemon() {
    let mut node = TestNode::new();
    let (main, child) = family(&node, "svc", "always");
    for _ in 0..3 {
        node.kill_and_start();
        assert_eq!(node.main_pid("svc"), main);
        assert!(is_alive(child));
    }
    node.down();
    assert!(is_alive(main) && is_alive(child));
    node.start();
    assert_eq!((node.main_pid("svc"), node.inspect("svc").workload.runs), (main, 1));
    // It is not only known, it can be worked with.
    assert_eq!(node.cli(&["exec", "svc", "--", "echo", "here"]).ok(), "here");
    node.cli(&["stop", "svc"]).ok();
    until_gone(main);
    until_gone(child);
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_killed_agent_takes_its_run_along() {
    let node = TestNode::new();
    let (main, child) = family(&node, "job", "never");
    signal(node.run_file("job").agent.pid, 9);
    let lost = node.wait_kind("job", "run.lost");
    assert!(matches!(lost.event.kind, EventKind::RunLost { reason: LostReason::Agent }));
    until_gone(main);
    until_gone(child);
    assert_eq!(node.cli(&["wait", "job"]).code(125).out().trim(), "125");
    assert_eq!(node.inspect("job").phase.as_str(), "lost");
    // A service comes back.
    let (main, child) = family(&node, "svc", "always");
    signal(node.run_file("svc").agent.pid, 9);
    node.wait_event("the next start", |event| {
        is_of(event, "svc")
            && matches!(event.event.kind, EventKind::RunStarted { .. })
            && event.event.subject.as_ref().is_some_and(|subject| subject.runs == 2)
    });
    until_gone(main);
    until_gone(child);
    node.cli(&["stop", "svc"]).ok();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn daemon_and_agent_killed() {
    let mut node = TestNode::new();
    let (main, child) = family(&node, "job", "never");
    let (service, _) = family(&node, "svc", "always");
    let agents = [node.run_file("job").agent.pid, node.run_file("svc").agent.pid];
    node.kill();
    for agent in agents {
        signal(agent, 9);
        until_gone(agent);
    }
    // The kernel ends the main process with its agent; the rest is found by the next daemon.
    until_gone(main);
    until_gone(service);
    node.start();
    until_gone(child);
    assert!(matches!(node.state_of("job"), RunState::Lost { reason: LostReason::Agent }));
    node.wait_event("the service's next start", |event| {
        is_of(event, "svc")
            && event.event.kind.name() == "run.started"
            && event.event.subject.as_ref().is_some_and(|subject| subject.runs == 2)
    });
    assert_ne!(node.main_pid("svc"), service);
    node.cli(&["stop", "svc"]).ok();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn the_main_process_killed_with_and_without_a_daemon() {
    let mut node = TestNode::new();
    let (main, child) = family(&node, "one", "never");
    signal(main, 9);
    assert_eq!(node.cli(&["wait", "one"]).code(137).out().trim(), "137");
    let RunState::Ended { exit } = node.state_of("one") else { panic!("{:?}", node.state_of("one")) };
    assert_eq!(exit.cause, Cause::Signal, "nobody asked us for it");
    until_gone(child);
    let (main, child) = family(&node, "two", "never");
    node.kill();
    signal(main, 15);
    until_gone(main);
    until_gone(child);
    node.start();
    let RunState::Ended { exit } = node.state_of("two") else { panic!("{:?}", node.state_of("two")) };
    assert!(matches!(exit.status, ExitStatus::Signal(signal) if signal.number() == 15));
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_stop_under_way_outlives_the_daemon() {
    let mut node = TestNode::new();
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
    node.cli(&["run", "-d", "--name", "deaf", "--stop-timeout", "1s", "--", "sh", "-c", deaf]).ok();
    let mut logs = node.command(&["logs", "-f", "deaf"]).spawn();
    logs.line_with("ready");
    drop(logs);
    let stop = node.command(&["stop", "deaf"]).spawn();
    node.wait_kind("deaf", "workload.stopping");
    node.kill_and_start();
    let RunState::Ended { exit } = node.ended("deaf").workload.run.as_ref().expect("a run").state.clone() else {
        panic!("{:?}", node.state_of("deaf"))
    };
    assert_eq!(exit.cause, Cause::Killed);
    stop.end().code(0);
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_deadline_holds_without_a_daemon() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "slow", "--max-time", "400ms", "--", "sleep", "600"]).ok();
    let pid = node.main_pid("slow");
    node.kill();
    until_gone(pid);
    node.start();
    let RunState::Ended { exit } = node.state_of("slow") else { panic!("{:?}", node.state_of("slow")) };
    assert_eq!(exit.cause, Cause::Timeout);
    assert!((350..2_000).contains(&exit.duration_ms), "{}", exit.duration_ms);
    node.finish();
}

#[test]
fn restarts_and_removals_under_way_outlive_the_daemon() {
    let mut node = TestNode::new();
    let slow = "trap 'until [ -e go ]; do sleep 0.02; done; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    for name in ["again", "away"] {
        node.cli(&["run", "-d", "--name", name, "--stop-timeout", "20s", "--", "sh", "-c", slow]).ok();
        let mut logs = node.command(&["logs", "-f", name]).spawn();
        logs.line_with("ready");
    }
    let restart = node.command(&["restart", "again"]).spawn();
    node.wait_kind("again", "workload.stopping");
    node.kill();
    std::fs::write(node.work().join("go"), "").expect("write");
    node.start();
    node.wait_event("the second start", |event| {
        is_of(event, "again")
            && event.event.kind.name() == "run.started"
            && event.event.subject.as_ref().is_some_and(|subject| subject.runs == 2)
    });
    // Whoever asked may have been told that the connection broke: this is no question to be asked twice.
    drop(restart);
    // `rm -f` kills at once; what is left of the request is the removal.
    let remove = node.command(&["rm", "-f", "away"]).spawn();
    node.wait_kind("away", "workload.stopping");
    node.kill_and_start();
    node.wait_kind("away", "workload.removed");
    drop(remove);
    node.cli(&["rm", "-f", "again"]).ok();
    node.wait_kind("again", "workload.removed");
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_back_off_under_way_outlives_the_daemon() {
    let mut node = TestNode::new();
    let mut spec = node.script("echo x >>runs; exit 3");
    spec.name = Some("flaky".parse().expect("a name"));
    spec.restart = hostler_model::spec::Restart {
        when: hostler_model::spec::RestartWhen::OnFailure,
        max_attempts: Some(1),
        backoff_initial_ms: 1_200,
        backoff_max_ms: 1_200,
        ..hostler_model::spec::Restart::default()
    }
    .into();
    node.create(&spec);
    node.wait_kind("flaky", "workload.restarting");
    node.kill_and_start();
    assert_eq!(node.inspect("flaky").phase.as_str(), "pending");
    let view = node.ended("flaky");
    assert_eq!((view.workload.runs, view.exit_code), (2, Some(3)));
    assert_eq!(std::fs::read_to_string(node.work().join("runs")).expect("a file").lines().count(), 2);
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_foreground_client_and_the_daemon_killed_together() {
    let mut node = TestNode::new();
    let script = "echo ready; exec sleep 600";
    let mut gone = node.command(&["run", "--rm", "--name", "both", "--", "sh", "-c", script]).spawn();
    gone.line_with("ready");
    let pid = node.main_pid("both");
    node.kill();
    gone.signal(9);
    drop(gone);
    node.start();
    // Its owner may come back within ten seconds; then it is nobody's.
    node.wait_kind("both", "workload.removed");
    until_gone(pid);
    node.finish();
}

/// Starts an exec that waits for the file `name` and then ends with `code`; its id and process, and
/// who asked for it.
fn exec_until(node: &TestNode, workload: &str, name: &str, code: u8) -> (ExecId, u32, Running) {
    let script = format!("until [ -e {name} ]; do sleep 0.01; done; exit {code}");
    let before = node.journal().len();
    let client = node.command(&["exec", workload, "--", "sh", "-c", &script]).spawn();
    let (exec, pid) = until("the exec to start", PATIENCE, || {
        node.journal().into_iter().skip(before).find_map(|event| match event.event.kind {
            EventKind::ExecStarted { exec, pid } => Some((exec, pid)),
            _ => None,
        })
    });
    (exec, pid, client)
}

fn exec_ends(node: &TestNode, exec: ExecId) -> Vec<ExitStatus> {
    let ends = node.journal().into_iter().filter_map(|event| match event.event.kind {
        EventKind::ExecExited { exec: ended, exit } if ended == exec => Some(exit.status),
        _ => None,
    });
    ends.collect()
}

#[test]
fn execs_outlive_the_daemon_and_their_ends_are_kept() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "w", "--", "sleep", "600"]).ok();
    let (alive, _, first_client) = exec_until(&node, "w", "never", 0);
    let (ends, pid, second_client) = exec_until(&node, "w", "go", 5);
    node.kill();
    std::fs::write(node.work().join("go"), "").expect("write");
    until_gone(pid);
    node.start();
    until("the end of the exec", PATIENCE, || (exec_ends(&node, ends) == [ExitStatus::Code(5)]).then_some(()));
    // Told once, however often the daemon comes back.
    node.kill_and_start();
    node.kill_and_start();
    assert_eq!(exec_ends(&node, ends), [ExitStatus::Code(5)]);
    // The other one is known as it was before.
    node.cli(&["kill", "-s", "TERM", "--exec", &alive.to_string(), "w"]).ok();
    until("the other's end", PATIENCE, || (exec_ends(&node, alive).len() == 1).then_some(()));
    node.cli(&["kill", "--exec", &alive.to_string(), "w"]).refused(1, "no running exec");
    node.cli(&["stop", "--timeout", "0s", "w"]).ok();
    assert_history(&node.journal());
    drop((first_client, second_client));
    node.finish();
}

#[test]
fn the_end_of_a_run_without_a_daemon_brings_those_of_its_execs() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "w", "--", "sh", "-c", "until [ -e over ]; do sleep 0.01; done"]).ok();
    let run = node.run_file("w").run;
    let (first, pid, first_client) = exec_until(&node, "w", "go", 5);
    let (second, _, second_client) = exec_until(&node, "w", "never", 0);
    node.kill();
    std::fs::write(node.work().join("go"), "").expect("write");
    until_gone(pid);
    std::fs::write(node.work().join("over"), "").expect("write");
    // The agent leaves when all is on disk: there is nobody left to ask.
    let file = until("the exit record", PATIENCE, || node.exit_file(run));
    assert_eq!(file.execs.len(), 2);
    node.start();
    assert_eq!(exec_ends(&node, first), [ExitStatus::Code(5)]);
    assert_eq!(exec_ends(&node, second).len(), 1, "killed with its run");
    assert!(matches!(node.state_of("w"), RunState::Ended { .. }));
    assert_history(&node.journal());
    drop((first_client, second_client));
    node.finish();
}
