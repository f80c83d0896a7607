//! Workloads of one network find each other by name, and reach each other.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use hostler_tests::container::Oci;
use hostler_tests::{PATIENCE, until, with_each_oci_runtime};

use super::{PROGRAMS, Yard, ip4, ip6};

with_each_oci_runtime! {
    two_talk_by_name_and_alias,
    what_they_read,
    outside_names_are_forwarded,
    units_of_a_stack,
}

fn two_talk_by_name_and_alias(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    yard.network(&["blue", "--ipv6"]);
    let one = yard.web("one", &[&["--network", "blue"][..], &PROGRAMS].concat());
    let two = yard.web("two", &["--network", "blue,alias=db,alias=sql"]);
    for host in ["two", "db", "sql", "TWO", &ip4(&two).to_string(), &ip6(&two).to_string()] {
        assert_eq!(yard.fetch("one", host), "two", "{host}");
    }
    assert_eq!(yard.fetch("one", "one"), "one", "itself as well");
    assert_eq!(yard.resolve("two", "one"), [IpAddr::from(ip4(&one)), ip6(&one).into()]);
    assert_eq!(yard.resolve("one", "db"), [IpAddr::from(ip4(&two)), ip6(&two).into()]);
    assert!(yard.resolve("one", "nobody").is_empty());
    // And back, from the address to its names.
    for address in [ip4(&two).to_string(), ip6(&two).to_string()] {
        let told = yard.exec("one", &format!("nslookup {address}")).out();
        assert!(told.contains("name = two"), "{told}");
    }
    // A name goes with its workload, and comes with the next.
    yard.cli(&["stop", "-t", "0s", "two"]).ok();
    yard.until_resolved("one", "two", 0);
    yard.until_resolved("one", "db", 0);
    let three = yard.sleeper("three", &["--network", "blue,alias=db"]);
    assert_eq!(yard.until_resolved("one", "db", 2), [IpAddr::from(ip4(&three)), ip6(&three).into()]);
    let view = &yard.cli(&["network", "inspect", "blue"]).json()[0];
    let runs = view["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2, "{view}");
    assert!(view.to_string().contains(&ip4(&one).to_string()), "{view}");
    yard.finish();
}

fn what_they_read(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    yard.network(&["blue", "--subnet", "10.5.6.0/24", "--gateway", "10.5.6.9", "--ipv6", "--mtu", "1400"]);
    let seat = yard.sleeper("one", &["--network", "blue,alias=db,ip=10.5.6.77", "--hostname", "host"]);
    assert_eq!(ip4(&seat).to_string(), "10.5.6.77");
    let hosts = yard.exec("one", "cat /etc/hosts").ok();
    assert!(hosts.contains("127.0.0.1\tlocalhost"), "{hosts}");
    for address in [ip4(&seat).to_string(), ip6(&seat).to_string()] {
        assert!(hosts.contains(&format!("{address}\thost one db")), "{hosts}");
    }
    let resolv = yard.exec("one", "cat /etc/resolv.conf").ok();
    assert_eq!(resolv, "nameserver 10.5.6.9\nsearch .\noptions ndots:0");
    let shown = yard.exec("one", "ip addr show eth0; ip route; ip -6 route").ok();
    for words in ["mtu 1400", "10.5.6.77/24", &format!("{}/64", ip6(&seat)), "default via 10.5.6.9", "default via fd"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(shown.contains(seat.mac.as_deref().expect("a hardware address")), "{shown}");
    // Of others: nothing of a network, and what the machine has.
    yard.detach("none", &[], "exec sleep 600");
    assert_eq!(yard.exec("none", "ip -o link | wc -l").ok(), "1");
    yard.detach("host", &["--network", "host"], "exec sleep 600");
    let links = yard.exec("host", "ip -o link").ok();
    assert!(links.contains(&format!("h{}", yard.tag().expect("a tag"))), "the machine's own: {links}");
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(yard.exec("host", "cat /etc/resolv.conf").ok(), resolv.trim_end());
    assert!(yard.inspect("none").network.is_none() && yard.inspect("host").network.is_none());
    yard.finish();
}

/// Answers every question about a name with one address, from a thread, until it is asked about `over`.
fn outside(yard: &Yard, address: &str, answer: [u8; 4]) -> std::thread::JoinHandle<usize> {
    yard.machine.ip(&format!("addr add {address}/32 dev lo"));
    let at: SocketAddr = format!("{address}:53").parse().expect("an address");
    let socket = yard.machine.inside(|| UdpSocket::bind(at).expect("port 53"));
    std::thread::spawn(move || {
        let mut asked = 0;
        let mut buffer = [0; 1_500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).expect("a question");
            let question = &buffer[12..length];
            // Name, type and class.
            let end = question.iter().position(|byte| *byte == 0).expect("a name") + 5;
            if question.starts_with(b"\x04over") {
                return asked;
            }
            asked += 1;
            let is_a = question[end - 4..end - 2] == [0, 1];
            let mut reply = buffer[..2].to_vec();
            reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            reply.extend(&question[..end]);
            if is_a {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
                reply.extend(answer);
            }
            socket.send_to(&reply, from).expect("answered");
        }
    })
}

fn finish_outside(yard: &Yard, address: &str, thread: std::thread::JoinHandle<usize>) -> usize {
    let to = format!("{address}:53");
    let over = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x04over\0\0\x01\0\x01";
    yard.machine.inside(|| UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(over, &to))).expect("sent");
    thread.join().expect("no panic")
}

