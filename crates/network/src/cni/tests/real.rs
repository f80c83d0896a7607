//! The plugins that distributions have, in a network namespace and a mount namespace that are gone after the test.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use hostler_model::network::{Protocol, Publish};
use serde_json::json;

use super::{is_file, myself};
use crate::cni::{Call, List, Wishes, add, check, del, found};

const PLUGINS: &str = "/usr/lib/cni";
/// Lists of this version are asked whether all is there.
const CHECKED: &str = "0.4.0";
const NEEDED: [&str; 6] = ["bandwidth", "bridge", "host-local", "loopback", "portmap", "tuning"];

#[test]
fn real_plugins() {
    let there = found(&[PathBuf::from(PLUGINS)]);
    if let Some(missing) = NEEDED.iter().find(|name| !there.iter().any(|one| one == *name)) {
        return println!("skipped: no CNI plugin {missing} in {PLUGINS}");
    }
    for (program, argument) in [("ip", "-V"), ("iptables", "-V")] {
        if !Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success()) {
            return println!("skipped: no {program}");
        }
    }
    if !Command::new("unshare").args(["-n", "-m", "true"]).status().is_ok_and(|status| status.success()) {
        return println!("skipped: no namespaces can be made here (not root)");
    }
    let output = Command::new("unshare")
        .args(["-n", "-m"])
        .args(myself("cni::tests::real::within_namespaces_of_its_own"))
        .output()
        .expect("run myself");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    println!("{told}");
}

fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {told}{}", String::from_utf8_lossy(&output.stderr));
    told
}

fn bridge_list(version: &str, leases: &Path) -> List {
    let ranges = json!([[{ "subnet": "10.77.0.0/28" }], [{ "subnet": "fd77::/64" }]]);
    let ipam = json!({ "type": "host-local", "dataDir": leases, "ranges": ranges, "routes": [{ "dst": "0.0.0.0/0" }] });
    let mut plugins = json!([
        { "type": "bridge", "bridge": "hostlertest0", "isGateway": true, "ipMasq": true, "ipam": ipam,
          "dns": { "nameservers": ["10.77.0.1"] }, "capabilities": { "ips": true } },
        { "type": "portmap", "capabilities": { "portMappings": true } },
        { "type": "tuning", "capabilities": { "mac": true }, "sysctl": { "net.core.somaxconn": "77" } },
        { "type": "bandwidth", "capabilities": { "bandwidth": true } },
    ]);
    if version == CHECKED {
        // CHECK of portmap 1.1.1 misses, among the rules of IPv6, those that are of IPv4 only.
        plugins.as_array_mut().expect("an array").remove(1);
    }
    let list = json!({ "cniVersion": version, "name": "real", "disableCheck": version != CHECKED, "plugins": plugins });
    List::parse(&list.to_string()).expect("a list")
}

fn leases_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("real")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.parse::<IpAddr>().is_ok()).collect();
    names.sort_unstable();
    names
}

#[test]
#[ignore = "run by another test, in namespaces that it has made"]
fn within_namespaces_of_its_own() {
    // Mount points, locks and what plugins keep in /run are gone with the mount namespace.
    run("mount -t tmpfs tmpfs /run && ip link set lo up");
    let dir = tempfile::tempdir().expect("temp dir");
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        attached_and_detached(version, dir.path());
    }
    after_a_reboot(dir.path());
    exhausted(dir.path());
    too_new(dir.path());
    loopback_alone(dir.path());
    assert_eq!(leases_in(&dir.path().join("leases")), [""; 0]);
    let left =
        run("ip -o link | grep -v -e ' lo:' -e hostlertest0 || true; iptables -t nat -S | grep CNI-[0-9a-f] || true");
    assert_eq!(left, "", "nothing is left but the bridge, which is the plugin's");
}

fn namespace(name: &str) -> PathBuf {
    run(&format!("ip netns add {name}"));
    Path::new("/run/netns").join(name)
}

fn call<'a>(netns: &'a Path, path: &'a [PathBuf], cache: &'a Path) -> Call<'a> {
    let container = netns.file_name().and_then(|name| name.to_str()).expect("a name");
    Call { container, netns, interface: "eth0", path, deadline_ms: 60_000, cache, wishes: Wishes::default() }
}

