//! Filters of system calls.
//!
//! - [`profile`]: the default list, as data
//! - [`numbers`]: system calls by name

pub mod numbers;
pub mod profile;
