//! A program with its streams: the main program of a run, or an exec.
//!
//! Who waits for whom: without an owner the program never waits, and readers lose what falls out of the ring. With one,
//! attached or expected, nothing may fall out that he was not sent, so reading stops when the ring is full of it, and
//! the program waits in `write`.

use std::os::fd::OwnedFd;

use hostler_linux::clock;
use hostler_linux::process::{self, Reaped};
use hostler_linux::spawn::{self, Report};
use hostler_model::exit::{Cause, Exit, ExitStatus};
use hostler_model::limits::{ATTACH_BACKLOG, OWNER_GRACE_MS};
use hostler_model::units::Signal;
use hostler_wire::AttachTarget;

use crate::shared::{Shared, TokenKind};
use crate::streams::{Grant, Input, Output};
use crate::vm::GuestChannelState;

/// What a dead program's pipes may still hold: the largest pipe an ordinary user can make, bytes. Read even when the
/// ring is full of what the owner was not sent.
const FINAL_SLACK: usize = 1024 * 1024;

/// Whether output waits for someone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Output is dropped for those who are slow.
    Nobody,
    /// He will attach, or come back; at the time given (boot clock) we stop waiting for him.
    Expected { until_ms: Option<u64> },
    /// He reads on this channel.
    Attached { channel: u32 },
}

/// When the program was executed, on both clocks, milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    pub(crate) boot_ms: u64,
    pub(crate) wall_ms: u64,
}

impl Started {
    pub(crate) fn now() -> Self {
        Self { boot_ms: clock::boot_ms(), wall_ms: clock::wall_ms() }
    }
}

/// How the process ended and when, on both clocks, milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) reaped: Reaped,
    pub(crate) boot_ms: u64,
    pub(crate) wall_ms: u64,
}

/// A program with its streams.
pub(crate) struct Target {
    pub(crate) key: AttachTarget,
    pub(crate) serial: u32,
    /// Its process; 0 before there is one.
    pub(crate) pid: u32,
    /// Our side of the socket pair, until the program is executed or has failed.
    pub(crate) control: Option<OwnedFd>,
    pub(crate) outputs: [Output; 2],
    /// Which outputs go to the log.
    pub(crate) logged: bool,
    pub(crate) input: Input,
    pub(crate) owner: Owner,
    /// Offsets up to which the owner was sent the outputs.
    pub(crate) owner_next: [u64; 2],
    pub(crate) started: Option<Started>,
    pub(crate) ended: Option<Ended>,
    /// Signals sent on the node's orders, bit n-1 for signal n.
    pub(crate) ordered_signals: u64,
    /// Its outputs are left alone: it does not run yet, and what can be read is not its own.
    pub(crate) held: bool,
    /// It is being started by somebody else, who will say which process it is.
    pub(crate) starting: bool,
    /// An exec's end was reported.
    pub(crate) reported: bool,
    /// Its process is still the one that makes or enters the room, not the one that becomes the program.
    pub(crate) staged: bool,
    /// Where its streams are, if it is in a guest.
    pub(crate) guest_channel: Option<GuestChannelState>,
    /// It ended because its machine did.
    pub(crate) with_machine: bool,
}

impl Target {
    /// Whether it can be signalled: executed or about to be, and not yet reaped.
    pub(crate) fn is_alive(&self) -> bool {
        self.pid != 0 && self.ended.is_none()
    }

    /// Whether it runs, or is on its way to it.
    pub(crate) fn is_live(&self) -> bool {
        self.starting || self.is_alive()
    }

