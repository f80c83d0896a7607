use std::collections::HashSet;

use super::super::zone::Outside;
use super::*;

fn through(stand_ins: &[StandIn]) -> Zone {
    Zone { upstreams: stand_ins.iter().map(|stand_in| stand_in.address).collect(), ..zone() }
}

/// Asks, and does meanwhile what the stand-ins do.
async fn while_asked<T>(server: SocketAddr, question: &[u8], meanwhile: impl Future<Output = T>) -> Vec<u8> {
    tokio::join!(by_udp(server, question), meanwhile).0
}

#[tokio::test]
async fn questions_and_answers_are_passed_on_byte_for_byte() {
    let (port, [upstream]) = stand_ins().await;
    let (_resolver, server) = started(through(std::slice::from_ref(&upstream)), settings(port, PATIENCE));
    let mut ids = HashSet::new();
    let mut ports = HashSet::new();
    for kind in [QTYPE::from(TYPE::A), QTYPE::ANY, TYPE::Unknown(4242).into()] {
        let mut question = question_of(0x0102, "wWw.Example.com", kind, Some(1232));
        // With a flag that there is no name for, and something behind.
        question[3] |= 0x40;
        question.extend(b"tail");
        let mut sent = Vec::new();
        let answer = while_asked(server, &question, async {
            let (packet, from) = upstream.asked().await;
            assert_eq!(packet[2..], question[2..]);
            ids.insert([packet[0], packet[1]]);
            ports.insert(from.port());
            sent = packet;
            sent[2] |= 0x80;
            sent.extend(b"what only it understands");
            upstream.answer(&sent, from).await;
        })
        .await;
        assert_eq!((&answer[..2], &answer[2..]), (&[1, 2][..], &sent[2..]));
    }
    assert!(ids.len() > 1 && !ports.is_empty(), "of their own each: {ids:?} {ports:?}");
}

#[tokio::test]
async fn only_the_answer_is_taken() {
    let (port, [upstream, other]) = stand_ins().await;
    let (_resolver, server) = started(through(std::slice::from_ref(&upstream)), settings(port, PATIENCE));
    let answer = while_asked(server, &asked(5, "a.example"), async {
        let (packet, from) = upstream.asked().await;
        let lie = answered(&packet, RCODE::NoError, &[[192, 0, 2, 66]]);
        // From another address, and from another port of the right one.
        other.answer(&lie, from).await;
        let aside = UdpSocket::bind((upstream.address, 0)).await.expect("a socket");
        aside.send_to(&lie, from).await.expect("sent");
        // With another id, about another name, as a question, and as nothing at all.
        for (at, change) in [(1, 1), (13, 1), (2, 0x80)] {
            let mut lie = lie.clone();
            lie[at] ^= change;
            upstream.answer(&lie, from).await;
        }
        upstream.answer(b"", from).await;
        upstream.answer(&answered(&packet, RCODE::NoError, &[[192, 0, 2, 1]]), from).await;
    })
    .await;
    assert_eq!(told(&answer), "192.0.2.1");
}

#[tokio::test]
async fn the_next_is_asked_when_one_is_silent() {
    let (port, [silent, upstream]) = stand_ins().await;
    let zone = Zone { upstreams: vec![silent.address, upstream.address], ..zone() };
    let (_resolver, server) = started(zone, settings(port, Duration::from_secs(1)));
    let answer = while_asked(server, &asked(5, "a.example"), async {
        let (first, _) = silent.asked().await;
        let (packet, from) = upstream.asked().await;
        assert_eq!(first[2..], packet[2..]);
        upstream.answer(&answered(&packet, RCODE::NameError, &[]), from).await;
    })
    .await;
    assert_eq!(told(&answer), "NameError");
}

