//! Where every request enters: verify, authorise, normalise. Doors bring requests here; what comes out is for the
//! supervisor, which alone decides.
//!
//! - [`accept`]: from a caller and a spec to a creation, or a precise refusal
//! - `container`: what a container is made of, and who may have one
//! - `vm`: the same of a virtual machine
//! - [`stack`]: the same for the units of a stack
//! - [`caller`]: who asks, and what he may touch
//! - [`users`]: the machine's user database, read from its files
//! - [`program`]: whether the program is there at all
//! - [`pattern`]: regular expressions, bounded
//! - [`isolation`]: from a profile and changes to what is in force
//! - [`network`]: who may make networks
//! - [`launch`]: from an accepted workload to what the agent is told
//!
//! Not here yet: signed reservations, sources and feedback.
#![forbid(unsafe_code)]

pub mod accept;
pub mod caller;
mod container;
pub mod isolation;
pub mod launch;
pub mod network;
pub mod pattern;
pub mod program;
pub mod stack;
pub mod users;
mod vm;

pub use accept::{accept_exec, accept_later, accept_workload, may_enter};
pub use caller::{Caller, Scope};
pub use network::may_change_networks;
pub use pattern::Pattern;
pub use stack::{AcceptedStack, accept_stack};
pub use users::Users;
