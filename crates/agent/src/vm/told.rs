//! What the agent in the guest says, and what becomes of it: the same as if the program were ours. Whoever is root in the guest
//! says whatever they like, so nothing of it is believed that matters on this node: its process numbers are no numbers here,
//! answers count only to questions, nothing is kept that was not granted, words are cut.

use hostler_linux::clock;
use hostler_linux::process::Reaped;
use hostler_model::exit::Exit;
use hostler_model::limits::CHANNEL_CREDIT;
use hostler_model::workload::StartFailure;
use hostler_wire::{AttachTarget, Decoder, Frame, FromAgent, Stream};

use super::{Vm, cut};
use crate::link::Health;
use crate::log::Source;
use crate::run::{Phase, Run};
use crate::shared::Shared;
use crate::target::{Ended, Started, Target};

/// How often the node is told that memory ran out in a guest.
const OOM_TOLD_EVERY_MS: u64 = 1_000;

impl Run {
    /// Whether a read from the guest may bring something.
    pub(crate) fn guest_wants_read(&self) -> bool {
        let line = self.guest.as_ref().and_then(|guest| Some((guest.vm.line.as_ref()?, &guest.vm.outbox)));
        line.is_some_and(|(line, outbox)| line.wants_read(outbox))
    }

    /// Reads once from the guest and takes what it says.
    pub(crate) fn receive_from_guest(&mut self, scratch: &mut Vec<u8>, shared: &mut Shared) {
        let Some(guest) = &mut self.guest else { return };
        let mut health = guest.vm.read(scratch);
        if let Some(line) = guest.vm.line.as_mut().filter(|line| line.has_begun()) {
            let mut decoder = std::mem::take(&mut line.decoder);
            if self.take_frames(&mut decoder, shared) == Health::Dead {
                health = Health::Dead;
            }
            if let Some(line) = self.guest.as_mut().and_then(|guest| guest.vm.line.as_mut()) {
                line.decoder = decoder;
            }
        }
        if health == Health::Dead
            && let Some(guest) = &mut self.guest
        {
            guest.vm.line_broke(shared);
        }
    }

    fn take_frames(&mut self, decoder: &mut Decoder, shared: &mut Shared) -> Health {
        loop {
            if self.guest.as_ref().is_some_and(|guest| guest.vm.has_failed()) {
                return Health::Dead;
            }
            match decoder.next_frame() {
                Ok(None) => return Health::Alive,
                Err(_) => return Health::Dead,
                Ok(Some(Frame::Control(json))) => match Frame::message::<FromAgent>(json) {
                    Ok(message) => self.guest_says(message, shared),
                    Err(_) => return Health::Dead,
                },
                Ok(Some(Frame::Data { channel, stream, offset, eof, bytes })) => {
                    if self.guest_writes(channel, stream, (offset, bytes), eof, shared) == Health::Dead {
                        return Health::Dead;
                    }
                }
                Ok(Some(Frame::Credit { channel, bytes })) => {
                    let inputs = self.targets.iter_mut().filter_map(|target| target.input.guest.as_mut());
                    for input in inputs.filter(|input| input.channel == channel) {
                        input.credit = input.credit.saturating_add(bytes).min(CHANNEL_CREDIT);
                    }
                }
            }
        }
    }

    fn guest_says(&mut self, message: FromAgent, shared: &mut Shared) {
        if let Some((request, error)) = Vm::is_own_request(&message) {
            let news = self.guest.as_mut().and_then(|guest| guest.vm.answered(request, error));
            return self.guest_news(news, shared);
        }
        match message {
            FromAgent::Hello(_) => {
                if let Some(guest) = &mut self.guest {
                    guest.vm.greeted();
                }
            }
            FromAgent::Prepared { .. } => self.main_ready(),
            FromAgent::Started { .. } => {
                if self.phase == Phase::Preparing && self.execute {
                    self.phase = Phase::Starting;
                }
                self.main_executed(shared);
            }
            FromAgent::StartFailed { failure, .. } => {
                if matches!(self.phase, Phase::Preparing | Phase::Prepared | Phase::Starting) {
                    let failure = StartFailure { message: cut(failure.message), ..failure };
                    self.fail(failure, shared);
                }
            }
            FromAgent::Exited { exit, .. } => self.guest_program_ended(&exit),
            FromAgent::Oom { oom_kills, .. } => self.guest_oom(oom_kills, shared),
            message @ (FromAgent::ExecStarted { .. } | FromAgent::ExecFailed(_) | FromAgent::ExecExited { .. }) => {
                self.guest_says_of_exec(message, shared);
            }
            FromAgent::ChannelClosed { channel } => {
                for target in &mut self.targets {
                    if target.guest_channel.as_ref().is_some_and(|open| open.number == channel) {
                        target.close_in_guest();
                    }
                }
            }
            FromAgent::Done { request, error } => {
                if self.has_asked(request) {
                    shared.send(&FromAgent::Done { request, error: error.map(cut) });
                }
            }
            answer @ (FromAgent::Stats { request, .. } | FromAgent::Processes { request, .. }) => {
                if self.has_asked(request) {
                    shared.send(&answer);
                }
            }
            FromAgent::Stuck { .. }
            | FromAgent::Idle
            | FromAgent::Suspended
            | FromAgent::VmmStarted
            | FromAgent::Booted
            | FromAgent::BootFailed { .. } => {}
        }
    }

