//! Channels: the bytes of a program's streams between its agent and one reader in the daemon.
//!
//! ```text
//!   agent ──data, within the credit──► queue (≤ CHANNEL_CREDIT bytes) ──► OutputReader::next
//!         ◄──credit, for what the reader has taken────────────────────────────┘
//!   agent ◄──data, within the agent's credit──── InputWriter::write
//! ```
//! Credit goes to the agent only as the reader consumes, so a reader that stalls stalls his channel, and nothing
//! else, and holds at most `CHANNEL_CREDIT` bytes here. An agent that sends more than it was granted is broken.
//!
//! Dropping the reader alone lets the output flow on unread; dropping both halves detaches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use hostler_model::limits;
use hostler_wire::{AttachTarget, Stream, StreamOffsets};
use tokio::sync::Notify;

use crate::RuntimeError;
use crate::agent::Agent;

/// Credit is returned in parts of this size, bytes: a quarter, so that the agent never runs dry.
const CREDIT_PART: u32 = limits::CHANNEL_CREDIT / 4;
/// Beyond this many waiting pieces, new bytes join an older piece of their stream.
const PIECES_MAX: usize = 64;

/// Whether output waits for the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Output waits for him; a new owner takes over from the old.
    Owner,
    /// He misses what comes while he is slow, and sees by the offsets that he did.
    Reader,
}

/// What to attach to, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachRequest {
    /// Whose streams.
    pub target: AttachTarget,
    /// Whether output waits.
    pub role: Role,
    /// Also send stdin.
    pub stdin: bool,
    /// Where to begin; `None`: the oldest byte the agent still has.
    pub from: Option<StreamOffsets>,
}

/// An open channel. Dropping both halves closes it.
#[derive(Debug)]
pub struct Attachment {
    /// What the program writes.
    pub output: OutputReader,
    /// What it reads.
    pub input: InputWriter,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Which stream.
    pub stream: Stream,
    /// Offset of its first byte since the program's start; a jump tells what was missed.
    pub offset: u64,
    /// The bytes; may be empty with `eof`.
    pub bytes: Vec<u8>,
    /// Nothing follows on this stream.
    pub eof: bool,
}

/// The agent's side of a channel.
#[derive(Debug)]
pub(crate) struct Channel {
    state: Mutex<State>,
    output: Notify,
    input: Notify,
}

#[derive(Debug)]
struct State {
    pieces: VecDeque<Output>,
    /// What the agent may still send, bytes.
    granted: u32,
    /// Consumed and not yet granted again, bytes.
    owed: u32,
    /// What we may still send, bytes.
    input_credit: u32,
    has_reader: bool,
    closed: bool,
}

/// The agent sent bytes that it was not granted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CreditExceeded;

impl Channel {
    pub(crate) fn new() -> Self {
        let state = State {
            pieces: VecDeque::new(),
            granted: limits::CHANNEL_CREDIT,
            owed: 0,
            input_credit: 0,
            has_reader: true,
            closed: false,
        };
        Self { state: Mutex::new(state), output: Notify::new(), input: Notify::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// Takes bytes from the agent. The credit to return at once, when nobody reads.
    pub(crate) fn deliver(
        &self,
        stream: Stream,
        offset: u64,
        eof: bool,
        bytes: &[u8],
    ) -> Result<Option<u32>, CreditExceeded> {
        let mut state = self.state();
        let length = u32::try_from(bytes.len()).map_err(|_| CreditExceeded)?;
        state.granted = state.granted.checked_sub(length).ok_or(CreditExceeded)?;
        if !state.has_reader {
            state.owed += length;
            return Ok(state.settle());
        }
        state.push(stream, offset, eof, bytes);
        drop(state);
        self.output.notify_one();
        Ok(None)
    }

    /// The agent takes this much more stdin.
    pub(crate) fn grant(&self, bytes: u32) {
        let mut state = self.state();
        state.input_credit = state.input_credit.saturating_add(bytes).min(limits::CHANNEL_CREDIT);
        drop(state);
        self.input.notify_one();
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.output.notify_one();
        self.input.notify_one();
    }

    fn reader_gone(&self, taken: u32) -> Option<u32> {
        let mut state = self.state();
        state.has_reader = false;
        state.owed += taken;
        let unread: usize = state.pieces.drain(..).map(|piece| piece.bytes.len()).sum();
        state.owed += u32::try_from(unread).unwrap_or(u32::MAX);
        state.settle()
    }

    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.state().pieces.iter().map(|piece| piece.bytes.capacity() + size_of::<Output>()).sum()
    }
}

impl State {
    fn push(&mut self, stream: Stream, offset: u64, eof: bool, bytes: &[u8]) {
        let joins = |last: &Output| {
            last.stream == stream
                && !last.eof
                && last.offset + last.bytes.len() as u64 == offset
                && last.bytes.len() + bytes.len() <= limits::FRAME_DATA_MAX
        };
        let crowded = self.pieces.len() >= PIECES_MAX;
        let last = if crowded {
            self.pieces.iter_mut().rev().find(|piece| piece.stream == stream)
        } else {
            self.pieces.back_mut()
        };
        match last.filter(|last| joins(last)) {
            Some(last) => {
                last.bytes.extend_from_slice(bytes);
                last.eof = eof;
            }
            None if bytes.is_empty() && !eof => {}
            None => self.pieces.push_back(Output { stream, offset, bytes: bytes.to_vec(), eof }),
        }
    }

