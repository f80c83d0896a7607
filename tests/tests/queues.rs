//! Queues: order, caps, pauses, results; over a daemon that dies in between.

use hostler_api::types::{QueueQuery, QueueView};
use hostler_model::Spec;
use hostler_model::event::EventKind;
use hostler_tests::{PATIENCE, Setup, TestNode, until};

fn queue(node: &TestNode, name: &str) -> QueueView {
    node.block_on(node.api().queue(name, &QueueQuery::default())).expect("a queue")
}

/// A job of this queue that writes its name to a file of the node, which tells the order.
fn noting(node: &TestNode, queue: &str, name: &str, priority: i32) -> Spec {
    let mut spec = node.script(&format!("echo {name} >> order"));
    spec.queue = Some(queue.parse().expect("a name"));
    spec.name = Some(name.parse().expect("a name"));
    spec.priority = priority;
    spec
}

/// A job of this queue that runs until its file is there.
fn gated(node: &TestNode, queue: &str, name: &str) -> Spec {
    let mut spec = node.script(&format!("while [ ! -e {name}.go ]; do sleep 0.02; done"));
    spec.queue = Some(queue.parse().expect("a name"));
    spec.name = Some(name.parse().expect("a name"));
    spec
}

fn open(node: &TestNode, name: &str) {
    std::fs::write(node.work().join(format!("{name}.go")), "").expect("write");
}

