//! Filters of system calls.
//!
//! - [`profile`]: the default list, as data
//! - [`layers`]: the same for containers, in two filters
//! - [`file`]: profiles of others
//! - [`program`]: from a profile to what the kernel takes
//! - [`numbers`]: system calls by name

pub mod file;
pub mod layers;
pub mod numbers;
pub mod profile;
pub mod program;

pub use program::{ProfileError, Program, compile};
