//! Second programs in a container, and checkpoints of it: calls of the OCI runtime while the container runs.

use std::fs;

use hostler_linux::clock;
use hostler_model::ByteString;
use hostler_model::ids::ExecId;
use hostler_model::launch::{CRIU_INVENTORY, CheckpointOptions, ExecLaunch};
use hostler_model::limits::{OCI_CALL_MAX_MS, OCI_CHECKPOINT_MAX_MS, OWNER_GRACE_MS};
use hostler_model::spec::Stdio;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::{AttachTarget, ExecFailure, FromAgent};

use super::call::{Call, CallStreams, Purpose};
use super::console::Console;
use super::{Stage, config, lifecycle};
use crate::child::{self, Plan};
use crate::run::Run;
use crate::shared::Shared;
use crate::start::in_sandbox;
use crate::target::{Ended, Owner, Started, Target};

/// The options of a checkpoint as runc and crun take them.
pub(super) fn checkpoint_flags(options: CheckpointOptions) -> Vec<ByteString> {
    let flags = [
        (options.tcp_established, &["--tcp-established"][..]),
        (options.ext_unix_sk, &["--ext-unix-sk"][..]),
        (options.shell_job, &["--shell-job"][..]),
        (options.empty_ns_net, &["--empty-ns", "network"][..]),
    ];
    flags.into_iter().filter(|(asked, _)| *asked).flat_map(|(_, words)| words).map(|word| (*word).into()).collect()
}

impl Run {
    /// Starts a second program in the container.
    pub(crate) fn exec_in_container(
        &mut self,
        key: AttachTarget,
        exec: ExecId,
        launch: &ExecLaunch,
        shared: &mut Shared,
    ) -> Result<Target, StartFailure> {
        let Some(container) = &mut self.container else {
            return Err(StartFailure { kind: StartFailureKind::Sandbox, message: "there is no container".to_owned() });
        };
        let owner = Owner::Expected { until_ms: Some(clock::boot_ms() + OWNER_GRACE_MS) };
        let stdio = Stdio { interactive: launch.interactive, owner: true, ..Stdio::default() };
        let plan = Plan { program: &launch.program, stdio: &stdio, group: None, door: None };
        let (mut target, theirs) = if launch.tty.is_some() {
            child::open_without_streams(key, owner, shared)
        } else {
            child::open(key, &plan, owner, shared)?
        };
        let (process, pid) = (shared.config.sandbox_dir.join(format!("exec-{exec}.json")), pid_file(exec, shared));
        let config = fs::read(container.bundle.join("config.json"))
            .map_err(|error| in_sandbox("read the container's config.json", &error))?;
        let json = config::process(&config, &launch.program, launch.tty)?;
        fs::write(&process, json).map_err(|error| in_sandbox("write the process's file", &error))?;
        let path = |path: &std::path::Path| ByteString::from(path.as_os_str());
        let mut arguments: Vec<ByteString> = vec!["exec".into(), "--detach".into(), "--process".into(), path(&process)];
        arguments.extend(["--pid-file".into(), path(&pid)]);
        let console = launch.tty.map(|size| Console::open(&mut target, size, shared)).transpose()?;
        if let Some(console) = &console {
            arguments.extend(["--console-socket".into(), console.address(shared)]);
        }
        arguments.push(container.id.as_str().into());
        // A pid that is read is of this call.
        let _ = fs::remove_file(&pid);
        let null = std::io::stdin();
        let connected = [0, 1, 2].map(|index| lifecycle::stream(index, &theirs, &[None, None, None], &null));
        let streams = if launch.tty.is_some() { CallStreams::Own } else { CallStreams::Theirs(connected) };
        let call = child::watch(&mut target, shared)
            .and_then(|()| Call::begin(Purpose::Exec(exec), container, &arguments, streams, OCI_CALL_MAX_MS, shared));
        match call {
            Ok(call) => container.calls.push(call),
            Err(failure) => {
                if let Some(console) = console {
                    console.close(shared);
                }
                let _ = fs::remove_file(&process);
                return Err(failure);
            }
        }
        container.consoles.extend(console);
        target.held = true;
        target.starting = true;
        Ok(target)
    }

    /// The call is over: the program runs, or never will.
    pub(super) fn exec_called(&mut self, exec: ExecId, outcome: Result<(), StartFailure>, shared: &mut Shared) {
        let file = pid_file(exec, shared);
        let pid = outcome.and_then(|()| lifecycle::read_pid(&file));
        let _ = fs::remove_file(&file);
        let _ = fs::remove_file(shared.config.sandbox_dir.join(format!("exec-{exec}.json")));
        let ended = match (&pid, &mut self.container) {
            (Ok(pid), Some(container)) => container.stranger(*pid),
            _ => None,
        };
        let Some(target) = self.targets.iter_mut().find(|target| target.key == AttachTarget::Exec(exec)) else {
            return;
        };
        let serial = target.serial;
        target.held = false;
        target.starting = false;
        match pid {
            Ok(pid) => {
                target.pid = pid;
                target.started = Some(Started::now());
                shared.send(&FromAgent::ExecStarted { exec, pid });
                if let Some(reaped) = ended {
                    target.over(Ended { reaped, boot_ms: clock::boot_ms(), wall_ms: clock::wall_ms() });
                }
            }
            Err(failure) => {
                target.close_streams(shared, &mut Vec::new());
                target.reported = true;
                target.owner = Owner::Nobody;
                shared.send(&FromAgent::ExecFailed(ExecFailure { exec, failure }));
            }
        }
        self.close_console(serial, shared);
    }

