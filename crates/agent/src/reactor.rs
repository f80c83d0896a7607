//! The event loop: descriptors to events, events to the run and the connection, and one timer for all deadlines.
//!
//! Each round takes in events, lets everything progress by one step (one read of each stream, one batch of messages),
//! does what its time has come for, and sends. It waits only when no step can be made, and then without a time-out:
//! an agent whose program is quiet does not wake up.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use hostler_linux::epoll::{Epoll, Event, Interest, Wait};
use hostler_linux::process::{self, Look, Waited};
use hostler_linux::signals::{Caught, Signals};
use hostler_linux::timer::Timer;
use hostler_linux::{clock, guest as machine, net};
use hostler_model::Namespace;
use hostler_model::limits::{AGENT_ORPHAN_IDLE_MS, WARM_ORPHAN_MS};
use hostler_model::rundir::AGENT_SOCKET;
use hostler_wire::FromAgent;

use crate::ending::{Children, Reuse};
use crate::guest::Guest;
use crate::link::{BATCH, Health, Link};
use crate::oci::BUNDLE;
use crate::record::Spare;
use crate::run::{After, Run};
use crate::shared::{Config, Shared, TokenKind, token, untoken};
use crate::vm::Vm;

/// By which way the node comes.
pub(crate) enum Door {
    /// Anybody of the node may connect to our socket.
    Socket(UnixListener),
    /// A line to the host, which is there from the beginning.
    Line,
    /// The host connects to a port of the guest.
    Vsock(OwnedFd),
}

/// The agent.
pub(crate) struct Agent {
    pub(crate) shared: Shared,
    door: Door,
    /// What we know of the guest whose first process we are.
    pub(crate) guest: Option<Box<Guest>>,
    /// A machine that waits for a run.
    pub(crate) warm: Option<Box<Vm>>,
    /// The next word to the host was the last one before the guest is copied.
    pub(crate) suspending: bool,
    signals: Signals,
    timer: Timer,
    /// When the timer fires; it may be earlier than needed, never later.
    armed_ms: Option<u64>,
    pub(crate) link: Option<Link>,
    pub(crate) run: Option<Box<Run>>,
    /// Whom this agent has worked for; it never works for anyone else.
    pub(crate) namespace: Option<Namespace>,
    pub(crate) children: Children,
    /// One buffer for large reads of anything.
    pub(crate) scratch: Vec<u8>,
    /// Since when there is nobody and nothing to do.
    lonely_since_ms: Option<u64>,
    pub(crate) leaving: bool,
    /// It leaves as soon as everything is said.
    pub(crate) quitting: bool,
    /// Sending changed what there is to do: one more step before a wait.
    again: bool,
}

impl Agent {
    /// Takes over the node's first connection if there is one.
    pub(crate) fn new(
        config: Config,
        signals: Signals,
        door: Door,
        first: Option<OwnedFd>,
        guest: Option<Box<Guest>>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let timer = Timer::new()?;
        match &door {
            Door::Socket(listener) => epoll.add(listener, token(TokenKind::Listener, 0), Interest::Read)?,
            Door::Vsock(listener) => epoll.add(listener, token(TokenKind::Listener, 0), Interest::Read)?,
            Door::Line => {}
        }
        epoll.add(&signals, token(TokenKind::Signals, 0), Interest::Read)?;
        epoll.add(&timer, token(TokenKind::Timer, 0), Interest::Read)?;
        let mut shared = Shared::new(config, epoll);
        let mut link = first.map(|socket| Link::new(socket, TokenKind::Link, &mut shared)).transpose()?;
        if let (Door::Line, Some(line)) = (&door, &mut link) {
            line.listen();
        }
        shared.linked = link.is_some();
        Ok(Self {
            shared,
            door,
            guest,
            warm: None,
            suspending: false,
            signals,
            timer,
            armed_ms: None,
            link,
            run: None,
            namespace: None,
            children: Children::None,
            scratch: Vec::new(),
            lonely_since_ms: None,
            leaving: false,
            quitting: false,
            again: false,
        })
    }

