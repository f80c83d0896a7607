//! The daemon's handle on one agent: what is to be sent to it, and who waits for what it sends.
//!
//! Frames are encoded once, straight into the buffer that the connection's task writes from; what is queued while
//! a write is under way leaves with the next one, in one piece. The buffer is bounded: stdin by the agent's credit,
//! control frames by [`CONTROL_OUT_MAX`]; an agent that lets so much pile up is not reading, and its connection is
//! given up.
//!
//! Lock order: the runtime's state, then an agent's, then a channel's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use hostler_model::ids::{RunId, SandboxId};
use hostler_model::limits;
use hostler_model::process::Processes;
use hostler_wire::{PROTOCOL_MIN, RunStats, Stream, ToAgent, encode_control, encode_credit, encode_data};
use tokio::sync::{Notify, oneshot};

use crate::RuntimeError;
use crate::attach::{AttachRequest, Channel, Role};

/// Control bytes waiting for one agent, at most: two of the largest messages.
const CONTROL_OUT_MAX: usize = 2 * limits::FRAME_CONTROL_MAX;

/// An answer to a question.
#[derive(Debug)]
pub(crate) enum Answer {
    Stats(RunStats),
    Processes(Processes),
    Done(Option<String>),
}

/// Who waits for an answer.
#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Answer>,
    /// The answer is a fact about this run, in its place among others.
    fact_of: Option<RunId>,
}

/// One agent, connected or about to be.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) sandbox: SandboxId,
    talk: Mutex<Talk>,
    wake: Notify,
    /// The protocol version of the connection, from its hello on.
    version: AtomicU16,
}

#[derive(Debug, Default)]
struct Talk {
    connected: bool,
    hang_up: bool,
    given_up: bool,
    /// A run whose end it may not have heard to be committed.
    last: Option<RunId>,
    out: Vec<u8>,
    control_bytes: usize,
    channels: HashMap<u32, Arc<Channel>>,
    last_channel: u32,
    requests: HashMap<u64, Waiting>,
    last_request: u64,
}

impl Agent {
    pub(crate) fn new(sandbox: SandboxId) -> Arc<Self> {
        Arc::new(Self { sandbox, talk: Mutex::default(), wake: Notify::new(), version: AtomicU16::new(PROTOCOL_MIN) })
    }

    pub(crate) fn agree_on(&self, version: u16) {
        self.version.store(version, Ordering::Relaxed);
    }

    pub(crate) fn version(&self) -> u16 {
        self.version.load(Ordering::Relaxed)
    }

