//! The program's streams as the agent holds them: what was read lately, and what is still to be written.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use hostler_linux::epoll::Epoll;
use hostler_linux::streams::{self, Read, Written};
use hostler_model::limits::{ATTACH_BACKLOG, STDIN_BUFFER};

use crate::vm::input::GuestInput;

/// One read at most, bytes: what a pipe holds.
pub(crate) const READ_SIZE: usize = 64 * 1024;
/// Reads up to this size need no buffer of their own, bytes.
const SMALL_READ: usize = 4 * 1024;

/// The last bytes of a stream, by their offset since its start. Allocated as it fills.
#[derive(Default)]
pub(crate) struct Ring {
    bytes: VecDeque<u8>,
    end: u64,
}

impl Ring {
    /// Offset of the oldest byte still here.
    pub(crate) fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// Offset of the next byte to come.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Appends; keeps what the backlog holds, and everything from `keep_from` on.
    pub(crate) fn push(&mut self, data: &[u8], keep_from: Option<u64>) {
        self.end += data.len() as u64;
        let wanted = keep_from.map_or(0, |from| self.end.saturating_sub(from));
        let most = usize::try_from(wanted).unwrap_or(usize::MAX).max(ATTACH_BACKLOG);
        let data = &data[data.len().saturating_sub(most)..];
        let excess = (self.bytes.len() + data.len()).saturating_sub(most);
        if excess >= self.bytes.len() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..excess);
        }
        let needed = self.bytes.len() + data.len();
        if needed > self.bytes.capacity() {
            // The exact size at the end: doubling past the limit would be paid for by every busy workload.
            let capacity = needed.next_power_of_two().min(most).max(needed);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend(data);
    }

    /// Bytes from `offset` on that lie together; empty at the end. `offset` must not be before the start.
    pub(crate) fn at(&self, offset: u64) -> &[u8] {
        let index = usize::try_from(offset - self.start()).unwrap_or(usize::MAX);
        let (first, second) = self.bytes.as_slices();
        match index.checked_sub(first.len()) {
            None => &first[index..],
            Some(index) => second.get(index..).unwrap_or_default(),
        }
    }
}

/// What a look at an output brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Bytes,
    Nothing,
    End,
}

/// One output of a program: our end of the pipe or terminal, and the ring.
#[derive(Default)]
pub(crate) struct Output {
    /// Open until its end; none from the start where the program writes to a file.
    pub(crate) fd: Option<OwnedFd>,
    /// It is not here yet, and will come.
    pub(crate) expected: bool,
    /// It is in a guest, and comes by another way.
    pub(crate) in_guest: bool,
    /// The event loop hears of it.
    pub(crate) watched: bool,
    /// There may be something to read: edges are remembered here until a read finds nothing.
    pub(crate) readable: bool,
    /// No writer is left: reads go on until the end.
    pub(crate) hung_up: bool,
    pub(crate) ring: Ring,
    bulk: bool,
}

/// Half of a pipe, bytes.
const FLOOD: u64 = 32 * 1024;
/// Of a flood that does not end, what is dropped at one time, in reads.
const FLOOD_READS: usize = 4_096;

impl Output {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd: Some(fd), ..Self::default() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.fd.is_some() || self.expected || self.in_guest
    }

    /// Nobody reads before the program runs, and the OCI runtime that makes it has the same pipe: of what would fill it
    /// and hold that up, nothing is kept.
    pub(crate) fn drop_flood(&self) {
        let Some(fd) = &self.fd else { return };
        let mut buffer = [0; 4_096];
        for _ in 0..FLOOD_READS {
            if streams::waiting(fd) < FLOOD || !matches!(streams::read(fd, &mut buffer), Read::Bytes(_)) {
                return;
            }
        }
    }

    /// Reads once, at most `room` bytes, and shows them to `sink` before they go into the ring.
    pub(crate) fn read(
        &mut self,
        room: usize,
        keep_from: Option<u64>,
        scratch: &mut Vec<u8>,
        sink: impl FnOnce(&[u8]),
    ) -> Got {
        let Some(fd) = &self.fd else {
            self.readable = false;
            return Got::Nothing;
        };
        let mut small = [0; SMALL_READ];
        let buffer = if self.bulk {
            scratch.resize(READ_SIZE, 0);
            &mut scratch[..]
        } else {
            &mut small[..]
        };
        let size = buffer.len().min(room);
        match streams::read(fd, &mut buffer[..size]) {
            Read::Bytes(length) => {
                // A short read emptied it; the next byte, or the end, is a new edge.
                self.readable = length == size || self.hung_up;
                self.bulk = length >= SMALL_READ;
                sink(&buffer[..length]);
                self.ring.push(&buffer[..length], keep_from);
                Got::Bytes
            }
            Read::Empty => {
                self.readable = false;
                Got::Nothing
            }
            Read::End => Got::End,
        }
    }

    /// Stops reading for good.
    pub(crate) fn close(&mut self, epoll: &Epoll) {
        self.expected = false;
        if let Some(fd) = self.fd.take()
            && self.watched
        {
            epoll.remove(&fd);
        }
        self.readable = false;
    }
}

/// The program's stdin: what came for it and was not taken yet. Each channel may have `STDIN_BUFFER` bytes here.
#[derive(Default)]
pub(crate) struct Input {
    /// Open until the end was passed on, or the program closed it.
    pub(crate) fd: Option<OwnedFd>,
    /// Instead of that: the end of it that is in a guest, as long as it is open.
    pub(crate) guest: Option<GuestInput>,
    pub(crate) is_terminal: bool,
    pub(crate) writable: bool,
    pending: VecDeque<u8>,
    /// Whose bytes are pending, in order.
    shares: VecDeque<(u32, usize)>,
    end_wanted: bool,
    last: Option<u8>,
}

