//! QEMU's monitor: one JSON object a line, both ways. A greeting, `qmp_capabilities`, then commands, each with its answer;
//! events come in between.
//!
//! Whoever is at the other end may have been taken over by its guest: lines are bounded, every wait has a deadline, and
//! what is not an answer ends the conversation.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use hostler_linux::net;
use hostler_model::limits;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use crate::microvm::{Place, VmmError, socket};

/// Bytes read at one time.
const READ: usize = 8 * 1024;

/// A conversation. QEMU has one at a time: the next one waits until this is dropped.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: UnixStream,
    /// What was read and is not a whole line yet.
    unread: Vec<u8>,
    events: VecDeque<Event>,
    last_id: u64,
    /// For one command.
    longest: Duration,
}

#[derive(Debug)]
struct Event {
    name: String,
    data: Value,
}

/// One line from QEMU.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<Failure>,
    id: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    desc: String,
}

impl Qmp {
    /// Connects as soon as QEMU listens, and shakes hands.
    pub(super) async fn connect(
        place: &Place,
        name: &str,
        until_it_listens: Duration,
        longest: Duration,
    ) -> Result<Self, VmmError> {
        Self::greet(socket::connect(&place.directory, name, until_it_listens).await?, longest).await
    }

    /// The same with one that listened before.
    pub(super) async fn connect_again(place: &Place, name: &str, longest: Duration) -> Result<Self, VmmError> {
        Self::greet(socket::connect_again(&place.directory, name, longest).await?, longest).await
    }

    /// Shakes hands.
    async fn greet(stream: UnixStream, longest: Duration) -> Result<Self, VmmError> {
        let mut qmp = Self { stream, unread: Vec::new(), events: VecDeque::new(), last_id: 0, longest };
        let doing = "talk to QEMU's monitor";
        let greeting = qmp.message(doing, Instant::now() + longest, longest).await?;
        if greeting.greeting.is_none() {
            return Err(VmmError::garbage(doing, "no greeting"));
        }
        qmp.call("qmp_capabilities", Value::Null).await?;
        Ok(qmp)
    }

    /// One command without a descriptor.
    pub(super) async fn call(&mut self, command: &str, arguments: Value) -> Result<Value, VmmError> {
        self.execute(command, arguments, None).await
    }

    /// Gives QEMU an open file by this name, so that it needs no right to any path.
    pub(super) async fn give_file(&mut self, name: &str, file: &File) -> Result<(), VmmError> {
        self.execute("getfd", json!({ "fdname": name }), Some(file)).await.map(|_| ())
    }

    async fn execute(&mut self, command: &str, arguments: Value, file: Option<&File>) -> Result<Value, VmmError> {
        let longest = self.longest;
        let doing = format!("have QEMU carry out {command}");
        let deadline = Instant::now() + longest;
        self.last_id += 1;
        let mut line = json!({ "execute": command, "id": self.last_id });
        if !arguments.is_null() {
            line["arguments"] = arguments;
        }
        let line = format!("{line}\n");
        match timeout_at(deadline, self.send(line.as_bytes(), file)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(broken(&doing, error)),
            Err(_) => return Err(VmmError::Deadline { doing, longest }),
        }
        loop {
            let message = self.message(&doing, deadline, longest).await?;
            match message {
                Message { event: Some(name), data, .. } => self.remember(name, data),
                // Without an id it could not even read what we sent.
                Message { error: Some(error), id, .. } if id.is_none_or(|id| id == self.last_id) => {
                    return Err(VmmError::refused(doing, &error.desc));
                }
                Message { result: Some(result), id: Some(id), .. } if id == self.last_id => return Ok(result),
                _ => return Err(VmmError::garbage(doing, "neither an event nor the answer")),
            }
        }
    }

    /// The data of the next event of this name that is of interest, also one that came already.
    pub(super) async fn event<T>(
        &mut self,
        doing: &str,
        name: &str,
        longest: Duration,
        mut of_interest: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T, VmmError> {
        let deadline = Instant::now() + longest;
        loop {
            while let Some(event) = self.events.pop_front() {
                if event.name == name
                    && let Some(found) = of_interest(&event.data)
                {
                    return Ok(found);
                }
            }
            let message = self.message(doing, deadline, longest).await?;
            match message.event {
                Some(name) => self.remember(name, message.data),
                None => return Err(VmmError::garbage(doing, "an answer to no question")),
            }
        }
    }

    fn remember(&mut self, name: String, data: Value) {
        if self.events.len() == limits::QMP_EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event { name, data });
    }

    async fn send(&mut self, mut line: &[u8], file: Option<&File>) -> io::Result<()> {
        if let Some(file) = file {
            let sent =
                self.stream.async_io(Interest::WRITABLE, || net::send_descriptor(&self.stream, line, file.as_fd()));
            line = &line[sent.await?..];
        }
        self.stream.write_all(line).await
    }

