//! What a confined process may see and do.
//!
//! - [`seccomp`]: which system calls it may make

pub mod seccomp;
