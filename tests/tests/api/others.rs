//! Callers who are not root have one namespace and run work as themselves; a daemon without root does what it can.

use hostler_model::ProblemKind;
use hostler_tests::{Cli, Setup, TestNode, is_root, skip};

/// `nobody`: there is one everywhere.
const NOBODY: u32 = 65_534;

fn as_nobody(node: &TestNode, arguments: &[&str]) -> Cli {
    node.command(arguments).uid(NOBODY)
}

#[test]
fn others_see_and_touch_only_their_own() {
    if !is_root() {
        return skip("playing another user needs root");
    }
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "roots", "--", "sleep", "60"]).ok();
    let roots = node.inspect("roots").workload.id.to_string();
    assert_eq!(as_nobody(&node, &["ps", "-aq"]).run().ok(), "");
    for reference in ["roots", roots.as_str(), &roots[..6]] {
        for verb in ["inspect", "stop", "kill", "logs", "wait", "start", "restart", "attach"] {
            let output = as_nobody(&node, &[verb, reference]).run();
            assert_ne!(output.code, 0, "{verb} {reference}: {}", output.out());
            assert!(
                output.err().contains("no workload") || output.err().contains(reference),
                "{verb}: {}",
                output.err()
            );
        }
        as_nobody(&node, &["rm", "-f", reference]).run().code(1);
        as_nobody(&node, &["exec", reference, "id"]).run().code(125);
        as_nobody(&node, &["update", "--pids", "9", reference]).run().code(1);
    }
    for namespace in ["default", "*", "u0"] {
        let output = as_nobody(&node, &["--namespace", namespace, "ps"]).run().code(1);
        assert!(output.err().contains("u65534"), "{}", output.err());
    }
    for arguments in [&["node", "lame-duck"][..], &["down"], &["down", "--stop-workloads"]] {
        let output = as_nobody(&node, arguments).run().code(1);
        assert!(output.err().contains("owner"), "{arguments:?}: {}", output.err());
    }
    assert_eq!(node.inspect("roots").phase.as_str(), "running");
    let events = as_nobody(&node, &["--json", "events", "--no-follow"]).run().json_lines_or_nothing();
    assert!(events.is_empty(), "{events:?}");
    node.finish();
}