fn outside_names_are_forwarded(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    let networks = outside(&yard, "192.0.2.53", [198, 51, 100, 1]);
    let own = outside(&yard, "192.0.2.54", [198, 51, 100, 2]);
    let vaults = outside(&yard, "192.0.2.55", [198, 51, 100, 3]);
    yard.network(&["blue", "--dns", "192.0.2.53"]);
    yard.network(&["vault", "--internal", "--dns", "192.0.2.55"]);
    yard.sleeper("one", &["--network", "blue"]);
    yard.sleeper("two", &["--network", "blue", "--dns", "192.0.2.54"]);
    yard.sleeper("inner", &["--network", "vault", "--dns", "192.0.2.55"]);
    yard.sleeper("other", &["--network", "vault"]);
    let said = |text: &str| text.parse::<IpAddr>().expect("an address");
    assert_eq!(yard.resolve("one", "www.example.org"), [said("198.51.100.1")]);
    assert_eq!(yard.resolve("two", "www.example.org"), [said("198.51.100.2")]);
    assert!(yard.resolve("inner", "www.example.org").is_empty(), "an internal network asks nobody");
    assert_eq!(yard.resolve("inner", "other").len(), 1);
    assert_eq!(yard.resolve("two", "one").len(), 1);
    assert!(finish_outside(&yard, "192.0.2.53", networks) > 0);
    assert!(finish_outside(&yard, "192.0.2.54", own) > 0);
    assert_eq!(finish_outside(&yard, "192.0.2.55", vaults), 0);
    yard.finish();
}

fn units_of_a_stack(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    let rootfs = yard.rootfs().display().to_string();
    let container = |unit: &str, more: &str| {
        format!(
            "[service.{unit}]\ncommand = [\"sh\", \"-c\", \"trap exit TERM; sleep 600 & wait\"]\n{more}\n[service.{unit}.container]\nrootfs = {rootfs:?}\n\
             oci_runtime = {:?}\nnetwork = \"shop\"\n",
            oci.name
        )
    };
    let file = yard.work().join("shop.toml");
    let text = "[network.shop]\n".to_owned() + &container("front", "") + &container("back", "replicas = 3");
    std::fs::write(&file, &text).expect("write");
    yard.cli(&["stack", "apply", file.to_str().expect("UTF-8")]).ok();
    let names: Vec<String> = yard.all().iter().map(|view| view.workload.name.to_string()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in &names {
        yard.main_pid(name);
    }
    let front = names.iter().find(|name| name.contains("front")).expect("front");
    let back = yard.until_resolved(front, "back", 3);
    let mut each: Vec<IpAddr> =
        names.iter().filter(|name| name.contains("back")).map(|name| ip4(&yard.seat(name)).into()).collect();
    each.sort();
    assert_eq!(back, each);
    assert_eq!(yard.resolve(names.iter().find(|name| name.contains("back")).expect("back"), "front").len(), 1);
    // One less is one address less.
    let text = "[network.shop]\n".to_owned() + &container("front", "") + &container("back", "replicas = 2");
    std::fs::write(&file, text).expect("write");
    yard.cli(&["stack", "apply", file.to_str().expect("UTF-8")]).ok();
    yard.until_resolved(front, "back", 2);
    yard.cli(&["stack", "down", "shop"]).ok();
    assert_eq!(yard.cli(&["--json", "network", "ls"]).json(), serde_json::json!([]));
    until("the end of all set-ups", PATIENCE, || yard.setups().0.is_empty().then_some(()));
    yard.finish();
}
