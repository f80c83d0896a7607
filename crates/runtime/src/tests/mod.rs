//! The runtime against scripted agents: the other end of a socket, with a harmless process standing in for theirs.
//!
//! - `runs`: every path of a run, agents that die or answer late
//! - `channels`: credit, back-pressure, detaching
//! - `adoption`: what is found after a restart

mod adoption;
mod channels;
mod runs;

use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hostler_linux::procfs;
use hostler_model::ByteString;
use hostler_model::exit::{Cause, Exit, ExitStatus};
use hostler_model::ids::{Namespace, RunId, SandboxId, StoreId, WorkloadId};
use hostler_model::launch::{Launch, Program};
use hostler_model::rundir::{EXIT_FILE, ExitFile, Outcome, ProcessId, RUN_FILE, RunFile};
use hostler_model::spec::{Limits, Log, Stdio as SpecStdio, Stop};
use hostler_wire::{
    AgentState, Decoder, Frame, FromAgent, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Stream, ToAgent, encode_control,
    encode_credit, encode_data,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::process::Shared;
use crate::process::spawn::Process;
use crate::{Fact, Runtime, Settings};

/// Longer than anything takes; a test that gets here has failed.
const LONG: Duration = Duration::from_secs(20);

fn store() -> StoreId {
    StoreId::from_bytes([1; 8])
}

fn run(number: u32) -> RunId {
    RunId { workload: WorkloadId::from_bytes([9; 6]), number }
}

fn launch(run: RunId, namespace: &Namespace) -> Launch {
    Launch {
        run,
        namespace: namespace.clone(),
        program: Program {
            command: vec![ByteString::from("/bin/true")],
            env: Vec::new(),
            workdir: ByteString::from("/"),
            identity: None,
            rlimits: Vec::new(),
            no_new_privileges: true,
            confinement: None,
        },
        container: None,
        vm: None,
        stdio: SpecStdio::default(),
        log_directory: ByteString::from("/nonexistent"),
        log: Log::default(),
        limits: Limits::default(),
        cgroup: None,
        stop: Stop::default(),
        max_time_ms: None,
    }
}

fn exit(code: u8) -> Exit {
    Exit::new(ExitStatus::Code(code), Cause::Error, 1, 2)
}

/// A harmless process. It holds nothing of ours open, should a test fail to end it.
fn sleeper() -> Child {
    let mut sleep = Command::new("sleep");
    sleep.arg("120").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sleep.spawn().expect("sleep exists")
}

fn process_id(child: &Child) -> ProcessId {
    procfs::process_id(child.id()).expect("not yet reaped")
}

/// A process that is no more.
fn dead() -> ProcessId {
    let mut child = sleeper();
    let id = process_id(&child);
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    id
}

/// A node's directories, a runtime in them, and the agents it asks for.
struct Node {
    directory: tempfile::TempDir,
    runtime: Runtime,
    facts: mpsc::Receiver<Fact>,
    agents: mpsc::UnboundedReceiver<FakeAgent>,
    /// Stand-ins to be ended with the test.
    started: Arc<Mutex<Vec<ProcessId>>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        for id in self.started.lock().expect("no test holds it").drain(..) {
            if let Some(pidfd) = hostler_linux::pidfd::Pidfd::open(id) {
                pidfd.kill();
            }
        }
    }
}

impl Node {
    fn new(idle: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for name in ["sandbox", "run"] {
            std::fs::create_dir(directory.path().join(name)).expect("fresh");
        }
        let settings = Settings {
            store: store(),
            agent: PathBuf::from("/nonexistent"),
            sandboxes: directory.path().join("sandbox"),
            runs: directory.path().join("run"),
            agent_log: None,
            oci_state: directory.path().join("oci"),
            idle,
            reuse: true,
            cgroup: None,
            networks: hostler_network::Networks::none(tokio::runtime::Handle::current()),
            guests: crate::GuestSettings {
                kernels: directory.path().join("kernels"),
                cache: directory.path().join("cache"),
                machines: directory.path().join("machines"),
                qemu: None,
                firecracker: None,
            },
        };
        let (facts_in, facts) = mpsc::channel(4);
        let (agents_in, agents) = mpsc::unbounded_channel();
        let started = Arc::new(Mutex::new(Vec::new()));
        let starting = Arc::clone(&started);
        let spawner = move |settings: &Settings, sandbox: SandboxId| {
            let (ours, theirs) = StdStream::pair().expect("a socket pair");
            for stream in [&ours, &theirs] {
                stream.set_nonblocking(true).expect("a socket");
            }
            std::fs::create_dir(settings.sandboxes.join(sandbox.to_string())).expect("fresh");
            let process = Process::of_child(sleeper());
            let id = process.id.expect("just started");
            starting.lock().expect("no test holds it").push(id);
            let _ = agents_in.send(FakeAgent { sandbox, id, stream: Err(theirs), decoder: Decoder::default() });
            Ok((ours, process))
        };
        let runtime = Runtime { shared: Shared::new(settings, facts_in, Box::new(spawner)) };
        Self { directory, runtime, facts, agents, started }
    }

