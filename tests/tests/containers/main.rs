//! Containers on a whole node, each test once for each OCI runtime of this machine.
//!
//! - `running`: every option of `run`, as a program inside sees it
mod running;
