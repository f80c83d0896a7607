//! Containers on a whole node, each test once for each OCI runtime of this machine.
//!
//! - `running`: every option of `run`, as a program inside sees it
//! - `bundles`: a `config.json` of its own, and what is asked on top of it
//! - `lifecycle`: order of events, ends, stop, kill, pause, update, out of memory, restarts, queues, hooks
//! - `execs`: second programs, many at once, with held pipes, in containers that end
//! - `deaths`: daemon or agent die at any point, reboots, parts removed by hand
//! - `failing`: an OCI runtime that hangs, fails, floods, dies or lies at each call
//! - `refusals`: what is refused, and how
mod bundles;
mod deaths;
mod execs;
mod failing;
mod lifecycle;
mod refusals;
mod running;
