//! Virtual machines in networks of the node, with real guests: what a container has there they have too, and nothing of them is
//! left. A boot costs a second or more, so much is asked of few guests.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use hostler_model::network::RunNetwork;
use hostler_model::workload::RunState;
use hostler_tests::container::{self, program};
use hostler_tests::{Output, PATIENCE, Setup, guest, machine, signal, skip, until, until_gone};

use super::{PROGRAMS, Yard, addresses, deaf, fetch, ip4, ip6, netns};

/// A test on a node that has guests, and containers by whichever OCI runtime there is.
fn with_guests(config: &str, test: impl FnOnce(Yard)) {
    let Some(guests) = guest::config() else { return };
    if !Path::new("/dev/net/tun").exists() {
        return skip("there is no /dev/net/tun, by which guests are in networks");
    }
    let oci = if program("runc").is_some() { "runc" } else { "crun" };
    let config = format!("{config}{guests}");
    container::with(oci, |oci| {
        if let Some(yard) = Yard::with(oci, Setup::new().config(&config)) {
            test(yard);
        }
    });
}

impl Yard {
    /// `hostler run --vm` with these options, of this script.
    fn guest(&self, options: &[&str], script: &str) -> Output {
        self.cli(&[&["run", "--vm"], options, &["--", "sh", "-c", script]].concat())
    }

    /// A guest that tells its name to whoever asks for `/name` at port 80.
    fn guest_web(&self, name: &str, options: &[&str]) -> RunNetwork {
        let script = format!("mkdir /srv; echo {name} >/srv/name; exec httpd -f -p 80 -h /srv");
        self.guest(&[&["-d", "--name", name], options].concat(), &script).ok();
        self.main_pid(name);
        let seat = self.seat(name);
        self.until_served(&seat);
        seat
    }

    /// Waits until a guest answers at port 80: to the machine, which is in all its networks.
    fn until_served(&self, seat: &RunNetwork) {
        let (here, address) = (self.machine.path(), SocketAddr::new(ip4(seat).into(), 80));
        until(&format!("an answer of {address}"), PATIENCE, || fetch(&here, address).ok());
    }

    /// What a web server says of its name, asked by a guest.
    fn ask(&self, from: &str, address: impl Into<SocketAddr>) -> String {
        let address = address.into();
        let told = self.exec(from, &format!("busybox timeout 5 wget -q -O - http://{address}/name"));
        if told.code == 0 { told.out().trim().to_owned() } else { format!("nothing: {}", told.err()) }
    }

    /// Addresses of a name, as a guest is told. Its clock may be coarse, and two questions of the same moment have the same
    /// number: they are asked one after the other.
    fn resolve_in_guest(&self, from: &str, name: &str) -> Vec<IpAddr> {
        let of = |kind: &str| addresses(&self.exec(from, &format!("nslookup -type={kind} {name}")).out(), name);
        ["a", "aaaa"].into_iter().flat_map(of).collect()
    }

    fn gateways(&self, network: &str) -> (IpAddr, Option<IpAddr>) {
        let view = self.cli(&["network", "inspect", network]).json();
        let of = |key: &str| view[0]["bridge"][key].as_str().map(|text| text.parse().expect("an address"));
        (of("gateway").expect("one"), of("gateway6"))
    }

    /// Nothing of a guest's place is left, and nobody else's has changed.
    fn until_set_ups(&self, network: &str, idle: u32, occupied: u32, case: &str) {
        self.settled(network, idle, occupied);
        self.assert_setups((idle + occupied) as usize, case);
    }
}

fn qdisc(path: &Path, link: &str) -> String {
    machine::inside(path, || {
        let done = std::process::Command::new("tc").args(["qdisc", "show", "dev", link]).output().expect("tc");
        String::from_utf8_lossy(&done.stdout).into_owned()
    })
}

