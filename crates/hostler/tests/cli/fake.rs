//! A node that says what a test tells it to: just enough HTTP on a unix socket, a thread for each connection.

use std::io::{self, BufRead as _, BufReader, Cursor, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept};

pub(crate) type Socket = WebSocket<Replay>;

/// What the fake answers.
pub(crate) enum Reply {
    Json(u16, String),
    /// A stream that stops after this, without waiting for more.
    Events(String),
    WebSocket(Box<dyn FnOnce(&mut Socket) + Send>),
}

pub(crate) fn web_socket(act: impl FnOnce(&mut Socket) + Send + 'static) -> Reply {
    Reply::WebSocket(Box::new(act))
}

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) last_event_id: Option<String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.target.split('?').next() == Some(path)
    }
}

pub(crate) struct FakeNode {
    pub(crate) root: TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeNode {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let root = TempDir::new().expect("a directory");
        let listener = UnixListener::bind(root.path().join("hostler.sock")).expect("bind");
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let seen = requests.clone();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { root, requests }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }

    pub(crate) fn hostler(&self, arguments: &[&str]) -> Command {
        hostler(self.root.path(), arguments)
    }
}

/// The program under test, with nothing of the caller's environment that could change its words.
pub(crate) fn hostler(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostler"));
    command.env_remove("HOSTLER_ROOT").env("TZ", "UTC").arg("--root").arg(root).args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("hostler runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

fn serve(stream: UnixStream, seen: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().expect("clone"));
    // A kept connection carries several requests.
    while let Some((request, head)) = read_request(&mut reader) {
        seen.lock().expect("not poisoned").push(request.clone());
        match answer(&request) {
            Reply::Json(status, body) => {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                );
                if (&stream).write_all((head + &body).as_bytes()).is_err() {
                    return;
                }
            }
            Reply::Events(text) => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                (&stream).write_all((head.to_owned() + &text).as_bytes()).ok();
                return;
            }
            Reply::WebSocket(act) => {
                let replay = Replay { head: Cursor::new(head), stream };
                if let Ok(mut socket) = accept(replay) {
                    act(&mut socket);
                }
                return;
            }
        }
    }
}

fn read_request(reader: &mut BufReader<UnixStream>) -> Option<(Request, Vec<u8>)> {
    let mut head = Vec::new();
    let mut request = Request::default();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        head.extend_from_slice(line.as_bytes());
        let line = line.trim_end();
        if request.method.is_empty() {
            let mut words = line.split(' ');
            (request.method, request.target) = (words.next()?.to_owned(), words.next()?.to_owned());
        } else if line.is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "last-event-id" => request.last_event_id = Some(value.to_owned()),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some((request, head))
}

/// A connection whose first bytes were read already.
pub(crate) struct Replay {
    head: Cursor<Vec<u8>>,
    stream: UnixStream,
}

impl Read for Replay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => self.stream.read(buffer),
            count => Ok(count),
        }
    }
}

impl Write for Replay {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

pub(crate) const ID: &str = "00ff1234abcd";

/// The fields of an ended run.
pub(crate) fn ended(code: u8) -> String {
    let cause = if code == 0 { "success" } else { "error" };
    format!(
        r#""state":"ended","exit":{{"status":{{"code":{code}}},"cause":"{cause}","started_at_ms":1,"ended_at_ms":2,"duration_ms":1}}"#
    )
}

/// A workload whose run has these fields.
pub(crate) fn workload(phase: &str, run: &str) -> String {
    format!(
        r#"{{"phase":"{phase}","id":"{ID}","namespace":"default","name":"job","generation":1,"spec":{{"command":["sh"]}},
        "identity":{{"uid":0,"gid":0}},"limits":{{}},"desired":"run","created_at_ms":0,"runs":1,
        "run":{{"id":"{ID}-1","created_at_ms":0,{run}}}}}"#
    )
}

pub(crate) fn problem(kind: &str, status: u16, detail: &str) -> Reply {
    let body = format!(r#"{{"type":"urn:hostler:problem:{kind}","title":"t","status":{status},"detail":"{detail}"}}"#);
    Reply::Json(status, body)
}

pub(crate) fn attached(socket: &mut Socket) {
    socket.send(Message::text(format!(r#"{{"type":"attached","run":"{ID}-1","tty":false}}"#))).expect("send");
}

pub(crate) fn output(socket: &mut Socket, stream: u8, data: &[u8]) {
    socket.send(Message::binary([&[stream], data].concat())).expect("send");
}

pub(crate) fn end(socket: &mut Socket, run: &str) {
    socket.send(Message::text(format!(r#"{{"type":"ended","run":"{ID}-1",{run}}}"#))).expect("send");
    socket.close(None).ok();
    socket.flush().ok();
}
