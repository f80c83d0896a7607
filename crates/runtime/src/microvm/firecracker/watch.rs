//! Firecracker's two FIFOs: its log goes into ours, its metrics are added up.
//!
//! ```text
//!  FIFO ──► pieces ──► lines, bounded ──► log: shown, so many a second; the others are counted
//!                                    └──► metrics: what happened since the line before, added to what was
//!  ends when Firecracker has closed it, or when [`Drains`] is dropped
//! ```
//! What comes in here may have been written by a guest that took its VMM over: nothing of it is trusted.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use hostler_linux::streams;
use hostler_model::limits;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{LOG, METRICS};
use crate::microvm::{VmId, VmmError, VmmMetrics};

/// Bytes read at one time.
const READ: usize = 8 * 1024;
/// Lines of a log are counted over this.
const SECOND: Duration = Duration::from_secs(1);

/// What Firecracker said of itself since it was started, or since we listen. Lines that make no sense are counted only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirecrackerMetrics {
    /// Lines that were added up here.
    pub lines: u64,
    /// Lines that were none of metrics.
    pub bad_lines: u64,
    /// Of all drives.
    pub block: BlockMetrics,
    /// Of all network cards.
    pub net: NetMetrics,
    /// Of the channel.
    pub vsock: VsockMetrics,
    /// Of the logger.
    pub logger: LoggerMetrics,
    /// How long the last calls took, as it measured it.
    pub latencies_us: LatencyMetrics,
}

/// Defines one group of metrics: names are Firecracker's own.
macro_rules! group {
    ($(#[$about:meta])* $name:ident { $($field:ident),+ } $how:ident) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
        #[serde(default)]
        #[allow(missing_docs, reason = "the names are Firecracker's own")]
        pub struct $name { $(pub $field: u64),+ }

        impl $name {
            fn take(&mut self, new: Self) {
                $(self.$field = $how(self.$field, new.$field);)+
            }
        }
    };
}

/// Counters are told as what came since the line before.
fn added(old: u64, new: u64) -> u64 {
    old.saturating_add(new)
}

/// The last value counts; zero is "not yet".
fn replaced(old: u64, new: u64) -> u64 {
    if new == 0 { old } else { new }
}

group! {
    /// Drives.
    BlockMetrics { read_bytes, write_bytes, read_count, write_count, rate_limiter_throttled_events } added
}
group! {
    /// Network cards; `rx` is what the guest receives.
    NetMetrics { rx_bytes_count, tx_bytes_count, rx_rate_limiter_throttled, tx_rate_limiter_throttled } added
}
group! {
    /// The channel.
    VsockMetrics { rx_bytes_count, tx_bytes_count } added
}
group! {
    /// What it could not write, because nobody read.
    LoggerMetrics { missed_log_count, missed_metrics_count } added
}
group! {
    /// Microseconds.
    LatencyMetrics { full_create_snapshot, load_snapshot, pause_vm, resume_vm } replaced
}

/// One line; what else is in it is nobody's business here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    block: BlockMetrics,
    net: NetMetrics,
    vsock: VsockMetrics,
    logger: LoggerMetrics,
    latencies_us: LatencyMetrics,
}

impl FirecrackerMetrics {
    fn add(&mut self, line: &[u8]) {
        // The type sees to it that it is an object.
        match serde_json::from_slice::<Line>(line) {
            Ok(new) if line.first() == Some(&b'{') => {
                self.lines += 1;
                self.block.take(new.block);
                self.net.take(new.net);
                self.vsock.take(new.vsock);
                self.logger.take(new.logger);
                self.latencies_us.take(new.latencies_us);
            }
            _ => self.bad_lines += 1,
        }
    }

    /// In the words that all VMMs share.
    #[must_use]
    pub fn common(&self) -> VmmMetrics {
        let throttled = self.net.rx_rate_limiter_throttled.saturating_add(self.net.tx_rate_limiter_throttled);
        VmmMetrics {
            drives_read_bytes: Some(self.block.read_bytes),
            drives_written_bytes: Some(self.block.write_bytes),
            drives_reads: Some(self.block.read_count),
            drives_writes: Some(self.block.write_count),
            drives_throttled: Some(self.block.rate_limiter_throttled_events),
            nics_received_bytes: Some(self.net.rx_bytes_count),
            nics_sent_bytes: Some(self.net.tx_bytes_count),
            nics_throttled: Some(throttled),
            lines_lost: Some(self.logger.missed_log_count.saturating_add(self.logger.missed_metrics_count)),
        }
    }
}

