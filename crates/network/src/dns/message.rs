//! Questions as they come, answers as they go (RFC 1035; RFC 6891 for what EDNS adds).
//!
//! Questions are read by hand and not by the library that writes the answers: it refuses types that it does not know, and
//! those have to be passed on as well as any other.

use std::net::IpAddr;

use hostler_model::limits;
use simple_dns::rdata::{A, AAAA, OPT, PTR, RData};
use simple_dns::{CLASS, Label, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// Types of records that matter here.
pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_PTR: u16 = 12;
pub(super) const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
/// Transfers of whole zones: many messages for one question.
pub(super) const TYPE_TRANSFERS: [u16; 2] = [251, 252];

/// The internet, and any class: all that there is in practice.
const CLASSES: [u16; 2] = [1, 255];

const HEADER_BYTES: usize = 12;
/// Longest name, with the lengths of its labels and the end.
const NAME_BYTES_MAX: usize = 255;
/// What every client takes in one datagram.
const DATAGRAM_BYTES: usize = 512;
/// What is said to be taken here: no fragments on any path in use.
const DATAGRAM_BYTES_HERE: u16 = 1_232;

const FLAG_RESPONSE: u16 = 0x8000;
const FLAGS_OPCODE: u16 = 0x7800;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const FLAGS_CODE: u16 = 0x000f;

const CODE_FORMAT: u16 = 1;
const CODE_SERVER_FAILURE: u16 = 2;
const CODE_NOT_IMPLEMENTED: u16 = 4;
const CODE_REFUSED: u16 = 5;

/// How a question came, and so how its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A datagram for each.
    Udp,
    /// One after the other, each behind its length.
    Tcp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Address(IpAddr),
    /// What an address is called.
    Called(String),
}

/// How an answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Fine,
    NoSuchName,
    /// Nobody could say.
    Failed,
    /// Of a later EDNS than ours.
    Version,
    /// Too much for the datagram, and none of it is here.
    Truncated,
}

/// One well-formed question, with all that it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The whole message.
    packet: Vec<u8>,
    /// Where the question in it ends.
    end: usize,
    edns: Option<Edns>,
}

/// What the client adds about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edns {
    datagram_bytes: u16,
    version: u8,
}

/// What a message that is no question is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Not even an answer: it is one itself, or nobody can tell whose it is.
    Dropped,
    /// This one.
    Answered(Vec<u8>),
}

impl Question {
    /// Reads a message.
    pub(super) fn read(packet: &[u8]) -> Result<Self, Unusable> {
        let (Some(flags), true) = (number(packet, 2), packet.len() >= HEADER_BYTES) else {
            return Err(Unusable::Dropped);
        };
        // Whoever answers answers can be made to talk to itself for ever.
        if flags & FLAG_RESPONSE != 0 || packet.len() > limits::DNS_DATAGRAM_MAX {
            return Err(Unusable::Dropped);
        }
        let unusable = |code| Unusable::Answered(bare(packet, flags, code));
        if flags & FLAGS_OPCODE != 0 {
            return Err(unusable(CODE_NOT_IMPLEMENTED));
        }
        if number(packet, 4) != Some(1) {
            return Err(unusable(CODE_FORMAT));
        }
        let end = question_end(packet).ok_or_else(|| unusable(CODE_FORMAT))?;
        let edns = edns(packet, end).ok_or_else(|| unusable(CODE_FORMAT))?;
        let question = Self { packet: packet.to_vec(), end, edns };
        if !CLASSES.contains(&question.class()) || TYPE_TRANSFERS.contains(&question.kind()) {
            return Err(unusable(CODE_REFUSED));
        }
        if edns.is_some_and(|edns| edns.version != 0) {
            return Err(Unusable::Answered(question.reply(Code::Version, Transport::Udp)));
        }
        Ok(question)
    }

    fn id(&self) -> u16 {
        number(&self.packet, 0).unwrap_or_default()
    }

    fn flags(&self) -> u16 {
        number(&self.packet, 2).unwrap_or_default()
    }

