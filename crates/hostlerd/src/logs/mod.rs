//! Reading the logs that agents write. Files are the only meeting place: an agent appends, readers pull, and neither
//! knows of the other, so a stalled reader holds up nobody.
//!
//! `<logs>/<workload id>/` holds segments, `00000001.log` and up. A full one is closed, the next begun, and the oldest
//! deleted, by the agent. Lines are CRI records; see [`segment`].
//!
//! To follow: [`Watcher::watch`] first, then read [`LogReader::next_batch`] until [`reader::Batch::at_end`], then wait for
//! [`Subscription::changed`], and read again. What is written between two steps is seen by the next read.
//!
//! - [`segment`]: names of segments, records, positions
//! - [`reader`]: a reader that goes forward over the segments, and how it finds the next when some were deleted
//! - [`start`]: where a reader begins: `tail` and `since`
//! - [`last`]: the last lines of one run, for its result
//! - [`follow`]: waiting for more; one inotify instance for the whole daemon
//!
//! Not here: writing, rotating, deleting.

mod follow;
mod last;
mod reader;
mod segment;
mod start;

#[cfg(test)]
mod tests;

pub(crate) use follow::{Subscription, Watcher};
pub(crate) use last::{Begin, Last, Wanted, last};
pub(crate) use reader::{Filter, LogReader};
pub(crate) use segment::Position;
