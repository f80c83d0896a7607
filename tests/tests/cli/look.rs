//! ps, inspect, logs, events, stats, namespaces.

use hostler_tests::events::is_of;
use hostler_tests::{PATIENCE, TestNode, is_root, skip, until};

#[test]
fn ps_lists_and_filters() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "web-1", "--label", "team=a", "--label", "x", "--", "sleep", "60"]).ok();
    node.cli(&["run", "-d", "--name", "web-2", "--label", "team=b", "--", "sleep", "60"]).ok();
    node.cli(&["run", "--name", "job", "--label", "team=a", "--", "sh", "-c", "exit 3"]).code(3);
    node.cli(&["run", "-d", "--name", "broken", "--stdin", "/absent", "--", "cat"]).code(125);
    let names = |arguments: &[&str]| -> Vec<String> {
        let json = node.cli(&[&["--json", "ps"], arguments].concat()).json();
        let list = json.as_array().expect("an array");
        let mut names: Vec<_> = list.iter().map(|view| view["name"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&[]), ["web-1", "web-2"]);
    assert_eq!(names(&["-a"]), ["broken", "job", "web-1", "web-2"]);
    let cases: [(&[&str], &[&str]); 7] = [
        (&["name=web*"], &["web-1", "web-2"]),
        (&["name=job"], &["job"]),
        (&["phase=ended"], &["job"]),
        (&["phase=failed"], &["broken"]),
        (&["label=x"], &["web-1"]),
        (&["label=team=a"], &["job", "web-1"]),
        (&["label=team=a", "phase=running"], &["web-1"]),
    ];
    for (filters, expected) in cases {
        let arguments: Vec<&str> = std::iter::once("-a").chain(filters.iter().flat_map(|f| ["--filter", f])).collect();
        assert_eq!(names(&arguments), expected, "{filters:?}");
    }
    let table = node.cli(&["ps", "-a"]).ok();
    assert!(table.starts_with("ID") && table.lines().count() == 5, "{table}");
    for words in ["running", "ended 3", "failed: ", "sleep 60"] {
        assert!(table.contains(words), "{table}");
    }
    assert!(!table.contains('\u{1b}'), "colour without a terminal: {table:?}");
    assert_eq!(node.cli(&["ps", "-aq"]).ok().lines().filter(|id| id.len() == 12).count(), 4);
    node.cli(&["ps", "--filter", "colour=red"]).refused(1, "colour");
    node.finish();
}

#[test]
fn inspect_shows_all_of_it() {
    let node = TestNode::new();
    node.cli(&["run", "--name", "i", "--env", "A=1", "--label", "k=v", "--", "sh", "-c", "exit 3"]).code(3);
    let json = node.cli(&["inspect", "i"]).json();
    let view = &json[0];
    assert_eq!(view["phase"], "ended");
    assert_eq!(view["exit_code"], 3);
    assert_eq!(view["spec"]["command"], serde_json::json!(["sh", "-c", "exit 3"]));
    assert_eq!(view["run"]["exit"]["status"], serde_json::json!({"code": 3}));
    assert_eq!(view["run"]["exit"]["cause"], "error");
    let exit = &view["run"]["exit"];
    let time = |key: &str| exit[key].as_u64().expect("a time");
    assert!(time("started_at_ms") <= time("ended_at_ms"));
    assert!(time("ended_at_ms") - time("started_at_ms") <= time("duration_ms") + 1_000);
    // One that is not there does not keep the others from being shown.
    let mixed = node.cli(&["inspect", "i", "absent"]).refused(1, "absent");
    assert!(mixed.out().contains("\"name\": \"i\""));
    let refusal = node.cli(&["--json", "inspect", "absent"]).code(1).err();
    let document: serde_json::Value = serde_json::from_str(refusal.trim()).expect("a problem document");
    assert_eq!(document["type"], "urn:hostler:problem:not-found");
    node.finish();
}

