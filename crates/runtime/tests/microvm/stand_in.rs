//! A server that speaks Firecracker's API as the real one does: its paths, its order, its refusals; and that fails on command
//! at any request. Nothing of it is a virtual machine.
//!
//! HTTP is written by hand here, so that nonsense can be sent.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// What goes wrong at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused.
    Refuse,
    /// It is refused, and nobody can read why.
    RefuseWithGarbage,
    /// It is never answered.
    Stall,
    /// The connection is closed before an answer.
    Close,
    /// The connection is closed half-way through the answer's head.
    CloseInHead,
    /// The connection is closed half-way through the answer's body.
    CloseInBody,
    /// The head comes, the body does not.
    StallInBody,
    /// The server dies: its socket is still there, nobody listens.
    Die,
    /// The answer is no HTTP.
    Garbage,
    /// The head never ends.
    HugeHead,
    /// The body is larger than it may be.
    HugeBody,
    /// The body says that it is larger than it may be.
    HugeBodyPromised,
    /// A status that makes no sense.
    OddStatus,
}

/// All of them.
pub const FAULTS: [Fault; 13] = [
    Fault::Refuse,
    Fault::RefuseWithGarbage,
    Fault::Stall,
    Fault::Close,
    Fault::CloseInHead,
    Fault::CloseInBody,
    Fault::StallInBody,
    Fault::Die,
    Fault::Garbage,
    Fault::HugeHead,
    Fault::HugeBody,
    Fault::HugeBodyPromised,
    Fault::OddStatus,
];

/// A request as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Value,
}

/// What a Firecracker knows.
#[derive(Debug, Default)]
struct State {
    requests: Vec<Request>,
    logger: bool,
    metrics: Option<PathBuf>,
    kernel: bool,
    roots: usize,
    started: bool,
    paused: bool,
}

/// The server; it ends when this is dropped.
pub struct StandIn {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl StandIn {
    /// Listens at `api.sock` in this directory, which is also what names in requests are relative to. At the request with this
    /// number, from 0, this goes wrong.
    pub fn start(directory: &Path, fault: Option<(usize, Fault)>) -> Self {
        let listener = UnixListener::bind(directory.join("api.sock")).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let (known, directory) = (Arc::clone(&state), directory.to_path_buf());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if !serve(stream, &known, &directory, fault).await {
                    return;
                }
            }
        });
        Self { state, task }
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The body of the request for this path.
    pub fn body(&self, path: &str) -> Value {
        let requests = self.requests();
        requests.into_iter().find(|request| request.path == path).unwrap_or_else(|| panic!("no {path}")).body
    }
}

/// One connection; whether the server goes on.
async fn serve(stream: UnixStream, state: &Mutex<State>, directory: &Path, fault: Option<(usize, Fault)>) -> bool {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let number = {
            let mut state = state.lock().unwrap();
            state.requests.push(request.clone());
            state.requests.len() - 1
        };
        match fault {
            Some((at, fault)) if at == number => {
                let goes_on = fail(&mut stream, fault).await;
                return goes_on;
            }
            _ => {
                let answer = answer(&mut state.lock().unwrap(), directory, &request);
                let (status, body) = match answer {
                    Ok(()) => ("204 No Content", String::new()),
                    Err(fault) => ("400 Bad Request", json!({ "fault_message": fault }).to_string()),
                };
                let head =
                    format!("HTTP/1.1 {status}\r\nServer: Firecracker API\r\nContent-Length: {}\r\n", body.len());
                // The real one leaves the length out where there is no body.
                let head = if body.is_empty() { head.replace("Content-Length: 0\r\n", "") } else { head };
                if stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.is_err() {
                    return true;
                }
            }
        }
    }
    true
}

async fn read(stream: &mut BufReader<UnixStream>) -> Option<Request> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        match header.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { method, path, body: serde_json::from_slice(&body).ok()? })
}

/// Does what was ordered; whether the server goes on.
async fn fail(stream: &mut BufReader<UnixStream>, fault: Fault) -> bool {
    let ok = "HTTP/1.1 200 OK\r\n";
    let text = match fault {
        Fault::Die => return false,
        Fault::Close | Fault::Stall => String::new(),
        Fault::Refuse => {
            let body = json!({ "fault_message": "told to refuse" }).to_string();
            format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        }
        Fault::RefuseWithGarbage => "HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\n{{{".to_owned(),
        Fault::CloseInHead => "HTTP/1.1 20".to_owned(),
        Fault::CloseInBody | Fault::StallInBody => format!("{ok}Content-Length: 100\r\n\r\nhalf"),
        Fault::Garbage => "\u{1}\u{2} this is not HTTP \r\n\r\n".to_owned(),
        Fault::HugeHead => format!("{ok}X: {}", "x".repeat(1024 * 1024)),
        Fault::HugeBody => format!("{ok}Transfer-Encoding: chunked\r\n\r\n100000\r\n{}", "x".repeat(0x10_0000)),
        Fault::HugeBodyPromised => format!("{ok}Content-Length: 99999999999\r\n\r\n{}", "x".repeat(1024 * 1024)),
        Fault::OddStatus => "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n".to_owned(),
    };
    // Whoever does not want all of it hangs up.
    let _ = stream.write_all(text.as_bytes()).await;
    let hangs_up = matches!(fault, Fault::Close | Fault::CloseInHead | Fault::CloseInBody);
    if !hangs_up {
        // Stays on the line until the other one has had enough.
        let _ = tokio::io::copy(stream, &mut tokio::io::sink()).await;
    }
    true
}

