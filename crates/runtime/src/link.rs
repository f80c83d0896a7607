//! One connection to one agent: one task, from its hello to its end.
//!
//! ```text
//!   spawn ─► hello ─► ready ─► serve ─► break ─► process ended? ─► exit.json, or kill what is left ─► gone
//!   found ─► hello ─► adopt ──►  ▲                   │ no: it lives
//!                                └──── hello ◄── reconnect, once for each break; else kill it
//! ```
//! The task sleeps until its socket or its [`Agent`] wakes it. It holds no read buffer while it sleeps: bytes are
//! read into the stack of a plain function and kept only while a frame is incomplete. A fact is delivered before the
//! next frame is looked at, so a supervisor that is busy slows its agents down and nothing piles up here.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hostler_model::limits;
use hostler_model::rundir::AGENT_SOCKET;
use hostler_wire::{DecodeError, Decoder, Frame, FromAgent, Hello, PROTOCOL_MAX, PROTOCOL_MIN, ToAgent, negotiate};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::agent::{Agent, HangUp};
use crate::attach::CreditExceeded;
use crate::pool::slots::Place;
use crate::process::remains;
use crate::process::spawn::{self, Process};
use crate::{Fact, process::Shared};

/// Bytes read at one time; on the stack.
const READ: usize = 16 * 1024;
/// Memory that an idle connection may keep for writing, bytes.
const WRITE_KEEP: usize = 1024;
/// How long an agent whose connection broke may take to end by itself, milliseconds.
const ENDING_MAX_MS: u64 = 250;
/// How long one that was told to leave may take, milliseconds.
const LEAVING_MAX_MS: u64 = 2_000;
/// Breaks of a living agent's connection in a row before it is killed.
const BREAKS_MAX: u32 = 3;

/// Why a connection is of no use.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    #[error("the agent closed the connection")]
    Eof,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the agent sent what is not a frame: {0}")]
    Frame(#[from] DecodeError),
    #[error("the agent sent more than it was granted")]
    Credit,
    #[error("the agent does not read")]
    NotReading,
    #[error("the daemon closes the connection")]
    HangUp,
    #[error("the agent spoke before its hello")]
    NoHello,
    #[error("the agent speaks protocol {min} to {max}, this daemon {PROTOCOL_MIN} to {PROTOCOL_MAX}")]
    Protocol { min: u16, max: u16 },
    #[error("the agent says it is another sandbox's")]
    Sandbox,
    #[error("no hello within {} ms", limits::HELLO_MAX_MS)]
    HelloDeadline,
}

impl From<CreditExceeded> for LinkError {
    fn from(_: CreditExceeded) -> Self {
        Self::Credit
    }
}

/// What one frame comes to.
enum Heard {
    Nothing,
    Hello(Box<Hello>),
    Message(Box<FromAgent>),
}

/// A connection.
pub(crate) struct Link {
    agent: Arc<Agent>,
    stream: UnixStream,
    decoder: Decoder,
    /// Bytes in the decoder that are not yet a whole frame.
    undecoded: usize,
    writing: Vec<u8>,
    written: usize,
    /// The agent's end takes nothing more; what it sent before may still be read.
    deaf: bool,
}

/// The life of an agent that is yet to be spawned.
pub(crate) async fn run_spawned(shared: Arc<Shared>, agent: Arc<Agent>) {
    let sandbox = agent.sandbox;
    let spawning = Arc::clone(&shared);
    let spawned = shared.handle.spawn_blocking(move || (spawning.spawner)(&spawning.settings, sandbox)).await;
    let (stream, mut process) = match spawned {
        Ok(Ok(spawned)) => spawned,
        Ok(Err(error)) => return shared.start_failed(sandbox, &error.to_string()),
        Err(_) => return shared.start_failed(sandbox, "the daemon is going down"),
    };
    let hello = async {
        let mut link = Link::new(Arc::clone(&agent), UnixStream::from_std(stream)?);
        link.hello(&shared).await.map(|_| link)
    };
    match hello.await {
        Ok(link) => {
            if !shared.begins_warm(&agent) {
                shared.ready(&agent);
            }
            live(shared, link, process).await;
        }
        Err(error) => {
            agent.disconnected();
            process.kill().await;
            spawn::remove_dir(&spawn::sandbox_dir(&shared.settings, sandbox));
            shared.start_failed(sandbox, &format!("the agent did not start: {error}"));
        }
    }
}

