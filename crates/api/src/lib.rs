//! The HTTP interface as types: what is asked, what is answered, under which path; and the client that asks.
//!
//! - [`types`]: request and response bodies
//! - [`result`]: what became of a workload, with the last of its output
//! - [`stream`]: messages of the WebSocket doors (attach, exec) and of the event streams
//! - [`endpoints`]: every path with its method, in one table that the router and the OpenAPI document are checked against
//! - [`client`]: a client over the unix socket
//! - [`stacks`]: stacks as they are asked for and as they stand
//! - [`stack_file`]: reading stack files, the same for daemon and client
//! - [`networks`]: networks and pools as they stand
//! - [`pools`]: pools of machines, and what is asked of them
//! - [`paths`]: where a node keeps its files, the same for daemon and client
//!
//! Not here: any decision. The daemon's door turns these into requests for `provision::accept`.
#![forbid(unsafe_code)]

pub mod checkpoints;
pub mod client;
pub mod endpoints;
pub mod networks;
pub mod paths;
pub mod pools;
pub mod result;
pub mod stack_file;
pub mod stacks;
pub mod stream;
pub mod types;
pub mod usage;