#[test]
fn guests_are_in_networks_as_containers_are() {
    with_guests("[pool.network.blue]\nidle = 1\n", |mut yard| {
        let here = yard.machine.path();
        yard.network(&["blue", "--ipv6", "--mtu", "1400"]);
        let one = yard.web("one", &[&["--network", "blue"][..], &PROGRAMS].concat());
        yard.settled("blue", 1, 1);
        let options = ["--network", "blue,alias=db,rate=1M", "-p", "8080:80", "--hostname", "host"];
        let seat = yard.guest_web("guest", &options);
        // What it reads and sees.
        let hosts = yard.exec("guest", "cat /etc/hosts; hostname").ok();
        for address in [ip4(&seat).to_string(), ip6(&seat).to_string()] {
            assert!(hosts.contains(&format!("{address}\thost guest db")), "{hosts}");
        }
        let (gateway, gateway6) = yard.gateways("blue");
        let gateway6 = gateway6.expect("it has IPv6");
        assert_eq!(
            yard.exec("guest", "cat /etc/resolv.conf").ok(),
            format!("nameserver {gateway}\nsearch .\noptions ndots:0")
        );
        let shown = yard.exec("guest", "ip addr show eth0; ip route; ip -6 route").ok();
        for words in [
            "mtu 1400",
            seat.mac.as_deref().expect("a hardware address"),
            &format!("{}/24", ip4(&seat)),
            &format!("{}/64", ip6(&seat)),
            &format!("default via {gateway} "),
            &format!("default via {gateway6} "),
        ] {
            assert!(shown.contains(words), "{words} in {shown}");
        }
        // Whom it reaches, by addresses of both kinds and by names.
        yard.exec("guest", &format!("ping -c 1 -w 5 {gateway} && ping -c 1 -w 5 {gateway6}")).ok();
        yard.exec("guest", "ping -c 1 -w 5 one").ok();
        assert_eq!(yard.resolve_in_guest("guest", "one"), [IpAddr::from(ip4(&one)), ip6(&one).into()]);
        assert_eq!(yard.ask("guest", (ip4(&one), 80)), "one");
        assert_eq!(yard.ask("guest", (ip6(&one), 80)), "one");
        assert_eq!(yard.ask("guest", (gateway, 8080)), "guest", "itself, by its published port");
        // Who reaches it.
        for host in ["guest", "db", &ip4(&seat).to_string(), &ip6(&seat).to_string()] {
            assert_eq!(yard.fetch("one", host), "guest", "{host}");
        }
        assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("guest"));
        assert_eq!(fetch(&netns(&one), (gateway, 8080)).as_deref(), Ok("guest"));
        // More than a packet, both ways, at the rate that it has.
        let outer = netns(&seat).file_name().expect("a name").to_string_lossy().into_owned();
        for shown in [qdisc(&here, &outer), qdisc(&netns(&seat), "eth0")] {
            assert!(shown.contains("tbf") && shown.contains("rate 8388"), "{shown}");
        }
        yard.exec("guest", "dd if=/dev/zero of=/srv/large bs=1k count=600 2>/dev/null").ok();
        let large = format!("wget -q -O - http://{}/large | wc -c", ip4(&seat));
        assert_eq!(yard.exec("one", &large).ok(), "614400");
        // Who lists the network sees it; who wants to remove the network hears of it.
        let view = yard.cli(&["network", "inspect", "blue"]).ok();
        assert!(view.contains(&ip4(&seat).to_string()), "{view}");
        yard.cli(&["network", "rm", "blue"]).refused(1, "guest");
        // The next daemon knows it.
        yard.kill_and_start();
        let again = yard.seat("guest");
        assert_eq!((again.ip, again.ip6, again.problem), (seat.ip, seat.ip6, None));
        assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("guest"));
        assert_eq!(yard.fetch("one", "db"), "guest");
        let leases = machine::leases(yard.root());
        let lease = leases.iter().find(|(id, _)| *id == seat.setup.to_string()).expect("it has a lease");
        assert_eq!((&lease.1["user"]["tap_owner"], &lease.1["user"]["spoils"]), (&0.into(), &true.into()), "{lease:?}");
        // It leaves, and nobody else has its set-up.
        yard.end("guest");
        yard.until_set_ups("blue", 1, 1, "after its end");
        assert!(!netns(&seat).exists());
        assert!(yard.resolve("one", "guest").is_empty());
        deaf(&here, ([127, 0, 0, 1], 8080), "it is over");
        yard.finish();
    });
}

