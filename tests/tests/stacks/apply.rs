//! Start along the graph, failures, conditions, mistakes, the way down.

use hostler_tests::events::assert_history;
use hostler_tests::{PATIENCE, TestNode, until};

use super::{apply, order, reason, states, touch, unit, until_state, until_view, view, write};

/// A service that says when it comes and when it goes.
fn service(name: &str, more: &str) -> String {
    let script =
        format!("echo +{name} >>order; trap 'echo -{name} >>order; exit 0' TERM; while :; do sleep 0.02; done");
    format!("[service.{name}]\ncommand = \"\"\"{script}\"\"\"\nworkdir = \".\"\n{more}\n")
}

#[test]
fn starts_along_the_graph_and_stops_in_reverse() {
    let node = TestNode::new();
    let text = [
        service("db", ""),
        "[job.migrate]\ncommand = \"until [ -e go ]; do sleep 0.01; done; echo +migrate >>order\"\nworkdir = \".\"\nrequires = \"db\"\n".to_owned(),
        service("api", "requires = [\"db\", \"migrate\"]"),
        service("web", "requires = \"api\""),
        service("log", "after = \"db\""),
    ]
    .concat();
    let path = write(&node, "shop", &text);
    let mut applying = node.command(&["stack", "apply", path.to_str().expect("a path")]).spawn();
    until_view(&node, "shop", "what need not wait", |view| {
        states(view)
            == [("api", "waiting"), ("db", "ready"), ("log", "ready"), ("migrate", "starting"), ("web", "waiting")]
    });
    let tree = node.cli(&["stack", "tree", "shop"]).ok();
    assert!(tree.contains("waiting for migrate") && tree.contains("waiting for api"), "{tree}");
    assert_eq!(node.inspect("shop.db").workload.name.as_str(), "shop.db");
    touch(&node, "go");
    applying.line_with("shop.migrate: done");
    applying.line_with("shop.web: ready");
    assert_eq!(applying.end().code, 0);
    let up = view(&node, "shop");
    assert!(up.settled && up.units.iter().all(|unit| unit.state.as_str() == "ready"), "{up:?}");
    // A program may write its first words after it is ready: `started` is all that was asked.
    until("all to have come", PATIENCE, || (order(&node).len() == 5).then_some(()));
    let came = order(&node);
    let at = |word: &str| came.iter().position(|line| line == word).unwrap_or_else(|| panic!("{word} in {came:?}"));
    assert!(at("+db") < at("+migrate") && at("+migrate") < at("+api"), "{came:?}");
    assert!(node.cli(&["stack", "ls"]).ok().contains("5 ready"));

    let mut follow = node.command(&["stack", "tree", "-f", "shop"]).spawn();
    follow.line_with("5 ready");
    node.cli(&["stack", "down", "shop"]).ok();
    let end = follow.end();
    assert_eq!(end.code, 0, "{}", end.err());
    let went: Vec<String> = order(&node).split_off(5);
    let at = |word: &str| went.iter().position(|line| line == word).unwrap_or_else(|| panic!("{word} in {went:?}"));
    assert!(at("-web") < at("-api") && at("-api") < at("-db") && at("-log") < at("-db"), "{went:?}");
    assert!(node.all().is_empty(), "nothing is left of it");
    node.cli(&["stack", "tree", "shop"]).refused(1, "no stack shop");
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_failed_dependency_stops_its_dependents_and_the_rest_goes_on() {
    let node = TestNode::new();
    let text = [
        "[job.migrate]\ncommand = \"until [ -e go ]; do sleep 0.01; done; exit 3\"\nworkdir = \".\"\n",
        "[service.api]\ncommand = [\"sleep\", \"600\"]\nrequires = \"migrate\"\n",
        "[service.web]\ncommand = [\"sleep\", \"600\"]\nrequires = \"api\"\n",
        "[service.other]\ncommand = [\"sleep\", \"600\"]\nafter = \"migrate\"\n",
        "[service.flaky]\ncommand = \"until [ -e break ]; do sleep 0.01; done; exit 9\"\nworkdir = \".\"\nrestart = \"never\"\n",
        "[service.leans]\ncommand = [\"sleep\", \"600\"]\nrequires = \"flaky\"\n",
    ]
    .concat();
    let path = write(&node, "s", &text);
    let applying = node.command(&["stack", "apply", path.to_str().expect("a path")]).spawn();
    until_state(&node, "s", "leans", "ready");
    touch(&node, "go");
    let output = applying.end();
    assert_eq!(output.code, 1, "a unit is not in service");
    assert_eq!(reason(&unit(&node, "s", "web")), "api has failed: migrate has failed: exit 3");
    assert_eq!(unit(&node, "s", "other").state.as_str(), "ready");
    // One that was up is stopped when what it requires fails.
    touch(&node, "break");
    let leans = until_state(&node, "s", "leans", "failed");
    assert_eq!(reason(&leans), "flaky has failed: exit 9");
    assert!(node.inspect("s.leans").workload.is_at_rest());
    assert_eq!(unit(&node, "s", "other").state.as_str(), "ready");
    // Asked for again, what failed is tried again.
    std::fs::write(node.work().join("s.toml"), text.replace("exit 3", "exit 0").replace("; exit 9", "; sleep 600"))
        .expect("write");
    node.cli(&["stack", "apply", path.to_str().expect("a path")]).ok();
    node.cli(&["stack", "down", "s"]).ok();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn mistakes_are_told_with_their_path_and_take_nobody_else_down() {
    let node = TestNode::new();
    let text = "[service.a]\ncommand = \"x\"\nafter = \"b\"\n[service.b]\ncommand = \"x\"\nrequires = \"a\"\n\
                [service.c]\ncommand = \"x\"\nmax_time = \"soon\"\n[service.d]\ncommand = \"x\"\nrequires = \"god\"\n\
                [service.good]\ncommand = [\"sleep\", \"600\"]\n";
    let path = write(&node, "s", text);
    let path = path.to_str().expect("a path");
    // Without a node, too.
    for verb in [["stack", "validate", path], ["stack", "apply", path]] {
        let output = node.cli(&verb).code(1);
        let said = output.err();
        for words in [
            "service.a.after: goes round in a circle: a → b → a",
            "service.c.max_time: ",
            "service.d.requires: there is no unit \"god\"",
        ] {
            assert!(said.contains(words), "{verb:?} does not say {words:?}: {said}");
        }
    }
    let shown = view(&node, "s");
    assert_eq!(states(&shown), [("good", "ready")]);
    assert_eq!(shown.mistakes.len(), 4);
    assert!(node.cli(&["stack", "tree", "s"]).ok().contains("left out: service.c.max_time"));
    // What cannot be read at all is refused as a whole, with path and line.
    let bad = write(&node, "bad", "[service.web]\ncommand = \"x\"\n[service.web.ready]\ntpc = 1\n");
    node.cli(&["stack", "apply", bad.to_str().expect("a path")])
        .refused(2, "service.web.ready.tpc: line 4: unknown field");
    let reply = node.http("PUT", "/v1/stacks/x", &[], br#"{"service":{"a":{"command":"x","colour":1}}}"#);
    let problem = reply.problem(hostler_model::ProblemKind::MalformedRequest);
    assert!(problem.detail.contains("service.a"), "{}", problem.detail);
    node.cli(&["stack", "down", "s"]).ok();
    node.finish();
}

#[test]
fn conditions_are_looked_at_when_the_unit_starts() {
    let node = TestNode::new();
    let here = node.work().join("made").display().to_string();
    let text = format!(
        "[job.make]\ncommand = \"until [ -e go ]; do sleep 0.01; done; touch made\"\nworkdir = \".\"\n\
         [service.has]\ncommand = [\"sleep\", \"600\"]\nafter = \"make\"\ncondition.file = {here:?}\n\
         [service.not]\ncommand = [\"sleep\", \"600\"]\nafter = \"make\"\ncondition.not.file = {here:?}\n\
         [service.leans]\ncommand = [\"sleep\", \"600\"]\nrequires = \"not\"\n"
    );
    apply(&node, "s", &text);
    touch(&node, "go");
    let settled = until_view(&node, "s", "an end", |view| view.settled);
    assert_eq!(states(&settled), [("has", "ready"), ("leans", "skipped"), ("make", "ready"), ("not", "skipped")]);
    assert!(reason(&unit(&node, "s", "leans")).starts_with("not is skipped: file "), "{settled:?}");
    // Left out by a condition is as it was asked for.
    node.cli(&["stack", "apply", node.work().join("s.toml").to_str().expect("a path")]).ok();
    node.cli(&["stack", "down", "s"]).ok();
    node.finish();
}

#[test]
fn others_have_stacks_of_their_own() {
    if !hostler_tests::is_root() {
        return hostler_tests::skip("needs root to become another user");
    }
    let node = TestNode::new();
    let path = write(
        &node,
        "s",
        "[service.a]\ncommand = [\"sleep\", \"600\"]\nuser = \"4242\"\n[service.r]\ncommand = \"x\"\nuser = \"root\"\n",
    );
    let path = path.to_str().expect("a path");
    let output = node.command(&["stack", "apply", "-d", path]).uid(4242).run();
    assert!(output.err().contains("service.r: user 4242 may run work only as himself"), "{}", output.err());
    assert!(node.cli(&["stack", "ls"]).ok().lines().count() == 1, "root's own list does not show it");
    let ls = node.command(&["stack", "ls"]).uid(4242).run().ok();
    assert!(ls.contains("1 left out"), "{ls}");
    let events = node.command(&["--json", "events", "--no-follow"]).uid(4242).run().json_lines();
    assert!(events.iter().any(|event| event["type"] == "stack.unit"), "{events:?}");
    node.command(&["stack", "down", "s"]).uid(4242).run().ok();
    node.finish();
}
