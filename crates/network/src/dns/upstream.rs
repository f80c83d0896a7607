//! Asking other resolvers, one after the other.
//!
//! Each question has a socket and an id of its own: whoever wants to answer in another's place has to guess both.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::message::{self, Question, Transport};

/// How others are asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking {
    pub(super) port: u16,
    /// For each of them.
    pub(super) wait_max: Duration,
}

impl Asking {
    /// The answer of the first that knows; else of the last that said it does not; none when all were silent.
    pub(super) async fn ask(self, upstreams: &[IpAddr], question: &Question, transport: Transport) -> Option<Vec<u8>> {
        let mut failure = None;
        for upstream in upstreams {
            let upstream = SocketAddr::new(*upstream, self.port);
            let asked = async {
                match transport {
                    Transport::Udp => by_datagram(upstream, question).await,
                    Transport::Tcp => by_connection(upstream, question).await,
                }
            };
            match tokio::time::timeout(self.wait_max, asked).await {
                Ok(Ok(answer)) if message::is_failure(&answer) => failure = Some(answer),
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%upstream, %transport, %error, "asking a resolver"),
                Err(_) => tracing::debug!(%upstream, %transport, "a resolver did not answer in time"),
            }
        }
        failure
    }
}

fn fresh_id() -> u16 {
    u16::from_ne_bytes(hostler_linux::daemon::random_bytes())
}

/// What comes from elsewhere, or does not answer this, is as if it had not come.
async fn by_datagram(upstream: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let anywhere: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(anywhere, 0)).await?;
    socket.connect(upstream).await?;
    let id = fresh_id();
    socket.send(&question.with_id(id)).await?;
    // With room for a byte too many, so that a longer answer is seen to be one.
    let mut buffer = vec![0; question.answer_bytes_max(Transport::Udp) + 1];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if question.is_answered_by(&buffer[..length], id) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_connection(upstream: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let id = fresh_id();
    stream.write_all(&framed(&question.with_id(id))?).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if question.is_answered_by(&answer, id) {
        Ok(answer)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it answers another question"))
    }
}

/// As messages go over connections: behind their length.
pub(super) fn framed(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok([&length.to_be_bytes(), message].concat())
}
