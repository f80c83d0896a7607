//! The streaming doors (attach, exec) as a client sees them: frames both ways over a WebSocket.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

use super::error::ClientError;
use crate::stream::{FromServer, STDERR, STDIN, STDOUT, ToServer};
use crate::types::LogStream;

type Inner = WebSocketStream<TokioIo<Upgraded>>;

/// What comes from the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Output of the program.
    Output(LogStream, Bytes),
    /// Anything else.
    Control(FromServer),
}

/// An open attach or exec.
#[derive(Debug)]
pub struct Streams {
    sender: StreamSender,
    receiver: StreamReceiver,
}

/// The half that sends.
#[derive(Debug)]
pub struct StreamSender(SplitSink<Inner, Message>);

/// The half that receives.
#[derive(Debug)]
pub struct StreamReceiver(SplitStream<Inner>);

impl Streams {
    pub(super) async fn new(upgraded: Upgraded) -> Self {
        let inner = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        let (sink, stream) = inner.split();
        Self { sender: StreamSender(sink), receiver: StreamReceiver(stream) }
    }

    /// The two halves, so that neither direction waits for the other.
    #[must_use]
    pub fn split(self) -> (StreamSender, StreamReceiver) {
        (self.sender, self.receiver)
    }

    /// See [`StreamReceiver::next`].
    pub async fn next(&mut self) -> Result<Option<Frame>, ClientError> {
        self.receiver.next().await
    }

    /// See [`StreamSender::stdin`].
    pub async fn stdin(&mut self, data: &[u8]) -> Result<(), ClientError> {
        self.sender.stdin(data).await
    }

    /// See [`StreamSender::control`].
    pub async fn control(&mut self, message: &ToServer) -> Result<(), ClientError> {
        self.sender.control(message).await
    }
}

impl StreamSender {
    /// Sends bytes to the program's stdin.
    pub async fn stdin(&mut self, data: &[u8]) -> Result<(), ClientError> {
        let mut message = BytesMut::with_capacity(data.len() + 1);
        message.put_u8(STDIN);
        message.put_slice(data);
        self.0.send(Message::Binary(message.freeze())).await.map_err(broken)
    }

    /// Sends a control message.
    pub async fn control(&mut self, message: &ToServer) -> Result<(), ClientError> {
        let text = serde_json::to_string(message).map_err(ClientError::protocol)?;
        self.0.send(Message::text(text)).await.map_err(broken)
    }

    /// Says goodbye.
    pub async fn close(&mut self) -> Result<(), ClientError> {
        self.0.close().await.map_err(broken)
    }
}

impl StreamReceiver {
    /// The next frame; `None` after the node has closed in order. A connection that just stops is
    /// [`ClientError::Disconnected`].
    pub async fn next(&mut self) -> Result<Option<Frame>, ClientError> {
        loop {
            let message = match self.0.next().await {
                Some(Ok(message)) => message,
                Some(Err(WebSocketError::ConnectionClosed)) => return Ok(None),
                Some(Err(error)) => return Err(broken(error)),
                None => return Err(ClientError::Disconnected("it stopped without a goodbye".to_owned())),
            };
            match message {
                Message::Binary(mut data) => {
                    let stream = match data.first() {
                        Some(&STDOUT) => LogStream::Stdout,
                        Some(&STDERR) => LogStream::Stderr,
                        _ => return Err(ClientError::protocol("data of an unknown stream")),
                    };
                    return Ok(Some(Frame::Output(stream, data.split_off(1))));
                }
                Message::Text(text) => {
                    return serde_json::from_str(&text)
                        .map(|control| Some(Frame::Control(control)))
                        .map_err(ClientError::protocol);
                }
                Message::Close(_) => return Ok(None),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

fn broken(error: WebSocketError) -> ClientError {
    match error {
        WebSocketError::Capacity(_) | WebSocketError::Utf8(_) => ClientError::protocol(error),
        other => ClientError::Disconnected(other.to_string()),
    }
}
