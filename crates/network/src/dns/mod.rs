//! Names of workloads: one small resolver for each network, at the addresses of its bridge.
//!
//! ```text
//!  a question ──► server ──► message (is it one?) ──► zone (what is known) ──► answer
//!                                                        │ an outside name
//!                                                        ▼
//!                                                     upstream ──► the first resolver that answers
//! ```
//! - `message`: reading questions, writing answers, comparing the answers of others with what was asked; pure
//! - `zone`: what one network knows, and what it says to a question; `reverse`: names of addresses; pure
//! - `machine`: the resolvers of the machine, from its `resolv.conf`
//! - `upstream`: asking other resolvers
//! - `server`: tasks and their bounds; `sockets`: what they listen at
//!
//! A name of the network never leaves it: single-label names and reverse names of its ranges are answered here, also when
//! nothing is known of them. What does leave is passed on byte for byte, and so is its answer; nothing is kept of it.
//!
//! Not here: which workload has which names and addresses, and when that changes (whoever calls [`Resolver::set`]).

mod machine;
mod message;
mod reverse;
mod server;
mod sockets;
#[cfg(test)]
mod tests;
mod upstream;
mod zone;

pub(crate) use {
    machine::machine_upstreams,
    server::Resolver,
    zone::{Client, Outside, Zone},
};
