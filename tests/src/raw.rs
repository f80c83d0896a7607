//! HTTP by hand over the unix socket: for requests that no client of ours would send.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use hostler_model::error::{ProblemDocument, ProblemKind};

use crate::PATIENCE;

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
}

impl Reply {
    /// The header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// It must be a problem document of this kind, in every detail that all of them share.
    pub fn problem(&self, kind: ProblemKind) -> ProblemDocument {
        assert_eq!(self.status, kind.status(), "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let document: ProblemDocument = serde_json::from_slice(&self.body).expect("a problem document");
        assert_eq!(document.kind(), Some(kind), "{document:?}");
        assert_eq!(document.status, kind.status());
        assert!(!document.detail.is_empty() && document.title == kind.title(), "{document:?}");
        document
    }
}

/// Sends bytes and reads the answer until the node closes the connection.
pub fn exchange(socket: &Path, request: &[u8]) -> io::Result<Reply> {
    let mut stream = hostler_linux::net::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    send(&mut stream, request)?;
    receive(&mut stream)
}

fn send(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    match stream.write_all(bytes) {
        // Answered and closed before all was sent: the answer is there to be read.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
        other => other,
    }
}

fn receive(stream: &mut UnixStream) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !bytes.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    parse(&bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, String::from_utf8_lossy(&bytes).into_owned()))
}

fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = &bytes[end + 4..];
    let body = if chunked { unchunk(body)? } else { body.to_vec() };
    Some(Reply { status, headers, body })
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(end + 2..end + 2 + size)?);
        bytes = bytes.get(end + 4 + size..)?;
    }
}

/// One request on a connection of its own.
pub fn request(socket: &Path, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| *name == "content-length" || *name == "transfer-encoding") {
        bytes.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body);
    exchange(socket, &bytes).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

/// A request whose body is this many bytes of blanks, sent as far as the node takes them.
pub fn flood(socket: &Path, target: &str, length: u64, announce: Announce) -> Reply {
    let mut stream = hostler_linux::net::connect(socket).expect("connecting");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    let coding = match announce {
        Announce::Length => format!("content-length: {length}"),
        Announce::Nothing => "transfer-encoding: chunked".to_owned(),
    };
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\ncontent-type: application/json\r\n{coding}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the head");
    let piece = vec![b' '; 64 * 1024];
    let mut sent = 0;
    while sent < length {
        let result = match announce {
            Announce::Length => stream.write_all(&piece),
            Announce::Nothing => stream
                .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
                .and_then(|()| stream.write_all(&piece))
                .and_then(|()| stream.write_all(b"\r\n")),
        };
        if result.is_err() {
            break;
        }
        sent += piece.len() as u64;
    }
    receive(&mut stream).expect("an answer")
}

/// Whether a flood says how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// In `Content-Length`.
    Length,
    /// Chunked: only the end tells.
    Nothing,
}