#[test]
fn others_run_work_as_themselves() {
    if !is_root() {
        return skip("playing another user needs root");
    }
    let node = TestNode::new();
    let output =
        as_nobody(&node, &["run", "--name", "mine", "--", "sh", "-c", "id -u; id -g; id -G; echo $HOME"]).run().ok();
    assert!(output.starts_with("65534\n65534\n"), "{output}");
    let view = node.all().into_iter().next().expect("a workload");
    assert_eq!(view.workload.namespace.as_str(), "u65534");
    assert_eq!(as_nobody(&node, &["logs", "mine"]).run().ok(), output);
    for user in ["0", "root", "1", "65534:0"] {
        let refused = as_nobody(&node, &["run", "--user", user, "--", "id"]).run().code(125);
        assert!(refused.err().contains("himself"), "{user}: {}", refused.err());
    }
    as_nobody(&node, &["run", "--user", "65534", "--", "true"]).run().code(0);
    as_nobody(&node, &["run", "--rlimit", "nice=40", "--", "true"]).run().code(125);
    // Files are opened as himself.
    let secret = node.root().join("secret");
    std::fs::write(&secret, "root's").expect("write");
    std::os::unix::fs::chown(&secret, Some(0), Some(0)).expect("chown");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let secret = secret.display().to_string();
    let read = as_nobody(&node, &["run", "--stdin", &secret, "--", "cat"]).run();
    assert!(read.code == 125 && read.stdout.is_empty(), "{read:?}");
    as_nobody(&node, &["run", "--stdout", &secret, "--", "echo", "overwritten"]).run().code(125);
    assert_eq!(std::fs::read_to_string(&secret).expect("readable"), "root's");
    // The program is looked for as himself, too.
    let hidden = node.root().join("hidden");
    std::fs::create_dir(&hidden).expect("mkdir");
    std::fs::set_permissions(&hidden, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("chmod");
    std::os::unix::fs::symlink("/bin/true", hidden.join("program")).expect("symlink");
    let hidden_program = hidden.join("program").display().to_string();
    as_nobody(&node, &["run", "--", &hidden_program]).run().code(126);
    // Root sees it in its namespace, and may end it.
    as_nobody(&node, &["run", "-d", "--name", "long", "--", "sleep", "60"]).run().ok();
    let pid = {
        let view = node.cli(&["--namespace", "u65534", "inspect", "long"]).json();
        u32::try_from(view[0]["run"]["pid"].as_u64().expect("a pid")).expect("a pid")
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("alive");
    assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "{status}");
    let exec = as_nobody(&node, &["exec", "long", "--", "id", "-u"]).run();
    assert_eq!(exec.ok(), "65534");
    as_nobody(&node, &["exec", "--user", "0", "long", "--", "id", "-u"]).run().code(125);
    node.cli(&["--namespace", "u65534", "stop", "long"]).ok();
    std::fs::remove_file(node.root().join("secret")).expect("rm");
    std::fs::remove_dir_all(hidden).expect("rm");
    node.finish();
}

/// What is no limit but a share of what others have is not for everybody.
#[test]
fn who_does_not_own_the_node_takes_nothing_from_others() {
    if !is_root() {
        return skip("playing another user needs root");
    }
    let node = TestNode::new();
    for limit in [["--cpu-shares", "2000"], ["--blkio-weight", "500"], ["--memory-reservation", "64M"]] {
        let run = ["run", "-d", limit[0], limit[1], "--", "true"];
        as_nobody(&node, &run).run().refused(125, "taken from others");
    }
    as_nobody(&node, &["run", "-d", "--name", "small", "--", "sleep", "60"]).run().ok();
    as_nobody(&node, &["update", "--cpu-shares", "2000", "small"]).run().refused(1, "taken from others");
    as_nobody(&node, &["top", "small"]).run().ok();
    let seen = as_nobody(&node, &["--json", "stats", "--no-stream"]).run().json_lines();
    assert_eq!(seen.len(), 1, "{seen:?}");
    node.cli(&["run", "-d", "--name", "roots", "--", "sleep", "60"]).ok();
    as_nobody(&node, &["top", "roots"]).run().refused(1, "no workload");
    assert_eq!(as_nobody(&node, &["--json", "stats", "--no-stream"]).run().json_lines().len(), 1);
    node.cli(&["rm", "-f", "roots"]).ok();
    as_nobody(&node, &["rm", "-f", "small"]).run().ok();
    node.finish();
}

#[test]
fn the_directories_are_closed_to_others() {
    if !is_root() {
        return skip("playing another user needs root");
    }
    let node = TestNode::new();
    node.cli(&["run", "-d", "--", "sh", "-c", "echo private; sleep 60"]).ok();
    for name in ["run", "sandbox", "logs", "store.redb", "store.wal", "hostlerd.pid"] {
        use std::os::unix::fs::MetadataExt;
        let mode = std::fs::metadata(node.root().join(name)).expect(name).mode();
        let closed = if name == "hostlerd.pid" { 0o022 } else { 0o077 };
        assert_eq!(mode & closed, 0, "{name} has mode {mode:o}");
    }
    node.finish();
}

#[test]
fn a_node_without_root() {
    if !is_root() {
        return skip("playing another user needs root");
    }
    let node = Setup::new().uid(NOBODY).start();
    assert!(!node.info().privileged);
    let run = |arguments: &[&str]| as_nobody(&node, arguments).run();
    assert_eq!(run(&["run", "--name", "job", "--", "sh", "-c", "id -u; exit 4"]).code(4).out(), "65534\n");
    run(&["run", "--user", "0", "--", "id"]).code(125);
    // What it cannot do is refused and told.
    let limited = run(&["run", "--memory", "64M", "--", "true"]).code(125);
    assert!(
        limited.err().contains("cannot limit memory") && limited.err().contains("see: hostler doctor"),
        "{}",
        limited.err()
    );
    let reply = node.post(r#"{"command":["true"],"limits":{"pids":10}}"#);
    reply.problem(ProblemKind::LimitUnavailable);
    let report: serde_json::Value = serde_json::from_slice(&run(&["--json", "doctor"]).stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let restricted = |check: &&serde_json::Value| check["status"] != "ok";
    assert!(checks.iter().any(|check| restricted(&check) && check.to_string().contains("root")), "{report}");
    // A service, an exec, a stop: all without root.
    run(&["run", "-d", "--name", "service", "--restart", "always", "--", "sleep", "60"]).code(0);
    assert_eq!(run(&["exec", "service", "--", "echo", "inside"]).ok(), "inside");
    run(&["stats", "--no-stream", "service"]).code(0);
    run(&["stop", "service"]).code(0);
    // Root may ask it; a third user may not, and cannot even reach the socket.
    assert_eq!(node.cli(&["ps", "-aq"]).ok().lines().count(), 2);
    let third = node.command(&["ps"]).uid(1).run().code(1);
    assert!(third.err().contains("may not connect") || third.err().contains("belongs to user"), "{}", third.err());
    let mut node = node;
    node.kill_and_start();
    assert_eq!(node.all().len(), 2);
    node.finish();
}
