use proptest::prelude::*;

use super::super::message::{self, Code, Question, Transport, Unusable};
use super::super::reverse::reverse;
use super::super::zone::Verdict;
use super::*;

/// All that is done with a message, whatever it is.
fn digest(packet: &[u8], answer: &[u8]) {
    let zone = zone();
    let question = match Question::read(packet) {
        Ok(question) => question,
        Err(Unusable::Dropped) => return,
        Err(Unusable::Answered(answer)) => {
            assert!(answer.len() >= 12 && answer[..2] == packet[..2] && answer[2] & 0x80 != 0);
            return;
        }
    };
    let sent = question.with_id(0xffff);
    assert_eq!((&sent[..2], &sent[2..]), (&[0xff, 0xff][..], &packet[2..]));
    let data = match zone.answer(&question, LOCAL, 3) {
        Verdict::Known(data) => data,
        _ => Vec::new(),
    };
    for transport in [Transport::Udp, Transport::Tcp] {
        for said in [question.known(Code::Fine, &data, transport), question.reply(Code::Truncated, transport)] {
            assert!(said.len() <= question.answer_bytes_max(transport));
            assert_eq!(said[..2], packet[..2]);
            assert!(question.is_answered_by(&said, u16::from_be_bytes([packet[0], packet[1]])));
        }
        let _ = question.passed_on(answer.to_vec(), transport);
    }
    let _ = (question.is_answered_by(answer, 7), message::is_failure(answer), reverse(&question.labels()));
}

fn good() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("web".to_owned()),
        Just("4.0.1.127.in-addr.arpa".to_owned()),
        "[a-zA-Z0-9_-]{1,63}(\\.[a-zA-Z0-9-]{1,20}){0,6}\\.?".prop_map(String::from),
    ];
    let other = any::<u16>().prop_filter("asked for", |kind| ![41, 251, 252].contains(kind));
    let kind = prop_oneof![Just(1), Just(12), Just(28), Just(65), other];
    (any::<u16>(), name, kind, any::<Option<u16>>())
        .prop_map(|(id, name, kind, size)| question_of(id, &name, QTYPE::TYPE(TYPE::from(kind)), size))
}

proptest! {
    #[test]
    fn random_bytes(packet in prop::collection::vec(any::<u8>(), 0..600), answer in prop::collection::vec(any::<u8>(), 0..600)) {
        digest(&packet, &answer);
    }

    #[test]
    fn random_bytes_behind_a_good_header(
        counts in prop::array::uniform3(0..3_u8),
        body in prop::collection::vec(prop_oneof![Just(0), Just(0xc0), 0..64_u8, any::<u8>()], 0..300),
    ) {
        let header = [0, 7, 1, 0, 0, 1, 0, counts[0], 0, counts[1], 0, counts[2]];
        digest(&[&header[..], &body].concat(), &body);
    }

    #[test]
    fn good_questions_are_read_and_their_truncations_are_no_harm(packet in good()) {
        prop_assert!(Question::read(&packet).is_ok());
        for length in 0..=packet.len() {
            digest(&packet[..length], &packet);
        }
    }

    #[test]
    fn mutated_good_questions(
        packet in good(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut changed = packet.clone();
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        digest(&changed, &packet);
        digest(&packet, &changed);
    }
}
