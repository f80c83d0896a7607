//! Set-ups with real traffic.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use hostler_linux::netns;
use hostler_model::ids::{NodeTag, SetupId};
use hostler_model::network::{Bridge, NetworkRecord, NetworkSpec};

use super::{on_a_machine, record, tag};
use crate::netlink::Netlink;
use crate::setup::{self, Kind, Plan, Users};
use crate::{bridge, guest, names};

fn plan(tag: NodeTag, number: u8, record: &NetworkRecord, bridge: &Bridge, index: u32) -> Plan {
    Plan {
        tag,
        setup: SetupId::from_bytes([0, 0, 0, number]),
        kind: Kind::Container,
        ip: bridge.subnet.nth(number.into()),
        ip6: bridge.subnet6.map(|subnet6| subnet6.nth(number.into())),
        bridge: bridge.clone(),
        bridge_index: index,
        internal: record.spec.internal,
        mtu: bridge::mtu(record),
    }
}

fn inside<T: Send>(plan: &Plan, work: impl FnOnce() -> T + Send) -> T {
    netns::within(&names::namespace(plan.tag, plan.setup), work).expect("entered")
}

/// A word from one to the other.
fn talk(from: &Plan, to: &Plan, address: IpAddr) {
    let listener = inside(to, || TcpListener::bind(SocketAddr::new(address, 0)).expect("bound"));
    let address = listener.local_addr().expect("an address");
    let mut client =
        inside(from, move || TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("connected"));
    let (mut server, peer) = listener.accept().expect("accepted");
    assert!(peer.ip() == IpAddr::V4(from.ip) || Some(peer.ip()) == from.ip6.map(IpAddr::V6), "{peer}");
    client.write_all(b"hello").expect("sent");
    let mut heard = [0; 5];
    server.read_exact(&mut heard).expect("heard");
    assert_eq!(&heard, b"hello");
}

#[test]
fn two_talk_and_nothing_is_left() {
    let tag = tag();
    on_a_machine(|| {
        let (record, bridge) = record(NetworkSpec::default(), "10.0.0.0/24", Some("fd00::/64"));
        let index = bridge::ensure(tag, &record, &bridge).expect("a bridge");
        assert_eq!(bridge::ensure(tag, &record, &bridge).expect("again"), index);
        // The machine takes no routes from workloads, also where it takes some from others.
        let name = names::bridge(tag, record.id);
        for setting in ["accept_ra", "autoconf"] {
            let value =
                std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/{setting}")).expect("a setting");
            assert_eq!(value.trim(), "0", "{setting}");
        }
        let plans = [2, 3].map(|number| plan(tag, number, &record, &bridge, index));
        for plan in &plans {
            setup::make(plan).expect("made");
            assert_eq!(setup::flaw(plan, Users::None).expect("looked at"), None);
        }
        talk(&plans[0], &plans[1], plans[1].ip.into());
        talk(&plans[1], &plans[0], plans[0].ip6.expect("it has one").into());
        for plan in &plans {
            assert_eq!(setup::flaw(plan, Users::None).expect("looked at"), None, "what was said leaves no trace");
            setup::remove(tag, plan.setup).expect("removed");
            setup::remove(tag, plan.setup).expect("removed again");
            assert!(!names::namespace(tag, plan.setup).exists());
        }
        bridge::remove(tag, record.id).expect("removed");
        bridge::remove(tag, record.id).expect("removed again");
        let links = Netlink::open().and_then(|mut netlink| netlink.links()).expect("links");
        assert!(links.iter().all(|link| names::owned(tag, &link.name).is_none()), "{links:?}");
    });
}

