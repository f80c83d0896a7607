use std::io;

use super::*;

#[tokio::test]
async fn names_are_answered_by_udp_and_tcp() {
    let (_resolver, server) = started(zone(), settings(9, PATIENCE));
    for (question, expected) in [
        (asked(1, "DB"), "127.1.0.4"),
        (question_of(2, "db", TYPE::AAAA.into(), Some(1232)), "fd00:1::4"),
        (asked(3, "six"), ""),
        (asked(4, "nobody"), "NameError"),
        (question_of(5, "4.0.1.127.in-addr.arpa", TYPE::PTR.into(), None), "db db.front"),
    ] {
        for answer in [by_udp(server, &question).await, by_tcp(server, &question).await] {
            assert_eq!(told(&answer), expected);
            assert_eq!(answer[..2], question[..2]);
        }
    }
}

#[tokio::test]
async fn each_replica_is_first_at_times() {
    let (_resolver, server) = started(zone(), settings(9, PATIENCE));
    let mut firsts = std::collections::HashSet::new();
    in_time(async {
        while firsts.len() < 3 {
            // As a libc does, for both families.
            by_udp(server, &question_of(1, "web", TYPE::AAAA.into(), None)).await;
            let answer = told(&by_udp(server, &asked(2, "web")).await);
            firsts.extend(answer.split(' ').next().map(str::to_owned));
        }
    })
    .await;
}

#[tokio::test]
async fn several_questions_go_over_one_connection() {
    let (_resolver, server) = started(zone(), settings(9, PATIENCE));
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    for id in 0..3 {
        send_framed(&mut stream, &asked(id, "db")).await;
    }
    for id in 0..3 {
        assert_eq!(read_framed(&mut stream).await[1], id);
    }
}

#[tokio::test]
async fn what_is_known_is_replaced() {
    let (resolver, server) = started(zone(), settings(9, PATIENCE));
    assert_eq!(told(&by_udp(server, &asked(1, "db")).await), "127.1.0.4");
    let mut other = Zone::default();
    other.add_name("new", ip("127.1.0.7"));
    resolver.set(other);
    assert_eq!(told(&by_udp(server, &asked(2, "db")).await), "NameError");
    assert_eq!(told(&by_udp(server, &asked(3, "new")).await), "127.1.0.7");
}

/// Datagrams are taken in order: when the later one is answered, the earlier one was not.
#[tokio::test]
async fn some_datagrams_are_dropped() {
    let mut zone = zone();
    zone.subnet = Some("127.0.0.1/32".parse().expect("a range"));
    let (_resolver, server) = started(zone, settings(9, PATIENCE));
    let stranger = UdpSocket::bind("127.0.0.9:0").await.expect("a socket");
    stranger.connect(server).await.expect("the loopback");
    stranger.send(&asked(1, "db")).await.expect("sent");

    let client = client(server).await;
    let mut answer = asked(2, "db");
    answer[2] |= 0x80;
    let large = [asked(3, "db"), vec![0; 4096]].concat();
    for dropped in [&answer[..], &large, b"", b"short"] {
        client.send(dropped).await.expect("sent");
    }
    client.send(&asked(4, "db")).await.expect("sent");
    assert_eq!(received(&client).await[1], 4);
    let nothing = stranger.try_recv(&mut [0; 1]).expect_err("no answer to strangers");
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
}