#[tokio::test]
async fn nobody_answers() {
    let (port, [silent, gone]) = stand_ins().await;
    let zone = Zone { upstreams: vec![gone.address, silent.address], ..zone() };
    drop(gone);
    let (resolver, server) = started(zone, settings(port, Duration::from_millis(100)));
    assert_eq!(told(&by_udp(server, &asked(5, "a.example")).await), "ServerFailure");
    assert_eq!(told(&by_tcp(server, &asked(5, "a.example")).await), "ServerFailure");
    // There is nobody, or only ourselves.
    for upstreams in [vec![], vec![LOCAL]] {
        resolver.set(Zone { upstreams, ..super::zone() });
        assert_eq!(told(&by_udp(server, &asked(6, "a.example")).await), "ServerFailure");
    }
    // Not even asked.
    let (first, _) = silent.asked().await;
    assert!(first.windows(9).any(|part| part == b"\x07example\x00"));
    resolver.set(Zone { outside: Outside::Refuse, upstreams: vec![silent.address], ..super::zone() });
    assert_eq!(told(&by_udp(server, &asked(7, "a.example")).await), "NameError");
    assert!(silent.udp.try_recv(&mut [0; 512]).is_err());
}

#[tokio::test]
async fn one_that_fails_is_not_the_last_word() {
    let (port, [failing, upstream]) = stand_ins().await;
    let zone = Zone { upstreams: vec![failing.address, upstream.address], ..zone() };
    let (_resolver, server) = started(zone, settings(port, PATIENCE));
    for (first, second, expected) in [
        (RCODE::ServerFailure, RCODE::NoError, "192.0.2.1"),
        (RCODE::Refused, RCODE::NoError, "192.0.2.1"),
        (RCODE::ServerFailure, RCODE::Refused, "Refused 192.0.2.1"),
    ] {
        let answer = while_asked(server, &asked(5, "a.example"), async {
            let (packet, from) = failing.asked().await;
            failing.answer(&answered(&packet, first, &[]), from).await;
            let (packet, from) = upstream.asked().await;
            upstream.answer(&answered(&packet, second, &[[192, 0, 2, 1]]), from).await;
        })
        .await;
        assert_eq!(told(&answer), expected);
    }
}

