//! Stdin that comes with the workload.

use hostler_api::types::CreateQuery;
use hostler_model::limits::STDIN_DATA_MAX;
use hostler_model::spec::{Restart, RestartWhen};
use hostler_tests::TestNode;

/// systems.md 5.15: large stdin was written before output was consumed, and both sides waited for each other.
#[test]
fn large_stdin_with_a_chatty_child_does_not_deadlock() {
    let node = TestNode::new();
    let data: Vec<u8> = (0..STDIN_DATA_MAX).map(|at| (at * 31 % 256) as u8).collect();
    // Says a lot before it reads, while it reads, and after.
    let script = "head -c 2000000 /dev/zero | tr '\\0' x; echo; tee in | od -v; head -c 2000000 /dev/zero | tr '\\0' y";
    let command = node.command(&["run", "-d", "--name", "chatty", "--stdin", "-", "--", "sh", "-c", script]);
    command.stdin(data.clone()).run().ok();
    assert_eq!(node.ended("chatty").exit_code, Some(0));
    assert!(std::fs::read(node.work().join("in")).unwrap() == data);
    // In the foreground, and to a terminal-less interactive one, the same.
    let script = "head -c 1000000 /dev/zero | tr '\\0' x >&2; cat";
    let output =
        node.command(&["run", "--rm", "--stdin", "-", "--", "sh", "-c", script]).stdin(data.clone()).run().code(0);
    assert!(output.stdout == data && output.stderr.len() == 1_000_000);
    let output = node.command(&["run", "--rm", "-i", "--", "sh", "-c", script]).stdin(data.clone()).run().code(0);
    assert!(output.stdout == data && output.stderr.len() == 1_000_000);
    node.finish();
}

#[test]
fn every_run_reads_it_again_and_so_does_one_after_a_restart_of_the_daemon() {
    let mut node = TestNode::new();
    let mut spec = node.script("cat; exit 1");
    spec.name = Some("again".parse().unwrap());
    spec.stdio.stdin_data = Some("one\ntwo".into());
    *spec.restart =
        Restart { when: RestartWhen::OnFailure, max_attempts: Some(2), backoff_initial_ms: 10, ..Restart::default() };
    node.create(&spec);
    assert_eq!(node.ended("again").workload.runs, 3);
    assert_eq!(node.log_of("again"), ["one\ntwo"; 3].join("\n"));
    node.kill_and_start();
    node.cli(&["start", "again"]).ok();
    assert!(node.ended("again").workload.runs > 3);
    assert!(node.log_of("again").lines().count() >= 8);
    node.finish();
}

#[test]
fn it_is_kept_but_not_shown() {
    let node = TestNode::new();
    let secret = "a secret in stdin";
    node.cli(&["run", "-d", "--name", "text", "--stdin-text", secret, "--", "cat"]).ok();
    assert_eq!(node.ended("text").exit_code, Some(0));
    assert_eq!(node.log_of("text"), secret);
    let view = node.cli(&["inspect", "text"]).json();
    assert_eq!(view[0]["stdin_data_bytes"], secret.len());
    assert!(view[0]["spec"]["stdio"].get("stdin_data").is_none());
    let told = [
        node.cli(&["--json", "events", "--no-follow"]).ok(),
        node.cli(&["--json", "ps", "-a"]).ok(),
        node.cli(&["--json", "stop", "text"]).ok(),
        node.daemon_log(),
    ];
    for text in told {
        assert!(!text.contains(secret), "{text}");
    }
    node.finish();
}

#[test]
fn too_much_is_refused_and_what_helps_is_said() {
    let node = TestNode::new();
    let data = vec![b'x'; STDIN_DATA_MAX + 1];
    let refused = node.command(&["run", "-d", "--stdin", "-", "--", "cat"]).stdin(data.clone()).run();
    refused.refused(2, "--stdin FILE");
    let mut spec = node.spec(&["cat"]);
    spec.stdio.stdin_data = Some(data.clone().into());
    let refused = node.block_on(node.api().create(&spec, &CreateQuery::default(), None)).expect_err("too much");
    assert!(refused.to_string().contains("stdio.stdin_data"), "{refused}");
    // As much as there may be, of any bytes, fits through every door.
    spec.stdio.stdin_data = Some(vec![0xff; STDIN_DATA_MAX].into());
    spec.command = vec!["sh".into(), "-c".into(), "wc -c".into()];
    let id = node.create(&spec).workload.id.to_string();
    node.ended(&id);
    assert_eq!(node.log_of(&id).trim(), STDIN_DATA_MAX.to_string());
    // Empty is empty, and a file is a file.
    assert_eq!(node.command(&["run", "--rm", "--stdin", "-", "--", "cat"]).stdin("").run().code(0).out(), "");
    std::fs::write(node.work().join("file"), data).unwrap();
    let output = node.cli(&["run", "--rm", "--stdin", "file", "--", "wc", "-c"]).ok();
    assert_eq!(output.trim(), (STDIN_DATA_MAX + 1).to_string());
    node.finish();
}
