//! A node of its own under a root of its own, gone with everything it ran when the test is over.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hostler_api::client::Client;
use hostler_api::types::{CreateQuery, ListQuery, NodeInfo, WaitFor, WaitQuery, WorkloadView};
use hostler_model::Spec;
use hostler_model::workload::RunState;

use crate::leaks::{self, Traces};
use crate::machine::Machine;
use crate::raw::{self, Reply};
use crate::{Cli, Output, PATIENCE, until};

/// How a node is started.
#[derive(Debug, Default)]
pub struct Setup {
    config: String,
    env: Vec<(String, String)>,
    uid: Option<u32>,
    depth: usize,
    root: Option<PathBuf>,
    machine: Option<Machine>,
}

impl Setup {
    /// The usual: as whoever runs the tests, in a short directory, without a configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The text of its `hostler.toml`.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        self.config = text.to_owned();
        self
    }

    /// A variable of the daemon's environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Start the daemon as this user.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// A root whose path is so many bytes longer.
    #[must_use]
    pub fn deeper_by(mut self, bytes: usize) -> Self {
        self.depth = bytes;
        self
    }

    /// This directory as root: the test made it and takes it away.
    #[must_use]
    pub fn root(mut self, root: &Path) -> Self {
        self.root = Some(root.to_owned());
        self
    }

    /// The daemon is on this machine, as far as its network goes.
    #[must_use]
    pub fn on(mut self, machine: &Machine) -> Self {
        self.machine = Some(machine.clone());
        self
    }

    /// The directory and configuration of a node that does not run yet.
    #[must_use]
    pub fn make(self) -> TestNode {
        let directory = tempfile::Builder::new().prefix("ht-").tempdir_in("/tmp").expect("a directory under /tmp");
        let root = match &self.root {
            Some(root) => root.clone(),
            None => (0..self.depth / 30).fold(directory.path().join("n"), |path, _| path.join("d".repeat(29))),
        };
        std::fs::create_dir_all(root.join("work")).expect("making the root");
        open_to_all(directory.path());
        std::fs::write(root.join("hostler.toml"), &self.config).expect("writing the configuration");
        if let Some(uid) = self.uid {
            for path in [&root, &root.join("work"), &root.join("hostler.toml")] {
                std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("chown");
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let api = Client::new(root.join("hostler.sock")).with_deadline(PATIENCE);
        TestNode {
            directory,
            root,
            setup: self,
            daemon: None,
            runtime: runtime.expect("an async runtime"),
            api,
            tag: None,
            finished: false,
        }
    }

    /// A node that runs.
    #[must_use]
    pub fn start(self) -> TestNode {
        let mut node = self.make();
        node.start();
        node
    }
}

/// Others must be able to pass through to the socket, and to start in the working directory.
fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// See [`Setup`]. A test ends with [`TestNode::finish`].
#[derive(Debug)]
pub struct TestNode {
    directory: tempfile::TempDir,
    root: PathBuf,
    setup: Setup,
    daemon: Option<Child>,
    runtime: tokio::runtime::Runtime,
    api: Client,
    tag: Option<String>,
    finished: bool,
}

impl TestNode {
    /// A node with every default.
    #[must_use]
    pub fn new() -> Self {
        Setup::new().start()
    }

    /// Where everything is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A directory for the test's own files; the CLI and so its workloads start in it.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The typed client.
    #[must_use]
    pub fn api(&self) -> &Client {
        &self.api
    }

    /// Runs a future to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// What the daemon and the agents had to say.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        std::fs::read(self.root.join("hostlerd.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Starts the daemon with one more variable in its environment, without waiting for it.
    pub fn spawn_with(&mut self, env: &[(&str, &str)]) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.root.join("hostlerd.log"));
        let log = log.expect("the daemon's log");
        if let Some(uid) = self.setup.uid {
            std::os::unix::fs::fchown(&log, Some(uid), Some(uid)).expect("chown");
        }
        let mut command = match self.setup.uid {
            None => Command::new(crate::binary("hostlerd")),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={uid}"), format!("--regid={uid}")]);
                command.args(["--clear-groups", "--"]).arg(crate::binary("hostlerd"));
                command
            }
        };
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("HOSTLER_")) {
            command.env_remove(key);
        }
        command.envs(self.setup.env.iter().map(|(key, value)| (key, value))).envs(env.iter().copied());
        command.arg("--root").arg(&self.root).current_dir("/").stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let path = self.setup.machine.as_ref().map(Machine::path);
        let spawned = crate::machine::on(path.as_deref(), || command.spawn());
        self.daemon = Some(spawned.expect("starting hostlerd"));
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with more variables in its environment.
    pub fn start_with(&mut self, env: &[(&str, &str)]) {
        self.spawn_with(env);
        let began = Instant::now();
        loop {
            if raw::exchange(&self.socket(), b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").is_ok() {
                break;
            }
            if let Some(status) = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().expect("waiting")) {
                self.daemon = None;
                panic!("the daemon did not start: {status}\n{}", self.log_end());
            }
            assert!(began.elapsed() < PATIENCE, "the daemon does not answer\n{}", self.log_end());
            std::thread::sleep(Duration::from_millis(3));
        }
        self.tag = Some(self.info().tag.to_string());
    }

    /// Starts a daemon that may die on its way up; whether it came up.
    pub fn start_or_die(&mut self, env: &[(&str, &str)]) -> bool {
        self.spawn_with(env);
        until("an answer or an end of the daemon", PATIENCE, || {
            let daemon = self.daemon.as_mut().expect("just started");
            if daemon.try_wait().expect("waiting").is_some() {
                return Some(false);
            }
            self.answers().then_some(true)
        })
    }

    /// Waits a moment for the daemon's own end, and kills it when that does not come. Whether it came.
    pub fn wait_daemon_end_or_kill(&mut self) -> bool {
        /// A point that was armed and is not reached within this time will not be reached.
        const MOMENT: Duration = Duration::from_millis(700);
        self.wait_daemon_end_or_kill_after(MOMENT)
    }

    /// The same with a moment of one's own.
    pub fn wait_daemon_end_or_kill_after(&mut self, moment: Duration) -> bool {
        let mut daemon = self.daemon.take().expect("the daemon was started");
        let began = Instant::now();
        while daemon.try_wait().expect("waiting").is_none() {
            if began.elapsed() > moment {
                daemon.kill().expect("kill -9");
                daemon.wait().expect("reaping the daemon");
                return false;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        true
    }

    /// What the run directory of its live run says.
    #[must_use]
    pub fn run_file(&self, reference: &str) -> hostler_model::rundir::RunFile {
        let view = self.wait(reference, WaitFor::Started);
        let run = view.workload.run.as_ref().expect("a run").id.to_string();
        let path = self.root.join("run").join(run).join(hostler_model::rundir::RUN_FILE);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The end on disk of a run whose agent has recorded it, and whose daemon has not yet.
    pub fn exit_file(&self, run: hostler_model::RunId) -> Option<hostler_model::rundir::ExitFile> {
        let path = self.root.join("run").join(run.to_string()).join(hostler_model::rundir::EXIT_FILE);
        let file = hostler_wire::exit_file::decode(&std::fs::read(path).ok()?)?;
        (file.run == run).then_some(file)
    }

    fn log_end(&self) -> String {
        let log = self.daemon_log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The socket of the HTTP door.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("hostler.sock")
    }

    /// The daemon's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().map(Child::id).expect("the daemon runs")
    }

    /// `kill -9`, and its end.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().expect("kill -9");
        daemon.wait().expect("reaping the daemon");
    }

    /// `kill -9`, and another one.
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.start();
    }

    /// Waits for the daemon's own end.
    pub fn wait_daemon_end(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("the daemon was started");
        until("the end of the daemon", PATIENCE, || daemon.try_wait().expect("waiting"))
    }

    /// Takes the daemon down in order; workloads go on.
    pub fn down(&mut self) {
        self.cli(&["down"]).ok();
        let status = self.wait_daemon_end();
        assert!(status.success(), "the daemon ended with {status}\n{}", self.log_end());
    }

    /// What the node says of itself.
    pub fn info(&self) -> NodeInfo {
        self.block_on(self.api.node()).expect("node info")
    }

    /// A command line of the CLI, yet to be run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Cli {
        Cli::new(&self.root, self.work(), arguments)
    }

    /// Runs the CLI.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).run()
    }

    /// Sends a request as raw as it is written here.
    pub fn http(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        raw::request(&self.socket(), method, target, headers, body)
    }

    /// `POST /v1/workloads` with this text as its body.
    pub fn post(&self, body: &str) -> Reply {
        self.http("POST", "/v1/workloads", &[("content-type", "application/json")], body.as_bytes())
    }

    /// A spec that runs in the node's own directory.
    #[must_use]
    pub fn spec(&self, command: &[&str]) -> Spec {
        let mut spec = Spec::new(command.iter().map(|text| (*text).into()).collect());
        spec.workdir = Some(self.work().as_os_str().into());
        spec
    }

    /// A spec of a shell script.
    #[must_use]
    pub fn script(&self, text: &str) -> Spec {
        self.spec(&["sh", "-c", text])
    }

    /// Creates a workload.
    pub fn create(&self, spec: &Spec) -> WorkloadView {
        self.block_on(self.api.create(spec, &CreateQuery::default(), None)).expect("accepted")
    }

    /// Creates a workload and waits until it runs, or has ended already.
    pub fn create_started(&self, spec: &Spec) -> WorkloadView {
        let view = self.create(spec);
        self.wait(&view.workload.id.to_string(), WaitFor::Started)
    }

    /// Waits until it stands like this.
    pub fn wait(&self, reference: &str, until: WaitFor) -> WorkloadView {
        let query = WaitQuery {
            until: Some(until),
            timeout_ms: Some(u64::try_from(PATIENCE.as_millis()).expect("small")),
            ..WaitQuery::default()
        };
        let answer = self.block_on(self.api.wait(reference, &query));
        answer.unwrap_or_else(|error| panic!("waiting until {reference} is {until:?}: {error}\n{}", self.log_end()))
    }

    /// Waits until it has ended for good.
    pub fn ended(&self, reference: &str) -> WorkloadView {
        self.wait(reference, WaitFor::Ended)
    }

    /// How it stands.
    pub fn inspect(&self, reference: &str) -> WorkloadView {
        self.block_on(self.api.inspect(reference)).unwrap_or_else(|error| panic!("inspect {reference}: {error}"))
    }

    /// Its main process, once that is known to run: the fact may come a moment after the program's first words.
    pub fn main_pid(&self, reference: &str) -> u32 {
        let view = self.wait(reference, WaitFor::Started);
        view.workload.run.as_ref().and_then(|run| run.pid).unwrap_or_else(|| panic!("{reference} has no process"))
    }

    /// All workloads of all namespaces.
    pub fn all(&self) -> Vec<WorkloadView> {
        let query = ListQuery { namespace: Some("*".to_owned()), all: true, ..ListQuery::default() };
        self.block_on(self.api.list(&query)).expect("a list").workloads
    }

    /// Its log as text.
    pub fn log_of(&self, reference: &str) -> String {
        self.cli(&["logs", reference]).ok()
    }

    /// The directories of this kind (`run`, `sandbox`) that are there.
    #[must_use]
    pub fn directories(&self, kind: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.join(kind)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// The mark in the node's cgroups, once it has run.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Takes everything down and checks that nothing is left. The last line of every test.
    pub fn finish(mut self) {
        if self.daemon.is_none() && !self.answers() {
            self.start();
        }
        self.take_down();
        self.check();
    }

    /// The same where the daemon cannot, or must not, be started again: what it left is checked all the same.
    pub fn finish_dead(mut self) {
        assert!(self.daemon.is_none(), "the daemon runs");
        self.check();
    }

    fn check(&mut self) {
        self.finished = true;
        let traces = self.traces();
        let found = leaks::settle(&traces);
        if !found.is_empty() {
            leaks::sweep(&traces);
        }
        assert!(found.is_empty(), "left over:\n{}\n\nthe daemon's log:\n{}", found.join("\n"), self.log_end());
    }

    fn traces(&self) -> Traces {
        let machine = self.setup.machine.as_ref().map(Machine::path);
        Traces { root: self.root.clone(), tag: self.tag.clone(), machine }
    }

    fn answers(&self) -> bool {
        raw::exchange(&self.socket(), b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").is_ok()
    }

    fn take_down(&mut self) {
        let pid = self.info().pid;
        let request = hostler_api::types::DownRequest { stop_workloads: true };
        let down = self.block_on(async { tokio::time::timeout(PATIENCE, self.api.down(&request)).await });
        down.expect("`down` answers in time").unwrap_or_else(|error| panic!("down: {error}\n{}", self.log_end()));
        match self.daemon.is_some() {
            true => {
                let status = self.wait_daemon_end();
                assert!(status.success(), "the daemon ended with {status}\n{}", self.log_end());
            }
            // Started by the CLI.
            false => crate::until_gone(pid),
        }
    }

    /// States of the workload's last run, for messages.
    #[must_use]
    pub fn state_of(&self, reference: &str) -> RunState {
        self.inspect(reference).workload.run.as_ref().expect("a run").state.clone()
    }
}

impl Default for TestNode {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if self.finished {
            if std::env::var_os("HOSTLER_TEST_KEEP").is_some() {
                self.directory.disable_cleanup(true);
            }
            return;
        }
        // The test has failed: say why, and take away what it left.
        eprintln!("the daemon's log of {}:\n{}", self.root.display(), self.log_end());
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
        leaks::sweep(&self.traces());
        assert!(std::thread::panicking(), "a test ends with finish()");
    }
}
