//! The only decider: one pure `step` over everything that can happen.
//!
//! ```text
//!  requests (doors) ─┐                        ┌─ batch: records + events ──► store ── commit ──┐
//!  facts (runtime) ──┼─► State::step(input, ──┼─ early actions (prepare) ──► runtime, at once   │
//!  the clock ────────┘        now) → Outcome  └─ actions, replies, notices ◄── only after ──────┘
//! ```
//! **The commit gate** is kept by the caller: `actions`, `replies` and `notices` of an outcome are carried out after
//! its batch is on disk; `early` ones may overlap the commit, because they execute nothing of the user's.
//!
//! - [`input`]: what can happen, and what comes of it
//! - [`state`]: what is known, with its indexes; loading it back from records
//! - `request`: answers to requests
//! - `fact`: what the runtime reports
//! - `lifecycle`: starting, stopping and ending runs; the only place where a run changes its state
//! - `fires`: what happens when a fire time of a schedule comes; [`schedule`]: when it comes
//! - `hooks`: what is done when something happens to a run, and what comes of it
//! - `adopt`: what is found when a daemon comes up
//! - [`queue`]: whose turn it is
//! - `networks`: which networks there are, and who is in them
//! - `ready`: when a run of a service is ready, and when it is taken for dead
//! - [`stack`]: services and jobs that belong together: the decisions, over replicas that are only named
//! - `stacks`: carries these decisions out, on workloads; `crew`: these workloads; `stack_queues`: the queues they wait in
//! - [`policy`]: restart or rest, and the back-off
//!
//! Not here: processes, files, sockets, clocks, randomness. Everything comes in as an argument.
#![forbid(unsafe_code)]

mod adopt;
mod bulk;
mod crew;
mod exec;
mod fact;
mod fires;
mod hooks;
pub mod input;
mod lifecycle;
mod networks;
mod orders;
pub mod policy;
pub mod queue;
mod ready;
mod request;
pub mod schedule;
pub mod stack;
mod stack_queues;
mod stacks;
pub mod state;

pub use input::{
    Action, ApplyStack, CheckpointOrder, Create, Fact, Found, FoundExec, FoundState, Input, MatchedLine, Notice, Order,
    Outcome, Request, ScheduleOrder, Token, Verb, Waiting,
};
pub use request::{may_be_signalled, refuse_paused};
pub use state::{Records, Settings, State, Wake};