/// The kernel counts those that were closed for some time more.
fn until_no_socket(path: &std::path::Path) {
    let began = std::time::Instant::now();
    while setup::sockets(path).expect("counted") > 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "somebody has a socket");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn whatever_was_changed_is_found() {
    let tag = tag();
    on_a_machine(|| {
        let (record, bridge) = record(NetworkSpec::default(), "10.0.0.0/24", None);
        let index = bridge::ensure(tag, &record, &bridge).expect("a bridge");
        let plan = plan(tag, 2, &record, &bridge, index);
        let ip = |arguments: &'static str| {
            move || {
                let done = std::process::Command::new("ip").args(arguments.split(' ')).output().expect("ip");
                assert!(done.status.success(), "{arguments}: {done:?}");
            }
        };
        let changes = [
            ("link set eth0 down", "changed"),
            ("link set eth0 address 02:00:00:00:00:01", "changed"),
            ("addr add 10.0.0.9/24 dev eth0", "addresses"),
            ("addr del 10.0.0.2/24 dev eth0", "addresses"),
            ("route del default", "routes"),
            ("route add 10.9.0.0/16 via 10.0.0.1", "routes"),
            ("link add left type bridge", "left"),
        ];
        for (change, word) in changes {
            setup::make(&plan).expect("made");
            inside(&plan, ip(change));
            let flaw = setup::flaw(&plan, Users::None).expect("looked at").expect(change);
            assert!(flaw.contains(word), "{change}: {flaw}");
            setup::remove(tag, plan.setup).expect("removed");
        }
        setup::make(&plan).expect("made");
        let path = names::namespace(tag, plan.setup);
        until_no_socket(&path);
        let held = inside(&plan, || std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        assert_eq!(setup::sockets(&path).expect("counted"), 1);
        assert_eq!(setup::flaw(&plan, Users::May).expect("looked at"), None, "a live workload may have some");
        drop(held);
        until_no_socket(&path);
        Netlink::open().and_then(|mut it| it.one(crate::netlink::remove(&names::outer(tag, plan.setup)))).expect("cut");
        assert!(setup::flaw(&plan, Users::May).expect("looked at").is_some_and(|flaw| flaw.contains("gone")));
        setup::remove(tag, plan.setup).expect("removed");
        bridge::remove(tag, record.id).expect("removed");
    });
}

#[test]
fn one_becomes_a_virtual_machines() {
    let tag = tag();
    on_a_machine(|| {
        let (record, bridge) = record(NetworkSpec::default(), "10.0.0.0/24", Some("fd00::/64"));
        let index = bridge::ensure(tag, &record, &bridge).expect("a bridge");
        let container = plan(tag, 2, &record, &bridge, index);
        let machine = Plan { kind: Kind::VirtualMachine { owner: 4242 }, ..container.clone() };
        setup::make(&container).expect("made");
        assert!(setup::flaw(&machine, Users::MayChange).expect("looked at").is_some(), "it is none yet");
        guest::convert(&machine).expect("changed");
        assert_eq!(setup::flaw(&machine, Users::MayChange).expect("looked at"), None);
        assert!(setup::flaw(&container, Users::None).expect("looked at").is_some(), "nobody has it after that");
        inside(&machine, || {
            let mut netlink = Netlink::open().expect("netlink");
            let links = netlink.links().expect("links");
            let of = |name: &str| links.iter().find(|link| link.name == name).unwrap_or_else(|| panic!("{links:?}"));
            let bridge = of(names::INNER_BRIDGE).index;
            assert_eq!((of("eth0").bridge, of("tap0").bridge), (Some(bridge), Some(bridge)));
            assert!(of("tap0").kind.as_deref() == Some("tun") && of("tap0").up);
            assert!(links.iter().all(|link| link.mac != machine.mac()), "that one is the guest's: {links:?}");
            let addresses = netlink.addresses().expect("addresses");
            assert!(addresses.iter().all(|(_, it)| it.address.is_loopback()), "they are the guest's: {addresses:?}");
            let routes = netlink.routes().expect("routes");
            assert!(routes.is_empty(), "{routes:?}");
        });
        let rules = inside(&machine, || crate::tool::NFT.run("list", &["list", "ruleset"], "").expect("listed"));
        for words in ["policy drop", "ip saddr 10.0.0.2 accept", "fd00::2", "router-advert drop"] {
            assert!(rules.contains(words), "{words} in {rules}");
        }
        let place = guest::place(&machine);
        assert_eq!((place.tap.as_str(), place.mac, place.mtu), ("tap0", machine.mac(), machine.mtu));
        assert_eq!(place.addresses, [(machine.ip.into(), 24), (machine.ip6.expect("one").into(), 64)]);
        assert_eq!(place.gateways, [IpAddr::V4(bridge.gateway), bridge.gateway6.expect("one").into()]);
        let inner = Plan { internal: true, ..machine.clone() };
        assert!(guest::place(&inner).gateways.is_empty(), "nothing leads out of an internal network");
        setup::limit_rate(tag, machine.setup, 1_000_000).expect("limited");
        for (change, word) in [("link set tap0 nomaster", "lead"), ("link del br0", "br0"), ("link del tap0", "tap0")] {
            inside(&machine, || {
                let done = std::process::Command::new("ip").args(change.split(' ')).output().expect("ip");
                assert!(done.status.success(), "{change}: {done:?}");
            });
            let flaw = setup::flaw(&machine, Users::MayChange).expect("looked at").expect(change);
            assert!(flaw.contains(word), "{change}: {flaw}");
        }
        setup::remove(tag, machine.setup).expect("removed");
        bridge::remove(tag, record.id).expect("removed");
    });
}