fn attached_and_detached(version: &str, dir: &Path) {
    let (leases, cache, path) = (dir.join("leases"), dir.join("one"), [PathBuf::from(PLUGINS)]);
    let netns = namespace("hostler-cni-one");
    let wishes = Wishes {
        port_mappings: vec![Publish { host: None, host_port: 8_077, port: 80, protocol: Protocol::Tcp }],
        ips: vec![IpAddr::from([10, 77, 0, 9])],
        mac: Some("02:00:00:00:00:77".to_owned()),
        rate_bytes_per_s: Some(1_000_000),
        ..Wishes::default()
    };
    let list = bridge_list(version, &leases);
    let call = Call { wishes, ..call(&netns, &path, &cache) };
    let outcome = add(&list, &call).expect("added");
    assert_eq!(outcome.first_ip4(), Some([10, 77, 0, 9].into()), "the address that was wished");
    assert!(outcome.first_ip6().is_some());
    assert_eq!(outcome.mac("eth0"), Some("02:00:00:00:00:77"));
    assert_eq!(outcome.dns.nameservers, ["10.77.0.1"]);
    assert_eq!(outcome.routes[0].prefix, 0);
    let inside =
        run("ip -n hostler-cni-one addr show eth0; ip netns exec hostler-cni-one cat /proc/sys/net/core/somaxconn");
    assert!(
        inside.contains("10.77.0.9/28") && inside.contains("02:00:00:00:00:77") && inside.contains("\n77\n"),
        "{inside}"
    );
    assert_eq!(run("iptables -t nat -S").contains("8077"), version != CHECKED);
    assert!(run("tc qdisc").contains("tbf"));
    assert_eq!(leases_in(&leases).len(), outcome.ips.len());
    check(&call).expect("still there");
    run("ip netns exec hostler-cni-one sh -c 'echo 78 >/proc/sys/net/core/somaxconn'");
    let told = check(&call);
    assert_eq!(told.is_err(), version == CHECKED, "it is seen that something is not as it was: {told:?}");
    del(&call).expect("undone");
    assert_eq!(leases_in(&leases), [""; 0]);
    assert!(!run("iptables -t nat -S").contains("8077"));
    assert_eq!(run("ip -n hostler-cni-one -o link | grep -v ' lo:' || true"), "");
    assert!(!is_file(&cache));
    run("ip netns del hostler-cni-one");
}

/// The namespace is gone, the lease is not.
fn after_a_reboot(dir: &Path) {
    let (leases, cache, path) = (dir.join("leases"), dir.join("two"), [PathBuf::from(PLUGINS)]);
    let netns = namespace("hostler-cni-two");
    let call = call(&netns, &path, &cache);
    add(&bridge_list("1.0.0", &leases), &call).expect("added");
    // Without the namespace, bridge 1.1.1 does not take its rules away; a reboot does.
    run(
        "ip netns del hostler-cni-two; iptables -t nat -F; iptables -t nat -X; ip6tables -t nat -F; ip6tables -t nat -X",
    );
    assert_eq!(leases_in(&leases).len(), 2);
    del(&call).expect("undone");
    assert_eq!(leases_in(&leases), [""; 0]);
}

/// Of a range with one address the second who asks is told why he gets none, and leaves nothing.
fn exhausted(dir: &Path) {
    let (leases, path) = (dir.join("leases"), [PathBuf::from(PLUGINS)]);
    let range = json!([[{ "subnet": "10.77.0.0/28", "rangeStart": "10.77.0.5", "rangeEnd": "10.77.0.5" }]]);
    let list = json!({
        "cniVersion": "1.0.0", "name": "real", "type": "bridge", "bridge": "hostlertest0",
        "ipam": { "type": "host-local", "dataDir": leases, "ranges": range },
    });
    let list = List::parse(&list.to_string()).expect("a list");
    let (one, two) = (namespace("hostler-cni-three"), namespace("hostler-cni-four"));
    let (first, second) = (dir.join("three"), dir.join("four"));
    add(&list, &call(&one, &path, &first)).expect("added");
    let told = add(&list, &call(&two, &path, &second)).expect_err("full").to_string();
    println!("{told}");
    assert!(told.starts_with("the CNI plugin bridge says: ") && told.contains("no IP addresses available"), "{told}");
    assert!(!is_file(&second));
    del(&call(&one, &path, &first)).expect("undone");
    add(&list, &call(&two, &path, &second)).expect("there is room again");
    del(&call(&two, &path, &second)).expect("undone");
    run("ip netns del hostler-cni-three; ip netns del hostler-cni-four");
}

/// Plugins that do not speak 1.1.0 say so; those that do are as fine.
fn too_new(dir: &Path) {
    let (cache, path) = (dir.join("five"), [PathBuf::from(PLUGINS)]);
    let netns = namespace("hostler-cni-five");
    let list = List::parse(r#"{"cniVersion":"1.1.0","name":"real","type":"loopback"}"#).expect("a list");
    let call = Call { interface: "lo", ..call(&netns, &path, &cache) };
    match add(&list, &call) {
        Ok(_) => del(&call).expect("undone"),
        Err(error) => {
            println!("{error}");
            assert!(error.to_string().contains("incompatible CNI versions"), "{error}");
            assert!(!is_file(&cache), "what takes no part has made nothing");
        }
    }
    run("ip netns del hostler-cni-five");
}

fn loopback_alone(dir: &Path) {
    let (cache, path) = (dir.join("six"), [PathBuf::from(PLUGINS)]);
    let netns = namespace("hostler-cni-six");
    let list = List::parse(r#"{"cniVersion":"0.4.0","name":"real","type":"loopback"}"#).expect("a list");
    let call = Call { interface: "lo", ..call(&netns, &path, &cache) };
    add(&list, &call).expect("added");
    assert!(run("ip -n hostler-cni-six link show lo").contains("UP"));
    check(&call).expect("up");
    del(&call).expect("undone");
    run("ip netns del hostler-cni-six");
}
