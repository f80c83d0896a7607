//! One call of one plugin: what it is given, what it says, and how long it may take.
//!
//! Nothing waits for the end of its output: a process that it leaves behind may hold that open for ever. What was written
//! before the plugin ended is in the pipes when its end is seen.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hostler_linux::epoll::{Epoll, Interest, Wait};
use hostler_linux::pidfd::Pidfd;
use hostler_linux::{procfs, streams};
use hostler_model::limits;

use super::error::{self, CniError, Failure};
use super::stray;

/// Where plugins find the programs that they call, whatever the daemon's own environment says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Read at one time, bytes.
const CHUNK: usize = 16 * 1024;
/// Chunks that are read before the clock is looked at again; together more than a pipe holds.
const CHUNKS: usize = 128;
/// Between two looks for the end where the kernel has no descriptors of processes, milliseconds.
const LOOK_AGAIN_MS: u32 = 5;

/// What a plugin is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Make it.
    Add,
    /// See whether it is still there.
    Check,
    /// Undo it.
    Del,
}

impl Verb {
    /// As `CNI_COMMAND` has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
        }
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One call of one plugin.
#[derive(Debug)]
pub(super) struct PluginCall<'a> {
    /// Its `type`.
    pub(super) plugin: &'a str,
    /// What for.
    pub(super) verb: Verb,
    /// The `CNI_…` variables but `CNI_COMMAND`.
    pub(super) environment: &'a [(&'static str, OsString)],
    /// Where plugins are.
    pub(super) path: &'a [PathBuf],
    /// Its configuration, JSON.
    pub(super) input: &'a [u8],
    /// How long it may take, milliseconds.
    pub(super) deadline_ms: u64,
}

/// The first of these directories that has the plugin.
pub(super) fn locate(plugin: &str, path: &[PathBuf]) -> Result<PathBuf, CniError> {
    let program = path.iter().map(|directory| directory.join(plugin)).find(|program| is_executable(program));
    program.ok_or_else(|| CniError::Missing { plugin: plugin.to_owned(), looked: path.to_vec() })
}

pub(super) fn is_executable(program: &Path) -> bool {
    std::fs::metadata(program).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

impl PluginCall<'_> {
    /// Calls it: what it answers.
    pub(super) fn run(&self) -> Result<Vec<u8>, CniError> {
        let program = locate(self.plugin, self.path)?;
        let began = Instant::now();
        let answer = self.answer(&program).map_err(|failure| self.failed(failure));
        let (plugin, took_ms) = (self.plugin, began.elapsed().as_millis());
        match &answer {
            Ok(_) => tracing::debug!(plugin, verb = self.verb.as_str(), took_ms, "called a CNI plugin"),
            Err(error) => tracing::debug!(plugin, verb = self.verb.as_str(), took_ms, %error, "called a CNI plugin"),
        }
        answer
    }

    /// It failed in this way.
    pub(super) fn failed(&self, failure: Failure) -> CniError {
        CniError::Plugin { plugin: self.plugin.to_owned(), verb: self.verb, failure }
    }

    fn answer(&self, program: &Path) -> Result<Vec<u8>, Failure> {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("CNI_COMMAND", self.verb.as_str());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        // In memory, so that one that does not read cannot hold us up. A group of its own is what gets killed.
        command.stdin(Stdio::from(streams::sealed(self.input)?)).process_group(0);
        let (answer, its_stdout) = streams::pipe_from_child()?;
        let (said, its_stderr) = streams::pipe_from_child()?;
        command.stdout(its_stdout).stderr(its_stderr);
        let mut child = command.spawn()?;
        // Our copies of its ends.
        drop(command);
        let mut attended = Attended { answer: Pipe::new(answer), said: Pipe::new(said) };
        let status = match attended.until_end(&mut child, self.deadline_ms) {
            Ok(status) => status,
            Err(failure) => {
                stray::end_group(&mut child, self.plugin);
                return Err(failure);
            }
        };
        let Attended { answer, said } = attended;
        if status.success() { Ok(answer.kept) } else { Err(failure_of(status, &answer.kept, &said.kept)) }
    }
}

/// It failed: an error as the specification has it, or what can be known without one.
fn failure_of(status: ExitStatus, answer: &[u8], said: &[u8]) -> Failure {
    if let Ok(refusal) = serde_json::from_slice(answer) {
        return Failure::Said(refusal);
    }
    let told = error::end(said);
    Failure::Ended { status, said: if told.is_empty() { error::beginning(answer) } else { told } }
}

/// What a plugin says.
struct Attended {
    answer: Pipe,
    said: Pipe,
}

impl Attended {
    /// Listens until it ends. Otherwise it may still run.
    fn until_end(&mut self, child: &mut Child, deadline_ms: u64) -> Result<ExitStatus, Failure> {
        let deadline = Instant::now() + Duration::from_millis(deadline_ms);
        let epoll = Epoll::new()?;
        epoll.add(&self.answer.end, 0, Interest::Read)?;
        epoll.add(&self.said.end, 1, Interest::Read)?;
        // None when it has ended already, which is seen at once.
        let held = procfs::process_id(child.id()).ok().and_then(Pidfd::open);
        if let Some(held) = &held {
            epoll.add(held, 2, Interest::Read)?;
        }
        loop {
            // Before the pipes are read: what it wrote is in them then.
            let ended = child.try_wait()?;
            let more_answer = self.answer.read_some(Keep::First)?;
            let more_said = self.said.read_some(Keep::Last)?;
            if let Some(status) = ended {
                return Ok(status);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Hung(deadline_ms));
            }
            let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).saturating_add(1);
            let wait = match (more_answer || more_said, &held) {
                (true, _) => Wait::Poll,
                (false, Some(_)) => Wait::AtMost(left_ms),
                (false, None) => Wait::AtMost(left_ms.min(LOOK_AGAIN_MS)),
            };
            epoll.wait(wait, |_| {})?;
        }
    }
}

/// Which part of too much is kept.
#[derive(Clone, Copy)]
enum Keep {
    /// All of it, or it is a failure.
    First,
    /// The last of it.
    Last,
}

/// One end of what a plugin writes to.
struct Pipe {
    end: OwnedFd,
    kept: Vec<u8>,
}

impl Pipe {
    fn new(end: OwnedFd) -> Self {
        Self { end, kept: Vec::new() }
    }

    /// Reads what is there, so much at most; whether there may be more.
    fn read_some(&mut self, keep: Keep) -> Result<bool, Failure> {
        let mut chunk = [0; CHUNK];
        for _ in 0..CHUNKS {
            let streams::Read::Bytes(length) = streams::read(self.end.as_fd(), &mut chunk) else { return Ok(false) };
            self.kept.extend_from_slice(&chunk[..length]);
            match keep {
                Keep::First if self.kept.len() > limits::CNI_ANSWER_MAX => return Err(Failure::Flooded),
                Keep::Last if self.kept.len() > CHUNK => {
                    // One more than is shown, so that it shows that something is missing.
                    self.kept.drain(..self.kept.len() - limits::CNI_SAID_MAX - 1);
                }
                Keep::First | Keep::Last => {}
            }
        }
        Ok(true)
    }
}
