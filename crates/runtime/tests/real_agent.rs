//! The runtime with the real `hostler-agent`: `HOSTLER_AGENT`, or the one built beside this test.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use hostler_model::ByteString;
use hostler_model::exit::{Cause, ExitStatus};
use hostler_model::ids::{ExecId, Namespace, RunId, StoreId, WorkloadId};
use hostler_model::launch::{ExecLaunch, Launch, Program};
use hostler_model::spec::{Limits, Log, Stdio, Stop};
use hostler_model::units::Signal;
use hostler_model::workload::{LostReason, StartFailureKind};
use hostler_runtime::{
    AttachRequest, AttachTarget, Fact, FoundState, Role, Runtime, Settings, SignalScope, StatsDepth, Stream,
};
use tokio::sync::mpsc;

/// Longer than anything takes; a test that gets here has failed.
const LONG: Duration = Duration::from_secs(30);

fn agent_binary() -> Option<PathBuf> {
    let named = std::env::var_os("HOSTLER_AGENT").map(PathBuf::from);
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("hostler-agent"));
    let found = named.or_else(beside).filter(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: no hostler-agent: build it, or name it in HOSTLER_AGENT");
    }
    found
}

fn run(number: u32) -> RunId {
    RunId { workload: WorkloadId::from_bytes([3; 6]), number }
}

struct Node {
    directory: tempfile::TempDir,
    settings: Settings,
    runtime: Runtime,
    facts: mpsc::Receiver<Fact>,
}

impl Node {
    fn new(idle: usize) -> Option<Self> {
        let agent = agent_binary()?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["sandbox", "run", "log"] {
            std::fs::create_dir(at(name)).expect("fresh");
        }
        let settings = Settings {
            store: StoreId::from_bytes([4; 8]),
            agent,
            sandboxes: at("sandbox"),
            runs: at("run"),
            agent_log: Some(at("agent.log")),
            oci_state: at("oci"),
            idle,
            reuse: true,
            cgroup: None,
            networks: hostler_network::Networks::none(tokio::runtime::Handle::current()),
            guests: hostler_runtime::GuestSettings {
                kernels: at("kernels"),
                cache: at("cache"),
                machines: at("machines"),
                qemu: None,
                firecracker: None,
            },
        };
        let (facts_in, facts) = mpsc::channel(64);
        let runtime = Runtime::start(settings.clone(), facts_in);
        Some(Self { directory, settings, runtime, facts })
    }

    /// The daemon goes, and comes back.
    async fn restart(&mut self) {
        self.runtime.shutdown().await;
        let (facts_in, facts) = mpsc::channel(64);
        self.runtime = Runtime::start(self.settings.clone(), facts_in);
        self.facts = facts;
    }

    fn launch(&self, number: u32, script: &str) -> Launch {
        Launch {
            run: run(number),
            namespace: Namespace::owner(),
            program: program(script),
            container: None,
            vm: None,
            stdio: Stdio { interactive: true, owner: false, ..Stdio::default() },
            log_directory: ByteString::from(self.directory.path().join("log").join(number.to_string()).as_os_str()),
            log: Log::default(),
            limits: Limits::default(),
            cgroup: None,
            stop: Stop::default(),
            max_time_ms: None,
        }
    }

    fn go(&self, number: u32, script: &str) {
        self.runtime.prepare(self.launch(number, script));
        self.runtime.execute(run(number));
    }

    async fn fact(&mut self) -> Fact {
        tokio::time::timeout(LONG, self.facts.recv()).await.expect("in time").expect("open")
    }

    async fn started(&mut self) -> u32 {
        loop {
            match self.fact().await {
                Fact::Started { pid, .. } => return pid,
                Fact::Prepared { .. } => {}
                other => panic!("not a start: {other:?}"),
            }
        }
    }

    async fn until(&self, mut done: impl FnMut() -> bool) {
        let waiting = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("in time");
    }

