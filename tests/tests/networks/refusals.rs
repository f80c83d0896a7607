//! What is refused, and how.

use hostler_model::ProblemKind;
use hostler_tests::container::Oci;
use hostler_tests::{Machine, Setup, is_root, skip, with_each_oci_runtime};

use super::Yard;

with_each_oci_runtime! {
    networks_in_use_stay,
    what_makes_no_sense,
}

fn networks_in_use_stay(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    yard.network(&["blue"]);
    yard.sleeper("one", &["--network", "blue"]);
    yard.cli(&["network", "rm", "blue"]).refused(1, "one");
    yard.cli(&["stop", "-t", "0s", "one"]).ok();
    yard.cli(&["network", "rm", "blue"]).ok();
    yard.cli(&["start", "one"]).refused(1, "hostler network create blue");
    // A new one of this name does as well.
    yard.network(&["blue"]);
    yard.cli(&["start", "one"]).ok();
    yard.seat("one");
    yard.finish();
}

fn what_makes_no_sense(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    yard.network(&["blue", "--subnet", "10.5.0.0/24"]);
    yard.machine.ip("addr add 172.30.1.1/24 dev lo");
    let rows: [(&[&str], &str); 6] = [
        (&["red", "--subnet", "10.5.0.128/25"], "10.5.0.0/24 of network blue"),
        (&["red", "--subnet", "172.30.0.0/16"], "172.30.1.0/24"),
        (&["red", "--subnet", "10.6.0.0/24", "--gateway", "10.7.0.1"], "10.7.0.1"),
        (&["red", "--subnet", "10.6.0.0/31"], "10.6.0.0/31"),
        (&["red", "--mtu", "50"], "mtu"),
        (&["blue"], "blue"),
    ];
    for (arguments, words) in rows {
        let refused = yard.cli(&[&["network", "create"], arguments].concat());
        assert!(matches!(refused.code, 1 | 2) && refused.err().contains(words), "{arguments:?}: {}", refused.err());
    }
    let rows: [(&[&str], &str); 7] = [
        (&["--network", "green"], "hostler network create green"),
        (&["--network", "blue,ip=10.6.0.1"], "10.6.0.1"),
        (&["--network", "blue,ip=10.5.0.1"], "10.5.0.1"),
        (&["--network", "blue,ip6=fd00::1"], "fd00::1"),
        (&["--network", "blue", "-p", "0:80"], "0:80"),
        (&["--network", "none", "-p", "80:80"], "publish"),
        (&["-p", "80:80"], "publish"),
    ];
    for (options, words) in rows {
        let refused = yard.run(options, &["true"]);
        assert!(matches!(refused.code, 2 | 125) && refused.err().contains(words), "{options:?}: {}", refused.err());
    }
    yard.settled("blue", 0, 0);
    yard.sleeper("has", &["--network", "blue,ip=10.5.0.7"]);
    yard.run(&["--network", "blue,ip=10.5.0.7"], &["true"]).refused(125, "10.5.0.7 is in use");
    yard.finish();
}

#[test]
fn a_node_without_root_has_no_networks() {
    const NOBODY: u32 = 65_534;
    if !is_root() {
        return skip("playing another user needs root");
    }
    let Some(machine) = Machine::new() else { return };
    let node = Setup::new().on(&machine).uid(NOBODY).start();
    let as_nobody = |arguments: &[&str]| node.command(arguments).uid(NOBODY).run();
    as_nobody(&["network", "create", "blue"]).refused(1, "root");
    node.http("POST", "/v1/networks", &[], br#"{"name":"blue"}"#).problem(ProblemKind::Forbidden);
    assert_eq!(as_nobody(&["--json", "network", "ls"]).json(), serde_json::json!([]));
    as_nobody(&["run", "--rootfs", "/", "--network", "blue", "--", "true"]).code(125);
    let report = as_nobody(&["--json", "doctor"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let networks = checks.iter().find(|check| check["name"] == "networks").unwrap_or_else(|| panic!("{report}"));
    assert!(networks["status"] != "ok" && networks.to_string().contains("not root"), "{networks}");
    assert!(machine.links().iter().all(|link| link == "lo" || !link.starts_with('h')), "{:?}", machine.links());
    node.finish();
}
