//! Nothing is lost: the daemon, the agent or both killed at every point, the machine rebooted, the store damaged.
//!
//! - `failpoints`: the daemon dies at each stand-in point of a run's life
//! - `load`: the daemon killed at random moments under load
//! - `kills`: who else can be killed, and what ends while nobody looks
//! - `remains`: what is found on disk and is not what it should be

mod failpoints;
mod kills;
mod load;
mod remains;