/// Bytes that a channel may send on top: channel and count.
pub(crate) type Grant = (u32, u32);

/// The end-of-file character of a terminal that nobody changed: ^D.
const VEOF: u8 = 4;

impl Input {
    /// Of a program that has one, or not.
    pub(crate) fn new(fd: Option<OwnedFd>, is_terminal: bool) -> Self {
        Self { fd, is_terminal, writable: true, ..Self::default() }
    }

    fn is_open(&self) -> bool {
        self.fd.is_some() || self.guest.is_some()
    }

    /// Sends what the guest takes now.
    pub(crate) fn flush_to_guest(&mut self, out: &mut Vec<u8>, grants: &mut Vec<Grant>) {
        let Some(guest) = &mut self.guest else { return };
        let mut sent = 0;
        while !self.pending.is_empty() {
            let (first, _) = self.pending.as_slices();
            let length = guest.send(first, out);
            if length == 0 {
                break;
            }
            self.pending.drain(..length);
            sent += length;
        }
        if self.pending.is_empty() && self.end_wanted {
            guest.end(out);
            self.guest = None;
        }
        self.release(sent, grants);
    }

    /// Takes bytes of a channel. Those that nobody will read are granted again at once.
    pub(crate) fn push(&mut self, channel: u32, bytes: &[u8], grants: &mut Vec<Grant>) {
        if bytes.is_empty() {
            return;
        }
        if !self.is_open() || self.end_wanted {
            return grant(grants, channel, bytes.len());
        }
        self.pending.extend(bytes);
        self.shares.push_back((channel, bytes.len()));
    }

    /// Nothing will follow.
    pub(crate) fn end(&mut self) {
        if !self.is_open() || self.end_wanted {
            return;
        }
        self.end_wanted = true;
        if self.is_terminal && self.guest.is_none() {
            // Within a line the first one only passes the line on.
            let last = self.pending.back().copied().or(self.last);
            self.pending.push_back(VEOF);
            if last.is_some_and(|last| last != b'\n' && last != b'\r') {
                self.pending.push_back(VEOF);
            }
        }
    }

    /// Writes what the program takes now.
    pub(crate) fn flush(&mut self, epoll: &Epoll, grants: &mut Vec<Grant>) {
        while self.writable && !self.pending.is_empty() {
            let Some(fd) = &self.fd else { break };
            let (first, _) = self.pending.as_slices();
            match streams::write(fd, first) {
                Written::Bytes(length) => {
                    self.last = first.get(length.wrapping_sub(1)).copied();
                    self.pending.drain(..length);
                    self.release(length, grants);
                }
                Written::Full => self.writable = false,
                Written::Closed => self.close(epoll, grants),
            }
        }
        if self.pending.is_empty() {
            if self.pending.capacity() > SMALL_READ {
                self.pending = VecDeque::new();
            }
            if self.end_wanted && !self.is_terminal && self.fd.is_some() {
                self.close(epoll, grants);
            }
        }
    }

    fn release(&mut self, mut length: usize, grants: &mut Vec<Grant>) {
        while length > 0 {
            let Some((channel, share)) = self.shares.front_mut() else { break };
            let part = length.min(*share);
            grant(grants, *channel, part);
            *share -= part;
            length -= part;
            if *share == 0 {
                self.shares.pop_front();
            }
        }
    }

    /// Nobody reads any more.
    pub(crate) fn close(&mut self, epoll: &Epoll, grants: &mut Vec<Grant>) {
        if let Some(fd) = self.fd.take() {
            epoll.remove(&fd);
        }
        self.release(usize::MAX, grants);
        self.pending = VecDeque::new();
        self.writable = false;
    }
}

fn grant(grants: &mut Vec<Grant>, channel: u32, bytes: usize) {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    match grants.iter_mut().find(|(known, _)| *known == channel) {
        Some((_, sum)) => *sum = sum.saturating_add(bytes),
        None => grants.push((channel, bytes)),
    }
}

/// What a channel is granted for stdin when it is opened.
pub(crate) const STDIN_WINDOW: u32 = {
    assert!(STDIN_BUFFER <= 1 << 20, "fits into a credit frame");
    STDIN_BUFFER as u32
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_last_bytes() {
        let mut ring = Ring::default();
        let mut all = Vec::new();
        for (step, size) in [1, 100, 60_000, 10_000, 200_000, 3, 65_536, 5].into_iter().enumerate() {
            let data: Vec<u8> = (0..size).map(|index: usize| (index * 7 + step) as u8).collect();
            ring.push(&data, None);
            all.extend_from_slice(&data);
            assert_eq!(ring.end(), all.len() as u64);
            assert_eq!(ring.start(), all.len().saturating_sub(ATTACH_BACKLOG) as u64);
            let mut seen = Vec::new();
            let mut at = ring.start();
            while at < ring.end() {
                let part = ring.at(at);
                seen.extend_from_slice(part);
                at += part.len() as u64;
            }
            assert!(seen == all[usize::try_from(ring.start()).unwrap()..]);
            assert!(ring.at(ring.end()).is_empty());
            assert!(ring.bytes.capacity() <= ATTACH_BACKLOG + 8, "{}", ring.bytes.capacity());
        }
    }

    #[test]
    fn the_ring_keeps_what_is_not_sent() {
        let mut ring = Ring::default();
        ring.push(&[1; 50_000], Some(0));
        ring.push(&[2; 50_000], Some(0));
        assert_eq!(ring.start(), 0);
        ring.push(&[3; 10], Some(90_000));
        assert_eq!(ring.end() - ring.start(), ATTACH_BACKLOG as u64);
    }
}