    /// Sends a signal that the node asked for.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.is_alive() {
            self.ordered_signals |= 1 << (signal.number() - 1);
            // Not reaped, so the number is still its own; a zombie takes the signal and ignores it.
            let _ = process::signal(self.pid, signal);
        }
    }

    /// Lets its child execute the program.
    pub(crate) fn go(&self) {
        if let Some(control) = &self.control {
            spawn::send_go(control);
        }
    }

    /// The next thing the child has to say. At its end the socket is closed.
    pub(crate) fn report(&mut self, shared: &Shared) -> Report {
        let Some(control) = &self.control else { return Report::Nothing };
        let report = spawn::read_report(control);
        if matches!(report, Report::Executed | Report::Failed(_)) {
            self.close_control(shared);
        }
        report
    }

    pub(crate) fn close_control(&mut self, shared: &Shared) {
        if let Some(control) = self.control.take() {
            shared.epoll.remove(&control);
        }
    }

    /// Bytes that may be read from an output now.
    pub(crate) fn room(&self, index: usize) -> usize {
        if self.owner == Owner::Nobody {
            return usize::MAX;
        }
        let unsent = self.outputs[index].ring.end() - self.owner_next[index];
        let slack = if self.ended.is_some() { FINAL_SLACK } else { 0 };
        (ATTACH_BACKLOG + slack).saturating_sub(usize::try_from(unsent).unwrap_or(usize::MAX))
    }

    /// From where on the ring must keep an output.
    pub(crate) fn keep_from(&self, index: usize) -> Option<u64> {
        (self.owner != Owner::Nobody).then_some(self.owner_next[index])
    }

    /// Whether a read may bring something now.
    pub(crate) fn wants_read(&self, index: usize) -> bool {
        let output = &self.outputs[index];
        !self.held && output.is_open() && output.readable && self.room(index) > 0
    }

    /// It ended: what its outputs hold can be read to the end.
    pub(crate) fn over(&mut self, ended: Ended) {
        self.ended = Some(ended);
        self.held = false;
        for output in &mut self.outputs {
            // A terminal that never came will not come any more.
            output.expected = false;
            output.readable = output.is_open();
            output.hung_up = true;
        }
    }

    /// Whether no output is open.
    pub(crate) fn is_drained(&self) -> bool {
        self.outputs.iter().all(|output| !output.is_open())
    }

    /// Whether there is nothing more to read now.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.wants_read(0) && !self.wants_read(1)
    }

    /// Output that an expected or attached owner was not sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.owner != Owner::Nobody
            && self.outputs.iter().zip(self.owner_next).any(|(output, next)| output.ring.end() > next)
    }

    pub(crate) fn close_streams(&mut self, shared: &Shared, grants: &mut Vec<Grant>) {
        for output in &mut self.outputs {
            output.close(&shared.epoll);
        }
        self.input.close(&shared.epoll, grants);
    }

    /// His connection broke, or the program ended before he came: he has so much time.
    pub(crate) fn owner_is_away(&mut self, now_ms: u64) {
        match self.owner {
            Owner::Attached { .. } | Owner::Expected { until_ms: None } => {
                self.owner = Owner::Expected { until_ms: Some(now_ms + OWNER_GRACE_MS) };
            }
            _ => {}
        }
    }

    /// The end as it is recorded.
    pub(crate) fn exit(&self, timed_out: bool, oom_kills: u64) -> Option<Exit> {
        let Ended { reaped, boot_ms, wall_ms } = self.ended?;
        // Killed between the go-ahead and our seeing the execve: it started when it ended.
        let started = self.started.unwrap_or(Started { boot_ms, wall_ms });
        let ordered = |signal: Signal| self.ordered_signals & (1 << (signal.number() - 1)) != 0;
        let cause = match reaped.status {
            ExitStatus::Signal(Signal::KILL) if oom_kills > 0 && !timed_out && !ordered(Signal::KILL) => Cause::Oom,
            _ if timed_out => Cause::Timeout,
            _ if self.with_machine => Cause::Machine,
            ExitStatus::Signal(signal) if ordered(signal) => Cause::Killed,
            ExitStatus::Signal(_) => Cause::Signal,
            ExitStatus::Code(0) => Cause::Success,
            ExitStatus::Code(_) => Cause::Error,
        };
        Some(Exit {
            core_dumped: reaped.core_dumped,
            oom_kills,
            duration_ms: boot_ms.saturating_sub(started.boot_ms),
            usage: reaped.usage,
            ..Exit::new(reaped.status, cause, started.wall_ms, wall_ms)
        })
    }

    /// Takes in an event of one of its descriptors.
    pub(crate) fn event(&mut self, kind: TokenKind, event: hostler_linux::epoll::Event) {
        let index = match kind {
            TokenKind::Stdout => 0,
            TokenKind::Stderr => 1,
            TokenKind::Stdin => {
                self.input.writable |= event.writable;
                return;
            }
            _ => return,
        };
        self.outputs[index].readable |= event.readable;
        self.outputs[index].hung_up |= event.hung_up;
        if self.held {
            self.outputs[index].drop_flood();
        }
    }
}
