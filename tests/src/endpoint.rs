//! A small HTTP server on loopback that keeps what it was sent, and answers as it was told.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::{PATIENCE, until};

/// What a request gets.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// Nothing; the connection stays open until the test is over.
    Silence,
    /// A closed connection.
    Close,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Posted {
    /// Method and target.
    pub line: String,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body, which is JSON.
    pub body: serde_json::Value,
}

impl Posted {
    /// The event that it tells of.
    #[must_use]
    pub fn key(&self) -> &str {
        self.headers.get("idempotency-key").map_or("", String::as_str)
    }
}

#[derive(Debug, Default)]
struct Shared {
    posted: Vec<Posted>,
    answers: VecDeque<Answer>,
    silent: Vec<TcpStream>,
}

/// See the module. Its thread ends with the test's process.
#[derive(Debug)]
pub struct Endpoint {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl Endpoint {
    /// One that gives these answers, one after the other, and then 200 for ever.
    #[must_use]
    pub fn new(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Mutex::new(Shared { answers: answers.iter().copied().collect(), ..Shared::default() }));
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { port, shared }
    }

    /// Its address, with this path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What has come so far.
    #[must_use]
    pub fn posted(&self) -> Vec<Posted> {
        self.shared.lock().expect("a lock").posted.clone()
    }

    /// Waits until so many requests have come.
    pub fn wait(&self, count: usize) -> Vec<Posted> {
        until(&format!("{count} requests"), PATIENCE, || Some(self.posted()).filter(|posted| posted.len() >= count))
    }
}

fn serve(stream: TcpStream, shared: &Mutex<Shared>) {
    let Some(posted) = read(&stream) else { return };
    let mut shared = shared.lock().expect("a lock");
    shared.posted.push(posted);
    let answer = shared.answers.pop_front().unwrap_or(Answer::Status(200));
    match answer {
        Answer::Status(status) => {
            let location = if status == 307 { "location: /elsewhere\r\n" } else { "" };
            let text = format!("HTTP/1.1 {status} So\r\n{location}content-length: 2\r\n\r\nok");
            let _ = (&stream).write_all(text.as_bytes());
        }
        Answer::Silence => shared.silent.push(stream),
        Answer::Close => {}
    }
}

fn read(stream: &TcpStream) -> Option<Posted> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Posted { line: line.trim_end().to_owned(), headers, body: serde_json::from_slice(&body).ok()? })
}