#[tokio::test]
async fn what_is_truncated_is_asked_again_by_tcp() {
    let (port, [upstream]) = stand_ins().await;
    let (_resolver, server) = started(through(std::slice::from_ref(&upstream)), settings(port, PATIENCE));
    let question = asked(5, "a.example");
    let truncated = while_asked(server, &question, async {
        let (packet, from) = upstream.asked().await;
        let mut answer = answered(&packet, RCODE::NoError, &[[192, 0, 2, 1]]);
        answer[2] |= 0x02;
        upstream.answer(&answer, from).await;
    })
    .await;
    assert_eq!(told(&truncated), "tc 192.0.2.1");
    // One that sends more than was asked for.
    let addresses: Vec<[u8; 4]> = (0..2_000_u32).map(u32::to_be_bytes).collect();
    let truncated = while_asked(server, &question, async {
        let (packet, from) = upstream.asked().await;
        upstream.answer(&answered(&packet, RCODE::NoError, &addresses[..100]), from).await;
    })
    .await;
    assert_eq!(told(&truncated), "tc");

    let (whole, ()) = tokio::join!(by_tcp(server, &question), async {
        let (mut stream, _) = in_time(upstream.tcp.accept()).await.expect("a connection");
        let packet = read_framed(&mut stream).await;
        assert_eq!(packet[2..], question[2..]);
        send_framed(&mut stream, &answered(&packet, RCODE::NoError, &addresses)).await;
    });
    assert_eq!(Packet::parse(&whole).expect("well-formed").answers.len(), addresses.len());
    assert!(upstream.udp.try_recv(&mut [0; 1]).is_err());
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_answer() {
    let (port, [breaking, upstream]) = stand_ins().await;
    let zone = Zone { upstreams: vec![breaking.address, upstream.address], ..zone() };
    let (_resolver, server) = started(zone, settings(port, PATIENCE));
    for lie in [&b""[..], &[0, 40, 1], &[0, 12, 0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let question = asked(5, "a.example");
        let (answer, ()) = tokio::join!(by_tcp(server, &question), async {
            let (mut stream, _) = in_time(breaking.tcp.accept()).await.expect("a connection");
            let packet = read_framed(&mut stream).await;
            let mut lie = lie.to_vec();
            if lie.len() > 3 {
                lie[2..4].copy_from_slice(&[packet[0] ^ 1, packet[1]]);
            }
            stream.write_all(&lie).await.expect("sent");
            drop(stream);
            let (mut stream, _) = in_time(upstream.tcp.accept()).await.expect("a connection");
            let packet = read_framed(&mut stream).await;
            send_framed(&mut stream, &answered(&packet, RCODE::NoError, &[[192, 0, 2, 1]])).await;
        });
        assert_eq!(told(&answer), "192.0.2.1");
    }
}

#[tokio::test]
async fn clients_may_have_resolvers_of_their_own() {
    let (port, [networks, own]) = stand_ins().await;
    let mut zone = Zone { upstreams: vec![networks.address], ..zone() };
    zone.set_client(LOCAL, Client { names: Vec::new(), dns: vec![own.address] });
    let (_resolver, server) = started(zone, settings(port, PATIENCE));
    let answer = while_asked(server, &asked(5, "a.example"), async {
        let (packet, from) = own.asked().await;
        own.answer(&answered(&packet, RCODE::NoError, &[[192, 0, 2, 1]]), from).await;
    })
    .await;
    assert_eq!(told(&answer), "192.0.2.1");
    assert_eq!(told(&by_udp(server, &asked(6, "db")).await), "127.1.0.4", "names of the network stay");
    assert!(networks.udp.try_recv(&mut [0; 1]).is_err());
}

#[tokio::test]
async fn the_machines_resolvers_are_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let machine = directory.path().join("resolv.conf");
    let (port, [first, second]) = stand_ins().await;
    std::fs::write(&machine, format!("nameserver {}\n", first.address)).expect("written");
    let (resolver, server) = started(zone(), Settings { machine: machine.clone(), ..settings(port, PATIENCE) });
    for (upstream, id) in [(&first, 1), (&second, 2)] {
        let answer = while_asked(server, &asked(id, "a.example"), async {
            let (packet, from) = upstream.asked().await;
            upstream.answer(&answered(&packet, RCODE::NoError, &[[192, 0, 2, 1]]), from).await;
        })
        .await;
        assert_eq!(told(&answer), "192.0.2.1");
        std::fs::write(&machine, format!("nameserver {}\n", second.address)).expect("written");
        resolver.forget_the_look();
    }
}

#[tokio::test]
async fn questions_beyond_the_bound_fail_at_once() {
    let (port, [upstream]) = stand_ins().await;
    let (_resolver, server) = started(through(std::slice::from_ref(&upstream)), settings(port, PATIENCE));
    let client = client(server).await;
    let most = u16::try_from(hostler_model::limits::DNS_FORWARDED_MAX).expect("few");
    let mut waiting = Vec::new();
    for id in 0..most {
        client.send(&asked(id, "a.example")).await.expect("sent");
        waiting.push(upstream.asked().await);
    }
    let beyond = asked(most, "a.example");
    client.send(&beyond).await.expect("sent");
    let answer = received(&client).await;
    assert_eq!((told(&answer).as_str(), &answer[..2]), ("ServerFailure", &beyond[..2]));
    assert_eq!(told(&by_tcp(server, &beyond).await), "ServerFailure", "by TCP as well");
    client.send(&asked(most, "db")).await.expect("sent");
    assert_eq!(told(&received(&client).await), "127.1.0.4", "what is known is answered");

    let mut ids = HashSet::new();
    for (packet, from) in waiting {
        upstream.answer(&answered(&packet, RCODE::NoError, &[[192, 0, 2, 1]]), from).await;
        let answer = received(&client).await;
        assert_eq!(told(&answer), "192.0.2.1");
        ids.insert([answer[0], answer[1]]);
    }
    assert_eq!(ids.len(), usize::from(most));
}
