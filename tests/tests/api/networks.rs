//! Networks as objects: made, listed, used, refused and removed, by hand and by stacks, over a daemon that dies. What
//! they do on the machine is not looked at here.

use std::collections::BTreeSet;

use hostler_model::ProblemKind;
use hostler_model::event::EventKind;
use hostler_tests::{Machine, Setup, TestNode, skip};

const NOBODY: u32 = 65_534;

/// A node that can have networks, on a machine of its own, or why there can be none.
fn node() -> Option<TestNode> {
    let node = Setup::new().on(&Machine::new()?).start();
    let made = node.cli(&["network", "create", "blue"]);
    if made.code != 0 && made.err().contains("doctor") {
        skip(&format!("this machine has no networks: {}", made.err()));
        return None;
    }
    assert_eq!(made.ok(), "blue");
    Some(node)
}

fn names(node: &TestNode) -> Vec<String> {
    let list = node.cli(&["--json", "network", "ls"]).json();
    let networks = list.as_array().expect("a list").iter();
    networks.map(|network| network["name"].as_str().expect("a name").to_owned()).collect()
}

/// A stack with a container in this network.
fn container(network: &str) -> String {
    format!("[service.web]\ncommand = [\"x\"]\n[service.web.container]\nrootfs = \"/\"\nnetwork = \"{network}\"\n")
}