#[test]
fn logs_in_every_form() {
    let node = TestNode::new();
    let script = "for n in 1 2 3 4 5; do echo out $n; echo err $n >&2; done; printf 'no end'";
    node.cli(&["run", "-d", "--name", "l", "--", "sh", "-c", script]).ok();
    node.ended("l");
    let all = node.cli(&["logs", "l"]).code(0);
    assert_eq!(all.out(), "out 1\nout 2\nout 3\nout 4\nout 5\nno end\n");
    assert_eq!(all.err(), "err 1\nerr 2\nerr 3\nerr 4\nerr 5\n");
    let only = node.cli(&["logs", "--stdout", "l"]).code(0);
    assert!(only.err().is_empty() && only.out() == all.out());
    let only = node.cli(&["logs", "--stderr", "l"]).code(0);
    assert!(only.out().is_empty() && only.err() == all.err());
    assert_eq!(node.cli(&["logs", "--stderr", "--tail", "2", "l"]).code(0).err(), "err 4\nerr 5\n");
    assert_eq!(node.cli(&["logs", "--stdout", "-n", "2", "l"]).code(0).out(), "out 5\nno end\n");
    assert_eq!(node.cli(&["logs", "--tail", "0", "l"]).code(0).out(), "");
    // A finished workload ends a follower at once.
    assert_eq!(node.cli(&["logs", "-f", "l"]).code(0).out(), all.out());
    let stamped = node.cli(&["logs", "--timestamps", "--stdout", "l"]).code(0).out();
    for line in stamped.lines() {
        let (time, _) = line.split_once(' ').expect("a time");
        assert!(time.ends_with('Z') && time.contains('T') && time.len() >= 24, "{line}");
    }
    assert_eq!(node.cli(&["logs", "--since", "1h", "--stdout", "l"]).code(0).out(), all.out());
    assert_eq!(node.cli(&["logs", "--since", "2030-01-01T00:00:00Z", "l"]).code(0).out(), "");
    let json = node.cli(&["--json", "logs", "--stdout", "--tail", "1", "l"]).json_lines();
    assert_eq!((json[0]["stream"].as_str(), json[0]["text"].as_str()), (Some("stdout"), Some("no end")));
    node.cli(&["logs", "absent"]).refused(1, "absent");
    node.finish();
}

#[test]
fn followers_see_lines_as_they_come_and_through_a_dead_daemon() {
    let mut node = TestNode::new();
    let script =
        "echo one; until [ -e go ]; do sleep 0.02; done; echo two; until [ -e end ]; do sleep 0.02; done; echo three";
    node.cli(&["run", "-d", "--name", "f", "--", "sh", "-c", script]).ok();
    let mut logs = node.command(&["logs", "-f", "f"]).spawn();
    assert_eq!(logs.next_line(), "one");
    std::fs::write(node.work().join("go"), "").expect("write");
    assert_eq!(logs.next_line(), "two");
    node.kill();
    std::fs::write(node.work().join("end"), "").expect("write");
    node.start();
    assert_eq!(logs.next_line(), "three");
    logs.end().code(0);
    node.finish();
}

