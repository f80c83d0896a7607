use super::super::message::{Code, Data, Question, Transport, Unusable};
use super::super::zone::{Outside, Upstreams, Verdict};
use super::*;

fn read(packet: &[u8]) -> Question {
    Question::read(packet).expect("a question")
}

fn verdict(zone: &Zone, name: &str, kind: QTYPE, turn: usize) -> String {
    let question = read(&question_of(7, name, kind, None));
    match zone.answer(&question, ip("127.1.0.4"), turn) {
        // The library that the tests read answers with does not know all types.
        Verdict::Known(data) if data.is_empty() => String::new(),
        Verdict::Known(data) => told(&question.known(Code::Fine, &data, Transport::Udp)),
        Verdict::NoSuchName => told(&question.known(Code::NoSuchName, &[], Transport::Udp)),
        Verdict::Ask(Upstreams::Machine { .. }) => "ask the machine's".to_owned(),
        Verdict::Ask(Upstreams::These(these)) => format!("ask {these:?}"),
    }
}

#[test]
fn what_a_network_says() {
    let zone = zone();
    let nibbles = |last: &str| format!("{last}.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa");
    let (six, nobody6) = (nibbles("4"), nibbles("5"));
    let outside6 = nibbles("4").replace(".d.f.ip6", ".0.2.ip6");
    let cases: &[(&str, QTYPE, &str)] = &[
        ("db", TYPE::A.into(), "127.1.0.4"),
        ("DB.", TYPE::A.into(), "127.1.0.4"),
        ("db", TYPE::AAAA.into(), "fd00:1::4"),
        ("db.FRONT", TYPE::A.into(), "127.1.0.4"),
        ("six", TYPE::A.into(), ""),
        ("web", TYPE::AAAA.into(), ""),
        ("web", TYPE::MX.into(), ""),
        ("web", TYPE::HTTPS.into(), ""),
        ("web", TYPE::Unknown(4242).into(), ""),
        ("web", QTYPE::ANY, ""),
        ("nobody", TYPE::A.into(), "NameError"),
        ("nobody", TYPE::TXT.into(), "NameError"),
        // One label that holds a dot is not the name of two.
        ("db\\.front", TYPE::A.into(), "NameError"),
        ("db\\.front.", TYPE::A.into(), "NameError"),
        ("x.db\\.front", TYPE::A.into(), "ask the machine's"),
        (".", TYPE::NS.into(), "ask the machine's"),
        ("example.com", TYPE::A.into(), "ask the machine's"),
        ("web.example.com", TYPE::Unknown(4242).into(), "ask the machine's"),
        ("4.0.1.127.in-addr.arpa", TYPE::PTR.into(), "db db.front"),
        ("4.0.1.127.IN-ADDR.ARPA", TYPE::PTR.into(), "db db.front"),
        ("4.0.1.127.in-addr.arpa", TYPE::A.into(), ""),
        ("5.0.1.127.in-addr.arpa", TYPE::PTR.into(), "NameError"),
        ("9.0.1.127.in-addr.arpa", TYPE::PTR.into(), "NameError"),
        ("x.4.0.1.127.in-addr.arpa", TYPE::PTR.into(), "NameError"),
        ("1.2.0.192.in-addr.arpa", TYPE::PTR.into(), "ask the machine's"),
        ("999.0.1.127.in-addr.arpa", TYPE::PTR.into(), "ask the machine's"),
        (&six, TYPE::PTR.into(), "db"),
        (&nobody6, TYPE::PTR.into(), "NameError"),
        (&outside6, TYPE::PTR.into(), "ask the machine's"),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(verdict(&zone, name, *kind, 0), *expected, "{name} {kind:?}");
    }
}

#[test]
fn replicas_take_turns() {
    let zone = zone();
    let told = |turn| verdict(&zone, "web", TYPE::A.into(), turn);
    assert_eq!(told(0), "127.1.0.1 127.1.0.2 127.1.0.3");
    assert_eq!(told(1), "127.1.0.2 127.1.0.3 127.1.0.1");
    assert_eq!(told(usize::MAX), told(usize::MAX % 3));
}

#[test]
fn whom_to_ask() {
    let mut zone = zone();
    let told = |zone: &Zone| verdict(zone, "example.com", TYPE::A.into(), 0);
    zone.upstreams = vec![ip("192.0.2.1")];
    assert_eq!(told(&zone), "ask [192.0.2.1]");
    zone.set_client(ip("127.1.0.4"), Client { names: Vec::new(), dns: vec![ip("192.0.2.2")] });
    assert_eq!(told(&zone), "ask [192.0.2.2]");
    zone.outside = Outside::Refuse;
    assert_eq!(told(&zone), "NameError");
    assert_eq!(verdict(&zone, "db", TYPE::A.into(), 0), "127.1.0.4");
}

#[test]
fn who_is_answered() {
    let both = zone();
    let only6 = Zone { subnet: None, ..zone() };
    for (zone, source, expected) in [
        (&both, "127.9.9.9", true),
        (&both, "10.0.0.1", false),
        (&both, "fd00:1::77", true),
        (&both, "fd00:2::77", false),
        (&only6, "127.9.9.9", false),
        (&Zone::default(), "10.0.0.1", true),
    ] {
        assert_eq!(zone.serves(ip(source)), expected, "{source}");
    }
}

