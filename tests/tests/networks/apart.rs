//! What must not be reached, and who must not touch whose.

use std::net::SocketAddr;

use hostler_tests::container::Oci;
use hostler_tests::{Machine, Setup, machine, with_each_oci_runtime};

use super::{Speaker, Yard, deaf, fetch, gateway, hear, ip4, ip6, netns};

with_each_oci_runtime! {
    networks_of_one_node,
    networks_of_different_callers,
    the_machine_is_not_reached,
    two_nodes_on_one_machine,
}

/// Any caller who does not own the node.
const OTHER: u32 = 4_242;

fn networks_of_one_node(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    yard.network(&["blue", "--ipv6"]);
    yard.network(&["red", "--ipv6"]);
    yard.network(&["vault", "--internal"]);
    let blue = yard.web("in-blue", &["--network", "blue"]);
    let near = yard.sleeper("near", &["--network", "blue"]);
    let red = yard.web("in-red", &["--network", "red"]);
    let vault = yard.web("in-vault", &["--network", "vault"]);
    let close = yard.sleeper("close", &["--network", "vault"]);
    let alone = |name: &str| {
        let pid = yard.detach(name, &[], "exec sleep 600");
        std::path::PathBuf::from(format!("/proc/{pid}/ns/net"))
    };
    let none = alone("none");
    for (from, to) in [(&red, &blue), (&blue, &red), (&vault, &blue), (&blue, &vault), (&red, &vault)] {
        deaf(&netns(from), SocketAddr::new(ip4(to).into(), 80), "it is in another network");
    }
    for (from, to) in [(&red, &blue), (&blue, &red)] {
        let _speaker = Speaker::new(&netns(to), SocketAddr::new(ip6(to).into(), 8000), "six");
        deaf(&netns(from), SocketAddr::new(ip6(to).into(), 8000), "it is in another network");
    }
    for to in [&blue, &red, &vault] {
        deaf(&none, SocketAddr::new(ip4(to).into(), 80), "none is in no network");
    }
    assert_eq!(fetch(&netns(&near), SocketAddr::new(ip4(&blue).into(), 80)).as_deref(), Ok("in-blue"));
    assert_eq!(fetch(&netns(&close), SocketAddr::new(ip4(&vault).into(), 80)).as_deref(), Ok("in-vault"));
    {
        let _speaker = Speaker::new(&netns(&blue), SocketAddr::new(ip6(&blue).into(), 8000), "six");
        assert_eq!(hear(&netns(&near), SocketAddr::new(ip6(&blue).into(), 8000)).as_deref(), Ok("six"));
    }
    for (from, name) in [("in-blue", "in-red"), ("in-red", "near"), ("close", "near"), ("near", "close")] {
        assert!(yard.resolve(from, name).is_empty(), "{from} finds {name}");
    }
    // Who adds a way by himself gets no further.
    let way = |from: &hostler_model::network::RunNetwork, to: &hostler_model::network::RunNetwork| {
        let (bridge, to) = (gateway_of(&yard, &from.network.to_string()), ip4(to).to_string());
        machine::inside(&netns(from), || {
            let done = std::process::Command::new("ip").args(["route", "add", &to, "via", &bridge]).output();
            assert!(done.expect("ip").status.success());
        });
    };
    way(&vault, &blue);
    deaf(&netns(&vault), SocketAddr::new(ip4(&blue).into(), 80), "an internal network sends nothing");
    yard.finish();
}

fn gateway_of(yard: &Yard, network: &str) -> String {
    let view = yard.cli(&["network", "inspect", network]).json();
    view[0]["bridge"]["gateway"].as_str().expect("a gateway").to_owned()
}

fn networks_of_different_callers(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    let theirs = format!("u{OTHER}");
    yard.network(&["blue"]);
    yard.cli(&["--namespace", &theirs, "network", "create", "blue"]).ok();
    let own = yard.web("own", &["--network", "blue"]);
    let rootfs = yard.rootfs().display().to_string();
    let run = ["--namespace", &theirs, "run", "-d", "--name", "theirs", "--oci-runtime", oci.name, "--rootfs", &rootfs];
    yard.cli(&[&run[..], &["--network", "blue", "--", "sleep", "600"]].concat()).ok();
    let view = yard.cli(&["--namespace", &theirs, "inspect", "theirs"]).json();
    let seat: hostler_model::network::RunNetwork =
        serde_json::from_value(view[0]["network"].clone()).expect("its place");
    deaf(&netns(&seat), SocketAddr::new(ip4(&own).into(), 80), "it is another caller's network of the same name");
    let speaker = Speaker::new(&netns(&seat), SocketAddr::new(ip4(&seat).into(), 80), "theirs");
    deaf(&netns(&own), SocketAddr::new(ip4(&seat).into(), 80), "it is another caller's network of the same name");
    drop(speaker);
    assert!(yard.resolve("own", "theirs").is_empty());
    // He sees his own, makes none, and attaches to none of the owner's.
    let as_other = |arguments: &[&str]| yard.command(arguments).uid(OTHER).run();
    let list = as_other(&["--json", "network", "ls"]).json();
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list[0]["namespace"], theirs.as_str(), "{list}");
    as_other(&["network", "create", "red"]).refused(1, "owner");
    as_other(&["network", "rm", "blue"]).refused(1, "owner");
    as_other(&["--namespace", "default", "network", "inspect", "blue"]).code(1);
    let pools = as_other(&["--json", "pool", "ls"]);
    assert!(!pools.out().contains("default"), "{}", pools.out());
    yard.cli(&["--namespace", &theirs, "rm", "-f", "theirs"]).ok();
    yard.finish();
}