    fn guest_says_of_exec(&mut self, message: FromAgent, shared: &mut Shared) {
        match message {
            FromAgent::ExecStarted { exec, pid } => {
                // Its number is one of the guest's; here the machine stands for it, and no process that the guest names.
                let machine = self.guest.as_ref().map_or(0, |guest| guest.vm.pid);
                if let Some(target) = self.target_mut(AttachTarget::Exec(exec)).filter(|target| target.starting) {
                    target.starting = false;
                    target.started = Some(Started::now());
                    target.pid = machine;
                    shared.send(&FromAgent::ExecStarted { exec, pid });
                }
            }
            FromAgent::ExecFailed(failed) => {
                let key = AttachTarget::Exec(failed.exec);
                if let Some(index) = self.targets.iter().position(|target| target.key == key) {
                    self.targets[index].starting = false;
                    self.targets[index].close_in_guest();
                    let failure = StartFailure { message: cut(failed.failure.message), ..failed.failure };
                    self.exec_failed(index, failed.exec, failure, shared);
                }
            }
            FromAgent::ExecExited { exec, exit } => {
                let oom_kills = exit.oom_kills;
                if let Some(target) = self.target_mut(AttachTarget::Exec(exec)) {
                    end_in_guest(target, &exit);
                }
                self.oom_kills = self.oom_kills.max(oom_kills);
            }
            _ => {}
        }
    }

    /// The answer to this question is awaited; it comes once.
    fn has_asked(&mut self, request: u64) -> bool {
        self.guest.as_mut().is_some_and(|guest| guest.asked.remove(&request))
    }

    /// Memory ran out in the guest. How often is told with the end; on the way, as often as a kernel kills, and no more.
    fn guest_oom(&mut self, oom_kills: u64, shared: &mut Shared) {
        let now_ms = clock::boot_ms();
        let Some(guest) = &mut self.guest else { return };
        let is_told = guest.oom_told_ms.is_none_or(|at_ms| now_ms >= at_ms + OOM_TOLD_EVERY_MS);
        if oom_kills <= self.oom_kills {
            return;
        }
        self.oom_kills = oom_kills;
        if is_told {
            guest.oom_told_ms = Some(now_ms);
            shared.send(&FromAgent::Oom { run: self.id, oom_kills });
        }
    }

    /// The main program has ended, in a guest that goes on until what it wrote has come.
    fn guest_program_ended(&mut self, exit: &Exit) {
        let now_ms = clock::boot_ms();
        self.oom_kills = self.oom_kills.max(exit.oom_kills);
        // Samples are taken where the program is.
        self.statistics.clone_from(&exit.statistics);
        if let Some(guest) = &mut self.guest {
            guest.kill_ms = None;
        }
        if let Some(main) = self.targets.first_mut().filter(|main| main.ended.is_none()) {
            end_in_guest(main, exit);
        }
        if matches!(self.phase, Phase::Running | Phase::Starting) {
            self.main_ended(now_ms);
        }
    }

    fn guest_writes(
        &mut self,
        channel: u32,
        stream: Stream,
        (offset, bytes): (u64, &[u8]),
        eof: bool,
        shared: &mut Shared,
    ) -> Health {
        let (index, source) = match stream {
            Stream::Stdout => (0, Source::Stdout),
            Stream::Stderr => (1, Source::Stderr),
            Stream::Stdin => return Health::Alive,
        };
        let Self { targets, log, .. } = self;
        let is_its = |target: &&mut Target| target.guest_channel.as_ref().is_some_and(|open| open.number == channel);
        let Some(target) = targets.iter_mut().find(is_its) else { return Health::Alive };
        let (keep_from, logged) = (target.keep_from(index), target.logged);
        if let Some(open) = &mut target.guest_channel {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            // More than it may send would have to be kept somewhere, and there is no end to what it could send.
            let Some(left) = open.granted.checked_sub(length) else { return Health::Dead };
            open.granted = left;
        }
        let output = &mut target.outputs[index];
        if !output.in_guest || offset != output.ring.end() {
            return Health::Alive;
        }
        if logged && !bytes.is_empty() {
            log.write(source, bytes);
        }
        output.ring.push(bytes, keep_from);
        if eof {
            output.in_guest = false;
            output.close(&shared.epoll);
            if logged {
                log.end(source);
            }
        }
        Health::Alive
    }
}

/// It ended as the guest's agent says, by our clocks.
fn end_in_guest(target: &mut Target, exit: &Exit) {
    let reaped = Reaped { pid: target.pid, status: exit.status, core_dumped: exit.core_dumped, usage: exit.usage };
    target.ended = Some(Ended { reaped, boot_ms: clock::boot_ms(), wall_ms: clock::wall_ms() });
    target.starting = false;
}
