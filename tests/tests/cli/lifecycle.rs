//! wait, stop, start, restart, kill, rm, update.

use hostler_model::event::EventKind;
use hostler_tests::events::assert_history;
use hostler_tests::{TestNode, is_root, skip};

#[test]
fn wait_gives_codes_and_takes_several() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "one", "--", "sh", "-c", "sleep 0.2; exit 5"]).ok();
    node.cli(&["run", "-d", "--name", "two", "--", "sh", "-c", "exit 6"]).ok();
    assert_eq!(node.cli(&["wait", "one", "two"]).code(6).out(), "5\n6\n");
    assert_eq!(node.cli(&["wait", "two", "one"]).code(5).out(), "6\n5\n");
    let json = node.cli(&["--json", "wait", "one"]).code(5);
    assert!(json.out().contains("\"exit_code\": 5"), "{}", json.out());
    node.cli(&["wait", "absent"]).refused(125, "absent");
    node.cli(&["run", "-d", "--name", "long", "--", "sleep", "60"]).ok();
    node.cli(&["wait", "--timeout", "100ms", "long"]).refused(124, "still running");
    node.finish();
}

#[test]
fn stop_start_restart() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "a", "--", "sleep", "60"]).ok();
    node.cli(&["run", "-d", "--name", "b", "--", "sleep", "60"]).ok();
    assert_eq!(node.cli(&["stop", "a", "b"]).ok(), "a\nb");
    assert_eq!(node.cli(&["ps", "-q"]).ok(), "");
    // Already stopped is what was asked for.
    node.cli(&["stop", "a"]).ok();
    node.cli(&["start", "a"]).ok();
    assert_eq!(node.inspect("a").phase.as_str(), "running");
    node.cli(&["start", "a"]).refused(1, "already running");
    let before = node.main_pid("a");
    node.cli(&["restart", "a"]).ok();
    assert_eq!(node.inspect("a").phase.as_str(), "running");
    assert_ne!(node.main_pid("a"), before);
    assert_eq!(node.inspect("a").workload.runs, 3);
    // `restart` starts what does not run, too; one bad name does not keep the others from being served.
    node.cli(&["restart", "absent", "b"]).refused(1, "absent");
    assert_eq!(node.inspect("b").phase.as_str(), "running");
    assert_history(&{
        node.cli(&["stop", "a", "b"]).ok();
        node.journal()
    });
    node.finish();
}

#[test]
fn kill_sends_the_signal_asked_for() {
    let node = TestNode::new();
    let script = "trap 'echo got usr1' USR1; echo ready; while :; do sleep 0.02; done";
    node.cli(&["run", "-d", "--name", "k", "--", "sh", "-c", script]).ok();
    let mut logs = node.command(&["logs", "-f", "k"]).spawn();
    logs.line_with("ready");
    node.cli(&["kill", "-s", "SIGUSR1", "k"]).ok();
    logs.line_with("got usr1");
    node.cli(&["kill", "-s", "10", "k"]).ok();
    logs.line_with("got usr1");
    node.cli(&["kill", "k"]).ok();
    assert_eq!(node.cli(&["wait", "k"]).code(137).out(), "137\n");
    node.cli(&["kill", "k"]).refused(1, "not running");
    node.cli(&["kill", "-s", "NOPE", "k"]).code(2);
    drop(logs);
    node.finish();
}

#[test]
fn rm_takes_what_is_at_rest_and_with_force_what_runs() {
    let node = TestNode::new();
    node.cli(&["run", "--name", "done", "--", "sh", "-c", "echo kept"]).ok();
    let id = node.inspect("done").workload.id.to_string();
    assert!(node.root().join("logs").join(&id).is_dir());
    node.cli(&["rm", "done"]).ok();
    node.cli(&["inspect", "done"]).refused(1, "done");
    hostler_tests::until("the removal of the log", hostler_tests::PATIENCE, || {
        (!node.root().join("logs").join(&id).exists()).then_some(())
    });
    node.cli(&["run", "-d", "--name", "live", "--", "sleep", "60"]).ok();
    node.cli(&["rm", "live"]).refused(1, "rm -f");
    let pid = node.main_pid("live");
    node.cli(&["rm", "-f", "live"]).ok();
    node.wait_kind("live", "workload.removed");
    hostler_tests::until_gone(pid);
    assert_eq!(node.cli(&["ps", "-aq"]).ok(), "");
    node.cli(&["rm", "absent"]).refused(1, "absent");
    node.finish();
}

#[test]
fn update_changes_the_limits_of_what_runs() {
    if !is_root() {
        return skip("limits need root here");
    }
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "u", "--memory", "64M", "--pids", "20", "--", "sleep", "60"]).ok();
    node.cli(&["update", "--memory", "96M", "--cpus", "0.5", "u"]).ok();
    let limits = node.inspect("u").workload.limits.clone();
    assert_eq!((limits.memory_bytes, limits.cpu_millis, limits.pids), (Some(96 << 20), Some(500), Some(20)));
    assert_eq!(node.inspect("u").workload.generation, 2);
    let event = node.wait_kind("u", "workload.updated");
    assert!(matches!(event.event.kind, EventKind::WorkloadUpdated { limits: told } if told == limits));
    node.cli(&["run", "-d", "--name", "free", "--", "sleep", "60"]).ok();
    node.cli(&["update", "--memory", "96M", "free"]).refused(1, "without limits");
    node.cli(&["update", "--memory", "1k", "u"]).refused(1, "memory");
    node.cli(&["update", "u"]).code(2);
    node.finish();
}

#[test]
fn ids_can_be_shortened_as_far_as_they_are_unique() {
    let node = TestNode::new();
    let ids: Vec<String> = (0..20).map(|_| node.cli(&["run", "-d", "--", "true"]).ok()).collect();
    for id in &ids {
        assert_eq!(node.cli(&["--json", "inspect", id]).json()[0]["id"], id.as_str());
        let short = &id[..8];
        if ids.iter().filter(|other| other.starts_with(short)).count() == 1 {
            assert_eq!(node.cli(&["--json", "inspect", short]).json()[0]["id"], id.as_str());
        }
    }
    // Twenty ids and sixteen digits: some two begin alike.
    let shared = ids.iter().find(|id| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1).expect("pigeons");
    let error = node.cli(&["inspect", &shared[..1]]).code(1).err();
    assert!(error.contains("hint: type more of the id"), "{error}");
    node.finish();
}
