//! Nodes side by side, one root for one daemon, and roots at any depth.

use hostler_tests::events::assert_history;
use hostler_tests::{Setup, TestNode, is_alive, leaks};

#[test]
fn two_nodes_do_not_touch_each_other() {
    let mut one = TestNode::new();
    let two = TestNode::new();
    assert_ne!(one.info().tag, two.info().tag);
    assert_ne!(one.info().store, two.info().store);
    for node in [&one, &two] {
        node.cli(&["run", "-d", "--name", "same", "--restart", "always", "--", "sleep", "600"]).ok();
        if hostler_tests::is_root() {
            node.cli(&["run", "-d", "--name", "limited", "--pids", "9", "--", "sleep", "600"]).ok();
        }
    }
    let pids: Vec<u32> = two.all().iter().filter_map(|view| view.workload.run.as_ref()?.pid).collect();
    let groups = leaks::run_groups(two.tag().expect("a tag"));
    let all_alive = || pids.iter().all(|pid| is_alive(*pid)) && groups.iter().all(|group| group.is_dir());
    one.cli(&["rm", "-f", "same"]).ok();
    one.kill_and_start();
    assert!(all_alive());
    one.kill_and_start();
    one.finish();
    assert!(all_alive(), "the end of one node disturbed the other");
    assert_eq!(two.cli(&["ps", "-q"]).ok().lines().count(), pids.len());
    two.finish();
}

#[test]
fn a_second_daemon_of_the_same_root_refuses() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "w", "--", "sleep", "600"]).ok();
    let before = node.daemon_log().len();
    let second = std::process::Command::new(hostler_tests::binary("hostlerd"))
        .arg("--root")
        .arg(node.root())
        .output()
        .expect("hostlerd");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use by another hostlerd"), "{said}");
    assert_eq!(node.daemon_log().len(), before);
    // The first is as it was: reachable, with its pid file.
    assert!(node.cli(&["up"]).ok().contains("already up"));
    let file = std::fs::read_to_string(node.root().join("hostlerd.pid")).expect("a pid file");
    assert_eq!(file.trim(), node.pid().to_string());
    assert_eq!(node.cli(&["exec", "w", "--", "echo", "here"]).ok(), "here");
    node.kill_and_start();
    node.finish();
}

#[test]
fn a_root_deeper_than_a_socket_address() {
    let mut node = Setup::new().deeper_by(300).start();
    assert!(node.socket().as_os_str().len() > 250);
    assert_eq!(node.cli(&["run", "--", "echo", "deep"]).ok(), "deep");
    node.cli(&["run", "-d", "--name", "w", "--restart", "always", "--", "sleep", "600"]).ok();
    let pid = node.main_pid("w");
    node.kill_and_start();
    assert_eq!(node.main_pid("w"), pid);
    assert_eq!(node.cli(&["exec", "w", "--", "echo", "inside"]).ok(), "inside");
    node.down();
    let up = node.cli(&["up"]).ok();
    assert!(up.contains("1 workload runs"), "{up}");
    assert_history(&{
        node.cli(&["stop", "w"]).ok();
        node.journal()
    });
    node.finish();
}

#[test]
fn a_root_that_cannot_be_used_is_refused() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("file");
    std::fs::write(&file, "").expect("write");
    for root in [file.clone(), file.join("below")] {
        let output = std::process::Command::new(hostler_tests::binary("hostlerd")).arg("--root").arg(&root).output();
        let output = output.expect("hostlerd");
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("file"), "{output:?}");
    }
}

#[test]
fn warm_agents_are_kept_and_used_again_within_a_namespace() {
    let node = Setup::new().config("[pool.process]\nidle = 2\n").start();
    hostler_tests::until("two idle agents", hostler_tests::PATIENCE, || (node.info().idle_agents == 2).then_some(()));
    let agent_of = |namespace: &str| {
        let line = ["--namespace", namespace, "run", "--rm", "--", "sh", "-c", "echo $PPID"];
        node.cli(&line).ok().parse::<u32>().expect("a pid")
    };
    let own: std::collections::HashSet<u32> = (0..12).map(|_| agent_of("default")).collect();
    assert!(own.len() < 12, "no agent was used twice: {own:?}");
    let other: std::collections::HashSet<u32> = (0..4).map(|_| agent_of("other")).collect();
    assert!(own.is_disjoint(&other), "an agent ran for two namespaces: {own:?} {other:?}");
    node.finish();
}

#[test]
fn agents_are_used_once_where_that_is_asked() {
    let node = Setup::new().config("[pool.process]\nidle = 0\nreuse = false\n").start();
    let agents: Vec<u32> = (0..6)
        .map(|_| node.cli(&["run", "--rm", "--", "sh", "-c", "echo $PPID"]).ok().parse().expect("a pid"))
        .collect();
    let distinct: std::collections::HashSet<_> = agents.iter().collect();
    assert_eq!(distinct.len(), agents.len(), "{agents:?}");
    assert_eq!(node.info().idle_agents, 0);
    node.finish();
}