#[test]
fn a_network_stays_over_a_crash_and_goes_when_asked() {
    let Some(mut node) = node() else { return };
    let refused = node.cli(&["network", "create", "blue"]).code(1);
    assert!(refused.err().contains("hostler network rm blue"), "{}", refused.err());
    node.kill_and_start();
    assert_eq!(names(&node), ["blue"]);
    let view = &node.cli(&["network", "inspect", "blue"]).json()[0];
    let subnet = view["bridge"]["subnet"].as_str().expect("chosen").to_owned();
    let refused = node.cli(&["network", "create", "red", "--subnet", &subnet]).code(1);
    assert!(refused.err().contains("blue"), "{}", refused.err());
    let body = r#"{"name":"red","spec":{"mtu":5}}"#;
    node.http("POST", "/v1/networks", &[], body.as_bytes()).problem(ProblemKind::InvalidSpec);
    node.http("POST", "/v1/networks", &[], br#"{"name":"host"}"#).problem(ProblemKind::InvalidSpec);
    node.http("POST", "/v1/networks", &[], br#"{"name":"red","colour":1}"#).problem(ProblemKind::MalformedRequest);
    node.http("GET", "/v1/networks/red", &[], b"").problem(ProblemKind::NotFound);
    node.http("DELETE", "/v1/networks/red", &[], b"").problem(ProblemKind::NotFound);
    node.http("GET", "/v1/networks/a%2Fb", &[], b"").problem(ProblemKind::MalformedRequest);
    let pools = node.cli(&["--json", "pool", "ls"]).json();
    assert_eq!(pools["networks"][0]["name"], "blue", "{pools}");
    assert!(pools["process"]["target"].is_number(), "{pools}");
    assert_eq!(node.cli(&["network", "rm", "blue"]).ok(), "blue");
    assert!(names(&node).is_empty());
    let told: Vec<_> = node
        .journal()
        .into_iter()
        .filter_map(|view| match view.event.kind {
            EventKind::NetworkCreated { network } => Some(format!("+{}", network.name)),
            EventKind::NetworkRemoved { network } => Some(format!("-{}", network.name)),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["+blue", "-blue"]);
    let events = node.cli(&["events", "--no-follow", "--filter", "type=network.created"]).ok();
    assert!(events.contains(&format!("network blue: {subnet}")), "{events}");
    node.finish();
}

#[test]
fn networks_that_are_made_at_once_get_ranges_of_their_own() {
    let Some(node) = node() else { return };
    let numbers: Vec<_> = (0..6).map(|number| format!("n{number}")).collect();
    std::thread::scope(|scope| {
        let made: Vec<_> =
            numbers.iter().map(|name| scope.spawn(|| node.cli(&["network", "create", name]).ok())).collect();
        made.into_iter().for_each(|made| drop(made.join().expect("made")));
    });
    let list = node.cli(&["--json", "network", "ls"]).json();
    let subnets: BTreeSet<_> =
        list.as_array().expect("a list").iter().map(|network| network["bridge"]["subnet"].to_string()).collect();
    assert_eq!(subnets.len(), 7, "{list}");
    let names: Vec<_> = numbers.iter().map(String::as_str).chain(["blue"]).collect();
    node.cli(&[&["network", "rm"][..], &names].concat()).ok();
    node.finish();
}

#[test]
fn who_names_a_network_that_is_not_there_is_told_how_to_make_it() {
    let Some(node) = node() else { return };
    let refused = node.cli(&["run", "-d", "--rootfs", "/", "--network", "red", "--", "x"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err().contains("hostler network create red"), "{}", refused.err());
    assert!(node.all().is_empty(), "nothing was made");
    node.cli(&["network", "rm", "blue"]).ok();
    node.finish();
}

#[test]
fn nobody_but_the_owner_makes_or_removes_networks() {
    let Some(node) = node() else { return };
    for arguments in [&["network", "create", "red"][..], &["network", "rm", "blue"]] {
        let refused = node.command(arguments).uid(NOBODY).run().code(1);
        assert!(refused.err().contains("owner"), "{arguments:?}: {}", refused.err());
    }
    let list = node.command(&["--json", "network", "ls"]).uid(NOBODY).run().json();
    assert_eq!(list, serde_json::json!([]), "he sees those of his own namespace");
    node.command(&["network", "inspect", "blue"]).uid(NOBODY).run().code(1);
    node.cli(&["--namespace", "u65534", "network", "create", "his"]).ok();
    let list = node.command(&["--json", "network", "ls"]).uid(NOBODY).run().json();
    assert_eq!(list[0]["name"], "his");
    let all = node.cli(&["--namespace", "*", "network", "ls"]).ok();
    assert!(all.contains("NAMESPACE") && all.contains("his") && all.contains("blue"), "{all}");
    let stack = node.root().join("theirs.toml");
    std::fs::write(&stack, "[network.red]\n[job.a]\ncommand = \"true\"\n").expect("write");
    let told = node.command(&["stack", "apply", stack.to_str().expect("text")]).uid(NOBODY).run();
    assert!(told.err().contains("network.red: ") && told.err().contains("owner"), "{}", told.err());
    std::fs::remove_file(stack).expect("rm");
    node.cli(&["--namespace", "u65534", "network", "rm", "his"]).ok();
    node.cli(&["network", "rm", "blue"]).ok();
    node.finish();
}

#[test]
fn a_stacks_networks_come_and_go_with_it() {
    let Some(node) = node() else { return };
    let file = node.root().join("shop.toml");
    let path = file.to_str().expect("text").to_owned();
    let write = |networks: &str, unit: &str| std::fs::write(&file, format!("{networks}{unit}")).expect("write");
    let apply = || node.cli(&["stack", "apply", &path]);
    write("[network.shop]\n[network.vault]\ninternal = true\n", "[job.a]\ncommand = \"true\"\n");
    let diff = node.cli(&["stack", "diff", &path]).ok();
    assert!(diff.contains("+ network shop") && diff.contains("+ network vault"), "{diff}");
    apply().ok();
    assert_eq!(names(&node), ["blue", "shop", "vault"]);
    let refused = node.cli(&["network", "rm", "shop"]).code(1);
    assert!(refused.err().contains("hostler stack down shop"), "{}", refused.err());
    // What it describes no longer goes; what was there before it and differs stays what it is.
    write("[network.shop]\n[network.blue]\ninternal = true\n", "[job.a]\ncommand = \"true\"\n");
    let told = apply();
    assert!(told.err().contains("network.blue: is there already and differs"), "{}", told.err());
    assert_eq!(names(&node), ["blue", "shop"]);
    // A unit in a network that is not there fails with what to do about it.
    write("", &container("green"));
    let told = apply();
    let seen = format!("{}{}", told.out(), told.err());
    let tree = node.cli(&["stack", "ls"]).out() + &node.cli(&["--json", "stack", "ls"]).out() + &seen;
    assert!(tree.contains("hostler network create green"), "{tree}");
    assert_eq!(names(&node), ["blue"]);
    node.cli(&["stack", "down", "shop"]).ok();
    std::fs::remove_file(file).expect("rm");
    node.cli(&["network", "rm", "blue"]).ok();
    node.finish();
}
