//! One epoll instance: descriptors by token. Registrations are edge-triggered: after an event the caller reads or
//! writes until it would block, or remembers that it did not.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

/// Events fetched by one wait.
const EVENTS: usize = 16;

/// What a descriptor is watched for. Hang-up and error always count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, or the other end was closed.
    Read,
    /// Room to write.
    Write,
    /// Both.
    ReadWrite,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The token given with the descriptor.
    pub token: u64,
    /// There may be something to read; also after a hang-up or an error.
    pub readable: bool,
    /// There may be room to write; also after a hang-up or an error.
    pub writable: bool,
    /// The other end is closed.
    pub hung_up: bool,
}

/// How long to wait for the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Only look.
    Poll,
    /// Until there is one.
    Block,
    /// Until there is one, or so many milliseconds have passed.
    AtMost(u32),
}

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

fn flags(interest: Interest) -> EventFlags {
    let wanted = match interest {
        Interest::Read => EventFlags::IN | EventFlags::RDHUP,
        Interest::Write => EventFlags::OUT,
        Interest::ReadWrite => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP,
    };
    wanted | EventFlags::ET
}

impl Epoll {
    /// Makes an instance.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Watches a descriptor.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token), flags(interest))?)
    }

    /// Watches a known descriptor for something else.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(token), flags(interest))?)
    }

    /// Stops watching. Needed before a close when a forked child may still hold a copy of the descriptor.
    pub fn remove(&self, fd: impl AsFd) {
        // Fails only for a descriptor that is not watched, which is what is wanted.
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits, and calls `each` for every event. An interruption by a signal is no event.
    pub fn wait(&self, wait: Wait, mut each: impl FnMut(Event)) -> io::Result<()> {
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let timeout = match wait {
            Wait::Poll => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
            Wait::Block => None,
            Wait::AtMost(ms) => {
                Some(Timespec { tv_sec: i64::from(ms / 1_000), tv_nsec: i64::from(ms % 1_000) * 1_000_000 })
            }
        };
        let (events, _) = match epoll::wait(&self.0, &mut space, timeout.as_ref()) {
            Ok(events) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events {
            let flags = event.flags;
            let over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            each(Event {
                token: event.data.u64(),
                readable: over || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                writable: over || flags.contains(EventFlags::OUT),
                hung_up: over || flags.contains(EventFlags::RDHUP),
            });
        }
        Ok(())
    }
}