    /// Works until there is nothing more to do.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::new();
        // Ahead of need. Where it cannot be made now, the run that needs it says why.
        self.shared.spare = Spare::create(&self.shared.config.sandbox_dir).ok();
        loop {
            self.step();
            if self.leaving {
                break;
            }
            let wait = if self.is_busy() {
                Wait::Poll
            } else {
                if self.shared.hold_until_ms.is_none()
                    && let Some(run) = &mut self.run
                {
                    run.watch_outputs(&mut self.shared);
                }
                self.arm()?;
                self.shed();
                let left = |until_ms: u64| u32::try_from(until_ms.saturating_sub(clock::boot_ms())).unwrap_or(u32::MAX);
                self.shared.hold_until_ms.map_or(Wait::Block, |until_ms| Wait::AtMost(left(until_ms)))
            };
            self.shared.epoll.wait(wait, |event| events.push(event))?;
            for event in events.drain(..) {
                self.event(event);
            }
        }
        self.leave();
        Ok(())
    }

    fn event(&mut self, event: Event) {
        let Some((kind, serial)) = untoken(event.token) else { return };
        match kind {
            TokenKind::Listener => self.accept(),
            TokenKind::Link => {
                if let Some(link) = self.link.as_mut().filter(|link| link.serial == serial) {
                    link.event(event);
                }
            }
            TokenKind::Signals => self.signalled(),
            TokenKind::Timer => {
                self.timer.acknowledge();
                self.armed_ms = None;
            }
            TokenKind::Oom => {
                if let Some(run) = &mut self.run
                    && let Some(watch) = &run.oom_watch
                {
                    // Readable, as epoll says; what it says is in the group's files.
                    let _ = hostler_linux::streams::read(watch, &mut [0; 1024]);
                    run.out_of_memory(clock::boot_ms());
                }
            }
            TokenKind::Control => {
                if let Some(run) = &mut self.run {
                    run.hear(serial, &mut self.shared);
                }
            }
            TokenKind::OciLog | TokenKind::Console | TokenKind::ContainerStart => {
                if let Some(run) = &mut self.run {
                    run.container_event(kind, serial, &mut self.shared);
                }
            }
            TokenKind::GuestLine | TokenKind::GuestConsole | TokenKind::VmmControl => {
                if let Some(run) = &mut self.run {
                    run.guest_event(kind, serial, event, &mut self.shared);
                }
                self.warm_event(kind, serial, event);
            }
            TokenKind::Stdin | TokenKind::Stdout | TokenKind::Stderr => {
                let targets = self.run.iter_mut().flat_map(|run| &mut run.targets);
                for target in targets.filter(|target| target.serial == serial) {
                    target.event(kind, event);
                }
            }
        }
    }

    /// A node that connects again replaces the connection before: it was broken, or is another daemon's mistake.
    fn accept(&mut self) {
        while let Some(socket) = self.next_caller() {
            self.disconnect();
            self.link = Link::new(socket, TokenKind::Link, &mut self.shared).ok();
            if let (Door::Vsock(_), Some(line)) = (&self.door, &mut self.link) {
                line.listen();
            }
            // Before its hello already: an agent whose run has ended would leave under the new daemon's feet.
            self.shared.linked = self.link.is_some();
        }
    }

    fn next_caller(&self) -> Option<OwnedFd> {
        match &self.door {
            Door::Line => None,
            Door::Vsock(listener) => machine::accept(listener).ok(),
            Door::Socket(listener) => loop {
                let (socket, _) = listener.accept().ok()?;
                let own = process::effective_uid();
                if net::peer(&socket).is_ok_and(|peer| peer.uid == own || peer.uid == 0) {
                    return Some(socket.into());
                }
            },
        }
    }

    /// Ends the connection, ours or the peer's doing. A line stays, and the next connection on it begins with a call.
    pub(crate) fn disconnect(&mut self) {
        match (&self.door, &mut self.link) {
            (_, None) => return,
            (Door::Line, Some(line)) => line.listen(),
            (_, Some(_)) => {
                if let Some(link) = self.link.take() {
                    link.close(&self.shared.epoll);
                }
            }
        }
        self.again = true;
        self.suspending = false;
        self.shared.connected = false;
        self.shared.linked = self.link.is_some();
        self.shared.outbox = Vec::new();
        self.shared.hold_until_ms = None;
        if let Some(run) = &mut self.run {
            run.disconnected(clock::boot_ms());
        }
    }

    fn signalled(&mut self) {
        while let Some(caught) = self.signals.next() {
            match caught {
                Caught::Child => self.reap(),
                // A run is ended by the node, never by a stray signal to its parent.
                Caught::Terminate => self.leaving |= self.run.is_none() && !self.shared.is_guest(),
            }
        }
    }

    pub(crate) fn reap(&mut self) {
        loop {
            match process::wait(Look::AtEnded) {
                Ok(Waited::Reaped(reaped)) => {
                    self.warm_reaped(reaped);
                    if let Some(run) = &mut self.run {
                        run.reaped(reaped, &mut self.shared);
                    }
                }
                Ok(Waited::NoneLeft) => return self.children = Children::None,
                Ok(Waited::NoneEnded) | Err(_) => return self.children = Children::Some,
            }
        }
    }

    fn step(&mut self) {
        self.again = false;
        self.receive();
        if let Some(run) = &mut self.run {
            run.receive_from_guest(&mut self.scratch, &mut self.shared);
        }
        self.receive_from_warm();
        if self.children == Children::Some && self.run.as_ref().is_some_and(|run| run.killing.is_some()) {
            // Perhaps a child was thought of that has ended already: nothing would tell of it again.
            self.reap();
        }
        if let Some(run) = &mut self.run {
            run.read_outputs(&mut self.scratch, &self.shared);
            let mut grants = Vec::new();
            for target in &mut run.targets {
                target.input.flush(&self.shared.epoll, &mut grants);
            }
            for (channel, bytes) in grants {
                if let Some(window) = run.channels.get_mut(channel).and_then(|channel| channel.stdin_window.as_mut()) {
                    *window += bytes;
                    self.shared.grant(channel, bytes);
                }
            }
        }
        self.advance();
        // No run took it over at once. Before anybody hears that we are idle, or have another run.
        self.shared.spare = self.shared.spare.take().and_then(Spare::go_home);
        self.flush_guest();
        self.flush();
        self.leaving |= self.quitting && self.is_all_said();
    }

    fn advance(&mut self) {
        let now_ms = clock::boot_ms();
        if let Some(warm) = &mut self.warm {
            warm.advance(&mut self.shared, now_ms);
        }
        if let Some(run) = &mut self.run {
            match run.advance(self.children, &mut self.shared, now_ms) {
                After::Stay => {}
                After::Undone => self.become_idle(),
                After::Over { reuse: Reuse::Known } => self.run = None,
                After::Over { reuse } => {
                    if reuse == Reuse::Yes && self.children == Children::Some {
                        // Perhaps it was never forked, or was reaped by nobody yet.
                        self.reap();
                    }
                    // What is left could not be killed, or was forked by it: it must not meet the next run.
                    let clean = reuse == Reuse::Yes && self.children == Children::None;
                    if clean || self.shared.is_guest() { self.become_idle() } else { self.leaving = true }
                }
                // What runs in a guest ends with it, and it is the host's to end.
                After::Leave => self.leaving = !self.shared.is_guest(),
            }
        }
        if self.run.is_none() && self.link.is_none() && !self.shared.is_guest() {
            let since_ms = *self.lonely_since_ms.get_or_insert(now_ms);
            if now_ms >= since_ms + self.orphan_ms() {
                self.quit();
            }
        } else {
            self.lonely_since_ms = None;
        }
    }

    fn become_idle(&mut self) {
        self.run = None;
        self.shared.send(&FromAgent::Idle);
    }

    fn flush(&mut self) {
        if let Some(until_ms) = self.shared.hold_until_ms {
            if clock::boot_ms() < until_ms {
                return;
            }
            self.shared.hold_until_ms = None;
        }
        let Some(link) = &mut self.link else { return };
        let (run, again) = (&mut self.run, &mut self.again);
        let is_last = self.suspending;
        let health = link.flush(&self.shared.epoll, &mut self.shared.outbox, |out| {
            let Some(run) = run.as_mut().filter(|_| !is_last) else { return false };
            let sent = run.channels.pull(&mut run.targets, out, BATCH);
            if sent {
                *again = true;
                run.progress_ms = clock::boot_ms();
            }
            sent
        });
        if health == Health::Dead || (is_last && link.is_flushed() && self.shared.outbox.is_empty()) {
            self.disconnect();
        }
    }

    fn is_all_said(&self) -> bool {
        self.link.as_ref().is_none_or(|link| link.is_flushed() && self.shared.outbox.is_empty())
    }

    /// The same for the guest of our run, if it has one.
    fn flush_guest(&mut self) {
        if let Some(run) = &mut self.run {
            self.again |= run.flush_guest(&mut self.shared);
        }
        self.again |= self.flush_warm();
    }

    /// Reads once from the node and does what the whole messages in it say.
    fn receive(&mut self) {
        let Some(link) = self.link.as_mut().filter(|link| link.wants_read(&self.shared.outbox)) else { return };
        let serial = link.serial;
        let mut health = link.read(&mut self.scratch);
        if health == Health::Alive {
            let mut decoder = std::mem::take(&mut link.decoder);
            health = self.dispatch(&mut decoder);
            if let Some(link) = self.link.as_mut().filter(|link| link.serial == serial) {
                link.decoder = decoder;
            }
        }
        if health == Health::Dead {
            self.disconnect();
        }
    }

    /// Whether another step brings something without a new event.
    fn is_busy(&self) -> bool {
        let link = self.link.as_ref().is_some_and(|link| link.wants_read(&self.shared.outbox));
        let link = link || self.run.as_ref().is_some_and(|run| run.guest_wants_read());
        let link = link || self.warm.as_ref().is_some_and(|warm| warm.wants_read());
        let targets = self.run.iter().flat_map(|run| &run.targets);
        let over = self.run.as_ref().is_some_and(|run| run.is_container_over());
        self.again || over || link || targets.into_iter().any(|target| !target.is_quiet())
    }

    /// Sets the timer for the next deadline. An earlier setting is left alone: it costs one wake-up, not two calls.
    fn arm(&mut self) -> io::Result<()> {
        let run = self.run.as_ref().and_then(|run| run.next_ms(self.children));
        let lonely = self.lonely_since_ms.map(|since_ms| since_ms + self.orphan_ms());
        let warm = self.warm.as_ref().and_then(|warm| warm.next_ms());
        if let Some(next_ms) = run.into_iter().chain(lonely).chain(warm).min()
            && self.armed_ms.is_none_or(|armed_ms| armed_ms > next_ms)
        {
            self.timer.set(next_ms)?;
            self.armed_ms = Some(next_ms);
        }
        Ok(())
    }

    /// How long it stays without a node.
    fn orphan_ms(&self) -> u64 {
        if self.warm.is_some() { WARM_ORPHAN_MS } else { AGENT_ORPHAN_IDLE_MS }
    }

    /// Leaves, as soon as nothing is left that must be ended before.
    pub(crate) fn quit(&mut self) {
        match &mut self.warm {
            Some(warm) => warm.leave(),
            None => self.leaving = true,
        }
    }

    /// Gives back the memory of a burst before a wait.
    fn shed(&mut self) {
        self.scratch = Vec::new();
        if self.shared.outbox.is_empty() && self.shared.outbox.capacity() > 4096 {
            self.shared.outbox = Vec::new();
        }
        if let Some(link) = &mut self.link {
            link.shed();
        }
        if let Some(run) = &mut self.run {
            run.log.shed();
        }
    }

    /// Takes down what is this agent's own: socket and sandbox directory; the run's group too when nobody else will.
    fn leave(mut self) {
        if let Some(run) = &mut self.run {
            run.remove_group();
        }
        if let Some(guest) = &self.guest {
            guest.settle();
            machine::power_off();
        }
        if let Some(spare) = self.shared.spare.take() {
            spare.remove();
        }
        let _ = std::fs::remove_file(AGENT_SOCKET);
        let _ = std::env::set_current_dir("/");
        let _ = std::fs::remove_dir_all(self.shared.config.sandbox_dir.join(BUNDLE));
        // Fails when the node keeps files there; then it removes both.
        let _ = std::fs::remove_dir(&self.shared.config.sandbox_dir);
    }
}
