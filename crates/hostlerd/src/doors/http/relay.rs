//! Between a WebSocket and an agent's channel. Output and input are two loops, so that a program that writes much
//! while it reads much never locks up; each waits for the slower of its two ends, and nothing piles up here.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt;
use futures_util::StreamExt;
use futures_util::stream::{SplitSink, SplitStream};
use hostler_api::stream::{FromServer, STDERR, STDIN, STDOUT, ToServer};
use hostler_api::types::LogStream;
use hostler_model::error::ProblemDocument;
use hostler_model::spec::TtySize;
use hostler_model::{Problem, RunId};
use hostler_runtime::{InputWriter, OutputReader, Runtime};
use hostler_wire::{AttachTarget, Stream, StreamOffsets};
use tokio::sync::{Mutex, watch};

/// WebSocket close code for a server that comes back.
const CLOSE_RESTART: u16 = 1012;
/// Largest message a client may send, bytes.
pub(crate) const MESSAGE_MAX: usize = hostler_model::limits::HTTP_BODY_MAX;

/// How often a silent client is asked for a sign of life: while its stdin waits for the program nobody reads its
/// socket, so that only a failing write tells that it is gone.
const PING_EVERY: Duration = Duration::from_secs(5);

/// How a pump of output ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// Everything was sent.
    Complete,
    /// The client is gone.
    ClientGone,
    /// The daemon goes down.
    Down,
}

/// What the client's messages act on, set anew for each run.
#[derive(Default)]
struct Program {
    input: Option<InputWriter>,
    terminal: Option<(RunId, AttachTarget)>,
}

/// One client.
pub(crate) struct Relay {
    sink: SplitSink<WebSocket, Message>,
    program: Arc<Mutex<Program>>,
    /// Becomes true with the first program; input that comes earlier waits for it.
    connected: watch::Sender<bool>,
    /// A size that came before there was a terminal for it.
    size: watch::Receiver<Option<TtySize>>,
    gone: watch::Receiver<bool>,
    down: watch::Receiver<bool>,
    runtime: Runtime,
}

impl Relay {
    /// Begins to listen to the client.
    pub(crate) fn new(socket: WebSocket, runtime: Runtime, down: watch::Receiver<bool>) -> Self {
        let (sink, stream) = socket.split();
        Self::with_parts(sink, stream, runtime, down)
    }

    pub(crate) fn with_parts(
        sink: SplitSink<WebSocket, Message>,
        stream: SplitStream<WebSocket>,
        runtime: Runtime,
        down: watch::Receiver<bool>,
    ) -> Self {
        let program = Arc::new(Mutex::new(Program::default()));
        let (gone_sender, gone) = watch::channel(false);
        let (size_sender, size) = watch::channel(None);
        let (connected, is_connected) = watch::channel(false);
        let listener = Listener {
            stream,
            program: program.clone(),
            connected: is_connected,
            size: size_sender,
            runtime: runtime.clone(),
        };
        tokio::spawn(async move {
            listener.run().await;
            gone_sender.send_replace(true);
        });
        Self { sink, program, connected, size, gone, down, runtime }
    }

    pub(crate) async fn say(&mut self, message: &FromServer) -> Pumped {
        let Ok(text) = serde_json::to_string(message) else { return Pumped::ClientGone };
        match self.sink.send(Message::Text(text.into())).await {
            Ok(()) => Pumped::Complete,
            Err(_) => Pumped::ClientGone,
        }
    }

    pub(crate) async fn refuse(&mut self, problem: &Problem) {
        self.say(&FromServer::Problem { problem: ProblemDocument::from(problem) }).await;
    }

    /// Says good-bye.
    pub(crate) async fn close(mut self, why: &Pumped) {
        let frame =
            (*why == Pumped::Down).then(|| CloseFrame { code: CLOSE_RESTART, reason: "the node is going down".into() });
        let _ = self.sink.send(Message::Close(frame)).await;
        let _ = self.sink.close().await;
    }

    /// Until the client is gone or the daemon goes down.
    pub(crate) async fn interrupted(&mut self) -> Pumped {
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
        loop {
            let over = tokio::select! {
                _ = self.gone.wait_for(|gone| *gone) => Some(Pumped::ClientGone),
                _ = self.down.wait_for(|down| *down) => Some(Pumped::Down),
                _ = ping.tick() => None,
            };
            if let Some(over) = over {
                return over;
            }
            if self.sink.send(Message::Ping(Bytes::new())).await.is_err() {
                return Pumped::ClientGone;
            }
        }
    }