    fn runs_left(&self) -> usize {
        std::fs::read_dir(&self.settings.runs).expect("there").count()
    }

    /// Ends what the test left, so that no agent outlives it.
    async fn end(self) {
        self.runtime.shutdown().await;
        let dir = &self.settings.sandboxes;
        self.until(|| std::fs::read_dir(dir).expect("there").count() == 0).await;
    }
}

fn program(script: &str) -> Program {
    Program {
        command: ["/bin/sh", "-c", script].map(ByteString::from).to_vec(),
        env: vec![ByteString::from("PATH=/usr/bin:/bin")],
        workdir: ByteString::from("/"),
        identity: None,
        rlimits: Vec::new(),
        no_new_privileges: true,
        confinement: None,
    }
}

#[tokio::test]
async fn a_run_from_start_to_end_with_streams_exec_and_signal() {
    let Some(mut node) = Node::new(1) else { return };
    node.runtime.fill_pool();
    node.go(1, "read line; echo got $line; sleep 100 & trap 'kill $!; exit 5' TERM; echo ready; wait");
    let request = AttachRequest { target: AttachTarget::Main, role: Role::Owner, stdin: true, from: None };
    let mut attachment = node.runtime.attach(run(1), request).await.expect("attached");
    node.started().await;
    attachment.input.write(b"hello\n").await.expect("open");
    let mut output = Vec::new();
    while !output.ends_with(b"ready\n") {
        let piece = tokio::time::timeout(LONG, attachment.output.next()).await.expect("in time").expect("open");
        assert_eq!((piece.stream, piece.offset), (Stream::Stdout, output.len() as u64));
        output.extend(piece.bytes);
    }
    assert_eq!(output, b"got hello\nready\n");
    assert!(node.runtime.stats(run(1), StatsDepth::Usual).await.expect("an answer").pids >= 1);
    assert!(node.runtime.update(run(1), Box::default()).await.is_err(), "it has no cgroup");

    let exec = ExecId::from_bytes([7; 4]);
    node.runtime.exec(run(1), exec, ExecLaunch { program: program("exit 9"), interactive: false, tty: None });
    loop {
        match node.fact().await {
            Fact::ExecStarted { exec: id, .. } => assert_eq!(id, exec),
            Fact::ExecExited { exit, .. } => break assert_eq!(exit.status, ExitStatus::Code(9)),
            other => panic!("{other:?}"),
        }
    }
    node.runtime.signal(run(1), Signal::TERM, SignalScope::Main);
    let Fact::Exited { exit, .. } = node.fact().await else { panic!("not an end") };
    assert_eq!(exit.status, ExitStatus::Code(5));
    while attachment.output.next().await.is_some() {}
    drop(attachment);
    node.runtime.committed(run(1));
    node.until(|| node.runs_left() == 0 && node.runtime.idle_agents() > 0).await;
    node.end().await;
}

