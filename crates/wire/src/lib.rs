//! Frames between a node and its agents: the codec and the messages, no I/O; and the one file by which an agent speaks
//! when nobody is connected ([`exit_file`]).
//!
//! One connection carries everything. A frame is a 16-byte header and a payload:
//!
//! ```text
//!  0        4     5       6        8          12         16
//!  ├ length ┼ kind┼ stream┼ flags  ┼ channel  ┼ reserved ┤ payload (length bytes)      all little-endian
//! ```
//! - **control** frames (`kind` 1) carry one JSON message: [`ToAgent`] downwards, [`FromAgent`] upwards.
//! - **data** frames (`kind` 2) carry bytes of one channel, preceded by the 8-byte offset of the first of them in
//!   its stream, so that a reader sees what was dropped and can resume. Flag [`FLAG_EOF`] marks the stream's end.
//! - **credit** frames (`kind` 3) grant the sender of a channel's data as many more payload bytes (`u32`). A sender
//!   never has more bytes on the way than it was granted, so control frames never wait behind data.
//!
//! A connection begins with [`ToAgent::Hello`] and [`FromAgent::Hello`]; both name the protocol versions they
//! speak, and the highest common one counts. Every message is answered or is itself a fact; facts that the node
//! must not miss (an exit) are repeated in the next hello until [`ToAgent::Committed`].
//!
//! Between the agent of a sandbox and the one in its guest the same frames travel on a line that may still hold bytes of an
//! earlier connection; how a new one begins there is in [`sync`].
//!
//! Not here: sockets, buffers' owners, retries.
#![forbid(unsafe_code)]

mod codec;
pub mod exit_file;
mod message;
pub mod sync;

pub use codec::{DecodeError, Decoder, FLAG_EOF, Frame, Kind, Stream, encode_control, encode_credit, encode_data};
pub use message::{
    AgentState, AttachTarget, ExecFailure, FromAgent, Hello, PROTOCOL_MAX, PROTOCOL_MIN, RunStats, SignalScope,
    StatsDepth, StreamOffsets, ToAgent, negotiate,
};