    /// What this gives, if neither the client nor the daemon goes before.
    pub(crate) async fn unless_interrupted<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Pumped> {
        tokio::select! {
            done = work => Ok(done),
            interrupted = self.interrupted() => Err(interrupted),
        }
    }

    /// Connects the client's input and terminal to a program.
    pub(crate) async fn connect(&mut self, input: Option<InputWriter>, run: RunId, target: AttachTarget) {
        let size = *self.size.borrow();
        if let Some(size) = size {
            self.runtime.resize(run, target, size);
        }
        // The listener holds this only while it writes; a program that is over makes that write fail at once.
        let mut program = self.program.lock().await;
        program.input = input;
        program.terminal = Some((run, target));
        drop(program);
        self.connected.send_replace(true);
    }

    /// Sends output until it is complete.
    pub(crate) async fn pump(&mut self, output: &mut OutputReader, from: Option<StreamOffsets>) -> Pumped {
        let from = from.unwrap_or_default();
        let mut next = [from.stdout, from.stderr];
        // Where no offset was asked for, what lies before the backlog was never this reader's.
        let mut begun = [from.stdout > 0, from.stderr > 0];
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
        loop {
            let next_piece = tokio::select! {
                biased;
                _ = self.gone.wait_for(|gone| *gone) => Err(Pumped::ClientGone),
                _ = self.down.wait_for(|down| *down) => Err(Pumped::Down),
                piece = output.next() => Ok(Some(piece)),
                _ = ping.tick() => Ok(None),
            };
            let piece = match next_piece {
                Ok(Some(piece)) => piece,
                Ok(None) if self.sink.send(Message::Ping(Bytes::new())).await.is_ok() => continue,
                Ok(None) => return Pumped::ClientGone,
                Err(over) => return over,
            };
            let Some(piece) = piece else { return Pumped::Complete };
            let (index, stream, number) = match piece.stream {
                Stream::Stderr => (1, LogStream::Stderr, STDERR),
                _ => (0, LogStream::Stdout, STDOUT),
            };
            if begun[index] && piece.offset > next[index] {
                let dropped = FromServer::Dropped { stream, bytes: piece.offset - next[index] };
                if self.say(&dropped).await == Pumped::ClientGone {
                    return Pumped::ClientGone;
                }
            }
            begun[index] = true;
            next[index] = piece.offset + piece.bytes.len() as u64;
            if piece.bytes.is_empty() {
                continue;
            }
            let mut message = Vec::with_capacity(piece.bytes.len() + 1);
            message.push(number);
            message.extend_from_slice(&piece.bytes);
            let sent = tokio::select! {
                sent = self.sink.send(Message::Binary(Bytes::from(message))) => sent.is_ok(),
                _ = self.gone.wait_for(|gone| *gone) => false,
            };
            if !sent {
                return Pumped::ClientGone;
            }
        }
    }
}

/// The client's messages.
struct Listener {
    stream: SplitStream<WebSocket>,
    program: Arc<Mutex<Program>>,
    connected: watch::Receiver<bool>,
    size: watch::Sender<Option<TtySize>>,
    runtime: Runtime,
}

impl Listener {
    /// Waits for the first program; whether one came.
    async fn has_program(&mut self) -> bool {
        self.connected.wait_for(|connected| *connected).await.is_ok()
    }

    async fn run(mut self) {
        while let Some(Ok(message)) = self.stream.next().await {
            match message {
                Message::Binary(bytes) => {
                    let Some((&STDIN, data)) = bytes.split_first() else { return };
                    if !self.has_program().await {
                        return;
                    }
                    let mut program = self.program.lock().await;
                    if let Some(input) = program.input.as_mut()
                        && input.write(data).await.is_err()
                    {
                        // The program is over; what was typed for it has no reader.
                        program.input = None;
                    }
                }
                Message::Text(text) => match serde_json::from_str::<ToServer>(&text) {
                    Ok(ToServer::Resize { size }) => {
                        self.size.send_replace(Some(size));
                        let terminal = self.program.lock().await.terminal;
                        if let Some((run, target)) = terminal {
                            self.runtime.resize(run, target, size);
                        }
                    }
                    Ok(ToServer::StdinEof) => {
                        if !self.has_program().await {
                            return;
                        }
                        if let Some(mut input) = self.program.lock().await.input.take() {
                            input.close();
                        }
                    }
                    Ok(ToServer::Exec { .. }) | Err(_) => return,
                },
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }
}
