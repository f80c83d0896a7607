//! The decider's alarm clock: one timer on each clock, set to the next thing that is due. Between two of them the daemon
//! sleeps, however many wait, and a suspended or re-set machine is late for none.

use std::io;

use hostler_linux::timer::{Timer, WallClock, WallTimer};
use hostler_supervisor::Wake;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) struct Alarm {
    boot: AsyncFd<Timer>,
    wall: AsyncFd<WallTimer>,
    set: Wake,
    /// The wall clock was set while the alarm was.
    was_set: bool,
}

impl Alarm {
    /// Not set to anything.
    #[expect(deprecated, reason = "its successor is `unsafe`, for types that may change their descriptor; ours cannot")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            boot: AsyncFd::with_interest(Timer::new()?, Interest::READABLE)?,
            wall: AsyncFd::with_interest(WallTimer::new()?, Interest::READABLE)?,
            set: Wake::default(),
            was_set: false,
        })
    }

    /// Sets it to these times instead of those before.
    pub(crate) fn set(&mut self, wake: Wake) -> io::Result<()> {
        if wake.boot_ms != self.set.boot_ms {
            match wake.boot_ms {
                Some(at_ms) => self.boot.get_ref().set(at_ms)?,
                None => self.boot.get_ref().clear()?,
            }
            self.set.boot_ms = wake.boot_ms;
        }
        if wake.wall_ms != self.set.wall_ms {
            match wake.wall_ms {
                Some(at_ms) => self.was_set |= self.wall.get_ref().set(at_ms)? == WallClock::WasSet,
                None => self.wall.get_ref().clear()?,
            }
            self.set.wall_ms = wake.wall_ms;
        }
        Ok(())
    }

    /// Waits until one of them has come, or the wall clock was set. May be cancelled.
    pub(crate) async fn ring(&mut self) {
        if std::mem::take(&mut self.was_set) {
            return;
        }
        loop {
            // A timer that fired and was then set to another time has nothing to tell.
            let rang = tokio::select! {
                Ok(mut ready) = self.boot.readable() => {
                    let rang = ready.get_inner().acknowledge();
                    ready.clear_ready();
                    if rang {
                        self.set.boot_ms = None;
                    }
                    rang
                }
                Ok(mut ready) = self.wall.readable() => {
                    let rang = ready.get_inner().acknowledge();
                    ready.clear_ready();
                    // A date that was cancelled by a set clock is not awaited any more.
                    if rang {
                        self.set.wall_ms = None;
                    }
                    rang
                }
                // The runtime is going down.
                else => std::future::pending().await,
            };
            if rang {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_linux::clock;
    use std::time::Duration;

    /// Nothing may take longer.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// Long enough for an alarm that should not ring to ring.
    const MOMENT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn rings_once_for_each_time_that_it_is_set_to() {
        let mut alarm = Alarm::new().expect("an alarm");
        let far_ms = 3_600_000;
        let boot = || Wake { boot_ms: Some(clock::boot_ms() + 5), wall_ms: Some(clock::wall_ms() + far_ms) };
        let wall = || Wake { boot_ms: Some(clock::boot_ms() + far_ms), wall_ms: Some(clock::wall_ms() + 5) };
        for wake in [boot(), wall(), boot(), Wake { boot_ms: Some(0), wall_ms: Some(0) }] {
            alarm.set(wake).expect("set");
            tokio::time::timeout(PATIENCE, alarm.ring()).await.expect("it rings");
        }
        alarm.set(Wake::default()).expect("set");
        assert!(tokio::time::timeout(MOMENT, alarm.ring()).await.is_err(), "it rings for nothing");
    }
}
