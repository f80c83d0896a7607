//! A node of its own, from the release binaries, gone with everything it ran when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Client, Method};
use anyhow::{Context, bail, ensure};
use hostler_linux::netns;

/// A running daemon with its directory.
pub struct Node {
    binaries: PathBuf,
    machine: Option<PathBuf>,
    root: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Node {
    /// Starts one with this configuration.
    pub async fn start(binaries: &Path, config: &str) -> anyhow::Result<Self> {
        Self::start_on(None, binaries, config).await
    }

    /// The same in the network that this file keeps.
    pub async fn start_on(machine: Option<&Path>, binaries: &Path, config: &str) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("hostler-bench-").tempdir()?;
        std::fs::write(root.path().join("hostler.toml"), config)?;
        let mut node = Self { binaries: binaries.to_owned(), machine: machine.map(Path::to_owned), root, daemon: None };
        node.up().await?;
        Ok(node)
    }

    /// Starts the daemon; the time until it answers.
    pub async fn up(&mut self) -> anyhow::Result<Duration> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.root().join("hostlerd.log"))?;
        let began = Instant::now();
        let mut command = Command::new(self.binaries.join("hostlerd"));
        command.arg("--root").arg(self.root()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let spawned = match &self.machine {
            Some(machine) => netns::within(machine, || command.spawn())?,
            None => command.spawn(),
        };
        self.daemon = Some(spawned.context("starting hostlerd")?);
        while began.elapsed() < Duration::from_secs(30) {
            if let Ok(mut client) = Client::connect(&self.socket()).await
                && client.ask(Method::Get, "/healthz", "").await.is_ok()
            {
                return Ok(began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("the node does not come up; see {}", self.root().join("hostlerd.log").display())
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut daemon = self.daemon.take().context("no daemon")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// Where everything is.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The HTTP door.
    pub fn socket(&self) -> PathBuf {
        self.root().join("hostler.sock")
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Child::id)
    }

    /// A connection.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.socket()).await
    }

    /// The CLI on this node.
    pub fn cli(&self) -> Command {
        let mut command = Command::new(self.binaries.join("hostler"));
        command.env("HOSTLER_ROOT", self.root()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Stops everything in order.
    pub async fn down(mut self) -> anyhow::Result<()> {
        let mut client = self.client().await?;
        client.ask(Method::Post, "/v1/node/down", r#"{"stop_workloads":true}"#).await?;
        if let Some(mut daemon) = self.daemon.take() {
            let status = tokio::task::spawn_blocking(move || daemon.wait()).await??;
            ensure!(status.success(), "hostlerd: {status}");
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // An error is on its way up; at least nothing is left running.
            let _ = self.cli().args(["node", "down", "--stop-workloads"]).status();
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
