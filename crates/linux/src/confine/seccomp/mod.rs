//! Filters of system calls.
//!
//! - [`profile`]: the default list, as data
//! - [`file`]: profiles of others
//! - [`program`]: from a profile to what the kernel takes
//! - [`numbers`]: system calls by name

pub mod file;
pub mod numbers;
pub mod profile;
pub mod program;

pub use program::{ProfileError, Program, compile};