#[test]
fn events_since_until_and_filtered() {
    let node = TestNode::new();
    node.cli(&["run", "--name", "e1", "--", "true"]).ok();
    node.cli(&["run", "--name", "e2", "--", "false"]).code(1);
    let all = node.cli(&["--json", "events", "--no-follow"]).json_lines();
    let kinds = |events: &[serde_json::Value], name: &str| -> Vec<String> {
        let of = events.iter().filter(|event| event["subject"]["name"] == name);
        of.map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
    };
    assert_eq!(all[0]["type"], "node.started");
    for name in ["e1", "e2"] {
        assert_eq!(kinds(&all, name), ["workload.created", "run.created", "run.started", "run.exited"]);
    }
    // After an id: everything but what was there up to it.
    let third = all[2]["id"].as_str().expect("an id");
    let rest = node.cli(&["--json", "events", "--since", third, "--no-follow"]).json_lines();
    assert_eq!(rest, all[3..]);
    assert_eq!(node.cli(&["--json", "events", "--since", "1h", "--no-follow"]).json_lines(), all);
    let filtered = node.cli(&["--json", "events", "--no-follow", "--filter", "type=run.*", "--filter", "workload=e2"]);
    assert_eq!(kinds(&filtered.json_lines(), "e2"), ["run.created", "run.started", "run.exited"]);
    assert_eq!(node.cli(&["events", "--until", "1h", "--no-follow"]).ok(), "");
    // A follower ends at its time.
    let bounded = node.cli(&["--json", "events", "--since", "1h", "--until", "0s", "--no-follow"]);
    assert_eq!(bounded.json_lines().len(), all.len());
    let text = node.cli(&["events", "--no-follow"]).ok();
    assert!(text.contains("run.exited") && text.contains("exit 1"), "{text}");
    node.cli(&["events", "--since", "yesterday"]).refused(2, "yesterday");
    node.cli(&["events", "--no-follow", "--since", "0011223344556677-5"]).refused(1, "journal");

    let mut follower = node.command(&["events", "--filter", "workload=e3"]).spawn();
    // The follower is there when the node counts it.
    until("a subscriber", PATIENCE, || {
        let metrics = node.block_on(node.api().metrics()).expect("metrics");
        metrics.lines().any(|line| line.contains("subscribers") && line.ends_with(" 1")).then_some(())
    });
    node.cli(&["run", "--name", "e3", "--", "true"]).ok();
    follower.line_with("run.exited");
    drop(follower);
    node.finish();
}

#[test]
fn stats_of_what_runs() {
    if !is_root() {
        return skip("limits need root here");
    }
    let node = TestNode::new();
    let busy = "while :; do :; done";
    node.cli(&["run", "-d", "--name", "busy", "--memory", "64M", "--pids", "9", "--", "sh", "-c", busy]).ok();
    node.cli(&["run", "-d", "--name", "free", "--", "sleep", "60"]).ok();
    let rows = node.cli(&["--json", "stats", "--no-stream"]).json_lines();
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).expect("a row");
    assert!(row("busy")["cpu_percent"].as_f64().expect("a share") > 5.0, "{rows:?}");
    assert_eq!(row("busy")["memory_limit_bytes"], 64 << 20);
    assert_eq!(row("busy")["pids_limit"], 9);
    assert_eq!(row("busy")["pids"], 1);
    assert!(row("free")["memory_bytes"].as_u64().expect("bytes") > 0 && row("free")["pids"] == 1, "{rows:?}");
    let table = node.cli(&["stats", "--no-stream", "busy"]).ok();
    assert!(table.starts_with("ID") && table.contains("busy") && !table.contains("free"), "{table}");
    node.cli(&["run", "--name", "over", "--", "true"]).ok();
    node.cli(&["stats", "--no-stream", "over"]).refused(1, "ended");
    node.finish();
}

#[test]
fn namespaces_keep_apart() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "same", "--", "sleep", "60"]).ok();
    node.cli(&["--namespace", "other", "run", "-d", "--name", "same", "--", "sleep", "60"]).ok();
    assert_eq!(node.cli(&["ps", "-q"]).ok().lines().count(), 1);
    assert_eq!(node.cli(&["--namespace", "other", "ps", "-q"]).ok().lines().count(), 1);
    let all = node.cli(&["--namespace", "*", "ps"]).ok();
    assert!(all.contains("NAMESPACE") && all.lines().count() == 3, "{all}");
    node.cli(&["--namespace", "other", "stop", "same"]).ok();
    assert_eq!(node.inspect("same").phase.as_str(), "running");
    node.cli(&["--namespace", "third", "inspect", "same"]).refused(1, "same");
    let events = node.cli(&["--namespace", "other", "--json", "events", "--no-follow"]).json_lines();
    assert!(!events.is_empty() && events.iter().all(|event| event["subject"]["namespace"] == "other"), "{events:?}");
    assert!(node.journal().iter().any(|event| is_of(event, "same")));
    node.cli(&["--namespace", "../x", "ps"]).refused(1, "namespace");
    node.finish();
}
