//! Programs and arguments at the edges: what blocks, what is stopped, what is as long as can be, what is gone.

use std::os::unix::fs::PermissionsExt;

use hostler_model::limits::ARGUMENT_LENGTH_MAX;
use hostler_tests::{PATIENCE, TestNode, signal, until, until_gone};

#[test]
fn a_start_that_hangs_ends_with_its_deadline() {
    let node = TestNode::new();
    let made = std::process::Command::new("mkfifo").arg(node.work().join("fifo")).status().expect("mkfifo");
    assert!(made.success());
    // Nobody ever opens the other end.
    for option in ["--stdin", "--stdout"] {
        let name = option.trim_start_matches('-');
        let line = ["run", "-d", "--name", name, "--start-timeout", "500ms", option, "fifo", "--", "cat"];
        let failed = node.cli(&line).code(125);
        assert!(failed.err().contains("not started within"), "{}", failed.err());
        assert_eq!(node.inspect(name).phase.as_str(), "failed");
    }
    // The agents that hung there are gone, and the node goes on.
    assert_eq!(node.cli(&["run", "--", "echo", "fine"]).ok(), "fine");
    node.finish();
}

#[test]
fn a_suspended_program_can_be_stopped() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "still", "--stop-timeout", "300ms", "--", "sleep", "600"]).ok();
    let pid = node.main_pid("still");
    node.cli(&["kill", "-s", "STOP", "still"]).ok();
    until("its suspension", PATIENCE, || {
        hostler_linux::procfs::stats(pid).ok().filter(|stats| stats.state == 'T').map(|_| ())
    });
    node.cli(&["stop", "still"]).ok();
    until_gone(pid);
    assert_eq!(node.inspect("still").exit_code, Some(137));
    node.finish();
}

#[test]
fn orphans_are_reaped_while_the_run_goes_on() {
    let node = TestNode::new();
    let script = "for n in $(seq 50); do (sh -c 'exit 0' &); done; wait; echo made; exec sleep 600";
    node.cli(&["run", "-d", "--name", "parent", "--", "sh", "-c", script]).ok();
    let mut logs = node.command(&["logs", "-f", "parent"]).spawn();
    logs.line_with("made");
    drop(logs);
    let agent = node.run_file("parent").agent.pid;
    until("no zombies", PATIENCE, || {
        let children = hostler_linux::procfs::children(agent).expect("alive");
        let zombies = |pid: &u32| hostler_linux::procfs::stats(*pid).is_ok_and(|stats| stats.state == 'Z');
        (!children.iter().any(zombies) && children.len() == 1).then_some(())
    });
    node.finish();
}

#[test]
fn arguments_as_long_as_linux_takes_them() {
    let node = TestNode::new();
    let longest = "x".repeat(ARGUMENT_LENGTH_MAX);
    assert_eq!(
        node.cli(&["run", "--", "sh", "-c", "echo ${#1}", "sh", &longest]).ok(),
        ARGUMENT_LENGTH_MAX.to_string()
    );
    let longer = format!("{longest}x");
    // No program can be given such an argument, `hostler` included.
    let body = serde_json::json!({"command": ["true", longer]}).to_string();
    node.post(&body).problem(hostler_model::ProblemKind::ArgumentsTooLong);
    let many = vec![longest.clone(); 11];
    let mut command: Vec<&str> = vec!["sh", "-c", "echo $#", "sh"];
    command.extend(many.iter().map(String::as_str));
    let id = node.create(&node.spec(&command)).workload.id.to_string();
    assert_eq!(node.ended(&id).exit_code, Some(0), "{:?}", node.state_of(&id));
    assert_eq!(node.log_of(&id), "11");
    node.finish();
}

#[test]
fn what_was_there_when_it_was_accepted_may_be_gone_when_it_starts() {
    let node = TestNode::new();
    let place = node.work().join("place");
    std::fs::create_dir(&place).expect("mkdir");
    std::fs::write(place.join("program"), "#!/bin/sh\nexit 3\n").expect("write");
    std::fs::set_permissions(place.join("program"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let program = place.join("program").display().to_string();
    let directory = place.display().to_string();
    node.cli(&["run", "--name", "program", "--", &program]).code(3);
    node.cli(&["run", "--name", "directory", "--workdir", &directory, "--", "sh", "-c", "exit 3"]).code(3);
    std::fs::remove_dir_all(&place).expect("rm");
    node.cli(&["start", "program"]).refused(1, "was not started");
    node.cli(&["start", "directory"]).refused(1, &directory);
    assert_eq!(node.inspect("program").exit_code, Some(127));
    assert_eq!(node.inspect("directory").exit_code, Some(125));
    assert_eq!(node.cli(&["wait", "program"]).code(127).out(), "127\n");
    node.finish();
}

#[test]
fn sigterm_to_the_daemon_is_an_orderly_way_down() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "stays", "--", "sh", "-c", "echo here; exec sleep 600"]).ok();
    let pid = node.main_pid("stays");
    let mut follower = node.command(&["logs", "-f", "stays"]).spawn();
    follower.line_with("here");
    signal(node.pid(), 15);
    let status = node.wait_daemon_end();
    assert!(status.success(), "{status}");
    assert!(!node.socket().exists() && !node.root().join("hostlerd.pid").exists());
    assert!(hostler_tests::is_alive(pid));
    node.start();
    assert_eq!(node.main_pid("stays"), pid);
    node.cli(&["stop", "stays"]).ok();
    // The follower came back by itself and saw the end.
    follower.end().code(0);
    node.finish();
}
