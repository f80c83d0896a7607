//! Header and payload to bytes and back. The decoder trusts nothing: unknown kinds, impossible lengths and
//! truncated payloads are errors, after which the connection is closed.

use hostler_model::limits;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

const HEADER: usize = 16;
/// On a data frame: nothing follows on this stream.
pub const FLAG_EOF: u16 = 1;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One JSON message.
    Control,
    /// Bytes of a channel.
    Data,
    /// A grant for the sender of a channel.
    Credit,
}

/// Which of a channel's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stream {
    /// Towards the program.
    Stdin = 0,
    /// From the program; also a terminal's output.
    Stdout = 1,
    /// From the program.
    Stderr = 2,
}

impl Stream {
    /// From its number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Stdin),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// One decoded frame, borrowing from the decoder's buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// JSON; parse it with [`Frame::message`].
    Control(&'a [u8]),
    /// Bytes of a channel.
    Data {
        /// Which channel.
        channel: u32,
        /// Which of its streams.
        stream: Stream,
        /// Offset of the first byte in the stream since the program's start.
        offset: u64,
        /// Nothing follows on this stream.
        eof: bool,
        /// The bytes; may be empty with `eof`.
        bytes: &'a [u8],
    },
    /// A grant.
    Credit {
        /// Which channel.
        channel: u32,
        /// Payload bytes granted on top.
        bytes: u32,
    },
}

impl Frame<'_> {
    /// Parses a control frame's message.
    pub fn message<T: DeserializeOwned>(json: &[u8]) -> Result<T, DecodeError> {
        serde_json::from_slice(json).map_err(DecodeError::Message)
    }
}

/// Why bytes are not a frame. The connection is of no use after any of them.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A kind this version does not know.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// A stream number that does not exist.
    #[error("unknown stream {0}")]
    Stream(u8),
    /// A payload longer, or shorter, than its kind has.
    #[error("a {kind:?} frame of {length} bytes")]
    Length {
        /// The frame's kind.
        kind: Kind,
        /// The length in its header.
        length: usize,
    },
    /// Not the JSON that was expected.
    #[error("a control message that cannot be read")]
    Message(#[source] serde_json::Error),
}

fn header(out: &mut Vec<u8>, length: usize, kind: Kind, stream: u8, flags: u16, channel: u32) {
    let length = u32::try_from(length).expect("payloads are bounded far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind as u8 + 1);
    out.push(stream);
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&channel.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
}

/// Appends a control frame.
pub fn encode_control<T: Serialize>(out: &mut Vec<u8>, message: &T) {
    let start = out.len();
    header(out, 0, Kind::Control, 0, 0, 0);
    serde_json::to_writer(&mut *out, message).expect("messages have string keys and go to memory");
    let length = u32::try_from(out.len() - start - HEADER).expect("payloads are bounded far below 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends a data frame; `bytes` must be at most [`limits::FRAME_DATA_MAX`].
pub fn encode_data(out: &mut Vec<u8>, channel: u32, stream: Stream, offset: u64, eof: bool, bytes: &[u8]) {
    assert!(bytes.len() <= limits::FRAME_DATA_MAX, "the caller splits data into frames");
    header(out, bytes.len() + 8, Kind::Data, stream as u8, if eof { FLAG_EOF } else { 0 }, channel);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a credit frame.
pub fn encode_credit(out: &mut Vec<u8>, channel: u32, bytes: u32) {
    header(out, 4, Kind::Credit, 0, 0, channel);
    out.extend_from_slice(&bytes.to_le_bytes());
}

/// Collects received bytes and gives back whole frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Room to read into: append what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > 0 && self.buffer.len() + bytes.len() > self.buffer.capacity() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Gives back memory that one large frame made grow.
    pub fn shrink(&mut self) {
        if self.start == self.buffer.len() && self.buffer.capacity() > 64 * 1024 {
            *self = Self::default();
        }
    }

    /// What was received and is in no frame yet.
    pub fn rest(&mut self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The next whole frame, `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, DecodeError> {
        let available = &self.buffer[self.start..];
        if available.len() < HEADER {
            return Ok(None);
        }
        let length = u32::from_le_bytes(available[0..4].try_into().expect("four bytes")) as usize;
        let kind = match available[4] {
            1 => Kind::Control,
            2 => Kind::Data,
            3 => Kind::Credit,
            other => return Err(DecodeError::Kind(other)),
        };
        let bounds = match kind {
            Kind::Control => 0..=limits::FRAME_CONTROL_MAX,
            Kind::Data => 8..=limits::FRAME_DATA_MAX + 8,
            Kind::Credit => 4..=4,
        };
        if !bounds.contains(&length) {
            return Err(DecodeError::Length { kind, length });
        }
        if available.len() < HEADER + length {
            return Ok(None);
        }
        let stream = available[5];
        let flags = u16::from_le_bytes(available[6..8].try_into().expect("two bytes"));
        let channel = u32::from_le_bytes(available[8..12].try_into().expect("four bytes"));
        let from = self.start + HEADER;
        self.start = from + length;
        let payload = &self.buffer[from..from + length];
        Ok(Some(match kind {
            Kind::Control => Frame::Control(payload),
            Kind::Credit => {
                Frame::Credit { channel, bytes: u32::from_le_bytes(payload.try_into().expect("four bytes")) }
            }
            Kind::Data => Frame::Data {
                channel,
                stream: Stream::from_number(stream).ok_or(DecodeError::Stream(stream))?,
                offset: u64::from_le_bytes(payload[..8].try_into().expect("eight bytes")),
                eof: flags & FLAG_EOF != 0,
                bytes: &payload[8..],
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_split(
            chunks in prop::collection::vec((any::<u32>(), 0u8..3, any::<u64>(), any::<bool>(),
                prop::collection::vec(any::<u8>(), 0..300)), 0..8),
            split in 1usize..64,
        ) {
            let mut bytes = Vec::new();
            for (channel, stream, offset, eof, data) in &chunks {
                let stream = Stream::from_number(*stream).expect("in range");
                encode_data(&mut bytes, *channel, stream, *offset, *eof, data);
                encode_credit(&mut bytes, *channel, 7);
                encode_control(&mut bytes, &"hi");
            }
            let mut decoder = Decoder::default();
            let mut seen = 0;
            for part in bytes.chunks(split) {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().expect("valid") {
                    let (channel, stream, offset, eof, data) = &chunks[seen / 3];
                    match seen % 3 {
                        0 => prop_assert_eq!(frame, Frame::Data {
                            channel: *channel,
                            stream: Stream::from_number(*stream).expect("in range"),
                            offset: *offset,
                            eof: *eof,
                            bytes: data,
                        }),
                        1 => prop_assert_eq!(frame, Frame::Credit { channel: *channel, bytes: 7 }),
                        _ => prop_assert_eq!(frame, Frame::Control(b"\"hi\"")),
                    }
                    seen += 1;
                }
            }
            prop_assert_eq!(seen, chunks.len() * 3);
        }

        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.push(&noise);
            while let Ok(Some(frame)) = decoder.next_frame() {
                if let Frame::Control(json) = frame {
                    let _ = Frame::message::<crate::ToAgent>(json);
                }
            }
        }
    }

    #[test]
    fn impossible_lengths_are_refused_before_they_are_awaited() {
        for (kind, length) in [(1u8, u32::MAX), (2, 7), (2, 1 << 20), (3, 5), (9, 0)] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.push(kind);
            bytes.extend_from_slice(&[0; 11]);
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            assert!(decoder.next_frame().is_err(), "kind {kind}, length {length}");
        }
    }
}
