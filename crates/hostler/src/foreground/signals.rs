//! The signals that a foreground command passes on.

use std::io;

use hostler_model::units::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What this command was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Pass this on.
    Stop(Signal),
    /// The terminal has another size.
    Resize,
}

/// Caught from the moment this is made.
pub(super) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Stream,
    quit: Stream,
    resize: Stream,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Told {
        const HANGUP: u8 = 1;
        const QUIT: u8 = 3;
        let number = tokio::select! {
            _ = self.interrupt.recv() => Signal::INT.number(),
            _ = self.terminate.recv() => Signal::TERM.number(),
            _ = self.hangup.recv() => HANGUP,
            _ = self.quit.recv() => QUIT,
            _ = self.resize.recv() => return Told::Resize,
        };
        Signal::from_number(number).map_or(Told::Resize, Told::Stop)
    }
}
