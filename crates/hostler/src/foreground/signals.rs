//! The signals that a foreground command passes on, and the one that ends it.

use std::io;

use hostler_model::units::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What this command was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Pass this on.
    Stop(Signal),
    /// The terminal is gone, and whoever sat at it.
    Hangup,
    /// The terminal has another size.
    Resize,
}

/// Caught from the moment this is made. What was ignored at the start (nohup, a background job) stays ignored.
pub(super) struct Signals {
    interrupt: Option<Stream>,
    terminate: Option<Stream>,
    hangup: Option<Stream>,
    quit: Option<Stream>,
    resize: Stream,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let catch = |kind: SignalKind| {
            let is_ignored = ignored >> (kind.as_raw_value() - 1) & 1 == 1;
            if is_ignored { Ok(None) } else { signal(kind).map(Some) }
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
            quit: catch(SignalKind::quit())?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Told {
        const QUIT: u8 = 3;
        let number = tokio::select! {
            () = next_of(&mut self.interrupt) => Signal::INT.number(),
            () = next_of(&mut self.terminate) => Signal::TERM.number(),
            () = next_of(&mut self.hangup) => return Told::Hangup,
            () = next_of(&mut self.quit) => QUIT,
            _ = self.resize.recv() => return Told::Resize,
        };
        Signal::from_number(number).map_or(Told::Resize, Told::Stop)
    }
}

async fn next_of(stream: &mut Option<Stream>) {
    match stream {
        Some(stream) => drop(stream.recv().await),
        None => std::future::pending().await,
    }
}

/// The set of ignored signals in the words of `/proc/PID/status`, bit 0 for signal 1.
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        assert_eq!(ignored("Name:\tx\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000001003\n"), 0x1003);
        assert_eq!(ignored("Name:\tx\n"), 0);
    }
}
