//! The daemon dies at a stand-in point, and another one takes over. Whatever was accepted happens exactly once;
//! whatever was not, never.

use std::collections::BTreeMap;

use hostler_api::client::ClientError;
use hostler_api::types::{CreateQuery, WorkloadView};
use hostler_model::Spec;
use hostler_model::spec::RestartWhen;
use hostler_tests::events::assert_history;
use hostler_tests::{PATIENCE, TestNode, until};

/// How far into the life of daemon and runs a point is armed: its first hit is often the daemon's own start.
const HITS: [u32; 5] = [1, 2, 3, 4, 6];

/// A job that leaves one line in a file for each time it is executed.
fn job(node: &TestNode, name: &str) -> Spec {
    let mut spec = node.script(&format!("echo {name} >>effects; exit 3"));
    spec.name = Some(name.parse().expect("a name"));
    spec
}

fn service(node: &TestNode, name: &str) -> Spec {
    let mut spec = node.script(&format!("echo {name} >>effects; exec sleep 600"));
    spec.name = Some(name.parse().expect("a name"));
    spec.restart.when = RestartWhen::Always;
    spec
}

fn effects(node: &TestNode) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(node.work().join("effects")).unwrap_or_default();
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        *counts.entry(line.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Asks once.
fn try_create(node: &TestNode, spec: &Spec, key: Option<&str>) -> Result<WorkloadView, ClientError> {
    node.block_on(node.api().create(spec, &CreateQuery::default(), key))
}

fn survive(points: &[&str]) {
    let mut node = TestNode::new();
    node.kill();
    for point in points {
        for hit in HITS {
            let case = format!("{point}-{hit}");
            one_death(&mut node, point, hit, &case);
        }
    }
    node.start();
    assert_history(&node.journal());
    node.finish();
}

fn one_death(node: &mut TestNode, point: &str, hit: u32, case: &str) {
    let armed = format!("{point}:{hit}");
    let came_up = node.start_or_die(&[("HOSTLER_TEST_FAILPOINT", &armed)]);
    let names = [format!("keyed-{case}"), format!("once-{case}"), format!("service-{case}")];
    let [keyed, once, keeper] = [job(node, &names[0]), job(node, &names[1]), service(node, &names[2])];
    if came_up {
        for (spec, key) in [(&keyed, Some(&names[0])), (&once, None), (&keeper, Some(&names[2]))] {
            match try_create(node, spec, key.map(String::as_str)) {
                Ok(_) => {}
                Err(error) if error.is_disconnect() => {}
                Err(error) => panic!("{case}: {error}"),
            }
        }
    }
    // It dies when a job ends at the latest, or never gets to its point so often.
    node.wait_daemon_end_or_kill();
    node.start();
    // What has a key is asked for again; what has none was accepted or it was not.
    for (spec, key) in [(&keyed, &names[0]), (&keeper, &names[2])] {
        try_create(node, spec, Some(key)).unwrap_or_else(|error| panic!("{case}: {error}"));
    }
    assert_eq!(node.ended(&names[0]).exit_code, Some(3), "{case}");
    let known = node.all().iter().any(|view| view.workload.name.as_str() == names[1]);
    if known {
        assert_eq!(node.ended(&names[1]).exit_code, Some(3), "{case}");
    }
    node.main_pid(&names[2]);
    until(&format!("{case}: the service's line"), PATIENCE, || effects(node).get(&names[2]).map(|_| ()));
    let counts = effects(node);
    assert_eq!(counts.get(&names[0]), Some(&1), "{case}: {counts:?}");
    assert_eq!(counts.get(&names[1]).copied().unwrap_or(0), usize::from(known), "{case}: {counts:?}");
    let service = node.inspect(&names[2]);
    assert_eq!((counts.get(&names[2]), service.workload.runs), (Some(&1), 1), "{case}: {service:?}");
    node.cli(&["rm", "-f", &names[2]]).ok();
    node.wait_kind(&names[2], "workload.removed");
    node.kill();
}

#[test]
fn while_it_decides() {
    survive(&["decided", "prepared"]);
}

#[test]
fn while_it_commits_and_answers() {
    survive(&["committed", "before-answer"]);
}

#[test]
fn while_it_executes() {
    survive(&["before-execute", "executed"]);
}

/// Short jobs of a queue, of which each next one is executed before its start is recorded.
#[test]
fn while_it_executes_ahead_of_the_record() {
    let mut node = TestNode::new();
    for point in ["before-execute-ahead", "executed-ahead"] {
        let mut deaths = 0;
        for hit in [1, 2, 5, 9] {
            let case = format!("{point}-{hit}");
            node.cli(&["queue", "set", "q", "--parallel", "2"]).ok();
            node.cli(&["queue", "pause", "q"]).ok();
            let names: Vec<String> = (0..24).map(|number| format!("{case}-{number}")).collect();
            for name in &names {
                let mut spec = job(&node, name);
                spec.queue = Some("q".parse().expect("a name"));
                node.create(&spec);
            }
            node.kill();
            assert!(node.start_or_die(&[("HOSTLER_TEST_FAILPOINT", &format!("{point}:{hit}"))]), "{case}");
            // It may die before it answers.
            let _ = node.cli(&["queue", "resume", "q"]);
            deaths += u32::from(node.wait_daemon_end_or_kill());
            node.start();
            for name in &names {
                assert_eq!(node.ended(name).exit_code, Some(3), "{case}: {name}");
            }
            let counts = effects(&node);
            assert!(names.iter().all(|name| counts.get(name) == Some(&1)), "{case}: {counts:?}");
        }
        assert!(deaths > 0, "{point} was never reached");
    }
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn while_it_hears_of_starts_and_ends() {
    survive(&["started", "exited"]);
}

#[test]
fn while_it_adopts_and_cleans_up() {
    survive(&["adopted", "before-release"]);
}

#[test]
fn every_point_is_armed_by_a_test() {
    let tested = [
        "decided",
        "prepared",
        "committed",
        "before-answer",
        "before-execute",
        "executed",
        "before-execute-ahead",
        "executed-ahead",
        "started",
        "exited",
        "adopted",
        "before-release",
        // In the tests of hooks.
        "hook-calling",
        "hook-called",
        "hook-due",
        "line-matched",
    ];
    let found = hostler_tests::failpoints("hostlerd");
    assert!(!found.is_empty());
    for point in found {
        assert!(tested.contains(&point.as_str()), "no test arms the failpoint {point}");
    }
}