/// What the real one would say.
fn answer(state: &mut State, directory: &Path, request: &Request) -> Result<(), String> {
    let body = &request.body;
    let before_start = |state: &State| match state.started {
        true => Err("The requested operation is not supported after starting the microVM.".to_owned()),
        false => Ok(()),
    };
    let after_start = |state: &State| match state.started {
        true => Ok(()),
        false => Err("The requested operation is not supported before starting the microVM.".to_owned()),
    };
    match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/logger") => {
            state.logger = is_pipe(&directory.join(text(body, "log_path")?))?;
        }
        ("PUT", "/metrics") => {
            let path = directory.join(text(body, "metrics_path")?);
            is_pipe(&path)?;
            state.metrics = Some(path);
        }
        ("PUT", "/machine-config") => {
            before_start(state)?;
            number(body, "vcpu_count", 1..=32)?;
            number(body, "mem_size_mib", 1..=u64::MAX)?;
        }
        ("PUT", "/boot-source") => {
            before_start(state)?;
            let path = directory.join(text(body, "kernel_image_path")?);
            path.exists().then_some(()).ok_or("The kernel file cannot be opened: No such file or directory")?;
            state.kernel = true;
        }
        ("PUT", path) if path.starts_with("/drives/") => {
            before_start(state)?;
            same_id(path, text(body, "drive_id")?)?;
            state.roots += usize::from(body["is_root_device"] == json!(true));
            if state.roots > 1 {
                return Err("A root block device already exists!".to_owned());
            }
            limiter(&body["rate_limiter"])?;
        }
        ("PUT", path) if path.starts_with("/network-interfaces/") => {
            before_start(state)?;
            same_id(path, text(body, "iface_id")?)?;
            text(body, "host_dev_name")?;
            limiter(&body["rx_rate_limiter"])?;
            limiter(&body["tx_rate_limiter"])?;
        }
        ("PUT", "/vsock") => {
            before_start(state)?;
            number(body, "guest_cid", 3..=u64::from(u32::MAX))?;
            text(body, "uds_path")?;
        }
        ("PUT", "/actions") => action(state, text(body, "action_type")?)?,
        ("PATCH", "/vm") => {
            after_start(state)?;
            match text(body, "state")? {
                "Paused" => state.paused = true,
                "Resumed" => state.paused = false,
                other => return Err(format!("unknown variant `{other}`")),
            }
        }
        ("PUT", "/snapshot/create") => {
            after_start(state)?;
            if !state.paused {
                return Err("Cannot save a running microVM.".to_owned());
            }
            for name in ["snapshot_path", "mem_file_path"] {
                std::fs::write(directory.join(text(body, name)?), name).map_err(|error| error.to_string())?;
            }
        }
        ("PUT", "/snapshot/load") => {
            if state.started || state.kernel {
                return Err(
                    "Loading a microVM snapshot not allowed after configuring boot-specific resources.".to_owned()
                );
            }
            for path in [text(body, "snapshot_path")?, text(&body["mem_backend"], "backend_path")?] {
                directory.join(path).exists().then_some(()).ok_or("No such file or directory")?;
            }
            (state.started, state.paused) = (true, body["resume_vm"] != json!(true));
        }
        (method, path) => return Err(format!("Invalid request method and/or path: {method} {path}.")),
    }
    Ok(())
}

fn action(state: &mut State, action: &str) -> Result<(), String> {
    match action {
        "InstanceStart" if state.started => {
            Err("The requested operation is not supported after starting the microVM.".to_owned())
        }
        "InstanceStart" if !state.kernel => Err("Cannot start microvm without kernel configuration.".to_owned()),
        "InstanceStart" => {
            state.started = true;
            Ok(())
        }
        "FlushMetrics" => {
            let path = state.metrics.clone().ok_or("metrics are not configured")?;
            let line = json!({ "block": { "read_bytes": 7 }, "net": { "rx_rate_limiter_throttled": 1 } });
            std::fs::write(path, format!("{line}\n")).map_err(|error| error.to_string())
        }
        other => Err(format!("unknown variant `{other}`")),
    }
}

fn text<'a>(body: &'a Value, name: &str) -> Result<&'a str, String> {
    body[name].as_str().ok_or_else(|| format!("missing field `{name}`"))
}

fn number(body: &Value, name: &str, range: std::ops::RangeInclusive<u64>) -> Result<(), String> {
    body[name].as_u64().filter(|value| range.contains(value)).map(|_| ()).ok_or_else(|| format!("bad `{name}`"))
}

fn same_id(path: &str, id: &str) -> Result<(), String> {
    if path.rsplit('/').next() == Some(id) { Ok(()) } else { Err("path_id and body id do not match".to_owned()) }
}

fn is_pipe(path: &Path) -> Result<bool, String> {
    use std::os::unix::fs::FileTypeExt as _;
    let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if found.file_type().is_fifo() { Ok(true) } else { Err("not a pipe".to_owned()) }
}

/// Fields that it does not know are refused by the real one, too.
fn limiter(limiter: &Value) -> Result<(), String> {
    let Some(buckets) = limiter.as_object() else { return Ok(()) };
    for (name, bucket) in buckets {
        if !["bandwidth", "ops"].contains(&name.as_str()) {
            return Err(format!("unknown field `{name}`"));
        }
        number(bucket, "size", 1..=u64::MAX)?;
        number(bucket, "refill_time", 1..=u64::MAX)?;
    }
    Ok(())
}