/// From hello to end.
pub(crate) async fn live(shared: Arc<Shared>, mut link: Link, mut process: Process) {
    let agent = Arc::clone(&link.agent);
    let mut breaks = 0;
    loop {
        let error = link.serve(&shared, &mut breaks).await;
        drop(link);
        agent.disconnected();
        if matches!(error, LinkError::HangUp) {
            return;
        }
        breaks += 1;
        // Boxed: what happens once in a life is not to make every sleeping task larger.
        match Box::pin(mend(&shared, &agent, &mut process, &error, breaks)).await {
            Some(again) => link = again,
            None => return,
        }
    }
}

/// The connection broke. Either a new one, or the agent is gone and everything about that was said.
async fn mend(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    process: &mut Process,
    error: &LinkError,
    breaks: u32,
) -> Option<Link> {
    let place = shared.state().slots.place(agent.sandbox);
    let with_run = matches!(place, Some(Place::Bound(_)));
    if !with_run {
        shared.state().warm.leaves(agent.sandbox);
    }
    let wait_ms = if with_run { ENDING_MAX_MS } else { LEAVING_MAX_MS };
    let ended = process.ended(Duration::from_millis(wait_ms)).await;
    if !ended {
        tracing::warn!(sandbox = %agent.sandbox, %error, "the connection to an agent broke");
        if with_run && breaks <= BREAKS_MAX {
            match reconnect(shared, agent).await {
                Ok((link, facts)) => {
                    for fact in facts {
                        let _ = shared.facts.send(fact).await;
                    }
                    return Some(link);
                }
                Err(error) => tracing::warn!(sandbox = %agent.sandbox, %error, "no second connection to an agent"),
            }
            agent.disconnected();
        }
        process.kill().await;
    }
    let run = match shared.state().slots.place(agent.sandbox) {
        Some(Place::Bound(run)) => Some(run),
        // Its end is known, or nobody wants to know.
        _ => None,
    };
    let mut facts = match run {
        Some(run) => {
            let tidying = Arc::clone(shared);
            let end = shared.handle.spawn_blocking(move || remains::end(&tidying.settings, run)).await;
            end.ok().flatten().map(remains::facts_of).unwrap_or_default()
        }
        None => Vec::new(),
    };
    let end = facts.pop();
    spawn::remove_dir(&spawn::sandbox_dir(&shared.settings, agent.sandbox));
    let (fact, undone) = shared.gone(agent, end);
    // Those of execs only when the run's own end is news as well.
    for fact in facts.into_iter().filter(|_| fact.is_some()).chain(fact.clone()) {
        let _ = shared.facts.send(fact).await;
    }
    if let Some(run) = undone
        && remains::run_dir(&shared.settings, run).exists()
    {
        let tidying = Arc::clone(shared);
        shared.handle.spawn_blocking(move || remains::remove(&tidying.settings, run));
    }
    None
}

async fn reconnect(shared: &Arc<Shared>, agent: &Arc<Agent>) -> Result<(Link, Vec<Fact>), LinkError> {
    let directory = spawn::sandbox_dir(&shared.settings, agent.sandbox);
    let mut link = Link::new(Arc::clone(agent), connect(&directory).await?);
    let hello = link.hello(shared).await?;
    let facts = shared.reconnected(agent, hello);
    Ok((link, facts))
}

/// Connects to the socket in a sandbox directory, however deep that is: an address holds 107 bytes.
pub(crate) async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let path = directory.join(AGENT_SOCKET);
    if path.as_os_str().len() <= 107 {
        return UnixStream::connect(path).await;
    }
    use std::os::fd::AsRawFd;
    let handle = std::fs::File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{AGENT_SOCKET}", handle.as_raw_fd())).await
}

impl Link {
    pub(crate) fn new(agent: Arc<Agent>, stream: UnixStream) -> Self {
        agent.connected();
        Self { agent, stream, decoder: Decoder::default(), undecoded: 0, writing: Vec::new(), written: 0, deaf: false }
    }

