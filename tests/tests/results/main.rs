//! What is left of a job when it is over, and what goes in: results, output, tags, inline stdin, statistics.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod follow;
mod output;
mod result;
mod statistics;
mod stdin;