#[test]
fn what_is_no_question() {
    let good = asked(0x1234, "web");
    let with = |at: usize, bytes: &[u8]| {
        let mut packet = good.clone();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    let refused = |packet: &[u8]| match Question::read(packet) {
        Ok(_) => panic!("a question: {packet:?}"),
        Err(Unusable::Dropped) => None,
        Err(Unusable::Answered(answer)) => {
            assert_eq!(&answer[..2], &packet[..2], "its id");
            Some((answer[2] & 0x79, answer[3] & 0x0f))
        }
    };
    let end = good.len();
    let longest = ["a".repeat(63).as_str(); 4].join(".");
    let too_long = {
        let mut packet = good[..12].to_vec();
        for label in longest.split('.') {
            packet.push(63);
            packet.extend(label.as_bytes());
        }
        packet.extend([0, 0, 1, 0, 1]);
        packet
    };
    for (what, packet, expected) in [
        ("nothing", Vec::new(), None),
        ("less than a header", good[..11].to_vec(), None),
        ("an answer", with(2, &[0x81]), None),
        ("an update", with(2, &[0x29]), Some((0x29, 4))),
        ("no question", with(4, &[0, 0]), Some((1, 1))),
        ("two questions", with(4, &[0, 2]), Some((1, 1))),
        ("half a question", good[..end - 1].to_vec(), Some((1, 1))),
        ("a name that points to itself", with(12, &[0xc0, 0x0c]), Some((1, 1))),
        ("a label of a kind that there is not", with(12, &[0x43]), Some((1, 1))),
        ("too long a name", too_long, Some((1, 1))),
        ("records that are not there", with(10, &[0xff, 0xff]), Some((1, 1))),
        ("a transfer", with(end - 4, &[0, 252]), Some((1, 5))),
        ("of Chaos", with(end - 2, &[0, 3]), Some((1, 5))),
        ("too large", [good.clone(), vec![0; 4096]].concat(), None),
    ] {
        assert_eq!(refused(&packet), expected, "{what}");
    }
    assert!(Question::read(&with(3, &[0x40])).is_ok(), "the reserved bit is nobody's error");
}

#[test]
fn of_edns() {
    let mut packet = question_of(7, "web", TYPE::A.into(), Some(1400));
    let question = read(&packet);
    assert_eq!(question.answer_bytes_max(Transport::Udp), 1400);
    let answer = question.reply(Code::Failed, Transport::Udp);
    assert!(Packet::parse(&answer).expect("well-formed").opt().is_some(), "who asks with it is answered with it");
    let plain = read(&asked(7, "web")).reply(Code::Failed, Transport::Udp);
    assert!(Packet::parse(&plain).expect("well-formed").opt().is_none());
    for (said, taken) in [(0, 512), (65_535, 4096)] {
        let question = read(&question_of(7, "web", TYPE::A.into(), Some(said)));
        assert_eq!(question.answer_bytes_max(Transport::Udp), taken);
    }
    // Two of them.
    let end = packet.len();
    let again = packet[end - 11..].to_vec();
    packet.extend(again);
    packet[11] = 2;
    assert!(matches!(Question::read(&packet), Err(Unusable::Answered(_))));
    // A later version.
    packet.truncate(end);
    packet[11] = 1;
    packet[end - 5] = 1;
    let Err(Unusable::Answered(answer)) = Question::read(&packet) else { panic!("of EDNS 1") };
    assert_eq!(Packet::parse(&answer).expect("well-formed").rcode(), RCODE::BADVERS);
}

#[test]
fn what_does_not_fit_is_left_out_and_that_is_said() {
    let many: Vec<Data> = (0..1_000_u32).map(|n| Data::Address(IpAddr::from(n.to_be_bytes()))).collect();
    let count = |size, transport| {
        let question = read(&question_of(7, "web", TYPE::A.into(), size));
        let answer = question.known(Code::Fine, &many, transport);
        assert!(answer.len() <= question.answer_bytes_max(transport));
        let packet = Packet::parse(&answer).expect("well-formed");
        assert_eq!(packet.has_flags(PacketFlag::TRUNCATION), packet.answers.len() < many.len());
        assert!(packet.has_flags(
            PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED
        ));
        assert!(packet.answers.iter().all(|answer| answer.ttl == hostler_model::limits::DNS_TTL_S));
        packet.answers.len()
    };
    assert!((25..=30).contains(&count(None, Transport::Udp)));
    assert!((70..=75).contains(&count(Some(1232), Transport::Udp)));
    assert_eq!(count(None, Transport::Tcp), 1_000);
}

#[test]
fn whose_answer_it_is() {
    let question = read(&asked(1, "a.example"));
    let good = answered(&question.with_id(99), RCODE::NoError, &[[192, 0, 2, 9]]);
    let with = |at: usize, byte: u8| {
        let mut answer = good.clone();
        answer[at] = byte;
        answer
    };
    let shouted: Vec<u8> = with(13, b'A');
    let bare = |code: u8| vec![0, 99, 0x80, code, 0, 0, 0, 0, 0, 0, 0, 0];
    for (what, answer, expected) in [
        ("the answer", good.clone(), true),
        ("in other letters", shouted, true),
        ("of another id", with(1, 98), false),
        ("a question", with(2, 0x01), false),
        ("of another name", with(13, b'b'), false),
        ("of another type", with(24, 28), false),
        ("cut within the question", good[..20].to_vec(), false),
        ("an error without the question", bare(4), true),
        ("success without the question", bare(0), false),
        ("nothing", Vec::new(), false),
    ] {
        assert_eq!(question.is_answered_by(&answer, 99), expected, "{what}");
    }
    assert_eq!(&question.passed_on(good.clone(), Transport::Udp)[2..], &good[2..]);
    assert_eq!(&question.passed_on(good, Transport::Udp)[..2], &[0, 1]);
}
