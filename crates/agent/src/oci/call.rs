//! One call of the OCI runtime: a child that is given a log of ours to write to and a deadline, and ends.
//!
//! The log is a pipe that is read all the while, so nothing that floods it can block, and of which the last part is
//! kept. What goes wrong is said there in JSON lines by those that know how, in plain ones by others.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use hostler_linux::clock;
use hostler_linux::epoll::Interest;
use hostler_linux::spawn::{self, ChildSetup, ChildStream, Mounts, Start, Terminal};
use hostler_linux::streams::{self, Read};
use hostler_model::ByteString;
use hostler_model::exit::ExitStatus;
use hostler_model::ids::ExecId;
use hostler_model::launch::Program;
use hostler_model::limits::OCI_LOG_MAX;
use hostler_model::units::format_duration;
use hostler_model::workload::{StartFailure, StartFailureKind};

use super::Container;
use crate::child::system_failure;
use crate::shared::{Shared, TokenKind, token};

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Create,
    Start,
    Restore,
    Exec(ExecId),
    Checkpoint { request: u64 },
    Delete,
}

impl Purpose {
    /// What the OCI runtime could not do.
    fn verb(self) -> &'static str {
        match self {
            Self::Create => "create the container",
            Self::Start => "start the container",
            Self::Restore => "restore the container",
            Self::Exec(_) => "execute in the container",
            Self::Checkpoint { .. } => "checkpoint the container",
            Self::Delete => "delete the container",
        }
    }
}

/// Where the streams of the call are connected.
pub(crate) enum CallStreams<'a> {
    /// To nothing; what it says on stderr counts as log.
    Own,
    /// To those of the program that it starts.
    Theirs([ChildStream<'a>; 3]),
}

/// A call under way.
pub(crate) struct Call {
    pub(crate) purpose: Purpose,
    pub(crate) pid: u32,
    pub(crate) serial: u32,
    /// When it is killed, boot clock; cleared once it was.
    pub(crate) deadline_ms: Option<u64>,
    time_ms: u64,
    log: OwnedFd,
    /// Kept open: the OCI runtime opens it by its number, and it must never be the last writer.
    _log_writer: OwnedFd,
    said: Vec<u8>,
}

impl Call {
    /// Starts it.
    pub(crate) fn begin(
        purpose: Purpose,
        container: &Container,
        arguments: &[ByteString],
        call_streams: CallStreams<'_>,
        time_ms: u64,
        shared: &mut Shared,
    ) -> Result<Self, StartFailure> {
        let time_ms = container.launch.oci.call_max_ms.map_or(time_ms, |call_max_ms| call_max_ms.min(time_ms));
        let (log, writer) = streams::pipe_from_child().map_err(|error| system_failure("make a pipe", &error))?;
        let serial = shared.next_serial();
        let added = shared.epoll.add(&log, token(TokenKind::OciLog, serial), Interest::Read);
        added.map_err(|error| system_failure("watch the OCI runtime", &error))?;
        let program = program(container, writer.as_raw_fd(), arguments, shared);
        let connected = match call_streams {
            CallStreams::Theirs(theirs) => theirs,
            CallStreams::Own => [
                ChildStream::Descriptor(shared.null.as_fd()),
                ChildStream::Null,
                ChildStream::Descriptor(writer.as_fd()),
            ],
        };
        let setup = ChildSetup {
            program: &program,
            streams: connected,
            terminal: Terminal::None,
            group: None,
            door: None,
            network: None,
            mounts: match &container.unified {
                Some(unified) => Mounts::Without(unified),
                // CRIU mounts what it needs where it stands, and leaves it there when it is killed.
                None if matches!(purpose, Purpose::Checkpoint { .. } | Purpose::Restore) => Mounts::Own,
                None => Mounts::Shared,
            },
            // Those that make a program in the container: it inherits the filter.
            filter: container.filter.filter(|_| matches!(purpose, Purpose::Create | Purpose::Exec(_))),
            oom_score: shared.config.oom_score,
            start: Start::AtOnce,
        };
        let pid = spawn::execute(&setup, &|_| Ok(())).map_err(|failure| {
            shared.epoll.remove(&log);
            // Not the user's program is missing, but the one that is to make the container.
            StartFailure { kind: StartFailureKind::Sandbox, message: format!("OCI runtime: {}", failure.message) }
        })?;
        let deadline_ms = Some(clock::boot_ms().saturating_add(time_ms));
        Ok(Self { purpose, pid, serial, deadline_ms, time_ms, log, _log_writer: writer, said: Vec::new() })
    }

    /// Reads what it has said.
    pub(crate) fn listen(&mut self) {
        let mut buffer = [0; 4_096];
        // Bounded: somebody who floods faster than we read is read again in the next round.
        for _ in 0..64 {
            let Read::Bytes(length) = streams::read(&self.log, &mut buffer) else { return };
            self.said.extend_from_slice(&buffer[..length]);
            let excess = self.said.len().saturating_sub(OCI_LOG_MAX);
            self.said.drain(..excess);
        }
    }

    /// Kills it when its time is up.
    pub(crate) fn enforce(&mut self, now_ms: u64) {
        if self.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            self.deadline_ms = None;
            self.kill();
        }
    }

    /// With whatever it started and waits for: CRIU, or a program that is only half in the container.
    pub(crate) fn kill(&self) {
        let _ = hostler_linux::process::kill_tree(self.pid);
    }

    /// What came of it.
    pub(crate) fn end(mut self, status: ExitStatus, name: &str, shared: &Shared) -> Result<(), StartFailure> {
        self.listen();
        shared.epoll.remove(&self.log);
        if status == ExitStatus::Code(0) {
            return Ok(());
        }
        let overdue = self.deadline_ms.is_none();
        let said = complaint(&self.said);
        let verb = self.purpose.verb();
        let message = match (status, said) {
            _ if overdue => format!("{name} did not {verb} within {}", format_duration(self.time_ms)),
            (_, Some(said)) => format!("{name} could not {verb}: {said}"),
            (ExitStatus::Code(code), None) => {
                format!("{name} could not {verb}: it ended with code {code} and said nothing")
            }
            (ExitStatus::Signal(signal), None) => format!("{name} could not {verb}: it was ended by {signal}"),
        };
        Err(StartFailure { kind: kind_of(&message), message })
    }
}

