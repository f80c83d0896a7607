//! The node's side of the protocol, synchronous, for tests.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::time::{Duration, Instant};

use hostler_model::exit::{Cause, Exit, ExitStatus};
use hostler_model::ids::{Namespace, RunId, SandboxId, StoreId, WorkloadId};
use hostler_model::launch::{Launch, Program};
use hostler_model::rundir::{ExitFile, RunFile};
use hostler_model::spec::{Limits, Stdio, Stop};
use hostler_model::workload::StartFailure;
use hostler_wire::{
    AttachTarget, Decoder, Frame, FromAgent, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Stream, StreamOffsets, ToAgent,
    encode_control, encode_credit, encode_data,
};

/// The longest that anything may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One frame, owned.
#[derive(Debug)]
pub(crate) enum Got {
    Message(FromAgent),
    Data { channel: u32, stream: Stream, offset: u64, eof: bool, bytes: Vec<u8> },
    Credit { channel: u32, bytes: u32 },
}

/// An agent with its directories, and a connection to it.
pub(crate) struct Node {
    pub(crate) root: tempfile::TempDir,
    pub(crate) agent: Child,
    pub(crate) link: Link,
    pub(crate) hello: Hello,
    pub(crate) sandbox: SandboxId,
    pub(crate) runs: u32,
}

/// A connection.
pub(crate) struct Link {
    pub(crate) socket: UnixStream,
    decoder: Decoder,
    pub(crate) early: VecDeque<Got>,
}

pub(crate) fn store() -> StoreId {
    StoreId::from_bytes([7; 8])
}