    pub(crate) fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Says hello and waits for the answer. On any error the agent's handle is disconnected again.
    pub(crate) async fn hello(&mut self, shared: &Shared) -> Result<Hello, LinkError> {
        let store = shared.settings.store;
        self.agent.send(&ToAgent::Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, store });
        let deadline = Duration::from_millis(limits::HELLO_MAX_MS);
        let answer = tokio::time::timeout(deadline, self.first_frame()).await;
        let hello = answer.unwrap_or(Err(LinkError::HelloDeadline)).and_then(|hello| {
            let Hello { protocol_min: min, protocol_max: max, .. } = hello;
            self.agent.agree_on(negotiate(min, max).ok_or(LinkError::Protocol { min, max })?);
            if hello.sandbox == self.agent.sandbox { Ok(hello) } else { Err(LinkError::Sandbox) }
        });
        if hello.is_err() {
            self.agent.disconnected();
        }
        hello
    }

    async fn first_frame(&mut self) -> Result<Hello, LinkError> {
        loop {
            match self.next_frame()? {
                Some(Heard::Hello(hello)) => return Ok(*hello),
                Some(_) => return Err(LinkError::NoHello),
                None => self.turn().await?,
            }
        }
    }

    /// Carries frames both ways until the connection breaks. A whole frame clears `breaks`.
    async fn serve(&mut self, shared: &Arc<Shared>, breaks: &mut u32) -> LinkError {
        loop {
            match self.next_frame() {
                Ok(Some(Heard::Message(message))) => {
                    *breaks = 0;
                    let agent = Arc::clone(&self.agent);
                    if let Some(fact) = shared.heard(&agent, *message)
                        && let Err(full) = shared.facts.try_send(fact)
                    {
                        // A closed channel means that the daemon goes down.
                        let _ = shared.facts.send(full.into_inner()).await;
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    if let Err(error) = self.turn().await {
                        return error;
                    }
                }
                Err(error) => return error,
            }
        }
    }

    /// Takes the next whole frame apart. Data, credit and the like are delivered right here.
    fn next_frame(&mut self) -> Result<Option<Heard>, LinkError> {
        const HEADER: usize = 16;
        let Some(frame) = self.decoder.next_frame()? else {
            if self.undecoded == 0 && !self.agent.has_channels() {
                self.decoder = Decoder::default();
            }
            return Ok(None);
        };
        let (length, heard) = match frame {
            Frame::Control(json) => {
                let message = Frame::message::<FromAgent>(json)?;
                let heard = match message {
                    FromAgent::Hello(hello) => Heard::Hello(Box::new(hello)),
                    message => Heard::Message(Box::new(message)),
                };
                (json.len(), heard)
            }
            Frame::Data { channel: number, stream, offset, eof, bytes } => {
                // A channel that we closed may still get what was on its way.
                if let Some(channel) = self.agent.channel(number)
                    && let Some(credit) = channel.deliver(stream, offset, eof, bytes)?
                {
                    self.agent.credit(number, credit);
                }
                (8 + bytes.len(), Heard::Nothing)
            }
            Frame::Credit { channel: number, bytes } => {
                if let Some(channel) = self.agent.channel(number) {
                    channel.grant(bytes);
                }
                (4, Heard::Nothing)
            }
        };
        self.undecoded -= HEADER + length;
        Ok(Some(heard))
    }

    /// Writes what is queued; then waits for, and reads, more.
    async fn turn(&mut self) -> Result<(), LinkError> {
        loop {
            let blocked = self.write()?;
            let interest = if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            tokio::select! {
                ready = self.stream.ready(interest) => {
                    if ready?.is_readable() && self.read()? {
                        return Ok(());
                    }
                }
                () = self.agent.woken() => {}
            }
        }
    }

    /// Writes as much as goes; whether something is left.
    fn write(&mut self) -> Result<bool, LinkError> {
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                if self.writing.capacity() > WRITE_KEEP {
                    self.writing = Vec::new();
                }
            }
            // Also sees an agent that lets everything pile up.
            self.agent.take_out(&mut self.writing).map_err(|why| match why {
                HangUp::Asked => LinkError::HangUp,
                HangUp::NotReading => LinkError::NotReading,
            })?;
            if self.writing.is_empty() {
                return Ok(false);
            }
            if self.deaf {
                self.written = self.writing.len();
                continue;
            }
            match self.stream.try_write(&self.writing[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                // Its last words may still be on the way to us.
                Err(_) => self.deaf = true,
            }
        }
    }

    /// Reads once; whether anything came.
    fn read(&mut self) -> Result<bool, LinkError> {
        let mut buffer = [0; READ];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => Err(LinkError::Eof),
            Ok(length) => {
                self.decoder.push(&buffer[..length]);
                self.undecoded += length;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