/// Whether the other end has closed it.
async fn is_closed(stream: &mut TcpStream) -> bool {
    match in_time(stream.read(&mut [0; 1])).await {
        Ok(length) => length == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[tokio::test]
async fn some_connections_are_closed() {
    let mut zone = zone();
    zone.subnet = Some("127.0.0.1/32".parse().expect("a range"));
    let (_resolver, server) = started(zone, Settings { idle_max: Duration::from_millis(200), ..settings(9, PATIENCE) });

    let mut silent = TcpStream::connect(server).await.expect("a connection");
    assert!(is_closed(&mut silent).await);

    let mut halting = TcpStream::connect(server).await.expect("a connection");
    halting.write_all(&[0, 40, 1]).await.expect("sent");
    assert!(is_closed(&mut halting).await);

    let mut large = TcpStream::connect(server).await.expect("a connection");
    large.write_all(&5_000_u16.to_be_bytes()).await.expect("sent");
    assert!(is_closed(&mut large).await);

    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.9:0".parse().expect("an address")).expect("bound");
    let mut stranger = socket.connect(server).await.expect("a connection");
    let _ = stranger.write_all(&[0, 40]).await;
    assert!(is_closed(&mut stranger).await);
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_one_to_end() {
    let (_resolver, server) = started(zone(), settings(9, PATIENCE));
    let mut served = Vec::new();
    for _ in 0..hostler_model::limits::DNS_CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(server).await.expect("a connection");
        send_framed(&mut stream, &asked(1, "db")).await;
        read_framed(&mut stream).await;
        served.push(stream);
    }
    let mut late = TcpStream::connect(server).await.expect("the kernel takes it");
    send_framed(&mut late, &asked(2, "db")).await;
    // The others are served all the same.
    for stream in &mut served {
        send_framed(stream, &asked(3, "db")).await;
        read_framed(stream).await;
    }
    assert_eq!(late.try_read(&mut [0; 1]).expect_err("not yet").kind(), io::ErrorKind::WouldBlock);
    served.pop();
    assert_eq!(told(&read_framed(&mut late).await), "127.1.0.4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_closes_all() {
    let (upstream_port, [stand_in]) = stand_ins().await;
    let zone = Zone { upstreams: vec![stand_in.address], ..zone() };
    let (resolver, server) = started(zone, settings(upstream_port, PATIENCE));
    let held = resolver.held();
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    send_framed(&mut stream, &asked(1, "db")).await;
    read_framed(&mut stream).await;
    let client = client(server).await;
    client.send(&asked(2, "a.example")).await.expect("sent");
    stand_in.asked().await;

    resolver.stop().await;
    UdpSocket::bind(server).await.expect("its port is free");
    let again = Resolver::start_on(&Handle::current(), server.port(), &[LOCAL], None, Zone::default());
    again.expect("for connections as well");
    assert!(is_closed(&mut stream).await);
    in_time(async {
        while held.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn dropping_it_stops_all() {
    let (upstream_port, [stand_in]) = stand_ins().await;
    let zone = Zone { upstreams: vec![stand_in.address], ..zone() };
    let (resolver, server) = started(zone, settings(upstream_port, PATIENCE));
    let held = resolver.held();
    let client = client(server).await;
    client.send(&asked(2, "a.example")).await.expect("sent");
    stand_in.asked().await;

    drop(resolver);
    in_time(async {
        while held.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    UdpSocket::bind(server).await.expect("its port is free");
    TcpListener::bind(server).await.expect("for connections as well");
}

#[tokio::test]
async fn why_it_cannot_listen() {
    let taken = UdpSocket::bind((LOCAL, 0)).await.expect("a socket");
    let port = taken.local_addr().expect("bound").port();
    let handle = Handle::current();
    let start = |address: IpAddr, port, interface| {
        let error = Resolver::start_on(&handle, port, &[address], interface, Zone::default()).expect_err("refused");
        let source = std::error::Error::source(&error).expect("what the system said").to_string();
        (error.to_string(), source)
    };
    let (error, source) = start(LOCAL, port, None);
    assert_eq!(error, format!("the resolver cannot listen at 127.0.0.1:{port} by UDP"));
    assert!(source.contains("in use"), "{source}");
    let (error, source) = start(ip("192.0.2.1"), 0, None);
    assert_eq!(error, "the resolver cannot listen at 192.0.2.1:0 by UDP");
    assert!(source.contains("assign"), "{source}");
    let (error, _) = start(LOCAL, 0, Some("nonesuch0"));
    assert_eq!(error, "the resolver cannot listen at 127.0.0.1:0 by UDP on nonesuch0");
}

#[tokio::test]
async fn it_listens_on_one_interface() {
    let started = Resolver::start_on(&Handle::current(), 0, &[LOCAL], Some("lo"), zone());
    let resolver = match started {
        Ok(resolver) => resolver,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let server = resolver.addresses()[0];
    let question = asked(1, "db");
    assert_eq!(told(&by_udp(server, &question).await), "127.1.0.4");
    assert_eq!(told(&by_tcp(server, &question).await), "127.1.0.4");
}

#[tokio::test]
async fn it_cannot_be_asked_through_another_interface() {
    let interfaces = std::fs::read_dir("/sys/class/net").expect("the machine's interfaces");
    let mut names = interfaces.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // Among them is a file that says how they are bonded.
    let Some(other) = names.find(|name| name != "lo" && name != "bonding_masters") else {
        return eprintln!("skipped: there is only the loopback");
    };
    let resolver = match Resolver::start_on(&Handle::current(), 0, &[LOCAL], Some(&other), zone()) {
        Ok(resolver) => resolver,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let server = resolver.addresses()[0];
    let client = client(server).await;
    client.send(&asked(1, "db")).await.expect("sent");
    let refused = in_time(client.recv(&mut [0; 512])).await.expect_err("nobody is there");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let refused = in_time(TcpStream::connect(server)).await.expect_err("nobody is there");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn it_listens_at_several_addresses() {
    let listen = [LOCAL, ip("127.0.0.2"), ip("::1")];
    let mut zone = zone();
    zone.subnet6 = Some("::1/128".parse().expect("a range"));
    let resolver = match Resolver::start_on(&Handle::current(), 0, &listen, None, zone) {
        Ok(resolver) => resolver,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    for server in resolver.addresses() {
        let socket = UdpSocket::bind((if server.is_ipv4() { LOCAL } else { ip("::1") }, 0)).await.expect("a socket");
        socket.connect(server).await.expect("the loopback");
        socket.send(&asked(1, "db")).await.expect("sent");
        assert_eq!(told(&received(&socket).await), "127.1.0.4");
        assert_eq!(told(&by_tcp(*server, &asked(2, "db")).await), "127.1.0.4");
    }
}