    /// The type of records asked for.
    pub(super) fn kind(&self) -> u16 {
        number(&self.packet, self.end - 4).unwrap_or_default()
    }

    fn class(&self) -> u16 {
        number(&self.packet, self.end - 2).unwrap_or_default()
    }

    /// The name asked about, from its first label.
    pub(super) fn labels(&self) -> Vec<&[u8]> {
        let mut labels = Vec::new();
        let mut rest = &self.packet[HEADER_BYTES..self.end];
        while let [length, tail @ ..] = rest
            && *length > 0
            && let Some((label, tail)) = tail.split_at_checked(usize::from(*length))
        {
            labels.push(label);
            rest = tail;
        }
        labels
    }

    /// The message as others are asked: all of it, with another id.
    pub(super) fn with_id(&self, id: u16) -> Vec<u8> {
        under(id, self.packet.clone())
    }

    /// Whether the message answers this question, asked with this id.
    pub(super) fn is_answered_by(&self, answer: &[u8], id: u16) -> bool {
        let Some(flags) = number(answer, 2) else { return false };
        if answer.len() < HEADER_BYTES
            || number(answer, 0) != Some(id)
            || flags & FLAG_RESPONSE == 0
            || flags & FLAGS_OPCODE != 0
        {
            return false;
        }
        match number(answer, 4) {
            Some(1) => {
                let (name, kind) = self.packet[HEADER_BYTES..self.end].split_at(self.end - HEADER_BYTES - 4);
                answer.get(HEADER_BYTES..self.end - 4).is_some_and(|theirs| theirs.eq_ignore_ascii_case(name))
                    && answer.get(self.end - 4..self.end) == Some(kind)
            }
            // Some say only what is wrong.
            Some(0) => flags & FLAGS_CODE != 0 && answer.len() == HEADER_BYTES,
            _ => false,
        }
    }

    /// An answer of someone else, as the client gets it.
    pub(super) fn passed_on(&self, answer: Vec<u8>, transport: Transport) -> Vec<u8> {
        if answer.len() > self.answer_bytes_max(transport) {
            return self.reply(Code::Truncated, transport);
        }
        under(self.id(), answer)
    }

    /// Most that an answer may have.
    pub(super) fn answer_bytes_max(&self, transport: Transport) -> usize {
        match transport {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp => self.edns.map_or(DATAGRAM_BYTES, |edns| {
                usize::from(edns.datagram_bytes).clamp(DATAGRAM_BYTES, limits::DNS_DATAGRAM_MAX)
            }),
        }
    }

    /// Our answer without data.
    pub(super) fn reply(&self, code: Code, transport: Transport) -> Vec<u8> {
        self.written(code, &[], PacketFlag::empty(), transport)
    }

    /// Our answer about what we know.
    pub(super) fn known(&self, code: Code, data: &[Data], transport: Transport) -> Vec<u8> {
        self.written(code, data, PacketFlag::AUTHORITATIVE_ANSWER, transport)
    }

    /// As much of the data as fits: not every client comes again by TCP, and some addresses are better than none.
    fn written(&self, code: Code, data: &[Data], flags: PacketFlag, transport: Transport) -> Vec<u8> {
        let most = self.answer_bytes_max(transport);
        let mut data = data;
        let mut flags = flags;
        loop {
            let Ok(packet) = self.packed(code, data, flags).build_bytes_vec_compressed() else {
                return bare(&self.packet, self.flags(), CODE_SERVER_FAILURE);
            };
            if packet.len() <= most {
                return packet;
            }
            let Some(fewer) = data.len().checked_sub(1) else {
                return bare(&self.packet, self.flags(), CODE_SERVER_FAILURE);
            };
            data = &data[..fewer.min(data.len() * most / packet.len())];
            flags |= PacketFlag::TRUNCATION;
        }
    }