#[test]
fn guests_of_networks_are_apart() {
    with_guests("", |yard| {
        yard.network(&["blue", "--ipv6"]);
        yard.network(&["red"]);
        yard.network(&["vault", "--internal"]);
        let red = yard.web("red", &["--network", "red"]);
        let near = yard.web("near", &["--network", "vault"]);
        let blue = yard.guest_web("guest", &["--network", "blue"]);
        let vault = yard.guest_web("inner", &["--network", "vault"]);
        let other = yard.guest_web("second", &["--network", "blue"]);
        // Two guests of one network.
        assert_eq!(yard.ask("second", (ip4(&blue), 80)), "guest");
        assert_eq!(yard.ask("guest", (ip6(&other), 80)), "second");
        assert_eq!(yard.resolve_in_guest("guest", "second"), [IpAddr::from(ip4(&other)), ip6(&other).into()]);
        assert_eq!(yard.ask("inner", (ip4(&near), 80)), "near");
        assert!(!yard.exec("inner", "ip route").ok().contains("default"));
        for (from, to) in [("guest", &red), ("guest", &vault), ("inner", &red), ("inner", &blue)] {
            let told = yard.exec(from, &format!("busybox timeout 1 wget -q -O - http://{}/name", ip4(to)));
            assert_ne!(told.code, 0, "{from} reaches {}: {}", ip4(to), told.out());
        }
        // Nor by a way that it makes itself, being root on its machine.
        let (gateway, _) = yard.gateways("vault");
        let script =
            format!("ip route add default via {gateway}; busybox timeout 1 wget -q -O - http://{}/name", ip4(&red));
        assert_ne!(yard.exec("inner", &script).code, 0);
        for (from, to) in [(&red, &blue), (&red, &vault), (&near, &blue)] {
            deaf(&netns(from), SocketAddr::new(ip4(to).into(), 80), "it is in another network");
        }
        assert!(yard.resolve_in_guest("guest", "red").is_empty());
        // It is root on its machine, and cannot be somebody else in its network.
        let (gateway, gateway6) = yard.gateways("blue");
        let gateway6 = gateway6.expect("it has IPv6");
        let (four, six) = (ip4(&other), ip6(&other));
        let script = format!(
            "ping -c 1 -w 5 {gateway} && ping -c 1 -w 5 {gateway6} || exit 3
             ip addr add {four}/24 dev eth0; ip addr add {six}/64 dev eth0; sleep 0.2
             busybox timeout 3 ping -c 1 -w 1 -I {four} {gateway} && exit 4
             busybox timeout 3 ping -c 1 -w 1 -I {six} {gateway6} && exit 5
             ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:77; ip link set eth0 up
             busybox timeout 3 ping -c 1 -w 1 {gateway} && exit 6
             exit 0"
        );
        let told = yard.exec("guest", &script);
        assert_eq!(told.code, 0, "{}", told.out());
        assert_eq!(fetch(&yard.machine.path(), (six, 80)).as_deref(), Ok("second"));
        assert_eq!(fetch(&yard.machine.path(), (four, 80)).as_deref(), Ok("second"));
        yard.finish();
    });
}

#[test]
fn guests_have_the_addresses_that_they_ask_for() {
    with_guests("", |yard| {
        yard.network(&["blue", "--subnet", "10.5.6.0/24"]);
        let options =
            ["--network", "blue,ip=10.5.6.77", "-p", "8080:80", "--restart", "always", "--restart-delay", "10ms"];
        let seat = yard.guest_web("guest", &options);
        assert_eq!(ip4(&seat).to_string(), "10.5.6.77");
        yard.guest(&["--name", "late", "--network", "blue,ip=10.5.6.77"], "true").refused(125, "10.5.6.77 is in use");
        yard.guest(&["--name", "port", "--network", "blue", "-p", "8080:1"], "true").refused(125, "8080");
        // The program that makes it dies: its next run has the same place, with a tap of its own.
        signal(yard.main_pid("guest"), 9);
        until("the next run", PATIENCE, || (yard.inspect("guest").workload.runs == 2).then_some(()));
        yard.main_pid("guest");
        let again = yard.seat("guest");
        assert_eq!(again.ip, seat.ip);
        yard.until_served(&again);
        assert_eq!(fetch(&yard.machine.path(), ([127, 0, 0, 1], 8080)).as_deref(), Ok("guest"));
        yard.until_set_ups("blue", 0, 1, "after its machine died");
        yard.finish();
    });
}

