//! Every verb of the CLI against a real node.
//!
//! - `run`: exit codes, streams, environment, identity, files, names
//! - `policy`: max-time, restart policies, stop signals
//! - `terminal`: `-t`, `-it`, sizes, Ctrl-C, detaching
//! - `lifecycle`: wait, stop, start, restart, kill, rm, update
//! - `exec`: exec and attach
//! - `look`: ps, inspect, logs, events, stats, prefixes, namespaces
//! - `node`: up, down, info, lame-duck, doctor
//! - `odd`: what blocks, what is stopped, what is as long as can be, what is gone

mod exec;
mod lifecycle;
mod look;
mod node;
mod odd;
mod policy;
mod run;
mod terminal;
