//! What ends a program and what starts it again: max-time, restart policies, stop signals.

use hostler_model::event::EventKind;
use hostler_model::workload::RunState;
use hostler_model::{Cause, ExitStatus};
use hostler_tests::events::{assert_history, is_of};
use hostler_tests::{TestNode, signal};

fn cause(node: &TestNode, workload: &str) -> (ExitStatus, Cause) {
    match node.state_of(workload) {
        RunState::Ended { exit } => (exit.status, exit.cause),
        other => panic!("{workload} has not ended: {other:?}"),
    }
}

#[test]
fn a_run_that_takes_too_long_is_stopped() {
    let node = TestNode::new();
    let output = node.cli(&["run", "--name", "slow", "--max-time", "300ms", "--", "sleep", "60"]).code(143);
    assert!(output.err().contains("--max-time"), "{}", output.err());
    assert_eq!(cause(&node, "slow").1, Cause::Timeout);
    // One that ignores the signal is killed after its grace.
    let stubborn = "trap '' TERM; while :; do sleep 0.05; done";
    let line = ["run", "--name", "deaf", "--max-time", "200ms", "--stop-timeout", "200ms", "--", "sh", "-c", stubborn];
    node.cli(&line).code(137);
    assert_eq!(cause(&node, "deaf").1, Cause::Timeout);
    node.cli(&["run", "--name", "quick", "--max-time", "10s", "--", "true"]).code(0);
    assert_eq!(cause(&node, "quick").1, Cause::Success);
    node.finish();
}

#[test]
fn the_stop_signal_and_its_grace() {
    let node = TestNode::new();
    let polite = "trap 'exit 7' INT; echo ready; while :; do sleep 0.02; done";
    let line =
        ["run", "-d", "--name", "polite", "--stop-signal", "INT", "--stop-timeout", "15s", "--", "sh", "-c", polite];
    node.cli(&line).ok();
    let mut logs = node.command(&["logs", "-f", "polite"]).spawn();
    logs.line_with("ready");
    node.cli(&["stop", "polite"]).ok();
    assert_eq!(cause(&node, "polite"), (ExitStatus::Code(7), Cause::Error));
    logs.end().code(0);

    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
    node.cli(&["run", "-d", "--name", "deaf", "--stop-timeout", "300ms", "--", "sh", "-c", deaf]).ok();
    let mut logs = node.command(&["logs", "-f", "deaf"]).spawn();
    logs.line_with("ready");
    let began = std::time::Instant::now();
    node.cli(&["stop", "deaf"]).ok();
    assert!(began.elapsed().as_millis() >= 280, "killed before its grace was over");
    assert_eq!(cause(&node, "deaf").1, Cause::Killed);
    assert!(matches!(cause(&node, "deaf").0, ExitStatus::Signal(signal) if signal.number() == 9));
    logs.end().code(0);
    node.finish();
}

#[test]
fn on_failure_restarts_so_many_times_and_then_gives_up() {
    let node = TestNode::new();
    let script = "echo x >>runs; exit 3";
    node.cli(&["run", "-d", "--name", "flaky", "--restart", "on-failure:2", "--", "sh", "-c", script]).ok();
    assert_eq!(node.cli(&["wait", "flaky"]).code(3).out().trim(), "3");
    assert_eq!(std::fs::read_to_string(node.work().join("runs")).expect("a file").lines().count(), 3);
    let view = node.inspect("flaky");
    assert_eq!(view.workload.runs, 3);
    let events = node.journal();
    let delays: Vec<u64> = events
        .iter()
        .filter(|event| is_of(event, "flaky"))
        .filter_map(|event| match event.event.kind {
            EventKind::WorkloadRestarting { delay_ms, .. } => Some(delay_ms),
            _ => None,
        })
        .collect();
    // 100 ms, then 200 ms, a random half left off.
    assert!(matches!(delays[..], [50..=100, 100..=200]), "{delays:?}");
    assert_history(&events);
    // Success is no failure.
    node.cli(&["run", "-d", "--name", "good", "--restart", "on-failure", "--", "true"]).ok();
    assert_eq!(node.ended("good").workload.runs, 1);
    node.finish();
}

#[test]
fn a_killed_service_comes_back_and_a_stopped_one_does_not() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "service", "--restart", "always", "--", "sleep", "60"]).ok();
    let first = node.main_pid("service");
    signal(first, 9);
    node.wait_event("the second start", |event| {
        is_of(event, "service")
            && matches!(event.event.kind, EventKind::RunStarted { .. })
            && event.event.subject.as_ref().is_some_and(|subject| subject.runs == 2)
    });
    let second = node.main_pid("service");
    assert_ne!(first, second);
    // `kill` is no stop: the policy applies.
    node.cli(&["kill", "service"]).ok();
    node.wait_event("the third start", |event| {
        is_of(event, "service")
            && matches!(event.event.kind, EventKind::RunStarted { .. })
            && event.event.subject.as_ref().is_some_and(|subject| subject.runs == 3)
    });
    node.cli(&["stop", "service"]).ok();
    assert_eq!(node.inspect("service").workload.runs, 3);
    assert!(node.inspect("service").workload.is_at_rest());
    // It stays stopped over a restart of the daemon.
    let mut node = node;
    node.kill_and_start();
    assert!(node.inspect("service").workload.is_at_rest());
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_foreground_service_shows_every_run_until_it_is_stopped() {
    let node = TestNode::new();
    let script = "echo run $HOSTLER_RUN; exec sleep 60";
    let mut run = node.command(&["run", "--name", "front", "--restart", "always", "--", "sh", "-c", script]).spawn();
    assert!(run.line_with("run ").ends_with("-1"));
    signal(node.main_pid("front"), 9);
    assert!(run.line_with("run ").ends_with("-2"));
    run.signal(2);
    // Ctrl-C means stop here.
    assert_eq!(run.end().code, 130);
    assert!(node.ended("front").workload.is_at_rest());
    node.finish();
}
