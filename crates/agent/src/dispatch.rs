//! Frames from the node, and what each of them does. The one match over all messages.

use hostler_linux::{clock, streams};
use hostler_model::ids::ExecId;
use hostler_model::launch::{CheckpointOptions, ExecLaunch, Launch};
use hostler_model::spec::Limits;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_model::{ByteString, RunId};
use hostler_wire::{
    AttachTarget, Decoder, ExecFailure, Frame, FromAgent, Hello, PROTOCOL_MAX, PROTOCOL_MIN, SignalScope, Stream,
    ToAgent, negotiate,
};

use crate::channels::Attach;
use crate::ending::{Children, Reuse};
use crate::link::Health;
use crate::reactor::Agent;
use crate::run::{Run, Stand, with_source};
use crate::shared::Shared;
use crate::usage::Look;

impl Agent {
    /// Takes every whole frame. A frame that should not be ends the connection, and nothing else.
    pub(crate) fn dispatch(&mut self, decoder: &mut Decoder) -> Health {
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Health::Alive,
                Err(_) => return Health::Dead,
            };
            let greeted = self.link.as_ref().is_some_and(|link| link.greeted);
            let health = match frame {
                Frame::Control(json) => match Frame::message::<ToAgent>(json) {
                    Ok(message @ ToAgent::Hello { .. }) if !greeted => self.message(message),
                    Ok(message) if greeted => self.message(message),
                    _ => Health::Dead,
                },
                _ if !greeted => Health::Dead,
                Frame::Credit { channel, bytes } => {
                    if let Some(run) = &mut self.run {
                        run.channels.credit(channel, bytes);
                    }
                    Health::Alive
                }
                Frame::Data { channel, stream: Stream::Stdin, eof, bytes, .. } => self.stdin(channel, bytes, eof),
                Frame::Data { .. } => Health::Dead,
            };
            if health == Health::Dead {
                return Health::Dead;
            }
        }
    }

    fn message(&mut self, message: ToAgent) -> Health {
        match message {
            ToAgent::Hello { protocol_min, protocol_max, store } => {
                // A guest is nobody's but that of the agent who made it.
                let is_ours = store == self.shared.config.store || self.shared.is_guest();
                if !is_ours || negotiate(protocol_min, protocol_max).is_none() {
                    return Health::Dead;
                }
                self.hello();
            }
            ToAgent::Prepare { launch } => self.prepare(*launch),
            ToAgent::Execute { run } => {
                self.children = Children::Some;
                self.with_run(run, Run::execute);
            }
            ToAgent::Abort { run } => self.with_run(run, Run::abort),
            ToAgent::Signal { signal, scope } => {
                let key = match scope {
                    SignalScope::Main => AttachTarget::Main,
                    SignalScope::Exec(exec) => AttachTarget::Exec(exec),
                };
                if let Some(run) = &mut self.run {
                    run.signal(key, signal);
                }
            }
            ToAgent::Kill { run } => self.with_run(run, Run::kill),
            ToAgent::Update { request, limits } => self.update(request, &limits),
            ToAgent::Pause { request, run } => self.pause(request, run, Stand::Still),
            ToAgent::Resume { request, run } => self.pause(request, run, Stand::Up),
            ToAgent::Checkpoint { request, run, images, options } => {
                self.checkpoint(request, run, &images, options);
            }
            ToAgent::Exec { exec, launch } => self.exec(exec, &launch),
            ToAgent::Attach { channel, target, owner, stdin, from } => {
                return self.attach(&Attach { channel, target, owner, stdin, from });
            }
            ToAgent::Detach { channel } => self.detach(channel),
            ToAgent::Committed { run, reuse, assume_idle } => self.committed(run, Reuse::new(reuse, assume_idle)),
            ToAgent::ExecCommitted { exec } => {
                if let Some(run) = &mut self.run {
                    run.exec_ends.retain(|end| end.exec != exec);
                }
            }
            ToAgent::Quit if self.shared.is_guest() => {}
            ToAgent::Quit => {
                if self.run.as_ref().is_none_or(|run| run.committed.is_some()) {
                    self.quit();
                }
            }
            other => self.question(other),
        }
        Health::Alive
    }

    /// What is asked of a run; of one in a guest, the guest.
    fn question(&mut self, message: ToAgent) {
        match message {
            question @ (ToAgent::SignalProcess { .. } | ToAgent::Stats { .. } | ToAgent::Processes { .. })
                if self.run.as_mut().is_some_and(|run| run.ask_guest(&question)) || self.ask_warm(&question) => {}
            ToAgent::SignalProcess { request, pid, signal } => {
                let sent = self.run.as_mut().map(|run| run.signal_process(pid, signal));
                let error = sent.unwrap_or_else(|| Err("there is no run".to_owned())).err();
                self.shared.send(&FromAgent::Done { request, error });
            }
            question @ ToAgent::Resize { .. } if self.run.as_mut().is_some_and(|run| run.ask_guest(&question)) => {}
            ToAgent::Resize { target, size } => {
                if let Some(target) = self.run.as_mut().and_then(|run| run.target_mut(target))
                    && target.input.is_terminal
                    && let Some(terminal) = &target.outputs[0].fd
                {
                    let _ = streams::resize(terminal, size);
                }
            }
            ToAgent::Stats { request, sample, depth } => {
                let look = if sample { Look::Sample } else { Look::Aside };
                let stats = self.run.as_mut().map(|run| run.stats(look, depth)).unwrap_or_default();
                self.shared.send(&FromAgent::Stats { request, stats });
            }
            ToAgent::Processes { request } => {
                let list = self.run.as_ref().map(|run| run.processes()).unwrap_or_default();
                self.shared.send(&FromAgent::Processes { request, list });
            }
            other => self.machine_message(other),
        }
    }

    /// What is said of machines: to the agent that makes one, and to the one in its guest.
    fn machine_message(&mut self, message: ToAgent) {
        match message {
            ToAgent::Furnish { request, furnish } => {
                let error = match &mut self.guest {
                    Some(guest) => guest.furnish(&furnish).err(),
                    None => Some("this is no guest".to_owned()),
                };
                self.shared.send(&FromAgent::Done { request, error });
            }
            ToAgent::Rebind { request, identity } => {
                let error = match &self.guest {
                    Some(guest) => guest.rebind(&identity).err(),
                    None => Some("this is no guest".to_owned()),
                };
                self.shared.send(&FromAgent::Done { request, error });
            }
            ToAgent::Boot { boot, identity } => self.boot(boot, *identity),
            ToAgent::Suspend => {
                if let Some(warm) = &mut self.warm {
                    warm.suspend();
                }
                if self.shared.is_guest() {
                    self.shared.send(&FromAgent::Suspended);
                    self.suspending = true;
                }
            }
            ToAgent::PowerOff => self.leaving |= self.shared.is_guest(),
            // Everything else has been taken.
            _ => {}
        }
    }

    fn update(&mut self, request: u64, limits: &Limits) {
        let error = match self.run.as_deref_mut().map(|run| (run.id, run)) {
            None => Some("there is no run".to_owned()),
            Some((id, Run { group: None, .. })) => {
                Some(format!("run {id} has no cgroup: it was started without limits"))
            }
            Some((_, run)) => {
                let here = Limits { pids: limits.pids.filter(|_| run.guest.is_none()), ..limits.clone() };
                let error = run.group.as_ref().and_then(|group| group.set_limits(&here).err());
                // Processes are counted where they are, and there it is answered.
                let there = Limits { pids: limits.pids, ..Limits::default() };
                let ask = ToAgent::Update { request, limits: Box::new(there) };
                if error.is_none() && limits.pids.is_some() && run.ask_guest(&ask) {
                    return;
                }
                if error.is_none() && limits.memory_bytes.is_some() {
                    run.watch_for_oom(&self.shared);
                }
                error.map(|error| with_source(&error))
            }
        };
        self.shared.send(&FromAgent::Done { request, error });
    }

    fn exec(&mut self, exec: ExecId, launch: &ExecLaunch) {
        let Some(run) = &mut self.run else {
            let message = "the run is not running".to_owned();
            let failure = StartFailure { kind: StartFailureKind::Sandbox, message };
            return self.shared.send(&FromAgent::ExecFailed(ExecFailure { exec, failure }));
        };
        run.exec(exec, launch, &mut self.shared);
        self.children = Children::Some;
    }

    fn pause(&mut self, request: u64, id: RunId, stand: Stand) {
        let error = match self.run.as_mut().filter(|run| run.id == id) {
            None => Some("there is no such run".to_owned()),
            Some(run) => run.pause(stand).err(),
        };
        self.shared.send(&FromAgent::Done { request, error });
    }

    fn checkpoint(&mut self, request: u64, id: RunId, images: &ByteString, options: CheckpointOptions) {
        let begun = match self.run.as_mut().filter(|run| run.id == id) {
            None => Err("there is no such run".to_owned()),
            Some(run) => run.checkpoint(request, images, options, &mut self.shared),
        };
        self.children = Children::Some;
        if let Err(error) = begun {
            self.shared.send(&FromAgent::Done { request, error: Some(error) });
        }
    }

    fn with_run(&mut self, id: RunId, act: fn(&mut Run, &mut Shared)) {
        if let Some(run) = self.run.as_deref_mut().filter(|run| run.id == id) {
            act(run, &mut self.shared);
        }
    }

    fn hello(&mut self) {
        if let Some(link) = &mut self.link {
            link.greeted = true;
        }
        self.shared.connected = true;
        let run = self.run.as_ref();
        self.shared.send(&FromAgent::Hello(Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            sandbox: self.shared.config.sandbox,
            pid: std::process::id(),
            state: run.map_or_else(|| self.stand_without_run(), |run| run.state()),
            execs: run.map(|run| run.execs()).unwrap_or_default(),
            exec_starts: run.map(|run| run.exec_starts()).unwrap_or_default(),
            exec_ends: run.map(|run| run.exec_ends.clone()).unwrap_or_default(),
        }));
    }

    fn prepare(&mut self, launch: Launch) {
        let run = launch.run;
        let refuse = |message: String| FromAgent::StartFailed {
            run,
            failure: StartFailure { kind: StartFailureKind::Sandbox, message },
        };
        if self.children == Children::Some && self.run.as_ref().is_some_and(|run| run.committed.is_some()) {
            // Perhaps a child was thought of that never was.
            self.reap();
        }
        let mut follows = false;
        match &self.run {
            // Said twice.
            Some(run) if run.id == launch.run => return,
            // Its readers have had their chance; the node has moved on.
            Some(run) if run.committed.is_some() && self.children == Children::None => {
                follows = run.committed == Some(Reuse::Known) && !launch.stdio.owner;
                self.run = None;
            }
            Some(run) => {
                let message = format!("the sandbox still holds run {}", run.id);
                return self.shared.send(&refuse(message));
            }
            None => {}
        }
        if *self.namespace.get_or_insert_with(|| launch.namespace.clone()) != launch.namespace {
            return self.shared.send(&refuse("the sandbox was used for another namespace".to_owned()));
        }
        self.children = Children::Some;
        let wants_warm = launch.vm.as_ref().is_some_and(|vm| vm.boot.is_none());
        let warm = if wants_warm { self.warm.take() } else { None };
        self.run = Some(Box::new(Run::prepare(launch, warm, follows, &mut self.shared)));
    }

    fn committed(&mut self, id: RunId, reuse: Reuse) {
        match &mut self.run {
            Some(run) if run.id == id => run.commit(reuse, clock::boot_ms(), &mut self.shared),
            Some(_) => {}
            // Refused before it became a run.
            None => match reuse {
                Reuse::No => self.leaving = true,
                Reuse::Yes => self.shared.send(&FromAgent::Idle),
                Reuse::Known => {}
            },
        }
    }

    fn attach(&mut self, attach: &Attach) -> Health {
        let Some(run) = self.run.as_deref_mut() else {
            self.shared.send(&FromAgent::ChannelClosed { channel: attach.channel });
            return Health::Alive;
        };
        if run.channels.get_mut(attach.channel).is_some() {
            return Health::Dead;
        }
        match run.targets.iter_mut().find(|target| target.key == attach.target) {
            Some(target) => run.channels.open(attach, target, &mut self.shared),
            None => self.shared.send(&FromAgent::ChannelClosed { channel: attach.channel }),
        }
        Health::Alive
    }

    fn detach(&mut self, channel: u32) {
        let Some(run) = &mut self.run else { return };
        run.channels.close(channel);
        for target in &mut run.targets {
            if target.owner == (crate::target::Owner::Attached { channel }) {
                target.owner = crate::target::Owner::Nobody;
            }
        }
    }

    fn stdin(&mut self, id: u32, bytes: &[u8], eof: bool) -> Health {
        // A channel that is closed already may still have had bytes on the way.
        let Some(run) = self.run.as_deref_mut() else { return Health::Alive };
        let Some(channel) = run.channels.get_mut(id) else { return Health::Alive };
        let Some(window) = &mut channel.stdin_window else { return Health::Dead };
        let Some(rest) = window.checked_sub(u32::try_from(bytes.len()).unwrap_or(u32::MAX)) else {
            return Health::Dead;
        };
        *window = rest;
        let key = channel.target;
        let mut grants = Vec::new();
        if let Some(target) = run.target_mut(key) {
            target.input.push(id, bytes, &mut grants);
            if eof {
                target.input.end();
            }
        }
        for (_, bytes) in grants {
            if let Some(window) = run.channels.get_mut(id).and_then(|channel| channel.stdin_window.as_mut()) {
                *window += bytes;
                self.shared.grant(id, bytes);
            }
        }
        Health::Alive
    }
}