    async fn message(&mut self, doing: &str, deadline: Instant, longest: Duration) -> Result<Message, VmmError> {
        loop {
            let line = match timeout_at(deadline, self.line()).await {
                Ok(Ok(line)) => line,
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(VmmError::garbage(doing, error));
                }
                Ok(Err(error)) => return Err(broken(doing, error)),
                Err(_) => return Err(VmmError::Deadline { doing: doing.to_owned(), longest }),
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return serde_json::from_slice(&line).map_err(|error| VmmError::garbage(doing, error));
        }
    }

    /// Keeps what it has read when it is dropped half-way.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.unread[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.unread.split_off(searched + at + 1);
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            searched = self.unread.len();
            if searched > limits::QMP_LINE_MAX {
                let problem = format!("a line of more than {} bytes", limits::QMP_LINE_MAX);
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            self.unread.reserve(READ);
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// One that hangs up is most likely dead; anything else the system has to explain.
fn broken(doing: &str, error: io::Error) -> VmmError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            VmmError::Closed { doing: doing.to_owned() }
        }
        _ => VmmError::io(doing, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n";
    const READY: &str = "{\"return\": {}, \"id\": 1}\n";

    const SHORT: Duration = Duration::from_millis(200);

    /// A conversation with somebody who says this, whatever he is told; he stays on the line or hangs up.
    async fn with(said: String, stays: bool) -> Result<Value, VmmError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let talking = async move {
            let mut qmp = Qmp::greet(ours, SHORT).await?;
            qmp.call("query-status", Value::Null).await
        };
        let answering = async move {
            let _ = theirs.write_all(said.as_bytes()).await;
            if stays {
                let mut heard = Vec::new();
                let _ = theirs.read_to_end(&mut heard).await;
            }
        };
        tokio::join!(talking, answering).0
    }

    #[tokio::test]
    async fn answers_come_between_events() {
        let event = "\r\n{\"event\": \"STOP\", \"data\": {}, \"timestamp\": {}}\n";
        let said = format!("{GREETING}{event}{READY}{event}{{\"return\": {{\"a\": 1}}, \"id\": 2}}\n");
        assert_eq!(with(said, true).await.unwrap(), json!({ "a": 1 }));
    }

    #[tokio::test]
    async fn hostile_answers_are_errors() {
        let flood = "{\"event\": \"X\"}\n".repeat(10_000);
        let long = format!("{{\"return\": \"{}\"}}\n", "x".repeat(limits::QMP_LINE_MAX + READ));
        type Expected = fn(&VmmError) -> bool;
        let cases: Vec<(&str, String, Expected)> = vec![
            ("nothing", String::new(), |e| matches!(e, VmmError::Deadline { .. })),
            ("no greeting", READY.to_owned(), |e| matches!(e, VmmError::Garbage { .. })),
            ("no JSON", "hello\n".to_owned(), |e| matches!(e, VmmError::Garbage { .. })),
            ("a list", format!("{GREETING}[1]\n"), |e| matches!(e, VmmError::Garbage { .. })),
            ("deep", format!("{}\n", "[".repeat(100_000)), |e| matches!(e, VmmError::Garbage { .. })),
            ("not UTF-8", "{\"QMP\": \"\u{0}\"}\n".to_owned(), |e| matches!(e, VmmError::Garbage { .. })),
            ("half a line", format!("{GREETING}{READY}{{\"ret"), |e| matches!(e, VmmError::Deadline { .. })),
            ("another's", format!("{GREETING}{READY}{{\"return\": 1, \"id\": 7}}\n"), |e| {
                matches!(e, VmmError::Garbage { .. })
            }),
            ("no id", format!("{GREETING}{READY}{{\"return\": 1}}\n"), |e| matches!(e, VmmError::Garbage { .. })),
            ("only events", format!("{GREETING}{flood}"), |e| matches!(e, VmmError::Deadline { .. })),
            ("a long line", long, |e| matches!(e, VmmError::Garbage { .. })),
            (
                "no",
                format!(
                    "{GREETING}{READY}{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"no\\u0007\"}}, \"id\": 2}}\n"
                ),
                |e| matches!(e, VmmError::Refused { said, .. } if said == "no "),
            ),
        ];
        for (what, said, expected) in cases {
            let error = with(said, true).await.unwrap_err();
            assert!(expected(&error), "{what}: {error:?}");
        }
        for said in [String::new(), GREETING.to_owned(), format!("{GREETING}{READY}")] {
            let error = with(said, false).await.unwrap_err();
            assert!(matches!(error, VmmError::Closed { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn events_are_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let event = |status: &str| format!("{{\"event\": \"MIGRATION\", \"data\": {{\"status\": \"{status}\"}}}}\n");
        let said = format!("{GREETING}{}{READY}{{\"event\": \"STOP\"}}\n{}", event("setup"), event("completed"));
        theirs.write_all(said.as_bytes()).await.unwrap();
        let mut qmp = Qmp::greet(ours, SHORT).await.unwrap();
        let of_interest = |data: &Value| (data["status"] == "completed").then_some(());
        qmp.event("wait", "MIGRATION", SHORT, of_interest).await.unwrap();
        let error = qmp.event("wait", "MIGRATION", SHORT, of_interest).await.unwrap_err();
        assert!(matches!(error, VmmError::Deadline { .. }), "{error:?}");
    }
}
