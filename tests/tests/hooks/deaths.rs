//! The daemon dies between a trigger and its outcome, or is not there when the trigger comes. At least once means just
//! that: a receiver tells repetitions by their key.

use hostler_model::hook::HookOn;
use hostler_tests::endpoint::{Answer, Endpoint};
use hostler_tests::events::assert_history;
use hostler_tests::{PATIENCE, TestNode, until};

use super::{fired, hook, http, line, outcome, script, shell, story, told};

/// The daemon dies at this point of a hook's life, and the next one does what is left.
fn dies_at(point: &str, text: &str) {
    let mut node = TestNode::new();
    node.kill();
    let endpoint = Endpoint::new(&[]);
    let hooks = vec![
        hook(HookOn::Success, http(endpoint.url("/"))),
        hook(HookOn::Success, shell("echo $HOSTLER_EVENT_ID >>commands")),
        hook(line("^word$"), http(endpoint.url("/line"))),
    ];
    let spec = script(&node, "job", text, hooks);
    node.start_with(&[("HOSTLER_TEST_FAILPOINT", point)]);
    node.create(&spec);
    let _ = node.wait_daemon_end();
    node.start();
    for number in 0..3 {
        assert!(told(&outcome(&node, "job", number)).is_ok(), "{point}: {:?}", story(&node, "job"));
    }
    let posted = endpoint.posted();
    for (path, number) in [("POST / ", 0), ("POST /line ", 2)] {
        let key = fired(&node, "job", number);
        let mut keys = posted.iter().filter(|posted| posted.line.starts_with(path)).map(|posted| posted.key());
        assert!(keys.clone().count() >= 1 && keys.all(|found| found == key), "{point}: {posted:?}");
    }
    let commands = std::fs::read_to_string(node.work().join("commands")).expect("a file");
    assert_eq!(commands.trim_end(), fired(&node, "job", 1), "{point}: a job of the store is made once");
    let words = story(&node, "job");
    for number in 0..3 {
        let outcomes = words.iter().filter(|word| **word == format!("succeeded {number}")).count();
        assert_eq!(outcomes, 1, "{point}: {words:?}");
    }
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn after_the_events_commit_and_before_the_request() {
    dies_at("hook-calling", "echo word");
}

#[test]
fn after_the_answer_and_before_its_record() {
    dies_at("hook-called", "echo word");
}

#[test]
fn before_the_command_has_its_job() {
    dies_at("hook-due", "echo word");
}

#[test]
fn with_a_line_found_and_not_told() {
    dies_at("line-matched", "echo word");
}

#[test]
fn what_happened_without_a_daemon_is_caught_up() {
    let mut node = TestNode::new();
    let endpoint = Endpoint::new(&[]);
    let hooks = || {
        vec![
            hook(line("^said [0-9]+$"), http(endpoint.url("/line"))),
            hook(HookOn::Delay { after_ms: 150 }, http(endpoint.url("/delay"))),
            hook(HookOn::End, shell("echo $HOSTLER_HOOK_WORKLOAD $HOSTLER_EXIT_CODE >>ends")),
        ]
    };
    let wait = "while ! [ -e gone ]; do sleep 0.02; done; sleep 0.2; ";
    // One that is over when the next daemon comes, one that lives on, and one that says its line before both.
    node.create_started(&script(&node, "over", &format!("{wait} echo said 1; exit 5"), hooks()));
    node.create_started(&script(&node, "lives", &format!("{wait} echo said 2; touch said; exec sleep 600"), hooks()));
    let over = node.inspect("over").workload.run.as_ref().expect("a run").id;
    node.kill();
    std::fs::write(node.work().join("gone"), "").expect("a file");
    until("the line of the one that lives", PATIENCE, || node.work().join("said").exists().then_some(()));
    until("the end of the other", PATIENCE, || node.exit_file(over));
    node.start();
    for (name, numbers) in [("over", [0, 1, 2].as_slice()), ("lives", &[0, 1])] {
        for number in numbers {
            assert!(told(&outcome(&node, name, *number)).is_ok(), "{name} {number}");
            fired(&node, name, *number);
        }
    }
    let lines: Vec<_> =
        endpoint.posted().iter().filter_map(|posted| posted.body["line"].as_str().map(str::to_owned)).collect();
    assert!(lines.contains(&"said 1".to_owned()) && lines.contains(&"said 2".to_owned()), "{lines:?}");
    assert_eq!(std::fs::read_to_string(node.work().join("ends")).expect("a file"), "over 5\n");
    // What has fired does not fire again for the next daemon.
    node.kill_and_start();
    until("the lines of the one that is over to be read", PATIENCE, || {
        node.inspect("over").workload.line_tails.is_empty().then_some(())
    });
    for (name, numbers) in [("over", [0, 1, 2].as_slice()), ("lives", &[0, 1])] {
        numbers.iter().for_each(|number| drop(fired(&node, name, *number)));
    }
    node.finish();
}

#[test]
fn a_request_under_way_goes_on_after_an_orderly_restart() {
    let mut node = TestNode::new();
    let endpoint = Endpoint::new(&[Answer::Silence]);
    node.create(&script(&node, "job", "true", vec![hook(HookOn::Success, http(endpoint.url("/")))]));
    endpoint.wait(1);
    // The workload may be gone by then: the call is not.
    node.ended("job");
    node.cli(&["rm", "job"]).ok();
    node.down();
    node.start();
    let posted = endpoint.wait(2);
    assert_eq!(posted[0].key(), posted[1].key());
    assert_eq!(told(&outcome(&node, "job", 0)), Ok(1));
    node.finish();
}