fn order(node: &TestNode) -> Vec<String> {
    let text = std::fs::read_to_string(node.work().join("order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn jobs_run_one_after_another_in_order_of_acceptance() {
    let node = TestNode::new();
    node.create(&gated(&node, "q", "gate"));
    for name in ["a", "b", "c"] {
        node.create(&noting(&node, "q", name, 0));
    }
    node.create(&noting(&node, "q", "late-but-urgent", 5));
    let waiting = node.inspect("b");
    let place = waiting.place.expect("it waits");
    assert_eq!((waiting.phase.as_str(), place.position, place.queue.as_str()), ("queued", 3, "q"));
    let view = queue(&node, "q");
    let names: Vec<_> = view.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!((view.waiting, view.running, names), (4, 1, vec!["late-but-urgent", "a", "b", "c"]));
    open(&node, "gate");
    node.ended("c");
    assert_eq!(order(&node), ["late-but-urgent", "a", "b", "c"]);
    // One at a time: none started before the one before it had its end.
    let mut running = 0;
    for event in node.journal() {
        match event.event.kind {
            EventKind::RunCreated => running += 1,
            EventKind::RunExited { .. } => running -= 1,
            _ => {}
        }
        assert!(running <= 1);
    }
    assert!(node.inspect("c").place.is_none());
    node.finish();
}

#[test]
fn as_many_at_a_time_as_the_queue_says_and_queues_do_not_wait_for_each_other() {
    let node = TestNode::new();
    node.cli(&["queue", "set", "wide", "--parallel", "2"]).ok();
    for name in ["a", "b", "c"] {
        node.create(&gated(&node, "wide", name));
    }
    node.create(&gated(&node, "other", "x"));
    for name in ["a", "b", "x"] {
        node.main_pid(name);
    }
    assert_eq!(node.inspect("c").phase.as_str(), "queued");
    // A place more: c starts without an end.
    node.cli(&["queue", "set", "wide", "--parallel", "3"]).ok();
    node.main_pid("c");
    for name in ["a", "b", "c", "x"] {
        open(&node, name);
        node.ended(name);
    }
    node.finish();
}

#[test]
fn a_queue_survives_the_daemon_and_goes_on() {
    let mut node = TestNode::new();
    node.cli(&["queue", "pause", "q"]).ok();
    for name in ["a", "b"] {
        node.create(&noting(&node, "q", name, 0));
    }
    node.kill_and_start();
    node.create(&noting(&node, "q", "c", 0));
    let view = queue(&node, "q");
    assert!(view.queue.paused && view.waiting == 3 && view.running == 0);
    node.cli(&["queue", "resume", "q"]).ok();
    node.ended("c");
    assert_eq!(order(&node), ["a", "b", "c"]);
    node.finish();
}

#[test]
fn the_next_job_starts_though_the_daemon_was_dead_at_the_end_of_the_last() {
    let mut node = TestNode::new();
    node.create(&gated(&node, "q", "gate"));
    node.create(&noting(&node, "q", "next", 0));
    let run = node.run_file("gate").run;
    node.kill();
    open(&node, "gate");
    until("the end's record", PATIENCE, || node.exit_file(run));
    assert_eq!(order(&node), Vec::<String>::new());
    node.start();
    assert_eq!(node.ended("next").exit_code, Some(0));
    assert_eq!(order(&node), ["next"]);
    node.finish();
}

#[test]
fn a_daemon_killed_between_acceptance_and_start_starts_it_once() {
    // The first commit after the start is the adoption's.
    for point in ["committed:2", "before-execute", "executed", "before-release"] {
        let mut node = TestNode::new();
        node.create(&gated(&node, "q", "gate"));
        node.main_pid("gate");
        node.create(&noting(&node, "q", "next", 0));
        node.down();
        node.start_with(&[("HOSTLER_TEST_FAILPOINT", point)]);
        open(&node, "gate");
        node.wait_daemon_end_or_kill();
        node.start();
        assert_eq!(node.ended("next").exit_code, Some(0), "{point}");
        assert_eq!(order(&node), ["next"], "{point}: once");
        node.finish();
    }
}

#[test]
fn who_waits_can_be_stopped_and_has_a_result() {
    let node = TestNode::new();
    node.create(&gated(&node, "q", "gate"));
    for name in ["a", "b", "c"] {
        node.create(&noting(&node, "q", name, 0));
    }
    let stopped = node.cli(&["--json", "stop", "a"]).json();
    assert_eq!(stopped[0]["phase"], "failed");
    assert_eq!(node.inspect("a").exit_code, Some(125));
    node.cli(&["wait", "a"]).code(125);
    node.cli(&["kill", "b"]).refused(1, "it is queued");
    node.cli(&["restart", "b"]).refused(1, "waits for its turn");
    node.cli(&["rm", "b"]).ok();
    open(&node, "gate");
    node.ended("c");
    // Put back, at the end.
    node.cli(&["start", "a"]).ok();
    node.ended("a");
    assert_eq!(order(&node), ["c", "a"]);
    node.finish();
}

#[test]
fn a_foreground_job_waits_for_its_turn_and_can_be_cancelled() {
    let node = TestNode::new();
    node.create(&gated(&node, "q", "gate"));
    node.main_pid("gate");
    let waiting = node.command(&["run", "--queue", "q", "--name", "front", "--", "echo", "my turn"]).spawn();
    let given_up = node.command(&["run", "--rm", "--queue", "q", "--name", "gone", "--", "echo", "never"]).spawn();
    for name in ["front", "gone"] {
        until("the wait", PATIENCE, || {
            node.all().iter().any(|view| view.workload.name.as_str() == name && view.place.is_none()).then_some(())
        });
    }
    node.cli(&["stop", "gone"]).ok();
    let output = given_up.end();
    assert_eq!((output.out().as_str(), output.code), ("", 125));
    open(&node, "gate");
    let output = waiting.end();
    assert_eq!((output.out().as_str(), output.code), ("my turn", 0));
    node.finish();
}

#[test]
fn a_draining_queue_takes_no_jobs_and_runs_what_waits() {
    let node = TestNode::new();
    node.create(&gated(&node, "q", "gate"));
    node.create(&noting(&node, "q", "a", 0));
    node.cli(&["queue", "drain", "q"]).ok();
    node.cli(&["run", "-d", "--queue", "q", "--", "true"]).refused(125, "is draining");
    let drained = node.command(&["queue", "drain", "--wait", "q"]).spawn();
    open(&node, "gate");
    assert_eq!(drained.end().code, 0);
    assert_eq!(order(&node), ["a"]);
    node.cli(&["queue", "resume", "q"]).ok();
    node.cli(&["run", "--queue", "q", "--", "true"]).ok();
    node.finish();
}

#[test]
fn queues_are_listed_and_removed_with_a_result_for_each_job() {
    let node = TestNode::new();
    assert_eq!(node.cli(&["--json", "queue", "ls"]).json(), serde_json::json!([]));
    node.cli(&["queue", "pause", "q"]).ok();
    node.create(&noting(&node, "q", "a", 0));
    node.create(&noting(&node, "q", "b", 0));
    let listed = node.cli(&["queue", "ls"]).ok();
    assert!(listed.contains("q") && listed.contains("paused"), "{listed}");
    let shown = node.cli(&["queue", "show", "q"]).ok();
    assert!(shown.contains("2 waiting") && shown.contains("echo b"), "{shown}");
    node.cli(&["queue", "rm", "q"]).refused(1, "2 jobs wait");
    node.cli(&["queue", "rm", "-f", "q"]).ok();
    for name in ["a", "b"] {
        let view = node.inspect(name);
        assert_eq!((view.phase.as_str(), view.exit_code), ("failed", Some(125)));
    }
    node.cli(&["queue", "show", "q"]).refused(1, "no queue q");
    for bad in [["queue", "set", "q", "--parallel", "0"], ["queue", "set", "q", "--parallel", "99999"]] {
        node.cli(&bad).refused(1, "parallel must be");
    }
    node.cli(&["run", "-d", "--queue", "a/b", "--", "true"]).refused(2, "queue name");
    assert_eq!(order(&node), Vec::<String>::new());
    node.finish();
}

/// The old manager's worst: at its cap of live jobs, named queues and its dispatcher waited for each other for ever.
#[test]
fn a_full_node_and_many_queues_do_not_stand_still() {
    let mut node = Setup::new().config("[node]\nlive_runs_max = 3\nqueue_jobs_max = 2\n").start();
    let mut names = Vec::new();
    for number in 0..24 {
        let name = format!("j{number}");
        node.create(&noting(&node, &format!("q{}", number % 6), &name, 0));
        names.push(name);
    }
    node.kill_and_start();
    for name in &names {
        assert_eq!(node.ended(name).exit_code, Some(0), "{name}");
    }
    assert_eq!(order(&node).len(), 24);
    // What asks for no queue is told at once when there is no room.
    let live: Vec<_> = (0..3).map(|_| node.create_started(&node.spec(&["sleep", "60"]))).collect();
    assert_eq!(node.post(r#"{"command":["true"]}"#).status, 429);
    node.create(&noting(&node, "q0", "waits", 0));
    assert_eq!(node.inspect("waits").phase.as_str(), "queued");
    node.cli(&["kill", live[0].workload.name.as_str()]).ok();
    assert_eq!(node.ended("waits").exit_code, Some(0));
    node.finish();
}

#[test]
fn a_retry_keeps_its_place() {
    let node = TestNode::new();
    let mut flaky = node.script("[ -e tried ] && echo second >> order || { touch tried; exit 1; }");
    flaky.queue = Some("q".parse().expect("a name"));
    flaky.name = Some("flaky".parse().expect("a name"));
    flaky.restart.when = hostler_model::spec::RestartWhen::OnFailure;
    flaky.restart.max_attempts = Some(2);
    node.create(&flaky);
    node.create(&noting(&node, "q", "after", 0));
    node.ended("after");
    assert_eq!(order(&node), ["second", "after"]);
    assert_eq!(node.inspect("flaky").workload.runs, 2);
    node.finish();
}

#[test]
fn what_is_protected_comes_back_and_is_left_out_of_bulk() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--protected", "--name", "safe", "--", "sleep", "60"]).ok();
    node.cli(&["run", "-d", "--name", "plain", "--", "sleep", "60"]).ok();
    let before = node.main_pid("safe");
    let report = node.cli(&["--json", "kill", "--all"]).json();
    assert_eq!(
        (report["done"].as_array().map(Vec::len), report["protected"].as_array().map(Vec::len)),
        (Some(1), Some(1))
    );
    node.ended("plain");
    assert_eq!(node.main_pid("safe"), before);
    // Killed by name it comes back; success does not end it either.
    node.cli(&["kill", "safe"]).ok();
    until("its return", PATIENCE, || (node.inspect("safe").workload.runs == 2).then_some(()));
    let report = node.cli(&["--json", "stop", "--all"]).json();
    assert_eq!(report["done"], serde_json::json!([]));
    node.cli(&["rm", "--all", "-f"]).ok();
    assert_eq!(node.all().len(), 1);
    node.cli(&["stop", "safe"]).ok();
    assert_eq!(node.inspect("safe").phase.as_str(), "ended");
    node.cli(&["rm", "--all"]).ok();
    node.cli(&["rm", "safe"]).ok();
    node.finish();
}

#[test]
fn stopping_all_lets_nothing_of_a_queue_slip_through() {
    let node = TestNode::new();
    node.create(&gated(&node, "q", "gate"));
    for number in 0..20 {
        node.create(&noting(&node, "q", &format!("j{number}"), 0));
    }
    node.cli(&["stop", "--all", "--filter", "queue=q"]).ok();
    assert_eq!(order(&node), Vec::<String>::new());
    assert_eq!(queue(&node, "q").waiting, 0);
    node.finish();
}

#[test]
fn a_job_for_each_line_in_order_and_each_refusal_by_itself() {
    let mut node = TestNode::new();
    node.cli(&["queue", "pause", "q"]).ok();
    let lines = node.work().join("lines");
    let text: String = (0..1_500).map(|number| format!("line {number}\n")).collect();
    std::fs::write(&lines, text + "\nlast without an end").expect("write");
    let workdir = node.work();
    let each = |arguments: &[&str]| {
        let mut all = vec!["run", "-d", "--queue", "q", "--workdir", workdir.to_str().expect("text"), "--each"];
        all.extend(arguments);
        node.cli(&all)
    };
    let made = each(&[lines.to_str().expect("text"), "--", "sh", "-c", "echo \"$0\" >> order", "{}"]).ok();
    assert_eq!(made.lines().count(), 1_501);
    let output = node
        .command(&["run", "-d", "--queue", "q", "--each", "-", "--", "no-such-program"])
        .stdin("a\nb\n")
        .run()
        .code(125);
    assert!(
        output.err().contains("no-such-program a") && output.err().contains("2 jobs were refused"),
        "{}",
        output.err()
    );
    node.cli(&["run", "--each", "x", "--", "true"]).refused(2, "--detach");
    node.cli(&["run", "-d", "--each", "/no/such", "--", "true"]).refused(2, "/no/such");
    node.cli(&["queue", "set", "q", "--parallel", "1"]).ok();
    node.kill_and_start();
    node.cli(&["queue", "resume", "q"]).ok();
    node.cli(&["queue", "drain", "--wait", "q"]).ok();
    let order = order(&node);
    let expected: Vec<_> = (0..1_500).map(|n| format!("line {n}")).chain(["last without an end".to_owned()]).collect();
    assert_eq!(order, expected);
    node.finish();
}
