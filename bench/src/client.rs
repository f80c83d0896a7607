//! Keep-alive HTTP on the unix socket, and as little of it as possible: it runs on the cores that are measured.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum Method {
    /// Look.
    Get,
    /// Do.
    Post,
    /// Change.
    Patch,
    /// Put in its place.
    Put,
}

/// One connection.
pub struct Client {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Client {
    /// Connects.
    pub async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).await.context("connecting to the node")?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Asks; anything but success is an error.
    pub async fn ask(&mut self, method: Method, path: &str, body: &str) -> anyhow::Result<Vec<u8>> {
        let method = match method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Patch => "PATCH",
            Method::Put => "PUT",
        };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.received.clear();
        let (status, head) = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.received[..end]).to_ascii_lowercase();
                self.received.drain(..end + 4);
                let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
                break (status.context("no status")?, head);
            }
            self.receive().await?;
        };
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let body = match header("content-length:") {
            Some(length) => {
                let length: usize = length.parse()?;
                while self.received.len() < length {
                    self.receive().await?;
                }
                std::mem::take(&mut self.received)
            }
            None => self.chunks().await?,
        };
        ensure!((200..300).contains(&status), "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// The same, parsed.
    pub async fn json(&mut self, method: Method, path: &str, body: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.ask(method, path, body).await?)?)
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        let count = self.stream.read_buf(&mut self.received).await?;
        ensure!(count > 0, "the node hung up");
        Ok(())
    }

    /// A body of unknown length.
    async fn chunks(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut at = 0;
        loop {
            let Some(end) = find(&self.received[at..], b"\r\n") else {
                self.receive().await?;
                continue;
            };
            let size = usize::from_str_radix(std::str::from_utf8(&self.received[at..at + end])?.trim(), 16)?;
            let from = at + end + 2;
            while self.received.len() < from + size + 2 {
                self.receive().await?;
            }
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&self.received[from..from + size]);
            at = from + size + 2;
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