/// The command line. The log goes to a pipe of ours, by a name that opens it anew: nothing is inherited by a container.
fn program(container: &Container, log: i32, arguments: &[ByteString], shared: &Shared) -> Program {
    let oci = &container.launch.oci;
    let own: [ByteString; 6] = [
        "--root".into(),
        oci.state.clone(),
        "--log".into(),
        format!("/proc/{}/fd/{log}", shared.config.own.pid).into(),
        "--log-format".into(),
        "json".into(),
    ];
    let criu = oci.criu_dir.as_ref().map(|directory| [directory.as_bytes(), b":"].concat()).unwrap_or_default();
    let criu = criu.as_slice();
    let command = [oci.program.clone()].into_iter().chain(oci.args.iter().cloned()).chain(own);
    Program {
        command: command.chain(arguments.iter().cloned()).collect(),
        env: vec![[b"PATH=", criu, spawn::DEFAULT_PATH.as_bytes()].concat().into()],
        workdir: shared.config.sandbox_dir.as_os_str().into(),
        identity: None,
        rlimits: Vec::new(),
        // What the container may gain is for its own configuration to say.
        no_new_privileges: false,
        confinement: None,
    }
}

/// What it complained of: the last line of level error, else the last one that is no JSON.
pub(crate) fn complaint(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let in_json = |line: &&&str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_error = matches!(value["level"].as_str(), Some("error" | "fatal" | "panic"));
        value["msg"].as_str().filter(|_| is_error).map(str::to_owned)
    };
    let plain = || lines.iter().rev().find(|line| !line.starts_with('{')).map(|line| (*line).to_owned());
    let found = lines.iter().rev().find_map(|line| in_json(&line)).or_else(plain)?;
    // The first words of runc only say again what we were doing.
    let mut short = found.as_str();
    for words in
        ["runc create failed: ", "runc restore failed: ", "exec failed: ", "unable to start container process: "]
    {
        short = short.strip_prefix(words).unwrap_or(short);
    }
    Some(short.trim_end().chars().take(1_000).collect())
}

/// Whose fault it is, by the words of runc and crun.
fn kind_of(message: &str) -> StartFailureKind {
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["executable file not found", "executable file `", "exec: \""]) && has(&["not found", "no such file"]) {
        StartFailureKind::CommandNotFound
    } else if has(&["exec: \"", "exec user process", "open executable", "executable path"])
        && has(&["permission denied", "operation not permitted"])
    {
        StartFailureKind::CommandNotExecutable
    } else if has(&["chdir to cwd", "mkdir cwd", "`chdir`", "chdir:"]) {
        StartFailureKind::Workdir
    } else {
        StartFailureKind::Sandbox
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wrong_is_found_among_what_was_said() {
        let runc = "{\"level\":\"warning\",\"msg\":\"unable to x\",\"time\":\"t\"}\n\
            {\"level\":\"error\",\"msg\":\"runc create failed: unable to start container process: exec: \\\"nope\\\": \
            executable file not found in $PATH\",\"time\":\"t\"}\n";
        let found = complaint(runc.as_bytes()).expect("a complaint");
        assert_eq!(found, "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(kind_of(&found), StartFailureKind::CommandNotFound);
        let crun = b"{ \"msg\" : \"executable file `nope` not found in $PATH: No such file or directory\", \"level\" : \"error\", \"time\" : \"t\" }\n";
        assert_eq!(kind_of(&complaint(crun).expect("a complaint")), StartFailureKind::CommandNotFound);
        assert_eq!(
            complaint(b"flag provided but not defined: -root\n").as_deref(),
            Some("flag provided but not defined: -root")
        );
        assert_eq!(complaint(b""), None);
        assert_eq!(complaint(b"{\"level\":\"info\",\"msg\":\"x\"}\n"), None);
        assert!(complaint(&[0xff; 70_000]).is_some_and(|text| text.chars().count() == 1_000));
        assert_eq!(kind_of("exec: \"/etc/passwd\": permission denied"), StartFailureKind::CommandNotExecutable);
    }
}
