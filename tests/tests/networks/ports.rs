//! Published ports: from the machine at any of its addresses, from another machine over a wire, and from nowhere once the run
//! has ended.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use hostler_tests::container::Oci;
use hostler_tests::{Machine, PATIENCE, Setup, machine, until, with_each_oci_runtime};

use super::{Yard, deaf, fetch, gateway, ip4, netns};

with_each_oci_runtime! {
    from_the_machine_and_over_a_wire,
    datagrams,
    datagrams_reach_who_has_the_port_now,
    collisions_are_told_and_ports_come_back,
    over_the_daemons_death,
    who_comes_back_has_his_port_and_address_again,
    units_that_change_keep_their_port,
}

/// An address of a machine with a port.
fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

/// Two machines on a wire, `192.0.2.1` and `192.0.2.2`.
fn two_machines() -> Option<(Machine, Machine)> {
    let (one, two) = (Machine::new()?, Machine::new()?);
    one.wire(&two, "192.0.2.1/24", "192.0.2.2/24");
    Some((one, two))
}

fn from_the_machine_and_over_a_wire(oci: Oci) {
    let Some((here, there)) = two_machines() else { return };
    let one = Yard::on(oci, &here, Setup::new());
    let two = Yard::on(oci, &there, Setup::new());
    one.network(&["blue"]);
    two.network(&["blue"]);
    one.web("web", &["--network", "blue", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "192.0.2.1:8082:80"]);
    let back = two.web("back", &["--network", "blue", "-p", "8080:80"]);
    let reached = [("127.0.0.1:8080", &here), ("192.0.2.1:8080", &here), ("192.0.2.1:8080", &there)];
    let at_one = [("127.0.0.1:8081", &here), ("192.0.2.1:8082", &here), ("192.0.2.1:8082", &there)];
    for (address, from) in reached.into_iter().chain(at_one) {
        assert_eq!(fetch(&from.path(), at(address)).as_deref(), Ok("web"), "{address}");
    }
    for (address, from) in [("192.0.2.1:8081", &here), ("192.0.2.1:8081", &there), ("127.0.0.1:8082", &here)] {
        deaf(&from.path(), at(address), "it is published at another address");
    }
    // A workload of one node reaches what the other has published, and the other way round.
    assert_eq!(fetch(&netns(&back), at("192.0.2.1:8080")).as_deref(), Ok("web"));
    assert_eq!(fetch(&netns(&one.seat("web")), at("192.0.2.2:8080")).as_deref(), Ok("back"));
    // Its own, by the machine's address, and by that of the network's gateway.
    assert_eq!(fetch(&netns(&back), at("192.0.2.2:8080")).as_deref(), Ok("back"));
    assert_eq!(fetch(&netns(&back), SocketAddr::new(gateway(&back), 8080)).as_deref(), Ok("back"));
    // But nobody from outside gets into the network itself, even if he knows the way.
    there.ip(&format!("route add {}/32 via 192.0.2.1", ip4(&one.seat("web"))));
    deaf(&there.path(), SocketAddr::new(ip4(&one.seat("web")).into(), 80), "it is not published there");
    let shown = one.cli(&["ps"]).ok();
    assert!(shown.contains("8080") && shown.contains("127.0.0.1:8081"), "{shown}");
    one.cli(&["stop", "-t", "0s", "web"]).ok();
    one.settled("blue", 0, 0);
    deaf(&there.path(), at("192.0.2.1:8080"), "its run has ended");
    one.finish();
    two.finish();
}

/// Who asks with a datagram is answered with it.
fn datagrams(oci: Oci) {
    let Some((here, there)) = two_machines() else { return };
    let yard = Yard::on(oci, &here, Setup::new());
    yard.network(&["blue"]);
    let seat = yard.sleeper("echo", &["--network", "blue", "-p", "5353:53/udp"]);
    let socket = machine::inside(&netns(&seat), || UdpSocket::bind("0.0.0.0:53").expect("port 53"));
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        for _ in 0..3 {
            let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
            socket.send_to(&buffer[..length], from).expect("answered");
        }
    });
    for (address, from) in [("127.0.0.1:5353", &here), ("192.0.2.1:5353", &here), ("192.0.2.1:5353", &there)] {
        let socket = from.inside(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        socket.connect(at(address)).expect("connected");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        socket.send(address.as_bytes()).expect("sent");
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{address}: {error}"));
        assert_eq!(&buffer[..length], address.as_bytes());
    }
    echo.join().expect("no panic");
    deaf(&here.path(), at("127.0.0.1:5353"), "it is published for datagrams only");
    yard.finish();
}