    fn talk(&self) -> MutexGuard<'_, Talk> {
        self.talk.lock().expect("no code panics while it holds this lock")
    }

    fn queue(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut talk = self.talk();
        if talk.connected {
            encode(&mut talk.out);
            drop(talk);
            self.wake.notify_one();
        }
    }

    /// Queues a message. While the connection is broken nothing is queued: the next hello tells how things stand.
    pub(crate) fn send(&self, message: &ToAgent) {
        let mut talk = self.talk();
        if talk.connected {
            talk.control(message);
            drop(talk);
            self.wake.notify_one();
        }
    }

    /// Queues a message that has time until the next one is sent: both are then written, and read, in one go.
    pub(crate) fn send_with_next(&self, message: &ToAgent) {
        let mut talk = self.talk();
        if talk.connected {
            talk.control(message);
        }
    }

    /// Sends what waited for a next message, if that has not come.
    pub(crate) fn flush(&self) {
        if !self.talk().out.is_empty() {
            self.wake.notify_one();
        }
    }

    pub(crate) fn credit(&self, channel: u32, bytes: u32) {
        self.queue(|out| encode_credit(out, channel, bytes));
    }

    pub(crate) fn input(&self, channel: u32, offset: u64, eof: bool, bytes: &[u8]) {
        self.queue(|out| encode_data(out, channel, Stream::Stdin, offset, eof, bytes));
    }

    /// Opens a channel and grants its first credit.
    pub(crate) fn attach(&self, request: AttachRequest) -> Result<(u32, Arc<Channel>), RuntimeError> {
        let mut talk = self.talk();
        if !talk.connected {
            return Err(RuntimeError::Closed);
        }
        if talk.channels.len() >= limits::CHANNELS_MAX {
            return Err(RuntimeError::TooManyChannels);
        }
        let number = talk.free_channel();
        let channel = Arc::new(Channel::new());
        talk.channels.insert(number, Arc::clone(&channel));
        let AttachRequest { target, role, stdin, from } = request;
        talk.control(&ToAgent::Attach { channel: number, target, owner: role == Role::Owner, stdin, from });
        encode_credit(&mut talk.out, number, limits::CHANNEL_CREDIT);
        drop(talk);
        self.wake.notify_one();
        Ok((number, channel))
    }

    /// Closes a channel from our side, unless it is closed already.
    pub(crate) fn detach(&self, number: u32) {
        let mut talk = self.talk();
        if talk.channels.remove(&number).is_some() && talk.connected {
            talk.control(&ToAgent::Detach { channel: number });
            drop(talk);
            self.wake.notify_one();
        }
    }

    pub(crate) fn channel(&self, number: u32) -> Option<Arc<Channel>> {
        self.talk().channels.get(&number).cloned()
    }

    /// The agent closed a channel.
    pub(crate) fn channel_closed(&self, number: u32) {
        let channel = self.talk().channels.remove(&number);
        if let Some(channel) = channel {
            channel.close();
        }
    }

    /// Asks something; the receiver fails when the connection breaks.
    pub(crate) fn ask(&self, question: impl FnOnce(u64) -> ToAgent) -> (u64, oneshot::Receiver<Answer>) {
        self.ask_for(None, question)
    }

    /// The same for something that is done to a run: what [`Agent::answer`] returns is then to be reported.
    pub(crate) fn ask_for(
        &self,
        fact_of: Option<RunId>,
        question: impl FnOnce(u64) -> ToAgent,
    ) -> (u64, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let mut talk = self.talk();
        talk.last_request += 1;
        let request = talk.last_request;
        if talk.connected {
            talk.requests.insert(request, Waiting { answer: sender, fact_of });
            talk.control(&question(request));
        }
        drop(talk);
        self.wake.notify_one();
        (request, receiver)
    }

    pub(crate) fn forget(&self, request: u64) {
        self.talk().requests.remove(&request);
    }

    /// Passes an answer on. The run about which it is a fact, if it is one.
    pub(crate) fn answer(&self, request: u64, answer: Answer) -> Option<RunId> {
        let waiting = self.talk().requests.remove(&request)?;
        // He may have given up waiting.
        let heard = waiting.answer.send(answer).is_ok();
        waiting.fact_of.filter(|_| heard)
    }

    /// A connection exists: from now on messages are queued.
    pub(crate) fn connected(&self) {
        self.talk().connected = true;
    }

    /// The connection is gone, and with it everything that was under way on it.
    pub(crate) fn disconnected(&self) {
        let mut talk = self.talk();
        let last = (talk.last_channel, talk.last_request, talk.last);
        let old = std::mem::take(&mut *talk);
        (talk.last_channel, talk.last_request, talk.last) = last;
        drop(talk);
        for channel in old.channels.values() {
            channel.close();
        }
    }

    /// It does not do what it has to: its connection is closed, and if it then does not answer, it is killed.
    pub(crate) fn give_up(&self) {
        self.talk().given_up = true;
        self.wake.notify_one();
    }

    /// Remembers whose directory it may leave behind.
    pub(crate) fn had(&self, run: RunId) {
        self.talk().last = Some(run);
    }

    pub(crate) fn last_run(&self) -> Option<RunId> {
        self.talk().last
    }

    /// Close the connection and leave the agent to itself.
    pub(crate) fn hang_up(&self) {
        self.talk().hang_up = true;
        self.wake.notify_one();
    }

    /// Moves what is queued into `writing`, if that is empty. `Err`: the connection is to be given up.
    pub(crate) fn take_out(&self, writing: &mut Vec<u8>) -> Result<(), HangUp> {
        let mut talk = self.talk();
        if talk.hang_up || talk.given_up || talk.control_bytes > CONTROL_OUT_MAX {
            return Err(if talk.hang_up { HangUp::Asked } else { HangUp::NotReading });
        }
        if writing.is_empty() {
            talk.control_bytes = 0;
            std::mem::swap(&mut talk.out, writing);
        }
        Ok(())
    }

    /// Whether someone reads or writes the streams of this agent's run.
    pub(crate) fn has_channels(&self) -> bool {
        !self.talk().channels.is_empty()
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// Why we give up a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HangUp {
    /// The daemon goes down.
    Asked,
    /// The agent does not read.
    NotReading,
}

impl Talk {
    fn control(&mut self, message: &ToAgent) {
        let before = self.out.len();
        encode_control(&mut self.out, message);
        self.control_bytes += self.out.len() - before;
    }

    fn free_channel(&mut self) -> u32 {
        loop {
            self.last_channel = self.last_channel.wrapping_add(1).max(1);
            if !self.channels.contains_key(&self.last_channel) {
                return self.last_channel;
            }
        }
    }
}
