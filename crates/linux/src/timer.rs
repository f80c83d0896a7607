//! One timer on the boot clock: absolute deadlines, suspends included, no ticks in between.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer descriptor, readable after its deadline.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// Makes a timer that is not set.
    pub fn new() -> io::Result<Self> {
        Ok(Self(timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?))
    }

    /// Sets the deadline, milliseconds on the boot clock; a past one fires at once.
    pub fn set(&self, at_boot_ms: u64) -> io::Result<()> {
        // Zero would disarm it.
        let at_ms = at_boot_ms.max(1);
        let it_value = Timespec {
            tv_sec: i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(at_ms % 1_000).expect("below a thousand") * 1_000_000,
        };
        let value = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &value)?;
        Ok(())
    }

    /// Takes note of an expiry, so that the next one is a new event.
    pub fn acknowledge(&self) {
        let mut count = [0; 8];
        // Would block when it has not fired after all; nothing else can go wrong.
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