/// The two tasks that read.
#[derive(Debug)]
pub(in crate::microvm) struct Drains {
    tasks: [JoinHandle<()>; 2],
    metrics: watch::Receiver<FirecrackerMetrics>,
}

impl Drop for Drains {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drains {
    /// Makes the FIFOs in a directory unless they are there, and reads them; before Firecracker opens them, or it would
    /// find nobody. They are given to its user.
    pub(super) fn start(directory: &Path, id: &VmId, owner: Option<(u32, u32)>) -> Result<Self, VmmError> {
        let open = |name: &str| {
            pipe(directory, name, owner).map_err(|error| VmmError::io(format!("make the pipe {name}"), error))
        };
        let (log, numbers) = (open(LOG)?, open(METRICS)?);
        let (sender, metrics) = watch::channel(FirecrackerMetrics::default());
        let shown = Shown::new(id.clone());
        Ok(Self { tasks: [tokio::spawn(drain_log(log, shown)), tokio::spawn(drain_metrics(numbers, sender))], metrics })
    }

    /// The sums so far.
    pub(in crate::microvm) fn latest(&self) -> FirecrackerMetrics {
        self.metrics.borrow().clone()
    }

    /// The sums after the next line; as they were when none comes any more.
    pub(super) async fn next(&self, longest: Duration, than: u64) -> FirecrackerMetrics {
        let mut metrics = self.metrics.clone();
        let _ = tokio::time::timeout(longest, metrics.wait_for(|sums| sums.lines > than)).await;
        self.latest()
    }
}

fn pipe(directory: &Path, name: &str, owner: Option<(u32, u32)>) -> io::Result<Receiver> {
    let pipe = streams::named_pipe(&directory.join(name))?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::fchown(&pipe, Some(uid), Some(gid))?;
    }
    Receiver::from_owned_fd(pipe)
}

async fn drain_log(mut pipe: Receiver, mut shown: Shown) {
    let mut lines = Lines::new(limits::VMM_LOG_LINE_MAX);
    let mut buffer = vec![0; READ];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        lines.push(&buffer[..length], |line, _| _ = shown.line(line, Instant::now()));
    }
    shown.end();
}

async fn drain_metrics(mut pipe: Receiver, sums: watch::Sender<FirecrackerMetrics>) {
    let mut lines = Lines::new(limits::VMM_METRICS_LINE_MAX);
    let mut buffer = vec![0; READ];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        lines.push(&buffer[..length], |line, whole| {
            sums.send_modify(|sums| match whole {
                true => sums.add(line),
                false => sums.bad_lines += 1,
            });
        });
    }
}

/// Puts lines together from pieces; of a long one only the beginning is kept.
struct Lines {
    line: Vec<u8>,
    is_whole: bool,
    longest: usize,
}

impl Lines {
    fn new(longest: usize) -> Self {
        Self { line: Vec::new(), is_whole: true, longest }
    }

    /// Tells each line that is complete now, and whether it is whole.
    fn push(&mut self, mut bytes: &[u8], mut told: impl FnMut(&[u8], bool)) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..at]);
            if !self.line.is_empty() {
                told(&self.line, self.is_whole);
            }
            self.line.clear();
            self.is_whole = true;
            bytes = &bytes[at + 1..];
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.longest - self.line.len();
        self.is_whole &= bytes.len() <= room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// A log on its way into ours.
struct Shown {
    id: VmId,
    since: Instant,
    in_this_second: u32,
    left_out: u64,
}

impl Shown {
    fn new(id: VmId) -> Self {
        Self { id, since: Instant::now(), in_this_second: 0, left_out: 0 }
    }

