//! The two clocks. Durations and deadlines are on the boot clock, which runs through suspends and which nobody
//! sets; dates are on the wall clock.

use rustix::time::{ClockId, Timespec, clock_gettime};

fn milliseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000) + nanoseconds / 1_000_000
}

/// Time since boot, suspends included, milliseconds.
#[must_use]
pub fn boot_ms() -> u64 {
    milliseconds(clock_gettime(ClockId::Boottime))
}

/// Wall clock, milliseconds since the Unix epoch.
#[must_use]
pub fn wall_ms() -> u64 {
    milliseconds(clock_gettime(ClockId::Realtime))
}

/// Wall clock since the Unix epoch: seconds, and nanoseconds within the second.
#[must_use]
pub fn wall() -> (u64, u32) {
    let time = clock_gettime(ClockId::Realtime);
    (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Time since boot in the kernel's clock ticks, as `/proc/<pid>/stat` tells when a process started.
#[must_use]
pub fn boot_ticks() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let nanoseconds = u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000)
        + u64::try_from(time.tv_nsec).unwrap_or(0);
    // The kernel rounds down like this; it is 100 a second everywhere but on Alpha.
    nanoseconds / (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}
