//! Virtual machines on a whole node: guests that boot for real, each asked as much as one can be asked.
//!
//! - `running`: what a program in a guest sees, its ends, its streams, second programs, terminals
//! - `lifecycle`: stop, kill, pause, restarts, time limits, order of events, numbers
//! - `deaths`: the daemon, the VMM, the agent or the guest's kernel dies; memory runs out
//! - `boots`: kernels that do not boot, guests that never answer, starts that are taken back
//! - `roots`: directories and images as roots, disks, volumes
//! - `pools`: guests that wait for a run, booted or copied, and what becomes of them
//! - `channel`: much data both ways, and who waits for it
//! - `doors`: what is refused, the interface's own form, nodes side by side, many guests one after another

mod boots;
mod channel;
mod deaths;
mod doors;
mod lifecycle;
mod pools;
mod roots;
mod running;