#[tokio::test]
async fn failures_aborts_and_kills() {
    let Some(mut node) = Node::new(0) else { return };
    let mut missing = node.launch(1, "");
    missing.program.command = vec![ByteString::from("/nonexistent/program")];
    node.runtime.prepare(missing);
    node.runtime.execute(run(1));
    loop {
        match node.fact().await {
            Fact::StartFailed { failure, .. } => {
                break assert_eq!(failure.kind, StartFailureKind::CommandNotFound, "{}", failure.message);
            }
            Fact::Prepared { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    node.runtime.committed(run(1));
    node.runtime.prepare(node.launch(2, "exit 0"));
    while !matches!(node.fact().await, Fact::Prepared { .. }) {}
    node.runtime.abort(run(2));
    node.until(|| node.runs_left() == 0 && node.runtime.idle_agents() > 0).await;
    node.go(3, "sleep 1000");
    node.started().await;
    node.runtime.kill(run(3));
    let Fact::Exited { exit, .. } = node.fact().await else { panic!("not an end") };
    assert_eq!((exit.status, exit.cause), (ExitStatus::Signal(Signal::KILL), Cause::Killed));
    node.runtime.committed(run(3));
    // Killed while it waits: prepared, not executed.
    node.runtime.prepare(node.launch(4, "exit 0"));
    while !matches!(node.fact().await, Fact::Prepared { .. }) {}
    node.runtime.kill(run(4));
    assert!(matches!(node.fact().await, Fact::StartFailed { .. }));
    node.runtime.committed(run(4));
    node.until(|| node.runs_left() == 0).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_uses_its_agents_again() {
    const ALL: u32 = 1_000;
    const AT_ONCE: u32 = 64;
    let Some(mut node) = Node::new(2) else { return };
    node.runtime.fill_pool();
    let began = Instant::now();
    (1..=AT_ONCE).for_each(|number| node.go(number, "exit 0"));
    let (mut next, mut ended, mut sandboxes) = (AT_ONCE + 1, 0, HashSet::new());
    while ended < ALL {
        match node.fact().await {
            Fact::Exited { run, exit } => {
                assert_eq!(exit.status, ExitStatus::Code(0));
                node.runtime.committed(run);
                ended += 1;
                if next <= ALL {
                    node.go(next, "exit 0");
                    next += 1;
                }
            }
            Fact::Prepared { sandbox, .. } => _ = sandboxes.insert(sandbox),
            Fact::Started { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    eprintln!("{ALL} runs on {} agents in {:?}", sandboxes.len(), began.elapsed());
    assert!(sandboxes.len() <= AT_ONCE as usize * 3 / 2, "{} agents", sandboxes.len());
    node.until(|| node.runs_left() == 0).await;
    node.end().await;
}

#[tokio::test]
async fn a_restarted_daemon_finds_its_runs() {
    let Some(mut node) = Node::new(0) else { return };
    let gate = node.directory.path().join("gate");
    let wait = format!("while [ ! -e {} ]; do sleep 0.02; done; exit 6", gate.display());
    node.go(1, &wait);
    let pid = node.started().await;
    node.go(2, "exit 7");
    while !matches!(node.fact().await, Fact::Exited { .. }) {}
    // Without a cgroup only what is below the main process can be found, so it is one process.
    node.go(3, "exec sleep 1000");
    let main = node.started().await;
    node.restart().await;
    // One agent dies while there is no daemon.
    let file = std::fs::read(node.settings.runs.join(run(3).to_string()).join("run.json")).expect("a file");
    let file: hostler_model::rundir::RunFile = serde_json::from_slice(&file).expect("a run file");
    let killed = Command::new("/bin/sh").args(["-c", &format!("kill -9 {}", file.agent.pid)]).status();
    assert!(killed.expect("a shell").success());
    let began = Instant::now();
    let adoption = node.runtime.adopt().await.expect("every agent can be asked");
    eprintln!("adopted in {:?}", began.elapsed());
    let found = |number| {
        let found = adoption.found.iter().find(|found| found.run == run(number));
        found.map(|found| found.state.clone()).expect("found")
    };
    assert!(matches!(found(1), FoundState::Running { pid: found, .. } if found == pid));
    assert!(matches!(found(2), FoundState::Ended { exit } if exit.status == ExitStatus::Code(7)));
    assert_eq!(found(3), FoundState::Lost(LostReason::Agent));
    node.until(|| !PathBuf::from(format!("/proc/{main}/exe")).exists()).await;
    assert!(adoption.foreign.is_empty(), "{:?}", adoption.foreign);
    node.runtime.committed(run(2));
    node.runtime.committed(run(3));
    std::fs::write(&gate, "").expect("a file");
    let Fact::Exited { exit, .. } = node.fact().await else { panic!("not an end") };
    assert_eq!(exit.status, ExitStatus::Code(6));
    node.runtime.committed(run(1));
    node.until(|| node.runs_left() == 0 && node.runtime.watched() == 0).await;
    node.end().await;
}
