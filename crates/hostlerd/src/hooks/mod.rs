//! Carrying hooks out: what the supervisor decided and the store keeps is done here, and told back as facts.
//!
//! ```text
//!  publisher ── news ──► dispatcher ──► a task for each request ──────► Fact::HookDelivered ──► decider
//!  (committed)               │     ├──► a task for each command ──────► Fact::HookDue ────────►
//!                            │     └──► a task for each run's lines ──► Fact::LineMatched, LinesRead
//!                            └── a record that a call is done ends its task
//! ```
//! Nothing here is durable, and nothing needs to be: a daemon that comes up finds the calls whose outcome was not
//! recorded, and the runs whose lines were not searched to their end, and begins again. That is why a request can
//! arrive twice, and why it carries its event's id.
//!
//! - `dispatch`: who gets a task
//! - `lines`: the patterns of one run
//! - `request`: one call over HTTP: attempts, pauses, what is sent
//! - `connect`: one connection
//! - `gates`: how many at one time

mod connect;
mod dispatch;
mod gates;
mod lines;
mod request;

pub(crate) use dispatch::{News, run};