    /// Somebody connected to the socket of a terminal.
    pub(crate) fn console_ready(&mut self, serial: u32, shared: &mut Shared) {
        let Self { container: Some(container), targets, .. } = self else { return };
        let console = container.consoles.iter().find(|console| console.serial == serial);
        let target = targets.iter_mut().find(|target| target.serial == serial);
        if let (Some(console), Some(target)) = (console, target)
            && let Err(failure) = console.accept(target, shared)
        {
            // The call will say so too; its program has no terminal, and ends.
            eprintln!("hostler-agent: run {}: {}", self.id, failure.message);
            target.close_streams(shared, &mut Vec::new());
        }
    }

    fn close_console(&mut self, serial: u32, shared: &Shared) {
        let Some(container) = &mut self.container else { return };
        if let Some(place) = container.consoles.iter().position(|console| console.serial == serial) {
            container.consoles.swap_remove(place).close(shared);
        }
    }

    /// Has an image of the container made. Answered by `Done`.
    pub(crate) fn checkpoint(
        &mut self,
        request: u64,
        images: &ByteString,
        options: CheckpointOptions,
        shared: &mut Shared,
    ) -> Result<(), String> {
        let Some(container) = &mut self.container else {
            return Err("only containers can be checkpointed".to_owned());
        };
        if container.stage != Stage::Started {
            return Err("the container does not run".to_owned());
        }
        if container.calls.iter().any(|call| matches!(call.purpose, Purpose::Checkpoint { .. })) {
            return Err("another checkpoint of it is under way".to_owned());
        }
        container.images = Some(images.clone());
        let mut arguments: Vec<ByteString> =
            vec!["checkpoint".into(), "--image-path".into(), images.clone(), "--work-path".into(), images.clone()];
        arguments.extend(checkpoint_flags(options));
        if !options.exit {
            arguments.push("--leave-running".into());
        }
        arguments.push(container.id.as_str().into());
        let purpose = Purpose::Checkpoint { request };
        let call = Call::begin(purpose, container, &arguments, CallStreams::Own, OCI_CHECKPOINT_MAX_MS, shared);
        container.calls.push(call.map_err(|failure| failure.message)?);
        Ok(())
    }

    /// A checkpoint of it is under way.
    pub(crate) fn is_being_saved(&self) -> bool {
        let mut calls = self.container.iter().flat_map(|container| &container.calls);
        calls.any(|call| matches!(call.purpose, Purpose::Checkpoint { .. }))
    }

    pub(super) fn checkpoint_called(&mut self, request: u64, outcome: Result<(), StartFailure>, shared: &mut Shared) {
        let images = self.container.as_mut().and_then(|container| container.images.take());
        // Somebody who was stopped in the middle of it may have left everything standing still.
        if outcome.is_err()
            && !self.paused
            && let Some(group) = &self.group
        {
            let _ = group.thaw();
        }
        let made = images.as_ref().is_some_and(|images| images.as_path().join(CRIU_INVENTORY).is_file());
        let outcome = match outcome {
            // An OCI runtime that says that all is well is not believed without a sign of CRIU.
            Ok(()) if !made => {
                let message = "the OCI runtime made no image, and said that it did".to_owned();
                Err(StartFailure { kind: StartFailureKind::Sandbox, message })
            }
            other => other,
        };
        let error = outcome.err().map(|failure| {
            let log = images.and_then(|images| criu_error(&images.as_path().join("dump.log")));
            log.map_or(failure.message.clone(), |said| format!("{}; CRIU says: {said}", failure.message))
        });
        shared.send(&FromAgent::Done { request, error });
    }
}

/// Of CRIU's log, what is read at its end, bytes.
const LOG_TAIL: u64 = 64 * 1024;

/// The first thing that went wrong, of those near the end of CRIU's log: what follows it is only that it gives up.
pub(super) fn criu_error(log: &std::path::Path) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};

    // The directory may be one that others can write to, and this thread must not wait.
    let mut file = hostler_linux::streams::open_plain(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    criu_complaint(&text)
}

/// It cannot raise its own limit of open files without `CAP_SYS_RESOURCE`, says so, and goes on.
const HARMLESS: &str = "RLIMIT_NOFILE for self";

fn criu_complaint(text: &str) -> Option<String> {
    // `(00.051223) Error (criu/net.c:3282): net: what it is`
    let line = text.lines().find(|line| line.contains("Error (") && !line.contains(HARMLESS))?;
    let said = line.split_once("): ").map_or(line, |(_, said)| said);
    Some(said.chars().take(300).collect())
}

fn pid_file(exec: ExecId, shared: &Shared) -> std::path::PathBuf {
    shared.config.sandbox_dir.join(format!("exec-{exec}.pid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criu_complained_of() {
        let log = "(00.0481) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n\
            (00.1700) Running network-unlock scripts\n\
            (00.1752) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option.\n\
            (00.2204) Error (criu/cr-dump.c:1975): Dumping FAILED.\n";
        let said = criu_complaint(log).expect("a complaint");
        assert_eq!(said, "inet: Connected TCP socket, consider using --tcp-established option.");
        assert_eq!(criu_complaint("(00.0481) Dumping finished successfully\n"), None);
    }
}