    /// The part of what is owed that is worth a frame.
    fn settle(&mut self) -> Option<u32> {
        if self.owed < CREDIT_PART || self.closed {
            return None;
        }
        self.granted += self.owed;
        Some(std::mem::take(&mut self.owed))
    }
}

/// What both halves hold.
#[derive(Debug)]
struct Hold {
    agent: Arc<Agent>,
    number: u32,
    channel: Arc<Channel>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.agent.detach(self.number);
    }
}

/// Opens a channel on this agent.
pub(crate) fn to(agent: &Arc<Agent>, request: AttachRequest) -> Result<Attachment, RuntimeError> {
    let (number, channel) = agent.attach(request)?;
    Ok(open(Arc::clone(agent), number, channel))
}

fn open(agent: Arc<Agent>, number: u32, channel: Arc<Channel>) -> Attachment {
    let hold = Arc::new(Hold { agent, number, channel });
    Attachment {
        output: OutputReader { hold: Arc::clone(&hold), taken: 0 },
        input: InputWriter { hold, offset: 0, closed: false },
    }
}

/// The output half.
#[derive(Debug)]
pub struct OutputReader {
    hold: Arc<Hold>,
    /// Length of the piece the caller got last: consumed when he comes again.
    taken: u32,
}

impl OutputReader {
    /// The next piece; `None` when the streams are complete, or the connection to the agent broke: after a break,
    /// attach again from the offsets reached. Safe to cancel.
    pub async fn next(&mut self) -> Option<Output> {
        loop {
            let (credit, next, closed) = {
                let mut state = self.hold.channel.state();
                state.owed += std::mem::take(&mut self.taken);
                let next = state.pieces.pop_front();
                if state.pieces.is_empty() {
                    state.pieces.shrink_to(0);
                }
                (state.settle(), next, state.closed)
            };
            if let Some(bytes) = credit {
                self.hold.agent.credit(self.hold.number, bytes);
            }
            if let Some(next) = next {
                self.taken = u32::try_from(next.bytes.len()).unwrap_or(u32::MAX);
                return Some(next);
            }
            if closed {
                return None;
            }
            self.hold.channel.output.notified().await;
        }
    }
}

impl Drop for OutputReader {
    fn drop(&mut self) {
        if let Some(bytes) = self.hold.channel.reader_gone(self.taken) {
            self.hold.agent.credit(self.hold.number, bytes);
        }
    }
}

/// The input half.
#[derive(Debug)]
pub struct InputWriter {
    hold: Arc<Hold>,
    offset: u64,
    closed: bool,
}

impl InputWriter {
    /// Sends bytes to the program's stdin, as fast as its agent takes them. When cancelled, a part may be sent.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), RuntimeError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = {
                let mut state = self.hold.channel.state();
                if state.closed || self.closed {
                    return Err(RuntimeError::Closed);
                }
                let length = rest.len().min(state.input_credit as usize).min(limits::FRAME_DATA_MAX);
                state.input_credit -= u32::try_from(length).unwrap_or(0);
                length
            };
            if length == 0 {
                self.hold.channel.input.notified().await;
                continue;
            }
            let (now, later) = rest.split_at(length);
            self.hold.agent.input(self.hold.number, self.offset, false, now);
            self.offset += length as u64;
            rest = later;
        }
        Ok(())
    }

    /// The end of stdin.
    pub fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.hold.agent.input(self.hold.number, self.offset, true, &[]);
        }
    }
}