    fn packed<'a>(&'a self, code: Code, data: &'a [Data], flags: PacketFlag) -> Packet<'a> {
        let labels: Vec<Label<'a>> = self.labels().into_iter().map(Label::new_unchecked).collect();
        let name = Name::new_with_labels(&labels);
        let mut packet = Packet::new_reply(self.id());
        packet.set_flags(flags | PacketFlag::RECURSION_AVAILABLE);
        if self.flags() & FLAG_RECURSION_DESIRED != 0 {
            packet.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        *packet.rcode_mut() = match code {
            Code::Fine => RCODE::NoError,
            Code::NoSuchName => RCODE::NameError,
            Code::Failed => RCODE::ServerFailure,
            Code::Version => RCODE::BADVERS,
            Code::Truncated => {
                packet.set_flags(PacketFlag::TRUNCATION);
                RCODE::NoError
            }
        };
        if self.edns.is_some() {
            *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: DATAGRAM_BYTES_HERE, version: 0 });
        }
        let kind = QTYPE::TYPE(TYPE::from(self.kind()));
        if let Ok(class) = self.class().try_into() {
            packet.questions.push(simple_dns::Question::new(name.clone(), kind, class, false));
        }
        packet.answers = data
            .iter()
            .filter_map(|data| {
                let data = match data {
                    Data::Address(IpAddr::V4(address)) => RData::A(A::from(*address)),
                    Data::Address(IpAddr::V6(address)) => RData::AAAA(AAAA::from(*address)),
                    Data::Called(called) => RData::PTR(PTR(Name::new(called).ok()?)),
                };
                Some(ResourceRecord::new(name.clone(), CLASS::IN, limits::DNS_TTL_S, data))
            })
            .collect();
        packet
    }
}

/// Whether an answer says that its sender cannot or will not say: another may.
pub(super) fn is_failure(answer: &[u8]) -> bool {
    number(answer, 2).is_some_and(|flags| matches!(flags & FLAGS_CODE, CODE_SERVER_FAILURE | CODE_REFUSED))
}

/// An answer of a header only.
fn bare(packet: &[u8], flags: u16, code: u16) -> Vec<u8> {
    let kept = flags & (FLAGS_OPCODE | FLAG_RECURSION_DESIRED);
    let mut answer = packet[..2].to_vec();
    answer.extend((FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | kept | code).to_be_bytes());
    answer.resize(HEADER_BYTES, 0);
    answer
}

fn under(id: u16, mut packet: Vec<u8>) -> Vec<u8> {
    if let Some(place) = packet.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
    packet
}

fn number(packet: &[u8], at: usize) -> Option<u16> {
    packet.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// Where the only question ends. There is nothing before it that its name could point to.
fn question_end(packet: &[u8]) -> Option<usize> {
    let mut at = HEADER_BYTES;
    loop {
        let length = *packet.get(at)?;
        at += 1;
        match length {
            0 => break,
            1..=63 => at += usize::from(length),
            _ => return None,
        }
        if at - HEADER_BYTES >= NAME_BYTES_MAX {
            return None;
        }
    }
    (at + 4 <= packet.len()).then_some(at + 4)
}

/// What the records after the question say of the client; none when they are malformed.
fn edns(packet: &[u8], end: usize) -> Option<Option<Edns>> {
    let mut found = None;
    let mut at = end;
    let records: usize = [6, 8, 10].iter().map(|place| usize::from(number(packet, *place).unwrap_or_default())).sum();
    // Each has at least a byte, so a lie about how many there are ends where the message does.
    for _ in 0..records {
        let name = at;
        loop {
            let length = *packet.get(at)?;
            match length {
                0 => break at += 1,
                1..=63 => at += 1 + usize::from(length),
                192.. => break at += 2,
                _ => return None,
            }
        }
        let (kind, class, version) = (number(packet, at)?, number(packet, at + 2)?, *packet.get(at + 5)?);
        if kind == TYPE_OPT {
            // There may be one, of the root's name.
            if found.is_some() || at != name + 1 {
                return None;
            }
            found = Some(Edns { datagram_bytes: class, version });
        }
        at += 10 + usize::from(number(packet, at + 8)?);
        if at > packet.len() {
            return None;
        }
    }
    Some(found)
}