    async fn agent(&mut self) -> FakeAgent {
        let mut agent = tokio::time::timeout(LONG, self.agents.recv()).await.expect("in time").expect("open");
        agent.stream = agent.stream.or_else(|raw| Ok(UnixStream::from_std(raw).expect("within tokio")));
        agent
    }

    /// An agent that has said it is idle.
    async fn warm_agent(&mut self) -> FakeAgent {
        let mut agent = self.agent().await;
        agent.hello(AgentState::Idle).await;
        agent
    }

    async fn fact(&mut self) -> Fact {
        tokio::time::timeout(LONG, self.facts.recv()).await.expect("in time").expect("open")
    }

    fn run_dir(&self, run: RunId) -> PathBuf {
        self.directory.path().join("run").join(run.to_string())
    }

    fn write_run(&self, run: RunId, file: &RunFile) {
        std::fs::create_dir_all(self.run_dir(run)).expect("a directory");
        let text = serde_json::to_vec(file).expect("plain data");
        std::fs::write(self.run_dir(run).join(RUN_FILE), text).expect("a file");
    }

    fn write_exit(&self, run: RunId, outcome: Outcome) {
        std::fs::create_dir_all(self.run_dir(run)).expect("a directory");
        let bytes = hostler_wire::exit_file::encode(&ExitFile { run, outcome, execs: Vec::new() }, 4096);
        std::fs::write(self.run_dir(run).join(EXIT_FILE), bytes).expect("a file");
    }

    /// Waits until `true`, looking again whenever an agent has gone.
    async fn until(&self, mut done: impl FnMut(&Runtime) -> bool) {
        let waiting = async {
            while !done(&self.runtime) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("in time");
    }
}

fn run_file(run: RunId, agent: ProcessId, main: ProcessId) -> RunFile {
    RunFile {
        store: store(),
        run,
        namespace: Namespace::owner(),
        sandbox: SandboxId::from_bytes([5; 6]),
        boot_id: procfs::boot_id().expect("/proc"),
        agent,
        main: Some(main),
        cgroup: None,
        container: None,
        vm: None,
        exit_reserved: 4096,
    }
}

/// The agent's end of a connection, and the process that stands for it.
struct FakeAgent {
    sandbox: SandboxId,
    id: ProcessId,
    stream: Result<UnixStream, StdStream>,
    decoder: Decoder,
}

/// A frame that an agent got.
#[derive(Debug, PartialEq)]
enum Got {
    Message(Box<ToAgent>),
    Data { channel: u32, offset: u64, eof: bool, bytes: Vec<u8> },
    Credit { channel: u32, bytes: u32 },
}

impl FakeAgent {
    fn stream(&mut self) -> &mut UnixStream {
        self.stream.as_mut().expect("converted by Node::agent")
    }

    async fn got(&mut self) -> Option<Got> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("the runtime sends frames") {
                return Some(match frame {
                    Frame::Control(json) => Got::Message(Box::new(Frame::message(json).expect("a message"))),
                    Frame::Data { channel, stream, offset, eof, bytes } => {
                        assert_eq!(stream, Stream::Stdin);
                        Got::Data { channel, offset, eof, bytes: bytes.to_vec() }
                    }
                    Frame::Credit { channel, bytes } => Got::Credit { channel, bytes },
                });
            }
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(LONG, self.stream().read(&mut buffer)).await.expect("in time");
            match read {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.decoder.push(&buffer[..length]),
            }
        }
    }

    async fn message(&mut self) -> ToAgent {
        match self.got().await {
            Some(Got::Message(message)) => *message,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    async fn send(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        self.stream().write_all(&bytes).await.expect("the runtime reads");
    }

    async fn say(&mut self, message: FromAgent) {
        self.send(|out| encode_control(out, &message)).await;
    }

    async fn credit(&mut self, channel: u32, bytes: u32) {
        self.send(|out| encode_credit(out, channel, bytes)).await;
    }

    async fn data(&mut self, channel: u32, stream: Stream, offset: u64, bytes: &[u8]) {
        self.send(|out| encode_data(out, channel, stream, offset, false, bytes)).await;
    }

    fn hello_of(&self, state: AgentState) -> Hello {
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            sandbox: self.sandbox,
            pid: self.id.pid,
            state,
            execs: Vec::new(),
            exec_starts: Vec::new(),
            exec_ends: Vec::new(),
        }
    }

    async fn hello(&mut self, state: AgentState) {
        assert!(matches!(self.message().await, ToAgent::Hello { .. }));
        let hello = self.hello_of(state);
        self.say(FromAgent::Hello(hello)).await;
    }

    /// The process ends, and with it the connection.
    fn die(self) {
        hostler_linux::pidfd::Pidfd::open(self.id).expect("alive").kill();
    }

    /// Takes a run up to its start.
    async fn start(&mut self, run: RunId) {
        assert!(matches!(self.message().await, ToAgent::Prepare { launch } if launch.run == run));
        self.say(FromAgent::Prepared { run }).await;
        assert_eq!(self.message().await, ToAgent::Execute { run });
        self.say(FromAgent::Started { run, pid: 1, started_at_ms: 1 }).await;
    }
}

fn shared(node: &Node) -> &Arc<Shared> {
    &node.runtime.shared
}
