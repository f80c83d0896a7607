//! Messages of the streaming doors.
//!
//! **WebSocket** (`…/attach`, `…/exec`). Binary messages are stream bytes: one byte for the stream (0 stdin, 1 stdout,
//! 2 stderr), then the data. Text messages are JSON control messages, [`ToServer`] and [`FromServer`]. An exec begins
//! with [`ToServer::Exec`]. An attachment follows the workload through restarts: [`FromServer::Attached`] comes for each run,
//! and offsets begin at 0 with each. The server's last message is [`FromServer::Ended`], after everything of the program's
//! output, or [`FromServer::Problem`]; then it closes. A client that closes first as an owner gives up its streams.
//!
//! **Server-sent events**. `/v1/events`: `id` is the event's id, `event` its type, `data` an [`EventView`].
//! `…/logs`: `id` is a position to resume from (`<segment>:<offset>`), `event` is `line`, `data` a [`LogLine`];
//! `event: lost` with a [`LogLost`] where segments were deleted before they were read. A stream that ended because
//! there will be nothing more says `event: end` with data `{}`.

use hostler_model::event::Event;
use hostler_model::exit::Exit;
use hostler_model::ids::ExecId;
use hostler_model::spec::TtySize;
use hostler_model::workload::RunState;
use hostler_model::{ByteString, RunId};
use serde::{Deserialize, Serialize};

use crate::types::{ExecRequest, LogStream};

/// Number of the stream in binary messages.
pub const STDIN: u8 = 0;
/// Number of the stream in binary messages.
pub const STDOUT: u8 = 1;
/// Number of the stream in binary messages.
pub const STDERR: u8 = 2;

/// Query of `GET …/attach` (WebSocket).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AttachQuery {
    /// Where the reference is looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<hostler_model::Namespace>,
    /// Output waits for this reader; of a foreground run with `remove`, its loss stops the run.
    pub owner: bool,
    /// This client sends stdin.
    pub stdin: bool,
    /// Only what comes from now on, without the backlog.
    pub no_backlog: bool,
    /// Resume: the run that the offsets belong to, from [`FromServer::Attached`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Resume: offset of the next byte wanted on stdout. Both or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_offset: Option<u64>,
    /// Resume: offset of the next byte wanted on stderr.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_offset: Option<u64>,
}

/// Client to server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum ToServer {
    /// First message of an exec.
    Exec {
        /// What to run.
        request: ExecRequest,
    },
    /// The terminal has a new size.
    Resize {
        /// The size.
        size: TtySize,
    },
    /// Stdin is at its end.
    StdinEof,
}

/// Server to client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum FromServer {
    /// The streams are connected to this run.
    Attached {
        /// Which run.
        run: RunId,
        /// It has a terminal.
        tty: bool,
    },
    /// The exec'd program runs.
    ExecStarted {
        /// Its id, for `kill --exec`.
        exec: ExecId,
        /// Its process.
        pid: u32,
    },
    /// Output was dropped for this reader because it was slow.
    Dropped {
        /// Which stream.
        stream: LogStream,
        /// How much, bytes.
        bytes: u64,
    },
    /// The workload is at rest, durably; this is how its last run came out: `ended`, `failed` or `lost`.
    Ended {
        /// Which run.
        run: RunId,
        /// How.
        #[serde(flatten)]
        state: RunState,
    },
    /// The exec'd program ended.
    ExecEnded {
        /// Which.
        exec: ExecId,
        /// How.
        exit: Exit,
    },
    /// It did not work.
    Problem {
        /// The problem document.
        problem: hostler_model::error::ProblemDocument,
    },
}

/// An event with its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventView {
    /// `<journal>-<sequence number>`.
    pub id: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLine {
    /// RFC 3339 with nanoseconds, UTC, as the agent wrote it.
    pub time: String,
    /// From which stream.
    pub stream: LogStream,
    /// The line without its end.
    pub text: ByteString,
    /// The line goes on in the next record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Segments were deleted before this reader had read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLost {
    /// How many segments.
    pub segments: u64,
}
