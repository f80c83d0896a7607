//! A machine without a run: made ahead of need, waiting, and given to the run that takes it.

use hostler_linux::epoll::Event;
use hostler_linux::process::Reaped;
use hostler_model::guest::{GuestIdentity, VmBoot};
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::{AgentState, Frame, FromAgent, ToAgent};

use super::{News, Stage, Vm, make_directory};
use crate::ending::Children;
use crate::link::Health;
use crate::reactor::Agent;
use crate::shared::TokenKind;
use crate::start::in_sandbox;

impl Vm {
    pub(crate) fn wants_read(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.wants_read(&self.outbox))
    }

    /// Removes its group, which its run would do if it had one.
    fn remove_group(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = group.kill_all();
            let _ = group.remove();
        }
    }
}

impl Agent {
    /// Makes a machine for a run that is still to come.
    pub(crate) fn boot(&mut self, boot: Box<VmBoot>, identity: GuestIdentity) {
        if self.run.is_some() || self.warm.is_some() {
            let message = "the sandbox is taken".to_owned();
            let failure = StartFailure { kind: StartFailureKind::Sandbox, message };
            return self.shared.send(&FromAgent::BootFailed { failure });
        }
        let made = make_directory(&boot).map_err(|error| in_sandbox("make the machine's directory", &error));
        let mut vm = Vm::new(boot, identity);
        self.children = Children::Some;
        let started = made.and_then(|()| vm.start(&mut self.shared));
        self.warm = Some(vm);
        if let Err(failure) = started {
            self.warm_failed(failure);
        }
    }

    /// How it stands as long as it has no run.
    pub(crate) fn stand_without_run(&self) -> AgentState {
        match &self.warm {
            None => AgentState::Idle,
            Some(warm) if warm.stage == Stage::Ready => AgentState::Warm,
            Some(_) => AgentState::Booting,
        }
    }

    pub(crate) fn warm_event(&mut self, kind: TokenKind, serial: u32, event: Event) {
        let news = self.warm.as_mut().and_then(|warm| warm.event(kind, serial, event, &mut self.shared));
        self.warm_news(news);
    }

    pub(crate) fn warm_reaped(&mut self, reaped: Reaped) {
        let Some(warm) = self.warm.as_mut().filter(|warm| warm.pid == reaped.pid) else { return };
        let news = warm.reaped(reaped, &mut self.shared);
        self.warm_news(news);
    }

    fn warm_news(&mut self, news: Option<News>) {
        match news {
            None => {}
            Some(News::Spawned(_)) => self.shared.send(&FromAgent::VmmStarted),
            Some(News::Ready) => self.shared.send(&FromAgent::Booted),
            Some(News::Failed(failure, _)) => self.warm_failed(failure),
            Some(News::Gone(_)) => {
                if let Some(mut warm) = self.warm.take() {
                    warm.remove_group();
                }
                self.leaving = true;
            }
        }
    }

    fn warm_failed(&mut self, failure: StartFailure) {
        self.shared.send(&FromAgent::BootFailed { failure });
        if let Some(mut warm) = self.warm.take() {
            warm.leave();
            warm.remove_group();
        }
        self.quitting = true;
    }

    pub(crate) fn receive_from_warm(&mut self) {
        let Some(warm) = &mut self.warm else { return };
        let mut health = warm.read(&mut self.scratch);
        let Some(line) = warm.line.as_mut().filter(|line| line.has_begun()) else {
            if health == Health::Dead {
                warm.line_broke(&self.shared);
            }
            return;
        };
        let mut decoder = std::mem::take(&mut line.decoder);
        let mut news = None;
        loop {
            let message = match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Control(json))) => Frame::message::<FromAgent>(json).ok(),
                // Without a run there are no channels.
                Ok(Some(_)) | Err(_) => None,
            };
            let Some(message) = message else {
                health = Health::Dead;
                break;
            };
            if let Some((request, error)) = Vm::is_own_request(&message) {
                news = news.or(warm.answered(request, error));
                continue;
            }
            match message {
                FromAgent::Hello(_) => warm.greeted(),
                FromAgent::Suspended => {
                    // Its line begins anew in each copy.
                    warm.hang_up(&self.shared);
                    self.shared.send(&FromAgent::Suspended);
                    break;
                }
                answer @ FromAgent::Stats { .. } => self.shared.send(&answer),
                _ => {}
            }
        }
        if let Some(line) = &mut warm.line {
            line.decoder = decoder;
        }
        if health == Health::Dead {
            warm.line_broke(&self.shared);
        }
        self.warm_news(news);
    }

    pub(crate) fn flush_warm(&mut self) -> bool {
        let Some(warm) = &mut self.warm else { return false };
        let Some(line) = &mut warm.line else { return false };
        if line.flush(&self.shared.epoll, &mut warm.outbox, |_| false) == Health::Dead {
            warm.line_broke(&self.shared);
            return true;
        }
        false
    }

    /// Passes a question on to the guest that waits, if there is one. To one that cannot be talked to nobody answers: that is
    /// how it is found out.
    pub(crate) fn ask_warm(&mut self, question: &ToAgent) -> bool {
        let Some(warm) = &mut self.warm else { return false };
        if warm.stage == Stage::Ready && warm.line.is_some() {
            warm.tell(question);
        }
        true
    }
}