fn the_machine_is_not_reached(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    let here = yard.machine.path();
    yard.machine.ip("addr add 192.0.2.1/32 dev lo");
    yard.network(&["blue"]);
    let seat = yard.sleeper("one", &["--network", "blue"]);
    let to = gateway(&seat);
    let local = Speaker::new(&here, ([127, 0, 0, 1], 7_000), "local");
    assert_eq!(hear(&here, local.address).as_deref(), Ok("local"));
    deaf(&netns(&seat), SocketAddr::new(to, 7_000), "it listens at the machine's loopback device only");
    deaf(&netns(&seat), local.address, "its own loopback device is not the machine's");
    // With a way of its own making and rights to use it as well.
    let admin = yard.sleeper("admin", &["--network", "blue", "--cap-add", "NET_ADMIN"]);
    let script = format!("ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1/32 via {to} dev eth0");
    let done = yard.exec("admin", &script);
    assert_eq!(done.code, 0, "{}", done.err());
    yard.exec("admin", "ip route del local 127.0.0.1 table local");
    machine::inside(&netns(&admin), || {
        // What a workload cannot set in its read-only /proc/sys is set for it here.
        for interface in ["eth0", "all"] {
            let file = format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet");
            std::fs::write(&file, "1").unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    });
    deaf(&netns(&admin), local.address, "packets to 127.0.0.1 are dropped at the bridge");
    // What listens at an address of the machine is reached as from any other machine.
    let open = Speaker::new(&here, ([192, 0, 2, 1], 7_001), "open");
    assert_eq!(hear(&netns(&seat), open.address).as_deref(), Ok("open"));
    drop((local, open));
    yard.finish();
}

fn two_nodes_on_one_machine(oci: Oci) {
    let Some(machine) = Machine::new() else { return };
    let one = Yard::on(oci, &machine, Setup::new().config("[pool.network.blue]\nidle = 1\n"));
    let two = Yard::on(oci, &machine, Setup::new().config("[pool.network.blue]\nidle = 1\n"));
    one.network(&["blue"]);
    two.network(&["blue"]);
    let first = one.web("web", &["--network", "blue", "-p", "8080:80"]);
    let second = two.web("web2", &["--network", "blue", "-p", "8081:80"]);
    let near = two.sleeper("near", &["--network", "blue"]);
    let subnets = [&one, &two].map(|yard| yard.cli(&["network", "inspect", "blue"]).json()[0]["bridge"].to_string());
    assert_ne!(subnets[0], subnets[1], "each has a range of its own");
    let overlapping =
        two.cli(&["network", "inspect", "blue"]).json()[0]["bridge"]["subnet"].as_str().map(str::to_owned);
    one.cli(&["network", "create", "red", "--subnet", &overlapping.expect("a range")]).refused(1, "overlaps");
    deaf(&netns(&first), SocketAddr::new(ip4(&second).into(), 80), "it is another node's");
    deaf(&netns(&second), SocketAddr::new(ip4(&first).into(), 80), "it is another node's");
    one.run(&["--network", "blue", "-p", "8081:80"], &["true"]).refused(125, "in use");
    let here = machine.path();
    let both = || {
        let fetched = |port: u16| fetch(&here, ([127, 0, 0, 1], port)).ok();
        (fetched(8080), fetched(8081))
    };
    assert_eq!(both(), (Some("web".to_owned()), Some("web2".to_owned())));
    let tag = two.tag().expect("a tag").to_owned();
    let of_two = || {
        let mark = format!("h{tag}");
        let mut all: Vec<_> = machine.links().into_iter().chain(machine::namespaces()).collect();
        all.extend(machine::tables(Some(&machine.path())));
        all.retain(|name| name.starts_with(&mark));
        all.sort();
        all
    };
    two.settled("blue", 1, 2);
    let before = of_two();
    assert!(before.len() > 7, "{before:?}");
    one.finish();
    assert_eq!(of_two(), before);
    assert_eq!(both(), (None, Some("web2".to_owned())));
    assert_eq!(fetch(&netns(&near), SocketAddr::new(ip4(&second).into(), 80)).as_deref(), Ok("web2"));
    two.finish();
}