/// The kernel remembers where datagrams went: to nobody before the port was published, to the workload before this one after.
fn datagrams_reach_who_has_the_port_now(oci: Oci) {
    let Some((here, there)) = two_machines() else { return };
    let yard = Yard::on(oci, &here, Setup::new());
    yard.network(&["blue"]);
    let clients = [("127.0.0.1:5353", &here), ("192.0.2.1:5353", &there)].map(|(address, from)| {
        let socket = from.inside(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        socket.send_to(b"early", at(address)).expect("sent");
        (address, socket)
    });
    for name in ["one", "two"] {
        let seat = yard.sleeper(name, &["--network", "blue", "-p", "5353:53/udp"]);
        let server = machine::inside(&netns(&seat), || UdpSocket::bind("0.0.0.0:53").expect("port 53"));
        server.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        for (address, client) in &clients {
            client.send_to(name.as_bytes(), at(address)).expect("sent");
            let mut buffer = [0; 64];
            let (length, from) =
                server.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{name} at {address}: {error}"));
            assert_eq!(&buffer[..length], name.as_bytes(), "{address}");
            server.send_to(b"heard", from).expect("answered");
            let (length, from) = client.recv_from(&mut buffer).unwrap_or_else(|error| panic!("from {name}: {error}"));
            assert_eq!((&buffer[..length], from), (b"heard".as_slice(), at(address)), "{name}");
        }
        drop(server);
        yard.end(name);
    }
    yard.finish();
}

fn collisions_are_told_and_ports_come_back(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    let here = yard.machine.path();
    yard.network(&["blue"]);
    yard.network(&["red"]);
    yard.web("web", &["--network", "blue", "-p", "8080:80"]);
    let web = yard.inspect("web").workload.run.as_ref().expect("a run").id.to_string();
    for publish in ["8080:1", "127.0.0.1:8080:1"] {
        let refused = yard.run(&["--network", "red", "-p", publish], &["true"]).code(125);
        assert!(refused.err().contains("8080") && refused.err().contains(&web), "{}", refused.err());
    }
    yard.run(&["--network", "red", "-p", "8080:1/udp"], &["true"]).ok();
    let held = yard.machine.inside(|| TcpListener::bind("127.0.0.1:8081").expect("a port"));
    let refused = yard.run(&["--network", "red", "-p", "8081:1"], &["true"]).code(125);
    assert!(refused.err().contains("8081") && refused.err().contains("in use"), "{}", refused.err());
    drop(held);
    yard.run(&["--network", "red", "-p", "8081:1"], &["true"]).ok();
    // Nor does a program get the port of a run.
    yard.machine.inside(|| TcpListener::bind("0.0.0.0:8080").map(drop).expect_err("it is published"));
    let failed = yard.settled("red", 0, 0);
    assert_eq!(failed.waiting, 0);
    yard.cli(&["stop", "-t", "0s", "web"]).ok();
    yard.settled("blue", 0, 0);
    yard.machine.inside(|| TcpListener::bind("0.0.0.0:8080").map(drop).expect("free again"));
    yard.web("web2", &["--network", "red", "-p", "8080:80"]);
    assert_eq!(fetch(&here, at("127.0.0.1:8080")).as_deref(), Ok("web2"));
    yard.finish();
}

/// A run has not given its place back when the next one of the same workload begins.
fn who_comes_back_has_his_port_and_address_again(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    let here = yard.machine.path();
    yard.network(&["blue", "--subnet", "10.5.0.0/24"]);
    yard.web(
        "web",
        &["--network", "blue,ip=10.5.0.7", "-p", "8080:80", "--restart", "always", "--restart-delay", "10ms"],
    );
    for number in 2..5 {
        yard.cli(&["restart", "-t", "0s", "web"]).ok();
        let run = yard.inspect("web").workload.run.as_ref().map(|run| run.id.number);
        assert_eq!(run, Some(number));
        until("the port of its next run", PATIENCE, || {
            fetch(&here, at("127.0.0.1:8080")).ok().filter(|name| name == "web")
        });
    }
    hostler_tests::signal(yard_pid(&yard.seat("web")), 9);
    until("the port of its next run", PATIENCE, || {
        let again = yard.inspect("web").workload.run.as_ref().is_some_and(|run| run.id.number == 5);
        again.then(|| fetch(&here, at("127.0.0.1:8080")).ok().filter(|name| name == "web"))?
    });
    assert!(!yard.history("web").iter().any(|kind| kind == "run.failed"), "{:?}", yard.history("web"));
    // Another one that takes its place at once.
    yard.end("web");
    yard.web("next", &["--network", "blue,ip=10.5.0.7", "-p", "8080:80"]);
    assert_eq!(fetch(&here, at("127.0.0.1:8080")).as_deref(), Ok("next"));
    yard.finish();
}

fn over_the_daemons_death(oci: Oci) {
    let Some(mut yard) = Yard::new(oci) else { return };
    let here = yard.machine.path();
    yard.network(&["blue", "--ipv6"]);
    let seat = yard.web("web", &["--network", "blue,alias=www", "-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    yard.kill();
    for address in ["127.0.0.1:8080", "127.0.0.1:8081"] {
        assert_eq!(fetch(&here, at(address)).as_deref(), Ok("web"), "{address}: nobody has to live for it");
    }
    yard.start();
    for address in ["127.0.0.1:8080", "127.0.0.1:8081"] {
        assert_eq!(fetch(&here, at(address)).as_deref(), Ok("web"), "{address}");
    }
    assert_eq!(yard.seat("web"), seat, "its place is the same");
    let refused = yard.run(&["--network", "blue", "-p", "8081:1"], &["true"]).code(125);
    assert!(refused.err().contains("8081"), "{}", refused.err());
    yard.machine.inside(|| TcpListener::bind("0.0.0.0:8080").map(drop).expect_err("it is published"));
    yard.sleeper("asks", &["--network", "blue"]);
    assert_eq!(yard.resolve("asks", "www").len(), 2, "names are known again");
    // It ends while nobody looks.
    yard.kill();
    hostler_tests::signal(yard_pid(&seat), 9);
    yard.start();
    yard.ended("web");
    yard.settled("blue", 0, 1);
    yard.machine.inside(|| TcpListener::bind("0.0.0.0:8080").map(drop).expect("free again"));
    assert!(yard.resolve("asks", "www").is_empty());
    yard.finish();
}

/// A stack's unit that differs is another workload, which comes when the one before it has ended.
fn units_that_change_keep_their_port(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    let here = yard.machine.path();
    let file = yard.work().join("shop.toml");
    for word in ["one", "two", "three"] {
        let text = format!(
            "[network.shop]\nsubnet = \"10.5.0.0/24\"\n[service.web]\n\
             command = [\"sh\", \"-c\", \"mkdir -p /tmp/{word}; echo {word} >/tmp/{word}/name; exec httpd -f -p 80 -h /tmp/{word}\"]\n\
             update = \"replace\"\nstop = {{ signal = \"KILL\" }}\n[service.web.container]\nrootfs = {:?}\noci_runtime = {:?}\n\
             network = \"shop,ip=10.5.0.7\"\npublish = \"8080:80\"\n",
            yard.rootfs().display().to_string(),
            oci.name
        );
        std::fs::write(&file, text).expect("write");
        yard.cli(&["stack", "apply", file.to_str().expect("UTF-8")]).ok();
        until(&format!("{word} at the port"), PATIENCE, || {
            fetch(&here, at("127.0.0.1:8080")).ok().filter(|name| name == word)
        });
    }
    let failed: Vec<_> = yard.journal().into_iter().filter(|view| view.event.kind.name() == "run.failed").collect();
    assert!(failed.is_empty(), "{failed:?}");
    yard.cli(&["stack", "down", "shop"]).ok();
    yard.finish();
}

/// The process that is in this network.
fn yard_pid(seat: &hostler_model::network::RunNetwork) -> u32 {
    let identity = hostler_linux::netns::identity(&netns(seat)).expect("looked at").expect("a network");
    let pids = hostler_linux::netns::processes(identity).expect("listed");
    *pids.first().expect("somebody is in it")
}
