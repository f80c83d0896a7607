//! The terminal: its size, raw mode that is always given back, and a spinner for waits that take over a second.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use hostler_model::spec::TtySize;
use rustix::termios::{self, OptionalActions, OutputModes, Termios};
use tokio::time::Instant;

/// A wait is shown once it has taken this long.
const SPINNER_AFTER: Duration = Duration::from_secs(1);
const SPINNER_STEP: Duration = Duration::from_millis(100);
const SPINNER_FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// The size of the first of stdout, stdin and stderr that is a terminal.
pub(crate) fn size() -> Option<TtySize> {
    let sizes = [
        termios::tcgetwinsize(rustix::stdio::stdout()),
        termios::tcgetwinsize(rustix::stdio::stdin()),
        termios::tcgetwinsize(rustix::stdio::stderr()),
    ];
    let size = sizes.into_iter().flatten().find(|size| size.ws_col > 0)?;
    Some(TtySize { columns: size.ws_col, rows: size.ws_row.max(1) })
}

/// The terminal in raw mode; as it was before when this is dropped, after a panic too.
pub(crate) struct RawMode {
    terminal: BorrowedFd<'static>,
    before: Termios,
}

impl RawMode {
    /// That on stdin. `None` when stdin is not a terminal.
    pub(crate) fn enter() -> Option<Self> {
        Self::change(rustix::stdio::stdin(), OptionalActions::Flush, Termios::make_raw)
    }

    /// Only what is written to stdout: the program's own terminal has made its line ends already.
    pub(crate) fn of_output() -> Option<Self> {
        Self::change(rustix::stdio::stdout(), OptionalActions::Now, |raw| raw.output_modes.remove(OutputModes::OPOST))
    }

    fn change(terminal: BorrowedFd<'static>, when: OptionalActions, change: impl FnOnce(&mut Termios)) -> Option<Self> {
        let before = termios::tcgetattr(terminal).ok()?;
        let mut raw = before.clone();
        change(&mut raw);
        termios::tcsetattr(terminal, when, &raw).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        termios::tcsetattr(self.terminal, OptionalActions::Drain, &self.before).ok();
    }
}

/// Says on stderr that something takes its time; only on a terminal.
pub(crate) struct Spinner {
    text: String,
    next: Instant,
    frame: usize,
    enabled: bool,
}

impl Spinner {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), next: Instant::now() + SPINNER_AFTER, frame: 0, enabled: io::stderr().is_terminal() }
    }

    /// Waits for the next step and draws it. May be dropped at any time.
    pub(crate) async fn turn(&mut self) {
        if !self.enabled {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.next).await;
        self.next += SPINNER_STEP;
        write!(io::stderr(), "\r{} {}…\x1b[K", SPINNER_FRAMES[self.frame % SPINNER_FRAMES.len()], self.text).ok();
        self.frame += 1;
    }

    /// Wipes it off; it does not come again.
    pub(crate) fn stop(&mut self) {
        if self.enabled && self.frame > 0 {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
        self.enabled = false;
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for something and shows it when that takes long.
pub(crate) async fn with_spinner<T>(text: impl Into<String>, work: impl Future<Output = T>) -> T {
    let mut spinner = Spinner::new(text);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = spinner.turn() => {}
        }
    }
}