#[test]
fn nothing_is_left_of_who_dies() {
    with_guests("[pool.network.blue]\nidle = 1\n", |mut yard| {
        yard.network(&["blue"]);
        yard.settled("blue", 1, 0);
        yard.guest_web("agent", &["--network", "blue", "-p", "8080:80"]);
        signal(yard.run_file("agent").agent.pid, 9);
        yard.ended("agent");
        yard.until_set_ups("blue", 1, 0, "its agent was killed");
        // Both, and the next daemon finds what is left.
        yard.guest_web("both", &["--network", "blue", "-p", "8080:80"]);
        let (vmm, agent) = (yard.main_pid("both"), yard.run_file("both").agent.pid);
        yard.kill();
        signal(agent, 9);
        until_gone(agent);
        until_gone(vmm);
        yard.start();
        assert!(matches!(yard.state_of("both"), RunState::Lost { .. }), "{:?}", yard.state_of("both"));
        yard.until_set_ups("blue", 1, 0, "agent and daemon were killed");
        // One that is taken back while it boots.
        yard.guest(&["-d", "--name", "early", "--network", "blue", "-p", "8080:80"], "sleep 600").ok();
        yard.cli(&["rm", "-f", "early"]).ok();
        yard.until_set_ups("blue", 1, 0, "it was removed while it booted");
        yard.guest_web("next", &["--network", "blue", "-p", "8080:80"]);
        yard.finish();
    });
}

/// At each step of taking a place for a guest, and of giving it back.
#[test]
fn the_daemon_dies_on_the_way() {
    with_guests("[pool.network.blue]\nidle = 1\n", |mut yard| {
        yard.network(&["blue"]);
        yard.settled("blue", 1, 0);
        for point in
            ["setup-taken", "setup-finished", "setup-released", "setup-unpublished", "setup-let-go", "setup-freed"]
        {
            yard.kill();
            yard.start_with(&[("HOSTLER_TEST_FAILPOINT", point)]);
            let run = ["run", "--vm", "--name", point, "--network", "blue", "-p", "8080:80", "--", "true"];
            let asking = yard.command(&run).spawn();
            let status = yard.wait_daemon_end();
            assert!(!status.success(), "{point}: {status}");
            yard.start();
            drop(asking.end());
            if yard.all().iter().any(|view| view.workload.name.as_str() == point) {
                yard.ended(point);
            }
            yard.until_set_ups("blue", 1, 0, point);
        }
        yard.guest_web("next", &["--network", "blue", "-p", "8080:80"]);
        yard.finish();
    });
}

#[test]
fn what_guests_cannot_have() {
    with_guests("", |yard| {
        yard.guest(&["--network", "green"], "true").refused(125, "hostler network create green");
        yard.guest(&["--network", "host"], "true").refused(125, "network");
        let list = yard.work().join("net.conflist");
        let text = r#"{"cniVersion":"1.0.0","name":"cni","plugins":[{"type":"bridge","bridge":"hx0","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}}]}"#;
        std::fs::write(&list, text).expect("a list");
        let made = yard.cli(&["network", "create", "cni", "--cni", list.to_str().expect("UTF-8")]);
        if made.code == 0 {
            yard.guest(&["--network", "cni"], "true").refused(125, "CNI plugins");
            yard.settled("cni", 0, 0);
        } else {
            skip("the CNI plugins bridge and host-local are not installed");
        }
        yard.assert_setups(0, "nothing was made");
        yard.finish();
    });
}
