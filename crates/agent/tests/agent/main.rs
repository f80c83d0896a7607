//! The real agent, driven by a small synchronous node over a socket pair. Every wait is for a frame, with a deadline.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod attach;
mod client;
mod confine;
mod ends;
mod exec;
mod faults;
mod isolate;
mod log;
mod measure;
mod results;
