//! Values of which only that they are there matters.

use super::*;

pub(crate) fn queue_name(number: u8) -> QueueName {
    format!("q{number}").parse().expect("a name")
}

pub(crate) fn running(paused: bool) -> FoundState {
    FoundState::Running { sandbox: SandboxId::from_bytes([0; 6]), pid: 7, started_at_ms: 9, oom_kills: 0, paused }
}

pub(crate) fn cancelled() -> StartFailure {
    StartFailure { kind: StartFailureKind::Cancelled, message: "undone".to_owned() }
}

pub(crate) fn exit(code: Option<u8>) -> Exit {
    let status = code.map_or(ExitStatus::Signal(Signal::KILL), ExitStatus::Code);
    let cause = match code {
        Some(0) => Cause::Success,
        Some(_) => Cause::Error,
        None => Cause::Killed,
    };
    Exit::new(status, cause, 9, 10)
}

pub(crate) fn exec_launch() -> ExecLaunch {
    let program = Program {
        command: vec!["true".into()],
        env: Vec::new(),
        workdir: "/".into(),
        identity: None,
        rlimits: Vec::new(),
        no_new_privileges: true,
        confinement: None,
    };
    ExecLaunch { program, interactive: false, tty: None }
}
