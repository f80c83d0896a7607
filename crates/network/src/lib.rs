//! Networks of workloads: bridges of the node and CNI networks, and in them *set-ups*, made ahead of need.
//!
//! ```text
//!            make            take              release, its processes gone       proved clean
//!  (none) ───────► idle ─────────────► taken ──────────────────────► cleaning ─────────────────► idle
//!     │ failed, with back-off                                            │ cannot be used again
//!     ▼                                                                  ▼
//!  (none) ◄────────────────────────────────────────────────────────── removing
//! ```
//! A set-up is a network namespace with an interface, its addresses, and its other end in the network. Its addresses are
//! *leased*: written in the lease book before anything is made, crossed out after everything is undone.
//!
//! - `pool`: when one is made, cleaned, removed, and who gets it; pure
//! - `book`: the lease book, durable over a crash of the daemon
//! - `netlink`: links, addresses, routes
//! - `setup`: making, proving and removing one; `bridge`: the same of a network
//! - `rules`: the table of nftables; `tool`: calling `nft` and `tc`
//! - `cni`: networks that CNI plugins make
//! - `dns`: names of workloads, answered at each bridge
//! - `reconcile`: what is there against what should be, after a crash
//!
//! Names on the machine begin with `h<node tag>` and map back to ids: only what is ours is ever touched.
//!
//! Not here: which networks there should be (the supervisor's), and when a run begins or is over (the runtime's).
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "not used yet")]

mod book;
mod bridge;
mod cni;
mod dns;
mod names;
mod netlink;
mod pool;
mod rules;
mod setup;
#[cfg(test)]
mod tests;
mod tool;
