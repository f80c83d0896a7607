//! Timers as descriptors: absolute deadlines, suspends included, no ticks in between.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

fn create(clock: TimerfdClockId) -> io::Result<OwnedFd> {
    Ok(timerfd_create(clock, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?)
}

/// One expiry at this time; `None` for never.
fn once(at_ms: Option<u64>) -> Itimerspec {
    // Zero would disarm it.
    let at_ms = at_ms.map_or(0, |at_ms| at_ms.max(1));
    let it_value = Timespec {
        tv_sec: i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(at_ms % 1_000).expect("below a thousand") * 1_000_000,
    };
    Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value }
}

/// Takes note of an expiry, so that the next one is a new event. Whether there was one.
fn acknowledge(timer: &OwnedFd) -> bool {
    let mut count = [0; 8];
    // Would block when it has not fired after all, and is cancelled when the clock was set; nothing else can go wrong.
    !matches!(rustix::io::read(timer, &mut count), Err(Errno::AGAIN))
}

/// A timer on the boot clock, readable after its deadline.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// Makes a timer that is not set.
    pub fn new() -> io::Result<Self> {
        create(TimerfdClockId::Boottime).map(Self)
    }

    /// Sets the deadline, milliseconds on the boot clock; a past one fires at once.
    pub fn set(&self, at_boot_ms: u64) -> io::Result<()> {
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once(Some(at_boot_ms)))?;
        Ok(())
    }

    /// It does not fire any more.
    pub fn clear(&self) -> io::Result<()> {
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once(None))?;
        Ok(())
    }

    /// Takes note of an expiry, so that the next one is a new event. Whether there was one.
    pub fn acknowledge(&self) -> bool {
        acknowledge(&self.0)
    }
}

/// Whether the wall clock was set since a timer on it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WallClock {
    /// It went on as clocks do.
    Steady,
    /// Somebody set it: what waits for a date has to look again.
    WasSet,
}

/// A timer on the wall clock, readable after its date, and whenever somebody sets the clock while a date is awaited.
#[derive(Debug)]
pub struct WallTimer(OwnedFd);

impl WallTimer {
    /// Makes a timer that is not set.
    pub fn new() -> io::Result<Self> {
        create(TimerfdClockId::Realtime).map(Self)
    }

    /// Sets the date, milliseconds since the epoch; a past one fires at once.
    pub fn set(&self, at_wall_ms: u64) -> io::Result<WallClock> {
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match timerfd_settime(&self.0, flags, &once(Some(at_wall_ms))) {
            Ok(_) => Ok(WallClock::Steady),
            // The date is set all the same.
            Err(Errno::CANCELED) => Ok(WallClock::WasSet),
            Err(error) => Err(error.into()),
        }
    }

    /// It does not fire any more.
    pub fn clear(&self) -> io::Result<()> {
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once(None))?;
        Ok(())
    }

    /// Takes note of an expiry or of a set clock, so that the next one is a new event. Whether there was either.
    pub fn acknowledge(&self) -> bool {
        acknowledge(&self.0)
    }
}

macro_rules! descriptor {
    ($($timer:ident),*) => {$(
        impl AsFd for $timer {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl AsRawFd for $timer {
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_raw_fd()
            }
        }
    )*};
}

descriptor!(Timer, WallTimer);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use rustix::event::{PollFd, PollFlags, poll};

    fn is_readable(timer: &impl AsFd, wait_ms: i64) -> bool {
        let mut polled = [PollFd::new(timer, PollFlags::IN)];
        let wait = Timespec { tv_sec: wait_ms / 1_000, tv_nsec: wait_ms % 1_000 * 1_000_000 };
        poll(&mut polled, Some(&wait)).expect("poll") == 1
    }

    #[test]
    fn both_clocks_fire_once_at_their_time() {
        let (boot, wall) = (Timer::new().expect("a timer"), WallTimer::new().expect("a timer"));
        assert!(!is_readable(&boot, 0) && !is_readable(&wall, 0), "fired without being set");
        let (boot_ms, wall_ms) = (clock::boot_ms() + 20, clock::wall_ms() + 20);
        boot.set(boot_ms).expect("set");
        wall.set(wall_ms).expect("set");
        assert!(is_readable(&boot, 20_000) && clock::boot_ms() >= boot_ms);
        assert!(is_readable(&wall, 20_000) && clock::wall_ms() >= wall_ms);
        boot.acknowledge();
        wall.acknowledge();
        assert!(!is_readable(&boot, 0) && !is_readable(&wall, 0), "one expiry was told twice");
    }

    /// Sets the clock by so little that nobody else is bothered: a nanosecond.
    fn set_clock() -> io::Result<()> {
        // SAFETY: all zeroes is a valid timex, and the call writes into nothing else.
        let result = unsafe {
            let mut change: libc::timex = std::mem::zeroed();
            change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
            change.time.tv_usec = 1;
            libc::adjtimex(&raw mut change)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    #[test]
    fn a_set_wall_clock_wakes_who_waits_for_a_date() {
        let (boot, wall) = (Timer::new().expect("a timer"), WallTimer::new().expect("a timer"));
        let hour_ms = 3_600_000;
        boot.set(clock::boot_ms() + hour_ms).expect("set");
        assert_eq!(wall.set(clock::wall_ms() + hour_ms).expect("set"), WallClock::Steady);
        if let Err(error) = set_clock() {
            eprintln!("skipped: setting the clock: {error}");
            return;
        }
        assert!(is_readable(&wall, 20_000), "nobody was told");
        assert!(!is_readable(&boot, 0), "the boot clock is set by nobody");
        wall.acknowledge();
        assert!(!is_readable(&wall, 0), "one change was told twice");
        // Set while it is set anew: told then, and the date counts all the same.
        set_clock().expect("once more");
        assert_eq!(wall.set(clock::wall_ms() + 10).expect("set"), WallClock::WasSet);
        assert!(is_readable(&wall, 20_000));
    }

    #[test]
    fn past_times_fire_at_once_and_cleared_ones_never() {
        let (boot, wall) = (Timer::new().expect("a timer"), WallTimer::new().expect("a timer"));
        boot.set(0).expect("set");
        wall.set(0).expect("set");
        assert!(is_readable(&boot, 20_000) && is_readable(&wall, 20_000));
        boot.clear().expect("clear");
        wall.clear().expect("clear");
        assert!(!is_readable(&boot, 0) && !is_readable(&wall, 0));
    }
}
