//! What every part of the agent needs: who we are, the epoll instance, and the messages on their way to the node.

use std::io::Stdin;
use std::path::PathBuf;

use hostler_linux::cgroup::Parent;
use hostler_linux::epoll::Epoll;
use hostler_linux::spawn::OomScore;
use hostler_model::ids::{SandboxId, StoreId};
use hostler_model::rundir::ProcessId;
use hostler_wire::{FromAgent, encode_control, encode_credit};

use crate::record::Spare;

/// Where an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the node.
    Node,
    /// The first process of a guest.
    Guest,
}

/// The command line, resolved.
pub(crate) struct Config {
    pub(crate) place: Place,
    pub(crate) sandbox: SandboxId,
    pub(crate) store: StoreId,
    pub(crate) sandbox_dir: PathBuf,
    pub(crate) run_root: PathBuf,
    pub(crate) cgroup: Option<Parent>,
    pub(crate) boot_id: String,
    pub(crate) own: ProcessId,
    pub(crate) oom_score: OomScore,
}

/// What a descriptor is, in the low byte of its token; the rest is the serial number of what it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Listener = 0,
    Link = 1,
    Signals = 2,
    Timer = 3,
    Oom = 4,
    Control = 5,
    Stdin = 6,
    Stdout = 7,
    Stderr = 8,
    OciLog = 9,
    Console = 10,
    ContainerStart = 11,
    GuestLine = 12,
    GuestConsole = 13,
    VmmControl = 14,
}

const KINDS: [TokenKind; 15] = [
    TokenKind::Listener,
    TokenKind::Link,
    TokenKind::Signals,
    TokenKind::Timer,
    TokenKind::Oom,
    TokenKind::Control,
    TokenKind::Stdin,
    TokenKind::Stdout,
    TokenKind::Stderr,
    TokenKind::OciLog,
    TokenKind::Console,
    TokenKind::ContainerStart,
    TokenKind::GuestLine,
    TokenKind::GuestConsole,
    TokenKind::VmmControl,
];

/// A descriptor's token for epoll.
pub(crate) fn token(kind: TokenKind, serial: u32) -> u64 {
    u64::from(serial) << 8 | kind as u64
}

/// The other way round; `None` for a token that was never given.
pub(crate) fn untoken(token: u64) -> Option<(TokenKind, u32)> {
    let kind = KINDS.get(usize::try_from(token & 0xff).ok()?)?;
    Some((*kind, u32::try_from(token >> 8).ok()?))
}

/// How long the start of a run waits for its end when the node has runs one after the other for us, milliseconds.
const HOLD_MS: u64 = 3;

/// What every part of the agent needs.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) epoll: Epoll,
    /// Whether there is a connection, its hello still to come or not.
    pub(crate) linked: bool,
    /// Whether there is a node that said hello. Messages to nobody are not kept: the next hello tells the state.
    pub(crate) connected: bool,
    /// A run directory for the next run.
    pub(crate) spare: Option<Spare>,
    /// Whole frames for the node, except data.
    pub(crate) outbox: Vec<u8>,
    /// Until when they may wait for more, boot clock.
    pub(crate) hold_until_ms: Option<u64>,
    /// Our own standard input: `/dev/null`, since the connection was taken from it.
    pub(crate) null: Stdin,
    serial: u32,
}

impl Shared {
    pub(crate) fn new(config: Config, epoll: Epoll) -> Self {
        Self {
            config,
            epoll,
            linked: false,
            connected: false,
            spare: None,
            outbox: Vec::new(),
            hold_until_ms: None,
            null: std::io::stdin(),
            serial: 0,
        }
    }

    /// A number that no earlier event can carry.
    pub(crate) fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    pub(crate) fn is_guest(&self) -> bool {
        self.config.place == Place::Guest
    }

    pub(crate) fn send(&mut self, message: &FromAgent) {
        self.hold_until_ms = None;
        if self.connected {
            encode_control(&mut self.outbox, message);
        }
    }

    /// What was just sent may wait a moment: more is likely to follow, and both then travel together.
    pub(crate) fn hold(&mut self) {
        self.hold_until_ms = Some(hostler_linux::clock::boot_ms() + HOLD_MS);
    }

    pub(crate) fn grant(&mut self, channel: u32, bytes: u32) {
        if self.connected {
            encode_credit(&mut self.outbox, channel, bytes);
        }
    }
}