impl Link {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, decoder: Decoder::default(), early: VecDeque::new() }
    }

    pub(crate) fn send(&mut self, message: &ToAgent) {
        self.send_all(std::slice::from_ref(message));
    }

    /// Several messages in one write.
    pub(crate) fn send_all(&mut self, messages: &[ToAgent]) {
        let mut bytes = Vec::new();
        for message in messages {
            encode_control(&mut bytes, message);
        }
        self.socket.write_all(&bytes).expect("the agent reads");
    }

    pub(crate) fn credit(&mut self, channel: u32, credit: u32) {
        let mut bytes = Vec::new();
        encode_credit(&mut bytes, channel, credit);
        self.socket.write_all(&bytes).expect("the agent reads");
    }

    pub(crate) fn stdin(&mut self, channel: u32, eof: bool, data: &[u8]) {
        assert!(self.try_stdin(channel, eof, data), "the agent reads");
    }

    /// The same for a connection that the agent may have ended.
    pub(crate) fn try_stdin(&mut self, channel: u32, eof: bool, data: &[u8]) -> bool {
        let mut bytes = Vec::new();
        encode_data(&mut bytes, channel, Stream::Stdin, 0, eof, data);
        self.socket.write_all(&bytes).is_ok()
    }

    fn decode(&mut self) -> Option<Got> {
        match self.decoder.next_frame().expect("the agent speaks properly")? {
            Frame::Control(json) => Some(Got::Message(Frame::message(json).expect("a message"))),
            Frame::Credit { channel, bytes } => Some(Got::Credit { channel, bytes }),
            Frame::Data { channel, stream, offset, eof, bytes } => {
                Some(Got::Data { channel, stream, offset, eof, bytes: bytes.to_vec() })
            }
        }
    }

    /// The next frame within `patience`; `None` when the time is over or the connection is.
    pub(crate) fn try_next(&mut self, patience: Duration) -> Option<Got> {
        if let Some(early) = self.early.pop_front() {
            return Some(early);
        }
        let deadline = Instant::now() + patience;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(got) = self.decode() {
                return Some(got);
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).expect("a socket");
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.decoder.push(&buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn next(&mut self) -> Got {
        self.try_next(PATIENCE).expect("a frame in time")
    }

    /// The next message; data and credit on the way are kept for later.
    pub(crate) fn message(&mut self) -> FromAgent {
        let mut aside = VecDeque::new();
        loop {
            match self.next() {
                Got::Message(message) => {
                    aside.append(&mut self.early);
                    self.early = aside;
                    return message;
                }
                other => aside.push_back(other),
            }
        }
    }

    /// Whether the agent ends the connection, whatever it says before.
    pub(crate) fn closed(&mut self) -> bool {
        while let Some(got) = self.try_next(PATIENCE) {
            drop(got);
        }
        match self.socket.read(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    pub(crate) fn hello(&mut self) -> Hello {
        self.send(&ToAgent::Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, store: store() });
        match self.message() {
            FromAgent::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn attach(&mut self, channel: u32, target: AttachTarget, owner: bool, stdin: bool) {
        self.send(&ToAgent::Attach { channel, target, owner, stdin, from: None });
        self.credit(channel, 256 * 1024);
    }

    pub(crate) fn attach_from(&mut self, channel: u32, from: StreamOffsets, owner: bool) {
        self.send(&ToAgent::Attach { channel, target: AttachTarget::Main, owner, stdin: false, from: Some(from) });
        self.credit(channel, 256 * 1024);
    }

    /// Reads a channel to its end, granting as it goes: stdout, stderr, and how many bytes were missing.
    pub(crate) fn read_channel(&mut self, wanted: u32) -> (Vec<u8>, Vec<u8>, u64) {
        let mut out = [Vec::new(), Vec::new()];
        let mut next: [Option<u64>; 2] = [None; 2];
        let mut missing = 0;
        let mut aside = VecDeque::new();
        loop {
            match self.next() {
                Got::Data { channel, stream, offset, bytes, .. } if channel == wanted => {
                    let index = stream as usize - 1;
                    missing += offset - next[index].unwrap_or(offset);
                    next[index] = Some(offset + bytes.len() as u64);
                    out[index].extend_from_slice(&bytes);
                    self.credit(channel, u32::try_from(bytes.len()).unwrap());
                }
                Got::Message(FromAgent::ChannelClosed { channel }) if channel == wanted => {
                    aside.append(&mut self.early);
                    self.early = aside;
                    let [stdout, stderr] = out;
                    return (stdout, stderr, missing);
                }
                other => aside.push_back(other),
            }
        }
    }
}

/// A launch of this command, to be changed by the test.
pub(crate) fn program(command: &[&str]) -> Program {
    Program {
        command: command.iter().map(|word| (*word).into()).collect(),
        env: vec!["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into()],
        workdir: "/".into(),
        identity: None,
        rlimits: Vec::new(),
        no_new_privileges: true,
        confinement: None,
    }
}

pub(crate) struct Options<'a> {
    pub(crate) cgroup: Option<&'a str>,
    pub(crate) store: &'a str,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { cgroup: None, store: "0707070707070707" }
    }
}

/// The agent to test: this build's, or the one that `HOSTLER_AGENT` names (the static one, for measurements).
fn binary() -> PathBuf {
    std::env::var_os("HOSTLER_AGENT").map_or_else(|| env!("CARGO_BIN_EXE_hostler-agent").into(), PathBuf::from)
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(&Options::default())
    }

    pub(crate) fn with(options: &Options<'_>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let sandbox = SandboxId::from_bytes([1, 2, 3, 4, 5, 6]);
        for directory in ["sandbox", "run", "log"] {
            std::fs::create_dir(root.path().join(directory)).unwrap();
        }
        // Workloads of other users get here too.
        std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(binary());
        command
            .arg("--sandbox")
            .arg(sandbox.to_string())
            .arg("--sandbox-dir")
            .arg(root.path().join("sandbox"))
            .arg("--run-root")
            .arg(root.path().join("run"))
            .args(["--store", options.store])
            .stdin(ProcessStdio::from(OwnedFd::from(theirs)));
        if let Some(cgroup) = options.cgroup {
            command.args(["--cgroup", cgroup]);
        }
        let agent = command.spawn().unwrap();
        drop(command);
        let mut link = Link::new(ours);
        let hello = link.hello();
        Self { root, agent, link, hello, sandbox, runs: 0 }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Like [`Node::launch`], of a program that is forked ahead and waits: it has a file to open.
    pub(crate) fn launch_forked(&mut self, command: &[&str]) -> Launch {
        let mut launch = self.launch(command);
        launch.stdio.stdin = Some("/dev/null".into());
        launch
    }

    /// The agent's children.
    pub(crate) fn children(&self) -> Vec<u32> {
        hostler_linux::procfs::descendants(self.agent.id()).expect("/proc")
    }

    pub(crate) fn launch(&mut self, command: &[&str]) -> Launch {
        self.runs += 1;
        Launch {
            run: RunId { workload: WorkloadId::from_bytes([9; 6]), number: self.runs },
            namespace: Namespace::owner(),
            program: program(command),
            container: None,
            vm: None,
            stdio: Stdio::default(),
            log_directory: self.path("log/w").as_os_str().into(),
            log: hostler_model::spec::Log::default(),
            limits: Limits::default(),
            cgroup: None,
            stop: Stop::default(),
            max_time_ms: None,
        }
    }

    /// Prepares and executes at once, as the daemon does; waits for the start.
    pub(crate) fn start(&mut self, launch: &Launch) -> u32 {
        let run = launch.run;
        self.link.send_all(&[ToAgent::Prepare { launch: Box::new(launch.clone()) }, ToAgent::Execute { run }]);
        match self.link.message() {
            FromAgent::Started { run: started, pid, .. } => {
                assert_eq!(started, run);
                pid
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn shell(&mut self, script: &str) -> (RunId, u32) {
        let launch = self.launch(&["sh", "-c", script]);
        let pid = self.start(&launch);
        (launch.run, pid)
    }

    pub(crate) fn exited(&mut self) -> Exit {
        loop {
            match self.link.message() {
                FromAgent::Exited { exit, .. } => return exit,
                FromAgent::Oom { .. } | FromAgent::ChannelClosed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn commit(&mut self, run: RunId) {
        self.link.send(&ToAgent::Committed { run, reuse: true, assume_idle: false });
        match self.link.message() {
            FromAgent::Idle => {}
            other => panic!("{other:?}"),
        }
        assert!(!self.path("run").join(run.to_string()).exists(), "the run directory is removed");
    }

    /// A whole life, to its end.
    pub(crate) fn whole(&mut self, launch: &Launch) -> Exit {
        self.start(launch);
        let exit = self.exited();
        assert_eq!(self.exit_file(launch.run).outcome, hostler_model::rundir::Outcome::Exited { exit: exit.clone() });
        self.commit(launch.run);
        exit
    }

    /// Prepares and executes at once; the failure that is reported.
    pub(crate) fn refused(&mut self, launch: &Launch) -> StartFailure {
        let run = launch.run;
        self.link.send_all(&[ToAgent::Prepare { launch: Box::new(launch.clone()) }, ToAgent::Execute { run }]);
        match self.link.message() {
            FromAgent::StartFailed { run, failure } => {
                assert_eq!(run, launch.run);
                failure
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn exit_file(&self, run: RunId) -> ExitFile {
        let path = self.path("run").join(run.to_string()).join("exit.json");
        let file = hostler_wire::exit_file::decode(&std::fs::read(path).expect("exit.json")).expect("a whole end");
        assert_eq!(file.run, run);
        file
    }

    pub(crate) fn run_file(&self, run: RunId) -> RunFile {
        let path = self.path("run").join(run.to_string()).join("run.json");
        serde_json::from_slice(&std::fs::read(path).expect("run.json")).expect("a run")
    }

    /// Another connection, as a restarted daemon makes it.
    pub(crate) fn reconnect(&mut self) -> Hello {
        let path = self.path("sandbox/agent.sock");
        self.link = Link::new(hostler_linux::net::connect(&path).expect("the agent listens"));
        self.link.hello()
    }

    /// The agent goes by itself, taking its directory along.
    pub(crate) fn gone(&mut self) {
        wait_for("the agent to leave", || self.agent.try_wait().unwrap());
        assert!(!self.path("sandbox").exists(), "the sandbox directory is removed");
    }

    /// The log's lines: stream, tag and text.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        log_lines(&self.path("log/w"))
    }
}

/// Where a run begins is marked; what it wrote is the same.
fn without_tag(record: &str) -> String {
    let (stream, rest) = record.split_once(' ').expect("a stream");
    let (tags, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let first = tags.split(':').next().expect("a first tag");
    format!("{stream} {first} {text}")
}

pub(crate) fn log_lines(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    names.sort();
    let mut lines = Vec::new();
    for name in names {
        let text = String::from_utf8_lossy(&std::fs::read(name).unwrap()).into_owned();
        for line in text.lines() {
            let (time, rest) = line.split_once(' ').expect("a time");
            assert!(time.len() == 30 && time.ends_with('Z'), "{line}");
            lines.push(without_tag(rest));
        }
    }
    lines
}

/// Waits for a fact that no frame tells.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    hostler_linux::procfs::stats(pid).is_ok_and(|stats| stats.state != 'Z')
}

pub(crate) fn ended(exit: &Exit) -> (ExitStatus, Cause) {
    (exit.status, exit.cause)
}

pub(crate) fn is_root() -> bool {
    hostler_linux::process::effective_uid() == 0
}

impl Drop for Node {
    fn drop(&mut self) {
        // The test's own child; what it runs dies with it (PDEATHSIG) or was never left behind.
        let left = hostler_linux::procfs::descendants(self.agent.id()).unwrap_or_default();
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        for pid in left {
            let _ = hostler_linux::process::signal(pid, hostler_model::units::Signal::KILL);
        }
    }
}