#[test]
fn rates_are_kept_both_ways() {
    let tag = tag();
    on_a_machine(|| {
        let (record, bridge) = record(NetworkSpec::default(), "10.0.0.0/24", None);
        let index = bridge::ensure(tag, &record, &bridge).expect("a bridge");
        let plan = plan(tag, 2, &record, &bridge, index);
        setup::make(&plan).expect("made");
        setup::limit_rate(tag, plan.setup, 1_000_000).expect("limited");
        let show = |link: &str| {
            let done = std::process::Command::new("tc").args(["qdisc", "show", "dev", link]).output().expect("tc");
            String::from_utf8_lossy(&done.stdout).into_owned()
        };
        let shown = [show(&names::outer(tag, plan.setup)), inside(&plan, || show("eth0"))];
        assert!(shown.iter().all(|shown| shown.contains("tbf") && shown.contains("rate 8Mbit")), "{shown:?}");
        setup::remove(tag, plan.setup).expect("removed");
        bridge::remove(tag, record.id).expect("removed");
    });
}

#[test]
#[ignore = "a measurement"]
fn how_long() {
    let tag = tag();
    on_a_machine(|| {
        let (record, bridge) = record(NetworkSpec::default(), "10.0.0.0/16", None);
        let index = bridge::ensure(tag, &record, &bridge).expect("a bridge");
        for threads in [1, 2, 4] {
            let plans: Vec<_> = (2..102).map(|number| plan(tag, number, &record, &bridge, index)).collect();
            let each = |work: &(dyn Fn(&Plan) + Sync)| {
                let began = std::time::Instant::now();
                std::thread::scope(|scope| {
                    for part in plans.chunks(plans.len().div_ceil(threads)) {
                        scope.spawn(move || part.iter().for_each(work));
                    }
                });
                began.elapsed().as_secs_f64() * 1000.0 / plans.len() as f64
            };
            println!("{threads}: make {:.2} ms", each(&|plan| setup::make(plan).expect("made")));
            println!("{threads}: flaw {:.2} ms", each(&|plan| drop(setup::flaw(plan, Users::None).expect("looked"))));
            println!(
                "{threads}: again {:.2} ms",
                each(&|plan| {
                    drop(netns::release(&names::namespace(tag, plan.setup)));
                })
            );
            let began = std::time::Instant::now();
            let mut rounds = 0;
            while Netlink::open()
                .and_then(|mut it| it.links())
                .expect("links")
                .iter()
                .any(|link| matches!(names::owned(tag, &link.name), Some(names::Owned::Setup(_))))
            {
                rounds += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            println!("{threads}: gone {:.2} ms, {rounds}", began.elapsed().as_secs_f64() * 10.0);
            each(&|plan| setup::make(plan).expect("made"));
            println!("{threads}: remove {:.2} ms", each(&|plan| setup::remove(tag, plan.setup).expect("removed")));
        }
        bridge::remove(tag, record.id).expect("removed");
    });
}