    /// Whether it was shown.
    fn line(&mut self, line: &[u8], now: Instant) -> bool {
        if now.duration_since(self.since) >= SECOND {
            self.end();
            (self.since, self.in_this_second) = (now, 0);
        }
        if self.in_this_second == limits::VMM_LOG_LINES_PER_S {
            self.left_out += 1;
            return false;
        }
        self.in_this_second += 1;
        let line: String =
            String::from_utf8_lossy(line).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match line.contains("ERROR") || line.contains("WARN") {
            true => tracing::warn!(vm = %self.id, "firecracker: {line}"),
            false => tracing::debug!(vm = %self.id, "firecracker: {line}"),
        }
        true
    }

    fn end(&mut self) {
        if self.left_out > 0 {
            tracing::warn!(vm = %self.id, lines = self.left_out, "firecracker says more than is shown");
            self.left_out = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn counters_add_up_and_nonsense_is_counted() {
        let mut sums = FirecrackerMetrics::default();
        let line = br#"{"utc_timestamp_ms": 1, "block": {"read_bytes": 10, "new_one": {"a": []}}, "net": {"rx_bytes_count": 3},
            "block_root": {"read_bytes": 10}, "latencies_us": {"pause_vm": 7}, "logger": {"missed_log_count": 1}}"#;
        sums.add(line);
        sums.add(line);
        sums.add(br#"{"latencies_us": {"pause_vm": 0}, "block": {"read_bytes": 18446744073709551615}}"#);
        assert_eq!((sums.lines, sums.net.rx_bytes_count, sums.latencies_us.pause_vm), (3, 6, 7));
        assert_eq!(sums.block.read_bytes, u64::MAX, "and no overflow");
        assert_eq!(sums.common().lines_lost, Some(2));
        let good = sums.clone();
        for bad in
            ["", "{", "[]", "7", "null", "{\"block\": {\"read_bytes\": -1}}", "{\"block\": {\"read_bytes\": 1.5}}"]
        {
            sums.add(bad.as_bytes());
        }
        sums.add(&b"[".repeat(100_000));
        sums.add(&[0xff, 0xfe]);
        assert_eq!(sums, FirecrackerMetrics { bad_lines: 9, ..good });
    }

    #[test]
    fn lines_in_any_pieces() {
        let text = b"one\n\ntwo and more\nthree";
        for piece in 1..text.len() {
            let mut lines = Lines::new(8);
            let mut told = Vec::new();
            for piece in text.chunks(piece) {
                lines.push(piece, |line, whole| told.push((String::from_utf8_lossy(line).into_owned(), whole)));
            }
            assert_eq!(told, [("one".to_owned(), true), ("two and ".to_owned(), false)]);
            assert_eq!(lines.line, b"three");
        }
    }

    #[test]
    fn a_flood_is_not_shown() {
        let mut shown = Shown::new("vm".parse().unwrap());
        let now = Instant::now();
        let count = (0..1_000).filter(|_| shown.line(b"\x1b[2J", now)).count();
        assert_eq!((count, shown.left_out), (100, 900));
        assert!(shown.line(b"later", now + SECOND));
        assert_eq!(shown.left_out, 0);
    }

    #[tokio::test]
    async fn pipes_are_drained_until_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let id: VmId = "vm".parse().unwrap();
        let drains = Drains::start(dir.path(), &id, None).unwrap();
        assert!(drains.tasks.iter().all(|task| !task.is_finished()), "nobody has opened them yet");
        let open = |name| std::fs::OpenOptions::new().write(true).open(dir.path().join(name)).unwrap();
        let (mut log, mut numbers) = (open(LOG), open(METRICS));
        writeln!(log, "hello").unwrap();
        writeln!(numbers, "{{\"net\": {{\"tx_bytes_count\": 5}}}}\nnonsense").unwrap();
        let sums = drains.next(Duration::from_secs(10), 0).await;
        assert_eq!(sums.net.tx_bytes_count, 5);
        drop((log, numbers));
        let mut drains = drains;
        for task in &mut drains.tasks {
            tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
        }
        assert_eq!(drains.latest().bad_lines, 1);
        // Whoever comes later finds the pipes.
        drop(Drains::start(dir.path(), &id, None).unwrap());
    }
}
